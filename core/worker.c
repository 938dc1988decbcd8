/* SPDX-License-Identifier: MIT */
/// Lives of workers: started when there is need, covered for while one is in the user's code, ended
/// when they were not needed for long (idle.c), or all of them. [any]
#include "config.h"
#include "log.h"
#include "platform.h"
#include "sched.h"
#include "sched_state.h"
#include "spin.h"
#include "timer.h"
#include "trace.h"
#include "watch.h"

#include <sp/sp.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define WORKERS_MAX 64

#define ROW_PACE 16 // actors that a worker in a row runs from look to look of the guard, at least
#define SPARES 4    // times `max`, at most, while as many are held

struct sp__worker {
    void *thread;              ///< NULL: none
    struct sp__thread *record; ///< NULL: it has not begun yet
    uintptr_t held;            ///< by a callback: its record's `runs` then; 0: it is not
    bool covered;              ///< … of a plugin, so that it is counted in `in_user`
    bool gone;                 ///< it ends by itself, and is to be joined
};

static struct sp__worker workers[WORKERS_MAX]; ///< under the lock

/// Joins the worker of a place, if it has ended.
static void worker_reap(int i)
{
    if (workers[i].gone) {
        sp__platform->thread_join(workers[i].thread); // It only returns any more.
        workers[i] = (struct sp__worker){0};
        SP__TRACE(J21, NULL, i);
    }
}

void sp__workers_reap(void)
{
    (void)pthread_mutex_lock(&sp__sched.lock);
    for (int i = 0; i < WORKERS_MAX; i++) {
        worker_reap(i);
    }
    sp__watchdog_stay();
    (void)pthread_mutex_unlock(&sp__sched.lock);
}

/// How many workers there may be now: one that is held does not count, up to a limit.
static int worker_limit(void)
{
    int max = sp__sched_max();
    int spares = sp__sched.held < SPARES * max ? sp__sched.held : SPARES * max;

    return max + spares < WORKERS_MAX ? max + spares : WORKERS_MAX;
}

/// A free place for a worker. -1: none, or there may be no more.
static int worker_place(void)
{
    if (sp__sched.count >= worker_limit()) {
        return -1;
    }
    for (int i = 0; i < WORKERS_MAX; i++) {
        worker_reap(i);
        if (workers[i].thread == NULL) {
            return i;
        }
    }
    return -1;
}

/// Without any thread, blocking calls do the work, as with "threads" = 0: those under way too, so
/// they look again. Under the lock.
static void workers_none(void)
{
    atomic_store_explicit(&sp__sched.max, 0, memory_order_relaxed);
    SP__TRACE(B26, NULL, 0);
    for (struct sp__thread *t = sp__threads(); t != NULL; t = t->next) {
        sp__thread_wake(t);
    }
}

static void worker_main(void *arg)
{
    struct sp__worker *me = arg;
    struct sp__thread *t = sp__self();
    bool stop = t == NULL;

    if (t == NULL) {
        // No memory even for its record: as if it could not have been started.
        (void)pthread_mutex_lock(&sp__sched.lock);
        sp__sched.count--;
        SP__TRACE(B33, NULL, sp__sched.count);
        workers_none();
        (void)pthread_mutex_unlock(&sp__sched.lock);
        return;
    }
    t->worker = true;
    t->running = true;
    t->place = me;
    (void)pthread_mutex_lock(&sp__sched.lock);
    me->record = t;
    (void)pthread_mutex_unlock(&sp__sched.lock);
    while (!stop) {
        stop = sp__sched_turn(t, SP__NEVER) == SP__TURN_END;
        if (!stop && !sp__local_any(t)) {
            (void)pthread_mutex_lock(&sp__sched.lock);
            stop = sp__sched.stop && sp__sched.head == NULL;
            (void)pthread_mutex_unlock(&sp__sched.lock);
        }
    }
    t->worker = false;
    t->running = false;
    t->place = NULL;
}

bool sp__worker_start(void)
{
    char name[32];
    struct sp__thread_attr attr;
    int i = sp__sched.stop ? -1 : worker_place();
    int rc;

    if (i < 0) {
        return false;
    }
    attr = (struct sp__thread_attr){name, (size_t)sp__config()->thread_stack,
                                    sp__config()->affinity};
    (void)snprintf(name, sizeof(name), "sp-worker-%d", i);
    rc = sp__platform->thread_start(&workers[i].thread, &attr, worker_main, &workers[i]);
    if (rc < 0) {
        workers[i].thread = NULL;
    } else {
        sp__sched.spares += sp__sched.count >= sp__sched_max();
        sp__sched.count++;
        SP__TRACE(B22, NULL, sp__sched.count);
    }
    if (rc < 0 && sp__sched.count == 0) {
        sp__logf(SP_LOG_ERROR, "runtime", "cannot start a thread: %s", sp_strerror(rc));
        workers_none();
    }
    return rc == SP_OK;
}

/// What else is new as somebody covers for a worker; for the record.
enum { COVER_BACK = 4, COVER_BACK_COVERED = 8, COVER_HELD = 16 };

/// A worker may keep what its callbacks schedule: there is a guard, or every worker is in the
/// user's code, and the first one that comes back and sleeps will be the guard. Under the lock.
static void row_begin(struct sp__thread *t)
{
    if (t != NULL && t->place != NULL) {
        sp__sched.rows++;
        atomic_store_explicit(&t->row, 1, memory_order_relaxed);
        SP__TRACE(B42, t, sp__sched.rows);
    }
}

/// Somebody else sees to what a worker that is busy leaves; under the lock, which it gives up. `t`:
/// that may keep it; NULL: it may not.
static bool worker_cover(struct sp__thread *t, unsigned how)
{
    bool covered = true;
    bool corks;

    corks = sp__sched.guard == NULL && atomic_load_explicit(&sp__sched.corks, memory_order_relaxed);
    SP__TRACE(B6, NULL, sp__sched.poller_busy + 2 * corks + how);
    if (sp__sched.guard != NULL) {
        // It sees to all of that within its nap, and goes on guarding.
        SP__TRACE(B35, sp__sched.guard, 0);
        sp__sched.left = true;
        sp__sched.rower = t;
        row_begin(t);
    } else if (sp__sched_max() > 0 && (sp__sched.count == sp__sched.in_user ||
                                       (!sp__sched.poller_busy && sp__sched.idle == NULL))) {
        SP__TRACE(B7, NULL, sp__sched.count);
        covered = sp__worker_start() || sp__sched.count > sp__sched.in_user;
        if (!covered) {
            row_begin(t);
        }
    } else if (sp__sched_max() > 0 && (!sp__sched.poller_busy || sp__sched.head != NULL || corks)) {
        sp__sched_alert();
        return true;
    }
    (void)pthread_mutex_unlock(&sp__sched.lock);
    return covered;
}

/// A worker whose callback has returned counts again. Under the lock; which it was.
static unsigned worker_back(struct sp__worker *w)
{
    unsigned how;

    if (w == NULL || w->held == 0) {
        return 0;
    }
    how = w->covered ? COVER_BACK_COVERED : COVER_BACK;
    w->held = 0;
    sp__sched.held--;
    sp__sched.in_user -= w->covered;
    w->covered = false;
    return how;
}

static void worker_unhold(struct sp__worker *w)
{
    if (worker_back(w) != 0) {
        SP__TRACE(B38, w->record, sp__sched.in_user);
    }
}

bool sp__worker_cover(struct sp__thread *t)
{
    unsigned how;

    (void)pthread_mutex_lock(&sp__sched.lock);
    how = worker_back(t->place);
    sp__sched.in_user++;
    return worker_cover(t, how);
}

/* ------------------------------------------------------------------ Rows */

/// A row ends, if it is not over; under the lock. True: it was not.
static bool row_end(struct sp__thread *t)
{
    // seq_cst: see row_goes_on.
    bool was = atomic_exchange_explicit(&t->row, 0, memory_order_seq_cst) != 0;

    if (was) {
        sp__sched.rows--;
        SP__TRACE(B43, t, sp__sched.rows);
    }
    return was;
}

/// Whether a worker in a row has run fewer actors since the last look than it should have.
static bool row_slow(struct sp__thread *t)
{
    unsigned visits = atomic_load_explicit(&t->row_visits, memory_order_relaxed);
    unsigned ran = visits - t->row_seen;

    t->row_seen = visits;
    return ran < ROW_PACE;
}

struct sp__actor *sp__rows_look(void)
{
    struct sp__actor *first = NULL;
    struct sp__actor **last = &first;

    for (int i = 0; i < WORKERS_MAX && sp__sched.rows > 0; i++) {
        struct sp__thread *t = workers[i].record;

        if (t != NULL && atomic_load_explicit(&t->row, memory_order_relaxed) != 0 && row_slow(t) &&
            row_end(t)) {
            *last = sp__local_rob(t);
            while (*last != NULL) {
                last = &(*last)->link;
            }
        }
    }
    return first;
}

/* ------------------------------------------------------------------ Workers that are held */

void sp__worker_unhold(struct sp__thread *t)
{
    worker_unhold(t->place);
}

void sp__workers_unhold(void)
{
    for (int i = 0; i < WORKERS_MAX; i++) {
        struct sp__worker *w = &workers[i];

        // Relaxed: what it did in the callback is nobody's business here.
        if (w->held != 0 &&
            atomic_load_explicit(&w->record->runs, memory_order_relaxed) != w->held) {
            worker_unhold(w);
        }
    }
}

static struct sp__worker *worker_of(const struct sp__thread *t)
{
    for (int i = 0; i < WORKERS_MAX; i++) {
        if (workers[i].record == t) {
            return &workers[i];
        }
    }
    return NULL;
}

enum sp__hold sp__worker_hold(struct sp__thread *t, uintptr_t seen, bool user_code)
{
    struct sp__worker *w;

    (void)pthread_mutex_lock(&sp__sched.lock);
    sp__sched.stuck++;
    w = worker_of(t);
    if (w == NULL || atomic_load_explicit(&t->runs, memory_order_relaxed) != seen) {
        (void)pthread_mutex_unlock(&sp__sched.lock);
        return SP__HOLD_NOT; // An application's thread, or it is back by now.
    }
    worker_unhold(w);
    if (sp__sched.guard == t) {
        sp__sched.guard = NULL;
        SP__TRACE(B39, t, 0);
    }
    w->held = seen;
    w->covered = !user_code;
    sp__sched.held++;
    sp__sched.in_user += w->covered;
    SP__TRACE(B37, t, sp__sched.in_user);
    return worker_cover(NULL, COVER_HELD) ? SP__HOLD_COVERED : SP__HOLD_NOBODY;
}

void sp__worker_rob(struct sp__thread *t)
{
    struct sp__actor *first = NULL;
    const struct sp__worker *w;

    (void)pthread_mutex_lock(&sp__sched.lock);
    w = worker_of(t);
    if (w != NULL && w->held != 0) {
        first = sp__local_rob(t);
    }
    (void)pthread_mutex_unlock(&sp__sched.lock);
    if (first != NULL) {
        sp__shared_push(first);
    }
}

bool sp__workers_asleep(void)
{
    int asleep = sp__sched.poller_busy && sp__sched.poller_worker;

    for (const struct sp__thread *t = sp__sched.idle; t != NULL; t = t->idle_next) {
        asleep++;
    }
    return asleep >= sp__sched.count;
}

void sp__worker_uncover(struct sp__thread *t)
{
    (void)pthread_mutex_lock(&sp__sched.lock);
    sp__worker_unhold(t);
    (void)row_end(t);
    sp__sched.in_user--;
    SP__TRACE(B27, NULL, sp__sched.in_user);
    (void)pthread_mutex_unlock(&sp__sched.lock);
}

void sp__worker_retire(struct sp__thread *t)
{
    t->place->record = NULL;
    sp__sched.count--;
    SP__TRACE(B30, t, true);
    t->place->gone = true; // At once: who counts on being able to start one finds its place.
    SP__TRACE(J20, t, t->place - workers);
}

void sp__need_worker(void)
{
    (void)pthread_mutex_lock(&sp__sched.lock);
    if (sp__sched.count == 0) {
        SP__TRACE(B21, NULL, sp__sched.count);
        (void)sp__worker_start();
    }
    (void)pthread_mutex_unlock(&sp__sched.lock);
}

bool sp__sched_threaded(void)
{
    return sp__sched_max() > 0;
}

int sp__sched_start(int threads)
{
    atomic_store_explicit(&sp__sched.max, threads < WORKERS_MAX ? threads : WORKERS_MAX,
                          memory_order_relaxed);
    sp__sched.stop = false;
    sp__sched.spares = 0;
    sp__watchdog_begin(threads > 0 ? sp__config()->watchdog_time : 0);
    SP__TRACE(B0, NULL, threads);
    sp__spin_start(sp__platform->cpus());
    return sp__platform->poller_open();
}

void sp__sched_rouse(void)
{
    (void)pthread_mutex_lock(&sp__sched.lock);
    for (struct sp__thread *t = sp__sched.idle; t != NULL; t = t->idle_next) {
        t->idle = false;
        sp__platform->unpark(&t->parker);
        SP__TRACE(B23, t, 0);
    }
    sp__sched.idle = NULL;
    SP__TRACE(B24, NULL, 0);
    (void)pthread_mutex_unlock(&sp__sched.lock);
    SP__TRACE(B4, NULL, 0);
    sp__platform->poller_wake();
}

void sp__sched_stop(void)
{
    (void)pthread_mutex_lock(&sp__sched.lock);
    sp__sched.stop = true;
    SP__TRACE(B25, NULL, 0);
    (void)pthread_mutex_unlock(&sp__sched.lock);
    sp__sched_rouse();
    sp__watchdog_end();
    for (int i = 0; i < WORKERS_MAX; i++) {
        if (workers[i].thread != NULL) {
            sp__platform->thread_join(workers[i].thread);
        }
        workers[i] = (struct sp__worker){0};
    }
    (void)pthread_mutex_lock(&sp__sched.lock);
    sp__sched.count = 0;
    sp__sched.held = 0;
    sp__sched.rows = 0;
    SP__TRACE(B22, NULL, 0);
    sp__sched.helped = false;
    sp__sched.left = false;
    sp__sched.wanted = false;
    atomic_store_explicit(&sp__sched.corks, false, memory_order_relaxed);
    sp__sched.tell = false;
    sp__sched.told = false;
    (void)pthread_mutex_unlock(&sp__sched.lock);
    sp__timers_tell(false);
    sp__watch_drop_zombies(sp__sched.zombies);
    sp__sched.zombies = NULL;
    sp__platform->poller_close();
}
