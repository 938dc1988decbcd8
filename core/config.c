/* SPDX-License-Identifier: MIT */
/// Settings of the runtime: two tables, one of numbers and one of texts, that the setters and the
/// JSON file share. The caller owns a set of settings; not for concurrent use.
#include "config.h"

#include "error.h"
#include "json.h"
#include "platform.h"

#include <sp/sp.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_FILE_MAX ((size_t)1 << 20)
#define CONFIG_CPUS 1024 // as many as a cpu_set_t has
#define CONFIG_OWNERS_MAX 64

struct config_int {
    const char *name;
    size_t offset;
    int64_t def;
    int64_t min;
    int64_t max;
    bool boolean; ///< JSON may say true and false
};

struct config_str {
    const char *name;
    size_t offset;
    char separator; ///< between the items of a list
    int (*check)(const char *item, struct sp__why *why);
    enum sp__json_type items; ///< type of the items of a JSON array; SP__JSON_NULL: text only
};

static const struct config_int config_ints[] = {
    {"threads", offsetof(struct sp_config, threads), -1, -1, 1024, false},
    {"thread-stack", offsetof(struct sp_config, thread_stack), 0, 0, INT64_C(1) << 30, false},
    {"spin-time", offsetof(struct sp_config, spin_time), -1, -1, 1000000, false},
    {"watchdog-time", offsetof(struct sp_config, watchdog_time), 1000, 0, 3600000, false},
    {"memory-max", offsetof(struct sp_config, memory_max), 0, 0, INT64_MAX, false},
    {"log-level", offsetof(struct sp_config, log_level), SP_LOG_WARN, SP_LOG_ERROR, SP_LOG_DEBUG,
     false},
    {"seed", offsetof(struct sp_config, seed), 0, INT64_MIN, INT64_MAX, false},
    {"plugins-off", offsetof(struct sp_config, plugins_off), 0, 0, 1, true},
    {"plugin-sha256", offsetof(struct sp_config, plugin_sha256), 0, 0, 1, true},
};
#define CONFIG_INTS (sizeof(config_ints) / sizeof(config_ints[0]))
#define CONFIG_STACK_MIN 65536

/* ------------------------------------------------------------------ Checks of one list item */

/// A decimal number from 0 to `max`, without sign or blanks; NULL: none, else where it ends.
static const char *config_number(const char *text, uint64_t max, uint64_t *out)
{
    char *end;

    if (*text < '0' || *text > '9') {
        return NULL;
    }
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *out <= max ? end : NULL;
}

static int config_check_dir(const char *item, struct sp__why *why)
{
    if (item[0] != '/') {
        return sp__why_set(why, SP_EINVAL, "\"%s\" is not an absolute path", item);
    }
    return SP_OK;
}

static int config_check_allow(const char *item, struct sp__why *why)
{
    if (item[0] != '/' && strchr(item, '/') != NULL) {
        return sp__why_set(why, SP_EINVAL, "\"%s\" is neither a plugin's id nor an absolute path",
                           item);
    }
    return SP_OK;
}

static int config_check_owner(const char *item, struct sp__why *why)
{
    uint64_t uid;
    const char *end = config_number(item, UINT32_MAX - 1, &uid);

    if (end == NULL || *end != '\0') {
        return sp__why_set(why, SP_EINVAL, "\"%s\" is not a numeric user id", item);
    }
    return SP_OK;
}

/// "5" or "0-3".
static int config_check_cpus(const char *item, struct sp__why *why)
{
    uint64_t first = 0;
    uint64_t last;
    const char *end = config_number(item, CONFIG_CPUS - 1, &first);

    last = first;
    if (end != NULL && *end == '-') {
        end = config_number(end + 1, CONFIG_CPUS - 1, &last);
    }
    if (end == NULL || *end != '\0' || last < first) {
        return sp__why_set(why, SP_EINVAL, "\"%s\" is not a CPU (0 to %d) or a range of them", item,
                           CONFIG_CPUS - 1);
    }
    return SP_OK;
}

static const struct config_str config_strs[] = {
    {"plugin-dirs", offsetof(struct sp_config, plugin_dirs), ':', config_check_dir, SP__JSON_STR},
    {"plugin-allow", offsetof(struct sp_config, plugin_allow), ':', config_check_allow,
     SP__JSON_STR},
    {"plugin-owners", offsetof(struct sp_config, plugin_owners), ',', config_check_owner,
     SP__JSON_NUMBER},
    {"affinity", offsetof(struct sp_config, affinity), ',', config_check_cpus, SP__JSON_NULL},
};
#define CONFIG_STRS (sizeof(config_strs) / sizeof(config_strs[0]))

/* ------------------------------------------------------------------ Fields */

static int64_t *config_int_field(struct sp_config *cfg, const struct config_int *c)
{
    return (int64_t *)(void *)((char *)cfg + c->offset);
}

static char **config_str_field(struct sp_config *cfg, const struct config_str *c)
{
    return (char **)(void *)((char *)cfg + c->offset);
}

static const struct config_int *config_find_int(const char *name)
{
    for (size_t i = 0; i < CONFIG_INTS; i++) {
        if (strcmp(config_ints[i].name, name) == 0) {
            return &config_ints[i];
        }
    }
    return NULL;
}

static const struct config_str *config_find_str(const char *name)
{
    for (size_t i = 0; i < CONFIG_STRS; i++) {
        if (strcmp(config_strs[i].name, name) == 0) {
            return &config_strs[i];
        }
    }
    return NULL;
}

static int config_put_int(struct sp_config *cfg, const struct config_int *c, int64_t value,
                          struct sp__why *why)
{
    if (value < c->min || value > c->max) {
        return sp__why_set(why, SP_EINVAL,
                           "%" PRId64 " is out of range (%" PRId64 " to %" PRId64 ")", value,
                           c->min, c->max);
    }
    if (c->offset == offsetof(struct sp_config, thread_stack) && value > 0 &&
        value < CONFIG_STACK_MIN) {
        return sp__why_set(why, SP_EINVAL, "%" PRId64 " is out of range (0, or at least %d)", value,
                           CONFIG_STACK_MIN);
    }
    *config_int_field(cfg, c) = value;
    return SP_OK;
}

/// Checks each item of the list `text`, which is cut up.
static int config_check_items(const struct config_str *c, char *text, struct sp__why *why)
{
    const char separators[2] = {c->separator, '\0'};
    size_t count = 0;

    for (char *item = text; item != NULL;) {
        char *next = item + strcspn(item, separators);
        int err;

        next = *next != '\0' ? next : NULL;
        if (next != NULL) {
            *next++ = '\0';
        }
        err = item[0] == '\0' ? sp__why_set(why, SP_EINVAL, "an item of the list is empty")
                              : c->check(item, why);
        if (err < 0) {
            return err;
        }
        item = next;
        count++;
    }
    if (c->offset == offsetof(struct sp_config, plugin_owners) && count > CONFIG_OWNERS_MAX) {
        return sp__why_set(why, SP_EINVAL, "more than %d user ids", CONFIG_OWNERS_MAX);
    }
    return SP_OK;
}

/// "" takes the setting away.
static int config_put_str(struct sp_config *cfg, const struct config_str *c, const char *value,
                          struct sp__why *why)
{
    char **field = config_str_field(cfg, c);
    char *scratch;
    char *copy;
    int err;

    // An empty allow-list would read as "everything", which is the opposite of what it says.
    if (value[0] == '\0' && c->offset == offsetof(struct sp_config, plugin_allow)) {
        return sp__why_set(why, SP_EINVAL,
                           "an empty list allows nothing: say \"plugins-off\" instead");
    }
    if (value[0] == '\0') {
        sp__free(*field);
        *field = NULL;
        return SP_OK;
    }
    scratch = sp__strdup(value);
    copy = sp__strdup(value);
    err = scratch == NULL || copy == NULL ? sp__why_set(why, SP_ENOMEM, "no memory")
                                          : config_check_items(c, scratch, why);
    sp__free(scratch);
    if (err < 0) {
        sp__free(copy);
        return err;
    }
    sp__free(*field);
    *field = copy;
    return SP_OK;
}

/* ------------------------------------------------------------------ The JSON file */

/// Text of one item of an array, written to `buf`.
static int config_item_text(const struct config_str *c, const struct sp__json_value *item,
                            char *buf, size_t cap, struct sp__why *why)
{
    const char *text = sp__json_text(item);
    int64_t number;

    if (sp__json_type(item) != c->items) {
        return sp__why_set(why, SP_EINVAL, "an item of the array is %s", sp__json_type_name(item));
    }
    if (text == NULL && !sp__json_int(item, &number)) {
        return sp__why_set(why, SP_EINVAL, "an item of the array is not a whole number");
    }
    if (text == NULL) {
        (void)snprintf(buf, cap, "%" PRId64, number);
        return SP_OK;
    }
    if (strchr(text, c->separator) != NULL) {
        return sp__why_set(why, SP_EINVAL, "\"%s\" contains '%c'", text, c->separator);
    }
    if (snprintf(buf, cap, "%s", text) >= (int)cap) {
        return sp__why_set(why, SP_EINVAL, "an item of the array is too long");
    }
    return SP_OK;
}

/// Joins an array to the text form. The caller frees `*out` with sp__free.
static int config_join(const struct config_str *c, const struct sp__json_value *array, char **out,
                       struct sp__why *why)
{
    char buf[4096];
    size_t need = 1;
    size_t used = 0;
    char *text;

    for (const struct sp__json_value *item = sp__json_first(array); item != NULL;
         item = sp__json_next(item)) {
        int err = config_item_text(c, item, buf, sizeof(buf), why);

        if (err < 0) {
            return err;
        }
        need += strlen(buf) + 1;
    }
    text = sp__zalloc(need);
    if (text == NULL) {
        return sp__why_set(why, SP_ENOMEM, "no memory");
    }
    for (const struct sp__json_value *item = sp__json_first(array); item != NULL;
         item = sp__json_next(item)) {
        (void)config_item_text(c, item, buf, sizeof(buf), why);
        if (item != sp__json_first(array)) {
            text[used++] = c->separator;
        }
        memcpy(text + used, buf, strlen(buf));
        used += strlen(buf);
    }
    *out = text;
    return SP_OK;
}

static int config_member_int(struct sp_config *cfg, const struct config_int *c,
                             const struct sp__json_value *v, struct sp__why *why)
{
    enum sp__json_type type = sp__json_type(v);
    int64_t value;

    if (type != SP__JSON_NUMBER && !(type == SP__JSON_BOOL && c->boolean)) {
        return sp__why_set(why, SP_EINVAL, "is %s, but must be a number", sp__json_type_name(v));
    }
    if (!sp__json_int(v, &value)) {
        return sp__why_set(why, SP_EINVAL, "is not a whole number of at most 2^53");
    }
    return config_put_int(cfg, c, value, why);
}

static int config_member_str(struct sp_config *cfg, const struct config_str *c,
                             const struct sp__json_value *v, struct sp__why *why)
{
    char *text = NULL;
    int err;

    if (sp__json_type(v) == SP__JSON_STR) {
        return config_put_str(cfg, c, sp__json_text(v), why);
    }
    if (c->items == SP__JSON_NULL || sp__json_type(v) != SP__JSON_ARRAY) {
        return sp__why_set(why, SP_EINVAL, "is %s, but must be a string%s", sp__json_type_name(v),
                           c->items != SP__JSON_NULL ? " or an array" : "");
    }
    err = config_join(c, v, &text, why);
    if (err < 0) {
        return err;
    }
    err = config_put_str(cfg, c, text, why);
    sp__free(text);
    return err;
}

static int config_member(struct sp_config *cfg, const struct sp__json_value *root,
                         const struct sp__json_value *v, struct sp__why *why)
{
    const char *name = sp__json_name(v);
    const struct config_int *number = config_find_int(name);
    const struct config_str *text = config_find_str(name);

    if (sp__json_member(root, name) != v) {
        return sp__why_set(why, SP_EINVAL, "is there twice");
    }
    if (number != NULL) {
        return config_member_int(cfg, number, v, why);
    }
    if (text != NULL) {
        return config_member_str(cfg, text, v, why);
    }
    return sp__why_set(why, SP_EINVAL, "no such setting");
}

static int config_apply(struct sp_config *cfg, const char *path, const struct sp__json_value *root)
{
    struct sp__why why;

    if (sp__json_type(root) != SP__JSON_OBJECT) {
        return sp__fail(SP_EINVAL, "%s: is %s, but must be an object", path,
                        sp__json_type_name(root));
    }
    for (const struct sp__json_value *v = sp__json_first(root); v != NULL; v = sp__json_next(v)) {
        int err = config_member(cfg, root, v, &why);

        if (err < 0) {
            return sp__fail(err, "%s: member \"%s\": %s", path, sp__json_name(v), why.text);
        }
    }
    return SP_OK;
}

/* ------------------------------------------------------------------ For the core */

void sp__config_defaults(struct sp_config *out)
{
    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < CONFIG_INTS; i++) {
        *config_int_field(out, &config_ints[i]) = config_ints[i].def;
    }
}

int sp__config_copy(struct sp_config *out, const struct sp_config *in)
{
    struct sp_config from = *in;

    *out = from;
    for (size_t i = 0; i < CONFIG_STRS; i++) {
        *config_str_field(out, &config_strs[i]) = NULL;
    }
    for (size_t i = 0; i < CONFIG_STRS; i++) {
        const char *text = *config_str_field(&from, &config_strs[i]);
        char *copy = text != NULL ? sp__strdup(text) : NULL;

        if (text != NULL && copy == NULL) {
            sp__config_clear(out);
            return SP_ENOMEM;
        }
        *config_str_field(out, &config_strs[i]) = copy;
    }
    return SP_OK;
}

void sp__config_clear(struct sp_config *cfg)
{
    for (size_t i = 0; i < CONFIG_STRS; i++) {
        char **field = config_str_field(cfg, &config_strs[i]);

        sp__free(*field);
        *field = NULL;
    }
}

/* ------------------------------------------------------------------ The API */

int sp_config_new(sp_config **cfg)
{
    sp_config *c;

    if (cfg == NULL) {
        return sp__fail(SP_EINVAL, "config: no place for the result");
    }
    c = sp__zalloc(sizeof(*c));
    if (c == NULL) {
        return sp__fail_code(SP_ENOMEM, "config");
    }
    sp__config_defaults(c);
    *cfg = c;
    return SP_OK;
}

int sp_config_load(sp_config **cfg, const char *json_path)
{
    struct sp__json_value *root;
    struct sp__why why;
    sp_config *c = NULL;
    int err;

    if (cfg == NULL || json_path == NULL) {
        return sp__fail(SP_EINVAL, "config: no file or no place for the result");
    }
    err = sp__json_read(json_path, CONFIG_FILE_MAX, &root, &why);
    if (err < 0) {
        return sp__fail(err, "%s: %s", json_path, why.text);
    }
    err = sp_config_new(&c);
    if (c != NULL) {
        err = config_apply(c, json_path, root);
        if (err < 0) {
            sp_config_free(c);
        } else {
            *cfg = c;
        }
    }
    sp__json_close(root);
    return err;
}

int sp_config_set_int(sp_config *cfg, const char *name, int64_t value)
{
    const struct config_int *c = name != NULL ? config_find_int(name) : NULL;
    struct sp__why why;
    int err;

    if (cfg == NULL || name == NULL) {
        return sp__fail(SP_EINVAL, "config: no settings or no name");
    }
    if (c == NULL) {
        return sp__fail(SP_EINVAL, "config: \"%s\": %s", name,
                        config_find_str(name) != NULL ? "is a text" : "no such setting");
    }
    err = config_put_int(cfg, c, value, &why);
    return err < 0 ? sp__fail(err, "config: \"%s\": %s", name, why.text) : SP_OK;
}

int sp_config_set_str(sp_config *cfg, const char *name, const char *value)
{
    const struct config_str *c = name != NULL ? config_find_str(name) : NULL;
    struct sp__why why;
    int err;

    if (cfg == NULL || name == NULL || value == NULL) {
        return sp__fail(SP_EINVAL, "config: no settings, no name or no text");
    }
    if (c == NULL) {
        return sp__fail(SP_EINVAL, "config: \"%s\": %s", name,
                        config_find_int(name) != NULL ? "is a number" : "no such setting");
    }
    err = config_put_str(cfg, c, value, &why);
    return err < 0 ? sp__fail(err, "config: \"%s\": %s", name, why.text) : SP_OK;
}

void sp_config_free(sp_config *cfg)
{
    if (cfg != NULL) {
        sp__config_clear(cfg);
        sp__free(cfg);
    }
}
