/* SPDX-License-Identifier: MIT */
/// What simulations with one thread share.
#include "sim_run.h"

#include "platform_sim.h"
#include "registry.h"
#include "runtime.h"
#include "socket.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIM_SEEDS 2000
#define SIM_SOCKS 256 // of one run, with those that were closed

static struct {
    const char *program;
    const char *scenario;
    uint64_t first;
    uint64_t count;
    uint64_t seed;
    struct sp__sock *socks[SIM_SOCKS]; ///< held
    unsigned n_socks;
    uint64_t delivered; ///< in all runs of a scenario, as the two below
    uint64_t dropped;
    uint64_t lost;
    bool lossless;
} sim_run = {.first = 1, .count = SIM_SEEDS};

void sim_fail_at(const char *what, const char *file, int line)
{
    print_error("replay: %s %s %" PRIu64 "\n", sim_run.program, sim_run.scenario, sim_run.seed);
    print_error("%s (last error: %s)\n", what, sp_error_detail());
    _fail(file, line);
}

unsigned sim_pick(unsigned n)
{
    return (unsigned)(sp__platform->random() % n);
}

void sim_begin(uint64_t seed)
{
    sim_run.seed = seed;
    sim_run.n_socks = 0;
    sp__platform = &sp__platform_sim;
    sp__sim_begin(seed);
    SIM_CHECK(sp_init(NULL) == SP_OK);
    memset(&sim_net, 0, sizeof(sim_net));
    sim_net.delay_ms = sim_pick(2) == 0 ? 0 : 1 + sim_pick(20);
    sim_net.refuse = sim_pick(3) == 0 ? 200 : 0;
    sim_net.cut = sim_pick(2) == 0 ? 0 : sim_pick(60);
    sim_net.choke = sim_pick(2) == 0 ? 0 : sim_pick(300);
}

void sim_calm(void)
{
    sim_net.refuse = 0;
    sim_net.cut = 0;
    sim_net.choke = 0;
}

void sim_lossless(void)
{
    sim_calm();
    sim_run.lossless = true;
}

void sim_settle(int ms)
{
    for (int64_t end = sp__now() + ms * SP__MS; sp__now() < end;) {
        SIM_CHECK(sp_run_once(10) >= 0);
    }
}

void sim_end(void)
{
    for (unsigned i = 0; i < sim_run.n_socks; i++) {
        sp__drop(&sim_run.socks[i]->obj);
    }
    sim_run.n_socks = 0;
    sp_fini();
    SIM_CHECK(sp__objects() == 0);
}

static sp_socket sim_opened(sp_socket s)
{
    struct sp__object *obj = NULL;

    SIM_CHECK(sim_run.n_socks < SIM_SOCKS);
    SIM_CHECK(sp__enter(s.id, SP__KIND_SOCKET, &obj) == SP_OK);
    sp__hold(obj);
    sp__leave();
    sim_run.socks[sim_run.n_socks++] = SP__CONTAINER(obj, struct sp__sock, obj);
    SIM_CHECK(sp_set_int(s.id, "reconnect-time-min", 2) == SP_OK);
    SIM_CHECK(sp_set_int(s.id, "reconnect-time-max", 40) == SP_OK);
    SIM_CHECK(sp_set_int(s.id, "linger", 20) == SP_OK);
    SIM_CHECK(sp_set_int(s.id, "send-buffer", 1 + (int)sim_pick(8)) == SP_OK);
    SIM_CHECK(sp_set_int(s.id, "recv-buffer", 1 + (int)sim_pick(8)) == SP_OK);
    return s;
}

sp_socket sim_open(const char *protocol)
{
    sp_socket s = {0};

    SIM_CHECK(sp_open(&s, protocol) == SP_OK);
    return sim_opened(s);
}

sp_socket sim_open_raw(const char *protocol)
{
    sp_socket s = {0};

    SIM_CHECK(sp_open_raw(&s, protocol) == SP_OK);
    return sim_opened(s);
}

/* ------------------------------------------------------------------ Accounts */

static uint64_t sum_drops(const sp__counter *drops)
{
    uint64_t all = 0;

    for (unsigned i = 0; i < SP_DISCARD_REASONS; i++) {
        all += sp__counted(&drops[i]);
    }
    return all;
}

/// What the contexts of a socket have seen together, with those that are gone.
struct ctx_sums {
    uint64_t entered;
    uint64_t taken;
    uint64_t stale;
    uint64_t pending;
};

static void add_ctx(struct ctx_sums *sums, const struct sp__ctx *c)
{
    sums->entered += sp__counted(&c->entered);
    sums->taken += sp__counted(&c->taken);
    sums->stale += sp__counted(&c->stale);
    sums->pending += c->pending.n;
}

static struct ctx_sums sum_ctxs(const struct sp__sock *s)
{
    struct ctx_sums sums = {s->ctxs_entered, s->ctxs_taken, s->ctxs_stale, 0};

    add_ctx(&sums, &s->ctx);
    for (const struct sp__ctx *c = s->ctxs; c != NULL; c = c->next) {
        add_ctx(&sums, c);
    }
    return sums;
}

/// Credit that is out, held by messages in queues, and free, is the capacity of all queues.
static void check_credit(const struct sp__sock *s)
{
    int64_t free_credit = atomic_load(&s->ctx.credit) >> 1;
    int64_t pending = 0;
    int64_t held = 0;
    int64_t capacity = 0;

    if (s->ctxs != NULL || s->state != SP__SOCK_OPEN) {
        return; // Contexts each have their own of the same peers.
    }
    for (sp_msg *m = s->ctx.pending.head; m != NULL; m = m->next) {
        pending += sp__msg(m)->cost;
    }
    for (struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        if (p->added) {
            capacity += p->cap;
            held += p->inflight;
        }
    }
    if (s->ops->window == SP_WINDOW_PIPES) {
        SIM_CHECK(free_credit + pending + held == capacity);
    } else if (s->ops->window == SP_WINDOW_PEER) {
        SIM_CHECK(free_credit + pending == (atomic_load(&s->peers) > 0 ? 1 : 0));
    }
}

/// Adds a socket's to the sums; at rest its equations hold.
static void add_socket(struct sim_sums *sums, const struct sp__sock *s, bool at_rest)
{
    struct ctx_sums ctxs = sum_ctxs(s);
    uint64_t accepted = sp__counted(&s->accepted);
    uint64_t copies = sp__counted(&s->copies);
    uint64_t received = sp__counted(&s->received);
    uint64_t written = sp__counted(&s->tx_msgs);
    uint64_t drops_out = sum_drops(s->drops_out);
    uint64_t drops_in = sum_drops(s->drops_in) + ctxs.stale;
    uint64_t queued_out = ctxs.pending;
    uint64_t queued_in = ctxs.entered - ctxs.taken - ctxs.stale;

    for (struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        written += sp__counted(&p->tx_msgs);
        drops_out += sp__counted(&p->tx_dropped);
        queued_out += p->txq.n + p->late.n;
        queued_in += p->held.n;
    }
    if (at_rest) {
        SIM_CHECK(accepted + copies == written + drops_out + queued_out);
        SIM_CHECK(received == ctxs.taken + drops_in + queued_in);
        check_credit(s);
    }
    sums->accepted += accepted;
    sums->copies += copies;
    sums->written += written;
    sums->received += received - sp__counted(&s->rx_copies);
    sums->delivered += ctxs.taken;
    sums->dropped_out += drops_out;
    sums->dropped_in += drops_in;
}

static struct sim_sums add_sockets(bool at_rest)
{
    struct sim_sums sums = {0};

    for (unsigned i = 0; i < sim_run.n_socks; i++) {
        add_socket(&sums, sim_run.socks[i], at_rest);
    }
    return sums;
}

struct sim_sums sim_sums(void)
{
    return add_sockets(false);
}

void sim_rest(void)
{
    struct sim_sums sums = add_sockets(true);

    SIM_CHECK(sums.written == sums.received + sim_net.lost);
    sim_run.delivered += sums.delivered;
    sim_run.dropped += sums.dropped_out + sums.dropped_in;
    sim_run.lost += sim_net.lost;
}

/* ------------------------------------------------------------------ Seeds */

static void holds_for_all_seeds(void **state)
{
    const struct sim_scenario *s = *state;

    sim_run.scenario = s->name;
    sim_run.delivered = 0;
    sim_run.dropped = 0;
    sim_run.lost = 0;
    sim_run.lossless = false;
    for (uint64_t i = 0; i < sim_run.count; i++) {
        s->run(sim_run.first + i);
    }
    if (sim_run.count >= SIM_SEEDS) { // The runs were about something.
        SIM_CHECK(sim_run.delivered > 20 * sim_run.count);
        SIM_CHECK(sim_run.dropped > 0 && (sim_run.lost > 0 || sim_run.lossless));
    }
}

static void same_seed_gives_the_same_run(void **state)
{
    const struct sim_scenario *s = *state;

    sim_run.scenario = s->name;
    for (uint64_t seed = 7; seed < 17; seed++) {
        uint64_t first;

        s->run(seed);
        first = sp__sim_digest();
        s->run(seed);
        SIM_CHECK(sp__sim_digest() == first);
    }
}

int sim_main(int argc, char **argv, const struct sim_scenario *scenarios, unsigned n)
{
    enum { MAX = 16 };
    static struct CMUnitTest tests[2 * MAX];
    static char names[2 * MAX][64];
    unsigned k = 0;

    sim_run.program = argv[0];
    (void)setenv("SP_PLUGIN_PATH", SP_TEST_BUILD_DIR "/plugins", 0);
    sp__platform = &sp__platform_sim;
    if (sp__registry_add(sim_net_entry) < 0 || n > MAX) {
        (void)fprintf(stderr, "%s\n", sp_error_detail());
        return 1;
    }
    if (argc >= 3) {
        sim_run.first = strtoull(argv[2], NULL, 10);
        sim_run.count = argc >= 4 ? strtoull(argv[3], NULL, 10) : 1;
    }
    for (unsigned i = 0; i < n; i++) {
        void *data = (void *)(uintptr_t)&scenarios[i];

        if (argc >= 3 && strcmp(argv[1], scenarios[i].name) != 0) {
            continue;
        }
        (void)snprintf(names[k], sizeof(names[k]), "%s: holds_for_all_seeds", scenarios[i].name);
        tests[k] = (struct CMUnitTest){names[k], holds_for_all_seeds, NULL, NULL, data};
        k++;
        if (argc < 3) {
            (void)snprintf(names[k], sizeof(names[k]), "%s: same_seed_gives_the_same_run",
                           scenarios[i].name);
            tests[k] = (struct CMUnitTest){names[k], same_seed_gives_the_same_run, NULL, NULL,
                                           data};
            k++;
        }
    }
    return _cmocka_run_group_tests("sim", tests, k, NULL, NULL);
}
