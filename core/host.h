/* SPDX-License-Identifier: MIT */
/// The host table that every plugin is handed.
#ifndef SP_CORE_HOST_H
#define SP_CORE_HOST_H

#include <sp/plugin.h>

extern const sp_host sp__host;

#endif
