/* SPDX-License-Identifier: MIT */
/// Run queues, and who runs what is in them. Each thread runs its own queue; the shared queue is
/// for what a thread may not or shall not run itself. [any]
#include "sched.h"

#include "app.h"
#include "fence.h"
#include "platform.h"
#include "sched_state.h"
#include "timer.h"

#include <pthread.h>

#define USER_BUDGET 64  // actors that a worker runs in a row, of which the first one is the user's
#define ROWS_GLANCE 4   // rows after which it looks at the poller
#define HERE_BUDGET 32  // actors that an application's thread runs in one call, or a guard
#define CHAIN_MAX 16    // turns in a row for actors that schedule each other
#define ROB_LOOKS 1000  // at a queue that is just being changed
#define START_BACKLOG 4 // waiting actors that make another worker worth its start

struct sp__sched sp__sched = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ------------------------------------------------------------------ Queues */

/// What a worker has queued may be robbed meanwhile, when a callback does not return. It changes
/// its queue between queue_begin and queue_end; who robs it asks for that first, and comes when it
/// is not in between. Asked, it takes out what it changes by an exchange, and puts it back, as then
/// they may both be at it. True: nobody has asked. Other threads' queues are not robbed.
static inline bool queue_begin(struct sp__thread *t)
{
    if (!t->worker) {
        return true;
    }
    // seq_cst, the light side, against sp__local_rob: it sees that this is in between, or is seen.
    SP__STORE_LIGHT(&t->queueing, true);
    return !atomic_load_explicit(&t->robbed, memory_order_seq_cst);
}

static inline void queue_end(struct sp__thread *t)
{
    if (t->worker) {
        // Release: what was queued; pairs with the acquire in sp__local_rob.
        atomic_store_explicit(&t->queueing, false, memory_order_release);
    }
}

/// Who robs may be at it. Relaxed: its own.
static SP__APART struct sp__actor *queue_win(_Atomic(struct sp__actor *) *at)
{
    return atomic_exchange_explicit(at, NULL, memory_order_relaxed);
}

/// Takes what is there, between the two; `alone` is what queue_begin said.
static inline struct sp__actor *queue_take(_Atomic(struct sp__actor *) *at, bool alone)
{
    return alone ? atomic_load_explicit(at, memory_order_relaxed) : queue_win(at);
}

static inline void queue_put(_Atomic(struct sp__actor *) *at, struct sp__actor *a)
{
    // Release: see sp__local_rob.
    atomic_store_explicit(at, a, memory_order_release);
}

/// Appends, between the two.
static void queue_append(struct sp__thread *t, struct sp__actor *a, bool alone)
{
    struct sp__actor *head = queue_take(&t->run_head, alone);

    a->link = NULL;
    if (head != NULL) {
        t->run_tail->link = a;
    } else {
        head = a;
    }
    t->run_tail = a;
    queue_put(&t->run_head, head);
}

static void local_push(struct sp__thread *t, struct sp__actor *a)
{
    bool alone = queue_begin(t);

    queue_append(t, a, alone);
    queue_end(t);
}

/// The actor that was just scheduled goes first; who was there goes to the tail.
static void local_push_next(struct sp__thread *t, struct sp__actor *a)
{
    bool alone = queue_begin(t);
    struct sp__actor *before = queue_take(&t->run_next, alone);

    if (before != NULL) {
        queue_append(t, before, alone);
    }
    queue_put(&t->run_next, a);
    queue_end(t);
}

static struct sp__actor *queue_pop(struct sp__thread *t, bool alone)
{
    struct sp__actor *a = queue_take(&t->run_next, alone);

    if (a != NULL) {
        queue_put(&t->run_next, NULL);
        if (++t->run_chain < CHAIN_MAX || !sp__run_more(t)) {
            return a;
        }
        queue_append(t, a, alone); // It had its share in a row: the others first.
    }
    t->run_chain = 0;
    a = queue_take(&t->run_head, alone);
    if (a != NULL) {
        queue_put(&t->run_head, a->link);
    }
    return a;
}

static inline __attribute__((always_inline)) struct sp__actor *local_pop(struct sp__thread *t)
{
    struct sp__actor *a;
    bool alone;

    if (!sp__local_any(t)) {
        t->run_chain = 0;
        return NULL;
    }
    alone = queue_begin(t);
    a = queue_pop(t, alone);
    queue_end(t);
    return a;
}

/// Relaxed: exact under the lock; without it, only a reason to go and look.
static unsigned shared_waiting(void)
{
    return atomic_load_explicit(&sp__sched.waiting, memory_order_relaxed);
}

void sp__sched_tell(void)
{
    bool busy = sp__sched.head != NULL;

    if (sp__sched.tell && busy != sp__sched.told) {
        sp__sched.told = busy;
        sp__platform->poller_busy(busy);
    }
}

/// Takes from the shared queue, in simulation any of them.
static struct sp__actor *shared_take(void)
{
    struct sp__actor *prev = NULL;
    struct sp__actor *a;
    unsigned n;

    (void)pthread_mutex_lock(&sp__sched.lock);
    a = sp__sched.head;
    n = shared_waiting();
    for (size_t skip = n > 1 ? sp__platform->choose(n) : 0; skip > 0; skip--) {
        prev = a;
        a = a->link;
    }
    if (a != NULL) {
        if (prev != NULL) {
            prev->link = a->link;
        } else {
            sp__sched.head = a->link;
        }
        if (sp__sched.tail == a) {
            sp__sched.tail = prev;
        }
        atomic_store_explicit(&sp__sched.waiting, n - 1, memory_order_relaxed);
        sp__sched_tell();
    }
    SP__TRACE(A13, a, 0);
    (void)pthread_mutex_unlock(&sp__sched.lock);
    return a;
}

void sp__sched_alert(void)
{
    struct sp__thread *idle = sp__sched.idle;
    bool wake_poller = false;

    SP__TRACE(B1, idle, sp__sched.head);
    if (idle != NULL) {
        sp__sched.idle = idle->idle_next;
        idle->idle = false;
    } else if (sp__sched.poller_asleep) {
        sp__sched.poller_asleep = false;
        SP__TRACE(B2, NULL, 0);
        wake_poller = true;
    } else if (sp__sched.count == sp__sched.in_user || shared_waiting() > START_BACKLOG) {
        SP__TRACE(B3, NULL, sp__sched.count);
        (void)sp__worker_start();
    }
    (void)pthread_mutex_unlock(&sp__sched.lock);
    if (idle != NULL) {
        atomic_fetch_add_explicit(&sp__sched.wakes, 1, memory_order_relaxed);
        sp__thread_wake(idle);
    } else if (wake_poller) {
        atomic_fetch_add_explicit(&sp__sched.wakes, 1, memory_order_relaxed);
        SP__TRACE(B4, NULL, 0);
        sp__platform->poller_wake();
    }
}

/// Appends a chain of actors to the shared queue; under the lock.
static void shared_append(struct sp__actor *first)
{
    while (first != NULL) {
        struct sp__actor *a = first;

        first = a->link;
        a->link = NULL;
        if (sp__sched.tail != NULL) {
            sp__sched.tail->link = a;
        } else {
            sp__sched.head = a;
        }
        sp__sched.tail = a;
        atomic_store_explicit(&sp__sched.waiting, shared_waiting() + 1, memory_order_relaxed);
        SP__TRACE(A11, a, 0);
    }
    sp__sched_tell();
}

/// Moves a chain of actors to the shared queue.
static void shared_push(struct sp__actor *first)
{
    (void)pthread_mutex_lock(&sp__sched.lock);
    shared_append(first);
    SP__TRACE(B5, NULL, sp__sched.head);
    sp__sched_alert();
}

/// Takes all that is queued here, in order.
static struct sp__actor *local_take(struct sp__thread *t)
{
    struct sp__actor *next;
    struct sp__actor *first;
    bool alone;

    if (!sp__local_any(t)) {
        return NULL;
    }
    alone = queue_begin(t);
    next = queue_take(&t->run_next, alone);
    first = queue_take(&t->run_head, alone);
    if (first != NULL) {
        queue_put(&t->run_head, NULL);
    }
    if (next != NULL) {
        queue_put(&t->run_next, NULL);
        next->link = NULL;
        *(first != NULL ? &t->run_tail->link : &first) = next;
    }
    queue_end(t);
    return first;
}

/// Whether the owner of a queue is not in between queue_begin and queue_end, or soon. It is there
/// for a few instructions; one that lost its CPU there is not waited for, and not robbed.
static bool rob_may(struct sp__thread *t)
{
    for (int i = 0; i < ROB_LOOKS; i++) {
        // Acquire: pairs with the release in queue_end.
        if (!atomic_load_explicit(&t->queueing, memory_order_acquire)) {
            return true;
        }
        sp__platform->relax(false);
    }
    return false;
}

struct sp__actor *sp__local_rob(struct sp__thread *t)
{
    struct sp__actor *first = NULL;
    struct sp__actor *next = NULL;

    // seq_cst, the heavy side: see queue_begin and row_goes_on. One robs at a time, under the
    // scheduler's lock.
    atomic_store_explicit(&t->robbed, true, memory_order_seq_cst);
    sp__fence_heavy();
    if (rob_may(t)) {
        // Acquire, both: pairs with the releases of the owner.
        first = atomic_exchange_explicit(&t->run_head, NULL, memory_order_acquire);
        for (const struct sp__actor *a = first; a != NULL; a = a->link) {
            SP__TRACE(A25, a, t);
        }
        next = atomic_exchange_explicit(&t->run_next, NULL, memory_order_acquire);
        if (next != NULL) {
            SP__TRACE(A25, next, t);
            next->link = first;
        }
    }
    // Release: the owner that changes its queue alone again sees it as it was left.
    atomic_store_explicit(&t->robbed, false, memory_order_release);
    return next != NULL ? next : first;
}

void sp__shared_push(struct sp__actor *first)
{
    shared_push(first);
}

void sp__local_flush(struct sp__thread *t)
{
    struct sp__actor *first = local_take(t);

    if (first != NULL) {
        shared_push(first);
    }
}

/// A worker that runs the user's code leaves what is queued here to whoever comes first: itself, as
/// a rule. The guard comes for it soon, if it naps; else somebody is woken.
static void local_leave(struct sp__thread *t)
{
    struct sp__actor *first = local_take(t);

    if (first == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&sp__sched.lock);
    shared_append(first);
    sp__sched.left = true;
    SP__TRACE(B34, sp__sched.guard, sp__sched.head);
    if (sp__sched.guard != NULL) {
        (void)pthread_mutex_unlock(&sp__sched.lock);
    } else {
        sp__sched_alert();
    }
}

void sp__schedule(struct sp__actor *a)
{
    struct sp__thread *t = sp__self();

    if (a->dedicated) {
        sp__app_thread_schedule(a);
    } else if (t == NULL || (a->user_code && !(t->running && t->worker))) {
        a->link = NULL;
        shared_push(a);
    } else if (t->in_user) {
        local_push(t, a); // The others that are called come first, and may post to it too.
    } else {
        local_push_next(t, a);
    }
}

/* ------------------------------------------------------------------ Running */

/// Runs an actor; one that is not idle afterwards goes to the tail.
static void sched_run(struct sp__thread *t, struct sp__actor *a)
{
    if (sp__actor_run(t, a)) {
        SP__TRACE(A16, a, 0);
        local_push(t, a);
    }
}

void sp__local_run(struct sp__thread *t)
{
    struct sp__actor *users = NULL;
    struct sp__actor **last = &users;
    struct sp__actor *a;

    for (int i = 0; i < HERE_BUDGET && (a = local_pop(t)) != NULL; i++) {
        if (a->user_code) {
            a->link = NULL;
            *last = a;
            last = &a->link;
        } else {
            sched_run(t, a);
        }
    }
    if (users != NULL) {
        shared_push(users);
    }
}

/// The user's actor at the head of the shared queue; NULL: there is none, or another one is first.
static struct sp__actor *shared_take_user(void)
{
    struct sp__actor *a;

    if (shared_waiting() == 0) {
        return NULL;
    }
    (void)pthread_mutex_lock(&sp__sched.lock);
    a = sp__sched.head;
    if (a != NULL && a->user_code) {
        sp__sched.head = a->link;
        sp__sched.tail = sp__sched.tail == a ? NULL : sp__sched.tail;
        atomic_store_explicit(&sp__sched.waiting, shared_waiting() - 1, memory_order_relaxed);
        SP__TRACE(A13, a, 0);
    } else {
        a = NULL;
    }
    (void)pthread_mutex_unlock(&sp__sched.lock);
    return a;
}

/// Whether the thread is in a row, which who guards it may have ended.
static inline bool row_goes_on(struct sp__thread *t)
{
    // seq_cst, the light side behind queue_put, against sp__local_rob, which follows row_end: who
    // ended the row finds what was queued here, or this sees that the row is over.
    return SP__LOAD_LIGHT(&t->row) != 0;
}

/// The user's code is about to be called, or was called and may take long: what is queued here is
/// kept for the row, or left to others. `next` is out of the queue, to be run.
static void row_keep(struct sp__thread *t, const struct sp__actor *next)
{
    bool row = row_goes_on(t);

    if (!row) {
        local_leave(t);
    }
    SP__TRACE(B44, next, row);
}

/// Runs one actor of a row, or of the user's that follow each other.
static void row_run(struct sp__thread *t, struct sp__actor *a)
{
    t->in_user = a->user_code;
    sched_run(t, a);
    t->in_user = false;
    // Relaxed: a measure of how it gets on.
    atomic_store_explicit(&t->row_visits,
                          atomic_load_explicit(&t->row_visits, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/// What follows in a row; else another of the user's.
static struct sp__actor *row_next(struct sp__thread *t)
{
    struct sp__actor *a = local_pop(t);

    return a != NULL ? a : shared_take_user();
}

/// Runs the user's actor, and what follows it: in a row all that is queued here, else others of
/// that kind. His code may take long: then what waits here goes to the others, and somebody else
/// polls.
static void sched_run_user(struct sp__thread *t, struct sp__actor *a)
{
    SP__TRACE(B8, a, 0);
    if (!sp__worker_cover(t) && atomic_load_explicit(&sp__sched.corks, memory_order_relaxed)) {
        SP__TRACE(K22, t, 0);
        sp__guard_look(true); // Nobody would: see sp__guard_corks.
        sp__local_run(t);
        sp__local_flush(t);
    }
    row_keep(t, a);
    for (int i = 1; a != NULL; i++) {
        row_run(t, a);
        row_keep(t, NULL);
        a = i < USER_BUDGET ? row_next(t) : NULL;
    }
    sp__worker_uncover(t);
    t->rows = (t->rows + 1) % ROWS_GLANCE;
    if (t->rows == 0 && t->worker) {
        SP__TRACE(B45, t, 0);
        sp__poller_glance(t);
    }
}

void sp__run_here(bool in_place)
{
    struct sp__thread *t = sp__self();

    if (t == NULL || !sp__local_any(t)) {
        return;
    }
    if (t->running) {
        if (t->in_user) {
            row_keep(t, NULL); // The callback may take long, or wait for what it sent.
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
    sp__local_flush(t);
    SP__TRACE(C16, t, 0);
}

enum sp__turn sp__sched_turn(struct sp__thread *t, int64_t deadline)
{
    struct sp__actor *a = NULL;
    bool fair = ++t->turn % SP__FAIR_TURNS == 0;

    SP__TRACE(C20, t, t->turn);
    if (fair) {
        atomic_fetch_add_explicit(&sp__sched.turns, SP__FAIR_TURNS, memory_order_relaxed);
        sp__poller_glance(t);
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
        return fair || sp__idle(t, deadline) ? SP__TURN_IDLE : SP__TURN_END;
    }
    if (t->worker) {
        sp__watchdog_stir();
    }
    if (a->user_code) {
        sched_run_user(t, a);
    } else {
        sched_run(t, a);
    }
    return SP__TURN_RAN;
}

void sp__sched_stats(struct sp__sched_stats *out)
{
    (void)pthread_mutex_lock(&sp__sched.lock);
    out->threads = (unsigned)sp__sched.count;
    out->held = (unsigned)sp__sched.held;
    out->stuck = sp__sched.stuck;
    out->spares = sp__sched.spares;
    (void)pthread_mutex_unlock(&sp__sched.lock);
    out->wakes = atomic_load_explicit(&sp__sched.wakes, memory_order_relaxed);
    out->turns = atomic_load_explicit(&sp__sched.turns, memory_order_relaxed);
}
