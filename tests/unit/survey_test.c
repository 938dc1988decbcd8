/* SPDX-License-Identifier: MIT */
/// SURVEYOR and RESPONDENT: everybody is asked, answers count until the deadline, any number of
/// surveys by contexts, late answers, headers of raw sockets, peers made by hand.
#include "check.h"
#include "rawsp.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ID_BIT 0x80000000U
#define N 3
#define MANY 100

static sp_socket surveyor;
static sp_socket respondent[MANY];

/// A surveyor that listens at a URL of the transport, and `n` respondents that dialled it.
static void gather(const char *transport, int n)
{
    char url[256];

    surveyor = check_open("surveyor");
    check_ok(sp_set_int(surveyor.id, "surveyor:survey-time", CHECK_SOON));
    check_listen(surveyor, transport, url, NULL);
    for (int i = 0; i < n; i++) {
        respondent[i] = check_open("respondent");
        check_ok(sp_dial(respondent[i], url, NULL, 0));
    }
    check_pipes(surveyor, n);
}

static void rest(int n)
{
    check_rest(surveyor);
    for (int i = 0; i < n; i++) {
        check_rest(respondent[i]);
    }
}

static void survey_time(int ms)
{
    check_ok(sp_set_int(surveyor.id, "surveyor:survey-time", ms));
}

static void wait_until(int64_t ms)
{
    check_until(check_now() >= ms);
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

static sp_msg *text_msg(const char *text)
{
    sp_msg *m = NULL;

    check_ok(sp_msg_new(&m, 0));
    check_ok(sp_msg_append(m, text, strlen(text)));
    return m;
}

static void ctx_send(sp_ctx c, const char *text)
{
    check_ok(sp_ctx_sendmsg(c, text_msg(text), 0));
}

static void ctx_recv(sp_ctx c, const char *text)
{
    sp_msg *m = NULL;

    check_ok(sp_ctx_recvmsg(c, &m, 0));
    assert_int_equal(sp_msg_len(m), strlen(text));
    assert_memory_equal(sp_msg_view(m), text, strlen(text));
    sp_msg_release(m);
}

/// A respondent gives the survey back.
static void echo(sp_socket s)
{
    sp_msg *m = NULL;

    check_ok(sp_recvmsg(s, &m, 0));
    check_ok(sp_sendmsg(s, m, 0));
}

/// Nobody answers any more.
static void over(void)
{
    char buf[8];

    check_rc(SP_ETIMEDOUT, sp_recv(surveyor, buf, sizeof(buf), 0));
    check_detail(SP_ESTATE, "receive: \"surveyor\" has no question under way (send one first)",
                 (int)sp_recv(surveyor, buf, sizeof(buf), 0));
}

/* ------------------------------------------------------------------ Surveys */

static void everybody_is_asked_and_answers_count_until_the_deadline(void **state)
{
    static const char *const transports[] = {"inproc", "ipc", "tcp"};

    (void)state;
    for (int t = 0; t < 3; t++) {
        int64_t start;

        gather(transports[t], N);
        for (int round = 0; round < 10; round++) {
            survey_time(round == 9 ? 300 : CHECK_SOON);
            start = check_now();
            check_send(surveyor, "who?");
            for (int i = 0; i < N; i++) {
                check_recv(respondent[i], "who?");
                check_send(respondent[i], "me");
            }
            for (int i = 0; i < N; i++) {
                check_recv(surveyor, "me");
            }
        }
        over();
        assert_true(check_now() - start >= 300);
        rest(N);
        assert_int_equal(check_stat(surveyor.id, "tx_msgs"), 10 * N);
        assert_int_equal(check_stat(surveyor.id, "tx_copies"), 10 * (N - 1));
        assert_int_equal(check_stat(surveyor.id, "rx_delivered"), 10 * N);
        check_ok(sp_close(surveyor));
        for (int i = 0; i < N; i++) {
            check_ok(sp_close(respondent[i]));
        }
    }
}

static void a_hundred_respondents_are_heard(void **state)
{
    (void)state;
    gather("inproc", MANY);
    for (int round = 0; round < 5; round++) {
        int heard[MANY] = {0};

        check_send(surveyor, "who?");
        for (int i = 0; i < MANY; i++) {
            check_recv(respondent[i], "who?");
            check_ok(sp_send(respondent[i], &i, sizeof(i), 0));
        }
        for (int i = 0; i < MANY; i++) {
            int who = -1;

            check_rc(sizeof(who), sp_recv(surveyor, &who, sizeof(who), 0));
            assert_in_range(who, 0, MANY - 1);
            assert_int_equal(heard[who]++, 0);
        }
    }
    rest(MANY);
    assert_int_equal(check_stat(surveyor.id, "rx_delivered"), 5 * MANY);
    assert_int_equal(check_stat(surveyor.id, "rx_drops.stale"), 0);
}

static void calls_out_of_turn_are_estate(void **state)
{
    char buf[8];

    (void)state;
    gather("inproc", 1);
    check_rc(SP_ESTATE, sp_recv(surveyor, buf, sizeof(buf), SP_NONBLOCK));
    check_detail(SP_ESTATE, "send: \"respondent\" has no request to answer (receive one first)",
                 sp_send(respondent[0], "x", 1, 0));
    check_send(surveyor, "q");
    check_rc(SP_EAGAIN, sp_recv(surveyor, buf, sizeof(buf), SP_NONBLOCK));
    check_recv(respondent[0], "q");
    check_send(respondent[0], "a");
    check_rc(SP_ESTATE, sp_send(respondent[0], "b", 1, SP_NONBLOCK));
    check_recv(surveyor, "a");
    rest(1);
}

static void late_answers_are_stale(void **state)
{
    (void)state;
    gather("inproc", N);
    survey_time(20);
    check_send(surveyor, "q");
    over();
    for (int i = 0; i < N; i++) {
        echo(respondent[i]);
    }
    check_stat_is(surveyor.id, "rx_drops.stale", N);
    survey_time(CHECK_SOON);
    check_send(surveyor, "q2");
    for (int i = 0; i < N; i++) {
        echo(respondent[i]);
        check_recv(surveyor, "q2");
    }
    rest(N);
}

static void new_survey_ends_the_one_before(void **state)
{
    char buf[8];

    (void)state;
    gather("inproc", 2);
    check_send(surveyor, "q1");
    echo(respondent[0]);
    check_stat_is(surveyor.id, "rx_queued", 1); // Not received before the next one: stale.
    check_send(surveyor, "q2");
    echo(respondent[1]);
    check_stat_is(surveyor.id, "rx_drops.stale", 1);
    check_rc(SP_EAGAIN, sp_recv(surveyor, buf, sizeof(buf), SP_NONBLOCK));
    check_stat_is(surveyor.id, "rx_drops.stale", 2);
    echo(respondent[0]);
    echo(respondent[1]);
    check_recv(surveyor, "q2");
    check_recv(surveyor, "q2");
    rest(2);
}

/// The deadline of the first survey does not end the second.
static void new_survey_has_a_deadline_of_its_own(void **state)
{
    int64_t start;

    (void)state;
    gather("inproc", 1);
    survey_time(30);
    start = check_now();
    check_send(surveyor, "q1");
    survey_time(CHECK_SOON);
    check_send(surveyor, "q2");
    wait_until(start + 60);
    check_recv(respondent[0], "q1"); // Both were asked.
    echo(respondent[0]);
    check_recv(surveyor, "q2");
    survey_time(0); // At once.
    check_send(surveyor, "q3");
    over();
    rest(1);
}

static void answers_before_the_deadline_are_received_after_it(void **state)
{
    sp_msg *m[N + 2];
    char buf[8];
    int64_t start;

    (void)state;
    gather("inproc", N);
    for (int batch = 0; batch < 2; batch++) {
        survey_time(500);
        start = check_now();
        check_send(surveyor, "q");
        for (int i = 0; i < N; i++) {
            echo(respondent[i]);
        }
        check_stat_is(surveyor.id, "rx_queued", N);
        assert_true(check_now() < start + 400); // Else this machine is too slow for the test.
        wait_until(start + 520);
        if (batch == 1) { // Any number at once, but no failure with them.
            check_rc(N, sp_recvmsgs(surveyor, m, N + 2, 0));
            for (int i = 0; i < N; i++) {
                sp_msg_release(m[i]);
            }
        }
        for (int i = 0; batch == 0 && i < N; i++) {
            check_rc(1, sp_recv(surveyor, buf, sizeof(buf), SP_NONBLOCK));
        }
        check_rc(SP_ETIMEDOUT, sp_recv(surveyor, buf, sizeof(buf), 0)); // The timer may be late.
        check_rc(SP_ESTATE, sp_recv(surveyor, buf, sizeof(buf), SP_NONBLOCK));
    }
    rest(N);
}

static void survey_without_respondents_times_out(void **state)
{
    (void)state;
    surveyor = check_open("surveyor");
    survey_time(20);
    check_ok(sp_send(surveyor, "q", 1, SP_NONBLOCK));
    over();
    assert_int_equal(check_stat(surveyor.id, "tx_drops.no_peer"), 1);
    check_rest(surveyor);
}

static void survey_time_never_lasts_until_the_next_survey(void **state)
{
    char buf[8];

    (void)state;
    gather("inproc", 1);
    survey_time(20);
    check_send(surveyor, "q");
    survey_time(-1);
    check_send(surveyor, "q2");
    check_ok(sp_set_int(surveyor.id, "recv-timeout", 60));
    check_rc(SP_ETIMEDOUT, sp_recv(surveyor, buf, sizeof(buf), 0));
    check_rc(SP_EAGAIN, sp_recv(surveyor, buf, sizeof(buf), SP_NONBLOCK)); // It goes on.
    check_ok(sp_set_int(surveyor.id, "recv-timeout", CHECK_SOON));
    check_recv(respondent[0], "q");
    echo(respondent[0]);
    check_recv(surveyor, "q2");
    rest(1);
}

/* ------------------------------------------------------------------ Who waits */

static long receive(void *arg)
{
    char buf[16];

    (void)arg;
    return sp_recv(surveyor, buf, sizeof(buf), 0);
}

static void all_blocked_receivers_are_told_of_the_end(void **state)
{
    struct check_call c[4];
    sp_op *op[2];
    char buf[8];

    (void)state;
    gather("inproc", 1);
    for (int round = 0; round < 3; round++) {
        survey_time(100);
        check_send(surveyor, "q");
        for (int i = 0; i < 4; i++) {
            check_call_start(&c[i], receive, NULL);
        }
        for (int i = 0; i < 2; i++) {
            check_ok(sp_op_new(&op[i], NULL, NULL));
            check_ok(sp_op_recv(op[i], surveyor.id));
        }
        for (int i = 0; i < 4; i++) {
            long rc = check_call_join(&c[i], CHECK_SOON);

            // A thread that came after the end was not waiting.
            assert_true(rc == SP_ETIMEDOUT || rc == SP_ESTATE);
        }
        for (int i = 0; i < 2; i++) {
            check_rc(SP_ETIMEDOUT, sp_op_wait(op[i]));
            sp_op_free(op[i]);
        }
        check_rc(SP_ESTATE, sp_recv(surveyor, buf, sizeof(buf), 0));
        check_recv(respondent[0], "q");
    }
    rest(1);
}

static void operations_collect_answers_and_the_end(void **state)
{
    sp_op *op = NULL;

    (void)state;
    gather("inproc", N);
    survey_time(1000);
    check_ok(sp_op_new(&op, NULL, NULL));
    check_ok(sp_op_recv(op, surveyor.id));
    check_rc(SP_ESTATE, sp_op_wait(op));
    check_send(surveyor, "q");
    for (int i = 0; i < N; i++) {
        echo(respondent[i]);
    }
    for (int i = 0; i < N; i++) {
        check_ok(sp_op_recv(op, surveyor.id));
        check_ok(sp_op_wait(op));
        sp_msg_release(sp_op_msg(op));
    }
    check_ok(sp_op_recv(op, surveyor.id));
    check_rc(SP_ETIMEDOUT, sp_op_wait(op));
    check_ok(sp_op_recv(op, surveyor.id));
    check_rc(SP_ESTATE, sp_op_wait(op));
    sp_op_free(op);
    rest(N);
}

static void answers_and_the_end_are_readable(void **state)
{
    sp_pollitem item;
    char buf[8];

    (void)state;
    gather("inproc", 1);
    item = (sp_pollitem){.id = surveyor.id, .events = SP_POLLIN};
    check_rc(0, sp_poll(&item, 1, 0));
    survey_time(500);
    check_send(surveyor, "q");
    check_rc(0, sp_poll(&item, 1, 0));
    echo(respondent[0]);
    check_rc(1, sp_poll(&item, 1, CHECK_SOON));
    check_recv(surveyor, "q");
    check_rc(0, sp_poll(&item, 1, 0));
    check_rc(1, sp_poll(&item, 1, CHECK_SOON)); // The end.
    check_rc(SP_ETIMEDOUT, sp_recv(surveyor, buf, sizeof(buf), SP_NONBLOCK));
    check_rc(0, sp_poll(&item, 1, 0));
    rest(1);
}

/* ------------------------------------------------------------------ Contexts */

static void contexts_have_surveys_of_their_own(void **state)
{
    sp_ctx c[50];
    char text[32];

    (void)state;
    gather("inproc", N);
    for (int i = 0; i < 50; i++) {
        check_ok(sp_ctx_open(&c[i], surveyor));
        check_ok(sp_set_int(c[i].id, "recv-timeout", CHECK_SOON));
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 50; i++) {
            (void)snprintf(text, sizeof(text), "%d-%d", round, i);
            ctx_send(c[i], text);
        }
        for (int i = 0; i < 50 * N; i++) {
            echo(respondent[i % N]);
        }
        for (int i = 49; i >= 0; i--) {
            (void)snprintf(text, sizeof(text), "%d-%d", round, i);
            for (int k = 0; k < N; k++) {
                ctx_recv(c[i], text);
            }
        }
    }
    for (int i = 0; i < 50; i++) {
        check_ok(sp_ctx_close(c[i]));
    }
    rest(N);
    assert_int_equal(check_stat(surveyor.id, "rx_delivered"), 3L * 50 * N);
}

static void contexts_have_deadlines_of_their_own(void **state)
{
    sp_ctx c[3];
    sp_msg *m = NULL;
    int64_t value = 0;
    int64_t start;

    (void)state;
    gather("inproc", 1);
    survey_time(60);
    for (int i = 0; i < 3; i++) {
        check_ok(sp_ctx_open(&c[i], surveyor));
    }
    check_ok(sp_get_int(c[0].id, "surveyor:survey-time", &value));
    assert_int_equal(value, 60); // The socket's, when it was opened.
    check_ok(sp_set_int(c[1].id, "surveyor:survey-time", 30));
    check_ok(sp_set_int(c[2].id, "surveyor:survey-time", CHECK_SOON));
    start = check_now();
    for (int i = 0; i < 3; i++) {
        ctx_send(c[i], "q");
    }
    check_rc(SP_ETIMEDOUT, sp_ctx_recvmsg(c[0], &m, 0));
    assert_true(check_now() - start >= 60);
    check_rc(SP_ETIMEDOUT, sp_ctx_recvmsg(c[1], &m, SP_NONBLOCK));
    check_rc(SP_EAGAIN, sp_ctx_recvmsg(c[2], &m, SP_NONBLOCK));
    for (int i = 0; i < 3; i++) {
        echo(respondent[0]);
    }
    ctx_recv(c[2], "q");
    check_stat_is(surveyor.id, "rx_drops.stale", 2);
    for (int i = 0; i < 3; i++) {
        check_ok(sp_ctx_close(c[i]));
    }
    rest(1);
}

/// A context that does not receive keeps its answers for itself.
static void full_context_holds_up_nobody(void **state)
{
    sp_ctx lazy;
    sp_ctx busy;

    (void)state;
    gather("inproc", 20);
    check_ok(sp_set_int(surveyor.id, "recv-buffer", 2));
    check_ok(sp_ctx_open(&lazy, surveyor));
    check_ok(sp_ctx_open(&busy, surveyor));
    ctx_send(lazy, "lazy");
    for (int i = 0; i < 20; i++) {
        echo(respondent[i]);
    }
    check_stat_is(surveyor.id, "rx_queued", 20);
    for (int round = 0; round < 5; round++) {
        ctx_send(busy, "busy");
        for (int i = 0; i < 20; i++) {
            echo(respondent[i]);
        }
        for (int i = 0; i < 20; i++) {
            ctx_recv(busy, "busy");
        }
    }
    for (int i = 0; i < 20; i++) {
        ctx_recv(lazy, "lazy"); // None was lost.
    }
    ctx_send(lazy, "lazy");
    for (int i = 0; i < 20; i++) {
        echo(respondent[i]);
    }
    check_ok(sp_ctx_close(lazy)); // What waited for room is stale.
    check_until(check_stat(surveyor.id, "rx_queued") == 0);
    assert_int_equal(
        check_stat(surveyor.id, "rx_drops.stale") + check_stat(surveyor.id, "rx_drops.closed"), 20);
    check_ok(sp_ctx_close(busy));
    rest(20);
}

static void contexts_come_and_go_with_surveys_under_way(void **state)
{
    (void)state;
    gather("inproc", 1);
    check_ok(sp_set_int(respondent[0].id, "recv-buffer", 8192));
    survey_time(1);
    for (int i = 0; i < 2000; i++) {
        sp_ctx c;

        check_ok(sp_ctx_open(&c, surveyor));
        ctx_send(c, "q");
        check_ok(sp_ctx_close(c));
        if (i % 2 == 0) {
            echo(respondent[0]);
        }
    }
    check_until(check_stat(surveyor.id, "rx_drops.stale") +
                    check_stat(surveyor.id, "rx_drops.closed") ==
                1000);
    rest(1);
}

static void respondent_contexts_answer_several_at_once(void **state)
{
    sp_ctx at[2];
    sp_ctx ask[2];
    sp_msg *m[2] = {NULL, NULL};

    (void)state;
    gather("inproc", 1);
    for (int i = 0; i < 2; i++) {
        check_ok(sp_ctx_open(&at[i], respondent[0]));
        check_ok(sp_ctx_open(&ask[i], surveyor));
        ctx_send(ask[i], i == 0 ? "first" : "second");
    }
    for (int i = 0; i < 2; i++) {
        check_ok(sp_ctx_recvmsg(at[i], &m[i], 0));
    }
    for (int i = 1; i >= 0; i--) {
        check_ok(sp_ctx_sendmsg(at[i], m[i], 0));
        ctx_recv(ask[i], i == 0 ? "first" : "second");
    }
    for (int i = 0; i < 2; i++) {
        check_ok(sp_ctx_close(at[i]));
        check_ok(sp_ctx_close(ask[i]));
    }
    rest(1);
}

/* ------------------------------------------------------------------ Peers */

static void answer_to_a_surveyor_that_is_gone_is_counted(void **state)
{
    (void)state;
    gather("inproc", 1);
    check_send(surveyor, "q");
    check_recv(respondent[0], "q");
    check_ok(sp_close(surveyor));
    check_pipes(respondent[0], 0);
    check_send(respondent[0], "a");
    check_stat_is(respondent[0].id, "tx_drops.peer_gone", 1);
    check_rest(respondent[0]);
}

static void lost_respondents_are_not_waited_for(void **state)
{
    (void)state;
    gather("tcp", N);
    survey_time(300);
    check_send(surveyor, "q");
    check_recv(respondent[0], "q");
    check_ok(sp_close(respondent[0]));
    for (int i = 1; i < N; i++) {
        echo(respondent[i]);
    }
    check_pipes(surveyor, N - 1);
    for (int i = 1; i < N; i++) {
        check_recv(surveyor, "q");
    }
    over();
    check_rest(surveyor);
}

/// Who does not read misses surveys; the others do not, and nobody waits.
static void slow_respondent_misses_surveys(void **state)
{
    (void)state;
    surveyor = check_open("surveyor");
    check_ok(sp_set_int(surveyor.id, "send-buffer", 4));
    survey_time(CHECK_SOON);
    for (int i = 0; i < 2; i++) {
        respondent[i] = check_open("respondent");
        check_ok(sp_set_int(respondent[i].id, "recv-buffer", 1));
        check_ok(sp_listen(respondent[i], i == 0 ? "inproc://slow" : "inproc://fast", NULL));
        check_ok(sp_dial(surveyor, i == 0 ? "inproc://slow" : "inproc://fast", NULL, 0));
    }
    check_pipes(surveyor, 2);
    for (int i = 0; i < 1000; i++) {
        check_send(surveyor, "q");
        echo(respondent[1]);
        check_recv(surveyor, "q");
    }
    assert_true(check_stat(surveyor.id, "tx_drops.full") > 500);
    rest(2);
}

/* ------------------------------------------------------------------ Raw */

static sp_msg *raw_msg(const uint32_t *words, size_t n, const char *body)
{
    sp_msg *m = text_msg(body);

    for (size_t i = 0; i < n; i++) {
        unsigned char w[4];

        put_word(w, words[i]);
        check_ok(sp_msg_header_append(m, w, 4));
    }
    return m;
}

static sp_socket open_raw(const char *protocol)
{
    sp_socket s = {0};

    check_ok(sp_open_raw(&s, protocol));
    check_ok(sp_set_int(s.id, "recv-timeout", CHECK_SOON));
    return s;
}

static void raw_sockets_pass_the_backtrace(void **state)
{
    static const char *const transports[] = {"inproc", "ipc", "tcp"};
    const uint32_t words[] = {7, 8, 9, ID_BIT | 5};
    unsigned char want[16];

    (void)state;
    for (int i = 0; i < 4; i++) {
        put_word(want + 4 * i, words[i]);
    }
    for (int t = 0; t < 3; t++) {
        sp_socket from = open_raw("surveyor");
        sp_socket to[2];
        char url[256];
        sp_msg *m = NULL;

        check_listen(from, transports[t], url, NULL);
        for (int i = 0; i < 2; i++) {
            to[i] = open_raw("respondent");
            check_ok(sp_dial(to[i], url, NULL, 0));
        }
        check_pipes(from, 2);
        check_ok(sp_sendmsg(from, raw_msg(words, 4, "body"), 0));
        for (int i = 0; i < 2; i++) {
            check_ok(sp_recvmsg(to[i], &m, 0));
            assert_int_equal(sp_msg_header_len(m), 20);
            assert_true(word(sp_msg_header(m)) == sp_msg_peer(m));
            assert_memory_equal((char *)sp_msg_header(m) + 4, want, 16);
            assert_int_equal(sp_msg_len(m), 4);
            check_ok(sp_sendmsg(to[i], m, 0));
        }
        for (int i = 0; i < 2; i++) {
            check_ok(sp_recvmsg(from, &m, 0));
            assert_int_equal(sp_msg_header_len(m), 16);
            assert_memory_equal(sp_msg_header(m), want, 16);
            assert_memory_equal(sp_msg_view(m), "body", 4);
            sp_msg_release(m);
        }
        // No header, none of a pipe, an unknown pipe: dropped, counted.
        check_ok(sp_sendmsg(to[0], raw_msg(words, 0, "x"), 0));
        check_ok(sp_sendmsg(to[0], raw_msg(words + 3, 1, "x"), 0));
        check_stat_is(to[0].id, "tx_drops.malformed", 2);
        check_ok(sp_sendmsg(to[0], raw_msg(words, 4, "x"), 0));
        check_stat_is(to[0].id, "tx_drops.peer_gone", 1);
        check_rest(from);
        check_rest(to[0]);
        check_rest(to[1]);
    }
}

static void ttl_max_drops_and_counts(void **state)
{
    sp_socket raw = open_raw("surveyor");
    int dropped = 0;

    (void)state;
    respondent[0] = check_open("respondent");
    check_ok(sp_listen(respondent[0], "inproc://ttl", NULL));
    check_ok(sp_dial(raw, "inproc://ttl", NULL, 0));
    for (int ttl = 1; ttl <= 15; ttl++) {
        check_ok(sp_set_int(respondent[0].id, "ttl-max", ttl));
        for (int n = 1; n <= 15; n++) {
            uint32_t words[15];
            sp_msg *m;

            for (int i = 0; i < n; i++) {
                words[i] = (uint32_t)i + (i == n - 1 ? ID_BIT : 1);
            }
            check_ok(sp_sendmsg(raw, raw_msg(words, (size_t)n, "q"), 0));
            if (n > ttl) {
                check_stat_is(respondent[0].id, "rx_drops.ttl", ++dropped);
                continue;
            }
            echo(respondent[0]);
            check_ok(sp_recvmsg(raw, &m, 0));
            assert_int_equal(sp_msg_header_len(m), 4 * n);
            sp_msg_release(m);
        }
    }
    check_rc(SP_EINVAL, sp_set_int(respondent[0].id, "ttl-max", 16));
    check_rc(SP_EINVAL, sp_set_int(respondent[0].id, "ttl-max", 0));
    check_rest(respondent[0]);
    check_rest(raw);
}

/// A header that leaves no room for the pipe's id.
static void raw_respondent_drops_a_full_header(void **state)
{
    sp_socket from = open_raw("surveyor");
    sp_socket to = open_raw("respondent");
    uint32_t words[16];
    sp_msg *m = NULL;

    (void)state;
    for (int i = 0; i < 16; i++) {
        words[i] = ID_BIT | (uint32_t)i;
    }
    check_ok(sp_listen(to, "inproc://full-header", NULL));
    check_ok(sp_dial(from, "inproc://full-header", NULL, 0));
    check_pipes(to, 1);
    check_ok(sp_sendmsg(from, raw_msg(words, 16, "q"), 0));
    check_stat_is(to.id, "rx_drops.ttl", 1);
    check_ok(sp_sendmsg(from, raw_msg(words, 15, "q"), 0));
    check_ok(sp_recvmsg(to, &m, 0));
    assert_int_equal(sp_msg_header_len(m), 8);
    assert_int_equal(sp_msg_len(m), 14 * 4 + 1); // What follows the id is body.
    sp_msg_release(m);
    check_rest(from);
    check_rest(to);
}

/* ------------------------------------------------------------------ Peers made by hand */

static void respondent_closes_a_peer_without_backtrace(void **state)
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
    respondent[0] = check_open("respondent");
    check_listen(respondent[0], "tcp", url, NULL);
    for (int i = 0; i < 4; i++) {
        int fd = check_raw_dial(url, RAWSP_SURVEYOR, RAWSP_RESPONDENT);

        assert_int_equal(rawsp_send(fd, NULL, 0, bad[i].bytes, bad[i].n), 0);
        assert_true(check_raw_closed(fd));
        check_stat_is(respondent[0].id, "rx_drops.malformed", i + 1);
        (void)close(fd);
    }
    check_pipes(respondent[0], 0);
    check_rest(respondent[0]);
}

static void surveyor_drops_foreign_answers(void **state)
{
    unsigned char ask[64];
    unsigned char id[4];
    char url[64];
    int port = 0;
    int listener = rawsp_listen(&port);
    uint16_t peer = 0;
    uint32_t last = 0;
    int fd;

    (void)state;
    surveyor = check_open("surveyor");
    survey_time(CHECK_SOON);
    (void)snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    check_ok(sp_dial(surveyor, url, NULL, SP_NONBLOCK));
    fd = rawsp_accept(listener, RAWSP_RESPONDENT, &peer, CHECK_SOON);
    assert_true(fd >= 0);
    assert_int_equal(peer, RAWSP_SURVEYOR);
    check_pipes(surveyor, 1);
    for (int i = 0; i < 20; i++) {
        check_send(surveyor, "q");
        assert_int_equal(rawsp_recv(fd, ask, sizeof(ask), CHECK_SOON), 5);
        assert_int_equal(ask[4], 'q');
        assert_true((word(ask) & ID_BIT) != 0);
        assert_true(i == 0 || word(ask) == ((last + 1) | ID_BIT));
        last = word(ask);
    }
    put_word(id, last + 1);
    assert_int_equal(rawsp_send(fd, id, 4, "foreign", 7), 0);
    put_word(id, last & ~ID_BIT);
    assert_int_equal(rawsp_send(fd, id, 4, "without the bit", 15), 0);
    check_stat_is(surveyor.id, "rx_drops.stale", 2);
    assert_int_equal(rawsp_send(fd, ask, 4, "right", 5), 0);
    assert_int_equal(rawsp_send(fd, ask, 4, "again", 5), 0); // A survey has many answers.
    check_recv(surveyor, "right");
    check_recv(surveyor, "again");
    assert_int_equal(rawsp_send(fd, NULL, 0, "abc", 3), 0); // Too short for an id.
    assert_true(check_raw_closed(fd));
    check_stat_is(surveyor.id, "rx_drops.malformed", 1);
    check_rest(surveyor);
    (void)close(fd);
    (void)close(listener);
}

static void ids_begin_at_random(void **state)
{
    uint32_t first[8];

    (void)state;
    for (int i = 0; i < 8; i++) {
        sp_socket raw = open_raw("respondent");
        sp_msg *m = NULL;

        surveyor = check_open("surveyor");
        check_ok(sp_listen(raw, "inproc://random", NULL));
        check_ok(sp_dial(surveyor, "inproc://random", NULL, 0));
        check_send(surveyor, "q");
        check_ok(sp_recvmsg(raw, &m, 0));
        first[i] = word((char *)sp_msg_header(m) + 4);
        sp_msg_release(m);
        for (int k = 0; k < i; k++) {
            uint32_t apart = first[i] - first[k];

            assert_true(apart > 100 && apart < UINT32_MAX - 100);
        }
        check_ok(sp_close(raw));
        check_ok(sp_close(surveyor));
    }
}

int main(void)
{
#define threaded(name) cmocka_unit_test_setup_teardown(name, check_start_threads, check_stop)
    const struct CMUnitTest tests[] = {
        check_both(everybody_is_asked_and_answers_count_until_the_deadline),
        check_both(a_hundred_respondents_are_heard),
        check_both(calls_out_of_turn_are_estate),
        check_both(late_answers_are_stale),
        check_both(new_survey_ends_the_one_before),
        check_both(new_survey_has_a_deadline_of_its_own),
        check_both(answers_before_the_deadline_are_received_after_it),
        check_both(survey_without_respondents_times_out),
        check_both(survey_time_never_lasts_until_the_next_survey),
        threaded(all_blocked_receivers_are_told_of_the_end),
        check_both(operations_collect_answers_and_the_end),
        check_both(answers_and_the_end_are_readable),
        check_both(contexts_have_surveys_of_their_own),
        check_both(contexts_have_deadlines_of_their_own),
        check_both(full_context_holds_up_nobody),
        check_both(contexts_come_and_go_with_surveys_under_way),
        check_both(respondent_contexts_answer_several_at_once),
        check_both(answer_to_a_surveyor_that_is_gone_is_counted),
        check_both(lost_respondents_are_not_waited_for),
        check_both(slow_respondent_misses_surveys),
        check_both(raw_sockets_pass_the_backtrace),
        check_both(ttl_max_drops_and_counts),
        check_both(raw_respondent_drops_a_full_header),
        threaded(respondent_closes_a_peer_without_backtrace),
        threaded(surveyor_drops_foreign_answers),
        check_both(ids_begin_at_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
