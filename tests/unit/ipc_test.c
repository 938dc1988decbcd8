/* SPDX-License-Identifier: MIT */
/// Transports ipc and abstract, with a fake host: connections, and above all the rules for socket
/// files. The plugin is compiled into the test.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_host.h"
#include "transports/ipc/ipc.c"
#include "sdk/sockfile.c"

/// The directory of the test that runs, and the socket in it.
static char dir[64];
static char file[80];
static char url[96];

static int dir_make(void **state)
{
    (void)state;
    fake_reset();
    (void)snprintf(dir, sizeof(dir), "/tmp/sp-ipc-test-XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    (void)snprintf(file, sizeof(file), "%s/socket", dir);
    (void)snprintf(url, sizeof(url), "ipc://%s", file);
    return 0;
}

static int dir_remove(void **state)
{
    (void)state;
    (void)unlink(file);
    // A test that leaves anything else behind fails here.
    return rmdir(dir);
}

static struct fake_ep *ep_new(const char *at)
{
    bool abstract = strncmp(at, "abstract:", 9) == 0;
    sp_cause cause = {""};
    int rc;
    struct fake_ep *ep = fake_ep_new(abstract ? &abstract_ops : &ipc_ops, at, &rc, &cause);

    if (rc != SP_OK) {
        fail_msg("%s: %s", at, cause.text);
    }
    return ep;
}

static int ep_listen(struct fake_ep *ep, sp_bound *bound, sp_cause *cause)
{
    memset(bound, 0, sizeof(*bound));
    bound->size = sizeof(*bound);
    memset(cause, 0, sizeof(*cause));
    return ep->ops->listen(ep->ref.state, bound, cause);
}

static struct fake_ep *listen_at(const char *at)
{
    struct fake_ep *ep = ep_new(at);
    sp_bound bound;
    sp_cause cause;
    int rc = ep_listen(ep, &bound, &cause);

    if (rc != SP_OK) {
        fail_msg("%s: %s: %s", at, cause.text, strerror(-rc));
    }
    return ep;
}

/// Listening at `url` fails with this code, and this in the cause.
static void assert_listen_fails(int code, const char *cause_part)
{
    struct fake_ep *ep = ep_new(url);
    sp_bound bound;
    sp_cause cause;

    assert_int_equal(ep_listen(ep, &bound, &cause), code);
    if (strstr(cause.text, cause_part) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", cause_part, cause.text);
    }
    fake_ep_free(ep);
}

static struct sockaddr_un address(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    memcpy(a.sun_path, path, strlen(path) + 1);
    return a;
}

static int raw_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    return fd;
}

static int raw_bind(int fd, const char *path)
{
    struct sockaddr_un a = address(path);

    return bind(fd, (const struct sockaddr *)&a, sizeof(a));
}

static int raw_connect(int fd, const char *path)
{
    struct sockaddr_un a = address(path);

    return connect(fd, (const struct sockaddr *)&a, sizeof(a));
}

/// A socket file that nobody is bound to.
static void leave_stale(const char *path)
{
    int fd = raw_socket();

    assert_int_equal(raw_bind(fd, path), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(close(fd), 0);
}

static bool is_there(const char *path)
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

static void assert_answers(const char *path)
{
    int fd = raw_socket();

    assert_int_equal(raw_connect(fd, path), 0);
    assert_int_equal(close(fd), 0);
}

/// A connection from `dialer` to `listener`, with what came of the handshakes.
struct link {
    struct fake_pipe *accepted;
    struct fake_pipe *dialed;
    sp_handshake hs_accepted;
    sp_handshake hs_dialed;
    int rc_accepted;
    int rc_dialed;
};

static void link_open(struct link *l, struct fake_ep *listener, struct fake_ep *dialer)
{
    sp_cause cause;

    memset(l, 0, sizeof(*l));
    l->dialed = fake_pipe_new(dialer->ops);
    l->accepted = fake_pipe_new(listener->ops);
    assert_int_equal(ipc_dial(dialer->ref.state, l->dialed->ref.tran, &l->dialed->ref, &cause),
                     SP_OK);
    assert_int_equal(fake_accept(listener, l->accepted, &cause), SP_OK);
    l->hs_accepted = fake_hs(0x31, 0x30);
    l->hs_dialed = fake_hs(0x30, 0x31);
    fake_handshakes(l->accepted, &l->hs_accepted, &l->rc_accepted, l->dialed, &l->hs_dialed,
                    &l->rc_dialed);
}

static void link_close(struct link *l)
{
    fake_pipe_free(l->dialed);
    fake_pipe_free(l->accepted);
    assert_int_equal(fake.msgs_live, 0);
}

static void assert_carries(struct fake_pipe *a, struct fake_pipe *b, const char *text)
{
    sp_batch out = {0};
    sp_batch in = {0};

    sp_batch_push(&out, fake_msg("\x80\0\0\1", 4, text, strlen(text)));
    assert_int_equal(a->ops->submit(a->ref.tran, &out), SP_OK);
    assert_int_equal(fake_harvest(b, &in, 1), 1);
    assert_int_equal(in.head->len, 4 + strlen(text));
    assert_memory_equal(in.head->data + 4, text, strlen(text));
    fake_drop(&in);
}

/* ------------------------------------------------------------------ URLs */

static void ipc_refuses_a_path_that_does_not_fit_and_names_the_limit(void **state)
{
    static const char *const schemes[] = {"ipc", "abstract"};

    (void)state;
    for (int i = 0; i < 4; i++) {
        char long_url[300];
        sp_cause cause = {""};
        int rc;
        struct fake_ep *ep;

        (void)snprintf(long_url, sizeof(long_url), "%s://%0*d", schemes[i % 2], 107 + i / 2, 0);
        ep = fake_ep_new(i % 2 == 0 ? &ipc_ops : &abstract_ops, long_url, &rc, &cause);
        assert_int_equal(rc, i < 2 ? SP_OK : SP_EINVAL);
        if (i >= 2) {
            assert_non_null(strstr(cause.text, "of 108 bytes: the system takes at most 107"));
        }
        fake_ep_free(ep);
    }
}

static void ipc_refuses_an_empty_path(void **state)
{
    sp_cause cause = {""};
    int rc;

    (void)state;
    fake_ep_free(fake_ep_new(&ipc_ops, "ipc://", &rc, &cause));
    assert_int_equal(rc, SP_EINVAL);
    assert_string_equal(cause.text, "path is missing");
    fake_ep_free(fake_ep_new(&abstract_ops, "abstract://", &rc, &cause));
    assert_int_equal(rc, SP_EINVAL);
    assert_string_equal(cause.text, "name is missing");
}

/* ------------------------------------------------------------------ Connections */

static void ipc_carries_messages_both_ways_and_knows_the_peer(void **state)
{
    struct fake_ep *listener = listen_at(url);
    struct fake_ep *dialer = ep_new(url);
    struct link l;

    (void)state;
    link_open(&l, listener, dialer);
    assert_int_equal(l.rc_accepted, SP_OK);
    assert_int_equal(l.rc_dialed, SP_OK);
    assert_int_equal(l.hs_accepted.uid, getuid());
    assert_int_equal(l.hs_accepted.gid, getgid());
    assert_int_equal(l.hs_accepted.pid, getpid());
    assert_int_equal(l.hs_dialed.pid, getpid());
    assert_string_equal(l.hs_accepted.remote, file);
    assert_string_equal(l.hs_dialed.remote, file);
    assert_carries(l.dialed, l.accepted, "there");
    assert_carries(l.accepted, l.dialed, "and back");
    link_close(&l);
    fake_ep_free(dialer);
    fake_ep_free(listener);
}

static void ipc_says_where_it_listens(void **state)
{
    struct fake_ep *ep = ep_new(url);
    sp_bound bound;
    sp_cause cause;

    (void)state;
    assert_int_equal(ep_listen(ep, &bound, &cause), SP_OK);
    assert_int_equal(bound.port, -1);
    assert_string_equal(bound.local, file);
    assert_string_equal(bound.url, url);
    fake_ep_free(ep);
}

static void abstract_needs_no_file(void **state)
{
    char name[64];
    struct fake_ep *listener;
    struct fake_ep *second;
    struct fake_ep *dialer;
    struct link l;
    sp_bound bound;
    sp_cause cause;

    (void)state;
    (void)snprintf(name, sizeof(name), "abstract://sp-test-%d", (int)getpid());
    listener = listen_at(name);
    dialer = ep_new(name);
    link_open(&l, listener, dialer);
    assert_int_equal(l.rc_dialed, SP_OK);
    assert_int_equal(l.hs_dialed.remote[0], '@');
    assert_string_equal(l.hs_dialed.remote + 1, name + strlen("abstract://"));
    assert_int_equal(l.hs_accepted.pid, getpid());
    assert_carries(l.dialed, l.accepted, "no file");
    second = ep_new(name);
    assert_int_equal(ep_listen(second, &bound, &cause), -EADDRINUSE);
    link_close(&l);
    fake_ep_free(listener);
    assert_int_equal(ep_listen(second, &bound, &cause), SP_OK);
    assert_string_equal(bound.url, name);
    fake_ep_free(second);
    fake_ep_free(dialer);
}

static void ipc_dial_to_nobody_is_an_error(void **state)
{
    struct fake_ep *dialer = ep_new(url);
    struct fake_pipe *p = fake_pipe_new(&ipc_ops);
    sp_cause cause;

    (void)state;
    assert_int_equal(ipc_dial(dialer->ref.state, p->ref.tran, &p->ref, &cause), -ENOENT);
    assert_string_equal(cause.text, "connect");
    leave_stale(file);
    assert_int_equal(ipc_dial(dialer->ref.state, p->ref.tran, &p->ref, &cause), -ECONNREFUSED);
    fake_pipe_free(p);
    fake_ep_free(dialer);
}

static void ipc_dial_to_a_full_queue_is_a_refusal(void **state)
{
    struct fake_ep *dialer = ep_new(url);
    struct fake_pipe *p[4];
    sp_cause cause;
    int fd = raw_socket();
    int rc = SP_OK;
    size_t n = 0;

    (void)state;
    assert_int_equal(raw_bind(fd, file), 0);
    assert_int_equal(listen(fd, 0), 0);
    while (rc == SP_OK && n < 4) {
        p[n] = fake_pipe_new(&ipc_ops);
        rc = ipc_dial(dialer->ref.state, p[n]->ref.tran, &p[n]->ref, &cause);
        n++;
    }
    assert_int_equal(rc, -ECONNREFUSED);
    assert_string_equal(cause.text, "connect: the listener's queue is full");
    while (n > 0) {
        fake_pipe_free(p[--n]);
    }
    fake_ep_free(dialer);
    assert_int_equal(close(fd), 0);
}

static void ipc_peer_of_another_user_or_group_is_refused(void **state)
{
    static const char *const options[] = {"allow-uid", "allow-gid"};
    static const char *const causes[] = {"peer uid %u is not allowed",
                                         "peer gid %u is not allowed"};
    const int64_t own[] = {getuid(), getgid()};

    (void)state;
    // The listener refuses, the dialer refuses, for uid and gid.
    for (int i = 0; i < 4; i++) {
        struct fake_ep *listener = listen_at(url);
        struct fake_ep *dialer = ep_new(url);
        struct link l;
        char expected[64];

        fake_ep_set_int(i < 2 ? listener : dialer, options[i % 2], own[i % 2] + 1);
        link_open(&l, listener, dialer);
        (void)snprintf(expected, sizeof(expected), i % 2 == 0 ? causes[0] : causes[1],
                       (unsigned)own[i % 2]);
        assert_int_equal(i < 2 ? l.rc_accepted : l.rc_dialed, -EACCES);
        assert_string_equal(i < 2 ? l.hs_accepted.cause.text : l.hs_dialed.cause.text, expected);
        link_close(&l);
        fake_ep_free(dialer);
        fake_ep_free(listener);
    }
}

static void ipc_peer_that_is_refused_hears_nothing(void **state)
{
    struct fake_ep *listener = listen_at(url);
    struct fake_pipe *p = fake_pipe_new(&ipc_ops);
    sp_handshake hs = fake_hs(0x10, 0x10);
    sp_cause cause;
    int fd = raw_socket();
    char c;

    (void)state;
    fake_ep_set_int(listener, "allow-uid", (int64_t)getuid() + 1);
    assert_int_equal(raw_connect(fd, file), 0);
    assert_int_equal(fake_accept(listener, p, &cause), SP_OK);
    assert_int_equal(ipc_ops.handshake(p->ref.tran, 0, &hs), -EACCES);
    fake_pipe_free(p);
    assert_int_equal(read(fd, &c, 1), 0);
    assert_int_equal(close(fd), 0);
    fake_ep_free(listener);
}

static void ipc_peer_that_is_allowed_gets_in(void **state)
{
    struct fake_ep *listener = listen_at(url);
    struct fake_ep *dialer = ep_new(url);
    struct link l;

    (void)state;
    fake_ep_set_int(listener, "allow-uid", getuid());
    fake_ep_set_int(listener, "allow-gid", getgid());
    fake_ep_set_int(dialer, "allow-uid", getuid());
    link_open(&l, listener, dialer);
    assert_int_equal(l.rc_accepted, SP_OK);
    assert_int_equal(l.rc_dialed, SP_OK);
    link_close(&l);
    fake_ep_free(dialer);
    fake_ep_free(listener);
}

static void ipc_peer_killed_in_mid_message_delivers_nothing_of_it(void **state)
{
    struct fake_ep *listener = listen_at(url);
    struct fake_pipe *p = fake_pipe_new(&ipc_ops);
    sp_handshake hs = fake_hs(0x10, 0x10);
    sp_batch in = {0};
    sp_cause cause;
    int rc;
    int none;
    pid_t child;

    (void)state;
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        char hello[8];

        if (raw_connect(fd, file) == 0 && write(fd, "\0SP\0\0\x10\0\0", 8) == 8 &&
            recv(fd, hello, 8, MSG_WAITALL) == 8 &&
            write(fd, "\1\0\0\0\0\0\0\0\5whole\1\0\0\0\0\0\0\0\x64half", 27) == 27) {
            (void)raise(SIGKILL);
        }
        _exit(1);
    }
    assert_int_equal(fake_accept(listener, p, &cause), SP_OK);
    fake_handshakes(p, &hs, &rc, NULL, NULL, &none);
    assert_int_equal(rc, SP_OK);
    assert_int_equal(hs.pid, child);
    assert_int_equal(waitpid(child, &none, 0), child);
    assert_int_equal(fake_harvest(p, &in, 2), -ECONNRESET);
    assert_int_equal(in.n, 1);
    assert_memory_equal(in.head->data, "whole", 5);
    fake_drop(&in);
    fake_pipe_free(p);
    fake_ep_free(listener);
}

static void ipc_close_of_an_endpoint_is_idempotent_and_final(void **state)
{
    struct fake_ep *listener = listen_at(url);
    struct fake_pipe *p = fake_pipe_new(&ipc_ops);
    sp_cause cause;

    (void)state;
    ipc_ep_close(listener->ref.state);
    ipc_ep_close(listener->ref.state);
    assert_int_equal(fake.ep_unwatches, 1);
    assert_int_equal(ipc_accept(listener->ref.state, p->ref.tran, &p->ref, &cause), SP_ECLOSED);
    assert_int_equal(ipc_dial(listener->ref.state, p->ref.tran, &p->ref, &cause), SP_ECLOSED);
    fake_pipe_free(p);
    fake_ep_free(listener);
}

/* ------------------------------------------------------------------ Permissions */

static void ipc_file_is_its_owners_alone_unless_told_otherwise(void **state)
{
    static const mode_t umasks[] = {0, 022, 077, 0777};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        mode_t before = umask(umasks[i]);
        struct fake_ep *ep = listen_at(url);

        assert_int_equal(umask(before), umasks[i]); // and the umask is left alone
        assert_int_equal(mode_of(file), 0600);
        fake_ep_free(ep);
    }
}

static void ipc_file_has_exactly_the_permissions_asked_for(void **state)
{
    static const mode_t modes[] = {0666, 0660, 0777, 0400, 0};

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        mode_t before = umask(077);
        struct fake_ep *ep = ep_new(url);
        sp_bound bound;
        sp_cause cause;

        fake_ep_set_int(ep, "permissions", modes[i]);
        assert_int_equal(ep_listen(ep, &bound, &cause), SP_OK);
        assert_int_equal(mode_of(file), modes[i]);
        fake_ep_free(ep);
        (void)umask(before);
    }
}

static void ipc_file_never_has_more_permissions_than_asked_for(void **state)
{
    struct sockaddr_un a = address(file);
    mode_t before = umask(0);
    int fd = raw_socket();

    (void)state;
    // What sp_sockfile_bind relies on: the file is born with the bits of the socket.
    assert_int_equal(fchmod(fd, 0600), 0);
    assert_int_equal(path_bind(fd, &a), SP_OK);
    assert_int_equal(mode_of(file), 0600);
    assert_int_equal(close(fd), 0);
    (void)umask(before);
}

/* ------------------------------------------------------------------ Socket files */

static void ipc_file_is_gone_after_close_and_the_path_free(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct fake_ep *ep = listen_at(url);

        assert_true(is_there(file));
        ipc_ep_close(ep->ref.state);
        assert_false(is_there(file));
        fake_ep_free(ep);
    }
}

static void ipc_takes_over_a_file_that_nobody_is_bound_to(void **state)
{
    struct fake_ep *ep;

    (void)state;
    leave_stale(file);
    ep = listen_at(url);
    assert_answers(file);
    fake_ep_free(ep);
    assert_false(is_there(file));
}

static void ipc_leaves_a_live_listener_alone(void **state)
{
    struct fake_ep *first = listen_at(url);
    struct fake_pipe *p = fake_pipe_new(&ipc_ops);
    sp_cause cause;

    (void)state;
    assert_listen_fails(-EADDRINUSE, "bind");
    assert_answers(file);
    // The question whether it lives was not a connection.
    assert_int_equal(fake_accept(first, p, &cause), SP_OK); // assert_answers'
    assert_int_equal(ipc_accept(first->ref.state, p->ref.tran, &p->ref, &cause), SP_EAGAIN);
    fake_pipe_free(p);
    fake_ep_free(first);
}

static void ipc_leaves_a_socket_alone_that_does_not_listen_yet(void **state)
{
    int fd = raw_socket();

    (void)state;
    assert_int_equal(raw_bind(fd, file), 0);
    assert_listen_fails(-EADDRINUSE, "bind");
    assert_int_equal(listen(fd, 1), 0);
    assert_answers(file);
    assert_int_equal(close(fd), 0);
}

static void ipc_leaves_a_live_datagram_socket_alone(void **state)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_int_equal(raw_bind(fd, file), 0);
    assert_listen_fails(-EADDRINUSE, "bind");
    assert_true(is_there(file));
    assert_int_equal(close(fd), 0);
}

static void ipc_leaves_alone_what_is_no_socket(void **state)
{
    struct stat st;
    char target[80];
    int fd;

    (void)state;
    fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "data", 4), 4);
    assert_int_equal(close(fd), 0);
    assert_listen_fails(-EADDRINUSE, "is not a socket");
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_size, 4);
    assert_int_equal(unlink(file), 0);

    assert_int_equal(mkdir(file, 0700), 0);
    assert_listen_fails(-EADDRINUSE, "is not a socket");
    assert_int_equal(rmdir(file), 0);

    // A symbolic link to nothing, and to a socket that nobody is bound to.
    (void)snprintf(target, sizeof(target), "%s/target", dir);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(symlink(target, file), 0);
        assert_listen_fails(-EADDRINUSE, "is not a socket");
        assert_int_equal(lstat(file, &st), 0);
        assert_true(S_ISLNK(st.st_mode));
        assert_int_equal(is_there(target), i == 1);
        assert_int_equal(unlink(file), 0);
        if (i == 0) {
            leave_stale(target);
        }
    }
    assert_int_equal(unlink(target), 0);
}

static void ipc_removes_at_close_only_its_own_file(void **state)
{
    struct fake_ep *ep = listen_at(url);
    int fd = raw_socket();

    (void)state;
    assert_int_equal(unlink(file), 0);
    assert_int_equal(raw_bind(fd, file), 0);
    assert_int_equal(listen(fd, 1), 0);
    fake_ep_free(ep);
    assert_answers(file);
    assert_int_equal(close(fd), 0);
}

static void ipc_removes_a_file_of_a_relative_path_after_chdir(void **state)
{
    int before = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct fake_ep *ep;

    (void)state;
    assert_int_equal(chdir(dir), 0);
    ep = listen_at("ipc://socket");
    assert_true(is_there(file));
    assert_int_equal(chdir("/"), 0);
    fake_ep_free(ep);
    assert_false(is_there(file));
    assert_int_equal(fchdir(before), 0);
    assert_int_equal(close(before), 0);
}

static void ipc_names_the_directory_that_is_missing(void **state)
{
    char at[128];
    struct fake_ep *ep;
    sp_bound bound;
    sp_cause cause;

    (void)state;
    (void)snprintf(at, sizeof(at), "ipc://%s/no/socket", dir);
    ep = ep_new(at);
    assert_int_equal(ep_listen(ep, &bound, &cause), -ENOENT);
    assert_non_null(strstr(cause.text, "bind: directory \"/tmp/"));
    fake_ep_free(ep);
}

static void ipc_does_not_take_over_in_a_directory_that_another_has_locked(void **state)
{
    int lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct fake_ep *ep;

    (void)state;
    assert_int_equal(flock(lock, LOCK_EX), 0);
    ep = listen_at(url); // where nothing stands, no lock is needed
    fake_ep_free(ep);
    leave_stale(file);
    assert_listen_fails(-EADDRINUSE, "cannot lock the directory");
    assert_true(is_there(file));
    assert_int_equal(close(lock), 0);
    ep = listen_at(url);
    fake_ep_free(ep);
}

#define RACERS 4

static pthread_barrier_t race_start;

static void *race(void *arg)
{
    struct sockaddr_un a = address(file);
    struct sp_sockfile path = {.dir = -1};
    sp_cause cause;
    int *fd = arg;

    (void)pthread_barrier_wait(&race_start);
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd >= 0) {
        int rc = sp_sockfile_bind(*fd, &a, 0600, &path, &cause);

        if (rc < 0 || listen(*fd, 16) < 0) {
            (void)close(*fd);
            *fd = rc < 0 ? rc : -errno;
        }
    }
    // Nobody removes the file: the winner must still be found there in the end.
    if (path.dir >= 0) {
        (void)close(path.dir);
    }
    return NULL;
}

static void ipc_one_of_many_gets_a_file_that_is_taken_over_and_keeps_it(void **state)
{
    (void)state;
    assert_int_equal(pthread_barrier_init(&race_start, NULL, RACERS), 0);
    for (int round = 0; round < 200; round++) {
        pthread_t threads[RACERS];
        int fds[RACERS];
        int winners = 0;

        leave_stale(file);
        for (int i = 0; i < RACERS; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, race, &fds[i]), 0);
        }
        for (int i = 0; i < RACERS; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
            winners += fds[i] >= 0;
            assert_true(fds[i] >= 0 || fds[i] == -EADDRINUSE);
        }
        assert_int_equal(winners, 1);
        assert_answers(file);
        for (int i = 0; i < RACERS; i++) {
            if (fds[i] >= 0) {
                assert_int_equal(close(fds[i]), 0);
            }
        }
        assert_int_equal(unlink(file), 0);
    }
    assert_int_equal(pthread_barrier_destroy(&race_start), 0);
}

static void ipc_listener_that_cannot_be_watched_leaves_no_file(void **state)
{
    (void)state;
    fake.watch_fails = -ENOSPC;
    assert_listen_fails(-ENOSPC, "watch");
    assert_false(is_there(file));
}

static void ipc_listens_on_a_socket_that_it_is_given_and_leaves_its_file(void **state)
{
    struct fake_ep *ep = ep_new("ipc:///not/used");
    sp_bound bound;
    sp_cause cause;
    int fd = raw_socket();

    (void)state;
    assert_int_equal(raw_bind(fd, file), 0);
    fake_ep_set_int(ep, "listen-fd", fd);
    assert_int_equal(ep_listen(ep, &bound, &cause), SP_EINVAL); // it does not listen yet
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(ep_listen(ep, &bound, &cause), SP_OK);
    assert_string_equal(bound.local, file);
    assert_string_equal(bound.url, url);
    fake_ep_free(ep);
    assert_answers(file);
    assert_int_equal(close(fd), 0);
}

static void ipc_descriptor_exports_both_schemes(void **state)
{
    const sp_plugin *plugin = sp_plugin_entry_v1();

    (void)state;
    assert_ptr_equal(plugin, sp_plugin_entry_v1());
    assert_string_equal(plugin->id, "org.scalability-protocols.sp.ipc");
    assert_int_equal(plugin->export_count, 2);
    assert_string_equal(plugin->exports[0].name, "ipc");
    assert_string_equal(plugin->exports[1].name, "abstract");
    for (size_t i = 0; i < abstract_ops.option_count; i++) {
        assert_string_not_equal(abstract_ops.options[i].name, "permissions");
    }
}

#define IPC_TEST(name) cmocka_unit_test_setup_teardown(name, dir_make, dir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IPC_TEST(ipc_refuses_a_path_that_does_not_fit_and_names_the_limit),
        IPC_TEST(ipc_refuses_an_empty_path),
        IPC_TEST(ipc_carries_messages_both_ways_and_knows_the_peer),
        IPC_TEST(ipc_says_where_it_listens),
        IPC_TEST(abstract_needs_no_file),
        IPC_TEST(ipc_dial_to_nobody_is_an_error),
        IPC_TEST(ipc_dial_to_a_full_queue_is_a_refusal),
        IPC_TEST(ipc_peer_of_another_user_or_group_is_refused),
        IPC_TEST(ipc_peer_that_is_refused_hears_nothing),
        IPC_TEST(ipc_peer_that_is_allowed_gets_in),
        IPC_TEST(ipc_peer_killed_in_mid_message_delivers_nothing_of_it),
        IPC_TEST(ipc_close_of_an_endpoint_is_idempotent_and_final),
        IPC_TEST(ipc_file_is_its_owners_alone_unless_told_otherwise),
        IPC_TEST(ipc_file_has_exactly_the_permissions_asked_for),
        IPC_TEST(ipc_file_never_has_more_permissions_than_asked_for),
        IPC_TEST(ipc_file_is_gone_after_close_and_the_path_free),
        IPC_TEST(ipc_takes_over_a_file_that_nobody_is_bound_to),
        IPC_TEST(ipc_leaves_a_live_listener_alone),
        IPC_TEST(ipc_leaves_a_socket_alone_that_does_not_listen_yet),
        IPC_TEST(ipc_leaves_a_live_datagram_socket_alone),
        IPC_TEST(ipc_leaves_alone_what_is_no_socket),
        IPC_TEST(ipc_removes_at_close_only_its_own_file),
        IPC_TEST(ipc_removes_a_file_of_a_relative_path_after_chdir),
        IPC_TEST(ipc_names_the_directory_that_is_missing),
        IPC_TEST(ipc_does_not_take_over_in_a_directory_that_another_has_locked),
        IPC_TEST(ipc_one_of_many_gets_a_file_that_is_taken_over_and_keeps_it),
        IPC_TEST(ipc_listener_that_cannot_be_watched_leaves_no_file),
        IPC_TEST(ipc_listens_on_a_socket_that_it_is_given_and_leaves_its_file),
        IPC_TEST(ipc_descriptor_exports_both_schemes),
    };

    return cmocka_run_group_tests(tests, fake_fds_before, fake_fds_after);
}
