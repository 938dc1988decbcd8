/* SPDX-License-Identifier: MIT */
/// Receiving: taking from the queue, and waiting for it. What fills it is in ctx_deliver.c,
/// receiving without blocking in ctx_async.c.
#include "cork.h"
#include "ctx_rx.h"
#include "error.h"
#include "runtime.h"
#include "scope.h"

#include <string.h>

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

    if (list == NULL || list == SP__RX_WAITING) {
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

struct sp__wake sp__rx_pass_on(struct sp__ctx *c)
{
    struct sp__node *none = NULL;
    struct sp__wake next = {NULL, NULL};

    if (c->receivers.head == NULL) {
        return next;
    }
    // seq_cst: the mark is set, or what is there is seen; a push after it finds the mark.
    if (c->local.head == NULL &&
        (atomic_compare_exchange_strong_explicit(&c->rxq, &none, SP__RX_WAITING,
                                                 memory_order_seq_cst, memory_order_relaxed) ||
         none == SP__RX_WAITING)) {
        SP__TRACE(D13, c, none);
        return next;
    }
    next = sp__waiter_pop(&c->receivers);
    SP__TRACE(D14, c, sp__wake_id(next));
    return next;
}

void sp__ctx_made_room(struct sp__ctx *c, uint64_t cost)
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

SP__APART sp_msg *sp__rx_look(struct sp__ctx *c)
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
        sp__ctx_made_room(q, sp__msg(m)->cost);
        sp_batch_push(&q->trash, m);
    }
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

bool sp__ctx_readable(struct sp__ctx *c)
{
    return (c->sock->ops->flags & SP_PROTO_NO_RECV) == 0 && sp__rx_allowed(c) == SP_OK &&
           sp__rx_first(c) != NULL;
}

bool sp__rx_join(struct sp__ctx *q, struct sp__waiter *w, bool first)
{
    struct sp__node *none = NULL;

    SP__TRACE(D7, q, q->local.n);
    sp__waiter_add(&q->receivers, w, first);
    SP__TRACE(D8, q, w->thread != NULL ? (void *)w->thread : (void *)w);
    // seq_cst: the mark is set, or what is there is seen; a push after it finds the mark.
    if (!atomic_compare_exchange_strong_explicit(&q->rxq, &none, SP__RX_WAITING,
                                                 memory_order_seq_cst, memory_order_relaxed) &&
        none != SP__RX_WAITING) {
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
    waits = q->local.head == NULL && sp__rx_allowed(c) == SP_OK && sp__rx_join(q, &w, false);
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
            next = sp__rx_pass_on(q);
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

int sp__rx_end(struct sp__ctx *c)
{
    sp_msg *m = sp_batch_pop(&c->rx->local);

    SP__TRACE(D16, c->rx, 1);
    c->asking = false;
    sp_batch_push(&c->rx->trash, m);
    return (int)(int64_t)sp__msg(m)->pipe;
}

int sp__rx_take_failure(struct sp__ctx *c)
{
    return c->rx->receivers.head == NULL ? sp__rx_end(c)
                                         : (int)(int64_t)sp__msg(c->rx->local.head)->pipe;
}

/// Takes what is there by `take`, with the lock held, which is given up. Returns its result.
static ssize_t recv_take(struct sp__ctx *c, ssize_t (*take)(struct sp__ctx *, void *), void *arg)
{
    struct sp__ctx *q = c->rx;
    bool failure = q->local.head->header_len == SP__MSG_FAILURE;
    ssize_t rc = failure ? sp__rx_take_failure(c) : take(c, arg);
    struct sp__wake next;

    sp__rx_changed(q);
    next = sp__rx_pass_on(q);
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
    if (sp__rx_allowed(c) == SP_OK && !sp__observed(&q->observers, SP_POLLIN | SP_POLLOUT) &&
        (q->local.head != NULL || sp__ctx_pull(q)) && q->local.head->len <= cap &&
        q->local.head->header_len != SP__MSG_FAILURE) {
        m = sp__rx_take(c);
        if (q->receivers.head != NULL) {
            next = sp__rx_pass_on(q);
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
        rc = sp__rx_allowed(c);
        if (rc == SP_OK && sp__rx_first(c) != NULL) {
            return recv_take(c, take, arg);
        }
        if (rc != SP_OK && q->receivers.head != NULL) {
            next = sp__rx_pass_on(q); // It may have been its turn.
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

struct recv_into {
    size_t cap;
    sp_msg **m;
    size_t n;
};

static ssize_t recv_take_msgs(struct sp__ctx *c, void *arg)
{
    struct recv_into *into = arg;
    size_t max = sp__rx_singly(c) ? 1 : into->n;
    uint64_t room = 0;
    size_t got = 0;

    while (got < max && sp__rx_first(c) != NULL &&
           c->rx->local.head->header_len != SP__MSG_FAILURE) {
        into->m[got++] = sp__rx_take_of(c, &room);
    }
    sp__ctx_made_room(c->rx, room);
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
    into->m[0] = sp__rx_take(c);
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

int sp__ctx_next_size(struct sp__ctx *c, int64_t *size)
{
    sp_msg *m;

    sp__lock(&c->rx->lock);
    m = sp__rx_first(c);
    m = m != NULL && m->header_len != SP__MSG_FAILURE ? m : NULL;
    *size = m != NULL ? (int64_t)m->len : 0;
    sp__ctx_unlock(c->rx);
    sp__run_posted(sp__option(&c->sock->opt.in_place) != 0);
    return m != NULL ? SP_OK : sp__fail(SP_EAGAIN, "recv-next-size: there is no message");
}
