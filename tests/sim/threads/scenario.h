/* SPDX-License-Identifier: MIT */
/// What the scenarios of the simulation with threads share. A scenario starts the library, and ends
/// with everything that it made gone; whatever it leaves to chance it asks sim_pick for.
#ifndef SP_TEST_SCENARIO_H
#define SP_TEST_SCENARIO_H

#include "sim_threads.h"

#include <sp/sp.h>

#define APPS_MAX 8

struct scenario {
    const char *name;
    void (*run)(void);
    bool operations; ///< of which the models know nothing, but for those of locks and room
};

/// Tables of all scenarios, each ended by a NULL name.
extern const struct scenario scenarios_core[];
extern const struct scenario scenarios_flow[];
extern const struct scenario scenarios_row[];
extern const struct scenario scenarios_race[];
extern const struct scenario scenarios_op[];
extern const struct scenario scenarios_poll[];
extern const struct scenario scenarios_app[];
extern const struct scenario scenarios_device[];
extern const struct scenario scenarios_crowd[];

/// The library with so many workers at most. Returns how many it can have: now and then none can
/// be started.
int scenario_start(int threads);
/// The same with a time, ms, that callbacks have (0: any); else that is left to chance.
int scenario_start_timed(int threads, int watchdog);
/// sp_fini, and what must hold afterwards.
void scenario_stop(void);

/// A socket with small queues, no lingering and short times between its attempts to connect.
sp_socket scenario_open(const char *protocol);
/// A URL of a name: inproc, or (if `fds`) a transport that has file descriptors.
const char *scenario_url(bool fds, unsigned n);
/// Lets everything come to rest, without or with threads of the library.
void scenario_settle(int threads, int ms);
/// At rest: everything accepted and received is accounted for, and all credit.
void scenario_check_rest(sp_socket s);

/// Application threads, started in one go and joined in one go.
struct apps {
    void *thread[APPS_MAX];
    unsigned n;
};
void apps_add(struct apps *a, void (*fn)(void *arg), void *arg);
void apps_join(struct apps *a);

/// Registers the plugins that are linked in.
int scenario_plugins(void);

#endif
