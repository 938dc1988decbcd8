/* SPDX-License-Identifier: MIT */
/// The calling thread's chain of error text. Written only by functions that run on behalf of an API
/// call of this thread, just before they return its failure; work that runs in place (actors)
/// reports through sp_cause instead. [any]
#ifndef SP_CORE_ERROR_H
#define SP_CORE_ERROR_H

#include <stdnoreturn.h>

#define SP__DETAIL_MAX 2048

/// Sets the thread's detail to the formatted text and returns `err`.
__attribute__((format(printf, 2, 3))) int sp__fail(int err, const char *fmt, ...);

/// Puts the formatted text and ": " in front of the thread's detail and returns `err`: the next
/// link outwards.
__attribute__((format(printf, 2, 3))) int sp__fail_in(int err, const char *fmt, ...);

/// sp__fail(err, "<fmt>: <sp_strerror(err)>"), for plain causes.
__attribute__((format(printf, 2, 3))) int sp__fail_code(int err, const char *fmt, ...);

/// One of our own invariants is broken: says which, and aborts. Never because of a peer, the system
/// or the caller.
noreturn void sp__bug(const char *file, int line, const char *what);
#define SP__ASSERT(cond) ((cond) ? (void)0 : sp__bug(__FILE__, __LINE__, #cond))

#endif
