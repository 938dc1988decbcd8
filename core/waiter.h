/* SPDX-License-Identifier: MIT */
/// Who waits for something: threads, on their stacks, and operations. Each list belongs to what is
/// waited for, and is under that thing's lock.
#ifndef SP_CORE_WAITER_H
#define SP_CORE_WAITER_H

#include "thread.h"

#include <sp/types.h>

#include <stdbool.h>
#include <stddef.h>

struct sp__ctx;
struct sp__waiter;

/// Who was taken out of a list and is to be woken once the lock is gone. Both NULL: nobody.
struct sp__wake {
    struct sp__thread *thread; ///< apart: its waiter may be gone as soon as it is out of the list
    struct sp__waiter *op;     ///< alive until it was woken
};

struct sp__waiter {
    struct sp__waiter *next;
    struct sp__waiter *prev;
    struct sp__thread *thread; ///< NULL: an operation's
    struct sp__ctx *ctx;       ///< for what context it waits, where lists are shared
    bool queued;
    bool receives; ///< an operation's that waits for a message, not for anything else to change
    bool left;     ///< an operation's: it was cancelled, and must not join again
    /// An operation's, called with no lock held: its turn; it tries again, and says who is to be
    /// woken next. Only who took it out of the list may call this, or `over`.
    struct sp__wake (*ready)(struct sp__waiter *w);
    /// It is through: the result, and the message that was received, or was not sent.
    void (*over)(struct sp__waiter *w, int rc, sp_msg *m);
};

/// In the order in which they have their turn; zeroed at first.
struct sp__waiters {
    struct sp__waiter *head;
    struct sp__waiter *tail;
};

/// At the end of the list, or with `first` at its head: who tried in vain when it was its turn.
void sp__waiter_add(struct sp__waiters *list, struct sp__waiter *w, bool first);
void sp__waiter_remove(struct sp__waiters *list, struct sp__waiter *w);
/// Takes the first out of the list.
struct sp__wake sp__waiter_pop(struct sp__waiters *list);
/// Takes the first that waits for this context.
struct sp__wake sp__waiter_pop_of(struct sp__waiters *list, const struct sp__ctx *ctx);

/// Wakes whom it names, and who is next according to them. With no lock held.
void sp__wake(struct sp__wake wake);

static inline bool sp__wakes(struct sp__wake wake)
{
    return wake.thread != NULL || wake.op != NULL;
}

/// Its identity, for traces.
static inline const void *sp__wake_id(struct sp__wake wake)
{
    return wake.thread != NULL ? (const void *)wake.thread : (const void *)wake.op;
}

#endif
