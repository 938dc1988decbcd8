/* SPDX-License-Identifier: MIT */
/// Operations, contexts, scopes, mailboxes and actors in simulation, all at once and for many
/// seeds: contexts ask and answer by operations that are cancelled, stopped and cut off by scopes
/// and deadlines; what two sockets receive goes through a row of small actors, which fail, stop and
/// are attached anew, and through forwarding, into one mailbox. In the end every start was done
/// exactly once, every question that was let alone answered, everything posted handled, taken or
/// dropped and counted, and no message is left.
#include "app.h"
#include "check.h"
#include "mailbox.h"
#include "platform.h"
#include "sim_run.h"

#include <string.h>

#define ASKERS 3
#define SERVERS 3
#define SENDERS 2
#define TASKS (ASKERS + SERVERS + SENDERS + 1) // the last one sleeps
#define ROW 3

/// An operation that is started again and again.
struct task {
    sp_op *op;
    unsigned number;
    sp_ctx ctx; ///< id 0: none
    bool sends; ///< what is under way
    bool starting;
    uint64_t starts;
    uint64_t dones;
    uint32_t asked; ///< the question that is under way
    uint32_t answers;
};

/// An actor of the row.
struct member {
    sp_actor id;
    unsigned number;
    bool inited;
    bool inside;
};

static struct {
    bool ending; ///< nothing is started any more
    sp_socket rep;
    sp_socket req;
    sp_socket in[2];  ///< a pair: operations send to the first, the row receives from the second
    sp_socket fwd[2]; ///< the same, into the mailbox
    sp_mailbox box;
    sp_scope outer;
    sp_scope scope; ///< in it
    struct task tasks[TASKS];
    struct member row[ROW];
    uint64_t failed; ///< messages at which an actor failed, with those of earlier runs
} world;

/* ------------------------------------------------------------------ Operations */

static sp_msg *message(uint32_t who, uint32_t n)
{
    uint32_t words[2] = {who, n};
    sp_msg *m = NULL;

    SIM_CHECK(sp_msg_new(&m, sizeof(words)) == SP_OK);
    memcpy(sp_msg_data(m), words, sizeof(words));
    return m;
}

static bool asks(const struct task *t)
{
    return t->number < ASKERS;
}

static bool serves(const struct task *t)
{
    return t->number >= ASKERS && t->number < ASKERS + SERVERS;
}

/// A start that succeeds is followed by exactly one `done`, not inside it.
static void started(struct task *t, int rc, sp_msg *m)
{
    SIM_CHECK(rc == SP_OK || rc == SP_ECANCELED || rc == SP_ETIMEDOUT || rc == SP_ECLOSED ||
              rc == SP_ESTATE);
    t->starts += rc == SP_OK;
    t->starting = false;
    if (rc < 0) {
        sp_msg_release(m);
    }
}

static void task_send(struct task *t, uint64_t id, sp_msg *m)
{
    t->starting = true;
    t->sends = true;
    started(t, sp_op_send(t->op, id, m), m);
}

static void task_recv(struct task *t)
{
    t->starting = true;
    t->sends = false;
    started(t, sp_op_recv(t->op, t->ctx.id), NULL);
}

/// Begins: a question, a request to be answered, a message, a sleep.
static void task_begin(struct task *t)
{
    if (world.ending) {
        return;
    }
    sp_op_scope(t->op, sim_pick(4) == 0 ? world.scope : (sp_scope){0});
    sp_op_deadline(t->op, sim_pick(4) == 0 ? (int)sim_pick(40) : -1);
    if (asks(t)) {
        task_send(t, t->ctx.id, message(t->number, ++t->asked));
    } else if (serves(t)) {
        task_recv(t);
    } else if (t->number < ASKERS + SERVERS + SENDERS) {
        task_send(t, t->number % 2 == 0 ? world.in[0].id : world.fwd[0].id,
                  message(t->number, ++t->asked));
    } else {
        t->starting = true;
        started(t, sp_op_sleep(t->op, (int)sim_pick(20)), NULL);
    }
}

/// The answer to this question, and to no other one.
static void task_answered(struct task *t, sp_msg *m)
{
    uint32_t words[2];

    SIM_CHECK(sp_msg_len(m) == sizeof(words));
    memcpy(words, sp_msg_view(m), sizeof(words));
    SIM_CHECK(words[0] == t->number && words[1] == t->asked);
    t->answers++;
}

static void on_done(sp_op *op, void *arg)
{
    struct task *t = arg;
    int rc = sp_op_result(op);
    sp_msg *m = sp_op_msg(op);

    SIM_CHECK(op == t->op && !t->starting);
    SIM_CHECK(++t->dones == t->starts);
    SIM_CHECK(rc == SP_OK || rc == SP_ECANCELED || rc == SP_ETIMEDOUT || rc == SP_ECLOSED ||
              rc == SP_ESTATE);
    // A receive brings its message, a send that failed gives it back.
    SIM_CHECK(t->number == TASKS - 1 || (m != NULL) == (t->sends == (rc < 0)));
    if (rc == SP_OK && asks(t)) {
        if (t->sends) {
            task_recv(t);
            return;
        }
        task_answered(t, m);
    } else if (rc == SP_OK && serves(t) && !t->sends && !world.ending) {
        task_send(t, t->ctx.id, m);
        return;
    }
    sp_msg_release(m);
    // Else a step begins it again: time goes on only when there is nothing to be done.
    if (sim_pick(4) < (asks(t) || serves(t) ? 3 : 1)) {
        task_begin(t);
    }
}

static void task_reopen(struct task *t)
{
    if (t->ctx.id != 0) {
        SIM_CHECK(sp_ctx_close(t->ctx) == SP_OK);
        SIM_CHECK(sp_ctx_close(t->ctx) == SP_ECLOSED);
    }
    SIM_CHECK(sp_ctx_open(&t->ctx, asks(t) ? world.req : world.rep) == SP_OK);
}

static void tasks_open(void)
{
    for (unsigned i = 0; i < TASKS; i++) {
        struct task *t = &world.tasks[i];

        t->number = i;
        SIM_CHECK(sp_op_new(&t->op, on_done, t) == SP_OK);
        if (asks(t) || serves(t)) {
            task_reopen(t);
        }
        task_begin(t);
    }
}

/// Some call or other on some operation or its context.
static void task_step(void)
{
    struct task *t = &world.tasks[sim_pick(TASKS)];
    bool under_way = t->starts > t->dones;
    int rc;

    switch (sim_pick(6)) {
    case 0:
        rc = sp_op_cancel(t->op);
        SIM_CHECK(rc == SP_OK || rc == SP_ESTATE);
        break;
    case 1:
        if (t->ctx.id != 0 && sim_pick(4) == 0) {
            task_reopen(t);
        }
        break;
    case 2:
        SIM_CHECK(!under_way || sp_op_msg(t->op) == NULL);
        break;
    default:
        if (!under_way) {
            task_begin(t);
        }
        break;
    }
}

static void scope_step(void)
{
    switch (sim_pick(4)) {
    case 0:
        SIM_CHECK(sp_scope_cancel(sim_pick(2) == 0 ? world.scope : world.outer) == SP_OK);
        break;
    case 1:
        SIM_CHECK(sp_scope_close(world.scope) == SP_OK);
        SIM_CHECK(sp_scope_close(world.outer) == SP_OK);
        SIM_CHECK(sp_scope_open(&world.outer, (sp_scope){0}, -1) == SP_OK);
        SIM_CHECK(sp_scope_open(&world.scope, world.outer,
                                sim_pick(2) == 0 ? -1 : (int)sim_pick(60)) == SP_OK);
        break;
    default:
        break;
    }
}

/* ------------------------------------------------------------------ Actors */

static void member_enter(struct member *a, sp_actor self)
{
    SIM_CHECK(!a->inside && sp_actor_self().id == self.id);
    a->inside = true;
}

static int on_init(sp_actor self, void *state)
{
    struct member *a = state;

    member_enter(a, self);
    SIM_CHECK(!a->inited);
    a->inited = world.ending || sim_pick(16) != 0;
    a->inside = false;
    return a->inited ? 0 : -1;
}

static void on_fini(sp_actor self, void *state)
{
    struct member *a = state;

    member_enter(a, self);
    SIM_CHECK(a->inited);
    a->inited = false;
    a->inside = false;
}

/// To the next one of the row, or into the mailbox. False: it is full, and tells when it is not.
static bool member_pass(struct member *a, sp_msg *m)
{
    int rc = a->number + 1 < ROW ? sp_actor_post(world.row[a->number + 1].id, m, 0)
                                 : sp_mailbox_post(world.box, m, SP_NONBLOCK);

    SIM_CHECK(rc == SP_OK || rc == SP_EFULL || rc == SP_ECLOSED);
    if (rc == SP_ECLOSED) {
        sp_msg_release(m);
    }
    return rc != SP_EFULL;
}

static int on_message(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    struct member *a = state;
    int rc = 0;

    SIM_CHECK(port == 0 || port == 7);
    member_enter(a, self);
    SIM_CHECK(a->inited);
    for (sp_msg *m; rc == 0 && (m = sp_batch_pop(in)) != NULL;) {
        if (!world.ending && sim_pick(64) == 0) {
            sp_msg_release(m);
            world.failed++;
            rc = -1;
        } else if (!member_pass(a, m)) {
            sp_batch_unpop(in, m);
            break;
        }
    }
    a->inside = false;
    return rc;
}

static void on_writable(sp_actor self, void *state, unsigned port)
{
    member_enter(state, self);
    SIM_CHECK(port == SP_PORT_NONE);
    ((struct member *)state)->inside = false;
}

static void on_timer(sp_actor self, void *state, uint64_t cookie)
{
    int rc = cookie > 0 ? sp_actor_timer(self, (int)sim_pick(5), cookie - 1) : SP_OK;

    member_enter(state, self);
    SIM_CHECK(rc == SP_OK || rc == SP_ECLOSED);
    ((struct member *)state)->inside = false;
}

static void member_spawn(struct member *a)
{
    static const sp_actor_ops ops = {.size = sizeof(ops),
                                     .init = on_init,
                                     .on_message = on_message,
                                     .on_writable = on_writable,
                                     .on_timer = on_timer,
                                     .fini = on_fini};
    sp_actor_opts opts = {.size = sizeof(opts),
                          .capacity = 1 + sim_pick(4),
                          .restart_max = sim_pick(6),
                          .restart_ms = 50 * sim_pick(3)};

    SIM_CHECK(sp_actor_spawn(&a->id, &ops, a, &opts) == SP_OK);
}

/// Stops it if it has not given up, and starts another one in its place.
static void member_respawn(struct member *a)
{
    int rc = sp_actor_stop(a->id);

    SIM_CHECK(rc == SP_OK || rc == SP_ECLOSED);
    SIM_CHECK(!a->inited); // fini has returned, or init never did.
    member_spawn(a);
}

static void row_step(void)
{
    struct member *a = &world.row[sim_pick(ROW)];
    sp_msg *m = NULL;
    int rc;

    switch (sim_pick(8)) {
    case 0:
        if (sim_pick(6) == 0) {
            member_respawn(a);
        }
        return;
    case 1:
        rc = sp_actor_attach(world.row[0].id, world.in[1], 7);
        break;
    case 2:
        rc = sim_pick(4) == 0 ? sp_actor_detach(world.row[0].id, world.in[1]) : SP_OK;
        break;
    case 3:
        rc = sp_actor_timer(a->id, (int)sim_pick(5), sim_pick(3));
        break;
    default:
        m = message(TASKS, 0);
        rc = sp_actor_post(a->id, m, SP_NONBLOCK);
        break;
    }
    SIM_CHECK(rc == SP_OK || rc == SP_ECLOSED || (m != NULL ? rc == SP_EFULL : rc == SP_ESTATE));
    if (rc < 0) {
        sp_msg_release(m);
    }
}

/* ------------------------------------------------------------------ Mailbox */

static bool box_take(void)
{
    sp_msg *m = NULL;
    int rc = sp_mailbox_take(world.box, &m, SP_NONBLOCK);

    SIM_CHECK(rc == SP_OK || rc == SP_EAGAIN);
    sp_msg_release(m);
    return rc == SP_OK;
}

static void box_open(void)
{
    int rc;

    SIM_CHECK(sp_mailbox_open(&world.box, 1 + sim_pick(4)) == SP_OK);
    while ((rc = sp_forward(world.fwd[1], world.box)) == SP_ESTATE) {
        SIM_CHECK(sp_run_once(1) >= 0); // The mailbox before has not let go of the socket yet.
    }
    SIM_CHECK(rc == SP_OK);
    SIM_CHECK(sp_forward(world.fwd[1], world.box) == SP_ESTATE);
}

static void box_step(void)
{
    sp_pollitem item = {.id = world.box.id, .events = SP_POLLIN};
    sp_msg *m;
    int rc;

    switch (sim_pick(8)) {
    case 0:
        rc = sp_mailbox_post(world.box, m = message(TASKS, 1), SP_NONBLOCK);
        SIM_CHECK(rc == SP_OK || rc == SP_EFULL);
        if (rc < 0) {
            sp_msg_release(m);
        }
        break;
    case 1:
        if (sim_pick(20) == 0) { // What is left in it is dropped.
            SIM_CHECK(sp_mailbox_close(world.box) == SP_OK);
            (void)sp_mailbox_close(world.box);
            box_open();
        }
        break;
    case 2:
        rc = sp_poll(&item, 1, (int)sim_pick(3));
        SIM_CHECK(rc == (item.revents != 0) && (rc == 0 || box_take()));
        break;
    default:
        (void)box_take();
        break;
    }
}

/* ------------------------------------------------------------------ The run */

static void log_no_more(sp_log_level level, const char *id, const char *msg, void *arg)
{
    (void)level;
    (void)id;
    (void)msg;
    (void)arg;
}

static void world_couple(sp_socket s[2], const char *url)
{
    s[0] = sim_open("pair");
    s[1] = sim_open("pair");
    SIM_CHECK(sp_listen(s[1], url, NULL) == SP_OK);
    SIM_CHECK(sp_dial(s[0], url, NULL, SP_NONBLOCK) == SP_OK);
}

static void world_open(void)
{
    struct sp__app_stats apps;

    memset(&world, 0, sizeof(world));
    sp__app_stats(NULL, &apps);
    world.failed = apps.failed;
    SIM_CHECK(sp_scope_open(&world.outer, (sp_scope){0}, -1) == SP_OK);
    SIM_CHECK(sp_scope_open(&world.scope, world.outer, -1) == SP_OK);
    world.rep = sim_open("rep");
    world.req = sim_open("req");
    SIM_CHECK(sp_set_int(world.req.id, "req:resend-time", 30) == SP_OK);
    SIM_CHECK(sp_set_int(world.req.id, "req:resend-tick", 10) == SP_OK);
    SIM_CHECK(sp_listen(world.rep, "sim://ask", NULL) == SP_OK);
    SIM_CHECK(sp_dial(world.req, "sim://ask", NULL, SP_NONBLOCK) == SP_OK);
    world_couple(world.in, "sim://in");
    world_couple(world.fwd, "sim://fwd");
    box_open();
    for (unsigned i = 0; i < ROW; i++) {
        world.row[i].number = i;
        member_spawn(&world.row[i]);
    }
    SIM_CHECK(sp_actor_attach(world.row[0].id, world.in[1], 7) == SP_OK);
    tasks_open();
}

static void world_step(void)
{
    switch (sim_pick(8)) {
    case 0:
    case 1:
        SIM_CHECK(sp_run_once((int)sim_pick(4)) >= 0);
        break;
    case 2:
        if (sim_pick(8) == 0) {
            scope_step();
        }
        break;
    case 3:
    case 4:
        task_step();
        break;
    case 5:
    case 6:
        row_step();
        break;
    default:
        box_step();
        break;
    }
}

/// The network is fine and nobody disturbs: every asker gets answers.
static void every_question_is_answered(void)
{
    uint32_t before[ASKERS];
    unsigned waiting = ASKERS;

    for (unsigned i = 0; i < ASKERS; i++) {
        before[i] = world.tasks[i].answers;
    }
    for (unsigned i = 0; i < 20000 && waiting > 0; i++) {
        SIM_CHECK(sp_run_once(1) >= 0);
        (void)box_take();
        waiting = 0;
        for (unsigned t = 0; t < TASKS; t++) {
            if (world.tasks[t].starts == world.tasks[t].dones && sim_pick(16) == 0) {
                task_begin(&world.tasks[t]);
            }
            waiting += t < ASKERS && world.tasks[t].answers == before[t];
        }
    }
    SIM_CHECK(waiting == 0);
}

/// Each start was done, once; half of the operations are freed while they are under way.
static void tasks_end(void)
{
    world.ending = true;
    for (unsigned i = 0; i < TASKS; i++) {
        struct task *t = &world.tasks[i];

        if (sim_pick(2) == 0) {
            SIM_CHECK(sp_op_stop(t->op) == SP_OK || t->starts == t->dones);
            (void)sp_op_wait(t->op);
            SIM_CHECK(t->starts == t->dones);
        }
        sp_op_free(t->op);
        SIM_CHECK(t->starts == t->dones);
        if (t->ctx.id != 0) { // Else its question would be asked again for ever.
            SIM_CHECK(sp_ctx_close(t->ctx) == SP_OK);
        }
    }
}

/// What is in the row comes out of it.
static void row_rest(void)
{
    bool more = true;

    for (unsigned i = 0; i < 20000 && more; i++) {
        more = box_take();
        more = sp_run_once(1) > 0 || more || i < 400;
    }
    SIM_CHECK(!more);
}

static void check_posted(void)
{
    struct sp__app_stats apps;
    struct sp__mailbox_stats boxes;

    for (unsigned i = 0; i < ROW; i++) {
        int rc = sp_actor_stop(world.row[i].id);

        SIM_CHECK(rc == SP_OK || rc == SP_ECLOSED);
        SIM_CHECK(!world.row[i].inited);
    }
    SIM_CHECK(sp_mailbox_close(world.box) == SP_OK); // Empty: it ends.
    sim_settle(1);
    sp__app_stats(NULL, &apps);
    SIM_CHECK(apps.posted == apps.handled + apps.failed + apps.closed);
    SIM_CHECK(apps.failed == world.failed);
    sp__mailbox_stats(NULL, &boxes);
    SIM_CHECK(boxes.posted == boxes.taken + boxes.dropped);
}

static void run_world(uint64_t seed)
{
    sim_begin(seed);
    world_open();
    for (unsigned step = 0; step < SIM_STEPS; step++) {
        world_step();
    }
    sim_calm();
    every_question_is_answered();
    tasks_end();
    sim_settle(300);
    row_rest();
    sim_settle(300);
    sim_rest();
    SIM_CHECK(sp_scope_close(world.scope) == SP_OK);
    SIM_CHECK(sp_scope_close(world.outer) == SP_OK);
    check_posted();
    sim_end();
    SIM_CHECK(check_stat(0, "runtime.message_bytes") == 0); // Begins anew, and ends.
    sp_fini();
}

/// Usage: actors_test [world SEED [COUNT]]
int main(int argc, char **argv)
{
    static const struct sim_scenario scenarios[] = {{"world", run_world}};

    sp_log_set(SP_LOG_ERROR, log_no_more, NULL); // Of actors that give up.
    return sim_main(argc, argv, scenarios, 1);
}
