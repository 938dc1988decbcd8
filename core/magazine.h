/* SPDX-License-Identifier: MIT */
/// The usual way to a block of message memory and back: the calling thread's own magazine, inline.
/// [any]
#ifndef SP_CORE_MAGAZINE_H
#define SP_CORE_MAGAZINE_H

#include "pool.h"
#include "thread.h"

/// A block of class `cls` that the thread has at hand, or NULL.
static inline void *sp__pool_take(unsigned cls)
{
    struct sp__thread *t = sp__thread_current;
    struct sp__block *b;

    if (t == NULL || t->magazines[cls].head == NULL) {
        return NULL;
    }
    b = t->magazines[cls].head;
    t->magazines[cls].head = b->next;
    t->magazines[cls].n--;
    return b;
}

/// A block of class `cls`, or NULL: no memory. Its size is sp__pool_size(cls).
static inline void *sp__pool_get(unsigned cls)
{
    void *p = sp__pool_take(cls);

    return p != NULL ? p : sp__pool_refill(cls);
}

static inline void sp__pool_put(unsigned cls, void *p)
{
    struct sp__thread *t = sp__thread_current;
    struct sp__block *b = (struct sp__block *)p;

    if (t == NULL || t->magazines[cls].n == sp__pool_batch[cls]) {
        sp__pool_retire(cls, p);
        return;
    }
    b->next = t->magazines[cls].head;
    t->magazines[cls].head = b;
    t->magazines[cls].n++;
}

#endif
