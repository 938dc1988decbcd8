/* SPDX-License-Identifier: MIT */
/// Transport "tcp": SP over TCP, tcp://HOST:PORT. An endpoint owns its listening socket, a pipe its
/// connection; hello, framing, reads and writes are the stream kit's. Thread classes as in
/// sp_transport_ops.
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sp/plugin.h>
#include <sp/sdk/cause.h>
#include <sp/sdk/sockaddr.h>
#include <sp/sdk/stream.h>

/// A thousand peers that dial at once must find room: one that does not waits a second for its next
/// try.
#define TCP_BACKLOG 4096

/// Bytes of the system's buffers for large messages within one machine: see sp_stream_limit.
#define TCP_LOCAL_BUFFER (256 * 1024)

/// "[IPv6%scope]:port" with a NUL, where an interface has at most 15 letters.
#define TCP_LOCAL_MAX 64

/// Addresses of one name that are tried.
#define TCP_ADDRS 8

struct tcp_ep {
    const sp_host *host;
    sp_ep_ref *ref;
    int64_t nodelay; ///< options
    int64_t keepalive;
    int64_t unsent_max;
    int64_t listen_fd;
    sp_inet *more; ///< all addresses, when there are several
    sp_inet first;
    uint8_t addr_count;
    uint8_t addr_next; ///< the next attempt to dial begins with this one
    bool any;          ///< the host is "*" or absent
    bool closed;
    int fd; ///< listens; -1: not
    char local_address[TCP_LOCAL_MAX];
};

struct tcp_pipe {
    struct sp_stream stream;
};

static int tcp_ep_init(void *ep, const sp_host *host, sp_ep_ref *ref, const char *url,
                       sp_cause *cause)
{
    struct tcp_ep *e = ep;
    struct sp_hostport at;
    sp_inet addrs[TCP_ADDRS];
    const char *sep = strstr(url, "://");
    int rc;

    e->host = host;
    e->ref = ref;
    e->fd = -1;
    rc = sp_hostport_parse(sep != NULL ? sep + 3 : url, &at, cause);
    if (rc < 0) {
        return rc;
    }
    // Names are looked up here, where waiting is allowed, and not again.
    rc = sp_inet_resolve(&at, SOCK_STREAM, addrs, TCP_ADDRS, cause);
    if (rc < 0) {
        return rc;
    }
    e->first = addrs[0];
    if (rc > 1) {
        e->more = malloc((size_t)rc * sizeof(addrs[0]));
        if (e->more == NULL) {
            return sp_fail(cause, SP_ENOMEM, "addresses");
        }
        memcpy(e->more, addrs, (size_t)rc * sizeof(addrs[0]));
    }
    e->addr_count = (uint8_t)rc;
    e->any = at.host[0] == '\0';
    return SP_OK;
}

static const sp_inet *tcp_addr(const struct tcp_ep *e, int i)
{
    return e->more != NULL ? &e->more[i] : &e->first;
}

static void tcp_set(int fd, int level, int name, int64_t value)
{
    int v = value != 0;

    (void)setsockopt(fd, level, name, &v, sizeof(v));
}

/// Per-connection options. A system that refuses one still gives a connection that works.
static void tcp_tune(const struct tcp_ep *e, int fd)
{
    int unsent = (int)sp_option_load(&e->unsent_max);

    tcp_set(fd, IPPROTO_TCP, TCP_NODELAY, sp_option_load(&e->nodelay));
    tcp_set(fd, SOL_SOCKET, SO_KEEPALIVE, sp_option_load(&e->keepalive));
    if (unsent > 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
    }
}

static int tcp_socket(const sp_inet *a, sp_cause *cause)
{
    int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);

    return fd >= 0 ? fd : sp_fail(cause, -errno, "socket");
}

/// A socket that listens at `a`.
static int tcp_listen_at(const struct tcp_ep *e, const sp_inet *a, sp_cause *cause)
{
    int fd = tcp_socket(a, cause);
    const char *what = "bind";
    int err;

    if (fd < 0) {
        return fd;
    }
    // Not yet for port 0: the system might choose a port that another socket has bound and does not
    // listen on yet. But before listen: connections inherit it, and with it leave the port free.
    tcp_set(fd, SOL_SOCKET, SO_REUSEADDR, sp_inet_port(a) != 0);
    if (e->any && a->sa.sa_family == AF_INET6) {
        tcp_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    }
    if (bind(fd, &a->sa, sp_inet_len(a)) == 0) {
        what = "listen";
        tcp_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        if (listen(fd, TCP_BACKLOG) == 0) {
            return fd;
        }
    }
    err = errno;
    (void)close(fd);
    return sp_fail(cause, -err, "%s", what);
}

/// The listening socket: the one that was given, or at the first address of the host that this
/// machine has.
static int tcp_listen_open(const struct tcp_ep *e, sp_cause *cause)
{
    int64_t given = sp_option_load(&e->listen_fd);
    int fd = -EADDRNOTAVAIL;

    if (given >= 0) {
        return sp_stream_adopt(given, AF_INET, cause);
    }
    for (int i = 0; i < e->addr_count && (fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT); i++) {
        fd = tcp_listen_at(e, tcp_addr(e, i), cause);
    }
    return fd;
}

static void tcp_describe(const struct tcp_ep *e, sp_bound *bound)
{
    sp_inet a;

    if (sp_inet_local(e->fd, &a) < 0) {
        return;
    }
    bound->port = sp_inet_port(&a);
    sp_inet_text(&a, bound->local, sizeof(bound->local));
    if (!sp_inet_is_any(&a)) {
        (void)snprintf(bound->url, sizeof(bound->url), "tcp://%s", bound->local);
        return;
    }
    // "Any" cannot be dialled; this machine's own loopback can.
    (void)snprintf(bound->url, sizeof(bound->url), "tcp://%s:%u",
                   a.sa.sa_family == AF_INET6 && !e->any ? "[::1]" : "127.0.0.1", sp_inet_port(&a));
}

static void tcp_ep_close(void *ep)
{
    struct tcp_ep *e = ep;

    e->closed = true;
    if (e->fd >= 0) {
        e->host->ep_unwatch(e->ref, e->fd);
        (void)close(e->fd);
        e->fd = -1;
    }
}

static void tcp_ep_fini(void *ep)
{
    free(((struct tcp_ep *)ep)->more);
}

static int tcp_listen(void *ep, sp_bound *bound, sp_cause *cause)
{
    struct tcp_ep *e = ep;
    int rc = tcp_listen_open(e, cause);

    if (rc < 0) {
        return rc;
    }
    e->fd = rc;
    tcp_describe(e, bound);
    rc = e->host->ep_watch(e->ref, e->fd);
    if (rc < 0) {
        (void)close(e->fd);
        e->fd = -1;
        return sp_fail(cause, rc, "watch");
    }
    return SP_OK;
}

static int tcp_accept(void *ep, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    const struct tcp_ep *e = ep;
    struct tcp_pipe *p = pipe;
    int fd;

    if (e->fd < 0) {
        return sp_fail(cause, SP_ECLOSED, "accept");
    }
    fd = sp_stream_accept(e->fd);
    if (fd < 0) {
        return sp_fail(cause, fd, "accept");
    }
    tcp_tune(e, fd);
    return sp_stream_open(&p->stream, e->host, ref, fd, SP_STREAM_PLAIN, 0, NULL);
}

/// Option "local-address": "ADDRESS" or "ADDRESS:PORT".
static int tcp_bind_local(const struct tcp_ep *e, int fd, const sp_inet *remote, sp_cause *cause)
{
    const char *text = e->local_address;
    char full[TCP_LOCAL_MAX + 2];
    struct sp_hostport at;
    sp_inet a = {.in6 = {.sin6_family = AF_UNSPEC}};
    int rc;

    if (text[0] == '\0') {
        return SP_OK;
    }
    (void)snprintf(
        full, sizeof(full), "%s%s", text,
        strstr(text, "]:") != NULL || (text[0] != '[' && strchr(text, ':') != NULL) ? "" : ":0");
    rc = sp_hostport_parse(full, &at, cause);
    if (rc == SP_OK) {
        rc = sp_inet_number(&at, &a, cause);
    }
    if (rc < 0) {
        return rc;
    }
    if (a.sa.sa_family != remote->sa.sa_family) {
        return sp_fail(cause, SP_EINVAL, "local-address \"%s\": of another address family", text);
    }
    if (at.port == 0) {
        tcp_set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    } else {
        tcp_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    }
    return bind(fd, &a.sa, sp_inet_len(&a)) == 0
               ? SP_OK
               : sp_fail(cause, -errno, "bind local-address \"%s\"", text);
}

/// Has a connect that was just begun failed already? Only then can the next address be tried on the
/// same attempt.
static int tcp_failed_at_once(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    socklen_t len = sizeof(int);
    int err = 0;

    if (poll(&ready, 1, 0) == 1 && (ready.revents & (POLLERR | POLLHUP)) != 0) {
        (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
    }
    return -err;
}

/// A socket that is connecting to `a`.
static int tcp_connect(const struct tcp_ep *e, const sp_inet *a, sp_cause *cause)
{
    int fd = tcp_socket(a, cause);
    int rc;

    if (fd < 0) {
        return fd;
    }
    tcp_tune(e, fd);
    rc = tcp_bind_local(e, fd, a, cause);
    if (rc == SP_OK && connect(fd, &a->sa, sp_inet_len(a)) < 0 && errno != EINPROGRESS) {
        rc = sp_fail(cause, -errno, "connect");
    } else if (rc == SP_OK && e->addr_count > 1) {
        rc = tcp_failed_at_once(fd);
        (void)sp_fail(cause, rc, "connect");
    }
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    return fd;
}

static int tcp_dial(void *ep, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    struct tcp_ep *e = ep;
    struct tcp_pipe *p = pipe;
    int fd = SP_EINVAL;

    if (e->closed) {
        return sp_fail(cause, SP_ECLOSED, "dial");
    }
    if (e->any) {
        return sp_fail(cause, SP_EINVAL, "host \"*\": only a listener can be at any address");
    }
    if (sp_inet_port(&e->first) == 0) {
        return sp_fail(cause, SP_EINVAL, "port \"0\": only a listener can leave the choice");
    }
    for (int i = 0; i < e->addr_count && fd < 0; i++) {
        fd = tcp_connect(e, tcp_addr(e, e->addr_next), cause);
        e->addr_next = (uint8_t)((e->addr_next + 1) % e->addr_count);
    }
    if (fd < 0) {
        return fd;
    }
    return sp_stream_open(&p->stream, e->host, ref, fd, SP_STREAM_PLAIN, SP_STREAM_DIALED, NULL);
}

/// Whether both ends have one address: then the connection stays within this machine.
static bool tcp_is_local(const sp_inet *local, const sp_inet *remote)
{
    sp_inet here = *local;

    here.in4.sin_port = remote->in4.sin_port; // where IPv6 has it too
    return sp_inet_equal(&here, remote);
}

static int tcp_handshake(void *pipe, unsigned ready, sp_handshake *hs)
{
    struct tcp_pipe *p = pipe;
    sp_inet local;
    sp_inet remote;
    int rc = sp_stream_handshake(&p->stream, hs);

    (void)ready;
    if (rc != SP_OK && rc != SP_EPROTO) {
        return rc;
    }
    if (sp_inet_local(p->stream.fd, &local) < 0 || sp_inet_remote(p->stream.fd, &remote) < 0) {
        return rc < 0 ? rc : sp_fail(&hs->cause, -ECONNRESET, "hello");
    }
    sp_inet_text(&local, hs->local, sizeof(hs->local));
    sp_inet_text(&remote, hs->remote, sizeof(hs->remote));
    // On the loopback, dialling a port of the range that the system hands out, while nobody listens
    // there, sooner or later gets that same port as its own: TCP then connects the socket to
    // itself.
    if (p->stream.dialed && sp_inet_equal(&local, &remote)) {
        return sp_fail(&hs->cause, -ECONNREFUSED, "connect");
    }
    if (tcp_is_local(&local, &remote)) {
        sp_stream_limit(&p->stream, TCP_LOCAL_BUFFER);
    }
    return rc;
}

static const sp_option tcp_options[] = {
    {"tcp-nodelay", SP_OPTION_BOOL, 0, offsetof(struct tcp_ep, nodelay), 1, 0, 1, "",
     "send at once instead of waiting for more"},
    {"tcp-keepalive", SP_OPTION_BOOL, 0, offsetof(struct tcp_ep, keepalive), 0, 0, 1, "",
     "let the system probe idle connections"},
    {"tcp-unsent-max", SP_OPTION_INT, 0, offsetof(struct tcp_ep, unsent_max), 0, 0, INT32_MAX,
     "bytes", "what the system takes ahead of what it can send; 0: it decides"},
    {"listen-fd", SP_OPTION_INT, 0, offsetof(struct tcp_ep, listen_fd), -1, -1, INT32_MAX, "",
     "listen on a duplicate of this listening socket; -1: on a new one"},
    {"local-address", SP_OPTION_STR, 0, offsetof(struct tcp_ep, local_address), 0, 0, TCP_LOCAL_MAX,
     "", "ADDRESS or ADDRESS:PORT from which to dial"},
};

static const sp_transport_ops tcp_ops = {
    .size = sizeof(tcp_ops),
    .ep_size = sizeof(struct tcp_ep),
    .pipe_size = sizeof(struct tcp_pipe),
    .options = tcp_options,
    .option_count = sizeof(tcp_options) / sizeof(tcp_options[0]),
    .option_size = sizeof(sp_option),
    .url_form = "tcp://HOST:PORT",
    .ep_init = tcp_ep_init,
    .listen = tcp_listen,
    .accept = tcp_accept,
    .dial = tcp_dial,
    .ep_close = tcp_ep_close,
    .ep_fini = tcp_ep_fini,
    .handshake = tcp_handshake,
    .harvest = sp_stream_harvest,
    .submit = sp_stream_submit,
    .pipe_close = sp_stream_close,
    .pipe_fini = sp_stream_fini,
};

static const sp_export tcp_exports[] = {
    {.kind = SP_KIND_TRANSPORT, .name = "tcp", .ops.transport = &tcp_ops},
};

static const sp_plugin tcp_plugin = {
    .size = sizeof(tcp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.scalability-protocols.sp.tcp",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "SP over TCP",
    .exports = tcp_exports,
    .export_count = 1,
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &tcp_plugin;
}
