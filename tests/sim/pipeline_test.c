/* SPDX-License-Identifier: MIT */
/// PIPELINE in simulation: several who push, several who pull, all of whom come and go. No message
/// comes twice; what is not lost with a connection or dropped and counted arrives.
#include "sim_world.h"

#include <string.h>

static uint32_t sent[SIM_NODES];
static bool seen[SIM_NODES][2 * SIM_STEPS];

static bool is_push(const struct sim_node *n)
{
    return strcmp(n->protocol, "push") == 0;
}

static bool pull_some(struct sim_node *n)
{
    struct sim_body got;
    int rc = sim_recv(n->s, &got, sizeof(got), NULL);

    if (rc != SP_OK) {
        SIM_CHECK(rc == SP_EAGAIN);
        return false;
    }
    SIM_CHECK(got.from < SIM_NODES && got.seq >= 1 && got.seq <= sent[got.from]);
    SIM_CHECK(!seen[got.from][got.seq]);
    seen[got.from][got.seq] = true;
    return true;
}

static bool pipeline_take(struct sim_node *n)
{
    return !is_push(n) && pull_some(n);
}

static void pipeline_act(struct sim_node *n)
{
    struct sim_body got;
    int rc;

    if (!is_push(n)) {
        (void)pull_some(n);
        return;
    }
    SIM_CHECK(sim_recv(n->s, &got, sizeof(got), NULL) == SP_ENOTSUP);
    rc = sim_send(n->s, n->index, sent[n->index] + 1);
    SIM_CHECK(rc == SP_OK || rc == SP_ENOPEER || rc == SP_EAGAIN);
    sent[n->index] += rc == SP_OK;
}

static const struct sim_acts pipeline_acts = {.act = pipeline_act, .take = pipeline_take};

static void run_pipeline(uint64_t seed)
{
    struct sim_world w = {.acts = &pipeline_acts};
    struct sim_sums sums;
    unsigned listeners;
    unsigned dialers;
    bool push_listens;

    sim_begin(seed);
    memset(sent, 0, sizeof(sent));
    memset(seen, 0, sizeof(seen));
    w.steady = sim_pick(4) == 0;
    listeners = 1 + sim_pick(3);
    dialers = 1 + sim_pick(4);
    push_listens = sim_pick(2) == 0;
    for (unsigned i = 0; i < listeners; i++) {
        (void)sim_node_add(&w, push_listens ? "push" : "pull", (int)i, 0);
    }
    for (unsigned i = 0; i < dialers; i++) {
        (void)sim_node_add(&w, push_listens ? "pull" : "push", -1, (1U << listeners) - 1);
    }
    sim_world_run(&w);
    sums = sim_sums();
    SIM_CHECK(!w.steady || sums.dropped_out == 0); // Work of a lost peer goes to another one.
    SIM_CHECK(sums.accepted == sums.delivered + sim_net.lost + sums.dropped_out + sums.dropped_in);
    sim_end();
}

int main(int argc, char **argv)
{
    static const struct sim_scenario scenarios[] = {{"pipeline", run_pipeline}};

    return sim_main(argc, argv, scenarios, 1);
}
