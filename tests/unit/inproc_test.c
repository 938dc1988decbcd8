/* SPDX-License-Identifier: MIT */
/// inproc: messages by pointer, wide and narrow; and how little stack a way there and back takes.
#include "check.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sp_socket a;
static sp_socket b;

static void body_is_handed_over_not_copied(void **state)
{
    (void)state;
    check_init(2);
    check_couple("inproc", "pair", "pair", &a, &b);
    for (int i = 0; i < 10; i++) {
        sp_msg *m = NULL;
        const void *at;

        check_ok(sp_msg_new(&m, 100000));
        at = sp_msg_view(m);
        check_ok(sp_sendmsg(a, m, 0));
        check_ok(sp_recvmsg(b, &m, 0));
        assert_ptr_equal(sp_msg_view(m), at);
        sp_msg_release(m);
    }
    check_fini();
}

static int freed;

static void count_free(void *buf, void *arg)
{
    (void)buf;
    (void)arg;
    __atomic_fetch_add(&freed, 1, __ATOMIC_RELAXED);
}

static void wrapped_memory_is_freed_once_by_the_receiver(void **state)
{
    static char buf[5000];

    (void)state;
    check_init(2);
    check_couple("inproc", "pair", "pair", &a, &b);
    freed = 0;
    for (int i = 0; i < 100; i++) {
        sp_msg *m = NULL;

        check_ok(sp_msg_wrap(&m, buf, sizeof(buf), count_free, NULL));
        check_ok(sp_sendmsg(a, m, 0));
        if (i % 2 == 0) {
            check_ok(sp_recvmsg(b, &m, 0));
            sp_msg_release(m);
        }
    }
    check_fini(); // What was not received is freed too.
    assert_int_equal(freed, 100);
}

static void clone_is_sent_and_the_original_stays(void **state)
{
    sp_msg *m = NULL;
    sp_msg *got = NULL;

    (void)state;
    check_init(2);
    check_couple("inproc", "pair", "pair", &a, &b);
    check_ok(sp_msg_new(&m, 3000));
    memset(sp_msg_data(m), 1, 3000);
    for (int i = 0; i < 3; i++) {
        check_ok(sp_sendmsg(a, sp_msg_clone(m), 0));
        check_ok(sp_recvmsg(b, &got, 0));
        assert_ptr_equal(sp_msg_view(got), sp_msg_view(m));
        memset(sp_msg_data(got), 2, 3000);
        assert_int_equal(*(const char *)sp_msg_view(m), 1);
        sp_msg_release(got);
    }
    sp_msg_release(m);
    check_fini();
}

static void socket_connects_to_itself(void **state)
{
    sp_socket s;

    (void)state;
    check_init(2);
    s = check_open("pair");
    check_ok(sp_listen(s, "inproc://self", NULL));
    // PAIR has one peer: the second end of the connection is refused.
    assert_true(sp_dial(s, "inproc://self", NULL, 0) != SP_ECLOSED);
    check_ok(sp_close(s));
    check_fini();
}

static void names_have_a_limit(void **state)
{
    char url[300];
    sp_socket s;

    (void)state;
    check_init(2);
    s = check_open("pair");
    memset(url, 'n', sizeof(url));
    memcpy(url, "inproc://", 9);
    url[9 + 111] = '\0';
    check_ok(sp_listen(s, url, NULL));
    url[9 + 111] = 'n';
    url[9 + 112] = '\0';
    check_rc(SP_EINVAL, sp_listen(s, url, NULL));
    check_fini();
}

static void listener_that_closes_refuses_who_waits(void **state)
{
    (void)state;
    check_init(2);
    for (int i = 0; i < 200; i++) {
        sp_dialer d = {0};

        a = check_open("pair");
        b = check_open("pair");
        check_ok(sp_set_int(a.id, "in-place", i % 2));
        check_ok(sp_listen(a, "inproc://closes", NULL));
        check_ok(sp_dial(b, "inproc://closes", &d, SP_NONBLOCK));
        check_ok(sp_close(a));
        check_ok(sp_close(b));
    }
    check_fini();
}

/* ------------------------------------------------------------------ Stack */

#define STACK (1 << 18)
#define PAINT 0xA5

static struct {
    unsigned char *stack;
    void *(*fn)(void *);
} painted;

static size_t stack_used(void *(*fn)(void *))
{
    pthread_attr_t attr;
    pthread_t thread;
    size_t i = 0;

    memset(painted.stack, PAINT, STACK);
    (void)pthread_attr_init(&attr);
    assert_int_equal(pthread_attr_setstack(&attr, painted.stack, STACK), 0);
    assert_int_equal(pthread_create(&thread, &attr, fn, NULL), 0);
    (void)pthread_join(thread, NULL);
    (void)pthread_attr_destroy(&attr);
    while (i < STACK && painted.stack[i] == PAINT) {
        i++;
    }
    return STACK - i;
}

static int stack_bad;

static void *one_way(void *arg)
{
    char buf[8];

    for (int i = 0; i < 100; i++) {
        stack_bad += sp_send(a, "x", 1, SP_NONBLOCK) != SP_OK;
        stack_bad += sp_recv(b, buf, sizeof(buf), SP_NONBLOCK) != 1;
    }
    return arg;
}

static void *baseline(void *arg)
{
    char buf[8];
    int64_t v;

    // Calls that run no actor.
    stack_bad += sp_recv(a, buf, sizeof(buf), SP_NONBLOCK) != SP_EAGAIN;
    stack_bad += sp_get_int(a.id, "linger", &v) != SP_OK;
    return arg;
}

/// REQ → REP → REQ in one thread: each call runs every actor of the way in place.
static void *there_and_back(void *arg)
{
    char buf[8];

    for (int i = 0; i < 100; i++) {
        stack_bad += sp_send(a, "q", 1, SP_NONBLOCK) != SP_OK;
        stack_bad += sp_recv(b, buf, sizeof(buf), SP_NONBLOCK) != 1;
        stack_bad += sp_send(b, "a", 1, SP_NONBLOCK) != SP_OK;
        stack_bad += sp_recv(a, buf, sizeof(buf), SP_NONBLOCK) != 1;
    }
    return arg;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static void way_there_and_back_takes_little_stack(void **state)
{
    size_t base;
    size_t way;
    size_t back;

    (void)state;
    if (SANITIZED) {
        print_message("frames of a sanitizer are not ours: not measured\n");
        skip();
    }
    assert_int_equal(posix_memalign((void **)&painted.stack, 4096, STACK), 0);
    check_init(0);
    check_couple("inproc", "pair", "pair", &a, &b);
    stack_bad = 0;
    (void)stack_used(one_way); // Binds symbols and fills caches, which takes stack once.
    (void)stack_used(baseline);
    base = stack_used(baseline);
    way = stack_used(one_way);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
    check_couple("inproc", "req", "rep", &a, &b);
    back = stack_used(there_and_back);
    assert_int_equal(stack_bad, 0);
    print_message("stack: baseline %zu, one way %zu, there and back %zu\n", base, way, back);
    assert_in_range(way, 0, base + 4096);
    assert_in_range(back, 0, base + 4096);
    check_fini();
    free(painted.stack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(body_is_handed_over_not_copied),
        cmocka_unit_test(wrapped_memory_is_freed_once_by_the_receiver),
        cmocka_unit_test(clone_is_sent_and_the_original_stays),
        cmocka_unit_test(socket_connects_to_itself),
        cmocka_unit_test(names_have_a_limit),
        cmocka_unit_test(listener_that_closes_refuses_who_waits),
        cmocka_unit_test(way_there_and_back_takes_little_stack),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
