/* SPDX-License-Identifier: MIT */
/// Replays what the core did (core/trace.h) on the models of tests/model: records a run, and lets
/// each model's state machine say whether every transition was enabled, with the value that it had.
/// For simulations, where one thread runs at a time; how many there are does not matter. Not for
/// several threads at once.
#ifndef SP_TEST_REPLAY_H
#define SP_TEST_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPLAY_THREADS 32
#define REPLAY_NUMBERS 64 // of the transitions of a letter
#define REPLAY_LETTERS 15 // A to O

/* ------------------------------------------------------------------ Recording */

struct replay_rec {
    const void *object;
    uint64_t value;
    uint8_t thread; ///< see `threads`
    char letter;    ///< of the transition, as in the mapping
    uint8_t number;
};

struct replay_trace {
    struct replay_rec *recs;
    size_t n;
    size_t cap;
    const void *threads[REPLAY_THREADS]; ///< the core's records, by number
    unsigned n_threads;
};

/// Begins to record into `t`, which is emptied; the library must be down. False: this build has no
/// trace.
bool replay_record(struct replay_trace *t);
/// No more. The library must be down, or no other thread in it.
void replay_record_end(void);
void replay_free(struct replay_trace *t);

/* ------------------------------------------------------------------ Checking */

struct replay_model {
    const char *name;  ///< of tests/model/NAME.pml
    char letter;       ///< of its transitions
    const char *reads; ///< what its machine looks at: letters for all of a letter, or "F5"
    const char *only;  ///< what comes only where it is expected
    const char *core;  ///< a trace in which one of these is missing does not count
    void (*begin)(void);
    bool (*step)(const struct replay_rec *rec);
    bool (*end)(void); ///< all is down
};

extern const struct replay_model *const replay_models[];
extern const size_t replay_model_count;

/// One model's verdict on a trace; false: rejected, see replay_why.
bool replay_check(const struct replay_model *m, const struct replay_trace *t);
/// All models'.
bool replay_check_all(const struct replay_trace *t);
/// Model, position and reason of the last rejection, and what came before it.
const char *replay_why(void);
/// The position of the last rejection.
size_t replay_where(void);
/// Whether a trace has all that the model wants of one that counts.
bool replay_counts(const struct replay_model *m, const struct replay_trace *t);
/// Whether the model's machine looks at a transition.
bool replay_reads(const struct replay_model *m, char letter, unsigned number);

/* ------------------------------------------------------------------ For the machines */

/// Says why the trace is rejected; returns false.
bool replay_no(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define REPLAY_NEED(cond, ...)                                                                     \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            return replay_no(__VA_ARGS__);                                                         \
        }                                                                                          \
    } while (0)

/// The next transition of this thread that the model reads must be this one, about this object,
/// after what is expected already.
void replay_expect(unsigned thread, char letter, unsigned number, const void *object);
/// Whether this step was expected.
bool replay_was_expected(void);
/// The core's record of a thread.
const void *replay_thread(unsigned thread);
/// The number of the thread with this record; REPLAY_THREADS: none.
unsigned replay_thread_number(const void *thread);

/// What a machine knows about objects, by address. Entries stay where they are.
struct replay_map {
    size_t size; ///< of an entry
    struct replay_slot {
        const void *key;
        void *entry;
        bool live;
    } * slots;
    size_t cap;
    size_t used;
};

void *replay_get(const struct replay_map *map, const void *key); ///< NULL: none
void *replay_put(struct replay_map *map, const void *key);       ///< new, zeroed
void *replay_have(struct replay_map *map, const void *key);      ///< get, or put
void replay_del(struct replay_map *map, const void *key);
void replay_clear(struct replay_map *map);
/// The next live entry from `*at` on (start at 0); NULL: no more.
void *replay_next(const struct replay_map *map, size_t *at);

/// Threads that wait, in order: the core's records.
struct replay_list {
    const void *of[REPLAY_THREADS];
    unsigned n;
};

bool replay_list_add(struct replay_list *list, const void *thread);
bool replay_list_has(const struct replay_list *list, const void *thread);
void replay_list_remove(struct replay_list *list, const void *thread);
/// Whether popping the first gives `got` (NULL: the list is empty); takes it out.
bool replay_list_pop(struct replay_list *list, const void *got);

#endif
