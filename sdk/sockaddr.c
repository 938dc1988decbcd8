/* SPDX-License-Identifier: MIT */
/// Internet addresses as text and back. No state; sp_inet_resolve of a name may block.
#include <sp/sdk/sockaddr.h>

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sp/sdk/cause.h>

/// "0" … "65535", digits alone.
static int port_parse(const char *text, uint16_t *port, sp_cause *cause)
{
    unsigned long v = 0;
    size_t n = strspn(text, "0123456789");

    if (n == 0 || n > 5 || text[n] != '\0') {
        return sp_fail(cause, SP_EINVAL, "port \"%.32s\": not in 0…65535", text);
    }
    for (size_t i = 0; i < n; i++) {
        v = v * 10 + (unsigned long)(text[i] - '0');
    }
    if (v > UINT16_MAX) {
        return sp_fail(cause, SP_EINVAL, "port \"%.32s\": not in 0…65535", text);
    }
    *port = (uint16_t)v;
    return SP_OK;
}

int sp_hostport_parse(const char *text, struct sp_hostport *out, sp_cause *cause)
{
    const char *host = text;
    const char *colon;
    size_t n;

    out->bracketed = text[0] == '[';
    if (out->bracketed) {
        const char *close = strchr(text, ']');

        if (close == NULL || close == text + 1) {
            return sp_fail(cause, SP_EINVAL, "address \"%.64s\": no IPv6 address in brackets",
                           text);
        }
        host = text + 1;
        n = (size_t)(close - host);
        colon = close + 1;
    } else {
        colon = strrchr(text, ':');
        n = colon != NULL ? (size_t)(colon - text) : strlen(text);
    }
    if (colon == NULL || *colon != ':') {
        return sp_fail(cause, SP_EINVAL, "address \"%.64s\": the port is missing", text);
    }
    if (!out->bracketed && memchr(host, ':', n) != NULL) {
        return sp_fail(cause, SP_EINVAL, "address \"%.64s\": IPv6 addresses stand in brackets",
                       text);
    }
    if (n >= sizeof(out->host)) {
        return sp_fail(cause, SP_EINVAL, "host of %zu bytes: at most %zu", n,
                       sizeof(out->host) - 1);
    }
    if (n == 1 && host[0] == '*' && !out->bracketed) {
        n = 0;
    }
    memcpy(out->host, host, n);
    out->host[n] = '\0';
    return port_parse(colon + 1, &out->port, cause);
}

static sp_inet inet_any(int family, uint16_t port)
{
    sp_inet a;

    memset(&a, 0, sizeof(a));
    a.sa.sa_family = (sa_family_t)family;
    if (family == AF_INET6) {
        a.in6.sin6_port = htons(port);
    } else {
        a.in4.sin_port = htons(port);
    }
    return a;
}

/// An interface by name or number; 0: there is none.
static uint32_t scope_parse(const char *scope)
{
    uint32_t index = if_nametoindex(scope);
    size_t n = strspn(scope, "0123456789");

    return index == 0 && n > 0 && n < 10 && scope[n] == '\0' ? (uint32_t)strtoul(scope, NULL, 10)
                                                             : index;
}

int sp_inet_number(const struct sp_hostport *at, sp_inet *out, sp_cause *cause)
{
    char host[sizeof(at->host)];
    char *scope;

    *out = inet_any(at->bracketed ? AF_INET6 : AF_INET, at->port);
    if (!at->bracketed) {
        if (at->host[0] == '\0' || inet_pton(AF_INET, at->host, &out->in4.sin_addr) == 1) {
            return SP_OK;
        }
        return sp_fail(cause, SP_EINVAL, "host \"%.64s\": not an IPv4 address", at->host);
    }
    memcpy(host, at->host, sizeof(host));
    scope = strchr(host, '%');
    if (scope != NULL) {
        *scope++ = '\0';
        out->in6.sin6_scope_id = scope_parse(scope);
        if (out->in6.sin6_scope_id == 0) {
            return sp_fail(cause, SP_EINVAL, "host \"%.64s\": no such interface", at->host);
        }
    }
    if (inet_pton(AF_INET6, host, &out->in6.sin6_addr) != 1) {
        return sp_fail(cause, SP_EINVAL, "host \"%.64s\": not an IPv6 address", at->host);
    }
    return SP_OK;
}

/// Can this be a host's name? Digits and dots alone are a number that is wrong: asking a server
/// about it would be a surprise.
static bool name_is_plausible(const char *host)
{
    static const char alnum[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

    return host[strspn(host, alnum)] == '\0' && host[strspn(host, "0123456789.")] != '\0';
}

/// A name, by the system's resolver.
static int inet_lookup(const struct sp_hostport *at, int socktype, sp_inet *out, int max,
                       sp_cause *cause)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = socktype};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(at->host, NULL, &hints, &list);
    int n = 0;

    if (rc == EAI_MEMORY) {
        return sp_fail(cause, SP_ENOMEM, "host \"%.64s\"", at->host);
    }
    if (rc != 0) {
        return sp_fail(cause, -ENXIO, "host \"%.64s\": %s", at->host, gai_strerror(rc));
    }
    for (const struct addrinfo *ai = list; ai != NULL && n < max; ai = ai->ai_next) {
        if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6) {
            continue;
        }
        out[n] = inet_any(ai->ai_family, at->port);
        memcpy(&out[n], ai->ai_addr, ai->ai_addrlen);
        if (ai->ai_family == AF_INET6) {
            out[n].in6.sin6_port = htons(at->port);
        } else {
            out[n].in4.sin_port = htons(at->port);
        }
        n++;
    }
    freeaddrinfo(list);
    return n > 0 ? n : sp_fail(cause, -ENXIO, "host \"%.64s\": no internet address", at->host);
}

int sp_inet_resolve(const struct sp_hostport *at, int socktype, sp_inet *out, int max,
                    sp_cause *cause)
{
    int rc;

    if (at->host[0] == '\0' && max >= 2) {
        out[0] = inet_any(AF_INET6, at->port);
        out[1] = inet_any(AF_INET, at->port);
        return 2;
    }
    rc = sp_inet_number(at, out, cause);
    if (rc == SP_OK) {
        return 1;
    }
    if (at->bracketed) {
        return rc;
    }
    if (!name_is_plausible(at->host)) {
        return sp_fail(cause, SP_EINVAL, "host \"%.64s\": neither a name nor an address", at->host);
    }
    return inet_lookup(at, socktype, out, max, cause);
}

socklen_t sp_inet_len(const sp_inet *a)
{
    return a->sa.sa_family == AF_INET6 ? sizeof(a->in6) : sizeof(a->in4);
}

uint16_t sp_inet_port(const sp_inet *a)
{
    return ntohs(a->sa.sa_family == AF_INET6 ? a->in6.sin6_port : a->in4.sin_port);
}

bool sp_inet_is_any(const sp_inet *a)
{
    if (a->sa.sa_family == AF_INET6) {
        return IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
    }
    return a->in4.sin_addr.s_addr == htonl(INADDR_ANY);
}

bool sp_inet_equal(const sp_inet *a, const sp_inet *b)
{
    if (a->sa.sa_family != b->sa.sa_family || sp_inet_port(a) != sp_inet_port(b)) {
        return false;
    }
    if (a->sa.sa_family == AF_INET6) {
        return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0 &&
               a->in6.sin6_scope_id == b->in6.sin6_scope_id;
    }
    return a->in4.sin_addr.s_addr == b->in4.sin_addr.s_addr;
}

void sp_inet_text(const sp_inet *a, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";
    char scope[16] = "";
    const unsigned char *bytes = a->in6.sin6_addr.s6_addr;

    if (a->sa.sa_family != AF_INET6) {
        (void)inet_ntop(AF_INET, &a->in4.sin_addr, host, sizeof(host));
        (void)snprintf(out, size, "%s:%u", host, sp_inet_port(a));
        return;
    }
    if (IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr)) {
        (void)inet_ntop(AF_INET, bytes + 12, host, sizeof(host));
        (void)snprintf(out, size, "%s:%u", host, sp_inet_port(a));
        return;
    }
    (void)inet_ntop(AF_INET6, bytes, host, sizeof(host));
    if (a->in6.sin6_scope_id != 0) {
        (void)snprintf(scope, sizeof(scope), "%%%u", a->in6.sin6_scope_id);
    }
    (void)snprintf(out, size, "[%s%s]:%u", host, scope, sp_inet_port(a));
}

int sp_inet_local(int fd, sp_inet *out)
{
    socklen_t len = sizeof(*out);

    memset(out, 0, sizeof(*out));
    return getsockname(fd, &out->sa, &len) < 0 ? -errno : SP_OK;
}

int sp_inet_remote(int fd, sp_inet *out)
{
    socklen_t len = sizeof(*out);

    memset(out, 0, sizeof(*out));
    return getpeername(fd, &out->sa, &len) < 0 ? -errno : SP_OK;
}
