/* SPDX-License-Identifier: MIT */
/// Timers that post an event to their owner's actor. Arm and cancel belong to the owner's actor;
/// after a cancel the handler does nothing, even if the event is on its way. Others may arm and
/// cancel under a lock of their own; their handler must look for itself whether it is still meant.
#ifndef SP_CORE_TIMER_H
#define SP_CORE_TIMER_H

#include "actor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sp__timer {
    struct sp__event ev; ///< its owner is held while the timer is armed, too
    void (*fire)(struct sp__timer *t);
    _Atomic int64_t due; ///< ns; the owner's; relaxed, as it is only read to be looked at again
    int64_t when;        ///< key in the heap; under the heap's lock
    uint32_t pos;        ///< place in the heap + 1; 0: not in it; under the heap's lock
    atomic_bool live;    ///< armed and not fired or cancelled; the owner's; likewise
};

void sp__timer_init(struct sp__timer *t, struct sp__actor *a, struct sp__object *owner,
                    void (*fire)(struct sp__timer *t));
/// (Re)arms for an instant (ns, monotonic). Memory for the heap is reserved by sp__timer_reserve,
/// so this cannot fail.
void sp__timer_arm(struct sp__timer *t, int64_t due);
void sp__timer_cancel(struct sp__timer *t);

/// Makes room in the heap for one more timer, or gives it back. SP_ENOMEM.
int sp__timer_reserve(void);
void sp__timer_unreserve(void);

/// From now on the platform is told when the next timer is due, or not any more.
void sp__timers_tell(bool tell);
/// The next instant at which a timer is due; SP__NEVER.
int64_t sp__timers_next(void);
/// Posts what is due. Returns how many.
int sp__timers_fire(int64_t now);

#endif
