/* SPDX-License-Identifier: MIT */
/// The calling thread's chain of error text. Written only by functions that run on behalf of an API
/// call of this thread, just before they return its failure; work that runs in place (actors)
/// reports through sp_cause instead. [any]
#ifndef SP_CORE_ERROR_H
#define SP_CORE_ERROR_H

#include <sp/sp.h>

#include <stdbool.h>
#include <stdnoreturn.h>

#define SP__DETAIL_MAX 2048

__attribute__((format(printf, 1, 2))) void sp__fail_text(const char *fmt, ...);
__attribute__((format(printf, 1, 2))) void sp__fail_text_in(const char *fmt, ...);
__attribute__((format(printf, 2, 3))) void sp__fail_text_code(int err, const char *fmt, ...);

// Expressions with the value `err`, as macros, so that compilers and checkers see which value that
// is. `err` must be without side effects.

/// Sets the thread's detail to the formatted text.
#define sp__fail(err, ...) (sp__fail_text(__VA_ARGS__), (err))
/// Puts the formatted text and ": " in front of the thread's detail: the next link outwards.
#define sp__fail_in(err, ...) (sp__fail_text_in(__VA_ARGS__), (err))
/// sp__fail(err, "<text>: <sp_strerror(err)>"), for plain causes.
#define sp__fail_code(err, ...) (sp__fail_text_code((err), __VA_ARGS__), (err))

/// Whether a call's flags are all of them known.
static inline bool sp__flags_known(int flags)
{
    return (flags & ~SP_NONBLOCK) == 0;
}
/// They are not. SP_EINVAL; the detail of `call` names the bits.
int sp__flags_fail(const char *call, int flags);

/// One of our own invariants is broken: says which, and aborts. Never because of a peer, the system
/// or the caller.
noreturn void sp__bug(const char *file, int line, const char *what);
#define SP__ASSERT(cond) ((cond) ? (void)0 : sp__bug(__FILE__, __LINE__, #cond))

#endif
