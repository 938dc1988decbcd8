/* SPDX-License-Identifier: MIT */
/// A device between two pairs, both ways, while it is ended and started again, or a socket of it is
/// closed. Unless one is, every message arrives, in order, and none is left on the way.
#include "scenario.h"

#include <string.h>

#define WAYS 2
#define WORDS 800

static struct {
    sp_socket end[WAYS]; ///< who talk
    sp_socket raw[WAYS];
    sp_op *op;
    unsigned count[WAYS]; ///< messages from end[i] to the other one
    unsigned got[WAYS];
    unsigned ends; ///< how often it is ended
    unsigned starts;
    unsigned dones;
    bool closes;
} dev;

static void dev_send(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;

    for (uint32_t i = 0; i < dev.count[me]; i++) {
        uint32_t body[WORDS] = {i};
        size_t len = sim_once_in(2) ? sizeof(i) : sizeof(body); // The latter costs more.
        int rc = sp_send(dev.end[me], body, len, 0);

        SIM_CHECK(rc == SP_OK || (dev.closes && (rc == SP_ETIMEDOUT || rc == SP_ECLOSED)));
        if (rc < 0) {
            break;
        }
    }
}

static void dev_recv(void *arg)
{
    unsigned from = (unsigned)(uintptr_t)arg;

    while (dev.got[from] < dev.count[from]) {
        uint32_t body[WORDS] = {0};
        ssize_t rc = sp_recv(dev.end[1 - from], body, sizeof(body), 0);

        if (dev.closes && rc < 0) {
            SIM_CHECK(rc == SP_ETIMEDOUT || rc == SP_ECLOSED);
            break;
        }
        SIM_CHECK(rc == sizeof(body) || rc == sizeof(body[0]));
        SIM_CHECK(body[0] == dev.got[from]); // What was lost with a socket was the rest.
        dev.got[from]++;
    }
}

static void dev_done(sp_op *op, void *arg)
{
    (void)arg;
    SIM_CHECK(sp_op_result(op) == SP_ECANCELED || (dev.closes && sp_op_result(op) == SP_OK));
    __atomic_fetch_add(&dev.dones, 1, __ATOMIC_RELAXED);
}

static void dev_start(void)
{
    int rc = sim_once_in(2) ? sp_op_device(dev.op, dev.raw[0], dev.raw[1])
                            : sp_op_device(dev.op, dev.raw[1], dev.raw[0]);

    SIM_CHECK(rc == SP_OK || (dev.closes && rc == SP_ECLOSED));
    dev.starts += rc == SP_OK;
}

/// Ends it now and then; in the end it runs, or a socket is closed.
static void dev_disturb(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < dev.ends; i++) {
        sim_sleep((int64_t)sim_pick(60) * 1000);
        (void)sp_op_cancel(dev.op);
        (void)sp_op_wait(dev.op);
        dev_start();
    }
    if (dev.closes) {
        sim_sleep((int64_t)sim_pick(60) * 1000);
        SIM_CHECK(sp_close(dev.raw[sim_pick(2)]) == SP_OK);
    }
}

static void dev_open(void)
{
    for (unsigned i = 0; i < WAYS; i++) {
        const char *url = scenario_url(sim_once_in(2), i);

        dev.end[i] = scenario_open("pair");
        SIM_CHECK(sp_open_raw(&dev.raw[i], "pair") == SP_OK);
        SIM_CHECK(sp_set_int(dev.raw[i].id, "send-buffer", 1 + (int64_t)sim_pick(3)) == SP_OK);
        SIM_CHECK(sp_set_int(dev.raw[i].id, "recv-buffer", 1 + (int64_t)sim_pick(8)) == SP_OK);
        SIM_CHECK(sp_set_int(dev.raw[i].id, "queue-bytes-max", 4096) == SP_OK);
        SIM_CHECK(sp_set_int(dev.raw[i].id, "linger", 0) == SP_OK);
        if (dev.closes) {
            SIM_CHECK(sp_set_int(dev.end[i].id, "send-timeout", 30) == SP_OK);
            SIM_CHECK(sp_set_int(dev.end[i].id, "recv-timeout", 30) == SP_OK);
        }
        SIM_CHECK(sp_listen(dev.raw[i], url, NULL) == SP_OK);
        SIM_CHECK(sp_dial(dev.end[i], url, NULL, 0) == SP_OK);
        dev.count[i] = (unsigned)sim_pick(8);
    }
}

static void device_scenario(void)
{
    int threads = scenario_start((int)sim_pick(3));
    struct apps apps = {0};

    memset(&dev, 0, sizeof(dev));
    dev.closes = sim_once_in(3);
    dev.ends = (unsigned)sim_pick(4);
    sim_patience(400);
    dev_open();
    if (sim_once_in(2)) {
        sim_jumps(100 + sim_pick(2000));
    }
    SIM_CHECK(sp_op_new(&dev.op, dev_done, NULL) == SP_OK);
    dev_start();
    for (unsigned i = 0; i < WAYS; i++) {
        apps_add(&apps, dev_send, (void *)(uintptr_t)i);
        apps_add(&apps, dev_recv, (void *)(uintptr_t)i);
    }
    apps_add(&apps, dev_disturb, NULL);
    apps_join(&apps);
    if (!dev.closes) {
        SIM_CHECK(dev.got[0] == dev.count[0] && dev.got[1] == dev.count[1]);
        scenario_settle(threads, 3);
        for (unsigned i = 0; i < WAYS; i++) {
            scenario_check_rest(dev.raw[i]);
            scenario_check_rest(dev.end[i]);
        }
    }
    if (sim_once_in(2)) {
        (void)sp_op_stop(dev.op);
    }
    sp_op_free(dev.op);
    SIM_CHECK(dev.starts == dev.dones);
    scenario_stop();
}

const struct scenario scenarios_device[] = {
    {"device", device_scenario, true},
    {NULL, NULL, false},
};
