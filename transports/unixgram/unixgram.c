/* SPDX-License-Identifier: MIT */
/// Transports "unixgram" and "unixgram+abstract": SP over AF_UNIX datagrams, unixgram:///PATH,
/// unixgram://RELATIVE, unixgram+abstract://NAME. Here are the addresses, the sockets and who may
/// use them; connections, peers and messages are the datagram kit's. The socket at the known
/// address only takes requests. A dialer makes a pair of SOCK_SEQPACKET sockets and sends one of
/// them along with its request: doc/adr/0019-unixgram-pair.md. Thread classes as in sp_dgram_kind.
#include "control.h"
#include "memfd.h"

#include <errno.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sp/plugin.h>
#include <sp/sdk/cause.h>
#include <sp/sdk/dgram.h>
#include <sp/sdk/sockfile.h>

/// Bytes of a path or name: sun_path less a NUL at its end or in front.
#define UGRAM_NAME_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

/// What the system takes of a datagram, and the kit's head.
#define UGRAM_OVERHEAD (32 + 20)

/// Bytes that may wait in the system for a receiver: at least this much, as far as it allows.
#define UGRAM_SEND_SPACE (256 * 1024)

struct ugram_ep {
    struct sp_dgram_ep dgram;
    int64_t permissions; ///< options
    int64_t allow_uid;
    int64_t allow_gid;
    int64_t datagram_max;
    const char *url;
    struct sp_sockfile path; ///< of a listener
    bool begun;              ///< "datagram-max" is what it is
};

static struct ugram_ep *ugram_ep(struct sp_dgram_ep *ep)
{
    return (struct ugram_ep *)(void *)ep;
}

/* ------------------------------------------------------------------ Addresses */

/// The path or name in a URL.
static const char *ugram_name(const char *url)
{
    const char *sep = strstr(url, "://");

    return sep != NULL ? sep + 3 : "";
}

static bool ugram_is_abstract(const char *url)
{
    return strncmp(url, "unixgram+abstract:", 18) == 0;
}

static int ugram_parse(const char *url, struct sp_dgram_addr *a, sp_cause *cause)
{
    const char *what = ugram_is_abstract(url) ? "name" : "path";
    size_t len = strlen(ugram_name(url));

    memset(a, 0, sizeof(*a));
    if (len == 0) {
        return sp_fail(cause, SP_EINVAL, "%s is missing", what);
    }
    if (len > UGRAM_NAME_MAX) {
        return sp_fail(cause, SP_EINVAL, "%s of %zu bytes: the system takes at most %zu", what, len,
                       UGRAM_NAME_MAX);
    }
    a->at.un.sun_family = AF_UNIX;
    memcpy(a->at.un.sun_path + (ugram_is_abstract(url) ? 1 : 0), ugram_name(url), len);
    // An abstract name ends with its last byte, a path with a NUL.
    a->len = (uint16_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    return SP_OK;
}

/// The path, or "@name", as which the system names what it bound itself, too.
static void ugram_text(const struct sp_dgram_addr *addr, char *out, size_t size)
{
    const char *path = addr->at.un.sun_path;
    size_t head = offsetof(struct sockaddr_un, sun_path);
    size_t used = addr->len > head ? addr->len - head : 0;

    if (used > 0 && path[0] == '\0') {
        (void)snprintf(out, size, "@%.*s", (int)(used - 1), path + 1);
    } else {
        (void)snprintf(out, size, "%.*s", (int)used, path);
    }
}

/* ------------------------------------------------------------------ Sockets */

/// The system doubles what it is told, and takes no more than its own limit.
static void ugram_space(int fd, int64_t datagram_max)
{
    int want = UGRAM_SEND_SPACE;

    if (datagram_max + UGRAM_OVERHEAD > want) {
        want = (int)datagram_max + UGRAM_OVERHEAD;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &want, sizeof(want));
}

static void ugram_ask_who(int fd, int on)
{
    (void)setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
}

static void ugram_describe(const struct ugram_ep *e, sp_bound *bound)
{
    bool abstract = ugram_is_abstract(e->url);

    bound->port = -1;
    ugram_text(&e->dgram.local, bound->local, sizeof(bound->local));
    (void)snprintf(bound->url, sizeof(bound->url), "%s://%s",
                   abstract ? "unixgram+abstract" : "unixgram", bound->local + abstract);
}

static int ugram_open(struct sp_dgram_ep *ep, sp_bound *bound, sp_cause *cause)
{
    struct ugram_ep *e = ugram_ep(ep);
    const struct sp_dgram_addr *a = &e->dgram.local;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc = SP_OK;

    if (fd < 0) {
        return sp_fail(cause, -errno, "socket");
    }
    ugram_ask_who(fd, 1); // Before it can be reached.
    if (!ugram_is_abstract(e->url)) {
        rc = sp_sockfile_bind(fd, &a->at.un, (mode_t)sp_option_load(&e->permissions), &e->path,
                              cause);
    } else if (bind(fd, &a->at.sa, a->len) < 0) {
        rc = sp_fail(cause, -errno, "bind");
    }
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    ugram_describe(e, bound);
    return fd;
}

/// The end that stays is asked who answers before the other one leaves.
static int ugram_pair(struct sp_dgram_ep *ep, int fds[2], sp_cause *cause)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) {
        return sp_fail(cause, -errno, "socketpair");
    }
    ugram_space(fds[0], sp_option_load(&ugram_ep(ep)->datagram_max));
    ugram_ask_who(fds[0], 1);
    return SP_OK;
}

static int ugram_ask(struct sp_dgram_ep *ep, const void *bytes, size_t n, int fd)
{
    alignas(struct cmsghdr) unsigned char control[SP_DGRAM_CONTROL_MAX];
    struct iovec iov = {(void *)(uintptr_t)bytes, n};
    struct msghdr h = {.msg_name = &ep->remote.at,
                       .msg_namelen = ep->remote.len,
                       .msg_iov = &iov,
                       .msg_iovlen = 1};
    int to = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc = SP_OK;

    if (to < 0) {
        return -errno;
    }
    ugram_control_put(&h, control, fd);
    if (sendmsg(to, &h, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        // Too many descriptors on their way, of all that this user has sent: it passes.
        rc = errno == EAGAIN || errno == ETOOMANYREFS ? SP_EAGAIN : -errno;
    }
    (void)close(to);
    return rc;
}

/// Whether an end of the socket has no name. Those that connect to a service at an address have a
/// peer with one: a stranger cannot make us talk to that service in our name.
static bool ugram_unnamed(int fd, int (*name)(int, struct sockaddr *, socklen_t *))
{
    struct sockaddr_un a = {0};
    socklen_t len = sizeof(a);

    return name(fd, (struct sockaddr *)&a, &len) == 0 && a.sun_family == AF_UNIX &&
           len == sizeof(sa_family_t);
}

static int ugram_peer_name(int fd, struct sockaddr *a, socklen_t *len)
{
    return getpeername(fd, a, len);
}

static int ugram_own_name(int fd, struct sockaddr *a, socklen_t *len)
{
    return getsockname(fd, a, len);
}

/// One of a pair that the sender itself has made. What else refers to it there can do no more to us
/// than the other end can: we never rely on the flags of a file that is shared.
static int ugram_attach(struct sp_dgram_ep *ep, int fd, const struct sp_dgram_who *who)
{
    struct ucred maker;
    socklen_t len = sizeof(int);
    int type = 0;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET ||
        !ugram_unnamed(fd, ugram_own_name) || !ugram_unnamed(fd, ugram_peer_name)) {
        return SP_EPROTO;
    }
    len = sizeof(maker);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &maker, &len) < 0 ||
        maker.pid != (who->pid > 0 ? who->pid : 0)) { // 0: of another PID namespace.
        return SP_EPROTO;
    }
    ugram_space(fd, sp_option_load(&ugram_ep(ep)->datagram_max));
    return SP_OK;
}

static size_t ugram_payload(struct sp_dgram_ep *ep, int fd)
{
    socklen_t len = sizeof(int);
    int size = 0;

    (void)ep;
    return getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &len) == 0 && size > UGRAM_OVERHEAD
               ? (size_t)size - UGRAM_OVERHEAD
               : 0;
}

static void ugram_closed(struct sp_dgram_ep *ep, int fd)
{
    struct ugram_ep *e = ugram_ep(ep);

    if (fd == ep->fd) {
        sp_sockfile_remove(&e->path);
    }
}

/* ------------------------------------------------------------------ Who it is */

static int ugram_received(struct sp_dgram_ep *ep, struct sp_dgram_in *in)
{
    struct ugram_control c;

    (void)ep;
    ugram_control_take(in->control, &c);
    in->file = c.fd;
    if (c.known) {
        in->who.uid = (int32_t)c.who.uid;
        in->who.gid = (int32_t)c.who.gid;
        in->who.pid = c.who.pid;
    }
    return SP_OK;
}

static int ugram_admit(struct sp_dgram_ep *ep, struct sp_dgram_pipe *pipe, sp_handshake *hs)
{
    const struct ugram_ep *e = ugram_ep(ep);
    int64_t uid = sp_option_load(&e->allow_uid);
    int64_t gid = sp_option_load(&e->allow_gid);

    if (pipe->dialed) {
        ugram_ask_who(pipe->fd, 0); // Nobody else can answer now.
    }
    if ((uid >= 0 || gid >= 0) && hs->pid <= 0) {
        return sp_fail(&hs->cause, -EACCES, "the system does not say who the peer is");
    }
    if (uid >= 0 && uid != hs->uid) {
        return sp_fail(&hs->cause, -EACCES, "peer uid %lld is not allowed", (long long)hs->uid);
    }
    if (gid >= 0 && gid != hs->gid) {
        return sp_fail(&hs->cause, -EACCES, "peer gid %lld is not allowed", (long long)hs->gid);
    }
    return SP_OK;
}

/* ------------------------------------------------------------------ Large messages */

static int ugram_wrap(struct sp_dgram_ep *ep, const sp_msg *m, struct msghdr *h, void *control)
{
    int fd = ugram_memfd_make(m);

    (void)ep;
    if (fd >= 0) {
        ugram_control_put(h, control, fd);
    }
    return fd;
}

static int ugram_unwrap(struct sp_dgram_ep *ep, int file, uint64_t max, sp_msg **m)
{
    return ugram_memfd_read(ep->host, file, max, m);
}

static const struct sp_dgram_kind ugram_kind = {
    .size = sizeof(ugram_kind),
    .flags = SP_DGRAM_PAIRS,
    .payload_max = 1 << 17,
    .control_size = UGRAM_CONTROL,
    .limit_hint = "raise \"datagram-max\" at both ends (the system's limit is net.core.wmem_max), "
                  "or set \"memfd-min\"",
    .open = ugram_open,
    .text = ugram_text,
    .pair = ugram_pair,
    .ask = ugram_ask,
    .attach = ugram_attach,
    .payload = ugram_payload,
    .received = ugram_received,
    .admit = ugram_admit,
    .closed = ugram_closed,
    .wrap = ugram_wrap,
    .unwrap = ugram_unwrap,
};

/* ------------------------------------------------------------------ The table */

static int ugram_ep_init(void *ep, const sp_host *host, sp_ep_ref *ref, const char *url,
                         sp_cause *cause)
{
    struct ugram_ep *e = ep;
    int rc = sp_dgram_init(&e->dgram, host, ref, &ugram_kind, cause);

    e->url = url;
    e->path = (struct sp_sockfile){.dir = -1};
    if (rc == SP_OK) {
        rc = ugram_parse(url, &e->dgram.remote, cause);
        e->dgram.local = e->dgram.remote;
    }
    return rc;
}

/// Buffers are made for that size: it is settled once.
static void ugram_begin(struct ugram_ep *e)
{
    if (!e->begun) {
        e->begun = true;
        e->dgram.payload_max = (uint32_t)sp_option_load(&e->datagram_max);
    }
}

static int ugram_start(void *ep, sp_bound *bound, sp_cause *cause)
{
    ugram_begin(ep);
    return sp_dgram_listen(ep, bound, cause);
}

static int ugram_dial(void *ep, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    ugram_begin(ep);
    return sp_dgram_dial(ep, pipe, ref, cause);
}

/// The first is not one of "unixgram+abstract".
static const sp_option ugram_options[] = {
    {"permissions", SP_OPTION_INT, 0, offsetof(struct ugram_ep, permissions), 0600, 0, 0777, "",
     "permission bits of the socket file: who may connect needs write permission"},
    {"allow-uid", SP_OPTION_INT, 0, offsetof(struct ugram_ep, allow_uid), -1, -1, UINT32_MAX, "",
     "refuse peers of other users; -1: none"},
    {"allow-gid", SP_OPTION_INT, 0, offsetof(struct ugram_ep, allow_gid), -1, -1, UINT32_MAX, "",
     "refuse peers whose group is another; -1: none"},
    {"datagram-max", SP_OPTION_INT, 0, offsetof(struct ugram_ep, datagram_max), 1 << 17, 1 << 12,
     1 << 24, "bytes",
     "the largest message of a datagram that is sent or taken; the system may allow less "
     "(net.core.wmem_max)"},
    {"memfd-min", SP_OPTION_INT, 0, offsetof(struct ugram_ep, dgram.file_min), 0, 0, INT32_MAX,
     "bytes",
     "from this size on a message travels as a sealed memory file, and so does a larger one"
     " than a datagram takes; 0: never"},
    SP_DGRAM_OPTIONS,
};

#define UGRAM_OPTIONS (sizeof(ugram_options) / sizeof(ugram_options[0]))

static const sp_counter ugram_counters[] = {SP_DGRAM_COUNTERS};

/// What both have.
#define UGRAM_SLOTS                                                                                \
    .size = sizeof(sp_transport_ops), .ep_size = sizeof(struct ugram_ep),                          \
    .pipe_size = sizeof(struct sp_dgram_pipe), .option_size = sizeof(sp_option),                   \
    .ep_init = ugram_ep_init, .listen = ugram_start, .accept = sp_dgram_accept,                    \
    .dial = ugram_dial, .ep_close = sp_dgram_ep_close, .ep_fini = sp_dgram_ep_fini,                \
    .on_timer = sp_dgram_on_timer, .handshake = sp_dgram_handshake, .harvest = sp_dgram_harvest,   \
    .submit = sp_dgram_submit, .pipe_close = sp_dgram_pipe_close, .pipe_fini = sp_dgram_pipe_fini, \
    .on_ready = sp_dgram_on_ready, .counters = ugram_counters,                                     \
    .counter_count = sizeof(ugram_counters) / sizeof(ugram_counters[0]),                           \
    .counter_size = sizeof(sp_counter)

static const sp_transport_ops ugram_ops = {
    UGRAM_SLOTS,
    .options = ugram_options,
    .option_count = UGRAM_OPTIONS,
    .url_form = "unixgram:///PATH",
};

static const sp_transport_ops ugram_abstract_ops = {
    UGRAM_SLOTS,
    .options = ugram_options + 1,
    .option_count = UGRAM_OPTIONS - 1,
    .url_form = "unixgram+abstract://NAME",
};

static const sp_export ugram_exports[] = {
    {.kind = SP_KIND_TRANSPORT, .name = "unixgram", .ops.transport = &ugram_ops},
    {.kind = SP_KIND_TRANSPORT, .name = "unixgram+abstract", .ops.transport = &ugram_abstract_ops},
};

static const sp_plugin ugram_plugin = {
    .size = sizeof(ugram_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.scalability-protocols.sp.unixgram",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "SP over AF_UNIX datagrams, with a socket file or an abstract name",
    .exports = ugram_exports,
    .export_count = sizeof(ugram_exports) / sizeof(ugram_exports[0]),
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &ugram_plugin;
}
