/* SPDX-License-Identifier: MIT */
/// The public functions on sockets, endpoints and pipes: look the handle up, call the core, leave.
/// [any]
#include "error.h"
#include "platform.h"
#include "runtime.h"
#include "socket.h"

#include <sp/sp.h>

#include <stdio.h>
#include <string.h>

static int sock_enter(sp_socket s, struct sp__sock **out)
{
    struct sp__object *obj;
    int rc = sp__enter(s.id, SP__KIND_SOCKET, &obj);

    if (rc == SP_OK) {
        *out = SP__CONTAINER(obj, struct sp__sock, obj);
    }
    return rc;
}

static int ep_enter(uint64_t id, enum sp__kind kind, struct sp__ep **out)
{
    struct sp__object *obj;
    int rc = sp__enter(id, kind, &obj);

    if (rc == SP_OK) {
        *out = SP__CONTAINER(obj, struct sp__ep, obj);
    }
    return rc;
}

static int pipe_enter(sp_pipe p, struct sp__pipe **out)
{
    struct sp__object *obj;
    int rc = sp__enter(p.id, SP__KIND_PIPE, &obj);

    if (rc == SP_OK) {
        *out = SP__CONTAINER(obj, struct sp__pipe, obj);
    }
    return rc;
}

/* ------------------------------------------------------------------ Opening and closing */

int sp_open(sp_socket *s, const char *protocol)
{
    return sp__sock_open(s, protocol, false);
}

int sp_open_raw(sp_socket *s, const char *protocol)
{
    return sp__sock_open(s, protocol, true);
}

int sp_close(sp_socket s)
{
    struct sp__thread *t = sp__self();
    struct sp__sock *sock = NULL;
    int rc = sock_enter(s, &sock);

    if (rc != SP_OK) {
        return rc;
    }
    if (!sp__sock_shut(sock, sp__option(&sock->opt.linger))) {
        rc = sp__fail(SP_ECLOSED, "close: the socket is closed already");
    } else if (!t->running && !t->in_user) {
        sp__sock_wait(sock, SP__NEVER);
    }
    sp__leave();
    sp__reclaim();
    return rc;
}

int sp_drain(sp_socket s, int timeout_ms, uint64_t *undelivered)
{
    struct sp__sock *sock = NULL;
    uint64_t left = 0;
    int rc;

    if (!sp__may_block()) {
        return SP_ESTATE;
    }
    rc = sock_enter(s, &sock);
    if (rc != SP_OK) {
        return rc;
    }
    if (!sp__sock_shut(sock, timeout_ms < 0 ? -1 : timeout_ms)) {
        rc = sp__fail(SP_ECLOSED, "drain: the socket is closed already");
    } else {
        sp__sock_wait(sock, SP__NEVER);
        left = sp__sock_undelivered(sock);
        rc = left > 0 ? sp__fail(SP_ETIMEDOUT, "drain: %llu messages were not delivered",
                                 (unsigned long long)left)
                      : SP_OK;
    }
    if (undelivered != NULL) {
        *undelivered = left;
    }
    sp__leave();
    sp__reclaim();
    return rc;
}

/* ------------------------------------------------------------------ Endpoints */

static int ep_make(sp_socket s, const char *url, bool dialer, uint64_t *id)
{
    struct sp__sock *sock = NULL;
    int rc = sock_enter(s, &sock);

    if (rc != SP_OK) {
        return rc;
    }
    rc = sp__ep_new(id, sock, url, dialer);
    sp__leave();
    return rc;
}

static int ep_start(uint64_t id, enum sp__kind kind, int flags)
{
    struct sp__ep *ep = NULL;
    int rc = ep_enter(id, kind, &ep);

    if (rc != SP_OK) {
        return rc;
    }
    rc = kind == SP__KIND_LISTENER ? sp__ep_listen(ep)
                                   : sp__ep_dial(ep, (flags & SP_NONBLOCK) == 0);
    sp__leave();
    return rc;
}

static int ep_close(uint64_t id, enum sp__kind kind)
{
    struct sp__ep *ep = NULL;
    int rc = ep_enter(id, kind, &ep);

    if (rc != SP_OK) {
        return rc;
    }
    sp__ep_close(ep);
    sp__leave();
    return SP_OK;
}

/// New and start in one; on failure nothing is left.
static int ep_make_and_start(sp_socket s, const char *url, enum sp__kind kind, int flags,
                             uint64_t *id)
{
    int rc = ep_make(s, url, kind == SP__KIND_DIALER, id);

    if (rc < 0) {
        return rc;
    }
    rc = ep_start(*id, kind, flags);
    if (rc == SP_ECLOSED) {
        (void)sp__fail_code(rc, "%s %s: the socket was closed",
                            kind == SP__KIND_DIALER ? "dial" : "listen", url);
    } else if (rc < 0) {
        (void)ep_close(*id, kind);
    }
    *id = rc < 0 ? 0 : *id;
    return rc;
}

int sp_listener_new(sp_listener *l, sp_socket s, const char *url)
{
    return l != NULL ? ep_make(s, url, false, &l->id)
                     : sp__fail(SP_EINVAL, "listener: no place for the result");
}

int sp_dialer_new(sp_dialer *d, sp_socket s, const char *url)
{
    return d != NULL ? ep_make(s, url, true, &d->id)
                     : sp__fail(SP_EINVAL, "dialer: no place for the result");
}

int sp_listener_start(sp_listener l)
{
    return ep_start(l.id, SP__KIND_LISTENER, 0);
}

int sp_dialer_start(sp_dialer d, int flags)
{
    if (!sp__flags_known(flags)) {
        return sp__flags_fail("dial", flags);
    }
    return ep_start(d.id, SP__KIND_DIALER, flags);
}

int sp_listen(sp_socket s, const char *url, sp_listener *l)
{
    uint64_t id = 0;
    int rc = ep_make_and_start(s, url, SP__KIND_LISTENER, 0, &id);

    if (l != NULL) {
        l->id = id;
    }
    return rc;
}

int sp_dial(sp_socket s, const char *url, sp_dialer *d, int flags)
{
    uint64_t id = 0;
    int rc = sp__flags_known(flags) ? ep_make_and_start(s, url, SP__KIND_DIALER, flags, &id)
                                    : sp__flags_fail("dial", flags);

    if (d != NULL) {
        d->id = id;
    }
    return rc;
}

int sp_listener_close(sp_listener l)
{
    return ep_close(l.id, SP__KIND_LISTENER);
}

int sp_dialer_close(sp_dialer d)
{
    return ep_close(d.id, SP__KIND_DIALER);
}

/* ------------------------------------------------------------------ Pipes */

int sp_pipe_close(sp_pipe p)
{
    struct sp__pipe *pipe = NULL;
    int rc = pipe_enter(p, &pipe);

    if (rc != SP_OK) {
        return rc;
    }
    sp__pipe_user_close(pipe);
    sp__run_here(sp__option(&pipe->sock->opt.in_place) != 0);
    sp__leave();
    return SP_OK;
}

sp_socket sp_pipe_socket(sp_pipe p)
{
    sp_socket s = {0};
    struct sp__pipe *pipe = NULL;

    if (pipe_enter(p, &pipe) == SP_OK) {
        s.id = pipe->sock->obj.id;
        sp__leave();
    }
    return s;
}

/// The endpoint that made a pipe, if it is of this sort.
static uint64_t pipe_ep(sp_pipe p, bool dialer)
{
    struct sp__pipe *pipe = NULL;
    uint64_t id = 0;

    if (pipe_enter(p, &pipe) == SP_OK) {
        id = pipe->ep->dialer == dialer ? pipe->ep->obj.id : 0;
        sp__leave();
    }
    return id;
}

sp_dialer sp_pipe_dialer(sp_pipe p)
{
    sp_dialer d = {pipe_ep(p, true)};

    return d;
}

sp_listener sp_pipe_listener(sp_pipe p)
{
    sp_listener l = {pipe_ep(p, false)};

    return l;
}

static void peer_fill(const struct sp__pipe *p, sp_peer_info *out, size_t size)
{
    sp_peer_info info = {.size = size, .pipe = {p->obj.id}, .peer = p->ref.id};
    struct sp__who who = sp__pipe_who(p);

    info.uid = sp__who_id(who.uid);
    info.gid = sp__who_id(who.gid);
    info.pid = who.pid;
    (void)snprintf(info.address, sizeof(info.address), "%s", sp__pipe_remote(p));
    memcpy(out, &info, size < sizeof(info) ? size : sizeof(info));
}

int sp_peers(sp_socket s, sp_peer_info *info, size_t *n)
{
    size_t size = info != NULL ? info[0].size : 0;
    size_t room = n != NULL && info != NULL ? *n : 0;
    size_t count = 0;
    struct sp__sock *sock = NULL;
    int rc;

    if (n == NULL || (info != NULL && room > 0 && size < offsetof(sp_peer_info, uid))) {
        return sp__fail(SP_EINVAL, "peers: no place for the count, or info[0].size not set");
    }
    rc = sock_enter(s, &sock);
    if (rc != SP_OK) {
        return rc;
    }
    (void)pthread_mutex_lock(&sock->lock);
    for (struct sp__pipe *p = sock->pipes; p != NULL; p = p->next) {
        // Acquire: a pipe that is up has its addresses.
        if (atomic_load_explicit(&p->state, memory_order_acquire) != SP__PIPE_UP) {
            continue;
        }
        if (count < room) {
            peer_fill(p, (sp_peer_info *)(void *)((char *)info + count * size), size);
        }
        count++;
    }
    (void)pthread_mutex_unlock(&sock->lock);
    *n = count;
    sp__leave();
    return count > room && info != NULL
               ? sp__fail(SP_EMSGSIZE, "peers: %zu are there, room for %zu", count, room)
               : SP_OK;
}

/* ------------------------------------------------------------------ Messages */

int sp_sendmsgs(sp_socket s, sp_msg **m, size_t n, int flags)
{
    struct sp__sock *sock = NULL;
    int rc;

    if (!sp__flags_known(flags)) {
        return sp__flags_fail("send", flags);
    }
    rc = sock_enter(s, &sock);
    if (rc != SP_OK) {
        return rc;
    }
    for (size_t i = 0; i < n && rc == SP_OK; i++) {
        if (m == NULL || m[i] == NULL) {
            rc = sp__fail(SP_EINVAL, "send: message %zu is NULL", i);
        }
    }
    if (rc == SP_OK) {
        rc = sp__ctx_send(&sock->ctx, m, n, sp__timeout(&sock->ctx.opt.send_timeout, flags));
    }
    sp__leave();
    return rc;
}

int sp_sendmsg(sp_socket s, sp_msg *m, int flags)
{
    int rc = sp_sendmsgs(s, &m, 1, flags);

    return rc < 0 ? rc : SP_OK;
}

int sp_send(sp_socket s, const void *data, size_t len, int flags)
{
    struct sp__sock *sock = NULL;
    sp_msg *m;
    int rc;

    if (data == NULL && len > 0) {
        return sp__fail(SP_EINVAL, "send: no data");
    }
    if (!sp__flags_known(flags)) {
        return sp__flags_fail("send", flags);
    }
    rc = sock_enter(s, &sock);
    if (rc < 0) {
        return rc;
    }
    m = sp__msg_new(len);
    if (m == NULL) {
        rc = sp__fail_code(SP_ENOMEM, "send: message of %zu bytes", len);
    } else {
        memcpy(m->data, len > 0 ? data : "", len);
        rc = sp__ctx_send_one(&sock->ctx, m, sp__timeout(&sock->ctx.opt.send_timeout, flags));
        if (rc < 0) {
            sp__msg_release(m);
        }
    }
    sp__leave();
    return rc < 0 ? rc : SP_OK;
}

int sp_recvmsgs(sp_socket s, sp_msg **m, size_t n, int flags)
{
    struct sp__sock *sock = NULL;
    int rc;

    if (m == NULL) {
        return sp__fail(SP_EINVAL, "receive: no place for the message");
    }
    if (!sp__flags_known(flags)) {
        return sp__flags_fail("receive", flags);
    }
    rc = sock_enter(s, &sock);
    if (rc != SP_OK) {
        return rc;
    }
    rc = sp__ctx_recv(&sock->ctx, m, n, sp__timeout(&sock->ctx.opt.recv_timeout, flags));
    sp__leave();
    return rc;
}

int sp_recvmsg(sp_socket s, sp_msg **m, int flags)
{
    int rc = sp_recvmsgs(s, m, 1, flags);

    return rc < 0 ? rc : SP_OK;
}

ssize_t sp_recv(sp_socket s, void *buf, size_t cap, int flags)
{
    struct sp__sock *sock = NULL;
    ssize_t rc;

    if (buf == NULL && cap > 0) {
        return sp__fail(SP_EINVAL, "receive: no buffer");
    }
    if (!sp__flags_known(flags)) {
        return sp__flags_fail("receive", flags);
    }
    rc = sock_enter(s, &sock);
    if (rc != SP_OK) {
        return rc;
    }
    rc = sp__ctx_recv_into(&sock->ctx, buf, cap, sp__timeout(&sock->ctx.opt.recv_timeout, flags));
    sp__leave();
    return rc;
}
