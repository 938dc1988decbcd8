/* SPDX-License-Identifier: MIT */
/// tests/model/poller.pml: who is idle, who is woken for what is queued or due; and the state that
/// drive, help and cork have in common with it (replay_sched.h).
#include "replay_sched.h"

#include <string.h>

#define START_BACKLOG 4 // as in core/sched.c
#define SPARES 4        // as in core/worker.c
#define WORKERS_MAX 64

struct sched_state sched = {.timers = {.size = sizeof(struct sched_timer)}};

void sched_begin(void)
{
    struct replay_map timers = sched.timers;

    replay_clear(&timers);
    memset(&sched, 0, sizeof(sched));
    sched.timers = timers;
    sched.poller = SCHED_NOBODY;
    sched.next = INT64_MAX;
}

/// It looked at its token, which is gone now.
bool sched_token_seen(struct sched_thread *t, bool there)
{
    REPLAY_NEED(t->token == TOKEN_MAYBE || (t->token == TOKEN_THERE) == there, "its token is%s",
                there ? " not there" : " there");
    t->token = TOKEN_NONE;
    return true;
}

/// Somebody wakes it.
bool sched_token_left(const void *thread)
{
    unsigned number = replay_thread_number(thread);

    REPLAY_NEED(number < REPLAY_THREADS, "no such thread");
    sched.threads[number].token = TOKEN_THERE;
    return true;
}

/* ------------------------------------------------------------------ Alerts */

const void *sched_idle_first(void)
{
    return sched.idle.n > 0 ? sched.idle.of[sched.idle.n - 1] : NULL;
}

/// B1: the decision of an alert; what must follow.
static bool alert(const struct replay_rec *rec)
{
    const void *idle = sched_idle_first();

    REPLAY_NEED(rec->object == idle, "the first idle thread is %p", idle);
    REPLAY_NEED((rec->value != 0) == (sched.waiting > 0), "%llu wait",
                (unsigned long long)sched.waiting);
    if (idle != NULL) {
        replay_list_remove(&sched.idle, idle);
        replay_expect(rec->thread, 'C', 13, idle);
    } else if (sched.asleep) {
        replay_expect(rec->thread, 'B', 2, NULL);
    } else if (sched.count == sched.in_user || sched.waiting > START_BACKLOG) {
        replay_expect(rec->thread, 'B', 3, NULL);
    }
    return true;
}

/// B6, after B8: somebody goes into the user's code, perhaps back from what held it; or after B37.
static bool cover(const struct replay_rec *rec)
{
    bool busy = sched.poller != SCHED_NOBODY;
    bool corks = (rec->value & 2) != 0; // to be looked after by somebody new

    REPLAY_NEED(busy == ((rec->value & 1) != 0), "somebody%s polls", busy ? "" : " does not");
    REPLAY_NEED(!corks || sched.guard == NULL, "the guard is %p", sched.guard);
    REPLAY_NEED(!sched.corking || corks == (sched.corks && sched.guard == NULL),
                "corks that nobody looks after, or none");
    sched.held -= (rec->value & 12) != 0;
    sched.in_user -= (rec->value & 8) != 0;
    sched.in_user += (rec->value & 16) == 0;
    if (sched.guard != NULL) {
        replay_expect(rec->thread, 'B', 35, sched.guard);
        return true;
    }
    if (sched.max == 0) {
        return true;
    }
    if (sched.count == sched.in_user || (!busy && sched.idle.n == 0)) {
        replay_expect(rec->thread, 'B', 7, NULL);
    } else if (!busy || sched.waiting > 0 || corks) {
        replay_expect(rec->thread, 'B', 1, sched_idle_first());
    }
    return true;
}

/// B42: a worker begins a row; B43: it is over, because the worker came back or does not get on.
static bool rows(const struct replay_rec *rec)
{
    unsigned number = replay_thread_number(rec->object);
    struct sched_thread *t = &sched.threads[number < REPLAY_THREADS ? number : 0];

    if (rec->number == 42) {
        REPLAY_NEED(rec->object == replay_thread(rec->thread) && !t->row, "another thread's row");
        REPLAY_NEED(sched.guard != NULL || sched.count <= sched.in_user,
                    "nobody guards, and not all workers are in the user's code");
        sched.rows++;
        sched.rower = sched.rower || sched.guard != NULL;
    } else {
        REPLAY_NEED(t->row && number < REPLAY_THREADS, "it is in no row");
        sched.rows--;
    }
    t->row = rec->number == 42;
    REPLAY_NEED(rec->value == sched.rows, "there are %llu rows", (unsigned long long)sched.rows);
    return true;
}

/// B37: a worker is held; B38: it is back; B39: before the first, it was the guard.
static bool held(const struct replay_rec *rec)
{
    if (rec->number == 39) {
        unsigned number = replay_thread_number(rec->object);

        REPLAY_NEED(sched.guard == rec->object && number < REPLAY_THREADS, "the guard is %p",
                    sched.guard);
        sched.guard = NULL;
        sched.threads[number].help.nap = 0;
        return true;
    }
    if (rec->number == 37) {
        REPLAY_NEED(rec->value - sched.in_user <= 1, "there are %llu in the user's code",
                    (unsigned long long)sched.in_user);
        sched.held++;
        replay_expect(rec->thread, 'B', 6, NULL);
    } else {
        REPLAY_NEED(sched.held > 0 && sched.in_user - rec->value <= 1,
                    "there are %llu in the user's code", (unsigned long long)sched.in_user);
        sched.held--;
    }
    sched.in_user = rec->value;
    return true;
}

/// Workers that there may be.
static uint64_t limit(void)
{
    uint64_t spares = sched.held < SPARES * sched.max ? sched.held : SPARES * sched.max;

    return sched.max + spares < WORKERS_MAX ? sched.max + spares : WORKERS_MAX;
}

/* ------------------------------------------------------------------ Start, stop, waking */

static bool roused(const struct replay_rec *rec)
{
    if (rec->number == 24) {
        REPLAY_NEED(sched.idle.n == 0, "an idle thread is forgotten");
        sched.threads[rec->thread].must_wake++;
        return true;
    }
    REPLAY_NEED(replay_list_has(&sched.idle, rec->object), "it is not idle");
    replay_list_remove(&sched.idle, rec->object);
    return sched_token_left(rec->object);
}

static bool workers(const struct replay_rec *rec)
{
    if (rec->number == 0) {
        sched.started = true;
        sched.start = sched.step;
        sched.stop = false;
        REPLAY_NEED(sched.waiting == 0 && sched.idle.n == 0 && sched.poller == SCHED_NOBODY,
                    "it starts, and is not at rest");
        sched.max = rec->value;
        sched.count = 0;
        return true;
    }
    if (rec->value == 0) {
        sched.helped = false;
        sched.left = false;
        sched.wanted = false;
        sched.corks = false;
        sched.zombies = NULL;
        sched.held = 0;
        sched.rows = 0;
        sched.gone = 0;
    }
    sched.threads[rec->thread].cork.uncovered = false;
    REPLAY_NEED(rec->value == 0 ? sched.stop
                                : (rec->value == sched.count + 1 && rec->value <= limit()),
                "there are %llu workers", (unsigned long long)sched.count);
    sched.count = rec->value;
    sched.started = sched.count > 0;
    return true;
}

static bool poller_step(const struct replay_rec *rec)
{
    struct sched_thread *t = &sched.threads[rec->thread];

    switch (rec->number) {
    case 0:
    case 22:
        return workers(rec);
    case 1:
        return alert(rec);
    case 2:
        REPLAY_NEED(sched.asleep, "the poller does not sleep");
        sched.asleep = false;
        t->must_wake++;
        return true;
    case 4:
        REPLAY_NEED(t->must_wake > 0, "no reason to wake the poller");
        t->must_wake--;
        return true;
    case 5:
        REPLAY_NEED(rec->value != 0 && t->pushing, "nothing is pushed");
        t->pushing = false;
        replay_expect(rec->thread, 'B', 1, sched_idle_first());
        return true;
    case 34: // Left to the guard, if there is one.
        REPLAY_NEED(rec->value != 0 && t->pushing, "nothing is pushed");
        REPLAY_NEED(rec->object == sched.guard, "the guard is %p", sched.guard);
        t->pushing = false;
        sched.left = true;
        if (sched.guard == NULL) {
            replay_expect(rec->thread, 'B', 1, sched_idle_first());
        }
        return true;
    case 35:
        sched.left = true;
        return true;
    case 36:
        sched.left = false;
        return true;
    case 6:
        return cover(rec);
    case 3:
    case 7:
    case 21:
        t->cork.uncovered = rec->number == 7 && sched.count <= sched.in_user;
        REPLAY_NEED(rec->value == sched.count, "there are %llu workers",
                    (unsigned long long)sched.count);
        return true;
    case 18:
        return sched_kick(rec);
    case 19:
        return sched_published(rec);
    case 23:
    case 24:
        return roused(rec);
    case 16:
        REPLAY_NEED(rec->object == replay_thread(rec->thread), "another thread");
        t->token = TOKEN_NONE;
        return true;
    case 8:
        replay_expect(rec->thread, 'B', 6, NULL);
        return true;
    case 25:
        sched.stop = true;
        return true;
    case 26:
        sched.max = 0;
        for (unsigned i = 0; i < REPLAY_THREADS; i++) { // Some had not looked yet.
            sched.threads[i].drives = sched.threads[i].drives == DRIVES ? DRIVES : DRIVES_ONCE;
        }
        return true;
    case 27:
        sched.in_user--;
        REPLAY_NEED(rec->value == sched.in_user, "there are %llu",
                    (unsigned long long)sched.in_user);
        return true;
    case 37:
    case 38:
    case 39:
        return held(rec);
    case 42:
    case 43:
        return rows(rec);
    case 44: // A row that is over may not be known to be.
        REPLAY_NEED(rec->value == 0 || t->row || t->row_was, "it is in no row");
        t->row_was = t->row;
        return true;
    case 45:
        t->glance = true;
        return true;
    case 30:
        return sched_retired(rec);
    case 33:
        sched.count--;
        REPLAY_NEED(rec->value == sched.count, "there are %llu", (unsigned long long)sched.count);
        return true;
    default: // 29, 31, 32
        return sched_guard_step(rec);
    }
}

/// The poller is woken, or, before that, it turns out that there are no workers.
static bool wakes(const struct replay_rec *rec)
{
    if (rec->letter == 'B') {
        return rec->number == 4 || rec->number == 22 || rec->number == 26;
    }
    if (rec->letter == 'G') {
        return rec->number == 13;
    }
    return rec->letter == 'C' && (rec->number == 13 || rec->number == 14);
}

bool sched_step(const struct replay_rec *rec)
{
    const struct sched_thread *t = &sched.threads[rec->thread];

    if (rec->letter == 'K' && rec->number == 27) {
        return sched_cork_step(rec); // Also at a thread's end, whoever runs then.
    }
    sched.step++;
    REPLAY_NEED(t->must_wake == 0 || wakes(rec), "the poller must be woken here");
    REPLAY_NEED(!t->pushing || (rec->letter == 'A' && rec->number == 11) ||
                    (rec->letter == 'B' && (rec->number == 5 || rec->number == 34)),
                "somebody must be alerted here");
    REPLAY_NEED(sched.started || (rec->letter == 'B' && (rec->number == 0 || rec->number == 19)),
                "it was not started");
    switch (rec->letter) {
    case 'A':
        if (rec->number == 23 || rec->number == 24) {
            return sched_cork_step(rec);
        }
        if (rec->number == 11) {
            sched.waiting++;
            sched.threads[rec->thread].pushing = true;
        } else if (rec->number == 13) {
            REPLAY_NEED((rec->object != NULL) == (sched.waiting > 0), "%llu wait",
                        (unsigned long long)sched.waiting);
            sched.waiting -= rec->object != NULL;
        } else {
            return sched_idle_step(rec);
        }
        return true;
    case 'B':
        if (rec->number == 15) {
            return sched_lie_down(rec);
        }
        if ((rec->number >= 9 && rec->number <= 13) || rec->number == 28) {
            return sched_poll_step(rec);
        }
        return rec->number == 17 ? sched_idle_step(rec) : poller_step(rec);
    case 'C':
        return sched_drive_step(rec);
    case 'J':
        return sched_help_step(rec);
    case 'K':
        return sched_cork_step(rec);
    default:
        return rec->number == 13 || rec->number == 16 ? sched_zombie_step(rec)
                                                      : sched_timer_step(rec);
    }
}

bool sched_end(void)
{
    REPLAY_NEED(sched.waiting == 0 && sched.idle.n == 0 && sched.poller == SCHED_NOBODY &&
                    (!sched.started || sched.start == sched.step),
                "in the end it is not at rest");
    return true;
}

const struct replay_model replay_poller = {
    .name = "poller",
    .letter = 'B',
    .reads = "A11 A13 A14 A15 B C G1 G3 G5 G12 G15 G23",
    .only = "B2 B3 B6 B7 B15 B16 C7 C8 C19 C25",
    .core = "A15 B1 B2 B5 B10 B13 B15 B16 B22",
    .begin = sched_begin,
    .step = sched_step,
    .end = sched_end,
};
