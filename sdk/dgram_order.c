/* SPDX-License-Identifier: MIT */
/// Messages in order: each has a number; one that comes behind a gap is held until what is missing
/// is there, there are more held than "order-window", or the time is over. A pipe's input.
#include "dgram_parts.h"

#define SEEN_BITS 64U
#define SEEN (8 * sizeof(((struct sp_dgram_pipe *)0)->seen)) // numbers that are remembered

/// How far `a` is behind `b`; numbers wrap.
static int32_t order_diff(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b);
}

static bool order_plain(const struct sp_dgram_pipe *p)
{
    return (p->features & DGRAM_EXTENDED) == 0 || dgram_pairs(p->ep);
}

static void order_holding(struct sp_dgram_pipe *p, int64_t now)
{
    int holding = p->held.n > 0;

    if (__atomic_load_n(&p->holding, __ATOMIC_RELAXED) == holding) {
        return;
    }
    p->held_since = now;
    __atomic_store_n(&p->holding, holding, __ATOMIC_RELAXED);
    if (holding) {
        sp__dgram_want(p->ep, DGRAM_WANT_HOLD);
    }
}

static uint64_t *order_word(struct sp_dgram_pipe *p, uint32_t number)
{
    return &p->seen[number % SEEN / SEEN_BITS];
}

static uint64_t order_bit(uint32_t number)
{
    return UINT64_C(1) << number % SEEN_BITS;
}

/// The next one is there.
static void order_next(struct sp_dgram_pipe *p, sp_msg *m)
{
    *order_word(p, p->rx_next) |= order_bit(p->rx_next);
    p->rx_next++;
    sp_batch_push(&p->ready, m);
}

/// Gives up the messages from the next one to `to`: they count as lost.
static void order_give_up(struct sp_dgram_pipe *p, uint32_t to)
{
    uint32_t n = to - p->rx_next;

    for (uint32_t i = 1; i <= n && i <= SEEN; i++) {
        *order_word(p, to - i) &= ~order_bit(to - i);
    }
    sp_counter_add(&p->ep->counts.gaps, n);
    p->rx_next = to;
}

/// What was held and is next now.
static void order_follow(struct sp_dgram_pipe *p)
{
    while (p->held.head != NULL && dgram_number(p->held.head) == p->rx_next) {
        order_next(p, sp_batch_pop(&p->held));
    }
}

/// Behind the time: too late, or a second time? Of what is long past nobody knows: late.
static void order_drop(struct sp_dgram_pipe *p, sp_msg *m)
{
    uint32_t number = dgram_number(m);
    uint64_t *what = &p->ep->counts.late;

    if (p->rx_next - number <= SEEN) {
        uint64_t *word = order_word(p, number);

        what = (*word & order_bit(number)) != 0 ? &p->ep->counts.duplicates : what;
        *word |= order_bit(number);
    }
    sp_counter_add(what, 1);
    p->host->msg_release(m);
}

/// Behind a gap: to its place among those that are held.
static void order_hold(struct sp_dgram_pipe *p, sp_msg *m)
{
    uint32_t number = dgram_number(m);
    sp_msg *before = NULL;

    if (p->held.tail != NULL && order_diff(number, dgram_number(p->held.tail)) > 0) {
        sp_batch_push(&p->held, m);
        return;
    }
    for (sp_msg *at = p->held.head; at != NULL && order_diff(number, dgram_number(at)) >= 0;
         at = at->next) {
        before = at;
    }
    if (before != NULL && dgram_number(before) == number) {
        sp_counter_add(&p->ep->counts.duplicates, 1);
        p->host->msg_release(m);
        return;
    }
    if (before == NULL) {
        sp_batch_unpop(&p->held, m);
        return;
    }
    m->next = before->next;
    before->next = m;
    p->held.n++;
}

static void order_one(struct sp_dgram_pipe *p, sp_msg *m, int64_t window)
{
    int32_t ahead = order_diff(dgram_number(m), p->rx_next);

    if (ahead < 0) {
        order_drop(p, m);
        return;
    }
    if (ahead == 0) {
        sp_counter_add(&p->ep->counts.reordered, p->held.head != NULL);
        order_next(p, m);
        order_follow(p);
        return;
    }
    order_hold(p, m);
    while ((int64_t)p->held.n > window) {
        order_give_up(p, dgram_number(p->held.head));
        order_follow(p);
    }
}

void sp__dgram_order(struct sp_dgram_pipe *p, sp_batch *in, int64_t now)
{
    int64_t window = sp_option_load(&p->ep->order_window);

    if (order_plain(p)) {
        sp_batch_join(&p->ready, in);
        return;
    }
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        order_one(p, m, window);
    }
    order_holding(p, now);
}

void sp__dgram_order_due(struct sp_dgram_pipe *p, int64_t now)
{
    if (p->held.head == NULL || now - p->held_since < DGRAM_HOLD_MS * DGRAM_MS) {
        return;
    }
    order_give_up(p, dgram_number(p->held.head));
    order_follow(p);
    p->held_since = now;
    order_holding(p, now);
}
