/* SPDX-License-Identifier: MIT */
/// The search path and the candidates on it. Directories and files are compared and kept by their
/// real paths. [any]
#include "search.h"

#include "platform.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// Where an installed library has its plugins, when it cannot be told from the library's own place
// (a static program).
#ifndef SP_PLUGIN_DIR
#define SP_PLUGIN_DIR "/usr/local/lib/sp/1"
#endif

/* ------------------------------------------------------------------ Directories */

/// Appends a directory; one that is there already keeps its earlier place.
static int search_add_dir(struct sp__search *s, const char *path)
{
    struct sp__search_dir **at = &s->dirs;
    struct sp__search_dir *dir;
    char real[PATH_MAX];
    const char *note = NULL;
    struct sp__facts facts;
    int err = path[0] == '/' ? sp__policy_real(&s->trust, path, real, &facts) : SP_EINVAL;

    if (path[0] != '/') {
        note = "not an absolute path";
    } else if (err < 0) {
        note = strerrordesc_np(-err);
    } else if (!S_ISDIR(facts.mode)) {
        note = "not a directory";
    } else {
        path = real;
    }
    for (; *at != NULL; at = &(*at)->next) {
        if (strcmp((*at)->path, path) == 0) {
            return SP_OK;
        }
    }
    dir = sp__zalloc(sizeof(*dir));
    if (dir == NULL) {
        return SP_ENOMEM;
    }
    *at = dir;
    dir->path = sp__strdup(path);
    dir->note = note != NULL ? sp__strdup(note) : NULL;
    return dir->path == NULL || (note != NULL && dir->note == NULL) ? SP_ENOMEM : SP_OK;
}

/// Appends each directory of a colon separated list; NULL: none.
static int search_add_list(struct sp__search *s, const char *list)
{
    while (list != NULL && *list != '\0') {
        size_t n = strcspn(list, ":");
        char path[PATH_MAX];

        if (n > 0 && n < sizeof(path)) {
            memcpy(path, list, n);
            path[n] = '\0';
            if (search_add_dir(s, path) < 0) {
                return SP_ENOMEM;
            }
        }
        list += n;
        list += *list == ':' ? 1 : 0;
    }
    return SP_OK;
}

/// `dir`/`rest` when that is a directory, its real path.
static bool search_join_dir(struct sp__search *s, char *buf, const char *dir, const char *rest)
{
    char path[PATH_MAX];
    struct sp__facts facts;

    return snprintf(path, sizeof(path), "%s/%s", dir, rest) < (int)sizeof(path) &&
           sp__policy_real(&s->trust, path, buf, &facts) == SP_OK && S_ISDIR(facts.mode);
}

/// This library's own plugins: beside an installed library, or in the build tree around it.
static int search_add_own(struct sp__search *s)
{
    char self[PATH_MAX];
    char first[PATH_MAX];
    char second[PATH_MAX];
    char *slash;

    if (sp__policy_self(self, sizeof(self)) < 0) {
        return search_add_dir(s, SP_PLUGIN_DIR);
    }
    slash = strrchr(self, '/');
    *slash = '\0';
    if (search_join_dir(s, first, self, "sp/1")) {
        return search_add_dir(s, first);
    }
    // It is a real path: what is above it stands in it.
    slash = strrchr(self, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    if (search_join_dir(s, first, self, "plugins") &&
        search_join_dir(s, second, self, "transports")) {
        int err = search_add_dir(s, first);

        return err < 0 ? err : search_add_dir(s, second);
    }
    return search_add_dir(s, SP_PLUGIN_DIR);
}

/* ------------------------------------------------------------------ Candidates */

/// The manifest of `dir`/x.so is `dir`/x.json.
static bool search_manifest_path(char *buf, size_t cap, const char *dir, const char *name)
{
    size_t stem = strlen(name);

    if (stem > 3 && strcmp(name + stem - 3, ".so") == 0) {
        stem -= 3;
    }
    return snprintf(buf, cap, "%s/%.*s.json", dir, (int)stem, name) < (int)cap;
}

/// One that cannot be used counts as none: then the plugin is asked.
static int search_read_manifest(struct sp__candidate *c, const char *dir, const char *name)
{
    char path[PATH_MAX];
    struct sp__why why;

    if (!search_manifest_path(path, sizeof(path), dir, name)) {
        return SP_OK;
    }
    return sp__manifest_read(path, &c->manifest, &why) == SP_ENOMEM ? SP_ENOMEM : SP_OK;
}

/// The id that the allow-list may rely on: that of a manifest which is as well protected as the
/// plugin.
static const char *search_trusted_id(struct sp__search *s, const struct sp__candidate *c,
                                     const char *dir, const char *name)
{
    char path[PATH_MAX];
    struct sp__why why;

    if (c->manifest == NULL || !search_manifest_path(path, sizeof(path), dir, name)) {
        return NULL;
    }
    return sp__policy_path(&s->trust, path, &why) == SP_OK ? c->manifest->id : NULL;
}

/// What policy says of `c`, which was found as `name` in the real directory `dir`.
static int search_judge(struct sp__search *s, struct sp__candidate *c,
                        const struct sp__facts *facts, const char *dir, const char *name)
{
    size_t n = strcmp(dir, "/") == 0 ? 0 : strlen(dir);
    int err;

    if (s->cfg->plugins_off != 0) {
        return sp__why_set(&c->why, SP_EABI, "loading is turned off (plugins-off)");
    }
    if (strncmp(c->path, dir, n) != 0 || c->path[n] != '/' ||
        strchr(c->path + n + 1, '/') != NULL) {
        return sp__why_set(&c->why, SP_EABI, "%s/%s is a symbolic link out of its directory, to %s",
                           dir, name, c->path);
    }
    err = sp__policy_above(&s->trust, c->path, &c->why);
    if (err == SP_OK) {
        err = sp__policy_judge(&s->trust, facts, SP__PLACE_FILE, c->path, &c->why);
    }
    if (err == SP_OK && s->cfg->plugin_sha256 != 0) {
        err = sp__policy_digest(c->path, &c->why);
    }
    if (err < 0 || sp__policy_allows_path(s->cfg, c->path)) {
        return err;
    }
    return sp__policy_allowed(s->cfg, c->path, search_trusted_id(s, c, dir, name), &c->why);
}

static void search_free_candidate(struct sp__candidate *c)
{
    sp__manifest_free(c->manifest);
    sp__free(c->path);
    sp__free(c);
}

/// A candidate `name` in the real directory `dir`, judged, its manifest read. NULL: no memory.
static struct sp__candidate *search_candidate(struct sp__search *s, const char *dir,
                                              const char *name)
{
    struct sp__candidate *c = sp__zalloc(sizeof(*c));
    char path[PATH_MAX];
    char real[PATH_MAX];
    struct sp__facts facts;
    int err;

    if (c == NULL) {
        return NULL;
    }
    (void)snprintf(path, sizeof(path), "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, name);
    err = sp__policy_real(&s->trust, path, real, &facts);
    if (err < 0) {
        c->err = sp__why_set(&c->why, SP_EABI, "%s", strerrordesc_np(-err));
    }
    c->path = sp__strdup(err < 0 ? path : real);
    if (c->path == NULL || search_read_manifest(c, dir, name) < 0) {
        search_free_candidate(c);
        return NULL;
    }
    if (err == SP_OK) {
        c->err = search_judge(s, c, &facts, dir, name);
    }
    c->denied = c->err < 0;
    return c;
}

static int search_filter(const struct dirent *entry)
{
    size_t n = strlen(entry->d_name);

    return entry->d_name[0] != '.' && n > 3 && strcmp(entry->d_name + n - 3, ".so") == 0;
}

static int search_compare(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/// Appends a candidate, unless the file is there already (a link beside its target).
static void search_append(struct sp__search *s, struct sp__candidate *c)
{
    struct sp__candidate **at = &s->candidates;

    for (; *at != NULL; at = &(*at)->next) {
        if (strcmp((*at)->path, c->path) == 0 && (*at)->err == c->err) {
            search_free_candidate(c);
            return;
        }
    }
    *at = c;
}

int sp__search_scan(struct sp__search *s, struct sp__search_dir *dir)
{
    struct dirent **list = NULL;
    int n = dir->note == NULL ? scandir(dir->path, &list, search_filter, search_compare) : 0;
    int err = SP_OK;

    if (n < 0) {
        dir->note = sp__strdup(strerrordesc_np(errno));
        return dir->note != NULL ? SP_OK : SP_ENOMEM;
    }
    for (int i = 0; i < n; i++) {
        struct sp__candidate *c = err == SP_OK ? search_candidate(s, dir->path, list[i]->d_name)
                                               : NULL;

        free(list[i]);
        if (c != NULL) {
            c->dir = dir;
            search_append(s, c);
        } else {
            err = SP_ENOMEM;
        }
    }
    free(list);
    return err;
}

/* ------------------------------------------------------------------ The search */

void sp__search_init(struct sp__search *s, const struct sp_config *cfg)
{
    memset(s, 0, sizeof(*s));
    s->cfg = cfg;
    sp__policy_trust(&s->trust, cfg);
}

int sp__search_dirs(struct sp__search *s, const struct sp_config *cfg)
{
    int err;

    sp__search_init(s, cfg);
    err = search_add_list(s, cfg->plugin_dirs);
    if (err == SP_OK) {
        err = search_add_list(s, secure_getenv("SP_PLUGIN_PATH"));
    }
    return err < 0 ? err : search_add_own(s);
}

int sp__search_all(struct sp__search *s, const struct sp_config *cfg)
{
    int err = sp__search_dirs(s, cfg);

    for (struct sp__search_dir *dir = s->dirs; err == SP_OK && dir != NULL; dir = dir->next) {
        err = sp__search_scan(s, dir);
    }
    return err;
}

int sp__search_file(struct sp__search *s, const char *path, struct sp__candidate **out,
                    struct sp__why *why)
{
    char parent[PATH_MAX];
    char real[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    size_t n = slash != NULL ? (size_t)(slash - path) : 0;
    struct sp__facts facts;
    struct sp__candidate *c;
    int err;

    if (n >= sizeof(parent) || strlen(name) > NAME_MAX) {
        return sp__why_set(why, -ENAMETOOLONG, "%s", strerrordesc_np(ENAMETOOLONG));
    }
    memcpy(parent, path, n);
    parent[n] = '\0';
    if (n == 0) {
        (void)snprintf(parent, sizeof(parent), "%s", slash != NULL ? "/" : ".");
    }
    err = sp__policy_real(&s->trust, path, real, &facts);
    if (err == SP_OK) {
        err = sp__policy_real(&s->trust, parent, real, &facts);
    }
    if (err < 0) {
        return sp__why_set(why, err, "%s", strerrordesc_np(-err));
    }
    c = search_candidate(s, real, name);
    if (c == NULL) {
        return sp__why_set(why, SP_ENOMEM, "no memory");
    }
    c->next = s->candidates;
    s->candidates = c;
    *out = c;
    return SP_OK;
}

void sp__search_clear(struct sp__search *s)
{
    sp__policy_forget(&s->trust);
    while (s->candidates != NULL) {
        struct sp__candidate *c = s->candidates;

        s->candidates = c->next;
        search_free_candidate(c);
    }
    while (s->dirs != NULL) {
        struct sp__search_dir *dir = s->dirs;

        s->dirs = dir->next;
        sp__free(dir->path);
        sp__free(dir->note);
        sp__free(dir);
    }
}
