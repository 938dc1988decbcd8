/* SPDX-License-Identifier: MIT */
/// sp_fd: a descriptor says exactly what sp_poll says; the library's own says when there is
/// something to be driven, timers included.
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static sp_socket a;
static sp_socket b;

/// Whether it polls readable, within `ms`.
static bool raised(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    assert_true(poll(&p, 1, ms) >= 0);
    assert_int_equal(p.revents & ~POLLIN, 0);
    return p.revents != 0;
}

static int fd_of(uint64_t id, int event)
{
    int fd = sp_fd(id, event);

    if (fd < 0) {
        check_ok(fd);
    }
    return fd;
}

/// Waits until the object is in this state (SP_POLLIN, SP_POLLOUT); then its descriptors say so.
static void check_state(uint64_t id, short want)
{
    sp_pollitem item = {.id = id, .events = SP_POLLIN | SP_POLLOUT};

    check_until(sp_poll(&item, 1, 0) >= 0 && item.revents == want);
    assert_int_equal(raised(fd_of(id, SP_POLLIN), 0), (want & SP_POLLIN) != 0);
    assert_int_equal(raised(fd_of(id, SP_POLLOUT), 0), (want & SP_POLLOUT) != 0);
}

/* ------------------------------------------------------------------ Of an object */

static void it_is_raised_from_the_first_message_to_the_last(void **state)
{
    int fd;

    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    fd = fd_of(b.id, SP_POLLIN);
    assert_false(raised(fd, 0));
    for (int round = 0; round < 10; round++) {
        char c;

        for (int i = 0; i < 5; i++) {
            check_ok(sp_send(a, "x", 1, 0));
        }
        for (int i = 0; i < 5; i++) {
            check_until(raised(fd, 0));
            check_rc(1, sp_recv(b, &c, 1, SP_NONBLOCK)); // Raised: it does not wait.
        }
        assert_false(raised(fd, 0));
        check_rc(SP_EAGAIN, sp_recv(b, &c, 1, SP_NONBLOCK));
    }
}

static void what_waits_already_raises_a_new_one(void **state)
{
    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    check_ok(sp_send(a, "x", 1, 0));
    check_state(b.id, SP_POLLIN | SP_POLLOUT);
    check_recv(b, "x");
    check_state(b.id, SP_POLLOUT);
}

static void credit_raises_and_lowers_it(void **state)
{
    char url[256];
    int sent = 0;
    int fd;

    (void)state;
    a = check_open("pair");
    b = check_open("pair");
    check_ok(sp_set_int(a.id, "send-buffer", 2));
    check_ok(sp_set_int(b.id, "recv-buffer", 2));
    fd = fd_of(a.id, SP_POLLOUT);
    assert_false(raised(fd, 0));
    check_listen(a, "inproc", url, NULL); // Of small queues, without a kernel between them.
    check_ok(sp_dial(b, url, NULL, 0));
    check_until(raised(fd, 0));
    for (int round = 0; round < 3; round++) {
        for (int64_t last = check_now(); check_now() - last < 50; check_pause()) {
            while (raised(fd, 0)) {
                check_ok(sp_send(a, "x", 1, SP_NONBLOCK)); // Raised: it does not wait.
                sent++;
                last = check_now();
            }
        }
        check_rc(SP_EAGAIN, sp_send(a, "x", 1, SP_NONBLOCK));
        for (; sent > 0; sent--) {
            check_recv(b, "x");
        }
        check_until(raised(fd, 0));
    }
    check_ok(sp_close(b));
    check_until(!raised(fd, 0)); // No peer.
}

static void req_and_rep_are_as_their_protocol_is(void **state)
{
    (void)state;
    check_couple("inproc", "req", "rep", &a, &b);
    for (int round = 0; round < 3; round++) {
        check_state(a.id, SP_POLLOUT);
        check_state(b.id, 0);
        check_send(a, "question");
        check_state(b.id, SP_POLLIN);
        check_state(a.id, SP_POLLOUT);
        check_recv(b, "question");
        check_state(b.id, SP_POLLOUT);
        check_send(b, "answer");
        check_state(b.id, 0);
        check_state(a.id, SP_POLLIN | SP_POLLOUT);
        if (round == 1) {
            check_send(a, "another"); // The answer is stale.
            check_state(a.id, SP_POLLOUT);
            check_recv(b, "another");
            check_send(b, "answer");
            check_state(a.id, SP_POLLIN | SP_POLLOUT);
        }
        check_recv(a, "answer");
    }
}

static void contexts_have_their_own(void **state)
{
    sp_ctx c[2];
    sp_msg *m;

    (void)state;
    check_couple("inproc", "req", "rep", &a, &b);
    check_ok(sp_ctx_open(&c[0], b));
    check_ok(sp_ctx_open(&c[1], b));
    assert_int_not_equal(fd_of(c[0].id, SP_POLLIN), fd_of(c[1].id, SP_POLLIN));
    check_send(a, "question");
    check_state(c[0].id, SP_POLLIN);
    check_state(c[1].id, SP_POLLIN);
    check_ok(sp_ctx_recvmsg(c[0], &m, 0));
    check_state(c[0].id, SP_POLLOUT);
    check_state(c[1].id, 0);
    check_ok(sp_ctx_sendmsg(c[0], m, 0));
    check_state(c[0].id, 0);
    check_ok(sp_ctx_close(c[0]));
    check_state(c[1].id, 0);
}

static void an_operation_that_receives_lowers_it(void **state)
{
    sp_op *op;
    int fd;

    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    fd = fd_of(b.id, SP_POLLIN);
    check_ok(sp_op_new(&op, NULL, NULL));
    check_ok(sp_send(a, "one", 3, 0));
    check_until(raised(fd, 0));
    check_ok(sp_op_recv(op, b.id));
    check_ok(sp_op_wait(op));
    assert_false(raised(fd, 0));
    check_ok(sp_op_recv(op, b.id)); // It waits: the message is its own, and nobody else is told.
    check_ok(sp_send(a, "two", 3, 0));
    check_ok(sp_op_wait(op));
    assert_false(raised(fd, 0));
    sp_op_free(op);
}

static void it_is_the_same_again(void **state)
{
    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    assert_int_equal(fd_of(a.id, SP_POLLIN), fd_of(a.id, SP_POLLIN));
    assert_int_equal(fd_of(a.id, SP_POLLOUT), fd_of(a.id, SP_POLLOUT));
    assert_int_not_equal(fd_of(a.id, SP_POLLIN), fd_of(a.id, SP_POLLOUT));
}

static void a_close_raises_it_and_closes_it(void **state)
{
    int fd[2];
    int seen[2]; // Others that lead to the same.
    sp_ctx c;

    (void)state;
    check_couple("inproc", "req", "rep", &a, &b);
    check_ok(sp_ctx_open(&c, b));
    fd[0] = fd_of(b.id, SP_POLLIN);
    fd[1] = fd_of(c.id, SP_POLLOUT);
    for (int i = 0; i < 2; i++) {
        seen[i] = dup(fd[i]);
        assert_false(raised(seen[i], 0));
    }
    check_ok(sp_close(b));
    for (int i = 0; i < 2; i++) {
        assert_true(raised(seen[i], 0));
        assert_int_equal(fcntl(fd[i], F_GETFD), -1);
        assert_int_equal(errno, EBADF);
        (void)close(seen[i]);
    }
    check_rc(SP_ECLOSED, sp_fd(b.id, SP_POLLIN));
    check_rc(SP_ECLOSED, sp_fd(c.id, SP_POLLIN));
}

static void descriptors_go_with_their_objects(void **state)
{
    int before;

    (void)state;
    a = check_open("rep");
    before = check_fds();
    for (int i = 0; i < 20; i++) {
        sp_ctx c;

        check_ok(sp_ctx_open(&c, a));
        (void)fd_of(c.id, SP_POLLIN);
        (void)fd_of(c.id, SP_POLLOUT);
        check_ok(sp_ctx_close(c));
    }
    check_until(check_fds() == before);
}

static void what_has_none_is_refused(void **state)
{
    char url[256];
    sp_listener l;

    (void)state;
    a = check_open("pair");
    check_listen(a, "inproc", url, &l);
    check_rc(SP_EINVAL, sp_fd(l.id, SP_POLLIN));
    check_rc(SP_EINVAL, sp_fd(12345, SP_POLLIN));
    check_detail(SP_EINVAL, "fd: the event is 5", sp_fd(a.id, SP_POLLIN | SP_POLLOUT));
    check_detail(SP_EINVAL, "fd: the event is 16", sp_fd(a.id, SP_POLLHUP));
    check_detail(SP_EINVAL, "fd: the event is 4", sp_fd(0, SP_POLLOUT));
}

static void with_threads_the_library_has_none(void **state)
{
    (void)state;
    check_detail(SP_ESTATE, "fd: the library has threads of its own (set \"threads\" to 0)",
                 sp_fd(0, SP_POLLIN));
}

/* ------------------------------------------------------------------ Of the library */

/// Drives until there is nothing to do. Returns how many actors ran; never looks in vain.
static int drive(int fd)
{
    int ran = 0;

    while (raised(fd, 0)) {
        int n = sp_run_once(0);

        assert_true(n >= 0);
        ran += n;
    }
    return ran;
}

static void at_rest_there_is_nothing_to_drive(void **state)
{
    int fd = fd_of(0, SP_POLLIN);

    (void)state;
    assert_int_equal(fd, fd_of(0, SP_POLLIN));
    assert_false(raised(fd, 0));
    check_couple("tcp", "pair", "pair", &a, &b);
    (void)drive(fd);
    check_rc(0, sp_run_once(0));
    assert_false(raised(fd, 20));
}

static void what_comes_over_tcp_is_to_be_driven(void **state)
{
    int fd = fd_of(0, SP_POLLIN);
    int in;

    (void)state;
    check_couple("tcp", "pair", "pair", &a, &b);
    (void)drive(fd);
    in = fd_of(b.id, SP_POLLIN);
    for (int i = 0; i < 20; i++) {
        char c;

        check_ok(sp_send(a, "x", 1, 0));
        while (!raised(in, 0)) {
            assert_true(raised(fd, CHECK_SOON));
            assert_true(sp_run_once(0) > 0);
        }
        check_rc(1, sp_recv(b, &c, 1, SP_NONBLOCK));
        (void)drive(fd);
    }
}

/// With "in-place" 0 nothing is done inside the calls.
static void what_calls_leave_is_to_be_driven(void **state)
{
    int fd = fd_of(0, SP_POLLIN);
    char c;

    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    check_ok(sp_set_int(a.id, "in-place", 0));
    (void)drive(fd);
    for (int i = 0; i < 10; i++) {
        check_ok(sp_send(a, "x", 1, 0));
        assert_true(raised(fd, 0));
        assert_true(drive(fd) > 0);
        check_rc(1, sp_recv(b, &c, 1, SP_NONBLOCK));
        assert_false(raised(fd, 0));
    }
}

static atomic_int done;

static void count_done(sp_op *op, void *arg)
{
    (void)op;
    (void)arg;
    (void)atomic_fetch_add(&done, 1);
}

static void timers_are_to_be_driven_when_they_are_due(void **state)
{
    int fd = fd_of(0, SP_POLLIN);
    sp_op *op[2];
    int64_t begun;

    (void)state;
    atomic_store(&done, 0);
    check_ok(sp_op_new(&op[0], count_done, NULL));
    check_ok(sp_op_new(&op[1], count_done, NULL));
    check_ok(sp_op_sleep(op[0], 3600000));
    begun = check_now();
    check_ok(sp_op_sleep(op[1], 40)); // Sooner than the one before.
    (void)drive(fd);
    assert_int_equal(atomic_load(&done), 0);
    assert_true(raised(fd, CHECK_SOON));
    assert_true(check_now() - begun >= 39);
    assert_true(drive(fd) > 0);
    assert_int_equal(atomic_load(&done), 1);
    assert_false(raised(fd, 20));
    check_ok(sp_op_sleep(op[1], 10));
    check_ok(sp_op_cancel(op[1])); // Its end is to be told, and its time is nothing any more.
    assert_true(drive(fd) > 0);
    assert_int_equal(atomic_load(&done), 2);
    assert_false(raised(fd, 30));
    sp_op_free(op[0]);
    sp_op_free(op[1]);
}

static long cancel_it(void *arg)
{
    return sp_scope_cancel(*(sp_scope *)arg);
}

static void a_cancel_is_to_be_driven(void **state)
{
    int fd = fd_of(0, SP_POLLIN);
    struct check_call call;
    sp_scope scope;
    sp_op *op;

    (void)state;
    atomic_store(&done, 0);
    check_couple("inproc", "pair", "pair", &a, &b);
    check_ok(sp_scope_open(&scope, (sp_scope){0}, -1));
    check_ok(sp_op_new(&op, count_done, NULL));
    sp_op_scope(op, scope);
    check_ok(sp_op_recv(op, b.id));
    (void)drive(fd);
    check_call_start(&call, cancel_it, &scope);
    while (atomic_load(&done) == 0) {
        assert_true(raised(fd, CHECK_SOON));
        (void)drive(fd);
    }
    check_rc(SP_OK, check_call_join(&call, CHECK_SOON));
    check_rc(SP_ECANCELED, sp_op_result(op));
    sp_op_free(op);
    check_ok(sp_scope_close(scope));
}

static void the_next_library_has_a_new_one(void **state)
{
    int before;

    (void)state;
    sp_fini();
    before = check_fds();
    for (int i = 0; i < 3; i++) {
        check_init(0);
        assert_false(raised(fd_of(0, SP_POLLIN), 0));
        sp_fini();
        assert_int_equal(check_fds(), before);
    }
}

#define DRIVEN(fact) cmocka_unit_test_setup_teardown(fact, check_start_driven, check_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(it_is_raised_from_the_first_message_to_the_last),
        check_both(what_waits_already_raises_a_new_one),
        check_both(credit_raises_and_lowers_it),
        check_both(req_and_rep_are_as_their_protocol_is),
        check_both(contexts_have_their_own),
        check_both(an_operation_that_receives_lowers_it),
        check_both(it_is_the_same_again),
        check_both(a_close_raises_it_and_closes_it),
        check_both(descriptors_go_with_their_objects),
        check_both(what_has_none_is_refused),
        cmocka_unit_test_setup_teardown(with_threads_the_library_has_none, check_start_threads,
                                        check_stop),
        DRIVEN(at_rest_there_is_nothing_to_drive),
        DRIVEN(what_comes_over_tcp_is_to_be_driven),
        DRIVEN(what_calls_leave_is_to_be_driven),
        DRIVEN(timers_are_to_be_driven_when_they_are_due),
        DRIVEN(a_cancel_is_to_be_driven),
        DRIVEN(the_next_library_has_a_new_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
