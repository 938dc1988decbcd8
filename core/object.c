/* SPDX-License-Identifier: MIT */
/// Handle table, hazards, references. Opening and closing a handle takes a lock; looking one up
/// does not. [any]
#include "object.h"

#include "error.h"
#include "fence.h"
#include "platform.h"
#include "runtime.h"
#include "thread.h"

#include <sp/sp.h>

#include <pthread.h>

#define CHUNK_BITS 10
#define CHUNK_SLOTS (1U << CHUNK_BITS)
#define CHUNKS 1024U

// A handle: kind (8 bits), generation (24 bits, never 0), index (32 bits).
struct slot {
    _Atomic uint64_t id; ///< the valid handle; 0: free
    _Atomic(struct sp__object *) obj;
    uint32_t generation; ///< of the last handle; under the lock
    uint32_t next_free;  ///< index + 1; under the lock
};

static struct {
    pthread_mutex_t lock;
    _Atomic(struct slot *) chunks[CHUNKS];
    uint32_t used;      ///< slots handed out so far
    uint32_t free_head; ///< index + 1
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct {
    pthread_mutex_t lock;
    struct sp__object *head;
    atomic_uint listed; ///< in the list
    atomic_uint count;  ///< objects initialised and not destroyed
} retired = {.lock = PTHREAD_MUTEX_INITIALIZER};

void sp__object_init(struct sp__object *obj, enum sp__kind kind,
                     void (*destroy)(struct sp__object *obj))
{
    obj->id = 0;
    obj->kind = kind;
    atomic_init(&obj->refs, 1);
    obj->destroy = destroy;
    SP__TRACE(F0, obj, kind);
    if (kind != SP__KIND_NONE) {
        atomic_fetch_add_explicit(&retired.count, 1, memory_order_relaxed);
    }
}

unsigned sp__objects(void)
{
    return atomic_load_explicit(&retired.count, memory_order_relaxed);
}

/// Before the hazards are looked at: only what had a handle can be in one.
static void retired_fence(const struct sp__object *list)
{
    while (list != NULL && list->id == 0) {
        list = list->retired;
    }
    if (list != NULL) {
        sp__fence_heavy();
    }
}

/// Whether some thread's call uses the object. Behind retired_fence, against the publication in
/// sp__enter.
static bool object_in_use(const struct sp__object *obj)
{
    // seq_cst: see sp__enter. Acquire of a hazard that was given up: what that call did.
    for (struct sp__thread *t = sp__threads(); t != NULL; t = t->next) {
        for (unsigned i = 0; i < SP__HAZARDS; i++) {
            if (atomic_load_explicit(&t->hazard[i], memory_order_seq_cst) == obj) {
                return true;
            }
        }
    }
    return false;
}

void sp__retire_pause(void)
{
    (void)pthread_mutex_lock(&retired.lock);
}

void sp__retire_resume(void)
{
    (void)pthread_mutex_unlock(&retired.lock);
}

void sp__reclaim(void)
{
    struct sp__object *todo;
    struct sp__object *keep = NULL;
    struct sp__object *dead = NULL;

    (void)pthread_mutex_lock(&retired.lock);
    todo = retired.head;
    retired.head = NULL;
    retired_fence(todo);
    while (todo != NULL) {
        struct sp__object *obj = todo;
        // Hazards first: without one no new reference can come, but the last call may have left one
        // behind. Acquire: what was done under the references that were dropped.
        bool used = object_in_use(obj) ||
                    atomic_load_explicit(&obj->refs, memory_order_acquire) != SP__RETIRED;
        struct sp__object **list = used ? &keep : &dead;

        SP__TRACE(F12, obj, used);
        todo = obj->retired;
        obj->retired = *list;
        *list = obj;
    }
    retired.head = keep;
    (void)pthread_mutex_unlock(&retired.lock);
    while (dead != NULL) {
        struct sp__object *obj = dead;
        bool counted;

        dead = obj->retired;
        atomic_fetch_sub_explicit(&retired.listed, 1, memory_order_relaxed);
        SP__TRACE(F14, obj, 0);
        counted = obj->kind != SP__KIND_NONE;
        obj->destroy(obj);
        if (counted) {
            atomic_fetch_sub_explicit(&retired.count, 1, memory_order_relaxed);
        }
    }
}

bool sp__hold_live(struct sp__object *obj)
{
    unsigned before = atomic_load_explicit(&obj->refs, memory_order_relaxed);

    do {
        if ((before & SP__RETIRED) != 0) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&obj->refs, &before, before + 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    SP__TRACE(F5, obj, before);
    return true;
}

void sp__dropped(struct sp__object *obj, unsigned old)
{
    if (old == 1) {
        (void)pthread_mutex_lock(&retired.lock);
        obj->retired = retired.head;
        retired.head = obj;
        SP__TRACE(F11, obj, 0);
        atomic_fetch_add_explicit(&retired.listed, 1, memory_order_relaxed);
        (void)pthread_mutex_unlock(&retired.lock);
    }
    sp__reclaim();
}

static struct slot *slot_at(uint32_t index)
{
    struct slot *chunk;

    if (index >= CHUNKS * CHUNK_SLOTS) {
        return NULL;
    }
    // Acquire: pairs with the release in slot_take; the slots of the chunk are initialised.
    chunk = atomic_load_explicit(&table.chunks[index >> CHUNK_BITS], memory_order_acquire);
    return chunk != NULL ? &chunk[index & (CHUNK_SLOTS - 1)] : NULL;
}

/// A free slot; under the lock. NULL: no memory, or the table is full.
static struct slot *slot_take(uint32_t *index)
{
    struct slot *s;

    if (table.free_head != 0) {
        *index = table.free_head - 1;
        s = slot_at(*index);
        table.free_head = s->next_free;
        return s;
    }
    *index = table.used;
    s = slot_at(*index);
    if (s == NULL && *index < CHUNKS * CHUNK_SLOTS) {
        struct slot *chunk = sp__zalloc(CHUNK_SLOTS * sizeof(*chunk));

        if (chunk == NULL) {
            return NULL;
        }
        // Release: pairs with the acquire in slot_at; its slots are zeroed.
        atomic_store_explicit(&table.chunks[*index >> CHUNK_BITS], chunk, memory_order_release);
        s = slot_at(*index);
    }
    if (s != NULL) {
        table.used++;
    }
    return s;
}

int sp__handle_open(struct sp__object *obj, uint64_t *id)
{
    uint32_t index;
    struct slot *s;

    (void)pthread_mutex_lock(&table.lock);
    s = slot_take(&index);
    if (s == NULL) {
        (void)pthread_mutex_unlock(&table.lock);
        return table.used >= CHUNKS * CHUNK_SLOTS ? SP_EPEERS : SP_ENOMEM;
    }
    s->generation = (s->generation + 1) & 0xFFFFFF;
    if (s->generation == 0) {
        s->generation = 1;
    }
    obj->id = (uint64_t)obj->kind << 56 | (uint64_t)s->generation << 32 | index;
    if (id != NULL) {
        *id = obj->id;
    }
    sp__hold(obj);
    atomic_store_explicit(&s->obj, obj, memory_order_relaxed);
    // Release: who reads this id also sees the object and its fields.
    atomic_store_explicit(&s->id, obj->id, memory_order_release);
    SP__TRACE(F22, obj, obj->id);
    (void)pthread_mutex_unlock(&table.lock);
    return SP_OK;
}

bool sp__handle_close(struct sp__object *obj)
{
    uint32_t index = (uint32_t)obj->id;
    struct slot *s = obj->id != 0 ? slot_at(index) : NULL;
    uint64_t id = obj->id;

    // seq_cst: either a look-up sees the handle gone, or object_in_use sees its hazard.
    if (s == NULL || !atomic_compare_exchange_strong_explicit(&s->id, &id, 0, memory_order_seq_cst,
                                                              memory_order_relaxed)) {
        return false;
    }
    SP__TRACE(F7, obj, id);
    (void)pthread_mutex_lock(&table.lock);
    atomic_store_explicit(&s->obj, NULL, memory_order_relaxed);
    s->next_free = table.free_head;
    table.free_head = index + 1;
    (void)pthread_mutex_unlock(&table.lock);
    return true;
}

/// Why a handle does not lead to an object. Generations tell a closed handle from one that never
/// was.
static SP__APART int handle_error(uint64_t id, enum sp__kind kind)
{
    enum sp__kind given = (enum sp__kind)(id >> 56);
    struct slot *s = slot_at((uint32_t)id);

    if (sp__forked()) {
        return sp__fail(SP_ESTATE, "called in a child after fork");
    }
    if (sp__self() == NULL) {
        return sp__fail(SP_ENOMEM, "no memory for this thread's record");
    }
    if (id == 0) {
        return sp__fail(SP_EINVAL, "no handle (its id is 0)");
    }
    if (given < SP__KIND_SOCKET || given > SP__KIND_ACTOR || s == NULL) {
        return sp__fail(SP_EINVAL, "0x%llx is not a handle", (unsigned long long)id);
    }
    if (kind != SP__KIND_NONE && given != kind) {
        return sp__fail(SP_EINVAL, "handle 0x%llx is of the wrong kind for this call",
                        (unsigned long long)id);
    }
    return sp__fail(SP_ECLOSED, "handle 0x%llx is closed", (unsigned long long)id);
}

/// The thread's first call.
static SP__APART int enter_first(uint64_t id, enum sp__kind kind, struct sp__object **obj)
{
    return sp__self() != NULL ? sp__enter(id, kind, obj) : handle_error(id, kind);
}

int sp__enter(uint64_t id, enum sp__kind kind, struct sp__object **obj)
{
    struct sp__thread *t = sp__thread_current;
    struct slot *s = slot_at((uint32_t)id);
    _Atomic(void *) *hazard;
    struct sp__object *o;

    if (t == NULL) {
        return enter_first(id, kind, obj);
    }
    if (s == NULL || sp__forked() ||
        (kind != SP__KIND_NONE ? (enum sp__kind)(id >> 56) != kind : id == 0)) {
        return handle_error(id, kind);
    }
    SP__ASSERT(t->depth < SP__HAZARDS);
    hazard = &t->hazard[t->depth];
    // Acquire: the object's fields (release in sp__handle_open, through the id). seq_cst, the light
    // side: the store of the hazard before the second look at the id, against sp__handle_close's
    // store of the id before sp__reclaim, the heavy side, looks at hazards: one of the two sees the
    // other. Release when it is given up: as in sp__leave.
    o = atomic_load_explicit(&s->obj, memory_order_acquire);
    SP__STORE_LIGHT(hazard, o);
    SP__TRACE(F2, o, id);
    if (o == NULL || atomic_load_explicit(&s->id, memory_order_seq_cst) != id ||
        atomic_load_explicit(&s->obj, memory_order_acquire) != o) {
        atomic_store_explicit(hazard, NULL, memory_order_release);
        SP__TRACE(F3, o, 0);
        return handle_error(id, kind);
    }
    t->depth++;
    SP__TRACE(F3, o, id);
    *obj = o;
    return SP_OK;
}

void sp__leave(void)
{
    struct sp__thread *t = sp__thread_current; // Not NULL: the thread is inside a call.

    // Release: what the call did is done before the object may be destroyed.
    atomic_store_explicit(&t->hazard[--t->depth], NULL, memory_order_release);
    SP__TRACE(F4, t, t->depth);
    // Something waited for a hazard, perhaps for this one. Relaxed: if not seen now, the next call
    // does.
    if (t->depth == 0 && atomic_load_explicit(&retired.listed, memory_order_relaxed) > 0) {
        SP__TRACE(F21, t, 0);
        sp__reclaim();
    }
}

struct sp__object *sp__handle_peek(uint64_t id)
{
    struct slot *s = id != 0 ? slot_at((uint32_t)id) : NULL;
    // Acquire: as in sp__enter.
    struct sp__object *obj = s != NULL ? atomic_load_explicit(&s->obj, memory_order_acquire) : NULL;

    return obj != NULL && atomic_load_explicit(&s->id, memory_order_acquire) == id ? obj : NULL;
}

void sp__handles_reset(void)
{
    (void)pthread_mutex_lock(&table.lock);
    table.used = 0;
    table.free_head = 0;
    (void)pthread_mutex_unlock(&table.lock);
}

struct sp__object *sp__handle_next(enum sp__kind kind, uint32_t *index)
{
    struct sp__object *found = NULL;

    (void)pthread_mutex_lock(&table.lock);
    for (; found == NULL && *index < table.used; (*index)++) {
        struct slot *s = slot_at(*index);
        // Acquire: pairs with the release in sp__handle_open.
        uint64_t id = atomic_load_explicit(&s->id, memory_order_acquire);

        if (id != 0 && (enum sp__kind)(id >> 56) == kind) {
            // The table's reference goes after sp__handle_close took this lock: the object is
            // alive.
            found = atomic_load_explicit(&s->obj, memory_order_relaxed);
            sp__hold(found);
        }
    }
    (void)pthread_mutex_unlock(&table.lock);
    return found;
}
