/* SPDX-License-Identifier: MIT */
/// Contexts: their life, and lists of threads that wait. Sending is in ctx_send.c, receiving in
/// ctx_recv.c.
#include "ctx.h"

/* ------------------------------------------------------------------ Waiters */

void sp__waiter_add(struct sp__waiter **list, struct sp__waiter *w)
{
    w->next = NULL;
    w->queued = true;
    while (*list != NULL) {
        list = &(*list)->next;
    }
    *list = w;
}

void sp__waiter_remove(struct sp__waiter **list, struct sp__waiter *w)
{
    while (*list != NULL && *list != w) {
        list = &(*list)->next;
    }
    if (*list != NULL) {
        *list = w->next;
    }
    w->queued = false;
}

struct sp__thread *sp__waiter_pop(struct sp__waiter **list)
{
    struct sp__waiter *w = *list;

    if (w == NULL) {
        return NULL;
    }
    *list = w->next;
    w->queued = false;
    return w->thread;
}

/* ------------------------------------------------------------------ Life */

/// Receivers made room: what was held back is offered again.
static void ctx_on_space(struct sp__event *ev)
{
    struct sp__ctx *c = SP__CONTAINER(ev, struct sp__ctx, space);

    c->sock->rx_again = true;
    sp__sock_settle(c->sock);
}

int sp__ctx_init(struct sp__ctx *c, struct sp__sock *s, void *state)
{
    c->ref.state = state;
    c->sock = s;
    c->tx_port.handle = sp__ctx_on_tx;
    sp__event_init(&c->space, &s->actor, NULL, ctx_on_space);
    atomic_init(&c->rxq, NULL);
    SP__TRACE(D0, c, 0);
    SP__TRACE(E0, c, 0);
    if (pthread_mutex_init(&c->lock, NULL) != 0) {
        return SP_ENOMEM;
    }
    if (s->ops->window == SP_WINDOW_OPEN) {
        int64_t n = sp__option(&s->opt.send_buffer);

        atomic_init(&c->credit, 2 * (n > 0 ? n : 1));
        SP__TRACE(E0, c, 2 * (n > 0 ? n : 1));
    }
    return SP_OK;
}

void sp__ctx_shut(struct sp__ctx *c)
{
    struct sp__thread *t;

    do {
        (void)pthread_mutex_lock(&c->lock);
        atomic_store_explicit(&c->closed, true, memory_order_relaxed);
        t = sp__waiter_pop(&c->receivers);
        SP__TRACE(D17, c, t);
        if (t == NULL) {
            t = sp__waiter_pop(&c->senders);
            SP__TRACE(E15, c, t);
        }
        (void)pthread_mutex_unlock(&c->lock);
        if (t != NULL) {
            sp__thread_wake(t);
        }
    } while (t != NULL);
}

void sp__ctx_purge(struct sp__ctx *c)
{
    sp_batch all = {NULL, NULL, 0};

    for (sp_msg *m; (m = sp_batch_pop(&c->pending)) != NULL;) {
        sp__sock_discard(c->sock, m, SP_DISCARD_CLOSED, true);
    }
    sp__ctx_publish(c);
    (void)pthread_mutex_lock(&c->lock);
    do {
        SP__TRACE(D20, c, c->local.n);
        sp_batch_join(&all, &c->local);
    } while (sp__ctx_pull(c));
    (void)pthread_mutex_unlock(&c->lock);
    for (sp_msg *m; (m = sp_batch_pop(&all)) != NULL;) {
        if (m->header_len == SP__MSG_FAILURE) {
            sp__msg_release(m);
        } else {
            sp__sock_discard(c->sock, m, SP_DISCARD_CLOSED, false);
        }
    }
}

void sp__ctx_fini(struct sp__ctx *c)
{
    SP__TRACE(D18, c, 0);
    SP__TRACE(E18, c, 0);
    (void)pthread_mutex_destroy(&c->lock);
}
