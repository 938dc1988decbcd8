/* SPDX-License-Identifier: MIT */
/// The production platform: Linux with epoll, eventfd and futex. [any]
#include "platform.h"

#include <sp/plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static int linux_epoll = -1;
static int linux_wake = -1;
// In the readiness set as linux_wake is; made by poller_fd. They stay readable until what they say
// was seen to.
static int linux_due = -1;
static int linux_busy = -1;

static int64_t linux_clock(clockid_t id)
{
    struct timespec ts;

    (void)clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t linux_now(void)
{
    return linux_clock(CLOCK_MONOTONIC);
}

static int64_t linux_wall(void)
{
    return linux_clock(CLOCK_REALTIME);
}

static uint64_t linux_fixed_seed; // 0: none; atomic, relaxed

static void linux_seed(uint64_t seed)
{
    __atomic_store_n(&linux_fixed_seed, seed, __ATOMIC_RELAXED);
}

/// xorshift128+ per thread, seeded by the system (or by the setting "seed"): ids and jitter,
/// nothing secret.
static uint64_t linux_random(void)
{
    static _Thread_local uint64_t s[2];
    uint64_t a;

    if (s[0] == 0 && s[1] == 0) {
        s[0] = __atomic_load_n(&linux_fixed_seed, __ATOMIC_RELAXED);
    }
    while (s[0] == 0 && s[1] == 0) {
        if (getrandom(s, sizeof(s), 0) != (ssize_t)sizeof(s)) {
            s[0] = (uint64_t)linux_now() ^ (uint64_t)(uintptr_t)s;
            s[1] = (uint64_t)linux_wall();
        }
    }
    a = s[0];
    s[0] = s[1];
    a ^= a << 23;
    s[1] = a ^ s[0] ^ (a >> 18) ^ (s[0] >> 5);
    return s[1] + s[0];
}

static void *linux_alloc(size_t size, size_t align)
{
    void *p;

    return posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, size) == 0 ? p
                                                                                          : NULL;
}

static size_t linux_choose(size_t n)
{
    (void)n;
    return 0;
}

static void futex_wait(uint32_t *word, uint32_t value, int64_t deadline)
{
    struct timespec ts = {deadline / 1000000000, deadline % 1000000000};

    (void)syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, value,
                  deadline == SP__NEVER ? NULL : &ts, NULL, FUTEX_BITSET_MATCH_ANY);
}

/// Acquire when the token is taken: pairs with the release in linux_unpark.
static bool linux_park(struct sp__parker *p, int64_t deadline)
{
    uint32_t seen = 1;

    for (;;) {
        seen = 1;
        if (__atomic_compare_exchange_n(&p->token, &seen, 0, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
            return true;
        }
        if (deadline <= 0 || (deadline != SP__NEVER && linux_now() >= deadline)) {
            // Nobody needs to wake us any more; a token that came meanwhile is taken (acquire).
            return __atomic_exchange_n(&p->token, 0, __ATOMIC_ACQUIRE) == 1;
        }
        seen = 0;
        if (__atomic_compare_exchange_n(&p->token, &seen, 2, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED) ||
            seen == 2) {
            futex_wait(&p->token, 2, deadline);
        }
    }
}

static void linux_unpark(struct sp__parker *p)
{
    // seq_cst: release of what was done before, and first of the two steps in sp__thread_wake.
    if (__atomic_exchange_n(&p->token, 1, __ATOMIC_SEQ_CST) == 2) {
        (void)syscall(SYS_futex, &p->token, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

/// Whoever else wants this CPU may be the one that we wait for.
static void linux_relax(bool give_way)
{
    if (give_way) {
        (void)sched_yield();
        return;
    }
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool linux_fence_open(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

/// It fails only for want of memory, or where system calls were forbidden meanwhile. What is in a
/// store buffer then is out of it long before a thread was put to sleep and woken.
static void linux_fence(void)
{
    struct timespec ts = {0, SP__MS};

    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0) {
        (void)nanosleep(&ts, NULL);
    }
}

/// The quota of the process's control group in whole CPUs, rounded up. 0: none.
static unsigned linux_quota(void)
{
    char text[64];
    long long quota;
    long long period;
    int fd = open("/sys/fs/cgroup/cpu.max", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

    if (fd >= 0) {
        (void)close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    if (sscanf(text, "%lld %lld", &quota, &period) != 2 || quota <= 0 || period <= 0) {
        return 0;
    }
    return (unsigned)((quota + period - 1) / period);
}

static unsigned linux_cpus(void)
{
    unsigned quota = linux_quota();
    unsigned allowed = 1;
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        allowed = (unsigned)CPU_COUNT(&set);
    }
    return quota > 0 && quota < allowed ? quota : allowed;
}

struct linux_thread {
    pthread_t id;
    void (*fn)(void *arg);
    void *arg;
    char name[16];
};

static void *linux_thread_main(void *arg)
{
    struct linux_thread *t = arg;

    (void)pthread_setname_np(pthread_self(), t->name);
    t->fn(t->arg);
    return NULL;
}

/// Adds the CPUs of a list such as "0-3,5" (checked when it was set).
static void linux_cpu_list(cpu_set_t *set, const char *list)
{
    CPU_ZERO(set);
    while (*list != '\0') {
        char *end;
        unsigned long first = strtoul(list, &end, 10);
        unsigned long last = *end == '-' ? strtoul(end + 1, &end, 10) : first;

        for (; first <= last && first < CPU_SETSIZE; first++) {
            CPU_SET(first, set);
        }
        list = *end == ',' ? end + 1 : "";
    }
}

static int linux_thread_start(void **thread, const struct sp__thread_attr *how,
                              void (*fn)(void *arg), void *arg)
{
    struct linux_thread *t = sp__zalloc(sizeof(*t));
    pthread_attr_t attr;
    cpu_set_t cpus;
    sigset_t all;
    sigset_t old;
    int rc;

    if (t == NULL) {
        return SP_ENOMEM;
    }
    t->fn = fn;
    t->arg = arg;
    (void)strncpy(t->name, how->name, sizeof(t->name) - 1);
    (void)pthread_attr_init(&attr);
    if (how->stack > 0) {
        (void)pthread_attr_setstacksize(&attr, how->stack);
    }
    if (how->affinity != NULL) {
        linux_cpu_list(&cpus, how->affinity);
        (void)pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
    }
    // Signals are the application's: no thread of the library takes one.
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&t->id, &attr, linux_thread_main, t);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_attr_destroy(&attr);
    if (rc != 0) {
        sp__free(t);
        return -rc;
    }
    *thread = t;
    return SP_OK;
}

static void linux_thread_join(void *thread)
{
    struct linux_thread *t = thread;

    (void)pthread_join(t->id, NULL);
    sp__free(t);
}

static int linux_watch(int fd, void *target)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                             .data = {.ptr = target}};

    return epoll_ctl(linux_epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : SP_OK;
}

static void linux_watch_out(int fd, void *target, bool out)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data = {.ptr = target}};

    ev.events |= out ? EPOLLOUT : 0;
    (void)epoll_ctl(linux_epoll, EPOLL_CTL_MOD, fd, &ev);
}

static void linux_unwatch(int fd)
{
    (void)epoll_ctl(linux_epoll, EPOLL_CTL_DEL, fd, NULL);
}

static void linux_close(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
    *fd = -1;
}

static void linux_poller_close(void)
{
    linux_close(&linux_epoll);
    linux_close(&linux_wake);
    linux_close(&linux_due);
    linux_close(&linux_busy);
}

static int linux_poller_open(void)
{
    struct epoll_event ev = {.events = EPOLLIN, .data = {.ptr = NULL}};
    int rc;

    linux_epoll = epoll_create1(EPOLL_CLOEXEC);
    linux_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (linux_epoll < 0 || linux_wake < 0 ||
        epoll_ctl(linux_epoll, EPOLL_CTL_ADD, linux_wake, &ev) < 0) {
        rc = -errno;
        linux_poller_close();
        return rc;
    }
    return SP_OK;
}

/// epoll_pwait2 is exact, and not in every kernel: without it whole ms, rounded up, so that a timer
/// is due when the wait for it ends.
static int linux_epoll_wait(struct epoll_event *events, int max, int64_t deadline)
{
    static atomic_bool missing;
    int64_t left = deadline == SP__NEVER ? -1 : deadline <= 0 ? 0 : deadline - linux_now();
    struct timespec ts = {left / 1000000000, left % 1000000000};
    int n;

    if (deadline != SP__NEVER && left <= 0) {
        return epoll_wait(linux_epoll, events, max, 0);
    }
    if (deadline == SP__NEVER) {
        return epoll_wait(linux_epoll, events, max, -1);
    }
    if (!atomic_load_explicit(&missing, memory_order_relaxed)) {
        n = epoll_pwait2(linux_epoll, events, max, &ts, NULL);
        if (n >= 0 || errno != ENOSYS) {
            return n;
        }
        atomic_store_explicit(&missing, true, memory_order_relaxed);
    }
    left = (left + SP__MS - 1) / SP__MS;
    return epoll_wait(linux_epoll, events, max, left > INT32_MAX ? INT32_MAX : (int)left);
}

/// What epoll reported; a wake is taken, and not counted.
static int linux_poller_take(const struct epoll_event *events, int n, struct sp__ready *out)
{
    int filled = 0;

    for (int i = 0; i < n; i++) {
        uint32_t e = events[i].events;

        if (events[i].data.ptr == NULL) {
            uint64_t count;

            (void)!read(linux_wake, &count, sizeof(count));
            continue;
        }
        out[filled].target = events[i].data.ptr;
        out[filled].ready = (e & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR) ? SP_READY_IN : 0) |
                            (e & (EPOLLOUT | EPOLLHUP | EPOLLERR) ? SP_READY_OUT : 0) |
                            (e & (EPOLLRDHUP | EPOLLHUP | EPOLLERR) ? SP_READY_HUP : 0);
        filled++;
    }
    return filled;
}

static int linux_poller_wait(struct sp__ready *out, int max, int64_t deadline)
{
    struct epoll_event events[64];

    return linux_poller_take(events, linux_epoll_wait(events, max < 64 ? max : 64, deadline), out);
}

static int linux_poller_look(struct sp__ready *out, int max, int64_t until)
{
    struct epoll_event events[64];

    for (unsigned round = 1;; round++) {
        int n = epoll_wait(linux_epoll, events, max < 64 ? max : 64, 0);

        if (n != 0) {
            return linux_poller_take(events, n, out);
        }
        if (round % 4 == 0 && linux_now() >= until) { // about 1 µs
            return -1;
        }
        linux_relax(round % 4 == 0);
    }
}

static void linux_poller_wake(void)
{
    uint64_t one = 1;

    (void)!write(linux_wake, &one, sizeof(one));
}

/* ------------------------------------------------------------------ For loops of the user */

static int linux_flag_open(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

static void linux_flag_set(int fd, bool on)
{
    uint64_t value = 1;

    if (on) {
        (void)!write(fd, &value, sizeof(value));
    } else {
        (void)!read(fd, &value, sizeof(value));
    }
}

static void linux_flag_close(int fd)
{
    (void)close(fd);
}

static int linux_poller_fd(void)
{
    struct epoll_event ev = {.events = EPOLLIN, .data = {.ptr = NULL}};
    int rc;

    if (linux_due >= 0) {
        return linux_epoll;
    }
    linux_due = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    linux_busy = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (linux_due < 0 || linux_busy < 0 ||
        epoll_ctl(linux_epoll, EPOLL_CTL_ADD, linux_due, &ev) < 0 ||
        epoll_ctl(linux_epoll, EPOLL_CTL_ADD, linux_busy, &ev) < 0) {
        rc = -errno;
        linux_close(&linux_due);
        linux_close(&linux_busy);
        return rc;
    }
    return linux_epoll;
}

static void linux_poller_due(int64_t due)
{
    struct itimerspec at = {.it_value = {0, 0}};

    if (due != SP__NEVER) {
        due = due > 0 ? due : 1; // 0 would stop it.
        at.it_value = (struct timespec){due / 1000000000, due % 1000000000};
    }
    (void)timerfd_settime(linux_due, TFD_TIMER_ABSTIME, &at, NULL);
}

static void linux_poller_busy(bool busy)
{
    linux_flag_set(linux_busy, busy);
}

static void linux_fds_wait(struct sp__fds *fds, int fd, int64_t deadline)
{
    int64_t left = deadline == SP__NEVER || deadline <= 0 ? 0 : deadline - linux_now();
    struct timespec ts = {0, 0};
    int rc;

    if (left > 0) {
        ts = (struct timespec){left / 1000000000, left % 1000000000};
    }
    fds->fd[0] = (struct pollfd){fd, POLLIN, 0};
    rc = ppoll(fds->fd, fds->n, deadline == SP__NEVER ? NULL : &ts, NULL);
    fds->ready = rc >= 0 ? rc - (fds->fd[0].revents != 0) : errno == EINTR ? 0 : -errno;
}

static int linux_poller_wait_fds(struct sp__ready *out, int max, int64_t deadline,
                                 struct sp__fds *fds)
{
    linux_fds_wait(fds, linux_epoll, deadline);
    return linux_poller_wait(out, max, 0);
}

const struct sp_platform sp__platform_linux = {
    .now = linux_now,
    .wall = linux_wall,
    .random = linux_random,
    .seed = linux_seed,
    .alloc = linux_alloc,
    .free = free,
    .choose = linux_choose,
    .park = linux_park,
    .unpark = linux_unpark,
    .relax = linux_relax,
    .fence_open = linux_fence_open,
    .fence = linux_fence,
    .cpus = linux_cpus,
    .thread_start = linux_thread_start,
    .thread_join = linux_thread_join,
    .poller_open = linux_poller_open,
    .poller_close = linux_poller_close,
    .watch = linux_watch,
    .watch_out = linux_watch_out,
    .unwatch = linux_unwatch,
    .poller_wait = linux_poller_wait,
    .poller_look = linux_poller_look,
    .poller_wake = linux_poller_wake,
    .poller_fd = linux_poller_fd,
    .poller_due = linux_poller_due,
    .poller_busy = linux_poller_busy,
    .flag_open = linux_flag_open,
    .flag_set = linux_flag_set,
    .flag_close = linux_flag_close,
    .fds_wait = linux_fds_wait,
    .poller_wait_fds = linux_poller_wait_fds,
};
