/* SPDX-License-Identifier: MIT */
/// BUS: each message goes to every peer, and no further: who is not connected directly does not get
/// it. There is no header. Raw mode has one towards the application only, so that a device can pass
/// a message on to every peer but the one that it came from. [actor]
#include <sp/sdk/ring.h>

#define BUS_ID 0x70

struct bus {
    const sp_host *host;
    sp_sock_ref *sock;
    sp_ctx_ref *ctx;
    struct sp_ring peers;
};

static int bus_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    struct bus *bus = self;

    bus->host = host;
    bus->sock = sock;
    return SP_OK;
}

static int bus_ctx_open(void *self, sp_ctx_ref *ctx)
{
    ((struct bus *)self)->ctx = ctx;
    return SP_OK;
}

static int bus_pipe_add(void *self, sp_pipe_ref *pipe)
{
    sp_ring_add(&((struct bus *)self)->peers, pipe);
    return SP_OK;
}

static void bus_pipe_del(void *self, sp_pipe_ref *pipe)
{
    sp_ring_del(&((struct bus *)self)->peers, pipe);
}

/// To everybody. With the policy to block it stays with the core until all have room.
static void bus_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct bus *bus = self;

    (void)ctx;
    while (out->head != NULL && sp_ring_open(&bus->peers, bus->host, bus->sock)) {
        sp_ring_fan_out(&bus->peers, bus->host, bus->sock, sp_batch_pop(out), NULL);
    }
}

/// Receivers without room: the pipe is not read from.
static void bus_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    struct bus *bus = self;

    (void)pipe;
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        if (bus->host->deliver(bus->ctx, m) != SP_OK) {
            sp_batch_unpop(in, m);
            return;
        }
    }
}

/* ------------------------------------------------------------------ Raw */

/// Raw: a header of one word names the peer that is left out.
static void bus_raw_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct bus *bus = self;

    (void)ctx;
    while (out->head != NULL && sp_ring_open(&bus->peers, bus->host, bus->sock)) {
        sp_msg *m = sp_batch_pop(out);
        uint32_t from = 0;

        if (m->header_len > 0 && (sp_msg_header_take_u32(m, &from) != SP_OK || m->header_len > 0)) {
            bus->host->discard_out(bus->sock, m, SP_DISCARD_MALFORMED);
            continue;
        }
        sp_ring_fan_out(&bus->peers, bus->host, bus->sock, m,
                        from != 0 ? bus->host->pipe_find(bus->sock, from) : NULL);
    }
}

/// Raw: the header is the id of the pipe that it came from.
static void bus_raw_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    for (sp_msg *m = in->head; m != NULL; m = m->next) {
        m->header_len = 0;
        (void)sp_msg_header_put_u32(m, pipe->id);
    }
    bus_on_recv(self, pipe, in);
}

static const sp_id_pair bus_ids[] = {{BUS_ID, BUS_ID}};

#define BUS_COMMON                                                                                 \
    .size = sizeof(sp_protocol_ops), .ids = bus_ids, .id_count = 1, .window = SP_WINDOW_OPEN,      \
    .sock_size = sizeof(struct bus), .pipe_size = sizeof(struct sp_ring_peer), .init = bus_init,   \
    .ctx_open = bus_ctx_open, .pipe_add = bus_pipe_add, .pipe_del = bus_pipe_del,                  \
    .overflow = SP_OVERFLOW_DROP_NEW,                                                              \
    .overflows = SP_OVERFLOW_BIT(SP_OVERFLOW_BLOCK) | SP_OVERFLOW_BIT(SP_OVERFLOW_DROP_NEW) |      \
                 SP_OVERFLOW_BIT(SP_OVERFLOW_DROP_OLD) | SP_OVERFLOW_BIT(SP_OVERFLOW_DISCONNECT)

static const sp_protocol_ops bus_raw_ops = {BUS_COMMON, .on_send = bus_raw_on_send,
                                            .on_recv = bus_raw_on_recv};
static const sp_protocol_ops bus_ops = {BUS_COMMON, .on_send = bus_on_send, .on_recv = bus_on_recv,
                                        .raw = &bus_raw_ops};

static const sp_export bus_exports[] = {
    {SP_KIND_PROTOCOL, "bus", {.protocol = &bus_ops}},
};

static const sp_plugin bus_plugin = {
    .size = sizeof(sp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.scalability-protocols.sp.bus",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "BUS: everybody hears everybody who is connected directly",
    .exports = bus_exports,
    .export_count = sizeof(bus_exports) / sizeof(bus_exports[0]),
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &bus_plugin;
}
