/* SPDX-License-Identifier: MIT */
/// Receiving without blocking: operations, taps, and those who watch for the end. The queue's rules
/// are in ctx_deliver.c.
#include "ctx_rx.h"

/* ------------------------------------------------------------------ Operations */

/// A message for an operation, or an error for it. False: it waits, and is no longer ours. Under
/// the lock.
static bool op_take(struct sp__ctx *c, struct sp__waiter *w, bool first, sp_msg **m, int *rc)
{
    *rc = (c->sock->ops->flags & SP_PROTO_NO_RECV) != 0 ? SP_ENOTSUP : sp__rx_allowed(c);
    while (*rc == SP_OK && sp__rx_first(c) == NULL) {
        if (w->left) {
            *rc = SP_ECANCELED;
        } else if (sp__rx_join(c->rx, w, first)) {
            return false;
        }
    }
    if (*rc == SP_OK && c->rx->local.head->header_len == SP__MSG_FAILURE) {
        *rc = sp__rx_take_failure(c); // Whatever the protocol gave.
    } else if (*rc == SP_OK) {
        *m = sp__rx_take(c);
    }
    return true;
}

struct sp__wake sp__rx_op(struct sp__ctx *c, struct sp__waiter *w, bool first)
{
    struct sp__ctx *q = c->rx;
    struct sp__wake next = {NULL, NULL};
    sp_msg *m = NULL;
    bool through;
    int rc;

    w->receives = true;
    through = op_take(c, w, first, &m, &rc);
    if (through) {
        sp__rx_changed(q);
        next = sp__rx_pass_on(q);
        SP__TRACE(D15, q, sp__wake_id(next));
    }
    sp__ctx_unlock(q);
    if (through) {
        w->over(w, rc, m);
    }
    return next;
}

struct sp__wake sp__ctx_recv_op(struct sp__ctx *c, struct sp__waiter *w, bool first)
{
    sp__lock(&c->rx->lock);
    return sp__rx_op(c, w, first);
}

bool sp__ctx_recv_leave(struct sp__ctx *c, struct sp__waiter *w, struct sp__wake *next)
{
    bool queued;

    sp__lock(&c->rx->lock);
    w->left = true;
    queued = w->queued;
    if (c->tap == w) {
        c->tap = NULL;
        sp__rx_changed(c->rx);
    }
    if (queued) {
        SP__TRACE(D11, c->rx, queued);
        sp__waiter_remove(&c->rx->receivers, w);
        *next = sp__rx_pass_on(c->rx);
        SP__TRACE(D12, c->rx, sp__wake_id(*next));
    }
    sp__unlock(&c->rx->lock);
    return queued;
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
            sp__rx_changed(c); // Nobody else can receive.
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

    while (out->n < max && sp__rx_first(c) != NULL) {
        if (c->local.head->header_len == SP__MSG_FAILURE) {
            (void)sp__rx_end(c); // A question without an answer: none comes.
            continue;
        }
        sp_batch_push(out, sp__rx_take_of(c, &room));
        if (sp__rx_singly(c)) {
            break;
        }
    }
    sp__ctx_made_room(c, room);
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
        waits = out->n == before && sp__rx_join(c, w, false);
        turn->joined = waits;
    }
    sp__rx_changed(c);
    if (!waits) {
        turn->next = sp__rx_pass_on(c);
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
