/* SPDX-License-Identifier: MIT */
/// Closing what is in use: blocked calls return SP_ECLOSED soon, from any thread, ten thousand
/// times; what is closed stays closed, and its place is free again.
#include "fault.h"
#include "fault_peer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/// Rounds of one kind of call; with several threads a round, ten thousand closed calls in all.
#define ROUNDS 850
#define CALLERS 4

/// How long a closed call may take to return, ms; a lost wake-up takes for ever. Sanitizers slow
/// everything down, and then other work on the machine counts more.
#define AT_ONCE (FAULT_SANITIZED ? 4000 : 1000)

/* ------------------------------------------------------------------ Blocked calls */

struct blocked {
    pthread_t thread;
    sp_socket s;
    const char *url;
    int (*call)(struct blocked *b);
    atomic_bool began;
    int rc;
    long long ended;
};

static int call_recv(struct blocked *b)
{
    char buf[8];

    return (int)sp_recv(b->s, buf, sizeof(buf), 0);
}

/// Sends until it blocks, and then until it is closed.
static int call_send(struct blocked *b)
{
    int rc;

    do {
        rc = sp_send(b->s, "message", 7, 0);
    } while (rc == 0);
    return rc;
}

static int call_dial(struct blocked *b)
{
    return sp_dial(b->s, b->url, NULL, 0);
}

static void *blocked_main(void *arg)
{
    struct blocked *b = arg;

    atomic_store(&b->began, true);
    b->rc = b->call(b);
    b->ended = proc_now();
    return NULL;
}

static void *close_main(void *arg)
{
    struct blocked *b = arg;

    b->rc = sp_close(b->s);
    return NULL;
}

/// Closes a socket under CALLERS calls, after a little while that differs from round to round: from
/// before they block until they sleep.
static void close_under(sp_socket s, const char *url, int (*call)(struct blocked *b), int round)
{
    struct blocked b[CALLERS];
    long long start;

    memset(b, 0, sizeof(b));
    for (int i = 0; i < CALLERS; i++) {
        b[i] = (struct blocked){.s = s, .url = url, .call = call};
        assert_int_equal(pthread_create(&b[i].thread, NULL, blocked_main, &b[i]), 0);
    }
    for (int i = 0; i < CALLERS && round % 3 != 0; i++) {
        assert_true(FAULT_WAIT(atomic_load(&b[i].began), FAULT_SOON));
    }
    if (round % 3 == 2) {
        fault_pause(); // Most sleep by now; if not, the test is no less true.
    }
    start = proc_now();
    assert_int_equal(sp_close(s), 0);
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(b[i].thread, NULL), 0);
        assert_int_equal(b[i].rc, SP_ECLOSED);
        assert_in_range(b[i].ended - start, 0, AT_ONCE);
    }
}

static void close_ends_blocked_receives(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        sp_socket s = fault_open("pair");

        FAULT_OK(sp_set_int(s.id, "recv-timeout", -1));
        close_under(s, NULL, call_recv, i);
    }
}

static void close_ends_blocked_receives_of_a_connected_socket(void **state)
{
    for (int i = 0; i < ROUNDS / 10; i++) {
        char url[FAULT_URL];
        sp_socket s = fault_listen("pair", *state, url);
        struct fault_peer p;

        FAULT_OK(sp_set_int(s.id, "recv-timeout", -1));
        assert_true(fault_peer_join(&p, url, RAWSP_PAIR));
        close_under(s, NULL, call_recv, i);
        assert_true(fault_peer_ended(&p, FAULT_SOON));
        fault_peer_close(&p);
    }
}

static void close_ends_blocked_sends(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        sp_socket s = fault_open("pair"); // Without a peer there is no room.

        FAULT_OK(sp_set_int(s.id, "send-timeout", -1));
        close_under(s, NULL, call_send, i);
    }
}

static void close_ends_blocked_sends_of_a_connected_socket(void **state)
{
    for (int i = 0; i < ROUNDS / 10; i++) {
        char url[FAULT_URL];
        sp_socket s = fault_listen("pair", *state, url);
        struct fault_peer p;

        FAULT_OK(sp_set_int(s.id, "send-timeout", -1));
        assert_true(fault_peer_join(&p, url, RAWSP_PAIR));
        close_under(s, NULL, call_send, i);
        assert_true(fault_peer_ended(&p, FAULT_SOON));
        fault_peer_close(&p);
    }
}

/// Dials a listener that never says hello.
static void close_ends_blocked_dials(void **state)
{
    char url[FAULT_URL];
    int listener;

    fault_place(*state, url);
    listener = fault_peer_listen(url);
    assert_true(listener >= 0);
    for (int i = 0; i < ROUNDS / 2; i++) {
        sp_socket s = fault_open("pair");
        struct fault_peer p;

        close_under(s, url, call_dial, i);
        while (fault_peer_accept(&p, listener, url, 0)) {
            fault_peer_close(&p);
        }
    }
    (void)close(listener);
}

/// A socket that lingers for what it cannot write must not keep who waits for a dial.
static void close_ends_a_blocked_dial_while_it_lingers(void **state)
{
    static char body[60000];
    char url[FAULT_URL];
    char silent[FAULT_URL];
    sp_socket s = fault_listen("pair", *state, url);
    struct blocked b = {.s = s, .url = silent, .call = call_dial};
    struct fault_peer p;
    struct blocked closer = {.s = s};
    int listener;
    long long start;

    fault_place(*state, silent);
    listener = fault_peer_listen(silent);
    assert_true(listener >= 0);
    assert_true(fault_peer_join(&p, url, RAWSP_PAIR));
    FAULT_STAT(s.id, "pipes", 1);
    while (FAULT_WAIT(sp_send(s, body, sizeof(body), SP_NONBLOCK) == 0, 50)) {
    }
    FAULT_OK(sp_set_int(s.id, "linger", 10000));
    assert_int_equal(pthread_create(&b.thread, NULL, blocked_main, &b), 0);
    assert_true(FAULT_WAIT(fault_stat(s.id, "dialers.0.connect") == 0, FAULT_SOON));
    start = proc_now();
    assert_int_equal(pthread_create(&closer.thread, NULL, close_main, &closer), 0);
    assert_int_equal(pthread_join(b.thread, NULL), 0);
    assert_true(fault_peer_ended(&p, 4 * FAULT_SOON)); // Reads, so lingering ends.
    assert_int_equal(pthread_join(closer.thread, NULL), 0);
    (void)close(listener);
    fault_peer_close(&p);
    assert_int_equal(b.rc, SP_ECLOSED);
    assert_in_range(b.ended - start, 0, AT_ONCE);
}

static void *fini_main(void *arg)
{
    (void)arg;
    sp_fini();
    return NULL;
}

static void end_of_the_library_ends_blocked_calls(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct blocked b[3];
        pthread_t ender;

        memset(b, 0, sizeof(b));
        for (int k = 0; k < 3; k++) {
            b[k] = (struct blocked){.s = fault_open("pair"),
                                    .call = k == 1 ? call_send : call_recv};
            FAULT_OK(sp_set_int(b[k].s.id, "recv-timeout", -1));
            FAULT_OK(sp_set_int(b[k].s.id, "send-timeout", -1));
            assert_int_equal(pthread_create(&b[k].thread, NULL, blocked_main, &b[k]), 0);
        }
        for (int k = 0; k < 3; k++) {
            assert_true(FAULT_WAIT(atomic_load(&b[k].began), FAULT_SOON));
        }
        assert_int_equal(pthread_create(&ender, NULL, fini_main, NULL), 0);
        for (int k = 0; k < 3; k++) {
            assert_int_equal(pthread_join(b[k].thread, NULL), 0);
            assert_int_equal(b[k].rc, SP_ECLOSED);
        }
        assert_int_equal(pthread_join(ender, NULL), 0);
    }
}

/* ------------------------------------------------------------------ Closed handles */

/// Every call on a closed handle says so.
static void expect_closed(sp_socket s)
{
    char buf[8];
    size_t n = sizeof(buf);
    int64_t v;
    char *json = NULL;
    sp_listener l;
    sp_dialer d;
    sp_msg *m;
    size_t peers = 0;

    assert_int_equal(sp_close(s), SP_ECLOSED);
    assert_int_equal(sp_send(s, "x", 1, 0), SP_ECLOSED);
    assert_int_equal(sp_recv(s, buf, sizeof(buf), 0), SP_ECLOSED);
    assert_int_equal(sp_recvmsg(s, &m, SP_NONBLOCK), SP_ECLOSED);
    FAULT_OK(sp_msg_new(&m, 1));
    assert_int_equal(sp_sendmsg(s, m, 0), SP_ECLOSED);
    sp_msg_release(m); // Still ours.
    assert_int_equal(sp_listen(s, "tcp://127.0.0.1:0", &l), SP_ECLOSED);
    assert_int_equal(sp_dial(s, "tcp://127.0.0.1:1", &d, SP_NONBLOCK), SP_ECLOSED);
    assert_int_equal(sp_set_int(s.id, "recv-timeout", 1), SP_ECLOSED);
    assert_int_equal(sp_get_int(s.id, "recv-timeout", &v), SP_ECLOSED);
    assert_int_equal(sp_get_str(s.id, "name", buf, &n), SP_ECLOSED);
    assert_int_equal(sp_stats(s.id, &json), SP_ECLOSED);
    assert_int_equal(sp_peers(s, NULL, &peers), SP_ECLOSED);
    assert_int_equal(sp_on_pipe(s, NULL, NULL), SP_ECLOSED);
}

static void closed_handles_say_so(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_listen("rep", *state, url);
    sp_socket req = fault_open("req");
    sp_listener l;
    sp_dialer d;
    sp_peer_info info = {.size = sizeof(info)};
    size_t n = 1;
    char other[FAULT_URL];

    fault_place(*state, other);
    FAULT_OK(sp_listen(s, other, &l));
    FAULT_OK(sp_dial(req, url, &d, 0));
    FAULT_OK(sp_peers(req, &info, &n));
    assert_int_equal(n, 1);
    FAULT_OK(sp_pipe_close(info.pipe));
    assert_true(FAULT_WAIT(sp_pipe_close(info.pipe) == SP_ECLOSED, FAULT_SOON));
    assert_int_equal(sp_pipe_socket(info.pipe).id, 0);
    assert_int_equal(sp_pipe_dialer(info.pipe).id, 0);
    FAULT_OK(sp_listener_close(l));
    assert_int_equal(sp_listener_close(l), SP_ECLOSED);
    assert_int_equal(sp_listener_start(l), SP_ECLOSED);
    FAULT_OK(sp_dialer_close(d));
    assert_int_equal(sp_dialer_close(d), SP_ECLOSED);
    assert_int_equal(sp_dialer_start(d, 0), SP_ECLOSED);
    FAULT_OK(sp_close(s));
    expect_closed(s);
    FAULT_OK(sp_close(req));
    // Their places in the table are used again; the old handles stay closed.
    for (int i = 0; i < 10; i++) {
        sp_socket again = fault_open("rep");

        assert_true(again.id != s.id);
        expect_closed(s);
        FAULT_OK(sp_close(again));
    }
}

static void wrong_handles_are_told_from_closed_ones(void **state)
{
    sp_socket s = fault_open("pair");
    sp_listener l = {s.id};
    sp_pipe p = {s.id};
    sp_socket none = {0};
    sp_socket junk = {UINT64_C(0xdeadbeefdeadbeef)};
    sp_socket far = {UINT64_C(0x01000001ffffffff)};
    char *json;

    (void)state;
    assert_int_equal(sp_listener_close(l), SP_EINVAL);
    assert_int_equal(sp_pipe_close(p), SP_EINVAL);
    assert_int_equal(sp_close(none), SP_EINVAL);
    assert_int_equal(sp_close(junk), SP_EINVAL);
    assert_int_equal(sp_close(far), SP_EINVAL);
    assert_int_equal(sp_send(none, "x", 1, 0), SP_EINVAL);
    assert_int_equal(sp_set_int(junk.id, "linger", 0), SP_EINVAL);
    assert_int_equal(sp_stats(junk.id, &json), SP_EINVAL);
    FAULT_OK(sp_close(s));
}

/// Of many that close one socket, one succeeds and none hangs.
static void one_of_many_closes_succeeds(void **state)
{
    for (int i = 0; i < 300; i++) {
        char url[FAULT_URL];
        sp_socket s = fault_listen("pair", *state, url);
        struct blocked b[CALLERS];
        int done = 0;

        memset(b, 0, sizeof(b));
        for (int k = 0; k < CALLERS; k++) {
            b[k].s = s;
            assert_int_equal(pthread_create(&b[k].thread, NULL, close_main, &b[k]), 0);
        }
        for (int k = 0; k < CALLERS; k++) {
            assert_int_equal(pthread_join(b[k].thread, NULL), 0);
            done += b[k].rc == 0;
            assert_true(b[k].rc == 0 || b[k].rc == SP_ECLOSED);
        }
        assert_int_equal(done, 1);
    }
}

/* ------------------------------------------------------------------ Places that are free again */

static void place_is_free_after_close(void **state)
{
    char url[FAULT_URL];

    fault_place(*state, url);
    for (int i = 0; i < 100; i++) {
        sp_socket rep = fault_open("rep");
        sp_socket req = fault_open("req");
        char buf[8];

        FAULT_OK(sp_listen(rep, url, NULL));
        FAULT_OK(sp_dial(req, url, NULL, 0));
        FAULT_OK(sp_send(req, "?", 1, 0));
        assert_int_equal(sp_recv(rep, buf, sizeof(buf), 0), 1);
        FAULT_OK(sp_close(i % 2 != 0 ? req : rep));
        FAULT_OK(sp_close(i % 2 != 0 ? rep : req));
    }
}

/// Closing a listener does not block; the place is free for another socket when it returned.
static void place_is_free_after_a_listener_was_closed(void **state)
{
    sp_socket a = fault_open("rep");
    sp_socket b = fault_open("rep");
    char url[FAULT_URL];
    int taken = 0;

    fault_place(*state, url);
    for (int i = 0; i < 100; i++) {
        struct fault_peer p;
        sp_listener l;
        int rc;

        rc = sp_listen(i % 2 != 0 ? a : b, url, &l);
        taken += rc == -EADDRINUSE;
        assert_true(rc == 0 || rc == -EADDRINUSE);
        if (rc == 0) {
            assert_true(fault_peer_join(&p, url, RAWSP_REQ));
            fault_peer_close(&p);
            FAULT_OK(sp_listener_close(l));
        }
    }
    assert_int_equal(taken, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAULT_ONE(close_ends_blocked_receives),
        FAULT_BOTH(close_ends_blocked_receives_of_a_connected_socket),
        FAULT_ONE(close_ends_blocked_sends),
        FAULT_BOTH(close_ends_blocked_sends_of_a_connected_socket),
        FAULT_BOTH(close_ends_blocked_dials),
        FAULT_BOTH(close_ends_a_blocked_dial_while_it_lingers),
        FAULT_ONE(end_of_the_library_ends_blocked_calls),
        FAULT_BOTH(closed_handles_say_so),
        FAULT_ONE(wrong_handles_are_told_from_closed_ones),
        FAULT_BOTH(one_of_many_closes_succeeds),
        FAULT_BOTH(place_is_free_after_close),
        FAULT_OVER(place_is_free_after_close, "inproc"),
        FAULT_BOTH(place_is_free_after_a_listener_was_closed),
    };

    return cmocka_run_group_tests_name("close", tests, NULL, NULL);
}
