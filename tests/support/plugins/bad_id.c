/* SPDX-License-Identifier: MIT */
/// An id that is no reverse DNS name.
#define FIXTURE_ID "just a name"
#include "fixture.h"

static const sp_protocol_ops bad_id_ops = FIXTURE_PROTOCOL;
static const sp_export bad_id_exports[] = {FIXTURE_EXPORT(&bad_id_ops)};
static const sp_plugin bad_id_plugin = {FIXTURE_PLUGIN(bad_id_exports)};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &bad_id_plugin;
}
