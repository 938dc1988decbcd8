/* SPDX-License-Identifier: MIT */
/// The scheduler's state, on which four models are replayed: poller and drive (who polls, who is
/// idle, who is woken), help (application threads that poll, the guard) and cork. One state, since
/// it is one code; each model judges by what it reads.
#ifndef SP_TEST_REPLAY_SCHED_H
#define SP_TEST_REPLAY_SCHED_H

#include "replay_models.h"

#define SCHED_NOBODY (-1)

struct sched_timer {
    int64_t due;
    bool armed;
    uint64_t since; ///< the step of its publication; 0: not yet
};

struct sched_thread {
    enum { TOKEN_MAYBE, TOKEN_NONE, TOKEN_THERE } token; ///< maybe: of an earlier run
    bool polling;
    bool row;      ///< it runs callbacks in a row
    bool row_was;  ///< … when it looked last
    bool glance;   ///< it is about to look at the poller behind rows
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
    struct sched_help {
        bool waits;     ///< in a call, and may poll
        bool looks;     ///< before it sleeps
        bool hurries;   ///< does not sleep: there are closed watches
        int64_t nap;    ///< as the guard it sleeps no longer; 0: it is not
        uint64_t found; ///< reports, while it looked
    } help;
    struct sched_cork {
        const void *left;                                  ///< the actor that it corked
        uint64_t corks;                                    ///< how many times it did
        uint64_t seen;                                     ///< … when the guard looked last
        const void *puts;                                  ///< what it is about to cork
        bool back;                                         ///< it takes that back
        enum { ASKS_NOT, ASKS, ASKED_NO, ASKED_YES } asks; ///< whether somebody looks after it
        const void *taking;                                ///< what this thread left
        bool uncovered; ///< nobody is left while it is in the user's code
        enum { LOOKS_NOT, LOOKS_FIRST, LOOKS_AGAIN } look;
        uint32_t visit; ///< … at threads that had left something when that began
        bool all;       ///< … for whatever it finds, however new
        bool any;       ///< … and found some
    } cork;
};

struct sched_state {
    struct replay_map timers;
    struct replay_list idle; ///< the last one that came is the last one here
    int poller;              ///< thread; SCHED_NOBODY
    bool asleep;
    bool worker;      ///< that is what the poller is
    int64_t until;    ///< it sleeps at most so long
    uint64_t in_user; ///< workers in the user's code, or else held
    uint64_t rows;    ///< workers in a row
    bool rower;       ///< one began since a guard looked
    uint64_t held;    ///< in a callback that does not return
    bool helped;      ///< a helper left since a guard looked
    bool left;        ///< a worker in the user's code left work
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
    struct sched_thread threads[REPLAY_THREADS];
    const void *zombies; ///< closed watches that are kept
    uint64_t gone;       ///< places of workers that ended, a bit each
    bool helps;          ///< the model reads J
    bool corking;        ///< … K
    bool corks;          ///< the guard looks after them
};

extern struct sched_state sched;

/// At rest, and nothing known.
void sched_begin(void);
/// One transition of any of the four.
bool sched_step(const struct replay_rec *rec);
bool sched_end(void);

/// A thread looked at its token, which is gone now.
bool sched_token_seen(struct sched_thread *t, bool there);
/// Somebody wakes it.
bool sched_token_left(const void *thread);
/// Who is woken first; NULL: nobody is idle.
const void *sched_idle_first(void);

/// Polling, and what is due (replay_poll.c): C5, B15, B9 to B13 and B28, A14, A15 and B17, B18,
/// B19, G.
bool sched_poller_new(const struct replay_rec *rec);
bool sched_lie_down(const struct replay_rec *rec);
bool sched_poll_step(const struct replay_rec *rec);
bool sched_idle_step(const struct replay_rec *rec);
bool sched_timer_step(const struct replay_rec *rec);
bool sched_kick(const struct replay_rec *rec);
bool sched_published(const struct replay_rec *rec);
/// The steps of a poll come in their order.
bool sched_poll_stage(const struct replay_rec *rec, int from, int to);
/// Waiting (replay_drive.c): C but for C5.
bool sched_drive_step(const struct replay_rec *rec);
/// Helpers and the guard (replay_help.c): C25; B29, B31, B32; B30; G13, G16; J.
bool sched_helped(const struct replay_rec *rec);
bool sched_guard_step(const struct replay_rec *rec);
bool sched_retired(const struct replay_rec *rec);
bool sched_zombie_step(const struct replay_rec *rec);
bool sched_help_step(const struct replay_rec *rec);
/// Corks (replay_cork.c): K, A23 and A24.
bool sched_cork_step(const struct replay_rec *rec);

#endif
