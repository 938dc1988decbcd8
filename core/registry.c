/* SPDX-License-Identifier: MIT */
/// Plugins that are loaded and the names that they provide. A name is bound to the plugin that
/// provides it when it is first wanted, and stays bound. Lists only grow at their heads; everything
/// but the walk of the plugins is under one mutex.
#include "registry.h"

#include "candidate.h"
#include "config.h"
#include "error.h"
#include "host.h"
#include "log.h"
#include "platform.h"
#include "plugin_check.h"
#include "registry_list.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define REGISTRY_BUILT_IN "the program itself"

struct registry_actor {
    struct registry_actor *next;
    const char *name;
    struct sp__plugin *plugin;
};

static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
// The release in registry_load pairs with the acquire in the walk.
static _Atomic(struct sp__plugin *) registry_plugins;
/// Plugins whose load failed; under the mutex.
static struct sp__plugin *registry_quarantine;
static struct sp__protocol *registry_protocols;
static struct sp__transport *registry_transports;
static struct registry_actor *registry_actors;

void sp__registry_lock(void)
{
    (void)pthread_mutex_lock(&registry_mutex);
}

void sp__registry_unlock(void)
{
    (void)pthread_mutex_unlock(&registry_mutex);
}

/* ------------------------------------------------------------------ What is registered */

static struct sp__protocol *registry_find_protocol(const char *name)
{
    struct sp__protocol *p = registry_protocols;

    while (p != NULL && strcmp(p->name, name) != 0) {
        p = p->next;
    }
    return p;
}

static struct sp__transport *registry_find_transport(const char *scheme)
{
    struct sp__transport *t = registry_transports;

    while (t != NULL && strcmp(t->scheme, scheme) != 0) {
        t = t->next;
    }
    return t;
}

static struct registry_actor *registry_find_actor(const char *name)
{
    struct registry_actor *a = registry_actors;

    while (a != NULL && strcmp(a->name, name) != 0) {
        a = a->next;
    }
    return a;
}

const struct sp__plugin *sp__registry_owner(sp_kind kind, const char *name)
{
    const struct sp__protocol *p = kind == SP_KIND_PROTOCOL ? registry_find_protocol(name) : NULL;
    const struct sp__transport *t = kind == SP_KIND_TRANSPORT ? registry_find_transport(name)
                                                              : NULL;
    const struct registry_actor *a = kind == SP_KIND_ACTOR ? registry_find_actor(name) : NULL;

    if (p != NULL) {
        return p->plugin;
    }
    if (t != NULL) {
        return t->plugin;
    }
    return a != NULL ? a->plugin : NULL;
}

const struct sp__plugin *sp__registry_plugins(void)
{
    // Acquire: pairs with the release of who adds one; entries never go.
    return atomic_load_explicit(&registry_plugins, memory_order_acquire);
}

const struct sp__plugin *sp__registry_loaded(const char *path)
{
    const struct sp__plugin *p = sp__registry_plugins();

    while (p != NULL && (p->path == NULL || strcmp(p->path, path) != 0)) {
        p = p->next;
    }
    return p;
}

/// The plugin of a descriptor that is linked in.
static struct sp__plugin *registry_find_desc(const sp_plugin *desc)
{
    // Acquire: pairs with the release of who adds one.
    struct sp__plugin *p = atomic_load_explicit(&registry_plugins, memory_order_acquire);

    while (p != NULL && p->desc != desc) {
        p = p->next;
    }
    return p;
}

/* ------------------------------------------------------------------ Registering */

static int registry_bind_protocol(struct sp__plugin *plugin, const sp_export *e)
{
    struct sp__protocol *p = sp__zalloc(sizeof(*p));
    int err;

    if (p == NULL) {
        return SP_ENOMEM;
    }
    p->name = e->name;
    p->plugin = plugin;
    p->has_raw = e->ops.protocol->raw != NULL;
    err = sp__copy_protocol(&p->ops, e->ops.protocol);
    if (err == SP_OK && p->has_raw) {
        err = sp__copy_protocol(&p->raw, e->ops.protocol->raw);
        p->raw.raw = NULL;
    }
    if (err < 0) {
        sp__copy_free(p->ops.options);
        sp__free(p);
        return err;
    }
    p->ops.raw = p->has_raw ? &p->raw : NULL;
    p->next = registry_protocols;
    registry_protocols = p;
    return SP_OK;
}

static int registry_bind_transport(struct sp__plugin *plugin, const sp_export *e)
{
    struct sp__transport *t = sp__zalloc(sizeof(*t));
    int err;

    if (t == NULL) {
        return SP_ENOMEM;
    }
    t->scheme = e->name;
    t->plugin = plugin;
    err = sp__copy_transport(&t->ops, e->ops.transport);
    if (err < 0) {
        sp__free(t);
        return err;
    }
    t->next = registry_transports;
    registry_transports = t;
    return SP_OK;
}

static int registry_bind_actor(struct sp__plugin *plugin, const sp_export *e)
{
    struct registry_actor *a = sp__zalloc(sizeof(*a));

    if (a == NULL) {
        return SP_ENOMEM;
    }
    a->name = e->name;
    a->plugin = plugin;
    a->next = registry_actors;
    registry_actors = a;
    return SP_OK;
}

/// Binds one name of a loaded plugin, which nobody else provides.
static int registry_bind(struct sp__plugin *plugin, const sp_export *e, struct sp__why *why)
{
    int err = SP_OK;

    if (sp__registry_owner(e->kind, e->name) == plugin) {
        return SP_OK;
    }
    switch (e->kind) {
    case SP_KIND_PROTOCOL:
        err = registry_bind_protocol(plugin, e);
        break;
    case SP_KIND_TRANSPORT:
        err = registry_bind_transport(plugin, e);
        break;
    case SP_KIND_ACTOR:
        err = registry_bind_actor(plugin, e);
        break;
    }
    return err < 0 ? sp__why_set(why, err, "no memory") : SP_OK;
}

/// Initialises a checked plugin, unless it is loaded already. `path` NULL: it is linked in.
static int registry_load(const sp_plugin *desc, const char *path, struct sp__plugin **out,
                         struct sp__why *why)
{
    struct sp__plugin *plugin = registry_find_desc(desc);
    int err = SP_OK;

    if (plugin != NULL) {
        *out = plugin;
        return SP_OK;
    }
    for (plugin = registry_quarantine; plugin != NULL; plugin = plugin->next) {
        if (plugin->desc == desc) {
            // Its code ran half-way: it is not run again in this process.
            return sp__why_set(why, SP_EABI, "quarantined: init failed (%d) before",
                               plugin->failed);
        }
    }
    plugin = sp__zalloc(sizeof(*plugin));
    if (plugin != NULL && path != NULL) {
        plugin->path = sp__strdup(path);
    }
    if (plugin == NULL || (path != NULL && plugin->path == NULL)) {
        sp__free(plugin);
        return sp__why_set(why, SP_ENOMEM, "no memory");
    }
    plugin->desc = desc;
    if (desc->load != NULL) {
        err = desc->load(&sp__host);
    }
    if (err < 0) {
        plugin->next = registry_quarantine;
        registry_quarantine = plugin;
        plugin->failed = err;
        return sp__why_set(why, SP_EABI, "init failed (%d)", err);
    }
    plugin->next = atomic_load_explicit(&registry_plugins, memory_order_relaxed);
    // Release: the plugin is whole when it is found.
    atomic_store_explicit(&registry_plugins, plugin, memory_order_release);
    *out = plugin;
    return SP_OK;
}

int sp__registry_adopt(const sp_plugin *desc, const char *path, struct sp__why *why)
{
    struct sp__plugin *plugin = registry_find_desc(desc);
    int err;

    for (size_t i = 0; i < desc->export_count; i++) {
        const sp_export *e = sp__export_at(desc, i);
        const struct sp__plugin *owner = sp__registry_owner(e->kind, e->name);

        if (owner != NULL && owner != plugin) {
            return sp__why_set(why, SP_EABI, "duplicate name: %s \"%s\" is in %s and in %s",
                               sp__kind_name(e->kind), e->name,
                               path != NULL ? path : REGISTRY_BUILT_IN,
                               owner->path != NULL ? owner->path : REGISTRY_BUILT_IN);
        }
    }
    err = registry_load(desc, path, &plugin, why);
    for (size_t i = 0; err == SP_OK && i < desc->export_count; i++) {
        err = registry_bind(plugin, sp__export_at(desc, i), why);
    }
    return err;
}

int sp__registry_add(const sp_plugin *(*entry)(void))
{
    struct sp__why why;
    const sp_plugin *desc = entry();
    int err;

    sp__registry_lock();
    err = sp__check_plugin(desc, &why);
    if (err == SP_OK) {
        err = sp__registry_adopt(desc, NULL, &why);
    }
    sp__registry_unlock();
    return err < 0 ? sp__fail(err, "built-in plugin refused: %s", why.text) : SP_OK;
}

/* ------------------------------------------------------------------ Look-ups */

/// The story of a look-up that found nothing, cut off where the error detail would be.
struct registry_tale {
    char text[SP__DETAIL_MAX - 256];
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void registry_tell(struct registry_tale *t,
                                                                const char *fmt, ...)
{
    size_t room = sizeof(t->text) - t->len;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(t->text + t->len, room, fmt, ap);
    va_end(ap);
    if (n > 0) {
        t->len += (size_t)n < room ? (size_t)n : room - 1;
    }
}

/// Every directory, then every file that was refused and either provides the name or did not get to
/// say so.
static void registry_tell_search(struct registry_tale *t, const struct sp__search *s, sp_kind kind,
                                 const char *name)
{
    const char *separator = ": ";

    for (const struct sp__search_dir *d = s->dirs; d != NULL; d = d->next) {
        registry_tell(t, "%s%s", d == s->dirs ? "searched " : ", ", d->path);
        if (d->note != NULL) {
            registry_tell(t, " (%s)", d->note);
        }
    }
    for (const struct sp__candidate *c = s->candidates; c != NULL; c = c->next) {
        if (c->err < 0 && (sp__candidate_claims(c, kind, name) || sp__candidate_silent(c))) {
            registry_tell(t, "%s%s refused: %s", separator, c->path, c->why.text);
            separator = "; ";
        }
    }
}

/// Loads one candidate and binds the name.
static void registry_take(struct sp__search *s, struct sp__candidate *c, sp_kind kind,
                          const char *name)
{
    struct sp__plugin *plugin;

    sp__candidate_check_twin(s, c);
    sp__candidate_examine(c);
    if (c->err < 0) {
        return;
    }
    c->err = registry_load(c->desc, c->path, &plugin, &c->why);
    if (c->err == SP_OK) {
        c->err = registry_bind(plugin, sp__export_find(c->desc, kind, name), &c->why);
    }
}

/// Tries candidate after candidate of a directory until one provides the name.
static int registry_resolve_in(struct sp__search *s, const struct sp__search_dir *dir, sp_kind kind,
                               const char *name)
{
    int err = SP_ENOPLUGIN;

    sp__candidate_ask(s, dir);
    for (struct sp__candidate *c = s->candidates; c != NULL; c = c->next) {
        if (c->dir != dir) {
            continue;
        }
        if (sp__candidate_claims(c, kind, name)) {
            registry_take(s, c, kind, name);
        } else if (!sp__candidate_silent(c)) {
            continue;
        }
        if (c->err == SP_OK || c->err == SP_ENOMEM) {
            return c->err;
        }
        err = SP_EABI;
    }
    return err;
}

/// Tries directory after directory; those behind the one that has it are not looked into.
static int registry_resolve(struct sp__search *s, sp_kind kind, const char *name)
{
    int err = SP_ENOPLUGIN;

    if (sp__registry_owner(kind, name) != NULL) {
        return SP_OK; // another thread was first
    }
    for (struct sp__search_dir *dir = s->dirs; dir != NULL; dir = dir->next) {
        int rc = sp__search_scan(s, dir);

        rc = rc < 0 ? rc : registry_resolve_in(s, dir, kind, name);
        if (rc == SP_OK || rc == SP_ENOMEM) {
            return rc;
        }
        err = rc == SP_EABI ? rc : err;
    }
    return err;
}

/// Tells the log which candidates were passed over, when a later one took their place. Not under
/// the mutex: the log function is the application's.
static void registry_warn(const struct sp__search *s, sp_kind kind, const char *name)
{
    for (const struct sp__candidate *c = s->candidates; c != NULL; c = c->next) {
        if (c->err < 0 && sp__candidate_claims(c, kind, name)) {
            sp__logf(SP_LOG_WARN, "plugins", "%s \"%s\": %s refused: %s", sp__kind_name(kind), name,
                     c->path, c->why.text);
        }
    }
}

/// Looks for a plugin that provides a name which nobody has bound yet.
static int registry_lookup(sp_kind kind, const char *name)
{
    struct sp__search s;
    struct registry_tale tale = {.len = 0};
    int err;

    sp__registry_lock();
    err = sp__search_dirs(&s, sp__config());
    if (err == SP_OK) {
        err = registry_resolve(&s, kind, name);
    }
    sp__registry_unlock();
    if (err == SP_OK) {
        registry_warn(&s, kind, name);
    } else if (err == SP_ENOMEM) {
        (void)sp__fail_code(err, "%s \"%s\"", sp__kind_name(kind), name);
    } else {
        registry_tell_search(&tale, &s, kind, name);
        (void)sp__fail(err, "%s \"%s\": no plugin provides it (%s)", sp__kind_name(kind), name,
                       tale.text);
    }
    sp__search_clear(&s);
    return err;
}

static const struct sp__protocol *registry_get_protocol(const char *name)
{
    const struct sp__protocol *p;

    sp__registry_lock();
    p = registry_find_protocol(name);
    sp__registry_unlock();
    return p;
}

static const struct sp__transport *registry_get_transport(const char *scheme)
{
    const struct sp__transport *t;

    sp__registry_lock();
    t = registry_find_transport(scheme);
    sp__registry_unlock();
    return t;
}

int sp__registry_protocol(const char *name, const struct sp__protocol **out)
{
    int err = SP_OK;

    *out = registry_get_protocol(name);
    if (*out == NULL) {
        err = registry_lookup(SP_KIND_PROTOCOL, name);
    }
    if (err == SP_OK && *out == NULL) {
        *out = registry_get_protocol(name);
    }
    return err;
}

int sp__registry_transport(const char *scheme, const struct sp__transport **out)
{
    int err = SP_OK;

    *out = registry_get_transport(scheme);
    if (*out == NULL) {
        err = registry_lookup(SP_KIND_TRANSPORT, scheme);
    }
    if (err == SP_OK && *out == NULL) {
        *out = registry_get_transport(scheme);
    }
    return err;
}
