/* SPDX-License-Identifier: MIT */
/// The life of mailboxes for applications, their options and statistics, and who feeds them. [any]
#include "error.h"
#include "forward.h"
#include "mailbox.h"
#include "msg.h"
#include "platform.h"
#include "runtime.h"
#include "sched.h"

#include <sp/sp.h>

#include <inttypes.h>
#include <string.h>

static struct {
    pthread_mutex_t lock;
    struct sp__mailbox_stats sum;
} gone = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ------------------------------------------------------------------ Polling */

static void box_lock(void *of)
{
    struct sp__mailbox *mb = of;

    (void)pthread_mutex_lock(&mb->lock);
}

static void box_unlock(void *of)
{
    struct sp__mailbox *mb = of;

    (void)pthread_mutex_unlock(&mb->lock);
}

static short box_ready(void *of)
{
    const struct sp__mailbox *mb = of;
    short in = mb->q.n > 0 ? SP_POLLIN : 0;

    if (mb->closed) {
        return (short)(SP_POLLHUP | in);
    }
    return (short)(in | (mb->q.n < mb->capacity ? SP_POLLOUT : 0));
}

static bool box_polls(const void *of)
{
    struct sp__mailbox *mb = (struct sp__mailbox *)(uintptr_t)of;
    bool polls;

    (void)pthread_mutex_lock(&mb->lock);
    polls = sp__mailbox_polls(mb);
    (void)pthread_mutex_unlock(&mb->lock);
    return polls;
}

static const struct sp__pollable_ops box_pollable = {box_lock, box_unlock, box_ready, box_polls};

void sp__mailbox_pollable(struct sp__mailbox *mb, struct sp__pollable *p)
{
    p->ops = &box_pollable;
    p->observers = &mb->observers;
    p->of = mb;
    p->can = SP_POLLIN | SP_POLLOUT;
}

/* ------------------------------------------------------------------ The end */

static void box_destroy(struct sp__object *obj)
{
    struct sp__mailbox *mb = SP__CONTAINER(obj, struct sp__mailbox, obj);
    struct sp__pollable p;

    sp__mailbox_pollable(mb, &p);
    sp__observers_close(&p);
    (void)pthread_mutex_lock(&gone.lock);
    gone.sum.posted += mb->posted;
    gone.sum.taken += mb->taken;
    gone.sum.dropped += mb->dropped;
    gone.sum.refused += mb->refused;
    (void)pthread_mutex_unlock(&gone.lock);
    (void)pthread_mutex_destroy(&mb->lock);
    sp__free(mb);
}

void sp__mailbox_end(struct sp__mailbox *mb)
{
    if (sp__handle_close(&mb->obj)) {
        sp__drop(&mb->obj);
    }
}

/// Takes the first who waits out of a list, with this result. Nobody: no more.
static struct sp__wake box_next(struct sp__mailbox *mb, struct sp__waiters *list)
{
    struct sp__wake wake;

    (void)pthread_mutex_lock(&mb->lock);
    if (list->head != NULL) {
        SP__CONTAINER(list->head, struct sp__post_waiter, w)->rc = SP_ECLOSED;
    }
    wake = sp__waiter_pop(list);
    (void)pthread_mutex_unlock(&mb->lock);
    return wake;
}

/// Closes it; one that was closed already, or with `drop`, loses what is in it.
static void box_close(struct sp__mailbox *mb, bool drop)
{
    struct sp__forward *forwards;
    struct sp__waiters *lists[] = {&mb->takers, &mb->posters};
    sp_batch lost = {NULL, NULL, 0};
    bool empty;

    (void)pthread_mutex_lock(&mb->lock);
    if (drop || mb->closed) {
        mb->dropped += mb->q.n;
        sp_batch_join(&lost, &mb->q);
    }
    mb->closed = true;
    empty = mb->q.n == 0;
    forwards = mb->forwards;
    mb->forwards = NULL;
    sp__mailbox_unlock(mb);
    sp__forwards_end(forwards);
    for (unsigned i = 0; i < 2; i++) {
        struct sp__wake wake;

        do {
            wake = box_next(mb, lists[i]);
            sp__wake(wake);
        } while (sp__wakes(wake));
    }
    sp__batch_release(&lost);
    if (empty) {
        sp__mailbox_end(mb);
    }
}

void sp__mailboxes_close(void)
{
    struct sp__object *obj;

    for (uint32_t at = 0; (obj = sp__handle_next(SP__KIND_MAILBOX, &at)) != NULL;) {
        box_close(SP__CONTAINER(obj, struct sp__mailbox, obj), true);
        sp__drop(obj);
    }
}

/* ------------------------------------------------------------------ Forwarders */

size_t sp__mailbox_room(struct sp__mailbox *mb)
{
    size_t room;

    (void)pthread_mutex_lock(&mb->lock);
    room = mb->capacity - mb->q.n;
    (void)pthread_mutex_unlock(&mb->lock);
    return room;
}

bool sp__mailbox_closed(struct sp__mailbox *mb)
{
    bool closed;

    (void)pthread_mutex_lock(&mb->lock);
    closed = mb->closed;
    (void)pthread_mutex_unlock(&mb->lock);
    return closed;
}

bool sp__mailbox_fed_by(struct sp__mailbox *mb, struct sp__forward *f)
{
    bool open;

    (void)pthread_mutex_lock(&mb->lock);
    open = !mb->closed;
    if (open) {
        sp__hold(&f->tap.obj);
        f->next = mb->forwards;
        mb->forwards = f;
    }
    (void)pthread_mutex_unlock(&mb->lock);
    return open;
}

void sp__mailbox_not_fed_by(struct sp__mailbox *mb, struct sp__forward *f)
{
    bool found = false;

    (void)pthread_mutex_lock(&mb->lock);
    for (struct sp__forward **at = &mb->forwards; !found && *at != NULL; at = &(*at)->next) {
        if (*at == f) {
            *at = f->next;
            found = true;
            break;
        }
    }
    (void)pthread_mutex_unlock(&mb->lock);
    if (found) {
        sp__drop(&f->tap.obj);
    }
}

void sp__mailbox_lost(struct sp__mailbox *mb, sp_batch *lost)
{
    (void)pthread_mutex_lock(&mb->lock);
    mb->posted += lost->n;
    mb->dropped += lost->n;
    (void)pthread_mutex_unlock(&mb->lock);
    sp__batch_release(lost);
}

/* ------------------------------------------------------------------ The API */

int sp_mailbox_close(sp_mailbox mb)
{
    struct sp__object *obj;
    int rc = sp__enter(mb.id, SP__KIND_MAILBOX, &obj);

    if (rc < 0) {
        return rc;
    }
    box_close(SP__CONTAINER(obj, struct sp__mailbox, obj), false);
    sp__leave();
    sp__reclaim();
    sp__run_here(true);
    return SP_OK;
}

static struct sp__mailbox *box_new(size_t capacity)
{
    struct sp__mailbox *mb = sp__zalloc(sizeof(*mb));

    if (mb == NULL || pthread_mutex_init(&mb->lock, NULL) != 0) {
        sp__free(mb);
        return NULL;
    }
    sp__object_init(&mb->obj, SP__KIND_MAILBOX, box_destroy);
    mb->capacity = capacity;
    mb->recv_timeout = -1;
    mb->send_timeout = -1;
    return mb;
}

int sp_mailbox_open(sp_mailbox *out, size_t capacity)
{
    struct sp__mailbox *mb;
    int rc;

    if (out == NULL || capacity == 0) {
        return sp__fail(SP_EINVAL, "mailbox: no place for the result, or room for no message");
    }
    rc = sp__runtime_enter();
    if (rc < 0) {
        return rc;
    }
    mb = box_new(capacity);
    rc = SP_ENOMEM;
    if (mb != NULL) {
        rc = sp__handle_open(&mb->obj, &out->id);
        sp__drop(&mb->obj);
    }
    sp__runtime_leave();
    return rc < 0 ? sp__fail_code(rc, "mailbox") : SP_OK;
}

/// NULL: no such option.
static int64_t *box_option(struct sp__mailbox *mb, const char *name)
{
    return strcmp(name, "recv-timeout") == 0   ? &mb->recv_timeout
           : strcmp(name, "send-timeout") == 0 ? &mb->send_timeout
                                               : NULL;
}

int sp__mailbox_int(uint64_t id, const char *name, const int64_t *set, int64_t *get)
{
    struct sp__object *obj;
    int rc = sp__enter(id, SP__KIND_MAILBOX, &obj);
    int64_t *field;

    if (rc < 0) {
        return sp__fail_in(rc, "option \"%s\"", name);
    }
    field = box_option(SP__CONTAINER(obj, struct sp__mailbox, obj), name);
    if (field == NULL) {
        rc = sp__fail(SP_ENOTSUP, "option \"%s\": this mailbox has none", name);
    } else if (set == NULL) {
        *get = sp_option_load(field);
    } else if (*set < -1 || *set > INT32_MAX) {
        rc = sp__fail(SP_EINVAL, "option \"%s\": %" PRId64 " is not in -1…%d", name, *set,
                      INT32_MAX);
    } else {
        __atomic_store_n(field, *set, __ATOMIC_RELAXED);
    }
    sp__leave();
    return rc;
}

void sp__mailbox_stats(struct sp__mailbox *mb, struct sp__mailbox_stats *out)
{
    pthread_mutex_t *lock = mb != NULL ? &mb->lock : &gone.lock;

    (void)pthread_mutex_lock(lock);
    if (mb != NULL) {
        *out = (struct sp__mailbox_stats){mb->posted,  mb->taken, mb->dropped,
                                          mb->refused, mb->q.n,   mb->capacity};
    } else {
        *out = gone.sum;
    }
    (void)pthread_mutex_unlock(lock);
}
