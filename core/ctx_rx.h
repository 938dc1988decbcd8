/* SPDX-License-Identifier: MIT */
/// Between the files of a context's receiving side: ctx_deliver.c, ctx_recv.c, ctx_async.c. Under
/// the queue's lock.
#ifndef SP_CORE_CTX_RX_H
#define SP_CORE_CTX_RX_H

#include "ctx.h"

#include <string.h>

/// In `rxq`: it is empty, and who pushes wakes a receiver.
#define SP__RX_WAITING ((struct sp__node *)1)

/// The oldest message that is of interest to a context; drops answers to earlier questions. NULL:
/// none.
sp_msg *sp__rx_look(struct sp__ctx *c);
/// Joins those who wait for a message, as the queue was found empty. False: there is something now.
bool sp__rx_join(struct sp__ctx *q, struct sp__waiter *w, bool first);
/// For those who go on waiting: wakes the next receiver if there is something, else sees to it that
/// the next push does. Who is returned is to be woken after the lock.
struct sp__wake sp__rx_pass_on(struct sp__ctx *c);
/// Receives for an operation: ends it, or puts it into the list. With the lock, which it gives up.
/// Returns who is to be woken next.
struct sp__wake sp__rx_op(struct sp__ctx *c, struct sp__waiter *w, bool first);
/// The protocol ended what was waited for: takes that, which is next. Returns its error.
int sp__rx_end(struct sp__ctx *c);
/// The same, for one of those who wait: all of them are told, and the last one takes it.
int sp__rx_take_failure(struct sp__ctx *c);

/// The same, where the first one is.
static inline sp_msg *sp__rx_first(struct sp__ctx *c)
{
    if (c->rx->local.head != NULL && (c->sock->ops->flags & SP_PROTO_ASKS) == 0) {
        return c->rx->local.head;
    }
    return sp__rx_look(c);
}

/// Takes the message that sp__rx_first gave, with what the protocol's flags say, and adds what it
/// cost, for sp__ctx_made_room, to `room`. Under the lock.
static inline sp_msg *sp__rx_take_of(struct sp__ctx *c, uint64_t *room)
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
static inline sp_msg *sp__rx_take(struct sp__ctx *c)
{
    uint64_t room = 0;
    sp_msg *m = sp__rx_take_of(c, &room);

    sp__ctx_made_room(c->rx, room);
    return m;
}

/// Whether receiving makes sense at all; under the lock.
static inline int sp__rx_allowed(struct sp__ctx *c)
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

/// A receiver took something: who observes the queue is told. Under the lock.
static inline void sp__rx_changed(struct sp__ctx *q)
{
    sp__observers_changed(&q->observers, SP_POLLIN | SP_POLLOUT);
}

/// What is received goes one at a time: the next one may be another question's, or another answer.
static inline bool sp__rx_singly(const struct sp__ctx *c)
{
    uint32_t flags = c->sock->ops->flags;

    return (flags & SP_PROTO_REPLIES) != 0 ||
           (flags & (SP_PROTO_ASKS | SP_PROTO_MANY)) == SP_PROTO_ASKS;
}

#endif
