/* SPDX-License-Identifier: MIT */
/// Transport "udp": SP over UDP, udp://HOST:PORT, as nng 2 speaks it. Here are the addresses and
/// the sockets; connections, peers and messages are the datagram kit's. Thread classes as in
/// sp_dgram_kind.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sp/plugin.h>
#include <sp/sdk/cause.h>
#include <sp/sdk/dgram.h>
#include <sp/sdk/multicast.h>
#include <sp/sdk/sockaddr.h>

/// nng 2's; the largest that IPv4 carries is 65507.
#define UDP_PAYLOAD 65000

/// What a receiver may be behind, as far as the system allows.
#define UDP_BUFFER (4 << 20)

/// Addresses of one name that a listener tries.
#define UDP_ADDRS 8

#define UDP_LOCAL_MAX 64

struct udp_ep {
    struct sp_dgram_ep dgram;
    sp_inet addrs[UDP_ADDRS];
    int addr_count;
    bool any; ///< the host is "*" or absent
    char local_address[UDP_LOCAL_MAX];
    char group[UDP_LOCAL_MAX];
};

/* ------------------------------------------------------------------ Addresses */

static sp_inet udp_inet(const struct sp_dgram_addr *a)
{
    sp_inet in = {.in6 = {.sin6_family = AF_UNSPEC}};

    memcpy(&in, &a->at, a->len < sizeof(in) ? a->len : sizeof(in));
    return in;
}

static struct sp_dgram_addr udp_addr(const sp_inet *in)
{
    struct sp_dgram_addr a;

    memset(&a, 0, sizeof(a));
    a.len = (uint16_t)sp_inet_len(in);
    memcpy(&a.at, in, a.len);
    return a;
}

static void udp_text(const struct sp_dgram_addr *addr, char *out, size_t size)
{
    sp_inet in = udp_inet(addr);

    sp_inet_text(&in, out, size);
}

/* ------------------------------------------------------------------ Sockets */

static void udp_set(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof(value));
}

static int udp_socket(const sp_inet *a, sp_cause *cause)
{
    int fd = socket(a->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);

    if (fd < 0) {
        return sp_fail(cause, -errno, "socket");
    }
    udp_set(fd, SOL_SOCKET, SO_RCVBUF, UDP_BUFFER);
    udp_set(fd, SOL_SOCKET, SO_SNDBUF, UDP_BUFFER);
    return fd;
}

static int udp_bind(const struct udp_ep *e, const sp_inet *a, sp_cause *cause)
{
    int fd = udp_socket(a, cause);
    int err;

    if (fd < 0) {
        return fd;
    }
    if (e->any && a->sa.sa_family == AF_INET6) {
        udp_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    }
    if (bind(fd, &a->sa, sp_inet_len(a)) == 0) {
        return fd;
    }
    err = errno;
    (void)close(fd);
    return sp_fail(cause, -err, "bind");
}

static void udp_describe(const struct udp_ep *e, int fd, sp_bound *bound)
{
    sp_inet a;

    if (sp_inet_local(fd, &a) < 0) {
        return;
    }
    bound->port = sp_inet_port(&a);
    sp_inet_text(&a, bound->local, sizeof(bound->local));
    if (!sp_inet_is_any(&a)) {
        (void)snprintf(bound->url, sizeof(bound->url), "udp://%s", bound->local);
        return;
    }
    // "Any" cannot be dialled; this machine's own loopback can.
    (void)snprintf(bound->url, sizeof(bound->url), "udp://%s:%u",
                   a.sa.sa_family == AF_INET6 && !e->any ? "[::1]" : "127.0.0.1", sp_inet_port(&a));
}

/// At the first address of the host that this machine has.
static int udp_listen(const struct udp_ep *e, sp_bound *bound, sp_cause *cause)
{
    int fd = -EADDRNOTAVAIL;

    for (int i = 0; i < e->addr_count && (fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT); i++) {
        fd = udp_bind(e, &e->addrs[i], cause);
    }
    if (fd >= 0) {
        udp_describe(e, fd, bound);
    }
    return fd;
}

/// Option "local-address": "ADDRESS" or "ADDRESS:PORT".
static int udp_bind_local(const struct udp_ep *e, int fd, sp_cause *cause)
{
    const char *text = e->local_address;
    bool port = strstr(text, "]:") != NULL || (text[0] != '[' && strchr(text, ':') != NULL);
    char full[UDP_LOCAL_MAX + 2];
    struct sp_hostport at;
    sp_inet a = {0};
    int rc;

    if (text[0] == '\0') {
        return SP_OK;
    }
    (void)snprintf(full, sizeof(full), "%s%s", text, port ? "" : ":0");
    rc = sp_hostport_parse(full, &at, cause);
    if (rc == SP_OK) {
        rc = sp_inet_number(&at, &a, cause);
    }
    if (rc < 0) {
        return rc;
    }
    if (a.sa.sa_family != e->addrs[0].sa.sa_family) {
        return sp_fail(cause, SP_EINVAL, "local-address \"%s\": of another address family", text);
    }
    return bind(fd, &a.sa, sp_inet_len(&a)) == 0
               ? SP_OK
               : sp_fail(cause, -errno, "bind local-address \"%s\"", text);
}

static int udp_connect(const struct udp_ep *e, sp_cause *cause)
{
    const sp_inet *a = &e->addrs[0];
    int fd;
    int rc;

    if (e->any) {
        return sp_fail(cause, SP_EINVAL, "host \"*\": only a listener can be at any address");
    }
    if (sp_inet_port(a) == 0) {
        return sp_fail(cause, SP_EINVAL, "port \"0\": only a listener can leave the choice");
    }
    fd = udp_socket(a, cause);
    if (fd < 0) {
        return fd;
    }
    rc = udp_bind_local(e, fd, cause);
    if (rc == SP_OK && connect(fd, &a->sa, sp_inet_len(a)) < 0) {
        rc = sp_fail(cause, -errno, "connect");
    }
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    return fd;
}

static int udp_open(struct sp_dgram_ep *ep, sp_bound *bound, sp_cause *cause)
{
    const struct udp_ep *e = (const struct udp_ep *)(const void *)ep;

    return bound != NULL ? udp_listen(e, bound, cause) : udp_connect(e, cause);
}

/* ------------------------------------------------------------------ The way */

/// Bytes of a datagram that a connected socket sends in one packet; 0: it stays on this machine.
static size_t udp_way(int fd)
{
    sp_inet local;
    sp_inet remote;
    socklen_t len = sizeof(int);
    bool v6;
    int mtu = 0;

    if (sp_inet_local(fd, &local) < 0 || sp_inet_remote(fd, &remote) < 0) {
        return 0;
    }
    v6 = remote.sa.sa_family == AF_INET6;
    local.in4.sin_port = remote.in4.sin_port; // where IPv6 has it too
    if (sp_inet_equal(&local, &remote) ||
        getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU : IP_MTU, &mtu, &len) < 0) {
        return 0;
    }
    return mtu > 576 ? (size_t)mtu - (v6 ? 48 : 28) : 0;
}

/// Of a listener's peer: a socket that is connected to it knows.
static size_t udp_unsplit(struct sp_dgram_ep *ep, int fd, const struct sp_dgram_addr *to)
{
    size_t way = 0;

    (void)ep;
    if (to == NULL) {
        return udp_way(fd);
    }
    fd = socket(to->at.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP);
    if (fd >= 0 && connect(fd, &to->at.sa, to->len) == 0) {
        way = udp_way(fd);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return way;
}

/* ------------------------------------------------------------------ The group */

/// Option "group".
static int udp_group(const struct udp_ep *e, sp_inet *group, sp_cause *cause)
{
    struct sp_hostport at;
    int rc = sp_hostport_parse(e->group, &at, cause);

    if (rc == SP_OK) {
        rc = sp_inet_number(&at, group, cause);
    }
    if (rc == SP_OK && (sp_inet_port(group) == 0 || !sp_inet_is_multicast(group))) {
        rc = sp_fail(cause, SP_EINVAL, "group \"%s\": no multicast address with a port", e->group);
    }
    return rc;
}

/// The interface of the group: that of the address at which it listens, else of "local-address",
/// else the system's choice.
static int udp_interface(const struct udp_ep *e, const sp_inet *group, sp_inet *out,
                         sp_cause *cause)
{
    struct sp_hostport at;
    char full[UDP_LOCAL_MAX + 2];
    int rc;

    if (sp_inet_local(e->dgram.fd, out) < 0 || out->sa.sa_family != group->sa.sa_family) {
        return sp_fail(cause, SP_EINVAL,
                       "group \"%s\": of another address family than the listener", e->group);
    }
    if (!sp_inet_is_any(out) || e->local_address[0] == '\0') {
        return SP_OK;
    }
    (void)snprintf(full, sizeof(full), "%s:0", e->local_address);
    rc = sp_hostport_parse(full, &at, cause);
    if (rc == SP_OK) {
        rc = sp_inet_number(&at, out, cause);
    }
    return rc == SP_OK && out->sa.sa_family != group->sa.sa_family
               ? sp_fail(cause, SP_EINVAL, "local-address \"%s\": of another address family",
                         e->local_address)
               : rc;
}

static int udp_join(struct sp_dgram_ep *ep, struct sp_dgram_addr *to, sp_cause *cause)
{
    const struct udp_ep *e = (const struct udp_ep *)(const void *)ep;
    sp_inet group = {0};
    sp_inet via = {0};
    int fd;
    int rc;

    if (e->group[0] == '\0') {
        return SP_EAGAIN;
    }
    rc = udp_group(e, &group, cause);
    if (rc == SP_OK) {
        rc = udp_interface(e, &group, &via, cause);
    }
    if (rc == SP_OK) {
        rc = sp_multicast_from(ep->fd, &group, &via, cause);
    }
    if (rc < 0) {
        return rc;
    }
    fd = udp_socket(&group, cause);
    rc = fd < 0 ? fd : sp_multicast_join(fd, &group, &via, cause);
    if (rc < 0 && fd >= 0) {
        (void)close(fd);
    }
    *to = udp_addr(&group);
    return rc < 0 ? rc : fd;
}

static const struct sp_dgram_kind udp_kind = {
    .size = sizeof(udp_kind),
    .flags = SP_DGRAM_PLAIN,
    .payload_max = UDP_PAYLOAD,
    .limit_hint =
        "a datagram takes no more (or the peer's \"recv-size-max\"); use tcp for larger ones",
    .open = udp_open,
    .text = udp_text,
    .unsplit = udp_unsplit,
    .join = udp_join,
    .scheme = "udp",
};

/* ------------------------------------------------------------------ The table */

static int udp_ep_init(void *ep, const sp_host *host, sp_ep_ref *ref, const char *url,
                       sp_cause *cause)
{
    struct udp_ep *e = ep;
    const char *sep = strstr(url, "://");
    struct sp_hostport at;
    int rc = sp_hostport_parse(sep != NULL ? sep + 3 : url, &at, cause);

    if (rc == SP_OK) {
        // Names are looked up here, where waiting is allowed, and not again.
        rc = sp_inet_resolve(&at, SOCK_DGRAM, e->addrs, UDP_ADDRS, cause);
    }
    if (rc < 0) {
        return rc;
    }
    e->addr_count = rc;
    e->any = at.host[0] == '\0';
    e->dgram.remote = udp_addr(&e->addrs[0]);
    e->dgram.local = e->dgram.remote;
    return sp_dgram_init(&e->dgram, host, ref, &udp_kind, cause);
}

static const sp_option udp_options[] = {
    SP_DGRAM_OPTIONS,
    {"local-address", SP_OPTION_STR, 0, offsetof(struct udp_ep, local_address), 0, 0, UDP_LOCAL_MAX,
     "", "ADDRESS or ADDRESS:PORT from which to dial"},
    SP_DGRAM_GROUP_OPTIONS,
    {"group", SP_OPTION_STR, 0, offsetof(struct udp_ep, group), 0, 0, UDP_LOCAL_MAX, "",
     "ADDRESS:PORT, multicast, by which listeners find each other; empty: none"},
};

static const sp_counter udp_counters[] = {SP_DGRAM_COUNTERS, SP_DGRAM_GROUP_COUNTERS};

static const sp_transport_ops udp_ops = {
    .size = sizeof(udp_ops),
    .ep_size = sizeof(struct udp_ep),
    .pipe_size = sizeof(struct sp_dgram_pipe),
    .options = udp_options,
    .option_count = sizeof(udp_options) / sizeof(udp_options[0]),
    .option_size = sizeof(sp_option),
    .url_form = "udp://HOST:PORT",
    .ep_init = udp_ep_init,
    SP_DGRAM_SLOTS,
    .counters = udp_counters,
    .counter_count = sizeof(udp_counters) / sizeof(udp_counters[0]),
    .counter_size = sizeof(sp_counter),
};

static const sp_export udp_exports[] = {
    {.kind = SP_KIND_TRANSPORT, .name = "udp", .ops.transport = &udp_ops},
};

static const sp_plugin udp_plugin = {
    .size = sizeof(udp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.scalability-protocols.sp.udp",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "SP over UDP",
    .exports = udp_exports,
    .export_count = 1,
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &udp_plugin;
}
