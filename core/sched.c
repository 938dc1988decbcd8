/* SPDX-License-Identifier: MIT */
/// Run queues, workers and the poller. Each thread runs its own queue; the shared queue is for what
/// a thread may not or shall not run itself. The lock guards only scheduling, never the running of
/// an actor. [any]
#include "sched.h"

#include "config.h"
#include "cork.h"
#include "log.h"
#include "platform.h"
#include "scope.h"
#include "spin.h"
#include "timer.h"

#include <sp/sp.h>

#include <pthread.h>
#include <stdio.h>

#define WORKERS_MAX 64
#define FAIR_TURNS 61   // after as many turns the shared queue and the poller have their turn
#define HERE_BUDGET 32  // actors that an application's thread runs in one call, or a guard
#define CHAIN_MAX 16    // turns in a row for actors that schedule each other
#define START_BACKLOG 4 // waiting actors that make another worker worth its start
#define POLL_MAX 64
#define GUARD_NAP (100 * INT64_C(1000)) // ns
#define RETIRE (400 * SP__MS) // a worker without work ends after that, unless it is the last

struct sp__worker {
    void *thread; ///< NULL: none
    bool gone;    ///< it ends by itself, and is to be joined
};

static struct {
    pthread_mutex_t lock;
    struct sp__actor *head; ///< shared queue, linked by sp__actor.link
    struct sp__actor *tail;
    atomic_uint waiting; ///< in the shared queue; written under the lock
    struct sp__thread *idle;
    bool poller_busy;     ///< somebody polls or hands out reports
    bool poller_asleep;   ///< … and sleeps in it
    bool poller_worker;   ///< … and is a worker
    int64_t poller_until; ///< … at most so long
    /// Application threads that wait take turns at polling. One that leaves is expected back soon,
    /// so nobody is woken in its place: a worker, the guard, sleeps no longer than GUARD_NAP, and
    /// polls if nobody does by then. Model: help.pml.
    bool helped;              ///< a helper left since a guard looked
    bool wanted;              ///< one would like to poll, when the worker that does is through
    struct sp__thread *guard; ///< sleeps in the poller or on the idle list, but not for long
    atomic_bool corks;        ///< the guard looks after corks too
    int in_user;              ///< workers in the user's code
    bool stop;
    atomic_int max; ///< workers; 0: the application drives
    int count;
    struct sp__worker workers[WORKERS_MAX];
    atomic_uint watches; ///< open
    struct sp__watch *zombies;
    atomic_uint_least64_t wakes;
    atomic_uint_least64_t turns;
} sched = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void sched_worker(void *arg);

static int sched_max(void)
{
    return atomic_load_explicit(&sched.max, memory_order_relaxed);
}

/* ------------------------------------------------------------------ Queues */

static void local_push(struct sp__thread *t, struct sp__actor *a)
{
    a->link = NULL;
    if (t->run_tail != NULL) {
        t->run_tail->link = a;
    } else {
        t->run_head = a;
    }
    t->run_tail = a;
}

/// The actor that was just scheduled goes first; who was there goes to the tail.
static void local_push_next(struct sp__thread *t, struct sp__actor *a)
{
    if (t->run_next != NULL) {
        local_push(t, t->run_next);
    }
    t->run_next = a;
}

static bool local_any(const struct sp__thread *t)
{
    return t->run_next != NULL || t->run_head != NULL;
}

static struct sp__actor *local_pop(struct sp__thread *t)
{
    struct sp__actor *a = t->run_next;

    if (a != NULL) {
        t->run_next = NULL;
        if (++t->run_chain < CHAIN_MAX || t->run_head == NULL) {
            return a;
        }
        local_push(t, a); // It had its share in a row: the others first.
    }
    t->run_chain = 0;
    a = t->run_head;
    if (a != NULL) {
        t->run_head = a->link;
        if (t->run_head == NULL) {
            t->run_tail = NULL;
        }
    }
    return a;
}

/// Relaxed: exact under the lock; without it, only a reason to go and look.
static unsigned shared_waiting(void)
{
    return atomic_load_explicit(&sched.waiting, memory_order_relaxed);
}

/// Takes from the shared queue, in simulation any of them.
static struct sp__actor *shared_take(void)
{
    struct sp__actor *prev = NULL;
    struct sp__actor *a;
    unsigned n;

    (void)pthread_mutex_lock(&sched.lock);
    a = sched.head;
    n = shared_waiting();
    for (size_t skip = n > 1 ? sp__platform->choose(n) : 0; skip > 0; skip--) {
        prev = a;
        a = a->link;
    }
    if (a != NULL) {
        if (prev != NULL) {
            prev->link = a->link;
        } else {
            sched.head = a->link;
        }
        if (sched.tail == a) {
            sched.tail = prev;
        }
        atomic_store_explicit(&sched.waiting, n - 1, memory_order_relaxed);
    }
    SP__TRACE(A13, a, 0);
    (void)pthread_mutex_unlock(&sched.lock);
    return a;
}

/// A free place for a worker. -1: none.
static int worker_place(void)
{
    for (int i = 0; i < sched_max(); i++) {
        if (sched.workers[i].gone) {
            sp__platform->thread_join(sched.workers[i].thread); // It only returns any more.
            sched.workers[i] = (struct sp__worker){NULL, false};
        }
        if (sched.workers[i].thread == NULL) {
            return i;
        }
    }
    return -1;
}

/// Without any thread, blocking calls do the work, as with "threads" = 0: those under way too, so
/// they look again. Under the lock.
static void workers_none(void)
{
    atomic_store_explicit(&sched.max, 0, memory_order_relaxed);
    SP__TRACE(B26, NULL, 0);
    for (struct sp__thread *t = sp__threads(); t != NULL; t = t->next) {
        sp__thread_wake(t);
    }
}

/// Starts a worker; under the lock. False: there may be no more, or it cannot be started.
static bool worker_start(void)
{
    char name[32];
    struct sp__thread_attr attr = {name, (size_t)sp__config()->thread_stack,
                                   sp__config()->affinity};
    int i = sched.stop ? -1 : worker_place();
    int rc;

    if (i < 0) {
        return false;
    }
    (void)snprintf(name, sizeof(name), "sp-worker-%d", i);
    rc = sp__platform->thread_start(&sched.workers[i].thread, &attr, sched_worker,
                                    &sched.workers[i]);
    if (rc < 0) {
        sched.workers[i].thread = NULL;
    } else {
        sched.count++;
        SP__TRACE(B22, NULL, sched.count);
    }
    if (rc < 0 && sched.count == 0) {
        sp__logf(SP_LOG_ERROR, "runtime", "cannot start a thread: %s", sp_strerror(rc));
        workers_none();
    }
    return rc == SP_OK;
}

/// Sees to it that somebody comes for the shared queue; called under the lock, which it gives up.
static void sched_alert(void)
{
    struct sp__thread *idle = sched.idle;
    bool wake_poller = false;

    SP__TRACE(B1, idle, sched.head);
    if (idle != NULL) {
        sched.idle = idle->idle_next;
        idle->idle = false;
    } else if (sched.poller_asleep) {
        sched.poller_asleep = false;
        SP__TRACE(B2, NULL, 0);
        wake_poller = true;
    } else if (sched.count == sched.in_user || shared_waiting() > START_BACKLOG) {
        SP__TRACE(B3, NULL, sched.count);
        (void)worker_start();
    }
    (void)pthread_mutex_unlock(&sched.lock);
    if (idle != NULL) {
        atomic_fetch_add_explicit(&sched.wakes, 1, memory_order_relaxed);
        sp__thread_wake(idle);
    } else if (wake_poller) {
        atomic_fetch_add_explicit(&sched.wakes, 1, memory_order_relaxed);
        SP__TRACE(B4, NULL, 0);
        sp__platform->poller_wake();
    }
}

/// Moves a chain of actors to the shared queue.
static void shared_push(struct sp__actor *first)
{
    (void)pthread_mutex_lock(&sched.lock);
    while (first != NULL) {
        struct sp__actor *a = first;

        first = a->link;
        a->link = NULL;
        if (sched.tail != NULL) {
            sched.tail->link = a;
        } else {
            sched.head = a;
        }
        sched.tail = a;
        atomic_store_explicit(&sched.waiting, shared_waiting() + 1, memory_order_relaxed);
        SP__TRACE(A11, a, 0);
    }
    SP__TRACE(B5, NULL, sched.head);
    sched_alert();
}

static void local_flush(struct sp__thread *t)
{
    struct sp__actor *first;

    if (t->run_next != NULL) {
        local_push(t, t->run_next);
        t->run_next = NULL;
    }
    first = t->run_head;
    t->run_head = NULL;
    t->run_tail = NULL;
    if (first != NULL) {
        shared_push(first);
    }
}

void sp__schedule(struct sp__actor *a)
{
    struct sp__thread *t = sp__self();

    if (t == NULL || (a->user_code && !(t->running && t->worker))) {
        a->link = NULL;
        shared_push(a);
    } else {
        local_push_next(t, a);
    }
}

/// A worker will be busy for an unknown time: somebody else shall poll, look after corks, and take
/// what waits in the shared queue, for which this worker may have been the one that was woken.
/// False: there is nobody.
static bool sched_cover(void)
{
    bool covered = true;
    bool corks;

    (void)pthread_mutex_lock(&sched.lock);
    sched.in_user++;
    corks = sched.guard == NULL && atomic_load_explicit(&sched.corks, memory_order_relaxed);
    SP__TRACE(B6, NULL, sched.poller_busy + 2 * corks);
    if (sched_max() > 0 &&
        (sched.count == sched.in_user || (!sched.poller_busy && sched.idle == NULL))) {
        SP__TRACE(B7, NULL, sched.count);
        covered = worker_start() || sched.count > sched.in_user;
    } else if (sched_max() > 0 && (!sched.poller_busy || sched.head != NULL || corks)) {
        sched_alert();
        return true;
    }
    (void)pthread_mutex_unlock(&sched.lock);
    return covered;
}

/// It is back.
static void sched_uncover(void)
{
    (void)pthread_mutex_lock(&sched.lock);
    sched.in_user--;
    SP__TRACE(B27, NULL, sched.in_user);
    (void)pthread_mutex_unlock(&sched.lock);
}

/* ------------------------------------------------------------------ Running */

/// Runs an actor; one that is not idle afterwards goes to the tail.
static void sched_run(struct sp__thread *t, struct sp__actor *a)
{
    if (sp__actor_run(a)) {
        SP__TRACE(A16, a, 0);
        local_push(t, a);
    }
}

/// The guard looks after corks, as long as there are any.
static void sched_look(bool all)
{
    if (!all && sp__cork_look(false)) {
        return;
    }
    // seq_cst, see cork_put: who corks sees that nobody looks any more, or this last look sees the
    // cork.
    atomic_store_explicit(&sched.corks, false, memory_order_seq_cst);
    if (sp__cork_look(all) && !all) {
        atomic_store_explicit(&sched.corks, true, memory_order_relaxed);
    }
}

/// Runs what is queued here now, not in a later turn, which may begin with the user's code.
static void local_run(struct sp__thread *t)
{
    struct sp__actor *a;

    for (int i = 0; i < HERE_BUDGET && (a = local_pop(t)) != NULL; i++) {
        if (a->user_code) {
            a->link = NULL;
            shared_push(a);
        } else {
            sched_run(t, a);
        }
    }
}

/// Runs the user's actor. His code may take long: what waits here goes to the others, and somebody
/// else shall poll.
static void sched_run_user(struct sp__thread *t, struct sp__actor *a)
{
    local_flush(t);
    SP__TRACE(B8, a, 0);
    if (!sched_cover() && atomic_load_explicit(&sched.corks, memory_order_relaxed)) {
        sched_look(true); // Nobody would: see sp__guard_corks.
        local_run(t);
        local_flush(t);
    }
    t->in_user = true;
    sched_run(t, a);
    t->in_user = false;
    sched_uncover();
}

void sp__run_here(bool in_place)
{
    struct sp__thread *t = sp__self();

    if (t == NULL || !local_any(t)) {
        return;
    }
    if (t->running) {
        if (t->in_user) {
            local_flush(t); // The callback may take long, or wait for what it sent.
        }
        return;
    }
    if (sp__platform->simulated && sp__platform->choose(2) == 0) {
        in_place = false;
    }
    if (in_place) {
        struct sp__actor *a;

        t->running = true;
        t->here = true;
        for (int i = 0; i < HERE_BUDGET && (a = local_pop(t)) != NULL; i++) {
            sched_run(t, a);
        }
        t->here = false;
        t->running = false;
        if (t->armed) {
            // A connection within the process has been made and its time-out cancelled by now.
            t->armed = false;
            if (sp__timers_next() != SP__NEVER) {
                sp__need_worker();
            }
        }
    }
    local_flush(t);
    SP__TRACE(C16, t, 0);
}

/// Drops the references of watches that were closed while reports were under way.
static void zombies_drop(struct sp__watch *w)
{
    while (w != NULL) {
        struct sp__watch *next = w->zombie;

        SP__TRACE(G17, w, w->obj);
        sp__drop(w->obj);
        w = next;
    }
}

/// Whether a token lies there. Relaxed: who sees it takes it by park, which acquires.
static bool thread_posted(struct sp__thread *t)
{
    return __atomic_load_n(&t->parker.token, __ATOMIC_RELAXED) == 1;
}

/// Looks for what the thread waits for without sleeping: a token, and as the poller also readiness.
/// Returns what is ready.
static int sched_spin(struct sp__thread *t, struct sp__ready *ready, int64_t until)
{
    int n = 0;

    for (unsigned round = 0; n == 0 && !thread_posted(t); round++) {
        bool polls = ready != NULL &&
                     atomic_load_explicit(&sched.watches, memory_order_relaxed) > 0;
        unsigned way = polls ? 4 : 32; // about 1 µs either way

        if (polls) {
            n = sp__platform->poller_wait(ready, POLL_MAX, 0);
        }
        if (n == 0 && round % 8 == 7) {
            int64_t now = sp__now();

            if (now >= until || now >= sp__timers_next()) {
                break;
            }
        }
        sp__platform->relax(round % way == way - 1);
    }
    return n;
}

/// Sleeps in the poller.
static int sched_poll_sleep(struct sp__thread *t, struct sp__ready *ready, int64_t deadline)
{
    int n;

    // seq_cst, see sp__thread_wake: whoever wakes this thread sees it polling, or it sees the token
    // here.
    atomic_store_explicit(&t->polling, true, memory_order_seq_cst);
    SP__TRACE(C8, t, 0);
    if (sp__platform->park(&t->parker, 0)) {
        SP__TRACE(C9, t, 1);
        deadline = 0;
    }
    SP__TRACE(B10, t, deadline);
    n = sp__platform->poller_wait(ready, POLL_MAX, deadline);
    atomic_store_explicit(&t->polling, false, memory_order_relaxed);
    SP__TRACE(C11, t, n);
    return n;
}

/// A helper gives up polling: there is a guard, or one is made. Under the lock, which it gives up.
static void sched_helped(void)
{
    sched.helped = true;
    SP__TRACE(C25, sched.guard, sched.head);
    if (sched.guard == NULL || sched.head != NULL) {
        sched_alert();
    } else {
        (void)pthread_mutex_unlock(&sched.lock);
    }
}

/// Posts what the one poller found ready, and what is due, and gives the role up.
static void sched_polled(struct sp__thread *t, const struct sp__ready *ready, int n)
{
    struct sp__watch *zombies;

    SP__TRACE(B28, t, n);
    // Acquire: pairs with the release in sp__watch_open.
    (void)atomic_load_explicit(&sched.watches, memory_order_acquire);
    for (int i = 0; i < n; i++) {
        struct sp__watch *w = ready[i].target;

        SP__TRACE(G15, w, ready[i].ready);
        w->ready(w, ready[i].ready);
    }
    SP__TRACE(B12, t, 0);
    (void)sp__timers_fire(sp__now());
    sp__scopes_tend();
    (void)pthread_mutex_lock(&sched.lock);
    sched.poller_busy = false;
    sched.poller_asleep = false;
    sched.poller_worker = false;
    SP__TRACE(B13, t, 0);
    zombies = sched.zombies;
    SP__TRACE(G16, zombies, 0);
    sched.zombies = NULL;
    if (!t->worker && sched_max() > 0) {
        sched_helped();
    } else {
        (void)pthread_mutex_unlock(&sched.lock);
    }
    zombies_drop(zombies);
}

/// Takes the role of the poller, if it is free; under the lock.
static bool poller_take(const struct sp__thread *t)
{
    if (sched.poller_busy) {
        return false;
    }
    sched.poller_busy = true;
    sched.poller_worker = t->worker;
    SP__TRACE(C5, t, t->worker);
    return true;
}

/// The poller will sleep until the deadline that is returned, or the next timer; under the lock. A
/// timer that is armed later finds it asleep, and kicks.
static int64_t poller_lie_down(int64_t deadline)
{
    int64_t next = sp__timers_next();

    SP__TRACE(B9, NULL, next);
    sched.poller_asleep = true;
    sched.poller_until = next < deadline ? next : deadline;
    SP__TRACE(B15, NULL, sched.poller_until);
    return sched.poller_until;
}

/// Polls once, with the role taken.
static void sched_poll(struct sp__thread *t, int64_t deadline)
{
    struct sp__ready ready[POLL_MAX];

    sched_polled(t, ready, sched_poll_sleep(t, ready, deadline));
}

static void idle_remove(struct sp__thread *t)
{
    for (struct sp__thread **at = &sched.idle; *at != NULL; at = &(*at)->idle_next) {
        if (*at == t) {
            *at = t->idle_next;
            break;
        }
    }
    t->idle = false;
}

/// Whether the worker that is about to sleep shall be the guard; under the lock. False in `poll`:
/// it leaves the poller to a helper.
static bool guard_take(struct sp__thread *t, bool *poll)
{
    bool expects = sched.helped || (sched.wanted && !sched.poller_busy);

    if (!t->worker || sched.guard != NULL ||
        !(expects || atomic_load_explicit(&sched.corks, memory_order_relaxed))) {
        return false;
    }
    sched.guard = t;
    SP__TRACE(B29, t, expects);
    if (expects) {
        sched.helped = false;
        sched.wanted = false;
        *poll = false;
    }
    return true;
}

/// Sleeps on the idle list. False: nothing came until the deadline.
static bool sched_sleep(struct sp__thread *t, int64_t deadline)
{
    bool woken;

    t->idle = true;
    t->idle_next = sched.idle;
    sched.idle = t;
    SP__TRACE(A15, t, 0);
    (void)pthread_mutex_unlock(&sched.lock);
    (void)sp__platform->park(&t->parker, deadline);
    SP__TRACE(B16, t, 0);
    (void)pthread_mutex_lock(&sched.lock);
    SP__TRACE(C7, t, t->idle);
    woken = !t->idle;
    if (t->idle) {
        idle_remove(t);
    }
    return woken;
}

/// Nothing to run: polls if nobody does, else sleeps until there is work. False: a worker that had
/// nothing to do for long, and is not the last, shall end.
static bool sched_idle(struct sp__thread *t, int64_t deadline)
{
    bool poll = true;
    bool guard;
    bool ends = false;

    (void)pthread_mutex_lock(&sched.lock);
    SP__TRACE(A14, t, sched.head);
    if (sched.head != NULL || sched.stop) {
        (void)pthread_mutex_unlock(&sched.lock);
        return true;
    }
    guard = guard_take(t, &poll);
    if (guard) {
        int64_t nap = sp__now() + GUARD_NAP;

        deadline = nap < deadline ? nap : deadline;
    }
    if (poll && poller_take(t)) {
        deadline = poller_lie_down(deadline);
        (void)pthread_mutex_unlock(&sched.lock);
        sched_poll(t, deadline);
    } else {
        bool extra = t->worker && !guard && sched.count > 1;
        bool woken = sched_sleep(t, extra ? sp__now() + RETIRE : deadline);

        ends = extra && !woken && !sched.stop && sched.head == NULL && sched.count > 1;
        if (ends) {
            sched.count--;
            SP__TRACE(B30, t, ends);
            t->place->gone = true; // Here: who counts on being able to start one finds its place.
        }
        (void)pthread_mutex_unlock(&sched.lock);
    }
    if (guard) {
        if (atomic_load_explicit(&sched.corks, memory_order_relaxed)) {
            sched_look(false);
            local_run(t);
        }
        (void)pthread_mutex_lock(&sched.lock);
        sched.guard = NULL;
        SP__TRACE(B31, t, 0);
        (void)pthread_mutex_unlock(&sched.lock);
    }
    return !ends;
}

/// A look at the poller without waiting, if nobody else has it.
static void sched_glance(struct sp__thread *t)
{
    bool mine;

    (void)pthread_mutex_lock(&sched.lock);
    mine = poller_take(t);
    SP__TRACE(B17, t, mine);
    (void)pthread_mutex_unlock(&sched.lock);
    if (mine) {
        sched_poll(t, 0);
    }
}

enum sched_turn { TURN_RAN, TURN_IDLE, TURN_END };

/// One turn: runs one actor, or waits for work until the deadline. TURN_END: a worker that is not
/// needed.
static enum sched_turn sched_turn(struct sp__thread *t, int64_t deadline)
{
    struct sp__actor *a = NULL;
    bool fair = ++t->turn % FAIR_TURNS == 0;

    SP__TRACE(C20, t, t->turn);
    if (fair) {
        atomic_fetch_add_explicit(&sched.turns, FAIR_TURNS, memory_order_relaxed);
        sched_glance(t);
        a = shared_take();
    }
    if (a == NULL) {
        a = local_pop(t);
    }
    if (a == NULL) {
        a = shared_take();
    }
    if (a == NULL) {
        // A glance may have taken the token that this thread was to be woken by: then the caller
        // must look at its condition before it sleeps.
        return fair || sched_idle(t, deadline) ? TURN_IDLE : TURN_END;
    }
    if (a->user_code) {
        sched_run_user(t, a);
    } else {
        sched_run(t, a);
    }
    return TURN_RAN;
}

static void sched_worker(void *arg)
{
    struct sp__worker *me = arg;
    struct sp__thread *t = sp__self();
    bool stop = t == NULL;

    if (t == NULL) {
        // No memory even for its record: as if it could not have been started.
        (void)pthread_mutex_lock(&sched.lock);
        sched.count--;
        SP__TRACE(B33, NULL, sched.count);
        workers_none();
        (void)pthread_mutex_unlock(&sched.lock);
        return;
    }
    t->worker = true;
    t->running = true;
    t->place = me;
    while (!stop) {
        stop = sched_turn(t, SP__NEVER) == TURN_END;
        if (!stop && !local_any(t)) {
            (void)pthread_mutex_lock(&sched.lock);
            stop = sched.stop && sched.head == NULL;
            (void)pthread_mutex_unlock(&sched.lock);
        }
    }
    t->worker = false;
    t->running = false;
}

/* ------------------------------------------------------------------ Waiting */

/// With "threads" = 0: a thread that stops driving leaves nobody without a poller, nor with work:
/// it wakes one that sleeps, which drives, or passes it on in turn when it leaves too.
static void sched_pass_on(void)
{
    struct sp__thread *heir = NULL;

    (void)pthread_mutex_lock(&sched.lock);
    SP__TRACE(C18, NULL, sched.head);
    if (sched.head != NULL) {
        sched_alert();
        return;
    }
    if (!sched.poller_busy && sched.idle != NULL) {
        heir = sched.idle;
        SP__TRACE(C19, heir, 0);
        sched.idle = heir->idle_next;
        heir->idle = false;
    }
    (void)pthread_mutex_unlock(&sched.lock);
    if (heir != NULL) {
        sp__thread_wake(heir);
    }
}

/// Looks for up to `time` ns. True: something came, which is dealt with. False in the end with the
/// role of the poller, if the thread had it.
static bool helper_look(struct sp__thread *t, bool poller, int64_t deadline, int64_t time)
{
    struct sp__ready ready[POLL_MAX];
    int64_t until = sp__now() + time;
    int n = sched_spin(t, poller ? ready : NULL, until < deadline ? until : deadline);
    bool won = n > 0 || thread_posted(t);

    sp__spin_end(t, won);
    if (won && poller) {
        sched_polled(t, ready, n);
        sp__run_here(true);
    }
    return won;
}

/// An application's thread waits: with `poll` it polls itself if nobody does.
static void helper_wait(struct sp__thread *t, int64_t deadline, int64_t spin, bool poll)
{
    int64_t time = sp__spin_begin(t, spin);
    bool poller = false;

    if (time > 0) {
        (void)pthread_mutex_lock(&sched.lock);
        poller = poll && poller_take(t);
        (void)pthread_mutex_unlock(&sched.lock);
        if (helper_look(t, poller, deadline, time)) {
            return;
        }
    }
    (void)pthread_mutex_lock(&sched.lock);
    poller = poller || (poll && poller_take(t));
    if (poller && sched.zombies != NULL) {
        deadline = 0; // The wake for them may have come while we looked.
    }
    if (poller) {
        deadline = poller_lie_down(deadline);
    } else {
        sched.wanted = sched.wanted || poll;
        SP__TRACE(C27, t, poll);
    }
    (void)pthread_mutex_unlock(&sched.lock);
    if (poller) {
        sched_poll(t, deadline);
        sp__run_here(true);
    } else {
        (void)sp__platform->park(&t->parker, deadline);
        SP__TRACE(C28, t, 0);
    }
}

bool sp__wait(int64_t deadline, int64_t spin, bool poll)
{
    struct sp__thread *t = sp__self();

    (void)sp__uncork();
    sp__run_here(true); // What this call posted must not sleep with its thread.
    t->sent_to = NULL;
    if (sp__platform->park(&t->parker, 0)) {
        SP__TRACE(C1, t, 1);
        return true;
    }
    SP__TRACE(C1, t, 0);
    if (sched_max() == 0) {
        t->running = true;
        (void)sched_turn(t, deadline);
        t->running = false;
        local_flush(t);
        SP__TRACE(C17, t, 0);
        sched_pass_on();
    } else if (spin != 0 || poll) {
        helper_wait(t, deadline, spin, poll);
    } else {
        bool woken = sp__platform->park(&t->parker, deadline);

        SP__TRACE(C23, t, woken);
        return woken;
    }
    return sp__now() < deadline;
}

int sp__drive(int64_t deadline)
{
    struct sp__thread *t = sp__self();
    int ran = 0;
    bool more = true;

    SP__TRACE(C24, t, 0);
    t->running = true;
    while (more) {
        ran += sched_turn(t, ran == 0 ? deadline : 0) == TURN_RAN;
        // What became ready while we waited is run too; then the caller has its turn.
        (void)pthread_mutex_lock(&sched.lock);
        more = local_any(t) || (sched.head != NULL && ran < FAIR_TURNS);
        (void)pthread_mutex_unlock(&sched.lock);
    }
    t->running = false;
    SP__TRACE(C17, t, 0);
    sched_pass_on();
    return ran;
}

void sp__need_worker(void)
{
    (void)pthread_mutex_lock(&sched.lock);
    if (sched.count == 0) {
        SP__TRACE(B21, NULL, sched.count);
        (void)worker_start();
    }
    (void)pthread_mutex_unlock(&sched.lock);
}

void sp__poller_kick(int64_t due)
{
    struct sp__thread *t = sp__self();
    bool late;

    (void)pthread_mutex_lock(&sched.lock);
    late = sched.poller_asleep && due < sched.poller_until;
    SP__TRACE(B18, NULL, late);
    if (late) {
        sched.poller_asleep = false;
    }
    if (sched.count == 0 && t != NULL && t->here) {
        t->armed = true; // Who polls for it is seen to when this thread is through.
    } else if (sched.count == 0) {
        (void)worker_start();
    }
    (void)pthread_mutex_unlock(&sched.lock);
    if (late) {
        SP__TRACE(B4, NULL, 0);
        sp__platform->poller_wake();
    }
}

bool sp__sched_threaded(void)
{
    return sched_max() > 0;
}

bool sp__guard_corks(void)
{
    bool kick = false;

    // seq_cst: see sched_look.
    if (atomic_load_explicit(&sched.corks, memory_order_seq_cst)) {
        return true;
    }
    (void)pthread_mutex_lock(&sched.lock);
    if (sched.count == sched.in_user && !worker_start()) {
        (void)pthread_mutex_unlock(&sched.lock);
        return false;
    }
    // Not before there is somebody: others rely on it.
    atomic_store_explicit(&sched.corks, true, memory_order_seq_cst);
    if (sched.guard == NULL && sched.idle != NULL) {
        sched_alert();
        return true;
    }
    if (sched.guard == NULL && sched.poller_asleep && sched.poller_worker) {
        sched.poller_asleep = false;
        SP__TRACE(B32, NULL, 0);
        kick = true;
    }
    (void)pthread_mutex_unlock(&sched.lock);
    if (kick) {
        SP__TRACE(B4, NULL, 0);
        sp__platform->poller_wake();
    }
    return true;
}

/* ------------------------------------------------------------------ Watches */

int sp__watch_open(struct sp__watch *w, int fd)
{
    int rc;

    w->fd = fd;
    SP__TRACE(G21, w, w->obj);
    sp__hold(w->obj);
    // Release: who gets a report about it sees what it is about (sched_polled); the kernel orders
    // that too, but not so that tools could see it.
    (void)atomic_fetch_add_explicit(&sched.watches, 1, memory_order_release);
    rc = sp__platform->watch(fd, w);
    if (rc < 0) {
        (void)atomic_fetch_sub_explicit(&sched.watches, 1, memory_order_relaxed);
        w->fd = -1;
        SP__TRACE(G14, w, w->obj);
        sp__drop(w->obj);
        return rc;
    }
    sp__need_worker();
    return SP_OK;
}

void sp__watch_out(struct sp__watch *w, bool out)
{
    if (w->fd >= 0) {
        sp__platform->watch_out(w->fd, w, out);
    }
}

void sp__watch_close(struct sp__watch *w)
{
    bool busy;

    if (w->fd < 0) {
        return;
    }
    sp__platform->unwatch(w->fd);
    SP__TRACE(G11, w, 0);
    w->fd = -1;
    (void)atomic_fetch_sub_explicit(&sched.watches, 1, memory_order_relaxed);
    (void)pthread_mutex_lock(&sched.lock);
    busy = sched.poller_busy;
    SP__TRACE(G12, w, busy);
    if (busy) {
        w->zombie = sched.zombies;
        sched.zombies = w;
        SP__TRACE(G13, w, 0);
    }
    (void)pthread_mutex_unlock(&sched.lock);
    if (busy) {
        SP__TRACE(B4, NULL, 0);
        sp__platform->poller_wake();
    } else {
        SP__TRACE(G14, w, w->obj);
        sp__drop(w->obj);
    }
}

/* ------------------------------------------------------------------ Start and stop */

int sp__sched_start(int threads)
{
    atomic_store_explicit(&sched.max, threads < WORKERS_MAX ? threads : WORKERS_MAX,
                          memory_order_relaxed);
    sched.stop = false;
    SP__TRACE(B0, NULL, threads);
    sp__spin_start(sp__platform->cpus());
    return sp__platform->poller_open();
}

void sp__sched_rouse(void)
{
    (void)pthread_mutex_lock(&sched.lock);
    for (struct sp__thread *t = sched.idle; t != NULL; t = t->idle_next) {
        t->idle = false;
        sp__platform->unpark(&t->parker);
        SP__TRACE(B23, t, 0);
    }
    sched.idle = NULL;
    SP__TRACE(B24, NULL, 0);
    (void)pthread_mutex_unlock(&sched.lock);
    SP__TRACE(B4, NULL, 0);
    sp__platform->poller_wake();
}

void sp__sched_stop(void)
{
    (void)pthread_mutex_lock(&sched.lock);
    sched.stop = true;
    SP__TRACE(B25, NULL, 0);
    (void)pthread_mutex_unlock(&sched.lock);
    sp__sched_rouse();
    for (int i = 0; i < WORKERS_MAX; i++) {
        if (sched.workers[i].thread != NULL) {
            sp__platform->thread_join(sched.workers[i].thread);
        }
        sched.workers[i] = (struct sp__worker){NULL, false};
    }
    (void)pthread_mutex_lock(&sched.lock);
    sched.count = 0;
    SP__TRACE(B22, NULL, 0);
    sched.helped = false;
    sched.wanted = false;
    atomic_store_explicit(&sched.corks, false, memory_order_relaxed);
    (void)pthread_mutex_unlock(&sched.lock);
    zombies_drop(sched.zombies);
    sched.zombies = NULL;
    sp__platform->poller_close();
}

void sp__sched_stats(struct sp__sched_stats *out)
{
    (void)pthread_mutex_lock(&sched.lock);
    out->threads = (unsigned)sched.count;
    (void)pthread_mutex_unlock(&sched.lock);
    out->wakes = atomic_load_explicit(&sched.wakes, memory_order_relaxed);
    out->turns = atomic_load_explicit(&sched.turns, memory_order_relaxed);
}
