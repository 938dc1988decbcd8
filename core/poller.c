/* SPDX-License-Identifier: MIT */
/// The role of the poller: one thread at a time waits for readiness and the next timer, a worker or
/// an application's thread that waits anyway. It only posts events. [any]
#include "platform.h"
#include "sched.h"
#include "sched_state.h"
#include "scope.h"
#include "spin.h"
#include "timer.h"
#include "trace.h"
#include "watch.h"

#include <pthread.h>

int64_t sp__poller_lie_down(int64_t deadline)
{
    int64_t next = sp__timers_next();

    SP__TRACE(B9, NULL, next);
    sp__sched.poller_asleep = true;
    sp__sched.poller_until = next < deadline ? next : deadline;
    SP__TRACE(B15, NULL, sp__sched.poller_until);
    return sp__sched.poller_until;
}

/// A worker looks for a while before it sleeps, if there is a descriptor: who is to answer may just
/// be at work. -1: nothing came.
static int poller_look(struct sp__thread *t, struct sp__ready *ready, int64_t deadline)
{
    bool looks = t->worker && deadline > 0 &&
                 atomic_load_explicit(&sp__sched.watches, memory_order_relaxed) > 0;
    int64_t time = looks ? sp__spin_begin(t, -1) : 0;
    int64_t until;
    int n;

    if (time == 0) {
        return -1;
    }
    until = sp__now() + time;
    n = sp__platform->poller_look(ready, SP__POLL_MAX, until < deadline ? until : deadline);
    sp__spin_end(t, n >= 0);
    return n;
}

/// Sleeps in the poller.
static int poller_sleep(struct sp__thread *t, struct sp__ready *ready, int64_t deadline)
{
    int n;

    // seq_cst, see sp__thread_wake: whoever wakes this thread sees it polling, or it sees the token
    // here.
    atomic_store_explicit(&t->polling, SP__POLLING, memory_order_seq_cst);
    SP__TRACE(C8, t, 0);
    if (sp__platform->park(&t->parker, 0)) {
        SP__TRACE(C9, t, 1);
        deadline = 0;
    }
    SP__TRACE(B10, t, deadline);
    n = poller_look(t, ready, deadline);
    if (n < 0) {
        n = t->fds == NULL ? sp__platform->poller_wait(ready, SP__POLL_MAX, deadline)
                           : sp__platform->poller_wait_fds(ready, SP__POLL_MAX, deadline, t->fds);
    }
    atomic_store_explicit(&t->polling, SP__POLLING_NOT, memory_order_relaxed);
    SP__TRACE(C11, t, n);
    return n;
}

/// A helper gives up polling: there is a guard, or one is made. Under the lock, which it gives up.
static void poller_helped(void)
{
    if (!atomic_load_explicit(&sp__sched.stirred, memory_order_relaxed)) {
        (void)sp__watchdog_wake_locked(); // It runs in place what it found.
    }
    sp__sched.helped = true;
    SP__TRACE(C25, sp__sched.guard, sp__sched.head);
    if (sp__sched.guard == NULL || sp__sched.head != NULL) {
        sp__sched_alert();
    } else {
        (void)pthread_mutex_unlock(&sp__sched.lock);
    }
}

void sp__poller_report(struct sp__thread *t, const struct sp__ready *ready, int n)
{
    struct sp__watch *zombies;

    SP__TRACE(B28, t, n);
    // Acquire: pairs with the release in sp__watch_open.
    (void)atomic_load_explicit(&sp__sched.watches, memory_order_acquire);
    for (int i = 0; i < n; i++) {
        struct sp__watch *w = ready[i].target;

        SP__TRACE(G15, w, ready[i].ready);
        w->ready(w, ready[i].ready);
    }
    SP__TRACE(B12, t, 0);
    (void)sp__timers_fire(sp__now());
    sp__scopes_tend();
    (void)pthread_mutex_lock(&sp__sched.lock);
    sp__sched.poller_busy = false;
    sp__sched.poller_asleep = false;
    sp__sched.poller_worker = false;
    SP__TRACE(B13, t, 0);
    zombies = sp__sched.zombies;
    SP__TRACE(G16, zombies, 0);
    sp__sched.zombies = NULL;
    if (!t->worker && sp__sched_max() > 0) {
        poller_helped();
    } else {
        (void)pthread_mutex_unlock(&sp__sched.lock);
    }
    sp__watch_drop_zombies(zombies);
}

void sp__poller_poll(struct sp__thread *t, int64_t deadline)
{
    struct sp__ready ready[SP__POLL_MAX];

    sp__poller_report(t, ready, poller_sleep(t, ready, deadline));
}

void sp__poller_glance(struct sp__thread *t)
{
    bool mine;

    (void)pthread_mutex_lock(&sp__sched.lock);
    mine = sp__poller_take(t);
    SP__TRACE(B17, t, mine);
    (void)pthread_mutex_unlock(&sp__sched.lock);
    if (mine) {
        sp__poller_poll(t, 0);
    }
}

void sp__poller_kick(int64_t due)
{
    struct sp__thread *t = sp__self();
    bool late;

    (void)pthread_mutex_lock(&sp__sched.lock);
    late = sp__sched.poller_asleep && due < sp__sched.poller_until;
    SP__TRACE(B18, NULL, late);
    if (late) {
        sp__sched.poller_asleep = false;
    }
    if (sp__sched.count == 0 && t != NULL && t->here) {
        t->armed = true; // Who polls for it is seen to when this thread is through.
    } else if (sp__sched.count == 0) {
        (void)sp__worker_start();
    }
    (void)pthread_mutex_unlock(&sp__sched.lock);
    if (late) {
        SP__TRACE(B4, NULL, 0);
        sp__platform->poller_wake();
    }
}

int sp__sched_fd(void)
{
    int fd = SP_ENOTSUP;

    (void)pthread_mutex_lock(&sp__sched.lock);
    if (sp__platform->poller_fd != NULL) {
        fd = sp__platform->poller_fd();
    }
    sp__sched.tell = fd >= 0;
    sp__sched_tell();
    (void)pthread_mutex_unlock(&sp__sched.lock);
    if (fd >= 0) {
        sp__timers_tell(true);
    }
    return fd;
}
