/* SPDX-License-Identifier: MIT */
/// Operations, contexts and scopes: each start is done exactly once, no message is lost, whoever
/// cancels, stops, frees and closes meanwhile.
#include "scenario.h"

#include "core/platform.h"

#include <string.h>

#define SLOTS 6

/* ------------------------------------------------------------------ Operations */

struct slot {
    sp_op *op;
    sp_socket s;
    bool sends;
    unsigned again; ///< times that it starts itself in its callback
    unsigned starts;
    unsigned dones;
    bool starting; ///< a start is under way, on a thread that is no worker's
};

static struct {
    sp_socket s[2];
    sp_scope scope;
    struct slot slot[SLOTS];
    unsigned sent;
    unsigned got;
} ops;

static void slot_start(struct slot *slot)
{
    sp_msg *m = NULL;
    int rc;

    if (sim_once_in(4)) {
        sp_op_deadline(slot->op, (int)sim_pick(3));
    }
    if (sim_once_in(6)) {
        sp_scope none = {0};

        sp_op_scope(slot->op, sim_once_in(2) ? ops.scope : none);
    }
    if (sim_once_in(8)) {
        rc = sp_op_sleep(slot->op, (int)sim_pick(3));
    } else if (slot->sends) {
        SIM_CHECK(sp_msg_new(&m, 1) == SP_OK);
        rc = sp_op_send(slot->op, slot->s.id, m);
    } else {
        rc = sp_op_recv(slot->op, slot->s.id);
    }
    SIM_CHECK(rc == SP_OK || rc == SP_ESTATE || rc == SP_ECANCELED || rc == SP_ETIMEDOUT);
    slot->starts += rc == SP_OK;
    if (rc < 0) {
        sp_msg_release(m);
    }
}

static void slot_done(sp_op *op, void *arg)
{
    struct slot *slot = arg;
    int rc = sp_op_result(op);
    sp_msg *m = sp_op_msg(op);

    SIM_CHECK(op == slot->op && !slot->starting);
    SIM_CHECK(rc == SP_OK || rc == SP_ECANCELED || rc == SP_ETIMEDOUT || rc == SP_ECLOSED);
    if (m != NULL && !slot->sends) {
        SIM_CHECK(rc == SP_OK);
        ops.got++;
    }
    sp_msg_release(m);
    for (unsigned i = (unsigned)sim_pick(10); i > 0; i--) {
        SIM_POINT();
    }
    slot->dones++;
    if (slot->again > 0) {
        slot->again--;
        slot_start(slot);
    }
    if (sim_once_in(12)) {
        (void)sp_op_cancel(ops.slot[sim_pick(SLOTS)].op);
    }
}

/// Some call or other on some operation.
static void ops_disturb(void *arg)
{
    (void)arg;
    for (unsigned i = 3 + (unsigned)sim_pick(10); i > 0; i--) {
        struct slot *slot = &ops.slot[sim_pick(SLOTS)];

        switch (sim_pick(5)) {
        case 0:
            (void)sp_op_cancel(slot->op);
            break;
        case 1:
            (void)sp_op_result(slot->op);
            break;
        case 2:
            slot_start(slot);
            break;
        case 3:
            (void)sp_op_wait(slot->op);
            break;
        default:
            (void)sp_scope_cancel(ops.scope);
            break;
        }
        if (sim_once_in(4)) {
            sim_sleep((int64_t)sim_pick(1500) * 1000);
        }
    }
}

/// Counts what a sender's operation got rid of: its message is not given back.
static unsigned ops_take_rest(int threads)
{
    unsigned n = 0;
    char c;

    scenario_settle(threads, 5);
    for (int k = 0; k < 2; k++) {
        while (sp_recv(ops.s[k], &c, 1, SP_NONBLOCK) == 1) {
            n++;
            scenario_settle(threads, 1);
        }
    }
    return n;
}

static void ops_scenario(void)
{
    int threads = scenario_start((int)sim_pick(3));
    struct apps apps = {0};
    sp_scope none = {0};

    memset(&ops, 0, sizeof(ops));
    ops.s[0] = scenario_open("pair");
    ops.s[1] = scenario_open("pair");
    sim_patience(400);
    SIM_CHECK(sp_listen(ops.s[0], scenario_url(false, 0), NULL) == SP_OK);
    SIM_CHECK(sp_dial(ops.s[1], scenario_url(false, 0), NULL, 0) == SP_OK);
    SIM_CHECK(sp_set_int(ops.s[0].id, "recv-timeout", 20) == SP_OK);
    SIM_CHECK(sp_set_int(ops.s[1].id, "recv-timeout", 20) == SP_OK);
    SIM_CHECK(sp_set_int(ops.s[0].id, "send-timeout", 20) == SP_OK);
    SIM_CHECK(sp_set_int(ops.s[1].id, "send-timeout", 20) == SP_OK);
    SIM_CHECK(sp_scope_open(&ops.scope, none, sim_once_in(3) ? 3 : -1) == SP_OK);
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *slot = &ops.slot[i];

        *slot = (struct slot){.s = ops.s[sim_pick(2)], .sends = sim_once_in(2)};
        slot->again = (unsigned)sim_pick(4);
        SIM_CHECK(sp_op_new(&slot->op, slot_done, slot) == SP_OK);
    }
    for (unsigned i = 1 + (unsigned)sim_pick(3); i > 0; i--) {
        apps_add(&apps, ops_disturb, NULL);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        slot_start(&ops.slot[i]);
    }
    apps_join(&apps);
    for (unsigned i = 0; i < SLOTS; i++) {
        (void)sp_op_stop(ops.slot[i].op);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        (void)sp_op_wait(ops.slot[i].op);
        SIM_CHECK(ops.slot[i].starts == ops.slot[i].dones);
    }
    (void)ops_take_rest(threads);
    scenario_check_rest(ops.s[0]);
    scenario_check_rest(ops.s[1]);
    for (unsigned i = 0; i < SLOTS; i++) {
        sp_op_free(ops.slot[i].op);
    }
    SIM_CHECK(sp_scope_close(ops.scope) == SP_OK);
    scenario_stop();
}

/* ------------------------------------------------------------------ Contexts */

#define CTXS 4

struct side {
    sp_ctx ctx;
    sp_op *op;
    bool asks;
    bool sending;
    unsigned left; ///< steps that it goes on for
    unsigned answers;
};

static struct {
    sp_socket rep;
    sp_socket req;
    struct side side[2 * CTXS];
} talk;

/// Starts the next step with the message of the one before; ends when it fails.
static void side_step(struct side *side, sp_msg *m)
{
    int rc;

    side->sending = !side->sending;
    if (side->sending) {
        if (m == NULL) {
            SIM_CHECK(sp_msg_new(&m, 4) == SP_OK);
        }
        rc = sp_op_send(side->op, side->ctx.id, m);
    } else {
        rc = sp_op_recv(side->op, side->ctx.id);
        sp_msg_release(m);
        m = NULL;
    }
    SIM_CHECK(rc == SP_OK || rc == SP_ECLOSED || rc == SP_ECANCELED);
    if (rc < 0) {
        sp_msg_release(m);
    }
}

static void side_done(sp_op *op, void *arg)
{
    struct side *side = arg;
    int rc = sp_op_result(op);
    sp_msg *m = sp_op_msg(op);

    if (rc < 0) {
        SIM_CHECK(rc == SP_ECLOSED || rc == SP_ECANCELED || rc == SP_ETIMEDOUT);
        sp_msg_release(m);
        return;
    }
    side->answers += side->asks && !side->sending;
    if (side->left == 0) {
        sp_msg_release(m);
        return;
    }
    side->left--;
    if (side->asks && m != NULL) {
        memcpy(sp_msg_data(m), "next", 4);
    }
    side_step(side, m);
}

static void talk_close(void *arg)
{
    (void)arg;
    for (unsigned i = (unsigned)sim_pick(4); i > 0; i--) {
        struct side *side = &talk.side[sim_pick((uint64_t)2 * CTXS)];

        sim_sleep((int64_t)sim_pick(1000) * 1000);
        if (sim_once_in(2)) {
            (void)sp_ctx_close(side->ctx);
        } else {
            (void)sp_op_cancel(side->op);
        }
    }
}

/// Contexts ask and answer by callbacks while some are closed: the others get their own answers.
static void contexts_scenario(void)
{
    int threads = scenario_start((int)sim_pick(3));
    struct apps apps = {0};
    bool closes = !sim_once_in(3);
    const char *url = scenario_url(sim_once_in(2), 0);

    memset(&talk, 0, sizeof(talk));
    talk.rep = scenario_open("rep");
    talk.req = scenario_open("req");
    sim_patience(400);
    SIM_CHECK(sp_listen(talk.rep, url, NULL) == SP_OK);
    SIM_CHECK(sp_dial(talk.req, url, NULL, sim_once_in(2) ? SP_NONBLOCK : 0) == SP_OK);
    for (unsigned i = 0; i < 2 * CTXS; i++) {
        struct side *side = &talk.side[i];

        side->asks = i >= CTXS;
        side->left = side->asks ? 1 + 2 * (unsigned)sim_pick(4) : 1000;
        SIM_CHECK(sp_ctx_open(&side->ctx, side->asks ? talk.req : talk.rep) == SP_OK);
        SIM_CHECK(sp_op_new(&side->op, side_done, side) == SP_OK);
        sp_op_deadline(side->op, closes ? 50 : -1);
    }
    if (closes) {
        apps_add(&apps, talk_close, NULL);
    }
    for (unsigned i = 0; i < 2 * CTXS; i++) {
        talk.side[i].sending = !talk.side[i].asks;
        side_step(&talk.side[i], NULL);
    }
    for (unsigned i = CTXS; i < 2 * CTXS && !closes; i++) {
        unsigned steps = talk.side[i].left;

        while (talk.side[i].left > 0) {
            scenario_settle(threads, 1);
        }
        (void)sp_op_wait(talk.side[i].op);
        SIM_CHECK(talk.side[i].answers > 0 && steps < 1000);
    }
    apps_join(&apps);
    for (unsigned i = 0; i < 2 * CTXS; i++) {
        (void)sp_op_stop(talk.side[i].op);
        (void)sp_op_wait(talk.side[i].op);
    }
    scenario_settle(threads, 5);
    scenario_check_rest(talk.rep);
    scenario_check_rest(talk.req);
    if (sim_once_in(2)) {
        SIM_CHECK(sp_close(talk.req) == SP_OK);
    }
    for (unsigned i = 0; i < 2 * CTXS; i++) {
        sp_op_free(talk.side[i].op);
    }
    scenario_stop();
}

/* ------------------------------------------------------------------ Scopes */

static struct {
    sp_socket s;
    sp_scope scope[3]; ///< each inside the one before
    bool over[3];
} tree;

static void scope_wait(void *arg)
{
    unsigned which = (unsigned)(uintptr_t)arg;
    sp_msg *m = NULL;
    int rc = sp_recvmsg_in(tree.scope[which], tree.s.id, &m);

    sp_msg_release(m);
    SIM_CHECK(rc == SP_OK || rc == SP_ECANCELED || rc == SP_ECLOSED);
}

/// Threads wait in scopes; a cancel of the outermost ends them all, of an inner one its own.
static void scopes_scenario(void)
{
    struct apps inner = {0};
    struct apps outer = {0};
    sp_scope none = {0};

    (void)scenario_start((int)sim_pick(3));
    memset(&tree, 0, sizeof(tree));
    tree.s = scenario_open("pair");
    sim_patience(80);
    for (unsigned i = 0; i < 3; i++) {
        SIM_CHECK(sp_scope_open(&tree.scope[i], i > 0 ? tree.scope[i - 1] : none, -1) == SP_OK);
    }
    for (uintptr_t i = 1 + sim_pick(2); i > 0; i--) {
        apps_add(&inner, scope_wait, (void *)(uintptr_t)2);
        apps_add(&outer, scope_wait, (void *)(uintptr_t)sim_pick(2));
    }
    if (sim_once_in(2)) {
        sim_sleep((int64_t)sim_pick(100) * 1000);
    }
    (void)sp_scope_cancel(tree.scope[1 + sim_pick(2)]);
    apps_join(&inner);
    if (sim_once_in(2)) {
        (void)sp_scope_cancel(tree.scope[0]);
    } else {
        SIM_CHECK(sp_scope_close(tree.scope[0]) == SP_OK);
    }
    apps_join(&outer);
    if (sim_once_in(2)) {
        SIM_CHECK(sp_scope_close(tree.scope[2]) == SP_OK);
    }
    scenario_stop();
}

const struct scenario scenarios_op[] = {
    {"ops", ops_scenario, true},
    {"contexts", contexts_scenario, true},
    {"scopes", scopes_scenario, false},
    {NULL, NULL, false},
};
