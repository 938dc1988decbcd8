/* SPDX-License-Identifier: MIT */
/// The table in use, and allocation through it. [any]
#include "platform.h"

#include <string.h>

const struct sp_platform *sp__platform = &sp__platform_linux;

void *sp__zalloc(size_t size)
{
    void *p = sp__platform->alloc(size, 64);

    if (p != NULL) {
        memset(p, 0, size);
    }
    return p;
}

void *sp__alloc(size_t size)
{
    return sp__platform->alloc(size, _Alignof(max_align_t));
}

void sp__free(void *p)
{
    if (p != NULL) {
        sp__platform->free(p);
    }
}

char *sp__strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = sp__platform->alloc(n, 8);

    if (copy != NULL) {
        memcpy(copy, s, n);
    }
    return copy;
}
