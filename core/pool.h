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

/// A thread's free blocks of one class.
struct sp__magazine {
    void *head;
    unsigned n;
};

/// A block of class `cls`, or NULL. Its size is sp__pool_size(cls).
void *sp__pool_get(unsigned cls);
void sp__pool_put(unsigned cls, void *p);
size_t sp__pool_size(unsigned cls);
/// The smallest class that holds `size` bytes; SP__CLASSES: none does.
unsigned sp__pool_class(size_t size);
/// Memory of any size, counted against "memory-max".
void *sp__pool_alloc(size_t size);
void sp__pool_free(void *p, size_t size);

/// Gives what a thread has cached to the depot; frees what the depot holds (nothing else is running
/// then).
void sp__pool_flush(struct sp__thread *t);
void sp__pool_drain(void);

/// "memory-max" (0: none), and counters for the statistics.
void sp__pool_limit(uint64_t bytes);
void sp__pool_stats(uint64_t *bytes, uint64_t *depot_hits, uint64_t *fresh);

/// 64 KiB of the calling thread (thread.c). NULL: no memory.
void *sp__scratch(void);

#endif
