/* SPDX-License-Identifier: MIT */
/// Many seeds of each scenario of the simulation with threads. Every seed runs in a process of its
/// own, so that it finds what it would find alone, and its end, however bad, is seen. A failing
/// seed prints the command that replays it. [main]
#include "scenario.h"

#include "core/pool.h"
#include "core/scope.h"
#include "core/thread.h"
#include "replay_spoil.h"
#include "replay_stats.h"

#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SCENARIOS_MAX 24
#define SLOTS_SIZE 24576 // of a part of the table of handles (core/object.c)
#define ALARM 60         // s of real time that one run may take

// Sanitizers slow a run down; then there are fewer of them, and the output says so.
#if defined(SIM_TSAN)
#define SEEDS 100
#define SEEDS_WHY " (ThreadSanitizer: fewer than 1000)"
#elif defined(SIM_ASAN)
#define SEEDS 300
#define SEEDS_WHY " (AddressSanitizer: fewer than 1000)"
#else
#define SEEDS 1000
#define SEEDS_WHY ""
#endif

#ifdef SIM_COVERAGE
void __gcov_dump(void);
#endif

static struct {
    const struct scenario *scenario[SCENARIOS_MAX];
    unsigned n;
    unsigned async; ///< from here on scenarios of the asynchronous API, with twice as many seeds
    uint64_t first;
    uint64_t count;
    const char *program;
    const struct scenario *running;
    uint64_t seed;
    struct sim_result *result; ///< shared with the children, as `stats`
    struct replay_stats *stats;
    struct replay_trace trace; ///< of the child
    enum { SPOIL_NOT, SPOIL_CHOSEN, SPOIL_ALL } spoil;
    unsigned *tried; ///< of each chosen sort; shared
} test = {.first = 1};

static void replay_hint(void)
{
    (void)fprintf(stderr, "last error: %s\nreplay: %s %s %" PRIu64 "\n", sp_error_detail(),
                  test.program, test.running->name, test.seed);
}

/// Nothing is left but what the library keeps for ever: threads' records, the main thread's scratch
/// memory, the table of handles.
static void check_memory(void)
{
    size_t kept = 0;

    for (struct sp__thread *t = sp__threads(); t != NULL; t = t->next) {
        kept += t->scratch != NULL ? 2 : 1;
    }
    sp__pool_flush(sp__self());
    sp__pool_drain();
    kept += sim_blocks(SLOTS_SIZE) + sp__scopes_kept();
    if (sim_blocks(0) != kept) {
        sim_fail("%zu blocks of memory are left, %zu were expected", sim_blocks(0), kept);
    }
    sim_check_freed();
}

/// What cmocka catches and would go on after, in the child too.
static const int deadly[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS};
static struct sigaction before_cmocka[sizeof(deadly) / sizeof(deadly[0])];

static void signals_keep(void)
{
    for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++) {
        (void)sigaction(deadly[i], NULL, &before_cmocka[i]);
    }
}

static void signals_restore(void)
{
    for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++) {
        (void)sigaction(deadly[i], &before_cmocka[i], NULL);
    }
}

/// The models that know what happens in a scenario.
static const char *models_of(const struct scenario *s)
{
    return s->operations ? "NO" : REPLAY_ALL;
}

/// What the run did, transition by transition, is what the models say (debug builds).
static void check_trace(const struct scenario *s)
{
    if (!replay_judge(test.stats, &test.trace, test.seed, models_of(s))) {
        sim_fail("not what the models say: %s", replay_why());
    }
}

/// These no model may let pass, wherever they are; of the other models trace_test has some.
static const struct spoil_sort chosen[] = {
    {"I2", SPOIL_DROP},    {"I2", SPOIL_VALUE},   {"I2", SPOIL_OBJECT},  {"I3", SPOIL_VALUE},
    {"I4", SPOIL_DROP},    {"I5", SPOIL_DROP},    {"I5", SPOIL_VALUE},   {"I6", SPOIL_DROP},
    {"I6", SPOIL_VALUE},   {"I6", SPOIL_THREAD},  {"I7", SPOIL_VALUE},   {"I7", SPOIL_THREAD},
    {"I9", SPOIL_THREAD},  {"I11", SPOIL_DROP},   {"I11", SPOIL_VALUE},  {"I13", SPOIL_VALUE},
    {"I14", SPOIL_VALUE},  {"I20", SPOIL_OBJECT}, {"J1", SPOIL_DROP},    {"J1", SPOIL_VALUE},
    {"J1", SPOIL_THREAD},  {"J3", SPOIL_DROP},    {"J3", SPOIL_VALUE},   {"J4", SPOIL_DROP},
    {"J4", SPOIL_VALUE},   {"J4", SPOIL_OBJECT},  {"J14", SPOIL_DROP},   {"K1", SPOIL_DROP},
    {"K1", SPOIL_VALUE},   {"K3", SPOIL_DROP},    {"K3", SPOIL_VALUE},   {"K5", SPOIL_DROP},
    {"K6", SPOIL_VALUE},   {"K7", SPOIL_DROP},    {"K7", SPOIL_VALUE},   {"K8", SPOIL_DROP},
    {"K8", SPOIL_OBJECT},  {"K10", SPOIL_VALUE},  {"K11", SPOIL_DROP},   {"K14", SPOIL_DROP},
    {"K14", SPOIL_VALUE},  {"K16", SPOIL_DROP},   {"K24", SPOIL_DROP},   {"K26", SPOIL_DROP},
    {"K26", SPOIL_VALUE},  {"K27", SPOIL_VALUE},  {"K28", SPOIL_DROP},   {"L1", SPOIL_DROP},
    {"L1", SPOIL_VALUE},   {"L2", SPOIL_DROP},    {"L3", SPOIL_DROP},    {"L3", SPOIL_VALUE},
    {"L3", SPOIL_OBJECT},  {"L4", SPOIL_DROP},    {"L4", SPOIL_VALUE},   {"L5", SPOIL_DROP},
    {"L5", SPOIL_VALUE},   {"L6", SPOIL_DROP},    {"L6", SPOIL_THREAD},  {"M0", SPOIL_DROP},
    {"M9", SPOIL_DROP},    {"M9", SPOIL_VALUE},   {"M9", SPOIL_THREAD},  {"M10", SPOIL_THREAD},
    {"M11", SPOIL_DROP},   {"M11", SPOIL_VALUE},  {"M11", SPOIL_OBJECT}, {"M12", SPOIL_VALUE},
    {"M12", SPOIL_THREAD}, {"M13", SPOIL_DROP},   {"M13", SPOIL_VALUE},  {"M13", SPOIL_OBJECT},
    {"M14", SPOIL_VALUE},  {"M15", SPOIL_VALUE},  {"M16", SPOIL_THREAD}, {"M18", SPOIL_THREAD},
    {"M20", SPOIL_DROP},   {"M21", SPOIL_DROP},   {"N0", SPOIL_DROP},    {"N1", SPOIL_DROP},
    {"N1", SPOIL_VALUE},   {"N1", SPOIL_THREAD},  {"N1", SPOIL_OBJECT},  {"N2", SPOIL_DROP},
    {"N2", SPOIL_THREAD},  {"N3", SPOIL_DROP},    {"N4", SPOIL_VALUE},   {"N4", SPOIL_DROP},
    {"N5", SPOIL_DROP},    {"N6", SPOIL_DROP},    {"N11", SPOIL_VALUE},  {"N6", SPOIL_THREAD},
    {"O0", SPOIL_DROP},    {"O1", SPOIL_VALUE},   {"O2", SPOIL_DROP},    {"O2", SPOIL_VALUE},
    {"O2", SPOIL_THREAD},  {"O3", SPOIL_DROP},    {"O4", SPOIL_DROP},    {"O4", SPOIL_VALUE},
    {"O4", SPOIL_THREAD},  {"O5", SPOIL_DROP},    {"O5", SPOIL_VALUE},   {"O5", SPOIL_THREAD},
    {"O6", SPOIL_DROP},    {"O6", SPOIL_VALUE},   {"O7", SPOIL_DROP},    {"O8", SPOIL_DROP},
    {"O8", SPOIL_THREAD},  {"O9", SPOIL_DROP},    {"O9", SPOIL_VALUE},   {"O9", SPOIL_THREAD},
    {"O11", SPOIL_VALUE},  {"O12", SPOIL_DROP},   {"O15", SPOIL_VALUE},  {"O16", SPOIL_DROP},
    {"O16", SPOIL_THREAD}, {"O19", SPOIL_VALUE},  {"O21", SPOIL_DROP},   {"O21", SPOIL_THREAD},
    {"N7", SPOIL_DROP},    {"N7", SPOIL_THREAD},  {"N9", SPOIL_DROP},    {"N11", SPOIL_DROP},
};

#define CHOSEN (sizeof(chosen) / sizeof(chosen[0]))
#define CHOSEN_SEEDS 16 // of each scenario; more, while a sort is missing, up to
#define CHOSEN_SEEDS_MAX 500
#define CHOSEN_EACH 10 // of a sort, in one trace

/// Spoils the trace, if that is what this run is for.
static void spoil_trace(const struct scenario *s)
{
    if (test.spoil == SPOIL_ALL) {
        spoil_print(&test.trace);
    } else if (test.spoil == SPOIL_CHOSEN &&
               !spoil_sorts(&test.trace, models_of(s), chosen, CHOSEN, CHOSEN_EACH, test.tried)) {
        sim_fail("a spoilt trace passes");
    }
}

/// One run, in a process of its own.
static _Noreturn void run_child(const struct scenario *s, uint64_t seed)
{
    bool traced;

    signals_restore();
    (void)alarm(ALARM);
    sim_on_fail(replay_hint);
    sp__platform = &sim_platform;
    sim_begin(seed);
    traced = replay_record(&test.trace);
    s->run();
    replay_record_end();
    check_memory();
    if (traced) {
        check_trace(s);
        spoil_trace(s);
    }
    sim_end(test.result);
#ifdef SIM_COVERAGE
    __gcov_dump();
#endif
    _exit(0);
}

static bool run_seed(const struct scenario *s, uint64_t seed)
{
    int status;
    pid_t child;

    test.running = s;
    test.seed = seed;
    memset(test.result, 0, sizeof(*test.result));
    child = fork();
    if (child == 0) {
        run_child(s, seed);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        (void)fprintf(stderr, "cannot run a child\n");
        return false;
    }
    if (WIFSIGNALED(status)) {
        (void)fprintf(stderr, "%s\n", strsignal(WTERMSIG(status)));
    }
    if (status != 0 && WEXITSTATUS(status) != SIM_FAILED) {
        replay_hint();
    }
    return status == 0;
}

static uint64_t seeds_of(const struct scenario *s)
{
    unsigned i = 0;

    while (test.scenario[i] != s) {
        i++;
    }
    return test.count == SEEDS && i >= test.async ? 2 * test.count : test.count;
}

static void run_seeds(void **state)
{
    const struct scenario *s = *state;
    uint64_t count = seeds_of(s);
    struct sim_result all = {0};
    struct timespec a;
    struct timespec b;

    (void)clock_gettime(CLOCK_MONOTONIC, &a);
    for (uint64_t i = 0; i < count; i++) {
        if (!run_seed(s, test.first + i)) {
            fail();
        }
        all.points += test.result->points;
        all.switches += test.result->switches;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &b);
    print_message("%s: %" PRIu64 " seeds%s, %" PRIu64 " points and %" PRIu64
                  " switches on average, %.1f s\n",
                  s->name, count, test.count == SEEDS ? SEEDS_WHY : "", all.points / count,
                  all.switches / count,
                  (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
}

/// Each seed in all scenarios before the next one: what fails often fails soon.
static void run_seeds_of_all(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < test.count; i++) {
        for (unsigned k = 0; k < test.n; k++) {
            assert_true(run_seed(test.scenario[k], test.first + i));
        }
    }
}

static void the_same_seed_gives_the_same_run(void **state)
{
    (void)state;
    for (unsigned i = 0; i < test.n; i++) {
        for (uint64_t seed = 1; seed < 7; seed++) {
            uint64_t digest;

            assert_true(run_seed(test.scenario[i], seed));
            digest = test.result->digest;
            assert_true(run_seed(test.scenario[i], seed));
            assert_true(test.result->digest == digest);
        }
    }
}

/// Every model was replayed often enough, and every mapped transition seen.
static void the_traces_show_every_transition(void **state)
{
    (void)state;
    replay_print(test.stats);
    if (sizeof(SEEDS_WHY) > 1) {
        return; // Fewer seeds: see the build without sanitizers.
    }
    assert_true(replay_enough(test.stats, REPLAY_ALL));
    assert_true(replay_mapping_seen(test.stats, SP_TEST_SOURCE_DIR "/tests/model", REPLAY_ALL));
}

/// Whether traces were spoilt in every way of those that are chosen.
static bool chosen_tried(void)
{
    for (size_t i = 0; i < CHOSEN; i++) {
        if (test.tried[i] == 0) {
            return false;
        }
    }
    return true;
}

/// Every scenario, some seeds.
static void spoilt_traces_are_rejected(void **state)
{
    unsigned all = 0;

    (void)state;
    test.spoil = SPOIL_CHOSEN;
    for (uint64_t n = 1; n <= CHOSEN_SEEDS_MAX && (n <= CHOSEN_SEEDS || !chosen_tried()); n++) {
        for (unsigned i = 0; i < test.n; i++) {
            assert_true(run_seed(test.scenario[i], n));
        }
    }
    test.spoil = SPOIL_NOT;
    for (size_t i = 0; i < CHOSEN; i++) {
        if (test.tried[i] == 0) {
            print_error("%s %s: none\n", chosen[i].id, spoil_names[chosen[i].how]);
        }
        assert_true(test.tried[i] > 0);
        all += test.tried[i];
    }
    print_message("%zu sorts of spoilt traces, %u in all: all rejected\n", CHOSEN, all);
}

static void add_scenarios(const struct scenario *list)
{
    for (; list->name != NULL; list++) {
        test.scenario[test.n++] = list;
    }
}

/// Memory that children share.
static void *shared(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        abort();
    }
    return p;
}

/// Usage: threads_test [[SCENARIO] SEED [COUNT | spoil] | spoil]
int main(int argc, char **argv)
{
    struct CMUnitTest tests[SCENARIOS_MAX + 3];
    bool named = argc > 1 && strtoull(argv[1], NULL, 10) == 0;
    size_t n = 0;

    signals_keep();
    test.program = argv[0];
    test.result = shared(sizeof(*test.result));
    test.stats = shared(sizeof(*test.stats));
    test.tried = shared(CHOSEN * sizeof(*test.tried));
    if (scenario_plugins() < 0) {
        (void)fprintf(stderr, "%s\n", sp_error_detail());
        return 1;
    }
    add_scenarios(scenarios_core);
    add_scenarios(scenarios_flow);
    add_scenarios(scenarios_row);
    add_scenarios(scenarios_race);
    test.async = test.n;
    add_scenarios(scenarios_op);
    add_scenarios(scenarios_poll);
    add_scenarios(scenarios_app);
    add_scenarios(scenarios_device);
    add_scenarios(scenarios_crowd);
    test.count = SEEDS;
    if (argc > 1 + named) {
        test.first = strtoull(argv[1 + named], NULL, 10);
        test.count = argc > 2 + named ? strtoull(argv[2 + named], NULL, 10) : 1;
        if (argc > 2 + named && test.count == 0) {
            test.spoil = SPOIL_ALL;
            test.count = 1;
        }
    } else {
        tests[n++] = (struct CMUnitTest)cmocka_unit_test(the_same_seed_gives_the_same_run);
    }
    if (argc > 1 && !named) {
        tests[n++] = (struct CMUnitTest)cmocka_unit_test(run_seeds_of_all);
    }
    for (unsigned i = 0; i < test.n; i++) {
        if (argc == 1 || (named && strcmp(argv[1], test.scenario[i]->name) == 0)) {
            tests[n].name = test.scenario[i]->name;
            tests[n].test_func = run_seeds;
            tests[n].setup_func = NULL;
            tests[n].teardown_func = NULL;
            tests[n++].initial_state = (void *)(uintptr_t)test.scenario[i];
        }
    }
    if ((argc == 1 || strcmp(argv[1], "spoil") == 0) && replay_record(&test.trace)) {
        replay_record_end();
        tests[n++] = (struct CMUnitTest)cmocka_unit_test(spoilt_traces_are_rejected);
        if (argc == 1) {
            tests[n++] = (struct CMUnitTest)cmocka_unit_test(the_traces_show_every_transition);
        }
    }
    return _cmocka_run_group_tests("threads", tests, n, NULL, NULL);
}
