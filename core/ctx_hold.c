/* SPDX-License-Identifier: MIT */
/// Time for receivers. A protocol that drops what a full queue does not take would drop most of a
/// burst though its receiver is on the way: a turn of input can bring more than a queue takes, and
/// a thread that was woken may wait for a processor, on which input runs. So what comes is held,
/// and its pipe is not read from, while
///   - a receiver waited when messages came (`waited`, set by the push, see rx_wake), or waits for
///     those of this visit (`early`: the push that wakes it is yet to come), and
///   - not more than HOLD_TIME has passed since the queue was then first found full (`hold_until`).
/// A receiver that does not keep up does not wait, so that nothing is held for it after that time.
/// The socket's actor.
#include "ctx_rx.h"
#include "platform.h"

#define HOLD_TIME (50 * SP__MS)

/// One timer for all holding of a socket: when it is due everything is offered again, and what is
/// still to be held arms it anew.
static void hold_arm(struct sp__sock *s, int64_t due)
{
    if (!s->holding) {
        s->holding = true;
        sp__timer_arm(&s->timer, due);
    }
}

/// Whether a receiver waits for what was delivered in this visit. Relaxed: a hint; the push decides
/// whom it wakes.
static bool hold_awaited(struct sp__ctx *c)
{
    return atomic_load_explicit(&c->rxq, memory_order_relaxed) == SP__RX_WAITING;
}

/// The queue is full.
static SP__APART bool hold_full(struct sp__ctx *c)
{
    struct sp__sock *s = c->sock;

    if (s->state != SP__SOCK_OPEN || s->last_offer) {
        return false;
    }
    if (c->waited || (!c->early && hold_awaited(c))) {
        c->early = !c->waited;
        c->waited = false;
        c->hold_until = sp__now() + HOLD_TIME;
    } else if (c->hold_until == 0 || sp__now() >= c->hold_until) {
        c->hold_until = 0;
        return false;
    }
    if (sp__ctx_room(c) > 0) {
        return false;
    }
    hold_arm(s, c->hold_until);
    return true;
}

bool sp__ctx_hold(struct sp__ctx *c)
{
    int64_t cap = sp__option(&c->sock->opt.recv_buffer);
    uint64_t in = atomic_load_explicit(&c->rx_in, memory_order_relaxed);

    // Acquire: as in sp__ctx_deliver.
    return (int64_t)(in - atomic_load_explicit(&c->rx_out, memory_order_acquire)) >=
               (cap > 0 ? cap : 1) &&
           hold_full(c);
}
