/* SPDX-License-Identifier: MIT */
/// What somebody can do to the connections of others over udp who knows their addresses and can
/// send from them, but not what they agreed upon; peers that fall silent, that start again, and
/// those that make place. What does not hold is stated in doc/wire-datagram.md.
#include "check.h"

#include "dgram_wire.h"
#include "rawdgram.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PUSH 0x50
#define PULL 0x51
#define REFRESH 50 // ms
#define FLOOD 64

static int start(void **state)
{
    (void)state;
    check_init(2);
    return 0;
}

/* ------------------------------------------------------------------ A peer by hand */

/// A listener that takes messages, and its port.
static sp_socket listening(sp_listener *l, uint16_t *port, int64_t max_peers, int64_t refresh)
{
    sp_socket s = check_open("pull");
    int64_t bound;

    check_ok(sp_listener_new(l, s, "udp://127.0.0.1:0"));
    check_ok(sp_set_int(l->id, "max-peers", max_peers));
    check_ok(sp_set_int(l->id, "refresh", refresh));
    check_ok(sp_listener_start(*l));
    check_ok(sp_get_int(l->id, "bound-port", &bound));
    *port = (uint16_t)bound;
    return s;
}

static struct sp__dgram asking(uint64_t token, unsigned char uuid)
{
    struct sp__dgram d = {.op = SP__DGRAM_CREQ,
                          .type = PUSH,
                          .p0 = 65000,
                          .p1 = 5,
                          .extended = true,
                          .features = SP__DGRAM_PACKS,
                          .payload_max = 65000,
                          .token = token};

    memset(d.uuid, uuid, sizeof(d.uuid));
    return d;
}

static void say(int fd, const struct sp__dgram *d)
{
    unsigned char out[SP__DGRAM_GREETING];

    sp__dgram_greeting(out, d, NULL);
    raw_send(fd, out, sizeof(out));
}

static struct sp__dgram hear(int fd)
{
    static unsigned char in[128];
    struct sp__dgram d;
    size_t n = raw_recv(fd, in, sizeof(in));

    assert_int_equal(sp__dgram_read(in, n, NULL, &d), SP__DGRAM_FINE);
    return d;
}

/// Connects with the extension: asks, is given a cookie, asks with it.
static void join(int fd, struct sp__dgram *d)
{
    struct sp__dgram answer;

    say(fd, d);
    answer = hear(fd);
    assert_int_equal(answer.op, SP__DGRAM_CACK);
    assert_true((answer.features & SP__DGRAM_CHALLENGE) != 0);
    d->cookie = answer.cookie;
    say(fd, d);
    answer = hear(fd);
    assert_int_equal(answer.op, SP__DGRAM_CACK);
    assert_false((answer.features & SP__DGRAM_CHALLENGE) != 0);
    assert_int_equal(answer.token, d->token);
}

static void join_plain(int fd, uint16_t type)
{
    unsigned char out[SP__DGRAM_HEAD];

    sp__dgram_head(out, SP__DGRAM_CREQ, type, 65000, 5);
    raw_send(fd, out, sizeof(out));
    assert_int_equal(hear(fd).op, SP__DGRAM_CACK);
}

static void send_plain(int fd, uint8_t op, uint16_t p0, const char *text)
{
    unsigned char out[SP__DGRAM_HEAD + 16];

    sp__dgram_head(out, op, PUSH, p0, 0);
    memcpy(out + SP__DGRAM_HEAD, text, strlen(text));
    raw_send(fd, out, SP__DGRAM_HEAD + strlen(text));
}

static void send_numbered(int fd, uint32_t number, const char *text)
{
    unsigned char out[SP__DGRAM_XHEAD + 16];

    sp__dgram_xhead(out, PUSH, number, 1, (uint32_t)strlen(text));
    memcpy(out + SP__DGRAM_XHEAD, text, strlen(text));
    raw_send(fd, out, SP__DGRAM_XHEAD + strlen(text));
}

/// A raw listener that was asked by `s`: connected to who asked. What it was asked.
static struct sp__dgram asked(int fd)
{
    unsigned char in[128];
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    struct sp__dgram d;

    assert_int_equal(poll(&ready, 1, CHECK_SOON), 1);
    assert_int_equal(recvfrom(fd, in, sizeof(in), 0, (struct sockaddr *)&from, &len), 64);
    assert_int_equal(connect(fd, (struct sockaddr *)&from, len), 0);
    assert_int_equal(sp__dgram_read(in, 64, NULL, &d), SP__DGRAM_FINE);
    assert_int_equal(d.op, SP__DGRAM_CREQ);
    return d;
}

/// The answer that takes `creq`.
static struct sp__dgram taking(const struct sp__dgram *creq)
{
    struct sp__dgram d = *creq;

    d.op = SP__DGRAM_CACK;
    d.type = PULL;
    memset(d.uuid, 7, sizeof(d.uuid));
    return d;
}

static sp_socket dialling(uint16_t port, int64_t refresh)
{
    sp_socket s = check_open("push");
    sp_dialer d = {0};
    char url[64];

    (void)snprintf(url, sizeof(url), "udp://127.0.0.1:%u", port);
    check_ok(sp_dialer_new(&d, s, url));
    check_ok(sp_set_int(d.id, "refresh", refresh));
    check_ok(sp_dialer_start(d, SP_NONBLOCK));
    return s;
}

/* ------------------------------------------------------------------ Those who do not belong */

/// From another address nothing reaches a connection, whatever it says.
static void other_addresses_are_nobody(void **state)
{
    sp_listener l = {0};
    uint16_t port;
    sp_socket s = listening(&l, &port, 16, 5000);
    int peers[2] = {raw_open(&(uint16_t){0}), raw_open(&(uint16_t){0})};
    int other = raw_open(&(uint16_t){0});
    struct sp__dgram d = asking(1, 1);

    (void)state;
    for (int i = 0; i < 2; i++) {
        raw_connect(peers[i], port);
    }
    raw_connect(other, port);
    join(peers[0], &d);
    join_plain(peers[1], PUSH);
    check_pipes(s, 2);
    d.op = SP__DGRAM_DISC;
    say(other, &d); // Even with the right token.
    send_plain(other, SP__DGRAM_DISC, 0, "");
    send_plain(other, SP__DGRAM_DATA, 4, "evil");
    send_plain(other, SP__DGRAM_DATA, 99, "evil"); // Cut: that ends a connection.
    send_numbered(other, 0, "evil");
    check_stat_is(l.id, "nomatch", 5);
    send_numbered(peers[0], 0, "one");
    check_recv(s, "one");
    send_plain(peers[1], SP__DGRAM_DATA, 3, "two");
    check_recv(s, "two");
    assert_true(raw_silent(other));
    check_pipes(s, 2);
    check_ok(sp_close(s));
    (void)close(peers[0]);
    (void)close(peers[1]);
    (void)close(other);
}

/// Who sends from the peer's address and does not know the token can neither end its connection nor
/// take its place; nor feed it without numbers.
static void listener_believes_nobody_without_the_token(void **state)
{
    sp_listener l = {0};
    uint16_t port;
    sp_socket s = listening(&l, &port, 16, 5000);
    int fd = raw_open(&(uint16_t){0});
    struct sp__dgram d = asking(0x1122334455667788, 1);
    struct sp__dgram evil;
    uint64_t pipe;

    (void)state;
    raw_connect(fd, port);
    join(fd, &d);
    check_pipes(s, 1);
    pipe = check_pipe(s).id;
    send_plain(fd, SP__DGRAM_DISC, 0, "");
    evil = d;
    evil.op = SP__DGRAM_DISC;
    evil.token ^= 1;
    say(fd, &evil);
    evil = asking(5, 1);
    evil.extended = true;
    evil.op = SP__DGRAM_CACK;
    say(fd, &evil);
    send_plain(fd, SP__DGRAM_CREQ, 65000, "");
    check_stat_is(l.id, "nomatch", 4);
    send_plain(fd, SP__DGRAM_DATA, 4, "evil");
    send_plain(fd, SP__DGRAM_DATA, 99, "evil");
    check_stat_is(l.id, "malformed", 2);
    evil = asking(5, 2); // As if it had started again, with a cookie of another and with none.
    say(fd, &evil);
    assert_true((hear(fd).features & SP__DGRAM_CHALLENGE) != 0);
    evil.cookie = d.cookie;
    say(fd, &evil);
    assert_true((hear(fd).features & SP__DGRAM_CHALLENGE) != 0);
    send_numbered(fd, 0, "one");
    check_recv(s, "one");
    assert_int_equal(check_pipe(s).id, pipe);
    d.op = SP__DGRAM_DISC; // The true one ends it.
    say(fd, &d);
    check_pipes(s, 0);
    check_ok(sp_close(s));
    (void)close(fd);
}

/// The same for a dialer: of answers only those with its token are any.
static void dialer_believes_nobody_without_the_token(void **state)
{
    uint16_t port;
    int fd = raw_open(&port);
    sp_socket s = dialling(port, 5000);
    struct sp__dgram creq = asked(fd);
    struct sp__dgram cack = taking(&creq);
    struct sp__dgram evil = cack;
    unsigned char in[128];
    size_t n;

    (void)state;
    evil.token ^= 1;
    say(fd, &evil);
    evil.op = SP__DGRAM_DISC;
    say(fd, &evil);
    check_stat_is(s.id, "dialers[0].nomatch", 2);
    assert_int_equal(check_stat(s.id, "pipes"), 0);
    say(fd, &cack);
    check_pipes(s, 1);
    say(fd, &evil);
    evil.op = SP__DGRAM_CACK;
    say(fd, &evil);
    send_plain(fd, SP__DGRAM_DISC, 0, "");
    send_plain(fd, SP__DGRAM_CACK, 65000, "");
    check_stat_is(s.id, "dialers[0].nomatch", 6);
    send_plain(fd, SP__DGRAM_DATA, 4, "evil");
    check_stat_is(s.id, "dialers[0].malformed", 1);
    check_send(s, "hi");
    do { // Perhaps it asked once more meanwhile.
        n = raw_recv(fd, in, sizeof(in));
    } while (in[1] == SP__DGRAM_CREQ);
    assert_int_equal(n, SP__DGRAM_XHEAD + 2);
    check_pipes(s, 1);
    cack.op = SP__DGRAM_DISC;
    cack.p0 = SP__DGRAM_CLOSED;
    say(fd, &cack);
    check_pipes(s, 0);
    check_ok(sp_close(s));
    (void)close(fd);
}

/// How many answers a stranger's datagram has.
static int answers(int op, size_t n)
{
    return (op == SP__DGRAM_CREQ || op == SP__DGRAM_MESH) && n >= SP__DGRAM_HEAD ? 1 : 0;
}

/// Every kind of datagram, cut to every length, from an address that was never heard of.
static void no_answer_is_longer_than_the_question(void **state)
{
    static const uint8_t ops[] = {0, 1, 2, 3, 4, 5, 15, 16, 17, 255};
    static const unsigned char mesh[8] = {1, 4};
    sp_listener l = {0};
    uint16_t port;
    sp_socket s = listening(&l, &port, 16, 5000);

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(ops); i++) {
        struct sp__dgram d = asking(i, 3);

        d.p1 = i % 2 == 0 ? 5 : 0;
        d.op = ops[i / 2];
        for (size_t n = 0; n <= SP__DGRAM_GREETING; n++) {
            unsigned char out[SP__DGRAM_GREETING];
            unsigned char in[256];
            size_t most = n > sizeof(mesh) ? n : sizeof(mesh);
            int fd = raw_open(&(uint16_t){0});

            raw_connect(fd, port);
            sp__dgram_greeting(out, &d, NULL);
            raw_send(fd, out, n);
            raw_send(fd, mesh, sizeof(mesh)); // Is answered, so that there is an end to wait for.
            for (int left = answers(d.op, n) + 1; left > 0; left--) {
                assert_in_range(raw_recv(fd, in, sizeof(in)), SP__DGRAM_HEAD, most);
            }
            assert_true(raw_silent(fd));
            (void)close(fd);
        }
    }
    check_ok(sp_close(s));
}

/* ------------------------------------------------------------------ Silence and new beginnings */

static void silent_dialers_end(void **state)
{
    sp_listener l = {0};
    uint16_t port;
    sp_socket s = listening(&l, &port, 16, REFRESH);
    int fds[2] = {raw_open(&(uint16_t){0}), raw_open(&(uint16_t){0})};
    struct sp__dgram d = asking(1, 1);

    (void)state;
    raw_connect(fds[0], port);
    raw_connect(fds[1], port);
    join(fds[0], &d);
    join_plain(fds[1], PUSH);
    for (int i = 0; i < 2; i++) {
        struct sp__dgram end = hear(fds[i]);

        assert_int_equal(end.op, SP__DGRAM_DISC);
        assert_int_equal(end.p0, SP__DGRAM_INACTIVE);
        assert_int_equal(end.extended, i == 0);
        (void)close(fds[i]);
    }
    check_pipes(s, 0);
    check_stat_is(l.id, "inactive", 2);
    check_ok(sp_close(s));
}

static void silent_listener_ends_and_is_asked_again(void **state)
{
    uint16_t port;
    int fd = raw_open(&port);
    sp_socket s = dialling(port, REFRESH);
    struct sp__dgram creq = asked(fd);
    struct sp__dgram cack = taking(&creq);
    struct sp__dgram d;
    struct sockaddr_in a = {.sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(port)};
    int signs = 0;

    (void)state;
    say(fd, &cack);
    check_pipes(s, 1);
    while ((d = hear(fd)).op == SP__DGRAM_CREQ) { // Its signs of life, of which none is answered.
        assert_int_equal(d.token, creq.token);
        signs++;
    }
    assert_int_equal(d.op, SP__DGRAM_DISC);
    assert_int_equal(d.p0, SP__DGRAM_INACTIVE);
    assert_int_equal(d.token, creq.token);
    assert_in_range(signs, 1, 10);
    check_stat_is(s.id, "dialers[0].inactive", 1);
    // Not connected any more, which gives the port away, too.
    a.sin_family = AF_UNSPEC;
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    a.sin_family = AF_INET;
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    d = asked(fd); // Another connection, from another port.
    assert_int_not_equal(d.token, creq.token);
    check_ok(sp_close(s));
    (void)close(fd);
}

/// A process that ended without a word, and its successor at the same address.
static void successor_at_the_same_address_is_another_peer(void **state)
{
    sp_listener l = {0};
    uint16_t port;
    sp_socket s = listening(&l, &port, 1, 5000); // It needs no second place.
    int fd = raw_open(&(uint16_t){0});
    struct sp__dgram before = asking(1, 1);
    struct sp__dgram after = asking(2, 2);
    uint64_t pipe;

    (void)state;
    raw_connect(fd, port);
    join(fd, &before);
    send_numbered(fd, 0, "one");
    check_recv(s, "one");
    pipe = check_pipe(s).id;
    join(fd, &after);
    send_numbered(fd, 0, "two"); // Numbers begin anew.
    check_recv(s, "two");
    check_pipes(s, 1);
    assert_int_not_equal(check_pipe(s).id, pipe);
    before.op = SP__DGRAM_DISC; // Late, from the one before.
    say(fd, &before);
    check_stat_is(l.id, "nomatch", 1);
    send_numbered(fd, 1, "three");
    check_recv(s, "three");
    check_ok(sp_close(s));
    (void)close(fd);
}

/* ------------------------------------------------------------------ Making place */

/// Plain strangers push each other out, and nobody who is of use: neither one with a cookie nor a
/// plain one that sends.
static void those_who_talk_stay_while_strangers_come_and_go(void **state)
{
    sp_listener l = {0};
    uint16_t port;
    sp_socket s = listening(&l, &port, 16, 5000);
    int extended = raw_open(&(uint16_t){0});
    int plain = raw_open(&(uint16_t){0});
    struct sp__dgram d = asking(1, 1);

    (void)state;
    raw_connect(extended, port);
    raw_connect(plain, port);
    join(extended, &d);
    join_plain(plain, PUSH);
    for (uint32_t i = 0; i < FLOOD; i++) {
        int fd = raw_open(&(uint16_t){0});

        raw_connect(fd, port);
        send_plain(plain, SP__DGRAM_DATA, 5, "plain");
        check_recv(s, "plain");
        join_plain(fd, PUSH);
        send_numbered(extended, i, "extended");
        check_recv(s, "extended");
        (void)close(fd);
    }
    // A quarter of 16, of which one is the plain one that talks.
    assert_int_equal(check_stat(l.id, "evicted"), FLOOD - 3);
    check_pipes(s, 5);
    assert_int_equal(check_stat(l.id, "gaps"), 0);
    assert_true(raw_silent(plain));
    check_ok(sp_close(s));
    (void)close(extended);
    (void)close(plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(other_addresses_are_nobody, start, check_stop),
        cmocka_unit_test_setup_teardown(listener_believes_nobody_without_the_token, start,
                                        check_stop),
        cmocka_unit_test_setup_teardown(dialer_believes_nobody_without_the_token, start,
                                        check_stop),
        cmocka_unit_test_setup_teardown(no_answer_is_longer_than_the_question, start, check_stop),
        cmocka_unit_test_setup_teardown(silent_dialers_end, start, check_stop),
        cmocka_unit_test_setup_teardown(silent_listener_ends_and_is_asked_again, start, check_stop),
        cmocka_unit_test_setup_teardown(successor_at_the_same_address_is_another_peer, start,
                                        check_stop),
        cmocka_unit_test_setup_teardown(those_who_talk_stay_while_strangers_come_and_go, start,
                                        check_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
