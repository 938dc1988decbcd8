/* SPDX-License-Identifier: MIT */
/// The simulated platform: one thread, a virtual clock that moves only when nothing can run, and a
/// seeded order. With the same seed and the same calls, a run is the same to the last step.
#ifndef SP_CORE_PLATFORM_SIM_H
#define SP_CORE_PLATFORM_SIM_H

#include "platform.h"

extern const struct sp_platform sp__platform_sim;

/// Begins a run: clock at 1 s, choices from `seed`. Before the runtime starts.
void sp__sim_begin(uint64_t seed);
/// Of the next allocations, one in `n` fails, by seed; 0: none.
void sp__sim_fail_alloc(uint32_t n);
/// A digest of all choices made so far: equal runs have equal digests.
uint64_t sp__sim_digest(void);
/// What to do when everything waits and no timer is armed (default: says so, and aborts).
void sp__sim_on_deadlock(void (*fn)(void));

#endif
