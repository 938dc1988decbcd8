/* SPDX-License-Identifier: MIT */
/// Devices: which sockets make one, who receives meanwhile, how it ends by a socket or by its
/// operation, and that then both sockets are usable and no message is missing.
#include "platform.h"
#include "relay.h"

#include <stdatomic.h>
#include <string.h>

static sp_op *device_op(void)
{
    sp_op *op = NULL;

    check_ok(sp_op_new(&op, NULL, NULL));
    return op;
}

/// A device between two raw PAIRs, and who talks through it.
struct both {
    struct relay relay;
    sp_socket left;
    sp_socket right;
};

static void both_open(struct both *x)
{
    x->left = check_open("pair");
    x->right = check_open("pair");
    relay_open(&x->relay, "pair", "pair", "inproc", NULL);
    check_ok(sp_dial(x->left, x->relay.front, NULL, 0));
    check_ok(sp_dial(x->right, x->relay.back, NULL, 0));
}

static void both_close(struct both *x)
{
    sp_op_free(x->relay.op);
    (void)sp_close(x->relay.a);
    (void)sp_close(x->relay.b);
    check_ok(sp_close(x->left));
    check_ok(sp_close(x->right));
}

/* ------------------------------------------------------------------ What makes a device */

static void sockets_must_be_raw_and_talk_to_each_other(void **state)
{
    sp_socket cooked = check_open("pair");
    sp_socket pair = relay_raw("pair");
    sp_socket pair1 = relay_raw("pair1");
    sp_socket req = relay_raw("req");
    sp_socket none = {0};
    sp_op *op = device_op();

    (void)state;
    check_detail(SP_EINVAL, "device: the socket \"pair\" is not raw (sp_open_raw)",
                 sp_op_device(op, cooked, pair));
    check_detail(SP_EINVAL, "device: the socket \"pair\" is not raw (sp_open_raw)",
                 sp_device(pair, cooked));
    check_detail(SP_EINVAL, "device: \"pair\" and \"pair1\" do not talk to each other",
                 sp_op_device(op, pair, pair1));
    check_detail(SP_EINVAL, "device: \"req\" and \"pair\" do not talk to each other",
                 sp_op_device(op, req, pair));
    check_detail(SP_EINVAL,
                 "device: \"req\" does not talk to its own kind, one socket cannot reflect",
                 sp_op_device(op, req, req));
    check_rc(SP_EINVAL, sp_op_device(op, pair, none));
    check_rc(SP_EINVAL, sp_op_device(NULL, pair, pair));
    check_rc(SP_EINVAL, sp_device(none, pair));
    assert_int_equal(sp_op_result(op), SP_EAGAIN);
    check_ok(sp_close(pair));
    check_rc(SP_ECLOSED, sp_op_device(op, pair, pair));
    check_ok(sp_op_device(op, pair1, pair1)); // What failed left nothing behind.
    sp_op_free(op);
}

static void a_socket_is_received_from_by_one(void **state)
{
    sp_socket a = relay_raw("pair");
    sp_socket b = relay_raw("pair");
    sp_socket c = relay_raw("pair");
    sp_mailbox mb;
    sp_op *op = device_op();
    sp_op *other = device_op();

    (void)state;
    check_ok(sp_mailbox_open(&mb, 1));
    check_ok(sp_op_device(op, a, b));
    check_detail(SP_ESTATE, "device: what a socket of it receives goes elsewhere",
                 sp_op_device(other, c, b));
    check_rc(SP_ESTATE, sp_op_device(other, a, c));
    check_rc(SP_ESTATE, sp_op_device(other, a, a));
    check_rc(SP_ESTATE, sp_forward(a, mb));
    check_detail(SP_ESTATE, "operation: it is under way already", sp_op_device(op, c, c));
    check_ok(sp_forward(c, mb)); // Nobody had it but for a moment.
    check_ok(sp_op_cancel(op));
    check_rc(SP_ECANCELED, sp_op_wait(op));
    check_rc(SP_ESTATE, sp_op_device(op, a, c));
    check_ok(sp_op_device(op, a, b));
    sp_op_free(op);
    sp_op_free(other);
    check_ok(sp_mailbox_close(mb));
}

struct receiver {
    struct check_call call;
    sp_socket s;
};

static long call_recv(void *arg)
{
    char buf[8];

    return (long)sp_recv(((struct receiver *)arg)->s, buf, sizeof(buf), 0);
}

static void nobody_else_receives_meanwhile(void **state)
{
    struct receiver r = {.s = relay_raw("pair")};
    sp_socket b = relay_raw("pair");
    sp_pollitem item = {.id = r.s.id, .events = SP_POLLIN};
    sp_op *op = device_op();
    char buf[8];

    (void)state;
    check_call_start(&r.call, call_recv, &r);
    assert_false(check_call_ended(&r.call, 20));
    check_ok(sp_op_device(op, r.s, b));
    assert_int_equal(check_call_join(&r.call, CHECK_SOON), SP_ESTATE);
    check_detail(SP_ESTATE,
                 "receive: what the socket receives goes to a mailbox, an actor or a device",
                 sp_recv(r.s, buf, sizeof(buf), SP_NONBLOCK));
    check_rc(SP_ESTATE, sp_recv(b, buf, sizeof(buf), 0));
    assert_int_equal(sp_poll(&item, 1, 0), 0);
    sp_op_free(op);
    check_rc(SP_EAGAIN, sp_recv(r.s, buf, sizeof(buf), SP_NONBLOCK));
}

/* ------------------------------------------------------------------ How it ends */

static void closing_either_socket_ends_it_with_success(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct both x;

        both_open(&x);
        check_send(x.left, "there");
        check_recv(x.right, "there");
        check_send(x.right, "back");
        check_recv(x.left, "back");
        if (i >= 2) { // While it waits for credit: nobody receives from the right.
            check_ok(sp_set_int(x.relay.b.id, "linger", 0));
            check_ok(sp_set_int(x.left.id, "linger", 0));
            check_ok(sp_set_int(x.left.id, "send-timeout", 20));
            while (sp_send(x.left, "x", 1, 0) == SP_OK) {
            }
        }
        check_ok(sp_close(i % 2 == 0 ? x.relay.a : x.relay.b));
        check_rc(SP_OK, sp_op_wait(x.relay.op));
        check_rest(i % 2 == 0 ? x.relay.b : x.relay.a);
        both_close(&x);
    }
}

static void closing_the_side_that_only_receives_or_only_sends_ends_it(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        sp_socket pull = relay_raw("pull");
        sp_socket push = relay_raw("push");
        sp_op *op = device_op();

        check_ok(i == 0 ? sp_op_device(op, pull, push) : sp_op_device(op, push, pull));
        check_ok(sp_close(i == 0 ? pull : push));
        check_rc(SP_OK, sp_op_wait(op));
        check_ok(sp_close(i == 0 ? push : pull));
        sp_op_free(op);
    }
}

struct runner {
    struct check_call call;
    sp_socket a;
    sp_socket b;
};

static long call_device(void *arg)
{
    struct runner *r = arg;

    return sp_device(r->a, r->b);
}

static void the_blocking_call_returns_when_a_socket_is_closed(void **state)
{
    struct runner r = {.a = relay_raw("rep"), .b = relay_raw("req")};
    sp_socket req = check_open("req");
    sp_socket rep = check_open("rep");
    char url[256];

    (void)state;
    check_listen(r.a, "tcp", url, NULL);
    check_ok(sp_dial(req, url, NULL, 0));
    check_listen(rep, "tcp", url, NULL);
    check_ok(sp_dial(r.b, url, NULL, 0));
    check_call_start(&r.call, call_device, &r);
    check_send(req, "question");
    check_recv(rep, "question");
    check_send(rep, "answer");
    check_recv(req, "answer");
    assert_false(check_call_ended(&r.call, 0));
    check_ok(sp_close(r.b));
    assert_int_equal(check_call_join(&r.call, CHECK_SOON), SP_OK);
    check_rest(r.a);
}

static void the_blocking_call_returns_at_the_end_of_the_library(void **state)
{
    struct runner r = {.a = relay_raw("pair"), .b = relay_raw("pair")};

    (void)state;
    check_call_start(&r.call, call_device, &r);
    assert_false(check_call_ended(&r.call, 20));
    sp_fini();
    assert_int_equal(check_call_join(&r.call, CHECK_SOON), SP_OK);
}

static atomic_int callback_rc;

static int device_in_callback(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    (void)s;
    (void)p;
    if (ev == SP_PIPE_ADDED) {
        sp_socket *both = arg;

        atomic_store(&callback_rc, sp_device(both[0], both[1]));
    }
    return 0;
}

static void in_a_callback_it_may_not_block(void **state)
{
    sp_socket raw[2] = {relay_raw("pair"), relay_raw("pair")};
    sp_socket a = check_open("pair");
    sp_socket b = check_open("pair");
    char url[256];

    (void)state;
    atomic_store(&callback_rc, 1);
    check_ok(sp_on_pipe(a, device_in_callback, raw));
    check_listen(a, "inproc", url, NULL);
    check_ok(sp_dial(b, url, NULL, 0));
    check_until(atomic_load(&callback_rc) != 1);
    assert_int_equal(atomic_load(&callback_rc), SP_ESTATE);
}

enum ending { CANCEL, STOP, FREE, DEADLINE, SCOPE, ENDINGS };

/// Ends an operation that runs a device, and frees it.
static void end_by(enum ending how, sp_op *op, sp_scope scope)
{
    static const int results[] = {SP_ECANCELED, SP_ECANCELED, 0, SP_ETIMEDOUT, SP_ECANCELED};

    check_ok(how == CANCEL  ? sp_op_cancel(op)
             : how == STOP  ? sp_op_stop(op)
             : how == SCOPE ? sp_scope_cancel(scope)
                            : SP_OK);
    if (how != FREE) {
        check_rc(results[how], sp_op_wait(op));
    }
    sp_op_free(op);
}

/// What is on its way through the device when it ends is received by who asks the sockets.
static void its_end_leaves_both_sockets_usable_and_loses_nothing(void **state)
{
    (void)state;
    for (enum ending how = CANCEL; how < ENDINGS; how++) {
        struct both x;
        sp_op *op = device_op();
        sp_scope scope;
        int sent = 0;
        int got = 0;
        char buf[8];

        both_open(&x);
        check_ok(sp_op_cancel(x.relay.op));
        check_rc(SP_ECANCELED, sp_op_wait(x.relay.op));
        check_ok(sp_scope_open(&scope, (sp_scope){0}, -1));
        sp_op_deadline(op, how == DEADLINE ? 50 : -1);
        sp_op_scope(op, how == SCOPE ? scope : (sp_scope){0});
        check_ok(sp_op_device(op, x.relay.a, x.relay.b));
        check_ok(sp_set_int(x.left.id, "send-timeout", 50));
        while (sp_send(x.left, &sent, sizeof(sent), 0) == SP_OK) {
            sent++;
        }
        end_by(how, op, scope);
        check_rest(x.relay.a);
        check_rest(x.relay.b);
        // First what was forwarded, then what was not.
        for (int from = -1; got < sent; got++) {
            int n = -1;

            if (from < 0 &&
                check_stat(x.right.id, "rx_delivered") == check_stat(x.relay.b.id, "tx_accepted")) {
                from = got;
            }
            assert_int_equal(sp_recv(from < 0 ? x.right : x.relay.a, &n, sizeof(n), 0), sizeof(n));
            assert_int_equal(n, got);
        }
        check_rc(SP_EAGAIN, sp_recv(x.right, buf, sizeof(buf), SP_NONBLOCK));
        check_send(x.relay.a, "hi");
        check_recv(x.left, "hi");
        check_ok(sp_scope_close(scope));
        both_close(&x);
    }
}

static void it_may_be_started_again_and_again(void **state)
{
    struct both x;

    (void)state;
    both_open(&x);
    for (int i = 0; i < 100; i++) {
        check_send(x.left, "there");
        check_recv(x.right, "there");
        check_ok(sp_op_cancel(x.relay.op));
        check_rc(SP_ECANCELED, sp_op_wait(x.relay.op));
        check_send(x.right, "back");
        check_ok(sp_op_device(x.relay.op, x.relay.a, x.relay.b));
        check_recv(x.left, "back");
    }
    both_close(&x);
}

static void count_done(sp_op *op, void *arg)
{
    (void)op;
    (void)atomic_fetch_add((atomic_int *)arg, 1);
}

static void done_is_called_once(void **state)
{
    sp_socket s = relay_raw("pair");
    atomic_int done = 0;
    sp_op *op;

    (void)state;
    check_ok(sp_op_new(&op, count_done, &done));
    check_ok(sp_op_device(op, s, s));
    assert_int_equal(atomic_load(&done), 0);
    check_ok(sp_close(s));
    check_rc(SP_OK, sp_op_wait(op));
    assert_int_equal(atomic_load(&done), 1);
    sp_op_free(op);
}

/* ------------------------------------------------------------------ Flow */

static void one_socket_reflects(void **state)
{
    sp_socket echo = relay_raw("pair");
    sp_socket s = check_open("pair");
    sp_op *op = device_op();
    char url[256];

    (void)state;
    check_listen(echo, "tcp", url, NULL);
    check_ok(sp_op_device(op, echo, echo));
    check_ok(sp_dial(s, url, NULL, 0));
    for (int i = 0; i < 300; i++) {
        check_send(s, "shout");
    }
    for (int i = 0; i < 300; i++) {
        check_recv(s, "shout");
    }
    check_rest(echo);
    check_stat_is(echo.id, "tx_accepted", 300);
    sp_op_free(op);
}

/// Nobody receives at the end: what the queues on the way take is bounded, and arrives.
static void pushing_back_reaches_the_sender(void **state)
{
    static char big[100000];
    const size_t sizes[] = {4, sizeof(big)};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct both x;
        int sent = 0;

        both_open(&x);
        // Each large message costs 3, and makes a step find less credit than it hoped for.
        check_ok(sp_set_int(x.left.id, "send-timeout", 100));
        for (; sp_send(x.left, memcpy(big, &sent, sizeof(sent)), sizes[i], 0) == SP_OK; sent++) {
            assert_true(sent < 5000);
        }
        check_rest(x.relay.a);
        check_rest(x.relay.b);
        // What was taken from the one was given to the other: the device holds nothing.
        assert_int_equal(check_stat(x.relay.a.id, "rx_delivered"),
                         check_stat(x.relay.b.id, "tx_accepted"));
        assert_true(check_stat(x.relay.b.id, "tx_accepted") > 0);
        assert_true(check_stat(x.relay.a.id, "rx_queued") > 0);
        for (int n = 0; n < sent; n++) {
            int got = -1;

            assert_int_equal(sp_recv(x.right, big, sizeof(big), 0), sizes[i]);
            memcpy(&got, big, sizeof(got));
            assert_int_equal(got, n);
        }
        check_stat_is(x.relay.b.id, "tx_accepted", sent);
        relay_close(&x.relay);
        check_ok(sp_close(x.left));
        check_ok(sp_close(x.right));
    }
}

/// Sends numbers, each in a message of `len` bytes, and waits until all are in the queue in front.
static void queue_in_front(struct both *x, int n, size_t len)
{
    static char body[100000];

    both_open(x);
    check_ok(sp_op_cancel(x->relay.op));
    check_rc(SP_ECANCELED, sp_op_wait(x->relay.op));
    check_ok(sp_set_int(x->relay.a.id, "recv-buffer", 2000));
    for (int i = 0; i < n; i++) {
        check_ok(sp_send(x->left, memcpy(body, &i, sizeof(i)), len, 0));
    }
    check_stat_is(x->relay.a.id, "rx_queued", n);
}

static void check_numbers(sp_socket s, int from, int to)
{
    static char body[100000];

    for (; from < to; from++) {
        int n = -1;

        assert_true(sp_recv(s, body, sizeof(body), 0) > 0);
        memcpy(&n, body, sizeof(n));
        assert_int_equal(n, from);
    }
}

/// More than it takes in a row, with nothing that wakes it in between.
static void it_forwards_all_that_was_there_before_it(void **state)
{
    struct both x;

    (void)state;
    queue_in_front(&x, 1500, 4);
    check_ok(sp_set_int(x.relay.b.id, "send-buffer", 2000));
    check_ok(sp_close(x.right));
    x.right = check_open("pair");
    check_ok(sp_set_int(x.right.id, "recv-buffer", 2000));
    check_pipes(x.relay.b, 0);
    check_ok(sp_dial(x.right, x.relay.back, NULL, 0));
    check_pipes(x.relay.b, 1);
    check_ok(sp_op_device(x.relay.op, x.relay.a, x.relay.b));
    check_stat_is(x.right.id, "rx_queued", 1500);
    check_numbers(x.right, 0, 1500);
    relay_close(&x.relay);
    x.relay.op = NULL;
    both_close(&x);
}

/// The credit behind is for many messages, but not for large ones: what is too much goes back to
/// the front, where it is received when the device has ended.
static void what_finds_no_room_goes_back(void **state)
{
    (void)state;
    for (int ends = 0; ends < 2; ends++) {
        struct both x;
        int64_t there;

        queue_in_front(&x, 30, 100000);
        check_ok(sp_set_int(x.relay.b.id, "queue-bytes-max", 1 << 20)); // 13 of 128 each.
        check_ok(sp_set_int(x.right.id, "recv-buffer", 1));
        check_ok(sp_op_device(x.relay.op, x.relay.a, x.relay.b));
        check_rest(x.relay.a);
        check_rest(x.relay.b);
        there = check_stat(x.relay.b.id, "tx_accepted");
        if (ends) {
            check_ok(sp_op_cancel(x.relay.op));
            check_rc(SP_ECANCELED, sp_op_wait(x.relay.op));
            there = check_stat(x.relay.b.id, "tx_accepted");
            check_numbers(x.relay.a, (int)there, 30);
            check_numbers(x.right, 0, (int)there);
        } else {
            check_numbers(x.right, 0, 30);
        }
        both_close(&x);
    }
}

static void without_a_peer_behind_it_messages_wait(void **state)
{
    struct relay r;
    sp_socket left = check_open("pair");
    sp_socket right = check_open("pair");

    (void)state;
    relay_open(&r, "pair", "pair", "inproc", NULL);
    check_ok(sp_dial(left, r.front, NULL, 0));
    check_send(left, "early");
    check_stat_is(r.a.id, "rx_queued", 1);
    check_ok(sp_dial(right, r.back, NULL, 0));
    check_recv(right, "early");
    relay_close(&r);
}

static void others_may_send_on_its_sockets(void **state)
{
    struct both x;

    (void)state;
    both_open(&x);
    check_send(x.relay.b, "from the side");
    check_recv(x.right, "from the side");
    check_send(x.left, "through");
    check_recv(x.right, "through");
    both_close(&x);
}

static void several_devices_send_to_one_socket(void **state)
{
    sp_socket push = relay_raw("push");
    sp_socket sink = check_open("pull");
    sp_socket pull[3];
    sp_socket source[3];
    sp_op *op[3];
    char url[256];

    (void)state;
    check_listen(push, "inproc", url, NULL);
    check_ok(sp_dial(sink, url, NULL, 0));
    for (int i = 0; i < 3; i++) {
        pull[i] = relay_raw("pull");
        source[i] = check_open("push");
        op[i] = device_op();
        check_listen(pull[i], "inproc", url, NULL);
        check_ok(sp_dial(source[i], url, NULL, 0));
        check_ok(sp_op_device(op[i], pull[i], push));
    }
    for (int i = 0; i < 3; i++) {
        check_send(source[i], "work");
    }
    for (int i = 0; i < 3; i++) {
        check_recv(sink, "work");
    }
    check_ok(sp_close(push));
    for (int i = 0; i < 3; i++) {
        check_rc(SP_OK, sp_op_wait(op[i]));
        sp_op_free(op[i]);
    }
}

static atomic_ulong allocations;

static void *counting_alloc(size_t size, size_t align)
{
    atomic_fetch_add(&allocations, 1);
    return sp__platform_linux.alloc(size, align);
}

static void no_message_takes_memory(void **state)
{
    static struct sp_platform counting;
    unsigned long before = 0;
    struct both x;

    (void)state;
    counting = sp__platform_linux;
    counting.alloc = counting_alloc;
    sp__platform = &counting;
    check_init(0);
    both_open(&x);
    for (int i = 0; i < 20000; i++) {
        check_send(x.left, "there");
        check_recv(x.right, "there");
        if (i == 1000) {
            before = atomic_load(&allocations);
        }
    }
    assert_int_equal(atomic_load(&allocations), before);
    both_close(&x);
    check_fini();
    sp__platform = &sp__platform_linux;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(sockets_must_be_raw_and_talk_to_each_other),
        check_both(a_socket_is_received_from_by_one),
        cmocka_unit_test_setup_teardown(nobody_else_receives_meanwhile, check_start_threads,
                                        check_stop),
        check_both(closing_either_socket_ends_it_with_success),
        check_both(closing_the_side_that_only_receives_or_only_sends_ends_it),
        check_both(the_blocking_call_returns_when_a_socket_is_closed),
        check_both(the_blocking_call_returns_at_the_end_of_the_library),
        check_both(in_a_callback_it_may_not_block),
        check_both(its_end_leaves_both_sockets_usable_and_loses_nothing),
        check_both(it_may_be_started_again_and_again),
        check_both(done_is_called_once),
        check_both(one_socket_reflects),
        check_both(pushing_back_reaches_the_sender),
        check_both(it_forwards_all_that_was_there_before_it),
        check_both(what_finds_no_room_goes_back),
        check_both(without_a_peer_behind_it_messages_wait),
        check_both(others_may_send_on_its_sockets),
        check_both(several_devices_send_to_one_socket),
        cmocka_unit_test(no_message_takes_memory),
    };

    return cmocka_run_group_tests_name("device", tests, NULL, NULL);
}
