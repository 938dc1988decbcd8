/* SPDX-License-Identifier: MIT */
/// The runtime's start, end and fork rule. [any]
#ifndef SP_CORE_RUNTIME_H
#define SP_CORE_RUNTIME_H

#include <stdbool.h>

/// Starts the runtime with the defaults, unless it runs already. Sets the error detail.
int sp__runtime_start(void);
/// Whether this is a child after fork without exec: nothing works there.
bool sp__forked(void);
/// Whether the calling thread may block: not in a callback. Sets the error detail when not.
bool sp__may_block(void);

#endif
