/* SPDX-License-Identifier: MIT */
/// Calls a function that nobody has. With lazy binding that would only show in the call.
#include "fixture.h"

extern int sp_fixture_nowhere(void);

static int undefined_load(const sp_host *host)
{
    (void)host;
    return sp_fixture_nowhere();
}

static const sp_protocol_ops undefined_ops = FIXTURE_PROTOCOL;
static const sp_export undefined_exports[] = {FIXTURE_EXPORT(&undefined_ops)};
static const sp_plugin undefined_plugin = {
    FIXTURE_PLUGIN(undefined_exports),
    .load = undefined_load,
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &undefined_plugin;
}
