/* SPDX-License-Identifier: MIT */
/// Threads that poll, among senders, receivers and closers: nobody sleeps over what became ready,
/// and at rest every descriptor of sp_fd says what sp_poll says.
#include "scenario.h"

#define PAIRS_MAX 2
#define TAKERS_MAX 3

static struct {
    sp_socket from[PAIRS_MAX];
    sp_socket to[PAIRS_MAX];
    unsigned n;     ///< pairs
    unsigned count; ///< messages of each
    unsigned next;  ///< sender
    unsigned taken;
    bool closes; ///< while messages are under way
} polls;

static bool polls_closed(long rc)
{
    return rc == SP_ECLOSED || rc == SP_EINVAL;
}

/// Waits until it holds, or the handle is closed, which is false.
static bool polls_wait(uint64_t id, short event)
{
    sp_pollitem item = {.id = id, .events = event};
    int n = sp_poll(&item, 1, sim_once_in(4) ? 1 : -1);

    SIM_CHECK(n == (item.revents != 0));
    SIM_CHECK((item.revents & ~(event | SP_POLLHUP)) == 0);
    return (item.revents & SP_POLLHUP) == 0;
}

static void polls_send(void *arg)
{
    sp_socket s = polls.from[polls.next++];
    unsigned sent = 0;

    (void)arg;
    while (sent < polls.count) {
        bool polled = !sim_once_in(3);
        int rc;

        if (polled && !polls_wait(s.id, SP_POLLOUT)) {
            break;
        }
        rc = sp_send(s, "x", 1, polled ? SP_NONBLOCK : 0);
        sent += rc == SP_OK;
        if (polls_closed(rc)) {
            break;
        }
        SIM_CHECK(rc == SP_OK || (polled && (rc == SP_EAGAIN || rc == SP_ENOPEER)));
    }
    SIM_CHECK(sent == polls.count || polls.closes);
}

/// Takes what is ready wherever, until all is closed.
static void polls_take(void *arg)
{
    sp_pollitem items[PAIRS_MAX] = {{0}};
    unsigned open = polls.n;

    (void)arg;
    for (unsigned i = 0; i < polls.n; i++) {
        items[i] = (sp_pollitem){.id = polls.to[i].id, .events = SP_POLLIN};
    }
    while (open > 0) {
        int n = sp_poll(items, polls.n, sim_once_in(4) ? 1 : -1);

        SIM_CHECK(n >= 0);
        open = polls.n;
        for (unsigned i = 0; i < polls.n; i++) {
            sp_socket s = {items[i].id};
            bool hup = (items[i].revents & SP_POLLHUP) != 0;
            char c;
            long rc = items[i].revents == SP_POLLIN ? sp_recv(s, &c, 1, SP_NONBLOCK) : SP_EAGAIN;

            open -= hup;
            n -= items[i].revents != 0;
            polls.taken += rc == 1;
            SIM_CHECK(rc == 1 || rc == SP_EAGAIN || polls_closed(rc));
        }
        SIM_CHECK(n == 0);
        if (open > 0 && open < polls.n) {
            sim_sleep(SP__MS); // It is told again and again.
        }
    }
}

/// Takes without polling: a poller may find nothing of what it was told.
static void polls_take_too(void *arg)
{
    char c;
    long rc;

    (void)arg;
    do {
        rc = sp_recv(polls.to[0], &c, 1, 0);
        polls.taken += rc == 1;
        SIM_CHECK(rc == 1 || polls_closed(rc));
    } while (!polls_closed(rc));
}

static void polls_close(void *arg)
{
    unsigned n = polls.n;

    (void)arg;
    sim_sleep((int64_t)sim_pick(50) * 1000);
    for (unsigned i = 0; i < n; i++) {
        SIM_CHECK(sp_close(polls.from[i]) == SP_OK);
        SIM_CHECK(sp_close(polls.to[i]) == SP_OK);
    }
}

/// What descriptors of an object say is what holds. At rest.
static void polls_check_flags(uint64_t id)
{
    sp_pollitem item = {.id = id, .events = SP_POLLIN | SP_POLLOUT};
    int in = sp_fd(id, SP_POLLIN);
    int out = sp_fd(id, SP_POLLOUT);

    SIM_CHECK(in >= 0 && out >= 0);
    SIM_CHECK(sp_poll(&item, 1, 0) >= 0);
    SIM_CHECK(sim_flag(in) == ((item.revents & SP_POLLIN) != 0));
    SIM_CHECK(sim_flag(out) == ((item.revents & SP_POLLOUT) != 0));
}

static void polls_open(void)
{
    for (unsigned i = 0; i < polls.n; i++) {
        const char *url = scenario_url(sim_once_in(2), i);

        polls.from[i] = scenario_open("pair");
        polls.to[i] = scenario_open("pair");
        if (sim_once_in(2)) {
            SIM_CHECK(sp_fd(polls.to[i].id, SP_POLLIN) >= 0);
            SIM_CHECK(sp_fd(polls.from[i].id, SP_POLLOUT) >= 0);
        }
        SIM_CHECK(sp_listen(polls.to[i], url, NULL) == SP_OK);
        SIM_CHECK(sp_dial(polls.from[i], url, NULL, SP_NONBLOCK) == SP_OK);
    }
}

/// Everything was sent, and will be taken.
static void polls_rest(int threads)
{
    while (polls.taken < polls.n * polls.count) {
        sim_sleep(SP__MS / 10);
    }
    sim_jumps(0);
    scenario_settle(threads, 3);
    for (unsigned i = 0; i < polls.n; i++) {
        polls_check_flags(polls.from[i].id);
        polls_check_flags(polls.to[i].id);
    }
    SIM_CHECK(polls.taken == polls.n * polls.count);
}

static void polls_scenario(void)
{
    int threads = scenario_start((int)sim_pick(4) % 3);
    struct apps sending = {0};
    struct apps taking = {0};

    polls.n = 1 + (unsigned)sim_pick(PAIRS_MAX);
    polls.count = 1 + (unsigned)sim_pick(12);
    polls.closes = sim_once_in(3);
    if (sim_once_in(2)) {
        sim_jumps(100 + sim_pick(2000));
    }
    sim_patience(80);
    polls_open();
    for (unsigned i = 1 + (unsigned)sim_pick(TAKERS_MAX); i > 0; i--) {
        apps_add(&taking, polls_take, NULL);
    }
    if (sim_once_in(3)) {
        apps_add(&taking, polls_take_too, NULL);
    }
    for (unsigned i = 0; i < polls.n; i++) {
        apps_add(&sending, polls_send, NULL);
    }
    if (polls.closes) {
        apps_add(&sending, polls_close, NULL);
    }
    apps_join(&sending);
    if (!polls.closes) {
        polls_rest(threads);
        polls_close(NULL);
    }
    apps_join(&taking);
    scenario_stop();
}

/* ------------------------------------------------------------------ Request and reply */

#define CTXS 2

static struct {
    sp_socket rep;
    sp_ctx ctx[CTXS];
} server;

/// Answers in whichever context is ready, until they are closed.
static void server_answer(void *arg)
{
    sp_pollitem items[CTXS];
    bool open = true;

    (void)arg;
    while (open) {
        for (unsigned i = 0; i < CTXS; i++) {
            items[i] = (sp_pollitem){.id = server.ctx[i].id, .events = SP_POLLIN | SP_POLLOUT};
        }
        SIM_CHECK(sp_poll(items, CTXS, -1) > 0);
        for (unsigned i = 0; i < CTXS; i++) {
            sp_msg *m;
            int rc = SP_EAGAIN;

            open = open && (items[i].revents & SP_POLLHUP) == 0;
            if ((items[i].revents & SP_POLLIN) != 0) {
                rc = sp_ctx_recvmsg(server.ctx[i], &m, SP_NONBLOCK);
                SIM_CHECK(rc == SP_OK || rc == SP_EAGAIN || polls_closed(rc));
            }
            if (rc != SP_OK) {
                continue;
            }
            rc = sp_ctx_sendmsg(server.ctx[i], m, SP_NONBLOCK);
            SIM_CHECK(rc == SP_OK || rc == SP_ESTATE || polls_closed(rc)); // The other thread did.
            if (rc < 0) {
                sp_msg_release(m);
            }
        }
    }
}

/// Asks, and waits for the answers by polling.
static void server_ask(void *arg)
{
    sp_socket s = *(sp_socket *)arg;

    for (unsigned i = 1 + (unsigned)sim_pick(4); i > 0; i--) {
        char c;
        long rc = SP_EAGAIN;

        while (rc == SP_EAGAIN || rc == SP_ENOPEER) {
            SIM_CHECK(polls_wait(s.id, SP_POLLOUT));
            rc = sp_send(s, "?", 1, SP_NONBLOCK);
        }
        SIM_CHECK(rc == SP_OK);
        do {
            SIM_CHECK(polls_wait(s.id, SP_POLLIN));
            rc = sp_recv(s, &c, 1, SP_NONBLOCK);
        } while (rc == SP_EAGAIN);
        SIM_CHECK(rc == 1);
    }
}

static void server_scenario(void)
{
    int threads = scenario_start((int)sim_pick(4) % 3);
    const char *url = scenario_url(sim_once_in(2), 0);
    struct apps asking = {0};
    struct apps answering = {0};
    sp_socket req[2];
    bool alone = sim_once_in(2); // Else threads race for a context, and a request may be lost.

    server.rep = scenario_open("rep");
    for (unsigned i = 0; i < CTXS; i++) {
        SIM_CHECK(sp_ctx_open(&server.ctx[i], server.rep) == SP_OK);
        SIM_CHECK(sim_once_in(2) || sp_fd(server.ctx[i].id, SP_POLLIN) >= 0);
    }
    SIM_CHECK(sp_listen(server.rep, url, NULL) == SP_OK);
    sim_patience(120);
    apps_add(&answering, server_answer, NULL);
    if (!alone) {
        apps_add(&answering, server_answer, NULL);
    }
    for (unsigned i = 0; i < 2; i++) {
        req[i] = scenario_open("req");
        SIM_CHECK(sp_set_int(req[i].id, "req:resend-time", 3) == SP_OK);
        SIM_CHECK(sp_set_int(req[i].id, "req:resend-tick", 1) == SP_OK);
        SIM_CHECK(sp_dial(req[i], url, NULL, SP_NONBLOCK) == SP_OK);
        apps_add(&asking, server_ask, &req[i]);
    }
    apps_join(&asking);
    scenario_settle(threads, 3);
    for (unsigned i = 0; i < 2; i++) {
        polls_check_flags(req[i].id);
        polls_check_flags(server.ctx[i].id);
    }
    SIM_CHECK(sp_close(server.rep) == SP_OK);
    apps_join(&answering);
    scenario_stop();
}

const struct scenario scenarios_poll[] = {
    {"poll", polls_scenario, false},
    {"serve", server_scenario, false},
    {NULL, NULL, false},
};
