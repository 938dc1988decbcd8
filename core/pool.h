/* SPDX-License-Identifier: MIT */
/// Memory for messages: blocks of a few size classes, cached per thread in magazines and handed
/// between threads in batches through a depot, so that memory freed by one thread and allocated by
/// another costs one lock a batch. [any]
#ifndef SP_CORE_POOL_H
#define SP_CORE_POOL_H

#include <stddef.h>
#include <stdint.h>

/// Classes: 0 is a message block, then bodies of 1 KiB, 4 KiB … 4 MiB.
#define SP__CLASSES 8
#define SP__BLOCK_SIZE 256

struct sp__thread;

/// A free block.
struct sp__block {
    struct sp__block *next;  ///< of its batch
    struct sp__block *below; ///< first block of a batch: the batch below in the depot
    unsigned n;              ///< first block of a batch: blocks in it
};

/// A thread's free blocks of one class: those in use, and a whole batch behind them, so that one
/// who goes up and down at a border does not go to the depot each time.
struct sp__magazine {
    struct sp__block *head;
    struct sp__block *spare; ///< a whole batch, or NULL
    unsigned n;              ///< blocks at `head`, at most sp__pool_batch
};

/// Blocks in a whole batch.
static const unsigned sp__pool_batch[SP__CLASSES] = {64, 32, 16, 8, 4, 1, 1, 1};

/// Behind magazine.h: no magazine or an empty one, no magazine or a full one. NULL: no memory.
void *sp__pool_refill(unsigned cls);
void sp__pool_retire(unsigned cls, void *p);

/// The size of a class' blocks.
size_t sp__pool_size(unsigned cls);
/// The smallest class that holds `size` bytes; SP__CLASSES: none does.
unsigned sp__pool_class(size_t size);
/// Memory of any size, counted against "memory-max".
void *sp__pool_alloc(size_t size);
void sp__pool_free(void *p, size_t size);

/// Gives what the calling thread has cached to the depot; frees what the depot holds (nothing else
/// is running then).
void sp__pool_flush(struct sp__thread *t);
void sp__pool_drain(void);

/// "memory-max" (0: none), and counters for the statistics.
void sp__pool_limit(uint64_t bytes);
void sp__pool_stats(uint64_t *bytes, uint64_t *depot_hits, uint64_t *fresh);

/// 64 KiB of the calling thread (thread.c). NULL: no memory.
void *sp__scratch(void);

#endif
