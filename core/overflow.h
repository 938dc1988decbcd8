/* SPDX-License-Identifier: MIT */
/// What happens when a queue is full: the texts of the option "overflow".
#ifndef SP_CORE_OVERFLOW_H
#define SP_CORE_OVERFLOW_H

#include <sp/plugin.h>

#include <stddef.h>

#define SP__OVERFLOWS 4 // policies

/// "drop-old" …, for a policy below SP__OVERFLOWS.
const char *sp__overflow_name(unsigned policy);

/// The policy of a text, which must be one of `allowed` (bits). SP_EINVAL with detail.
int sp__overflow_parse(const char *text, uint32_t allowed, int64_t *policy);

#endif
