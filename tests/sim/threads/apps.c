/* SPDX-License-Identifier: MIT */
/// Mailboxes, forwarders and actors of applications. At the end of each run everything posted is
/// taken or handled, or dropped and counted.
#include "scenario.h"

#include "core/app.h"
#include "core/mailbox.h"

#include <string.h>

static bool closed_now(int rc)
{
    return rc == SP_ECLOSED || rc == SP_EINVAL;
}

static sp_msg *apps_msg(uint32_t n)
{
    sp_msg *m = NULL;

    SIM_CHECK(sp_msg_new(&m, sizeof(n)) == SP_OK);
    memcpy(sp_msg_data(m), &n, sizeof(n));
    return m;
}

static uint32_t apps_number(sp_msg *m)
{
    uint32_t n = 0;

    SIM_CHECK(sp_msg_len(m) == sizeof(n));
    memcpy(&n, sp_msg_view(m), sizeof(n));
    return n;
}

/* ------------------------------------------------------------------ Mailboxes */

#define PRODUCERS 3

static struct {
    sp_mailbox mb;
    unsigned producers;
    unsigned each;
    unsigned posted[PRODUCERS];
    unsigned taken[PRODUCERS + 1]; ///< the last one: what came from a socket
    unsigned consumers;
    sp_socket s[2];
} box;

static void box_post(void *arg)
{
    unsigned me = (unsigned)((unsigned *)arg - box.posted);

    while (box.posted[me] < box.each) {
        sp_msg *m = apps_msg(me << 16 | box.posted[me]);
        int rc = sp_mailbox_post(box.mb, m, sim_once_in(3) ? SP_NONBLOCK : 0);

        SIM_CHECK(rc == SP_OK || rc == SP_EFULL || rc == SP_ECLOSED);
        box.posted[me] += rc == SP_OK;
        if (rc < 0) {
            sp_msg_release(m);
        }
        if (rc == SP_ECLOSED) {
            break;
        }
        if (rc == SP_EFULL) {
            sim_sleep(10000);
        }
    }
}

static void box_take(void *arg)
{
    unsigned last[PRODUCERS + 1] = {0};

    (void)arg;
    for (;;) {
        sp_msg *m;
        int rc = sp_mailbox_take(box.mb, &m, sim_once_in(4) ? SP_NONBLOCK : 0);
        uint32_t n;

        SIM_CHECK(rc == SP_OK || rc == SP_EAGAIN || rc == SP_ECLOSED);
        if (rc == SP_ECLOSED) {
            break;
        }
        if (rc == SP_EAGAIN) {
            sim_sleep(10000);
            continue;
        }
        n = apps_number(m);
        sp_msg_release(m);
        SIM_CHECK(n >> 16 <= PRODUCERS);
        SIM_CHECK((n & 0xFFFF) + 1 > last[n >> 16]); // Each one's order.
        last[n >> 16] = (n & 0xFFFF) + 1;
        __atomic_fetch_add(&box.taken[n >> 16], 1, __ATOMIC_RELAXED);
    }
}

static void box_send(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < box.each; i++) {
        sp_msg *m = apps_msg(PRODUCERS << 16 | i);

        SIM_CHECK(sp_sendmsg(box.s[0], m, 0) == SP_OK);
    }
}

static void box_couple(struct apps *apps)
{
    const char *url = scenario_url(sim_once_in(2), 0);

    box.s[0] = scenario_open("pair");
    box.s[1] = scenario_open("pair");
    SIM_CHECK(sp_set_int(box.s[0].id, "linger", 100) == SP_OK);
    SIM_CHECK(sp_listen(box.s[0], url, NULL) == SP_OK);
    SIM_CHECK(sp_dial(box.s[1], url, NULL, 0) == SP_OK);
    SIM_CHECK(sp_forward(box.s[1], box.mb) == SP_OK);
    apps_add(apps, box_send, NULL);
}

/// Who posts, takes, forwards; closed when all is posted, or somewhere in between.
static void mailbox_scenario(void)
{
    struct sp__mailbox_stats gone;
    struct apps apps = {0};
    int threads = scenario_start((int)sim_pick(3));
    bool early = sim_once_in(3);
    bool forward = !early && sim_once_in(2);
    uint64_t want = 0;
    uint64_t taken = 0;

    box.producers = 1 + (unsigned)sim_pick(PRODUCERS);
    box.consumers = 1 + (unsigned)sim_pick(2);
    box.each = 1 + (unsigned)sim_pick(6);
    sim_patience(80);
    SIM_CHECK(sp_mailbox_open(&box.mb, 1 + sim_pick(3)) == SP_OK);
    for (unsigned i = 0; i < box.producers; i++) {
        apps_add(&apps, box_post, &box.posted[i]);
    }
    for (unsigned i = 0; i < box.consumers; i++) {
        apps_add(&apps, box_take, NULL);
    }
    if (forward) {
        box_couple(&apps);
    }
    if (early) {
        sim_sleep((int64_t)sim_pick(60) * 1000);
    } else {
        want = (uint64_t)box.each * (box.producers + forward);
        while (taken < want) {
            scenario_settle(threads, 1);
            taken = 0;
            for (unsigned i = 0; i <= PRODUCERS; i++) {
                taken += __atomic_load_n(&box.taken[i], __ATOMIC_RELAXED);
            }
        }
    }
    SIM_CHECK(sp_mailbox_close(box.mb) == SP_OK);
    apps_join(&apps);
    scenario_stop();
    sp__mailbox_stats(NULL, &gone);
    SIM_CHECK(gone.posted == gone.taken + gone.dropped);
    SIM_CHECK(early || gone.taken == want);
    for (unsigned i = 0; i < box.producers; i++) {
        SIM_CHECK(box.taken[i] == box.posted[i]);
    }
}

/* ------------------------------------------------------------------ Actors */

#define ROW 4

struct row_actor {
    sp_actor id;
    int inside;
    bool inited;
};

static struct {
    struct row_actor a[ROW];
    unsigned n;
    unsigned fails; ///< one failure in so many messages; 0: none
    sp_socket s[2];
    bool socket;
    unsigned posted; ///< by threads
    unsigned ended;  ///< messages that went all the way
    unsigned failed;
} row;

static void row_enter(struct row_actor *a)
{
    SIM_CHECK(__atomic_fetch_add(&a->inside, 1, __ATOMIC_RELAXED) == 0);
}

static void row_leave(struct row_actor *a)
{
    SIM_CHECK(__atomic_fetch_sub(&a->inside, 1, __ATOMIC_RELAXED) == 1);
}

static int row_init(sp_actor self, void *state)
{
    struct row_actor *a = state;

    (void)self;
    row_enter(a);
    SIM_CHECK(!a->inited);
    a->inited = row.fails == 0 || !sim_once_in(row.fails);
    row_leave(a);
    return a->inited ? SP_OK : -1;
}

static void row_fini(sp_actor self, void *state)
{
    struct row_actor *a = state;

    (void)self;
    row_enter(a);
    SIM_CHECK(a->inited);
    a->inited = false;
    row_leave(a);
}

/// One message: on to the next actor, until it has no more hops, or to a socket; never in a circle,
/// where all could be full. False: it is left.
static bool row_pass(struct row_actor *a, unsigned port, sp_msg *m)
{
    struct row_actor *to = a + 1;
    uint32_t hops = apps_number(m);
    int rc;

    if (hops == 0 || port == 1 || to == &row.a[row.n]) {
        __atomic_fetch_add(&row.ended, 1, __ATOMIC_RELAXED);
        sp_msg_release(m);
        return true;
    }
    hops--;
    memcpy(sp_msg_data(m), &hops, sizeof(hops));
    rc = row.socket && hops % 2 == 0 ? sp_sendmsg(row.s[0], m, SP_NONBLOCK)
                                     : sp_actor_post(to->id, m, SP_NONBLOCK);
    if (rc == SP_EFULL || rc == SP_EAGAIN || rc == SP_ENOPEER) {
        hops++;
        memcpy(sp_msg_data(m), &hops, sizeof(hops));
        return false;
    }
    SIM_CHECK(rc == SP_OK || closed_now(rc));
    if (rc < 0) {
        sp_msg_release(m);
    }
    return true;
}

static int row_on_message(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    struct row_actor *a = state;
    int rc = 0;

    row_enter(a);
    SIM_CHECK(a->inited && sp_actor_self().id == self.id);
    for (sp_msg *m; rc == 0 && (m = sp_batch_pop(in)) != NULL;) {
        if (row.fails > 0 && sim_once_in(row.fails)) {
            sp_msg_release(m);
            __atomic_fetch_add(&row.failed, 1, __ATOMIC_RELAXED);
            rc = -1;
        } else if (!row_pass(a, port, m)) {
            sp_batch_unpop(in, m);
            break;
        }
    }
    row_leave(a);
    return rc;
}

static void row_on_any(sp_actor self, void *state, unsigned port)
{
    (void)self;
    (void)port;
    row_enter(state);
    row_leave(state);
}

static void row_on_timer(sp_actor self, void *state, uint64_t cookie)
{
    row_enter(state);
    if (cookie > 0) {
        int rc = sp_actor_timer(self, (int)sim_pick(3), cookie - 1);

        SIM_CHECK(rc == SP_OK || closed_now(rc));
    }
    row_leave(state);
}

static void row_spawn(unsigned i)
{
    static const sp_actor_ops ops = {.size = sizeof(ops),
                                     .init = row_init,
                                     .on_message = row_on_message,
                                     .on_writable = row_on_any,
                                     .on_timer = row_on_timer,
                                     .fini = row_fini};
    sp_actor_opts opts = {.size = sizeof(opts),
                          .capacity = 1 + sim_pick(3),
                          .restart_max = 1 + (unsigned)sim_pick(8),
                          .restart_ms = (unsigned)sim_pick(2) * 1000};
    int rc;

    opts.flags = sim_once_in(5) ? SP_ACTOR_DEDICATED : 0;
    rc = sp_actor_spawn(&row.a[i].id, &ops, &row.a[i], &opts);
    if (rc < 0 && opts.flags != 0) { // No thread for it can be started.
        opts.flags = 0;
        rc = sp_actor_spawn(&row.a[i].id, &ops, &row.a[i], &opts);
    }
    SIM_CHECK(rc == SP_OK);
}

static void row_post(void *arg)
{
    (void)arg;
    for (unsigned i = 1 + (unsigned)sim_pick(8); i > 0; i--) {
        sp_msg *m = apps_msg((uint32_t)sim_pick(8));
        int rc = sp_actor_post(row.a[sim_pick(row.n)].id, m,
                               row.socket || sim_once_in(3) ? SP_NONBLOCK : 0);

        SIM_CHECK(rc == SP_OK || rc == SP_EFULL || closed_now(rc));
        if (rc == SP_OK) {
            __atomic_fetch_add(&row.posted, 1, __ATOMIC_RELAXED);
        } else {
            sp_msg_release(m);
        }
        if (sim_once_in(4)) {
            rc = sp_actor_timer(row.a[sim_pick(row.n)].id, (int)sim_pick(3), sim_pick(3));
            SIM_CHECK(rc == SP_OK || closed_now(rc));
        }
    }
}

static void row_stop(void *arg)
{
    struct row_actor *a = arg;
    int rc;

    sim_sleep((int64_t)sim_pick(60) * 1000);
    rc = sp_actor_stop(a->id);
    SIM_CHECK(rc == SP_OK || closed_now(rc));
    SIM_CHECK(rc != SP_OK || !a->inited); // fini has returned.
}

static void row_attach(void *arg)
{
    sp_actor a = row.a[sim_pick(row.n)].id;

    (void)arg;
    for (int i = (int)sim_pick(4); i > 0; i--) {
        int rc = sp_actor_attach(a, row.s[1], 1);

        SIM_CHECK(rc == SP_OK || rc == SP_ESTATE || closed_now(rc));
        sim_sleep((int64_t)sim_pick(20) * 1000);
        rc = sp_actor_detach(a, row.s[1]);
        SIM_CHECK(rc == SP_OK || rc == SP_ESTATE || closed_now(rc));
    }
    (void)!sp_actor_attach(a, row.s[1], 1);
}

static void row_sockets(struct apps *apps)
{
    const char *url = scenario_url(sim_once_in(2), 0);

    row.s[0] = scenario_open("pair");
    row.s[1] = scenario_open("pair");
    SIM_CHECK(sp_listen(row.s[0], url, NULL) == SP_OK);
    SIM_CHECK(sp_dial(row.s[1], url, NULL, 0) == SP_OK);
    for (unsigned i = 0; i < row.n; i++) {
        int rc = sp_actor_attach(row.a[i].id, row.s[0], 0);

        if (rc == SP_OK) {
            break;
        }
        SIM_CHECK(closed_now(rc));
    }
    apps_add(apps, row_attach, NULL);
}

static void log_no_more(sp_log_level level, const char *id, const char *msg, void *arg)
{
    (void)level;
    (void)id;
    (void)msg;
    (void)arg;
}

/// Actors in a row, with failures, stops, sockets and timers while threads post to them.
static void actors_scenario(void)
{
    struct sp__app_stats gone;
    struct apps apps = {0};
    int threads = scenario_start((int)sim_pick(3));
    bool stops = sim_once_in(3);

    sp_log_set(SP_LOG_ERROR, log_no_more, NULL);
    row.n = 1 + (unsigned)sim_pick(ROW);
    row.fails = sim_once_in(2) ? 3 + (unsigned)sim_pick(6) : 0;
    sim_patience(80);
    for (unsigned i = 0; i < row.n; i++) {
        row_spawn(i);
    }
    row.socket = sim_once_in(2);
    if (row.socket) {
        row_sockets(&apps);
    }
    for (unsigned i = 1 + (unsigned)sim_pick(3); i > 0; i--) {
        apps_add(&apps, row_post, NULL);
    }
    for (unsigned i = 0; stops && i < 2; i++) {
        apps_add(&apps, row_stop, &row.a[sim_pick(row.n)]);
    }
    if (sim_once_in(4)) {
        sim_sleep((int64_t)sim_pick(60) * 1000);
        scenario_stop();
        apps_join(&apps);
    } else {
        if (threads == 0) {
            scenario_settle(threads, 5); // Posts that wait drive it too.
        }
        apps_join(&apps);
        scenario_settle(threads, 10);
        if (!stops && row.fails == 0 && !row.socket) {
            SIM_CHECK(row.ended == row.posted);
        }
        scenario_stop();
    }
    sp__app_stats(NULL, &gone);
    SIM_CHECK(gone.posted == gone.handled + gone.failed + gone.closed);
    SIM_CHECK(gone.failed == row.failed);
    for (unsigned i = 0; i < row.n; i++) {
        SIM_CHECK(!row.a[i].inited);
    }
}

const struct scenario scenarios_app[] = {
    {"mailbox", mailbox_scenario, true},
    {"actors", actors_scenario, true},
    {NULL, NULL, false},
};
