/* SPDX-License-Identifier: MIT */
/*
 * The poller with workers: who polls, who sleeps, who is woken for the shared queue, for
 * readiness, for an earlier timer, and when a worker goes into the user's code. One application
 * thread pushes to the shared queue and arms a timer, the network raises edges; there are two
 * workers, or (THREE) up to three that start late; one of the actors leads into the user's code,
 * which takes until all other work is done.
 *
 * A worker in the user's code leaves what it has scheduled in the shared queue. If another worker
 * is the guard, which sleeps only for a nap, nobody is woken for that: it comes by itself. The same
 * holds for a worker that goes there. `left` makes the next worker that sleeps the guard.
 *
 * In a row (ROW) it keeps that instead, queued at itself: while somebody guards, or while all
 * workers are in the user's code. As long as there is a row, who goes to sleep without there being
 * a guard is the guard. Its look ends a row that does not get on, as here, and takes what is
 * queued: first the end, then the queue; the worker looks whether its row is over behind what it
 * queued. The guard of a row does not poll: the worker does, when it is through, or the guard next
 * time.
 *
 * STUCK: one worker, and its callback waits until all other work is done. The watchdog, once, holds
 * it: then there may be one more, a spare. In SLOT the callback is a plugin's: nobody covered for it
 * before, and what the worker had queued is robbed.
 *
 * Claims: never two pollers; at rest the queue is empty, every edge was read and handled, the
 * timer fired; in particular while one worker is in the user's code.
 *
 * map: B1 core/sched.c sp__sched_alert `if (idle != NULL) {`
 * map: B2 core/sched.c sp__sched_alert `} else if (sp__sched.poller_asleep) {`
 * map: B3 core/sched.c sp__sched_alert `} else if (sp__sched.count == sp__sched.in_user || shared_waiting() > START_BACKLOG) {`
 * map: B4 core/sched.c sp__sched_alert `sp__platform->poller_wake();`
 * map: B5 core/sched.c shared_push `sp__sched_alert();`
 * map: B6 core/worker.c worker_cover `(!sp__sched.poller_busy || sp__sched.head != NULL || corks)) {`
 * map: B7 core/worker.c worker_cover `covered = sp__worker_start() || sp__sched.count > sp__sched.in_user;`
 * map: B8 core/sched.c row_keep `local_leave(t);`
 * map: B9 core/poller.c sp__poller_lie_down `sp__sched.poller_until = next < deadline ? next : deadline;`
 * map: B10 core/poller.c poller_sleep `sp__platform->poller_wait(ready, SP__POLL_MAX`
 * map: B11 core/poller.c sp__poller_report `w->ready(w, ready[i].ready);`
 * map: B12 core/poller.c sp__poller_report `(void)sp__timers_fire(sp__now());`
 * map: B13 core/poller.c sp__poller_report `sp__sched.poller_asleep = false;`
 * map: B14 core/idle.c sp__idle `if (sp__sched.head != NULL || sp__sched.stop) {`
 * map: B15 core/poller.c sp__poller_lie_down `sp__sched.poller_asleep = true;`
 * map: B16 core/idle.c idle_sleep `(void)sp__thread_sleep(t, deadline);`
 * map: B17 core/poller.c sp__poller_glance `mine = sp__poller_take(t);`
 * map: B18 core/poller.c sp__poller_kick `late = sp__sched.poller_asleep && due < sp__sched.poller_until;`
 * map: B19 core/timer.c sp__timer_arm `heap_publish_next();`
 * map: B20 core/timer.c sp__timer_arm `sp__poller_kick(due);`
 * map: B21 core/worker.c sp__need_worker `sp__worker_start();`
 * map: B34 core/sched.c local_leave `if (sp__sched.guard != NULL) {`
 * map: B35 core/worker.c worker_cover `sp__sched.left = true;`
 * map: B36 core/idle.c guard_take `sp__sched.left = false;`
 * map: B37 core/worker.c sp__worker_hold `sp__sched.held++;`
 * map: B38 core/worker.c worker_back `sp__sched.held--;`
 * map: B39 core/worker.c sp__worker_hold `sp__sched.guard = NULL;`
 * map: B40 core/worker.c sp__worker_rob `first = sp__local_rob(t);`
 * map: B41 core/worker.c worker_place `if (sp__sched.count >= worker_limit()) {`
 * map: B42 core/worker.c row_begin `sp__sched.rows++;`
 * map: B43 core/worker.c row_end `bool was = atomic_exchange_explicit(&t->row, 0, memory_order_seq_cst) != 0;`
 * map: B44 core/sched.c row_goes_on `return SP__LOAD_LIGHT(&t->row) != 0;`
 * map: B45 core/worker.c sp__rows_look `*last = sp__local_rob(t);`
 * map: B46 core/idle.c guard_take `bool rows = sp__sched.rows > 0`
 * map: B27 core/worker.c sp__worker_uncover `sp__sched.in_user--;`
 *
 * Merged: what is done under the scheduler's lock is one step; the park token is a flag
 * (mailbox.pml has the futex word). Left out: stop, the 61 turns (a glance may come at any turn).
 *
 * run: proven -DNO_USER
 * run: proven
 * run: proven -DTHREE
 * run: proven -DSTUCK
 * run: proven -DSTUCK -DSLOT
 * run: proven -DROW
 * run: proven -DROW -DTHREE
 * run: proven -DROW -DSTUCK
 * run: broken -DROW -DBUG_ROW_UNGUARDED
 * run: broken -DROW -DBUG_ROW_LATE
 * run: broken -DROW -DBUG_NO_NAP
 * run: broken -DSTUCK -DBUG_NO_SPARE
 * run: broken -DSTUCK -DBUG_HOLD_ONLY
 * run: broken -DSTUCK -DSLOT -DBUG_HOLD_ONLY
 * run: broken -DSTUCK -DSLOT -DBUG_NO_ROB
 * run: broken -DBUG_COVER_POLLS_ONLY
 * run: broken -DBUG_ASLEEP_LATE
 * run: broken -DNO_USER -DBUG_IDLE_UNCHECKED
 * run: broken -DNO_USER -DBUG_NO_KICK
 * run: broken -DNO_USER -DBUG_UNTIL_EARLY
 * run: broken -DNO_USER -DBUG_GLANCE
 * run: broken -DBUG_NO_COVER
 * run: broken -DBUG_LEFT_UNGUARDED
 * run: broken -DBUG_NO_NAP
 */
#ifdef THREE /* workers, all started late; no timer */
#define WORKERS 3
#define EDGES 2
#define TIMERS 0
#else
#ifdef STUCK
#define WORKERS 1
#else
#define WORKERS 2
#endif
#define EDGES 1
#define TIMERS 1
#endif
#ifdef BUG_NO_SPARE
#define LIMIT WORKERS
#else
#define LIMIT (WORKERS + held) /* B41 */
#endif
#define ALL (PUSHED + POSTED + EDGES + TIMERS)
#define NONE 9
#define BACKLOG 1   /* START_BACKLOG, scaled down */
#define PLAIN 1
#define LEADS 2     /* its handler posts to the actor that calls the user */
#define USER 3
#ifdef NO_USER
#define SECOND PLAIN
#define POSTED 0
#else
#define SECOND LEADS
#define POSTED 1    /* by the user's function */
#endif
#define PUSHED 3

chan queue = [7] of { byte };
bool idle[3], token[3], started[3];
byte count, in_user;
bool busy, asleep;      /* poller_busy, poller_asleep */
bool wake;              /* the eventfd */
byte edges, raised;     /* readiness that nobody read; all there was */
bool armed;             /* a timer */
bool until;             /* poller_until: the poller's sleep ends with the timer */
byte done;              /* handled: what was pushed, read and fired */
byte guard = NONE;      /* it naps, or was awake a moment ago */
bool left;
byte held;              /* workers */
byte stuck = NONE;      /* in a callback that does not return, what the watchdog sees */
byte own;               /* queued at that worker */
byte mine[3];           /* actors that a worker has queued */
bool row[3];
byte rows;
#define GETS_ON 2
byte got_on;            /* looks that took a row for one that gets on */
bool slow[3];
byte rower = NONE;      /* began a row since a guard looked */
byte pollers;           /* ghost */

inline start() {
    if
    :: count < LIMIT -> started[count] = true; count++
    :: else
    fi
}

/* B1-B3, inside a step; the caller does the wake after it. */
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
                :: else ->
                    if
                    :: count == in_user || len(queue) > BACKLOG -> start()
                    :: else
                    fi
                fi
            fi
        fi
    fi
}

/* B42, inside a step. */
inline keep(w) {
#ifdef ROW
    row[w] = true; rows++
#else
    skip
#endif
}

/* B43, inside a step. */
inline row_end(w) {
    if
    :: row[w] -> row[w] = false; rows--
    :: else
    fi
}

/* B6, B7, B35, inside a step. `w` may be in a row from now on; NONE: not. */
inline cover(w) {
    if
    :: guard != NONE ->
        left = true; /* B35 */
        if
        :: w != NONE -> rower = w; keep(w)
        :: else
        fi
    :: guard == NONE && (count == in_user || (!busy && !(idle[0] || idle[1] || idle[2]))) ->
        start();
        if
        :: w != NONE && count == in_user -> keep(w)
        :: else
        fi
#ifdef BUG_COVER_POLLS_ONLY
    :: guard == NONE && count != in_user && !busy && (idle[0] || idle[1] || idle[2]) -> alert()
#else
    :: guard == NONE && count != in_user && (busy -> len(queue) > 0 : (idle[0] || idle[1] || idle[2])) -> alert()
#endif
    :: else
    fi
}

/* B34, inside a step, as B1-B3. */
inline leave() {
    wk = NONE; pw = false;
    left = true;
    if
#ifdef BUG_LEFT_UNGUARDED
    :: true
#else
    :: guard != NONE
    :: guard == NONE -> alert()
#endif
    fi
}

/* B4 */
inline alerted() {
    d_step {
        if
        :: wk != NONE -> token[wk] = true
        :: else ->
            if
            :: pw -> wake = true
            :: else
            fi
        fi;
        wk = NONE; pw = false
    }
}

/* What is queued here is taken, as it may be robbed meanwhile, and left. */
inline leave_all() {
    d_step {
        if
        :: mine[me] > 0 ->
            do
            :: mine[me] > 0 -> queue!PLAIN; mine[me]--
            :: else -> break
            od;
            leave()
        :: else
        fi
    }
    alerted()
}

/* B43, B45: rows that do not get on; for some looks one seems to. */
inline rows_end() {
    w = 0;
    do
    :: w < WORKERS && row[w] && got_on < GETS_ON -> got_on++; w++
    :: w < WORKERS && row[w] && got_on == GETS_ON -> row_end(w); slow[w] = true; w++
    :: w < WORKERS && !row[w] -> w++
    :: w == WORKERS -> break
    od
}
inline rows_rob() {
    w = 0;
    do
    :: w < WORKERS && slow[w] && mine[w] > 0 -> robbed++; mine[w]--
    :: w < WORKERS && !(slow[w] && mine[w] > 0) -> w++
    :: w == WORKERS -> break
    od
}

#ifdef BUG_NO_NAP
#define NAPS false
#else
#define NAPS guard == me /* the time may be over at any time */
#endif

/* B10-B13. `busy` was set by the caller. `forever`: sleeps until something comes, or `until`. */
inline poll(forever) {
    d_step { pollers++; assert(pollers == 1); near = !forever }
    d_step { near = near || token[me]; token[me] = false }
    atomic { /* B10 */
        (wake || edges > 0 || near || until || NAPS) ->
        wake = false;
        mine[me] = mine[me] + edges;
        edges = 0;
        near = false
    }
    d_step { /* B12 */
        if
        :: armed -> armed = false; mine[me]++
        :: else
        fi;
        pollers--
    }
    d_step { busy = false; asleep = false } /* B13 */
}

/* The nap is over. Under the lock, but for the row's own worker, which does not take it. */
inline guarded() {
    if
    :: guard == me ->
#ifdef BUG_ROW_LATE
        d_step { slow[0] = row[0]; slow[1] = row[1]; slow[2] = row[2]; rows_rob() }
#endif
        d_step { rows_end() }
        d_step {
#ifndef BUG_ROW_LATE
            rows_rob();
#endif
            guard = NONE;
            slow[0] = false; slow[1] = false; slow[2] = false;
            w = 0; wk = NONE; pw = false;
            if
            :: robbed > 0 ->
                do
                :: robbed > 0 -> queue!PLAIN; robbed--
                :: else -> break
                od;
                alert()
            :: else
            fi
        }
        alerted()
    :: else
    fi
}

proctype Worker(byte me) {
    byte wk = NONE, a, w, robbed;
    bool pw, near, glanced, user, ok, next;

    started[me];
loop:
    if
    :: me == 0 && !glanced -> /* B17 */
        d_step {
            glanced = true;
            ok = !busy;
#ifdef BUG_GLANCE
            ok = true;
#endif
            busy = true
        }
        if
        :: ok -> ok = false; poll(false)
        :: else
        fi
    :: true
    fi;
    atomic {
        if
        :: user -> a = USER; user = false /* scheduled here last: goes first */
        :: else ->
            if
            :: mine[me] > 0 -> mine[me]--; a = PLAIN
            :: else ->
                if
                :: len(queue) > 0 -> queue?a
                :: else -> a = 0
                fi
            fi
        fi
    }
    if
    :: a == PLAIN -> d_step { done++; a = 0 } goto loop
    :: a == LEADS -> d_step { done++; a = 0; user = true } goto loop
    :: a == USER ->
        a = 0;
#ifdef SLOT
        d_step { done++; own = mine[me]; mine[me] = 0; stuck = me }
        (done == ALL);
        d_step { /* B38 */
            if
            :: held > 0 -> held--; in_user--
            :: else
            fi;
            mine[me] = mine[me] + own; own = 0; stuck = NONE
        }
        goto loop;
#endif
#ifndef BUG_NO_COVER
        d_step { /* B6, B7 */
            in_user++;
            cover(me)
        }
        alerted();
#endif
        if /* B8 */
        :: mine[me] > 0 && !row[me] -> leave_all()
        :: else
        fi;
        /* The user's function posts something, or not, and waits for what the other work brings. */
        if
        :: mine[me]++;
           if /* B44 */
           :: !row[me] -> leave_all()
           :: else
           fi
        :: done++
        fi;
callback:
        stuck = me;
        done == ALL;
#ifndef BUG_NO_COVER
        d_step { /* B27, B38 */
            row_end(me);
            in_user--;
            stuck = NONE;
            held = 0
        }
#endif
        goto loop
    :: else
    fi;
#ifdef BUG_UNTIL_EARLY
    next = armed;
#endif
#ifdef BUG_IDLE_UNCHECKED
    ok = (len(queue) > 0);
    if
    :: ok -> ok = false; goto loop
    :: else
    fi;
    atomic {
#else
    atomic { /* B14 */
        if
        :: len(queue) > 0 -> goto loop
        :: else
        fi;
#endif
        near = false;
        if /* B36, B46 */
#ifdef BUG_ROW_UNGUARDED
        :: left && guard == NONE ->
#else
        :: (left || rows > 0 || (rower != NONE && rower != me)) && guard == NONE ->
#endif
            guard = me; left = false;
            near = rows > 0 || (rower != NONE && rower != me);
            rower = NONE
        :: else
        fi;
        if
        :: !busy && !near -> busy = true; ok = true /* B9, B15 */
#ifndef BUG_ASLEEP_LATE
            ; asleep = true
#endif
#ifndef BUG_UNTIL_EARLY
            ; until = armed
#endif
        :: else -> idle[me] = true
        fi;
        near = false
    }
    if
    :: ok ->
        ok = false;
#ifdef BUG_ASLEEP_LATE
        asleep = true;
#endif
#ifdef BUG_UNTIL_EARLY
        until = next;
#endif
        poll(true);
        guarded();
        goto loop
    :: else
    fi;
end:
    d_step { token[me] || NAPS -> token[me] = false } /* B16 */
    idle[me] = false;
    guarded();
    goto loop
}

proctype Application() {
    byte wk = NONE;
    bool pw;

    if
    :: left = true /* earlier */
    :: true
    fi;
    d_step { start() } /* B21 */
#ifndef THREE
    d_step { start() } /* an earlier backlog */
#endif
    d_step { queue!PLAIN; alert() } /* B5 */
    alerted();
#ifndef THREE
    armed = true; /* B19 */
#ifndef BUG_NO_KICK
    d_step { pw = asleep && !until; asleep = asleep && !pw; wk = NONE } /* B18, B20 */
    alerted();
#endif
#endif
    d_step { queue!SECOND; queue!PLAIN; alert() } /* a chain of two: one alert */
    alerted()
}

#ifdef STUCK
proctype Watchdog() {
    byte wk = NONE;
    bool pw;

    d_step { /* B37, B39 */
        stuck != NONE;
        held++;
        if
        :: guard == stuck -> guard = NONE
        :: else
        fi;
#ifdef SLOT
        in_user++;
#endif
#ifndef BUG_HOLD_ONLY
        cover(NONE)
#endif
    }
    alerted();
#if defined(SLOT) && !defined(BUG_NO_ROB)
    d_step { /* B40, B5 */
        wk = NONE; pw = false;
        if
        :: own > 0 ->
            do
            :: own > 0 -> queue!PLAIN; own--
            :: else -> break
            od;
            alert()
        :: else
        fi
    }
    alerted()
#endif
}
#endif

proctype Network() {
    do
    :: raised < EDGES -> d_step { raised++; edges++ }
    :: else -> break
    od
}

init {
    atomic { run Application(); run Network(); run Worker(0); run Worker(1); run Worker(2)
#ifdef STUCK
        ; run Watchdog()
#endif
    }
    timeout ->
    assert(done == ALL && len(queue) == 0);
    assert(edges == 0 && !armed)
}
