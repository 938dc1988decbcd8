/* SPDX-License-Identifier: MIT */
/// inproc: between sockets of one process. A connection is a link with two sides; a message is
/// handed over as it is, by its pointer, to the other side's socket.
///
/// Concurrency: the table of names is under one lock (cold: listen, dial, accept, close), the two
/// pipes of a link under the link's: a pipe is there from its join until its pipe_close, so whoever
/// says ready does it under that lock (which only posts). Messages are passed without it: from its
/// handshake until its pipe_close a pipe holds a reference of the other one. What comes when that
/// is closed already, its socket discards. How much may be under way is the receiving pipe's
/// credit.
#include <sp/plugin.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_PREFIX (sizeof("inproc://") - 1)

struct inproc_ep {
    const sp_host *host;
    sp_ep_ref *ref;
    const char *name;
    bool listening;
    struct inproc_ep *next;      ///< in the table
    struct inproc_link *waiting; ///< dialled, not accepted; oldest first
};

struct inproc_side {
    sp_pipe_ref *pipe; ///< NULL: not there yet, or closed; under the link's lock
    sp_id_pair ids;    ///< what this side is and wants, own 0: not known yet; under the link's lock
};

/// Both sides' pipes hold a reference.
struct inproc_link {
    const sp_host *host;
    pthread_mutex_t lock;
    atomic_uint refs;
    atomic_bool closed;
    struct inproc_link *next;   ///< among those that wait
    struct inproc_side side[2]; ///< 0: the dialer's
    char name[112];
};

struct inproc_pipe {
    struct inproc_link *link;
    unsigned me;
    /// The other side's, held; NULL: not there yet, or closed. Written under the link's lock; read
    /// by submit, which comes behind the handshake and in front of pipe_close.
    sp_pipe_ref *peer;
};

static pthread_mutex_t inproc_lock = PTHREAD_MUTEX_INITIALIZER;
static struct inproc_ep *inproc_table;

/* ------------------------------------------------------------------ Endpoints */

static int inproc_ep_init(void *self, const sp_host *host, sp_ep_ref *ref, const char *url,
                          sp_cause *cause)
{
    struct inproc_ep *ep = self;

    ep->host = host;
    ep->ref = ref;
    ep->name = url + NAME_PREFIX;
    if (ep->name[0] == '\0' || strlen(ep->name) >= sizeof(((struct inproc_link *)0)->name)) {
        (void)snprintf(cause->text, sizeof(cause->text), "the name must have 1 to %zu bytes",
                       sizeof(((struct inproc_link *)0)->name) - 1);
        return SP_EINVAL;
    }
    return SP_OK;
}

/// The listener of a name; under the lock.
static struct inproc_ep *inproc_find(const char *name)
{
    struct inproc_ep *ep = inproc_table;

    while (ep != NULL && strcmp(ep->name, name) != 0) {
        ep = ep->next;
    }
    return ep;
}

static int inproc_listen(void *self, sp_bound *bound, sp_cause *cause)
{
    struct inproc_ep *ep = self;
    int rc = SP_OK;

    (void)pthread_mutex_lock(&inproc_lock);
    if (inproc_find(ep->name) != NULL) {
        (void)snprintf(cause->text, sizeof(cause->text), "bind");
        rc = -EADDRINUSE;
    } else {
        ep->next = inproc_table;
        inproc_table = ep;
        ep->listening = true;
    }
    (void)pthread_mutex_unlock(&inproc_lock);
    (void)snprintf(bound->local, sizeof(bound->local), "%s", ep->name);
    return rc;
}

static void link_drop(struct inproc_link *link);

/// Tells one side, if it is there.
static void link_ready(struct inproc_link *link, unsigned side, unsigned ready)
{
    (void)pthread_mutex_lock(&link->lock);
    if (link->side[side].pipe != NULL) {
        link->host->pipe_ready(link->side[side].pipe, ready);
    }
    (void)pthread_mutex_unlock(&link->lock);
}

/// One side closes: it hears no more, the other one hears of it.
static void link_close(struct inproc_link *link, unsigned side)
{
    (void)pthread_mutex_lock(&link->lock);
    // Release: pairs with the loads in harvest and handshake.
    atomic_store_explicit(&link->closed, true, memory_order_release);
    link->side[side].pipe = NULL;
    (void)pthread_mutex_unlock(&link->lock);
    link_ready(link, 1 - side, SP_READY_IN | SP_READY_OUT | SP_READY_HUP);
}

static void inproc_ep_close(void *self)
{
    struct inproc_ep *ep = self;
    struct inproc_link *waiting;

    (void)pthread_mutex_lock(&inproc_lock);
    for (struct inproc_ep **at = &inproc_table; *at != NULL; at = &(*at)->next) {
        if (*at == ep) {
            *at = ep->next;
            break;
        }
    }
    ep->listening = false;
    waiting = ep->waiting;
    ep->waiting = NULL;
    (void)pthread_mutex_unlock(&inproc_lock);
    while (waiting != NULL) {
        struct inproc_link *next = waiting->next;

        link_close(waiting, 1);
        link_drop(waiting);
        waiting = next;
    }
}

/* ------------------------------------------------------------------ Links */

static void link_drop(struct inproc_link *link)
{
    // acq_rel: the last one sees what both sides did.
    if (atomic_fetch_sub_explicit(&link->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    (void)pthread_mutex_destroy(&link->lock);
    free(link);
}

static struct inproc_link *link_new(const struct inproc_ep *ep)
{
    struct inproc_link *link = calloc(1, sizeof(*link));

    if (link == NULL || pthread_mutex_init(&link->lock, NULL) != 0) {
        free(link);
        return NULL;
    }
    link->host = ep->host;
    atomic_init(&link->refs, 1);
    (void)snprintf(link->name, sizeof(link->name), "%s", ep->name);
    return link;
}

/// Ties a pipe to its side of a link, with a reference that the caller has.
static void link_join(struct inproc_link *link, unsigned me, struct inproc_pipe *pipe,
                      sp_pipe_ref *ref)
{
    pipe->link = link;
    pipe->me = me;
    pipe->peer = NULL;
    (void)pthread_mutex_lock(&link->lock);
    link->side[me].pipe = ref;
    (void)pthread_mutex_unlock(&link->lock);
}

static int inproc_dial(void *self, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    struct inproc_ep *ep = self;
    struct inproc_link *link = link_new(ep);
    struct inproc_link **at;
    struct inproc_ep *to;

    (void)snprintf(cause->text, sizeof(cause->text), "connect");
    if (link == NULL) {
        return SP_ENOMEM;
    }
    (void)pthread_mutex_lock(&inproc_lock);
    to = inproc_find(ep->name);
    if (to != NULL) {
        link_join(link, 0, pipe, ref);
        atomic_store_explicit(&link->refs, 2, memory_order_relaxed); // And the listener's queue.
        for (at = &to->waiting; *at != NULL; at = &(*at)->next) {
        }
        *at = link;
        ep->host->ep_ready(to->ref); // In the table, so not closed.
    }
    (void)pthread_mutex_unlock(&inproc_lock);
    if (to == NULL) {
        link_drop(link);
        return -ECONNREFUSED;
    }
    return SP_OK;
}

static int inproc_accept(void *self, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    struct inproc_ep *ep = self;
    struct inproc_link *link;

    (void)cause;
    (void)pthread_mutex_lock(&inproc_lock);
    link = ep->waiting;
    if (link != NULL) {
        ep->waiting = link->next;
        link_join(link, 1, pipe, ref);
    }
    (void)pthread_mutex_unlock(&inproc_lock);
    return link != NULL ? SP_OK : SP_EAGAIN;
}

/* ------------------------------------------------------------------ Pipes */

/// This side says what it is. A listener with several pairs chooses when it knows what the other
/// side said. True: only now. Under the link's lock.
static bool inproc_say(const struct inproc_pipe *pipe, struct inproc_side *mine, uint16_t said,
                       sp_handshake *hs)
{
    bool first = mine->ids.own == 0;

    if (said != 0) {
        (void)sp_handshake_choose(hs, said);
    } else if (pipe->me == 1 && hs->pair_count > 1) {
        return false;
    }
    mine->ids = hs->ids;
    return first;
}

/// Each side says what it is; who comes second wakes the first.
static int inproc_handshake(void *self, unsigned ready, sp_handshake *hs)
{
    struct inproc_pipe *pipe = self;
    struct inproc_link *link = pipe->link;
    struct inproc_side *mine = &link->side[pipe->me];
    struct inproc_side *other = &link->side[1 - pipe->me];
    bool first;
    sp_id_pair ids;

    (void)ready;
    (void)pthread_mutex_lock(&link->lock);
    ids = other->ids;
    first = inproc_say(pipe, mine, ids.own, hs);
    if (ids.own != 0 && mine->pipe != NULL && other->pipe != NULL) {
        pipe->peer = other->pipe;
        link->host->pipe_hold(pipe->peer);
    }
    (void)pthread_mutex_unlock(&link->lock);
    if (first) {
        link_ready(link, 1 - pipe->me, SP_READY_IN | SP_READY_OUT);
    }
    // Acquire: pairs with the release in link_close.
    if (atomic_load_explicit(&link->closed, memory_order_acquire) && ids.own == 0) {
        (void)snprintf(hs->cause.text, sizeof(hs->cause.text), "connect");
        return -ECONNREFUSED;
    }
    if (ids.own == 0) {
        return SP_EAGAIN;
    }
    hs->peer = ids.own;
    (void)snprintf(hs->local, sizeof(hs->local), "%s", link->name);
    (void)snprintf(hs->remote, sizeof(hs->remote), "%s", link->name);
    if (ids.own != hs->ids.peer) {
        (void)snprintf(hs->cause.text, sizeof(hs->cause.text),
                       "hello: peer speaks protocol 0x%x, not 0x%x", ids.own, hs->ids.peer);
        return SP_EPROTO;
    }
    return SP_OK;
}

/// Messages do not come this way. Called when there is credit again: the other side may go on.
static int inproc_harvest(void *self, sp_batch *in, size_t max, unsigned ready)
{
    struct inproc_pipe *pipe = self;

    (void)in;
    (void)max;
    (void)ready;
    // Acquire: pairs with the release in link_close; what was passed before is posted.
    if (atomic_load_explicit(&pipe->link->closed, memory_order_acquire)) {
        return SP_ECLOSED;
    }
    link_ready(pipe->link, 1 - pipe->me, SP_READY_OUT);
    return 0;
}

static int inproc_submit(void *self, sp_batch *out)
{
    struct inproc_pipe *pipe = self;

    // Acquire: pairs with the release in link_close.
    if (atomic_load_explicit(&pipe->link->closed, memory_order_acquire) || pipe->peer == NULL) {
        return SP_ECLOSED;
    }
    return pipe->link->host->pipe_pass(pipe->peer, out);
}

static void inproc_pipe_close(void *self)
{
    struct inproc_pipe *pipe = self;
    sp_batch last = {NULL, NULL, 0};
    sp_pipe_ref *peer;

    link_close(pipe->link, pipe->me);
    // A handshake under way, of the input actor, finds this side gone.
    (void)pthread_mutex_lock(&pipe->link->lock);
    peer = pipe->peer;
    pipe->peer = NULL;
    (void)pthread_mutex_unlock(&pipe->link->lock);
    if (peer != NULL) {
        (void)pipe->link->host->pipe_pass(peer,
                                          &last); // Not dropped: messages may be on their way.
    }
}

static void inproc_pipe_fini(void *self)
{
    struct inproc_pipe *pipe = self;

    link_drop(pipe->link);
}

static const sp_transport_ops inproc_ops = {
    .size = sizeof(sp_transport_ops),
    .ep_size = sizeof(struct inproc_ep),
    .pipe_size = sizeof(struct inproc_pipe),
    .option_size = sizeof(sp_option),
    .url_form = "inproc://NAME",
    .ep_init = inproc_ep_init,
    .listen = inproc_listen,
    .accept = inproc_accept,
    .dial = inproc_dial,
    .ep_close = inproc_ep_close,
    .handshake = inproc_handshake,
    .harvest = inproc_harvest,
    .submit = inproc_submit,
    .pipe_close = inproc_pipe_close,
    .pipe_fini = inproc_pipe_fini,
    .flags = SP_TRANSPORT_PASSES,
};

static const sp_export inproc_exports[] = {
    {SP_KIND_TRANSPORT, "inproc", {.transport = &inproc_ops}}};

static const sp_plugin inproc_plugin = {
    .size = sizeof(sp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.scalability-protocols.sp.inproc",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "inproc: between sockets of one process, by pointer",
    .exports = inproc_exports,
    .export_count = 1,
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &inproc_plugin;
}
