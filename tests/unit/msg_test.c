/* SPDX-License-Identifier: MIT */
/// Messages: bodies inside the block, in chunks, wrapped, shared; headers; sizes that cannot be.
#include "check.h"
#include "core/msg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/// Huge sizes are part of the tests: they shall fail as they do without a sanitizer.
SP_API const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
SP_API const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static const size_t sizes[] = {0, 1, 95, 96, 97, 1024, 1025, 65536, 1 << 20, (4 << 20) + 1};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void fill(sp_msg *m, unsigned seed)
{
    unsigned char *p = sp_msg_data(m);

    assert_non_null(p);
    for (size_t i = 0; i < sp_msg_len(m); i++) {
        p[i] = (unsigned char)(seed + i * 7);
    }
}

static bool filled(const void *at, size_t n, unsigned seed)
{
    const unsigned char *p = at;

    for (size_t i = 0; i < n; i++) {
        if (p[i] != (unsigned char)(seed + i * 7)) {
            return false;
        }
    }
    return true;
}

static sp_msg *msg_with(size_t len, unsigned seed)
{
    sp_msg *m = NULL;

    check_ok(sp_msg_new(&m, len));
    fill(m, seed);
    return m;
}

static void msg_new_has_length_and_no_origin(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        sp_msg *m = msg_with(sizes[i], 1);
        struct timespec ts;

        assert_int_equal(sp_msg_len(m), sizes[i]);
        assert_ptr_equal(sp_msg_data(m), sp_msg_view(m));
        assert_true(filled(sp_msg_view(m), sizes[i], 1));
        assert_int_equal(sp_msg_header_len(m), 0);
        assert_int_equal(sp_msg_peer(m), 0);
        assert_true(sp_msg_pipe(m).id == 0);
        check_rc(SP_ESTATE, sp_msg_time(m, &ts));
        sp_msg_release(m);
    }
}

static void msg_own_bodies_begin_at_64_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        sp_msg *m = msg_with(sizes[i], 1);

        if (sizes[i] > SP__INLINE_MAX) {
            assert_int_equal((uintptr_t)sp_msg_view(m) % 64, 0);
        }
        sp_msg_release(m);
    }
}

static void msg_own_bodies_of_every_size_begin_at_64_bytes_after_reuse(void **state)
{
    (void)state;
    for (size_t len = 97; len < 70000; len += 997) {
        sp_msg *m = msg_with(len, 3);

        assert_int_equal((uintptr_t)sp_msg_view(m) % 64, 0);
        sp_msg_release(m);
    }
}

static void msg_append_chop_trim_prepend_keep_the_content(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        sp_msg *m = msg_with(sizes[i], 5);
        char pattern[200];

        memset(pattern, 'p', sizeof(pattern));
        check_ok(sp_msg_append(m, pattern, sizeof(pattern)));
        assert_int_equal(sp_msg_len(m), sizes[i] + 200);
        assert_true(filled(sp_msg_view(m), sizes[i], 5));
        assert_memory_equal((const char *)sp_msg_view(m) + sizes[i], pattern, 200);
        check_ok(sp_msg_prepend(m, pattern, 4));
        check_ok(sp_msg_prepend(m, pattern, 60));
        check_ok(sp_msg_prepend(m, pattern, 100));
        assert_int_equal(sp_msg_len(m), sizes[i] + 364);
        assert_memory_equal(sp_msg_view(m), pattern, 164);
        check_ok(sp_msg_trim(m, 164));
        check_ok(sp_msg_chop(m, 200));
        assert_int_equal(sp_msg_len(m), sizes[i]);
        assert_true(filled(sp_msg_view(m), sizes[i], 5));
        check_ok(sp_msg_append(m, NULL, 0));
        check_ok(sp_msg_prepend(m, NULL, 0));
        check_ok(sp_msg_trim(m, sizes[i]));
        assert_int_equal(sp_msg_len(m), 0);
        sp_msg_release(m);
    }
}

static void msg_header_sized_prepend_does_not_copy_a_large_body(void **state)
{
    sp_msg *m = msg_with(1 << 20, 1);
    const char *before = sp_msg_view(m);

    (void)state;
    check_ok(sp_msg_prepend(m, "01234567", 8));
    assert_ptr_equal(sp_msg_view(m), before - 8);
    sp_msg_release(m);
}

static void msg_prepend_beyond_the_room_moves_the_body(void **state)
{
    char big[5000];

    (void)state;
    memset(big, 'x', sizeof(big));
    for (size_t i = 0; i < SIZES; i++) {
        sp_msg *m = msg_with(sizes[i], 9);

        check_ok(sp_msg_prepend(m, big, sizeof(big)));
        assert_memory_equal(sp_msg_view(m), big, sizeof(big));
        assert_true(filled((const char *)sp_msg_view(m) + sizeof(big), sizes[i], 9));
        sp_msg_release(m);
    }
}

static void msg_resize_keeps_what_remains(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t j = 0; j < SIZES; j++) {
            sp_msg *m = msg_with(sizes[i], 2);

            check_ok(sp_msg_resize(m, sizes[j]));
            assert_int_equal(sp_msg_len(m), sizes[j]);
            assert_true(filled(sp_msg_view(m), sizes[i] < sizes[j] ? sizes[i] : sizes[j], 2));
            fill(m, 4);
            sp_msg_release(m);
        }
    }
}

static void msg_many_small_appends_make_one_body(void **state)
{
    sp_msg *m = msg_with(0, 0);

    (void)state;
    for (unsigned i = 0; i < 200000; i++) {
        unsigned char c = (unsigned char)(i * 7);

        check_ok(sp_msg_append(m, &c, 1));
    }
    assert_int_equal(sp_msg_len(m), 200000);
    assert_true(filled(sp_msg_view(m), 200000, 0));
    sp_msg_release(m);
}

static void msg_too_long_a_trim_or_chop_is_einval_and_changes_nothing(void **state)
{
    sp_msg *m = msg_with(10, 1);

    (void)state;
    check_detail(SP_EINVAL, "trim 11 bytes: the body has 10", sp_msg_trim(m, 11));
    check_detail(SP_EINVAL, "chop 11 bytes: the body has 10", sp_msg_chop(m, 11));
    check_rc(SP_EINVAL, sp_msg_header_trim(m, 1));
    check_rc(SP_EINVAL, sp_msg_append(m, NULL, 1));
    check_rc(SP_EINVAL, sp_msg_prepend(m, NULL, 1));
    assert_int_equal(sp_msg_len(m), 10);
    assert_true(filled(sp_msg_view(m), 10, 1));
    sp_msg_release(m);
}

static void msg_huge_sizes_are_enomem_with_detail(void **state)
{
    static const size_t huge[] = {SIZE_MAX,         SIZE_MAX - 1, SIZE_MAX - 127, SIZE_MAX - 128,
                                  SIZE_MAX / 2 + 1, SIZE_MAX / 2, SIZE_MAX / 4,   (size_t)1 << 60};

    (void)state;
    for (size_t i = 0; i < sizeof(huge) / sizeof(huge[0]); i++) {
        sp_msg *m = NULL;
        char text[80];

        (void)snprintf(text, sizeof(text), "message of %zu bytes: Cannot allocate memory", huge[i]);
        check_detail(SP_ENOMEM, text, sp_msg_new(&m, huge[i]));
        m = msg_with(300, 1);
        check_rc(SP_ENOMEM, sp_msg_resize(m, huge[i]));
        check_rc(SP_ENOMEM, sp_msg_append(m, "x", huge[i]));
        check_rc(SP_ENOMEM, sp_msg_prepend(m, "x", huge[i]));
        assert_int_equal(sp_msg_len(m), 300);
        assert_true(filled(sp_msg_view(m), 300, 1));
        sp_msg_release(m);
    }
}

static void msg_null_arguments_are_einval(void **state)
{
    sp_msg *m = NULL;
    struct timespec ts;

    (void)state;
    check_rc(SP_EINVAL, sp_msg_new(NULL, 1));
    check_rc(SP_EINVAL, sp_msg_wrap(NULL, &m, 1, NULL, NULL));
    check_rc(SP_EINVAL, sp_msg_wrap(&m, NULL, 1, NULL, NULL));
    check_rc(SP_EINVAL, sp_msg_append(NULL, "x", 1));
    check_rc(SP_EINVAL, sp_msg_prepend(NULL, "x", 1));
    check_rc(SP_EINVAL, sp_msg_trim(NULL, 0));
    check_rc(SP_EINVAL, sp_msg_chop(NULL, 0));
    check_rc(SP_EINVAL, sp_msg_resize(NULL, 0));
    check_rc(SP_EINVAL, sp_msg_header_append(NULL, "x", 1));
    check_rc(SP_EINVAL, sp_msg_header_trim(NULL, 0));
    check_rc(SP_EINVAL, sp_msg_time(NULL, &ts));
    assert_null(sp_msg_clone(NULL));
    assert_null(sp_msg_data(NULL));
    assert_null(sp_msg_view(NULL));
    assert_null(sp_msg_header(NULL));
    assert_int_equal(sp_msg_len(NULL), 0);
    assert_int_equal(sp_msg_header_len(NULL), 0);
    assert_int_equal(sp_msg_peer(NULL), 0);
    assert_true(sp_msg_pipe(NULL).id == 0);
    sp_msg_set_peer(NULL, 1);
    sp_msg_release(NULL);
}

/* ------------------------------------------------------------------ Sharing */

static void msg_clone_shares_a_large_body_and_a_write_copies_it(void **state)
{
    sp_msg *m = msg_with(5000, 1);
    sp_msg *c = sp_msg_clone(m);

    (void)state;
    assert_non_null(c);
    assert_ptr_equal(sp_msg_view(m), sp_msg_view(c));
    fill(c, 2);
    assert_ptr_not_equal(sp_msg_view(m), sp_msg_view(c));
    assert_true(filled(sp_msg_view(m), 5000, 1));
    assert_true(filled(sp_msg_view(c), 5000, 2));
    assert_int_equal((uintptr_t)sp_msg_view(c) % 64, 0);
    sp_msg_release(m);
    assert_true(filled(sp_msg_view(c), 5000, 2));
    sp_msg_release(c);
}

static void msg_last_holder_of_a_body_writes_in_place(void **state)
{
    sp_msg *m = msg_with(5000, 1);
    sp_msg *c = sp_msg_clone(m);
    const void *at = sp_msg_view(m);

    (void)state;
    sp_msg_release(m);
    assert_ptr_equal(sp_msg_data(c), at);
    sp_msg_release(c);
}

static void msg_every_change_of_a_clone_leaves_the_other_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        for (int change = 0; change < 7; change++) {
            sp_msg *m = msg_with(sizes[i], 1);
            sp_msg *c = sp_msg_clone(m);
            size_t half = sizes[i] / 2;

            assert_non_null(c);
            switch (change) {
            case 0:
                check_ok(sp_msg_append(c, "abc", 3));
                break;
            case 1:
                check_ok(sp_msg_prepend(c, "abc", 3));
                break;
            case 2:
                check_ok(sp_msg_trim(c, half));
                check_ok(sp_msg_prepend(c, "abc", half < 3 ? half : 3));
                break;
            case 3:
                check_ok(sp_msg_chop(c, half));
                check_ok(sp_msg_append(c, "abc", half < 3 ? half : 3));
                break;
            case 4:
                check_ok(sp_msg_resize(c, sizes[i] + 100));
                fill(c, 9);
                break;
            case 5:
                check_ok(sp_msg_chop(c, half));
                check_ok(sp_msg_resize(c, sizes[i]));
                fill(c, 9);
                break;
            default:
                check_ok(sp_msg_header_append(c, "head", 4));
                break;
            }
            assert_int_equal(sp_msg_len(m), sizes[i]);
            assert_int_equal(sp_msg_header_len(m), 0);
            assert_true(filled(sp_msg_view(m), sizes[i], 1));
            sp_msg_release(m);
            sp_msg_release(c);
        }
    }
}

static void msg_clone_has_the_header_and_the_origin(void **state)
{
    sp_msg *m = msg_with(10, 1);
    sp_msg *c;

    (void)state;
    check_ok(sp_msg_header_append(m, "abcd", 4));
    sp_msg_set_peer(m, 77);
    c = sp_msg_clone(m);
    assert_int_equal(sp_msg_header_len(c), 4);
    assert_memory_equal(sp_msg_header(c), "abcd", 4);
    assert_int_equal(sp_msg_peer(c), 77);
    check_ok(sp_msg_header_trim(c, 4));
    assert_int_equal(sp_msg_header_len(m), 4);
    sp_msg_release(m);
    sp_msg_release(c);
}

/* ------------------------------------------------------------------ Wrapping */

struct freed {
    int times;
    void *buf;
};

static void count_free(void *buf, void *arg)
{
    struct freed *f = arg;

    f->times++;
    f->buf = buf;
}

static void msg_wrap_frees_once_at_the_last_release(void **state)
{
    char buf[100] = "hello";
    struct freed f = {0, NULL};
    sp_msg *m = NULL;
    sp_msg *c;

    (void)state;
    check_ok(sp_msg_wrap(&m, buf, 5, count_free, &f));
    assert_ptr_equal(sp_msg_view(m), buf);
    assert_int_equal(sp_msg_len(m), 5);
    c = sp_msg_clone(m);
    assert_ptr_equal(sp_msg_view(c), buf);
    sp_msg_release(m);
    assert_int_equal(f.times, 0);
    sp_msg_release(c);
    assert_int_equal(f.times, 1);
    assert_ptr_equal(f.buf, buf);
}

static void msg_wrap_growth_frees_once_and_copies(void **state)
{
    (void)state;
    for (int change = 0; change < 4; change++) {
        char buf[8] = "hello";
        struct freed f = {0, NULL};
        sp_msg *m = NULL;

        check_ok(sp_msg_wrap(&m, buf, 5, count_free, &f));
        switch (change) {
        case 0:
            check_ok(sp_msg_append(m, " you", 4));
            assert_memory_equal(sp_msg_view(m), "hello you", 9);
            break;
        case 1:
            check_ok(sp_msg_prepend(m, "oh ", 3));
            assert_memory_equal(sp_msg_view(m), "oh hello", 8);
            break;
        case 2:
            check_ok(sp_msg_resize(m, 1000));
            assert_memory_equal(sp_msg_view(m), "hello", 5);
            break;
        default:
            check_ok(sp_msg_trim(m, 5));
            check_ok(sp_msg_append(m, "much longer than it was", 23));
            assert_memory_equal(sp_msg_view(m), "much longer than it was", 23);
            break;
        }
        assert_int_equal(f.times, 1);
        assert_string_equal(buf, "hello");
        sp_msg_release(m);
        assert_int_equal(f.times, 1);
    }
}

static void msg_wrap_write_to_a_shared_one_copies(void **state)
{
    char buf[8] = "hello";
    struct freed f = {0, NULL};
    sp_msg *m = NULL;
    sp_msg *c;

    (void)state;
    check_ok(sp_msg_wrap(&m, buf, 5, count_free, &f));
    c = sp_msg_clone(m);
    memcpy(sp_msg_data(c), "HELLO", 5);
    assert_string_equal(buf, "hello");
    sp_msg_release(c);
    assert_int_equal(f.times, 0);
    sp_msg_release(m);
    assert_int_equal(f.times, 1);
}

static void msg_wrap_of_nothing_can_grow(void **state)
{
    struct freed f = {0, NULL};
    sp_msg *m = NULL;

    (void)state;
    check_ok(sp_msg_wrap(&m, NULL, 0, count_free, &f));
    assert_int_equal(sp_msg_len(m), 0);
    check_ok(sp_msg_append(m, "abc", 3));
    check_ok(sp_msg_prepend(m, "abc", 3));
    assert_memory_equal(sp_msg_view(m), "abcabc", 6);
    sp_msg_release(m);
    assert_int_equal(f.times, 1);
    check_ok(sp_msg_wrap(&m, NULL, 0, NULL, NULL));
    check_ok(sp_msg_prepend(m, "abc", 3));
    assert_memory_equal(sp_msg_view(m), "abc", 3);
    sp_msg_release(m);
}

static void msg_loan_is_a_message(void **state)
{
    sp_msg *m = NULL;
    sp_socket s = check_open("pair");

    (void)state;
    check_ok(sp_msg_loan(&m, s, 300));
    assert_int_equal(sp_msg_len(m), 300);
    sp_msg_release(m);
    check_ok(sp_close(s));
}

/* ------------------------------------------------------------------ Headers and origin */

static void msg_header_holds_64_bytes(void **state)
{
    char bytes[SP_HEADER_MAX + 1];
    sp_msg *m = msg_with(3, 1);

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (char)i;
    }
    check_detail(SP_EMSGSIZE, "header of 65 bytes: the limit is 64",
                 sp_msg_header_append(m, bytes, SP_HEADER_MAX + 1));
    assert_int_equal(sp_msg_header_len(m), 0);
    check_rc(SP_EMSGSIZE, sp_msg_header_append(m, bytes, SIZE_MAX));
    check_ok(sp_msg_header_append(m, bytes, 60));
    check_rc(SP_EMSGSIZE, sp_msg_header_append(m, bytes, 5));
    check_ok(sp_msg_header_append(m, bytes + 60, 4));
    assert_int_equal(sp_msg_header_len(m), SP_HEADER_MAX);
    assert_memory_equal(sp_msg_header(m), bytes, SP_HEADER_MAX);
    check_ok(sp_msg_header_trim(m, 4));
    assert_memory_equal(sp_msg_header(m), bytes + 4, 60);
    check_rc(SP_EINVAL, sp_msg_header_trim(m, 61));
    check_ok(sp_msg_header_trim(m, 60));
    assert_int_equal(sp_msg_header_len(m), 0);
    assert_int_equal(sp_msg_len(m), 3);
    sp_msg_release(m);
}

static void msg_received_has_pipe_peer_and_time(void **state)
{
    static const char *const transports[] = {"inproc", "ipc", "tcp"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        sp_peer_info info = {.size = sizeof(info)};
        size_t n = 1;
        struct timespec before;
        struct timespec got;
        struct timespec after;
        sp_socket a;
        sp_socket b;
        sp_msg *m = NULL;

        check_couple(transports[i], "pair", "pair", &a, &b);
        (void)clock_gettime(CLOCK_REALTIME, &before);
        check_send(a, "x");
        check_ok(sp_recvmsg(b, &m, 0));
        (void)clock_gettime(CLOCK_REALTIME, &after);
        check_ok(sp_msg_time(m, &got));
        assert_true(got.tv_sec * 1000000000LL + got.tv_nsec >=
                    before.tv_sec * 1000000000LL + before.tv_nsec);
        assert_true(got.tv_sec * 1000000000LL + got.tv_nsec <=
                    after.tv_sec * 1000000000LL + after.tv_nsec);
        check_ok(sp_peers(b, &info, &n));
        assert_true(sp_msg_pipe(m).id == info.pipe.id);
        assert_int_equal(sp_msg_peer(m), info.peer);
        assert_true(info.peer > 0 && info.peer <= 0x7FFFFFFF);
        sp_msg_release(m);
        check_ok(sp_close(a));
        check_ok(sp_close(b));
    }
}

static void msg_that_failed_to_be_sent_is_unchanged(void **state)
{
    sp_socket s = check_open("pair");
    sp_msg *m = msg_with(200, 1);

    (void)state;
    check_ok(sp_msg_header_append(m, "abcd", 4));
    sp_msg_set_peer(m, 5);
    check_rc(SP_ENOPEER, sp_sendmsg(s, m, SP_NONBLOCK));
    assert_int_equal(sp_msg_len(m), 200);
    assert_true(filled(sp_msg_view(m), 200, 1));
    assert_int_equal(sp_msg_header_len(m), 4);
    assert_int_equal(sp_msg_peer(m), 5);
    sp_msg_release(m);
    check_ok(sp_close(s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(msg_new_has_length_and_no_origin),
        cmocka_unit_test(msg_own_bodies_begin_at_64_bytes),
        cmocka_unit_test(msg_own_bodies_of_every_size_begin_at_64_bytes_after_reuse),
        cmocka_unit_test(msg_append_chop_trim_prepend_keep_the_content),
        cmocka_unit_test(msg_header_sized_prepend_does_not_copy_a_large_body),
        cmocka_unit_test(msg_prepend_beyond_the_room_moves_the_body),
        cmocka_unit_test(msg_resize_keeps_what_remains),
        cmocka_unit_test(msg_many_small_appends_make_one_body),
        cmocka_unit_test(msg_too_long_a_trim_or_chop_is_einval_and_changes_nothing),
        cmocka_unit_test(msg_huge_sizes_are_enomem_with_detail),
        cmocka_unit_test(msg_null_arguments_are_einval),
        cmocka_unit_test(msg_clone_shares_a_large_body_and_a_write_copies_it),
        cmocka_unit_test(msg_last_holder_of_a_body_writes_in_place),
        cmocka_unit_test(msg_every_change_of_a_clone_leaves_the_other_alone),
        cmocka_unit_test(msg_clone_has_the_header_and_the_origin),
        cmocka_unit_test(msg_wrap_frees_once_at_the_last_release),
        cmocka_unit_test(msg_wrap_growth_frees_once_and_copies),
        cmocka_unit_test(msg_wrap_write_to_a_shared_one_copies),
        cmocka_unit_test(msg_wrap_of_nothing_can_grow),
        cmocka_unit_test(msg_loan_is_a_message),
        cmocka_unit_test(msg_header_holds_64_bytes),
        cmocka_unit_test(msg_received_has_pipe_peer_and_time),
        cmocka_unit_test(msg_that_failed_to_be_sent_is_unchanged),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);

    sp_fini();
    return rc;
}
