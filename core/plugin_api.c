/* SPDX-License-Identifier: MIT */
/// What applications see of plugins: loading one by its path, and the list of them as JSON. [any]
#include "candidate.h"
#include "config.h"
#include "error.h"
#include "json.h"
#include "overflow.h"
#include "plugin_check.h"
#include "registry_list.h"
#include "runtime.h"

#include <sp/sp.h>

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define PLUGIN_BUILT_IN "built in"

/* ------------------------------------------------------------------ Loading */

int sp_plugin_load(const char *path)
{
    struct sp__search s;
    struct sp__candidate *c;
    struct sp__why why;
    int err;

    if (path == NULL || path[0] == '\0') {
        return sp__fail(SP_EINVAL, "plugin: no path");
    }
    err = sp__runtime_start();
    if (err < 0) {
        return err;
    }
    sp__registry_lock();
    sp__search_init(&s, sp__config());
    err = sp__search_file(&s, path, &c, &why);
    if (err < 0) {
        err = err == SP_ENOMEM ? sp__fail_code(err, "plugin %s", path)
                               : sp__fail(SP_ENOPLUGIN, "plugin %s: %s", path, why.text);
    } else {
        sp__candidate_examine(c);
        if (c->err == SP_OK) {
            c->err = sp__registry_adopt(c->desc, c->path, &c->why);
        }
        err = c->err < 0 ? sp__fail(c->err == SP_ENOMEM ? SP_ENOMEM : SP_EABI,
                                    "plugin %s refused: %s", c->path, c->why.text)
                         : SP_OK;
    }
    sp__search_clear(&s);
    sp__registry_unlock();
    return err;
}

void sp_free(void *p)
{
    free(p);
}

/* ------------------------------------------------------------------ Details of an export */

static const char *plugin_option_type(sp_option_type type)
{
    static const char *const names[] = {"int", "bool", "str", "bytes"};

    return names[type];
}

static void plugin_put_option(struct sp__json *list, const sp_option *opt)
{
    struct sp__json *o = sp__json_array_object(list);

    sp__json_add_str(o, "name", opt->name);
    sp__json_add_str(o, "type", plugin_option_type(opt->type));
    sp__json_add_str(o, "unit", opt->unit);
    if (opt->type == SP_OPTION_INT) {
        sp__json_add_int(o, "default", opt->def);
        sp__json_add_int(o, "min", opt->min);
        sp__json_add_int(o, "max", opt->max);
    } else if (opt->type == SP_OPTION_BOOL) {
        sp__json_add_bool(o, "default", opt->def != 0);
    } else if (opt->type == SP_OPTION_STR) {
        sp__json_add_int(o, "max", opt->max - 1); // without the NUL
    }
    sp__json_add_str(o, "doc", opt->doc);
    sp__json_add_bool(o, "readonly", (opt->flags & SP_OPTION_READONLY) != 0);
    sp__json_add_bool(o, "context", (opt->flags & SP_OPTION_CTX) != 0);
}

static void plugin_put_options(struct sp__json *e, const sp_option *options, size_t count,
                               size_t size)
{
    struct sp__json *list = sp__json_add_array(e, "options");

    for (size_t i = 0; i < count; i++) {
        plugin_put_option(list, sp__option_at(options, size, i));
    }
}

/// What the option "overflow" may be; nothing for a protocol that has none.
static void plugin_put_overflow(struct sp__json *e, const sp_protocol_ops *ops)
{
    struct sp__json *list;

    if (!SP__HAS(ops, sp_protocol_ops, overflows) || ops->overflows == 0) {
        return;
    }
    sp__json_add_str(e, "overflow", sp__overflow_name(ops->overflow));
    list = sp__json_add_array(e, "overflows");
    for (unsigned i = 0; i < SP__OVERFLOWS; i++) {
        if ((ops->overflows & SP_OVERFLOW_BIT(i)) != 0) {
            sp__json_array_str(list, sp__overflow_name(i));
        }
    }
}

static void plugin_put_protocol(struct sp__json *e, const sp_protocol_ops *ops)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } flags[] = {
        {SP_PROTO_REPLIES, "replies"}, {SP_PROTO_ASKS, "asks"},
        {SP_PROTO_REQUEUE, "requeue"}, {SP_PROTO_NO_SEND, "no-send"},
        {SP_PROTO_NO_RECV, "no-recv"}, {SP_PROTO_CONTEXTS, "contexts"},
        {SP_PROTO_MANY, "many"},
    };
    static const char *const windows[] = {"pipes", "peer", "open"};
    struct sp__json *list = sp__json_add_array(e, "ids");

    for (size_t i = 0; i < ops->id_count; i++) {
        struct sp__json *pair = sp__json_array_object(list);

        sp__json_add_int(pair, "own", ops->ids[i].own);
        sp__json_add_int(pair, "peer", ops->ids[i].peer);
    }
    list = sp__json_add_array(e, "flags");
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if ((ops->flags & flags[i].bit) != 0) {
            sp__json_array_str(list, flags[i].name);
        }
    }
    sp__json_add_str(e, "window", windows[ops->window]);
    plugin_put_overflow(e, ops);
    sp__json_add_bool(e, "raw", ops->raw != NULL);
    plugin_put_options(e, ops->options, ops->option_count, ops->option_size);
}

static void plugin_put_details(struct sp__json *out, const sp_export *e)
{
    if (e->kind == SP_KIND_PROTOCOL) {
        plugin_put_protocol(out, e->ops.protocol);
    } else if (e->kind == SP_KIND_TRANSPORT) {
        const sp_transport_ops *ops = e->ops.transport;

        sp__json_add_str(out, "url_form", ops->url_form);
        plugin_put_options(out, ops->options, ops->option_count, ops->option_size);
    }
}

/* ------------------------------------------------------------------ One plugin */

/// The members that every entry has, in their order.
static struct sp__json *plugin_put_head(struct sp__json *list, const char *file, const char *id,
                                        const char *version, const char *abi)
{
    struct sp__json *o = sp__json_array_object(list);

    sp__json_add_str(o, "file", file);
    sp__json_add_str(o, "id", id);
    sp__json_add_str(o, "version", version);
    sp__json_add_str(o, "abi", abi);
    return o;
}

static void plugin_put_export(struct sp__json *list, sp_kind kind, const char *name,
                              const sp_export *details)
{
    struct sp__json *e = sp__json_array_object(list);

    sp__json_add_str(e, "kind", sp__kind_name(kind));
    sp__json_add_str(e, "name", name);
    if (details != NULL) {
        plugin_put_details(e, details);
    }
}

static void plugin_put_origin(struct sp__json *o, const sp_plugin *desc,
                              const struct sp__plugin *loaded)
{
    sp__json_add_str(o, "vendor", desc->vendor);
    sp__json_add_str(o, "licence", desc->licence);
    sp__json_add_str(o, "description", desc->description);
    if (loaded != NULL) {
        sp__json_add_int(o, "instances",
                         (int64_t)__atomic_load_n(&loaded->instances, __ATOMIC_RELAXED));
    }
}

/// A plugin that was loaded otherwise than from a search directory.
static void plugin_put_loaded(struct sp__json *list, const struct sp__plugin *p, bool details)
{
    const sp_plugin *desc = p->desc;
    struct sp__json *o;
    char abi[16];

    (void)snprintf(abi, sizeof(abi), "%u.%u", desc->abi_major, desc->abi_minor_built);
    o = plugin_put_head(list, p->path != NULL ? p->path : PLUGIN_BUILT_IN, desc->id, desc->version,
                        abi);
    sp__json_add_str(o, "state", "loaded");
    sp__json_add_str(o, "reason", "");
    if (details) {
        plugin_put_origin(o, desc, p);
    }
    list = sp__json_add_array(o, "exports");
    for (size_t i = 0; i < desc->export_count; i++) {
        const sp_export *e = sp__export_at(desc, i);

        plugin_put_export(list, e->kind, e->name, details ? e : NULL);
    }
}

/// The path of the plugin from which a look-up of the name would be served instead of from `c`;
/// NULL: from `c`.
static const char *plugin_rival(const struct sp__search *s, const struct sp__candidate *c,
                                sp_kind kind, const char *name)
{
    const struct sp__plugin *owner = sp__registry_owner(kind, name);

    if (owner != NULL) {
        const char *path = owner->path != NULL ? owner->path : PLUGIN_BUILT_IN;

        return strcmp(path, c->path) != 0 ? path : NULL;
    }
    for (const struct sp__candidate *other = s->candidates; other != c; other = other->next) {
        if (other->dir != NULL && other->err == SP_OK && sp__candidate_claims(other, kind, name)) {
            return other->path;
        }
    }
    return NULL;
}

/// "loaded", "available", "shadowed" or "refused", with the reason in `c->why`. What is loaded
/// stays so, whatever has become of the file and the policy since.
static const char *plugin_state(const struct sp__search *s, struct sp__candidate *c)
{
    size_t shadowed = 0;
    size_t count = 0;
    const char *name;
    sp_kind kind;

    if (c->err < 0) {
        return sp__registry_loaded(c->path) != NULL ? "loaded" : "refused";
    }
    for (; sp__candidate_claim(c, count, &kind, &name); count++) {
        const char *rival = plugin_rival(s, c, kind, name);

        if (rival != NULL) {
            shadowed++;
            (void)sp__why_set(&c->why, SP_OK, "%s \"%s\" is provided by %s", sp__kind_name(kind),
                              name, rival);
        }
    }
    if (sp__registry_loaded(c->path) != NULL) {
        return "loaded";
    }
    return shadowed == count ? "shadowed" : "available";
}

static void plugin_put_candidate(struct sp__json *list, const struct sp__search *s,
                                 struct sp__candidate *c, bool details)
{
    const struct sp__manifest *m = c->manifest;
    const char *state = plugin_state(s, c);
    const char *name;
    struct sp__json *o;
    char abi[16] = "";
    sp_kind kind;

    if (c->desc != NULL) {
        (void)snprintf(abi, sizeof(abi), "%u.%u", c->desc->abi_major, c->desc->abi_minor_built);
        o = plugin_put_head(list, c->path, c->desc->id, c->desc->version, abi);
    } else {
        o = plugin_put_head(list, c->path, m != NULL ? m->id : "", m != NULL ? m->version : "",
                            m != NULL ? m->abi : "");
    }
    sp__json_add_str(o, "state", state);
    sp__json_add_str(o, "reason", c->why.text);
    if (details && c->desc != NULL) {
        plugin_put_origin(o, c->desc, sp__registry_loaded(c->path));
    }
    list = sp__json_add_array(o, "exports");
    for (size_t i = 0; sp__candidate_claim(c, i, &kind, &name); i++) {
        plugin_put_export(list, kind, name,
                          details && c->desc != NULL ? sp__export_find(c->desc, kind, name) : NULL);
    }
}

/* ------------------------------------------------------------------ The list */

/// True when `name` is a name in the plugin, its id, its file's path or its file's name.
static bool plugin_is_named(const char *path, const char *id, const char *name)
{
    const char *base = path != NULL ? strrchr(path, '/') : NULL;

    return (id != NULL && strcmp(id, name) == 0) || (path != NULL && strcmp(path, name) == 0) ||
           (base != NULL && strcmp(base + 1, name) == 0);
}

static bool plugin_wanted(const struct sp__candidate *c, const char *name)
{
    const char *id = c->manifest != NULL ? c->manifest->id : c->desc != NULL ? c->desc->id : NULL;

    return name == NULL || sp__candidate_claims(c, 0, name) || plugin_is_named(c->path, id, name);
}

static bool plugin_wanted_loaded(const struct sp__plugin *p, const char *name)
{
    bool wanted = name == NULL || plugin_is_named(p->path, p->desc->id, name);

    for (size_t i = 0; !wanted && i < p->desc->export_count; i++) {
        wanted = strcmp(sp__export_at(p->desc, i)->name, name) == 0;
    }
    return wanted;
}

static bool plugin_is_candidate(const struct sp__search *s, const char *path)
{
    const struct sp__candidate *c = s->candidates;

    while (c != NULL && (path == NULL || strcmp(c->path, path) != 0)) {
        c = c->next;
    }
    return c != NULL;
}

/// Examines what is wanted, so that its state is known; the rest stays closed when its manifest
/// says enough.
static void plugin_examine(struct sp__search *s, const char *name)
{
    for (const struct sp__search_dir *d = s->dirs; d != NULL; d = d->next) {
        sp__candidate_ask(s, d);
    }
    for (struct sp__candidate *c = s->candidates; c != NULL; c = c->next) {
        if (plugin_wanted(c, name)) {
            if (c->dir != NULL) {
                sp__candidate_check_twin(s, c);
            }
            sp__candidate_examine(c);
        }
    }
}

/// Writes the entries and returns how many there are.
static size_t plugin_put_all(struct sp__json *list, struct sp__search *s, const char *name)
{
    size_t count = 0;

    for (struct sp__candidate *c = s->candidates; c != NULL; c = c->next) {
        if (plugin_wanted(c, name)) {
            plugin_put_candidate(list, s, c, name != NULL);
            count++;
        }
    }
    for (const struct sp__plugin *p = sp__registry_plugins(); p != NULL; p = p->next) {
        if (!plugin_is_candidate(s, p->path) && plugin_wanted_loaded(p, name)) {
            plugin_put_loaded(list, p, name != NULL);
            count++;
        }
    }
    return count;
}

/// Replaces a path by the real one, and adds its file to the search if it is none of the
/// candidates.
static int plugin_resolve_path(struct sp__search *s, const char **name, char *real)
{
    struct sp__candidate *c;
    struct sp__why why;
    int err;

    if (*name == NULL || strchr(*name, '/') == NULL) {
        return SP_OK;
    }
    if (realpath(*name, real) != NULL && plugin_is_candidate(s, real)) {
        *name = real;
        return SP_OK;
    }
    err = sp__search_file(s, *name, &c, &why);
    if (err < 0) {
        return err == SP_ENOMEM ? sp__fail_code(err, "plugins")
                                : sp__fail(SP_ENOPLUGIN, "plugin %s: %s", *name, why.text);
    }
    (void)snprintf(real, PATH_MAX, "%s", c->path);
    *name = real;
    return SP_OK;
}

/// Nothing has that name; but a file that was refused before it could say what it provides might.
static int plugin_none(const struct sp__search *s, const char *name)
{
    char text[SP__DETAIL_MAX / 2] = "";
    size_t used = 0;

    for (const struct sp__candidate *c = s->candidates; c != NULL; c = c->next) {
        int n = 0;

        if (sp__candidate_silent(c) && used < sizeof(text)) {
            n = snprintf(text + used, sizeof(text) - used, "%s%s refused: %s",
                         used == 0 ? " (" : "; ", c->path, c->why.text);
        }
        used += n > 0 ? (size_t)n : 0;
    }
    return sp__fail(SP_ENOPLUGIN, "plugin \"%s\": nothing of that name%s%s", name, text,
                    used > 0 ? ")" : "");
}

static int plugin_list(struct sp__search *s, const char *name, char **json)
{
    char real[PATH_MAX];
    struct sp__json *list;
    size_t count;
    int err = sp__search_all(s, sp__config());

    if (err < 0) {
        return sp__fail_code(err, "plugins");
    }
    err = plugin_resolve_path(s, &name, real);
    if (err < 0) {
        return err;
    }
    plugin_examine(s, name);
    list = sp__json_array();
    count = plugin_put_all(list, s, name);
    *json = sp__json_print(list);
    sp__json_free(list);
    if (*json == NULL) {
        return sp__fail_code(SP_ENOMEM, "plugins");
    }
    if (count == 0 && name != NULL) {
        free(*json);
        *json = NULL;
        return plugin_none(s, name);
    }
    return SP_OK;
}

int sp_plugins(const char *name, char **json)
{
    struct sp__search s;
    int err;

    if (json == NULL) {
        return sp__fail(SP_EINVAL, "plugins: no place for the result");
    }
    err = sp__runtime_start();
    if (err < 0) {
        return err;
    }
    sp__registry_lock();
    err = plugin_list(&s, name, json);
    sp__search_clear(&s);
    sp__registry_unlock();
    return err;
}
