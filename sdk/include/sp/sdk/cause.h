/* SPDX-License-Identifier: MIT */
/// One-line failures for transports: code and cause together. [any]
#ifndef SP_SDK_CAUSE_H
#define SP_SDK_CAUSE_H

#include <stdarg.h>
#include <stdio.h>

#include <sp/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Writes what failed into `cause` (NULL: nowhere; cut if it is too long) and returns `code`:
/// `return sp_fail(cause, -errno, "bind");`
__attribute__((format(printf, 3, 4))) static inline int sp_fail(sp_cause *cause, int code,
                                                                const char *format, ...)
{
    va_list args;

    if (cause != NULL) {
        va_start(args, format);
        (void)vsnprintf(cause->text, sizeof(cause->text), format, args);
        va_end(args);
    }
    return code;
}

#ifdef __cplusplus
}
#endif

#endif
