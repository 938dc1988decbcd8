/* SPDX-License-Identifier: MIT */
/// BUS in simulation: a mesh of up to five, all of whom come and go. Nobody hears himself; what is
/// heard of another comes once, and over one connection in order.
#include "sim_world.h"

#include <string.h>

static uint32_t sent[SIM_NODES];

static bool bus_take(struct sim_node *n)
{
    struct sim_body got;
    uint32_t pipe = 0;
    int rc = sim_recv(n->s, &got, sizeof(got), &pipe);

    if (rc != SP_OK) {
        SIM_CHECK(rc == SP_EAGAIN);
        return false;
    }
    SIM_CHECK(got.from < SIM_NODES && got.seq <= sent[got.from]);
    sim_heard(n->index, pipe, got.from, got.seq);
    return true;
}

static void bus_act(struct sim_node *n)
{
    int rc;

    if (sim_pick(3) > 0) {
        (void)bus_take(n);
        return;
    }
    rc = sim_send(n->s, n->index, sent[n->index] + 1);
    SIM_CHECK(rc == SP_OK || rc == SP_EAGAIN || rc == SP_ENOPEER);
    sent[n->index] += rc == SP_OK;
}

static const char *policy; // of all nodes of this run

static void bus_opened(struct sim_node *n)
{
    SIM_CHECK(sp_set_str(n->s.id, "overflow", policy) == SP_OK);
}

static const struct sim_acts bus_acts = {.opened = bus_opened, .act = bus_act, .take = bus_take};

static void run_bus(uint64_t seed)
{
    static const char *const policies[] = {"drop-new", "drop-old", "block", "disconnect"};
    struct sim_world w = {.acts = &bus_acts};
    unsigned n;

    sim_begin(seed);
    memset(sent, 0, sizeof(sent));
    sim_heard_none();
    policy = policies[sim_pick(4)];
    n = 2 + sim_pick(4);
    for (unsigned i = 0; i < n; i++) {
        (void)sim_node_add(&w, "bus", (int)i, (1U << i) - 1);
    }
    sim_world_run(&w);
    sim_end();
}

int main(int argc, char **argv)
{
    static const struct sim_scenario scenarios[] = {{"bus", run_bus}};

    return sim_main(argc, argv, scenarios, 1);
}
