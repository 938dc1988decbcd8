/* SPDX-License-Identifier: MIT */
/// Calls that make no sense now, or at all: an answer without a question, several threads on one
/// REP, answers to dead peers, options of odd lengths and types.
#include "fault.h"
#include "fault_peer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ID 0x80000000U

/* ------------------------------------------------------------------ One REP, several threads */

#define ANSWERERS 4

struct answerer {
    pthread_t thread;
    sp_socket s;
    long long answered;
    long long refused; ///< SP_ESTATE
    int other;         ///< any other error
};

/// Receives and answers as fast as it can, as if it were alone.
static void *answer(void *arg)
{
    struct answerer *a = arg;

    for (;;) {
        char buf[16];
        ssize_t n = sp_recv(a->s, buf, sizeof(buf), 0);
        int rc;

        if (n == SP_ECLOSED) {
            return NULL;
        }
        rc = n < 0 ? (int)n : sp_send(a->s, buf, (size_t)n, 0);
        if (rc == 0) {
            a->answered++;
        } else if (rc == SP_ESTATE) {
            a->refused++;
        } else if (rc != SP_ECLOSED) {
            a->other = rc;
        }
    }
}

#define ASKERS 8

static void rep_in_several_threads_refuses_and_does_not_crash(void **state)
{
    char url[FAULT_URL];
    sp_socket rep = fault_listen("rep", *state, url);
    struct answerer a[ANSWERERS];
    struct fault_peer p[ASKERS];
    long long end = proc_now() + 1500;
    long long answered = 0;
    long long refused = 0;
    uint32_t id = ID;

    memset(a, 0, sizeof(a));
    FAULT_OK(sp_set_int(rep.id, "recv-timeout", -1));
    for (int i = 0; i < ASKERS; i++) {
        assert_true(fault_peer_join(&p[i], url, RAWSP_REQ));
    }
    for (int i = 0; i < ANSWERERS; i++) {
        a[i].s = rep;
        assert_int_equal(pthread_create(&a[i].thread, NULL, answer, &a[i]), 0);
    }
    while (proc_now() < end) {
        for (int i = 0; i < ASKERS; i++) {
            id++;
            assert_true(fault_peer_words(&p[i], &id, 1, "question"));
        }
        for (int i = 0; i < ASKERS; i++) {
            char buf[16];

            // One that is overwritten by another thread's has no answer.
            (void)fault_peer_recv(&p[i], buf, sizeof(buf), 2);
        }
    }
    FAULT_OK(sp_close(rep));
    for (int i = 0; i < ANSWERERS; i++) {
        assert_int_equal(pthread_join(a[i].thread, NULL), 0);
        assert_int_equal(a[i].other, 0);
        answered += a[i].answered;
        refused += a[i].refused;
    }
    assert_true(answered > 100);
    print_message("%lld answered, %lld refused\n", answered, refused);
    for (int i = 0; i < ASKERS; i++) {
        fault_peer_close(&p[i]);
    }
}

static void answers_need_a_question_each(void **state)
{
    char url[FAULT_URL];
    sp_socket rep = fault_listen("rep", *state, url);
    const uint32_t id = ID | 1;
    struct fault_peer p;
    char buf[8];

    assert_int_equal(sp_send(rep, "!", 1, 0), SP_ESTATE);
    assert_int_equal(sp_send(rep, "!", 1, SP_NONBLOCK), SP_ESTATE);
    assert_true(fault_peer_join(&p, url, RAWSP_REQ));
    assert_int_equal(sp_send(rep, "!", 1, 0), SP_ESTATE);
    assert_true(fault_peer_words(&p, &id, 1, "?"));
    assert_int_equal(sp_recv(rep, buf, sizeof(buf), 0), 1);
    FAULT_OK(sp_send(rep, "!", 1, 0));
    assert_int_equal(sp_send(rep, "!", 1, 0), SP_ESTATE); // Once is enough.
    assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), FAULT_SOON), 5);
    FAULT_STAT(rep.id, "tx_accepted", 1);
    FAULT_AT_REST(rep);
    fault_peer_close(&p);
}

static void answers_need_a_question_of_their_own(void **state)
{
    sp_socket req = fault_open("req");
    char buf[8];

    (void)state;
    assert_int_equal(sp_recv(req, buf, sizeof(buf), 0), SP_ESTATE);
    assert_int_equal(sp_recv(req, buf, sizeof(buf), SP_NONBLOCK), SP_ESTATE);
    assert_int_equal(sp_send(req, "?", 1, SP_NONBLOCK), SP_ENOPEER);
    assert_int_equal(sp_recv(req, buf, sizeof(buf), SP_NONBLOCK), SP_ESTATE);
    FAULT_AT_REST(req);
}

/* ------------------------------------------------------------------ Dead peers */

static void answer_to_a_dead_peer_is_counted(void **state)
{
    char url[FAULT_URL];
    sp_socket rep = fault_listen("rep", *state, url);
    const uint32_t id = ID | 1;
    struct fault_peer p;
    char buf[8];

    for (int i = 1; i <= 20; i++) {
        assert_true(fault_peer_join(&p, url, RAWSP_REQ));
        assert_true(fault_peer_words(&p, &id, 1, "?"));
        assert_int_equal(sp_recv(rep, buf, sizeof(buf), 0), 1);
        fault_peer_close(&p);
        FAULT_STAT(rep.id, "pipes", 0);
        FAULT_OK(sp_send(rep, "!", 1, 0));
        FAULT_STAT(rep.id, "tx_drops.peer_gone", i);
        FAULT_STAT(rep.id, "tx_accepted", i);
    }
    FAULT_STAT(rep.id, "tx_msgs", 0);
    FAULT_AT_REST(rep);
    assert_true(fault_peer_join(&p, url, RAWSP_REQ)); // The next one is served.
    assert_true(fault_peer_words(&p, &id, 1, "?"));
    assert_int_equal(sp_recv(rep, buf, sizeof(buf), 0), 1);
    FAULT_OK(sp_send(rep, "!", 1, 0));
    assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), FAULT_SOON), 5);
    fault_peer_close(&p);
}

/// Questions that were received, but not fetched, are still there when their peer is gone; those
/// whose peers die in great numbers are bounded, and counted.
static void questions_of_dead_peers_are_kept_or_counted(void **state)
{
    char url[FAULT_URL];
    sp_socket rep = fault_listen("rep", *state, url);
    const uint32_t id = ID | 1;
    long long got = 0;
    char buf[8];

    for (int i = 0; i < 300; i++) {
        struct fault_peer p;

        assert_true(fault_peer_join(&p, url, RAWSP_REQ));
        assert_true(fault_peer_words(&p, &id, 1, "?"));
        fault_peer_close(&p);
    }
    FAULT_STAT(rep.id, "pipes", 0);
    FAULT_STAT(rep.id, "rx_received", 300);
    FAULT_AT_REST(rep);
    while (sp_recv(rep, buf, sizeof(buf), SP_NONBLOCK) == 1) {
        got++;
    }
    assert_true(got >= 128);
    assert_int_equal(got + fault_stat(rep.id, "rx_drops.peer_gone"), 300);
    FAULT_AT_REST(rep);
}

/// A REQ that dialled a raw peer, with these resend settings.
static sp_socket ask(const char *url, int listener, int resend, struct fault_peer *p)
{
    sp_socket req = fault_open("req");
    char buf[8];

    FAULT_OK(sp_set_int(req.id, "reconnect-time-min", 10));
    FAULT_OK(sp_set_int(req.id, "reconnect-time-max", 10));
    FAULT_OK(sp_set_int(req.id, "req:resend-tick", 10));
    FAULT_OK(sp_set_int(req.id, "req:resend-time", resend));
    FAULT_OK(sp_dial(req, url, NULL, SP_NONBLOCK));
    assert_true(fault_peer_accept(p, listener, url, FAULT_SOON));
    assert_true(fault_peer_hello(p, RAWSP_REP));
    FAULT_OK(sp_send(req, "?", 1, 0));
    assert_int_equal(fault_peer_recv(p, buf, sizeof(buf), FAULT_SOON), 5);
    return req;
}

static void resend_off_stays_off(void **state)
{
    char url[FAULT_URL];
    struct fault_peer p;
    sp_socket req;
    char buf[8];
    int listener;

    fault_place(*state, url);
    listener = fault_peer_listen(url);
    // With it, a silent peer is asked again, soon and with the same id.
    req = ask(url, listener, 30, &p);
    assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), FAULT_SOON), 5);
    assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), FAULT_SOON), 5);
    assert_true(FAULT_WAIT(fault_stat(req.id, "tx_copies") >= 2, FAULT_SOON));
    FAULT_AT_REST(req);
    FAULT_OK(sp_close(req));
    fault_peer_close(&p);
    // Without it, not in ten times that time.
    req = ask(url, listener, -1, &p);
    assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), 300), -1);
    FAULT_STAT(req.id, "tx_copies", 0);
    FAULT_STAT(req.id, "tx_msgs", 1);
    // And when the peer goes: that is said, and the next one hears nothing of it.
    fault_peer_close(&p);
    assert_int_equal(sp_recv(req, buf, sizeof(buf), 0), -ECONNRESET);
    assert_true(fault_peer_accept(&p, listener, url, FAULT_SOON));
    assert_true(fault_peer_hello(&p, RAWSP_REP));
    FAULT_STAT(req.id, "pipes", 1);
    assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), 100), -1);
    FAULT_STAT(req.id, "tx_copies", 0);
    FAULT_OK(sp_send(req, "!", 1, 0)); // A new question is.
    assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), FAULT_SOON), 5);
    FAULT_AT_REST(req);
    fault_peer_close(&p);
    (void)close(listener);
}

static void question_goes_to_the_next_peer_when_its_peer_dies(void **state)
{
    char url[FAULT_URL];
    char first[8];
    char again[8];
    struct fault_peer p;
    sp_socket req;
    int listener;

    fault_place(*state, url);
    listener = fault_peer_listen(url);
    req = ask(url, listener, 60000, &p);
    for (int i = 0; i < 5; i++) {
        fault_peer_close(&p);
        assert_true(fault_peer_accept(&p, listener, url, FAULT_SOON));
        assert_true(fault_peer_hello(&p, RAWSP_REP));
        assert_int_equal(fault_peer_recv(&p, again, sizeof(again), FAULT_SOON), 5);
        if (i > 0) {
            assert_memory_equal(first, again, 5); // The same id.
        }
        memcpy(first, again, 5);
    }
    assert_true(fault_peer_send(&p, first, 4));
    assert_int_equal(sp_recv(req, again, sizeof(again), 0), 0);
    FAULT_AT_REST(req);
    fault_peer_close(&p);
    (void)close(listener);
}

/* ------------------------------------------------------------------ Options */

static void options_out_of_range_or_of_wrong_type_are_refused(void **state)
{
    static const struct {
        const char *name;
        int64_t low;
        int64_t high;
    } bad[] = {
        {"recv-timeout", -2, INT64_MAX},
        {"send-timeout", -2, INT64_MAX},
        {"recv-buffer", -1, 8193},
        {"send-buffer", -1, 8193},
        {"linger", -2, INT64_MAX},
        {"in-place", -1, 2},
        {"recv-size-max", -1, INT64_MIN},
        {"reconnect-time-min", -1, INT64_MAX},
        {"reconnect-time-max", -1, INT64_MAX},
        {"hello-timeout", -2, INT64_MAX},
        {"connect-timeout", -2, INT64_MAX},
        {"max-handshakes", 0, INT64_MAX},
        {"max-peers", -1, INT64_MAX},
        {"queue-bytes-max", 0, -1},
        {"req:resend-time", -2, INT64_MAX},
        {"req:resend-tick", 0, INT64_MAX},
    };
    sp_socket s = fault_open("req");
    char long_name[300];
    char buf[64];
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t before = 0;
        int64_t after = 1;

        FAULT_OK(sp_get_int(s.id, bad[i].name, &before));
        assert_int_equal(sp_set_int(s.id, bad[i].name, bad[i].low), SP_EINVAL);
        assert_int_equal(sp_set_int(s.id, bad[i].name, bad[i].high), SP_EINVAL);
        assert_non_null(strstr(sp_error_detail(), bad[i].name));
        assert_int_equal(sp_set_str(s.id, bad[i].name, "1"), SP_EINVAL);
        assert_int_equal(sp_set_bytes(s.id, bad[i].name, "1", 1), SP_EINVAL);
        FAULT_OK(sp_get_int(s.id, bad[i].name, &after));
        assert_int_equal(before, after);
    }
    memset(long_name, 'n', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    assert_int_equal(sp_set_str(s.id, "name", long_name), SP_EINVAL);
    assert_int_equal(sp_set_int(s.id, "name", 1), SP_EINVAL);
    assert_int_equal(sp_set_bytes(s.id, "name", "x", 1), SP_EINVAL);
    FAULT_OK(sp_set_str(s.id, "name", "short"));
    n = 3;
    assert_int_equal(sp_get_str(s.id, "name", buf, &n), SP_EMSGSIZE);
    assert_int_equal(n, 6);
    n = 0;
    assert_int_equal(sp_get_str(s.id, "name", NULL, &n), SP_EMSGSIZE);
    assert_int_equal(n, 6);
    n = 6;
    FAULT_OK(sp_get_str(s.id, "name", buf, &n));
    assert_string_equal(buf, "short");
}

static void options_of_wrong_names_and_pointers_are_refused(void **state)
{
    sp_socket s = fault_open("pair");
    int64_t v;
    size_t n = 8;
    char buf[8];

    (void)state;
    assert_int_equal(sp_set_int(s.id, "no-such", 1), SP_ENOTSUP);
    assert_int_equal(sp_set_str(s.id, "no-such", "1"), SP_ENOTSUP);
    assert_int_equal(sp_set_bytes(s.id, "no-such", "1", 1), SP_ENOTSUP);
    assert_int_equal(sp_get_int(s.id, "no-such", &v), SP_ENOTSUP);
    assert_int_equal(sp_get_str(s.id, "no-such", buf, &n), SP_ENOTSUP);
    assert_int_equal(sp_set_int(s.id, "", 1), SP_ENOTSUP);
    assert_int_equal(sp_set_int(s.id, NULL, 1), SP_EINVAL);
    assert_int_equal(sp_get_int(s.id, NULL, &v), SP_EINVAL);
    assert_int_equal(sp_get_int(s.id, "linger", NULL), SP_EINVAL);
    assert_int_equal(sp_set_str(s.id, "name", NULL), SP_EINVAL);
    assert_int_equal(sp_get_str(s.id, "name", buf, NULL), SP_EINVAL);
    assert_int_equal(sp_set_bytes(s.id, "name", NULL, 1), SP_EINVAL);
    assert_int_equal(sp_set_int(s.id, "recv-next-size", 1), SP_ESTATE);
    assert_int_equal(sp_get_str(s.id, "linger", buf, &n), SP_EINVAL);
    assert_int_equal(sp_get_int(s.id, "name", &v), SP_EINVAL);
}

static void calls_without_a_place_for_their_result_are_refused(void **state)
{
    sp_socket s = fault_open("pair");
    sp_msg *m = NULL;

    (void)state;
    assert_int_equal(sp_open(NULL, "pair"), SP_EINVAL);
    assert_int_equal(sp_open(&s, NULL), SP_EINVAL);
    assert_int_equal(sp_send(s, NULL, 1, 0), SP_EINVAL);
    assert_int_equal(sp_sendmsg(s, NULL, 0), SP_EINVAL);
    assert_int_equal(sp_recv(s, NULL, 1, 0), SP_EINVAL);
    assert_int_equal(sp_recvmsg(s, NULL, 0), SP_EINVAL);
    assert_int_equal(sp_sendmsgs(s, NULL, 1, 0), SP_EINVAL);
    assert_int_equal(sp_sendmsgs(s, &m, 1, 0), SP_EINVAL);
    assert_int_equal(sp_listener_new(NULL, s, "tcp://127.0.0.1:0"), SP_EINVAL);
    assert_int_equal(sp_dialer_new(NULL, s, "tcp://127.0.0.1:1"), SP_EINVAL);
    assert_int_equal(sp_stats(0, NULL), SP_EINVAL);
    assert_int_equal(sp_msg_new(NULL, 1), SP_EINVAL);
    assert_int_equal(sp_msg_new(&m, SIZE_MAX), SP_ENOMEM);
    assert_int_equal(sp_peers(s, NULL, NULL), SP_EINVAL);
    sp_msg_release(NULL);
    sp_free(NULL);
    FAULT_AT_REST(s);
}

static void urls_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "tcp",
        "tcp:",
        "tcp:/127.0.0.1:1",
        "://127.0.0.1:1",
        "tcp://",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:-1",
        "tcp://127.0.0.1:1x",
        "tcp://[::1:1",
        "tcp://127.0.0.1:1/path",
        "ipc://",
        "abstract://",
        "inproc://",
    };
    sp_socket s = fault_open("pair");
    char *huge = malloc(100001);

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (sp_listen(s, bad[i], NULL) != SP_EINVAL ||
            sp_dial(s, bad[i], NULL, SP_NONBLOCK) != SP_EINVAL) {
            print_error("\"%s\": %s\n", bad[i], sp_error_detail());
            fail();
        }
    }
    assert_int_equal(sp_listen(s, NULL, NULL), SP_EINVAL);
    assert_int_equal(sp_listen(s, "nosuch://x", NULL), SP_ENOPLUGIN);
    assert_int_equal(sp_dial(s, "nosuch://x", NULL, SP_NONBLOCK), SP_ENOPLUGIN);
    memset(huge, 'u', 100000);
    huge[100000] = '\0';
    assert_int_equal(sp_listen(s, huge, NULL), SP_EINVAL);
    memcpy(huge, "tcp://", 6);
    assert_true(sp_listen(s, huge, NULL) < 0);
    memcpy(huge, "inproc://", 9);
    assert_int_equal(sp_listen(s, huge, NULL), SP_EINVAL);
    free(huge);
    FAULT_STAT(s.id, "listeners.0.connect", -1);
    FAULT_STAT(s.id, "dialers.0.connect", -1);
}

/// A buffer that is too small loses nothing.
static void small_buffer_keeps_the_message(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_listen("pair", *state, url);
    struct fault_peer p;
    char buf[16];
    int64_t size = 0;

    assert_true(fault_peer_join(&p, url, RAWSP_PAIR));
    assert_true(fault_peer_send(&p, "0123456789", 10));
    assert_int_equal(sp_recv(s, buf, 9, 0), SP_EMSGSIZE);
    assert_int_equal(sp_recv(s, NULL, 0, 0), SP_EMSGSIZE);
    FAULT_OK(sp_get_int(s.id, "recv-next-size", &size));
    assert_int_equal(size, 10);
    FAULT_STAT(s.id, "rx_delivered", 0);
    FAULT_STAT(s.id, "rx_queued", 1);
    FAULT_AT_REST(s);
    assert_int_equal(sp_recv(s, buf, 10, 0), 10);
    FAULT_AT_REST(s);
    fault_peer_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAULT_BOTH(rep_in_several_threads_refuses_and_does_not_crash),
        FAULT_BOTH(answers_need_a_question_each),
        FAULT_ONE(answers_need_a_question_of_their_own),
        FAULT_BOTH(answer_to_a_dead_peer_is_counted),
        FAULT_BOTH(questions_of_dead_peers_are_kept_or_counted),
        FAULT_BOTH(resend_off_stays_off),
        FAULT_BOTH(question_goes_to_the_next_peer_when_its_peer_dies),
        FAULT_ONE(options_out_of_range_or_of_wrong_type_are_refused),
        FAULT_ONE(options_of_wrong_names_and_pointers_are_refused),
        FAULT_ONE(calls_without_a_place_for_their_result_are_refused),
        FAULT_ONE(urls_that_are_none_are_refused),
        FAULT_BOTH(small_buffer_keeps_the_message),
    };

    return cmocka_run_group_tests_name("api", tests, NULL, NULL);
}
