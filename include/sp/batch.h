/* SPDX-License-Identifier: MIT */
/// Batches of messages: how handlers of plugins and of application actors get them. No functions of
/// the library; a message's first word is its link (frozen, as the struct below).
#ifndef SP_BATCH_H
#define SP_BATCH_H

#include <stddef.h>

#include <sp/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/// A queue of messages; whoever holds the batch owns them. Read `n`, the number of messages, as you
/// like; change it only by the functions below. It belongs to one thread at a time.
typedef struct sp_batch {
    sp_msg *head;
    sp_msg *tail;
    size_t n;
} sp_batch;

/// Where a message's link is; for the functions below.
static inline sp_msg **sp_batch_link(sp_msg *m)
{
    return (sp_msg **)(void *)m;
}

/// Puts a message at the end; it is the batch's from here on.
static inline void sp_batch_push(sp_batch *b, sp_msg *m)
{
    *sp_batch_link(m) = NULL;
    if (b->tail != NULL) {
        *sp_batch_link(b->tail) = m;
    } else {
        b->head = m;
    }
    b->tail = m;
    b->n++;
}

/// Takes the first message out: it is the caller's. NULL: there is none.
static inline sp_msg *sp_batch_pop(sp_batch *b)
{
    sp_msg *m = b->head;

    if (m != NULL) {
        b->head = *sp_batch_link(m);
        if (b->head == NULL) {
            b->tail = NULL;
        }
        b->n--;
        *sp_batch_link(m) = NULL;
    }
    return m;
}

/// Puts a message back in front.
static inline void sp_batch_unpop(sp_batch *b, sp_msg *m)
{
    *sp_batch_link(m) = b->head;
    b->head = m;
    if (b->tail == NULL) {
        b->tail = m;
    }
    b->n++;
}

/// Moves all of `from` to the end of `b`.
static inline void sp_batch_join(sp_batch *b, sp_batch *from)
{
    if (from->head == NULL) {
        return;
    }
    if (b->tail != NULL) {
        *sp_batch_link(b->tail) = from->head;
    } else {
        b->head = from->head;
    }
    b->tail = from->tail;
    b->n += from->n;
    from->head = NULL;
    from->tail = NULL;
    from->n = 0;
}

#ifdef __cplusplus
}
#endif

#endif
