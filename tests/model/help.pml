/* SPDX-License-Identifier: MIT */
/*
 * Planned, not code yet: an application thread that waits in a call helps by polling, and leaves.
 * Who reads the sockets next?
 *
 * The state machine, all under the scheduler's lock:
 * - Role: nobody, a worker or a helper polls (poller_busy; poller_asleep while it sleeps in it).
 * - A helper that finds nobody polling takes the role. If a worker sleeps in the poller, the
 *   helper asks for the role (`wanted`), ends the worker's sleep, and sleeps as any waiting thread
 *   does until its message comes; it has the role at its next wait. It never waits for the role.
 * - A helper that leaves gives the role up, and sets `helped`: it may be back soon. If there is no
 *   guard it makes one of a sleeping worker; if no worker sleeps, those awake look for themselves.
 * - A worker with nothing to do that finds nobody polling takes the role, except when `helped` or
 *   `wanted` is set and there is no guard: then it becomes the guard. It clears the two, and
 *   sleeps on the idle list, but at most the take-over delay. After that it looks again: it takes
 *   the role, or sleeps without limit if a helper polls.
 *
 * So nobody is woken while a helper comes and goes faster than the delay, and the sockets are
 * never unread for longer than it.
 *
 * Two workers; a helper that waits twice, or (TWO) two helpers that wait once; three edges: two
 * for the helpers, one for an actor alone; with one helper, an actor from outside too.
 *
 * Claims: never two pollers; no edge unread, no actor left and no helper waiting at rest: where
 * rest means that only sleeps without limit are left.
 *
 * run: proven
 * run: proven -DTWO
 * run: broken -DBUG_NO_GUARD
 * run: broken -DBUG_GUARD_FOR_EVER
 * run: broken -DBUG_HELPED_STAYS
 * run: broken -DBUG_NO_POLLING
 */
#define NONE 9
#ifdef TWO
#define CALLS 1
#define ACTORS 1
#define SECOND 1
#else
#define ACTORS 2
#define CALLS (me == 0 -> 2 : 0)
#define SECOND 0
#endif
#define HELPERS 2
#define EVENTS 3

bool busy, asleep, wanted, helped, wake;
byte guard = NONE;
bool idle[2], wtoken[2];        /* workers */
bool htoken[HELPERS], polling[HELPERS];
byte got[HELPERS];              /* messages there for a helper */
chan edges = [EVENTS] of { byte };  /* 0, 1: for a helper; 2: for an actor */
chan queue = [EVENTS] of { byte };
byte handled;
byte pollers;
bool may_guard;                 /* ghost: `helped` or `wanted` was set, and no guard came of it yet */
bool finished[HELPERS];

inline alert() {
    wk = NONE; pw = false;
    if
    :: idle[0] -> wk = 0; idle[0] = false
    :: else ->
        if
        :: idle[1] -> wk = 1; idle[1] = false
        :: else ->
            if
            :: asleep -> asleep = false; pw = true
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
    :: d_step { a == 2 -> handled++; a = NONE }
    fi
}

proctype Worker(byte me) {
    byte a = NONE, wk = NONE;
    bool pw, polls;

loop:
    atomic {
        if
        :: len(queue) > 0 -> queue?a
        :: else
        fi
    }
    if
    :: a != NONE -> deliver(); goto loop
    :: else
    fi;
    atomic {
        if
        :: len(queue) > 0 -> goto loop
        :: else
        fi;
        if
        :: busy -> idle[me] = true
        :: !busy && (helped || wanted) && guard == NONE ->
            assert(may_guard);
            may_guard = false;
            guard = me;
            idle[me] = true;
#ifndef BUG_HELPED_STAYS
            helped = false; wanted = false
#endif
        :: else -> busy = true; asleep = true; polls = true
        fi
    }
    if
    :: polls ->
        polls = false;
        d_step { pollers++; assert(pollers == 1) }
        atomic {
            (wake || len(edges) > 0) ->
            wake = false;
            if
            :: len(edges) > 0 -> edges?a
            :: else
            fi
        }
        d_step { pollers--; busy = false; asleep = false }
        if
        :: a != NONE -> deliver()
        :: else
        fi
    :: else ->
        atomic {
            if
            :: wtoken[me] -> wtoken[me] = false
#ifndef BUG_GUARD_FOR_EVER
            :: guard == me && !wtoken[me] /* the delay is over; before that a wake may come at any time */
#endif
            fi
        }
        d_step {
            idle[me] = false;
            if
            :: guard == me -> guard = NONE
            :: else
            fi
        }
    fi;
    goto loop
}

proctype Helper(byte me) {
    byte a = NONE, wk = NONE, calls = CALLS;
    bool pw, near, polls;

    do
    :: calls == 0 -> break
    :: calls > 0 ->
again:
        if
        :: got[me] > 0 -> d_step { got[me]--; calls-- } goto called
        :: else
        fi;
        atomic {
            if
            :: !busy -> busy = true; asleep = true; polls = true
            :: busy && asleep && !polling[0] && !polling[1] && !wanted ->
                wanted = true; may_guard = true; asleep = false; pw = true /* a worker's sleep ends */
            :: else
            fi
        }
        alerted();
        if
        :: polls ->
            polls = false;
            polling[me] = true;
            d_step { pollers++; assert(pollers == 1) }
            d_step { near = htoken[me]; htoken[me] = false }
            atomic {
                (wake || near || len(edges) > 0) ->
                near = false;
                wake = false;
                if
                :: len(edges) > 0 -> edges?a
                :: else
                fi
            }
            d_step { polling[me] = false; pollers-- }
            atomic { /* gives the role up */
                busy = false;
                asleep = false;
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
        :: else ->
            d_step { htoken[me] -> htoken[me] = false }
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
#ifndef TWO
    d_step { queue!2; alert() }
    alerted();
#endif
    edges!SECOND;
    edges!2
}

init {
    atomic { run Worker(0); run Worker(1); run Helper(0); run Helper(1); run World() }
    timeout ->
    assert(len(edges) == 0 && len(queue) == 0 && handled == ACTORS);
    assert(finished[0] && finished[1])
}
