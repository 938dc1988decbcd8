/* SPDX-License-Identifier: MIT */
/// Waiting for a lock, which is seldom. See lock.h. [any]
#include "lock.h"

#include <sp/sp.h>

int sp__lock_init(struct sp__lock *l)
{
    atomic_init(&l->word, 0);
    l->parker.token = 0;
    SP__TRACE(N0, l, 0);
    return pthread_mutex_init(&l->queue, NULL) == 0 ? SP_OK : SP_ENOMEM;
}

void sp__lock_fini(struct sp__lock *l)
{
    SP__TRACE(N8, l, 0);
    (void)pthread_mutex_destroy(&l->queue);
}

/// Marks it, as whoever waits does. Returns what it was; 0: the caller has it now.
static unsigned lock_mark(struct sp__lock *l)
{
    // Acquire: see sp__lock.
    unsigned was = atomic_exchange_explicit(&l->word, 2, memory_order_acquire);

    SP__TRACE(N3, l, was);
    return was;
}

void sp__lock_wait(struct sp__lock *l)
{
    (void)pthread_mutex_lock(&l->queue);
    SP__TRACE(N2, l, 0);
    // Who finds it free holds it, with the mark, though nobody may wait any more: one token too
    // many ends one park. Who finds it held has set the mark, so who holds it leaves a token, now
    // or before we park. Model: lock.pml.
    while (lock_mark(l) != 0) {
        (void)sp__platform->park(&l->parker, SP__NEVER);
        SP__TRACE(N4, l, 0);
    }
    (void)pthread_mutex_unlock(&l->queue);
    SP__TRACE(N5, l, 0);
}

void sp__lock_pass(struct sp__lock *l)
{
    sp__platform->unpark(&l->parker);
    SP__TRACE(N7, l, 0);
}
