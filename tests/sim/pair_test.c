/* SPDX-License-Identifier: MIT */
/// PAIR in simulation: one that listens, and up to three that want to be its only peer. What is
/// received is in order and comes once; without losses it is all that was sent. And one
/// polyamorous.
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

/* ------------------------------------------------------------------ Many peers */

static bool many_named; // of this run: the hub names whom it sends to
static uint32_t many_peer;
static bool many_seen[SIM_STEPS + 1]; // of the hub's messages

/// Over one connection in order; but what named nobody may come later when a peer was lost, and
/// still once.
static bool many_take(struct sim_node *n)
{
    struct sim_body got;
    uint32_t pipe = 0;
    int rc = sim_recv(n->s, &got, sizeof(got), &pipe);

    if (rc != SP_OK) {
        SIM_CHECK(rc == SP_EAGAIN);
        return false;
    }
    SIM_CHECK(got.from < SIM_NODES && got.from != n->index && (got.from == 0 || n->index == 0));
    SIM_CHECK(got.seq <= talkers[got.from].sent);
    if (n->index == 0 || many_named) {
        sim_heard(n->index, pipe, got.from, got.seq);
        return true;
    }
    SIM_CHECK(!many_seen[got.seq]);
    many_seen[got.seq] = true;
    return true;
}

/// The first one is the hub.
static void many_opened(struct sim_node *n)
{
    if (n->index == 0) {
        SIM_CHECK(sp_set_int(n->s.id, "pair1:polyamorous", 1) == SP_OK);
    }
}

static void many_send(struct sim_node *n)
{
    struct sim_body body = {n->index, talkers[n->index].sent + 1};
    sp_msg *m = NULL;
    int rc;

    SIM_CHECK(sp_msg_new(&m, 0) == SP_OK && sp_msg_append(m, &body, sizeof(body)) == SP_OK);
    sp_msg_set_peer(m, n->index == 0 && many_named ? many_peer : 0);
    rc = sp_sendmsg(n->s, m, SP_NONBLOCK);
    SIM_CHECK(rc == SP_OK || rc == SP_ENOPEER || rc == SP_EAGAIN);
    if (rc == SP_OK) {
        talkers[n->index].sent++;
    } else {
        sp_msg_release(m);
    }
}

/// Whom the hub names: any of its peers, or one that it had.
static void many_act(struct sim_node *n)
{
    sp_peer_info info[SIM_NODES] = {{.size = sizeof(info[0])}};
    size_t count = SIM_NODES;

    if (sim_pick(2) == 0) {
        (void)many_take(n);
        return;
    }
    if (n->index == 0 && sim_pick(2) == 0) {
        SIM_CHECK(sp_peers(n->s, info, &count) == SP_OK);
        many_peer = count > 0 ? info[sim_pick((unsigned)count)].peer : many_peer;
    }
    if (n->index != 0 || !many_named || many_peer != 0) {
        many_send(n);
    }
}

static const struct sim_acts many_acts = {
    .opened = many_opened, .act = many_act, .take = many_take};

static void run_many(uint64_t seed)
{
    struct sim_world w = {.acts = &many_acts};
    unsigned n;

    sim_begin(seed);
    memset(talkers, 0, sizeof(talkers));
    many_named = sim_pick(2) == 0;
    many_peer = 0;
    sim_heard_none();
    memset(many_seen, 0, sizeof(many_seen));
    w.steady = sim_pick(4) == 0;
    n = 1 + sim_pick(4);
    (void)sim_node_add(&w, "pair1", 0, 0);
    for (unsigned i = 0; i < n; i++) {
        (void)sim_node_add(&w, "pair1", -1, 1);
    }
    sim_world_run(&w);
    sim_end();
}

int main(int argc, char **argv)
{
    static const struct sim_scenario scenarios[] = {
        {"pair", run_pair}, {"pair1", run_pair1}, {"many", run_many}};

    return sim_main(argc, argv, scenarios, 3);
}
