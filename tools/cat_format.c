/* SPDX-License-Identifier: MIT */
/// Messages on standard output, byte for byte as nngcat writes them: ascii and raw as they are,
/// without an end; quoted and hex a line each; msgpack as "bin" of the smallest size. [main thread]
#include "cat.h"
#include "tool.h"

#include <stdio.h>
#include <string.h>

static const char *const cat_format_names[CAT_FORMATS] = {
    [CAT_FORMAT_NO] = "no",         [CAT_FORMAT_RAW] = "raw", [CAT_FORMAT_ASCII] = "ascii",
    [CAT_FORMAT_QUOTED] = "quoted", [CAT_FORMAT_HEX] = "hex", [CAT_FORMAT_MSGPACK] = "msgpack",
};

enum cat_format cat_format_find(const char *name)
{
    int i = 0;

    while (i < CAT_FORMATS && strcmp(cat_format_names[i], name) != 0) {
        i++;
    }
    return (enum cat_format)i;
}

/// Printable in ASCII, whatever the locale.
static bool cat_printable(unsigned char c)
{
    return c >= ' ' && c <= '~';
}

static void cat_print_ascii(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        (void)putchar(cat_printable(p[i]) ? p[i] : '.');
    }
}

static void cat_print_quoted(const unsigned char *p, size_t n)
{
    static const char escaped[] = "\n\r\t\"\\";
    static const char letters[] = "nrt\"\\";

    (void)putchar('"');
    for (size_t i = 0; i < n; i++) {
        const char *at = p[i] != '\0' ? strchr(escaped, p[i]) : NULL;

        if (at != NULL) {
            (void)putchar('\\');
            (void)putchar(letters[at - escaped]);
        } else if (cat_printable(p[i])) {
            (void)putchar(p[i]);
        } else {
            (void)printf("\\x%02x", p[i]);
        }
    }
    (void)fputs("\"\n", stdout);
}

static void cat_print_hex(const unsigned char *p, size_t n)
{
    (void)putchar('"');
    for (size_t i = 0; i < n; i++) {
        (void)printf("\\x%02x", p[i]);
    }
    (void)fputs("\"\n", stdout);
}

/// bin 8, bin 16 or bin 32: a type byte, the length in 1, 2 or 4 bytes, the bytes.
static void cat_print_msgpack(const unsigned char *p, size_t n)
{
    int size = n <= UINT8_MAX ? 1 : n <= UINT16_MAX ? 2 : 4;

    (void)putchar(size == 1 ? 0xc4 : size == 2 ? 0xc5 : 0xc6);
    for (int shift = (size - 1) * 8; shift >= 0; shift -= 8) {
        (void)putchar((int)(n >> shift & 0xff));
    }
    (void)fwrite(p, 1, n, stdout);
}

int cat_print(enum cat_format format, const void *body, size_t len)
{
    const unsigned char *p = body;

    switch (format) {
    case CAT_FORMAT_RAW:
        (void)fwrite(p, 1, len, stdout);
        break;
    case CAT_FORMAT_ASCII:
        cat_print_ascii(p, len);
        break;
    case CAT_FORMAT_QUOTED:
        cat_print_quoted(p, len);
        break;
    case CAT_FORMAT_HEX:
        cat_print_hex(p, len);
        break;
    case CAT_FORMAT_MSGPACK:
        cat_print_msgpack(p, len);
        break;
    default:
        return TOOL_OK;
    }
    return tool_flush();
}
