/* SPDX-License-Identifier: MIT */
/// Waiting for a lock, which is seldom. See lock.h. [any]
#include "lock.h"

#include <sp/sp.h>

int sp__lock_init(struct sp__lock *l)
{
    atomic_init(&l->word, 0);
    atomic_init(&l->waits, 0);
    l->parker.token = 0;
    SP__TRACE(N0, l, 0);
    return pthread_mutex_init(&l->queue, NULL) == 0 ? SP_OK : SP_ENOMEM;
}

void sp__lock_fini(struct sp__lock *l)
{
    SP__TRACE(N8, l, 0);
    (void)pthread_mutex_destroy(&l->queue);
}

/// Takes it if it is free.
static bool lock_try(struct sp__lock *l)
{
    unsigned was = 0;

    // Acquire: see sp__lock. seq_cst: after the heavy fence, see sp__unlock.
    (void)atomic_compare_exchange_strong_explicit(&l->word, &was, 1, memory_order_seq_cst,
                                                  memory_order_relaxed);
    SP__TRACE(N4, l, was);
    return was == 0;
}

void sp__lock_wait(struct sp__lock *l)
{
    (void)pthread_mutex_lock(&l->queue);
    SP__TRACE(N2, l, 0);
    // seq_cst, the heavy side: who gives the lock back from now on leaves a token, or we find it
    // given back. Model: lock.pml.
    atomic_store_explicit(&l->waits, 1, memory_order_seq_cst);
    SP__TRACE(N3, l, 0);
    sp__fence_heavy();
    while (!lock_try(l)) {
        (void)sp__platform->park(&l->parker, SP__NEVER);
        SP__TRACE(N5, l, 0);
    }
    // Who saw it and leaves a token yet ends one park too many. Relaxed: under the mutex.
    atomic_store_explicit(&l->waits, 0, memory_order_relaxed);
    SP__TRACE(N9, l, 0);
    (void)pthread_mutex_unlock(&l->queue);
    SP__TRACE(N10, l, 0);
}

void sp__lock_pass(struct sp__lock *l)
{
    sp__platform->unpark(&l->parker);
    SP__TRACE(N7, l, 0);
}
