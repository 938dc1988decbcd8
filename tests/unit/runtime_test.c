/* SPDX-License-Identifier: MIT */
/// The runtime: start and end, again and again; blocked calls at the end; "threads" = 0 driven by
/// the application; in-place off; few threads, started late.
#include "check.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static sp_socket a;
static sp_socket b;

static void init_twice_is_estate(void **state)
{
    (void)state;
    sp_fini();
    check_ok(sp_init(NULL));
    check_detail(SP_ESTATE, "init: the library is running already", sp_init(NULL));
    sp_fini();
    check_ok(sp_close(check_open("pair"))); // Starts it too.
    check_rc(SP_ESTATE, sp_init(NULL));
    sp_fini();
    sp_fini();
    check_ok(sp_init(NULL));
    sp_fini();
    sp_fini();
}

static void fini_without_a_start_does_nothing(void **state)
{
    (void)state;
    sp_fini();
    sp_fini();
    sp_config_free(NULL);
    sp_free(NULL);
    assert_non_null(sp_version());
}

static void library_works_again_after_fini(void **state)
{
    int fds;
    int threads = 0;

    (void)state;
    sp_fini();
    fds = check_fds();
    for (int i = 0; i < 50; i++) {
        check_couple(i % 3 == 0 ? "tcp" : "inproc", "pair", "pair", &a, &b);
        check_send(a, "x");
        check_recv(b, "x");
        sp_fini();
        check_rc(SP_ECLOSED, sp_send(a, "x", 1, SP_NONBLOCK));
        check_rc(SP_ECLOSED, sp_close(b));
        assert_int_equal(check_fds() <= fds + 2, 1);
        if (i == 0) {
            threads = check_threads(); // ThreadSanitizer has one of its own, from the first one on.
        }
    }
    sp_fini();
    assert_int_equal(check_fds(), fds);
    check_until(check_threads() == threads);
}

static long block_recv(void *arg)
{
    char buf[8];

    return sp_recv(*(sp_socket *)arg, buf, sizeof(buf), 0);
}

static long block_send(void *arg)
{
    int rc;

    do {
        rc = sp_send(*(sp_socket *)arg, "x", 1, 0);
    } while (rc == SP_OK);
    return rc;
}

/// Blocked calls of other threads return, and fini waits until they have left.
static void fini_wakes_blocked_calls(void **state)
{
    (void)state;
    for (int threads = 0; threads < 3; threads += 2) {
        for (int i = 0; i < 20; i++) {
            struct check_call c[4];
            int64_t start_at;

            check_init(threads);
            check_couple("inproc", "pair", "pair", &a, &b);
            check_ok(sp_set_int(a.id, "linger", 0));
            check_ok(sp_set_int(b.id, "linger", 0));
            for (int k = 0; k < 4; k++) {
                check_call_start(&c[k], k % 2 == 0 ? block_recv : block_send, k % 2 == 0 ? &a : &a);
            }
            check_until(check_stat(a.id, "tx_accepted") > 100);
            start_at = check_now();
            sp_fini();
            for (int k = 0; k < 4; k++) {
                check_rc(SP_ECLOSED, check_call_join(&c[k], 1000));
            }
            assert_in_range(check_now() - start_at, 0, 1000);
        }
    }
    check_fini();
}

static void fini_lingers_in_parallel(void **state)
{
    int64_t start_at;

    (void)state;
    check_init(2);
    for (int i = 0; i < 8; i++) {
        check_couple("inproc", "pair", "pair", &a, &b);
        check_ok(sp_set_int(a.id, "linger", 300));
        check_ok(sp_set_int(b.id, "linger", -1)); // Has nothing to flush.
        while (sp_send(a, "x", 1, SP_NONBLOCK) == SP_OK || check_stat(a.id, "tx_queued") == 0) {
        }
        // Its peer stays open until a has ended: it must not be the first to close.
        check_ok(sp_set_int(b.id, "recv-buffer", 1));
    }
    start_at = check_now();
    sp_fini();
    assert_in_range(check_now() - start_at, 0, 1500); // Not 8 × 300.
}

static atomic_bool open_end;

static long open_and_keep(void *arg)
{
    long n = 0;

    (void)arg;
    while (!atomic_load(&open_end) && n < 3000) {
        sp_socket s = {0};

        if (sp_open(&s, "pair") < 0) {
            return -1;
        }
        n++;
    }
    return n;
}

/// A socket that another thread opens meanwhile is closed too, or belongs to the next life.
static void fini_ends_though_another_thread_opens_sockets(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        struct check_call c;

        check_init(2);
        atomic_store(&open_end, false);
        check_call_start(&c, open_and_keep, NULL);
        check_until(check_stat(0, "runtime.objects") > 10);
        (void)alarm(20); // It may hang.
        sp_fini();
        (void)alarm(0);
        atomic_store(&open_end, true);
        assert_true(check_call_join(&c, CHECK_SOON) > 10);
        sp_fini();
    }
    check_fini();
}

/* ------------------------------------------------------------------ Threads */

static void threads_are_started_late_and_few(void **state)
{
    int before;

    (void)state;
    sp_fini();
    before = check_threads();
    check_init(-1);
    assert_int_equal(check_threads(), before);
    for (int i = 0; i < 50; i++) {
        check_open("pair");
    }
    assert_int_equal(check_threads(), before); // Nothing to poll yet.
    check_couple("inproc", "pair", "pair", &a, &b);
    check_send(a, "x");
    check_recv(b, "x");
    assert_int_equal(check_threads(), before); // Nor within the process.
    for (int i = 0; i < 50; i++) {
        check_couple("tcp", "pair", "pair", &a, &b);
        check_send(a, "x");
        check_recv(b, "x");
    }
    assert_in_range(check_threads(), before + 1, before + 5); // With the watchdog.
    check_fini();
    check_until(check_threads() == before);
}

static void run_once_needs_threads_0(void **state)
{
    (void)state;
    check_init(2);
    check_detail(SP_ESTATE, "run_once: the library has threads of its own (set \"threads\" to 0)",
                 sp_run_once(0));
    check_fini();
}

static int couple_driven(void **state)
{
    static const char *const transports[] = {"inproc", "tcp"};

    check_init(0);
    check_couple(transports[*state != NULL], "pair", "pair", &a, &b);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    check_fini();
    return 0;
}

static void driven_starts_no_thread(void **state)
{
    (void)state;
    assert_int_equal(check_stat(0, "runtime.threads"), 0);
    for (int i = 0; i < 500; i++) {
        check_send(a, "there");
        check_recv(b, "there");
        check_send(b, "back");
        check_recv(a, "back");
    }
    check_rest(a);
    check_rest(b);
    assert_int_equal(check_stat(0, "runtime.threads"), 0);
}

static void driven_run_once_waits_no_longer_than_told(void **state)
{
    int64_t start_at;
    int ran = 0;

    (void)state;
    for (int i = 0; i < 100 && (ran = sp_run_once(0)) != 0; i++) {
        assert_true(ran > 0);
    }
    assert_int_equal(ran, 0);
    start_at = check_now();
    for (int i = 0; i < 3 && check_now() - start_at < 50; i++) {
        assert_true(sp_run_once(50) >= 0); // A stale wake may end one early.
    }
    assert_in_range(check_now() - start_at, 49, 2000);
}

static void driven_by_run_once_alone(void **state)
{
    int got = 0;

    (void)state;
    for (int i = 0; i < 300; i++) {
        char buf[8];

        check_rc(SP_OK, sp_send(a, "x", 1, SP_NONBLOCK));
        check_until(sp_recv(b, buf, sizeof(buf), SP_NONBLOCK) == 1);
        got++;
    }
    assert_int_equal(got, 300);
}

static void driven_timers_fire_in_run_once(void **state)
{
    sp_socket req = check_open("req");
    sp_socket rep = check_open("rep");

    (void)state;
    check_ok(sp_set_int(req.id, "req:resend-time", 10));
    check_ok(sp_set_int(req.id, "req:resend-tick", 5));
    check_ok(sp_listen(rep, "inproc://driven-timer", NULL));
    check_ok(sp_dial(req, "inproc://driven-timer", NULL, 0));
    check_send(req, "q");
    check_recv(rep, "q");
    check_recv(rep, "q"); // Sent again: this receive drove the timer.
    check_until(check_stat(req.id, "tx_copies") >= 2);
}

static long echo(void *arg)
{
    long n = *(long *)arg;

    for (long i = 0; i < n; i++) {
        sp_msg *m = NULL;
        int rc = sp_recvmsg(b, &m, 0);

        if (rc < 0) {
            return rc;
        }
        rc = sp_sendmsg(b, m, 0);
        if (rc < 0) {
            sp_msg_release(m);
            return rc;
        }
    }
    return 0;
}

static void driven_by_several_blocked_threads(void **state)
{
    struct check_call c[3];
    sp_socket idle = check_open("pair");
    long n = 3000;

    (void)state;
    check_call_start(&c[0], echo, &n);
    check_call_start(&c[1], block_recv, &idle);
    check_call_start(&c[2], block_recv, &idle);
    for (long i = 0; i < n; i++) {
        long v = -1;

        check_ok(sp_send(a, &i, sizeof(i), 0));
        check_rc(sizeof(v), sp_recv(a, &v, sizeof(v), 0));
        assert_int_equal(v, i);
    }
    check_rc(0, check_call_join(&c[0], CHECK_SOON));
    check_ok(sp_close(idle));
    check_rc(SP_ECLOSED, check_call_join(&c[1], 1000));
    check_rc(SP_ECLOSED, check_call_join(&c[2], 1000));
    check_rest(a);
    check_rest(b);
}

static void driven_blocked_call_keeps_its_deadline(void **state)
{
    struct check_call c;
    char buf[8];
    int64_t start_at;
    sp_socket idle = check_open("pair");

    (void)state;
    check_call_start(&c, block_recv, &idle);
    check_ok(sp_set_int(b.id, "recv-timeout", 80));
    for (int i = 0; i < 5; i++) {
        start_at = check_now();
        check_rc(SP_ETIMEDOUT, sp_recv(b, buf, sizeof(buf), 0));
        assert_in_range(check_now() - start_at, 79, 2000);
    }
    check_ok(sp_close(idle));
    check_rc(SP_ECLOSED, check_call_join(&c, 1000));
}

static void driven_pipelines_from_several_threads(void **state)
{
    struct check_call c[2];
    int64_t n = 0;

    (void)state;
    check_ok(sp_set_int(a.id, "linger", 0));
    check_call_start(&c[0], block_send, &a);
    check_call_start(&c[1], block_send, &a);
    while (n < 20000) {
        char buf[8];

        check_rc(1, sp_recv(b, buf, sizeof(buf), 0));
        n++;
    }
    check_ok(sp_close(a));
    check_rc(SP_ECLOSED, check_call_join(&c[0], 1000));
    check_rc(SP_ECLOSED, check_call_join(&c[1], 1000));
}

/* ------------------------------------------------------------------ Not in place */

static void work_not_in_place_is_the_workers(void **state)
{
    (void)state;
    for (int threads = 0; threads < 3; threads++) {
        check_init(threads);
        a = check_open("pair");
        b = check_open("pair");
        check_ok(sp_set_int(a.id, "in-place", 0));
        check_ok(sp_set_int(b.id, "in-place", 0));
        check_ok(sp_listen(a, "inproc://not-in-place", NULL));
        check_ok(sp_dial(b, "inproc://not-in-place", NULL, 0));
        for (int i = 0; i < 500; i++) {
            check_send(a, "there");
            check_recv(b, "there");
            check_send(b, "back");
            check_recv(a, "back");
        }
        check_rest(a);
        check_rest(b);
        check_ok(sp_close(a));
        check_ok(sp_close(b));
        check_fini();
    }
}

static void one_worker_is_enough(void **state)
{
    struct check_call c;
    long n = 3000;

    (void)state;
    check_init(1);
    check_couple("tcp", "pair", "pair", &a, &b);
    check_call_start(&c, echo, &n);
    for (long i = 0; i < n; i++) {
        long v = -1;

        check_ok(sp_send(a, &i, sizeof(i), 0));
        check_rc(sizeof(v), sp_recv(a, &v, sizeof(v), 0));
    }
    check_rc(0, check_call_join(&c, CHECK_SOON));
    assert_int_equal(check_stat(0, "runtime.threads"), 1);
    check_fini();
}

static void many_threads_come_and_go(void **state)
{
    (void)state;
    check_init(2);
    for (int i = 0; i < 200; i++) {
        struct check_call c[4];
        long n = 1;

        check_couple("inproc", "pair", "pair", &a, &b);
        check_call_start(&c[0], echo, &n);
        check_send(a, "x");
        check_recv(a, "x");
        check_rc(0, check_call_join(&c[0], CHECK_SOON));
        check_ok(sp_close(a));
        check_ok(sp_close(b));
    }
    check_fini();
}

int main(void)
{
    static int over_tcp;
#define driven(name)                                                                               \
    cmocka_unit_test_prestate_setup_teardown(name, couple_driven, stop, NULL),                     \
        cmocka_unit_test_prestate_setup_teardown(name, couple_driven, stop, &over_tcp)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fini_without_a_start_does_nothing),
        cmocka_unit_test(init_twice_is_estate),
        cmocka_unit_test(library_works_again_after_fini),
        cmocka_unit_test(fini_wakes_blocked_calls),
        cmocka_unit_test(fini_lingers_in_parallel),
        cmocka_unit_test(threads_are_started_late_and_few),
        cmocka_unit_test(run_once_needs_threads_0),
        driven(driven_starts_no_thread),
        driven(driven_run_once_waits_no_longer_than_told),
        driven(driven_by_run_once_alone),
        driven(driven_timers_fire_in_run_once),
        driven(driven_by_several_blocked_threads),
        driven(driven_blocked_call_keeps_its_deadline),
        driven(driven_pipelines_from_several_threads),
        cmocka_unit_test(work_not_in_place_is_the_workers),
        cmocka_unit_test(one_worker_is_enough),
        cmocka_unit_test(many_threads_come_and_go),
        cmocka_unit_test(fini_ends_though_another_thread_opens_sockets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
