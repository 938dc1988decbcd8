/* SPDX-License-Identifier: MIT */
/// The receivers' queue of who wants the latest: what is too much goes, the oldest first, when the
/// new messages are published already, so that no receiver finds the queue empty in between. The
/// socket's actor.
#include "ctx.h"

/// Takes what the queue has too much, as far as something stays in it; ends of questions stay.
/// Under the lock.
static void evict_take(struct sp__ctx *c, int64_t excess, sp_batch *old)
{
    sp_batch ends = {NULL, NULL, 0};
    int64_t cost = 0;

    while (cost < excess && c->local.n > 1) {
        sp_msg *m = sp_batch_pop(&c->local);

        if (m->header_len == SP__MSG_FAILURE) {
            sp_batch_push(&ends, m);
        } else {
            cost += sp__msg(m)->cost;
            sp_batch_push(old, m);
        }
    }
    sp_batch_join(&ends, &c->local);
    c->local = ends;
    SP__TRACE(D20, c, old->n);
    sp__ctx_made_room(c, (uint64_t)cost);
}

void sp__ctx_evict(struct sp__ctx *c)
{
    int64_t cap = sp__option(&c->sock->opt.recv_buffer);
    sp_batch old = {NULL, NULL, 0};
    int64_t queued;

    c->excess = false;
    sp__lock(&c->lock);
    (void)sp__ctx_pull(c);
    queued = (int64_t)(atomic_load_explicit(&c->rx_in, memory_order_relaxed) -
                       atomic_load_explicit(&c->rx_out, memory_order_relaxed));
    evict_take(c, queued - (cap > 0 ? cap : 1), &old);
    sp__unlock(&c->lock);
    for (sp_msg *m; (m = sp_batch_pop(&old)) != NULL;) {
        sp__count(&c->entered, (uint64_t)0 - 1); // Else it would count as queued, too.
        sp__sock_discard(c->sock, m, SP_DISCARD_FULL, false);
    }
}
