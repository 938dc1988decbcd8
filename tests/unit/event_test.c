/* SPDX-License-Identifier: MIT */
/// Pipe events and what their function may do: refuse, close, send; never wait.
#include "check.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct seen {
    pthread_mutex_t lock;
    int n;
    struct {
        sp_pipe_event ev;
        uint64_t pipe;
    } list[256];
    atomic_int adding;
    atomic_int added;
    atomic_int removed;
    atomic_int inside;
    atomic_int overlaps;
    atomic_int refuse; ///< so many more
    pthread_t test;
    atomic_int on_test_thread;
    sp_socket got;
    int (*extra)(sp_socket s, sp_pipe p, sp_pipe_event ev);
};

static struct seen seen;

static int on_pipe(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    struct seen *e = arg;
    int rc = 0;

    if (atomic_fetch_add(&e->inside, 1) != 0) {
        e->overlaps++;
    }
    (void)pthread_mutex_lock(&e->lock);
    if (e->n < 256) {
        e->list[e->n].ev = ev;
        e->list[e->n++].pipe = p.id;
    }
    e->got = s;
    (void)pthread_mutex_unlock(&e->lock);
    if (pthread_equal(pthread_self(), e->test)) {
        e->on_test_thread++;
    }
    if (e->extra != NULL) {
        rc = e->extra(s, p, ev);
    }
    if (ev == SP_PIPE_ADDING && atomic_load(&e->refuse) > 0) {
        atomic_fetch_sub(&e->refuse, 1);
        rc = -1;
    }
    atomic_fetch_sub(&e->inside, 1);
    atomic_fetch_add(ev == SP_PIPE_ADDING  ? &e->adding
                     : ev == SP_PIPE_ADDED ? &e->added
                                           : &e->removed,
                     1);
    return rc;
}

static int start(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof(seen));
    (void)pthread_mutex_init(&seen.lock, NULL);
    seen.test = pthread_self();
    check_init(2);
    return 0;
}

static int start_driven(void **state)
{
    (void)start(state);
    check_init(0);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    check_fini();
    return 0;
}

static void events_come_in_order_for_each_pipe(void **state)
{
    sp_socket rep = check_open("rep");

    (void)state;
    check_ok(sp_on_pipe(rep, on_pipe, &seen));
    check_ok(sp_listen(rep, "inproc://events", NULL));
    for (int i = 0; i < 20; i++) {
        sp_socket req = check_open("req");

        check_ok(sp_dial(req, "inproc://events", NULL, 0));
        check_pipes(rep, 1);
        check_until(atomic_load(&seen.added) == i + 1);
        check_ok(sp_close(req));
        check_until(atomic_load(&seen.removed) == i + 1);
    }
    assert_int_equal(seen.n, 60);
    for (int i = 0; i < 60; i += 3) {
        assert_int_equal(seen.list[i].ev, SP_PIPE_ADDING);
        assert_int_equal(seen.list[i + 1].ev, SP_PIPE_ADDED);
        assert_int_equal(seen.list[i + 2].ev, SP_PIPE_REMOVED);
        assert_true(seen.list[i].pipe != 0);
        assert_true(seen.list[i].pipe == seen.list[i + 1].pipe);
        assert_true(seen.list[i].pipe == seen.list[i + 2].pipe);
    }
    assert_true(seen.got.id == rep.id);
    assert_int_equal(seen.overlaps, 0);
}

/// "User code never runs inside another API call": with threads, on those only.
static void events_run_on_the_librarys_threads(void **state)
{
    events_come_in_order_for_each_pipe(state);
    assert_int_equal(seen.on_test_thread, 0);
}

static void events_refuse_a_peer(void **state)
{
    sp_socket rep = check_open("rep");
    sp_socket req = check_open("req");

    (void)state;
    atomic_store(&seen.refuse, 3);
    check_ok(sp_on_pipe(rep, on_pipe, &seen));
    check_ok(sp_listen(rep, "inproc://refuse", NULL));
    check_ok(sp_dial(req, "inproc://refuse", NULL, SP_NONBLOCK));
    check_until(atomic_load(&seen.added) == 1);
    check_pipes(rep, 1);
    check_pipes(req, 1);
    assert_int_equal(seen.adding, 4);
    assert_int_equal(seen.removed, 0); // What was not added is not removed.
    assert_int_equal(check_stat(rep.id, "reject"), 3);
    assert_int_equal(check_stat(rep.id, "listeners[0].reject"), 3);
    assert_int_equal(check_stat(rep.id, "listeners[0].connect"), 1);
    check_send(req, "q");
    check_recv(rep, "q");
}

static void events_refuse_on_the_dialers_side(void **state)
{
    sp_socket rep = check_open("rep");
    sp_socket req = check_open("req");

    (void)state;
    atomic_store(&seen.refuse, 1);
    check_ok(sp_on_pipe(req, on_pipe, &seen));
    check_ok(sp_listen(rep, "inproc://refuse-dial", NULL));
    check_detail(SP_EPEERS, "dial inproc://refuse-dial: refused by the application: Too many peers",
                 sp_dial(req, "inproc://refuse-dial", NULL, 0));
    check_pipes(rep, 0);
    check_ok(sp_dial(req, "inproc://refuse-dial", NULL, 0));
    check_until(atomic_load(&seen.added) == 1);
}

static void events_end_when_the_function_is_taken_away(void **state)
{
    sp_socket rep = check_open("rep");
    sp_socket req = check_open("req");

    (void)state;
    check_ok(sp_on_pipe(rep, on_pipe, &seen));
    check_ok(sp_listen(rep, "inproc://away", NULL));
    check_ok(sp_dial(req, "inproc://away", NULL, 0));
    check_until(atomic_load(&seen.added) == 1);
    check_ok(sp_on_pipe(rep, NULL, NULL));
    check_ok(sp_close(req));
    check_pipes(rep, 0);
    check_ok(sp_dial(check_open("req"), "inproc://away", NULL, 0));
    check_pipes(rep, 1);
    assert_int_equal(seen.n, 2);
}

static atomic_bool slow_entered;
static atomic_bool slow_done;

static int slow(sp_socket s, sp_pipe p, sp_pipe_event ev)
{
    (void)s;
    (void)p;
    (void)ev;
    atomic_store(&slow_entered, true);
    for (int i = 0; i < 50; i++) {
        check_pause();
    }
    atomic_store(&slow_done, true);
    return 0;
}

static void events_function_is_not_running_after_it_is_taken_away(void **state)
{
    sp_socket rep = check_open("rep");
    sp_socket req = check_open("req");

    (void)state;
    atomic_store(&slow_entered, false);
    atomic_store(&slow_done, false);
    seen.extra = slow;
    check_ok(sp_on_pipe(rep, on_pipe, &seen));
    check_ok(sp_listen(rep, "inproc://slow", NULL));
    check_ok(sp_dial(req, "inproc://slow", NULL, SP_NONBLOCK));
    check_until(atomic_load(&slow_entered));
    check_ok(sp_on_pipe(rep, NULL, NULL));
    assert_true(atomic_load(&slow_done));
    assert_int_equal(seen.inside, 0);
}

/* ------------------------------------------------------------------ Inside the function */

static atomic_int blocking[8];
static sp_socket other;

static int call_everything(sp_socket s, sp_pipe p, sp_pipe_event ev)
{
    char buf[8];
    sp_peer_info info = {.size = sizeof(info)};
    size_t n = 1;

    (void)p;
    if (ev != SP_PIPE_ADDED) {
        return 0;
    }
    blocking[0] = (int)sp_recv(s, buf, sizeof(buf), 0);
    blocking[1] = sp_dial(other, "inproc://nobody", NULL, 0);
    blocking[2] = sp_listen(other, "inproc://from-callback", NULL);
    blocking[3] = sp_on_pipe(other, on_pipe, &seen);
    blocking[4] = sp_run_once(0);
    sp_fini(); // Ignored.
    blocking[5] = sp_peers(s, &info, &n);
    blocking[6] = sp_dial(other, "inproc://nobody", NULL, SP_NONBLOCK);
    blocking[7] = (int)sp_recv(s, buf, sizeof(buf), SP_NONBLOCK);
    return 0;
}

static void drop_line(sp_log_level level, const char *id, const char *msg, void *arg)
{
    (void)level;
    (void)id;
    (void)msg;
    (*(atomic_int *)arg)++;
}

static void calls_that_wait_are_estate_in_a_callback(void **state)
{
    static atomic_int lines;
    sp_socket rep = check_open("rep");

    (void)state;
    atomic_store(&lines, 0);
    sp_log_set(SP_LOG_ERROR, drop_line, &lines);
    for (int i = 0; i < 8; i++) {
        blocking[i] = 12345;
    }
    other = check_open("req");
    seen.extra = call_everything;
    check_ok(sp_on_pipe(rep, on_pipe, &seen));
    check_ok(sp_listen(rep, "inproc://blocking", NULL));
    check_ok(sp_dial(check_open("req"), "inproc://blocking", NULL, 0));
    check_until(atomic_load(&seen.added) == 1);
    for (int i = 0; i < 5; i++) {
        print_message("call %d\n", i);
        assert_int_equal(blocking[i], SP_ESTATE);
    }
    assert_int_equal(blocking[5], SP_OK);
    assert_int_equal(blocking[6], SP_OK);
    assert_int_equal(blocking[7], SP_EAGAIN);
    assert_int_equal(lines, 1); // sp_fini's.
    sp_log_set(SP_LOG_WARN, NULL, NULL);
}

static int fill_in_callback(sp_socket s, sp_pipe p, sp_pipe_event ev)
{
    (void)p;
    if (ev == SP_PIPE_ADDED) {
        int rc;
        int n = 0;

        while ((rc = sp_send(s, "x", 1, 0)) == SP_OK) {
            n++;
        }
        blocking[0] = rc;
        blocking[1] = n;
    }
    return 0;
}

static void send_in_a_callback_is_estate_only_when_it_would_wait(void **state)
{
    sp_socket pair = check_open("pair");
    sp_socket peer = check_open("pair");

    (void)state;
    seen.extra = fill_in_callback;
    check_ok(sp_on_pipe(pair, on_pipe, &seen));
    check_ok(sp_listen(pair, "inproc://fill", NULL));
    check_ok(sp_dial(peer, "inproc://fill", NULL, 0));
    check_until(atomic_load(&seen.added) == 1);
    assert_int_equal(blocking[0], SP_ESTATE);
    assert_true(blocking[1] >= 128);
    for (int i = 0; i < blocking[1]; i++) {
        check_recv(peer, "x");
    }
}

static int close_socket(sp_socket s, sp_pipe p, sp_pipe_event ev)
{
    (void)p;
    if (ev == SP_PIPE_ADDED) {
        blocking[0] = sp_close(s);
        blocking[1] = sp_close(s);
    }
    return 0;
}

static void socket_closed_in_a_callback_lingers_in_the_background(void **state)
{
    sp_socket pair = check_open("pair");
    sp_socket peer = check_open("pair");

    (void)state;
    seen.extra = close_socket;
    blocking[0] = blocking[1] = 12345;
    check_ok(sp_on_pipe(pair, on_pipe, &seen));
    check_ok(sp_listen(pair, "inproc://close-in", NULL));
    check_ok(sp_dial(peer, "inproc://close-in", NULL, SP_NONBLOCK));
    check_until(atomic_load(&seen.added) == 1);
    assert_int_equal(blocking[0], SP_OK);
    assert_int_equal(blocking[1], SP_ECLOSED);
    check_rc(SP_ECLOSED, sp_close(pair));
    check_pipes(peer, 0);
    check_ok(sp_close(peer));
    check_until(check_stat(0, "runtime.objects") == 0);
}

static int close_pipe(sp_socket s, sp_pipe p, sp_pipe_event ev)
{
    (void)s;
    if (ev == SP_PIPE_ADDING && atomic_load(&seen.adding) == 0) {
        (void)!sp_pipe_close(p);
    }
    if (ev == SP_PIPE_ADDED && atomic_load(&seen.added) == 0) {
        (void)!sp_pipe_close(p);
    }
    return 0;
}

static void pipe_closed_in_a_callback_is_dialled_again(void **state)
{
    sp_socket rep = check_open("rep");
    sp_socket req = check_open("req");

    (void)state;
    seen.extra = close_pipe;
    check_ok(sp_on_pipe(rep, on_pipe, &seen));
    check_ok(sp_listen(rep, "inproc://close-pipe", NULL));
    check_ok(sp_dial(req, "inproc://close-pipe", NULL, SP_NONBLOCK));
    check_until(atomic_load(&seen.added) == 2);
    check_until(atomic_load(&seen.removed) == 1);
    assert_int_equal(seen.adding, 3);
    check_pipes(rep, 1);
}

static int take_away(sp_socket s, sp_pipe p, sp_pipe_event ev)
{
    (void)p;
    blocking[0] = sp_on_pipe(s, NULL, NULL);
    (void)ev;
    return 0;
}

static void function_may_take_itself_away(void **state)
{
    sp_socket rep = check_open("rep");

    (void)state;
    seen.extra = take_away;
    blocking[0] = 12345;
    check_ok(sp_on_pipe(rep, on_pipe, &seen));
    check_ok(sp_listen(rep, "inproc://itself", NULL));
    check_ok(sp_dial(check_open("req"), "inproc://itself", NULL, 0));
    check_pipes(rep, 1);
    assert_int_equal(blocking[0], SP_OK);
    assert_int_equal(seen.n, 1);
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, start, stop)
#define both(name) test(name), cmocka_unit_test_setup_teardown(name, start_driven, stop)
    const struct CMUnitTest tests[] = {
        both(events_come_in_order_for_each_pipe),
        test(events_run_on_the_librarys_threads),
        both(events_refuse_a_peer),
        both(events_refuse_on_the_dialers_side),
        both(events_end_when_the_function_is_taken_away),
        test(events_function_is_not_running_after_it_is_taken_away),
        both(calls_that_wait_are_estate_in_a_callback),
        both(send_in_a_callback_is_estate_only_when_it_would_wait),
        both(socket_closed_in_a_callback_lingers_in_the_background),
        both(pipe_closed_in_a_callback_is_dialled_again),
        both(function_may_take_itself_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
