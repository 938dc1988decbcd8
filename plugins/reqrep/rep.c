/* SPDX-License-Identifier: MIT */
/// REP: hands requests to whoever receives, and sends each reply back the way its request came.
/// [actor]
///
/// The way back is the backtrace: the words in front of the request up to the one with bit 31 set.
/// The core keeps it with the receiver (SP_PROTO_REPLIES). A peer that does not read its replies is
/// not read from either, so that what waits for it stays bounded. In raw mode replies that find its
/// queue full are dropped.
#include "reqrep.h"

struct rep {
    const sp_host *host;
    sp_sock_ref *sock;
    sp_ctx_ref *ctx;
    int64_t ttl_max; ///< hops
};

static int rep_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    struct rep *rep = self;

    rep->host = host;
    rep->sock = sock;
    return SP_OK;
}

static int rep_ctx_open(void *self, sp_ctx_ref *ctx)
{
    struct rep *rep = self;

    if (rep->ctx == NULL) {
        rep->ctx = ctx; // The socket's own, from which all others receive.
    }
    return SP_OK;
}

/// Moves the backtrace from the body's front to the header. False: the message is gone, and maybe
/// the pipe with it.
static bool rep_take_backtrace(struct rep *rep, sp_pipe_ref *pipe, sp_msg *m)
{
    int64_t ttl = sp_option_load(&rep->ttl_max);
    uint32_t word = 0;

    for (int64_t hops = 1; (word & REQ_ID_BIT) == 0; hops++) {
        if (hops > ttl) {
            rep->host->discard_in(rep->sock, m, SP_DISCARD_TTL);
            return false;
        }
        if (sp_msg_take_u32(m, &word) != SP_OK) {
            rep->host->discard_in(rep->sock, m, SP_DISCARD_MALFORMED);
            rep->host->pipe_close(pipe, SP_EPROTO);
            return false;
        }
        (void)sp_msg_header_put_u32(m, word); // Fits: ttl-max is at most 15.
    }
    return true;
}

static void rep_on_recv(void *self, sp_pipe_ref *ref, sp_batch *in)
{
    struct rep *rep = self;

    while (rep->host->pipe_room(ref) > 0) {
        sp_msg *m = sp_batch_pop(in);

        if (m == NULL) {
            return;
        }
        if ((m->header_len > 0 || rep_take_backtrace(rep, ref, m)) &&
            rep->host->deliver(rep->ctx, m) != SP_OK) {
            sp_batch_unpop(in, m);
            return;
        }
    }
}

static void rep_send_to(struct rep *rep, sp_pipe_ref *ref, sp_msg *m)
{
    if (ref == NULL) {
        rep->host->discard_out(rep->sock, m, SP_DISCARD_PEER_GONE);
    } else if (rep->host->pipe_send(ref, m) != SP_OK) {
        rep->host->discard_out(rep->sock, m, SP_DISCARD_FULL);
    }
}

static void rep_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct rep *rep = self;

    (void)ctx;
    for (sp_msg *m; (m = sp_batch_pop(out)) != NULL;) {
        rep_send_to(rep, rep->host->pipe_find(rep->sock, m->peer), m);
    }
}

/// There is room for replies again: its requests are taken again.
static void rep_on_writable(void *self, sp_pipe_ref *ref)
{
    ((struct rep *)self)->host->pipe_resume(ref);
}

/* ------------------------------------------------------------------ Raw */

/// Raw: in front of the backtrace stands the id of the pipe that the request came from.
static void rep_raw_on_recv(void *self, sp_pipe_ref *ref, sp_batch *in)
{
    struct rep *rep = self;

    while (rep->host->pipe_room(ref) > 0) {
        sp_msg *m = sp_batch_pop(in);

        if (m == NULL) {
            return;
        }
        if (m->header_len == 0) {
            (void)sp_msg_header_put_u32(m, ref->id);
            if (!rep_take_backtrace(rep, ref, m)) {
                continue;
            }
        }
        if (rep->host->deliver(rep->ctx, m) != SP_OK) {
            sp_batch_unpop(in, m);
            return;
        }
    }
}

/// Raw: the first word of the header chooses the pipe.
static void rep_raw_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct rep *rep = self;

    (void)ctx;
    for (sp_msg *m; (m = sp_batch_pop(out)) != NULL;) {
        uint32_t id;

        if (sp_msg_header_take_u32(m, &id) != SP_OK) {
            rep->host->discard_out(rep->sock, m, SP_DISCARD_MALFORMED);
            continue;
        }
        rep_send_to(rep, rep->host->pipe_find(rep->sock, id), m);
    }
}

static const sp_id_pair rep_ids[] = {{REP_ID, REQ_ID}};

static const sp_option rep_options[] = {
    {"ttl-max", SP_OPTION_INT, 0, offsetof(struct rep, ttl_max), 8, 1, 15, "hops",
     "requests that made more hops are dropped"},
};

#define REP_COMMON                                                                                 \
    .size = sizeof(sp_protocol_ops), .ids = rep_ids, .id_count = 1, .window = SP_WINDOW_OPEN,      \
    .sock_size = sizeof(struct rep), .options = rep_options,                                       \
    .option_count = sizeof(rep_options) / sizeof(rep_options[0]),                                  \
    .option_size = sizeof(sp_option), .init = rep_init, .ctx_open = rep_ctx_open,                  \
    .on_writable = rep_on_writable

static const sp_protocol_ops rep_raw_ops = {REP_COMMON, .on_send = rep_raw_on_send,
                                            .on_recv = rep_raw_on_recv};

const sp_protocol_ops rep_ops = {REP_COMMON, .flags = SP_PROTO_REPLIES | SP_PROTO_CONTEXTS,
                                 .on_send = rep_on_send, .on_recv = rep_on_recv,
                                 .raw = &rep_raw_ops};
