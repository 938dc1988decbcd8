/* SPDX-License-Identifier: MIT */
/// The protocols "fan" and "sink", and plain ones.
#include "fan.h"

#include "check.h"
#include "core/registry.h"

#include <sp/plugin.h>
#include <sp/sdk/ring.h>

struct fan {
    const sp_host *host;
    sp_sock_ref *sock;
    struct sp_ring peers;
};

static int fan_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    struct fan *f = self;

    f->host = host;
    f->sock = sock;
    return SP_OK;
}

static int fan_pipe_add(void *self, sp_pipe_ref *pipe)
{
    sp_ring_add(&((struct fan *)self)->peers, pipe);
    return SP_OK;
}

static void fan_pipe_del(void *self, sp_pipe_ref *pipe)
{
    sp_ring_del(&((struct fan *)self)->peers, pipe);
}

static void fan_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct fan *f = self;

    (void)ctx;
    while (out->head != NULL && sp_ring_open(&f->peers, f->host, f->sock)) {
        sp_ring_fan_out(&f->peers, f->host, f->sock, sp_batch_pop(out), NULL);
    }
}

struct sink {
    const sp_host *host;
    sp_ctx_ref *ctx;
    int64_t latest;
};

static int sink_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    (void)sock;
    ((struct sink *)self)->host = host;
    return SP_OK;
}

static int sink_ctx_open(void *self, sp_ctx_ref *ctx)
{
    ((struct sink *)self)->ctx = ctx;
    return SP_OK;
}

static void sink_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    struct sink *k = self;

    (void)pipe;
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        if (sp_option_load(&k->latest) != 0) {
            k->host->deliver_latest(k->ctx, m);
        } else if (k->host->deliver(k->ctx, m) < 0) {
            sp_batch_unpop(in, m);
            return;
        }
    }
}

static const sp_id_pair fan_ids[] = {{0xF020, 0xF021}, {0x20, 0x21}};
static const sp_id_pair sink_ids[] = {{0xF021, 0xF020}, {0x21, 0x20}};

#define FAN_OPS                                                                                    \
    .size = sizeof(sp_protocol_ops), .flags = SP_PROTO_NO_RECV, .window = SP_WINDOW_OPEN,          \
    .sock_size = sizeof(struct fan), .pipe_size = sizeof(struct sp_ring_peer),                     \
    .option_size = sizeof(sp_option), .init = fan_init, .pipe_add = fan_pipe_add,                  \
    .pipe_del = fan_pipe_del, .on_send = fan_on_send, .overflow = SP_OVERFLOW_DROP_NEW,            \
    .overflows = 15

static const sp_protocol_ops fan_ops = {FAN_OPS, .ids = fan_ids, .id_count = 2};
static const sp_protocol_ops plain_fan_ops = {FAN_OPS, .ids = fan_ids + 1, .id_count = 1};

static const sp_option sink_options[] = {
    {"latest", SP_OPTION_BOOL, 0, offsetof(struct sink, latest), 0, 0, 1, "", "drop the oldest"}};

#define SINK_OPS                                                                                   \
    .size = sizeof(sp_protocol_ops), .flags = SP_PROTO_NO_SEND, .window = SP_WINDOW_OPEN,          \
    .sock_size = sizeof(struct sink), .options = sink_options, .option_count = 1,                  \
    .option_size = sizeof(sp_option), .init = sink_init, .ctx_open = sink_ctx_open,                \
    .on_recv = sink_on_recv, .overflow = SP_OVERFLOW_BLOCK,                                        \
    .overflows = SP_OVERFLOW_BIT(SP_OVERFLOW_BLOCK) | SP_OVERFLOW_BIT(SP_OVERFLOW_DROP_OLD)

static const sp_protocol_ops sink_ops = {SINK_OPS, .ids = sink_ids, .id_count = 2};
static const sp_protocol_ops plain_sink_ops = {SINK_OPS, .ids = sink_ids + 1, .id_count = 1};

static const sp_export fan_exports[] = {
    {SP_KIND_PROTOCOL, "fan", {.protocol = &fan_ops}},
    {SP_KIND_PROTOCOL, "sink", {.protocol = &sink_ops}},
    {SP_KIND_PROTOCOL, "plain-fan", {.protocol = &plain_fan_ops}},
    {SP_KIND_PROTOCOL, "plain-sink", {.protocol = &plain_sink_ops}},
};

static const sp_plugin fan_plugin = {
    .size = sizeof(sp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .id = "org.example.fan",
    .version = "1.0.0",
    .vendor = "Example",
    .licence = "MIT",
    .description = "fan-out, for tests",
    .exports = fan_exports,
    .export_count = 4,
    .export_size = sizeof(sp_export),
};

static const sp_plugin *fan_entry(void)
{
    return &fan_plugin;
}

void fan_register(void)
{
    check_ok(sp__registry_add(fan_entry));
}
