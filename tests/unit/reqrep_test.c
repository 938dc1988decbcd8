/* SPDX-License-Identifier: MIT */
/// REQ and REP: one answer to one question, resending, stale answers, headers of raw sockets, peers
/// made by hand.
#include "check.h"
#include "rawsp.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ID_BIT 0x80000000U

static sp_socket req;
static sp_socket rep;

static int start(void **state)
{
    (void)state;
    check_init(2);
    return 0;
}

static int couple(void **state)
{
    (void)start(state);
    check_couple("inproc", "rep", "req", &rep, &req);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    check_fini();
    return 0;
}

static void rest(void)
{
    check_rest(req);
    check_rest(rep);
}

static uint32_t word(const void *at)
{
    const unsigned char *p = at;

    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_word(unsigned char *p, uint32_t v)
{
    p[0] = (unsigned char)(v >> 24);
    p[1] = (unsigned char)(v >> 16);
    p[2] = (unsigned char)(v >> 8);
    p[3] = (unsigned char)v;
}

static void question_gets_its_answer(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        char q[16];
        char a[16];

        (void)snprintf(q, sizeof(q), "q%d", i);
        (void)snprintf(a, sizeof(a), "a%d", i);
        check_send(req, q);
        check_recv(rep, q);
        check_send(rep, a);
        check_recv(req, a);
    }
    rest();
    assert_int_equal(check_stat(req.id, "tx_msgs"), 1000);
    assert_int_equal(check_stat(req.id, "tx_copies"), 0);
    assert_int_equal(check_stat(req.id, "rx_delivered"), 1000);
    assert_int_equal(check_stat(rep.id, "tx_msgs"), 1000);
}

static void calls_out_of_turn_are_estate(void **state)
{
    char buf[8];

    (void)state;
    check_detail(SP_ESTATE, "receive: \"req\" has no question under way (send one first)",
                 (int)sp_recv(req, buf, sizeof(buf), 0));
    check_rc(SP_ESTATE, sp_recv(req, buf, sizeof(buf), SP_NONBLOCK));
    check_detail(SP_ESTATE, "send: \"rep\" has no request to answer (receive one first)",
                 sp_send(rep, "x", 1, 0));
    check_send(req, "q");
    check_recv(rep, "q");
    check_send(rep, "a");
    check_rc(SP_ESTATE, sp_send(rep, "b", 1, SP_NONBLOCK));
    check_recv(req, "a");
    check_rc(SP_ESTATE, sp_recv(req, buf, sizeof(buf), 0));
    rest();
}

static void req_without_a_peer(void **state)
{
    sp_socket s = check_open("req");

    (void)state;
    check_rc(SP_ENOPEER, sp_send(s, "q", 1, SP_NONBLOCK));
    check_ok(sp_set_int(s.id, "send-timeout", 20));
    check_rc(SP_ETIMEDOUT, sp_send(s, "q", 1, 0));
    check_rc(SP_ESTATE, sp_recv(s, NULL, 0, SP_NONBLOCK));
    check_rest(s);
}

static void recv_timeout_leaves_the_question_open(void **state)
{
    char buf[8];

    (void)state;
    check_send(req, "q");
    check_ok(sp_set_int(req.id, "recv-timeout", 20));
    check_rc(SP_ETIMEDOUT, sp_recv(req, buf, sizeof(buf), 0));
    check_rc(SP_EAGAIN, sp_recv(req, buf, sizeof(buf), SP_NONBLOCK));
    check_recv(rep, "q");
    check_send(rep, "a");
    check_ok(sp_set_int(req.id, "recv-timeout", CHECK_SOON));
    check_recv(req, "a");
    rest();
}

static void second_question_cancels_the_first(void **state)
{
    char buf[8];

    (void)state;
    check_send(req, "q1");
    check_recv(rep, "q1");
    check_send(req, "q2");
    check_send(rep, "a1"); // Stale.
    check_stat_is(req.id, "rx_drops.stale", 1);
    check_recv(rep, "q2");
    check_rc(SP_EAGAIN, sp_recv(req, buf, sizeof(buf), SP_NONBLOCK));
    check_send(rep, "a2");
    check_recv(req, "a2");
    rest();
}

static void answer_that_was_not_received_is_stale_after_a_new_question(void **state)
{
    (void)state;
    check_send(req, "q1");
    check_recv(rep, "q1");
    check_send(rep, "a1");
    check_stat_is(req.id, "rx_queued", 1);
    check_send(req, "q2");
    check_recv(rep, "q2");
    check_send(rep, "a2");
    check_recv(req, "a2");
    check_stat_is(req.id, "rx_drops.stale", 1);
    rest();
}

static long receive(void *arg)
{
    char buf[16];

    (void)arg;
    return sp_recv(req, buf, sizeof(buf), 0);
}

static void blocked_receiver_gets_the_answer_to_the_newer_question(void **state)
{
    struct check_call c;

    (void)state;
    check_send(req, "q1");
    check_call_start(&c, receive, NULL);
    check_recv(rep, "q1");
    check_send(req, "q2");
    check_send(rep, "a1");
    check_recv(rep, "q2");
    check_send(rep, "answer");
    check_rc(6, check_call_join(&c, CHECK_SOON));
    rest();
}

static long use_rep(void *arg)
{
    atomic_bool *end = arg;
    long n = 0;

    while (!atomic_load(end)) {
        char buf[16];
        ssize_t len = sp_recv(rep, buf, sizeof(buf), SP_NONBLOCK);
        int rc = sp_send(rep, buf, len > 0 ? (size_t)len : 1, 0);

        if ((len < 0 && len != SP_EAGAIN) || (rc != SP_OK && rc != SP_ESTATE)) {
            return -1;
        }
        n++;
    }
    return n;
}

static void rep_of_several_threads_gives_estate_and_does_not_crash(void **state)
{
    struct check_call c[4];
    atomic_bool end = false;
    int answers = 0;

    (void)state;
    check_ok(sp_set_int(req.id, "recv-timeout", 50));
    for (int i = 0; i < 4; i++) {
        check_call_start(&c[i], use_rep, &end);
    }
    for (int i = 0; i < 2000; i++) {
        char buf[16];

        check_ok(sp_send(req, &i, sizeof(i), 0));
        answers += sp_recv(req, buf, sizeof(buf), 0) > 0;
    }
    atomic_store(&end, true);
    for (int i = 0; i < 4; i++) {
        assert_true(check_call_join(&c[i], CHECK_SOON) >= 0);
    }
    assert_true(answers > 0);
    rest();
}

/* ------------------------------------------------------------------ Resending */

static void resend_after_its_time_keeps_the_id(void **state)
{
    sp_socket raw = {0};
    sp_msg *m[2] = {NULL, NULL};

    (void)state;
    req = check_open("req");
    check_ok(sp_open_raw(&raw, "rep"));
    check_ok(sp_set_int(raw.id, "recv-timeout", CHECK_SOON));
    check_ok(sp_set_int(req.id, "req:resend-time", 20));
    check_ok(sp_set_int(req.id, "req:resend-tick", 5));
    check_ok(sp_listen(raw, "inproc://resend", NULL));
    check_ok(sp_dial(req, "inproc://resend", NULL, 0));
    check_send(req, "q");
    for (int i = 0; i < 2; i++) {
        check_ok(sp_recvmsg(raw, &m[i], 0));
        assert_int_equal(sp_msg_header_len(m[i]), 8);
        assert_int_equal(sp_msg_len(m[i]), 1);
    }
    assert_memory_equal(sp_msg_header(m[0]), sp_msg_header(m[1]), 8);
    assert_true((word((char *)sp_msg_header(m[0]) + 4) & ID_BIT) != 0);
    assert_true(word(sp_msg_header(m[0])) == sp_msg_peer(m[0]));
    check_ok(sp_sendmsg(raw, m[0], 0));
    check_recv(req, "q");
    check_ok(sp_sendmsg(raw, m[1], 0)); // The second answer is stale.
    check_until(check_stat(req.id, "rx_drops.stale") > 0);
    assert_true(check_stat(req.id, "tx_copies") >= 1);
    // Answered: it is not sent again.
    {
        int64_t copies = check_stat(req.id, "tx_copies");

        for (int i = 0; i < 60; i++) {
            check_pause();
        }
        assert_int_equal(check_stat(req.id, "tx_copies"), copies);
    }
    check_rest(req);
    check_rest(raw);
}

static void resend_off_stays_off(void **state)
{
    char buf[8];

    (void)state;
    check_ok(sp_set_int(req.id, "req:resend-time", -1));
    check_ok(sp_set_int(req.id, "req:resend-tick", 1));
    check_send(req, "q");
    check_recv(rep, "q");
    check_ok(sp_set_int(rep.id, "recv-timeout", 100));
    check_rc(SP_ETIMEDOUT, sp_recv(rep, buf, sizeof(buf), 0));
    assert_int_equal(check_stat(req.id, "tx_copies"), 0);
    check_send(rep, "a");
    check_recv(req, "a");
}

static void resend_when_the_peer_goes_away(void **state)
{
    sp_socket second = check_open("rep");

    (void)state;
    check_ok(sp_set_int(req.id, "req:resend-tick", 3600000));
    check_ok(sp_listen(second, "inproc://second", NULL));
    check_send(req, "q");
    check_recv(rep, "q");
    check_ok(sp_dial(req, "inproc://second", NULL, 0));
    check_pipes(req, 2);
    check_ok(sp_close(rep));
    check_recv(second, "q");
    check_send(second, "a");
    check_recv(req, "a");
    assert_int_equal(check_stat(req.id, "tx_copies"), 1);
    check_rest(req);
    check_rest(second);
}

/// Not only at the next tick.
static void req_resends_at_once_to_a_new_peer(void **state)
{
    sp_socket second = check_open("rep");

    (void)state;
    check_ok(sp_set_int(req.id, "req:resend-tick", 3600000));
    check_send(req, "q");
    check_recv(rep, "q");
    check_ok(sp_close(rep));
    check_pipes(req, 0);
    check_ok(sp_listen(second, "inproc://new-peer", NULL));
    check_ok(sp_dial(req, "inproc://new-peer", NULL, 0));
    check_recv(second, "q");
    check_send(second, "a");
    check_recv(req, "a");
    check_rest(req);
}

static void resend_off_and_the_peer_lost_is_econnreset(void **state)
{
    char buf[8];
    struct check_call c;

    (void)state;
    check_ok(sp_set_int(req.id, "req:resend-time", -1));
    check_send(req, "q");
    check_recv(rep, "q");
    check_call_start(&c, receive, NULL);
    check_ok(sp_close(rep));
    check_rc(-ECONNRESET, check_call_join(&c, CHECK_SOON));
    assert_string_equal(c.detail, "receive: the question is over: Connection reset by peer");
    check_rc(SP_ESTATE, sp_recv(req, buf, sizeof(buf), 0)); // The question is over.
    check_rest(req);
}

static void resend_off_and_the_peer_lost_before_the_receive(void **state)
{
    char buf[8];

    (void)state;
    check_ok(sp_set_int(req.id, "req:resend-time", -1));
    check_send(req, "q");
    check_recv(rep, "q");
    check_ok(sp_close(rep));
    check_pipes(req, 0);
    check_rc(-ECONNRESET, sp_recv(req, buf, sizeof(buf), 0));
    // The failure of an old question does not answer a new one.
    rep = check_open("rep");
    check_ok(sp_listen(rep, "inproc://again", NULL));
    check_ok(sp_dial(req, "inproc://again", NULL, 0));
    check_send(req, "q2");
    check_recv(rep, "q2");
    check_send(rep, "a2");
    check_recv(req, "a2");
    rest();
}

/// Several who wait for one answer are all told that there will be none.
static void resend_off_and_the_peer_lost_is_told_to_all_receivers(void **state)
{
    struct check_call c[3];
    sp_op *op = NULL;
    char buf[8];

    (void)state;
    check_ok(sp_set_int(req.id, "req:resend-time", -1));
    check_send(req, "q");
    check_recv(rep, "q");
    for (int i = 0; i < 3; i++) {
        check_call_start(&c[i], receive, NULL);
    }
    check_ok(sp_op_new(&op, NULL, NULL));
    check_ok(sp_op_recv(op, req.id));
    for (int i = 0; i < 20; i++) {
        check_pause(); // So that most of them wait.
    }
    check_ok(sp_close(rep));
    check_rc(-ECONNRESET, sp_op_wait(op));
    for (int i = 0; i < 3; i++) {
        long rc = check_call_join(&c[i], CHECK_SOON);

        assert_true(rc == -ECONNRESET || rc == SP_ESTATE); // It came after the end.
    }
    check_rc(SP_ESTATE, sp_recv(req, buf, sizeof(buf), 0));
    sp_op_free(op);
    check_rest(req);
}

/// Each context's request moves, once, to the peers that are left.
static void requests_of_many_contexts_move_when_their_peer_is_lost(void **state)
{
    sp_socket second = check_open("rep");
    sp_ctx c[200];
    int64_t value = 0;

    (void)state;
    check_ok(sp_set_int(req.id, "req:resend-time", 3600000));
    check_ok(sp_set_int(second.id, "recv-buffer", 4));
    check_ok(sp_set_int(second.id, "send-buffer", 4));
    for (int i = 0; i < 200; i++) {
        sp_msg *m = NULL;

        check_ok(sp_ctx_open(&c[i], req));
        check_ok(sp_get_int(c[i].id, "req:resend-time", &value));
        assert_int_equal(value, 3600000); // The socket's, when it was opened.
        check_ok(sp_msg_new(&m, 0));
        check_ok(sp_msg_append(m, &i, sizeof(i)));
        check_ok(sp_ctx_sendmsg(c[i], m, 0));
    }
    check_ok(sp_listen(second, "inproc://many-move", NULL));
    check_ok(sp_dial(req, "inproc://many-move", NULL, 0));
    check_pipes(req, 2);
    check_ok(sp_close(rep));
    for (int i = 0; i < 200; i++) {
        int n = -1;

        check_rc(sizeof(n), sp_recv(second, &n, sizeof(n), 0));
        check_ok(sp_send(second, &n, sizeof(n), 0));
    }
    for (int i = 0; i < 200; i++) {
        sp_msg *m = NULL;

        check_ok(sp_ctx_recvmsg(c[i], &m, 0));
        assert_int_equal(sp_msg_len(m), sizeof(i));
        assert_memory_equal(sp_msg_view(m), &i, sizeof(i));
        sp_msg_release(m);
        check_ok(sp_ctx_close(c[i]));
    }
    assert_int_equal(check_stat(req.id, "tx_copies"), 200);
    assert_int_equal(check_stat(second.id, "rx_delivered"), 200);
    check_rest(req);
    check_rest(second);
}

static void failure_of_a_cancelled_question_is_not_seen(void **state)
{
    sp_socket second = check_open("rep");

    (void)state;
    check_ok(sp_set_int(req.id, "req:resend-time", -1));
    check_send(req, "q1");
    check_recv(rep, "q1");
    check_ok(sp_listen(second, "inproc://not-seen", NULL));
    check_ok(sp_close(rep)); // The failure waits to be received.
    check_pipes(req, 0);
    check_ok(sp_dial(req, "inproc://not-seen", NULL, 0));
    check_send(req, "q2");
    check_recv(second, "q2");
    check_send(second, "a2");
    check_recv(req, "a2");
    check_rest(req);
}

static void servers_have_their_turn(void **state)
{
    sp_socket s = check_open("req");
    sp_socket r[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        char url[32];

        (void)snprintf(url, sizeof(url), "inproc://turn-%d", i);
        r[i] = check_open("rep");
        check_ok(sp_listen(r[i], url, NULL));
        check_ok(sp_dial(s, url, NULL, 0));
    }
    check_pipes(s, 3);
    for (int i = 0; i < 30; i++) {
        bool asked = false;

        check_send(s, "q");
        while (!asked) {
            for (int k = 0; k < 3; k++) {
                char buf[8];

                if (sp_recv(r[k], buf, sizeof(buf), SP_NONBLOCK) == 1) {
                    check_send(r[k], "a");
                    asked = true;
                }
            }
            if (!asked) {
                check_pause();
            }
        }
        check_recv(s, "a");
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(check_stat(r[i].id, "rx_delivered"), 10);
        check_rest(r[i]);
    }
}

/// A server of a later priority is asked only while those before it have no room.
static void servers_are_asked_by_priority(void **state)
{
    sp_socket s = check_open("req");
    sp_socket r[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *url = i == 0 ? "inproc://first-priority" : "inproc://second-priority";
        sp_dialer d = {0};

        r[i] = check_open("rep");
        check_ok(sp_listen(r[i], url, NULL));
        check_ok(sp_dialer_new(&d, s, url));
        check_ok(sp_set_int(d.id, "send-priority", i == 0 ? 2 : 7));
        check_ok(sp_dialer_start(d, 0));
    }
    check_pipes(s, 2);
    for (int i = 0; i < 10; i++) {
        check_send(s, "q");
        check_recv(r[0], "q");
        check_send(r[0], "a");
        check_recv(s, "a");
    }
    check_send(s, "q");
    check_recv(r[0], "q");
    check_ok(sp_close(r[0]));
    check_recv(r[1], "q");
    check_send(r[1], "a");
    check_recv(s, "a");
    check_rest(s);
    check_rest(r[1]);
}

static void answer_to_a_peer_that_is_gone_is_counted(void **state)
{
    (void)state;
    check_send(req, "q");
    check_recv(rep, "q");
    check_ok(sp_close(req));
    check_pipes(rep, 0);
    check_send(rep, "a");
    check_stat_is(rep.id, "tx_drops.peer_gone", 1);
    check_rest(rep);
}

static void many_clients_get_their_own_answers(void **state)
{
    sp_socket c[20];

    (void)state;
    rep = check_open("rep");
    check_ok(sp_listen(rep, "inproc://many", NULL));
    for (int i = 0; i < 20; i++) {
        c[i] = check_open("req");
        check_ok(sp_dial(c[i], "inproc://many", NULL, 0));
    }
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 20; i++) {
            check_ok(sp_send(c[i], &i, sizeof(i), 0));
        }
        for (int i = 0; i < 20; i++) {
            int who = -1;

            check_rc(4, sp_recv(rep, &who, sizeof(who), 0));
            check_ok(sp_send(rep, &who, sizeof(who), 0));
        }
        for (int i = 0; i < 20; i++) {
            int who = -1;

            check_rc(4, sp_recv(c[i], &who, sizeof(who), 0));
            assert_int_equal(who, i);
        }
    }
    check_rest(rep);
}

/// A client that asks and does not read its answers is not read from for ever; others are served.
static void client_that_does_not_read_is_bounded(void **state)
{
    sp_socket raw = {0};
    sp_socket good = check_open("req");
    int sent = 0;

    (void)state;
    rep = check_open("rep");
    check_ok(sp_open_raw(&raw, "req"));
    check_ok(sp_listen(rep, "inproc://not-reading", NULL));
    check_ok(sp_dial(raw, "inproc://not-reading", NULL, 0));
    check_ok(sp_dial(good, "inproc://not-reading", NULL, 0));
    check_ok(sp_set_int(raw.id, "recv-buffer", 1));
    check_pipes(rep, 2);
    for (int quiet = 0; quiet < 100;) {
        unsigned char id[4];
        char buf[8];
        sp_msg *m = NULL;
        int rc;

        put_word(id, ID_BIT | (uint32_t)sent);
        check_ok(sp_msg_new(&m, 1));
        check_ok(sp_msg_header_append(m, id, 4));
        rc = sp_sendmsg(raw, m, SP_NONBLOCK);
        if (rc < 0) {
            sp_msg_release(m);
        } else {
            sent++;
        }
        quiet = rc == SP_OK ? 0 : quiet + 1;
        while (sp_recv(rep, buf, sizeof(buf), SP_NONBLOCK) > 0) {
            check_ok(sp_send(rep, "a", 1, 0));
            quiet = 0;
        }
        if (quiet > 0) {
            check_pause();
        }
    }
    assert_in_range(sent, 200, 3000);
    check_send(good, "q");
    check_recv(rep, "q");
    check_send(rep, "a");
    check_recv(good, "a");
    for (int i = 0; i < sent;) {
        char buf[8];

        check_rc(1, sp_recv(raw, buf, sizeof(buf), 0));
        i++;
        while (sp_recv(rep, buf, sizeof(buf), SP_NONBLOCK) > 0) {
            check_ok(sp_send(rep, "a", 1, 0));
        }
    }
    check_rest(rep);
    check_rest(raw);
}

/* ------------------------------------------------------------------ Raw */

static sp_msg *raw_msg(const uint32_t *words, size_t n, const char *body)
{
    sp_msg *m = NULL;

    check_ok(sp_msg_new(&m, 0));
    for (size_t i = 0; i < n; i++) {
        unsigned char w[4];

        put_word(w, words[i]);
        check_ok(sp_msg_header_append(m, w, 4));
    }
    check_ok(sp_msg_append(m, body, strlen(body)));
    return m;
}

static void raw_sockets_pass_the_backtrace(void **state)
{
    static const char *const transports[] = {"inproc", "tcp"};

    (void)state;
    for (int t = 0; t < 2; t++) {
        sp_socket rreq = {0};
        sp_socket rrep = {0};
        const uint32_t words[] = {7, 8, 9, ID_BIT | 5};
        unsigned char want[16];
        char url[256];
        sp_msg *m = NULL;

        check_ok(sp_open_raw(&rreq, "req"));
        check_ok(sp_open_raw(&rrep, "rep"));
        check_ok(sp_set_int(rreq.id, "recv-timeout", CHECK_SOON));
        check_ok(sp_set_int(rrep.id, "recv-timeout", CHECK_SOON));
        check_listen(rrep, transports[t], url, NULL);
        check_ok(sp_dial(rreq, url, NULL, 0));
        check_pipes(rrep, 1);
        for (int i = 0; i < 4; i++) {
            put_word(want + 4 * i, words[i]);
        }
        check_ok(sp_sendmsg(rreq, raw_msg(words, 4, "body"), 0));
        check_ok(sp_recvmsg(rrep, &m, 0));
        assert_int_equal(sp_msg_header_len(m), 20);
        assert_true(word(sp_msg_header(m)) == sp_msg_peer(m));
        assert_memory_equal((char *)sp_msg_header(m) + 4, want, 16);
        assert_int_equal(sp_msg_len(m), 4);
        check_ok(sp_sendmsg(rrep, m, 0));
        check_ok(sp_recvmsg(rreq, &m, 0));
        assert_int_equal(sp_msg_header_len(m), 16);
        assert_memory_equal(sp_msg_header(m), want, 16);
        assert_memory_equal(sp_msg_view(m), "body", 4);
        sp_msg_release(m);
        // No header, none of a pipe, an unknown pipe: dropped, counted.
        check_ok(sp_sendmsg(rrep, raw_msg(words, 0, "x"), 0));
        check_ok(sp_sendmsg(rrep, raw_msg(words + 3, 1, "x"), 0));
        check_stat_is(rrep.id, "tx_drops.malformed", 2);
        check_ok(sp_sendmsg(rrep, raw_msg(words, 4, "x"), 0));
        check_stat_is(rrep.id, "tx_drops.peer_gone", 1);
        check_rest(rreq);
        check_rest(rrep);
    }
}

/// A header that leaves no room for the pipe's id.
static void raw_rep_drops_a_full_header(void **state)
{
    sp_socket rreq = {0};
    sp_socket rrep = {0};
    uint32_t words[16];
    sp_msg *m = NULL;

    (void)state;
    for (int i = 0; i < 16; i++) {
        words[i] = ID_BIT | (uint32_t)i;
    }
    check_ok(sp_open_raw(&rreq, "req"));
    check_ok(sp_open_raw(&rrep, "rep"));
    check_ok(sp_listen(rrep, "inproc://full-header", NULL));
    check_ok(sp_dial(rreq, "inproc://full-header", NULL, 0));
    check_ok(sp_sendmsg(rreq, raw_msg(words, 16, "q"), 0));
    check_stat_is(rrep.id, "rx_drops.ttl", 1);
    check_ok(sp_sendmsg(rreq, raw_msg(words, 15, "q"), 0));
    check_ok(sp_recvmsg(rrep, &m, 0));
    assert_int_equal(sp_msg_header_len(m), 8);
    assert_int_equal(sp_msg_len(m), 14 * 4 + 1); // What follows the id is body.
    sp_msg_release(m);
    check_rest(rreq);
    check_rest(rrep);
}

static void ttl_max_drops_and_counts(void **state)
{
    uint32_t words[15];
    sp_socket raw = {0};
    int dropped = 0;

    (void)state;
    for (int i = 0; i < 15; i++) {
        words[i] = 100 + (uint32_t)i;
    }
    rep = check_open("rep");
    check_ok(sp_open_raw(&raw, "req"));
    check_ok(sp_set_int(raw.id, "recv-timeout", CHECK_SOON));
    check_ok(sp_listen(rep, "inproc://ttl", NULL));
    check_ok(sp_dial(raw, "inproc://ttl", NULL, 0));
    for (int ttl = 1; ttl <= 15; ttl++) {
        check_ok(sp_set_int(rep.id, "ttl-max", ttl));
        for (int n = 1; n <= 15; n++) {
            uint32_t keep = words[n - 1];
            sp_msg *m;

            words[n - 1] |= ID_BIT; // So many words with the id.
            m = raw_msg(words, (size_t)n, "q");
            words[n - 1] = keep;
            check_ok(sp_sendmsg(raw, m, 0));
            if (n > ttl) {
                check_stat_is(rep.id, "rx_drops.ttl", ++dropped);
                continue;
            }
            check_recv(rep, "q");
            check_send(rep, "a");
            check_ok(sp_recvmsg(raw, &m, 0));
            assert_int_equal(sp_msg_header_len(m), 4 * n);
            sp_msg_release(m);
        }
    }
    check_pipes(rep, 1);
    check_rest(rep);
}

/* ------------------------------------------------------------------ Peers made by hand */

static void rep_closes_a_peer_without_backtrace(void **state)
{
    static const struct {
        unsigned char bytes[12];
        size_t n;
    } bad[] = {
        {{0}, 0},
        {{0x80, 0, 0}, 3},
        {{0, 0, 0, 1}, 4},
        {{0, 0, 0, 1, 0, 0, 0, 2, 0x80}, 9},
    };
    char url[256];

    (void)state;
    rep = check_open("rep");
    check_listen(rep, "tcp", url, NULL);
    for (int i = 0; i < 4; i++) {
        int fd = check_raw_dial(url, RAWSP_REQ, RAWSP_REP);

        assert_int_equal(rawsp_send(fd, NULL, 0, bad[i].bytes, bad[i].n), 0);
        assert_true(check_raw_closed(fd));
        check_stat_is(rep.id, "rx_drops.malformed", i + 1);
        check_stat_is(rep.id, "listeners[0].proto", i + 1);
        (void)close(fd);
    }
    check_pipes(rep, 0);
    check_rest(rep);
}

static void rep_answers_with_the_same_words(void **state)
{
    static const unsigned char ask[] = {0, 0, 0, 1, 0x7F, 0xFF, 0xFF, 0xFF, 0x80, 0, 0, 0, 'q'};
    unsigned char got[64];
    char url[256];
    int fd;

    (void)state;
    rep = check_open("rep");
    check_listen(rep, "tcp", url, NULL);
    fd = check_raw_dial(url, RAWSP_REQ, RAWSP_REP);
    assert_int_equal(rawsp_send(fd, ask, 12, "q", 1), 0);
    check_recv(rep, "q");
    check_send(rep, "answer");
    assert_int_equal(rawsp_recv(fd, got, sizeof(got), CHECK_SOON), 18);
    assert_memory_equal(got, ask, 12);
    assert_memory_equal(got + 12, "answer", 6);
    // A question without a body is one.
    assert_int_equal(rawsp_send(fd, ask + 8, 4, NULL, 0), 0);
    check_rc(0, sp_recv(rep, got, sizeof(got), 0));
    check_ok(sp_send(rep, NULL, 0, 0));
    assert_int_equal(rawsp_recv(fd, got, sizeof(got), CHECK_SOON), 4);
    check_rest(rep);
    (void)close(fd);
}

static void req_drops_stale_and_foreign_answers(void **state)
{
    unsigned char ask[64];
    unsigned char id[4];
    char url[64];
    int port = 0;
    int listener = rawsp_listen(&port);
    uint16_t peer = 0;
    char buf[8];
    int fd;

    (void)state;
    req = check_open("req");
    (void)snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    check_ok(sp_dial(req, url, NULL, SP_NONBLOCK));
    fd = rawsp_accept(listener, RAWSP_REP, &peer, CHECK_SOON);
    assert_true(fd >= 0);
    assert_int_equal(peer, RAWSP_REQ);
    check_send(req, "q");
    assert_int_equal(rawsp_recv(fd, ask, sizeof(ask), CHECK_SOON), 5);
    assert_true((ask[0] & 0x80) != 0);
    assert_int_equal(ask[4], 'q');
    put_word(id, word(ask) + 1);
    assert_int_equal(rawsp_send(fd, id, 4, "foreign", 7), 0);
    put_word(id, word(ask) & ~ID_BIT);
    assert_int_equal(rawsp_send(fd, id, 4, "without the bit", 15), 0);
    check_stat_is(req.id, "rx_drops.stale", 2);
    assert_int_equal(rawsp_send(fd, ask, 4, "right", 5), 0);
    assert_int_equal(rawsp_send(fd, ask, 4, "again", 5), 0);
    check_recv(req, "right");
    check_stat_is(req.id, "rx_drops.stale", 3);
    check_rc(SP_ESTATE, sp_recv(req, buf, sizeof(buf), SP_NONBLOCK));
    check_rest(req);
    assert_int_equal(rawsp_send(fd, NULL, 0, "abc", 3), 0); // Too short for an id.
    assert_true(check_raw_closed(fd));
    check_stat_is(req.id, "rx_drops.malformed", 1);
    check_stat_is(req.id, "dialers[0].proto", 1);
    check_rest(req);
    (void)close(fd);
    (void)close(listener);
}

static void req_uses_a_new_id_for_each_question(void **state)
{
    uint32_t ids[50];
    char url[64];
    int port = 0;
    int listener = rawsp_listen(&port);
    int fd;

    (void)state;
    req = check_open("req");
    (void)snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    check_ok(sp_dial(req, url, NULL, SP_NONBLOCK));
    fd = rawsp_accept(listener, RAWSP_REP, NULL, CHECK_SOON);
    assert_true(fd >= 0);
    for (int i = 0; i < 50; i++) {
        unsigned char ask[16];

        check_send(req, "q");
        assert_int_equal(rawsp_recv(fd, ask, sizeof(ask), CHECK_SOON), 5);
        ids[i] = word(ask);
        assert_true((ids[i] & ID_BIT) != 0);
        for (int k = 0; k < i; k++) {
            assert_true(ids[k] != ids[i]);
        }
    }
    check_rest(req);
    assert_int_equal(check_stat(req.id, "tx_msgs"), 50);
    (void)close(fd);
    (void)close(listener);
}

/// Two sockets do not begin with the same id.
static void req_ids_begin_at_random(void **state)
{
    uint32_t first[8];

    (void)state;
    for (int i = 0; i < 8; i++) {
        sp_socket raw = {0};
        sp_msg *m = NULL;

        check_ok(sp_open_raw(&raw, "rep"));
        check_ok(sp_set_int(raw.id, "recv-timeout", CHECK_SOON));
        req = check_open("req");
        check_ok(sp_listen(raw, "inproc://random", NULL));
        check_ok(sp_dial(req, "inproc://random", NULL, 0));
        check_send(req, "q");
        check_ok(sp_recvmsg(raw, &m, 0));
        first[i] = word((char *)sp_msg_header(m) + 4);
        sp_msg_release(m);
        for (int k = 0; k < i; k++) {
            uint32_t apart = first[i] - first[k];

            assert_true(apart > 100 && apart < UINT32_MAX - 100);
        }
        check_ok(sp_close(raw));
        check_ok(sp_close(req));
    }
}

int main(void)
{
#define coupled(name) cmocka_unit_test_setup_teardown(name, couple, stop)
#define started(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        coupled(question_gets_its_answer),
        coupled(calls_out_of_turn_are_estate),
        started(req_without_a_peer),
        coupled(recv_timeout_leaves_the_question_open),
        coupled(second_question_cancels_the_first),
        coupled(answer_that_was_not_received_is_stale_after_a_new_question),
        coupled(blocked_receiver_gets_the_answer_to_the_newer_question),
        coupled(rep_of_several_threads_gives_estate_and_does_not_crash),
        started(resend_after_its_time_keeps_the_id),
        coupled(resend_off_stays_off),
        coupled(resend_when_the_peer_goes_away),
        coupled(req_resends_at_once_to_a_new_peer),
        coupled(resend_off_and_the_peer_lost_is_econnreset),
        coupled(resend_off_and_the_peer_lost_before_the_receive),
        coupled(resend_off_and_the_peer_lost_is_told_to_all_receivers),
        coupled(requests_of_many_contexts_move_when_their_peer_is_lost),
        coupled(failure_of_a_cancelled_question_is_not_seen),
        started(servers_have_their_turn),
        started(servers_are_asked_by_priority),
        coupled(answer_to_a_peer_that_is_gone_is_counted),
        started(many_clients_get_their_own_answers),
        started(client_that_does_not_read_is_bounded),
        started(raw_sockets_pass_the_backtrace),
        started(raw_rep_drops_a_full_header),
        started(ttl_max_drops_and_counts),
        started(rep_closes_a_peer_without_backtrace),
        started(rep_answers_with_the_same_words),
        started(req_drops_stale_and_foreign_answers),
        started(req_uses_a_new_id_for_each_question),
        started(req_ids_begin_at_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
