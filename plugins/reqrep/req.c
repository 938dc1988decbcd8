/* SPDX-License-Identifier: MIT */
/// REQ: asks, resends until it is answered, and hands over the one reply that belongs to the
/// question. [actor]
///
/// A context's states: idle → waiting (the request is with a peer, or is to be sent again) → idle.
/// The request is kept whole; what is sent is a copy. It is sent again when the peer that holds it
/// goes away, or after "req:resend-time" (looked at every "req:resend-tick"); with resending off
/// the loss of that peer ends the question (-ECONNRESET). A request that no peer has room for stays
/// in the core's queue.
#include "reqrep.h"

#include <sp/sdk/backtrace.h>
#include <sp/sdk/idmap.h>
#include <sp/sdk/ring.h>

struct req_ctx {
    struct sp_idmap_entry question; // first: its id
    sp_ctx_ref *ref;
    struct req_ctx *next; ///< all contexts of the socket
    sp_msg *request;      ///< being asked; NULL: idle
    sp_pipe_ref *holder;  ///< who has it; NULL: to be sent again
    int64_t sent;         ///< ns
    int64_t resend_time;  ///< option, ms
};

struct req {
    const sp_host *host;
    sp_sock_ref *sock;
    struct sp_ring peers;
    struct sp_idmap questions; ///< of contexts, by their ids
    struct req_ctx *ctxs;
    size_t unheld; ///< requests that no peer has
    sp_timer_ref *tick;
    bool ticking;
    int64_t resend_tick; ///< option, ms
};

static int req_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    struct req *req = self;

    req->host = host;
    req->sock = sock;
    sp_idmap_init(&req->questions, host);
    return host->timer_new(sock, NULL, &req->tick);
}

static int req_ctx_open(void *self, sp_ctx_ref *ref)
{
    struct req *req = self;
    struct req_ctx *ctx = ref->state;

    ctx->ref = ref;
    ctx->next = req->ctxs;
    req->ctxs = ctx;
    return SP_OK;
}

/// Who has a context's request from now on; NULL: nobody.
static void req_hold(struct req *req, struct req_ctx *ctx, sp_pipe_ref *holder)
{
    req->unheld -= ctx->holder == NULL;
    req->unheld += holder == NULL;
    ctx->holder = holder;
}

/// Forgets the question that a context asks.
static void req_drop(struct req *req, struct req_ctx *ctx)
{
    if (ctx->request != NULL) {
        req->unheld -= ctx->holder == NULL;
        sp_idmap_del(&req->questions, &ctx->question);
        req->host->msg_release(ctx->request);
        ctx->request = NULL;
        ctx->holder = NULL;
    }
}

static void req_ctx_close(void *self, sp_ctx_ref *ref)
{
    struct req *req = self;
    struct req_ctx *ctx = ref->state;

    req_drop(req, ctx);
    sp_idmap_del(&req->questions, &ctx->question);
    for (struct req_ctx **at = &req->ctxs; *at != NULL; at = &(*at)->next) {
        if (*at == ctx) {
            *at = ctx->next;
            break;
        }
    }
}

/// Sends a copy of `m` to the peer whose turn it is. NULL: no peer has room, or there is no memory.
static sp_pipe_ref *req_transmit(struct req *req, struct req_ctx *ctx, sp_msg *m, bool again)
{
    sp_pipe_ref *pipe = sp_ring_choose(&req->peers, req->host);
    sp_msg *copy = pipe != NULL ? req->host->msg_clone(m) : NULL;
    int rc;

    if (copy == NULL) {
        return NULL;
    }
    rc = again ? req->host->pipe_send_copy(pipe, copy) : req->host->pipe_send(pipe, copy);
    if (rc != SP_OK) {
        req->host->msg_release(copy);
        return NULL;
    }
    ctx->sent = req->host->now();
    return pipe;
}

static void req_tick_start(struct req *req)
{
    if (!req->ticking && sp_option_load(&req->resend_tick) >= 0) {
        req->ticking = true;
        req->host->timer_arm(req->tick, sp_option_load(&req->resend_tick));
    }
}

/// Each message is a new question that replaces the one before.
static void req_on_send(void *self, sp_ctx_ref *ref, sp_batch *out)
{
    struct req *req = self;
    struct req_ctx *ctx = ref->state;

    while (out->n > 1) {
        req->host->discard_out(req->sock, sp_batch_pop(out), SP_DISCARD_CANCELED);
    }
    for (sp_msg *m; (m = sp_batch_pop(out)) != NULL;) {
        req_drop(req, ctx);
        if (m->header_len == 0) { // Else it was offered before, and has its id.
            (void)sp_msg_header_put_u32(m, sp_idmap_add(&req->questions, &ctx->question));
        }
        ctx->holder = req_transmit(req, ctx, m, false);
        if (ctx->holder == NULL) {
            sp_batch_unpop(out, m);
            return;
        }
        ctx->request = m;
        if (sp_option_load(&ctx->resend_time) >= 0) {
            req_tick_start(req);
        }
    }
}

/// Sends a request again, if a peer takes it.
static void req_send_again(struct req *req, struct req_ctx *ctx)
{
    sp_pipe_ref *holder = req_transmit(req, ctx, ctx->request, true);

    if (holder != NULL) {
        req_hold(req, ctx, holder);
    }
}

/// Sends again what nobody holds.
static void req_send_unheld(struct req *req)
{
    if (req->unheld == 0) {
        return;
    }
    for (struct req_ctx *ctx = req->ctxs; ctx != NULL; ctx = ctx->next) {
        if (ctx->request != NULL && ctx->holder == NULL) {
            req_send_again(req, ctx);
        }
    }
}

/// Sends again what is without an answer for too long.
static void req_send_overdue(struct req *req)
{
    int64_t now = req->host->now();

    for (struct req_ctx *ctx = req->ctxs; ctx != NULL; ctx = ctx->next) {
        int64_t after = sp_option_load(&ctx->resend_time);

        if (ctx->request != NULL && after >= 0 && now - ctx->sent >= after * INT64_C(1000000)) {
            req_send_again(req, ctx);
        }
    }
}

static void req_on_timer(void *self, void *cookie)
{
    struct req *req = self;

    (void)cookie;
    req->ticking = false;
    req_send_unheld(req);
    req_send_overdue(req);
    for (struct req_ctx *ctx = req->ctxs; ctx != NULL; ctx = ctx->next) {
        if (ctx->request != NULL && sp_option_load(&ctx->resend_time) >= 0) {
            req_tick_start(req);
        }
    }
}

static int req_pipe_add(void *self, sp_pipe_ref *ref)
{
    struct req *req = self;

    sp_ring_add(&req->peers, ref);
    req_send_unheld(req);
    return SP_OK;
}

/// The peer that holds a request is gone: another one gets it, unless resending is off.
static void req_lost(struct req *req, struct req_ctx *ctx)
{
    req_hold(req, ctx, NULL);
    if (sp_option_load(&ctx->resend_time) < 0) {
        req_drop(req, ctx);
        req->host->fail(ctx->ref, -ECONNRESET);
    }
}

static void req_pipe_del(void *self, sp_pipe_ref *ref)
{
    struct req *req = self;

    sp_ring_del(&req->peers, ref);
    for (struct req_ctx *ctx = req->ctxs; ctx != NULL; ctx = ctx->next) {
        if (ctx->holder == ref) {
            req_lost(req, ctx);
        }
    }
    req_send_unheld(req);
}

static void req_on_writable(void *self, sp_pipe_ref *pipe)
{
    (void)pipe;
    req_send_unheld(self);
}

/// The context whose request was sent with this id; NULL: none.
static struct req_ctx *req_asked(struct req *req, uint32_t id)
{
    struct req_ctx *ctx = (struct req_ctx *)sp_idmap_find(&req->questions, id);

    return ctx != NULL && ctx->request != NULL ? ctx : NULL;
}

/// A reply: its first word is the request's id. One that nobody waits for is dropped.
static void req_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    struct req *req = self;

    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        struct req_ctx *ctx;
        uint32_t id = 0;

        // With a header it was offered before.
        if (m->header_len == 0 &&
            (sp_msg_take_u32(m, &id) != SP_OK || sp_msg_header_put_u32(m, id) != SP_OK)) {
            req->host->discard_in(req->sock, m, SP_DISCARD_MALFORMED);
            req->host->pipe_close(pipe, SP_EPROTO);
            continue;
        }
        ctx = req_asked(req, sp_load_u32(m->header));
        if (ctx == NULL) {
            req->host->discard_in(req->sock, m, SP_DISCARD_STALE);
            continue;
        }
        if (req->host->deliver(ctx->ref, m) != SP_OK) {
            sp_batch_unpop(in, m);
            return;
        }
        req_drop(req, ctx);
    }
}

static void req_stop(void *self)
{
    struct req *req = self;

    req->host->timer_cancel(req->tick);
    for (struct req_ctx *ctx = req->ctxs; ctx != NULL; ctx = ctx->next) {
        req_drop(req, ctx);
    }
}

/* ------------------------------------------------------------------ Raw */

/// Raw: the application made the header (its backtrace and the id); it goes to the next peer in
/// turn.
static void req_raw_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct req *req = self;

    (void)ctx;
    for (sp_msg *m; (m = sp_batch_pop(out)) != NULL;) {
        sp_pipe_ref *pipe = sp_ring_choose(&req->peers, req->host);

        if (pipe == NULL || req->host->pipe_send(pipe, m) != SP_OK) {
            sp_batch_unpop(out, m);
            return;
        }
    }
}

/// Raw: the backtrace is the application's.
static void req_raw_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    struct req *req = self;

    sp_backtrace_deliver(req->host, req->sock, req->ctxs->ref, pipe, in);
}

static const sp_id_pair req_ids[] = {{REQ_ID, REP_ID}};

static const sp_option req_options[] = {
    {"req:resend-time", SP_OPTION_INT, SP_OPTION_CTX, offsetof(struct req_ctx, resend_time), 60000,
     -1, INT32_MAX, "ms", "a request without an answer is sent again after this time; -1: never"},
    {"req:resend-tick", SP_OPTION_INT, 0, offsetof(struct req, resend_tick), 1000, 1, INT32_MAX,
     "ms", "how often the resend time is looked at"},
};

static const sp_protocol_ops req_raw_ops = {
    .size = sizeof(sp_protocol_ops),
    .ids = req_ids,
    .id_count = 1,
    .flags = SP_PROTO_REQUEUE,
    .window = SP_WINDOW_PIPES,
    .sock_size = sizeof(struct req),
    .ctx_size = sizeof(struct req_ctx),
    .pipe_size = sizeof(struct sp_ring_peer),
    .option_size = sizeof(sp_option),
    .init = req_init,
    .ctx_open = req_ctx_open,
    .ctx_close = req_ctx_close,
    .pipe_add = req_pipe_add,
    .pipe_del = req_pipe_del,
    .on_send = req_raw_on_send,
    .on_recv = req_raw_on_recv,
};

const sp_protocol_ops req_ops = {
    .size = sizeof(sp_protocol_ops),
    .ids = req_ids,
    .id_count = 1,
    .flags = SP_PROTO_ASKS | SP_PROTO_CONTEXTS,
    .header_size = 4,
    .window = SP_WINDOW_PEER,
    .sock_size = sizeof(struct req),
    .ctx_size = sizeof(struct req_ctx),
    .pipe_size = sizeof(struct sp_ring_peer),
    .options = req_options,
    .option_count = sizeof(req_options) / sizeof(req_options[0]),
    .option_size = sizeof(sp_option),
    .init = req_init,
    .ctx_open = req_ctx_open,
    .ctx_close = req_ctx_close,
    .pipe_add = req_pipe_add,
    .pipe_del = req_pipe_del,
    .on_send = req_on_send,
    .on_recv = req_on_recv,
    .on_writable = req_on_writable,
    .on_timer = req_on_timer,
    .stop = req_stop,
    .raw = &req_raw_ops,
};
