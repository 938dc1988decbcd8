/* SPDX-License-Identifier: MIT */
/// rawip://HOST[:ENDPOINT][/NUMBER] as text and back. No state; looking a name up may block.
#include "address.h"

#include <stdio.h>
#include <string.h>

#include <sp/sdk/cause.h>
#include <sp/sdk/multicast.h>
#include <sp/sdk/sockaddr.h>

// IPPROTO_RAW: the system only sends with it.
#define NUMBER_MAX 254

#define HOST_MAX (sizeof(((struct sp_hostport *)NULL)->host) + 2) // with brackets

/// A whole number of digits alone, at most `max`. False: it is none.
static bool number_parse(const char *text, size_t len, unsigned long max, unsigned long *out)
{
    unsigned long v = 0;

    if (len == 0 || len > 5) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        v = v * 10 + (unsigned long)(text[i] - '0');
    }
    *out = v;
    return v <= max;
}

/// Numbers that are headers of IPv6 itself, or whose payload the system changes (ICMPv6): nothing
/// of ours would arrive.
static bool number_is_of_ipv6(unsigned long number)
{
    static const uint8_t numbers[] = {43, 44, 50, 51, 58, 59, 60, 135};

    return memchr(numbers, (int)number, sizeof(numbers)) != NULL;
}

/// "/NUMBER", or nothing.
static int protocol_parse(const char *text, struct rawip_url *out, sp_cause *cause)
{
    unsigned long v = RAWIP_NUMBER;

    if (text[0] == '/' && (!number_parse(text + 1, strlen(text + 1), NUMBER_MAX, &v) || v == 0)) {
        return sp_fail(cause, SP_EINVAL, "protocol number \"%.32s\": not in 1…%d", text + 1,
                       NUMBER_MAX);
    }
    out->number = (uint8_t)v;
    return SP_OK;
}

/// ":ENDPOINT" of `len` bytes, or nothing.
static int endpoint_parse(const char *text, size_t len, struct rawip_url *out, sp_cause *cause)
{
    unsigned long v = 0;

    out->choose = len == 2 && text[1] == '*';
    if (len > 0 && !out->choose && !number_parse(text + 1, len - 1, UINT16_MAX, &v)) {
        return sp_fail(cause, SP_EINVAL, "endpoint \"%.*s\": not in 0…65535",
                       len - 1 > 32 ? 32 : (int)(len - 1), text + 1);
    }
    out->addr.number = (uint16_t)v;
    return SP_OK;
}

/// Bytes of the host at the beginning of `n` bytes: up to a colon that is not within brackets.
/// 0: none, or nothing sensible behind the brackets.
static size_t host_length(const char *text, size_t n)
{
    const char *end = memchr(text, ']', n);

    if (text[0] != '[') {
        end = memchr(text, ':', n);
        return end != NULL ? (size_t)(end - text) : n;
    }
    if (end == NULL || (end + 1 < text + n && end[1] != ':')) {
        return 0;
    }
    return (size_t)(end + 1 - text);
}

/// A host of `n` bytes. A port is written behind it, since hosts are taken apart with one.
static int host_parse(const char *host, size_t n, struct sp_hostport *at, sp_cause *cause)
{
    char text[HOST_MAX + 3];

    if (n >= HOST_MAX) {
        return sp_fail(cause, SP_EINVAL, "host of %zu bytes: at most %zu", n, HOST_MAX - 1);
    }
    (void)snprintf(text, sizeof(text), "%.*s:0", (int)n, host);
    return sp_hostport_parse(text, at, cause);
}

/// The host's address.
static int host_resolve(const char *host, size_t n, struct rawip_url *out, sp_cause *cause)
{
    struct sp_hostport at = {.port = 0};
    sp_inet found;
    int rc = host_parse(host, n, &at, cause);

    if (rc < 0) {
        return rc;
    }
    out->any = at.host[0] == '\0';
    // One address: of "any", IPv4's.
    rc = sp_inet_resolve(&at, SOCK_RAW, &found, 1, cause);
    if (rc < 0) {
        return rc;
    }
    out->addr.len = (uint16_t)sp_inet_len(&found);
    memcpy(&out->addr.at, &found, out->addr.len);
    return SP_OK;
}

int rawip_parse(const char *url, struct rawip_url *out, sp_cause *cause)
{
    const char *sep = strstr(url, "://");
    const char *text = sep != NULL ? sep + 3 : url;
    size_t n = strcspn(text, "/");
    size_t host = host_length(text, n);
    int rc;

    memset(out, 0, sizeof(*out));
    if (host == 0 && n > 0 && text[0] == '[') {
        return sp_fail(cause, SP_EINVAL, "address \"%.64s\": no IPv6 address in brackets", text);
    }
    if (text[0] != '[' && memchr(text + host, ':', n - host) != strrchr(text, ':')) {
        return sp_fail(cause, SP_EINVAL, "address \"%.64s\": IPv6 addresses stand in brackets",
                       text);
    }
    rc = protocol_parse(text + n, out, cause);
    if (rc == SP_OK) {
        rc = endpoint_parse(text + host, n - host, out, cause);
    }
    if (rc == SP_OK) {
        rc = host_resolve(text, host, out, cause);
    }
    if (rc == SP_OK && out->addr.at.sa.sa_family == AF_INET6 && number_is_of_ipv6(out->number)) {
        rc = sp_fail(cause, SP_EINVAL, "protocol number \"%u\": IPv6 uses it itself", out->number);
    }
    return rc;
}

int rawip_group_parse(const char *text, sp_inet *group, uint16_t *endpoint, sp_cause *cause)
{
    size_t n = strlen(text);
    size_t host = host_length(text, n);
    struct rawip_url at = {.number = 0};
    struct sp_hostport name = {.port = 0};
    int rc = endpoint_parse(text + host, n - host, &at, cause);

    if (rc == SP_OK) {
        rc = host_parse(text, host, &name, cause);
    }
    if (rc == SP_OK) {
        rc = sp_inet_number(&name, group, cause);
    }
    if (rc == SP_OK && (at.choose || !sp_inet_is_multicast(group))) {
        rc = sp_fail(cause, SP_EINVAL, "group \"%s\": no multicast ADDRESS[:ENDPOINT]", text);
    }
    *endpoint = at.addr.number;
    return rc;
}

void rawip_text(const struct sp_dgram_addr *addr, char *out, size_t size)
{
    sp_inet a;

    memset(&a, 0, sizeof(a));
    memcpy(&a, &addr->at, addr->len < sizeof(a) ? addr->len : sizeof(a));
    if (a.sa.sa_family == AF_INET6) { // Where IPv4 has its port, too.
        a.in6.sin6_port = htons(addr->number);
    } else {
        a.in4.sin_port = htons(addr->number);
    }
    sp_inet_text(&a, out, size);
}
