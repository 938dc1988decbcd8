/* SPDX-License-Identifier: MIT */
/// An application's thread that waits. It helps: it looks for what it waits for, and polls if
/// nobody does. With "threads" = 0 it drives: it runs all that is to be run. [callers]
#include "cork.h"
#include "platform.h"
#include "sched.h"
#include "sched_state.h"
#include "spin.h"
#include "timer.h"
#include "trace.h"

#include <pthread.h>

/// Looks for what the thread waits for without sleeping: a token, and as the poller also readiness.
/// Returns what is ready.
static int helper_spin(struct sp__thread *t, struct sp__ready *ready, int64_t until)
{
    int n = 0;

    for (unsigned round = 0; n == 0 && !sp__thread_posted(t); round++) {
        bool polls = ready != NULL &&
                     atomic_load_explicit(&sp__sched.watches, memory_order_relaxed) > 0;
        unsigned way = polls ? 4 : 32; // about 1 µs either way

        if (polls) {
            n = sp__platform->poller_wait(ready, SP__POLL_MAX, 0);
            SP__TRACE(J2, t, n);
        }
        if (n == 0 && round % 8 == 7) {
            int64_t now = sp__now();

            if (now >= until || now >= sp__timers_next()) {
                break;
            }
        }
        sp__platform->relax(round % way == way - 1);
    }
    return n;
}

/// Looks for up to `time` ns. True: something came, which is dealt with. False in the end with the
/// role of the poller, if the thread had it.
static bool helper_look(struct sp__thread *t, bool poller, int64_t deadline, int64_t time)
{
    struct sp__ready ready[SP__POLL_MAX];
    int64_t until = sp__now() + time;
    int n = helper_spin(t, poller ? ready : NULL, until < deadline ? until : deadline);
    bool won = n > 0 || sp__thread_posted(t);

    SP__TRACE(J3, t, 2 * n + won);
    sp__spin_end(t, won);
    if (won && poller) {
        sp__poller_report(t, ready, n);
        sp__run_here(true);
    }
    return won;
}

/// An application's thread waits: with `poll` it polls itself if nobody does.
static void helper_wait(struct sp__thread *t, int64_t deadline, int64_t spin, bool poll)
{
    int64_t time = sp__spin_begin(t, spin);
    bool poller = false;

    if (time > 0) {
        (void)pthread_mutex_lock(&sp__sched.lock);
        poller = poll && sp__poller_take(t);
        SP__TRACE(J1, t, 2 * poll + poller);
        (void)pthread_mutex_unlock(&sp__sched.lock);
        if (helper_look(t, poller, deadline, time)) {
            return;
        }
    }
    (void)pthread_mutex_lock(&sp__sched.lock);
    poller = poller || (poll && sp__poller_take(t));
    SP__TRACE(J4, t, 2 * poll + poller);
    if (poller && sp__sched.zombies != NULL) {
        deadline = 0; // The wake for them may have come while we looked.
        SP__TRACE(J5, sp__sched.zombies, 0);
    }
    if (poller) {
        deadline = sp__poller_lie_down(deadline);
    } else {
        sp__sched.wanted = sp__sched.wanted || poll;
        SP__TRACE(C27, t, poll);
    }
    (void)pthread_mutex_unlock(&sp__sched.lock);
    if (poller) {
        sp__poller_poll(t, deadline);
        sp__run_here(true);
    } else {
        (void)sp__thread_sleep(t, deadline);
        SP__TRACE(C28, t, 0);
    }
}

/// With "threads" = 0: a thread that stops driving leaves nobody without a poller, nor with work:
/// it wakes one that sleeps, which drives, or passes it on in turn when it leaves too.
static void helper_pass_on(void)
{
    struct sp__thread *heir = NULL;

    (void)pthread_mutex_lock(&sp__sched.lock);
    SP__TRACE(C18, NULL, sp__sched.head);
    if (sp__sched.head != NULL) {
        sp__sched_alert();
        return;
    }
    if (!sp__sched.poller_busy && sp__sched.idle != NULL) {
        heir = sp__sched.idle;
        SP__TRACE(C19, heir, 0);
        sp__sched.idle = heir->idle_next;
        heir->idle = false;
    }
    (void)pthread_mutex_unlock(&sp__sched.lock);
    if (heir != NULL) {
        sp__thread_wake(heir);
    }
}

bool sp__wait(int64_t deadline, int64_t spin, bool poll)
{
    struct sp__thread *t = sp__self();

    (void)sp__uncork();
    sp__run_here(true); // What this call posted must not sleep with its thread.
    t->sent_to = NULL;
    if (sp__platform->park(&t->parker, 0)) {
        SP__TRACE(C1, t, 1);
        return true;
    }
    SP__TRACE(C1, t, 0);
    if (sp__sched_max() == 0) {
        t->running = true;
        (void)sp__sched_turn(t, deadline);
        t->running = false;
        sp__local_flush(t);
        SP__TRACE(C17, t, 0);
        helper_pass_on();
    } else if (spin != 0 || poll) {
        helper_wait(t, deadline, spin, poll);
    } else {
        bool woken = sp__thread_sleep(t, deadline);

        SP__TRACE(C23, t, woken);
        return woken;
    }
    return sp__now() < deadline;
}

int sp__drive(int64_t deadline)
{
    struct sp__thread *t = sp__self();
    int ran = 0;
    bool more = true;

    SP__TRACE(C24, t, 0);
    t->running = true;
    while (more) {
        ran += sp__sched_turn(t, ran == 0 ? deadline : 0) == SP__TURN_RAN;
        // What became ready while we waited is run too; then the caller has its turn.
        (void)pthread_mutex_lock(&sp__sched.lock);
        more = sp__local_any(t) || (sp__sched.head != NULL && ran < SP__FAIR_TURNS);
        (void)pthread_mutex_unlock(&sp__sched.lock);
    }
    t->running = false;
    SP__TRACE(C17, t, 0);
    helper_pass_on();
    return ran;
}
