/* SPDX-License-Identifier: MIT */
/// Reading manifests and holding them against descriptors. A manifest belongs to the candidate that
/// it was read for. [any]
#include "manifest.h"

#include "json.h"
#include "platform.h"
#include "plugin_check.h"

#include <string.h>

#define MANIFEST_FILE_MAX ((size_t)64 << 10)
#define MANIFEST_EXPORTS_MAX 256

static const char *const manifest_kinds[] = {"unknown", "protocol", "transport", "actor"};
#define MANIFEST_KINDS (sizeof(manifest_kinds) / sizeof(manifest_kinds[0]))

const char *sp__kind_name(sp_kind kind)
{
    return manifest_kinds[(size_t)kind < MANIFEST_KINDS ? (size_t)kind : 0];
}

/* ------------------------------------------------------------------ Reading */

/// Copies the string member `name`.
static int manifest_member(const struct sp__json_value *object, const char *name, char **out,
                           struct sp__why *why)
{
    const struct sp__json_value *v = sp__json_member(object, name);
    const char *text = v != NULL ? sp__json_text(v) : NULL;

    if (text == NULL || text[0] == '\0' || !sp__json_text_ok(text)) {
        return sp__why_set(why, SP_EINVAL, "member \"%s\" is missing or not a text", name);
    }
    *out = sp__strdup(text);
    return *out != NULL ? SP_OK : sp__why_set(why, SP_ENOMEM, "no memory");
}

static int manifest_export(const struct sp__json_value *v, struct sp__manifest_export *e,
                           struct sp__why *why)
{
    char *kind = NULL;
    int err;

    if (sp__json_type(v) != SP__JSON_OBJECT) {
        return sp__why_set(why, SP_EINVAL, "an export is %s, but must be an object",
                           sp__json_type_name(v));
    }
    err = manifest_member(v, "kind", &kind, why);
    if (err < 0) {
        return err;
    }
    for (size_t k = SP_KIND_PROTOCOL; k < MANIFEST_KINDS; k++) {
        if (strcmp(kind, manifest_kinds[k]) == 0) {
            e->kind = (sp_kind)k;
        }
    }
    if (e->kind == 0) {
        err = sp__why_set(why, SP_EINVAL, "unknown kind \"%s\"", kind);
    }
    sp__free(kind);
    return err < 0 ? err : manifest_member(v, "name", &e->name, why);
}

static int manifest_exports(const struct sp__json_value *root, struct sp__manifest *m,
                            struct sp__why *why)
{
    const struct sp__json_value *list = sp__json_member(root, "exports");
    size_t count = 0;

    if (list == NULL || sp__json_type(list) != SP__JSON_ARRAY) {
        return sp__why_set(why, SP_EINVAL, "member \"exports\" is missing or not an array");
    }
    for (const struct sp__json_value *v = sp__json_first(list); v != NULL; v = sp__json_next(v)) {
        count++;
    }
    if (count == 0 || count > MANIFEST_EXPORTS_MAX) {
        return sp__why_set(why, SP_EINVAL, "member \"exports\" has %zu items", count);
    }
    m->exports = sp__zalloc(count * sizeof(m->exports[0]));
    if (m->exports == NULL) {
        return sp__why_set(why, SP_ENOMEM, "no memory");
    }
    for (const struct sp__json_value *v = sp__json_first(list); v != NULL; v = sp__json_next(v)) {
        int err = manifest_export(v, &m->exports[m->count], why);

        if (err < 0) {
            return err;
        }
        m->count++;
    }
    return SP_OK;
}

static int manifest_parse(const struct sp__json_value *root, struct sp__manifest *m,
                          struct sp__why *why)
{
    int err;

    if (sp__json_type(root) != SP__JSON_OBJECT) {
        return sp__why_set(why, SP_EINVAL, "is %s, but must be an object",
                           sp__json_type_name(root));
    }
    err = manifest_member(root, "id", &m->id, why);
    if (err == SP_OK) {
        err = manifest_member(root, "version", &m->version, why);
    }
    if (err == SP_OK) {
        err = manifest_member(root, "abi", &m->abi, why);
    }
    return err < 0 ? err : manifest_exports(root, m, why);
}

int sp__manifest_read(const char *path, struct sp__manifest **out, struct sp__why *why)
{
    struct sp__json_value *root = NULL;
    struct sp__manifest *m;
    int err = sp__json_read(path, MANIFEST_FILE_MAX, &root, why);

    if (err < 0) {
        return err;
    }
    m = sp__zalloc(sizeof(*m));
    err = m == NULL ? sp__why_set(why, SP_ENOMEM, "no memory") : manifest_parse(root, m, why);
    sp__json_close(root);
    if (err < 0) {
        sp__manifest_free(m);
        return err;
    }
    *out = m;
    return SP_OK;
}

void sp__manifest_free(struct sp__manifest *m)
{
    if (m == NULL) {
        return;
    }
    for (size_t i = 0; i < m->count; i++) {
        sp__free(m->exports[i].name);
    }
    sp__free(m->exports);
    sp__free(m->id);
    sp__free(m->version);
    sp__free(m->abi);
    sp__free(m);
}

/* ------------------------------------------------------------------ Comparing */

static bool manifest_lists(const struct sp__manifest *m, sp_kind kind, const char *name)
{
    for (size_t i = 0; i < m->count; i++) {
        if (m->exports[i].kind == kind && strcmp(m->exports[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int manifest_differs(const char *what, const char *ours, const char *theirs,
                            struct sp__why *why)
{
    return sp__why_set(why, SP_EABI, "manifest says %s \"%s\" but the plugin says \"%s\"", what,
                       ours, theirs);
}

/// Both lists are free of duplicates as far as the descriptor is concerned, so inclusion both ways
/// is equality.
static int manifest_match_exports(const struct sp__manifest *m, const sp_plugin *desc,
                                  struct sp__why *why)
{
    for (size_t i = 0; i < desc->export_count; i++) {
        const sp_export *e = sp__export_at(desc, i);

        if (!manifest_lists(m, e->kind, e->name)) {
            return sp__why_set(
                why, SP_EABI,
                "manifest says nothing of %s \"%s\" but the plugin says that it provides it",
                sp__kind_name(e->kind), e->name);
        }
    }
    for (size_t i = 0; i < m->count; i++) {
        if (sp__export_find(desc, m->exports[i].kind, m->exports[i].name) == NULL) {
            return sp__why_set(why, SP_EABI,
                               "manifest says %s \"%s\" but the plugin says nothing of it",
                               sp__kind_name(m->exports[i].kind), m->exports[i].name);
        }
    }
    return SP_OK;
}

int sp__manifest_match(const struct sp__manifest *m, const sp_plugin *desc, struct sp__why *why)
{
    char abi[16];

    (void)snprintf(abi, sizeof(abi), "%u.%u", desc->abi_major, desc->abi_minor_built);
    if (strcmp(m->id, desc->id) != 0) {
        return manifest_differs("id", m->id, desc->id, why);
    }
    if (strcmp(m->version, desc->version) != 0) {
        return manifest_differs("version", m->version, desc->version, why);
    }
    if (strcmp(m->abi, abi) != 0) {
        return manifest_differs("abi", m->abi, abi, why);
    }
    return manifest_match_exports(m, desc, why);
}
