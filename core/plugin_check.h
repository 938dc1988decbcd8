/* SPDX-License-Identifier: MIT */
/// What the core demands of a descriptor before it uses anything in it, and the full-size copies of
/// the tables that it works with afterwards. [any]; strings and functions stay the plugin's, which
/// is never unloaded.
#ifndef SP_CORE_PLUGIN_CHECK_H
#define SP_CORE_PLUGIN_CHECK_H

#include "why.h"

#include <sp/plugin.h>

#include <stddef.h>

/// Whether a plugin's table reaches up to this field: those of 1.0 always do.
#define SP__HAS(table, type, field)                                                                \
    ((table)->size >= offsetof(type, field) + sizeof(((type *)0)->field))

/// Checks every field of a descriptor, its exports, their tables and options. SP_EABI with the
/// field.
int sp__check_plugin(const sp_plugin *desc, struct sp__why *why);

/// Access to arrays whose items may be larger than this library knows.
const sp_export *sp__export_at(const sp_plugin *desc, size_t i);
const sp_counter *sp__counter_at(const sp_transport_ops *ops, size_t i);
const sp_option *sp__option_at(const sp_option *options, size_t option_size, size_t i);
/// The export of a kind and name, or NULL. The descriptor has passed sp__check_plugin.
const sp_export *sp__export_find(const sp_plugin *desc, sp_kind kind, const char *name);

/// Copy a checked table into a full-size one: what the plugin does not have is zero or a stub,
/// options are copied too (to items of this library's size; they live for ever). SP_ENOMEM.
int sp__copy_protocol(sp_protocol_ops *to, const sp_protocol_ops *from);
int sp__copy_transport(sp_transport_ops *to, const sp_transport_ops *from);
/// Frees the options of a copy that nobody uses yet. NULL is allowed.
void sp__copy_free(const sp_option *options);

#endif
