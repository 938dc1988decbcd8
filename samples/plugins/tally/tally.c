/* SPDX-License-Identifier: MIT */
/// A third-party protocol: "tally", a pair of sockets whose messages are numbered.
///
/// One peer at a time. Each message carries a number in front of its body, one word, counting up on
/// each connection; the receiver drops what it has seen already and takes a gap as a broken peer.
/// It shows what most protocols need: a header, state of the socket and of each pipe, an option,
/// back-pressure in both directions, and refusal of a second peer.
///
/// Built as anybody would: against the installed SDK alone, see CMakeLists.txt.
#include <sp/plugin.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TALLY_ID 0xF011 // from the range for experiments; both ends are the same

struct tally {
    const sp_host *host;
    sp_sock_ref *sock;
    sp_ctx_ref *ctx;   // the socket's own
    sp_pipe_ref *pipe; // the peer; NULL: there is none
    int64_t strict;    // option "tally:strict"
};

/// Of one connection; the core zeroes it.
struct tally_pipe {
    uint32_t sent;
    uint32_t seen;
};

static int tally_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    struct tally *tally = self;

    tally->host = host;
    tally->sock = sock;
    return SP_OK;
}

static int tally_ctx_open(void *self, sp_ctx_ref *ctx)
{
    struct tally *tally = self;

    if (tally->ctx != NULL) {
        return SP_ENOTSUP;
    }
    tally->ctx = ctx;
    return SP_OK;
}

static int tally_pipe_add(void *self, sp_pipe_ref *pipe)
{
    struct tally *tally = self;

    if (tally->pipe != NULL) {
        return SP_EPEERS;
    }
    tally->pipe = pipe;
    return SP_OK;
}

static void tally_pipe_del(void *self, sp_pipe_ref *pipe)
{
    struct tally *tally = self;

    if (tally->pipe == pipe) {
        tally->pipe = NULL;
    }
}

/// Takes from `out` what the pipe has room for. The core keeps the rest and calls again when there
/// is more.
static void tally_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct tally *tally = self;
    struct tally_pipe *state;

    (void)ctx;
    if (tally->pipe == NULL) {
        return;
    }
    state = tally->pipe->state;
    while (out->n > 0 && tally->host->pipe_room(tally->pipe) > 0) {
        sp_msg *m = sp_batch_pop(out);

        if (sp_msg_header_put_u32(m, state->sent + 1) != SP_OK) {
            tally->host->discard_out(tally->sock, m, SP_DISCARD_MALFORMED);
        } else if (tally->host->pipe_send(tally->pipe, m) != SP_OK) {
            m->header_len -= 4; // as it was
            sp_batch_unpop(out, m);
            return;
        } else {
            state->sent++;
        }
    }
}

/// Hands on what comes in order. A message that does not fit yet stays in `in`, unchanged.
static void tally_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    struct tally *tally = self;
    struct tally_pipe *state = pipe->state;

    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        uint32_t number = 0;
        bool malformed = sp_msg_take_u32(m, &number) != SP_OK;

        if (malformed || (sp_option_load(&tally->strict) && number > state->seen + 1)) {
            tally->host->discard_in(tally->sock, m, SP_DISCARD_MALFORMED);
            tally->host->pipe_close(pipe, SP_EPROTO);
        } else if (number <= state->seen) {
            tally->host->discard_in(tally->sock, m, SP_DISCARD_STALE);
        } else if (tally->host->deliver(tally->ctx, m) != SP_OK) {
            m->data -= 4;
            m->len += 4;
            sp_batch_unpop(in, m);
            return;
        } else {
            state->seen = number;
        }
    }
}

static const sp_id_pair tally_ids[] = {{TALLY_ID, TALLY_ID}};

static const sp_option tally_options[] = {
    {
        .name = "tally:strict",
        .type = SP_OPTION_BOOL,
        .offset = offsetof(struct tally, strict),
        .def = 1,
        .min = 0,
        .max = 1,
        .unit = "",
        .doc = "close the connection when a number is missing",
    },
};

static const sp_protocol_ops tally_ops = {
    .size = sizeof(sp_protocol_ops),
    .ids = tally_ids,
    .id_count = 1,
    .window = SP_WINDOW_PIPES,
    .sock_size = sizeof(struct tally),
    .pipe_size = sizeof(struct tally_pipe),
    .options = tally_options,
    .option_count = 1,
    .option_size = sizeof(sp_option),
    .init = tally_init,
    .ctx_open = tally_ctx_open,
    .pipe_add = tally_pipe_add,
    .pipe_del = tally_pipe_del,
    .on_send = tally_on_send,
    .on_recv = tally_on_recv,
};

static const sp_export tally_exports[] = {
    {.kind = SP_KIND_PROTOCOL, .name = "tally", .ops.protocol = &tally_ops},
};

static const sp_plugin tally_plugin = {
    .size = sizeof(sp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.example.tally",
    .version = "1.0.0",
    .vendor = "example.org",
    .licence = "MIT",
    .description = "a pair whose messages are numbered",
    .exports = tally_exports,
    .export_count = 1,
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &tally_plugin;
}
