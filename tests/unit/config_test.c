/* SPDX-License-Identifier: MIT */
/// Settings: the setters, the JSON file, and what each says about a mistake.
#include "config.h"

#include <sp/sp.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char config_path[] = SP_TEST_BUILD_DIR "/tests/config-XXXXXX";

static void config_write(const char *text)
{
    FILE *out = fopen(config_path, "wb");

    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

/// Loading `text` fails, and the detail names the file and says `reason`.
static void config_refuses(const char *text, const char *reason)
{
    sp_config *cfg = NULL;
    char expected[1024];

    config_write(text);
    assert_int_equal(sp_config_load(&cfg, config_path), SP_EINVAL);
    assert_null(cfg);
    (void)snprintf(expected, sizeof(expected), "%s: %s", config_path, reason);
    assert_string_equal(sp_error_detail(), expected);
}

static void config_has_defaults(void **state)
{
    sp_config *cfg = NULL;

    (void)state;
    assert_int_equal(sp_config_new(&cfg), SP_OK);
    assert_int_equal(cfg->threads, -1);
    assert_int_equal(cfg->thread_stack, 0);
    assert_int_equal(cfg->spin_time, -1);
    assert_int_equal(cfg->memory_max, 0);
    assert_int_equal(cfg->log_level, SP_LOG_WARN);
    assert_int_equal(cfg->seed, 0);
    assert_int_equal(cfg->plugins_off, 0);
    assert_null(cfg->plugin_dirs);
    assert_null(cfg->plugin_allow);
    assert_null(cfg->plugin_owners);
    assert_null(cfg->affinity);
    sp_config_free(cfg);
    sp_config_free(NULL);
    assert_int_equal(sp_config_new(NULL), SP_EINVAL);
}

static void config_checks_ranges(void **state)
{
    static const struct {
        const char *name;
        int64_t value;
        int result;
    } cases[] = {
        {"threads", -1, SP_OK},         {"threads", -2, SP_EINVAL},
        {"threads", 1024, SP_OK},       {"threads", 1025, SP_EINVAL},
        {"thread-stack", 0, SP_OK},     {"thread-stack", 1, SP_EINVAL},
        {"watchdog-time", 0, SP_OK},    {"watchdog-time", -1, SP_EINVAL},
        {"thread-stack", 65536, SP_OK}, {"spin-time", -2, SP_EINVAL},
        {"memory-max", -1, SP_EINVAL},  {"memory-max", INT64_MAX, SP_OK},
        {"log-level", 4, SP_EINVAL},    {"log-level", 3, SP_OK},
        {"seed", INT64_MIN, SP_OK},     {"plugins-off", 2, SP_EINVAL},
        {"plugins-off", 1, SP_OK},      {"nothing", 1, SP_EINVAL},
        {"affinity", 1, SP_EINVAL},
    };
    sp_config *cfg = NULL;

    (void)state;
    assert_int_equal(sp_config_new(&cfg), SP_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(sp_config_set_int(cfg, cases[i].name, cases[i].value), cases[i].result);
    }
    assert_int_equal(cfg->threads, 1024);
    assert_int_equal(sp_config_set_int(cfg, "threads", -2), SP_EINVAL);
    assert_string_equal(sp_error_detail(), "config: \"threads\": -2 is out of range (-1 to 1024)");
    assert_int_equal(sp_config_set_int(cfg, "plugin-dirs", 0), SP_EINVAL);
    assert_string_equal(sp_error_detail(), "config: \"plugin-dirs\": is a text");
    assert_int_equal(sp_config_set_int(cfg, NULL, 0), SP_EINVAL);
    assert_int_equal(sp_config_set_int(NULL, "threads", 0), SP_EINVAL);
    sp_config_free(cfg);
}

static void config_checks_texts(void **state)
{
    static const struct {
        const char *name;
        const char *value;
        int result;
    } cases[] = {
        {"plugin-dirs", "/a:/b", SP_OK},
        {"plugin-dirs", "a", SP_EINVAL},
        {"plugin-dirs", "/a::/b", SP_EINVAL},
        {"plugin-dirs", "/a:", SP_EINVAL},
        {"plugin-dirs", "", SP_OK},
        {"plugin-allow", "org.example.x:/a/x.so", SP_OK},
        {"plugin-allow", "a/b", SP_EINVAL},
        {"plugin-allow", "", SP_EINVAL},
        {"plugin-owners", "0,1000,4294967294", SP_OK},
        {"plugin-owners", "4294967295", SP_EINVAL},
        {"plugin-owners", "root", SP_EINVAL},
        {"plugin-owners", "-1", SP_EINVAL},
        {"plugin-owners", " 1", SP_EINVAL},
        {"plugin-owners", "1,,2", SP_EINVAL},
        {"affinity", "0-3,5", SP_OK},
        {"affinity", "1023", SP_OK},
        {"affinity", "1024", SP_EINVAL},
        {"affinity", "3-1", SP_EINVAL},
        {"affinity", "1-", SP_EINVAL},
        {"affinity", "-1", SP_EINVAL},
        {"affinity", "1-2-3", SP_EINVAL},
        {"affinity", "a", SP_EINVAL},
        {"threads", "1", SP_EINVAL},
        {"nothing", "1", SP_EINVAL},
    };
    sp_config *cfg = NULL;

    (void)state;
    assert_int_equal(sp_config_new(&cfg), SP_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (sp_config_set_str(cfg, cases[i].name, cases[i].value) != cases[i].result) {
            fail_msg("%s = \"%s\": %s", cases[i].name, cases[i].value, sp_error_detail());
        }
    }
    assert_null(cfg->plugin_dirs);
    assert_string_equal(cfg->affinity, "1023");
    assert_int_equal(sp_config_set_str(cfg, "affinity", "2,x"), SP_EINVAL);
    assert_string_equal(sp_error_detail(),
                        "config: \"affinity\": \"x\" is not a CPU (0 to 1023) or a range of them");
    assert_string_equal(cfg->affinity, "1023");
    assert_int_equal(sp_config_set_str(cfg, "affinity", NULL), SP_EINVAL);
    sp_config_free(cfg);
}

static void config_copy_is_deep(void **state)
{
    sp_config *cfg = NULL;
    struct sp_config copy;

    (void)state;
    assert_int_equal(sp_config_new(&cfg), SP_OK);
    assert_int_equal(sp_config_set_str(cfg, "plugin-dirs", "/a"), SP_OK);
    assert_int_equal(sp_config_set_int(cfg, "threads", 3), SP_OK);
    assert_int_equal(sp__config_copy(&copy, cfg), SP_OK);
    sp_config_free(cfg);
    assert_string_equal(copy.plugin_dirs, "/a");
    assert_int_equal(copy.threads, 3);
    sp__config_clear(&copy);
    assert_null(copy.plugin_dirs);
}

static void config_loads_a_file(void **state)
{
    sp_config *cfg = NULL;

    (void)state;
    config_write(
        "{\"threads\": 2, \"thread-stack\": 131072, \"spin-time\": 50, \"memory-max\": "
        "9007199254740992,\n"
        " \"log-level\": 3, \"seed\": -7, \"plugins-off\": true,\n"
        " \"plugin-dirs\": [\"/a\", \"/b\"], \"plugin-allow\": \"org.example.x:/a/y.so\",\n"
        " \"plugin-owners\": [1000, 1001], \"affinity\": \"0-1\"}\n");
    assert_int_equal(sp_config_load(&cfg, config_path), SP_OK);
    assert_int_equal(cfg->threads, 2);
    assert_int_equal(cfg->thread_stack, 131072);
    assert_int_equal(cfg->spin_time, 50);
    assert_int_equal(cfg->memory_max, INT64_C(9007199254740992));
    assert_int_equal(cfg->log_level, SP_LOG_DEBUG);
    assert_int_equal(cfg->seed, -7);
    assert_int_equal(cfg->plugins_off, 1);
    assert_string_equal(cfg->plugin_dirs, "/a:/b");
    assert_string_equal(cfg->plugin_allow, "org.example.x:/a/y.so");
    assert_string_equal(cfg->plugin_owners, "1000,1001");
    assert_string_equal(cfg->affinity, "0-1");
    sp_config_free(cfg);

    config_write("{}");
    assert_int_equal(sp_config_load(&cfg, config_path), SP_OK);
    sp_config_free(cfg);
}

static void config_refuses_what_is_not_json(void **state)
{
    (void)state;
    config_refuses("", "not JSON at line 1, column 1");
    config_refuses("{\"threads\": 1,\n \"seed\": x}", "not JSON at line 2, column 10");
    config_refuses("{} {}", "not JSON at line 1, column 4");
    config_refuses("[1]", "is an array, but must be an object");
}

static void config_refuses_bad_members(void **state)
{
    (void)state;
    config_refuses("{\"thread\": 1}", "member \"thread\": no such setting");
    config_refuses("{\"Threads\": 1}", "member \"Threads\": no such setting");
    config_refuses("{\"threads\": \"1\"}", "member \"threads\": is a string, but must be a number");
    config_refuses("{\"threads\": true}", "member \"threads\": is a boolean, but must be a number");
    config_refuses("{\"threads\": 1.5}",
                   "member \"threads\": is not a whole number of at most 2^53");
    config_refuses("{\"seed\": 1e300}", "member \"seed\": is not a whole number of at most 2^53");
    config_refuses("{\"threads\": 5000}", "member \"threads\": 5000 is out of range (-1 to 1024)");
    config_refuses("{\"threads\": 1, \"threads\": 2}", "member \"threads\": is there twice");
    config_refuses("{\"affinity\": 3}", "member \"affinity\": is a number, but must be a string");
    config_refuses("{\"plugin-dirs\": {}}",
                   "member \"plugin-dirs\": is an object, but must be a string or an array");
    config_refuses("{\"plugin-dirs\": [1]}",
                   "member \"plugin-dirs\": an item of the array is a number");
    config_refuses("{\"plugin-dirs\": [\"/a:/b\"]}",
                   "member \"plugin-dirs\": \"/a:/b\" contains ':'");
    config_refuses("{\"plugin-dirs\": [\"/a\", \"\"]}",
                   "member \"plugin-dirs\": an item of the list is empty");
    config_refuses("{\"plugin-owners\": [\"1\"]}",
                   "member \"plugin-owners\": an item of the array is a string");
    config_refuses("{\"plugin-owners\": [-1]}",
                   "member \"plugin-owners\": \"-1\" is not a numeric user id");
    config_refuses(
        "{\"plugin-allow\": []}",
        "member \"plugin-allow\": an empty list allows nothing: say \"plugins-off\" instead");
}

static void config_refuses_what_is_not_a_file(void **state)
{
    sp_config *cfg = NULL;

    (void)state;
    assert_int_equal(sp_config_load(&cfg, "/nowhere/sp.json"), -ENOENT);
    assert_string_equal(sp_error_detail(), "/nowhere/sp.json: No such file or directory");
    assert_int_equal(sp_config_load(&cfg, "/"), SP_EINVAL);
    assert_string_equal(sp_error_detail(), "/: not a regular file");
    assert_int_equal(sp_config_load(&cfg, NULL), SP_EINVAL);
    assert_null(cfg);
}

static int config_setup(void **state)
{
    int fd = mkstemp(config_path);

    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static int config_teardown(void **state)
{
    (void)state;
    return unlink(config_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_has_defaults),
        cmocka_unit_test(config_checks_ranges),
        cmocka_unit_test(config_checks_texts),
        cmocka_unit_test(config_copy_is_deep),
        cmocka_unit_test(config_loads_a_file),
        cmocka_unit_test(config_refuses_what_is_not_json),
        cmocka_unit_test(config_refuses_bad_members),
        cmocka_unit_test(config_refuses_what_is_not_a_file),
    };

    return cmocka_run_group_tests(tests, config_setup, config_teardown);
}
