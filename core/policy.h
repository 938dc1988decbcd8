/* SPDX-License-Identifier: MIT */
/// Who may be loaded: a file that nobody but root, the process's own user and the owners named by
/// the configuration could have put there or changed. Checked before the file is opened, because
/// its constructors run in that. [any]
#ifndef SP_CORE_POLICY_H
#define SP_CORE_POLICY_H

#include "config.h"
#include "why.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define SP__TRUST_OWNERS 64

struct sp__known;

/// Whom this process trusts, for one look-up.
struct sp__trust {
    uid_t user;       ///< its effective user
    gid_t group;      ///< its user's own group, which may have write permission
    bool group_known; ///< false in a set-user-id program: whose group it is cannot be told
    uid_t lib_owner;  ///< owner of the library's own file, whose code runs already
    uid_t owners[SP__TRUST_OWNERS];
    size_t owner_count;
    struct sp__known *known; ///< directories that were looked at
};

/// What stat says of one component of a path.
struct sp__facts {
    mode_t mode;
    uid_t uid;
    gid_t gid;
};

enum sp__place {
    SP__PLACE_ANCESTOR, ///< a directory above the plugin directory
    SP__PLACE_DIR,      ///< the plugin directory
    SP__PLACE_FILE      ///< the plugin
};

/// Gathers the facts about this process; the owners are those of `cfg` ("plugin-owners").
void sp__policy_trust(struct sp__trust *trust, const struct sp_config *cfg);
/// Gives back what a look-up knows of directories.
void sp__policy_forget(struct sp__trust *trust);

/// Judges one component called `path`; pure. SP_EABI with the component and the mend.
int sp__policy_judge(const struct sp__trust *trust, const struct sp__facts *facts,
                     enum sp__place place, const char *path, struct sp__why *why);

/// The real path of a file or directory, as realpath(3), to a buffer of PATH_MAX bytes, and what
/// stands there. Negative errno.
int sp__policy_real(struct sp__trust *trust, const char *path, char *real, struct sp__facts *facts);

/// Judges every directory above a real path, from the root down. SP_EABI, or the errno code of
/// stat. Each is looked at once in a look-up, and before what is in it: if it is judged good, only
/// those who are trusted can change it from then on.
int sp__policy_above(struct sp__trust *trust, const char *path, struct sp__why *why);
/// The same, and the file itself.
int sp__policy_path(struct sp__trust *trust, const char *path, struct sp__why *why);

/// The allow-list of `cfg`: by real path or by id (NULL: the plugin has no manifest that tells it).
/// SP_EABI.
int sp__policy_allowed(const struct sp_config *cfg, const char *path, const char *id,
                       struct sp__why *why);

/// True when `path` itself is on the allow-list, or there is none, so that nothing depends on the
/// plugin's id.
bool sp__policy_allows_path(const struct sp_config *cfg, const char *path);

/// Whether the file's SHA-256 is the one in the sidecar `path`.sha256 (as sha256sum writes it).
/// SP_EABI: it is not, or there is no sidecar.
int sp__policy_digest(const char *path, struct sp__why *why);

/// Real path of the file that holds this library's code: libsp.so, or the program that it is linked
/// into.
int sp__policy_self(char *buf, size_t cap);

#endif
