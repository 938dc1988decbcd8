/* SPDX-License-Identifier: MIT */
/// Opening plugin files by libltdl. It opens lazily and replaces the linker's message by "file not
/// found", so a plain dlopen with all symbols bound goes first and says what is wrong; libltdl then
/// finds the object in memory. It compares names as strings and searches for bare ones, so it gets
/// real paths only. Called under the registry's mutex.
#include "loader.h"

#include "platform.h"

#include <dlfcn.h>
#include <limits.h>
#include <ltdl.h>
#include <stdlib.h>
#include <string.h>

#define LOADER_OTHER_MAJORS 9

/// A file that is in memory, for the rest of the process's life.
struct loader_file {
    struct loader_file *next;
    char *path;
    const sp_plugin *desc;
    int err; ///< SP_OK, or SP_EABI because of `why`
    struct sp__why why;
};

typedef const sp_plugin *(*loader_entry)(void);

static struct loader_file *loader_files;

/// The linker's message of this thread, which the next call of it overwrites.
static int loader_link_error(struct sp__why *why)
{
    const char *text = dlerror();

    return sp__why_set(why, SP_EABI, "%s", text != NULL ? text : "unknown linker error");
}

/// Says that there is no entry, and whether there is one for another major.
static int loader_no_entry(lt_dlhandle handle, struct sp__why *why)
{
    for (unsigned major = 0; major <= LOADER_OTHER_MAJORS; major++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "sp_plugin_entry_v%u", major);
        if (lt_dlsym(handle, name) != NULL) {
            return sp__why_set(why, SP_EABI,
                               "no entry " SP_PLUGIN_ENTRY_NAME
                               " (exports %s: built for another ABI major)",
                               name);
        }
    }
    return sp__why_set(why, SP_EABI, "no entry " SP_PLUGIN_ENTRY_NAME);
}

/// A symbol search also goes through the libraries that the file needs: the entry has to be the
/// file's own.
static int loader_check_place(const void *symbol, const char *path, struct sp__why *why)
{
    char real[PATH_MAX];
    Dl_info info;

    if (dladdr(symbol, &info) == 0 || info.dli_fname == NULL) {
        return sp__why_set(why, SP_EABI, "entry " SP_PLUGIN_ENTRY_NAME " lies in no file");
    }
    if (strcmp(info.dli_fname, path) != 0 &&
        (realpath(info.dli_fname, real) == NULL || strcmp(real, path) != 0)) {
        return sp__why_set(why, SP_EABI, "entry " SP_PLUGIN_ENTRY_NAME " lies in another file: %s",
                           info.dli_fname);
    }
    return SP_OK;
}

static int loader_ltdl_open(const char *path, lt_dlhandle *handle, struct sp__why *why)
{
    lt_dladvise advise;

    if (lt_dladvise_init(&advise) != 0) {
        return sp__why_set(why, SP_ENOMEM, "libltdl: %s", lt_dlerror());
    }
    *handle = NULL;
    if (lt_dladvise_local(&advise) == 0 && lt_dladvise_resident(&advise) == 0) {
        *handle = lt_dlopenadvise(path, advise);
    }
    (void)lt_dladvise_destroy(&advise);
    return *handle != NULL ? SP_OK : sp__why_set(why, SP_EABI, "libltdl: %s", lt_dlerror());
}

/// Brings the file into memory for good, with every symbol bound.
static int loader_map(const char *path, lt_dlhandle *handle, struct sp__why *why)
{
    void *preflight = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    int err;

    if (preflight == NULL) {
        return loader_link_error(why);
    }
    err = loader_ltdl_open(path, handle, why);
    (void)dlclose(preflight);
    return err;
}

/// Finds the entry and calls it.
static int loader_ask(lt_dlhandle handle, struct loader_file *file)
{
    void *symbol = lt_dlsym(handle, SP_PLUGIN_ENTRY_NAME);
    loader_entry entry;
    int err;

    if (symbol == NULL) {
        return loader_no_entry(handle, &file->why);
    }
    err = loader_check_place(symbol, file->path, &file->why);
    if (err < 0) {
        return err;
    }
    memcpy(&entry, &symbol,
           sizeof(entry)); // ISO C has no cast from an object's to a function's address
    file->desc = entry();
    return SP_OK;
}

static int loader_open_new(const char *path, struct loader_file **out, struct sp__why *why)
{
    static bool ready;
    struct loader_file *file;
    lt_dlhandle handle = NULL;
    int err;

    if (!ready && lt_dlinit() != 0) {
        return sp__why_set(why, SP_ENOMEM, "libltdl: %s", lt_dlerror());
    }
    ready = true;
    file = sp__zalloc(sizeof(*file));
    if (file == NULL || (file->path = sp__strdup(path)) == NULL) {
        sp__free(file);
        return sp__why_set(why, SP_ENOMEM, "no memory");
    }
    err = loader_map(path, &handle, why);
    if (err < 0) {
        sp__free(file->path);
        sp__free(file);
        return err;
    }
    file->err = loader_ask(handle, file);
    file->next = loader_files;
    loader_files = file;
    *out = file;
    return SP_OK;
}

int sp__loader_open(const char *path, const sp_plugin **desc, struct sp__why *why)
{
    struct loader_file *file = loader_files;
    int err;

    while (file != NULL && strcmp(file->path, path) != 0) {
        file = file->next;
    }
    if (file == NULL) {
        err = loader_open_new(path, &file, why);
        if (err < 0) {
            return err;
        }
    }
    if (file->err < 0) {
        return sp__why_set(why, file->err, "%s", file->why.text);
    }
    *desc = file->desc;
    return SP_OK;
}
