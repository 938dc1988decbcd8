/* SPDX-License-Identifier: MIT */
/// The platform table of the simulation with threads. Memory that was given back is not used again
/// in a run: it is filled, and who writes to it later is found. ThreadSanitizer is told what the
/// real platform orders: unpark before the park that takes its token, watch, edge and wake before
/// the wait that they end.
#include "sim_threads.h"

#include <sp/plugin.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef SIM_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#else
#define __tsan_acquire(addr) (void)(addr)
#define __tsan_release(addr) (void)(addr)
#endif

#define FDS_MAX 256
#define FLAGS_MAX 32
#define FLAG_FIRST 1000 // number of the first one
#define FREED 0xDD
#define KEPT_MAX ((size_t)48 << 20) // bytes that are kept to be looked at
#define ROOM ((size_t)64)           // in front of each block

struct block {
    struct block *next;
    struct block *prev;
    size_t size;
    void *memory; ///< as malloc gave it
};

static struct {
    bool refuse;
    bool woken; ///< the poller
    struct block live;
    struct block *freed;
    size_t kept;
    struct {
        bool used;
        bool watched;
        bool out;       ///< readiness to write is reported
        unsigned level; ///< ready now
        unsigned edge;  ///< and not reported
        void *target;
    } fd[FDS_MAX];
    int fds;
    struct {
        bool used;
        bool on;
    } flag[FLAGS_MAX];
} table = {.live = {&table.live, &table.live, 0, NULL}};

/* ------------------------------------------------------------------ Time and chance */

static int64_t table_now(void)
{
    SIM_POINT();
    return sim_now();
}

static int64_t table_wall(void)
{
    return INT64_C(1700000000000000000) + sim_now();
}

static void table_seed(uint64_t seed)
{
    (void)seed; // sim_begin has it.
}

static size_t table_choose(size_t n)
{
    return (size_t)sim_pick(n);
}

/* ------------------------------------------------------------------ Memory */

static void *table_alloc(size_t size, size_t align)
{
    size_t room = align > ROOM ? align : ROOM;
    void *memory;
    struct block *b;

    if (posix_memalign(&memory, room, room + size) != 0) {
        return NULL;
    }
    memset(memory, 0xAA, room + (size < 4096 ? size : 4096));
    b = (struct block *)(void *)((char *)memory + room - sizeof(*b));
    b->memory = memory;
    b->size = size;
    b->next = table.live.next;
    b->prev = &table.live;
    b->next->prev = b;
    table.live.next = b;
    return b + 1;
}

static void table_free(void *p)
{
    struct block *b = p;

    if (p == NULL) {
        return;
    }
    b--;
    b->next->prev = b->prev;
    b->prev->next = b->next;
#ifndef SIM_ASAN // AddressSanitizer sees it at once.
    if (table.kept + b->size <= KEPT_MAX) {
        memset(p, FREED, b->size);
        table.kept += b->size;
        b->next = table.freed;
        table.freed = b;
        return;
    }
#endif
    free(b->memory);
}

void sim_ordered_before(void *at)
{
    __tsan_release(at);
}

void sim_ordered_after(void *at)
{
    __tsan_acquire(at);
}

void *sim_calloc(size_t n, size_t size)
{
    void *p = table_alloc(n * size, 16);

    if (p != NULL) {
        memset(p, 0, n * size);
    }
    return p;
}

void sim_free(void *p)
{
    table_free(p);
}

size_t sim_blocks(size_t size)
{
    size_t n = 0;

    for (const struct block *b = table.live.next; b != &table.live; b = b->next) {
        n += size == 0 || b->size == size;
    }
    return n;
}

void sim_check_freed(void)
{
    for (const struct block *b = table.freed; b != NULL; b = b->next) {
        const unsigned char *p = (const unsigned char *)(b + 1);

        for (size_t i = 0; i < b->size; i++) {
            if (p[i] != FREED) {
                sim_fail("memory of %zu bytes was written to at %zu after it was given back",
                         b->size, i);
            }
        }
    }
}

/* ------------------------------------------------------------------ Threads */

static bool table_park(struct sp__parker *p, int64_t deadline)
{
    SIM_POINT();
    while (p->token == 0 && deadline > sim_now()) {
        (void)sim_block("park", p, deadline);
    }
    if (p->token == 0) {
        return false;
    }
    p->token = 0;
    __tsan_acquire(p);
    return true;
}

static void table_unpark(struct sp__parker *p)
{
    SIM_POINT();
    __tsan_release(p);
    p->token = 1;
    sim_wake(p);
}

/// The simulated threads see each other's stores at once.
static bool table_fence_open(void)
{
    return true;
}

static void table_fence(void)
{
    SIM_POINT();
}

static void table_relax(bool give_way)
{
    (void)give_way;
    sim_yield(); // Whom it looks for runs on another CPU.
}

static unsigned table_cpus(void)
{
    return sim_cpus();
}

static int table_thread_start(void **thread, const struct sp__thread_attr *attr,
                              void (*fn)(void *arg), void *arg)
{
    if (table.refuse) {
        return SP_ENOMEM;
    }
    *thread = sim_spawn(attr->name, fn, arg);
    return SP_OK;
}

void sim_refuse_threads(void)
{
    table.refuse = true;
}

/* ------------------------------------------------------------------ Readiness */

static int table_poller_open(void)
{
    table.woken = false;
    return SP_OK;
}

static void table_poller_close(void)
{
}

/// What is ready is reported (again) from here on.
static void watch_as(int fd, void *target, bool out)
{
    __tsan_release(&table);
    table.fd[fd - 1].watched = true;
    table.fd[fd - 1].out = out;
    table.fd[fd - 1].target = target;
    table.fd[fd - 1].edge = table.fd[fd - 1].level;
    if (table.fd[fd - 1].edge != 0) {
        sim_wake(&table.woken);
    }
}

static int table_watch(int fd, void *target)
{
    SIM_POINT();
    SIM_CHECK(fd > 0 && fd <= table.fds && table.fd[fd - 1].used && !table.fd[fd - 1].watched);
    watch_as(fd, target, true);
    return SP_OK;
}

static void table_watch_out(int fd, void *target, bool out)
{
    SIM_POINT();
    SIM_CHECK(fd > 0 && fd <= table.fds && table.fd[fd - 1].watched);
    watch_as(fd, target, out);
}

static void table_unwatch(int fd)
{
    SIM_POINT();
    SIM_CHECK(fd > 0 && fd <= table.fds && table.fd[fd - 1].watched);
    table.fd[fd - 1].watched = false;
}

/// What there is to report about an fd.
static unsigned take_edge(int at)
{
    unsigned edge = table.fd[at].edge;

    if (!table.fd[at].watched) {
        return 0;
    }
    table.fd[at].edge = 0;
    // A hang-up cannot be masked.
    return table.fd[at].out || (edge & SP_READY_HUP) != 0 ? edge : edge & ~(unsigned)SP_READY_OUT;
}

/// Takes what is ready, beginning anywhere.
static int take_ready(struct sp__ready *out, int max)
{
    int n = 0;
    int first = table.fds > 0 ? (int)sim_pick((uint64_t)table.fds) : 0;

    for (int i = 0; i < table.fds && n < max; i++) {
        int at = (first + i) % table.fds;
        unsigned edge = take_edge(at);

        if (edge != 0) {
            out[n].target = table.fd[at].target;
            out[n++].ready = edge;
        }
    }
    return n;
}

static int table_poller_wait(struct sp__ready *out, int max, int64_t deadline)
{
    int n;

    SIM_POINT();
    while ((n = take_ready(out, max)) == 0 && !table.woken && deadline > sim_now()) {
        (void)sim_block("poll", &table.woken, deadline);
    }
    table.woken = false;
    __tsan_acquire(&table);
    return n;
}

static int table_poller_look(struct sp__ready *out, int max, int64_t until)
{
    int n;

    SIM_POINT();
    while ((n = take_ready(out, max)) == 0 && !table.woken) {
        if (sim_now() >= until) {
            return -1;
        }
        sim_yield();
    }
    table.woken = false;
    __tsan_acquire(&table);
    return n;
}

static void table_poller_wake(void)
{
    SIM_POINT();
    __tsan_release(&table);
    table.woken = true;
    sim_wake(&table.woken);
}

int sim_fd_new(void)
{
    SIM_CHECK(table.fds < FDS_MAX);
    table.fd[table.fds].used = true;
    return ++table.fds;
}

void sim_fd_free(int fd)
{
    SIM_CHECK(table.fd[fd - 1].used && !table.fd[fd - 1].watched);
    table.fd[fd - 1].used = false;
    table.fd[fd - 1].edge = 0;
}

void sim_fd_raise(int fd, unsigned ready)
{
    SIM_POINT();
    if (!table.fd[fd - 1].used) {
        return;
    }
    __tsan_release(&table);
    table.fd[fd - 1].level |= ready;
    table.fd[fd - 1].edge |= ready;
    if (table.fd[fd - 1].watched) {
        sim_wake(&table.woken);
    }
}

void sim_fd_lower(int fd, unsigned ready)
{
    table.fd[fd - 1].level &= ~ready;
}

/* ------------------------------------------------------------------ Flags */

static int table_flag_open(void)
{
    SIM_POINT();
    for (int i = 0; i < FLAGS_MAX; i++) {
        if (!table.flag[i].used) {
            table.flag[i].used = true;
            table.flag[i].on = false;
            return FLAG_FIRST + i;
        }
    }
    sim_fail("too many flags");
}

/// They are only set when they change.
static void table_flag_set(int fd, bool on)
{
    SIM_POINT();
    SIM_CHECK(table.flag[fd - FLAG_FIRST].used && table.flag[fd - FLAG_FIRST].on != on);
    table.flag[fd - FLAG_FIRST].on = on;
}

static void table_flag_close(int fd)
{
    SIM_POINT();
    SIM_CHECK(table.flag[fd - FLAG_FIRST].used);
    table.flag[fd - FLAG_FIRST].used = false;
}

bool sim_flag(int fd)
{
    return table.flag[fd - FLAG_FIRST].on;
}

const struct sp_platform sim_platform = {
    .simulated = false, // Workers, and all else as in production.
    .now = table_now,
    .wall = table_wall,
    .random = sim_random,
    .seed = table_seed,
    .alloc = table_alloc,
    .free = table_free,
    .choose = table_choose,
    .park = table_park,
    .unpark = table_unpark,
    .relax = table_relax,
    .fence_open = table_fence_open,
    .fence = table_fence,
    .cpus = table_cpus,
    .thread_start = table_thread_start,
    .thread_join = sim_join,
    .poller_open = table_poller_open,
    .poller_close = table_poller_close,
    .watch = table_watch,
    .watch_out = table_watch_out,
    .unwatch = table_unwatch,
    .poller_wait = table_poller_wait,
    .poller_look = table_poller_look,
    .poller_wake = table_poller_wake,
    .flag_open = table_flag_open,
    .flag_set = table_flag_set,
    .flag_close = table_flag_close,
};
