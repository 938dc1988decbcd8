/* SPDX-License-Identifier: MIT */
/// Hosts in tests: network namespaces of this machine, joined by a veth pair (two hosts) or by a
/// bridge. They have no names: the test's descriptors alone keep them, so the system removes them
/// with the test program, however that ends, and nothing of them is seen outside. Main thread of a
/// test; failures are cmocka's.
///
/// A socket belongs for ever to the namespace in which it was made, a process to the one of the
/// thread that started it. So between netns_enter and netns_leave the test makes a host's sockets,
/// or starts its programs (proc_start); a program that is part of the test runs by netns_fork. The
/// library is never used in the test's own process then: its threads would be of one host.
#ifndef SP_TEST_NETNS_H
#define SP_TEST_NETNS_H

#include "check.h"

#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#define NETNS_HOSTS 8
#define NETNS_TEXT 512 ///< of what is said between the test and a host's process

struct netns {
    size_t hosts;
    int home;                 ///< where the test itself is
    int fds[NETNS_HOSTS + 1]; ///< [0]: the bridge's; hosts from 1 on
    unsigned mtu;             ///< of the network
};

/// A process of a host, and what it says.
struct netns_proc {
    pid_t pid; ///< 0: none
    int fd;
};

/// Makes 2 … NETNS_HOSTS hosts, numbered from 1, that reach one another over IPv4 and IPv6. Where
/// the machine does not allow it, says so and skips the test.
void netns_open(struct netns *n, size_t hosts);
/// Removes the hosts. What is still connected there finds no network any more.
void netns_close(struct netns *n);

/// The address of a host, as text: "10.83.0.1", "fd83::1"; for a URL in brackets.
const char *netns_addr(size_t host, int family);
const char *netns_url_host(size_t host, int family);
/// … with a port, for the socket calls. Returns its length.
socklen_t netns_sockaddr(size_t host, int family, unsigned port, struct sockaddr_storage *a);

/// The calling thread is in a host's namespace, until netns_leave.
void netns_enter(const struct netns *n, size_t host);
void netns_leave(const struct netns *n);

/// A non-blocking socket of a host, bound to the host's address and a port (0: any) when `type` is
/// SOCK_DGRAM or SOCK_STREAM.
int netns_socket(const struct netns *n, size_t host, int family, int type, unsigned port);

/// Takes the host off the network, or back onto it: its interface goes down and up.
void netns_link(const struct netns *n, size_t host, bool up);
/// The largest packet of the whole network, bytes (1500 at first).
void netns_mtu(struct netns *n, unsigned bytes);
/// Gives the addresses of host `whose` to `host`, which loses its own; `host` itself: its own
/// again.
void netns_readdress(const struct netns *n, size_t host, size_t whose);
/// Waits until a datagram of host `a` comes to `b` at b's addresses, and back, in both families.
void netns_reach(const struct netns *n, size_t a, size_t b);

/// The calling process goes into a network of its own that has a loopback only, which is up, for
/// raw sockets. 0; 77: this machine does not allow it, which it says, and the program is to return.
int netns_alone(void);

/* ------------------------------------------------------------------ Processes */

/// Runs `fn` in a process of its own on a host; the process ends with it. A failed assertion there
/// ends it too, which the test notices by what it hears.
void netns_fork(const struct netns *n, size_t host, struct netns_proc *p,
                void (*fn)(struct netns_proc *test, const void *arg), const void *arg);

/// Says something to the other side. [test, process]
void netns_say(struct netns_proc *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/// Waits for what the other side says; fails when it ends or says nothing within `ms`.
void netns_hear(struct netns_proc *p, char text[NETNS_TEXT], int ms);
/// … and that must be this.
void netns_expect(struct netns_proc *p, const char *want);
/// … and that must begin so, with a number behind it.
long long netns_number(struct netns_proc *p, const char *begin);

/// Waits for its end, which must be without failure.
void netns_join(struct netns_proc *p);
/// Ends it as a crash would.
void netns_kill(struct netns_proc *p);

#endif
