/* SPDX-License-Identifier: MIT */
/// What the scenarios share.
#include "scenario.h"

#include "core/registry.h"
#include "core/runtime.h"
#include "core/sched.h"
#include "core/socket.h"
#include "edge_net.h"

#include <inttypes.h>
#include <stdio.h>

const sp_plugin *sp_test_entry_pair(void);
const sp_plugin *sp_test_entry_reqrep(void);
const sp_plugin *sp_test_entry_inproc(void);

int scenario_plugins(void)
{
    int rc = sp__registry_add(sp_test_entry_pair);

    rc = rc < 0 ? rc : sp__registry_add(sp_test_entry_reqrep);
    rc = rc < 0 ? rc : sp__registry_add(sp_test_entry_inproc);
    return rc < 0 ? rc : sp__registry_add(edge_net_entry);
}

/* ------------------------------------------------------------------ The library */

static void log_nothing(sp_log_level level, const char *id, const char *msg, void *arg)
{
    (void)level;
    (void)id;
    (void)msg;
    (void)arg;
}

int scenario_start(int threads)
{
    return scenario_start_timed(threads, sim_once_in(2) ? 0 : 1 + (int)sim_pick(4));
}

int scenario_start_timed(int threads, int watchdog)
{
    sp_config *cfg;

    SIM_CHECK(sp_config_new(&cfg) == SP_OK);
    SIM_CHECK(sp_config_set_int(cfg, "threads", threads) == SP_OK);
    SIM_CHECK(sp_config_set_int(cfg, "watchdog-time", watchdog) == SP_OK);
    sp_log_set(SP_LOG_ERROR, log_nothing, NULL);
    SIM_CHECK(sp_init(cfg) == SP_OK);
    sp_config_free(cfg);
    if (sim_once_in(12)) {
        sp_log_set(SP_LOG_ERROR, log_nothing, NULL);
        sim_refuse_threads();
        threads = 0;
    }
    return threads;
}

void scenario_stop(void)
{
    sp_fini();
    SIM_CHECK(sp__objects() == 0);
}

sp_socket scenario_open(const char *protocol)
{
    sp_socket s;

    SIM_CHECK(sp_open(&s, protocol) == SP_OK);
    SIM_CHECK(sp_set_int(s.id, "send-buffer", 1 + (int)sim_pick(4)) == SP_OK);
    SIM_CHECK(sp_set_int(s.id, "recv-buffer", 1 + (int)sim_pick(4)) == SP_OK);
    SIM_CHECK(sp_set_int(s.id, "linger", 0) == SP_OK);
    SIM_CHECK(sp_set_int(s.id, "in-place", !sim_once_in(3)) == SP_OK);
    if (sim_once_in(2)) { // No timers: so that the first worker is started for something else.
        SIM_CHECK(sp_set_int(s.id, "hello-timeout", -1) == SP_OK);
        SIM_CHECK(sp_set_int(s.id, "connect-timeout", -1) == SP_OK);
    }
    SIM_CHECK(sp_set_int(s.id, "spin-time", (int64_t)sim_pick(4) * 10 - 1) == SP_OK);
    SIM_CHECK(sp_set_int(s.id, "reconnect-time-min", 1) == SP_OK);
    SIM_CHECK(sp_set_int(s.id, "reconnect-time-max", 3) == SP_OK);
    return s;
}

const char *scenario_url(bool fds, unsigned n)
{
    static const char *const urls[2][4] = {
        {"inproc://a", "inproc://b", "inproc://c", "inproc://d"},
        {"edgefd://w", "edgefd://x", "edgefd://y", "edgefd://z"}};

    return urls[fds][n % 4];
}

void scenario_settle(int threads, int ms)
{
    if (threads > 0) {
        sim_sleep(ms * SP__MS);
        return;
    }
    for (int64_t end = sp__now() + ms * SP__MS; sp__now() < end;) {
        (void)sp__drive(sp__now() + SP__MS); // sp_run_once, but also where no thread could start.
    }
}

/* ------------------------------------------------------------------ Accounting */

static uint64_t sum(const sp__counter *c, unsigned n)
{
    uint64_t all = 0;

    for (unsigned i = 0; i < n; i++) {
        all += sp__counted(&c[i]);
    }
    return all;
}

/// Free credit, and what is held by messages in queues, is the capacity of all queues.
static void check_credit(struct sp__sock *s)
{
    int64_t free_credit = atomic_load(&s->ctx.credit) >> 1;
    int64_t held = 0;
    int64_t capacity = 0;

    for (sp_msg *m = s->ctx.pending.head; m != NULL; m = m->next) {
        held += sp__msg(m)->cost;
    }
    for (struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        if (p->added) {
            capacity += p->cap;
            held += p->inflight;
        }
    }
    if (s->ops->window == SP_WINDOW_PIPES && free_credit + held != capacity) {
        sim_fail("credit: %" PRId64 " free, %" PRId64 " held, of %" PRId64, free_credit, held,
                 capacity);
    }
}

static uint64_t ctx_taken(const struct sp__ctx *c)
{
    return sp__counted(&c->taken) + sp__counted(&c->stale);
}

void scenario_check_rest(sp_socket sock)
{
    struct sp__object *obj;
    struct sp__sock *s;
    uint64_t written;
    uint64_t taken;
    uint64_t out;
    uint64_t in;

    SIM_CHECK(sp__enter(sock.id, SP__KIND_SOCKET, &obj) == SP_OK);
    s = SP__CONTAINER(obj, struct sp__sock, obj);
    written = sp__counted(&s->tx_msgs);
    out = s->ctx.pending.n;
    taken = s->ctxs_taken + s->ctxs_stale + ctx_taken(&s->ctx);
    in = s->ctxs_entered + sp__counted(&s->ctx.entered);
    for (struct sp__ctx *c = s->ctxs; c != NULL; c = c->next) {
        taken += ctx_taken(c);
        in += sp__counted(&c->entered);
        out += c->pending.n;
    }
    in -= taken;
    for (struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        written += sp__counted(&p->tx_msgs);
        out += p->txq.n;
        in += p->held.n;
    }
    SIM_CHECK(sp__counted(&s->accepted) + sp__counted(&s->copies) ==
              written + sum(s->drops_out, SP_DISCARD_REASONS) + out);
    SIM_CHECK(sp__counted(&s->received) == taken + sum(s->drops_in, SP_DISCARD_REASONS) + in);
    check_credit(s);
    sp__leave();
}

/* ------------------------------------------------------------------ Application threads */

void apps_add(struct apps *a, void (*fn)(void *arg), void *arg)
{
    static unsigned made;
    char name[SIM_NAME];

    SIM_CHECK(a->n < APPS_MAX);
    (void)snprintf(name, sizeof(name), "app-%u", ++made);
    a->thread[a->n++] = sim_spawn(name, fn, arg);
}

void apps_join(struct apps *a)
{
    for (unsigned i = 0; i < a->n; i++) {
        sim_join(a->thread[i]);
    }
    a->n = 0;
}
