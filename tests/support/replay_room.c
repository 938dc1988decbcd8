/* SPDX-License-Identifier: MIT */
/// tests/model/room.pml: how much each actor of the application has, who waits for room in it, and
/// which actors are told.
#include "replay_models.h"

#include <string.h>

struct room {
    uint64_t capacity;
    uint64_t depth;
    uint64_t inbox; ///< posted, or about to be, and not taken
    bool wanted;
    bool joining; ///< the last one in the list has not said so yet
    bool stopping;
    bool room_came; ///< it shall be told
    struct replay_list posters;
};

/// By which an actor waits for room in another one, or in a mailbox.
struct want {
    const void *of;   ///< the actor that waits
    const void *room; ///< where it waits; NULL: in a mailbox, or it was taken out
    const void *came; ///< where it was taken out
};

static struct {
    struct replay_map rooms;
    struct replay_map wants;
    struct {
        const void *looked;  ///< where it looked for room
        bool full;           ///< there was none
        const void *refused; ///< where it took none
        const void *passes;  ///< where it told an actor, and looks for who is next
    } threads[REPLAY_THREADS];
} room = {.rooms = {.size = sizeof(struct room)}, .wants = {.size = sizeof(struct want)}};

static void room_begin(void)
{
    replay_clear(&room.rooms);
    replay_clear(&room.wants);
    memset(room.threads, 0, sizeof(room.threads));
}

/* ------------------------------------------------------------------ Posting and taking */

/// O1, O2: there is room or not; O16: it is used.
static bool post(struct room *r, const struct replay_rec *rec)
{
    if (rec->number == 16) {
        r->inbox++;
        return true;
    }
    REPLAY_NEED(rec->value == r->depth && (r->depth < r->capacity) == (rec->number == 2),
                "there are %llu of %llu", (unsigned long long)r->depth,
                (unsigned long long)r->capacity);
    if (rec->number == 1) {
        room.threads[rec->thread].refused = rec->object;
        return true;
    }
    r->depth++;
    replay_expect(rec->thread, 'O', 16, rec->object);
    return true;
}

/// O5: takes; O6: does anybody wait? O22: messages of its own.
static bool take(struct room *r, const struct replay_rec *rec)
{
    switch (rec->number) {
    case 5:
        REPLAY_NEED(rec->value <= r->inbox, "there are %llu", (unsigned long long)r->inbox);
        r->inbox -= rec->value;
        r->depth -= rec->value;
        room.threads[rec->thread].looked = rec->value > 0 ? rec->object : NULL;
        replay_expect(rec->thread, 'O', 6, rec->object);
        return true;
    case 6:
        REPLAY_NEED((rec->value != 0) == r->wanted, "it is%s wanted", r->wanted ? "" : " not");
        REPLAY_NEED(r->wanted || r->posters.n == r->joining,
                    "somebody waits, and it is not wanted");
        if (r->wanted && room.threads[rec->thread].looked != NULL) {
            replay_expect(rec->thread, 'O', 4, rec->object);
            replay_expect(rec->thread, 'O', 7, rec->object);
        }
        return true;
    default:
        r->inbox += rec->value;
        r->depth += rec->value;
        return true;
    }
}

/* ------------------------------------------------------------------ Who waits */

/// O4: looks for room, to wait or to wake.
static bool look(const struct room *r, const struct replay_rec *rec)
{
    REPLAY_NEED(rec->value == r->depth, "there are %llu", (unsigned long long)r->depth);
    room.threads[rec->thread].looked = rec->object;
    room.threads[rec->thread].full = r->depth >= r->capacity;
    if (!replay_was_expected()) { // To wake; who joins was expected here.
        replay_expect(rec->thread, 'O', 7, rec->object);
    }
    return true;
}

/// O20: joins; O3: says so; O21: stays.
static bool join(struct room *r, const struct replay_rec *rec)
{
    const void *w = (const void *)(uintptr_t)rec->value;
    struct want *want = replay_get(&room.wants, w);

    switch (rec->number) {
    case 20:
        REPLAY_NEED(room.threads[rec->thread].refused == rec->object, "it was not refused");
        REPLAY_NEED(want != NULL || w == replay_thread(rec->thread), "another thread");
        REPLAY_NEED(replay_list_add(&r->posters, w), "it waits already");
        r->joining = true;
        if (want != NULL) {
            want->room = rec->object;
        }
        replay_expect(rec->thread, 'O', 3, rec->object);
        return true;
    case 3:
        r->wanted = true;
        r->joining = false;
        replay_expect(rec->thread, 'O', 4, rec->object);
        replay_expect(rec->thread, 'O', 21, rec->object);
        return true;
    default: // 21: the last one in the list is this thread's
        REPLAY_NEED(rec->value == 0 ? !room.threads[rec->thread].full || r->stopping
                                    : room.threads[rec->thread].full,
                    "there is %s room", room.threads[rec->thread].full ? "no" : "some");
        r->posters.n -= rec->value == 0;
        return true;
    }
}

/// O7: takes the first one out, to be woken; any, when it is stopped.
static bool next(struct room *r, const struct replay_rec *rec)
{
    const void *w = (const void *)(uintptr_t)rec->value;
    bool all = !replay_was_expected();
    struct want *want = replay_get(&room.wants, w);

    REPLAY_NEED(!all || r->stopping, "it did not look for room");
    REPLAY_NEED(all || room.threads[rec->thread].looked == rec->object, "it looked elsewhere");
    if (all || !room.threads[rec->thread].full) {
        REPLAY_NEED(replay_list_pop(&r->posters, w), "not the first who waits");
    } else {
        REPLAY_NEED(w == NULL, "there is no room for it");
    }
    if (r->posters.n == 0) {
        replay_expect(rec->thread, 'O', 8, rec->object);
    }
    if (want != NULL) {
        want->room = NULL;
        want->came = rec->object;
        replay_expect(rec->thread, 'O', 11, want->of);
    } else if (w != NULL) {
        replay_expect(rec->thread, 'C', 13, w);
    }
    return true;
}

/// O9: a thread has waited; O10: it has no use for room.
static bool waited(struct room *r, const struct replay_rec *rec)
{
    const void *self = replay_thread(rec->thread);
    bool queued = replay_list_has(&r->posters, self);

    if (rec->number == 10) {
        if (rec->value != 0) {
            replay_expect(rec->thread, 'O', 4, rec->object);
            replay_expect(rec->thread, 'O', 7, rec->object);
        }
        return true;
    }
    REPLAY_NEED(queued == (rec->value != 0), "it is%s among those who wait", queued ? "" : " not");
    replay_list_remove(&r->posters, self);
    replay_expect(rec->thread, 'O', 10, rec->object);
    return true;
}

/* ------------------------------------------------------------------ Actors that are told */

/// O14: an actor will wait; O24: it need not; O11, O12: there is room; O15: it is told.
static bool want_step(struct room *r, const struct replay_rec *rec)
{
    const void *w = (const void *)(uintptr_t)rec->value;
    struct want *want = replay_get(&room.wants, w);

    switch (rec->number) {
    case 14:
        REPLAY_NEED(want == NULL, "it waits already");
        if (w != NULL) {
            want = replay_put(&room.wants, w);
            want->of = rec->object;
        }
        return true;
    case 11:
        REPLAY_NEED(want != NULL && want->of == rec->object && want->room == NULL,
                    "it waits yet, or not at all");
        replay_expect(rec->thread, 'O', 12, rec->object);
        room.threads[rec->thread].passes = want->came; // NULL, a mailbox: is under its lock.
        replay_del(&room.wants, w);
        return true;
    case 12:
        r->room_came = true;
        return true;
    case 24:
        REPLAY_NEED(want != NULL && want->of == rec->object, "it did not wait");
        replay_del(&room.wants, w);
        return true;
    default: // 15
        REPLAY_NEED((rec->value != 0) == r->room_came, "there was%s room",
                    r->room_came ? "" : " no");
        r->room_came = false;
        return true;
    }
}

static bool room_step(const struct replay_rec *rec)
{
    struct room *r = replay_get(&room.rooms, rec->object);

    if (rec->letter == 'C') {
        return true; // As expected.
    }
    if (rec->number == 0) {
        REPLAY_NEED(r == NULL, "it is there already");
        r = replay_put(&room.rooms, rec->object);
        r->capacity = rec->value;
        return true;
    }
    REPLAY_NEED(r != NULL, "no such actor");
    if (rec->number != 12) {
        const void *passes = room.threads[rec->thread].passes;

        REPLAY_NEED(passes == NULL || (rec->number == 4 && rec->object == passes),
                    "it does not pass on what there may be in %p", passes);
        room.threads[rec->thread].passes = NULL;
    }
    switch (rec->number) {
    case 1:
    case 2:
    case 16:
        return post(r, rec);
    case 4:
        return look(r, rec);
    case 5:
    case 6:
    case 22:
        return take(r, rec);
    case 3:
    case 20:
    case 21:
        return join(r, rec);
    case 7:
        return next(r, rec);
    case 8:
        r->wanted = false;
        return true;
    case 9:
    case 10:
        return waited(r, rec);
    case 17:
        r->stopping = true;
        return true;
    case 19:
        REPLAY_NEED((rec->value != 0) == r->stopping, "it is%s stopping",
                    r->stopping ? "" : " not");
        return true;
    case 23:
        REPLAY_NEED(r->posters.n == 0 && r->inbox == 0 && r->depth == 0,
                    "it goes, with %u that wait and %llu messages", r->posters.n,
                    (unsigned long long)r->depth);
        replay_del(&room.rooms, rec->object);
        return true;
    default:
        return want_step(r, rec);
    }
}

static bool room_end(void)
{
    size_t at = 0;

    REPLAY_NEED(replay_next(&room.rooms, &at) == NULL, "in the end there is an actor");
    for (unsigned i = 0; i < REPLAY_THREADS; i++) {
        REPLAY_NEED(room.threads[i].passes == NULL, "in the end thread %u has not passed on", i);
    }
    return true;
}

const struct replay_model replay_room = {
    .name = "room",
    .letter = 'O',
    .reads = "C13 O",
    .only = "O3 O6 O8 O10 O12 O16 O21",
    .core = "O2 O3 O5 O6 O7 O9 O11 O15",
    .begin = room_begin,
    .step = room_step,
    .end = room_end,
};
