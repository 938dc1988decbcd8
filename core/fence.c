/* SPDX-License-Identifier: MIT */
/// The heavy side of fences. See fence.h. [any]
#include "fence.h"

#include "platform.h"

atomic_bool sp__fences_split;

void sp__fences_begin(void)
{
    bool split = sp__platform->fence_open != NULL && sp__platform->fence_open();

    atomic_store_explicit(&sp__fences_split, split, memory_order_relaxed);
}

void sp__fence_heavy(void)
{
    if (SP__FENCES_SPLIT) {
        sp__platform->fence();
    }
}
