/* SPDX-License-Identifier: MIT */
/*
 * The actor's one-word mailbox, the ownership that goes with it, and the park/unpark token of the
 * workers. Three application threads post to two actors, in place or by the shared queue; two
 * workers run what is queued. Without EVENTS: four messages, one of them posted by a handler to
 * the other actor; with it: a message, and an event that two threads post three times.
 *
 * Claims: exactly one owner of an actor that is not idle; every message handled once, each
 * poster's in order; the event's handler sees what was written before each post; no worker sleeps
 * while an actor is queued.
 *
 * map: A1 core/actor.c actor_push `struct sp__node *head = atomic_load_explicit(&a->inbox`
 * map: A2 core/actor.c actor_push `oldest->next = head == SP__IDLE ? NULL : head;`
 * map: A3 core/actor.c actor_push `atomic_compare_exchange_weak_explicit(&a->inbox, &head, newest`
 * map: A4 core/actor.c actor_push `if (head == SP__IDLE) {`
 * map: A5 core/actor.c actor_drain `atomic_exchange_explicit(&a->inbox, NULL, memory_order_acquire)`
 * map: A6 core/actor.c actor_drain `list->next = ordered;`
 * map: A7 core/actor.h sp__actor_run `&a->inbox, &empty, SP__IDLE, memory_order_release`
 * map: A8 core/actor.c sp__post `atomic_exchange_explicit(&ev->node.port, &event_port, memory_order_acq_rel)`
 * map: A9 core/actor.c event_dispatch `atomic_exchange_explicit(&n->port, NULL, memory_order_acq_rel)`
 * map: A10 core/actor.c event_dispatch `ev->handle(ev);`
 * map: A11 core/sched.c shared_append `sp__sched.tail = a;`
 * map: A12 core/sched.c sp__sched_alert `sp__sched.idle = idle->idle_next;`
 * map: A13 core/sched.c shared_take `sp__sched.head = a->link;`
 * map: A14 core/idle.c sp__idle `if (sp__sched.head != NULL || sp__sched.stop) {`
 * map: A15 core/idle.c idle_sleep `sp__sched.idle = t;`
 * map: A16 core/sched.c sched_run `local_push(t, a);`
 * map: A17 core/platform_linux.c linux_park `__atomic_compare_exchange_n(&p->token, &seen, 0`
 * map: A18 core/platform_linux.c linux_park `__atomic_compare_exchange_n(&p->token, &seen, 2`
 * map: A19 core/platform_linux.c linux_park `futex_wait(&p->token, 2, deadline);`
 * map: A20 core/platform_linux.c linux_unpark `__atomic_exchange_n(&p->token, 1, __ATOMIC_SEQ_CST) == 2`
 * map: A21 core/actor.c actor_take `atomic_compare_exchange_strong_explicit(&a->inbox, &idle, NULL, memory_order_acquire`
 * map: A22 core/actor.c actor_run_hand `port->handle(port, &batch);`
 *
 * Merged: load and compare-and-swap of a push are one step. One that succeeds found the word that
 * it had read, and the node was nobody else's before; that the word may have changed in between
 * and back does no harm, since only the word is compared and only the word is stored in the node.
 *
 * run: proven
 * run: proven -DEVENTS
 * run: broken -DBUG_PLAIN_IDLE
 * run: broken -DBUG_ALWAYS_SCHEDULE
 * run: broken -DBUG_NEVER_SCHEDULE
 * run: broken -DBUG_HAND_LAST
 * run: broken -DEVENTS -DBUG_POSTED_LATE
 * run: broken -DBUG_PARK_STORE
 * run: broken -DBUG_IDLE_UNCHECKED
 */
#ifdef EVENTS
#define IN_PLACE (me == 2) /* the others leave it to the workers */
#else
#define IN_PLACE true
#endif
#define NIL 254
#define IDLE 255
#define ACTORS 2
#define WORKERS 2
#define NODES 4     /* 0, 1: poster 0's; 2: poster 1's; 3: what the handler of 0 posts to actor 1 */
#define EVENT 4     /* the node of the event, to actor 0 */
#define NONE 9

byte inbox[ACTORS] = IDLE;
byte hand[ACTORS] = NIL; /* one node is enough */
byte next[5] = NIL;
bool owned[ACTORS];      /* ghost: somebody owns it */
bool inside[ACTORS];     /* ghost: somebody runs it */
byte handled[NODES];
bool posted;
byte written, seen;
chan shared = [ACTORS] of { byte }; /* the shared queue; an actor twice in it would overflow */
bool idle[WORKERS];
byte token[WORKERS];
bool asleep[WORKERS];

/* A20: the exchange, then the wake if there was a sleeper. */
inline unpark(w) {
    d_step { o = token[w]; token[w] = 1 }
    if
    :: d_step { o == 2 -> asleep[w] = false; o = 0 }
    :: d_step { else -> o = 0 }
    fi
}

/* A11, A12: under the lock. */
inline enqueue(a) {
    d_step {
        assert(nfull(shared));
        shared!a;
        if
        :: idle[0] -> w = 0; idle[0] = false
        :: else ->
            if
            :: idle[1] -> w = 1; idle[1] = false
            :: else -> w = NONE
            fi
        fi
    }
    if
    :: w != NONE -> unpark(w)
    :: else
    fi;
    w = 0
}

/* A1-A4, A21: was it idle? Then the caller owns it. The first look may come too early. */
inline push(a, n) {
    atomic {
        if
        :: inbox[a] == IDLE ->
            got = true;
            assert(hand[a] == NIL);
            hand[a] = n;
            inbox[a] = NIL
        :: true ->
            got = (inbox[a] == IDLE);
            next[n] = (got -> NIL : inbox[a]);
            inbox[a] = n
        fi;
#ifdef BUG_ALWAYS_SCHEDULE
        got = true;
#elif defined(BUG_NEVER_SCHEDULE)
        owned[a] = owned[a] || got;
        got = false;
#endif
        if
        :: got -> assert(!owned[a]); owned[a] = true
        :: else
        fi
    }
}

/* A8. `got` is false when it was posted already. */
inline post_event() {
    d_step { was = posted; posted = true; got = false }
    if
    :: !was -> push(0, EVENT)
    :: else
    fi;
    was = false
}

inline handle(a, n) {
    if
    :: n == EVENT ->
#ifndef BUG_POSTED_LATE
        posted = false; /* A9 */
        seen = written  /* A10 */
#else
        seen = written;
        posted = false
#endif
    :: else ->
        d_step {
            handled[n]++;
            assert(handled[n] == 1);
            assert(n != 1 || handled[0] == 1)
        }
#ifndef EVENTS
        if
        :: n == 0 ->
            push(1, 3);
            d_step {
                if
                :: got -> more = 1
                :: else
                fi;
                got = false
            }
        :: else
        fi
#endif
    fi
}

/* A5-A7. `more` is an actor that the handlers scheduled here. */
inline actor_run(a) {
    d_step { /* A5, A6, A22: the nodes are nobody else's from here on */
        assert(!inside[a] && inbox[a] != IDLE);
        inside[a] = true;
        ordered = NIL;
        if
#ifdef BUG_HAND_LAST
        :: hand[a] != NIL && inbox[a] == NIL ->
#else
        :: hand[a] != NIL ->
#endif
            ordered = hand[a];
            hand[a] = NIL;
            list = NIL
        :: else ->
            list = inbox[a];
            inbox[a] = NIL
        fi;
        do
        :: list != NIL -> x = next[list]; next[list] = ordered; ordered = list; list = x
        :: else -> break
        od;
        list = 0;
        x = 0
    }
    do
    :: d_step { ordered != NIL -> x = ordered; ordered = next[x]; next[x] = NIL }
       handle(a, x)
    :: d_step { else -> x = 0; ordered = 0; inside[a] = false }
       break
    od;
    /* A7 */
#ifdef BUG_PLAIN_IDLE
    again = (inbox[a] != NIL);
    if
    :: !again -> d_step { inbox[a] = IDLE; owned[a] = false }
    :: else
    fi
#else
    atomic {
        again = (inbox[a] != NIL);
        if
        :: !again -> inbox[a] = IDLE; owned[a] = false
        :: else
        fi
    }
#endif
}

/* The end of an API call that posted: in place, or all to the shared queue (sp__run_here). */
inline run_here(a) {
    if
    :: !got
    :: got -> got = false; enqueue(a)
    :: got && IN_PLACE ->
        got = false;
        actor_run(a);
        if
        :: again -> again = false; enqueue(a)
        :: else
        fi;
        if
        :: more != NONE -> enqueue(more); more = NONE
        :: else
        fi
    fi
}

proctype Poster(byte me) {
    byte o, w, x, list, ordered, left = 2, more = NONE;
    bool got, was, again;

    do
    :: left == 0 -> break
    :: left > 0 ->
        left--;
#ifdef EVENTS
        if
        :: me == 0 -> push(0, 0); left = 0
        :: me == 1 -> written++; post_event(); left = 0
        :: me == 2 -> written++; post_event()
        fi;
#else
        if
        :: me == 0 -> push(0, 1 - left)
        :: me == 1 -> push(0, 2); left = 0
        :: me == 2 -> left = 0
        fi;
#endif
        run_here(0)
    od
}

proctype Worker(byte me) {
    byte a, o, w, x, list, ordered, more = NONE;
    bool got, was, again;

loop:
    atomic { /* A13 */
        if
        :: more != NONE -> a = more; more = NONE /* scheduled here */
        :: more == NONE && len(shared) > 0 -> shared?a
        :: else -> a = NONE
        fi
    }
    if
    :: a != NONE ->
        actor_run(a);
        if
        :: again -> again = false; enqueue(a) /* A16: to a tail; the shared one shows more */
        :: else
        fi;
        goto loop
    :: else
    fi;
#ifdef BUG_IDLE_UNCHECKED
    idle[me] = true;
#else
    atomic { /* A14, A15 */
        if
        :: len(shared) > 0 -> goto loop
        :: else -> idle[me] = true
        fi
    }
#endif
park:
    atomic { /* A17 */
        if
        :: token[me] == 1 -> token[me] = 0; goto parked
        :: else
        fi
    }
#ifdef BUG_PARK_STORE
    token[me] = 2;
#else
    atomic { /* A18 */
        if
        :: token[me] == 0 -> token[me] = 2
        :: token[me] == 1 -> goto park
        :: else
        fi
    }
#endif
    atomic { /* A19: the kernel compares and sleeps in one step */
        if
        :: token[me] == 2 -> asleep[me] = true
        :: else -> goto park
        fi
    }
end:
    !asleep[me] -> goto park;
parked:
    idle[me] = false; /* idle_remove, under the lock */
    goto loop
}

init {
    atomic {
        run Poster(0); run Poster(1); run Poster(2);
        run Worker(0); run Worker(1)
    }
    timeout ->
#ifdef EVENTS
    assert(handled[0] == 1);
#else
    assert(handled[0] == 1 && handled[1] == 1 && handled[2] == 1 && handled[3] == 1);
#endif
    assert(seen == written);
    assert(empty(shared) && inbox[0] == IDLE && inbox[1] == IDLE)
}
