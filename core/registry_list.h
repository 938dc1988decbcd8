/* SPDX-License-Identifier: MIT */
/// The inside of the registry, for the plugin API (plugin_api.c) and the end of the runtime.
/// Everything here is called under the mutex.
#ifndef SP_CORE_REGISTRY_LIST_H
#define SP_CORE_REGISTRY_LIST_H

#include "registry.h"
#include "why.h"

void sp__registry_lock(void);
void sp__registry_unlock(void);

/// The plugin that provides a name to this process now, or NULL; the plugin that was loaded from a
/// real path, or NULL.
const struct sp__plugin *sp__registry_owner(sp_kind kind, const char *name);
const struct sp__plugin *sp__registry_loaded(const char *path);

/// Loads a checked plugin and registers all its names. `path` NULL: it is linked in. A negative
/// code with `why`.
int sp__registry_adopt(const sp_plugin *desc, const char *path, struct sp__why *why);

#endif
