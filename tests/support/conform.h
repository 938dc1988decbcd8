/* SPDX-License-Identifier: MIT */
/// The conformance suite's tables and what its programs share: facts that hold for every pattern,
/// over every transport. A fact is a test function; the suite runs it for each case that it is for.
/// A new transport is a line in check_transports, a new pattern one in conform_patterns.
#ifndef SP_TEST_CONFORM_H
#define SP_TEST_CONFORM_H

#include "check.h"

/// What can be expected of a pattern.
#define CONFORM_ASKS 1U      ///< the sender asks, the receiver answers; neither may do else
#define CONFORM_ONE_WAY 2U   ///< the sender does not receive, the receiver does not send
#define CONFORM_FAN_OUT 4U   ///< each receiver gets every message
#define CONFORM_SINGLE 8U    ///< one peer at a time
#define CONFORM_TOPICS 16U   ///< receivers subscribe
#define CONFORM_DROPS 32U    ///< the sender never waits: what has no room is dropped
#define CONFORM_BALANCE 64U  ///< one receiver gets each message
#define CONFORM_GATHERS 128U ///< the receiver may have several senders

#define CONFORM_HOPS 256U ///< messages count their hops, "ttl-max" limits them

struct conform_pattern {
    const char *name;
    const char *sender;
    const char *receiver;
    unsigned flags;
};

extern const struct conform_pattern conform_patterns[];
extern const unsigned conform_pattern_count;

/// What runs now.
struct conform_case {
    const char *transport;
    const struct conform_pattern *pattern;
};
extern struct conform_case conform;

/// A fact for patterns that have all flags of `all` and none of `none`; over the first transport
/// alone, or over all; with threads of the library, or driven too.
struct conform_fact {
    const char *name;
    void (*fn)(void **state);
    unsigned all;
    unsigned none;
    bool first_only;
    bool lossless; ///< not over transports that lose what the receiver does not keep up with
};
#define conform_fact(fn, all, none)                                                                \
    {                                                                                              \
#fn, fn, all, none, false, false                                                           \
    }
#define conform_fact_once(fn, all, none)                                                           \
    {                                                                                              \
#fn, fn, all, none, true, false                                                            \
    }
#define conform_fact_lossless(fn, all, none)                                                       \
    {                                                                                              \
#fn, fn, all, none, false, true                                                            \
    }

/// Runs facts for every pattern and transport; or once for each transport, where the pattern is the
/// fact's own business.
int conform_run(const struct conform_fact *facts, unsigned n);
int conform_run_transports(const struct conform_fact *facts, unsigned n);

/// Sockets of the pattern's two sides; a receiver that subscribes wants everything.
sp_socket conform_sender(void);
sp_socket conform_receiver(void);
/// Senders and receivers, each of these connected to each of those, and ready: what is sent now is
/// wanted. One of either side listens if it is alone, else the receivers do.
void conform_connect(sp_socket *senders, unsigned n, sp_socket *receivers, unsigned m);
/// Messages that the protocol itself sends over a new connection, from receiver to sender.
int conform_own(void);
/// One of each.
void conform_couple(sp_socket *sender, sp_socket *receiver);

/// A message of 4 bytes; one of which the first 4 are the number.
void conform_send(sp_socket s, int v);
int conform_recv(sp_socket s);
/// From sender to receiver, and the answer back where there is one.
void conform_exchange(sp_socket sender, sp_socket receiver, int v);
/// Sends large messages, numbered from 0 on, without waiting, until the sender has been without
/// room for a while. How many.
int conform_fill(sp_socket s);

#endif
