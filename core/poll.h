/* SPDX-License-Identifier: MIT */
/// Between poll.c and the runtime.
#ifndef SP_CORE_POLL_H
#define SP_CORE_POLL_H

/// Wakes all threads that are in sp_poll, to see that the runtime ends. sp_fini calls this again
/// and again, as long as there are calls under way.
void sp__polls_rouse(void);

#endif
