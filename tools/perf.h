/* SPDX-License-Identifier: MIT */
/// Between the files of `sp perf`.
#ifndef SP_TOOLS_PERF_H
#define SP_TOOLS_PERF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
    double seconds;
    double cpu; ///< seconds of this process
    long switches;
    float *us; ///< of each round trip; NULL: one-way
    size_t samples;
};

/// Prints what was measured over `url`, as the settings say. An exit code.
int perf_print(const struct perf_config *cfg, const char *url, struct perf_result *r);

#endif
