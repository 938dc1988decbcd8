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

/// A sort of spoilt traces that no model may let pass, wherever they are spoilt.
struct spoil_sort {
    const char *id;
    enum spoil how;
};

/// Spoils up to `each` transitions of every sort that one of `models` (letters) judges, and adds to
/// `tried`, by sort, how many. False: the transition's model lets one pass, which is printed.
bool spoil_sorts(struct replay_trace *t, const char *models, const struct spoil_sort *sorts,
                 size_t n, unsigned each, unsigned *tried);
/// Spoils transitions of each number in every way, and prints how many pass.
void spoil_print(struct replay_trace *t);

#endif
