/* SPDX-License-Identifier: MIT */
/// Asynchronous operations: done exactly once and never inside the check_start_threads, what a
/// failed send gives back, cancel, stop and free from anywhere, order, deadlines.
#include "check.h"
#include "platform.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/// What a callback has seen.
struct seen {
    sp_op *op;
    atomic_int done;
    atomic_int result;
    atomic_int starting; ///< a start is under way
    atomic_int inside;   ///< a callback ran inside a start
    pthread_t thread;    ///< the one that starts
    int again;           ///< times that it starts itself again
    uint64_t id;         ///< … on this
};

static void on_done(sp_op *op, void *arg)
{
    struct seen *s = arg;

    if (atomic_load(&s->starting) != 0 && pthread_equal(s->thread, pthread_self())) {
        atomic_store(&s->inside, 1);
    }
    atomic_store(&s->result, sp_op_result(op));
    sp_msg_release(sp_op_msg(op));
    if (s->again > 0) {
        s->again--;
        if (sp_op_recv(op, s->id) != SP_OK) {
            atomic_store(&s->inside, 2);
        }
    }
    atomic_fetch_add(&s->done, 1);
}

static void seen_new(struct seen *s)
{
    memset(s, 0, sizeof(*s));
    s->thread = pthread_self();
    check_ok(sp_op_new(&s->op, on_done, s));
}

static sp_msg *text(const char *t)
{
    sp_msg *m = NULL;

    check_ok(sp_msg_new(&m, strlen(t)));
    memcpy(sp_msg_data(m), t, strlen(t));
    return m;
}

static void check_text(sp_msg *m, const char *t)
{
    assert_non_null(m);
    assert_int_equal(sp_msg_len(m), strlen(t));
    assert_memory_equal(sp_msg_view(m), t, strlen(t));
    sp_msg_release(m);
}

/// Two PAIRs that are connected.
static void couple(sp_socket *a, sp_socket *b)
{
    check_couple("inproc", "pair", "pair", a, b);
}

/* ------------------------------------------------------------------ Send and receive */

static void operation_without_callback_is_waited_for(void **state)
{
    sp_socket a;
    sp_socket b;
    sp_op *tx;
    sp_op *rx;

    (void)state;
    couple(&a, &b);
    check_ok(sp_op_new(&tx, NULL, NULL));
    check_ok(sp_op_new(&rx, NULL, NULL));
    assert_int_equal(sp_op_result(rx), SP_EAGAIN);
    check_ok(sp_op_recv(rx, b.id));
    check_detail(SP_ESTATE, "operation: it is under way already", sp_op_recv(rx, b.id));
    assert_null(sp_op_msg(rx));
    check_ok(sp_op_send(tx, a.id, text("hello")));
    check_ok(sp_op_wait(tx));
    assert_null(sp_op_msg(tx));
    check_ok(sp_op_wait(rx));
    check_text(sp_op_msg(rx), "hello");
    assert_null(sp_op_msg(rx));
    sp_op_free(tx);
    sp_op_free(rx);
}

static void done_runs_once_a_start_and_never_inside_it(void **state)
{
    sp_socket a;
    sp_socket b;
    struct seen tx;
    struct seen rx;

    (void)state;
    couple(&a, &b);
    seen_new(&tx);
    seen_new(&rx);
    for (int i = 0; i < 200; i++) {
        atomic_store(&rx.starting, 1);
        check_ok(sp_op_recv(rx.op, b.id));
        atomic_store(&rx.starting, 0);
        atomic_store(&tx.starting, 1);
        check_ok(sp_op_send(tx.op, a.id, text("x")));
        atomic_store(&tx.starting, 0);
        check_ok(sp_op_wait(tx.op));
        check_ok(sp_op_wait(rx.op));
        assert_int_equal(atomic_load(&tx.done), i + 1);
        assert_int_equal(atomic_load(&rx.done), i + 1);
    }
    assert_int_equal(atomic_load(&tx.inside), 0);
    assert_int_equal(atomic_load(&rx.inside), 0);
    sp_op_free(tx.op);
    sp_op_free(rx.op);
}

static void operation_may_be_started_again_in_its_callback(void **state)
{
    sp_socket a;
    sp_socket b;
    struct seen rx;

    (void)state;
    couple(&a, &b);
    seen_new(&rx);
    rx.again = 99;
    rx.id = b.id;
    check_ok(sp_op_recv(rx.op, b.id));
    for (int i = 0; i < 100; i++) {
        check_send(a, "x");
    }
    check_until(atomic_load(&rx.done) == 100);
    check_ok(sp_op_wait(rx.op));
    assert_int_equal(atomic_load(&rx.inside), 0);
    sp_op_free(rx.op);
}

static void failed_send_gives_the_message_back(void **state)
{
    sp_socket a = check_open("pair");
    sp_op *op;

    (void)state;
    check_ok(sp_op_new(&op, NULL, NULL));
    sp_op_deadline(op, 20);
    check_ok(sp_op_send(op, a.id, text("mine")));
    check_detail(SP_ETIMEDOUT, "operation: Connection timed out", sp_op_wait(op));
    check_text(sp_op_msg(op), "mine");
    sp_op_deadline(op, -1);
    check_ok(sp_op_send(op, a.id, text("mine")));
    check_ok(sp_op_cancel(op));
    check_rc(SP_ECANCELED, sp_op_wait(op));
    check_text(sp_op_msg(op), "mine");
    check_detail(SP_ESTATE, "operation: it is not under way", sp_op_cancel(op));
    check_ok(sp_op_send(op, a.id, text("mine")));
    check_ok(sp_close(a));
    check_rc(SP_ECLOSED, sp_op_wait(op));
    check_text(sp_op_msg(op), "mine");
    sp_op_free(op);
}

static void refused_start_leaves_the_message_with_the_caller(void **state)
{
    sp_socket a = check_open("pair");
    sp_msg *m = text("mine");
    sp_op *op;

    (void)state;
    check_ok(sp_op_new(&op, NULL, NULL));
    check_rc(SP_EINVAL, sp_op_send(op, 0, m));
    check_rc(SP_EINVAL, sp_op_send(op, a.id, NULL));
    check_ok(sp_op_recv(op, a.id));
    check_rc(SP_ESTATE, sp_op_send(op, a.id, m));
    check_ok(sp_op_stop(op));
    check_rc(SP_ECANCELED, sp_op_wait(op));
    check_detail(SP_ECANCELED, "operation: it was stopped", sp_op_send(op, a.id, m));
    check_ok(sp_close(a));
    check_rc(SP_ECLOSED, sp_op_recv(op, a.id));
    check_text(m, "mine");
    sp_op_free(op);
}

static void receive_takes_the_time_out_of_the_socket(void **state)
{
    sp_socket a = check_open("pair");
    sp_op *op;

    (void)state;
    check_ok(sp_set_int(a.id, "recv-timeout", 20));
    check_ok(sp_op_new(&op, NULL, NULL));
    check_ok(sp_op_recv(op, a.id));
    check_rc(SP_ETIMEDOUT, sp_op_wait(op));
    sp_op_deadline(op, 0);
    check_ok(sp_op_recv(op, a.id));
    check_rc(SP_ETIMEDOUT, sp_op_wait(op));
    sp_op_free(op);
}

static void sends_leave_in_the_order_of_their_starts(void **state)
{
    enum { N = 300 };
    sp_socket a;
    sp_socket b;
    sp_op *ops[N];

    (void)state;
    couple(&a, &b);
    check_ok(sp_set_int(b.id, "recv-buffer", 1));
    for (int i = 0; i < N; i++) {
        char t[16];

        (void)snprintf(t, sizeof(t), "%d", i);
        check_ok(sp_op_new(&ops[i], NULL, NULL));
        check_ok(sp_op_send(ops[i], a.id, text(t)));
    }
    for (int i = 0; i < N; i++) {
        char t[16];

        (void)snprintf(t, sizeof(t), "%d", i);
        check_recv(b, t);
    }
    for (int i = 0; i < N; i++) {
        check_ok(sp_op_wait(ops[i]));
        sp_op_free(ops[i]);
    }
}

static void many_receives_get_one_message_each(void **state)
{
    enum { N = 64 };
    sp_socket a;
    sp_socket b;
    struct seen rx[N];
    int sum = 0;

    (void)state;
    couple(&a, &b);
    for (int i = 0; i < N; i++) {
        seen_new(&rx[i]);
        check_ok(sp_op_recv(rx[i].op, b.id));
    }
    for (int i = 0; i < N / 2; i++) {
        check_send(a, "x");
    }
    for (;;) {
        sum = 0;
        for (int i = 0; i < N; i++) {
            sum += atomic_load(&rx[i].done);
        }
        if (sum == N / 2) {
            break;
        }
        check_pause();
    }
    for (int i = 0; i < N; i++) {
        sp_op_free(rx[i].op);
        assert_int_equal(atomic_load(&rx[i].done), 1);
    }
}

/// The platform, but for counting what it is asked for.
static struct sp_platform counting;
static atomic_ulong allocations;

static void *counting_alloc(size_t size, size_t align)
{
    atomic_fetch_add(&allocations, 1);
    return sp__platform_linux.alloc(size, align);
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define MANY 50000 // a sanitizer's time
#else
#define MANY 500000
#endif

static void on_done_count(sp_op *op, void *arg)
{
    (void)op;
    atomic_fetch_add((atomic_int *)arg, 1);
}

/// Of so many pairs of operations only the first few hundred may want memory. One message goes
/// round and round: what the application's own messages take is the pool's.
static void ask_for_no_memory(int threads, int many)
{
    sp_msg *m = text("x");
    unsigned long before = 0;
    atomic_int done;
    sp_socket a;
    sp_socket b;
    sp_op *tx;
    sp_op *rx;

    sp_msg_release(m);
    sp_fini();
    counting = sp__platform_linux;
    counting.alloc = counting_alloc;
    sp__platform = &counting;
    check_init(threads);
    atomic_init(&done, 0);
    couple(&a, &b);
    m = text("x");
    check_ok(sp_op_new(&tx, on_done_count, &done));
    check_ok(sp_op_new(&rx, on_done_count, &done));
    for (int i = 0; i < many; i++) {
        check_ok(sp_op_recv(rx, b.id));
        check_ok(sp_op_send(tx, a.id, m));
        check_ok(sp_op_wait(tx));
        check_ok(sp_op_wait(rx));
        m = sp_op_msg(rx);
        if (i == 500) {
            before = atomic_load(&allocations);
        }
    }
    assert_int_equal(atomic_load(&allocations), before);
    assert_int_equal(atomic_load(&done), 2 * many);
    sp_msg_release(m);
    sp_op_free(tx);
    sp_op_free(rx);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
    sp_fini();
    sp__platform = &sp__platform_linux;
}

static void no_memory_is_asked_for_in_the_long_run(void **state)
{
    (void)state;
    ask_for_no_memory(1, MANY / 20); // One thread: another that starts later would want its own.
    ask_for_no_memory(0, MANY);
}

/* ------------------------------------------------------------------ Sleep and dial */

static void sleep_ends_in_time_or_by_cancel(void **state)
{
    struct seen s;
    int64_t begin;

    (void)state;
    seen_new(&s);
    begin = check_now();
    check_ok(sp_op_sleep(s.op, 30));
    check_ok(sp_op_wait(s.op));
    assert_true(check_now() - begin >= 29);
    assert_int_equal(atomic_load(&s.done), 1);
    check_ok(sp_op_sleep(s.op, 1000000));
    check_ok(sp_op_cancel(s.op));
    check_rc(SP_ECANCELED, sp_op_wait(s.op));
    check_rc(SP_EINVAL, sp_op_sleep(s.op, -1));
    assert_int_equal(atomic_load(&s.done), 2);
    sp_op_free(s.op);
}

static void dial_is_done_when_connected_or_refused(void **state)
{
    sp_socket a = check_open("pair");
    sp_socket b = check_open("pair");
    sp_dialer d;
    sp_op *op;
    char url[256];

    (void)state;
    check_ok(sp_op_new(&op, NULL, NULL));
    check_ok(sp_dialer_new(&d, b, "tcp://127.0.0.1:1"));
    check_ok(sp_op_dial(op, d));
    check_rc(-ECONNREFUSED, sp_op_wait(op));
    check_ok(sp_op_dial(op, d)); // It may be started again.
    check_rc(-ECONNREFUSED, sp_op_wait(op));
    check_ok(sp_dialer_close(d));
    check_listen(a, "tcp", url, NULL);
    check_ok(sp_dialer_new(&d, b, url));
    check_ok(sp_op_dial(op, d));
    check_ok(sp_op_wait(op));
    check_ok(sp_op_dial(op, d));
    check_rc(SP_ESTATE, sp_op_wait(op));
    check_send(a, "hello");
    check_recv(b, "hello");
    sp_op_free(op);
}

static void dial_is_cancelled_and_may_begin_again(void **state)
{
    sp_socket a = check_open("pair");
    sp_socket b = check_open("pair");
    sp_listener l;
    sp_dialer d;
    sp_op *op;
    char url[256];

    (void)state;
    check_listen(a, "tcp", url, &l);
    check_ok(sp_dialer_new(&d, b, "tcp://127.0.0.1:1"));
    check_ok(sp_dialer_close(d));
    check_ok(sp_op_new(&op, NULL, NULL));
    check_ok(sp_dialer_new(&d, b, url));
    for (int i = 0; i < 50; i++) {
        int rc;

        check_ok(sp_op_dial(op, d));
        (void)sp_op_cancel(op);
        rc = sp_op_wait(op);
        if (rc == SP_OK) {
            check_ok(sp_dialer_close(d));
            check_ok(sp_dialer_new(&d, b, url));
        } else {
            assert_int_equal(rc, SP_ECANCELED);
        }
    }
    sp_op_free(op);
}

/* ------------------------------------------------------------------ Free and stop, anywhere */

struct freer {
    sp_op *other;
    sp_op *own;
    atomic_int done;
};

static void free_both(sp_op *op, void *arg)
{
    struct freer *f = arg;

    sp_op_free(f->other);
    sp_op_free(op);
    atomic_store(&f->done, 1);
}

static void operations_are_freed_in_callbacks(void **state)
{
    sp_socket a = check_open("pair");

    (void)state;
    for (int i = 0; i < 100; i++) {
        struct freer f;
        struct seen s;

        memset(&f, 0, sizeof(f));
        seen_new(&s);
        f.other = s.op;
        check_ok(sp_op_recv(s.op, a.id));
        check_ok(sp_op_new(&f.own, free_both, &f));
        check_ok(sp_op_sleep(f.own, 0));
        check_until(atomic_load(&f.done) == 1);
        check_until(atomic_load(&s.done) == 1);
        assert_int_equal(atomic_load(&s.result), SP_ECANCELED);
    }
}

static void free_waits_for_the_callback(void **state)
{
    sp_socket a;
    sp_socket b;

    (void)state;
    couple(&a, &b);
    for (int i = 0; i < 500; i++) {
        struct seen s;

        seen_new(&s);
        check_ok(sp_op_recv(s.op, b.id));
        check_send(a, "x");
        sp_op_free(s.op);
        assert_int_equal(atomic_load(&s.done), 1);
        if (atomic_load(&s.result) != SP_OK) {
            check_recv(b, "x");
        }
    }
}

static void wait_on_itself_is_refused(sp_op *op, void *arg)
{
    atomic_int *seen = arg;

    atomic_store(seen, sp_op_wait(op));
}

static void blocking_in_a_callback_is_refused(void **state)
{
    atomic_int seen;
    sp_op *op;

    (void)state;
    atomic_init(&seen, 0);
    check_ok(sp_op_new(&op, wait_on_itself_is_refused, &seen));
    check_ok(sp_op_sleep(op, 0));
    check_ok(sp_op_wait(op));
    assert_int_equal(atomic_load(&seen), SP_ESTATE);
    sp_op_free(op);
}

static void fini_ends_what_is_under_way(void **state)
{
    sp_socket a = check_open("pair");
    struct seen rx;
    struct seen sleeper;

    (void)state;
    seen_new(&rx);
    seen_new(&sleeper);
    check_ok(sp_op_recv(rx.op, a.id));
    check_ok(sp_op_sleep(sleeper.op, 1000000));
    sp_fini();
    assert_int_equal(atomic_load(&rx.done), 1);
    assert_int_equal(atomic_load(&rx.result), SP_ECLOSED);
    assert_int_equal(atomic_load(&sleeper.done), 1);
    assert_int_equal(atomic_load(&sleeper.result), SP_ECLOSED);
    check_rc(SP_ECLOSED, sp_op_recv(rx.op, a.id));
    sp_op_free(rx.op);
    sp_op_free(sleeper.op);
}

static void misuse_is_refused(void **state)
{
    sp_op *op;

    (void)state;
    check_rc(SP_EINVAL, sp_op_new(NULL, NULL, NULL));
    check_rc(SP_EINVAL, sp_op_recv(NULL, 1));
    check_rc(SP_EINVAL, sp_op_cancel(NULL));
    check_rc(SP_EINVAL, sp_op_stop(NULL));
    check_rc(SP_EINVAL, sp_op_wait(NULL));
    check_rc(SP_EINVAL, sp_op_result(NULL));
    assert_null(sp_op_msg(NULL));
    sp_op_deadline(NULL, 1);
    sp_op_scope(NULL, (sp_scope){0});
    sp_op_free(NULL);
    check_ok(sp_op_new(&op, NULL, NULL));
    check_rc(SP_EINVAL, sp_op_recv(op, 0));
    check_rc(SP_EINVAL, sp_op_dial(op, (sp_dialer){0}));
    assert_null(sp_op_msg(op));
    check_rc(SP_EAGAIN, sp_op_wait(op)); // Never started: at rest.
    sp_op_free(op);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(operation_without_callback_is_waited_for),
        check_both(done_runs_once_a_start_and_never_inside_it),
        check_both(operation_may_be_started_again_in_its_callback),
        check_both(failed_send_gives_the_message_back),
        check_both(refused_start_leaves_the_message_with_the_caller),
        check_both(receive_takes_the_time_out_of_the_socket),
        check_both(sends_leave_in_the_order_of_their_starts),
        check_both(many_receives_get_one_message_each),
        cmocka_unit_test_setup_teardown(no_memory_is_asked_for_in_the_long_run, check_start_threads,
                                        check_stop),
        check_both(sleep_ends_in_time_or_by_cancel),
        check_both(dial_is_done_when_connected_or_refused),
        check_both(dial_is_cancelled_and_may_begin_again),
        check_both(operations_are_freed_in_callbacks),
        check_both(free_waits_for_the_callback),
        check_both(blocking_in_a_callback_is_refused),
        check_both(fini_ends_what_is_under_way),
        check_both(misuse_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
