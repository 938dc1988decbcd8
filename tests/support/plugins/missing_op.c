/* SPDX-License-Identifier: MIT */
/// A protocol that receives, without the slot for it.
#include "fixture.h"

static const sp_protocol_ops missing_op_ops = {
    .size = sizeof(sp_protocol_ops),
    .ids = fixture_ids,
    .id_count = 1,
    .on_send = fixture_on_send,
};
static const sp_export missing_op_exports[] = {FIXTURE_EXPORT(&missing_op_ops)};
static const sp_plugin missing_op_plugin = {FIXTURE_PLUGIN(missing_op_exports)};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &missing_op_plugin;
}
