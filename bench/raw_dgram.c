/* SPDX-License-Identifier: MIT */
/// Bare datagrams.
#include "raw_dgram.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DGRAM_BATCH_MAX 1024
#define DGRAM_PROTOCOL 253 // for experiments (RFC 3692)
#define DGRAM_IP_HEADER 20 // bytes that a raw socket of IPv4 gets in front

struct raw_dgram {
    const struct bench_args *a;
    int fd;
    bool connected;
    size_t front; ///< bytes in front of what is received
    size_t room;  ///< bytes of one buffer
    char *bufs;   ///< one for each datagram of a batch
    struct mmsghdr *m;
    struct iovec *iov;
};

union dgram_addr {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_un un;
};

static void dgram_check(int rc, const char *what)
{
    if (rc < 0) {
        bench_die("%s: %s%s", what, strerror(errno),
                  errno == EPERM ? " (raw IP needs CAP_NET_RAW)" : "");
    }
}

/// The server's address.
static socklen_t dgram_addr(const struct bench_args *a, const char *url, union dgram_addr *addr)
{
    memset(addr, 0, sizeof(*addr));
    if (bench_is(a->transport, "unixgram")) {
        addr->un.sun_family = AF_UNIX;
        (void)snprintf(addr->un.sun_path, sizeof(addr->un.sun_path), "%s",
                       url + strlen("unixgram://"));
        return sizeof(addr->un);
    }
    addr->in.sin_family = AF_INET;
    addr->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bench_is(a->transport, "udp")) {
        addr->in.sin_port = htons((uint16_t)strtoul(strrchr(url, ':') + 1, NULL, 10));
    }
    return sizeof(addr->in);
}

static int dgram_socket(const struct bench_args *a)
{
    int fd;

    if (bench_is(a->transport, "unixgram")) {
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    } else if (bench_is(a->transport, "udp")) {
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    } else {
        fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, DGRAM_PROTOCOL);
    }
    dgram_check(fd, "socket");
    return fd;
}

/// The client's own address: of unixgram any, of raw IP another one than the server's, so that
/// neither end gets what it sends.
static void dgram_bind_client(struct raw_dgram *d)
{
    union dgram_addr own;

    memset(&own, 0, sizeof(own));
    if (bench_is(d->a->transport, "unixgram")) {
        own.un.sun_family = AF_UNIX;
        dgram_check(bind(d->fd, &own.any, sizeof(sa_family_t)), "bind");
    } else if (bench_is(d->a->transport, "rawip")) {
        own.in.sin_family = AF_INET;
        own.in.sin_addr.s_addr = htonl(0x7F800000U | ((unsigned)getpid() & 0x3FFFFF));
        dgram_check(bind(d->fd, &own.any, sizeof(own.in)), "bind");
    }
}

static void dgram_buffers(struct raw_dgram *d)
{
    size_t n = d->a->batch;

    d->room = d->front + d->a->size;
    d->bufs = calloc(n, d->room);
    d->m = calloc(n, sizeof(*d->m));
    d->iov = calloc(n, sizeof(*d->iov));
    if (n > DGRAM_BATCH_MAX || d->bufs == NULL || d->m == NULL || d->iov == NULL) {
        bench_die("no memory");
    }
    for (size_t i = 0; i < n; i++) {
        d->m[i].msg_hdr.msg_iov = &d->iov[i];
        d->m[i].msg_hdr.msg_iovlen = 1;
        d->iov[i].iov_base = d->bufs + i * d->room;
    }
}

struct raw_dgram *raw_dgram_open(const struct bench_args *a, bool server, const char *url)
{
    struct raw_dgram *d = calloc(1, sizeof(*d));
    union dgram_addr addr;
    socklen_t len = dgram_addr(a, url, &addr);

    if (d == NULL) {
        bench_die("no memory");
    }
    d->a = a;
    d->front = bench_is(a->transport, "rawip") ? DGRAM_IP_HEADER : 0;
    d->fd = dgram_socket(a);
    dgram_buffers(d);
    if (server) {
        dgram_check(bind(d->fd, &addr.any, len), "bind");
    } else {
        dgram_bind_client(d);
        dgram_check(connect(d->fd, &addr.any, len), "connect");
        d->connected = true;
    }
    return d;
}

/// The server's first use: whoever sent the datagram that is there is the peer from now on.
static void dgram_connect_back(struct raw_dgram *d)
{
    union dgram_addr from;
    socklen_t len = sizeof(from);

    dgram_check((int)recvfrom(d->fd, d->bufs, 1, MSG_PEEK, &from.any, &len), "receive");
    if (bench_is(d->a->transport, "rawip")) {
        from.in.sin_port = 0;
    }
    dgram_check(connect(d->fd, &from.any, len), "connect");
    d->connected = true;
}

unsigned raw_dgram_send(struct raw_dgram *d, uint64_t seq)
{
    unsigned n = d->a->batch;
    int sent;

    if (n == 1) {
        bench_number(d->bufs, seq);
        dgram_check((int)send(d->fd, d->bufs, d->a->size, MSG_NOSIGNAL), "send");
        return 1;
    }
    for (unsigned i = 0; i < n; i++) {
        d->iov[i].iov_len = d->a->size;
        bench_number(d->iov[i].iov_base, seq + i);
    }
    sent = sendmmsg(d->fd, d->m, n, MSG_NOSIGNAL);
    dgram_check(sent, "send");
    return (unsigned)sent;
}

/// What was lost is not counted, so numbers run ahead of `seq`.
unsigned raw_dgram_recv(struct raw_dgram *d, uint64_t seq)
{
    unsigned n = d->a->batch;
    int got;

    if (!d->connected) {
        dgram_connect_back(d);
    }
    if (n == 1) {
        got = (int)recv(d->fd, d->bufs, d->room, 0);
        dgram_check(got, "receive");
        bench_check(d->bufs + d->front, (size_t)got - d->front, d->a, seq);
        return 1;
    }
    for (unsigned i = 0; i < n; i++) {
        d->iov[i].iov_len = d->room;
    }
    got = recvmmsg(d->fd, d->m, n, MSG_WAITFORONE, NULL);
    dgram_check(got, "receive");
    for (int i = 0; i < got; i++) {
        bench_check((char *)d->iov[i].iov_base + d->front, d->m[i].msg_len - d->front, d->a,
                    seq + (unsigned)i);
    }
    return (unsigned)got;
}
