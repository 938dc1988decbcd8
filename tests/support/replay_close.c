/* SPDX-License-Identifier: MIT */
/// tests/model/close.pml: handles, hazards, the count of references, who is retired and destroyed.
#include "replay_models.h"

#include "object.h"

#include <string.h>

#define RETIRED 0x80000000U // OBJECT_RETIRED of core/object.c
#define DEPTH 4

struct object {
    uint64_t kind;
    uint64_t id; ///< its handle; 0: none any more
    uint32_t refs;
    bool listed;
    int doomed; ///< the thread that found it unused, + 1
};

struct hazard {
    const void *object;
    uint64_t id;
    bool valid; ///< the handle was, when the hazard was set
};

static struct {
    struct replay_map objects;
    unsigned listed;
    struct {
        struct hazard hazards[DEPTH + 1]; ///< the one at `depth` is being set
        unsigned depth;
        const void *shut; ///< the socket whose handle it made invalid
    } threads[REPLAY_THREADS];
} table = {.objects = {.size = sizeof(struct object)}};

static void close_begin(void)
{
    replay_clear(&table.objects);
    table.listed = 0;
    memset(table.threads, 0, sizeof(table.threads));
}

static bool hazard_set(const struct object *o, const struct replay_rec *rec)
{
    unsigned depth = table.threads[rec->thread].depth;
    bool valid = o != NULL && o->id == rec->value && o->id != 0;

    REPLAY_NEED(depth < DEPTH, "too many hazards");
    table.threads[rec->thread].hazards[depth] = (struct hazard){rec->object, rec->value, valid};
    replay_expect(rec->thread, 'F', 3, rec->object);
    return true;
}

/// F3: the look behind the hazard; the id, or 0: it is not valid any more.
static bool hazard_checked(const struct object *o, const struct replay_rec *rec)
{
    struct hazard *h = &table.threads[rec->thread].hazards[table.threads[rec->thread].depth];

    if (rec->value != 0) {
        REPLAY_NEED(h->valid && h->id == rec->value,
                    "found by a handle that was not valid when the hazard was set");
        table.threads[rec->thread].depth++;
    } else {
        REPLAY_NEED(o == NULL || o->id != h->id, "a valid handle is not found");
        h->valid = false;
    }
    return true;
}

static bool hazard_gone(const struct replay_rec *rec)
{
    unsigned *depth = &table.threads[rec->thread].depth;

    REPLAY_NEED(*depth > 0 && rec->value == *depth - 1 && rec->object == replay_thread(rec->thread),
                "%u hazards are set", *depth);
    (*depth)--;
    table.threads[rec->thread].hazards[*depth].valid = false;
    return true;
}

/// Whether a call uses it that found it while its handle was valid.
static bool in_use(const void *object)
{
    for (unsigned i = 0; i < REPLAY_THREADS; i++) {
        for (unsigned k = 0; k <= table.threads[i].depth; k++) {
            if (table.threads[i].hazards[k].valid && table.threads[i].hazards[k].object == object) {
                return true;
            }
        }
    }
    return false;
}

static bool dropped(struct object *o, const struct replay_rec *rec)
{
    REPLAY_NEED(rec->value == o->refs, "it has %x references", o->refs);
    REPLAY_NEED((o->refs & ~RETIRED) > 0, "dropped below nothing");
    o->refs = o->refs == 1 ? RETIRED : o->refs - 1;
    if (rec->value == 1) {
        REPLAY_NEED(o->id == 0, "retired, and its handle is valid");
        replay_expect(rec->thread, 'F', 11, rec->object);
    }
    return true;
}

/// F12: whether somebody uses it; F14: it is destroyed.
static bool reclaimed(struct object *o, const struct replay_rec *rec)
{
    REPLAY_NEED(o->listed, "not retired");
    if (rec->number == 14) {
        REPLAY_NEED(o->doomed == (int)rec->thread + 1, "destroyed by who did not look");
        table.listed--;
        replay_del(&table.objects, rec->object);
        return true;
    }
    REPLAY_NEED(o->doomed == 0, "it is being destroyed");
    if (rec->value == 0) {
        REPLAY_NEED(o->refs == RETIRED && !in_use(rec->object), "it is in use");
        o->doomed = (int)rec->thread + 1;
    }
    return true;
}

static bool handle_closed(struct object *o, const struct replay_rec *rec)
{
    REPLAY_NEED(o->id != 0 && o->id == rec->value, "the handle is not valid");
    o->id = 0;
    if (o->kind == SP__KIND_SOCKET) {
        REPLAY_NEED(table.threads[rec->thread].shut == NULL, "the last close was not posted");
        table.threads[rec->thread].shut = rec->object;
    }
    return true;
}

static bool object_new(struct object *o, const struct replay_rec *rec)
{
    REPLAY_NEED(o == NULL, "an object is made where one is");
    o = replay_put(&table.objects, rec->object);
    o->kind = rec->value;
    o->refs = 1;
    return true;
}

static bool object_step(struct object *o, const struct replay_rec *rec)
{
    REPLAY_NEED(o != NULL, "no such object");
    switch (rec->number) {
    case 5:
        REPLAY_NEED(rec->value == o->refs && o->doomed == 0, "it has %x references", o->refs);
        o->refs++;
        return true;
    case 7:
        return handle_closed(o, rec);
    case 9:
        return dropped(o, rec);
    case 11:
        REPLAY_NEED(o->refs >= RETIRED && !o->listed, "listed, and not retired");
        o->listed = true;
        table.listed++;
        return true;
    case 17:
        REPLAY_NEED(table.threads[rec->thread].shut == rec->object, "closed by another one");
        table.threads[rec->thread].shut = NULL;
        replay_expect(rec->thread, 'A', 8, (const void *)(uintptr_t)rec->value);
        return true;
    case 22:
        REPLAY_NEED(o->id == 0 && rec->value != 0, "it has a handle");
        o->id = rec->value;
        return true;
    default: // 12, 14
        return reclaimed(o, rec);
    }
}

static bool close_step(const struct replay_rec *rec)
{
    struct object *o = replay_get(&table.objects, rec->object);

    if (rec->letter != 'F') {
        return true;
    }
    switch (rec->number) {
    case 0:
        return object_new(o, rec);
    case 2:
        return hazard_set(o, rec);
    case 3:
        return hazard_checked(o, rec);
    case 4:
        return hazard_gone(rec);
    case 21:
        REPLAY_NEED(table.listed > 0 && table.threads[rec->thread].depth == 0,
                    "nothing is retired");
        return true;
    default:
        return object_step(o, rec);
    }
}

static bool close_end(void)
{
    size_t at = 0;

    REPLAY_NEED(replay_next(&table.objects, &at) == NULL, "in the end there is an object");
    for (unsigned i = 0; i < REPLAY_THREADS; i++) {
        REPLAY_NEED(table.threads[i].depth == 0, "in the end there is a hazard");
        REPLAY_NEED(table.threads[i].shut == NULL, "in the end a close was not posted");
    }
    return true;
}

const struct replay_model replay_close = {
    .name = "close",
    .letter = 'F',
    .reads = "F A8",
    .only = "F3 F11",
    .core = "F3 F4 F5 F7 F9 F11 F14 F17 F22",
    .begin = close_begin,
    .step = close_step,
    .end = close_end,
};
