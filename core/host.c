/* SPDX-License-Identifier: MIT */
/// The host table: what plugins may call, as thin functions over the core. Thread classes as in
/// <sp/plugin.h>.
#include "host.h"

#include "log.h"
#include "msg.h"
#include "pipe.h"
#include "platform.h"
#include "sched.h"
#include "socket.h"

static struct sp__pipe *host_pipe(sp_pipe_ref *ref)
{
    return SP__CONTAINER(ref, struct sp__pipe, ref);
}

static struct sp__sock *host_sock(sp_sock_ref *ref)
{
    return SP__CONTAINER(ref, struct sp__sock, ref);
}

static struct sp__ep *host_ep(sp_ep_ref *ref)
{
    return SP__CONTAINER(ref, struct sp__ep, ref);
}

/* ------------------------------------------------------------------ Protocols */

static int host_deliver(sp_ctx_ref *ctx, sp_msg *m)
{
    return sp__ctx_deliver(SP__CONTAINER(ctx, struct sp__ctx, ref), m);
}

static void host_deliver_latest(sp_ctx_ref *ctx, sp_msg *m)
{
    sp__ctx_deliver_latest(SP__CONTAINER(ctx, struct sp__ctx, ref), m);
}

static bool host_ctx_hold(sp_ctx_ref *ctx)
{
    return sp__ctx_hold(SP__CONTAINER(ctx, struct sp__ctx, ref));
}

static size_t host_ctx_room(sp_ctx_ref *ctx)
{
    return sp__ctx_room(SP__CONTAINER(ctx, struct sp__ctx, ref));
}

static void host_fail(sp_ctx_ref *ctx, int err)
{
    sp__ctx_fail(SP__CONTAINER(ctx, struct sp__ctx, ref), err);
}

static int host_pipe_send(sp_pipe_ref *pipe, sp_msg *m)
{
    return sp__pipe_send(host_pipe(pipe), m);
}

static int host_pipe_send_copy(sp_pipe_ref *pipe, sp_msg *m)
{
    struct sp__pipe *p = host_pipe(pipe);
    int rc = sp__pipe_send(p, m);

    if (rc == SP_OK) {
        sp__count(&p->sock->copies, 1);
    }
    return rc;
}

static sp_overflow host_overflow(const sp_sock_ref *sock)
{
    const struct sp__sock *s = (const struct sp__sock *)(const void *)((const char *)sock -
                                                                       offsetof(struct sp__sock,
                                                                                ref));

    return (sp_overflow)sp__option(&s->opt.overflow);
}

static void host_pipe_offer(sp_pipe_ref *pipe, sp_msg *m)
{
    sp__pipe_send_or_drop(host_pipe(pipe), m);
}

static void host_pipe_offer_copy(sp_pipe_ref *pipe, sp_msg *m)
{
    sp__pipe_copy_or_drop(host_pipe(pipe), m);
}

static sp_msg *host_receive_copy(sp_sock_ref *sock, sp_msg *m)
{
    sp_msg *copy = sp__msg_clone(m);

    if (copy != NULL) {
        sp__count(&host_sock(sock)->received, 1);
        sp__count(&host_sock(sock)->rx_copies, 1);
    }
    return copy;
}

static size_t host_pipe_room(const sp_pipe_ref *pipe)
{
    const struct sp__pipe *p = (const struct sp__pipe *)(const void *)((const char *)pipe -
                                                                       offsetof(struct sp__pipe,
                                                                                ref));

    return sp__pipe_usable(p) && p->inflight < p->cap ? (size_t)(p->cap - p->inflight) : 0;
}

static void host_pipe_resume(sp_pipe_ref *pipe)
{
    host_pipe(pipe)->sock->rx_again = true;
}

static void host_pipe_close(sp_pipe_ref *pipe, int err)
{
    sp__pipe_shut(host_pipe(pipe), err);
}

static sp_pipe_ref *host_pipe_find(sp_sock_ref *sock, uint32_t id)
{
    struct sp__pipe *p = sp__sock_find(host_sock(sock), id);

    return p != NULL && sp__pipe_usable(p) ? &p->ref : NULL;
}

static void host_sock_resume(sp_sock_ref *sock)
{
    host_sock(sock)->tx_again = true;
}

static void host_discard_in(sp_sock_ref *sock, sp_msg *m, sp_discard reason)
{
    sp__sock_discard(host_sock(sock), m, reason, false);
}

static void host_discard_out(sp_sock_ref *sock, sp_msg *m, sp_discard reason)
{
    sp__sock_discard(host_sock(sock), m, reason, true);
}

/* ------------------------------------------------------------------ Timers */

struct sp_timer_ref {
    struct sp__timer timer;
    struct sp_timer_ref *next; ///< of its socket or endpoint
    struct sp_timer_ref **list;
    struct sp_timer_ref *unused; ///< the next of those
    struct sp__sock *sock;
    struct sp__ep *ep; ///< NULL: a protocol's
    void *cookie;
};

static void host_timer_fire(struct sp__timer *t)
{
    sp_timer_ref *ref = SP__CONTAINER(t, sp_timer_ref, timer);

    if (ref->ep != NULL) {
        sp__transport_begin(ref->sock, &ref->ep->transport->ops, SP__SLOT_ON_TIMER);
        ref->ep->transport->ops.on_timer(ref->ep->ref.state, ref->cookie);
        sp__transport_end(ref->sock);
    } else if (ref->sock->state < SP__SOCK_ENDING) {
        sp__slot(&ref->sock->actor, SP__SLOT_ON_TIMER);
        ref->sock->ops->on_timer(ref->sock->ref.state, ref->cookie);
    }
    sp__sock_settle(ref->sock);
}

static int host_timer_make(struct sp__sock *s, struct sp__ep *ep, void *cookie,
                           sp_timer_ref **timer)
{
    sp_timer_ref **list = ep != NULL ? &ep->timers : &s->timers;
    sp_timer_ref *t = ep == NULL ? s->timers_unused : NULL;

    if (t != NULL) {
        s->timers_unused = t->unused;
        t->cookie = cookie;
        *timer = t;
        return SP_OK;
    }
    if (sp__timer_reserve() < 0) {
        return SP_ENOMEM;
    }
    t = sp__zalloc(sizeof(*t));
    if (t == NULL) {
        sp__timer_unreserve();
        return SP_ENOMEM;
    }
    sp__timer_init(&t->timer, &s->actor, ep != NULL ? &ep->obj : &s->obj, host_timer_fire);
    t->sock = s;
    t->ep = ep;
    t->cookie = cookie;
    t->list = list;
    t->next = *list;
    *list = t;
    *timer = t;
    return SP_OK;
}

static int host_timer_new(sp_sock_ref *sock, void *cookie, sp_timer_ref **timer)
{
    return host_timer_make(host_sock(sock), NULL, cookie, timer);
}

static int host_ep_timer_new(sp_ep_ref *ep, void *cookie, sp_timer_ref **timer)
{
    return host_timer_make(host_ep(ep)->sock, host_ep(ep), cookie, timer);
}

static void host_timer_arm(sp_timer_ref *t, int64_t ms)
{
    sp__timer_arm(&t->timer, sp__now() + (ms > 0 ? ms : 0) * SP__MS);
}

static void host_timer_cancel(sp_timer_ref *t)
{
    sp__timer_cancel(&t->timer);
}

/// Its event may still be on its way: the memory goes with the socket or endpoint. A socket's is
/// used again: that event means nothing then (sp__timer_arm).
static void host_timer_free(sp_timer_ref *t)
{
    if (t == NULL) {
        return;
    }
    sp__timer_cancel(&t->timer);
    if (t->ep == NULL) {
        t->unused = t->sock->timers_unused;
        t->sock->timers_unused = t;
    }
}

void sp__host_timers_cancel(sp_timer_ref *list)
{
    for (sp_timer_ref *t = list; t != NULL; t = t->next) {
        sp__timer_cancel(&t->timer);
    }
}

void sp__host_timers_free(sp_timer_ref **list)
{
    while (*list != NULL) {
        sp_timer_ref *t = *list;

        *list = t->next;
        sp__timer_unreserve();
        sp__free(t);
    }
}

/* ------------------------------------------------------------------ Transports */

static int host_pipe_watch(sp_pipe_ref *pipe, int fd)
{
    atomic_store_explicit(&host_pipe(pipe)->sock->polls, true, memory_order_relaxed);
    return sp__watch_open(&host_pipe(pipe)->watch, fd);
}

/// A thread of a plugin's own, or of the application's between its calls, runs nothing: what it has
/// posted goes to those who do.
static inline void host_posted(void)
{
    struct sp__thread *t = sp__thread_current;

    if (t != NULL && !t->running) {
        sp__run_here(false);
    }
}

static void host_pipe_ready(sp_pipe_ref *pipe, unsigned ready)
{
    sp__pipe_ready(host_pipe(pipe), ready);
    host_posted();
}

static int host_pipe_pass(sp_pipe_ref *to, sp_batch *batch)
{
    return sp__pipe_pass(host_pipe(to), batch);
}

static void host_pipe_hold(sp_pipe_ref *pipe)
{
    sp__hold(&host_pipe(pipe)->obj);
}

static void host_pipe_drop(sp_pipe_ref *pipe)
{
    sp__drop(&host_pipe(pipe)->obj);
}

static int host_ep_watch(sp_ep_ref *ep, int fd)
{
    struct sp__listening *l = sp__listening(host_ep(ep));
    int rc;

    if (l == NULL) {
        return SP_ENOTSUP;
    }
    atomic_store_explicit(&host_ep(ep)->sock->polls, true, memory_order_relaxed);
    rc = sp__watch_open(&l->watch, fd);
    if (rc == SP_OK && host_ep(ep)->transport->ops.on_ready != NULL) {
        sp__watch_out(&l->watch, false); // An fd for all peers is writable again and again.
    }
    return rc;
}

static int host_ep_dial(sp_ep_ref *ep, const char *url, uint64_t *id)
{
    return sp__ep_dial_for(host_ep(ep), url, id);
}

static void host_ep_undial(sp_ep_ref *ep, uint64_t id)
{
    sp__ep_undial(host_ep(ep), id);
}

static void host_ep_unwatch(sp_ep_ref *ep, int fd)
{
    struct sp__listening *l = sp__listening(host_ep(ep));

    (void)fd;
    if (l != NULL) {
        sp__watch_close(&l->watch);
    }
}

static void host_ep_ready(sp_ep_ref *ep)
{
    sp__ep_ready(host_ep(ep));
    host_posted();
}

static void host_ep_hold(sp_ep_ref *ep)
{
    sp__hold(&host_ep(ep)->obj);
}

static void host_ep_drop(sp_ep_ref *ep)
{
    sp__drop(&host_ep(ep)->obj);
}

/* ------------------------------------------------------------------ Everybody */

static int64_t host_now(void)
{
    return sp__now();
}

static uint64_t host_random(void)
{
    return sp__platform->random();
}

static const void *host_extension(const char *id)
{
    (void)id; // None yet.
    return NULL;
}

const sp_host sp__host = {
    .size = sizeof(sp_host),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor = SP_ABI_MINOR,
    .msg_new = sp__msg_new,
    .msg_clone = sp__msg_clone,
    .msg_release = sp__msg_release,
    .msg_reserve = sp__msg_reserve,
    .msg_own = sp__msg_own,
    .scratch = sp__scratch,
    .deliver = host_deliver,
    .fail = host_fail,
    .pipe_send = host_pipe_send,
    .pipe_send_copy = host_pipe_send_copy,
    .pipe_room = host_pipe_room,
    .pipe_resume = host_pipe_resume,
    .pipe_close = host_pipe_close,
    .pipe_find = host_pipe_find,
    .sock_resume = host_sock_resume,
    .discard_in = host_discard_in,
    .discard_out = host_discard_out,
    .timer_new = host_timer_new,
    .ep_timer_new = host_ep_timer_new,
    .timer_arm = host_timer_arm,
    .timer_cancel = host_timer_cancel,
    .timer_free = host_timer_free,
    .pipe_watch = host_pipe_watch,
    .pipe_ready = host_pipe_ready,
    .pipe_hold = host_pipe_hold,
    .pipe_drop = host_pipe_drop,
    .ep_watch = host_ep_watch,
    .ep_unwatch = host_ep_unwatch,
    .ep_ready = host_ep_ready,
    .ep_hold = host_ep_hold,
    .ep_drop = host_ep_drop,
    .now = host_now,
    .random = host_random,
    .log = sp__log,
    .extension = host_extension,
    .pipe_pass = host_pipe_pass,
    .deliver_latest = host_deliver_latest,
    .ctx_room = host_ctx_room,
    .overflow = host_overflow,
    .pipe_offer = host_pipe_offer,
    .pipe_offer_copy = host_pipe_offer_copy,
    .receive_copy = host_receive_copy,
    .ctx_hold = host_ctx_hold,
    .ep_dial = host_ep_dial,
    .ep_undial = host_ep_undial,
};
