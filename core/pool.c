/* SPDX-License-Identifier: MIT */
/// Message memory: magazines per thread, a depot for all, the system behind it. [any]
#include "pool.h"

#include "magazine.h"
#include "platform.h"

#include <pthread.h>
#include <stdatomic.h>

/// From this class on, 64 KiB, a thread keeps no spare batch, and soon a batch is one block: what
/// one thread frees the other takes while it is still in the cache, and no thread keeps megabytes.
#define POOL_NO_SPARE 4

/// Most bytes that the depot keeps of each class: a stream that has a few megabytes queued, then
/// none, gets its memory from here and not from the system, page by page.
#define POOL_DEPOT_MAX (UINT64_C(8) << 20)

static struct {
    pthread_mutex_t lock;
    struct sp__block *top[SP__CLASSES];
    uint64_t kept[SP__CLASSES];  ///< bytes of these
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
    // Beyond the 128 bytes: begun KiB less one, of which every two bits are a class.
    size_t over = size > 128 ? (size - 129) >> 10 : 0;
    unsigned cls = over == 0 ? 1 : (unsigned)(65 - __builtin_clzll(over)) / 2 + 1;

    return cls < SP__CLASSES ? cls : SP__CLASSES;
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

/// Hands a batch of `n` blocks to the depot, or to the system when the depot is full.
static void pool_deposit(struct sp__block *first, unsigned cls, unsigned n)
{
    uint64_t bytes = (uint64_t)n * sp__pool_size(cls);

    first->n = n;
    (void)pthread_mutex_lock(&pool.lock);
    if (pool.kept[cls] + bytes <= POOL_DEPOT_MAX) {
        first->below = pool.top[cls];
        pool.top[cls] = first;
        pool.kept[cls] += bytes;
        first = NULL;
    }
    (void)pthread_mutex_unlock(&pool.lock);
    while (first != NULL) {
        struct sp__block *next = first->next;

        sp__pool_free(first, sp__pool_size(cls));
        first = next;
    }
}

/// A batch of the depot, or NULL.
static struct sp__block *pool_withdraw(unsigned cls)
{
    struct sp__block *b;

    (void)pthread_mutex_lock(&pool.lock);
    b = pool.top[cls];
    if (b != NULL) {
        pool.top[cls] = b->below;
        pool.kept[cls] -= (uint64_t)b->n * sp__pool_size(cls);
    }
    (void)pthread_mutex_unlock(&pool.lock);
    return b;
}

static void *pool_fresh(unsigned cls)
{
    atomic_fetch_add_explicit(&pool.fresh, 1, memory_order_relaxed);
    return sp__pool_alloc(sp__pool_size(cls));
}

void *sp__pool_refill(unsigned cls)
{
    struct sp__thread *t = sp__self();
    struct sp__magazine *mag;

    if (t == NULL) {
        return NULL;
    }
    mag = &t->magazines[cls];
    if (mag->head == NULL) {
        mag->head = mag->spare;
        mag->n = sp__pool_batch[cls];
        mag->spare = NULL;
    }
    if (mag->head == NULL) {
        mag->head = pool_withdraw(cls);
        mag->n = 0;
        if (mag->head != NULL) {
            mag->n = mag->head->n;
            atomic_fetch_add_explicit(&pool.hits, 1, memory_order_relaxed);
        }
    }
    return mag->head != NULL ? sp__pool_take(cls) : pool_fresh(cls);
}

void sp__pool_retire(unsigned cls, void *p)
{
    struct sp__thread *t = sp__self();
    struct sp__magazine *mag;
    struct sp__block *full;

    if (t == NULL) {
        sp__pool_free(p, sp__pool_size(cls));
        return;
    }
    mag = &t->magazines[cls];
    if (mag->n == sp__pool_batch[cls]) {
        full = mag->head;
        mag->head = NULL;
        mag->n = 0;
        if (cls < POOL_NO_SPARE) {
            struct sp__block *spare = mag->spare;

            mag->spare = full;
            full = spare;
        }
        if (full != NULL) {
            pool_deposit(full, cls, sp__pool_batch[cls]);
        }
    }
    sp__pool_put(cls, p);
}

void sp__pool_flush(struct sp__thread *t)
{
    for (unsigned cls = 0; cls < SP__CLASSES; cls++) {
        struct sp__magazine mag = t->magazines[cls];

        t->magazines[cls] = (struct sp__magazine){NULL, NULL, 0};
        if (mag.head != NULL) {
            pool_deposit(mag.head, cls, mag.n);
        }
        if (mag.spare != NULL) {
            pool_deposit(mag.spare, cls, sp__pool_batch[cls]);
        }
    }
}

void sp__pool_drain(void)
{
    for (unsigned cls = 0; cls < SP__CLASSES; cls++) {
        for (struct sp__block *b = pool_withdraw(cls); b != NULL; b = pool_withdraw(cls)) {
            for (struct sp__block *next; b != NULL; b = next) {
                next = b->next;
                sp__pool_free(b, sp__pool_size(cls));
            }
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
