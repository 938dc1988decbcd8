/* SPDX-License-Identifier: MIT */
/// "edgefd://NAME": a transport between sockets of the process that has file descriptors, simulated
/// ones: what is written is queued, and harvested after the poller reported an edge, as with tcp.
#ifndef SP_TEST_EDGE_NET_H
#define SP_TEST_EDGE_NET_H

#include <sp/plugin.h>

/// Registers it (sp__registry_add).
const sp_plugin *edge_net_entry(void);

#endif
