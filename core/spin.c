/* SPDX-License-Identifier: MIT */
/// Places of those who look, and when to leave it. See spin.h.
#include "spin.h"

#include "config.h"
#include "trace.h"

#include <stdatomic.h>

#define SPIN_MAX (50 * INT64_C(1000)) // ns; about what a sleep costs that was not needed
#define SPIN_FAILS 6                  // after so many in a row, one wait in 2^6 tries again

static struct {
    atomic_int free; ///< places
    atomic_uint_least64_t won;
    atomic_uint_least64_t lost;
} spin;

void sp__spin_start(unsigned cpus)
{
    atomic_store_explicit(&spin.free, cpus > 1 ? (int)cpus - 1 : 0, memory_order_relaxed);
    SP__TRACE(L0, NULL, cpus > 1 ? cpus - 1 : 0);
    atomic_store_explicit(&spin.won, 0, memory_order_relaxed);
    atomic_store_explicit(&spin.lost, 0, memory_order_relaxed);
}

/// Relaxed, as all here: places are a matter of load, not of order.
static bool spin_place(struct sp__thread *t)
{
    int n = atomic_load_explicit(&spin.free, memory_order_relaxed);

    do {
        if (n <= 0) {
            SP__TRACE(L7, t, n);
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&spin.free, &n, n - 1, memory_order_relaxed,
                                                    memory_order_relaxed));
    SP__TRACE(L1, t, n);
    atomic_store_explicit(&t->spinning, true, memory_order_relaxed);
    SP__TRACE(L2, t, true);
    return true;
}

int64_t sp__spin_begin(struct sp__thread *t, int64_t us)
{
    us = us < 0 ? sp__config()->spin_time : us;
    if (us == 0 || sp__platform->simulated) {
        return 0;
    }
    if (us < 0 && t->spin_skip > 0) {
        t->spin_skip--;
        return 0;
    }
    if (!spin_place(t)) {
        return 0;
    }
    return us < 0 ? SPIN_MAX : us * 1000;
}

void sp__spin_posted(struct sp__thread *t)
{
    bool has = atomic_load_explicit(&t->spinning, memory_order_relaxed);

    SP__TRACE(L3, t, has);
    if (!has) {
        return;
    }
    has = atomic_exchange_explicit(&t->spinning, false, memory_order_relaxed);
    SP__TRACE(L4, t, has);
    if (has) {
        int n = atomic_fetch_add_explicit(&spin.free, 1, memory_order_relaxed);

        SP__TRACE(L5, t, n);
    }
}

void sp__spin_end(struct sp__thread *t, bool won)
{
    SP__TRACE(L6, t, won);
    sp__spin_posted(t); // Unless who woke it did.
    if (won) {
        t->spin_fails = 0;
    } else if (t->spin_fails < SPIN_FAILS) {
        t->spin_fails++;
    }
    t->spin_skip = (1U << t->spin_fails) - 1;
    (void)atomic_fetch_add_explicit(won ? &spin.won : &spin.lost, 1, memory_order_relaxed);
}

void sp__spin_stats(uint64_t *won, uint64_t *lost)
{
    *won = atomic_load_explicit(&spin.won, memory_order_relaxed);
    *lost = atomic_load_explicit(&spin.lost, memory_order_relaxed);
}
