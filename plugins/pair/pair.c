/* SPDX-License-Identifier: MIT */
/// PAIR: exactly one peer, messages in both directions. Here version 0, which has no header, and
/// what version 1 (pair1.c) shares with it. A second peer is refused. [actor]
#include "pair.h"

int pair_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    struct pair *pair = self;

    pair->host = host;
    pair->sock = sock;
    return SP_OK;
}

int pair_ctx_open(void *self, sp_ctx_ref *ctx)
{
    ((struct pair *)self)->ctx = ctx;
    return SP_OK;
}

int pair_pipe_add(void *self, sp_pipe_ref *pipe)
{
    struct pair *pair = self;

    if (pair->peer != NULL) {
        return SP_EPEERS;
    }
    pair->peer = pipe;
    return SP_OK;
}

void pair_pipe_del(void *self, sp_pipe_ref *pipe)
{
    struct pair *pair = self;

    if (pair->peer == pipe) {
        pair->peer = NULL;
    }
}

void pair_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
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

static const sp_id_pair pair0_ids[] = {{PAIR0_ID, PAIR0_ID}};

/// There is no header, so raw mode is the same.
#define PAIR0_OPS                                                                                  \
    PAIR_COMMON, .flags = SP_PROTO_REQUEUE, .ids = pair0_ids, .pipe_add = pair_pipe_add,           \
                 .pipe_del = pair_pipe_del, .on_send = pair_on_send, .on_recv = pair_on_recv

static const sp_protocol_ops pair0_raw_ops = {PAIR0_OPS};
static const sp_protocol_ops pair0_ops = {PAIR0_OPS, .raw = &pair0_raw_ops};

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
