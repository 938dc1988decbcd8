/* SPDX-License-Identifier: MIT */
/// Between the files of a context.
#ifndef SP_CORE_CTX_H
#define SP_CORE_CTX_H

#include "socket.h"

/// Handler of the messages that senders post, on the socket's actor (ctx_send.c).
void sp__ctx_on_tx(struct sp__port *port, sp_batch *nodes);
/// Takes all that was published, in order; under the lock. False: nothing (ctx_recv.c).
bool sp__ctx_pull(struct sp__ctx *c);
/// Messages of this cost were taken: tells the socket's actor, if it waits for that and half of the
/// queue is free; under the lock (ctx_recv.c).
void sp__ctx_made_room(struct sp__ctx *c, uint64_t cost);
/// Whether a receive would not wait; under the queue's lock, which is given up by the next, as it
/// may drop what is stale (ctx_recv.c).
bool sp__ctx_readable(struct sp__ctx *c);
/// Unlocks a queue, then releases what was dropped meanwhile: a release may call the user's
/// function.
void sp__ctx_unlock(struct sp__ctx *q);
/// Tells those who observe it that it is closed; before it goes: closes its flags (ctx_poll.c).
void sp__ctx_closed(struct sp__ctx *c);
void sp__ctx_unobserve(struct sp__ctx *c);

#endif
