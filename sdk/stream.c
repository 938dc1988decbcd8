/* SPDX-License-Identifier: MIT */
/// The stream kit, part 1: opening, the exchange of hellos, closing, and reading and writing a
/// plain socket. Everything is [io] except close [any] and fini, adopt [control].
#include "stream_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sp/sdk/cause.h>

#define HELLO_LEN 8U

/// How much of what a peer sent is read and thrown away when a pipe ends: see sp_stream_fini.
#define DRAIN_READS 16

static ssize_t socket_recv(struct sp_stream *s, struct iovec *iov, int n)
{
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)n};
    ssize_t got;

    do {
        got = n == 1 ? recv(s->fd, iov->iov_base, iov->iov_len, 0) : recvmsg(s->fd, &msg, 0);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static ssize_t socket_send(struct sp_stream *s, struct iovec *iov, int n)
{
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)n};
    ssize_t put;

    do {
        put = n == 1 ? send(s->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL)
                     : sendmsg(s->fd, &msg, MSG_NOSIGNAL);
    } while (put < 0 && errno == EINTR);
    return put < 0 ? -errno : put;
}

static const struct sp_stream_io socket_io = {socket_recv, socket_send, true};

// One parameter more than the house allows: every one is needed once, and at every caller.
// NOLINTNEXTLINE(readability-function-size)
int sp_stream_open(struct sp_stream *s, const sp_host *host, sp_pipe_ref *ref, int fd,
                   enum sp_stream_framing framing, unsigned flags, const struct sp_stream_io *io)
{
    int rc;

    s->ref = ref;
    s->fd = fd;
    s->io = io != NULL ? io : &socket_io;
    s->framing = (uint8_t)framing;
    s->dialed = (flags & SP_STREAM_DIALED) != 0;
    // Last: whoever closes on another thread meanwhile (the acquire in sp_stream_close) sees the fd
    // with it, or neither.
    __atomic_store_n(&s->host, host, __ATOMIC_RELEASE);
    rc = host->pipe_watch(ref, fd);
    if (rc < 0) {
        s->failed = true;
        sp_stream_fini(s);
    }
    return rc;
}

/// SP_OK: the connection is made, or it cannot be told yet; the first byte sent tells.
static int hello_connected(struct sp_stream *s, sp_handshake *hs)
{
    socklen_t len = sizeof(int);
    int err = 0;

    if (!s->dialed || s->tx_off > 0) {
        return SP_OK;
    }
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0) {
        err = errno;
    }
    return err == 0 ? SP_OK : sp_fail(&hs->cause, -err, "connect");
}

static int hello_send(struct sp_stream *s, sp_handshake *hs)
{
    unsigned char hello[HELLO_LEN] = {
        0, 'S', 'P', 0, (unsigned char)(hs->ids.own >> 8), (unsigned char)hs->ids.own, 0, 0};

    while (s->tx_off < HELLO_LEN) {
        struct iovec iov = {hello + s->tx_off, HELLO_LEN - s->tx_off};
        ssize_t put = s->io->send(s, &iov, 1);

        if (put == SP_EAGAIN) {
            return SP_EAGAIN;
        }
        if (put < 0) {
            const char *where = s->dialed && s->tx_off == 0 ? "connect" : "hello";

            return sp_fail(&hs->cause, (int)put, "%s", where);
        }
        s->tx_off += (size_t)put;
    }
    return SP_OK;
}

/// Reads the peer's hello and not a byte more: what follows may be its first message.
static int hello_recv(struct sp_stream *s, sp_handshake *hs)
{
    while (s->head_len < HELLO_LEN) {
        struct iovec iov = {s->head + s->head_len, HELLO_LEN - s->head_len};
        ssize_t got = s->io->recv(s, &iov, 1);

        if (got == SP_EAGAIN) {
            return SP_EAGAIN;
        }
        if (got == 0) {
            return sp_fail(&hs->cause, -ECONNRESET, "hello: the peer closed");
        }
        if (got < 0) {
            return sp_fail(&hs->cause, (int)got, "hello");
        }
        s->head_len += (uint8_t)got;
    }
    return SP_OK;
}

static int hello_verify(const struct sp_stream *s, sp_handshake *hs)
{
    const unsigned char *h = s->head;

    if (h[0] != 0 || h[1] != 'S' || h[2] != 'P' || h[3] != 0 || h[6] != 0 || h[7] != 0) {
        return sp_fail(&hs->cause, SP_EPROTO,
                       "hello: not an SP peer (%02x %02x %02x %02x %02x %02x %02x %02x)", h[0],
                       h[1], h[2], h[3], h[4], h[5], h[6], h[7]);
    }
    if (!sp_handshake_choose(hs, (uint16_t)(h[4] << 8 | h[5]))) {
        return sp_fail(&hs->cause, SP_EPROTO, "hello: peer speaks protocol 0x%02x, not 0x%02x",
                       hs->peer, hs->ids.peer);
    }
    return SP_OK;
}

/// Both sides say who they are at once.
static int hello_exchange(struct sp_stream *s, sp_handshake *hs)
{
    int sent = hello_send(s, hs);
    int rc;

    if (s->dialed && s->tx_off == 0) {
        return sent; // not connected yet, or never
    }
    // A peer that refuses us may have said who it is before it closed: that is the better reason,
    // so read it even if our own hello could not be sent.
    rc = hello_recv(s, hs);
    if (rc == SP_OK) {
        rc = hello_verify(s, hs);
    }
    if (rc < 0 && rc != SP_EAGAIN) {
        return rc;
    }
    return sent < 0 ? sent : rc;
}

/// A listener with several pairs answers with the one that fits; a peer that none fits is told the
/// first one.
static int hello_answer(struct sp_stream *s, sp_handshake *hs)
{
    int sent;
    int rc = hello_recv(s, hs);

    if (rc < 0) {
        return rc;
    }
    rc = hello_verify(s, hs);
    if (rc < 0 && hs->peer == 0) {
        return rc;
    }
    sent = hello_send(s, hs);
    return rc < 0 ? rc : sent;
}

int sp_stream_handshake(struct sp_stream *s, sp_handshake *hs)
{
    int rc;

    if (stream_is_closed(s)) {
        return sp_fail(&hs->cause, SP_ECLOSED, "hello");
    }
    rc = hello_connected(s, hs);
    if (rc < 0) {
        return rc;
    }
    rc = !s->dialed && hs->pair_count > 1 ? hello_answer(s, hs) : hello_exchange(s, hs);
    if (rc < 0) {
        return rc;
    }
    s->recv_max = hs->recv_max;
    s->tx_off = 0;
    s->head_len = 0;
    hs->uid = -1;
    hs->gid = -1;
    hs->pid = -1;
    return SP_OK;
}

void sp_stream_limit(struct sp_stream *s, int bytes)
{
    s->tx_limit = bytes;
    s->rx_limit = bytes;
}

void sp_stream_close(void *pipe)
{
    struct sp_stream *s = pipe;

    // Only the sending direction: a message that arrives after a full shutdown makes TCP reset the
    // connection, and a reset throws away what we wrote and the peer has not fetched. The flag ends
    // the other direction. Acquire: pairs with the release in sp_stream_open.
    if (__atomic_exchange_n(&s->closed, 1, __ATOMIC_RELAXED) == 0 &&
        __atomic_load_n(&s->host, __ATOMIC_ACQUIRE) != NULL) {
        (void)shutdown(s->fd, SHUT_WR);
    }
}

/// Closing a socket with unread bytes resets the connection, as above. Bounded: a peer that goes on
/// sending gets its reset.
static void stream_drain(struct sp_stream *s)
{
    void *scratch = s->host->scratch();

    for (int i = 0; i < DRAIN_READS && scratch != NULL; i++) {
        if (recv(s->fd, scratch, STREAM_SCRATCH, MSG_DONTWAIT) <= 0) {
            return;
        }
    }
}

void sp_stream_fini(void *pipe)
{
    struct sp_stream *s = pipe;

    if (s->host == NULL) {
        return;
    }
    if (s->body != NULL) {
        s->host->msg_release(s->body);
        s->body = NULL;
    }
    if (s->rest != NULL) {
        s->host->msg_release(s->rest);
        s->rest = NULL;
    }
    if (!s->failed) {
        sp_stream_close(s);
        stream_drain(s);
    }
    (void)close(s->fd);
    s->fd = -1;
    s->host = NULL;
}

int sp_stream_accept(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            return fd;
        }
        // Linux hands over the errors that a waiting connection had as accept's own.
        switch (errno) {
        case EINTR:
        case ECONNABORTED:
        case EPROTO:
        case EPERM:
        case ENETDOWN:
        case ENOPROTOOPT:
        case EHOSTDOWN:
        case ENONET:
        case EHOSTUNREACH:
        case ENETUNREACH:
            continue;
        default:
            return -errno;
        }
    }
}

static int socket_int(int fd, int name)
{
    socklen_t len = sizeof(int);
    int value = -1;

    return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -errno : value;
}

int sp_stream_adopt(int64_t fd, int domain, sp_cause *cause)
{
    int family;
    int own;

    if (fd < 0 || fd > INT32_MAX || socket_int((int)fd, SO_ACCEPTCONN) != 1 ||
        socket_int((int)fd, SO_TYPE) != SOCK_STREAM) {
        return sp_fail(cause, SP_EINVAL, "listen-fd %lld: not a listening stream socket",
                       (long long)fd);
    }
    family = socket_int((int)fd, SO_DOMAIN);
    if (family != domain && !(domain == AF_INET && family == AF_INET6)) {
        return sp_fail(cause, SP_EINVAL, "listen-fd %lld: of another address family",
                       (long long)fd);
    }
    own = fcntl((int)fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) {
        return sp_fail(cause, -errno, "listen-fd %lld", (long long)fd);
    }
    if (fcntl(own, F_SETFL, fcntl(own, F_GETFL) | O_NONBLOCK) < 0) {
        int err = errno;

        (void)close(own);
        return sp_fail(cause, -err, "listen-fd %lld", (long long)fd);
    }
    return own;
}
