/* SPDX-License-Identifier: MIT */
/// Scopes: deadline and cancellation over many calls, handed down from parent to child.
///
/// A scope is over when it was cancelled or closed, or one that it is in. That is one word each
/// (`state`), so that a cancel may come from a signal handler: it changes the word, wakes all
/// threads that wait in some scope, and wakes the poller, who cancels operations (sp__scopes_tend).
/// Pairing: who waits names its scope in its thread's record and then looks at the state; a cancel
/// changes the state and then looks at the records (seq_cst, both). Memory of scopes is used again
/// for scopes only, so that a late cancel reads a word that is none of its business, and finds that
/// out.
#ifndef SP_CORE_SCOPE_H
#define SP_CORE_SCOPE_H

#include "object.h"

#include <sp/types.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct sp_op;

struct sp__scope {
    struct sp__object obj;
    _Atomic uint64_t state;   ///< the handle while it is open, with SCOPE_CANCELED; 0: closed
    struct sp__scope *parent; ///< held; NULL: none
    int64_t deadline;         ///< ns, the earliest of its own and its parents'; constant
    unsigned children;        ///< not destroyed; under the lock of all scopes
    pthread_mutex_t lock;
    struct sp_op *ops;      ///< pending in it; under the lock
    struct sp__scope *next; ///< of all that are not destroyed, or of the free ones
    struct sp__scope *prev;
};

/// The calling thread's call is in a scope (0: none) from here on, until sp__scope_end.
/// SP_ECANCELED or SP_ETIMEDOUT: it is over; with detail.
int sp__scope_begin(sp_scope scope);
void sp__scope_end(void);
/// Whether the scope of the calling thread's call is over: SP_OK, SP_ECANCELED, SP_ETIMEDOUT. Who
/// is about to wait asks.
int sp__scope_over(void);
/// Its deadline, ns; SP__NEVER.
int64_t sp__scope_deadline(void);

/// A scope, held; NULL: no handle, or a closed one.
struct sp__scope *sp__scope_get(sp_scope scope);
void sp__scope_drop(struct sp__scope *s); ///< NULL is allowed

/// An operation starts in its scope, or ends there; under its lock. Joins: errors with detail when
/// the scope is over. Leaves: the scope is to be dropped after the lock.
int sp__scope_op_joins(struct sp_op *op);
struct sp__scope *sp__scope_op_leaves(struct sp_op *op);

/// Cancels the operations of scopes that are over, if there were cancels since. The poller's, or
/// who runs in its place.
void sp__scopes_tend(void);

/// sp_fini: closes all that are open.
void sp__scopes_close(void);
/// How many wait to be used again; their memory is kept.
unsigned sp__scopes_kept(void);

#endif
