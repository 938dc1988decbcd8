/* SPDX-License-Identifier: MIT */
/// The life of actors of applications. See app.h.
#include "app.h"

#include "error.h"
#include "log.h"
#include "platform.h"
#include "runtime.h"
#include "sched.h"
#include "thread.h"
#include "trace.h"

#include <inttypes.h>
#include <string.h>

#define CAPACITY_DEFAULT 256
#define RESTARTS_MAX 10000

static struct {
    pthread_mutex_t lock;
    struct sp__app_stats sum;
} gone = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void stats_add(struct sp__app_stats *sum, const struct sp__app *app)
{
    sum->posted += atomic_load_explicit(&app->posted, memory_order_relaxed) +
                   sp__counted(&app->received);
    sum->received += sp__counted(&app->received);
    sum->handled += sp__counted(&app->handled);
    sum->failed += sp__counted(&app->failed);
    sum->closed += sp__counted(&app->closed);
    sum->refused += atomic_load_explicit(&app->refused, memory_order_relaxed);
    sum->restarts += sp__counted(&app->restarts);
}

void sp__app_stats(struct sp__app *app, struct sp__app_stats *out)
{
    memset(out, 0, sizeof(*out));
    if (app != NULL) {
        stats_add(out, app);
        out->queued = atomic_load_explicit(&app->depth, memory_order_relaxed) +
                      sp__counted(&app->port_left);
        out->capacity = app->capacity;
        return;
    }
    (void)pthread_mutex_lock(&gone.lock);
    *out = gone.sum;
    (void)pthread_mutex_unlock(&gone.lock);
}

/* ------------------------------------------------------------------ Calling the user */

struct sp__app *sp__app_self(void)
{
    struct sp__thread *t = sp__self();

    return t != NULL ? t->app : NULL;
}

void sp__app_call_begin(struct sp__app *app, enum sp__slot slot)
{
    struct sp__thread *t = sp__self();

    sp__slot(&app->run, slot);
    if (app->own != NULL) {
        sp__run_here(true); // It may block: nothing is left lying here.
    } else {
        sp__runs(t, &app->run); // Each call has its time, however many a visit makes.
    }
    t->app = app;
}

void sp__app_call_end(void)
{
    sp__self()->app = NULL;
}

static sp_actor app_handle(const struct sp__app *app)
{
    return (sp_actor){app->obj.id};
}

static int app_init(struct sp__app *app)
{
    int rc = SP_OK;

    if (app->ops.init != NULL) {
        sp__app_call_begin(app, SP__SLOT_INIT);
        rc = app->ops.init(app_handle(app), app->state);
        sp__app_call_end();
    }
    return rc;
}

static void app_fini(struct sp__app *app)
{
    if (app->ops.fini != NULL) {
        sp__app_call_begin(app, SP__SLOT_FINI);
        app->ops.fini(app_handle(app), app->state);
        sp__app_call_end();
    }
}

/* ------------------------------------------------------------------ The end */

static void app_drop_left(struct sp__app *app)
{
    size_t n = app->left.n;

    if (n > 0) {
        sp__count(&app->closed, n);
        sp__batch_release(&app->left);
        app->left = (sp_batch){NULL, NULL, 0};
        sp__app_took(app, n);
    }
}

/// No more posts. False: it was so already.
static bool app_shut(struct sp__app *app)
{
    if (!sp__handle_close(&app->obj)) {
        return false;
    }
    atomic_store_explicit(&app->stopping, true, memory_order_relaxed);
    SP__TRACE(O17, app, 0);
    sp__app_posters_end(app);
    sp__drop(&app->obj);
    return true;
}

/// Its user's functions have been called for the last time.
static void app_end(struct sp__app *app)
{
    struct sp__wake wake;

    app->up = SP__APP_DOWN;
    app->run.dedicated = false;
    (void)app_shut(app); // First: then whoever arms a timer or attaches a socket is refused.
    sp__app_timers_cancel(app);
    sp__app_ports_end(app);
    app_drop_left(app);
    do {
        (void)pthread_mutex_lock(&app->lock);
        app->ended = true;
        wake = sp__waiter_pop(&app->stoppers);
        (void)pthread_mutex_unlock(&app->lock);
        sp__wake(wake);
    } while (sp__wakes(wake));
}

/* ------------------------------------------------------------------ Failures */

/// Whether the policy allows one more restart now.
static bool app_may_restart(struct sp__app *app)
{
    uint64_t n = sp__counted(&app->restarts);
    int64_t now = sp__now();
    int64_t *oldest;

    if (atomic_load_explicit(&app->stopping, memory_order_relaxed)) {
        return false;
    }
    if (app->restarted == NULL) {
        return n < app->restart_max;
    }
    oldest = &app->restarted[n % app->restart_max];
    if (n >= app->restart_max && now - *oldest < app->restart_time) {
        return false;
    }
    *oldest = now;
    return true;
}

/// It stays down.
static void app_give_up(struct sp__app *app)
{
    if (!atomic_load_explicit(&app->stopping, memory_order_relaxed)) {
        sp__logf(SP_LOG_ERROR, "actor",
                 "actor 0x%" PRIx64 " is stopped: it failed, and was restarted %" PRIu64
                 " times (at most %u in %" PRId64 " ms)",
                 app->obj.id, sp__counted(&app->restarts), app->restart_max,
                 app->restart_time / SP__MS);
        (void)pthread_mutex_lock(&gone.lock);
        gone.sum.stopped++;
        (void)pthread_mutex_unlock(&gone.lock);
    }
    app_end(app);
}

/// It is not inited: tries until it is, as often as the policy allows.
static void app_restart(struct sp__app *app)
{
    sp__app_timers_cancel(app);
    do {
        if (!app_may_restart(app)) {
            app_give_up(app);
            return;
        }
        sp__count(&app->restarts, 1);
    } while (app_init(app) < 0);
    sp__post(&app->again); // What is left, once others had their turn.
}

/// A handler left messages of its own too: they count as posted.
static size_t app_own(struct sp__app *app, const sp_batch *batch, size_t n)
{
    if (batch == &app->left) {
        atomic_fetch_add_explicit(&app->posted, n, memory_order_relaxed);
        atomic_fetch_add_explicit(&app->depth, n, memory_order_relaxed);
        SP__TRACE(O22, app, n);
    } else {
        sp__count(&app->received, n);
        sp__count(&app->port_left, n);
    }
    return n;
}

void sp__app_offer(struct sp__app *app, unsigned number, sp_batch *batch)
{
    size_t before = batch->n;
    size_t taken;
    int rc;

    sp__app_call_begin(app, SP__SLOT_ON_MESSAGE);
    rc = app->ops.on_message(app_handle(app), app->state, number, batch);
    sp__app_call_end();
    if (rc < 0 && batch->n == before) {
        sp__msg_release(sp_batch_pop(batch)); // Else it would fail for ever.
    }
    if (batch->n > before) {
        before += app_own(app, batch, batch->n - before);
    }
    taken = before - batch->n;
    if (batch == &app->left) {
        sp__app_took(app, taken);
    } else {
        sp__count(&app->port_left, (uint64_t)0 - taken);
    }
    sp__count(&app->handled, taken - (rc < 0));
    sp__count(&app->failed, rc < 0);
    if (rc < 0) {
        app_fini(app);
        app_restart(app);
    }
}

void sp__app_visit(struct sp__app *app)
{
    uint64_t failed = sp__counted(&app->failed);

    if (app->up == SP__APP_UP && app->left.head != NULL) {
        sp__app_offer(app, 0, &app->left);
    }
    // After a failure what is left comes later.
    if (app->up == SP__APP_UP && sp__counted(&app->failed) == failed) {
        sp__app_ports_visit(app);
    }
    if (app->up == SP__APP_DOWN) {
        app_drop_left(app);
    }
}

/* ------------------------------------------------------------------ Events */

static void app_on_start(struct sp__event *ev)
{
    struct sp__app *app = SP__CONTAINER(ev, struct sp__app, start);

    if (app->up == SP__APP_DOWN) {
        app_end(app);
        return;
    }
    app->up = SP__APP_UP;
    if (app_init(app) < 0) {
        app_restart(app);
    }
    sp__app_visit(app);
}

static void app_on_stop(struct sp__event *ev)
{
    struct sp__app *app = SP__CONTAINER(ev, struct sp__app, stop);

    if (app->up == SP__APP_NEW) {
        app->up = SP__APP_DOWN; // sp_fini found it before its start was posted.
        return;
    }
    sp__app_visit(app);
    if (app->up == SP__APP_UP) {
        app_fini(app);
        app_end(app);
    }
}

static void app_on_again(struct sp__event *ev)
{
    struct sp__app *app = SP__CONTAINER(ev, struct sp__app, again);

    // Relaxed: came with the post.
    bool room_came = atomic_exchange_explicit(&app->room_came, false, memory_order_relaxed);

    SP__TRACE(O15, app, room_came);
    if (room_came && app->up == SP__APP_UP && app->ops.on_writable != NULL) {
        sp__app_call_begin(app, SP__SLOT_ON_WRITABLE);
        app->ops.on_writable(app_handle(app), app->state, SP_PORT_NONE);
        sp__app_call_end();
    }
    sp__app_visit(app);
}

/* ------------------------------------------------------------------ The API */

static void app_free(struct sp__app *app)
{
    while (app->wants != NULL) {
        struct sp__app_want *want = app->wants;

        app->wants = want->next;
        sp__free(want);
    }
    sp__app_timers_free(app);
    (void)pthread_mutex_destroy(&app->lock);
    sp__free(app->restarted);
    sp__free(app);
}

static void app_destroy(struct sp__object *obj)
{
    struct sp__app *app = SP__CONTAINER(obj, struct sp__app, obj);

    SP__TRACE(O23, app, 0);
    (void)pthread_mutex_lock(&gone.lock);
    stats_add(&gone.sum, app);
    (void)pthread_mutex_unlock(&gone.lock);
    app_free(app);
}

static struct sp__app *app_new(const sp_actor_ops *ops, void *state, const sp_actor_opts *opts)
{
    struct sp__app *app = sp__zalloc(sizeof(*app));

    if (app == NULL || pthread_mutex_init(&app->lock, NULL) != 0) {
        sp__free(app);
        return NULL;
    }
    memcpy(&app->ops, ops, ops->size < sizeof(app->ops) ? ops->size : sizeof(app->ops));
    app->state = state;
    app->capacity = opts->capacity > 0 ? opts->capacity : CAPACITY_DEFAULT;
    app->restart_max = opts->restart_max;
    app->restart_time = opts->restart_ms * SP__MS;
    if (app->restart_max > 0 && app->restart_time > 0) {
        app->restarted = sp__alloc(app->restart_max * sizeof(*app->restarted));
        if (app->restarted == NULL) {
            app_free(app);
            return NULL;
        }
    }
    SP__TRACE(O0, app, app->capacity);
    sp__object_init(&app->obj, SP__KIND_ACTOR, app_destroy);
    sp__actor_init(&app->run, &app->obj, true);
    app->in.handle = sp__app_on_posted;
    sp__event_init(&app->start, &app->run, NULL, app_on_start);
    sp__event_init(&app->stop, &app->run, NULL, app_on_stop);
    sp__event_init(&app->again, &app->run, NULL, app_on_again);
    return app;
}

static int app_check(const sp_actor *a, const sp_actor_ops *ops, const sp_actor_opts *opts)
{
    if (a == NULL || ops == NULL || ops->size <= offsetof(sp_actor_ops, on_message) ||
        ops->on_message == NULL) {
        return sp__fail(SP_EINVAL, "actor: no place for the result, ops->size not set, or no "
                                   "on_message");
    }
    if (opts->restart_max > RESTARTS_MAX) {
        return sp__fail(SP_EINVAL, "actor: restart_max is more than %d", RESTARTS_MAX);
    }
    if ((opts->flags & ~(unsigned)SP_ACTOR_DEDICATED) != 0) {
        return sp__fail(SP_EINVAL, "actor: unknown flags 0x%x", opts->flags);
    }
    return SP_OK;
}

static int app_make(const sp_actor_ops *ops, void *state, const sp_actor_opts *opts, uint64_t *id)
{
    struct sp__app *app = app_new(ops, state, opts);
    int rc = SP_OK;

    if (app == NULL) {
        return SP_ENOMEM;
    }
    if ((opts->flags & SP_ACTOR_DEDICATED) != 0) {
        rc = sp__app_thread_start(app);
    }
    if (rc == SP_OK) {
        rc = sp__handle_open(&app->obj, id);
        if (rc < 0) {
            app->up = SP__APP_DOWN;
        }
        sp__post(&app->start); // A thread of its own hears of it either way.
    }
    sp__drop(&app->obj);
    return rc;
}

int sp_actor_spawn(sp_actor *a, const sp_actor_ops *ops, void *state, const sp_actor_opts *opts)
{
    sp_actor_opts o = {.size = sizeof(o)};
    int rc;

    if (opts != NULL && opts->size < offsetof(sp_actor_opts, restart_max)) {
        return sp__fail(SP_EINVAL, "actor: opts->size not set");
    }
    if (opts != NULL) {
        memcpy(&o, opts, opts->size < sizeof(o) ? opts->size : sizeof(o));
    }
    rc = app_check(a, ops, &o);
    rc = rc == SP_OK ? sp__runtime_enter() : rc;
    if (rc < 0) {
        return rc;
    }
    rc = app_make(ops, state, &o, &a->id);
    sp__runtime_leave();
    sp__run_here(true);
    return rc < 0 ? sp__fail_code(rc, "actor") : SP_OK;
}

int sp__app_enter(sp_actor a, struct sp__app **app)
{
    struct sp__object *obj;
    int rc = sp__enter(a.id, SP__KIND_ACTOR, &obj);

    if (rc == SP_OK) {
        *app = SP__CONTAINER(obj, struct sp__app, obj);
    }
    return rc;
}

/// Waits until it has ended.
static void app_await(struct sp__app *app)
{
    struct sp__waiter w = {.thread = sp__self()};
    bool ended;

    for (;;) {
        (void)pthread_mutex_lock(&app->lock);
        ended = app->ended;
        if (!ended && !w.queued) {
            sp__waiter_add(&app->stoppers, &w, false);
        } else if (ended && w.queued) {
            sp__waiter_remove(&app->stoppers, &w);
        }
        (void)pthread_mutex_unlock(&app->lock);
        if (ended) {
            return;
        }
        (void)sp__wait(SP__NEVER, -1, true);
    }
}

int sp_actor_stop(sp_actor a)
{
    struct sp__thread *t = sp__self();
    struct sp__app *app = NULL;
    int rc = sp__app_enter(a, &app);

    if (rc != SP_OK) {
        return rc;
    }
    sp__hold(&app->obj);
    if (app_shut(app)) {
        sp__post(&app->stop);
        sp__run_here(true);
        if (!t->running && !t->in_user && t->app != app) {
            app_await(app);
        }
    } else {
        rc = sp__fail(SP_ECLOSED, "stop: the actor is stopped already");
    }
    sp__drop(&app->obj);
    sp__leave();
    sp__reclaim();
    return rc;
}

sp_actor sp_actor_self(void)
{
    struct sp__app *app = sp__app_self();

    return app != NULL ? app_handle(app) : (sp_actor){0};
}

void sp__apps_close(void)
{
    struct sp__object *obj;

    for (uint32_t at = 0; (obj = sp__handle_next(SP__KIND_ACTOR, &at)) != NULL;) {
        struct sp__app *app = SP__CONTAINER(obj, struct sp__app, obj);

        if (app_shut(app)) {
            sp__post(&app->stop);
        }
        sp__drop(obj);
    }
}
