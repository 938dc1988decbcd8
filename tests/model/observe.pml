/* SPDX-License-Identifier: MIT */
/*
 * Observers of an object (observe.h): what is there is given by one thread and taken by two, one of
 * them under the lock (a receiver), the other without it (credit); a thread asks for a descriptor
 * (a flag that observes for ever), a poller observes, sleeps, looks and goes, twice.
 *
 * Claims: at rest the flag says whether there is something; a poller does not sleep for ever while
 * there is; it is not told of anything any more when it is gone.
 *
 * map: M1 core/ctx_deliver.c sp__ctx_publish `if (sp__observed(&c->observers, SP_POLLIN)) {`
 * map: M2 core/ctx_deliver.c rx_push `atomic_compare_exchange_weak_explicit(&c->rxq, &head, newest, memory_order_seq_cst`
 * map: M3 core/ctx_deliver.c sp__ctx_publish `sp__observed_after(&c->observers, SP_POLLIN)`
 * map: M4 core/ctx_deliver.c rx_tell `sp__observers_look(&c->observers);`
 * map: M5 core/ctx_send.c credit_take_many `if (sp__observed(&c->observers, SP_POLLOUT)) {`
 * map: M6 core/ctx_send.c credit_take_many `sp__observed_after(&c->observers, SP_POLLOUT)`
 * map: M7 core/ctx_send.c sp__ctx_grant `sp__observed_after(&c->observers, SP_POLLOUT)`
 * map: M8 core/ctx_rx.h sp__rx_changed `sp__observers_changed(&q->observers, SP_POLLIN | SP_POLLOUT);`
 * map: M9 core/observe.c sp__observe `observers_count(os, o->events, 1);`
 * map: M10 core/observe.c sp__observe `observer_look(o);`
 * map: M11 core/observe.c poller_fire `atomic_exchange_explicit(&p->fired, true, memory_order_release)`
 * map: M12 core/poll.c poll_wait `while (!poll_fired(p)`
 * map: M13 core/observe.c sp__observe_end `observers_count(o->at.observers, o->events, -1);`
 *
 * Merged: messages and credit are one number; firing and the token of the poller are one bit, as
 * sp__thread_wake and park are proven elsewhere (drive.pml). What is done under the lock is one
 * step where it reads what others change without the lock only once.
 *
 * run: proven
 * run: broken -DBUG_NO_LOOK_AFTER
 * run: broken -DBUG_LOOK_BEFORE_EVENTS
 * run: broken -DBUG_TAKES_SILENTLY
 * run: broken -DBUG_RECEIVES_SILENTLY
 * run: broken -DBUG_LOOK_UNLOCKED
 * run: broken -DBUG_STAYS
 */
#define GIVES 3

byte there;              /* messages or credit */
byte observers;          /* how many observe: `events` */
bool lock;
bool has_flag, flag;     /* the flag observes; is set */
bool polls, fired;       /* the poller observes; was told */
bool gone;               /* ghost: between its calls nothing of it is there to be told */
byte taken;

#define LOCK atomic { !lock -> lock = true }
#define UNLOCK lock = false

/* M4, M10, M11: tells every observer how it is, from one look. */
inline look() {
    d_step {
        if
        :: has_flag -> flag = (there > 0)
        :: else
        fi;
        if
        :: polls && there > 0 -> assert(!gone); fired = true
        :: else
        fi
    }
}

/* After a change without the lock. */
inline look_after() {
#ifndef BUG_NO_LOOK_AFTER
    if
    :: observers > 0 ->
#ifdef BUG_LOOK_UNLOCKED
        d_step { was = there };
        d_step {
            if
            :: has_flag -> flag = (was > 0)
            :: else
            fi;
            if
            :: polls && was > 0 -> assert(!gone); fired = true
            :: else
            fi;
            was = 0
        }
#else
        LOCK;
        look();
        UNLOCK
#endif
    :: else
    fi
#else
    skip
#endif
}

active proctype Giver() {
    byte n, was;

    do
    :: n < GIVES ->
        n++;
        if
        :: observers > 0 -> /* M1 */
            LOCK;
            there++; /* M2 */
            look();
            UNLOCK
        :: else ->
            there++; /* M2 */
            look_after() /* M3, M7 */
        fi
    :: else -> break
    od
}

/* Takes credit. */
active proctype Taker() {
    byte n, was;
    bool got;

    do
    :: n < 2 ->
        n++;
        if
        :: observers > 0 -> /* M5 */
            LOCK;
            atomic { if :: there > 0 -> there--; taken++ :: else fi };
            look();
            UNLOCK
        :: else ->
            atomic { got = (there > 0); if :: got -> there--; taken++ :: else fi };
#ifndef BUG_TAKES_SILENTLY
            if
            :: got && there == 0 -> look_after() /* M6 */
            :: else
            fi;
#endif
            got = false
        fi
    :: else -> break
    od
}

/* Receives. */
active proctype Receiver() {
    LOCK;
    atomic { if :: there > 0 -> there--; taken++ :: else fi };
#ifndef BUG_RECEIVES_SILENTLY
    if
    :: observers > 0 -> look() /* M8 */
    :: else
    fi;
#endif
    UNLOCK
}

active proctype Descriptor() {
    LOCK;
#ifdef BUG_LOOK_BEFORE_EVENTS
    has_flag = true;
    look();
    observers++;
#else
    atomic { has_flag = true; observers++ }; /* M9 */
    look(); /* M10 */
#endif
    UNLOCK
}

active proctype Poller() {
    byte n;

    do
    :: n < 2 ->
        n++;
        gone = false;
        LOCK;
#ifdef BUG_LOOK_BEFORE_EVENTS
        atomic { polls = true; fired = false };
        look();
        observers++;
#else
        atomic { polls = true; fired = false; observers++ }; /* M9 */
        look();
#endif
        UNLOCK;
        if
        :: fired /* M12 */
        :: true -> skip /* its time is over */
        fi;
        LOCK;
#ifdef BUG_STAYS
        observers--;
#else
        atomic { polls = false; observers-- }; /* M13 */
#endif
        UNLOCK;
        gone = true
    :: else -> break
    od;
    /* And once without a time-out. */
    gone = false;
    LOCK;
    atomic { polls = true; fired = false; observers++ };
    look();
    UNLOCK;
    fired;
    LOCK;
    atomic { polls = false; observers-- };
    UNLOCK
}

init {
    timeout ->
    assert(!lock);
    assert(has_flag && flag == (there > 0));
    assert(there + taken == GIVES);
    assert(there == 0 || !polls)
}
