/* SPDX-License-Identifier: MIT */
/// Taps. What they do with the queue is in ctx_async.c. [any]
#include "tap.h"

#include "socket.h"

/// Its turn: whoever took it out of the list has the list's reference.
static struct sp__wake tap_on_turn(struct sp__waiter *w)
{
    struct sp__tap *tap = SP__CONTAINER(w, struct sp__tap, w);
    struct sp__wake nobody = {NULL, NULL};

    sp__post(&tap->ready);
    sp__drop(&tap->obj);
    return nobody;
}

void sp__tap_init(struct sp__tap *tap, struct sp__sock *s, struct sp__actor *a,
                  void (*ready)(struct sp__event *ev), void (*destroy)(struct sp__object *obj))
{
    sp__object_init(&tap->obj, SP__KIND_TAP, destroy);
    sp__event_init(&tap->ready, a, &tap->obj, ready);
    tap->sock = s;
    tap->w = (struct sp__waiter){.ctx = &s->ctx, .ready = tap_on_turn};
}

int sp__tap_open(struct sp__tap *tap)
{
    return sp__ctx_tap(&tap->sock->ctx, &tap->w);
}

ssize_t sp__tap_take(struct sp__tap *tap, sp_batch *out, size_t max)
{
    struct sp__tap_turn turn = {{NULL, NULL}, false};
    ssize_t n;

    sp__hold(&tap->obj); // The list's, if it joins that.
    n = sp__ctx_tap_take(&tap->sock->ctx, &tap->w, out, max, &turn);
    if (!turn.joined) {
        sp__drop(&tap->obj);
    }
    sp__wake(turn.next);
    return n;
}

void sp__tap_back(struct sp__tap *tap, sp_batch *b)
{
    sp__ctx_tap_back(&tap->sock->ctx, b);
}

int sp__tap_watch(struct sp__tap *tap)
{
    bool joined;
    int rc;

    sp__hold(&tap->obj); // The list's, if it joins that.
    rc = sp__ctx_watch(&tap->sock->ctx, &tap->w, &joined);
    if (!joined) {
        sp__drop(&tap->obj);
    }
    return rc;
}

void sp__tap_unwatch(struct sp__tap *tap)
{
    if (sp__ctx_unwatch(&tap->sock->ctx, &tap->w)) {
        sp__drop(&tap->obj);
    }
}

void sp__tap_close(struct sp__tap *tap)
{
    struct sp__wake next = {NULL, NULL};

    if (sp__ctx_recv_leave(&tap->sock->ctx, &tap->w, &next)) {
        sp__drop(&tap->obj);
    }
    sp__wake(next);
}
