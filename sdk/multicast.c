/* SPDX-License-Identifier: MIT */
/// Multicast sockets.
#include <sp/sdk/multicast.h>

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

#include <sp/sdk/cause.h>

bool sp_inet_is_multicast(const sp_inet *a)
{
    return a->sa.sa_family == AF_INET6 ? IN6_IS_ADDR_MULTICAST(&a->in6.sin6_addr)
                                       : IN_MULTICAST(ntohl(a->in4.sin_addr.s_addr));
}

static int multicast_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

/// The interface that has an IPv6 address; 0: none, or any.
static unsigned multicast_index(const sp_inet *via)
{
    struct ifaddrs *list = NULL;
    unsigned index = via->in6.sin6_scope_id;

    if (index != 0 || sp_inet_is_any(via) || getifaddrs(&list) < 0) {
        return index;
    }
    for (const struct ifaddrs *i = list; i != NULL && index == 0; i = i->ifa_next) {
        struct sockaddr_in6 at;

        if (i->ifa_addr != NULL && i->ifa_addr->sa_family == AF_INET6) {
            memcpy(&at, i->ifa_addr, sizeof(at));
            if (memcmp(&at.sin6_addr, &via->in6.sin6_addr, sizeof(at.sin6_addr)) == 0) {
                index = if_nametoindex(i->ifa_name);
            }
        }
    }
    freeifaddrs(list);
    return index;
}

int sp_multicast_from(int fd, sp_inet *group, const sp_inet *via, sp_cause *cause)
{
    bool fine;

    if (group->sa.sa_family == AF_INET6) {
        if (group->in6.sin6_scope_id == 0) {
            group->in6.sin6_scope_id = multicast_index(via);
        }
        fine = multicast_set(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, (int)group->in6.sin6_scope_id) ==
                   0 &&
               multicast_set(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 1) == 0 &&
               multicast_set(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 1) == 0;
#ifdef IPV6_MULTICAST_ALL
        (void)multicast_set(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
#endif
    } else {
        fine = setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &via->in4.sin_addr,
                          sizeof(via->in4.sin_addr)) == 0 &&
               multicast_set(fd, IPPROTO_IP, IP_MULTICAST_TTL, 1) == 0 &&
               multicast_set(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 1) == 0;
        (void)multicast_set(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
    }
    return fine ? 0 : sp_fail(cause, -errno, "group: interface");
}

static int multicast_member(int fd, const sp_inet *group, const sp_inet *via)
{
    if (group->sa.sa_family == AF_INET6) {
        struct ipv6_mreq six = {.ipv6mr_multiaddr = group->in6.sin6_addr,
                                .ipv6mr_interface = group->in6.sin6_scope_id};

        return setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &six, sizeof(six));
    }
    struct ip_mreq four = {.imr_multiaddr = group->in4.sin_addr,
                           .imr_interface = via->in4.sin_addr};

    (void)multicast_set(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
    return setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &four, sizeof(four));
}

int sp_multicast_join(int fd, const sp_inet *group, const sp_inet *via, sp_cause *cause)
{
    if (multicast_set(fd, SOL_SOCKET, SO_REUSEADDR, 1) < 0 ||
        bind(fd, &group->sa, sp_inet_len(group)) < 0) {
        return sp_fail(cause, -errno, "group: bind");
    }
    return multicast_member(fd, group, via) < 0 ? sp_fail(cause, -errno, "group: join") : 0;
}
