/* SPDX-License-Identifier: MIT */
/// Between the files of `sp perf`.
#ifndef SP_TOOLS_PERF_H
#define SP_TOOLS_PERF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sp/sp.h>

#define PERF_BATCH_MAX 1024
#define PERF_TIMEOUT 10000 // ms that the measuring end waits for the other one
#define PERF_IDLE 5000     // ms without a message after which a mute server has counted all

#define PERF_BEGIN "sp perf begin 2"
#define PERF_END "sp perf end 2"
#define PERF_REPORT "sp perf report 2"

/// The first message of a measurement, and the answer to it; with the other magic the last one of a
/// one-way measurement, answered by a perf_report. Both ends are this program, but perhaps on
/// different machines: numbers are text.
struct perf_hello {
    char magic[16];
    char what[16]; ///< "lat", "thr" (counts, one-way) or "ask" (short replies)
    char count[16];
    char batch[16];
};

/// What the end that listens counted.
struct perf_report {
    char magic[24];
    char received[24];
    char ns[24]; ///< from the first message to the last
};

struct perf_config {
    bool thr;
    bool json;
    const char *protocol; ///< one of perf_patterns
    const char *url;
    const char *listen;
    const char *dial;
    int64_t size;
    int64_t count;
    int64_t batch;
};

struct perf_result {
    int64_t received; ///< of a one-way measurement, of perf_config.count
    double seconds;
    double cpu; ///< seconds of this process
    long switches;
    float *us; ///< of each round trip; NULL: one-way
    size_t samples;
};

/// The end that listens.
struct perf_server {
    sp_socket socket;
    bool mute;              ///< it prints what it measured, or leaves it in `result`
    struct perf_config cfg; ///< count, batch and size: of what it measures
    char url[256];
    struct perf_result result;
    bool one_way;
    bool short_reply;
    uint64_t arrived; ///< when the last call returned that received, in a one-way measurement
    uint64_t begin;
    uint64_t last;
};

/// Serves until the socket is closed; a mute one that prints nothing, one measurement. `arg` is the
/// perf_server.
void *perf_serve(void *arg);

/// Nanoseconds of the monotonic clock.
uint64_t perf_now(void);

/// Adds what this process used until now, times `sign`.
void perf_usage(struct perf_result *r, int sign);

/// Prints what was measured over `url`, as the settings say. An exit code.
int perf_print(const struct perf_config *cfg, const char *url, struct perf_result *r);

#endif
