/* SPDX-License-Identifier: MIT */
/// Draining: refuses new sends, flushes, always closes, and counts exactly what was not delivered;
/// a process that ends without closing anything loses nothing within the linger time.
#include "check.h"
#include "proc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const transports[] = {"inproc", "ipc", "tcp"};
static const int numbers[] = {1, 100, 1000};

static const char *self;
static sp_socket a;
static sp_socket b;

/// A couple with room for `n` messages on the sending side.
static void couple(const char *transport, int n)
{
    char url[256];

    a = check_open("pair");
    b = check_open("pair");
    check_ok(sp_set_int(a.id, "send-buffer", n));
    check_listen(b, transport, url, NULL);
    check_ok(sp_dial(a, url, NULL, 0));
    check_pipes(b, 1);
}

/// What arrives until the peer is gone, each with its number.
static uint64_t take_all(void)
{
    uint64_t n = 0;
    int v = -1;

    for (;;) {
        ssize_t rc = sp_recv(b, &v, sizeof(v), SP_NONBLOCK);

        if (rc == SP_EAGAIN) {
            if (check_stat(b.id, "pipes") == 0 && check_stat(b.id, "rx_queued") == 0) {
                return n;
            }
            check_pause();
            continue;
        }
        check_rc(sizeof(v), rc);
        assert_int_equal(v, n);
        n++;
    }
}

static void drain_delivers_everything(void **state)
{
    (void)state;
    for (int t = 0; t < 3; t++) {
        for (int k = 0; k < 3; k++) {
            uint64_t left = 99;

            couple(transports[t], numbers[k]);
            check_ok(sp_set_int(b.id, "recv-buffer", 1000));
            for (int i = 0; i < numbers[k]; i++) {
                check_ok(sp_send(a, &i, sizeof(i), 0));
            }
            check_ok(sp_drain(a, 10000, &left));
            assert_int_equal(left, 0);
            check_rc(SP_ECLOSED, sp_send(a, "x", 1, 0));
            check_rc(SP_ECLOSED, sp_drain(a, 0, &left));
            assert_int_equal(take_all(), numbers[k]);
            check_ok(sp_close(b));
        }
    }
}

/// Large messages to a receiver that takes none of them: a part is on its way, the rest stays.
static void drain_counts_what_was_not_delivered(void **state)
{
    char *big = calloc(1, 65536);

    (void)state;
    for (int t = 0; t < 3; t++) {
        for (int k = 0; k < 3; k++) {
            uint64_t left = 0;
            uint64_t got = 0;
            int64_t begin;

            couple(transports[t], numbers[k]);
            check_ok(sp_set_int(a.id, "queue-bytes-max", 1 << 30));
            check_ok(sp_set_int(b.id, "recv-buffer", 0));
            check_ok(sp_set_int(b.id, "queue-bytes-max", 1));
            for (int i = 0; i < numbers[k]; i++) {
                check_ok(sp_send(a, big, 65536, 0));
            }
            begin = check_now();
            check_rc(k == 0 ? SP_OK : SP_ETIMEDOUT, sp_drain(a, k == 0 ? 10000 : 30, &left));
            assert_true(check_now() - begin < 8000);
            while (got + left < (uint64_t)numbers[k]) {
                check_rc(65536, sp_recv(b, big, 65536, 0));
                got++;
            }
            assert_true(k == 0 || left > 0);
            check_until(check_stat(b.id, "pipes") == 0);
            check_rc(SP_EAGAIN, sp_recv(b, big, 65536, SP_NONBLOCK));
            check_ok(sp_close(b));
        }
    }
    free(big);
}

static void drain_without_a_peer_counts_what_lost_it(void **state)
{
    uint64_t left = 0;

    (void)state;
    couple("tcp", 100);
    check_ok(sp_set_int(b.id, "recv-buffer", 0));
    check_ok(sp_close(b));
    check_pipes(a, 0);
    check_rc(SP_ENOPEER, sp_send(a, "x", 1, SP_NONBLOCK));
    check_ok(sp_drain(a, 0, &left));
    assert_int_equal(left, 0);
    check_rc(SP_EINVAL, sp_drain((sp_socket){0}, 0, NULL));
}

/* ------------------------------------------------------------------ The end of a process */

/// The child of the test below: sends and ends at once.
static int child(const char *url, int n)
{
    sp_socket s;

    if (sp_open(&s, "pair") < 0 || sp_set_int(s.id, "send-buffer", n) < 0 ||
        sp_set_int(s.id, "linger", 10000) < 0 || sp_dial(s, url, NULL, 0) < 0) {
        return 2;
    }
    for (int i = 0; i < n; i++) {
        if (sp_send(s, &i, sizeof(i), 0) < 0) {
            return 3;
        }
    }
    return 0; // Nothing is closed.
}

static void process_that_ends_loses_nothing(void **state)
{
    (void)state;
    for (int t = 1; t < 3; t++) {
        for (int k = 0; k < 3; k++) {
            char url[256];
            char n[16];
            int v = -1;
            struct proc p = {0};

            b = check_open("pair");
            check_ok(sp_set_int(b.id, "recv-buffer", 1));
            check_listen(b, transports[t], url, NULL);
            (void)snprintf(n, sizeof(n), "%d", numbers[k]);
            check_ok(proc_start(&p, (const char *const[]){self, "child", url, n, NULL}));
            for (int i = 0; i < numbers[k]; i++) {
                check_rc(sizeof(v), sp_recv(b, &v, sizeof(v), 0));
                assert_int_equal(v, i);
            }
            assert_int_equal(proc_wait(&p, PROC_SOON), 0);
            proc_stop(&p);
            check_ok(sp_close(b));
        }
    }
}

/// The child of the test below: its callback never returns.
static void never_return(sp_op *op, void *arg)
{
    (void)op;
    (void)!write(*(int *)arg, "x", 1);
    for (;;) {
        (void)pause();
    }
}

static int stuck_child(void)
{
    int pipe_fds[2];
    char c;
    sp_socket s;
    sp_op *op;

    if (pipe(pipe_fds) < 0 || sp_open(&s, "pair") < 0 ||
        sp_op_new(&op, never_return, &pipe_fds[1]) < 0 || sp_op_sleep(op, 0) < 0) {
        return 2;
    }
    return read(pipe_fds[0], &c, 1) == 1 ? 0 : 3;
}

static void process_ends_in_spite_of_a_callback_that_does_not(void **state)
{
    struct proc p = {0};

    (void)state;
    check_ok(proc_start(&p, (const char *const[]){self, "stuck", NULL}));
    assert_int_equal(proc_wait(&p, PROC_SOON), 0);
    proc_stop(&p);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        check_both(drain_delivers_everything),
        check_both(drain_counts_what_was_not_delivered),
        check_both(drain_without_a_peer_counts_what_lost_it),
        check_both(process_that_ends_loses_nothing),
        cmocka_unit_test(process_ends_in_spite_of_a_callback_that_does_not),
    };

    self = argv[0];
    if (argc == 4 && strcmp(argv[1], "child") == 0) {
        return child(argv[2], atoi(argv[3]));
    }
    if (argc == 2 && strcmp(argv[1], "stuck") == 0) {
        return stuck_child();
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
