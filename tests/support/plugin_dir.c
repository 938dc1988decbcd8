/* SPDX-License-Identifier: MIT */
/// Directories of plugins for tests. They stand in the build tree: a shared temporary directory
/// would be fine for policy too, but may forbid execution. The test's own thread.
#include "plugin_dir.h"

#include <sp/sp.h>

#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

void plugin_dir_make(char dir[PLUGIN_DIR_PATH])
{
    char made[PLUGIN_DIR_PATH] = SP_TEST_BUILD_DIR "/tests/plugin-dir-XXXXXX";
    char real[PATH_MAX];

    assert_non_null(mkdtemp(made));
    assert_non_null(realpath(made, real));
    assert_in_range(snprintf(dir, PLUGIN_DIR_PATH, "%s", real), 1, PLUGIN_DIR_PATH - 64);
}

static int plugin_dir_remove_one(const char *path, const struct stat *st, int type,
                                 struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

void plugin_dir_remove(const char *dir)
{
    assert_int_equal(nftw(dir, plugin_dir_remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

const char *plugin_dir_path(const char *dir, const char *file)
{
    static char paths[8][PLUGIN_DIR_PATH];
    static unsigned turn;
    char *path = paths[turn++ % 8];

    assert_in_range(snprintf(path, PLUGIN_DIR_PATH, "%s/%s", dir, file), 1, PLUGIN_DIR_PATH - 1);
    return path;
}

void plugin_dir_copy(const char *dir, const char *fixture, const char *file)
{
    char from[PLUGIN_DIR_PATH];
    char buf[8192];
    size_t n;
    FILE *in;
    FILE *out;

    (void)snprintf(from, sizeof(from), SP_TEST_BUILD_DIR "/tests/plugins/%s/x.so", fixture);
    in = fopen(from, "rb");
    assert_non_null(in);
    out = fopen(plugin_dir_path(dir, file), "wb");
    assert_non_null(out);
    while ((n = fread(buf, 1, sizeof(buf), in)) > 0) {
        assert_int_equal(fwrite(buf, 1, n, out), n);
    }
    assert_int_equal(fclose(in), 0);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(plugin_dir_path(dir, file), 0755), 0);
}

void plugin_dir_write(const char *dir, const char *file, const char *text)
{
    FILE *out = fopen(plugin_dir_path(dir, file), "wb");

    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(plugin_dir_path(dir, file), 0644), 0);
}

void plugin_dir_manifest(const char *dir, const char *fixture, const char *file)
{
    char text[512];

    (void)snprintf(text, sizeof(text),
                   "{\"id\":\"org.example.fixture-%s\",\"version\":\"1.2.3\",\"abi\":\"1.0\","
                   "\"exports\":[{\"kind\":\"protocol\",\"name\":\"fixture-%s\"}]}\n",
                   fixture, fixture);
    plugin_dir_write(dir, file, text);
}

void plugin_dir_use(const char *dirs, const char *name, const char *value)
{
    sp_config *cfg = NULL;

    sp_fini();
    assert_int_equal(sp_config_new(&cfg), SP_OK);
    if (dirs != NULL) {
        assert_int_equal(sp_config_set_str(cfg, "plugin-dirs", dirs), SP_OK);
    }
    if (name != NULL) {
        assert_int_equal(sp_config_set_str(cfg, name, value), SP_OK);
    }
    assert_int_equal(sp_init(cfg), SP_OK);
    sp_config_free(cfg);
}

void plugin_dir_use_off(const char *dirs)
{
    plugin_dir_use_int(dirs, "plugins-off", 1);
}

void plugin_dir_use_int(const char *dirs, const char *name, int64_t value)
{
    sp_config *cfg = NULL;

    sp_fini();
    assert_int_equal(sp_config_new(&cfg), SP_OK);
    assert_int_equal(sp_config_set_str(cfg, "plugin-dirs", dirs), SP_OK);
    assert_int_equal(sp_config_set_int(cfg, name, value), SP_OK);
    assert_int_equal(sp_init(cfg), SP_OK);
    sp_config_free(cfg);
}

bool plugin_dir_mapped(const char *path)
{
    char line[PATH_MAX + 128];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");

    assert_non_null(maps);
    while (!found && fgets(line, sizeof(line), maps) != NULL) {
        const char *name = strchr(line, '/');

        line[strcspn(line, "\n")] = '\0';
        found = name != NULL && strcmp(name, path) == 0;
    }
    assert_int_equal(fclose(maps), 0);
    return found;
}
