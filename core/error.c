/* SPDX-License-Identifier: MIT */
/// Error codes as text and category, and the per-thread chain of detail text. [any]
#include "error.h"

#include <sp/sp.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char error_detail[SP__DETAIL_MAX];

/// Writes the formatted text and returns where it ends (the rest of the buffer is untouched).
static size_t error_vwrite(char *buf, size_t cap, const char *fmt, va_list ap)
{
    int n = vsnprintf(buf, cap, fmt, ap);

    if (n < 0) {
        buf[0] = '\0';
        return 0;
    }
    return (size_t)n < cap ? (size_t)n : cap - 1;
}

void sp__fail_text(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)error_vwrite(error_detail, sizeof(error_detail), fmt, ap);
    va_end(ap);
}

void sp__fail_text_in(const char *fmt, ...)
{
    char inner[SP__DETAIL_MAX];
    size_t n;
    va_list ap;

    memcpy(inner, error_detail, sizeof(inner));
    va_start(ap, fmt);
    n = error_vwrite(error_detail, sizeof(error_detail), fmt, ap);
    va_end(ap);
    (void)snprintf(error_detail + n, sizeof(error_detail) - n, "%s%s", inner[0] != '\0' ? ": " : "",
                   inner);
}

void sp__fail_text_code(int err, const char *fmt, ...)
{
    size_t n;
    va_list ap;

    va_start(ap, fmt);
    n = error_vwrite(error_detail, sizeof(error_detail), fmt, ap);
    va_end(ap);
    (void)snprintf(error_detail + n, sizeof(error_detail) - n, ": %s", sp_strerror(err));
}

int sp__flags_fail(const char *call, int flags)
{
    return sp__fail(SP_EINVAL, "%s: unknown flags 0x%x", call, (unsigned)(flags & ~SP_NONBLOCK));
}

void sp__bug(const char *file, int line, const char *what)
{
    (void)fprintf(stderr, "sp: internal error at %s:%d: %s\n", file, line, what);
    abort();
}

const char *sp_error_detail(void)
{
    return error_detail;
}

const char *sp_strerror(int err)
{
    const char *text;

    switch (err) {
    case SP_ECLOSED:
        return "Object closed";
    case SP_ESTATE:
        return "Not valid in this state";
    case SP_ENOPEER:
        return "No peer connected";
    case SP_EFULL:
        return "Mailbox full";
    case SP_EPEERS:
        return "Too many peers";
    case SP_ENOPLUGIN:
        return "No plugin provides that name";
    case SP_EABI:
        return "Plugin refused";
    default:
        break;
    }
    if (err >= 0) {
        return "Success";
    }
    text = err > -4096 ? strerrordesc_np(-err) : NULL;
    return text != NULL ? text : "Unknown error";
}

sp_errcategory sp_errcat(int err)
{
    switch (err) {
    case SP_ECLOSED:
    case SP_ECANCELED:
        return SP_CAT_SHUTDOWN;
    case SP_EAGAIN:
    case SP_EFULL:
    case SP_EMSGSIZE:
    case SP_ENOMEM:
    case SP_EPEERS:
    case -EMFILE:
    case -ENFILE:
    case -ENOBUFS:
        return SP_CAT_RESOURCE;
    case SP_ESTATE:
    case SP_ENOPEER:
    case SP_EPROTO:
    case SP_ENOTSUP:
    case SP_EINVAL:
        return SP_CAT_PROTOCOL;
    default:
        return SP_CAT_TRANSPORT;
    }
}
