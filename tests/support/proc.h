/* SPDX-License-Identifier: MIT */
/// Other programs in tests: start them with pipes, wait for what they say or do with a deadline,
/// end them. Nothing here sleeps for a fixed time: waiting ends with the event or with the
/// deadline. Main thread of a test.
#ifndef SP_TEST_PROC_H
#define SP_TEST_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/// The deadline of whatever should take no time, ms: only a failing test waits so long.
#define PROC_SOON 15000

/// Bytes that grow; `data` has a NUL behind its end.
struct proc_bytes {
    char *data;
    size_t len;
};

struct proc {
    bool started;
    pid_t pid;                ///< 0: not running
    int in;                   ///< its standard input; -1: closed
    int out;                  ///< its standard output; -1: at its end
    int err;                  ///< its standard error; -1: at its end
    int code;                 ///< exit code, 128 + signal, -1 while it runs
    struct proc_bytes output; ///< what it wrote until now
    struct proc_bytes errors;
};

/// Starts `argv` (searched in PATH) in the same environment; of a cross build, under the emulator
/// that SP_TEST_EMULATOR names. 0, or a negative errno when it cannot be run.
int proc_start(struct proc *p, const char *const argv[]);

/// Gives it input. 0 or a negative errno.
int proc_write(struct proc *p, const void *data, size_t len);
void proc_close_input(struct proc *p);

/// Waits until it has ended and all its output is there: its exit code (128 + signal), or -1 after
/// `ms`.
int proc_wait(struct proc *p, int ms);

/// Waits until its standard output has at least `len` bytes. False: it ended or `ms` passed.
bool proc_wait_output(struct proc *p, size_t len, int ms);

/// Waits until its standard output has the text.
bool proc_wait_text(struct proc *p, const char *text, int ms);

/// … or its standard error.
bool proc_wait_error(struct proc *p, const char *text, int ms);

/// Sends a signal.
void proc_signal(const struct proc *p, int signal_number);

/// Kills it if it runs, and frees everything. A zeroed proc is allowed.
void proc_stop(struct proc *p);

/// True when PATH has such a program.
bool proc_exists(const char *program);

/* ------------------------------------------------------------------ Places */

/// A TCP port of 127.0.0.1 (and ::1) that nobody uses now.
int proc_free_port(void);

/// Waits until somebody listens on the TCP port, of whatever address; does not connect.
bool proc_wait_port(int port, int ms);

/// Waits until somebody listens on the socket file; does not connect.
bool proc_wait_path(const char *path, int ms);

/// A new empty directory; removed with all files in it by proc_rmdir, which also frees the path.
char *proc_mkdir(void);
void proc_rmdir(char *path);

/// Milliseconds of the monotonic clock.
long long proc_now(void);

#endif
