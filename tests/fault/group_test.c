/* SPDX-License-Identifier: MIT */
/// Discovery groups on the loopback: members of one machine, strangers that flood the group,
/// options that are none, and silence without the option.
#include "check.h"

#include "dgram_group.h"
#include "rawdgram.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MEMBERS 4
#define FLOOD 2000

static char group[64]; ///< of one test
static uint16_t group_port;

static int start(void **state)
{
    (void)state;
    check_init(2);
    return 0;
}

static struct sockaddr_in group_at(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(group_port)};

    assert_int_equal(inet_pton(AF_INET, "239.83.0.2", &a.sin_addr), 1);
    return a;
}

/// A port that nobody else has: that of a socket which stays open. It sends on the loopback.
static int stranger_open(void)
{
    struct in_addr loopback = {htonl(INADDR_LOOPBACK)};
    int fd = raw_open(&group_port);

    if (setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &loopback, sizeof(loopback)) < 0 &&
        errno == ENOPROTOOPT) {
        print_message("skipped: this system cannot choose the interface of a group\n");
        (void)close(fd);
        skip();
    }
    (void)snprintf(group, sizeof(group), "239.83.0.2:%u", group_port);
    return fd;
}

/// One who hears the group.
static int listener_open(void)
{
    struct sockaddr_in a = group_at();
    struct ip_mreq m = {.imr_multiaddr = a.sin_addr, .imr_interface = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int on = 1;

    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)), 0);
    return fd;
}

static sp_listener join(sp_socket s, const char *name)
{
    sp_listener l = {0};

    check_ok(sp_listener_new(&l, s, "udp://127.0.0.1:0"));
    check_ok(sp_set_str(l.id, "group", name));
    check_ok(sp_set_int(l.id, "group-interval", 100));
    check_ok(sp_listener_start(l));
    return l;
}

static void members_of_one_machine_find_each_other(void **state)
{
    int stranger = stranger_open();
    sp_socket s[MEMBERS];

    (void)state;
    for (size_t i = 0; i < MEMBERS; i++) {
        check_ok(sp_open(&s[i], "bus"));
        (void)join(s[i], group);
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        check_stat_is(s[i].id, "pipes", MEMBERS - 1);
    }
    check_ok(sp_close(s[0]));
    for (size_t i = 1; i < MEMBERS; i++) {
        check_stat_is(s[i].id, "pipes", MEMBERS - 2);
        check_stat_is(s[i].id, "listeners[0].group_members", MEMBERS - 2);
    }
    for (size_t i = 1; i < MEMBERS; i++) {
        check_ok(sp_close(s[i]));
    }
    (void)close(stranger);
    check_fini();
}

/// Announcements with ever new instances, and what is none.
static void flood_of_announcements_is_capped(void **state)
{
    struct sp__announcement a = {.op = SP__GROUP_HERE, .interval = 60000};
    struct sockaddr_in to;
    int stranger = stranger_open();
    sp_socket s[2];

    (void)state;
    to = group_at();
    for (size_t i = 0; i < 2; i++) {
        check_ok(sp_open(&s[i], "bus"));
        (void)join(s[i], group);
    }
    check_stat_is(s[0].id, "pipes", 1);
    for (uint32_t i = 1; i <= FLOOD; i++) {
        unsigned char bytes[SP__GROUP_BYTES];

        sp_store_u32(a.uuid, i);
        sp__group_write(bytes, &a);
        (void)sendto(stranger, bytes, i % 2 != 0 ? sizeof(bytes) : 20, 0, (struct sockaddr *)&to,
                     sizeof(to));
    }
    check_stat_is(s[0].id, "listeners[0].group_members", 2); // the address is one
    check_until(check_stat(s[0].id, "listeners[0].group_refused") >= 100);
    check_stat_is(s[0].id, "pipes", 1);
    check_stat_is(s[1].id, "pipes", 1);
    for (size_t i = 0; i < 2; i++) {
        check_ok(sp_close(s[i]));
    }
    (void)close(stranger);
    check_fini();
}

static void listener_without_a_group_says_nothing(void **state)
{
    int stranger = stranger_open();
    int ear = listener_open();
    struct pollfd ready = {.fd = ear, .events = POLLIN};
    sp_socket s;
    sp_listener l = {0};

    (void)state;
    check_ok(sp_open(&s, "bus"));
    check_ok(sp_listener_new(&l, s, "udp://127.0.0.1:0"));
    check_ok(sp_set_int(l.id, "group-interval", 20));
    check_ok(sp_listener_start(l));
    assert_int_equal(poll(&ready, 1, 200), 0);
    (void)join(s, group);
    assert_int_equal(poll(&ready, 1, 5000), 1);
    check_ok(sp_close(s));
    (void)close(ear);
    (void)close(stranger);
    check_fini();
}

static void group_that_is_none_is_refused(void **state)
{
    static const char *const wrong[] = {"127.0.0.1:7000", "239.83.0.2", "239.83.0.2:0",
                                        "[ff02::8353]:7000", "name:7000"};
    sp_socket s;

    (void)state;
    check_ok(sp_open(&s, "bus"));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        sp_listener l = {0};

        check_ok(sp_listener_new(&l, s, "udp://127.0.0.1:0"));
        check_ok(sp_set_str(l.id, "group", wrong[i]));
        assert_int_equal(sp_listener_start(l), SP_EINVAL);
        check_ok(sp_listener_close(l));
    }
    check_ok(sp_close(s));
    check_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(members_of_one_machine_find_each_other, start),
        cmocka_unit_test_setup(flood_of_announcements_is_capped, start),
        cmocka_unit_test_setup(listener_without_a_group_says_nothing, start),
        cmocka_unit_test_setup(group_that_is_none_is_refused, start),
    };

    return cmocka_run_group_tests_name("group", tests, NULL, NULL);
}
