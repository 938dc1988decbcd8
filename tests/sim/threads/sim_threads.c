/* SPDX-License-Identifier: MIT */
/// Threads and locks of the simulation, and the begin and end of a run. Who has the turn:
/// sim_turns.c.
#include "sim_turns.h"

#include <stdio.h>
#include <string.h>

static pthread_key_t sim_key;

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
    if (me->holds == SIM_HELD_MAX) {
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
    if (rc == 0 && sim.active && me->holds < SIM_HELD_MAX) {
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
    sim_turns_leave();
}

static void *thread_main(void *arg)
{
    struct sim_thread *me = arg;

    sim_turns_enter(me);
    (void)pthread_setspecific(sim_key, me);
    me->fn(me->arg);
    return NULL;
}

static struct sim_thread *thread_new(const char *name)
{
    struct sim_thread *t = &sim.thread[sim.n];

    if (sim.n == SIM_THREADS_MAX) {
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
    sim_turns_begin();
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
