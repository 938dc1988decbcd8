/* SPDX-License-Identifier: MIT */
/// Receiving: the queue from the socket's actor to receivers, and who waits for it.
///
/// `rxq` is NULL, RX_WAITING or a list. The actor pushes; receivers, one at a time under the lock,
/// take the whole list. A receiver that found nothing swaps NULL for RX_WAITING; the push that
/// replaces that mark wakes one receiver. A receiver that leaves while others wait wakes the next,
/// or sets the mark again.
#include "cork.h"
#include "ctx.h"
#include "error.h"
#include "runtime.h"
#include "scope.h"

#include <string.h>

#define RX_WAITING ((struct sp__node *)1)

/// For the next sp__ctx_publish.
static void rx_delivered(struct sp__ctx *c, sp_msg *m)
{
    if (c->delivered.head == NULL) {
        c->publish_next = c->sock->publishes;
        c->sock->publishes = c;
    }
    sp_batch_push(&c->delivered, m);
}

/// The queue of `cap` is full, when the message would be the next. True: not any more, or it need
/// not be.
static SP__APART bool rx_room(struct sp__ctx *c, uint64_t in, int64_t cap)
{
    if (c->sock->last_offer) {
        cap = 4 * cap + 2 * SP__RX_WINDOW; // All that a gone pipe can hold, beyond a full queue.
        // Acquire: see sp__ctx_deliver.
        if ((int64_t)(in - atomic_load_explicit(&c->rx_out, memory_order_acquire)) < cap) {
            return true;
        }
    }
    // seq_cst, against rx_made_room: either it sees the mark, or we see the room.
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
    // Release: a receiver that has the message sees it counted; pairs with rx_made_room.
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
    // Acquire: pairs with the store in rx_made_room.
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
    // Acquire: as in sp__ctx_deliver.
    if ((int64_t)(atomic_load_explicit(&c->rx_in, memory_order_relaxed) -
                  atomic_load_explicit(&c->rx_out, memory_order_acquire)) > (cap > 0 ? cap : 1)) {
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

/// Puts a list, newest first, behind a batch, oldest first.
static SP__APART void rx_join_turned(sp_batch *b, struct sp__node *list)
{
    sp_batch turned = {NULL, NULL, 0};

    while (list != NULL) {
        struct sp__node *next = list->next;

        sp_batch_unpop(&turned, (sp_msg *)list);
        list = next;
    }
    sp_batch_join(b, &turned);
}

bool sp__ctx_pull(struct sp__ctx *c)
{
    struct sp__node *list = atomic_load_explicit(&c->rxq, memory_order_relaxed);

    if (list == NULL || list == RX_WAITING) {
        return false;
    }
    // Acquire: pairs with the release of every push in the list. Only this side ever makes a list
    // NULL.
    list = atomic_exchange_explicit(&c->rxq, NULL, memory_order_acquire);
    SP__TRACE(D6, c, list);
    if (list->next == NULL && c->local.head == NULL) {
        c->local = (sp_batch){(sp_msg *)list, (sp_msg *)list, 1};
    } else {
        rx_join_turned(&c->local, list);
    }
    SP__TRACE(D19, c, c->local.n);
    return true;
}

/// For those who go on waiting: wakes the next receiver if there is something, else sees to it that
/// the next push does. Under the lock; who is returned is to be woken after it.
static struct sp__wake rx_pass_on(struct sp__ctx *c)
{
    struct sp__node *none = NULL;
    struct sp__wake next = {NULL, NULL};

    if (c->receivers.head == NULL) {
        return next;
    }
    // seq_cst: the mark is set, or what is there is seen; a push after it finds the mark.
    if (c->local.head == NULL &&
        (atomic_compare_exchange_strong_explicit(&c->rxq, &none, RX_WAITING, memory_order_seq_cst,
                                                 memory_order_relaxed) ||
         none == RX_WAITING)) {
        SP__TRACE(D13, c, none);
        return next;
    }
    next = sp__waiter_pop(&c->receivers);
    SP__TRACE(D14, c, sp__wake_id(next));
    return next;
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
        oldest->next = head == RX_WAITING ? NULL : head;
    } while (!atomic_compare_exchange_weak_explicit(&c->rxq, &head, newest, memory_order_seq_cst,
                                                    memory_order_relaxed));
    SP__TRACE(D2, c, head);
    SP__TRACE(D3, c, newest);
    return head == RX_WAITING;
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

    SP__TRACE(D4, c, sp__wake_id(wake));
    sp__unlock(&c->lock);
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

/// Receivers took messages of this cost: tells the actor, if it waits for that and half of the
/// queue is free.
static void rx_made_room(struct sp__ctx *c, uint64_t cost)
{
    uint64_t out = atomic_load_explicit(&c->rx_out, memory_order_relaxed) + cost;
    int64_t cap = sp__option(&c->sock->opt.recv_buffer);

    // seq_cst: see sp__ctx_deliver.
    atomic_store_explicit(&c->rx_out, out, memory_order_seq_cst);
    if (atomic_load_explicit(&c->rx_starved, memory_order_seq_cst) &&
        (int64_t)(atomic_load_explicit(&c->rx_in, memory_order_relaxed) - out) <= cap / 2 &&
        atomic_exchange_explicit(&c->rx_starved, false, memory_order_relaxed)) {
        sp__post(&c->space);
    }
}

void sp__ctx_made_room(struct sp__ctx *c, uint64_t cost)
{
    rx_made_room(c, cost);
}

/// The oldest message that is of interest to a context; drops answers to earlier questions. Under
/// the lock; NULL: none.
static SP__APART sp_msg *rx_look(struct sp__ctx *c)
{
    struct sp__ctx *q = c->rx;

    for (;;) {
        sp_msg *m = q->local.head;

        if (m == NULL) {
            if (!sp__ctx_pull(q)) {
                return NULL;
            }
            continue;
        }
        if ((c->sock->ops->flags & SP_PROTO_ASKS) == 0 || sp__msg(m)->round == c->asked) {
            return m;
        }
        (void)sp_batch_pop(&q->local);
        SP__TRACE(D20, q, 1);
        sp__count(&q->stale, m->header_len != SP__MSG_FAILURE);
        rx_made_room(q, sp__msg(m)->cost);
        sp_batch_push(&q->trash, m);
    }
}

/// The same, where the first one is.
static inline sp_msg *rx_first(struct sp__ctx *c)
{
    if (c->rx->local.head != NULL && (c->sock->ops->flags & SP_PROTO_ASKS) == 0) {
        return c->rx->local.head;
    }
    return rx_look(c);
}

/// Takes the message that rx_first gave, with what the protocol's flags say, and adds what it cost,
/// for rx_made_room, to `room`. Under the lock.
static inline sp_msg *rx_take_of(struct sp__ctx *c, uint64_t *room)
{
    struct sp__ctx *q = c->rx;
    sp_msg *m = sp_batch_pop(&q->local);
    uint32_t flags = c->sock->ops->flags;

    SP__TRACE(D16, q, 1);
    if ((flags & SP_PROTO_REPLIES) != 0) {
        c->may_reply = true;
        c->reply_len = m->header_len;
        c->reply_peer = m->peer;
        memcpy(c->reply_header, m->header, m->header_len);
    }
    if (!c->sock->ref.raw) {
        m->header_len = 0;
    }
    if ((flags & (SP_PROTO_ASKS | SP_PROTO_MANY)) == SP_PROTO_ASKS) {
        c->asking = false;
    }
    sp__count(&q->taken, 1);
    *room += sp__msg(m)->cost;
    sp__msg(m)->cost = 0;
    return m;
}

/// Takes one.
static inline sp_msg *rx_take(struct sp__ctx *c)
{
    uint64_t room = 0;
    sp_msg *m = rx_take_of(c, &room);

    rx_made_room(c->rx, room);
    return m;
}

void sp__ctx_unlock(struct sp__ctx *q)
{
    sp_batch trash = {NULL, NULL, 0};

    if (q->trash.head != NULL) {
        sp_batch_join(&trash, &q->trash);
    }
    sp__unlock(&q->lock);
    if (trash.head != NULL) {
        sp__batch_release(&trash);
    }
}

/// Whether receiving makes sense at all; under the lock.
static int rx_allowed(struct sp__ctx *c)
{
    if (atomic_load_explicit(&c->closed, memory_order_relaxed)) {
        return SP_ECLOSED;
    }
    if (c->tap != NULL) {
        return SP_ESTATE;
    }
    if ((c->sock->ops->flags & SP_PROTO_ASKS) != 0 && !c->asking) {
        return SP_ESTATE;
    }
    return SP_OK;
}

bool sp__ctx_readable(struct sp__ctx *c)
{
    return (c->sock->ops->flags & SP_PROTO_NO_RECV) == 0 && rx_allowed(c) == SP_OK &&
           rx_first(c) != NULL;
}

/// A receiver took something: who observes the queue is told. Under the lock.
static void rx_changed(struct sp__ctx *q)
{
    sp__observers_changed(&q->observers, SP_POLLIN | SP_POLLOUT);
}

/// Joins those who wait for a message, as the queue was found empty; under the lock. False: there
/// is something now.
static bool rx_join(struct sp__ctx *q, struct sp__waiter *w, bool first)
{
    struct sp__node *none = NULL;

    SP__TRACE(D7, q, q->local.n);
    sp__waiter_add(&q->receivers, w, first);
    SP__TRACE(D8, q, w->thread != NULL ? (void *)w->thread : (void *)w);
    // seq_cst: the mark is set, or what is there is seen; a push after it finds the mark.
    if (!atomic_compare_exchange_strong_explicit(&q->rxq, &none, RX_WAITING, memory_order_seq_cst,
                                                 memory_order_relaxed) &&
        none != RX_WAITING) {
        sp__waiter_remove(&q->receivers, w);
    }
    SP__TRACE(D9, q, none);
    return w->queued;
}

/// Sleeps until there may be a message. SP_ETIMEDOUT, SP_ESTATE.
static int rx_wait(struct sp__ctx *c, int64_t deadline)
{
    struct sp__ctx *q = c->rx;
    struct sp__waiter w = {.thread = sp__self(), .ctx = c};
    struct sp__wake next = {NULL, NULL};
    bool in_time = true;
    bool waits;

    if (!sp__may_block()) {
        return SP_ESTATE;
    }
    sp__lock(&q->lock);
    waits = q->local.head == NULL && rx_allowed(c) == SP_OK && rx_join(q, &w, false);
    sp__unlock(&q->lock);
    if (waits) {
        in_time = sp__sock_block(c->sock, deadline) || sp__now() < deadline;
        SP__TRACE(D10, q, in_time);
        sp__lock(&q->lock);
        SP__TRACE(D11, q, w.queued);
        if (w.queued) {
            sp__waiter_remove(&q->receivers, &w);
        } else {
            in_time = true; // It was woken for a message.
        }
        if (!in_time) {
            next = rx_pass_on(q);
            SP__TRACE(D12, q, sp__wake_id(next));
        }
        sp__unlock(&q->lock);
    }
    sp__wake(next);
    return in_time ? SP_OK : SP_ETIMEDOUT;
}

static int recv_fail(struct sp__ctx *c, int err)
{
    switch (err) {
    case SP_ECLOSED:
        return sp__fail(err, "receive: the socket was closed");
    case SP_EAGAIN:
        return sp__fail(err, "receive: nothing there now");
    case SP_ETIMEDOUT:
        return sp__fail(err, "receive: timed out");
    case SP_ECANCELED:
        return sp__fail(err, "receive: the scope was cancelled");
    case SP_ENOTSUP:
        return sp__fail(err, "receive: the protocol \"%s\" only sends", c->sock->protocol->name);
    case SP_ESTATE:
        if ((c->sock->ops->flags & SP_PROTO_ASKS) != 0 && c->tap == NULL) {
            return sp__fail(err, "receive: \"%s\" has no question under way (send one first)",
                            c->sock->protocol->name);
        }
        return sp__fail(
            err, "receive: what the socket receives goes to a mailbox, an actor or a device");
    default:
        return err;
    }
}

/// The protocol ended what was waited for: takes that, which is next. Returns its error.
static int rx_end(struct sp__ctx *c)
{
    sp_msg *m = sp_batch_pop(&c->rx->local);

    SP__TRACE(D16, c->rx, 1);
    c->asking = false;
    sp_batch_push(&c->rx->trash, m);
    return (int)(int64_t)sp__msg(m)->pipe;
}

/// The same, for one of those who wait: all of them are told, and the last one takes it.
static int rx_take_failure(struct sp__ctx *c)
{
    return c->rx->receivers.head == NULL ? rx_end(c)
                                         : (int)(int64_t)sp__msg(c->rx->local.head)->pipe;
}

/// Takes what is there by `take`, with the lock held, which is given up. Returns its result.
static ssize_t recv_take(struct sp__ctx *c, ssize_t (*take)(struct sp__ctx *, void *), void *arg)
{
    struct sp__ctx *q = c->rx;
    bool failure = q->local.head->header_len == SP__MSG_FAILURE;
    ssize_t rc = failure ? rx_take_failure(c) : take(c, arg);
    struct sp__wake next;

    rx_changed(q);
    next = rx_pass_on(q);
    SP__TRACE(D15, q, sp__wake_id(next));
    sp__ctx_unlock(q);
    sp__wake(next);
    sp__run_posted(sp__option(&c->sock->opt.in_place) != 0);
    return failure ? sp__fail_code((int)rc, "receive: the question is over") : rc;
}

/// There is nothing to be had: how a blocking call goes on. SP_OK: it tries again.
static int recv_idle(struct sp__ctx *c, int64_t timeout, int64_t *deadline)
{
    int rc;

    if (sp__uncork()) {
        return SP_OK; // What this thread sent may have its answer already.
    }
    if (timeout == 0) {
        return SP_EAGAIN;
    }
    *deadline = *deadline == 0 ? sp__sock_deadline(timeout) : *deadline;
    rc = sp__scope_over();
    return rc == SP_OK ? rx_wait(c, *deadline) : rc;
}

/// Takes the next message, of at most `cap` bytes, if it is there and nothing is special about it.
/// NULL: recv_with, to look closer or to wait.
static inline sp_msg *recv_quick(struct sp__ctx *c, size_t cap)
{
    struct sp__ctx *q = c->rx;
    struct sp__wake next = {NULL, NULL};
    sp_msg *m = NULL;

    if ((c->sock->ops->flags & (SP_PROTO_NO_RECV | SP_PROTO_ASKS)) != 0 ||
        sp__observed(&q->observers, SP_POLLIN | SP_POLLOUT)) {
        return NULL;
    }
    sp__lock(&q->lock);
    if (rx_allowed(c) == SP_OK && !sp__observed(&q->observers, SP_POLLIN | SP_POLLOUT) &&
        (q->local.head != NULL || sp__ctx_pull(q)) && q->local.head->len <= cap &&
        q->local.head->header_len != SP__MSG_FAILURE) {
        m = rx_take(c);
        if (q->receivers.head != NULL) {
            next = rx_pass_on(q);
        }
        SP__TRACE(D15, q, sp__wake_id(next));
    }
    sp__unlock(&q->lock);
    if (sp__wakes(next)) {
        sp__wake(next);
    }
    if (m != NULL) {
        sp__run_posted(sp__option(&c->sock->opt.in_place) != 0);
    }
    return m;
}

/// Waits until there is a message and calls `take` with the lock held; it returns a count or an
/// error.
static SP__APART ssize_t recv_with(struct sp__ctx *c, int64_t timeout,
                                   ssize_t (*take)(struct sp__ctx *, void *), void *arg)
{
    struct sp__ctx *q = c->rx;
    struct sp__wake next = {NULL, NULL};
    ssize_t rc = (c->sock->ops->flags & SP_PROTO_NO_RECV) != 0 ? SP_ENOTSUP : SP_OK;
    int64_t deadline = 0;
    bool in_callback = false;

    while (rc == SP_OK) {
        sp__lock(&q->lock);
        rc = rx_allowed(c);
        if (rc == SP_OK && rx_first(c) != NULL) {
            return recv_take(c, take, arg);
        }
        if (rc != SP_OK && q->receivers.head != NULL) {
            next = rx_pass_on(q); // It may have been its turn.
            SP__TRACE(D15, q, sp__wake_id(next));
        }
        sp__ctx_unlock(q);
        if (rc == SP_OK) {
            rc = recv_idle(c, timeout, &deadline);
            in_callback = rc == SP_ESTATE; // Then sp__may_block has said so.
        }
    }
    sp__wake(next);
    sp__run_posted(sp__option(&c->sock->opt.in_place) != 0); // Stale answers may have made room.
    return in_callback ? rc : recv_fail(c, (int)rc);
}

/// What is received goes one at a time: the next one may be another question's, or another answer.
static bool rx_singly(const struct sp__ctx *c)
{
    uint32_t flags = c->sock->ops->flags;

    return (flags & SP_PROTO_REPLIES) != 0 ||
           (flags & (SP_PROTO_ASKS | SP_PROTO_MANY)) == SP_PROTO_ASKS;
}

struct recv_into {
    size_t cap;
    sp_msg **m;
    size_t n;
};

static ssize_t recv_take_msgs(struct sp__ctx *c, void *arg)
{
    struct recv_into *into = arg;
    size_t max = rx_singly(c) ? 1 : into->n;
    uint64_t room = 0;
    size_t got = 0;

    while (got < max && rx_first(c) != NULL && c->rx->local.head->header_len != SP__MSG_FAILURE) {
        into->m[got++] = rx_take_of(c, &room);
    }
    rx_made_room(c->rx, room);
    return (ssize_t)got;
}

/// Takes the next message if it fits; it is copied after the lock is gone.
static ssize_t recv_take_fitting(struct sp__ctx *c, void *arg)
{
    struct recv_into *into = arg;
    size_t len = c->rx->local.head->len;

    if (len > into->cap) {
        return sp__fail(SP_EMSGSIZE, "receive: the message has %zu bytes, the buffer %zu", len,
                        into->cap);
    }
    into->m[0] = rx_take(c);
    return (ssize_t)len;
}

int sp__ctx_recv(struct sp__ctx *c, sp_msg **m, size_t n, int64_t timeout)
{
    struct recv_into into = {.m = m, .n = n < INT32_MAX ? n : INT32_MAX};

    if (n == 1 && (m[0] = recv_quick(c, SIZE_MAX)) != NULL) {
        return 1;
    }
    return n == 0 ? 0 : (int)recv_with(c, timeout, recv_take_msgs, &into);
}

/// Not inline: recv_quick needs none of this.
static SP__APART ssize_t recv_fitting(struct sp__ctx *c, sp_msg **m, size_t cap, int64_t timeout)
{
    struct recv_into into = {.cap = cap, .m = m};

    return recv_with(c, timeout, recv_take_fitting, &into);
}

ssize_t sp__ctx_recv_into(struct sp__ctx *c, void *buf, size_t cap, int64_t timeout)
{
    sp_msg *m = recv_quick(c, cap);
    ssize_t rc = m != NULL ? (ssize_t)m->len : recv_fitting(c, &m, cap, timeout);

    if (rc > 0 && m != NULL) {
        memcpy(buf, m->data, (size_t)rc);
    }
    sp__msg_release(m);
    return rc;
}

/* ------------------------------------------------------------------ Operations */

/// A message for an operation, or an error for it. False: it waits, and is no longer ours. Under
/// the lock.
static bool op_take(struct sp__ctx *c, struct sp__waiter *w, bool first, sp_msg **m, int *rc)
{
    *rc = (c->sock->ops->flags & SP_PROTO_NO_RECV) != 0 ? SP_ENOTSUP : rx_allowed(c);
    while (*rc == SP_OK && rx_first(c) == NULL) {
        if (w->left) {
            *rc = SP_ECANCELED;
        } else if (rx_join(c->rx, w, first)) {
            return false;
        }
    }
    if (*rc == SP_OK && c->rx->local.head->header_len == SP__MSG_FAILURE) {
        *rc = rx_take_failure(c); // Whatever the protocol gave.
    } else if (*rc == SP_OK) {
        *m = rx_take(c);
    }
    return true;
}

struct sp__wake sp__ctx_recv_op(struct sp__ctx *c, struct sp__waiter *w, bool first)
{
    struct sp__ctx *q = c->rx;
    struct sp__wake next = {NULL, NULL};
    sp_msg *m = NULL;
    bool through;
    int rc;

    sp__lock(&q->lock);
    through = op_take(c, w, first, &m, &rc);
    if (through) {
        rx_changed(q);
        next = rx_pass_on(q);
        SP__TRACE(D15, q, sp__wake_id(next));
    }
    sp__ctx_unlock(q);
    if (through) {
        w->over(w, rc, m);
    }
    return next;
}

bool sp__ctx_recv_leave(struct sp__ctx *c, struct sp__waiter *w, struct sp__wake *next)
{
    bool queued;

    sp__lock(&c->rx->lock);
    w->left = true;
    queued = w->queued;
    if (c->tap == w) {
        c->tap = NULL;
        rx_changed(c->rx);
    }
    if (queued) {
        SP__TRACE(D11, c->rx, queued);
        sp__waiter_remove(&c->rx->receivers, w);
        *next = rx_pass_on(c->rx);
        SP__TRACE(D12, c->rx, sp__wake_id(*next));
    }
    sp__unlock(&c->rx->lock);
    return queued;
}

int sp__ctx_next_size(struct sp__ctx *c, int64_t *size)
{
    sp_msg *m;

    sp__lock(&c->rx->lock);
    m = rx_first(c);
    m = m != NULL && m->header_len != SP__MSG_FAILURE ? m : NULL;
    *size = m != NULL ? (int64_t)m->len : 0;
    sp__ctx_unlock(c->rx);
    sp__run_posted(sp__option(&c->sock->opt.in_place) != 0);
    return m != NULL ? SP_OK : sp__fail(SP_EAGAIN, "recv-next-size: there is no message");
}

/* ------------------------------------------------------------------ Taps */

int sp__ctx_tap(struct sp__ctx *c, struct sp__waiter *w)
{
    struct sp__wake wake = {NULL, NULL};
    int rc = SP_OK;

    if ((c->sock->ops->flags & SP_PROTO_NO_RECV) != 0) {
        return SP_ENOTSUP;
    }
    do { // Who waits in vain from now on is told.
        sp__lock(&c->lock);
        if (atomic_load_explicit(&c->closed, memory_order_relaxed)) {
            rc = SP_ECLOSED;
        } else if (c->tap != NULL && c->tap != w) {
            rc = SP_ESTATE;
        } else {
            c->tap = w;
            rx_changed(c); // Nobody else can receive.
            wake = sp__waiter_pop_of(&c->receivers, c);
        }
        sp__unlock(&c->lock);
        sp__wake(wake);
    } while (rc == SP_OK && sp__wakes(wake));
    return rc;
}

/// Moves what is there, until there are `max`; one at a time where an answer goes to the last one.
/// Under the lock.
static void tap_move(struct sp__ctx *c, sp_batch *out, size_t max)
{
    uint64_t room = 0;

    while (out->n < max && rx_first(c) != NULL) {
        if (c->local.head->header_len == SP__MSG_FAILURE) {
            (void)rx_end(c); // A question without an answer: none comes.
            continue;
        }
        sp_batch_push(out, rx_take_of(c, &room));
        if (rx_singly(c)) {
            break;
        }
    }
    rx_made_room(c, room);
}

ssize_t sp__ctx_tap_take(struct sp__ctx *c, struct sp__waiter *w, sp_batch *out, size_t max,
                         struct sp__tap_turn *turn)
{
    size_t before = out->n;
    bool waits;
    bool gone;

    sp__lock(&c->lock);
    waits = w->queued;
    gone = atomic_load_explicit(&c->closed, memory_order_relaxed) || c->tap != w;
    while (!gone && out->n == before && !waits) {
        tap_move(c, out, before + max);
        waits = out->n == before && rx_join(c, w, false);
        turn->joined = waits;
    }
    rx_changed(c);
    if (!waits) {
        turn->next = rx_pass_on(c);
        SP__TRACE(D15, c, sp__wake_id(turn->next));
    }
    sp__ctx_unlock(c);
    return gone ? SP_ECLOSED : (ssize_t)(out->n - before);
}

void sp__ctx_tap_back(struct sp__ctx *c, sp_batch *b)
{
    for (sp_msg *m = b->head; m != NULL; m = m->next) {
        sp__msg(m)->cost = 0; // Its room was given back when it was taken.
    }
    sp__lock(&c->lock);
    sp__count(&c->taken, (uint64_t)0 - b->n);
    sp_batch_join(b, &c->local);
    sp_batch_join(&c->local, b);
    sp__unlock(&c->lock);
}

int sp__ctx_watch(struct sp__ctx *c, struct sp__waiter *w, bool *joined)
{
    bool closed;

    sp__lock(&c->lock);
    closed = atomic_load_explicit(&c->closed, memory_order_relaxed);
    *joined = !closed && !w->queued;
    if (*joined) {
        sp__waiter_add(&c->receivers, w, false); // Without the mark: no message wakes it.
    }
    sp__unlock(&c->lock);
    return closed ? SP_ECLOSED : SP_OK;
}

bool sp__ctx_unwatch(struct sp__ctx *c, struct sp__waiter *w)
{
    bool queued;

    sp__lock(&c->lock);
    queued = w->queued;
    if (queued) {
        sp__waiter_remove(&c->receivers, w);
    }
    sp__unlock(&c->lock);
    return queued;
}
