/* SPDX-License-Identifier: MIT */
/// JSON for the configuration file, manifests, the plugin list and statistics. The only module that
/// knows the JSON library. [any]; a tree belongs to one thread at a time.
#ifndef SP_CORE_JSON_H
#define SP_CORE_JSON_H

#include "why.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// True when `s` is valid UTF-8 (shortest form, no surrogates) without control characters.
bool sp__json_text_ok(const char *s);

/* ------------------------------------------------------------------ Reading */

/// A value that was read: lives as long as the root that sp__json_read gave.
struct sp__json_value;

enum sp__json_type {
    SP__JSON_NULL,
    SP__JSON_BOOL,
    SP__JSON_NUMBER,
    SP__JSON_STR,
    SP__JSON_ARRAY,
    SP__JSON_OBJECT
};

/// Reads a regular file of at most `max` bytes. Fails with `why` (without the file's name): an
/// errno code, SP_EINVAL (not JSON: line and column), SP_ENOMEM. The caller frees `*root` with
/// sp__json_close.
int sp__json_read(const char *path, size_t max, struct sp__json_value **root, struct sp__why *why);
void sp__json_close(struct sp__json_value *root);

enum sp__json_type sp__json_type(const struct sp__json_value *v);
/// "a string", "a number" …, for messages.
const char *sp__json_type_name(const struct sp__json_value *v);

/// The name of a member; "" for anything else. The text of a string; NULL for anything else.
const char *sp__json_name(const struct sp__json_value *v);
const char *sp__json_text(const struct sp__json_value *v);
/// True for a whole number that JSON carries exactly (up to ±2^53), and for a boolean (0, 1).
bool sp__json_int(const struct sp__json_value *v, int64_t *out);

/// The first member or item of `v`, the one after `v`, the member with a name; NULL: none.
const struct sp__json_value *sp__json_first(const struct sp__json_value *v);
const struct sp__json_value *sp__json_next(const struct sp__json_value *v);
const struct sp__json_value *sp__json_member(const struct sp__json_value *object, const char *name);

/* ------------------------------------------------------------------ Writing */

/// A tree under construction, or an object or array in it. Every adder takes NULL for the place to
/// add to; when memory runs out the whole tree is spoilt and sp__json_print gives NULL, so that no
/// adder needs to be checked.
struct sp__json;

/// A new tree; the caller frees it with sp__json_free (which frees everything in it). NULL: no
/// memory.
struct sp__json *sp__json_object(void);
struct sp__json *sp__json_array(void);

void sp__json_add_int(struct sp__json *object, const char *name, int64_t value);
void sp__json_add_bool(struct sp__json *object, const char *name, bool value);
/// `value` NULL adds nothing. Bytes that are not UTF-8 are replaced.
void sp__json_add_str(struct sp__json *object, const char *name, const char *value);
struct sp__json *sp__json_add_object(struct sp__json *object, const char *name);
struct sp__json *sp__json_add_array(struct sp__json *object, const char *name);

/// Appends to an array.
struct sp__json *sp__json_array_object(struct sp__json *array);
void sp__json_array_int(struct sp__json *array, int64_t value);
void sp__json_array_str(struct sp__json *array, const char *value);

/// The tree as text, to be freed with free (sp_free). NULL: no memory, now or while it was built.
char *sp__json_print(const struct sp__json *root);
/// Frees a tree by its root. NULL is allowed.
void sp__json_free(struct sp__json *root);

#endif
