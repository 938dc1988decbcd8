/* SPDX-License-Identifier: MIT */
/// Who looks at whether an object is ready without waiting in its lists: calls of sp_poll, and
/// descriptors of sp_fd. Any number may observe one object; nobody is taken out by what it sees.
/// How contexts and mailboxes have them: struct sp__observers among the fields that the object's
/// lock guards, and a struct sp__pollable_ops that tells how to lock it and what is ready.
///
/// Invariant: when no change of an object is under way, every observer knows the object's state: it
/// was looked at, under the object's lock, after the last change. Therefore
/// - who changes what `ready` depends on under the lock calls sp__observers_look before unlocking;
/// - who changes it without the lock (messages pushed, credit given or taken) looks at `events`
///   afterwards, and if somebody observes that, locks and calls sp__observers_look;
/// - who begins to observe sets `events`, under the lock, and then looks at the object.
/// Pairing, for the second and third: the change and the load of `events` behind it are seq_cst,
/// the store of `events` and the loads of the state behind it are seq_cst: one of the two sees the
/// other. Looks are ordered by the lock, and each is behind the change that called for it: so the
/// last one is behind all changes. Model: observe.pml.
///
/// Who changes without the lock may look at `events` (relaxed) beforehand too, and make the change
/// under the lock if somebody observes: then nobody who needs the lock can see the change earlier
/// than an observer.
#ifndef SP_CORE_OBSERVE_H
#define SP_CORE_OBSERVE_H

#include "platform.h"
#include "thread.h"
#include "trace.h"

#include <sp/types.h>

#include <stdatomic.h>
#include <stdbool.h>

struct sp__object;
struct sp__observer;

/// In an object; all zero at first.
struct sp__observers {
    _Atomic unsigned events;    ///< that somebody observes; written under the object's lock
    struct sp__observer *first; ///< under the object's lock, as the two below
    unsigned in;                ///< of these, for SP_POLLIN
    unsigned out;               ///< of these, for SP_POLLOUT
};

/// How to look at a kind of object. What it is about comes as `of`: the part that is polled.
struct sp__pollable_ops {
    void (*lock)(void *of);
    void (*unlock)(void *of);
    /// What holds of SP_POLLIN and SP_POLLOUT, or when it is closed only SP_POLLHUP. Under its
    /// lock. Loads of what is changed without the lock are seq_cst (see above).
    short (*ready)(void *of);
    /// Whether descriptors in the readiness set have a part in it (see sp__wait). NULL: no.
    bool (*polls)(const void *of);
};

/// An object that can be polled. The lock may be shared by several of them.
struct sp__pollable {
    const struct sp__pollable_ops *ops;
    struct sp__observers *observers;
    void *of;
    short can; ///< SP_POLLIN, SP_POLLOUT: which of them can ever hold
};

/// A call of sp_poll that observes.
struct sp__poller {
    struct sp__thread *thread;
    atomic_bool fired; ///< something is ready; then it wakes
};

struct sp__observer {
    struct sp__observer *next;
    struct sp__observer *prev;
    struct sp__pollable at;
    struct sp__object *held; ///< a poller's: keeps the object
    struct sp__poller *poller;
    int fd;       ///< of one without poller: a flag (platform.h) that is kept as the state is
    short events; ///< SP_POLLIN, SP_POLLOUT; SP_POLLHUP always counts
    bool on;      ///< the poller has been told; the flag is set
};

/// Begins to observe: fires, or sets the flag, if it holds already. Under the object's lock, as all
/// below that do not say otherwise.
void sp__observe(struct sp__observer *o);
/// Ends it. Returns what holds of its events.
short sp__observe_end(struct sp__observer *o);
/// Tells every observer how the object is now.
void sp__observers_look(struct sp__observers *os);
/// The flag that is there for this event of this object. -1: none.
int sp__observers_flag(const struct sp__observers *os, const void *of, short event);
/// Closes all flags of an object, before it goes. Takes the lock itself.
void sp__observers_close(const struct sp__pollable *p);

/// Whether somebody observes one of these. Relaxed: exact under the lock; without it, only a reason
/// to take the lock.
static inline bool sp__observed(const struct sp__observers *os, unsigned events)
{
    unsigned now = atomic_load_explicit((_Atomic unsigned *)(uintptr_t)&os->events,
                                        memory_order_relaxed);

    SP__TRACE(M14, os, ((now & events) != 0) | events << 1);
    return (now & events) != 0;
}

/// The same behind a change that was made without the lock. seq_cst: see above.
static inline bool sp__observed_after(const struct sp__observers *os, unsigned events)
{
    unsigned now = atomic_load_explicit((_Atomic unsigned *)(uintptr_t)&os->events,
                                        memory_order_seq_cst);

    SP__TRACE(M15, os, ((now & events) != 0) | events << 1);
    return (now & events) != 0;
}

/// Behind a change under the lock: looks, if somebody observes.
static inline void sp__observers_changed(struct sp__observers *os, unsigned events)
{
    if (sp__observed(os, events)) {
        sp__observers_look(os);
    }
}

/// The part of an object that is polled (poll.c). SP_EINVAL: objects of its kind are not.
int sp__pollable(struct sp__object *obj, struct sp__pollable *p);

#endif
