/* SPDX-License-Identifier: MIT */
/// Actors of an application exchanging messages at full rate: each passes what it gets on to
/// another one, for ever. Prints one line of JSON: rate, and the memory of it all.
/// bench_actors [--actors N] [--flight N] [--seconds N] [--threads N] [--size BYTES]
#include "common.h"
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sp/sp.h>

#define CAPACITY 64

struct node {
    sp_actor id;
    _Atomic uint64_t passed; ///< by this actor
    uint64_t refused;
    uint32_t hop;
};

static struct {
    size_t actors;
    size_t flight; ///< messages an actor, on average
    size_t size;
    double seconds;
    int64_t threads;
    struct node *nodes;
    atomic_bool stop;
} bench = {.actors = 10000, .flight = 1, .size = 8, .seconds = 3, .threads = -1};

static void must(int rc, const char *what)
{
    if (rc < 0) {
        bench_die("%s: %s", what, sp_error_detail());
    }
}

/// Passes everything on to others, all over the place.
static int node_on_message(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    struct node *n = state;
    uint64_t passed = 0;

    (void)self;
    (void)port;
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL; passed++) {
        size_t to = ((size_t)(n - bench.nodes) + 1 + 7919 * (size_t)n->hop) % bench.actors;

        n->hop = (n->hop + 1) % 16;
        if (atomic_load_explicit(&bench.stop, memory_order_relaxed)) {
            sp_msg_release(m);
        } else if (sp_actor_post(bench.nodes[to].id, m, SP_NONBLOCK) < 0) {
            sp_batch_unpop(in, m); // It is full: again when there is room.
            n->refused++;
            break;
        }
    }
    atomic_store_explicit(&n->passed,
                          atomic_load_explicit(&n->passed, memory_order_relaxed) + passed,
                          memory_order_relaxed);
    return 0;
}

static void actors_spawn(void)
{
    static const sp_actor_ops ops = {.size = sizeof(ops), .on_message = node_on_message};
    sp_actor_opts opts = {.size = sizeof(opts), .capacity = CAPACITY};

    bench.nodes = calloc(bench.actors, sizeof(*bench.nodes));
    if (bench.nodes == NULL) {
        bench_die("no memory");
    }
    for (size_t i = 0; i < bench.actors; i++) {
        must(sp_actor_spawn(&bench.nodes[i].id, &ops, &bench.nodes[i], &opts), "spawn");
    }
}

static void actors_feed(void)
{
    for (size_t i = 0; i < bench.actors * bench.flight; i++) {
        sp_msg *m;

        must(sp_msg_new(&m, bench.size), "message");
        memset(sp_msg_data(m), 0, bench.size);
        must(sp_actor_post(bench.nodes[i % bench.actors].id, m, 0), "post");
    }
}

static uint64_t actors_passed(void)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < bench.actors; i++) {
        sum += atomic_load_explicit(&bench.nodes[i].passed, memory_order_relaxed);
    }
    return sum;
}

static void actors_sleep(double seconds)
{
    struct timespec ts = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};

    (void)nanosleep(&ts, NULL);
}

static void actors_args(int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";

        if (bench_is(argv[i], "--actors")) {
            bench.actors = strtoul(value, NULL, 10);
        } else if (bench_is(argv[i], "--flight")) {
            bench.flight = strtoul(value, NULL, 10);
        } else if (bench_is(argv[i], "--size")) {
            bench.size = strtoul(value, NULL, 10);
        } else if (bench_is(argv[i], "--seconds")) {
            bench.seconds = strtod(value, NULL);
        } else if (bench_is(argv[i], "--threads")) {
            bench.threads = strtol(value, NULL, 10);
        } else {
            bench_die("usage: bench_actors [--actors N] [--flight N] [--seconds N] [--threads N] "
                      "[--size BYTES]");
        }
    }
    if (bench.actors == 0 || bench.flight > CAPACITY / 2) {
        bench_die("at least one actor, and at most %d messages an actor", CAPACITY / 2);
    }
}

int main(int argc, char **argv)
{
    sp_config *cfg = NULL;
    struct bench_usage before;
    struct bench_usage after;
    uint64_t refused = 0;
    uint64_t passed;
    uint64_t began;
    double seconds;
    long rss[3];

    actors_args(argc, argv);
    must(sp_config_new(&cfg), "config");
    must(sp_config_set_int(cfg, "threads", bench.threads), "threads");
    must(sp_init(cfg), "init");
    sp_config_free(cfg);
    rss[0] = bench_status(getpid(), "VmRSS:");
    began = bench_now();
    actors_spawn();
    seconds = (double)(bench_now() - began) / 1e9;
    rss[1] = bench_status(getpid(), "VmRSS:");
    (void)printf("{\"what\": \"actors\", \"actors\": %zu, \"flight\": %zu, \"size\": %zu, "
                 "\"spawn_per_s\": %.0f, ",
                 bench.actors, bench.flight, bench.size, (double)bench.actors / seconds);
    actors_feed();
    actors_sleep(0.3);
    bench_usage_get(&before);
    passed = actors_passed();
    began = bench_now();
    actors_sleep(bench.seconds);
    passed = actors_passed() - passed;
    seconds = (double)(bench_now() - began) / 1e9;
    bench_usage_get(&after);
    rss[2] = bench_status(getpid(), "VmRSS:");
    atomic_store(&bench.stop, true);
    sp_fini();
    for (size_t i = 0; i < bench.actors; i++) {
        refused += bench.nodes[i].refused;
    }
    (void)printf("\"msgs\": %llu, \"per_s\": %.0f, \"full\": %llu, \"cpu\": %.2f, "
                 "\"switches_per_msg\": %.4f, \"rss_kib\": %ld, \"bytes_per_actor\": %.0f, "
                 "\"bytes_per_actor_busy\": %.0f}\n",
                 (unsigned long long)passed, (double)passed / seconds, (unsigned long long)refused,
                 (after.user + after.sys - before.user - before.sys) / seconds,
                 (after.voluntary - before.voluntary) / (double)(passed > 0 ? passed : 1), rss[2],
                 (double)(rss[1] - rss[0]) * 1024 / (double)bench.actors,
                 (double)(rss[2] - rss[0]) * 1024 / (double)bench.actors);
    free(bench.nodes);
    return 0;
}
