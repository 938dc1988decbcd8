/* SPDX-License-Identifier: MIT */
/// SURVEY in simulation: several who survey, several who respond, all of whom
/// come and go. Answers are those of the question that is open, at most one of
/// each respondent, until its time is over.
#include "sim_world.h"

#include <string.h>

static struct {
    uint32_t seq;
    bool open;
    bool answered[SIM_NODES];
} surveys[SIM_NODES];

/// A respondent's answer: to whom, to which survey, of whom.
struct opinion {
    struct sim_body about;
    uint32_t of;
};

static bool is_surveyor(const struct sim_node *n)
{
    return strcmp(n->protocol, "surveyor") == 0;
}

static void survey_opened(struct sim_node *n)
{
    surveys[n->index].open = false;
    if (is_surveyor(n)) {
        SIM_CHECK(sp_set_int(n->s.id, "surveyor:survey-time", 1 + (int)sim_pick(60)) == SP_OK);
    }
}

static bool respond(struct sim_node *n)
{
    struct opinion mine = {.of = n->index};
    int rc = sim_recv(n->s, &mine.about, sizeof(mine.about), NULL);

    if (rc == SP_OK) {
        SIM_CHECK(sp_send(n->s, &mine, sizeof(mine), 0) == SP_OK);
    } else {
        SIM_CHECK(rc == SP_EAGAIN);
    }
    return rc == SP_OK;
}

static bool collect(struct sim_node *n)
{
    struct opinion got;
    ssize_t len = sp_recv(n->s, &got, sizeof(got), SP_NONBLOCK);

    if (len == SP_EAGAIN) {
        return false;
    }
    if (len < 0) {
        SIM_CHECK(len == SP_ETIMEDOUT);
        surveys[n->index].open = false;
        return false;
    }
    SIM_CHECK(len == sizeof(got));
    SIM_CHECK(got.about.from == n->index && got.about.seq == surveys[n->index].seq);
    SIM_CHECK(!surveys[n->index].answered[got.of]);
    surveys[n->index].answered[got.of] = true;
    return true;
}

static bool survey_take(struct sim_node *n)
{
    return is_surveyor(n) ? surveys[n->index].open && collect(n) : respond(n);
}

static void ask(struct sim_node *n)
{
    int rc;

    if (!surveys[n->index].open) {
        struct sim_body got;

        SIM_CHECK(sim_recv(n->s, &got, sizeof(got), NULL) == SP_ESTATE);
    }
    rc = sim_send(n->s, n->index, surveys[n->index].seq + 1);
    SIM_CHECK(rc == SP_OK || rc == SP_ENOPEER || rc == SP_EAGAIN);
    if (rc == SP_OK) {
        surveys[n->index].seq++;
        surveys[n->index].open = true;
        memset(surveys[n->index].answered, 0, sizeof(surveys[n->index].answered));
    }
}

static void survey_act(struct sim_node *n)
{
    if (is_surveyor(n) && (!surveys[n->index].open || sim_pick(30) == 0)) {
        ask(n); // Instead of the last survey, if one is open.
    } else {
        (void)survey_take(n);
    }
}

static bool survey_busy(struct sim_node *n)
{
    return surveys[n->index].open; // Its time ends.
}

static const struct sim_acts survey_acts = {
    .opened = survey_opened, .act = survey_act, .take = survey_take, .busy = survey_busy};

static void run_survey(uint64_t seed)
{
    struct sim_world w = {.acts = &survey_acts};
    unsigned surveyors;
    unsigned respondents;

    sim_begin(seed);
    memset(surveys, 0, sizeof(surveys));
    surveyors = 1 + sim_pick(3);
    respondents = 1 + sim_pick(5);
    for (unsigned i = 0; i < surveyors; i++) {
        (void)sim_node_add(&w, "surveyor", (int)i, 0);
    }
    for (unsigned i = 0; i < respondents; i++) {
        (void)sim_node_add(&w, "respondent", -1, (1U << surveyors) - 1);
    }
    sim_world_run(&w);
    sim_end();
}

int main(int argc, char **argv)
{
    static const struct sim_scenario scenarios[] = {{"survey", run_survey}};

    return sim_main(argc, argv, scenarios, 1);
}
