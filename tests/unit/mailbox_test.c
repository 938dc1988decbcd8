/* SPDX-License-Identifier: MIT */
/// Mailboxes: a channel for any number of threads, bounded, in order; what waits is served in turn,
/// ended by close, time-out, scope and sp_fini. Forwarding: a socket's messages go there, with
/// back-pressure, none lost.
#include "check.h"

#include <stdatomic.h>
#include <poll.h>
#include <string.h>

static sp_msg *number(uint32_t n)
{
    sp_msg *m = NULL;

    check_ok(sp_msg_new(&m, sizeof(n)));
    memcpy(sp_msg_data(m), &n, sizeof(n));
    return m;
}

/// What is in a message, which is released. [any]
static uint32_t value(sp_msg *m)
{
    uint32_t n = UINT32_MAX;

    if (m != NULL && sp_msg_len(m) == sizeof(n)) {
        memcpy(&n, sp_msg_view(m), sizeof(n));
    }
    sp_msg_release(m);
    return n;
}

static sp_mailbox box(size_t capacity)
{
    sp_mailbox mb;

    check_ok(sp_mailbox_open(&mb, capacity));
    return mb;
}

static void post(sp_mailbox mb, uint32_t n)
{
    check_ok(sp_mailbox_post(mb, number(n), SP_NONBLOCK));
}

static void take(sp_mailbox mb, uint32_t want)
{
    sp_msg *m = NULL;

    check_ok(sp_mailbox_take(mb, &m, 0));
    assert_int_equal(value(m), want);
}

/// A thread that takes, or posts, once.
struct one {
    struct check_call call;
    sp_mailbox mb;
    sp_scope scope;
    sp_msg *m;
};

static long call_take(void *arg)
{
    struct one *o = arg;

    return o->scope.id != 0 ? sp_recvmsg_in(o->scope, o->mb.id, &o->m)
                            : sp_mailbox_take(o->mb, &o->m, 0);
}

static long call_post(void *arg)
{
    struct one *o = arg;
    int rc = o->scope.id != 0 ? sp_sendmsg_in(o->scope, o->mb.id, o->m)
                              : sp_mailbox_post(o->mb, o->m, 0);

    o->m = rc == SP_OK ? NULL : o->m;
    return rc;
}

static void refuses_what_makes_no_sense(void **state)
{
    sp_mailbox mb = {0};
    sp_mailbox none = {0};
    sp_msg *m = NULL;
    sp_socket s = check_open("pair");
    sp_mailbox wrong = {s.id};

    (void)state;
    check_rc(SP_EINVAL, sp_mailbox_open(NULL, 1));
    check_rc(SP_EINVAL, sp_mailbox_open(&mb, 0));
    check_rc(SP_EINVAL, sp_mailbox_take(none, &m, 0));
    check_rc(SP_EINVAL, sp_mailbox_take(wrong, &m, 0));
    mb = box(1);
    check_rc(SP_EINVAL, sp_mailbox_post(mb, NULL, 0));
    check_rc(SP_EINVAL, sp_mailbox_take(mb, NULL, 0));
    check_rc(SP_EINVAL, sp_forward(s, none));
    check_rc(SP_EINVAL, sp_forward((sp_socket){mb.id}, mb));
    check_ok(sp_mailbox_close(mb));
    check_rc(SP_ECLOSED, sp_mailbox_close(mb));
    check_rc(SP_ECLOSED, sp_forward(s, mb));
    check_ok(sp_close(s));
}

static void what_goes_in_comes_out_in_order(void **state)
{
    sp_mailbox mb = box(100);

    (void)state;
    for (uint32_t i = 0; i < 100; i++) {
        post(mb, i);
    }
    check_stat_is(mb.id, "queued", 100);
    for (uint32_t i = 0; i < 100; i++) {
        take(mb, i);
    }
    check_stat_is(mb.id, "posted", 100);
    check_stat_is(mb.id, "taken", 100);
    check_ok(sp_mailbox_close(mb));
}

static void nonblock_says_full_and_empty(void **state)
{
    sp_mailbox mb = box(2);
    sp_msg *m = NULL;
    sp_msg *mine = number(3);

    (void)state;
    check_detail(SP_EAGAIN, "take: the mailbox is empty", sp_mailbox_take(mb, &m, SP_NONBLOCK));
    assert_null(m);
    post(mb, 1);
    post(mb, 2);
    check_detail(SP_EFULL, "post: the mailbox is full", sp_mailbox_post(mb, mine, SP_NONBLOCK));
    check_stat_is(mb.id, "full", 1);
    take(mb, 1);
    check_ok(sp_mailbox_post(mb, mine, SP_NONBLOCK)); // It was still ours.
    take(mb, 2);
    take(mb, 3);
    check_ok(sp_mailbox_close(mb));
}

static void a_take_waits_for_a_post(void **state)
{
    struct one o = {.mb = box(1)};

    (void)state;
    check_call_start(&o.call, call_take, &o);
    assert_false(check_call_ended(&o.call, 20));
    post(o.mb, 7);
    assert_int_equal(check_call_join(&o.call, CHECK_SOON), SP_OK);
    assert_int_equal(value(o.m), 7);
    check_ok(sp_mailbox_close(o.mb));
}

static void a_post_waits_for_room_and_keeps_the_order(void **state)
{
    struct one o = {.mb = box(1), .m = number(2)};

    (void)state;
    post(o.mb, 1);
    check_call_start(&o.call, call_post, &o);
    assert_false(check_call_ended(&o.call, 20));
    check_stat_is(o.mb.id, "posted", 1);
    take(o.mb, 1);
    assert_int_equal(check_call_join(&o.call, CHECK_SOON), SP_OK);
    take(o.mb, 2);
    check_ok(sp_mailbox_close(o.mb));
}

static void close_wakes_whoever_waits(void **state)
{
    struct one takers[4];
    struct one posters[4];
    sp_mailbox empty = box(1);
    sp_mailbox full = box(1);

    (void)state;
    post(full, 0);
    for (int i = 0; i < 4; i++) {
        takers[i] = (struct one){.mb = empty};
        posters[i] = (struct one){.mb = full, .m = number(9)};
        check_call_start(&takers[i].call, call_take, &takers[i]);
        check_call_start(&posters[i].call, call_post, &posters[i]);
    }
    assert_false(check_call_ended(&takers[3].call, 20));
    check_ok(sp_mailbox_close(empty));
    check_ok(sp_mailbox_close(full));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(check_call_join(&takers[i].call, CHECK_SOON), SP_ECLOSED);
        assert_int_equal(check_call_join(&posters[i].call, CHECK_SOON), SP_ECLOSED);
        assert_null(takers[i].m);
        assert_int_equal(value(posters[i].m), 9); // Still the caller's.
    }
    take(full, 0);
}

static void what_is_in_a_closed_mailbox_can_be_taken(void **state)
{
    sp_mailbox mb = box(4);
    sp_msg *m = number(3);

    (void)state;
    post(mb, 1);
    post(mb, 2);
    check_ok(sp_mailbox_close(mb));
    check_detail(SP_ECLOSED, "post: the mailbox was closed", sp_mailbox_post(mb, m, 0));
    take(mb, 1);
    take(mb, 2);
    check_rc(SP_ECLOSED, sp_mailbox_post(mb, m, 0));
    sp_msg_release(m);
    check_rc(SP_ECLOSED, sp_mailbox_take(mb, &m, 0));
    check_rc(SP_ECLOSED, sp_mailbox_close(mb)); // With the last message it has gone.
}

static void closing_again_drops_what_is_left_and_counts_it(void **state)
{
    sp_mailbox mb = box(4);
    int64_t posted = check_stat(0, "mailboxes_closed.posted");
    int64_t dropped = check_stat(0, "mailboxes_closed.drops.closed");
    int64_t taken = check_stat(0, "mailboxes_closed.taken");

    (void)state;
    post(mb, 1);
    post(mb, 2);
    post(mb, 3);
    check_ok(sp_mailbox_close(mb));
    take(mb, 1);
    check_ok(sp_mailbox_close(mb));
    check_rc(SP_ECLOSED, sp_mailbox_close(mb));
    check_stat_is(0, "mailboxes_closed.posted", posted + 3);
    check_stat_is(0, "mailboxes_closed.taken", taken + 1);
    check_stat_is(0, "mailboxes_closed.drops.closed", dropped + 2);
}

static void a_scope_bounds_posts_and_takes(void **state)
{
    sp_mailbox mb = box(1);
    sp_scope scope;
    struct one o;
    sp_msg *m = NULL;

    (void)state;
    check_ok(sp_scope_open(&scope, (sp_scope){0}, 10));
    check_rc(SP_ETIMEDOUT, sp_recvmsg_in(scope, mb.id, &m));
    check_ok(sp_scope_close(scope));
    check_ok(sp_scope_open(&scope, (sp_scope){0}, -1));
    o = (struct one){.mb = mb, .scope = scope};
    check_call_start(&o.call, call_take, &o);
    assert_false(check_call_ended(&o.call, 20));
    check_ok(sp_scope_cancel(scope));
    assert_int_equal(check_call_join(&o.call, CHECK_SOON), SP_ECANCELED);
    check_ok(sp_scope_close(scope));

    post(mb, 1);
    check_ok(sp_scope_open(&scope, (sp_scope){0}, -1));
    o = (struct one){.mb = mb, .scope = scope, .m = number(2)};
    check_call_start(&o.call, call_post, &o);
    assert_false(check_call_ended(&o.call, 20));
    check_ok(sp_scope_cancel(scope));
    assert_int_equal(check_call_join(&o.call, CHECK_SOON), SP_ECANCELED);
    assert_int_equal(value(o.m), 2);
    check_ok(sp_scope_close(scope));
    take(mb, 1);
    check_ok(sp_mailbox_close(mb));
}

static void time_outs_are_options(void **state)
{
    sp_mailbox mb = box(1);
    sp_msg *m = NULL;
    int64_t v;

    (void)state;
    check_ok(sp_get_int(mb.id, "recv-timeout", &v));
    assert_int_equal(v, -1);
    check_ok(sp_set_int(mb.id, "recv-timeout", 5));
    check_rc(SP_ETIMEDOUT, sp_mailbox_take(mb, &m, 0));
    check_ok(sp_set_int(mb.id, "recv-timeout", 0));
    check_rc(SP_EAGAIN, sp_mailbox_take(mb, &m, 0));
    post(mb, 1);
    m = number(2);
    check_ok(sp_set_int(mb.id, "send-timeout", 5));
    check_rc(SP_ETIMEDOUT, sp_mailbox_post(mb, m, 0));
    check_ok(sp_set_int(mb.id, "send-timeout", 0));
    check_rc(SP_EFULL, sp_mailbox_post(mb, m, 0));
    sp_msg_release(m);
    check_rc(SP_EINVAL, sp_set_int(mb.id, "send-timeout", -2));
    check_rc(SP_ENOTSUP, sp_set_int(mb.id, "linger", 1));
    check_rc(SP_EINVAL, sp_set_str(mb.id, "name", "x"));
    check_rc(SP_EINVAL, sp_set_int(mb.id, NULL, 1));
    take(mb, 1);
    check_ok(sp_mailbox_close(mb));
    check_rc(SP_ECLOSED, sp_get_int(mb.id, "recv-timeout", &v));
}

static void fini_wakes_and_drops(void **state)
{
    struct one t = {.mb = box(1)};
    struct one p = {.mb = box(1), .m = number(2)};

    (void)state;
    post(p.mb, 1);
    check_call_start(&t.call, call_take, &t);
    check_call_start(&p.call, call_post, &p);
    assert_false(check_call_ended(&p.call, 20));
    sp_fini();
    assert_int_equal(check_call_join(&t.call, CHECK_SOON), SP_ECLOSED);
    assert_int_equal(check_call_join(&p.call, CHECK_SOON), SP_ECLOSED);
    sp_msg_release(p.m);
}

/* ------------------------------------------------------------------ Polling */

static short polled(sp_mailbox mb)
{
    sp_pollitem item = {.id = mb.id, .events = SP_POLLIN | SP_POLLOUT};
    int n = sp_poll(&item, 1, 0);

    assert_int_equal(n, item.revents != 0);
    return item.revents;
}

static void polls_say_what_a_mailbox_is(void **state)
{
    sp_mailbox mb = box(2);

    (void)state;
    assert_int_equal(polled(mb), SP_POLLOUT);
    post(mb, 1);
    assert_int_equal(polled(mb), SP_POLLIN | SP_POLLOUT);
    post(mb, 2);
    assert_int_equal(polled(mb), SP_POLLIN);
    take(mb, 1);
    check_ok(sp_mailbox_close(mb));
    assert_int_equal(polled(mb), SP_POLLIN | SP_POLLHUP);
    take(mb, 2);
    assert_int_equal(polled(mb), SP_POLLHUP);
}

static long call_poll(void *arg)
{
    struct one *o = arg;
    sp_pollitem item = {.id = o->mb.id, .events = o->m == NULL ? SP_POLLIN : SP_POLLOUT};
    int n = sp_poll(&item, 1, CHECK_SOON);

    return n == 1 ? item.revents : n;
}

static void polls_wait_for_a_mailbox(void **state)
{
    struct one o = {.mb = box(1)};

    (void)state;
    check_call_start(&o.call, call_poll, &o);
    assert_false(check_call_ended(&o.call, 20));
    post(o.mb, 1);
    assert_int_equal(check_call_join(&o.call, CHECK_SOON), SP_POLLIN);
    o.m = number(2);
    check_call_start(&o.call, call_poll, &o);
    assert_false(check_call_ended(&o.call, 20));
    take(o.mb, 1);
    assert_int_equal(check_call_join(&o.call, CHECK_SOON), SP_POLLOUT);
    post(o.mb, 3);
    check_call_start(&o.call, call_poll, &o);
    assert_false(check_call_ended(&o.call, 20));
    check_ok(sp_mailbox_close(o.mb));
    assert_int_equal(check_call_join(&o.call, CHECK_SOON), SP_POLLHUP);
    take(o.mb, 3);
    sp_msg_release(o.m);
}

static bool fd_ready(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

static void descriptors_are_as_the_mailbox_is(void **state)
{
    sp_mailbox mb = box(1);
    sp_socket a;
    sp_socket b;
    int in = sp_fd(mb.id, SP_POLLIN);
    int out = sp_fd(mb.id, SP_POLLOUT);

    (void)state;
    assert_true(in >= 0 && out >= 0);
    assert_true(!fd_ready(in) && fd_ready(out));
    post(mb, 1);
    assert_true(fd_ready(in) && !fd_ready(out));
    take(mb, 1);
    assert_true(!fd_ready(in) && fd_ready(out));
    check_couple("tcp", "pair", "pair", &a, &b);
    check_ok(sp_forward(b, mb));
    check_ok(sp_sendmsg(a, number(4), 0));
    check_until(fd_ready(in));
    take(mb, 4);
    assert_int_equal(fd_ready(in), false);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
    check_ok(sp_mailbox_close(mb));
}

static void a_forwarded_socket_is_not_readable(void **state)
{
    sp_mailbox mb = box(1);
    sp_socket a;
    sp_socket b;
    sp_pollitem item;

    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    check_ok(sp_forward(b, mb));
    for (uint32_t i = 0; i < 5; i++) {
        check_ok(sp_sendmsg(a, number(i), 0));
    }
    check_stat_is(b.id, "rx_delivered", 2);
    item = (sp_pollitem){.id = b.id, .events = SP_POLLIN};
    check_rc(0, sp_poll(&item, 1, 0));
    check_ok(sp_mailbox_close(mb));
    check_rc(1, sp_poll(&item, 1, CHECK_SOON));
    assert_int_equal(item.revents, SP_POLLIN);
    check_ok(sp_mailbox_close(mb));
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

/* ------------------------------------------------------------------ Many threads */

#define CROWD 4
#define EACH 4000

struct crowd {
    sp_mailbox mb;
    atomic_uint next;        ///< number of the next producer
    atomic_uint seen[CROWD]; ///< how many of each producer's
    atomic_uint wrong;       ///< out of order, with one consumer
    bool ordered;
};

static long crowd_post(void *arg)
{
    struct crowd *c = arg;
    uint32_t me = atomic_fetch_add(&c->next, 1);

    for (uint32_t i = 0; i < EACH; i++) {
        sp_msg *m;
        uint32_t n = me << 24 | i;
        int rc = sp_msg_new(&m, sizeof(n));

        if (rc == SP_OK) {
            memcpy(sp_msg_data(m), &n, sizeof(n));
            rc = sp_mailbox_post(c->mb, m, 0);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return SP_OK;
}

static long crowd_take(void *arg)
{
    struct crowd *c = arg;
    sp_msg *m;
    int rc;

    while ((rc = sp_mailbox_take(c->mb, &m, 0)) == SP_OK) {
        uint32_t n = value(m);
        uint32_t before = atomic_fetch_add(&c->seen[n >> 24], 1);

        if (c->ordered && before != (n & 0xFFFFFF)) {
            atomic_fetch_add(&c->wrong, 1);
        }
    }
    return rc;
}

static void crowd_run(unsigned consumers, size_t capacity)
{
    struct crowd c = {.mb = box(capacity), .ordered = consumers == 1};
    struct check_call posters[CROWD];
    struct check_call takers[CROWD];

    for (unsigned i = 0; i < consumers; i++) {
        check_call_start(&takers[i], crowd_take, &c);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        check_call_start(&posters[i], crowd_post, &c);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        assert_int_equal(check_call_join(&posters[i], 60000), SP_OK);
    }
    check_ok(sp_mailbox_close(c.mb));
    for (unsigned i = 0; i < consumers; i++) {
        assert_int_equal(check_call_join(&takers[i], 60000), SP_ECLOSED);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        assert_int_equal(atomic_load(&c.seen[i]), EACH);
    }
    assert_int_equal(atomic_load(&c.wrong), 0);
}

static void each_producers_order_is_kept(void **state)
{
    (void)state;
    crowd_run(1, 1);
    crowd_run(1, 64);
}

static void many_consumers_get_each_message_once(void **state)
{
    (void)state;
    crowd_run(CROWD, 1);
    crowd_run(CROWD, 64);
}

/* ------------------------------------------------------------------ Forwarding */

static void couple(sp_socket *a, sp_socket *b)
{
    check_couple("inproc", "pair", "pair", a, b);
}

static void forwarded_messages_arrive_in_order(void **state)
{
    static const char *const transports[] = {"inproc", "tcp"};

    (void)state;
    for (unsigned t = 0; t < 2; t++) {
        sp_mailbox mb = box(8);
        sp_socket a;
        sp_socket b;

        check_couple(transports[t], "pair", "pair", &a, &b);
        check_ok(sp_forward(b, mb));
        for (uint32_t i = 0; i < 200; i++) {
            check_ok(sp_sendmsg(a, number(i), 0));
            if (i >= 8) {
                take(mb, i - 8);
            }
        }
        for (uint32_t i = 192; i < 200; i++) {
            take(mb, i);
        }
        check_ok(sp_close(a));
        check_ok(sp_close(b));
        check_stat_is(mb.id, "posted", 200);
        check_ok(sp_mailbox_close(mb));
    }
}

static void what_came_before_the_forwarding_is_forwarded(void **state)
{
    sp_mailbox mb = box(8);
    sp_socket a;
    sp_socket b;

    (void)state;
    couple(&a, &b);
    check_ok(sp_sendmsg(a, number(1), 0));
    check_stat_is(b.id, "rx_queued", 1);
    check_ok(sp_forward(b, mb));
    take(mb, 1);
    check_ok(sp_mailbox_close(mb));
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

static long call_recv(void *arg)
{
    sp_socket *s = arg;
    char buf[8];

    return sp_recv(*s, buf, sizeof(buf), 0);
}

static void nobody_else_receives_from_a_forwarded_socket(void **state)
{
    sp_mailbox mb = box(8);
    struct check_call blocked;
    sp_socket a;
    sp_socket b;
    sp_msg *m = NULL;
    char buf[8];
    sp_op *op;

    (void)state;
    couple(&a, &b);
    check_call_start(&blocked, call_recv, &b);
    assert_false(check_call_ended(&blocked, 20));
    check_ok(sp_forward(b, mb));
    assert_int_equal(check_call_join(&blocked, CHECK_SOON), SP_ESTATE);
    check_detail(SP_ESTATE,
                 "receive: what the socket receives goes to a mailbox, an actor or a device",
                 sp_recv(b, buf, sizeof(buf), 0));
    check_rc(SP_ESTATE, sp_recvmsg(b, &m, SP_NONBLOCK));
    check_rc(SP_ESTATE, sp_forward(b, mb));
    check_ok(sp_op_new(&op, NULL, NULL));
    check_ok(sp_op_recv(op, b.id));
    check_rc(SP_ESTATE, sp_op_wait(op));
    sp_op_free(op);
    check_send(b, "still sends");
    check_recv(a, "still sends");
    check_ok(sp_mailbox_close(mb));
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

static void a_full_mailbox_stops_the_receiving_and_loses_nothing(void **state)
{
    sp_mailbox mb = box(2);
    sp_socket a;
    sp_socket b;
    sp_msg *m = number(0);
    uint32_t sent = 0;

    (void)state;
    couple(&a, &b);
    check_ok(sp_set_int(a.id, "send-buffer", 4));
    check_ok(sp_set_int(b.id, "recv-buffer", 4));
    check_ok(sp_forward(b, mb));
    for (int64_t end = check_now() + 50; check_now() < end;) {
        int rc = sp_sendmsg(a, m, SP_NONBLOCK);

        if (rc == SP_OK) {
            m = number(++sent);
        } else {
            check_rc(SP_EAGAIN, rc);
            check_pause();
        }
    }
    assert_in_range(sent, 2, 400); // It ended.
    sp_msg_release(m);
    check_stat_is(mb.id, "queued", 2);
    for (uint32_t i = 0; i < sent; i++) {
        take(mb, i);
    }
    check_rc(SP_EAGAIN, sp_mailbox_take(mb, &m, SP_NONBLOCK));
    check_ok(sp_mailbox_close(mb));
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

static void several_sockets_go_to_one_mailbox(void **state)
{
    sp_mailbox mb = box(1);
    sp_socket a[3];
    sp_socket b[3];
    uint32_t next[3] = {0, 0, 0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        couple(&a[i], &b[i]);
        check_ok(sp_forward(b[i], mb));
    }
    for (uint32_t i = 0; i < 30; i++) {
        check_ok(sp_sendmsg(a[i % 3], number(i % 3 << 24 | i / 3), 0));
    }
    for (uint32_t i = 0; i < 30; i++) {
        sp_msg *m;
        uint32_t n;

        check_ok(sp_mailbox_take(mb, &m, 0));
        n = value(m);
        assert_in_range(n >> 24, 0, 2);
        assert_int_equal(n & 0xFFFFFF, next[n >> 24]++);
    }
    check_ok(sp_mailbox_close(mb));
    for (int i = 0; i < 3; i++) {
        check_ok(sp_close(a[i]));
        check_ok(sp_close(b[i]));
    }
}

static void closing_the_mailbox_gives_the_socket_back(void **state)
{
    sp_mailbox mb = box(1);
    int64_t dropped = check_stat(0, "mailboxes_closed.drops.closed");
    sp_socket a;
    sp_socket b;
    uint32_t got;

    (void)state;
    couple(&a, &b);
    check_ok(sp_forward(b, mb));
    for (uint32_t i = 0; i < 5; i++) {
        check_ok(sp_sendmsg(a, number(i), 0));
    }
    // 0 is in the mailbox, 1 is held in front of it; or, as its actor may not be through, less.
    check_stat_is(b.id, "rx_delivered", 2);
    check_ok(sp_mailbox_close(mb));
    take(mb, 0);
    check_until(sp_recv(b, &got, sizeof(got), SP_NONBLOCK) == sizeof(got));
    assert_int_equal(got, 2);
    check_stat_is(0, "mailboxes_closed.drops.closed", dropped + 1);
    check_ok(sp_recv(b, &got, sizeof(got), 0) == sizeof(got) ? SP_OK : SP_EPROTO);
    assert_int_equal(got, 3);
    mb = box(4);
    check_ok(sp_forward(b, mb));
    take(mb, 4);
    check_ok(sp_mailbox_close(mb));
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

static void closing_the_socket_leaves_the_mailbox(void **state)
{
    sp_mailbox mb = box(4);
    sp_socket a;
    sp_socket b;

    (void)state;
    couple(&a, &b);
    check_ok(sp_forward(b, mb));
    check_ok(sp_sendmsg(a, number(1), 0));
    check_stat_is(mb.id, "queued", 1);
    check_ok(sp_close(b));
    take(mb, 1);
    post(mb, 2);
    take(mb, 2);
    check_ok(sp_mailbox_close(mb));
    check_ok(sp_close(a));
}

static void answers_are_forwarded(void **state)
{
    sp_mailbox mb = box(4);
    sp_socket req;
    sp_socket rep;
    char buf[8];

    (void)state;
    check_couple("inproc", "rep", "req", &rep, &req);
    check_ok(sp_forward(req, mb)); // Before there is a question.
    for (uint32_t i = 0; i < 3; i++) {
        check_ok(sp_sendmsg(req, number(i), 0));
        check_ok(sp_recv(rep, buf, sizeof(buf), 0) == 4 ? SP_OK : SP_EPROTO);
        check_ok(sp_send(rep, buf, 4, 0));
        take(mb, i);
    }
    check_ok(sp_mailbox_close(mb));
    check_ok(sp_close(req));
    check_ok(sp_close(rep));
}

static void fini_ends_a_forwarder_at_work(void **state)
{
    sp_mailbox mb = box(1);
    sp_socket a;
    sp_socket b;

    (void)state;
    couple(&a, &b);
    check_ok(sp_forward(b, mb));
    for (uint32_t i = 0; i < 5; i++) {
        check_ok(sp_sendmsg(a, number(i), 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(refuses_what_makes_no_sense),
        check_both(what_goes_in_comes_out_in_order),
        check_both(nonblock_says_full_and_empty),
        check_both(a_take_waits_for_a_post),
        check_both(a_post_waits_for_room_and_keeps_the_order),
        check_both(close_wakes_whoever_waits),
        check_both(what_is_in_a_closed_mailbox_can_be_taken),
        check_both(closing_again_drops_what_is_left_and_counts_it),
        check_both(a_scope_bounds_posts_and_takes),
        check_both(time_outs_are_options),
        check_both(fini_wakes_and_drops),
        check_both(polls_say_what_a_mailbox_is),
        check_both(polls_wait_for_a_mailbox),
        check_both(descriptors_are_as_the_mailbox_is),
        check_both(a_forwarded_socket_is_not_readable),
        check_both(each_producers_order_is_kept),
        check_both(many_consumers_get_each_message_once),
        check_both(forwarded_messages_arrive_in_order),
        check_both(what_came_before_the_forwarding_is_forwarded),
        check_both(nobody_else_receives_from_a_forwarded_socket),
        check_both(a_full_mailbox_stops_the_receiving_and_loses_nothing),
        check_both(several_sockets_go_to_one_mailbox),
        check_both(closing_the_mailbox_gives_the_socket_back),
        check_both(closing_the_socket_leaves_the_mailbox),
        check_both(answers_are_forwarded),
        check_both(fini_ends_a_forwarder_at_work),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
