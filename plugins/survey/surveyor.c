/* SPDX-License-Identifier: MIT */
/// SURVEYOR: asks every peer that is there, and hands over what is answered until the deadline.
/// [actor]
///
/// A context's states: idle → surveying → idle. A survey ends by its deadline (the receiver gets
/// SP_ETIMEDOUT behind the last answer), by the context's next one, or with the context. A peer
/// whose queue is full is not asked; a survey is never sent again (sp-surveyor-01).
#include "survey.h"

#include <sp/sdk/backtrace.h>
#include <sp/sdk/idmap.h>
#include <sp/sdk/ring.h>

struct surveyor_ctx {
    struct sp_idmap_entry survey; // first: its id
    sp_ctx_ref *ref;
    sp_timer_ref *deadline;
    bool full;           ///< it held an answer back, and so maybe a peer's others
    int64_t survey_time; ///< option, ms
};

struct surveyor {
    const sp_host *host;
    sp_sock_ref *sock;
    struct sp_ring peers;
    struct sp_idmap surveys; ///< of contexts, by their ids
    sp_ctx_ref *own;         ///< the socket's context
};

static int surveyor_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    struct surveyor *surveyor = self;

    surveyor->host = host;
    surveyor->sock = sock;
    sp_idmap_init(&surveyor->surveys, host);
    return SP_OK;
}

static int surveyor_ctx_open(void *self, sp_ctx_ref *ref)
{
    struct surveyor *surveyor = self;
    struct surveyor_ctx *ctx = ref->state;

    ctx->ref = ref;
    if (surveyor->own == NULL) {
        surveyor->own = ref;
    }
    return surveyor->host->timer_new(surveyor->sock, ctx, &ctx->deadline);
}

/// From now on answers to the survey are stale, those too that wait for room.
static void surveyor_end(struct surveyor *surveyor, struct surveyor_ctx *ctx)
{
    struct sp_ring_peer *peer = surveyor->peers.turn;

    sp_idmap_del(&surveyor->surveys, &ctx->survey);
    for (size_t i = 0; ctx->full && i < surveyor->peers.n; i++, peer = peer->next) {
        surveyor->host->pipe_resume(peer->ref);
    }
    ctx->full = false;
}

static void surveyor_ctx_close(void *self, sp_ctx_ref *ref)
{
    struct surveyor *surveyor = self;
    struct surveyor_ctx *ctx = ref->state;

    surveyor_end(surveyor, ctx);
    surveyor->host->timer_free(ctx->deadline);
}

/// The deadline of a context's survey.
static void surveyor_on_timer(void *self, void *cookie)
{
    struct surveyor *surveyor = self;
    struct surveyor_ctx *ctx = cookie;

    surveyor_end(surveyor, ctx);
    surveyor->host->fail(ctx->ref, SP_ETIMEDOUT);
}

/// Each message is a survey, and ends the one before.
static void surveyor_on_send(void *self, sp_ctx_ref *ref, sp_batch *out)
{
    struct surveyor *surveyor = self;
    struct surveyor_ctx *ctx = ref->state;

    for (sp_msg *m; (m = sp_batch_pop(out)) != NULL;) {
        surveyor_end(surveyor, ctx);
        (void)sp_msg_header_put_u32(m, sp_idmap_add(&surveyor->surveys, &ctx->survey));
        sp_ring_fan_out(&surveyor->peers, surveyor->host, surveyor->sock, m, NULL);
    }
    if (sp_option_load(&ctx->survey_time) >= 0) {
        surveyor->host->timer_arm(ctx->deadline, sp_option_load(&ctx->survey_time));
    } else {
        surveyor->host->timer_cancel(ctx->deadline);
    }
}

/// Hands an answer over. False: its context has no room for it now.
static bool surveyor_deliver(struct surveyor *surveyor, sp_msg *m)
{
    struct sp_idmap_entry *survey = sp_idmap_find(&surveyor->surveys, sp_load_u32(m->header));
    struct surveyor_ctx *ctx = (struct surveyor_ctx *)survey;

    if (ctx == NULL) {
        surveyor->host->discard_in(surveyor->sock, m, SP_DISCARD_STALE);
        return true;
    }
    if (surveyor->host->deliver(ctx->ref, m) != SP_OK) {
        ctx->full = true;
        return false;
    }
    return true;
}

/// Answers: the first word is the survey's id. What a context has no room for is left, and does not
/// hold up what others wait for.
static void surveyor_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    struct surveyor *surveyor = self;
    sp_batch left = {NULL, NULL, 0};

    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        uint32_t id = 0;

        // With a header it was offered before.
        if (m->header_len == 0 &&
            (sp_msg_take_u32(m, &id) != SP_OK || sp_msg_header_put_u32(m, id) != SP_OK)) {
            surveyor->host->discard_in(surveyor->sock, m, SP_DISCARD_MALFORMED);
            surveyor->host->pipe_close(pipe, SP_EPROTO);
        } else if (!surveyor_deliver(surveyor, m)) {
            sp_batch_push(&left, m);
        }
    }
    *in = left;
}

static int surveyor_pipe_add(void *self, sp_pipe_ref *ref)
{
    sp_ring_add(&((struct surveyor *)self)->peers, ref);
    return SP_OK;
}

static void surveyor_pipe_del(void *self, sp_pipe_ref *ref)
{
    sp_ring_del(&((struct surveyor *)self)->peers, ref);
}

/* ------------------------------------------------------------------ Raw */

static int surveyor_raw_ctx_open(void *self, sp_ctx_ref *ref)
{
    ((struct surveyor *)self)->own = ref;
    return SP_OK;
}

/// Raw: the application made the header (its backtrace and the id).
static void surveyor_raw_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct surveyor *surveyor = self;

    (void)ctx;
    for (sp_msg *m; (m = sp_batch_pop(out)) != NULL;) {
        sp_ring_fan_out(&surveyor->peers, surveyor->host, surveyor->sock, m, NULL);
    }
}

/// Raw: the backtrace is the application's.
static void surveyor_raw_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    struct surveyor *surveyor = self;

    sp_backtrace_deliver(surveyor->host, surveyor->sock, surveyor->own, pipe, in);
}

static const sp_id_pair surveyor_ids[] = {{SURVEYOR_ID, RESPONDENT_ID}};

static const sp_option surveyor_options[] = {
    {"surveyor:survey-time", SP_OPTION_INT, SP_OPTION_CTX,
     offsetof(struct surveyor_ctx, survey_time), 1000, -1, INT32_MAX, "ms",
     "how long a survey collects answers; -1: until the next one"},
};

#define SURVEYOR_COMMON                                                                            \
    .size = sizeof(sp_protocol_ops), .ids = surveyor_ids, .id_count = 1, .window = SP_WINDOW_OPEN, \
    .sock_size = sizeof(struct surveyor), .ctx_size = sizeof(struct surveyor_ctx),                 \
    .pipe_size = sizeof(struct sp_ring_peer), .option_size = sizeof(sp_option),                    \
    .init = surveyor_init, .pipe_add = surveyor_pipe_add, .pipe_del = surveyor_pipe_del,           \
    .overflow = SP_OVERFLOW_DROP_NEW,                                                              \
    .overflows = SP_OVERFLOW_BIT(SP_OVERFLOW_DROP_NEW) | SP_OVERFLOW_BIT(SP_OVERFLOW_DROP_OLD) |   \
                 SP_OVERFLOW_BIT(SP_OVERFLOW_DISCONNECT)

static const sp_protocol_ops surveyor_raw_ops = {SURVEYOR_COMMON, .ctx_open = surveyor_raw_ctx_open,
                                                 .on_send = surveyor_raw_on_send,
                                                 .on_recv = surveyor_raw_on_recv};

const sp_protocol_ops surveyor_ops = {
    SURVEYOR_COMMON,
    .flags = SP_PROTO_ASKS | SP_PROTO_MANY | SP_PROTO_CONTEXTS,
    .header_size = 4,
    .options = surveyor_options,
    .option_count = sizeof(surveyor_options) / sizeof(surveyor_options[0]),
    .ctx_open = surveyor_ctx_open,
    .ctx_close = surveyor_ctx_close,
    .on_send = surveyor_on_send,
    .on_recv = surveyor_on_recv,
    .on_timer = surveyor_on_timer,
    .raw = &surveyor_raw_ops,
};
