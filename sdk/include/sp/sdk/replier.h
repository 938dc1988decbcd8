/* SPDX-License-Identifier: MIT */
/// Routing part for protocols that answer (REP, RESPONDENT): all of their behaviour but their
/// numbers. Hands questions to whoever receives, and sends each answer back the way its question
/// came. [actor]
///
/// The way back is the backtrace (backtrace.h). The core keeps it with the receiver
/// (SP_PROTO_REPLIES). A peer that does not read its answers is not read from either, so that what
/// waits for it stays bounded. In raw mode answers that find its queue full are dropped.
///
/// A protocol's instance is a struct sp_replier; its tables are made by SP_REPLIER_OPTIONS,
/// SP_REPLIER_OPS and SP_REPLIER_RAW_OPS.
#ifndef SP_SDK_REPLIER_H
#define SP_SDK_REPLIER_H

#include <sp/sdk/backtrace.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sp_replier {
    const sp_host *host;
    sp_sock_ref *sock;
    sp_ctx_ref *ctx; ///< the socket's own, from which all others receive
    int64_t ttl_max; ///< hops
};

static inline int sp_replier_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    struct sp_replier *replier = (struct sp_replier *)self;

    replier->host = host;
    replier->sock = sock;
    return SP_OK;
}

static inline int sp_replier_ctx_open(void *self, sp_ctx_ref *ctx)
{
    struct sp_replier *replier = (struct sp_replier *)self;

    if (replier->ctx == NULL) {
        replier->ctx = ctx;
    }
    return SP_OK;
}

/// Makes a message's header its way back, once. False: it is gone, and maybe the pipe with it.
static inline bool sp_replier_address(struct sp_replier *replier, sp_pipe_ref *pipe, sp_msg *m)
{
    if (m->header_len > 0) {
        return true; // It was offered before.
    }
    if (replier->sock->raw) {
        if (m->header_in + 4 > SP_HEADER_MAX) {
            replier->host->discard_in(replier->sock, m, SP_DISCARD_TTL);
            return false;
        }
        (void)sp_msg_header_put_u32(m, pipe->id); // The first word chooses the pipe of the answer.
    }
    return sp_backtrace_take(replier->host, replier->sock, pipe, m,
                             sp_option_load(&replier->ttl_max));
}

static inline void sp_replier_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    struct sp_replier *replier = (struct sp_replier *)self;

    while (replier->host->pipe_room(pipe) > 0) {
        sp_msg *m = sp_batch_pop(in);

        if (m == NULL) {
            return;
        }
        if (sp_replier_address(replier, pipe, m) &&
            replier->host->deliver(replier->ctx, m) != SP_OK) {
            sp_batch_unpop(in, m);
            return;
        }
    }
}

/// Sends an answer to the pipe with this id, if it is still there.
static inline void sp_replier_send(struct sp_replier *replier, uint32_t id, sp_msg *m)
{
    sp_pipe_ref *pipe = replier->host->pipe_find(replier->sock, id);

    if (pipe == NULL) {
        replier->host->discard_out(replier->sock, m, SP_DISCARD_PEER_GONE);
    } else {
        replier->host->pipe_offer(pipe, m);
    }
}

static inline void sp_replier_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct sp_replier *replier = (struct sp_replier *)self;

    (void)ctx;
    for (sp_msg *m; (m = sp_batch_pop(out)) != NULL;) {
        sp_replier_send(replier, m->peer, m);
    }
}

/// Raw: the first word of the header chooses the pipe. It has bit 31 clear, or is malformed (5.2 of
/// both drafts).
static inline void sp_replier_raw_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct sp_replier *replier = (struct sp_replier *)self;

    (void)ctx;
    for (sp_msg *m; (m = sp_batch_pop(out)) != NULL;) {
        uint32_t id;

        if (sp_msg_header_take_u32(m, &id) != SP_OK || (id & SP_ID_BIT) != 0) {
            replier->host->discard_out(replier->sock, m, SP_DISCARD_MALFORMED);
        } else {
            sp_replier_send(replier, id, m);
        }
    }
}

/// There is room for answers again: its questions are taken again.
static inline void sp_replier_on_writable(void *self, sp_pipe_ref *pipe)
{
    ((struct sp_replier *)self)->host->pipe_resume(pipe);
}

/// The rows of its table of options.
#define SP_REPLIER_OPTIONS                                                                         \
    {                                                                                              \
        "ttl-max", SP_OPTION_INT, 0, offsetof(struct sp_replier, ttl_max), 8, 1, SP_BACKTRACE_MAX, \
            "hops", "questions that made more hops are dropped"                                    \
    }

#define SP_REPLIER_COMMON(id_pair, option_table)                                                   \
    .size = sizeof(sp_protocol_ops), .ids = (id_pair), .id_count = 1, .window = SP_WINDOW_OPEN,    \
    .sock_size = sizeof(struct sp_replier), .options = (option_table),                             \
    .option_count = sizeof(option_table) / sizeof((option_table)[0]),                              \
    .option_size = sizeof(sp_option), .init = sp_replier_init, .ctx_open = sp_replier_ctx_open,    \
    .on_recv = sp_replier_on_recv, .on_writable = sp_replier_on_writable

/// What stands between the braces of the protocol's table, and of its raw mode's.
#define SP_REPLIER_OPS(id_pair, option_table)                                                      \
    SP_REPLIER_COMMON(id_pair, option_table), .flags = SP_PROTO_REPLIES | SP_PROTO_CONTEXTS,       \
                                              .on_send = sp_replier_on_send
#define SP_REPLIER_RAW_OPS(id_pair, option_table)                                                  \
    SP_REPLIER_COMMON(id_pair, option_table), .on_send = sp_replier_raw_on_send

#ifdef __cplusplus
}
#endif

#endif
