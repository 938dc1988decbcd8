/* SPDX-License-Identifier: MIT */
/// Run queues, workers and the poller. Each thread runs its own queue; the shared queue is for what
/// a thread may not or shall not run itself. The lock guards only scheduling, never the running of
/// an actor. [any]
#include "sched.h"

#include "config.h"
#include "log.h"
#include "platform.h"
#include "timer.h"

#include <sp/sp.h>

#include <pthread.h>
#include <stdio.h>

#define WORKERS_MAX 64
#define FAIR_TURNS 61   // after as many turns the shared queue and the poller have their turn
#define HERE_BUDGET 32  // actors that an application's thread runs in one call
#define CHAIN_MAX 16    // turns in a row for actors that schedule each other
#define START_BACKLOG 4 // waiting actors that make another worker worth its start
#define POLL_MAX 64

static struct {
    pthread_mutex_t lock;
    struct sp__actor *head; ///< shared queue, linked by sp__actor.link
    struct sp__actor *tail;
    unsigned waiting; ///< in the shared queue
    struct sp__thread *idle;
    bool poller_busy;   ///< somebody polls or hands out reports
    bool poller_asleep; ///< … and sleeps in it
    bool stop;
    atomic_int max; ///< workers; 0: the application drives
    int count;
    void *workers[WORKERS_MAX];
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

/// Takes from the shared queue, in simulation any of them.
static struct sp__actor *shared_take(void)
{
    struct sp__actor *prev = NULL;
    struct sp__actor *a;

    (void)pthread_mutex_lock(&sched.lock);
    a = sched.head;
    for (size_t skip = sched.waiting > 1 ? sp__platform->choose(sched.waiting) : 0; skip > 0;
         skip--) {
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
        sched.waiting--;
    }
    (void)pthread_mutex_unlock(&sched.lock);
    return a;
}

/// Starts a worker; under the lock.
static void worker_start(void)
{
    char name[32];
    struct sp__thread_attr attr = {name, (size_t)sp__config()->thread_stack,
                                   sp__config()->affinity};
    int i = sched.count;
    int rc;

    if (i >= sched_max() || sched.stop) {
        return;
    }
    (void)snprintf(name, sizeof(name), "sp-worker-%d", i);
    rc = sp__platform->thread_start(&sched.workers[i], &attr, sched_worker, NULL);
    if (rc == SP_OK) {
        sched.count++;
    } else if (i == 0) {
        // Without any thread, blocking calls do the work, as with "threads" = 0.
        sp__logf(SP_LOG_ERROR, "runtime", "cannot start a thread: %s", sp_strerror(rc));
        atomic_store_explicit(&sched.max, 0, memory_order_relaxed);
    }
}

/// Sees to it that somebody comes for the shared queue; called under the lock, which it gives up.
static void sched_alert(void)
{
    struct sp__thread *idle = sched.idle;
    bool wake_poller = false;

    if (idle != NULL) {
        sched.idle = idle->idle_next;
        idle->idle = false;
    } else if (sched.poller_asleep) {
        sched.poller_asleep = false;
        wake_poller = true;
    } else if (sched.count == 0 || sched.waiting > START_BACKLOG) {
        worker_start();
    }
    (void)pthread_mutex_unlock(&sched.lock);
    if (idle != NULL) {
        atomic_fetch_add_explicit(&sched.wakes, 1, memory_order_relaxed);
        sp__thread_wake(idle);
    } else if (wake_poller) {
        atomic_fetch_add_explicit(&sched.wakes, 1, memory_order_relaxed);
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
        sched.waiting++;
    }
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

/// A worker will be busy for an unknown time: somebody else shall poll, and take what waits in the
/// shared queue, for which this worker may have been the one that was woken.
static void sched_cover(void)
{
    (void)pthread_mutex_lock(&sched.lock);
    if (sched_max() == 0 || (sched.poller_busy && sched.head == NULL)) {
        (void)pthread_mutex_unlock(&sched.lock);
    } else if (sched.poller_busy || sched.idle != NULL) {
        sched_alert();
    } else {
        worker_start();
        (void)pthread_mutex_unlock(&sched.lock);
    }
}

/* ------------------------------------------------------------------ Running */

/// Runs an actor; one that is not idle afterwards goes to the tail.
static void sched_run(struct sp__thread *t, struct sp__actor *a)
{
    bool user = a->user_code;

    if (user) {
        // The user's code may take long: what waits here goes to the others, and somebody else
        // shall poll.
        local_flush(t);
        sched_cover();
        t->in_user = true;
    }
    if (sp__actor_run(a)) {
        local_push(t, a);
    }
    if (user) {
        t->in_user = false;
    }
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
        for (int i = 0; i < HERE_BUDGET && (a = local_pop(t)) != NULL; i++) {
            sched_run(t, a);
        }
        t->running = false;
    }
    local_flush(t);
}

/// Drops the references of watches that were closed while reports were under way.
static void zombies_drop(struct sp__watch *w)
{
    while (w != NULL) {
        struct sp__watch *next = w->zombie;

        sp__drop(w->obj);
        w = next;
    }
}

/// Polls once, as the one poller, and posts what is ready and due. `poller_busy` was set by the
/// caller.
static void sched_poll(struct sp__thread *t, int64_t deadline)
{
    struct sp__ready ready[POLL_MAX];
    int64_t next = sp__timers_next();
    struct sp__watch *zombies;
    int n;

    // seq_cst, see sp__thread_wake: whoever wakes this thread sees it polling, or it sees the token
    // here.
    atomic_store_explicit(&t->polling, true, memory_order_seq_cst);
    if (sp__platform->park(&t->parker, 0)) {
        deadline = 0;
    }
    n = sp__platform->poller_wait(ready, POLL_MAX, next < deadline ? next : deadline);
    atomic_store_explicit(&t->polling, false, memory_order_relaxed);
    for (int i = 0; i < n; i++) {
        struct sp__watch *w = ready[i].target;

        w->ready(w, ready[i].ready);
    }
    (void)sp__timers_fire(sp__now());
    (void)pthread_mutex_lock(&sched.lock);
    sched.poller_busy = false;
    sched.poller_asleep = false;
    zombies = sched.zombies;
    sched.zombies = NULL;
    (void)pthread_mutex_unlock(&sched.lock);
    zombies_drop(zombies);
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

/// Nothing to run: polls if nobody does, else sleeps until there is work.
static void sched_idle(struct sp__thread *t, int64_t deadline)
{
    (void)pthread_mutex_lock(&sched.lock);
    if (sched.head != NULL || sched.stop) {
        (void)pthread_mutex_unlock(&sched.lock);
        return;
    }
    if (!sched.poller_busy) {
        sched.poller_busy = true;
        sched.poller_asleep = true;
        (void)pthread_mutex_unlock(&sched.lock);
        sched_poll(t, deadline);
        return;
    }
    t->idle = true;
    t->idle_next = sched.idle;
    sched.idle = t;
    (void)pthread_mutex_unlock(&sched.lock);
    (void)sp__platform->park(&t->parker, deadline);
    (void)pthread_mutex_lock(&sched.lock);
    if (t->idle) {
        idle_remove(t);
    }
    (void)pthread_mutex_unlock(&sched.lock);
}

/// A look at the poller without waiting, if nobody else has it.
static void sched_glance(struct sp__thread *t)
{
    bool mine;

    (void)pthread_mutex_lock(&sched.lock);
    mine = !sched.poller_busy;
    sched.poller_busy = true;
    (void)pthread_mutex_unlock(&sched.lock);
    if (mine) {
        sched_poll(t, 0);
    }
}

/// One turn: runs one actor, or waits for work until the deadline. True: it ran one.
static bool sched_turn(struct sp__thread *t, int64_t deadline)
{
    struct sp__actor *a = NULL;
    bool fair = ++t->turn % FAIR_TURNS == 0;

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
        if (!fair) {
            sched_idle(t, deadline);
        }
        return false;
    }
    sched_run(t, a);
    return true;
}

static void sched_worker(void *arg)
{
    struct sp__thread *t = sp__self();
    bool stop = t == NULL;

    (void)arg;
    if (t == NULL) {
        // No memory even for its record: as if it could not have been started.
        atomic_store_explicit(&sched.max, 0, memory_order_relaxed);
    } else {
        t->worker = true;
        t->running = true;
    }
    while (!stop) {
        (void)sched_turn(t, SP__NEVER);
        if (!local_any(t)) {
            (void)pthread_mutex_lock(&sched.lock);
            stop = sched.stop && sched.head == NULL;
            (void)pthread_mutex_unlock(&sched.lock);
        }
    }
    if (t != NULL) {
        t->worker = false;
        t->running = false;
    }
}

/* ------------------------------------------------------------------ Waiting */

/// With "threads" = 0: a thread that stops driving leaves nobody without a poller, nor with work:
/// it wakes one that sleeps, which drives, or passes it on in turn when it leaves too.
static void sched_pass_on(void)
{
    struct sp__thread *heir = NULL;

    (void)pthread_mutex_lock(&sched.lock);
    if (sched.head != NULL) {
        sched_alert();
        return;
    }
    if (!sched.poller_busy && sched.idle != NULL) {
        heir = sched.idle;
        sched.idle = heir->idle_next;
        heir->idle = false;
    }
    (void)pthread_mutex_unlock(&sched.lock);
    if (heir != NULL) {
        sp__thread_wake(heir);
    }
}

bool sp__wait(int64_t deadline)
{
    struct sp__thread *t = sp__self();

    sp__run_here(true); // What this call posted must not sleep with its thread.
    if (sched_max() > 0) {
        return sp__platform->park(&t->parker, deadline);
    }
    if (!sp__platform->park(&t->parker, 0)) {
        t->running = true;
        (void)sched_turn(t, deadline);
        t->running = false;
        local_flush(t);
    }
    sched_pass_on();
    return sp__now() < deadline;
}

int sp__drive(int64_t deadline)
{
    struct sp__thread *t = sp__self();
    int ran = 0;
    bool more = true;

    t->running = true;
    while (more) {
        bool one = sched_turn(t, ran == 0 ? deadline : 0);

        ran += one;
        // What became ready while we waited is run too; then the caller has its turn.
        (void)pthread_mutex_lock(&sched.lock);
        more = local_any(t) || (sched.head != NULL && ran < FAIR_TURNS);
        (void)pthread_mutex_unlock(&sched.lock);
    }
    t->running = false;
    sched_pass_on();
    return ran;
}

void sp__need_worker(void)
{
    (void)pthread_mutex_lock(&sched.lock);
    if (sched.count == 0) {
        worker_start();
    }
    (void)pthread_mutex_unlock(&sched.lock);
}

void sp__poller_kick(void)
{
    bool asleep;

    (void)pthread_mutex_lock(&sched.lock);
    asleep = sched.poller_asleep;
    sched.poller_asleep = false;
    if (sched.count == 0) {
        worker_start();
    }
    (void)pthread_mutex_unlock(&sched.lock);
    if (asleep) {
        sp__platform->poller_wake();
    }
}

/* ------------------------------------------------------------------ Watches */

int sp__watch_open(struct sp__watch *w, int fd)
{
    int rc;

    w->fd = fd;
    sp__hold(w->obj);
    rc = sp__platform->watch(fd, w);
    if (rc < 0) {
        w->fd = -1;
        sp__drop(w->obj);
        return rc;
    }
    sp__need_worker();
    return SP_OK;
}

void sp__watch_close(struct sp__watch *w)
{
    bool busy;

    if (w->fd < 0) {
        return;
    }
    sp__platform->unwatch(w->fd);
    w->fd = -1;
    (void)pthread_mutex_lock(&sched.lock);
    busy = sched.poller_busy;
    if (busy) {
        w->zombie = sched.zombies;
        sched.zombies = w;
    }
    (void)pthread_mutex_unlock(&sched.lock);
    if (busy) {
        sp__platform->poller_wake();
    } else {
        sp__drop(w->obj);
    }
}

/* ------------------------------------------------------------------ Start and stop */

int sp__sched_start(int threads)
{
    atomic_store_explicit(&sched.max, threads < WORKERS_MAX ? threads : WORKERS_MAX,
                          memory_order_relaxed);
    sched.stop = false;
    return sp__platform->poller_open();
}

void sp__sched_rouse(void)
{
    (void)pthread_mutex_lock(&sched.lock);
    for (struct sp__thread *t = sched.idle; t != NULL; t = t->idle_next) {
        t->idle = false;
        sp__platform->unpark(&t->parker);
    }
    sched.idle = NULL;
    (void)pthread_mutex_unlock(&sched.lock);
    sp__platform->poller_wake();
}

void sp__sched_stop(void)
{
    (void)pthread_mutex_lock(&sched.lock);
    sched.stop = true;
    (void)pthread_mutex_unlock(&sched.lock);
    sp__sched_rouse();
    for (int i = 0; i < sched.count; i++) {
        sp__platform->thread_join(sched.workers[i]);
    }
    (void)pthread_mutex_lock(&sched.lock);
    sched.count = 0;
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
