/* SPDX-License-Identifier: MIT */
/// Lists of observers. See observe.h for the invariant. [any]
#include "observe.h"

#include "object.h"

/// Something that it waits for is ready: wakes it, once.
static void poller_fire(struct sp__poller *p)
{
    // Release: pairs with the acquire of poll_wait. It still waits: it takes the object's lock
    // before it is gone.
    bool was = atomic_exchange_explicit(&p->fired, true, memory_order_release);

    SP__TRACE(M11, p, was);
    if (!was) {
        sp__thread_wake(p->thread);
    }
}

/// Tells one how its object is.
static void observer_look(struct sp__observer *o)
{
    bool on = (o->at.ops->ready(o->at.of) & (o->events | SP_POLLHUP)) != 0;

    SP__TRACE(M10, o, on);
    if (on == o->on) {
        return;
    }
    if (o->poller == NULL) {
        o->on = on;
        sp__platform->flag_set(o->fd, on);
    } else if (on) { // A poller looks for itself when it is awake.
        o->on = true;
        poller_fire(o->poller);
    }
}

void sp__observers_look(struct sp__observers *os)
{
    SP__TRACE(M16, os, 0);
    for (struct sp__observer *o = os->first; o != NULL; o = o->next) {
        observer_look(o);
    }
}

/// One more or less; `events` is what is observed now.
static void observers_count(struct sp__observers *os, short events, int n)
{
    os->in += (events & SP_POLLIN) != 0 ? (unsigned)n : 0;
    os->out += (events & SP_POLLOUT) != 0 ? (unsigned)n : 0;
    // seq_cst, and so are the loads of `ready` that follow: see observe.h.
    atomic_store_explicit(&os->events,
                          (os->in > 0 ? SP_POLLIN : 0U) | (os->out > 0 ? SP_POLLOUT : 0U),
                          memory_order_seq_cst);
}

void sp__observe(struct sp__observer *o)
{
    struct sp__observers *os = o->at.observers;

    o->on = false;
    o->prev = NULL;
    o->next = os->first;
    if (o->next != NULL) {
        o->next->prev = o;
    }
    os->first = o;
    SP__TRACE(M20, o, o->poller);
    SP__TRACE(M21, o, o->events);
    observers_count(os, o->events, 1);
    SP__TRACE(M9, os, o);
    observer_look(o);
}

short sp__observe_end(struct sp__observer *o)
{
    *(o->prev != NULL ? &o->prev->next : &o->at.observers->first) = o->next;
    if (o->next != NULL) {
        o->next->prev = o->prev;
    }
    observers_count(o->at.observers, o->events, -1);
    SP__TRACE(M13, o->at.observers, o);
    return (short)(o->at.ops->ready(o->at.of) & (o->events | SP_POLLHUP));
}

int sp__observers_flag(const struct sp__observers *os, const void *of, short event)
{
    for (const struct sp__observer *o = os->first; o != NULL; o = o->next) {
        if (o->poller == NULL && o->at.of == of && o->events == event) {
            return o->fd;
        }
    }
    return -1;
}

void sp__observers_close(const struct sp__pollable *p)
{
    struct sp__observer *mine = NULL;
    struct sp__observer *next;

    p->ops->lock(p->of);
    for (struct sp__observer *o = p->observers->first; o != NULL; o = next) {
        next = o->next;
        if (o->poller == NULL && o->at.of == p->of) {
            (void)sp__observe_end(o);
            o->next = mine;
            mine = o;
        }
    }
    p->ops->unlock(p->of);
    for (; mine != NULL; mine = next) {
        next = mine->next;
        sp__platform->flag_close(mine->fd);
        sp__free(mine);
    }
}
