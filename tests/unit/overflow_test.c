/* SPDX-License-Identifier: MIT */
/// The option "overflow": its values, and what is dropped where a peer does not keep up, or a
/// receiver.
#include "check.h"
#include "fan.h"

#include <string.h>

#define ROOM 8

static const char *const transports[] = {"inproc", "ipc", "tcp"};

static int start_threads(void **state)
{
    int rc = check_start_threads(state);

    fan_register();
    return rc;
}

static int start_driven(void **state)
{
    int rc = check_start_driven(state);

    fan_register();
    return rc;
}

static void overflow_is(sp_socket s, const char *want)
{
    char text[32];
    size_t n = sizeof(text);

    check_ok(sp_get_str(s.id, "overflow", text, &n));
    assert_string_equal(text, want);
}

static void policies_are_set_by_name(void **state)
{
    static const char *const names[] = {"block", "drop-new", "drop-old", "disconnect"};
    sp_socket fan = check_open("fan");
    sp_socket sink = check_open("sink");
    sp_socket pair = check_open("pair");
    int64_t v = 0;

    (void)state;
    overflow_is(fan, "drop-new");
    overflow_is(sink, "block");
    for (size_t i = 0; i < 4; i++) {
        check_ok(sp_set_str(fan.id, "overflow", names[i]));
        overflow_is(fan, names[i]);
    }
    check_detail(SP_EINVAL, "option \"overflow\": \"drop-new\" is not one of: block, drop-old",
                 sp_set_str(sink.id, "overflow", "drop-new"));
    check_rc(SP_EINVAL, sp_set_str(fan.id, "overflow", "drop"));
    check_rc(SP_EINVAL, sp_set_str(fan.id, "overflow", ""));
    check_detail(SP_EINVAL, "option \"overflow\": it is a text", sp_set_int(fan.id, "overflow", 1));
    check_rc(SP_EINVAL, sp_get_int(fan.id, "overflow", &v));
    check_detail(SP_ENOTSUP, "option \"overflow\": this socket has none",
                 sp_set_str(pair.id, "overflow", "block"));
    overflow_is(sink, "block");
}

/* ------------------------------------------------------------------ A peer that stalls */

static sp_socket fan;
static sp_socket sink;

/// A peer that takes 4 messages and no more; the fan's queue for it has ROOM.
static void stalled(const char *transport, const char *policy)
{
    char url[256];

    fan = check_open("fan");
    sink = check_open("sink");
    check_ok(sp_set_str(fan.id, "overflow", policy));
    check_ok(sp_set_int(fan.id, "send-buffer", ROOM));
    check_ok(sp_set_int(sink.id, "recv-buffer", 4));
    check_listen(sink, transport, url, NULL);
    check_ok(sp_dial(fan, url, NULL, 0));
    check_pipes(sink, 1);
}

/// Numbered messages from `from` on, large enough to fill what the system buffers.
static void send_numbers(uint32_t from, uint32_t to, size_t len)
{
    for (uint32_t i = from; i < to; i++) {
        sp_msg *m = NULL;

        check_ok(sp_msg_new(&m, len));
        memset(sp_msg_data(m), 0, len);
        memcpy(sp_msg_data(m), &i, sizeof(i));
        check_ok(sp_sendmsg(fan, m, 0));
    }
}

/// Everything that the sink gets until nothing is left anywhere; the numbers rise.
static uint32_t receive_all(uint32_t *numbers, uint32_t max)
{
    uint32_t n = 0;

    for (;;) {
        sp_msg *m = NULL;
        int rc = sp_recvmsg(sink, &m, SP_NONBLOCK);

        if (rc == SP_EAGAIN) {
            if (check_stat(fan.id, "tx_queued") == 0 &&
                check_stat(fan.id, "tx_msgs") == check_stat(sink.id, "rx_delivered")) {
                return n;
            }
            check_pause();
            continue;
        }
        check_ok(rc);
        assert_true(n < max);
        memcpy(&numbers[n], sp_msg_view(m), sizeof(numbers[n]));
        assert_true(n == 0 || numbers[n] > numbers[n - 1]);
        n++;
        sp_msg_release(m);
    }
}

/// Whether as many are queued as there is room for, and stay.
static bool is_full(void)
{
    for (int i = 0; i < 20; i++) {
        if (check_stat(fan.id, "tx_queued") < ROOM) {
            return false;
        }
        check_pause();
    }
    return true;
}

/// Sends until the peer stalls and the fan's queue is full, then some more. Returns how many.
static uint32_t send_until_full(size_t len)
{
    uint32_t n = 0;

    do {
        send_numbers(n, n + 20, len);
        n += 20;
        check_stat_is(fan.id, "tx_accepted", n);
        check_rest(fan);
    } while (!is_full());
    send_numbers(n, n + 50, len);
    n += 50;
    check_stat_is(fan.id, "tx_accepted", n);
    check_rest(fan);
    return n;
}

static void drop_old_keeps_the_newest(void **state)
{
    static uint32_t got[20000];

    (void)state;
    for (int t = 0; t < 3; t++) {
        uint32_t n;
        uint32_t last;

        stalled(transports[t], "drop-old");
        n = send_until_full(t == 0 ? 8 : 65536);
        last = receive_all(got, 20000);
        assert_true(last >= ROOM && last < n);
        for (uint32_t i = 0; i < ROOM; i++) {
            assert_int_equal(got[last - 1 - i], n - 1 - i);
        }
        assert_int_equal(check_stat(fan.id, "tx_drops.full"), n - last);
        check_rest(fan);
        check_rest(sink);
        check_ok(sp_close(fan));
        check_ok(sp_close(sink));
    }
}

static void drop_new_keeps_the_oldest(void **state)
{
    static uint32_t got[20000];

    (void)state;
    for (int t = 0; t < 3; t++) {
        uint32_t n;
        uint32_t last;

        stalled(transports[t], "drop-new");
        n = send_until_full(t == 0 ? 8 : 65536);
        last = receive_all(got, 20000);
        assert_true(last >= ROOM && last <= n - 50);
        for (uint32_t i = 0; i < ROOM; i++) {
            assert_int_equal(got[i], i);
        }
        assert_int_equal(check_stat(fan.id, "tx_drops.full"), n - last);
        check_rest(fan);
        check_ok(sp_close(fan));
        check_ok(sp_close(sink));
    }
}

static void block_drops_nothing(void **state)
{
    static uint32_t got[4000];
    int rc = SP_OK;
    uint32_t n = 0;

    (void)state;
    stalled("inproc", "block");
    check_ok(sp_set_int(fan.id, "send-timeout", 50));
    for (n = 0; n < 4000 && rc == SP_OK; n++) {
        sp_msg *m = NULL;

        check_ok(sp_msg_new(&m, sizeof(n)));
        memcpy(sp_msg_data(m), &n, sizeof(n));
        rc = sp_sendmsg(fan, m, 0);
        if (rc < 0) {
            sp_msg_release(m);
        }
    }
    check_rc(SP_ETIMEDOUT, rc);
    assert_int_equal(receive_all(got, 4000), n - 1);
    assert_int_equal(check_stat(fan.id, "tx_drops.full"), 0);
}

static void disconnect_ends_who_does_not_keep_up(void **state)
{
    (void)state;
    for (int t = 0; t < 3; t++) {
        int64_t gone;

        stalled(transports[t], "disconnect");
        for (uint32_t n = 0; check_stat(fan.id, "dialers[0].overflow") == 0; n += 20) {
            assert_true(n < 20000);
            send_numbers(n, n + 20, t == 0 ? 8 : 65536);
            check_pause();
        }
        check_rest(fan);
        gone = check_stat(fan.id, "dialers[0].overflow");
        assert_true(check_stat(fan.id, "tx_drops.full") <= gone + 1);
        assert_true(check_stat(fan.id, "tx_drops.full") > 0);
        check_ok(sp_close(fan));
        check_ok(sp_close(sink));
    }
}

/// Two peers, of which one stalls: the other one gets everything.
static void others_are_not_held_up(void **state)
{
    static const char *const policies[] = {"drop-new", "drop-old", "disconnect"};

    (void)state;
    for (int i = 0; i < 3; i++) {
        sp_socket good = check_open("sink");
        char url[256];

        stalled("inproc", policies[i]);
        check_listen(good, "inproc", url, NULL);
        check_ok(sp_dial(fan, url, NULL, 0));
        check_pipes(good, 1);
        for (uint32_t n = 0; n < 500; n++) {
            sp_msg *m = NULL;
            uint32_t got = 0;

            send_numbers(n, n + 1, 8);
            check_ok(sp_recvmsg(good, &m, 0));
            memcpy(&got, sp_msg_view(m), sizeof(got));
            assert_int_equal(got, n);
            sp_msg_release(m);
        }
        assert_true(check_stat(fan.id, "tx_drops.full") > 0);
        check_rest(fan);
        check_ok(sp_close(good));
        check_ok(sp_close(fan));
        check_ok(sp_close(sink));
    }
}

/* ------------------------------------------------------------------ Receivers that want the latest
 */

/// Sends `n` messages and waits until the sink has them all.
static void send_to_sink(uint32_t from, uint32_t n)
{
    send_numbers(from, from + n, 8);
    check_stat_is(sink.id, "rx_received", from + n);
    check_rest(sink);
}

static void expect_numbers(uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        sp_msg *m = NULL;
        uint32_t got = 0;

        check_ok(sp_recvmsg(sink, &m, SP_NONBLOCK));
        memcpy(&got, sp_msg_view(m), sizeof(got));
        assert_int_equal(got, i);
        sp_msg_release(m);
    }
}

static void latest(const char *transport)
{
    check_couple(transport, "fan", "sink", &fan, &sink);
    check_ok(sp_set_str(fan.id, "overflow", "block"));
    check_ok(sp_set_int(sink.id, "latest", 1));
    check_ok(sp_set_int(sink.id, "recv-buffer", 4));
}

static void the_latest_stay_where_nobody_receives(void **state)
{
    (void)state;
    for (int t = 0; t < 3; t++) {
        latest(transports[t]);
        send_to_sink(0, 3);
        assert_int_equal(check_stat(sink.id, "rx_drops.full"), 0);
        send_to_sink(3, 500);
        assert_int_equal(check_stat(sink.id, "rx_drops.full"), 499);
        assert_int_equal(check_stat(sink.id, "rx_queued"), 4);
        expect_numbers(499, 501);
        send_to_sink(503, 1);
        send_to_sink(504, 1);
        assert_int_equal(check_stat(sink.id, "rx_drops.full"), 499);
        send_to_sink(505, 1);
        assert_int_equal(check_stat(sink.id, "rx_drops.full"), 500);
        expect_numbers(502, 506);
        check_rc(SP_EAGAIN, sp_recv(sink, &(char){0}, 1, SP_NONBLOCK));
        assert_int_equal(check_stat(sink.id, "rx_delivered"), 6);
        check_rest(fan);
        check_ok(sp_close(fan));
        check_ok(sp_close(sink));
    }
}

static void a_queue_made_smaller_keeps_one(void **state)
{
    (void)state;
    latest("inproc");
    send_to_sink(0, 4);
    check_ok(sp_set_int(sink.id, "recv-buffer", 0));
    send_to_sink(4, 1);
    assert_int_equal(check_stat(sink.id, "rx_queued"), 1);
    expect_numbers(4, 5);
}

static long receive_until_last(void *arg)
{
    const uint32_t *last = arg;
    uint32_t before = 0;
    long n = 0;

    for (;;) {
        sp_msg *m = NULL;
        uint32_t got = 0;

        if (sp_recvmsg(sink, &m, 0) != SP_OK) {
            return -1;
        }
        memcpy(&got, sp_msg_view(m), sizeof(got));
        sp_msg_release(m);
        if (n > 0 && got <= before) {
            return -2;
        }
        before = got;
        n++;
        if (got == *last) {
            return n;
        }
    }
}

/// A receiver that sleeps, and wakes, while old messages go: it gets rising numbers and the last.
static void a_receiver_gets_the_last_one(void **state)
{
    static const uint32_t last = 19999;
    struct check_call call = {0};
    long n;

    (void)state;
    latest("inproc");
    check_ok(sp_set_int(sink.id, "recv-buffer", 1));
    check_call_start(&call, receive_until_last, (void *)(uintptr_t)&last);
    send_numbers(0, last + 1, 8);
    n = check_call_join(&call, CHECK_SOON);
    assert_true(n > 0);
    check_rest(sink);
    assert_int_equal(check_stat(sink.id, "rx_drops.full") + n, last + 1);
    check_rest(fan);
}

#define BOTH(fn)                                                                                   \
    {#fn, fn, start_threads, check_stop, NULL},                                                    \
    {                                                                                              \
#fn "_driven", fn, start_driven, check_stop, NULL                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(policies_are_set_by_name),
        BOTH(drop_old_keeps_the_newest),
        BOTH(drop_new_keeps_the_oldest),
        BOTH(block_drops_nothing),
        BOTH(disconnect_ends_who_does_not_keep_up),
        BOTH(others_are_not_held_up),
        BOTH(the_latest_stay_where_nobody_receives),
        BOTH(a_queue_made_smaller_keeps_one),
        {"a_receiver_gets_the_last_one", a_receiver_gets_the_last_one, start_threads, check_stop,
         NULL},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
