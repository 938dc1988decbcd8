/* SPDX-License-Identifier: MIT */
/// A third-party protocol: "star", the experimental one of mangos, and compatible with it. What a
/// socket sends goes to all of its peers; what it receives goes to its application and on to all
/// other peers. So of sockets around one hub each hears all others.
///
/// In front of each message stands one word, big-endian: how many sockets passed it on, 0 when it
/// is new. One that was passed on "ttl-max" times is dropped, which ends it where peers form a
/// circle, and one with more than 8 bits is malformed. The peer misses what its queue has no room
/// for: a slow peer holds up nobody, unless the option "overflow" says so. In raw mode the
/// application makes the word.
///
/// It shows forwarding within a protocol, and the ring of peers (sp/sdk/ring.h). Built as anybody
/// would: against the installed SDK alone, see CMakeLists.txt.
#include <sp/plugin.h>
#include <sp/sdk/ring.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STAR_ID 0x640 // mangos: ProtoStar; both ends are the same
#define STAR_HOPS_MAX 255

struct star {
    const sp_host *host;
    sp_sock_ref *sock;
    sp_ctx_ref *ctx; // the socket's own
    struct sp_ring peers;
    int64_t ttl_max; // option
};

static int star_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    struct star *star = self;

    star->host = host;
    star->sock = sock;
    return SP_OK;
}

static int star_ctx_open(void *self, sp_ctx_ref *ctx)
{
    ((struct star *)self)->ctx = ctx;
    return SP_OK;
}

static int star_pipe_add(void *self, sp_pipe_ref *pipe)
{
    sp_ring_add(&((struct star *)self)->peers, pipe);
    return SP_OK;
}

static void star_pipe_del(void *self, sp_pipe_ref *pipe)
{
    sp_ring_del(&((struct star *)self)->peers, pipe);
}

/// The application sends, with the word or, in raw mode, one of its own. False: it is no message of
/// this protocol, and gone.
static bool star_begin(struct star *star, sp_msg *m)
{
    if (m->header_len == 0 && !star->sock->raw) {
        return sp_msg_header_put_u32(m, 0) == SP_OK;
    }
    if (m->header_len != 4) {
        star->host->discard_out(star->sock, m, SP_DISCARD_MALFORMED);
        return false;
    }
    return true;
}

/// What waits for room (only with "overflow" block) is offered again by the core.
static void star_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct star *star = self;

    (void)ctx;
    while (out->n > 0 && sp_ring_open(&star->peers, star->host, star->sock)) {
        sp_msg *m = sp_batch_pop(out);

        if (star_begin(star, m)) {
            sp_ring_fan_out(&star->peers, star->host, star->sock, m, NULL);
        }
    }
}

/// Passes a message on to all but who sent it: copies, as none of them was sent by the application.
/// Without memory for one that peer misses the message.
static void star_forward(struct star *star, const sp_pipe_ref *from, sp_msg *m)
{
    struct sp_ring_peer *peer = star->peers.turn;

    for (size_t i = 0; i < star->peers.n; i++, peer = peer->next) {
        if (peer->ref != from) {
            star->host->pipe_offer_copy(peer->ref, m);
        }
    }
}

/// A message came: counts the hop and passes it on. False: it is gone.
static bool star_hop(struct star *star, sp_pipe_ref *from, sp_msg *m)
{
    uint32_t hops = 0;

    if (sp_msg_take_u32(m, &hops) != SP_OK || hops > STAR_HOPS_MAX) {
        star->host->discard_in(star->sock, m, SP_DISCARD_MALFORMED);
        return false;
    }
    if (hops >= sp_option_load(&star->ttl_max)) {
        star->host->discard_in(star->sock, m, SP_DISCARD_TTL);
        return false;
    }
    (void)sp_msg_header_put_u32(m, hops + 1); // It was just taken from there.
    star_forward(star, from, m);
    return true;
}

/// What the application has no room for stays; its header shows that it was passed on already.
static void star_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    struct star *star = self;

    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        if ((m->header_len > 0 || star_hop(star, pipe, m)) &&
            star->host->deliver(star->ctx, m) != SP_OK) {
            sp_batch_unpop(in, m);
            return;
        }
    }
}

static const sp_id_pair star_ids[] = {{STAR_ID, STAR_ID}};

static const sp_option star_options[] = {
    {
        .name = "ttl-max",
        .type = SP_OPTION_INT,
        .offset = offsetof(struct star, ttl_max),
        .def = 8,
        .min = 1,
        .max = STAR_HOPS_MAX,
        .unit = "hops",
        .doc = "messages that made more hops are dropped",
    },
};

#define STAR_COMMON                                                                                \
    .size = sizeof(sp_protocol_ops), .ids = star_ids, .id_count = 1, .window = SP_WINDOW_OPEN,     \
    .sock_size = sizeof(struct star), .pipe_size = sizeof(struct sp_ring_peer),                    \
    .options = star_options, .option_count = 1, .option_size = sizeof(sp_option),                  \
    .init = star_init, .ctx_open = star_ctx_open, .pipe_add = star_pipe_add,                       \
    .pipe_del = star_pipe_del, .on_send = star_on_send, .on_recv = star_on_recv,                   \
    .overflow = SP_OVERFLOW_DROP_NEW,                                                              \
    .overflows = SP_OVERFLOW_BIT(SP_OVERFLOW_BLOCK) | SP_OVERFLOW_BIT(SP_OVERFLOW_DROP_NEW) |      \
                 SP_OVERFLOW_BIT(SP_OVERFLOW_DROP_OLD) | SP_OVERFLOW_BIT(SP_OVERFLOW_DISCONNECT)

static const sp_protocol_ops star_raw_ops = {STAR_COMMON};

static const sp_protocol_ops star_ops = {STAR_COMMON, .raw = &star_raw_ops};

static const sp_export star_exports[] = {
    {.kind = SP_KIND_PROTOCOL, .name = "star", .ops.protocol = &star_ops},
};

static const sp_plugin star_plugin = {
    .size = sizeof(sp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.example.star",
    .version = "1.0.0",
    .vendor = "example.org",
    .licence = "MIT",
    .description = "STAR: what one sends, all others around the hub receive",
    .exports = star_exports,
    .export_count = 1,
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &star_plugin;
}
