/* SPDX-License-Identifier: MIT */
/// What a listener of unixgram makes of requests that are not a dialer's: anybody who can reach its
/// address can send any bytes and any descriptors. A real request is caught at an address of the
/// test's own, and sent on with other descriptors.
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define URL_PREFIX 11 // "unixgram://"
#define DIALERS 40    // more than the system queues at an address (net.unix.max_dgram_qlen, 10)
#define WORDS 20

static struct sockaddr_un address_of(const char *url)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    memcpy(a.sun_path, url + URL_PREFIX, strlen(url + URL_PREFIX));
    return a;
}

/* ------------------------------------------------------------------ Requests */

/// A dialer's request as it stands on the wire.
struct request {
    unsigned char bytes[256];
    size_t n;
};

/// Takes what a dialer sends to an address where only the test listens; its descriptor is closed.
static void request_catch(struct request *r)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {r->bytes, sizeof(r->bytes)};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sp_socket s = fault_open("pair");
    int before = fault_fds_open();
    struct sockaddr_un a;
    char url[FAULT_URL];
    ssize_t n = -1;
    int given;

    fault_place("unixgram", url);
    a = address_of(url);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    FAULT_OK(sp_dial(s, url, NULL, SP_NONBLOCK));
    assert_true(FAULT_WAIT((n = recvmsg(fd, &h, 0)) > 0, FAULT_SOON));
    r->n = (size_t)n;
    assert_non_null(CMSG_FIRSTHDR(&h));
    memcpy(&given, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof(given));
    (void)close(given);
    FAULT_OK(sp_close(s));
    (void)close(fd);
    assert_true(FAULT_WAIT(fault_fds_open() == before - 1, FAULT_SOON)); // fd was open.
}

/// Sends a request with up to two descriptors.
static void request_send(const struct request *r, const char *url, const int *fds, size_t count)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {0};
    struct sockaddr_un a = address_of(url);
    struct iovec iov = {(void *)(uintptr_t)r->bytes, r->n};
    struct msghdr h = {.msg_name = &a, .msg_namelen = sizeof(a), .msg_iov = &iov, .msg_iovlen = 1};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (count > 0) {
        struct cmsghdr *m;

        h.msg_control = control;
        h.msg_controllen = CMSG_SPACE(count * sizeof(int));
        m = CMSG_FIRSTHDR(&h);
        m->cmsg_level = SOL_SOCKET;
        m->cmsg_type = SCM_RIGHTS;
        m->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(m), fds, count * sizeof(int));
    }
    assert_true(FAULT_WAIT(sendmsg(fd, &h, 0) == (ssize_t)r->n, FAULT_SOON));
    (void)close(fd);
}

/* ------------------------------------------------------------------ Descriptors */

static int new_file(void)
{
    return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int new_tcp(void)
{
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int half_pair(int type)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
    (void)close(fds[1]);
    return fds[0];
}

static int new_dgram(void)
{
    return half_pair(SOCK_DGRAM);
}

static int new_stream(void)
{
    return half_pair(SOCK_STREAM);
}

static int new_lonely(void)
{
    return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
}

/// An end of a pair that was given a name, so that others could know it.
static int new_named(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = half_pair(SOCK_SEQPACKET);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(sa_family_t)), 0); // The system's own.
    return fd;
}

/// Connected to a service at an address: the listener would talk to that in its own name.
static int new_client(void)
{
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(a);

    assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(sa_family_t)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, len), 0);
    (void)close(listener);
    return fd;
}

/// An end of a pair that another process made.
static int new_foreign(void)
{
    int way[2];
    int fd = -1;
    char byte;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    pid_t child;

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, way), 0);
    child = fork();
    if (child == 0) {
        struct cmsghdr *m = CMSG_FIRSTHDR(&h);
        int fds[2];

        m->cmsg_level = SOL_SOCKET;
        m->cmsg_type = SCM_RIGHTS;
        m->cmsg_len = CMSG_LEN(sizeof(int));
        byte = 1;
        _exit(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) < 0 ||
              memcpy(CMSG_DATA(m), fds, sizeof(int)) == NULL || sendmsg(way[1], &h, 0) != 1);
    }
    assert_true(child > 0);
    assert_int_equal(recvmsg(way[0], &h, 0), 1);
    assert_non_null(CMSG_FIRSTHDR(&h));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof(fd));
    assert_int_equal(waitpid(child, NULL, 0), child);
    (void)close(way[0]);
    (void)close(way[1]);
    return fd;
}

/* ------------------------------------------------------------------ Facts */

/// A listener, a request as it gets from dialers, and how many descriptors there were.
struct target {
    sp_socket s;
    char url[FAULT_URL];
    struct request r;
    int before;
};

static void target_open(struct target *t)
{
    t->s = fault_open("pair");
    request_catch(&t->r);
    fault_place("unixgram", t->url);
    FAULT_OK(sp_listen(t->s, t->url, NULL));
    t->before = fault_fds_open();
}

/// Nobody is connected, and nothing that was sent is open.
static void target_is_clean(const struct target *t)
{
    FAULT_STAT(t->s.id, "pipes", 0);
    assert_true(FAULT_WAIT(fault_fds_open() == t->before, FAULT_SOON));
}

static void descriptor_that_is_no_end_of_the_senders_own_pair_is_refused(void **state)
{
    static int (*const makers[])(void) = {new_file,   new_tcp,   new_dgram,  new_stream,
                                          new_lonely, new_named, new_client, new_foreign};
    struct target t;

    (void)state;
    target_open(&t);
    for (size_t i = 0; i < sizeof(makers) / sizeof(makers[0]); i++) {
        int fd = makers[i]();

        assert_true(fd >= 0);
        request_send(&t.r, t.url, &fd, 1);
        (void)close(fd);
        FAULT_STAT(t.s.id, "listeners.0.malformed", (long long)i + 1);
    }
    target_is_clean(&t);
}

static void request_without_a_descriptor_or_with_two_is_refused(void **state)
{
    struct target t;
    int fds[2];

    (void)state;
    target_open(&t);
    request_send(&t.r, t.url, NULL, 0);
    FAULT_STAT(t.s.id, "listeners.0.malformed", 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    request_send(&t.r, t.url, fds, 2);
    FAULT_STAT(t.s.id, "listeners.0.malformed", 2);
    (void)close(fds[0]);
    (void)close(fds[1]);
    target_is_clean(&t);
}

static void request_cut_anywhere_is_refused(void **state)
{
    struct target t;
    size_t whole;

    (void)state;
    target_open(&t);
    whole = t.r.n;
    for (t.r.n = 0; t.r.n < whole; t.r.n++) {
        int fd = half_pair(SOCK_SEQPACKET);

        request_send(&t.r, t.url, &fd, 1);
        (void)close(fd);
    }
    assert_true(FAULT_WAIT(fault_stat(t.s.id, "listeners.0.malformed") +
                                   fault_stat(t.s.id, "listeners.0.turned_away") ==
                               (long long)whole,
                           FAULT_SOON));
    target_is_clean(&t);
}

/// The same as a dialer that ends at once: nothing of it stays.
static void dialers_that_are_gone_leave_nothing(void **state)
{
    struct target t;

    (void)state;
    target_open(&t);
    for (int i = 0; i < 100; i++) {
        int fd = half_pair(SOCK_SEQPACKET);

        request_send(&t.r, t.url, &fd, 1);
        (void)close(fd);
    }
    FAULT_STAT(t.s.id, "listeners.0.rx_datagrams", 100);
    target_is_clean(&t);
}

static int role_speaker(int argc, char **argv)
{
    sp_socket s = {0};

    FAULT_CHECK(argc == 1);
    FAULT_CHECK(sp_open(&s, "push") == 0);
    FAULT_CHECK(sp_dial(s, argv[0], NULL, 0) == 0);
    for (int i = 0; i < WORDS; i++) {
        FAULT_CHECK(sp_send(s, &i, sizeof(i), 0) == 0);
    }
    FAULT_CHECK(FAULT_WAIT(fault_stat(s.id, "tx_msgs") == WORDS, FAULT_SOON));
    fault_say("sent");
    fault_await();
    return 0;
}

/// The system keeps what it has taken, also when the listener sends meanwhile.
static void messages_of_a_killed_peer_arrive(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("pull");
    struct proc peer;

    (void)state;
    fault_place("unixgram", url);
    FAULT_OK(sp_set_int(s.id, "recv-buffer", 1));
    FAULT_OK(sp_listen(s, url, NULL));
    fault_start(&peer, "speaker", url, NULL);
    assert_true(proc_wait_text(&peer, "sent\n", FAULT_SOON));
    proc_signal(&peer, SIGKILL);
    (void)proc_wait(&peer, FAULT_SOON);
    for (int i = 0; i < WORDS; i++) {
        int v = -1;

        assert_int_equal(sp_recv(s, &v, sizeof(v), 0), sizeof(v));
        assert_int_equal(v, i);
    }
    FAULT_STAT(s.id, "pipes", 0);
    proc_stop(&peer);
}

static int role_listener(int argc, char **argv)
{
    sp_socket s = {0};

    FAULT_CHECK(argc == 1);
    FAULT_CHECK(sp_open(&s, "pull") == 0);
    FAULT_CHECK(sp_listen(s, argv[0], NULL) == 0);
    fault_say("listens");
    fault_await();
    sp_fini();
    return 0;
}

/// More requests than the system queues at an address that nobody reads: the others wait.
static void requests_to_a_full_queue_are_answered_in_the_end(void **state)
{
    sp_socket s[DIALERS];
    char url[FAULT_URL];
    struct proc peer;

    (void)state;
    fault_place("unixgram", url);
    fault_start(&peer, "listener", url, NULL);
    assert_true(proc_wait_text(&peer, "listens\n", FAULT_SOON));
    proc_signal(&peer, SIGSTOP);
    for (int i = 0; i < DIALERS; i++) {
        s[i] = fault_open("push");
        FAULT_OK(sp_dial(s[i], url, NULL, SP_NONBLOCK));
    }
    proc_signal(&peer, SIGCONT);
    for (int i = 0; i < DIALERS; i++) {
        FAULT_STAT(s[i].id, "pipes", 1);
    }
    proc_stop(&peer);
}

static const struct fault_role roles[] = {{"speaker", role_speaker}, {"listener", role_listener}};

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FAULT_ONE(descriptor_that_is_no_end_of_the_senders_own_pair_is_refused),
        FAULT_ONE(request_without_a_descriptor_or_with_two_is_refused),
        FAULT_ONE(request_cut_anywhere_is_refused),
        FAULT_ONE(dialers_that_are_gone_leave_nothing),
        FAULT_ONE(messages_of_a_killed_peer_arrive),
        FAULT_ONE(requests_to_a_full_queue_are_answered_in_the_end),
    };

    fault_roles(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
    return cmocka_run_group_tests_name("unixgram requests", tests, NULL, NULL);
}
