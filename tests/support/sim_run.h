/* SPDX-License-Identifier: MIT */
/// What simulations with one thread share: a run a seed, sockets whose accounts are looked at in
/// the end (also of those that were closed meanwhile), a command that replays a failing seed.
#ifndef SP_TEST_SIM_RUN_H
#define SP_TEST_SIM_RUN_H

#include "sim_net.h"

#include <sp/sp.h>

#include <stdarg.h>
#include <stdbool.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

/// Random steps of a run.
#define SIM_STEPS 1000

#define SIM_CHECK(cond) ((cond) ? (void)0 : sim_fail_at(#cond, __FILE__, __LINE__))
void sim_fail_at(const char *what, const char *file, int line);

/// A choice of the test itself, from the run's seed: less than `n`.
unsigned sim_pick(unsigned n);

/// A run: begins with a network whose weather the seed chooses; `sim_calm` makes it fine; ends with
/// no object left.
void sim_begin(uint64_t seed);
void sim_calm(void);
/// The weather is fine from the beginning, so that nothing is lost in any run of the scenario.
void sim_lossless(void);
void sim_end(void);

/// A socket with short times and small queues. Its accounts are looked at in sim_rest, also when it
/// was closed meanwhile.
sp_socket sim_open(const char *protocol);
sp_socket sim_open_raw(const char *protocol);

/// Lets `ms` of the virtual clock pass.
void sim_settle(int ms);

/// Nothing is under way: both accounting equations hold at every socket of the run, credit is
/// neither lost nor made, and what was written was received or lost with its connection.
void sim_rest(void);
/// Sums over all sockets of the run.
struct sim_sums {
    uint64_t accepted;
    uint64_t copies;
    uint64_t written;
    uint64_t received; ///< without copies for further contexts
    uint64_t delivered;
    uint64_t dropped_out;
    uint64_t dropped_in;
};
struct sim_sums sim_sums(void);

/// One protocol's scenario.
struct sim_scenario {
    const char *name;
    void (*run)(uint64_t seed);
};

/// All scenarios: 2,000 seeds each, and the same seed gives the same run. Usage: PROGRAM [NAME
/// SEED [COUNT]].
int sim_main(int argc, char **argv, const struct sim_scenario *scenarios, unsigned n);

#endif
