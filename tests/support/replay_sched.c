/* SPDX-License-Identifier: MIT */
/// tests/model/poller.pml (with workers) and tests/model/drive.pml (without): who polls, who is
/// idle, who is woken for what is queued or due. One machine for both, since it is one code.
#include "replay_models.h"

#include <string.h>

#define NOBODY (-1)
#define START_BACKLOG 4 // as in core/sched.c
#define FAIR_TURNS 61

struct timer {
    int64_t due;
    bool armed;
    uint64_t since; ///< the step of its publication; 0: not yet
};

struct thread {
    enum { TOKEN_MAYBE, TOKEN_NONE, TOKEN_THERE } token; ///< maybe: of an earlier run
    bool polling;
    bool fair;     ///< this turn looks at the poller first, and does not sleep
    bool took;     ///< the token, before it polls
    bool glances;  ///< polls without waiting
    bool worker;   ///< as the poller
    bool was_idle; ///< nobody took it from the idle list
    int must_wake; ///< the poller, so many times
    bool may_kick; ///< it armed the timer that is due first
    bool stopping; ///< to drive
    bool pushing;  ///< actors, and must alert for them
    enum { DRIVES_NOT, DRIVES_ONCE, DRIVES } drives;
    uint64_t turn;
    uint64_t reports; ///< of the poll, to be handed out
    int stage;        ///< of a poll
    const void *arming;
    int64_t due;      ///< of what it armed
    int64_t fire_now; ///< what is due by then is fired
    uint64_t fire_at;
};

static struct {
    struct replay_map timers;
    struct replay_list idle; ///< the last one that came is the last one here
    int poller;              ///< thread; NOBODY
    bool asleep;
    bool worker;      ///< that is what the poller is
    int64_t until;    ///< it sleeps at most so long
    uint64_t in_user; ///< workers in the user's code
    bool helped;      ///< a helper left since a guard looked
    bool wanted;      ///< one would like to poll
    const void *guard;
    uint64_t waiting; ///< in the shared queue
    uint64_t count;   ///< workers
    uint64_t max;
    bool started;
    uint64_t start; ///< the step
    bool stop;
    int64_t next; ///< the instant that the poller was told
    uint64_t step;
    struct thread threads[REPLAY_THREADS];
} sched = {.timers = {.size = sizeof(struct timer)}};

static void sched_begin(void)
{
    struct replay_map timers = sched.timers;

    replay_clear(&timers);
    memset(&sched, 0, sizeof(sched));
    sched.timers = timers;
    sched.poller = NOBODY;
    sched.next = INT64_MAX;
}

/// It looked at its token, which is gone now.
static bool token_seen(struct thread *t, bool there)
{
    REPLAY_NEED(t->token == TOKEN_MAYBE || (t->token == TOKEN_THERE) == there, "its token is%s",
                there ? " not there" : " there");
    t->token = TOKEN_NONE;
    return true;
}

/// Somebody wakes it.
static bool token_left(const void *thread)
{
    unsigned number = replay_thread_number(thread);

    REPLAY_NEED(number < REPLAY_THREADS, "no such thread");
    sched.threads[number].token = TOKEN_THERE;
    return true;
}

/* ------------------------------------------------------------------ Alerts */

static const void *idle_first(void)
{
    return sched.idle.n > 0 ? sched.idle.of[sched.idle.n - 1] : NULL;
}

/// B1: the decision of an alert; what must follow.
static bool alert(const struct replay_rec *rec)
{
    const void *idle = idle_first();

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

/// B6, after B8: somebody goes into the user's code.
static bool cover(const struct replay_rec *rec)
{
    bool busy = sched.poller != NOBODY;
    bool corks = (rec->value & 2) != 0; // to be looked after by somebody new

    REPLAY_NEED(busy == ((rec->value & 1) != 0), "somebody%s polls", busy ? "" : " does not");
    REPLAY_NEED(!corks || sched.guard == NULL, "the guard is %p", sched.guard);
    sched.in_user++;
    if (sched.max == 0) {
        return true;
    }
    if (sched.count == sched.in_user || (!busy && sched.idle.n == 0)) {
        replay_expect(rec->thread, 'B', 7, NULL);
    } else if (!busy || sched.waiting > 0 || corks) {
        replay_expect(rec->thread, 'B', 1, idle_first());
    }
    return true;
}

/// C18: a thread stops driving.
static bool pass_on(const struct replay_rec *rec)
{
    REPLAY_NEED(sched.threads[rec->thread].stopping, "it goes on driving");
    sched.threads[rec->thread].stopping = false;
    REPLAY_NEED((rec->value != 0) == (sched.waiting > 0), "%llu wait",
                (unsigned long long)sched.waiting);
    if (sched.waiting > 0) {
        replay_expect(rec->thread, 'B', 1, idle_first());
    } else if (sched.poller == NOBODY && sched.idle.n > 0) {
        replay_expect(rec->thread, 'C', 19, idle_first());
    }
    return true;
}

/* ------------------------------------------------------------------ Polling */

/// C5: a thread becomes the poller.
static bool poller_new(const struct replay_rec *rec)
{
    struct thread *t = &sched.threads[rec->thread];

    REPLAY_NEED(sched.poller == NOBODY, "thread %d polls", sched.poller);
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

/// C25: a helper gives up polling: the guard looks, or one is made.
static bool helped(const struct replay_rec *rec)
{
    REPLAY_NEED(rec->object == sched.guard, "the guard is %p", sched.guard);
    REPLAY_NEED((rec->value != 0) == (sched.waiting > 0), "%llu wait",
                (unsigned long long)sched.waiting);
    sched.helped = true;
    if (sched.guard == NULL || sched.waiting > 0) {
        replay_expect(rec->thread, 'B', 1, idle_first());
    }
    return true;
}

/// B15: it will sleep until …
static bool lie_down(const struct replay_rec *rec)
{
    sched.until = (int64_t)rec->value;
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
static bool poll_stage(const struct replay_rec *rec, int from, int to)
{
    struct thread *t = &sched.threads[rec->thread];

    REPLAY_NEED(sched.poller == (int)rec->thread && t->stage == from &&
                    rec->object == replay_thread(rec->thread),
                "it does not poll, or not so far");
    t->stage = to;
    return true;
}

/// B13: what was due when it fired was fired.
static bool poll_end(const struct replay_rec *rec)
{
    const struct thread *t = &sched.threads[rec->thread];
    const struct timer *timer;

    if (!poll_stage(rec, 6, 0)) {
        return false;
    }
    for (size_t at = 0; (timer = replay_next(&sched.timers, &at)) != NULL;) {
        REPLAY_NEED(!timer->armed || timer->since == 0 || timer->since > t->fire_at ||
                        timer->due > t->fire_now,
                    "a timer was due, and did not fire");
    }
    sched.poller = NOBODY;
    sched.asleep = false;
    sched.worker = false;
    if (!t->worker && sched.max > 0) {
        replay_expect(rec->thread, 'C', 25, sched.guard);
    }
    return true;
}

static bool poll_step(const struct replay_rec *rec)
{
    struct thread *t = &sched.threads[rec->thread];

    switch (rec->number) {
    case 9:
        REPLAY_NEED((int64_t)rec->value == sched.next, "the next timer is at %lld",
                    (long long)sched.next);
        REPLAY_NEED(sched.poller == (int)rec->thread && t->stage == 1, "it does not poll");
        replay_expect(rec->thread, 'B', 15, NULL);
        return true;
    case 10:
        REPLAY_NEED((int64_t)rec->value == (t->took || t->glances ? 0 : sched.until),
                    "it would sleep on its token, or too long");
        REPLAY_NEED(t->polling, "it would not be woken");
        return poll_stage(rec, 3, 4) && (t->took || token_seen(t, false));
    case 12:
        REPLAY_NEED(t->reports == 0 && !t->polling, "reports are left");
        return poll_stage(rec, 5, 6);
    case 28:
        REPLAY_NEED(t->stage == 1 || rec->value == t->reports, "there are %llu reports",
                    (unsigned long long)t->reports);
        t->reports = rec->value;
        return poll_stage(rec, t->stage == 1 && !t->glances ? 1 : 4, 5);
    default: // 13
        return poll_end(rec);
    }
}

/// A14 … B17: nothing to run.
static bool idle_step(const struct replay_rec *rec)
{
    const struct thread *t = &sched.threads[rec->thread];

    REPLAY_NEED(rec->object == replay_thread(rec->thread), "another thread");
    switch (rec->number) {
    case 14:
        REPLAY_NEED((rec->value != 0) == (sched.waiting > 0), "%llu wait",
                    (unsigned long long)sched.waiting);
        REPLAY_NEED(!t->fair, "a turn that may have taken its token sleeps");
        return true;
    case 17:
        REPLAY_NEED(t->fair && sched.poller != NOBODY &&
                        (sched.poller == (int)rec->thread) == (rec->value != 0),
                    "somebody polls, or nobody");
        sched.threads[rec->thread].glances = rec->value != 0;
        if (rec->value != 0) {
            replay_expect(rec->thread, 'C', 8, rec->object);
        }
        return true;
    default: // A15
        break;
    }
    REPLAY_NEED(sched.waiting == 0, "%llu wait, and it sleeps", (unsigned long long)sched.waiting);
    REPLAY_NEED(sched.poller != NOBODY || sched.guard == rec->object,
                "it sleeps, and nobody polls");
    REPLAY_NEED(replay_list_add(&sched.idle, rec->object), "it is idle already");
    replay_expect(rec->thread, 'B', 16, rec->object);
    replay_expect(rec->thread, 'C', 7, rec->object);
    return true;
}

/* ------------------------------------------------------------------ Timers */

static int64_t first_due(void)
{
    const struct timer *t;
    int64_t due = INT64_MAX;

    for (size_t at = 0; (t = replay_next(&sched.timers, &at)) != NULL;) {
        due = t->armed && t->due < due ? t->due : due;
    }
    return due;
}

/// B19: what the poller is told; who armed the first timer kicks it.
static bool published(const struct replay_rec *rec)
{
    struct thread *self = &sched.threads[rec->thread];
    struct timer *mine = replay_get(&sched.timers, self->arming);
    const struct timer *t;
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

static bool timer_step(const struct replay_rec *rec)
{
    struct timer *t = replay_get(&sched.timers, rec->object);

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
        sched.threads[rec->thread].must_wake += rec->value != 0;
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

/* ------------------------------------------------------------------ Start, stop, waking */

static bool kick(const struct replay_rec *rec)
{
    struct thread *t = &sched.threads[rec->thread];

    REPLAY_NEED(t->may_kick, "not the first timer");
    REPLAY_NEED((sched.asleep && t->due < sched.until) == (rec->value != 0),
                "the poller sleeps until %lld", (long long)sched.until);
    t->may_kick = false;
    t->must_wake += rec->value != 0;
    sched.asleep = sched.asleep && rec->value == 0;
    return true;
}

static bool roused(const struct replay_rec *rec)
{
    if (rec->number == 24) {
        REPLAY_NEED(sched.idle.n == 0, "an idle thread is forgotten");
        sched.threads[rec->thread].must_wake++;
        return true;
    }
    REPLAY_NEED(replay_list_has(&sched.idle, rec->object), "it is not idle");
    replay_list_remove(&sched.idle, rec->object);
    return token_left(rec->object);
}

static bool workers(const struct replay_rec *rec)
{
    if (rec->number == 0) {
        sched.started = true;
        sched.start = sched.step;
        sched.stop = false;
        REPLAY_NEED(sched.waiting == 0 && sched.idle.n == 0 && sched.poller == NOBODY,
                    "it starts, and is not at rest");
        sched.max = rec->value;
        sched.count = 0;
        return true;
    }
    sched.helped = sched.helped && rec->value > 0;
    sched.wanted = sched.wanted && rec->value > 0;
    REPLAY_NEED(rec->value == 0 ? sched.stop
                                : (rec->value == sched.count + 1 && rec->value <= sched.max),
                "there are %llu workers", (unsigned long long)sched.count);
    sched.count = rec->value;
    sched.started = sched.count > 0;
    return true;
}

/// B29: a worker becomes the guard; B31: it looked; B32: it shall look now.
static bool guard_step(const struct replay_rec *rec)
{
    bool expects = sched.helped || (sched.wanted && sched.poller == NOBODY);

    if (rec->number == 31) {
        REPLAY_NEED(sched.guard == rec->object && rec->object == replay_thread(rec->thread),
                    "the guard is %p", sched.guard);
        sched.guard = NULL;
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
    sched.guard = rec->object;
    sched.helped = sched.helped && !expects;
    sched.wanted = sched.wanted && !expects;
    return true;
}

/// B30: a worker ends for want of work.
static bool retired(const struct replay_rec *rec)
{
    if (rec->value != 0) {
        REPLAY_NEED(sched.threads[rec->thread].was_idle && sched.count > 1 && sched.waiting == 0 &&
                        !sched.stop,
                    "it is wanted");
        sched.count--;
    }
    return true;
}

static bool poller_step(const struct replay_rec *rec)
{
    struct thread *t = &sched.threads[rec->thread];

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
        replay_expect(rec->thread, 'B', 1, idle_first());
        return true;
    case 6:
        return cover(rec);
    case 3:
    case 7:
    case 21:
        REPLAY_NEED(rec->value == sched.count, "there are %llu workers",
                    (unsigned long long)sched.count);
        return true;
    case 18:
        return kick(rec);
    case 19:
        return published(rec);
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
    case 30:
        return retired(rec);
    case 33:
        sched.count--;
        REPLAY_NEED(rec->value == sched.count, "there are %llu", (unsigned long long)sched.count);
        return true;
    default: // 29, 31, 32
        return guard_step(rec);
    }
}

/// C20: each turn is counted; one in FAIR_TURNS looks at the poller first.
static bool turn(const struct replay_rec *rec)
{
    struct thread *t = &sched.threads[rec->thread];

    REPLAY_NEED(rec->object == replay_thread(rec->thread), "another thread");
    REPLAY_NEED(t->turn == 0 || rec->value == t->turn + 1 || rec->value == 1,
                "the last one was %llu", (unsigned long long)t->turn);
    REPLAY_NEED(sched.max > 0 || t->drives != DRIVES_NOT, "it does not drive");
    t->drives = t->drives == DRIVES ? DRIVES : DRIVES_NOT;
    t->turn = rec->value;
    t->fair = t->turn % FAIR_TURNS == 0;
    return true;
}

static bool drive_step(const struct replay_rec *rec)
{
    struct thread *t = &sched.threads[rec->thread];

    switch (rec->number) {
    case 1:
    case 23:
        REPLAY_NEED(rec->object == replay_thread(rec->thread), "another thread");
        if (rec->number == 1) {
            t->drives = rec->value == 0 && sched.max == 0 ? DRIVES_ONCE : DRIVES_NOT;
            if (t->drives == DRIVES_ONCE) {
                replay_expect(rec->thread, 'C', 20, rec->object);
            }
        }
        return token_seen(t, rec->value != 0);
    case 9:
        t->took = true;
        return poll_stage(rec, 3, 3) && token_seen(t, true);
    case 5:
        return poller_new(rec);
    case 25:
        return helped(rec);
    case 27:
        REPLAY_NEED(rec->value == 0 || (sched.poller != NOBODY && sched.poller != (int)rec->thread),
                    "it may poll");
        sched.wanted = sched.wanted || rec->value != 0;
        return true;
    case 28:
        t->token = TOKEN_NONE;
        return true;
    case 7:
        t->was_idle = rec->value != 0;
        REPLAY_NEED(replay_list_has(&sched.idle, rec->object) == (rec->value != 0),
                    "it is idle, or not");
        replay_list_remove(&sched.idle, rec->object);
        return true;
    case 8:
        t->polling = true;
        return poll_stage(rec, t->glances ? 1 : 2, 3);
    case 11:
        t->polling = false;
        t->reports = rec->value;
        return poll_stage(rec, 4, 4);
    case 13:
        return token_left(rec->object);
    case 14:
        REPLAY_NEED(replay_thread_number(rec->object) < REPLAY_THREADS &&
                        sched.threads[replay_thread_number(rec->object)].polling,
                    "it does not poll");
        t->must_wake++;
        return true;
    case 18:
        return pass_on(rec);
    case 19:
        REPLAY_NEED(rec->object == idle_first() && sched.poller == NOBODY, "not the first");
        replay_list_remove(&sched.idle, rec->object);
        replay_expect(rec->thread, 'C', 13, rec->object);
        return true;
    case 20:
        return turn(rec);
    case 24:
        t->drives = DRIVES;
        return true;
    default: // 16, 17
        REPLAY_NEED(rec->object == replay_thread(rec->thread), "another thread");
        t->stopping = rec->number == 17;
        if (t->stopping) {
            t->drives = DRIVES_NOT;
            replay_expect(rec->thread, 'C', 18, NULL);
        }
        return true;
    }
}

/// The poller is woken, or, before that, it turns out that there are no workers.
static bool wakes(const struct replay_rec *rec)
{
    if (rec->letter == 'B') {
        return rec->number == 4 || rec->number == 22 || rec->number == 26;
    }
    return rec->letter == 'C' && (rec->number == 13 || rec->number == 14);
}

static bool sched_step(const struct replay_rec *rec)
{
    const struct thread *t = &sched.threads[rec->thread];

    sched.step++;
    REPLAY_NEED(t->must_wake == 0 || wakes(rec), "the poller must be woken here");
    REPLAY_NEED(!t->pushing || (rec->letter == 'A' && rec->number == 11) ||
                    (rec->letter == 'B' && rec->number == 5),
                "somebody must be alerted here");
    REPLAY_NEED(sched.started || (rec->letter == 'B' && (rec->number == 0 || rec->number == 19)),
                "it was not started");
    switch (rec->letter) {
    case 'A':
        if (rec->number == 11) {
            sched.waiting++;
            sched.threads[rec->thread].pushing = true;
        } else if (rec->number == 13) {
            REPLAY_NEED((rec->object != NULL) == (sched.waiting > 0), "%llu wait",
                        (unsigned long long)sched.waiting);
            sched.waiting -= rec->object != NULL;
        } else {
            return idle_step(rec);
        }
        return true;
    case 'B':
        if (rec->number == 15) {
            return lie_down(rec);
        }
        if ((rec->number >= 9 && rec->number <= 13) || rec->number == 28) {
            return poll_step(rec);
        }
        return rec->number == 17 ? idle_step(rec) : poller_step(rec);
    case 'C':
        return drive_step(rec);
    default:
        return timer_step(rec);
    }
}

static bool sched_end(void)
{
    REPLAY_NEED(sched.waiting == 0 && sched.idle.n == 0 && sched.poller == NOBODY &&
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

const struct replay_model replay_drive = {
    .name = "drive",
    .letter = 'C',
    .reads = "A11 A13 A14 A15 B C G1 G3 G5 G12 G15 G23",
    .only = "B2 B3 B6 B7 B15 B16 C7 C8 C19 C25",
    .core = "C1 C8 C11 C13 C17 C18",
    .begin = sched_begin,
    .step = sched_step,
    .end = sched_end,
};
