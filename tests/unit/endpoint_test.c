/* SPDX-License-Identifier: MIT */
/// Listeners, dialers and pipes: starting, refusing, connecting in the background, reconnecting,
/// closing; what is counted.
#include "check.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int start(void **state)
{
    (void)state;
    check_init(2);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    check_fini();
    return 0;
}

static void listener_is_made_set_and_started(void **state)
{
    sp_socket s = check_open("pair");
    sp_socket other = check_open("pair");
    sp_listener l = {0};
    sp_dialer d = {0};
    char url[64] = "";
    size_t cap = sizeof(url);
    int64_t port = 0;

    (void)state;
    check_ok(sp_listener_new(&l, s, "tcp://127.0.0.1:0"));
    check_ok(sp_set_int(l.id, "recv-size-max", 1000));
    check_ok(sp_set_int(l.id, "tcp-nodelay", 0));
    check_rc(SP_ESTATE, sp_get_int(l.id, "bound-port", &port));
    check_ok(sp_listener_start(l));
    check_ok(sp_get_int(l.id, "bound-port", &port));
    assert_in_range(port, 1, 65535);
    check_ok(sp_get_str(l.id, "url", url, &cap));
    assert_int_equal(atoi(strrchr(url, ':') + 1), port);
    check_rc(SP_ESTATE, sp_listener_start(l));
    check_rc(SP_ESTATE, sp_set_int(l.id, "recv-size-max", 2000));
    check_rc(SP_ESTATE, sp_set_int(l.id, "tcp-nodelay", 1));
    check_ok(sp_dialer_new(&d, other, url));
    check_ok(sp_set_int(d.id, "connect-timeout", 5000));
    check_ok(sp_dialer_start(d, 0));
    check_rc(SP_ESTATE, sp_dialer_start(d, 0));
    check_rc(SP_ESTATE, sp_dialer_start(d, SP_NONBLOCK));
    check_rc(SP_ESTATE, sp_set_int(d.id, "connect-timeout", 1));
    check_send(s, "x");
    check_recv(other, "x");
}

static void two_listeners_at_one_address_are_refused(void **state)
{
    static const char *const transports[] = {"inproc", "ipc", "tcp"};
    sp_socket s = check_open("rep");

    (void)state;
    for (int i = 0; i < 3; i++) {
        char url[256];
        char text[400];
        sp_listener l = {77};

        check_listen(s, transports[i], url, NULL);
        (void)snprintf(text, sizeof(text), "listen %s: bind: Address already in use", url);
        check_detail(-EADDRINUSE, text, sp_listen(s, url, &l));
        assert_true(l.id == 0);
    }
}

static void listener_that_failed_can_be_started_again(void **state)
{
    sp_socket s = check_open("rep");
    sp_socket other = check_open("rep");
    sp_listener first = {0};
    sp_listener l = {0};

    (void)state;
    check_ok(sp_listen(other, "inproc://taken", &first));
    check_ok(sp_listener_new(&l, s, "inproc://taken"));
    check_rc(-EADDRINUSE, sp_listener_start(l));
    check_ok(sp_set_int(l.id, "max-peers", 5)); // Not started.
    check_rc(-EADDRINUSE, sp_listener_start(l));
    check_ok(sp_close(other));
    check_ok(sp_listener_start(l));
    check_rc(SP_ESTATE, sp_listener_start(l));
    check_ok(sp_dial(check_open("req"), "inproc://taken", NULL, 0));
}

static void address_is_free_after_close(void **state)
{
    static const char *const transports[] = {"inproc", "ipc", "tcp"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        char url[256];
        sp_socket s = check_open("rep");
        sp_socket req = check_open("req");

        check_listen(s, transports[i], url, NULL);
        check_ok(sp_dial(req, url, NULL, 0));
        for (int k = 0; k < 20; k++) {
            check_ok(sp_close(s));
            s = check_open("rep");
            check_ok(sp_listen(s, url, NULL));
        }
        check_pipes(req, 1); // It found the last one.
        check_ok(sp_close(s));
        check_ok(sp_close(req));
    }
}

static void listener_closed_and_made_anew_on_the_same_socket(void **state)
{
    static const char *const transports[] = {"inproc", "ipc", "tcp"};

    (void)state;
    for (int in_place = 0; in_place < 2; in_place++) {
        for (int i = 0; i < 3; i++) {
            sp_socket s = check_open("rep");
            sp_listener l = {0};
            char url[256];

            check_ok(sp_set_int(s.id, "in-place", in_place));
            check_listen(s, transports[i], url, &l);
            for (int k = 0; k < 50; k++) {
                check_ok(sp_listener_close(l));
                check_ok(sp_listen(s, url, &l));
            }
            check_ok(sp_close(s));
        }
    }
}

static void dialer_that_failed_can_be_started_again(void **state)
{
    sp_socket s = check_open("pair");
    sp_socket other = check_open("pair");
    sp_dialer d = {0};

    (void)state;
    check_ok(sp_dialer_new(&d, s, "inproc://later"));
    for (int i = 0; i < 100; i++) {
        check_detail(-ECONNREFUSED, "dial inproc://later: connect: Connection refused",
                     sp_dialer_start(d, 0));
        check_ok(sp_set_int(d.id, "connect-timeout", 1000 + i));
    }
    check_stat_is(s.id, "dialers[0].refused", 100);
    check_ok(sp_dialer_start(d, SP_NONBLOCK));
    check_rc(SP_ESTATE, sp_dialer_start(d, 0));
    check_ok(sp_listen(other, "inproc://later", NULL));
    check_pipes(s, 1);
    assert_int_equal(check_stat(s.id, "dialers[0].connect"), 1);
}

static void dialer_started_in_the_background_right_after_a_failure(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        sp_socket s = check_open("pair");
        sp_dialer d = {0};

        check_ok(sp_set_int(s.id, "in-place", i % 2));
        check_ok(sp_dialer_new(&d, s, "inproc://right-after"));
        check_rc(-ECONNREFUSED, sp_dialer_start(d, 0));
        check_ok(sp_dialer_start(d, SP_NONBLOCK));
        check_until(check_stat(s.id, "dialers[0].refused") > 1);
        check_ok(sp_close(s));
    }
}

static void dial_refused_leaves_nothing(void **state)
{
    sp_socket s = check_open("pair");
    int64_t objects = check_stat(0, "runtime.objects");
    sp_dialer d = {77};

    (void)state;
    check_rc(-ECONNREFUSED, sp_dial(s, "inproc://none", &d, 0));
    assert_true(d.id == 0);
    check_rc(-ECONNREFUSED, sp_dial(s, "tcp://127.0.0.1:1", &d, 0));
    check_until(check_stat(0, "runtime.objects") == objects);
}

static void dial_in_the_background_connects_when_the_listener_comes(void **state)
{
    static const char *const transports[] = {"inproc", "ipc", "tcp"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        sp_socket s = check_open("pair");
        sp_socket other = check_open("pair");
        sp_listener l = {0};
        sp_dialer d = {0};
        char url[256];

        check_listen(other, transports[i], url, &l); // To get a free port.
        check_ok(sp_listener_close(l));
        check_ok(sp_close(other));
        check_ok(sp_dial(s, url, &d, SP_NONBLOCK));
        check_until(check_stat(s.id, "dialers[0].refused") > 0);
        check_rc(SP_ENOPEER, sp_send(s, "x", 1, SP_NONBLOCK));
        other = check_open("pair");
        check_ok(sp_listen(other, url, NULL));
        check_send(s, "hello");
        check_recv(other, "hello");
        check_ok(sp_close(s));
        check_ok(sp_close(other));
    }
}

static void dialer_reconnects_when_the_listener_comes_back(void **state)
{
    static const char *const transports[] = {"inproc", "ipc", "tcp"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        sp_socket s;
        sp_socket other = check_open("pair");
        sp_listener l = {0};
        char url[256];

        s = check_open("pair");
        check_listen(other, transports[i], url, &l);
        check_ok(sp_dial(s, url, NULL, 0));
        for (int k = 0; k < 5; k++) {
            check_pipes(other, 1);
            check_send(s, "there");
            check_recv(other, "there");
            check_ok(sp_listener_close(l));
            check_pipes(s, 0);
            check_pipes(other, 0);
            check_ok(sp_listen(other, url, &l));
            check_pipes(s, 1);
        }
        check_rest(s);
        check_rest(other);
        check_ok(sp_close(s));
        check_ok(sp_close(other));
    }
}

static void dialer_reconnects_when_the_peer_process_socket_is_new(void **state)
{
    sp_socket s = check_open("pair");
    sp_socket other = check_open("pair");
    char url[256];

    (void)state;
    check_listen(other, "tcp", url, NULL);
    check_ok(sp_dial(s, url, NULL, 0));
    for (int k = 0; k < 5; k++) {
        check_send(s, "there");
        check_recv(other, "there");
        check_ok(sp_close(other));
        other = check_open("pair");
        check_ok(sp_listen(other, url, NULL));
        check_pipes(other, 1);
    }
    check_stat_is(s.id, "dialers[0].connect", 6);
}

static void dialer_close_closes_its_pipes_and_dials_no_more(void **state)
{
    sp_socket rep = check_open("rep");
    sp_socket req = check_open("req");
    sp_dialer d[2] = {{0}};
    sp_listener l = {0};
    char url[256];

    (void)state;
    check_listen(rep, "inproc", url, &l);
    check_ok(sp_dial(req, url, &d[0], 0));
    check_ok(sp_dial(req, url, &d[1], 0));
    check_pipes(req, 2);
    check_pipes(rep, 2);
    check_ok(sp_dialer_close(d[0]));
    check_pipes(req, 1);
    check_pipes(rep, 1);
    assert_true(sp_pipe_dialer(check_pipe(req)).id == d[1].id);
    check_rc(SP_ECLOSED, sp_dialer_close(d[0]));
    check_ok(sp_dialer_close(d[1]));
    check_pipes(req, 0);
    check_pipes(rep, 0);
    assert_int_equal(check_stat(rep.id, "listeners[0].connect"), 2);
}

static void dialer_close_ends_dialling_in_the_background(void **state)
{
    sp_socket s = check_open("pair");
    sp_socket other = check_open("pair");
    int64_t objects;
    sp_dialer d = {0};

    (void)state;
    objects = check_stat(0, "runtime.objects");
    check_ok(sp_dial(s, "inproc://never", &d, SP_NONBLOCK));
    check_until(check_stat(s.id, "dialers[0].refused") > 2);
    check_ok(sp_dialer_close(d));
    check_until(check_stat(0, "runtime.objects") == objects);
    check_ok(sp_listen(other, "inproc://never", NULL));
    assert_int_equal(check_stat(other.id, "pipes"), 0);
}

static void listener_close_closes_its_pipes(void **state)
{
    sp_socket rep = check_open("rep");
    sp_listener l = {0};
    sp_socket req[3];

    (void)state;
    check_ok(sp_listen(rep, "inproc://three", &l));
    for (int i = 0; i < 3; i++) {
        req[i] = check_open("req");
        check_ok(sp_dial(req[i], "inproc://three", NULL, 0));
    }
    check_pipes(rep, 3);
    check_ok(sp_listener_close(l));
    check_pipes(rep, 0);
    for (int i = 0; i < 3; i++) {
        check_pipes(req[i], 0);
    }
}

static void pipe_close_makes_the_dialer_reconnect(void **state)
{
    static const char *const transports[] = {"inproc", "ipc", "tcp"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        sp_socket a;
        sp_socket b;

        check_couple(transports[i], "pair", "pair", &a, &b);
        for (int side = 0; side < 2; side++) {
            sp_pipe p = check_pipe(side == 0 ? a : b);

            check_ok(sp_pipe_close(p));
            check_until(sp_pipe_close(p) == SP_ECLOSED);
            check_stat_is(b.id, "dialers[0].connect", side + 2);
            check_pipes(b, 1);
            check_pipes(a, 1);
            check_send(a, "again");
            check_recv(b, "again");
        }
        check_ok(sp_close(a));
        check_ok(sp_close(b));
    }
}

static void pipe_knows_its_socket_dialer_and_listener(void **state)
{
    sp_socket a = check_open("pair");
    sp_socket b = check_open("pair");
    sp_listener l = {0};
    sp_dialer d = {0};
    sp_pipe pa;
    sp_pipe pb;

    (void)state;
    check_ok(sp_listen(a, "inproc://knows", &l));
    check_ok(sp_dial(b, "inproc://knows", &d, 0));
    check_pipes(a, 1);
    pa = check_pipe(a);
    pb = check_pipe(b);
    assert_true(sp_pipe_socket(pa).id == a.id && sp_pipe_socket(pb).id == b.id);
    assert_true(sp_pipe_listener(pa).id == l.id && sp_pipe_dialer(pa).id == 0);
    assert_true(sp_pipe_dialer(pb).id == d.id && sp_pipe_listener(pb).id == 0);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
    assert_true(sp_pipe_socket(pa).id == 0 && sp_pipe_listener(pa).id == 0);
    assert_true(sp_pipe_socket(pb).id == 0 && sp_pipe_dialer(pb).id == 0);
}

static void pipe_ids_are_not_used_again(void **state)
{
    static uint32_t seen[400];
    sp_socket rep = check_open("rep");
    sp_socket req = check_open("req");
    int n = 0;

    (void)state;
    check_ok(sp_listen(rep, "inproc://ids", NULL));
    for (int i = 0; i < 200; i++) {
        sp_peer_info info = {.size = sizeof(info)};
        size_t one = 1;
        sp_dialer d = {0};

        check_ok(sp_dial(req, "inproc://ids", &d, 0));
        check_ok(sp_peers(req, &info, &one));
        assert_int_equal(one, 1);
        for (int k = 0; k < n; k++) {
            assert_true(seen[k] != info.peer);
        }
        seen[n++] = info.peer;
        assert_in_range(info.peer, 1, 0x7FFFFFFF);
        check_ok(sp_dialer_close(d));
        check_pipes(req, 0);
    }
}

static void wrong_protocol_is_refused_and_counted(void **state)
{
    static const char *const transports[] = {"inproc", "ipc", "tcp"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        sp_socket rep = check_open("rep");
        sp_socket pair = check_open("pair");
        char url[256];
        int rc;

        check_listen(rep, transports[i], url, NULL);
        rc = sp_dial(pair, url, NULL, 0);
        // Whose hello arrives first decides what the dialer sees.
        assert_true(rc == SP_EPROTO || rc == -ECONNRESET || rc == SP_ECLOSED);
        check_until(check_stat(rep.id, "listeners[0].proto") > 0);
        assert_int_equal(check_stat(rep.id, "pipes"), 0);
        assert_int_equal(check_stat(rep.id, "listeners[0].connect"), 0);
        check_ok(sp_dial(check_open("req"), url, NULL, 0));
        check_pipes(rep, 1);
        check_ok(sp_close(rep));
        check_ok(sp_close(pair));
    }
}

/* ------------------------------------------------------------------ Time-outs and limits */

static int mute_listener(char url[64])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    (void)snprintf(url, 64, "tcp://127.0.0.1:%u", ntohs(at.sin_port));
    return fd;
}

static void dial_of_a_mute_peer_times_out(void **state)
{
    sp_socket s = check_open("pair");
    int64_t start_at = check_now();
    char url[64];
    char text[128];
    int fd = mute_listener(url);

    (void)state;
    check_ok(sp_set_int(s.id, "connect-timeout", 100));
    check_rc(SP_ETIMEDOUT, sp_dial(s, url, NULL, 0));
    (void)snprintf(text, sizeof(text), "dial %s: Connection timed out", url);
    assert_string_equal(sp_error_detail(), text);
    assert_in_range(check_now() - start_at, 99, 5000);
    check_ok(sp_set_int(s.id, "connect-timeout", 30));
    check_ok(sp_dial(s, url, NULL, SP_NONBLOCK));
    check_until(check_stat(s.id, "dialers[0].timeout") >= 2); // It tries again.
    (void)close(fd);
}

static void mute_client_is_closed_after_the_hello_timeout(void **state)
{
    sp_socket s = check_open("pair");
    sp_listener l = {0};
    char url[256];
    int64_t start_at;
    int fd;

    (void)state;
    check_ok(sp_set_int(s.id, "hello-timeout", 100));
    check_listen(s, "tcp", url, &l);
    start_at = check_now();
    fd = check_raw_dial(url, 0, 0);
    assert_true(check_raw_closed(fd));
    assert_in_range(check_now() - start_at, 99, 5000);
    check_stat_is(s.id, "listeners[0].timeout", 1);
    (void)close(fd);
}

/// A listener has one timer for all of them: each has its whole time, and ends at the end of it.
static void mute_clients_are_closed_each_in_its_time(void **state)
{
    sp_socket s = check_open("pair");
    sp_socket good = check_open("pair");
    char url[256];
    int64_t start_at;
    int64_t second_at;
    int fd[2];

    (void)state;
    check_ok(sp_set_int(s.id, "hello-timeout", 200));
    check_listen(s, "tcp", url, NULL);
    start_at = check_now();
    fd[0] = check_raw_dial(url, 0, 0);
    check_until(check_now() - start_at >= 100);
    second_at = check_now();
    fd[1] = check_raw_dial(url, 0, 0);
    check_ok(sp_dial(good, url, NULL, 0)); // One that is done leaves the others their time.
    assert_true(check_raw_closed(fd[0]));
    assert_in_range(check_now() - start_at, 199, 5000);
    assert_true(check_raw_closed(fd[1]));
    assert_in_range(check_now() - second_at, 199, 5000);
    check_stat_is(s.id, "listeners[0].timeout", 2);
    check_stat_is(s.id, "pipes", 1);
    (void)close(fd[0]);
    (void)close(fd[1]);
}

static void one_unfinished_handshake_too_many_evicts_the_oldest(void **state)
{
    sp_socket s = check_open("rep");
    sp_socket req = check_open("req");
    char url[256];
    int fd[3];

    (void)state;
    check_ok(sp_set_int(s.id, "max-handshakes", 2));
    check_listen(s, "tcp", url, NULL);
    for (int i = 0; i < 3; i++) {
        fd[i] = check_raw_dial(url, 0, 0);
    }
    assert_true(check_raw_closed(fd[0]));
    check_stat_is(s.id, "listeners[0].canceled", 1);
    check_ok(sp_dial(req, url, NULL, 0)); // Good ones get through.
    assert_true(check_raw_closed(fd[1]));
    for (int i = 0; i < 3; i++) {
        (void)close(fd[i]);
    }
}

static void max_peers_refuses_more_and_counts(void **state)
{
    sp_socket s = check_open("rep");
    sp_socket req[3];
    char url[256];

    (void)state;
    check_ok(sp_set_int(s.id, "max-peers", 2));
    check_listen(s, "tcp", url, NULL);
    for (int i = 0; i < 2; i++) {
        req[i] = check_open("req");
        check_ok(sp_dial(req[i], url, NULL, 0));
    }
    check_pipes(s, 2);
    req[2] = check_open("req");
    (void)!sp_dial(req[2], url, NULL, SP_NONBLOCK);
    check_until(check_stat(s.id, "listeners[0].reject") > 0);
    assert_true(check_stat(s.id, "reject") > 0);
    assert_int_equal(check_stat(s.id, "pipes"), 2);
    check_ok(sp_close(req[0]));
    check_pipes(req[2], 1); // There is room for it now.
}

static void recv_size_max_closes_the_pipe_and_is_counted(void **state)
{
    static const char *const transports[] = {"ipc", "tcp"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        sp_socket s = check_open("pair");
        sp_socket other = check_open("pair");
        char url[256];
        char big[1001] = "";

        check_ok(sp_set_int(s.id, "recv-size-max", 1000));
        check_listen(s, transports[i], url, NULL);
        check_ok(sp_dial(other, url, NULL, 0));
        check_ok(sp_send(other, big, 1000, 0));
        check_rc(1000, sp_recv(s, big, sizeof(big), 0));
        check_ok(sp_send(other, big, 1001, 0));
        check_stat_is(s.id, "listeners[0].proto", 1);
        check_stat_is(s.id, "listeners[0].connect", 2); // The dialer is back.
        check_rest(s);
        check_ok(sp_close(s));
        check_ok(sp_close(other));
    }
}

static void bad_hellos_do_not_disturb_the_others(void **state)
{
    sp_socket s = check_open("rep");
    sp_socket req = check_open("req");
    char url[256];
    int n = 0;

    (void)state;
    check_listen(s, "tcp", url, NULL);
    check_ok(sp_dial(req, url, NULL, 0));
    for (int i = 0; i < 20; i++) {
        int fd = check_raw_dial(url, 0, 0);

        if (i % 2 == 0) {
            assert_int_equal(send(fd, "GET / HTTP/1.1\r\n", 16, MSG_NOSIGNAL), 16);
            assert_true(check_raw_closed(fd));
            n++;
        } else {
            assert_int_equal(send(fd, "\0SP", 3, MSG_NOSIGNAL), 3);
        }
        (void)close(fd);
    }
    check_stat_is(s.id, "listeners[0].proto", n);
    check_send(req, "question");
    check_recv(s, "question");
    check_send(s, "answer");
    check_recv(req, "answer");
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        test(listener_is_made_set_and_started),
        test(two_listeners_at_one_address_are_refused),
        test(listener_that_failed_can_be_started_again),
        test(address_is_free_after_close),
        test(listener_closed_and_made_anew_on_the_same_socket),
        test(dialer_that_failed_can_be_started_again),
        test(dialer_started_in_the_background_right_after_a_failure),
        test(dial_refused_leaves_nothing),
        test(dial_in_the_background_connects_when_the_listener_comes),
        test(dialer_reconnects_when_the_listener_comes_back),
        test(dialer_reconnects_when_the_peer_process_socket_is_new),
        test(dialer_close_closes_its_pipes_and_dials_no_more),
        test(dialer_close_ends_dialling_in_the_background),
        test(listener_close_closes_its_pipes),
        test(pipe_close_makes_the_dialer_reconnect),
        test(pipe_knows_its_socket_dialer_and_listener),
        test(pipe_ids_are_not_used_again),
        test(wrong_protocol_is_refused_and_counted),
        test(dial_of_a_mute_peer_times_out),
        test(mute_client_is_closed_after_the_hello_timeout),
        test(mute_clients_are_closed_each_in_its_time),
        test(one_unfinished_handshake_too_many_evicts_the_oldest),
        test(max_peers_refuses_more_and_counts),
        test(recv_size_max_closes_the_pipe_and_is_counted),
        test(bad_hellos_do_not_disturb_the_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
