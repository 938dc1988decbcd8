/* SPDX-License-Identifier: MIT */
/// Connections, sockets and the library end while messages flow: nothing is lost without a count,
/// broken or repeated, and callbacks may be what ends them.
#include "fault.h"
#include "fault_peer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------ Under way */

struct traffic {
    pthread_t thread;
    sp_socket s;
    atomic_bool stop;
    long long done;
    int rc;
};

/// Sends as fast as it can, until told to stop.
static void *traffic_send(void *arg)
{
    struct traffic *t = arg;

    while (!atomic_load(&t->stop)) {
        t->rc = sp_send(t->s, "0123456789", 10, 0);
        if (t->rc != 0) {
            break;
        }
        t->done++;
    }
    return NULL;
}

static void *traffic_recv(void *arg)
{
    struct traffic *t = arg;
    char buf[16];

    while (!atomic_load(&t->stop)) {
        ssize_t n = sp_recv(t->s, buf, sizeof(buf), 0);

        if (n < 0 && n != SP_ETIMEDOUT) {
            t->rc = (int)n;
            break;
        }
        t->done += n == 10;
    }
    return NULL;
}

/// Connections are closed again and again while messages flow: each message is written, dropped and
/// counted, or still queued, and never lost without a trace.
static void pipes_closed_in_full_flow_lose_nothing_uncounted(void **state)
{
    char url[FAULT_URL];
    sp_socket rx = fault_listen("pair", *state, url);
    sp_socket tx = fault_open("pair");
    struct traffic to = {.s = tx};
    struct traffic from = {.s = rx};
    long long end = proc_now() + 1500;
    int closed = 0;

    FAULT_OK(sp_set_int(tx.id, "reconnect-time-min", 0));
    FAULT_OK(sp_set_int(tx.id, "reconnect-time-max", 0));
    FAULT_OK(sp_set_int(tx.id, "send-timeout", 4 * FAULT_SOON));
    FAULT_OK(sp_set_int(rx.id, "recv-timeout", 100));
    FAULT_OK(sp_dial(tx, url, NULL, 0));
    assert_int_equal(pthread_create(&to.thread, NULL, traffic_send, &to), 0);
    assert_int_equal(pthread_create(&from.thread, NULL, traffic_recv, &from), 0);
    while (proc_now() < end) {
        sp_peer_info info = {.size = sizeof(info)};
        size_t n = 1;

        if (sp_peers(closed % 2 != 0 ? rx : tx, &info, &n) == 0 && n == 1) {
            closed += sp_pipe_close(info.pipe) == 0;
        }
        fault_pause();
    }
    atomic_store(&to.stop, true);
    assert_int_equal(pthread_join(to.thread, NULL), 0);
    assert_true(FAULT_WAIT(fault_stat(tx.id, "tx_queued") == 0, FAULT_SOON));
    atomic_store(&from.stop, true);
    assert_int_equal(pthread_join(from.thread, NULL), 0);
    assert_int_equal(to.rc, 0);
    assert_true(closed > 20);
    FAULT_STAT(tx.id, "tx_accepted", to.done);
    FAULT_AT_REST(tx);
    FAULT_AT_REST(rx);
}

/* ------------------------------------------------------------------ What arrives is whole */

#define PATTERN_MAX 200000

/// A length that differs from number to number: most are small, some need many writes.
static size_t pattern_len(uint32_t n)
{
    return 8 + (n % 50 == 0 ? n * 7919 % (PATTERN_MAX - 8) : n * 31 % 500);
}

static unsigned char pattern_byte(uint32_t n, size_t i)
{
    return (unsigned char)(n * 13 + i * 7 + (i >> 8));
}

static void *pattern_send(void *arg)
{
    struct traffic *t = arg;

    for (uint32_t n = 1; !atomic_load(&t->stop); n++) {
        size_t len = pattern_len(n);
        unsigned char *at;
        sp_msg *m;

        t->rc = sp_msg_new(&m, len);
        if (t->rc != 0) {
            return NULL;
        }
        at = sp_msg_data(m);
        memcpy(at, &n, sizeof(n));
        for (size_t i = sizeof(n); i < len; i++) {
            at[i] = pattern_byte(n, i);
        }
        t->rc = sp_sendmsg(t->s, m, 0);
        if (t->rc != 0) {
            sp_msg_release(m);
            return NULL;
        }
        t->done = n;
    }
    return NULL;
}

/// Whether a message is whole, and newer than the last one.
static bool pattern_fits(const sp_msg *m, uint32_t *last)
{
    const unsigned char *at = sp_msg_view(m);
    uint32_t n = 0;

    if (sp_msg_len(m) < sizeof(n)) {
        return false;
    }
    memcpy(&n, at, sizeof(n));
    if (n <= *last || sp_msg_len(m) != pattern_len(n)) {
        return false;
    }
    *last = n;
    for (size_t i = sizeof(n); i < sp_msg_len(m); i++) {
        if (at[i] != pattern_byte(n, i)) {
            return false;
        }
    }
    return true;
}

/// Connections are closed in the middle of messages: what arrives is whole, in order, and nothing
/// comes twice. (What was in the system's buffers is lost; PAIR promises no more.)
static void closed_connections_break_and_repeat_no_message(void **state)
{
    char url[FAULT_URL];
    sp_socket rx = fault_listen("pair", *state, url);
    sp_socket tx = fault_open("pair");
    struct traffic to = {.s = tx};
    long long end = proc_now() + 1500;
    uint32_t last = 0;
    int closed = 0;
    int got = 0;

    FAULT_OK(sp_set_int(tx.id, "reconnect-time-min", 0));
    FAULT_OK(sp_set_int(tx.id, "reconnect-time-max", 0));
    FAULT_OK(sp_dial(tx, url, NULL, 0));
    assert_int_equal(pthread_create(&to.thread, NULL, pattern_send, &to), 0);
    while (proc_now() < end) {
        sp_peer_info info = {.size = sizeof(info)};
        size_t n = 1;
        sp_msg *m;

        for (int i = 0; i < 20 && sp_recvmsg(rx, &m, SP_NONBLOCK) == 0; i++) {
            assert_true(pattern_fits(m, &last));
            sp_msg_release(m);
            got++;
        }
        if (got / 100 > closed && sp_peers(closed % 2 != 0 ? rx : tx, &info, &n) == 0 && n == 1) {
            closed += sp_pipe_close(info.pipe) == 0;
        }
    }
    atomic_store(&to.stop, true);
    FAULT_OK(sp_close(rx));
    FAULT_OK(sp_close(tx));
    assert_int_equal(pthread_join(to.thread, NULL), 0);
    print_message("%lld sent, %d received, %d connections closed\n", to.done, got, closed);
    assert_true(closed > 10 && got > 500);
}

/// Answers if there is a question (it comes again when the way back is gone); whether the answer is
/// there.
static bool answer_or_answered(sp_socket rep, sp_socket req)
{
    char buf[8];

    if (sp_recv(rep, buf, sizeof(buf), SP_NONBLOCK) == 1) {
        FAULT_OK(sp_send(rep, "!", 1, 0));
    }
    return sp_recv(req, buf, sizeof(buf), SP_NONBLOCK) == 1;
}

/// The same with a REQ and a REP: each question is answered in the end.
static void pipes_closed_under_requests_lose_no_answer(void **state)
{
    char url[FAULT_URL];
    sp_socket rep = fault_listen("rep", *state, url);
    sp_socket req = fault_open("req");
    long long end = proc_now() + 1000;
    int closed = 0;
    int asked = 0;

    FAULT_OK(sp_set_int(req.id, "reconnect-time-min", 0));
    FAULT_OK(sp_set_int(req.id, "reconnect-time-max", 0));
    FAULT_OK(sp_dial(req, url, NULL, 0));
    while (proc_now() < end) {
        sp_peer_info info = {.size = sizeof(info)};
        size_t n = 1;

        FAULT_OK(sp_send(req, "?", 1, 0));
        asked++;
        if (asked % 3 == 0 && sp_peers(asked % 2 != 0 ? rep : req, &info, &n) == 0 && n == 1) {
            closed += sp_pipe_close(info.pipe) == 0;
        }
        assert_true(FAULT_WAIT(answer_or_answered(rep, req), FAULT_SOON));
    }
    assert_true(closed > 10);
    FAULT_AT_REST(req);
    FAULT_AT_REST(rep);
}

/// A socket is closed while others use it in every way.
static void close_in_full_flow(void **state)
{
    for (int i = 0; i < 60; i++) {
        char url[FAULT_URL];
        sp_socket rx = fault_listen("pair", *state, url);
        sp_socket tx = fault_open("pair");
        struct traffic t[4] = {{.s = tx}, {.s = rx}, {.s = rx}, {.s = tx}};

        FAULT_OK(sp_set_int(tx.id, "send-timeout", -1));
        FAULT_OK(sp_set_int(rx.id, "send-timeout", -1));
        FAULT_OK(sp_dial(tx, url, NULL, 0));
        for (int k = 0; k < 4; k++) {
            assert_int_equal(
                pthread_create(&t[k].thread, NULL, k % 2 == 0 ? traffic_send : traffic_recv, &t[k]),
                0);
        }
        assert_true(FAULT_WAIT(fault_stat(rx.id, "rx_delivered") >= 100, FAULT_SOON));
        FAULT_OK(sp_close(i % 2 != 0 ? rx : tx));
        FAULT_OK(sp_close(i % 2 != 0 ? tx : rx));
        for (int k = 0; k < 4; k++) {
            assert_int_equal(pthread_join(t[k].thread, NULL), 0);
            assert_int_equal(t[k].rc, SP_ECLOSED);
        }
    }
}

/* ------------------------------------------------------------------ In callbacks */

struct watching {
    atomic_int adding;
    atomic_int added;
    atomic_int removed;
    atomic_int wrong; ///< calls that may wait and did not say SP_ESTATE
    sp_socket other;
};

static int on_pipe(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    struct watching *w = arg;
    char buf[8];

    if (ev == SP_PIPE_ADDING) {
        atomic_fetch_add(&w->adding, 1);
        return 0;
    }
    if (ev == SP_PIPE_REMOVED) {
        atomic_fetch_add(&w->removed, 1);
        return 0;
    }
    atomic_fetch_add(&w->added, 1);
    atomic_fetch_add(&w->wrong, sp_recv(s, buf, sizeof(buf), 0) != SP_ESTATE);
    atomic_fetch_add(&w->wrong, sp_dial(s, "inproc://nobody", NULL, 0) != SP_ESTATE);
    atomic_fetch_add(&w->wrong, sp_pipe_close(p) != 0);
    return 0;
}

/// Callbacks may close what they are about; each pipe is added once and removed once.
static void callbacks_may_close_their_pipe(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_listen("rep", *state, url);
    struct watching w = {.other = s};

    FAULT_OK(sp_on_pipe(s, on_pipe, &w));
    for (int i = 0; i < 200; i++) {
        struct fault_peer p;

        assert_true(fault_peer_join(&p, url, RAWSP_REQ));
        assert_true(fault_peer_ended(&p, FAULT_SOON));
        fault_peer_close(&p);
    }
    assert_true(FAULT_WAIT(atomic_load(&w.removed) == 200, FAULT_SOON));
    assert_int_equal(atomic_load(&w.adding), 200);
    assert_int_equal(atomic_load(&w.added), 200);
    assert_int_equal(atomic_load(&w.wrong), 0);
    FAULT_OK(sp_on_pipe(s, NULL, NULL));
    FAULT_STAT(s.id, "pipes", 0);
}

static int on_pipe_close_all(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    struct watching *w = arg;

    (void)p;
    if (ev == SP_PIPE_ADDED && atomic_fetch_add(&w->added, 1) == 0) {
        atomic_fetch_add(&w->wrong, sp_close(s) != 0);
    }
    if (ev == SP_PIPE_REMOVED) {
        atomic_fetch_add(&w->removed, 1);
    }
    return 0;
}

/// … and their socket, which then goes in the background.
static void callbacks_may_close_their_socket(void **state)
{
    for (int i = 0; i < 100; i++) {
        char url[FAULT_URL];
        sp_socket s = fault_listen("rep", *state, url);
        struct watching w = {.other = s};
        struct fault_peer p;
        int64_t v;

        FAULT_OK(sp_on_pipe(s, on_pipe_close_all, &w));
        assert_true(fault_peer_join(&p, url, RAWSP_REQ));
        assert_true(fault_peer_ended(&p, FAULT_SOON));
        fault_peer_close(&p);
        assert_true(FAULT_WAIT(sp_get_int(s.id, "linger", &v) == SP_ECLOSED, FAULT_SOON));
        assert_true(FAULT_WAIT(atomic_load(&w.removed) == 1, FAULT_SOON));
        assert_int_equal(atomic_load(&w.wrong), 0);
    }
}

/// Objects are made, used and closed by several threads while the library is ended and starts anew.
static void *make_and_close(void *arg)
{
    struct traffic *t = arg;

    while (!atomic_load(&t->stop)) {
        sp_socket a = {0};
        sp_socket b = {0};
        char url[64];

        (void)snprintf(url, sizeof(url), "inproc://make-%p", arg);
        if (sp_open(&a, "req") == 0 && sp_open(&b, "rep") == 0 && sp_listen(b, url, NULL) == 0 &&
            sp_dial(a, url, NULL, 0) == 0 && sp_send(a, "?", 1, 0) == 0) {
            t->done++;
        }
        (void)sp_close(a);
        (void)sp_close(b);
    }
    return NULL;
}

static void library_may_end_under_everything(void **state)
{
    struct traffic t[3];
    long long end = proc_now() + 1000;
    int ended = 0;

    (void)state;
    memset(t, 0, sizeof(t));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&t[i].thread, NULL, make_and_close, &t[i]), 0);
    }
    // One of them may take as long as a socket lingers.
    while (proc_now() < end || ended <= 10) {
        fault_pause();
        sp_fini();
        ended++;
    }
    for (int i = 0; i < 3; i++) {
        atomic_store(&t[i].stop, true);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(t[i].thread, NULL), 0);
        assert_true(t[i].done > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAULT_BOTH(pipes_closed_in_full_flow_lose_nothing_uncounted),
        FAULT_OVER(pipes_closed_in_full_flow_lose_nothing_uncounted, "inproc"),
        FAULT_BOTH(closed_connections_break_and_repeat_no_message),
        FAULT_OVER(closed_connections_break_and_repeat_no_message, "inproc"),
        FAULT_BOTH(pipes_closed_under_requests_lose_no_answer),
        FAULT_OVER(pipes_closed_under_requests_lose_no_answer, "inproc"),
        FAULT_BOTH(callbacks_may_close_their_pipe),
        FAULT_BOTH(callbacks_may_close_their_socket),
        FAULT_ONE(library_may_end_under_everything),
        FAULT_BOTH(close_in_full_flow),
        FAULT_OVER(close_in_full_flow, "inproc"),
    };

    return cmocka_run_group_tests_name("flow", tests, NULL, NULL);
}
