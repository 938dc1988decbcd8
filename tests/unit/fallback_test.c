/* SPDX-License-Identifier: MIT */
/// Protocols with several pairs of numbers: which one a connection gets, and how a dialer falls
/// back when a plain peer refuses the first.
#include "check.h"
#include "fan.h"
#include "rawsp.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *const transports[] = {"inproc", "ipc", "tcp"};

static int start_threads(void **state)
{
    int rc = check_start_threads(state);

    fan_register();
    return rc;
}

static int start_driven(void **state)
{
    int rc = check_start_driven(state);

    fan_register();
    return rc;
}

/* ------------------------------------------------------------------ Between our own */

struct meeting {
    const char *listens;
    const char *dials;
    int64_t listener_sees; ///< what the other one said
    int64_t dialer_sees;
    int64_t fallbacks;
};

static const struct meeting meetings[] = {
    {"sink", "fan", 0xF020, 0xF021, 0},         {"fan", "sink", 0xF021, 0xF020, 0},
    {"plain-sink", "fan", 0x20, 0x21, 1},       {"plain-fan", "sink", 0x21, 0x20, 1},
    {"sink", "plain-fan", 0x20, 0x21, 0},       {"fan", "plain-sink", 0x21, 0x20, 0},
    {"plain-sink", "plain-fan", 0x20, 0x21, 0},
};

static void meet(const struct meeting *m, const char *transport, int flags)
{
    sp_socket listens = check_open(m->listens);
    sp_socket dials = check_open(m->dials);
    bool dials_sends = strstr(m->dials, "fan") != NULL;
    char url[256];

    check_listen(listens, transport, url, NULL);
    check_ok(sp_dial(dials, url, NULL, flags));
    check_pipes(listens, 1);
    check_pipes(dials, 1);
    check_stat_is(listens.id, "peers[0].protocol", m->listener_sees);
    check_stat_is(dials.id, "peers[0].protocol", m->dialer_sees);
    assert_int_equal(check_stat(dials.id, "dialers[0].fallback"), m->fallbacks);
    assert_int_equal(check_stat(dials.id, "dialers[0].connect"), 1);
    assert_int_equal(check_stat(dials.id, "dialers[0].proto"), 0);
    assert_int_equal(check_stat(listens.id, "listeners[0].connect"), 1);
    check_send(dials_sends ? dials : listens, "hello");
    check_recv(dials_sends ? listens : dials, "hello");
    check_ok(sp_close(dials));
    check_ok(sp_close(listens));
}

static void they_meet_with_the_first_pair_that_both_know(void **state)
{
    (void)state;
    for (int t = 0; t < 3; t++) {
        for (size_t i = 0; i < sizeof(meetings) / sizeof(meetings[0]); i++) {
            meet(&meetings[i], transports[t], 0);
            meet(&meetings[i], transports[t], SP_NONBLOCK);
        }
    }
}

static void what_was_found_is_remembered(void **state)
{
    (void)state;
    for (int t = 0; t < 3; t++) {
        sp_socket listens = check_open("plain-sink");
        sp_socket dials = check_open("fan");
        char url[256];

        check_listen(listens, transports[t], url, NULL);
        check_ok(sp_dial(dials, url, NULL, 0));
        for (int i = 1; i < 4; i++) {
            check_stat_is(dials.id, "dialers[0].connect", i);
            check_pipes(listens, 1);
            assert_int_equal(check_stat(dials.id, "dialers[0].fallback"), 1);
            check_ok(sp_pipe_close(check_pipe(listens)));
        }
        check_ok(sp_close(dials));
        check_ok(sp_close(listens));
    }
}

static void who_fits_no_pair_is_refused(void **state)
{
    (void)state;
    for (int t = 0; t < 3; t++) {
        sp_socket fan = check_open("fan");
        sp_socket pair = check_open("pair");
        char url[2][256];

        check_listen(fan, transports[t], url[0], NULL);
        check_listen(pair, transports[t], url[1], NULL);
        check_rc(SP_EPROTO, sp_dial(fan, url[1], NULL, 0));
        check_rc(SP_EPROTO, sp_dial(pair, url[0], NULL, 0));
        check_stat_is(fan.id, "listeners[0].proto", 1);
        check_ok(sp_dial(fan, url[1], NULL, SP_NONBLOCK));
        check_until(check_stat(fan.id, "dialers[0].proto") > 2);
        assert_int_equal(check_stat(fan.id, "dialers[0].fallback"), 0);
        check_ok(sp_close(fan));
        check_ok(sp_close(pair));
    }
}

/* ------------------------------------------------------------------ A peer byte by byte */

static int raw_listen(char url[64])
{
    int port = 0;
    int fd = rawsp_listen(&port);

    assert_true(fd >= 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    (void)snprintf(url, 64, "tcp://127.0.0.1:%d", port);
    return fd;
}

/// Accepts, and reads what the dialer says it is.
static int raw_accept(int listener, uint16_t want)
{
    int64_t end = check_now() + CHECK_SOON;
    unsigned char h[8];
    size_t n = 0;
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) < 0) {
        check_wait_at(end, "a connection", __FILE__, __LINE__);
    }
    while (n < 8) {
        ssize_t got = recv(fd, h + n, 8 - n, 0);

        if (got > 0) {
            n += (size_t)got;
        } else {
            check_wait_at(end, "a hello", __FILE__, __LINE__);
        }
    }
    assert_int_equal(h[4] << 8 | h[5], want);
    return fd;
}

static void raw_say(int fd, uint16_t own)
{
    unsigned char h[8] = {0, 'S', 'P', 0, (unsigned char)(own >> 8), (unsigned char)own, 0, 0};

    assert_int_equal(send(fd, h, 8, MSG_NOSIGNAL), 8);
}

static sp_socket fan_dialling(const char *url, int64_t timeout)
{
    sp_socket fan = check_open("fan");

    check_ok(sp_set_int(fan.id, "connect-timeout", timeout));
    check_ok(sp_dial(fan, url, NULL, SP_NONBLOCK));
    return fan;
}

static void a_peer_that_closes_without_a_word_is_plain(void **state)
{
    char url[64];
    int listener = raw_listen(url);
    sp_socket fan = fan_dialling(url, CHECK_SOON);
    int fd;

    (void)state;
    (void)close(raw_accept(listener, 0xF020));
    fd = raw_accept(listener, 0x20);
    raw_say(fd, 0x21);
    check_pipes(fan, 1);
    assert_int_equal(check_stat(fan.id, "peers[0].protocol"), 0x21);
    assert_int_equal(check_stat(fan.id, "dialers[0].fallback"), 1);
    assert_int_equal(check_stat(fan.id, "dialers[0].disconnect"), 0);
    (void)close(fd);
    fd = raw_accept(listener, 0x20); // It remembers.
    raw_say(fd, 0x21);
    check_stat_is(fan.id, "dialers[0].connect", 2);
    assert_int_equal(check_stat(fan.id, "dialers[0].fallback"), 1);
    // Nobody takes the plain pair any more: the preferred one has its turn.
    (void)close(fd);
    (void)close(raw_accept(listener, 0x20));
    fd = raw_accept(listener, 0xF020);
    raw_say(fd, 0xF021);
    check_stat_is(fan.id, "dialers[0].connect", 3);
    assert_int_equal(check_stat(fan.id, "peers[0].protocol"), 0xF021);
    (void)close(fd);
    (void)close(raw_accept(listener, 0xF020));
    (void)close(listener);
}

static void each_pair_is_tried_once_an_attempt(void **state)
{
    char url[64];
    int listener = raw_listen(url);
    sp_socket fan = fan_dialling(url, CHECK_SOON);

    (void)state;
    for (int i = 1; i <= 3; i++) {
        (void)close(raw_accept(listener, 0xF020));
        (void)close(raw_accept(listener, 0x20));
        check_stat_is(fan.id, "dialers[0].disconnect", i);
        assert_int_equal(check_stat(fan.id, "dialers[0].fallback"), i);
    }
    (void)close(listener);
}

/// A peer that names the pair which it did not get, each time.
static void a_peer_that_contradicts_itself_is_given_up(void **state)
{
    char url[64];
    int listener = raw_listen(url);
    sp_socket fan = fan_dialling(url, CHECK_SOON);
    int fd;

    (void)state;
    fd = raw_accept(listener, 0xF020);
    raw_say(fd, 0x21);
    (void)close(fd);
    fd = raw_accept(listener, 0x20);
    raw_say(fd, 0xF021);
    check_stat_is(fan.id, "dialers[0].proto", 1);
    assert_int_equal(check_stat(fan.id, "dialers[0].fallback"), 1);
    (void)close(fd);
    (void)close(listener);
}

static void the_time_to_connect_is_one_for_all_pairs(void **state)
{
    char url[64];
    int listener = raw_listen(url);
    sp_socket fan;
    int64_t begun = check_now();
    int fd[2];

    (void)state;
    fan = fan_dialling(url, 1000);
    fd[0] = raw_accept(listener, 0xF020);
    while (check_now() < begun + 600) {
        check_pause();
    }
    raw_say(fd[0], 0x21);
    fd[1] = raw_accept(listener, 0x20); // … and says nothing.
    check_stat_is(fan.id, "dialers[0].timeout", 1);
    assert_in_range(check_now() - begun, 999, 1550);
    (void)close(fd[0]);
    (void)close(fd[1]);
    (void)close(listener);
}

static void a_refusal_behind_the_end_of_the_dial_dials_no_more(void **state)
{
    char url[64];
    int listener = raw_listen(url);
    sp_socket fan = fan_dialling(url, CHECK_SOON);
    int fd = raw_accept(listener, 0xF020);

    (void)state;
    raw_say(fd, 0x21);
    check_ok(sp_close(fan));
    (void)close(fd);
    (void)close(listener);
}

/// A listener with several pairs says nothing before it knows who asks; a stranger hears the first.
static void a_listener_reads_first(void **state)
{
    static const uint16_t asks[] = {0xF021, 0x21, 0x10};
    static const uint16_t answers[] = {0xF020, 0x20, 0xF020};
    sp_socket fan = check_open("fan");
    char url[256];

    (void)state;
    check_listen(fan, "tcp", url, NULL);
    for (int i = 0; i < 3; i++) {
        int fd = check_raw_dial(url, 0, 0);
        unsigned char h[8];
        int64_t end = check_now() + CHECK_SOON;

        for (int k = 0; k < 20; k++) {
            check_pause();
        }
        assert_true(recv(fd, h, 8, MSG_DONTWAIT) < 0);
        raw_say(fd, asks[i]);
        while (recv(fd, h, 8, MSG_DONTWAIT | MSG_PEEK) != 8) {
            check_wait_at(end, "a hello", __FILE__, __LINE__);
        }
        assert_int_equal(recv(fd, h, 8, 0), 8);
        assert_int_equal(h[4] << 8 | h[5], answers[i]);
        if (i < 2) {
            check_pipes(fan, 1);
        } else {
            assert_true(check_raw_closed(fd));
        }
        (void)close(fd);
        check_pipes(fan, 0);
    }
    check_stat_is(fan.id, "listeners[0].proto", 1);
}

#define BOTH(fn)                                                                                   \
    {#fn, fn, start_threads, check_stop, NULL},                                                    \
    {                                                                                              \
#fn "_driven", fn, start_driven, check_stop, NULL                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(they_meet_with_the_first_pair_that_both_know),
        BOTH(what_was_found_is_remembered),
        BOTH(who_fits_no_pair_is_refused),
        BOTH(a_peer_that_closes_without_a_word_is_plain),
        BOTH(each_pair_is_tried_once_an_attempt),
        BOTH(a_peer_that_contradicts_itself_is_given_up),
        BOTH(the_time_to_connect_is_one_for_all_pairs),
        BOTH(a_refusal_behind_the_end_of_the_dial_dials_no_more),
        BOTH(a_listener_reads_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
