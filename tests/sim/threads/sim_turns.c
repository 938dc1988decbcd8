/* SPDX-License-Identifier: MIT */
/// Turns: who runs, who waits for what, and when the turn passes. Only the thread whose turn it is
/// touches anything here; the hand-over orders it. ThreadSanitizer must not see that (this folder
/// is not built with it, and no library call hands over): for it the threads are ordered by what
/// the library itself does, and a race is one although only one thread runs at a time. Three ways
/// to choose, by seed:
/// - walk: at any point the turn passes with probability 1/k, to any thread.
/// - rank: threads have priorities; at a few steps the running one becomes the last (PCT).
/// - stall: at a few places in the code threads are held up for long.
#include "sim_turns.h"

#include <inttypes.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STEPS_MAX UINT64_C(3000000) // of a run; more is a livelock
#define JUMP_MAX (50 * SP__MS)      // as long as a thread may well be held up
#define STARVED 20000 // steps after which a thread that can run has its turn, whatever its rank

struct sim_state sim;

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
    struct sim_thread *able[SIM_THREADS_MAX];
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
    sim.trail[sim.step % SIM_TRAIL].thread = me;
    sim.trail[sim.step % SIM_TRAIL].file = file;
    sim.trail[sim.step % SIM_TRAIL].line = line;
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

void sim_turns_begin(void)
{
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
}

void sim_turns_enter(struct sim_thread *me)
{
    wait_turn(me);
}

void sim_turns_leave(void)
{
    give_turn(choose_or_wait());
}
