/* SPDX-License-Identifier: MIT */
/// A third-party transport: "xunix://NAME", streams over AF_UNIX in the abstract name space (no
/// file, gone with its owner; any user of the machine may connect). The stream kit of the SDK does
/// hellos, framing and buffering; what is left is to parse a URL, and to bind, accept and connect.
///
/// Built as anybody would: against the installed SDK alone, see CMakeLists.txt.
#include <sp/plugin.h>
#include <sp/sdk/cause.h>
#include <sp/sdk/stream.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define XUNIX_SCHEME "xunix://"

/// An endpoint: a listener with its socket, or a dialer.
struct xunix_ep {
    const sp_host *host;
    sp_ep_ref *ref;
    const char *url;
    struct sockaddr_un addr;
    socklen_t addr_len;
    int fd; // -1: none
};

/// A connection.
struct xunix_pipe {
    struct sp_stream stream; // first
    const char *url;
};

static int xunix_ep_init(void *self, const sp_host *host, sp_ep_ref *ref, const char *url,
                         sp_cause *cause)
{
    struct xunix_ep *ep = self;
    const char *name = url + strlen(XUNIX_SCHEME);
    size_t len;

    ep->fd = -1;
    ep->host = host;
    ep->ref = ref;
    ep->url = url;
    if (strncmp(url, XUNIX_SCHEME, strlen(XUNIX_SCHEME)) != 0 || *name == '\0') {
        return sp_fail(cause, SP_EINVAL, "the URL is not of the form " XUNIX_SCHEME "NAME");
    }
    len = strlen(name);
    if (len > sizeof(ep->addr.sun_path) - 1) {
        return sp_fail(cause, SP_EINVAL, "the name is longer than %zu bytes",
                       sizeof(ep->addr.sun_path) - 1);
    }
    ep->addr.sun_family = AF_UNIX;
    memcpy(ep->addr.sun_path + 1, name, len); // a first byte of 0: abstract
    ep->addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
    return SP_OK;
}

static void xunix_ep_close(void *self)
{
    struct xunix_ep *ep = self;

    if (ep->fd >= 0) {
        ep->host->ep_unwatch(ep->ref, ep->fd);
        (void)close(ep->fd);
        ep->fd = -1;
    }
}

static int xunix_listen(void *self, sp_bound *bound, sp_cause *cause)
{
    struct xunix_ep *ep = self;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc;

    if (fd < 0) {
        return sp_fail(cause, -errno, "socket");
    }
    if (bind(fd, (const struct sockaddr *)&ep->addr, ep->addr_len) < 0) {
        rc = sp_fail(cause, -errno, "bind");
        goto close_fd;
    }
    if (listen(fd, SOMAXCONN) < 0) {
        rc = sp_fail(cause, -errno, "listen");
        goto close_fd;
    }
    rc = ep->host->ep_watch(ep->ref, fd);
    if (rc != SP_OK) {
        goto close_fd;
    }
    ep->fd = fd;
    bound->port = -1;
    (void)snprintf(bound->local, sizeof(bound->local), "%s", ep->url);
    (void)snprintf(bound->url, sizeof(bound->url), "%s", ep->url);
    return SP_OK;

close_fd:
    (void)close(fd);
    return rc;
}

static int xunix_accept(void *self, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    struct xunix_ep *ep = self;
    struct xunix_pipe *p = pipe;
    int fd = sp_stream_accept(ep->fd);

    if (fd < 0) {
        return sp_fail(cause, fd, "accept");
    }
    p->url = ep->url;
    return sp_stream_open(&p->stream, ep->host, ref, fd, SP_STREAM_PLAIN, 0, NULL);
}

static int xunix_dial(void *self, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    struct xunix_ep *ep = self;
    struct xunix_pipe *p = pipe;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return sp_fail(cause, -errno, "socket");
    }
    // AF_UNIX connects at once or not at all; EAGAIN means that the listener's queue is full.
    if (connect(fd, (const struct sockaddr *)&ep->addr, ep->addr_len) < 0) {
        int rc = sp_fail(cause, errno == EAGAIN ? -ECONNREFUSED : -errno, "connect");

        (void)close(fd);
        return rc;
    }
    p->url = ep->url;
    return sp_stream_open(&p->stream, ep->host, ref, fd, SP_STREAM_PLAIN, SP_STREAM_DIALED, NULL);
}

static int xunix_handshake(void *pipe, unsigned ready, sp_handshake *hs)
{
    struct xunix_pipe *p = pipe;
    int rc = sp_stream_handshake(&p->stream, hs);

    (void)ready;
    if (rc == SP_OK) {
        (void)snprintf(hs->local, sizeof(hs->local), "%s", p->url);
        (void)snprintf(hs->remote, sizeof(hs->remote), "%s", p->url);
    }
    return rc;
}

static int xunix_harvest(void *pipe, sp_batch *in, size_t max, unsigned ready)
{
    return sp_stream_harvest(pipe, in, max, ready);
}

static int xunix_submit(void *pipe, sp_batch *out)
{
    return sp_stream_submit(pipe, out);
}

static void xunix_pipe_close(void *pipe)
{
    sp_stream_close(pipe);
}

static void xunix_pipe_fini(void *pipe)
{
    sp_stream_fini(pipe);
}

static const sp_transport_ops xunix_ops = {
    .size = sizeof(sp_transport_ops),
    .ep_size = sizeof(struct xunix_ep),
    .pipe_size = sizeof(struct xunix_pipe),
    .option_size = sizeof(sp_option),
    .url_form = XUNIX_SCHEME "NAME",
    .ep_init = xunix_ep_init,
    .listen = xunix_listen,
    .accept = xunix_accept,
    .dial = xunix_dial,
    .ep_close = xunix_ep_close,
    .handshake = xunix_handshake,
    .harvest = xunix_harvest,
    .submit = xunix_submit,
    .pipe_close = xunix_pipe_close,
    .pipe_fini = xunix_pipe_fini,
};

static const sp_export xunix_exports[] = {
    {.kind = SP_KIND_TRANSPORT, .name = "xunix", .ops.transport = &xunix_ops},
};

static const sp_plugin xunix_plugin = {
    .size = sizeof(sp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.example.xunix",
    .version = "1.0.0",
    .vendor = "example.org",
    .licence = "MIT",
    .description = "streams over AF_UNIX in the abstract name space",
    .exports = xunix_exports,
    .export_count = 1,
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &xunix_plugin;
}
