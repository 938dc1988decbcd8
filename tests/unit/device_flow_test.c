/* SPDX-License-Identifier: MIT */
/// What goes through devices: every pattern, devices in a row over each transport, many requests at
/// once, peers that come and go, order, and circles, which "ttl-max" ends.
#include "relay.h"

#include <stdio.h>
#include <string.h>

/// A pattern: who asks, the device's two sides, who answers.
struct pattern {
    const char *client;
    const char *front;
    const char *back;
    const char *server;
    bool answers;
};

static const struct pattern patterns[] = {
    {"req", "rep", "req", "rep", true},         {"pair", "pair", "pair", "pair", true},
    {"pair1", "pair1", "pair1", "pair1", true}, {"push", "pull", "push", "pull", false},
    {"bus", "bus", "bus", "bus", true},
};

#define PATTERNS (sizeof(patterns) / sizeof(patterns[0]))
#define ROW_MAX 8

/// Devices in a row, with an end on both sides.
struct row {
    struct relay relay[ROW_MAX];
    size_t n;
    sp_socket client;
    sp_socket server;
};

static void row_open(struct row *r, const struct pattern *p, size_t n, const char *transport)
{
    char url[256];

    r->n = n;
    r->server = check_open(p->server);
    r->client = check_open(p->client);
    if (strcmp(p->server, "sub") == 0) {
        check_ok(sp_set_bytes(r->server.id, "subscribe", "", 0));
    }
    check_listen(r->server, transport, url, NULL);
    relay_chain(r->relay, n, p->front, p->back, transport, url);
    check_ok(sp_dial(r->client, r->relay[0].front, NULL, 0));
    for (size_t i = 0; i < n; i++) {
        check_pipes(r->relay[i].a, 1);
        check_pipes(r->relay[i].b, 1);
    }
    if (strcmp(p->client, "pub") == 0) { // What is subscribed has to be known first.
        while (check_stat(r->server.id, "rx_received") == 0) {
            check_send(r->client, "warm");
            check_pause();
        }
    }
}

/// The next message, behind those that warmed a PUB up.
static void check_arrives(sp_socket s, const char *text)
{
    char buf[16] = "warm";

    while (strcmp(buf, "warm") == 0) {
        ssize_t n = sp_recv(s, buf, sizeof(buf) - 1, 0);

        assert_true(n > 0);
        buf[n] = '\0';
    }
    assert_string_equal(buf, text);
}

static void row_close(struct row *r)
{
    relay_chain_close(r->relay, r->n);
    check_rest(r->client);
    check_rest(r->server);
    check_ok(sp_close(r->client));
    check_ok(sp_close(r->server));
}

static void every_pattern_goes_through_rows_of_devices(const char *transport)
{
    static const size_t lengths[] = {1, 2, 7};

    for (size_t i = 0; i < PATTERNS * 3; i++) {
        const struct pattern *p = &patterns[i / 3];
        struct row r;

        row_open(&r, p, lengths[i % 3], transport);
        for (int n = 0; n < 3; n++) {
            check_send(r.client, "there");
            check_arrives(r.server, "there");
            if (p->answers) {
                check_send(r.server, "back");
                check_recv(r.client, "back");
            }
        }
        row_close(&r);
    }
}

static void every_pattern_over_inproc(void **state)
{
    (void)state;
    every_pattern_goes_through_rows_of_devices("inproc");
}

static void every_pattern_over_ipc(void **state)
{
    (void)state;
    every_pattern_goes_through_rows_of_devices("ipc");
}

static void every_pattern_over_tcp(void **state)
{
    (void)state;
    every_pattern_goes_through_rows_of_devices("tcp");
}

/* ------------------------------------------------------------------ Order, and many at once */

static void check_number(sp_socket s, int want)
{
    int n = -1;

    assert_int_equal(sp_recv(s, &n, sizeof(n), 0), sizeof(n));
    assert_int_equal(n, want);
}

static void order_is_kept(void **state)
{
    static const char *const transports[] = {"inproc", "tcp"};

    (void)state;
    for (size_t t = 0; t < 2; t++) {
        struct row r;

        row_open(&r, &patterns[3], 2, transports[t]);
        for (int n = 0; n < 20000; n += 100) {
            for (int i = n; i < n + 100; i++) {
                check_ok(sp_send(r.client, &i, sizeof(i), 0));
            }
            for (int i = n; i < n + 100; i++) {
                check_number(r.server, i);
            }
        }
        row_close(&r);
    }
}

#define FLIGHT 64

static void ctx_send(sp_ctx c, int n)
{
    sp_msg *m;

    check_ok(sp_msg_new(&m, sizeof(n)));
    memcpy(sp_msg_data(m), &n, sizeof(n));
    check_ok(sp_ctx_sendmsg(c, m, 0));
}

static int ctx_recv(sp_ctx c)
{
    sp_msg *m = NULL;
    int n = -1;

    check_ok(sp_ctx_recvmsg(c, &m, 0));
    assert_int_equal(sp_msg_len(m), sizeof(n));
    memcpy(&n, sp_msg_view(m), sizeof(n));
    sp_msg_release(m);
    return n;
}

/// All requests are under way before the first is answered, and the last one is answered first.
static void requests_in_flight_get_their_own_answers(void **state)
{
    static const char *const transports[] = {"inproc", "tcp"};

    (void)state;
    for (size_t t = 0; t < 2; t++) {
        struct row r;
        sp_ctx ask[FLIGHT];
        sp_ctx answer[FLIGHT];
        int got[FLIGHT];

        row_open(&r, &patterns[0], 2, transports[t]);
        for (int i = 0; i < FLIGHT; i++) {
            check_ok(sp_ctx_open(&ask[i], r.client));
            check_ok(sp_ctx_open(&answer[i], r.server));
        }
        for (int round = 0; round < 10; round++) {
            for (int i = 0; i < FLIGHT; i++) {
                ctx_send(ask[i], FLIGHT * round + i);
            }
            for (int i = 0; i < FLIGHT; i++) {
                got[i] = ctx_recv(answer[i]);
            }
            for (int i = FLIGHT - 1; i >= 0; i--) {
                ctx_send(answer[i], -got[i]);
            }
            for (int i = 0; i < FLIGHT; i++) {
                assert_int_equal(ctx_recv(ask[i]), -(FLIGHT * round + i));
            }
        }
        row_close(&r);
    }
}

/// Answers what each of the three has received; returns how many questions that were.
static int answer(const sp_socket server[3])
{
    sp_pollitem items[3];
    int answered = 0;

    for (int i = 0; i < 3; i++) {
        items[i] = (sp_pollitem){.id = server[i].id, .events = SP_POLLIN};
    }
    assert_true(sp_poll(items, 3, CHECK_SOON) > 0);
    for (int i = 0; i < 3; i++) {
        int n;

        if ((items[i].revents & SP_POLLIN) != 0) {
            assert_int_equal(sp_recv(server[i], &n, sizeof(n), 0), sizeof(n));
            check_ok(sp_send(server[i], &n, sizeof(n), 0));
            answered++;
        }
    }
    return answered;
}

/// Any of the servers may get a question; each asker hears of its own.
static void many_ask_many(void **state)
{
    struct relay r;
    sp_socket client[10];
    sp_socket server[3];

    (void)state;
    relay_open(&r, "rep", "req", "tcp", NULL);
    for (int i = 0; i < 3; i++) {
        server[i] = check_open("rep");
        check_ok(sp_dial(server[i], r.back, NULL, 0));
    }
    check_pipes(r.b, 3);
    for (int i = 0; i < 10; i++) {
        client[i] = check_open("req");
        check_ok(sp_dial(client[i], r.front, NULL, 0));
    }
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 10; i++) {
            check_ok(sp_send(client[i], &i, sizeof(i), 0));
        }
        for (int left = 10; left > 0; left -= answer(server)) {
        }
        for (int i = 0; i < 10; i++) {
            check_number(client[i], i);
        }
    }
    for (int i = 0; i < 3; i++) {
        assert_true(check_stat(server[i].id, "rx_delivered") > 0);
    }
    relay_close(&r);
}

/// Everybody behind two devices is asked, and each answer counts.
static void a_survey_asks_everybody_behind_devices(void **state)
{
    struct relay r[2];
    sp_socket surveyor = check_open("surveyor");
    sp_socket respondent[5];

    (void)state;
    relay_open(&r[1], "respondent", "surveyor", "tcp", NULL);
    relay_open(&r[0], "respondent", "surveyor", "tcp", r[1].front);
    check_ok(sp_set_int(surveyor.id, "surveyor:survey-time", CHECK_SOON));
    check_ok(sp_dial(surveyor, r[0].front, NULL, 0));
    for (int i = 0; i < 5; i++) {
        respondent[i] = check_open("respondent");
        check_ok(sp_dial(respondent[i], r[1].back, NULL, 0));
    }
    check_pipes(r[1].b, 5);
    for (int round = 0; round < 10; round++) {
        unsigned seen = 0;

        check_send(surveyor, "who is there?");
        for (int i = 0; i < 5; i++) {
            check_recv(respondent[i], "who is there?");
            check_ok(sp_send(respondent[i], &i, sizeof(i), 0));
        }
        for (int i = 0; i < 5; i++) {
            int n = 0;

            assert_int_equal(sp_recv(surveyor, &n, sizeof(n), 0), sizeof(n));
            seen |= 1U << n;
        }
        assert_int_equal(seen, 31);
    }
    relay_chain_close(r, 2);
}

static void subscribers_behind_a_device_get_their_topics(void **state)
{
    struct relay r;
    sp_socket pub = check_open("pub");
    sp_socket sub[2];

    (void)state;
    relay_open(&r, "sub", "pub", "ipc", NULL);
    check_ok(sp_dial(pub, r.front, NULL, 0));
    for (int i = 0; i < 2; i++) {
        sub[i] = check_open("sub");
        check_ok(sp_set_bytes(sub[i].id, "subscribe", i == 0 ? "a" : "b", 1));
        check_ok(sp_set_bytes(sub[i].id, "subscribe", "warm", 4));
        check_ok(sp_dial(sub[i], r.back, NULL, 0));
    }
    check_pipes(r.b, 2);
    for (int i = 0; i < 2; i++) {
        while (check_stat(sub[i].id, "rx_delivered") + check_stat(sub[i].id, "rx_queued") == 0) {
            check_send(pub, "warm");
            check_pause();
        }
    }
    check_send(pub, "a1");
    check_send(pub, "b1");
    check_send(pub, "c1");
    check_send(pub, "b2");
    check_arrives(sub[0], "a1");
    check_arrives(sub[1], "b1");
    check_arrives(sub[1], "b2");
    relay_close(&r);
}

/* ------------------------------------------------------------------ Peers that come and go */

static void what_came_from_a_peer_that_left_is_forwarded_in_order(void **state)
{
    struct relay r;
    sp_socket sink = check_open("pull");

    (void)state;
    relay_open(&r, "pull", "push", "tcp", NULL);
    check_ok(sp_dial(sink, r.back, NULL, 0));
    for (int peer = 0; peer < 20; peer++) {
        sp_socket source = check_open("push");

        check_ok(sp_dial(source, r.front, NULL, 0));
        for (int i = 0; i < 100; i++) {
            check_ok(sp_send(source, &i, sizeof(i), 0));
        }
        check_ok(sp_drain(source, CHECK_SOON, NULL));
        for (int i = 0; i < 100; i++) {
            check_number(sink, i);
        }
    }
    relay_close(&r);
}

static void work_waits_while_there_is_nobody_to_do_it(void **state)
{
    struct relay r;
    sp_socket source = check_open("push");

    (void)state;
    relay_open(&r, "pull", "push", "ipc", NULL);
    check_ok(sp_dial(source, r.front, NULL, 0));
    for (int peer = 0; peer < 20; peer++) {
        sp_socket sink = check_open("pull");

        for (int i = 0; i < 10; i++) {
            check_ok(sp_send(source, &i, sizeof(i), 0));
        }
        check_ok(sp_dial(sink, r.back, NULL, 0));
        for (int i = 0; i < 10; i++) {
            check_number(sink, i);
        }
        check_ok(sp_close(sink));
        check_pipes(r.b, 0);
    }
    relay_close(&r);
}

static void a_question_survives_the_end_of_who_was_asked(void **state)
{
    struct relay r;
    sp_socket client = check_open("req");
    sp_socket server = check_open("rep");

    (void)state;
    check_ok(sp_set_int(client.id, "req:resend-tick", 10));
    check_ok(sp_set_int(client.id, "req:resend-time", 50));
    relay_open(&r, "rep", "req", "tcp", NULL);
    check_ok(sp_dial(server, r.back, NULL, 0));
    check_ok(sp_dial(client, r.front, NULL, 0));
    check_send(client, "question");
    check_recv(server, "question");
    check_ok(sp_close(server));
    server = check_open("rep");
    check_ok(sp_dial(server, r.back, NULL, 0));
    check_recv(server, "question");
    check_send(server, "answer");
    check_recv(client, "answer");
    relay_close(&r);
}

static void an_answer_to_a_peer_that_left_is_counted(void **state)
{
    struct relay r;
    sp_socket client = check_open("req");
    sp_socket server = check_open("rep");

    (void)state;
    relay_open(&r, "rep", "req", "ipc", NULL);
    check_ok(sp_dial(server, r.back, NULL, 0));
    check_ok(sp_dial(client, r.front, NULL, 0));
    check_send(client, "question");
    check_recv(server, "question");
    check_ok(sp_close(client));
    check_pipes(r.a, 0);
    check_send(server, "answer");
    check_stat_is(r.a.id, "tx_drops.peer_gone", 1);
    relay_close(&r);
}

/* ------------------------------------------------------------------ Hops */

/// The number of words in front of a message that a raw PAIR1 receives.
static uint32_t hops_of(sp_msg *m)
{
    const unsigned char *h = sp_msg_header(m);

    assert_int_equal(sp_msg_header_len(m), 4);
    return (uint32_t)h[0] << 24 | (uint32_t)h[1] << 16 | (uint32_t)h[2] << 8 | (uint32_t)h[3];
}

static void each_device_is_a_hop(void **state)
{
    static const size_t lengths[] = {1, 2, 7};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct pattern p = patterns[2];
        struct row r;
        sp_msg *m = NULL;
        char url[256];

        r.n = lengths[i];
        r.server = relay_raw(p.server);
        r.client = check_open(p.client);
        check_listen(r.server, "inproc", url, NULL);
        relay_chain(r.relay, r.n, p.front, p.back, "inproc", url);
        check_ok(sp_dial(r.client, r.relay[0].front, NULL, 0));
        check_send(r.client, "x");
        check_ok(sp_recvmsg(r.server, &m, 0));
        assert_int_equal(hops_of(m), r.n + 1);
        sp_msg_release(m);
        row_close(&r);
    }
}

/// The last of eight devices is one too many, unless it is allowed.
static void more_hops_than_allowed_are_dropped_and_counted(void **state)
{
    (void)state;
    for (int allowed = 0; allowed < 2; allowed++) {
        struct row r;

        row_open(&r, &patterns[0], 8, "inproc");
        check_ok(sp_set_int(r.server.id, "ttl-max", allowed ? 9 : 8));
        check_send(r.client, "far");
        if (allowed) {
            check_recv(r.server, "far");
        } else {
            check_stat_is(r.server.id, "rx_drops.ttl", 1);
        }
        row_close(&r);
    }
}

/// Two devices, each the other's next.
static void circle(struct relay r[2], const char *front, const char *back)
{
    relay_open(&r[1], front, back, "inproc", NULL);
    relay_open(&r[0], front, back, "inproc", r[1].front);
    check_ok(sp_dial(r[1].b, r[0].front, NULL, 0));
}

static void a_circle_of_questions_is_ended_by_ttl_max(void **state)
{
    sp_socket client = check_open("req");
    struct relay r[2];

    (void)state;
    circle(r, "rep", "req");
    check_ok(sp_dial(client, r[0].front, NULL, 0));
    check_send(client, "for ever?");
    // The first of the two counts 1, 3, 5, 7 words and its own in front of each.
    check_until(check_stat(r[0].a.id, "rx_drops.ttl") + check_stat(r[1].a.id, "rx_drops.ttl") == 1);
    assert_int_equal(check_stat(r[0].a.id, "rx_received") + check_stat(r[1].a.id, "rx_received"),
                     9);
    relay_chain_close(r, 2);
}

static void a_circle_of_pairs_is_ended_by_ttl_max(void **state)
{
    static const unsigned char none[4];
    struct relay r[2];
    sp_msg *m = NULL;

    (void)state;
    circle(r, "pair1", "pair1");
    check_ok(sp_msg_new(&m, 3));
    memcpy(sp_msg_data(m), "for", 3);
    check_ok(sp_msg_header_append(m, none, sizeof(none)));
    check_ok(sp_sendmsg(r[0].b, m, 0));
    check_until(check_stat(r[0].a.id, "rx_drops.ttl") + check_stat(r[1].a.id, "rx_drops.ttl") == 1);
    assert_int_equal(check_stat(r[0].a.id, "rx_received") + check_stat(r[1].a.id, "rx_received"),
                     9);
    relay_chain_close(r, 2);
}

/* ------------------------------------------------------------------ Everybody but the sender */

static void a_bus_that_reflects_connects_its_peers(void **state)
{
    sp_socket hub = relay_raw("bus");
    sp_socket peer[3];
    sp_op *op;
    char url[256];
    char buf[8];

    (void)state;
    check_listen(hub, "inproc", url, NULL);
    check_ok(sp_op_new(&op, NULL, NULL));
    check_ok(sp_op_device(op, hub, hub));
    for (int i = 0; i < 3; i++) {
        peer[i] = check_open("bus");
        check_ok(sp_dial(peer[i], url, NULL, 0));
    }
    check_pipes(hub, 3);
    check_send(peer[0], "hello");
    check_recv(peer[1], "hello");
    check_recv(peer[2], "hello");
    check_rest(hub);
    check_rc(SP_EAGAIN, sp_recv(peer[0], buf, sizeof(buf), SP_NONBLOCK));
    sp_op_free(op);
}

static void a_device_joins_two_buses(void **state)
{
    struct relay r;
    sp_socket left[2];
    sp_socket right[2];
    char buf[8];

    (void)state;
    relay_open(&r, "bus", "bus", "inproc", NULL);
    for (int i = 0; i < 2; i++) {
        left[i] = check_open("bus");
        right[i] = check_open("bus");
        check_ok(sp_dial(left[i], r.front, NULL, 0));
        check_ok(sp_dial(right[i], r.back, NULL, 0));
    }
    check_pipes(r.a, 2);
    check_pipes(r.b, 2);
    check_send(left[0], "hello");
    check_recv(right[0], "hello");
    check_recv(right[1], "hello");
    check_send(right[1], "well");
    check_recv(left[0], "well");
    check_recv(left[1], "well");
    check_rc(SP_EAGAIN, sp_recv(right[0], buf, sizeof(buf), SP_NONBLOCK));
    relay_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(every_pattern_over_inproc),
        check_both(every_pattern_over_ipc),
        check_both(every_pattern_over_tcp),
        check_both(order_is_kept),
        check_both(requests_in_flight_get_their_own_answers),
        check_both(many_ask_many),
        check_both(a_survey_asks_everybody_behind_devices),
        check_both(subscribers_behind_a_device_get_their_topics),
        check_both(what_came_from_a_peer_that_left_is_forwarded_in_order),
        check_both(work_waits_while_there_is_nobody_to_do_it),
        check_both(a_question_survives_the_end_of_who_was_asked),
        check_both(an_answer_to_a_peer_that_left_is_counted),
        check_both(each_device_is_a_hop),
        check_both(more_hops_than_allowed_are_dropped_and_counted),
        check_both(a_circle_of_questions_is_ended_by_ttl_max),
        check_both(a_circle_of_pairs_is_ended_by_ttl_max),
        check_both(a_bus_that_reflects_connects_its_peers),
        check_both(a_device_joins_two_buses),
    };

    return cmocka_run_group_tests_name("device_flow", tests, NULL, NULL);
}
