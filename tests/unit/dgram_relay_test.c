/* SPDX-License-Identifier: MIT */
/// The bad network that other tests use, with plain sockets: what it counts is what happened.
#include "dgram_relay.h"
#include "check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define MANY 4000
#define WINDOW 16 // datagrams under way: fewer than the system keeps for any socket

static int listener;
static struct dgram_relay *relay;

static int udp(unsigned *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static int dial(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    unsigned port;
    int fd = udp(&port);

    a.sin_port = htons((uint16_t)dgram_relay_port(relay));
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static int start(void **state)
{
    unsigned port;

    (void)state;
    listener = udp(&port);
    relay = dgram_relay_local(port, 42);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    dgram_relay_close(relay);
    (void)close(listener);
    return 0;
}

static struct dgram_counts counts(enum dgram_way way)
{
    struct dgram_counts c;

    dgram_relay_counts(relay, way, &c);
    return c;
}

/// What came: how many times each number, and how often one came after a higher one.
struct came {
    unsigned char times[MANY];
    unsigned all;
    unsigned late;
    uint32_t highest;
};

static void take(int fd, struct came *c)
{
    uint32_t n;

    while (recv(fd, &n, sizeof(n), 0) == sizeof(n)) {
        assert_in_range(n, 0, MANY - 1);
        c->times[n]++;
        c->all++;
        c->late += n < c->highest;
        c->highest = n > c->highest ? n : c->highest;
    }
}

/// Sends all numbers to the listener, which takes what comes; waits until nothing is on its way.
static void pour(int fd, struct came *c)
{
    *c = (struct came){.all = 0};
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(send(fd, &i, sizeof(i), 0), sizeof(i));
        if (i % WINDOW == WINDOW - 1 || i == MANY - 1) {
            check_until(counts(DGRAM_TO_LISTENER).received == i + 1);
            take(listener, c);
        }
    }
    check_until(counts(DGRAM_TO_LISTENER).held == 0);
    check_until((take(listener, c), c->all == counts(DGRAM_TO_LISTENER).sent));
}

static void rule(struct dgram_rules rules)
{
    dgram_relay_rules(relay, DGRAM_TO_LISTENER, &rules);
}

static void nothing_is_harmed_at_first(void **state)
{
    struct came c;
    int fd = dial();

    (void)state;
    pour(fd, &c);
    assert_int_equal(c.all, MANY);
    assert_int_equal(c.late, 0);
    (void)close(fd);
}

static void what_is_lost_is_counted(void **state)
{
    struct came c;
    unsigned missing = 0;
    int fd = dial();

    (void)state;
    rule((struct dgram_rules){.loss = 5});
    pour(fd, &c);
    for (int i = 0; i < MANY; i++) {
        missing += c.times[i] == 0;
    }
    assert_int_equal(missing, counts(DGRAM_TO_LISTENER).lost);
    assert_in_range(missing, MANY * 3 / 100, MANY * 7 / 100);
    (void)close(fd);
}

static void what_comes_twice_is_counted(void **state)
{
    struct came c;
    unsigned twice = 0;
    int fd = dial();

    (void)state;
    rule((struct dgram_rules){.duplicate = 10});
    pour(fd, &c);
    for (int i = 0; i < MANY; i++) {
        assert_in_range(c.times[i], 1, 2);
        twice += c.times[i] == 2;
    }
    assert_int_equal(twice, counts(DGRAM_TO_LISTENER).duplicated);
    assert_in_range(twice, MANY * 7 / 100, MANY * 13 / 100);
    (void)close(fd);
}

static void what_is_overtaken_is_counted(void **state)
{
    struct came c;
    int fd = dial();

    (void)state;
    rule((struct dgram_rules){.reorder = 10});
    pour(fd, &c);
    assert_int_equal(c.all, MANY);
    // Several in a row may be overtaken by one.
    assert_int_equal(c.late, counts(DGRAM_TO_LISTENER).reordered);
    assert_in_range(c.late, MANY * 6 / 100, MANY * 13 / 100);
    (void)close(fd);
}

static void what_is_delayed_comes_later(void **state)
{
    uint32_t v = 7;
    int64_t begun;
    struct pollfd item = {.fd = listener, .events = POLLIN};
    int fd = dial();

    (void)state;
    rule((struct dgram_rules){.delay = 100, .delay_ms = 1000});
    begun = check_now();
    assert_int_equal(send(fd, &v, sizeof(v), 0), sizeof(v));
    check_until(counts(DGRAM_TO_LISTENER).held == 1);
    assert_int_equal(poll(&item, 1, CHECK_SOON), 1);
    assert_int_equal(counts(DGRAM_TO_LISTENER).delayed, 1);
    assert_in_range(check_now() - begun, 1, 5000);
    (void)close(fd);
}

static void all_of_it_together_adds_up(void **state)
{
    struct came c;
    struct dgram_counts n;
    int fd = dial();

    (void)state;
    rule((struct dgram_rules){.loss = 5, .duplicate = 2, .reorder = 5, .delay = 5, .delay_ms = 5});
    pour(fd, &c);
    n = counts(DGRAM_TO_LISTENER);
    assert_int_equal(n.received, MANY);
    assert_int_equal(n.refused, 0);
    assert_int_equal(n.sent, n.received - n.lost + n.duplicated);
    (void)close(fd);
}

static void one_seed_is_one_fate(void **state)
{
    struct came a;
    struct came b;
    int fd = dial();

    rule((struct dgram_rules){.loss = 20, .duplicate = 20});
    pour(fd, &a);
    (void)close(fd);
    (void)stop(state);
    (void)start(state);
    rule((struct dgram_rules){.loss = 20, .duplicate = 20});
    fd = dial();
    pour(fd, &b);
    assert_memory_equal(a.times, b.times, sizeof(a.times));
    (void)close(fd);
}

static void connection_set_up_may_be_spared(void **state)
{
    static const unsigned char data[8] = {1, 0};
    static const unsigned char set_up[8] = {1, 1};
    int fd = dial();

    (void)state;
    rule((struct dgram_rules){.loss = 100, .data_only = true});
    for (int i = 0; i < 10; i++) {
        (void)!send(fd, data, sizeof(data), 0);
        (void)!send(fd, set_up, sizeof(set_up), 0);
    }
    check_until(counts(DGRAM_TO_LISTENER).received == 20);
    assert_int_equal(counts(DGRAM_TO_LISTENER).lost, 10);
    assert_int_equal(counts(DGRAM_TO_LISTENER).sent, 10);
    (void)close(fd);
}

static void every_dialer_has_its_own_way_back(void **state)
{
    struct sockaddr_storage a;
    uint32_t v;
    int fds[8];

    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        fds[i] = dial();
        assert_int_equal(send(fds[i], &i, sizeof(i), 0), sizeof(i));
    }
    for (int i = 0; i < 8; i++) {
        struct pollfd item = {.fd = listener, .events = POLLIN};
        socklen_t len = sizeof(a);

        assert_int_equal(poll(&item, 1, CHECK_SOON), 1);
        assert_int_equal(recvfrom(listener, &v, sizeof(v), 0, (struct sockaddr *)&a, &len), 4);
        assert_int_equal(sendto(listener, &v, sizeof(v), 0, (struct sockaddr *)&a, len), 4);
    }
    for (uint32_t i = 0; i < 8; i++) {
        struct pollfd item = {.fd = fds[i], .events = POLLIN};

        assert_int_equal(poll(&item, 1, CHECK_SOON), 1);
        assert_int_equal(recv(fds[i], &v, sizeof(v), 0), 4);
        assert_int_equal(v, i);
        (void)close(fds[i]);
    }
    assert_int_equal(dgram_relay_clients(relay), 8);
    assert_int_equal(counts(DGRAM_TO_DIALER).sent, 8);
}

#define fact(fn) cmocka_unit_test_setup_teardown(fn, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        fact(nothing_is_harmed_at_first),
        fact(what_is_lost_is_counted),
        fact(what_comes_twice_is_counted),
        fact(what_is_overtaken_is_counted),
        fact(what_is_delayed_comes_later),
        fact(all_of_it_together_adds_up),
        fact(one_seed_is_one_fate),
        fact(connection_set_up_may_be_spared),
        fact(every_dialer_has_its_own_way_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
