/* SPDX-License-Identifier: MIT */
/// The two ends of a measurement: where they run, and what the workloads need to know of them.
#ifndef SP_BENCH_ENDS_H
#define SP_BENCH_ENDS_H

#include "common.h"
#include "measure.h"

#include <sys/types.h>

/// Ends of a fan: enough for 1,000 and some.
#define BENCH_FAN_MAX 1024

#define BENCH_WATCHDOG 60 ///< s beyond what is measured, then the program is taken for hung

/// A count that one thread writes; on a cache line of its own.
struct bench_count {
    _Atomic uint64_t n;
    char pad[56];
};

/// Both processes see it.
struct bench_shared {
    struct bench_count received; ///< of the one end
    struct bench_count sent;     ///< one-way
    atomic_int listening;
    atomic_int go;                          ///< every end of a fan is there
    struct bench_count each[BENCH_FAN_MAX]; ///< received by the ends of a fan
};

struct bench {
    const struct bench_lib *lib;
    struct bench_args a;
    struct bench_shared *shared;
    char url[128];
    char path[108]; ///< of ipc or unixgram, to be removed
    pid_t child;    ///< 0: none
    int ask;        ///< to the child: its usage
    void *client;
};

void bench_sleep(double seconds);
/// Starts a thread that nobody joins.
void bench_thread(void *(*fn)(void *), void *arg);
void bench_choose_url(struct bench *b);
/// Starts the server, in a thread or in a process of its own, and waits until it listens. `serve`
/// gets the bench; its end is opened by bench_open_server.
void bench_begin(struct bench *b, void *(*serve)(void *));
void *bench_open_server(struct bench *b);
/// The usage of both processes.
void bench_usage_all(const struct bench *b, struct bench_usage *u);
/// The result is printed: ends the process, and the other one.
_Noreturn void bench_end(struct bench *b);

/// The first and the last members of a result.
void bench_print_head(const struct bench *b);
void bench_print_usage(const struct bench_usage *from, const struct bench_usage *to,
                       double messages);

/// The workloads; what they print is the result without its end.
void bench_lat(struct bench *b);
void bench_thr(struct bench *b);
void bench_start(struct bench *b, char **argv);
void bench_conns(struct bench *b);
/// Many ends at one: PUB, PUSH to one PULL, SURVEY (fan.c).
void bench_fan(struct bench *b);

#endif
