/* SPDX-License-Identifier: MIT */
/// Objects behind handles: reference counts for their lifetime, a table from handle to object, and
/// hazard pointers, so that a look-up writes nothing but the calling thread's own record.
///
/// Lifetime: an object lives as long as it has references (the handle table's, other objects',
/// running or posted actors'). The drop to zero retires it; it is destroyed when no thread's hazard
/// names it. A look-up publishes the hazard, then checks that the handle is still valid; an object
/// is retired only after its handle became invalid: so a hazard that passed the check keeps the
/// object.
#ifndef SP_CORE_OBJECT_H
#define SP_CORE_OBJECT_H

#include "trace.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum sp__kind {
    SP__KIND_NONE,
    SP__KIND_SOCKET,
    SP__KIND_CTX,
    SP__KIND_DIALER,
    SP__KIND_LISTENER,
    SP__KIND_PIPE,
    SP__KIND_SCOPE,
    SP__KIND_MAILBOX,
    SP__KIND_ACTOR,
    SP__KIND_TAP,   ///< has no handle (tap.h), as
    SP__KIND_DEVICE ///< … this (device.h)
};

struct sp__object {
    uint64_t id; ///< the handle; 0 before it is published
    enum sp__kind kind;
    atomic_uint refs;
    void (*destroy)(struct sp__object *obj);
    struct sp__object *retired; ///< list of those that wait for a hazard to go
};

/// One of SP__KIND_NONE is the user's by its address, and may outlive the runtime.
void sp__object_init(struct sp__object *obj, enum sp__kind kind,
                     void (*destroy)(struct sp__object *obj));

#define SP__RETIRED 0x80000000U // in `refs`: listed for destruction

/// Relaxed: made from a reference or hazard that is held. The drop is acq_rel: the last one sees
/// what all did.
static inline void sp__hold(struct sp__object *obj)
{
    unsigned before = atomic_fetch_add_explicit(&obj->refs, 1, memory_order_relaxed);

    SP__TRACE(F5, obj, before);
}
/// The same, of one that the caller has neither a reference of nor a hazard: from a list, under the
/// lock under which its destroy takes it out. False: it is to be destroyed.
bool sp__hold_live(struct sp__object *obj);

/// Behind sp__drop: the last reference, of `old` before, went.
void sp__dropped(struct sp__object *obj, unsigned old);

static inline void sp__drop(struct sp__object *obj)
{
    unsigned old = atomic_load_explicit(&obj->refs, memory_order_relaxed);
    unsigned now;

    // To zero and retired in one step: a call with a hazard may take and drop references of a
    // retired object, and nobody can destroy it before the one who retired it has listed it.
    // acq_rel: the last one sees what was done under all other references.
    do {
        now = old == 1 ? SP__RETIRED : old - 1;
    } while (!atomic_compare_exchange_weak_explicit(&obj->refs, &old, now, memory_order_acq_rel,
                                                    memory_order_relaxed));
    SP__TRACE(F9, obj, old);
    if (now == SP__RETIRED) {
        sp__dropped(obj, old);
    }
}

/// Gives the object a handle (and the table a reference), and writes it to `id` too (may be NULL):
/// from then on others may close it, so only who holds a reference of his own may look at the
/// object. SP_ENOMEM, SP_EPEERS: the table is full.
int sp__handle_open(struct sp__object *obj, uint64_t *id);
/// Makes the handle invalid, once: true for the caller that did it, who then owns the table's
/// reference.
bool sp__handle_close(struct sp__object *obj);

/// Finds an object for an API call, which must end with sp__leave. SP_EINVAL: no or wrong kind of
/// handle (`kind` SP__KIND_NONE takes any); SP_ECLOSED; SP_ESTATE: after a fork. Sets the error
/// detail.
int sp__enter(uint64_t id, enum sp__kind kind, struct sp__object **obj);
void sp__leave(void);
/// What a handle leads to, without protection: only for objects whose memory stays what it is.
/// NULL: it is not valid. Async-signal-safe.
struct sp__object *sp__handle_peek(uint64_t id);

/// Between the two nothing is retired: an object that was seen in use after the first one can be
/// held before the second, which must come soon.
void sp__retire_pause(void);
void sp__retire_resume(void);

/// Destroys what is retired and free of hazards.
void sp__reclaim(void);
/// How many objects are not destroyed yet, but for those of SP__KIND_NONE.
unsigned sp__objects(void);

/// No handle is valid any more: begin again with the first slot. Generations go on, so that old
/// handles stay closed.
void sp__handles_reset(void);
/// The next valid handle of a kind after `*index` (start at 0), held, for walks over all objects.
/// NULL: no more.
struct sp__object *sp__handle_next(enum sp__kind kind, uint32_t *index);

#endif
