/* SPDX-License-Identifier: MIT */
/// What ends while it is used: sockets, endpoints, pipes, the library.
#include "scenario.h"

#include <string.h>

/* ------------------------------------------------------------------ Close against use */

static struct {
    sp_socket s[2];
    unsigned closed[2];
    const char *url;
} race;

static bool closed_now(int rc)
{
    return rc == SP_ECLOSED || rc == SP_EINVAL;
}

static int use_endpoint(sp_socket s)
{
    sp_listener l;
    sp_dialer d;
    int rc;

    if (sim_once_in(2)) {
        rc = sp_listen(s, "inproc://other", &l);
        if (rc == SP_OK) {
            rc = sp_listener_close(l);
        }
        SIM_CHECK(rc == SP_OK || closed_now(rc) || rc < 0);
    } else {
        rc = sp_dial(s, race.url, &d, SP_NONBLOCK);
        if (rc == SP_OK) {
            rc = sp_dialer_close(d);
        }
        SIM_CHECK(rc == SP_OK || closed_now(rc));
    }
    return closed_now(rc) ? rc : SP_OK;
}

static int use_pipes(sp_socket s)
{
    sp_peer_info info[2] = {{.size = sizeof(sp_peer_info)}};
    size_t n = 2;
    int rc = sp_peers(s, info, &n);

    SIM_CHECK(rc == SP_OK || closed_now(rc));
    for (size_t i = 0; rc == SP_OK && i < n; i++) {
        (void)sp_pipe_socket(info[i].pipe);
        (void)sp_pipe_close(info[i].pipe);
    }
    return rc;
}

/// Some call or other.
static int use_once(sp_socket s)
{
    char c = 0;
    int64_t v;
    char *json;
    int rc;

    switch (sim_pick(8)) {
    case 0:
        return sp_send(s, "x", 1, 0);
    case 1:
        return (int)sp_recv(s, &c, 1, 0);
    case 2:
        return sp_send(s, "x", 1, SP_NONBLOCK);
    case 3:
        return (int)sp_recv(s, &c, 1, SP_NONBLOCK);
    case 4:
        return sp_get_int(s.id, "send-buffer", &v);
    case 5:
        rc = sp_stats(s.id, &json);
        if (rc == SP_OK) {
            sp_free(json);
        }
        return rc;
    case 6:
        return use_endpoint(s);
    default:
        return use_pipes(s);
    }
}

static void close_use(void *arg)
{
    const sp_socket s = *(sp_socket *)arg;

    for (unsigned i = 1 + (unsigned)sim_pick(12); i > 0; i--) {
        int rc = use_once(s);

        SIM_CHECK(rc >= 0 || rc == SP_EAGAIN || rc == SP_ENOPEER || closed_now(rc));
        if (closed_now(rc)) {
            break;
        }
    }
}

static void close_do(void *arg)
{
    const sp_socket s = *(sp_socket *)arg;
    int rc;

    if (sim_once_in(2)) {
        sim_sleep((int64_t)sim_pick(50) * 1000);
    }
    rc = sp_close(s);
    SIM_CHECK(rc == SP_OK || rc == SP_ECLOSED);
    race.closed[arg == &race.s[1]] += rc == SP_OK;
}

/// Sockets that two threads close while others use them: exactly one closes each.
static void close_scenario(void)
{
    struct apps apps = {0};
    unsigned users = 1 + (unsigned)sim_pick(3);

    (void)scenario_start((int)sim_pick(3));
    race.url = scenario_url(sim_once_in(2), 0);
    race.s[0] = scenario_open("pair");
    race.s[1] = scenario_open("pair");
    sim_patience(80);
    SIM_CHECK(sp_listen(race.s[0], race.url, NULL) == SP_OK);
    SIM_CHECK(sp_dial(race.s[1], race.url, NULL, sim_once_in(2) ? SP_NONBLOCK : 0) == SP_OK);
    if (sim_once_in(3)) {
        SIM_CHECK(sp_set_int(race.s[0].id, "linger", 2) == SP_OK);
    }
    if (sim_once_in(2)) {
        sim_jumps(100 + sim_pick(1000));
    }
    for (unsigned i = 0; i < users; i++) {
        apps_add(&apps, close_use, &race.s[sim_pick(2)]);
    }
    apps_add(&apps, close_do, &race.s[0]);
    apps_add(&apps, close_do, &race.s[0]);
    apps_add(&apps, close_do, &race.s[1]);
    apps_join(&apps);
    SIM_CHECK(race.closed[0] == 1 && race.closed[1] == 1);
    scenario_stop();
}

/* ------------------------------------------------------------------ Endpoints */

/// Long, and refuses some.
static int dial_on_pipe(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    (void)arg;
    for (unsigned i = (unsigned)sim_pick(30); i > 0; i--) {
        SIM_POINT();
    }
    if (sim_once_in(4)) {
        (void)sp_pipe_close(p);
    }
    if (sim_once_in(8)) {
        (void)sp_close(s);
    }
    return ev == SP_PIPE_ADDING && sim_once_in(3);
}

/// One end of whatever comes of it. A refusal and an address in use are as good as a success.
static void dial_end(sp_socket s)
{
    sp_listener l = {0};
    sp_dialer d = {0};

    switch (sim_pick(3)) {
    case 0:
        if (sp_listen(s, race.url, &l) == SP_OK && sim_once_in(2)) {
            sim_sleep((int64_t)sim_pick(40) * 1000);
            (void)sp_listener_close(l);
        }
        break;
    case 1:
        if (sp_dial(s, race.url, &d, SP_NONBLOCK) == SP_OK && sim_once_in(2)) {
            sim_sleep((int64_t)sim_pick(40) * 1000);
            (void)sp_dialer_close(d);
        }
        break;
    default:
        (void)!sp_dial(s, race.url, &d, 0);
        break;
    }
}

static void dial_app(void *arg)
{
    sp_socket s = scenario_open(sim_once_in(6) ? "req" : "pair");

    (void)arg;
    if (sim_once_in(2)) {
        SIM_CHECK(sp_on_pipe(s, dial_on_pipe, NULL) == SP_OK);
    }
    SIM_CHECK(sp_set_int(s.id, "connect-timeout", 2) == SP_OK);
    for (unsigned i = 1 + (unsigned)sim_pick(3); i > 0; i--) {
        char c;

        dial_end(s);
        (void)!sp_send(s, "x", 1, SP_NONBLOCK);
        (void)!sp_recv(s, &c, 1, SP_NONBLOCK);
    }
    if (!sim_once_in(3)) {
        (void)sp_close(s);
    }
}

/// Threads that listen, dial and close at one address.
static void dial_scenario(void)
{
    struct apps apps = {0};

    (void)scenario_start((int)sim_pick(3));
    race.url = scenario_url(sim_once_in(2), 0);
    sim_patience(200);
    if (sim_once_in(2)) {
        sim_jumps(100 + sim_pick(1000));
    }
    for (unsigned i = 2 + (unsigned)sim_pick(3); i > 0; i--) {
        apps_add(&apps, dial_app, NULL);
    }
    apps_join(&apps);
    scenario_stop();
}

/* ------------------------------------------------------------------ The end of the library */

static void fini_use(void *arg)
{
    const sp_socket s = *(sp_socket *)arg;

    while (!closed_now(use_once(s))) {
    }
}

/// sp_fini while others are in calls: they end, and nothing is left.
static void fini_scenario(void)
{
    struct apps apps = {0};

    (void)scenario_start((int)sim_pick(3));
    race.url = scenario_url(sim_once_in(2), 0);
    race.s[0] = scenario_open("pair");
    race.s[1] = scenario_open("pair");
    sim_patience(80);
    SIM_CHECK(sp_listen(race.s[0], race.url, NULL) == SP_OK);
    SIM_CHECK(sp_dial(race.s[1], race.url, NULL, 0) == SP_OK);
    for (unsigned i = 1 + (unsigned)sim_pick(4); i > 0; i--) {
        apps_add(&apps, fini_use, &race.s[sim_pick(2)]);
    }
    sim_sleep((int64_t)sim_pick(100) * 1000);
    scenario_stop();
    apps_join(&apps);
}

const struct scenario scenarios_race[] = {
    {"close", close_scenario, false},
    {"dial", dial_scenario, false},
    {"fini", fini_scenario, false},
    {NULL, NULL, false},
};
