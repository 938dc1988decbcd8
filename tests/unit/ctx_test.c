/* SPDX-License-Identifier: MIT */
/// Contexts of REQ and REP: any number of requests in flight on one socket, each with its own
/// time-out and resend; closing or cancelling one leaves the others alone.
#include "check.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define N 64

static sp_socket req;
static sp_socket rep;

static int couple_with(int threads)
{
    check_init(threads);
    check_couple("inproc", "rep", "req", &rep, &req);
    return 0;
}

static int start(void **state)
{
    (void)state;
    return couple_with(2);
}

static int start_driven(void **state)
{
    (void)state;
    return couple_with(0);
}

static int stop(void **state)
{
    (void)state;
    check_fini();
    return 0;
}

static sp_msg *number(int n)
{
    sp_msg *m = NULL;

    check_ok(sp_msg_new(&m, sizeof(n)));
    memcpy(sp_msg_data(m), &n, sizeof(n));
    return m;
}

/// The number in a message, which is released.
static int number_of(sp_msg *m)
{
    int n = -1;

    assert_non_null(m);
    assert_int_equal(sp_msg_len(m), sizeof(n));
    memcpy(&n, sp_msg_view(m), sizeof(n));
    sp_msg_release(m);
    return n;
}

static void ask(sp_ctx c, int n)
{
    check_ok(sp_ctx_sendmsg(c, number(n), 0));
}

static int answer(sp_ctx c)
{
    sp_msg *m = NULL;

    check_ok(sp_ctx_recvmsg(c, &m, 0));
    return number_of(m);
}

/// Answers one request with its number plus 1000.
static void serve(sp_ctx c)
{
    sp_msg *m = NULL;

    check_ok(sp_ctx_recvmsg(c, &m, 0));
    ask(c, number_of(m) + 1000);
}

static void requests_in_flight_get_their_own_answers(void **state)
{
    sp_ctx q[N];
    sp_ctx p[N];

    (void)state;
    for (int i = 0; i < N; i++) {
        check_ok(sp_ctx_open(&q[i], req));
        check_ok(sp_ctx_open(&p[i], rep));
        ask(q[i], i);
    }
    for (int i = 0; i < N; i++) {
        sp_msg *m = NULL;

        check_ok(sp_ctx_recvmsg(p[i], &m, 0));
        ask(p[i], number_of(m) + 1000); // Each remembers its own request.
    }
    for (int i = N - 1; i >= 0; i--) {
        assert_int_equal(answer(q[i]), i + 1000);
        check_ok(sp_ctx_close(q[i]));
        check_ok(sp_ctx_close(p[i]));
    }
    check_rest(req);
    check_rest(rep);
}

static void replies_go_out_of_order_to_whom_they_belong(void **state)
{
    sp_ctx q[2];
    sp_ctx p[2];
    int got[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        check_ok(sp_ctx_open(&q[i], req));
        check_ok(sp_ctx_open(&p[i], rep));
        ask(q[i], i);
    }
    for (int i = 0; i < 2; i++) {
        sp_msg *m = NULL;

        check_ok(sp_ctx_recvmsg(p[i], &m, 0));
        got[i] = number_of(m);
    }
    ask(p[1], got[1] + 1000);
    assert_int_equal(answer(q[got[1]]), got[1] + 1000);
    ask(p[0], got[0] + 1000);
    assert_int_equal(answer(q[got[0]]), got[0] + 1000);
}

static void context_needs_a_request_of_its_own_to_reply(void **state)
{
    sp_ctx q;
    sp_ctx p[2];
    sp_msg *m = number(1);

    (void)state;
    check_ok(sp_ctx_open(&q, req));
    check_ok(sp_ctx_open(&p[0], rep));
    check_ok(sp_ctx_open(&p[1], rep));
    ask(q, 7);
    check_detail(SP_ESTATE, "send: \"rep\" has no request to answer (receive one first)",
                 sp_ctx_sendmsg(p[1], m, 0));
    serve(p[0]);
    check_rc(SP_ESTATE, sp_ctx_sendmsg(p[0], m, 0)); // One reply a request.
    assert_int_equal(answer(q), 1007);
    sp_msg_release(m);
}

static void context_and_socket_do_not_disturb_each_other(void **state)
{
    sp_ctx q;
    sp_ctx p;

    (void)state;
    check_ok(sp_ctx_open(&q, req));
    check_ok(sp_ctx_open(&p, rep));
    check_send(req, "from the socket");
    ask(q, 1);
    check_recv(rep, "from the socket");
    serve(p);
    check_send(rep, "to the socket");
    assert_int_equal(answer(q), 1001);
    check_recv(req, "to the socket");
}

static void closing_a_context_leaves_the_others_alone(void **state)
{
    sp_ctx q[2];
    sp_op *op[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        check_ok(sp_ctx_open(&q[i], req));
        ask(q[i], i);
        check_ok(sp_op_new(&op[i], NULL, NULL));
        check_ok(sp_op_recv(op[i], q[i].id));
    }
    check_ok(sp_ctx_close(q[0]));
    check_rc(SP_ECLOSED, sp_op_wait(op[0]));
    check_rc(SP_ECLOSED, sp_ctx_close(q[0]));
    check_rc(SP_ECLOSED, sp_ctx_sendmsg(q[0], (sp_msg *)&q, 0));
    for (int i = 0; i < 2; i++) {
        sp_ctx p;

        check_ok(sp_ctx_open(&p, rep)); // Both requests were sent; the first answer is stale.
        serve(p);
    }
    check_ok(sp_op_wait(op[1]));
    assert_int_equal(number_of(sp_op_msg(op[1])), 1001);
    sp_op_free(op[0]);
    sp_op_free(op[1]);
    check_rest(req);
}

static void cancelling_in_a_context_leaves_the_others_alone(void **state)
{
    sp_ctx q[2];
    sp_op *op[2];
    sp_ctx p;

    (void)state;
    check_ok(sp_ctx_open(&p, rep));
    for (int i = 0; i < 2; i++) {
        check_ok(sp_ctx_open(&q[i], req));
        ask(q[i], i);
        check_ok(sp_op_new(&op[i], NULL, NULL));
        check_ok(sp_op_recv(op[i], q[i].id));
    }
    check_ok(sp_op_cancel(op[1]));
    check_rc(SP_ECANCELED, sp_op_wait(op[1]));
    serve(p);
    serve(p);
    check_ok(sp_op_wait(op[0]));
    assert_int_equal(number_of(sp_op_msg(op[0])), 1000);
    assert_int_equal(answer(q[1]), 1001); // The question is still open.
    sp_op_free(op[0]);
    sp_op_free(op[1]);
}

static void waiting_in_a_reply_context_ends_with_it_alone(void **state)
{
    sp_ctx p[3];
    sp_op *op[3];
    sp_ctx q;

    (void)state;
    check_ok(sp_ctx_open(&q, req));
    for (int i = 0; i < 3; i++) {
        check_ok(sp_ctx_open(&p[i], rep));
        check_ok(sp_op_new(&op[i], NULL, NULL));
        check_ok(sp_op_recv(op[i], p[i].id));
    }
    check_ok(sp_ctx_close(p[0])); // It was the first in line.
    check_rc(SP_ECLOSED, sp_op_wait(op[0]));
    ask(q, 5);
    check_ok(sp_op_wait(op[1]));
    assert_int_equal(number_of(sp_op_msg(op[1])), 5);
    check_ok(sp_op_cancel(op[2]));
    for (int i = 0; i < 3; i++) {
        sp_op_free(op[i]);
    }
}

static void each_context_has_its_own_time_out_and_resend(void **state)
{
    sp_ctx q[2];
    sp_msg *m = NULL;
    int64_t v = 0;

    (void)state;
    check_ok(sp_set_int(req.id, "recv-timeout", 12345));
    check_ok(sp_ctx_open(&q[0], req));
    check_ok(sp_ctx_open(&q[1], req));
    check_ok(sp_get_int(q[0].id, "recv-timeout", &v));
    assert_int_equal(v, 12345);
    check_ok(sp_set_int(q[0].id, "recv-timeout", 20));
    check_ok(sp_set_int(q[0].id, "req:resend-time", 7));
    check_ok(sp_get_int(q[1].id, "req:resend-time", &v));
    assert_int_equal(v, 60000);
    check_ok(sp_set_int(req.id, "req:resend-time", 8));
    check_ok(sp_ctx_close(q[1]));
    check_ok(sp_ctx_open(&q[1], req));
    check_ok(sp_get_int(q[1].id, "req:resend-time", &v));
    assert_int_equal(v, 8);
    check_ok(sp_get_int(req.id, "recv-timeout", &v));
    assert_int_equal(v, 12345);
    check_rc(SP_ENOTSUP, sp_set_int(q[0].id, "linger", 1));
    check_rc(SP_ENOTSUP, sp_set_int(q[0].id, "req:resend-tick", 1));
    ask(q[0], 1);
    check_rc(SP_ETIMEDOUT, sp_ctx_recvmsg(q[0], &m, 0));
}

static void context_is_closed_with_its_socket(void **state)
{
    sp_ctx q;
    sp_op *op;
    sp_msg *m = NULL;

    (void)state;
    check_ok(sp_ctx_open(&q, req));
    ask(q, 1);
    check_ok(sp_op_new(&op, NULL, NULL));
    check_ok(sp_op_recv(op, q.id));
    check_ok(sp_close(req));
    check_rc(SP_ECLOSED, sp_op_wait(op));
    check_rc(SP_ECLOSED, sp_ctx_recvmsg(q, &m, 0));
    sp_op_free(op);
}

static void what_has_no_contexts_says_so(void **state)
{
    sp_socket pair = check_open("pair");
    sp_socket raw;
    sp_ctx c = {0};

    (void)state;
    check_detail(SP_ENOTSUP, "context: the protocol \"pair\" has none", sp_ctx_open(&c, pair));
    check_ok(sp_open_raw(&raw, "rep"));
    check_detail(SP_ENOTSUP, "context: the protocol \"rep\" in raw mode has none",
                 sp_ctx_open(&c, raw));
    check_rc(SP_EINVAL, sp_ctx_open(NULL, req));
    check_rc(SP_EINVAL, sp_ctx_open(&c, (sp_socket){0}));
    check_rc(SP_EINVAL, sp_ctx_close((sp_ctx){pair.id}));
    check_ok(sp_ctx_open(&c, req));
    check_rc(SP_EINVAL, sp_close((sp_socket){c.id}));
    check_rc(SP_ESTATE, sp_ctx_recvmsg(c, &(sp_msg *){NULL}, 0));
    check_rc(SP_EINVAL, sp_ctx_recvmsg(c, NULL, 0));
    check_rc(SP_EINVAL, sp_ctx_sendmsg(c, NULL, 0));
}

static void request_waits_for_a_peer_in_every_context(void **state)
{
    sp_socket late = check_open("req");
    sp_socket server = check_open("rep");
    sp_ctx q[N];
    sp_op *op[N];
    char url[256];

    (void)state;
    for (int i = 0; i < N; i++) {
        check_ok(sp_ctx_open(&q[i], late));
        check_ok(sp_op_new(&op[i], NULL, NULL));
        check_ok(sp_op_send(op[i], q[i].id, number(i)));
    }
    check_listen(server, "tcp", url, NULL);
    check_ok(sp_dial(late, url, NULL, 0));
    for (int i = 0; i < N; i++) {
        sp_ctx p;

        check_ok(sp_ctx_open(&p, server));
        serve(p);
        check_ok(sp_ctx_close(p)); // What was sent before is sent.
    }
    for (int i = 0; i < N; i++) {
        check_ok(sp_op_wait(op[i]));
        assert_int_equal(answer(q[i]), i + 1000);
        sp_op_free(op[i]);
    }
    check_rest(late);
    check_rest(server);
}

/* ------------------------------------------------------------------ A server and a client by
 * callbacks */

struct worker {
    sp_op *op;
    sp_ctx ctx;
    bool sending;
    int left; ///< a client's requests
    atomic_int *ended;
};

static void server_step(sp_op *op, void *arg)
{
    struct worker *w = arg;
    sp_msg *m;

    if (sp_op_result(op) != SP_OK) {
        sp_msg_release(sp_op_msg(op));
        return;
    }
    w->sending = !w->sending;
    if (w->sending) {
        m = sp_op_msg(op);
        if (sp_op_send(op, w->ctx.id, m) < 0) {
            sp_msg_release(m);
        }
    } else {
        w->left -= sp_op_recv(op, w->ctx.id) < 0;
    }
}

static void client_step(sp_op *op, void *arg)
{
    struct worker *w = arg;
    sp_msg *m = sp_op_msg(op);

    if (sp_op_result(op) == SP_OK && !w->sending && --w->left == 0) {
        atomic_fetch_add(w->ended, 1);
        sp_msg_release(m);
        return;
    }
    w->sending = !w->sending;
    if (sp_op_result(op) != SP_OK ||
        (w->sending ? sp_op_send(op, w->ctx.id, m) : sp_op_recv(op, w->ctx.id)) < 0) {
        sp_msg_release(m);
        atomic_fetch_add(w->ended, 1000);
    }
}

static void callbacks_keep_many_requests_in_flight(void **state)
{
    struct worker server[N];
    struct worker client[N];
    atomic_int ended;

    (void)state;
    atomic_init(&ended, 0);
    for (int i = 0; i < N; i++) {
        server[i] = (struct worker){.sending = false};
        check_ok(sp_ctx_open(&server[i].ctx, rep));
        check_ok(sp_op_new(&server[i].op, server_step, &server[i]));
        check_ok(sp_op_recv(server[i].op, server[i].ctx.id));
        client[i] = (struct worker){.sending = true, .left = 100, .ended = &ended};
        check_ok(sp_ctx_open(&client[i].ctx, req));
        check_ok(sp_op_new(&client[i].op, client_step, &client[i]));
    }
    for (int i = 0; i < N; i++) {
        check_ok(sp_op_send(client[i].op, client[i].ctx.id, number(i)));
    }
    check_until(atomic_load(&ended) == N);
    for (int i = 0; i < N; i++) {
        sp_op_free(client[i].op);
        sp_op_free(server[i].op);
    }
    check_rest(req);
    check_rest(rep);
}

#define both(fn)                                                                                   \
    cmocka_unit_test_setup_teardown(fn, start, stop),                                              \
        cmocka_unit_test_setup_teardown(fn, start_driven, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        both(requests_in_flight_get_their_own_answers),
        both(replies_go_out_of_order_to_whom_they_belong),
        both(context_needs_a_request_of_its_own_to_reply),
        both(context_and_socket_do_not_disturb_each_other),
        both(closing_a_context_leaves_the_others_alone),
        both(cancelling_in_a_context_leaves_the_others_alone),
        both(waiting_in_a_reply_context_ends_with_it_alone),
        both(each_context_has_its_own_time_out_and_resend),
        both(context_is_closed_with_its_socket),
        both(what_has_no_contexts_says_so),
        both(request_waits_for_a_peer_in_every_context),
        both(callbacks_keep_many_requests_in_flight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
