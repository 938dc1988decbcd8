/* SPDX-License-Identifier: MIT */
/// Corking: a caller that sends one message after the other leaves them in the mailbox of its
/// socket for a moment, so that they go out together. The first one goes at once. At the latest
/// they go with 64 messages or 64 KiB, after 20 µs when the next one is sent, when the caller waits
/// for anything; and if it does not call again, when a worker looks, within about 0.2 ms.
///
/// The thread that corks owns the socket's actor (actor.h), and has put it into `cork` of its
/// record: who takes it out of there, that thread or a worker, owns it then. The pairing is release
/// (put) and acquire (take).
#ifndef SP_CORE_CORK_H
#define SP_CORE_CORK_H

#include "actor.h"
#include "sched.h"
#include "thread.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Ends a send that posted `n` messages of `bytes` bytes to `a`: runs it here, or leaves it corked.
void sp__cork_sent(struct sp__actor *a, size_t n, size_t bytes, bool in_place);

/// Ends a call that may have posted something, but hardly ever does.
static inline void sp__run_posted(bool in_place)
{
    const struct sp__thread *t = sp__thread_current;

    if (t != NULL && (sp__run_next(t) != NULL || sp__run_more(t))) {
        sp__run_here(in_place);
    }
}

/// Runs what this thread left corked. True: there was something.
bool sp__uncork(void);
/// Takes it out, for the caller to run. NULL: nothing.
struct sp__actor *sp__cork_take(struct sp__thread *t);

/// For the worker that guards: puts what was left longer than the bound, or all of it, into its own
/// queue. True: some thread corks, so look again.
bool sp__cork_look(bool all);

#endif
