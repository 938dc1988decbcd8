/* SPDX-License-Identifier: MIT */
/// tests/model/lock.pml: each lock of a context, who holds it, who queues, and the token.
#include "replay_models.h"

#define NOBODY REPLAY_THREADS

struct lock {
    bool held;
    unsigned holder; ///< NOBODY: none
    unsigned queue;  ///< who has the mutex of those who wait
    bool waits;
    bool token;
    unsigned passing; ///< that gave it back, and leave a token yet
};

static struct replay_map locks = {.size = sizeof(struct lock)};

static void lock_begin(void)
{
    replay_clear(&locks);
}

static bool word_is(const struct lock *l, const struct replay_rec *rec)
{
    return l->held == (rec->value != 0) || replay_no("it is %sheld", l->held ? "" : "not ");
}

static bool hold(struct lock *l, const struct replay_rec *rec)
{
    REPLAY_NEED(l->holder == NOBODY, "thread %u holds it", l->holder);
    l->holder = rec->thread;
    l->held = true;
    return true;
}

/// N1: takes it when it is free, else queues.
static bool take(struct lock *l, const struct replay_rec *rec)
{
    REPLAY_NEED(l->holder != rec->thread && l->queue != rec->thread, "it has it, or queues");
    if (!word_is(l, rec)) {
        return false;
    }
    if (rec->value == 0) {
        return hold(l, rec);
    }
    replay_expect(rec->thread, 'N', 2, rec->object);
    return true;
}

/// N2 to N5, N9, N10: the first of those who wait.
static bool wait(struct lock *l, const struct replay_rec *rec)
{
    if (rec->number == 2) {
        REPLAY_NEED(l->queue == NOBODY, "thread %u has the mutex", l->queue);
        l->queue = rec->thread;
        replay_expect(rec->thread, 'N', 3, rec->object);
        return true;
    }
    REPLAY_NEED(l->queue == rec->thread, "it has not queued");
    switch (rec->number) {
    case 3:
        l->waits = true;
        replay_expect(rec->thread, 'N', 4, rec->object);
        return true;
    case 4:
        if (!word_is(l, rec) || (rec->value == 0 && !hold(l, rec))) {
            return false;
        }
        replay_expect(rec->thread, 'N', rec->value == 0 ? 9 : 5, rec->object);
        return true;
    case 5:
        REPLAY_NEED(l->token, "there is no token");
        l->token = false;
        replay_expect(rec->thread, 'N', 4, rec->object);
        return true;
    case 9:
        l->waits = false;
        replay_expect(rec->thread, 'N', 10, rec->object);
        return true;
    default: // 10
        l->queue = NOBODY;
        return true;
    }
}

/// N6: gives it back, and looks whether somebody waits (N11); N7: leaves a token.
static bool give(struct lock *l, const struct replay_rec *rec)
{
    switch (rec->number) {
    case 6:
        REPLAY_NEED(l->holder == rec->thread, "it does not hold it");
        l->held = false;
        l->holder = NOBODY;
        replay_expect(rec->thread, 'N', 11, rec->object);
        return true;
    case 11:
        REPLAY_NEED(l->waits == (rec->value != 0), "somebody waits: %d", l->waits);
        if (rec->value != 0) {
            l->passing++;
            replay_expect(rec->thread, 'N', 7, rec->object);
        }
        return true;
    default: // 7
        REPLAY_NEED(l->passing > 0, "nobody gave it back");
        l->token = true;
        l->passing--;
        return true;
    }
}

static bool lock_step(const struct replay_rec *rec)
{
    struct lock *l = replay_get(&locks, rec->object);

    if (rec->number == 0) {
        REPLAY_NEED(l == NULL, "it is there already");
        *(struct lock *)replay_put(&locks, rec->object) = (struct lock){.holder = NOBODY,
                                                                        .queue = NOBODY};
        return true;
    }
    REPLAY_NEED(l != NULL, "no such lock");
    switch (rec->number) {
    case 1:
        return take(l, rec);
    case 6:
    case 7:
    case 11:
        return give(l, rec);
    case 8:
        REPLAY_NEED(!l->held && l->queue == NOBODY && l->passing == 0, "it goes while it is used");
        replay_del(&locks, rec->object);
        return true;
    default:
        return wait(l, rec);
    }
}

static bool lock_end(void)
{
    size_t at = 0;

    REPLAY_NEED(replay_next(&locks, &at) == NULL, "in the end there is a lock");
    return true;
}

const struct replay_model replay_lock = {
    .name = "lock",
    .letter = 'N',
    .reads = "N",
    .only = "N2 N3 N4 N5 N7 N9 N10",
    .core = "N1 N2 N3 N4 N5 N6 N7 N9 N10",
    .begin = lock_begin,
    .step = lock_step,
    .end = lock_end,
};
