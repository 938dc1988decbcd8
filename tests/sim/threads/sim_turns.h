/* SPDX-License-Identifier: MIT */
/// Between the files of the simulation: whose turn it is (sim_turns.c), threads and locks
/// (sim_threads.c), what is said of a failure (sim_report.c). Only the thread whose turn it is
/// touches anything here.
#ifndef SP_TEST_SIM_TURNS_H
#define SP_TEST_SIM_TURNS_H

#include "sim_threads.h"

#define SIM_THREADS_MAX 32
#define SIM_HELD_MAX 8
#define SIM_TRAIL 64

enum sim_way { SIM_WALK, SIM_RANK, SIM_STALL, SIM_WAYS };
enum sim_life { SIM_READY, SIM_BLOCKED, SIM_OVER };

struct sim_thread {
    char name[SIM_NAME];
    pthread_t id;
    uint32_t turn; ///< futex word: 1: it has the turn
    enum sim_life state;
    const char *why; ///< blocked: in what
    const void *on;
    int64_t deadline;
    bool timed_out;
    uint64_t rank;    ///< the highest goes first
    uint64_t until;   ///< stalled before this step
    uint64_t seen;    ///< step at which it last ran, or could run again
    const char *file; ///< where it was last
    int line;
    struct {
        const pthread_mutex_t *mutex;
        const char *file;
        int line;
    } held[SIM_HELD_MAX];
    unsigned holds;
    void (*fn)(void *arg);
    void *arg;
};

struct sim_state {
    bool active;
    enum sim_way way;
    struct sim_thread thread[SIM_THREADS_MAX];
    unsigned n;
    struct sim_thread *current;
    uint64_t rng;
    uint64_t digest;
    uint64_t step;
    uint64_t next;       ///< step of the next choice
    uint64_t every;      ///< walk: steps between choices, on average
    uint64_t span;       ///< rank: choices are within as many steps
    uint64_t changes;    ///< rank: that are left
    uint64_t high;       ///< rank: the next highest one
    uint64_t low;        ///< rank: the next lowest one
    uint64_t salt;       ///< stall: which places
    uint64_t places;     ///< stall: one place in as many
    uint64_t stall;      ///< stall: steps
    uint64_t jump;       ///< step of the next time jump
    uint64_t jump_every; ///< 0: none
    uint64_t hungry;     ///< step at which somebody may be starved
    uint64_t switches;
    unsigned cpus;
    int64_t step_ns; ///< what a step takes
    int64_t now;
    int64_t due; ///< the first deadline of who is blocked
    int64_t idle;
    int64_t patience;
    void (*on_fail)(void);
    struct {
        const struct sim_thread *thread;
        const char *file;
        int line;
    } trail[SIM_TRAIL];
};

extern struct sim_state sim;

/// Chooses how it is chosen who runs, and all else that is the same in a whole run.
void sim_turns_begin(void);
/// A thread waits for its first turn; or has had its last.
void sim_turns_enter(struct sim_thread *me);
void sim_turns_leave(void);

#endif
