/* SPDX-License-Identifier: MIT */
/// See replay_spoil.h.
#include "replay_spoil.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/// The model whose own transition it is.
static const struct replay_model *spoil_model(char letter)
{
    size_t i = 0;

    while (replay_models[i]->letter != letter) {
        i++;
    }
    return replay_models[i];
}

/// Whether the transition's model lets a spoilt one pass.
static bool passes(struct replay_trace *t, size_t at, enum spoil how, unsigned *tried)
{
    const struct replay_model *m = spoil_model(t->recs[at].letter);
    bool pass;

    if (!spoil(t, m, at, how)) {
        return false;
    }
    pass = replay_check(m, t);
    spoil_undo(t);
    (*tried)++;
    return pass;
}

bool spoil_sorts(struct replay_trace *t, const char *models, const struct spoil_sort *sorts,
                 size_t n, unsigned each, unsigned *tried)
{
    for (size_t i = 0; i < n; i++) {
        unsigned limit = tried[i] + (strchr(models, sorts[i].id[0]) != NULL ? each : 0);

        for (size_t at = 0; at < t->n && tried[i] < limit; at++) {
            if (t->recs[at].letter == sorts[i].id[0] &&
                t->recs[at].number == (unsigned)atoi(sorts[i].id + 1) &&
                passes(t, at, sorts[i].how, &tried[i])) {
                (void)fprintf(stderr, "%s %s at %zu passes\n", sorts[i].id,
                              spoil_names[sorts[i].how], at);
                return false;
            }
        }
    }
    return true;
}

/// One model's transitions, one in eight of each number.
static void spoil_print_model(struct replay_trace *t, const struct replay_model *m)
{
    unsigned kept[REPLAY_NUMBERS][SPOIL_KINDS] = {{0}};
    unsigned tried[REPLAY_NUMBERS][SPOIL_KINDS] = {{0}};
    unsigned n[REPLAY_NUMBERS] = {0};

    for (size_t at = 0; at < t->n; at++) {
        unsigned number = t->recs[at].number;

        if (t->recs[at].letter != m->letter || n[number]++ % 8 != 0) {
            continue;
        }
        for (unsigned how = 0; how < SPOIL_KINDS; how++) {
            kept[number][how] += passes(t, at, (enum spoil)how, &tried[number][how]);
        }
    }
    for (unsigned k = 0; k < REPLAY_NUMBERS; k++) {
        for (unsigned how = 0; how < SPOIL_KINDS; how++) {
            if (tried[k][how] > 0) {
                (void)printf("%s: %c%u %s: %u of %u are legal\n", m->name, m->letter, k,
                             spoil_names[how], kept[k][how], tried[k][how]);
            }
        }
    }
}

void spoil_print(struct replay_trace *t)
{
    for (size_t i = 0; i < replay_model_count; i++) {
        spoil_print_model(t, replay_models[i]);
    }
}
