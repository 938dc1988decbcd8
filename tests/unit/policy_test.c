/* SPDX-License-Identifier: MIT */
/// Who may be loaded: the judgement over made-up facts, and real files in real directories.
#include "plugin_dir.h"
#include "policy.h"
#include "registry.h"

#include <sp/sp.h>

#include <setjmp.h>
#include <sha2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ------------------------------------------------------------------ The judgement */

static const struct sp__trust policy_alice = {
    .user = 1000,
    .group = 1000,
    .group_known = true,
    .lib_owner = 500,
    .owners = {2000, 2001},
    .owner_count = 2,
};

struct judgement {
    enum sp__place place;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    const char *refusal; ///< NULL: admitted
};

static const struct judgement judgements[] = {
    {SP__PLACE_FILE, S_IFREG | 0755, 0, 0, NULL},
    {SP__PLACE_FILE, S_IFREG | 0755, 1000, 1000, NULL},
    {SP__PLACE_FILE, S_IFREG | 0755, 500, 0, NULL},
    {SP__PLACE_FILE, S_IFREG | 0755, 2001, 0, NULL},
    {SP__PLACE_FILE, S_IFREG | 0755, 1001, 1000,
     "/a/b belongs to user 1001, who is not trusted: chown root /a/b, or add 1001 to "
     "plugin-owners"},
    {SP__PLACE_DIR, S_IFDIR | 0755, 1001, 1000,
     "/a/b belongs to user 1001, who is not trusted: chown root /a/b, or add 1001 to "
     "plugin-owners"},
    {SP__PLACE_ANCESTOR, S_IFDIR | 0755, 1001, 1000,
     "/a/b belongs to user 1001, who is not trusted: chown root /a/b, or add 1001 to "
     "plugin-owners"},
    {SP__PLACE_FILE, S_IFREG | 0757, 0, 0, "/a/b is writable by others: chmod o-w /a/b"},
    {SP__PLACE_DIR, S_IFDIR | 0777, 0, 0, "/a/b is writable by others: chmod o-w /a/b"},
    {SP__PLACE_ANCESTOR, S_IFDIR | 0777, 0, 0, "/a/b is writable by others: chmod o-w /a/b"},
    // The sticky temporary directory: above the plugin directory, not as the plugin directory, and
    // only root's.
    {SP__PLACE_ANCESTOR, S_IFDIR | S_ISVTX | 0777, 0, 0, NULL},
    {SP__PLACE_DIR, S_IFDIR | S_ISVTX | 0777, 0, 0, "/a/b is writable by others: chmod o-w /a/b"},
    {SP__PLACE_ANCESTOR, S_IFDIR | S_ISVTX | 0777, 1000, 0,
     "/a/b is writable by others: chmod o-w /a/b"},
    // Group write: the user's own group only.
    {SP__PLACE_FILE, S_IFREG | 0775, 1000, 1000, NULL},
    {SP__PLACE_DIR, S_IFDIR | 0775, 0, 1000, NULL},
    {SP__PLACE_FILE, S_IFREG | 0775, 1000, 50, "/a/b is writable by group 50: chmod g-w /a/b"},
    {SP__PLACE_DIR, S_IFDIR | 0775, 0, 0, "/a/b is writable by group 0: chmod g-w /a/b"},
    {SP__PLACE_FILE, S_IFDIR | 0755, 0, 0, "/a/b is not a regular file"},
    {SP__PLACE_FILE, S_IFIFO | 0644, 0, 0, "/a/b is not a regular file"},
    {SP__PLACE_DIR, S_IFREG | 0644, 0, 0, "/a/b is not a directory"},
};

static void policy_judges_owner_and_mode(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(judgements) / sizeof(judgements[0]); i++) {
        const struct judgement *j = &judgements[i];
        const struct sp__facts facts = {.mode = j->mode, .uid = j->uid, .gid = j->gid};
        struct sp__why why = {.text = ""};
        int err = sp__policy_judge(&policy_alice, &facts, j->place, "/a/b", &why);

        assert_int_equal(err, j->refusal != NULL ? SP_EABI : SP_OK);
        assert_string_equal(why.text, j->refusal != NULL ? j->refusal : "");
    }
}

static void policy_trusts_no_group_in_a_setuid_program(void **state)
{
    const struct sp__facts facts = {.mode = S_IFREG | 0775, .uid = 0, .gid = 1000};
    struct sp__trust trust = policy_alice;
    struct sp__why why;

    (void)state;
    assert_int_equal(sp__policy_judge(&trust, &facts, SP__PLACE_FILE, "/x", &why), SP_OK);
    trust.group_known = false;
    assert_int_equal(sp__policy_judge(&trust, &facts, SP__PLACE_FILE, "/x", &why), SP_EABI);
}

static void policy_reads_owners_from_settings(void **state)
{
    struct sp_config cfg;
    struct sp__trust trust;

    (void)state;
    sp__config_defaults(&cfg);
    cfg.plugin_owners = (char[]){"7,4294967294"};
    sp__policy_trust(&trust, &cfg);
    assert_int_equal(trust.owner_count, 2);
    assert_int_equal(trust.owners[0], 7);
    assert_int_equal(trust.owners[1], 4294967294U);
    assert_int_equal(trust.user, geteuid());
}

/* ------------------------------------------------------------------ Files */

static void policy_detail_is(const char *fmt, const char *a, const char *b)
{
    char text[2048];

    (void)snprintf(text, sizeof(text), fmt, a, b);
    if (strstr(sp_error_detail(), text) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", text, sp_error_detail());
    }
}

/// Refused by name and by path with the reason; then mended, and it loads.
static void policy_refuses_until_mended(const char *dir, const char *name, const char *target,
                                        mode_t bad, mode_t good)
{
    const struct sp__protocol *p;
    const char *path = plugin_dir_path(dir, "x.so");

    assert_int_equal(chmod(target, bad), 0);
    assert_int_equal(sp__registry_protocol(name, &p), SP_EABI);
    policy_detail_is("%s is writable by others: chmod o-w %s", target, target);
    assert_int_equal(sp_plugin_load(path), SP_EABI);
    policy_detail_is("%s is writable by others: chmod o-w %s", target, target);
    assert_false(plugin_dir_mapped(path));
    assert_int_equal(chmod(target, good), 0);
    assert_int_equal(sp__registry_protocol(name, &p), SP_OK);
    assert_true(plugin_dir_mapped(path));
}

static void policy_refuses_world_writable_file(void **state)
{
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "alpha", "x.so");
    plugin_dir_manifest(dir, "alpha", "x.json");
    plugin_dir_use(dir, NULL, NULL);
    policy_refuses_until_mended(dir, "fixture-alpha", plugin_dir_path(dir, "x.so"), 0777, 0755);
    plugin_dir_remove(dir);
}

static void policy_refuses_world_writable_directory(void **state)
{
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "beta", "x.so");
    plugin_dir_use(dir, NULL, NULL);
    policy_refuses_until_mended(dir, "fixture-beta", dir, 0777, 0755);
    plugin_dir_remove(dir);
}

static void policy_refuses_world_writable_ancestor(void **state)
{
    char top[PLUGIN_DIR_PATH];
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(top);
    (void)snprintf(dir, sizeof(dir), "%s", plugin_dir_path(top, "sub"));
    assert_int_equal(mkdir(dir, 0755), 0);
    plugin_dir_copy(dir, "gamma", "x.so");
    plugin_dir_use(dir, NULL, NULL);
    policy_refuses_until_mended(dir, "fixture-gamma", top, 0777, 0755);
    plugin_dir_remove(top);
}

static void policy_refuses_symlink_out_of_the_directory(void **state)
{
    const struct sp__protocol *p;
    char elsewhere[PLUGIN_DIR_PATH];
    char dir[PLUGIN_DIR_PATH];
    const char *target;

    (void)state;
    plugin_dir_make(elsewhere);
    plugin_dir_make(dir);
    plugin_dir_copy(elsewhere, "delta", "real.so");
    target = plugin_dir_path(elsewhere, "real.so");
    assert_int_equal(symlink(target, plugin_dir_path(dir, "x.so")), 0);
    plugin_dir_use(dir, NULL, NULL);
    assert_int_equal(sp__registry_protocol("fixture-delta", &p), SP_EABI);
    policy_detail_is("%s is a symbolic link out of its directory, to %s",
                     plugin_dir_path(dir, "x.so"), target);
    assert_int_equal(sp_plugin_load(plugin_dir_path(dir, "x.so")), SP_EABI);
    assert_false(plugin_dir_mapped(target));
    assert_int_equal(sp_plugin_load(target), SP_OK);
    plugin_dir_remove(dir);
    plugin_dir_remove(elsewhere);
}

static void policy_refuses_symlink_into_a_subdirectory(void **state)
{
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    assert_int_equal(mkdir(plugin_dir_path(dir, "sub"), 0755), 0);
    plugin_dir_copy(dir, "iota", "sub/x.so");
    assert_int_equal(symlink("sub/x.so", plugin_dir_path(dir, "x.so")), 0);
    plugin_dir_use(dir, NULL, NULL);
    assert_int_equal(sp_plugin_load(plugin_dir_path(dir, "x.so")), SP_EABI);
    policy_detail_is("%s is a symbolic link out of its directory, to %s",
                     plugin_dir_path(dir, "x.so"), plugin_dir_path(dir, "sub/x.so"));
    plugin_dir_remove(dir);
}

/// A file that may not be loaded cannot make a name ambiguous either.
static void policy_keeps_denied_files_from_names_of_others(void **state)
{
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "kappa", "bad.so");
    plugin_dir_manifest(dir, "kappa", "bad.json");
    assert_int_equal(chmod(plugin_dir_path(dir, "bad.so"), 0777), 0);
    plugin_dir_copy(dir, "kappa", "good.so");
    plugin_dir_manifest(dir, "kappa", "good.json");
    plugin_dir_use(dir, NULL, NULL);
    assert_int_equal(sp__registry_protocol("fixture-kappa", &p), SP_OK);
    assert_string_equal(p->plugin->path, plugin_dir_path(dir, "good.so"));
    plugin_dir_remove(dir);
}

static void policy_admits_symlink_within_the_directory(void **state)
{
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "epsilon", "x.so.1");
    assert_int_equal(symlink("x.so.1", plugin_dir_path(dir, "x.so")), 0);
    plugin_dir_manifest(dir, "epsilon", "x.json");
    plugin_dir_use(dir, NULL, NULL);
    assert_int_equal(sp__registry_protocol("fixture-epsilon", &p), SP_OK);
    assert_string_equal(p->plugin->path, plugin_dir_path(dir, "x.so.1"));
    plugin_dir_remove(dir);
}

static void policy_loads_nothing_when_turned_off(void **state)
{
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "zeta", "x.so");
    plugin_dir_manifest(dir, "zeta", "x.json");
    plugin_dir_use_off(dir);
    assert_int_equal(sp__registry_protocol("fixture-zeta", &p), SP_EABI);
    policy_detail_is("%s refused: loading is turned off (plugins-off)",
                     plugin_dir_path(dir, "x.so"), "");
    assert_int_equal(sp_plugin_load(plugin_dir_path(dir, "x.so")), SP_EABI);
    assert_false(plugin_dir_mapped(plugin_dir_path(dir, "x.so")));
    plugin_dir_use(dir, NULL, NULL);
    assert_int_equal(sp__registry_protocol("fixture-zeta", &p), SP_OK);
    plugin_dir_remove(dir);
}

static void policy_checks_the_digest_when_asked(void **state)
{
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];
    char digest[SHA256_DIGEST_STRING_LENGTH];
    FILE *f;

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "lambda", "x.so");
    plugin_dir_manifest(dir, "lambda", "x.json");
    plugin_dir_use_int(dir, "plugin-sha256", 1);
    assert_int_equal(sp__registry_protocol("fixture-lambda", &p), SP_EABI);
    assert_non_null(strstr(sp_error_detail(), "cannot read its digest"));
    f = fopen(plugin_dir_path(dir, "x.so.sha256"), "we");
    assert_non_null(f);
    assert_true(fprintf(f, "%064d  x.so\n", 0) > 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(sp__registry_protocol("fixture-lambda", &p), SP_EABI);
    assert_non_null(strstr(sp_error_detail(), "its SHA-256 is "));
    assert_false(plugin_dir_mapped(plugin_dir_path(dir, "x.so")));
    assert_non_null(SHA256File(plugin_dir_path(dir, "x.so"), digest));
    f = fopen(plugin_dir_path(dir, "x.so.sha256"), "we");
    assert_non_null(f);
    assert_true(fprintf(f, "%s  x.so\n", digest) > 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(sp__registry_protocol("fixture-lambda", &p), SP_OK);
    plugin_dir_remove(dir);
}

/* ------------------------------------------------------------------ The allow-list */

static void policy_allows_by_id(void **state)
{
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "eta", "x.so");
    plugin_dir_manifest(dir, "eta", "x.json");
    plugin_dir_use(dir, "plugin-allow", "org.example.other:org.example.another");
    assert_int_equal(sp__registry_protocol("fixture-eta", &p), SP_EABI);
    policy_detail_is("not in plugin-allow: add %s or %s", "org.example.fixture-eta",
                     plugin_dir_path(dir, "x.so"));
    assert_false(plugin_dir_mapped(plugin_dir_path(dir, "x.so")));
    plugin_dir_use(dir, "plugin-allow", "org.example.other:org.example.fixture-eta");
    assert_int_equal(sp__registry_protocol("fixture-eta", &p), SP_OK);
    plugin_dir_remove(dir);
}

/// Without a manifest that others cannot write, only the path tells one plugin from another before
/// its code runs.
static void policy_believes_no_id_that_others_can_write(void **state)
{
    const struct sp__protocol *p;
    char dir[PLUGIN_DIR_PATH];

    (void)state;
    plugin_dir_make(dir);
    plugin_dir_copy(dir, "theta", "x.so");
    plugin_dir_use(dir, "plugin-allow", "org.example.fixture-theta");
    assert_int_equal(sp__registry_protocol("fixture-theta", &p), SP_EABI);
    policy_detail_is("not in plugin-allow (no manifest tells its id): add %s",
                     plugin_dir_path(dir, "x.so"), "");
    plugin_dir_manifest(dir, "theta", "x.json");
    assert_int_equal(chmod(plugin_dir_path(dir, "x.json"), 0666), 0);
    assert_int_equal(sp__registry_protocol("fixture-theta", &p), SP_EABI);
    assert_false(plugin_dir_mapped(plugin_dir_path(dir, "x.so")));
    plugin_dir_use(dir, "plugin-allow", plugin_dir_path(dir, "x.so"));
    assert_int_equal(sp__registry_protocol("fixture-theta", &p), SP_OK);
    plugin_dir_remove(dir);
}

static int policy_setup(void **state)
{
    (void)state;
    return unsetenv("SP_PLUGIN_PATH");
}

static int policy_teardown(void **state)
{
    (void)state;
    sp_fini();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(policy_judges_owner_and_mode),
        cmocka_unit_test(policy_trusts_no_group_in_a_setuid_program),
        cmocka_unit_test(policy_reads_owners_from_settings),
        cmocka_unit_test(policy_refuses_world_writable_file),
        cmocka_unit_test(policy_refuses_world_writable_directory),
        cmocka_unit_test(policy_refuses_world_writable_ancestor),
        cmocka_unit_test(policy_refuses_symlink_out_of_the_directory),
        cmocka_unit_test(policy_refuses_symlink_into_a_subdirectory),
        cmocka_unit_test(policy_keeps_denied_files_from_names_of_others),
        cmocka_unit_test(policy_admits_symlink_within_the_directory),
        cmocka_unit_test(policy_loads_nothing_when_turned_off),
        cmocka_unit_test(policy_checks_the_digest_when_asked),
        cmocka_unit_test(policy_allows_by_id),
        cmocka_unit_test(policy_believes_no_id_that_others_can_write),
    };

    return cmocka_run_group_tests(tests, policy_setup, policy_teardown);
}
