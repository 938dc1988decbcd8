/* SPDX-License-Identifier: MIT */
/// sp_poll: waits for whatever of many objects and descriptors is ready first. [any]
///
/// A look at all items comes first. If nothing is ready the call observes every object (observe.h)
/// and sleeps as other calls do (sp__wait), together with the user's descriptors; then it looks at
/// all items again, and begins anew if others were faster.
#include "poll.h"

#include "cork.h"
#include "error.h"
#include "mailbox.h"
#include "object.h"
#include "observe.h"
#include "platform.h"
#include "runtime.h"
#include "scope.h"
#include "socket.h"

#include <sp/sp.h>

#include <poll.h>
#include <string.h>

#define POLL_ROOM 1024 // bytes on the stack: for a few items
#define POLL_FAIR 16   // turns of a thread that drives, after which it looks at descriptors

_Static_assert(SP_POLLIN == POLLIN && SP_POLLOUT == POLLOUT && SP_POLLERR == POLLERR &&
                   SP_POLLHUP == POLLHUP,
               "values are those of <poll.h>");

struct poll_call {
    sp_pollitem *items;
    size_t n;
    struct sp__observer *observers; ///< as many; unused: `held` is NULL
    struct sp__fds fds;             ///< n 0: none
    struct sp__poller poller;
    int64_t deadline;
    bool polls; ///< descriptors of the library have a part in it
};

/* ------------------------------------------------------------------ Looking */

int sp__pollable(struct sp__object *obj, struct sp__pollable *p)
{
    struct sp__ctx *c = sp__ctx_of(obj);

    if (obj->kind == SP__KIND_MAILBOX) {
        sp__mailbox_pollable(SP__CONTAINER(obj, struct sp__mailbox, obj), p);
        return SP_OK;
    }
    if (c == NULL) {
        return SP_EINVAL;
    }
    sp__ctx_pollable(c, p);
    return SP_OK;
}

/// Finds what an item is about; to be left with sp__leave. Otherwise says in `revents` why not.
static bool item_enter(sp_pollitem *item, struct sp__object **obj, struct sp__pollable *p)
{
    int rc = sp__enter(item->id, SP__KIND_NONE, obj);

    if (rc == SP_OK) {
        if (sp__pollable(*obj, p) == SP_OK) {
            return true;
        }
        sp__leave();
    }
    item->revents = rc == SP_ECLOSED ? SP_POLLHUP : SP_POLLERR;
    return false;
}

/// What is ready of an object that nobody need observe for that.
static void item_look(sp_pollitem *item)
{
    struct sp__object *obj;
    struct sp__pollable p;

    if (item_enter(item, &obj, &p)) {
        p.ops->lock(p.of);
        item->revents = (short)(p.ops->ready(p.of) & (item->events | SP_POLLHUP));
        p.ops->unlock(p.of);
        sp__leave();
    }
}

/// Asks poll(2) about the descriptors, without waiting. Their results are taken over by
/// items_count.
static void fds_look(struct poll_call *p)
{
    if (p->fds.n > 0) {
        sp__platform->fds_wait(&p->fds, -1, 0);
    }
}

static short fd_revents(const struct pollfd *fd)
{
    return (short)(((fd->revents & POLLIN) != 0 ? SP_POLLIN : 0) |
                   ((fd->revents & POLLOUT) != 0 ? SP_POLLOUT : 0) |
                   ((fd->revents & (POLLERR | POLLNVAL)) != 0 ? SP_POLLERR : 0) |
                   ((fd->revents & POLLHUP) != 0 ? SP_POLLHUP : 0));
}

/// How many items are ready, those of descriptors as fds_look found them. Negative errno.
static int items_count(struct poll_call *p)
{
    size_t at = 1;
    int n = 0;

    if (p->fds.ready < 0) {
        return sp__fail_code(p->fds.ready, "poll");
    }
    for (size_t i = 0; i < p->n; i++) {
        if (p->items[i].id == 0) {
            p->items[i].revents = fd_revents(&p->fds.fd[at++]);
        }
        n += p->items[i].revents != 0;
    }
    return n;
}

static int poll_look(struct poll_call *p)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->items[i].id != 0) {
            item_look(&p->items[i]);
        }
    }
    fds_look(p);
    return items_count(p);
}

/* ------------------------------------------------------------------ Observing */

static void item_observe(struct poll_call *p, size_t i)
{
    struct sp__observer *o = &p->observers[i];
    sp_pollitem *item = &p->items[i];
    struct sp__object *obj;

    o->held = NULL;
    if (item->id == 0) {
        return;
    }
    if (!item_enter(item, &obj, &o->at)) {
        atomic_store_explicit(&p->poller.fired, true, memory_order_relaxed);
        SP__TRACE(M19, &p->poller, 0);
        return;
    }
    sp__hold(obj);
    o->held = obj;
    o->poller = &p->poller;
    o->events = (short)(item->events & (SP_POLLIN | SP_POLLOUT));
    o->at.ops->lock(o->at.of);
    sp__observe(o);
    o->at.ops->unlock(o->at.of);
    p->polls = p->polls || (o->at.ops->polls != NULL && o->at.ops->polls(o->at.of));
    sp__leave();
}

static void item_observe_end(struct poll_call *p, size_t i)
{
    struct sp__observer *o = &p->observers[i];

    if (o->held != NULL) {
        o->at.ops->lock(o->at.of);
        p->items[i].revents = sp__observe_end(o);
        o->at.ops->unlock(o->at.of);
        sp__drop(o->held);
    }
}

/// Why the call ends although nothing is ready.
static int poll_over(const struct poll_call *p)
{
    int rc = sp__scope_over();

    if (rc < 0) {
        return rc;
    }
    if (sp__runtime_ends()) {
        return SP_ECLOSED;
    }
    return p->deadline != SP__NEVER && sp__now() >= p->deadline ? SP_ETIMEDOUT : SP_OK;
}

/// Whether it was told that something is ready.
static bool poll_fired(const struct poll_call *p)
{
    // Acquire: pairs with the exchange in poller_fire.
    bool fired = atomic_load_explicit((atomic_bool *)(uintptr_t)&p->poller.fired,
                                      memory_order_acquire);

    SP__TRACE(M12, &p->poller, fired);
    return fired;
}

/// Sleeps until something may be ready. SP_OK; or poll_over, and nothing is known to be ready.
static int poll_wait(struct poll_call *p)
{
    unsigned turn = 0;

    while (!poll_fired(p) && p->fds.ready == 0) {
        int rc = poll_over(p);

        if (rc < 0) {
            return rc;
        }
        (void)sp__wait(p->deadline, p->fds.n > 0 ? 0 : -1, p->polls);
        if (++turn % POLL_FAIR == 0 && p->fds.ready == 0) {
            fds_look(p);
        }
    }
    return SP_OK;
}

/// Observes, sleeps, and looks at the end. The number of items that are ready; 0: others were
/// faster; an error, which is not set as the detail, when none is.
static int poll_sleep(struct poll_call *p)
{
    struct sp__thread *t = sp__self();
    int rc;
    int n;

    atomic_init(&p->poller.fired, false);
    p->poller.thread = t;
    SP__TRACE(M18, &p->poller, t);
    p->polls = false;
    p->fds.ready = 0;
    for (size_t i = 0; i < p->n; i++) {
        item_observe(p, i);
    }
    t->fds = p->fds.n > 0 ? &p->fds : NULL;
    // Relaxed, as below: see sp__polls_rouse.
    atomic_store_explicit(&t->in_poll, true, memory_order_relaxed);
    rc = poll_wait(p);
    atomic_store_explicit(&t->in_poll, false, memory_order_relaxed);
    t->fds = NULL;
    for (size_t i = 0; i < p->n; i++) {
        item_observe_end(p, i);
    }
    fds_look(p);
    n = items_count(p);
    return n != 0 ? n : rc;
}

void sp__polls_rouse(void)
{
    // Relaxed: who is not seen in there yet will be the next time.
    for (struct sp__thread *t = sp__threads(); t != NULL; t = t->next) {
        if (atomic_load_explicit(&t->in_poll, memory_order_relaxed)) {
            sp__thread_wake(t);
        }
    }
}

/* ------------------------------------------------------------------ The call */

/// Counts the descriptors. SP_ENOTSUP: none can be polled here.
static int poll_count_fds(struct poll_call *p)
{
    size_t n = 0;

    for (size_t i = 0; i < p->n; i++) {
        p->items[i].revents = 0;
        n += p->items[i].id == 0;
    }
    p->fds.n = n > 0 ? n + 1 : 0;
    p->fds.ready = 0;
    return n > 0 && sp__platform->fds_wait == NULL
               ? sp__fail(SP_ENOTSUP, "poll: no descriptors in simulation")
               : SP_OK;
}

/// Lays out observers and descriptors in memory of poll_size bytes.
static void poll_lay_out(struct poll_call *p, void *memory)
{
    size_t at = 1;

    p->observers = memory;
    p->fds.fd = (struct pollfd *)(void *)(p->observers + p->n);
    for (size_t i = 0; i < p->n; i++) {
        if (p->items[i].id == 0) {
            p->fds.fd[at++] = (struct pollfd){
                p->items[i].fd, (short)(p->items[i].events & (SP_POLLIN | SP_POLLOUT)), 0};
        }
    }
}

static size_t poll_size(const struct poll_call *p)
{
    return p->n * sizeof(struct sp__observer) + p->fds.n * sizeof(struct pollfd);
}

/// Waits, in a thread that may.
static int poll_block(struct poll_call *p)
{
    int rc = p->fds.n > 0 ? sp__thread_flag(sp__self()) : SP_OK;

    if (rc < 0) {
        return sp__fail_code(rc, "poll: eventfd");
    }
    while (rc == 0) {
        rc = poll_sleep(p);
    }
    switch (rc) {
    case SP_ETIMEDOUT:
        return 0; // Of the scope or not: the caller knows.
    case SP_ECANCELED:
        return sp__fail(rc, "poll: the scope was cancelled");
    case SP_ECLOSED:
        return sp__fail(rc, "poll: the library is being shut down");
    default:
        return rc;
    }
}

/// Nothing is ready: with "threads" = 0 what is due may change that, even if the call does not
/// wait.
static int poll_on(struct poll_call *p, int timeout_ms)
{
    if (timeout_ms == 0 && sp__sched_threaded()) {
        return 0;
    }
    if (!sp__may_block()) {
        return timeout_ms == 0 ? 0 : SP_ESTATE;
    }
    if (timeout_ms == 0) {
        (void)sp__drive(0);
        return poll_look(p);
    }
    return poll_block(p);
}

static int poll_with(struct poll_call *p, int timeout_ms)
{
    int n;
    int rc;

    (void)sp__uncork(); // What this thread sent may have its answer already.
    n = poll_look(p);   // Without the runtime, which closed handles shall not start again.
    if (n != 0) {
        return n;
    }
    rc = sp__runtime_enter();
    if (rc == SP_OK) {
        rc = poll_on(p, timeout_ms);
        sp__runtime_leave();
    }
    return rc;
}

/// Within the thread's scope.
static int poll_items(sp_pollitem *items, size_t n, int timeout_ms)
{
    _Alignas(struct sp__observer) char room[POLL_ROOM];
    struct poll_call p = {.items = items, .n = n};
    void *memory = room;
    int rc;

    if (sp__forked() || sp__self() == NULL) {
        return sp__forked() ? sp__fail(SP_ESTATE, "called in a child after fork")
                            : sp__fail_code(SP_ENOMEM, "poll");
    }
    rc = poll_count_fds(&p);
    if (rc < 0) {
        return rc;
    }
    p.deadline = sp__sock_deadline(timeout_ms);
    if (poll_size(&p) > sizeof(room)) {
        memory = sp__alloc(poll_size(&p));
    }
    if (memory == NULL) {
        return sp__fail_code(SP_ENOMEM, "poll: %zu items", n);
    }
    poll_lay_out(&p, memory);
    rc = poll_with(&p, timeout_ms);
    sp__run_here(true); // A look may have dropped stale answers, which makes room.
    if (memory != room) {
        sp__free(memory);
    }
    return rc;
}

int sp_poll(sp_pollitem *items, size_t n, int timeout_ms)
{
    return items != NULL || n == 0 ? poll_items(items, n, timeout_ms)
                                   : sp__fail(SP_EINVAL, "poll: no items");
}

int sp_poll_in(sp_scope scope, sp_pollitem *items, size_t n)
{
    int rc = items != NULL || n == 0 ? sp__scope_begin(scope)
                                     : sp__fail(SP_EINVAL, "poll: no items");

    if (rc == SP_OK) {
        rc = poll_items(items, n, -1);
        rc = rc == 0 ? sp__fail(SP_ETIMEDOUT, "poll: the scope's deadline passed") : rc;
        sp__scope_end();
    }
    return rc;
}
