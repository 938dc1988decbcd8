/* SPDX-License-Identifier: MIT */
/// What the fault tests share: waiting for an event with a deadline, statistics by their names, the
/// accounting equations, places to listen at, memory that runs out, and the test's own program as
/// another process. Main thread of a test, unless a line says otherwise.
#ifndef SP_TEST_FAULT_H
#define SP_TEST_FAULT_H

#include "proc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sp/sp.h>

/// The deadline of what should take no time, ms: only a failing test waits so long.
#define FAULT_SOON 5000

#define FAULT_URL 160

/// Whether a sanitizer changes what memory and time can be expected.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAULT_SANITIZED 1
#else
#define FAULT_SANITIZED 0
#endif

/* ------------------------------------------------------------------ Waiting */

/// Pauses between two looks at a condition.
void fault_pause(void);

/// Waits until a condition holds, at most `ms`; whether it held. [any]
#define FAULT_WAIT(condition, ms)                                                                  \
    __extension__({                                                                                \
        long long fault_end_ = proc_now() + (ms);                                                  \
        bool fault_held_ = false;                                                                  \
        while (!(fault_held_ = (condition)) && proc_now() < fault_end_) {                          \
            fault_pause();                                                                         \
        }                                                                                          \
        fault_held_ || (condition);                                                                \
    })

/// The same for a call of this library that gives 0 or an error: says which.
#define FAULT_OK(call) fault_ok_at((long long)(call), #call, __FILE__, __LINE__)
void fault_ok_at(long long rc, const char *call, const char *file, int line);

/* ------------------------------------------------------------------ Statistics */

/// A number in the statistics of an object (0: of everything), by its path, such as
/// "listeners.0.proto". -1: there is no such object or number. [any]
long long fault_stat(uint64_t id, const char *path);

/// Waits until a number is what it should be; otherwise the test fails and prints the statistics.
#define FAULT_STAT(id, path, want) fault_stat_at(id, path, want, __FILE__, __LINE__)
void fault_stat_at(uint64_t id, const char *path, long long want, const char *file, int line);

/// Waits until the two equations of accounting hold (they must at rest); otherwise the test fails.
#define FAULT_AT_REST(s) fault_at_rest_at(s, __FILE__, __LINE__)
void fault_at_rest_at(sp_socket s, const char *file, int line);

/* ------------------------------------------------------------------ Places */

/// Opens a socket and listens on a free place of "tcp", "ipc" or "inproc"; `url` is where to dial.
sp_socket fault_listen(const char *protocol, const char *transport, char url[FAULT_URL]);

/// A place that nobody listens at.
void fault_place(const char *transport, char url[FAULT_URL]);

/// A socket with the settings that short tests want: time-outs of FAULT_SOON, no lingering.
sp_socket fault_open(const char *protocol);

/// cmocka's setup and teardown (SP_TEST_THREADS and SP_TEST_IN_PLACE run any test with that setting
/// and option): a directory for socket files; the library is ended and the memory
/// is whole again.
int fault_setup(void **state);
int fault_teardown(void **state);

/// A test for one transport, whose name is then in *state; and for both that have a wire.
#define FAULT_OVER(fn, transport)                                                                  \
    {                                                                                              \
#fn " [" transport "]", fn, fault_setup, fault_teardown, (void *)(uintptr_t)transport      \
    }
#define FAULT_BOTH(fn) FAULT_OVER(fn, "tcp"), FAULT_OVER(fn, "ipc")
#define FAULT_ONE(fn)                                                                              \
    {                                                                                              \
#fn, fn, fault_setup, fault_teardown, NULL                                                 \
    }

/* ------------------------------------------------------------------ Memory */

/// Puts a table before the core that counts memory and can refuse it. Before the library starts.
void fault_memory_install(void);

/// The n-th allocation from now on fails (1: the next), and with `all` every one after it too; 0:
/// none fails. [any]
void fault_memory_fail(long n, bool all);

/// Whether an allocation has failed since fault_memory_fail. [any]
bool fault_memory_failed(void);

/// Bytes and blocks that the core has now. [any]
long long fault_memory_bytes(void);
long long fault_memory_blocks(void);

/* ------------------------------------------------------------------ Other processes */

/// What the test's own program does when it is started with this name.
struct fault_role {
    const char *name;
    int (*main)(int argc, char **argv); ///< argv[0] is the first argument after the name
};

/// If the program was started as a role, plays it and exits. First in main.
void fault_roles(int argc, char **argv, const struct fault_role *roles, size_t n);

/// Starts the program as a role, with up to two arguments (NULL: none).
void fault_start(struct proc *p, const char *role, const char *arg1, const char *arg2);

/// Waits for the end of it: the test fails unless the role returned 0.
void fault_finish(struct proc *p);

/// In a role: says what is not as it should be, and ends the process with 1. [any]
#define FAULT_CHECK(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fault_check_failed(#condition, __FILE__, __LINE__);                                    \
        }                                                                                          \
    } while (0)
_Noreturn void fault_check_failed(const char *what, const char *file, int line);

/// In a role: says one line to the test, and waits for one from it.
void fault_say(const char *text);
void fault_await(void);

/// Uses up all descriptors of the process (with RLIMIT_NOFILE lowered to `limit`); returns how many
/// there are to give back. -1: it could not.
int fault_fds_fill(int limit);
void fault_fds_free(int n);

/// Descriptors of this process. What was sent and arrived may still be open for a moment: wait.
int fault_fds_open(void);

/// Threads of this process, and its CPU time in ms.
int fault_threads(void);
long long fault_cpu(void);

#endif
