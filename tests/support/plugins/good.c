/* SPDX-License-Identifier: MIT */
/// A good plugin: a protocol with raw mode and options, and a second name where FIXTURE_SECOND says
/// so.
#include "fixture.h"

static const sp_option good_options[] = {
    {.name = FIXTURE_NAME ":size",
     .type = SP_OPTION_INT,
     .offset = 8,
     .def = 5,
     .min = 1,
     .max = 9,
     .unit = "bytes",
     .doc = "a number"},
    {.name = "flag",
     .type = SP_OPTION_BOOL,
     .flags = SP_OPTION_CTX,
     .offset = 8,
     .def = 1,
     .unit = "",
     .doc = "a switch of the context"},
};

static const sp_protocol_ops good_raw = FIXTURE_PROTOCOL;

static const sp_protocol_ops good_ops = {
    .size = sizeof(sp_protocol_ops),
    .ids = fixture_ids,
    .id_count = 1,
    .flags = SP_PROTO_ASKS,
    .window = SP_WINDOW_PEER,
    .sock_size = 64,
    .ctx_size = 16,
    .options = good_options,
    .option_count = 2,
    .option_size = sizeof(sp_option),
    .on_send = fixture_on_send,
    .on_recv = fixture_on_recv,
    .raw = &good_raw,
};

static const sp_export good_exports[] = {
    FIXTURE_EXPORT(&good_ops),
#ifdef FIXTURE_SECOND
    {.kind = SP_KIND_PROTOCOL, .name = FIXTURE_SECOND, .ops = {.protocol = &good_raw}},
#endif
};

static const sp_plugin good_plugin = {FIXTURE_PLUGIN(good_exports)};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &good_plugin;
}
