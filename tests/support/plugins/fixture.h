/* SPDX-License-Identifier: MIT */
/// The smallest good protocol plugin, to be spoilt in one place by each fixture. FIXTURE_NAME is
/// its protocol's name.
#ifndef FIXTURE_H
#define FIXTURE_H

#include <sp/plugin.h>

#ifndef FIXTURE_NAME
#error "FIXTURE_NAME is missing"
#endif
#ifndef FIXTURE_ID
#define FIXTURE_ID "org.example." FIXTURE_NAME
#endif

static inline void fixture_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    (void)self;
    (void)ctx;
    (void)out;
}

static inline void fixture_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    (void)self;
    (void)pipe;
    (void)in;
}

static const sp_id_pair fixture_ids[] = {{0x1234, 0x1234}};

#define FIXTURE_PROTOCOL                                                                           \
    {                                                                                              \
        .size = sizeof(sp_protocol_ops), .ids = fixture_ids, .id_count = 1, .sock_size = 64,       \
        .ctx_size = 16, .on_send = fixture_on_send, .on_recv = fixture_on_recv                     \
    }

#define FIXTURE_EXPORT(table)                                                                      \
    {                                                                                              \
        .kind = SP_KIND_PROTOCOL, .name = FIXTURE_NAME, .ops = {.protocol = (table) }              \
    }

/// A descriptor of the exports in the array `list`.
#define FIXTURE_PLUGIN(list)                                                                       \
    .size = sizeof(sp_plugin), .abi_major = SP_ABI_MAJOR, .abi_minor_built = SP_ABI_MINOR,         \
    .id = FIXTURE_ID, .version = "1.2.3", .vendor = "Example", .licence = "MIT",                   \
    .description = "a fixture of the tests", .exports = (list),                                    \
    .export_count = sizeof(list) / sizeof((list)[0]), .export_size = sizeof(sp_export)

#endif
