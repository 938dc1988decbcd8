/* SPDX-License-Identifier: MIT */
/// Contexts that the application opens beside the socket's own, and their part of the API. [any]
///
/// Such a context is an object that holds its socket. It is made on the calling thread and joined
/// to the protocol by the first event that the socket's actor gets from it, which is in front of
/// whatever is sent on it. When no call uses it any more it is destroyed, which posts its last
/// event: behind all that was sent on it.
#include "ctx.h"
#include "error.h"
#include "platform.h"

#include <sp/sp.h>

#include <string.h>

struct ctx_object {
    struct sp__object obj;
    struct sp__ctx ctx;
    struct sp__event open_ev;
    struct sp__event end_ev;
    bool linked;
};

static struct ctx_object *ctx_object(struct sp__ctx *c)
{
    return SP__CONTAINER(c, struct ctx_object, ctx);
}

/* ------------------------------------------------------------------ The socket's actor */

/// No call uses it, and nothing is posted to it any more.
static void ctx_on_end(struct sp__event *ev)
{
    struct ctx_object *o = SP__CONTAINER(ev, struct ctx_object, end_ev);
    struct sp__sock *s = o->ctx.sock;

    sp__ctx_end(&o->ctx);
    (void)pthread_mutex_lock(&s->lock);
    for (struct sp__ctx **at = &s->ctxs; o->linked && *at != NULL; at = &(*at)->next) {
        if (*at == &o->ctx) {
            *at = o->ctx.next;
            break;
        }
    }
    s->ctxs_taken += sp__counted(&o->ctx.taken);
    s->ctxs_stale += sp__counted(&o->ctx.stale);
    // What was left in it is counted as dropped, and there no more.
    s->ctxs_entered += sp__counted(&o->ctx.entered);
    (void)pthread_mutex_unlock(&s->lock);
    sp__ctx_fini(&o->ctx);
    sp__free(o);
    sp__sock_settle(s);
    sp__drop(&s->obj);
}

static void ctx_shut(struct ctx_object *o)
{
    sp__ctx_shut(&o->ctx);
    if (sp__handle_close(&o->obj)) {
        sp__drop(&o->obj);
    }
}

static void ctx_on_open(struct sp__event *ev)
{
    struct ctx_object *o = SP__CONTAINER(ev, struct ctx_object, open_ev);
    struct sp__sock *s = o->ctx.sock;

    if (s->state != SP__SOCK_OPEN || sp__ctx_join(&o->ctx) < 0) {
        ctx_shut(o); // Its calls find it closed.
        return;
    }
    (void)pthread_mutex_lock(&s->lock);
    o->linked = true;
    o->ctx.next = s->ctxs;
    s->ctxs = &o->ctx;
    (void)pthread_mutex_unlock(&s->lock);
    sp__sock_settle(s);
}

void sp__ctxs_shut(struct sp__sock *s)
{
    for (struct sp__ctx *c = s->ctxs; c != NULL; c = c->next) {
        ctx_shut(ctx_object(c));
    }
}

/* ------------------------------------------------------------------ The calling thread */

/// On the thread that dropped the last reference or hazard, wherever that is: the actor does the
/// rest, and nothing is run here.
static void ctx_destroy(struct sp__object *obj)
{
    sp__post(&SP__CONTAINER(obj, struct ctx_object, obj)->end_ev);
    sp__run_here(false);
}

static int ctx_make(struct sp__sock *s, uint64_t *id)
{
    size_t head = (sizeof(struct ctx_object) + 15) & ~(size_t)15;
    struct ctx_object *o = sp__zalloc(head + s->ops->ctx_size);
    int rc;

    if (o == NULL) {
        return SP_ENOMEM;
    }
    rc = sp__ctx_init(&o->ctx, s, &o->obj, (char *)o + head);
    if (rc < 0) {
        sp__ctx_fini(&o->ctx);
        sp__free(o);
        return rc;
    }
    sp__object_init(&o->obj, SP__KIND_CTX, ctx_destroy);
    sp__hold(&s->obj);
    sp__event_init(&o->open_ev, &s->actor, &o->obj, ctx_on_open);
    sp__event_init(&o->end_ev, &s->actor, NULL, ctx_on_end);
    sp__sock_inherit(s, o->ctx.ref.state);
    o->ctx.opt.recv_timeout = sp__option(&s->ctx.opt.recv_timeout);
    o->ctx.opt.send_timeout = sp__option(&s->ctx.opt.send_timeout);
    sp__post(&o->open_ev);
    rc = sp__handle_open(&o->obj, id);
    sp__drop(&o->obj); // From here on the handle's table and the event hold it.
    sp__run_here(sp__option(&s->opt.in_place) != 0);
    return rc;
}

int sp_ctx_open(sp_ctx *c, sp_socket s)
{
    struct sp__object *obj;
    struct sp__sock *sock;
    int rc;

    if (c == NULL) {
        return sp__fail(SP_EINVAL, "context: no place for the result");
    }
    rc = sp__enter(s.id, SP__KIND_SOCKET, &obj);
    if (rc < 0) {
        return rc;
    }
    sock = SP__CONTAINER(obj, struct sp__sock, obj);
    if ((sock->ops->flags & SP_PROTO_CONTEXTS) == 0) {
        rc = sp__fail(SP_ENOTSUP, "context: the protocol \"%s\"%s has none", sock->protocol->name,
                      sock->ref.raw ? " in raw mode" : "");
    } else {
        rc = ctx_make(sock, &c->id);
        rc = rc < 0 ? sp__fail_code(rc, "context") : rc;
    }
    sp__leave();
    return rc;
}

int sp_ctx_close(sp_ctx c)
{
    struct sp__object *obj;
    struct ctx_object *o;
    struct sp__sock *s;
    int rc = sp__enter(c.id, SP__KIND_CTX, &obj);

    if (rc < 0) {
        return rc;
    }
    o = SP__CONTAINER(obj, struct ctx_object, obj);
    s = o->ctx.sock;
    sp__hold(&s->obj);
    ctx_shut(o);
    sp__leave();
    sp__reclaim();
    sp__run_here(sp__option(&s->opt.in_place) != 0);
    sp__drop(&s->obj);
    return SP_OK;
}

struct sp__ctx *sp__ctx_of(struct sp__object *obj)
{
    switch (obj->kind) {
    case SP__KIND_SOCKET:
        return &SP__CONTAINER(obj, struct sp__sock, obj)->ctx;
    case SP__KIND_CTX:
        return &SP__CONTAINER(obj, struct ctx_object, obj)->ctx;
    default:
        return NULL;
    }
}

int sp__ctx_enter(uint64_t id, struct sp__ctx **c)
{
    struct sp__object *obj;
    int rc = sp__enter(id, SP__KIND_NONE, &obj);

    if (rc < 0) {
        return rc;
    }
    *c = sp__ctx_of(obj);
    if (*c == NULL) {
        sp__leave();
        return sp__fail(SP_EINVAL, "handle 0x%llx is neither a socket nor a context",
                        (unsigned long long)id);
    }
    return SP_OK;
}

int sp_ctx_sendmsg(sp_ctx c, sp_msg *m, int flags)
{
    struct sp__object *obj;
    struct sp__ctx *ctx;
    int rc;

    if (!sp__flags_known(flags)) {
        return sp__flags_fail("send", flags);
    }
    rc = sp__enter(c.id, SP__KIND_CTX, &obj);
    if (rc < 0) {
        return rc;
    }
    ctx = sp__ctx_of(obj);
    rc = m != NULL ? sp__ctx_send(ctx, &m, 1, sp__timeout(&ctx->opt.send_timeout, flags))
                   : sp__fail(SP_EINVAL, "send: the message is NULL");
    sp__leave();
    return rc < 0 ? rc : SP_OK;
}

int sp_ctx_recvmsg(sp_ctx c, sp_msg **m, int flags)
{
    struct sp__object *obj;
    struct sp__ctx *ctx;
    int rc;

    if (m == NULL) {
        return sp__fail(SP_EINVAL, "receive: no place for the message");
    }
    if (!sp__flags_known(flags)) {
        return sp__flags_fail("receive", flags);
    }
    rc = sp__enter(c.id, SP__KIND_CTX, &obj);
    if (rc < 0) {
        return rc;
    }
    ctx = sp__ctx_of(obj);
    rc = sp__ctx_recv(ctx, m, 1, sp__timeout(&ctx->opt.recv_timeout, flags));
    sp__leave();
    return rc < 0 ? rc : SP_OK;
}
