/* SPDX-License-Identifier: MIT */
/// The workloads. inproc runs both ends as threads of one process; ipc and tcp fork first, so that
/// each end has a library of its own. Nothing is shut down: the result is printed and the processes
/// end.
#include "common.h"
#include "measure.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BENCH_SAMPLES_MAX ((size_t)1 << 20)
#define BENCH_WATCHDOG 60 // s beyond what is measured, then the program is taken for hung

/// Both processes see it.
struct bench_shared {
    _Atomic uint64_t received;
    char pad[56]; ///< the receiver writes the line above for each message
    atomic_int listening;
};

struct bench {
    const struct bench_lib *lib;
    struct bench_args a;
    struct bench_shared *shared;
    char url[128];
    char path[108]; ///< of ipc, to be removed
    pid_t child;    ///< 0: none
    int ask;        ///< to the child: its usage
    void *client;
};

/// The result is there: what fails from now on does so because the other process is gone.
static atomic_bool bench_over;

/* ------------------------------------------------------------------ Small things */

void bench_die(const char *fmt, ...)
{
    va_list ap;

    // Acquire: pairs with bench_end, which is about to end the process.
    while (atomic_load_explicit(&bench_over, memory_order_acquire)) {
        (void)pause();
    }
    va_start(ap, fmt);
    (void)fputs("bench: ", stderr);
    (void)vfprintf(stderr, fmt, ap);
    (void)fputc('\n', stderr);
    va_end(ap);
    _exit(1);
}

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

void bench_number(void *body, uint64_t seq)
{
    memcpy(body, &seq, sizeof(seq));
}

void bench_check(const void *body, size_t len, const struct bench_args *a, uint64_t seq)
{
    uint64_t got;

    if (len != a->size) {
        bench_die("received %zu bytes, %zu were sent", len, a->size);
    }
    memcpy(&got, body, sizeof(got));
    if (got != seq) {
        bench_die("received message %llu, %llu was next", (unsigned long long)got,
                  (unsigned long long)seq);
    }
}

static void bench_sleep(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds};

    t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
    while (nanosleep(&t, &t) < 0 && errno == EINTR) {
    }
}

static void bench_thread(void *(*fn)(void *), struct bench *b)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, fn, b) != 0) {
        bench_die("cannot start a thread");
    }
    (void)pthread_detach(thread);
}

/* ------------------------------------------------------------------ Two ends */

/// The server's thread: receives, or answers, for ever.
static void *bench_serve(void *arg)
{
    struct bench *b = arg;
    void *end = b->lib->open(&b->a, true, b->url);
    bool answer = bench_is(b->a.what, "lat");
    uint64_t seq = 0;

    // Release: who sees it may dial.
    atomic_store_explicit(&b->shared->listening, 1, memory_order_release);
    if (bench_is(b->a.what, "conns")) {
        return NULL;
    }
    if (!answer && b->a.flight > 0 && b->lib->flood != NULL) {
        b->lib->flood(end, false, &b->shared->received);
        return NULL;
    }
    for (;;) {
        unsigned n = b->lib->recv(end, seq);

        if (answer) {
            (void)b->lib->send(end, seq);
        }
        seq += n;
        atomic_store_explicit(&b->shared->received, seq, memory_order_relaxed);
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
    }
}

/// The child's main thread: tells its usage whenever it is asked, and ends with its parent.
static _Noreturn void bench_child(struct bench *b, int fd)
{
    char byte;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    bench_thread(bench_serve, b);
    while (read(fd, &byte, 1) == 1) {
        struct bench_usage u;

        bench_usage_get(&u);
        if (write(fd, &u, sizeof(u)) != (ssize_t)sizeof(u)) {
            break;
        }
    }
    _exit(0);
}

/// The usage of both processes.
static void bench_usage_all(const struct bench *b, struct bench_usage *u)
{
    struct bench_usage other;

    bench_usage_get(u);
    if (b->child == 0) {
        return;
    }
    if (write(b->ask, "?", 1) != 1 || read(b->ask, &other, sizeof(other)) != sizeof(other)) {
        bench_die("the other process is gone");
    }
    bench_usage_add(u, &other);
}

static unsigned bench_free_port(void)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 ||
        getsockname(fd, (struct sockaddr *)&sin, &len) < 0) {
        bench_die("no free port: %s", strerror(errno));
    }
    (void)close(fd);
    return ntohs(sin.sin_port);
}

static void bench_choose_url(struct bench *b)
{
    if (bench_is(b->a.transport, "tcp")) {
        (void)snprintf(b->url, sizeof(b->url), "tcp://127.0.0.1:%u", bench_free_port());
    } else if (bench_is(b->a.transport, "ipc")) {
        (void)snprintf(b->path, sizeof(b->path), "/tmp/sp-bench-%d.ipc", (int)getpid());
        (void)snprintf(b->url, sizeof(b->url), "ipc://%s", b->path);
    } else {
        (void)snprintf(b->url, sizeof(b->url), "inproc://bench");
    }
}

/// Starts the server, in a thread or in a process of its own, and opens the client.
static void bench_begin(struct bench *b)
{
    int pair[2] = {-1, -1};

    b->shared = mmap(NULL, sizeof(*b->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                     -1, 0);
    if (b->shared == MAP_FAILED) {
        bench_die("mmap: %s", strerror(errno));
    }
    bench_choose_url(b);
    if (b->a.procs == 2) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
            bench_die("socketpair: %s", strerror(errno));
        }
        b->child = fork();
        if (b->child == 0) {
            (void)close(pair[0]);
            (void)alarm((unsigned)(b->a.seconds + b->a.warmup) + BENCH_WATCHDOG);
            bench_child(b, pair[1]);
        }
        (void)close(pair[1]);
        b->ask = pair[0];
    } else {
        bench_thread(bench_serve, b);
    }
    // Acquire: pairs with bench_serve.
    while (atomic_load_explicit(&b->shared->listening, memory_order_acquire) == 0) {
        bench_sleep(0.0005);
    }
    b->client = b->lib->open(&b->a, false, b->url);
}

static _Noreturn void bench_end(struct bench *b)
{
    (void)fflush(stdout);
    atomic_store_explicit(&bench_over, true, memory_order_release);
    if (b->child > 0) {
        (void)kill(b->child, SIGKILL);
        (void)waitpid(b->child, NULL, 0);
    }
    if (b->path[0] != '\0') {
        (void)unlink(b->path);
    }
    _exit(0);
}

/* ------------------------------------------------------------------ The workloads */

static void bench_print_head(const struct bench *b)
{
    (void)printf("{\"lib\":\"%s\",\"what\":\"%s\",\"pattern\":\"%s\",\"transport\":\"%s\","
                 "\"size\":%zu,\"batch\":%u,\"flight\":%u,\"api\":\"%s\",\"pin\":%s,"
                 "\"procs\":%u,\"spin\":%lld,\"threads\":%lld",
                 b->lib->name, b->a.what, b->a.pattern, b->a.transport, b->a.size, b->a.batch,
                 b->a.flight, b->a.msg ? "msg" : "buf", b->a.pin ? "true" : "false", b->a.procs,
                 (long long)b->a.spin, (long long)b->a.threads);
}

static void bench_print_usage(const struct bench_usage *from, const struct bench_usage *to,
                              double messages)
{
    (void)printf(",\"cpu_us\":%.4f,\"user_us\":%.4f,\"switches\":%.5f,\"preempted\":%.5f",
                 (to->user + to->sys - from->user - from->sys) * 1e6 / messages,
                 (to->user - from->user) * 1e6 / messages,
                 (to->voluntary - from->voluntary) / messages,
                 (to->involuntary - from->involuntary) / messages);
}

/// Round trips, each timed; a clock reading apart from the next one.
static void bench_lat(struct bench *b)
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
    bench_begin(b);
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
static void bench_thr(struct bench *b)
{
    struct bench_usage from;
    struct bench_usage to;
    uint64_t first;
    uint64_t begin;
    double n;
    double seconds;

    bench_begin(b);
    bench_thread(bench_pour, b);
    bench_sleep(b->a.warmup);
    bench_usage_all(b, &from);
    first = atomic_load_explicit(&b->shared->received, memory_order_relaxed);
    begin = bench_now();
    bench_sleep(b->a.seconds);
    bench_usage_all(b, &to);
    n = (double)(atomic_load_explicit(&b->shared->received, memory_order_relaxed) - first);
    seconds = (double)(bench_now() - begin) / 1e9;
    if (n < 1) {
        bench_die("nothing was received in %.2f s", seconds);
    }
    bench_print_head(b);
    (void)printf(",\"n\":%.0f,\"seconds\":%.4f,\"rate\":%.1f,\"mb_s\":%.1f", n, seconds,
                 n / seconds, n / seconds * (double)b->a.size / 1e6);
    bench_print_usage(&from, &to, n);
    (void)puts("}");
}

/// From exec to the first message received, both ends on one thread.
static void bench_start(struct bench *b, char **argv)
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
static void bench_conns(struct bench *b)
{
    pid_t pids[2];
    long fds[2];
    long kib[2];
    unsigned more = b->a.connections - 1;
    uint64_t begin;
    uint64_t end;

    bench_begin(b);
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

/* ------------------------------------------------------------------ The command line */

static void bench_usage_text(const char *name)
{
    (void)fprintf(
        stderr,
        "Usage: %s lat|thr|start|conns [--pattern pair|reqrep|pushpull]\n"
        "       [--transport inproc|ipc|tcp] [--size BYTES] [--seconds S] [--warmup S]\n"
        "       [--batch N] [--flight N] [--api buf|msg] [--pin] [--procs 1|2] [--spin US]\n"
        "       [--threads N] [--connections N]\n",
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
        } else if (bench_is(name, "--connections")) {
            a->connections = (unsigned)strtoul(value, NULL, 10);
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
    if (a->size < sizeof(uint64_t) || a->batch == 0 || a->connections < 2) {
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
                            .threads = -1}};

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
    } else if (bench_is(b.a.what, "conns")) {
        bench_conns(&b);
    } else {
        bench_usage_text(argv[0]);
    }
    bench_end(&b);
}
