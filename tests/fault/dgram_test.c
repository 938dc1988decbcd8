/* SPDX-License-Identifier: MIT */
/// The datagram session layer against a raw UDP peer, byte by byte: plain peers as nng 2 speaks
/// (not verified against a live one), strangers, floods, what is malformed.
#include "check.h"

#include "dgram_wire.h"
#include "rawdgram.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT 5000 // ms

static int start(void **state)
{
    (void)state;
    check_init(2);
    return 0;
}

static sp_socket listening(const char *protocol, sp_listener *l, uint16_t *port)
{
    sp_socket s = check_open(protocol);
    int64_t bound;

    check_ok(sp_listen(s, "udp://127.0.0.1:0", l));
    check_ok(sp_get_int(l->id, "bound-port", &bound));
    *port = (uint16_t)bound;
    return s;
}

/// As nng 2 asks: PAIR 0 (0x10), takes 65000, refreshes every 5 s.
static const unsigned char plain_creq[8] = {1, 1, 0x10, 0, 0xE8, 0xFD, 5, 0};
static const unsigned char plain_cack[8] = {1, 2, 0x10, 0, 0xE8, 0xFD, 5, 0};
static const unsigned char plain_data[10] = {1, 0, 0x10, 0, 2, 0, 0, 0, 'h', 'i'};

static void plain_dialer_is_answered_and_talks(void **state)
{
    static const unsigned char closed[8] = {1, 3, 0x10, 0, 0, 0, 0, 0};
    unsigned char in[128];
    sp_listener l = {0};
    uint16_t port;
    sp_socket s = listening("pair", &l, &port);
    int fd = raw_open(&(uint16_t){0});

    (void)state;
    raw_connect(fd, port);
    raw_send(fd, plain_creq, sizeof(plain_creq));
    assert_int_equal(raw_recv(fd, in, sizeof(in)), 8);
    assert_memory_equal(in, plain_cack, 8);
    raw_send(fd, plain_data, sizeof(plain_data));
    check_recv(s, "hi");
    check_send(s, "hi");
    assert_int_equal(raw_recv(fd, in, sizeof(in)), sizeof(plain_data));
    assert_memory_equal(in, plain_data, sizeof(plain_data));
    raw_send(fd, plain_creq, sizeof(plain_creq)); // A sign of life.
    assert_int_equal(raw_recv(fd, in, sizeof(in)), 8);
    assert_memory_equal(in, plain_cack, 8);
    check_ok(sp_close(s));
    assert_int_equal(raw_recv(fd, in, sizeof(in)), 8);
    assert_memory_equal(in, closed, 8);
    (void)close(fd);
}

/// A socket that dials a raw one, which is connected to it then; its first CREQ is in `in`.
static sp_socket dials_raw(int *fd, unsigned char in[128])
{
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    char url[64];
    uint16_t port;
    sp_socket s = check_open("pair");
    struct pollfd ready = {.events = POLLIN};

    *fd = ready.fd = raw_open(&port);
    (void)snprintf(url, sizeof(url), "udp://127.0.0.1:%u", port);
    check_ok(sp_dial(s, url, NULL, SP_NONBLOCK));
    assert_int_equal(poll(&ready, 1, WAIT), 1);
    assert_int_equal(recvfrom(*fd, in, 128, 0, (struct sockaddr *)&from, &len), 64);
    assert_int_equal(connect(*fd, (struct sockaddr *)&from, len), 0);
    return s;
}

static void plain_listener_is_dialled(void **state)
{
    unsigned char in[128];
    size_t n;
    int fd;
    sp_socket s = dials_raw(&fd, in);

    (void)state;
    assert_memory_equal(in, plain_creq, 8); // What nng 2 reads of it.
    raw_send(fd, plain_cack, sizeof(plain_cack));
    check_pipes(s, 1);
    check_send(s, "hi");
    do { // Perhaps it asked once more meanwhile.
        n = raw_recv(fd, in, sizeof(in));
    } while (in[1] == 1);
    assert_int_equal(n, sizeof(plain_data));
    assert_memory_equal(in, plain_data, sizeof(plain_data));
    raw_send(fd, plain_data, sizeof(plain_data));
    check_recv(s, "hi");
    check_ok(sp_close(s));
    (void)close(fd);
}

/// A dialer is no listener: who asks it is refused in the manner that it asked, so that it need not
/// wait for its time to be over.
static void dialer_that_is_asked_refuses(void **state)
{
    struct sp__dgram creq = {.op = SP__DGRAM_CREQ,
                             .type = 0x10,
                             .p0 = 65000,
                             .p1 = 5,
                             .payload_max = 65000,
                             .token = 77};
    unsigned char out[64];
    unsigned char in[128];
    int fd;
    sp_socket s = dials_raw(&fd, in);

    (void)state;
    sp__dgram_greeting(out, &creq, NULL);
    for (int up = 0; up < 2; up++) {
        for (int extended = 0; extended < 2; extended++) {
            struct sp__dgram no;
            size_t n;

            raw_send(fd, out, extended != 0 ? 64 : 8);
            do { // Perhaps it asked once more meanwhile.
                n = raw_recv(fd, in, sizeof(in));
            } while (in[1] == SP__DGRAM_CREQ);
            assert_int_equal(n, extended != 0 ? 64 : 8);
            assert_int_equal(sp__dgram_read(in, n, NULL, &no), SP__DGRAM_FINE);
            assert_int_equal(no.op, SP__DGRAM_DISC);
            assert_int_equal(no.p0, SP__DGRAM_REFUSED);
            assert_int_equal(no.token, extended != 0 ? 77 : 0);
        }
        if (up == 0) {
            raw_send(fd, plain_cack, sizeof(plain_cack));
            check_pipes(s, 1);
        }
    }
    check_pipes(s, 1);
    check_ok(sp_close(s));
    (void)close(fd);
}

/// Two dialers that reach each other's sockets.
static void dialers_of_each_other_are_refused_at_once(void **state)
{
    sp_socket s[2] = {check_open("pair"), check_open("pair")};
    uint16_t port[2];
    int64_t begin = check_now();

    (void)state;
    for (int i = 0; i < 2; i++) { // Ports that were free a moment ago.
        (void)close(raw_open(&port[i]));
    }
    for (int i = 0; i < 2; i++) {
        sp_dialer d = {0};
        char url[64];

        (void)snprintf(url, sizeof(url), "udp://127.0.0.1:%u", port[1 - i]);
        check_ok(sp_dialer_new(&d, s[i], url));
        (void)snprintf(url, sizeof(url), "127.0.0.1:%u", port[i]);
        check_ok(sp_set_str(d.id, "local-address", url));
        check_ok(sp_dialer_start(d, SP_NONBLOCK));
    }
    for (int i = 0; i < 2; i++) {
        check_until(check_stat(s[i].id, "dialers[0].refused") > 0);
        assert_int_equal(check_stat(s[i].id, "pipes"), 0);
    }
    assert_in_range(check_now() - begin, 0, WAIT - 1);
    check_ok(sp_close(s[0]));
    check_ok(sp_close(s[1]));
}

static void wrong_requests_are_told_why(void **state)
{
    unsigned char bad[8];
    unsigned char in[128];
    sp_listener l = {0};
    uint16_t port;
    sp_socket s = listening("pair", &l, &port);
    int fd = raw_open(&(uint16_t){0});

    (void)state;
    raw_connect(fd, port);
    memcpy(bad, plain_creq, 8);
    bad[6] = 0; // Refresh 0.
    raw_send(fd, bad, 8);
    assert_int_equal(raw_recv(fd, in, sizeof(in)), 8);
    assert_int_equal(in[1], 3);
    assert_int_equal(in[4], 5);
    memcpy(bad, plain_creq, 8);
    bad[2] = 0x20; // PUB does not go with PAIR.
    raw_send(fd, bad, 8);
    assert_int_equal(raw_recv(fd, in, sizeof(in)), 8);
    assert_int_equal(in[1], 3);
    assert_int_equal(in[4], 1);
    memset(bad, 0, 8);
    bad[0] = 1;
    bad[1] = 4; // MESH
    raw_send(fd, bad, 8);
    assert_int_equal(raw_recv(fd, in, sizeof(in)), 8);
    assert_int_equal(in[4], 7);
    bad[0] = 2; // Another version.
    raw_send(fd, bad, 8);
    raw_send(fd, plain_creq, 3);
    check_stat_is(l.id, "malformed", 2);
    raw_send(fd, plain_data, sizeof(plain_data)); // From nobody that is known.
    check_stat_is(l.id, "nomatch", 1);
    assert_true(raw_silent(fd));
    check_ok(sp_close(s));
    (void)close(fd);
}

static void data_that_is_cut_ends_the_connection(void **state)
{
    static const unsigned char cut[10] = {1, 0, 0x10, 0, 9, 0, 0, 0, 'h', 'i'};
    unsigned char in[128];
    sp_listener l = {0};
    uint16_t port;
    sp_socket s = listening("pair", &l, &port);
    int fd = raw_open(&(uint16_t){0});

    (void)state;
    raw_connect(fd, port);
    raw_send(fd, plain_creq, sizeof(plain_creq));
    (void)raw_recv(fd, in, sizeof(in));
    raw_send(fd, cut, sizeof(cut));
    assert_int_equal(raw_recv(fd, in, sizeof(in)), 8);
    assert_int_equal(in[1], 3);
    assert_int_equal(in[4], 4);
    check_pipes(s, 0);
    check_stat_is(l.id, "toobig", 1);
    check_ok(sp_close(s));
    (void)close(fd);
}

/// Requests with the extension and no cookie, as from spoofed sources: answered with no more bytes
/// than they have, and forgotten.
static void strangers_without_a_cookie_cost_nothing(void **state)
{
    struct sp__dgram d = {.op = SP__DGRAM_CREQ,
                          .type = 0x10,
                          .p0 = 65000,
                          .p1 = 5,
                          .extended = true,
                          .payload_max = 65000};
    unsigned char out[64];
    unsigned char in[128];
    sp_listener l = {0};
    uint16_t port;
    sp_socket s = listening("pair", &l, &port);
    int fd = raw_open(&(uint16_t){0});
    int64_t objects = check_stat(0, "runtime.objects");

    (void)state;
    raw_connect(fd, port);
    for (uint64_t i = 0; i < 1000; i++) {
        struct sp__dgram answer;

        memcpy(d.uuid, &i, sizeof(i));
        d.token = i;
        sp__dgram_greeting(out, &d, NULL);
        raw_send(fd, out, sizeof(out));
        assert_int_equal(raw_recv(fd, in, sizeof(in)), 64);
        assert_int_equal(sp__dgram_read(in, 64, NULL, &answer), SP__DGRAM_FINE);
        assert_int_equal(answer.op, SP__DGRAM_CACK);
        assert_true((answer.features & SP__DGRAM_CHALLENGE) != 0);
        assert_int_equal(answer.token, i);
    }
    assert_int_equal(check_stat(0, "runtime.objects"), objects);
    assert_int_equal(check_stat(l.id, "challenged"), 1000);
    d.cookie = 12345; // One that was never given.
    sp__dgram_greeting(out, &d, NULL);
    raw_send(fd, out, sizeof(out));
    (void)raw_recv(fd, in, sizeof(in));
    assert_int_equal(check_stat(l.id, "challenged"), 1001);
    assert_int_equal(check_stat(s.id, "pipes"), 0);
    check_ok(sp_close(s));
    (void)close(fd);
}

static void plain_strangers_have_a_quarter_of_the_places(void **state)
{
    sp_socket s = check_open("pull");
    sp_listener l = {0};
    int64_t port;
    int fds[64];

    (void)state;
    check_ok(sp_listener_new(&l, s, "udp://127.0.0.1:0"));
    check_ok(sp_set_int(l.id, "max-peers", 32));
    check_ok(sp_listener_start(l));
    check_ok(sp_get_int(l.id, "bound-port", &port));
    for (int i = 0; i < 64; i++) {
        unsigned char creq[8];
        unsigned char in[128];

        memcpy(creq, plain_creq, 8);
        creq[2] = 0x50; // PUSH
        fds[i] = raw_open(&(uint16_t){0});
        raw_connect(fds[i], (uint16_t)port);
        raw_send(fds[i], creq, 8);
        assert_int_equal(raw_recv(fds[i], in, sizeof(in)), 8);
    }
    check_stat_is(s.id, "pipes", 8);
    assert_int_equal(check_stat(l.id, "evicted"), 56);
    check_ok(sp_close(s));
    for (int i = 0; i < 64; i++) {
        (void)close(fds[i]);
    }
}

static void message_too_large_is_refused_with_the_reason_and_stays(void **state)
{
    static char large[65001];
    char detail[256];
    sp_socket a;
    sp_socket b;

    (void)state;
    check_couple("udp", "req", "rep", &a, &b);
    assert_int_equal(sp_send(a, large, 64997, SP_NONBLOCK), SP_EMSGSIZE);
    (void)snprintf(detail, sizeof(detail), "%s", sp_error_detail());
    assert_non_null(strstr(detail, "64997 bytes"));
    assert_non_null(strstr(detail, "takes at most 64996"));
    check_ok(sp_send(a, large, 64996, 0)); // With the request's header that is all.
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

static void packs_arrive_in_order(void **state)
{
    sp_socket a;
    sp_socket b;

    (void)state;
    check_couple("udp", "push", "pull", &a, &b);
    for (int round = 0; round < 20; round++) {
        sp_msg *m[64];
        char text[16];

        for (int i = 0; i < 64; i++) {
            check_ok(sp_msg_new(&m[i], 4));
            memcpy(sp_msg_data(m[i]), &(int){64 * round + i}, 4);
        }
        for (int sent = 0; sent < 64;) {
            int n = sp_sendmsgs(a, m + sent, (size_t)(64 - sent), 0);

            assert_true(n > 0);
            sent += n;
        }
        for (int i = 0; i < 64; i++) {
            int v;

            assert_int_equal(sp_recv(b, text, sizeof(text), 0), 4);
            memcpy(&v, text, 4);
            assert_int_equal(v, 64 * round + i);
        }
    }
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(plain_dialer_is_answered_and_talks, start, check_stop),
        cmocka_unit_test_setup_teardown(plain_listener_is_dialled, start, check_stop),
        cmocka_unit_test_setup_teardown(dialer_that_is_asked_refuses, start, check_stop),
        cmocka_unit_test_setup_teardown(dialers_of_each_other_are_refused_at_once, start,
                                        check_stop),
        cmocka_unit_test_setup_teardown(wrong_requests_are_told_why, start, check_stop),
        cmocka_unit_test_setup_teardown(data_that_is_cut_ends_the_connection, start, check_stop),
        cmocka_unit_test_setup_teardown(strangers_without_a_cookie_cost_nothing, start, check_stop),
        cmocka_unit_test_setup_teardown(plain_strangers_have_a_quarter_of_the_places, start,
                                        check_stop),
        cmocka_unit_test_setup_teardown(message_too_large_is_refused_with_the_reason_and_stays,
                                        start, check_stop),
        cmocka_unit_test_setup_teardown(packs_arrive_in_order, start, check_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
