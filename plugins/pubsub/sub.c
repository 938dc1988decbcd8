/* SPDX-License-Identifier: MIT */
/// SUB: hands a message to each context that subscribed to something it begins with. [actor]
///
/// A peer is never held up: a context that does not keep up misses the oldest message, or with
/// "sub:prefnew" 0 the newest. PUBs that filter are told what all contexts together want
/// (announce.h); what they send nevertheless is looked at as anything else, since it may have been
/// on its way. In raw mode everything is handed over.
#include "announce.h"
#include "pubsub.h"
#include "topics.h"

struct sub_ctx {
    struct topic_member member;
    sp_ctx_ref *ref;
    int64_t prefer_new; ///< option
};

struct sub {
    const sp_host *host;
    sp_sock_ref *sock;
    struct topics topics; ///< of all contexts
    struct announce announce;
    struct sub_ctx *first; ///< the socket's own
    size_t ctxs;
};

/// A topic that no context wants any more.
static void sub_on_gone(struct topics *topics, struct topic *topic)
{
    struct sub *sub = (struct sub *)(void *)((char *)topics - offsetof(struct sub, topics));

    announce_removed(&sub->announce, topic);
}

static int sub_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    struct sub *sub = self;

    sub->host = host;
    sub->sock = sock;
    sub->announce.host = host;
    sub->topics.gone = sub_on_gone;
    return SP_OK;
}

static int sub_ctx_open(void *self, sp_ctx_ref *ref)
{
    struct sub *sub = self;
    struct sub_ctx *ctx = ref->state;

    ctx->ref = ref;
    if (sub->first == NULL) {
        sub->first = ctx;
    }
    sub->ctxs++;
    return SP_OK;
}

static void sub_ctx_close(void *self, sp_ctx_ref *ref)
{
    struct sub *sub = self;
    struct sub_ctx *ctx = ref->state;

    sub->ctxs--;
    topics_leave(&sub->topics, &ctx->member);
    announce_flush_all(&sub->announce);
}

static int sub_pipe_add(void *self, sp_pipe_ref *ref)
{
    struct sub *sub = self;

    if (ref->proto == PUB_FILTER_ID) {
        announce_open(&sub->announce, ref->state, ref, &sub->topics);
    }
    return SP_OK;
}

static void sub_pipe_del(void *self, sp_pipe_ref *ref)
{
    announce_close(&((struct sub *)self)->announce, ref->state);
}

static void sub_on_writable(void *self, sp_pipe_ref *ref)
{
    announce_flush(&((struct sub *)self)->announce, ref->state);
}

/* ------------------------------------------------------------------ Subscriptions */

static int sub_subscribe(struct sub *sub, struct sub_ctx *ctx, const void *p, size_t n)
{
    int rc = topics_add(&sub->topics, &ctx->member, p, n);

    if (rc > 0) {
        announce_added(&sub->announce, sub->topics.last);
    }
    return rc < 0 && rc != -EEXIST ? rc : SP_OK; // Once more is as good as once, as in nng.
}

static int sub_on_option(void *self, sp_ctx_ref *ref, const char *name, const void *p, size_t n)
{
    struct sub *sub = self;
    struct sub_ctx *ctx = ref->state;
    int rc = name[0] == 's' ? sub_subscribe(sub, ctx, p, n)
                            : topics_remove(&sub->topics, &ctx->member, p, n);

    announce_flush_all(&sub->announce);
    return rc;
}

/* ------------------------------------------------------------------ Receiving */

/// To a context's queue; what it has no room for is dropped by its option.
static void sub_deliver(const struct sub *sub, const struct sub_ctx *ctx, sp_msg *m)
{
    if (sp_option_load(&ctx->prefer_new) != 0) {
        sub->host->deliver_latest(ctx->ref, m);
    } else if (sub->host->deliver(ctx->ref, m) != SP_OK) {
        sub->host->discard_in(sub->sock, m, SP_DISCARD_FULL);
    }
}

/// Whether the receiver has time yet to take what is there. No context waits for another one.
static bool sub_holds(const struct sub *sub)
{
    return sub->ctxs == 1 && sub->host->ctx_hold(sub->first->ref);
}

static const struct sub_ctx *sub_ctx(const struct topic_member *member)
{
    return (const struct sub_ctx *)(const void *)((const char *)member -
                                                  offsetof(struct sub_ctx, member));
}

static void sub_on_recv(void *self, sp_pipe_ref *ref, sp_batch *in)
{
    struct sub *sub = self;

    (void)ref;
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        struct topic_member *hit = topics_match(&sub->topics, m->data, m->len);

        if (hit != NULL && sub_holds(sub)) {
            sp_batch_unpop(in, m);
            return;
        }
        if (hit == NULL) {
            sub->host->discard_in(sub->sock, m, SP_DISCARD_UNWANTED);
            continue;
        }
        for (; hit->hit != NULL; hit = hit->hit) {
            sp_msg *copy = sub->host->receive_copy(sub->sock, m);

            if (copy != NULL) {
                sub_deliver(sub, sub_ctx(hit), copy);
            }
        }
        sub_deliver(sub, sub_ctx(hit), m);
    }
}

static void sub_raw_on_recv(void *self, sp_pipe_ref *ref, sp_batch *in)
{
    struct sub *sub = self;

    (void)ref;
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        if (sub_holds(sub)) {
            sp_batch_unpop(in, m);
            return;
        }
        sub_deliver(sub, sub->first, m);
    }
}

static const sp_id_pair sub_ids[] = {{SUB_FILTER_ID, PUB_FILTER_ID}, {SUB_ID, PUB_ID}};

/// Raw sockets want everything, so nobody is to filter for them.
static const sp_id_pair sub_raw_ids[] = {{SUB_ID, PUB_ID}};

#define SUB_PREFNEW                                                                                \
    {                                                                                              \
        "sub:prefnew", SP_OPTION_BOOL, SP_OPTION_CTX, offsetof(struct sub_ctx, prefer_new), 1, 0,  \
            1, "", "a full queue drops its oldest message; 0: the one that comes"                  \
    }

static const sp_option sub_options[] = {
    SUB_PREFNEW,
    {"subscribe", SP_OPTION_BYTES, SP_OPTION_CTX, 0, 0, 0, TOPIC_MAX, "bytes",
     "receive what begins so; nothing: everything"},
    {"unsubscribe", SP_OPTION_BYTES, SP_OPTION_CTX, 0, 0, 0, TOPIC_MAX, "bytes",
     "take a subscription back"},
};
static const sp_option sub_raw_options[] = {SUB_PREFNEW};

#define SUB_COMMON                                                                                 \
    .size = sizeof(sp_protocol_ops), .window = SP_WINDOW_OPEN, .sock_size = sizeof(struct sub),    \
    .ctx_size = sizeof(struct sub_ctx), .option_size = sizeof(sp_option), .init = sub_init,        \
    .ctx_open = sub_ctx_open

static const sp_protocol_ops sub_raw_ops = {
    SUB_COMMON,
    .ids = sub_raw_ids,
    .id_count = sizeof(sub_raw_ids) / sizeof(sub_raw_ids[0]),
    .flags = SP_PROTO_NO_SEND,
    .options = sub_raw_options,
    .option_count = sizeof(sub_raw_options) / sizeof(sub_raw_options[0]),
    .on_recv = sub_raw_on_recv,
};

const sp_protocol_ops sub_ops = {
    SUB_COMMON,
    .ids = sub_ids,
    .id_count = sizeof(sub_ids) / sizeof(sub_ids[0]),
    .flags = SP_PROTO_NO_SEND | SP_PROTO_CONTEXTS,
    .pipe_size = sizeof(struct announce_pipe),
    .options = sub_options,
    .option_count = sizeof(sub_options) / sizeof(sub_options[0]),
    .ctx_close = sub_ctx_close,
    .pipe_add = sub_pipe_add,
    .pipe_del = sub_pipe_del,
    .on_writable = sub_on_writable,
    .on_option = sub_on_option,
    .on_recv = sub_on_recv,
    .raw = &sub_raw_ops,
};
