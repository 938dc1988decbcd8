/* SPDX-License-Identifier: MIT */
/// rawip's addresses, claims and sockets, with real raw sockets on the loopback of a network
/// namespace of the test's own, where it may make one. Without CAP_NET_RAW only what needs no
/// socket is tested.
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "transports/rawip/address.c"
#include "transports/rawip/claim.c"
#include "transports/rawip/socket.c"

#define NUMBER 251 // what other programs of the suite use is another one
#define SOON 5000

static bool own_namespace;

static void loopback_set(unsigned long request, struct ifreq *ifr)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memcpy(ifr->ifr_name, "lo", 3);
    assert_int_equal(ioctl(fd, request, ifr), 0);
    (void)close(fd);
}

/// Others may be using the same numbers: away from them, if that is allowed.
static int namespace_enter(void **state)
{
    struct ifreq ifr = {.ifr_flags = IFF_UP};

    (void)state;
    own_namespace = unshare(CLONE_NEWNET) == 0;
    if (own_namespace) {
        loopback_set(SIOCSIFFLAGS, &ifr);
    }
    return 0;
}

/* ------------------------------------------------------------------ Addresses */

static void good_urls(void **state)
{
    static const struct {
        const char *url;
        const char *text;
        uint8_t number;
        bool any;
        bool choose;
    } rows[] = {
        {"rawip://127.0.0.1", "127.0.0.1:0", 253, false, false},
        {"rawip://127.0.0.1:7", "127.0.0.1:7", 253, false, false},
        {"rawip://127.0.0.1:65535/1", "127.0.0.1:65535", 1, false, false},
        {"rawip://127.0.0.1/254", "127.0.0.1:0", 254, false, false},
        {"rawip://127.0.0.1:*", "127.0.0.1:0", 253, false, true},
        {"rawip://*", "0.0.0.0:0", 253, true, false},
        {"rawip://*:9/252", "0.0.0.0:9", 252, true, false},
        {"rawip://:9", "0.0.0.0:9", 253, true, false},
        {"rawip://[::1]", "[::1]:0", 253, false, false},
        {"rawip://[::]:3", "[::]:3", 253, false, false},
        {"rawip://[::1]:8/17", "[::1]:8", 17, false, false},
        {"rawip://[fe80::1%lo]:8/252", "[fe80::1%1]:8", 252, false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        sp_cause cause = {""};
        struct rawip_url u;
        char text[SP_INET_TEXT];

        if (rawip_parse(rows[i].url, &u, &cause) != SP_OK) {
            fail_msg("%s: %s", rows[i].url, cause.text);
        }
        rawip_text(&u.addr, text, sizeof(text));
        assert_string_equal(text, rows[i].text);
        assert_int_equal(u.number, rows[i].number);
        assert_int_equal(u.any, rows[i].any);
        assert_int_equal(u.choose, rows[i].choose);
        assert_int_equal(u.addr.at.in4.sin_port, 0);
    }
}

static void bad_urls_say_which_part(void **state)
{
    static const char *const rows[][2] = {
        {"rawip://127.0.0.1:65536", "endpoint \"65536\": not in 0…65535"},
        {"rawip://127.0.0.1:", "endpoint \"\": not in 0…65535"},
        {"rawip://127.0.0.1:-1", "endpoint \"-1\": not in 0…65535"},
        {"rawip://127.0.0.1:5x", "endpoint \"5x\": not in 0…65535"},
        {"rawip://127.0.0.1:**", "endpoint \"**\": not in 0…65535"},
        {"rawip://127.0.0.1:000005", "endpoint \"000005\": not in 0…65535"},
        {"rawip://127.0.0.1/", "protocol number \"\": not in 1…254"},
        {"rawip://127.0.0.1/0", "protocol number \"0\": not in 1…254"},
        {"rawip://127.0.0.1:1/255", "protocol number \"255\": not in 1…254"},
        {"rawip://127.0.0.1:1/256", "protocol number \"256\": not in 1…254"},
        {"rawip://127.0.0.1:1/udp", "protocol number \"udp\": not in 1…254"},
        {"rawip://127.0.0.1:1/2/3", "protocol number \"2/3\": not in 1…254"},
        {"rawip://[::1]/58", "protocol number \"58\": IPv6 uses it itself"},
        {"rawip://::1", "address \"::1\": IPv6 addresses stand in brackets"},
        {"rawip://::1:5/9", "address \"::1:5/9\": IPv6 addresses stand in brackets"},
        {"rawip://[::1", "address \"[::1\": no IPv6 address in brackets"},
        {"rawip://[]:5", "address \"[]:0\": no IPv6 address in brackets"},
        {"rawip://[::1]5", "address \"[::1]5\": no IPv6 address in brackets"},
        {"rawip://[::g]:5", "host \"::g\": not an IPv6 address"},
        {"rawip://[127.0.0.1]:5", "host \"127.0.0.1\": not an IPv6 address"},
        {"rawip://[fe80::1%none]:5", "host \"fe80::1%none\": no such interface"},
        {"rawip://1.2.3:5", "host \"1.2.3\": neither a name nor an address"},
        {"rawip://a b:5", "host \"a b\": neither a name nor an address"},
    };
    char url[400] = "rawip://";

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        sp_cause cause = {""};
        struct rawip_url u;

        if (rawip_parse(rows[i][0], &u, &cause) != SP_EINVAL ||
            strcmp(cause.text, rows[i][1]) != 0) {
            fail_msg("%s: \"%s\", not \"%s\"", rows[i][0], cause.text, rows[i][1]);
        }
    }
    for (size_t n = 200; n < 380; n++) { // Lengths around every limit.
        sp_cause cause = {""};
        struct rawip_url u;

        memset(url + 8, '!', n);
        url[8 + n] = '\0';
        assert_int_equal(rawip_parse(url, &u, &cause), SP_EINVAL);
    }
}

/* ------------------------------------------------------------------ Claims */

static void endpoint_number_has_one_owner(void **state)
{
    sp_cause cause = {""};
    int fd = rawip_claim(AF_INET, NUMBER, 77, &cause);
    int other;

    (void)state;
    assert_true(fd >= 0);
    assert_true(rawip_claimed(AF_INET, NUMBER, 77));
    assert_int_equal(rawip_claim(AF_INET, NUMBER, 77, &cause), -EADDRINUSE);
    assert_string_equal(cause.text, "bind endpoint 77 of protocol number 251");
    // Another version, protocol number or endpoint is another one.
    assert_false(rawip_claimed(AF_INET6, NUMBER, 77));
    assert_false(rawip_claimed(AF_INET, NUMBER - 1, 77));
    assert_false(rawip_claimed(AF_INET, NUMBER, 78));
    other = rawip_claim(AF_INET6, NUMBER, 77, &cause);
    assert_true(other >= 0);
    (void)close(other);
    (void)close(fd);
    assert_false(rawip_claimed(AF_INET, NUMBER, 77));
}

static void chosen_numbers_are_free_ones(void **state)
{
    enum { MANY = 300 };
    sp_cause cause = {""};
    int fds[MANY];

    (void)state;
    for (unsigned i = 0; i < MANY; i++) {
        uint16_t endpoint = 0;

        fds[i] = rawip_claim_any(AF_INET, NUMBER, UINT16_MAX, &endpoint, &cause);
        assert_true(fds[i] >= 0);
        assert_true(endpoint >= RAWIP_CHOSEN);
        assert_true(rawip_claimed(AF_INET, NUMBER, endpoint));
        assert_int_equal(endpoint,
                         RAWIP_CHOSEN + (UINT16_MAX + i) % (UINT16_MAX + 1 - RAWIP_CHOSEN));
    }
    for (unsigned i = 0; i < MANY; i++) {
        (void)close(fds[i]);
    }
}

/// Datagrams that others send to a claim's name do not gather there.
static void claim_takes_no_datagrams(void **state)
{
    struct sockaddr_un name;
    socklen_t len = claim_name(AF_INET, NUMBER, 79, &name);
    sp_cause cause;
    int fd = rawip_claim(AF_INET, NUMBER, 79, &cause);
    int other = claim_socket();

    (void)state;
    assert_true(fd >= 0);
    assert_true(other >= 0);
    assert_true(sendto(other, "x", 1, MSG_NOSIGNAL, (struct sockaddr *)&name, len) < 0);
    (void)close(other);
    (void)close(fd);
}

/* ------------------------------------------------------------------ Sockets */

static struct sp_dgram_addr at(const char *host, uint16_t number)
{
    sp_cause cause = {""};
    struct rawip_url u;
    char url[128];

    (void)snprintf(url, sizeof(url), "rawip://%s:%u", host, number);
    if (rawip_parse(url, &u, &cause) != SP_OK) {
        fail_msg("%s: %s", url, cause.text);
    }
    return u.addr;
}

static int open_at(const struct sp_dgram_addr *local, const struct sp_dgram_addr *remote)
{
    sp_cause cause = {""};
    int fd = rawip_open(NUMBER, local, remote, &cause);

    if (fd < 0) {
        fail_msg("%d: %s", fd, cause.text);
    }
    return fd;
}

/// A raw socket without any filter, bound to a host.
static int plain(const char *host)
{
    struct sp_dgram_addr a = at(host, 0);
    int fd = socket(a.at.sa.sa_family, SOCK_RAW | SOCK_CLOEXEC, NUMBER);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, &a.at.sa, a.len), 0);
    return fd;
}

/// A datagram of `len` bytes: front, version, a mark.
static void put(int fd, const struct sp_dgram_addr *to, uint16_t source, unsigned version,
                size_t len, unsigned char mark)
{
    static unsigned char bytes[65536];

    memset(bytes, mark, len);
    rawip_front(source, to->number, bytes);
    bytes[RAWIP_FRONT] = (unsigned char)version;
    assert_int_equal(sendto(fd, bytes, len, 0, &to->at.sa, to->len), (ssize_t)len);
}

/// Waits for the next datagram, which must be this one.
static void take(int fd, const char *host, uint16_t source, size_t len, unsigned char mark)
{
    static unsigned char bytes[65536];
    struct sp_dgram_addr from = {.len = sizeof(from.at.in6)};
    struct sp_dgram_addr want = at(host, 0);
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    socklen_t size = sizeof(from.at);
    uint16_t got_source = 0;
    ssize_t skip;
    ssize_t n;

    assert_int_equal(poll(&ready, 1, SOON), 1);
    n = recvfrom(fd, bytes, sizeof(bytes), 0, &from.at.sa, &size);
    assert_true(n > 0);
    skip = rawip_strip(from.at.sa.sa_family, bytes, (size_t)n, &got_source);
    assert_int_equal(skip, (from.at.sa.sa_family == AF_INET ? 20 : 0) + RAWIP_FRONT);
    assert_int_equal(n - skip + RAWIP_FRONT, len);
    assert_int_equal(got_source, source);
    assert_int_equal(bytes[n - 1], mark);
    assert_int_equal(bytes[skip + 1], mark);
    assert_int_equal(size, want.len);
    assert_memory_equal(&from.at, &want.at, want.len);
}

static void nothing(int fd)
{
    char byte;

    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

/// On the loopback a datagram has arrived, or was refused, when sending it returns.
static void only_own_traffic_comes(const char *host)
{
    struct sp_dgram_addr a = at(host, 5);
    struct sp_dgram_addr b = at(host, 6);
    int fa = open_at(&a, NULL);
    int fb = open_at(&b, NULL);
    int out = plain(host);
    struct sp_dgram_addr no = at(host, 0x0500); // 5 with its bytes turned
    int seen;

    put(out, &a, 9, 2, 64, 'v');
    put(out, &a, 9, 0, 64, 'w');
    put(out, &no, 9, 1, 64, 'n');
    put(out, &a, 9, 1, 11, 's');
    assert_int_equal(sendto(out, "", 0, 0, &a.at.sa, a.len), 0);
    assert_int_equal(sendto(out, "abc", 3, 0, &a.at.sa, a.len), 3);
    nothing(fa);
    nothing(fb);
    put(out, &b, 9, 1, 64, 'b');
    put(out, &a, 0xabcd, 1, 12, 'a');
    take(fa, host, 0xabcd, 12, 'a');
    take(fb, host, 9, 64, 'b');
    nothing(fa);
    nothing(fb);
    // It was all there: a socket without a filter has everything of the number.
    seen = 0;
    while (recv(out, &(char){0}, 1, MSG_DONTWAIT) >= 0) {
        seen++;
    }
    assert_true(seen >= 8);
    (void)close(out);
    (void)close(fa);
    (void)close(fb);
}

static void only_own_traffic_comes_ipv4(void **state)
{
    (void)state;
    only_own_traffic_comes("127.0.0.1");
}

static void only_own_traffic_comes_ipv6(void **state)
{
    (void)state;
    only_own_traffic_comes("[::1]");
}

static void dialer_hears_its_peer_alone(const char *host)
{
    struct sp_dgram_addr local = at(host, 40000);
    struct sp_dgram_addr remote = at(host, 5);
    int fd = open_at(&local, &remote);
    int out = plain(host);

    put(out, &local, 6, 1, 64, 'o');
    put(out, &remote, 5, 1, 64, 'r');
    if (remote.at.sa.sa_family == AF_INET) {
        int other = plain("127.0.0.2");

        put(other, &local, 5, 1, 64, 'h');
        (void)close(other);
    }
    nothing(fd);
    put(out, &local, 5, 1, 64, 'y');
    take(fd, host, 5, 64, 'y');
    nothing(fd);
    (void)close(out);
    (void)close(fd);
}

static void dialer_hears_its_peer_alone_ipv4(void **state)
{
    (void)state;
    dialer_hears_its_peer_alone("127.0.0.1");
}

static void dialer_hears_its_peer_alone_ipv6(void **state)
{
    (void)state;
    dialer_hears_its_peer_alone("[::1]");
}

static void largest_datagrams_arrive(void)
{
    static const char *const hosts[] = {"127.0.0.1", "[::1]"};

    for (size_t i = 0; i < 2; i++) {
        struct sp_dgram_addr a = at(hosts[i], 5);
        int fd = open_at(&a, NULL);
        int out = plain(hosts[i]);

        put(out, &a, 9, 1, 65535 - 20, 'l');
        take(fd, hosts[i], 9, 65535 - 20, 'l');
        (void)close(out);
        (void)close(fd);
    }
}

static void largest_datagram_is_whole(void **state)
{
    (void)state;
    largest_datagrams_arrive();
}

/// The system splits what is larger than a packet, and joins it before the filter sees it.
static void largest_datagram_is_whole_in_small_packets(void **state)
{
    struct ifreq ifr = {.ifr_mtu = 1280};
    struct sp_dgram_addr a = at("127.0.0.1", 5);
    struct rawip_path path;

    (void)state;
    if (!own_namespace) {
        print_message("skipped: no network namespace of its own\n");
        skip();
    }
    loopback_set(SIOCSIFMTU, &ifr);
    assert_int_equal(rawip_path(&a, &path), SP_OK);
    if (getenv("SP_TEST_EMULATOR") == NULL) { // It does not know IP_MTU.
        assert_int_equal(path.mtu, 1280);
    }
    largest_datagrams_arrive();
    ifr.ifr_mtu = 65536;
    loopback_set(SIOCSIFMTU, &ifr);
}

static int flood_on = 1; // atomic

static void *flood(void *arg)
{
    struct sp_dgram_addr a = at("127.0.0.1", 6);
    int out = plain("127.0.0.1");

    while (__atomic_load_n(&flood_on, __ATOMIC_RELAXED) != 0) {
        put(out, &a, 9, 1, 64, 'f');
        while (recv(out, &(char){0}, 1, MSG_DONTWAIT) >= 0) {
        }
    }
    (void)close(out);
    return arg;
}

/// While others send on the same number, nothing of theirs is in the queue of a socket that was
/// just opened.
static void what_came_before_the_filter_is_gone(void **state)
{
    struct sp_dgram_addr a = at("127.0.0.1", 5);
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, flood, NULL), 0);
    for (int i = 0; i < 500; i++) {
        int fd = open_at(&a, NULL);

        nothing(fd);
        (void)close(fd);
    }
    __atomic_store_n(&flood_on, 0, __ATOMIC_RELAXED);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void cut_packets_are_refused(void **state)
{
    unsigned char p[80] = {0x45, 0, 0, 40};
    uint16_t source;

    (void)state;
    assert_int_equal(rawip_strip(AF_INET, p, 40, &source), 24);
    assert_int_equal(rawip_strip(AF_INET, p, 39, &source), -EBADMSG);
    assert_int_equal(rawip_strip(AF_INET, p, 41, &source), -EBADMSG);
    assert_int_equal(rawip_strip(AF_INET, p, 19, &source), -EBADMSG);
    p[0] = 0x46; // with options
    assert_int_equal(rawip_strip(AF_INET, p, 40, &source), 28);
    p[0] = 0x4f;
    assert_int_equal(rawip_strip(AF_INET, p, 40, &source), -EBADMSG);
    p[0] = 0x44;
    assert_int_equal(rawip_strip(AF_INET, p, 40, &source), -EBADMSG);
    p[0] = 0x65;
    assert_int_equal(rawip_strip(AF_INET, p, 40, &source), -EBADMSG);
    p[0] = 0x45;
    p[3] = 31;
    assert_int_equal(rawip_strip(AF_INET, p, 31, &source), -EBADMSG);
    p[3] = 32;
    assert_int_equal(rawip_strip(AF_INET, p, 32, &source), 24);
    assert_int_equal(rawip_strip(AF_INET6, p, 11, &source), -EBADMSG);
    assert_int_equal(rawip_strip(AF_INET6, p, 12, &source), 4);
}

static void paths_within_the_machine_are_known(void **state)
{
    struct sp_dgram_addr a = at("127.0.0.1", 5);
    struct sp_dgram_addr b = at("[::1]", 5);
    struct rawip_path path;

    (void)state;
    assert_int_equal(rawip_path(&a, &path), SP_OK);
    assert_true(path.inside);
    assert_true(path.mtu >= 576);
    assert_int_equal(rawip_path(&b, &path), SP_OK);
    assert_true(path.inside);
}

static void refused_addresses_say_why(void **state)
{
    struct sp_dgram_addr elsewhere = at("192.0.2.1", 5);
    sp_cause cause = {""};
    int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int after;

    (void)state;
    assert_int_equal(rawip_open(NUMBER, &elsewhere, NULL, &cause), -EADDRNOTAVAIL);
    assert_string_equal(cause.text, "bind");
    after = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(after, before + 1);
    (void)close(after);
    (void)close(before);
}

static struct __user_cap_data_struct caps[2];

static void caps_call(int nr)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};

    assert_int_equal(syscall(nr, &head, caps), 0);
}

static bool has_net_raw(void)
{
    caps_call(SYS_capget);
    return (caps[0].effective >> CAP_NET_RAW & 1) != 0;
}

static void missing_capability_is_named(void **state)
{
    struct sp_dgram_addr a = at("127.0.0.1", 5);
    sp_cause cause = {""};
    bool had = has_net_raw();
    int rc;

    (void)state;
    caps[0].effective &= ~(1U << CAP_NET_RAW);
    caps_call(SYS_capset);
    rc = rawip_open(NUMBER, &a, NULL, &cause);
    caps[0].effective |= had ? 1U << CAP_NET_RAW : 0;
    caps_call(SYS_capset);
    assert_int_equal(rc, -EPERM);
    assert_non_null(strstr(cause.text, "CAP_NET_RAW"));
    assert_non_null(strstr(cause.text, "udp://"));
}

int main(void)
{
    const struct CMUnitTest anywhere[] = {
        cmocka_unit_test(good_urls),
        cmocka_unit_test(bad_urls_say_which_part),
        cmocka_unit_test(endpoint_number_has_one_owner),
        cmocka_unit_test(chosen_numbers_are_free_ones),
        cmocka_unit_test(claim_takes_no_datagrams),
        cmocka_unit_test(cut_packets_are_refused),
        cmocka_unit_test(paths_within_the_machine_are_known),
        cmocka_unit_test(missing_capability_is_named),
    };
    const struct CMUnitTest raw[] = {
        cmocka_unit_test(only_own_traffic_comes_ipv4),
        cmocka_unit_test(only_own_traffic_comes_ipv6),
        cmocka_unit_test(dialer_hears_its_peer_alone_ipv4),
        cmocka_unit_test(dialer_hears_its_peer_alone_ipv6),
        cmocka_unit_test(largest_datagram_is_whole),
        cmocka_unit_test(largest_datagram_is_whole_in_small_packets),
        cmocka_unit_test(what_came_before_the_filter_is_gone),
        cmocka_unit_test(refused_addresses_say_why),
    };
    int failed = cmocka_run_group_tests_name("rawip socket", anywhere, namespace_enter, NULL);

    if (!has_net_raw()) {
        (void)puts("skipped: raw sockets need CAP_NET_RAW");
        return failed != 0 ? failed : 77;
    }
    return failed + cmocka_run_group_tests_name("rawip socket, raw", raw, NULL, NULL);
}
