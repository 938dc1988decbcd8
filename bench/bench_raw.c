/* SPDX-License-Identifier: MIT */
/// The floor: what the system does without any library. Round trips: a futex hand-off between two
/// threads (--spin 1: spinning instead), or blocking stream sockets. One-way: a ring between two
/// threads, or framed messages gathered into writes of 64 KiB (--flight 1: a write for each message
/// instead) and read into a buffer of that size; datagrams: raw_dgram.h. Start: two plugins of the
/// project loaded by dlopen.
#include "raw_dgram.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define GATHER ((size_t)65536)
#define RING 1024 // slots, a power of two
#define SPINS 4096

struct end {
    const struct bench_args *a;
    bool server;
    int fd;
    int listener;
    uint64_t at;  ///< of the ring
    uint64_t far; ///< the other side's, as last seen
    size_t have;  ///< bytes gathered, or read and not looked at
    size_t next;  ///< where the reader looks next
    char *buf;    ///< GATHER bytes
    char *body;
    struct raw_dgram *dgram; ///< NULL: a stream, or threads
};

struct slot {
    _Alignas(64) uint64_t seq;
    char body[56];
};

/// inproc: a word each way, each on its own cache line, and the ring.
static struct {
    _Alignas(64) _Atomic uint32_t word[2][16];
    _Alignas(64) _Atomic uint64_t head; ///< written by the sender
    _Alignas(64) _Atomic uint64_t tail; ///< written by the receiver
    struct slot slots[RING];
} hub;

static void raw_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* ------------------------------------------------------------------ Threads */

/// Hands the word over: release, the other side acquires.
static void word_set(struct end *e, uint32_t value)
{
    _Atomic uint32_t *w = &hub.word[e->server][0];

    atomic_store_explicit(w, value, memory_order_release);
    if (e->a->spin <= 0) {
        (void)syscall(SYS_futex, w, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void word_wait(struct end *e, uint32_t value)
{
    _Atomic uint32_t *w = &hub.word[!e->server][0];
    uint32_t now;

    while ((now = atomic_load_explicit(w, memory_order_acquire)) != value) {
        if (e->a->spin <= 0) {
            (void)syscall(SYS_futex, w, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
        } else {
            raw_pause();
        }
    }
}

static void ring_wait(unsigned *spins)
{
    if (++*spins % SPINS == 0) {
        (void)sched_yield();
    }
    raw_pause();
}

static void ring_push(struct end *e, uint64_t seq)
{
    unsigned spins = 0;

    while (e->at - e->far == RING) {
        e->far = atomic_load_explicit(&hub.tail, memory_order_acquire);
        if (e->at - e->far == RING) {
            ring_wait(&spins);
        }
    }
    hub.slots[e->at % RING].seq = seq;
    e->at++;
    atomic_store_explicit(&hub.head, e->at, memory_order_release);
}

static void ring_pop(struct end *e, uint64_t seq)
{
    unsigned spins = 0;

    while (e->at == e->far) {
        e->far = atomic_load_explicit(&hub.head, memory_order_acquire);
        if (e->at == e->far) {
            ring_wait(&spins);
        }
    }
    if (hub.slots[e->at % RING].seq != seq) {
        bench_die("the ring is broken");
    }
    e->at++;
    atomic_store_explicit(&hub.tail, e->at, memory_order_release);
}

/* ------------------------------------------------------------------ Streams */

/// The server accepts with its first use.
static void stream_ready(struct end *e)
{
    int on = 1;

    if (e->fd < 0) {
        e->fd = accept(e->listener, NULL, NULL);
    }
    if (e->fd < 0) {
        bench_die("accept: %s", strerror(errno));
    }
    (void)setsockopt(e->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static void stream_open(struct end *e, const char *url)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    bool tcp = bench_is(e->a->transport, "tcp");
    struct sockaddr *addr = tcp ? (struct sockaddr *)&in : (struct sockaddr *)&un;
    socklen_t len = tcp ? sizeof(in) : sizeof(un);
    int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    e->fd = -1;
    if (tcp) {
        in.sin_port = htons((uint16_t)strtoul(strrchr(url, ':') + 1, NULL, 10));
    } else {
        (void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", url + strlen("ipc://"));
    }
    if (fd < 0) {
        bench_die("socket: %s", strerror(errno));
    }
    if (!e->server) {
        if (connect(fd, addr, len) < 0) {
            bench_die("connect: %s", strerror(errno));
        }
        e->fd = fd;
        stream_ready(e);
    } else if (bind(fd, addr, len) < 0 || listen(fd, 16) < 0) {
        bench_die("bind: %s", strerror(errno));
    }
    e->listener = fd;
}

static void stream_write(struct end *e, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = send(e->fd, p, n, MSG_NOSIGNAL);

        if (done < 0) {
            bench_die("send: %s", strerror(errno));
        }
        p += done;
        n -= (size_t)done;
    }
}

static size_t stream_read(struct end *e, char *p, size_t n)
{
    ssize_t done = recv(e->fd, p, n, 0);

    if (done <= 0) {
        bench_die("receive: %s", done == 0 ? "end of file" : strerror(errno));
    }
    return (size_t)done;
}

/// Appends to what is gathered, and writes that when it is full.
static void gather(struct end *e, const char *p, size_t n)
{
    while (n > 0) {
        size_t part = n < GATHER - e->have ? n : GATHER - e->have;

        memcpy(e->buf + e->have, p, part);
        e->have += part;
        p += part;
        n -= part;
        if (e->have == GATHER) {
            stream_write(e, e->buf, GATHER);
            e->have = 0;
        }
    }
}

/// Takes bytes from what was read; a part of `n`, at least 1. NULL `p`: drops them.
static size_t scatter(struct end *e, char *p, size_t n)
{
    if (e->next == e->have) {
        e->have = stream_read(e, e->buf, GATHER);
        e->next = 0;
    }
    if (n > e->have - e->next) {
        n = e->have - e->next;
    }
    if (p != NULL) {
        memcpy(p, e->buf + e->next, n);
    }
    e->next += n;
    return n;
}

static void frame_write(struct end *e, uint64_t seq)
{
    uint64_t head[2] = {e->a->size, seq};

    gather(e, (char *)head, sizeof(head));
    gather(e, e->body, e->a->size - sizeof(seq));
    if (e->a->flight == 1 || bench_is(e->a->what, "start")) {
        stream_write(e, e->buf, e->have);
        e->have = 0;
    }
}

static void frame_read(struct end *e, uint64_t seq)
{
    uint64_t head[2];

    for (size_t n = 0; n < sizeof(head);) {
        n += scatter(e, (char *)head + n, sizeof(head) - n);
    }
    bench_check(&head[1], head[0], e->a, seq);
    for (size_t n = e->a->size - sizeof(seq); n > 0;) {
        n -= scatter(e, NULL, n);
    }
}

/* ------------------------------------------------------------------ Start */

/// Opens the plugin `name` of the build tree around this program, and asks for its descriptor.
static void plugin_open(const char *folder, const char *name)
{
    char exe[PATH_MAX];
    char path[PATH_MAX + 256];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    const void *(*entry)(void) = NULL;
    void *handle;
    void *symbol;

    exe[n > 0 ? n : 0] = '\0';
    (void)snprintf(path, sizeof(path), "%.*s/../%s/%s.so",
                   (int)(strrchr(exe, '/') != NULL ? strrchr(exe, '/') - exe : 0), exe, folder,
                   name);
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    symbol = handle != NULL ? dlsym(handle, "sp_plugin_entry_v1") : NULL;
    if (symbol == NULL) {
        bench_die("%s", dlerror());
    }
    memcpy(&entry, &symbol, sizeof(entry));
    if (entry() == NULL) {
        bench_die("%s: no descriptor", path);
    }
}

/* ------------------------------------------------------------------ The table */

static void *end_open(const struct bench_args *a, bool server, const char *url)
{
    struct end *e = calloc(1, sizeof(*e));

    if (e == NULL || (e->body = calloc(1, a->size)) == NULL || (e->buf = malloc(GATHER)) == NULL) {
        bench_die("no memory");
    }
    e->a = a;
    e->server = server;
    if (bench_is(a->what, "start")) {
        plugin_open(server ? "plugins" : "transports", server ? "pair" : a->transport);
    }
    if (bench_datagrams(a)) {
        e->dgram = raw_dgram_open(a, server, url);
    } else if (!bench_is(a->transport, "inproc")) {
        stream_open(e, url);
    }
    return e;
}

static unsigned end_send(void *end, uint64_t seq)
{
    struct end *e = end;
    bool lat = bench_is(e->a->what, "lat");

    if (e->dgram != NULL) {
        return raw_dgram_send(e->dgram, seq);
    }
    if (bench_is(e->a->transport, "inproc")) {
        if (lat) {
            word_set(e, (uint32_t)seq + 1);
        } else {
            ring_push(e, seq);
        }
        return 1;
    }
    if (lat) {
        bench_number(e->body, seq);
        stream_write(e, e->body, e->a->size);
    } else {
        frame_write(e, seq);
    }
    return 1;
}

static unsigned end_recv(void *end, uint64_t seq)
{
    struct end *e = end;
    bool lat = bench_is(e->a->what, "lat");

    if (e->dgram != NULL) {
        return raw_dgram_recv(e->dgram, seq);
    }
    if (bench_is(e->a->transport, "inproc")) {
        if (lat) {
            word_wait(e, (uint32_t)seq + 1);
        } else {
            ring_pop(e, seq);
        }
        return 1;
    }
    if (e->fd < 0) {
        stream_ready(e);
    }
    if (lat) {
        for (size_t n = 0; n < e->a->size;) {
            n += stream_read(e, e->body + n, e->a->size - n);
        }
        bench_check(e->body, e->a->size, e->a, seq);
    } else {
        frame_read(e, seq);
    }
    return 1;
}

int main(int argc, char **argv)
{
    static const struct bench_lib lib = {
        .name = "raw", .open = end_open, .send = end_send, .recv = end_recv};

    return bench_main(argc, argv, &lib);
}
