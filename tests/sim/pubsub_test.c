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

/* ------------------------------------------------------------------ Holding */

#define BURST 500
#define QUEUE 24
#define HOLD 50 // ms, see core/ctx_hold.c

/// A receiver by an operation: it waits, and takes as many as it wants to.
static struct {
    sp_socket pub;
    sp_socket sub;
    sp_op *op;
    uint32_t got;
    uint32_t wants;
    bool prefnew;
    uint64_t own; ///< dropped messages that are no publisher's
} burst;

static void burst_done(sp_op *op, void *arg)
{
    sp_msg *m = sp_op_msg(op);
    uint32_t number;

    (void)arg;
    SIM_CHECK(sp_op_result(op) == SP_OK && sp_msg_len(m) == sizeof(number));
    memcpy(&number, sp_msg_view(m), sizeof(number));
    SIM_CHECK(number == ++burst.got); // In order, none is missing.
    sp_msg_release(m);
    if (burst.got < burst.wants) {
        SIM_CHECK(sp_op_recv(op, burst.sub.id) == SP_OK);
    }
}

/// A subscriber with a small queue, whose receiver waits.
static void burst_begin(uint64_t seed, uint32_t wants)
{
    sim_begin(seed);
    sim_lossless();
    burst.pub = sim_open("pub");
    burst.sub = sim_open("sub");
    burst.got = 0;
    burst.wants = wants;
    SIM_CHECK(sp_set_bytes(burst.sub.id, "subscribe", "", 0) == SP_OK);
    SIM_CHECK(sp_set_int(burst.sub.id, "recv-buffer", QUEUE) == SP_OK);
    burst.prefnew = sim_pick(2) == 1;
    SIM_CHECK(sp_set_int(burst.sub.id, "sub:prefnew", burst.prefnew) == SP_OK);
    SIM_CHECK(sp_set_str(burst.pub.id, "overflow", "block") == SP_OK);
    SIM_CHECK(sp_listen(burst.pub, "sim://burst", NULL) == SP_OK);
    SIM_CHECK(sp_dial(burst.sub, "sim://burst", NULL, SP_NONBLOCK) == SP_OK);
    SIM_CHECK(sp_op_new(&burst.op, burst_done, NULL) == SP_OK);
    SIM_CHECK(sp_op_recv(burst.op, burst.sub.id) == SP_OK);
    sim_settle(500);
    burst.own = sim_sums().dropped_in;
}

static bool burst_send(uint32_t number)
{
    int rc = sp_send(burst.pub, &number, sizeof(number), SP_NONBLOCK);

    SIM_CHECK(rc == SP_OK || rc == SP_EAGAIN);
    return rc == SP_OK;
}

static void burst_end(void)
{
    sim_settle(200);
    sp_op_free(burst.op);
    sim_rest();
    SIM_CHECK(sp_close(burst.pub) == SP_OK);
    SIM_CHECK(sp_close(burst.sub) == SP_OK);
    sim_end();
}

/// However much comes at once: a receiver that takes it misses nothing.
static void run_burst(uint64_t seed)
{
    burst_begin(seed, BURST);
    for (uint32_t n = 1; n <= BURST; n += burst_send(n)) {
        if (sim_pick(8) == 0) {
            SIM_CHECK(sp_run_once(1) >= 0);
        }
    }
    sim_settle(500);
    SIM_CHECK(burst.got == BURST);
    SIM_CHECK(sim_sums().dropped_in == burst.own);
    burst_end();
}

/// The queue holds the newest messages, or the ones that came first.
static void queue_is_full(void)
{
    uint32_t first = burst.prefnew ? BURST - QUEUE + 1 : 2;

    for (uint32_t i = 0; i < QUEUE; i++) {
        uint32_t number = 0;

        SIM_CHECK(sp_recv(burst.sub, &number, sizeof(number), SP_NONBLOCK) == sizeof(number));
        SIM_CHECK(number == first + i);
    }
}

/// A receiver that goes away is waited for once, and not for long.
static void run_absent(uint64_t seed)
{
    burst_begin(seed, 1);
    for (uint32_t n = 1; n <= BURST;) {
        bool went = burst_send(n);

        n += went;
        sim_settle(went ? 0 : 1);
    }
    sim_settle(HOLD + 50);
    SIM_CHECK(burst.got == 1);
    SIM_CHECK(sim_sums().dropped_in == burst.own + BURST - 1 - QUEUE);
    queue_is_full();
    burst_end();
}

int main(int argc, char **argv)
{
    static const struct sim_scenario scenarios[] = {
        {"pubsub", run_pubsub}, {"burst", run_burst}, {"absent", run_absent}};

    return sim_main(argc, argv, scenarios, 3);
}
