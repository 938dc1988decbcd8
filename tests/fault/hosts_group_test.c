/* SPDX-License-Identifier: MIT */
/// Discovery groups over networks: hosts of which nobody is told of anybody, that come, go, crash,
/// lose the network and come back; and groups that are not to be mixed.
#include "agent.h"
#include "check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HOSTS 5
#define TALKS 5 // announcements after which a stranger would have been heard

static struct netns net;
static struct netns_proc host[HOSTS + 1];
static const char *transport; ///< that is tried now

static const int families[] = {AF_INET, AF_INET6};

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

static void hosts_open(void)
{
    struct in_addr any = {htonl(INADDR_ANY)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &any, sizeof(any)) < 0 &&
        errno == ENOPROTOOPT) {
        print_message("skipped: this system cannot choose the interface of a group\n");
        (void)close(fd);
        skip();
    }
    (void)close(fd);
    netns_open(&net, HOSTS);
}

/// A host's listener in the group `name` of the family; `more`: what its URL has at the end. A peer
/// that is silent is gone after half a second.
static void join(size_t at, int family, const char *name, const char *more)
{
    char url[64];
    char group[64];

    (void)snprintf(group, sizeof(group), "%s:%s", family == AF_INET ? "239.83.0.1" : "[ff02::8353]",
                   name);
    (void)snprintf(url, sizeof(url), "%s://%s:0%s", transport, netns_url_host(at, family), more);
    agent_open(&net, at, &host[at], "bus");
    agent_set(&host[at], "ep:refresh", "100");
    agent_set(&host[at], "ep:conn-retry", "20");
    agent_set(&host[at], "send-timeout", "1000");
    agent_set(&host[at], "ep:group", group);
    agent_set(&host[at], "ep:group-interval", "100");
    agent_listen(&host[at], url);
}

/// The host has one connection to each of so many others, and dials nobody who is not there.
static void knows(size_t at, long long others)
{
    agent_pipes(&host[at], others);
    agent_stat_is(&host[at], "listeners[0].group_members", others);
}

static void group_is_whole(size_t members)
{
    for (size_t i = 1; i <= HOSTS; i++) {
        if (host[i].pid != 0) {
            knows(i, (long long)members - 1);
        }
    }
}

/// Each host says something, and each other one hears it.
static void talk(unsigned number)
{
    for (size_t i = 1; i <= HOSTS; i++) {
        agent_send(&host[i], 100, number);
        for (size_t j = 1; j <= HOSTS; j++) {
            if (j != i) {
                agent_recv(&host[j], 100, number);
            }
        }
    }
}

static void a_group_finds_its_members_and_keeps_the_mesh_whole(void **state)
{
    (void)state;
    hosts_open();
    for (size_t f = 0; f < 2; f++) {
        for (size_t i = 1; i <= HOSTS; i++) {
            join(i, families[f], "7001", "");
        }
        group_is_whole(HOSTS);
        talk(1);
        agent_end(&host[2]); // goes
        group_is_whole(HOSTS - 1);
        netns_kill(&host[4]); // crashes
        group_is_whole(HOSTS - 2);
        join(2, families[f], "7001", "");
        group_is_whole(HOSTS - 1);
        join(4, families[f], "7001", "");
        group_is_whole(HOSTS);
        talk(2);
        netns_link(&net, 3, false);
        agent_stat_is(&host[3], "listeners[0].group_members", 0);
        agent_pipes(&host[3], 0);
        netns_link(&net, 3, true);
        group_is_whole(HOSTS);
        talk(3);
        agent_end_all(host, HOSTS + 1);
    }
}

/// The same address with another port or endpoint number is another group; and so it is under
/// another protocol number.
static void groups_that_differ_do_not_mix(void **state)
{
    bool raw = strcmp(transport, "rawip") == 0;
    size_t last = raw ? 5 : 4;

    (void)state;
    hosts_open();
    for (size_t f = 0; f < 2; f++) {
        for (size_t i = 1; i <= last; i++) {
            join(i, families[f], i <= 2 || i == 5 ? "7001" : "7002", i == 5 ? "/252" : "");
        }
        for (size_t i = 1; i <= 4; i++) {
            knows(i, 1);
        }
        for (size_t i = 1; i <= last; i++) {
            agent_stat_least(&host[i], "listeners[0].group_tx",
                             agent_stat(&host[i], "listeners[0].group_tx") + TALKS);
        }
        for (size_t i = 1; i <= last; i++) {
            assert_int_equal(agent_stat(&host[i], "listeners[0].group_members"), i == 5 ? 0 : 1);
            assert_int_equal(agent_stat(&host[i], "pipes"), i == 5 ? 0 : 1);
            // Nothing of another group came as far as that.
            assert_int_equal(agent_stat(&host[i], "listeners[0].group_refused"), 0);
        }
        agent_send(&host[1], 100, 1);
        agent_recv(&host[2], 100, 1);
        agent_send(&host[3], 100, 2);
        agent_recv(&host[4], 100, 2);
        agent_end_all(host, HOSTS + 1);
    }
}

/* ------------------------------------------------------------------ Transports */

static void no_raw_sockets(void **state)
{
    (void)state;
    print_message("skipped: rawip: raw sockets need CAP_NET_RAW\n");
    skip();
}

static void no_transport(void **state)
{
    print_message("skipped: %s is not built\n", (const char *)*state);
    skip();
}

/// The fact over a transport, if that is part of this build and may be used. The library itself is
/// not asked: it is not for this process.
static struct CMUnitTest over(const char *name, void (*fact)(void **), const char *scheme)
{
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s/transports/%s.so", SP_TEST_BUILD_DIR, scheme);
    if (access(path, R_OK) != 0) {
        fact = no_transport;
    } else if (strcmp(scheme, "rawip") == 0 && !check_net_raw()) {
        fact = no_raw_sockets;
    }
    return (struct CMUnitTest){name, fact, start, stop, (void *)(uintptr_t)scheme};
}

#define fact(fn, scheme) over(#fn " " scheme, fn, scheme)

int main(void)
{
    const struct CMUnitTest tests[] = {
        fact(a_group_finds_its_members_and_keeps_the_mesh_whole, "udp"),
        fact(a_group_finds_its_members_and_keeps_the_mesh_whole, "rawip"),
        fact(groups_that_differ_do_not_mix, "udp"),
        fact(groups_that_differ_do_not_mix, "rawip"),
    };

    return cmocka_run_group_tests_name("hosts_group", tests, NULL, NULL);
}
