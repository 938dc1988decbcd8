/* SPDX-License-Identifier: MIT */
/// Lists of those who wait. See waiter.h.
#include "waiter.h"

void sp__waiter_add(struct sp__waiters *list, struct sp__waiter *w, bool first)
{
    w->prev = first ? NULL : list->tail;
    w->next = first ? list->head : NULL;
    *(w->prev != NULL ? &w->prev->next : &list->head) = w;
    *(w->next != NULL ? &w->next->prev : &list->tail) = w;
    w->queued = true;
}

void sp__waiter_remove(struct sp__waiters *list, struct sp__waiter *w)
{
    *(w->prev != NULL ? &w->prev->next : &list->head) = w->next;
    *(w->next != NULL ? &w->next->prev : &list->tail) = w->prev;
    w->queued = false;
}

/// Takes one out, or nobody.
static struct sp__wake waiter_take(struct sp__waiters *list, struct sp__waiter *w)
{
    if (w == NULL) {
        return (struct sp__wake){NULL, NULL};
    }
    sp__waiter_remove(list, w);
    return (struct sp__wake){w->thread, w->thread == NULL ? w : NULL};
}

struct sp__wake sp__waiter_pop(struct sp__waiters *list)
{
    return waiter_take(list, list->head);
}

struct sp__wake sp__waiter_pop_of(struct sp__waiters *list, const struct sp__ctx *ctx)
{
    struct sp__waiter *w = list->head;

    while (w != NULL && w->ctx != ctx) {
        w = w->next;
    }
    return waiter_take(list, w);
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
