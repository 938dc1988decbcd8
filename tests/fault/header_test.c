/* SPDX-License-Identifier: MIT */
/// SP headers that are not what the protocol says: too short closes the pipe, too many hops or an
/// unknown id drops the message; everything is counted (wire: "SP headers").
#include "fault.h"
#include "fault_peer.h"

#include <string.h>
#include <unistd.h>

#define ID 0x80000000U

static void expect_closed(sp_socket s, struct fault_peer *p, long long malformed)
{
    assert_true(fault_peer_ended(p, FAULT_SOON));
    FAULT_STAT(s.id, "rx_drops.malformed", malformed);
    FAULT_STAT(s.id, "listeners.0.proto", malformed);
    FAULT_STAT(s.id, "pipes", 0);
    FAULT_AT_REST(s);
    fault_peer_close(p);
}

static void rep_closes_a_pipe_whose_request_has_no_id(void **state)
{
    static const struct {
        size_t words;
        const char *rest;
    } bad[] = {{0, ""}, {0, "a"}, {0, "ab"}, {0, "abc"}, {1, ""}, {1, "ab"}, {2, "xyz"}, {7, ""}};
    const uint32_t words[7] = {1, 2, 3, 4, 5, 6, 7};
    char url[FAULT_URL];
    sp_socket rep = fault_listen("rep", *state, url);
    char buf[8];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fault_peer p;

        assert_true(fault_peer_join(&p, url, RAWSP_REQ));
        assert_true(fault_peer_words(&p, words, bad[i].words, bad[i].rest));
        expect_closed(rep, &p, (long long)i + 1);
    }
    assert_int_equal(sp_recv(rep, buf, sizeof(buf), SP_NONBLOCK), SP_EAGAIN);
    FAULT_STAT(rep.id, "rx_delivered", 0);
}

static void rep_drops_requests_that_made_too_many_hops(void **state)
{
    const uint32_t words[10] = {1, 2, 3, 4, 5, 6, 7, 8, ID | 9, 0};
    const uint32_t fits[8] = {1, 2, 3, 4, 5, 6, 7, ID | 8};
    char url[FAULT_URL];
    sp_socket rep = fault_listen("rep", *state, url);
    struct fault_peer p;
    char buf[64];

    assert_true(fault_peer_join(&p, url, RAWSP_REQ));
    assert_true(fault_peer_words(&p, words, 9, "far"));
    FAULT_STAT(rep.id, "rx_drops.ttl", 1);
    // One hop less, id included, is the limit; the way back is the way it came.
    assert_true(fault_peer_words(&p, fits, 8, "near"));
    assert_int_equal(sp_recv(rep, buf, sizeof(buf), 0), 4);
    assert_memory_equal(buf, "near", 4);
    FAULT_OK(sp_send(rep, "back", 4, 0));
    assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), FAULT_SOON), 36);
    assert_memory_equal(buf,
                        "\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5\0\0\0\6\0\0\0\7\x80\0\0\x8"
                        "back",
                        36);
    FAULT_OK(sp_set_int(rep.id, "ttl-max", 1));
    assert_true(fault_peer_words(&p, fits + 6, 2, "two"));
    FAULT_STAT(rep.id, "rx_drops.ttl", 2);
    assert_true(fault_peer_words(&p, fits + 7, 1, "one"));
    assert_int_equal(sp_recv(rep, buf, sizeof(buf), 0), 3);
    FAULT_STAT(rep.id, "rx_drops.malformed", 0);
    FAULT_STAT(rep.id, "pipes", 1);
    FAULT_AT_REST(rep);
    fault_peer_close(&p);
}

/// A REQ that dialled a raw peer and asked something; the question's id.
static sp_socket ask(const char *transport, struct fault_peer *p, uint32_t *id)
{
    char url[FAULT_URL];
    sp_socket req = fault_open("req");
    unsigned char buf[16];
    int listener;

    fault_place(transport, url);
    listener = fault_peer_listen(url);
    FAULT_OK(sp_set_int(req.id, "reconnect-time-min", 60000));
    FAULT_OK(sp_dial(req, url, NULL, SP_NONBLOCK));
    assert_true(fault_peer_accept(p, listener, url, FAULT_SOON));
    assert_true(fault_peer_hello(p, RAWSP_REP));
    (void)close(listener);
    FAULT_OK(sp_send(req, "?", 1, 0));
    assert_int_equal(fault_peer_recv(p, buf, sizeof(buf), FAULT_SOON), 5);
    *id = (uint32_t)buf[0] << 24 | (uint32_t)buf[1] << 16 | (uint32_t)buf[2] << 8 | buf[3];
    assert_true((*id & ID) != 0);
    return req;
}

static void req_drops_answers_with_unknown_ids(void **state)
{
    struct fault_peer p;
    uint32_t id;
    sp_socket req = ask(*state, &p, &id);
    const uint32_t wrong[] = {id + 1, id - 1, id & ~ID, 0, UINT32_MAX ^ id};
    char buf[16];

    for (int i = 0; i < 5; i++) {
        assert_true(fault_peer_words(&p, &wrong[i], 1, "lie"));
    }
    assert_true(fault_peer_words(&p, &id, 1, "yes"));
    assert_int_equal(sp_recv(req, buf, sizeof(buf), 0), 3);
    assert_memory_equal(buf, "yes", 3);
    FAULT_STAT(req.id, "rx_drops.stale", 5);
    assert_true(fault_peer_words(&p, &id, 1, "yes")); // Twice is once too often.
    FAULT_STAT(req.id, "rx_drops.stale", 6);
    assert_int_equal(sp_recv(req, buf, sizeof(buf), SP_NONBLOCK), SP_ESTATE);
    FAULT_STAT(req.id, "pipes", 1);
    FAULT_AT_REST(req);
    fault_peer_close(&p);
}

static void req_drops_the_answer_to_a_question_that_was_replaced(void **state)
{
    struct fault_peer p;
    uint32_t old;
    sp_socket req = ask(*state, &p, &old);
    unsigned char buf[16];
    uint32_t id;

    FAULT_OK(sp_send(req, "!", 1, 0));
    assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), FAULT_SOON), 5);
    id = (uint32_t)buf[0] << 24 | (uint32_t)buf[1] << 16 | (uint32_t)buf[2] << 8 | buf[3];
    assert_true(id != old);
    assert_true(fault_peer_words(&p, &old, 1, "old"));
    assert_true(fault_peer_words(&p, &id, 1, "new"));
    assert_int_equal(sp_recv(req, buf, sizeof(buf), 0), 3);
    assert_memory_equal(buf, "new", 3);
    FAULT_STAT(req.id, "rx_drops.stale", 1);
    FAULT_AT_REST(req);
    fault_peer_close(&p);
}

static void req_closes_a_pipe_whose_answer_has_no_id(void **state)
{
    for (size_t n = 0; n < 4; n++) {
        struct fault_peer p;
        uint32_t id;
        sp_socket req = ask(*state, &p, &id);

        assert_true(fault_peer_send(&p, "abc", n));
        assert_true(fault_peer_ended(&p, FAULT_SOON));
        FAULT_STAT(req.id, "rx_drops.malformed", 1);
        FAULT_STAT(req.id, "dialers.0.proto", 1);
        FAULT_STAT(req.id, "pipes", 0);
        FAULT_AT_REST(req);
        fault_peer_close(&p);
        (void)sp_close(req);
    }
}

static void pair1_closes_on_a_bad_hop_count_and_drops_too_many(void **state)
{
    static const uint32_t bad[] = {0x100, 0x80000001, UINT32_MAX};
    char url[FAULT_URL];
    sp_socket s = fault_listen("pair1", *state, url);
    const uint32_t limit = 8;
    const uint32_t over = 9;
    struct fault_peer p;
    char buf[8];

    for (size_t i = 0; i < 4; i++) {
        assert_true(fault_peer_join(&p, url, RAWSP_PAIR1));
        assert_true(fault_peer_send(&p, "abc", i));
        expect_closed(s, &p, (long long)i + 1);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_true(fault_peer_join(&p, url, RAWSP_PAIR1));
        assert_true(fault_peer_words(&p, &bad[i], 1, "bad"));
        expect_closed(s, &p, (long long)i + 5);
    }
    assert_true(fault_peer_join(&p, url, RAWSP_PAIR1));
    assert_true(fault_peer_words(&p, &over, 1, "far"));
    FAULT_STAT(s.id, "rx_drops.ttl", 1);
    assert_true(fault_peer_words(&p, &limit, 1, "ok"));
    assert_int_equal(sp_recv(s, buf, sizeof(buf), 0), 2);
    FAULT_STAT(s.id, "pipes", 1);
    FAULT_AT_REST(s);
    fault_peer_close(&p);
}

static void raw_rep_drops_answers_to_nobody(void **state)
{
    char url[FAULT_URL];
    sp_socket rep = {0};
    sp_msg *m;

    FAULT_OK(sp_open_raw(&rep, "rep"));
    FAULT_OK(sp_set_int(rep.id, "linger", 0));
    fault_place(*state, url);
    FAULT_OK(sp_listen(rep, url, NULL));
    FAULT_OK(sp_msg_new(&m, 4)); // No header at all.
    FAULT_OK(sp_sendmsg(rep, m, 0));
    FAULT_STAT(rep.id, "tx_drops.malformed", 1);
    FAULT_OK(sp_msg_new(&m, 4));
    FAULT_OK(sp_msg_header_append(m, "\0\0\0\1\x80\0\0\1", 8)); // A pipe that is not there.
    FAULT_OK(sp_sendmsg(rep, m, 0));
    FAULT_STAT(rep.id, "tx_drops.peer_gone", 1);
    FAULT_AT_REST(rep);
}

static void second_pair_peer_is_refused_and_counted(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_listen("pair", *state, url);
    struct fault_peer first;
    struct fault_peer second;
    char buf[8];

    assert_true(fault_peer_join(&first, url, RAWSP_PAIR));
    FAULT_STAT(s.id, "pipes", 1);
    assert_true(fault_peer_join(&second, url, RAWSP_PAIR));
    (void)fault_peer_send(&second, "hi", 2); // It may be closed by now.
    assert_true(fault_peer_ended(&second, FAULT_SOON));
    FAULT_STAT(s.id, "reject", 1);
    FAULT_STAT(s.id, "pipes", 1);
    assert_true(fault_peer_send(&first, "me", 2));
    assert_int_equal(sp_recv(s, buf, sizeof(buf), 0), 2);
    assert_memory_equal(buf, "me", 2);
    FAULT_AT_REST(s);
    fault_peer_close(&first);
    fault_peer_close(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAULT_BOTH(rep_closes_a_pipe_whose_request_has_no_id),
        FAULT_BOTH(rep_drops_requests_that_made_too_many_hops),
        FAULT_BOTH(req_drops_answers_with_unknown_ids),
        FAULT_BOTH(req_drops_the_answer_to_a_question_that_was_replaced),
        FAULT_BOTH(req_closes_a_pipe_whose_answer_has_no_id),
        FAULT_BOTH(pair1_closes_on_a_bad_hop_count_and_drops_too_many),
        FAULT_BOTH(raw_rep_drops_answers_to_nobody),
        FAULT_BOTH(second_pair_peer_is_refused_and_counted),
    };

    return cmocka_run_group_tests_name("header", tests, NULL, NULL);
}
