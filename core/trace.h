/* SPDX-License-Identifier: MIT */
/// What the models of tests/model speak of, as it happens: with SP_TRACE (debug builds) each of
/// their transitions calls a hook, if one is set; tests/support/replay.c replays what it got on the
/// models. Otherwise nothing is left of it. [any]
#ifndef SP_CORE_TRACE_H
#define SP_CORE_TRACE_H

#include <stddef.h>
#include <stdint.h>

/// `id` is the transition's name in the mapping (doc/models.md); its number is 0 where an object
/// begins, and beyond the mapping where the replay needs to know more.
typedef void sp__trace_fn(const char *id, const void *object, uint64_t value);

#ifdef SP_TRACE
/// NULL: nobody listens. Set while no other thread uses the library; not atomic, since in the
/// simulation of threads that would be a step of its own.
extern sp__trace_fn *sp__trace_hook;

static inline void sp__trace(const char *id, const void *object, uint64_t value)
{
    if (sp__trace_hook != NULL) {
        sp__trace_hook(id, object, value);
    }
}

/// Directly behind the step that it is about. Looks at nothing but what this thread has in hand: an
/// atomic access in `object` or `value` would be a step of its own.
#define SP__TRACE(id, object, value) sp__trace(#id, object, (uint64_t)(uintptr_t)(value))
#else
#define SP__TRACE(id, object, value) ((void)(object), (void)(value))
#endif

#endif
