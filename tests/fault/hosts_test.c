/* SPDX-License-Identifier: MIT */
/// Datagram transports between hosts of their own: links that go and come back, peers that crash
/// and start again, addresses that change hands, messages larger than a packet.
#include "agent.h"
#include "check.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HOSTS 5
#define PORT 7000
#define LARGE 60000

static struct netns net;
static struct netns_proc host[HOSTS + 1];
static const char *transport; ///< that is tried now

static void url_of(size_t of, int family, char url[64])
{
    (void)snprintf(url, 64, "%s://%s:%d", transport, netns_url_host(of, family), PORT);
}

/// A host with a socket; a silent peer is gone after half a second.
static void open_on(size_t at, const char *protocol)
{
    agent_open(&net, at, &host[at], protocol);
    agent_set(&host[at], "ep:refresh", "100");
    agent_set(&host[at], "ep:conn-retry", "20");
    agent_set(&host[at], "send-timeout", "1000");
}

static void listen_on(size_t at, int family)
{
    char url[64];

    url_of(at, family, url);
    agent_listen(&host[at], url);
}

static void dial_from(size_t from, size_t to, int family)
{
    char url[64];

    url_of(to, family, url);
    agent_dial(&host[from], url);
}

/// One listens on host 1, one dials from host 2.
static void couple(const char *a, const char *b, int family)
{
    open_on(1, a);
    listen_on(1, family);
    open_on(2, b);
    dial_from(2, 1, family);
    agent_pipes(&host[2], 1);
    agent_pipes(&host[1], 1);
}

static int start(void **state)
{
    transport = *state;
    memset(host, 0, sizeof(host));
    return 0;
}

static int stop(void **state)
{
    (void)state;
    agent_kill_all(host, HOSTS + 1);
    netns_close(&net);
    return 0;
}

/* ------------------------------------------------------------------ Two hosts */

static void two_hosts_talk(void **state)
{
    static const int families[] = {AF_INET, AF_INET6};

    (void)state;
    netns_open(&net, 2);
    for (size_t i = 0; i < 2; i++) {
        couple("rep", "req", families[i]);
        for (unsigned j = 0; j < 20; j++) {
            agent_exchange(&host[2], &host[1], 8 + j * 100, j);
        }
        agent_end_all(host, HOSTS + 1);
    }
}

static void a_message_larger_than_a_packet_arrives_whole(void **state)
{
    static const int families[] = {AF_INET, AF_INET6};

    (void)state;
    netns_open(&net, 2);
    for (size_t i = 0; i < 2; i++) {
        couple("pair", "pair", families[i]);
        for (unsigned j = 0; j < 10; j++) {
            agent_send(&host[1], LARGE, j);
            agent_recv(&host[2], LARGE, j);
            agent_send(&host[2], LARGE, j);
            agent_recv(&host[1], LARGE, j);
        }
        agent_end_all(host, HOSTS + 1);
    }
}

static void a_network_that_takes_less_from_now_on_is_no_obstacle(void **state)
{
    (void)state;
    netns_open(&net, 2);
    couple("pair", "pair", AF_INET);
    agent_send(&host[1], 1400, 1);
    agent_recv(&host[2], 1400, 1);
    netns_mtu(&net, 1280);
    agent_send_until(&host[1], 1400, 2, &host[2]);
    agent_send_until(&host[2], LARGE, 3, &host[1]);
    agent_end_all(host, HOSTS + 1);
}

static void a_link_that_is_down_for_a_moment_ends_nothing(void **state)
{
    (void)state;
    netns_open(&net, 2);
    // More patience than the link is away.
    open_on(1, "rep");
    agent_set(&host[1], "ep:refresh", "5000");
    listen_on(1, AF_INET);
    open_on(2, "req");
    agent_set(&host[2], "ep:refresh", "5000");
    agent_set(&host[2], "req:resend-time", "100");
    agent_set(&host[2], "req:resend-tick", "10");
    dial_from(2, 1, AF_INET);
    agent_pipes(&host[1], 1);
    agent_exchange(&host[2], &host[1], 100, 1);
    netns_link(&net, 2, false);
    agent_send(&host[2], 100, 2);
    assert_int_equal(agent_recv_any(&host[1], 300), -1);
    netns_link(&net, 2, true);
    agent_recv(&host[1], 100, 2); // it was asked again
    agent_send(&host[1], 100, 2);
    agent_recv(&host[2], 100, 2);
    assert_int_equal(agent_stat(&host[1], "listeners[0].connect"), 1);
    agent_end_all(host, HOSTS + 1);
}

static void a_link_that_is_down_for_long_ends_the_connection_and_a_new_one_follows(void **state)
{
    static const int families[] = {AF_INET, AF_INET6};

    (void)state;
    netns_open(&net, 2);
    for (size_t i = 0; i < 2; i++) {
        couple("pair", "pair", families[i]);
        agent_send(&host[2], 100, 1);
        agent_recv(&host[1], 100, 1);
        netns_link(&net, 1, false);
        agent_pipes(&host[1], 0);
        agent_pipes(&host[2], 0);
        netns_link(&net, 1, true);
        agent_pipes(&host[2], 1);
        agent_pipes(&host[1], 1);
        agent_send_until(&host[2], 100, 2, &host[1]);
        agent_send_until(&host[1], 100, 3, &host[2]);
        agent_end_all(host, HOSTS + 1);
    }
}

static void a_listener_that_crashed_is_dialled_again(void **state)
{
    (void)state;
    netns_open(&net, 2);
    couple("rep", "req", AF_INET);
    agent_set(&host[2], "req:resend-time", "100");
    agent_set(&host[2], "req:resend-tick", "10");
    agent_exchange(&host[2], &host[1], 100, 1);
    for (unsigned i = 2; i < 5; i++) {
        netns_kill(&host[1]);
        open_on(1, "rep");
        listen_on(1, AF_INET);
        agent_send(&host[2], 100, i);
        agent_recv(&host[1], 100, i);
        agent_send(&host[1], 100, i);
        agent_recv(&host[2], 100, i);
    }
    agent_pipes(&host[2], 1);
    agent_end_all(host, HOSTS + 1);
}

/// The listener's record is of the one that crashed: the same address is another peer now.
static void a_dialer_that_crashed_is_another_peer_at_the_same_address(void **state)
{
    char local[64];

    (void)state;
    netns_open(&net, 2);
    (void)snprintf(local, sizeof(local), "%s:%d", netns_addr(2, AF_INET), PORT);
    open_on(1, "pair");
    agent_set(&host[1], "ep:refresh", "60000"); // silence alone would not do
    listen_on(1, AF_INET);
    for (unsigned i = 1; i < 4; i++) {
        open_on(2, "pair");
        agent_set(&host[2], "ep:local-address", local);
        dial_from(2, 1, AF_INET);
        agent_pipes(&host[2], 1);
        agent_stat_is(&host[1], "listeners[0].connect", i);
        agent_pipes(&host[1], 1);
        agent_send(&host[2], 100, i);
        agent_recv(&host[1], 100, i);
        agent_send(&host[1], 100, i);
        agent_recv(&host[2], 100, i);
        if (i < 3) {
            netns_kill(&host[2]);
        }
    }
    agent_end_all(host, HOSTS + 1);
}

static void an_address_is_free_again_at_once(void **state)
{
    (void)state;
    netns_open(&net, 2);
    open_on(2, "req");
    dial_from(2, 1, AF_INET);
    for (unsigned i = 0; i < 5; i++) {
        open_on(1, "rep");
        listen_on(1, AF_INET);
        agent_pipes(&host[2], 1);
        agent_exchange(&host[2], &host[1], 100, i);
        agent_end(&host[1]);
        agent_pipes(&host[2], 0);
    }
    agent_end_all(host, HOSTS + 1);
}

/* ------------------------------------------------------------------ Five hosts */

static void another_host_takes_over_at_the_address(void **state)
{
    char url[64];

    (void)state;
    netns_open(&net, 5);
    couple("rep", "req", AF_INET);
    agent_exchange(&host[2], &host[1], 100, 1);
    netns_link(&net, 1, false);
    netns_readdress(&net, 3, 1);
    open_on(3, "rep");
    url_of(1, AF_INET, url);
    agent_listen(&host[3], url);
    agent_set(&host[2], "req:resend-time", "100");
    agent_set(&host[2], "req:resend-tick", "10");
    agent_send(&host[2], 100, 2);
    agent_recv(&host[3], 100, 2);
    agent_send(&host[3], 100, 2);
    agent_recv(&host[2], 100, 2);
    agent_pipes(&host[1], 0); // it is off the network, and has noticed
    agent_end_all(host, HOSTS + 1);
}

static void one_host_serves_four(void **state)
{
    (void)state;
    netns_open(&net, 5);
    open_on(1, "rep");
    listen_on(1, AF_INET6);
    for (size_t i = 2; i <= 5; i++) {
        open_on(i, "req");
        dial_from(i, 1, AF_INET6);
    }
    agent_pipes(&host[1], 4);
    for (unsigned round = 0; round < 5; round++) {
        for (size_t i = 2; i <= 5; i++) {
            agent_exchange(&host[i], &host[1], round == 4 ? LARGE : 64, round * 10 + (unsigned)i);
        }
    }
    agent_end_all(host, HOSTS + 1);
}

static void every_subscriber_gets_what_is_published(void **state)
{
    (void)state;
    netns_open(&net, 5);
    open_on(1, "pub");
    listen_on(1, AF_INET);
    for (size_t i = 2; i <= 5; i++) {
        open_on(i, "sub");
        agent_set(&host[i], "subscribe", "00"); // what numbers begin with
        dial_from(i, 1, AF_INET);
    }
    agent_pipes(&host[1], 4);
    for (size_t i = 2; i <= 5; i++) {
        agent_send_until(&host[1], 100, (unsigned)i, &host[i]);
    }
    // Whatever else is on its way: each gets this, and its large one whole.
    agent_send(&host[1], LARGE, 77);
    for (size_t i = 2; i <= 5; i++) {
        int got;

        while ((got = agent_recv_any(&host[i], CHECK_SOON)) != 77) {
            assert_in_range(got, 2, 5);
        }
    }
    agent_end_all(host, HOSTS + 1);
}

static void mesh_open(void)
{
    for (size_t i = 1; i <= HOSTS; i++) {
        open_on(i, "bus");
        listen_on(i, AF_INET);
        for (size_t j = 1; j < i; j++) {
            dial_from(i, j, AF_INET);
        }
    }
    for (size_t i = 1; i <= HOSTS; i++) {
        agent_pipes(&host[i], HOSTS - 1);
    }
}

/// Everybody says something, and everybody but `without` (0: nobody) hears it.
static void mesh_talk(unsigned number, size_t without)
{
    for (size_t i = 1; i <= HOSTS; i++) {
        if (i == without) {
            continue;
        }
        agent_send(&host[i], 100, number);
        for (size_t j = 1; j <= HOSTS; j++) {
            if (j != i && j != without) {
                agent_recv(&host[j], 100, number);
            }
        }
    }
}

static void a_bus_of_five_hosts_loses_one_and_is_whole_again(void **state)
{
    (void)state;
    netns_open(&net, 5);
    mesh_open();
    mesh_talk(1, 0);
    netns_link(&net, 3, false);
    agent_pipes(&host[3], 0);
    for (size_t i = 1; i <= HOSTS; i++) {
        agent_pipes(&host[i], i == 3 ? 0 : HOSTS - 2);
    }
    mesh_talk(2, 3);
    netns_link(&net, 3, true);
    for (size_t i = 1; i <= HOSTS; i++) {
        agent_pipes(&host[i], HOSTS - 1);
    }
    mesh_talk(3, 0);
    agent_end_all(host, HOSTS + 1);
}

struct fact {
    const char *name;
    void (*fn)(void **state);
    const char *only; ///< a transport; NULL: all
};

#define fact(fn, only)                                                                             \
    {                                                                                              \
#fn, fn, only                                                                              \
    }

static const struct fact facts[] = {
    fact(two_hosts_talk, NULL),
    fact(a_message_larger_than_a_packet_arrives_whole, NULL),
    fact(a_network_that_takes_less_from_now_on_is_no_obstacle, NULL),
    fact(a_link_that_is_down_for_a_moment_ends_nothing, NULL),
    fact(a_link_that_is_down_for_long_ends_the_connection_and_a_new_one_follows, NULL),
    fact(a_listener_that_crashed_is_dialled_again, NULL),
    fact(a_dialer_that_crashed_is_another_peer_at_the_same_address, "udp"),
    fact(an_address_is_free_again_at_once, NULL),
    fact(another_host_takes_over_at_the_address, NULL),
    fact(one_host_serves_four, NULL),
    fact(every_subscriber_gets_what_is_published, NULL),
    fact(a_bus_of_five_hosts_loses_one_and_is_whole_again, NULL),
};

/// The transports of datagrams that go from host to host.
static const char *const transports[] = {"udp", "rawip"};

#define FACTS (sizeof(facts) / sizeof(facts[0]))
#define TRANSPORTS (sizeof(transports) / sizeof(transports[0]))

/// In place of each fact over rawip where this process may not use it.
static void no_raw_sockets(void **state)
{
    (void)state;
    print_message("skipped: rawip: raw sockets need CAP_NET_RAW\n");
    skip();
}

static bool may_use(const char *name)
{
    return strcmp(name, "rawip") != 0 || check_net_raw();
}

/// Whether it is part of this build. The library itself is not asked: it is not for this process.
static bool is_built(const char *name)
{
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s/transports/%s.so", SP_TEST_BUILD_DIR, name);
    return access(path, R_OK) == 0;
}

int main(void)
{
    static struct CMUnitTest tests[FACTS * TRANSPORTS];
    static char names[FACTS * TRANSPORTS][128];
    size_t n = 0;

    for (size_t t = 0; t < TRANSPORTS; t++) {
        for (size_t f = 0; f < FACTS && is_built(transports[t]); f++) {
            if (facts[f].only == NULL || strcmp(facts[f].only, transports[t]) == 0) {
                (void)snprintf(names[n], sizeof(names[n]), "%s %s", facts[f].name, transports[t]);
                tests[n] = (struct CMUnitTest){
                    names[n], may_use(transports[t]) ? facts[f].fn : no_raw_sockets, start, stop,
                    (void *)(uintptr_t)transports[t]};
                n++;
            }
        }
    }
    if (n == 0) {
        print_message("skipped: no transport of datagrams is built\n");
        return 77;
    }
    return _cmocka_run_group_tests("hosts", tests, n, NULL, NULL);
}
