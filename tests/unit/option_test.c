/* SPDX-License-Identifier: MIT */
/// Options: defaults, ranges, types, what is read only, what is fixed after the start.
#include "check.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int start(void **state)
{
    (void)state;
    check_init(2);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    check_fini();
    return 0;
}

static sp_socket raw_open(const char *protocol)
{
    sp_socket s = {0};

    check_ok(sp_open(&s, protocol));
    return s;
}

struct int_option {
    const char *name;
    int64_t def;
    int64_t min;
    int64_t max;
};

static const struct int_option of_sockets[] = {
    {"recv-timeout", -1, -1, INT32_MAX},
    {"send-timeout", -1, -1, INT32_MAX},
    {"recv-buffer", 128, 0, 8192},
    {"send-buffer", 128, 0, 8192},
    {"queue-bytes-max", 4 << 20, 1, INT64_MAX / 65536},
    {"in-place", 1, 0, 1},
    {"spin-time", -1, -1, 1000000},
    {"linger", 1000, -1, INT32_MAX},
    {"recv-size-max", 1 << 30, 0, INT64_MAX},
    {"reconnect-time-min", 100, 0, INT32_MAX},
    {"reconnect-time-max", 10000, 0, INT32_MAX},
    {"hello-timeout", 10000, -1, INT32_MAX},
    {"connect-timeout", 30000, -1, INT32_MAX},
    {"max-handshakes", 256, 1, INT32_MAX},
    {"max-peers", 0, 0, INT32_MAX},
    {"send-priority", 8, 1, 16},
    {"recv-priority", 8, 1, 16},
};

static void check_range(uint64_t id, const struct int_option *o)
{
    int64_t v = -99;

    check_ok(sp_get_int(id, o->name, &v));
    assert_int_equal(v, o->def);
    check_ok(sp_set_int(id, o->name, o->min));
    check_ok(sp_get_int(id, o->name, &v));
    assert_int_equal(v, o->min);
    check_ok(sp_set_int(id, o->name, o->max));
    check_rc(SP_EINVAL, sp_set_int(id, o->name, o->min - 1));
    if (o->max < INT64_MAX) {
        check_rc(SP_EINVAL, sp_set_int(id, o->name, o->max + 1));
    }
    check_rc(SP_EINVAL, sp_set_int(id, o->name, INT64_MIN));
    check_ok(sp_get_int(id, o->name, &v));
    assert_int_equal(v, o->max);
    check_ok(sp_set_int(id, o->name, o->def));
}

static void option_defaults_and_ranges_of_sockets(void **state)
{
    static const char *const protocols[] = {"pair", "pair1", "req", "rep"};

    (void)state;
    for (int p = 0; p < 4; p++) {
        sp_socket s = raw_open(protocols[p]);

        for (size_t i = 0; i < sizeof(of_sockets) / sizeof(of_sockets[0]); i++) {
            check_range(s.id, &of_sockets[i]);
        }
    }
}

static void option_defaults_and_ranges_of_protocols(void **state)
{
    static const struct int_option ttl = {"ttl-max", 8, 1, 15};
    static const struct int_option time = {"req:resend-time", 60000, -1, INT32_MAX};
    static const struct int_option tick = {"req:resend-tick", 1000, 1, INT32_MAX};
    sp_socket req = raw_open("req");
    sp_socket pair = raw_open("pair");

    (void)state;
    check_range(raw_open("rep").id, &ttl);
    check_range(raw_open("pair1").id, &ttl);
    check_range(req.id, &time);
    check_range(req.id, &tick);
    check_detail(SP_ENOTSUP, "option \"ttl-max\": this socket has none",
                 sp_set_int(pair.id, "ttl-max", 3));
    check_rc(SP_ENOTSUP, sp_set_int(pair.id, "req:resend-time", 3));
}

static void option_of_an_endpoint_begins_with_the_sockets(void **state)
{
    sp_socket s = raw_open("rep");
    sp_listener l = {0};
    sp_dialer d = {0};
    int64_t v = 0;

    (void)state;
    check_ok(sp_set_int(s.id, "recv-size-max", 4321));
    check_ok(sp_listener_new(&l, s, "tcp://127.0.0.1:0"));
    check_ok(sp_dialer_new(&d, s, "tcp://127.0.0.1:1"));
    check_ok(sp_set_int(s.id, "recv-size-max", 1));
    check_ok(sp_get_int(l.id, "recv-size-max", &v));
    assert_int_equal(v, 4321);
    check_ok(sp_get_int(d.id, "recv-size-max", &v));
    assert_int_equal(v, 4321);
    check_ok(sp_set_int(l.id, "recv-size-max", 5));
    check_ok(sp_get_int(d.id, "recv-size-max", &v));
    assert_int_equal(v, 4321);
    for (size_t i = 9; i < sizeof(of_sockets) / sizeof(of_sockets[0]); i++) {
        check_range(d.id, &of_sockets[i]);
    }
    check_rc(SP_ENOTSUP, sp_set_int(l.id, "linger", 0)); // A socket's.
    check_rc(SP_ENOTSUP, sp_set_int(s.id, "tcp-nodelay", 0));
    check_ok(sp_get_int(l.id, "tcp-nodelay", &v));
    assert_int_equal(v, 1);
    check_rc(SP_EINVAL, sp_set_int(l.id, "tcp-nodelay", 2));
    check_rc(SP_EINVAL, sp_set_int(l.id, "tcp-nodelay", -1));
}

static void option_unknown_names(void **state)
{
    sp_socket s = raw_open("pair");
    int64_t v = 0;
    char buf[8];
    size_t cap = sizeof(buf);

    (void)state;
    check_rc(SP_ENOTSUP, sp_set_int(s.id, "no-such-option", 1));
    check_rc(SP_ENOTSUP, sp_get_int(s.id, "no-such-option", &v));
    check_rc(SP_ENOTSUP, sp_set_str(s.id, "no-such-option", "x"));
    check_rc(SP_ENOTSUP, sp_get_str(s.id, "no-such-option", buf, &cap));
    check_rc(SP_ENOTSUP, sp_set_bytes(s.id, "no-such-option", "x", 1));
    check_rc(SP_ENOTSUP, sp_get_bytes(s.id, "no-such-option", buf, &cap));
    check_rc(SP_ENOTSUP, sp_set_int(s.id, "", 1));
    check_rc(SP_ENOTSUP, sp_set_int(s.id, "linger ", 1));
    check_rc(SP_ENOTSUP, sp_set_int(s.id, "LINGER", 1));
}

static void option_arguments(void **state)
{
    sp_socket s = raw_open("pair");
    char buf[8];
    size_t cap = sizeof(buf);

    (void)state;
    check_rc(SP_EINVAL, sp_set_int(s.id, NULL, 1));
    check_rc(SP_EINVAL, sp_get_int(s.id, "linger", NULL));
    check_rc(SP_EINVAL, sp_set_str(s.id, "name", NULL));
    check_rc(SP_EINVAL, sp_get_str(s.id, "name", buf, NULL));
    check_rc(SP_EINVAL, sp_get_str(s.id, NULL, buf, &cap));
    check_rc(SP_EINVAL, sp_set_bytes(s.id, "subscribe", NULL, 1));
}

/// sp.h: SP_EINVAL for a wrong type, of every function.
static void option_of_another_type_is_einval(void **state)
{
    sp_socket s = raw_open("pair");
    int64_t v = 0;
    char buf[64];
    size_t cap = sizeof(buf);

    (void)state;
    check_rc(SP_EINVAL, sp_set_str(s.id, "linger", "1"));
    check_rc(SP_EINVAL, sp_set_bytes(s.id, "linger", "1", 1));
    check_rc(SP_EINVAL, sp_get_str(s.id, "linger", buf, &cap));
    check_rc(SP_EINVAL, sp_set_int(s.id, "name", 1));
    check_rc(SP_EINVAL, sp_get_int(s.id, "name", &v));
}

static void option_name_is_a_uuid_until_it_is_set(void **state)
{
    sp_socket s = raw_open("pair");
    sp_socket other = raw_open("pair");
    char name[64] = "";
    char more[64] = "";
    char longest[64];
    char longer[65];
    size_t cap = sizeof(name);

    (void)state;
    check_ok(sp_get_str(s.id, "name", name, &cap));
    assert_int_equal(strlen(name), 36);
    assert_int_equal(cap, 37);
    cap = sizeof(more);
    check_ok(sp_get_str(other.id, "name", more, &cap));
    assert_string_not_equal(name, more);
    cap = 5;
    check_rc(SP_EMSGSIZE, sp_get_str(s.id, "name", more, &cap));
    assert_int_equal(cap, 37);
    cap = 36; // Without room for the NUL.
    check_rc(SP_EMSGSIZE, sp_get_str(s.id, "name", more, &cap));
    cap = 0;
    check_rc(SP_EMSGSIZE, sp_get_str(s.id, "name", NULL, &cap));
    assert_int_equal(cap, 37);
    check_ok(sp_set_str(s.id, "name", "clock"));
    cap = sizeof(name);
    check_ok(sp_get_str(s.id, "name", name, &cap));
    assert_string_equal(name, "clock");
    memset(longer, 'n', sizeof(longer));
    longer[64] = '\0';
    check_rc(SP_EINVAL, sp_set_str(s.id, "name", longer));
    memset(longest, 'n', sizeof(longest));
    longest[63] = '\0';
    check_ok(sp_set_str(s.id, "name", longest));
    check_ok(sp_set_str(s.id, "name", ""));
}

static void option_read_only_is_estate(void **state)
{
    sp_socket a;
    sp_socket b;
    sp_pipe p;

    (void)state;
    check_couple("tcp", "pair", "pair", &a, &b);
    p = check_pipe(a);
    check_detail(SP_ESTATE, "option \"recv-next-size\": read only",
                 sp_set_int(a.id, "recv-next-size", 1));
    check_rc(SP_ESTATE, sp_set_str(p.id, "remote-address", "x"));
    check_rc(SP_ESTATE, sp_set_str(p.id, "url", "x"));
    check_rc(SP_ESTATE, sp_set_int(p.id, "peer-uid", 1));
    check_rc(SP_ENOTSUP, sp_set_int(p.id, "linger", 1));
}

static void option_of_a_pipe(void **state)
{
    sp_socket a;
    sp_socket b;
    char text[256];
    size_t cap = sizeof(text);
    int64_t v = 0;

    (void)state;
    check_couple("ipc", "pair", "pair", &a, &b);
    check_ok(sp_get_int(check_pipe(a).id, "peer-uid", &v));
    assert_int_equal(v, getuid());
    check_ok(sp_get_int(check_pipe(a).id, "peer-pid", &v));
    assert_int_equal(v, getpid());
    check_ok(sp_get_int(check_pipe(b).id, "peer-gid", &v));
    assert_int_equal(v, getgid());
    check_rc(SP_ENOTSUP, sp_get_int(check_pipe(b).id, "linger", &v));
    check_ok(sp_get_str(check_pipe(a).id, "url", text, &cap));
    assert_memory_equal(text, "ipc:///tmp/", 11);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
    check_couple("tcp", "pair", "pair", &a, &b);
    check_rc(SP_ENOTSUP, sp_get_int(check_pipe(a).id, "peer-uid", &v));
    cap = sizeof(text);
    check_ok(sp_get_str(check_pipe(a).id, "remote-address", text, &cap));
    assert_memory_equal(text, "127.0.0.1:", 10);
    cap = sizeof(text);
    check_ok(sp_get_str(check_pipe(b).id, "local-address", text, &cap));
    assert_memory_equal(text, "127.0.0.1:", 10);
}

/// Larger buffers are in force at once for those who wait for room.
static void option_send_buffer_grows_the_window_of_rep(void **state)
{
    sp_socket rep = {0};

    (void)state;
    check_ok(sp_open_raw(&rep, "rep"));
    check_ok(sp_set_int(rep.id, "send-buffer", 1));
    check_ok(sp_set_int(rep.id, "send-buffer", 8192));
    check_ok(sp_set_int(rep.id, "send-buffer", 0));
    check_ok(sp_set_int(rep.id, "send-buffer", 4));
    for (int i = 0; i < 100; i++) {
        check_ok(sp_send(rep, "x", 1, SP_NONBLOCK)); // No header: dropped at once.
    }
    check_stat_is(rep.id, "tx_drops.malformed", 100);
    check_rest(rep);
}

static void option_recv_buffer_may_change_under_load(void **state)
{
    sp_socket a;
    sp_socket b;
    int n = 0;

    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    check_ok(sp_set_int(b.id, "recv-buffer", 2));
    for (int i = 0; i < 3000; i++) {
        char c;

        if (sp_send(a, "x", 1, SP_NONBLOCK) == SP_OK) {
            n++;
        }
        if (i % 100 == 99) {
            check_ok(sp_set_int(b.id, "recv-buffer", i % 200 == 99 ? 8192 : 0));
        }
        if (i % 7 == 0 && sp_recv(b, &c, 1, SP_NONBLOCK) == 1) {
            n--;
        }
    }
    while (n > 0) {
        check_recv(b, "x");
        n--;
    }
    check_rest(a);
    check_rest(b);
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        test(option_defaults_and_ranges_of_sockets),
        test(option_defaults_and_ranges_of_protocols),
        test(option_of_an_endpoint_begins_with_the_sockets),
        test(option_unknown_names),
        test(option_arguments),
        test(option_of_another_type_is_einval),
        test(option_name_is_a_uuid_until_it_is_set),
        test(option_read_only_is_estate),
        test(option_of_a_pipe),
        test(option_send_buffer_grows_the_window_of_rep),
        test(option_recv_buffer_may_change_under_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
