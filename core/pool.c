/* SPDX-License-Identifier: MIT */
/// Message memory: magazines per thread, a depot for all, the system behind it. [any]
#include "pool.h"

#include "platform.h"
#include "thread.h"

#include <pthread.h>
#include <stdatomic.h>

/// How many blocks a magazine keeps; twice as many is full, and half of that goes to the depot.
static const unsigned pool_keep[SP__CLASSES] = {64, 32, 16, 8, 4, 2, 1, 1};

/// Most batches that the depot keeps of a class (a batch is pool_keep blocks): at most about 25 MiB
/// in all.
static const unsigned pool_depot_max[SP__CLASSES] = {256, 64, 32, 16, 8, 4, 2, 1};

struct pool_batch {
    struct pool_batch *next;  ///< next block of the batch
    struct pool_batch *below; ///< first block: the batch below in the depot
    unsigned n;               ///< first block: blocks in the batch
};

static struct {
    pthread_mutex_t lock;
    struct pool_batch *top[SP__CLASSES];
    unsigned n[SP__CLASSES];
    atomic_uint_least64_t bytes; ///< taken from the system and not given back
    atomic_uint_least64_t limit;
    atomic_uint_least64_t hits;
    atomic_uint_least64_t fresh;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

size_t sp__pool_size(unsigned cls)
{
    // Bodies carry 128 bytes of chunk header and head room beside their round size.
    return cls == 0 ? SP__BLOCK_SIZE : ((size_t)1024 << (2 * (cls - 1))) + 128;
}

unsigned sp__pool_class(size_t size)
{
    for (unsigned cls = 1; cls < SP__CLASSES; cls++) {
        if (size <= sp__pool_size(cls)) {
            return cls;
        }
    }
    return SP__CLASSES;
}

static void *pool_try_alloc(size_t size)
{
    uint64_t limit = atomic_load_explicit(&pool.limit, memory_order_relaxed);
    uint64_t before = atomic_fetch_add_explicit(&pool.bytes, size, memory_order_relaxed);
    void *p = NULL;

    if (limit == 0 || before + size <= limit) {
        p = sp__platform->alloc(size, 64);
    }
    if (p == NULL) {
        atomic_fetch_sub_explicit(&pool.bytes, size, memory_order_relaxed);
    }
    return p;
}

void *sp__pool_alloc(size_t size)
{
    struct sp__thread *t = sp__self();
    void *p = pool_try_alloc(size);

    if (p == NULL && t != NULL) {
        // What is cached is not in use: give it back, and try once more.
        sp__pool_flush(t);
        sp__pool_drain();
        p = pool_try_alloc(size);
    }
    return p;
}

void sp__pool_free(void *p, size_t size)
{
    sp__platform->free(p);
    atomic_fetch_sub_explicit(&pool.bytes, size, memory_order_relaxed);
}

/// Moves the first `n` blocks of a magazine to the depot, or to the system when the depot is full.
static void pool_retire(struct sp__magazine *mag, unsigned cls, unsigned n)
{
    struct pool_batch *first = mag->head;
    struct pool_batch *last = first;

    for (unsigned i = 1; i < n; i++) {
        last = last->next;
    }
    mag->head = last->next;
    mag->n -= n;
    last->next = NULL;
    first->n = n;
    (void)pthread_mutex_lock(&pool.lock);
    if (pool.n[cls] < pool_depot_max[cls]) {
        first->below = pool.top[cls];
        pool.top[cls] = first;
        pool.n[cls]++;
        first = NULL;
    }
    (void)pthread_mutex_unlock(&pool.lock);
    while (first != NULL) {
        struct pool_batch *next = first->next;

        sp__pool_free(first, sp__pool_size(cls));
        first = next;
    }
}

/// Fills an empty magazine with a batch of the depot, if there is one.
static void pool_refill(struct sp__magazine *mag, unsigned cls)
{
    struct pool_batch *b;

    (void)pthread_mutex_lock(&pool.lock);
    b = pool.top[cls];
    if (b != NULL) {
        pool.top[cls] = b->below;
        pool.n[cls]--;
    }
    (void)pthread_mutex_unlock(&pool.lock);
    if (b != NULL) {
        mag->head = b;
        mag->n = b->n;
        atomic_fetch_add_explicit(&pool.hits, 1, memory_order_relaxed);
    }
}

void *sp__pool_get(unsigned cls)
{
    struct sp__thread *t = sp__self();
    struct sp__magazine *mag;
    struct pool_batch *b;

    if (t == NULL) {
        return NULL;
    }
    mag = &t->magazines[cls];
    if (mag->head == NULL) {
        pool_refill(mag, cls);
    }
    b = mag->head;
    if (b == NULL) {
        atomic_fetch_add_explicit(&pool.fresh, 1, memory_order_relaxed);
        return sp__pool_alloc(sp__pool_size(cls));
    }
    mag->head = b->next;
    mag->n--;
    return b;
}

void sp__pool_put(unsigned cls, void *p)
{
    struct sp__thread *t = sp__self();
    struct sp__magazine *mag;
    struct pool_batch *b = p;

    if (t == NULL) {
        sp__pool_free(p, sp__pool_size(cls));
        return;
    }
    mag = &t->magazines[cls];
    b->next = mag->head;
    mag->head = b;
    if (++mag->n >= 2 * pool_keep[cls]) {
        pool_retire(mag, cls, pool_keep[cls]);
    }
}

void sp__pool_flush(struct sp__thread *t)
{
    for (unsigned cls = 0; cls < SP__CLASSES; cls++) {
        if (t->magazines[cls].n > 0) {
            pool_retire(&t->magazines[cls], cls, t->magazines[cls].n);
        }
    }
}

void sp__pool_drain(void)
{
    for (unsigned cls = 0; cls < SP__CLASSES; cls++) {
        struct sp__magazine mag = {0};

        for (pool_refill(&mag, cls); mag.head != NULL; pool_refill(&mag, cls)) {
            for (struct pool_batch *b = mag.head, *next; b != NULL; b = next) {
                next = b->next;
                sp__pool_free(b, sp__pool_size(cls));
            }
            mag.head = NULL;
        }
    }
}

void sp__pool_limit(uint64_t bytes)
{
    atomic_store_explicit(&pool.limit, bytes, memory_order_relaxed);
}

void sp__pool_stats(uint64_t *bytes, uint64_t *depot_hits, uint64_t *fresh)
{
    *bytes = atomic_load_explicit(&pool.bytes, memory_order_relaxed);
    *depot_hits = atomic_load_explicit(&pool.hits, memory_order_relaxed);
    *fresh = atomic_load_explicit(&pool.fresh, memory_order_relaxed);
}
