/* SPDX-License-Identifier: MIT */
/// Multicast: whom a socket hears and where what it sends goes. No state. [any]
#ifndef SP_SDK_MULTICAST_H
#define SP_SDK_MULTICAST_H

#include <stdbool.h>

#include <sp/sdk/sockaddr.h>

#ifdef __cplusplus
extern "C" {
#endif

bool sp_inet_is_multicast(const sp_inet *a);

/// What `fd` sends to `group` leaves by the interface that has the address `via` (any: the system's
/// choice), goes no further than this network, and comes to this machine, too. Completes `group`:
/// its scope. `fd` itself hears no group. -errno with a cause.
int sp_multicast_from(int fd, sp_inet *group, const sp_inet *via, sp_cause *cause);

/// A fresh socket is bound to `group`, beside others, and hears that alone. -errno with a
/// cause.
int sp_multicast_join(int fd, const sp_inet *group, const sp_inet *via, sp_cause *cause);

#ifdef __cplusplus
}
#endif

#endif
