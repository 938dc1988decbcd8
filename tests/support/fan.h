/* SPDX-License-Identifier: MIT */
/// Protocols for tests of what the core gives to protocols: "fan" sends a copy of every message
/// to each peer and may drop (all policies, "drop-new" unless told otherwise); "sink" receives,
/// with its option "latest" = 1 the newest ones. Both have two pairs of numbers: 0xF020 and 0xF021,
/// then the plain 0x20 and 0x21 (PUB and SUB), which are all that "plain-fan" and "plain-sink"
/// have.
#ifndef SP_TEST_FAN_H
#define SP_TEST_FAN_H

/// Registers them. Once a process.
void fan_register(void);

#endif
