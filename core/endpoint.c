/* SPDX-License-Identifier: MIT */
/// Dialers and listeners. They are made and bound on the calling thread; from then on the socket's
/// actor owns them: it accepts, dials, backs off, and counts how each attempt ended.
#include "error.h"
#include "log.h"
#include "pipe.h"
#include "platform.h"
#include "runtime.h"
#include "scope.h"
#include "socket.h"

#include <stdio.h>
#include <string.h>

#define EP_START 1U
#define EP_CLOSE 2U
#define EP_READY 4U
#define EP_ABORT 8U
#define EP_IN 16U // of the fd of a listener with on_ready
#define EP_HUP 32U

#define ACCEPT_BURST 16     // connections accepted in one turn
#define ACCEPT_RETRY_MS 100 // after a lack of fds or memory
#define SCHEME_MAX 32

static void ep_post(struct sp__ep *ep, unsigned bit)
{
    // Release: pairs with the exchange in ep_on_event.
    (void)atomic_fetch_or_explicit(&ep->cmd, bit, memory_order_release);
    sp__post(&ep->ev);
}

/// Room for its timers: a listener has one more.
static int ep_reserve(bool dialer)
{
    int rc = sp__timer_reserve();

    if (rc == SP_OK && !dialer) {
        rc = sp__timer_reserve();
        if (rc < 0) {
            sp__timer_unreserve();
        }
    }
    return rc;
}

static void ep_unreserve(bool dialer)
{
    sp__timer_unreserve();
    if (!dialer) {
        sp__timer_unreserve();
    }
}

static void ep_destroy(struct sp__object *obj)
{
    struct sp__ep *ep = SP__CONTAINER(obj, struct sp__ep, obj);

    if (ep->inited) {
        ep->transport->ops.ep_fini(ep->ref.state);
    }
    sp__host_timers_free(&ep->timers);
    (void)__atomic_fetch_sub(&ep->transport->plugin->instances, 1, __ATOMIC_RELAXED);
    ep_unreserve(ep->dialer);
    sp__drop(&ep->sock->obj);
    sp__free(ep->cause);
    sp__free(ep);
}

/* ------------------------------------------------------------------ The first dial's result */

/// Tells who waits in sp_dial how it ended; only the first time. Without memory for the cause the
/// code goes alone.
static void ep_settle(struct sp__ep *ep, int rc, const char *why)
{
    struct sp__wake wake = {NULL, NULL};

    (void)pthread_mutex_lock(&ep->sock->lock);
    if (!ep->settled) {
        ep->settled = true;
        ep->result = rc;
        sp__free(ep->cause); // Of an earlier sp_dialer_start.
        ep->cause = why != NULL && why[0] != '\0' ? sp__strdup(why) : NULL;
        wake = sp__waiter_pop(&ep->waiters);
    }
    (void)pthread_mutex_unlock(&ep->sock->lock);
    sp__wake(wake);
}

void sp__ep_count(struct sp__ep *ep, enum sp__ep_counter what)
{
    if (sp__listening(ep) != NULL) {
        sp__count(&sp__listening(ep)->counters[what], 1);
    } else {
        // Relaxed: a statistic with one writer.
        uint32_t n = atomic_load_explicit(&ep->attempts[what], memory_order_relaxed);

        atomic_store_explicit(&ep->attempts[what], n + 1, memory_order_relaxed);
    }
}

uint64_t sp__ep_counted(const struct sp__ep *ep, enum sp__ep_counter what)
{
    return sp__listening(ep) != NULL
               ? sp__counted(&sp__listening(ep)->counters[what])
               : atomic_load_explicit((_Atomic uint32_t *)(uintptr_t)&ep->attempts[what],
                                      memory_order_relaxed);
}

const char *sp__ep_counter_name(unsigned what)
{
    static const char *const names[SP__EP_COUNTERS] = {
        [SP__EP_CONNECT] = "connect",
        [SP__EP_REFUSED] = "refused",
        [SP__EP_DISCONNECT] = "disconnect",
        [SP__EP_CANCELED] = "canceled",
        [SP__EP_TIMEOUT] = "timeout",
        [SP__EP_PROTO] = "proto",
        [SP__EP_AUTH] = "auth",
        [SP__EP_OOM] = "oom",
        [SP__EP_REJECT] = "reject",
        [SP__EP_OVERFLOW] = "overflow",
        [SP__EP_FALLBACK] = "fallback",
        [SP__EP_OTHER] = "other",
    };

    return names[what];
}

static enum sp__ep_counter ep_reason(int err)
{
    switch (err) {
    case -ECONNREFUSED:
    case -ENOENT:
        return SP__EP_REFUSED;
    case SP_ECLOSED:
    case -ECONNRESET:
    case -EPIPE:
        return SP__EP_DISCONNECT;
    case SP_ECANCELED:
        return SP__EP_CANCELED;
    case SP_ETIMEDOUT:
        return SP__EP_TIMEOUT;
    case SP_EPROTO:
    case SP_EMSGSIZE:
        return SP__EP_PROTO;
    case -EACCES:
    case -EPERM:
        return SP__EP_AUTH;
    case SP_ENOMEM:
    case -EMFILE:
    case -ENFILE:
    case -ENOBUFS:
        return SP__EP_OOM;
    case SP_EFULL:
        return SP__EP_OVERFLOW;
    default:
        return SP__EP_OTHER;
    }
}

/* ------------------------------------------------------------------ Dialling */

/// Random in [0, current), then twice as much next time, up to the maximum (options
/// reconnect-time-min and -max).
static void dial_later(struct sp__ep *ep)
{
    int64_t top = ep->opt.reconnect_max > ep->opt.reconnect_min ? ep->opt.reconnect_max
                                                                : ep->opt.reconnect_min;
    int64_t wait_us;

    if (ep->backoff <= 0) {
        ep->backoff = ep->opt.reconnect_min;
    }
    wait_us = ep->backoff > 0 ? (int64_t)(sp__platform->random() % (uint64_t)(ep->backoff * 1000))
                              : 0;
    ep->backoff = 2 * ep->backoff < top ? 2 * ep->backoff : top;
    sp__timer_arm(&ep->timer, sp__now() + wait_us * 1000 + SP__MS);
}

/// A line about an attempt or a connection that ended.
static void ep_log(const struct sp__ep *ep, sp_log_level level, int err, const char *why)
{
    sp__logf(level, ep->sock->name, "%s %s: %s%s%s", ep->dialer ? "dial" : "accept", ep->url, why,
             why[0] != '\0' ? ": " : "", sp_strerror(err));
}

/// An attempt failed, or a connection ended.
static void dial_ended(struct sp__ep *ep, int err, const char *why, bool was_up)
{
    bool again;

    if (ep->closed || ep->sock->state >= SP__SOCK_ENDING) {
        ep_settle(ep, SP_ECLOSED, "the socket was closed");
        return;
    }
    (void)pthread_mutex_lock(&ep->sock->lock);
    again = was_up || ep->background;
    (void)pthread_mutex_unlock(&ep->sock->lock);
    if (!was_up) {
        ep_settle(ep, err, why);
    }
    if (again) {
        dial_later(ep);
    } else {
        ep->running = false;
    }
}

/// Begins to connect with the pair that it has now.
static void dial_pair(struct sp__ep *ep)
{
    struct sp__pipe *p = sp__pipe_new(ep);
    sp_cause cause = {{0}};
    int rc = p != NULL ? SP_OK : SP_ENOMEM;

    if (rc == SP_OK) {
        sp__transport_begin(ep->sock, &ep->transport->ops, SP__SLOT_DIAL);
        rc = ep->transport->ops.dial(ep->ref.state, p->ref.tran, &p->ref, &cause);
        sp__transport_end(ep->sock);
    }
    if (rc < 0) {
        if (p != NULL) {
            sp__pipe_cancel(p);
        }
        sp__ep_count(ep, ep_reason(rc));
        ep_log(ep, SP_LOG_INFO, rc, cause.text);
        dial_ended(ep, rc, cause.text, false);
        return;
    }
    ep->pipe = p;
    sp__pipe_start(p, ep->due);
}

static int64_t ep_due(int64_t timeout_ms)
{
    return timeout_ms >= 0 ? sp__now() + timeout_ms * SP__MS : SP__NEVER;
}

static void dial_now(struct sp__ep *ep)
{
    ep->due = ep_due(ep->opt.connect_timeout);
    ep->pair = ep->proven;
    ep->tried = 1;
    dial_pair(ep);
}

/// The pair of a protocol for a peer that refused `p`: the one whose peer it said it is, or the
/// next one if it closed without a word. Negative: none.
static int fallback_pair(const struct sp__ep *ep, const struct sp__pipe *p)
{
    const sp_protocol_ops *ops = ep->sock->ops;

    if (p->ref.proto == 0 && ep_reason(p->err) == SP__EP_DISCONNECT) {
        return (int)((ep->pair + 1U) % ops->id_count);
    }
    for (size_t i = 0; p->err == SP_EPROTO && i < ops->id_count; i++) {
        if (i != ep->pair && ops->ids[i].peer == p->ref.proto) {
            return (int)i;
        }
    }
    return -1;
}

/// The handshake failed: if the peer may understand another pair of the protocol, dials again at
/// once. Each pair is tried once in an attempt; if all of them fail, the next one begins with the
/// first.
static bool dial_fall_back(struct sp__ep *ep, const struct sp__pipe *p)
{
    size_t pairs = ep->sock->ops->id_count;
    int pair = pairs > 1 ? fallback_pair(ep, p) : -1;

    if (pair >= 0 && (ep->tried >= pairs || ep->due <= sp__now())) {
        ep->proven = 0;
        pair = -1;
    }
    if (pair < 0 || ep->closed || ep->sock->state >= SP__SOCK_ENDING) {
        return false;
    }
    ep->pair = (uint8_t)pair;
    ep->tried++;
    sp__ep_count(ep, SP__EP_FALLBACK);
    sp__logf(SP_LOG_INFO, ep->sock->name, "dial %s: refused, again as protocol 0x%02x", ep->url,
             ep->sock->ops->ids[pair].own);
    dial_pair(ep);
    return true;
}

/* ------------------------------------------------------------------ Accepting */

static bool accept_unfinished(const struct sp__ep *ep, struct sp__pipe *p)
{
    return p->ep == ep && atomic_load_explicit(&p->state, memory_order_relaxed) == SP__PIPE_SHAKING;
}

/// One unfinished handshake too many: the oldest makes place.
static void accept_evict(struct sp__ep *ep)
{
    struct sp__pipe *oldest = NULL;

    if (ep->shaking <= (uint64_t)ep->opt.max_handshakes) {
        return;
    }
    // New pipes are linked in front; only this actor changes the list.
    for (struct sp__pipe *p = ep->sock->pipes; p != NULL; p = p->next) {
        if (accept_unfinished(ep, p)) {
            oldest = p;
        }
    }
    if (oldest != NULL) {
        sp__pipe_shut(oldest, SP_ECANCELED);
    }
}

static void accept_now(struct sp__ep *ep)
{
    for (int i = 0; i < ACCEPT_BURST; i++) {
        struct sp__pipe *p = sp__pipe_new(ep);
        sp_cause cause = {{0}};
        int rc;

        sp__transport_begin(ep->sock, &ep->transport->ops, SP__SLOT_ACCEPT);
        rc = p != NULL ? ep->transport->ops.accept(ep->ref.state, p->ref.tran, &p->ref, &cause)
                       : SP_ENOMEM;
        sp__transport_end(ep->sock);

        if (rc < 0) {
            if (p != NULL) {
                sp__pipe_cancel(p);
            }
            if (rc == SP_EAGAIN) {
                return;
            }
            sp__ep_count(ep, ep_reason(rc));
            ep_log(ep, SP_LOG_WARN, rc, cause.text);
            sp__timer_arm(&ep->timer, sp__now() + ACCEPT_RETRY_MS * SP__MS);
            return;
        }
        sp__pipe_start(p, ep_due(ep->opt.hello_timeout));
        if (ep->opt.max_peers > 0 && ep->pipes > (uint64_t)ep->opt.max_peers) {
            sp__ep_count(ep, SP__EP_REJECT);
            sp__count(&ep->sock->rejected, 1);
            sp__pipe_shut(p, SP_EPEERS);
        }
        accept_evict(ep);
    }
    ep_post(ep, EP_READY); // There may be more; the others have their turn first.
}

/// Ends the handshakes of a listener that are over time. They all have the same time, so that the
/// timer is armed for the oldest and looks for the next one when it fires.
static void accept_on_hello(struct sp__timer *t)
{
    struct sp__ep *ep = SP__CONTAINER(t, struct sp__listening, hello)->ep;
    int64_t now = sp__now();
    int64_t next = SP__NEVER;

    for (struct sp__pipe *p = ep->sock->pipes; p != NULL; p = p->next) {
        if (!accept_unfinished(ep, p)) {
            continue;
        }
        if (p->when <= now) {
            sp__pipe_shut(p, SP_ETIMEDOUT);
        } else if (p->when < next) {
            next = p->when;
        }
    }
    if (next != SP__NEVER) {
        sp__timer_arm(t, next);
    }
    sp__sock_settle(ep->sock);
}

/* ------------------------------------------------------------------ The socket's actor */

void sp__ep_shaking(struct sp__ep *ep, int64_t due)
{
    struct sp__timer *t = ep->dialer ? &ep->timer : &sp__listening(ep)->hello;

    ep->shaking++;
    if (due != SP__NEVER && (ep->dialer || !t->live)) {
        sp__timer_arm(t, due);
    }
}

void sp__ep_shaken(struct sp__ep *ep)
{
    if (--ep->shaking == 0) {
        sp__timer_cancel(ep->dialer ? &ep->timer : &sp__listening(ep)->hello);
    }
}

void sp__ep_pipe_up(struct sp__ep *ep, struct sp__pipe *p)
{
    ep->proven = p->pair;
    sp__ep_count(ep, SP__EP_CONNECT);
    if (ep->dialer) {
        (void)pthread_mutex_lock(&ep->sock->lock);
        ep->background = true;
        (void)pthread_mutex_unlock(&ep->sock->lock);
        ep_settle(ep, SP_OK, NULL);
    }
}

void sp__ep_pipe_gone(struct sp__ep *ep, struct sp__pipe *p, bool was_up)
{
    // A connection that did something, or lived for long, lets the next attempt begin with the
    // shortest time again.
    bool useful = was_up && (sp__counted(&p->tx_msgs) + sp__counted(&p->rx_msgs) > 0 ||
                             sp__now() - p->when > ep->opt.reconnect_max * SP__MS);

    ep->pipes--;
    if (ep->dialer && ep->pipe == p && !was_up) {
        ep->pipe = NULL;
        if (dial_fall_back(ep, p)) {
            return;
        }
        ep->pipe = p;
    }
    if (p->err != SP_ECANCELED) {
        ep_log(ep, SP_LOG_INFO, p->err, p->cause);
    }
    if (p->err != SP_EPEERS) {
        sp__ep_count(ep, ep_reason(p->err));
    }
    if (ep->dialer && ep->pipe == p) {
        ep->pipe = NULL;
        ep->backoff = useful ? 0 : ep->backoff;
        dial_ended(ep, p->err, p->cause, was_up);
    }
}

static bool ep_shared(const struct sp__ep *ep)
{
    return ep->transport->ops.on_ready != NULL;
}

static void ep_shut(struct sp__ep *ep)
{
    sp__transport_begin(ep->sock, &ep->transport->ops, SP__SLOT_EP_CLOSE);
    ep->transport->ops.ep_close(ep->ref.state);
    sp__transport_end(ep->sock);
}

void sp__ep_linger(struct sp__ep *ep)
{
    if (ep->dialer) {
        ep_settle(ep, SP_ECLOSED,
                  "the socket was closed"); // It dials on if there is something to flush.
    } else {
        sp__timer_cancel(&ep->timer);
        if (!ep_shared(ep)) { // Its pipes' messages still come from that.
            sp__watch_close(&sp__listening(ep)->watch);
        }
        ep_shut(ep);
    }
}

static void ep_shut_pipes(struct sp__ep *ep)
{
    for (struct sp__pipe *p = ep->sock->pipes; p != NULL; p = p->next) {
        if (p->ep == ep) {
            sp__pipe_shut(p, SP_ECANCELED);
        }
    }
}

void sp__ep_close_now(struct sp__ep *ep)
{
    struct sp__sock *s = ep->sock;

    if (ep->closed) {
        return;
    }
    ep->closed = true;
    sp__timer_cancel(&ep->timer);
    sp__host_timers_cancel(ep->timers);
    if (ep_shared(ep)) {
        ep_shut_pipes(ep);
        ep_shut(ep);
    }
    if (sp__listening(ep) != NULL) {
        sp__watch_close(&sp__listening(ep)->watch);
    }
    if (!ep_shared(ep)) {
        ep_shut(ep);
        ep_shut_pipes(ep);
    }
    ep_settle(ep, SP_ECLOSED, "the socket was closed");
    (void)pthread_mutex_lock(&s->lock);
    for (struct sp__ep **at = &s->eps; *at != NULL; at = &(*at)->next) {
        if (*at == ep) {
            *at = ep->next;
            break;
        }
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (sp__handle_close(&ep->obj)) {
        sp__drop(&ep->obj);
    }
    sp__drop(&ep->obj); // The socket's.
}

/// Who waits for the first attempt does so no more.
static void dial_abort(struct sp__ep *ep)
{
    bool background;

    (void)pthread_mutex_lock(&ep->sock->lock);
    background = ep->background; // It is connected, or was.
    (void)pthread_mutex_unlock(&ep->sock->lock);
    if (ep->pipe != NULL && !background) {
        ep->tried = UINT8_MAX; // If it is being refused just now, it stays with that.
        sp__pipe_shut(ep->pipe, SP_ECANCELED);
    }
}

/// Not any more once the socket lingers: whoever began to wait just before is told so.
static void start_dialling(struct sp__ep *ep)
{
    if (ep->sock->state != SP__SOCK_OPEN) {
        ep_settle(ep, SP_ECLOSED, "the socket was closed");
        return;
    }
    ep->running = true;
    dial_now(ep);
}

/// What an endpoint with on_ready is told. Not once its fd is closed.
static void ep_tell_ready(struct sp__ep *ep, unsigned bits)
{
    struct sp__listening *l = sp__listening(ep);
    bool open = l != NULL && l->watch.fd >= 0;
    unsigned ready = ((bits & EP_IN) != 0 ? SP_READY_IN : 0) |
                     ((bits & EP_HUP) != 0 ? SP_READY_HUP : 0);

    if ((bits & EP_READY) == 0 && (ready == 0 || !open)) {
        return;
    }
    sp__transport_begin(ep->sock, &ep->transport->ops, SP__SLOT_ON_READY);
    ep->transport->ops.on_ready(ep->ref.state, open ? ready : 0);
    sp__transport_end(ep->sock);
}

static void ep_on_event(struct sp__event *ev)
{
    struct sp__ep *ep = SP__CONTAINER(ev, struct sp__ep, ev);
    // Acquire: pairs with the release of who set a bit.
    unsigned bits = atomic_exchange_explicit(&ep->cmd, 0, memory_order_acquire);

    if (ep->closed) {
        ep_settle(ep, SP_ECLOSED, "it was closed"); // For who began to wait after that.
    } else if (ep->sock->state >= SP__SOCK_ENDING || (bits & EP_CLOSE) != 0) {
        sp__ep_close_now(ep);
    } else {
        if (ep->dialer && (bits & EP_START) != 0 && !ep->running) {
            start_dialling(ep);
        }
        if ((bits & EP_ABORT) != 0) {
            dial_abort(ep);
        }
        if (ep_shared(ep)) {
            ep_tell_ready(ep, bits);
        }
        if (!ep->dialer && ep->running && ep->sock->state == SP__SOCK_OPEN &&
            (!ep_shared(ep) || (bits & EP_READY) != 0)) {
            accept_now(ep);
        }
    }
    sp__sock_settle(ep->sock);
}

static void ep_on_timer(struct sp__timer *t)
{
    struct sp__ep *ep = SP__CONTAINER(t, struct sp__ep, timer);

    if (ep->closed || ep->sock->state >= SP__SOCK_ENDING) {
        return;
    }
    if (ep->pipe != NULL) {
        sp__pipe_shut(ep->pipe, SP_ETIMEDOUT);
    } else if (ep->dialer) {
        dial_now(ep);
    } else if (ep->sock->state == SP__SOCK_OPEN) {
        accept_now(ep);
    }
    sp__sock_settle(ep->sock);
}

void sp__ep_ready(struct sp__ep *ep)
{
    ep_post(ep, EP_READY);
}

static void ep_watch_ready(struct sp__watch *w, unsigned ready)
{
    struct sp__ep *ep = SP__CONTAINER(w->obj, struct sp__ep, obj);

    if (!ep_shared(ep)) {
        sp__ep_ready(ep);
    } else {
        ep_post(ep, ((ready & SP_READY_IN) != 0 ? EP_IN : 0) |
                        ((ready & SP_READY_HUP) != 0 ? EP_HUP : 0));
    }
}

/* ------------------------------------------------------------------ The calling thread */

/// The socket's values to begin with; others may be setting them.
static void ep_inherit(struct sp__ep *ep)
{
    const int64_t *from = &ep->sock->opt.ep.recv_size_max;
    int64_t *to = &ep->opt.recv_size_max;

    _Static_assert(sizeof(ep->opt) % sizeof(int64_t) == 0, "endpoint options are int64_t fields");
    for (size_t i = 0; i < sizeof(ep->opt) / sizeof(int64_t); i++) {
        to[i] = sp__option(&from[i]);
    }
}

/// Writes the defaults of the transport's option table into the endpoint's state.
static void ep_defaults(struct sp__ep *ep)
{
    const sp_transport_ops *ops = &ep->transport->ops;

    for (size_t i = 0; i < ops->option_count; i++) {
        const sp_option *o = (const sp_option *)(const void *)((const char *)ops->options +
                                                               i * ops->option_size);

        if (o->type == SP_OPTION_INT || o->type == SP_OPTION_BOOL) {
            memcpy((char *)ep->ref.state + o->offset, &o->def, sizeof(o->def));
        }
    }
}

/// The endpoint, what a listener has beside, the transport's state and the URL, in one piece.
static struct sp__ep *ep_piece(const struct sp__transport *tr, const char *url, bool dialer)
{
    size_t head = sizeof(struct sp__ep) + (dialer ? 0 : sizeof(struct sp__listening));
    size_t state = sp__place(head, tr->ops.ep_size);
    size_t end = state + tr->ops.ep_size;
    size_t text = strlen(url) + 1;
    struct sp__ep *ep = sp__alloc(end + text);

    if (ep == NULL) {
        return NULL;
    }
    memset(ep, 0, end);
    ep->dialer = dialer;
    ep->ref.state = (char *)ep + state;
    ep->url = memcpy((char *)ep + end, url, text);
    return ep;
}

static struct sp__ep *ep_alloc(struct sp__sock *s, const struct sp__transport *tr, const char *url,
                               bool dialer)
{
    struct sp__ep *ep;

    if (ep_reserve(dialer) < 0) {
        return NULL;
    }
    ep = ep_piece(tr, url, dialer);
    if (ep == NULL) {
        ep_unreserve(dialer);
        return NULL;
    }
    sp__object_init(&ep->obj, dialer ? SP__KIND_DIALER : SP__KIND_LISTENER, ep_destroy);
    ep->sock = s;
    sp__hold(&s->obj);
    ep->transport = tr;
    (void)__atomic_fetch_add(&tr->plugin->instances, 1, __ATOMIC_RELAXED);
    if (!dialer) {
        sp__listening(ep)->ep = ep;
        sp__listening(ep)->bound.port = -1;
        sp__listening(ep)->watch = (struct sp__watch){
            .obj = &ep->obj, .fd = -1, .ready = ep_watch_ready};
        sp__timer_init(&sp__listening(ep)->hello, &s->actor, &ep->obj, accept_on_hello);
    }
    sp__event_init(&ep->ev, &s->actor, &ep->obj, ep_on_event);
    sp__timer_init(&ep->timer, &s->actor, &ep->obj, ep_on_timer);
    ep_defaults(ep);
    return ep;
}

/// The scheme of a URL, in front of "://".
static int url_scheme(const char *url, char *scheme)
{
    const char *colon = url != NULL ? strstr(url, "://") : NULL;
    size_t n = colon != NULL ? (size_t)(colon - url) : 0;

    if (n == 0 || n >= SCHEME_MAX) {
        return sp__fail(SP_EINVAL,
                        "%s: not a URL (want SCHEME://ADDRESS, such as tcp://127.0.0.1:5555)",
                        url != NULL ? url : "");
    }
    memcpy(scheme, url, n);
    scheme[n] = '\0';
    return SP_OK;
}

/// Gives it a handle and puts it into the socket's list. SP_ECLOSED: too late.
static int ep_publish(struct sp__ep *ep, uint64_t *id)
{
    struct sp__sock *s = ep->sock;
    int rc = sp__handle_open(&ep->obj, id);

    if (rc < 0) {
        return rc;
    }
    (void)pthread_mutex_lock(&s->lock);
    if (s->no_eps) {
        rc = SP_ECLOSED;
    } else {
        ep->next = s->eps;
        s->eps = ep;
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (rc < 0 && sp__handle_close(&ep->obj)) {
        sp__drop(&ep->obj);
    }
    return rc;
}

int sp__ep_new(uint64_t *id, struct sp__sock *s, const char *url, bool dialer)
{
    const char *verb = dialer ? "dial" : "listen";
    const struct sp__transport *tr;
    char scheme[SCHEME_MAX];
    sp_cause cause = {{0}};
    struct sp__ep *ep;
    int rc = url_scheme(url, scheme);

    if (rc == SP_OK) {
        rc = sp__registry_transport(scheme, &tr);
    }
    if (rc < 0) {
        return sp__fail_in(rc, "%s %s", verb, url != NULL ? url : "");
    }
    ep = ep_alloc(s, tr, url, dialer);
    if (ep == NULL) {
        return sp__fail_code(SP_ENOMEM, "%s %s", verb, url);
    }
    ep_inherit(ep);
    rc = tr->ops.ep_init(ep->ref.state, &sp__host, &ep->ref, ep->url, &cause);
    if (rc == SP_OK) {
        ep->inited = true;
        rc = ep_publish(ep, id);
    }
    if (rc < 0) {
        (void)sp__fail(rc, "%s %s: %s", verb, url,
                       cause.text[0] != '\0' ? cause.text : sp_strerror(rc));
        sp__drop(&ep->obj);
        *id = 0;
        return rc;
    }
    return SP_OK;
}

/// Marks it started. SP_ESTATE: it was.
static int ep_begin(struct sp__ep *ep, bool wait)
{
    bool was;

    (void)pthread_mutex_lock(&ep->sock->lock);
    was = ep->started;
    ep->started = true;
    if (!was) {
        ep->settled = false;
        ep->background = !wait;
    }
    (void)pthread_mutex_unlock(&ep->sock->lock);
    return was ? sp__fail(SP_ESTATE, "%s: already started", ep->url) : SP_OK;
}

static void ep_again(struct sp__ep *ep)
{
    (void)pthread_mutex_lock(&ep->sock->lock);
    ep->started = false;
    (void)pthread_mutex_unlock(&ep->sock->lock);
}

struct listen_args {
    struct sp__ep *ep;
    sp_cause cause;
};

/// The socket's actor: binds, and begins to accept.
static int listen_now(struct sp__sock *s, void *arg)
{
    struct listen_args *args = arg;
    struct sp__ep *ep = args->ep;
    sp_bound bound = {.size = sizeof(bound), .port = -1};
    int rc;

    if (ep->closed || s->state != SP__SOCK_OPEN) {
        return SP_ECLOSED;
    }
    (void)snprintf(bound.url, sizeof(bound.url), "%s", ep->url);
    sp__transport_begin(s, &ep->transport->ops, SP__SLOT_LISTEN);
    rc = ep->transport->ops.listen(ep->ref.state, &bound, &args->cause);
    sp__transport_end(s);
    if (rc < 0) {
        sp__watch_close(&sp__listening(ep)->watch);
        return rc;
    }
    (void)pthread_mutex_lock(&s->lock);
    sp__listening(ep)->bound = bound;
    (void)pthread_mutex_unlock(&s->lock);
    ep->running = true;
    if (!ep_shared(ep)) {
        accept_now(ep);
    }
    return SP_OK;
}

int sp__ep_listen(struct sp__ep *ep)
{
    struct listen_args args = {ep, {{0}}};
    const char *why = args.cause.text;
    int rc = ep_begin(ep, false);

    if (rc < 0) {
        return rc;
    }
    rc = sp__sock_call(ep->sock, &ep->sock->actor, listen_now, &args);
    if (rc < 0) {
        ep_again(ep);
        return rc == SP_ESTATE ? rc
                               : sp__fail(rc, "listen %s: %s%s%s", ep->url, why,
                                          why[0] != '\0' ? ": " : "", sp_strerror(rc));
    }
    return SP_OK;
}

void sp__ep_abort(struct sp__ep *ep)
{
    ep_post(ep, EP_ABORT);
}

/// Waits for the end of the first attempt; the connect-timeout bounds it.
static int ep_wait(struct sp__ep *ep)
{
    struct sp__waiter w = {.thread = sp__self()};
    bool settled;
    int over = SP_OK;
    int rc;

    (void)pthread_mutex_lock(&ep->sock->lock);
    sp__waiter_add(&ep->waiters, &w, false);
    settled = ep->settled;
    while (!settled) {
        (void)pthread_mutex_unlock(&ep->sock->lock);
        if (over == SP_OK) {
            over = sp__scope_over();
            if (over != SP_OK) {
                sp__ep_abort(ep);
            }
        }
        (void)sp__wait(over == SP_OK ? sp__scope_deadline() : SP__NEVER, 0, false);
        (void)pthread_mutex_lock(&ep->sock->lock);
        settled = ep->settled;
    }
    if (w.queued) {
        sp__waiter_remove(&ep->waiters, &w);
    }
    rc = ep->result == SP_ECANCELED && over != SP_OK ? over : ep->result;
    if (rc < 0) {
        (void)sp__fail(rc, "dial %s: %s%s%s", ep->url, ep->cause != NULL ? ep->cause : "",
                       ep->cause != NULL ? ": " : "", sp_strerror(rc));
    }
    (void)pthread_mutex_unlock(&ep->sock->lock);
    return rc;
}

int sp__ep_dial(struct sp__ep *ep, bool wait)
{
    int rc;

    if (wait && !sp__may_block()) {
        return SP_ESTATE;
    }
    rc = ep_begin(ep, wait);
    if (rc < 0) {
        return rc;
    }
    ep_post(ep, EP_START);
    sp__run_here(sp__option(&ep->sock->opt.in_place) != 0);
    if (!wait) {
        return SP_OK;
    }
    rc = ep_wait(ep);
    if (rc < 0) {
        ep_again(ep);
    }
    return rc;
}

int sp__ep_dial_op(struct sp__ep *ep, struct sp__waiter *w)
{
    int rc = ep_begin(ep, true);

    if (rc == SP_OK) {
        (void)pthread_mutex_lock(&ep->sock->lock);
        sp__waiter_add(&ep->waiters, w, false);
        (void)pthread_mutex_unlock(&ep->sock->lock);
        ep_post(ep, EP_START);
    }
    return rc;
}

int sp__ep_dial_result(struct sp__ep *ep)
{
    int rc;

    (void)pthread_mutex_lock(&ep->sock->lock);
    rc = ep->result;
    ep->started = rc == SP_OK;
    (void)pthread_mutex_unlock(&ep->sock->lock);
    return rc;
}

static int close_call(struct sp__sock *s, void *arg)
{
    sp__ep_close_now(arg);
    sp__sock_settle(s);
    return SP_OK;
}

void sp__ep_close(struct sp__ep *ep)
{
    struct sp__thread *t = sp__self();

    if (!sp__handle_close(&ep->obj)) {
        return;
    }
    if (t->running) {
        ep_post(ep, EP_CLOSE);
        sp__run_here(true);
    } else {
        (void)sp__sock_call(ep->sock, &ep->sock->actor, close_call, ep);
    }
    sp__drop(&ep->obj);
}
