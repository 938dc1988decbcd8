/* SPDX-License-Identifier: MIT */
/// sp_poll: what is ready when, over sockets, contexts and plain descriptors, with threads of the
/// library and without.
#include "check.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MANY 1000

static sp_socket a;
static sp_socket b;

/// What holds of an object; waits for it if there is time.
static short ready(uint64_t id, short events, int ms)
{
    sp_pollitem item = {.id = id, .events = events, .revents = 0x40};
    int n = sp_poll(&item, 1, ms);

    assert_int_equal(n, item.revents != 0);
    return item.revents;
}

#define IN SP_POLLIN
#define OUT SP_POLLOUT
#define BOTH (SP_POLLIN | SP_POLLOUT)

#define check_ready(want, id, events) assert_int_equal(want, ready(id, events, CHECK_SOON))
#define check_now_ready(want, id, events) assert_int_equal(want, ready(id, events, 0))

/* ------------------------------------------------------------------ Sockets */

static void a_message_makes_it_readable(void **state)
{
    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    check_now_ready(0, b.id, IN);
    check_ok(sp_send(a, "one", 3, 0));
    check_ready(IN, b.id, IN);
    check_ready(IN, b.id, IN); // It was not taken.
    check_recv(b, "one");
    check_now_ready(0, b.id, IN);
}

static void only_what_was_asked_for_is_told(void **state)
{
    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    check_ok(sp_send(a, "one", 3, 0));
    check_ready(IN, b.id, IN);
    check_ready(OUT, b.id, OUT);
    check_ready(BOTH, b.id, BOTH);
    check_now_ready(0, b.id, 0);
    check_recv(b, "one");
}

static void a_message_over_tcp_ends_the_wait(void **state)
{
    (void)state;
    check_couple("tcp", "pair", "pair", &a, &b);
    for (int i = 0; i < 50; i++) {
        check_ok(sp_send(a, "one", 3, 0));
        check_ready(IN, b.id, IN);
        check_recv(b, "one");
    }
}

static void nothing_ready_is_0_after_the_time(void **state)
{
    int64_t begun = check_now();
    sp_pollitem item;

    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    item = (sp_pollitem){.id = b.id, .events = IN};
    check_rc(0, sp_poll(&item, 1, 30));
    assert_int_equal(item.revents, 0);
    assert_true(check_now() - begun >= 30);
}

static void without_items_it_waits_for_the_time(void **state)
{
    int64_t begun = check_now();

    (void)state;
    check_rc(0, sp_poll(NULL, 0, 20));
    assert_true(check_now() - begun >= 20);
    check_detail(SP_EINVAL, "poll: no items", sp_poll(NULL, 1, 0));
}

static void a_pair_is_writable_while_there_is_room(void **state)
{
    char url[256];
    int sent = 0;

    (void)state;
    a = check_open("pair");
    b = check_open("pair");
    check_ok(sp_set_int(a.id, "send-buffer", 2));
    check_ok(sp_set_int(b.id, "recv-buffer", 2));
    check_now_ready(0, a.id, OUT); // No peer.
    check_listen(a, "inproc", url, NULL);
    check_ok(sp_dial(b, url, NULL, 0));
    check_ready(OUT, a.id, OUT);
    while (ready(a.id, OUT, 0) != 0) {
        check_rc(SP_OK, sp_send(a, "x", 1, SP_NONBLOCK));
        sent++;
    }
    check_rc(SP_EAGAIN, sp_send(a, "x", 1, SP_NONBLOCK));
    for (; sent > 0; sent--) {
        check_recv(b, "x");
    }
    check_ready(OUT, a.id, OUT);
}

static void a_req_is_readable_when_its_answer_is_there(void **state)
{
    (void)state;
    check_couple("inproc", "req", "rep", &a, &b);
    check_now_ready(0, a.id, IN); // No question: though a receive would fail at once.
    check_ready(OUT, a.id, BOTH);
    check_send(a, "question");
    check_ready(IN, b.id, IN);
    check_recv(b, "question");
    check_now_ready(OUT, a.id, BOTH); // Another question could be asked.
    check_send(b, "answer");
    check_ready(IN, a.id, IN);
    check_recv(a, "answer");
    check_now_ready(0, a.id, IN);
}

static void a_new_question_makes_the_old_answer_unreadable(void **state)
{
    (void)state;
    check_couple("inproc", "req", "rep", &a, &b);
    check_send(a, "first");
    check_recv(b, "first");
    check_send(b, "old");
    check_ready(IN, a.id, IN);
    check_send(a, "second");
    check_now_ready(0, a.id, IN);
    check_recv(b, "second");
    check_send(b, "new");
    check_ready(IN, a.id, IN);
    check_recv(a, "new");
}

static void a_rep_is_writable_when_it_has_a_request(void **state)
{
    (void)state;
    check_couple("inproc", "req", "rep", &a, &b);
    check_now_ready(0, b.id, BOTH);
    check_send(a, "question");
    check_ready(IN, b.id, BOTH);
    check_recv(b, "question");
    check_now_ready(OUT, b.id, BOTH);
    check_send(b, "answer");
    check_now_ready(0, b.id, BOTH);
    check_recv(a, "answer");
}

/* ------------------------------------------------------------------ Contexts */

static void contexts_are_ready_each_for_itself(void **state)
{
    sp_ctx req[2];
    sp_ctx rep[2];
    sp_msg *m;

    (void)state;
    check_couple("inproc", "req", "rep", &a, &b);
    for (int i = 0; i < 2; i++) {
        check_ok(sp_ctx_open(&req[i], a));
        check_ok(sp_ctx_open(&rep[i], b));
    }
    check_ok(sp_msg_new(&m, 1));
    check_ok(sp_ctx_sendmsg(req[1], m, 0));
    check_ready(IN, rep[0].id, IN); // Whichever takes it first.
    check_ready(IN, rep[1].id, IN);
    check_ready(IN, b.id, IN);
    check_ok(sp_ctx_recvmsg(rep[0], &m, 0));
    check_now_ready(OUT, rep[0].id, BOTH);
    check_now_ready(0, rep[1].id, BOTH);
    check_now_ready(0, b.id, BOTH);
    check_ok(sp_ctx_sendmsg(rep[0], m, 0));
    check_now_ready(0, rep[0].id, BOTH);
    check_ready(IN, req[1].id, IN);
    check_now_ready(0, req[0].id, IN);
    check_now_ready(0, a.id, IN);
    check_ok(sp_ctx_recvmsg(req[1], &m, 0));
    sp_msg_release(m);
}

/* ------------------------------------------------------------------ What is closed */

static void a_closed_handle_hangs_up(void **state)
{
    sp_ctx c;

    (void)state;
    check_couple("inproc", "req", "rep", &a, &b);
    check_ok(sp_ctx_open(&c, a));
    check_ok(sp_ctx_close(c));
    check_ready(SP_POLLHUP, c.id, BOTH);
    check_ready(SP_POLLHUP, c.id, 0);
    check_ok(sp_close(b));
    check_ready(SP_POLLHUP, b.id, BOTH);
    assert_int_equal(ready(a.id, IN, 0), 0);
}

static void what_is_no_object_is_an_error(void **state)
{
    char url[256];
    sp_listener l;

    (void)state;
    a = check_open("pair");
    check_listen(a, "inproc", url, &l);
    check_ready(SP_POLLERR, l.id, BOTH); // It has nothing to receive.
    check_ready(SP_POLLERR, 12345, BOTH);
}

static long close_it(void *arg)
{
    return sp_close(*(sp_socket *)arg);
}

static void a_close_meanwhile_ends_the_wait(void **state)
{
    struct check_call c;
    sp_ctx ctx;

    (void)state;
    for (int i = 0; i < 20; i++) {
        check_couple("inproc", "req", "rep", &a, &b);
        check_ok(sp_ctx_open(&ctx, b));
        check_call_start(&c, close_it, &b);
        check_ready(SP_POLLHUP, i % 2 == 0 ? b.id : ctx.id, BOTH);
        check_rc(SP_OK, check_call_join(&c, CHECK_SOON));
        check_ok(sp_close(a));
    }
}

static long close_box(void *arg)
{
    return sp_mailbox_close(*(sp_mailbox *)arg);
}

/// Who asks for nothing hears of the end.
static void a_close_ends_a_wait_for_nothing_else(void **state)
{
    struct check_call c;
    sp_mailbox box;

    (void)state;
    for (int i = 0; i < 10; i++) {
        a = check_open("pair");
        check_call_start(&c, close_it, &a);
        check_ready(SP_POLLHUP, a.id, 0);
        check_rc(SP_OK, check_call_join(&c, CHECK_SOON));
        check_ok(sp_mailbox_open(&box, 1));
        check_call_start(&c, close_box, &box);
        check_ready(SP_POLLHUP, box.id, 0);
        check_rc(SP_OK, check_call_join(&c, CHECK_SOON));
    }
}

static int pipe_fds[2];

static long wait_for_a_pipe(void *arg)
{
    sp_pollitem item = {.fd = pipe_fds[0], .events = IN};

    (void)arg;
    return sp_poll(&item, 1, -1);
}

static long wait_for_a_socket(void *arg)
{
    sp_pollitem item = {.id = ((sp_socket *)arg)->id, .events = IN};
    int n = sp_poll(&item, 1, -1);

    return n == 1 ? item.revents : n;
}

static long end_it(void *arg)
{
    (void)arg;
    sp_fini();
    return 0;
}

static void the_end_of_the_library_ends_the_wait(void **state)
{
    struct check_call c[3];

    (void)state;
    assert_int_equal(pipe(pipe_fds), 0);
    check_couple("inproc", "pair", "pair", &a, &b);
    check_call_start(&c[0], wait_for_a_socket, &a);
    check_call_start(&c[1], wait_for_a_pipe, NULL);
    assert_false(check_call_ended(&c[1], 10)); // The one that could start it again.
    check_call_start(&c[2], end_it, NULL);
    check_rc(0, check_call_join(&c[2], CHECK_SOON));
    check_rc(SP_POLLHUP, check_call_join(&c[0], CHECK_SOON));
    check_rc(SP_ECLOSED, check_call_join(&c[1], CHECK_SOON));
    assert_string_equal(c[1].detail, "poll: the library is being shut down");
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
}

/* ------------------------------------------------------------------ Descriptors */

static void descriptors_are_ready_as_poll_says(void **state)
{
    sp_pollitem items[5];
    int closed;

    (void)state;
    assert_int_equal(pipe(pipe_fds), 0);
    closed = dup(pipe_fds[0]);
    (void)close(closed);
    memset(items, 0, sizeof(items));
    items[0] = (sp_pollitem){.fd = pipe_fds[0], .events = BOTH};
    items[1] = (sp_pollitem){.fd = pipe_fds[1], .events = BOTH};
    items[2] = (sp_pollitem){.fd = -1, .events = BOTH};
    check_rc(1, sp_poll(items, 3, 0));
    assert_int_equal(items[0].revents, 0);
    assert_int_equal(items[1].revents, OUT);
    assert_int_equal(items[2].revents, 0);
    assert_int_equal(write(pipe_fds[1], "x", 1), 1);
    check_rc(2, sp_poll(items, 3, -1));
    assert_int_equal(items[0].revents, IN);
    (void)close(pipe_fds[1]);
    items[1].fd = closed;
    check_rc(2, sp_poll(items, 3, -1));
    assert_int_equal(items[0].revents, IN | SP_POLLHUP);
    assert_int_equal(items[1].revents, SP_POLLERR);
    (void)close(pipe_fds[0]);
}

static long write_to_the_pipe(void *arg)
{
    (void)arg;
    return write(pipe_fds[1], "x", 1);
}

static long send_one(void *arg)
{
    return sp_send(*(sp_socket *)arg, "x", 1, 0);
}

/// Sockets and descriptors in one call: whichever comes ends it.
static void a_wait_for_both_ends_by_either(const char *transport)
{
    char c;

    assert_int_equal(pipe(pipe_fds), 0);
    check_couple(transport, "pair", "pair", &a, &b);
    for (int i = 0; i < 40; i++) {
        sp_pollitem items[2] = {{.fd = pipe_fds[0], .events = IN}, {.id = b.id, .events = IN}};
        struct check_call call;

        check_call_start(&call, i % 2 == 0 ? write_to_the_pipe : send_one, &a);
        check_rc(1, sp_poll(items, 2, CHECK_SOON));
        assert_int_equal(items[i % 2].revents, IN);
        assert_int_equal(items[1 - i % 2].revents, 0);
        check_rc(i % 2 == 0, check_call_join(&call, CHECK_SOON));
        if (i % 2 == 0) {
            assert_int_equal(read(pipe_fds[0], &c, 1), 1);
        } else {
            check_recv(b, "x");
        }
    }
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
}

static void a_pipe_and_an_inproc_socket(void **state)
{
    (void)state;
    a_wait_for_both_ends_by_either("inproc");
}

static void a_pipe_and_a_tcp_socket(void **state)
{
    (void)state;
    a_wait_for_both_ends_by_either("tcp");
}

static void a_pipe_alone_ends_the_wait(void **state)
{
    struct check_call call;

    (void)state;
    assert_int_equal(pipe(pipe_fds), 0);
    check_call_start(&call, wait_for_a_pipe, NULL);
    assert_int_equal(write(pipe_fds[1], "x", 1), 1);
    check_rc(1, check_call_join(&call, CHECK_SOON));
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
}

/// Each of two threads waits for a pipe of its own and one socket: both are woken for each message,
/// wherever they sleep.
static long wait_for_both(void *arg)
{
    int own[2];
    sp_pollitem items[2] = {{.events = IN}, {.id = ((sp_socket *)arg)->id, .events = IN}};
    long n;

    if (pipe(own) != 0) {
        return -1;
    }
    items[0].fd = own[0];
    n = sp_poll(items, 2, -1);
    (void)close(own[0]);
    (void)close(own[1]);
    return n == 1 ? items[1].revents : n;
}

/* ------------------------------------------------------------------ Many */

static void every_poller_of_a_socket_is_told(void **state)
{
    struct check_call calls[6];

    (void)state;
    check_couple("tcp", "pair", "pair", &a, &b);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 6; i++) {
            check_call_start(&calls[i], i % 2 == 0 ? wait_for_a_socket : wait_for_both, &b);
        }
        check_ok(sp_send(a, "x", 1, 0));
        for (int i = 0; i < 6; i++) {
            check_rc(IN, check_call_join(&calls[i], CHECK_SOON));
        }
        check_recv(b, "x");
    }
}

static void a_thousand_items_are_looked_at(void **state)
{
    sp_pollitem *items = calloc(MANY, sizeof(*items));
    sp_socket *s = calloc(MANY, sizeof(*s));
    sp_socket last;

    (void)state;
    for (int i = 0; i < MANY; i++) {
        s[i] = check_open("pair");
        items[i] = (sp_pollitem){.id = s[i].id, .events = IN};
    }
    last = check_open("pair");
    check_ok(sp_listen(s[MANY - 1], "inproc://last", NULL));
    check_ok(sp_dial(last, "inproc://last", NULL, 0));
    check_rc(0, sp_poll(items, MANY, 10));
    for (int i = 0; i < 10; i++) {
        struct check_call call;

        check_call_start(&call, send_one, &last);
        check_rc(1, sp_poll(items, MANY, CHECK_SOON));
        assert_int_equal(items[MANY - 1].revents, IN);
        check_rc(SP_OK, check_call_join(&call, CHECK_SOON));
        check_recv(s[MANY - 1], "x");
    }
    free(items);
    free(s);
}

#define TAKERS 3
#define MESSAGES 300

static atomic_int taken;

/// Others may be faster: what was ready is tried, and nobody waits for what is gone.
static long take_some(void *arg)
{
    sp_pollitem item = {.id = ((sp_socket *)arg)->id, .events = IN};
    char c;

    for (;;) {
        int n = sp_poll(&item, 1, -1);

        if (n < 0 || (item.revents & SP_POLLHUP) != 0) {
            return n;
        }
        if (sp_recv(*(sp_socket *)arg, &c, 1, SP_NONBLOCK) == 1) {
            (void)atomic_fetch_add(&taken, 1);
        }
    }
}

static void what_several_pollers_take_is_everything(void **state)
{
    struct check_call calls[TAKERS];

    (void)state;
    check_couple("tcp", "pair", "pair", &a, &b);
    atomic_store(&taken, 0);
    for (int i = 0; i < TAKERS; i++) {
        check_call_start(&calls[i], take_some, &b);
    }
    for (int i = 0; i < MESSAGES; i++) {
        check_ok(sp_send(a, "x", 1, 0));
    }
    check_until(atomic_load(&taken) == MESSAGES);
    check_ok(sp_close(b));
    for (int i = 0; i < TAKERS; i++) {
        check_rc(1, check_call_join(&calls[i], CHECK_SOON));
    }
}

/* ------------------------------------------------------------------ Scopes, callbacks */

static sp_scope scope;

static long wait_in_scope(void *arg)
{
    sp_pollitem items[2] = {{.id = ((sp_socket *)arg)->id, .events = IN},
                            {.fd = pipe_fds[0], .events = IN}};

    return sp_poll_in(scope, items, 2);
}

static void a_cancelled_scope_ends_the_wait(void **state)
{
    struct check_call call;

    (void)state;
    assert_int_equal(pipe(pipe_fds), 0);
    check_couple("inproc", "pair", "pair", &a, &b);
    check_ok(sp_scope_open(&scope, (sp_scope){0}, -1));
    check_call_start(&call, wait_in_scope, &a);
    assert_false(check_call_ended(&call, 10));
    check_ok(sp_scope_cancel(scope));
    check_rc(SP_ECANCELED, check_call_join(&call, CHECK_SOON));
    assert_string_equal(call.detail, "poll: the scope was cancelled");
    check_rc(SP_ECANCELED, wait_in_scope(&a)); // And every later one.
    check_ok(sp_scope_close(scope));
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
}

static void the_deadline_of_a_scope_ends_the_wait(void **state)
{
    sp_pollitem item;

    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    item = (sp_pollitem){.id = b.id, .events = IN};
    check_ok(sp_scope_open(&scope, (sp_scope){0}, 20));
    check_detail(SP_ETIMEDOUT, "poll: the scope's deadline passed", sp_poll_in(scope, &item, 1));
    check_ok(sp_scope_close(scope));
    check_ok(sp_scope_open(&scope, (sp_scope){0}, -1));
    check_ok(sp_send(a, "x", 1, 0));
    check_rc(1, sp_poll_in(scope, &item, 1));
    assert_int_equal(item.revents, IN);
    check_recv(b, "x");
    check_ok(sp_scope_close(scope));
}

static atomic_int in_callback[2];

static int poll_in_callback(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    sp_pollitem item = {.id = s.id, .events = IN};

    (void)p;
    (void)arg;
    if (ev == SP_PIPE_ADDED) {
        atomic_store(&in_callback[1], sp_poll(&item, 1, 0));
        atomic_store(&in_callback[0], sp_poll(&item, 1, 1));
    }
    return 0;
}

static void a_callback_may_look_but_not_wait(void **state)
{
    (void)state;
    a = check_open("pair");
    b = check_open("pair");
    atomic_store(&in_callback[0], 1);
    atomic_store(&in_callback[1], 1);
    check_ok(sp_on_pipe(a, poll_in_callback, NULL));
    check_ok(sp_listen(a, "inproc://callback", NULL));
    check_ok(sp_dial(b, "inproc://callback", NULL, 0));
    check_until(atomic_load(&in_callback[0]) != 1);
    assert_int_equal(atomic_load(&in_callback[0]), SP_ESTATE);
    assert_int_equal(atomic_load(&in_callback[1]), 0);
}

/// Each fact with threads of the library, and without.
int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(a_message_makes_it_readable),
        check_both(only_what_was_asked_for_is_told),
        check_both(a_message_over_tcp_ends_the_wait),
        check_both(nothing_ready_is_0_after_the_time),
        check_both(without_items_it_waits_for_the_time),
        check_both(a_pair_is_writable_while_there_is_room),
        check_both(a_req_is_readable_when_its_answer_is_there),
        check_both(a_new_question_makes_the_old_answer_unreadable),
        check_both(a_rep_is_writable_when_it_has_a_request),
        check_both(contexts_are_ready_each_for_itself),
        check_both(a_closed_handle_hangs_up),
        check_both(what_is_no_object_is_an_error),
        check_both(a_close_meanwhile_ends_the_wait),
        check_both(a_close_ends_a_wait_for_nothing_else),
        check_both(the_end_of_the_library_ends_the_wait),
        check_both(descriptors_are_ready_as_poll_says),
        check_both(a_pipe_and_an_inproc_socket),
        check_both(a_pipe_and_a_tcp_socket),
        check_both(a_pipe_alone_ends_the_wait),
        check_both(every_poller_of_a_socket_is_told),
        check_both(a_thousand_items_are_looked_at),
        check_both(what_several_pollers_take_is_everything),
        check_both(a_cancelled_scope_ends_the_wait),
        check_both(the_deadline_of_a_scope_ends_the_wait),
        check_both(a_callback_may_look_but_not_wait),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
