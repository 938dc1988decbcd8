/* SPDX-License-Identifier: MIT */
/// Force-included (-include) when the core and its plugins are compiled for the simulation of
/// threads: every atomic operation and every lock of theirs becomes a scheduling point. The
/// compiler's builtins are wrapped, not the names of <stdatomic.h>, so that it makes no difference
/// how an operation is written.
#ifndef SP_TEST_POINTS_H
#define SP_TEST_POINTS_H

#include <pthread.h>
#include <stdatomic.h>

/// Here the turn may pass to another thread.
void sp__sim_point(const char *file, int line);
/// Whether a weak compare-and-exchange shall fail for no reason, as it may.
_Bool sp__sim_fails(void);
int sp__sim_lock(pthread_mutex_t *mutex, const char *file, int line);
int sp__sim_trylock(pthread_mutex_t *mutex, const char *file, int line);
int sp__sim_unlock(pthread_mutex_t *mutex, const char *file, int line);

#define SP__SIM_AT(op) (sp__sim_point(__FILE__, __LINE__), op)

// A macro's own name is not replaced again inside it: there it is the builtin.
#ifdef __clang__
#define __c11_atomic_load(...) SP__SIM_AT(__c11_atomic_load(__VA_ARGS__))
#define __c11_atomic_store(...) SP__SIM_AT(__c11_atomic_store(__VA_ARGS__))
#define __c11_atomic_exchange(...) SP__SIM_AT(__c11_atomic_exchange(__VA_ARGS__))
#define __c11_atomic_compare_exchange_strong(...)                                                  \
    SP__SIM_AT(__c11_atomic_compare_exchange_strong(__VA_ARGS__))
#define __c11_atomic_compare_exchange_weak(...)                                                    \
    SP__SIM_AT(__c11_atomic_compare_exchange_weak(__VA_ARGS__))
#define __c11_atomic_fetch_add(...) SP__SIM_AT(__c11_atomic_fetch_add(__VA_ARGS__))
#define __c11_atomic_fetch_sub(...) SP__SIM_AT(__c11_atomic_fetch_sub(__VA_ARGS__))
#define __c11_atomic_fetch_and(...) SP__SIM_AT(__c11_atomic_fetch_and(__VA_ARGS__))
#define __c11_atomic_fetch_or(...) SP__SIM_AT(__c11_atomic_fetch_or(__VA_ARGS__))
#define __c11_atomic_fetch_xor(...) SP__SIM_AT(__c11_atomic_fetch_xor(__VA_ARGS__))
#endif
#define __atomic_load(...) SP__SIM_AT(__atomic_load(__VA_ARGS__))
#define __atomic_load_n(...) SP__SIM_AT(__atomic_load_n(__VA_ARGS__))
#define __atomic_store(...) SP__SIM_AT(__atomic_store(__VA_ARGS__))
#define __atomic_store_n(...) SP__SIM_AT(__atomic_store_n(__VA_ARGS__))
#define __atomic_exchange(...) SP__SIM_AT(__atomic_exchange(__VA_ARGS__))
#define __atomic_exchange_n(...) SP__SIM_AT(__atomic_exchange_n(__VA_ARGS__))
#define __atomic_compare_exchange(p, e, d, weak, yes, no)                                          \
    SP__SIM_AT((weak) && sp__sim_fails() ? (__atomic_load(p, e, no), 0)                            \
                                         : __atomic_compare_exchange(p, e, d, weak, yes, no))
#define __atomic_compare_exchange_n(...) SP__SIM_AT(__atomic_compare_exchange_n(__VA_ARGS__))
#define __atomic_fetch_add(...) SP__SIM_AT(__atomic_fetch_add(__VA_ARGS__))
#define __atomic_fetch_sub(...) SP__SIM_AT(__atomic_fetch_sub(__VA_ARGS__))
#define __atomic_fetch_and(...) SP__SIM_AT(__atomic_fetch_and(__VA_ARGS__))
#define __atomic_fetch_or(...) SP__SIM_AT(__atomic_fetch_or(__VA_ARGS__))
#define __atomic_fetch_xor(...) SP__SIM_AT(__atomic_fetch_xor(__VA_ARGS__))
#define __atomic_add_fetch(...) SP__SIM_AT(__atomic_add_fetch(__VA_ARGS__))
#define __atomic_sub_fetch(...) SP__SIM_AT(__atomic_sub_fetch(__VA_ARGS__))
#define __atomic_test_and_set(...) SP__SIM_AT(__atomic_test_and_set(__VA_ARGS__))
#define __atomic_clear(...) SP__SIM_AT(__atomic_clear(__VA_ARGS__))

#define pthread_mutex_lock(m) sp__sim_lock((m), __FILE__, __LINE__)
#define pthread_mutex_trylock(m) sp__sim_trylock((m), __FILE__, __LINE__)
#define pthread_mutex_unlock(m) sp__sim_unlock((m), __FILE__, __LINE__)

// What can block and has no simulated form: who uses it adds that here first.
#pragma GCC poison pthread_cond_wait pthread_cond_timedwait pthread_mutex_timedlock
#pragma GCC poison pthread_rwlock_rdlock pthread_rwlock_wrlock pthread_spin_lock
#pragma GCC poison pthread_barrier_wait sem_wait

#endif
