/* SPDX-License-Identifier: MIT */
/*
 * The receivers' queue: the word rxq with its mark RX_WAITING, the list of receivers under the
 * context's lock, time-outs. The actor pushes three messages; three receivers take what is there,
 * one message a call (or, the first, all), two of them with time-outs, and each receives again
 * after that. Behind a push the actor may drop the oldest messages, all but one.
 *
 * Claim: no receiver sleeps for ever while there is a message; none is lost.
 *
 * map: D1 core/ctx_deliver.c rx_push `head = atomic_load_explicit(&c->rxq, memory_order_relaxed);`
 * map: D2 core/ctx_deliver.c rx_push `atomic_compare_exchange_weak_explicit(&c->rxq, &head, newest`
 * map: D3 core/ctx_deliver.c rx_push `return head == SP__RX_WAITING;`
 * map: D4 core/ctx_deliver.c rx_wake `wake = sp__waiter_pop(&c->receivers);`
 * map: D5 core/ctx_deliver.c rx_wake `sp__wake(wake);`
 * map: D6 core/ctx_recv.c sp__ctx_pull `list = atomic_exchange_explicit(&c->rxq, NULL, memory_order_acquire);`
 * map: D7 core/ctx_recv.c rx_wait `q->local.head == NULL && sp__rx_allowed(c) == SP_OK`
 * map: D8 core/ctx_recv.c sp__rx_join `sp__waiter_add(&q->receivers, w, first);`
 * map: D9 core/ctx_recv.c sp__rx_join `atomic_compare_exchange_strong_explicit(&q->rxq, &none, SP__RX_WAITING`
 * map: D10 core/ctx_recv.c rx_wait `in_time = sp__sock_block(c->sock, deadline)`
 * map: D11 core/ctx_recv.c rx_wait `if (w.queued) {`
 * map: D12 core/ctx_recv.c rx_wait `next = sp__rx_pass_on(q);`
 * map: D13 core/ctx_recv.c sp__rx_pass_on `atomic_compare_exchange_strong_explicit(&c->rxq, &none, SP__RX_WAITING`
 * map: D14 core/ctx_recv.c sp__rx_pass_on `next = sp__waiter_pop(&c->receivers);`
 * map: D15 core/ctx_recv.c recv_take `next = sp__rx_pass_on(q);`
 * map: D20 core/ctx_evict.c sp__ctx_evict `evict_take(c, queued`
 *
 * D11 and D12 back each other: a receiver that was popped when its time was up looks again, and if
 * it did not, it would pass on; one of the two suffices (with both gone Spin finds the lost
 * wake-up).
 *
 * Merged: the list of a push is a count (only the mark and emptiness matter); a push is one step,
 * as in mailbox.pml. Dropping the oldest is one step under the lock. The lock is a flag, since the push does not take it.
 *
 * run: proven
 * run: proven -DNO_TIMEOUTS
 * run: broken -DBUG_NO_PASS_ON_TAKE
 * run: broken -DBUG_NO_PASS_ON_TIMEOUT -DBUG_POPPED_TIMES_OUT
 * run: broken -DBUG_MARK_FIRST
 * run: broken -DBUG_PASS_NO_MARK
 * run: broken -DBUG_EVICT_MARK
 */
#ifdef NO_TIMEOUTS
#define FIRM 2
#else
#define FIRM 0 /* up to this receiver they wait without time-out */
#endif
#define RECEIVERS 3
#define MESSAGES 3
#define CALLS 2
#define WAITING 9 /* the mark */
#define NONE 9

byte rxq;           /* 0: NULL; WAITING; else messages in the list */
byte ready, taken, pushed, evicted;
chan waiters = [RECEIVERS] of { byte }; /* c->receivers */
bool queued[RECEIVERS], token[RECEIVERS], sleeps[RECEIVERS];
bool locked;

inline lock() { atomic { !locked -> locked = true } }

/* Under the lock. */
inline pop(t) {
    if
    :: len(waiters) > 0 -> waiters?t; queued[t] = false
    :: else -> t = NONE
    fi
}

inline unlock_and_wake(t) {
    locked = false;
    if
    :: t != NONE -> d_step { token[t] = true; t = NONE }
    :: else
    fi
}

/* D13, D14, under the lock. */
inline pass_on() {
    atomic {
        next = NONE;
        if
        :: len(waiters) == 0
        :: len(waiters) > 0 ->
            if
#ifdef BUG_PASS_NO_MARK
            :: ready == 0 && (rxq == 0 || rxq == WAITING)
#else
            :: ready == 0 && (rxq == 0 || rxq == WAITING) -> rxq = WAITING
#endif
            :: else -> pop(next)
            fi
        fi
    }
}

proctype Receiver(byte me) {
    byte calls = CALLS, next = NONE;
    bool in_time;

    do
    :: calls == 0 -> break
    :: calls > 0 ->
again:
        lock();
        atomic { /* D6 */
            if
            :: ready == 0 && rxq != 0 && rxq != WAITING -> ready = rxq; rxq = 0
            :: else
            fi
        }
        if
        :: ready > 0 ->
            d_step {
                if
                :: me == 0 -> taken = taken + ready; ready = 0
                :: else -> taken++; ready--
                fi
            }
#ifndef BUG_NO_PASS_ON_TAKE
            pass_on(); /* D15 */
#endif
            unlock_and_wake(next);
            goto done
        :: else
        fi;
        locked = false;
        /* rx_wait */
        lock();
        in_time = true;
        if
        :: ready == 0 -> /* D7 */
#ifdef BUG_MARK_FIRST
            /* the look at the queue, then the mark */
            if
            :: rxq == 0 || rxq == WAITING ->
                waiters!me; queued[me] = true; in_time = false;
                rxq = WAITING
            :: else
            fi
#else
            atomic { /* D8, D9 */
                if
                :: rxq == 0 || rxq == WAITING ->
                    rxq = WAITING;
                    waiters!me;
                    queued[me] = true;
                    in_time = false
                :: else
                fi
            }
#endif
        :: else
        fi;
        locked = false;
        if
        :: !in_time ->
            sleeps[me] = true;
            atomic { /* D10; a token that an earlier wake left ends it too */
                if
                :: token[me] -> token[me] = false; in_time = true
                :: me > FIRM && !token[me] -> in_time = false /* time-outs */
                fi;
                sleeps[me] = false
            }
            lock();
            d_step { /* D11 */
                if
                :: queued[me] -> waiters??eval(me); queued[me] = false
#ifndef BUG_POPPED_TIMES_OUT
                :: else -> in_time = true
#else
                :: else
#endif
                fi
            }
            if
            :: !in_time ->
#ifndef BUG_NO_PASS_ON_TIMEOUT
                pass_on(); /* D12 */
#endif
                unlock_and_wake(next);
                goto done
            :: else -> locked = false
            fi
        :: else
        fi;
        goto again;
done:
        calls--
    od
}

proctype Actor() {
    byte t = NONE;
    bool mark;

    do
    :: pushed < MESSAGES ->
        d_step { /* D1, D2 */
            pushed++;
            mark = (rxq == WAITING);
            rxq = (mark -> 1 : rxq + 1)
        }
        if
        :: mark -> /* D3 */
            mark = false;
            lock();
            atomic { pop(t) } /* D4 */
            unlock_and_wake(t) /* D5 */
        :: else
        fi;
        if
        :: atomic { !locked -> /* The queue holds less: D6, D20, under the lock. */
            if
            :: rxq != 0 && rxq != WAITING -> ready = ready + rxq; rxq = 0
#ifdef BUG_EVICT_MARK
            :: rxq == WAITING -> rxq = 0
            :: rxq == 0
#else
            :: else
#endif
            fi;
            if
            :: ready > 1 -> evicted = evicted + ready - 1; ready = 1
            :: else
            fi
        }
        :: true
        fi
    :: else -> break
    od
}

init {
    atomic { run Receiver(0); run Receiver(1); run Receiver(2); run Actor() }
    timeout ->
    assert(taken + evicted + ready + (rxq == WAITING -> 0 : rxq) == MESSAGES);
    assert(taken + evicted == MESSAGES || !(sleeps[0] || sleeps[1] || sleeps[2]))
}
