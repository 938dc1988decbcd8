/* SPDX-License-Identifier: MIT */
/// A lock that is held for a few instructions, and hardly ever waited for: one word that is taken
/// and given back inline. Who has to wait queues at a mutex; the first of these sleeps on a place
/// to park of the lock's own. Giving it back is a store: who has to wait pays for the fence behind
/// it (fence.h). [any]
#ifndef SP_CORE_LOCK_H
#define SP_CORE_LOCK_H

#include "fence.h"
#include "platform.h"
#include "trace.h"

#include <pthread.h>
#include <stdatomic.h>

struct sp__lock {
    atomic_uint word;         ///< 0 free, 1 held
    atomic_uint waits;        ///< 1: who gives it back leaves a token in `parker`
    struct sp__parker parker; ///< where the first of those who wait sleeps
    pthread_mutex_t queue;    ///< … which is who has this
};

/// SP_ENOMEM.
int sp__lock_init(struct sp__lock *l);
void sp__lock_fini(struct sp__lock *l);

/// Behind the two below: the lock is not free, and somebody waits for it. Unlike a mutex it is
/// looked at after it was given back, so who does that keeps what it stands in alive: a call by its
/// hazard, an actor by its owner, an operation by a reference.
void sp__lock_wait(struct sp__lock *l);
void sp__lock_pass(struct sp__lock *l);

static inline void sp__lock(struct sp__lock *l)
{
    unsigned nobody = 0;

    // Acquire: pairs with the release in sp__unlock; what is under the lock is as it was left.
    if (!atomic_compare_exchange_strong_explicit(&l->word, &nobody, 1, memory_order_acquire,
                                                 memory_order_relaxed)) {
        SP__TRACE(N1, l, nobody);
        sp__lock_wait(l);
    } else {
        SP__TRACE(N1, l, 0);
    }
}

static inline void sp__unlock(struct sp__lock *l)
{
    unsigned waits;

    // Release: see sp__lock. seq_cst, the light side, against sp__lock_wait: either it finds the
    // lock given back, or we find that somebody waits.
    SP__STORE_LIGHT(&l->word, 0);
    SP__TRACE(N6, l, 0);
    waits = atomic_load_explicit(&l->waits, memory_order_seq_cst);
    SP__TRACE(N11, l, waits);
    if (waits != 0) {
        sp__lock_pass(l);
    }
}

#endif
