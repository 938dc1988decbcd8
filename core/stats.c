/* SPDX-License-Identifier: MIT */
/// Statistics as a JSON tree. Reads single counters of running actors (relaxed) and lists under the
/// sockets' locks, so it never stops anybody; exact at rest.
#include "app.h"
#include "error.h"
#include "json.h"
#include "mailbox.h"
#include "platform.h"
#include "plugin_check.h"
#include "pool.h"
#include "runtime.h"
#include "sched.h"
#include "socket.h"
#include "spin.h"

#include <sp/sp.h>

#include <inttypes.h>
#include <stdio.h>

static const char *const discard_names[SP_DISCARD_REASONS] = {
    [SP_DISCARD_NO_PEER] = "no_peer",     [SP_DISCARD_PEER_GONE] = "peer_gone",
    [SP_DISCARD_FULL] = "full",           [SP_DISCARD_STALE] = "stale",
    [SP_DISCARD_MALFORMED] = "malformed", [SP_DISCARD_TTL] = "ttl",
    [SP_DISCARD_CLOSED] = "closed",       [SP_DISCARD_STATE] = "state",
    [SP_DISCARD_CANCELED] = "canceled",   [SP_DISCARD_OWN] = "own",
    [SP_DISCARD_UNWANTED] = "unwanted",
};

static void add(struct sp__json *o, const char *name, uint64_t v)
{
    sp__json_add_int(o, name, (int64_t)v);
}

static void add_id(struct sp__json *o, uint64_t id)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "0x%" PRIx64, id);
    sp__json_add_str(o, "id", text);
}

/// Those reasons that there were; `full` is what output dropped (drop-old).
static void add_pipe_drops(struct sp__json *o, const char *name, const sp__counter *drops,
                           uint64_t full)
{
    struct sp__json *d = sp__json_add_object(o, name);

    for (unsigned i = 0; i < SP_DISCARD_REASONS; i++) {
        uint64_t n = (drops != NULL ? sp__counted(&drops[i]) : 0) +
                     (i == SP_DISCARD_FULL ? full : 0);

        if (n > 0) {
            add(d, discard_names[i], n);
        }
    }
}

static void add_pipe(struct sp__json *o, const struct sp__pipe *p)
{
    // Acquire: pairs with the release of who made them (sock_count_at_pipe).
    const struct sp__pipe_drops *drops = atomic_load_explicit(&p->drops, memory_order_acquire);

    add_id(o, p->obj.id);
    add(o, "peer", p->ref.id);
    add(o, "protocol", p->ref.proto);
    sp__json_add_str(o, "address", sp__pipe_remote(p));
    sp__json_add_str(o, "url", p->ep->url);
    add(o, "tx_msgs", sp__counted(&p->tx_msgs));
    add(o, "tx_bytes", sp__counted(&p->tx_bytes));
    add(o, "rx_msgs", sp__counted(&p->rx_msgs));
    add(o, "rx_bytes", sp__counted(&p->rx_bytes));
    add_pipe_drops(o, "tx_drops", drops != NULL ? drops->out : NULL, sp__counted(&p->tx_dropped));
    add_pipe_drops(o, "rx_drops", drops != NULL ? drops->in : NULL, 0);
    add(o, "tx_queued", sp__counted(&p->txq_depth));
    add(o, "rx_queued", atomic_load_explicit(&p->held_depth, memory_order_relaxed));
}

/// What the transport counts itself.
static void add_ep_own(struct sp__json *o, const struct sp__ep *ep)
{
    const sp_transport_ops *ops = &ep->transport->ops;

    for (size_t i = 0; i < ops->counter_count; i++) {
        const sp_counter *c = sp__counter_at(ops, i);
        const char *at = (const char *)ep->ref.state + c->offset;

        add(o, c->name, __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED));
    }
}

static void add_ep(struct sp__json *o, const struct sp__ep *ep)
{
    add_id(o, ep->obj.id);
    sp__json_add_str(o, "url", sp__ep_url(ep));
    for (unsigned i = 0; i < SP__EP_COUNTERS; i++) {
        add(o, sp__ep_counter_name(i), sp__ep_counted(ep, i));
    }
    add_ep_own(o, ep);
}

/// What the socket's actor dropped, and in `more`, for each reason, what others did.
static void add_drops(struct sp__json *o, const char *name, const sp__counter *drops,
                      const uint64_t *more)
{
    struct sp__json *d = sp__json_add_object(o, name);

    for (unsigned i = 0; i < SP_DISCARD_REASONS; i++) {
        add(d, discard_names[i], sp__counted(&drops[i]) + more[i]);
    }
}

/// A counter of all contexts, `gone` being what it was of those that are closed.
static uint64_t add_up(const struct sp__sock *s, size_t counter, uint64_t gone)
{
    uint64_t sum = gone + sp__counted((const void *)((const char *)&s->ctx + counter));

    for (const struct sp__ctx *c = s->ctxs; c != NULL; c = c->next) {
        sum += sp__counted((const void *)((const char *)c + counter));
    }
    return sum;
}

/// The two equations (architecture, rule 9), with what is queued as the rest that is neither
/// written nor dropped.
static void add_totals(struct sp__json *o, struct sp__sock *s)
{
    uint64_t tx[2] = {sp__counted(&s->tx_msgs), sp__counted(&s->tx_bytes)};
    uint64_t rx[2] = {sp__counted(&s->rx_msgs), sp__counted(&s->rx_bytes)};

    for (struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        tx[0] += sp__counted(&p->tx_msgs);
        tx[1] += sp__counted(&p->tx_bytes);
        rx[0] += sp__counted(&p->rx_msgs);
        rx[1] += sp__counted(&p->rx_bytes);
    }
    add(o, "tx_msgs", tx[0]);
    add(o, "tx_bytes", tx[1]);
    add(o, "rx_msgs", rx[0]);
    add(o, "rx_bytes", rx[1]);
    add(o, "tx_accepted", sp__counted(&s->accepted));
    add(o, "tx_copies", sp__counted(&s->copies));
    add(o, "rx_received", sp__counted(&s->received));
    add(o, "rx_copies", sp__counted(&s->rx_copies));
    add(o, "rx_delivered", add_up(s, offsetof(struct sp__ctx, taken), s->ctxs_taken));
}

static void add_all_drops(struct sp__json *o, const struct sp__sock *s)
{
    uint64_t out[SP_DISCARD_REASONS] = {0};
    uint64_t in[SP_DISCARD_REASONS] = {0};

    for (const struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        out[SP_DISCARD_FULL] += sp__counted(&p->tx_dropped);
    }
    in[SP_DISCARD_STALE] = add_up(s, offsetof(struct sp__ctx, stale), s->ctxs_stale);
    add_drops(o, "tx_drops", s->drops_out, out);
    add_drops(o, "rx_drops", s->drops_in, in);
}

static void add_queues(struct sp__json *o, struct sp__sock *s)
{
    uint64_t pipes = 0;

    for (struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        pipes += sp__counted(&p->txq_depth);
    }
    add(o, "tx_queued", pipes + sp__counted(&s->pending_depth));
    add(o, "rx_queued",
        add_up(s, offsetof(struct sp__ctx, entered), s->ctxs_entered) -
            add_up(s, offsetof(struct sp__ctx, taken), s->ctxs_taken) -
            add_up(s, offsetof(struct sp__ctx, stale), s->ctxs_stale) +
            sp__counted(&s->held_depth));
}

static void add_sock(struct sp__json *o, struct sp__sock *s)
{
    struct sp__json *list;

    (void)pthread_mutex_lock(&s->lock);
    add_id(o, s->obj.id);
    sp__json_add_str(o, "name", s->name);
    sp__json_add_str(o, "protocol", s->protocol->name);
    add(o, "pipes", atomic_load_explicit(&s->peers, memory_order_relaxed));
    add(o, "reject", sp__counted(&s->rejected));
    add_totals(o, s);
    add_all_drops(o, s);
    add_queues(o, s);
    list = sp__json_add_array(o, "dialers");
    for (struct sp__ep *ep = s->eps; ep != NULL; ep = ep->next) {
        if (ep->dialer) {
            add_ep(sp__json_array_object(list), ep);
        }
    }
    list = sp__json_add_array(o, "listeners");
    for (struct sp__ep *ep = s->eps; ep != NULL; ep = ep->next) {
        if (!ep->dialer) {
            add_ep(sp__json_array_object(list), ep);
        }
    }
    list = sp__json_add_array(o, "peers");
    for (struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        // Acquire: pairs with the release in pipe_join; a pipe that is up has its addresses.
        if (atomic_load_explicit(&p->state, memory_order_acquire) == SP__PIPE_UP) {
            add_pipe(sp__json_array_object(list), p);
        }
    }
    (void)pthread_mutex_unlock(&s->lock);
}

/// posted = taken + dropped + queued. NULL: all that are gone.
static void add_mailbox(struct sp__json *o, struct sp__mailbox *mb)
{
    struct sp__mailbox_stats s;

    sp__mailbox_stats(mb, &s);
    if (mb != NULL) {
        add_id(o, mb->obj.id);
        add(o, "capacity", s.capacity);
        add(o, "queued", s.queued);
    }
    add(o, "posted", s.posted);
    add(o, "taken", s.taken);
    add(o, "full", s.refused);
    add(sp__json_add_object(o, "drops"), "closed", s.dropped);
}

/// posted = handled + dropped + queued; `received` of these came from sockets.
static void add_app(struct sp__json *o, struct sp__app *app)
{
    struct sp__app_stats s;
    struct sp__json *drops;

    sp__app_stats(app, &s);
    if (app != NULL) {
        add_id(o, app->obj.id);
        add(o, "capacity", s.capacity);
        add(o, "queued", s.queued);
    } else {
        add(o, "given_up", s.stopped);
    }
    add(o, "posted", s.posted);
    add(o, "received", s.received);
    add(o, "handled", s.handled);
    add(o, "full", s.refused);
    add(o, "restarts", s.restarts);
    drops = sp__json_add_object(o, "drops");
    add(drops, "actor_failed", s.failed);
    add(drops, "closed", s.closed);
}

static void add_mailboxes(struct sp__json *root)
{
    struct sp__json *list = sp__json_add_array(root, "mailboxes");
    struct sp__object *obj;

    for (uint32_t at = 0; (obj = sp__handle_next(SP__KIND_MAILBOX, &at)) != NULL;) {
        add_mailbox(sp__json_array_object(list), SP__CONTAINER(obj, struct sp__mailbox, obj));
        sp__drop(obj);
    }
    add_mailbox(sp__json_add_object(root, "mailboxes_closed"), NULL);
    list = sp__json_add_array(root, "actors");
    for (uint32_t at = 0; (obj = sp__handle_next(SP__KIND_ACTOR, &at)) != NULL;) {
        add_app(sp__json_array_object(list), SP__CONTAINER(obj, struct sp__app, obj));
        sp__drop(obj);
    }
    add_app(sp__json_add_object(root, "actors_stopped"), NULL);
}

/// Handles of a kind that are open.
static uint64_t count_open(enum sp__kind kind)
{
    struct sp__object *obj;
    uint64_t n = 0;

    for (uint32_t at = 0; (obj = sp__handle_next(kind, &at)) != NULL; n++) {
        sp__drop(obj);
    }
    return n;
}

static void add_runtime(struct sp__json *o)
{
    struct sp__sched_stats sched;
    uint64_t bytes;
    uint64_t hits;
    uint64_t fresh;
    uint64_t won;
    uint64_t lost;

    sp__sched_stats(&sched);
    sp__spin_stats(&won, &lost);
    sp__pool_stats(&bytes, &hits, &fresh);
    add(o, "threads", sched.threads);
    add(o, "stuck", sched.stuck);
    add(o, "stuck_now", sched.held);
    add(o, "spares", sched.spares);
    add(o, "wakes", sched.wakes);
    add(o, "turns", sched.turns);
    add(o, "spins_won", won);
    add(o, "spins_lost", lost);
    add(o, "actors", count_open(SP__KIND_ACTOR));
    add(o, "posts", sp__posts());
    add(o, "objects", sp__objects());
    add(o, "message_bytes", bytes);
    add(o, "pool_batches", hits);
    add(o, "pool_fresh", fresh);
}

static void add_all(struct sp__json *root)
{
    struct sp__json *list;
    struct sp__object *obj;

    sp__json_add_str(root, "version", sp_version());
    add_runtime(sp__json_add_object(root, "runtime"));
    list = sp__json_add_array(root, "plugins");
    for (const struct sp__plugin *p = sp__registry_plugins(); p != NULL; p = p->next) {
        struct sp__json *o = sp__json_array_object(list);

        sp__json_add_str(o, "id", p->desc->id);
        add(o, "instances", __atomic_load_n(&p->instances, __ATOMIC_RELAXED));
    }
    list = sp__json_add_array(root, "sockets");
    for (uint32_t at = 0; (obj = sp__handle_next(SP__KIND_SOCKET, &at)) != NULL;) {
        add_sock(sp__json_array_object(list), SP__CONTAINER(obj, struct sp__sock, obj));
        sp__drop(obj);
    }
    add_mailboxes(root);
}

static void add_ep_locked(struct sp__json *o, struct sp__ep *ep)
{
    (void)pthread_mutex_lock(&ep->sock->lock);
    add_ep(o, ep);
    (void)pthread_mutex_unlock(&ep->sock->lock);
}

static int stats_of(uint64_t id, struct sp__json *root)
{
    struct sp__object *obj;
    int rc = sp__enter(id, SP__KIND_NONE, &obj);

    if (rc < 0) {
        return rc;
    }
    switch (obj->kind) {
    case SP__KIND_SOCKET:
    case SP__KIND_CTX:
        add_sock(root, sp__ctx_of(obj)->sock);
        break;
    case SP__KIND_PIPE:
        add_pipe(root, SP__CONTAINER(obj, struct sp__pipe, obj));
        break;
    case SP__KIND_DIALER:
    case SP__KIND_LISTENER:
        add_ep_locked(root, SP__CONTAINER(obj, struct sp__ep, obj));
        break;
    case SP__KIND_MAILBOX:
        add_mailbox(root, SP__CONTAINER(obj, struct sp__mailbox, obj));
        break;
    case SP__KIND_ACTOR:
        add_app(root, SP__CONTAINER(obj, struct sp__app, obj));
        break;
    default:
        rc = sp__fail(SP_EINVAL, "statistics: this kind of handle has none");
    }
    sp__leave();
    return rc;
}

int sp_stats(uint64_t id, char **json)
{
    struct sp__json *root;
    int rc = sp__runtime_start();

    if (rc < 0) {
        return rc;
    }
    if (json == NULL) {
        return sp__fail(SP_EINVAL, "statistics: no place for the result");
    }
    root = sp__json_object();
    if (id != 0) {
        rc = stats_of(id, root);
    } else {
        add_all(root);
    }
    if (rc == SP_OK) {
        *json = sp__json_print(root);
        rc = *json != NULL ? SP_OK : sp__fail_code(SP_ENOMEM, "statistics");
    }
    sp__json_free(root);
    return rc;
}
