/* SPDX-License-Identifier: MIT */
/// Many traces: all models' verdicts, what was seen of each, and how many spoilt traces passed.
#ifndef SP_TEST_REPLAY_STATS_H
#define SP_TEST_REPLAY_STATS_H

#include "replay.h"

#define REPLAY_TRACES 1000 // of each model are wanted
#define REPLAY_ALL "ABCDEFGHIJKLMNO"

/// Plain memory: may be shared by processes that add to it one after the other.
struct replay_stats {
    struct {
        unsigned traces; ///< that count: with all that matters to the model
        unsigned spoilt;
        unsigned rejected; ///< of these
    } model[REPLAY_LETTERS];
    uint64_t seen[REPLAY_LETTERS][REPLAY_NUMBERS]; ///< how often, each transition
};

/// Replays a trace on the models of these letters; false: rejected (replay_why). For each model
/// that it counts for, one transition is spoilt, by `seed`, and the trace replayed again.
bool replay_judge(struct replay_stats *s, struct replay_trace *t, uint64_t seed,
                  const char *models);

/// Whether there are enough traces of every model that `models` (letters) names.
bool replay_enough(const struct replay_stats *s, const char *models);
/// One line a model.
void replay_print(const struct replay_stats *s);
/// Looks for each transition of the mapping (tests/model/*.pml in `folder`) of these models; prints
/// those that were never seen, and why that may be. False: one should have been.
bool replay_mapping_seen(const struct replay_stats *s, const char *folder, const char *models);

#endif
