/* SPDX-License-Identifier: MIT */
/// The runtime in simulation: REQ/REP and PAIR over a network that delays, chokes, refuses and
/// cuts, for many seeds. At the end of each run nothing is under way, and the accounting equations
/// and the credit invariant hold. A failing seed prints the command that replays it.
#include "platform_sim.h"
#include "runtime.h"
#include "sim_net.h"
#include "socket.h"

#include <sp/sp.h>

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SOCKS 5
#define STEPS 1000

static uint64_t sim_first = 1;
static uint64_t sim_count = 2000;
static uint64_t sim_now_seed;
static const char *sim_program;

static void replay_hint(const char *scenario)
{
    print_error("replay: %s %s %" PRIu64 "\n", sim_program, scenario, sim_now_seed);
}

static const char *sim_scenario = "";

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            replay_hint(sim_scenario);                                                             \
            print_error("%s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #cond,                 \
                        sp_error_detail());                                                        \
            fail();                                                                                \
        }                                                                                          \
    } while (0)

/// A choice of the test itself, from the run's seed.
static unsigned pick(unsigned n)
{
    return (unsigned)(sp__platform->random() % n);
}

static void sim_start(uint64_t seed)
{
    sim_now_seed = seed;
    sp__platform = &sp__platform_sim;
    sp__sim_begin(seed);
    CHECK(sp_init(NULL) == SP_OK);
    memset(&sim_net, 0, sizeof(sim_net));
    sim_net.delay_ms = pick(2) == 0 ? 0 : 1 + pick(20);
    sim_net.refuse = pick(3) == 0 ? 200 : 0;
    sim_net.cut = pick(2) == 0 ? 0 : pick(60);
    sim_net.choke = pick(2) == 0 ? 0 : pick(300);
}

static void sim_calm(void)
{
    sim_net.refuse = 0;
    sim_net.cut = 0;
    sim_net.choke = 0;
}

static sp_socket sim_open(const char *protocol)
{
    sp_socket s;

    CHECK(sp_open(&s, protocol) == SP_OK);
    CHECK(sp_set_int(s.id, "reconnect-time-min", 2) == SP_OK);
    CHECK(sp_set_int(s.id, "reconnect-time-max", 40) == SP_OK);
    CHECK(sp_set_int(s.id, "linger", 20) == SP_OK);
    CHECK(sp_set_int(s.id, "send-buffer", 1 + (int)pick(8)) == SP_OK);
    CHECK(sp_set_int(s.id, "recv-buffer", 1 + (int)pick(8)) == SP_OK);
    return s;
}

struct totals {
    uint64_t written;
    uint64_t received;
};

static uint64_t sum(const sp__counter *c, unsigned n)
{
    uint64_t all = 0;

    for (unsigned i = 0; i < n; i++) {
        all += sp__counted(&c[i]);
    }
    return all;
}

/// Credit that is out, held by messages in queues, and free, is the capacity of all queues.
static void check_credit(struct sp__sock *s)
{
    int64_t free_credit = atomic_load(&s->ctx.credit) >> 1;
    int64_t pending = 0;
    int64_t held = 0;
    int64_t capacity = 0;

    for (sp_msg *m = s->ctx.pending.head; m != NULL; m = m->next) {
        pending += sp__msg(m)->cost;
    }
    for (struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        if (p->added) {
            capacity += p->cap;
            held += p->inflight;
        }
    }
    if (s->ops->window == SP_WINDOW_PIPES) {
        CHECK(free_credit + pending + held == capacity);
    } else if (s->ops->window == SP_WINDOW_PEER) {
        CHECK(free_credit + pending == (atomic_load(&s->peers) > 0 ? 1 : 0));
    }
}

/// Nothing is under way: the equations hold exactly.
static void check_rest(sp_socket sock, struct totals *t)
{
    struct sp__object *obj;
    struct sp__sock *s;
    uint64_t written;
    uint64_t queued_out;
    uint64_t queued_in;

    CHECK(sp__enter(sock.id, SP__KIND_SOCKET, &obj) == SP_OK);
    s = SP__CONTAINER(obj, struct sp__sock, obj);
    written = sp__counted(&s->tx_msgs);
    queued_out = s->ctx.pending.n;
    queued_in = sp__counted(&s->ctx.entered) - sp__counted(&s->ctx.taken) -
                sp__counted(&s->ctx.stale);
    for (struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        written += sp__counted(&p->tx_msgs);
        queued_out += p->txq.n;
        queued_in += p->held.n;
    }
    CHECK(sp__counted(&s->accepted) + sp__counted(&s->copies) ==
          written + sum(s->drops_out, SP_DISCARD_REASONS) + queued_out);
    CHECK(sp__counted(&s->received) == sp__counted(&s->ctx.taken) + sp__counted(&s->ctx.stale) +
                                           sum(s->drops_in, SP_DISCARD_REASONS) + queued_in);
    check_credit(s);
    t->written += written;
    t->received += sp__counted(&s->received);
    sp__leave();
}

static void settle(int ms)
{
    for (int64_t end = sp__now() + ms * SP__MS; sp__now() < end;) {
        CHECK(sp_run_once(10) >= 0);
    }
}

static void sim_end(void)
{
    sp_fini();
    CHECK(sp__objects() == 0);
}

/* ------------------------------------------------------------------ REQ/REP */

struct asker {
    sp_socket s;
    uint32_t seq;
    bool waiting;
};

static void reqrep_ask(struct asker *a)
{
    uint32_t body[2] = {(uint32_t)a->s.id, a->seq + 1};
    int rc;

    if (a->waiting) {
        uint32_t got[2];
        ssize_t n = sp_recv(a->s, got, sizeof(got), SP_NONBLOCK);

        if (n == SP_EAGAIN) {
            return;
        }
        // Exactly the answer to this question, exactly once.
        CHECK(n == sizeof(got));
        CHECK(got[0] == (uint32_t)a->s.id && got[1] == a->seq);
        a->waiting = false;
        return;
    }
    CHECK(sp_recv(a->s, body, sizeof(body), SP_NONBLOCK) == SP_ESTATE);
    rc = sp_send(a->s, body, sizeof(body), SP_NONBLOCK);
    CHECK(rc == SP_OK || rc == SP_ENOPEER || rc == SP_EAGAIN);
    if (rc == SP_OK) {
        a->seq++;
        a->waiting = true;
    }
}

static void reqrep_answer(sp_socket s)
{
    uint32_t got[2];
    ssize_t n = sp_recv(s, got, sizeof(got), SP_NONBLOCK);

    CHECK(n == SP_EAGAIN || n == sizeof(got));
    if (n > 0) {
        CHECK(sp_send(s, got, sizeof(got), 0) == SP_OK);
    }
}

static void run_reqrep(uint64_t seed)
{
    struct asker askers[3];
    sp_socket reps[2];
    sp_listener listeners[2];
    static const char *const urls[] = {"sim://a", "sim://b"};
    unsigned n_askers;
    unsigned n_reps;
    struct totals t = {0, 0};
    bool waiting = true;

    sim_start(seed);
    n_askers = 1 + pick(3);
    n_reps = 1 + pick(2);
    for (unsigned i = 0; i < n_reps; i++) {
        reps[i] = sim_open("rep");
        CHECK(sp_listen(reps[i], urls[i], &listeners[i]) == SP_OK);
    }
    for (unsigned i = 0; i < n_askers; i++) {
        askers[i] = (struct asker){sim_open("req"), 0, false};
        CHECK(sp_set_int(askers[i].s.id, "req:resend-time", 30) == SP_OK);
        CHECK(sp_set_int(askers[i].s.id, "req:resend-tick", 10) == SP_OK);
        for (unsigned r = 0; r < n_reps; r++) {
            CHECK(sp_dial(askers[i].s, urls[r], NULL, SP_NONBLOCK) == SP_OK);
        }
    }
    for (unsigned step = 0; step < STEPS; step++) {
        switch (pick(8)) {
        case 0:
        case 1:
        case 2:
            reqrep_ask(&askers[pick(n_askers)]);
            break;
        case 3:
        case 4:
            reqrep_answer(reps[pick(n_reps)]);
            break;
        case 5:
            if (pick(20) == 0) {
                unsigned r = pick(n_reps);

                CHECK(sp_listener_close(listeners[r]) == SP_OK);
                settle(1);
                CHECK(sp_listen(reps[r], urls[r], &listeners[r]) == SP_OK);
            }
            break;
        default:
            CHECK(sp_run_once((int)pick(4)) >= 0);
            break;
        }
    }
    sim_calm();
    for (unsigned i = 0; i < 20000 && waiting; i++) {
        waiting = false;
        for (unsigned a = 0; a < n_askers; a++) {
            if (askers[a].waiting) {
                reqrep_ask(&askers[a]);
            }
            waiting = waiting || askers[a].waiting;
        }
        for (unsigned r = 0; r < n_reps; r++) {
            reqrep_answer(reps[r]);
        }
        CHECK(sp_run_once(1) >= 0);
    }
    CHECK(!waiting); // Every question is answered in the end.
    settle(200);
    for (unsigned i = 0; i < 100; i++) {
        for (unsigned r = 0; r < n_reps; r++) {
            reqrep_answer(reps[r]);
        }
        CHECK(sp_run_once(1) >= 0);
    }
    settle(200);
    for (unsigned i = 0; i < n_askers; i++) {
        check_rest(askers[i].s, &t);
    }
    for (unsigned i = 0; i < n_reps; i++) {
        check_rest(reps[i], &t);
    }
    CHECK(t.written == t.received + sim_net.lost);
    sim_end();
}

/* ------------------------------------------------------------------ PAIR */

struct talker {
    sp_socket s;
    uint32_t sent;
    uint32_t last; ///< received
};

static void pair_step(struct talker *t)
{
    uint32_t n = t->sent + 1;
    uint32_t got;
    ssize_t len;
    int rc;

    if (pick(2) == 0) {
        rc = sp_send(t->s, &n, sizeof(n), SP_NONBLOCK);
        CHECK(rc == SP_OK || rc == SP_ENOPEER || rc == SP_EAGAIN);
        t->sent += rc == SP_OK;
        return;
    }
    len = sp_recv(t->s, &got, sizeof(got), SP_NONBLOCK);
    CHECK(len == SP_EAGAIN || len == sizeof(got));
    if (len > 0) {
        CHECK(got > t->last); // In order, none twice.
        t->last = got;
    }
}

static void run_pair(uint64_t seed)
{
    struct talker t[2];
    const char *protocol;
    struct totals all = {0, 0};

    sim_start(seed);
    protocol = pick(2) == 0 ? "pair" : "pair1";
    t[0] = (struct talker){sim_open(protocol), 0, 0};
    t[1] = (struct talker){sim_open(protocol), 0, 0};
    CHECK(sp_listen(t[0].s, "sim://p", NULL) == SP_OK);
    CHECK(sp_dial(t[1].s, "sim://p", NULL, SP_NONBLOCK) == SP_OK);
    for (unsigned step = 0; step < STEPS; step++) {
        if (pick(3) == 0) {
            CHECK(sp_run_once((int)pick(4)) >= 0);
        } else {
            pair_step(&t[pick(2)]);
        }
    }
    sim_calm();
    settle(300);
    for (unsigned i = 0; i < 400; i++) {
        uint32_t got;

        for (unsigned k = 0; k < 2; k++) {
            ssize_t len = sp_recv(t[k].s, &got, sizeof(got), SP_NONBLOCK);

            CHECK(len == SP_EAGAIN || (len == sizeof(got) && got > t[k].last));
            t[k].last = len > 0 ? got : t[k].last;
        }
        CHECK(sp_run_once(1) >= 0);
    }
    settle(300);
    check_rest(t[0].s, &all);
    check_rest(t[1].s, &all);
    CHECK(all.written == all.received + sim_net.lost);
    if (sim_net.lost == 0) {
        CHECK(t[0].last == t[1].sent && t[1].last == t[0].sent);
    }
    sim_end();
}

/* ------------------------------------------------------------------ Runs */

static void run_seeds(const char *scenario, void (*run)(uint64_t seed))
{
    sim_scenario = scenario;
    for (uint64_t i = 0; i < sim_count; i++) {
        run(sim_first + i);
    }
}

static void reqrep_holds_for_all_seeds(void **state)
{
    (void)state;
    run_seeds("reqrep", run_reqrep);
}

static void pair_holds_for_all_seeds(void **state)
{
    (void)state;
    run_seeds("pair", run_pair);
}

static void the_same_seed_gives_the_same_run(void **state)
{
    (void)state;
    sim_scenario = "reqrep";
    for (uint64_t seed = 7; seed < 17; seed++) {
        uint64_t first;

        run_reqrep(seed);
        first = sp__sim_digest();
        run_reqrep(seed);
        CHECK(sp__sim_digest() == first);
    }
}

/// Usage: protocols_test [reqrep|pair SEED [COUNT]]
int main(int argc, char **argv)
{
    const struct CMUnitTest both[] = {
        cmocka_unit_test(the_same_seed_gives_the_same_run),
        cmocka_unit_test(reqrep_holds_for_all_seeds),
        cmocka_unit_test(pair_holds_for_all_seeds),
    };
    const struct CMUnitTest reqrep[] = {cmocka_unit_test(reqrep_holds_for_all_seeds)};
    const struct CMUnitTest pair[] = {cmocka_unit_test(pair_holds_for_all_seeds)};

    sim_program = argv[0];
    (void)setenv("SP_PLUGIN_PATH", SP_TEST_BUILD_DIR "/plugins", 0);
    sp__platform = &sp__platform_sim;
    if (sp__registry_add(sim_net_entry) < 0) {
        (void)fprintf(stderr, "%s\n", sp_error_detail());
        return 1;
    }
    if (argc >= 3) {
        sim_first = strtoull(argv[2], NULL, 10);
        sim_count = argc >= 4 ? strtoull(argv[3], NULL, 10) : 1;
        return strcmp(argv[1], "pair") == 0 ? cmocka_run_group_tests(pair, NULL, NULL)
                                            : cmocka_run_group_tests(reqrep, NULL, NULL);
    }
    return cmocka_run_group_tests(both, NULL, NULL);
}
