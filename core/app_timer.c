/* SPDX-License-Identifier: MIT */
/// Timers of actors of applications: one a cookie. Armed and cancelled by any thread under the
/// actor's lock; a free one is used again.
#include "app.h"
#include "error.h"
#include "platform.h"
#include "sched.h"

static void app_on_time(struct sp__timer *t)
{
    struct sp__app_timer *timer = SP__CONTAINER(t, struct sp__app_timer, timer);
    struct sp__app *app = timer->app;
    uint64_t cookie;

    (void)pthread_mutex_lock(&app->lock);
    cookie = timer->cookie;
    timer->used = atomic_load_explicit(&t->live, memory_order_relaxed); // It was armed again.
    (void)pthread_mutex_unlock(&app->lock);
    if (app->up == SP__APP_UP && app->ops.on_timer != NULL) {
        sp__app_call_begin(app, SP__SLOT_ON_TIMER);
        app->ops.on_timer((sp_actor){app->obj.id}, app->state, cookie);
        sp__app_call_end();
    }
    sp__app_visit(app);
}

void sp__app_timers_cancel(struct sp__app *app)
{
    (void)pthread_mutex_lock(&app->lock);
    for (struct sp__app_timer *at = app->timers; at != NULL; at = at->next) {
        sp__timer_cancel(&at->timer);
        at->used = false;
    }
    (void)pthread_mutex_unlock(&app->lock);
}

void sp__app_timers_free(struct sp__app *app)
{
    while (app->timers != NULL) {
        struct sp__app_timer *at = app->timers;

        app->timers = at->next;
        sp__timer_unreserve();
        sp__free(at);
    }
}

/// The one with this cookie, else with `make` a free or a new one. NULL: none, or no memory.
static struct sp__app_timer *timer_of(struct sp__app *app, uint64_t cookie, bool make)
{
    struct sp__app_timer *timer = NULL;

    for (struct sp__app_timer *at = app->timers; at != NULL; at = at->next) {
        if (at->used && at->cookie == cookie) {
            return at;
        }
        timer = at->used ? timer : at;
    }
    if (!make) {
        return NULL;
    }
    if (timer == NULL) {
        timer = sp__zalloc(sizeof(*timer));
        if (timer == NULL || sp__timer_reserve() < 0) {
            sp__free(timer);
            return NULL;
        }
        sp__timer_init(&timer->timer, &app->run, &app->obj, app_on_time);
        timer->app = app;
        timer->next = app->timers;
        app->timers = timer;
    }
    timer->cookie = cookie;
    timer->used = true;
    return timer;
}

int sp_actor_timer(sp_actor a, int ms, uint64_t cookie)
{
    struct sp__app_timer *timer;
    struct sp__app *app = NULL;
    int rc = sp__app_enter(a, &app);

    if (rc < 0) {
        return rc;
    }
    (void)pthread_mutex_lock(&app->lock);
    timer = timer_of(app, cookie, ms >= 0);
    if (atomic_load_explicit(&app->stopping, memory_order_relaxed)) {
        rc = SP_ECLOSED;
    } else if (timer != NULL && ms >= 0) {
        sp__timer_arm(&timer->timer, sp__now() + ms * SP__MS);
    } else if (timer != NULL) {
        sp__timer_cancel(&timer->timer);
        timer->used = false;
    } else if (ms >= 0) {
        rc = SP_ENOMEM;
    }
    (void)pthread_mutex_unlock(&app->lock);
    sp__leave();
    sp__run_here(true);
    return rc < 0 ? sp__fail_code(rc, "actor timer") : SP_OK;
}
