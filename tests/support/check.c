/* SPDX-License-Identifier: MIT */
/// What tests of the library share.
#include "check.h"

#include <cjson/cJSON.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

const struct check_transport check_transports[] = {
    {"inproc", "inproc://*", false, 0},
    {"ipc", "ipc:///tmp/sp-*", false, 0},
    {"abstract", "abstract://*", false, 0},
    {"tcp", "tcp://127.0.0.1:0", false, 0},
    {"tcp6", "tcp://[::1]:0", false, 0},
    {"udp", "udp://127.0.0.1:0", true, 65000},
    {"rawip", "rawip://127.0.0.1:*", true, 65483},
    {"rawip6", "rawip://[::1]:*", true, 65483},
    {"unixgram", "unixgram:///tmp/sp-*", false, 131072},
    {"unixgram+abstract", "unixgram+abstract://*", false, 131072},
};
const size_t check_transport_count = sizeof(check_transports) / sizeof(check_transports[0]);

bool check_net_raw(void)
{
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, 253);

    if (fd < 0) {
        return errno != EPERM && errno != EACCES;
    }
    (void)close(fd);
    return true;
}

static bool check_driven; // "threads" is 0

/// SP_CHECK_ONLY in the environment chooses tests of a program by a pattern.
__attribute__((constructor)) static void check_choose(void)
{
    if (getenv("SP_CHECK_ONLY") != NULL) {
        cmocka_set_test_filter(getenv("SP_CHECK_ONLY"));
    }
}

void check_rc_at(long want, long got, const char *what, const char *file, int line)
{
    if (got == want) {
        return;
    }
    print_error("%s\n    gave %ld (%s), not %ld (%s); detail: \"%s\"\n", what, got,
                sp_strerror((int)got), want, sp_strerror((int)want), sp_error_detail());
    _fail(file, line);
}

int64_t check_now(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void check_pause(void)
{
    if (check_driven) {
        (void)!sp_run_once(1);
    } else {
        (void)poll(NULL, 0, 1);
    }
}

void check_wait_at(int64_t end, const char *what, const char *file, int line)
{
    if (check_now() >= end) {
        print_error("waited in vain for: %s\n", what);
        _fail(file, line);
    }
    check_pause();
}

void check_init(int threads)
{
    const char *forced = getenv("SP_CHECK_THREADS");
    sp_config *cfg = NULL;

    threads = forced != NULL ? atoi(forced) : threads;
    sp_fini();
    check_ok(sp_config_new(&cfg));
    check_ok(sp_config_set_int(cfg, "threads", threads));
    check_ok(sp_init(cfg));
    sp_config_free(cfg);
    check_driven = threads == 0;
}

void check_fini(void)
{
    // Started, if it is not: a thread may have left a block behind the last end.
    (void)check_stat(0, "runtime.threads");
    sp_fini();
    check_driven = false;
    assert_int_equal(check_stat(0, "runtime.objects"), 0);
    assert_int_equal(check_stat(0, "runtime.message_bytes"), 0);
    sp_fini();
}

int check_start_threads(void **state)
{
    (void)state;
    check_init(2);
    return 0;
}

int check_start_driven(void **state)
{
    (void)state;
    check_init(0);
    return 0;
}

int check_stop(void **state)
{
    (void)state;
    check_fini();
    return 0;
}

/* ------------------------------------------------------------------ Statistics */

static cJSON *stats_tree(uint64_t id, char **text)
{
    cJSON *tree;

    check_ok(sp_stats(id, text));
    tree = cJSON_Parse(*text);
    assert_non_null(tree);
    return tree;
}

/// Follows "a.b[2].c"; NULL: no such thing.
static const cJSON *stats_find(const cJSON *at, const char *path)
{
    while (at != NULL && *path != '\0') {
        char name[64];
        size_t n = strcspn(path, ".[");

        if (*path == '[') {
            at = cJSON_GetArrayItem(at, atoi(path + 1));
            path += strcspn(path, "]") + 1;
        } else {
            (void)snprintf(name, sizeof(name), "%.*s", (int)n, path);
            at = cJSON_GetObjectItemCaseSensitive(at, name);
            path += n;
        }
        path += *path == '.';
    }
    return at;
}

static int64_t stats_number(const cJSON *tree, const char *path, const char *text)
{
    const cJSON *at = stats_find(tree, path);

    if (!cJSON_IsNumber(at)) {
        print_error("no number \"%s\" in %s\n", path, text);
        fail();
        return 0;
    }
    return (int64_t)at->valuedouble;
}

int64_t check_stat(uint64_t id, const char *path)
{
    char *text = NULL;
    cJSON *tree = stats_tree(id, &text);
    int64_t v = stats_number(tree, path, text);

    cJSON_Delete(tree);
    sp_free(text);
    return v;
}

static void stats_print(uint64_t id)
{
    char *text = NULL;

    if (sp_stats(id, &text) == SP_OK) {
        print_error("%s\n", text);
        sp_free(text);
    }
}

void check_stat_is_at(uint64_t id, const char *path, int64_t want, const char *file, int line)
{
    int64_t end = check_now() + CHECK_SOON;
    int64_t got;

    while ((got = check_stat(id, path)) != want) {
        if (check_now() >= end) {
            print_error("%s is %lld, not %lld in\n", path, (long long)got, (long long)want);
            stats_print(id);
            _fail(file, line);
        }
        check_pause();
    }
}

static int64_t stats_sum(const cJSON *tree, const char *name)
{
    int64_t sum = 0;

    for (const cJSON *at = cJSON_GetObjectItem(tree, name)->child; at != NULL; at = at->next) {
        sum += (int64_t)at->valuedouble;
    }
    return sum;
}

/// Whether both equations hold.
static bool stats_balanced(sp_socket s)
{
    char *text = NULL;
    cJSON *t = stats_tree(s.id, &text);
    bool tx = stats_number(t, "tx_accepted", text) + stats_number(t, "tx_copies", text) ==
              stats_number(t, "tx_msgs", text) + stats_sum(t, "tx_drops") +
                  stats_number(t, "tx_queued", text);
    bool rx = stats_number(t, "rx_received", text) == stats_number(t, "rx_delivered", text) +
                                                          stats_sum(t, "rx_drops") +
                                                          stats_number(t, "rx_queued", text);

    cJSON_Delete(t);
    sp_free(text);
    return tx && rx;
}

void check_rest_at(sp_socket s, const char *file, int line)
{
    int64_t end = check_now() + CHECK_SOON;

    while (!stats_balanced(s)) {
        if (check_now() >= end) {
            print_error("the accounting equations do not hold in\n");
            stats_print(s.id);
            _fail(file, line);
        }
        check_pause();
    }
}

/* ------------------------------------------------------------------ Sockets */

sp_socket check_open(const char *protocol)
{
    const char *in_place = getenv("SP_CHECK_IN_PLACE");
    sp_socket s = {0};

    check_ok(sp_open(&s, protocol));
    check_ok(sp_set_int(s.id, "in-place", in_place != NULL ? atoi(in_place) : 1));
    check_ok(sp_set_int(s.id, "reconnect-time-min", 5));
    check_ok(sp_set_int(s.id, "reconnect-time-max", 50));
    check_ok(sp_set_int(s.id, "recv-timeout", CHECK_SOON));
    check_ok(sp_set_int(s.id, "send-timeout", CHECK_SOON));
    return s;
}

const struct check_transport *check_transport(const char *name)
{
    for (size_t i = 0; i < check_transport_count; i++) {
        if (strcmp(check_transports[i].name, name) == 0) {
            return &check_transports[i];
        }
    }
    print_error("no transport \"%s\"\n", name);
    fail();
    return NULL;
}

void check_url(const char *transport, char url[256])
{
    static atomic_uint next;
    const char *form = check_transport(transport)->url;
    // Behind a colon the transport finds it.
    const char *at = strstr(form, ":*") == NULL ? strchr(form, '*') : NULL;
    char own[64];

    (void)snprintf(own, sizeof(own), "check-%d-%u", (int)getpid(), atomic_fetch_add(&next, 1));
    (void)snprintf(url, 256, "%.*s%s%s", (int)(at != NULL ? (size_t)(at - form) : strlen(form)),
                   form, at != NULL ? own : "", at != NULL ? at + 1 : "");
}

void check_listen(sp_socket s, const char *transport, char url[256], sp_listener *l)
{
    sp_listener mine = {0};
    size_t cap = 256;

    check_url(transport, url);
    check_ok(sp_listen(s, url, &mine));
    check_ok(sp_get_str(mine.id, "url", url, &cap));
    if (l != NULL) {
        *l = mine;
    }
}

void check_couple(const char *transport, const char *pa, const char *pb, sp_socket *a, sp_socket *b)
{
    char url[256];

    *a = check_open(pa);
    *b = check_open(pb);
    check_listen(*a, transport, url, NULL);
    check_ok(sp_dial(*b, url, NULL, 0));
    check_pipes(*a, 1);
    check_pipes(*b, 1);
}

void check_send(sp_socket s, const char *text)
{
    check_ok(sp_send(s, text, strlen(text), 0));
}

void check_recv(sp_socket s, const char *text)
{
    char buf[256] = "";

    check_rc((long)strlen(text), sp_recv(s, buf, sizeof(buf) - 1, 0));
    assert_string_equal(buf, text);
}

sp_pipe check_pipe(sp_socket s)
{
    sp_peer_info info = {.size = sizeof(info)};
    size_t n = 1;

    check_ok(sp_peers(s, &info, &n));
    assert_int_equal(n, 1);
    return info.pipe;
}

/* ------------------------------------------------------------------ Threads, descriptors */

static void *call_main(void *arg)
{
    struct check_call *c = arg;
    int64_t start = check_now();

    c->rc = c->fn(c->arg);
    c->took = check_now() - start;
    (void)snprintf(c->detail, sizeof(c->detail), "%s", c->rc < 0 ? sp_error_detail() : "");
    __atomic_store_n(&c->ended, 1, __ATOMIC_RELEASE);
    return NULL;
}

void check_call_start(struct check_call *c, long (*fn)(void *arg), void *arg)
{
    c->fn = fn;
    c->arg = arg;
    c->rc = 0;
    c->ended = 0;
    assert_int_equal(pthread_create(&c->thread, NULL, call_main, c), 0);
}

long check_call_join(struct check_call *c, int ms)
{
    struct timespec end;

    (void)clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += ms / 1000 + (end.tv_nsec + ms % 1000 * 1000000L) / 1000000000L;
    end.tv_nsec = (end.tv_nsec + ms % 1000 * 1000000L) % 1000000000L;
    if (pthread_timedjoin_np(c->thread, NULL, &end) != 0) {
        print_error("a blocked call did not return within %d ms\n", ms);
        abort(); // Its stack is the test's: going on would not be safe.
    }
    return c->rc;
}

bool check_call_ended(struct check_call *c, int ms)
{
    int64_t end = check_now() + ms;

    while (__atomic_load_n(&c->ended, __ATOMIC_ACQUIRE) == 0 && check_now() < end) {
        check_pause();
    }
    return __atomic_load_n(&c->ended, __ATOMIC_ACQUIRE) != 0;
}

static int count_dir(const char *path)
{
    DIR *dir = opendir(path);
    int n = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        n++;
    }
    (void)closedir(dir);
    return n - 2;
}

int check_fds(void)
{
    return count_dir("/proc/self/fd") - 1;
}

int check_threads(void)
{
    int n = -1;

    // A thread that was joined is listed for a moment longer: count until it stays the same.
    for (int same = 0; same < 20; same++) {
        int now = count_dir("/proc/self/task");

        same = now == n ? same : 0;
        n = now;
        (void)poll(NULL, 0, 1);
    }
    return n;
}

/* ------------------------------------------------------------------ Hand-made peers */

/// Waits until there is something to read; drives the library meanwhile.
static bool raw_ready(int fd, int64_t end)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};

    while (poll(&item, 1, check_driven ? 0 : 10) == 0 && check_now() < end) {
        if (check_driven) {
            check_pause();
        }
    }
    return item.revents != 0;
}

static bool raw_read(int fd, void *buf, size_t len)
{
    int64_t end = check_now() + CHECK_SOON;

    for (size_t got = 0; got < len;) {
        ssize_t n = raw_ready(fd, end) ? recv(fd, (char *)buf + got, len - got, 0) : -1;

        if (n <= 0) {
            return false;
        }
        got += (size_t)n;
    }
    return true;
}

int check_raw_dial(const char *url, uint16_t own, uint16_t peer)
{
    unsigned char hello[8] = {0, 'S', 'P', 0, (unsigned char)(own >> 8), (unsigned char)own, 0, 0};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    to.sin_port = htons((uint16_t)atoi(strrchr(url, ':') + 1));
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    if (peer != 0) {
        assert_int_equal(send(fd, hello, sizeof(hello), MSG_NOSIGNAL), sizeof(hello));
        assert_true(raw_read(fd, hello, sizeof(hello)));
        assert_int_equal(hello[4] << 8 | hello[5], peer);
    }
    return fd;
}

bool check_raw_closed(int fd)
{
    int64_t end = check_now() + CHECK_SOON;
    char c[64];
    ssize_t n;

    do {
        if (!raw_ready(fd, end)) {
            return false;
        }
        n = recv(fd, c, sizeof(c), 0);
    } while (n > 0);
    return true;
}
