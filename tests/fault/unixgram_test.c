/* SPDX-License-Identifier: MIT */
/// unixgram where it differs from streams: the socket files of datagrams, full queues, strangers,
/// peers that end without a word, messages that are too large, messages in memory files.
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MANY 100000
#define LARGE (5 << 20)
#define URL_PREFIX 11 // "unixgram://"

static const char *path_of(const char *url)
{
    return url + URL_PREFIX;
}

static bool there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

/// Two sockets of a protocol that are connected.
struct couple {
    sp_socket listener;
    sp_socket dialer;
    char url[FAULT_URL];
};

static void couple_open(struct couple *c, const char *listens, const char *dials)
{
    fault_place("unixgram", c->url);
    c->listener = fault_open(listens);
    c->dialer = fault_open(dials);
    FAULT_OK(sp_listen(c->listener, c->url, NULL));
    FAULT_OK(sp_dial(c->dialer, c->url, NULL, 0));
    FAULT_STAT(c->listener.id, "pipes", 1);
}

static sp_pipe only_pipe(sp_socket s)
{
    sp_peer_info info = {.size = sizeof(info)};
    size_t n = 1;

    FAULT_STAT(s.id, "pipes", 1);
    FAULT_OK(sp_peers(s, &info, &n));
    return info.pipe;
}

static int raw_socket(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (path != NULL) {
        memcpy(a.sun_path, path, strlen(path) + 1);
        assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    }
    return fd;
}

/// To a path, or to an abstract address as it is printed.
static ssize_t raw_send(int fd, const char *to, const void *p, size_t n)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t len = strlen(to);

    memcpy(a.sun_path, to, len);
    if (to[0] == '@') {
        a.sun_path[0] = '\0';
        len--;
    }
    return sendto(fd, p, n, 0, (struct sockaddr *)&a,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1));
}

/* ------------------------------------------------------------------ Full queues */

static void *send_many(void *arg)
{
    for (int i = 0; i < MANY; i++) {
        if (sp_send(*(sp_socket *)arg, &i, sizeof(i), 0) != SP_OK) {
            return (void *)1;
        }
    }
    return NULL;
}

static void messages_arrive_all_and_in_order(void **state)
{
    struct couple c;
    pthread_t thread;
    void *failed = NULL;

    (void)state;
    couple_open(&c, "pull", "push");
    assert_int_equal(pthread_create(&thread, NULL, send_many, &c.dialer), 0);
    for (int i = 0; i < MANY; i++) {
        int v = -1;

        assert_int_equal(sp_recv(c.listener, &v, sizeof(v), 0), sizeof(v));
        assert_int_equal(v, i);
    }
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    FAULT_AT_REST(c.dialer);
    FAULT_AT_REST(c.listener);
}

static long long cpu_us(void)
{
    struct timespec t;

    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void sender_to_a_peer_that_does_not_read_waits_without_spinning(void **state)
{
    static unsigned char body[1000];
    struct couple c;
    long long end;
    long long used;
    int n = 0;
    int got = 0;

    (void)state;
    couple_open(&c, "pull", "push");
    FAULT_OK(sp_set_int(c.dialer.id, "send-timeout", 300));
    for (;;) {
        memcpy(body, &n, sizeof(n));
        if (sp_send(c.dialer, body, sizeof(body), 0) != SP_OK) {
            break; // Nothing moved for 300 ms.
        }
        n++;
        assert_true(n < 100000);
    }
    used = cpu_us();
    end = proc_now() + 1000;
    FAULT_OK(sp_set_int(c.dialer.id, "send-timeout", 1000));
    assert_int_equal(sp_send(c.dialer, body, sizeof(body), 0), SP_ETIMEDOUT);
    assert_true(proc_now() >= end - 1);
    used = cpu_us() - used;
    assert_in_range(used, 0, FAULT_SANITIZED ? 100000 : 10000); // 1 % of that second.
    for (; got < n; got++) {
        int v = -1;

        assert_int_equal(sp_recv(c.listener, body, sizeof(body), 0), sizeof(body));
        memcpy(&v, body, sizeof(v));
        assert_int_equal(v, got);
    }
    FAULT_AT_REST(c.dialer);
    FAULT_AT_REST(c.listener);
}

/// The last word of a connection comes behind all that nobody has read yet.
static void close_is_noticed_behind_a_full_queue(void **state)
{
    static unsigned char body[1000];
    struct couple c;
    int n = 0;

    (void)state;
    couple_open(&c, "pull", "push");
    FAULT_OK(sp_set_int(c.dialer.id, "send-timeout", 300));
    while (sp_send(c.dialer, body, sizeof(body), 0) == SP_OK) {
        n++;
    }
    n -= (int)fault_stat(c.dialer.id, "tx_queued");
    FAULT_OK(sp_close(c.dialer));
    for (int i = 0; i < n; i++) {
        assert_int_equal(sp_recv(c.listener, body, sizeof(body), 0), sizeof(body));
    }
    FAULT_STAT(c.listener.id, "pipes", 0);
}

/* ------------------------------------------------------------------ Strangers */

/// A connection is a pair of sockets without a name: nobody else can send to it.
static void strangers_do_not_reach_a_connection(void **state)
{
    struct couple c;
    char name[128] = "";
    size_t cap = sizeof(name);
    int fd;

    (void)state;
    couple_open(&c, "pair", "pair");
    FAULT_OK(sp_get_str(only_pipe(c.listener).id, "remote-address", name, &cap));
    assert_int_not_equal(name[0], '@');
    fd = raw_socket(NULL);
    assert_int_equal(raw_send(fd, path_of(c.url), "x", 1), 1);
    FAULT_STAT(c.listener.id, "listeners.0.malformed", 1);
    assert_int_equal(fault_stat(c.listener.id, "pipes"), 1);
    assert_int_equal(close(fd), 0);
}

/// Garbage at the known address, with descriptors too, is counted and leaves nothing open.
static void garbage_of_strangers_is_counted_and_leaves_nothing(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(3 * sizeof(int))] = {0};
    struct iovec iov = {(char[]){"garbage"}, 7};
    struct msghdr h = {.msg_name = &a,
                       .msg_namelen = sizeof(a),
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    struct cmsghdr *m = CMSG_FIRSTHDR(&h);
    int fds[3] = {0, 1, 2};
    struct couple c;
    int before;
    int fd;

    (void)state;
    couple_open(&c, "pair", "pair");
    memcpy(a.sun_path, path_of(c.url), strlen(path_of(c.url)) + 1);
    fd = raw_socket(NULL);
    m->cmsg_level = SOL_SOCKET;
    m->cmsg_type = SCM_RIGHTS;
    m->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(m), fds, sizeof(fds));
    before = fault_fds_open();
    for (int i = 0; i < 100; i++) {
        assert_true(FAULT_WAIT(sendmsg(fd, &h, 0) == 7, FAULT_SOON));
    }
    FAULT_STAT(c.listener.id, "listeners.0.malformed", 100);
    assert_true(FAULT_WAIT(fault_fds_open() == before, FAULT_SOON));
    assert_int_equal(fault_stat(c.listener.id, "pipes"), 1);
    assert_int_equal(close(fd), 0);
}

/* ------------------------------------------------------------------ Peers that end */

static int role_peer(int argc, char **argv)
{
    sp_socket s = {0};

    FAULT_CHECK(argc == 1);
    FAULT_CHECK(sp_open(&s, "pair") == 0);
    FAULT_CHECK(sp_dial(s, argv[0], NULL, 0) == 0);
    fault_say("ready");
    fault_await();
    sp_fini();
    return 0;
}

static void killed_peer_is_noticed(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("pair");
    struct proc peer;
    sp_listener l;

    (void)state;
    fault_place("unixgram", url);
    FAULT_OK(sp_listener_new(&l, s, url));
    FAULT_OK(sp_listener_start(l));
    fault_start(&peer, "peer", url, NULL);
    assert_true(proc_wait_text(&peer, "ready\n", FAULT_SOON));
    FAULT_STAT(s.id, "pipes", 1);
    proc_signal(&peer, SIGKILL);
    FAULT_STAT(s.id, "pipes", 0);
    proc_stop(&peer);
}

/* ------------------------------------------------------------------ Sizes */

static void message_that_is_too_large_is_refused_and_the_option_named(void **state)
{
    static unsigned char body[(1 << 17) + 1];
    struct couple c;

    (void)state;
    couple_open(&c, "pair", "pair");
    assert_int_equal(sp_send(c.dialer, body, sizeof(body), 0), SP_EMSGSIZE);
    assert_non_null(strstr(sp_error_detail(), "131072"));
    assert_non_null(strstr(sp_error_detail(), "datagram-max"));
    FAULT_OK(sp_send(c.dialer, body, sizeof(body) - 1, 0));
    assert_int_equal(sp_recv(c.listener, body, sizeof(body), 0), sizeof(body) - 1);
}

static sp_socket large_listen(const char *url, int64_t recv_max)
{
    sp_socket s = fault_open("pair");
    sp_listener l;

    FAULT_OK(sp_listener_new(&l, s, url));
    FAULT_OK(sp_set_int(l.id, "memfd-min", 65536));
    if (recv_max > 0) {
        FAULT_OK(sp_set_int(l.id, "recv-size-max", recv_max));
    }
    FAULT_OK(sp_listener_start(l));
    return s;
}

static sp_socket large_dial(const char *url)
{
    sp_socket s = fault_open("pair");
    sp_dialer d;

    FAULT_OK(sp_dialer_new(&d, s, url));
    FAULT_OK(sp_set_int(d.id, "memfd-min", 65536));
    FAULT_OK(sp_dialer_start(d, 0));
    return s;
}

static void large_messages_travel_as_memory_files(void **state)
{
    unsigned char *body = malloc(LARGE);
    unsigned char *got = malloc(LARGE);
    char url[FAULT_URL];
    sp_socket a;
    sp_socket b;
    int before;

    (void)state;
    fault_place("unixgram", url);
    a = large_listen(url, 0);
    b = large_dial(url);
    FAULT_STAT(a.id, "pipes", 1);
    before = fault_fds_open();
    for (int i = 0; i < 40; i++) { // Small and large ones, in order.
        size_t n = i % 2 == 0 ? LARGE - (size_t)i : 100;

        memset(body, 'a' + i, n);
        FAULT_OK(sp_send(i < 20 ? a : b, body, n, 0));
        assert_int_equal(sp_recv(i < 20 ? b : a, got, LARGE, 0), n);
        assert_memory_equal(body, got, n);
    }
    assert_true(FAULT_WAIT(fault_fds_open() == before, FAULT_SOON));
    FAULT_AT_REST(a);
    FAULT_AT_REST(b);
    free(body);
    free(got);
}

/// Files that nobody takes are bounded, and none is lost.
static void large_messages_to_a_peer_that_does_not_read_wait(void **state)
{
    unsigned char *body = calloc(1, 1 << 20);
    char url[FAULT_URL];
    sp_socket a;
    sp_socket b;
    int n = 0;

    (void)state;
    fault_place("unixgram", url);
    a = large_listen(url, 0);
    b = large_dial(url);
    FAULT_OK(sp_set_int(b.id, "send-timeout", 300));
    for (;; n++) {
        memcpy(body, &n, sizeof(n));
        if (sp_send(b, body, 1 << 20, 0) != SP_OK) {
            break;
        }
        assert_true(n < 300);
    }
    for (int i = 0; i < n; i++) {
        int v = -1;

        assert_int_equal(sp_recv(a, body, 1 << 20, 0), 1 << 20);
        memcpy(&v, body, sizeof(v));
        assert_int_equal(v, i);
    }
    free(body);
}

static void large_message_over_the_receivers_limit_is_refused(void **state)
{
    unsigned char *body = calloc(1, LARGE);
    char url[FAULT_URL];
    sp_socket a;
    sp_socket b;

    (void)state;
    fault_place("unixgram", url);
    a = large_listen(url, 1 << 20);
    b = large_dial(url);
    FAULT_STAT(a.id, "pipes", 1);
    assert_int_equal(sp_send(b, body, LARGE, 0), SP_EMSGSIZE);
    assert_non_null(strstr(sp_error_detail(), "1048576"));
    FAULT_OK(sp_send(b, body, 1 << 20, 0));
    assert_int_equal(sp_recv(a, body, LARGE, 0), 1 << 20);
    free(body);
}

/* ------------------------------------------------------------------ Files and rights */

static void expect_in_use(const char *url)
{
    sp_socket s = fault_open("pair");
    struct stat before;
    struct stat after;

    assert_int_equal(lstat(path_of(url), &before), 0);
    assert_int_equal(sp_listen(s, url, NULL), -EADDRINUSE);
    assert_int_equal(lstat(path_of(url), &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_mode == after.st_mode);
    FAULT_OK(sp_close(s));
}

static void live_sockets_and_other_files_are_left_alone(void **state)
{
    char url[FAULT_URL];
    char target[FAULT_URL];
    struct couple c;
    int fd;

    (void)state;
    couple_open(&c, "pair", "pair");
    expect_in_use(c.url);
    fault_place("unixgram", url);
    fd = raw_socket(path_of(url));
    expect_in_use(url);
    (void)close(fd);
    fault_place("unixgram", url);
    fd = open(path_of(url), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    expect_in_use(url);
    (void)close(fd);
    fault_place("unixgram", target);
    fault_place("unixgram", url);
    (void)close(raw_socket(path_of(target)));
    assert_int_equal(symlink(path_of(target), path_of(url)), 0);
    expect_in_use(url);
    assert_true(there(path_of(target)));
}

static void stale_file_is_taken_over_and_removed_at_close(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("pair");
    sp_listener l;
    struct stat st;

    (void)state;
    fault_place("unixgram", url);
    (void)close(raw_socket(path_of(url)));
    assert_true(there(path_of(url)));
    FAULT_OK(sp_listen(s, url, &l));
    assert_int_equal(lstat(path_of(url), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    FAULT_OK(sp_listener_close(l));
    assert_true(FAULT_WAIT(!there(path_of(url)), FAULT_SOON));
    FAULT_OK(sp_listen(s, url, &l));
    FAULT_OK(sp_close(s));
    assert_false(there(path_of(url)));
}

static void address_is_free_after_close_though_connections_linger(void **state)
{
    struct couple c;

    (void)state;
    for (int i = 0; i < 20; i++) {
        sp_socket next = fault_open("pair");

        couple_open(&c, "pair", "pair");
        FAULT_OK(sp_set_int(c.listener.id, "linger", 1000));
        FAULT_OK(sp_send(c.listener, "x", 1, 0));
        FAULT_OK(sp_close(c.listener));
        FAULT_OK(sp_listen(next, c.url, NULL));
        FAULT_OK(sp_close(next));
        FAULT_OK(sp_close(c.dialer));
    }
}

static void name_that_does_not_fit_is_an_error(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("pair");

    (void)state;
    (void)snprintf(url, sizeof(url), "unixgram+abstract://%0108d", 1);
    assert_int_equal(sp_listen(s, url, NULL), SP_EINVAL);
    assert_non_null(strstr(sp_error_detail(), "107"));
    (void)snprintf(url, sizeof(url), "unixgram+abstract://%0107d", (int)getpid());
    FAULT_OK(sp_listen(s, url, NULL));
    assert_int_equal(sp_listen(s, "unixgram://", NULL), SP_EINVAL);
}

static void pipes_say_who_the_peer_is(void **state)
{
    struct couple c;
    sp_socket both[2];

    (void)state;
    couple_open(&c, "pair", "pair");
    both[0] = c.listener;
    both[1] = c.dialer;
    for (int i = 0; i < 2; i++) {
        sp_pipe pipe = only_pipe(both[i]);
        int64_t v = -1;

        FAULT_OK(sp_get_int(pipe.id, "peer-uid", &v));
        assert_int_equal(v, getuid());
        FAULT_OK(sp_get_int(pipe.id, "peer-gid", &v));
        assert_int_equal(v, getgid());
        FAULT_OK(sp_get_int(pipe.id, "peer-pid", &v));
        assert_int_equal(v, getpid());
    }
}

static void peers_of_other_users_and_groups_are_refused_and_counted(void **state)
{
    static const char *const options[] = {"allow-uid", "allow-gid"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        char url[FAULT_URL];
        sp_socket s = fault_open("pair");
        sp_socket d = fault_open("pair");
        sp_listener l;

        fault_place("unixgram", url);
        FAULT_OK(sp_listener_new(&l, s, url));
        FAULT_OK(sp_set_int(l.id, options[i], (i == 0 ? getuid() : getgid()) + 1));
        FAULT_OK(sp_listener_start(l));
        assert_int_equal(sp_dial(d, url, NULL, 0), -ECONNREFUSED);
        FAULT_STAT(s.id, "listeners.0.auth", 1);
        FAULT_STAT(s.id, "listeners.0.connect", 0);
        FAULT_OK(sp_close(d));
        FAULT_OK(sp_close(s));
    }
}

static const struct fault_role roles[] = {{"peer", role_peer}};

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FAULT_ONE(messages_arrive_all_and_in_order),
        FAULT_ONE(sender_to_a_peer_that_does_not_read_waits_without_spinning),
        FAULT_ONE(close_is_noticed_behind_a_full_queue),
        FAULT_ONE(strangers_do_not_reach_a_connection),
        FAULT_ONE(garbage_of_strangers_is_counted_and_leaves_nothing),
        FAULT_ONE(killed_peer_is_noticed),
        FAULT_ONE(message_that_is_too_large_is_refused_and_the_option_named),
        FAULT_ONE(large_messages_travel_as_memory_files),
        FAULT_ONE(large_messages_to_a_peer_that_does_not_read_wait),
        FAULT_ONE(large_message_over_the_receivers_limit_is_refused),
        FAULT_ONE(live_sockets_and_other_files_are_left_alone),
        FAULT_ONE(stale_file_is_taken_over_and_removed_at_close),
        FAULT_ONE(address_is_free_after_close_though_connections_linger),
        FAULT_ONE(name_that_does_not_fit_is_an_error),
        FAULT_ONE(pipes_say_who_the_peer_is),
        FAULT_ONE(peers_of_other_users_and_groups_are_refused_and_counted),
    };

    fault_roles(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
    return cmocka_run_group_tests_name("unixgram", tests, NULL, NULL);
}
