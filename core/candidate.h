/* SPDX-License-Identifier: MIT */
/// Candidates: what they provide, and opening them to be sure. Called under the registry's mutex.
#ifndef SP_CORE_CANDIDATE_H
#define SP_CORE_CANDIDATE_H

#include "search.h"

/// Opens a candidate that policy admits and checks it: sets `desc`, or `err` and `why`. Once a
/// candidate.
void sp__candidate_examine(struct sp__candidate *c);

/// Examines the candidates of a directory that have no manifest, because only they can say what
/// they provide.
void sp__candidate_ask(struct sp__search *s, const struct sp__search_dir *dir);

/// Refuses `c` when another candidate of its directory, which policy admits too, provides one of
/// its names.
void sp__candidate_check_twin(const struct sp__search *s, struct sp__candidate *c);

/// The i-th name of `c`, by manifest or else by descriptor; false: there are no more.
bool sp__candidate_claim(const struct sp__candidate *c, size_t i, sp_kind *kind, const char **name);
/// True when `c` provides the name; `kind` 0: of any kind.
bool sp__candidate_claims(const struct sp__candidate *c, sp_kind kind, const char *name);
/// True when `c` was refused before it could say what it provides.
bool sp__candidate_silent(const struct sp__candidate *c);

#endif
