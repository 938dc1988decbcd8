/* SPDX-License-Identifier: MIT */
/// Opening plugin files. The only module that knows libltdl, which is not thread safe: every call
/// is made under the registry's mutex.
#ifndef SP_CORE_LOADER_H
#define SP_CORE_LOADER_H

#include "why.h"

#include <sp/plugin.h>

/// Opens the file at a real path, all symbols bound, and asks its entry for the descriptor, which
/// is not checked yet (NULL is possible). Its constructors run: policy comes first. A file is
/// opened once, stays in memory until the process ends, and what was found in it is remembered.
/// SP_EABI with the reason: the linker's message verbatim, no entry, an entry that lies in another
/// file; SP_ENOMEM.
int sp__loader_open(const char *path, const sp_plugin **desc, struct sp__why *why);

#endif
