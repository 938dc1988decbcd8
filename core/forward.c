/* SPDX-License-Identifier: MIT */
/// Forwarders. Each is an actor that takes from its socket what the mailbox has room for, and holds
/// what another poster was faster for. It lives as long as something can wake it: a list in which
/// it waits, the mailbox's list of its forwarders, or a posted event has the reference.
#include "forward.h"

#include "error.h"
#include "platform.h"
#include "runtime.h"
#include "sched.h"
#include "socket.h"

#include <sp/sp.h>

#define TAKE_MAX 64 // messages in one step
#define STEPS_MAX 4 // then others have their turn

static void forward_destroy(struct sp__object *obj)
{
    struct sp__forward *f = SP__CONTAINER(obj, struct sp__forward, tap.obj);

    sp__drop(&f->mb->obj);
    sp__drop(&f->tap.sock->obj);
    sp__free(f);
}

/// The socket is closed, or the mailbox.
static void forward_end(struct sp__forward *f)
{
    if (f->held.head != NULL) {
        sp__mailbox_lost(f->mb, &f->held);
    }
    sp__tap_close(&f->tap);
    sp__mailbox_not_fed_by(f->mb, f);
}

/// Whether it waits for room in the mailbox. What it waited with is dealt with otherwise.
static bool forward_waits(struct sp__forward *f)
{
    bool waits;

    (void)pthread_mutex_lock(&f->mb->lock);
    waits = f->tx.w.queued;
    (void)pthread_mutex_unlock(&f->mb->lock);
    if (!waits && f->tx.m != NULL) {
        sp_batch_unpop(&f->held, f->tx.m); // The mailbox was closed.
        f->tx.m = NULL;
    }
    return waits;
}

/// One step. True: there may be more to do at once.
static bool forward_step(struct sp__forward *f)
{
    int rc;

    if (f->held.head == NULL) {
        size_t room = sp__mailbox_room(f->mb);
        ssize_t n = sp__tap_take(&f->tap, &f->held,
                                 room > TAKE_MAX ? TAKE_MAX
                                 : room > 0      ? room
                                                 : 1);

        if (n < 0) {
            forward_end(f);
        }
        if (n <= 0) {
            return false;
        }
    }
    sp__hold(&f->tap.obj); // The list's, if it waits.
    rc = sp__mailbox_feed(f->mb, &f->held, &f->tx);
    if (rc != SP_EFULL) {
        sp__drop(&f->tap.obj);
    }
    if (rc == SP_ECLOSED) {
        forward_end(f);
    }
    return rc == SP_OK;
}

static void forward_run(struct sp__forward *f)
{
    if (forward_waits(f)) {
        return;
    }
    for (int i = 0; forward_step(f); i++) {
        if (i == STEPS_MAX) {
            sp__post(&f->look);
            break;
        }
    }
}

static void forward_on_ready(struct sp__event *ev)
{
    forward_run(SP__CONTAINER(ev, struct sp__forward, tap.ready));
}

static void forward_on_look(struct sp__event *ev)
{
    struct sp__forward *f = SP__CONTAINER(ev, struct sp__forward, look);

    if (sp__mailbox_closed(f->mb)) {
        (void)forward_waits(f);
        forward_end(f);
    } else {
        forward_run(f);
    }
}

/// Its message is in the mailbox, or that is closed.
static struct sp__wake forward_on_room(struct sp__waiter *w)
{
    struct sp__forward *f = SP__CONTAINER(w, struct sp__forward, tx.w);
    struct sp__wake nobody = {NULL, NULL};

    sp__post(&f->look);
    sp__drop(&f->tap.obj);
    return nobody;
}

void sp__forwards_end(struct sp__forward *list)
{
    while (list != NULL) {
        struct sp__forward *f = list;

        list = f->next;
        sp__post(&f->look);
        sp__drop(&f->tap.obj);
    }
}

static struct sp__forward *forward_new(struct sp__sock *s, struct sp__mailbox *mb)
{
    struct sp__forward *f = sp__zalloc(sizeof(*f));

    if (f == NULL) {
        return NULL;
    }
    sp__tap_init(&f->tap, s, &f->actor, forward_on_ready, forward_destroy);
    sp__actor_init(&f->actor, &f->tap.obj, false);
    sp__event_init(&f->look, &f->actor, &f->tap.obj, forward_on_look);
    f->tx.w.ready = forward_on_room;
    f->mb = mb;
    sp__hold(&s->obj);
    sp__hold(&mb->obj);
    return f;
}

static int forward_make(struct sp__sock *s, struct sp__mailbox *mb)
{
    struct sp__forward *f = forward_new(s, mb);
    int rc;

    if (f == NULL) {
        return sp__fail_code(SP_ENOMEM, "forward");
    }
    rc = sp__tap_open(&f->tap);
    if (rc == SP_OK && !sp__mailbox_fed_by(mb, f)) {
        sp__tap_close(&f->tap);
        rc = SP_ECLOSED;
    }
    if (rc == SP_OK) {
        sp__post(&f->look);
    }
    sp__drop(&f->tap.obj);
    return rc == SP_ESTATE ? sp__fail(rc, "forward: what the socket receives goes elsewhere")
           : rc == SP_ENOTSUP
               ? sp__fail(rc, "forward: the protocol \"%s\" only sends", s->protocol->name)
           : rc < 0 ? sp__fail_code(rc, "forward")
                    : SP_OK;
}

int sp_forward(sp_socket from, sp_mailbox to)
{
    struct sp__object *sock;
    struct sp__object *mb;
    int rc = sp__enter(from.id, SP__KIND_SOCKET, &sock);

    if (rc < 0) {
        return rc;
    }
    rc = sp__enter(to.id, SP__KIND_MAILBOX, &mb);
    if (rc == SP_OK) {
        rc = forward_make(SP__CONTAINER(sock, struct sp__sock, obj),
                          SP__CONTAINER(mb, struct sp__mailbox, obj));
        sp__leave();
    }
    sp__leave();
    sp__reclaim();
    sp__run_here(true);
    return rc;
}
