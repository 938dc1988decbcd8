/* SPDX-License-Identifier: MIT */
/// Hand-made peers. See fault_peer.h.
#include "fault_peer.h"

#include "proc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HELLO_LEN 8
#define BACKLOG 256

union address {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_un un;
};

/// Of a URL; returns its length.
static socklen_t peer_address(const char *url, union address *a)
{
    memset(a, 0, sizeof(*a));
    if (strncmp(url, "ipc://", 6) == 0) {
        a->un.sun_family = AF_UNIX;
        (void)strncpy(a->un.sun_path, url + 6, sizeof(a->un.sun_path) - 1);
        return sizeof(a->un);
    }
    a->in.sin_family = AF_INET;
    a->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a->in.sin_port = htons((uint16_t)atoi(strrchr(url, ':') + 1));
    return sizeof(a->in);
}

/// Small pieces go out at once: a test must not wait for the system's timers.
static void peer_tune(const struct fault_peer *p)
{
    int one = 1;

    if (p->fd >= 0 && !p->marked) {
        (void)setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
}

bool fault_peer_connect(struct fault_peer *p, const char *url)
{
    union address a;
    socklen_t n = peer_address(url, &a);

    p->marked = a.sa.sa_family == AF_UNIX;
    p->fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (p->fd >= 0 && connect(p->fd, &a.sa, n) < 0) {
        fault_peer_close(p);
    }
    peer_tune(p);
    return p->fd >= 0;
}

static bool peer_read(struct fault_peer *p, void *buf, size_t len, long long end)
{
    char *at = buf;

    while (len > 0) {
        struct pollfd item = {.fd = p->fd, .events = POLLIN};
        long long left = end - proc_now();
        ssize_t n;

        if (poll(&item, 1, left > 0 ? (int)left : 0) != 1) {
            return false;
        }
        n = recv(p->fd, at, len, 0);
        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

bool fault_peer_put(struct fault_peer *p, const void *bytes, size_t n)
{
    const char *at = bytes;

    while (n > 0) {
        ssize_t put = send(p->fd, at, n, MSG_NOSIGNAL);

        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return false;
        }
        at += put;
        n -= (size_t)put;
    }
    return true;
}

bool fault_peer_hello(struct fault_peer *p, uint16_t own)
{
    const unsigned char mine[HELLO_LEN] = {
        0, 'S', 'P', 0, (unsigned char)(own >> 8), (unsigned char)own, 0, 0};
    unsigned char its[HELLO_LEN];

    return fault_peer_put(p, mine, sizeof(mine)) &&
           peer_read(p, its, sizeof(its), proc_now() + PROC_SOON) && memcmp(its, mine, 4) == 0;
}

bool fault_peer_join(struct fault_peer *p, const char *url, uint16_t own)
{
    return fault_peer_connect(p, url) && fault_peer_hello(p, own);
}

int fault_peer_listen(const char *url)
{
    union address a;
    socklen_t n = peer_address(url, &a);
    int fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;

    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd >= 0 && (bind(fd, &a.sa, n) < 0 || listen(fd, BACKLOG) < 0)) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

bool fault_peer_accept(struct fault_peer *p, int listener, const char *url, int ms)
{
    struct pollfd item = {.fd = listener, .events = POLLIN};

    p->marked = strncmp(url, "ipc://", 6) == 0;
    p->fd = poll(&item, 1, ms) == 1 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
    peer_tune(p);
    return p->fd >= 0;
}

bool fault_peer_frame(struct fault_peer *p, uint64_t len)
{
    unsigned char frame[9] = {1};

    for (int i = 0; i < 8; i++) {
        frame[1 + i] = (unsigned char)(len >> (56 - 8 * i));
    }
    return fault_peer_put(p, frame + !p->marked, 8 + (size_t)p->marked);
}

bool fault_peer_send(struct fault_peer *p, const void *body, size_t n)
{
    return fault_peer_frame(p, n) && fault_peer_put(p, body, n);
}

bool fault_peer_words(struct fault_peer *p, const uint32_t *words, size_t n, const char *text)
{
    unsigned char body[256];
    size_t len = strlen(text);

    for (size_t i = 0; i < n; i++) {
        uint32_t word = htonl(words[i]);

        memcpy(body + 4 * i, &word, 4);
    }
    memcpy(body + 4 * n, text, len);
    return fault_peer_send(p, body, 4 * n + len);
}

long fault_peer_recv(struct fault_peer *p, void *buf, size_t cap, int ms)
{
    long long end = proc_now() + ms;
    unsigned char frame[9];
    unsigned char *len = frame + p->marked;
    uint64_t n = 0;

    if (!peer_read(p, frame, 8 + (size_t)p->marked, end) || (p->marked && frame[0] != 1)) {
        return -1;
    }
    for (int i = 0; i < 8; i++) {
        n = n << 8 | len[i];
    }
    return n <= cap && peer_read(p, buf, (size_t)n, end) ? (long)n : -1;
}

bool fault_peer_ended(struct fault_peer *p, int ms)
{
    long long end = proc_now() + ms;
    char waste[4096];

    for (;;) {
        struct pollfd item = {.fd = p->fd, .events = POLLIN};
        long long left = end - proc_now();

        if (poll(&item, 1, left > 0 ? (int)left : 0) != 1) {
            return false;
        }
        if (recv(p->fd, waste, sizeof(waste), 0) <= 0) {
            return true;
        }
    }
}

bool fault_peer_is_open(struct fault_peer *p)
{
    char c;
    ssize_t n = recv(p->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);

    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
}

void fault_peer_close(struct fault_peer *p)
{
    if (p->fd >= 0) {
        (void)close(p->fd);
    }
    p->fd = -1;
}

void fault_peer_reset(struct fault_peer *p)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    (void)setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    fault_peer_close(p);
}
