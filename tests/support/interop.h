/* SPDX-License-Identifier: MIT */
/// Scenarios between this library and another implementation of the protocols, both in the test's
/// own process and connected by real sockets. The other one is given as a table of functions. Main
/// thread of a test; failures are cmocka's.
#ifndef SP_TEST_INTEROP_H
#define SP_TEST_INTEROP_H

#include <stdbool.h>
#include <stddef.h>

/// What every wait is limited to, ms.
#define INTEROP_SOON 15000

/// The other implementation. A socket is a number, -1 on failure; other functions return 0 or a
/// length, -1 on failure.
struct interop_ops {
    int (*open)(const char *protocol); ///< with INTEROP_SOON as both time-outs
    int (*listen)(int s, const char *url);
    int (*dial)(int s, const char *url); ///< in the background
    int (*send)(int s, const void *data, size_t len);
    long (*recv)(int s, void *buf, size_t cap);
    int (*resend_time)(int s, int ms); ///< of a REQ
    int (*survey_time)(int s, int ms); ///< of a SURVEYOR
    void (*close)(int s);
};

enum interop_transport { INTEROP_TCP, INTEROP_TCP6, INTEROP_IPC, INTEROP_ABSTRACT };

/// One constellation. `own` and `its` are protocols for this library and the other one.
struct interop_case {
    const struct interop_ops *ops;
    const char *own;
    const char *its;
    enum interop_transport transport;
    bool own_listens;
};

/// Messages of many sizes, from 0 to 1 MiB, go there and back.
void interop_sizes(const struct interop_case *c);

/// A thousand messages keep their order, there and back in batches.
void interop_order(const struct interop_case *c);

/// The other side closes and comes back at the same address; then messages go through again.
void interop_peer_restarts(const struct interop_case *c);

/// The same with our own side.
void interop_own_restarts(const struct interop_case *c);

/// A REP that swallows a request gets it again: ours from the other's REQ, or the other's from
/// ours.
void interop_resend(const struct interop_case *c);

/// A surveyor and three respondents on the other side: payload of many sizes; the deadline, late
/// answers, and a survey after it.
void interop_survey(const struct interop_case *c);
void interop_survey_deadline(const struct interop_case *c);

/// The other side listens with a protocol that is not our peer: dialling fails with SP_EPROTO.
void interop_wrong_peer(const struct interop_case *c);

#endif
