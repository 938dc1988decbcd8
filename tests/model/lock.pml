/* SPDX-License-Identifier: MIT */
/*
 * The lock of a context: one word (0 free, 1 held, 2 held and somebody waits), a mutex at which
 * those queue who have to wait, and a token that the first of them sleeps for. Three threads that
 * take it three times each.
 *
 * Claims: one holder at any time; at rest nobody sleeps for it, and it is free.
 *
 * map: N1 core/lock.h sp__lock `atomic_compare_exchange_strong_explicit(&l->word, &nobody, 1, memory_order_acquire,`
 * map: N2 core/lock.c sp__lock_wait `(void)pthread_mutex_lock(&l->queue);`
 * map: N3 core/lock.c lock_mark `atomic_exchange_explicit(&l->word, 2, memory_order_acquire);`
 * map: N4 core/lock.c sp__lock_wait `(void)sp__platform->park(&l->parker, SP__NEVER);`
 * map: N5 core/lock.c sp__lock_wait `(void)pthread_mutex_unlock(&l->queue);`
 * map: N6 core/lock.h sp__unlock `atomic_exchange_explicit(&l->word, 0, memory_order_release);`
 * map: N7 core/lock.c sp__lock_pass `sp__platform->unpark(&l->parker);`
 *
 * run: proven
 * run: broken -DBUG_LOOK_AND_MARK
 * run: broken -DBUG_PASS_BLIND
 * run: broken -DBUG_PASS_FIRST
 */
#define THREADS 3
#define TIMES 3

byte word;
bool queue;
bool token;
byte inside;
byte through;

inline take() {
    if
    :: atomic { word == 0 -> word = 1 } /* N1 */
    :: atomic { word != 0 -> skip }
       atomic { !queue -> queue = true } /* N2 */
       do
       :: atomic {
#ifdef BUG_LOOK_AND_MARK
           found = word
          };
          atomic {
#else
           found = word;
#endif
           word = 2
          } /* N3 */
          if
          :: found == 0 -> break
          :: else -> atomic { token -> token = false } /* N4 */
          fi
       od;
       queue = false /* N5 */
    fi
}

inline give() {
#ifdef BUG_PASS_FIRST
    found = word;
    if
    :: found == 2 -> token = true
    :: else
    fi;
    word = 0
#else
    d_step { found = word; word = 0 } /* N6 */
    if
#ifdef BUG_PASS_BLIND
    :: found == 2 && token -> token = true
#else
    :: found == 2 -> token = true /* N7 */
#endif
    :: else
    fi
#endif
}

proctype Thread() {
    byte n;
    byte found;

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
    assert(through == THREADS && word == 0 && !queue && inside == 0)
}
