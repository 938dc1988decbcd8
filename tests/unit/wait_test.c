/* SPDX-License-Identifier: MIT */
/// What calls do while they wait, and what they leave for a moment: corked messages go in time, a
/// thread that polled and stays away is replaced, spinning is what the option says, and what is not
/// needed ends.
#include "check.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define BURST 10

static sp_socket a;
static sp_socket b;

static void burst(sp_socket s)
{
    for (int i = 0; i < BURST; i++) {
        check_ok(sp_send(s, &i, sizeof(i), 0));
    }
}

static void receive_burst(sp_socket s)
{
    for (int i = 0; i < BURST; i++) {
        int v = -1;

        check_rc(sizeof(v), sp_recv(s, &v, sizeof(v), 0));
        assert_int_equal(v, i);
    }
}

/// The sender does not call again: the guard sends what it left.
static void a_burst_arrives_though_the_sender_stops(const char *transport)
{
    check_init(2);
    check_couple(transport, "pair", "pair", &a, &b);
    for (int round = 0; round < 20; round++) {
        burst(a);
        receive_burst(b); // On another socket: the sender's thread looks after its own first.
        burst(a);
        check_stat_is(a.id, "tx_msgs",
                      (2 * round + 2) * BURST); // By nobody's call but the guard's.
        receive_burst(b);
    }
    check_rest(a);
    check_rest(b);
    check_fini();
}

static void corked_messages_go_inproc(void **state)
{
    (void)state;
    a_burst_arrives_though_the_sender_stops("inproc");
}

static void corked_messages_go_ipc(void **state)
{
    (void)state;
    a_burst_arrives_though_the_sender_stops("ipc");
}

static void corked_messages_go_tcp(void **state)
{
    (void)state;
    a_burst_arrives_though_the_sender_stops("tcp");
}

static void corked_messages_go_before_the_close(void **state)
{
    (void)state;
    check_init(2);
    check_couple("tcp", "pair", "pair", &a, &b);
    burst(a);
    check_ok(sp_close(a));
    receive_burst(b);
    check_fini();
}

static long send_burst_and_end(void *arg)
{
    for (int i = 0; i < BURST; i++) {
        if (sp_send(*(sp_socket *)arg, &i, sizeof(i), 0) != SP_OK) {
            return -1;
        }
    }
    return 0;
}

static void corked_messages_go_when_the_thread_ends(void **state)
{
    struct check_call c;

    (void)state;
    check_init(2);
    check_couple("tcp", "pair", "pair", &a, &b);
    check_call_start(&c, send_burst_and_end, &a);
    check_rc(0, check_call_join(&c, CHECK_SOON));
    receive_burst(b);
    check_fini();
}

/// A full queue is not held back by what is corked.
static void corked_messages_give_their_credit_back(void **state)
{
    (void)state;
    check_init(2);
    check_couple("tcp", "pair", "pair", &a, &b);
    check_ok(sp_close(a));
    a = check_open("pair");
    check_ok(sp_set_int(a.id, "send-buffer", 2));
    check_ok(sp_set_int(a.id, "send-timeout", CHECK_SOON));
    check_pipes(b, 0);
    char url[256];
    check_listen(a, "tcp", url, NULL);
    check_ok(sp_dial(b, url, NULL, 0));
    check_pipes(a, 1);
    burst(a);
    receive_burst(b);
    check_fini();
}

static long recv_once(void *arg)
{
    char buf[8];

    return sp_recv(*(sp_socket *)arg, buf, sizeof(buf), 0);
}

/// Two threads wait, one of them polls. It gets its message and does not come back: the other one
/// still gets its own.
static void a_poller_that_stays_away_is_replaced(void **state)
{
    sp_socket c;
    sp_socket d;

    (void)state;
    check_init(2);
    check_couple("tcp", "pair", "pair", &a, &b);
    check_couple("tcp", "pair", "pair", &c, &d);
    for (int round = 0; round < 20; round++) {
        struct check_call first;
        struct check_call second;

        check_call_start(&first, recv_once, round % 2 == 0 ? &b : &d);
        (void)usleep(2000);
        check_call_start(&second, recv_once, round % 2 == 0 ? &d : &b);
        (void)usleep(2000);
        check_ok(sp_send(round % 2 == 0 ? a : c, "1", 1, 0));
        check_rc(1, check_call_join(&first, CHECK_SOON));
        check_ok(sp_send(round % 2 == 0 ? c : a, "2", 1, 0));
        check_rc(1, check_call_join(&second, CHECK_SOON));
    }
    check_fini();
}

static void ping(sp_socket s, sp_socket t)
{
    check_send(s, "ping");
    check_recv(t, "ping");
}

static long answer_pings(void *arg)
{
    char buf[8];
    ssize_t n;

    while ((n = sp_recv(*(sp_socket *)arg, buf, sizeof(buf), 0)) >= 0) {
        if (sp_send(*(sp_socket *)arg, buf, (size_t)n, 0) != SP_OK) {
            return -1;
        }
    }
    return 0;
}

static void spin_time_0_never_spins(void **state)
{
    struct check_call c;

    (void)state;
    check_init(2);
    check_couple("inproc", "pair", "pair", &a, &b);
    check_ok(sp_set_int(a.id, "spin-time", 0));
    check_ok(sp_set_int(b.id, "spin-time", 0));
    check_call_start(&c, answer_pings, &b);
    for (int i = 0; i < 100; i++) {
        ping(a, a);
    }
    check_stat_is(0, "runtime.spins_won", 0);
    check_stat_is(0, "runtime.spins_lost", 0);
    check_ok(sp_close(b));
    check_rc(0, check_call_join(&c, CHECK_SOON));
    check_fini();
}

/// On several CPUs it does; on one never.
static void spin_time_is_kept(void **state)
{
    struct check_call c;
    int64_t spins;

    (void)state;
    check_init(2);
    check_couple("inproc", "pair", "pair", &a, &b);
    check_ok(sp_set_int(a.id, "spin-time", 1000));
    check_call_start(&c, answer_pings, &b);
    for (int i = 0; i < 100; i++) {
        ping(a, a);
    }
    spins = check_stat(0, "runtime.spins_won") + check_stat(0, "runtime.spins_lost");
    assert_true(sysconf(_SC_NPROCESSORS_ONLN) > 1 ? spins >= 0 : spins == 0);
    check_ok(sp_close(b));
    check_rc(0, check_call_join(&c, CHECK_SOON));
    check_fini();
}

static int busy_event(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    (void)s;
    (void)p;
    (void)ev;
    (void)arg;
    (void)usleep(20000);
    return 0;
}

/// Events that take long make workers start; a second after the last one there is one left, and it
/// does nothing.
static void workers_that_are_not_needed_end(void **state)
{
    sp_socket s[4];
    sp_socket t[4];
    struct rusage before;
    struct rusage after;
    int64_t used;

    (void)state;
    check_init(4);
    for (int i = 0; i < 4; i++) {
        char url[64];

        (void)snprintf(url, sizeof(url), "inproc://busy%d", i);
        s[i] = check_open("pair");
        t[i] = check_open("pair");
        check_ok(sp_on_pipe(s[i], busy_event, NULL));
        check_ok(sp_listen(s[i], url, NULL));
        check_ok(sp_dial(t[i], url, NULL, SP_NONBLOCK));
    }
    check_until(check_stat(0, "runtime.threads") > 1);
    for (int i = 0; i < 4; i++) {
        check_pipes(t[i], 1);
    }
    check_stat_is(0, "runtime.threads", 1);
    (void)usleep(300000);
    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    (void)usleep(1000000);
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
    used = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 + after.ru_utime.tv_usec -
           before.ru_utime.tv_usec + (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000 +
           after.ru_stime.tv_usec - before.ru_stime.tv_usec;
    (void)printf("idle for a second: %lld µs of CPU time\n", (long long)used);
#if !defined(__SANITIZE_THREAD__) // It has a thread of its own that wakes all the time.
    assert_int_equal(after.ru_nvcsw - before.ru_nvcsw <= 5, true); // The sleep above is one.
#endif
    check_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(corked_messages_go_inproc),
        cmocka_unit_test(corked_messages_go_ipc),
        cmocka_unit_test(corked_messages_go_tcp),
        cmocka_unit_test(corked_messages_go_before_the_close),
        cmocka_unit_test(corked_messages_go_when_the_thread_ends),
        cmocka_unit_test(corked_messages_give_their_credit_back),
        cmocka_unit_test(a_poller_that_stays_away_is_replaced),
        cmocka_unit_test(spin_time_0_never_spins),
        cmocka_unit_test(spin_time_is_kept),
        cmocka_unit_test(workers_that_are_not_needed_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
