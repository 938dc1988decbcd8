/* SPDX-License-Identifier: MIT */
/// Transports "ipc" and "abstract": SP over AF_UNIX streams, ipc:///absolute/path,
/// ipc://relative/path, abstract://name. An endpoint owns its listening socket and file, a pipe its
/// connection; hello, framing, reads and writes are the stream kit's, the rules for socket files
/// those of sp/sdk/sockfile.h. Thread classes as in sp_transport_ops.

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sp/sdk/cause.h>
#include <sp/sdk/sockfile.h>
#include <sp/sdk/stream.h>

/// As for tcp: a burst of peers must find room.
#define IPC_BACKLOG 4096

/// Bytes that a connection may have on their way (the system takes it twice, and allows less unless
/// it is told to): with its default of 208 KiB a sender of large messages stops five times in each
/// MiB.
#define IPC_SEND_BUFFER (512 * 1024)

/// Bytes of a path or name: sun_path less a NUL at its end or in front.
#define IPC_NAME_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

struct ipc_address {
    struct sockaddr_un un;
    socklen_t len;
};

/// What a listener has beside: a dialer reads its address in the URL.
struct ipc_bound {
    struct ipc_address addr;
    struct sp_sockfile path;
};

struct ipc_ep {
    const sp_host *host;
    sp_ep_ref *ref;
    int64_t permissions; ///< options
    int64_t allow_uid;
    int64_t allow_gid;
    int64_t listen_fd;
    const char *url;
    struct ipc_bound *bound; ///< NULL: was never to listen
    int fd;                  ///< listens; -1: not
    bool closed;
};

struct ipc_pipe {
    struct sp_stream stream;
    const struct ipc_ep *ep;
    bool known; ///< `peer` is read and allowed
    struct ucred peer;
};

/// The path or name in a URL.
static const char *ipc_name(const char *url)
{
    const char *sep = strstr(url, "://");

    return sep != NULL ? sep + 3 : "";
}

static bool ipc_is_abstract(const char *url)
{
    return strncmp(url, "abstract:", 9) == 0;
}

/// The address of a URL that ipc_ep_init took.
static struct ipc_address ipc_address(const char *url)
{
    struct ipc_address a = {.un = {.sun_family = AF_UNIX}};
    size_t len = strlen(ipc_name(url));

    memcpy(a.un.sun_path + (ipc_is_abstract(url) ? 1 : 0), ipc_name(url), len);
    // An abstract name ends with its last byte, a path with a NUL.
    a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    return a;
}

/// The address for people: the path, or "@name".
static void ipc_describe(const struct ipc_ep *e, char *text, size_t size)
{
    struct ipc_address a = e->bound != NULL ? e->bound->addr : ipc_address(e->url);
    const char *path = a.un.sun_path;
    size_t used = a.len - offsetof(struct sockaddr_un, sun_path);

    if (used > 0 && path[0] == '\0') {
        (void)snprintf(text, size, "@%.*s", (int)(used - 1), path + 1);
    } else {
        (void)snprintf(text, size, "%.*s", (int)used, path);
    }
}

static int ipc_ep_init(void *ep, const sp_host *host, sp_ep_ref *ref, const char *url,
                       sp_cause *cause)
{
    struct ipc_ep *e = ep;
    const char *what = ipc_is_abstract(url) ? "name" : "path";
    size_t len = strlen(ipc_name(url));

    e->host = host;
    e->ref = ref;
    e->url = url;
    e->fd = -1;
    if (len == 0) {
        return sp_fail(cause, SP_EINVAL, "%s is missing", what);
    }
    if (len > IPC_NAME_MAX) {
        return sp_fail(cause, SP_EINVAL, "%s of %zu bytes: the system takes at most %zu", what, len,
                       IPC_NAME_MAX);
    }
    return SP_OK;
}

/// A new socket that listens at the address of the URL.
static int ipc_listen_new(struct ipc_ep *e, sp_cause *cause)
{
    const struct ipc_address *a = &e->bound->addr;
    struct sp_sockfile *path = &e->bound->path;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc = SP_OK;

    if (fd < 0) {
        return sp_fail(cause, -errno, "socket");
    }
    if (!ipc_is_abstract(e->url)) {
        rc = sp_sockfile_bind(fd, &a->un, (mode_t)sp_option_load(&e->permissions), path, cause);
    } else if (bind(fd, (const struct sockaddr *)&a->un, a->len) < 0) {
        rc = sp_fail(cause, -errno, "bind");
    }
    if (rc == SP_OK && listen(fd, IPC_BACKLOG) < 0) {
        rc = sp_fail(cause, -errno, "listen");
        sp_sockfile_remove(path);
    }
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    return fd;
}

/// The listening socket: the one that was given, or a new one. Its file, if it has one, is not ours
/// if it was given.
static int ipc_listen_open(struct ipc_ep *e, sp_cause *cause)
{
    int64_t given = sp_option_load(&e->listen_fd);
    struct ipc_address *a = &e->bound->addr;
    int fd;

    *a = ipc_address(e->url);
    if (given < 0) {
        return ipc_listen_new(e, cause);
    }
    fd = sp_stream_adopt(given, AF_UNIX, cause);
    if (fd >= 0) {
        memset(a, 0, sizeof(*a));
        a->len = sizeof(a->un);
        (void)getsockname(fd, (struct sockaddr *)&a->un, &a->len);
    }
    return fd;
}

static void ipc_ep_close(void *ep)
{
    struct ipc_ep *e = ep;

    e->closed = true;
    if (e->fd >= 0) {
        e->host->ep_unwatch(e->ref, e->fd);
        sp_sockfile_remove(&e->bound->path);
        (void)close(e->fd);
        e->fd = -1;
    }
}

static void ipc_ep_fini(void *ep)
{
    free(((struct ipc_ep *)ep)->bound);
}

static int ipc_listen(void *ep, sp_bound *bound, sp_cause *cause)
{
    struct ipc_ep *e = ep;
    bool abstract;
    int rc;

    if (e->bound == NULL) {
        e->bound = calloc(1, sizeof(*e->bound));
    }
    if (e->bound == NULL) {
        return sp_fail(cause, SP_ENOMEM, "listen");
    }
    e->bound->path = (struct sp_sockfile){.dir = -1};
    rc = ipc_listen_open(e, cause);
    if (rc < 0) {
        return rc;
    }
    e->fd = rc;
    abstract = e->bound->addr.un.sun_path[0] == '\0';
    bound->port = -1;
    ipc_describe(e, bound->local, sizeof(bound->local));
    (void)snprintf(bound->url, sizeof(bound->url), "%s%s", abstract ? "abstract://" : "ipc://",
                   bound->local + abstract);
    rc = e->host->ep_watch(e->ref, e->fd);
    if (rc < 0) {
        sp_sockfile_remove(&e->bound->path);
        (void)close(e->fd);
        e->fd = -1;
        return sp_fail(cause, rc, "watch");
    }
    return SP_OK;
}

/// A connection that is made. `flags`: of sp_stream_open.
static int ipc_open(const struct ipc_ep *e, struct ipc_pipe *p, sp_pipe_ref *ref, int fd,
                    unsigned flags)
{
    int size = IPC_SEND_BUFFER;

    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    p->ep = e;
    return sp_stream_open(&p->stream, e->host, ref, fd, SP_STREAM_MARKED, flags, NULL);
}

static int ipc_accept(void *ep, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    const struct ipc_ep *e = ep;
    struct ipc_pipe *p = pipe;
    int fd;

    if (e->fd < 0) {
        return sp_fail(cause, SP_ECLOSED, "accept");
    }
    fd = sp_stream_accept(e->fd);
    if (fd < 0) {
        return sp_fail(cause, fd, "accept");
    }
    return ipc_open(e, p, ref, fd, 0);
}

static int ipc_dial(void *ep, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    const struct ipc_ep *e = ep;
    struct ipc_address a = ipc_address(e->url);
    struct ipc_pipe *p = pipe;
    int fd;

    if (e->closed) {
        return sp_fail(cause, SP_ECLOSED, "dial");
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return sp_fail(cause, -errno, "socket");
    }
    if (connect(fd, (const struct sockaddr *)&a.un, a.len) < 0) {
        int err = errno;

        (void)close(fd);
        // There is no connecting in the background here: a full queue is a refusal, to be tried
        // again.
        return err == EAGAIN
                   ? sp_fail(cause, -ECONNREFUSED, "connect: the listener's queue is full")
                   : sp_fail(cause, -err, "connect");
    }
    return ipc_open(e, p, ref, fd, SP_STREAM_DIALED);
}

/// Who is at the other end, and may it be? For a dialer that is the process that listens.
static int ipc_check_peer(struct ipc_pipe *p, sp_cause *cause)
{
    int64_t uid = sp_option_load(&p->ep->allow_uid);
    int64_t gid = sp_option_load(&p->ep->allow_gid);
    socklen_t len = sizeof(p->peer);

    if (p->known) {
        return SP_OK;
    }
    if (getsockopt(p->stream.fd, SOL_SOCKET, SO_PEERCRED, &p->peer, &len) < 0) {
        return sp_fail(cause, -errno, "credentials");
    }
    if (uid >= 0 && uid != (int64_t)p->peer.uid) {
        return sp_fail(cause, -EACCES, "peer uid %u is not allowed", p->peer.uid);
    }
    if (gid >= 0 && gid != (int64_t)p->peer.gid) {
        return sp_fail(cause, -EACCES, "peer gid %u is not allowed", p->peer.gid);
    }
    p->known = true;
    return SP_OK;
}

static int ipc_handshake(void *pipe, unsigned ready, sp_handshake *hs)
{
    struct ipc_pipe *p = pipe;
    int rc = ipc_check_peer(p, &hs->cause);

    (void)ready;
    if (rc == SP_OK) {
        rc = sp_stream_handshake(&p->stream, hs);
    }
    if (rc == SP_EAGAIN) {
        return rc;
    }
    hs->uid = p->peer.uid;
    hs->gid = p->peer.gid;
    hs->pid = p->peer.pid;
    ipc_describe(p->ep, hs->local, sizeof(hs->local));
    ipc_describe(p->ep, hs->remote, sizeof(hs->remote));
    return rc;
}

/// The first is not one of "abstract".
static const sp_option ipc_options[] = {
    {"permissions", SP_OPTION_INT, 0, offsetof(struct ipc_ep, permissions), 0600, 0, 0777, "",
     "permission bits of the socket file: who may connect needs write permission"},
    {"allow-uid", SP_OPTION_INT, 0, offsetof(struct ipc_ep, allow_uid), -1, -1, UINT32_MAX, "",
     "refuse peers of other users; -1: none"},
    {"allow-gid", SP_OPTION_INT, 0, offsetof(struct ipc_ep, allow_gid), -1, -1, UINT32_MAX, "",
     "refuse peers whose group is another; -1: none"},
    {"listen-fd", SP_OPTION_INT, 0, offsetof(struct ipc_ep, listen_fd), -1, -1, INT32_MAX, "",
     "listen on a duplicate of this listening socket; -1: on a new one"},
};

#define IPC_OPTIONS (sizeof(ipc_options) / sizeof(ipc_options[0]))

/// What both have.
#define IPC_SLOTS                                                                                  \
    .size = sizeof(sp_transport_ops), .ep_size = sizeof(struct ipc_ep),                            \
    .pipe_size = sizeof(struct ipc_pipe), .option_size = sizeof(sp_option),                        \
    .ep_init = ipc_ep_init, .listen = ipc_listen, .accept = ipc_accept, .dial = ipc_dial,          \
    .ep_close = ipc_ep_close, .ep_fini = ipc_ep_fini, .handshake = ipc_handshake,                  \
    .harvest = sp_stream_harvest, .submit = sp_stream_submit, .pipe_close = sp_stream_close,       \
    .pipe_fini = sp_stream_fini

static const sp_transport_ops ipc_ops = {
    IPC_SLOTS,
    .options = ipc_options,
    .option_count = IPC_OPTIONS,
    .url_form = "ipc:///PATH",
};

static const sp_transport_ops abstract_ops = {
    IPC_SLOTS,
    .options = ipc_options + 1,
    .option_count = IPC_OPTIONS - 1,
    .url_form = "abstract://NAME",
};

static const sp_export ipc_exports[] = {
    {.kind = SP_KIND_TRANSPORT, .name = "ipc", .ops.transport = &ipc_ops},
    {.kind = SP_KIND_TRANSPORT, .name = "abstract", .ops.transport = &abstract_ops},
};

static const sp_plugin ipc_plugin = {
    .size = sizeof(ipc_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.scalability-protocols.sp.ipc",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "SP over AF_UNIX streams, with a socket file or an abstract name",
    .exports = ipc_exports,
    .export_count = sizeof(ipc_exports) / sizeof(ipc_exports[0]),
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &ipc_plugin;
}
