/* SPDX-License-Identifier: MIT */
/*
 * Places of those who look before they sleep. A thread takes one, and gives it back when it stops,
 * unless who woke it did: then another thread may look in its place. A waker may come late, when the
 * thread looks again. Three threads that look twice each, two places, four wakers.
 *
 * Claims: never more places than there are, and at rest all are free.
 *
 * map: L1 core/spin.c spin_place `} while (!atomic_compare_exchange_weak_explicit(&spin.free, &n, n - 1, memory_order_relaxed,`
 * map: L2 core/spin.c spin_place `atomic_store_explicit(&t->spinning, true, memory_order_relaxed);`
 * map: L3 core/spin.c sp__spin_posted `bool has = atomic_load_explicit(&t->spinning, memory_order_relaxed);`
 * map: L4 core/spin.c sp__spin_posted `has = atomic_exchange_explicit(&t->spinning, false, memory_order_relaxed);`
 * map: L5 core/spin.c sp__spin_posted `int n = atomic_fetch_add_explicit(&spin.free, 1, memory_order_relaxed);`
 * map: L6 core/spin.c sp__spin_end `sp__spin_posted(t); // Unless who woke it did.`
 *
 * run: proven
 * run: broken -DBUG_NO_EXCHANGE
 * run: broken -DBUG_END_ALWAYS
 * run: broken -DBUG_END_NEVER
 */
#define THREADS 3
#define PLACES 2
#define TIMES 2

byte free = PLACES;
bool spinning[THREADS];
byte through;

inline posted(i) {
    if
    :: spinning[i] -> /* L3 */
#ifdef BUG_NO_EXCHANGE
        spinning[i] = false;
        was = true;
#else
        d_step { was = spinning[i]; spinning[i] = false } /* L4 */
#endif
        if
        :: was -> d_step { was = false; free++; assert(free <= PLACES) } /* L5 */
        :: else
        fi
    :: else
    fi
}

proctype Thread(byte me) {
    byte n;
    bool was;

    do
    :: n < TIMES ->
        n++;
        if
        :: atomic { free > 0 -> free-- } /* L1 */
           spinning[me] = true; /* L2 */
#ifdef BUG_END_ALWAYS
           spinning[me] = false;
           free++
#elif !defined(BUG_END_NEVER)
           posted(me) /* L6 */
#endif
        :: free == 0
        fi
    :: else -> break
    od;
    through++
}

proctype Waker(byte i) {
    bool was;

    posted(i)
}

init {
    atomic {
        run Thread(0); run Thread(1); run Thread(2);
        run Waker(0); run Waker(0); run Waker(1); run Waker(2)
    }
    timeout ->
    assert(through == THREADS && free == PLACES)
}
