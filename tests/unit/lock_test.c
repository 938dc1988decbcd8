/* SPDX-License-Identifier: MIT */
/// The lock of a few instructions: it excludes, and who waits for it is woken.
#include "check.h"
#include "core/fence.h"
#include "core/lock.h"

#define THREADS 4
#define TIMES 50000

static struct sp__lock lock;
static long counted; ///< under the lock

static long count_up(void *arg)
{
    (void)arg;
    for (int i = 0; i < TIMES; i++) {
        sp__lock(&lock);
        counted++;
        sp__unlock(&lock);
    }
    return 0;
}

static void count_together(void)
{
    struct check_call c[THREADS];

    check_ok(sp__lock_init(&lock));
    counted = 0;
    for (int i = 0; i < THREADS; i++) {
        check_call_start(&c[i], count_up, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(check_call_join(&c[i], CHECK_SOON), 0);
    }
    assert_int_equal(counted, (long)THREADS * TIMES);
    assert_int_equal(atomic_load(&lock.word), 0);
    sp__lock_fini(&lock);
}

static void threads_that_count_under_it_lose_nothing(void **state)
{
    (void)state;
    sp__fences_begin();
    count_together();
}

/// Where the system has no fence for all threads.
static void nothing_is_lost_with_full_fences(void **state)
{
    (void)state;
    atomic_store(&sp__fences_split, false);
    count_together();
}

static long take_once(void *arg)
{
    (void)arg;
    sp__lock(&lock);
    counted++;
    sp__unlock(&lock);
    return 0;
}

static void all_who_sleep_for_it_get_it(void **state)
{
    struct check_call c[THREADS];

    (void)state;
    sp__fences_begin();
    check_ok(sp__lock_init(&lock));
    counted = 0;
    sp__lock(&lock);
    for (int i = 0; i < THREADS; i++) {
        check_call_start(&c[i], take_once, NULL);
    }
    while (atomic_load(&lock.waits) == 0) {
        check_pause(); // Until somebody waits.
    }
    assert_int_equal(counted, 0);
    sp__unlock(&lock);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(check_call_join(&c[i], CHECK_SOON), 0);
    }
    assert_int_equal(counted, THREADS);
    sp__lock_fini(&lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_that_count_under_it_lose_nothing),
        cmocka_unit_test(nothing_is_lost_with_full_fences),
        cmocka_unit_test(all_who_sleep_for_it_get_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
