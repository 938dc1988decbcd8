/* SPDX-License-Identifier: MIT */
/// Mailboxes for applications. See mailbox.h. [any]
#include "mailbox.h"

#include "app.h"
#include "cork.h"
#include "error.h"
#include "forward.h"
#include "platform.h"
#include "runtime.h"
#include "scope.h"
#include "socket.h"

#include <sp/sp.h>

static struct sp__post_waiter *post_waiter(struct sp__waiter *w)
{
    return SP__CONTAINER(w, struct sp__post_waiter, w);
}

/* ------------------------------------------------------------------ Under the lock */

void sp__mailbox_unlock(struct sp__mailbox *mb)
{
    sp__observers_look(&mb->observers); // Also for those who only want to hear of the end.
    (void)pthread_mutex_unlock(&mb->lock);
}

/// Whom to wake once the lock is gone. A waiter may be gone by then, its thread not.
struct wakes {
    struct sp__wake list[2];
    int n;
};

static void wakes_add(struct wakes *wakes, struct sp__wake wake)
{
    wakes->list[wakes->n++] = wake;
}

static void wakes_do(const struct wakes *wakes)
{
    for (int i = 0; i < wakes->n; i++) {
        sp__wake(wakes->list[i]);
    }
}

/// SP_OK, SP_EFULL, SP_ECLOSED; then it is still the caller's.
static int box_post(struct sp__mailbox *mb, sp_msg *m, struct wakes *wakes)
{
    if (mb->closed) {
        return SP_ECLOSED;
    }
    if (mb->takers.head != NULL) {
        struct sp__post_waiter *taker = post_waiter(mb->takers.head);

        taker->m = m;
        taker->rc = SP_OK;
        mb->taken++;
        wakes_add(wakes, sp__waiter_pop(&mb->takers));
    } else if (mb->q.n < mb->capacity) {
        sp_batch_push(&mb->q, m);
    } else {
        return SP_EFULL;
    }
    mb->posted++;
    return SP_OK;
}

/// There is room for one: who comes first of those who wait gets it. Who only asked is told, takes
/// none, and passes it on (sp__mailbox_pass).
static void box_refill(struct sp__mailbox *mb, struct wakes *wakes)
{
    struct sp__post_waiter *poster = mb->posters.head != NULL ? post_waiter(mb->posters.head)
                                                              : NULL;

    if (poster == NULL || mb->q.n >= mb->capacity) {
        return;
    }
    poster->rc = SP_OK;
    if (poster->m != NULL) {
        sp_batch_push(&mb->q, poster->m);
        poster->m = NULL;
        mb->posted++;
    }
    wakes_add(wakes, sp__waiter_pop(&mb->posters));
}

/// NULL: it is empty.
static sp_msg *box_take(struct sp__mailbox *mb, struct wakes *wakes)
{
    sp_msg *m = sp_batch_pop(&mb->q);

    if (m != NULL) {
        mb->taken++;
        box_refill(mb, wakes);
    }
    return m;
}

/* ------------------------------------------------------------------ Forwarders and actors */

int sp__mailbox_feed(struct sp__mailbox *mb, sp_batch *in, struct sp__post_waiter *w)
{
    int rc = SP_OK;

    while (rc == SP_OK && in->head != NULL) {
        struct wakes wakes = {.n = 0};
        sp_msg *m = sp_batch_pop(in);

        (void)pthread_mutex_lock(&mb->lock);
        rc = box_post(mb, m, &wakes);
        if (rc == SP_EFULL) {
            w->m = m;
            sp__waiter_add(&mb->posters, &w->w, false);
        }
        sp__mailbox_unlock(mb);
        wakes_do(&wakes);
        if (rc == SP_ECLOSED) {
            sp_batch_unpop(in, m);
        }
    }
    return rc;
}

bool sp__mailbox_tell(struct sp__mailbox *mb, struct sp__post_waiter *w)
{
    bool waits;

    (void)pthread_mutex_lock(&mb->lock);
    waits = !mb->closed && mb->q.n >= mb->capacity;
    if (waits) {
        sp__waiter_add(&mb->posters, &w->w, false);
    }
    sp__mailbox_unlock(mb);
    return waits;
}

struct sp__wake sp__mailbox_pass(struct sp__mailbox *mb)
{
    struct wakes wakes = {.n = 0};

    (void)pthread_mutex_lock(&mb->lock);
    box_refill(mb, &wakes);
    sp__mailbox_unlock(mb);
    return wakes.n > 0 ? wakes.list[0] : (struct sp__wake){NULL, NULL};
}

/* ------------------------------------------------------------------ Waiting */

bool sp__mailbox_polls(const struct sp__mailbox *mb)
{
    for (const struct sp__forward *f = mb->forwards; f != NULL; f = f->next) {
        if (sp__sock_polls(f->tap.sock)) {
            return true;
        }
    }
    return false;
}

/// Sleeps until it is served, which it may be already; `list` is where it waits. SP_ETIMEDOUT,
/// SP_ECANCELED: it waits no more. Begins under the lock, and gives it up.
static int box_wait(struct sp__mailbox *mb, struct sp__waiters *list, struct sp__post_waiter *w,
                    int64_t timeout)
{
    int64_t deadline = sp__sock_deadline(timeout);

    sp__waiter_add(list, &w->w, false);
    for (;;) {
        bool polls = sp__mailbox_polls(mb);
        bool late;
        int rc;

        sp__mailbox_unlock(mb);
        late = !sp__wait(deadline, -1, polls) && sp__now() >= deadline;
        (void)pthread_mutex_lock(&mb->lock);
        if (!w->w.queued) {
            rc = w->rc;
            sp__mailbox_unlock(mb);
            return rc;
        }
        rc = sp__scope_over();
        rc = rc == SP_OK && late ? SP_ETIMEDOUT : rc;
        if (rc < 0) {
            sp__waiter_remove(list, &w->w);
            sp__mailbox_unlock(mb);
            return rc;
        }
    }
}

static int box_fail(int err, const char *what)
{
    switch (err) {
    case SP_ECLOSED:
        return sp__fail(err, "%s: the mailbox was closed", what);
    case SP_EFULL:
        return sp__fail(err, "%s: the mailbox is full", what);
    case SP_EAGAIN:
        return sp__fail(err, "%s: the mailbox is empty", what);
    case SP_ETIMEDOUT:
        return sp__fail(err, "%s: timed out", what);
    case SP_ECANCELED:
        return sp__fail(err, "%s: the scope was cancelled", what);
    default:
        return err; // SP_ESTATE: sp__may_block has said why.
    }
}

/* ------------------------------------------------------------------ The API */

static int box_enter(sp_mailbox mb, struct sp__mailbox **out)
{
    struct sp__object *obj;
    int rc = sp__enter(mb.id, SP__KIND_MAILBOX, &obj);

    if (rc == SP_OK) {
        *out = SP__CONTAINER(obj, struct sp__mailbox, obj);
    }
    return rc;
}

/// Whether it waits; else `rc` says why not.
static bool box_may_wait(int64_t timeout, int *rc)
{
    if (timeout == 0) {
        return false;
    }
    *rc = sp__may_block() ? sp__scope_over() : SP_ESTATE;
    return *rc == SP_OK;
}

static int box_post_or_wait(struct sp__mailbox *mb, sp_msg *m, int64_t timeout)
{
    struct sp__post_waiter w = {.w = {.thread = sp__self()}, .m = m};
    struct wakes wakes = {.n = 0};
    int rc;

    do {
        (void)pthread_mutex_lock(&mb->lock);
        rc = box_post(mb, m, &wakes);
        // The lock is held: nothing that this asks takes another one.
        if (rc == SP_EFULL && box_may_wait(timeout, &rc)) {
            return box_wait(mb, &mb->posters, &w, timeout);
        }
        sp__mailbox_unlock(mb);
    } while (rc == SP_EFULL && sp__app_wants_room(&mb->obj));
    wakes_do(&wakes);
    if (rc == SP_EFULL) {
        atomic_fetch_add_explicit(&mb->refused, 1, memory_order_relaxed);
    }
    return rc;
}

int sp_mailbox_post(sp_mailbox mb, sp_msg *m, int flags)
{
    struct sp__mailbox *box = NULL;
    int rc;

    if (m == NULL) {
        return sp__fail(SP_EINVAL, "post: the message is NULL");
    }
    if (!sp__flags_known(flags)) {
        return sp__flags_fail("post", flags);
    }
    rc = box_enter(mb, &box);
    if (rc != SP_OK) {
        return rc;
    }
    rc = box_post_or_wait(box, m, sp__timeout(&box->send_timeout, flags));
    rc = rc < 0 ? box_fail(rc, "post") : rc;
    sp__leave();
    sp__run_here(true);
    return rc;
}

static int box_take_or_wait(struct sp__mailbox *mb, sp_msg **m, int64_t timeout)
{
    struct sp__post_waiter w = {.w = {.thread = sp__self()}};
    struct wakes wakes = {.n = 0};
    bool last;
    int rc = SP_OK;

    (void)sp__uncork(); // What this thread sent may come back here.
    (void)pthread_mutex_lock(&mb->lock);
    *m = box_take(mb, &wakes);
    last = mb->closed && mb->q.n == 0;
    if (*m == NULL) {
        rc = mb->closed ? SP_ECLOSED : SP_EAGAIN;
    }
    if (rc == SP_EAGAIN && box_may_wait(timeout, &rc)) {
        rc = box_wait(mb, &mb->takers, &w, timeout);
        *m = w.m;
        return rc;
    }
    sp__mailbox_unlock(mb);
    wakes_do(&wakes);
    if (last) {
        sp__mailbox_end(mb);
    }
    return rc;
}

int sp_mailbox_take(sp_mailbox mb, sp_msg **m, int flags)
{
    struct sp__mailbox *box = NULL;
    int rc;

    if (m == NULL) {
        return sp__fail(SP_EINVAL, "take: no place for the message");
    }
    if (!sp__flags_known(flags)) {
        return sp__flags_fail("take", flags);
    }
    rc = box_enter(mb, &box);
    if (rc != SP_OK) {
        return rc;
    }
    rc = box_take_or_wait(box, m, sp__timeout(&box->recv_timeout, flags));
    rc = rc < 0 ? box_fail(rc, "take") : rc;
    sp__leave();
    sp__run_here(true);
    return rc;
}
