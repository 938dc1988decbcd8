/* SPDX-License-Identifier: MIT */
/// What the library keeps for each thread that calls it or works for it. A record is made at a
/// thread's first call and used again by another thread after that one ended; it is never freed, so
/// that other threads may read it at any time.
#ifndef SP_CORE_THREAD_H
#define SP_CORE_THREAD_H

#include "platform.h"
#include "pool.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SP__HAZARDS 4

struct sp__actor;
struct sp__app;
struct sp__scope;
struct sp__worker;

/// Where a thread sleeps, if not on its parker.
enum sp__polling {
    SP__POLLING_NOT,
    SP__POLLING,    ///< in the poller: to be woken through it
    SP__POLLING_FDS ///< in poll(2) with the user's descriptors and its own flag
};

struct sp__thread {
    // The owner's.
    /// The actor that was scheduled last: its messages are still in the cache. A worker's, as
    /// run_head, may be robbed (sp__local_rob).
    _Atomic(struct sp__actor *) run_next;
    unsigned run_chain;                   ///< how often in a row it was taken from there
    _Atomic(struct sp__actor *) run_head; ///< actors to run on this thread after it, in order
    struct sp__actor *run_tail;           ///< if there is a head
    bool running;        ///< inside the run loop: posts are queued, never run in place
    bool here;           ///< … and that is an application's thread that runs in place
    bool armed;          ///< … and armed a timer while there was no worker
    struct sp__fds *fds; ///< what its call waits for, too; NULL: nothing
    bool in_user;        ///< inside a user's callback: blocking calls give SP_ESTATE
    bool worker;         ///< a thread of the library
    struct sp__app *app; ///< the application's actor whose handler it is in; NULL: none
    unsigned depth;      ///< hazards in use
    unsigned turn;       ///< turns of the run loop, for fairness
    void *scratch;       ///< 64 KiB, made when first wanted
    unsigned spin_fails; ///< waits in a row in which looking did not pay (spin.c)
    unsigned spin_skip;  ///< waits until it is tried again
    size_t cork_n;       ///< messages, and their bytes, that are corked (cork.c)
    size_t cork_bytes;
    struct sp__actor *sent_to; ///< where the last send went that was run here; only compared
    int64_t sent_at;           ///< … and when it was through
    struct sp__worker *place;  ///< a worker's, among all (worker.c)
    int64_t visit_wall;        ///< the wall clock in this visit of an actor, ns; 0: not yet read
    unsigned rows;             ///< rows since it looked at the poller
    struct sp__magazine magazines[SP__CLASSES];

    // Read by others.
    struct sp__parker parker;
    _Atomic int polling;              ///< enum sp__polling: how it is to be woken
    int wake_flag;                    ///< … of SP__POLLING_FDS, + 1; 0: none was made yet
    atomic_bool in_poll;              ///< waits in sp_poll (poll.c)
    atomic_bool spinning;             ///< has a place among those who look (spin.c)
    _Atomic(struct sp__actor *) cork; ///< left for a moment (cork.h); NULL: nothing
    _Atomic int64_t cork_at;          ///< since when, ns
    _Atomic uint64_t corks;           ///< how many times
    uint64_t corks_seen;              ///< … when the guard looked last; the guard's
    _Atomic uint64_t ops_begun;       ///< operations (op.c); each written by this thread only
    _Atomic uint64_t ops_over;
    _Atomic uint64_t posts;              ///< to actors (actor.c); likewise
    _Atomic(struct sp__scope *) scope;   ///< of its call, if that is in one (scope.c)
    _Atomic(void *) hazard[SP__HAZARDS]; ///< objects that a call of this thread uses
    atomic_bool taken;                   ///< a live thread owns this record
    struct sp__thread *next;             ///< list of all records; written once
    struct sp__thread *idle_next;        ///< list of idle threads; under the scheduler's lock
    bool idle;
    _Atomic uintptr_t runs; ///< the actor that it runs, and the watchdog's marks (watchdog.c); 0
    int64_t runs_since;     ///< … at the latest; the watchdog's
    /// In a row: runs callbacks, and keeps what they schedule (sched.c). Begun and ended under the
    /// scheduler's lock, ended by the guard too.
    atomic_uint row;
    atomic_bool queueing;   ///< a worker that changes its run queue (sched.c)
    atomic_bool robbed;     ///< somebody else is about to
    atomic_uint row_visits; ///< actors that it ran in rows; the owner's
    unsigned row_seen;      ///< … when the guard looked last; the guard's
};

/// The calling thread's record, once it has one. Initial-exec: one load instead of a call; 8 bytes
/// fit into what the C library keeps for libraries that are loaded late.
extern _Thread_local struct sp__thread *sp__thread_current
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

struct sp__thread *sp__thread_first_call(void);

/// The calling thread's record; NULL: no memory.
static inline struct sp__thread *sp__self(void)
{
    struct sp__thread *t = sp__thread_current;

    return t != NULL ? t : sp__thread_first_call();
}

/// The head of the list of all records; it only grows at its head.
struct sp__thread *sp__threads(void);

/// Wakes a thread, wherever it sleeps.
void sp__thread_wake(struct sp__thread *t);
/// The calling thread sleeps until it is woken or the deadline (see park), or one of the user's
/// descriptors is ready, for which sp__thread_flag was called. False: it was not woken.
bool sp__thread_sleep(struct sp__thread *t, int64_t deadline);
/// Makes the flag by which the calling thread is woken out of poll(2). It stays with the record,
/// for the next owner too: who wakes may be late. Negative errno.
int sp__thread_flag(struct sp__thread *t);

/// The actor to run next, and whether there are others: what the thread sees. Relaxed: its own.
static inline struct sp__actor *sp__run_next(const struct sp__thread *t)
{
    return atomic_load_explicit(&t->run_next, memory_order_relaxed);
}
static inline bool sp__run_more(const struct sp__thread *t)
{
    return atomic_load_explicit(&t->run_head, memory_order_relaxed) != NULL;
}
/// Release: to who robs the thread.
static inline void sp__run_next_set(struct sp__thread *t, struct sp__actor *a)
{
    atomic_store_explicit(&t->run_next, a, memory_order_release);
}

/// The thread begins to run an actor (NULL: it is through). Release: the watchdog that finds it
/// reads what the actor is.
static inline void sp__runs(struct sp__thread *t, const struct sp__actor *a)
{
    t->visit_wall = 0;
    atomic_store_explicit(&t->runs, (uintptr_t)a, memory_order_release);
}

/// Whether a token lies there. Relaxed: who sees it takes it by park, which acquires. The thread's.
static inline bool sp__thread_posted(struct sp__thread *t)
{
    return __atomic_load_n(&t->parker.token, __ATOMIC_RELAXED) == 1;
}

#endif
