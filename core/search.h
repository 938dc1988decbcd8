/* SPDX-License-Identifier: MIT */
/// Where plugins are looked for, and the candidates that lie there with what policy and their
/// manifests say. Opens no code. A search belongs to the look-up that made it. [any]
#ifndef SP_CORE_SEARCH_H
#define SP_CORE_SEARCH_H

#include "manifest.h"
#include "policy.h"
#include "why.h"

#include <sp/plugin.h>

#include <stdbool.h>
#include <stddef.h>

struct sp__search_dir {
    struct sp__search_dir *next;
    char *path; ///< real path; as it was given when it cannot be used
    char *note; ///< why it cannot be used; NULL: it can
};

/// A file `x.so` in one of the directories.
struct sp__candidate {
    struct sp__candidate *next;
    const struct sp__search_dir *dir; ///< NULL: named by its path, not found in a directory
    char *path;                       ///< real path; as found when it has none
    struct sp__manifest *manifest;    ///< NULL: none, or none that can be used
    const sp_plugin *desc;            ///< once examined and found good
    bool denied;                      ///< refused by policy
    bool examined;
    int err; ///< refused: SP_EABI, SP_ENOMEM … because of `why`
    struct sp__why why;
};

struct sp__search {
    const struct sp_config *cfg;
    struct sp__trust trust;
    struct sp__search_dir *dirs;      ///< in the order of precedence
    struct sp__candidate *candidates; ///< by directory, then by name
};

/// Names every directory: "plugin-dirs" of `cfg`, SP_PLUGIN_PATH, then the place of this library's
/// own plugins. SP_ENOMEM. To be cleared in any case.
int sp__search_dirs(struct sp__search *s, const struct sp_config *cfg);
/// Lists what is in one of them. SP_ENOMEM.
int sp__search_scan(struct sp__search *s, struct sp__search_dir *dir);
/// Both, for all of them.
int sp__search_all(struct sp__search *s, const struct sp_config *cfg);

/// Adds the one file at `path`, which need not lie in a search directory. A negative code with
/// `why`: no such file.
int sp__search_file(struct sp__search *s, const char *path, struct sp__candidate **out,
                    struct sp__why *why);

/// An empty search, for sp__search_file.
void sp__search_init(struct sp__search *s, const struct sp_config *cfg);
void sp__search_clear(struct sp__search *s);

#endif
