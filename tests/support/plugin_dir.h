/* SPDX-License-Identifier: MIT */
/// Directories of plugins, made for one test out of the fixtures in tests/support/plugins. Failures
/// fail the test, so all of it is for the test's own thread.
#ifndef PLUGIN_DIR_H
#define PLUGIN_DIR_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#define PLUGIN_DIR_PATH 512

/// Makes an empty directory that policy admits and writes its real path to `dir`.
void plugin_dir_make(char dir[PLUGIN_DIR_PATH]);
/// Removes it with all that is in it.
void plugin_dir_remove(const char *dir);

/// `dir`/`file`, in one of a few static buffers in turn.
const char *plugin_dir_path(const char *dir, const char *file);
/// Copies a fixture's x.so to `dir`/`file`; writes text to `dir`/`file`.
void plugin_dir_copy(const char *dir, const char *fixture, const char *file);
void plugin_dir_write(const char *dir, const char *file, const char *text);
/// Writes the right manifest of a good fixture with one name to `dir`/`file`.
void plugin_dir_manifest(const char *dir, const char *fixture, const char *file);

/// Starts the runtime anew with these "plugin-dirs" (NULL: none), and one more setting when `name`
/// is not NULL.
void plugin_dir_use(const char *dirs, const char *name, const char *value);
/// The same with "plugins-off".
void plugin_dir_use_off(const char *dirs);
/// The same with any whole-number setting.
void plugin_dir_use_int(const char *dirs, const char *name, int64_t value);

/// Whether the file is in this process's memory.
bool plugin_dir_mapped(const char *path);

#endif
