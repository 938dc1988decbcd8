/* SPDX-License-Identifier: MIT */
/// Actors alone: order of a mailbox, one run at a time, many producers, events that coalesce.
#include "check.h"
#include "core/actor.h"
#include "core/msg.h"
#include "core/sched.h"

#include <stdlib.h>
#include <string.h>

struct box {
    struct sp__object obj;
    struct sp__actor actor;
    struct sp__port port;
    struct sp__port other;
    struct sp__event ev;
    struct sp__event again;
    atomic_int inside;    ///< threads in a handler
    atomic_long overlaps; ///< more than one
    long handled;         ///< the actor's, without atomics: TSan looks
    long events;
    long batches;
    long others;
    unsigned next[8]; ///< of each producer
    long disorder;
    atomic_uint written; ///< before a post of `ev`
    unsigned seen;       ///< by its handler
    atomic_long done;
    atomic_bool destroyed;
};

static atomic_bool box_destroyed;

static void box_destroy(struct sp__object *obj)
{
    free(SP__CONTAINER(obj, struct box, obj));
    atomic_store(&box_destroyed, true);
}

static void box_enter(struct box *b)
{
    if (atomic_fetch_add(&b->inside, 1) != 0) {
        b->overlaps++;
    }
}

static void box_leave(struct box *b)
{
    atomic_fetch_sub(&b->inside, 1);
}

static void box_on_msgs(struct sp__port *port, sp_batch *nodes)
{
    struct box *b = SP__CONTAINER(port, struct box, port);

    box_enter(b);
    b->batches++;
    for (sp_msg *m; (m = sp_batch_pop(nodes)) != NULL;) {
        unsigned who = m->peer >> 24;
        unsigned n = m->peer & 0xFFFFFF;

        if (b->next[who]++ != n) {
            b->disorder++;
        }
        b->handled++;
        sp__msg_release(m);
        atomic_fetch_add(&b->done, 1);
    }
    box_leave(b);
}

static void box_on_others(struct sp__port *port, sp_batch *nodes)
{
    struct box *b = SP__CONTAINER(port, struct box, other);

    b->others += (long)nodes->n;
    atomic_fetch_add(&b->done, (long)nodes->n);
    sp__batch_release(nodes);
}

static void box_on_event(struct sp__event *ev)
{
    struct box *b = SP__CONTAINER(ev, struct box, ev);

    box_enter(b);
    b->events++;
    b->seen = atomic_load_explicit(&b->written, memory_order_relaxed);
    box_leave(b);
}

static void box_on_again(struct sp__event *ev)
{
    struct box *b = SP__CONTAINER(ev, struct box, again);

    if (++b->events < 1000) {
        sp__post(ev);
    } else {
        atomic_fetch_add(&b->done, 1);
    }
}

static struct box *box_new(void)
{
    struct box *b = calloc(1, sizeof(*b));

    assert_non_null(b);
    atomic_store(&box_destroyed, false);
    sp__object_init(&b->obj, SP__KIND_ACTOR, box_destroy);
    sp__actor_init(&b->actor, &b->obj, false);
    b->port.handle = box_on_msgs;
    b->other.handle = box_on_others;
    sp__event_init(&b->ev, &b->actor, NULL, box_on_event);
    sp__event_init(&b->again, &b->actor, &b->obj, box_on_again);
    return b;
}

static sp_msg *box_msg(unsigned who, unsigned n)
{
    sp_msg *m = sp__msg_new(0);

    if (m != NULL) {
        m->peer = who << 24 | n;
    }
    return m;
}

struct producer {
    struct box *box;
    unsigned who;
    unsigned count;
    bool events;
};

static long produce(void *arg)
{
    struct producer *p = arg;

    for (unsigned n = 0; n < p->count;) {
        sp_batch batch = {NULL, NULL, 0};

        for (unsigned k = 0; k < 1 + n % 5 && n < p->count; k++) {
            sp_batch_push(&batch, box_msg(p->who, n++));
        }
        sp__post_batch(&p->box->actor, &p->box->port, &batch);
        if (p->events) {
            atomic_fetch_add_explicit(&p->box->written, 1, memory_order_relaxed);
            sp__post(&p->box->ev);
        }
        sp__run_here(n % 3 != 0);
    }
    return 0;
}

static void actor_handles_in_order_and_empties_the_batch(void **state)
{
    struct box *b = box_new();
    sp_batch batch = {NULL, NULL, 0};

    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        sp_batch_push(&batch, box_msg(0, i));
    }
    sp__post_batch(&b->actor, &b->port, &batch);
    assert_null(batch.head);
    assert_null(batch.tail);
    assert_int_equal(batch.n, 0);
    sp__post_batch(&b->actor, &b->port, &batch); // Nothing.
    assert_int_equal(b->handled, 0);             // Never inside the post.
    sp__run_here(true);
    assert_int_equal(b->handled, 10);
    assert_int_equal(b->batches, 1);
    assert_int_equal(b->disorder, 0);
    sp__drop(&b->obj);
    assert_true(box_destroyed);
}

static void actor_gives_runs_of_one_port_in_one_call(void **state)
{
    struct box *b = box_new();
    unsigned n = 0;

    (void)state;
    for (int run = 0; run < 4; run++) {
        for (unsigned i = 0; i < 3; i++) {
            sp_batch one = {NULL, NULL, 0};

            sp_batch_push(&one, box_msg(0, n++));
            sp__post_batch(&b->actor, &b->port, &one);
        }
        if (run % 2 == 0) {
            sp_batch one = {NULL, NULL, 0};

            sp_batch_push(&one, box_msg(0, 0));
            sp__post_batch(&b->actor, &b->other, &one);
        }
    }
    sp__run_here(true);
    assert_int_equal(b->handled, 12);
    assert_int_equal(b->others, 2);
    assert_int_equal(b->disorder, 0);
    assert_int_equal(b->batches, 3); // 3, then 6, then 3.
    sp__drop(&b->obj);
}

static void actor_event_posted_often_runs_once(void **state)
{
    struct box *b = box_new();

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        atomic_fetch_add_explicit(&b->written, 1, memory_order_relaxed);
        sp__post(&b->ev);
    }
    sp__run_here(true);
    assert_int_equal(b->events, 1);
    assert_int_equal(b->seen, 100);
    sp__post(&b->ev);
    sp__run_here(true);
    assert_int_equal(b->events, 2);
    sp__drop(&b->obj);
}

static void actor_event_may_post_itself(void **state)
{
    struct box *b = box_new();

    (void)state;
    sp__post(&b->again);
    sp__run_here(true);
    check_until(atomic_load(&b->done) == 1);
    assert_int_equal(b->events, 1000);
    sp__drop(&b->obj);
    check_until(atomic_load(&box_destroyed));
}

static void actor_is_serial_and_ordered_under_many_producers(void **state)
{
    struct box *b = box_new();
    struct producer p[6];
    struct check_call c[6];

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        p[i] = (struct producer){b, i, 20000, true};
        check_call_start(&c[i], produce, &p[i]);
    }
    for (unsigned i = 0; i < 6; i++) {
        check_rc(0, check_call_join(&c[i], 30000));
    }
    check_until(atomic_load(&b->done) == 6 * 20000);
    // Our drop is the last reference only when the actor is idle; then its fields may be read.
    check_until(atomic_load(&b->obj.refs) == 1);
    assert_int_equal(b->handled, 6 * 20000);
    assert_int_equal(b->disorder, 0);
    assert_int_equal(b->overlaps, 0);
    assert_int_equal(b->seen, atomic_load(&b->written));
    assert_true(b->events > 0);
    sp__drop(&b->obj);
    check_until(atomic_load(&box_destroyed));
}

static void actor_keeps_its_owner_until_it_ran(void **state)
{
    struct box *b = box_new();
    sp_batch one = {NULL, NULL, 0};

    (void)state;
    sp_batch_push(&one, box_msg(0, 0));
    sp__post_batch(&b->actor, &b->port, &one);
    sp__drop(&b->obj);
    assert_false(box_destroyed);
    sp__run_here(true);
    assert_true(box_destroyed);
}

static void actor_not_in_place_runs_on_a_worker(void **state)
{
    struct box *b = box_new();
    sp_batch one = {NULL, NULL, 0};

    (void)state;
    sp_batch_push(&one, box_msg(0, 0));
    sp__post_batch(&b->actor, &b->port, &one);
    sp__run_here(false);
    check_until(atomic_load(&b->done) == 1);
    sp__drop(&b->obj);
    check_until(atomic_load(&box_destroyed));
    assert_true(check_stat(0, "runtime.threads") > 0);
}

static int setup(void **state)
{
    (void)state;
    check_init(2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    check_fini();
    return 0;
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(actor_handles_in_order_and_empties_the_batch),
        test(actor_gives_runs_of_one_port_in_one_call),
        test(actor_event_posted_often_runs_once),
        test(actor_event_may_post_itself),
        test(actor_is_serial_and_ordered_under_many_producers),
        test(actor_keeps_its_owner_until_it_ran),
        test(actor_not_in_place_runs_on_a_worker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
