/* SPDX-License-Identifier: MIT */
/// See replay_stats.h.
#include "replay_stats.h"

#include "replay_spoil.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/// Transitions that have no record of their own, or are seen in some runs only.
static const struct {
    const char *id;
    const char *in; ///< the one that shows it, or that it stands before; NULL: none
    const char *why;
} unseen[] = {
    {"A12", "B1", NULL},     {"A17", NULL, "the futex: simulations park without it"},
    {"A18", NULL, "as A17"}, {"A19", NULL, "as A17"},
    {"A20", NULL, "as A17"}, {"B11", "G15", NULL},
    {"B14", "A14", NULL},    {"B20", "B18", NULL},
    {"C2", "C20", NULL},     {"C3", "A11", NULL},
    {"C4", "A13", NULL},     {"C6", "A15", NULL},
    {"C10", "B10", NULL},    {"C12", "B13", NULL},
    {"C15", "B2", NULL},     {"C21", "B17", NULL},
    {"C22", "A14", NULL},    {"D5", "C13", NULL},
    {"E8", "C13", NULL},     {"F1", "F2", NULL},
    {"F6", "F9", NULL},      {"F8", "F9", NULL},
    {"F10", "F9", NULL},     {"F13", "F12", NULL},
    {"F15", "F12", NULL},    {"F16", "F7", NULL},
    {"F18", "F9", NULL},     {"F19", "F4", NULL},
    {"F20", "F12", NULL},    {"G6", "A8", NULL},
    {"G18", "C5", NULL},     {"G19", "F9", NULL},
    {"G20", "A9", NULL},     {"H3", "H4", NULL},
    {"H8", "H4", NULL},      {"H16", "H1", NULL},
    {"H17", "H1", NULL},     {"H18", NULL, "what a watch asks for is not recorded"},
    {"H19", "H4", NULL},     {"H20", NULL, "as H18"},
    {"H21", NULL, "as H18"}, {"I1", "H7", NULL},
    {"I8", "H11", NULL},     {"I16", "H10", NULL},
    {"I17", "H10", NULL},    {"I18", "H5", NULL},
    {"I19", "H11", NULL},    {"J6", "B15", NULL},
    {"J7", "C27", NULL},     {"J8", "C28", NULL},
    {"J9", "C25", NULL},     {"J10", "B1", NULL},
    {"J11", "B29", NULL},    {"J12", "B29", NULL},
    {"J13", "B29", NULL},    {"J15", "C5", NULL},
    {"J16", "B31", NULL},    {"J17", "C7", NULL},
    {"J18", "B30", NULL},    {"J19", "B30", NULL},
    {"J22", "G13", NULL},    {"J23", "B4", NULL},
    {"J24", "G16", NULL},    {"K2", "A23", NULL},
    {"K4", "A24", NULL},     {"K12", "K10", NULL},
    {"K17", "B1", NULL},     {"K18", "B32", NULL},
    {"K19", "B6", NULL},     {"K20", "B7", NULL},
    {"K21", "B1", NULL},     {"K23", "K22", NULL},
    {"K25", "B31", NULL},    {"M1", "M14", NULL},
    {"M2", "D3", NULL},      {"M3", "M15", NULL},
    {"M4", "M16", NULL},     {"M5", "M14", NULL},
    {"M6", "M15", NULL},     {"M7", "M15", NULL},
    {"M8", "M14", NULL},     {"O13", "O7", NULL},
    {"O18", "O7", NULL},     {"B39", "B37", "the guard is hardly ever stuck"},
    {"B40", "A25", NULL},    {"B45", "A25", NULL},
    {"B46", "B29", NULL},    {"B41", "B22", NULL},
};

/// splitmix64.
static uint64_t mix(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static void spoil_one(struct replay_stats *s, struct replay_trace *t, size_t model, uint64_t seed)
{
    const struct replay_model *m = replay_models[model];
    size_t at = (size_t)(mix(&seed) % t->n);
    enum spoil how = (enum spoil)(mix(&seed) % SPOIL_KINDS);

    while (t->recs[at].letter != m->letter) {
        at = (at + 1) % t->n;
    }
    if (spoil(t, m, at, how)) {
        s->model[model].spoilt++;
        s->model[model].rejected += !replay_check(m, t);
        spoil_undo(t);
    }
}

bool replay_judge(struct replay_stats *s, struct replay_trace *t, uint64_t seed, const char *models)
{
    for (size_t i = 0; i < t->n; i++) {
        if (strchr(models, t->recs[i].letter) != NULL) {
            s->seen[t->recs[i].letter - 'A'][t->recs[i].number]++;
        }
    }
    for (size_t i = 0; i < replay_model_count; i++) {
        const struct replay_model *m = replay_models[i];

        if (strchr(models, m->letter) != NULL && !replay_check(m, t)) {
            return false;
        }
    }
    for (size_t i = 0; i < replay_model_count; i++) {
        const struct replay_model *m = replay_models[i];

        if (strchr(models, m->letter) != NULL && replay_counts(m, t)) {
            s->model[i].traces++;
            spoil_one(s, t, i, seed + i);
        }
    }
    return true;
}

bool replay_enough(const struct replay_stats *s, const char *models)
{
    for (size_t i = 0; i < replay_model_count; i++) {
        if (strchr(models, replay_models[i]->letter) != NULL &&
            s->model[i].traces < REPLAY_TRACES) {
            return false;
        }
    }
    return true;
}

void replay_print(const struct replay_stats *s)
{
    for (size_t i = 0; i < replay_model_count; i++) {
        uint64_t n = 0;

        for (unsigned k = 0; k < REPLAY_NUMBERS; k++) {
            n += s->seen[replay_models[i]->letter - 'A'][k];
        }
        (void)printf("%-8s %6u traces, %10" PRIu64 " transitions; spoilt %6u, rejected %6u\n",
                     replay_models[i]->name, s->model[i].traces, n, s->model[i].spoilt,
                     s->model[i].rejected);
    }
}

static uint64_t seen_id(const struct replay_stats *s, const char *id)
{
    return s->seen[id[0] - 'A'][atoi(id + 1)];
}

static bool mapped_seen(const struct replay_stats *s, const char *id)
{
    if (seen_id(s, id) > 0) {
        return true;
    }
    for (size_t i = 0; i < sizeof(unseen) / sizeof(unseen[0]); i++) {
        if (strcmp(unseen[i].id, id) != 0) {
            continue;
        }
        if (unseen[i].in == NULL) {
            (void)printf("%s cannot occur: %s\n", id, unseen[i].why);
            return true;
        }
        if (unseen[i].why != NULL) {
            (void)printf("%s was not seen, but for %s: %s\n", id, unseen[i].in, unseen[i].why);
        }
        return seen_id(s, unseen[i].in) > 0;
    }
    return false;
}

bool replay_mapping_seen(const struct replay_stats *s, const char *folder, const char *models)
{
    bool all = true;

    for (size_t i = 0; i < replay_model_count; i++) {
        char line[512];
        char id[8];
        unsigned mapped = 0;
        FILE *f;

        if (strchr(models, replay_models[i]->letter) == NULL) {
            continue;
        }
        (void)snprintf(line, sizeof(line), "%s/%s.pml", folder, replay_models[i]->name);
        f = fopen(line, "r");
        while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
            if (sscanf(line, " * map: %7s", id) == 1) {
                mapped++;
                if (!mapped_seen(s, id)) {
                    (void)printf("%s: %s was never seen\n", replay_models[i]->name, id);
                    all = false;
                }
            }
        }
        if (f != NULL) {
            (void)fclose(f);
        }
        if (mapped == 0) {
            (void)printf("%s: no mapping in %s\n", replay_models[i]->name, folder);
            all = false;
        }
    }
    return all;
}
