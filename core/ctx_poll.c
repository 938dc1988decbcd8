/* SPDX-License-Identifier: MIT */
/// Contexts, the socket's own and others, as what can be polled (observe.h). All that receive from
/// one queue are observed together, under its lock.
#include "ctx.h"

static void ctx_lock(void *of)
{
    struct sp__ctx *c = of;

    sp__lock(&c->rx->lock);
}

static void ctx_unlock(void *of)
{
    struct sp__ctx *c = of;

    sp__ctx_unlock(c->rx);
}

/// Whether a send would not wait: there is a request to answer, or credit.
static bool ctx_writable(struct sp__ctx *c)
{
    uint32_t flags = c->sock->ops->flags;

    if ((flags & SP_PROTO_REPLIES) != 0) {
        return c->may_reply;
    }
    // seq_cst: see observe.h.
    return (flags & SP_PROTO_NO_SEND) == 0 &&
           atomic_load_explicit(&c->credit, memory_order_seq_cst) >> 1 > 0;
}

static short ctx_ready(void *of)
{
    struct sp__ctx *c = of;

    if (atomic_load_explicit(&c->closed, memory_order_relaxed)) {
        return SP_POLLHUP;
    }
    // seq_cst: see observe.h; what follows sees this or more.
    (void)atomic_load_explicit(&c->rx->rxq, memory_order_seq_cst);
    return (short)((sp__ctx_readable(c) ? SP_POLLIN : 0) | (ctx_writable(c) ? SP_POLLOUT : 0));
}

static bool ctx_polls(const void *of)
{
    const struct sp__ctx *c = of;

    return sp__sock_polls(c->sock);
}

static const struct sp__pollable_ops ctx_pollable = {ctx_lock, ctx_unlock, ctx_ready, ctx_polls};

void sp__ctx_pollable(struct sp__ctx *c, struct sp__pollable *p)
{
    uint32_t flags = c->sock->ops->flags;

    p->ops = &ctx_pollable;
    p->observers = &c->rx->observers;
    p->of = c;
    p->can = (short)(((flags & SP_PROTO_NO_RECV) == 0 ? SP_POLLIN : 0) |
                     ((flags & SP_PROTO_NO_SEND) == 0 ? SP_POLLOUT : 0));
}

void sp__ctx_closed(struct sp__ctx *c)
{
    ctx_lock(c);
    sp__observers_look(&c->rx->observers);
    ctx_unlock(c);
}

void sp__ctx_unobserve(struct sp__ctx *c)
{
    struct sp__pollable p;

    sp__ctx_pollable(c, &p);
    sp__observers_close(&p);
}
