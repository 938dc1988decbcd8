/* SPDX-License-Identifier: MIT */
/// Lists of those who wait. See waiter.h.
#include "waiter.h"

void sp__waiter_add(struct sp__waiter **list, struct sp__waiter *w, bool first)
{
    while (!first && *list != NULL) {
        list = &(*list)->next;
    }
    w->next = *list;
    w->queued = true;
    *list = w;
}

void sp__waiter_remove(struct sp__waiter **list, struct sp__waiter *w)
{
    while (*list != NULL && *list != w) {
        list = &(*list)->next;
    }
    if (*list != NULL) {
        *list = w->next;
    }
    w->queued = false;
}

/// Takes the one that stands at `at` out.
static struct sp__wake waiter_take(struct sp__waiter **at)
{
    struct sp__waiter *w = *at;

    *at = w->next;
    w->queued = false;
    return (struct sp__wake){w->thread, w->thread == NULL ? w : NULL};
}

struct sp__wake sp__waiter_pop(struct sp__waiter **list)
{
    return *list != NULL ? waiter_take(list) : (struct sp__wake){NULL, NULL};
}

struct sp__wake sp__waiter_pop_of(struct sp__waiter **list, const struct sp__ctx *ctx)
{
    while (*list != NULL && (*list)->ctx != ctx) {
        list = &(*list)->next;
    }
    return sp__waiter_pop(list);
}

void sp__wake(struct sp__wake wake)
{
    while (wake.op != NULL) {
        wake = wake.op->ready(wake.op);
    }
    if (wake.thread != NULL) {
        sp__thread_wake(wake.thread);
    }
}
