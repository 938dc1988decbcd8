/* SPDX-License-Identifier: MIT */
/// A bad network in tests: a relay of UDP datagrams between dialers and one listener, which loses,
/// doubles, reorders and delays some of them by chance of a seed, and counts what it did. To the
/// listener each dialer is an address of its own, as behind a router. It runs in a thread of its
/// own, in the network namespace of the one that opens it. Opening and closing: main thread of a
/// test, failures are cmocka's. The rest: any thread.
#ifndef SP_TEST_DGRAM_RELAY_H
#define SP_TEST_DGRAM_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define DGRAM_RELAY_CLIENTS 64

/// Of one direction: what happens to a datagram, in percent. What is delayed comes between 1 and
/// `delay_ms` later; what is reordered comes after the next one (or DGRAM_RELAY_HOLD later).
struct dgram_rules {
    double loss;
    double duplicate;
    double reorder;
    double delay;
    unsigned delay_ms;
    bool data_only; ///< only to those that carry messages: the second byte is not 1, 2 or 3
};

#define DGRAM_RELAY_HOLD 5 ///< ms

struct dgram_counts {
    uint64_t received;
    uint64_t sent;       ///< received - lost + duplicated, once nothing is held
    uint64_t lost;       ///< by the rules
    uint64_t duplicated; ///< one more was sent
    uint64_t reordered;  ///< another one has overtaken it
    uint64_t delayed;
    uint64_t held;    ///< delayed or to be reordered, and still here
    uint64_t refused; ///< the system did not take it, or had no room for it here: not by the rules
};

enum dgram_way {
    DGRAM_TO_LISTENER,
    DGRAM_TO_DIALER,
    DGRAM_WAYS,
};

struct dgram_relay;

/// Opens a relay at a free port of 127.0.0.1, or [::1] if `to` is of IPv6, that passes everything
/// on to `to`.
struct dgram_relay *dgram_relay_open(const struct sockaddr *to, socklen_t len, uint64_t seed);
/// … at 127.0.0.1, to a port of 127.0.0.1.
struct dgram_relay *dgram_relay_local(unsigned port, uint64_t seed);
unsigned dgram_relay_port(const struct dgram_relay *r);

/// From now on. At first nothing is harmed.
void dgram_relay_rules(struct dgram_relay *r, enum dgram_way way, const struct dgram_rules *rules);
void dgram_relay_counts(struct dgram_relay *r, enum dgram_way way, struct dgram_counts *counts);
/// Dialers seen until now.
size_t dgram_relay_clients(struct dgram_relay *r);

/// What is held is gone.
void dgram_relay_close(struct dgram_relay *r);

#endif
