/* SPDX-License-Identifier: MIT */
/*
 * Credit: one word, 2 * credit + the mark of those who wait. Three senders of one message a call
 * (one of them two calls), one of them with time-outs; two threads grant three in all. With
 * NO_TIMEOUTS one of them first takes one away (a pipe that went); with SHUT the context is shut
 * in the end.
 *
 * Claims: no sender sleeps for ever while there is credit, or after the context was shut; no more
 * is taken than granted.
 *
 * map: E1 core/ctx_send.c credit_take `if (now >> 1 <= 0) {`
 * map: E2 core/ctx_send.c credit_take `now - 2 * (int64_t)cost`
 * map: E3 core/ctx_send.c credit_give `atomic_fetch_add_explicit(&c->credit, 2 * credit, memory_order_seq_cst)`
 * map: E4 core/ctx_send.c sp__ctx_grant `if ((before & 1) != 0 && (before >> 1) + credit > 0) {`
 * map: E5 core/ctx_send.c credit_wake `int64_t n = atomic_load_explicit(&c->credit, memory_order_relaxed) >> 1;`
 * map: E6 core/ctx_send.c credit_wake `wake = n > 0 ? sp__waiter_pop(&c->senders)`
 * map: E7 core/ctx_send.c credit_wake `atomic_fetch_and_explicit(&c->credit, ~(int64_t)1`
 * map: E8 core/ctx_send.c credit_wake `sp__wake(wake);`
 * map: E9 core/ctx_send.c credit_join `if (atomic_load_explicit(&c->closed, memory_order_relaxed) || w->left) {`
 * map: E10 core/ctx_send.c credit_join `sp__waiter_add(&c->senders, w, first);`
 * map: E11 core/ctx_send.c credit_join `now = atomic_fetch_or_explicit(&c->credit, 1, memory_order_seq_cst);`
 * map: E12 core/ctx_send.c credit_wait `sp__sock_block(c->sock, deadline)`
 * map: E13 core/ctx_send.c credit_leave `queued = w->queued;`
 * map: E14 core/ctx_send.c credit_leave `if (c->senders.head == NULL) {`
 * map: E15 core/ctx.c ctx_next `wake = sp__waiter_pop_of(&at->senders, c);`
 *
 * Merged: a take (load and compare-and-swap) is one step; mark and credit are two variables that
 * change in one step. A critical section is one step: each touches the word once, and the list
 * only there.
 *
 * run: proven
 * run: proven -DNO_TIMEOUTS
 * run: proven -DSHUT
 * run: broken -DBUG_CLEAR_BLIND
 * run: broken -DBUG_LOOK_FIRST
 * run: broken -DNO_TIMEOUTS -DBUG_WAKE_ONE
 * run: broken -DBUG_POPPED_TIMES_OUT
 * run: broken -DSHUT -DBUG_CLOSED_UNSEEN
 */
#ifdef NO_TIMEOUTS
#define FIRM 2
#else
#define FIRM 1 /* up to this sender they wait without time-out */
#endif
#define SENDERS 3
#define NONE 9

short credit;
bool mark, closed;
byte sent;
chan waiters = [SENDERS] of { byte };
bool queued[SENDERS], token[SENDERS], sleeps[SENDERS];

inline pop(t) {
    if
    :: len(waiters) > 0 -> waiters?t; queued[t] = false
    :: else -> t = NONE
    fi
}

/* E3-E8 */
inline grant(k) {
    d_step {
        wake = mark && credit + k > 0;
        credit = credit + k
    }
    if
    :: wake ->
        wake = false;
        n = credit; /* E5 */
        do
        :: atomic { /* E6, E7 */
               if
               :: n > 0 -> pop(t)
               :: else -> t = NONE
               fi;
#ifdef BUG_CLEAR_BLIND
               mark = false;
#else
               mark = mark && len(waiters) > 0;
#endif
               n--
           }
           if
           :: t != NONE -> token[t] = true /* E8 */
           :: else -> break
           fi;
#ifdef BUG_WAKE_ONE
           break
#endif
        od;
        atomic { n = 0; t = 0 }
    :: else
    fi
}

proctype Sender(byte me) {
    byte calls = (me == 0 -> 2 : 1);
    bool ok, in_time;

    do
    :: calls == 0 -> break
    :: calls > 0 ->
again:
        if
        :: closed -> goto done
        :: else
        fi;
        atomic { /* E1, E2 */
            if
            :: credit > 0 -> credit--; sent++; goto done
            :: else
            fi
        }
        /* credit_wait */
#ifdef BUG_LOOK_FIRST
        ok = (credit > 0);
#endif
        atomic {
#ifndef BUG_CLOSED_UNSEEN
            if
            :: closed -> goto done /* E9 */
            :: else
            fi;
#endif
            waiters!me; /* E10 */
            queued[me] = true;
#ifndef BUG_LOOK_FIRST
            ok = (credit > 0); /* E11 */
#endif
            mark = true;
            in_time = true
        }
        if
        :: !ok ->
            sleeps[me] = true;
            atomic { /* E12 */
                if
                :: token[me] -> token[me] = false
                :: me > FIRM && !token[me] -> in_time = false
                fi;
                sleeps[me] = false
            }
        :: else
        fi;
        d_step { /* E13, E14 */
            if
            :: queued[me] -> waiters??eval(me); queued[me] = false
#ifndef BUG_POPPED_TIMES_OUT
            :: else -> in_time = true
#else
            :: else
#endif
            fi;
            mark = mark && len(waiters) > 0;
            ok = false
        }
        if
        :: in_time -> goto again
        :: else
        fi;
done:
        calls--
    od
}

proctype Granter() {
    short n;
    byte t;
    bool wake;

    grant(1);
    grant(1)
}

proctype Pipes() {
    short n;
    byte t;
    bool wake;

#ifdef NO_TIMEOUTS
    grant(-1);
    grant(2);
#else
    grant(1);
#endif
#ifdef SHUT
    do /* E15 */
    :: atomic { closed = true; pop(t) }
       if
       :: t != NONE -> token[t] = true
       :: else -> break
       fi
    od
#endif
}

init {
    atomic { run Sender(0); run Sender(1); run Sender(2); run Granter(); run Pipes() }
    timeout ->
    assert(sent + credit == 3);
    assert(credit >= 0);
    assert(!(credit > 0 || closed) || !(sleeps[0] || sleeps[1] || sleeps[2]))
}
