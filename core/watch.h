/* SPDX-License-Identifier: MIT */
/// File descriptors in the readiness set. Whoever polls calls what is to be told of readiness.
#ifndef SP_CORE_WATCH_H
#define SP_CORE_WATCH_H

#include <stdbool.h>

struct sp__object;

/// An fd in the readiness set, embedded in the object that it is about. While it is open, and as
/// long as a report about it may be under way, it holds a reference of that object.
struct sp__watch {
    struct sp__object *obj;
    void (*ready)(struct sp__watch *w, unsigned ready); ///< on the polling thread; only posts
    int fd;                                             ///< -1: not open
    struct sp__watch *zombie;
};
/// Opens and closes. Close is idempotent; afterwards the fd may be closed. Negative errno.
int sp__watch_open(struct sp__watch *w, int fd);
void sp__watch_close(struct sp__watch *w);
/// Whether readiness to write is reported; at first it is. Nothing if it is not open.
void sp__watch_out(struct sp__watch *w, bool out);

#endif
