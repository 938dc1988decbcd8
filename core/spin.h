/* SPDX-License-Identifier: MIT */
/// Whether, and how long, a thread that has to wait looks for what it waits for before it sleeps: a
/// hand-over between CPUs costs 0.3 µs to a thread that looks, 50 µs and more to one that sleeps.
/// Never on one CPU, by at most CPUs − 1 threads at a time, and less and less often while it does
/// not pay. [any]
#ifndef SP_CORE_SPIN_H
#define SP_CORE_SPIN_H

#include "thread.h"

#include <stdbool.h>
#include <stdint.h>

/// At the start of the runtime, which may use so many CPUs.
void sp__spin_start(unsigned cpus);

/// Takes a place among those who look. `us` is the option "spin-time" (-1: adaptive). Returns how
/// long, ns; 0: not now. Not 0: sp__spin_end must follow, with whether it was worth it.
int64_t sp__spin_begin(struct sp__thread *t, int64_t us);
void sp__spin_end(struct sp__thread *t, bool won);

/// The thread was woken: who wakes it may look in its place.
void sp__spin_posted(struct sp__thread *t);

void sp__spin_stats(uint64_t *won, uint64_t *lost);

#endif
