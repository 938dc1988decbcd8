/* SPDX-License-Identifier: MIT */
/*
 * "threads" = 0: application threads drive. Three threads wait in a blocking call each, run what
 * is there, poll, and leave for good as soon as their own message is there (or, with TIMEOUTS,
 * their time is up). A fourth one sends. The message of thread 0 comes by readiness, the others'
 * from the fourth thread, one in place, one by the shared queue.
 *
 * Claims: never two pollers; no thread waits for ever while its message, or work that leads to it,
 * is there: who leaves hands on what it was woken for.
 *
 * map: C1 core/helper.c sp__wait `if (sp__platform->park(&t->parker, 0)) {`
 * map: C2 core/helper.c sp__wait `(void)sp__sched_turn(t, deadline);`
 * map: C3 core/helper.c sp__wait `sp__local_flush(t);`
 * map: C4 core/sched.c sp__sched_turn `a = shared_take();`
 * map: C5 core/sched_state.h sp__poller_take `if (sp__sched.poller_busy) {`
 * map: C6 core/idle.c idle_sleep `sp__sched.idle = t;`
 * map: C7 core/idle.c idle_sleep `if (t->idle) {`
 * map: C8 core/poller.c poller_sleep `atomic_store_explicit(&t->polling, SP__POLLING, memory_order_seq_cst);`
 * map: C9 core/poller.c poller_sleep `if (sp__platform->park(&t->parker, 0)) {`
 * map: C10 core/poller.c poller_sleep `sp__platform->poller_wait(ready, SP__POLL_MAX`
 * map: C11 core/poller.c poller_sleep `atomic_store_explicit(&t->polling, SP__POLLING_NOT, memory_order_relaxed);`
 * map: C12 core/poller.c sp__poller_report `sp__sched.poller_busy = false;`
 * map: C13 core/thread.c sp__thread_wake `sp__platform->unpark(&t->parker);`
 * map: C14 core/thread.c sp__thread_wake `polling = atomic_load_explicit(&t->polling, memory_order_seq_cst);`
 * map: C15 core/sched.c sp__sched_alert `sp__sched.poller_asleep = false;`
 * map: C16 core/sched.c sp__run_here `sp__local_flush(t);`
 * map: C17 core/helper.c sp__wait `helper_pass_on();`
 * map: C18 core/helper.c helper_pass_on `if (sp__sched.head != NULL) {`
 * map: C19 core/helper.c helper_pass_on `if (!sp__sched.poller_busy && sp__sched.idle != NULL) {`
 * map: C20 core/sched.c sp__sched_turn `bool fair = ++t->turn % SP__FAIR_TURNS == 0;`
 * map: C21 core/poller.c sp__poller_glance `sp__poller_poll(t, 0);`
 * map: C22 core/sched.c sp__sched_turn `return fair || sp__idle(t, deadline)`
 *
 * run: proven
 * run: proven -DTIMEOUTS
 * run: broken -DBUG_HEIR_ONLY
 * run: broken -DBUG_GLANCE_SLEEPS
 * run: broken -DBUG_POLLING_LATE
 * run: broken -DBUG_NO_POLLING
 * run: broken -DTIMEOUTS -DBUG_PASS_ONLY_WORK
 * run: broken -DBUG_PASS_ONLY_POLLER
 */
#define THREADS 3
#define NONE 9
#if defined(TIMEOUTS) || defined(BUG_GLANCE_SLEEPS)
#define GLANCES (me == 0)
#else
#define GLANCES false
#endif

chan queue = [4] of { byte };   /* an actor that delivers to thread i */
bool idle[THREADS], token[THREADS], polling[THREADS], got[THREADS], left[THREADS];
bool busy, asleep, wake;
bool edge;
byte pollers;                   /* ghost */

inline alert() {
    wk = NONE; pw = false;
    if
    :: idle[0] -> wk = 0; idle[0] = false
    :: else ->
        if
        :: idle[1] -> wk = 1; idle[1] = false
        :: else ->
            if
            :: idle[2] -> wk = 2; idle[2] = false
            :: else ->
                if
                :: asleep -> asleep = false; pw = true
                :: else
                fi
            fi
        fi
    fi
}

/* sp__thread_wake: C13, C14. The wake by sp__sched_alert is the same, or the eventfd. */
inline alerted() {
    if
    :: wk != NONE ->
        token[wk] = true;
        d_step {
#ifndef BUG_NO_POLLING
            if
            :: polling[wk] -> wake = true
            :: else
            fi;
#endif
            wk = NONE
        }
    :: d_step { else -> wake = wake || pw; pw = false }
    fi
}

/* Runs the actor that delivers to thread i. */
inline deliver(i) {
    got[i] = true;
    wk = i;
    i = 0;
    alerted()
}

proctype Thread(byte me) {
    byte a, wk = NONE, first = NONE;
    bool pw, near, mine, glanced, fair;

wait:
    if
    :: got[me] -> goto leave
#ifdef TIMEOUTS
    :: me == 1 -> goto leave
#endif
    :: else
    fi;
    atomic { /* C1 */
        if
        :: token[me] -> token[me] = false; goto wait /* it drove nothing: nothing to pass on */
        :: else
        fi
    }
    if
    :: GLANCES && !glanced -> /* C20: one in 61 turns, here any one */
        atomic { glanced = true; fair = true; mine = !busy; busy = true }
        if
        :: mine -> /* C21: a poll without waiting, which looks at the token too; no report */
            mine = false;
            d_step { pollers++; assert(pollers == 1) }
            polling[me] = true;
            token[me] = false;
            atomic { wake = false; polling[me] = false; pollers--; busy = false; asleep = false }
        :: else
        fi
    :: true
    fi;
    atomic { /* C4 */
        if
        :: len(queue) > 0 -> queue?a; mine = true
        :: else -> a = 0
        fi
    }
    if
    :: mine -> mine = false; fair = false; deliver(a); goto pass
    :: else
    fi;
#ifndef BUG_GLANCE_SLEEPS
    if /* C22 */
    :: fair -> fair = false; goto pass
    :: else
    fi;
#endif
    atomic {
        fair = false;
        if
        :: len(queue) > 0 -> goto pass
        :: else
        fi;
        if
        :: !busy -> busy = true; asleep = true; goto poll /* C5 */
        :: else -> idle[me] = true /* C6 */
        fi
    }
#ifdef TIMEOUTS
    atomic {
        if
        :: token[me] -> token[me] = false
        :: me == 1
        fi;
        idle[me] = false
    }
#else
    d_step { token[me] -> token[me] = false }
    idle[me] = false; /* C7 */
#endif
    goto pass;

poll:
    atomic { pollers++; assert(pollers == 1) }
#ifdef BUG_POLLING_LATE
    d_step { near = token[me]; token[me] = false }
    polling[me] = true;
#else
    polling[me] = true; /* C8 */
    d_step { near = token[me]; token[me] = false } /* C9 */
#endif
    atomic { /* C10 */
        if
        :: wake || near || edge
#ifdef TIMEOUTS
        :: me == 1
#endif
        fi;
        near = false;
        wake = false;
        if /* a report: an actor on the own queue, flushed after the turn */
        :: edge -> edge = false; first = 0
        :: else
        fi
    }
    d_step { polling[me] = false; pollers-- } /* C11 */
    d_step { /* C12 */
        busy = false;
        asleep = false;
#ifdef BUG_HEIR_ONLY /* once the code: the poller wakes an heir, nobody else passes on */
        if /* the heir */
        :: idle[0] || idle[1] || idle[2] -> alert()
        :: else
        fi
#endif
    }
    alerted();
    if
    :: first != NONE ->
        d_step { queue!first; first = NONE; alert() } /* C3 */
        alerted()
    :: else
    fi;
    goto pass;

pass: /* C17: the end of sp__wait */
#ifndef BUG_HEIR_ONLY
    atomic { /* C18, C19 */
        if
#ifndef BUG_PASS_ONLY_POLLER
        :: len(queue) > 0 -> alert()
#endif
#ifndef BUG_PASS_ONLY_WORK
        :: len(queue) == 0 && !busy -> alert()
#endif
        :: else
        fi
    }
    alerted();
#endif
    goto wait;
leave:
    left[me] = true
}

/* Sends what is for thread 1 and 2, in place or not. */
proctype Sender() {
    byte a, wk = NONE, n = 1;
    bool pw;

    do
    :: n < THREADS ->
        if
        :: n == 1 -> a = n; deliver(a)
        :: d_step { n == 2 -> queue!n; alert() } /* C16, C15 */
           alerted()
        fi;
        n++
    :: else -> break
    od
}

proctype Network() {
    edge = true
}

init {
    atomic { run Thread(0); run Thread(1); run Thread(2); run Sender(); run Network() }
    timeout ->
    assert(left[0] && left[1] && left[2])
}
