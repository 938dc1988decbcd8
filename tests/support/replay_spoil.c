/* SPDX-License-Identifier: MIT */
/// See replay_spoil.h.
#include "replay_spoil.h"

const char *const spoil_names[SPOIL_KINDS] = {
    "dropped", "swapped with the next", "value changed", "object changed", "thread changed",
};

/// Stands where one was dropped: no model reads it.
static const struct replay_rec nothing = {.letter = 'A', .number = REPLAY_NUMBERS - 1};

static struct {
    size_t at;
    size_t other;
    struct replay_rec was;
    struct replay_rec was_other;
} spoilt;

/// The next transition of the model after `at`, or the same number of another object (`same`).
static size_t spoil_other(const struct replay_trace *t, const struct replay_model *m, size_t at,
                          bool same)
{
    const struct replay_rec *rec = &t->recs[at];
    size_t i = at + 1;

    for (; i < t->n; i++) {
        const struct replay_rec *other = &t->recs[i];

        if (same ? other->letter == rec->letter && other->number == rec->number &&
                       other->object != rec->object
                 : replay_reads(m, other->letter, other->number)) {
            break;
        }
    }
    return i;
}

/// Whether transitions of this sort have a value at all.
static bool has_value(const struct replay_trace *t, const struct replay_rec *of)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->recs[i].value != 0 && t->recs[i].letter == of->letter &&
            t->recs[i].number == of->number) {
            return true;
        }
    }
    return false;
}

bool spoil(struct replay_trace *t, const struct replay_model *m, size_t at, enum spoil how)
{
    struct replay_rec *rec = &t->recs[at];
    size_t other = at;

    if (how == SPOIL_SWAP || how == SPOIL_OBJECT) {
        other = spoil_other(t, m, at, how == SPOIL_OBJECT);
    }
    if (other == t->n || (how == SPOIL_VALUE && !has_value(t, rec))) {
        return false;
    }
    spoilt.at = at;
    spoilt.other = other;
    spoilt.was = *rec;
    spoilt.was_other = t->recs[other];
    switch (how) {
    case SPOIL_DROP:
        *rec = nothing;
        break;
    case SPOIL_SWAP:
        *rec = t->recs[other];
        t->recs[other] = spoilt.was;
        break;
    case SPOIL_VALUE:
        rec->value ^= 1;
        break;
    case SPOIL_OBJECT:
        rec->object = t->recs[other].object;
        break;
    default:
        rec->thread ^= 1;
        break;
    }
    return true;
}

void spoil_undo(struct replay_trace *t)
{
    t->recs[spoilt.other] = spoilt.was_other;
    t->recs[spoilt.at] = spoilt.was;
}
