/* SPDX-License-Identifier: MIT */
/// sp-manifest PLUGIN.so [OUT.json]: asks a built plugin for its descriptor and writes the manifest
/// that stands beside it. Runs at build time only; the loader takes the manifest as a hint and
/// checks it against the descriptor.
#include <sp/plugin.h>

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((noreturn, format(printf, 2, 3))) static void fail(const char *path,
                                                                 const char *format, ...)
{
    va_list args;

    (void)fprintf(stderr, "sp-manifest: %s: ", path);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    exit(1); // NOLINT(concurrency-mt-unsafe): there is one thread
}

static void put_string(FILE *out, const char *s)
{
    (void)fputc('"', out);
    for (const unsigned char *p = (const unsigned char *)s; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\') {
            (void)fprintf(out, "\\%c", *p);
        } else if (*p < 0x20) {
            (void)fprintf(out, "\\u%04x", (unsigned)*p);
        } else {
            (void)fputc(*p, out);
        }
    }
    (void)fputc('"', out);
}

static const char *kind_name(const char *path, sp_kind kind)
{
    switch (kind) {
    case SP_KIND_PROTOCOL:
        return "protocol";
    case SP_KIND_TRANSPORT:
        return "transport";
    case SP_KIND_ACTOR:
        return "actor";
    }
    fail(path, "export of unknown kind %d", (int)kind);
}

static const sp_plugin *descriptor(const char *path)
{
    const sp_plugin *(*entry)(void);
    const sp_plugin *plugin;
    void *file = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (file == NULL) {
        fail(path, "%s", dlerror());
    }
    *(void **)&entry = dlsym(file, SP_PLUGIN_ENTRY_NAME);
    if (entry == NULL) {
        fail(path, "no %s", SP_PLUGIN_ENTRY_NAME);
    }
    plugin = entry();
    if (plugin == NULL || plugin->size < offsetof(sp_plugin, load) ||
        plugin->abi_major != SP_ABI_MAJOR) {
        fail(path, "no descriptor of ABI %d", SP_ABI_MAJOR);
    }
    if (plugin->id == NULL || plugin->version == NULL || plugin->exports == NULL ||
        plugin->export_count == 0 || plugin->export_size < sizeof(sp_export)) {
        fail(path, "the descriptor lacks its id, version or exports");
    }
    return plugin;
}

static void write_manifest(FILE *out, const char *path, const sp_plugin *plugin)
{
    const char *at = (const char *)plugin->exports;

    (void)fputs("{\"id\":", out);
    put_string(out, plugin->id);
    (void)fputs(",\"version\":", out);
    put_string(out, plugin->version);
    (void)fprintf(out, ",\"abi\":\"%u.%u\",\"exports\":[", (unsigned)plugin->abi_major,
                  (unsigned)plugin->abi_minor_built);
    for (size_t i = 0; i < plugin->export_count; i++, at += plugin->export_size) {
        sp_export item;

        memcpy(&item, at, sizeof(item));
        if (item.name == NULL) {
            fail(path, "export %zu has no name", i);
        }
        (void)fprintf(out, "%s{\"kind\":\"%s\",\"name\":", i == 0 ? "" : ",",
                      kind_name(path, item.kind));
        put_string(out, item.name);
        (void)fputc('}', out);
    }
    (void)fputs("]}\n", out);
}

int main(int argc, char **argv)
{
    const sp_plugin *plugin;
    FILE *out = stdout;

    if (argc < 2 || argc > 3) {
        (void)fputs("usage: sp-manifest PLUGIN.so [OUT.json]\n", stderr);
        return 2;
    }
    plugin = descriptor(argv[1]);
    if (argc == 3) {
        out = fopen(argv[2], "we");
        if (out == NULL) {
            fail(argv[2], "cannot write");
        }
    }
    write_manifest(out, argv[1], plugin);
    if (ferror(out) || fclose(out) != 0) {
        fail(argc == 3 ? argv[2] : "standard output", "cannot write");
    }
    return 0;
}
