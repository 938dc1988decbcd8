/* SPDX-License-Identifier: MIT */
/// The transport with edges. Nothing here has a point in its middle but the raising of an edge,
/// which comes last, and calls of the host: so nothing needs a lock but the table of names.
#include "edge_net.h"

#include "sim_threads.h"

#include <string.h>

#define ROOM_MAX 8 // messages that are on their way to one side, at most

struct edge_ep {
    const sp_host *host;
    sp_ep_ref *ref;
    const char *name;
    struct edge_ep *next;
    struct edge_link *waiting; ///< dialled, not accepted
};

struct edge_side {
    int fd; ///< 0: none yet
    bool closed;
    uint16_t own; ///< what this side is; 0: it has not said so
    sp_batch in;
};

/// Two pipes hold it, or the listener and a pipe.
struct edge_link {
    const sp_host *host;
    struct edge_link *next;
    struct edge_side side[2];
    unsigned refs;
    bool closed;
};

struct edge_pipe {
    struct edge_link *link;
    unsigned me;
};

static struct edge_ep *edge_table;
static size_t edge_room; // of this run
static pthread_mutex_t edge_lock = PTHREAD_MUTEX_INITIALIZER;

#define LOCK() (void)sp__sim_lock(&edge_lock, __FILE__, __LINE__)
#define UNLOCK() (void)sp__sim_unlock(&edge_lock, __FILE__, __LINE__)

static void edge_tell(const struct edge_link *link, unsigned side, unsigned ready)
{
    if (link->side[side].fd != 0) {
        sim_fd_raise(link->side[side].fd, ready);
    }
}

static void edge_close(struct edge_link *link, unsigned side)
{
    bool was = link->closed;

    link->side[side].closed = true;
    link->closed = true;
    if (!was) {
        edge_tell(link, side, SP_READY_IN | SP_READY_OUT | SP_READY_HUP);
        edge_tell(link, 1 - side, SP_READY_IN | SP_READY_OUT | SP_READY_HUP);
    }
}

static void edge_drop(struct edge_link *link)
{
    if (--link->refs > 0) {
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        for (sp_msg *m; (m = sp_batch_pop(&link->side[i].in)) != NULL;) {
            sim_ordered_after(link);
            link->host->msg_release(m);
        }
        if (link->side[i].fd != 0) {
            sim_fd_free(link->side[i].fd);
        }
    }
    sim_free(link);
}

/* ------------------------------------------------------------------ Endpoints */

static int edge_ep_init(void *self, const sp_host *host, sp_ep_ref *ref, const char *url,
                        sp_cause *cause)
{
    struct edge_ep *ep = self;

    (void)cause;
    ep->host = host;
    ep->ref = ref;
    ep->name = url;
    return SP_OK;
}

static struct edge_ep *edge_find(const char *name)
{
    struct edge_ep *ep = edge_table;

    while (ep != NULL && strcmp(ep->name, name) != 0) {
        ep = ep->next;
    }
    return ep;
}

static int edge_listen(void *self, sp_bound *bound, sp_cause *cause)
{
    struct edge_ep *ep = self;
    int rc = -EADDRINUSE;

    (void)bound;
    (void)cause;
    if (edge_room == 0) {
        edge_room = 1 + sim_pick(1 + sim_pick(ROOM_MAX));
    }
    LOCK();
    if (edge_find(ep->name) == NULL) {
        ep->next = edge_table;
        edge_table = ep;
        rc = SP_OK;
    }
    UNLOCK();
    return rc;
}

static void edge_ep_close(void *self)
{
    struct edge_ep *ep = self;

    LOCK();
    for (struct edge_ep **at = &edge_table; *at != NULL; at = &(*at)->next) {
        if (*at == ep) {
            *at = ep->next;
            break;
        }
    }
    UNLOCK();
    while (ep->waiting != NULL) {
        struct edge_link *link = ep->waiting;

        ep->waiting = link->next;
        edge_close(link, 1);
        edge_drop(link);
    }
}

static int edge_watch(struct edge_link *link, unsigned me, struct edge_pipe *pipe, sp_pipe_ref *ref)
{
    link->side[me].fd = sim_fd_new();
    pipe->link = link;
    pipe->me = me;
    return link->host->pipe_watch(ref, link->side[me].fd);
}

/// Queues a connection at whoever listens. False: nobody does.
static bool edge_call(const struct edge_ep *ep, struct edge_link *link)
{
    struct edge_ep *to;
    struct edge_link **at;

    LOCK();
    to = edge_find(ep->name);
    if (to != NULL) {
        for (at = &to->waiting; *at != NULL; at = &(*at)->next) {
        }
        *at = link;
        ep->host->ep_ready(to->ref);
    }
    UNLOCK();
    return to != NULL;
}

static int edge_dial(void *self, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    struct edge_ep *ep = self;
    struct edge_link *link = sim_calloc(1, sizeof(*link));

    (void)cause;
    link->host = ep->host;
    link->refs = 2;
    if (!edge_call(ep, link)) {
        sim_free(link);
        return -ECONNREFUSED;
    }
    // What was told before there is an fd is seen by the handshake, which looks first.
    return edge_watch(link, 0, pipe, ref);
}

static int edge_accept(void *self, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    struct edge_ep *ep = self;
    struct edge_link *link;

    (void)cause;
    LOCK();
    link = ep->waiting;
    if (link != NULL) {
        ep->waiting = link->next;
    }
    UNLOCK();
    if (link == NULL) {
        return SP_EAGAIN;
    }
    return edge_watch(link, 1, pipe, ref);
}

/* ------------------------------------------------------------------ Pipes */

static int edge_handshake(void *self, unsigned ready, sp_handshake *hs)
{
    struct edge_pipe *pipe = self;
    struct edge_link *link = pipe->link;
    struct edge_side *mine = &link->side[pipe->me];

    uint16_t said = link->side[1 - pipe->me].own;
    bool fits = said != 0 && sp_handshake_choose(hs, said);

    (void)ready;
    if (mine->own == 0 && (said != 0 || pipe->me == 0 || hs->pair_count <= 1)) {
        mine->own = hs->ids.own;
        edge_tell(link, 1 - pipe->me, SP_READY_IN | SP_READY_OUT);
    }
    if (said == 0) {
        return link->closed ? -ECONNRESET : SP_EAGAIN;
    }
    return fits ? SP_OK : SP_EPROTO;
}

/// Reads some of what is there, as a read with a small buffer does.
static int edge_harvest(void *self, sp_batch *in, size_t max, unsigned ready)
{
    struct edge_pipe *pipe = self;
    struct edge_link *link = pipe->link;
    struct edge_side *side = &link->side[pipe->me];
    size_t n = 0;

    (void)ready;
    sim_ordered_after(link);
    for (sp_msg *m; n < max && (m = sp_batch_pop(&side->in)) != NULL; n++) {
        sp_batch_push(in, m);
    }
    if (n == 0 && link->closed) {
        return SP_ECLOSED;
    }
    if (side->in.n == 0 && !link->closed) {
        sim_fd_lower(side->fd, SP_READY_IN);
    }
    if (n > 0) {
        edge_tell(link, 1 - pipe->me, SP_READY_OUT);
    }
    return (int)n;
}

static int edge_submit(void *self, sp_batch *out)
{
    struct edge_pipe *pipe = self;
    struct edge_link *link = pipe->link;
    struct edge_side *to = &link->side[1 - pipe->me];
    bool any = false;

    if (link->closed) {
        return -EPIPE;
    }
    for (sp_msg *m; to->in.n < edge_room && (m = sp_batch_pop(out)) != NULL; any = true) {
        sp_msg_header_turn(m);
        sp_batch_push(&to->in, m);
    }
    if (out->head != NULL) {
        sim_fd_lower(link->side[pipe->me].fd, SP_READY_OUT);
    }
    if (any) {
        bool more = out->head != NULL;

        sim_ordered_before(link);
        edge_tell(link, 1 - pipe->me, SP_READY_IN);
        return more ? SP_EAGAIN : SP_OK;
    }
    return out->head != NULL ? SP_EAGAIN : SP_OK;
}

static void edge_pipe_close(void *self)
{
    struct edge_pipe *pipe = self;

    edge_close(pipe->link, pipe->me);
}

static void edge_pipe_fini(void *self)
{
    edge_drop(((struct edge_pipe *)self)->link);
}

static const sp_transport_ops edge_ops = {
    .size = sizeof(sp_transport_ops),
    .ep_size = sizeof(struct edge_ep),
    .pipe_size = sizeof(struct edge_pipe),
    .option_size = sizeof(sp_option),
    .url_form = "edgefd://NAME",
    .ep_init = edge_ep_init,
    .listen = edge_listen,
    .accept = edge_accept,
    .dial = edge_dial,
    .ep_close = edge_ep_close,
    .handshake = edge_handshake,
    .harvest = edge_harvest,
    .submit = edge_submit,
    .pipe_close = edge_pipe_close,
    .pipe_fini = edge_pipe_fini,
};

static const sp_export edge_exports[] = {{SP_KIND_TRANSPORT, "edgefd", {.transport = &edge_ops}}};

static const sp_plugin edge_plugin = {
    .size = sizeof(sp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .id = "org.scalability-protocols.test.edge",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "between sockets of one process, with simulated file descriptors",
    .exports = edge_exports,
    .export_count = 1,
    .export_size = sizeof(sp_export),
};

const sp_plugin *edge_net_entry(void)
{
    return &edge_plugin;
}
