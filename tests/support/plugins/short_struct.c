/* SPDX-License-Identifier: MIT */
/// A descriptor that ends before its exports.
#include "fixture.h"

static const sp_plugin short_struct = {
    .size = offsetof(sp_plugin, exports),
    .abi_major = SP_ABI_MAJOR,
    .id = FIXTURE_ID,
    .version = "1",
    .vendor = "Example",
    .licence = "MIT",
    .description = "ends early",
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &short_struct;
}
