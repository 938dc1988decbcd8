/* SPDX-License-Identifier: MIT */
/// "send-priority" and "recv-priority": who is served first.
#include "check.h"

#include <string.h>

/// A listener of a socket with priorities; its URL.
static void listen_at(sp_socket s, const char *transport, int64_t send, int64_t recv, char url[256])
{
    sp_listener l = {0};
    size_t n = 256;

    check_url(transport, url);
    check_ok(sp_listener_new(&l, s, url));
    check_ok(sp_set_int(l.id, "send-priority", send));
    check_ok(sp_set_int(l.id, "recv-priority", recv));
    check_ok(sp_listener_start(l));
    check_ok(sp_get_str(l.id, "url", url, &n));
}

static sp_socket dialled(const char *protocol, const char *url)
{
    sp_socket s = check_open(protocol);

    check_ok(sp_dial(s, url, NULL, 0));
    check_pipes(s, 1);
    return s;
}

static void send_marked(sp_socket s, const char *mark, int n)
{
    for (int i = 0; i < n; i++) {
        check_send(s, mark);
    }
}

/// A receiver with room for 4, and two senders with 40 messages each that wait before it. What it
/// receives then, as text.
static void receive_from_two(const char *transport, int64_t first, int64_t second, char got[81])
{
    sp_socket pull = check_open("pull");
    char url[2][256];
    sp_socket a;
    sp_socket b;

    check_ok(sp_set_int(pull.id, "recv-buffer", 4));
    listen_at(pull, transport, 8, first, url[0]);
    listen_at(pull, transport, 8, second, url[1]);
    a = dialled("push", url[0]);
    b = dialled("push", url[1]);
    send_marked(a, "a", 40);
    check_stat_is(pull.id, "rx_received", 40);
    send_marked(b, "b", 40);
    check_stat_is(pull.id, "rx_received", 80);
    check_rest(pull);
    for (int i = 0; i < 80; i++) {
        check_ok(sp_recv(pull, &got[i], 1, 0) == 1 ? SP_OK : SP_EPROTO);
    }
    got[80] = '\0';
    check_rest(pull);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
    check_ok(sp_close(pull));
}

static void who_has_priority_is_received_from_first(void **state)
{
    static const char *const transports[] = {"inproc", "ipc", "tcp"};
    char want[81] = "aaaa";
    char got[81];

    (void)state;
    memset(want + 4, 'b', 40);
    memset(want + 44, 'a', 36);
    want[80] = '\0';
    for (int t = 0; t < 3; t++) {
        receive_from_two(transports[t], 8, 1, got);
        assert_string_equal(got, want);
    }
    memset(want, 'a', 40);
    memset(want + 40, 'b', 40);
    receive_from_two("inproc", 1, 16, got);
    assert_string_equal(got, want);
}

static void equals_are_received_from_in_turn(void **state)
{
    char got[81];
    int row = 0;

    (void)state;
    receive_from_two("inproc", 3, 3, got);
    for (int i = 1; i < 70; i++) {
        row = got[i] == got[i - 1] ? row + 1 : 0;
        assert_true(row < 8);
    }
}

/// The receiver is full and its senders wait; one more of little priority waits behind them.
static void a_new_one_waits_behind_who_has_priority(void **state)
{
    sp_socket pull = check_open("pull");
    char url[2][256];
    char got[8] = "";
    sp_socket a;
    sp_socket b;

    (void)state;
    check_ok(sp_set_int(pull.id, "recv-buffer", 4));
    listen_at(pull, "inproc", 8, 1, url[0]);
    listen_at(pull, "inproc", 8, 2, url[1]);
    a = dialled("push", url[0]);
    b = dialled("push", url[1]);
    send_marked(a, "a", 6);
    check_stat_is(pull.id, "rx_received", 6);
    check_rest(pull);
    check_recv(pull, "a"); // Less than half is free: it does not tell yet.
    send_marked(b, "b", 1);
    check_stat_is(pull.id, "rx_received", 7);
    for (int i = 0; i < 6; i++) {
        check_ok(sp_recv(pull, &got[i], 1, 0) == 1 ? SP_OK : SP_EPROTO);
    }
    assert_string_equal(got, "aaaaab");
    check_rest(pull);
}

static void who_has_priority_is_sent_to_first(void **state)
{
    sp_socket push = check_open("push");
    sp_socket pull[2];
    char url[2][256];

    (void)state;
    listen_at(push, "inproc", 2, 8, url[0]);
    listen_at(push, "inproc", 1, 8, url[1]);
    pull[0] = dialled("pull", url[0]);
    pull[1] = dialled("pull", url[1]);
    check_pipes(push, 2);
    send_marked(push, "x", 20);
    for (int i = 0; i < 20; i++) {
        check_recv(pull[1], "x");
    }
    check_ok(sp_close(pull[1]));
    check_pipes(push, 1);
    check_send(push, "y");
    check_recv(pull[0], "y");
}

static void they_are_options_of_endpoints(void **state)
{
    sp_socket s = check_open("pull");
    sp_dialer d = {0};
    int64_t v = 0;

    (void)state;
    check_ok(sp_set_int(s.id, "send-priority", 3));
    check_ok(sp_dialer_new(&d, s, "inproc://nobody-there"));
    check_ok(sp_get_int(d.id, "send-priority", &v));
    assert_int_equal(v, 3);
    check_ok(sp_get_int(d.id, "recv-priority", &v));
    assert_int_equal(v, 8);
    check_rc(SP_EINVAL, sp_set_int(d.id, "recv-priority", 0));
    check_rc(SP_EINVAL, sp_set_int(d.id, "recv-priority", 17));
    check_ok(sp_set_int(d.id, "recv-priority", 16));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(who_has_priority_is_received_from_first),
        check_both(equals_are_received_from_in_turn),
        check_both(a_new_one_waits_behind_who_has_priority),
        check_both(who_has_priority_is_sent_to_first),
        check_both(they_are_options_of_endpoints),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
