/* SPDX-License-Identifier: MIT */
/*
 * Close against send: a handle is looked up under a hazard while others close it; references,
 * retire and reclaim. Two senders post one message each (in place or by a worker), a third thread
 * and a fourth close the socket, a worker runs the actor; a late sender may post when the socket
 * is done.
 *
 * Claims: nobody touches the object after it was destroyed; it is closed exactly once and
 * destroyed exactly once, at the latest by the next reclaim; every message was handled or
 * discarded by its actor.
 *
 * map: F1 core/object.c sp__enter `o = atomic_load_explicit(&s->obj, memory_order_acquire);`
 * map: F2 core/object.c sp__enter `SP__STORE_LIGHT(hazard, o);`
 * map: F3 core/object.c sp__enter `atomic_load_explicit(&s->id, memory_order_seq_cst) != id`
 * map: F4 core/object.c sp__leave `atomic_store_explicit(&t->hazard[--t->depth], NULL, memory_order_release);`
 * map: F5 core/actor.c actor_push `sp__hold(a->owner);`
 * map: F6 core/actor.h sp__actor_run `sp__drop(owner);`
 * map: F7 core/object.c sp__handle_close `atomic_compare_exchange_strong_explicit(&s->id, &id, 0, memory_order_seq_cst`
 * map: F8 core/object.h sp__drop `now = old == 1 ? SP__RETIRED : old - 1;`
 * map: F9 core/object.h sp__drop `atomic_compare_exchange_weak_explicit(&obj->refs, &old, now, memory_order_acq_rel`
 * map: F10 core/object.c sp__dropped `if (old == 1) {`
 * map: F11 core/object.c sp__dropped `obj->retired = retired.head;`
 * map: F12 core/object.c sp__reclaim `bool used = object_in_use(obj) ||`
 * map: F13 core/object.c sp__reclaim `atomic_load_explicit(&obj->refs, memory_order_acquire) != SP__RETIRED;`
 * map: F14 core/object.c sp__reclaim `obj->destroy(obj);`
 * map: F15 core/object.c object_in_use `atomic_load_explicit(&t->hazard[i], memory_order_seq_cst) == obj`
 * map: F16 core/socket.c sp__sock_shut `if (!sp__handle_close(&s->obj)) {`
 * map: F17 core/socket.c sp__sock_shut `sp__post(&s->close_ev);`
 * map: F18 core/socket.c sp__sock_shut `sp__drop(&s->obj);`
 * map: F19 core/socket_api.c sp_close `sp__leave();`
 * map: F20 core/socket_api.c sp_close `sp__reclaim();`
 * map: F21 core/object.c sp__leave `atomic_load_explicit(&retired.listed, memory_order_relaxed) > 0`
 *
 * Merged: the mailbox is a count, as proven in mailbox.pml; the compare-and-swap loop of a drop is
 * one step; the socket's own reference goes when its actor handles the close event.
 *
 * run: proven
 * run: broken -DBUG_HAZARD_LATE
 * run: broken -DBUG_DROP_PLAIN
 * run: broken -DBUG_REFS_FIRST
 * run: broken -DBUG_NO_REFS_CHECK
 * run: broken -DBUG_NO_HAZARD_CHECK
 * run: broken -DBUG_CLOSE_TWICE
 * run: broken -DBUG_LIST_ALWAYS
 */
#define THREADS 4       /* 0, 1: senders; 2, 3: closers */
#define IDLE 9
#define RETIRED 128

bool valid = true;      /* the slot's id is the handle */
bool hazard[THREADS];   /* names the object */
/* The table's reference and the socket's own (its endpoints, pipes: until it is done). */
byte refs = 2;
bool gone;              /* ghost: destroyed */
byte listed;            /* in the retired list */
byte inbox = IDLE, messages, handled, sent;
bool close_ev, done;
byte closes;            /* ghost: calls that closed it */
byte queued;            /* the actor is in the shared queue */
bool list_lock;

#define TOUCH assert(!gone)

/* F8-F11, then reclaim. */
inline drop() {
    TOUCH;
#ifdef BUG_DROP_PLAIN
    refs--;
    atomic { zero = (refs == 0); retire = zero }
    if
    :: zero -> refs = RETIRED
    :: else
    fi;
#else
    d_step {
        retire = (refs == 1);
        refs = (refs == 1 -> RETIRED : refs - 1);
        zero = (refs == RETIRED)
    }
#endif
    if
    :: zero ->
        zero = false;
        if
#ifdef BUG_LIST_ALWAYS
        :: true -> retire = false; listed++
#else
        :: retire -> retire = false; atomic { !list_lock; listed++ } /* F11 */
#endif
        :: else
        fi;
        reclaim()
    :: else
    fi
}

/* F12-F14. The list has one object. */
inline reclaim() {
    atomic { !list_lock -> list_lock = true }
    assert(listed <= 1);
    if
    :: listed > 0 ->
#ifdef BUG_REFS_FIRST
        TOUCH;
        used = (refs != RETIRED);
#endif
#ifndef BUG_NO_HAZARD_CHECK
        /* F15: one thread's after the other's */
        used = used || hazard[0];
        used = used || hazard[1];
        used = used || hazard[2];
        used = used || hazard[3];
#endif
#if !defined(BUG_NO_REFS_CHECK) && !defined(BUG_REFS_FIRST)
        atomic { TOUCH; used = used || refs != RETIRED }
#endif
        if
        :: !used -> listed--; list_lock = false;
           atomic { assert(!gone); gone = true } /* F14 */
        :: else -> used = false; list_lock = false
        fi
    :: else -> list_lock = false
    fi
}

inline actor_run() {
    do
    :: atomic {
           TOUCH;
           assert(inbox != IDLE);
           n = inbox; inbox = 0;
           handled = handled + n;
           n = close_ev; close_ev = false
       }
       if
       :: n == 1 -> n = 0; assert(!done); done = true; drop() /* the socket's own */
       :: else
       fi;
       atomic {
           TOUCH;
           if
           :: inbox == 0 -> inbox = IDLE; n = 1
           :: else -> n = 0
           fi
       }
       if
       :: n == 1 -> n = 0; break
       :: else
       fi
    od;
    drop() /* F6 */
}

inline post(is_close) {
    atomic {
        TOUCH;
        idle = (inbox == IDLE);
        inbox = (idle -> 0 : inbox);
        if
        :: is_close -> close_ev = true; inbox++; handled--
        :: else -> inbox++; sent++
        fi
    }
    if
    :: idle ->
        idle = false;
        TOUCH;
        refs++; /* F5 */
        if
        :: queued++
        :: actor_run()
        fi
    :: else
    fi
}

/* F1-F3 */
inline enter() {
#ifdef BUG_HAZARD_LATE
    ok = valid;
    hazard[me] = true;
#else
    hazard[me] = true;
    ok = valid;
#endif
    if
    :: !ok -> hazard[me] = false
    :: else
    fi
}

proctype Sender(byte me) {
    byte n;
    bool ok, idle, used, zero, retire;

    enter();
    if
    :: ok ->
        post(false);
        TOUCH;
        hazard[me] = false; /* F4 */
        if /* F21 */
        :: listed > 0 -> reclaim()
        :: else
        fi
    :: else
    fi
}

proctype Closer(byte me) {
    byte n;
    bool ok, idle, used, zero, retire;

    enter();
    if
    :: ok ->
#ifdef BUG_CLOSE_TWICE
        ok = valid;
        valid = false;
#else
        d_step { TOUCH; ok = valid; valid = false } /* F7, F16 */
#endif
        if
        :: ok ->
            d_step { closes++; assert(closes == 1) }
            post(true); /* F17 */
            drop(); /* F18 */
            atomic { done; TOUCH } /* sp__sock_wait */
        :: else
        fi;
        hazard[me] = false; /* F19 */
        reclaim() /* F20 */
    :: else
    fi
}

active proctype Worker() {
    byte n;
    bool used, zero, retire;

    do
    :: atomic { queued > 0 -> queued--; assert(queued == 0) }
       actor_run()
    od
}

init {
    bool used;

    atomic { run Sender(0); run Sender(1); run Closer(2); run Closer(3) }
    timeout ->
    if
    :: !gone -> reclaim() /* sp_fini does */
    :: else
    fi;
    assert(gone && closes == 1 && done);
    assert(handled == sent && refs == RETIRED && listed == 0)
}
