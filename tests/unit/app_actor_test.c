/* SPDX-License-Identifier: MIT */
/// Actors of applications: serial, never inside another call, in order; what they leave is offered
/// again; failures restart them as far as the policy allows; sockets at ports, with back-pressure
/// both ways; timers; stop. Everything posted is handled, dropped for a reason, or queued.
#include "check.h"

#include <stdatomic.h>
#include <string.h>

#define SEEN_MAX 4096

/// An actor that does as it is told, and what it has seen.
struct actor {
    sp_actor id;
    atomic_int inits;
    atomic_int finis;
    atomic_int inside; ///< of its functions at once
    atomic_int overlaps;
    atomic_int in_call; ///< ran inside the test's own call
    atomic_int wrong;
    atomic_int n;                         ///< messages taken
    atomic_uint_least32_t seen[SEEN_MAX]; ///< port << 24 | number
    atomic_int batches;
    atomic_int writable;
    atomic_uint writable_port;
    atomic_int timers;
    atomic_uint_least64_t cookie;
    // What it shall do.
    atomic_int leave;      ///< messages that it takes in all, before it leaves the rest; -1: all
    atomic_int fail_at;    ///< fails when it took so many; 0: never
    atomic_int init_fails; ///< so many times
    int (*extra)(struct actor *a, unsigned port, sp_msg *m); ///< NULL: releases it
    int (*on_init)(struct actor *a);
    void (*on_time)(struct actor *a, uint64_t cookie);
    sp_socket out;
    sp_actor to;
    sp_mailbox box;
    pthread_t test;
};

static _Thread_local int test_call; ///< the test's thread is inside a call that must not run it

static void enter(struct actor *a)
{
    if (atomic_fetch_add(&a->inside, 1) != 0) {
        atomic_fetch_add(&a->overlaps, 1);
    }
    if (test_call != 0) {
        atomic_fetch_add(&a->in_call, 1);
    }
}

static void leave(struct actor *a)
{
    atomic_fetch_sub(&a->inside, 1);
}

static int on_init(sp_actor self, void *state)
{
    struct actor *a = state;
    int rc = 0;

    (void)self;
    enter(a);
    atomic_fetch_add(&a->inits, 1);
    if (atomic_load(&a->init_fails) > 0) {
        atomic_fetch_sub(&a->init_fails, 1);
        rc = -1;
    } else if (a->on_init != NULL) {
        rc = a->on_init(a);
    }
    leave(a);
    return rc;
}

static uint32_t peek(sp_msg *m)
{
    uint32_t n = UINT32_MAX;

    if (sp_msg_len(m) == sizeof(n)) {
        memcpy(&n, sp_msg_view(m), sizeof(n));
    }
    return n;
}

static int on_message(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    struct actor *a = state;
    int rc = 0;

    enter(a);
    atomic_fetch_add(&a->batches, 1);
    if (sp_actor_self().id != self.id || a->id.id != self.id) {
        atomic_fetch_add(&a->wrong, 1);
    }
    for (sp_msg *m; rc == 0 && atomic_load(&a->leave) != 0 && (m = sp_batch_pop(in)) != NULL;) {
        int n = atomic_load(&a->n);
        uint32_t number = peek(m);

        rc = a->extra != NULL ? a->extra(a, port, m) : 0;
        if (rc > 0) {
            sp_batch_unpop(in, m); // Not now.
            rc = 0;
            break;
        }
        if (a->extra == NULL) {
            sp_msg_release(m);
        }
        if (n < SEEN_MAX) {
            atomic_store(&a->seen[n], port << 24 | number);
        }
        atomic_store(&a->n, n + 1);
        if (atomic_load(&a->leave) > 0) {
            atomic_fetch_sub(&a->leave, 1);
        }
        if (atomic_load(&a->fail_at) == n + 1) {
            rc = -1;
        }
    }
    leave(a);
    return rc;
}

static void on_writable(sp_actor self, void *state, unsigned port)
{
    struct actor *a = state;

    (void)self;
    enter(a);
    atomic_store(&a->writable_port, port);
    atomic_fetch_add(&a->writable, 1);
    leave(a);
}

static void on_timer(sp_actor self, void *state, uint64_t cookie)
{
    struct actor *a = state;

    (void)self;
    enter(a);
    if (a->on_time != NULL) {
        a->on_time(a, cookie);
    }
    atomic_store(&a->cookie, cookie);
    atomic_fetch_add(&a->timers, 1);
    leave(a);
}

static void on_fini(sp_actor self, void *state)
{
    struct actor *a = state;

    (void)self;
    enter(a);
    atomic_fetch_add(&a->finis, 1);
    leave(a);
}

static const sp_actor_ops ops = {
    .size = sizeof(ops),
    .init = on_init,
    .on_message = on_message,
    .on_writable = on_writable,
    .on_timer = on_timer,
    .fini = on_fini,
};

static void spawn_with(struct actor *a, size_t capacity, unsigned restarts, unsigned ms)
{
    sp_actor_opts opts = {
        .size = sizeof(opts), .capacity = capacity, .restart_max = restarts, .restart_ms = ms};

    a->test = pthread_self();
    check_ok(sp_actor_spawn(&a->id, &ops, a, &opts));
}

static void spawn(struct actor *a)
{
    *a = (struct actor){.leave = -1};
    spawn_with(a, 0, 0, 0);
}

static sp_msg *number(uint32_t n)
{
    sp_msg *m = NULL;

    check_ok(sp_msg_new(&m, sizeof(n)));
    memcpy(sp_msg_data(m), &n, sizeof(n));
    return m;
}

static void post(struct actor *a, uint32_t n)
{
    sp_msg *m = number(n);

    check_ok(sp_actor_post(a->id, m, SP_NONBLOCK));
}

/// Stops it, if it is not; then nothing may be wrong.
static void finish(struct actor *a)
{
    int rc = sp_actor_stop(a->id);

    assert_true(rc == SP_OK || rc == SP_ECLOSED);
    check_rc(SP_ECLOSED, sp_actor_stop(a->id));
    assert_int_equal(atomic_load(&a->overlaps), 0);
    assert_int_equal(atomic_load(&a->in_call), 0);
    assert_int_equal(atomic_load(&a->wrong), 0);
}

static void refuses_what_makes_no_sense(void **state)
{
    sp_actor_ops bad = ops;
    sp_actor_opts opts = {.size = sizeof(opts), .flags = 1U << 30};
    sp_socket s = check_open("pair");
    struct actor a;
    sp_actor id;

    (void)state;
    check_rc(SP_EINVAL, sp_actor_spawn(NULL, &ops, NULL, NULL));
    check_rc(SP_EINVAL, sp_actor_spawn(&id, NULL, NULL, NULL));
    bad.size = 0;
    check_rc(SP_EINVAL, sp_actor_spawn(&id, &bad, NULL, NULL));
    bad = ops;
    bad.on_message = NULL;
    check_rc(SP_EINVAL, sp_actor_spawn(&id, &bad, NULL, NULL));
    check_rc(SP_EINVAL, sp_actor_spawn(&id, &ops, NULL, &opts));
    opts = (sp_actor_opts){.size = 0};
    check_rc(SP_EINVAL, sp_actor_spawn(&id, &ops, NULL, &opts));
    assert_int_equal(sp_actor_self().id, 0);
    spawn(&a);
    check_rc(SP_EINVAL, sp_actor_post(a.id, NULL, 0));
    check_rc(SP_EINVAL, sp_actor_post((sp_actor){0}, NULL, 0));
    check_rc(SP_EINVAL, sp_actor_attach(a.id, (sp_socket){a.id.id}, 1));
    check_rc(SP_EINVAL, sp_actor_attach(a.id, s, SP_PORT_NONE));
    check_rc(SP_ESTATE, sp_actor_detach(a.id, s));
    finish(&a);
    check_rc(SP_ECLOSED, sp_actor_attach(a.id, s, 1));
    check_rc(SP_ECLOSED, sp_actor_timer(a.id, 1, 1));
    check_ok(sp_close(s));
}

static long post_100(void *actor)
{
    for (uint32_t i = 0; i < 100; i++) {
        post(actor, i);
    }
    return 0;
}

/// Whichever thread posts, also one that is gone meanwhile.
static void runtime_counts_actors_and_posts(void **state)
{
    struct check_call calls[2];
    struct actor a;
    struct actor b;
    int64_t before;

    (void)state;
    assert_int_equal(check_stat(0, "runtime.actors"), 0);
    spawn(&a);
    spawn(&b);
    check_until(atomic_load(&a.inits) + atomic_load(&b.inits) == 2);
    assert_int_equal(check_stat(0, "runtime.actors"), 2);
    before = check_stat(0, "runtime.posts");
    for (int i = 0; i < 2; i++) {
        check_call_start(&calls[i], post_100, i == 0 ? &a : &b);
    }
    (void)post_100(&a);
    for (int i = 0; i < 2; i++) {
        (void)check_call_join(&calls[i], CHECK_SOON);
    }
    check_until(atomic_load(&a.n) + atomic_load(&b.n) == 300);
    assert_int_equal(check_stat(0, "runtime.posts") - before, 300);
    finish(&a);
    assert_int_equal(check_stat(0, "runtime.actors"), 1);
    finish(&b);
    assert_int_equal(check_stat(0, "runtime.actors"), 0);
}

static void messages_are_handled_in_order_and_never_inside_the_post(void **state)
{
    struct actor a;

    (void)state;
    spawn(&a);
    test_call = 1;
    for (uint32_t i = 0; i < 200; i++) {
        post(&a, i);
    }
    test_call = 0;
    check_until(atomic_load(&a.n) == 200);
    for (uint32_t i = 0; i < 200; i++) {
        assert_int_equal(atomic_load(&a.seen[i]), i);
    }
    check_stat_is(a.id.id, "handled", 200);
    check_stat_is(a.id.id, "posted", 200);
    check_stat_is(a.id.id, "queued", 0);
    finish(&a);
    assert_int_equal(atomic_load(&a.inits), 1);
    assert_int_equal(atomic_load(&a.finis), 1);
}

static void a_full_actor_refuses_and_a_thread_waits(void **state)
{
    struct actor a = {.leave = 0};
    sp_msg *m = number(9);
    sp_scope scope;

    (void)state;
    spawn_with(&a, 4, 0, 0);
    for (uint32_t i = 0; i < 4; i++) {
        post(&a, i);
    }
    check_until(atomic_load(&a.batches) > 0);
    check_detail(SP_EFULL, "post: the actor is full", sp_actor_post(a.id, m, SP_NONBLOCK));
    check_stat_is(a.id.id, "full", 1);
    check_ok(sp_scope_open(&scope, (sp_scope){0}, 10));
    check_rc(SP_ETIMEDOUT, sp_sendmsg_in(scope, a.id.id, m));
    check_ok(sp_scope_close(scope));
    check_stat_is(a.id.id, "queued", 4);
    atomic_store(&a.leave, -1);
    check_ok(sp_actor_timer(a.id, 20, 0)); // While this thread waits.
    check_ok(sp_actor_post(a.id, m, 0));
    check_until(atomic_load(&a.n) == 5);
    assert_int_equal(atomic_load(&a.seen[4]), 9);
    finish(&a);
}

struct poster {
    struct check_call call;
    sp_actor to;
    sp_msg *m;
};

static long call_post(void *arg)
{
    struct poster *p = arg;
    int rc = sp_actor_post(p->to, p->m, 0);

    p->m = rc == SP_OK ? NULL : p->m;
    return rc;
}

static void stop_wakes_who_waits_to_post_and_drops_what_is_left(void **state)
{
    struct actor a = {.leave = 0};
    struct poster p;
    int64_t closed = check_stat(0, "actors_stopped.drops.closed");
    int64_t posted = check_stat(0, "actors_stopped.posted");

    (void)state;
    spawn_with(&a, 2, 0, 0);
    post(&a, 1);
    post(&a, 2);
    p = (struct poster){.to = a.id, .m = number(3)};
    check_call_start(&p.call, call_post, &p);
    assert_false(check_call_ended(&p.call, 20));
    finish(&a);
    assert_int_equal(check_call_join(&p.call, CHECK_SOON), SP_ECLOSED);
    sp_msg_release(p.m);
    assert_int_equal(atomic_load(&a.finis), 1);
    check_stat_is(0, "actors_stopped.drops.closed", closed + 2);
    check_stat_is(0, "actors_stopped.posted", posted + 2);
}

static void what_was_posted_before_a_stop_is_offered(void **state)
{
    struct actor a;

    (void)state;
    spawn(&a);
    for (uint32_t i = 0; i < 100; i++) {
        post(&a, i);
    }
    finish(&a);
    assert_int_equal(atomic_load(&a.n), 100);
    assert_int_equal(atomic_load(&a.finis), 1);
}

static void what_is_left_is_offered_again_in_order(void **state)
{
    struct actor a = {.leave = 3};

    (void)state;
    spawn_with(&a, 0, 0, 0);
    for (uint32_t i = 0; i < 10; i++) {
        post(&a, i);
    }
    check_until(atomic_load(&a.n) == 3);
    check_stat_is(a.id.id, "queued", 7);
    atomic_store(&a.leave, 4);
    post(&a, 10); // With what comes next.
    check_until(atomic_load(&a.n) == 7);
    atomic_store(&a.leave, -1);
    check_ok(sp_actor_timer(a.id, 0, 1)); // After a timer.
    check_until(atomic_load(&a.n) == 11);
    for (uint32_t i = 0; i < 11; i++) {
        assert_int_equal(atomic_load(&a.seen[i]), i);
    }
    finish(&a);
}

/* ------------------------------------------------------------------ Failures */

static void a_failure_restarts_it_and_the_message_is_counted(void **state)
{
    struct actor a = {.leave = -1, .fail_at = 3};

    (void)state;
    spawn_with(&a, 0, 1, 0);
    for (uint32_t i = 0; i < 5; i++) {
        post(&a, i);
    }
    check_until(atomic_load(&a.n) == 5);
    assert_int_equal(atomic_load(&a.inits), 2);
    assert_int_equal(atomic_load(&a.finis), 1);
    check_stat_is(a.id.id, "restarts", 1);
    check_stat_is(a.id.id, "handled", 4);
    check_stat_is(a.id.id, "drops.actor_failed", 1);
    check_stat_is(a.id.id, "queued", 0);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(atomic_load(&a.seen[i]), i);
    }
    finish(&a);
}

static atomic_int logged;

static void on_log(sp_log_level level, const char *id, const char *msg, void *arg)
{
    (void)arg;
    if (level == SP_LOG_ERROR && strcmp(id, "actor") == 0 && strstr(msg, "is stopped") != NULL) {
        atomic_fetch_add(&logged, 1);
    }
}

static int always_fails(struct actor *a, unsigned port, sp_msg *m)
{
    (void)a;
    (void)port;
    sp_msg_release(m);
    return -1;
}

static void too_many_failures_stop_it(void **state)
{
    struct actor a = {.leave = -1, .extra = always_fails};
    int64_t given_up = check_stat(0, "actors_stopped.given_up");
    int64_t failed = check_stat(0, "actors_stopped.drops.actor_failed");
    int64_t closed = check_stat(0, "actors_stopped.drops.closed");
    sp_msg *m = number(0);
    int rc = SP_OK;
    int posted = 0;

    (void)state;
    atomic_store(&logged, 0);
    sp_log_set(SP_LOG_ERROR, on_log, NULL);
    spawn_with(&a, 0, 3, 60000);
    for (; rc != SP_ECLOSED; posted += rc == SP_OK) {
        rc = sp_actor_post(a.id, m, SP_NONBLOCK);
        m = rc == SP_OK ? number(0) : m;
        check_pause();
    }
    sp_msg_release(m);
    check_until(check_stat(0, "runtime.objects") == 0);
    assert_int_equal(atomic_load(&logged), 1);
    assert_int_equal(atomic_load(&a.inits), 4);
    assert_int_equal(atomic_load(&a.finis), 4);
    check_stat_is(0, "actors_stopped.given_up", given_up + 1);
    check_stat_is(0, "actors_stopped.drops.actor_failed", failed + 4);
    check_stat_is(0, "actors_stopped.drops.closed", closed + posted - 4);
    sp_log_set(SP_LOG_WARN, NULL, NULL);
    finish(&a);
}

static void restarts_are_counted_in_their_time_only(void **state)
{
    struct actor a = {.leave = -1, .extra = always_fails};

    (void)state;
    spawn_with(&a, 0, 1, 1);
    for (int i = 1; i <= 5; i++) {
        int64_t then = check_now();

        check_until(check_now() > then + 2);
        post(&a, 0);
        check_until(atomic_load(&a.inits) == i + 1);
    }
    finish(&a);
}

static void an_init_that_fails_is_tried_again(void **state)
{
    struct actor a = {.leave = -1, .init_fails = 2};

    (void)state;
    spawn_with(&a, 0, 5, 0);
    post(&a, 1);
    check_until(atomic_load(&a.n) == 1);
    assert_int_equal(atomic_load(&a.inits), 3);
    assert_int_equal(atomic_load(&a.finis), 0);
    finish(&a);
    assert_int_equal(atomic_load(&a.finis), 1);
}

static void an_init_that_fails_without_a_policy_is_the_end(void **state)
{
    struct actor a = {.leave = -1, .init_fails = 1};

    (void)state;
    atomic_store(&logged, 0);
    sp_log_set(SP_LOG_ERROR, on_log, NULL);
    spawn_with(&a, 0, 0, 0);
    check_until(sp_actor_timer(a.id, -1, 0) == SP_ECLOSED);
    assert_int_equal(atomic_load(&a.finis), 0);
    assert_int_equal(atomic_load(&logged), 1);
    sp_log_set(SP_LOG_WARN, NULL, NULL);
    finish(&a);
}

static int fail_untaken(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    struct actor *a = state;

    (void)self;
    (void)port;
    (void)in;
    atomic_fetch_add(&a->batches, 1);
    return -1;
}

static void a_failure_before_any_message_costs_the_first(void **state)
{
    sp_actor_ops fails = {.size = sizeof(fails), .on_message = fail_untaken};
    sp_actor_opts opts = {.size = sizeof(opts), .restart_max = 100};
    struct actor a = {.leave = -1};

    (void)state;
    check_ok(sp_actor_spawn(&a.id, &fails, &a, &opts));
    for (uint32_t i = 0; i < 10; i++) {
        post(&a, i);
    }
    check_stat_is(a.id.id, "drops.actor_failed", 10);
    check_stat_is(a.id.id, "handled", 0);
    check_stat_is(a.id.id, "queued", 0);
    check_stat_is(a.id.id, "restarts", 10);
    finish(&a);
}

/* ------------------------------------------------------------------ Timers */

static void timers_come_once_each_with_their_cookie(void **state)
{
    struct actor a;

    (void)state;
    spawn(&a);
    check_ok(sp_actor_timer(a.id, 1, 7));
    check_until(atomic_load(&a.timers) == 1);
    assert_int_equal(atomic_load(&a.cookie), 7);
    check_ok(sp_actor_timer(a.id, 1000000, 8));
    check_ok(sp_actor_timer(a.id, 1, 8)); // Instead.
    check_until(atomic_load(&a.timers) == 2);
    assert_int_equal(atomic_load(&a.cookie), 8);
    check_ok(sp_actor_timer(a.id, 5, 9));
    check_ok(sp_actor_timer(a.id, -1, 9)); // Not at all.
    check_ok(sp_actor_timer(a.id, 10, 10));
    check_until(atomic_load(&a.cookie) == 10);
    assert_int_equal(atomic_load(&a.timers), 3);
    check_ok(sp_actor_timer(a.id, 1000000, 11)); // Goes with it.
    finish(&a);
}

static void tick(struct actor *a, uint64_t cookie)
{
    if (atomic_load(&a->timers) < 20 && sp_actor_timer(a->id, 0, cookie + 1) < 0) {
        atomic_fetch_add(&a->wrong, 1);
    }
}

static void a_timer_may_be_armed_again_in_its_function(void **state)
{
    struct actor a;

    (void)state;
    spawn(&a);
    a.on_time = tick;
    check_ok(sp_actor_timer(a.id, 0, 0));
    check_until(atomic_load(&a.timers) == 21);
    assert_int_equal(atomic_load(&a.cookie), 20);
    finish(&a);
}

/* ------------------------------------------------------------------ Sockets */

static void a_sockets_messages_arrive_at_its_port(void **state)
{
    static const char *const transports[] = {"inproc", "tcp"};

    (void)state;
    for (unsigned t = 0; t < 2; t++) {
        sp_socket a;
        sp_socket b;
        struct actor act;
        char buf[8];

        check_couple(transports[t], "pair", "pair", &a, &b);
        spawn(&act);
        check_ok(sp_sendmsg(a, number(0), 0)); // Before.
        check_ok(sp_actor_attach(act.id, b, 5));
        check_rc(SP_ESTATE, sp_actor_attach(act.id, b, 6));
        for (uint32_t i = 1; i < 300; i++) {
            check_ok(sp_sendmsg(a, number(i), 0));
        }
        check_until(atomic_load(&act.n) == 300);
        for (uint32_t i = 0; i < 300; i++) {
            assert_int_equal(atomic_load(&act.seen[i]), 5U << 24 | i);
        }
        check_detail(SP_ESTATE,
                     "receive: what the socket receives goes to a mailbox, an actor or a device",
                     sp_recv(b, buf, sizeof(buf), 0));
        check_stat_is(act.id.id, "received", 300);
        check_stat_is(act.id.id, "posted", 300);
        finish(&act);
        check_send(a, "free again");
        check_recv(b, "free again");
        check_ok(sp_close(a));
        check_ok(sp_close(b));
    }
}

static void what_it_leaves_of_a_socket_stops_the_sender_and_is_not_lost(void **state)
{
    struct actor act = {.leave = 0};
    sp_socket a;
    sp_socket b;
    sp_msg *m = number(0);
    uint32_t sent = 0;

    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    check_ok(sp_set_int(a.id, "send-buffer", 4));
    check_ok(sp_set_int(b.id, "recv-buffer", 4));
    spawn_with(&act, 0, 0, 0);
    check_ok(sp_actor_attach(act.id, b, 1));
    for (int64_t end = check_now() + 50; check_now() < end;) {
        int rc = sp_sendmsg(a, m, SP_NONBLOCK);

        if (rc == SP_OK) {
            m = number(++sent);
        } else {
            check_rc(SP_EAGAIN, rc);
            check_pause();
        }
    }
    sp_msg_release(m);
    assert_in_range(sent, 1, 600);
    atomic_store(&act.leave, -1);
    check_ok(sp_actor_timer(act.id, 0, 0));
    check_until(atomic_load(&act.n) == (int)sent);
    for (uint32_t i = 0; i < sent; i++) {
        assert_int_equal(atomic_load(&act.seen[i]), 1U << 24 | i);
    }
    finish(&act);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

/// Passes it on, or leaves it.
static int pass_to_socket(struct actor *a, unsigned port, sp_msg *m)
{
    int rc = sp_sendmsg(a->out, m, SP_NONBLOCK);

    (void)port;
    if (rc < 0 && rc != SP_EAGAIN && rc != SP_ENOPEER) {
        atomic_fetch_add(&a->wrong, 1);
    }
    return rc < 0;
}

static void on_writable_follows_a_refused_send(void **state)
{
    enum { N = 500 };
    struct actor act = {.leave = -1, .extra = pass_to_socket};
    sp_socket a;
    sp_socket b;
    uint32_t got;

    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    check_ok(sp_set_int(a.id, "send-buffer", 2));
    check_ok(sp_set_int(b.id, "recv-buffer", 2));
    act.out = a;
    spawn_with(&act, N, 0, 0);
    check_ok(sp_actor_attach(act.id, a, 3));
    for (uint32_t i = 0; i < N; i++) {
        post(&act, i);
    }
    for (uint32_t i = 0; i < N; i++) {
        check_rc(sizeof(got), sp_recv(b, &got, sizeof(got), 0));
        assert_int_equal(got, i);
    }
    check_until(atomic_load(&act.n) == N);
    assert_true(atomic_load(&act.writable) > 0);
    assert_int_equal(atomic_load(&act.writable_port), 3);
    finish(&act);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

static void on_writable_comes_with_the_first_peer(void **state)
{
    struct actor act = {.leave = -1, .extra = pass_to_socket};
    sp_socket a = check_open("pair");
    sp_socket b = check_open("pair");
    uint32_t got;
    char url[256];

    (void)state;
    act.out = a;
    spawn_with(&act, 0, 0, 0);
    check_ok(sp_actor_attach(act.id, a, 3));
    post(&act, 77);
    check_until(atomic_load(&act.batches) > 0);
    check_listen(a, "inproc", url, NULL);
    check_ok(sp_dial(b, url, NULL, 0));
    check_rc(sizeof(got), sp_recv(b, &got, sizeof(got), 0));
    assert_int_equal(got, 77);
    finish(&act);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

static int echo(struct actor *a, unsigned port, sp_msg *m)
{
    (void)port;
    if (sp_sendmsg(a->out, m, SP_NONBLOCK) < 0) {
        atomic_fetch_add(&a->wrong, 1);
        sp_msg_release(m);
    }
    return 0;
}

static void an_actor_answers_requests_one_by_one(void **state)
{
    enum { N = 8 };
    struct actor act = {.leave = -1, .extra = echo};
    sp_socket rep = check_open("rep");
    sp_socket req[N];
    uint32_t got;
    char url[256];

    (void)state;
    check_listen(rep, "inproc", url, NULL);
    act.out = rep;
    spawn_with(&act, 0, 0, 0);
    check_ok(sp_actor_attach(act.id, rep, 1));
    for (uint32_t i = 0; i < N; i++) {
        req[i] = check_open("req");
        check_ok(sp_dial(req[i], url, NULL, 0));
    }
    for (int round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < N; i++) {
            check_ok(sp_sendmsg(req[i], number(i), 0));
        }
        for (uint32_t i = 0; i < N; i++) {
            check_rc(sizeof(got), sp_recv(req[i], &got, sizeof(got), 0));
            assert_int_equal(got, i);
        }
    }
    finish(&act);
    for (int i = 0; i < N; i++) {
        check_ok(sp_close(req[i]));
    }
    check_ok(sp_close(rep));
}

static void detach_gives_the_socket_back(void **state)
{
    struct actor act;
    sp_socket a;
    sp_socket b;

    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    spawn(&act);
    for (int i = 0; i < 20; i++) {
        check_ok(sp_actor_attach(act.id, b, 1));
        check_ok(sp_sendmsg(a, number(1), 0));
        check_until(atomic_load(&act.n) == i + 1);
        check_ok(sp_actor_detach(act.id, b));
        check_send(a, "for the test");
        check_recv(b, "for the test");
        // The actor forgets it soon.
        check_until(sp_actor_detach(act.id, b) == SP_ESTATE);
    }
    finish(&act);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

static void a_closed_socket_leaves_the_actor(void **state)
{
    struct actor act;
    sp_socket a;
    sp_socket b;

    (void)state;
    spawn(&act);
    for (int i = 0; i < 10; i++) {
        check_couple("inproc", "pair", "pair", &a, &b);
        check_ok(sp_actor_attach(act.id, b, 1));
        check_ok(sp_sendmsg(a, number(1), 0));
        check_until(atomic_load(&act.n) == i + 1);
        check_ok(sp_close(b));
        check_ok(sp_close(a));
    }
    check_until(check_stat(0, "runtime.objects") == 1); // The actor.
    finish(&act);
}

/* ------------------------------------------------------------------ Actors among themselves */

static int pass_to_actor(struct actor *a, unsigned port, sp_msg *m)
{
    int rc = sp_actor_post(a->to, m, 0); // In an actor it never waits.

    (void)port;
    if (rc < 0 && rc != SP_EFULL) {
        atomic_fetch_add(&a->wrong, 1);
    }
    return rc < 0;
}

static void a_pipeline_of_small_actors_passes_everything_in_order(void **state)
{
    enum { STAGES = 8, N = 1000 };
    static struct actor stages[STAGES];

    (void)state;
    for (int i = STAGES - 1; i >= 0; i--) {
        stages[i] = (struct actor){.leave = -1};
        if (i < STAGES - 1) {
            stages[i].extra = pass_to_actor;
            stages[i].to = stages[i + 1].id;
        }
        spawn_with(&stages[i], 2 + (size_t)i % 3, 0, 0);
    }
    for (uint32_t i = 0; i < N; i++) {
        check_ok(sp_actor_post(stages[0].id, number(i), 0));
    }
    check_until(atomic_load(&stages[STAGES - 1].n) == N);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(atomic_load(&stages[STAGES - 1].seen[i]), i);
    }
    for (int i = 0; i < STAGES; i++) {
        check_stat_is(stages[i].id.id, "posted", N);
        check_stat_is(stages[i].id.id, "handled", N);
        finish(&stages[i]);
    }
}

static int pass_to_box(struct actor *a, unsigned port, sp_msg *m)
{
    int rc = sp_mailbox_post(a->box, m, SP_NONBLOCK);

    (void)port;
    if (rc < 0 && rc != SP_EFULL) {
        atomic_fetch_add(&a->wrong, 1);
    }
    return rc < 0;
}

static void an_actor_is_told_of_room_in_a_mailbox(void **state)
{
    enum { N = 300 };
    struct actor a = {.leave = -1, .extra = pass_to_box};

    (void)state;
    check_ok(sp_mailbox_open(&a.box, 2));
    spawn_with(&a, N, 0, 0);
    for (uint32_t i = 0; i < N; i++) {
        post(&a, i);
    }
    for (uint32_t i = 0; i < N; i++) {
        sp_msg *m;

        check_ok(sp_mailbox_take(a.box, &m, 0));
        assert_int_equal(peek(m), i);
        sp_msg_release(m);
    }
    check_until(atomic_load(&a.n) == N);
    assert_true(atomic_load(&a.writable) > 0);
    assert_int_equal(atomic_load(&a.writable_port), SP_PORT_NONE);
    finish(&a);
    check_ok(sp_mailbox_close(a.box));
}

static int stop_myself(struct actor *a, unsigned port, sp_msg *m)
{
    (void)port;
    sp_msg_release(m);
    if (atomic_load(&a->n) == 2 && sp_actor_stop(sp_actor_self()) != SP_OK) {
        atomic_fetch_add(&a->wrong, 1);
    }
    return 0;
}

static void an_actor_may_stop_itself(void **state)
{
    struct actor a = {.leave = -1, .extra = stop_myself};

    (void)state;
    spawn_with(&a, 0, 0, 0);
    post(&a, 0);
    post(&a, 1);
    post(&a, 2);
    check_until(atomic_load(&a.finis) == 1);
    finish(&a);
}

static int block_here(struct actor *a, unsigned port, sp_msg *m)
{
    sp_msg *got = NULL;
    char buf[4];

    (void)port;
    sp_msg_release(m);
    if (sp_recv(a->out, buf, sizeof(buf), 0) != SP_ESTATE ||
        sp_mailbox_take(a->box, &got, 0) != SP_ESTATE || sp_run_once(0) != SP_ESTATE) {
        atomic_fetch_add(&a->wrong, 1);
    }
    sp_fini(); // Nothing but a line in the log.
    return 0;
}

static void no_log(sp_log_level level, const char *id, const char *msg, void *arg)
{
    (void)level;
    (void)id;
    (void)msg;
    (void)arg;
}

static void what_blocks_is_refused_in_an_actor(void **state)
{
    struct actor a = {.leave = -1, .extra = block_here};

    (void)state;
    sp_log_set(SP_LOG_ERROR, no_log, NULL);
    a.out = check_open("pair");
    check_ok(sp_mailbox_open(&a.box, 1));
    spawn_with(&a, 0, 0, 0);
    post(&a, 0);
    check_until(atomic_load(&a.n) == 1);
    finish(&a);
    sp_log_set(SP_LOG_WARN, NULL, NULL);
    check_ok(sp_close(a.out));
    check_ok(sp_mailbox_close(a.box));
}

static int spawn_child(struct actor *a)
{
    struct actor *child = (struct actor *)(a + 1);

    return sp_actor_spawn(&child->id, &ops, child, NULL);
}

static void an_actor_spawns_another_one_in_its_init(void **state)
{
    struct actor family[2] = {{.leave = -1, .on_init = spawn_child}, {.leave = -1}};

    (void)state;
    spawn_with(&family[0], 0, 0, 0);
    check_until(atomic_load(&family[1].inits) == 1);
    post(&family[1], 4);
    finish(&family[0]);
    finish(&family[1]);
    assert_int_equal(atomic_load(&family[1].n), 1);
}

/* ------------------------------------------------------------------ Threads of their own */

/// Answers with what somebody else gives it, on whichever thread it is.
static int block_for_it(struct actor *a, unsigned port, sp_msg *m)
{
    sp_msg *got = NULL;
    int rc;

    (void)port;
    if (atomic_load(&a->n) > 0 && !pthread_equal(a->test, pthread_self())) {
        atomic_fetch_add(&a->wrong, 1);
    }
    a->test = pthread_self();
    rc = sp_mailbox_take(a->box, &got, 0);
    sp_msg_release(got);
    rc = rc == SP_OK ? sp_sendmsg(a->out, m, 0) : rc;
    if (rc < 0) {
        sp_msg_release(m);
    }
    if (rc < 0 && rc != SP_ECLOSED) {
        atomic_fetch_add(&a->wrong, 1);
    }
    return 0;
}

static void spawn_own(struct actor *a, unsigned restarts)
{
    sp_actor_opts opts = {
        .size = sizeof(opts), .restart_max = restarts, .flags = SP_ACTOR_DEDICATED};

    check_ok(sp_actor_spawn(&a->id, &ops, a, &opts));
}

static void a_dedicated_actor_may_block_on_its_one_thread(void **state)
{
    struct actor a = {.leave = -1, .extra = block_for_it};
    sp_socket b;
    uint32_t got;

    (void)state;
    check_couple("inproc", "pair", "pair", &a.out, &b);
    check_ok(sp_mailbox_open(&a.box, 1));
    spawn_own(&a, 0);
    for (uint32_t i = 0; i < 50; i++) {
        post(&a, i);
    }
    for (uint32_t i = 0; i < 50; i++) {
        check_ok(sp_mailbox_post(a.box, number(0), 0));
        check_rc(sizeof(got), sp_recv(b, &got, sizeof(got), 0));
        assert_int_equal(got, i);
    }
    check_until(atomic_load(&a.n) == 50);
    finish(&a);
    assert_int_equal(atomic_load(&a.finis), 1);
    check_ok(sp_mailbox_close(a.box));
    check_ok(sp_close(a.out));
    check_ok(sp_close(b));
}

static void a_dedicated_actor_has_sockets_timers_and_restarts(void **state)
{
    struct actor a = {.leave = -1, .fail_at = 5};
    sp_socket x;
    sp_socket y;

    (void)state;
    check_couple("tcp", "pair", "pair", &x, &y);
    spawn_own(&a, 1);
    check_ok(sp_actor_attach(a.id, y, 2));
    for (uint32_t i = 0; i < 10; i++) {
        check_ok(sp_sendmsg(x, number(i), 0));
    }
    check_until(atomic_load(&a.n) == 10);
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(atomic_load(&a.seen[i]), 2U << 24 | i);
    }
    assert_int_equal(atomic_load(&a.inits), 2);
    check_ok(sp_actor_timer(a.id, 1, 3));
    check_until(atomic_load(&a.timers) == 1);
    finish(&a);
    check_ok(sp_close(x));
    check_ok(sp_close(y));
}

static void threads_of_dedicated_actors_end_with_them(void **state)
{
    struct actor a[3];
    int before;

    (void)state;
    sp_log_set(SP_LOG_ERROR, no_log, NULL);
    before = check_threads();
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 3; i++) {
            a[i] = (struct actor){.leave = -1,
                                  .extra = i == 0   ? always_fails
                                           : i == 1 ? stop_myself
                                                    : NULL};
            spawn_own(&a[i], 0);
            post(&a[i], 0);
        }
        check_until(sp_actor_timer(a[0].id, -1, 0) == SP_ECLOSED);
        for (int i = 0; i < 3; i++) {
            finish(&a[i]);
        }
    }
    check_until(check_threads() <= before + 2); // Workers may have come.
    sp_log_set(SP_LOG_WARN, NULL, NULL);
}

static int wait_for_ever(struct actor *a, unsigned port, sp_msg *m)
{
    sp_msg *got = NULL;

    (void)port;
    sp_msg_release(m);
    if (sp_mailbox_take(a->box, &got, 0) != SP_ECLOSED) {
        atomic_fetch_add(&a->wrong, 1);
    }
    return 0;
}

static void fini_wakes_a_dedicated_actor_that_blocks(void **state)
{
    struct actor a = {.leave = -1, .extra = wait_for_ever};

    (void)state;
    check_ok(sp_mailbox_open(&a.box, 1));
    spawn_own(&a, 0);
    post(&a, 0);
    check_until(atomic_load(&a.batches) == 1);
    sp_fini();
    assert_int_equal(atomic_load(&a.finis), 1);
    assert_int_equal(atomic_load(&a.wrong), 0);
}

static void fini_stops_all(void **state)
{
    static struct actor many[50];
    sp_socket a;
    sp_socket b;

    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    for (int i = 0; i < 50; i++) {
        many[i] = (struct actor){.leave = i % 2 == 0 ? -1 : 0};
        spawn_with(&many[i], 0, 0, 0);
        post(&many[i], 1);
        check_ok(sp_actor_timer(many[i].id, i, 0));
    }
    check_ok(sp_actor_attach(many[0].id, b, 1));
    check_ok(sp_sendmsg(a, number(1), 0));
    sp_fini();
    for (int i = 0; i < 50; i++) {
        assert_int_equal(atomic_load(&many[i].inits), atomic_load(&many[i].finis));
        check_rc(SP_ECLOSED, sp_actor_stop(many[i].id));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(refuses_what_makes_no_sense),
        check_both(runtime_counts_actors_and_posts),
        check_both(messages_are_handled_in_order_and_never_inside_the_post),
        check_both(a_full_actor_refuses_and_a_thread_waits),
        check_both(stop_wakes_who_waits_to_post_and_drops_what_is_left),
        check_both(what_was_posted_before_a_stop_is_offered),
        check_both(what_is_left_is_offered_again_in_order),
        check_both(a_failure_restarts_it_and_the_message_is_counted),
        check_both(too_many_failures_stop_it),
        check_both(restarts_are_counted_in_their_time_only),
        check_both(an_init_that_fails_is_tried_again),
        check_both(an_init_that_fails_without_a_policy_is_the_end),
        check_both(a_failure_before_any_message_costs_the_first),
        check_both(timers_come_once_each_with_their_cookie),
        check_both(a_timer_may_be_armed_again_in_its_function),
        check_both(a_sockets_messages_arrive_at_its_port),
        check_both(what_it_leaves_of_a_socket_stops_the_sender_and_is_not_lost),
        check_both(on_writable_follows_a_refused_send),
        check_both(on_writable_comes_with_the_first_peer),
        check_both(an_actor_answers_requests_one_by_one),
        check_both(detach_gives_the_socket_back),
        check_both(a_closed_socket_leaves_the_actor),
        check_both(a_pipeline_of_small_actors_passes_everything_in_order),
        check_both(an_actor_is_told_of_room_in_a_mailbox),
        check_both(an_actor_may_stop_itself),
        check_both(what_blocks_is_refused_in_an_actor),
        check_both(an_actor_spawns_another_one_in_its_init),
        check_both(a_dedicated_actor_may_block_on_its_one_thread),
        check_both(a_dedicated_actor_has_sockets_timers_and_restarts),
        check_both(threads_of_dedicated_actors_end_with_them),
        check_both(fini_wakes_a_dedicated_actor_that_blocks),
        check_both(fini_stops_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
