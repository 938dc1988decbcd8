/* SPDX-License-Identifier: MIT */
/// A binary heap of timers under one lock: arming is rare (ticks, time-outs of connections), firing
/// rarer. [any]
#include "timer.h"

#include "platform.h"
#include "sched.h"

#include <pthread.h>
#include <string.h>

static struct {
    pthread_mutex_t lock;
    struct sp__timer **heap;
    size_t n;
    size_t cap;
    size_t reserved;
    bool tell;    ///< the platform, of each change of `next`
    int64_t told; ///< … what it was told last
    _Atomic int64_t
        next; ///< the key of heap[0]; SP__NEVER; written under the lock, read by the poller
} timers = {.lock = PTHREAD_MUTEX_INITIALIZER, .next = SP__NEVER};

static void heap_put(size_t pos, struct sp__timer *t)
{
    timers.heap[pos] = t;
    t->pos = (uint32_t)(pos + 1);
}

static void heap_up(size_t pos, struct sp__timer *t)
{
    while (pos > 0 && timers.heap[(pos - 1) / 2]->when > t->when) {
        heap_put(pos, timers.heap[(pos - 1) / 2]);
        pos = (pos - 1) / 2;
    }
    heap_put(pos, t);
}

static void heap_down(size_t pos, struct sp__timer *t)
{
    for (size_t child; (child = 2 * pos + 1) < timers.n; pos = child) {
        if (child + 1 < timers.n && timers.heap[child + 1]->when < timers.heap[child]->when) {
            child++;
        }
        if (timers.heap[child]->when >= t->when) {
            break;
        }
        heap_put(pos, timers.heap[child]);
    }
    heap_put(pos, t);
}

static void heap_remove(struct sp__timer *t)
{
    size_t pos = t->pos - 1;
    struct sp__timer *last = timers.heap[--timers.n];

    t->pos = 0;
    if (last == t) {
        return;
    }
    heap_up(pos, last);
    heap_down(last->pos - 1, last);
}

static void heap_publish_next(void)
{
    int64_t next = timers.n > 0 ? timers.heap[0]->when : SP__NEVER;

    // Relaxed: the poller looks again after a kick.
    atomic_store_explicit(&timers.next, next, memory_order_relaxed);
    SP__TRACE(B19, NULL, next);
    if (timers.tell && next != timers.told) {
        timers.told = next;
        sp__platform->poller_due(next);
    }
}

void sp__timers_tell(bool tell)
{
    (void)pthread_mutex_lock(&timers.lock);
    timers.tell = tell;
    timers.told = SP__NEVER;
    heap_publish_next();
    (void)pthread_mutex_unlock(&timers.lock);
}

int sp__timer_reserve(void)
{
    int rc = 0;

    (void)pthread_mutex_lock(&timers.lock);
    if (timers.reserved == timers.cap) {
        size_t cap = timers.cap > 0 ? 2 * timers.cap : 64;
        struct sp__timer **heap = sp__alloc(cap * sizeof(struct sp__timer *));

        if (heap == NULL) {
            rc = SP_ENOMEM;
        } else {
            if (timers.n > 0) {
                memcpy(heap, timers.heap, timers.n * sizeof(struct sp__timer *));
            }
            sp__free(timers.heap);
            timers.heap = heap;
            timers.cap = cap;
        }
    }
    if (rc == 0) {
        timers.reserved++;
    }
    (void)pthread_mutex_unlock(&timers.lock);
    return rc;
}

void sp__timer_unreserve(void)
{
    (void)pthread_mutex_lock(&timers.lock);
    if (--timers.reserved == 0) {
        sp__free(timers.heap);
        timers.heap = NULL;
        timers.cap = 0;
    }
    (void)pthread_mutex_unlock(&timers.lock);
}

static void timer_handle(struct sp__event *ev)
{
    struct sp__timer *t = SP__CONTAINER(ev, struct sp__timer, ev);

    // An event that was on its way when the owner cancelled or re-armed means nothing.
    if (atomic_load_explicit(&t->live, memory_order_relaxed) &&
        sp__now() >= atomic_load_explicit(&t->due, memory_order_relaxed)) {
        SP__TRACE(G8, t, t->due);
        atomic_store_explicit(&t->live, false, memory_order_relaxed);
        t->fire(t);
    }
}

void sp__timer_init(struct sp__timer *t, struct sp__actor *a, struct sp__object *owner,
                    void (*fire)(struct sp__timer *t))
{
    memset(t, 0, sizeof(*t));
    sp__event_init(&t->ev, a, owner, timer_handle);
    t->fire = fire;
    SP__TRACE(G0, t, owner);
}

void sp__timer_arm(struct sp__timer *t, int64_t due)
{
    bool first;

    atomic_store_explicit(&t->due, due, memory_order_relaxed);
    atomic_store_explicit(&t->live, true, memory_order_relaxed);
    (void)pthread_mutex_lock(&timers.lock);
    t->when = due;
    SP__TRACE(G1, t, due);
    if (t->pos == 0) {
        sp__hold(t->ev.owner);
        heap_up(timers.n++, t);
    } else {
        size_t pos = t->pos - 1;

        heap_up(pos, t);
        heap_down(t->pos - 1, t);
    }
    first = timers.heap[0] == t;
    heap_publish_next();
    (void)pthread_mutex_unlock(&timers.lock);
    if (first) {
        sp__poller_kick(due);
    }
}

void sp__timer_cancel(struct sp__timer *t)
{
    bool armed;

    SP__TRACE(G2, t, t->live);
    atomic_store_explicit(&t->live, false, memory_order_relaxed);
    (void)pthread_mutex_lock(&timers.lock);
    armed = t->pos != 0;
    SP__TRACE(G3, t, armed);
    if (armed) {
        heap_remove(t);
        heap_publish_next();
    }
    (void)pthread_mutex_unlock(&timers.lock);
    if (armed) {
        SP__TRACE(G4, t, t->ev.owner);
        sp__drop(t->ev.owner);
    }
}

int64_t sp__timers_next(void)
{
    return atomic_load_explicit(&timers.next, memory_order_relaxed);
}

int sp__timers_fire(int64_t now)
{
    int fired = 0;

    SP__TRACE(G23, NULL, now);
    while (sp__timers_next() <= now) {
        struct sp__timer *t = NULL;
        struct sp__object *owner;

        (void)pthread_mutex_lock(&timers.lock);
        if (timers.n > 0 && timers.heap[0]->when <= now) {
            t = timers.heap[0];
            SP__TRACE(G5, t, now);
            heap_remove(t);
        }
        heap_publish_next();
        (void)pthread_mutex_unlock(&timers.lock);
        if (t == NULL) {
            break;
        }
        owner = t->ev.owner; // Armed timers hold it; the posted event holds it itself.
        sp__post(&t->ev);
        SP__TRACE(G7, t, owner);
        sp__drop(owner);
        fired++;
    }
    return fired;
}
