/* SPDX-License-Identifier: MIT */
/// What the files of the scheduler share, and nobody else includes: the state under one lock, and
/// how they call each other. The lock guards only scheduling, never the running of an actor.
///
///     sched.c   run queues, and who runs what is in them: sp__schedule, sp__run_here, turns
///     worker.c  lives of workers: start, covering for one in the user's code, spares, end
///     idle.c    a thread with nothing to run: it polls, sleeps, guards, or retires
///     poller.c  the role of the poller: who has it, its sleep, what it reports
///     helper.c  application threads that wait: they poll, look, or drive ("threads" = 0)
///     watch.c   descriptors in the readiness set
///     watchdog.c  a thread that looks for callbacks that do not return
///
/// "Under the lock" is a call with sp__sched.lock held; all others are without it.
#ifndef SP_CORE_SCHED_STATE_H
#define SP_CORE_SCHED_STATE_H

#include "actor.h"
#include "platform.h"
#include "thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SP__FAIR_TURNS 61 // after as many turns the shared queue and the poller have their turn
#define SP__POLL_MAX 64   // reports of one look

struct sp__watch;

/// Everything but the atomics: under the lock. In brackets: whose functions write it.
struct sp__sched {
    pthread_mutex_t lock;

    struct sp__actor *head; ///< shared queue, linked by sp__actor.link [sched]
    struct sp__actor *tail;
    atomic_uint waiting; ///< in the shared queue; written under the lock

    struct sp__thread *idle; ///< asleep for want of work [idle]; who wakes one takes it out

    bool poller_busy;     ///< somebody polls or hands out reports [poller]
    bool poller_asleep;   ///< … and sleeps in it [poller]; who wakes it takes that back
    bool poller_worker;   ///< … and is a worker
    int64_t poller_until; ///< … at most so long

    /// Application threads that wait take turns at polling. One that leaves is expected back soon,
    /// so nobody is woken in its place: a worker, the guard, sleeps no longer than GUARD_NAP, and
    /// polls if nobody does by then. Model: help.pml.
    bool helped; ///< a helper left [poller] since a guard looked [idle]
    bool left;   ///< a worker in the user's code left work behind [sched], likewise
    bool wanted; ///< one would like to poll [helper], when the worker that does is through [idle]
    struct sp__thread *guard; ///< sleeps in the poller or on the idle list, but not for long [idle]
    atomic_bool corks;        ///< the guard looks after corks too [idle]

    /// A worker in a row runs what its callbacks schedule itself. While there is any, who goes to
    /// sleep is the guard, unless there is one; it ends rows that do not get on. Model: poller.pml.
    int rows;                 ///< … how many [worker]
    struct sp__thread *rower; ///< began one since a guard looked [worker]

    int in_user;     ///< workers in the user's code, or else held [worker]
    int held;        ///< workers in a callback that does not return, says the watchdog [worker]
    bool stop;       ///< the end of all workers [worker]
    atomic_int max;  ///< workers that are not held; 0: the application drives [worker]
    int count;       ///< workers that live [worker]
    uint64_t spares; ///< were started beyond `max` [worker]
    uint64_t stuck;  ///< callbacks that did not return in time [worker]

    /// The watchdog is there, and does not leave before this was false for a while. Written under
    /// the lock [watchdog]
    atomic_bool stirred;

    atomic_uint watches;       ///< open [watch]
    struct sp__watch *zombies; ///< closed while somebody polled [watch]; taken by [poller]

    bool tell; ///< there is a foreign loop: whether the shared queue is empty [poller]
    bool told; ///< … what it was told last [sched]

    atomic_uint_least64_t wakes; ///< for statistics [sched]
    atomic_uint_least64_t turns;
};

/// Hidden also where it is only declared: no detour by a table of addresses.
extern struct sp__sched sp__sched __attribute__((visibility("hidden")));

/// How many workers there may be. Relaxed: it is written at the start, and once more, with a wake
/// for everybody, when no worker can be started.
static inline int sp__sched_max(void)
{
    return atomic_load_explicit(&sp__sched.max, memory_order_relaxed);
}

/* ------------------------------------------------------------------ sched.c */

/// Whether anything waits in the thread's own queue. The thread's.
static inline bool sp__local_any(const struct sp__thread *t)
{
    return sp__run_next(t) != NULL || sp__run_more(t);
}

/// Runs what is queued here now, not in a later turn, which may begin with the user's code. The
/// thread's, a worker.
void sp__local_run(struct sp__thread *t);
/// Takes what is queued at a worker, of whom only this is known to be: a worker. [any]
struct sp__actor *sp__local_rob(struct sp__thread *t);
/// Moves a chain of actors to the shared queue.
void sp__shared_push(struct sp__actor *first);
/// Moves what is queued here to the shared queue. The thread's.
void sp__local_flush(struct sp__thread *t);
/// Sees to it that somebody comes for the shared queue; called under the lock, which it gives up.
void sp__sched_alert(void);
/// Tells a foreign loop whether there is something in the shared queue; under the lock.
void sp__sched_tell(void);

enum sp__turn { SP__TURN_RAN, SP__TURN_IDLE, SP__TURN_END };
/// One turn: runs one actor, or waits for work until the deadline. SP__TURN_END: a worker that is
/// not needed. The thread's, with `running` set.
enum sp__turn sp__sched_turn(struct sp__thread *t, int64_t deadline);

/* ------------------------------------------------------------------ worker.c */

/// Starts a worker; under the lock. False: there may be no more, or it cannot be started.
bool sp__worker_start(void);
/// A worker will be busy for an unknown time: somebody else shall poll, look after corks, and take
/// what waits in the shared queue, for which this worker may have been the one that was woken.
/// False: there is nobody. If somebody guards, or nobody can, the worker begins a row.
bool sp__worker_cover(struct sp__thread *t);
/// It is back.
void sp__worker_uncover(struct sp__thread *t);
/// A thread is in a callback that does not return, `seen` being its `runs`. If it is a worker, it
/// counts no more as one of `max`, and somebody takes over what it leaves. Returns what came of it.
enum sp__hold { SP__HOLD_NOT, SP__HOLD_COVERED, SP__HOLD_NOBODY };
enum sp__hold sp__worker_hold(struct sp__thread *t, uintptr_t seen, bool user_code);
/// What a worker that is held has queued goes to the others.
void sp__worker_rob(struct sp__thread *t);
/// The calling worker's callback returned after all: it counts again; under the lock.
void sp__worker_unhold(struct sp__thread *t);
/// The same, for all workers, whatever they do now; under the lock.
void sp__workers_unhold(void);
/// Ends rows that do not get on, and takes what is queued there, for the shared queue. Under the
/// lock; the guard's.
struct sp__actor *sp__rows_look(void);
/// Whether all workers sleep, or poll; under the lock.
bool sp__workers_asleep(void);
/// A worker that is not the last ends: its thread only returns any more. Under the lock.
void sp__worker_retire(struct sp__thread *t);

/* ------------------------------------------------------------------ idle.c */

/// Nothing to run: polls if nobody does, else sleeps until there is work. False: a worker that had
/// nothing to do for long, and is not the last, shall end.
bool sp__idle(struct sp__thread *t, int64_t deadline);
/// The guard looks after corks, as long as there are any; with `all`, takes out every one for the
/// last time. Then sp__local_run.
void sp__guard_look(bool all);

/* ------------------------------------------------------------------ poller.c */

/// Takes the role of the poller, if it is free; under the lock. True: one of sp__poller_poll and
/// sp__poller_report must follow.
static inline bool sp__poller_take(const struct sp__thread *t)
{
    if (sp__sched.poller_busy) {
        return false;
    }
    sp__sched.poller_busy = true;
    sp__sched.poller_worker = t->worker;
    SP__TRACE(C5, t, t->worker);
    return true;
}

/// The poller will sleep until the deadline that is returned, or the next timer; under the lock. A
/// timer that is armed later finds it asleep, and kicks.
int64_t sp__poller_lie_down(int64_t deadline);
/// Polls once, with the role taken.
void sp__poller_poll(struct sp__thread *t, int64_t deadline);
/// Posts what the one poller found ready, and what is due, and gives the role up.
void sp__poller_report(struct sp__thread *t, const struct sp__ready *ready, int n);
/// A look at the poller without waiting, if nobody else has it.
void sp__poller_glance(struct sp__thread *t);

/* ------------------------------------------------------------------ watchdog.c */

/// Starts and ends the watchdog, with the runtime.
void sp__watchdog_begin(int64_t time_ms);
void sp__watchdog_end(void);
/// Joins the watchdog's thread, if it has ended; under the lock.
void sp__watchdog_reap(void);
/// The process ends: joins it if it has ended, else it ends with the process; under the lock.
void sp__watchdog_stay(void);
/// Behind sp__watchdog_stir; the second one under the lock: negative if it cannot be started.
void sp__watchdog_wake(void);
int sp__watchdog_wake_locked(void);

/// A worker is about to run something: the watchdog shall be there.
static inline void sp__watchdog_stir(void)
{
    if (!atomic_load_explicit(&sp__sched.stirred, memory_order_relaxed)) {
        sp__watchdog_wake();
    }
}

/* ------------------------------------------------------------------ watch.c */

/// Drops the references of watches that were closed while reports were under way.
void sp__watch_drop_zombies(struct sp__watch *w);

#endif
