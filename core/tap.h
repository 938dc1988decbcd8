/* SPDX-License-Identifier: MIT */
/// A tap: what receives from a socket in the application's place, for an actor: of a forwarder
/// (forward.c), of a device (device.c) or of the application (app_port.c). A socket has at most
/// one; while it has, nobody else receives from its own context (SP_ESTATE).
#ifndef SP_CORE_TAP_H
#define SP_CORE_TAP_H

#include "actor.h"
#include "object.h"
#include "waiter.h"

#include <sys/types.h>

struct sp__sock;

/// Embedded in what uses it. References: its user's, one while it waits for messages, and one of
/// its event while that is posted.
struct sp__tap {
    struct sp__object obj;
    struct sp__sock *sock; ///< the user holds it
    struct sp__waiter w;   ///< in the list of the socket's receivers, under their lock
    struct sp__event ready;
};

/// Before all others. `ready` is posted to `a` when there may be messages, after a take that found
/// none; `destroy` is called when the last reference goes.
void sp__tap_init(struct sp__tap *tap, struct sp__sock *s, struct sp__actor *a,
                  void (*ready)(struct sp__event *ev), void (*destroy)(struct sp__object *obj));
/// Makes it the socket's. SP_ESTATE: it has one; SP_ENOTSUP: its protocol only sends; SP_ECLOSED.
int sp__tap_open(struct sp__tap *tap);
/// Takes what is there, at most `max`. 0: nothing, and `ready` will come. SP_ECLOSED: the socket is
/// closed, or the tap. The actor's.
ssize_t sp__tap_take(struct sp__tap *tap, sp_batch *out, size_t max);
/// Gives back what was taken last and not used. The actor's.
void sp__tap_back(struct sp__tap *tap, sp_batch *b);
/// From now on `ready` comes only when the socket is closed, until the unwatch. Also of one that is
/// not open: any number may watch a socket. SP_ECLOSED: it is closed. The actor's.
int sp__tap_watch(struct sp__tap *tap);
void sp__tap_unwatch(struct sp__tap *tap);
/// Gives the socket back; idempotent. [any]
void sp__tap_close(struct sp__tap *tap);

#endif
