/* SPDX-License-Identifier: MIT */
/// Processes: killed ones, forked ones, signals, and those that send, close and exit.
#include "fault.h"
#include "fault_peer.h"

#include "core/socket.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* ------------------------------------------------------------------ Killed peers */

/// Sends half a message and waits for its end.
static pid_t start_half_sender(const char *url, uint16_t own, size_t announced, size_t sent)
{
    int ready[2];
    char c = 0;
    pid_t pid;

    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        static char body[1 << 20];
        struct fault_peer p;

        if (!fault_peer_join(&p, url, own) || !fault_peer_send(&p, "whole", 5) ||
            !fault_peer_frame(&p, announced) || !fault_peer_put(&p, body, sent) ||
            write(ready[1], "+", 1) != 1) {
            _exit(1);
        }
        for (;;) {
            (void)pause();
        }
    }
    (void)close(ready[1]);
    assert_int_equal(read(ready[0], &c, 1), 1);
    (void)close(ready[0]);
    return pid;
}

static void kill_9_in_mid_message_delivers_nothing_of_it(void **state)
{
    static const size_t sizes[][2] = {
        {100, 1}, {100, 99}, {1 << 20, 1 << 19}, {1 << 20, (1 << 20) - 1}};
    char url[FAULT_URL];
    sp_socket s = fault_listen("pair", *state, url);
    struct fault_peer p;
    char buf[8];

    for (int i = 0; i < 4; i++) {
        pid_t pid = start_half_sender(url, RAWSP_PAIR, sizes[i][0], sizes[i][1]);

        assert_int_equal(sp_recv(s, buf, sizeof(buf), 0), 5);
        FAULT_STAT(s.id, "pipes", 1);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        FAULT_STAT(s.id, "pipes", 0);
        FAULT_STAT(s.id, "listeners.0.disconnect", i + 1);
        FAULT_STAT(s.id, "rx_received", i + 1);
        assert_int_equal(sp_recv(s, buf, sizeof(buf), SP_NONBLOCK), SP_EAGAIN);
        FAULT_AT_REST(s);
    }
    assert_true(fault_peer_join(&p, url, RAWSP_PAIR)); // It goes on.
    assert_true(fault_peer_send(&p, "next", 4));
    assert_int_equal(sp_recv(s, buf, sizeof(buf), 0), 4);
    fault_peer_close(&p);
}

/// A REP of this library that answers until it is killed.
static int role_answer(int argc, char **argv)
{
    sp_socket s = {0};

    FAULT_CHECK(argc == 1);
    FAULT_CHECK(sp_open(&s, "rep") == 0);
    FAULT_CHECK(sp_listen(s, argv[0], NULL) == 0);
    fault_say("ready");
    for (;;) {
        sp_msg *m;

        FAULT_CHECK(sp_recvmsg(s, &m, 0) == 0);
        FAULT_CHECK(sp_sendmsg(s, m, 0) == 0);
    }
    return 0;
}

static void requests_go_on_when_the_answering_process_is_killed(void **state)
{
    char url[FAULT_URL];
    sp_socket req = fault_open("req");
    struct proc other;
    char buf[8];

    fault_place(*state, url);
    FAULT_OK(sp_set_int(req.id, "reconnect-time-min", 10));
    FAULT_OK(sp_set_int(req.id, "reconnect-time-max", 50));
    FAULT_OK(sp_set_int(req.id, "req:resend-tick", 10));
    FAULT_OK(sp_dial(req, url, NULL, SP_NONBLOCK));
    for (int i = 0; i < 5; i++) {
        fault_start(&other, "answer", url, NULL);
        assert_true(proc_wait_text(&other, "ready\n", FAULT_SOON));
        for (int k = 0; k < 20; k++) {
            FAULT_OK(sp_send(req, "ask", 3, 0));
            assert_int_equal(sp_recv(req, buf, sizeof(buf), 0), 3);
        }
        proc_signal(&other, SIGKILL);
        assert_int_equal(proc_wait(&other, FAULT_SOON), 128 + SIGKILL);
        proc_stop(&other);
    }
    FAULT_AT_REST(req);
}

/* ------------------------------------------------------------------ Forked ones */

/// Makes calls in a forked child; how many of them do not say SP_ESTATE.
static int forked_calls(sp_socket s, sp_listener l)
{
    sp_socket other = {0};
    sp_dialer d;
    char *json = NULL;
    sp_msg *m = NULL;
    int64_t v;
    size_t n = 0;
    char buf[8];
    const int got[] = {
        sp_open(&other, "pair"),
        sp_open_raw(&other, "pair"),
        sp_send(s, "x", 1, 0),
        (int)sp_recv(s, buf, sizeof(buf), SP_NONBLOCK),
        sp_recvmsg(s, &m, SP_NONBLOCK),
        sp_listen(s, "tcp://127.0.0.1:0", NULL),
        sp_dial(s, "tcp://127.0.0.1:1", NULL, SP_NONBLOCK),
        sp_dialer_new(&d, s, "tcp://127.0.0.1:1"),
        sp_listener_close(l),
        sp_set_int(s.id, "linger", 0),
        sp_get_int(s.id, "linger", &v),
        sp_set_str(s.id, "name", "child"),
        sp_stats(0, &json),
        sp_stats(s.id, &json),
        sp_peers(s, NULL, &n),
        sp_on_pipe(s, NULL, NULL),
        sp_init(NULL),
        sp_run_once(0),
        sp_plugins(NULL, &json),
        sp_plugin_load("/nonexistent.so"),
        sp_msg_new(&m, 10),
        sp_close(s),
    };

    int wrong = 0;

    for (size_t i = 0; i < sizeof(got) / sizeof(got[0]); i++) {
        if (got[i] != SP_ESTATE) {
            (void)fprintf(stderr, "call %zu in the child gives %d\n", i + 1, got[i]);
            wrong++;
        }
    }
    sp_fini(); // Does nothing, and ends.
    return wrong;
}

static void forked_child_may_not_call_and_parent_does_not_notice(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("pair");
    struct fault_peer p;
    sp_listener l;
    char buf[8];
    int status = 0;
    size_t n = sizeof(url);
    pid_t pid;

    fault_place(*state, url);
    FAULT_OK(sp_listen(s, url, &l));
    FAULT_OK(sp_get_str(l.id, "url", url, &n));
    assert_true(fault_peer_join(&p, url, RAWSP_PAIR));
    for (int i = 0; i < 10; i++) {
        pid = fork();
        if (pid == 0) {
            _exit(forked_calls(s, l));
        }
        // Meanwhile and afterwards all goes on here.
        assert_true(fault_peer_send(&p, "hi", 2));
        assert_int_equal(sp_recv(s, buf, sizeof(buf), 0), 2);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        FAULT_OK(sp_send(s, "ho", 2, 0));
        assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), FAULT_SOON), 2);
    }
    FAULT_STAT(s.id, "pipes", 1);
    // A child that ends in the ordinary way takes nothing with it.
    pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    FAULT_OK(sp_close(s));
    assert_true(fault_peer_ended(&p, FAULT_SOON));
    fault_peer_close(&p);
}

/// Descriptors do not leak into programs that the application starts.
static void descriptors_are_closed_on_exec(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_listen("rep", *state, url);
    sp_socket req = fault_open("req");
    const char *const argv[] = {
        "sh", "-c", "ls -l /proc/self/fd | grep -c -e socket -e eventpoll -e eventfd", NULL};
    struct proc other;

    FAULT_OK(sp_dial(req, url, NULL, 0));
    FAULT_STAT(s.id, "pipes", 1);
    memset(&other, 0, sizeof(other));
    assert_int_equal(proc_start(&other, argv), 0);
    assert_int_equal(proc_wait(&other, FAULT_SOON), 1); // grep found none.
    assert_string_equal(other.output.data, "0\n");
    proc_stop(&other);
}

/* ------------------------------------------------------------------ Signals */

static _Atomic int alarms;

static void on_alarm(int signal_number)
{
    (void)signal_number;
    atomic_fetch_add(&alarms, 1);
}

/// A signal each ms, whose handler does not restart calls.
static void alarms_start(void)
{
    struct sigaction act = {.sa_handler = on_alarm};
    struct itimerval each = {{0, 1000}, {0, 1000}};

    atomic_store(&alarms, 0);
    assert_int_equal(sigaction(SIGALRM, &act, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &each, NULL), 0);
}

static void alarms_stop(void)
{
    struct itimerval off = {{0, 0}, {0, 0}};

    (void)setitimer(ITIMER_REAL, &off, NULL);
    (void)signal(SIGALRM, SIG_IGN);
}

#define MESSAGES 10000

struct sender {
    pthread_t thread;
    sp_socket s;
    int rc;
};

static void *send_numbers(void *arg)
{
    struct sender *t = arg;

    for (uint32_t i = 0; i < MESSAGES && t->rc == 0; i++) {
        t->rc = sp_send(t->s, &i, sizeof(i), 0);
    }
    return NULL;
}

static void signals_disturb_neither_messages_nor_waiting(void **state)
{
    char url[FAULT_URL];
    sp_socket rx = fault_listen("pair", *state, url);
    sp_socket tx = fault_open("pair");
    struct sender t = {.s = tx};
    char path[FAULT_URL];
    long long start;
    char buf[8];

    alarms_start();
    FAULT_OK(sp_dial(tx, url, NULL, 0));
    assert_int_equal(pthread_create(&t.thread, NULL, send_numbers, &t), 0);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        uint32_t got = UINT32_MAX;

        assert_int_equal(sp_recv(rx, &got, sizeof(got), 0), sizeof(got));
        assert_int_equal(got, i);
    }
    assert_int_equal(pthread_join(t.thread, NULL), 0);
    assert_int_equal(t.rc, 0);
    // Waiting takes its time, neither more nor less.
    FAULT_OK(sp_set_int(rx.id, "recv-timeout", 100));
    start = proc_now();
    assert_int_equal(sp_recv(rx, buf, sizeof(buf), 0), SP_ETIMEDOUT);
    assert_true(proc_now() - start >= 100 && proc_now() - start < 600);
    // Calls of every kind.
    for (int i = 0; i < 100; i++) {
        sp_socket a = fault_open("rep");
        sp_socket b = fault_open("req");

        fault_place(*state, path);
        FAULT_OK(sp_listen(a, path, NULL));
        FAULT_OK(sp_dial(b, path, NULL, 0));
        FAULT_OK(sp_send(b, "?", 1, 0));
        assert_int_equal(sp_recv(a, buf, sizeof(buf), 0), 1);
        FAULT_OK(sp_close(a));
        FAULT_OK(sp_close(b));
    }
    alarms_stop();
    assert_true(atomic_load(&alarms) > 50);
    FAULT_AT_REST(rx);
    FAULT_AT_REST(tx);
}

/// The library's threads take no signals: they are all handled by the application's thread.
static _Atomic int foreign; ///< handled elsewhere
static pthread_t main_thread;

static void on_user_signal(int signal_number)
{
    (void)signal_number;
    if (!pthread_equal(pthread_self(), main_thread)) {
        atomic_fetch_add(&foreign, 1);
    }
    atomic_fetch_add(&alarms, 1);
}

static void threads_of_the_library_take_no_signals(void **state)
{
    struct sigaction act = {.sa_handler = on_user_signal};
    char url[FAULT_URL];
    sp_socket s = fault_listen("pair", *state, url);
    char buf[4];

    main_thread = pthread_self();
    atomic_store(&alarms, 0);
    assert_int_equal(sigaction(SIGUSR1, &act, NULL), 0);
    FAULT_OK(sp_set_int(s.id, "recv-timeout", 1));
    for (int i = 0; i < 200; i++) {
        assert_int_equal(kill(getpid(), SIGUSR1), 0);
        assert_int_equal(sp_recv(s, buf, sizeof(buf), 0), SP_ETIMEDOUT);
    }
    assert_true(FAULT_WAIT(atomic_load(&alarms) > 0, FAULT_SOON));
    assert_int_equal(atomic_load(&foreign), 0);
    (void)signal(SIGUSR1, SIG_DFL);
}

/// With the default action of SIGPIPE, which ends the process.
static int role_write_to_closed(int argc, char **argv)
{
    sp_socket s = {0};

    FAULT_CHECK(argc == 1);
    FAULT_CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    FAULT_CHECK(sp_open(&s, "pair") == 0);
    FAULT_CHECK(sp_set_int(s.id, "linger", 0) == 0);
    FAULT_CHECK(sp_set_int(s.id, "reconnect-time-min", 1) == 0);
    FAULT_CHECK(sp_set_int(s.id, "reconnect-time-max", 1) == 0);
    FAULT_CHECK(sp_set_int(s.id, "send-timeout", 4 * FAULT_SOON) == 0);
    FAULT_CHECK(sp_dial(s, argv[0], NULL, SP_NONBLOCK) == 0);
    // The system takes a lot for a peer that is gone: until some have gone.
    do {
        for (int i = 0; i < 1000; i++) {
            FAULT_CHECK(sp_send(s, "0123456789012345678901234567890123456789", 40, 0) == 0);
        }
    } while (fault_stat(s.id, "dialers.0.disconnect") < 5);
    sp_fini();
    return 0;
}

static void writing_to_closed_peers_raises_no_signal(void **state)
{
    char url[FAULT_URL];
    struct proc other;
    struct fault_peer p;
    int listener;
    int closed = 0;

    fault_place(*state, url);
    listener = fault_peer_listen(url);
    fault_start(&other, "write-to-closed", url, NULL);
    // Takes connections and closes them in the middle, as long as the other one writes.
    while (proc_wait(&other, 0) < 0 && closed < 100000) {
        if (fault_peer_accept(&p, listener, url, 20)) {
            char buf[64];

            if (fault_peer_hello(&p, RAWSP_PAIR)) {
                for (int i = 0; i < 50 && fault_peer_recv(&p, buf, sizeof(buf), 100) > 0; i++) {
                }
            }
            fault_peer_close(&p);
            closed++;
        }
    }
    assert_true(closed > 1);
    fault_finish(&other);
    (void)close(listener);
}

/* ------------------------------------------------------------------ Send, close, exit */

/// Sends and closes at once; what was not written is counted.
static int role_send_and_exit(int argc, char **argv)
{
    char body[100] = {0};
    sp_socket s = {0};

    FAULT_CHECK(argc >= 1);
    FAULT_CHECK(sp_open(&s, "pair") == 0);
    FAULT_CHECK(sp_set_int(s.id, "linger", 10000) == 0);
    FAULT_CHECK(sp_set_int(s.id, "send-buffer", 1000) == 0);
    FAULT_CHECK(sp_dial(s, argv[0], NULL, 0) == 0);
    for (uint32_t i = 0; i < 1000; i++) {
        memcpy(body, &i, sizeof(i));
        FAULT_CHECK(sp_send(s, body, argc > 1 ? sizeof(body) : sizeof(i), 0) == 0);
    }
    FAULT_CHECK(sp_close(s) == 0);
    return 0; // Without sp_fini.
}

/// The same, with the end of the library instead of a close.
static int role_send_and_end(int argc, char **argv)
{
    sp_socket s = {0};

    FAULT_CHECK(argc == 1);
    FAULT_CHECK(sp_open(&s, "pair") == 0);
    FAULT_CHECK(sp_set_int(s.id, "linger", 10000) == 0);
    FAULT_CHECK(sp_dial(s, argv[0], NULL, 0) == 0);
    for (uint32_t i = 0; i < 1000; i++) {
        FAULT_CHECK(sp_send(s, &i, sizeof(i), 0) == 0);
    }
    sp_fini();
    return 0;
}

static void expect_thousand(sp_socket s)
{
    char buf[128];

    for (uint32_t i = 0; i < 1000; i++) {
        assert_true(sp_recv(s, buf, sizeof(buf), 0) >= (ssize_t)sizeof(i));
        assert_memory_equal(buf, &i, sizeof(i));
    }
    assert_int_equal(sp_recv(s, buf, sizeof(buf), SP_NONBLOCK), SP_EAGAIN);
}

static void what_was_sent_before_close_and_exit_arrives(void **state)
{
    static const char *const names[] = {"send-and-exit", "send-and-exit", "send-and-end"};

    for (int i = 0; i < 9; i++) {
        char url[FAULT_URL];
        sp_socket s = fault_listen("pair", *state, url);
        struct proc other;

        FAULT_OK(sp_set_int(s.id, "recv-buffer", i >= 3 && i < 6 ? 1000 : 128));
        fault_start(&other, names[i % 3], url, i % 3 == 1 ? "long" : NULL);
        if (i >= 3 && i < 6) {
            fault_finish(&other); // Before anything is received.
            expect_thousand(s);
        } else {
            expect_thousand(s);
            fault_finish(&other);
        }
        FAULT_STAT(s.id, "rx_delivered", 1000);
        FAULT_STAT(s.id, "pipes", 0);
        FAULT_AT_REST(s);
        FAULT_OK(sp_close(s));
    }
}

static void *close_it(void *arg)
{
    struct sender *t = arg;

    t->rc = sp_close(t->s);
    return NULL;
}

/// Fills the way to a peer that does not read; how many messages were accepted.
static long long fill(const char *transport, sp_socket *s, struct fault_peer *p, void *body,
                      size_t len)
{
    char url[FAULT_URL];
    long long sent = 0;

    *s = fault_listen("pair", transport, url);
    assert_true(fault_peer_join(p, url, RAWSP_PAIR));
    FAULT_STAT(s->id, "pipes", 1);
    while (FAULT_WAIT(sp_send(*s, body, len, SP_NONBLOCK) == 0, 50)) {
        sent++;
    }
    assert_true(fault_stat(s->id, "tx_msgs") < sent);
    return sent;
}

/// Lingering waits for a peer that begins to read late, and loses nothing.
static void lingering_waits_for_a_slow_reader(void **state)
{
    static char body[10000];
    static char buf[10000];
    struct fault_peer p;
    struct sender closer = {0};
    long long sent = fill(*state, &closer.s, &p, body, sizeof(body));

    FAULT_OK(sp_set_int(closer.s.id, "linger", 4 * FAULT_SOON));
    assert_int_equal(pthread_create(&closer.thread, NULL, close_it, &closer), 0);
    assert_true(FAULT_WAIT(sp_send(closer.s, body, 1, SP_NONBLOCK) == SP_ECLOSED, FAULT_SOON));
    for (long long i = 0; i < sent; i++) {
        assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), FAULT_SOON), sizeof(body));
    }
    assert_true(fault_peer_ended(&p, FAULT_SOON));
    assert_int_equal(pthread_join(closer.thread, NULL), 0);
    assert_int_equal(closer.rc, 0);
    fault_peer_close(&p);
}

/// The socket behind a handle, held, to look at its counters after its end.
static struct sp__sock *hold(sp_socket s)
{
    struct sp__object *obj = NULL;

    assert_int_equal(sp__enter(s.id, SP__KIND_SOCKET, &obj), 0);
    sp__hold(obj);
    sp__leave();
    return SP__CONTAINER(obj, struct sp__sock, obj);
}

/// When time is over the rest is dropped and counted, and close takes no longer.
static void lingering_ends_in_time_and_counts_the_rest(void **state)
{
    static char body[10000];

    for (int linger = 0; linger <= 200; linger += 200) {
        struct fault_peer p;
        sp_socket s;
        long long sent = fill(*state, &s, &p, body, sizeof(body));
        struct sp__sock *sock = hold(s);
        long long start;
        long long written;

        FAULT_OK(sp_set_int(s.id, "linger", linger));
        start = proc_now();
        FAULT_OK(sp_close(s));
        assert_in_range(proc_now() - start, linger, linger + 1000);
        written = (long long)sp__counted(&sock->tx_msgs);
        assert_int_equal(sp__counted(&sock->accepted), sent);
        assert_int_equal(sp__counted(&sock->drops_out[SP_DISCARD_CLOSED]), sent - written);
        assert_true(written < sent);
        sp__drop(&sock->obj);
        fault_peer_close(&p);
    }
}

/// Without any peer close waits no longer than it may, and counts.
static void lingering_without_a_peer_ends_in_time(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("req");
    struct sp__sock *sock = hold(s);
    struct fault_peer p;
    long long start;

    fault_place(*state, url);
    FAULT_OK(sp_close(fault_open("req")));
    FAULT_OK(sp_set_int(s.id, "linger", 200));
    assert_int_equal(sp_send(s, "?", 1, SP_NONBLOCK), SP_ENOPEER);
    FAULT_OK(sp_listen(s, url, NULL));
    assert_true(fault_peer_join(&p, url, RAWSP_REP));
    FAULT_OK(sp_send(s, "?", 1, 0));
    fault_peer_close(&p);
    FAULT_STAT(s.id, "pipes", 0);
    start = proc_now();
    FAULT_OK(sp_close(s));
    assert_true(proc_now() - start < 1200);
    assert_int_equal(sp__counted(&sock->accepted) + sp__counted(&sock->copies),
                     sp__counted(&sock->tx_msgs) +
                         sp__counted(&sock->drops_out[SP_DISCARD_CLOSED]) +
                         sp__counted(&sock->drops_out[SP_DISCARD_PEER_GONE]) +
                         sp__counted(&sock->drops_out[SP_DISCARD_CANCELED]));
    sp__drop(&sock->obj);
}

static const struct fault_role roles[] = {
    {"answer", role_answer},
    {"write-to-closed", role_write_to_closed},
    {"send-and-exit", role_send_and_exit},
    {"send-and-end", role_send_and_end},
};

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FAULT_BOTH(kill_9_in_mid_message_delivers_nothing_of_it),
        FAULT_BOTH(requests_go_on_when_the_answering_process_is_killed),
        FAULT_BOTH(forked_child_may_not_call_and_parent_does_not_notice),
        FAULT_BOTH(descriptors_are_closed_on_exec),
        FAULT_BOTH(signals_disturb_neither_messages_nor_waiting),
        FAULT_BOTH(threads_of_the_library_take_no_signals),
        FAULT_BOTH(writing_to_closed_peers_raises_no_signal),
        FAULT_BOTH(what_was_sent_before_close_and_exit_arrives),
        FAULT_BOTH(lingering_waits_for_a_slow_reader),
        FAULT_BOTH(lingering_ends_in_time_and_counts_the_rest),
        FAULT_BOTH(lingering_without_a_peer_ends_in_time),
    };

    fault_roles(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
