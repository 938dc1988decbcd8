/* SPDX-License-Identifier: MIT */
/// Framings that lie, and messages that end too early: nothing of them is delivered, and no memory
/// is reserved for what was only announced.
#include "fault.h"
#include "fault_peer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/// What an announced length may reserve, bytes: a buffer or two of 64 KiB with their surroundings.
#define RESERVED (256 * 1024)

static void nothing_there(sp_socket s)
{
    char buf[8];

    assert_int_equal(sp_recv(s, buf, sizeof(buf), SP_NONBLOCK), SP_EAGAIN);
    FAULT_STAT(s.id, "rx_received", 0);
    FAULT_STAT(s.id, "rx_queued", 0);
    FAULT_AT_REST(s);
}

/// Listens as PAIR, with this "recv-size-max" (-1: the default), and joins it.
static sp_socket start(void **state, int64_t max, char *url, struct fault_peer *p)
{
    sp_socket s = fault_open("pair");

    fault_place(*state, url);
    if (max >= 0) {
        FAULT_OK(sp_set_int(s.id, "recv-size-max", max));
    }
    FAULT_OK(sp_listen(s, url, NULL));
    assert_true(fault_peer_join(p, url, RAWSP_PAIR));
    FAULT_STAT(s.id, "pipes", 1);
    return s;
}

static const uint64_t huge[] = {UINT64_C(1) << 40, UINT64_C(1) << 63, UINT64_MAX};

static void huge_length_is_refused_before_any_allocation(void **state)
{
    char url[FAULT_URL];
    struct fault_peer p;

    for (size_t i = 0; i < 3; i++) {
        sp_socket s = start(state, -1, url, &p);
        long long before = fault_stat(0, "runtime.message_bytes");

        assert_true(fault_peer_frame(&p, huge[i]));
        assert_true(fault_peer_ended(&p, FAULT_SOON));
        FAULT_STAT(s.id, "listeners.0.proto", 1);
        FAULT_STAT(s.id, "pipes", 0);
        assert_true(fault_stat(0, "runtime.message_bytes") - before <= 0);
        nothing_there(s);
        fault_peer_close(&p);
        (void)sp_close(s);
    }
}

static void huge_length_without_a_limit_reserves_nothing(void **state)
{
    char url[FAULT_URL];
    struct fault_peer p;
    sp_socket s = start(state, 0, url, &p);
    long long before = fault_stat(0, "runtime.message_bytes");

    assert_true(fault_peer_frame(&p, huge[0]));
    assert_true(fault_peer_put(&p, "some bytes", 10));
    // It is legal, so the peer stays; its bytes have been read when they are counted nowhere else.
    assert_false(fault_peer_ended(&p, 100));
    assert_true(fault_stat(0, "runtime.message_bytes") - before <= RESERVED);
    fault_peer_close(&p);
    FAULT_STAT(s.id, "pipes", 0);
    nothing_there(s);
    // More than memory can have addresses for is no length.
    for (size_t i = 1; i < 3; i++) {
        assert_true(fault_peer_join(&p, url, RAWSP_PAIR));
        assert_true(fault_peer_frame(&p, huge[i]));
        assert_true(fault_peer_ended(&p, FAULT_SOON));
        FAULT_STAT(s.id, "listeners.0.proto", (long long)i);
        fault_peer_close(&p);
        FAULT_STAT(s.id, "pipes", 0);
    }
    nothing_there(s);
}

static void memory_grows_with_what_arrived_not_with_what_was_announced(void **state)
{
    static char part[300000];
    char url[FAULT_URL];
    struct fault_peer p;
    sp_socket s = start(state, 0, url, &p);
    long long before = fault_stat(0, "runtime.message_bytes");

    assert_true(fault_peer_frame(&p, UINT64_C(1) << 35));
    assert_true(fault_peer_put(&p, part, sizeof(part)));
    assert_true(FAULT_WAIT(fault_stat(0, "runtime.message_bytes") - before > 150000, FAULT_SOON));
    // At most twice as much, the copy while it grows, and both in blocks that grow by four.
    assert_true(fault_stat(0, "runtime.message_bytes") - before <= 8 * (long long)sizeof(part));
    fault_peer_close(&p);
    FAULT_STAT(s.id, "pipes", 0);
    nothing_there(s);
}

static void length_over_the_maximum_closes_and_is_counted(void **state)
{
    char url[FAULT_URL];
    char body[1001] = {0};
    struct fault_peer p;
    sp_socket s = start(state, 1000, url, &p);

    assert_true(fault_peer_send(&p, body, 1000));
    assert_int_equal(sp_recv(s, body, sizeof(body), 0), 1000);
    (void)fault_peer_send(&p, body, 1001); // It may be closed before the body is out.
    assert_true(fault_peer_ended(&p, FAULT_SOON));
    FAULT_STAT(s.id, "listeners.0.proto", 1);
    FAULT_STAT(s.id, "pipes", 0);
    FAULT_STAT(s.id, "rx_received", 1);
    assert_int_equal(sp_recv(s, body, sizeof(body), SP_NONBLOCK), SP_EAGAIN);
    FAULT_AT_REST(s);
    fault_peer_close(&p);
}

/// Sends the beginning of a message, ends the connection, and sees that only whole messages come.
static void cut(void **state, size_t len, size_t sent, void (*end)(struct fault_peer *))
{
    char url[FAULT_URL];
    char *body = calloc(1, len);
    struct fault_peer p;
    sp_socket s = start(state, -1, url, &p);
    char buf[16];

    assert_true(fault_peer_frame(&p, len));
    assert_true(fault_peer_put(&p, body, sent));
    end(&p);
    FAULT_STAT(s.id, "listeners.0.disconnect", 1);
    FAULT_STAT(s.id, "pipes", 0);
    nothing_there(s);
    assert_true(fault_peer_join(&p, url, RAWSP_PAIR));
    assert_true(fault_peer_send(&p, "whole", 5));
    assert_int_equal(sp_recv(s, buf, sizeof(buf), 0), 5);
    assert_memory_equal(buf, "whole", 5);
    FAULT_AT_REST(s);
    fault_peer_close(&p);
    (void)sp_close(s);
    free(body);
}

static void truncated_body_is_not_delivered(void **state)
{
    cut(state, 1, 0, fault_peer_close);
    cut(state, 100, 99, fault_peer_close);
    cut(state, 100000, 50000, fault_peer_close);
    cut(state, 2000000, 1999999, fault_peer_close);
}

static void reset_in_mid_message_delivers_nothing(void **state)
{
    cut(state, 1, 0, fault_peer_reset);
    cut(state, 100, 50, fault_peer_reset);
    cut(state, 2000000, 1000000, fault_peer_reset);
}

static void truncated_framing_is_not_delivered(void **state)
{
    char url[FAULT_URL];
    struct fault_peer p;
    sp_socket s = start(state, -1, url, &p);

    assert_true(fault_peer_put(&p, "\1\0\0\0", p.marked ? 4 : 0));
    assert_true(fault_peer_put(&p, "\0\0\0\0", p.marked ? 0 : 4));
    fault_peer_close(&p);
    FAULT_STAT(s.id, "listeners.0.disconnect", 1);
    FAULT_STAT(s.id, "pipes", 0);
    nothing_there(s);
}

/// Whole messages in front of a broken one are delivered; the peer is gone afterwards.
static void messages_before_a_broken_one_are_delivered(void **state)
{
    char url[FAULT_URL];
    struct fault_peer p;
    sp_socket s = start(state, 1000, url, &p);
    char buf[16];

    for (int i = 0; i < 10; i++) {
        assert_true(fault_peer_send(&p, "good", 4));
    }
    assert_true(fault_peer_frame(&p, UINT64_MAX));
    for (int i = 0; i < 10; i++) {
        assert_int_equal(sp_recv(s, buf, sizeof(buf), 0), 4);
    }
    assert_true(fault_peer_ended(&p, FAULT_SOON));
    FAULT_STAT(s.id, "listeners.0.proto", 1);
    FAULT_STAT(s.id, "rx_delivered", 10);
    FAULT_AT_REST(s);
    fault_peer_close(&p);
}

static void zero_length_is_delivered(void **state)
{
    char url[FAULT_URL];
    struct fault_peer p;
    sp_socket s = start(state, -1, url, &p);
    char buf[8];

    for (int i = 0; i < 100; i++) {
        assert_true(fault_peer_frame(&p, 0));
    }
    for (int i = 0; i < 100; i++) {
        assert_int_equal(sp_recv(s, buf, sizeof(buf), 0), 0);
    }
    FAULT_OK(sp_send(s, NULL, 0, 0));
    assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), FAULT_SOON), 0);
    FAULT_STAT(s.id, "rx_delivered", 100);
    FAULT_STAT(s.id, "rx_bytes", 0);
    FAULT_AT_REST(s);
    fault_peer_close(&p);
}

static void single_bytes_make_a_message(void **state)
{
    char url[FAULT_URL];
    struct fault_peer p;
    sp_socket s = start(state, -1, url, &p);
    unsigned char wire[9 + 5] = {1, 0, 0, 0, 0, 0, 0, 0, 5, 'h', 'e', 'l', 'l', 'o'};
    char buf[8];

    for (int round = 0; round < 20; round++) {
        for (size_t i = p.marked ? 0 : 1; i < sizeof(wire); i++) {
            assert_true(fault_peer_put(&p, wire + i, 1));
        }
        assert_int_equal(sp_recv(s, buf, sizeof(buf), 0), 5);
        assert_memory_equal(buf, "hello", 5);
    }
    FAULT_AT_REST(s);
    fault_peer_close(&p);
}

static void ipc_marker_other_than_one_closes(void **state)
{
    for (int mark = 0; mark < 256; mark += 85) { // 0, 85, 170, 255
        char url[FAULT_URL];
        struct fault_peer p;
        sp_socket s = start(state, -1, url, &p);
        unsigned char wire[10] = {(unsigned char)mark, 0, 0, 0, 0, 0, 0, 0, 1, 'x'};

        assert_true(fault_peer_put(&p, wire, sizeof(wire)));
        assert_true(fault_peer_ended(&p, FAULT_SOON));
        FAULT_STAT(s.id, "listeners.0.proto", 1);
        FAULT_STAT(s.id, "pipes", 0);
        nothing_there(s);
        fault_peer_close(&p);
        (void)sp_close(s);
    }
}

/// A listener's limit can differ from its socket's.
static void dialers_side_checks_lengths_too(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("pair");
    struct fault_peer p;
    sp_dialer d;
    int listener;

    fault_place(*state, url);
    listener = fault_peer_listen(url);
    FAULT_OK(sp_dialer_new(&d, s, url));
    FAULT_OK(sp_set_int(d.id, "recv-size-max", 10));
    FAULT_OK(sp_set_int(d.id, "reconnect-time-min", 1));
    FAULT_OK(sp_dialer_start(d, SP_NONBLOCK));
    assert_true(fault_peer_accept(&p, listener, url, FAULT_SOON));
    assert_true(fault_peer_hello(&p, RAWSP_PAIR));
    assert_true(fault_peer_frame(&p, 11));
    assert_true(fault_peer_ended(&p, FAULT_SOON));
    FAULT_STAT(d.id, "proto", 1);
    fault_peer_close(&p);
    // And connects again.
    assert_true(fault_peer_accept(&p, listener, url, FAULT_SOON));
    assert_true(fault_peer_hello(&p, RAWSP_PAIR));
    fault_peer_close(&p);
    (void)close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAULT_BOTH(huge_length_is_refused_before_any_allocation),
        FAULT_BOTH(huge_length_without_a_limit_reserves_nothing),
        FAULT_BOTH(memory_grows_with_what_arrived_not_with_what_was_announced),
        FAULT_BOTH(length_over_the_maximum_closes_and_is_counted),
        FAULT_BOTH(truncated_body_is_not_delivered),
        FAULT_BOTH(reset_in_mid_message_delivers_nothing),
        FAULT_BOTH(truncated_framing_is_not_delivered),
        FAULT_BOTH(messages_before_a_broken_one_are_delivered),
        FAULT_BOTH(zero_length_is_delivered),
        FAULT_BOTH(single_bytes_make_a_message),
        FAULT_OVER(ipc_marker_other_than_one_closes, "ipc"),
        FAULT_BOTH(dialers_side_checks_lengths_too),
    };

    return cmocka_run_group_tests_name("framing", tests, NULL, NULL);
}
