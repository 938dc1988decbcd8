/* SPDX-License-Identifier: MIT */
/// PAIR in simulation: one that listens, and up to three that want to be its only peer. What is
/// received is in order and comes once; without losses it is all that was sent.
#include "sim_world.h"

#include <string.h>

static struct {
    uint32_t sent;
    uint32_t last[SIM_NODES]; ///< received, of each sender
} talkers[SIM_NODES];

static bool pair_take(struct sim_node *n)
{
    struct sim_body got;
    int rc = sim_recv(n->s, &got, sizeof(got), NULL);

    if (rc != SP_OK) {
        SIM_CHECK(rc == SP_EAGAIN);
        return false;
    }
    SIM_CHECK(got.from < SIM_NODES && got.from != n->index);
    SIM_CHECK(got.seq > talkers[n->index].last[got.from]);
    SIM_CHECK(got.seq <= talkers[got.from].sent);
    talkers[n->index].last[got.from] = got.seq;
    return true;
}

static void pair_act(struct sim_node *n)
{
    int rc;

    if (sim_pick(2) == 0) {
        (void)pair_take(n);
        return;
    }
    rc = sim_send(n->s, n->index, talkers[n->index].sent + 1);
    SIM_CHECK(rc == SP_OK || rc == SP_ENOPEER || rc == SP_EAGAIN);
    talkers[n->index].sent += rc == SP_OK;
}

static const struct sim_acts pair_acts = {.act = pair_act, .take = pair_take};

static void run_of(uint64_t seed, const char *protocol)
{
    struct sim_world w = {.acts = &pair_acts};
    unsigned n;

    sim_begin(seed);
    memset(talkers, 0, sizeof(talkers));
    w.steady = sim_pick(4) == 0;
    n = 1 + sim_pick(3);
    (void)sim_node_add(&w, protocol, 0, 0);
    for (unsigned i = 0; i < n; i++) {
        (void)sim_node_add(&w, protocol, -1, 1);
    }
    sim_world_run(&w);
    if (n == 1 && w.steady && sim_net.lost == 0) {
        SIM_CHECK(talkers[0].last[1] == talkers[1].sent && talkers[1].last[0] == talkers[0].sent);
    }
    sim_end();
}

static void run_pair(uint64_t seed)
{
    run_of(seed, "pair");
}

static void run_pair1(uint64_t seed)
{
    run_of(seed, "pair1");
}

int main(int argc, char **argv)
{
    static const struct sim_scenario scenarios[] = {{"pair", run_pair}, {"pair1", run_pair1}};

    return sim_main(argc, argv, scenarios, 2);
}
