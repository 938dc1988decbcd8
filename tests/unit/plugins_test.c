/* SPDX-License-Identifier: MIT */
/// Finding plugins by name: order, laziness, manifests, names found twice, the list as JSON, and
/// what the core makes of the tables. A name stays bound in a process, so each test has its own
/// fixture.
#include "platform.h"
#include "plugin_dir.h"
#include "registry.h"

#include <sp/plugin.h>
#include <sp/sp.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

static void plugins_detail_has(const char *text)
{
    if (strstr(sp_error_detail(), text) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", text, sp_error_detail());
    }
}

/// The list for `name`; freed by cJSON_Delete.
static cJSON *plugins_json(const char *name)
{
    char *text = NULL;
    cJSON *list;

    assert_int_equal(sp_plugins(name, &text), SP_OK);
    list = cJSON_Parse(text);
    assert_true(cJSON_IsArray(list));
    sp_free(text);
    return list;
}

static const char *plugins_str(const cJSON *object, const char *member)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, member);

    assert_true(cJSON_IsString(v));
    return v->valuestring;
}

static double plugins_num(const cJSON *object, const char *member)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, member);

    assert_true(cJSON_IsNumber(v));
    return v->valuedouble;
}

/// The entry of a file in the list.
static const cJSON *plugins_entry(const cJSON *list, const char *file)
{
    const cJSON *e;

    cJSON_ArrayForEach(e, list)
    {
        if (strcmp(plugins_str(e, "file"), file) == 0) {
            return e;
        }
    }
    fail_msg("%s is not listed", file);
    return NULL;
}

static void plugins_state_is(const cJSON *list, const char *file, const char *state,
                             const char *reason)
{
    const cJSON *e = plugins_entry(list, file);

    assert_string_equal(plugins_str(e, "state"), state);
    assert_string_equal(plugins_str(e, "reason"), reason);
}

/* ------------------------------------------------------------------ Finding */

static void plugins_open_only_the_file_they_need(void **state)
{
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "alpha", "a.so");
    plugin_dir_manifest(dir, "alpha", "a.json");
    plugin_dir_copy(dir, "beta", "b.so");
    plugin_dir_manifest(dir, "beta", "b.json");
    plugin_dir_use(dir, NULL, NULL);
    assert_int_equal(sp__registry_protocol("fixture-none", &p), SP_ENOPLUGIN);
    assert_false(plugin_dir_mapped(plugin_dir_path(dir, "a.so")));
    assert_int_equal(sp__registry_protocol("fixture-alpha", &p), SP_OK);
    assert_true(plugin_dir_mapped(plugin_dir_path(dir, "a.so")));
    assert_false(plugin_dir_mapped(plugin_dir_path(dir, "b.so")));
    assert_int_equal(sp__registry_protocol("fixture-beta", &p), SP_OK);
    assert_true(plugin_dir_mapped(plugin_dir_path(dir, "b.so")));
    plugin_dir_remove(dir);
}

static void plugins_without_manifest_are_asked(void **state)
{
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "gamma", "none.so");
    plugin_dir_copy(dir, "delta", "broken.so");
    plugin_dir_write(dir, "broken.json", "{\"id\": \"org.example.other\", ");
    plugin_dir_use(dir, NULL, NULL);
    assert_int_equal(sp__registry_protocol("fixture-gamma", &p), SP_OK);
    assert_int_equal(sp__registry_protocol("fixture-delta", &p), SP_OK);
    assert_string_equal(p->plugin->desc->id, "org.example.fixture-delta");
    plugin_dir_remove(dir);
}

static void plugins_not_found_tell_every_directory(void **state)
{
    const struct sp__transport *t;
    char dir[PLUGIN_DIR_PATH];
    char dirs[2 * PLUGIN_DIR_PATH];
    char text[4 * PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    (void)snprintf(dirs, sizeof(dirs), "/nowhere:%s", dir);
    assert_int_equal(setenv("SP_PLUGIN_PATH", "relative:/elsewhere::", 1), 0);
    plugin_dir_use(dirs, NULL, NULL);
    assert_int_equal(sp__registry_transport("fixture", &t), SP_ENOPLUGIN);
    (void)snprintf(text, sizeof(text),
                   "transport \"fixture\": no plugin provides it (searched /nowhere (No such file "
                   "or directory), %s, "
                   "relative (not an absolute path), /elsewhere (No such file or directory), ",
                   dir);
    plugins_detail_has(text);
    assert_int_equal(unsetenv("SP_PLUGIN_PATH"), 0);
    plugin_dir_remove(dir);
}

/// The same plugin in three places: the settings come first, then the environment, in its order.
static void plugins_of_earlier_directories_win(void **state)
{
    const struct sp__protocol *p;
    char dir[3][PLUGIN_DIR_PATH];
    char env[2 * PLUGIN_DIR_PATH];
    char reason[2 * PLUGIN_DIR_PATH];
    cJSON *list;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        plugin_dir_make(dir[i]);
        plugin_dir_copy(dir[i], "epsilon", "x.so");
        plugin_dir_manifest(dir[i], "epsilon", "x.json");
        plugin_dir_copy(dir[i], "zeta", "z.so");
        plugin_dir_manifest(dir[i], "zeta", "z.json");
    }
    assert_int_equal(unlink(plugin_dir_path(dir[0], "z.so")), 0);
    (void)snprintf(env, sizeof(env), "%s:%s", dir[1], dir[2]);
    assert_int_equal(setenv("SP_PLUGIN_PATH", env, 1), 0);
    plugin_dir_use(dir[0], NULL, NULL);

    list = plugins_json("fixture-epsilon");
    assert_int_equal(cJSON_GetArraySize(list), 3);
    plugins_state_is(list, plugin_dir_path(dir[0], "x.so"), "available", "");
    (void)snprintf(reason, sizeof(reason), "protocol \"fixture-epsilon\" is provided by %s/x.so",
                   dir[0]);
    plugins_state_is(list, plugin_dir_path(dir[1], "x.so"), "shadowed", reason);
    plugins_state_is(list, plugin_dir_path(dir[2], "x.so"), "shadowed", reason);
    cJSON_Delete(list);

    assert_int_equal(sp__registry_protocol("fixture-epsilon", &p), SP_OK);
    assert_string_equal(p->plugin->path, plugin_dir_path(dir[0], "x.so"));
    assert_int_equal(sp__registry_protocol("fixture-zeta", &p), SP_OK);
    assert_string_equal(p->plugin->path, plugin_dir_path(dir[1], "z.so"));
    list = plugins_json(NULL);
    plugins_state_is(list, plugin_dir_path(dir[0], "x.so"), "loaded", "");
    plugins_state_is(list, plugin_dir_path(dir[1], "x.so"), "shadowed", reason);
    plugins_state_is(list, plugin_dir_path(dir[1], "z.so"), "loaded", "");
    cJSON_Delete(list);
    assert_int_equal(unsetenv("SP_PLUGIN_PATH"), 0);
    for (size_t i = 0; i < 3; i++) {
        plugin_dir_remove(dir[i]);
    }
}

static int plugins_warnings;

static void plugins_count_warning(sp_log_level level, const char *id, const char *msg, void *arg)
{
    (void)id;
    (void)arg;
    plugins_warnings += level == SP_LOG_WARN && strstr(msg, "needs a newer core") != NULL ? 1 : 0;
}

/// What is refused does not stand in the way of a later one, but the log tells.
static void plugins_refused_give_way_to_later_ones(void **state)
{
    const struct sp__protocol *p;
    char dir[2][PLUGIN_DIR_PATH];
    char dirs[2 * PLUGIN_DIR_PATH];
    cJSON *list;

    (void)state;
    plugin_dir_make(dir[0]);
    plugin_dir_make(dir[1]);
    plugin_dir_copy(dir[0], "newer-core", "x.so");
    plugin_dir_manifest(dir[0], "eta", "x.json");
    plugin_dir_copy(dir[1], "eta", "x.so");
    plugin_dir_manifest(dir[1], "eta", "x.json");
    (void)snprintf(dirs, sizeof(dirs), "%s:%s", dir[0], dir[1]);
    plugin_dir_use(dirs, NULL, NULL);
    sp_log_set(SP_LOG_WARN, plugins_count_warning, NULL);
    assert_int_equal(sp__registry_protocol("fixture-eta", &p), SP_OK);
    sp_log_set(SP_LOG_WARN, NULL, NULL);
    assert_string_equal(p->plugin->path, plugin_dir_path(dir[1], "x.so"));
    assert_int_equal(plugins_warnings, 1);
    list = plugins_json("fixture-eta");
    plugins_state_is(list, plugin_dir_path(dir[0], "x.so"), "refused",
                     "needs a newer core: has 1.0, needs 1.9");
    plugins_state_is(list, plugin_dir_path(dir[1], "x.so"), "loaded", "");
    cJSON_Delete(list);
    plugin_dir_remove(dir[0]);
    plugin_dir_remove(dir[1]);
}

/* ------------------------------------------------------------------ Names found twice */

static void plugins_twice_in_a_directory_are_refused(void **state)
{
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];
    char reason[3 * PLUGIN_DIR_PATH];
    cJSON *list;

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "theta", "one.so");
    plugin_dir_manifest(dir, "theta", "one.json");
    plugin_dir_copy(dir, "theta", "two.so");
    plugin_dir_manifest(dir, "theta", "two.json");
    plugin_dir_copy(dir, "iota", "other.so");
    plugin_dir_use(dir, NULL, NULL);
    assert_int_equal(sp__registry_protocol("fixture-theta", &p), SP_EABI);
    (void)snprintf(reason, sizeof(reason),
                   "duplicate name: protocol \"fixture-theta\" is in %s/one.so and in %s/two.so",
                   dir, dir);
    plugins_detail_has(reason);
    assert_false(plugin_dir_mapped(plugin_dir_path(dir, "one.so")));
    assert_false(plugin_dir_mapped(plugin_dir_path(dir, "two.so")));
    list = plugins_json(NULL);
    plugins_state_is(list, plugin_dir_path(dir, "one.so"), "refused", reason);
    plugins_state_is(list, plugin_dir_path(dir, "other.so"), "available", "");
    cJSON_Delete(list);
    assert_int_equal(sp__registry_protocol("fixture-iota", &p), SP_OK);
    plugin_dir_remove(dir);
}

/// Also when nobody has a manifest, and the names only show in the files.
static void plugins_twice_without_manifest_are_refused(void **state)
{
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "theta", "one.so");
    plugin_dir_copy(dir, "theta", "two.so");
    plugin_dir_use(dir, NULL, NULL);
    assert_int_equal(sp__registry_protocol("fixture-theta", &p), SP_EABI);
    plugins_detail_has("duplicate name: protocol \"fixture-theta\" is in ");
    plugin_dir_remove(dir);
}

static void plugins_loaded_by_path_may_not_take_a_name(void **state)
{
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];
    char reason[4 * PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "kappa", "one.so");
    plugin_dir_copy(dir, "kappa", "two.so");
    plugin_dir_use(NULL, NULL, NULL);
    assert_int_equal(sp_plugin_load(plugin_dir_path(dir, "one.so")), SP_OK);
    assert_int_equal(sp_plugin_load(plugin_dir_path(dir, "two.so")), SP_EABI);
    (void)snprintf(reason, sizeof(reason),
                   "plugin %s/two.so refused: duplicate name: protocol \"fixture-kappa\" is in "
                   "%s/two.so and in %s/one.so",
                   dir, dir, dir);
    assert_string_equal(sp_error_detail(), reason);
    assert_int_equal(sp__registry_protocol("fixture-kappa", &p), SP_OK);
    assert_string_equal(p->plugin->path, plugin_dir_path(dir, "one.so"));
    plugin_dir_remove(dir);
}

/* ------------------------------------------------------------------ Manifests */

static void plugins_with_another_manifest_are_refused(void **state)
{
    static const struct {
        const char *manifest;
        const char *reason;
    } cases[] = {
        {"{\"id\":\"org.example.x\",\"version\":\"1.2.3\",\"abi\":\"1.0\","
         "\"exports\":[{\"kind\":\"protocol\",\"name\":\"fixture-good-1\"}]}",
         "manifest says id \"org.example.x\" but the plugin says \"org.example.fixture-good-1\""},
        {"{\"id\":\"org.example.fixture-good-1\",\"version\":\"9\",\"abi\":\"1.0\","
         "\"exports\":[{\"kind\":\"protocol\",\"name\":\"fixture-good-1\"}]}",
         "manifest says version \"9\" but the plugin says \"1.2.3\""},
        {"{\"id\":\"org.example.fixture-good-1\",\"version\":\"1.2.3\",\"abi\":\"1.1\","
         "\"exports\":[{\"kind\":\"protocol\",\"name\":\"fixture-good-1\"}]}",
         "manifest says abi \"1.1\" but the plugin says \"1.0\""},
        {"{\"id\":\"org.example.fixture-good-1\",\"version\":\"1.2.3\",\"abi\":\"1.0\","
         "\"exports\":[{\"kind\":\"protocol\",\"name\":\"fixture-good-1\"},{\"kind\":\"transport\","
         "\"name\":\"x\"}]}",
         "manifest says transport \"x\" but the plugin says nothing of it"},
        {"{\"id\":\"org.example.fixture-good-1\",\"version\":\"1.2.3\",\"abi\":\"1.0\","
         "\"exports\":[{\"kind\":\"transport\",\"name\":\"fixture-good-1\"}]}",
         "manifest says nothing of protocol \"fixture-good-1\" but the plugin says that it "
         "provides it"},
    };
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "good-1", "x.so");
    plugin_dir_use(dir, NULL, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        plugin_dir_write(dir, "x.json", cases[i].manifest);
        assert_int_equal(sp_plugin_load(plugin_dir_path(dir, "x.so")), SP_EABI);
        plugins_detail_has(cases[i].reason);
    }
    // The right one: the refusals were not remembered.
    plugin_dir_manifest(dir, "good-1", "x.json");
    assert_int_equal(sp__registry_protocol("fixture-good-1", &p), SP_OK);
    plugin_dir_remove(dir);
}

static void plugins_with_another_manifest_are_refused_by_name(void **state)
{
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "good-2", "x.so");
    plugin_dir_manifest(dir, "good-3", "x.json");
    plugin_dir_use(dir, NULL, NULL);
    assert_int_equal(sp__registry_protocol("fixture-good-3", &p), SP_EABI);
    plugins_detail_has(
        "refused: manifest says id \"org.example.fixture-good-3\" but the plugin says "
        "\"org.example.fixture-good-2\"");
    assert_int_equal(sp__registry_protocol("fixture-good-2", &p), SP_ENOPLUGIN);
    plugin_dir_remove(dir);
}

/* ------------------------------------------------------------------ The list */

static void plugins_list_has_details(void **state)
{
    char dir[PLUGIN_DIR_PATH];
    const cJSON *e;
    const cJSON *x;
    const cJSON *option;
    cJSON *list;

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "good-4", "x.so");
    plugin_dir_use(dir, NULL, NULL);
    list = plugins_json("fixture-good-4");
    e = plugins_entry(list, plugin_dir_path(dir, "x.so"));
    assert_string_equal(plugins_str(e, "id"), "org.example.fixture-good-4");
    assert_string_equal(plugins_str(e, "version"), "1.2.3");
    assert_string_equal(plugins_str(e, "abi"), "1.0");
    assert_string_equal(plugins_str(e, "state"), "available");
    assert_string_equal(plugins_str(e, "vendor"), "Example");
    assert_string_equal(plugins_str(e, "licence"), "MIT");
    assert_string_equal(plugins_str(e, "description"), "a fixture of the tests");
    x = cJSON_GetArrayItem(cJSON_GetObjectItem(e, "exports"), 0);
    assert_string_equal(plugins_str(x, "kind"), "protocol");
    assert_string_equal(plugins_str(x, "name"), "fixture-good-4");
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(x, "raw")));
    assert_string_equal(plugins_str(x, "window"), "peer");
    assert_string_equal(cJSON_GetArrayItem(cJSON_GetObjectItem(x, "flags"), 0)->valuestring,
                        "asks");
    assert_true(plugins_num(cJSON_GetArrayItem(cJSON_GetObjectItem(x, "ids"), 0), "own") == 0x1234);
    option = cJSON_GetArrayItem(cJSON_GetObjectItem(x, "options"), 0);
    assert_string_equal(plugins_str(option, "name"), "fixture-good-4:size");
    assert_string_equal(plugins_str(option, "type"), "int");
    assert_string_equal(plugins_str(option, "unit"), "bytes");
    assert_string_equal(plugins_str(option, "doc"), "a number");
    assert_true(plugins_num(option, "default") == 5);
    assert_true(plugins_num(option, "min") == 1);
    assert_true(plugins_num(option, "max") == 9);
    option = cJSON_GetArrayItem(cJSON_GetObjectItem(x, "options"), 1);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(option, "context")));
    cJSON_Delete(list);
    plugin_dir_remove(dir);
}

/// By file name, by path, by id; and a file outside of every search directory by its path.
static void plugins_list_finds_by_file_and_id(void **state)
{
    char dir[PLUGIN_DIR_PATH];
    char other[PLUGIN_DIR_PATH];
    char *text = NULL;
    cJSON *list;

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_make(other);
    plugin_dir_copy(dir, "good-5", "five.so");
    plugin_dir_manifest(dir, "good-5", "five.json");
    plugin_dir_copy(dir, "good-6", "six.so");
    plugin_dir_manifest(dir, "good-6", "six.json");
    plugin_dir_copy(other, "good-7", "seven.so");
    plugin_dir_use(dir, NULL, NULL);
    for (size_t i = 0; i < 3; i++) {
        const char *const names[] = {"five.so", plugin_dir_path(dir, "five.so"),
                                     "org.example.fixture-good-5"};

        list = plugins_json(names[i]);
        assert_int_equal(cJSON_GetArraySize(list), 1);
        plugins_state_is(list, plugin_dir_path(dir, "five.so"), "available", "");
        cJSON_Delete(list);
    }
    assert_false(plugin_dir_mapped(plugin_dir_path(dir, "six.so")));
    list = plugins_json(plugin_dir_path(other, "seven.so"));
    plugins_state_is(list, plugin_dir_path(other, "seven.so"), "available", "");
    cJSON_Delete(list);
    assert_int_equal(sp_plugins("nothing-like-this", &text), SP_ENOPLUGIN);
    assert_null(text);
    assert_string_equal(sp_error_detail(), "plugin \"nothing-like-this\": nothing of that name");
    plugin_dir_write(dir, "text.so", "short");
    assert_int_equal(sp_plugins("nothing-like-this", &text), SP_ENOPLUGIN);
    plugins_detail_has("nothing of that name (");
    plugins_detail_has("text.so refused: ");
    assert_int_equal(sp_plugins("/nowhere/x.so", &text), SP_ENOPLUGIN);
    assert_string_equal(sp_error_detail(), "plugin /nowhere/x.so: No such file or directory");
    assert_int_equal(sp_plugins(NULL, NULL), SP_EINVAL);
    plugin_dir_remove(dir);
    plugin_dir_remove(other);
}

static void plugins_list_opens_all_but_loads_none(void **state)
{
    char dir[PLUGIN_DIR_PATH];
    cJSON *list;

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "good-8", "x.so");
    plugin_dir_manifest(dir, "good-8", "x.json");
    plugin_dir_copy(dir, "init-fails", "y.so");
    plugin_dir_write(dir, "z.so", "a text");
    plugin_dir_use(dir, NULL, NULL);
    list = plugins_json(NULL);
    plugins_state_is(list, plugin_dir_path(dir, "x.so"), "available", "");
    assert_true(plugin_dir_mapped(plugin_dir_path(dir, "x.so")));
    plugins_state_is(list, plugin_dir_path(dir, "y.so"), "available", "");
    assert_string_equal(plugins_str(plugins_entry(list, plugin_dir_path(dir, "z.so")), "state"),
                        "refused");
    cJSON_Delete(list);
    plugin_dir_remove(dir);
}

/* ------------------------------------------------------------------ Tables */

static void plugins_tables_are_whole(void **state)
{
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];
    sp_batch batch = {NULL, NULL, 0};

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "pair", "x.so");
    plugin_dir_use(dir, NULL, NULL);
    assert_int_equal(sp__registry_protocol("fixture-pair", &p), SP_OK);
    assert_true(p->has_raw);
    assert_ptr_equal(p->ops.raw, &p->raw);
    assert_null(p->raw.raw);
    assert_int_equal(p->ops.init(NULL, NULL, NULL), SP_OK);
    assert_int_equal(p->ops.ctx_open(NULL, NULL), SP_OK);
    p->ops.ctx_close(NULL, NULL);
    assert_int_equal(p->ops.pipe_add(NULL, NULL), SP_OK);
    p->ops.pipe_del(NULL, NULL);
    p->ops.on_send(NULL, NULL, &batch);
    p->ops.on_recv(NULL, NULL, &batch);
    p->ops.on_writable(NULL, NULL);
    p->ops.on_timer(NULL, NULL);
    assert_int_equal(p->raw.on_option(NULL, NULL, "x", NULL, 0), SP_ENOTSUP);
    p->raw.stop(NULL);
    p->raw.fini(NULL);
    // The second name of the same plugin is bound on its own, to the same plugin.
    assert_int_equal(sp__registry_protocol("fixture-second", &p), SP_OK);
    assert_false(p->has_raw);
    assert_string_equal(p->plugin->desc->id, "org.example.fixture-pair");
    plugin_dir_remove(dir);
}

static const sp_id_pair built_in_ids[] = {{1, 1}};
static const sp_protocol_ops built_in_ops = {
    .size = sizeof(sp_protocol_ops),
    .ids = built_in_ids,
    .id_count = 1,
    .flags = SP_PROTO_NO_SEND,
};

static const sp_plugin *plugins_unfit_entry(void)
{
    static const sp_export exports[] = {{SP_KIND_PROTOCOL, "built-in", {&built_in_ops}}};
    static const sp_plugin plugin = {
        sizeof(plugin),    1,    0,   0, "org.example.built-in", "1", "v", "l", "d", exports, 1,
        sizeof(sp_export), NULL, NULL};

    return &plugin;
}

static void built_in_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    (void)self;
    (void)pipe;
    (void)in;
}

static const sp_protocol_ops built_in_fit_ops = {
    .size = sizeof(sp_protocol_ops),
    .ids = built_in_ids,
    .id_count = 1,
    .flags = SP_PROTO_NO_SEND,
    .on_recv = built_in_on_recv,
};

static const sp_plugin *plugins_fit_entry(void)
{
    static const sp_export exports[] = {{SP_KIND_PROTOCOL, "built-in", {&built_in_fit_ops}}};
    static const sp_plugin plugin = {
        sizeof(plugin),    1,    0,   0, "org.example.built-in", "1", "v", "l", "d", exports, 1,
        sizeof(sp_export), NULL, NULL};

    return &plugin;
}

static void plugins_linked_in_are_checked_and_listed(void **state)
{
    const struct sp__protocol *p;
    cJSON *list;

    (void)state;
    plugin_dir_use(NULL, NULL, NULL);
    assert_int_equal(sp__registry_add(plugins_unfit_entry), SP_EABI);
    assert_string_equal(sp_error_detail(),
                        "built-in plugin refused: protocol \"built-in\": missing op on_recv");
    assert_int_equal(sp__registry_add(plugins_fit_entry), SP_OK);
    assert_int_equal(sp__registry_add(plugins_fit_entry), SP_OK);
    assert_int_equal(sp__registry_protocol("built-in", &p), SP_OK);
    assert_null(p->plugin->path);
    list = plugins_json("built-in");
    plugins_state_is(list, "built in", "loaded", "");
    cJSON_Delete(list);
}

/* ------------------------------------------------------------------ Threads */

static void *plugins_look_up(void *arg)
{
    const struct sp__protocol **out = arg;

    return sp__registry_protocol("fixture-good-9", out) == SP_OK ? NULL : arg;
}

static void plugins_wanted_by_many_threads_load_once(void **state)
{
    const struct sp__protocol *found[8];
    pthread_t threads[8];
    char dir[PLUGIN_DIR_PATH];
    void *failed;

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "good-9", "x.so");
    plugin_dir_use(dir, NULL, NULL);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, plugins_look_up, &found[i]), 0);
    }
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
        assert_ptr_equal(found[i], found[0]);
    }
    plugin_dir_remove(dir);
}

/* ------------------------------------------------------------------ Memory */

static long plugins_allocations_left;

static void *plugins_scarce_alloc(size_t size, size_t align)
{
    return plugins_allocations_left-- > 0 ? sp__platform_linux.alloc(size, align) : NULL;
}

/// With the n-th allocation failing, for every n until none fails: SP_ENOMEM, and nothing is spoilt
/// for the next try.
static void plugins_survive_every_failing_allocation(void **state)
{
    const struct sp_platform *before = sp__platform;
    struct sp_platform scarce = *before;
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];
    int err = SP_ENOMEM;
    char *json = NULL;
    long n;

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "good-10", "x.so");
    plugin_dir_manifest(dir, "good-10", "x.json");
    plugin_dir_use(dir, NULL, NULL);
    scarce.alloc = plugins_scarce_alloc;
    for (n = 0; err == SP_ENOMEM && n < 1000; n++) {
        plugins_allocations_left = n;
        sp__platform = &scarce;
        err = sp__registry_protocol("fixture-good-10", &p);
        sp__platform = before;
    }
    assert_int_equal(err, SP_OK);
    assert_in_range(n, 10, 999);
    err = SP_ENOMEM;
    for (n = 0; err == SP_ENOMEM && n < 1000; n++) {
        plugins_allocations_left = n;
        sp__platform = &scarce;
        err = sp_plugins("fixture-good-10", &json);
        sp__platform = before;
    }
    assert_int_equal(err, SP_OK);
    assert_in_range(n, 10, 999);
    sp_free(json);
    plugin_dir_remove(dir);
}

static int plugins_setup(void **state)
{
    (void)state;
    return unsetenv("SP_PLUGIN_PATH");
}

static int plugins_teardown(void **state)
{
    (void)state;
    sp_fini();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plugins_open_only_the_file_they_need),
        cmocka_unit_test(plugins_without_manifest_are_asked),
        cmocka_unit_test(plugins_not_found_tell_every_directory),
        cmocka_unit_test(plugins_of_earlier_directories_win),
        cmocka_unit_test(plugins_refused_give_way_to_later_ones),
        cmocka_unit_test(plugins_twice_in_a_directory_are_refused),
        cmocka_unit_test(plugins_twice_without_manifest_are_refused),
        cmocka_unit_test(plugins_loaded_by_path_may_not_take_a_name),
        cmocka_unit_test(plugins_with_another_manifest_are_refused),
        cmocka_unit_test(plugins_with_another_manifest_are_refused_by_name),
        cmocka_unit_test(plugins_list_has_details),
        cmocka_unit_test(plugins_list_finds_by_file_and_id),
        cmocka_unit_test(plugins_list_opens_all_but_loads_none),
        cmocka_unit_test(plugins_tables_are_whole),
        cmocka_unit_test(plugins_linked_in_are_checked_and_listed),
        cmocka_unit_test(plugins_wanted_by_many_threads_load_once),
        cmocka_unit_test(plugins_survive_every_failing_allocation),
    };

    return cmocka_run_group_tests(tests, plugins_setup, plugins_teardown);
}
