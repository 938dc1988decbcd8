/* SPDX-License-Identifier: MIT */
/// tests/model/observe.pml: what there is to be had of each context, who observes it, and what they
/// were told. A change that is under way is what a thread owes: to look whether somebody observes,
/// or to tell those who do. Where none is, and nobody has the lock, every observer knows.
///
/// Contexts whose readiness depends on their protocol (questions, answers) are judged by what is
/// owed alone; mailboxes, all of which is under a lock of its own, by their observers.
#include "replay_models.h"

#include "socket.h"

#include <string.h>

#define NOBODY REPLAY_THREADS

enum {
    LOOK_IN = SP_POLLIN,   ///< pushed without the lock
    LOOK_OUT = SP_POLLOUT, ///< gave or took credit without the lock
    TELL = 8,              ///< changed it under the lock, or found that somebody observes
    TELL_END = 16          ///< closed it
};

struct ctx {
    short judged; ///< the events that there and credit say all about
    uint64_t there;
    int64_t credit;
    bool closed;
    unsigned holder; ///< of its lock; NOBODY: none
    bool waking;     ///< who holds it sees to those who wait first
    uint8_t owes[REPLAY_THREADS];
};

struct observer {
    const void *of; ///< the context, or what it would be
    const void *poller;
    short events;
    bool joined;
    bool looked;
    bool on;
};

struct poller {
    const void *thread;
    bool fired;
};

static struct {
    struct replay_map ctxs;
    struct replay_map observers;
    struct replay_map pollers;
    uint64_t pushed[REPLAY_THREADS]; ///< messages, by the step under way
    bool marked[REPLAY_THREADS];     ///< somebody waits for the credit that it gives
} observe = {.ctxs = {.size = sizeof(struct ctx)},
             .observers = {.size = sizeof(struct observer)},
             .pollers = {.size = sizeof(struct poller)}};

static void observe_begin(void)
{
    replay_clear(&observe.ctxs);
    replay_clear(&observe.observers);
    replay_clear(&observe.pollers);
    memset(observe.pushed, 0, sizeof(observe.pushed));
    memset(observe.marked, 0, sizeof(observe.marked));
}

/// The context that has this list of observers, or this lock; or what would be one.
static const void *of_observers(const void *os)
{
    return (const char *)os - offsetof(struct sp__ctx, observers);
}

static const void *of_lock(const void *lock)
{
    return (const char *)lock - offsetof(struct sp__ctx, lock);
}

/* ------------------------------------------------------------------ The invariant */

static bool ready(const struct ctx *c, short events)
{
    return c->closed || ((events & SP_POLLIN) != 0 && c->there > 0) ||
           ((events & SP_POLLOUT) != 0 && c->credit > 0);
}

/// Whether every observer knows how it is, unless a change is under way.
static bool known(const struct ctx *c, const void *id)
{
    struct observer *o;
    size_t at = 0;

    for (unsigned i = 0; i < REPLAY_THREADS; i++) {
        if (c->owes[i] != 0) {
            return true;
        }
    }
    while (c->holder == NOBODY && (o = replay_next(&observe.observers, &at)) != NULL) {
        bool on = ready(c, o->events & c->judged);

        if (!o->joined || o->of != id) {
            continue;
        }
        REPLAY_NEED(o->looked, "an observer has not looked");
        // A poller that was told looks for itself.
        REPLAY_NEED((o->events & ~c->judged) != 0 || o->on == on || (o->poller != NULL && !on),
                    "an observer does not know: %llu messages, credit %lld",
                    (unsigned long long)c->there, (long long)c->credit);
    }
    return true;
}

/// The events that somebody observes.
static short observed(const void *id)
{
    struct observer *o;
    short events = 0;
    size_t at = 0;

    while ((o = replay_next(&observe.observers, &at)) != NULL) {
        events = (short)(events | (o->joined && o->of == id ? o->events : 0));
    }
    return events;
}

/* ------------------------------------------------------------------ Changes */

/// A change was made: under the lock observers are told, else (`look`, if not 0) it looks for them.
static bool changed(struct ctx *c, unsigned thread, uint8_t look)
{
    if (c->holder == thread) {
        c->owes[thread] |= TELL;
        return true;
    }
    REPLAY_NEED((c->owes[thread] & look) == 0, "it has not looked after the change before");
    c->owes[thread] |= look;
    return true;
}

/// E4: given; E16: taken.
static bool credit_is(struct ctx *c, const struct replay_rec *rec)
{
    int64_t before = c->credit;

    c->credit = (int64_t)rec->value >> 1;
    c->waking = c->waking || (rec->number == 4 && observe.marked[rec->thread] && c->credit > 0);
    return changed(c, rec->thread, (before > 0) != (c->credit > 0) ? LOOK_OUT : 0);
}

/// What the models of queue and credit have, too.
static bool queue_step(const struct replay_rec *rec)
{
    struct ctx *c = replay_get(&observe.ctxs, rec->object);

    REPLAY_NEED(c != NULL, "no such context");
    switch (rec->letter == 'E' ? 100 + rec->number : rec->number) {
    case 1:
        observe.pushed[rec->thread] = rec->value;
        return true;
    case 3:
        c->there += observe.pushed[rec->thread];
        return changed(c, rec->thread, LOOK_IN);
    case 16:
    case 20:
        REPLAY_NEED(c->there >= rec->value, "there are %llu", (unsigned long long)c->there);
        c->there -= rec->value;
        return true; // By the end of the lock they are told, or there is nobody.
    case 4:
    case 106:
        c->waking = true;
        return true;
    case 103:
        observe.marked[rec->thread] = (rec->value & 1) != 0;
        return true;
    case 17:
    case 115:
        c->closed = true;
        c->owes[rec->thread] |= c->judged != 0 ? TELL_END : 0;
        return true;
    case 18:
        for (unsigned i = 0; i < REPLAY_THREADS; i++) {
            REPLAY_NEED(c->owes[i] == 0, "it goes, and thread %u has not looked", i);
        }
        REPLAY_NEED(observed(rec->object) == 0, "it goes, and somebody observes it");
        replay_del(&observe.ctxs, rec->object);
        return true;
    default: // E4, E16
        return credit_is(c, rec);
    }
}

static bool lock_step(const struct replay_rec *rec)
{
    const void *id = of_lock(rec->object);
    struct ctx *c = replay_get(&observe.ctxs, id);

    if (c == NULL) {
        return true; // Not yet, or not any more.
    }
    if (rec->number == 6) {
        REPLAY_NEED((c->owes[rec->thread] & TELL) == 0 || c->waking, "nobody was told");
        c->holder = NOBODY;
        return known(c, id);
    }
    if (rec->value == 0) { // N1, N4
        c->holder = rec->thread;
        c->waking = false;
    }
    return true;
}

/* ------------------------------------------------------------------ Observers */

/// M9, M13: one more, one less.
static bool count(const struct replay_rec *rec)
{
    struct observer *o = replay_get(&observe.observers, (const void *)(uintptr_t)rec->value);
    const struct ctx *c = replay_get(&observe.ctxs, of_observers(rec->object));

    REPLAY_NEED(o != NULL && o->joined == (rec->number == 13), "it does%s observe",
                rec->number == 13 ? " not" : "");
    REPLAY_NEED(c == NULL || c->holder == rec->thread, "without the lock");
    if (rec->number == 13) {
        REPLAY_NEED(o->of == of_observers(rec->object), "it observes something else");
        replay_del(&observe.observers, (const void *)(uintptr_t)rec->value);
        return true;
    }
    o->of = of_observers(rec->object);
    o->joined = true;
    return true;
}

/// M10: how it is, for one.
static bool look(const struct replay_rec *rec)
{
    struct observer *o = replay_get(&observe.observers, rec->object);
    const struct ctx *c = o != NULL ? replay_get(&observe.ctxs, o->of) : NULL;
    bool on = rec->value != 0;

    REPLAY_NEED(o != NULL && o->joined, "it does not observe");
    REPLAY_NEED(c == NULL || c->holder == rec->thread, "without the lock");
    o->looked = true;
    if (o->poller != NULL && on && !o->on) {
        replay_expect(rec->thread, 'M', 11, o->poller);
    }
    o->on = on || (o->on && o->poller != NULL);
    return true;
}

/// M11, M12, M18, M19: pollers.
static bool poller_step(const struct replay_rec *rec)
{
    struct poller *p = rec->number == 18 ? replay_have(&observe.pollers, rec->object)
                                         : replay_get(&observe.pollers, rec->object);

    REPLAY_NEED(p != NULL, "no such poller");
    if (rec->number == 18) {
        p->thread = (const void *)(uintptr_t)rec->value;
        p->fired = false;
        REPLAY_NEED(p->thread == replay_thread(rec->thread), "another thread's poller");
        return true;
    }
    REPLAY_NEED(rec->number == 19 || p->fired == (rec->value != 0), "it was%s told",
                p->fired ? "" : " not");
    if (rec->number == 11 && !p->fired) {
        replay_expect(rec->thread, 'C', 13, p->thread);
    }
    p->fired = p->fired || rec->number != 12;
    REPLAY_NEED(rec->number == 11 || p->thread == replay_thread(rec->thread), "another's poller");
    return true;
}

/// M14, M15: whether somebody observes; M16: tells all; M17: there is credit again.
static bool look_for(const struct replay_rec *rec)
{
    const void *id = rec->number == 17 ? rec->object : of_observers(rec->object);
    struct ctx *c = replay_get(&observe.ctxs, id);
    uint8_t events = (uint8_t)(rec->value >> 1);
    bool found = (rec->value & 1) != 0;

    if (c == NULL) {
        return true; // A mailbox's.
    }
    if (rec->number == 16) {
        REPLAY_NEED(c->holder == rec->thread, "without the lock");
        c->owes[rec->thread] = 0;
        return true;
    }
    if (rec->number == 17) {
        c->owes[rec->thread] &= (uint8_t)(found ? ~LOOK_OUT : ~0);
        return known(c, id);
    }
    REPLAY_NEED(found == ((observed(id) & events) != 0), "there is %s", found ? "nobody" : "one");
    if (rec->number == 15) {
        c->owes[rec->thread] &= (uint8_t)~events;
        c->owes[rec->thread] |= found ? TELL : 0;
    }
    return known(c, id);
}

static bool observe_step(const struct replay_rec *rec)
{
    struct observer *o;

    switch (rec->letter) {
    case 'C':
        return true; // As expected.
    case 'N':
        return lock_step(rec);
    case 'D':
    case 'E':
        return queue_step(rec);
    default:
        break;
    }
    switch (rec->number) {
    case 0:
        *(struct ctx *)replay_put(&observe.ctxs, rec->object) = (struct ctx){
            .judged = (rec->value & (SP_PROTO_ASKS | SP_PROTO_REPLIES)) != 0
                          ? 0
                          : (short)(((rec->value & SP_PROTO_NO_RECV) != 0 ? 0 : SP_POLLIN) |
                                    ((rec->value & SP_PROTO_NO_SEND) != 0 ? 0 : SP_POLLOUT)),
            .holder = NOBODY};
        return true;
    case 9:
    case 13:
        return count(rec);
    case 10:
        return look(rec);
    case 20:
        REPLAY_NEED(replay_get(&observe.observers, rec->object) == NULL, "it observes already");
        o = replay_put(&observe.observers, rec->object);
        o->poller = (const void *)(uintptr_t)rec->value;
        replay_expect(rec->thread, 'M', 21, rec->object);
        return true;
    case 21:
        o = replay_get(&observe.observers, rec->object);
        o->events = (short)rec->value;
        return true;
    case 14:
    case 15:
    case 16:
    case 17:
        return look_for(rec);
    default:
        return poller_step(rec);
    }
}

static bool observe_end(void)
{
    size_t at = 0;

    REPLAY_NEED(replay_next(&observe.ctxs, &at) == NULL, "in the end there is a context");
    at = 0;
    REPLAY_NEED(replay_next(&observe.observers, &at) == NULL, "in the end somebody observes");
    return true;
}

const struct replay_model replay_observe = {
    .name = "observe",
    .letter = 'M',
    .reads = "C13 D1 D3 D4 D16 D17 D18 D20 E3 E4 E6 E15 E16 M N1 N4 N6",
    .only = "M11 M21",
    .core = "M9 M10 M11 M12 M13 M14 M15 M16",
    .begin = observe_begin,
    .step = observe_step,
    .end = observe_end,
};
