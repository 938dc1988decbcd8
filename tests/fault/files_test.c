/* SPDX-License-Identifier: MIT */
/// Socket files of ipc: their length, their owner, who may reach them and when, what may be taken
/// away and what never.
#include "fault.h"
#include "fault_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534
#define URL_PREFIX 6

static const char *path_of(const char *url)
{
    return url + URL_PREFIX;
}

static bool there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static mode_t mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

/// A URL whose path has exactly `len` bytes.
static void url_of_length(size_t len, char *url)
{
    char base[FAULT_URL];
    size_t at;

    fault_place("ipc", base);
    at = (size_t)snprintf(url, FAULT_URL, "%s-", base);
    assert_true(at < URL_PREFIX + len);
    memset(url + at, 'x', URL_PREFIX + len - at);
    url[URL_PREFIX + len] = '\0';
}

static void path_of_108_bytes_is_refused_and_107_works(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("rep");
    sp_socket req = fault_open("req");

    (void)state;
    url_of_length(107, url);
    FAULT_OK(sp_listen(s, url, NULL));
    FAULT_OK(sp_dial(req, url, NULL, 0));
    for (size_t len = 108; len < 140; len += 31) {
        sp_listener l = {1};

        url_of_length(len, url);
        assert_int_equal(sp_listen(s, url, &l), SP_EINVAL);
        assert_int_equal(l.id, 0);
        assert_non_null(strstr(sp_error_detail(), "107"));
        assert_int_equal(sp_dial(req, url, NULL, SP_NONBLOCK), SP_EINVAL);
        assert_false(there(path_of(url)));
    }
    assert_int_equal(sp_listen(s, "ipc://", NULL), SP_EINVAL);
}

/// Leaves a socket file that nobody listens on.
static void leave_stale(const char *url)
{
    int fd = fault_peer_listen(url);

    assert_true(fd >= 0);
    (void)close(fd);
    assert_true(there(path_of(url)));
}

static void stale_file_is_taken_over(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("rep");
    struct fault_peer p;

    (void)state;
    fault_place("ipc", url);
    leave_stale(url);
    FAULT_OK(sp_listen(s, url, NULL));
    assert_true(fault_peer_join(&p, url, RAWSP_REQ));
    fault_peer_close(&p);
    FAULT_OK(sp_close(s));
    assert_false(there(path_of(url)));
}

/// A second bind fails, and the first one's file stays reachable: with another process' listener,
/// with one that is bound and does not listen yet, and with our own.
static void live_socket_is_never_unlinked(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("rep");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct fault_peer p;
    struct stat before;
    struct stat after;
    int fd;

    (void)state;
    fault_place("ipc", url);
    fd = fault_peer_listen(url);
    assert_int_equal(lstat(path_of(url), &before), 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(sp_listen(s, url, NULL), -EADDRINUSE);
    }
    assert_int_equal(lstat(path_of(url), &after), 0);
    assert_true(before.st_ino == after.st_ino);
    assert_true(fault_peer_connect(&p, url));
    fault_peer_close(&p);
    (void)close(fd);

    fault_place("ipc", url);
    assert_true(strlen(path_of(url)) < sizeof(a.sun_path));
    memcpy(a.sun_path, path_of(url), strlen(path_of(url)) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(sp_listen(s, url, NULL), -EADDRINUSE);
    assert_true(there(path_of(url)));
    (void)close(fd);

    fault_place("ipc", url);
    FAULT_OK(sp_listen(s, url, NULL));
    assert_int_equal(sp_listen(s, url, NULL), -EADDRINUSE);
    assert_true(fault_peer_join(&p, url, RAWSP_REQ));
    fault_peer_close(&p);
}

/// Of many processes that find one stale file, exactly one gets it.
static int role_race(int argc, char **argv)
{
    sp_socket s = {0};
    int rc;

    FAULT_CHECK(argc == 1);
    FAULT_CHECK(sp_open(&s, "rep") == 0);
    fault_say("ready");
    fault_await();
    rc = sp_listen(s, argv[0], NULL);
    FAULT_CHECK(rc == 0 || rc == -EADDRINUSE);
    fault_say(rc == 0 ? "mine" : "taken");
    fault_await();
    sp_fini();
    return 0;
}

#define RACERS 4

static void one_of_many_takes_a_stale_file_over(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        struct proc racer[RACERS];
        char url[FAULT_URL];
        struct fault_peer p;
        int won = 0;

        fault_place("ipc", url);
        leave_stale(url);
        for (int i = 0; i < RACERS; i++) {
            fault_start(&racer[i], "race", url, NULL);
        }
        for (int i = 0; i < RACERS; i++) {
            assert_true(proc_wait_text(&racer[i], "ready\n", FAULT_SOON));
        }
        for (int i = 0; i < RACERS; i++) {
            assert_int_equal(proc_write(&racer[i], "\n", 1), 0);
        }
        for (int i = 0; i < RACERS; i++) {
            assert_true(proc_wait_output(&racer[i], sizeof("ready\nmine\n") - 1, FAULT_SOON));
            won += strstr(racer[i].output.data, "mine") != NULL;
        }
        assert_int_equal(won, 1);
        assert_true(fault_peer_join(&p, url, RAWSP_REQ));
        fault_peer_close(&p);
        for (int i = 0; i < RACERS; i++) {
            assert_int_equal(proc_write(&racer[i], "\n", 1), 0);
            fault_finish(&racer[i]);
        }
        assert_false(there(path_of(url)));
    }
}

static void file_is_removed_on_close(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("rep");
    sp_listener l;

    (void)state;
    fault_place("ipc", url);
    FAULT_OK(sp_listen(s, url, &l));
    assert_true(there(path_of(url)));
    FAULT_OK(sp_listener_close(l));
    assert_true(FAULT_WAIT(!there(path_of(url)), FAULT_SOON));
    FAULT_OK(sp_listen(s, url, &l));
    FAULT_OK(sp_close(s));
    assert_false(there(path_of(url)));
    s = fault_open("rep");
    FAULT_OK(sp_listen(s, url, &l));
    sp_fini();
    assert_false(there(path_of(url)));
}

/// What somebody else put in the file's place is not removed.
static void foreign_file_is_not_removed_on_close(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("rep");
    FILE *f;

    (void)state;
    fault_place("ipc", url);
    FAULT_OK(sp_listen(s, url, NULL));
    assert_int_equal(unlink(path_of(url)), 0);
    f = fopen(path_of(url), "we");
    assert_non_null(f);
    (void)fclose(f);
    FAULT_OK(sp_close(s));
    assert_true(there(path_of(url)));
    assert_int_equal(unlink(path_of(url)), 0);
}

/// A file that stands in the way stays as it is.
static void expect_untouched(sp_socket s, const char *url)
{
    const char *path = path_of(url);
    struct stat before;
    struct stat after;

    assert_int_equal(lstat(path, &before), 0);
    assert_int_equal(sp_listen(s, url, NULL), -EADDRINUSE);
    assert_int_equal(lstat(path, &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_mode == after.st_mode &&
                before.st_size == after.st_size);
}

static void files_of_other_kinds_are_refused_and_untouched(void **state)
{
    char url[FAULT_URL];
    char target[FAULT_URL];
    sp_socket s = fault_open("rep");
    int fd;

    (void)state;
    fault_place("ipc", url);
    fd = open(path_of(url), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert_int_equal(write(fd, "data", 4), 4);
    (void)close(fd);
    expect_untouched(s, url);

    fault_place("ipc", url);
    assert_int_equal(mkdir(path_of(url), 0700), 0);
    expect_untouched(s, url);
    (void)rmdir(path_of(url));

    fault_place("ipc", url);
    assert_int_equal(mkfifo(path_of(url), 0600), 0);
    expect_untouched(s, url);

    // Links: to nothing, to a file, to a stale socket, to a live one.
    fault_place("ipc", target);
    fault_place("ipc", url);
    assert_int_equal(symlink(path_of(target), path_of(url)), 0);
    expect_untouched(s, url);
    assert_false(there(path_of(target)));
    fd = open(path_of(target), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    (void)close(fd);
    expect_untouched(s, url);
    assert_int_equal(unlink(path_of(target)), 0);
    leave_stale(target);
    expect_untouched(s, url);
    assert_true(there(path_of(target)));
    assert_int_equal(unlink(path_of(target)), 0);
    fd = fault_peer_listen(target);
    expect_untouched(s, url);
    assert_true(there(path_of(target)));
    (void)close(fd);
}

static void directory_that_is_not_there_is_an_error(void **state)
{
    sp_socket s = fault_open("rep");

    (void)state;
    assert_int_equal(sp_listen(s, "ipc:///nonexistent/x", NULL), -ENOENT);
    assert_int_equal(sp_dial(s, "ipc:///nonexistent/x", NULL, 0), -ENOENT);
    assert_int_equal(sp_listen(s, "ipc:///dev/null/x", NULL), -ENOTDIR);
}

/* ------------------------------------------------------------------ Permissions */

static void permissions_are_0600_unless_asked_for(void **state)
{
    static const int64_t modes[] = {0600, 0660, 0666, 0777, 0200, 0000};
    mode_t old = umask(0);

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        for (int mask = 0; mask < 2; mask++) {
            char url[FAULT_URL];
            sp_socket s = fault_open("rep");
            sp_listener l;

            (void)umask(mask != 0 ? 0077 : 0);
            fault_place("ipc", url);
            FAULT_OK(sp_listener_new(&l, s, url));
            if (i > 0) {
                FAULT_OK(sp_set_int(l.id, "permissions", modes[i]));
            }
            FAULT_OK(sp_listener_start(l));
            assert_int_equal(mode_of(path_of(url)), modes[i]);
            assert_int_equal(sp_set_int(l.id, "permissions", 0600), SP_ESTATE);
            FAULT_OK(sp_close(s));
        }
    }
    (void)umask(old);
}

struct watcher {
    pthread_t thread;
    const char *path;
    atomic_bool stop;
    unsigned long long seen;
    unsigned wide; ///< bits beyond 0600 that were seen at any time
};

static void *watch_mode(void *arg)
{
    struct watcher *w = arg;

    while (!atomic_load(&w->stop)) {
        struct stat st;

        if (lstat(w->path, &st) == 0) {
            w->seen++;
            w->wide |= st.st_mode & 07177;
        }
    }
    return NULL;
}

/// Nobody ever sees the file with more rights than it shall have, whatever the umask.
static void permissions_are_in_force_from_the_first_moment(void **state)
{
    char url[FAULT_URL];
    struct watcher w = {.path = url + URL_PREFIX};
    mode_t old = umask(0);
    long long end = proc_now() + 1000;

    (void)state;
    fault_place("ipc", url);
    assert_int_equal(pthread_create(&w.thread, NULL, watch_mode, &w), 0);
    for (int i = 0; i < 300 || proc_now() < end; i++) {
        sp_socket s = fault_open("rep");

        FAULT_OK(sp_listen(s, url, NULL));
        FAULT_OK(sp_close(s));
    }
    atomic_store(&w.stop, true);
    assert_int_equal(pthread_join(w.thread, NULL), 0);
    (void)umask(old);
    assert_true(w.seen > 0);
    assert_int_equal(w.wide, 0);
}

/// A child of another user: connects until told to stop; ends with 1 if it ever got through.
static pid_t start_intruder(const char *url, int uid, int stop[2])
{
    pid_t pid;

    assert_int_equal(pipe2(stop, O_CLOEXEC | O_NONBLOCK), 0);
    pid = fork();
    if (pid == 0) {
        struct fault_peer p;
        char c;

        if (setgid((gid_t)uid) < 0 || setuid((uid_t)uid) < 0) {
            _exit(2);
        }
        (void)close(stop[1]);
        while (read(stop[0], &c, 1) < 0 && errno == EAGAIN) {
            if (fault_peer_connect(&p, url)) {
                _exit(1);
            }
        }
        _exit(0);
    }
    (void)close(stop[0]);
    return pid;
}

static void other_users_never_get_through(void **state)
{
    char url[FAULT_URL];
    char dir[FAULT_URL];
    mode_t old;
    int stop[2];
    int status = 0;
    long long end;
    pid_t pid;

    (void)state;
    if (geteuid() != 0) {
        print_message("needs root, to be another user\n");
        skip();
    }
    fault_place("ipc", url);
    (void)snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(url, '/') - path_of(url)), path_of(url));
    assert_int_equal(chmod(dir, 0755), 0); // The file alone decides.
    old = umask(0);
    pid = start_intruder(url, NOBODY, stop);
    end = proc_now() + 1000;
    for (int i = 0; i < 300 || proc_now() < end; i++) {
        sp_socket s = fault_open("rep");

        FAULT_OK(sp_listen(s, url, NULL));
        FAULT_OK(sp_close(s));
    }
    (void)close(stop[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    (void)umask(old);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ------------------------------------------------------------------ Who is at the other end */

static sp_pipe only_pipe(sp_socket s)
{
    sp_peer_info info = {.size = sizeof(info)};
    size_t n = 1;

    FAULT_STAT(s.id, "pipes", 1);
    FAULT_OK(sp_peers(s, &info, &n));
    return info.pipe;
}

static void pipes_say_who_the_peer_is(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_listen("rep", *state, url);
    struct fault_peer p;
    sp_peer_info info = {.size = sizeof(info)};
    size_t n = 1;
    sp_pipe pipe;
    int64_t v = 0;

    assert_true(fault_peer_join(&p, url, RAWSP_REQ));
    pipe = only_pipe(s);
    FAULT_OK(sp_get_int(pipe.id, "peer-uid", &v));
    assert_int_equal(v, getuid());
    FAULT_OK(sp_get_int(pipe.id, "peer-gid", &v));
    assert_int_equal(v, getgid());
    FAULT_OK(sp_get_int(pipe.id, "peer-pid", &v));
    assert_int_equal(v, getpid());
    assert_int_equal(sp_set_int(pipe.id, "peer-uid", 0), SP_ESTATE);
    FAULT_OK(sp_peers(s, &info, &n));
    assert_int_equal(info.uid, getuid());
    assert_int_equal(info.gid, getgid());
    assert_int_equal(info.pid, getpid());
    fault_peer_close(&p);
}

static void tcp_does_not_know_who_the_peer_is(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_listen("rep", *state, url);
    struct fault_peer p;
    int64_t v;

    assert_true(fault_peer_join(&p, url, RAWSP_REQ));
    assert_int_equal(sp_get_int(only_pipe(s).id, "peer-uid", &v), SP_ENOTSUP);
    fault_peer_close(&p);
}

/// A peer of another user that joins, and says with its end whether it was let in (0) or not (1).
static int join_as(int uid, const char *url)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        struct fault_peer p;
        char c;

        if (setgid((gid_t)uid) < 0 || setuid((uid_t)uid) < 0) {
            _exit(2);
        }
        if (!fault_peer_join(&p, url, RAWSP_REQ) || !fault_peer_send(&p, "\x80\0\0\1?", 5)) {
            _exit(1);
        }
        _exit(fault_peer_recv(&p, &c, 0, 500) == 0 || !fault_peer_is_open(&p) ? 1 : 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/// Listens where everybody may connect, with one more option.
static sp_socket listen_for(const char *option, int64_t value, char url[FAULT_URL])
{
    sp_socket s = fault_open("rep");
    char dir[FAULT_URL];
    sp_listener l;

    fault_place("ipc", url);
    (void)snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(url, '/') - path_of(url)), path_of(url));
    assert_int_equal(chmod(dir, 0755), 0);
    FAULT_OK(sp_listener_new(&l, s, url));
    FAULT_OK(sp_set_int(l.id, "permissions", 0666));
    FAULT_OK(sp_set_int(l.id, option, value));
    FAULT_OK(sp_listener_start(l));
    return s;
}

static void users_that_are_not_allowed_are_refused_and_counted(void **state)
{
    static const char *const options[] = {"allow-uid", "allow-gid"};

    (void)state;
    if (geteuid() != 0) {
        print_message("needs root, to be another user\n");
        skip();
    }
    for (int i = 0; i < 2; i++) {
        char url[FAULT_URL];
        sp_socket s = listen_for(options[i], getuid(), url);
        struct fault_peer p;

        assert_int_equal(join_as(NOBODY, url), 1);
        FAULT_STAT(s.id, "listeners.0.auth", 1);
        FAULT_STAT(s.id, "listeners.0.connect", 0);
        FAULT_STAT(s.id, "rx_received", 0);
        assert_true(fault_peer_join(&p, url, RAWSP_REQ)); // The one who is.
        FAULT_STAT(s.id, "listeners.0.connect", 1);
        fault_peer_close(&p);
        FAULT_OK(sp_close(s));
        s = listen_for(options[i], NOBODY, url);
        assert_int_equal(join_as(NOBODY, url), 0);
        FAULT_STAT(s.id, "listeners.0.auth", 0);
        FAULT_STAT(s.id, "listeners.0.connect", 1);
        FAULT_OK(sp_close(s));
    }
}

/// A dialer can ask the same of who listens.
static void dialers_refuse_listeners_of_other_users(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("pair");
    sp_dialer d;
    int listener;

    (void)state;
    fault_place("ipc", url);
    listener = fault_peer_listen(url);
    FAULT_OK(sp_dialer_new(&d, s, url));
    FAULT_OK(sp_set_int(d.id, "allow-uid", NOBODY));
    assert_int_equal(sp_dialer_start(d, 0), -EACCES);
    FAULT_STAT(d.id, "auth", 1);
    (void)close(listener);
}

static const struct fault_role roles[] = {{"race", role_race}};

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FAULT_ONE(path_of_108_bytes_is_refused_and_107_works),
        FAULT_ONE(stale_file_is_taken_over),
        FAULT_ONE(live_socket_is_never_unlinked),
        FAULT_ONE(one_of_many_takes_a_stale_file_over),
        FAULT_ONE(file_is_removed_on_close),
        FAULT_ONE(foreign_file_is_not_removed_on_close),
        FAULT_ONE(files_of_other_kinds_are_refused_and_untouched),
        FAULT_ONE(directory_that_is_not_there_is_an_error),
        FAULT_ONE(permissions_are_0600_unless_asked_for),
        FAULT_ONE(permissions_are_in_force_from_the_first_moment),
        FAULT_ONE(other_users_never_get_through),
        FAULT_OVER(pipes_say_who_the_peer_is, "ipc"),
        FAULT_OVER(tcp_does_not_know_who_the_peer_is, "tcp"),
        FAULT_ONE(users_that_are_not_allowed_are_refused_and_counted),
        FAULT_ONE(dialers_refuse_listeners_of_other_users),
    };

    fault_roles(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
    return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
