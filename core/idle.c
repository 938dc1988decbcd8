/* SPDX-License-Identifier: MIT */
/// Threads with nothing to run. They poll if nobody does, else sleep on the idle list until there
/// is work. One worker, the guard, sleeps for a short time only while it is expected to poll soon
/// or to look after corks; others retire when they were not needed for long. [any]
#include "cork.h"
#include "platform.h"
#include "sched.h"
#include "sched_state.h"
#include "trace.h"

#include <pthread.h>

#define GUARD_NAP (100 * INT64_C(1000)) // ns
#define RETIRE (400 * SP__MS) // a worker without work ends after that, unless it is the last

static void idle_remove(struct sp__thread *t)
{
    for (struct sp__thread **at = &sp__sched.idle; *at != NULL; at = &(*at)->idle_next) {
        if (*at == t) {
            *at = t->idle_next;
            break;
        }
    }
    t->idle = false;
}

/// Sleeps on the idle list. False: nothing came until the deadline.
static bool idle_sleep(struct sp__thread *t, int64_t deadline)
{
    bool woken;

    t->idle = true;
    t->idle_next = sp__sched.idle;
    sp__sched.idle = t;
    SP__TRACE(A15, t, 0);
    (void)pthread_mutex_unlock(&sp__sched.lock);
    (void)sp__thread_sleep(t, deadline);
    SP__TRACE(B16, t, 0);
    (void)pthread_mutex_lock(&sp__sched.lock);
    SP__TRACE(C7, t, t->idle);
    woken = !t->idle;
    if (t->idle) {
        idle_remove(t);
    }
    return woken;
}

/// Whether the worker that is about to sleep shall be the guard; under the lock. False in `poll`:
/// it leaves the poller to a helper.
static bool guard_take(struct sp__thread *t, bool *poll)
{
    // Who is in a row, or was a moment ago, polls itself when it is through.
    bool rows = sp__sched.rows > 0 || (sp__sched.rower != NULL && sp__sched.rower != t);
    bool expects = sp__sched.helped || (sp__sched.wanted && !sp__sched.poller_busy);

    if (!t->worker || sp__sched.guard != NULL ||
        !(expects || rows || sp__sched.left ||
          atomic_load_explicit(&sp__sched.corks, memory_order_relaxed))) {
        return false;
    }
    sp__sched.guard = t;
    SP__TRACE(B29, t, expects);
    sp__sched.left = false;
    SP__TRACE(B36, t, 0);
    if (expects) {
        sp__sched.helped = false;
        sp__sched.wanted = false;
        *poll = false;
    }
    *poll = *poll && !rows;
    sp__sched.rower = NULL;
    return true;
}

void sp__guard_look(bool all)
{
    if (!all && sp__cork_look(false)) {
        return;
    }
    // seq_cst, see cork_put: who corks sees that nobody looks any more, or this last look sees the
    // cork.
    atomic_store_explicit(&sp__sched.corks, false, memory_order_seq_cst);
    SP__TRACE(K11, NULL, all);
    if (sp__cork_look(all) && !all) {
        atomic_store_explicit(&sp__sched.corks, true, memory_order_relaxed);
        SP__TRACE(K13, NULL, 0);
    }
}

bool sp__guard_corks(void)
{
    bool kick = false;

    // seq_cst: see sp__guard_look.
    if (atomic_load_explicit(&sp__sched.corks, memory_order_seq_cst)) {
        SP__TRACE(K14, NULL, true);
        return true;
    }
    SP__TRACE(K14, NULL, false);
    (void)pthread_mutex_lock(&sp__sched.lock);
    if (sp__sched.count == sp__sched.in_user && !sp__worker_start()) {
        SP__TRACE(K15, NULL, sp__sched.count);
        (void)pthread_mutex_unlock(&sp__sched.lock);
        return false;
    }
    // Not before there is somebody: others rely on it. seq_cst: see sp__guard_look.
    atomic_store_explicit(&sp__sched.corks, true, memory_order_seq_cst);
    SP__TRACE(K16, NULL, 0);
    if (sp__sched.guard == NULL && sp__sched.idle != NULL) {
        sp__sched_alert();
        return true;
    }
    if (sp__sched.guard == NULL && sp__sched.poller_asleep && sp__sched.poller_worker) {
        sp__sched.poller_asleep = false;
        SP__TRACE(B32, NULL, 0);
        kick = true;
    }
    (void)pthread_mutex_unlock(&sp__sched.lock);
    if (kick) {
        SP__TRACE(B4, NULL, 0);
        sp__platform->poller_wake();
    }
    return true;
}

/// The guard's nap is over: it looks after corks, and rows that do not get on. True: it has reason
/// to guard on, and nothing to run; then the lock is held, so that nobody finds it missing.
static bool guard_over(struct sp__thread *t)
{
    struct sp__actor *slow;

    if (atomic_load_explicit(&sp__sched.corks, memory_order_relaxed)) {
        SP__TRACE(K24, t, 0);
        sp__guard_look(false);
        sp__local_run(t);
    }
    (void)pthread_mutex_lock(&sp__sched.lock);
    if (sp__sched.guard == t) { // Else it ran something that did not return for long.
        sp__sched.guard = NULL;
        SP__TRACE(B31, t, 0);
    }
    slow = sp__rows_look();
    if (slow == NULL && sp__sched.rower != NULL && !sp__local_any(t) && sp__sched.head == NULL &&
        !sp__sched.stop) {
        return true;
    }
    (void)pthread_mutex_unlock(&sp__sched.lock);
    if (slow != NULL) {
        sp__shared_push(slow);
    }
    return false;
}

/// Sleeps for want of work, with the lock held, which it gives up. False: it shall end.
static bool idle_wait(struct sp__thread *t, int64_t deadline, bool poll, bool guard)
{
    bool extra = t->worker && !guard && sp__sched.count > 1;
    bool ends = false;

    if (poll && sp__poller_take(t)) {
        deadline = sp__poller_lie_down(deadline);
        (void)pthread_mutex_unlock(&sp__sched.lock);
        sp__poller_poll(t, deadline);
        return true;
    }
    if (!idle_sleep(t, extra ? sp__now() + RETIRE : deadline)) {
        ends = extra && !sp__sched.stop && sp__sched.head == NULL && sp__sched.count > 1;
    }
    if (ends) {
        sp__worker_retire(t);
    }
    (void)pthread_mutex_unlock(&sp__sched.lock);
    return !ends;
}

bool sp__idle(struct sp__thread *t, int64_t deadline)
{
    bool stays = true;
    bool guard = true;

    (void)pthread_mutex_lock(&sp__sched.lock);
    if (t->place != NULL) {
        sp__worker_unhold(t);
    }
    while (guard) {
        bool poll = true;
        int64_t until = deadline;

        SP__TRACE(A14, t, sp__sched.head);
        if (sp__sched.head != NULL || sp__sched.stop) {
            (void)pthread_mutex_unlock(&sp__sched.lock);
            return true;
        }
        guard = guard_take(t, &poll);
        if (guard) {
            int64_t nap = sp__now() + GUARD_NAP;

            until = nap < until ? nap : until;
            SP__TRACE(J14, t, until);
        }
        stays = idle_wait(t, until, poll, guard);
        guard = guard && guard_over(t);
    }
    return stays;
}
