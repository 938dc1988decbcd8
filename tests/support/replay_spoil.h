/* SPDX-License-Identifier: MIT */
/// Spoils a recorded trace, for the test of the replay: it must say no.
#ifndef SP_TEST_REPLAY_SPOIL_H
#define SP_TEST_REPLAY_SPOIL_H

#include "replay.h"

enum spoil {
    SPOIL_DROP,   ///< a transition is missing
    SPOIL_SWAP,   ///< it changes places with the next one of the model
    SPOIL_VALUE,  ///< its value is another one
    SPOIL_OBJECT, ///< it is about something else
    SPOIL_THREAD, ///< another thread did it
    SPOIL_KINDS
};

extern const char *const spoil_names[SPOIL_KINDS];

/// Spoils the transition at `at`, which model `m` reads. False: it cannot be spoilt so (nothing
/// follows, nothing else is there).
bool spoil(struct replay_trace *t, const struct replay_model *m, size_t at, enum spoil how);
/// As it was before the last spoil.
void spoil_undo(struct replay_trace *t);

#endif
