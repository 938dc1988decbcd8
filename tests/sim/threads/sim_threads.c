/* SPDX-License-Identifier: MIT */
/// Turns: who runs, who waits for what, and when the turn passes. Only the thread whose turn it is
/// touches anything here; the hand-over orders it. ThreadSanitizer must not see that (this file is
/// not built with it, and no library call hands over): for it the threads are ordered by what the
/// library itself does, and a race is one although only one thread runs at a time.
/// Three ways to choose, by seed:
/// - walk: at any point the turn passes with probability 1/k, to any thread.
/// - rank: threads have priorities; at a few steps the running one becomes the last (PCT).
/// - stall: at a few places in the code threads are held up for long.
#include "sim_threads.h"

#include <inttypes.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS_MAX 32
#define HELD_MAX 8
#define TRAIL 64
#define STEPS_MAX UINT64_C(3000000) // of a run; more is a livelock
#define JUMP_MAX (50 * SP__MS)      // as long as a thread may well be held up
#define STARVED 20000 // steps after which a thread that can run has its turn, whatever its rank

enum sim_way { SIM_WALK, SIM_RANK, SIM_STALL, SIM_WAYS };
enum sim_state { SIM_READY, SIM_BLOCKED, SIM_OVER };

static const char *const way_names[SIM_WAYS] = {"walk", "rank", "stall"};

struct sim_thread {
    char name[SIM_NAME];
    pthread_t id;
    uint32_t turn; ///< futex word: 1: it has the turn
    enum sim_state state;
    const char *why; ///< blocked: in what
    const void *on;
    int64_t deadline;
    bool timed_out;
    uint64_t rank;    ///< the highest goes first
    uint64_t until;   ///< stalled before this step
    uint64_t seen;    ///< step at which it last ran, or could run again
    const char *file; ///< where it was last
    int line;
    struct {
        const pthread_mutex_t *mutex;
        const char *file;
        int line;
    } held[HELD_MAX];
    unsigned holds;
    void (*fn)(void *arg);
    void *arg;
};

static struct {
    bool active;
    enum sim_way way;
    struct sim_thread thread[THREADS_MAX];
    unsigned n;
    struct sim_thread *current;
    uint64_t rng;
    uint64_t digest;
    uint64_t step;
    uint64_t next;       ///< step of the next choice
    uint64_t every;      ///< walk: steps between choices, on average
    uint64_t span;       ///< rank: choices are within as many steps
    uint64_t changes;    ///< rank: that are left
    uint64_t high;       ///< rank: the next highest one
    uint64_t low;        ///< rank: the next lowest one
    uint64_t salt;       ///< stall: which places
    uint64_t places;     ///< stall: one place in as many
    uint64_t stall;      ///< stall: steps
    uint64_t jump;       ///< step of the next time jump
    uint64_t jump_every; ///< 0: none
    uint64_t hungry;     ///< step at which somebody may be starved
    uint64_t switches;
    unsigned cpus;
    int64_t step_ns; ///< what a step takes
    int64_t now;
    int64_t due; ///< the first deadline of who is blocked
    int64_t idle;
    int64_t patience;
    void (*on_fail)(void);
    struct {
        const struct sim_thread *thread;
        const char *file;
        int line;
    } trail[TRAIL];
} sim;

static pthread_key_t sim_key;

/* ------------------------------------------------------------------ Choices */

/// splitmix64.
uint64_t sim_random(void)
{
    uint64_t z = sim.rng += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    sim.digest = (sim.digest ^ z) * UINT64_C(0x100000001B3);
    return z;
}

uint64_t sim_pick(uint64_t n)
{
    return sim_random() % n;
}

/// 1 to about `n`, small ones as likely as large ones.
static uint64_t pick_scale(uint64_t n)
{
    uint64_t max = 2;

    while (max < n && !sim_once_in(4)) {
        max *= 2;
    }
    return 1 + sim_pick(max);
}

static void note(uint64_t what)
{
    sim.digest = (sim.digest ^ what) * UINT64_C(0x100000001B3);
}

/* ------------------------------------------------------------------ Failure */

static void report_thread(const struct sim_thread *t)
{
    (void)fprintf(stderr, "  %-12s ", t->name);
    if (t->state == SIM_OVER) {
        (void)fprintf(stderr, "is over\n");
        return;
    }
    if (t->state == SIM_BLOCKED) {
        (void)fprintf(stderr, "waits (%s", t->why);
        if (t->deadline != SP__NEVER) {
            (void)fprintf(stderr, ", until %+" PRId64 " us", (t->deadline - sim.now) / 1000);
        }
        (void)fprintf(stderr, ") after %s:%d", t->file, t->line);
    } else {
        (void)fprintf(stderr, "%s at %s:%d", t == sim.current ? "runs" : "can run", t->file,
                      t->line);
    }
    for (unsigned i = 0; i < t->holds; i++) {
        (void)fprintf(stderr, ", holds a lock of %s:%d", t->held[i].file, t->held[i].line);
    }
    (void)fprintf(stderr, "\n");
}

static void report(void)
{
    (void)fprintf(stderr, "step %" PRIu64 ", %" PRId64 " us, way: %s. Threads:\n", sim.step,
                  sim.now / 1000, way_names[sim.way]);
    for (unsigned i = 0; i < sim.n; i++) {
        report_thread(&sim.thread[i]);
    }
    (void)fprintf(stderr, "The last steps:\n");
    for (uint64_t i = sim.step > TRAIL ? sim.step - TRAIL + 1 : 1; i <= sim.step; i++) {
        (void)fprintf(stderr, "  %-12s %s:%d\n", sim.trail[i % TRAIL].thread->name,
                      sim.trail[i % TRAIL].file, sim.trail[i % TRAIL].line);
    }
}

void sim_fail(const char *fmt, ...)
{
    va_list ap;

    (void)fprintf(stderr, "simulation: ");
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fprintf(stderr, "\n");
    if (sim.active) {
        report();
    }
    if (sim.on_fail != NULL) {
        sim.on_fail();
    }
    _exit(SIM_FAILED);
}

void sim_on_fail(void (*fn)(void))
{
    sim.on_fail = fn;
}

/* ------------------------------------------------------------------ Turns */

static void find_due(void)
{
    sim.due = SP__NEVER;
    for (unsigned i = 0; i < sim.n; i++) {
        const struct sim_thread *t = &sim.thread[i];

        if (t->state == SIM_BLOCKED && t->deadline < sim.due) {
            sim.due = t->deadline;
        }
    }
}

/// It can run from now on; one of a higher rank does so at once.
static void ready(struct sim_thread *t)
{
    t->state = SIM_READY;
    t->seen = sim.step;
    if (sim.way == SIM_RANK && t->rank > sim.current->rank) {
        sim.hungry = sim.step;
    }
}

/// Whoever waited until now can run.
static void expire(void)
{
    for (unsigned i = 0; i < sim.n; i++) {
        struct sim_thread *t = &sim.thread[i];

        if (t->state == SIM_BLOCKED && t->deadline <= sim.now) {
            ready(t);
            t->timed_out = true;
        }
    }
    find_due();
}

/// Whoever can run and was left out for too long.
static struct sim_thread *starved(void)
{
    struct sim_thread *found = NULL;

    sim.hungry = sim.step + STARVED;
    for (unsigned i = 0; i < sim.n; i++) {
        struct sim_thread *t = &sim.thread[i];

        if (t->state == SIM_READY && t != sim.current && t->seen + STARVED <= sim.step) {
            found = t;
            t->seen = sim.step;
            t->until = 0;
            t->rank = sim.high++;
        }
    }
    return found;
}

/// One of those that can run and are not stalled; of the stalled ones if there is no other.
static struct sim_thread *choose(void)
{
    struct sim_thread *able[THREADS_MAX];
    struct sim_thread *best = sim.step >= sim.hungry ? starved() : NULL;
    unsigned n = 0;

    if (best != NULL) {
        return best;
    }
    for (unsigned stalled = 0; n == 0 && stalled < 2; stalled++) {
        for (unsigned i = 0; i < sim.n; i++) {
            struct sim_thread *t = &sim.thread[i];

            if (t->state == SIM_READY && (stalled > 0 || t->until <= sim.step)) {
                able[n++] = t;
                best = best == NULL || t->rank > best->rank ? t : best;
            }
        }
    }
    if (n > 1 && sim.way != SIM_RANK) {
        best = able[sim_pick(n)];
    }
    return best;
}

/// Who runs next. Lets time pass when nobody can.
static struct sim_thread *choose_or_wait(void)
{
    for (;;) {
        struct sim_thread *t = choose();

        if (t != NULL) {
            return t;
        }
        if (sim.due == SP__NEVER) {
            sim_fail("everybody waits, for ever");
        }
        if (sim.due > sim.now) {
            sim.idle += sim.due - sim.now;
            sim.now = sim.due;
        }
        if (sim.idle > sim.patience) {
            sim_fail("everybody waits, and only time goes on: nobody was woken for %" PRId64 " ms",
                     sim.idle / SP__MS);
        }
        expire();
    }
}

static void wait_turn(struct sim_thread *me)
{
    while (__atomic_exchange_n(&me->turn, 0, __ATOMIC_ACQUIRE) == 0) {
        (void)syscall(SYS_futex, &me->turn, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    }
}

static void give_turn(struct sim_thread *to)
{
    sim.current = to;
    sim.switches++;
    note((uint64_t)(to - sim.thread) + (sim.step << 8));
    __atomic_store_n(&to->turn, 1, __ATOMIC_RELEASE);
    (void)syscall(SYS_futex, &to->turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void pass_to(struct sim_thread *to)
{
    struct sim_thread *me = sim.current;

    me->seen = sim.step;
    if (to != me) {
        give_turn(to);
        wait_turn(me);
    }
}

/// Chooses the step of the next choice.
static void plan(void)
{
    switch (sim.way) {
    case SIM_WALK:
        sim.next = sim.step + 1 + sim_pick(2 * sim.every);
        break;
    case SIM_RANK:
        sim.next = sim.changes > 0 ? sim.step + 1 + sim_pick(sim.span) : UINT64_MAX;
        break;
    default:
        sim.next = sim.step + 1 + sim_pick(40 * sim.every);
        break;
    }
}

static void decide(struct sim_thread *me)
{
    if (sim.way == SIM_RANK) {
        me->rank = sim.low--;
        sim.changes -= sim.changes > 0;
    }
    plan();
    pass_to(choose_or_wait());
}

void sim_yield(void)
{
    SIM_POINT();
    if (sim.way == SIM_RANK) {
        sim.current->rank = sim.low--;
    }
    pass_to(choose_or_wait());
}

/// Whether the thread is to be held up here: the same places each time.
static bool stalls_here(const char *file, int line)
{
    uint64_t h = sim.salt ^ (uint64_t)line;

    for (; *file != '\0'; file++) {
        h = (h ^ (unsigned char)*file) * UINT64_C(0x100000001B3);
    }
    return (h ^ (h >> 29)) % sim.places == 0;
}

/// At a place of the stalling way: more often than not the others go on for a while.
static void maybe_stall(struct sim_thread *me, const char *file, int line)
{
    if (stalls_here(file, line) && !sim_once_in(3)) {
        me->until = sim.step + 1 + sim_pick(sim.stall);
        pass_to(choose_or_wait());
    }
}

static void jump(void)
{
    sim.jump = sim.step + 1 + sim_pick(2 * sim.jump_every);
    if (sim.due > sim.now && sim.due - sim.now <= JUMP_MAX) {
        sim.now = sim.due;
    }
}

void sp__sim_point(const char *file, int line)
{
    struct sim_thread *me = sim.current;

    if (!sim.active) {
        return;
    }
    me->file = file;
    me->line = line;
    sim.now += sim.step_ns;
    sim.step++;
    sim.trail[sim.step % TRAIL].thread = me;
    sim.trail[sim.step % TRAIL].file = file;
    sim.trail[sim.step % TRAIL].line = line;
    if (sim.step >= STEPS_MAX) {
        sim_fail("no end after %" PRIu64 " steps", sim.step);
    }
    if (sim.step >= sim.jump) {
        jump();
    }
    if (sim.now >= sim.due) {
        expire();
    }
    if (sim.step >= sim.next) {
        decide(me);
    } else if (sim.step >= sim.hungry) {
        pass_to(choose_or_wait());
    } else if (sim.way == SIM_STALL) {
        maybe_stall(me, file, line);
    }
}

bool sp__sim_fails(void)
{
    return sim.active && sim_once_in(32);
}

bool sim_block(const char *why, const void *on, int64_t deadline)
{
    struct sim_thread *me = sim.current;

    me->state = SIM_BLOCKED;
    me->why = why;
    me->on = on;
    me->deadline = deadline;
    me->timed_out = false;
    if (deadline < sim.due) {
        sim.due = deadline;
    }
    pass_to(choose_or_wait());
    return !me->timed_out;
}

void sim_wake(const void *on)
{
    bool any = false;

    for (unsigned i = 0; i < sim.n; i++) {
        struct sim_thread *t = &sim.thread[i];

        if (t->state == SIM_BLOCKED && t->on == on) {
            ready(t);
            any = true;
        }
    }
    if (any) {
        find_due();
    }
}

void sim_sleep(int64_t ns)
{
    SIM_POINT();
    (void)sim_block("sleep", NULL, sim.now + ns);
}

/* ------------------------------------------------------------------ Locks */

/// The mutex is a real one, which is never waited for: so that sanitizers see it, and a forgotten
/// unlock is one here too.
int sp__sim_lock(pthread_mutex_t *mutex, const char *file, int line)
{
    struct sim_thread *me = sim.current;

    if (!sim.active) {
        return pthread_mutex_lock(mutex);
    }
    sp__sim_point(file, line);
    while (pthread_mutex_trylock(mutex) != 0) {
        (void)sim_block("lock", mutex, SP__NEVER);
    }
    if (me->holds == HELD_MAX) {
        sim_fail("%s:%d: too many locks held", file, line);
    }
    me->held[me->holds].mutex = mutex;
    me->held[me->holds].file = file;
    me->held[me->holds++].line = line;
    return 0;
}

int sp__sim_trylock(pthread_mutex_t *mutex, const char *file, int line)
{
    struct sim_thread *me = sim.current;
    int rc;

    sp__sim_point(file, line);
    rc = pthread_mutex_trylock(mutex);
    if (rc == 0 && sim.active && me->holds < HELD_MAX) {
        me->held[me->holds].mutex = mutex;
        me->held[me->holds].file = file;
        me->held[me->holds++].line = line;
    }
    return rc;
}

int sp__sim_unlock(pthread_mutex_t *mutex, const char *file, int line)
{
    struct sim_thread *me = sim.current;
    int rc = pthread_mutex_unlock(mutex);

    if (!sim.active) {
        return rc;
    }
    for (unsigned i = me->holds; i-- > 0;) {
        if (me->held[i].mutex == mutex) {
            me->holds--;
            memmove(&me->held[i], &me->held[i + 1], (me->holds - i) * sizeof(me->held[0]));
            break;
        }
    }
    me->file = file;
    me->line = line;
    sim_wake(mutex);
    return rc;
}

/* ------------------------------------------------------------------ Threads */

/// The last of the thread's destructors, since it asks for a second round: then the library has
/// seen the thread's end.
static void thread_over(void *arg)
{
    struct sim_thread *me = arg;

    if (me->fn != NULL) {
        me->fn = NULL;
        (void)pthread_setspecific(sim_key, me);
        return;
    }
    me->state = SIM_OVER;
    sim_wake(me);
    give_turn(choose_or_wait());
}

static void *thread_main(void *arg)
{
    struct sim_thread *me = arg;

    wait_turn(me);
    (void)pthread_setspecific(sim_key, me);
    me->fn(me->arg);
    return NULL;
}

static struct sim_thread *thread_new(const char *name)
{
    struct sim_thread *t = &sim.thread[sim.n];

    if (sim.n == THREADS_MAX) {
        sim_fail("too many threads");
    }
    memset(t, 0, sizeof(*t));
    (void)snprintf(t->name, sizeof(t->name), "%s", name);
    t->rank = UINT64_MAX / 2 + sim_pick(1000000);
    t->deadline = SP__NEVER;
    t->file = "its start";
    t->seen = sim.step;
    return t;
}

void *sim_spawn(const char *name, void (*fn)(void *arg), void *arg)
{
    struct sim_thread *t = thread_new(name);

    t->fn = fn;
    t->arg = arg;
    t->state = SIM_READY;
    if (pthread_create(&t->id, NULL, thread_main, t) != 0) {
        sim_fail("cannot make a thread");
    }
    sim.n++;
    SIM_POINT();
    return t;
}

void sim_join(void *thread)
{
    struct sim_thread *t = thread;

    SIM_POINT();
    while (t->state != SIM_OVER) {
        (void)sim_block("join", t, SP__NEVER);
    }
    (void)pthread_join(t->id, NULL);
}

/* ------------------------------------------------------------------ Runs */

void sim_begin(uint64_t seed)
{
    void (*on_fail)(void) = sim.on_fail;

    memset(&sim, 0, sizeof(sim));
    sim.on_fail = on_fail;
    sim.rng = seed;
    sim.digest = seed;
    sim.now = 1000 * SP__MS;
    sim.due = SP__NEVER;
    sim.jump = UINT64_MAX;
    sim.patience = 60000 * SP__MS;
    (void)pthread_key_create(&sim_key, thread_over);
    sim.current = thread_new("main");
    sim.current->state = SIM_READY;
    sim.n = 1;
    sim.way = (enum sim_way)sim_pick(SIM_WAYS);
    sim.every = pick_scale(200);
    sim.changes = 1 + sim_pick(12);
    sim.span = 50 * pick_scale(200);
    sim.low = UINT64_MAX / 2 - 1;
    sim.high = UINT64_MAX / 2 + 1000000;
    sim.hungry = STARVED;
    sim.salt = sim_random();
    sim.places = 4 + 4 * pick_scale(32);
    sim.stall = 10 * pick_scale(200);
    sim.cpus = 1 + (unsigned)sim_pick(4);
    sim.step_ns = 1 + (int64_t)pick_scale(64);
    plan();
    sim.active = true;
}

void sim_end(struct sim_result *out)
{
    sim.active = false;
    out->digest = sim.digest ^ (uint64_t)sim.now;
    out->points = sim.step;
    out->switches = sim.switches;
    out->now = sim.now;
}

bool sim_active(void)
{
    return sim.active;
}

void sim_patience(int ms)
{
    sim.idle = 0;
    sim.patience = ms * SP__MS;
}

void sim_jumps(uint64_t n)
{
    sim.jump_every = n;
    sim.jump = n > 0 ? sim.step + 1 + sim_pick(2 * n) : UINT64_MAX;
}

unsigned sim_cpus(void)
{
    return sim.cpus;
}

int64_t sim_now(void)
{
    return sim.now;
}
