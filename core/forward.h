/* SPDX-License-Identifier: MIT */
/// Forwarders: what a socket receives goes to a mailbox, with back-pressure. The mailbox's list of
/// them is under the mailbox's lock, and has a reference of each.
#ifndef SP_CORE_FORWARD_H
#define SP_CORE_FORWARD_H

#include "actor.h"
#include "mailbox.h"
#include "tap.h"

struct sp__forward {
    struct sp__tap tap; ///< its object is the forwarder's
    struct sp__actor actor;
    struct sp__mailbox *mb;    ///< held
    struct sp__event look;     ///< the mailbox has room, or is closed
    struct sp__post_waiter tx; ///< for room, with a message; in the mailbox's list, under its lock
    struct sp__forward *next;  ///< of the mailbox's; under its lock
    sp_batch held;             ///< received, and not in the mailbox; the actor's
};

/// Tells each of a list that their mailbox is closed, and drops the list's references.
void sp__forwards_end(struct sp__forward *list);

#endif
