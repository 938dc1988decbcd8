/* SPDX-License-Identifier: MIT */
/// Closing in every state of every pattern: while calls are blocked, while dialling, with queues
/// full, with a question open, from a callback. Nobody hangs, nothing is left (check_fini).
#include "conform.h"

#include <stdatomic.h>
#include <string.h>

static long receive_one(void *arg)
{
    char c;

    return sp_recv(*(sp_socket *)arg, &c, 1, 0);
}

static long send_one(void *arg)
{
    return sp_send(*(sp_socket *)arg, "x", 1, 0);
}

static long send_until_it_fails(void *arg)
{
    static const char body[16384];
    int rc;

    do {
        rc = sp_send(*(sp_socket *)arg, body, sizeof(body), 0);
    } while (rc == SP_OK);
    return rc;
}

/// A call is blocked, the socket is closed, the call says so.
static void close_under_call(long (*fn)(void *arg), sp_socket s)
{
    struct check_call call;

    check_ok(sp_set_int(s.id, "linger", 0));
    check_ok(sp_set_int(s.id, "recv-timeout", -1));
    check_ok(sp_set_int(s.id, "send-timeout", -1));
    check_call_start(&call, fn, &s);
    assert_false(check_call_ended(&call, 20));
    check_ok(sp_close(s));
    check_rc(SP_ECLOSED, check_call_join(&call, CHECK_SOON));
}

static void close_ends_a_receive(void **state)
{
    sp_socket sender;
    sp_socket receiver;

    (void)state;
    close_under_call(receive_one, conform_receiver()); // Nobody is there.
    conform_couple(&sender, &receiver);
    close_under_call(receive_one, receiver);
}

static void close_ends_the_wait_for_an_answer(void **state)
{
    sp_socket sender;
    sp_socket receiver;

    (void)state;
    conform_couple(&sender, &receiver);
    conform_send(sender, 1);
    if (strcmp(conform.pattern->sender, "surveyor") == 0) {
        check_ok(sp_close(sender));
        return; // Its time would end the wait too.
    }
    close_under_call(receive_one, sender);
}

static void close_ends_a_send_without_peer(void **state)
{
    (void)state;
    close_under_call(send_one, conform_sender());
}

static void close_ends_a_send_without_room(void **state)
{
    sp_socket sender;
    sp_socket receiver;

    (void)state;
    conform_couple(&sender, &receiver);
    close_under_call(send_until_it_fails, sender);
}

struct dialing {
    sp_socket s;
    char url[256];
};

static long dial(void *arg)
{
    struct dialing *d = arg;

    return sp_dial(d->s, d->url, NULL, 0);
}

/// A listener that accepts nobody: the hello never comes.
static void close_while_dialing(void **state)
{
    sp_socket a = conform_sender();
    struct dialing d;

    (void)state;
    check_listen(a, conform.transport, d.url, NULL);
    for (int i = 0; i < 30; i++) {
        struct check_call call;
        long rc;

        d.s = conform_receiver();
        check_call_start(&call, dial, &d);
        if (i % 3 == 1) {
            check_pause();
        } else if (i % 3 == 2) {
            (void)check_call_ended(&call, CHECK_SOON);
        }
        check_ok(sp_close(d.s));
        rc = check_call_join(&call, CHECK_SOON);
        assert_true(rc == SP_OK || rc == SP_ECLOSED);
    }
    check_pipes(a, 0);
    check_rest(a);
}

static void close_while_dialing_again_and_again(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        sp_socket s = conform_sender();
        char url[256];

        check_url(conform.transport, url);
        if (strstr(url, ":0") != NULL || strstr(url, ":*") != NULL) {
            sp_socket other = conform_receiver(); // A port that was free a moment ago.

            check_listen(other, conform.transport, url, NULL);
            check_ok(sp_close(other));
        }
        check_ok(sp_dial(s, url, NULL, SP_NONBLOCK));
        if (i % 2 == 1) {
            check_until(check_stat(s.id, "dialers[0].refused") > 0);
        }
        check_ok(sp_close(s));
    }
}

/// Messages queued at both ends, and either end closes first.
static void close_with_messages_queued(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        sp_socket both[2];
        int rc = SP_OK;

        conform_couple(&both[0], &both[1]);
        for (int k = 0; k < 500 && rc == SP_OK; k++) {
            rc = sp_send(both[0], &k, sizeof(k), SP_NONBLOCK);
        }
        for (int k = 0; k < 2; k++) {
            check_ok(sp_set_int(both[k].id, "linger", i % 4 < 2 ? 0 : 20));
        }
        check_ok(sp_close(both[i % 2]));
        check_rest(both[1 - i % 2]);
        check_ok(sp_close(both[1 - i % 2]));
    }
}

/// What was sent before the close arrives within linger.
static void close_lingers_for_what_was_sent(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        sp_socket sender;
        sp_socket receiver;

        conform_couple(&sender, &receiver);
        check_ok(sp_set_int(sender.id, "linger", CHECK_SOON));
        for (int i = 0; i < 100; i++) {
            conform_send(sender, i);
        }
        check_ok(sp_close(sender));
        for (int i = 0; i < 100; i++) {
            assert_int_equal(conform_recv(receiver), i);
        }
        check_pipes(receiver, 0);
        check_rest(receiver);
        check_ok(sp_close(receiver));
    }
}

static void close_with_a_question_held(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    sp_ctx ctx = {0};

    (void)state;
    conform_couple(&sender, &receiver);
    check_ok(sp_ctx_open(&ctx, receiver));
    conform_send(sender, 1);
    assert_int_equal(conform_recv(receiver), 1);
    check_ok(sp_close(receiver));
    check_rc(SP_ECLOSED, sp_ctx_close(ctx)); // It went with its socket.
    check_ok(sp_close(sender));
}

static atomic_int closed_inside;

static int close_inside(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    (void)p;
    if ((int)ev == *(int *)arg) {
        atomic_store(&closed_inside, sp_close(s) == SP_OK ? 1 : -1);
    }
    return 0;
}

static void close_from_a_pipe_event(void **state)
{
    (void)state;
    for (int i = SP_PIPE_ADDING; i <= SP_PIPE_REMOVED; i++) {
        static int ev; // read until the socket is gone
        sp_socket sender = conform_sender();
        sp_socket receiver = conform_receiver();
        char url[256];

        ev = i;
        atomic_store(&closed_inside, 0);
        check_ok(sp_on_pipe(receiver, close_inside, &ev));
        check_listen(sender, conform.transport, url, NULL);
        check_ok(sp_dial(receiver, url, NULL, SP_NONBLOCK));
        if (ev == SP_PIPE_REMOVED) {
            check_pipes(sender, 1);
            check_pipes(receiver, 1);
            check_ok(sp_pipe_close(check_pipe(sender)));
        }
        check_until(atomic_load(&closed_inside) != 0);
        assert_int_equal(atomic_load(&closed_inside), 1);
        check_rc(SP_ECLOSED, sp_close(receiver));
        check_pipes(sender, 0);
        check_ok(sp_close(sender));
        check_until(check_stat(0, "runtime.objects") == 0);
    }
}

static void close_inside_done(sp_op *op, void *arg)
{
    (void)op;
    atomic_store(&closed_inside, sp_close(*(sp_socket *)arg) == SP_OK ? 1 : -1);
}

static void close_from_a_callback(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    sp_op *op = NULL;

    (void)state;
    conform_couple(&sender, &receiver);
    atomic_store(&closed_inside, 0);
    check_ok(sp_op_new(&op, close_inside_done, &receiver));
    check_ok(sp_op_recv(op, receiver.id));
    conform_send(sender, 1);
    check_until(atomic_load(&closed_inside) == 1);
    sp_op_free(op);
    check_pipes(sender, 0);
    check_rest(sender);
}

int main(void)
{
    static const struct conform_fact facts[] = {
        conform_fact(close_ends_a_receive, 0, 0),
        conform_fact(close_ends_the_wait_for_an_answer, CONFORM_ASKS, 0),
        conform_fact_once(close_ends_a_send_without_peer, 0, CONFORM_DROPS),
        conform_fact(close_ends_a_send_without_room, 0, CONFORM_DROPS | CONFORM_ASKS),
        conform_fact(close_while_dialing, 0, 0),
        conform_fact(close_while_dialing_again_and_again, 0, 0),
        conform_fact(close_with_messages_queued, 0, 0),
        conform_fact(close_lingers_for_what_was_sent, 0, CONFORM_ASKS),
        conform_fact(close_with_a_question_held, CONFORM_ASKS, 0),
        conform_fact(close_from_a_pipe_event, 0, 0),
        conform_fact(close_from_a_callback, 0, 0),
    };

    return conform_run(facts, sizeof(facts) / sizeof(facts[0]));
}
