/* SPDX-License-Identifier: MIT */
/// Endpoint numbers of rawip: who on this host has which.
///
/// The system gives a raw socket everything of its protocol number, and knows no ports: two sockets
/// of one number would take each other's datagrams for theirs. So whoever uses an endpoint number
/// claims it, by a socket of the local kind bound to an abstract name that says IP version,
/// protocol number and endpoint number. Such names belong to a network namespace as its addresses
/// do, and the system gives them back however the process ends. A number is claimed for all
/// addresses of the host.
#ifndef SP_RAWIP_CLAIM_H
#define SP_RAWIP_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#include <sp/plugin.h>

/// Dialers, and listeners that leave the choice, get numbers from here on.
#define RAWIP_CHOSEN 32768

/// [io] Claims `endpoint`; an fd that holds the claim. -EADDRINUSE: it has an owner.
int rawip_claim(int family, uint8_t number, uint16_t endpoint, sp_cause *cause);

/// [io] Claims one that is free, of those from RAWIP_CHOSEN on; they are tried from `random` on.
int rawip_claim_any(int family, uint8_t number, uint64_t random, uint16_t *endpoint,
                    sp_cause *cause);

/// [io] Whether it has an owner on this host.
bool rawip_claimed(int family, uint8_t number, uint16_t endpoint);

#endif
