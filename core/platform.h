/* SPDX-License-Identifier: MIT */
/// The platform table: all time, randomness, memory, parking and I/O readiness of the core go
/// through it. Two implementations: Linux (platform_linux.c) and the simulation (platform_sim.c:
/// one thread, a virtual clock, a seeded order). [any] unless a slot says otherwise.
#ifndef SP_CORE_PLATFORM_H
#define SP_CORE_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Of a function behind a way that is seldom taken: it stays a function, so that the usual way
/// saves no registers for it.
#define SP__APART __attribute__((noinline))

#define SP__NEVER INT64_MAX
#define SP__MS INT64_C(1000000)

/// A thread's place to sleep: unpark leaves a token, park takes it or waits for it.
struct sp__parker {
    uint32_t token; ///< futex word: 0 nothing, 1 token, 2 asleep
};

/// How a thread shall be.
struct sp__thread_attr {
    const char *name;
    size_t stack;         ///< bytes; 0: the system's default
    const char *affinity; ///< CPU list such as "0-3,5"; NULL: any
};

/// One readiness report of the poller.
struct sp__ready {
    void *target;   ///< as given to watch
    unsigned ready; ///< SP_READY_…
};

struct pollfd;

/// Descriptors of the user that a wait is for, too.
struct sp__fds {
    struct pollfd *fd; ///< the first one is for the platform's use
    size_t n;          ///< with that one
    int ready;         ///< how many of the user's are; negative errno
};

struct sp_platform {
    bool simulated;
    int64_t (*now)(void);  ///< monotonic, ns
    int64_t (*wall)(void); ///< since 1970, ns
    uint64_t (*random)(void);
    void (*seed)(uint64_t seed);               ///< 0: from the system
    void *(*alloc)(size_t size, size_t align); ///< not zeroed; NULL: none
    void (*free)(void *p);
    /// Which of `n` runnable things goes next: 0 in production, seeded in simulation.
    size_t (*choose)(size_t n);
    /// Sleep until unparked or `deadline` (ns, SP__NEVER); false: the deadline passed.
    bool (*park)(struct sp__parker *p, int64_t deadline);
    void (*unpark)(struct sp__parker *p);
    /// Between two looks of a thread that spins; now and then it gives way to who else wants its
    /// CPU.
    void (*relax)(bool give_way);
    /// Whether there is `fence`, which takes all threads of the process through a full fence before
    /// it returns. NULL: there is not.
    bool (*fence_open)(void);
    void (*fence)(void);
    /// How many CPUs the process may use, by affinity and quota.
    unsigned (*cpus)(void);
    /// Starts a thread; joined by thread_join.
    int (*thread_start)(void **thread, const struct sp__thread_attr *attr, void (*fn)(void *arg),
                        void *arg);
    void (*thread_join)(void *thread);
    /// The one readiness set of the runtime. wait is called by one thread at a time; wake ends its
    /// wait, also beforehand.
    int (*poller_open)(void);
    void (*poller_close)(void);
    int (*watch)(int fd, void *target);
    /// Readiness to write is reported, as it is from the start, or not. What is ready is reported
    /// now.
    void (*watch_out)(int fd, void *target, bool out);
    void (*unwatch)(int fd);
    int (*poller_wait)(struct sp__ready *out, int max, int64_t deadline);
    /// The same without sleeping. -1: nothing came, not even a wake. Not in simulation.
    int (*poller_look)(struct sp__ready *out, int max, int64_t until);
    void (*poller_wake)(void);
    /// A descriptor that polls readable as long as poller_wait would not wait, or one of the two
    /// below says so. SP_ENOTSUP: there is none.
    int (*poller_fd)(void);
    void (*poller_due)(int64_t due); ///< from that instant on (ns; SP__NEVER)
    void (*poller_busy)(bool busy);
    /// Flags: descriptors that poll readable while they are set. Set changes them.
    int (*flag_open)(void);
    void (*flag_set)(int fd, bool on);
    void (*flag_close)(int fd);
    /// Waits until one of the user's descriptors is ready, or `fd` is readable (-1: none), or the
    /// deadline; or a signal came. NULL: there are no descriptors, as in simulation.
    void (*fds_wait)(struct sp__fds *fds, int fd, int64_t deadline);
    /// The same and poller_wait in one.
    int (*poller_wait_fds)(struct sp__ready *out, int max, int64_t deadline, struct sp__fds *fds);
};

/// The table in use. Set before the runtime starts; tests put the simulation here.
extern const struct sp_platform *sp__platform;
extern const struct sp_platform sp__platform_linux;

static inline int64_t sp__now(void)
{
    return sp__platform->now();
}

/// Memory for the core's objects: 64-byte aligned, zeroed; NULL: none.
void *sp__zalloc(size_t size);
/// The same for what no line of the cache is set apart for: not zeroed, and aligned for any type.
void *sp__alloc(size_t size);
void sp__free(void *p);
char *sp__strdup(const char *s);

#endif
