/* SPDX-License-Identifier: MIT */
/// Between the two halves of the plugin: protocol numbers and tables.
#ifndef SP_PLUGIN_REQREP_H
#define SP_PLUGIN_REQREP_H

#include <sp/plugin.h>

#define REQ_ID 0x30
#define REP_ID 0x31

extern const sp_protocol_ops req_ops;
extern const sp_protocol_ops rep_ops;

#endif
