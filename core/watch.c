/* SPDX-License-Identifier: MIT */
/// File descriptors in the readiness set, each a reference of the object that it is about. One that
/// is closed while somebody polls may still be reported: it keeps its reference until that thread
/// is through. [socket's actor; output's actor]
#include "watch.h"

#include "object.h"
#include "platform.h"
#include "sched.h"
#include "sched_state.h"
#include "trace.h"

#include <sp/sp.h>

int sp__watch_open(struct sp__watch *w, int fd)
{
    int rc;

    w->fd = fd;
    SP__TRACE(G21, w, w->obj);
    sp__hold(w->obj);
    // Release: who gets a report about it sees what it is about (sp__poller_report); the kernel
    // orders that too, but not so that tools could see it.
    (void)atomic_fetch_add_explicit(&sp__sched.watches, 1, memory_order_release);
    rc = sp__platform->watch(fd, w);
    if (rc < 0) {
        (void)atomic_fetch_sub_explicit(&sp__sched.watches, 1, memory_order_relaxed);
        w->fd = -1;
        SP__TRACE(G14, w, w->obj);
        sp__drop(w->obj);
        return rc;
    }
    sp__need_worker();
    return SP_OK;
}

void sp__watch_out(struct sp__watch *w, bool out)
{
    if (w->fd >= 0) {
        sp__platform->watch_out(w->fd, w, out);
    }
}

void sp__watch_close(struct sp__watch *w)
{
    bool busy;

    if (w->fd < 0) {
        return;
    }
    sp__platform->unwatch(w->fd);
    SP__TRACE(G11, w, 0);
    w->fd = -1;
    (void)atomic_fetch_sub_explicit(&sp__sched.watches, 1, memory_order_relaxed);
    (void)pthread_mutex_lock(&sp__sched.lock);
    busy = sp__sched.poller_busy;
    SP__TRACE(G12, w, busy);
    if (busy) {
        w->zombie = sp__sched.zombies;
        sp__sched.zombies = w;
        SP__TRACE(G13, w, 0);
    }
    (void)pthread_mutex_unlock(&sp__sched.lock);
    if (busy) {
        SP__TRACE(B4, NULL, 0);
        sp__platform->poller_wake();
    } else {
        SP__TRACE(G14, w, w->obj);
        sp__drop(w->obj);
    }
}

void sp__watch_drop_zombies(struct sp__watch *w)
{
    while (w != NULL) {
        struct sp__watch *next = w->zombie;

        SP__TRACE(G17, w, w->obj);
        sp__drop(w->obj);
        w = next;
    }
}
