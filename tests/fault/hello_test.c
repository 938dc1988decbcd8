/* SPDX-License-Identifier: MIT */
/// Connections and hellos that go wrong: whoever does it is closed and counted, nobody else
/// notices.
#include "fault.h"
#include "fault_peer.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REQ_ID 0x80000001U

/// The raw peer asks, the socket answers: both still work.
static void exchange(sp_socket rep, struct fault_peer *req)
{
    const uint32_t id = REQ_ID;
    char buf[64];

    assert_true(fault_peer_words(req, &id, 1, "ping"));
    assert_int_equal(sp_recv(rep, buf, sizeof(buf), 0), 4);
    FAULT_OK(sp_send(rep, "pong", 4, 0));
    assert_int_equal(fault_peer_recv(req, buf, sizeof(buf), FAULT_SOON), 8);
    assert_memory_equal(buf, "\x80\0\0\1pong", 8);
}

/// A new peer is served, soon.
static void newcomer(sp_socket rep, const char *url)
{
    long long start = proc_now();
    struct fault_peer p;

    assert_true(fault_peer_join(&p, url, RAWSP_REQ));
    exchange(rep, &p);
    assert_true(proc_now() - start < 1000);
    fault_peer_close(&p);
}

static const char *const bad_hellos[] = {
    "GET / HT",
    "\0SP\1\0\x30\0\0",
    "\1SP\0\0\x30\0\0",
    "\0sp\0\0\x30\0\0",
    "\0SP\0\0\x30\0\1",
    "\0SP\0\0\x30\1\0",
    "\xff\xff\xff\xff\xff\xff\xff\xff",
};

#define BAD_HELLOS ((int)(sizeof(bad_hellos) / sizeof(bad_hellos[0])))

static void garbage_hello_closes_that_peer_only(void **state)
{
    char url[FAULT_URL];
    sp_socket rep = fault_listen("rep", *state, url);
    struct fault_peer good;
    struct fault_peer bad;

    assert_true(fault_peer_join(&good, url, RAWSP_REQ));
    for (int i = 0; i < BAD_HELLOS; i++) {
        assert_true(fault_peer_connect(&bad, url));
        assert_true(fault_peer_put(&bad, bad_hellos[i], 8));
        assert_true(fault_peer_ended(&bad, FAULT_SOON));
        fault_peer_close(&bad);
        FAULT_STAT(rep.id, "listeners.0.proto", i + 1);
        exchange(rep, &good);
    }
    FAULT_STAT(rep.id, "listeners.0.connect", 1);
    FAULT_STAT(rep.id, "listeners.0.disconnect", 0);
    FAULT_STAT(rep.id, "pipes", 1);
    FAULT_AT_REST(rep);
    fault_peer_close(&good);
}

static void garbage_from_a_listener_ends_a_waiting_dial(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("pair");
    struct fault_peer bad;
    sp_dialer d;
    int listener;

    fault_place(*state, url);
    listener = fault_peer_listen(url);
    assert_true(listener >= 0);
    FAULT_OK(sp_set_int(s.id, "reconnect-time-min", 1));
    FAULT_OK(sp_dial(s, url, &d, SP_NONBLOCK));
    assert_true(fault_peer_accept(&bad, listener, url, FAULT_SOON));
    assert_true(fault_peer_put(&bad, "220 mail", 8));
    assert_true(fault_peer_ended(&bad, FAULT_SOON));
    fault_peer_close(&bad);
    FAULT_STAT(d.id, "proto", 1);
    assert_true(fault_peer_accept(&bad, listener, url, FAULT_SOON)); // It tries again.
    fault_peer_close(&bad);
    (void)close(listener);
}

static void close_in_mid_hello_leaves_the_listener_accepting(void **state)
{
    char url[FAULT_URL];
    sp_socket rep = fault_listen("rep", *state, url);
    struct fault_peer half;

    for (int n = 0; n < 8; n++) {
        assert_true(fault_peer_connect(&half, url));
        assert_true(fault_peer_put(&half, "\0SP\0\0\x30\0\0", (size_t)n));
        fault_peer_close(&half);
        newcomer(rep, url);
    }
    // Eight that gave up, eight that left.
    FAULT_STAT(rep.id, "listeners.0.disconnect", 16);
    FAULT_STAT(rep.id, "listeners.0.connect", 8);
    FAULT_STAT(rep.id, "listeners.0.proto", 0);
    FAULT_STAT(rep.id, "pipes", 0);
    FAULT_AT_REST(rep);
}

static void reset_in_mid_hello_leaves_the_listener_accepting(void **state)
{
    char url[FAULT_URL];
    sp_socket rep = fault_listen("rep", *state, url);
    struct fault_peer half;

    for (int n = 0; n < 8; n++) {
        assert_true(fault_peer_connect(&half, url));
        assert_true(fault_peer_put(&half, "\0SP\0\0\x30\0\0", (size_t)n));
        fault_peer_reset(&half);
        newcomer(rep, url);
    }
    FAULT_STAT(rep.id, "listeners.0.connect", 8);
    FAULT_STAT(rep.id, "pipes", 0);
}

static void dialer_connects_again_when_the_peer_closes_after_the_hello(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("pair");
    struct fault_peer p;
    char buf[8];
    int listener;

    fault_place(*state, url);
    listener = fault_peer_listen(url);
    FAULT_OK(sp_set_int(s.id, "reconnect-time-min", 1));
    FAULT_OK(sp_set_int(s.id, "reconnect-time-max", 10));
    FAULT_OK(sp_dial(s, url, NULL, SP_NONBLOCK));
    for (int i = 0; i < 5; i++) {
        assert_true(fault_peer_accept(&p, listener, url, FAULT_SOON));
        assert_true(fault_peer_hello(&p, RAWSP_PAIR));
        fault_peer_close(&p);
    }
    assert_true(fault_peer_accept(&p, listener, url, FAULT_SOON));
    assert_true(fault_peer_hello(&p, RAWSP_PAIR));
    FAULT_STAT(s.id, "dialers.0.connect", 6);
    FAULT_STAT(s.id, "dialers.0.disconnect", 5);
    FAULT_OK(sp_send(s, "x", 1, 0));
    assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), FAULT_SOON), 1);
    FAULT_AT_REST(s);
    fault_peer_close(&p);
    (void)close(listener);
}

static void wrong_protocol_is_refused_and_counted_on_both_sides(void **state)
{
    char url[FAULT_URL];
    sp_socket rep = fault_listen("rep", *state, url);
    sp_socket pair = fault_open("pair");
    sp_dialer d;

    FAULT_OK(sp_dialer_new(&d, pair, url));
    assert_int_equal(sp_dialer_start(d, 0), SP_EPROTO);
    assert_non_null(strstr(sp_error_detail(), "protocol"));
    FAULT_STAT(d.id, "proto", 1);
    FAULT_STAT(rep.id, "listeners.0.proto", 1);
    FAULT_OK(sp_dialer_close(d));
    assert_int_equal(sp_dial(pair, url, NULL, 0), SP_EPROTO);
    FAULT_STAT(rep.id, "listeners.0.proto", 2);
    FAULT_STAT(pair.id, "dialers.0.proto", -1); // Nothing is left.
    FAULT_STAT(pair.id, "pipes", 0);
    FAULT_STAT(rep.id, "pipes", 0);
    newcomer(rep, url);
}

/// One more byte of the hello for each peer, up to the last but one.
static void trickle(struct fault_peer *slow, int n, int *sent)
{
    static const char hello[] = "\0SP\0\0\x30\0\0";

    for (int i = 0; i < n && *sent < 7; i++) {
        (void)fault_peer_put(&slow[i], &hello[*sent], 1);
    }
    *sent += *sent < 7;
}

#define SLOW 20

static void slow_hello_ends_at_its_deadline_and_good_peers_are_served(void **state)
{
    char url[FAULT_URL];
    sp_socket rep = fault_open("rep");
    struct fault_peer slow[SLOW];
    struct fault_peer good;
    long long start;
    int sent = 0;
    int rounds = 0;
    int left;

    fault_place(*state, url);
    FAULT_OK(sp_set_int(rep.id, "hello-timeout", 300));
    FAULT_OK(sp_listen(rep, url, NULL));
    start = proc_now();
    for (int i = 0; i < SLOW; i++) {
        assert_true(fault_peer_connect(&slow[i], url));
    }
    assert_true(fault_peer_join(&good, url, RAWSP_REQ));
    do {
        trickle(slow, SLOW, &sent);
        exchange(rep, &good);
        rounds++;
        left = 0;
        for (int i = 0; i < SLOW; i++) {
            struct pollfd hup = {.fd = slow[i].fd, .events = POLLRDHUP};

            left += poll(&hup, 1, 0) == 0;
        }
        // A byte that came does not start the time again.
        assert_true(left == SLOW || proc_now() - start >= 300);
        fault_pause();
    } while (left > 0 && proc_now() - start < FAULT_SOON);
    assert_int_equal(left, 0);
    assert_true(proc_now() - start < 300 + 1500);
    assert_true(rounds > 10);
    FAULT_STAT(rep.id, "listeners.0.timeout", SLOW);
    FAULT_STAT(rep.id, "listeners.0.connect", 1);
    FAULT_STAT(rep.id, "pipes", 1);
    for (int i = 0; i < SLOW; i++) {
        fault_peer_close(&slow[i]);
    }
    fault_peer_close(&good);
}

static void dial_ends_at_its_deadline_when_the_peer_says_nothing(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("pair");
    long long start;
    int listener;

    fault_place(*state, url);
    listener = fault_peer_listen(url);
    FAULT_OK(sp_set_int(s.id, "connect-timeout", 200));
    start = proc_now();
    assert_int_equal(sp_dial(s, url, NULL, 0), SP_ETIMEDOUT);
    assert_true(proc_now() - start >= 200 && proc_now() - start < 1200);
    FAULT_STAT(s.id, "dialers.0.timeout", -1);
    (void)close(listener);
}

#define FLOOD 500
#define WAVE 50

static void flood_of_bad_hellos_does_not_slow_a_good_one(void **state)
{
    char url[FAULT_URL];
    sp_socket rep = fault_listen("rep", *state, url);
    struct fault_peer bad[WAVE];

    for (int n = 0; n < FLOOD; n += WAVE) {
        for (int i = 0; i < WAVE; i++) {
            assert_true(fault_peer_connect(&bad[i], url));
            assert_true(fault_peer_put(&bad[i], "HEAD / H", 8));
        }
        newcomer(rep, url);
        for (int i = 0; i < WAVE; i++) {
            assert_true(fault_peer_ended(&bad[i], FAULT_SOON));
            fault_peer_close(&bad[i]);
        }
    }
    FAULT_STAT(rep.id, "listeners.0.proto", FLOOD);
    FAULT_STAT(rep.id, "listeners.0.connect", FLOOD / WAVE);
    FAULT_STAT(rep.id, "pipes", 0);
    FAULT_AT_REST(rep);
}

static int count_open(struct fault_peer *p, int from, int to)
{
    int n = 0;

    for (int i = from; i < to; i++) {
        struct pollfd hup = {.fd = p[i].fd, .events = POLLRDHUP};

        n += poll(&hup, 1, 0) == 0;
    }
    return n;
}

#define HALF_OPEN 40
#define CAP 8

static void half_open_flood_evicts_the_oldest(void **state)
{
    char url[FAULT_URL];
    sp_socket rep = fault_open("rep");
    struct fault_peer half[HALF_OPEN];

    fault_place(*state, url);
    FAULT_OK(sp_set_int(rep.id, "max-handshakes", CAP));
    FAULT_OK(sp_listen(rep, url, NULL));
    for (int i = 0; i < HALF_OPEN; i++) {
        assert_true(fault_peer_connect(&half[i], url));
    }
    FAULT_STAT(rep.id, "listeners.0.canceled", HALF_OPEN - CAP);
    assert_int_equal(count_open(half, 0, HALF_OPEN - CAP), 0);
    assert_int_equal(count_open(half, HALF_OPEN - CAP, HALF_OPEN), CAP);
    newcomer(rep, url); // One more goes for it.
    FAULT_STAT(rep.id, "listeners.0.canceled", HALF_OPEN - CAP + 1);
    // Who is left may finish.
    assert_true(fault_peer_hello(&half[HALF_OPEN - 1], RAWSP_REQ));
    exchange(rep, &half[HALF_OPEN - 1]);
    for (int i = 0; i < HALF_OPEN; i++) {
        fault_peer_close(&half[i]);
    }
    FAULT_STAT(rep.id, "pipes", 0);
}

static void peers_over_max_peers_are_closed_and_counted(void **state)
{
    char url[FAULT_URL];
    sp_socket rep = fault_open("rep");
    struct fault_peer p[4];

    fault_place(*state, url);
    FAULT_OK(sp_set_int(rep.id, "max-peers", 3));
    FAULT_OK(sp_listen(rep, url, NULL));
    for (int i = 0; i < 3; i++) {
        assert_true(fault_peer_join(&p[i], url, RAWSP_REQ));
    }
    FAULT_STAT(rep.id, "pipes", 3);
    assert_true(fault_peer_connect(&p[3], url));
    assert_true(fault_peer_ended(&p[3], FAULT_SOON));
    FAULT_STAT(rep.id, "reject", 1);
    FAULT_STAT(rep.id, "listeners.0.reject", 1);
    fault_peer_close(&p[0]);
    FAULT_STAT(rep.id, "pipes", 2);
    newcomer(rep, url);
    for (int i = 1; i < 4; i++) {
        fault_peer_close(&p[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAULT_BOTH(garbage_hello_closes_that_peer_only),
        FAULT_BOTH(garbage_from_a_listener_ends_a_waiting_dial),
        FAULT_BOTH(close_in_mid_hello_leaves_the_listener_accepting),
        FAULT_BOTH(reset_in_mid_hello_leaves_the_listener_accepting),
        FAULT_BOTH(dialer_connects_again_when_the_peer_closes_after_the_hello),
        FAULT_BOTH(wrong_protocol_is_refused_and_counted_on_both_sides),
        FAULT_BOTH(slow_hello_ends_at_its_deadline_and_good_peers_are_served),
        FAULT_BOTH(dial_ends_at_its_deadline_when_the_peer_says_nothing),
        FAULT_BOTH(flood_of_bad_hellos_does_not_slow_a_good_one),
        FAULT_BOTH(half_open_flood_evicts_the_oldest),
        FAULT_BOTH(peers_over_max_peers_are_closed_and_counted),
    };

    return cmocka_run_group_tests_name("hello", tests, NULL, NULL);
}
