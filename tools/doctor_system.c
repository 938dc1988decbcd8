/* SPDX-License-Identifier: MIT */
/// What `sp doctor` finds without being asked for anything special: the search path, the plugins,
/// capabilities and limits. [main thread]
#include "doctor.h"
#include "tool.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define DOCTOR_FILES_WANTED 1024
#define DOCTOR_BACKLOG_WANTED 128
#define DOCTOR_QLEN_WANTED 10

/* ------------------------------------------------------------------ The search path */

/// How many files in a directory have names that end as plugins' do. Negative: errno.
static int doctor_count_files(const char *dir)
{
    DIR *stream = opendir(dir);
    const struct dirent *entry;
    int count = 0;

    if (stream == NULL) {
        return -errno;
    }
    while ((entry = readdir(stream)) != NULL) { // NOLINT(concurrency-mt-unsafe): our own stream
        size_t n = strlen(entry->d_name);

        count += n > 3 && strcmp(entry->d_name + n - 3, ".so") == 0 ? 1 : 0;
    }
    (void)closedir(stream);
    return count;
}

/// How many plugins of the list lie in `dir` and have one of two states.
static int doctor_count_plugins(const struct doctor *d, const char *dir, const char *state,
                                const char *other_state)
{
    size_t n = strlen(dir);
    const cJSON *plugin;
    int count = 0;

    cJSON_ArrayForEach(plugin, d->plugins)
    {
        const char *file = tool_text(plugin, "file", "");
        const char *its = tool_text(plugin, "state", "");

        if (strncmp(file, dir, n) == 0 && file[n] == '/' && strchr(file + n + 1, '/') == NULL) {
            count += strcmp(its, state) == 0 || strcmp(its, other_state) == 0 ? 1 : 0;
        }
    }
    return count;
}

static void doctor_dir(struct doctor *d, const char *dir, const char *origin)
{
    char real[PATH_MAX];
    struct stat st;
    int files;

    if (dir[0] != '/') {
        doctor_add(d, DOCTOR_FAIL, dir, "give the whole path, beginning with /",
                   "not an absolute path (from %s)", origin);
        return;
    }
    if (realpath(dir, real) == NULL || stat(real, &st) < 0) {
        doctor_add(d, DOCTOR_FAIL, dir, "correct it or make the directory", "%s (from %s)",
                   strerrordesc_np(errno), origin);
        return;
    }
    files = doctor_count_files(real);
    if (files < 0) {
        doctor_add(d, DOCTOR_FAIL, dir, "it must be a directory that this user may read",
                   "%s (from %s)", strerrordesc_np(-files), origin);
        return;
    }
    doctor_add(d, files > 0 ? DOCTOR_OK : DOCTOR_WARN, dir, NULL,
               "%d plugin files, %d of them loadable (owner %u, mode %04o, from %s)", files,
               doctor_count_plugins(d, real, "available", "loaded"), (unsigned)st.st_uid,
               (unsigned)(st.st_mode & 07777), origin);
}

/// The directories of SP_PLUGIN_PATH. Returns how many.
static int doctor_environment_dirs(struct doctor *d)
{
    const char *list = secure_getenv("SP_PLUGIN_PATH");
    int count = 0;

    while (list != NULL && *list != '\0') {
        size_t n = strcspn(list, ":");
        char *dir = n > 0 ? strndup(list, n) : NULL;

        if (dir != NULL) {
            doctor_dir(d, dir, "SP_PLUGIN_PATH");
            free(dir);
            count++;
        }
        list += n;
        list += *list == ':' ? 1 : 0;
    }
    return count;
}

/// True when a finding names `dir` already.
static bool doctor_has_dir(const struct doctor *d, const char *dir)
{
    const cJSON *finding;
    char real[PATH_MAX];

    cJSON_ArrayForEach(finding, d->findings)
    {
        const char *name = tool_text(finding, "name", "");

        if (name[0] == '/' && realpath(name, real) != NULL && strcmp(real, dir) == 0) {
            return true;
        }
    }
    return false;
}

/// Every other directory in which plugins were found: the library's own, and configured ones.
static int doctor_other_dirs(struct doctor *d)
{
    const cJSON *plugin;
    int count = 0;

    cJSON_ArrayForEach(plugin, d->plugins)
    {
        const char *file = tool_text(plugin, "file", "");
        const char *slash = strrchr(file, '/');
        char *dir = slash != NULL ? strndup(file, (size_t)(slash - file)) : NULL;

        if (dir != NULL && !doctor_has_dir(d, dir)) {
            doctor_dir(d, dir, "the library's own place");
            count++;
        }
        free(dir);
    }
    return count;
}

static void doctor_list_plugin(struct doctor *d, const cJSON *plugin)
{
    const char *state = tool_text(plugin, "state", "?");
    const char *reason = tool_text(plugin, "reason", "");
    const char *file = tool_text(plugin, "file", "?");
    char names[256] = "";
    const cJSON *e;

    cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(plugin, "exports"))
    {
        size_t used = strlen(names);

        (void)snprintf(names + used, sizeof(names) - used, " %s", tool_text(e, "name", "?"));
    }
    if (strcmp(state, "refused") == 0) {
        doctor_add(d, DOCTOR_FAIL, file, NULL, "refused: %s", reason);
    } else if (strcmp(state, "shadowed") == 0) {
        doctor_add(d, DOCTOR_WARN, file, "remove one of the two, or change SP_PLUGIN_PATH",
                   "shadowed: %s", reason);
    } else {
        doctor_add(d, DOCTOR_OK, file, NULL, "%s:%s", state, names);
    }
}

void doctor_plugins(struct doctor *d)
{
    const cJSON *plugin;
    int dirs;

    d->section = "search path";
    dirs = doctor_environment_dirs(d);
    dirs += doctor_other_dirs(d);
    if (dirs == 0) {
        doctor_add(d, DOCTOR_FAIL, "plugins",
                   "install the plugins beside libsp, or name their directories in SP_PLUGIN_PATH",
                   "SP_PLUGIN_PATH is not set, and the library's own place has none");
    }
    d->section = "plugins";
    cJSON_ArrayForEach(plugin, d->plugins)
    {
        doctor_list_plugin(d, plugin);
    }
}

/* ------------------------------------------------------------------ Capabilities and limits */

bool doctor_has_net_raw(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    uint64_t effective = 0;
    char line[256];

    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "CapEff:", 7) == 0) {
            effective = strtoull(line + 7, NULL, 16);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return (effective >> CAP_NET_RAW & 1) != 0;
}

static bool doctor_has_transport(const struct doctor *d, const char *scheme)
{
    const cJSON *plugin;
    const cJSON *e;

    cJSON_ArrayForEach(plugin, d->plugins)
    {
        cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(plugin, "exports"))
        {
            if (strcmp(tool_text(e, "name", ""), scheme) == 0) {
                return true;
            }
        }
    }
    return false;
}

/// A number of the kernel, and what to say when it is small.
static void doctor_sysctl(struct doctor *d, const char *name, const char *path, long long wanted,
                          const char *hint)
{
    FILE *f = fopen(path, "re");
    char line[64] = "";
    long long value;

    if (f == NULL || fgets(line, sizeof(line), f) == NULL) {
        doctor_add(d, DOCTOR_WARN, name, NULL, "cannot be read: %s", path);
    } else {
        value = strtoll(line, NULL, 10);
        doctor_add(d, value < wanted ? DOCTOR_WARN : DOCTOR_OK, name, value < wanted ? hint : NULL,
                   "%lld", value);
    }
    if (f != NULL) {
        (void)fclose(f);
    }
}

static void doctor_limit_text(char *buf, size_t cap, rlim_t limit)
{
    if (limit == RLIM_INFINITY) {
        (void)snprintf(buf, cap, "unlimited");
    } else {
        (void)snprintf(buf, cap, "%" PRIu64, (uint64_t)limit);
    }
}

/// A limit of this process, and what to say when it is small.
static void doctor_rlimit(struct doctor *d, const char *name, int which, rlim_t wanted,
                          const char *hint)
{
    struct rlimit limit;
    char soft[32];
    char hard[32];

    if (getrlimit((__rlimit_resource_t)which, &limit) < 0) {
        doctor_add(d, DOCTOR_WARN, name, NULL, "%s", strerrordesc_np(errno));
        return;
    }
    doctor_limit_text(soft, sizeof(soft), limit.rlim_cur);
    doctor_limit_text(hard, sizeof(hard), limit.rlim_max);
    doctor_add(d, limit.rlim_cur < wanted ? DOCTOR_WARN : DOCTOR_OK, name,
               limit.rlim_cur < wanted ? hint : NULL, "%s, at most %s", soft, hard);
}

void doctor_system(struct doctor *d)
{
    bool net_raw = doctor_has_net_raw();
    bool rawip = doctor_has_transport(d, "rawip");

    d->section = "system";
    doctor_add(d, net_raw || !rawip ? DOCTOR_OK : DOCTOR_WARN, "CAP_NET_RAW",
               net_raw || !rawip ? NULL : "rawip:// will not work; udp:// needs no capability",
               "%s", net_raw ? "there" : "not there (only rawip:// needs it)");
    doctor_rlimit(d, "RLIMIT_NOFILE (files and connections)", RLIMIT_NOFILE, DOCTOR_FILES_WANTED,
                  "few connections fit: raise it with ulimit -n");
    doctor_rlimit(d, "RLIMIT_MEMLOCK (bytes)", RLIMIT_MEMLOCK, 0, NULL);
    doctor_sysctl(d, "net.core.somaxconn", "/proc/sys/net/core/somaxconn", DOCTOR_BACKLOG_WANTED,
                  "many peers that connect at once will have to try again");
    doctor_sysctl(d, "net.unix.max_dgram_qlen", "/proc/sys/net/unix/max_dgram_qlen",
                  DOCTOR_QLEN_WANTED,
                  "many unixgram:// peers that greet at once will have to wait");
}
