/* SPDX-License-Identifier: MIT */
/// Devices: what one raw socket receives is sent on another one, both ways. Each is run by an
/// operation (op.c), whose waiter hears of its end, once.
#ifndef SP_CORE_DEVICE_H
#define SP_CORE_DEVICE_H

#include "object.h"
#include "waiter.h"

#include <sp/types.h>

struct sp__device;

/// Makes one, which alone receives from the sockets from now on; `op->over` is not called before it
/// is started or stopped. The caller has a reference. Errors with detail. [any]
int sp__device_new(struct sp__device **out, sp_socket a, sp_socket b, struct sp__waiter *op);
struct sp__object *sp__device_object(struct sp__device *d);
void sp__device_start(struct sp__device *d); ///< posts only
/// Gives the sockets back, as it does itself in the end: of one that is neither started nor
/// stopped.
void sp__device_abandon(struct sp__device *d);
/// Ends it with SP_ECANCELED, soon; posts only. [any]
void sp__device_stop(struct sp__device *d);

#endif
