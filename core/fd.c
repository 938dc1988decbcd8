/* SPDX-License-Identifier: MIT */
/// sp_fd: descriptors for foreign loops. That of an object is a flag that an observer keeps as the
/// object is (observe.h); that of the library is its readiness set, with a timer and a flag for
/// what waits to be run in it. [any]
#include "config.h"
#include "error.h"
#include "object.h"
#include "observe.h"
#include "platform.h"
#include "runtime.h"
#include "sched.h"

#include <sp/sp.h>

/// Begins to keep a flag as the object is, unless another thread was faster; then that one's is
/// returned. SP_ECLOSED.
static int fd_observe(struct sp__observer *o)
{
    int fd;

    o->at.ops->lock(o->at.of);
    fd = (o->at.ops->ready(o->at.of) & SP_POLLHUP) != 0
             ? SP_ECLOSED
             : sp__observers_flag(o->at.observers, o->at.of, o->events);
    if (fd == -1) {
        sp__observe(o);
    }
    o->at.ops->unlock(o->at.of);
    return fd;
}

static int fd_make(const struct sp__pollable *p, short event)
{
    struct sp__observer *o = sp__zalloc(sizeof(*o));
    int fd;

    if (o == NULL) {
        return SP_ENOMEM;
    }
    o->at = *p;
    o->events = event;
    o->fd = sp__platform->flag_open != NULL ? sp__platform->flag_open() : SP_ENOTSUP;
    fd = o->fd;
    if (fd >= 0) {
        int other = fd_observe(o);

        if (other == -1) {
            return fd; // From here on it is the object's.
        }
        sp__platform->flag_close(fd);
        fd = other;
    }
    sp__free(o);
    return fd;
}

static int fd_of(uint64_t id, short event)
{
    struct sp__object *obj;
    struct sp__pollable p;
    int rc = sp__enter(id, SP__KIND_NONE, &obj);

    if (rc < 0) {
        return rc;
    }
    if (sp__pollable(obj, &p) < 0) {
        rc = sp__fail(SP_EINVAL, "fd: handle 0x%llx cannot be polled", (unsigned long long)id);
    } else if ((p.can & event) == 0) {
        rc = sp__fail(SP_ENOTSUP, "fd: it never %s", event == SP_POLLIN ? "receives" : "sends");
    } else {
        p.ops->lock(p.of);
        rc = sp__observers_flag(p.observers, p.of, event);
        p.ops->unlock(p.of);
        rc = rc == -1 ? fd_make(&p, event) : rc;
        rc = rc < 0 ? sp__fail_code(rc, "fd") : rc;
    }
    sp__leave();
    sp__run_here(true); // A look may have dropped stale answers, which makes room.
    return rc;
}

/// The library's own, to be driven by a foreign loop.
static int fd_of_library(void)
{
    int fd;

    if (sp__config()->threads != 0) {
        return sp__fail(SP_ESTATE, "fd: the library has threads of its own (set \"threads\" to 0)");
    }
    fd = sp__sched_fd();
    return fd < 0 ? sp__fail_code(fd, "fd") : fd;
}

int sp_fd(uint64_t id, int event)
{
    int fd;

    if ((event != SP_POLLIN && event != SP_POLLOUT) || (id == 0 && event != SP_POLLIN)) {
        return sp__fail(SP_EINVAL, "fd: the event is %d", event);
    }
    if (id != 0) {
        return fd_of(id, (short)event);
    }
    fd = sp__runtime_enter();
    if (fd == SP_OK) {
        fd = fd_of_library();
        sp__runtime_leave();
    }
    return fd;
}
