/* SPDX-License-Identifier: MIT */
/// REQ/REP in simulation: several who ask, with contexts, several who answer, all of whom come and
/// go. Each question is answered in the end, by exactly its answer, once, unless it is replaced.
#include "sim_world.h"

#include <string.h>

#define CTXS 3 // of a REQ

/// Who asks: a socket's own context (0), or one more.
struct asker {
    sp_ctx ctx; ///< id 0: the socket's own
    uint32_t seq;
    bool waiting;
};

static struct asker askers[SIM_NODES][CTXS];
static unsigned ctxs; // of this run

static bool is_req(const struct sim_node *n)
{
    return strcmp(n->protocol, "req") == 0;
}

static void reqrep_opened(struct sim_node *n)
{
    if (!is_req(n)) {
        return;
    }
    SIM_CHECK(sp_set_int(n->s.id, "req:resend-time", 30) == SP_OK);
    SIM_CHECK(sp_set_int(n->s.id, "req:resend-tick", 10) == SP_OK);
    for (unsigned i = 0; i < ctxs; i++) {
        askers[n->index][i].waiting = false;
        if (i > 0) {
            SIM_CHECK(sp_ctx_open(&askers[n->index][i].ctx, n->s) == SP_OK);
        }
    }
}

static uint32_t name_of(const struct sim_node *n, unsigned i)
{
    return n->index * CTXS + i;
}

static int asker_recv(struct sim_node *n, unsigned i, struct sim_body *got)
{
    return sim_recv_own(n->s, askers[n->index][i].ctx, got, sizeof(*got), NULL);
}

static bool get_answer(struct sim_node *n, unsigned i)
{
    struct asker *a = &askers[n->index][i];
    struct sim_body got;
    int rc = asker_recv(n, i, &got);

    if (rc != SP_EAGAIN) {
        SIM_CHECK(rc == SP_OK && got.from == name_of(n, i) && got.seq == a->seq);
        a->waiting = false;
    }
    return rc == SP_OK;
}

static void ask(struct sim_node *n, unsigned i)
{
    struct asker *a = &askers[n->index][i];
    struct sim_body body = {name_of(n, i), a->seq + 1};
    sp_msg *m = NULL;
    int rc;

    if (!a->waiting) {
        SIM_CHECK(asker_recv(n, i, &body) == SP_ESTATE);
    }
    SIM_CHECK(sp_msg_new(&m, 0) == SP_OK && sp_msg_append(m, &body, sizeof(body)) == SP_OK);
    rc = i == 0 ? sp_sendmsg(n->s, m, SP_NONBLOCK) : sp_ctx_sendmsg(a->ctx, m, SP_NONBLOCK);
    SIM_CHECK(rc == SP_OK || rc == SP_ENOPEER || rc == SP_EAGAIN);
    if (rc == SP_OK) {
        a->seq++;
        a->waiting = true;
    } else {
        sp_msg_release(m);
    }
}

static bool answer(struct sim_node *n)
{
    struct sim_body got;
    int rc = sim_recv(n->s, &got, sizeof(got), NULL);

    if (rc == SP_OK) {
        SIM_CHECK(sp_send(n->s, &got, sizeof(got), 0) == SP_OK);
    } else {
        SIM_CHECK(rc == SP_EAGAIN);
    }
    return rc == SP_OK;
}

static bool reqrep_take(struct sim_node *n)
{
    bool any = !is_req(n) && answer(n);

    for (unsigned i = 0; is_req(n) && i < ctxs; i++) {
        any = (askers[n->index][i].waiting && get_answer(n, i)) || any;
    }
    return any;
}

static void reqrep_act(struct sim_node *n)
{
    unsigned i = sim_pick(ctxs);

    if (!is_req(n)) {
        (void)answer(n);
        return;
    }
    if (!askers[n->index][i].waiting || sim_pick(20) == 0) {
        ask(n, i); // Instead of the last question, if there is one.
    } else {
        (void)get_answer(n, i);
    }
}

static bool reqrep_busy(struct sim_node *n)
{
    bool busy = false;

    for (unsigned i = 0; is_req(n) && i < ctxs; i++) {
        busy = busy || askers[n->index][i].waiting;
    }
    return busy;
}

static const struct sim_acts reqrep_acts = {
    .opened = reqrep_opened, .act = reqrep_act, .take = reqrep_take, .busy = reqrep_busy};

static void run_with(uint64_t seed, unsigned contexts)
{
    struct sim_world w = {.acts = &reqrep_acts};
    unsigned reps;
    unsigned reqs;

    sim_begin(seed);
    memset(askers, 0, sizeof(askers));
    ctxs = contexts;
    reps = 1 + sim_pick(3);
    reqs = 1 + sim_pick(4);
    for (unsigned i = 0; i < reps; i++) {
        (void)sim_node_add(&w, "rep", (int)i, 0);
    }
    for (unsigned i = 0; i < reqs; i++) {
        (void)sim_node_add(&w, "req", -1, (1U << reps) - 1);
    }
    sim_world_run(&w);
    sim_end();
}

static void run_reqrep(uint64_t seed)
{
    run_with(seed, 1);
}

static void run_contexts(uint64_t seed)
{
    run_with(seed, CTXS);
}

int main(int argc, char **argv)
{
    static const struct sim_scenario scenarios[] = {{"reqrep", run_reqrep},
                                                    {"contexts", run_contexts}};

    return sim_main(argc, argv, scenarios, sizeof(scenarios) / sizeof(scenarios[0]));
}
