/* SPDX-License-Identifier: MIT */
/*
 * Corks: a sender that sends in a row owns its socket's actor, and leaves it in the `cork` of its
 * record. It takes it out itself, when it sends more or waits, or a worker does, the guard, which
 * looks as long as `corks` says that there are any. Workers may go into the user's code, and there
 * may be no others.
 *
 * Two senders with an actor each and three messages each, any of which goes out at once or is corked;
 * after the last one the sender does not call any more. Two workers, and an actor that calls the user,
 * who waits until all messages are out; or (TWO) two of them, and two messages each; or (ONE) one worker,
 * and an application's thread polls. A worker that is guard for another reason (help.pml) at first.
 *
 * Claims: an actor has one owner at any time, and one runner; at rest, where only sleeps without
 * limit are left, no actor is corked, every message is out, and the user's functions are through.
 *
 * map: K1 core/cork.c cork_put `bool watched = sp__guard_corks();`
 * map: K2 core/cork.c cork_put `atomic_store_explicit(&t->cork, a, memory_order_seq_cst);`
 * map: K3 core/cork.c cork_put `return watched || sp__cork_take(t) == NULL;`
 * map: K4 core/cork.c sp__cork_take `a = atomic_exchange_explicit(&t->cork, NULL, memory_order_acq_rel);`
 * map: K5 core/cork.c sp__uncork `sp__schedule(a);`
 * map: K6 core/cork.c cork_other `if (held == a) {`
 * map: K7 core/cork.c sp__cork_look `any = any || corks != t->corks_seen;`
 * map: K8 core/cork.c sp__cork_look `held = atomic_load_explicit(&t->cork, memory_order_seq_cst);`
 * map: K9 core/cork.c sp__cork_look `struct sp__actor *a = sp__cork_take(t);`
 * map: K10 core/idle.c sp__guard_look `if (!all && sp__cork_look(false)) {`
 * map: K11 core/idle.c sp__guard_look `atomic_store_explicit(&sp__sched.corks, false, memory_order_seq_cst);`
 * map: K12 core/idle.c sp__guard_look `if (sp__cork_look(all) && !all) {`
 * map: K13 core/idle.c sp__guard_look `atomic_store_explicit(&sp__sched.corks, true, memory_order_relaxed);`
 * map: K14 core/idle.c sp__guard_corks `if (atomic_load_explicit(&sp__sched.corks, memory_order_seq_cst)) {`
 * map: K15 core/idle.c sp__guard_corks `if (sp__sched.count == sp__sched.in_user && !sp__worker_start()) {`
 * map: K16 core/idle.c sp__guard_corks `atomic_store_explicit(&sp__sched.corks, true, memory_order_seq_cst);`
 * map: K17 core/idle.c sp__guard_corks `if (sp__sched.guard == NULL && sp__sched.idle != NULL) {`
 * map: K18 core/idle.c sp__guard_corks `if (sp__sched.guard == NULL && sp__sched.poller_asleep && sp__sched.poller_worker) {`
 * map: K19 core/worker.c worker_cover `corks = sp__sched.guard == NULL && atomic_load_explicit(&sp__sched.corks, memory_order_relaxed);`
 * map: K20 core/worker.c worker_cover `(!sp__sched.poller_busy && sp__sched.idle == NULL))) {`
 * map: K21 core/worker.c worker_cover `(!sp__sched.poller_busy || sp__sched.head != NULL || corks)) {`
 * map: K22 core/sched.c sched_run_user `if (!sp__worker_cover(t) && atomic_load_explicit(&sp__sched.corks, memory_order_relaxed)) {`
 * map: K23 core/sched.c sched_run_user `sp__guard_look(true);`
 * map: K24 core/idle.c guard_over `if (atomic_load_explicit(&sp__sched.corks, memory_order_relaxed)) {`
 * map: K25 core/idle.c guard_over `sp__sched.guard = NULL;`
 *
 * Merged: a post is one step, and so is the end of an actor's run, as proven in mailbox.pml; and a
 * sender's run of its own actor, to which nobody else posts, with the post in front of it. An actor
 * that is taken out is run at once. Whether a cork is old enough, and whether there was one since the
 * last look, may be answered either way.
 *
 * run: proven
 * run: proven -DTWO
 * run: proven -DONE
 * run: broken -DBUG_NO_SECOND_LOOK
 * run: broken -DBUG_NO_RECHECK
 * run: broken -DBUG_LOAD_STORE
 * run: broken -DBUG_COVER_FORGETS
 * run: broken -DONE -DBUG_COVER_SATISFIED
 * run: broken -DTWO -DBUG_TOO_EARLY
 * run: broken -DBUG_NO_WAKE
 */
#define NONE 9
#define SENDERS 2
#ifdef TWO
#define MESSAGES(i) 2
#define TOTAL 4
#define USERS 2
#else
#define MESSAGES(i) 3
#define TOTAL 6
#define USERS 1
#endif
#ifdef ONE
#define MAX 1
#define POLLED true     /* by an application's thread that stays */
#else
#define MAX 2
#define POLLED false
#endif

bool corks;             /* sp__sched.corks */
bool cork[SENDERS];
byte inbox[SENDERS];    /* of the sender's actor */
bool owned[SENDERS];    /* not idle */
bool runs[SENDERS];     /* ghost */
byte out;               /* messages that are out */
byte users;             /* actors that call the user, in the shared queue */
byte through;
byte guard = NONE;
bool idle[2], token[2], started[2];
byte count, in_user;
bool busy = POLLED, asleep = POLLED, pworker, wake;
bool helped = true;

inline start(ok) {
    if
    :: count < MAX -> started[count] = true; count++; ok = true
    :: else -> ok = false
    fi
}

/* sp__sched_alert, within a step. */
inline alert() {
    if
    :: idle[0] -> idle[0] = false; token[0] = true
    :: idle[1] -> idle[1] = false; token[1] = true
    :: else ->
        if
        :: asleep -> asleep = false; wake = true
        :: else
        fi
    fi
}

/* Runs actor i, which the caller owns, until it is idle. */
inline run_actor(i) {
    do
    :: d_step { assert(owned[i] && !runs[i]); runs[i] = true; out = out + inbox[i]; inbox[i] = 0 }
       d_step {
           runs[i] = false;
           owned[i] = (inbox[i] > 0);
           more = owned[i]
       }
       if
       :: more -> more = false
       :: else -> break
       fi
    od
}

/* The sender runs its own actor: nobody else posts to it. */
inline run_mine(i) {
    d_step {
        assert(owned[i] && !runs[i]);
        out = out + inbox[i];
        inbox[i] = 0;
        owned[i] = false;
        mine = false
    }
}

/* K4 */
inline take(i, got) {
#ifdef BUG_LOAD_STORE
    got = cork[i];
    if
    :: got -> cork[i] = false
    :: else
    fi
#else
    d_step { got = cork[i]; cork[i] = false }
#endif
}

/* sp__guard_corks: K14-K18 */
inline guard_corks(ok) {
    ok = corks;
    if
    :: ok
    :: else ->
#ifdef BUG_TOO_EARLY /* once the code: taken back when there is nobody */
        corks = true;
        atomic {
            if
            :: guard == NONE && (idle[0] || idle[1]) -> alert(); ok = true
            :: else ->
                if
                :: guard == NONE && asleep && pworker -> asleep = false; wake = true; ok = true
                :: else ->
                    if
                    :: guard == NONE && count == in_user -> start(ok); corks = ok
                    :: else -> ok = true
                    fi
                fi
            fi
        }
#else
        atomic {
            ok = true;
            if
            :: count == in_user -> start(ok)
            :: else
            fi;
            corks = corks || ok;
#ifndef BUG_NO_WAKE
            if
            :: ok && guard == NONE && (idle[0] || idle[1]) -> alert()
            :: ok && guard == NONE && !idle[0] && !idle[1] && asleep && pworker -> asleep = false; wake = true
            :: else
            fi
#endif
        }
#endif
    fi
}

proctype Sender(byte me) {
    byte n;
    bool mine, ok;

    do
    :: n < MESSAGES(me) ->
        atomic { /* until it corks, or another owner runs it, nobody else can tell these steps apart */
            n++;
            inbox[me]++;
            mine = !owned[me];
            owned[me] = true;
            if
            :: mine -> run_mine(me) /* K6: not in a row */
            :: mine -> mine = false; goto row
            :: !mine -> goto more
            fi
        }
        goto next;
row:
        guard_corks(ok); /* K1 */
        if
        :: !ok -> run_mine(me); goto next
        :: ok -> ok = false
        fi;
        cork[me] = true; /* K2 */
#ifndef BUG_NO_RECHECK
        guard_corks(ok); /* K3 */
        if
        :: ok -> ok = false; goto next
        :: !ok
        fi;
        take(me, mine);
        if
        :: mine -> run_mine(me)
        :: !mine
        fi
#endif
        goto next;
more: /* K5: enough, or not; or another owner runs it */
        if
        :: take(me, mine);
           if
           :: mine -> run_mine(me)
           :: !mine
           fi
        :: true
        fi;
next:
        skip
    :: else -> break
    od
}

/* sp__cork_look: K7-K9 */
inline look(all) {
    any = false;
    i = 0;
    do
    :: i < SENDERS ->
        if
        :: cork[i] -> /* K8 */
            any = true;
            if
            :: true -> /* K9 */
                take(i, got);
                if
                :: got -> got = false; run_actor(i)
                :: else
                fi
            :: !all
            fi
        :: !cork[i]
        :: !cork[i] && !all -> any = true /* K7 */
        fi;
        i++
    :: else -> i = 0; break
    od
}

/* guard_look: K10-K13 */
inline guard_look(all) {
    any = false;
    if
    :: !all -> look(false)
    :: else
    fi;
    if
    :: any
    :: else ->
        corks = false; /* K11 */
#ifndef BUG_NO_SECOND_LOOK
        look(all);
        if
        :: any && !all -> corks = true /* K13 */
        :: else
        fi
#endif
    fi;
    any = false
}

proctype Worker(byte me) {
    byte i;
    bool more, got, any, mine, ok, polls;

    started[me];
loop:
    atomic { /* shared_take, sp__idle, guard_take */
        if
        :: users > 0 -> users--; mine = true
        :: else ->
            if
            :: guard == NONE && helped -> guard = me; helped = false; idle[me] = true
            :: else ->
                if
                :: guard == NONE && corks -> guard = me
                :: else
                fi;
                if
                :: busy -> idle[me] = true
                :: else -> busy = true; pworker = true; asleep = true; polls = true
                fi
            fi
        fi
    }
    if
    :: mine ->
        mine = false;
        atomic { /* K19-K21 */
            in_user++;
            ok = true;
            if
#ifdef BUG_COVER_SATISFIED /* once the code: the helper is woken, which is not enough */
            :: busy && !pworker && !idle[0] && !idle[1] -> alert()
            :: else ->
#else
            :: true ->
#endif
            if
            :: guard != NONE /* it comes by itself: poller.pml, B35 */
            :: guard == NONE && (count == in_user || (!busy && !idle[0] && !idle[1])) ->
                start(ok);
                ok = ok || count > in_user
            :: else ->
                if
#ifdef BUG_COVER_FORGETS
                :: !busy || users > 0 -> alert()
#else
                :: !busy || users > 0 || (corks && guard == NONE) -> alert()
#endif
                :: else
                fi
            fi
            fi
        }
        if
        :: !ok && corks -> guard_look(true) /* K22, K23 */
        :: else
        fi;
        ok = false;
        out == TOTAL;
        atomic { in_user--; through++ }
        goto loop
    :: else
    fi;
    if
    :: polls ->
        atomic {
            if
            :: wake -> wake = false
            :: guard == me
            fi;
            polls = false
        }
        d_step { busy = false; asleep = false; pworker = false }
    :: else ->
        atomic {
            if
            :: token[me] ->
                token[me] = false;
                if
                :: !idle[me] -> goto awake
                :: else
                fi
            :: guard == me && !token[me]
            fi
        }
        idle[me] = false;
awake:
        skip
    fi;
    if
    :: guard == me ->
        if /* K24 */
        :: corks -> guard_look(false)
        :: else
        fi;
        guard = NONE /* K25 */
    :: else
    fi;
    goto loop
}

#ifdef ONE
/* The application's thread in the poller. It gives the role up and takes it again. */
active proctype Helper() {
    do
    :: atomic {
        wake ->
        wake = false;
        if
        :: guard == NONE || users > 0 ->
            if
            :: idle[0] -> idle[0] = false; token[0] = true
            :: else
            fi
        :: else
        fi;
        asleep = true
       }
    od
}
#endif

/* Something for the user. */
proctype World() {
    byte n;

    do
    :: n < USERS -> d_step { n++; users++; alert() }
    :: else -> break
    od
}

init {
    atomic {
        count = MAX;
        started[0] = true;
        started[1] = (MAX > 1);
        run Worker(0);
        run Worker(1);
        run Sender(0);
        run Sender(1);
        run World()
    }
    timeout ->
    assert(!cork[0] && !cork[1]);
    assert(out == TOTAL && through == USERS)
}
