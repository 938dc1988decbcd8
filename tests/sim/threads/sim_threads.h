/* SPDX-License-Identifier: MIT */
/// Simulation with several threads: they are real, but run one at a time. At every point (points.h,
/// and whatever the platform table is asked for) the turn may pass to another one, as the seed
/// says; time is virtual. One run a process: the same seed then gives the same run to the last
/// step. [any thread of the simulation]
#ifndef SP_TEST_SIM_THREADS_H
#define SP_TEST_SIM_THREADS_H

#include "core/platform.h"

#include <pthread.h>

#define SIM_NAME 24
#define SIM_FAILED 3 // exit status of a run that failed, and said so

/// What a run came to.
struct sim_result {
    uint64_t digest; ///< of every choice: equal runs have equal digests
    uint64_t points;
    uint64_t switches; ///< the turn passed
    int64_t now;       ///< virtual
};

/// What points.h calls; not included here, since this side uses real locks.
void sp__sim_point(const char *file, int line);
bool sp__sim_fails(void);
int sp__sim_lock(pthread_mutex_t *mutex, const char *file, int line);
int sp__sim_trylock(pthread_mutex_t *mutex, const char *file, int line);
int sp__sim_unlock(pthread_mutex_t *mutex, const char *file, int line);

/// Begins the run: the calling thread becomes the first of the simulation.
void sim_begin(uint64_t seed);
/// Ends it; all other threads must be over.
void sim_end(struct sim_result *out);
/// Whether there is a simulation at all.
bool sim_active(void);

/// Seeded: 0…n-1.
uint64_t sim_pick(uint64_t n);
/// True once in `n` times.
static inline bool sim_once_in(uint64_t n)
{
    return sim_pick(n) == 0;
}

/// The run has failed: says why, what each thread does and which steps led there; does not return.
_Noreturn void sim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/// What is printed with a failure, such as how to replay it.
void sim_on_fail(void (*fn)(void));
#define SIM_CHECK(cond)                                                                            \
    ((cond) ? (void)0 : sim_fail("%s:%d: does not hold: %s", __FILE__, __LINE__, #cond))

/// From now on nothing needs much time: when all threads sleep for `ms` of virtual time in all,
/// something was not woken that should have been.
void sim_patience(int ms);
/// Begins with time jumps: of `n` steps one goes on to the next deadline although threads can run,
/// as if they had been held up. 0: no more of that.
void sim_jumps(uint64_t n);

/// A thread of the simulation; joined by sim_join.
void *sim_spawn(const char *name, void (*fn)(void *arg), void *arg);
void sim_join(void *thread);
/// Another thread may go first, or many steps by others come in between.
#define SIM_POINT() sp__sim_point(__FILE__, __LINE__)
/// The others first.
void sim_yield(void);
/// Lets virtual time pass; wakes nobody and is woken by nobody.
void sim_sleep(int64_t ns);

/// What the platform is built from (sim_platform.c). Sleeps until sim_wake on the same thing or the
/// deadline; false: the deadline passed.
bool sim_block(const char *why, const void *on, int64_t deadline);
void sim_wake(const void *on);
int64_t sim_now(void);
unsigned sim_cpus(void); ///< of the run: 1 to 4
uint64_t sim_random(void);

extern const struct sp_platform sim_platform;
/// From now on the library cannot start a thread.
void sim_refuse_threads(void);
/// For ThreadSanitizer: what was done before the one is ordered before what follows the other.
void sim_ordered_before(void *at);
void sim_ordered_after(void *at);
/// What plugins that are linked in have in place of calloc and free.
void *sim_calloc(size_t n, size_t size);
void sim_free(void *p);
/// Blocks of `size` bytes (0: of any) that were not given back.
size_t sim_blocks(size_t size);
/// Whether somebody wrote to memory that was given back.
void sim_check_freed(void);

/// Simulated file descriptors: readiness (SP_READY_…) that rises is reported to whoever watches,
/// once; what has not fallen meanwhile is reported again when the watch changes.
int sim_fd_new(void);
void sim_fd_free(int fd);
void sim_fd_raise(int fd, unsigned ready);
void sim_fd_lower(int fd, unsigned ready);
/// Whether a flag of the platform is set.
bool sim_flag(int fd);

#endif
