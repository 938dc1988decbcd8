/* SPDX-License-Identifier: MIT */
/// Refusals of single files: the reason, the code, no harm to the process, and a good plugin beside
/// it that still loads.
#include "plugin_dir.h"
#include "registry.h"

#include <sp/plugin.h>
#include <sp/sp.h>

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct refusal {
    const char *fixture; ///< NULL: a text file
    const char *good;    ///< the good plugin that lies beside it
    const char *reason;
};

static void loader_good_still_loads(const char *good)
{
    const struct sp__protocol *p;
    char name[64];

    (void)snprintf(name, sizeof(name), "fixture-%s", good);
    assert_int_equal(sp__registry_protocol(name, &p), SP_OK);
    assert_string_equal(p->name, name);
}

static void loader_detail_has(const char *text)
{
    if (strstr(sp_error_detail(), text) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", text, sp_error_detail());
    }
}

/// Asked for by path, and by a name that it may provide.
static void loader_refuses(void **state)
{
    const struct refusal *r = *state;
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];
    const char *path;
    char name[64];

    plugin_dir_make(dir);
    path = plugin_dir_path(dir, "x.so");
    if (r->fixture != NULL) {
        plugin_dir_copy(dir, r->fixture, "x.so");
    } else {
        plugin_dir_write(
            dir, "x.so",
            "This is a text, and longer than the header of an ELF file would have to be.\n");
    }
    plugin_dir_copy(dir, r->good, "good.so");
    plugin_dir_use(dir, NULL, NULL);

    assert_int_equal(sp_plugin_load(path), SP_EABI);
    loader_detail_has(path);
    loader_detail_has(r->reason);

    (void)snprintf(name, sizeof(name), "fixture-%s", r->fixture != NULL ? r->fixture : "text");
    assert_int_equal(sp__registry_protocol(name, &p), SP_EABI);
    loader_detail_has(path);
    loader_detail_has(r->reason);

    loader_good_still_loads(r->good);
    plugin_dir_remove(dir);
}

static void loader_tells_what_the_linker_says(void **state)
{
    char dir[PLUGIN_DIR_PATH];
    char verbatim[1024];
    const char *path;

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "undefined", "x.so");
    path = plugin_dir_path(dir, "x.so");
    plugin_dir_use(dir, NULL, NULL);
    assert_null(dlopen(path, RTLD_NOW | RTLD_LOCAL));
    (void)snprintf(verbatim, sizeof(verbatim), "%s", dlerror());
    assert_int_equal(sp_plugin_load(path), SP_EABI);
    loader_detail_has(verbatim);
    plugin_dir_remove(dir);
}

static void loader_says_that_there_is_no_file(void **state)
{
    (void)state;
    assert_int_equal(sp_plugin_load("/nowhere/x.so"), SP_ENOPLUGIN);
    assert_string_equal(sp_error_detail(), "plugin /nowhere/x.so: No such file or directory");
    assert_int_equal(sp_plugin_load(""), SP_EINVAL);
    assert_int_equal(sp_plugin_load(NULL), SP_EINVAL);
}

static void loader_refuses_a_directory_named_so(void **state)
{
    char dir[PLUGIN_DIR_PATH];
    char text[PLUGIN_DIR_PATH + 64];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_use(NULL, NULL, NULL);
    assert_int_equal(sp_plugin_load(dir), SP_EABI);
    (void)snprintf(text, sizeof(text), "%s is not a regular file", dir);
    loader_detail_has(text);
    plugin_dir_remove(dir);
}

static void loader_loads_twice_what_is_loaded(void **state)
{
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "good-13", "x.so");
    plugin_dir_use(NULL, NULL, NULL);
    assert_int_equal(sp_plugin_load(plugin_dir_path(dir, "x.so")), SP_OK);
    assert_int_equal(sp_plugin_load(plugin_dir_path(dir, "x.so")), SP_OK);
    loader_good_still_loads("good-13");
    plugin_dir_remove(dir);
}

/// Its code ran half-way once; it does not get a second chance in this process.
static void loader_quarantines_what_failed(void **state)
{
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "init-fails", "x.so");
    plugin_dir_use(NULL, NULL, NULL);
    assert_int_equal(sp_plugin_load(plugin_dir_path(dir, "x.so")), SP_EABI);
    loader_detail_has("init failed (-5)");
    assert_int_equal(sp_plugin_load(plugin_dir_path(dir, "x.so")), SP_EABI);
    loader_detail_has("quarantined: init failed (-5) before");
    plugin_dir_remove(dir);
}

static int loader_setup(void **state)
{
    (void)state;
    return unsetenv("SP_PLUGIN_PATH");
}

static int loader_teardown(void **state)
{
    (void)state;
    sp_fini();
    return 0;
}

static struct refusal refusals[] = {
    {"wrong-major", "good-1", "other ABI major: plugin has 7, library has 1"},
    {"entry-v2", "good-2",
     "no entry sp_plugin_entry_v1 (exports sp_plugin_entry_v2: built for another ABI major)"},
    {"newer-core", "good-3", "needs a newer core: has 1.0, needs 1.9"},
    {"short-struct", "good-4", "truncated descriptor: "},
    {"missing-op", "good-5", "protocol \"fixture-missing-op\": missing op on_recv"},
    {"undefined", "good-6", "undefined symbol: sp_fixture_nowhere"},
    {"no-entry", "good-7", "refused: no entry sp_plugin_entry_v1"},
    {"foreign-entry", "good-8", "entry sp_plugin_entry_v1 lies in another file: "},
    {"init-fails", "good-9", "init failed (-5)"},
    {"bad-id", "good-10", "bad descriptor field id: \"just a name\" is not a reverse DNS name"},
    {"twice-inside", "good-11", "duplicate name: exports protocol \"fixture-twice-inside\" twice"},
    {NULL, "good-12", "invalid ELF header"},
};

#define REFUSAL(name, i)                                                                           \
    {                                                                                              \
        "loader_refuses_" name, loader_refuses, NULL, NULL, &refusals[i]                           \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        REFUSAL("wrong_major", 0),
        REFUSAL("entry_v2_only", 1),
        REFUSAL("need_of_newer_core", 2),
        REFUSAL("short_struct", 3),
        REFUSAL("missing_op", 4),
        REFUSAL("undefined_symbol", 5),
        REFUSAL("no_entry", 6),
        REFUSAL("entry_in_dependency", 7),
        REFUSAL("failing_load", 8),
        REFUSAL("bad_id", 9),
        REFUSAL("name_twice_inside", 10),
        REFUSAL("text_file", 11),
        cmocka_unit_test(loader_tells_what_the_linker_says),
        cmocka_unit_test(loader_says_that_there_is_no_file),
        cmocka_unit_test(loader_refuses_a_directory_named_so),
        cmocka_unit_test(loader_loads_twice_what_is_loaded),
        cmocka_unit_test(loader_quarantines_what_failed),
    };

    return cmocka_run_group_tests(tests, loader_setup, loader_teardown);
}
