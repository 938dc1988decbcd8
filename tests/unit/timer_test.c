/* SPDX-License-Identifier: MIT */
/// Timers alone: order, cancel, re-arm, thousands; with and without threads of the library.
#include "check.h"
#include "core/platform.h"
#include "core/sched.h"
#include "core/timer.h"

#include <stdlib.h>
#include <string.h>

#define MANY 5000

struct clock_box;

struct tick {
    struct sp__timer timer;
    struct clock_box *box;
    int64_t due;
    long fired;
};

/// Timers belong to an actor: everything is done in it.
struct clock_box {
    struct sp__object obj;
    struct sp__actor actor;
    struct sp__event ev;
    void (*job)(struct clock_box *b);
    atomic_bool done;
    struct tick *ticks;
    size_t n;
    long fired;
    atomic_long total;
    long early;    ///< fired before it was due
    long disorder; ///< fired before one that was due earlier by more than a tick
    int64_t last_due;
    int64_t late; ///< ns, the worst
};

static atomic_bool destroyed;

static void clock_destroy(struct sp__object *obj)
{
    struct clock_box *b = SP__CONTAINER(obj, struct clock_box, obj);

    for (size_t i = 0; i < b->n; i++) {
        sp__timer_unreserve();
    }
    free(b->ticks);
    free(b);
    atomic_store(&destroyed, true);
}

static void clock_on_event(struct sp__event *ev)
{
    struct clock_box *b = SP__CONTAINER(ev, struct clock_box, ev);

    b->job(b);
    atomic_store(&b->done, true);
}

static void clock_fire(struct sp__timer *t)
{
    struct tick *k = SP__CONTAINER(t, struct tick, timer);
    struct clock_box *b = k->box;
    int64_t now = sp__now();

    k->fired++;
    b->fired++;
    b->early += now < k->due;
    b->disorder += k->due < b->last_due;
    b->last_due = k->due;
    b->late = now - k->due > b->late ? now - k->due : b->late;
    atomic_fetch_add(&b->total, 1);
}

static struct clock_box *clock_new(size_t n)
{
    struct clock_box *b = calloc(1, sizeof(*b));

    assert_non_null(b);
    atomic_store(&destroyed, false);
    b->ticks = calloc(n, sizeof(*b->ticks));
    b->n = n;
    sp__object_init(&b->obj, SP__KIND_ACTOR, clock_destroy);
    sp__actor_init(&b->actor, &b->obj, false);
    sp__event_init(&b->ev, &b->actor, NULL, clock_on_event);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(sp__timer_reserve(), 0);
        b->ticks[i].box = b;
        sp__timer_init(&b->ticks[i].timer, &b->actor, &b->obj, clock_fire);
    }
    return b;
}

/// Runs a job in the actor and waits for its end.
static void clock_do(struct clock_box *b, void (*job)(struct clock_box *b))
{
    b->job = job;
    atomic_store(&b->done, false);
    sp__post(&b->ev);
    sp__run_here(true);
    check_until(atomic_load(&b->done));
}

/// Nothing is armed any more and the actor rests; then the fields may be read here.
static void clock_rest(struct clock_box *b)
{
    check_until(atomic_load(&b->obj.refs) == 1);
}

static void clock_free(struct clock_box *b)
{
    clock_rest(b);
    sp__drop(&b->obj);
    check_until(atomic_load(&destroyed));
}

static void arm(struct tick *k, int64_t ms)
{
    k->due = sp__now() + ms * SP__MS;
    sp__timer_arm(&k->timer, k->due);
}

static void job_backwards(struct clock_box *b)
{
    int64_t now = sp__now();

    for (size_t i = 0; i < b->n; i++) {
        b->ticks[i].due = now + (int64_t)(b->n - i) * 2 * SP__MS;
        sp__timer_arm(&b->ticks[i].timer, b->ticks[i].due);
    }
}

static void timers_fire_in_order_and_not_early(void **state)
{
    struct clock_box *b = clock_new(50);

    (void)state;
    clock_do(b, job_backwards);
    check_until(atomic_load(&b->total) == 50);
    clock_rest(b);
    assert_int_equal(b->disorder, 0);
    assert_int_equal(b->early, 0);
    for (size_t i = 0; i < b->n; i++) {
        assert_int_equal(b->ticks[i].fired, 1);
    }
    clock_free(b);
}

static void job_cancel(struct clock_box *b)
{
    for (size_t i = 0; i < b->n; i++) {
        arm(&b->ticks[i], (int64_t)i % 20);
    }
    for (size_t i = 0; i < b->n; i += 2) {
        sp__timer_cancel(&b->ticks[i].timer);
        sp__timer_cancel(&b->ticks[i].timer); // Again: nothing.
    }
}

static void timer_cancelled_never_fires(void **state)
{
    struct clock_box *b = clock_new(1000);

    (void)state;
    clock_do(b, job_cancel);
    check_until(atomic_load(&b->total) == 500);
    clock_rest(b);
    for (size_t i = 0; i < b->n; i++) {
        assert_int_equal(b->ticks[i].fired, i % 2);
    }
    clock_free(b);
}

static void job_overdue(struct clock_box *b)
{
    arm(&b->ticks[0], -5);
    arm(&b->ticks[1], 0);
    // They are due; a poller may post them while we run. A cancel still wins.
    (void)sp__timers_fire(sp__now());
    sp__timer_cancel(&b->ticks[0].timer);
    // And a later time too.
    arm(&b->ticks[1], 30);
}

static void timer_whose_event_is_under_way_can_be_cancelled_and_rearmed(void **state)
{
    struct clock_box *b = clock_new(2);

    (void)state;
    clock_do(b, job_overdue);
    check_until(atomic_load(&b->total) == 1);
    clock_rest(b);
    assert_int_equal(b->ticks[0].fired, 0);
    assert_int_equal(b->ticks[1].fired, 1);
    assert_int_equal(b->early, 0);
    clock_free(b);
}

static void job_rearm(struct clock_box *b)
{
    arm(&b->ticks[0], 60000);
    arm(&b->ticks[0], 5);
    arm(&b->ticks[1], 1);
    arm(&b->ticks[1], 25);
    for (int i = 0; i < 1000; i++) {
        arm(&b->ticks[2], 30 - i % 30);
    }
}

static void timer_rearmed_fires_once_at_the_last_time(void **state)
{
    struct clock_box *b = clock_new(3);

    (void)state;
    clock_do(b, job_rearm);
    check_until(atomic_load(&b->total) == 3);
    clock_rest(b);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(b->ticks[i].fired, 1);
    }
    assert_int_equal(b->early, 0);
    clock_free(b);
}

static void job_thousands(struct clock_box *b)
{
    unsigned seed = 1;

    for (size_t i = 0; i < b->n; i++) {
        arm(&b->ticks[i], (int64_t)((seed = seed * 1103515245 + 12345) >> 16) % 300);
    }
    for (size_t i = 0; i < b->n; i += 3) {
        sp__timer_cancel(&b->ticks[i].timer);
    }
    for (size_t i = 0; i < b->n; i += 6) {
        arm(&b->ticks[i], (int64_t)((seed = seed * 1103515245 + 12345) >> 16) % 300);
    }
}

static void timers_by_the_thousand_fire_each_once(void **state)
{
    struct clock_box *b = clock_new(MANY);
    long want = 0;

    (void)state;
    for (size_t i = 0; i < MANY; i++) {
        want += i % 3 != 0 || i % 6 == 0;
    }
    clock_do(b, job_thousands);
    check_until(atomic_load(&b->total) == want);
    clock_rest(b);
    assert_int_equal(b->early, 0);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(b->ticks[i].fired, i % 3 != 0 || i % 6 == 0);
    }
    clock_free(b);
}

static void job_far(struct clock_box *b)
{
    arm(&b->ticks[0], 3600000);
}

static void job_near(struct clock_box *b)
{
    arm(&b->ticks[1], 10);
}

static void job_cancel_far(struct clock_box *b)
{
    sp__timer_cancel(&b->ticks[0].timer);
}

/// A poller that sleeps until a far timer hears of a nearer one.
static void timer_nearer_than_the_first_is_not_late(void **state)
{
    struct clock_box *b = clock_new(2);

    (void)state;
    clock_do(b, job_far);
    for (int i = 0; i < 20; i++) {
        int64_t start = check_now();

        clock_do(b, job_near);
        check_until(atomic_load(&b->total) == i + 1);
        assert_in_range(check_now() - start, 0, 5000);
    }
    clock_do(b, job_cancel_far);
    clock_free(b);
}

static int setup(void **state)
{
    (void)state;
    check_init(2);
    return 0;
}

static int setup_driven(void **state)
{
    (void)state;
    check_init(0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    check_fini();
    return 0;
}

#define test(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, setup, teardown),                                        \
        cmocka_unit_test_setup_teardown(name, setup_driven, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(timers_fire_in_order_and_not_early),
        test(timer_cancelled_never_fires),
        test(timer_whose_event_is_under_way_can_be_cancelled_and_rearmed),
        test(timer_rearmed_fires_once_at_the_last_time),
        test(timers_by_the_thousand_fire_each_once),
        test(timer_nearer_than_the_first_is_not_late),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
