/* SPDX-License-Identifier: MIT */
/// Contexts of SURVEY in simulation, each with surveys of its own, while sockets come and go; and
/// the deadline, which is kept to the nanosecond.
#include "platform.h"
#include "sim_world.h"

#include <string.h>

#define CTXS 3 // of a SURVEYOR

/// Who surveys: a socket's own context (0), or one more.
struct asker {
    sp_ctx ctx; ///< id 0: the socket's own
    uint32_t seq;
    bool surveying;
    int64_t sent; ///< ns
    int64_t time; ///< ms
};

static struct asker askers[SIM_NODES][CTXS];

static bool is_surveyor(const struct sim_node *n)
{
    return strcmp(n->protocol, "surveyor") == 0;
}

static void survey_opened(struct sim_node *n)
{
    if (!is_surveyor(n)) {
        return;
    }
    for (unsigned i = 0; i < CTXS; i++) {
        struct asker *a = &askers[n->index][i];
        uint64_t id = n->s.id;

        if (i > 0) {
            SIM_CHECK(sp_ctx_open(&a->ctx, n->s) == SP_OK);
            id = a->ctx.id;
        }
        a->surveying = false;
        a->time = (int64_t)sim_pick(100);
        SIM_CHECK(sp_set_int(id, "surveyor:survey-time", a->time) == SP_OK);
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

/// True: it received something.
static bool collect(struct sim_node *n, unsigned i)
{
    struct asker *a = &askers[n->index][i];
    struct sim_body got;
    int rc = asker_recv(n, i, &got);

    if (!a->surveying) {
        SIM_CHECK(rc == SP_ESTATE);
    } else if (rc == SP_ETIMEDOUT) {
        SIM_CHECK(sp__now() >= a->sent + a->time * SP__MS);
        a->surveying = false;
    } else {
        SIM_CHECK(rc == SP_EAGAIN || (got.from == name_of(n, i) && got.seq == a->seq));
    }
    return rc == SP_OK;
}

static void survey(struct sim_node *n, unsigned i)
{
    struct asker *a = &askers[n->index][i];
    struct sim_body body = {name_of(n, i), a->seq + 1};
    sp_msg *m = NULL;
    int rc;

    SIM_CHECK(sp_msg_new(&m, 0) == SP_OK && sp_msg_append(m, &body, sizeof(body)) == SP_OK);
    rc = i == 0 ? sp_sendmsg(n->s, m, SP_NONBLOCK) : sp_ctx_sendmsg(a->ctx, m, SP_NONBLOCK);
    SIM_CHECK(rc == SP_OK || rc == SP_EAGAIN);
    if (rc == SP_OK) {
        a->seq++;
        a->surveying = true;
        a->sent = sp__now();
    } else {
        sp_msg_release(m); // More at once than the protocol was given.
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

static bool survey_take(struct sim_node *n)
{
    bool any = !is_surveyor(n) && answer(n);

    for (unsigned i = 0; is_surveyor(n) && i < CTXS; i++) {
        any = collect(n, i) || any;
    }
    return any;
}

static void survey_act(struct sim_node *n)
{
    unsigned i = sim_pick(CTXS);

    if (!is_surveyor(n)) {
        (void)answer(n);
    } else if (sim_pick(askers[n->index][i].surveying ? 20 : 3) == 0) {
        survey(n, i);
    } else {
        (void)collect(n, i);
    }
}

static bool survey_busy(struct sim_node *n)
{
    bool busy = false;

    for (unsigned i = 0; is_surveyor(n) && i < CTXS; i++) {
        busy = busy || askers[n->index][i].surveying;
    }
    return busy;
}

static const struct sim_acts survey_acts = {
    .opened = survey_opened, .act = survey_act, .take = survey_take, .busy = survey_busy};

static void run_contexts(uint64_t seed)
{
    struct sim_world w = {.acts = &survey_acts};
    unsigned surveyors;
    unsigned respondents;

    sim_begin(seed);
    memset(askers, 0, sizeof(askers));
    surveyors = 1 + sim_pick(3);
    respondents = 2 + sim_pick(4);
    for (unsigned i = 0; i < surveyors; i++) {
        (void)sim_node_add(&w, "surveyor", (int)i, 0);
    }
    for (unsigned i = 0; i < respondents; i++) {
        (void)sim_node_add(&w, "respondent", -1, (1U << surveyors) - 1);
    }
    sim_world_run(&w);
    sim_end();
}

/// A receiver that waits is told at the deadline, to the nanosecond.
static void run_deadline(uint64_t seed)
{
    sp_socket respondent;
    sp_socket s;

    sim_begin(seed);
    s = sim_open("surveyor");
    respondent = sim_open("respondent");
    SIM_CHECK(sp_listen(s, "sim://0", NULL) == SP_OK);
    SIM_CHECK(sp_dial(respondent, "sim://0", NULL, SP_NONBLOCK) == SP_OK);
    for (unsigned i = 0; i < 20; i++) {
        int64_t time = (int64_t)sim_pick(2000);
        int64_t sent;
        uint32_t got;
        int rc;

        sim_settle((int)sim_pick(5));
        SIM_CHECK(sp_set_int(s.id, "surveyor:survey-time", time) == SP_OK);
        sent = sp__now();
        SIM_CHECK(sp_send(s, &i, sizeof(i), 0) == SP_OK);
        if (sim_pick(2) == 0 && time > 100) {
            sim_settle(50);
            if (sp_recv(respondent, &got, sizeof(got), SP_NONBLOCK) > 0) {
                SIM_CHECK(sp_send(respondent, &got, sizeof(got), 0) == SP_OK);
            }
        }
        while ((rc = (int)sp_recv(s, &got, sizeof(got), 0)) == sizeof(got)) {
            SIM_CHECK(sp__now() <= sent + time * SP__MS);
        }
        SIM_CHECK(rc == SP_ETIMEDOUT);
        SIM_CHECK(sp__now() == sent + time * SP__MS);
        SIM_CHECK(sp_recv(s, &got, sizeof(got), 0) == SP_ESTATE);
        while (sp_recv(respondent, &got, sizeof(got), SP_NONBLOCK) > 0) {
        }
    }
    sim_calm();
    sim_settle(200);
    while (sp_recv(respondent, &(uint32_t){0}, sizeof(uint32_t), SP_NONBLOCK) > 0) {
        sim_settle(1);
    }
    sim_rest();
    sim_end();
}

int main(int argc, char **argv)
{
    static const struct sim_scenario scenarios[] = {{"contexts", run_contexts},
                                                    {"deadline", run_deadline}};

    return sim_main(argc, argv, scenarios, sizeof(scenarios) / sizeof(scenarios[0]));
}
