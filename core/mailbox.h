/* SPDX-License-Identifier: MIT */
/// Mailboxes for applications: bounded queues of messages, as channels are. All of a mailbox is
/// under its lock; what is waited for is handed over under it, so that nobody is woken in vain and
/// those who wait are served in turn. Not the mailboxes inside the library (actor.h).
#ifndef SP_CORE_MAILBOX_H
#define SP_CORE_MAILBOX_H

#include "object.h"
#include "observe.h"
#include "waiter.h"

#include <sp/plugin.h>

#include <pthread.h>

/// Who waits at a mailbox, or at an actor of the application for room.
struct sp__post_waiter {
    struct sp__waiter w;
    sp_msg *m; ///< to be posted; NULL: only waits for room. A taker's: what it was given
    int rc;    ///< when it is out of the list: how that ended
};

struct sp__forward;

struct sp__mailbox {
    struct sp__object obj;
    pthread_mutex_t lock;
    sp_batch q;
    size_t capacity;
    struct sp__waiters posters; ///< only if the queue is full
    struct sp__waiters takers;  ///< only if it is empty
    struct sp__observers observers;
    struct sp__forward *forwards;
    bool closed;
    uint64_t posted;
    uint64_t taken;
    uint64_t dropped;         ///< because it was closed
    _Atomic uint64_t refused; ///< SP_EFULL
    int64_t recv_timeout;     ///< ms, as the next; single fields, relaxed
    int64_t send_timeout;
};

/// Posts as many as there is room for, for as long as it is not closed: SP_OK: all; SP_EFULL: the
/// first of the rest waits in `w`, which is told by its `ready`; SP_ECLOSED. [any]
int sp__mailbox_feed(struct sp__mailbox *mb, sp_batch *in, struct sp__post_waiter *w);
/// How many it would take now.
size_t sp__mailbox_room(struct sp__mailbox *mb);
bool sp__mailbox_closed(struct sp__mailbox *mb);
/// Takes a forwarder into its list, from which sp__forwards_end hears of the end. False: closed.
bool sp__mailbox_fed_by(struct sp__mailbox *mb, struct sp__forward *f);
void sp__mailbox_not_fed_by(struct sp__mailbox *mb, struct sp__forward *f);
/// Counts messages that were on their way to it when it was closed, and releases them.
void sp__mailbox_lost(struct sp__mailbox *mb, sp_batch *lost);

/// Tells a waiter without a message, once, when there is room, or when it is closed; false: there
/// is, and it does not wait. Its `ready` returns sp__mailbox_pass: others may use the room. [any]
bool sp__mailbox_tell(struct sp__mailbox *mb, struct sp__post_waiter *w);
struct sp__wake sp__mailbox_pass(struct sp__mailbox *mb);

/// Nothing can come out of it any more: the handle ends; idempotent.
void sp__mailbox_end(struct sp__mailbox *mb);
/// Sets an option of a handle, or (`set` NULL) gets it.
int sp__mailbox_int(uint64_t id, const char *name, const int64_t *set, int64_t *get);

/// Under the lock, which it gives up, behind a change: who observes it is told.
void sp__mailbox_unlock(struct sp__mailbox *mb);
/// Whether what comes may come from descriptors; under the lock.
bool sp__mailbox_polls(const struct sp__mailbox *mb);
/// As what can be polled (poll.c).
void sp__mailbox_pollable(struct sp__mailbox *mb, struct sp__pollable *p);

/// sp_fini: closes all, and drops what is in them.
void sp__mailboxes_close(void);

/// One, or (NULL) the sum of all that are gone.
struct sp__mailbox_stats {
    uint64_t posted;
    uint64_t taken;
    uint64_t dropped;
    uint64_t refused;
    size_t queued;
    size_t capacity;
};
void sp__mailbox_stats(struct sp__mailbox *mb, struct sp__mailbox_stats *out);

#endif
