/* SPDX-License-Identifier: MIT */
/// Sockets that are attached to actors of applications: what they receive is taken when the actor
/// runs, and only when what was taken before is handled, so the socket's own queue bounds it.
#include "app.h"
#include "error.h"
#include "platform.h"
#include "sched.h"

#define TAKE_MAX 64 // messages offered at a time
#define STEPS_MAX 4 // then others have their turn

static struct sp__app_port *port_of_tap(struct sp__object *obj)
{
    return SP__CONTAINER(obj, struct sp__app_port, tap.obj);
}

static void port_destroy(struct sp__object *obj)
{
    struct sp__app_port *p = port_of_tap(obj);

    sp__drop(&p->tap.sock->obj);
    sp__drop(&p->app->obj);
    sp__free(p);
}

/* ------------------------------------------------------------------ The actor */

/// Out of the actor's list. False: it is not there any more.
static bool port_unlink(struct sp__app_port *p)
{
    struct sp__app *app = p->app;
    bool joined;

    (void)pthread_mutex_lock(&app->lock);
    joined = p->joined;
    for (struct sp__app_port **at = &app->ports; joined && *at != NULL; at = &(*at)->next) {
        if (*at == p) {
            *at = p->next;
            break;
        }
    }
    p->next = NULL;
    p->joined = false;
    (void)pthread_mutex_unlock(&app->lock);
    return joined;
}

/// Nothing comes from it any more, and nothing is left.
static void port_end(struct sp__app_port *p)
{
    sp__tap_close(&p->tap);
    if (sp__ctx_send_leave(&p->tap.sock->ctx, &p->tx)) {
        sp__drop(&p->tap.obj);
    }
    if (port_unlink(p)) {
        sp__drop(&p->tap.obj);
    }
}

/// Of one whose end is not seen by taking from it.
static bool port_over(const struct sp__app_port *p)
{
    return !p->receives && (atomic_load_explicit(&p->detached, memory_order_relaxed) ||
                            atomic_load_explicit(&p->tap.sock->ctx.closed, memory_order_relaxed));
}

/// Offers what it has. False: its actor is down, or was just restarted.
static bool port_visit(struct sp__app_port *p)
{
    struct sp__app *app = p->app;
    uint64_t failed = sp__counted(&app->failed);

    if (port_over(p)) {
        port_end(p);
        return true;
    }
    for (int i = 0; i < STEPS_MAX; i++) {
        if (p->left.head == NULL) {
            ssize_t n = p->receives ? sp__tap_take(&p->tap, &p->left, TAKE_MAX) : 0;

            if (n < 0) {
                port_end(p);
            }
            if (n <= 0) {
                return true;
            }
            sp__count(&app->received, (uint64_t)n);
            sp__count(&app->port_left, (uint64_t)n);
        }
        sp__app_offer(app, p->number, &p->left);
        if (app->up != SP__APP_UP || sp__counted(&app->failed) != failed) {
            return false;
        }
        if (p->left.head != NULL) {
            return true; // Back-pressure: it waits for what happens next.
        }
    }
    sp__post(&p->tap.ready); // There may be more.
    return true;
}

/// The one after `p` (NULL: the first one), held; NULL: none. The actor's, which alone takes any
/// out of the list.
static struct sp__app_port *port_next(struct sp__app *app, const struct sp__app_port *p)
{
    struct sp__app_port *next;

    if (p == NULL && !atomic_load_explicit(&app->attached, memory_order_relaxed)) {
        return NULL;
    }
    (void)pthread_mutex_lock(&app->lock);
    next = p == NULL ? app->ports : p->next;
    if (next != NULL) {
        sp__hold(&next->tap.obj);
    }
    (void)pthread_mutex_unlock(&app->lock);
    return next;
}

void sp__app_ports_visit(struct sp__app *app)
{
    struct sp__app_port *p = port_next(app, NULL);

    while (p != NULL) {
        struct sp__app_port *next = port_next(app, p); // Now: it may end, but only itself.
        bool on = port_visit(p);

        sp__drop(&p->tap.obj);
        if (!on && next != NULL) {
            sp__drop(&next->tap.obj);
        }
        p = on ? next : NULL;
    }
}

void sp__app_ports_end(struct sp__app *app)
{
    struct sp__app_port *p;

    while ((p = port_next(app, NULL)) != NULL) {
        size_t n = p->left.n;

        if (n > 0) {
            sp__batch_release(&p->left);
            p->left = (sp_batch){NULL, NULL, 0};
            sp__count(&app->closed, n);
            sp__count(&app->port_left, (uint64_t)0 - n);
        }
        port_end(p);
        sp__drop(&p->tap.obj);
    }
}

static void port_on_ready(struct sp__event *ev)
{
    sp__app_visit(SP__CONTAINER(ev, struct sp__app_port, tap.ready)->app);
}

static void port_on_writable(struct sp__event *ev)
{
    struct sp__app_port *p = SP__CONTAINER(ev, struct sp__app_port, writable);
    struct sp__app *app = p->app;

    p->tx_waits = false;
    if (app->up == SP__APP_UP && app->ops.on_writable != NULL) {
        sp__app_call_begin(app, SP__SLOT_ON_WRITABLE);
        app->ops.on_writable((sp_actor){app->obj.id}, app->state, p->number);
        sp__app_call_end();
    }
    sp__app_visit(app);
}

/// The port of a socket, held; NULL: it is not attached. [any]
static struct sp__app_port *port_find(struct sp__app *app, const struct sp__sock *s)
{
    struct sp__app_port *p;

    (void)pthread_mutex_lock(&app->lock);
    p = app->ports;
    while (p != NULL && p->tap.sock != s) {
        p = p->next;
    }
    if (p != NULL) {
        sp__hold(&p->tap.obj);
    }
    (void)pthread_mutex_unlock(&app->lock);
    return p;
}

/* ------------------------------------------------------------------ Credit */

/// There is credit: the actor is told, and the next one who waits.
static struct sp__wake port_on_credit(struct sp__waiter *w)
{
    struct sp__app_port *p = SP__CONTAINER(w, struct sp__app_port, tx);
    struct sp__wake next;

    sp__post(&p->writable);
    next = sp__ctx_send_pass(&p->tap.sock->ctx);
    sp__drop(&p->tap.obj);
    return next;
}

bool sp__app_wants_credit(struct sp__sock *s)
{
    struct sp__app *app = sp__app_self();
    struct sp__app_port *p;
    bool again;

    if (app == NULL) {
        return false;
    }
    p = port_find(app, s);
    if (p == NULL || p->tx_waits) {
        again = false;
    } else {
        p->tx_waits = true;
        sp__hold(&p->tap.obj); // The list's, if it waits.
        again = sp__ctx_send_tell(&s->ctx, &p->tx);
        if (again) {
            p->tx_waits = false;
            sp__drop(&p->tap.obj);
        }
    }
    if (p != NULL) {
        sp__drop(&p->tap.obj);
    }
    return again;
}

/* ------------------------------------------------------------------ The API */

static struct sp__app_port *port_new(struct sp__app *app, struct sp__sock *s, unsigned number)
{
    struct sp__app_port *p = sp__zalloc(sizeof(*p));

    if (p == NULL) {
        return NULL;
    }
    sp__tap_init(&p->tap, s, &app->run, port_on_ready, port_destroy);
    sp__event_init(&p->writable, &app->run, &p->tap.obj, port_on_writable);
    p->tx = (struct sp__waiter){.ctx = &s->ctx, .ready = port_on_credit};
    p->app = app;
    p->number = number;
    p->receives = (s->ops->flags & SP_PROTO_NO_RECV) == 0;
    sp__hold(&s->obj);
    sp__hold(&app->obj);
    return p;
}

/// Into the actor's list. SP_ECLOSED: it is being stopped.
static int port_link(struct sp__app_port *p)
{
    struct sp__app *app = p->app;
    int rc = SP_ECLOSED;

    (void)pthread_mutex_lock(&app->lock);
    if (!atomic_load_explicit(&app->stopping, memory_order_relaxed)) {
        sp__hold(&p->tap.obj);
        p->joined = true;
        p->next = app->ports;
        app->ports = p;
        atomic_store_explicit(&app->attached, true, memory_order_relaxed); // Posted behind it.
        rc = SP_OK;
    }
    (void)pthread_mutex_unlock(&app->lock);
    return rc;
}

static int port_attach(struct sp__app *app, struct sp__sock *s, unsigned number)
{
    struct sp__app_port *p = port_find(app, s);
    int rc = p != NULL ? SP_ESTATE : SP_OK;

    if (p != NULL) {
        sp__drop(&p->tap.obj);
        return rc;
    }
    p = port_new(app, s, number);
    if (p == NULL) {
        return SP_ENOMEM;
    }
    rc = p->receives ? sp__tap_open(&p->tap) : SP_OK;
    if (rc == SP_OK) {
        rc = port_link(p);
        if (rc < 0) {
            sp__tap_close(&p->tap);
        }
    }
    if (rc == SP_OK) {
        sp__post(&p->tap.ready);
    }
    sp__drop(&p->tap.obj);
    return rc;
}

/// Both of a call; to be left with sp__leave twice.
static int both_enter(sp_actor a, sp_socket s, struct sp__app **app, struct sp__sock **sock)
{
    struct sp__object *obj;
    int rc = sp__app_enter(a, app);

    if (rc < 0) {
        return rc;
    }
    rc = sp__enter(s.id, SP__KIND_SOCKET, &obj);
    if (rc < 0) {
        sp__leave();
        return rc;
    }
    *sock = SP__CONTAINER(obj, struct sp__sock, obj);
    return SP_OK;
}

int sp_actor_attach(sp_actor a, sp_socket s, unsigned port)
{
    struct sp__app *app = NULL;
    struct sp__sock *sock = NULL;
    int rc = both_enter(a, s, &app, &sock);

    if (rc < 0) {
        return rc;
    }
    rc = port != SP_PORT_NONE ? port_attach(app, sock, port) : SP_EINVAL;
    if (rc == SP_ESTATE) {
        rc = sp__fail(rc, "attach: what the socket receives goes to an actor or a mailbox already");
    } else if (rc < 0) {
        rc = sp__fail_code(rc, "attach");
    }
    sp__leave();
    sp__leave();
    sp__reclaim();
    sp__run_here(true);
    return rc;
}

int sp_actor_detach(sp_actor a, sp_socket s)
{
    struct sp__app *app = NULL;
    struct sp__sock *sock = NULL;
    struct sp__app_port *p;
    int rc = both_enter(a, s, &app, &sock);

    if (rc < 0) {
        return rc;
    }
    p = port_find(app, sock);
    if (p == NULL) {
        rc = sp__fail(SP_ESTATE, "detach: the socket is not attached to this actor");
    } else {
        atomic_store_explicit(&p->detached, true, memory_order_relaxed);
        sp__tap_close(&p->tap);
        sp__post(&p->tap.ready); // The actor does the rest, when it has handled what is left.
        sp__drop(&p->tap.obj);
    }
    sp__leave();
    sp__leave();
    sp__reclaim();
    sp__run_here(true);
    return rc;
}
