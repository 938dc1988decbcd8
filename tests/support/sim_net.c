/* SPDX-License-Identifier: MIT */
/// The simulated transport. One thread, so nothing here is locked.
#include "sim_net.h"

#include <stdio.h>
#include <stdlib.h>

struct sim_net sim_net;

struct sim_ep {
    const sp_host *host;
    sp_ep_ref *ref;
    const char *name;
    bool listening;
    struct sim_ep *next;
    struct sim_link *waiting;
};

/// What is on its way to one side.
struct sim_flight {
    sp_msg *m;
    int64_t due;
    struct sim_flight *next;
};

struct sim_side {
    sp_pipe_ref *pipe; ///< NULL: closed
    sp_id_pair ids;
    struct sim_flight *head;
    struct sim_flight *tail;
    sp_batch arrived;
    bool choked; ///< its output waits
};

struct sim_link {
    const sp_host *host;
    struct sim_link *next;
    sp_timer_ref *timer; ///< the dialer's endpoint's
    struct sim_side side[2];
    unsigned refs;
    bool closed;
};

struct sim_pipe {
    struct sim_link *link;
    unsigned me;
};

static struct sim_ep *sim_table;

static bool chance(const sp_host *host, unsigned permille)
{
    return permille > 0 && host->random() % 1000 < permille;
}

static int sim_ep_init(void *self, const sp_host *host, sp_ep_ref *ref, const char *url,
                       sp_cause *cause)
{
    struct sim_ep *ep = self;

    (void)cause;
    ep->host = host;
    ep->ref = ref;
    ep->name = url + sizeof("sim://") - 1;
    return SP_OK;
}

static struct sim_ep *sim_find(const char *name)
{
    struct sim_ep *ep = sim_table;

    while (ep != NULL && strcmp(ep->name, name) != 0) {
        ep = ep->next;
    }
    return ep;
}

static int sim_listen(void *self, sp_bound *bound, sp_cause *cause)
{
    struct sim_ep *ep = self;

    (void)bound;
    (void)cause;
    if (sim_find(ep->name) != NULL) {
        return -EADDRINUSE;
    }
    ep->next = sim_table;
    sim_table = ep;
    ep->listening = true;
    return SP_OK;
}

static void sim_link_drop(struct sim_link *link)
{
    if (--link->refs > 0) {
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        for (struct sim_flight *f = link->side[i].head, *next; f != NULL; f = next) {
            next = f->next;
            link->host->msg_release(f->m);
            free(f);
            sim_net.lost++;
        }
        for (sp_msg *m; (m = sp_batch_pop(&link->side[i].arrived)) != NULL;) {
            link->host->msg_release(m);
            sim_net.lost++;
        }
    }
    free(link);
}

static void sim_link_tell(struct sim_link *link, unsigned side, unsigned ready)
{
    if (link->side[side].pipe != NULL) {
        link->host->pipe_ready(link->side[side].pipe, ready);
    }
}

static void sim_link_close(struct sim_link *link)
{
    link->closed = true;
    for (unsigned i = 0; i < 2; i++) {
        sim_link_tell(link, i, SP_READY_IN | SP_READY_OUT | SP_READY_HUP);
    }
}

static void sim_ep_close(void *self)
{
    struct sim_ep *ep = self;

    for (struct sim_ep **at = &sim_table; *at != NULL; at = &(*at)->next) {
        if (*at == ep) {
            *at = ep->next;
            break;
        }
    }
    while (ep->waiting != NULL) {
        struct sim_link *link = ep->waiting;

        ep->waiting = link->next;
        sim_link_close(link);
        sim_link_drop(link);
    }
}

static int sim_dial(void *self, void *state, sp_pipe_ref *ref, sp_cause *cause)
{
    struct sim_ep *ep = self;
    struct sim_pipe *pipe = state;
    struct sim_ep *to = sim_find(ep->name);
    struct sim_link *link;
    struct sim_link **at;

    (void)snprintf(cause->text, sizeof(cause->text), "connect");
    if (to == NULL || chance(ep->host, sim_net.refuse)) {
        return -ECONNREFUSED;
    }
    link = calloc(1, sizeof(*link));
    if (link == NULL || ep->host->ep_timer_new(ep->ref, link, &link->timer) != SP_OK) {
        free(link);
        return SP_ENOMEM;
    }
    link->host = ep->host;
    link->refs = 2;
    link->side[0].pipe = ref;
    pipe->link = link;
    for (at = &to->waiting; *at != NULL; at = &(*at)->next) {
    }
    *at = link;
    ep->host->ep_ready(to->ref);
    return SP_OK;
}

static int sim_accept(void *self, void *state, sp_pipe_ref *ref, sp_cause *cause)
{
    struct sim_ep *ep = self;
    struct sim_pipe *pipe = state;
    struct sim_link *link = ep->waiting;

    (void)cause;
    if (link == NULL) {
        return SP_EAGAIN;
    }
    ep->waiting = link->next;
    pipe->link = link;
    pipe->me = 1;
    link->side[1].pipe = ref;
    return SP_OK;
}

static int sim_handshake(void *self, unsigned ready, sp_handshake *hs)
{
    struct sim_pipe *pipe = self;
    struct sim_link *link = pipe->link;

    uint16_t said = link->side[1 - pipe->me].ids.own;
    bool fits = said != 0 && sp_handshake_choose(hs, said);

    (void)ready;
    if (link->side[pipe->me].ids.own == 0 && (said != 0 || pipe->me == 0 || hs->pair_count <= 1)) {
        link->side[pipe->me].ids = hs->ids;
        sim_link_tell(link, 1 - pipe->me, SP_READY_IN);
    }
    if (link->closed && (said == 0 || fits)) {
        return -ECONNRESET;
    }
    return said == 0 ? SP_EAGAIN : fits ? SP_OK : SP_EPROTO;
}

/// Moves what is due to the receiver, and sets the timer for the rest.
static void sim_deliver(struct sim_link *link)
{
    int64_t now = link->host->now();
    int64_t next = INT64_MAX;

    for (unsigned i = 0; i < 2; i++) {
        struct sim_side *side = &link->side[i];
        bool any = false;

        for (struct sim_flight *f; (f = side->head) != NULL && f->due <= now; any = true) {
            side->head = f->next;
            sp_batch_push(&side->arrived, f->m);
            free(f);
        }
        if (side->head == NULL) {
            side->tail = NULL;
        } else if (side->head->due < next) {
            next = side->head->due;
        }
        if (any) {
            sim_link_tell(link, i, SP_READY_IN);
        }
        if (side->choked) {
            side->choked = false;
            sim_link_tell(link, i, SP_READY_OUT);
        }
    }
    if (next != INT64_MAX) {
        link->host->timer_arm(link->timer, (next - now + 999999) / 1000000);
    }
}

static void sim_on_timer(void *self, void *cookie)
{
    struct sim_link *link = cookie;

    (void)self;
    if (!link->closed) {
        sim_deliver(link);
    }
}

static int sim_harvest(void *self, sp_batch *in, size_t max, unsigned ready)
{
    struct sim_pipe *pipe = self;
    struct sim_side *side = &pipe->link->side[pipe->me];
    size_t n = 0;

    (void)ready;
    for (sp_msg *m; n < max && (m = sp_batch_pop(&side->arrived)) != NULL; n++) {
        sp_batch_push(in, m);
        sim_net.carried++;
    }
    return n == 0 && pipe->link->closed ? SP_ECLOSED : (int)n;
}

static int sim_submit(void *self, sp_batch *out)
{
    struct sim_pipe *pipe = self;
    struct sim_link *link = pipe->link;
    struct sim_side *to = &link->side[1 - pipe->me];
    const sp_host *host = link->host;

    if (!link->closed && out->head != NULL && chance(host, sim_net.cut)) {
        sim_link_close(link);
    }
    if (link->closed) {
        return -EPIPE;
    }
    while (out->head != NULL) {
        struct sim_flight *f;

        if (chance(host, sim_net.choke)) {
            link->side[pipe->me].choked = true;
            host->timer_arm(link->timer, 1);
            return SP_EAGAIN;
        }
        f = calloc(1, sizeof(*f));
        if (f == NULL) {
            return SP_ENOMEM;
        }
        f->m = sp_batch_pop(out);
        sp_msg_header_turn(f->m);
        f->due = host->now() +
                 (int64_t)(sim_net.delay_ms > 0 ? host->random() % sim_net.delay_ms : 0) * 1000000;
        if (to->tail != NULL) {
            f->due = f->due > to->tail->due ? f->due
                                            : to->tail->due; // A connection keeps the order.
            to->tail->next = f;
        } else {
            to->head = f;
        }
        to->tail = f;
    }
    sim_deliver(link);
    return SP_OK;
}

static void sim_pipe_close(void *self)
{
    struct sim_pipe *pipe = self;

    pipe->link->side[pipe->me].pipe = NULL;
    sim_link_close(pipe->link);
    if (pipe->me == 0) {
        pipe->link->host->timer_cancel(pipe->link->timer);
    }
}

static void sim_pipe_fini(void *self)
{
    sim_link_drop(((struct sim_pipe *)self)->link);
}

static const sp_transport_ops sim_ops = {
    .size = sizeof(sp_transport_ops),
    .ep_size = sizeof(struct sim_ep),
    .pipe_size = sizeof(struct sim_pipe),
    .option_size = sizeof(sp_option),
    .url_form = "sim://NAME",
    .ep_init = sim_ep_init,
    .listen = sim_listen,
    .accept = sim_accept,
    .dial = sim_dial,
    .ep_close = sim_ep_close,
    .on_timer = sim_on_timer,
    .handshake = sim_handshake,
    .harvest = sim_harvest,
    .submit = sim_submit,
    .pipe_close = sim_pipe_close,
    .pipe_fini = sim_pipe_fini,
};

static const sp_export sim_exports[] = {{SP_KIND_TRANSPORT, "sim", {.transport = &sim_ops}}};

static const sp_plugin sim_plugin = {
    .size = sizeof(sp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .id = "org.scalability-protocols.test.sim",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "a simulated network",
    .exports = sim_exports,
    .export_count = 1,
    .export_size = sizeof(sp_export),
};

const sp_plugin *sim_net_entry(void)
{
    return &sim_plugin;
}
