/* SPDX-License-Identifier: MIT */
/// What the fault tests share. See fault.h.
#include "fault.h"

#include "core/platform.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#define FAULT_PAUSE_MS 1
#define FAULT_FDS_MAX 1024

static char *fault_dir;

/// SP_TEST_ONLY=PATTERN runs the tests of that name only (* and ? as in file names).
__attribute__((constructor)) static void fault_filter(void)
{
    cmocka_set_test_filter(getenv("SP_TEST_ONLY"));
}

/* ------------------------------------------------------------------ Waiting */

void fault_pause(void)
{
    (void)poll(NULL, 0, FAULT_PAUSE_MS);
}

void fault_ok_at(long long rc, const char *call, const char *file, int line)
{
    if (rc < 0) {
        print_error("%s: %lld (%s; %s)\n", call, rc, sp_strerror((int)rc), sp_error_detail());
        _fail(file, line);
    }
}

/* ------------------------------------------------------------------ Statistics */

static cJSON *fault_tree(uint64_t id)
{
    char *text = NULL;
    cJSON *tree;

    if (sp_stats(id, &text) < 0) {
        return NULL;
    }
    tree = cJSON_Parse(text);
    sp_free(text);
    return tree;
}

/// Follows a path of names and indices with dots between them.
static const cJSON *fault_find(const cJSON *at, const char *path)
{
    char name[64];

    while (at != NULL && *path != '\0') {
        size_t n = strcspn(path, ".");

        (void)snprintf(name, sizeof(name), "%.*s", (int)n, path);
        at = cJSON_IsArray(at) ? cJSON_GetArrayItem(at, atoi(name))
                               : cJSON_GetObjectItemCaseSensitive(at, name);
        path += n + (path[n] == '.');
    }
    return at;
}

static long long fault_number(const cJSON *tree, const char *path)
{
    const cJSON *found = fault_find(tree, path);

    return cJSON_IsNumber(found) ? (long long)found->valuedouble : -1;
}

long long fault_stat(uint64_t id, const char *path)
{
    cJSON *tree = fault_tree(id);
    long long v = fault_number(tree, path);

    cJSON_Delete(tree);
    return v;
}

static void fault_print(uint64_t id)
{
    cJSON *tree = fault_tree(id);
    char *text = cJSON_Print(tree);

    print_error("%s\n", text != NULL ? text : "(no statistics)");
    cJSON_free(text);
    cJSON_Delete(tree);
}

void fault_stat_at(uint64_t id, const char *path, long long want, const char *file, int line)
{
    if (!FAULT_WAIT(fault_stat(id, path) == want, FAULT_SOON)) {
        print_error("\"%s\" is %lld, not %lld\n", path, fault_stat(id, path), want);
        fault_print(id);
        _fail(file, line);
    }
}

static long long fault_sum(const cJSON *object)
{
    long long sum = 0;

    for (const cJSON *at = object != NULL ? object->child : NULL; at != NULL; at = at->next) {
        sum += (long long)at->valuedouble;
    }
    return sum;
}

static bool fault_balanced(uint64_t id)
{
    cJSON *t = fault_tree(id);
    long long tx = fault_number(t, "tx_accepted") + fault_number(t, "tx_copies") -
                   fault_number(t, "tx_msgs") - fault_sum(fault_find(t, "tx_drops")) -
                   fault_number(t, "tx_queued");
    long long rx = fault_number(t, "rx_received") - fault_number(t, "rx_delivered") -
                   fault_sum(fault_find(t, "rx_drops")) - fault_number(t, "rx_queued");
    bool there = t != NULL;

    cJSON_Delete(t);
    return there && tx == 0 && rx == 0;
}

void fault_at_rest_at(sp_socket s, const char *file, int line)
{
    if (!FAULT_WAIT(fault_balanced(s.id), 2000)) {
        print_error("the equations of accounting do not hold at rest\n");
        fault_print(s.id);
        _fail(file, line);
    }
}

/* ------------------------------------------------------------------ Places */

void fault_place(const char *transport, char url[FAULT_URL])
{
    static int next;

    if (strcmp(transport, "tcp") == 0) {
        (void)snprintf(url, FAULT_URL, "tcp://127.0.0.1:%d", proc_free_port());
    } else if (strcmp(transport, "ipc") == 0 || strcmp(transport, "unixgram") == 0) {
        (void)snprintf(url, FAULT_URL, "%s://%s/%d", transport, fault_dir, next++);
    } else {
        (void)snprintf(url, FAULT_URL, "%s://fault-%d-%d", transport, (int)getpid(), next++);
    }
}

sp_socket fault_open(const char *protocol)
{
    sp_socket s = {0};

    FAULT_OK(sp_open(&s, protocol));
    FAULT_OK(sp_set_int(s.id, "recv-timeout", FAULT_SOON));
    FAULT_OK(sp_set_int(s.id, "send-timeout", FAULT_SOON));
    FAULT_OK(sp_set_int(s.id, "linger", 0));
    if (getenv("SP_TEST_IN_PLACE") != NULL) {
        FAULT_OK(sp_set_int(s.id, "in-place", atoi(getenv("SP_TEST_IN_PLACE"))));
    }
    return s;
}

/// Starts the library with another number of threads, if the environment says so.
static int fault_configure(void)
{
    const char *threads = getenv("SP_TEST_THREADS");
    sp_config *cfg = NULL;
    int rc = 0;

    if (threads != NULL && sp_config_new(&cfg) == 0) {
        rc = sp_config_set_int(cfg, "threads", atoi(threads));
        rc = rc == 0 ? sp_init(cfg) : rc;
        sp_config_free(cfg);
    }
    return rc;
}

sp_socket fault_listen(const char *protocol, const char *transport, char url[FAULT_URL])
{
    sp_socket s = fault_open(protocol);
    size_t n = FAULT_URL;
    sp_listener l;

    if (strcmp(transport, "tcp") == 0) {
        (void)snprintf(url, FAULT_URL, "tcp://127.0.0.1:0");
    } else {
        fault_place(transport, url);
    }
    FAULT_OK(sp_listen(s, url, &l));
    FAULT_OK(sp_get_str(l.id, "url", url, &n));
    return s;
}

int fault_setup(void **state)
{
    (void)state;
    fault_dir = proc_mkdir();
    return fault_dir != NULL ? fault_configure() : -1;
}

int fault_teardown(void **state)
{
    (void)state;
    fault_memory_fail(0, false);
    sp_fini();
    if (fault_dir != NULL) {
        proc_rmdir(fault_dir);
        fault_dir = NULL;
    }
    return 0;
}

/* ------------------------------------------------------------------ Memory */

static struct sp_platform fault_table;
static _Atomic long fault_left; ///< allocations until one fails; 0: none does
static atomic_bool fault_all;
static atomic_bool fault_hit;
static _Atomic long long fault_bytes;
static _Atomic long long fault_blocks;

/// Whether this allocation is the one.
static bool fault_refuse(void)
{
    long left = atomic_load(&fault_left);

    if (left == 1 && atomic_load(&fault_all)) {
        atomic_store(&fault_hit, true);
        return true;
    }
    while (left > 0 && !atomic_compare_exchange_weak(&fault_left, &left, left - 1)) {
    }
    if (left == 1) {
        atomic_store(&fault_hit, true);
    }
    return left == 1;
}

static void *fault_alloc(size_t size, size_t align)
{
    void *p = fault_refuse() ? NULL : sp__platform_linux.alloc(size, align);

    if (p != NULL) {
        atomic_fetch_add(&fault_bytes, (long long)malloc_usable_size(p));
        atomic_fetch_add(&fault_blocks, 1);
    }
    return p;
}

static void fault_free(void *p)
{
    if (p != NULL) {
        atomic_fetch_sub(&fault_bytes, (long long)malloc_usable_size(p));
        atomic_fetch_sub(&fault_blocks, 1);
        sp__platform_linux.free(p);
    }
}

void fault_memory_install(void)
{
    fault_table = sp__platform_linux;
    fault_table.alloc = fault_alloc;
    fault_table.free = fault_free;
    sp__platform = &fault_table;
}

void fault_memory_fail(long n, bool all)
{
    atomic_store(&fault_left, 0);
    atomic_store(&fault_hit, false);
    atomic_store(&fault_all, all);
    atomic_store(&fault_left, n);
}

bool fault_memory_failed(void)
{
    return atomic_load(&fault_hit);
}

long long fault_memory_bytes(void)
{
    return atomic_load(&fault_bytes);
}

long long fault_memory_blocks(void)
{
    return atomic_load(&fault_blocks);
}

/* ------------------------------------------------------------------ Other processes */

void fault_roles(int argc, char **argv, const struct fault_role *roles, size_t n)
{
    if (argc < 3 || strcmp(argv[1], "--role") != 0) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(argv[2], roles[i].name) == 0) {
            exit(roles[i].main(argc - 3, argv + 3));
        }
    }
    fault_check_failed("the role exists", argv[2], 0);
}

void fault_start(struct proc *p, const char *role, const char *arg1, const char *arg2)
{
    char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    const char *argv[] = {self, "--role", role, arg1, arg2, NULL};

    assert_true(n > 0);
    self[n] = '\0';
    memset(p, 0, sizeof(*p));
    assert_int_equal(proc_start(p, argv), 0);
}

void fault_finish(struct proc *p)
{
    int code = proc_wait(p, 4 * FAULT_SOON);

    if (code != 0) {
        print_error("the other process ended with %d\n%s\n", code,
                    p->errors.data != NULL ? p->errors.data : "");
    }
    proc_stop(p);
    assert_int_equal(code, 0);
}

void fault_check_failed(const char *what, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: not so: %s (last error: %s)\n", file, line, what,
                  sp_error_detail());
    (void)fflush(NULL);
    _exit(1);
}

void fault_say(const char *text)
{
    (void)printf("%s\n", text);
    (void)fflush(stdout);
}

void fault_await(void)
{
    char c;
    ssize_t n;

    do {
        n = read(STDIN_FILENO, &c, 1);
    } while ((n < 0 && errno == EINTR) || (n == 1 && c != '\n'));
}

static int fault_fds[FAULT_FDS_MAX];
static int fault_fds_n;

int fault_fds_open(void)
{
    int n = 0;

    for (int fd = 0; fd < FAULT_FDS_MAX; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

int fault_fds_fill(int limit)
{
    struct rlimit r;
    int fd;

    if (getrlimit(RLIMIT_NOFILE, &r) < 0) {
        return -1;
    }
    r.rlim_cur = (rlim_t)limit;
    if (setrlimit(RLIMIT_NOFILE, &r) < 0) {
        return -1;
    }
    while (fault_fds_n < FAULT_FDS_MAX && (fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) >= 0) {
        fault_fds[fault_fds_n++] = fd;
    }
    return fault_fds_n;
}

void fault_fds_free(int n)
{
    while (n-- > 0 && fault_fds_n > 0) {
        (void)close(fault_fds[--fault_fds_n]);
    }
}

int fault_threads(void)
{
    DIR *d = opendir("/proc/self/task");
    int n = 0;

    for (const struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        n += e->d_name[0] != '.';
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return n;
}

long long fault_cpu(void)
{
    struct rusage u;

    (void)getrusage(RUSAGE_SELF, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000LL +
           (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000;
}
