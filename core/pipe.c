/* SPDX-License-Identifier: MIT */
/// Pipes: one connection with its two I/O actors (pipe_io.c) and, here, its life under the socket's
/// actor: SHAKING → (ASKED →) UP → ENDING → GONE. The socket's actor decides every step; the I/O
/// actors and the user's actor report to it by `rx_note` (behind the messages, in order) and
/// `note`.
#include "pipe.h"

#include "error.h"
#include "platform.h"

#include <string.h>

static void pipe_destroy(struct sp__object *obj)
{
    struct sp__pipe *p = SP__CONTAINER(obj, struct sp__pipe, obj);

    if (p->opened) {
        p->ops->pipe_fini(p->ref.tran);
    }
    sp__batch_release(&p->txq);
    sp__batch_release(&p->held);
    sp__batch_release(&p->out);
    sp__batch_release(&p->late);
    sp__drop(&p->ep->obj);
    sp__drop(&p->sock->obj);
    sp__free(p->user);
    sp__free(atomic_load_explicit(&p->drops, memory_order_relaxed));
    sp__free(p->names);
    sp__free(p);
}

static _Atomic uint32_t pipe_last_id;

void sp__pipe_ids_begin(void)
{
    atomic_store_explicit(&pipe_last_id, (uint32_t)sp__platform->random(), memory_order_relaxed);
}

/// 31 bits from a random start, none used again before they wrap.
static uint32_t pipe_next_id(void)
{
    uint32_t id;

    do {
        id = (atomic_fetch_add_explicit(&pipe_last_id, 1, memory_order_relaxed) + 1) & 0x7FFFFFFF;
    } while (id == 0);
    return id;
}

/* ------------------------------------------------------------------ Up */

/// The first peer: options that had to be set before it (SP_OPTION_EARLY) are as they are.
static SP__APART void pipe_first(struct sp__sock *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->met = true;
    (void)pthread_mutex_unlock(&s->lock);
}

/// Senders are told what the smallest connection takes. `gone`: one that is no more.
static SP__APART void pipe_limit_senders(struct sp__sock *s, const struct sp__pipe *gone)
{
    uint64_t max = UINT64_MAX;
    uint64_t header = s->ref.raw ? 0 : s->ops->header_size;

    for (const struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        if (p != gone && p->added && sp__pipe_limit(p).bytes < max) {
            max = sp__pipe_limit(p).bytes;
        }
    }
    if (max != UINT64_MAX) {
        max = max > header ? max - header : 0;
    }
    atomic_store_explicit(&s->body_max, max, memory_order_relaxed);
}

/// The connection may be used: the protocol and the senders get it.
static void pipe_join(struct sp__pipe *p)
{
    struct sp__sock *s = p->sock;
    int64_t room = sp__option(&s->opt.send_buffer);
    int rc;

    p->cap = (uint32_t)(room > 0 ? room : 1);
    p->when = sp__now();
    if (!s->met) {
        pipe_first(s);
    }
    // Release: who sees it up (sp_peers, sp_stats) sees its handle and addresses.
    atomic_store_explicit(&p->state, SP__PIPE_UP, memory_order_release);
    p->added = true; // The protocol may use it at once.
    sp__slot(&s->actor, SP__SLOT_PIPE_ADD);
    rc = s->ops->pipe_add(s->ref.state, &p->ref);
    if (rc < 0) {
        p->added = false;
        sp__count(&s->rejected, 1);
        sp__ep_count(p->ep, SP__EP_REJECT);
        p->cause = "refused by the protocol";
        sp__pipe_shut(p, SP_EPEERS);
        return;
    }
    if (atomic_fetch_add_explicit(&s->peers, 1, memory_order_relaxed) == 0 &&
        s->ops->window == SP_WINDOW_PEER) {
        sp__sock_grant(s, 1);
    }
    if (s->ops->window == SP_WINDOW_PIPES) {
        sp__ctx_grant(&s->ctx, p->cap);
    }
    if (p->names->limit != 0) {
        pipe_limit_senders(s, NULL);
    }
    sp__ep_pipe_up(p->ep, p);
    if (p->user != NULL) {
        sp__user_tell(p, SP__USER_ADDED);
    }
    s->tx_again = true;
    // Release: input, which may be running, sees the handle that its messages carry.
    atomic_store_explicit(&p->rx_credit, SP__RX_WINDOW, memory_order_release);
    SP__TRACE(I20, p, p->passes);
    sp__pipe_cmd_rx(p, SP__RX_CREDIT);
    if (s->state == SP__SOCK_LINGERING) {
        sp__pipe_flush(p);
    }
}

/// The hellos are exchanged: asks the user, if there is a function for it.
static void pipe_admit(struct sp__pipe *p)
{
    struct sp__sock *s = p->sock;

    sp__ep_shaken(p->ep);
    atomic_store_explicit(&p->state, SP__PIPE_ASKED, memory_order_relaxed);
    if (sp__handle_open(&p->obj, NULL) < 0) {
        sp__pipe_shut(p, SP_ENOMEM);
        return;
    }
    // Acquire: pairs with the release of who set the function.
    if (atomic_load_explicit(&s->watched, memory_order_acquire)) {
        if (sp__pipe_user_init(p) < 0) {
            sp__pipe_shut(p, SP_ENOMEM);
            return;
        }
        sp__user_tell(p, SP__USER_ADDING);
        return;
    }
    pipe_join(p);
}

/* ------------------------------------------------------------------ The end */

void sp__pipe_shut(struct sp__pipe *p, int err)
{
    int state = atomic_load_explicit(&p->state, memory_order_relaxed);

    if (state >= SP__PIPE_ENDING) {
        return;
    }
    sp__pipes_out(p->sock); // In front of the end; from now on nothing is sent to it.
    if (state == SP__PIPE_SHAKING) {
        sp__ep_shaken(p->ep);
    }
    p->err = err;
    atomic_store_explicit(&p->state, SP__PIPE_ENDING, memory_order_relaxed);
    sp__transport_begin(p->sock, p->ops, SP__SLOT_PIPE_CLOSE);
    p->ops->pipe_close(p->ref.tran);
    sp__transport_end(p->sock);
    sp__pipe_cmd_rx(p, SP__RX_END);
    SP__TRACE(H2, p, 0);
    sp__pipe_end_output(p);
}

/// Keeps the socket's count of what its pipes hold.
static void pipe_count_held(struct sp__pipe *p)
{
    unsigned before = atomic_load_explicit(&p->held_depth, memory_order_relaxed);

    sp__count(&p->sock->held_depth, (uint64_t)p->held.n - before);
    atomic_store_explicit(&p->held_depth, (unsigned)p->held.n, memory_order_relaxed);
}

/// What was not written: back to the senders' queue, or discarded.
static void pipe_return_unsent(struct sp__pipe *p)
{
    struct sp__sock *s = p->sock;
    sp_batch unsent = p->txq;

    SP__TRACE(H12, p, p->txq.n);
    memset(&p->txq, 0, sizeof(p->txq));
    sp_batch_join(&unsent, &p->late);
    if ((s->ops->flags & SP_PROTO_REQUEUE) != 0 && s->state < SP__SOCK_ENDING) {
        sp__ctx_requeue(&s->ctx, &unsent);
        s->tx_again = true;
        return;
    }
    for (sp_msg *m; (m = sp_batch_pop(&unsent)) != NULL;) {
        sp__sock_discard(
            s, m, s->state < SP__SOCK_ENDING ? SP_DISCARD_PEER_GONE : SP_DISCARD_CLOSED, true);
    }
}

/// Both I/O actors have stopped.
static void pipe_gone(struct sp__pipe *p)
{
    struct sp__sock *s = p->sock;
    bool was_up = p->added;

    if (was_up) {
        sp__slot(&s->actor, SP__SLOT_PIPE_DEL);
        s->ops->pipe_del(s->ref.state, &p->ref);
        if (atomic_fetch_sub_explicit(&s->peers, 1, memory_order_relaxed) == 1 &&
            s->ops->window == SP_WINDOW_PEER) {
            sp__sock_grant(s, -1);
        }
        if (s->ops->window == SP_WINDOW_PIPES) {
            sp__ctx_grant(&s->ctx, -(int64_t)p->cap);
        }
        if (p->names->limit != 0) {
            pipe_limit_senders(s, p);
        }
    }
    p->added = false;
    atomic_store_explicit(&p->state, SP__PIPE_GONE, memory_order_relaxed);
    for (sp_msg *m; (m = sp_batch_pop(&p->held)) != NULL;) {
        sp__sock_discard(
            s, m, s->state < SP__SOCK_ENDING ? SP_DISCARD_PEER_GONE : SP_DISCARD_CLOSED, false);
    }
    pipe_count_held(p);
    pipe_return_unsent(p);
    sp__watch_close(&p->watch);
    if (p->user != NULL) {
        sp__user_tell(p, SP__USER_REMOVED);
    }
    if (sp__handle_close(&p->obj)) {
        sp__drop(&p->obj);
    }
    sp__sock_unlink(s, p);
    sp__ep_pipe_gone(p->ep, p, was_up);
    sp__drop(&p->obj); // The socket's.
}

static void pipe_try_gone(struct sp__pipe *p)
{
    if (!p->rx_gone || !p->tx_gone ||
        atomic_load_explicit(&p->state, memory_order_relaxed) != SP__PIPE_ENDING) {
        return;
    }
    if (p->held.head != NULL && p->added && p->sock->state < SP__SOCK_ENDING) {
        // The peer is gone, not what it sent: the receivers' queue takes it beyond its size.
        p->sock->last_offer = true;
        sp__slot(&p->sock->actor, SP__SLOT_ON_RECV);
        p->sock->ops->on_recv(p->sock->ref.state, &p->ref, &p->held);
        p->sock->last_offer = false;
    }
    pipe_gone(p);
}

/* ------------------------------------------------------------------ Reports to the socket's actor
 */

/// Gives input its credit back, by the quarter: what is owed is never so much that input stops
/// while nothing is on its way. All of it when the protocol stops taking: how much a peer can send
/// to a socket that does not receive must not depend on how it came.
static SP__APART void pipe_grant(struct sp__pipe *p)
{
    int64_t owed = p->rx_owed;
    int64_t had;

    SP__TRACE(I10, p, 2 * owed + (p->held.head != NULL));
    if (owed == 0 || (owed < SP__RX_WINDOW / 4 && p->held.head == NULL)) {
        return;
    }
    p->rx_owed = 0;
    // A stop for lack of credit is seen in the old value (see rx_harvest): then the input actor is
    // told.
    had = atomic_fetch_add_explicit(&p->rx_credit, owed, memory_order_seq_cst);
    SP__TRACE(I11, p, had);
    if (had <= 0) {
        sp__pipe_cmd_rx(p, SP__RX_CREDIT);
    }
}

static int64_t pipe_held_cost(const struct sp__pipe *p)
{
    int64_t cost = 0;

    for (const sp_msg *m = p->held.head; m != NULL; m = m->next) {
        cost += ((const struct sp__msg *)m)->cost;
    }
    return cost;
}

/// The protocol did not take all.
static SP__APART void pipe_left(struct sp__pipe *p)
{
    pipe_count_held(p);
    if (p->tx_dead && !p->sock->rx_full) {
        // The protocol does not want it though there is room: it waits for output, which is dead.
        sp__pipe_shut(p, SP_ECLOSED);
    }
    sp__sock_pause(p->sock, p);
}

/// Offers what is held, which costs `before`, to a protocol that knows the pipe.
static inline void pipe_offer(struct sp__pipe *p, int64_t before)
{
    sp__slot(&p->sock->actor, SP__SLOT_ON_RECV);
    p->sock->ops->on_recv(p->sock->ref.state, &p->ref, &p->held);
    p->rx_owed += before;
    if (p->held.head != NULL) {
        p->rx_owed -= pipe_held_cost(p);
        pipe_grant(p);
        pipe_left(p);
        return;
    }
    if (p->rx_owed >= SP__RX_WINDOW / 4) {
        pipe_grant(p);
    }
    if (atomic_load_explicit(&p->held_depth, memory_order_relaxed) != 0) {
        pipe_count_held(p);
    }
}

void sp__pipe_offer(struct sp__pipe *p)
{
    if (p->held.head != NULL && p->added) {
        pipe_offer(p, pipe_held_cost(p));
    } else if (p->held.head != NULL) {
        pipe_left(p);
    }
}

/// Whether it waits behind pipes that are to be received from first. The receivers are full: when
/// they are not any more, all are offered in turn. Not where one of many contexts may be full: see
/// sock_offer_paused.
static inline bool pipe_gives_way(const struct sp__pipe *p)
{
    const struct sp__sock *s = p->sock;

    return s->rx_full && s->paused_head != NULL &&
           s->paused_head->ref.recv_priority < p->ref.recv_priority &&
           (s->ops->flags & SP_PROTO_MANY) == 0;
}

/// It holds what came, without offering it.
static SP__APART void pipe_wait_turn(struct sp__pipe *p)
{
    pipe_grant(p);
    pipe_left(p);
}

/// More from a pipe that holds something already.
static SP__APART void pipe_held_more(struct sp__pipe *p, sp_batch *nodes)
{
    sp_batch_join(&p->held, nodes);
    if (p->paused && (p->sock->ops->flags & SP_PROTO_MANY) == 0) { // See sock_offer_paused.
        pipe_count_held(p);
    } else {
        sp__pipe_offer(p);
    }
}

/// Messages that nobody wants any more, or from a peer that must not send.
static SP__APART void pipe_refuse(struct sp__pipe *p, sp_batch *nodes)
{
    struct sp__sock *s = p->sock;

    if (p->added && s->state < SP__SOCK_ENDING) {
        sp__sock_discard_all(s, nodes, SP_DISCARD_STATE, false);
        sp__pipe_shut(p, SP_EPROTO); // A peer must not send on a one-way socket.
    } else {
        sp__sock_discard_all(s, nodes, SP_DISCARD_CLOSED, false);
    }
}

/// Messages from the input actor.
static void pipe_on_rx(struct sp__port *port, sp_batch *nodes)
{
    struct sp__pipe *p = SP__CONTAINER(port, struct sp__pipe, rx_port);
    struct sp__sock *s = p->sock;
    int64_t cost = 0;
    uint64_t bytes = 0;

    for (sp_msg *m = nodes->head; m != NULL; m = m->next) {
        cost += sp__msg(m)->cost;
        bytes += m->len;
    }
    sp__count(&p->rx_msgs, nodes->n);
    sp__count(&p->rx_bytes, bytes);
    sp__count(&s->received, nodes->n);
    if (!p->added || s->state >= SP__SOCK_ENDING || (s->ops->flags & SP__PROTO_MUTE) != 0) {
        pipe_refuse(p, nodes);
        return;
    }
    if (p->held.head == NULL) {
        p->held = *nodes;
        if (pipe_gives_way(p)) {
            pipe_wait_turn(p);
        } else {
            pipe_offer(p, cost);
        }
    } else {
        pipe_held_more(p, nodes);
    }
    sp__sock_settle(s);
}

/// The input actor says: shaken, failed, or stopped.
static void pipe_on_rx_note(struct sp__event *ev)
{
    struct sp__pipe *p = SP__CONTAINER(ev, struct sp__pipe, rx_note);
    unsigned bits;

    // Acquire: the results of the handshake (ref.proto, addresses, cause) were written before.
    bits = atomic_exchange_explicit(&p->rx_bits, 0, memory_order_acquire);
    if ((bits & SP__RX_SHAKEN) != 0 &&
        atomic_load_explicit(&p->state, memory_order_relaxed) == SP__PIPE_SHAKING) {
        pipe_admit(p);
    }
    if ((bits & SP__RX_FAILED) != 0) {
        sp__pipe_shut(p, atomic_load_explicit(&p->rx_err, memory_order_relaxed));
    }
    if ((bits & SP__RX_STOPPED) != 0) {
        p->rx_gone = true;
        pipe_try_gone(p);
    }
    sp__sock_settle(p->sock);
}

/// The output actor reports what it wrote.
static void pipe_written(struct sp__pipe *p)
{
    struct sp__sock *s = p->sock;
    // Acquire: pairs with the release in tx_report.
    int64_t done = (int64_t)atomic_exchange_explicit(&p->tx_done, 0, memory_order_acquire);

    p->inflight -= done;
    if (done == 0 || !p->added) {
        return;
    }
    if (p->late.head != NULL) {
        sp__pipe_late(p);
    }
    if (s->ops->window == SP_WINDOW_PIPES) {
        sp__ctx_grant(&s->ctx, done);
    }
    sp__slot(&s->actor, SP__SLOT_ON_WRITABLE);
    s->ops->on_writable(s->ref.state, &p->ref);
    s->tx_again = true;
}

/// Output failed. If that is because the peer is gone, what it sent before is still to be read:
/// input finds the end itself.
static void pipe_tx_failed(struct sp__pipe *p, int err)
{
    bool gone = err == SP_ECLOSED || err == -EPIPE || err == -ECONNRESET;

    if (gone && p->sock->state == SP__SOCK_OPEN) {
        p->tx_dead = true;
        p->sock->rx_again = true; // See sp__pipe_offer: what is held may have become worthless.
        sp__pipe_cmd_rx(p, SP_READY_IN | SP_READY_HUP);
    } else {
        sp__pipe_shut(p, err);
    }
}

/// Everybody else: written, broken, stopped, the user's answer, the user's wish.
static void pipe_on_note(struct sp__event *ev)
{
    struct sp__pipe *p = SP__CONTAINER(ev, struct sp__pipe, note);
    unsigned bits;

    // Acquire: pairs with the release in sp__pipe_note.
    bits = atomic_exchange_explicit(&p->bits, 0, memory_order_acquire);
    pipe_written(p);
    if ((bits & SP__NOTE_TX_FAILED) != 0) {
        pipe_tx_failed(p, atomic_load_explicit(&p->tx_err, memory_order_relaxed));
    }
    if ((bits & SP__NOTE_CLOSE) != 0) {
        sp__pipe_shut(p, SP_ECANCELED);
    }
    if ((bits & (SP__NOTE_ADMITTED | SP__NOTE_REFUSED)) != 0 &&
        atomic_load_explicit(&p->state, memory_order_relaxed) == SP__PIPE_ASKED) {
        if ((bits & SP__NOTE_REFUSED) != 0) {
            sp__count(&p->sock->rejected, 1);
            sp__ep_count(p->ep, SP__EP_REJECT);
            p->cause = "refused by the application";
            sp__pipe_shut(p, SP_EPEERS);
        } else {
            pipe_join(p);
        }
    }
    if ((bits & SP__NOTE_TX_STOPPED) != 0) {
        p->tx_gone = true;
        pipe_try_gone(p);
    }
    sp__sock_settle(p->sock);
}

/* ------------------------------------------------------------------ Making and using */

struct sp__pipe *sp__pipe_new(struct sp__ep *ep)
{
    struct sp__sock *s = ep->sock;
    size_t tran = sp__place(sizeof(struct sp__pipe), ep->transport->ops.pipe_size);
    size_t proto = sp__place(tran + ep->transport->ops.pipe_size, s->ops->pipe_size);
    size_t size = proto + s->ops->pipe_size;
    struct sp__pipe *p = sp__alloc(size);

    if (p == NULL) {
        return NULL;
    }
    memset(p, 0, size);
    sp__object_init(&p->obj, SP__KIND_PIPE, pipe_destroy);
    p->ref.state = (char *)p + proto;
    p->ref.tran = (char *)p + tran;
    p->ref.id = pipe_next_id();
    p->ref.send_priority = (uint8_t)ep->opt.send_priority;
    p->ref.recv_priority = (uint8_t)ep->opt.recv_priority;
    p->pair = ep->pair;
    p->sock = s;
    p->ep = ep;
    p->ops = &ep->transport->ops;
    sp__hold(&s->obj);
    sp__hold(&ep->obj);
    p->watch.obj = &p->obj;
    p->watch.fd = -1;
    p->cause = "";
    p->rx_port.handle = pipe_on_rx;
    sp__event_init(&p->rx_note, &s->actor, &p->obj, pipe_on_rx_note);
    sp__event_init(&p->note, &s->actor, &p->obj, pipe_on_note);
    sp__pipe_io_init(p);
    return p;
}

void sp__pipe_start(struct sp__pipe *p, int64_t due)
{
    sp__sock_link(p->sock, p);
    p->ep->pipes++;
    p->when = due;
    sp__ep_shaking(p->ep, p->when);
    p->opened = true;
    sp__pipe_cmd_rx(p, SP__RX_START);
}

void sp__pipe_cancel(struct sp__pipe *p)
{
    sp__watch_close(&p->watch);
    sp__drop(&p->obj);
}

int sp__pipe_send(struct sp__pipe *p, sp_msg *m)
{
    uint32_t cost;

    if (!sp__pipe_room(p)) {
        return SP_EAGAIN;
    }
    cost = sp__msg(m)->cost;
    if (cost == 0) {
        cost = sp__sock_cost(p->sock, m->len, p->cap);
        sp__msg(m)->cost = cost;
    }
    p->inflight += cost;
    if (p->passes && p->sock->alone && p->out.head == NULL) {
        return sp__pipe_output_one(p, m);
    }
    sp__pipe_out_link(p);
    sp_batch_push(&p->out, m);
    return SP_OK;
}

void sp__pipes_out(struct sp__sock *s)
{
    while (s->outs != NULL) {
        struct sp__pipe *p = s->outs;

        s->outs = p->out_next;
        sp__pipe_output(p);
    }
}

void sp__pipe_flush(struct sp__pipe *p)
{
    sp__pipe_cmd_tx(p, SP__TX_EAGER);
}

/// From any thread: a bit for the socket's actor.
void sp__pipe_note(struct sp__pipe *p, unsigned bit)
{
    // Release: what the bit is about was written before; pairs with the exchange in pipe_on_note.
    (void)atomic_fetch_or_explicit(&p->bits, bit, memory_order_release);
    sp__post(&p->note);
}

struct sp__who sp__pipe_who(const struct sp__pipe *p)
{
    struct sp__who who = {-1, -1, -1};

    if (p->names->who != 0) {
        memcpy(&who, p->names->text + p->names->who, sizeof(who));
    }
    return who;
}

struct sp__limit sp__pipe_limit(const struct sp__pipe *p)
{
    struct sp__limit limit = {UINT64_MAX, NULL};

    if (p->names->limit != 0) {
        memcpy(&limit, p->names->text + p->names->limit, sizeof(limit));
    }
    return limit;
}

void sp__pipe_user_close(struct sp__pipe *p)
{
    sp__pipe_note(p, SP__NOTE_CLOSE);
}
