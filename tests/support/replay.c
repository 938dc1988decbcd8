/* SPDX-License-Identifier: MIT */
/// Recording, what the machines have in common, and the loop over a trace.
#include "replay.h"

#include "thread.h"
#include "trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECTED_MAX 4
#define BEFORE 12 // transitions shown before a rejected one

/* ------------------------------------------------------------------ Recording */

#ifdef SP_TRACE
static struct replay_trace *recording;

/// A thread goes by its record in the library, one that has none by a place of its own. Not by
/// sp__self, which makes a record, and with that lets other threads run.
static unsigned record_thread(struct replay_trace *t)
{
    static _Thread_local char place;
    const void *self = sp__thread_current != NULL ? (const void *)sp__thread_current : &place;
    unsigned i = 0;

    while (i < t->n_threads && t->threads[i] != self) {
        i++;
    }
    if (i == t->n_threads) {
        if (i == REPLAY_THREADS) {
            abort();
        }
        t->threads[t->n_threads++] = self;
    }
    return i;
}

static void record(const char *id, const void *object, uint64_t value)
{
    struct replay_trace *t = recording;
    struct replay_rec *rec;

    if (t->n == t->cap) {
        t->cap = t->cap > 0 ? 2 * t->cap : 65536;
        t->recs = realloc(t->recs, t->cap * sizeof(*t->recs));
        if (t->recs == NULL) {
            abort();
        }
    }
    rec = &t->recs[t->n++];
    rec->object = object;
    rec->value = value;
    rec->thread = (uint8_t)record_thread(t);
    rec->letter = id[0];
    rec->number = (uint8_t)(id[2] == '\0' ? id[1] - '0' : 10 * (id[1] - '0') + id[2] - '0');
}

bool replay_record(struct replay_trace *t)
{
    t->n = 0;
    t->n_threads = 0;
    recording = t;
    sp__trace_hook = record;
    return true;
}

void replay_record_end(void)
{
    sp__trace_hook = NULL;
}
#else
bool replay_record(struct replay_trace *t)
{
    t->n = 0;
    return false;
}

void replay_record_end(void)
{
}
#endif

void replay_free(struct replay_trace *t)
{
    free(t->recs);
    memset(t, 0, sizeof(*t));
}

/* ------------------------------------------------------------------ Objects */

static struct replay_slot *map_slot(const struct replay_map *map, const void *key)
{
    uint64_t hash = (uint64_t)(uintptr_t)key * UINT64_C(0x9E3779B97F4A7C15);
    size_t at = (size_t)(hash >> 32) & (map->cap - 1);

    while (map->slots[at].entry != NULL && map->slots[at].key != key) {
        at = (at + 1) & (map->cap - 1);
    }
    return &map->slots[at];
}

void *replay_get(const struct replay_map *map, const void *key)
{
    struct replay_slot *slot = map->cap > 0 ? map_slot(map, key) : NULL;

    return slot != NULL && slot->live ? slot->entry : NULL;
}

static void map_grow(struct replay_map *map)
{
    struct replay_map old = *map;

    map->cap = old.cap > 0 ? 2 * old.cap : 256;
    map->slots = calloc(map->cap, sizeof(*map->slots));
    if (map->slots == NULL) {
        abort();
    }
    for (size_t i = 0; i < old.cap; i++) {
        if (old.slots[i].entry != NULL) {
            *map_slot(map, old.slots[i].key) = old.slots[i];
        }
    }
    free(old.slots);
}

void *replay_put(struct replay_map *map, const void *key)
{
    struct replay_slot *slot;

    if (2 * map->used >= map->cap) {
        map_grow(map);
    }
    slot = map_slot(map, key);
    if (slot->entry == NULL) {
        map->used++;
        slot->key = key;
        slot->entry = malloc(map->size);
        if (slot->entry == NULL) {
            abort();
        }
    }
    slot->live = true;
    memset(slot->entry, 0, map->size);
    return slot->entry;
}

void *replay_have(struct replay_map *map, const void *key)
{
    void *entry = replay_get(map, key);

    return entry != NULL ? entry : replay_put(map, key);
}

void replay_del(struct replay_map *map, const void *key)
{
    struct replay_slot *slot = map->cap > 0 ? map_slot(map, key) : NULL;

    if (slot != NULL) {
        slot->live = false;
    }
}

void replay_clear(struct replay_map *map)
{
    for (size_t i = 0; i < map->cap; i++) {
        free(map->slots[i].entry);
    }
    free(map->slots);
    map->slots = NULL;
    map->cap = 0;
    map->used = 0;
}

void *replay_next(const struct replay_map *map, size_t *at)
{
    for (; *at < map->cap; (*at)++) {
        if (map->slots[*at].live) {
            return map->slots[(*at)++].entry;
        }
    }
    return NULL;
}

bool replay_list_add(struct replay_list *list, const void *thread)
{
    if (list->n == REPLAY_THREADS || replay_list_has(list, thread)) {
        return false;
    }
    list->of[list->n++] = thread;
    return true;
}

bool replay_list_has(const struct replay_list *list, const void *thread)
{
    for (unsigned i = 0; i < list->n; i++) {
        if (list->of[i] == thread) {
            return true;
        }
    }
    return false;
}

void replay_list_remove(struct replay_list *list, const void *thread)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < list->n; i++) {
        if (list->of[i] != thread) {
            list->of[kept++] = list->of[i];
        }
    }
    list->n = kept;
}

bool replay_list_pop(struct replay_list *list, const void *got)
{
    const void *first = list->n > 0 ? list->of[0] : NULL;

    if (first != NULL) {
        replay_list_remove(list, first);
    }
    return first == got;
}

/* ------------------------------------------------------------------ One model, one trace */

static struct {
    const struct replay_model *model;
    const struct replay_trace *trace;
    size_t at;
    char why[400];
    char text[2400];
    struct replay_expected {
        char letter;
        unsigned number;
        const void *object;
    } expected[REPLAY_THREADS][EXPECTED_MAX];
    unsigned n_expected[REPLAY_THREADS];
    bool was_expected;
} run;

bool replay_no(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(run.why, sizeof(run.why), format, args);
    va_end(args);
    return false;
}

void replay_expect(unsigned thread, char letter, unsigned number, const void *object)
{
    if (run.n_expected[thread] == EXPECTED_MAX) {
        abort();
    }
    run.expected[thread][run.n_expected[thread]++] = (struct replay_expected){letter, number,
                                                                              object};
}

bool replay_was_expected(void)
{
    return run.was_expected;
}

const void *replay_thread(unsigned thread)
{
    return run.trace->threads[thread];
}

unsigned replay_thread_number(const void *thread)
{
    for (unsigned i = 0; i < run.trace->n_threads; i++) {
        if (run.trace->threads[i] == thread) {
            return i;
        }
    }
    return REPLAY_THREADS;
}

/// What a list of letters and transitions names: a bit for each number, by letter.
static void parse(const char *list, uint64_t bits[REPLAY_LETTERS])
{
    memset(bits, 0, REPLAY_LETTERS * sizeof(bits[0]));
    while (*list != '\0') {
        unsigned letter = (unsigned)(*list++ - 'A');
        char *end;
        unsigned long number = strtoul(list, &end, 10);

        bits[letter] |= end == list ? UINT64_MAX : UINT64_C(1) << number;
        for (list = end; *list == ' '; list++) {
        }
    }
}

static bool has(const uint64_t bits[REPLAY_LETTERS], char letter, unsigned number)
{
    return (bits[letter - 'A'] >> number & 1) != 0;
}

bool replay_reads(const struct replay_model *m, char letter, unsigned number)
{
    uint64_t bits[REPLAY_LETTERS];

    parse(m->reads, bits);
    return has(bits, letter, number);
}

/// What this thread must do next, if anything; and what it must not do otherwise.
static bool as_expected(const struct replay_rec *rec, const uint64_t only[REPLAY_LETTERS])
{
    struct replay_expected *list = run.expected[rec->thread];

    run.was_expected = run.n_expected[rec->thread] > 0;
    if (!run.was_expected) {
        return !has(only, rec->letter, rec->number) || replay_no("what leads to it is missing");
    }
    REPLAY_NEED(list->letter == rec->letter && list->number == rec->number &&
                    list->object == rec->object,
                "%c%u about %p must come here", list->letter, list->number, list->object);
    run.n_expected[rec->thread]--;
    memmove(list, list + 1, run.n_expected[rec->thread] * sizeof(*list));
    return true;
}

static bool nothing_expected(void)
{
    for (unsigned i = 0; i < REPLAY_THREADS; i++) {
        if (run.n_expected[i] > 0) {
            return replay_no("%c%u of thread %u is missing", run.expected[i][0].letter,
                             run.expected[i][0].number, i);
        }
    }
    return true;
}

/// Writes down why, with what the model saw last.
static void rejected(const uint64_t reads[REPLAY_LETTERS])
{
    const struct replay_trace *t = run.trace;
    size_t from = run.at;
    int len = snprintf(run.text, sizeof(run.text), "%s: position %zu of %zu: %s\n", run.model->name,
                       run.at, t->n, run.why);

    for (unsigned seen = 0; from > 0 && seen < BEFORE; from--) {
        seen += has(reads, t->recs[from - 1].letter, t->recs[from - 1].number);
    }
    for (size_t i = from; i <= run.at && i < t->n && len < (int)sizeof(run.text) - 100; i++) {
        const struct replay_rec *rec = &t->recs[i];

        if (has(reads, rec->letter, rec->number)) {
            len += snprintf(run.text + len, sizeof(run.text) - (size_t)len,
                            "    %zu: thread %u: %c%u %p 0x%llx\n", i, rec->thread, rec->letter,
                            rec->number, rec->object, (unsigned long long)rec->value);
        }
    }
}

bool replay_check(const struct replay_model *m, const struct replay_trace *t)
{
    uint64_t reads[REPLAY_LETTERS];
    uint64_t only[REPLAY_LETTERS];
    bool ok = true;

    parse(m->reads, reads);
    parse(m->only, only);
    memset(&run, 0, sizeof(run));
    run.model = m;
    run.trace = t;
    m->begin();
    for (; ok && run.at < t->n; run.at += ok) {
        const struct replay_rec *rec = &t->recs[run.at];

        if (has(reads, rec->letter, rec->number)) {
            ok = as_expected(rec, only) && m->step(rec);
        }
    }
    ok = ok && nothing_expected() && m->end();
    if (!ok) {
        rejected(reads);
    }
    return ok;
}

bool replay_check_all(const struct replay_trace *t)
{
    for (size_t i = 0; i < replay_model_count; i++) {
        if (!replay_check(replay_models[i], t)) {
            return false;
        }
    }
    return true;
}

const char *replay_why(void)
{
    return run.text;
}

size_t replay_where(void)
{
    return run.at;
}

bool replay_counts(const struct replay_model *m, const struct replay_trace *t)
{
    uint64_t core[REPLAY_LETTERS];
    uint64_t missing = 0;

    parse(m->core, core);
    for (size_t i = 0; i < t->n; i++) {
        core[t->recs[i].letter - 'A'] &= ~(UINT64_C(1) << t->recs[i].number);
    }
    for (unsigned i = 0; i < REPLAY_LETTERS; i++) {
        missing |= core[i];
    }
    return missing == 0;
}
