/* SPDX-License-Identifier: MIT */
/// When to cork and when to uncork. See cork.h.
#include "cork.h"

#include "platform.h"
#include "sched.h"
#include "timer.h"

#define CORK_GAP 2000    // ns between the end of a send and the next: a caller that sends in a row
#define CORK_TIME 20000  // ns that a caller that goes on sending leaves messages behind
#define CORK_STALE 50000 // ns after which the guard does not wait for the caller any more
#define CORK_MESSAGES 64
#define CORK_BYTES 65536
#define CORK_CLOCK 8 // the clock is read once in so many sends
#define CORK_HERE 8  // actors that a send runs before it leaves the rest to sp__run_here

/// What it leaves in place. False: nobody could look after it.
static bool cork_put(struct sp__thread *t, struct sp__actor *a, int64_t now, size_t n, size_t bytes)
{
    bool watched = sp__guard_corks();
    uint64_t corks;

    SP__TRACE(K1, a, watched);
    if (!watched) {
        return false;
    }
    t->cork_n = n;
    t->cork_bytes = bytes;
    atomic_store_explicit(&t->cork_at, now, memory_order_relaxed);
    corks = atomic_load_explicit(&t->corks, memory_order_relaxed) + 1;
    atomic_store_explicit(&t->corks, corks, memory_order_relaxed);
    SP__TRACE(K26, t, corks);
    // seq_cst, against sp__guard_look: the guard that ends sees this cork, or we see below that it
    // has.
    atomic_store_explicit(&t->cork, a, memory_order_seq_cst);
    SP__TRACE(A23, a, t);
    watched = sp__guard_corks();
    SP__TRACE(K3, a, watched);
    return watched || sp__cork_take(t) == NULL;
}

struct sp__actor *sp__cork_take(struct sp__thread *t)
{
    // Acquire: what is in the actor's hand, when the guard takes it; relaxed look first.
    struct sp__actor *a = atomic_load_explicit(&t->cork, memory_order_relaxed);

    SP__TRACE(K27, t, a);
    if (a != NULL) {
        a = atomic_exchange_explicit(&t->cork, NULL, memory_order_acq_rel);
        SP__TRACE(A24, a, t);
    }
    return a;
}

bool sp__uncork(void)
{
    struct sp__thread *t = sp__self();
    struct sp__actor *a = t != NULL ? sp__cork_take(t) : NULL;

    if (a == NULL) {
        return false;
    }
    SP__TRACE(K5, a, 0);
    sp__schedule(a);
    sp__run_here(true);
    return true;
}

/// An actor that is not idle after its visit: behind the one that it has scheduled.
static SP__APART void cork_later(struct sp__thread *t, struct sp__actor *a)
{
    struct sp__actor *next = sp__run_next(t);

    SP__TRACE(A16, a, 0);
    sp__run_next_set(t, a);
    if (next != NULL) {
        sp__schedule(next);
    }
}

/// What sp__run_here does in the end, and what was left to it.
static SP__APART void cork_run_rest(struct sp__thread *t)
{
    if (t->armed) {
        t->armed = false;
        if (sp__timers_next() != SP__NEVER) {
            sp__need_worker();
        }
    }
    sp__run_here(true);
}

/// Runs the actor that was scheduled last, `a`, and those that this leads to: as a rule two, one
/// after the other. The same as sp__run_here, for a thread that runs nothing yet.
static void cork_run(struct sp__thread *t, struct sp__actor *a)
{
    int left = CORK_HERE;

    t->running = true;
    t->here = true;
    do {
        sp__run_next_set(t, NULL);
        if (sp__actor_run(t, a)) {
            cork_later(t, a);
        }
        a = sp__run_next(t);
    } while (a != NULL && !sp__run_more(t) && --left > 0);
    t->here = false;
    t->running = false;
    if (t->armed || a != NULL || sp__run_more(t)) {
        cork_run_rest(t);
    }
}

/// The actor was corked before: enough now?
static void cork_more(struct sp__thread *t, size_t n, size_t bytes)
{
    t->cork_n += n;
    t->cork_bytes += bytes;
    if (t->cork_n >= CORK_MESSAGES || t->cork_bytes >= CORK_BYTES ||
        (t->cork_n % CORK_CLOCK == 0 &&
         sp__now() - atomic_load_explicit(&t->cork_at, memory_order_relaxed) >= CORK_TIME)) {
        (void)sp__uncork();
        t->sent_at = sp__now();
    }
}

/// Whether the thread sends in a row to that actor, so that it is worth leaving it.
static bool cork_row(const struct sp__thread *t, const struct sp__actor *a, int64_t now)
{
    return t->sent_to == a && now - t->sent_at < CORK_GAP;
}

/// There are workers: leaves the first actor to be run, or runs it.
static SP__APART void cork_or_run(struct sp__thread *t, struct sp__actor *a, size_t n, size_t bytes)
{
    int64_t now = sp__now();

    if (cork_row(t, a, now) && n < CORK_MESSAGES && bytes < CORK_BYTES) {
        sp__run_next_set(t, NULL);
        if (cork_put(t, a, now, n, bytes)) {
            return;
        }
        sp__run_next_set(t, a);
    }
    cork_run(t, a);
    t->sent_to = a;
    t->sent_at = sp__now();
}

/// What the thread corked before comes first.
static SP__APART void cork_other(struct sp__thread *t, struct sp__actor *held, struct sp__actor *a,
                                 size_t n, size_t bytes, bool in_place)
{
    if (held == a) {
        cork_more(t, n, bytes);
    } else {
        (void)sp__uncork(); // Another socket's; ours is run with it.
        sp__run_here(in_place);
    }
}

void sp__cork_sent(struct sp__actor *a, size_t n, size_t bytes, bool in_place)
{
    struct sp__thread *t = sp__thread_current; // Not NULL: the thread is inside a call.
    struct sp__actor *held = atomic_load_explicit(&t->cork, memory_order_relaxed);

    SP__TRACE(K6, t, held);
    if (held != NULL) {
        cork_other(t, held, a, n, bytes, in_place);
    } else if (!in_place || t->running || sp__run_next(t) != a || sp__platform->simulated) {
        sp__run_here(in_place);
    } else if (sp__sched_threaded()) {
        cork_or_run(t, a, n, bytes);
    } else {
        cork_run(t, a);
    }
}

bool sp__cork_look(bool all)
{
    int64_t now = sp__now();
    bool any = false;

    SP__TRACE(K28, NULL, all);
    for (struct sp__thread *t = sp__threads(); t != NULL; t = t->next) {
        uint64_t corks = atomic_load_explicit(&t->corks, memory_order_relaxed);
        const struct sp__actor *held;

        SP__TRACE(K7, t, corks);
        any = any || corks != t->corks_seen;
        t->corks_seen = corks;
        // seq_cst: see cork_put.
        held = atomic_load_explicit(&t->cork, memory_order_seq_cst);
        SP__TRACE(K8, t, held);
        if (held == NULL) {
            continue;
        }
        any = true;
        if (all || now - atomic_load_explicit(&t->cork_at, memory_order_relaxed) >= CORK_STALE) {
            struct sp__actor *a = sp__cork_take(t);

            if (a != NULL) {
                SP__TRACE(K9, a, 0);
                sp__schedule(a);
            }
        }
    }
    SP__TRACE(K10, NULL, any);
    return any;
}
