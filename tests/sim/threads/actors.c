/* SPDX-License-Identifier: MIT */
/// The core under the sockets: mailboxes, events, timers and watches, with workers and without.
/// Nothing posted is lost or done twice, and an actor runs on one thread at a time.
#include "scenario.h"

#include "core/actor.h"
#include "core/msg.h"
#include "core/sched.h"
#include "core/timer.h"
#include "core/watch.h"

#include <sp/plugin.h>

#define BOXES_MAX 3
#define WRITERS_MAX 4 // of a box: the applications, and other boxes

/// An object with an actor, and all that can happen to it. What `put` and `got` count is never
/// touched by two threads at a time here, since the test itself has no points.
struct box {
    struct sp__object obj;
    struct sp__actor actor;
    struct sp__port port;
    struct sp__event own;   ///< of the actor's object
    struct sp__event other; ///< holds its owner
    struct sp__event end;
    struct sp__timer timer;
    struct sp__watch watch;
    bool inside;
    unsigned put[3];            ///< written before a post of own, other, and an edge
    unsigned got[3];            ///< seen by the handlers
    unsigned sent[WRITERS_MAX]; ///< messages
    unsigned handled[WRITERS_MAX];
    struct box *to; ///< messages go on there
    int fd;
    unsigned arms; ///< of the timer that shall still be done
    bool ended;
    bool waits; ///< the user's code in it, or another worker's, waits for all of the others
};

static struct {
    struct box *box[BOXES_MAX];
    unsigned n;
    unsigned writers; ///< applications that still post
    unsigned destroyed;
    bool over;  ///< boxes go
    bool pause; ///< applications pause for about as long as a worker without work stays
    struct sp__thread *main;
} boxes;

static void box_enter(struct box *b)
{
    SIM_CHECK(!b->inside);
    b->inside = true;
    SIM_POINT();
}

static bool box_done(const struct box *b)
{
    for (unsigned i = 0; i < WRITERS_MAX; i++) {
        if (b->sent[i] != b->handled[i]) {
            return false;
        }
    }
    for (unsigned i = 0; i < 3; i++) {
        if (b->put[i] != b->got[i]) {
            return false;
        }
    }
    return b->arms == 0 && !b->inside;
}

/// All but `but`, and those that wait as it does.
static bool boxes_done(const struct box *but)
{
    for (unsigned i = 0; i < boxes.n; i++) {
        if (boxes.box[i] != but && (but == NULL || !boxes.box[i]->waits) &&
            !box_done(boxes.box[i])) {
            return false;
        }
    }
    return boxes.writers == 0;
}

/// Something was done, perhaps the last thing.
static void boxes_tell(void)
{
    if (!boxes.over && boxes_done(NULL)) {
        sp__thread_wake(boxes.main);
    }
    sim_wake(&boxes);
}

static void box_leave(struct box *b)
{
    SIM_POINT();
    SIM_CHECK(b->inside);
    b->inside = false;
    boxes_tell();
}

/* ------------------------------------------------------------------ Handlers */

static void box_send(struct box *b, unsigned writer)
{
    sp_batch batch = {NULL, NULL, 0};

    for (unsigned n = 1 + (unsigned)sim_pick(3); n > 0; n--) {
        sp_msg *m = sp__msg_new(0);

        m->peer = writer << 16 | ++b->sent[writer];
        sp_batch_push(&batch, m);
    }
    sp__post_batch(&b->actor, &b->port, &batch);
}

static void box_on_msgs(struct sp__port *port, sp_batch *nodes)
{
    struct box *b = SP__CONTAINER(port, struct box, port);

    box_enter(b);
    for (sp_msg *m; (m = sp_batch_pop(nodes)) != NULL;) {
        SIM_CHECK((m->peer & 0xFFFF) == ++b->handled[m->peer >> 16]);
        if (b->to != NULL && m->peer >> 16 != WRITERS_MAX - 1 && sim_once_in(2)) {
            box_send(b->to, WRITERS_MAX - 1);
        }
        sp__msg_release(m);
    }
    box_leave(b);
}

static void box_saw(struct box *b, unsigned what)
{
    box_enter(b);
    b->got[what] = b->put[what];
    if (b->waits && b->got[0] > 0 && sp__self()->worker) {
        // The user's code may wait for whatever the other workers do; what else does is held.
        while (!boxes.over && !boxes_done(b)) {
            (void)sim_block("the user's code", &boxes, SP__NEVER);
        }
    }
    box_leave(b);
}

static void box_on_own(struct sp__event *ev)
{
    box_saw(SP__CONTAINER(ev, struct box, own), 0);
}

/// Has the timer armed anew or cancelled.
static void box_on_other(struct sp__event *ev)
{
    struct box *b = SP__CONTAINER(ev, struct box, other);

    if (sim_once_in(3)) {
        sp__timer_cancel(&b->timer);
        b->arms = 0;
    } else {
        b->arms = 1;
        sp__timer_arm(&b->timer, sp__now() + (int64_t)sim_pick(3) * SP__MS);
    }
    box_saw(b, 1);
}

static void box_on_timer(struct sp__timer *t)
{
    struct box *b = SP__CONTAINER(t, struct box, timer);

    box_enter(b);
    SIM_CHECK(b->arms == 1 && !b->ended && sim_now() >= t->due);
    b->arms = 0;
    box_leave(b);
}

static void box_on_ready(struct sp__watch *w, unsigned ready)
{
    struct box *b = SP__CONTAINER(w, struct box, watch);

    SIM_CHECK(ready == SP_READY_IN);
    sp__post(&b->own);
    b->got[2] = b->put[2];
    boxes_tell();
}

static void box_on_end(struct sp__event *ev)
{
    struct box *b = SP__CONTAINER(ev, struct box, end);

    box_enter(b);
    b->ended = true;
    b->arms = 0;
    sp__timer_cancel(&b->timer);
    sp__watch_close(&b->watch);
    b->inside = false;
}

static void box_destroy(struct sp__object *obj)
{
    struct box *b = SP__CONTAINER(obj, struct box, obj);

    SIM_CHECK(b->ended && !b->inside);
    sim_fd_free(b->fd);
    sp__timer_unreserve();
    boxes.destroyed++;
    sp__free(b);
}

/* ------------------------------------------------------------------ The scenario */

static struct box *box_new(bool user_code)
{
    struct box *b = sp__zalloc(sizeof(*b));

    sp__object_init(&b->obj, SP__KIND_ACTOR, box_destroy);
    sp__actor_init(&b->actor, &b->obj, user_code);
    b->port.handle = box_on_msgs;
    sp__event_init(&b->own, &b->actor, NULL, box_on_own);
    sp__event_init(&b->other, &b->actor, &b->obj, box_on_other);
    sp__event_init(&b->end, &b->actor, &b->obj, box_on_end);
    SIM_CHECK(sp__timer_reserve() == 0);
    sp__timer_init(&b->timer, &b->actor, &b->obj, box_on_timer);
    b->fd = sim_fd_new();
    b->watch.obj = &b->obj;
    b->watch.ready = box_on_ready;
    SIM_CHECK(sp__watch_open(&b->watch, b->fd) == SP_OK);
    return b;
}

static void box_poke(struct box *b, unsigned writer)
{
    switch (sim_pick(4)) {
    case 0:
        b->put[0]++;
        sp__post(&b->own);
        break;
    case 1:
        b->put[1]++;
        sp__post(&b->other);
        break;
    case 2:
        b->put[2]++;
        sim_fd_raise(b->fd, SP_READY_IN);
        break;
    default:
        box_send(b, writer);
        break;
    }
}

static unsigned boxes_writer;

static void boxes_app(void *arg)
{
    unsigned writer = boxes_writer++;

    (void)arg;
    (void)sp__self();
    for (unsigned n = 1 + (unsigned)sim_pick(8); n > 0; n--) {
        if (boxes.pause && sim_once_in(3)) {
            sim_sleep(399 * SP__MS + (int64_t)sim_pick(2000) * 1000);
        }
        box_poke(boxes.box[sim_pick(boxes.n)], writer);
        if (!sim_once_in(4)) {
            sp__run_here(!sim_once_in(3));
        }
    }
    sp__run_here(true);
    boxes.writers--;
    boxes_tell();
}

static void boxes_end(void)
{
    boxes.over = true;
    for (unsigned i = 0; i < boxes.n; i++) {
        struct box *b = boxes.box[i];

        sp__post(&b->end);
        if (sim_once_in(2)) {
            sim_fd_raise(b->fd, SP_READY_IN); // At the last moment.
        }
        sp__drop(&b->obj);
        sp__run_here(true);
    }
}

/// Posts to the boxes that there are, waits until all is done, and ends them.
static void boxes_run(void)
{
    struct apps apps = {0};

    if (sim_once_in(2)) {
        sim_jumps(50 + sim_pick(1000));
    }
    boxes.pause = sim_once_in(4);
    sim_patience(boxes.pause ? 10000 : 100);
    boxes.writers = 1 + (unsigned)sim_pick(WRITERS_MAX - 1);
    for (unsigned i = boxes.writers; i > 0; i--) {
        apps_add(&apps, boxes_app, NULL);
    }
    if (sim_once_in(2)) {
        apps_join(&apps);
    }
    while (!boxes_done(NULL)) {
        (void)sp__wait(SP__NEVER, (int64_t)sim_pick(20) - 1, sim_once_in(2));
    }
    apps_join(&apps);
    boxes_end();
    scenario_stop();
    SIM_CHECK(boxes.destroyed == boxes.n);
}

static void boxes_scenario(void)
{
    int threads = scenario_start((int)sim_pick(4));

    boxes.n = 1 + (unsigned)sim_pick(BOXES_MAX);
    boxes.main = sp__self();
    for (unsigned i = 0; i < boxes.n; i++) {
        boxes.box[i] = box_new(i == 0 && sim_once_in(2));
    }
    if (boxes.n > 1) {
        boxes.box[0]->to = boxes.box[1];
        boxes.box[0]->waits = boxes.box[0]->actor.user_code && threads > 1 && sim_once_in(2);
        boxes.box[0]->to = boxes.box[0]->waits ? NULL : boxes.box[1];
    }
    boxes_run();
}

/// As many workers as there may be, or more, are in callbacks that wait for all else, of the user
/// and of plugins: spare workers see to that.
static void stuck_scenario(void)
{
    int threads = scenario_start_timed(1 + (int)sim_pick(2), 1 + (int)sim_pick(4));
    bool user = sim_once_in(2);

    boxes.n = BOXES_MAX;
    boxes.main = sp__self();
    for (unsigned i = 0; i < boxes.n; i++) {
        boxes.box[i] = box_new(i > 0 && (user || sim_once_in(2)));
        boxes.box[i]->waits = i > 0 && threads > 0;
    }
    boxes_run();
}

const struct scenario scenarios_core[] = {
    {"boxes", boxes_scenario, false},
    {"stuck", stuck_scenario, false},
    {NULL, NULL, false},
};
