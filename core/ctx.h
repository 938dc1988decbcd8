/* SPDX-License-Identifier: MIT */
/// Between the files of a context.
#ifndef SP_CORE_CTX_H
#define SP_CORE_CTX_H

#include "socket.h"

/// Handler of the messages that senders post, on the socket's actor (ctx_send.c).
void sp__ctx_on_tx(struct sp__port *port, sp_batch *nodes);
/// Takes all that was published, in order; under the lock. False: nothing (ctx_recv.c).
bool sp__ctx_pull(struct sp__ctx *c);

#endif
