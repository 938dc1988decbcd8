/* SPDX-License-Identifier: MIT */
/// getrusage, /proc and quantiles.
#include "measure.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

void bench_usage_get(struct bench_usage *u)
{
    struct rusage r;

    (void)getrusage(RUSAGE_SELF, &r);
    u->user = (double)r.ru_utime.tv_sec + (double)r.ru_utime.tv_usec / 1e6;
    u->sys = (double)r.ru_stime.tv_sec + (double)r.ru_stime.tv_usec / 1e6;
    u->voluntary = (double)r.ru_nvcsw;
    u->involuntary = (double)r.ru_nivcsw;
}

void bench_usage_add(struct bench_usage *u, const struct bench_usage *other)
{
    u->user += other->user;
    u->sys += other->sys;
    u->voluntary += other->voluntary;
    u->involuntary += other->involuntary;
}

long bench_status(pid_t pid, const char *name)
{
    char line[256];
    long value = -1;
    FILE *f;

    (void)snprintf(line, sizeof(line), "/proc/%d/status", (int)pid);
    f = fopen(line, "re");
    if (f == NULL) {
        return -1;
    }
    while (value < 0 && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            value = strtol(line + strlen(name), NULL, 10);
        }
    }
    (void)fclose(f);
    return value;
}

long bench_fds(pid_t pid)
{
    char path[64];
    long n = 0;
    DIR *dir;

    (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    if (dir == NULL) {
        return -1;
    }
    while (readdir(dir) != NULL) {
        n++;
    }
    (void)closedir(dir);
    return n;
}

static int measure_compare(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return (x > y) - (x < y);
}

void bench_print_times(float *us, size_t n, double seconds)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += (double)us[i];
    }
    qsort(us, n, sizeof(*us), measure_compare);
    (void)printf(",\"n\":%zu,\"seconds\":%.4f,\"rate\":%.1f,\"median_us\":%.3f,\"p99_us\":%.3f,"
                 "\"min_us\":%.3f,\"mean_us\":%.3f",
                 n, seconds, (double)n / seconds, (double)us[n / 2], (double)us[n * 99 / 100],
                 (double)us[0], sum / (double)n);
}
