/* SPDX-License-Identifier: MIT */
/// See rawdgram.h.
#include "rawdgram.h"

#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#define WAIT 5000 // ms

int raw_open(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

void raw_connect(int fd, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};

    a.sin_port = htons(port);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
}

void raw_send(int fd, const void *bytes, size_t n)
{
    assert_int_equal(send(fd, bytes, n, 0), n);
}

size_t raw_recv(int fd, unsigned char *bytes, size_t cap)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    ssize_t n;

    assert_int_equal(poll(&ready, 1, WAIT), 1);
    n = recv(fd, bytes, cap, 0);
    assert_true(n >= 0);
    return (size_t)n;
}

bool raw_silent(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    return poll(&ready, 1, 0) == 0;
}
