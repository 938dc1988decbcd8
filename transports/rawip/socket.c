/* SPDX-License-Identifier: MIT */
/// Raw sockets with a filter (classic BPF) in front of their queue. No state. Calls into the system
/// that do not block.
#include "socket.h"

#include <errno.h>
#include <linux/filter.h>
#include <string.h>
#include <unistd.h>

#include <sp/sdk/cause.h>
#include <sp/sdk/multicast.h>
#include <sp/sdk/sockaddr.h>

#define IP4_HEADER 20
#define IP6_HEADER 40

#define VERSION 1               // of the session layer: its first byte
#define ANNOUNCEMENT 0x53504731 // the first four of an announcement: "SPG1"

// What the system holds for a socket at most (it may allow less): 60 datagrams of the largest size.
#define BUFFER_BYTES (8 * 1024 * 1024)

#define ACCEPT_ALL UINT32_MAX // bytes of a datagram that pass

#define STEPS_MAX 16

/// A filter being written. A step that fails leads to its end, where nothing passes; so does, by
/// itself, one that looks behind the end of a datagram.
struct filter {
    struct sock_filter steps[STEPS_MAX];
    unsigned short count;
};

static void filter_step(struct filter *f, unsigned code, uint32_t k)
{
    f->steps[f->count++] = (struct sock_filter){.code = (uint16_t)code, .k = k};
}

/// The bytes at `at` behind IP's header, 1 or 2 and then little-endian, have to be `value`.
static void filter_want(struct filter *f, unsigned width, uint32_t at, uint32_t value)
{
    if (width == BPF_H) {
        value = (value & 0xff) << 8 | value >> 8; // The filter reads big-endian.
    }
    filter_step(f, BPF_LD | width | BPF_IND, at);
    filter_step(f, BPF_JMP | BPF_JEQ | BPF_K, value);
}

static int filter_attach(int fd, struct filter *f)
{
    struct sock_fprog program = {.len = f->count, .filter = f->steps};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0 ? SP_OK
                                                                                        : -errno;
}

/// Nothing passes.
static int filter_shut(int fd)
{
    struct filter f = {.count = 0};

    filter_step(&f, BPF_RET | BPF_K, 0);
    return filter_attach(fd, &f);
}

/// Where what is behind IP's header begins: the filter of an IPv4 socket sees the header, that of
/// an IPv6 socket not.
static void filter_header(struct filter *f, int family)
{
    if (family == AF_INET) {
        filter_step(f, BPF_LDX | BPF_B | BPF_MSH, 0);
    } else {
        filter_step(f, BPF_LDX | BPF_W | BPF_IMM, 0);
    }
}

/// What has passed every step so far passes.
static int filter_end(int fd, struct filter *f)
{
    filter_step(f, BPF_RET | BPF_K, ACCEPT_ALL);
    for (unsigned i = 0; i < f->count; i++) {
        if (f->steps[i].code == (BPF_JMP | BPF_JEQ | BPF_K)) {
            f->steps[i].jf = (uint8_t)(f->count - i - 1);
        }
    }
    filter_step(f, BPF_RET | BPF_K, 0);
    return filter_attach(fd, f);
}

/// Own traffic passes.
static int filter_own(int fd, int family, uint16_t endpoint, const struct sp_dgram_addr *remote)
{
    struct filter f = {.count = 0};

    filter_header(&f, family);
    filter_want(&f, BPF_H, 2, endpoint);
    if (remote != NULL) {
        filter_want(&f, BPF_H, 0, remote->number);
    }
    filter_want(&f, BPF_B, RAWIP_FRONT, VERSION);
    filter_step(&f, BPF_LD | BPF_B | BPF_IND, RAWIP_FRONT + RAWIP_HEAD - 1);
    return filter_end(fd, &f);
}

/// Announcements to endpoint number `endpoint` of a group pass.
static int filter_group(int fd, int family, uint16_t endpoint)
{
    struct filter f = {.count = 0};

    filter_header(&f, family);
    filter_want(&f, BPF_H, 2, endpoint);
    filter_step(&f, BPF_LD | BPF_W | BPF_IND, RAWIP_FRONT);
    filter_step(&f, BPF_JMP | BPF_JEQ | BPF_K, ANNOUNCEMENT);
    return filter_end(fd, &f);
}

static int raw_socket(int family, uint8_t number, sp_cause *cause)
{
    int fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, number);

    if (fd >= 0) {
        return fd;
    }
    if (errno == EPERM || errno == EACCES) {
        return sp_fail(cause, -EPERM,
                       "socket: rawip:// needs the capability CAP_NET_RAW (as by \"setcap "
                       "cap_net_raw+ep PROGRAM\"); udp:// needs none");
    }
    return sp_fail(cause, -errno, "socket");
}

/// What a system refuses leaves a socket that works.
static void raw_tune(int fd, int family)
{
    int bytes = BUFFER_BYTES;
    int discover = IP_PMTUDISC_WANT;
    int discover6 = IPV6_PMTUDISC_WANT;

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    // What fits into the path's packets is not to be split on the way, so that the system learns
    // how large they may be; what does not is split here.
    if (family == AF_INET) {
        (void)setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof(discover));
    } else {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &discover6, sizeof(discover6));
    }
}

/// A raw socket gets everything of its number from the moment it is there: that is thrown away
/// before the filter for its own traffic takes over.
static int raw_empty(int fd, sp_cause *cause)
{
    unsigned char byte;
    int rc = filter_shut(fd);

    if (rc < 0) {
        return sp_fail(cause, rc, "filter");
    }
    while (recv(fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0) {
    }
    return SP_OK;
}

static int raw_restrict(int fd, const struct sp_dgram_addr *local,
                        const struct sp_dgram_addr *remote, sp_cause *cause)
{
    int rc = raw_empty(fd, cause);

    if (rc < 0) {
        return rc;
    }
    if (bind(fd, &local->at.sa, local->len) < 0) {
        return sp_fail(cause, -errno, "bind");
    }
    if (remote != NULL && connect(fd, &remote->at.sa, remote->len) < 0) {
        return sp_fail(cause, -errno, "connect");
    }
    rc = filter_own(fd, local->at.sa.sa_family, local->number, remote);
    return rc < 0 ? sp_fail(cause, rc, "filter") : SP_OK;
}

int rawip_open(uint8_t number, const struct sp_dgram_addr *local,
               const struct sp_dgram_addr *remote, sp_cause *cause)
{
    int fd = raw_socket(local->at.sa.sa_family, number, cause);
    int rc;

    if (fd < 0) {
        return fd;
    }
    rc = raw_restrict(fd, local, remote, cause);
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    raw_tune(fd, local->at.sa.sa_family);
    return fd;
}

int rawip_hear(uint8_t number, const sp_inet *group, uint16_t endpoint, const sp_inet *via,
               sp_cause *cause)
{
    int family = group->sa.sa_family;
    int fd = raw_socket(family, number, cause);
    int rc;

    if (fd < 0) {
        return fd;
    }
    rc = raw_empty(fd, cause);
    if (rc == SP_OK) {
        rc = sp_multicast_join(fd, group, via, cause);
    }
    if (rc == SP_OK && (rc = filter_group(fd, family, endpoint)) < 0) {
        (void)sp_fail(cause, rc, "filter");
    }
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    return fd;
}

ssize_t rawip_strip(int family, const unsigned char *data, size_t len, uint16_t *source)
{
    size_t skip = 0;

    if (family == AF_INET) {
        if (len < IP4_HEADER || data[0] >> 4 != 4) {
            return -EBADMSG;
        }
        skip = (size_t)(data[0] & 0xf) * 4;
        if (skip < IP4_HEADER || ((size_t)data[2] << 8 | data[3]) != len) {
            return -EBADMSG;
        }
    }
    if (len < skip + RAWIP_FRONT + RAWIP_HEAD) {
        return -EBADMSG;
    }
    *source = (uint16_t)(data[skip] | data[skip + 1] << 8);
    return (ssize_t)(skip + RAWIP_FRONT);
}

void rawip_front(uint16_t source, uint16_t destination, unsigned char out[RAWIP_FRONT])
{
    out[0] = (unsigned char)source;
    out[1] = (unsigned char)(source >> 8);
    out[2] = (unsigned char)destination;
    out[3] = (unsigned char)(destination >> 8);
}

size_t rawip_header(int family)
{
    return family == AF_INET6 ? IP6_HEADER : IP4_HEADER;
}

/// What a socket that is connected says of its path; what it does not say is the least of any path.
static int path_of(int fd, int family, struct rawip_path *path)
{
    int least = family == AF_INET6 ? 1280 : 576; // RFC 8200, section 5; RFC 791, section 3.1
    int mtu = least;
    socklen_t len = sizeof(mtu);
    sp_inet local = {.in6 = {.sin6_family = AF_UNSPEC}};
    sp_inet remote = local;
    int rc = sp_inet_local(fd, &local);

    if (rc == SP_OK) {
        rc = sp_inet_remote(fd, &remote);
    }
    if (rc < 0) {
        return rc;
    }
    if ((family == AF_INET6 ? getsockopt(fd, IPPROTO_IPV6, IPV6_MTU, &mtu, &len)
                            : getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &len)) < 0) {
        if (errno != ENOPROTOOPT) { // Emulators do not know the option.
            return -errno;
        }
        mtu = least;
    }
    local.in4.sin_port = remote.in4.sin_port; // where IPv6 has it too
    path->mtu = (size_t)mtu;
    path->inside = sp_inet_equal(&local, &remote);
    return SP_OK;
}

int rawip_path(const struct sp_dgram_addr *to, struct rawip_path *path)
{
    // Any kind of socket knows paths. This one sends nothing; connect wants a port.
    int family = to->at.sa.sa_family;
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sp_dgram_addr at = *to;
    int rc;

    if (fd < 0) {
        return -errno;
    }
    at.at.in4.sin_port = htons(9); // where IPv6 has it too
    rc = connect(fd, &at.at.sa, at.len) == 0 ? path_of(fd, family, path) : -errno;
    (void)close(fd);
    return rc;
}
