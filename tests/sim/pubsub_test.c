/* SPDX-License-Identifier: MIT */
/// PUB and SUB in simulation: publishers and subscribers, these with two contexts each or raw, all
/// of whom come and go, subscribe and unsubscribe. Nobody gets what he never subscribed to. In the
/// end, when all is calm, everybody gets exactly what he wants.
#include "sim_world.h"

#include <string.h>

#define TOPICS 7

static const char *const topics[TOPICS] = {"", "a", "ab", "abc", "b", "ba", "bab"};

struct body {
    char text[4]; // padded with '.'
    struct sim_body number;
};

/// The state of a SUB's contexts: its own and one more.
struct listener {
    sp_ctx more;
    bool open; ///< `more` is
    bool wants[2][TOPICS];
    bool ever[2][TOPICS]; ///< wanted since the context was opened
};

static struct listener listeners[SIM_NODES];
static uint32_t sent[SIM_NODES];
static unsigned pubs; // the first nodes

static bool is_pub(const struct sim_node *n)
{
    return n->index < pubs;
}

static uint64_t ctx_id(const struct sim_node *n, unsigned c)
{
    return c == 0 ? n->s.id : listeners[n->index].more.id;
}

static bool matches(const bool *wants, const char text[4])
{
    for (int i = 0; i < TOPICS; i++) {
        if (wants[i] && memcmp(topics[i], text, strlen(topics[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ Acts */

static int publish(struct sim_node *n, int topic)
{
    struct body body = {{'.', '.', '.', '.'}, {n->index, sent[n->index] + 1}};
    int rc;

    memcpy(body.text, topics[topic], strlen(topics[topic]));
    rc = sp_send(n->s, &body, sizeof(body), SP_NONBLOCK);
    SIM_CHECK(rc == SP_OK || rc == SP_EAGAIN);
    sent[n->index] += rc == SP_OK;
    return rc;
}

/// A context subscribes to a topic, or unsubscribes.
static void toggle(struct sim_node *n, unsigned c, unsigned topic)
{
    struct listener *l = &listeners[n->index];
    bool *wants = &l->wants[c][topic];
    size_t len = strlen(topics[topic]);
    int rc = sp_set_bytes(ctx_id(n, c), *wants ? "unsubscribe" : "subscribe", topics[topic], len);

    SIM_CHECK(rc == SP_OK);
    *wants = !*wants;
    l->ever[c][topic] = true;
    if (!*wants) {
        rc = sp_set_bytes(ctx_id(n, c), "unsubscribe", topics[topic], len);
        SIM_CHECK(rc == -ENOENT);
    }
}

static void toggle_ctx(struct sim_node *n)
{
    struct listener *l = &listeners[n->index];

    if (l->open) {
        SIM_CHECK(sp_ctx_close(l->more) == SP_OK);
    } else {
        SIM_CHECK(sp_ctx_open(&l->more, n->s) == SP_OK);
        memset(l->wants[1], 0, sizeof(l->wants[1]));
        memset(l->ever[1], 0, sizeof(l->ever[1]));
    }
    l->open = !l->open;
}

static bool take_of(struct sim_node *n, unsigned c)
{
    struct listener *l = &listeners[n->index];
    struct body got;
    sp_msg *m = NULL;
    int rc = c == 0 ? sp_recvmsg(n->s, &m, SP_NONBLOCK) : sp_ctx_recvmsg(l->more, &m, SP_NONBLOCK);

    if (rc != SP_OK) {
        SIM_CHECK(rc == SP_EAGAIN);
        return false;
    }
    SIM_CHECK(sp_msg_len(m) == sizeof(got));
    memcpy(&got, sp_msg_view(m), sizeof(got));
    SIM_CHECK(got.number.from < pubs && got.number.seq <= sent[got.number.from]);
    SIM_CHECK(matches(l->ever[c], got.text));
    if (c == 0) {
        sim_heard(n->index, sp_msg_peer(m), got.number.from, got.number.seq);
    }
    sp_msg_release(m);
    return true;
}

static bool pubsub_take(struct sim_node *n)
{
    bool any = false;

    if (!is_pub(n)) {
        any = take_of(n, 0);
        any = (listeners[n->index].open && take_of(n, 1)) || any;
    }
    return any;
}

static void pubsub_act(struct sim_node *n)
{
    if (is_pub(n)) {
        (void)publish(n, (int)sim_pick(TOPICS));
        return;
    }
    switch (n->raw ? 4 : sim_pick(16)) {
    case 0:
        toggle_ctx(n);
        break;
    case 1:
    case 2:
    case 3:
        toggle(n, listeners[n->index].open ? sim_pick(2) : 0, sim_pick(TOPICS));
        break;
    default:
        (void)pubsub_take(n);
    }
}

static void pubsub_opened(struct sim_node *n)
{
    static const char *const policies[] = {"drop-new", "drop-old", "block", "disconnect"};

    if (is_pub(n)) {
        SIM_CHECK(sp_set_str(n->s.id, "overflow", policies[sim_pick(4)]) == SP_OK);
        SIM_CHECK(sp_set_int(n->s.id, "pub:filter-max", sim_pick(3) == 0 ? 450 : 4096) == SP_OK);
        return;
    }
    memset(&listeners[n->index], 0, sizeof(listeners[0]));
    SIM_CHECK(sp_set_int(n->s.id, "sub:prefnew", (int)sim_pick(2)) == SP_OK);
    if (n->raw) { // It has no topics: as if it wanted "".
        listeners[n->index].wants[0][0] = true;
        listeners[n->index].ever[0][0] = true;
    } else {
        toggle(n, 0, sim_pick(TOPICS));
    }
}

/* ------------------------------------------------------------------ In the end */

/// What a context is handed, now that nothing else is under way.
static unsigned count_of(struct sim_node *n, unsigned c)
{
    unsigned count = 0;

    while (take_of(n, c)) {
        count++;
    }
    return count;
}

/// One message of each topic from each publisher, one at a time.
static void everybody_gets_what_he_wants(struct sim_world *w)
{
    for (unsigned round = 0; round < pubs * TOPICS; round++) {
        char text[4] = {'.', '.', '.', '.'};
        unsigned topic = round / pubs;
        int rc = publish(&w->node[round % pubs], (int)topic);

        SIM_CHECK(rc == SP_OK);
        memcpy(text, topics[topic], strlen(topics[topic]));
        sim_settle(50);
        for (unsigned i = pubs; i < w->n; i++) {
            const struct listener *l = &listeners[i];

            SIM_CHECK(count_of(&w->node[i], 0) == matches(l->wants[0], text));
            if (l->open) {
                SIM_CHECK(count_of(&w->node[i], 1) == matches(l->wants[1], text));
            }
        }
    }
    sim_settle(50);
}

static void run_pubsub(uint64_t seed)
{
    static const struct sim_acts acts = {
        .opened = pubsub_opened, .act = pubsub_act, .take = pubsub_take};
    struct sim_world w = {.acts = &acts};
    unsigned subs;

    sim_begin(seed);
    memset(sent, 0, sizeof(sent));
    memset(listeners, 0, sizeof(listeners));
    sim_heard_none();
    pubs = 1 + sim_pick(3);
    subs = 2 + sim_pick(3);
    for (unsigned i = 0; i < pubs; i++) {
        (void)sim_node_add(&w, "pub", (int)i, 0);
    }
    for (unsigned i = 0; i < subs; i++) {
        sim_node_add(&w, "sub", -1, (1U << pubs) - 1)->raw = sim_pick(4) == 0;
    }
    sim_world_run(&w);
    everybody_gets_what_he_wants(&w);
    sim_rest();
    sim_end();
}

int main(int argc, char **argv)
{
    static const struct sim_scenario scenarios[] = {{"pubsub", run_pubsub}};

    return sim_main(argc, argv, scenarios, 1);
}
