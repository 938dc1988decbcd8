/* SPDX-License-Identifier: MIT */
/// tests/model/cork.pml: what threads leave corked, who looks after it, and who takes it. See
/// replay_sched.h.
#include "replay_sched.h"

/// What a thread left; of one that never did anything there is nothing.
static struct sched_cork *cork_of(const void *thread)
{
    static struct sched_cork none;
    unsigned number = replay_thread_number(thread);

    return number < REPLAY_THREADS ? &sched.threads[number].cork : &none;
}

/* ------------------------------------------------------------------ Whether somebody looks */

/// K14 to K16: there is somebody, or is not.
static bool asked(struct sched_cork *me, const struct replay_rec *rec)
{
    REPLAY_NEED(me->asks == (rec->number == 14 ? ASKS_NOT : ASKS), "it does not ask, or did");
    if (rec->number == 14) {
        REPLAY_NEED((rec->value != 0) == sched.corks, "the guard looks after corks, or not");
        me->asks = sched.corks ? ASKED_YES : ASKS;
        return true;
    }
    REPLAY_NEED((sched.count == sched.in_user) == (rec->number == 15),
                "of %llu workers %llu are in the user's code", (unsigned long long)sched.count,
                (unsigned long long)sched.in_user);
    if (rec->number == 15) {
        REPLAY_NEED(rec->value == sched.count, "there are %llu workers",
                    (unsigned long long)sched.count);
        me->asks = ASKED_NO;
        return true;
    }
    sched.corks = true;
    me->asks = ASKED_YES;
    if (sched.guard == NULL && sched.idle.n > 0) {
        replay_expect(rec->thread, 'B', 1, sched_idle_first());
    } else if (sched.guard == NULL && sched.asleep && sched.worker) {
        replay_expect(rec->thread, 'B', 32, NULL);
    }
    return true;
}

/// The answer: K1, and K3 behind the cork.
static bool answered(struct sched_cork *me, const struct replay_rec *rec)
{
    bool yes = rec->value != 0;

    REPLAY_NEED(me->puts == (rec->number == 3 ? rec->object : NULL), "corked is %p", me->puts);
    REPLAY_NEED(me->asks == (yes ? ASKED_YES : ASKED_NO), "that was not the answer");
    me->asks = ASKS_NOT;
    me->puts = NULL;
    if (rec->number == 1 && yes) {
        me->puts = rec->object;
        replay_expect(rec->thread, 'K', 26, replay_thread(rec->thread));
    } else if (rec->number == 3 && !yes) {
        me->back = true;
        replay_expect(rec->thread, 'K', 27, replay_thread(rec->thread));
    }
    return true;
}

/* ------------------------------------------------------------------ Corks */

/// K26: it corks once more.
static bool counted(struct sched_cork *me, const struct replay_rec *rec)
{
    me->corks++;
    REPLAY_NEED(rec->value == me->corks, "that is number %llu", (unsigned long long)me->corks);
    replay_expect(rec->thread, 'A', 23, me->puts);
    return true;
}

/// A23: there it is.
static bool put(struct sched_cork *me, const struct replay_rec *rec)
{
    REPLAY_NEED((const void *)(uintptr_t)rec->value == replay_thread(rec->thread) &&
                    me->left == NULL,
                "another thread's, or there is something already");
    me->left = rec->object;
    replay_expect(rec->thread, 'K', 14, NULL);
    return true;
}

/// A24: it is taken out of what K27 looked at, to be run; or by who put it, as if it had not been.
static bool take(struct sched_cork *me, const struct replay_rec *rec)
{
    struct sched_cork *of = cork_of(me->taking);

    REPLAY_NEED(me->taking != NULL && (const void *)(uintptr_t)rec->value == me->taking,
                "it did not look whether there is something");
    REPLAY_NEED(rec->object == of->left, "there is %p", of->left);
    of->left = NULL;
    me->taking = NULL;
    if (rec->object != NULL && me->look != LOOKS_NOT) {
        replay_expect(rec->thread, 'K', 9, rec->object);
    } else if (rec->object != NULL && !me->back) {
        replay_expect(rec->thread, 'K', 5, rec->object);
    }
    me->back = false;
    return true;
}

/// K6, K8, K27: a look at what a thread left.
static bool seen(struct sched_cork *me, const struct replay_rec *rec)
{
    const struct sched_cork *of = cork_of(rec->object);

    REPLAY_NEED((const void *)(uintptr_t)rec->value == of->left, "there is %p", of->left);
    switch (rec->number) {
    case 6:
        REPLAY_NEED(rec->object == replay_thread(rec->thread), "another thread's");
        return true;
    case 8:
        me->any = me->any || of->left != NULL;
        if (of->left != NULL && me->all) {
            replay_expect(rec->thread, 'K', 27, rec->object);
        }
        return true;
    default: // 27
        REPLAY_NEED(rec->object == replay_thread(rec->thread) || me->look != LOOKS_NOT,
                    "another thread's, and it does not look after corks");
        me->taking = of->left != NULL ? rec->object : NULL;
        me->back = me->back && of->left != NULL;
        return true;
    }
}

/* ------------------------------------------------------------------ Looking after them */

/// K22, K24: somebody looks, and why.
static bool look(struct sched_cork *me, const struct replay_rec *rec)
{
    REPLAY_NEED(rec->object == replay_thread(rec->thread) && sched.corks && me->look == LOOKS_NOT,
                "no reason to look");
    me->all = rec->number == 22;
    if (me->all) {
        REPLAY_NEED(me->uncovered, "others can look");
        me->uncovered = false;
        replay_expect(rec->thread, 'K', 11, NULL);
    } else {
        REPLAY_NEED(sched.guard == rec->object, "the guard is %p", sched.guard);
        me->look = LOOKS_FIRST;
        replay_expect(rec->thread, 'K', 28, NULL);
    }
    return true;
}

/// K28: all threads; those that left something by now must be among them.
static bool look_begin(struct sched_cork *me, const struct replay_rec *rec)
{
    REPLAY_NEED((rec->value != 0) == me->all, "all of it, or what is old");
    me->any = false;
    me->visit = 0;
    for (unsigned i = 0; i < REPLAY_THREADS; i++) {
        me->visit |= (uint32_t)(sched.threads[i].cork.left != NULL) << i;
    }
    return true;
}

/// K7: how many times a thread corked.
static bool look_at(struct sched_cork *me, const struct replay_rec *rec)
{
    struct sched_cork *of = cork_of(rec->object);
    unsigned number = replay_thread_number(rec->object);

    REPLAY_NEED(me->look != LOOKS_NOT, "it does not look");
    REPLAY_NEED(rec->value == of->corks, "%llu times", (unsigned long long)of->corks);
    me->any = me->any || of->seen != of->corks;
    of->seen = of->corks;
    if (number < REPLAY_THREADS) {
        me->visit &= ~(UINT32_C(1) << number);
    }
    replay_expect(rec->thread, 'K', 8, rec->object);
    return true;
}

/// K10: what came of it.
static bool look_end(struct sched_cork *me, const struct replay_rec *rec)
{
    REPLAY_NEED(me->look != LOOKS_NOT && me->visit == 0, "it did not look at every thread");
    REPLAY_NEED((rec->value != 0) == me->any, "there were corks, or not");
    if (me->look == LOOKS_FIRST && !me->any) {
        replay_expect(rec->thread, 'K', 11, NULL);
    } else if (me->look == LOOKS_AGAIN && me->any && !me->all) {
        replay_expect(rec->thread, 'K', 13, NULL);
    }
    me->look = LOOKS_NOT;
    return true;
}

bool sched_cork_step(const struct replay_rec *rec)
{
    struct sched_cork *me = &sched.threads[rec->thread].cork;

    REPLAY_NEED(me->taking == NULL || rec->number == 24, "it takes what is corked, or not");
    if (rec->letter == 'A') {
        return rec->number == 23 ? put(me, rec) : take(me, rec);
    }
    switch (rec->number) {
    case 1:
    case 3:
        return answered(me, rec);
    case 6:
    case 8:
    case 27:
        return seen(me, rec);
    case 7:
        return look_at(me, rec);
    case 10:
        return look_end(me, rec);
    case 11:
        REPLAY_NEED((rec->value != 0) == me->all, "all of it, or what is old");
        sched.corks = false;
        me->look = LOOKS_AGAIN;
        replay_expect(rec->thread, 'K', 28, NULL);
        return true;
    case 13:
        sched.corks = true;
        return true;
    case 14:
    case 15:
    case 16:
        return asked(me, rec);
    case 22:
    case 24:
        return look(me, rec);
    case 26:
        return counted(me, rec);
    case 28:
        return look_begin(me, rec);
    default: // 5, 9
        return true;
    }
}

static void cork_begin(void)
{
    sched_begin();
    sched.corking = true;
}

static bool cork_end(void)
{
    for (unsigned i = 0; i < REPLAY_THREADS; i++) {
        const struct sched_cork *c = &sched.threads[i].cork;

        REPLAY_NEED(c->left == NULL && c->puts == NULL && c->look == LOOKS_NOT &&
                        c->asks == ASKS_NOT && c->taking == NULL,
                    "in the end thread %u corks, or looks after that", i);
    }
    return sched_end();
}

const struct replay_model replay_cork = {
    .name = "cork",
    .letter = 'K',
    .reads = "A11 A13 A14 A15 A23 A24 B C G1 G3 G5 G12 G15 G23 K",
    .only = "A23 B2 B3 B6 B7 B15 B16 C7 C8 C19 C25 K5 K8 K9 K11 K13 K26 K28",
    .core = "K1 A23 K3 K27 A24 K5 K24 K28 K7 K8 K10 K11",
    .begin = cork_begin,
    .step = sched_step,
    .end = cork_end,
};
