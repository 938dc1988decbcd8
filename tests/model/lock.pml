/* SPDX-License-Identifier: MIT */
/*
 * The lock of a context: a word that says whether it is held, one that says whether somebody waits,
 * a mutex at which those queue who have to wait, and a token that the first of them sleeps for.
 * Giving it back is a store, which others may see later than the look at `waits` behind it (`late`);
 * the heavy fence makes all such stores seen, and so does leaving the token. Three threads that take it three times each.
 *
 * Claims: one holder at any time; at rest nobody sleeps for it, and it is free.
 *
 * map: N1 core/lock.h sp__lock `atomic_compare_exchange_strong_explicit(&l->word, &nobody, 1, memory_order_acquire,`
 * map: N2 core/lock.c sp__lock_wait `(void)pthread_mutex_lock(&l->queue);`
 * map: N3 core/lock.c sp__lock_wait `atomic_store_explicit(&l->waits, 1, memory_order_seq_cst);`
 * map: N4 core/lock.c lock_try `atomic_compare_exchange_strong_explicit(&l->word, &was, 1, memory_order_seq_cst,`
 * map: N5 core/lock.c sp__lock_wait `(void)sp__platform->park(&l->parker, SP__NEVER);`
 * map: N6 core/lock.h sp__unlock `SP__STORE_LIGHT(&l->word, 0);`
 * map: N7 core/lock.c sp__lock_pass `sp__platform->unpark(&l->parker);`
 * map: N9 core/lock.c sp__lock_wait `atomic_store_explicit(&l->waits, 0, memory_order_relaxed);`
 * map: N10 core/lock.c sp__lock_wait `(void)pthread_mutex_unlock(&l->queue);`
 * map: N11 core/lock.h sp__unlock `waits = atomic_load_explicit(&l->waits, memory_order_seq_cst);`
 *
 * run: proven
 * run: broken -DBUG_NO_FENCE
 * run: broken -DBUG_FENCE_FIRST
 * run: broken -DBUG_PASS_BLIND
 * run: broken -DBUG_PASS_FIRST
 */
#define THREADS 3
#define TIMES 3

bool word;  /* as all see it */
bool late;  /* who gave it back has done so, and others see it held yet */
bool waits;
bool queue;
bool token;
byte inside;
byte through;

/* All stores that are late are seen. */
inline fence() {
    if
    :: late -> late = false; word = false
    :: else
    fi
}

inline take() {
    if
    :: atomic { !word -> word = true } /* N1 */
    :: atomic { word -> skip }
       atomic { !queue -> queue = true } /* N2 */
#ifdef BUG_FENCE_FIRST
       d_step { fence() }
       waits = true;
#else
       waits = true; /* N3 */
#ifndef BUG_NO_FENCE
       d_step { fence() }
#endif
#endif
       do
       :: atomic { !word -> word = true; break } /* N4 */
       :: atomic { word -> skip }
          atomic { token -> token = false } /* N5 */
       od;
       waits = false; /* N9 */
       queue = false /* N10 */
    fi
}

inline give() {
#ifdef BUG_PASS_FIRST
    found = waits;
    if
    :: found -> token = true
    :: else
    fi;
    late = true
#else
    late = true; /* N6 */
    found = waits; /* N11 */
    if
#ifdef BUG_PASS_BLIND
    :: found && token -> skip
#else
    :: found -> d_step { fence(); token = true } /* N7, a release: what it did before is seen first */
#endif
    :: else
    fi
#endif
}

/* Whenever it likes. */
active proctype Memory() {
end:
    do
    :: atomic { late -> fence() }
    od
}

proctype Thread() {
    byte n;
    bool found;

    do
    :: n < TIMES ->
        n++;
        take();
        d_step { inside++; assert(inside == 1) }
        inside--;
        give()
    :: else -> break
    od;
    through++
}

init {
    atomic { run Thread(); run Thread(); run Thread() }
    timeout ->
    assert(through == THREADS && !word && !queue && inside == 0)
}
