/* SPDX-License-Identifier: MIT */
/// The queue of a context's receivers, filled by the socket's actor.
///
/// `rxq` is NULL, SP__RX_WAITING or a list. The actor pushes; receivers, one at a time under the
/// lock, take the whole list (ctx_recv.c). A receiver that found nothing swaps NULL for
/// SP__RX_WAITING; the push that replaces that mark wakes one receiver. A receiver that leaves
/// while others wait wakes the next, or sets the mark again.
#include "ctx_rx.h"

/// For the next sp__ctx_publish.
static void rx_delivered(struct sp__ctx *c, sp_msg *m)
{
    if (c->delivered.head == NULL) {
        c->publish_next = c->sock->publishes;
        c->sock->publishes = c;
    }
    sp_batch_push(&c->delivered, m);
}

/// What a queue of `cap` takes when that is the last that a pipe gives: all that a gone pipe can
/// hold, beyond a full queue.
static int64_t rx_last_cap(int64_t cap)
{
    return 4 * cap + 2 * SP__RX_WINDOW;
}

/// The queue of `cap` is full, when the message would be the next. True: not any more, or it need
/// not be.
static SP__APART bool rx_room(struct sp__ctx *c, uint64_t in, int64_t cap)
{
    if (c->sock->last_offer) {
        cap = rx_last_cap(cap);
        // Acquire: see sp__ctx_deliver.
        if ((int64_t)(in - atomic_load_explicit(&c->rx_out, memory_order_acquire)) < cap) {
            return true;
        }
    }
    // seq_cst, against sp__ctx_made_room: either it sees the mark, or we see the room.
    atomic_store_explicit(&c->rx_starved, true, memory_order_seq_cst);
    if ((int64_t)(in - atomic_load_explicit(&c->rx_out, memory_order_seq_cst)) > cap / 2) {
        c->sock->rx_full = true;
        return false;
    }
    atomic_store_explicit(&c->rx_starved, false, memory_order_relaxed);
    return true;
}

/// Words that the protocol did not take belong to the body. False: no memory to make it whole.
static SP__APART bool rx_whole(sp_msg *m)
{
    if (sp_msg_prepend(m, m->header + SP_HEADER_MAX - m->header_in, m->header_in) < 0) {
        return false;
    }
    m->header_in = 0;
    return true;
}

static inline int rx_accept(struct sp__ctx *c, sp_msg *m, uint64_t in, uint32_t cost)
{
    sp__msg(m)->cost = cost;
    sp__msg(m)->round = c->round;
    // Release: a receiver that has the message sees it counted; pairs with sp__ctx_made_room.
    atomic_store_explicit(&c->rx_in, in + cost, memory_order_release);
    sp__count(&c->entered, 1);
    rx_delivered(c, m);
    return SP_OK;
}

/// To a queue that is full (`cap` is not 0), or with words in front of the body.
static SP__APART int rx_accept_any(struct sp__ctx *c, sp_msg *m, uint32_t cost, int64_t cap)
{
    uint64_t in = atomic_load_explicit(&c->rx_in, memory_order_relaxed);

    if (cap > 0 && !rx_room(c, in, cap)) {
        return SP_EAGAIN;
    }
    if (m->header_in > 0 && !rx_whole(m)) {
        sp__sock_discard(c->sock, m, SP_DISCARD_FULL, false);
        return SP_OK;
    }
    return rx_accept(c, m, in, cost);
}

int sp__ctx_deliver(struct sp__ctx *c, sp_msg *m)
{
    int64_t cap = sp__option(&c->sock->opt.recv_buffer);
    uint64_t in = atomic_load_explicit(&c->rx_in, memory_order_relaxed);
    uint32_t cost = sp__sock_cost(c->sock, m->len, cap);

    cap = cap > 0 ? cap : 1;
    // Acquire: pairs with the store in sp__ctx_made_room.
    if ((int64_t)(in - atomic_load_explicit(&c->rx_out, memory_order_acquire)) >= cap) {
        return rx_accept_any(c, m, cost, cap);
    }
    return m->header_in > 0 ? rx_accept_any(c, m, cost, 0) : rx_accept(c, m, in, cost);
}

/// For the end of this visit.
static void rx_excess(struct sp__ctx *c)
{
    if (!c->excess) {
        c->excess = true;
        c->excess_next = c->sock->excesses;
        c->sock->excesses = c;
    }
}

void sp__ctx_deliver_latest(struct sp__ctx *c, sp_msg *m)
{
    int64_t cap = sp__option(&c->sock->opt.recv_buffer);
    uint32_t cost = sp__sock_cost(c->sock, m->len, cap);

    (void)rx_accept_any(c, m, cost, 0); // Of any size: it takes it.
    cap = cap > 0 ? cap : 1;
    if (c->sock->last_offer && (c->waited || c->hold_until > 0)) {
        cap = rx_last_cap(cap); // What was held for its receiver.
    }
    // Acquire: as in sp__ctx_deliver.
    if ((int64_t)(atomic_load_explicit(&c->rx_in, memory_order_relaxed) -
                  atomic_load_explicit(&c->rx_out, memory_order_acquire)) > cap) {
        rx_excess(c);
    }
}

size_t sp__ctx_room(struct sp__ctx *c)
{
    int64_t cap = sp__option(&c->sock->opt.recv_buffer);
    uint64_t in = atomic_load_explicit(&c->rx_in, memory_order_relaxed);
    int64_t room;

    cap = cap > 0 ? cap : 1;
    // Acquire: as in sp__ctx_deliver.
    room = cap - (int64_t)(in - atomic_load_explicit(&c->rx_out, memory_order_acquire));
    if (room <= 0) {
        room = rx_room(c, in, cap) ? 1 : 0;
    }
    return (size_t)room;
}

void sp__ctx_fail(struct sp__ctx *c, int err)
{
    sp_msg *m = c->note != NULL ? c->note : sp__msg_new(0);

    if (m == NULL) {
        return; // The second one in a row without memory; the receiver's own time-out remains.
    }
    c->note = sp__msg_new(0);
    m->header_len = SP__MSG_FAILURE;
    sp__msg(m)->pipe = (uint64_t)(int64_t)err;
    sp__msg(m)->round = c->round;
    rx_delivered(c, m);
}

/// A chain, oldest first, turned round; returns its newest.
static SP__APART struct sp__node *rx_turn(struct sp__node *oldest)
{
    struct sp__node *newest = NULL;

    for (struct sp__node *n = oldest, *next; n != NULL; n = next) {
        next = n->next;
        n->next = newest;
        newest = n;
    }
    return newest;
}

/// Pushes what was delivered, which begins with `oldest`. True: it found the mark.
static inline bool rx_push(struct sp__ctx *c, struct sp__node *oldest)
{
    struct sp__node *newest = oldest->next != NULL ? rx_turn(oldest) : oldest;
    struct sp__node *head;

    SP__TRACE(D1, c, c->delivered.n);
    c->delivered = (sp_batch){NULL, NULL, 0};
    head = atomic_load_explicit(&c->rxq, memory_order_relaxed);
    // Release: the messages; pairs with the acquire of sp__ctx_pull. Finding the mark needs no
    // acquire: who set it put its waiter into the list under the lock that is taken below. seq_cst:
    // against who begins to observe, see observe.h.
    do {
        oldest->next = head == SP__RX_WAITING ? NULL : head;
    } while (!atomic_compare_exchange_weak_explicit(&c->rxq, &head, newest, memory_order_seq_cst,
                                                    memory_order_relaxed));
    SP__TRACE(D2, c, head);
    SP__TRACE(D3, c, newest);
    return head == SP__RX_WAITING;
}

/// Tells those who observe the queue. Under the lock, which it gives up.
static void rx_tell(struct sp__ctx *c)
{
    sp__observers_look(&c->observers);
    sp__ctx_unlock(c);
}

/// The push found the mark: wakes a receiver. Under the lock, which it gives up.
static void rx_wake(struct sp__ctx *c)
{
    struct sp__wake wake = sp__waiter_pop(&c->receivers);

    c->waited = c->waited || !c->early;
    c->early = false;
    SP__TRACE(D4, c, sp__wake_id(wake));
    if (wake.op != NULL && wake.op->receives) {
        wake = sp__rx_op(wake.op->ctx, wake.op, true);
    } else {
        sp__unlock(&c->lock);
    }
    sp__wake(wake);
}

/// Behind a push without the lock: somebody waits, or observes.
static SP__APART void rx_pushed(struct sp__ctx *c, bool waits)
{
    sp__lock(&c->lock);
    if (waits) {
        rx_wake(c);
        if (!sp__observed_after(&c->observers, SP_POLLIN)) {
            return;
        }
        sp__lock(&c->lock);
    }
    rx_tell(c);
}

/// While somebody observes the queue messages are pushed under the lock: nobody receives one before
/// they know of it, but for receivers that wait, which come first.
static SP__APART void rx_push_observed(struct sp__ctx *c, struct sp__node *oldest)
{
    sp__lock(&c->lock);
    // Who observes an empty queue waits, too.
    c->waited = c->waited || (c->local.head == NULL &&
                              atomic_load_explicit(&c->rxq, memory_order_relaxed) == NULL);
    if (rx_push(c, oldest)) {
        rx_wake(c);
        sp__lock(&c->lock);
    }
    rx_tell(c);
}

void sp__ctx_publish(struct sp__ctx *c)
{
    struct sp__node *oldest = (struct sp__node *)c->delivered.head;
    bool waits;

    if (oldest == NULL) {
        return;
    }
    if (sp__observed(&c->observers, SP_POLLIN)) {
        rx_push_observed(c, oldest);
        return;
    }
    waits = rx_push(c, oldest);
    if (waits || sp__observed_after(&c->observers, SP_POLLIN)) {
        rx_pushed(c, waits);
    }
}
