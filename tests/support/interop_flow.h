/* SPDX-License-Identifier: MIT */
/// Scenarios of interop.h for patterns without answers: one way to one of several, everybody to
/// everybody, one socket with many peers. Main thread of a test; failures are cmocka's.
#ifndef SP_TEST_INTEROP_FLOW_H
#define SP_TEST_INTEROP_FLOW_H

#include "interop.h"

/// PUSH to PULL, in the direction that the protocols say: messages of many sizes, then a thousand
/// in order.
void interop_one_way(const struct interop_case *c);

/// PUSH to three PULL of the other side, or from three PUSH of the other side: each gets its share
/// of the work, each message comes once.
void interop_work(const struct interop_case *c);

/// BUS, ours in the middle: its message reaches three of the other side, theirs reach it alone. In
/// raw mode ours passes on what comes to all but where it came from.
void interop_bus(const struct interop_case *c);
void interop_bus_raw(const struct interop_case *c);

/// PAIR 1, ours polyamorous: three of the other side get the answers to what each said.
void interop_many(const struct interop_case *c);
/// … and the other side polyamorous: it answers ours.
void interop_one_of_many(const struct interop_case *c);

#endif
