/* SPDX-License-Identifier: MIT */
/// Plugins that are loaded, and the names that they provide. Look-ups load a plugin when its name
/// is first wanted. All of it runs under one process-wide mutex, held in no callback into user
/// code. [any]; failures set the thread's error detail.
#ifndef SP_CORE_REGISTRY_H
#define SP_CORE_REGISTRY_H

#include <sp/plugin.h>

#include <stddef.h>

/// A loaded plugin. Never unloaded; lives until the process ends.
struct sp__plugin {
    struct sp__plugin *next;
    const sp_plugin *desc;
    char *path;       ///< real path; NULL: registered by sp__registry_add
    int failed;       ///< what its load said, in quarantine
    size_t instances; ///< sockets and endpoints open now; atomic, relaxed: a statistic
};

/// A protocol that can be opened: a full-size copy of its table, every optional slot filled with a
/// stub.
struct sp__protocol {
    struct sp__protocol *next;
    const char *name;
    struct sp__plugin *plugin;
    sp_protocol_ops ops;
    sp_protocol_ops raw;
    bool has_raw;
};

struct sp__transport {
    struct sp__transport *next;
    const char *scheme;
    struct sp__plugin *plugin;
    sp_transport_ops ops;
};

/// Finds, loading it if need be. SP_ENOPLUGIN with every path tried; SP_EABI with the reason of the
/// refusal.
int sp__registry_protocol(const char *name, const struct sp__protocol **out);
int sp__registry_transport(const char *scheme, const struct sp__transport **out);

/// Registers a plugin that is linked in (static builds, tests): the same checks as for a file, but
/// no policy.
int sp__registry_add(const sp_plugin *(*entry)(void));

/// Walks what is loaded, for statistics; the list only grows at its head.
const struct sp__plugin *sp__registry_plugins(void);

#endif
