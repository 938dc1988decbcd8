/* SPDX-License-Identifier: MIT */
/// PAIR: exactly one peer, messages in both directions. Version 0 has no header; version 1 (RFC
/// draft "pair1") has one word, a hop count. A second peer is refused. [actor]
#include <sp/plugin.h>

#define PAIR0 0x10
#define PAIR1 0x11

struct pair {
    const sp_host *host;
    sp_sock_ref *sock;
    sp_ctx_ref *ctx;
    sp_pipe_ref *peer; ///< NULL: none
    int64_t ttl_max;   ///< hops
};

static int pair_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    struct pair *pair = self;

    pair->host = host;
    pair->sock = sock;
    return SP_OK;
}

static int pair_ctx_open(void *self, sp_ctx_ref *ctx)
{
    ((struct pair *)self)->ctx = ctx;
    return SP_OK;
}

static int pair_pipe_add(void *self, sp_pipe_ref *pipe)
{
    struct pair *pair = self;

    if (pair->peer != NULL) {
        return SP_EPEERS;
    }
    pair->peer = pipe;
    return SP_OK;
}

static void pair_pipe_del(void *self, sp_pipe_ref *pipe)
{
    struct pair *pair = self;

    if (pair->peer == pipe) {
        pair->peer = NULL;
    }
}

/// Version 0: as it is. What the peer's queue does not take stays with the core.
static void pair_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct pair *pair = self;

    (void)ctx;
    for (sp_msg *m; pair->peer != NULL && (m = sp_batch_pop(out)) != NULL;) {
        if (pair->host->pipe_send(pair->peer, m) != SP_OK) {
            sp_batch_unpop(out, m);
            return;
        }
    }
}

static void pair_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    struct pair *pair = self;

    (void)pipe;
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        if (pair->host->deliver(pair->ctx, m) != SP_OK) {
            sp_batch_unpop(in, m);
            return;
        }
    }
}

/// Version 1 sends 1 on the first hop (wire: pair1).
static void pair1_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    for (sp_msg *m = out->head; m != NULL; m = m->next) {
        m->header_len = 0;
        (void)sp_msg_header_put_u32(m, 1);
    }
    pair_on_send(self, ctx, out);
}

/// Raw: the application's header goes out with one hop more; without a valid one the message is
/// dropped.
static void pair1_raw_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct pair *pair = self;

    (void)ctx;
    for (sp_msg *m; pair->peer != NULL && (m = sp_batch_pop(out)) != NULL;) {
        uint32_t hops = m->header_len == 4 ? sp_load_u32(m->header) : UINT32_MAX;

        if (hops >= 0xFF) {
            pair->host->discard_out(pair->sock, m, SP_DISCARD_MALFORMED);
            continue;
        }
        sp_store_u32(m->header, hops + 1);
        if (pair->host->pipe_send(pair->peer, m) != SP_OK) {
            sp_store_u32(m->header, hops);
            sp_batch_unpop(out, m);
            return;
        }
    }
}

/// Moves the hop count from the body's front to the header. False: the message is gone, and maybe
/// the pipe with it.
static bool pair1_take_hops(struct pair *pair, sp_pipe_ref *pipe, sp_msg *m)
{
    uint32_t hops;

    if (m->header_len > 0) {
        return true; // Offered before.
    }
    if (sp_msg_take_u32(m, &hops) != SP_OK || hops > 0xFF) {
        pair->host->discard_in(pair->sock, m, SP_DISCARD_MALFORMED);
        pair->host->pipe_close(pipe, SP_EPROTO);
        return false;
    }
    if ((int64_t)hops > sp_option_load(&pair->ttl_max)) {
        pair->host->discard_in(pair->sock, m, SP_DISCARD_TTL);
        return false;
    }
    (void)sp_msg_header_put_u32(m, hops);
    return true;
}

static void pair1_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    struct pair *pair = self;

    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        if (pair1_take_hops(pair, pipe, m) && pair->host->deliver(pair->ctx, m) != SP_OK) {
            sp_batch_unpop(in, m);
            return;
        }
    }
}

static const sp_id_pair pair0_ids[] = {{PAIR0, PAIR0}};
static const sp_id_pair pair1_ids[] = {{PAIR1, PAIR1}};

static const sp_option pair1_options[] = {
    {"ttl-max", SP_OPTION_INT, 0, offsetof(struct pair, ttl_max), 8, 1, 15, "hops",
     "messages that made more hops are dropped"},
};

#define PAIR_COMMON                                                                                \
    .size = sizeof(sp_protocol_ops), .id_count = 1, .window = SP_WINDOW_PIPES,                     \
    .sock_size = sizeof(struct pair), .option_size = sizeof(sp_option), .init = pair_init,         \
    .ctx_open = pair_ctx_open, .pipe_add = pair_pipe_add, .pipe_del = pair_pipe_del

/// Version 0 has no header, so raw mode is the same.
static const sp_protocol_ops pair0_raw_ops = {PAIR_COMMON, .flags = SP_PROTO_REQUEUE,
                                              .ids = pair0_ids, .on_send = pair_on_send,
                                              .on_recv = pair_on_recv};
static const sp_protocol_ops pair0_ops = {PAIR_COMMON,
                                          .flags = SP_PROTO_REQUEUE,
                                          .ids = pair0_ids,
                                          .on_send = pair_on_send,
                                          .on_recv = pair_on_recv,
                                          .raw = &pair0_raw_ops};

/// Not requeued when a peer is lost: its hop is counted already.
static const sp_protocol_ops pair1_raw_ops = {PAIR_COMMON,
                                              .ids = pair1_ids,
                                              .options = pair1_options,
                                              .option_count = 1,
                                              .on_send = pair1_raw_on_send,
                                              .on_recv = pair1_on_recv};
static const sp_protocol_ops pair1_ops = {PAIR_COMMON,
                                          .flags = SP_PROTO_REQUEUE,
                                          .ids = pair1_ids,
                                          .options = pair1_options,
                                          .option_count = 1,
                                          .on_send = pair1_on_send,
                                          .on_recv = pair1_on_recv,
                                          .raw = &pair1_raw_ops};

static const sp_export pair_exports[] = {
    {SP_KIND_PROTOCOL, "pair", {.protocol = &pair0_ops}},
    {SP_KIND_PROTOCOL, "pair0", {.protocol = &pair0_ops}},
    {SP_KIND_PROTOCOL, "pair1", {.protocol = &pair1_ops}},
};

static const sp_plugin pair_plugin = {
    .size = sizeof(sp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.scalability-protocols.sp.pair",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "PAIR: one peer, both directions (versions 0 and 1)",
    .exports = pair_exports,
    .export_count = sizeof(pair_exports) / sizeof(pair_exports[0]),
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &pair_plugin;
}
