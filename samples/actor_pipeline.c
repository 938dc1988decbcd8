/* SPDX-License-Identifier: MIT */
/// A pipeline of actors: a source asks, three workers take turns at the squares, a collector adds
/// them up and hands the sum to main through a mailbox. Every stage is bounded; a full one slows
/// those before it down, and nothing is lost. Build it with
/// `cc actor_pipeline.c $(pkg-config --cflags --libs sp)`.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <sp/sp.h>

#define NUMBERS 1000
#define WORKERS 3

static struct pipeline {
    sp_actor workers[WORKERS];
    sp_actor collector;
    sp_mailbox result;
    // The source's.
    uint64_t next;
    // The collector's.
    uint64_t sum;
    int n;
} pipeline;

static uint64_t number(const sp_msg *m)
{
    uint64_t n = 0;

    memcpy(&n, sp_msg_view(m), sizeof(n));
    return n;
}

/// Posts what it can; the rest when the workers have room: posting never waits in an actor.
static void source_go_on(struct pipeline *p)
{
    while (p->next < NUMBERS) {
        sp_msg *m;

        if (sp_msg_new(&m, sizeof(p->next)) < 0) {
            return;
        }
        memcpy(sp_msg_data(m), &p->next, sizeof(p->next));
        if (sp_actor_post(p->workers[p->next % WORKERS], m, 0) < 0) {
            sp_msg_release(m); // SP_EFULL: source_on_writable comes.
            return;
        }
        p->next++;
    }
}

static int source_init(sp_actor self, void *state)
{
    (void)self;
    source_go_on(state);
    return 0;
}

static void source_on_writable(sp_actor self, void *state, unsigned port)
{
    (void)self;
    (void)port;
    source_go_on(state);
}

static int source_on_message(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    (void)self;
    (void)state;
    (void)port;
    sp_msg_release(sp_batch_pop(in)); // Nobody posts to it.
    return 0;
}

static int worker_on_message(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    struct pipeline *p = state;

    (void)self;
    (void)port;
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        sp_msg *square;
        uint64_t n = number(m);

        n *= n;
        if (sp_msg_new(&square, sizeof(n)) < 0) {
            sp_msg_release(m);
            return SP_ENOMEM; // A failure: it is restarted, the message is counted.
        }
        memcpy(sp_msg_data(square), &n, sizeof(n));
        if (sp_actor_post(p->collector, square, 0) < 0) {
            sp_msg_release(square);
            sp_batch_unpop(in, m); // It is offered again when there is room.
            return 0;
        }
        sp_msg_release(m);
    }
    return 0;
}

static int collector_on_message(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    struct pipeline *p = state;

    (void)self;
    (void)port;
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        p->sum += number(m);
        if (++p->n == NUMBERS) {
            memcpy(sp_msg_data(m), &p->sum, sizeof(p->sum));
            if (sp_mailbox_post(p->result, m, SP_NONBLOCK) == SP_OK) {
                continue;
            }
        }
        sp_msg_release(m);
    }
    return 0;
}

/// Says what failed, with the chain of its causes. Returns what main returns.
static int pipeline_fail(const char *what)
{
    (void)fprintf(stderr, "actor_pipeline: %s: %s\n", what, sp_error_detail());
    return 1;
}

int main(void)
{
    const sp_actor_ops source = {.size = sizeof(source),
                                 .init = source_init,
                                 .on_message = source_on_message,
                                 .on_writable = source_on_writable};
    const sp_actor_ops worker = {.size = sizeof(worker), .on_message = worker_on_message};
    const sp_actor_ops collector = {.size = sizeof(collector), .on_message = collector_on_message};
    const sp_actor_opts small = {
        .size = sizeof(small), .capacity = 16, .restart_max = 3, .restart_ms = 1000};
    struct pipeline *p = &pipeline;
    sp_actor first;
    sp_msg *m;

    if (sp_mailbox_open(&p->result, 1) < 0 ||
        sp_actor_spawn(&p->collector, &collector, p, &small) < 0) {
        return pipeline_fail("collector");
    }
    for (int i = 0; i < WORKERS; i++) {
        if (sp_actor_spawn(&p->workers[i], &worker, p, &small) < 0) {
            return pipeline_fail("worker");
        }
    }
    if (sp_actor_spawn(&first, &source, p, NULL) < 0) {
        return pipeline_fail("source");
    }
    if (sp_mailbox_take(p->result, &m, 0) < 0) {
        return pipeline_fail("take");
    }
    (void)printf("%d squares, sum %llu\n", NUMBERS, (unsigned long long)number(m));
    sp_msg_release(m);
    sp_fini(); // Stops them all.
    return 0;
}
