/* SPDX-License-Identifier: MIT */
/// tests/model/late.pml: timers, events and watches, and the references that they hold.
#include "replay_models.h"

#include <stdlib.h>
#include <string.h>

#define RETIRED 0x80000000U // OBJECT_RETIRED of core/object.c

struct timer {
    const void *owner;
    int64_t due;
    bool live;
    bool in_heap;
};

struct watch {
    const void *object;
    enum { WATCH_CLOSED, WATCH_OPEN, WATCH_ZOMBIE, WATCH_TAKEN } state;
};

/// Of an object: how many references timers, events and watches hold.
struct held {
    unsigned n;
};

static struct {
    struct replay_map timers;
    struct replay_map watches;
    struct replay_map objects;
    bool busy; ///< somebody polls
    struct {
        const void *posted;   ///< the event that it posted last
        const void *handling; ///< the event that it handles
        const void *owner;    ///< of that
        const void *firing;   ///< a timer
        int64_t now;          ///< what is due by then is fired
        bool take;            ///< the watches that were closed meanwhile
    } threads[REPLAY_THREADS];
} late = {.timers = {.size = sizeof(struct timer)},
          .watches = {.size = sizeof(struct watch)},
          .objects = {.size = sizeof(struct held)}};

static void late_begin(void)
{
    replay_clear(&late.timers);
    replay_clear(&late.watches);
    replay_clear(&late.objects);
    late.busy = false;
    memset(late.threads, 0, sizeof(late.threads));
}

/// One more, or one less, that holds the object.
static bool hold(const void *object, int more)
{
    struct held *h = replay_get(&late.objects, object);

    REPLAY_NEED(h != NULL, "of an object that is not there");
    REPLAY_NEED(more > 0 || h->n > 0, "nothing holds the object");
    h->n = more > 0 ? h->n + 1 : h->n - 1;
    return true;
}

/// A reference is given back: the drop must come next.
static bool give_back(const struct replay_rec *rec, const void *object)
{
    replay_expect(rec->thread, 'F', 9, object);
    return hold(object, -1);
}

/* ------------------------------------------------------------------ Timers */

static bool arm(struct timer *t, const struct replay_rec *rec)
{
    t->due = (int64_t)rec->value;
    t->live = true;
    if (t->in_heap) {
        return true;
    }
    t->in_heap = true;
    replay_expect(rec->thread, 'F', 5, t->owner);
    return true;
}

/// G2, G3: cancelled, and taken out of the heap if it was there.
static bool cancel(struct timer *t, const struct replay_rec *rec)
{
    if (rec->number == 2) {
        REPLAY_NEED(t->live == (rec->value != 0), "the timer is%s live", t->live ? "" : " not");
        t->live = false;
        replay_expect(rec->thread, 'G', 3, rec->object);
        return true;
    }
    REPLAY_NEED(t->in_heap == (rec->value != 0), "the timer is%s armed", t->in_heap ? "" : " not");
    if (t->in_heap) {
        replay_expect(rec->thread, 'G', 4, rec->object);
    }
    t->in_heap = false;
    return true;
}

static bool fire(struct timer *t, const struct replay_rec *rec)
{
    const struct timer *other;

    REPLAY_NEED(t->in_heap && t->due <= (int64_t)rec->value, "the timer is not due");
    REPLAY_NEED(late.threads[rec->thread].now == (int64_t)rec->value, "it is another instant");
    for (size_t at = 0; (other = replay_next(&late.timers, &at)) != NULL;) {
        REPLAY_NEED(!other->in_heap || other->due >= t->due, "another one is due before");
    }
    REPLAY_NEED(late.threads[rec->thread].firing == NULL, "two at once");
    t->in_heap = false;
    late.threads[rec->thread].firing = rec->object;
    replay_expect(rec->thread, 'A', 8, rec->object);
    return true;
}

static bool timer_step(const struct replay_rec *rec)
{
    struct timer *t = replay_get(&late.timers, rec->object);
    const void *owner = (const void *)(uintptr_t)rec->value;

    if (rec->number == 0) {
        REPLAY_NEED(t == NULL || !t->in_heap, "a timer is made where one is armed");
        t = replay_put(&late.timers, rec->object);
        t->owner = owner;
        return true;
    }
    REPLAY_NEED(t != NULL, "no such timer");
    switch (rec->number) {
    case 1:
        return arm(t, rec);
    case 2:
    case 3:
        return cancel(t, rec);
    case 4:
        REPLAY_NEED(t->owner == owner, "not its owner");
        return give_back(rec, owner);
    case 5:
        return fire(t, rec);
    case 7:
        REPLAY_NEED(late.threads[rec->thread].firing == rec->object && t->owner == owner,
                    "it did not fire");
        late.threads[rec->thread].firing = NULL;
        return give_back(rec, owner);
    default: // 8
        REPLAY_NEED(late.threads[rec->thread].handling == rec->object, "outside of its event");
        REPLAY_NEED(t->live && t->due == (int64_t)rec->value, "a timer fires that is not live");
        t->live = false;
        return true;
    }
}

/* ------------------------------------------------------------------ Events */

static bool event_step(const struct replay_rec *rec)
{
    const void *owner = (const void *)(uintptr_t)rec->value;
    const void **posted = &late.threads[rec->thread].posted;

    if (rec->number == 9) {
        REPLAY_NEED(*posted == rec->object, "it was not posted");
        *posted = NULL;
        replay_expect(rec->thread, 'F', 5, owner);
        return true;
    }
    REPLAY_NEED(late.threads[rec->thread].handling == rec->object &&
                    late.threads[rec->thread].owner == owner,
                "it was not handled");
    late.threads[rec->thread].handling = NULL;
    late.threads[rec->thread].owner = NULL;
    return give_back(rec, owner);
}

/// A8, A9.
static bool event_posted(const struct replay_rec *rec)
{
    if (rec->number == 8) {
        late.threads[rec->thread].posted = rec->value == 0 ? rec->object : NULL;
        if (rec->value == 0 && late.threads[rec->thread].firing == rec->object) {
            replay_expect(rec->thread, 'G', 9, rec->object); // A timer's event holds its owner.
        }
        return true;
    }
    REPLAY_NEED(late.threads[rec->thread].owner == NULL, "the last event's owner is held still");
    late.threads[rec->thread].handling = rec->object;
    late.threads[rec->thread].owner = (const void *)(uintptr_t)rec->value;
    REPLAY_NEED(rec->value == 0 ||
                    replay_get(&late.objects, late.threads[rec->thread].owner) != NULL,
                "its owner is gone");
    return true;
}

/* ------------------------------------------------------------------ Watches */

static bool watch_closed(struct watch *w, const struct replay_rec *rec)
{
    REPLAY_NEED(late.busy == (rec->value != 0), "somebody%s polls", late.busy ? "" : " does not");
    replay_expect(rec->thread, 'G', late.busy ? 13 : 14, rec->object);
    w->state = WATCH_ZOMBIE;
    return true;
}

/// G16: the poller takes over those that were closed meanwhile; the first one is in `rec`.
static bool zombies_taken(const struct replay_rec *rec)
{
    const struct watch *first = replay_get(&late.watches, rec->object);
    struct watch *w;
    unsigned n = 0;

    REPLAY_NEED(late.threads[rec->thread].take, "it does not end a poll");
    late.threads[rec->thread].take = false;
    for (size_t at = 0; (w = replay_next(&late.watches, &at)) != NULL;) {
        n += w->state == WATCH_ZOMBIE;
    }
    REPLAY_NEED((n > 0) == (rec->object != NULL), "%u were closed", n);
    REPLAY_NEED(n == 0 || (first != NULL && first->state == WATCH_ZOMBIE), "it was not closed");
    for (size_t at = 0; (w = replay_next(&late.watches, &at)) != NULL;) {
        w->state = w->state == WATCH_ZOMBIE ? WATCH_TAKEN : w->state;
    }
    return true;
}

static bool watch_step(const struct replay_rec *rec)
{
    struct watch *w = rec->number == 16 || rec->number == 23
                          ? NULL
                          : replay_have(&late.watches, rec->object);

    switch (rec->number) {
    case 21:
        REPLAY_NEED(w->state == WATCH_CLOSED, "it is open");
        w->state = WATCH_OPEN;
        w->object = (const void *)(uintptr_t)rec->value;
        replay_expect(rec->thread, 'F', 5, w->object);
        return true;
    case 11:
        REPLAY_NEED(w->state == WATCH_OPEN, "it is not open");
        replay_expect(rec->thread, 'G', 12, rec->object);
        return true;
    case 12:
        return watch_closed(w, rec);
    case 13:
        REPLAY_NEED(w->state == WATCH_ZOMBIE, "it is not closed");
        return true;
    case 15:
        REPLAY_NEED((w->state == WATCH_OPEN || w->state == WATCH_ZOMBIE) && late.busy,
                    "a report about a closed one");
        return true;
    case 16:
        return zombies_taken(rec);
    case 23:
        late.threads[rec->thread].now = (int64_t)rec->value;
        return true;
    default: // 14, 17
        REPLAY_NEED(w->state != WATCH_CLOSED && (rec->number == 14 || w->state == WATCH_TAKEN),
                    "the poller may report about it");
        REPLAY_NEED(w->object == (const void *)(uintptr_t)rec->value, "it is closed");
        w->state = WATCH_CLOSED;
        return give_back(rec, w->object);
    }
}

/* ------------------------------------------------------------------ All */

static bool object_step(const struct replay_rec *rec)
{
    const struct held *h = replay_get(&late.objects, rec->object);
    uint32_t left = (uint32_t)(rec->value & ~(uint64_t)RETIRED) - 1;

    if (rec->number == 0) {
        (void)replay_put(&late.objects, rec->object);
    } else if (rec->number == 5) {
        // Not before: until then a call with a hazard may be all that keeps the object.
        return !replay_was_expected() || hold(rec->object, 1);
    } else if (rec->number == 9) {
        REPLAY_NEED(h != NULL && left >= h->n, "%u references are left, %u hold it", left,
                    h != NULL ? h->n : 0);
    } else if (rec->number == 14) {
        REPLAY_NEED(h != NULL && h->n == 0, "destroyed, and held");
        replay_del(&late.objects, rec->object);
    }
    return true;
}

static bool late_step(const struct replay_rec *rec)
{
    REPLAY_NEED(!late.threads[rec->thread].take || (rec->letter == 'G' && rec->number == 16),
                "what was closed meanwhile must be taken over here");
    switch (rec->letter) {
    case 'A':
        return event_posted(rec);
    case 'B': // 13, and C5: who polls.
    case 'C':
        late.busy = rec->letter == 'C';
        late.threads[rec->thread].take = !late.busy;
        return true;
    case 'F':
        return object_step(rec);
    default:
        break;
    }
    if (rec->number <= 8) {
        return timer_step(rec);
    }
    return rec->number <= 10 ? event_step(rec) : watch_step(rec);
}

static bool late_end(void)
{
    const struct timer *t;
    const struct watch *w;
    size_t at = 0;

    while ((t = replay_next(&late.timers, &at)) != NULL) {
        REPLAY_NEED(!t->in_heap, "in the end a timer is armed");
    }
    for (at = 0; (w = replay_next(&late.watches, &at)) != NULL;) {
        REPLAY_NEED(w->state == WATCH_CLOSED, "in the end a watch is open");
    }
    at = 0;
    REPLAY_NEED(replay_next(&late.objects, &at) == NULL, "in the end there is an object");
    return true;
}

const struct replay_model replay_late = {
    .name = "late",
    .letter = 'G',
    .reads = "G A8 A9 B13 C5 F0 F5 F9 F14",
    .only = "G3 G4 G12 G13",
    .core = "G1 G3 G9 G10 G16",
    .begin = late_begin,
    .step = late_step,
    .end = late_end,
};
