/* SPDX-License-Identifier: MIT */
/// Built for the next ABI major only.
#include <sp/plugin.h>

SP_API const void *sp_plugin_entry_v2(void);

const void *sp_plugin_entry_v2(void)
{
    return NULL;
}
