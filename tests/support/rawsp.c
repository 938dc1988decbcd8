/* SPDX-License-Identifier: MIT */
/// The SP framing over a plain TCP socket: 8 bytes of hello, then a length of 8 bytes before each
/// message.
#include "rawsp.h"

#include "proc.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RAWSP_HELLO 8

static int rawsp_listen_on(int fd, int *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 8) < 0 ||
        getsockname(fd, (struct sockaddr *)&a, &n) < 0) {
        return -1;
    }
    *port = ntohs(a.sin_port);
    return fd;
}

int rawsp_listen(int *port)
{
    return rawsp_listen_on(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port);
}

int rawsp_listen_narrow(int *port, int *bytes)
{
    socklen_t n = sizeof(*bytes);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    // Connections inherit it, and with it that the system does not change it by itself.
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUF, bytes, sizeof(*bytes)) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_RCVBUF, bytes, &n) < 0) {
        return -1;
    }
    return rawsp_listen_on(fd, port);
}

static bool rawsp_ready(int fd, long long end)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};
    long long left = end - proc_now();

    return poll(&item, 1, left > 0 ? (int)left : 0) == 1;
}

static bool rawsp_read(int fd, void *buf, size_t len, long long end)
{
    char *at = buf;

    while (len > 0) {
        ssize_t n = rawsp_ready(fd, end) ? recv(fd, at, len, 0) : -1;

        if (n <= 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static bool rawsp_write(int fd, const void *buf, size_t len)
{
    const char *at = buf;

    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

        if (n < 0) {
            return false;
        }
        at += n;
        len -= (size_t)n;
    }
    return true;
}

int rawsp_accept(int listener, uint16_t own, uint16_t *peer, int ms)
{
    const unsigned char mine[RAWSP_HELLO] = {
        0, 'S', 'P', 0, (unsigned char)(own >> 8), (unsigned char)own, 0, 0};
    unsigned char its[RAWSP_HELLO];
    long long end = proc_now() + ms;
    int fd = rawsp_ready(listener, end) ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;

    if (fd < 0) {
        return -1;
    }
    if (!rawsp_write(fd, mine, sizeof(mine)) || !rawsp_read(fd, its, sizeof(its), end) ||
        memcmp(its, mine, 4) != 0) {
        (void)close(fd);
        return -1;
    }
    if (peer != NULL) {
        *peer = (uint16_t)(its[4] << 8 | its[5]);
    }
    return fd;
}

int rawsp_send(int fd, const void *header, size_t header_len, const void *body, size_t len)
{
    unsigned char size[8];
    uint64_t n = header_len + len;

    for (int i = 0; i < 8; i++) {
        size[i] = (unsigned char)(n >> (56 - 8 * i));
    }
    return rawsp_write(fd, size, sizeof(size)) && rawsp_write(fd, header, header_len) &&
                   rawsp_write(fd, body, len)
               ? 0
               : -1;
}

long rawsp_recv(int fd, void *buf, size_t cap, int ms)
{
    long long end = proc_now() + ms;
    unsigned char size[8];
    uint64_t n = 0;

    if (!rawsp_read(fd, size, sizeof(size), end)) {
        return -1;
    }
    for (int i = 0; i < 8; i++) {
        n = n << 8 | size[i];
    }
    return n <= cap && rawsp_read(fd, buf, (size_t)n, end) ? (long)n : -1;
}
