/* SPDX-License-Identifier: MIT */
/// Who may be loaded. The judgement is a pure function over the facts of one path component; the
/// rest gathers facts. An ACL that lets others write shows in the group bits of the mode, so the
/// mode is enough. [any]
#include "policy.h"

#include "platform.h"

#include <sp/sp.h>

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <sha2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

/* ------------------------------------------------------------------ Facts */

/// Real path of the file of an object in memory that contains this library.
static int policy_find_self(char *real)
{
    static const char anchor = 0;
    struct link_map *map = NULL;
    Dl_info info;
    const char *path = "/proc/self/exe";

    // The program's own entry in the list of objects has no name: then the library is linked into
    // the program.
    if (dladdr1(&anchor, &info, (void **)&map, RTLD_DL_LINKMAP) != 0 && map != NULL &&
        map->l_name[0] != '\0') {
        path = map->l_name;
    }
    return realpath(path, real) != NULL ? SP_OK : -errno;
}

int sp__policy_self(char *buf, size_t cap)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static char self[PATH_MAX]; // It was loaded once: where from does not change.
    int err = SP_OK;

    (void)pthread_mutex_lock(&mutex);
    if (self[0] == '\0') {
        err = policy_find_self(self);
    }
    if (err < 0) {
        self[0] = '\0';
    } else if (snprintf(buf, cap, "%s", self) >= (int)cap) {
        err = -ENAMETOOLONG;
    }
    (void)pthread_mutex_unlock(&mutex);
    return err;
}

/// A directory as lstat saw it.
struct sp__known {
    struct sp__known *next;
    struct sp__facts facts;
    size_t len;
    char path[];
};

static int policy_lstat(const char *path, struct sp__facts *facts)
{
    struct stat st;

    *facts = (struct sp__facts){0};
    if (lstat(path, &st) < 0) {
        return -errno;
    }
    facts->mode = st.st_mode;
    facts->uid = st.st_uid;
    facts->gid = st.st_gid;
    return SP_OK;
}

/// The facts of `path`, of `len` bytes. Those of a directory are remembered; without memory it is
/// looked at again.
static int policy_look(struct sp__trust *trust, const char *path, size_t len,
                       struct sp__facts *facts)
{
    struct sp__known *k = trust->known;
    char part[PATH_MAX];
    int err;

    while (k != NULL && (k->len != len || memcmp(k->path, path, len) != 0)) {
        k = k->next;
    }
    if (k != NULL) {
        *facts = k->facts;
        return SP_OK;
    }
    memcpy(part, path, len);
    part[len] = '\0';
    err = policy_lstat(part, facts);
    k = err == SP_OK && S_ISDIR(facts->mode) ? sp__alloc(sizeof(*k) + len) : NULL;
    if (k != NULL) {
        k->facts = *facts;
        k->len = len;
        memcpy(k->path, path, len);
        k->next = trust->known;
        trust->known = k;
    }
    return err;
}

void sp__policy_forget(struct sp__trust *trust)
{
    while (trust->known != NULL) {
        struct sp__known *k = trust->known;

        trust->known = k->next;
        sp__free(k);
    }
}

/// True when a component of `path`, `len` bytes, has to be resolved: nothing, "." or "..".
static bool policy_is_dots(const char *path, size_t len)
{
    return len == 0 || (path[0] == '.' && (len == 1 || (len == 2 && path[1] == '.')));
}

/// SP_OK: `path` is its own real path, and `facts` are its own. Positive: it has to be resolved.
/// Negative errno.
static int policy_is_real(struct sp__trust *trust, const char *path, struct sp__facts *facts)
{
    size_t len = strlen(path);
    size_t at = 1;

    if (path[0] != '/' || len < 2 || len >= PATH_MAX) {
        return 1;
    }
    while (at <= len) {
        size_t end = at + strcspn(path + at, "/");
        int err;

        if (policy_is_dots(path + at, end - at)) {
            return 1;
        }
        err = policy_look(trust, path, end, facts);
        if (err < 0 || S_ISLNK(facts->mode)) {
            return err < 0 ? err : 1;
        }
        at = end + 1;
    }
    return SP_OK;
}

int sp__policy_real(struct sp__trust *trust, const char *path, char *real, struct sp__facts *facts)
{
    int rc = policy_is_real(trust, path, facts);

    if (rc == SP_OK) {
        memcpy(real, path, strlen(path) + 1);
        return SP_OK;
    }
    if (rc < 0) {
        return rc;
    }
    return realpath(path, real) != NULL ? policy_look(trust, real, strlen(real), facts) : -errno;
}

static void policy_parse_owners(struct sp__trust *trust, const char *text)
{
    while (text != NULL && *text != '\0' && trust->owner_count < SP__TRUST_OWNERS) {
        char *end;
        unsigned long uid = strtoul(text, &end, 10);

        if (end == text) {
            return;
        }
        trust->owners[trust->owner_count++] = (uid_t)uid;
        text = *end == ',' ? end + 1 : NULL;
    }
}

void sp__policy_trust(struct sp__trust *trust, const struct sp_config *cfg)
{
    char self[PATH_MAX];
    struct stat st;

    memset(trust, 0, sizeof(*trust));
    trust->user = geteuid();
    trust->group = getegid();
    trust->group_known = getauxval(AT_SECURE) == 0 && getgid() == trust->group;
    trust->lib_owner = trust->user;
    if (sp__policy_self(self, sizeof(self)) == SP_OK && stat(self, &st) == 0) {
        trust->lib_owner = st.st_uid;
    }
    policy_parse_owners(trust, cfg->plugin_owners);
}

/* ------------------------------------------------------------------ Judgement */

static bool policy_owner_ok(const struct sp__trust *trust, uid_t uid)
{
    if (uid == 0 || uid == trust->user || uid == trust->lib_owner) {
        return true;
    }
    for (size_t i = 0; i < trust->owner_count; i++) {
        if (trust->owners[i] == uid) {
            return true;
        }
    }
    return false;
}

int sp__policy_judge(const struct sp__trust *trust, const struct sp__facts *facts,
                     enum sp__place place, const char *path, struct sp__why *why)
{
    // In a sticky directory of root others may add names, but not replace those of the next
    // component's owner.
    bool sticky = place == SP__PLACE_ANCESTOR && facts->uid == 0 && (facts->mode & S_ISVTX) != 0;

    if (place == SP__PLACE_FILE && !S_ISREG(facts->mode)) {
        return sp__why_set(why, SP_EABI, "%s is not a regular file", path);
    }
    if (place != SP__PLACE_FILE && !S_ISDIR(facts->mode)) {
        return sp__why_set(why, SP_EABI, "%s is not a directory", path);
    }
    if (!policy_owner_ok(trust, facts->uid)) {
        return sp__why_set(why, SP_EABI,
                           "%s belongs to user %lu, who is not trusted: chown root %s, or add %lu "
                           "to plugin-owners",
                           path, (unsigned long)facts->uid, path, (unsigned long)facts->uid);
    }
    if ((facts->mode & S_IWOTH) != 0 && !sticky) {
        return sp__why_set(why, SP_EABI, "%s is writable by others: chmod o-w %s", path, path);
    }
    if ((facts->mode & S_IWGRP) != 0 && !sticky &&
        !(trust->group_known && facts->gid == trust->group)) {
        return sp__why_set(why, SP_EABI, "%s is writable by group %lu: chmod g-w %s", path,
                           (unsigned long)facts->gid, path);
    }
    return SP_OK;
}

int sp__policy_above(struct sp__trust *trust, const char *path, struct sp__why *why)
{
    const char *last = strrchr(path, '/');

    if (path[0] != '/' || strlen(path) < 2 || strlen(path) >= PATH_MAX) {
        return sp__why_set(why, SP_EABI, "\"%s\" is not an absolute path", path);
    }
    for (const char *at = path; at <= last; at++) {
        size_t end = at == path ? 1 : (size_t)(at - path);
        enum sp__place place = at == last ? SP__PLACE_DIR : SP__PLACE_ANCESTOR;
        struct sp__facts facts;
        char part[PATH_MAX];
        int err;

        if (*at != '/') {
            continue;
        }
        memcpy(part, path, end);
        part[end] = '\0';
        err = policy_look(trust, part, end, &facts);
        err = err < 0 ? sp__why_set(why, err, "%s: %s", part, strerrordesc_np(-err))
                      : sp__policy_judge(trust, &facts, place, part, why);
        if (err < 0) {
            return err;
        }
    }
    return SP_OK;
}

int sp__policy_path(struct sp__trust *trust, const char *path, struct sp__why *why)
{
    struct sp__facts facts;
    int err = sp__policy_above(trust, path, why);

    if (err < 0) {
        return err;
    }
    err = policy_lstat(path, &facts);
    return err < 0 ? sp__why_set(why, err, "%s: %s", path, strerrordesc_np(-err))
                   : sp__policy_judge(trust, &facts, SP__PLACE_FILE, path, why);
}

/* ------------------------------------------------------------------ The allow-list */

/// True when `item` of the list, `n` bytes, is the real path `path`.
static bool policy_item_is_path(const char *item, size_t n, const char *path)
{
    char name[PATH_MAX];
    char real[PATH_MAX];

    if (item[0] != '/' || n >= sizeof(name)) {
        return false;
    }
    memcpy(name, item, n);
    name[n] = '\0';
    return realpath(name, real) != NULL && strcmp(real, path) == 0;
}

static bool policy_listed(const char *list, const char *path, const char *id)
{
    while (*list != '\0') {
        size_t n = strcspn(list, ":");

        if (path != NULL && policy_item_is_path(list, n, path)) {
            return true;
        }
        if (id != NULL && strlen(id) == n && memcmp(list, id, n) == 0) {
            return true;
        }
        list += n;
        list += *list == ':' ? 1 : 0;
    }
    return false;
}

int sp__policy_digest(const char *path, struct sp__why *why)
{
    char sidecar[PATH_MAX + sizeof(".sha256")];
    char want[SHA256_DIGEST_STRING_LENGTH] = "";
    char have[SHA256_DIGEST_STRING_LENGTH];
    FILE *f;

    (void)snprintf(sidecar, sizeof(sidecar), "%s.sha256", path);
    f = fopen(sidecar, "re");
    if (f == NULL) {
        return sp__why_set(why, SP_EABI,
                           "denied: cannot read its digest %s: %s (plugin-sha256 is on)", sidecar,
                           sp_strerror(-errno));
    }
    (void)!fgets(want, (int)sizeof(want), f);
    (void)fclose(f);
    if (SHA256File(path, have) == NULL) {
        return sp__why_set(why, SP_EABI, "denied: cannot read it: %s", sp_strerror(-errno));
    }
    if (strcasecmp(want, have) != 0) {
        return sp__why_set(why, SP_EABI, "denied: its SHA-256 is %s, not the one in %s", have,
                           sidecar);
    }
    return SP_OK;
}

bool sp__policy_allows_path(const struct sp_config *cfg, const char *path)
{
    return cfg->plugin_allow == NULL || policy_listed(cfg->plugin_allow, path, NULL);
}

int sp__policy_allowed(const struct sp_config *cfg, const char *path, const char *id,
                       struct sp__why *why)
{
    if (sp__policy_allows_path(cfg, path) ||
        (id != NULL && policy_listed(cfg->plugin_allow, NULL, id))) {
        return SP_OK;
    }
    if (id == NULL) {
        return sp__why_set(why, SP_EABI, "not in plugin-allow (no manifest tells its id): add %s",
                           path);
    }
    return sp__why_set(why, SP_EABI, "not in plugin-allow: add %s or %s", id, path);
}
