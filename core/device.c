/* SPDX-License-Identifier: MIT */
/// Devices. Each is one actor with a way for each direction. A step of a way takes what the
/// receiving socket has, as much as the other one has credit for, and posts it there; what finds no
/// credit after all (a large message took it) goes back to the front of the queue that it came
/// from. So between its steps a device holds no message: both sockets' counters tell of each, and
/// both queues bound them. A way waits either for messages, in the list of its socket's receivers,
/// or for credit, in the list of the other one's senders; then it watches its socket for its end.
#include "device.h"

#include "actor.h"
#include "error.h"
#include "platform.h"
#include "runtime.h"
#include "sched.h"
#include "socket.h"
#include "tap.h"

#include <sp/sp.h>

#define TAKE_MAX 64 // messages in one step
#define STEPS_MAX 4 // then others have their turn

/// From one socket to the other. Its tap's object holds the device.
struct device_way {
    struct sp__tap tap;
    struct sp__device *device;
    struct sp__sock *to;  ///< held; NULL: nothing is forwarded, the socket is only watched
    struct sp__waiter tx; ///< for credit of `to`, in its list of senders, under its lock
    struct sp__event go;  ///< there is credit, or it is its turn again
    bool waits;           ///< for credit
    bool there;           ///< made
};

struct sp__device {
    struct sp__object obj;
    struct sp__actor actor;
    struct sp__event stop;
    struct sp__waiter *op;
    bool over;
    struct device_way way[2]; ///< the actor's
};

/* ------------------------------------------------------------------ The end */

static void device_destroy(struct sp__object *obj)
{
    sp__free(SP__CONTAINER(obj, struct sp__device, obj));
}

static void way_destroy(struct sp__object *obj)
{
    struct device_way *w = SP__CONTAINER(obj, struct device_way, tap.obj);

    sp__drop(&w->tap.sock->obj);
    if (w->to != NULL) {
        sp__drop(&w->to->obj);
    }
    sp__drop(&w->device->obj);
}

void sp__device_abandon(struct sp__device *d)
{
    for (struct device_way *w = d->way; w < d->way + 2; w++) {
        if (!w->there) {
            continue;
        }
        sp__tap_close(&w->tap);
        if (w->to != NULL && sp__ctx_send_leave(&w->to->ctx, &w->tx)) {
            sp__drop(&w->tap.obj);
        }
        sp__drop(&w->tap.obj);
    }
}

static void device_end(struct sp__device *d, int rc)
{
    if (!d->over) {
        d->over = true;
        sp__device_abandon(d);
        d->op->over(d->op, rc, NULL);
    }
}

static void device_on_stop(struct sp__event *ev)
{
    device_end(SP__CONTAINER(ev, struct sp__device, stop), SP_ECANCELED);
}

/* ------------------------------------------------------------------ Forwarding */

static bool way_over(const struct device_way *w)
{
    // Relaxed: who closes a context wakes whoever waits in it, after this was set.
    return atomic_load_explicit(&w->tap.sock->ctx.closed, memory_order_relaxed) ||
           (w->to != NULL && atomic_load_explicit(&w->to->ctx.closed, memory_order_relaxed));
}

/// Only the end of its socket is told from now on.
static void way_watch(struct device_way *w)
{
    if (sp__tap_watch(&w->tap) < 0) {
        device_end(w->device, SP_OK);
    }
}

/// Waits for credit. False: there is some.
static bool way_wait(struct device_way *w)
{
    sp__hold(&w->tap.obj); // The list's, if it waits.
    if (sp__ctx_send_tell(&w->to->ctx, &w->tx)) {
        sp__drop(&w->tap.obj);
        return false;
    }
    w->waits = true;
    way_watch(w);
    return true;
}

/// Sends as much as there is credit for; the rest stays in the batch, as it was.
static void way_send(struct device_way *w, sp_batch *batch)
{
    sp_msg *m[TAKE_MAX];
    int n = 0;
    int got;

    while (batch->head != NULL) {
        m[n++] = sp_batch_pop(batch);
    }
    got = sp__ctx_send_take(&w->to->ctx, m, (size_t)n);
    while (n > 0 && n > got) {
        sp_batch_unpop(batch, m[--n]);
    }
    for (int i = 0; i < n && w->to != w->tap.sock; i++) {
        m[i]->peer = 0; // A pipe of one socket means nothing to the other.
    }
    if (n > 0) {
        sp__ctx_send_put(&w->to->ctx, m, n);
    }
}

/// One step. True: there may be more to do at once.
static bool way_step(struct device_way *w)
{
    int64_t credit = sp__ctx_credit(&w->to->ctx);
    sp_batch batch = {NULL, NULL, 0};
    ssize_t n;

    if (way_over(w)) {
        device_end(w->device, SP_OK);
        return false;
    }
    if (credit <= 0) {
        return !way_wait(w);
    }
    n = sp__tap_take(&w->tap, &batch, credit < TAKE_MAX ? (size_t)credit : TAKE_MAX);
    if (n < 0) {
        device_end(w->device, SP_OK);
    }
    if (n <= 0) {
        return false;
    }
    way_send(w, &batch);
    if (batch.head != NULL) {
        sp__tap_back(&w->tap, &batch);
    }
    return true;
}

static void way_run(struct device_way *w)
{
    for (int i = 0; way_step(w); i++) {
        if (i == STEPS_MAX) {
            sp__post(&w->go);
            break;
        }
    }
}

/// There are messages, or its socket was closed.
static void way_on_ready(struct sp__event *ev)
{
    struct device_way *w = SP__CONTAINER(ev, struct device_way, tap.ready);

    if (w->device->over) {
        return;
    }
    if (w->to == NULL || w->waits) {
        way_watch(w);
    } else {
        way_run(w);
    }
}

static void way_on_go(struct sp__event *ev)
{
    struct device_way *w = SP__CONTAINER(ev, struct device_way, go);

    if (w->device->over) {
        return;
    }
    if (w->waits) {
        w->waits = false;
        sp__tap_unwatch(&w->tap);
    }
    way_run(w);
}

/// There is credit, or the other socket was closed: the device is told, and the next one who waits.
static struct sp__wake way_on_credit(struct sp__waiter *tx)
{
    struct device_way *w = SP__CONTAINER(tx, struct device_way, tx);
    struct sp__wake next;

    sp__post(&w->go);
    next = sp__ctx_send_pass(&w->to->ctx);
    sp__drop(&w->tap.obj);
    return next;
}

/* ------------------------------------------------------------------ Making */

static bool device_peers(const sp_protocol_ops *a, const sp_protocol_ops *b)
{
    for (size_t i = 0; i < a->id_count * b->id_count; i++) {
        const sp_id_pair *x = &a->ids[i / b->id_count];
        const sp_id_pair *y = &b->ids[i % b->id_count];

        if (x->own == y->peer && x->peer == y->own) {
            return true;
        }
    }
    return false;
}

/// Whether the two make a device. Errors with detail.
static int device_check(const struct sp__sock *a, const struct sp__sock *b)
{
    const struct sp__sock *cooked = !a->ref.raw ? a : !b->ref.raw ? b : NULL;

    if (cooked != NULL) {
        return sp__fail(SP_EINVAL, "device: the socket \"%s\" is not raw (sp_open_raw)",
                        cooked->protocol->name);
    }
    if (device_peers(a->ops, b->ops)) {
        return SP_OK;
    }
    return a == b ? sp__fail(SP_EINVAL,
                             "device: \"%s\" does not talk to its own kind, one socket cannot "
                             "reflect",
                             a->protocol->name)
                  : sp__fail(SP_EINVAL, "device: \"%s\" and \"%s\" do not talk to each other",
                             a->protocol->name, b->protocol->name);
}

static int way_open(struct device_way *w, struct sp__device *d, struct sp__sock *from,
                    struct sp__sock *to)
{
    bool forwards = ((from->ops->flags & SP_PROTO_NO_RECV) | (to->ops->flags & SP_PROTO_NO_SEND)) ==
                    0;

    sp__tap_init(&w->tap, from, &d->actor, way_on_ready, way_destroy);
    sp__event_init(&w->go, &d->actor, &w->tap.obj, way_on_go);
    w->device = d;
    w->there = true;
    sp__hold(&d->obj);
    sp__hold(&from->obj);
    if (!forwards) {
        return SP_OK;
    }
    w->to = to;
    w->tx = (struct sp__waiter){.ctx = &to->ctx, .ready = way_on_credit};
    sp__hold(&to->obj);
    return sp__tap_open(&w->tap);
}

/// With both sockets entered.
static int device_make(struct sp__device **out, struct sp__sock *a, struct sp__sock *b,
                       struct sp__waiter *op)
{
    struct sp__device *d;
    int rc = device_check(a, b);

    if (rc < 0) {
        return rc;
    }
    d = sp__zalloc(sizeof(*d));
    if (d == NULL) {
        return sp__fail_code(SP_ENOMEM, "device");
    }
    sp__object_init(&d->obj, SP__KIND_DEVICE, device_destroy);
    sp__actor_init(&d->actor, &d->obj, false);
    sp__event_init(&d->stop, &d->actor, NULL, device_on_stop);
    d->op = op;
    rc = way_open(&d->way[0], d, a, b);
    if (rc == SP_OK && a != b) {
        rc = way_open(&d->way[1], d, b, a);
    }
    *out = d;
    if (rc < 0) {
        sp__device_abandon(d);
        sp__drop(&d->obj);
    }
    return rc == SP_ESTATE ? sp__fail(rc, "device: what a socket of it receives goes elsewhere")
           : rc < 0        ? sp__fail_code(rc, "device")
                           : SP_OK;
}

int sp__device_new(struct sp__device **out, sp_socket a, sp_socket b, struct sp__waiter *op)
{
    struct sp__object *oa;
    struct sp__object *ob;
    int rc = sp__enter(a.id, SP__KIND_SOCKET, &oa);

    if (rc < 0) {
        return rc;
    }
    rc = sp__enter(b.id, SP__KIND_SOCKET, &ob);
    if (rc == SP_OK) {
        rc = device_make(out, SP__CONTAINER(oa, struct sp__sock, obj),
                         SP__CONTAINER(ob, struct sp__sock, obj), op);
        sp__leave();
    }
    sp__leave();
    return rc;
}

struct sp__object *sp__device_object(struct sp__device *d)
{
    return &d->obj;
}

void sp__device_start(struct sp__device *d)
{
    for (struct device_way *w = d->way; w < d->way + 2; w++) {
        if (w->there) {
            sp__post(&w->tap.ready);
        }
    }
}

void sp__device_stop(struct sp__device *d)
{
    sp__post(&d->stop);
}
