/* SPDX-License-Identifier: MIT */
/// One name twice in one plugin.
#include "fixture.h"

static const sp_protocol_ops twice_inside_ops = FIXTURE_PROTOCOL;
static const sp_export twice_inside_exports[] = {
    FIXTURE_EXPORT(&twice_inside_ops),
    FIXTURE_EXPORT(&twice_inside_ops),
};
static const sp_plugin twice_inside_plugin = {FIXTURE_PLUGIN(twice_inside_exports)};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &twice_inside_plugin;
}
