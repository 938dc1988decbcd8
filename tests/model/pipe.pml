/* SPDX-License-Identifier: MIT */
/*
 * The end of a pipe's output. The socket's actor queues three messages for the output actor, tells
 * it to report every write, and ends the pipe; the poller reports that it is writable, and output
 * hears of that only while it waits for it. Messages of one visit are handed over together. When the
 * output actor says that it has halted, the socket's actor takes back what was not written: from
 * then on the queue is its own.
 *
 * Claims: the output actor does not touch its queue after it said "halted"; every message was
 * written or taken back.
 *
 * The end is an event of its own, posted once, so it stands behind all messages in the mailbox.
 * BUG_END_BIT, which the code had: a bit of `tx_ev`, whose node may stand before them, since it
 * was posted for something else already.
 *
 * map: H1 core/pipe_io.c sp__pipe_output `sp__post_batch(&p->tx, &p->tx_port, &p->out);`
 * map: H2 core/pipe.c sp__pipe_shut `sp__pipe_end_output(p);`
 * map: H3 core/pipe.c sp__pipe_flush `sp__pipe_cmd_tx(p, SP__TX_EAGER);`
 * map: H4 core/pipe_io.c sp__pipe_cmd_tx `atomic_fetch_or_explicit(&p->tx_cmd, bits, memory_order_release);`
 * map: H5 core/pipe_io.c tx_on_event `atomic_exchange_explicit(&p->tx_cmd, 0, memory_order_acquire);`
 * map: H6 core/pipe_io.c tx_on_end `sp__pipe_note(p, SP__NOTE_TX_STOPPED);`
 * map: H7 core/pipe_io.c tx_on_msgs `sp_batch_join(&p->txq, nodes);`
 * map: H8 core/pipe_io.c sp__pipe_ready `sp__pipe_cmd_tx(p, SP_READY_OUT);`
 * map: H9 core/pipe_io.c tx_submit_again `atomic_store_explicit(&p->tx_want, true, memory_order_seq_cst);`
 * map: H10 core/pipe_io.c sp__pipe_ready `atomic_load_explicit(&p->tx_want, memory_order_seq_cst)`
 * map: H11 core/pipe_io.c tx_submit `rc = p->ops->submit(p->ref.tran, &p->txq);`
 * map: H12 core/pipe.c pipe_return_unsent `memset(&p->txq, 0, sizeof(p->txq));`
 * map: H13 core/pipe_io.c tx_on_event `if (p->tx_over) {`
 * map: H16 core/pipe.c sp__pipe_send `sp_batch_push(&p->out, m);`
 * map: H17 core/pipe.c sp__pipe_shut `sp__pipes_out(p->sock);`
 * map: H18 core/pipe_io.c tx_submit_again `tx_quiet(p, false);`
 * map: H19 core/pipe_io.c pipe_watch_ready `sp__pipe_cmd_tx(p, SP__TX_QUIET);`
 * map: H20 core/pipe_io.c tx_on_event `tx_quiet(p, true);`
 * map: H21 core/platform_linux.c linux_watch_out `(void)epoll_ctl(linux_epoll, EPOLL_CTL_MOD, fd, &ev);`
 *
 * Merged: a drain of the mailbox is a queue that is read one by one; the input actor has halted
 * already.
 *
 * run: proven
 * run: proven -DNO_END
 * run: broken -DBUG_END_BIT
 * run: broken -DBUG_LOOK_AFTER_END
 * run: broken -DBUG_END_FIRST
 * run: broken -DNO_END -DBUG_STAYS_QUIET
 * run: broken -DNO_END -DBUG_WANT_LATE
 */
#define MESSAGES 3
#define MSG 1
#define EV 2
#define END 3

chan inbox = [6] of { byte };   /* the output actor's */
bool ev_posted, cmd_end, want;
byte txq, written, returned, posted_msgs;
bool halted;                   /* noted to the socket's actor */
bool taken;                     /* it took the rest */
byte room = 1;                  /* of the kernel's buffer */
bool edge = true;               /* EPOLLET: it became writable */
bool quiet, cmd_quiet;          /* edges are not asked for */
byte out;                       /* sent in this visit */

inline cmd_tx() {
    d_step { was = ev_posted; ev_posted = true }
    if
    :: !was -> inbox!EV
    :: else
    fi
}

/* One call of the transport. */
inline write() {
    d_step {
        do
        :: txq > 0 && room > 0 -> txq--; room--; written++
        :: else -> break
        od;
        blocked = (txq > 0)
    }
}

inline submit() {
    assert(!taken);
    write();
    if
    :: blocked ->
#ifdef BUG_WANT_LATE
        write();
        want = true
#else
        want = true; /* H9 */
#ifndef BUG_STAYS_QUIET
        if
        :: quiet -> d_step { quiet = false; edge = edge || room > 0 } /* H18, H21 */
        :: else
        fi;
#endif
        write() /* H11 */
#endif
    :: else
    fi;
    d_step {
        if
        :: !blocked -> want = false
        :: else
        fi
    }
}

/* H1: the end of a visit. */
inline flush() {
    d_step {
        do
        :: out > 0 -> out--; inbox!MSG
        :: else -> break
        od
    }
}

active proctype Socket() {
    bool was, eager;

    do
    :: posted_msgs < MESSAGES -> atomic { posted_msgs++; out++ } /* H16 */
    :: out > 0 -> flush()
    :: posted_msgs > 0 && out == 0 && !eager -> eager = true; cmd_tx() /* H3 */
    :: posted_msgs == MESSAGES -> break
    od;
#ifndef NO_END
#ifndef BUG_END_FIRST
    flush(); /* H17 */
#endif
    cmd_end = true; /* H2, H4 */
#ifndef BUG_END_BIT
    inbox!END;
    flush();
#else
    cmd_tx();
#endif
    halted;
    d_step { taken = true; returned = txq; txq = 0 } /* H12 */
#else
    flush()
#endif
}

active proctype Output() {
    byte e;
    bool was, blocked, over;

    do
    :: inbox?e ->
        if
        :: e == MSG -> /* H7 */
            atomic { assert(!taken); txq++ }
            if
            :: !want && !over -> submit()
            :: else
            fi
        :: e == EV ->
            ev_posted = false;
            d_step { was = cmd_quiet; cmd_quiet = false } /* H5 */
            if
            :: was -> /* H20 */
                was = false;
                if
                :: !want -> quiet = true
                :: else
                fi
            :: else
            fi;
#ifdef BUG_END_BIT
            d_step { was = cmd_end; cmd_end = false } /* H5 */
            if
            :: was -> was = false; over = true; halted = true /* H6 */
            :: else -> if :: !over && txq > 0 -> submit() :: else fi
            fi
#else
            if
#ifndef BUG_LOOK_AFTER_END
            :: over /* H13 */
#endif
            :: else ->
                assert(!taken);
                if
                :: txq > 0 && !over -> submit()
                :: else
                fi
            fi
#endif
        :: e == END -> over = true; halted = true
        fi;
        e = 0
    od
}

active proctype Poller() {
    bool was;

    do
    :: atomic { edge -> edge = false }
       if
       :: want -> cmd_tx() /* H8, H10 */
       :: else -> cmd_quiet = true; cmd_tx() /* H19 */
       fi
    od
}

/* The peer reads, twice: a full buffer becomes writable. */
active proctype Peer() {
    byte reads;

    do
    :: reads < 2 -> d_step { room == 0 -> room++; edge = edge || !quiet; reads++ }
    :: else -> break
    od
}

init {
    timeout ->
#ifdef NO_END
    assert(written == MESSAGES)
#else
    assert(taken && written + returned == MESSAGES)
#endif
}
