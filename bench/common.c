/* SPDX-License-Identifier: MIT */
/// Small things that the programs share, and the command line.
#include "ends.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint64_t bench_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

bool bench_is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

bool bench_datagrams(const struct bench_args *a)
{
    return bench_is(a->transport, "unixgram") || bench_is(a->transport, "udp") ||
           bench_is(a->transport, "rawip");
}

/// What is sent may not come.
static bool bench_loses(const struct bench_args *a)
{
    return bench_is(a->transport, "udp") || bench_is(a->transport, "rawip");
}

static unsigned bench_topics; // as in the arguments

void bench_number(void *body, uint64_t seq)
{
    if (bench_topics > 0) {
        seq = seq / bench_topics << 8 | seq % bench_topics;
    }
    memcpy(body, &seq, sizeof(seq));
}

size_t bench_topic(const struct bench_args *a, unsigned char topic[1])
{
    topic[0] = (unsigned char)(a->topics > 0 ? a->index % a->topics : 0);
    return a->topics > 0 ? 1 : 0;
}

void bench_check(const void *body, size_t len, const struct bench_args *a, uint64_t seq)
{
    uint64_t got;

    if (len != a->size) {
        bench_die("received %zu bytes, %zu were sent", len, a->size);
    }
    memcpy(&got, body, sizeof(got));
    if (got != seq && a->fan == 0 && (got < seq || !bench_loses(a))) {
        bench_die("received message %llu, %llu was next", (unsigned long long)got,
                  (unsigned long long)seq);
    }
}

/* ------------------------------------------------------------------ The command line */

static void bench_usage_text(const char *name)
{
    (void)fprintf(
        stderr,
        "Usage: %s lat|thr|fan|start|conns [--pattern pair|reqrep|pushpull|pubsub|survey]\n"
        "       [--transport inproc|ipc|tcp|unixgram|udp|rawip] [--size BYTES] [--seconds S] "
        "[--warmup S]\n"
        "       [--batch N] [--flight N] [--api buf|msg] [--pin] [--procs 1|2] [--spin US]\n"
        "       [--threads N] [--connections N] [--fan N] [--topics N] [--packing 0|1]\n",
        name);
    exit(2);
}

static void bench_parse(struct bench_args *a, int argc, char **argv)
{
    const char *api = "";

    if (argc < 2) {
        bench_usage_text(argv[0]);
    }
    a->what = argv[1];
    for (int i = 2; i < argc; i++) {
        const char *name = argv[i];
        const char *value = i + 1 < argc ? argv[i + 1] : "";

        if (bench_is(name, "--pin")) {
            a->pin = true;
            continue;
        }
        i++;
        if (i >= argc) {
            bench_usage_text(argv[0]);
        } else if (bench_is(name, "--pattern")) {
            a->pattern = value;
        } else if (bench_is(name, "--transport")) {
            a->transport = value;
        } else if (bench_is(name, "--size")) {
            a->size = strtoul(value, NULL, 10);
        } else if (bench_is(name, "--seconds")) {
            a->seconds = strtod(value, NULL);
        } else if (bench_is(name, "--warmup")) {
            a->warmup = strtod(value, NULL);
        } else if (bench_is(name, "--batch")) {
            a->batch = (unsigned)strtoul(value, NULL, 10);
        } else if (bench_is(name, "--flight")) {
            a->flight = (unsigned)strtoul(value, NULL, 10);
        } else if (bench_is(name, "--api")) {
            api = value;
        } else if (bench_is(name, "--procs")) {
            a->procs = (unsigned)strtoul(value, NULL, 10);
        } else if (bench_is(name, "--spin")) {
            a->spin = strtoll(value, NULL, 10);
        } else if (bench_is(name, "--threads")) {
            a->threads = strtoll(value, NULL, 10);
        } else if (bench_is(name, "--packing")) {
            a->packing = strtoll(value, NULL, 10);
        } else if (bench_is(name, "--connections")) {
            a->connections = (unsigned)strtoul(value, NULL, 10);
        } else if (bench_is(name, "--fan")) {
            a->fan = (unsigned)strtoul(value, NULL, 10);
        } else if (bench_is(name, "--topics")) {
            a->topics = (unsigned)strtoul(value, NULL, 10);
        } else if (bench_is(name, "--started")) {
            a->started = strtoull(value, NULL, 10);
        } else {
            bench_usage_text(argv[0]);
        }
    }
    if (a->pattern == NULL) {
        a->pattern = bench_is(a->what, "conns") ? "reqrep" : "pair";
    }
    if (a->procs == 0 || bench_is(a->transport, "inproc")) {
        a->procs = bench_is(a->transport, "inproc") || bench_is(a->what, "start") ? 1 : 2;
    }
    a->msg = api[0] != '\0' ? bench_is(api, "msg") : a->size > BENCH_SMALL_MAX || a->batch > 1;
    bench_topics = a->topics;
    if (a->fan > BENCH_FAN_MAX || a->topics > 256 || (a->fan > 0) != bench_is(a->what, "fan") ||
        a->size < sizeof(uint64_t) || a->batch == 0 || a->connections < 2) {
        bench_usage_text(argv[0]);
    }
}

static void bench_limits(const struct bench_args *a)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    if (a->pin) {
        cpu_set_t cpus;
        int last = 0;

        (void)sched_getaffinity(0, sizeof(cpus), &cpus);
        for (int i = 0; i < CPU_SETSIZE; i++) {
            last = CPU_ISSET((size_t)i, &cpus) ? i : last;
        }
        CPU_ZERO(&cpus);
        CPU_SET((size_t)last, &cpus);
        if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0) {
            bench_die("cannot pin to CPU %d: %s", last, strerror(errno));
        }
    }
    (void)alarm((unsigned)(a->seconds + a->warmup) + BENCH_WATCHDOG);
}

int bench_main(int argc, char **argv, const struct bench_lib *lib)
{
    struct bench b = {.lib = lib,
                      .a = {.transport = "inproc",
                            .size = 64,
                            .seconds = 1,
                            .warmup = 0.1,
                            .batch = 1,
                            .connections = 1000,
                            .spin = -1,
                            .threads = -1,
                            .packing = -1}};

    bench_parse(&b.a, argc, argv);
    if (bench_is(b.a.what, "start")) {
        if (b.a.started == 0) {
            bench_limits(&b.a);
        }
        bench_start(&b, argv);
        bench_end(&b);
    }
    bench_limits(&b.a);
    if (bench_is(b.a.what, "lat")) {
        bench_lat(&b);
    } else if (bench_is(b.a.what, "thr")) {
        bench_thr(&b);
    } else if (bench_is(b.a.what, "fan")) {
        bench_fan(&b);
    } else if (bench_is(b.a.what, "conns")) {
        bench_conns(&b);
    } else {
        bench_usage_text(argv[0]);
    }
    bench_end(&b);
}
