/* SPDX-License-Identifier: MIT */
/// The command line peers of the interop tests: our own `sp cat`, nngcat and nanocat. Main thread
/// of a test.
#ifndef SP_TEST_PEER_CAT_H
#define SP_TEST_PEER_CAT_H

#include "proc.h"

#include <stdbool.h>

enum peer_program { PEER_SP, PEER_NNGCAT, PEER_NANOCAT };

const char *peer_name(enum peer_program which);

/// True when it can be run; else prints why not, for a test that then skips itself.
bool peer_exists(enum peer_program which);

/// Starts it with the formatted words, which single spaces separate, as arguments. 0 or a negative
/// errno.
__attribute__((format(printf, 3, 4))) int peer_start(struct proc *p, enum peer_program which,
                                                     const char *fmt, ...);

/// Runs a sub-command of `sp` to its end. Its exit code, or -1 when it did not end; the caller
/// stops `p`.
__attribute__((format(printf, 2, 3))) int peer_run_sp(struct proc *p, const char *fmt, ...);

/// The environment of a test program and of what it starts: where the built plugins are, when it is
/// not run by ctest, which says so; and no second of waiting at the end of each program that
/// ThreadSanitizer watches. To be called first in main.
void peer_environment(void);

#endif
