/* SPDX-License-Identifier: MIT */
/// The hosts that other tests use, with plain sockets: they reach one another and nobody else, they
/// come and go with the test.
#include "netns.h"
#include "proc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static struct netns net;

static int stop(void **state)
{
    (void)state;
    netns_close(&net);
    return 0;
}

/// How many bytes come within a moment that is long enough for what comes at all; -1: none.
static ssize_t receive(int fd, void *buf, size_t cap, int ms)
{
    struct pollfd item = {.fd = fd, .events = POLLIN};

    return poll(&item, 1, ms) > 0 ? recv(fd, buf, cap, 0) : -1;
}

static void send_to(int fd, size_t host, int family, unsigned port, const void *data, size_t len)
{
    struct sockaddr_storage a;
    socklen_t n = netns_sockaddr(host, family, port, &a);

    assert_int_equal(sendto(fd, data, len, 0, (struct sockaddr *)&a, n), len);
}

static void every_host_reaches_every_other(void **state)
{
    (void)state;
    netns_open(&net, 5);
    for (size_t a = 1; a <= 5; a++) {
        for (size_t b = a + 1; b <= 5; b++) {
            netns_reach(&net, a, b);
        }
    }
}

static void a_port_of_one_host_is_free_on_the_other(void **state)
{
    int a;
    int b;
    char buf[8];

    (void)state;
    netns_open(&net, 2);
    a = netns_socket(&net, 1, AF_INET, SOCK_DGRAM, 5000);
    b = netns_socket(&net, 2, AF_INET, SOCK_DGRAM, 5000);
    send_to(a, 2, AF_INET, 5000, "hello", 5);
    assert_int_equal(receive(b, buf, sizeof(buf), CHECK_SOON), 5);
    (void)close(a);
    (void)close(b);
}

static void the_test_itself_stays_where_it_was(void **state)
{
    struct sockaddr_storage a;
    socklen_t len;
    int fd;

    (void)state;
    netns_open(&net, 2);
    len = netns_sockaddr(1, AF_INET, 0, &a);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), -1);
    assert_int_equal(errno, EADDRNOTAVAIL);
    (void)close(fd);
}

static void a_link_goes_down_and_up(void **state)
{
    static const int families[] = {AF_INET, AF_INET6};
    struct sockaddr_storage a;
    char buf[8];

    (void)state;
    netns_open(&net, 2);
    for (size_t i = 0; i < 2; i++) {
        socklen_t len = netns_sockaddr(2, families[i], 5000, &a);
        int tx = netns_socket(&net, 1, families[i], SOCK_DGRAM, 0);
        int rx = netns_socket(&net, 2, families[i], SOCK_DGRAM, 5000);

        netns_link(&net, 2, false);
        (void)!sendto(tx, "lost", 4, 0, (struct sockaddr *)&a, len);
        assert_int_equal(receive(rx, buf, sizeof(buf), 50), -1);
        netns_link(&net, 2, true);
        netns_reach(&net, 1, 2);
        (void)!sendto(tx, "there", 5, 0, (struct sockaddr *)&a, len);
        assert_int_equal(receive(rx, buf, sizeof(buf), CHECK_SOON), 5);
        (void)close(tx);
        (void)close(rx);
    }
}

static void large_datagrams_are_cut_by_the_system_at_the_mtu(void **state)
{
    static char data[60000];
    static char got[65536];
    int tx;
    int rx;
    int on = IP_PMTUDISC_DO;

    (void)state;
    netns_open(&net, 2);
    tx = netns_socket(&net, 1, AF_INET, SOCK_DGRAM, 0);
    rx = netns_socket(&net, 2, AF_INET, SOCK_DGRAM, 5000);
    send_to(tx, 2, AF_INET, 5000, data, sizeof(data));
    assert_int_equal(receive(rx, got, sizeof(got), CHECK_SOON), sizeof(data));

    // Not to be cut: what is larger than the network takes is refused.
    assert_int_equal(setsockopt(tx, IPPROTO_IP, IP_MTU_DISCOVER, &on, sizeof(on)), 0);
    send_to(tx, 2, AF_INET, 5000, data, 1400);
    assert_int_equal(receive(rx, got, sizeof(got), CHECK_SOON), 1400);
    netns_mtu(&net, 1300);
    {
        struct sockaddr_storage a;
        socklen_t len = netns_sockaddr(2, AF_INET, 5000, &a);

        assert_int_equal(sendto(tx, data, 1400, 0, (struct sockaddr *)&a, len), -1);
        assert_int_equal(errno, EMSGSIZE);
    }
    (void)close(tx);
    (void)close(rx);
}

static void another_host_takes_an_address_over(void **state)
{
    char buf[8];
    int tx;
    int rx;

    (void)state;
    netns_open(&net, 5);
    netns_link(&net, 2, false);
    netns_readdress(&net, 3, 2);
    netns_enter(&net, 3);
    rx = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    netns_leave(&net);
    {
        struct sockaddr_storage a;
        socklen_t len = netns_sockaddr(2, AF_INET, 5000, &a);

        assert_int_equal(bind(rx, (struct sockaddr *)&a, len), 0);
    }
    tx = netns_socket(&net, 1, AF_INET, SOCK_DGRAM, 0);
    send_to(tx, 2, AF_INET, 5000, "hello", 5);
    assert_int_equal(receive(rx, buf, sizeof(buf), CHECK_SOON), 5);
    (void)close(tx);
    (void)close(rx);
}

/// Answers what it is told, then waits for a datagram.
static void process(struct netns_proc *test, const void *arg)
{
    const struct netns *n = arg;
    char text[NETNS_TEXT];
    char got[8] = "";
    int fd;

    fd = netns_socket(n, 2, AF_INET6, SOCK_DGRAM, 6000);
    netns_say(test, "ready %d", 6000);
    assert_int_equal(receive(fd, got, sizeof(got) - 1, CHECK_SOON), 5);
    netns_say(test, "%s", got);
    netns_hear(test, text, CHECK_SOON);
    assert_string_equal(text, "end");
    (void)close(fd);
}

static void a_process_runs_on_a_host_and_starts_again_at_its_address(void **state)
{
    struct netns_proc p;
    int tx;

    (void)state;
    netns_open(&net, 2);
    tx = netns_socket(&net, 1, AF_INET6, SOCK_DGRAM, 0);
    for (int i = 0; i < 3; i++) {
        netns_fork(&net, 2, &p, process, &net);
        assert_int_equal(netns_number(&p, "ready "), 6000);
        send_to(tx, 2, AF_INET6, 6000, "hello", 5);
        netns_expect(&p, "hello");
        if (i == 0) {
            netns_kill(&p);
        } else {
            netns_say(&p, "end");
            netns_join(&p);
        }
    }
    (void)close(tx);
}

static void a_program_runs_on_a_host(void **state)
{
    const char *argv[] = {"ip", "-o", "addr", NULL};
    struct proc p;

    (void)state;
    netns_open(&net, 2);
    netns_enter(&net, 2);
    assert_int_equal(proc_start(&p, argv), 0);
    netns_leave(&net);
    assert_int_equal(proc_wait(&p, PROC_SOON), 0);
    assert_non_null(strstr(p.output.data, " 10.83.0.2/24 "));
    assert_null(strstr(p.output.data, " 10.83.0.1/24 "));
    proc_stop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_host_reaches_every_other, stop),
        cmocka_unit_test_teardown(a_port_of_one_host_is_free_on_the_other, stop),
        cmocka_unit_test_teardown(the_test_itself_stays_where_it_was, stop),
        cmocka_unit_test_teardown(a_link_goes_down_and_up, stop),
        cmocka_unit_test_teardown(large_datagrams_are_cut_by_the_system_at_the_mtu, stop),
        cmocka_unit_test_teardown(another_host_takes_an_address_over, stop),
        cmocka_unit_test_teardown(a_process_runs_on_a_host_and_starts_again_at_its_address, stop),
        cmocka_unit_test_teardown(a_program_runs_on_a_host, stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
