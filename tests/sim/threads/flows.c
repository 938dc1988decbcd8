/* SPDX-License-Identifier: MIT */
/// Messages: all arrive, once, in each sender's order, whoever sends and receives them.
#include "scenario.h"

#include <string.h>

#define SENDERS_MAX 3
#define MESSAGES_MAX 16 // of a sender

/// One direction between two sockets.
struct flow {
    sp_socket from;
    sp_socket to;
    unsigned senders;
    unsigned receivers;
    unsigned count; ///< of a sender
    unsigned next;  ///< sender
    unsigned taken; ///< by receivers that count
    unsigned got[SENDERS_MAX][MESSAGES_MAX];
    bool nonblock; ///< some calls do not wait
};

static void flow_send(void *arg)
{
    struct flow *f = arg;
    unsigned body[2] = {f->next++, 0};

    while (body[1] < f->count) {
        int flags = f->nonblock && sim_once_in(3) ? SP_NONBLOCK : 0;
        int rc = sp_send(f->from, body, sizeof(body), flags);

        SIM_CHECK(rc == SP_OK || rc == SP_ETIMEDOUT ||
                  (flags != 0 && (rc == SP_EAGAIN || rc == SP_ENOPEER)));
        body[1] += rc == SP_OK;
    }
}

/// Takes its share: how many in all is known, so nobody has to be told to stop.
static void flow_recv(void *arg)
{
    struct flow *f = arg;
    unsigned last[SENDERS_MAX] = {0};

    while (f->taken < f->senders * f->count) {
        unsigned body[2];

        f->taken++;
        for (ssize_t n = 0; n <= 0;) {
            int flags = f->nonblock && sim_once_in(3) ? SP_NONBLOCK : 0;

            n = sp_recv(f->to, body, sizeof(body), flags);
            SIM_CHECK(n == sizeof(body) || n == SP_ETIMEDOUT || (flags != 0 && n == SP_EAGAIN));
        }
        SIM_CHECK(body[0] < f->senders && body[1] < f->count);
        SIM_CHECK(f->got[body[0]][body[1]]++ == 0);
        SIM_CHECK(body[1] + 1 > last[body[0]]);
        last[body[0]] = body[1] + 1;
    }
}

static void flow_begin(struct flow *f, sp_socket from, sp_socket to)
{
    memset(f, 0, sizeof(*f));
    f->from = from;
    f->to = to;
    f->senders = 1 + (unsigned)sim_pick(SENDERS_MAX);
    f->receivers = 1 + (unsigned)sim_pick(SENDERS_MAX);
    f->count = 1 + (unsigned)sim_pick(MESSAGES_MAX);
    f->nonblock = sim_once_in(4);
    if (sim_once_in(3)) {
        SIM_CHECK(sp_set_int(from.id, "send-timeout", 1) == SP_OK);
        SIM_CHECK(sp_set_int(to.id, "recv-timeout", 1) == SP_OK);
    }
}

static void flow_run(struct flow *f, struct apps *apps)
{
    for (unsigned i = 0; i < f->senders || i < f->receivers; i++) {
        if (i < f->receivers) {
            apps_add(apps, flow_recv, f);
        }
        if (i < f->senders) {
            apps_add(apps, flow_send, f);
        }
    }
}

/// PAIR, one direction or both, with or without workers.
static void flow_scenario(void)
{
    int threads = (int)sim_pick(4) % 3;
    const char *url = scenario_url(sim_once_in(2), 0);
    const char *protocol = sim_once_in(2) ? "pair" : "pair1";
    struct apps apps = {0};
    struct flow f[2];
    sp_socket s[2];

    scenario_start(threads);
    s[0] = scenario_open(protocol);
    s[1] = scenario_open(protocol);
    flow_begin(&f[0], s[0], s[1]);
    flow_begin(&f[1], s[1], s[0]);
    if (f[0].senders + f[0].receivers + f[1].senders + f[1].receivers > APPS_MAX) {
        f[1].senders = 0; // One direction.
    }
    if (sim_once_in(2)) {
        sim_jumps(100 + sim_pick(2000));
    }
    sim_patience(500);
    SIM_CHECK(sp_listen(s[0], url, NULL) == SP_OK);
    SIM_CHECK(sp_dial(s[1], url, NULL, sim_once_in(2) ? SP_NONBLOCK : 0) == SP_OK);
    flow_run(&f[0], &apps);
    if (f[1].senders > 0) {
        flow_run(&f[1], &apps);
    }
    apps_join(&apps);
    sim_jumps(0);
    scenario_settle(threads, 3);
    scenario_check_rest(s[0]);
    scenario_check_rest(s[1]);
    SIM_CHECK(sp_close(s[sim_pick(2)]) == SP_OK);
    scenario_stop();
}

const struct scenario scenarios_flow[] = {
    {"flow", flow_scenario},
    {NULL, NULL},
};
