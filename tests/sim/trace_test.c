/* SPDX-License-Identifier: MIT */
/// What the core does is what the models say: runs of the simulation, of 1000 seeds a model and
/// more, are recorded transition by transition and replayed on the models of tests/model (see
/// tests/support/replay.h). And the replay says no to runs that were spoilt.
#include "platform_sim.h"
#include "replay.h"
#include "replay_spoil.h"
#include "replay_stats.h"
#include "runtime.h"
#include "sim_net.h"
#include "socket.h"

#include <sp/sp.h>

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#else
#define TSAN 0
#endif

#define SEEDS_MAX 2000
#define STEPS 120
#define SOCKS 6

static uint64_t trace_seed;
static const char *trace_program;
static struct replay_trace trace;

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            print_error("replay: %s %" PRIu64 "\n%s:%d: %s (last error: %s)\n", trace_program,     \
                        trace_seed, __FILE__, __LINE__, #cond, sp_error_detail());                 \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

/* ------------------------------------------------------------------ One run */

/// A choice of the test itself, from the run's seed.
static unsigned pick(unsigned n)
{
    return (unsigned)(sp__platform->random() % n);
}

static struct {
    sp_socket socks[SOCKS]; ///< rep, req, pair and pair, pair1 and pair1
    unsigned refused;       ///< by the user's function
} sim;

static int on_pipe(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    (void)s;
    (void)p;
    (void)arg;
    return ev == SP_PIPE_ADDING && pick(8) == 0 ? SP_EPEERS : SP_OK;
}

static void sock_start(unsigned i)
{
    static const char *const protocols[SOCKS] = {"rep", "req", "pair", "pair", "pair1", "pair1"};
    static const char *const urls[SOCKS / 2] = {"sim://r", "sim://p", "sim://q"};
    sp_socket s;

    CHECK(sp_open(&s, protocols[i]) == SP_OK);
    sim.socks[i] = s;
    CHECK(sp_set_int(s.id, "reconnect-time-min", 1) == SP_OK);
    CHECK(sp_set_int(s.id, "reconnect-time-max", 8) == SP_OK);
    CHECK(sp_set_int(s.id, "linger", (int)pick(10)) == SP_OK);
    CHECK(sp_set_int(s.id, "send-buffer", 1 + (int)pick(3)) == SP_OK);
    CHECK(sp_set_int(s.id, "recv-buffer", 1 + (int)pick(3)) == SP_OK);
    CHECK(sp_set_int(s.id, "send-timeout", 1 + (int)pick(4)) == SP_OK);
    CHECK(sp_set_int(s.id, "recv-timeout", 1 + (int)pick(4)) == SP_OK);
    if (pick(3) == 0) {
        CHECK(sp_on_pipe(s, on_pipe, NULL) == SP_OK);
    }
    if (i % 2 == 0) {
        CHECK(sp_listen(s, urls[i / 2], NULL) == SP_OK);
    } else {
        CHECK(sp_dial(s, urls[i / 2], NULL, SP_NONBLOCK) == SP_OK);
    }
}

static void sock_send(sp_socket s, int flags)
{
    char body[40] = {0};
    int rc = sp_send(s, body, pick(sizeof(body)), flags);

    CHECK(rc == SP_OK || rc == SP_EAGAIN || rc == SP_ENOPEER || rc == SP_ETIMEDOUT ||
          rc == SP_ESTATE);
}

static void sock_recv(sp_socket s, int flags)
{
    sp_msg *m[4];
    int n = sp_recvmsgs(s, m, 1 + pick(4), flags);

    CHECK(n > 0 || n == SP_EAGAIN || n == SP_ETIMEDOUT || n == SP_ESTATE);
    for (int i = 0; i < n; i++) {
        sp_msg_release(m[i]);
    }
}

static void sock_cut(sp_socket s)
{
    sp_peer_info info = {.size = sizeof(info)};
    size_t n = 1;

    if (sp_peers(s, &info, &n) >= 0 && n > 0) {
        CHECK(sp_pipe_close(info.pipe) == SP_OK);
    }
}

static void sim_step(void)
{
    unsigned i = pick(SOCKS);
    sp_socket s = sim.socks[i];

    switch (pick(24)) {
    case 0:
        CHECK(sp_close(s) == SP_OK);
        CHECK(sp_close(s) == SP_ECLOSED);
        sock_start(i);
        break;
    case 1:
        sock_cut(s);
        break;
    case 2:
    case 3:
    case 4:
        sock_send(s, 0);
        break;
    case 5:
    case 6:
        sock_recv(s, 0);
        break;
    case 7:
    case 8:
    case 9:
        CHECK(sp_run_once((int)pick(4)) >= 0);
        break;
    default:
        if (pick(2) == 0) {
            sock_send(s, SP_NONBLOCK);
        } else {
            sock_recv(s, SP_NONBLOCK);
        }
        break;
    }
}

/// Sockets that send, wait, are cut, closed and made again.
static void run_sockets(uint64_t seed)
{
    trace_seed = seed;
    sp__sim_begin(seed);
    CHECK(replay_record(&trace));
    CHECK(sp_init(NULL) == SP_OK);
    memset(&sim_net, 0, sizeof(sim_net));
    sim_net.delay_ms = pick(2) == 0 ? 0 : 1 + pick(4);
    sim_net.refuse = pick(3) == 0 ? 200 : 0;
    sim_net.cut = pick(2) == 0 ? 0 : pick(40);
    sim_net.choke = pick(300);
    for (unsigned i = 0; i < SOCKS; i++) {
        sock_start(i);
    }
    for (unsigned step = 0; step < STEPS; step++) {
        sim_step();
    }
    sp_fini();
    CHECK(sp__objects() == 0);
    replay_record_end();
}

/* ------------------------------------------------------------------ All runs */

/// One thread drives: workers and their poller are in threads_test.
#define MODELS "ACDEFGH"

static struct replay_stats stats;

static void every_trace_is_a_run_of_its_models(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS_MAX && !replay_enough(&stats, MODELS); seed++) {
        run_sockets(seed);
        if (!replay_judge(&stats, &trace, seed, REPLAY_ALL)) {
            print_error("%s\nreplay: %s %" PRIu64 "\n", replay_why(), trace_program, seed);
            fail();
        }
    }
    replay_print(&stats);
    assert_true(replay_enough(&stats, MODELS));
}

/// These no model may let pass, wherever they are.
static const struct spoil_sort chosen[] = {
    {"A3", SPOIL_DROP},    {"A3", SPOIL_VALUE},   {"A5", SPOIL_THREAD},  {"A5", SPOIL_VALUE},
    {"A7", SPOIL_SWAP},    {"A7", SPOIL_VALUE},   {"A8", SPOIL_VALUE},   {"A9", SPOIL_DROP},
    {"A11", SPOIL_THREAD}, {"A21", SPOIL_VALUE},  {"A22", SPOIL_OBJECT}, {"B1", SPOIL_DROP},
    {"B5", SPOIL_SWAP},    {"B9", SPOIL_VALUE},   {"B10", SPOIL_VALUE},  {"B12", SPOIL_THREAD},
    {"B13", SPOIL_DROP},   {"B17", SPOIL_VALUE},  {"B19", SPOIL_VALUE},  {"C1", SPOIL_VALUE},
    {"C5", SPOIL_DROP},    {"C5", SPOIL_THREAD},  {"C8", SPOIL_SWAP},    {"C9", SPOIL_DROP},
    {"C17", SPOIL_THREAD}, {"C18", SPOIL_DROP},   {"D2", SPOIL_DROP},    {"D2", SPOIL_VALUE},
    {"D4", SPOIL_DROP},    {"D6", SPOIL_VALUE},   {"D8", SPOIL_OBJECT},  {"D9", SPOIL_VALUE},
    {"D11", SPOIL_VALUE},  {"D15", SPOIL_THREAD}, {"D16", SPOIL_VALUE},  {"D19", SPOIL_SWAP},
    {"E2", SPOIL_VALUE},   {"E3", SPOIL_VALUE},   {"E5", SPOIL_DROP},    {"E6", SPOIL_VALUE},
    {"E7", SPOIL_DROP},    {"E10", SPOIL_THREAD}, {"E11", SPOIL_SWAP},   {"E13", SPOIL_VALUE},
    {"E16", SPOIL_OBJECT}, {"F3", SPOIL_VALUE},   {"F4", SPOIL_THREAD},  {"F5", SPOIL_DROP},
    {"F5", SPOIL_VALUE},   {"F7", SPOIL_DROP},    {"F9", SPOIL_VALUE},   {"F11", SPOIL_SWAP},
    {"F12", SPOIL_VALUE},  {"F14", SPOIL_DROP},   {"F17", SPOIL_OBJECT}, {"G2", SPOIL_VALUE},
    {"G3", SPOIL_VALUE},   {"G4", SPOIL_DROP},    {"G5", SPOIL_SWAP},    {"G8", SPOIL_THREAD},
    {"G9", SPOIL_DROP},    {"G9", SPOIL_OBJECT},  {"G10", SPOIL_DROP},   {"H1", SPOIL_DROP},
    {"H4", SPOIL_DROP},    {"H6", SPOIL_DROP},    {"H6", SPOIL_VALUE},   {"H7", SPOIL_DROP},
    {"H7", SPOIL_VALUE},   {"H11", SPOIL_THREAD}, {"H11", SPOIL_VALUE},  {"H12", SPOIL_OBJECT},
};

#define CHOSEN (sizeof(chosen) / sizeof(chosen[0]))
#define CHOSEN_SEEDS 6
#define CHOSEN_EACH 20 // of a sort, in one trace

static void spoilt_traces_are_rejected(void **state)
{
    unsigned tried[CHOSEN] = {0};
    unsigned all = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= CHOSEN_SEEDS; seed++) {
        run_sockets(seed);
        if (!spoil_sorts(&trace, REPLAY_ALL, chosen, CHOSEN, CHOSEN_EACH, tried)) {
            print_error("seed %" PRIu64 "\n", seed);
            fail();
        }
    }
    for (size_t c = 0; c < CHOSEN; c++) {
        assert_true(tried[c] > 0);
        all += tried[c];
    }
    print_message("%zu sorts of spoilt traces, %u in all: all rejected\n", CHOSEN, all);
}

/// Usage: trace_test [SEED [spoil]]
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_trace_is_a_run_of_its_models),
        cmocka_unit_test(spoilt_traces_are_rejected),
    };

    trace_program = argv[0];
    if (TSAN) {
        print_message("one thread: nothing for ThreadSanitizer\n");
        return 77;
    }
    if (!replay_record(&trace)) {
        print_message("this build has no trace (SP_TRACE)\n");
        return 77;
    }
    replay_record_end();
    (void)setenv("SP_PLUGIN_PATH", SP_TEST_BUILD_DIR "/plugins", 0);
    sp__platform = &sp__platform_sim;
    if (sp__registry_add(sim_net_entry) < 0) {
        (void)fprintf(stderr, "%s\n", sp_error_detail());
        return 1;
    }
    if (argc > 1) {
        run_sockets(strtoull(argv[1], NULL, 10));
        (void)printf("%zu transitions: %s\n", trace.n,
                     replay_check_all(&trace) ? "well" : replay_why());
        if (argc > 2) {
            spoil_print(&trace);
        }
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
