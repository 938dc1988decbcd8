/* SPDX-License-Identifier: MIT */
/// Statistics of every pattern, exact: what is sent, copied, received, dropped and why, queued, and
/// how connections ended.
#include "conform.h"

#include <string.h>

#define N 100
#define PEERS 3

static bool asks(void)
{
    return (conform.pattern->flags & CONFORM_ASKS) != 0;
}

static void messages_and_bytes_are_counted_at_both_ends(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    int64_t back = asks() ? N : 0;

    (void)state;
    conform_couple(&sender, &receiver);
    for (int i = 0; i < N; i++) {
        conform_exchange(sender, receiver, i);
    }
    check_rest(sender);
    check_rest(receiver);
    check_stat_is(sender.id, "tx_accepted", N);
    check_stat_is(sender.id, "tx_msgs", N);
    check_stat_is(sender.id, "tx_bytes", 4 * N);
    check_stat_is(sender.id, "tx_queued", 0);
    check_stat_is(sender.id, "rx_received", back + conform_own());
    check_stat_is(sender.id, "rx_delivered", back);
    check_stat_is(sender.id, "peers[0].tx_msgs", N);
    check_stat_is(sender.id, "peers[0].rx_msgs", back + conform_own());
    check_stat_is(receiver.id, "rx_received", N);
    check_stat_is(receiver.id, "rx_delivered", N);
    check_stat_is(receiver.id, "rx_queued", 0);
    check_stat_is(receiver.id, "rx_msgs", N);
    check_stat_is(receiver.id, "tx_accepted", back);
    check_stat_is(receiver.id, "tx_msgs", back + conform_own());
    assert_true(check_stat(receiver.id, "rx_bytes") >= 4 * N);
}

static void copies_of_a_fan_out_are_counted(void **state)
{
    sp_socket sender = conform_sender();
    sp_socket receivers[PEERS];

    (void)state;
    for (int i = 0; i < PEERS; i++) {
        receivers[i] = conform_receiver();
    }
    conform_connect(&sender, 1, receivers, PEERS);
    for (int v = 0; v < N; v++) {
        conform_send(sender, v);
        for (int i = 0; i < PEERS; i++) {
            assert_int_equal(conform_recv(receivers[i]), v);
        }
    }
    check_rest(sender);
    check_stat_is(sender.id, "tx_accepted", N);
    check_stat_is(sender.id, "tx_copies", (PEERS - 1) * N);
    check_stat_is(sender.id, "tx_msgs", PEERS * N);
}

static void fan_out_to_nobody_is_a_drop(void **state)
{
    sp_socket sender = conform_sender();

    (void)state;
    for (int v = 0; v < N; v++) {
        conform_send(sender, v);
    }
    check_stat_is(sender.id, "tx_drops.no_peer", N);
    check_stat_is(sender.id, "tx_accepted", N);
    check_stat_is(sender.id, "tx_msgs", 0);
    check_rest(sender);
}

static void what_is_not_received_is_queued(void **state)
{
    sp_socket sender;
    sp_socket receiver;

    (void)state;
    conform_couple(&sender, &receiver);
    for (int v = 0; v < 10; v++) {
        conform_send(sender, v);
    }
    check_stat_is(receiver.id, "rx_queued", 10);
    for (int v = 0; v < 4; v++) {
        assert_int_equal(conform_recv(receiver), v);
    }
    check_stat_is(receiver.id, "rx_queued", 6);
    check_stat_is(receiver.id, "rx_delivered", 4);
    check_rest(receiver);
}

static void reply_to_a_peer_that_is_gone_is_a_drop(void **state)
{
    sp_socket sender;
    sp_socket receiver;

    (void)state;
    conform_couple(&sender, &receiver);
    conform_send(sender, 1);
    assert_int_equal(conform_recv(receiver), 1);
    check_ok(sp_close(sender));
    check_pipes(receiver, 0);
    conform_send(receiver, 2);
    check_stat_is(receiver.id, "tx_drops.peer_gone", 1);
    check_rest(receiver);
}

static void answer_to_an_earlier_question_is_stale(void **state)
{
    sp_socket sender;
    sp_socket receiver;

    (void)state;
    conform_couple(&sender, &receiver);
    conform_send(sender, 1);
    assert_int_equal(conform_recv(receiver), 1);
    conform_send(sender, 2);
    conform_send(receiver, 10);
    check_stat_is(sender.id, "rx_drops.stale", 1);
    assert_int_equal(conform_recv(receiver), 2);
    conform_send(receiver, 20);
    assert_int_equal(conform_recv(sender), 20);
    check_rest(sender);
    check_stat_is(sender.id, "rx_received", 2);
    check_stat_is(sender.id, "rx_delivered", 1);
}

static void close_counts_what_was_not_written(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    uint64_t left = 0;
    int64_t written;
    int n;

    (void)state;
    conform_couple(&sender, &receiver);
    n = conform_fill(sender);
    check_rest(sender);
    written = check_stat(sender.id, "tx_msgs");
    check_rc(SP_ETIMEDOUT, sp_drain(sender, 0, &left));
    assert_int_equal(written + (int64_t)left, n);
}

static void connections_are_counted_by_their_end(void **state)
{
    sp_socket a = conform_sender();
    sp_socket b = conform_receiver();
    char url[256];

    (void)state;
    check_listen(a, conform.transport, url, NULL);
    check_ok(sp_dial(b, url, NULL, 0));
    check_pipes(a, 1);
    check_pipes(b, 1);
    check_ok(sp_pipe_close(check_pipe(a)));
    check_stat_is(a.id, "listeners[0].canceled", 1);
    check_stat_is(b.id, "dialers[0].disconnect", 1);
    check_stat_is(a.id, "listeners[0].connect", 2); // It came back.
    check_stat_is(b.id, "dialers[0].connect", 2);
    check_pipes(a, 1);
    check_ok(sp_close(b));
    check_stat_is(a.id, "listeners[0].disconnect", 1);
    check_pipes(a, 0);
}

static void peer_of_another_protocol_is_counted(void **state)
{
    sp_socket a = conform_sender();
    sp_socket b = check_open(strcmp(conform.pattern->name, "pair") == 0 ? "rep" : "pair");
    char url[256];

    (void)state;
    check_listen(a, conform.transport, url, NULL);
    check_ok(sp_dial(b, url, NULL, SP_NONBLOCK));
    check_until(check_stat(a.id, "listeners[0].proto") > 0);
    check_until(check_stat(b.id, "dialers[0].proto") + check_stat(b.id, "dialers[0].disconnect") +
                    check_stat(b.id, "dialers[0].other") + check_stat(b.id, "dialers[0].refused") >
                0);
    assert_int_equal(check_stat(a.id, "pipes"), 0);
    assert_int_equal(check_stat(a.id, "listeners[0].connect"), 0);
}

int main(void)
{
    static const struct conform_fact facts[] = {
        conform_fact(messages_and_bytes_are_counted_at_both_ends, 0, 0),
        conform_fact(copies_of_a_fan_out_are_counted, CONFORM_FAN_OUT, 0),
        conform_fact_once(fan_out_to_nobody_is_a_drop, CONFORM_FAN_OUT, 0),
        conform_fact_lossless(what_is_not_received_is_queued, 0, CONFORM_ASKS),
        conform_fact(reply_to_a_peer_that_is_gone_is_a_drop, CONFORM_ASKS, 0),
        conform_fact(answer_to_an_earlier_question_is_stale, CONFORM_ASKS, 0),
        conform_fact_lossless(close_counts_what_was_not_written, 0, CONFORM_ASKS | CONFORM_DROPS),
        conform_fact(connections_are_counted_by_their_end, 0, 0),
        conform_fact(peer_of_another_protocol_is_counted, 0, 0),
    };

    return conform_run(facts, sizeof(facts) / sizeof(facts[0]));
}
