/* SPDX-License-Identifier: MIT */
/// "edgefd://NAME": inproc whose readiness goes through the poller, by simulated file descriptors.
#ifndef SP_TEST_EDGE_NET_H
#define SP_TEST_EDGE_NET_H

#include <sp/plugin.h>

/// Registers it (sp__registry_add).
const sp_plugin *edge_net_entry(void);

#endif
