/* SPDX-License-Identifier: MIT */
/// The right entry, but a descriptor of ABI major 7. The rest is rubbish that must not be read.
#include "fixture.h"

static const sp_plugin wrong_major = {
    .size = sizeof(sp_plugin),
    .abi_major = 7,
    .id = (const char *)(uintptr_t)1,
    .export_count = 1,
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &wrong_major;
}
