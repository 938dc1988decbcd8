/* SPDX-License-Identifier: MIT */
/// A message as the core sees it: the frozen head of <sp/plugin.h>, then what only the core
/// touches. A message belongs to one thread or queue at a time; only the chunk behind its body can
/// be shared.
#ifndef SP_CORE_MSG_H
#define SP_CORE_MSG_H

#include "pool.h"

#include <sp/plugin.h>

#include <stdatomic.h>

#define SP__INLINE_MAX 96
/// Bytes in front of a body of its own, so that a header is prepended without copying.
#define SP__HEADROOM 64

/// The memory behind a body that does not fit into the message block.
struct sp__chunk {
    atomic_uint refs; ///< messages that use it; the drop to 0 is acq_rel: the last one sees all
                      ///< others' reads done
    unsigned cls;     ///< pool class; SP__CLASSES: an allocation of its own
    size_t cap;       ///< bytes at `base`
    unsigned char *base;
    size_t size;                           ///< bytes of an allocation of its own
    void (*free_fn)(void *buf, void *arg); ///< wrapped: the user's
    void *arg;
    void *wrapped;
};

struct sp__msg {
    sp_msg head;    ///< `memory`: the chunk; NULL: the body is in `body`
    int64_t wall;   ///< when it was received, ns; 0: it was not
    uint64_t pipe;  ///< handle of the pipe it came from
    uint32_t cost;  ///< send credit that it holds; 0: none
    uint32_t round; ///< the question that it belongs to (SP_PROTO_ASKS)
    _Alignas(16) unsigned char body[SP__INLINE_MAX];
};

_Static_assert(sizeof(struct sp__msg) == SP__BLOCK_SIZE, "a message fills its block");
_Static_assert(offsetof(sp_msg, header) == 64, "a message without header leaves a line untouched");
_Static_assert(sizeof(struct sp__chunk) <= 64, "a chunk header fits in front of the head room");

/// In header_len: no message, but the failure whose code is in `pipe`, on its way to a receiver.
#define SP__MSG_FAILURE UINT16_MAX

static inline struct sp__msg *sp__msg(sp_msg *m)
{
    return (struct sp__msg *)m;
}

static inline struct sp__chunk *sp__msg_chunk(const struct sp__msg *m)
{
    return (struct sp__chunk *)m->head.memory;
}

sp_msg *sp__msg_new(size_t len);
sp_msg *sp__msg_clone(sp_msg *m);
void sp__msg_release(sp_msg *m);
int sp__msg_reserve(sp_msg *m, size_t cap);
int sp__msg_own(sp_msg *m);
void sp__batch_release(sp_batch *b);

#endif
