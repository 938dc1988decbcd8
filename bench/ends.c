/* SPDX-License-Identifier: MIT */
/// Where the two ends run. inproc runs both as threads of one process; ipc and tcp fork first, so
/// that each end has a library of its own. Nothing is shut down: the result is printed and the
/// processes end.
#include "ends.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/// The result is there: what fails from now on does so because the other process is gone.
static atomic_bool bench_over;

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

void bench_sleep(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds};

    t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
    while (nanosleep(&t, &t) < 0 && errno == EINTR) {
    }
}

void bench_thread(void *(*fn)(void *), void *arg)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, fn, arg) != 0) {
        bench_die("cannot start a thread");
    }
    (void)pthread_detach(thread);
}

/// The child's main thread: tells its usage whenever it is asked, and ends with its parent.
static _Noreturn void bench_child(struct bench *b, void *(*serve)(void *), int fd)
{
    char byte;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    bench_thread(serve, b);
    while (read(fd, &byte, 1) == 1) {
        struct bench_usage u;

        bench_usage_get(&u);
        if (write(fd, &u, sizeof(u)) != (ssize_t)sizeof(u)) {
            break;
        }
    }
    _exit(0);
}

void bench_usage_all(const struct bench *b, struct bench_usage *u)
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

static unsigned bench_free_port(int type)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sin);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 ||
        getsockname(fd, (struct sockaddr *)&sin, &len) < 0) {
        bench_die("no free port: %s", strerror(errno));
    }
    (void)close(fd);
    return ntohs(sin.sin_port);
}

void bench_choose_url(struct bench *b)
{
    const char *t = b->a.transport;
    bool udp = bench_is(t, "udp");

    if (udp || bench_is(t, "tcp")) {
        (void)snprintf(b->url, sizeof(b->url), "%s://127.0.0.1:%u", t,
                       bench_free_port(udp ? SOCK_DGRAM : SOCK_STREAM));
    } else if (bench_is(t, "ipc") || bench_is(t, "unixgram")) {
        (void)snprintf(b->path, sizeof(b->path), "/tmp/sp-bench-%d.%s", (int)getpid(), t);
        (void)snprintf(b->url, sizeof(b->url), "%s://%s", t, b->path);
    } else if (bench_is(t, "rawip")) {
        (void)snprintf(b->url, sizeof(b->url), "rawip://127.0.0.1:%d", (int)getpid() & 0xFFFF);
    } else {
        (void)snprintf(b->url, sizeof(b->url), "inproc://bench");
    }
}

void bench_begin(struct bench *b, void *(*serve)(void *))
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
            bench_child(b, serve, pair[1]);
        }
        (void)close(pair[1]);
        b->ask = pair[0];
    } else {
        bench_thread(serve, b);
    }
    // Acquire: pairs with bench_open_server.
    while (atomic_load_explicit(&b->shared->listening, memory_order_acquire) == 0) {
        bench_sleep(0.0005);
    }
}

void *bench_open_server(struct bench *b)
{
    void *end = b->lib->open(&b->a, true, b->url);

    // Release: who sees it may dial.
    atomic_store_explicit(&b->shared->listening, 1, memory_order_release);
    return end;
}

_Noreturn void bench_end(struct bench *b)
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
