/* SPDX-License-Identifier: MIT */
/// Asynchronous operations: one send, receive, dial, device or sleep at a time, that ends by a
/// callback, a wake or both.
///
/// States, under op->lock: AT_REST → (start) → PENDING → (over) → DONE → (the callback returned) →
/// AT_REST; a start inside the callback leads from DONE to PENDING; without a callback, over leads
/// to AT_REST. Who may end a pending operation is whoever has it in hand: the starter until it is
/// in a list, then who takes it out of the list (a grant, a message, a cancel), of a sleep whoever
/// clears `asleep`. So it ends once. A cancel that finds it in somebody's hand leaves a mark
/// (`left` of its waiter), so that it joins no list again.
///
/// Locks: op->lock is outside those of contexts, sockets and scopes, and held only by start,
/// cancel, and the end. Who ends it holds no other lock.
#ifndef SP_CORE_OP_H
#define SP_CORE_OP_H

#include "actor.h"
#include "lock.h"
#include "object.h"
#include "timer.h"
#include "waiter.h"

enum sp__op_state { SP__OP_REST, SP__OP_PENDING, SP__OP_DONE };
enum sp__op_kind { SP__OP_SEND, SP__OP_RECV, SP__OP_DIAL, SP__OP_DEVICE, SP__OP_SLEEP };

struct sp_op {
    struct sp__object obj; ///< references: the user's, one while not at rest, its actors'
    struct sp__actor user; ///< runs `done`
    struct sp__node over;  ///< posted to `user` when it is over, for this port. Not an event: it
    struct sp__port over_port; ///< is out again before the callback can start it anew
    void (*done)(struct sp_op *op, void *arg); ///< NULL: only waited for
    void *arg;
    _Atomic(struct sp__thread *) runner; ///< DONE: on which thread the callback runs; NULL: it has
                                         ///< not begun
    _Atomic(struct sp__thread *) inside; ///< where its callback runs, whatever that started
    bool again; ///< it is over once more, since that thread's callback started it; that thread's

    // Under the lock, all below. First what every start needs.
    bool stopped;    ///< starts no more
    bool asleep;     ///< a pending sleep that nobody has ended
    bool sleeping;   ///< in the list of those that sleep (op.c), under its lock, as sleep_…
    bool timed;      ///< the timer is armed
    bool cut;        ///< `due` is the scope's deadline
    bool scope_lost; ///< there was to be one, and it was closed
    bool in_scope;   ///< in the list of `joined`
    enum sp__op_state state;
    enum sp__op_kind kind;
    int why;           ///< what a cancel gives as the result
    atomic_int result; ///< written under the lock
    struct sp__waiters waiters;
    sp_msg *msg;
    int64_t timeout;           ///< ms of each start; -2: as what it is started on has it
    int64_t due;               ///< ns; of the start that is pending
    uint64_t start;            ///< number of the start that is pending
    struct sp__scope *scope;   ///< of the next starts, held; NULL: none
    struct sp__scope *joined;  ///< of the start that is pending, held
    struct sp__ctx *ctx;       ///< what it sends or receives on, held by `target`
    struct sp__object *target; ///< held while not at rest; NULL: a sleep
    struct sp__waiter waiter;  ///< in the target's list, under the target's lock
    struct sp__lock lock;

    struct sp__ep *ep;         ///< what it dials, held by `target`
    struct sp__device *device; ///< what it runs, likewise
    struct sp__timer timer;
    struct sp__actor ctl; ///< runs out of time
    struct sp_op *sleep_next;
    struct sp_op *sleep_prev;
    struct sp_op *scope_next; ///< in the list of `joined`, under its lock, as the other one
    struct sp_op *scope_prev;
};

/// Ends this start of an operation because of `why`, if it is still pending.
void sp__op_cancel_start(struct sp_op *op, uint64_t start, int why);

/// sp_fini: ends all that sleep; whether callbacks are still to come.
void sp__ops_close(void);
bool sp__ops_under_way(void);

#endif
