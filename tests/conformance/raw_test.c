/* SPDX-License-Identifier: MIT */
/// Raw mode of every pattern, devices in a row, and the limit of hops.
#include "conform.h"
#include "relay.h"

#include <arpa/inet.h>

#include <string.h>

#define ROW 3 // devices

static bool asks(void)
{
    return (conform.pattern->flags & CONFORM_ASKS) != 0;
}

/// Whether a header is to be made by who sends on a raw socket.
static bool has_header(void)
{
    return (conform.pattern->flags & CONFORM_HOPS) != 0;
}

static void connect_couple(sp_socket sender, sp_socket receiver)
{
    conform_connect(&sender, 1, &receiver, 1);
}

static sp_msg *message(int v)
{
    sp_msg *m = NULL;

    check_ok(sp_msg_new(&m, 0));
    check_ok(sp_msg_append(m, &v, sizeof(v)));
    return m;
}

static int body(const sp_msg *m)
{
    int v;

    assert_int_equal(sp_msg_len(m), sizeof(v));
    memcpy(&v, sp_msg_view(m), sizeof(v));
    return v;
}

/// What a raw receiver gets it can send back as it is.
static void raw_receiver_answers_with_the_header_that_came(void **state)
{
    sp_socket sender = conform_sender();
    sp_socket receiver = relay_raw(conform.pattern->receiver);

    (void)state;
    connect_couple(sender, receiver);
    for (int i = 0; i < 20; i++) {
        sp_msg *m = NULL;

        conform_send(sender, i);
        check_ok(sp_recvmsg(receiver, &m, 0));
        assert_int_equal(body(m), i);
        assert_int_equal(sp_msg_header_len(m) > 0, has_header());
        check_ok(sp_sendmsg(receiver, m, 0));
        assert_int_equal(conform_recv(sender), i);
    }
    check_rest(sender);
    check_rest(receiver);
}

/// Who sends raw makes the header: here the last word of a question, or a count of hops.
static void raw_sender_makes_the_header(void **state)
{
    uint32_t word = htonl(asks() ? 0x80000123U : 0);
    sp_socket sender = relay_raw(conform.pattern->sender);
    sp_socket receiver = conform_receiver();
    sp_msg *m = message(5);

    (void)state;
    connect_couple(sender, receiver);
    if (has_header()) {
        check_ok(sp_msg_header_append(m, &word, sizeof(word)));
    }
    check_ok(sp_sendmsg(sender, m, 0));
    assert_int_equal(conform_recv(receiver), 5);
    if (asks()) {
        conform_send(receiver, 6);
        check_ok(sp_recvmsg(sender, &m, 0));
        assert_int_equal(body(m), 6);
        assert_int_equal(sp_msg_header_len(m), sizeof(word));
        assert_memory_equal(sp_msg_header(m), &word, sizeof(word));
        sp_msg_release(m);
    }
    check_rest(sender);
    check_rest(receiver);
}

/// An answer without the way back is nobody's.
static void raw_answer_without_a_header_is_malformed(void **state)
{
    sp_socket sender = conform_sender();
    sp_socket receiver = relay_raw(conform.pattern->receiver);

    (void)state;
    connect_couple(sender, receiver);
    check_ok(sp_sendmsg(receiver, message(1), 0));
    check_stat_is(receiver.id, "tx_drops.malformed", 1);
    check_rest(receiver);
    check_pipes(sender, 1); // It did no harm.
}

static void raw_sender_keeps_no_state(void **state)
{
    sp_socket sender = relay_raw(conform.pattern->sender);
    sp_socket receiver = relay_raw(conform.pattern->receiver);
    sp_msg *m = NULL;

    (void)state;
    connect_couple(sender, receiver);
    for (uint32_t i = 0; i < 10; i++) { // Ten questions at once, answered from the last one on.
        uint32_t word = htonl(0x80000000U + i);

        m = message((int)i);
        check_ok(sp_msg_header_append(m, &word, sizeof(word)));
        check_ok(sp_sendmsg(sender, m, 0));
    }
    for (int i = 0; i < 10; i++) {
        check_ok(sp_recvmsg(receiver, &m, 0));
        assert_int_equal(body(m), i);
        check_ok(sp_sendmsg(receiver, m, 0));
        check_ok(sp_recvmsg(sender, &m, 0));
        assert_int_equal(body(m), i);
        sp_msg_release(m);
    }
}

/* ------------------------------------------------------------------ Devices */

/// A sender and a receiver with devices between them.
struct row {
    struct relay relay[ROW];
    unsigned n;
    sp_socket sender;
    sp_socket receiver;
};

static void row_open(struct row *r, unsigned n)
{
    char url[256];

    r->n = n;
    r->sender = conform_sender();
    r->receiver = conform_receiver();
    check_listen(r->receiver, conform.transport, url, NULL);
    relay_chain(r->relay, n, conform.pattern->receiver, conform.pattern->sender, conform.transport,
                url);
    check_ok(sp_dial(r->sender, r->relay[0].front, NULL, 0));
    check_pipes(r->sender, 1);
    check_pipes(r->receiver, 1);
    for (unsigned i = 0; i < n; i++) {
        check_pipes(r->relay[i].a, 1);
        check_pipes(r->relay[i].b, 1);
    }
    check_stat_is(r->relay[n - 1].b.id, "rx_drops.own", conform_own());
}

static void row_close(struct row *r)
{
    relay_chain_close(r->relay, r->n);
    check_rest(r->sender);
    check_rest(r->receiver);
}

static void messages_go_through_devices_in_order(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= ROW; n += ROW - 1) {
        struct row r;

        row_open(&r, n);
        for (int i = 0; i < 50; i++) {
            conform_exchange(r.sender, r.receiver, i);
        }
        for (int i = 0; i < 50 && !asks(); i++) {
            conform_send(r.sender, i);
        }
        for (int i = 0; i < 50 && !asks(); i++) {
            assert_int_equal(conform_recv(r.receiver), i);
        }
        row_close(&r);
        check_ok(sp_close(r.sender));
        check_ok(sp_close(r.receiver));
    }
}

/// With as many hops as the limit it arrives, with one more it is dropped and counted.
static void hops_are_limited(void **state)
{
    struct row r;
    int v;

    (void)state;
    row_open(&r, ROW);
    check_ok(sp_set_int(r.receiver.id, "ttl-max", ROW));
    conform_send(r.sender, 1);
    check_stat_is(r.receiver.id, "rx_drops.ttl", 1);
    check_rc(SP_EAGAIN, sp_recv(r.receiver, &v, sizeof(v), SP_NONBLOCK));
    check_ok(sp_set_int(r.receiver.id, "ttl-max", ROW + 1));
    conform_exchange(r.sender, r.receiver, 2);
    check_stat_is(r.receiver.id, "rx_drops.ttl", 1);
    row_close(&r);
}

int main(void)
{
    static const struct conform_fact facts[] = {
        conform_fact(raw_receiver_answers_with_the_header_that_came, CONFORM_ASKS, 0),
        conform_fact(raw_receiver_answers_with_the_header_that_came, CONFORM_SINGLE, 0),
        conform_fact(raw_sender_makes_the_header, 0, CONFORM_TOPICS),
        conform_fact(raw_answer_without_a_header_is_malformed, CONFORM_HOPS, 0),
        conform_fact(raw_sender_keeps_no_state, CONFORM_ASKS, 0),
        conform_fact(messages_go_through_devices_in_order, 0, 0),
        conform_fact(hops_are_limited, CONFORM_HOPS, 0),
    };

    return conform_run(facts, sizeof(facts) / sizeof(facts[0]));
}
