/* SPDX-License-Identifier: MIT */
/// A crowd before a small actor: threads that wait for room, give up, are cancelled, or do not wait
/// at all; other actors that are refused, and told. And actors that give up while sockets are
/// attached to them and timers armed. At the end everybody is through, and nothing is left.
#include "scenario.h"

#include "core/app.h"

#include <string.h>

#define THREADS 3
#define TELLERS 2

/// An actor that posts as many as were posted to it.
struct teller {
    sp_actor id;
    unsigned got;
};

static struct {
    sp_actor small;
    struct teller tellers[TELLERS];
    sp_scope scope;
    unsigned posted; ///< to the small one
    unsigned taken;
    bool stops;
} crowd;

static void log_no_more(sp_log_level level, const char *id, const char *msg, void *arg)
{
    (void)level;
    (void)id;
    (void)msg;
    (void)arg;
}

static sp_msg *crowd_msg(void)
{
    sp_msg *m = NULL;

    SIM_CHECK(sp_msg_new(&m, 1) == SP_OK);
    return m;
}

/// Takes all, or one, or leaves them for later.
static int small_on_message(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    sp_msg *m;

    (void)state;
    (void)port;
    if (sim_once_in(6)) {
        int rc = sp_actor_timer(self, 0, 0);

        SIM_CHECK(rc == SP_OK || rc == SP_ECLOSED);
        return 0;
    }
    while ((m = sp_batch_pop(in)) != NULL) {
        sp_msg_release(m);
        crowd.taken++;
        if (sim_once_in(2)) {
            int rc = sp_actor_timer(self, 0, 0);

            SIM_CHECK(rc == SP_OK || rc == SP_ECLOSED);
            break;
        }
    }
    return 0;
}

static int teller_on_message(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    struct teller *t = state;

    (void)self;
    (void)port;
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        int rc = sp_actor_post(crowd.small, m, 0);

        SIM_CHECK(rc == SP_OK || rc == SP_EFULL || (rc == SP_ECLOSED && crowd.stops));
        if (rc == SP_EFULL && !sim_once_in(8)) {
            sp_batch_unpop(in, m);
            break;
        }
        __atomic_fetch_add(&crowd.posted, rc == SP_OK, __ATOMIC_RELAXED);
        __atomic_fetch_add(&t->got, 1, __ATOMIC_RELAXED);
        if (rc < 0) { // It has no use for it any more.
            sp_msg_release(m);
        }
    }
    return 0;
}

static void thread_post(void *arg)
{
    (void)arg;
    for (unsigned i = 2 + (unsigned)sim_pick(3); i > 0; i--) {
        sp_msg *m = crowd_msg();
        int rc = sim_once_in(4)   ? sp_sendmsg_in(crowd.scope, crowd.small.id, m)
                 : sim_once_in(4) ? sp_actor_post(crowd.small, m, SP_NONBLOCK)
                                  : sp_actor_post(crowd.small, m, 0);

        SIM_CHECK(rc == SP_OK || rc == SP_EFULL || rc == SP_ETIMEDOUT || rc == SP_ECANCELED ||
                  (rc == SP_ECLOSED && crowd.stops));
        __atomic_fetch_add(&crowd.posted, rc == SP_OK, __ATOMIC_RELAXED);
        if (rc < 0) {
            sp_msg_release(m);
        }
    }
}

static void thread_disturb(void *arg)
{
    (void)arg;
    sim_sleep((int64_t)sim_pick(30) * 1000);
    (void)sp_scope_cancel(crowd.scope);
    if (crowd.stops) {
        sim_sleep((int64_t)sim_pick(30) * 1000);
        SIM_CHECK(sp_actor_stop(crowd.small) == SP_OK);
    }
}

static void crowd_spawn(void)
{
    static const sp_actor_ops small = {.size = sizeof(small), .on_message = small_on_message};
    static const sp_actor_ops teller = {.size = sizeof(teller), .on_message = teller_on_message};
    sp_actor_opts opts = {.size = sizeof(opts), .capacity = 1 + sim_pick(2)};

    SIM_CHECK(sp_actor_spawn(&crowd.small, &small, NULL, &opts) == SP_OK);
    for (unsigned i = 0; i < TELLERS; i++) {
        SIM_CHECK(sp_actor_spawn(&crowd.tellers[i].id, &teller, &crowd.tellers[i], NULL) == SP_OK);
    }
}

static void crowd_scenario(void)
{
    int threads = scenario_start(1 + (int)sim_pick(2));
    unsigned each = 1 + (unsigned)sim_pick(3);
    struct apps apps = {0};
    struct sp__app_stats gone;

    memset(&crowd, 0, sizeof(crowd));
    sim_patience(80);
    crowd.stops = sim_once_in(6);
    SIM_CHECK(sp_scope_open(&crowd.scope, (sp_scope){0}, sim_once_in(4) ? 1 : -1) == SP_OK);
    crowd_spawn();
    for (unsigned i = 0; i < THREADS; i++) {
        apps_add(&apps, thread_post, NULL);
    }
    apps_add(&apps, thread_disturb, NULL);
    for (unsigned i = 0; i < TELLERS * each; i++) {
        SIM_CHECK(sp_actor_post(crowd.tellers[i % TELLERS].id, crowd_msg(), 0) == SP_OK);
    }
    if (threads == 0) {
        scenario_settle(threads, 5); // Posts that wait drive it too.
    }
    apps_join(&apps);
    scenario_settle(threads, 10);
    for (unsigned i = 0; i < TELLERS; i++) {
        SIM_CHECK(crowd.tellers[i].got == each); // Told whenever it was refused.
    }
    SIM_CHECK(crowd.stops || crowd.taken == crowd.posted);
    SIM_CHECK(sp_scope_close(crowd.scope) == SP_OK);
    scenario_stop();
    sp__app_stats(NULL, &gone);
    SIM_CHECK(gone.posted == gone.handled + gone.failed + gone.closed);
}

/* ------------------------------------------------------------------ Actors that give up */

#define QUITTERS 6

static struct {
    sp_actor a[QUITTERS];
    sp_socket s;
} quit;

static int quit_on_message(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    (void)self;
    (void)state;
    (void)port;
    (void)in;
    return -1;
}

static bool quit_closed(int rc)
{
    SIM_CHECK(rc == SP_OK || rc == SP_ECLOSED || rc == SP_ESTATE);
    return rc == SP_ECLOSED;
}

/// Until it has given up, or not so long.
static void quit_attach(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < QUITTERS; i++) {
        uint64_t n = sim_pick(30);

        while (n-- > 0 && !quit_closed(sp_actor_attach(quit.a[i], quit.s, 1)) &&
               !quit_closed(sp_actor_detach(quit.a[i], quit.s))) {
        }
    }
}

/// A timer that is not due before the end of all days.
static void quit_arm(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < QUITTERS; i++) {
        uint64_t n = sim_pick(30);

        while (n-- > 0 && !quit_closed(sp_actor_timer(quit.a[i], 3600000, 0))) {
        }
    }
}

static void quit_post(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < QUITTERS; i++) {
        sp_msg *m = crowd_msg();

        SIM_CHECK(sp_actor_post(quit.a[i], m, 0) == SP_OK);
    }
}

/// Nothing of an actor that gave up stays, whoever gives it something at that moment.
static void quit_scenario(void)
{
    static const sp_actor_ops ops = {.size = sizeof(ops), .on_message = quit_on_message};
    struct apps apps = {0};

    (void)scenario_start(1 + (int)sim_pick(2));
    sp_log_set(SP_LOG_ERROR, log_no_more, NULL);
    sim_patience(80);
    quit.s = scenario_open("pair");
    for (unsigned i = 0; i < QUITTERS; i++) {
        SIM_CHECK(sp_actor_spawn(&quit.a[i], &ops, NULL, NULL) == SP_OK);
    }
    apps_add(&apps, quit_attach, NULL);
    apps_add(&apps, quit_arm, NULL);
    apps_add(&apps, quit_post, NULL);
    apps_join(&apps);
    scenario_stop();
}

const struct scenario scenarios_crowd[] = {
    {"crowd", crowd_scenario, true},
    {"quit", quit_scenario, true},
    {NULL, NULL, false},
};
