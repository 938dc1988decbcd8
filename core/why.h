/* SPDX-License-Identifier: MIT */
/// The reason of a refusal, handed inwards to outwards as text. Functions that may be one of
/// several tries write it here; only the API call that fails in the end puts it into the thread's
/// error detail. [any]
#ifndef SP_CORE_WHY_H
#define SP_CORE_WHY_H

#include <stdarg.h>
#include <stdio.h>

struct sp__why {
    char text[1024];
};

/// Writes the formatted text.
__attribute__((format(printf, 2, 3))) static inline void sp__why_write(struct sp__why *why,
                                                                       const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(why->text, sizeof(why->text), fmt, ap);
    va_end(ap);
}

/// The same as an expression with the value `err`. A macro, so that compilers see which value that
/// is.
#define sp__why_set(why, err, ...) (sp__why_write((why), __VA_ARGS__), (err))

#endif
