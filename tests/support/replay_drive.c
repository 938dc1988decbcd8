/* SPDX-License-Identifier: MIT */
/// tests/model/drive.pml: threads that wait, and with "threads" = 0 drive, and pass that on. See
/// replay_sched.h.
#include "replay_sched.h"

#define FAIR_TURNS 61 // as in core/sched.c

/// C18: a thread stops driving.
static bool pass_on(const struct replay_rec *rec)
{
    REPLAY_NEED(sched.threads[rec->thread].stopping, "it goes on driving");
    sched.threads[rec->thread].stopping = false;
    REPLAY_NEED((rec->value != 0) == (sched.waiting > 0), "%llu wait",
                (unsigned long long)sched.waiting);
    if (sched.waiting > 0) {
        replay_expect(rec->thread, 'B', 1, sched_idle_first());
    } else if (sched.poller == SCHED_NOBODY && sched.idle.n > 0) {
        replay_expect(rec->thread, 'C', 19, sched_idle_first());
    }
    return true;
}

/// C20: each turn is counted; one in FAIR_TURNS looks at the poller first.
static bool turn(const struct replay_rec *rec)
{
    struct sched_thread *t = &sched.threads[rec->thread];

    REPLAY_NEED(rec->object == replay_thread(rec->thread), "another thread");
    REPLAY_NEED(t->turn == 0 || rec->value == t->turn + 1 || rec->value == 1,
                "the last one was %llu", (unsigned long long)t->turn);
    REPLAY_NEED(sched.max > 0 || t->drives != DRIVES_NOT, "it does not drive");
    t->drives = t->drives == DRIVES ? DRIVES : DRIVES_NOT;
    t->turn = rec->value;
    t->help.waits = false;
    t->fair = t->turn % FAIR_TURNS == 0;
    return true;
}

bool sched_drive_step(const struct replay_rec *rec)
{
    struct sched_thread *t = &sched.threads[rec->thread];

    switch (rec->number) {
    case 1:
    case 23:
        REPLAY_NEED(rec->object == replay_thread(rec->thread), "another thread");
        REPLAY_NEED(!t->help.looks, "it looks for what it waits for");
        t->help.waits = rec->number == 1 && rec->value == 0 && sched.max > 0;
        if (rec->number == 1) {
            t->drives = rec->value == 0 && sched.max == 0 ? DRIVES_ONCE : DRIVES_NOT;
            if (t->drives == DRIVES_ONCE) {
                replay_expect(rec->thread, 'C', 20, rec->object);
            }
        }
        return sched_token_seen(t, rec->value != 0);
    case 9:
        t->took = true;
        return sched_poll_stage(rec, 3, 3) && sched_token_seen(t, true);
    case 5:
        return sched_poller_new(rec);
    case 25:
        return sched_helped(rec);
    case 27:
        REPLAY_NEED(rec->value == 0 ||
                        (sched.poller != SCHED_NOBODY && sched.poller != (int)rec->thread),
                    "it may poll");
        sched.wanted = sched.wanted || rec->value != 0;
        if (sched.helps) {
            replay_expect(rec->thread, 'C', 28, rec->object);
        }
        return true;
    case 28:
        t->token = TOKEN_NONE;
        t->help.waits = false;
        return true;
    case 7:
        t->was_idle = rec->value != 0;
        REPLAY_NEED(replay_list_has(&sched.idle, rec->object) == (rec->value != 0),
                    "it is idle, or not");
        replay_list_remove(&sched.idle, rec->object);
        return true;
    case 8:
        t->polling = true;
        return sched_poll_stage(rec, t->glances ? 1 : 2, 3);
    case 11:
        t->polling = false;
        t->reports = rec->value;
        return sched_poll_stage(rec, 4, 4);
    case 13:
        return sched_token_left(rec->object);
    case 14:
        REPLAY_NEED(replay_thread_number(rec->object) < REPLAY_THREADS &&
                        sched.threads[replay_thread_number(rec->object)].polling,
                    "it does not poll");
        t->must_wake++;
        return true;
    case 18:
        return pass_on(rec);
    case 19:
        REPLAY_NEED(rec->object == sched_idle_first() && sched.poller == SCHED_NOBODY,
                    "not the first");
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
