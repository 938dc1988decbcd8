/* SPDX-License-Identifier: MIT */
/// Hosts in tests. The program `ip` does what is to be done in a namespace; the calling thread goes
/// there to start it.
#include "netns.h"
#include "proc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define NETNS_BRIDGE 0 // the place of the bridge's namespace
#define NETNS_DEVICE "eth0"

/* ------------------------------------------------------------------ Addresses */

const char *netns_addr(size_t host, int family)
{
    static char text[2][NETNS_HOSTS + 1][16];
    char *at = text[family == AF_INET6][host];

    (void)snprintf(at, 16, family == AF_INET6 ? "fd83::%zu" : "10.83.0.%zu", host);
    return at;
}

const char *netns_url_host(size_t host, int family)
{
    static char text[NETNS_HOSTS + 1][20];

    if (family != AF_INET6) {
        return netns_addr(host, family);
    }
    (void)snprintf(text[host], sizeof(text[host]), "[%s]", netns_addr(host, family));
    return text[host];
}

socklen_t netns_sockaddr(size_t host, int family, unsigned port, struct sockaddr_storage *a)
{
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)a;
    struct sockaddr_in *in = (struct sockaddr_in *)a;

    memset(a, 0, sizeof(*a));
    a->ss_family = (sa_family_t)family;
    if (family == AF_INET6) {
        in6->sin6_port = htons((uint16_t)port);
        (void)inet_pton(AF_INET6, netns_addr(host, family), &in6->sin6_addr);
        return sizeof(*in6);
    }
    in->sin_port = htons((uint16_t)port);
    (void)inet_pton(AF_INET, netns_addr(host, family), &in->sin_addr);
    return sizeof(*in);
}

/* ------------------------------------------------------------------ Namespaces */

static void netns_go(int fd)
{
    if (setns(fd, CLONE_NEWNET) < 0) {
        fail_msg("setns: %s", strerror(errno));
    }
}

void netns_enter(const struct netns *n, size_t host)
{
    netns_go(n->fds[host]);
}

void netns_leave(const struct netns *n)
{
    netns_go(n->home);
}

/// Runs `ip` in a namespace. False: it failed, and said this.
static bool netns_try(const struct netns *n, size_t where, const char *words, char said[256])
{
    const char *argv[32] = {"ip"};
    struct proc p;
    char copy[256];
    char *rest = copy;
    size_t argc = 1;
    int code;

    (void)snprintf(copy, sizeof(copy), "%s", words);
    while (argc < 31 && (argv[argc] = strsep(&rest, " ")) != NULL) {
        argc++;
    }
    argv[argc] = NULL;
    netns_enter(n, where);
    code = proc_start(&p, argv);
    netns_leave(n);
    (void)snprintf(said, 256, "%s", strerror(-code));
    if (code == 0) {
        code = proc_wait(&p, PROC_SOON);
        (void)snprintf(said, 256, "%s", p.errors.data != NULL ? p.errors.data : "it did not end");
        said[strcspn(said, "\n")] = '\0';
        proc_stop(&p);
    }
    return code == 0;
}

__attribute__((format(printf, 3, 4))) static void netns_ip(const struct netns *n, size_t where,
                                                           const char *fmt, ...)
{
    char words[256];
    char said[256];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(words, sizeof(words), fmt, ap);
    va_end(ap);
    if (!netns_try(n, where, words, said)) {
        fail_msg("ip %s: %s", words, said);
    }
}

static void netns_skip(struct netns *n, const char *what, const char *why)
{
    netns_close(n);
    print_message("skipped: no hosts of their own: %s: %s\n", what, why);
    skip();
}

static int netns_this(void)
{
    return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

/// Makes the namespaces; false: errno says why not.
static bool netns_make(struct netns *n)
{
    for (size_t i = 0; i <= n->hosts; i++) {
        if (unshare(CLONE_NEWNET) < 0) {
            return false;
        }
        n->fds[i] = netns_this();
        netns_leave(n);
    }
    return true;
}

/// A device of a host whose other end is `peer` at `where`.
static bool netns_pair(const struct netns *n, size_t host, size_t where, const char *peer,
                       char said[256])
{
    char words[256];

    (void)snprintf(words, sizeof(words),
                   "link add " NETNS_DEVICE " type veth peer name %s netns /proc/%d/fd/%d", peer,
                   (int)getpid(), n->fds[where]);
    return netns_try(n, host, words, said);
}

/// The cables: a pair of two hosts, or a port of the bridge for each.
static bool netns_join_all(const struct netns *n, char said[256])
{
    if (n->hosts == 2) {
        return netns_pair(n, 1, 2, NETNS_DEVICE, said);
    }
    if (!netns_try(n, NETNS_BRIDGE,
                   "link add bridge type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                   said)) {
        return false;
    }
    for (size_t i = 1; i <= n->hosts; i++) {
        char port[16];

        (void)snprintf(port, sizeof(port), "port%zu", i);
        if (!netns_pair(n, i, NETNS_BRIDGE, port, said)) {
            return false;
        }
        netns_ip(n, NETNS_BRIDGE, "link set %s master bridge up", port);
    }
    netns_ip(n, NETNS_BRIDGE, "link set bridge up");
    return true;
}

/// Without detection of duplicates: the address is there at once.
static void netns_give(const struct netns *n, size_t host, size_t whose)
{
    netns_ip(n, host, "addr replace %s/24 dev " NETNS_DEVICE, netns_addr(whose, AF_INET));
    netns_ip(n, host, "addr replace %s/64 dev " NETNS_DEVICE " nodad", netns_addr(whose, AF_INET6));
}

void netns_open(struct netns *n, size_t hosts)
{
    char said[256];

    *n = (struct netns){.hosts = hosts, .mtu = 1500};
    for (size_t i = 0; i <= NETNS_HOSTS; i++) {
        n->fds[i] = -1;
    }
    assert_in_range(hosts, 2, NETNS_HOSTS);
    n->home = netns_this();
    if (!proc_exists("ip")) {
        netns_skip(n, "ip", "the program is missing (iproute2)");
    }
    if (n->home < 0 || !netns_make(n)) {
        netns_skip(n, "unshare", strerror(errno));
    }
    if (!netns_join_all(n, said)) {
        netns_skip(n, "ip", said);
    }
    for (size_t i = 1; i <= hosts; i++) {
        netns_ip(n, i, "link set lo up");
        netns_ip(n, i, "link set " NETNS_DEVICE " up");
        netns_give(n, i, i);
    }
    for (size_t i = 2; i <= hosts; i++) {
        netns_reach(n, 1, i);
    }
}

void netns_close(struct netns *n)
{
    for (size_t i = 0; i <= NETNS_HOSTS; i++) {
        if (n->fds[i] >= 0) {
            (void)close(n->fds[i]);
            n->fds[i] = -1;
        }
    }
    if (n->home >= 0) {
        (void)close(n->home);
        n->home = -1;
    }
}

/* ------------------------------------------------------------------ The network */

int netns_socket(const struct netns *n, size_t host, int family, int type, unsigned port)
{
    struct sockaddr_storage a;
    socklen_t len = netns_sockaddr(host, family, port, &a);
    int fd;

    netns_enter(n, host);
    fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    netns_leave(n);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0) {
        fail_msg("socket of host %zu: %s", host, strerror(errno));
    }
    return fd;
}

void netns_link(const struct netns *n, size_t host, bool up)
{
    netns_ip(n, host, "link set " NETNS_DEVICE " %s", up ? "up" : "down");
    if (up) {
        netns_give(n, host, host); // IPv6 has lost it
    }
}

void netns_mtu(struct netns *n, unsigned bytes)
{
    n->mtu = bytes;
    for (size_t i = 1; i <= n->hosts; i++) {
        netns_ip(n, i, "link set " NETNS_DEVICE " mtu %u", bytes);
        if (n->hosts > 2) {
            netns_ip(n, NETNS_BRIDGE, "link set port%zu mtu %u", i, bytes);
        }
    }
}

void netns_readdress(const struct netns *n, size_t host, size_t whose)
{
    netns_ip(n, host, "addr flush dev " NETNS_DEVICE " scope global");
    netns_give(n, host, whose);
    // The others remember who had the address.
    for (size_t i = 1; i <= n->hosts; i++) {
        netns_ip(n, i, "neigh flush all");
    }
}

/// One datagram from `from` to `to`'s address, sent until it is there: the first ones may go before
/// the network is ready.
static void netns_probe(const struct netns *n, size_t from, size_t to, int family)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    int rx = netns_socket(n, to, family, SOCK_DGRAM, 0);
    int tx = netns_socket(n, from, family, SOCK_DGRAM, 0);
    struct pollfd item = {.fd = rx, .events = POLLIN};
    int64_t end = check_now() + CHECK_SOON;

    assert_int_equal(getsockname(rx, (struct sockaddr *)&a, &len), 0);
    do {
        if (check_now() >= end) {
            fail_msg("host %zu does not reach host %zu", from, to);
        }
        (void)!sendto(tx, "?", 1, 0, (struct sockaddr *)&a, len);
    } while (poll(&item, 1, 20) <= 0);
    (void)close(rx);
    (void)close(tx);
}

void netns_reach(const struct netns *n, size_t a, size_t b)
{
    static const int families[] = {AF_INET, AF_INET6};

    for (size_t i = 0; i < 2; i++) {
        netns_probe(n, a, b, families[i]);
        netns_probe(n, b, a, families[i]);
    }
}

int netns_alone(void)
{
    struct ifreq ifr = {.ifr_flags = IFF_UP | IFF_MULTICAST, .ifr_name = "lo"};
    const char *why = NULL;
    int fd;

    if (!check_net_raw()) {
        why = "raw sockets need CAP_NET_RAW";
    } else if (unshare(CLONE_NEWNET) < 0) {
        why = "no network namespace for the test (CAP_SYS_ADMIN)";
    } else {
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        why = ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? "the loopback does not go up" : NULL;
        (void)close(fd);
    }
    if (why != NULL) {
        (void)printf("skipped: %s\n", why);
    }
    return why != NULL ? 77 : 0;
}

/* ------------------------------------------------------------------ Processes */

/// The child's life: cmocka ends it when an assertion fails, instead of going on with the next
/// test.
static _Noreturn void netns_child(struct netns_proc *test,
                                  void (*fn)(struct netns_proc *test, const void *arg),
                                  const void *arg)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
    fn(test, arg);
    (void)close(test->fd);
    exit(0); // with the sanitizers' last look
}

void netns_fork(const struct netns *n, size_t host, struct netns_proc *p,
                void (*fn)(struct netns_proc *test, const void *arg), const void *arg)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    (void)fflush(NULL);
    netns_enter(n, host);
    p->pid = fork();
    if (p->pid == 0) {
        struct netns_proc test = {.pid = 0, .fd = pair[1]};

        (void)close(pair[0]);
        netns_child(&test, fn, arg);
    }
    netns_leave(n);
    (void)close(pair[1]);
    p->fd = pair[0];
    assert_true(p->pid > 0);
}

void netns_say(struct netns_proc *p, const char *fmt, ...)
{
    char text[NETNS_TEXT];
    va_list ap;
    int len;

    va_start(ap, fmt);
    len = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    assert_in_range(len, 1, sizeof(text) - 1);
    assert_int_equal(send(p->fd, text, (size_t)len, MSG_NOSIGNAL), len);
}

void netns_hear(struct netns_proc *p, char text[NETNS_TEXT], int ms)
{
    struct pollfd item = {.fd = p->fd, .events = POLLIN};
    ssize_t len;

    if (poll(&item, 1, ms) <= 0) {
        fail_msg("nothing was said for %d ms", ms);
    }
    len = recv(p->fd, text, NETNS_TEXT - 1, 0);
    if (len <= 0) {
        fail_msg("the other side has ended");
    }
    text[len] = '\0';
}

void netns_expect(struct netns_proc *p, const char *want)
{
    char text[NETNS_TEXT];

    netns_hear(p, text, CHECK_SOON * 2);
    assert_string_equal(text, want);
}

long long netns_number(struct netns_proc *p, const char *begin)
{
    char text[NETNS_TEXT];
    size_t len = strlen(begin);

    netns_hear(p, text, CHECK_SOON * 2);
    if (strncmp(text, begin, len) != 0) {
        fail_msg("\"%s\" was said, not \"%s…\"", text, begin);
    }
    return strtoll(text + len, NULL, 10);
}

static int netns_reap(struct netns_proc *p)
{
    int status = 0;

    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    (void)close(p->fd);
    *p = (struct netns_proc){0};
    return status;
}

void netns_join(struct netns_proc *p)
{
    char text[NETNS_TEXT];
    struct pollfd item = {.fd = p->fd, .events = POLLIN};

    // Its end closes the connection; until then it may say something that nobody expects.
    if (poll(&item, 1, CHECK_SOON * 2) <= 0) {
        fail_msg("the process does not end");
    }
    assert_int_equal(recv(p->fd, text, sizeof(text), 0), 0);
    assert_int_equal(netns_reap(p), 0);
}

void netns_kill(struct netns_proc *p)
{
    (void)kill(p->pid, SIGKILL);
    (void)netns_reap(p);
}
