/* SPDX-License-Identifier: MIT */
/// What `sp cat` prints is what nngcat prints, byte for byte, for every format and kind of message.
#include "peer_cat.h"
#include "rawsp.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FORMAT_BIGGEST 65537

struct format_body {
    const void *data;
    size_t len;
};

static unsigned char format_all[256];
static char format_long[FORMAT_BIGGEST];

/// Bodies where the formats have their borders.
static const struct format_body format_bodies[] = {
    {format_all, 256},     {"", 0},
    {"one\ntwo\r\n\t", 9}, {"\"quoted\" \\ 'text'", 17},
    {format_long, 31},     {format_long, 32},
    {format_long, 255},    {format_long, 256},
    {format_long, 65535},  {format_long, 65536},
    {format_long, 65537},
};

#define FORMAT_BODIES (sizeof(format_bodies) / sizeof(format_bodies[0]))

static int format_setup(void **state)
{
    (void)state;
    for (int i = 0; i < 256; i++) {
        format_all[i] = (unsigned char)i;
    }
    memset(format_long, 'a', sizeof(format_long));
    return 0;
}

/// Sends bodies to a program that prints them and ends. It must end with success and print no
/// error.
static void format_print(struct proc *p, enum peer_program which, const char *format,
                         const struct format_body *bodies, size_t count)
{
    int port = 0;
    int listener = rawsp_listen(&port);
    int fd;

    assert_true(listener >= 0);
    assert_int_equal(peer_start(p, which, "--pair0 --dial tcp://127.0.0.1:%d --count %zu%s%s", port,
                                count, format[0] != '\0' ? " " : "", format),
                     0);
    fd = rawsp_accept(listener, RAWSP_PAIR, NULL, PROC_SOON);
    assert_true(fd >= 0);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(rawsp_send(fd, NULL, 0, bodies[i].data, bodies[i].len), 0);
    }
    assert_int_equal(proc_wait(p, PROC_SOON), 0);
    assert_int_equal(p->errors.len, 0);
    (void)close(fd);
    (void)close(listener);
}

/// The first byte where two outputs differ is what a failure has to show.
static void format_compare(const struct proc_bytes *ours, const struct proc_bytes *theirs)
{
    size_t n = ours->len < theirs->len ? ours->len : theirs->len;
    size_t i = 0;

    while (i < n && ours->data[i] == theirs->data[i]) {
        i++;
    }
    if (i < n || ours->len != theirs->len) {
        fail_msg("%zu and %zu bytes, different from byte %zu", ours->len, theirs->len, i);
    }
}

static void format_is_nngcats(const char *format)
{
    struct proc ours = {0};
    struct proc theirs = {0};

    if (!peer_exists(PEER_NNGCAT)) {
        skip();
    }
    format_print(&ours, PEER_SP, format, format_bodies, FORMAT_BODIES);
    format_print(&theirs, PEER_NNGCAT, format, format_bodies, FORMAT_BODIES);
    format_compare(&ours.output, &theirs.output);
    proc_stop(&ours);
    proc_stop(&theirs);
}

/// What nngcat 1.5.2 printed when this was written, for machines without it.
static void format_is(const char *format, const char *expected, size_t len)
{
    static const struct format_body bodies[] = {{"a\"\\\n\r\t\0 \x1f\x7f\xff", 11}, {"", 0}};
    struct proc p = {0};

    format_print(&p, PEER_SP, format, bodies, 2);
    assert_int_equal(p.output.len, len);
    if (len > 0) {
        assert_memory_equal(p.output.data, expected, len);
    }
    proc_stop(&p);
}

static void no_format_prints_nothing(void **state)
{
    (void)state;
    format_is("", "", 0);
    format_is("--format no", "", 0);
    format_is_nngcats("--format no");
}

static void raw_is_the_body(void **state)
{
    (void)state;
    format_is("--raw", "a\"\\\n\r\t\0 \x1f\x7f\xff", 11);
    format_is_nngcats("--raw");
}

static void ascii_has_dots_and_no_end(void **state)
{
    (void)state;
    format_is("-A", "a\"\\.... ...", 11);
    format_is("--format ascii", "a\"\\.... ...", 11);
    format_is_nngcats("--ascii");
}

static void quoted_is_a_line_each(void **state)
{
    static const char expected[] = "\"a\\\"\\\\\\n\\r\\t\\x00 \\x1f\\x7f\\xff\"\n\"\"\n";

    (void)state;
    format_is("-Q", expected, sizeof(expected) - 1);
    format_is_nngcats("--quoted");
}

static void hex_is_a_line_each(void **state)
{
    static const char expected[] =
        "\"\\x61\\x22\\x5c\\x0a\\x0d\\x09\\x00\\x20\\x1f\\x7f\\xff\"\n\"\"\n";

    (void)state;
    format_is("--hex", expected, sizeof(expected) - 1);
    format_is_nngcats("--hex");
}

static void msgpack_is_bin(void **state)
{
    static const char expected[] = "\xc4\x0b"
                                   "a\"\\\n\r\t\0 \x1f\x7f\xff"
                                   "\xc4\x00";

    (void)state;
    format_is("--msgpack", expected, sizeof(expected) - 1);
    format_is_nngcats("--msgpack");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_format_prints_nothing),  cmocka_unit_test(raw_is_the_body),
        cmocka_unit_test(ascii_has_dots_and_no_end), cmocka_unit_test(quoted_is_a_line_each),
        cmocka_unit_test(hex_is_a_line_each),        cmocka_unit_test(msgpack_is_bin),
    };

    peer_environment();
    return cmocka_run_group_tests_name("cat_format", tests, format_setup, NULL);
}
