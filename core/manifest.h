/* SPDX-License-Identifier: MIT */
/// The JSON file beside a plugin that says what is in it, so that looking for a name opens no code.
/// It is a hint: the plugin's own descriptor decides, and a difference is a refusal. [any]
#ifndef SP_CORE_MANIFEST_H
#define SP_CORE_MANIFEST_H

#include "why.h"

#include <sp/plugin.h>

#include <stddef.h>

struct sp__manifest_export {
    sp_kind kind;
    char *name;
};

struct sp__manifest {
    char *id;
    char *version;
    char *abi; ///< "MAJOR.MINOR" that the plugin was built with
    struct sp__manifest_export *exports;
    size_t count;
};

/// "protocol", "transport", "actor"; "kind N" is never shown, an unknown kind is "unknown".
const char *sp__kind_name(sp_kind kind);

/// Reads the file at `path`. -ENOENT: there is none; else it cannot be used, `why` says why. The
/// caller frees `*out` with sp__manifest_free.
int sp__manifest_read(const char *path, struct sp__manifest **out, struct sp__why *why);
void sp__manifest_free(struct sp__manifest *m);

/// Compares with a descriptor that passed its checks. SP_EABI: "manifest says … but the plugin says
/// …".
int sp__manifest_match(const struct sp__manifest *m, const sp_plugin *desc, struct sp__why *why);

#endif
