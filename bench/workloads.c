/* SPDX-License-Identifier: MIT */
/// The workloads of two ends: round trips, a one-way stream, the start, many connections.
#include "ends.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BENCH_SAMPLES_MAX ((size_t)1 << 20)

/// The server's thread: receives, or answers, for ever.
static void *bench_serve(void *arg)
{
    struct bench *b = arg;
    void *end = bench_open_server(b);
    bool answer = bench_is(b->a.what, "lat");
    uint64_t seq = 0;

    if (bench_is(b->a.what, "conns")) {
        return NULL;
    }
    if (!answer && b->a.flight > 0 && b->lib->flood != NULL) {
        b->lib->flood(end, false, &b->shared->received.n);
        return NULL;
    }
    for (;;) {
        unsigned n = b->lib->recv(end, seq);

        if (answer) {
            (void)b->lib->send(end, seq);
        }
        seq += n;
        atomic_store_explicit(&b->shared->received.n, seq, memory_order_relaxed);
    }
}

/// The thread that sends one-way, for ever.
static void *bench_pour(void *arg)
{
    struct bench *b = arg;
    _Atomic uint64_t unused = 0;
    uint64_t seq = 0;

    if (b->a.flight > 0 && b->lib->flood != NULL) {
        b->lib->flood(b->client, true, &unused);
        return NULL;
    }
    for (;;) {
        seq += b->lib->send(b->client, seq);
        atomic_store_explicit(&b->shared->sent.n, seq, memory_order_relaxed);
    }
}

void bench_print_head(const struct bench *b)
{
    (void)printf("{\"lib\":\"%s\",\"what\":\"%s\",\"pattern\":\"%s\",\"transport\":\"%s\","
                 "\"size\":%zu,\"batch\":%u,\"flight\":%u,\"api\":\"%s\",\"pin\":%s,"
                 "\"procs\":%u,\"spin\":%lld,\"threads\":%lld",
                 b->lib->name, b->a.what, b->a.pattern, b->a.transport, b->a.size, b->a.batch,
                 b->a.flight, b->a.msg ? "msg" : "buf", b->a.pin ? "true" : "false", b->a.procs,
                 (long long)b->a.spin, (long long)b->a.threads);
}

void bench_print_usage(const struct bench_usage *from, const struct bench_usage *to,
                       double messages)
{
    (void)printf(",\"cpu_us\":%.4f,\"user_us\":%.4f,\"switches\":%.5f,\"preempted\":%.5f",
                 (to->user + to->sys - from->user - from->sys) * 1e6 / messages,
                 (to->user - from->user) * 1e6 / messages,
                 (to->voluntary - from->voluntary) / messages,
                 (to->involuntary - from->involuntary) / messages);
}

/// Round trips, each timed; a clock reading apart from the next one.
void bench_lat(struct bench *b)
{
    float *us = malloc(BENCH_SAMPLES_MAX * sizeof(*us));
    struct bench_usage from;
    struct bench_usage to;
    uint64_t end;
    uint64_t then;
    uint64_t begin;
    uint64_t seq = 0;
    size_t n = 0;

    if (us == NULL) {
        bench_die("no memory");
    }
    memset(us, 0, BENCH_SAMPLES_MAX * sizeof(*us));
    bench_begin(b, bench_serve);
    b->client = b->lib->open(&b->a, false, b->url);
    end = bench_now() + (uint64_t)(b->a.warmup * 1e9);
    while (seq < 16 || bench_now() < end) {
        (void)b->lib->send(b->client, seq);
        (void)b->lib->recv(b->client, seq++);
    }
    bench_usage_all(b, &from);
    begin = then = bench_now();
    end = begin + (uint64_t)(b->a.seconds * 1e9);
    while (n < BENCH_SAMPLES_MAX && then < end) {
        uint64_t now;

        (void)b->lib->send(b->client, seq);
        (void)b->lib->recv(b->client, seq++);
        now = bench_now();
        us[n++] = (float)(now - then) / 1000;
        then = now;
    }
    bench_usage_all(b, &to);
    bench_print_head(b);
    bench_print_times(us, n, (double)(then - begin) / 1e9);
    bench_print_usage(&from, &to, (double)n);
    (void)puts("}");
}

/// One-way: the main thread looks at the receiver's count twice, and sleeps in between.
void bench_thr(struct bench *b)
{
    struct bench_usage from;
    struct bench_usage to;
    uint64_t first;
    uint64_t begin;
    uint64_t sent;
    double n;
    double seconds;

    bench_begin(b, bench_serve);
    b->client = b->lib->open(&b->a, false, b->url);
    bench_thread(bench_pour, b);
    bench_sleep(b->a.warmup);
    bench_usage_all(b, &from);
    first = atomic_load_explicit(&b->shared->received.n, memory_order_relaxed);
    sent = atomic_load_explicit(&b->shared->sent.n, memory_order_relaxed);
    begin = bench_now();
    bench_sleep(b->a.seconds);
    bench_usage_all(b, &to);
    sent = atomic_load_explicit(&b->shared->sent.n, memory_order_relaxed) - sent;
    n = (double)(atomic_load_explicit(&b->shared->received.n, memory_order_relaxed) - first);
    seconds = (double)(bench_now() - begin) / 1e9;
    if (n < 1) {
        bench_die("nothing was received in %.2f s", seconds);
    }
    bench_print_head(b);
    (void)printf(",\"n\":%.0f,\"seconds\":%.4f,\"rate\":%.1f,\"mb_s\":%.1f", n, seconds,
                 n / seconds, n / seconds * (double)b->a.size / 1e6);
    if (bench_datagrams(&b->a)) {
        (void)printf(",\"sent_rate\":%.1f", (double)sent / seconds);
    }
    bench_print_usage(&from, &to, n);
    (void)puts("}");
}

/// From exec to the first message received, both ends on one thread.
void bench_start(struct bench *b, char **argv)
{
    uint64_t begin = bench_now();
    uint64_t end;
    void *server;

    if (b->a.started == 0) {
        char option[] = "--started";
        char text[32];
        char *args[64];
        int n = 0;

        for (; argv[n] != NULL && n < 60; n++) {
            args[n] = argv[n];
        }
        args[n++] = option;
        args[n++] = text;
        args[n] = NULL;
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)bench_now());
        (void)execv("/proc/self/exe", args);
        bench_die("exec: %s", strerror(errno));
    }
    bench_choose_url(b);
    server = b->lib->open(&b->a, true, b->url);
    b->client = b->lib->open(&b->a, false, b->url);
    (void)b->lib->send(b->client, 0);
    (void)b->lib->recv(server, 0);
    end = bench_now();
    bench_print_head(b);
    (void)printf(",\"exec_us\":%.1f,\"main_us\":%.1f,\"threads_running\":%ld}\n",
                 (double)(end - b->a.started) / 1000, (double)(end - begin) / 1000,
                 bench_status(getpid(), "Threads:"));
}

/// Many connections of one socket to one socket of another process.
void bench_conns(struct bench *b)
{
    pid_t pids[2];
    long fds[2];
    long kib[2];
    unsigned more = b->a.connections - 1;
    uint64_t begin;
    uint64_t end;

    bench_begin(b, bench_serve);
    b->client = b->lib->open(&b->a, false, b->url);
    pids[0] = getpid();
    pids[1] = b->child;
    bench_sleep(0.2);
    for (int i = 0; i < 2; i++) {
        fds[i] = bench_fds(pids[i]);
        kib[i] = bench_status(pids[i], "RssAnon:");
    }
    begin = bench_now();
    for (unsigned i = 0; i < more; i++) {
        b->lib->dial(b->client, b->url);
    }
    // Sockets that connect in the background: until both ends have all of them.
    while (bench_fds(pids[0]) - fds[0] < (long)more || bench_fds(pids[1]) - fds[1] < (long)more) {
        bench_sleep(0.001);
    }
    end = bench_now();
    bench_sleep(0.5);
    bench_print_head(b);
    (void)printf(",\"connections\":%u,\"ms\":%.1f,\"us_each\":%.1f", b->a.connections,
                 (double)(end - begin) / 1e6, (double)(end - begin) / 1e3 / more);
    for (int i = 0; i < 2; i++) {
        const char *side = i == 0 ? "dialer" : "listener";

        (void)printf(",\"%s_bytes\":%.0f,\"%s_fds\":%.3f,\"%s_threads\":%ld", side,
                     (double)(bench_status(pids[i], "RssAnon:") - kib[i]) * 1024 / more, side,
                     (double)(bench_fds(pids[i]) - fds[i]) / more, side,
                     bench_status(pids[i], "Threads:") - 1);
    }
    (void)puts("}");
}
