/* SPDX-License-Identifier: MIT */
/// Log lines, to the application's function or standard error. [any]
#ifndef SP_CORE_LOG_H
#define SP_CORE_LOG_H

#include <sp/types.h>

/// `id`: what the line is about (a socket's name, a plugin's id).
void sp__log(sp_log_level level, const char *id, const char *text);
__attribute__((format(printf, 3, 4))) void sp__logf(sp_log_level level, const char *id,
                                                    const char *fmt, ...);
void sp__log_level(sp_log_level level);

#endif
