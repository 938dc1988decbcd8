/* SPDX-License-Identifier: MIT */
/// What the platform's readiness set tells who only looks at it: nothing, a wake, or what is ready.
#include "check.h"
#include "platform.h"

#include <sp/plugin.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SOON (200 * INT64_C(1000)) // ns

static struct sp__ready ready[4];

static int look(void)
{
    return sp__platform_linux.poller_look(ready, 4, sp__platform_linux.now() + SOON);
}

static void a_look_at_nothing_ends_in_time_and_says_so(void **state)
{
    int64_t begin = sp__platform_linux.now();

    (void)state;
    assert_int_equal(look(), -1);
    assert_true(sp__platform_linux.now() - begin >= SOON);
}

static void a_wake_ends_a_look_once(void **state)
{
    (void)state;
    sp__platform_linux.poller_wake();
    assert_int_equal(look(), 0);
    assert_int_equal(look(), -1);
}

static void a_look_reports_what_is_ready(void **state)
{
    int target;
    int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

    (void)state;
    assert_true(fd >= 0);
    check_ok(sp__platform_linux.watch(fd, &target));
    assert_int_equal(look(), 1);
    assert_ptr_equal(ready[0].target, &target);
    assert_true((ready[0].ready & SP_READY_IN) != 0);
    sp__platform_linux.unwatch(fd);
    (void)close(fd);
    assert_int_equal(look(), -1);
}

static int poller_open(void **state)
{
    (void)state;
    return sp__platform_linux.poller_open();
}

static int poller_close(void **state)
{
    (void)state;
    sp__platform_linux.poller_close();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_look_at_nothing_ends_in_time_and_says_so),
        cmocka_unit_test(a_wake_ends_a_look_once),
        cmocka_unit_test(a_look_reports_what_is_ready),
    };

    return cmocka_run_group_tests(tests, poller_open, poller_close);
}
