/* SPDX-License-Identifier: MIT */
/// What the system says about processes, and times as figures. [any thread]
#ifndef SP_BENCH_MEASURE_H
#define SP_BENCH_MEASURE_H

#include <stddef.h>
#include <sys/types.h>

/// What a process has used: seconds, and context switches by its own wish and not.
struct bench_usage {
    double user;
    double sys;
    double voluntary;
    double involuntary;
};

void bench_usage_get(struct bench_usage *u);
void bench_usage_add(struct bench_usage *u, const struct bench_usage *other);

/// A number of /proc/PID/status, by its name with the colon; memory is in KiB. -1: not there.
long bench_status(pid_t pid, const char *name);
/// How many descriptors a process has open; -1: not there.
long bench_fds(pid_t pid);

/// Prints members of JSON: count, seconds, rate, and median, p99, least and mean of the times (µs),
/// which are sorted.
void bench_print_times(float *us, size_t n, double seconds);

#endif
