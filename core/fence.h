/* SPDX-License-Identifier: MIT */
/// Fences of which one side pays (ADR 21). Where two sides each write a word and then read the
/// other's, one of the two must see the other's write, and both need a full fence between: five
/// nanoseconds each. If one side is the usual way and the other one hardly ever comes, the latter
/// makes all threads of the process go through a full fence (membarrier(2)), and the former has an
/// order for the compiler, which costs nothing.
///
/// Who pairs: sp__enter with sp__reclaim (hazards), sp__unlock with sp__lock_wait, queue_begin and
/// row_goes_on with sp__local_rob.
#ifndef SP_CORE_FENCE_H
#define SP_CORE_FENCE_H

#include <stdatomic.h>
#include <stdbool.h>

/// Whether the system has the heavy side. Once true it stays so, while threads run. Relaxed: who
/// does not know it yet uses a full fence.
extern atomic_bool sp__fences_split __attribute__((visibility("hidden")));

/// ThreadSanitizer knows of no such system call: both sides as if it was not there.
#if defined(__SANITIZE_THREAD__)
#define SP__FENCES_SPLIT false
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SP__FENCES_SPLIT false
#endif
#endif
#ifndef SP__FENCES_SPLIT
#define SP__FENCES_SPLIT atomic_load_explicit(&sp__fences_split, memory_order_relaxed)
#endif

/// The light side: stores `value` (release), in front of a load (seq_cst) of what the other side
/// stores before its heavy fence.
#define SP__STORE_LIGHT(at, value)                                                                 \
    do {                                                                                           \
        if (SP__FENCES_SPLIT) {                                                                    \
            atomic_store_explicit(at, value, memory_order_release);                                \
            atomic_signal_fence(memory_order_seq_cst);                                             \
        } else {                                                                                   \
            atomic_store_explicit(at, value, memory_order_seq_cst);                                \
        }                                                                                          \
    } while (0)

/// The light side, behind stores (release) that were made already: loads an integer.
#define SP__LOAD_LIGHT(at)                                                                         \
    (SP__FENCES_SPLIT ? (atomic_signal_fence(memory_order_seq_cst),                                \
                         atomic_load_explicit(at, memory_order_seq_cst))                           \
                      : atomic_fetch_or_explicit(at, 0, memory_order_seq_cst))

/// The heavy side, between a store (seq_cst) and a load (seq_cst): each light side that has not
/// loaded yet when this begins sees that store; the store of each that has loaded is seen. One or
/// a few microseconds.
void sp__fence_heavy(void);

/// With the runtime: asks the platform.
void sp__fences_begin(void);

#endif
