/* SPDX-License-Identifier: MIT */
/// Between the files of a pipe: its life (pipe.c), its I/O actors (pipe_io.c), its events for the
/// user (event.c).
#ifndef SP_CORE_PIPE_H
#define SP_CORE_PIPE_H

#include "socket.h"

/// To the input actor, beside SP_READY_ bits.
#define SP__RX_START 16U
#define SP__RX_CREDIT 32U
#define SP__RX_END 64U
/// To the output actor, beside SP_READY_ bits.
#define SP__TX_EAGER 16U
#define SP__TX_QUIET 32U ///< it is told of readiness that it does not want
/// From the input actor.
#define SP__RX_SHAKEN 1U
#define SP__RX_FAILED 2U
#define SP__RX_STOPPED 4U
/// From the others.
#define SP__NOTE_WRITTEN 1U
#define SP__NOTE_TX_FAILED 2U
#define SP__NOTE_TX_STOPPED 4U
#define SP__NOTE_ADMITTED 8U
#define SP__NOTE_REFUSED 16U
#define SP__NOTE_CLOSE 32U
/// To the user's actor.
#define SP__USER_ADDING 1U
#define SP__USER_ADDED 2U
#define SP__USER_REMOVED 4U

/// Sees to it that what is pushed to `p->out` next is handed over. The socket's actor.
static inline void sp__pipe_out_link(struct sp__pipe *p)
{
    if (p->out.head == NULL) {
        p->out_next = p->sock->outs;
        p->sock->outs = p;
    }
}

void sp__pipe_io_init(struct sp__pipe *p);
/// Hands `p->out` to output. The socket's actor.
void sp__pipe_output(struct sp__pipe *p);
/// The same for a message alone, of a pipe that passes. SP_OK.
int sp__pipe_output_one(struct sp__pipe *p, sp_msg *m);
/// Lets output stop behind what is queued. Once a pipe.
void sp__pipe_end_output(struct sp__pipe *p);
int sp__pipe_pass(struct sp__pipe *p, sp_batch *from); ///< see pipe_pass in <sp/plugin.h>
/// Makes what tells the user about it. SP_ENOMEM.
int sp__pipe_user_init(struct sp__pipe *p);
void sp__pipe_cmd_rx(struct sp__pipe *p, unsigned bits); ///< [any]
void sp__pipe_cmd_tx(struct sp__pipe *p, unsigned bits); ///< [any]
void sp__pipe_note(struct sp__pipe *p, unsigned bit);    ///< [any]

/// Whether sp__pipe_send would take a message. Replies are bounded by their requests.
static inline bool sp__pipe_room(const struct sp__pipe *p)
{
    return sp__pipe_usable(p) &&
           (p->inflight < p->cap || (p->sock->ops->flags & SP_PROTO_REPLIES) != 0);
}

#endif
