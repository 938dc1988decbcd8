/* SPDX-License-Identifier: MIT */
/*
 * An actor of the application with room for CAP messages (app.h, app_post.c): a thread that posts
 * two messages (with OWN and STOP one) and a thread that posts one, which wait for room; an actor
 * that posts two (with STOP one), is refused, and is told when there is room; and the one that takes
 * them, one or all at a time. A thread may give up once, without waiting or when it was its turn;
 * the posting actor need not use the room of which it was told, and other things happen to it. With
 * OWN the one that takes leaves one of its own once, so that there is more than room for; with STOP
 * it is stopped somewhere.
 *
 * Claims: at rest all that was accepted is taken, nobody waits for room, and the posting actor is
 * through; it is told no more often than it was refused.
 *
 * map: O1 core/app_post.c post_room `if (depth >= app->capacity) {`
 * map: O2 core/app_post.c post_room `atomic_compare_exchange_weak_explicit(&app->depth, &depth, depth + 1,`
 * map: O3 core/app_post.c post_join `atomic_store_explicit(&app->wanted, true, memory_order_seq_cst);`
 * map: O4 core/app_post.c post_join `waits = post_full(app) &&`
 * map: O5 core/app_post.c sp__app_took `atomic_fetch_sub_explicit(&app->depth, n, memory_order_seq_cst);`
 * map: O6 core/app_post.c sp__app_took `wanted = atomic_load_explicit(&app->wanted, memory_order_seq_cst);`
 * map: O7 core/app_post.c post_next `if (always || !post_full(app)) {`
 * map: O8 core/app_post.c post_next `atomic_store_explicit(&app->wanted, false, memory_order_relaxed);`
 * map: O9 core/app_post.c post_wait `sp__waiter_remove(&app->posters, &w);`
 * map: O10 core/app_post.c post_wait `sp__wake(post_next(app, false));`
 * map: O11 core/app_post.c want_on_room `want->target = NULL;`
 * map: O12 core/app_post.c want_on_room `atomic_store_explicit(&app->room_came, true, memory_order_relaxed);`
 * map: O13 core/app_post.c want_on_room `: post_next(SP__CONTAINER(target, struct sp__app, obj), false);`
 * map: O14 core/app_post.c want_take `if (at->target == target) {`
 * map: O15 core/app.c app_on_again `atomic_exchange_explicit(&app->room_came, false, memory_order_relaxed)`
 * map: O16 core/app_post.c sp_actor_post `sp__post_batch(&app->run, &app->in, &batch);`
 * map: O17 core/app.c app_shut `atomic_store_explicit(&app->stopping, true, memory_order_relaxed);`
 * map: O18 core/app_post.c sp__app_posters_end `sp__wakes(wake = post_next(app, true))`
 * map: O19 core/app_post.c post_take_room `bool stopping = atomic_load_explicit(&app->stopping, memory_order_relaxed);`
 *
 * Merged: the mailbox in which messages travel is a count (mailbox.pml); a place to park is a
 * token, and the event "again" a flag (both proven there); the posting actor's lock guards one
 * field, so it is no step of its own. What is not offered to the user is dropped as it is taken.
 *
 * run: proven
 * run: proven -DCAP=2
 * run: proven -DOWN
 * run: proven -DSTOP
 * run: broken -DBUG_LOOK_BEFORE_WANTED
 * run: broken -DBUG_WANTED_BEFORE_TAKE
 * run: broken -DBUG_UNWANTED
 * run: broken -DBUG_ADDS_FIRST
 * run: broken -DBUG_NO_PASS
 * run: broken -DBUG_GIVES_UP_SILENTLY
 * run: broken -DBUG_TOLD_BEFORE_FREE
 * run: broken -DBUG_STOP_LATE -DSTOP
 */
#ifndef CAP
#define CAP 1
#endif
#define THREADS 2
#if defined(STOP) || defined(OWN)
#define FIRST 1
#else
#define FIRST 2
#endif
#ifdef STOP
#define POSTS 1
#else
#define POSTS 2
#endif
#define TELLS 2 /* the waiter of the posting actor; those of the threads are 0 and 1 */
#define NOBODY 7

byte depth;              /* posted and not taken */
byte inbox;              /* … and on its way or there */
bool wanted, stopping;
bool lock;
chan posters = [4] of { byte };
bool token[THREADS];
bool target;             /* the posting actor's want is in use */
bool room_came, again;

byte through;
byte untold;             /* ghost: how often the posting actor waits */

#define LOCK atomic { !lock -> lock = true }
#define UNLOCK lock = false

/* Takes the first of those who wait; `who` is to be woken. */
inline post_next(always) {
    LOCK;
    if
    :: atomic { (always || depth < CAP) && len(posters) > 0 -> posters?who } /* O7 */
    :: atomic { !((always || depth < CAP) && len(posters) > 0) -> who = NOBODY }
    fi;
#ifdef BUG_UNWANTED
    wanted = false;
#else
    if
    :: len(posters) == 0 -> wanted = false /* O8 */
    :: len(posters) > 0
    fi;
#endif
    UNLOCK
}

inline wake() {
    do
    :: who == NOBODY -> break
    :: who < THREADS -> token[who] = true; who = NOBODY
    :: who == TELLS ->
#ifdef BUG_TOLD_BEFORE_FREE
        atomic { room_came = true; again = true };
        target = false;
#else
        target = false; /* O11 */
        atomic { room_came = true; again = true }; /* O12 */
#endif
#ifdef BUG_NO_PASS
        who = NOBODY
#else
        post_next(false) /* O13 */
#endif
    od
}

/* Joins those who wait; `joined` is false when there is room. */
inline join(me) {
    LOCK;
    posters!me;
#ifdef BUG_LOOK_BEFORE_WANTED
    joined = depth >= CAP && !stopping;
    wanted = true;
#else
    wanted = true; /* O3 */
    joined = depth >= CAP && !stopping; /* O4 */
#endif
    if
    :: !joined -> atomic { posters??eval(me) }
    :: else
    fi;
    UNLOCK
}

/* Takes room, if there is some. */
inline room() {
#ifdef BUG_ADDS_FIRST
    atomic { got = depth < CAP; depth++ };
    if
    :: !got -> depth--
    :: else
    fi
#else
    atomic { /* O1, O2 */
        got = depth < CAP;
        if
        :: got -> depth++
        :: else
        fi
    }
#endif
}

inline post() {
    inbox++ /* O16 */
}

proctype Thread(byte me; byte each) {
    byte n, who = NOBODY;
    bool got, joined, gave, late;

    do
    :: n == each -> break
    :: n < each && stopping -> break /* O19 */
    :: n < each && !stopping ->
        room();
        if
        :: got -> got = false; post(); n++
        :: !got && !gave -> gave = true; n++ /* it does not wait */
        :: !got ->
            join(me);
            if
            :: joined ->
                if
                :: atomic { token[me] -> token[me] = false }
                :: !gave -> gave = true; late = true; n++ /* its time is over */
                fi;
                LOCK;
                atomic {
                    if
                    :: posters??[eval(me)] -> posters??eval(me) /* O9 */
                    :: !posters??[eval(me)]
                    fi
                };
                UNLOCK;
                joined = false;
                if
                :: late ->
                    late = false;
#ifndef BUG_GIVES_UP_SILENTLY
                    post_next(false); /* O10 */
                    wake()
#endif
                :: else
                fi
            :: else
            fi
        fi
    od;
    through++
}

/* The posting actor: refused, it waits to be told. */
active proctype Poster() {
    byte n;
    bool got, joined, other;

    do
    :: n == POSTS -> break
    :: n < POSTS && stopping -> break
    :: n < POSTS && !stopping ->
        room();
        if
        :: got -> got = false; post(); n++
        :: !got ->
            if
            :: target -> joined = true /* O14: it waits already */
            :: else ->
                target = true;
                join(TELLS);
                if
                :: joined -> untold++
                :: else -> target = false
                fi
            fi;
            if
            :: joined -> /* SP_EFULL */
                do
                :: again ->
                    again = false;
                    atomic { joined = room_came; room_came = false }; /* O15 */
                    if
                    :: joined -> assert(untold > 0); untold--; joined = false; break
                    :: else
                    fi
                :: !other -> other = true; joined = false; break /* something else happens */
                od;
                if
                :: true
                :: n++ /* it has no use for it any more */
                fi
            :: else
            fi
        fi
    od;
    through++
}

active proctype Actor() {
    byte n, who = NOBODY;
    bool w;
#ifdef OWN
    bool own;
#endif

end:
    do
    :: inbox > 0 ->
        atomic {
            if
            :: n = 1
            :: n = inbox
            fi;
            inbox = inbox - n
        };
#ifdef OWN
        if
        :: !own -> atomic { own = true; depth++; inbox++ }
        :: true
        fi;
#endif
#ifdef BUG_WANTED_BEFORE_TAKE
        w = wanted;
        depth = depth - n;
#else
        depth = depth - n; /* O5 */
        w = wanted; /* O6 */
#endif
        if
        :: w ->
            w = false;
            do
            :: n == 0 -> break
            :: n > 0 ->
                post_next(false);
                if
                :: who == NOBODY -> break
                :: else -> wake(); n--
                fi
            od
        :: else
        fi;
        n = 0
    od
}

#ifdef STOP
active proctype Stopper() {
    byte who = NOBODY;

#ifndef BUG_STOP_LATE
    stopping = true; /* O17 */
#endif
    do
    :: post_next(true); /* O18 */
       if
       :: who == NOBODY -> break
       :: else -> wake()
       fi
    od;
#ifdef BUG_STOP_LATE
    stopping = true;
#endif
    through++
}
#define ALL (THREADS + 2)
#else
#define ALL (THREADS + 1)
#endif

init {
    atomic { run Thread(0, FIRST); run Thread(1, 1) };
    timeout ->
    assert(!lock);
    assert(through == ALL);
    assert(len(posters) == 0 && !target);
    assert(inbox == 0 && depth == 0)
}
