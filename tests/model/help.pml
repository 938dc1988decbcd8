/* SPDX-License-Identifier: MIT */
/*
 * An application's thread that waits in a call helps: it polls if nobody does, and leaves. Who
 * reads the sockets next? And workers without work end.
 *
 * The state machine, all under the scheduler's lock:
 * - Role: nobody, a worker or a helper polls (poller_busy; poller_asleep while it sleeps in it). A
 *   helper looks for a while as the poller before it sleeps in it: it is not asleep then, and what
 *   is written to the eventfd it reads.
 * - A helper that finds somebody polling says that it would like to (`wanted`), and parks.
 * - A helper that gives the role up sets `helped`: it may be back soon. If there is no guard, or
 *   something in the shared queue, it alerts.
 * - A worker with nothing to do that finds `helped` set, or `wanted` and nobody polling, and no
 *   guard, becomes the guard. It clears the two, and sleeps on the idle list, but not for long.
 *   After that it looks again: it takes the role, or sleeps if a helper polls.
 * - RETIRE: a worker that slept on the idle list for long and was not woken ends, unless it is the
 *   last one, and is started again when all others are in the user's code.
 *
 * So nobody is woken while a helper comes and goes faster than the guard's nap, and the sockets
 * are never unread for longer than that.
 *
 * Two workers, and two or three edges, for the helpers and for an actor alone. A helper that waits twice,
 * and an actor from outside; or (TWO) two helpers that wait once; or (RETIRE) one that waits once,
 * workers that may end twice, and an actor that calls the user, who waits until all else is done; or
 * (STAYS) one that waits once, one that waits for ever, and a watch that is closed.
 *
 * Claims: never two pollers; at rest no edge is unread, no actor left, no closed watch kept and no
 * helper waiting, where rest means that only sleeps without limit are left; a worker ends only when
 * nobody counts on it.
 *
 * map: J1 core/helper.c helper_wait `poller = poll && sp__poller_take(t);`
 * map: J2 core/helper.c helper_spin `n = sp__platform->poller_wait(ready, SP__POLL_MAX, 0);`
 * map: J3 core/helper.c helper_look `bool won = n > 0 || sp__thread_posted(t);`
 * map: J4 core/helper.c helper_wait `poller = poller || (poll && sp__poller_take(t));`
 * map: J5 core/helper.c helper_wait `if (poller && sp__sched.zombies != NULL) {`
 * map: J6 core/helper.c helper_wait `deadline = sp__poller_lie_down(deadline);`
 * map: J7 core/helper.c helper_wait `sp__sched.wanted = sp__sched.wanted || poll;`
 * map: J8 core/helper.c helper_wait `(void)sp__thread_sleep(t, deadline);`
 * map: J9 core/poller.c poller_helped `sp__sched.helped = true;`
 * map: J10 core/poller.c poller_helped `if (sp__sched.guard == NULL || sp__sched.head != NULL) {`
 * map: J11 core/idle.c guard_take `bool expects = sp__sched.helped || (sp__sched.wanted && !sp__sched.poller_busy);`
 * map: J12 core/idle.c guard_take `sp__sched.guard = t;`
 * map: J13 core/idle.c guard_take `sp__sched.wanted = false;`
 * map: J14 core/idle.c sp__idle `until = nap < until ? nap : until;`
 * map: J15 core/idle.c idle_wait `if (poll && sp__poller_take(t)) {`
 * map: J16 core/idle.c guard_over `sp__sched.guard = NULL;`
 * map: J17 core/idle.c idle_sleep `woken = !t->idle;`
 * map: J18 core/idle.c idle_wait `ends = extra && !sp__sched.stop && sp__sched.head == NULL && sp__sched.count > 1;`
 * map: J19 core/worker.c sp__worker_retire `sp__sched.count--;`
 * map: J20 core/worker.c sp__worker_retire `t->place->gone = true;`
 * map: J21 core/worker.c worker_reap `if (workers[i].gone) {`
 * map: J22 core/watch.c sp__watch_close `sp__sched.zombies = w;`
 * map: J23 core/watch.c sp__watch_close `sp__platform->poller_wake();`
 * map: J24 core/poller.c sp__poller_report `zombies = sp__sched.zombies;`
 *
 * Merged: as in poller.pml. Which idle thread is woken is any; a report's actor runs after the role
 * is given up.
 *
 * run: proven
 * run: proven -DTWO
 * run: proven -DSTAYS
 * run: proven -DRETIRE
 * run: broken -DBUG_NO_GUARD
 * run: broken -DBUG_GUARD_FOR_EVER
 * run: broken -DBUG_HELPED_STAYS
 * run: broken -DBUG_NO_POLLING
 * run: broken -DSTAYS -DBUG_ZOMBIE
 * run: broken -DRETIRE -DBUG_RETIRE_POPPED
 * run: broken -DRETIRE -DBUG_RETIRE_LAST
 * run: broken -DRETIRE -DBUG_PLACE_LATE
 */
#define NONE 9
#define PLAIN 2
#define USER 3
#if defined(TWO)
#define CALLS(me) 1
#define SECOND 1
#define ACTORS 1
#elif defined(STAYS)
#define CALLS(me) 1
#define SECOND PLAIN
#define ACTORS 1
#elif defined(RETIRE)
#define CALLS(me) (me == 0 -> 1 : 0)
#define SECOND PLAIN
#define ACTORS 1
#define OUTSIDE USER
#else
#define CALLS(me) (me == 0 -> 2 : 0)
#define SECOND 0
#define ACTORS 2
#define OUTSIDE PLAIN
#endif
#if defined(STAYS) || defined(RETIRE)
#define EDGES 2
#else
#define EDGES 3
#endif
#ifdef RETIRE
#define ENDS 2      /* workers that end, at most */
#else
#define ENDS 0
#endif
#define HELPERS 2
#define WORKERS 2

bool busy, asleep, wanted, helped, wake;
byte guard = NONE;
bool left;                     /* a worker went into the user's code, and relies on the guard */
bool idle[WORKERS], wtoken[WORKERS];
bool started[WORKERS], place[WORKERS]; /* a worker's place: taken */
byte count, inside_user, ended;
bool htoken[HELPERS], polling[HELPERS];
byte got[HELPERS];              /* messages there for a helper */
chan edges = [EDGES] of { byte };   /* 0, 1: for a helper; PLAIN: for an actor */
chan queue = [EDGES + 1] of { byte };
byte handled;
bool user_ran;
bool zombies;
byte pollers;
bool may_guard;                 /* ghost: `helped` or `wanted` was set, and no guard came of it yet */
bool finished[HELPERS];

inline start() {
    if
    :: !place[0] -> place[0] = true; started[0] = true; count++
    :: place[0] && !place[1] -> place[1] = true; started[1] = true; count++
    :: else
    fi
}

inline alert() {
    wk = NONE; pw = false;
    if
    :: idle[0] -> wk = 0; idle[0] = false
    :: idle[1] -> wk = 1; idle[1] = false
    :: else ->
        if
        :: asleep -> asleep = false; pw = true
        :: else ->
            if
            :: count == inside_user -> start()
            :: else
            fi
        fi
    fi
}

inline alerted() {
    d_step {
        if
        :: wk != NONE -> wtoken[wk] = true
        :: else
        fi;
        wake = wake || pw;
        wk = NONE;
        pw = false
    }
}

/* Runs the actor that a report or a push was for. */
inline deliver() {
    if
    :: a < HELPERS ->
        d_step { got[a]++; htoken[a] = true }
        d_step {
#ifndef BUG_NO_POLLING
            wake = wake || polling[a];
#endif
            a = NONE
        }
    :: d_step { a == PLAIN -> handled++; a = NONE }
    fi
}

proctype Worker(byte me) {
    byte a = NONE, wk = NONE;
    bool pw, polls, extra, late;

begin:
    started[me];
loop:
    atomic {
        if
        :: len(queue) > 0 -> queue?a
        :: else
        fi
    }
    if
    :: a == USER ->
        a = NONE;
        atomic { /* sp__worker_cover */
            inside_user++;
            if
            :: guard != NONE -> left = true /* poller.pml, B35 */
            :: guard == NONE && (count == inside_user || (!busy && !idle[1 - me])) -> start()
            :: else ->
                if
                :: !busy || len(queue) > 0 -> alert()
                :: else
                fi
            fi
        }
        alerted();
        (finished[0] && finished[1] && handled == ACTORS && len(edges) == 0 && len(queue) == 0);
        atomic { inside_user--; user_ran = true }
        goto loop
    :: a != USER && a != NONE -> deliver(); goto loop
    :: else
    fi;
    atomic {
        if
        :: len(queue) > 0 -> goto loop
        :: else
        fi;
        if /* J11-J13 */
        :: guard == NONE && (helped || (wanted && !busy)) ->
            assert(may_guard);
            may_guard = false;
            guard = me;
            left = false;
            idle[me] = true
#ifndef BUG_HELPED_STAYS
            ; helped = false; wanted = false
#endif
        :: else ->
            if /* poller.pml, B36 */
            :: guard == NONE && left -> guard = me; left = false
            :: else
            fi;
            if /* J15 */
            :: busy -> idle[me] = true; extra = (ended < ENDS && count > 1 && guard != me)
            :: else -> busy = true; asleep = true; polls = true
            fi
        fi
    }
    if
    :: polls ->
        polls = false;
        d_step { pollers++; assert(pollers == 1) }
        atomic {
            (wake || len(edges) > 0 || guard == me) ->
            wake = false;
            if
            :: len(edges) > 0 -> edges?a
            :: else
            fi
        }
        d_step { pollers--; busy = false; asleep = false; zombies = false } /* J24 */
        if
        :: a != NONE -> deliver()
        :: else
        fi
    :: else ->
        atomic {
            if
            :: wtoken[me] -> wtoken[me] = false
#ifndef BUG_GUARD_FOR_EVER
            :: guard == me && !wtoken[me] /* J14: the nap is over; a wake may come before at any time */
#endif
            :: extra && !wtoken[me] -> late = true
            fi
        }
        atomic { /* J17-J20 */
#ifdef BUG_RETIRE_POPPED
            late = late && len(queue) == 0 && count > 1;
#elif defined(BUG_RETIRE_LAST)
            late = late && idle[me] && len(queue) == 0;
#else
            late = late && idle[me] && len(queue) == 0 && count > 1;
#endif
            idle[me] = false;
            extra = false;
            if
            :: late ->
                ended++;
                count--;
                assert(count > 0);
                started[me] = false
#ifndef BUG_PLACE_LATE
                ; place[me] = false
#endif
            :: else
            fi
        }
        if
        :: late ->
            late = false;
            place[me] = started[me]; /* J20, J21: the new one waits for the old one's end */
            goto begin
        :: else
        fi
    fi;
    if
    :: guard == me -> guard = NONE /* J16 */
    :: else
    fi;
    goto loop
}

proctype Helper(byte me) {
    byte a = NONE, wk = NONE, calls = CALLS(me);
    bool pw, near, polls;

    do
    :: calls == 0 -> break
    :: calls > 0 ->
again:
        if
        :: got[me] > 0 -> d_step { got[me]--; calls-- } goto called
        :: else
        fi;
        atomic { /* the first look of sp__wait */
            if
            :: htoken[me] -> htoken[me] = false; goto again
            :: else
            fi
        }
        if
        :: atomic { !busy -> busy = true; polls = true } /* J1 */
           d_step { pollers++; assert(pollers == 1) }
           if /* J2, J3 */
           :: atomic { len(edges) > 0 -> wake = false; edges?a } goto polled
           :: htoken[me] -> goto polled
           :: wake = false
           fi
        :: true
        fi;
        atomic { /* J4-J7 */
            if
            :: !polls && !busy ->
                busy = true; polls = true;
                pollers++; assert(pollers == 1)
            :: else
            fi;
            if
            :: polls ->
                asleep = true;
#ifndef BUG_ZOMBIE
                near = zombies
#endif
            :: else -> wanted = true; may_guard = true
            fi
        }
        if
        :: polls ->
            polling[me] = true;
            d_step { near = near || htoken[me]; htoken[me] = false }
            atomic {
                (wake || near || len(edges) > 0) ->
                near = false;
                wake = false;
                if
                :: len(edges) > 0 -> edges?a
                :: else
                fi
            }
            polling[me] = false;
polled:
            atomic { /* J9, J10, J24 */
                polls = false;
                pollers--;
                busy = false;
                asleep = false;
                zombies = false;
                helped = true;
                may_guard = true;
#ifndef BUG_NO_GUARD
                if
                :: guard == NONE || len(queue) > 0 -> alert()
                :: else
                fi
#endif
            }
            alerted();
            if
            :: a != NONE -> deliver() /* in place */
            :: else
            fi
        :: else -> d_step { htoken[me] -> htoken[me] = false } /* J8 */
        fi;
        goto again;
called:
        skip
    od;
    finished[me] = true
}

proctype World() {
    byte wk = NONE;
    bool pw;

    edges!0;
#ifdef OUTSIDE
    d_step { queue!OUTSIDE; alert() }
    alerted();
#endif
    edges!SECOND;
#if EDGES > 2
    edges!PLAIN;
#endif
#ifdef STAYS
    d_step { zombies = busy; pw = busy } /* J22, J23 */
    alerted()
#endif
}

init {
    atomic {
        place[0] = true; started[0] = true;
        place[1] = true; started[1] = true;
        count = 2;
        run Worker(0); run Worker(1); run Helper(0); run Helper(1); run World()
    }
    timeout ->
    assert(len(edges) == 0 && len(queue) == 0 && handled == ACTORS);
#ifdef STAYS
    assert(finished[0] && !zombies)
#else
    assert(finished[0] && finished[1])
#endif
#ifdef RETIRE
    ; assert(user_ran)
#endif
}
