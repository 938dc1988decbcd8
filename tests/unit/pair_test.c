/* SPDX-License-Identifier: MIT */
/// PAIR: one peer; version 1 counts hops; raw mode; peers made by hand.
#include "check.h"
#include "rawsp.h"

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

static void second_peer_is_refused_and_counted(void **state)
{
    static const char *const transports[] = {"inproc", "tcp"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        sp_socket a = check_open("pair");
        sp_socket b = check_open("pair");
        sp_socket c = check_open("pair");
        char url[256];

        check_listen(a, transports[i], url, NULL);
        check_ok(sp_dial(b, url, NULL, 0));
        check_pipes(a, 1);
        check_ok(sp_dial(c, url, NULL, SP_NONBLOCK));
        check_until(check_stat(a.id, "reject") > 2);
        check_until(check_stat(a.id, "reject") == check_stat(a.id, "listeners[0].reject"));
        assert_int_equal(check_stat(a.id, "listeners[0].connect"), 1);
        check_send(a, "for b");
        check_recv(b, "for b");
        check_ok(sp_close(b));
        // Now it is the other's turn.
        check_stat_is(a.id, "listeners[0].connect", 2);
        check_send(a, "for c");
        check_recv(c, "for c");
        check_rest(a);
        check_rest(c);
        check_ok(sp_close(a));
        check_ok(sp_close(c));
    }
}

static void both_directions_at_once(void **state)
{
    sp_socket a;
    sp_socket b;

    (void)state;
    check_couple("tcp", "pair1", "pair1", &a, &b);
    for (int i = 0; i < 500; i++) {
        check_send(a, "to b");
        check_send(b, "to a");
        check_recv(a, "to a");
        check_recv(b, "to b");
    }
    check_rest(a);
    check_rest(b);
}

static void unwritten_messages_go_to_the_next_peer(void **state)
{
    sp_socket a = check_open("pair");
    sp_socket b = check_open("pair");
    int n = 0;
    int first = 0;

    (void)state;
    check_ok(sp_listen(a, "inproc://next", NULL));
    check_ok(sp_dial(b, "inproc://next", NULL, 0));
    check_pipes(a, 1);
    for (int quiet = 0; quiet < 50;) {
        int rc = sp_send(a, &n, sizeof(n), SP_NONBLOCK);

        n += rc == SP_OK;
        quiet = rc == SP_OK ? 0 : quiet + 1;
        if (quiet > 0) {
            check_pause();
        }
    }
    first = n - (int)check_stat(a.id, "tx_queued");
    assert_true(first < n);
    check_ok(sp_close(b));
    check_pipes(a, 0);
    check_stat_is(a.id, "tx_queued", n - first);
    check_rest(a);
    b = check_open("pair");
    check_ok(sp_dial(b, "inproc://next", NULL, 0));
    for (int i = first; i < n; i++) {
        int v = -1;

        check_rc(4, sp_recv(b, &v, sizeof(v), 0));
        assert_int_equal(v, i);
    }
    check_rest(a);
    check_rest(b);
    // The window is whole again.
    for (int i = 0; i < 1000; i++) {
        check_send(a, "x");
        check_recv(b, "x");
    }
}

static sp_msg *hop_msg(uint32_t hops, size_t words)
{
    sp_msg *m = NULL;
    unsigned char w[4] = {(unsigned char)(hops >> 24), (unsigned char)(hops >> 16),
                          (unsigned char)(hops >> 8), (unsigned char)hops};

    check_ok(sp_msg_new(&m, 4));
    memcpy(sp_msg_data(m), "body", 4);
    for (size_t i = 0; i < words; i++) {
        check_ok(sp_msg_header_append(m, w, 4));
    }
    return m;
}

static void pair1_raw_counts_hops(void **state)
{
    sp_socket raw = {0};
    sp_socket raw2 = {0};
    sp_msg *m = NULL;

    (void)state;
    check_ok(sp_open_raw(&raw, "pair1"));
    check_ok(sp_open_raw(&raw2, "pair1"));
    check_ok(sp_set_int(raw2.id, "recv-timeout", CHECK_SOON));
    check_ok(sp_set_int(raw2.id, "ttl-max", 15));
    check_ok(sp_listen(raw, "inproc://hops", NULL));
    check_ok(sp_dial(raw2, "inproc://hops", NULL, 0));
    for (uint32_t hops = 0; hops < 15; hops++) {
        check_ok(sp_sendmsg(raw, hop_msg(hops, 1), 0));
        check_ok(sp_recvmsg(raw2, &m, 0));
        assert_int_equal(sp_msg_header_len(m), 4);
        assert_int_equal(((unsigned char *)sp_msg_header(m))[3], hops + 1);
        assert_int_equal(sp_msg_len(m), 4);
        sp_msg_release(m);
    }
    check_ok(sp_sendmsg(raw, hop_msg(15, 1), 0));
    check_stat_is(raw2.id, "rx_drops.ttl", 1);
    check_ok(sp_sendmsg(raw, hop_msg(0xFF, 1), 0));
    check_ok(sp_sendmsg(raw, hop_msg(1, 0), 0));
    check_ok(sp_sendmsg(raw, hop_msg(1, 2), 0));
    check_stat_is(raw.id, "tx_drops.malformed", 3);
    check_rest(raw);
    check_rest(raw2);
}

/// A message that was not written has not made its hop: if it is sent to another peer it counts
/// one, or it is dropped and counted.
static void pair1_raw_requeued_message_counts_one_hop(void **state)
{
    sp_socket raw = {0};
    sp_socket b = {0};
    int sent = 0;
    int64_t written;
    int64_t got = 0;

    (void)state;
    check_ok(sp_open_raw(&raw, "pair1"));
    check_ok(sp_open_raw(&b, "pair1"));
    check_ok(sp_listen(raw, "inproc://requeue", NULL));
    check_ok(sp_dial(b, "inproc://requeue", NULL, 0));
    check_pipes(raw, 1);
    for (int quiet = 0; quiet < 50;) {
        sp_msg *m = hop_msg(1, 1);
        int rc = sp_sendmsg(raw, m, SP_NONBLOCK);

        sp_msg_release(rc < 0 ? m : NULL);
        sent += rc == SP_OK;
        quiet = rc == SP_OK ? 0 : quiet + 1;
        if (quiet > 0) {
            check_pause();
        }
    }
    written = check_stat(raw.id, "tx_msgs");
    check_ok(sp_close(b));
    check_pipes(raw, 0);
    check_rest(raw);
    check_ok(sp_open_raw(&b, "pair1"));
    check_ok(sp_dial(b, "inproc://requeue", NULL, 0));
    check_stat_is(raw.id, "tx_queued", 0);
    check_rest(raw);
    got = sent - written - check_stat(raw.id, "tx_drops.peer_gone");
    check_ok(sp_set_int(b.id, "recv-timeout", CHECK_SOON));
    for (; got > 0; got--) {
        sp_msg *m = NULL;

        check_ok(sp_recvmsg(b, &m, 0));
        assert_int_equal(((unsigned char *)sp_msg_header(m))[3], 2);
        sp_msg_release(m);
    }
}

static void pair1_checks_the_hop_count(void **state)
{
    static const struct {
        uint32_t hops;
        bool taken;
    } good[] = {{0, true}, {1, true}, {8, true}, {9, false}, {255, false}};
    char url[256];
    int dropped = 0;
    sp_socket s = check_open("pair1");
    unsigned char w[4] = {0};
    unsigned char got[64];
    int fd;

    (void)state;
    check_listen(s, "tcp", url, NULL);
    fd = check_raw_dial(url, RAWSP_PAIR1, RAWSP_PAIR1);
    for (int i = 0; i < 5; i++) {
        w[3] = (unsigned char)good[i].hops;
        assert_int_equal(rawsp_send(fd, w, 4, "body", 4), 0);
        if (good[i].taken) {
            check_recv(s, "body");
        } else {
            check_stat_is(s.id, "rx_drops.ttl", ++dropped);
        }
    }
    check_send(s, "out");
    assert_int_equal(rawsp_recv(fd, got, sizeof(got), CHECK_SOON), 7);
    assert_memory_equal(got, "\0\0\0\1out", 7);
    // Its options hold for the next message.
    check_ok(sp_set_int(s.id, "ttl-max", 1));
    w[3] = 2;
    assert_int_equal(rawsp_send(fd, w, 4, "body", 4), 0);
    check_stat_is(s.id, "rx_drops.ttl", ++dropped);
    assert_int_equal(check_stat(s.id, "peers[0].rx_drops.ttl"), dropped);
    assert_int_equal(check_stat(s.id, "peers[0].rx_queued"), 0);
    check_rest(s);
    (void)close(fd);
}

static void pair1_closes_a_peer_without_hop_count(void **state)
{
    static const struct {
        unsigned char bytes[8];
        size_t n;
    } bad[] = {{{0}, 0}, {{0, 0, 1}, 3}, {{0, 0, 1, 0, 'x'}, 5}, {{0x80, 0, 0, 1}, 4}};
    char url[256];
    sp_socket s = check_open("pair1");

    (void)state;
    check_listen(s, "tcp", url, NULL);
    for (int i = 0; i < 4; i++) {
        int fd = check_raw_dial(url, RAWSP_PAIR1, RAWSP_PAIR1);

        assert_int_equal(rawsp_send(fd, NULL, 0, bad[i].bytes, bad[i].n), 0);
        assert_true(check_raw_closed(fd));
        check_stat_is(s.id, "rx_drops.malformed", i + 1);
        check_stat_is(s.id, "listeners[0].proto", i + 1);
        check_pipes(s, 0);
        (void)close(fd);
    }
    check_rest(s);
}

static void pair0_and_pair1_do_not_mix(void **state)
{
    sp_socket s = check_open("pair1");
    sp_socket other = check_open("pair");

    (void)state;
    check_ok(sp_listen(s, "inproc://mix", NULL));
    check_rc(SP_EPROTO, sp_dial(other, "inproc://mix", NULL, 0));
    check_until(check_stat(s.id, "listeners[0].proto") > 0);
}

static void pair0_by_two_names(void **state)
{
    sp_socket a;
    sp_socket b;

    (void)state;
    check_couple("inproc", "pair", "pair0", &a, &b);
    check_send(a, "x");
    check_recv(b, "x");
}

static void pair0_raw_is_the_same(void **state)
{
    sp_socket raw = {0};
    sp_socket s = check_open("pair");

    (void)state;
    check_ok(sp_open_raw(&raw, "pair"));
    check_ok(sp_set_int(raw.id, "recv-timeout", CHECK_SOON));
    check_ok(sp_listen(raw, "inproc://raw0", NULL));
    check_ok(sp_dial(s, "inproc://raw0", NULL, 0));
    check_send(s, "one");
    check_recv(raw, "one");
    check_send(raw, "two");
    check_recv(s, "two");
    check_rest(raw);
}

static void cooked_sockets_send_no_header_of_the_application(void **state)
{
    static const char *const transports[] = {"inproc", "tcp"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        sp_socket a;
        sp_socket b;

        check_couple(transports[i], "pair", "pair", &a, &b);
        check_ok(sp_sendmsg(a, hop_msg(1, 3), 0));
        check_recv(b, "body");
        check_ok(sp_close(a));
        check_ok(sp_close(b));
    }
}

/* ------------------------------------------------------------------ Many peers */

#define MANY 3

/// A polyamorous socket, and peers of it, connected one after the other.
struct many {
    sp_socket hub;
    sp_socket peer[MANY];
    char url[256];
};

static void many_up(struct many *m, const char *transport)
{
    m->hub = check_open("pair1");
    check_ok(sp_set_int(m->hub.id, "pair1:polyamorous", 1));
    check_listen(m->hub, transport, m->url, NULL);
    for (int i = 0; i < MANY; i++) {
        m->peer[i] = check_open("pair1");
        check_ok(sp_dial(m->peer[i], m->url, NULL, 0));
        check_pipes(m->hub, i + 1);
    }
}

static void many_down(struct many *m)
{
    check_rest(m->hub);
    for (int i = 0; i < MANY; i++) {
        check_rest(m->peer[i]);
        check_ok(sp_close(m->peer[i]));
    }
    check_ok(sp_close(m->hub));
}

static void send_to(sp_socket s, uint32_t peer, const char *text)
{
    sp_msg *m = NULL;

    check_ok(sp_msg_new(&m, strlen(text)));
    memcpy(sp_msg_data(m), text, strlen(text));
    sp_msg_set_peer(m, peer);
    check_ok(sp_sendmsg(s, m, 0));
}

/// Its number at the hub.
static uint32_t peer_of(struct many *m, int i)
{
    uint32_t id;
    sp_msg *msg = NULL;

    check_send(m->peer[i], "who am I");
    check_ok(sp_recvmsg(m->hub, &msg, 0));
    id = sp_msg_peer(msg);
    sp_msg_release(msg);
    return id;
}

static void polyamorous_answers_go_to_who_asked(void **state)
{
    static const char *const transports[] = {"inproc", "ipc", "tcp"};

    (void)state;
    for (int t = 0; t < 3; t++) {
        struct many m;

        many_up(&m, transports[t]);
        for (int i = 0; i < 30; i++) {
            sp_msg *msg = NULL;

            check_send(m.peer[i % MANY], "ask");
            check_ok(sp_recvmsg(m.hub, &msg, 0));
            assert_int_equal(sp_msg_len(msg), 3);
            check_ok(sp_sendmsg(m.hub, msg, 0));
            check_recv(m.peer[i % MANY], "ask");
        }
        for (int i = 0; i < MANY; i++) {
            send_to(m.hub, peer_of(&m, i), "named");
            check_recv(m.peer[i], "named");
        }
        many_down(&m);
    }
}

static void polyamorous_message_without_a_name_goes_to_the_oldest_peer(void **state)
{
    struct many m;

    (void)state;
    many_up(&m, "tcp");
    check_send(m.hub, "first");
    check_recv(m.peer[0], "first");
    check_ok(sp_close(m.peer[0]));
    check_pipes(m.hub, MANY - 1);
    check_send(m.hub, "second");
    check_recv(m.peer[1], "second");
    m.peer[0] = check_open("pair1");
    check_ok(sp_dial(m.peer[0], m.url, NULL, 0));
    check_pipes(m.hub, MANY);
    check_send(m.hub, "third");
    check_recv(m.peer[1], "third");
    many_down(&m);
}

static void polyamorous_message_to_a_lost_peer_is_counted(void **state)
{
    struct many m;
    uint32_t id;

    (void)state;
    many_up(&m, "tcp");
    id = peer_of(&m, 2);
    check_ok(sp_close(m.peer[2]));
    check_pipes(m.hub, MANY - 1);
    send_to(m.hub, id, "too late");
    check_stat_is(m.hub.id, "tx_drops.peer_gone", 1);
    m.peer[2] = check_open("pair1");
    check_ok(sp_dial(m.peer[2], m.url, NULL, 0));
    check_pipes(m.hub, MANY);
    many_down(&m);
}

/// Who does not receive holds 384 messages; what is beyond is dropped, and others get all of
/// theirs.
static void polyamorous_peer_that_does_not_keep_up_delays_nobody(void **state)
{
    struct many m;
    uint32_t slow;
    uint32_t other;
    char buf[8];

    (void)state;
    many_up(&m, "inproc");
    slow = peer_of(&m, 1);
    other = peer_of(&m, 2);
    for (int i = 0; i < 500; i++) {
        send_to(m.hub, slow, "slow");
        send_to(m.hub, other, "other");
        check_recv(m.peer[2], "other");
    }
    check_stat_is(m.hub.id, "tx_drops.full", 500 - 384);
    for (int i = 0; i < 384; i++) {
        check_recv(m.peer[1], "slow");
    }
    check_rc(SP_EAGAIN, sp_recv(m.peer[1], buf, sizeof(buf), SP_NONBLOCK));
    many_down(&m);
}

static void polyamorous_is_set_before_the_first_peer(void **state)
{
    sp_socket raw = {0};
    sp_socket a;
    sp_socket b;
    int64_t value = 1;

    (void)state;
    a = check_open("pair1");
    check_ok(sp_get_int(a.id, "pair1:polyamorous", &value));
    assert_int_equal(value, 0);
    check_rc(SP_EINVAL, sp_set_int(a.id, "pair1:polyamorous", 2));
    check_ok(sp_set_int(a.id, "pair1:polyamorous", 1));
    check_ok(sp_set_int(a.id, "pair1:polyamorous", 0));
    check_ok(sp_listen(a, "inproc://early", NULL));
    check_ok(sp_set_int(a.id, "pair1:polyamorous", 1));
    b = check_open("pair1");
    check_ok(sp_dial(b, "inproc://early", NULL, 0));
    check_pipes(a, 1);
    check_detail(SP_ESTATE,
                 "option \"pair1:polyamorous\": to be set before the first peer is there",
                 sp_set_int(a.id, "pair1:polyamorous", 0));
    check_ok(sp_close(b));
    check_pipes(a, 0);
    check_rc(SP_ESTATE, sp_set_int(a.id, "pair1:polyamorous", 0));
    check_ok(sp_set_int(a.id, "ttl-max", 3));
    check_ok(sp_open_raw(&raw, "pair1"));
    check_rc(SP_ENOTSUP, sp_set_int(raw.id, "pair1:polyamorous", 1));
    check_ok(sp_open(&b, "pair"));
    check_rc(SP_ENOTSUP, sp_set_int(b.id, "pair1:polyamorous", 1));
}

/// What a lost peer had not been written and names nobody goes to the next one.
static void polyamorous_messages_of_a_lost_peer_go_to_the_next(void **state)
{
    struct many m;
    int n = 0;

    (void)state;
    many_up(&m, "inproc");
    for (int i = 0; i < 384; i++) {
        check_send(m.hub, "any");
    }
    check_stat_is(m.hub.id, "tx_msgs", 256);
    check_ok(sp_close(m.peer[0]));
    for (; n < 128; n++) {
        check_recv(m.peer[1], "any");
    }
    check_stat_is(m.hub.id, "tx_msgs", 384);
    m.peer[0] = check_open("pair1");
    check_ok(sp_dial(m.peer[0], m.url, NULL, 0));
    check_pipes(m.hub, MANY);
    many_down(&m);
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        test(second_peer_is_refused_and_counted),
        test(both_directions_at_once),
        test(unwritten_messages_go_to_the_next_peer),
        test(pair1_raw_counts_hops),
        test(pair1_raw_requeued_message_counts_one_hop),
        test(pair1_checks_the_hop_count),
        test(pair1_closes_a_peer_without_hop_count),
        test(pair0_and_pair1_do_not_mix),
        test(pair0_by_two_names),
        test(pair0_raw_is_the_same),
        test(cooked_sockets_send_no_header_of_the_application),
        check_both(polyamorous_answers_go_to_who_asked),
        check_both(polyamorous_message_without_a_name_goes_to_the_oldest_peer),
        check_both(polyamorous_message_to_a_lost_peer_is_counted),
        check_both(polyamorous_peer_that_does_not_keep_up_delays_nobody),
        check_both(polyamorous_is_set_before_the_first_peer),
        check_both(polyamorous_messages_of_a_lost_peer_go_to_the_next),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
