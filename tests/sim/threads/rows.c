/* SPDX-License-Identifier: MIT */
/// Messages in a row: batches that are larger than the credit, and senders that go on sending, and
/// then wait for an answer.
#include "scenario.h"

#include "core/socket.h"

#include <string.h>

/* ------------------------------------------------------------------ Batches */

#define BATCH_MIN (SP__RX_WINDOW + 1)
#define BATCH_MAX (2 * SP__RX_WINDOW)

struct batch {
    sp_socket from;
    sp_socket to;
    uint16_t count;
    uint16_t taken; ///< by receivers that count
    uint16_t got;
};

static void batch_send(void *arg)
{
    const struct batch *b = arg;
    sp_msg *m[BATCH_MAX];

    for (uint16_t i = 0; i < b->count; i++) {
        SIM_CHECK(sp_msg_new(&m[i], sizeof(i)) == SP_OK);
        memcpy(sp_msg_data(m[i]), &i, sizeof(i));
    }
    for (int i = 0; i < b->count;) {
        int rc = sp_sendmsgs(b->from, m + i, (size_t)(b->count - i), 0);

        SIM_CHECK(rc > 0 && rc <= b->count - i);
        i += rc;
    }
}

/// Takes a share of what is left, and sees it in order.
static void batch_recv(void *arg)
{
    struct batch *b = arg;
    int last = -1;

    while (b->taken < b->count) {
        sp_msg *m[BATCH_MAX];
        uint16_t left = (uint16_t)(b->count - b->taken);
        uint16_t share = (uint16_t)(1 + sim_pick(sim_once_in(2) ? left : 1));

        b->taken += share;
        for (int i = 0, n; i < share; i += n) {
            n = sp_recvmsgs(b->to, m, (size_t)(share - i), 0);
            SIM_CHECK(n > 0 && n <= share - i);
            for (int k = 0; k < n; k++) {
                uint16_t id;

                memcpy(&id, sp_msg_view(m[k]), sizeof(id));
                SIM_CHECK(id < b->count && id > last);
                last = id;
                sp_msg_release(m[k]);
            }
            b->got += (uint16_t)n;
        }
    }
}

static void batch_begin(struct batch *b, sp_socket from, sp_socket to)
{
    *b = (struct batch){.from = from, .to = to};
    b->count = (uint16_t)(BATCH_MIN + sim_pick(BATCH_MAX - BATCH_MIN));
    SIM_CHECK(sp_set_int(from.id, "send-buffer", 1 + (int64_t)sim_pick(b->count)) == SP_OK);
    if (sim_once_in(4)) {
        SIM_CHECK(sp_set_int(to.id, "recv-buffer", 1 + (int64_t)sim_pick(b->count)) == SP_OK);
    }
}

/// What one call sends goes on however the peer's credit comes.
static void batch_scenario(void)
{
    int threads = scenario_start((int)sim_pick(3));
    const char *url = scenario_url(false, 0);
    struct apps apps = {0};
    struct batch b[2];
    sp_socket s[2];
    unsigned ways = sim_once_in(4) ? 2 : 1;

    s[0] = scenario_open("pair");
    s[1] = scenario_open("pair");
    SIM_CHECK(sp_listen(s[0], url, NULL) == SP_OK);
    sim_patience(80);
    for (unsigned i = 0; i < ways; i++) {
        batch_begin(&b[i], s[i], s[1 - i]);
        apps_add(&apps, batch_send, &b[i]);
        for (uint64_t n = 1 + sim_pick(3); n > 0; n--) {
            apps_add(&apps, batch_recv, &b[i]);
        }
    }
    SIM_CHECK(sp_dial(s[1], url, NULL, 0) == SP_OK);
    apps_join(&apps);
    for (unsigned i = 0; i < ways; i++) {
        SIM_CHECK(b[i].got == b[i].count);
    }
    scenario_settle(threads, 3);
    scenario_check_rest(s[0]);
    scenario_check_rest(s[1]);
    scenario_stop();
}

/* ------------------------------------------------------------------ Talk */

#define TALK_ROUNDS 5
#define TALK_ROW 5 // messages

struct talk {
    sp_socket asks;
    sp_socket answers;
    unsigned rounds;
    unsigned rows[TALK_ROUNDS]; ///< of each round
};

/// Sends some in a row, and pauses now and then, as one that has something else to do.
static void talk_send(sp_socket s, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        SIM_CHECK(sp_send(s, &i, sizeof(i), 0) == SP_OK);
        if (sim_once_in(8)) {
            sim_sleep((int64_t)sim_pick(300) * 1000);
        }
    }
}

static void talk_recv(sp_socket s, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        unsigned got;

        SIM_CHECK(sp_recv(s, &got, sizeof(got), 0) == sizeof(got) && got == i);
    }
}

static void talk_ask(void *arg)
{
    const struct talk *t = arg;

    for (unsigned i = 0; i < t->rounds; i++) {
        talk_send(t->asks, t->rows[i]);
        talk_recv(t->asks, t->rows[i]);
    }
}

static void talk_answer(void *arg)
{
    const struct talk *t = arg;

    for (unsigned i = 0; i < t->rounds; i++) {
        talk_recv(t->answers, t->rows[i]);
        talk_send(t->answers, t->rows[i]);
    }
}

static int talk_on_pipe(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    (void)s;
    (void)p;
    (void)ev;
    (void)arg;
    sim_sleep((int64_t)sim_pick(500) * 1000);
    return 0;
}

static void talk_begin(struct talk *t, const char *url)
{
    t->rounds = 2 + (unsigned)sim_pick(TALK_ROUNDS - 1);
    for (unsigned i = 0; i < t->rounds; i++) {
        t->rows[i] = 1 + (unsigned)sim_pick(TALK_ROW);
    }
    t->asks = scenario_open("pair");
    t->answers = scenario_open("pair");
    SIM_CHECK(sp_set_int(t->asks.id, "in-place", 1) == SP_OK);
    if (sim_once_in(4)) {
        SIM_CHECK(sp_on_pipe(t->answers, talk_on_pipe, NULL) == SP_OK);
    }
    SIM_CHECK(sp_listen(t->answers, url, NULL) == SP_OK);
    SIM_CHECK(sp_dial(t->asks, url, NULL, SP_NONBLOCK) == SP_OK);
}

/// Threads that send in a row and then wait: they cork, look, poll, and leave that to others.
static void talk_scenario(void)
{
    struct apps apps = {0};
    struct talk t[2];
    unsigned n = 1 + (unsigned)sim_pick(2);

    (void)scenario_start(1 + (int)sim_pick(2));
    sim_patience(80);
    if (sim_once_in(2)) {
        sim_jumps(100 + sim_pick(2000));
    }
    for (unsigned i = 0; i < n; i++) {
        talk_begin(&t[i], scenario_url(!sim_once_in(6), i));
        apps_add(&apps, talk_ask, &t[i]);
        apps_add(&apps, talk_answer, &t[i]);
    }
    apps_join(&apps);
    scenario_stop();
}

const struct scenario scenarios_row[] = {
    {"batch", batch_scenario, false},
    {"talk", talk_scenario, false},
    {NULL, NULL, false},
};
