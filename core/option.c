/* SPDX-License-Identifier: MIT */
/// Options: one family of functions for every object. The core's own options and those of plugins
/// are tables; values are single 64-bit fields that are stored and loaded relaxed (an option orders
/// nothing), texts are under the socket's lock.
#include "error.h"
#include "mailbox.h"
#include "overflow.h"
#include "socket.h"

#include <sp/sp.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct core_option {
    const char *name;
    size_t offset;
    int64_t min;
    int64_t max;
};

#define CTX(field) offsetof(struct sp__ctx_options, field)
#define SOCK(field) offsetof(struct sp__sock_options, field)
#define EP(field) offsetof(struct sp__ep_options, field)

/// Of contexts; on a socket, its own context's, which others begin with.
static const struct core_option ctx_options[] = {
    {"recv-timeout", CTX(recv_timeout), -1, INT32_MAX},
    {"send-timeout", CTX(send_timeout), -1, INT32_MAX},
};

static const struct core_option sock_options[] = {
    {"recv-buffer", SOCK(recv_buffer), 0, 8192},
    {"send-buffer", SOCK(send_buffer), 0, 8192},
    {"queue-bytes-max", SOCK(queue_bytes), 1, INT64_MAX / 65536},
    {"in-place", SOCK(in_place), 0, 1},
    {"spin-time", SOCK(spin_time), -1, 1000000},
    {"linger", SOCK(linger), -1, INT32_MAX},
};

/// Of endpoints; on a socket, what its endpoints begin with.
static const struct core_option ep_options[] = {
    {"recv-size-max", EP(recv_size_max), 0, INT64_MAX},
    {"reconnect-time-min", EP(reconnect_min), 0, INT32_MAX},
    {"reconnect-time-max", EP(reconnect_max), 0, INT32_MAX},
    {"hello-timeout", EP(hello_timeout), -1, INT32_MAX},
    {"connect-timeout", EP(connect_timeout), -1, INT32_MAX},
    {"max-handshakes", EP(max_handshakes), 1, INT32_MAX},
    {"max-peers", EP(max_peers), 0, INT32_MAX},
    {"send-priority", EP(send_priority), 1, 16},
    {"recv-priority", EP(recv_priority), 1, 16},
};

static const char *const readonly_names[] = {"recv-next-size", "url",        "local-address",
                                             "remote-address", "bound-port", "peer-uid",
                                             "peer-gid",       "peer-pid"};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/// A value that was found: where it is, and what may be written to it.
struct place {
    void *at;
    sp_option_type type;
    int64_t min;
    int64_t max;
    bool readonly;
    bool early; ///< to be set before the first peer
};

static bool find_core(const struct core_option *table, size_t n, void *base, const char *name,
                      struct place *out)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i].name, name) == 0) {
            *out = (struct place){(char *)base + table[i].offset,
                                  SP_OPTION_INT,
                                  table[i].min,
                                  table[i].max,
                                  false,
                                  false};
            return true;
        }
    }
    return false;
}

/// A plugin's table and where its values are; `ctx` is the base of options that each context has.
struct plugin_options {
    const sp_option *table;
    size_t count;
    size_t size; ///< of an entry
    void *base;
    void *ctx;
};

static bool find_plugin(const struct plugin_options *options, const char *name, struct place *out)
{
    for (size_t i = 0; i < options->count; i++) {
        const char *entry = (const char *)options->table + i * options->size;
        const sp_option *o = (const sp_option *)(const void *)entry;

        // On a context there is only what each of them has.
        if (strcmp(o->name, name) == 0 &&
            (options->base != NULL || (o->flags & SP_OPTION_CTX) != 0)) {
            out->at = (char *)((o->flags & SP_OPTION_CTX) != 0 ? options->ctx : options->base) +
                      o->offset;
            out->type = o->type;
            out->min = o->min;
            out->max = o->max;
            out->readonly = (o->flags & SP_OPTION_READONLY) != 0;
            out->early = (o->flags & SP_OPTION_EARLY) != 0;
            return true;
        }
    }
    return false;
}

/// The object of an option call, entered.
struct target {
    struct sp__object *obj;
    struct sp__sock *sock;
    struct sp__ctx *ctx;   ///< NULL: neither a context nor a socket
    struct sp__ep *ep;     ///< NULL: not an endpoint
    struct sp__pipe *pipe; ///< NULL: not a pipe
};

static int target_enter(uint64_t id, const char *name, struct target *t)
{
    int rc;

    memset(t, 0, sizeof(*t));
    if (name == NULL) {
        return sp__fail(SP_EINVAL, "option: no name");
    }
    rc = sp__enter(id, SP__KIND_NONE, &t->obj);
    if (rc < 0) {
        return sp__fail_in(rc, "option \"%s\"", name);
    }
    switch (t->obj->kind) {
    case SP__KIND_SOCKET:
    case SP__KIND_CTX:
        t->ctx = sp__ctx_of(t->obj);
        t->sock = t->ctx->sock;
        break;
    case SP__KIND_DIALER:
    case SP__KIND_LISTENER:
        t->ep = SP__CONTAINER(t->obj, struct sp__ep, obj);
        t->sock = t->ep->sock;
        break;
    case SP__KIND_PIPE:
        t->pipe = SP__CONTAINER(t->obj, struct sp__pipe, obj);
        t->sock = t->pipe->sock;
        break;
    default:
        sp__leave();
        return sp__fail(SP_EINVAL, "option \"%s\": this kind of handle has none", name);
    }
    return SP_OK;
}

static bool target_find(const struct target *t, const char *name, struct place *out)
{
    struct plugin_options plugin;

    if (t->pipe != NULL) {
        return false;
    }
    if (t->ep != NULL) {
        const sp_transport_ops *ops = &t->ep->transport->ops;

        plugin = (struct plugin_options){ops->options, ops->option_count, ops->option_size,
                                         t->ep->ref.state, NULL};
        // A transport may see to one of the core's itself ("max-peers").
        return find_plugin(&plugin, name, out) ||
               find_core(ep_options, COUNT(ep_options), &t->ep->opt, name, out);
    }
    plugin = (struct plugin_options){t->sock->ops->options, t->sock->ops->option_count,
                                     t->sock->ops->option_size, t->sock->ref.state,
                                     t->ctx->ref.state};
    if (find_core(ctx_options, COUNT(ctx_options), &t->ctx->opt, name, out)) {
        return true;
    }
    if (t->obj->kind == SP__KIND_CTX) {
        plugin.base = NULL;
        return find_plugin(&plugin, name, out);
    }
    return find_core(sock_options, COUNT(sock_options), &t->sock->opt, name, out) ||
           find_core(ep_options, COUNT(ep_options), &t->sock->opt.ep, name, out) ||
           find_plugin(&plugin, name, out);
}

/// Texts of the core, of whichever object.
static bool is_core_text(const char *name)
{
    return strcmp(name, "name") == 0 || strcmp(name, "url") == 0 ||
           strcmp(name, "local-address") == 0 || strcmp(name, "remote-address") == 0;
}

/// A socket whose protocol has policies has the text "overflow".
static bool is_overflow(const struct target *t, const char *name)
{
    return t->obj->kind == SP__KIND_SOCKET && t->sock->ops->overflows != 0 &&
           strcmp(name, "overflow") == 0;
}

/// Why there is nothing to set: unknown, or read only.
static int target_missing(const struct target *t, const char *name)
{
    static const char *const kinds[] = {"", "socket", "context", "dialer", "listener", "pipe"};

    if ((is_core_text(name) && t->obj->kind == SP__KIND_SOCKET) || is_overflow(t, name)) {
        return sp__fail(SP_EINVAL, "option \"%s\": it is a text", name);
    }
    for (size_t i = 0; i < COUNT(readonly_names); i++) {
        if (strcmp(readonly_names[i], name) == 0) {
            return sp__fail(SP_ESTATE, "option \"%s\": read only", name);
        }
    }
    return sp__fail(SP_ENOTSUP, "option \"%s\": this %s has none", name, kinds[t->obj->kind]);
}

/// Looks an option up for writing; under the lock. An endpoint that was started has its options
/// fixed.
static int target_writable(const struct target *t, const char *name, sp_option_type type,
                           struct place *out)
{
    bool started = t->ep != NULL && t->ep->started;

    if (!target_find(t, name, out)) {
        return target_missing(t, name);
    }
    if (out->type != type && !(out->type == SP_OPTION_BOOL && type == SP_OPTION_INT)) {
        static const char *const types[] = {"an integer", "a boolean (an integer)", "a text",
                                            "bytes"};

        return sp__fail(SP_EINVAL, "option \"%s\": it is %s", name, types[out->type]);
    }
    if (out->readonly || started) {
        return sp__fail(SP_ESTATE, "option \"%s\": %s", name,
                        out->readonly ? "read only" : "the endpoint is started already");
    }
    if (out->early && t->sock->met) {
        return sp__fail(SP_ESTATE, "option \"%s\": to be set before the first peer is there", name);
    }
    return SP_OK;
}

/* ------------------------------------------------------------------ Integers */

/// Under the lock.
static int set_int(const struct target *t, const char *name, int64_t value)
{
    struct place p = {0};
    int rc = target_writable(t, name, SP_OPTION_INT, &p);

    if (rc < 0) {
        return rc;
    }
    if (p.type == SP_OPTION_BOOL) {
        p.min = 0;
        p.max = 1;
    }
    if (value < p.min || value > p.max) {
        return sp__fail(SP_EINVAL, "option \"%s\": %" PRId64 " is not in %" PRId64 "…%" PRId64,
                        name, value, p.min, p.max);
    }
    __atomic_store_n((int64_t *)p.at, value, __ATOMIC_RELAXED);
    if (p.at == &t->sock->opt.send_buffer) {
        sp__post(&t->sock->window_ev);
    }
    return SP_OK;
}

int sp_set_int(uint64_t id, const char *name, int64_t value)
{
    struct target t;
    int rc;

    if (id >> 56 == SP__KIND_MAILBOX && name != NULL) {
        return sp__mailbox_int(id, name, &value, NULL);
    }
    rc = target_enter(id, name, &t);

    if (rc != SP_OK) {
        return rc;
    }
    (void)pthread_mutex_lock(&t.sock->lock);
    rc = set_int(&t, name, value);
    (void)pthread_mutex_unlock(&t.sock->lock);
    sp__run_here(sp__option(&t.sock->opt.in_place) != 0);
    sp__leave();
    return rc;
}

static int pipe_get_int(const struct target *t, const char *name, int64_t *value)
{
    struct sp__who who = sp__pipe_who(t->pipe);

    if (strcmp(name, "peer-uid") == 0) {
        *value = sp__who_id(who.uid);
    } else if (strcmp(name, "peer-gid") == 0) {
        *value = sp__who_id(who.gid);
    } else if (strcmp(name, "peer-pid") == 0) {
        *value = who.pid;
    } else {
        return target_missing(t, name);
    }
    return *value < 0 ? sp__fail(SP_ENOTSUP, "option \"%s\": this transport does not know", name)
                      : SP_OK;
}

static int get_int(const struct target *t, const char *name, int64_t *value)
{
    struct place p = {0};

    if (t->pipe != NULL) {
        return pipe_get_int(t, name, value);
    }
    if (t->ctx != NULL && strcmp(name, "recv-next-size") == 0) {
        return sp__ctx_next_size(t->ctx, value);
    }
    if (t->ep != NULL && strcmp(name, "bound-port") == 0) {
        (void)pthread_mutex_lock(&t->sock->lock);
        *value = sp__listening(t->ep) != NULL ? sp__listening(t->ep)->bound.port : -1;
        (void)pthread_mutex_unlock(&t->sock->lock);
        return *value >= 0 ? SP_OK
                           : sp__fail(SP_ESTATE, "option \"bound-port\": not bound to a port");
    }
    if (!target_find(t, name, &p) || p.type == SP_OPTION_STR || p.type == SP_OPTION_BYTES) {
        return p.at != NULL || is_core_text(name) || is_overflow(t, name)
                   ? sp__fail(SP_EINVAL, "option \"%s\": it is no integer", name)
                   : sp__fail(SP_ENOTSUP, "option \"%s\": no such integer here", name);
    }
    *value = sp_option_load(p.at);
    return SP_OK;
}

int sp_get_int(uint64_t id, const char *name, int64_t *value)
{
    struct target t;
    int rc;

    if (id >> 56 == SP__KIND_MAILBOX && name != NULL && value != NULL) {
        return sp__mailbox_int(id, name, NULL, value);
    }
    rc = target_enter(id, name, &t);

    if (rc != SP_OK) {
        return rc;
    }
    rc = value != NULL ? get_int(&t, name, value)
                       : sp__fail(SP_EINVAL, "option \"%s\": no place for the value", name);
    sp__leave();
    return rc;
}

/* ------------------------------------------------------------------ Texts */

static int set_text(char *at, size_t max, const char *name, const char *value)
{
    if (strlen(value) >= max) {
        return sp__fail(SP_EINVAL, "option \"%s\": longer than %zu bytes", name, max - 1);
    }
    (void)memcpy(at, value, strlen(value) + 1);
    return SP_OK;
}

static int set_overflow(struct sp__sock *s, const char *value)
{
    int64_t policy = 0;
    int rc = sp__overflow_parse(value, s->ops->overflows, &policy);

    if (rc == SP_OK) {
        __atomic_store_n(&s->opt.overflow, policy, __ATOMIC_RELAXED);
    }
    return rc;
}

static int set_str(const struct target *t, const char *name, const char *value)
{
    struct place p = {0};
    int rc;

    if (t->obj->kind == SP__KIND_SOCKET && strcmp(name, "name") == 0) {
        return set_text(t->sock->name, sizeof(t->sock->name), name, value);
    }
    if (is_overflow(t, name)) {
        return set_overflow(t->sock, value);
    }
    rc = target_writable(t, name, SP_OPTION_STR, &p);
    return rc < 0 ? rc : set_text(p.at, (size_t)p.max, name, value);
}

int sp_set_str(uint64_t id, const char *name, const char *value)
{
    struct target t;
    int rc = target_enter(id, name, &t);

    if (rc != SP_OK) {
        return rc;
    }
    (void)pthread_mutex_lock(&t.sock->lock);
    rc = value != NULL ? set_str(&t, name, value)
                       : sp__fail(SP_EINVAL, "option \"%s\": no value", name);
    (void)pthread_mutex_unlock(&t.sock->lock);
    sp__leave();
    return rc;
}

/// The text of an option, copied under the lock. SP_ENOTSUP without detail: there is none.
static const char *find_text(const struct target *t, const char *name)
{
    struct place p = {0};

    if (t->pipe != NULL) {
        return strcmp(name, "remote-address") == 0  ? sp__pipe_remote(t->pipe)
               : strcmp(name, "local-address") == 0 ? t->pipe->names->text
               : strcmp(name, "url") == 0           ? t->pipe->ep->url
                                                    : NULL;
    }
    if (t->ep != NULL) {
        if (strcmp(name, "url") == 0) {
            return sp__ep_url(t->ep);
        }
        if (strcmp(name, "local-address") == 0 && sp__listening(t->ep) != NULL &&
            sp__listening(t->ep)->bound.local[0] != '\0') {
            return sp__listening(t->ep)->bound.local;
        }
    } else if (t->obj->kind == SP__KIND_SOCKET && strcmp(name, "name") == 0) {
        return t->sock->name;
    } else if (is_overflow(t, name)) {
        return sp__overflow_name((unsigned)sp__option(&t->sock->opt.overflow));
    }
    return target_find(t, name, &p) && p.type == SP_OPTION_STR ? p.at : NULL;
}

static int get_bytes(const void *value, size_t n, const char *name, void *buf, size_t *cap)
{
    size_t room = *cap;

    *cap = n;
    if (buf == NULL || room < n) {
        return sp__fail(SP_EMSGSIZE, "option \"%s\": needs %zu bytes, the buffer has %zu", name, n,
                        room);
    }
    memcpy(buf, value, n);
    return SP_OK;
}

int sp_get_str(uint64_t id, const char *name, char *buf, size_t *cap)
{
    char copy[sizeof(((sp_bound *)0)->url)] = "";
    struct place place = {0};
    const char *text;
    struct target t;
    int rc;

    if (cap == NULL) {
        return sp__fail(SP_EINVAL, "option: no place for the length");
    }
    rc = target_enter(id, name, &t);
    if (rc != SP_OK) {
        return rc;
    }
    (void)pthread_mutex_lock(&t.sock->lock);
    text = find_text(&t, name);
    if (text != NULL) {
        (void)snprintf(copy, sizeof(copy), "%s", text);
    }
    (void)pthread_mutex_unlock(&t.sock->lock);
    if (text != NULL) {
        rc = get_bytes(copy, strlen(copy) + 1, name, buf, cap);
    } else {
        rc = target_find(&t, name, &place)
                 ? sp__fail(SP_EINVAL, "option \"%s\": it is no text", name)
                 : sp__fail(SP_ENOTSUP, "option \"%s\": no such text here", name);
    }
    sp__leave();
    return rc;
}

/* ------------------------------------------------------------------ Bytes */

struct bytes_args {
    struct sp__ctx *ctx;
    const char *name;
    const void *p;
    size_t n;
};

static int set_bytes_now(struct sp__sock *s, void *arg)
{
    struct bytes_args *a = arg;
    int rc = SP_ECLOSED;

    if (s->state < SP__SOCK_ENDING && a->ctx->joined) {
        sp__slot(&s->actor, SP__SLOT_ON_OPTION);
        rc = s->ops->on_option(s->ref.state, &a->ctx->ref, a->name, a->p, a->n);
        sp__sock_settle(s);
    }
    return rc;
}

/// Whether they can be set here, and are not too many.
static int bytes_writable(const struct target *t, const char *name, const void *p, size_t n)
{
    struct place place = {0};
    int rc;

    if (p == NULL && n > 0) {
        return sp__fail(SP_EINVAL, "option \"%s\": no value", name);
    }
    rc = target_writable(t, name, SP_OPTION_BYTES, &place);
    if (rc == SP_OK && place.max > 0 && n > (uint64_t)place.max) {
        return sp__fail(SP_EINVAL, "option \"%s\": longer than %" PRId64 " bytes", name, place.max);
    }
    return rc;
}

int sp_set_bytes(uint64_t id, const char *name, const void *p, size_t n)
{
    struct bytes_args args = {NULL, name, p, n};
    struct target t;
    int rc = target_enter(id, name, &t);

    if (rc != SP_OK) {
        return rc;
    }
    (void)pthread_mutex_lock(&t.sock->lock);
    rc = bytes_writable(&t, name, p, n);
    (void)pthread_mutex_unlock(&t.sock->lock);
    if (rc == SP_OK) {
        args.ctx = t.ctx; // Bytes are options of protocols only.
        rc = sp__sock_call(t.sock, &t.sock->actor, set_bytes_now, &args);
        rc = rc < 0 ? sp__fail_code(rc, "option \"%s\"", name) : rc;
    }
    sp__leave();
    return rc;
}

int sp_get_bytes(uint64_t id, const char *name, void *buf, size_t *cap)
{
    struct target t;
    int rc = target_enter(id, name, &t);

    (void)buf;
    (void)cap;
    if (rc < 0) {
        return rc;
    }
    rc = sp__fail(SP_ENOTSUP, "option \"%s\": bytes can be set, not read", name);
    sp__leave();
    return rc;
}
