/* SPDX-License-Identifier: MIT */
/// Between the two halves of the plugin: protocol numbers and tables.
#ifndef SP_PLUGIN_SURVEY_H
#define SP_PLUGIN_SURVEY_H

#include <sp/plugin.h>

#define SURVEYOR_ID 0x62
#define RESPONDENT_ID 0x63

extern const sp_protocol_ops surveyor_ops;
extern const sp_protocol_ops respondent_ops;

#endif
