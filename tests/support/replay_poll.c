/* SPDX-License-Identifier: MIT */
/// Who polls: taking the role, the steps of a poll, sleeping for want of work, and timers, as
/// tests/model/poller.pml has them. See replay_sched.h.
#include "replay_sched.h"

/* ------------------------------------------------------------------ The role */

/// C5: a thread becomes the poller.
bool sched_poller_new(const struct replay_rec *rec)
{
    struct sched_thread *t = &sched.threads[rec->thread];

    REPLAY_NEED(sched.poller == SCHED_NOBODY, "thread %d polls", sched.poller);
    REPLAY_NEED(rec->object == replay_thread(rec->thread), "another thread");
    sched.poller = (int)rec->thread;
    sched.worker = rec->value != 0;
    t->worker = sched.worker;
    t->stage = 1;
    t->took = false;
    t->glances = false;
    t->reports = 0;
    if (t->fair) {
        replay_expect(rec->thread, 'B', 17, rec->object);
    }
    return true;
}

/// B15: it will sleep until …
bool sched_lie_down(const struct replay_rec *rec)
{
    struct sched_help *help = &sched.threads[rec->thread].help;

    sched.until = (int64_t)rec->value;
    REPLAY_NEED(help->nap == 0 || sched.until <= help->nap, "the guard sleeps for long");
    REPLAY_NEED(!help->hurries || sched.until <= 0, "it sleeps, and there are closed watches");
    REPLAY_NEED(!sched.corks || !sched.worker || sched.guard != NULL,
                "nobody looks after what is corked");
    REPLAY_NEED(sched.rows == 0 || !sched.worker || sched.guard != NULL, "nobody guards a row");
    help->hurries = false;
    REPLAY_NEED(sched.until <= sched.next, "a timer is due before");
    REPLAY_NEED(sched.waiting == 0 || (!sched.worker && sched.max > 0), "%llu wait, and it sleeps",
                (unsigned long long)sched.waiting);
    REPLAY_NEED(sched.poller == (int)rec->thread, "it does not poll");
    sched.asleep = true;
    sched.threads[rec->thread].stage = 2;
    replay_expect(rec->thread, 'C', 8, replay_thread(rec->thread));
    return true;
}

/// The steps of a poll come in their order.
bool sched_poll_stage(const struct replay_rec *rec, int from, int to)
{
    struct sched_thread *t = &sched.threads[rec->thread];

    REPLAY_NEED(sched.poller == (int)rec->thread && t->stage == from &&
                    rec->object == replay_thread(rec->thread),
                "it does not poll, or not so far");
    t->stage = to;
    return true;
}

/// B13: what was due when it fired was fired.
static bool poll_end(const struct replay_rec *rec)
{
    struct sched_thread *t = &sched.threads[rec->thread];
    const struct sched_timer *timer;

    if (!sched_poll_stage(rec, 6, 0)) {
        return false;
    }
    for (size_t at = 0; (timer = replay_next(&sched.timers, &at)) != NULL;) {
        REPLAY_NEED(!timer->armed || timer->since == 0 || timer->since > t->fire_at ||
                        timer->due > t->fire_now,
                    "a timer was due, and did not fire");
    }
    sched.poller = SCHED_NOBODY;
    sched.asleep = false;
    sched.worker = false;
    t->help.waits = false;
    if (sched.helps) {
        replay_expect(rec->thread, 'G', 16, sched.zombies);
    }
    if (!t->worker && sched.max > 0) {
        replay_expect(rec->thread, 'C', 25, sched.guard);
    }
    return true;
}

bool sched_poll_step(const struct replay_rec *rec)
{
    struct sched_thread *t = &sched.threads[rec->thread];

    switch (rec->number) {
    case 9:
        REPLAY_NEED((int64_t)rec->value == sched.next, "the next timer is at %lld",
                    (long long)sched.next);
        REPLAY_NEED(sched.poller == (int)rec->thread && t->stage == 1, "it does not poll");
        REPLAY_NEED(!sched.helps || !t->help.waits || replay_was_expected(),
                    "a helper that did not look who polls");
        replay_expect(rec->thread, 'B', 15, NULL);
        return true;
    case 10:
        REPLAY_NEED((int64_t)rec->value == (t->took || t->glances ? 0 : sched.until),
                    "it would sleep on its token, or too long");
        REPLAY_NEED(t->polling, "it would not be woken");
        return sched_poll_stage(rec, 3, 4) && (t->took || sched_token_seen(t, false));
    case 12:
        REPLAY_NEED(t->reports == 0 && !t->polling, "reports are left");
        return sched_poll_stage(rec, 5, 6);
    case 28:
        REPLAY_NEED(t->stage == 1 || rec->value == t->reports, "there are %llu reports",
                    (unsigned long long)t->reports);
        t->reports = rec->value;
        return sched_poll_stage(rec, t->stage == 1 && !t->glances ? 1 : 4, 5);
    default: // 13
        return poll_end(rec);
    }
}

/// A14 … B17: nothing to run.
bool sched_idle_step(const struct replay_rec *rec)
{
    struct sched_thread *t = &sched.threads[rec->thread];

    REPLAY_NEED(rec->object == replay_thread(rec->thread), "another thread");
    switch (rec->number) {
    case 14:
        REPLAY_NEED((rec->value != 0) == (sched.waiting > 0), "%llu wait",
                    (unsigned long long)sched.waiting);
        REPLAY_NEED(!t->fair, "a turn that may have taken its token sleeps");
        return true;
    case 17:
        REPLAY_NEED((t->fair || t->glance) && sched.poller != SCHED_NOBODY &&
                        (sched.poller == (int)rec->thread) == (rec->value != 0),
                    "somebody polls, or nobody");
        t->glance = false;
        t->glances = rec->value != 0;
        if (rec->value != 0) {
            replay_expect(rec->thread, 'C', 8, rec->object);
        }
        return true;
    default: // A15
        break;
    }
    REPLAY_NEED(sched.waiting == 0, "%llu wait, and it sleeps", (unsigned long long)sched.waiting);
    REPLAY_NEED(sched.poller != SCHED_NOBODY || sched.guard == rec->object,
                "it sleeps, and nobody polls");
    REPLAY_NEED(!sched.corks || sched.max == 0 || sched.guard != NULL,
                "nobody looks after what is corked");
    REPLAY_NEED(sched.rows == 0 || sched.guard != NULL, "nobody guards a row");
    REPLAY_NEED(replay_list_add(&sched.idle, rec->object), "it is idle already");
    replay_expect(rec->thread, 'B', 16, rec->object);
    replay_expect(rec->thread, 'C', 7, rec->object);
    return true;
}

/* ------------------------------------------------------------------ Timers */

static int64_t first_due(void)
{
    const struct sched_timer *t;
    int64_t due = INT64_MAX;

    for (size_t at = 0; (t = replay_next(&sched.timers, &at)) != NULL;) {
        due = t->armed && t->due < due ? t->due : due;
    }
    return due;
}

/// B19: what the poller is told; who armed the first timer kicks it.
bool sched_published(const struct replay_rec *rec)
{
    struct sched_thread *self = &sched.threads[rec->thread];
    struct sched_timer *mine = replay_get(&sched.timers, self->arming);
    const struct sched_timer *t;
    unsigned as_early = 0;

    sched.next = (int64_t)rec->value;
    REPLAY_NEED(sched.next == first_due(), "the first one is due at %lld", (long long)first_due());
    if (mine == NULL) {
        return true;
    }
    mine->since = sched.step;
    self->arming = NULL;
    for (size_t at = 0; (t = replay_next(&sched.timers, &at)) != NULL;) {
        as_early += t->armed && t->due <= mine->due;
    }
    self->may_kick = mine->due == sched.next;
    self->due = mine->due;
    if (as_early == 1) {
        replay_expect(rec->thread, 'B', 18, NULL);
    }
    return true;
}

bool sched_timer_step(const struct replay_rec *rec)
{
    struct sched_timer *t = replay_get(&sched.timers, rec->object);

    switch (rec->number) {
    case 1:
        t = replay_have(&sched.timers, rec->object);
        t->armed = true;
        t->due = (int64_t)rec->value;
        t->since = 0;
        sched.threads[rec->thread].arming = rec->object;
        replay_expect(rec->thread, 'B', 19, NULL);
        return true;
    case 3:
        REPLAY_NEED((t != NULL && t->armed) == (rec->value != 0), "armed, or not");
        if (rec->value != 0) {
            t->armed = false;
            replay_expect(rec->thread, 'B', 19, NULL);
        }
        return true;
    case 5:
        REPLAY_NEED(t != NULL && t->armed && t->due == first_due(), "it is not the first");
        t->armed = false;
        replay_expect(rec->thread, 'B', 19, NULL);
        return true;
    case 12:
        REPLAY_NEED((rec->value != 0) == (sched.poller != SCHED_NOBODY), "somebody polls, or not");
        sched.threads[rec->thread].must_wake += rec->value != 0;
        if (sched.helps && rec->value != 0) {
            replay_expect(rec->thread, 'G', 13, rec->object);
        }
        return true;
    case 15:
        REPLAY_NEED(sched.poller == (int)rec->thread && sched.threads[rec->thread].reports > 0,
                    "a report by who does not poll");
        sched.threads[rec->thread].reports--;
        return true;
    default: // 23
        REPLAY_NEED(sched.poller == (int)rec->thread && sched.threads[rec->thread].stage == 6,
                    "fired by who does not poll");
        sched.threads[rec->thread].fire_now = (int64_t)rec->value;
        sched.threads[rec->thread].fire_at = sched.step;
        return true;
    }
}

bool sched_kick(const struct replay_rec *rec)
{
    struct sched_thread *t = &sched.threads[rec->thread];

    REPLAY_NEED(t->may_kick, "not the first timer");
    REPLAY_NEED((sched.asleep && t->due < sched.until) == (rec->value != 0),
                "the poller sleeps until %lld", (long long)sched.until);
    t->may_kick = false;
    t->must_wake += rec->value != 0;
    sched.asleep = sched.asleep && rec->value == 0;
    return true;
}
