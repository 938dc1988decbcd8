/* SPDX-License-Identifier: MIT */
/// tests/model/help.pml: application threads that poll while they wait, and leave; the guard;
/// workers that end. See replay_sched.h.
#include "replay_sched.h"

/// C25: a helper gives up polling: the guard looks, or one is made.
bool sched_helped(const struct replay_rec *rec)
{
    REPLAY_NEED(rec->object == sched.guard, "the guard is %p", sched.guard);
    REPLAY_NEED((rec->value != 0) == (sched.waiting > 0), "%llu wait",
                (unsigned long long)sched.waiting);
    sched.helped = true;
    if (sched.guard == NULL || sched.waiting > 0) {
        replay_expect(rec->thread, 'B', 1, sched_idle_first());
    }
    return true;
}

/// B29: a worker becomes the guard; B31: it looked; B32: it shall look now.
bool sched_guard_step(const struct replay_rec *rec)
{
    bool expects = sched.helped || (sched.wanted && sched.poller == SCHED_NOBODY);

    if (rec->number == 31) {
        REPLAY_NEED(sched.guard == rec->object && rec->object == replay_thread(rec->thread),
                    "the guard is %p", sched.guard);
        REPLAY_NEED(sched.threads[rec->thread].cork.look == LOOKS_NOT, "it still looks for corks");
        sched.guard = NULL;
        sched.threads[rec->thread].help.nap = 0;
        return true;
    }
    REPLAY_NEED(sched.guard == NULL, "the guard is %p", sched.guard);
    if (rec->number == 32) {
        REPLAY_NEED(sched.asleep && sched.worker, "no worker sleeps in the poller");
        sched.asleep = false;
        sched.threads[rec->thread].must_wake++;
        return true;
    }
    REPLAY_NEED(rec->object == replay_thread(rec->thread) && expects == (rec->value != 0),
                "a helper is expected, or not");
    REPLAY_NEED(!sched.corking || expects || sched.corks || sched.left || sched.rows > 0 ||
                    sched.rower,
                "no reason to be the guard");
    replay_expect(rec->thread, 'B', 36, rec->object);
    if (sched.helps) {
        replay_expect(rec->thread, 'J', 14, rec->object);
    }
    sched.guard = rec->object;
    sched.rower = false;
    sched.helped = sched.helped && !expects;
    sched.wanted = sched.wanted && !expects;
    return true;
}

/// B30: a worker ends for want of work.
bool sched_retired(const struct replay_rec *rec)
{
    if (rec->value != 0) {
        REPLAY_NEED(sched.threads[rec->thread].was_idle && sched.count > 1 && sched.waiting == 0 &&
                        !sched.stop,
                    "it is wanted");
        sched.count--;
        if (sched.helps) {
            replay_expect(rec->thread, 'J', 20, rec->object);
        }
    }
    return true;
}

/// G13: a closed watch is kept, since somebody polls; G16: who polled lets go of them.
bool sched_zombie_step(const struct replay_rec *rec)
{
    if (rec->number == 13) {
        sched.zombies = rec->object;
        return true;
    }
    REPLAY_NEED(rec->object == sched.zombies, "%p was closed last", sched.zombies);
    sched.zombies = NULL;
    return true;
}

/// J1 and J4: it takes the role of the poller, if it would like to and nobody has it.
static bool takes(const struct replay_rec *rec)
{
    const struct sched_help *help = &sched.threads[rec->thread].help;
    bool mine = sched.poller == (int)rec->thread;

    REPLAY_NEED(rec->object == replay_thread(rec->thread) && help->waits && !help->looks,
                "it does not wait");
    REPLAY_NEED(rec->value == (mine ? 3 : (rec->value & 2)), "it polls, or not");
    REPLAY_NEED(mine || rec->value == 0 || sched.poller != SCHED_NOBODY, "nobody polls");
    return true;
}

/// J3: it looked, for reports or a token.
static bool looked(const struct replay_rec *rec)
{
    struct sched_thread *t = &sched.threads[rec->thread];
    bool won = (rec->value & 1) != 0;

    REPLAY_NEED(rec->object == replay_thread(rec->thread) && t->help.looks, "it does not look");
    REPLAY_NEED(rec->value >> 1 == t->help.found, "there were %llu reports",
                (unsigned long long)t->help.found);
    REPLAY_NEED(won || t->help.found == 0, "it found something");
    REPLAY_NEED(t->help.found > 0 || t->token == TOKEN_MAYBE || won == (t->token == TOKEN_THERE),
                "its token is%s there", won ? " not" : "");
    t->help.looks = false;
    t->help.waits = !won;
    if (won && sched.poller == (int)rec->thread) {
        replay_expect(rec->thread, 'B', 28, rec->object);
    }
    return true;
}

/// J4: it polls, or waits without.
static bool chose(const struct replay_rec *rec)
{
    if (!takes(rec)) {
        return false;
    }
    if (sched.poller != (int)rec->thread) {
        replay_expect(rec->thread, 'C', 27, rec->object);
        return true;
    }
    if (sched.zombies != NULL) {
        replay_expect(rec->thread, 'J', 5, sched.zombies);
        sched.threads[rec->thread].help.hurries = true;
    }
    replay_expect(rec->thread, 'B', 9, NULL);
    return true;
}

bool sched_help_step(const struct replay_rec *rec)
{
    struct sched_help *help = &sched.threads[rec->thread].help;
    uint64_t place = UINT64_C(1) << (rec->value & 63);

    switch (rec->number) {
    case 1:
        if (!takes(rec)) {
            return false;
        }
        help->looks = true;
        help->found = 0;
        return true;
    case 2:
        REPLAY_NEED(help->looks && help->found == 0 && sched.poller == (int)rec->thread &&
                        rec->object == replay_thread(rec->thread),
                    "it does not look, or not as the poller");
        help->found = rec->value;
        return true;
    case 3:
        return looked(rec);
    case 4:
        return chose(rec);
    case 14:
        help->nap = (int64_t)rec->value;
        REPLAY_NEED(help->nap < INT64_MAX, "the guard sleeps for ever");
        return true;
    case 20:
        REPLAY_NEED((sched.gone & place) == 0, "another one left that place");
        sched.gone |= place;
        return true;
    case 21:
        REPLAY_NEED((sched.gone & place) != 0, "nobody left that place");
        sched.gone &= ~place;
        return true;
    default: // 5
        return true;
    }
}

static void help_begin(void)
{
    sched_begin();
    sched.helps = true;
}

static bool help_end(void)
{
    for (unsigned i = 0; i < REPLAY_THREADS; i++) {
        REPLAY_NEED(!sched.threads[i].help.looks, "in the end thread %u looks", i);
    }
    return sched_end();
}

const struct replay_model replay_help = {
    .name = "help",
    .letter = 'J',
    .reads = "A11 A13 A14 A15 B C G1 G3 G5 G12 G13 G15 G16 G23 J",
    .only = "B2 B3 B6 B7 B15 B16 C7 C8 C19 C25 C27 C28 G13 G16 J5 J14 J20",
    .core = "J4 C25 B29 B31",
    .begin = help_begin,
    .step = sched_step,
    .end = help_end,
};
