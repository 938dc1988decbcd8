/* SPDX-License-Identifier: MIT */
/// Claims of endpoint numbers. No state but the system's. Calls into the system that do not block.
#include "claim.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <sp/sdk/cause.h>

static socklen_t claim_name(int family, uint8_t number, uint16_t endpoint, struct sockaddr_un *name)
{
    int n;

    memset(name, 0, sizeof(*name));
    name->sun_family = AF_UNIX;
    n = snprintf(name->sun_path + 1, sizeof(name->sun_path) - 1, "sp-rawip/%d/%u/%u",
                 family == AF_INET6 ? 6 : 4, number, endpoint);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static int claim_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd >= 0 ? fd : -errno;
}

/// Claims with `fd`. -EADDRINUSE: it has an owner.
static int claim_bind(int fd, int family, uint8_t number, uint16_t endpoint)
{
    struct sockaddr_un name;
    socklen_t len = claim_name(family, number, endpoint, &name);

    if (bind(fd, (const struct sockaddr *)&name, len) < 0) {
        return -errno;
    }
    // Nobody's datagrams are to gather here.
    (void)shutdown(fd, SHUT_RD);
    return SP_OK;
}

int rawip_claim(int family, uint8_t number, uint16_t endpoint, sp_cause *cause)
{
    int fd = claim_socket();
    int rc = fd < 0 ? fd : claim_bind(fd, family, number, endpoint);

    if (rc == SP_OK) {
        return fd;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return sp_fail(cause, rc, "bind endpoint %u of protocol number %u", endpoint, number);
}

int rawip_claim_any(int family, uint8_t number, uint64_t random, uint16_t *endpoint,
                    sp_cause *cause)
{
    const uint32_t count = UINT16_MAX + 1 - RAWIP_CHOSEN;
    int fd = claim_socket();
    int rc = fd < 0 ? fd : -EADDRINUSE;

    for (uint32_t i = 0; i < count && rc == -EADDRINUSE; i++) {
        *endpoint = (uint16_t)(RAWIP_CHOSEN + (random + i) % count);
        rc = claim_bind(fd, family, number, *endpoint);
    }
    if (rc == SP_OK) {
        return fd;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return sp_fail(cause, rc, "an endpoint number of protocol number %u", number);
}

bool rawip_claimed(int family, uint8_t number, uint16_t endpoint)
{
    struct sockaddr_un name;
    socklen_t len = claim_name(family, number, endpoint, &name);
    int fd = claim_socket();
    bool there = fd < 0 || connect(fd, (const struct sockaddr *)&name, len) == 0 ||
                 errno != ECONNREFUSED;

    if (fd >= 0) {
        (void)close(fd);
    }
    return there;
}
