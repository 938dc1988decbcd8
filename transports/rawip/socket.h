/* SPDX-License-Identifier: MIT */
/// Raw sockets that take their own traffic alone from the wire.
#ifndef SP_RAWIP_SOCKET_H
#define SP_RAWIP_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <sp/plugin.h>
#include <sp/sdk/dgram.h>
#include <sp/sdk/sockaddr.h>

/// In front of each datagram: the endpoint numbers of source and destination, little-endian.
#define RAWIP_FRONT 4

/// Bytes that the shortest datagram of the session layer has behind that.
#define RAWIP_HEAD 8

/// [io] A socket that is not blocking, bound to `local` and, with `remote`, connected to that. Only
/// datagrams of the session layer's version, for local's endpoint and (with `remote`) of that
/// address and endpoint come to it; no other one was ever in its queue. SP_EACCES with a cause that
/// names CAP_NET_RAW: the process lacks it.
int rawip_open(uint8_t number, const struct sp_dgram_addr *local,
               const struct sp_dgram_addr *remote, sp_cause *cause);

/// [io] A socket that is not blocking, to which what members of `group` announce to its endpoint
/// number comes by the interface that has the address `via`, and nothing else. Errors as above.
int rawip_hear(uint8_t number, const sp_inet *group, uint16_t endpoint, const sp_inet *via,
               sp_cause *cause);

/// [io] The bytes that stand in front of the session layer's; the source's endpoint in `*source`.
/// -EBADMSG: these are not all bytes of a datagram that was sent.
ssize_t rawip_strip(int family, const unsigned char *data, size_t len, uint16_t *source);

void rawip_front(uint16_t source, uint16_t destination, unsigned char out[RAWIP_FRONT]);

struct rawip_path {
    size_t mtu;  ///< bytes of the largest packet that nothing on the way splits
    bool inside; ///< it does not leave this machine
};

/// [io] What the system knows of the path to a peer. -errno: there is none.
int rawip_path(const struct sp_dgram_addr *to, struct rawip_path *path);

/// Bytes of an IP packet's header, without options.
size_t rawip_header(int family);

#endif
