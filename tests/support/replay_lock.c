/* SPDX-License-Identifier: MIT */
/// tests/model/lock.pml: the word of each context's lock, who holds it, who queues, and the token.
#include "replay_models.h"

#define NOBODY REPLAY_THREADS

struct lock {
    uint64_t word;   ///< 0 free, 1 held, 2 held and somebody waits
    unsigned holder; ///< NOBODY: none
    unsigned queue;  ///< who has the mutex of those who wait
    bool token;
    bool passing; ///< who gave it back leaves a token yet
};

static struct replay_map locks = {.size = sizeof(struct lock)};

static void lock_begin(void)
{
    replay_clear(&locks);
}

static bool word_is(const struct lock *l, const struct replay_rec *rec)
{
    return l->word == rec->value || replay_no("the word is %llu", (unsigned long long)l->word);
}

static bool hold(struct lock *l, const struct replay_rec *rec, unsigned word)
{
    REPLAY_NEED(l->holder == NOBODY, "thread %u holds it", l->holder);
    l->holder = rec->thread;
    l->word = word;
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
        return hold(l, rec, 1);
    }
    replay_expect(rec->thread, 'N', 2, rec->object);
    return true;
}

/// N2 to N5: the first of those who wait.
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
        if (!word_is(l, rec) || (rec->value == 0 && !hold(l, rec, 2))) {
            return false;
        }
        l->word = 2;
        replay_expect(rec->thread, 'N', rec->value == 0 ? 5 : 4, rec->object);
        return true;
    case 4:
        REPLAY_NEED(l->token, "there is no token");
        l->token = false;
        replay_expect(rec->thread, 'N', 3, rec->object);
        return true;
    default: // 5
        l->queue = NOBODY;
        return true;
    }
}

/// N6: gives it back; N7: leaves a token.
static bool give(struct lock *l, const struct replay_rec *rec)
{
    if (rec->number == 7) {
        l->token = true;
        l->passing = false;
        return true;
    }
    REPLAY_NEED(l->holder == rec->thread, "it does not hold it");
    if (!word_is(l, rec)) {
        return false;
    }
    l->word = 0;
    l->holder = NOBODY;
    if (rec->value == 2) {
        l->passing = true;
        replay_expect(rec->thread, 'N', 7, rec->object);
    }
    return true;
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
        return give(l, rec);
    case 8:
        REPLAY_NEED(l->word == 0 && l->queue == NOBODY && !l->passing, "it goes while it is used");
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
    .only = "N2 N3 N4 N5 N7",
    .core = "N1 N2 N3 N4 N5 N6 N7",
    .begin = lock_begin,
    .step = lock_step,
    .end = lock_end,
};
