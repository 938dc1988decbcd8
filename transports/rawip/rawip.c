/* SPDX-License-Identifier: MIT */
/// Transport "rawip": SP directly over IPv4 and IPv6, rawip://HOST[:ENDPOINT][/NUMBER]. An endpoint
/// owns the claim of its endpoint number (claim.h) and, if it listens, the socket of all its peers;
/// a dialer's pipe its own. Connections and datagrams are the datagram kit's. Thread classes as in
/// sp_transport_ops and sp_dgram_kind.
#include "address.h"
#include "claim.h"
#include "socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sp/plugin.h>
#include <sp/sdk/cause.h>
#include <sp/sdk/dgram.h>
#include <sp/sdk/multicast.h>
#include <sp/sdk/sockaddr.h>

/// What an IPv4 packet carries, less our front and the session layer's head.
#define RAWIP_HEAD_MAX 28
#define RAWIP_GROUP_MAX 64
#define RAWIP_PAYLOAD_MAX (65535 - 20 - RAWIP_FRONT - RAWIP_HEAD_MAX)

struct rawip_ep {
    struct sp_dgram_ep dgram; // first
    uint8_t number;           ///< of the protocol
    bool any;                 ///< the host is "*" or absent
    bool choose;              ///< the endpoint is "*"
    bool listens;
    int claim;                   ///< atomic; an fd; -1: none
    uint64_t path_mtu;           ///< atomic; for the statistics
    char group[RAWIP_GROUP_MAX]; ///< option
};

/* ------------------------------------------------------------------ Claims */

static void rawip_unclaim(struct rawip_ep *e)
{
    // Acquire and release: whoever takes the fd out is the one who closes it.
    int fd = __atomic_exchange_n(&e->claim, -1, __ATOMIC_ACQ_REL);

    if (fd >= 0) {
        (void)close(fd);
    }
}

/// The endpoint number of this endpoint: the one that the URL says, or one that is free.
static int rawip_ep_claim(struct rawip_ep *e, bool listens, sp_cause *cause)
{
    int family = e->dgram.remote.at.sa.sa_family;
    int fd;

    // Relaxed: only this actor puts one in.
    if (__atomic_load_n(&e->claim, __ATOMIC_RELAXED) >= 0) {
        return SP_OK; // A dialer keeps its number.
    }
    fd = listens && !e->choose ? rawip_claim(family, e->number, e->dgram.local.number, cause)
                               : rawip_claim_any(family, e->number, e->dgram.host->random(),
                                                 &e->dgram.local.number, cause);
    if (fd < 0) {
        return fd;
    }
    // Release: pairs with rawip_unclaim.
    __atomic_store_n(&e->claim, fd, __ATOMIC_RELEASE);
    return SP_OK;
}

/* ------------------------------------------------------------------ The kit's hooks */

static void rawip_kind_url(const struct sp_dgram_ep *ep, const struct sp_dgram_addr *addr,
                           char *out, size_t size)
{
    const struct rawip_ep *e = (const struct rawip_ep *)ep;
    char at[SP_INET_TEXT];
    char number[8] = "";

    if (e->number != RAWIP_NUMBER) {
        (void)snprintf(number, sizeof(number), "/%u", e->number);
    }
    rawip_text(addr, at, sizeof(at));
    (void)snprintf(out, size, "rawip://%s%s", at, number);
}

static void rawip_describe(const struct rawip_ep *e, sp_bound *bound)
{
    const struct sp_dgram_addr *local = &e->dgram.local;
    struct sp_dgram_addr dialled = *local;

    rawip_text(local, bound->local, sizeof(bound->local));
    bound->port = local->number;
    // "Any" cannot be dialled; this machine's own loopback can.
    if (local->at.sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&local->at.in6.sin6_addr)) {
        dialled.at.in6.sin6_addr = in6addr_loopback;
    } else if (local->at.sa.sa_family == AF_INET && local->at.in4.sin_addr.s_addr == 0) {
        dialled.at.in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    rawip_kind_url(&e->dgram, &dialled, bound->url, sizeof(bound->url));
}

static int rawip_listen_open(struct rawip_ep *e, sp_bound *bound, sp_cause *cause)
{
    int rc = rawip_ep_claim(e, true, cause);

    e->listens = true;
    if (rc < 0) {
        return rc;
    }
    rc = rawip_open(e->number, &e->dgram.local, NULL, cause);
    if (rc < 0) {
        rawip_unclaim(e);
        return rc;
    }
    rawip_describe(e, bound);
    return rc;
}

/// A packet for an endpoint that nobody has meets silence. Within this machine that can be known.
static int rawip_answers(const struct rawip_ep *e, sp_cause *cause)
{
    const struct sp_dgram_addr *to = &e->dgram.remote;
    struct rawip_path path;

    if (rawip_path(to, &path) == SP_OK && path.inside &&
        !rawip_claimed(to->at.sa.sa_family, e->number, to->number)) {
        return sp_fail(cause, -ECONNREFUSED, "connect");
    }
    return SP_OK;
}

static int rawip_dial_open(struct rawip_ep *e, sp_cause *cause)
{
    struct sp_dgram_addr local = {.len = e->dgram.remote.len};
    int rc;

    if (e->any || e->choose) {
        return sp_fail(cause, SP_EINVAL, "%s \"*\": only a listener can %s",
                       e->any ? "host" : "endpoint",
                       e->any ? "be at any address" : "leave the choice");
    }
    rc = rawip_answers(e, cause);
    if (rc == SP_OK) {
        rc = rawip_ep_claim(e, false, cause);
    }
    if (rc < 0) {
        return rc;
    }
    local.at.sa.sa_family = e->dgram.remote.at.sa.sa_family;
    local.number = e->dgram.local.number;
    return rawip_open(e->number, &local, &e->dgram.remote, cause);
}

static int rawip_kind_open(struct sp_dgram_ep *ep, sp_bound *bound, sp_cause *cause)
{
    struct rawip_ep *e = (struct rawip_ep *)ep;

    return bound != NULL ? rawip_listen_open(e, bound, cause) : rawip_dial_open(e, cause);
}

static void rawip_kind_prefix(const struct sp_dgram_ep *ep, const struct sp_dgram_addr *to,
                              unsigned char *out)
{
    rawip_front(ep->local.number, to != NULL ? to->number : ep->remote.number, out);
}

static ssize_t rawip_kind_strip(const struct sp_dgram_ep *ep, struct sp_dgram_in *in)
{
    return rawip_strip(ep->local.at.sa.sa_family, in->data, in->len, &in->from->number);
}

static size_t rawip_kind_unsplit(struct sp_dgram_ep *ep, int fd, const struct sp_dgram_addr *to)
{
    struct rawip_ep *e = (struct rawip_ep *)ep;
    struct rawip_path path;
    uint64_t least;
    size_t head;

    (void)fd;
    to = to != NULL ? to : &ep->remote;
    if (rawip_path(to, &path) < 0) {
        return 0;
    }
    // Relaxed: a figure for people. Of a dialer the present one, of a listener the smallest.
    least = __atomic_load_n(&e->path_mtu, __ATOMIC_RELAXED);
    if (ep->fd < 0 || least == 0 || path.mtu < least) {
        __atomic_store_n(&e->path_mtu, path.mtu, __ATOMIC_RELAXED);
    }
    head = rawip_header(to->at.sa.sa_family) + RAWIP_FRONT;
    return path.inside || path.mtu <= head ? 0 : path.mtu - head;
}

/// A listener's address is free from here on; a dialer keeps its number for the next attempt.
static void rawip_kind_closed(struct sp_dgram_ep *ep, int fd)
{
    struct rawip_ep *e = (struct rawip_ep *)ep;

    (void)fd;
    if (e->listens) {
        rawip_unclaim(e);
    }
}

/// By the interface of the address at which it listens; any: the system's choice.
static int rawip_kind_join(struct sp_dgram_ep *ep, struct sp_dgram_addr *to, sp_cause *cause)
{
    const struct rawip_ep *e = (const struct rawip_ep *)ep;
    sp_inet group = {.in6 = {.sin6_family = AF_UNSPEC}};
    sp_inet via = group;
    uint16_t endpoint = 0;
    int rc;

    if (e->group[0] == '\0') {
        return SP_EAGAIN;
    }
    rc = rawip_group_parse(e->group, &group, &endpoint, cause);
    if (rc == SP_OK &&
        (sp_inet_local(ep->fd, &via) < 0 || via.sa.sa_family != group.sa.sa_family)) {
        rc = sp_fail(cause, SP_EINVAL, "group \"%s\": of another address family than the listener",
                     e->group);
    }
    if (rc == SP_OK) {
        rc = sp_multicast_from(ep->fd, &group, &via, cause);
    }
    if (rc < 0) {
        return rc;
    }
    memset(to, 0, sizeof(*to));
    to->len = (uint16_t)sp_inet_len(&group);
    to->number = endpoint;
    memcpy(&to->at, &group, to->len);
    return rawip_hear(e->number, &group, endpoint, &via, cause);
}

static const struct sp_dgram_kind rawip_kind = {
    .size = sizeof(rawip_kind),
    .flags = SP_DGRAM_CRC,
    .payload_max = RAWIP_PAYLOAD_MAX,
    .front = RAWIP_FRONT,
    .limit_hint = "that is what an IP packet carries, tcp:// carries any size",
    .open = rawip_kind_open,
    .text = rawip_text,
    .prefix = rawip_kind_prefix,
    .strip = rawip_kind_strip,
    .unsplit = rawip_kind_unsplit,
    .closed = rawip_kind_closed,
    .join = rawip_kind_join,
    .url = rawip_kind_url,
};

/* ------------------------------------------------------------------ The transport */

static int rawip_ep_init(void *ep, const sp_host *host, sp_ep_ref *ref, const char *url,
                         sp_cause *cause)
{
    struct rawip_ep *e = ep;
    struct rawip_url at = {.number = 0};
    int rc;

    e->claim = -1;
    rc = sp_dgram_init(&e->dgram, host, ref, &rawip_kind, cause);
    if (rc == SP_OK) {
        // Names are looked up here, where waiting is allowed, and not again.
        rc = rawip_parse(url, &at, cause);
    }
    if (rc < 0) {
        return rc;
    }
    e->number = at.number;
    e->any = at.any;
    e->choose = at.choose;
    e->dgram.remote = at.addr;
    e->dgram.local = at.addr;
    return SP_OK;
}

static void rawip_ep_fini(void *ep)
{
    sp_dgram_ep_fini(ep);
    rawip_unclaim(ep);
}

static const sp_option rawip_options[] = {
    SP_DGRAM_OPTIONS,
    SP_DGRAM_GROUP_OPTIONS,
    {"group", SP_OPTION_STR, 0, offsetof(struct rawip_ep, group), 0, 0, RAWIP_GROUP_MAX, "",
     "ADDRESS[:ENDPOINT], multicast, by which listeners find each other; empty: none"},
};

static const sp_counter rawip_counters[] = {
    SP_DGRAM_COUNTERS,
    SP_DGRAM_GROUP_COUNTERS,
    {"path_mtu", offsetof(struct rawip_ep, path_mtu),
     "bytes of the largest packet that nothing on the way splits; of a listener, the least of all "
     "peers; 0: not known yet"},
};

static const sp_transport_ops rawip_ops = {
    .size = sizeof(rawip_ops),
    .ep_size = sizeof(struct rawip_ep),
    .pipe_size = sizeof(struct sp_dgram_pipe),
    .options = rawip_options,
    .option_count = sizeof(rawip_options) / sizeof(rawip_options[0]),
    .option_size = sizeof(sp_option),
    .url_form = "rawip://HOST[:ENDPOINT][/NUMBER]",
    .ep_init = rawip_ep_init,
    .listen = sp_dgram_listen,
    .accept = sp_dgram_accept,
    .dial = sp_dgram_dial,
    .ep_close = sp_dgram_ep_close,
    .ep_fini = rawip_ep_fini,
    .on_timer = sp_dgram_on_timer,
    .handshake = sp_dgram_handshake,
    .harvest = sp_dgram_harvest,
    .submit = sp_dgram_submit,
    .pipe_close = sp_dgram_pipe_close,
    .pipe_fini = sp_dgram_pipe_fini,
    .on_ready = sp_dgram_on_ready,
    .counters = rawip_counters,
    .counter_count = sizeof(rawip_counters) / sizeof(rawip_counters[0]),
    .counter_size = sizeof(sp_counter),
};

static const sp_export rawip_exports[] = {
    {.kind = SP_KIND_TRANSPORT, .name = "rawip", .ops.transport = &rawip_ops},
};

static const sp_plugin rawip_plugin = {
    .size = sizeof(rawip_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.scalability-protocols.sp.rawip",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "SP directly over IP",
    .exports = rawip_exports,
    .export_count = 1,
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &rawip_plugin;
}
