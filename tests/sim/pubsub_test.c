/* SPDX-License-Identifier: MIT */
/// PUB/SUB in simulation: publishers and subscribers that come and go and
/// change what they want. A subscriber gets only what it asked for, of each
/// publisher in order, and once.
#include "sim_world.h"

#include <string.h>

#define TOPICS 4

struct news {
    char topic;
    uint32_t from;
    uint32_t seq;
};

static uint32_t sent[SIM_NODES];
static bool wanted[SIM_NODES][TOPICS];
static const char *policy; // of the publishers of this run

static bool is_pub(const struct sim_node *n)
{
    return strcmp(n->protocol, "pub") == 0;
}

static void want(struct sim_node *n, unsigned topic, const char *option)
{
    char prefix = (char)('a' + topic);

    SIM_CHECK(sp_set_bytes(n->s.id, option, &prefix, 1) == SP_OK);
}

static void pubsub_opened(struct sim_node *n)
{
    memset(wanted[n->index], 0, sizeof(wanted[n->index]));
    if (is_pub(n)) {
        SIM_CHECK(sp_set_str(n->s.id, "overflow", policy) == SP_OK);
    } else {
        unsigned topic = sim_pick(TOPICS);

        want(n, topic, "subscribe");
        wanted[n->index][topic] = true;
    }
}

static bool pubsub_take(struct sim_node *n)
{
    struct news got;
    uint32_t pipe = 0;
    int rc;

    if (is_pub(n)) {
        return false;
    }
    rc = sim_recv(n->s, &got, sizeof(got), &pipe);
    if (rc != SP_OK) {
        SIM_CHECK(rc == SP_EAGAIN);
        return false;
    }
    SIM_CHECK(got.from < SIM_NODES && got.seq <= sent[got.from]);
    SIM_CHECK(wanted[n->index][got.topic - 'a']);
    sim_heard(n->index, pipe, got.from, got.seq);
    return true;
}

static void publish(struct sim_node *n)
{
    struct news out;
    int rc;

    memset(&out, 0, sizeof(out));
    out.topic = (char)('a' + sim_pick(TOPICS));
    out.from = n->index;
    out.seq = sent[n->index] + 1;
    rc = sp_send(n->s, &out, sizeof(out), SP_NONBLOCK);
    SIM_CHECK(rc == SP_OK || rc == SP_EAGAIN);
    sent[n->index] += rc == SP_OK;
}

static void pubsub_act(struct sim_node *n)
{
    unsigned topic = sim_pick(TOPICS);

    if (is_pub(n)) {
        publish(n);
    } else if (sim_pick(30) > 0) {
        (void)pubsub_take(n);
    } else if (!wanted[n->index][topic]) {
        wanted[n->index][topic] = true;
        want(n, topic, "subscribe");
    } else {
        want(n, topic, "unsubscribe");
        while (pubsub_take(n)) { // What was queued before may still be received; then no more.
        }
        wanted[n->index][topic] = false;
    }
}

static const struct sim_acts pubsub_acts = {
    .opened = pubsub_opened, .act = pubsub_act, .take = pubsub_take};

static void run_pubsub(uint64_t seed)
{
    static const char *const policies[] = {"drop-new", "drop-old", "block", "disconnect"};
    struct sim_world w = {.acts = &pubsub_acts};
    unsigned pubs;
    unsigned subs;

    sim_begin(seed);
    memset(sent, 0, sizeof(sent));
    sim_heard_none();
    policy = policies[sim_pick(4)];
    pubs = 1 + sim_pick(3);
    subs = 1 + sim_pick(4);
    for (unsigned i = 0; i < pubs; i++) {
        (void)sim_node_add(&w, "pub", (int)i, 0);
    }
    for (unsigned i = 0; i < subs; i++) {
        (void)sim_node_add(&w, "sub", -1, (1U << pubs) - 1);
    }
    sim_world_run(&w);
    sim_end();
}

int main(int argc, char **argv)
{
    static const struct sim_scenario scenarios[] = {{"pubsub", run_pubsub}};

    return sim_main(argc, argv, scenarios, 1);
}
