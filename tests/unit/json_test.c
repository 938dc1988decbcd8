/* SPDX-License-Identifier: MIT */
/// The tree writer and the text check.
#include "json.h"
#include "platform.h"

#include <sp/sp.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *json_print_sample(void)
{
    struct sp__json *root = sp__json_object();
    struct sp__json *list;
    char *text;

    sp__json_add_int(root, "low", INT64_MIN);
    sp__json_add_int(root, "high", INT64_MAX);
    sp__json_add_bool(root, "yes", true);
    sp__json_add_str(root, "none", NULL);
    sp__json_add_str(root, "text", "a\"b\xC3\x28\xE2\x82\xAC");
    list = sp__json_add_array(root, "list");
    sp__json_array_int(list, 7);
    sp__json_array_str(list, "x");
    sp__json_add_int(sp__json_array_object(list), "n", 1);
    sp__json_add_int(sp__json_add_object(root, "object"), "n", 2);
    text = sp__json_print(root);
    sp__json_free(root);
    return text;
}

static void json_keeps_all_digits_and_mends_text(void **state)
{
    char *text = json_print_sample();

    (void)state;
    assert_non_null(text);
    assert_string_equal(text, "{\n"
                              "\t\"low\":\t-9223372036854775808,\n"
                              "\t\"high\":\t9223372036854775807,\n"
                              "\t\"yes\":\ttrue,\n"
                              "\t\"text\":\t\"a\\\"b\xEF\xBF\xBD(\xE2\x82\xAC\",\n"
                              "\t\"list\":\t[7, \"x\", {\n"
                              "\t\t\t\"n\":\t1\n"
                              "\t\t}],\n"
                              "\t\"object\":\t{\n"
                              "\t\t\"n\":\t2\n"
                              "\t}\n"
                              "}");
    sp_free(text);
}

static long json_allocations_left;

static void *json_scarce_alloc(size_t size, size_t align)
{
    return json_allocations_left-- > 0 ? sp__platform_linux.alloc(size, align) : NULL;
}

static void json_is_whole_or_not_there(void **state)
{
    const struct sp_platform *before = sp__platform;
    struct sp_platform scarce = *before;
    char *whole = json_print_sample();
    char *text = NULL;
    long n;

    (void)state;
    scarce.alloc = json_scarce_alloc;
    for (n = 0; text == NULL && n < 100; n++) {
        json_allocations_left = n;
        sp__platform = &scarce;
        text = json_print_sample();
        sp__platform = before;
    }
    assert_in_range(n, 3, 99);
    assert_string_equal(text, whole);
    sp_free(text);
    sp_free(whole);
}

static void json_writers_take_null(void **state)
{
    (void)state;
    sp__json_add_int(NULL, "n", 1);
    sp__json_add_bool(NULL, "n", true);
    sp__json_add_str(NULL, "n", "x");
    sp__json_array_int(NULL, 1);
    sp__json_array_str(NULL, "x");
    assert_null(sp__json_add_object(NULL, "n"));
    assert_null(sp__json_add_array(NULL, "n"));
    assert_null(sp__json_array_object(NULL));
    assert_null(sp__json_print(NULL));
    sp__json_free(NULL);
}

static void json_knows_utf8(void **state)
{
    static const char *const good[] = {"",
                                       "a",
                                       "\xC2\x80",
                                       "\xDF\xBF",
                                       "\xE0\xA0\x80",
                                       "\xED\x9F\xBF",
                                       "\xEF\xBF\xBF",
                                       "\xF0\x90\x80\x80",
                                       "\xF4\x8F\xBF\xBF"};
    static const char *const bad[] = {"\x80",
                                      "\xC0\x80",
                                      "\xC1\xBF",
                                      "\xC2",
                                      "\xE0\x9F\xBF",
                                      "\xED\xA0\x80",
                                      "\xE2\x82",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80",
                                      "\xF5\x80\x80\x80",
                                      "\xFF",
                                      "a\nb",
                                      "\x7F"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(sp__json_text_ok(good[i]));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(sp__json_text_ok(bad[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_keeps_all_digits_and_mends_text),
        cmocka_unit_test(json_is_whole_or_not_there),
        cmocka_unit_test(json_writers_take_null),
        cmocka_unit_test(json_knows_utf8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
