/* SPDX-License-Identifier: MIT */
/// rawip against what others put on the wire: strangers, floods, flipped bits, cut datagrams. With
/// real raw sockets in a network namespace of the test's own; skipped where it may have none.
#include "netns.h"

#include "dgram_wire.h"

#include <sp/sdk/crc32c.h>

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define NUMBER 253
#define FRONT 4
#define LARGEST (65535 - 20 - FRONT - 28)

#define PAIR 0x10

static void loopback_mtu(int mtu)
{
    struct ifreq ifr = {.ifr_mtu = mtu, .ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_int_equal(ioctl(fd, SIOCSIFMTU, &ifr), 0);
    (void)close(fd);
}

/* ------------------------------------------------------------------ A stranger */

static struct sockaddr_in loopback(const char *host)
{
    struct sockaddr_in a = {.sin_family = AF_INET};

    assert_int_equal(inet_pton(AF_INET, host, &a.sin_addr), 1);
    return a;
}

static int stranger(const char *host)
{
    struct sockaddr_in a = loopback(host);
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, NUMBER);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static void put(int fd, unsigned source, unsigned destination, const unsigned char *p, size_t n)
{
    unsigned char bytes[4096] = {(unsigned char)source, (unsigned char)(source >> 8),
                                 (unsigned char)destination, (unsigned char)(destination >> 8)};
    struct sockaddr_in to = loopback("127.0.0.1");

    assert_true(n <= sizeof(bytes) - FRONT);
    memcpy(bytes + FRONT, p, n);
    // The system may be out of buffers while there is a flood.
    while (sendto(fd, bytes, n + FRONT, 0, (struct sockaddr *)&to, sizeof(to)) < 0) {
        assert_int_equal(errno, ENOBUFS);
    }
}

/// What the checksum of a datagram begins with.
static uint32_t front_crc(unsigned source, unsigned destination)
{
    const unsigned char front[FRONT] = {(unsigned char)source, (unsigned char)(source >> 8),
                                        (unsigned char)destination,
                                        (unsigned char)(destination >> 8)};

    return sp_crc32c(0, front, FRONT);
}

/// The next datagram of the listener for endpoint `destination`. How many bytes behind the front;
/// 0: there is none.
static size_t heard(int fd, unsigned destination, struct sp__dgram *d)
{
    static unsigned char p[65536];
    ssize_t n;

    while ((n = recv(fd, p, sizeof(p), MSG_DONTWAIT)) > 0) {
        if (n >= 20 + FRONT + 8 && (unsigned)(p[22] | p[23] << 8) == destination) {
            uint32_t crc = sp_crc32c(0, p + 20, FRONT);

            assert_int_equal(sp__dgram_read(p + 20 + FRONT, (size_t)n - 20 - FRONT, &crc, d),
                             SP__DGRAM_FINE);
            return (size_t)n - 20 - FRONT;
        }
    }
    return 0;
}

static void ask(int fd, unsigned source, unsigned destination, uint64_t cookie)
{
    struct sp__dgram d = {.op = SP__DGRAM_CREQ,
                          .type = PAIR,
                          .p0 = 65535,
                          .p1 = 5,
                          .features = SP__DGRAM_PACKS | SP__DGRAM_CRCS,
                          .payload_max = 65535,
                          .uuid = {1, 2, 3},
                          .token = source,
                          .cookie = cookie};
    unsigned char bytes[SP__DGRAM_GREETING];
    uint32_t crc = front_crc(source, destination);

    sp__dgram_greeting(bytes, &d, &crc);
    put(fd, source, destination, bytes, sizeof(bytes));
}

/// A message of a peer; `spoil`: one bit of it is flipped on the way, at that byte.
static void data(int fd, unsigned source, unsigned destination, uint32_t number, const char *text,
                 int spoil)
{
    unsigned char bytes[256];
    size_t n = strlen(text);
    uint32_t crc;

    sp__dgram_xhead(bytes, PAIR, number, 1, (uint32_t)n);
    memcpy(bytes + SP__DGRAM_XHEAD, text, n);
    crc = sp__dgram_xcrc(front_crc(source, destination), bytes);
    crc = sp_crc32c(crc, bytes + SP__DGRAM_XHEAD, n);
    sp__dgram_put_crc(bytes, crc);
    if (spoil >= 0) {
        bytes[spoil] ^= 4;
    }
    put(fd, source, destination, bytes, SP__DGRAM_XHEAD + n);
}

/// A connection made by hand.
static void connect_by_hand(int fd, unsigned source, unsigned destination)
{
    struct sp__dgram d;

    ask(fd, source, destination, 0);
    check_until(heard(fd, source, &d) > 0);
    assert_int_equal(d.op, SP__DGRAM_CACK);
    assert_true((d.features & SP__DGRAM_CHALLENGE) != 0);
    ask(fd, source, destination, d.cookie);
    check_until(heard(fd, source, &d) > 0);
    assert_int_equal(d.op, SP__DGRAM_CACK);
    assert_int_equal(d.features & SP__DGRAM_CHALLENGE, 0);
}

static sp_socket listen_at(const char *url)
{
    sp_socket s = check_open("pair");

    check_ok(sp_listen(s, url, NULL));
    return s;
}

/* ------------------------------------------------------------------ Facts */

static void flipped_bits_are_counted_and_not_delivered(void **state)
{
    sp_socket s = listen_at("rawip://127.0.0.1:5");
    int fd = stranger("127.0.0.1");
    int bad = 0;

    (void)state;
    connect_by_hand(fd, 40000, 5);
    check_pipes(s, 1);
    data(fd, 40000, 5, 0, "one", -1);
    check_recv(s, "one");
    // Not the first byte: with another version it does not even come to the socket.
    for (int i = 1; i < SP__DGRAM_XHEAD + 3; i++, bad++) {
        data(fd, 40000, 5, 1, "two", i);
    }
    data(fd, 40000, 5, 1, "two", -1);
    check_recv(s, "two");
    check_stat_is(s.id, "listeners[0].malformed", bad);
    assert_int_equal(check_stat(s.id, "pipes"), 1);
    assert_int_equal(check_stat(s.id, "rx_queued"), 0);
    check_rest(s);
    (void)close(fd);
}

static void cut_datagrams_are_counted_and_not_delivered(void **state)
{
    sp_socket s = listen_at("rawip://127.0.0.1:5");
    int fd = stranger("127.0.0.1");
    unsigned char bytes[SP__DGRAM_XHEAD + 64];
    uint32_t crc;

    (void)state;
    connect_by_hand(fd, 40000, 5);
    check_pipes(s, 1);
    memset(bytes, 'x', sizeof(bytes));
    sp__dgram_xhead(bytes, PAIR, 0, 1, 64);
    crc = sp__dgram_xcrc(front_crc(40000, 5), bytes);
    sp__dgram_put_crc(bytes, sp_crc32c(crc, bytes + SP__DGRAM_XHEAD, 64));
    for (size_t n = 8; n < sizeof(bytes); n++) {
        put(fd, 40000, 5, bytes, n);
    }
    // Shorter ones do not come to the socket.
    for (size_t n = 0; n < 8; n++) {
        put(fd, 40000, 5, bytes, n);
    }
    put(fd, 40000, 5, bytes, sizeof(bytes));
    check_stat_is(s.id, "rx_msgs", 1);
    check_stat_is(s.id, "listeners[0].malformed", (int64_t)sizeof(bytes) - 8);
    assert_int_equal(check_stat(s.id, "pipes"), 1);
    (void)close(fd);
}

/// A flood of requests under false addresses costs no state, and no answer is longer than what it
/// answers.
static void false_sources_get_no_state_and_no_more_than_they_sent(void **state)
{
    enum { FLOOD = 3000 };
    sp_socket s = listen_at("rawip://127.0.0.1:5");
    sp_socket good = check_open("pair");
    int fd = stranger("127.0.0.9");
    int64_t memory = check_stat(0, "runtime.message_bytes");
    struct sp__dgram d;
    size_t answers = 0;

    (void)state;
    for (unsigned i = 0; i < FLOOD; i++) {
        ask(fd, i, 5, i % 2 == 0 ? 0 : 0x1234567 + i);
        for (size_t n; (n = heard(fd, i, &d)) > 0;) {
            assert_true(n <= SP__DGRAM_GREETING);
            assert_int_equal(d.op, SP__DGRAM_CACK);
            assert_true((d.features & SP__DGRAM_CHALLENGE) != 0);
            answers++;
        }
    }
    assert_true(answers <= FLOOD);
    check_until(check_stat(s.id, "listeners[0].challenged") > 0);
    assert_true(check_stat(s.id, "listeners[0].challenged") <= FLOOD);
    assert_int_equal(check_stat(s.id, "pipes"), 0);
    assert_int_equal(check_stat(s.id, "listeners[0].connect"), 0);
    // Not more than the buffers of one call for the largest datagrams.
    assert_true(check_stat(0, "runtime.message_bytes") <= memory + (4 << 20));
    // Who is there gets in.
    check_ok(sp_dial(good, "rawip://127.0.0.1:5", NULL, 0));
    check_pipes(s, 1);
    check_send(good, "x");
    check_recv(s, "x");
    (void)close(fd);
}

/// Data of somebody who is not connected, from the right host or not, does not come through.
static void data_of_strangers_is_dropped(void **state)
{
    sp_socket s = listen_at("rawip://127.0.0.1:5");
    int fd = stranger("127.0.0.1");
    int other = stranger("127.0.0.2");

    (void)state;
    connect_by_hand(fd, 40000, 5);
    check_pipes(s, 1);
    data(fd, 40001, 5, 0, "bad", -1);
    data(other, 40000, 5, 0, "bad", -1);
    check_stat_is(s.id, "listeners[0].nomatch", 2);
    data(fd, 40000, 5, 0, "good", -1);
    check_recv(s, "good");
    assert_int_equal(check_stat(s.id, "rx_msgs"), 1);
    (void)close(fd);
    (void)close(other);
}

static void plain_peers_are_none(void **state)
{
    sp_socket s = listen_at("rawip://127.0.0.1:5");
    int fd = stranger("127.0.0.1");
    unsigned char bytes[8];

    (void)state;
    sp__dgram_head(bytes, SP__DGRAM_CREQ, PAIR, 65000, 5);
    put(fd, 40000, 5, bytes, sizeof(bytes));
    check_until(check_stat(s.id, "listeners[0].malformed") == 1);
    assert_int_equal(check_stat(s.id, "pipes"), 0);
    (void)close(fd);
}

static void endpoints_of_a_host_are_told_apart(void **state)
{
    sp_socket a = listen_at("rawip://127.0.0.1:5");
    sp_socket b = listen_at("rawip://127.0.0.1:6");
    sp_socket c = listen_at("rawip://127.0.0.1:5/252");
    sp_socket to_a = check_open("pair");
    sp_socket to_b = check_open("pair");
    sp_socket to_c = check_open("pair");

    (void)state;
    check_ok(sp_dial(to_a, "rawip://127.0.0.1:5", NULL, 0));
    check_ok(sp_dial(to_b, "rawip://127.0.0.1:6", NULL, 0));
    check_ok(sp_dial(to_c, "rawip://127.0.0.1:5/252", NULL, 0));
    check_send(to_a, "a");
    check_send(to_b, "b");
    check_send(to_c, "c");
    check_recv(a, "a");
    check_recv(b, "b");
    check_recv(c, "c");
    check_send(a, "A");
    check_send(b, "B");
    check_send(c, "C");
    check_recv(to_a, "A");
    check_recv(to_b, "B");
    check_recv(to_c, "C");
    // What is the others' was not even looked at.
    assert_int_equal(check_stat(a.id, "listeners[0].nomatch"), 0);
    assert_int_equal(check_stat(b.id, "listeners[0].malformed"), 0);
}

static void an_endpoint_in_use_is_refused_and_free_after_close(void **state)
{
    sp_socket s = listen_at("rawip://127.0.0.1:5");
    sp_socket other = check_open("pair");
    sp_socket d = check_open("pair");

    (void)state;
    check_detail(-EADDRINUSE,
                 "listen rawip://127.0.0.1:5: bind endpoint 5 of protocol number 253: Address "
                 "already in use",
                 sp_listen(other, "rawip://127.0.0.1:5", NULL));
    check_ok(sp_listen(other, "rawip://127.0.0.1:6", NULL));
    check_ok(sp_dial(d, "rawip://127.0.0.1:5", NULL, 0));
    check_send(d, "x");
    check_recv(s, "x");
    check_ok(sp_close(s));
    s = listen_at("rawip://127.0.0.1:5");
    check_pipes(s, 1); // It dials again.
    check_rc(-ECONNREFUSED, sp_dial(other, "rawip://127.0.0.1:99", NULL, 0));
    check_detail(SP_EINVAL,
                 "dial rawip://127.0.0.1:*: endpoint \"*\": only a listener can leave the choice: "
                 "Invalid argument",
                 sp_dial(other, "rawip://127.0.0.1:*", NULL, 0));
}

static void exchange(sp_socket a, sp_socket b, size_t n)
{
    unsigned char *body = malloc(n);
    sp_msg *m = NULL;

    for (size_t i = 0; i < n; i++) {
        body[i] = (unsigned char)(i * 7 + (i >> 8));
    }
    check_ok(sp_send(a, body, n, 0));
    check_ok(sp_recvmsg(b, &m, 0));
    assert_int_equal(sp_msg_len(m), n);
    assert_memory_equal(sp_msg_view(m), body, n);
    sp_msg_release(m);
    free(body);
}

static void large_messages_cross_small_packets(void **state)
{
    static const char *const urls[] = {"rawip://127.0.0.1:5", "rawip://[::1]:5"};

    (void)state;
    loopback_mtu(1500);
    for (size_t i = 0; i < 2; i++) {
        sp_socket s = listen_at(urls[i]);
        sp_socket d = check_open("pair");

        check_ok(sp_dial(d, urls[i], NULL, 0));
        check_pipes(s, 1);
        exchange(d, s, 60000);
        exchange(s, d, 60000);
        exchange(d, s, LARGEST);
        exchange(s, d, LARGEST);
        assert_int_equal(check_stat(s.id, "listeners[0].path_mtu"), 1500);
        assert_int_equal(check_stat(d.id, "dialers[0].path_mtu"), 1500);
        check_ok(sp_close(s));
        check_ok(sp_close(d));
    }
    loopback_mtu(65536);
}

static void too_large_a_message_stays_with_the_caller(void **state)
{
    sp_socket s = listen_at("rawip://127.0.0.1:5");
    sp_socket d = check_open("pair");
    char *body = calloc(1, LARGEST + 1);

    (void)state;
    check_ok(sp_dial(d, "rawip://127.0.0.1:5", NULL, 0));
    check_pipes(s, 1);
    check_detail(SP_EMSGSIZE,
                 "send: message of 65484 bytes: rawip://127.0.0.1:5 takes at most 65483; that is "
                 "what an IP packet carries, tcp:// carries any size",
                 sp_send(d, body, LARGEST + 1, 0));
    check_send(d, "x");
    check_recv(s, "x");
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(flipped_bits_are_counted_and_not_delivered),
        check_both(cut_datagrams_are_counted_and_not_delivered),
        check_both(false_sources_get_no_state_and_no_more_than_they_sent),
        check_both(data_of_strangers_is_dropped),
        check_both(plain_peers_are_none),
        check_both(endpoints_of_a_host_are_told_apart),
        check_both(an_endpoint_in_use_is_refused_and_free_after_close),
        check_both(large_messages_cross_small_packets),
        check_both(too_large_a_message_stays_with_the_caller),
    };
    int rc = netns_alone();

    return rc != 0 ? rc : cmocka_run_group_tests_name("rawip", tests, NULL, NULL);
}
