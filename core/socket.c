/* SPDX-License-Identifier: MIT */
/// Sockets: opening, the socket's actor's housekeeping, lingering and closing.
#include "socket.h"

#include "config.h"
#include "error.h"
#include "pipe.h"
#include "platform.h"
#include "runtime.h"

#include <string.h>
#include <uuid/uuid.h>

/* ------------------------------------------------------------------ Tables */

struct sp__pipe *sp__sock_find(struct sp__sock *s, uint32_t id)
{
    struct sp__pipe *p = s->hash[id & (s->hash_size - 1)];

    while (p != NULL && p->ref.id != id) {
        p = p->hash_next;
    }
    return p;
}

/// Twice as many buckets; without memory it stays as it is, only slower.
static void sock_rehash(struct sp__sock *s)
{
    size_t size = 2 * s->hash_size;
    struct sp__pipe **hash = sp__zalloc(size * sizeof(struct sp__pipe *));

    if (hash == NULL) {
        return;
    }
    for (size_t i = 0; i < s->hash_size; i++) {
        for (struct sp__pipe *p = s->hash[i], *next; p != NULL; p = next) {
            next = p->hash_next;
            p->hash_next = hash[p->ref.id & (size - 1)];
            hash[p->ref.id & (size - 1)] = p;
        }
    }
    sp__free(s->hash);
    s->hash = hash;
    s->hash_size = size;
}

void sp__sock_link(struct sp__sock *s, struct sp__pipe *p)
{
    struct sp__pipe **bucket;

    if (++s->linked > s->hash_size) {
        sock_rehash(s);
    }
    bucket = &s->hash[p->ref.id & (s->hash_size - 1)];
    p->hash_next = *bucket;
    *bucket = p;
    (void)pthread_mutex_lock(&s->lock);
    p->next = s->pipes;
    if (s->pipes != NULL) {
        s->pipes->prev = p;
    }
    s->pipes = p;
    (void)pthread_mutex_unlock(&s->lock);
}

static void sock_unpause(struct sp__sock *s, struct sp__pipe *p)
{
    struct sp__pipe *prev = NULL;

    for (struct sp__pipe *at = s->paused_head; at != NULL && p->paused;
         prev = at, at = at->paused_next) {
        if (at != p) {
            continue;
        }
        *(prev != NULL ? &prev->paused_next : &s->paused_head) = p->paused_next;
        s->paused_tail = s->paused_tail == p ? prev : s->paused_tail;
        p->paused = false;
    }
}

void sp__sock_unlink(struct sp__sock *s, struct sp__pipe *p)
{
    struct sp__pipe **at = &s->hash[p->ref.id & (s->hash_size - 1)];

    while (*at != p) {
        at = &(*at)->hash_next;
    }
    *at = p->hash_next;
    s->linked--;
    sock_unpause(s, p);
    sp__count(&s->tx_msgs, sp__counted(&p->tx_msgs));
    sp__count(&s->tx_bytes, sp__counted(&p->tx_bytes));
    sp__count(&s->drops_out[SP_DISCARD_FULL], sp__counted(&p->tx_dropped));
    sp__count(&s->rx_msgs, sp__counted(&p->rx_msgs));
    sp__count(&s->rx_bytes, sp__counted(&p->rx_bytes));
    (void)pthread_mutex_lock(&s->lock);
    *(p->prev != NULL ? &p->prev->next : &s->pipes) = p->next;
    if (p->next != NULL) {
        p->next->prev = p->prev;
    }
    (void)pthread_mutex_unlock(&s->lock);
}

/// Behind the last one that is to be received from no later.
static void sock_pause_behind(struct sp__sock *s, struct sp__pipe *p)
{
    struct sp__pipe **at = &s->paused_head;

    if (s->paused_tail != NULL && s->paused_tail->ref.recv_priority <= p->ref.recv_priority) {
        at = &s->paused_tail->paused_next;
    }
    while (*at != NULL && (*at)->ref.recv_priority <= p->ref.recv_priority) {
        at = &(*at)->paused_next;
    }
    p->paused_next = *at;
    *at = p;
    s->paused_tail = p->paused_next == NULL ? p : s->paused_tail;
}

void sp__sock_pause(struct sp__sock *s, struct sp__pipe *p)
{
    if (!p->paused) {
        p->paused = true;
        sock_pause_behind(s, p);
    }
}

/// The first one takes memory for the counters; without it the socket alone counts.
static SP__APART void sock_count_at_pipe(struct sp__pipe *p, sp_discard reason, bool out)
{
    struct sp__pipe_drops *d = atomic_load_explicit(&p->drops, memory_order_relaxed);

    if (d == NULL) {
        d = sp__zalloc(sizeof(*d));
        if (d == NULL) {
            return;
        }
        // Release: who reads statistics sees them zeroed; pairs with the acquire in stats.c.
        atomic_store_explicit(&p->drops, d, memory_order_release);
    }
    sp__count(out ? &d->out[reason] : &d->in[reason], 1);
}

/// Also where it came from, as long as that is there.
static void sock_count_received(struct sp__sock *s, const sp_msg *m, sp_discard reason)
{
    struct sp__pipe *p = reason != SP_DISCARD_CLOSED ? sp__sock_find(s, m->peer) : NULL;

    if (p != NULL) {
        sock_count_at_pipe(p, reason, false);
    }
}

void sp__pipe_discard(struct sp__pipe *p, sp_msg *m, sp_discard reason)
{
    sock_count_at_pipe(p, reason, true);
    sp__sock_discard(p->sock, m, reason, true);
}

void sp__sock_discard(struct sp__sock *s, sp_msg *m, sp_discard reason, bool out)
{
    if ((unsigned)reason >= SP_DISCARD_REASONS) {
        reason = SP_DISCARD_STATE;
    }
    if (!out) {
        sock_count_received(s, m, reason);
    }
    sp__count(out ? &s->drops_out[reason] : &s->drops_in[reason], 1);
    if (out && m != NULL && s->ops->window == SP_WINDOW_PIPES && sp__msg(m)->cost > 0) {
        sp__ctx_grant(&s->ctx, sp__msg(m)->cost);
    }
    sp__msg_release(m);
}

void sp__sock_discard_all(struct sp__sock *s, sp_batch *b, sp_discard reason, bool out)
{
    for (sp_msg *m; (m = sp_batch_pop(b)) != NULL;) {
        sp__sock_discard(s, m, reason, out);
    }
}

/* ------------------------------------------------------------------ Settling */

/// Those that were offered go behind those of the same priority that were not, which come from
/// `rest` to `tail`.
static SP__APART void sock_pause_rest(struct sp__sock *s, struct sp__pipe *rest,
                                      struct sp__pipe *tail)
{
    struct sp__pipe *offered = s->paused_head;

    s->paused_head = rest;
    s->paused_tail = tail;
    while (offered != NULL) {
        struct sp__pipe *p = offered;

        offered = p->paused_next;
        sock_pause_behind(s, p);
    }
}

/// Offers what paused pipes hold, each once, until the receivers are full again. Where each context
/// has many answers of its own one that is full says nothing about the others.
static void sock_offer_paused(struct sp__sock *s)
{
    bool all = (s->ops->flags & SP_PROTO_MANY) != 0;
    struct sp__pipe *rest = s->paused_head;
    struct sp__pipe *tail = s->paused_tail;

    s->rx_full = false;
    s->paused_head = NULL;
    s->paused_tail = NULL;
    while ((all || !s->rx_full) && rest != NULL) {
        struct sp__pipe *p = rest;

        rest = p->paused_next;
        p->paused = false;
        sp__pipe_offer(p);
    }
    if (rest != NULL) {
        sock_pause_rest(s, rest, tail);
    }
}

void sp__sock_grant(struct sp__sock *s, int64_t credit)
{
    sp__ctx_grant(&s->ctx, credit);
    for (struct sp__ctx *c = s->ctxs; c != NULL; c = c->next) {
        sp__ctx_grant(c, credit);
    }
}

/// "send-buffer" was set: that many messages of each context may be on their way to the protocol.
static void sock_on_window(struct sp__event *ev)
{
    struct sp__sock *s = SP__CONTAINER(ev, struct sp__sock, window_ev);
    int64_t room = sp__option(&s->opt.send_buffer);
    int64_t more = (room > 0 ? room : 1) - s->window;

    if (s->ops->window == SP_WINDOW_OPEN) {
        s->window += more;
        sp__sock_grant(s, more);
    }
}

/// Offers what contexts hold, each once, in turn.
static void sock_offer_pending(struct sp__sock *s)
{
    struct sp__ctx *list = s->offers;

    s->offers = NULL;
    while (list != NULL) {
        struct sp__ctx *c = list;

        list = c->offer_next;
        c->offering = false;
        sp__ctx_offer(c);
    }
}

static bool sock_flushed(struct sp__sock *s)
{
    if (s->pending > 0) {
        return false;
    }
    for (struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        if (p->added && p->inflight > 0) {
            return false;
        }
    }
    return true;
}

/// The first endpoint; with `last` no more may come.
static struct sp__ep *sock_first_ep(struct sp__sock *s, bool last)
{
    struct sp__ep *ep;

    (void)pthread_mutex_lock(&s->lock);
    s->no_eps = s->no_eps || last;
    ep = s->eps;
    (void)pthread_mutex_unlock(&s->lock);
    return ep;
}

/// Lingering is over: everything is taken down; what is left is counted as dropped.
static void sock_end(struct sp__sock *s)
{
    sp__timer_cancel(&s->timer);
    s->state = SP__SOCK_ENDING;
    sp__slot(&s->actor, SP__SLOT_STOP);
    s->ops->stop(s->ref.state);
    for (struct sp__ep *ep = sock_first_ep(s, true); ep != NULL; ep = sock_first_ep(s, true)) {
        sp__ep_close_now(ep);
    }
    for (struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        sp__pipe_shut(p, SP_ECANCELED);
    }
}

/// It is closed, and the user's function will not be called again.
static void sock_closed(struct sp__sock *s)
{
    struct sp__wake wake;

    do {
        (void)pthread_mutex_lock(&s->lock);
        s->done = true;
        wake = sp__waiter_pop(&s->closers);
        (void)pthread_mutex_unlock(&s->lock);
        sp__wake(wake);
    } while (sp__wakes(wake));
    sp__drop(&s->obj); // Its own first reference.
}

/// Behind the last pipe event.
static void sock_on_end(struct sp__event *ev)
{
    sock_closed(SP__CONTAINER(ev, struct sp__sock, end_ev));
}

/// The last pipe is gone: only calls under way and pending events hold the socket any more.
static void sock_done(struct sp__sock *s)
{
    s->state = SP__SOCK_DONE;
    for (struct sp__ctx *c = s->ctxs; c != NULL; c = c->next) {
        sp__ctx_end(c);
    }
    sp__ctx_end(&s->ctx);
    sp__host_timers_cancel(s->timers);
    if (s->told) {
        sp__post(&s->end_ev);
    } else {
        sock_closed(s);
    }
}

/// Offers again what was left.
static SP__APART void sock_offer_again(struct sp__sock *s)
{
    while (s->tx_again || s->rx_again) {
        if (s->tx_again) {
            s->tx_again = false;
            sock_offer_pending(s);
        }
        if (s->rx_again) {
            s->rx_again = false;
            sock_offer_paused(s);
        }
    }
}

/// Of a socket that closes: the end of lingering, and of the last pipe.
static SP__APART void sock_settle_end(struct sp__sock *s)
{
    if (s->state == SP__SOCK_LINGERING && sock_flushed(s)) {
        sock_end(s);
    }
    if (s->state == SP__SOCK_ENDING && s->pipes == NULL && sock_first_ep(s, true) == NULL) {
        sock_done(s);
    }
}

/// What contexts hold too much goes.
static SP__APART void sock_evict(struct sp__sock *s)
{
    while (s->excesses != NULL) {
        struct sp__ctx *c = s->excesses;

        s->excesses = c->excess_next;
        sp__ctx_evict(c);
    }
}

void sp__sock_settle(struct sp__sock *s)
{
    if (s->settling) {
        return;
    }
    s->settling = true;
    if (s->tx_again || s->rx_again) {
        sock_offer_again(s);
    }
    if (s->outs != NULL) {
        sp__pipes_out(s);
    }
    while (s->publishes != NULL) {
        struct sp__ctx *c = s->publishes;

        s->publishes = c->publish_next;
        sp__ctx_publish(c);
    }
    if (s->excesses != NULL) {
        sock_evict(s);
    }
    atomic_store_explicit(&s->pending_depth, s->pending, memory_order_relaxed);
    s->settling = false;
    if (s->state != SP__SOCK_OPEN) {
        sock_settle_end(s);
    }
}

/* ------------------------------------------------------------------ Closing */

/// The socket's actor, or when there are no pipes any more.
static uint64_t sock_dropped(const struct sp__sock *s)
{
    uint64_t sum = 0;

    for (int i = 0; i < SP_DISCARD_REASONS; i++) {
        sum += sp__counted(&s->drops_out[i]);
    }
    for (const struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        sum += sp__counted(&p->tx_dropped);
    }
    return sum;
}

uint64_t sp__sock_undelivered(const struct sp__sock *s)
{
    return sock_dropped(s) - s->dropped;
}

static void sock_on_close(struct sp__event *ev)
{
    struct sp__sock *s = SP__CONTAINER(ev, struct sp__sock, close_ev);

    if (s->state != SP__SOCK_OPEN) {
        return;
    }
    s->dropped = sock_dropped(s);
    s->state = SP__SOCK_LINGERING;
    if (s->holding) {
        s->holding = false;
        sp__timer_cancel(&s->timer);
    }
    sp__ctxs_shut(s);
    if (s->linger_ms == 0) {
        sock_end(s);
    } else {
        // Only this actor takes endpoints out of the list, and new ones come in front.
        for (struct sp__ep *ep = sock_first_ep(s, false); ep != NULL; ep = ep->next) {
            sp__ep_linger(ep);
        }
        for (struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
            if (p->tx_dead) {
                sp__pipe_shut(p, SP_ECLOSED);
            } else {
                sp__pipe_flush(p);
            }
        }
        if (s->linger_ms > 0) {
            sp__timer_arm(&s->timer, sp__now() + s->linger_ms * SP__MS);
        }
    }
    sp__sock_settle(s);
}

/// The end of lingering, or of holding.
static void sock_on_timer(struct sp__timer *t)
{
    struct sp__sock *s = SP__CONTAINER(t, struct sp__sock, timer);

    if (s->state == SP__SOCK_LINGERING) {
        sock_end(s);
    } else if (s->holding) {
        s->holding = false;
        s->rx_again = true;
    }
    sp__sock_settle(s);
}

bool sp__sock_shut(struct sp__sock *s, int64_t linger_ms)
{
    if (!sp__handle_close(&s->obj)) {
        return false;
    }
    sp__ctx_shut(&s->ctx);
    s->linger_ms = linger_ms;
    SP__TRACE(F17, &s->obj, &s->close_ev);
    sp__post(&s->close_ev);
    sp__run_here(sp__option(&s->opt.in_place) != 0);
    sp__drop(&s->obj); // The table's; the caller's hazard or reference keeps it.
    return true;
}

void sp__sock_wait(struct sp__sock *s, int64_t deadline)
{
    struct sp__waiter w = {.thread = sp__self()};
    bool done;

    (void)pthread_mutex_lock(&s->lock);
    done = s->done;
    if (!done) {
        sp__waiter_add(&s->closers, &w, false);
    }
    while (!done) {
        bool late;

        (void)pthread_mutex_unlock(&s->lock);
        late = !sp__wait(deadline, 0, false) && sp__now() >= deadline;
        (void)pthread_mutex_lock(&s->lock);
        done = s->done || late;
    }
    if (w.queued) {
        sp__waiter_remove(&s->closers, &w);
    }
    (void)pthread_mutex_unlock(&s->lock);
}

static void sock_destroy(struct sp__object *obj)
{
    struct sp__sock *s = SP__CONTAINER(obj, struct sp__sock, obj);

    if (s->inited) {
        s->ops->fini(s->ref.state);
    }
    sp__host_timers_free(&s->timers);
    sp__ctx_purge(&s->ctx); // What a sender posted after the end.
    sp__ctx_fini(&s->ctx);
    (void)__atomic_fetch_sub(&s->protocol->plugin->instances, 1, __ATOMIC_RELAXED);
    (void)pthread_mutex_destroy(&s->lock);
    sp__timer_unreserve();
    sp__free(s->hash);
    sp__free(s);
}

/* ------------------------------------------------------------------ Calls into an actor */

struct sock_call {
    struct sp__event ev;
    struct sp__sock *sock;
    int (*fn)(struct sp__sock *s, void *arg);
    void *arg;
    struct sp__thread *caller;
    int rc;
    atomic_bool done;
};

static void call_on_event(struct sp__event *ev)
{
    struct sock_call *call = SP__CONTAINER(ev, struct sock_call, ev);
    struct sp__thread *caller = call->caller;

    call->rc = call->fn(call->sock, call->arg);
    // Release: pairs with the acquire in sp__sock_call, after which `call` is gone.
    atomic_store_explicit(&call->done, true, memory_order_release);
    sp__thread_wake(caller);
}

int sp__sock_call(struct sp__sock *s, struct sp__actor *a, int (*fn)(struct sp__sock *s, void *arg),
                  void *arg)
{
    struct sock_call call = {.sock = s, .fn = fn, .arg = arg, .caller = sp__self()};

    if (!sp__may_block()) {
        return SP_ESTATE;
    }
    sp__event_init(&call.ev, a, NULL, call_on_event);
    atomic_init(&call.done, false);
    sp__post(&call.ev);
    sp__run_here(sp__option(&s->opt.in_place) != 0);
    // Acquire: pairs with the release in call_on_event; the result.
    while (!atomic_load_explicit(&call.done, memory_order_acquire)) {
        (void)sp__wait(SP__NEVER, 0, false);
    }
    return call.rc;
}

/* ------------------------------------------------------------------ Opening */

static void sock_defaults(struct sp__sock *s)
{
    s->ctx.opt.recv_timeout = -1;
    s->ctx.opt.send_timeout = -1;
    s->opt.recv_buffer = 128;
    s->opt.send_buffer = 128;
    s->opt.queue_bytes = 4 << 20;
    s->opt.in_place = 1;
    s->opt.spin_time = -1;
    s->opt.linger = 1000;
    s->opt.ep.recv_size_max = 1 << 30;
    s->opt.ep.reconnect_min = 100;
    s->opt.ep.reconnect_max = 10000;
    s->opt.ep.hello_timeout = 10000;
    s->opt.ep.connect_timeout = 30000;
    s->opt.ep.max_handshakes = 256;
    atomic_init(&s->body_max, UINT64_MAX);
    s->opt.ep.send_priority = 8;
    s->opt.ep.recv_priority = 8;
}

static void sock_name(struct sp__sock *s)
{
    uuid_t id;

    if (sp__platform->simulated) {
        uint64_t r[2] = {sp__platform->random(), sp__platform->random()};

        memcpy(id, r, sizeof(id));
    } else {
        uuid_generate(id);
    }
    uuid_unparse_lower(id, s->name);
}

void sp__sock_inherit(struct sp__sock *s, void *state)
{
    for (size_t i = 0; i < s->ops->option_count; i++) {
        const sp_option *o = (const sp_option *)(const void *)((const char *)s->ops->options +
                                                               i * s->ops->option_size);

        if ((o->flags & SP_OPTION_CTX) != 0 &&
            (o->type == SP_OPTION_INT || o->type == SP_OPTION_BOOL)) {
            const char *own = (const char *)s->ctx.ref.state + o->offset;
            int64_t value = sp_option_load((const int64_t *)(const void *)own);

            memcpy((char *)state + o->offset, &value, sizeof(value));
        }
    }
}

void sp__sock_defaults(struct sp__sock *s, void *state, uint32_t ctx)
{
    for (size_t i = 0; i < s->ops->option_count; i++) {
        const sp_option *o = (const sp_option *)(const void *)((const char *)s->ops->options +
                                                               i * s->ops->option_size);

        if ((o->flags & SP_OPTION_CTX) == ctx &&
            (o->type == SP_OPTION_INT || o->type == SP_OPTION_BOOL)) {
            memcpy((char *)state + o->offset, &o->def, sizeof(o->def));
        }
    }
}

static struct sp__sock *sock_alloc(const struct sp__protocol *proto, bool raw)
{
    const sp_protocol_ops *ops = raw ? &proto->raw : &proto->ops;
    size_t head = (sizeof(struct sp__sock) + 15) & ~(size_t)15;
    size_t state = (ops->sock_size + 15) & ~(size_t)15;
    struct sp__sock *s;

    if (sp__timer_reserve() < 0) {
        return NULL;
    }
    s = sp__zalloc(head + state + ops->ctx_size);
    if (s != NULL) {
        s->hash = sp__zalloc(SP__HASH_MIN * sizeof(struct sp__pipe *));
    }
    if (s == NULL || s->hash == NULL || pthread_mutex_init(&s->lock, NULL) != 0) {
        if (s != NULL) {
            sp__free(s->hash);
        }
        sp__free(s);
        sp__timer_unreserve();
        return NULL;
    }
    s->hash_size = SP__HASH_MIN;
    s->protocol = proto;
    s->ops = ops;
    s->ref.raw = raw;
    s->ref.state = (char *)s + head;
    s->ctx.ref.state = (char *)s + head + state;
    (void)__atomic_fetch_add(&proto->plugin->instances, 1, __ATOMIC_RELAXED);
    return s;
}

static int sock_init(struct sp__sock *s)
{
    int rc;

    sp__object_init(&s->obj, SP__KIND_SOCKET, sock_destroy);
    sp__actor_init(&s->actor, &s->obj, false);
    sp__actor_init(&s->user, &s->obj, true);
    sp__event_init(&s->close_ev, &s->actor, NULL, sock_on_close);
    sp__event_init(&s->end_ev, &s->user, NULL, sock_on_end);
    sp__event_init(&s->window_ev, &s->actor, NULL, sock_on_window);
    sp__timer_init(&s->timer, &s->actor, &s->obj, sock_on_timer);
    sock_defaults(s);
    s->opt.overflow = s->ops->overflow;
    sock_name(s);
    sp__sock_defaults(s, s->ref.state, 0);
    sp__sock_defaults(s, s->ctx.ref.state, SP_OPTION_CTX);
    s->window = s->opt.send_buffer;
    rc = sp__ctx_init(&s->ctx, s, &s->obj, s->ctx.ref.state);
    if (rc == SP_OK) {
        rc = s->ops->init(s->ref.state, &sp__host, &s->ref);
    }
    if (rc == SP_OK) {
        s->inited = true;
        rc = sp__ctx_join(&s->ctx);
    }
    return rc;
}

/// With the runtime entered.
static int sock_make(sp_socket *out, const char *protocol, bool raw)
{
    const struct sp__protocol *proto = NULL;
    struct sp__sock *s;
    int rc = sp__registry_protocol(protocol, &proto);

    if (rc != SP_OK) {
        return sp__fail_in(rc, "open");
    }
    if (raw && !proto->has_raw) {
        return sp__fail(SP_ENOTSUP, "open: the protocol \"%s\" has no raw mode", protocol);
    }
    s = sock_alloc(proto, raw);
    rc = s != NULL ? sock_init(s) : SP_ENOMEM;
    if (rc == SP_OK) {
        rc = sp__handle_open(&s->obj, &out->id);
    }
    if (rc < 0) {
        if (s != NULL) {
            sp__drop(&s->obj);
        }
        return sp__fail_code(rc, "open \"%s\"", protocol);
    }
    return SP_OK;
}

int sp__sock_open(sp_socket *out, const char *protocol, bool raw)
{
    int rc;

    if (out == NULL || protocol == NULL) {
        return sp__fail(SP_EINVAL, "open: no protocol name or no place for the result");
    }
    rc = sp__runtime_enter();
    if (rc == SP_OK) {
        rc = sock_make(out, protocol, raw);
        sp__runtime_leave();
    }
    return rc;
}
