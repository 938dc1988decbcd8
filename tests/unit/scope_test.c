/* SPDX-License-Identifier: MIT */
/// Scopes: deadline and cancellation pass from parent to child and end every call in them.
#include "check.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/time.h>

/// A receive on another thread.
struct receiver {
    struct check_call call;
    sp_scope scope;
    uint64_t id;
};

static long receive(void *arg)
{
    struct receiver *r = arg;
    sp_msg *m = NULL;
    int rc = sp_recvmsg_in(r->scope, r->id, &m);

    sp_msg_release(m);
    return rc;
}

static sp_scope none;

static void cancel_ends_a_blocked_call(void **state)
{
    struct receiver r = {.id = check_open("pair").id};

    (void)state;
    check_ok(sp_scope_open(&r.scope, none, -1));
    check_call_start(&r.call, receive, &r);
    assert_false(check_call_ended(&r.call, 20));
    check_ok(sp_scope_cancel(r.scope));
    assert_int_equal(check_call_join(&r.call, CHECK_SOON), SP_ECANCELED);
    assert_string_equal(r.call.detail, "receive: the scope was cancelled");
    check_detail(SP_ECANCELED, "scope: it was cancelled", (int)receive(&r));
    check_ok(sp_scope_close(r.scope));
    check_rc(SP_ECLOSED, sp_scope_close(r.scope));
    check_rc(SP_ECLOSED, (int)receive(&r));
}

static void cancel_of_the_parent_ends_calls_in_the_child(void **state)
{
    struct receiver r = {.id = check_open("pair").id};
    sp_scope parent;
    sp_scope between;

    (void)state;
    check_ok(sp_scope_open(&parent, none, -1));
    check_ok(sp_scope_open(&between, parent, -1));
    check_ok(sp_scope_open(&r.scope, between, -1));
    check_call_start(&r.call, receive, &r);
    assert_false(check_call_ended(&r.call, 20));
    check_ok(sp_scope_cancel(parent));
    assert_int_equal(check_call_join(&r.call, CHECK_SOON), SP_ECANCELED);
    check_ok(sp_scope_close(parent));
    check_ok(sp_scope_close(between));
    check_ok(sp_scope_close(r.scope));
}

static void cancel_of_the_child_leaves_the_parent_alone(void **state)
{
    struct receiver r = {.id = check_open("pair").id};
    sp_scope child;

    (void)state;
    check_ok(sp_scope_open(&r.scope, none, 100));
    check_ok(sp_scope_open(&child, r.scope, -1));
    check_call_start(&r.call, receive, &r);
    check_ok(sp_scope_cancel(child));
    assert_int_equal(check_call_join(&r.call, CHECK_SOON), SP_ETIMEDOUT);
    assert_true(r.call.took >= 95);
}

static void earliest_deadline_counts(void **state)
{
    struct receiver r = {.id = check_open("pair").id};
    sp_scope parent;
    int64_t begin = check_now();

    (void)state;
    check_ok(sp_scope_open(&parent, none, 50));
    check_ok(sp_scope_open(&r.scope, parent, 100000));
    check_rc(SP_ETIMEDOUT, (int)receive(&r));
    assert_true(check_now() - begin >= 45 && check_now() - begin < 5000);
    check_detail(SP_ETIMEDOUT, "scope: its deadline passed", (int)receive(&r));
    check_ok(sp_set_int(r.id, "recv-timeout", 10));
    check_ok(sp_scope_close(r.scope));
    check_ok(sp_scope_open(&r.scope, none, 100000));
    check_rc(SP_ETIMEDOUT, (int)receive(&r)); // The socket's own holds too.
}

static void send_and_dial_end_with_the_scope(void **state)
{
    sp_socket s = check_open("pair");
    sp_scope scope;
    sp_dialer d;
    sp_msg *m = NULL;

    (void)state;
    check_ok(sp_scope_open(&scope, none, 20));
    check_ok(sp_msg_new(&m, 1));
    check_rc(SP_ETIMEDOUT, sp_sendmsg_in(scope, s.id, m));
    sp_msg_release(m); // Still ours.
    check_ok(sp_dialer_new(&d, s, "tcp://127.0.0.1:1"));
    check_rc(SP_ETIMEDOUT, sp_dial_in(scope, d));
    check_ok(sp_scope_close(scope));
    check_rc(-ECONNREFUSED, sp_dial_in(none, d));
    check_rc(SP_EINVAL, sp_sendmsg_in(none, s.id, NULL));
    check_rc(SP_EINVAL, sp_recvmsg_in(none, s.id, NULL));
}

static void operations_end_with_their_scope(void **state)
{
    enum { N = 20 };
    sp_socket s = check_open("pair");
    sp_scope parent;
    sp_scope scope;
    sp_op *op[N];
    sp_op *free_one;

    (void)state;
    check_ok(sp_scope_open(&parent, none, -1));
    check_ok(sp_scope_open(&scope, parent, -1));
    check_ok(sp_op_new(&free_one, NULL, NULL));
    check_ok(sp_op_recv(free_one, s.id));
    for (int i = 0; i < N; i++) {
        check_ok(sp_op_new(&op[i], NULL, NULL));
        sp_op_scope(op[i], scope);
        if (i % 2 == 0) {
            check_ok(sp_op_recv(op[i], s.id));
        } else {
            check_ok(sp_op_sleep(op[i], 1000000));
        }
    }
    check_ok(sp_scope_cancel(parent));
    for (int i = 0; i < N; i++) {
        check_rc(SP_ECANCELED, sp_op_wait(op[i]));
        check_rc(SP_ECANCELED, sp_op_recv(op[i], s.id));
        sp_op_scope(op[i], none);
        check_ok(sp_op_sleep(op[i], 0));
        check_ok(sp_op_wait(op[i]));
        sp_op_free(op[i]);
    }
    assert_int_equal(sp_op_result(free_one), SP_EAGAIN);
    sp_op_free(free_one);
    check_ok(sp_scope_close(scope));
    check_ok(sp_scope_close(parent));
}

static void scope_deadline_ends_operations(void **state)
{
    sp_socket s = check_open("pair");
    sp_scope scope;
    sp_op *rx;
    sp_op *nap;

    (void)state;
    check_ok(sp_scope_open(&scope, none, 30));
    check_ok(sp_op_new(&rx, NULL, NULL));
    check_ok(sp_op_new(&nap, NULL, NULL));
    sp_op_scope(rx, scope);
    sp_op_scope(nap, scope);
    check_ok(sp_op_recv(rx, s.id));
    check_ok(sp_op_sleep(nap, 1000000));
    check_rc(SP_ETIMEDOUT, sp_op_wait(rx));
    check_rc(SP_ETIMEDOUT, sp_op_wait(nap));
    sp_op_free(rx);
    sp_op_free(nap);
}

/* ------------------------------------------------------------------ Signals */

static sp_scope on_signal;
static volatile sig_atomic_t signals;

static void handler(int sig)
{
    (void)sig;
    (void)sp_scope_cancel(on_signal);
    signals++;
}

static void alarm_every(int us)
{
    struct itimerval t = {{0, us}, {0, us}};

    assert_int_equal(setitimer(ITIMER_REAL, &t, NULL), 0);
}

static void signal_handler_may_cancel_at_any_moment(void **state)
{
    struct sigaction sa = {.sa_handler = handler};
    sp_socket a;
    sp_socket b;

    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    assert_int_equal(sigaction(SIGALRM, &sa, NULL), 0);
    for (int i = 0; i < 200; i++) {
        struct receiver r = {.id = b.id};
        int64_t begin = check_now();
        int rc = SP_OK;

        check_ok(sp_scope_open(&r.scope, none, -1));
        on_signal = r.scope;
        alarm_every(300 + 7 * i);
        // Some messages arrive, then the signal interrupts whatever is going on.
        for (int k = 0; rc == SP_OK && check_now() - begin < CHECK_SOON; k++) {
            if (k < 20) {
                check_send(a, "x");
            }
            rc = (int)receive(&r);
        }
        alarm_every(0);
        assert_int_equal(rc, SP_ECANCELED);
        check_ok(sp_scope_close(r.scope));
        while (sp_recv(b, NULL, 0, SP_NONBLOCK) != SP_EAGAIN) {
            check_recv(b, "x");
        }
    }
    assert_true(signals >= 200);
}

static void late_cancel_does_not_reach_the_next_scope(void **state)
{
    sp_scope old;
    sp_scope young;
    sp_op *op;

    (void)state;
    check_ok(sp_scope_open(&old, none, -1));
    check_ok(sp_scope_close(old));
    check_ok(sp_scope_open(&young, none, -1)); // In the same memory.
    assert_int_equal(sp_scope_cancel(old), SP_ECLOSED);
    assert_int_equal(sp_scope_cancel(none), SP_EINVAL);
    check_ok(sp_op_new(&op, NULL, NULL));
    sp_op_scope(op, young);
    check_ok(sp_op_sleep(op, 1));
    check_ok(sp_op_wait(op));
    sp_op_free(op);
    check_ok(sp_op_new(&op, NULL, NULL));
    sp_op_scope(op, old);
    check_detail(SP_ECLOSED, "operation: its scope was closed when it was given",
                 sp_op_sleep(op, 1));
    sp_op_free(op);
    check_rc(SP_EINVAL, sp_scope_open(NULL, none, 0));
    check_rc(SP_EINVAL, sp_scope_open(&old, (sp_scope){1}, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(cancel_ends_a_blocked_call),
        check_both(cancel_of_the_parent_ends_calls_in_the_child),
        check_both(cancel_of_the_child_leaves_the_parent_alone),
        check_both(earliest_deadline_counts),
        check_both(send_and_dial_end_with_the_scope),
        check_both(operations_end_with_their_scope),
        check_both(scope_deadline_ends_operations),
        check_both(signal_handler_may_cancel_at_any_moment),
        check_both(late_cancel_does_not_reach_the_next_scope),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
