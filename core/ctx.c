/* SPDX-License-Identifier: MIT */
/// Contexts, the socket's own and others: what they have in common. Sending is in ctx_send.c,
/// receiving in ctx_recv.c, the life of the others in ctx_open.c.
#include "ctx.h"

/// Receivers made room: what was held back is offered again.
static void ctx_on_space(struct sp__event *ev)
{
    struct sp__ctx *c = SP__CONTAINER(ev, struct sp__ctx, space);

    c->sock->rx_again = true;
    sp__sock_settle(c->sock);
}

int sp__ctx_init(struct sp__ctx *c, struct sp__sock *s, struct sp__object *owner, void *state)
{
    c->ref.state = state;
    c->sock = s;
    c->owner = owner;
    c->rx = (s->ops->flags & SP_PROTO_REPLIES) != 0 ? &s->ctx : c;
    c->tx_port.handle = sp__ctx_on_tx;
    sp__event_init(&c->space, &s->actor, NULL, ctx_on_space);
    atomic_init(&c->rxq, NULL);
    if (sp__lock_init(&c->lock) < 0) {
        return SP_ENOMEM;
    }
    SP__TRACE(D0, c, 0);
    SP__TRACE(E0, c, 0);
    SP__TRACE(M0, c, s->ops->flags);
    if ((s->ops->flags & SP_PROTO_ASKS) != 0) {
        c->note = sp__msg_new(0);
        if (c->note == NULL) {
            return SP_ENOMEM;
        }
    }
    return SP_OK;
}

int sp__ctx_join(struct sp__ctx *c)
{
    struct sp__sock *s = c->sock;
    int rc = s->ops->ctx_open(s->ref.state, &c->ref);

    c->joined = rc == SP_OK;
    if (rc == SP_OK && s->ops->window == SP_WINDOW_OPEN) {
        sp__ctx_grant(c, s->window);
    } else if (rc == SP_OK && s->ops->window == SP_WINDOW_PEER &&
               atomic_load_explicit(&s->peers, memory_order_relaxed) > 0) {
        sp__ctx_grant(c, 1);
    }
    return rc;
}

/// The next of those who wait for a context to receive, or with `senders` to send.
static struct sp__wake ctx_next(struct sp__ctx *c, bool senders)
{
    struct sp__ctx *at = senders ? c : c->rx;
    struct sp__wake wake;

    sp__lock(&at->lock);
    atomic_store_explicit(&c->closed, true, memory_order_relaxed);
    if (senders) {
        wake = sp__waiter_pop_of(&at->senders, c);
        SP__TRACE(E15, c, sp__wake_id(wake));
    } else {
        wake = sp__waiter_pop_of(&at->receivers, c);
        SP__TRACE(D17, c, sp__wake_id(wake));
    }
    sp__unlock(&at->lock);
    return wake;
}

void sp__ctx_shut(struct sp__ctx *c)
{
    struct sp__wake wake;

    do {
        wake = ctx_next(c, false);
        sp__wake(wake);
    } while (sp__wakes(wake));
    do {
        wake = ctx_next(c, true);
        sp__wake(wake);
    } while (sp__wakes(wake));
    sp__ctx_closed(c);
}

void sp__ctx_purge(struct sp__ctx *c)
{
    sp_batch all = {NULL, NULL, 0};

    c->sock->pending -= c->pending.n;
    for (sp_msg *m; (m = sp_batch_pop(&c->pending)) != NULL;) {
        sp__sock_discard(c->sock, m, SP_DISCARD_CLOSED, true);
    }
    sp__ctx_publish(c);
    sp__lock(&c->lock);
    do {
        SP__TRACE(D20, c, c->local.n);
        sp_batch_join(&all, &c->local);
    } while (sp__ctx_pull(c));
    sp__unlock(&c->lock);
    for (sp_msg *m; (m = sp_batch_pop(&all)) != NULL;) {
        if (m->header_len == SP__MSG_FAILURE) {
            sp__msg_release(m);
        } else {
            sp__count(&c->entered, (uint64_t)0 - 1); // Else it would count as queued, too.
            sp__sock_discard(c->sock, m, SP_DISCARD_CLOSED, false);
        }
    }
}

/// No longer offered what it holds.
static void ctx_unoffer(struct sp__ctx *c)
{
    struct sp__ctx *before = NULL;

    for (struct sp__ctx *at = c->sock->offers; c->offering && at != NULL;
         before = at, at = at->offer_next) {
        if (at == c) {
            *(before != NULL ? &before->offer_next : &c->sock->offers) = c->offer_next;
            c->sock->offers_last = c->sock->offers_last == c ? before : c->sock->offers_last;
            c->offering = false;
        }
    }
}

void sp__ctx_end(struct sp__ctx *c)
{
    sp__ctx_purge(c);
    sp__ctx_unobserve(c);
    ctx_unoffer(c);
    if (c->joined) {
        c->joined = false;
        sp__slot(&c->sock->actor, SP__SLOT_CTX_CLOSE);
        c->sock->ops->ctx_close(c->sock->ref.state, &c->ref);
    }
}

void sp__ctx_fini(struct sp__ctx *c)
{
    SP__TRACE(D18, c, 0);
    SP__TRACE(E18, c, 0);
    sp__msg_release(c->note);
    sp__lock_fini(&c->lock);
}
