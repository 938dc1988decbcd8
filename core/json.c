/* SPDX-License-Identifier: MIT */
/// JSON by cJSON, which no other file includes. Values that were read are cJSON nodes under another
/// name; a tree that is written keeps a handle for each object and array, so that a failure reaches
/// the root. [any]
#include "json.h"

#include "platform.h"

#include <sp/types.h>

#include <cjson/cJSON.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JSON_INT_MAX 9007199254740992.0 // 2^53: above, doubles skip whole numbers

struct sp__json {
    cJSON *node;
    struct sp__json *root;
    struct sp__json *handles; ///< the root's list of all other handles, linked by it
    bool spoilt;              ///< the root's: memory ran out
};

// cJSON keeps the place of the last syntax error in a global.
static pthread_mutex_t json_parse_mutex = PTHREAD_MUTEX_INITIALIZER;

/* ------------------------------------------------------------------ UTF-8 */

/// Length of the well-formed sequence at `p` (Unicode, table 3-7); 0: there is none.
static size_t json_utf8_len(const unsigned char *p)
{
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    size_t n;

    if (p[0] < 0x80) {
        return 1;
    }
    if (p[0] < 0xC2 || p[0] > 0xF4) {
        return 0;
    }
    n = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (p[0] == 0xE0) {
        low = 0xA0;
    } else if (p[0] == 0xED) {
        high = 0x9F;
    } else if (p[0] == 0xF0) {
        low = 0x90;
    } else if (p[0] == 0xF4) {
        high = 0x8F;
    }
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if (p[i] < 0x80 || p[i] > 0xBF) {
            return 0;
        }
    }
    return n;
}

bool sp__json_text_ok(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;

    while (*p != '\0') {
        size_t n = json_utf8_len(p);

        if (n == 0 || *p < 0x20 || *p == 0x7F) {
            return false;
        }
        p += n;
    }
    return true;
}

/* ------------------------------------------------------------------ Reading */

static const cJSON *json_node(const struct sp__json_value *v)
{
    return (const cJSON *)(const void *)v;
}

static const struct sp__json_value *json_value(const cJSON *node)
{
    return (const struct sp__json_value *)(const void *)node;
}

static int json_errno(struct sp__why *why)
{
    int err = -errno;

    return sp__why_set(why, err, "%s", strerrordesc_np(-err));
}

/// Reads `fd`, a regular file of `size` bytes, to its end.
static int json_read_all(int fd, char *buf, size_t size, size_t *len, struct sp__why *why)
{
    *len = 0;
    while (*len < size) {
        ssize_t n = read(fd, buf + *len, size - *len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return json_errno(why);
        }
        if (n == 0) {
            break;
        }
        *len += (size_t)n;
    }
    return SP_OK;
}

/// The whole file in memory from sp__zalloc.
static int json_slurp(const char *path, size_t max, char **out, size_t *len, struct sp__why *why)
{
    struct stat st;
    char *buf = NULL;
    int err = SP_OK;
    // Without O_NONBLOCK a FIFO of that name would hold us for ever.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0) {
        return json_errno(why);
    }
    if (fstat(fd, &st) < 0) {
        err = json_errno(why);
    } else if (!S_ISREG(st.st_mode)) {
        err = sp__why_set(why, SP_EINVAL, "not a regular file");
    } else if ((uintmax_t)st.st_size > max) {
        err = sp__why_set(why, SP_EINVAL, "larger than %zu bytes", max);
    }
    if (err == SP_OK) {
        buf = sp__zalloc((size_t)st.st_size + 1);
        err = buf == NULL ? sp__why_set(why, SP_ENOMEM, "no memory")
                          : json_read_all(fd, buf, (size_t)st.st_size, len, why);
    }
    (void)close(fd);
    if (err < 0) {
        sp__free(buf);
        return err;
    }
    *out = buf;
    return SP_OK;
}

/// Says at which line and column (both from 1) reading stopped.
static int json_syntax_error(const char *buf, const char *at, struct sp__why *why)
{
    size_t line = 1;
    const char *start = buf;

    for (const char *p = buf; p < at; p++) {
        if (*p == '\n') {
            line++;
            start = p + 1;
        }
    }
    return sp__why_set(why, SP_EINVAL, "not JSON at line %zu, column %zu", line,
                       (size_t)(at - start) + 1);
}

int sp__json_read(const char *path, size_t max, struct sp__json_value **root, struct sp__why *why)
{
    const char *end = NULL;
    char *buf = NULL;
    size_t len = 0;
    cJSON *node;
    int err = json_slurp(path, max, &buf, &len, why);

    if (buf == NULL) {
        return err;
    }
    (void)pthread_mutex_lock(&json_parse_mutex);
    node = cJSON_ParseWithLengthOpts(buf, len, &end, 0);
    (void)pthread_mutex_unlock(&json_parse_mutex);
    if (end == NULL) {
        end = buf;
    }
    while (node != NULL && end < buf + len && strchr(" \t\r\n", *end) != NULL && *end != '\0') {
        end++;
    }
    if (node == NULL || end < buf + len) {
        err = json_syntax_error(buf, end, why);
        cJSON_Delete(node);
        node = NULL;
    }
    sp__free(buf);
    *root = (struct sp__json_value *)(void *)node;
    return err;
}

void sp__json_close(struct sp__json_value *root)
{
    cJSON_Delete((cJSON *)(void *)root);
}

enum sp__json_type sp__json_type(const struct sp__json_value *v)
{
    const cJSON *node = json_node(v);

    if (cJSON_IsBool(node)) {
        return SP__JSON_BOOL;
    }
    if (cJSON_IsNumber(node)) {
        return SP__JSON_NUMBER;
    }
    if (cJSON_IsString(node)) {
        return SP__JSON_STR;
    }
    if (cJSON_IsArray(node)) {
        return SP__JSON_ARRAY;
    }
    return cJSON_IsObject(node) ? SP__JSON_OBJECT : SP__JSON_NULL;
}

const char *sp__json_type_name(const struct sp__json_value *v)
{
    static const char *const names[] = {"null",     "a boolean", "a number",
                                        "a string", "an array",  "an object"};

    return names[sp__json_type(v)];
}

const char *sp__json_name(const struct sp__json_value *v)
{
    const cJSON *node = json_node(v);

    return node->string != NULL ? node->string : "";
}

const char *sp__json_text(const struct sp__json_value *v)
{
    return cJSON_GetStringValue(json_node(v));
}

bool sp__json_int(const struct sp__json_value *v, int64_t *out)
{
    const cJSON *node = json_node(v);

    if (cJSON_IsBool(node)) {
        *out = cJSON_IsTrue(node) ? 1 : 0;
        return true;
    }
    if (!cJSON_IsNumber(node) ||
        !(node->valuedouble >= -JSON_INT_MAX && node->valuedouble <= JSON_INT_MAX)) {
        return false;
    }
    *out = (int64_t)node->valuedouble;
    return (double)*out == node->valuedouble;
}

const struct sp__json_value *sp__json_first(const struct sp__json_value *v)
{
    return json_value(json_node(v)->child);
}

const struct sp__json_value *sp__json_next(const struct sp__json_value *v)
{
    return json_value(json_node(v)->next);
}

const struct sp__json_value *sp__json_member(const struct sp__json_value *object, const char *name)
{
    return json_value(cJSON_GetObjectItemCaseSensitive(json_node(object), name));
}

/* ------------------------------------------------------------------ Writing */

static struct sp__json *json_root(cJSON *node)
{
    struct sp__json *j = node != NULL ? sp__zalloc(sizeof(*j)) : NULL;

    if (j == NULL) {
        cJSON_Delete(node);
        return NULL;
    }
    j->node = node;
    j->root = j;
    return j;
}

/// Puts `node` (NULL: no memory) into `parent` under `name` (NULL: parent is an array). The tree
/// owns it then.
static bool json_add(struct sp__json *parent, const char *name, cJSON *node)
{
    bool added = false;

    if (parent != NULL && node != NULL) {
        added = name != NULL ? cJSON_AddItemToObject(parent->node, name, node) != 0
                             : cJSON_AddItemToArray(parent->node, node) != 0;
    }
    if (!added) {
        cJSON_Delete(node);
        if (parent != NULL) {
            parent->root->spoilt = true;
        }
    }
    return added;
}

/// The same for an object or array, with a handle for it.
static struct sp__json *json_add_node(struct sp__json *parent, const char *name, cJSON *node)
{
    struct sp__json *j;

    if (!json_add(parent, name, node)) {
        return NULL;
    }
    j = sp__zalloc(sizeof(*j));
    if (j == NULL) {
        parent->root->spoilt = true;
        return NULL;
    }
    j->node = node;
    j->root = parent->root;
    j->handles = j->root->handles;
    j->root->handles = j;
    return j;
}

/// A number with all its digits: cJSON would go through a double.
static cJSON *json_new_int(int64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRId64, value);
    return cJSON_CreateRaw(text);
}

static cJSON *json_new_str(const char *value)
{
    const unsigned char *p = (const unsigned char *)value;
    size_t used = 0;
    char *clean = sp__zalloc(3 * strlen(value) + 1);
    cJSON *node;

    if (clean == NULL) {
        return NULL;
    }
    while (*p != '\0') {
        size_t n = json_utf8_len(p);

        memcpy(clean + used, n > 0 ? (const char *)p : "\xEF\xBF\xBD", n > 0 ? n : 3);
        used += n > 0 ? n : 3;
        p += n > 0 ? n : 1;
    }
    node = cJSON_CreateString(clean);
    sp__free(clean);
    return node;
}

struct sp__json *sp__json_object(void)
{
    return json_root(cJSON_CreateObject());
}

struct sp__json *sp__json_array(void)
{
    return json_root(cJSON_CreateArray());
}

void sp__json_add_int(struct sp__json *object, const char *name, int64_t value)
{
    (void)json_add(object, name, json_new_int(value));
}

void sp__json_add_bool(struct sp__json *object, const char *name, bool value)
{
    (void)json_add(object, name, cJSON_CreateBool(value));
}

void sp__json_add_str(struct sp__json *object, const char *name, const char *value)
{
    if (value != NULL) {
        (void)json_add(object, name, json_new_str(value));
    }
}

struct sp__json *sp__json_add_object(struct sp__json *object, const char *name)
{
    return json_add_node(object, name, cJSON_CreateObject());
}

struct sp__json *sp__json_add_array(struct sp__json *object, const char *name)
{
    return json_add_node(object, name, cJSON_CreateArray());
}

struct sp__json *sp__json_array_object(struct sp__json *array)
{
    return json_add_node(array, NULL, cJSON_CreateObject());
}

void sp__json_array_int(struct sp__json *array, int64_t value)
{
    (void)json_add(array, NULL, json_new_int(value));
}

void sp__json_array_str(struct sp__json *array, const char *value)
{
    if (value != NULL) {
        (void)json_add(array, NULL, json_new_str(value));
    }
}

char *sp__json_print(const struct sp__json *root)
{
    char *text;
    char *copy;

    if (root == NULL || root->root->spoilt) {
        return NULL;
    }
    // The application may have given cJSON its own allocator; what we hand out is always from
    // malloc.
    text = cJSON_Print(root->node);
    copy = text != NULL ? strdup(text) : NULL;
    cJSON_free(text);
    return copy;
}

void sp__json_free(struct sp__json *root)
{
    if (root == NULL) {
        return;
    }
    while (root->handles != NULL) {
        struct sp__json *j = root->handles;

        root->handles = j->handles;
        sp__free(j);
    }
    cJSON_Delete(root->node);
    sp__free(root);
}
