/* SPDX-License-Identifier: MIT */
/// Messages: all arrive, once, in each sender's order, whoever sends and receives them.
#include "scenario.h"

#include "core/socket.h"

#include <limits.h>
#include <string.h>

#define SENDERS_MAX 3
#define MESSAGES_MAX 16        // of a sender
#define LONG_BYTES (4 << 20)   // bytes of a long message
#define RESEND_NEVER (1 << 30) // ms

/// Long messages share this; where in it a message begins says which one it is.
static char flow_bytes[LONG_BYTES + 256];

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
    size_t len;    ///< bytes of a message; 0: as short as can be
    bool nonblock; ///< some calls do not wait
};

/// A message that tells its sender and its number.
static sp_msg *flow_msg(const struct flow *f, unsigned who, unsigned n)
{
    unsigned char id = (unsigned char)(who * MESSAGES_MAX + n);
    sp_msg *m;

    if (f->len > 0) {
        SIM_CHECK(sp_msg_wrap(&m, flow_bytes + id, f->len, NULL, NULL) == SP_OK);
    } else {
        SIM_CHECK(sp_msg_new(&m, 1) == SP_OK);
        memcpy(sp_msg_data(m), &id, 1);
    }
    return m;
}

static unsigned flow_id(const struct flow *f, const sp_msg *m)
{
    if (f->len > 0) {
        return (unsigned)((const char *)sp_msg_view(m) - flow_bytes);
    }
    return *(const unsigned char *)sp_msg_view(m);
}

static int flow_flags(const struct flow *f)
{
    return f->nonblock && sim_once_in(3) ? SP_NONBLOCK : 0;
}

static void flow_send(void *arg)
{
    struct flow *f = arg;
    unsigned who = f->next++;

    for (unsigned i = 0; i < f->count;) {
        sp_msg *m[3];
        unsigned n = 1 + (unsigned)sim_pick(3);
        int flags = flow_flags(f);
        int rc;

        n = n < f->count - i ? n : f->count - i;
        for (unsigned k = 0; k < n; k++) {
            m[k] = flow_msg(f, who, i + k);
        }
        rc = sp_sendmsgs(f->from, m, n, flags);
        SIM_CHECK((rc > 0 && rc <= (int)n) || rc == SP_ETIMEDOUT ||
                  (flags != 0 && (rc == SP_EAGAIN || rc == SP_ENOPEER)));
        for (unsigned k = rc > 0 ? (unsigned)rc : 0; k < n; k++) {
            sp_msg_release(m[k]);
        }
        i += rc > 0 ? (unsigned)rc : 0;
    }
}

static sp_msg *flow_next(const struct flow *f)
{
    for (;;) {
        sp_msg *m;
        int flags = flow_flags(f);
        int rc = sp_recvmsg(f->to, &m, flags);

        if (rc == SP_OK) {
            return m;
        }
        SIM_CHECK(rc == SP_ETIMEDOUT || (flags != 0 && rc == SP_EAGAIN));
    }
}

/// Takes its share: how many in all is known, so nobody has to be told to stop.
static void flow_recv(void *arg)
{
    struct flow *f = arg;
    unsigned last[SENDERS_MAX] = {0};

    while (f->taken < f->senders * f->count) {
        sp_msg *m;
        unsigned who;
        unsigned n;

        f->taken++;
        m = flow_next(f);
        who = flow_id(f, m) / MESSAGES_MAX;
        n = flow_id(f, m) % MESSAGES_MAX;
        sp_msg_release(m);
        SIM_CHECK(who < f->senders && n < f->count);
        SIM_CHECK(f->got[who][n]++ == 0);
        SIM_CHECK(n + 1 > last[who]);
        last[who] = n + 1;
        if (sim_once_in(8)) {
            sim_sleep((int64_t)sim_pick(20) * 1000);
        }
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
    // Of long ones very few fit into any queue on the way.
    f->len = sim_once_in(2) ? 0 : (size_t)LONG_BYTES >> (2 * sim_pick(4));
    if (sim_once_in(3)) {
        SIM_CHECK(sp_set_int(from.id, "send-timeout", 1) == SP_OK);
        SIM_CHECK(sp_set_int(to.id, "recv-timeout", 1) == SP_OK);
    }
}

static void flow_run(struct flow *f, struct apps *sending, struct apps *receiving)
{
    for (unsigned i = 0; i < f->senders || i < f->receivers; i++) {
        if (i < f->receivers) {
            apps_add(receiving, flow_recv, f);
        }
        if (i < f->senders) {
            apps_add(sending, flow_send, f);
        }
    }
}

static bool flow_over(const struct flow *f)
{
    unsigned n = 0;

    for (unsigned i = 0; i < SENDERS_MAX; i++) {
        for (unsigned k = 0; k < MESSAGES_MAX; k++) {
            n += f->got[i][k];
        }
    }
    return n == f->senders * f->count;
}

/// The user's code takes long.
static int flow_on_pipe_long(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    (void)s;
    (void)p;
    (void)ev;
    (void)arg;
    SIM_CHECK(sp__self()->in_user);
    sim_sleep((int64_t)sim_pick(500) * 1000);
    return 0;
}

/// The user's code waits until the messages are there: then others must do all that they need.
static int flow_on_pipe(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    (void)s;
    (void)p;
    SIM_CHECK(sp__self()->in_user);
    while (ev == SP_PIPE_ADDED && !flow_over(arg)) {
        sim_sleep(SP__MS / 10);
    }
    return 0;
}

/// A connection elsewhere, while messages flow, whose user is called.
static void flow_visit(void *arg)
{
    sp_socket u = scenario_open("pair");
    sp_socket v = scenario_open("pair");

    SIM_CHECK(sp_on_pipe(u, flow_on_pipe, arg) == SP_OK);
    SIM_CHECK(sp_listen(u, "inproc://visit", NULL) == SP_OK);
    SIM_CHECK(sp_dial(v, "inproc://visit", NULL, SP_NONBLOCK) == SP_OK);
    SIM_CHECK(sp_close(v) == SP_OK);
    SIM_CHECK(sp_close(u) == SP_OK);
}

/// The sockets are open and everybody is done: all is accounted for.
static void flow_rest(const sp_socket s[2], int threads)
{
    sim_jumps(0);
    scenario_settle(threads, 3);
    scenario_check_rest(s[0]);
    scenario_check_rest(s[1]);
    SIM_CHECK(sp_close(s[sim_pick(2)]) == SP_OK);
}

static void flow_connect(const sp_socket s[2])
{
    const char *url = scenario_url(sim_once_in(2), 0);

    SIM_CHECK(sp_listen(s[0], url, NULL) == SP_OK);
    SIM_CHECK(sp_dial(s[1], url, NULL, sim_once_in(2) ? SP_NONBLOCK : 0) == SP_OK);
}

/// Everybody starts, before there is a connection or after.
static void flow_start(struct flow f[2], const sp_socket s[2], struct apps *sending,
                       struct apps *receiving)
{
    bool early = sim_once_in(2);

    if (early) {
        flow_connect(s);
    }
    flow_run(&f[0], sending, receiving);
    if (f[1].senders > 0) {
        flow_run(&f[1], sending, receiving);
    }
    if (!early) {
        flow_connect(s);
    }
}

/// The user's code is called, on as many threads as there are besides one.
static void flow_callbacks(struct flow *f, sp_socket s, int threads, struct apps *apps)
{
    if (threads < 2) {
        SIM_CHECK(sp_on_pipe(s, flow_on_pipe_long, f) == SP_OK);
    } else if (sim_once_in(2)) {
        SIM_CHECK(sp_on_pipe(s, flow_on_pipe, f) == SP_OK);
    } else {
        apps_add(apps, flow_visit, f);
    }
}

/// PAIR, one direction or both, with or without workers. With `close` the sender's socket is closed
/// as soon as everything is accepted, and lingers until all is delivered.
static void flow_pair(bool close)
{
    int threads = scenario_start((int)sim_pick(4) % 3);
    const char *protocol = sim_once_in(2) ? "pair" : "pair1";
    struct apps sending = {0};
    struct apps receiving = {0};
    struct apps visiting = {0};
    struct flow f[2];
    sp_socket s[2];

    s[0] = scenario_open(protocol);
    s[1] = scenario_open(protocol);
    flow_begin(&f[0], s[0], s[1]);
    flow_begin(&f[1], s[1], s[0]);
    if (close || f[0].senders + f[0].receivers + f[1].senders + f[1].receivers > APPS_MAX) {
        f[1].senders = 0; // One direction.
    }
    if (sim_once_in(3)) {
        flow_callbacks(&f[0], s[0], threads, &visiting);
    }
    if (sim_once_in(2)) {
        sim_jumps(100 + sim_pick(2000));
    }
    sim_patience(80);
    flow_start(f, s, &sending, &receiving);
    apps_join(&sending);
    if (close) {
        SIM_CHECK(sp_set_int(s[0].id, "linger", -1) == SP_OK);
        SIM_CHECK(sp_close(s[0]) == SP_OK);
    }
    apps_join(&receiving);
    apps_join(&visiting);
    SIM_CHECK(flow_over(&f[0]) && flow_over(&f[1]));
    if (!close) {
        flow_rest(s, threads);
    }
    scenario_stop();
}

static void flow_scenario(void)
{
    flow_pair(false);
}

static void linger_scenario(void)
{
    flow_pair(true);
}

/* ------------------------------------------------------------------ Request and reply */

struct asker {
    sp_socket s;
    unsigned count;
};

static void reqrep_ask(void *arg)
{
    struct asker *a = arg;

    for (unsigned i = 0; i < a->count; i++) {
        unsigned got = UINT_MAX;

        if (sim_once_in(4)) {
            SIM_CHECK(sp_send(a->s, &got, sizeof(got), 0) == SP_OK); // Given up by the next one.
        }
        SIM_CHECK(sp_send(a->s, &i, sizeof(i), 0) == SP_OK);
        SIM_CHECK(sp_recv(a->s, &got, sizeof(got), 0) == sizeof(got));
        SIM_CHECK(got == i);
    }
    if (sim_once_in(2)) {
        SIM_CHECK(sp_close(a->s) == SP_OK);
    }
}

static void reqrep_answer(void *arg)
{
    const sp_socket *s = arg;

    for (;;) {
        unsigned got;
        ssize_t n = sp_recv(*s, &got, sizeof(got), 0);

        if (n == SP_ECLOSED || n == SP_EINVAL) {
            return;
        }
        SIM_CHECK(n == sizeof(got));
        n = sp_send(*s, &got, sizeof(got), 0);
        SIM_CHECK(n == SP_OK || n == SP_ECLOSED || n == SP_EINVAL);
    }
}

static sp_socket reqrep_req(bool cuts)
{
    sp_socket s = scenario_open("req");

    SIM_CHECK(sp_set_int(s.id, "req:resend-time", cuts ? 3 : RESEND_NEVER) == SP_OK);
    SIM_CHECK(sp_set_int(s.id, "req:resend-tick", cuts ? 1 : RESEND_NEVER) == SP_OK);
    return s;
}

/// Every question is answered, also while connections are cut.
static void reqrep_scenario(void)
{
    const char *url = scenario_url(sim_once_in(2), 0);
    bool cuts = sim_once_in(2);
    unsigned n = 1 + (unsigned)sim_pick(3);
    struct asker askers[3];
    struct apps asking = {0};
    struct apps answering = {0};
    sp_listener l;
    sp_socket rep;

    (void)scenario_start((int)sim_pick(4) % 3);
    rep = scenario_open("rep");
    SIM_CHECK(sp_listen(rep, url, &l) == SP_OK);
    sim_patience(cuts ? 300 : 80);
    if (sim_once_in(2)) {
        sim_jumps(100 + sim_pick(2000));
    }
    apps_add(&answering, reqrep_answer, &rep);
    for (unsigned i = 0; i < n; i++) {
        askers[i].s = reqrep_req(cuts);
        askers[i].count = 1 + (unsigned)sim_pick(4);
        SIM_CHECK(sp_dial(askers[i].s, url, NULL, SP_NONBLOCK) == SP_OK);
        apps_add(&asking, reqrep_ask, &askers[i]);
    }
    for (unsigned i = cuts ? (unsigned)sim_pick(4) : 0; i > 0; i--) {
        sim_sleep((int64_t)sim_pick(100) * 1000);
        SIM_CHECK(sp_listener_close(l) == SP_OK);
        SIM_CHECK(sp_listen(rep, url, &l) == SP_OK);
    }
    apps_join(&asking);
    SIM_CHECK(sp_close(rep) == SP_OK);
    apps_join(&answering);
    scenario_stop();
}

/* ------------------------------------------------------------------ Room */

struct filler {
    sp_socket s;
    unsigned accepted;
};

static void room_fill(void *arg)
{
    struct filler *f = arg;

    for (unsigned refused = 0; refused < 3;) {
        int rc = sp_send(f->s, "x", 1, SP_NONBLOCK);

        SIM_CHECK(rc == SP_OK || rc == SP_EAGAIN);
        f->accepted += rc == SP_OK;
        refused = rc == SP_OK ? 0 : refused + 1;
        if (rc == SP_EAGAIN || sim_once_in(8)) {
            sim_sleep(SP__MS);
        }
    }
}

/// How many messages a peer takes that does not receive depends on its queues, and not on who ran
/// when: whoever stays below that may close, and loses nothing.
static void room_scenario(void)
{
    int threads = 1 + (int)sim_pick(2);
    struct apps apps = {0};
    struct filler f = {0};
    sp_socket to;
    unsigned send = 1 + (unsigned)sim_pick(40);
    unsigned recv = 1 + (unsigned)sim_pick(40);
    const char *url = scenario_url(false, 0);

    if (scenario_start(threads) == 0) {
        scenario_stop(); // Nobody would take over what the sender leaves.
        return;
    }
    f.s = scenario_open("pair");
    to = scenario_open("pair");
    SIM_CHECK(sp_set_int(f.s.id, "send-buffer", send) == SP_OK);
    SIM_CHECK(sp_set_int(to.id, "recv-buffer", recv) == SP_OK);
    SIM_CHECK(sp_listen(to, url, NULL) == SP_OK);
    SIM_CHECK(sp_dial(f.s, url, NULL, 0) == SP_OK);
    apps_add(&apps, room_fill, &f);
    apps_join(&apps);
    scenario_check_rest(f.s);
    scenario_check_rest(to);
    if (f.accepted != send + recv + SP__RX_WINDOW) {
        sim_fail("%u messages were accepted, room is for %u", f.accepted,
                 send + recv + SP__RX_WINDOW);
    }
    scenario_stop();
}

/* ------------------------------------------------------------------ Beside */

static void beside_wait(void *arg)
{
    char c;

    SIM_CHECK(sp_recv(*(sp_socket *)arg, &c, 1, 0) == 1);
}

/// What is closed goes, also while other threads wait for messages and poll.
static void beside_scenario(void)
{
    int threads = scenario_start((int)sim_pick(3));
    struct apps apps = {0};
    sp_socket s[4];
    unsigned before;

    for (unsigned i = 0; i < 4; i++) {
        s[i] = scenario_open("pair");
    }
    sim_patience(80);
    for (unsigned i = 0; i < 4; i += 2) {
        const char *url = scenario_url(!sim_once_in(3), i);

        SIM_CHECK(sp_listen(s[i], url, NULL) == SP_OK);
        if (i == 2) {
            apps_add(&apps, beside_wait, &s[0]);
            apps_add(&apps, beside_wait, &s[0]);
            scenario_settle(threads, 1);
            before = sp__objects() - 1; // Of s[2], its listener.
        }
        SIM_CHECK(sp_dial(s[i + 1], url, NULL, 0) == SP_OK);
    }
    for (unsigned i = 2; i < 4; i++) {
        SIM_CHECK(sp_close(s[i]) == SP_OK);
    }
    scenario_settle(threads, 5);
    sp__reclaim();
    SIM_CHECK(sp__objects() == before - 2);
    SIM_CHECK(sp_send(s[1], "x", 1, 0) == SP_OK && sp_send(s[1], "x", 1, 0) == SP_OK);
    apps_join(&apps);
    scenario_stop();
}

const struct scenario scenarios_flow[] = {
    {"flow", flow_scenario, false},     {"linger", linger_scenario, false},
    {"reqrep", reqrep_scenario, false}, {"room", room_scenario, false},
    {"beside", beside_scenario, false}, {NULL, NULL, false},
};
