/* SPDX-License-Identifier: MIT */
/// Addresses of rawip: rawip://HOST[:ENDPOINT][/NUMBER].
#ifndef SP_RAWIP_ADDRESS_H
#define SP_RAWIP_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sp/plugin.h>
#include <sp/sdk/dgram.h>
#include <sp/sdk/sockaddr.h>

/// The protocol number without any in the URL: the first one for experiments (RFC 3692, RFC 4727).
#define RAWIP_NUMBER 253

struct rawip_url {
    struct sp_dgram_addr addr; ///< `number` is the endpoint
    uint8_t number;            ///< of the protocol
    bool any;                  ///< the host is "*" or absent
    bool choose;               ///< the endpoint is "*": a listener leaves the choice
};

/// [control] Takes `url` apart and looks the host up, **which may block for seconds**; of several
/// addresses of a name it is the first. A host "*" is any IPv4 address, [::] any IPv6 address.
/// SP_EINVAL with a cause that names the part and what is wrong with it; -ENXIO: no such host.
int rawip_parse(const char *url, struct rawip_url *out, sp_cause *cause);

/// "ADDRESS[:ENDPOINT]" of a group, a multicast address. SP_EINVAL with a cause. [any]
int rawip_group_parse(const char *text, sp_inet *group, uint16_t *endpoint, sp_cause *cause);

/// "127.0.0.1:5", "[::1]:5".
void rawip_text(const struct sp_dgram_addr *addr, char *out, size_t size);

#endif
