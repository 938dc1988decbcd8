/* SPDX-License-Identifier: MIT */
/*
 * Late completions against the reference count of a pipe: a timer that fires while it is cancelled
 * or armed again, a report about a watch that is closed, an event that is posted with its owner
 * held. The socket's actor ends the pipe; the poller reports and fires; an output actor notes with
 * a reference of its own; a worker runs what was posted to the socket's actor.
 *
 * Claims: nobody touches the pipe after it was destroyed; in the end it is destroyed; a cancelled
 * timer's handler does nothing.
 *
 * map: G1 core/timer.c sp__timer_arm `if (t->pos == 0) {`
 * map: G2 core/timer.c sp__timer_cancel `atomic_store_explicit(&t->live, false, memory_order_relaxed);`
 * map: G3 core/timer.c sp__timer_cancel `heap_remove(t);`
 * map: G4 core/timer.c sp__timer_cancel `sp__drop(t->ev.owner);`
 * map: G5 core/timer.c sp__timers_fire `heap_remove(t);`
 * map: G6 core/timer.c sp__timers_fire `sp__post(&t->ev);`
 * map: G7 core/timer.c sp__timers_fire `sp__drop(owner);`
 * map: G8 core/timer.c timer_handle `if (atomic_load_explicit(&t->live, memory_order_relaxed) &&`
 * map: G9 core/actor.c sp__post `sp__hold(ev->owner);`
 * map: G10 core/actor.c event_dispatch `sp__drop(owner);`
 * map: G11 core/watch.c sp__watch_close `sp__platform->unwatch(w->fd);`
 * map: G12 core/watch.c sp__watch_close `busy = sp__sched.poller_busy;`
 * map: G13 core/watch.c sp__watch_close `sp__sched.zombies = w;`
 * map: G14 core/watch.c sp__watch_close `sp__drop(w->obj);`
 * map: G15 core/poller.c sp__poller_report `w->ready(w, ready[i].ready);`
 * map: G16 core/poller.c sp__poller_report `zombies = sp__sched.zombies;`
 * map: G17 core/watch.c sp__watch_drop_zombies `sp__drop(w->obj);`
 * map: G18 core/sched_state.h sp__poller_take `sp__sched.poller_busy = true;`
 * map: G19 core/pipe.c pipe_gone `sp__drop(&p->obj); // The socket's.`
 * map: G20 core/actor.c event_dispatch `atomic_exchange_explicit(&n->port, NULL, memory_order_acq_rel)`
 *
 * Merged: the drop to zero destroys (close.pml has retire and reclaim); what is done under the
 * timers' or the scheduler's lock is one step; mailboxes are queues.
 *
 * run: proven
 * run: broken -DBUG_TIMER_NO_OWNER
 * run: broken -DBUG_CANCEL_DROPS
 * run: broken -DBUG_NO_ZOMBIE
 * run: broken -DBUG_ZOMBIE_EARLY
 * run: broken -DBUG_NO_LIVE
 * run: broken -DBUG_DROP_BEFORE_HANDLE
 */
#define TIMER 1
#define NOTE 2
#define READY 3

byte refs = 2;          /* the socket's and the watch's */
bool gone;
bool in_heap, live, cancelled;
byte arms;
bool watched = true;    /* in the epoll set */
bool busy, zombie;
bool posted[4];
chan inbox = [3] of { byte };
bool ended;             /* the socket's actor dropped its own */
bool fired;             /* ghost: the handler did something after the cancel */

#define TOUCH assert(!gone)

inline hold() { d_step { TOUCH; refs++ } }
inline drop() { d_step { TOUCH; refs--; gone = (refs == 0) } }

/* An event whose owner is the pipe. G9: after the exchange, before the push. */
inline post(e) {
    d_step { TOUCH; was = posted[e]; posted[e] = true }
    if
    :: !was ->
#ifdef BUG_TIMER_NO_OWNER
        if
        :: e != TIMER -> hold()
        :: else
        fi;
#else
        hold();
#endif
        inbox!e
    :: else
    fi;
    was = false
}

/* The socket's actor: what it does by itself, and the events. */
active proctype Socket() {
    byte e, owned;

    /* A timer for the handshake, armed again once. */
    do
    :: arms < 2 ->
        d_step { /* G1 */
            arms++;
            live = true;
            if
            :: !in_heap -> TOUCH; refs++; in_heap = true
            :: else
            fi
        }
    :: !ended && cancelled -> /* G11-G14, then G19 */
        atomic { TOUCH; watched = false }
#ifdef BUG_NO_ZOMBIE
        drop();
#else
        atomic {
            if
            :: busy -> zombie = true
            :: else -> drop()
            fi
        }
#endif
        drop();
        ended = true
    :: arms > 0 && !cancelled -> /* G2-G4 */
        arms = 2;
        d_step {
            TOUCH;
            live = false;
            cancelled = true;
            owned = in_heap;
#ifdef BUG_CANCEL_DROPS
            owned = true;
#endif
            in_heap = false
        }
        if
        :: owned == 1 -> owned = 0; drop()
        :: else
        fi
    :: inbox?e ->
        d_step { TOUCH; posted[e] = false } /* G20 */
#ifdef BUG_DROP_BEFORE_HANDLE
        drop();
#endif
        TOUCH;
        if /* G8 */
#ifdef BUG_NO_LIVE
        :: e == TIMER -> fired = cancelled
#else
        :: e == TIMER && live -> live = false; fired = cancelled
#endif
        :: else
        fi;
#ifndef BUG_DROP_BEFORE_HANDLE
#ifdef BUG_TIMER_NO_OWNER
        if
        :: e != TIMER -> drop()
        :: else
        fi;
#else
        drop(); /* G10 */
#endif
#endif
        e = 0
    od
}

active proctype Poller() {
    bool report, was, due;
    byte polls;

    do
    :: polls < 3 ->
        polls++;
        atomic { /* G18; the kernel's wait */
            !busy -> busy = true
        }
        atomic { report = watched }
#ifdef BUG_ZOMBIE_EARLY
        d_step {
            was = zombie; zombie = false; busy = false
        }
        if :: was -> was = false; drop() :: else fi;
#endif
        if
        :: report -> report = false; post(READY) /* G15 */
        :: else
        fi;
        /* G5 */
        if
        :: d_step { in_heap -> TOUCH; in_heap = false; due = true }
        :: true
        fi;
        if
        :: due ->
            due = false;
            post(TIMER); /* G6 */
            drop() /* G7 */
        :: else
        fi;
#ifndef BUG_ZOMBIE_EARLY
        d_step { was = zombie; zombie = false; busy = false } /* G16 */
        if
        :: was -> was = false; drop() /* G17 */
        :: else
        fi
#endif
    :: else -> break
    od
}

/* Another actor of the pipe: it runs under a reference (its mailbox's owner). */
active proctype Output() {
    bool was;

    if
    :: atomic { !ended && !gone -> refs++ } /* taken by the socket's actor's post to it */
       post(NOTE);
       drop()
    :: true
    fi
}

init {
    timeout ->
    assert(ended);
    assert(gone && refs == 0 && !zombie && len(inbox) == 0);
    assert(!fired)
}
