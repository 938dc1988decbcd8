/* SPDX-License-Identifier: MIT */
/// Time-outs of every pattern: a call waits as long as it was told, no shorter, and is ended by
/// what it waits for.
#include "conform.h"

#include <string.h>

#define WAIT 40 // ms: what calls that shall run out of time are given

/// A call's result and how long it took, ms.
#define check_timed(want, least, call)                                                             \
    do {                                                                                           \
        int64_t begin_ = check_now();                                                              \
        check_rc(want, call);                                                                      \
        assert_in_range(check_now() - begin_ + 1, (least), CHECK_SOON);                            \
    } while (0)

/// Brings a couple to where the one who is to receive waits: a question is under way.
static sp_socket waiting_side(sp_socket sender, sp_socket receiver)
{
    if ((conform.pattern->flags & CONFORM_ASKS) != 0) {
        conform_send(sender, 1);
        return sender;
    }
    return receiver;
}

static void receive_waits_as_long_as_it_was_told(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    char c;

    (void)state;
    conform_couple(&sender, &receiver);
    check_ok(sp_set_int(receiver.id, "recv-timeout", WAIT));
    check_timed(SP_ETIMEDOUT, WAIT, sp_recv(receiver, &c, 1, 0));
    check_timed(SP_ETIMEDOUT, WAIT, sp_recv(receiver, &c, 1, 0));
    check_ok(sp_set_int(receiver.id, "recv-timeout", 0));
    check_rc(SP_EAGAIN, sp_recv(receiver, &c, 1, SP_NONBLOCK));
    check_rc(SP_EAGAIN, sp_recv(receiver, &c, 1, 0));
    check_ok(sp_set_int(receiver.id, "recv-timeout", CHECK_SOON));
    conform_exchange(sender, receiver, 1); // None of that did any harm.
}

static void answer_that_does_not_come_is_waited_for_as_told(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    char c;

    (void)state;
    conform_couple(&sender, &receiver);
    conform_send(sender, 1);
    check_ok(sp_set_int(sender.id, "recv-timeout", WAIT));
    check_timed(SP_ETIMEDOUT, WAIT, sp_recv(sender, &c, 1, 0));
    check_ok(sp_set_int(sender.id, "recv-timeout", CHECK_SOON));
    assert_int_equal(conform_recv(receiver), 1);
    conform_send(receiver, 2);
    assert_int_equal(conform_recv(sender), 2); // The question stayed open.
}

static void send_waits_for_a_peer_as_long_as_it_was_told(void **state)
{
    sp_socket s = conform_sender();

    (void)state;
    check_ok(sp_set_int(s.id, "send-timeout", WAIT));
    check_timed(SP_ETIMEDOUT, WAIT, sp_send(s, "x", 1, 0));
    check_rc(SP_ENOPEER, sp_send(s, "x", 1, SP_NONBLOCK));
    assert_int_equal(check_stat(s.id, "tx_accepted"), 0);
}

static void send_waits_for_room_as_long_as_it_was_told(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    int n;

    (void)state;
    conform_couple(&sender, &receiver);
    n = conform_fill(sender);
    check_ok(sp_set_int(sender.id, "send-timeout", WAIT));
    for (int rc = SP_OK; rc == SP_OK; n += rc == SP_OK) { // There may be a little room again.
        int64_t begin = check_now();

        rc = sp_send(sender, &n, sizeof(n), 0);
        assert_true(rc == SP_OK || (rc == SP_ETIMEDOUT && check_now() - begin + 1 >= WAIT));
    }
    for (int i = 0; i < n; i++) {
        assert_int_equal(conform_recv(receiver), i);
    }
    check_ok(sp_set_int(sender.id, "send-timeout", CHECK_SOON));
    conform_exchange(sender, receiver, 7); // What timed out was not sent.
}

static long receive_one(void *arg)
{
    char c;

    return sp_recv(*(sp_socket *)arg, &c, 1, 0);
}

static long send_one(void *arg)
{
    return sp_send(*(sp_socket *)arg, "x", 1, 0);
}

static void receive_for_ever_ends_with_a_message(void **state)
{
    struct check_call call;
    sp_socket sender;
    sp_socket receiver;

    (void)state;
    conform_couple(&sender, &receiver);
    check_ok(sp_set_int(receiver.id, "recv-timeout", -1));
    check_call_start(&call, receive_one, &receiver);
    assert_false(check_call_ended(&call, WAIT));
    check_send(sender, "x");
    check_rc(1, check_call_join(&call, CHECK_SOON));
}

static void send_for_ever_ends_with_a_peer(void **state)
{
    struct check_call call;
    sp_socket sender = conform_sender();
    sp_socket receiver = conform_receiver();

    (void)state;
    check_ok(sp_set_int(sender.id, "send-timeout", -1));
    check_call_start(&call, send_one, &sender);
    assert_false(check_call_ended(&call, WAIT));
    conform_connect(&sender, 1, &receiver, 1);
    check_ok(check_call_join(&call, CHECK_SOON));
    check_recv(receiver, "x");
}

static void operations_have_the_sockets_time(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    sp_socket waits;
    sp_op *op = NULL;

    (void)state;
    conform_couple(&sender, &receiver);
    waits = waiting_side(sender, receiver);
    check_ok(sp_set_int(waits.id, "recv-timeout", WAIT));
    check_ok(sp_op_new(&op, NULL, NULL));
    check_ok(sp_op_recv(op, waits.id));
    check_timed(SP_ETIMEDOUT, WAIT - 10, sp_op_wait(op));
    sp_op_deadline(op, 2 * WAIT);
    check_ok(sp_op_recv(op, waits.id));
    check_timed(SP_ETIMEDOUT, 2 * WAIT - 10, sp_op_wait(op));
    sp_op_free(op);
}

static void scope_ends_a_receive_in_time(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    sp_scope scope = {0};
    sp_msg *m = NULL;

    (void)state;
    conform_couple(&sender, &receiver);
    check_ok(sp_scope_open(&scope, (sp_scope){0}, WAIT));
    check_timed(SP_ETIMEDOUT, WAIT - 10,
                sp_recvmsg_in(scope, waiting_side(sender, receiver).id, &m));
    check_ok(sp_scope_close(scope));
}

static void contexts_have_times_of_their_own(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    sp_ctx ctx = {0};
    sp_msg *m = NULL;
    int64_t v = 0;

    (void)state;
    conform_couple(&sender, &receiver);
    check_ok(sp_set_int(receiver.id, "recv-timeout", 123));
    check_ok(sp_ctx_open(&ctx, receiver));
    check_ok(sp_get_int(ctx.id, "recv-timeout", &v));
    assert_int_equal(v, 123);
    check_ok(sp_set_int(ctx.id, "recv-timeout", WAIT));
    check_ok(sp_get_int(receiver.id, "recv-timeout", &v));
    assert_int_equal(v, 123);
    check_timed(SP_ETIMEDOUT, WAIT, sp_ctx_recvmsg(ctx, &m, 0));
}

int main(void)
{
    static const struct conform_fact facts[] = {
        conform_fact(receive_waits_as_long_as_it_was_told, 0, 0),
        conform_fact(answer_that_does_not_come_is_waited_for_as_told, CONFORM_ASKS, 0),
        conform_fact_once(send_waits_for_a_peer_as_long_as_it_was_told, 0, CONFORM_DROPS),
        conform_fact_lossless(send_waits_for_room_as_long_as_it_was_told, 0,
                              CONFORM_DROPS | CONFORM_ASKS),
        conform_fact(receive_for_ever_ends_with_a_message, 0, 0),
        conform_fact(send_for_ever_ends_with_a_peer, 0, CONFORM_DROPS),
        conform_fact_once(operations_have_the_sockets_time, 0, 0),
        conform_fact_once(scope_ends_a_receive_in_time, 0, 0),
        conform_fact_once(contexts_have_times_of_their_own, CONFORM_ASKS, 0),
    };

    return conform_run(facts, sizeof(facts) / sizeof(facts[0]));
}
