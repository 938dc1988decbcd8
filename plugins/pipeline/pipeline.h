/* SPDX-License-Identifier: MIT */
/// The two ends of a pipeline.
#ifndef SP_PLUGIN_PIPELINE_H
#define SP_PLUGIN_PIPELINE_H

#include <sp/plugin.h>

#define PUSH_ID 0x50
#define PULL_ID 0x51

extern const sp_protocol_ops push_ops;
extern const sp_protocol_ops pull_ops;

#endif
