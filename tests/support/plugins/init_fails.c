/* SPDX-License-Identifier: MIT */
/// load() says no.
#include "fixture.h"

static const sp_protocol_ops fixture_ops = FIXTURE_PROTOCOL;
static const sp_export fixture_exports[] = {FIXTURE_EXPORT(&fixture_ops)};
static int init_fails_load(const sp_host *host)
{
    (void)host;
    return -5;
}

static const sp_plugin fixture_plugin = {
    FIXTURE_PLUGIN(fixture_exports),
    .load = init_fails_load,
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &fixture_plugin;
}
