/* SPDX-License-Identifier: MIT */
/// Discovery groups of rawip on the loopback of a network namespace of the test's own: members of
/// one machine, strangers that flood the group or whose bytes were damaged, options that are none,
/// and silence without the option. Skipped where the machine allows no raw sockets there.
#include "netns.h"

#include "dgram_group.h"

#include <sp/sdk/crc32c.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NUMBER 253
#define FRONT 4
#define MEMBERS 4
#define FLOOD 2000
#define GROUP "239.83.0.2"
#define ENDPOINT 77

static struct in_addr loopback(void)
{
    return (struct in_addr){htonl(INADDR_LOOPBACK)};
}

static struct sockaddr_in group_at(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET};

    assert_int_equal(inet_pton(AF_INET, GROUP, &a.sin_addr), 1);
    return a;
}

static int raw(void)
{
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, NUMBER);

    assert_true(fd >= 0);
    return fd;
}

/// One who sends to the group by the loopback.
static int stranger_open(void)
{
    struct in_addr via = loopback();
    int fd = raw();

    assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &via, sizeof(via)), 0);
    return fd;
}

/// One who hears the group.
static int ear_open(void)
{
    struct ip_mreq m = {.imr_interface = loopback()};
    struct sockaddr_in a = group_at();
    int fd = raw();

    m.imr_multiaddr = a.sin_addr;
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)), 0);
    return fd;
}

/// Announces the instance `i` from endpoint number `from` to number `to`, `n` bytes of it, with
/// `flip` in the byte at 9: behind the checksum.
static void announce(int fd, uint32_t i, unsigned from, unsigned to, size_t n, unsigned char flip)
{
    struct sp__announcement a = {.op = SP__GROUP_HERE, .interval = 60000};
    struct sockaddr_in at = group_at();
    unsigned char bytes[FRONT + SP__GROUP_BYTES_MAX + 1] = {
        (unsigned char)from, (unsigned char)(from >> 8), (unsigned char)to,
        (unsigned char)(to >> 8)};

    sp_store_u32(a.uuid, i);
    sp__group_write(bytes + FRONT, &a);
    sp__group_seal(bytes + FRONT, SP__GROUP_BYTES, sp_crc32c(0, bytes, FRONT));
    bytes[FRONT + 9] ^= flip;
    // The system may be out of buffers while there is a flood.
    while (sendto(fd, bytes, FRONT + n, 0, (struct sockaddr *)&at, sizeof(at)) < 0) {
        assert_int_equal(errno, ENOBUFS);
    }
}

static sp_listener join(sp_socket s, const char *url, const char *name)
{
    sp_listener l = {0};

    check_ok(sp_listener_new(&l, s, url));
    check_ok(sp_set_str(l.id, "group", name));
    check_ok(sp_set_int(l.id, "group-interval", 100));
    check_ok(sp_listener_start(l));
    return l;
}

static void members_of_one_machine_find_each_other(void **state)
{
    static const char *const urls[] = {"rawip://127.0.0.1:*", "rawip://127.0.0.1:*/252"};

    (void)state;
    for (size_t u = 0; u < 2; u++) {
        sp_socket s[MEMBERS];

        for (size_t i = 0; i < MEMBERS; i++) {
            s[i] = check_open("bus");
            (void)join(s[i], urls[u], GROUP ":77");
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
    }
}

/// What the member is to refuse, and what does not come as far as that: one announcement of each.
static void damaged_and_foreign_announcements_are_none(void **state)
{
    int stranger = stranger_open();
    sp_socket s = check_open("bus");

    (void)state;
    (void)join(s, "rawip://127.0.0.1:5", GROUP ":77");
    announce(stranger, 1, 9, ENDPOINT + 1, SP__GROUP_BYTES, 0);
    announce(stranger, 1, 9, ENDPOINT, 3, 0);
    announce(stranger, 1, 9, ENDPOINT, SP__GROUP_BYTES, 1);
    announce(stranger, 1, 9, ENDPOINT, SP__GROUP_BYTES - 1, 0);
    announce(stranger, 1, 9, ENDPOINT, SP__GROUP_BYTES_MAX + 1, 0);
    check_until(check_stat(s.id, "listeners[0].group_refused") >= 3);
    assert_int_equal(check_stat(s.id, "listeners[0].group_members"), 0);
    announce(stranger, 1, 9, ENDPOINT, SP__GROUP_BYTES_MAX, 0);
    check_stat_is(s.id, "listeners[0].group_members", 1);
    assert_int_equal(check_stat(s.id, "listeners[0].group_refused"), 3);
    (void)close(stranger);
}

/// Announcements with ever new instances, from one endpoint and then from ever other ones.
static void flood_of_announcements_is_capped(void **state)
{
    int stranger = stranger_open();
    int64_t refused;
    sp_socket s[2];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        sp_listener l = {0};

        s[i] = check_open("bus");
        check_ok(sp_listener_new(&l, s[i], "rawip://127.0.0.1:*"));
        check_ok(sp_set_str(l.id, "group", GROUP ":77"));
        check_ok(sp_set_int(l.id, "group-interval", 100));
        check_ok(sp_set_int(l.id, "max-peers", 20));
        check_ok(sp_listener_start(l));
    }
    check_stat_is(s[0].id, "pipes", 1);
    check_stat_is(s[1].id, "pipes", 1);
    for (uint32_t i = 1; i <= FLOOD; i++) {
        announce(stranger, i, 9, ENDPOINT, i % 2 != 0 ? SP__GROUP_BYTES : 20, 0);
    }
    check_stat_is(s[0].id, "listeners[0].group_members", 2); // the address is one
    check_until(check_stat(s[0].id, "listeners[0].group_refused") >= 100);
    for (uint32_t i = 1; check_stat(s[0].id, "listeners[0].group_members") < 20; i++) {
        announce(stranger, FLOOD + i, 1000 + i % 20000, ENDPOINT, SP__GROUP_BYTES, 0);
        check_pause();
    }
    refused = check_stat(s[0].id, "listeners[0].group_refused");
    for (uint32_t i = 1; i <= FLOOD; i++) {
        announce(stranger, 2 * FLOOD + i, 30000 + i, ENDPOINT, SP__GROUP_BYTES, 0);
    }
    check_until(check_stat(s[0].id, "listeners[0].group_refused") >= refused + 100);
    assert_int_equal(check_stat(s[0].id, "listeners[0].group_members"), 20);
    check_stat_is(s[0].id, "pipes", 1);
    check_stat_is(s[1].id, "pipes", 1);
    (void)close(stranger);
}

static void listener_without_a_group_says_nothing(void **state)
{
    int ear = ear_open();
    struct pollfd ready = {.fd = ear, .events = POLLIN};
    sp_socket s = check_open("bus");
    sp_listener l = {0};
    unsigned char bytes[256];
    uint32_t front;

    (void)state;
    check_ok(sp_listener_new(&l, s, "rawip://127.0.0.1:5"));
    check_ok(sp_set_int(l.id, "group-interval", 20));
    check_ok(sp_listener_start(l));
    assert_int_equal(poll(&ready, 1, 200), 0);
    (void)join(s, "rawip://127.0.0.1:6", GROUP ":77");
    assert_int_equal(poll(&ready, 1, 5000), 1);
    // As documented: behind IP's header the numbers, the announcement and its checksum; TTL 1.
    assert_int_equal(recv(ear, bytes, sizeof(bytes), 0), 20 + FRONT + SP__GROUP_BYTES);
    assert_int_equal(bytes[8], 1);
    assert_int_equal(bytes[20] | bytes[21] << 8, 6);
    assert_int_equal(bytes[22] | bytes[23] << 8, ENDPOINT);
    front = sp_crc32c(0, bytes + 20, FRONT);
    assert_true(sp__group_sealed(bytes + 20 + FRONT, SP__GROUP_BYTES, front));
    (void)close(ear);
}

static void group_that_is_none_is_refused(void **state)
{
    static const char *const wrong[] = {
        "127.0.0.1:7",    "239.83.0.2:*", "239.83.0.2:70000", "239.83.0.2:", "239.83.0.2/9",
        "[ff02::8353]:7", "[ff02::8353",  "name:7",           "*:7",         "239.83.0.2:7x"};
    sp_socket s = check_open("bus");

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        sp_listener l = {0};

        check_ok(sp_listener_new(&l, s, "rawip://127.0.0.1:5"));
        check_ok(sp_set_str(l.id, "group", wrong[i]));
        assert_int_equal(sp_listener_start(l), SP_EINVAL);
        check_ok(sp_listener_close(l));
    }
    // A number of none is that of zero; and what is refused left nothing behind.
    (void)join(s, "rawip://127.0.0.1:5", GROUP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(members_of_one_machine_find_each_other),
        check_both(damaged_and_foreign_announcements_are_none),
        check_both(flood_of_announcements_is_capped),
        check_both(listener_without_a_group_says_nothing),
        check_both(group_that_is_none_is_refused),
    };
    int rc = netns_alone();

    return rc != 0 ? rc : cmocka_run_group_tests_name("group_rawip", tests, NULL, NULL);
}
