/* SPDX-License-Identifier: MIT */
/// One suite over every transport that is there: what sockets may expect of any of them.
#include "conform.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIALERS 100

static void pattern(unsigned char *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (unsigned char)(seed + i * 31 + (i >> 8));
    }
}

static bool has_pattern(const unsigned char *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != (unsigned char)(seed + i * 31 + (i >> 8))) {
            return false;
        }
    }
    return true;
}

static void connects_and_accepts(void **state)
{
    sp_socket a = check_open("pair");
    sp_socket b = check_open("pair");
    sp_listener l = {0};
    sp_dialer d = {0};
    char url[256];
    char text[256];
    size_t cap = sizeof(text);

    (void)state;
    check_listen(a, conform.transport, url, &l);
    check_ok(sp_dial(b, url, &d, 0));
    check_pipes(a, 1);
    check_pipes(b, 1);
    assert_int_equal(check_stat(a.id, "listeners[0].connect"), 1);
    assert_int_equal(check_stat(b.id, "dialers[0].connect"), 1);
    check_ok(sp_get_str(d.id, "url", text, &cap));
    assert_string_equal(text, url);
    assert_true(sp_pipe_listener(check_pipe(a)).id == l.id);
    assert_true(sp_pipe_dialer(check_pipe(b)).id == d.id);
}

static void messages_of_every_size_arrive_whole(void **state)
{
    static const size_t sizes[] = {0,    1,     2,     7,     8,     9,      63,     64,   95,
                                   96,   97,    127,   128,   255,   256,    1000,   4095, 4096,
                                   4097, 16384, 65535, 65536, 65537, 262144, 1 << 20};
    unsigned char *buf = malloc(1 << 20);
    size_t max = check_transport(conform.transport)->max;
    sp_socket a;
    sp_socket b;
    int64_t bytes = 0;

    (void)state;
    check_couple(conform.transport, "pair", "pair", &a, &b);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        pattern(buf, sizes[i], i);
        if (max > 0 && sizes[i] > max) {
            check_rc(SP_EMSGSIZE, sp_send(a, buf, sizes[i], 0));
            continue;
        }
        check_ok(sp_send(a, buf, sizes[i], 0));
        bytes += (int64_t)sizes[i];
        memset(buf, 0, sizes[i]);
        check_rc((long)sizes[i], sp_recv(b, buf, 1 << 20, 0));
        assert_true(has_pattern(buf, sizes[i], i));
    }
    check_rest(a);
    check_rest(b);
    assert_int_equal(check_stat(a.id, "tx_bytes"), bytes);
    assert_int_equal(check_stat(b.id, "rx_bytes"), bytes);
    free(buf);
}

static long send_mixed(void *arg)
{
    unsigned char *buf = malloc(200000);
    unsigned seed = 1;
    int rc = 0;

    for (unsigned i = 0; i < 3000 && rc == 0; i++) {
        size_t n = 4 + ((seed = seed * 1103515245 + 12345) >> 16) % (i % 100 == 0 ? 199996 : 300);

        pattern(buf, n, i);
        memcpy(buf, &i, 4);
        rc = sp_send(*(sp_socket *)arg, buf, n, 0);
    }
    free(buf);
    return rc;
}

static void order_is_kept_at_full_speed(void **state)
{
    struct check_call c;
    sp_socket a;
    sp_socket b;
    unsigned seed = 1;

    (void)state;
    check_couple(conform.transport, "pair", "pair", &a, &b);
    check_call_start(&c, send_mixed, &a);
    for (unsigned i = 0; i < 3000; i++) {
        size_t n = 4 + ((seed = seed * 1103515245 + 12345) >> 16) % (i % 100 == 0 ? 199996 : 300);
        unsigned char want[4];
        sp_msg *m = NULL;
        unsigned got;

        check_ok(sp_recvmsg(b, &m, 0));
        assert_int_equal(sp_msg_len(m), n);
        memcpy(&got, sp_msg_view(m), 4);
        assert_int_equal(got, i);
        pattern(want, 4, i);
        memcpy(sp_msg_data(m), want, 4);
        assert_true(has_pattern(sp_msg_view(m), n, i));
        sp_msg_release(m);
    }
    check_rc(0, check_call_join(&c, CHECK_SOON));
    check_rest(a);
    check_rest(b);
}

/// A receiver that does not receive: the sender is told, memory is bounded, then all arrives.
static void receiver_that_does_not_receive_holds_the_sender(void **state)
{
    char *body = calloc(1, 20000);
    sp_socket a;
    sp_socket b;
    int n = 0;
    int64_t memory;

    (void)state;
    check_couple(conform.transport, "pair", "pair", &a, &b);
    for (int quiet = 0; quiet < 100;) {
        int rc;

        memcpy(body, &n, sizeof(n));
        rc = sp_send(a, body, 20000, SP_NONBLOCK);
        assert_true(rc == SP_OK || rc == SP_EAGAIN);
        n += rc == SP_OK;
        quiet = rc == SP_OK ? 0 : quiet + 1;
        if (quiet > 0) {
            check_pause();
        }
        assert_true(n < 10000);
    }
    memory = check_stat(0, "runtime.message_bytes");
    assert_in_range(memory, 0, 64 << 20);
    check_rest(a);
    check_rest(b);
    assert_int_equal(check_stat(a.id, "tx_queued"), 128);
    assert_true(check_stat(b.id, "rx_queued") >= 128);
    for (int i = 0; i < n; i++) {
        int v = -1;

        check_rc(20000, sp_recv(b, body, 20000, 0));
        memcpy(&v, body, sizeof(v));
        assert_int_equal(v, i);
    }
    check_rest(a);
    check_rest(b);
    assert_int_equal(check_stat(a.id, "tx_queued"), 0);
    free(body);
}

static void hundred_dialers_are_served(void **state)
{
    static sp_socket req[DIALERS];
    sp_socket rep = check_open("rep");
    char url[256];

    (void)state;
    check_listen(rep, conform.transport, url, NULL);
    for (int i = 0; i < DIALERS; i++) {
        req[i] = check_open("req");
        check_ok(sp_dial(req[i], url, NULL, SP_NONBLOCK));
    }
    check_pipes(rep, DIALERS);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < DIALERS; i++) {
            check_ok(sp_send(req[i], &i, sizeof(i), 0));
        }
        for (int i = 0; i < DIALERS; i++) {
            int v = -1;

            check_rc(4, sp_recv(rep, &v, sizeof(v), 0));
            check_ok(sp_send(rep, &v, sizeof(v), 0));
        }
        for (int i = 0; i < DIALERS; i++) {
            int v = -1;

            check_rc(4, sp_recv(req[i], &v, sizeof(v), 0));
            assert_int_equal(v, i);
        }
    }
    check_rest(rep);
    for (int i = 0; i < DIALERS; i++) {
        check_rest(req[i]);
        check_ok(sp_close(req[i]));
    }
    check_pipes(rep, 0);
    check_rest(rep);
}

static void hundred_dialers_come_back_to_a_new_listener(void **state)
{
    static sp_socket req[DIALERS];
    sp_socket rep = check_open("rep");
    char url[256];

    (void)state;
    check_listen(rep, conform.transport, url, NULL);
    for (int i = 0; i < DIALERS; i++) {
        req[i] = check_open("req");
        check_ok(sp_dial(req[i], url, NULL, 0));
    }
    check_pipes(rep, DIALERS);
    check_ok(sp_close(rep));
    rep = check_open("rep");
    check_ok(sp_listen(rep, url, NULL));
    check_pipes(rep, DIALERS);
    for (int i = 0; i < DIALERS; i++) {
        check_stat_is(req[i].id, "dialers[0].connect", 2);
    }
}

static void wrong_protocol_is_refused_and_counted(void **state)
{
    sp_socket rep = check_open("rep");
    sp_socket pair = check_open("pair");
    char url[256];

    (void)state;
    check_listen(rep, conform.transport, url, NULL);
    check_ok(sp_dial(pair, url, NULL, SP_NONBLOCK));
    check_until(check_stat(rep.id, "listeners[0].proto") > 2);
    assert_int_equal(check_stat(rep.id, "pipes"), 0);
    assert_int_equal(check_stat(pair.id, "pipes"), 0);
    assert_int_equal(check_stat(pair.id, "dialers[0].connect"), 0);
}

static void dial_of_nobody_is_refused_at_once(void **state)
{
    sp_socket s = check_open("pair");
    sp_listener l = {0};
    char url[256];
    int64_t start_at;
    int rc;

    (void)state;
    check_listen(s, conform.transport, url, &l);
    check_ok(sp_close(s));
    s = check_open("pair");
    start_at = check_now();
    rc = sp_dial(s, url, NULL, 0);
    assert_true(rc == -ECONNREFUSED || rc == -ENOENT);
    assert_int_equal(strncmp(sp_error_detail(), "dial ", 5), 0);
    assert_non_null(strstr(sp_error_detail(), url));
    assert_non_null(strstr(sp_error_detail(), "connect: "));
    assert_in_range(check_now() - start_at, 0, 5000);
}

/// A close in every state of the connection, on either side, leaves nothing (check_fini) and does
/// not hang.
static void close_in_every_state(void **state)
{
    (void)state;
    for (int i = 0; i < 120; i++) {
        sp_socket a = check_open("pair");
        sp_socket b = check_open("pair");
        sp_listener l = {0};
        sp_dialer d = {0};
        char url[256];
        int step = i % 12;

        check_listen(a, conform.transport, url, &l);
        check_ok(sp_set_int(a.id, "linger", i % 2 == 0 ? 0 : 50));
        check_ok(sp_set_int(b.id, "linger", i % 2 == 0 ? 0 : 50));
        if (step >= 1) {
            check_ok(sp_dial(b, url, &d, SP_NONBLOCK));
        }
        if (step == 2) {
            check_ok(sp_dialer_close(d));
        }
        if (step == 3) {
            check_ok(sp_listener_close(l));
        }
        if (step >= 4) {
            check_pipes(b, 1);
        }
        if (step == 5) {
            check_pipes(a, 1);
            check_ok(sp_pipe_close(check_pipe(a)));
        }
        if (step == 6) {
            check_ok(sp_pipe_close(check_pipe(b)));
        }
        if (step >= 7) {
            check_send(b, "x");
            (void)!sp_send(a, "x", 1, SP_NONBLOCK);
        }
        if (step == 8) {
            check_recv(a, "x");
        }
        if (step >= 9) {
            static const char large[16384];

            // Until nothing takes more; a transport that loses always takes more.
            for (int k = 0; k < 4096 && sp_send(b, large, sizeof(large), SP_NONBLOCK) == SP_OK;
                 k++) {
            }
        }
        check_ok(sp_close(step % 2 == 0 ? a : b));
        check_ok(sp_close(step % 2 == 0 ? b : a));
    }
    check_until(check_stat(0, "runtime.objects") == 0);
}

static void send_close_and_all_arrives(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        sp_socket a;
        sp_socket b;

        check_couple(conform.transport, "pair", "pair", &a, &b);
        for (int k = 0; k < 100; k++) {
            check_ok(sp_send(b, &k, sizeof(k), 0));
        }
        check_ok(sp_close(b));
        for (int k = 0; k < 100; k++) {
            int v = -1;

            check_rc(4, sp_recv(a, &v, sizeof(v), 0));
            assert_int_equal(v, k);
        }
        check_pipes(a, 0);
        check_rest(a);
        check_ok(sp_close(a));
    }
}

/// What a peer sent before its connection ended is received though nobody had time for it.
static void what_came_before_the_end_is_received_late(void **state)
{
    sp_socket a;
    sp_socket b;
    int n = 0;

    (void)state;
    check_couple(conform.transport, "pair", "pair", &a, &b);
    check_ok(sp_set_int(a.id, "recv-buffer", 4));
    for (int quiet = 0; quiet < 50;) {
        int rc = sp_send(b, &n, sizeof(n), SP_NONBLOCK);

        n += rc == SP_OK;
        quiet = rc == SP_OK ? 0 : quiet + 1;
        if (n >= 300) {
            break;
        }
        if (quiet > 0) {
            check_pause();
        }
    }
    n -= (int)check_stat(b.id, "tx_queued");
    check_ok(sp_set_int(b.id, "linger", 0));
    check_rest(b);
    n = (int)check_stat(b.id, "tx_msgs");
    check_ok(sp_close(b));
    for (int i = 0; i < n; i++) {
        int v = -1;

        check_rc(4, sp_recv(a, &v, sizeof(v), 0));
        assert_int_equal(v, i);
    }
    check_rest(a);
}

int main(void)
{
    static const struct conform_fact facts[] = {
        conform_fact(connects_and_accepts, 0, 0),
        conform_fact_lossless(messages_of_every_size_arrive_whole, 0, 0),
        conform_fact_lossless(order_is_kept_at_full_speed, 0, 0),
        conform_fact_lossless(receiver_that_does_not_receive_holds_the_sender, 0, 0),
        conform_fact(hundred_dialers_are_served, 0, 0),
        conform_fact(hundred_dialers_come_back_to_a_new_listener, 0, 0),
        conform_fact(wrong_protocol_is_refused_and_counted, 0, 0),
        conform_fact(dial_of_nobody_is_refused_at_once, 0, 0),
        conform_fact(close_in_every_state, 0, 0),
        conform_fact_lossless(send_close_and_all_arrives, 0, 0),
        conform_fact_lossless(what_came_before_the_end_is_received_late, 0, 0),
    };

    return conform_run_transports(facts, sizeof(facts) / sizeof(facts[0]));
}
