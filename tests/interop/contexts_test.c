/* SPDX-License-Identifier: MIT */
/// What asks and what answers, with Debian's libnng: contexts on both sides, the words of headers
/// as raw sockets of either side see them, requests of a peer that goes away.
#include "check.h"
#include "peer_cat.h"

#include <stdio.h>
#include <string.h>

#ifdef SP_TEST_NNG

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/protocol/survey0/respond.h>
#include <nng/protocol/survey0/survey.h>

#define N 20
#define ID_BIT 0x80000000U
#define SOON 15000

/// A pattern's two halves, ours and nng's.
struct halves {
    const char *asks;
    const char *answers;
    int (*nng_asks)(nng_socket *s);
    int (*nng_answers)(nng_socket *s);
    int (*nng_asks_raw)(nng_socket *s);
    int (*nng_answers_raw)(nng_socket *s);
};

static const struct halves reqrep = {
    "req", "rep", nng_req0_open, nng_rep0_open, nng_req0_open_raw, nng_rep0_open_raw};
static const struct halves survey = {
    "surveyor",           "respondent",           nng_surveyor0_open,
    nng_respondent0_open, nng_surveyor0_open_raw, nng_respondent0_open_raw};
static const struct halves *const patterns[] = {&reqrep, &survey};
static const char *const transports[] = {"ipc", "tcp"};

#define each_pattern_and_transport(p, t)                                                           \
    for (const struct halves *const *p = patterns; p < patterns + 2; p++)                          \
        for (const char *const *t = transports; t < transports + 2; t++)

static nng_socket nng_up(int (*open)(nng_socket *s))
{
    nng_socket s;

    assert_int_equal(open(&s), 0);
    assert_int_equal(nng_socket_set_ms(s, NNG_OPT_RECVTIMEO, SOON), 0);
    assert_int_equal(nng_socket_set_ms(s, NNG_OPT_SENDTIMEO, SOON), 0);
    return s;
}

static sp_socket own_up(const char *protocol, bool raw)
{
    sp_socket s = {0};

    if (raw) {
        check_ok(sp_open_raw(&s, protocol));
        check_ok(sp_set_int(s.id, "recv-timeout", CHECK_SOON));
    } else {
        s = check_open(protocol);
    }
    if (!raw && strcmp(protocol, "surveyor") == 0) {
        check_ok(sp_set_int(s.id, "surveyor:survey-time", SOON));
    }
    return s;
}

/// nng dials our socket, which has one peer more then.
static void join(sp_socket own, const char *transport, nng_socket its)
{
    int64_t before = check_stat(own.id, "pipes");
    char url[256];

    check_listen(own, transport, url, NULL);
    assert_int_equal(nng_dial(its, url, NULL, 0), 0);
    check_pipes(own, before + 1);
}

/* ------------------------------------------------------------------ Contexts */

static sp_msg *own_number(int n)
{
    sp_msg *m = NULL;

    check_ok(sp_msg_new(&m, 0));
    check_ok(sp_msg_append(m, &n, sizeof(n)));
    return m;
}

static int own_number_of(const sp_msg *m)
{
    int n = -1;

    assert_int_equal(sp_msg_len(m), sizeof(n));
    memcpy(&n, sp_msg_view(m), sizeof(n));
    return n;
}

/// A context of nng and its operation.
struct nng_end {
    nng_ctx ctx;
    nng_aio *aio;
};

static void end_open(struct nng_end *end, nng_socket s)
{
    assert_int_equal(nng_ctx_open(&end->ctx, s), 0);
    assert_int_equal(nng_aio_alloc(&end->aio, NULL, NULL), 0);
    nng_aio_set_timeout(end->aio, SOON);
}

static void end_close(struct nng_end *end)
{
    nng_aio_free(end->aio);
    assert_int_equal(nng_ctx_close(end->ctx), 0);
}

static void end_send(struct nng_end *end, int n)
{
    nng_msg *m = NULL;

    assert_int_equal(nng_msg_alloc(&m, 0), 0);
    assert_int_equal(nng_msg_append(m, &n, sizeof(n)), 0);
    nng_aio_set_msg(end->aio, m);
    nng_ctx_send(end->ctx, end->aio);
    nng_aio_wait(end->aio);
    assert_int_equal(nng_aio_result(end->aio), 0);
}

/// What a receive that was started brought.
static int end_take(struct nng_end *end)
{
    nng_msg *m;
    int n = -1;

    nng_aio_wait(end->aio);
    assert_int_equal(nng_aio_result(end->aio), 0);
    m = nng_aio_get_msg(end->aio);
    assert_int_equal(nng_msg_len(m), sizeof(n));
    memcpy(&n, nng_msg_body(m), sizeof(n));
    nng_msg_free(m);
    return n;
}

static void nng_contexts_ask_ours(void **state)
{
    (void)state;
    each_pattern_and_transport(p, t)
    {
        nng_socket its = nng_up((*p)->nng_asks);
        sp_socket own = own_up((*p)->answers, false);
        struct nng_end end[N];
        sp_ctx ctx[N];
        sp_msg *m[N];

        if (*p == &survey) {
            assert_int_equal(nng_socket_set_ms(its, NNG_OPT_SURVEYOR_SURVEYTIME, SOON), 0);
        }
        join(own, *t, its);
        for (int i = 0; i < N; i++) {
            end_open(&end[i], its);
            end_send(&end[i], i);
            nng_ctx_recv(end[i].ctx, end[i].aio);
            check_ok(sp_ctx_open(&ctx[i], own));
            check_ok(sp_ctx_recvmsg(ctx[i], &m[i], 0));
        }
        for (int i = N - 1; i >= 0; i--) {
            check_ok(sp_ctx_sendmsg(ctx[i], m[i], 0));
        }
        for (int i = 0; i < N; i++) {
            assert_int_equal(end_take(&end[i]), i);
            end_close(&end[i]);
        }
        check_rest(own);
        (void)nng_close(its);
        check_ok(sp_close(own));
    }
}

static void our_contexts_ask_nng(void **state)
{
    (void)state;
    each_pattern_and_transport(p, t)
    {
        nng_socket its = nng_up((*p)->nng_answers);
        sp_socket own = own_up((*p)->asks, false);
        struct nng_end end[N];
        sp_ctx ctx[N];
        int asked[N];

        join(own, *t, its);
        for (int i = 0; i < N; i++) {
            check_ok(sp_ctx_open(&ctx[i], own));
            end_open(&end[i], its);
            nng_ctx_recv(end[i].ctx, end[i].aio);
            check_ok(sp_ctx_sendmsg(ctx[i], own_number(i), 0));
            asked[i] = end_take(&end[i]);
        }
        for (int i = N - 1; i >= 0; i--) {
            end_send(&end[i], asked[i] + 1000);
            end_close(&end[i]);
        }
        for (int i = 0; i < N; i++) {
            sp_msg *m = NULL;

            check_ok(sp_ctx_recvmsg(ctx[i], &m, 0));
            assert_int_equal(own_number_of(m), i + 1000);
            sp_msg_release(m);
        }
        check_rest(own);
        (void)nng_close(its);
        check_ok(sp_close(own));
    }
}

/* ------------------------------------------------------------------ Headers */

static uint32_t word(const void *header, int i)
{
    const unsigned char *p = (const unsigned char *)header + 4 * (size_t)i;

    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void nng_text(nng_socket s, const char *text)
{
    assert_int_equal(nng_send(s, (void *)(uintptr_t)text, strlen(text), 0), 0);
}

static void nng_expect(nng_socket s, const char *text)
{
    char buf[64];
    size_t n = sizeof(buf);

    assert_int_equal(nng_recv(s, buf, &n, 0), 0);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(buf, text, n);
}

/// Ours in raw mode answers nng: the pipe's id, then the question's.
static void our_raw_answerer_sees_the_id(void **state)
{
    (void)state;
    each_pattern_and_transport(p, t)
    {
        nng_socket its = nng_up((*p)->nng_asks);
        sp_socket own = own_up((*p)->answers, true);
        sp_msg *m = NULL;
        uint32_t last = 0;

        join(own, *t, its);
        for (int i = 0; i < 5; i++) {
            nng_text(its, "question");
            check_ok(sp_recvmsg(own, &m, 0));
            assert_int_equal(sp_msg_header_len(m), 8);
            assert_true(word(sp_msg_header(m), 0) == sp_msg_peer(m));
            assert_true((word(sp_msg_header(m), 1) & ID_BIT) != 0);
            assert_true(word(sp_msg_header(m), 1) != last); // Each has one of its own.
            last = word(sp_msg_header(m), 1);
            assert_int_equal(sp_msg_len(m), 8);
            check_ok(sp_sendmsg(own, m, 0));
            nng_expect(its, "question");
        }
        check_rest(own);
        (void)nng_close(its);
        check_ok(sp_close(own));
    }
}

/// nng in raw mode answers ours.
static void nng_raw_answerer_sees_our_id(void **state)
{
    (void)state;
    each_pattern_and_transport(p, t)
    {
        nng_socket its = nng_up((*p)->nng_answers_raw);
        sp_socket own = own_up((*p)->asks, false);
        uint32_t last = 0;

        join(own, *t, its);
        for (int i = 0; i < 5; i++) {
            nng_msg *m = NULL;

            check_send(own, "question");
            assert_int_equal(nng_recvmsg(its, &m, 0), 0);
            assert_int_equal(nng_msg_header_len(m), 8);
            assert_true((word(nng_msg_header(m), 0) & ID_BIT) == 0);
            assert_true(last == 0 || word(nng_msg_header(m), 1) == ((last + 1) | ID_BIT));
            last = word(nng_msg_header(m), 1);
            assert_true((last & ID_BIT) != 0);
            assert_int_equal(nng_msg_len(m), 8);
            assert_int_equal(nng_sendmsg(its, m, 0), 0);
            check_recv(own, "question");
        }
        check_rest(own);
        (void)nng_close(its);
        check_ok(sp_close(own));
    }
}

/// A question that passed devices, from a raw socket of nng, and one from ours: the answer has the
/// same words.
static void backtraces_come_back(void **state)
{
    static const uint32_t words[] = {7, 0x12345678, ID_BIT | 99};

    (void)state;
    each_pattern_and_transport(p, t)
    {
        nng_socket its = nng_up((*p)->nng_asks_raw);
        sp_socket own = own_up((*p)->answers, false);
        nng_msg *m = NULL;

        join(own, *t, its);
        assert_int_equal(nng_msg_alloc(&m, 0), 0);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(nng_msg_header_append_u32(m, words[i]), 0);
        }
        assert_int_equal(nng_msg_append(m, "body", 4), 0);
        assert_int_equal(nng_sendmsg(its, m, 0), 0);
        check_recv(own, "body");
        check_send(own, "answer");
        assert_int_equal(nng_recvmsg(its, &m, 0), 0);
        assert_int_equal(nng_msg_len(m), 6);
        assert_int_equal(nng_msg_header_len(m), 12);
        for (int i = 0; i < 3; i++) {
            assert_true(word(nng_msg_header(m), i) == words[i]);
        }
        nng_msg_free(m);
        check_rest(own);
        (void)nng_close(its);
        check_ok(sp_close(own));
    }
    each_pattern_and_transport(p, t)
    {
        nng_socket its = nng_up((*p)->nng_answers);
        sp_socket own = own_up((*p)->asks, true);
        unsigned char header[] = {0, 0, 0, 7, 0x12, 0x34, 0x56, 0x78, 0x80, 0, 0, 99};
        sp_msg *m = NULL;

        join(own, *t, its);
        check_ok(sp_msg_new(&m, 0));
        check_ok(sp_msg_header_append(m, header, sizeof(header)));
        check_ok(sp_msg_append(m, "body", 4));
        check_ok(sp_sendmsg(own, m, 0));
        nng_expect(its, "body");
        nng_text(its, "answer");
        check_ok(sp_recvmsg(own, &m, 0));
        assert_int_equal(sp_msg_len(m), 6);
        assert_int_equal(sp_msg_header_len(m), sizeof(header));
        assert_memory_equal(sp_msg_header(m), header, sizeof(header));
        sp_msg_release(m);
        check_rest(own);
        (void)nng_close(its);
        check_ok(sp_close(own));
    }
}

/* ------------------------------------------------------------------ Peers that go */

/// At once, not after the resend time of a minute.
static void request_of_a_lost_nng_goes_to_the_next(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        sp_socket own = own_up("req", false);
        nng_socket its[2] = {nng_up(nng_rep0_open), nng_up(nng_rep0_open)};

        join(own, transports[t], its[0]);
        check_send(own, "q");
        nng_expect(its[0], "q");
        join(own, transports[t], its[1]);
        (void)nng_close(its[0]);
        nng_expect(its[1], "q");
        nng_text(its[1], "a");
        check_recv(own, "a");
        assert_int_equal(check_stat(own.id, "tx_copies"), 1);
        check_rest(own);
        (void)nng_close(its[1]);
        check_ok(sp_close(own));
    }
}

static void request_of_nng_comes_when_its_holder_is_lost(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        nng_socket its = nng_up(nng_req0_open);
        sp_socket own[2] = {own_up("rep", false), own_up("rep", false)};

        join(own[0], transports[t], its);
        nng_text(its, "q");
        check_recv(own[0], "q");
        join(own[1], transports[t], its);
        check_ok(sp_close(own[0]));
        check_recv(own[1], "q");
        check_send(own[1], "a");
        nng_expect(its, "a");
        check_rest(own[1]);
        (void)nng_close(its);
        check_ok(sp_close(own[1]));
    }
}

int main(void)
{

    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nng_contexts_ask_ours, check_start_threads, check_stop),
        cmocka_unit_test_setup_teardown(our_contexts_ask_nng, check_start_threads, check_stop),
        cmocka_unit_test_setup_teardown(our_raw_answerer_sees_the_id, check_start_threads,
                                        check_stop),
        cmocka_unit_test_setup_teardown(nng_raw_answerer_sees_our_id, check_start_threads,
                                        check_stop),
        cmocka_unit_test_setup_teardown(backtraces_come_back, check_start_threads, check_stop),
        cmocka_unit_test_setup_teardown(request_of_a_lost_nng_goes_to_the_next, check_start_threads,
                                        check_stop),
        cmocka_unit_test_setup_teardown(request_of_nng_comes_when_its_holder_is_lost,
                                        check_start_threads, check_stop),
    };

    peer_environment();
    return cmocka_run_group_tests_name("contexts", tests, NULL, NULL);
}

#else

int main(void)
{
    (void)puts("skipped: built without libnng (libnng-dev)");
    return 77;
}

#endif
