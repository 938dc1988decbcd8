/* SPDX-License-Identifier: MIT */
/// Settings of the runtime. The caller's object until sp_init copies it into the runtime. [any],
/// not for concurrent use.
#ifndef SP_CORE_CONFIG_H
#define SP_CORE_CONFIG_H

#include <stdint.h>

struct sp_config {
    int64_t threads;       ///< -1: min(cores, 4); 0: the application drives
    int64_t thread_stack;  ///< bytes; 0: the system's default
    int64_t spin_time;     ///< µs; -1: adaptive
    int64_t watchdog_time; ///< ms that a callback may take before it is named; 0: any time
    int64_t memory_max;    ///< bytes of message memory; 0: no limit
    int64_t log_level;     ///< enum sp_log_level
    int64_t seed;          ///< 0: from the system
    int64_t plugins_off;   ///< 1: load nothing
    int64_t plugin_sha256; ///< 1: only files whose digest stands in FILE.sha256 beside them
    char *plugin_dirs;     ///< colon separated; NULL: none
    char *plugin_allow;    ///< colon separated ids or paths; NULL: every one that policy admits
    char *plugin_owners;   ///< comma separated uids; NULL: none
    char *affinity;        ///< CPU list; NULL: none
};

/// Sets `out` to the defaults; copies `in` (deep); frees what `cfg` holds, not itself.
void sp__config_defaults(struct sp_config *out);
int sp__config_copy(struct sp_config *out, const struct sp_config *in);
void sp__config_clear(struct sp_config *cfg);

/// The settings in force: a copy of what sp_init got, or the defaults. Valid from the runtime's
/// start (runtime.c owns it).
const struct sp_config *sp__config(void);

#endif
