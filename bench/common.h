/* SPDX-License-Identifier: MIT */
/// What the bench programs share: one program a library, one measurement an invocation, one line of
/// JSON as its result. A program gives a table of how its library opens, sends and receives; the
/// workload, the clock and the accounting stand here, so they are the same for all.
#ifndef SP_BENCH_COMMON_H
#define SP_BENCH_COMMON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Where small messages end: from here on a program uses its library's messages instead of buffers
/// (unless --api says otherwise).
#define BENCH_SMALL_MAX 4095

/// The command line.
struct bench_args {
    const char *what;      ///< "lat" "thr" "fan" "start" "conns"
    const char *pattern;   ///< "pair" "reqrep" "pushpull", of "fan" also "pubsub" "survey"
    const char *transport; ///< "inproc" "ipc" "tcp" "unixgram" "udp" "rawip"
    size_t size;           ///< of a message, bytes; 8 and more
    double seconds;        ///< that are measured
    double warmup;         ///< seconds before
    unsigned batch;        ///< messages a call; 1: the plain call
    unsigned flight;       ///< operations in flight; 0: blocking calls
    unsigned connections;  ///< of "conns"
    unsigned fan;          ///< ends at the one end, of "fan"
    unsigned index;        ///< … which of them
    unsigned topics;       ///< of "pubsub"; 0: everybody wants everything
    unsigned procs;        ///< 1 or 2
    bool msg;              ///< by the library's messages; false: by buffers
    bool pin;              ///< everything on one CPU
    int64_t spin;          ///< the library's spinning, µs; -1: its default
    int64_t threads;       ///< of the library; -1: its default
    int64_t packing;       ///< of the library's datagrams; -1: its default
    uint64_t started;      ///< ns, when "start" began; 0: not yet
};

/// A library. Every function ends the program when something fails (bench_die).
struct bench_lib {
    const char *name;
    /// Opens an end: the server listens and, one-way, receives; the client dials. Of "pubsub" and
    /// "survey" the server publishes or asks.
    void *(*open)(const struct bench_args *a, bool server, const char *url);
    /// Sends messages that are numbered from `seq` on. Returns how many.
    unsigned (*send)(void *end, uint64_t seq);
    /// Receives messages and checks that they are numbered from `seq` on. Returns how many.
    unsigned (*recv)(void *end, uint64_t seq);
    /// One connection more.
    void (*dial)(void *end, const char *url);
    /// With operations in flight: sends or receives for ever, adding up in `count`. Of "reqrep" the
    /// client keeps so many requests in flight, and the server answers. May be NULL.
    void (*flood)(void *end, bool sender, _Atomic uint64_t *count);
};

/// Runs what the command line asks for. Returns main's result.
int bench_main(int argc, char **argv, const struct bench_lib *lib);

/// Ends the program with a line on standard error.
__attribute__((noreturn, format(printf, 1, 2))) void bench_die(const char *fmt, ...);

/// Nanoseconds of the monotonic clock.
uint64_t bench_now(void);

/// Are two names the same?
bool bench_is(const char *a, const char *b);

/// Is it a transport of datagrams?
bool bench_datagrams(const struct bench_args *a);

/// The number of a message, in its first 8 bytes; with topics the first byte is the topic. check:
/// ends the program if it is another one (unless many send; higher is right where the way may lose
/// some) or the length is wrong.
void bench_number(void *body, uint64_t seq);
void bench_check(const void *body, size_t len, const struct bench_args *a, uint64_t seq);

/// The topic that an end of a fan wants: how many bytes of `topic` (0: everything).
size_t bench_topic(const struct bench_args *a, unsigned char topic[1]);

#endif
