/* SPDX-License-Identifier: MIT */
/// Internet addresses as text and back, for transports that are reached at HOST:PORT.
#ifndef SP_SDK_SOCKADDR_H
#define SP_SDK_SOCKADDR_H

#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <sp/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/// An IPv4 or IPv6 address with its port.
typedef union sp_inet {
    struct sockaddr sa;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
} sp_inet;

/// Room for the text of an address: "[IPv6%scope]:port".
#define SP_INET_TEXT 80

/// HOST:PORT taken apart.
struct sp_hostport {
    char host[256]; ///< without brackets; "": any address
    uint16_t port;
    bool bracketed; ///< it stood in brackets, so it is IPv6
};

/// Takes "HOST:PORT" apart: a name, an IPv4 address, an IPv6 address in brackets, "*" or nothing
/// (any address), and a port in 0…65535. Touches no network. SP_EINVAL with a cause that names the
/// part and what is wrong with it. [any]
int sp_hostport_parse(const char *text, struct sp_hostport *out, sp_cause *cause);

/// The addresses of a host: up to `max`, in the system's order of preference; how many. Any address
/// ("") gives IPv6's, which takes IPv4 too, then IPv4's. A number needs no look-up; a name is
/// looked up by the system, **which may block for seconds**: [control] only. -ENXIO: there is no
/// such host.
int sp_inet_resolve(const struct sp_hostport *at, int socktype, sp_inet *out, int max,
                    sp_cause *cause);

/// The address of a host that stands there as a number, without any look-up. SP_EINVAL: it is none.
/// [any]
int sp_inet_number(const struct sp_hostport *at, sp_inet *out, sp_cause *cause);

/// Bytes of the address that bind and connect want.
socklen_t sp_inet_len(const sp_inet *a);

uint16_t sp_inet_port(const sp_inet *a);

/// True for 0.0.0.0 and ::
bool sp_inet_is_any(const sp_inet *a);

bool sp_inet_equal(const sp_inet *a, const sp_inet *b);

/// "127.0.0.1:5555", "[::1]:5555"; an IPv4 address inside an IPv6 one is shown as IPv4. Cut to
/// `size`.
void sp_inet_text(const sp_inet *a, char *out, size_t size);

/// What a socket is bound or connected to (getsockname, getpeername). -errno.
int sp_inet_local(int fd, sp_inet *out);
int sp_inet_remote(int fd, sp_inet *out);

#ifdef __cplusplus
}
#endif

#endif
