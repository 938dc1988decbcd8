/* SPDX-License-Identifier: MIT */
/*
 * Messages between two sockets of a process: the sender's socket's actor passes them on as far as
 * the receiving pipe has credit; the receiver's socket's actor gives credit back, and the pipe's
 * input actor tells the sender of it. Seven messages, one of them costs two; a window of three,
 * credit comes back by the two at least; the last two are sent later. The pipe of the receiver
 * comes up while the sender begins.
 *
 * Claims: at rest every message was received, and the credit is whole but for what is owed; no more
 * is under way than the window and one message.
 *
 * map: I1 core/pipe_io.c tx_on_msgs `bool busy = atomic_load_explicit(&p->tx_want, memory_order_relaxed);`
 * map: I2 core/pipe_io.c rx_pass `int64_t credit = atomic_load_explicit(&p->rx_credit, memory_order_seq_cst);`
 * map: I3 core/pipe_io.c rx_pass `while ((int64_t)in.n < credit && from->head != NULL) {`
 * map: I4 core/pipe_io.c rx_post `(void)atomic_fetch_sub_explicit(&p->rx_credit, cost, memory_order_seq_cst);`
 * map: I5 core/pipe_io.c rx_post `sp__post_batch(&p->sock->actor, &p->rx_port, in);`
 * map: I6 core/pipe_io.c sp__pipe_pass `while (from->head != NULL && rx_pass(p, from)) {`
 * map: I7 core/pipe_io.c tx_submit_again `atomic_store_explicit(&p->tx_want, true, memory_order_seq_cst);`
 * map: I8 core/pipe_io.c tx_submit `rc = p->ops->submit(p->ref.tran, &p->txq);`
 * map: I9 core/pipe_io.c tx_submitted `atomic_store_explicit(&p->tx_want, false, memory_order_relaxed);`
 * map: I10 core/pipe.c pipe_grant `if (owed == 0 || (owed < SP__RX_WINDOW / 4 && p->held.head == NULL)) {`
 * map: I11 core/pipe.c pipe_grant `had = atomic_fetch_add_explicit(&p->rx_credit, owed, memory_order_seq_cst);`
 * map: I12 core/pipe.c pipe_grant `sp__pipe_cmd_rx(p, SP__RX_CREDIT);`
 * map: I13 core/pipe_io.c rx_on_event `(p->passes && (bits & SP__RX_CREDIT) != 0)`
 * map: I14 core/pipe_io.c rx_harvest `if (credit <= 0) {`
 * map: I15 transports/inproc/inproc.c inproc_harvest `link_ready(pipe->link, 1 - pipe->me, SP_READY_OUT);`
 * map: I16 transports/inproc/inproc.c link_ready `link->host->pipe_ready(link->side[side].pipe, ready);`
 * map: I17 core/pipe_io.c sp__pipe_ready `bool want = atomic_load_explicit(&p->tx_want, memory_order_seq_cst)`
 * map: I18 core/pipe_io.c tx_on_event `if (p->txq.head != NULL) {`
 * map: I19 transports/inproc/inproc.c inproc_submit `return pipe->link->host->pipe_pass(pipe->peer, out);`
 * map: I20 core/pipe.c pipe_join `atomic_store_explicit(&p->rx_credit, SP__RX_WINDOW, memory_order_release);`
 *
 * Merged: mailboxes are counts, and an event's flag, as proven in mailbox.pml.
 *
 * run: proven
 * run: broken -DBUG_ONE_BATCH
 * run: broken -DBUG_WANT_LATE
 * run: broken -DBUG_GRANT_SILENT
 * run: broken -DBUG_GRANT_BELOW_ZERO
 * run: broken -DBUG_OWES_TOO_MUCH
 */
#define EARLY 5
#define MESSAGES 7
#define DEAR 2          /* the message that costs two */
#define COST (MESSAGES + 1)
#define WINDOW 3
#ifdef BUG_OWES_TOO_MUCH
#define QUARTER 4
#else
#define QUARTER 2       /* of SP__RX_WINDOW */
#endif

byte txq = EARLY;       /* the sender's: in its pipe's queue */
byte sent;              /* numbers them */
bool later;             /* more messages in the sender's mailbox */
bool want;              /* tx_want */
bool tx_ev, rx_ev;      /* events, posted */
short credit;           /* rx_credit */
byte inbox, dear;       /* the receiver's mailbox: messages, and what they cost more */
byte received;
bool link;              /* the link's lock */

inline lock() {
    atomic { !link -> link = true }
}

/* I2-I6, under the link's lock (I19). */
inline pass() {
    lock();
    do
    :: txq == 0 -> break
    :: txq > 0 ->
        have = credit; /* I2 */
        if
        :: have <= 0 -> break
        :: else
        fi;
        d_step { /* I3: into a batch of its own */
            n = 0; cost = 0;
            do
            :: n < have && txq > 0 ->
                n++; txq--;
                cost = cost + (sent == DEAR -> 2 : 1);
                sent++
            :: else -> break
            od
        }
        credit = credit - cost; /* I4 */
        d_step { inbox = inbox + n; dear = dear + cost - n; assert(inbox + dear <= WINDOW + 1) } /* I5 */
#ifdef BUG_ONE_BATCH /* once the code: what was granted meanwhile is not looked at */
        break
#endif
    od;
    skip;
    d_step { n = 0; cost = 0; have = 0; link = false }
}

inline submit() {
    pass();
    if
    :: txq > 0 ->
#ifdef BUG_WANT_LATE
        pass();
        want = true
#else
        want = true; /* I7 */
        pass() /* I8 */
#endif
    :: else
    fi;
    if
    :: txq == 0 -> want = false /* I9 */
    :: else
    fi
}

active proctype Sender() {
    short have;
    byte n, cost;

    submit();
    do
    :: tx_ev ->
        tx_ev = false;
        if
        :: txq > 0 -> submit() /* I18 */
        :: else
        fi
    :: later ->
        d_step { later = false; txq = txq + MESSAGES - EARLY }
        if
        :: !want -> submit() /* I1 */
        :: else
        fi
    od
}

active proctype Receiver() {
    byte owed, k, x;
    short old;

    credit = WINDOW; /* I20 */
    rx_ev = true;
    do
    :: inbox > 0 -> /* receivers have room for all there is, or for one */
        atomic {
            if
            :: k = inbox
            :: inbox > 1 -> k = 1
            fi;
            x = (k == inbox -> dear : 0);
            dear = dear - x;
            inbox = inbox - k;
            received = received + k;
            owed = owed + k + x;
            k = 0; x = 0
        }
        if
        :: owed >= QUARTER || (owed > 0 && inbox > 0) -> /* I10: `held` is what the receivers left */
            d_step { old = credit; credit = credit + owed; owed = 0 } /* I11 */
            if
#ifdef BUG_GRANT_SILENT
            :: false
#elif defined(BUG_GRANT_BELOW_ZERO)
            :: old < 0 -> rx_ev = true
#else
            :: old <= 0 -> rx_ev = true /* I12 */
#endif
            :: else
            fi;
            old = 0
        :: else
        fi
    od
}

active proctype Input() {
    do
    :: rx_ev ->
        rx_ev = false; /* I13 */
        if
        :: credit > 0 -> /* I14 */
            lock(); /* I15, I16 */
            if
            :: want -> tx_ev = true /* I17 */
            :: else
            fi;
            link = false
        :: else
        fi
    od
}

active proctype Application() {
    later = true
}

init {
    timeout ->
    assert(received == MESSAGES && txq == 0 && inbox == 0);
    assert(WINDOW - credit < QUARTER)
}
