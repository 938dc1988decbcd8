/* SPDX-License-Identifier: MIT */
/// Who runs actors: workers, started late and few; application threads in place; with "threads" = 0
/// the application's calls. And who polls: one thread at a time. sched_state.h says which file does
/// what.
#ifndef SP_CORE_SCHED_H
#define SP_CORE_SCHED_H

#include "actor.h"
#include "thread.h"

#include <stdbool.h>
#include <stdint.h>

/// Opens the poller; at most `threads` workers will be started (0: none, the application drives).
int sp__sched_start(int threads);
/// Wakes everybody who sleeps for want of work.
void sp__sched_rouse(void);
/// Ends the workers. Everything must be at rest.
void sp__sched_stop(void);
/// Joins the workers that have ended by themselves.
void sp__workers_reap(void);

/// Takes over an actor that is not idle any more. On a thread that runs actors it is queued there
/// (user code: on the workers' queue if this is an application's thread); else on this thread, for
/// sp__run_here.
void sp__schedule(struct sp__actor *a);

/// Ends an API call that posted: runs what it scheduled on this thread, within a budget, the rest
/// on the workers. With `in_place` false all of it goes to the workers.
void sp__run_here(bool in_place);

/// Waits until the thread is woken (sp__thread_wake) or the deadline. It looks for up to `spin` µs
/// (-1: adaptive) before it sleeps, and with `poll` it polls if nobody does, so that what it waits
/// for needs no other thread. With "threads" = 0 it runs all that is to be run. False: the deadline
/// passed. May return early: the caller looks at its condition again.
bool sp__wait(int64_t deadline, int64_t spin, bool poll);

/// Runs what is due, and polls, waiting at most until `deadline`. Returns how many actors ran. For
/// "threads" = 0.
int sp__drive(int64_t deadline);

/// Whether there are workers, or may be; else the application drives.
bool sp__sched_threaded(void);
/// There must be a thread that polls: starts the first worker if there is none.
void sp__need_worker(void);
/// A descriptor for foreign loops that polls readable as long as sp__drive has something to do.
/// Negative errno, SP_ENOTSUP.
int sp__sched_fd(void);
/// Ends the poller's sleep, because a timer is due before the end of it.
void sp__poller_kick(int64_t due);
/// Sees to it that a worker looks after corks (cork.h) from now on. False: there is none.
bool sp__guard_corks(void);

struct sp__sched_stats {
    unsigned threads;
    uint64_t wakes;
    uint64_t turns;
    uint64_t stuck;
    unsigned held;
    uint64_t spares;
};
void sp__sched_stats(struct sp__sched_stats *out);

#endif
