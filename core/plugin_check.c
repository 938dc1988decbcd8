/* SPDX-License-Identifier: MIT */
/// Descriptor checks, from the outside in: nothing is read before the size that covers it was seen.
/// Pure. [any]
#include "plugin_check.h"

#include "json.h"
#include "manifest.h"
#include "overflow.h"
#include "socket.h"

#include <inttypes.h>
#include <string.h>

/// Bytes of a struct up to and with `field`: the last one of ABI 1.0.
#define CHECK_SIZE(type, field) (offsetof(type, field) + sizeof(((type *)0)->field))

#define CHECK_PLUGIN_1_0 CHECK_SIZE(sp_plugin, unload)
#define CHECK_EXPORT_1_0 CHECK_SIZE(sp_export, ops)
#define CHECK_OPTION_1_0 CHECK_SIZE(sp_option, doc)
#define CHECK_COUNTER_1_0 CHECK_SIZE(sp_counter, doc)
#define CHECK_PROTOCOL_1_0 (offsetof(sp_protocol_ops, raw) + sizeof(void *))
#define CHECK_TRANSPORT_1_0 CHECK_SIZE(sp_transport_ops, pipe_fini)

#define CHECK_EXPORTS_MAX 256
#define CHECK_OPTIONS_MAX 256
#define CHECK_IDS_MAX 64
#define CHECK_NAME_MAX 64
#define CHECK_TEXT_MAX 1024
#define CHECK_STATE_MAX ((size_t)16 << 20)

/// What an export or table is called in messages, and where its options may lie.
struct check_owner {
    const char *kind;
    const char *name;
    const char *raw; ///< "" or " (raw)"
    size_t main_size;
    size_t ctx_size;
    bool protocol;
    bool on_option;
};

const sp_export *sp__export_at(const sp_plugin *desc, size_t i)
{
    return (const sp_export *)(const void *)((const char *)desc->exports + i * desc->export_size);
}

const sp_option *sp__option_at(const sp_option *options, size_t option_size, size_t i)
{
    return (const sp_option *)(const void *)((const char *)options + i * option_size);
}

const sp_counter *sp__counter_at(const sp_transport_ops *ops, size_t i)
{
    return (const sp_counter *)(const void *)((const char *)ops->counters + i * ops->counter_size);
}

const sp_export *sp__export_find(const sp_plugin *desc, sp_kind kind, const char *name)
{
    for (size_t i = 0; i < desc->export_count; i++) {
        const sp_export *e = sp__export_at(desc, i);

        if (e->kind == kind && strcmp(e->name, name) == 0) {
            return e;
        }
    }
    return NULL;
}

/* ------------------------------------------------------------------ Texts */

static bool check_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool check_alnum(char c)
{
    return check_lower(c) || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// NULL when the text is fit to be shown, else what is wrong with it.
static const char *check_text(const char *s)
{
    if (s == NULL) {
        return "is missing";
    }
    if (s[0] == '\0') {
        return "is empty";
    }
    if (strnlen(s, CHECK_TEXT_MAX + 1) > CHECK_TEXT_MAX) {
        return "is too long";
    }
    return sp__json_text_ok(s) ? NULL : "is not UTF-8 text";
}

/// A lower case letter, then lower case letters, digits and `more`.
static bool check_name(const char *s, const char *more)
{
    size_t n = 0;

    if (check_text(s) != NULL || !check_lower(s[0])) {
        return false;
    }
    for (; s[n] != '\0'; n++) {
        if (!check_lower(s[n]) && !(s[n] >= '0' && s[n] <= '9') && strchr(more, s[n]) == NULL) {
            return false;
        }
    }
    return n <= CHECK_NAME_MAX;
}

/// Reverse DNS: two or more labels of letters, digits, "-" and "_", which begin and end with a
/// letter or digit.
static bool check_id(const char *s)
{
    size_t labels = 0;

    for (;;) {
        size_t n = strcspn(s, ".");

        if (n == 0 || n > 63 || !check_alnum(s[0]) || !check_alnum(s[n - 1])) {
            return false;
        }
        for (size_t i = 0; i < n; i++) {
            if (!check_alnum(s[i]) && s[i] != '-' && s[i] != '_') {
                return false;
            }
        }
        labels++;
        if (s[n] == '\0') {
            return labels >= 2;
        }
        s += n + 1;
    }
}

static int check_field(const char *field, const char *text, struct sp__why *why)
{
    const char *wrong = check_text(text);

    return wrong == NULL ? SP_OK
                         : sp__why_set(why, SP_EABI, "bad descriptor field %s: %s", field, wrong);
}

static int check_texts(const sp_plugin *desc, struct sp__why *why)
{
    int err = check_field("id", desc->id, why);

    if (err == SP_OK && !check_id(desc->id)) {
        err = sp__why_set(why, SP_EABI, "bad descriptor field id: \"%s\" is not a reverse DNS name",
                          desc->id);
    }
    if (err == SP_OK) {
        err = check_field("version", desc->version, why);
    }
    if (err == SP_OK) {
        err = check_field("vendor", desc->vendor, why);
    }
    if (err == SP_OK) {
        err = check_field("licence", desc->licence, why);
    }
    return err < 0 ? err : check_field("description", desc->description, why);
}

/* ------------------------------------------------------------------ Options */

__attribute__((format(printf, 3, 4))) static int
check_bad(const struct check_owner *o, struct sp__why *why, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return sp__why_set(why, SP_EABI, "%s \"%s\"%s: %s", o->kind, o->name, o->raw, text);
}

/// Where the value lies: `need` bytes in the state that the option belongs to.
static int check_option_place(const struct check_owner *o, const sp_option *opt, size_t need,
                              struct sp__why *why)
{
    bool ctx = (opt->flags & SP_OPTION_CTX) != 0;
    size_t room = ctx ? o->ctx_size : o->main_size;

    if (opt->offset > room || need > room - opt->offset) {
        return check_bad(o, why, "option \"%s\": offset %zu is outside the state of %zu bytes",
                         opt->name, opt->offset, room);
    }
    if (opt->type != SP_OPTION_STR && opt->offset % sizeof(int64_t) != 0) {
        return check_bad(o, why, "option \"%s\": offset %zu is not aligned", opt->name,
                         opt->offset);
    }
    return SP_OK;
}

static int check_option_value(const struct check_owner *o, const sp_option *opt,
                              struct sp__why *why)
{
    switch (opt->type) {
    case SP_OPTION_INT:
        if (opt->min > opt->max || opt->def < opt->min || opt->def > opt->max) {
            return check_bad(
                o, why, "option \"%s\": default %" PRId64 " is not within %" PRId64 " to %" PRId64,
                opt->name, opt->def, opt->min, opt->max);
        }
        return check_option_place(o, opt, sizeof(int64_t), why);
    case SP_OPTION_BOOL:
        if (opt->def != 0 && opt->def != 1) {
            return check_bad(o, why, "option \"%s\": default %" PRId64 " is not 0 or 1", opt->name,
                             opt->def);
        }
        return check_option_place(o, opt, sizeof(int64_t), why);
    case SP_OPTION_STR:
        if (o->protocol) {
            return check_bad(o, why, "option \"%s\": only endpoints have text options", opt->name);
        }
        if (opt->max < 1 || (uint64_t)opt->max > CHECK_STATE_MAX) {
            return check_bad(o, why, "option \"%s\": bad size %" PRId64, opt->name, opt->max);
        }
        return check_option_place(o, opt, (size_t)opt->max, why);
    case SP_OPTION_BYTES:
        return o->on_option ? SP_OK
                            : check_bad(o, why, "option \"%s\": missing op on_option", opt->name);
    }
    return check_bad(o, why, "option \"%s\": unknown type %d", opt->name, (int)opt->type);
}

static int check_option(const struct check_owner *o, const sp_option *opt, struct sp__why *why)
{
    if (!check_name(opt->name, "-:._")) {
        return check_bad(o, why, "bad option name \"%s\"",
                         check_text(opt->name) == NULL ? opt->name : "");
    }
    if (opt->unit == NULL || !sp__json_text_ok(opt->unit)) {
        return check_bad(o, why, "option \"%s\": bad unit", opt->name);
    }
    if (check_text(opt->doc) != NULL) {
        return check_bad(o, why, "option \"%s\": doc %s", opt->name, check_text(opt->doc));
    }
    if ((opt->flags & SP_OPTION_CTX) != 0 && !o->protocol) {
        return check_bad(o, why, "option \"%s\": an endpoint has no contexts", opt->name);
    }
    return check_option_value(o, opt, why);
}

static int check_options(const struct check_owner *o, const sp_option *options, size_t count,
                         size_t size, struct sp__why *why)
{
    if (count == 0) {
        return SP_OK;
    }
    if (options == NULL || count > CHECK_OPTIONS_MAX) {
        return check_bad(o, why, "bad option table of %zu", count);
    }
    if (size < CHECK_OPTION_1_0 || size % _Alignof(sp_option) != 0) {
        return check_bad(o, why, "truncated option: %zu bytes, 1.0 has %zu", size,
                         CHECK_OPTION_1_0);
    }
    for (size_t i = 0; i < count; i++) {
        const sp_option *opt = sp__option_at(options, size, i);
        int err = check_option(o, opt, why);

        for (size_t k = 0; err == SP_OK && k < i; k++) {
            if (strcmp(sp__option_at(options, size, k)->name, opt->name) == 0) {
                err = check_bad(o, why, "option \"%s\" is there twice", opt->name);
            }
        }
        if (err < 0) {
            return err;
        }
    }
    return SP_OK;
}

/* ------------------------------------------------------------------ Tables */

/// The option "overflow": its default is one of what it may be.
static int check_overflow(const struct check_owner *o, const sp_protocol_ops *ops,
                          struct sp__why *why)
{
    if (!SP__HAS(ops, sp_protocol_ops, overflows)) {
        return SP_OK;
    }
    if ((unsigned)ops->overflow >= SP__OVERFLOWS || ops->overflows >> SP__OVERFLOWS != 0) {
        return check_bad(o, why, "unknown overflow %d of 0x%x", (int)ops->overflow,
                         (unsigned)ops->overflows);
    }
    if (ops->overflows != 0 && (ops->overflows & SP_OVERFLOW_BIT(ops->overflow)) == 0) {
        return check_bad(o, why, "overflow \"%s\" is not one of its overflows",
                         sp__overflow_name(ops->overflow));
    }
    return SP_OK;
}

static int check_protocol(const sp_protocol_ops *ops, const char *name, bool raw,
                          struct sp__why *why)
{
    struct check_owner o = {
        .kind = "protocol", .name = name, .raw = raw ? " (raw)" : "", .protocol = true};

    if (ops == NULL) {
        return check_bad(&o, why, "missing ops");
    }
    if (ops->size < CHECK_PROTOCOL_1_0) {
        return check_bad(&o, why, "truncated ops: %zu bytes, 1.0 has %zu", ops->size,
                         CHECK_PROTOCOL_1_0);
    }
    if (ops->ids == NULL || ops->id_count == 0 || ops->id_count > CHECK_IDS_MAX) {
        return check_bad(&o, why, "bad ids: %zu pairs",
                         ops->ids == NULL ? (size_t)0 : ops->id_count);
    }
    if ((ops->flags & SP_PROTO_NO_SEND) != 0 && (ops->flags & SP_PROTO_NO_RECV) != 0) {
        return check_bad(&o, why, "bad flags: it neither sends nor receives");
    }
    if ((unsigned)ops->window > SP_WINDOW_OPEN) {
        return check_bad(&o, why, "unknown window %d", (int)ops->window);
    }
    if (ops->sock_size > CHECK_STATE_MAX || ops->ctx_size > CHECK_STATE_MAX ||
        ops->pipe_size > CHECK_STATE_MAX) {
        return check_bad(&o, why, "state larger than %zu bytes", CHECK_STATE_MAX);
    }
    if (ops->on_send == NULL && (ops->flags & SP_PROTO_NO_SEND) == 0) {
        return check_bad(&o, why, "missing op on_send");
    }
    if (ops->on_recv == NULL && (ops->flags & SP_PROTO_NO_RECV) == 0) {
        return check_bad(&o, why, "missing op on_recv");
    }
    if (check_overflow(&o, ops, why) < 0) {
        return SP_EABI;
    }
    o.main_size = ops->sock_size;
    o.ctx_size = ops->ctx_size;
    o.on_option = ops->on_option != NULL;
    return check_options(&o, ops->options, ops->option_count, ops->option_size, why);
}

/// The name of the first mandatory slot that is empty, or NULL.
static const char *check_transport_slots(const sp_transport_ops *ops)
{
    const struct {
        bool there;
        const char *name;
    } slots[] = {
        {ops->ep_init != NULL, "ep_init"},       {ops->listen != NULL, "listen"},
        {ops->accept != NULL, "accept"},         {ops->dial != NULL, "dial"},
        {ops->ep_close != NULL, "ep_close"},     {ops->handshake != NULL, "handshake"},
        {ops->harvest != NULL, "harvest"},       {ops->submit != NULL, "submit"},
        {ops->pipe_close != NULL, "pipe_close"}, {ops->pipe_fini != NULL, "pipe_fini"},
    };

    for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
        if (!slots[i].there) {
            return slots[i].name;
        }
    }
    return NULL;
}

static bool check_counter_taken(const sp_transport_ops *ops, size_t n)
{
    const char *name = sp__counter_at(ops, n)->name;

    for (unsigned i = 0; i < SP__EP_COUNTERS; i++) {
        if (strcmp(sp__ep_counter_name(i), name) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(sp__counter_at(ops, i)->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int check_counters(const struct check_owner *o, const sp_transport_ops *ops,
                          struct sp__why *why)
{
    if (!SP__HAS(ops, sp_transport_ops, counter_size) || ops->counter_count == 0) {
        return SP_OK;
    }
    if (ops->counters == NULL || ops->counter_count > CHECK_OPTIONS_MAX ||
        ops->counter_size < CHECK_COUNTER_1_0 || ops->counter_size % _Alignof(sp_counter) != 0) {
        return check_bad(o, why, "bad counter table of %zu of %zu bytes", ops->counter_count,
                         ops->counter_size);
    }
    for (size_t i = 0; i < ops->counter_count; i++) {
        const sp_counter *c = sp__counter_at(ops, i);

        if (!check_name(c->name, "_")) {
            return check_bad(o, why, "bad counter name \"%s\"",
                             check_text(c->name) == NULL ? c->name : "");
        }
        if (check_counter_taken(ops, i)) {
            return check_bad(o, why, "counter \"%s\" is there twice, or the core's", c->name);
        }
        if (check_text(c->doc) != NULL) {
            return check_bad(o, why, "counter \"%s\": doc %s", c->name, check_text(c->doc));
        }
        if (c->offset % sizeof(uint64_t) != 0 || o->main_size < sizeof(uint64_t) ||
            c->offset > o->main_size - sizeof(uint64_t)) {
            return check_bad(o, why, "counter \"%s\": offset %zu is outside or not aligned",
                             c->name, c->offset);
        }
    }
    return SP_OK;
}

static int check_transport(const sp_transport_ops *ops, const char *scheme, struct sp__why *why)
{
    struct check_owner o = {.kind = "transport", .name = scheme, .raw = ""};
    const char *slot;

    if (ops == NULL) {
        return check_bad(&o, why, "missing ops");
    }
    if (ops->size < CHECK_TRANSPORT_1_0) {
        return check_bad(&o, why, "truncated ops: %zu bytes, 1.0 has %zu", ops->size,
                         CHECK_TRANSPORT_1_0);
    }
    slot = check_transport_slots(ops);
    if (slot != NULL) {
        return check_bad(&o, why, "missing op %s", slot);
    }
    if (ops->ep_size > CHECK_STATE_MAX || ops->pipe_size > CHECK_STATE_MAX) {
        return check_bad(&o, why, "state larger than %zu bytes", CHECK_STATE_MAX);
    }
    if (check_text(ops->url_form) != NULL) {
        return check_bad(&o, why, "url_form %s", check_text(ops->url_form));
    }
    o.main_size = ops->ep_size;
    if (check_counters(&o, ops, why) < 0) {
        return SP_EABI;
    }
    return check_options(&o, ops->options, ops->option_count, ops->option_size, why);
}

static int check_export(const sp_export *e, struct sp__why *why)
{
    int err;

    if (!check_name(e->name, "-+.")) {
        return sp__why_set(
            why, SP_EABI,
            "bad export name \"%s\": lower case letters, digits, \"-\", \"+\" and \".\" only",
            check_text(e->name) == NULL ? e->name : "");
    }
    switch (e->kind) {
    case SP_KIND_PROTOCOL:
        err = check_protocol(e->ops.protocol, e->name, false, why);
        if (err == SP_OK && e->ops.protocol->raw != NULL) {
            err = check_protocol(e->ops.protocol->raw, e->name, true, why);
        }
        return err;
    case SP_KIND_TRANSPORT:
        return check_transport(e->ops.transport, e->name, why);
    case SP_KIND_ACTOR:
        return e->ops.actor != NULL
                   ? SP_OK
                   : sp__why_set(why, SP_EABI, "actor \"%s\": missing ops", e->name);
    }
    return sp__why_set(why, SP_EABI, "export \"%s\": unknown kind %d", e->name, (int)e->kind);
}

static int check_exports(const sp_plugin *desc, struct sp__why *why)
{
    if (desc->exports == NULL || desc->export_count == 0 ||
        desc->export_count > CHECK_EXPORTS_MAX) {
        return sp__why_set(why, SP_EABI, "bad descriptor field export_count: %zu exports",
                           desc->exports == NULL ? (size_t)0 : desc->export_count);
    }
    if (desc->export_size < CHECK_EXPORT_1_0 || desc->export_size % _Alignof(sp_export) != 0) {
        return sp__why_set(why, SP_EABI, "truncated export: %zu bytes, 1.0 has %zu",
                           desc->export_size, CHECK_EXPORT_1_0);
    }
    for (size_t i = 0; i < desc->export_count; i++) {
        const sp_export *e = sp__export_at(desc, i);
        int err = check_export(e, why);

        for (size_t k = 0; err == SP_OK && k < i; k++) {
            const sp_export *other = sp__export_at(desc, k);

            if (other->kind == e->kind && strcmp(other->name, e->name) == 0) {
                err = sp__why_set(why, SP_EABI, "duplicate name: exports %s \"%s\" twice",
                                  sp__kind_name(e->kind), e->name);
            }
        }
        if (err < 0) {
            return err;
        }
    }
    return SP_OK;
}

/* ------------------------------------------------------------------ The descriptor */

int sp__check_plugin(const sp_plugin *desc, struct sp__why *why)
{
    int err;

    if (desc == NULL) {
        return sp__why_set(why, SP_EABI, "the entry gave no descriptor");
    }
    // The versions come first: another major may have laid out the rest differently.
    if (desc->size < CHECK_SIZE(sp_plugin, abi_minor_needed)) {
        return sp__why_set(why, SP_EABI, "truncated descriptor: %zu bytes, 1.0 has %zu", desc->size,
                           CHECK_PLUGIN_1_0);
    }
    if (desc->abi_major != SP_ABI_MAJOR) {
        return sp__why_set(why, SP_EABI, "other ABI major: plugin has %u, library has %d",
                           desc->abi_major, SP_ABI_MAJOR);
    }
    if (desc->abi_minor_needed > SP_ABI_MINOR) {
        return sp__why_set(why, SP_EABI, "needs a newer core: has %d.%d, needs %d.%u", SP_ABI_MAJOR,
                           SP_ABI_MINOR, SP_ABI_MAJOR, desc->abi_minor_needed);
    }
    if (desc->size < CHECK_PLUGIN_1_0) {
        return sp__why_set(why, SP_EABI, "truncated descriptor: %zu bytes, 1.0 has %zu", desc->size,
                           CHECK_PLUGIN_1_0);
    }
    if (desc->abi_minor_needed > desc->abi_minor_built) {
        return sp__why_set(why, SP_EABI,
                           "bad descriptor field abi_minor_needed: %u is above abi_minor_built %u",
                           desc->abi_minor_needed, desc->abi_minor_built);
    }
    err = check_texts(desc, why);
    return err < 0 ? err : check_exports(desc, why);
}
