/* SPDX-License-Identifier: MIT */
/// The runtime's start, end and fork rule. [any]
#ifndef SP_CORE_RUNTIME_H
#define SP_CORE_RUNTIME_H

#include <stdatomic.h>
#include <stdbool.h>

/// Starts the runtime with the defaults, unless it runs already. Sets the error detail.
int sp__runtime_start(void);
/// The same, and it does not end before the sp__runtime_leave that must follow: for calls that make
/// an object.
int sp__runtime_enter(void);
void sp__runtime_leave(void);
/// Whether sp_fini has begun: who waits leaves.
bool sp__runtime_ends(void);
/// Whether this is a child after fork without exec: nothing works there.
extern atomic_bool sp__in_child __attribute__((visibility("hidden")));
static inline bool sp__forked(void)
{
    return atomic_load_explicit(&sp__in_child, memory_order_relaxed);
}
/// Whether the calling thread may block: not in a callback. Sets the error detail when not.
bool sp__may_block(void);

#endif
