/* SPDX-License-Identifier: MIT */
/// tests/model/mailbox.pml: the word of each actor's inbox to the pointer, who owns it, and the
/// flags of events.
#include "replay_models.h"

#include <stdlib.h>
#include <string.h>

#define IDLE ((const void *)1)
#define NOBODY (-1)
#define SHARED (-2) // the shared queue
#define CORKED (-3) // a thread left it for a moment (core/cork.h)

/// A push: its chain's last link, and the word that it put this on.
struct link {
    const void *oldest;
    const void *found;
};

struct links {
    struct link *of;
    size_t n;
    size_t cap;
};

struct actor {
    const void *object; ///< that it belongs to
    const void *word;
    int owner; ///< a thread, SHARED, CORKED, NOBODY
    bool running;
    bool from_hand;   ///< … and takes what is posted too
    const void *hand; ///< the first node that it was taken over with
    struct links pushed;
    struct links drained;  ///< and not seen one by one yet
    const void *next_node; ///< the next one of these; NULL: inside a chain, any
};

struct event {
    const void *actor;
    bool posted;
};

static struct {
    struct replay_map actors;
    struct replay_map events;
    unsigned shared;
    struct {
        const void *oldest; ///< of the push under way
        const void *newest;
        const void *posting; ///< an event that must be pushed now
    } threads[REPLAY_THREADS];
} box = {.actors = {.size = sizeof(struct actor)}, .events = {.size = sizeof(struct event)}};

static void links_add(struct links *l, struct link link)
{
    if (l->n == l->cap) {
        l->cap = l->cap > 0 ? 2 * l->cap : 16;
        l->of = realloc(l->of, l->cap * sizeof(*l->of));
        if (l->of == NULL) {
            abort();
        }
    }
    l->of[l->n++] = link;
}

static void actor_free(struct actor *a)
{
    free(a->pushed.of);
    free(a->drained.of);
}

static void mailbox_begin(void)
{
    struct actor *a;

    for (size_t at = 0; (a = replay_next(&box.actors, &at)) != NULL;) {
        actor_free(a);
    }
    replay_clear(&box.actors);
    replay_clear(&box.events);
    box.shared = 0;
    memset(box.threads, 0, sizeof(box.threads));
}

static bool actor_new(const struct replay_rec *rec)
{
    struct actor *a = replay_get(&box.actors, rec->object);

    if (a != NULL) {
        REPLAY_NEED(a->word == IDLE, "an actor is made where one is not idle");
        actor_free(a);
    }
    a = replay_put(&box.actors, rec->object);
    a->object = (const void *)(uintptr_t)rec->value;
    a->word = IDLE;
    a->owner = NOBODY;
    return true;
}

/// The event that was posted, if any, is what is pushed now.
static bool posting(const struct replay_rec *rec)
{
    const void **posted = &box.threads[rec->thread].posting;

    REPLAY_NEED(*posted == NULL || *posted == (const void *)(uintptr_t)rec->value,
                "another node is pushed than the event that was posted");
    *posted = NULL;
    return true;
}

/// An event's node says which actor it is posted to.
static void posted_to(const void *node, const void *actor)
{
    struct event *ev = replay_get(&box.events, node);

    if (ev != NULL) {
        ev->actor = actor;
    }
}

/// It was idle; from now on the thread owns it, and must queue it.
static bool own(struct actor *a, const struct replay_rec *rec)
{
    REPLAY_NEED(a->word == IDLE && a->owner == NOBODY, "not idle, or owned");
    a->owner = (int)rec->thread;
    replay_expect(rec->thread, 'F', 5, a->object);
    replay_expect(rec->thread, 'A', 4, rec->object);
    return true;
}

/// A21: an idle actor is taken over with nodes in hand, the first of which `rec` has.
static bool take(struct actor *a, const struct replay_rec *rec)
{
    if (!own(a, rec) || !posting(rec)) {
        return false;
    }
    REPLAY_NEED(a->hand == NULL && rec->value != 0, "nothing in hand, or something already");
    a->word = NULL;
    a->hand = (const void *)(uintptr_t)rec->value;
    posted_to(a->hand, rec->object);
    return true;
}

/// A3, with what A1 and A2 said.
static bool push(struct actor *a, const struct replay_rec *rec)
{
    const void *found = (const void *)(uintptr_t)rec->value;
    const void *newest = box.threads[rec->thread].newest;

    REPLAY_NEED(found == a->word, "the push finds %p, and the word is %p", found, a->word);
    REPLAY_NEED(newest != NULL, "nothing is pushed");
    if (found == IDLE && !own(a, rec)) {
        return false;
    }
    REPLAY_NEED(a->owner != NOBODY, "not idle, and nobody owns it");
    links_add(&a->pushed, (struct link){box.threads[rec->thread].oldest, found});
    a->word = newest;
    posted_to(newest, rec->object);
    box.threads[rec->thread].newest = NULL;
    return true;
}

/// A22: runs with what was in hand.
static bool run_hand(struct actor *a, const struct replay_rec *rec)
{
    REPLAY_NEED(a->owner == (int)rec->thread && !a->running, "run by who does not own it");
    REPLAY_NEED(a->hand != NULL && a->hand == (const void *)(uintptr_t)rec->value, "in hand is %p",
                a->hand);
    a->hand = NULL;
    a->running = true;
    a->from_hand = true;
    return true;
}

static bool drain(struct actor *a, const struct replay_rec *rec)
{
    struct links was = a->drained;

    REPLAY_NEED(a->owner == (int)rec->thread && (!a->running || a->from_hand),
                "run by who does not own it");
    REPLAY_NEED(a->hand == NULL, "what is in hand goes first");
    REPLAY_NEED(a->word != NULL && a->word == (const void *)(uintptr_t)rec->value,
                "the drain finds another word than %p", a->word);
    a->running = true;
    a->from_hand = false;
    a->next_node = a->word;
    a->word = NULL;
    a->drained = a->pushed;
    a->pushed = was;
    a->pushed.n = 0;
    return true;
}

/// A6: each node, newest first.
static bool drained(struct actor *a, const struct replay_rec *rec)
{
    const void *node = (const void *)(uintptr_t)rec->value;
    const struct link *link;

    REPLAY_NEED(a->running && a->drained.n > 0, "a node that was not pushed");
    link = &a->drained.of[a->drained.n - 1];
    REPLAY_NEED(a->next_node == NULL || a->next_node == node, "not the node that is next");
    a->next_node = NULL;
    if (node == link->oldest) {
        a->next_node = link->found;
        a->drained.n--;
    }
    return true;
}

static bool finish(struct actor *a, const struct replay_rec *rec)
{
    const void *found = (const void *)(uintptr_t)rec->value;

    REPLAY_NEED(a->running && a->owner == (int)rec->thread, "finished by who does not run it");
    REPLAY_NEED(a->drained.n == 0, "nodes are left of the drain");
    REPLAY_NEED(found == a->word, "finds %p at the end, and the word is %p", found, a->word);
    a->running = false;
    a->from_hand = false;
    if (found == NULL) {
        a->word = IDLE;
        a->owner = NOBODY;
        replay_expect(rec->thread, 'F', 9, a->object);
    }
    return true;
}

static bool event_post(const struct replay_rec *rec)
{
    struct event *ev = replay_have(&box.events, rec->object);

    REPLAY_NEED(ev->posted == (rec->value != 0), "the event was%s posted",
                ev->posted ? "" : " not");
    if (!ev->posted) {
        box.threads[rec->thread].posting = rec->object;
    }
    ev->posted = true;
    return true;
}

static bool event_take(const struct replay_rec *rec)
{
    struct event *ev = replay_get(&box.events, rec->object);
    const struct actor *a = ev != NULL ? replay_get(&box.actors, ev->actor) : NULL;

    REPLAY_NEED(ev != NULL && ev->posted, "an event is handled that was not posted");
    REPLAY_NEED(a != NULL && a->running && a->owner == (int)rec->thread,
                "an event is handled outside of its actor");
    ev->posted = false;
    replay_expect(rec->thread, 'A', 10, rec->object);
    return true;
}

/// A1: the chain that is pushed next, its oldest.
static bool push_begin(const struct replay_rec *rec)
{
    if (!posting(rec)) {
        return false;
    }
    box.threads[rec->thread].oldest = (const void *)(uintptr_t)rec->value;
    replay_expect(rec->thread, 'A', 2, rec->object);
    return true;
}

static bool shared_take(struct actor *a, const struct replay_rec *rec)
{
    if (rec->object == NULL) {
        REPLAY_NEED(box.shared == 0, "the shared queue is not empty");
        return true;
    }
    REPLAY_NEED(a != NULL && a->owner == SHARED, "taken, and not in the shared queue");
    a->owner = (int)rec->thread;
    box.shared--;
    return true;
}

/// A23: a thread leaves its actor for a moment; A24: it, or the guard, takes it again, if it is
/// there still.
static bool cork(struct actor *a, const struct replay_rec *rec)
{
    int now = rec->number == 23 ? CORKED : (int)rec->thread;

    if (rec->number == 24 && rec->object == NULL) {
        return true;
    }
    REPLAY_NEED(a != NULL && !a->running &&
                    a->owner == (rec->number == 23 ? (int)rec->thread : CORKED),
                "corked, or not");
    a->owner = now;
    return true;
}

static bool shared_push(struct actor *a, const struct replay_rec *rec)
{
    REPLAY_NEED(a != NULL && a->owner == (int)rec->thread && !a->running,
                "queued by who does not own it");
    a->owner = SHARED;
    box.shared++;
    return true;
}

/// A25: what a worker that is held, or in a row that does not get on, has queued is this thread's
/// now, for the shared queue.
static bool robbed(struct actor *a, const struct replay_rec *rec)
{
    REPLAY_NEED(a != NULL && !a->running &&
                    a->owner == (int)replay_thread_number((const void *)(uintptr_t)rec->value),
                "robbed of who does not own it");
    a->owner = (int)rec->thread;
    return true;
}

/// This thread goes to sleep, out, or, in no row, into the user's code (B44): it must not own
/// anything but what it runs.
static bool owns_nothing(const struct replay_rec *rec)
{
    const struct actor *a;

    for (size_t at = 0; (a = replay_next(&box.actors, &at)) != NULL;) {
        REPLAY_NEED(a->owner != (int)rec->thread ||
                        (rec->letter == 'B' && (a->running || rec->value != 0 ||
                                                a == replay_get(&box.actors, rec->object))),
                    "an actor is left behind");
    }
    return true;
}

/// The queues, and events.
static bool mailbox_more(struct actor *a, const struct replay_rec *rec)
{
    switch (rec->number) {
    case 8:
        return event_post(rec);
    case 9:
        return event_take(rec);
    case 11:
        return shared_push(a, rec);
    case 13:
        return shared_take(a, rec);
    case 23:
    case 24:
        return cork(a, rec);
    case 25:
        return robbed(a, rec);
    case 14:
        REPLAY_NEED((rec->value != 0) == (box.shared > 0), "the shared queue has %u", box.shared);
        return true;
    case 15:
        return owns_nothing(rec);
    case 16:
        REPLAY_NEED(a != NULL && a->owner == (int)rec->thread && !a->running,
                    "kept by who does not own it");
        return true;
    default:
        return true;
    }
}

static bool mailbox_step(const struct replay_rec *rec)
{
    struct actor *a = replay_get(&box.actors, rec->object);

    if (rec->letter == 'B' || rec->letter == 'C') {
        return owns_nothing(rec);
    }
    if (rec->letter != 'A') {
        return true;
    }
    REPLAY_NEED(box.threads[rec->thread].posting == NULL || rec->number == 1 || rec->number == 21,
                "the event that was posted is not pushed");
    if (rec->number == 0) {
        return actor_new(rec);
    }
    if (rec->number > 7 && rec->number != 21 && rec->number != 22) {
        return mailbox_more(a, rec);
    }
    REPLAY_NEED(a != NULL, "no such actor");
    switch (rec->number) {
    case 1:
        return push_begin(rec);
    case 2:
        box.threads[rec->thread].newest = (const void *)(uintptr_t)rec->value;
        replay_expect(rec->thread, 'A', 3, rec->object);
        return true;
    case 3:
        return push(a, rec);
    case 5:
        return drain(a, rec);
    case 6:
        return drained(a, rec);
    case 7:
        return finish(a, rec);
    case 21:
        return take(a, rec);
    case 22:
        return run_hand(a, rec);
    default:
        return true;
    }
}

static bool mailbox_end(void)
{
    const struct actor *a;
    const struct event *ev;

    for (size_t at = 0; (a = replay_next(&box.actors, &at)) != NULL;) {
        REPLAY_NEED(a->word == IDLE, "in the end an actor is not idle");
    }
    for (size_t at = 0; (ev = replay_next(&box.events, &at)) != NULL;) {
        REPLAY_NEED(!ev->posted, "in the end an event is posted");
    }
    REPLAY_NEED(box.shared == 0, "in the end an actor is queued");
    return true;
}

const struct replay_model replay_mailbox = {
    .name = "mailbox",
    .letter = 'A',
    .reads = "A B44 C16 C17 F5 F9",
    .only = "A2 A3 A4 A10",
    .core = "A3 A5 A7 A8 A9",
    .begin = mailbox_begin,
    .step = mailbox_step,
    .end = mailbox_end,
};
