/* SPDX-License-Identifier: MIT */
/// Needs ABI 1.9.
#include "fixture.h"

static const sp_protocol_ops fixture_ops = FIXTURE_PROTOCOL;
static const sp_export fixture_exports[] = {FIXTURE_EXPORT(&fixture_ops)};
static const sp_plugin fixture_plugin = {
    FIXTURE_PLUGIN(fixture_exports),
    .abi_minor_needed = 9,
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &fixture_plugin;
}
