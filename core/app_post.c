/* SPDX-License-Identifier: MIT */
/// Posting to actors of applications, and waiting for room in them. See app.h. [any]
#include "app.h"
#include "error.h"
#include "platform.h"
#include "runtime.h"
#include "sched.h"
#include "scope.h"
#include "thread.h"
#include "trace.h"

/* ------------------------------------------------------------------ Room */

/// Takes room for one message. Exact, so that who is refused is never refused because of another
/// one who is.
static bool post_room(struct sp__app *app)
{
    uint64_t depth = atomic_load_explicit(&app->depth, memory_order_seq_cst); // see app.h

    do {
        if (depth >= app->capacity) {
            SP__TRACE(O1, app, depth);
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&app->depth, &depth, depth + 1,
                                                    memory_order_seq_cst, memory_order_seq_cst));
    SP__TRACE(O2, app, depth);
    return true;
}

static bool post_full(const struct sp__app *app)
{
    // seq_cst: see app.h.
    uint64_t depth = atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)&app->depth,
                                          memory_order_seq_cst);

    SP__TRACE(O4, app, depth);
    return depth >= app->capacity;
}

/// Wakes the first of those who wait, if there is room, or always. Nobody: no more.
static struct sp__wake post_next(struct sp__app *app, bool always)
{
    struct sp__wake wake = {NULL, NULL};

    (void)pthread_mutex_lock(&app->lock);
    if (always || !post_full(app)) {
        wake = sp__waiter_pop(&app->posters);
    }
    SP__TRACE(O7, app, sp__wake_id(wake));
    if (app->posters.head == NULL) {
        atomic_store_explicit(&app->wanted, false, memory_order_relaxed);
        SP__TRACE(O8, app, 0);
    }
    (void)pthread_mutex_unlock(&app->lock);
    return wake;
}

void sp__app_took(struct sp__app *app, size_t n)
{
    bool wanted;

    // seq_cst, both: see app.h.
    (void)atomic_fetch_sub_explicit(&app->depth, n, memory_order_seq_cst);
    SP__TRACE(O5, app, n);
    wanted = atomic_load_explicit(&app->wanted, memory_order_seq_cst);
    SP__TRACE(O6, app, wanted);
    if (wanted) {
        for (struct sp__wake wake; n > 0 && sp__wakes(wake = post_next(app, false)); n--) {
            sp__wake(wake);
        }
    }
}

void sp__app_posters_end(struct sp__app *app)
{
    for (struct sp__wake wake; sp__wakes(wake = post_next(app, true));) {
        sp__wake(wake);
    }
}

/// Joins those who wait. False: there is room, or it is being stopped.
static bool post_join(struct sp__app *app, struct sp__waiter *w)
{
    bool waits;

    (void)pthread_mutex_lock(&app->lock);
    sp__waiter_add(&app->posters, w, false);
    SP__TRACE(O20, app, w->thread != NULL ? (void *)w->thread : (void *)w);
    // seq_cst: see app.h.
    atomic_store_explicit(&app->wanted, true, memory_order_seq_cst);
    SP__TRACE(O3, app, 0);
    waits = post_full(app) && !atomic_load_explicit(&app->stopping, memory_order_relaxed);
    SP__TRACE(O21, app, waits);
    if (!waits) {
        sp__waiter_remove(&app->posters, w);
    }
    (void)pthread_mutex_unlock(&app->lock);
    return waits;
}

/// Sleeps until there may be room. SP_ETIMEDOUT, SP_ECANCELED: it does not use what there may be.
static int post_wait(struct sp__app *app, int64_t deadline)
{
    struct sp__waiter w = {.thread = sp__self()};
    bool late;
    int rc;

    if (!post_join(app, &w)) {
        return SP_OK;
    }
    late = !sp__wait(deadline, -1, false) && sp__now() >= deadline;
    (void)pthread_mutex_lock(&app->lock);
    SP__TRACE(O9, app, w.queued);
    late = late && w.queued;
    if (w.queued) {
        sp__waiter_remove(&app->posters, &w);
    }
    (void)pthread_mutex_unlock(&app->lock);
    rc = late ? SP_ETIMEDOUT : sp__scope_over();
    SP__TRACE(O10, app, rc < 0);
    if (rc < 0) {
        sp__wake(post_next(app, false)); // It may have been its turn.
    }
    return rc;
}

/* ------------------------------------------------------------------ Actors that are refused */

/// What it waited for has room, or is closed: the actor is told, and the next one who waits.
static struct sp__wake want_on_room(struct sp__waiter *w)
{
    struct sp__app_want *want = SP__CONTAINER(w, struct sp__app_want, tx.w);
    struct sp__app *app = want->app;
    struct sp__object *target = want->target;
    struct sp__wake next;

    (void)pthread_mutex_lock(&app->lock);
    want->target = NULL;
    SP__TRACE(O11, app, w);
    (void)pthread_mutex_unlock(&app->lock);
    // Relaxed: the post hands it on.
    atomic_store_explicit(&app->room_came, true, memory_order_relaxed);
    SP__TRACE(O12, app, 0);
    sp__post(&app->again);
    next = target->kind == SP__KIND_MAILBOX
               ? sp__mailbox_pass(SP__CONTAINER(target, struct sp__mailbox, obj))
               : post_next(SP__CONTAINER(target, struct sp__app, obj), false);
    sp__drop(target);
    sp__drop(&app->obj);
    return next;
}

/// One that is free, for this target. NULL: it waits for it already, or there is no memory.
static struct sp__app_want *want_take(struct sp__app *app, struct sp__object *target)
{
    struct sp__app_want *want = NULL;

    (void)pthread_mutex_lock(&app->lock);
    for (struct sp__app_want *at = app->wants; at != NULL; at = at->next) {
        if (at->target == target) {
            SP__TRACE(O14, app, NULL);
            (void)pthread_mutex_unlock(&app->lock);
            return NULL;
        }
        want = at->target == NULL ? at : want;
    }
    if (want == NULL) {
        want = sp__zalloc(sizeof(*want));
        if (want != NULL) {
            want->app = app;
            want->tx.w.ready = want_on_room;
            want->next = app->wants;
            app->wants = want;
        }
    }
    if (want != NULL) {
        want->target = target;
        SP__TRACE(O14, app, &want->tx.w);
        sp__hold(target);
        sp__hold(&app->obj);
    }
    (void)pthread_mutex_unlock(&app->lock);
    return want;
}

bool sp__app_wants_room(struct sp__object *target)
{
    struct sp__app *app = sp__app_self();
    struct sp__app_want *want = app != NULL ? want_take(app, target) : NULL;
    bool waits;

    if (want == NULL) {
        return false;
    }
    waits = target->kind == SP__KIND_MAILBOX
                ? sp__mailbox_tell(SP__CONTAINER(target, struct sp__mailbox, obj), &want->tx)
                : post_join(SP__CONTAINER(target, struct sp__app, obj), &want->tx.w);
    if (!waits) {
        (void)pthread_mutex_lock(&app->lock);
        SP__TRACE(O24, app, &want->tx.w);
        want->target = NULL;
        (void)pthread_mutex_unlock(&app->lock);
        sp__drop(target);
        sp__drop(&app->obj);
    }
    return !waits;
}

/* ------------------------------------------------------------------ Posting */

void sp__app_on_posted(struct sp__port *port, sp_batch *nodes)
{
    struct sp__app *app = SP__CONTAINER(port, struct sp__app, in);

    sp_batch_join(&app->left, nodes);
    sp__app_visit(app);
}

/// Room for one message, waiting if need be. SP_EFULL, SP_ECLOSED, SP_ETIMEDOUT, SP_ECANCELED.
static int post_take_room(struct sp__app *app, int flags)
{
    struct sp__thread *t = sp__self();
    bool wait = (flags & SP_NONBLOCK) == 0 && !t->running && !t->in_user;
    int rc = SP_OK;

    while (rc == SP_OK) {
        bool stopping = atomic_load_explicit(&app->stopping, memory_order_relaxed);

        SP__TRACE(O19, app, stopping);
        if (stopping) {
            return SP_ECLOSED;
        }
        if (post_room(app)) {
            return SP_OK;
        }
        if (wait) {
            rc = post_wait(app, sp__scope_deadline());
        } else if (!sp__app_wants_room(&app->obj)) {
            atomic_fetch_add_explicit(&app->refused, 1, memory_order_relaxed);
            rc = SP_EFULL;
        }
    }
    return rc;
}

static int post_fail(int err)
{
    return err == SP_EFULL       ? sp__fail(err, "post: the actor is full")
           : err == SP_ECLOSED   ? sp__fail(err, "post: the actor was stopped")
           : err == SP_ETIMEDOUT ? sp__fail(err, "post: timed out")
                                 : sp__fail(err, "post: the scope was cancelled");
}

int sp_actor_post(sp_actor a, sp_msg *m, int flags)
{
    sp_batch batch = {NULL, NULL, 0};
    struct sp__app *app = NULL;
    int rc;

    if (m == NULL) {
        return sp__fail(SP_EINVAL, "post: the message is NULL");
    }
    if (!sp__flags_known(flags)) {
        return sp__flags_fail("post", flags);
    }
    rc = sp__app_enter(a, &app);
    if (rc < 0) {
        return rc;
    }
    rc = post_take_room(app, flags);
    if (rc == SP_OK) {
        atomic_fetch_add_explicit(&app->posted, 1, memory_order_relaxed);
        sp_batch_push(&batch, m);
        SP__TRACE(O16, app, 1);
        sp__post_batch(&app->run, &app->in, &batch);
    } else {
        rc = post_fail(rc);
    }
    sp__leave();
    sp__run_here(true);
    return rc;
}
