/* SPDX-License-Identifier: MIT */
/// The simulated platform. One thread.
#include "platform_sim.h"

#include "error.h"

#include <sp/types.h>

#include <stdlib.h>

static struct {
    int64_t now;
    uint64_t state;
    uint64_t digest;
    uint32_t fail_alloc;
    void (*on_deadlock)(void);
} sim = {.now = INT64_C(1000000000)};

/// splitmix64.
static uint64_t sim_random(void)
{
    uint64_t z = sim.state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    sim.digest = (sim.digest ^ z) * UINT64_C(0x100000001B3);
    return z;
}

void sp__sim_begin(uint64_t seed)
{
    sim.now = INT64_C(1000000000);
    sim.state = seed;
    sim.digest = seed;
    sim.fail_alloc = 0;
}

void sp__sim_fail_alloc(uint32_t n)
{
    sim.fail_alloc = n;
}

uint64_t sp__sim_digest(void)
{
    return sim.digest ^ (uint64_t)sim.now;
}

void sp__sim_on_deadlock(void (*fn)(void))
{
    sim.on_deadlock = fn;
}

static int64_t sim_now(void)
{
    return sim.now;
}

static int64_t sim_wall(void)
{
    return INT64_C(1700000000000000000) + sim.now;
}

static void sim_seed(uint64_t seed)
{
    (void)seed; // sp__sim_begin has it.
}

static void *sim_alloc(size_t size, size_t align)
{
    if (sim.fail_alloc > 0 && sim_random() % sim.fail_alloc == 0) {
        return NULL;
    }
    return sp__platform_linux.alloc(size, align);
}

static size_t sim_choose(size_t n)
{
    return (size_t)(sim_random() % n);
}

/// Only a token ends it: the one thread drives everything, so it never really sleeps.
static bool sim_park(struct sp__parker *p, int64_t deadline)
{
    bool token = p->token == 1;

    (void)deadline;
    p->token = 0;
    return token;
}

static void sim_unpark(struct sp__parker *p)
{
    p->token = 1;
}

static void sim_relax(bool give_way)
{
    (void)give_way;
}

static unsigned sim_cpus(void)
{
    return 1;
}

static int sim_thread_start(void **thread, const struct sp__thread_attr *attr,
                            void (*fn)(void *arg), void *arg)
{
    (void)thread;
    (void)attr;
    (void)fn;
    (void)arg;
    return SP_ENOTSUP;
}

static void sim_thread_join(void *thread)
{
    (void)thread;
}

static int sim_poller_open(void)
{
    return SP_OK;
}

static void sim_nothing(void)
{
}

static int sim_watch(int fd, void *target)
{
    (void)fd;
    (void)target;
    return SP_ENOTSUP; // Simulated transports have no fds.
}

static void sim_watch_out(int fd, void *target, bool out)
{
    (void)fd;
    (void)target;
    (void)out;
}

static void sim_unwatch(int fd)
{
    (void)fd;
}

/// Nothing can run: time goes on to what is due next.
static int sim_poller_wait(struct sp__ready *out, int max, int64_t deadline)
{
    (void)out;
    (void)max;
    if (deadline == SP__NEVER) {
        if (sim.on_deadlock == NULL) {
            sp__bug(__FILE__, __LINE__, "simulation: everything waits and no timer is armed");
        }
        sim.on_deadlock();
        return 0;
    }
    if (deadline > sim.now) {
        sim.now = deadline;
    }
    return 0;
}

const struct sp_platform sp__platform_sim = {
    .simulated = true,
    .now = sim_now,
    .wall = sim_wall,
    .random = sim_random,
    .seed = sim_seed,
    .alloc = sim_alloc,
    .free = free,
    .choose = sim_choose,
    .park = sim_park,
    .unpark = sim_unpark,
    .relax = sim_relax,
    .cpus = sim_cpus,
    .thread_start = sim_thread_start,
    .thread_join = sim_thread_join,
    .poller_open = sim_poller_open,
    .poller_close = sim_nothing,
    .watch = sim_watch,
    .watch_out = sim_watch_out,
    .unwatch = sim_unwatch,
    .poller_wait = sim_poller_wait,
    .poller_wake = sim_nothing,
};
