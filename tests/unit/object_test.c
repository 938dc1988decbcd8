/* SPDX-License-Identifier: MIT */
/// Handles: kinds, generations, closed and foreign ones; nothing is left of many sockets.
#include "check.h"
#include "core/object.h"

#include <stdatomic.h>
#include <string.h>

#define ID(kind, generation, index)                                                                \
    ((uint64_t)(kind) << 56 | (uint64_t)(generation) << 32 | (uint64_t)(index))

/// Every function that takes a socket, with the same wrong handle.
static void check_socket_calls(sp_socket s, int want)
{
    sp_peer_info info = {.size = sizeof(info)};
    sp_listener l = {0};
    sp_dialer d = {0};
    sp_msg *m = NULL;
    sp_msg *got = NULL;
    int64_t v = 0;
    size_t n = 1;
    char buf[64];
    size_t cap = sizeof(buf);
    char *json = NULL;

    check_ok(sp_msg_new(&m, 1));
    check_rc(want, sp_close(s));
    check_rc(want, sp_listen(s, "inproc://x", NULL));
    check_rc(want, sp_listen(s, "inproc://x", &l));
    check_rc(want, sp_dial(s, "inproc://x", NULL, SP_NONBLOCK));
    check_rc(want, sp_dial(s, "inproc://x", &d, 0));
    check_rc(want, sp_listener_new(&l, s, "inproc://x"));
    check_rc(want, sp_dialer_new(&d, s, "inproc://x"));
    check_rc(want, sp_send(s, "x", 1, 0));
    check_rc(want, sp_recv(s, buf, sizeof(buf), 0));
    check_rc(want, sp_sendmsg(s, m, 0));
    check_rc(want, sp_recvmsg(s, &got, 0));
    check_rc(want, sp_sendmsgs(s, &m, 1, SP_NONBLOCK));
    check_rc(want, sp_recvmsgs(s, &got, 1, SP_NONBLOCK));
    check_rc(want, sp_on_pipe(s, NULL, NULL));
    check_rc(want, sp_peers(s, &info, &n));
    assert_null(got);
    assert_int_equal(sp_msg_len(m), 1);
    assert_true(l.id == 0 && d.id == 0);
    sp_msg_release(m);
    if (want == SP_EINVAL && s.id != 0 && s.id >> 56 != SP__KIND_SOCKET) {
        return; // An option call takes any kind.
    }
    check_rc(want, sp_set_int(s.id, "linger", 1));
    check_rc(want, sp_get_int(s.id, "linger", &v));
    check_rc(want, sp_set_str(s.id, "name", "x"));
    check_rc(want, sp_get_str(s.id, "name", buf, &cap));
    check_rc(want, sp_set_bytes(s.id, "subscribe", "x", 1));
    cap = sizeof(buf);
    check_rc(want, sp_get_bytes(s.id, "subscribe", buf, &cap));
    if (s.id != 0) {
        check_rc(want, sp_stats(s.id, &json));
    }
}

static void handle_zero_is_einval(void **state)
{
    sp_socket s = {0};

    (void)state;
    check_detail(SP_EINVAL, "no handle (its id is 0)", sp_close(s));
    check_socket_calls(s, SP_EINVAL);
    check_rc(SP_EINVAL, sp_listener_start((sp_listener){0}));
    check_rc(SP_EINVAL, sp_listener_close((sp_listener){0}));
    check_rc(SP_EINVAL, sp_dialer_start((sp_dialer){0}, 0));
    check_rc(SP_EINVAL, sp_dialer_close((sp_dialer){0}));
    check_rc(SP_EINVAL, sp_pipe_close((sp_pipe){0}));
    assert_true(sp_pipe_socket((sp_pipe){0}).id == 0);
    assert_true(sp_pipe_dialer((sp_pipe){0}).id == 0);
    assert_true(sp_pipe_listener((sp_pipe){0}).id == 0);
}

static void handle_closed_is_eclosed_everywhere(void **state)
{
    sp_socket s = check_open("pair");

    (void)state;
    check_ok(sp_close(s));
    check_socket_calls(s, SP_ECLOSED);
}

static void handle_of_a_wrong_kind_is_einval(void **state)
{
    sp_socket s = check_open("pair");
    sp_socket peer = check_open("pair");
    sp_listener l = {0};
    sp_dialer d = {0};
    sp_pipe p;

    (void)state;
    check_ok(sp_listen(s, "inproc://kinds", &l));
    check_ok(sp_dial(peer, "inproc://kinds", &d, 0));
    check_pipes(s, 1);
    p = check_pipe(s);
    check_socket_calls((sp_socket){l.id}, SP_EINVAL);
    check_socket_calls((sp_socket){d.id}, SP_EINVAL);
    check_socket_calls((sp_socket){p.id}, SP_EINVAL);
    check_rc(SP_EINVAL, sp_listener_close((sp_listener){s.id}));
    check_rc(SP_EINVAL, sp_listener_close((sp_listener){d.id}));
    check_rc(SP_EINVAL, sp_listener_start((sp_listener){d.id}));
    check_rc(SP_EINVAL, sp_dialer_close((sp_dialer){l.id}));
    check_rc(SP_EINVAL, sp_dialer_start((sp_dialer){l.id}, 0));
    check_rc(SP_EINVAL, sp_pipe_close((sp_pipe){s.id}));
    assert_true(sp_pipe_socket((sp_pipe){s.id}).id == 0);
    check_send(s, "still there");
    check_recv(peer, "still there");
    check_ok(sp_close(s));
    check_ok(sp_close(peer));
    check_rc(SP_ECLOSED, sp_listener_close(l));
    check_rc(SP_ECLOSED, sp_dialer_close(d));
    check_rc(SP_ECLOSED, sp_pipe_close(p));
}

static void handle_garbage_never_leads_to_an_object(void **state)
{
    sp_socket s = check_open("pair");
    uint32_t index = (uint32_t)s.id;
    uint32_t generation = (uint32_t)(s.id >> 32) & 0xFFFFFF;

    (void)state;
    check_rc(SP_EINVAL, sp_close((sp_socket){UINT64_MAX}));
    check_rc(SP_EINVAL, sp_close((sp_socket){1}));
    check_rc(SP_EINVAL, sp_close((sp_socket){index}));
    check_rc(SP_EINVAL, sp_close((sp_socket){ID(9, 1, 0)}));
    check_rc(SP_EINVAL, sp_close((sp_socket){ID(255, generation, index)}));
    check_rc(SP_EINVAL, sp_close((sp_socket){ID(SP__KIND_SOCKET, 1, UINT32_MAX)}));
    check_rc(SP_EINVAL, sp_close((sp_socket){ID(SP__KIND_SOCKET, 1, 1 << 20)}));
    check_rc(SP_EINVAL, sp_set_int(ID(SP__KIND_NONE, generation, index), "linger", 0));
    check_rc(SP_EINVAL, sp_set_int(ID(9, generation, index), "linger", 0));
    check_rc(SP_ECLOSED, sp_close((sp_socket){ID(SP__KIND_SOCKET, generation + 1, index)}));
    check_rc(SP_ECLOSED, sp_close((sp_socket){ID(SP__KIND_SOCKET, 0, index)}));
    check_ok(sp_close(s));
}

static void handle_of_a_reused_slot_stays_closed(void **state)
{
    sp_socket first = check_open("pair");
    sp_socket s[100];

    (void)state;
    check_ok(sp_close(first));
    for (int i = 0; i < 100; i++) {
        check_ok(sp_open(&s[i], "pair"));
        assert_true(s[i].id != first.id);
        check_rc(SP_ECLOSED, sp_send(first, "x", 1, SP_NONBLOCK));
        check_ok(sp_close(s[i]));
    }
    for (int i = 0; i < 100; i++) {
        check_rc(SP_ECLOSED, sp_close(s[i]));
    }
}

static void handle_double_close_is_eclosed(void **state)
{
    sp_socket s = check_open("req");
    sp_listener l = {0};

    (void)state;
    check_ok(sp_listen(s, "inproc://twice", &l));
    check_ok(sp_listener_close(l));
    check_rc(SP_ECLOSED, sp_listener_close(l));
    check_rc(SP_ECLOSED, sp_listener_start(l));
    check_ok(sp_close(s));
    check_rc(SP_ECLOSED, sp_close(s));
}

/// 100,000 sockets one after the other, some with an endpoint, leave nothing behind.
static void handle_sockets_leave_nothing_behind(void **state)
{
    int fds;

    (void)state;
    check_init(-1);
    check_ok(sp_close(check_open("pair")));
    fds = check_fds();
    for (int i = 0; i < 100000; i++) {
        sp_socket s = {0};

        check_ok(sp_open(&s, (i & 1) != 0 ? "pair" : "req"));
        if (i % 100 == 0) {
            check_ok(sp_listen(s, "tcp://127.0.0.1:0", NULL));
        }
        check_ok(sp_close(s));
    }
    check_until(check_stat(0, "runtime.objects") == 0);
    assert_int_equal(check_fds(), fds);
    check_fini();
}

static void handle_open_sockets_leave_nothing_after_fini(void **state)
{
    int fds;
    int threads;

    (void)state;
    sp_fini();
    fds = check_fds();
    threads = check_threads();
    for (int i = 0; i < 2000; i++) {
        sp_socket s = {0};

        check_ok(sp_open(&s, "pair"));
        if (i % 10 == 0) {
            check_ok(sp_listen(s, "tcp://127.0.0.1:0", NULL));
        }
    }
    assert_int_equal(check_stat(0, "runtime.objects"), 2200);
    sp_fini();
    assert_int_equal(check_fds(), fds);
    check_until(check_threads() == threads);
    check_fini();
}

struct opener {
    atomic_bool stop;
    _Atomic uint64_t shared;
    atomic_long wrong;
};

/// Uses a handle that another thread closes at any time.
static long use_shared(void *arg)
{
    struct opener *o = arg;
    long n = 0;

    do { // At least once: the opener may be through before this thread has a turn.
        sp_socket s = {atomic_load(&o->shared)};
        int rc = sp_send(s, "x", 1, SP_NONBLOCK);
        char *json = NULL;

        if (rc != SP_ENOPEER && rc != SP_ECLOSED && rc != SP_EINVAL) {
            o->wrong++;
        }
        rc = sp_set_int(s.id, "linger", 0);
        if (rc != SP_OK && rc != SP_ECLOSED && rc != SP_EINVAL) {
            o->wrong++;
        }
        rc = sp_stats(s.id, &json);
        sp_free(rc == SP_OK ? json : NULL);
        n++;
    } while (!atomic_load(&o->stop));
    return n;
}

static void handle_may_be_used_while_it_is_closed(void **state)
{
    struct opener o = {0};
    struct check_call c[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        check_call_start(&c[i], use_shared, &o);
    }
    for (int i = 0; i < 5000; i++) {
        sp_socket s = {0};

        check_ok(sp_open(&s, (i & 1) != 0 ? "pair" : "req"));
        atomic_store(&o.shared, s.id);
        check_ok(sp_close(s));
    }
    atomic_store(&o.stop, true);
    for (int i = 0; i < 3; i++) {
        assert_true(check_call_join(&c[i], CHECK_SOON) > 0);
    }
    assert_int_equal(o.wrong, 0);
    check_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handle_zero_is_einval),
        cmocka_unit_test(handle_closed_is_eclosed_everywhere),
        cmocka_unit_test(handle_of_a_wrong_kind_is_einval),
        cmocka_unit_test(handle_garbage_never_leads_to_an_object),
        cmocka_unit_test(handle_of_a_reused_slot_stays_closed),
        cmocka_unit_test(handle_double_close_is_eclosed),
        cmocka_unit_test(handle_sockets_leave_nothing_behind),
        cmocka_unit_test(handle_open_sockets_leave_nothing_after_fini),
        cmocka_unit_test(handle_may_be_used_while_it_is_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
