/* SPDX-License-Identifier: MIT */
/// Message memory: across threads, against "memory-max", given back at the end.
#include "check.h"
#include "core/pool.h"

#include <stdatomic.h>
#include <string.h>

#define RING 256
#define ROUNDS 40000

/// One thread makes, the other frees.
static _Atomic(sp_msg *) ring[RING];
static atomic_long bad;
static bool all_small;

static size_t round_size(unsigned i)
{
    static const size_t sizes[] = {10, 500, 1500, 9000, 80, 200000};

    if (all_small) {
        return 10;
    }
    return sizes[i % 6 == 5 ? (i % 60 == 5 ? 5 : 0) : i % 6];
}

static long free_all(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        sp_msg *m;

        while ((m = atomic_exchange_explicit(&ring[i % RING], NULL, memory_order_acquire)) ==
               NULL) {
            check_pause();
        }
        if (sp_msg_len(m) != round_size(i) || *(const unsigned char *)sp_msg_view(m) != (i & 255)) {
            bad++;
        }
        sp_msg_release(m);
    }
    return 0;
}

/// Makes ROUNDS messages here, which another thread frees.
static void pass_all(void)
{
    struct check_call c;

    check_call_start(&c, free_all, NULL);
    for (unsigned i = 0; i < ROUNDS; i++) {
        sp_msg *none = NULL;
        sp_msg *m = NULL;

        check_ok(sp_msg_new(&m, round_size(i)));
        memset(sp_msg_data(m), (int)(i & 255), sp_msg_len(m));
        while (!atomic_compare_exchange_strong_explicit(
            &ring[i % RING], &none, m, memory_order_release, memory_order_relaxed)) {
            none = NULL;
            check_pause();
        }
    }
    check_rc(0, check_call_join(&c, CHECK_SOON));
    assert_int_equal(bad, 0);
}

static void pool_passes_memory_between_threads(void **state)
{
    int64_t bytes;

    (void)state;
    check_init(0);
    pass_all();
    // What was used at once is bounded by the ring; the rest would be a leak.
    bytes = check_stat(0, "runtime.message_bytes");
    assert_in_range(bytes, 0, 64 << 20);
    check_fini();
}

/// A steady flow one way takes from the system what is under way at most, and a batch at a time
/// from the depot.
static void pool_gets_memory_back_in_batches(void **state)
{
    uint64_t bytes;
    uint64_t hits[2];
    uint64_t fresh[2];

    (void)state;
    check_init(0);
    all_small = true;
    sp__pool_stats(&bytes, &hits[0], &fresh[0]);
    pass_all();
    sp__pool_stats(&bytes, &hits[1], &fresh[1]);
    all_small = false;
    assert_in_range(fresh[1] - fresh[0], 1, RING + 6 * 64);
    assert_in_range(hits[1] - hits[0], 1, ROUNDS / 64);
    check_fini();
}

static long churn(void *arg)
{
    sp_msg *m[64] = {NULL};
    unsigned seed = (unsigned)(uintptr_t)arg;

    for (unsigned i = 0; i < 100000; i++) {
        unsigned at = (seed = seed * 1103515245 + 12345) >> 16 & 63;

        sp_msg_release(m[at]);
        m[at] = NULL;
        if (sp_msg_new(&m[at], (seed >> 8) % 5000) < 0) {
            return -1;
        }
        memset(sp_msg_data(m[at]), 1, sp_msg_len(m[at]));
    }
    for (unsigned i = 0; i < 64; i++) {
        sp_msg_release(m[i]);
    }
    return 0;
}

static void pool_serves_many_threads(void **state)
{
    struct check_call c[6];

    (void)state;
    check_init(-1);
    for (uintptr_t i = 0; i < 6; i++) {
        check_call_start(&c[i], churn, (void *)(i + 1));
    }
    for (int i = 0; i < 6; i++) {
        check_rc(0, check_call_join(&c[i], 30000));
    }
    check_fini();
}

static void limit(int64_t bytes)
{
    sp_config *cfg = NULL;

    sp_fini();
    check_ok(sp_config_new(&cfg));
    check_ok(sp_config_set_int(cfg, "memory-max", bytes));
    check_ok(sp_init(cfg));
    sp_config_free(cfg);
}

static void pool_memory_max_is_enomem_until_something_is_freed(void **state)
{
    sp_msg *m[64] = {NULL};
    int n = 0;

    (void)state;
    limit(4 << 20);
    while (n < 64 && sp_msg_new(&m[n], 1 << 20) == SP_OK) {
        n++;
    }
    assert_in_range(n, 3, 4);
    check_detail(SP_ENOMEM, "message of 1048576 bytes: Cannot allocate memory",
                 sp_msg_new(&m[n], 1 << 20));
    assert_true(check_stat(0, "runtime.message_bytes") <= 4 << 20);
    sp_msg_release(m[--n]);
    check_ok(sp_msg_new(&m[n++], 1 << 20));
    while (n > 0) {
        sp_msg_release(m[--n]);
    }
    check_fini();
}

/// What is free in the caches is not in use: another size gets it.
static void pool_memory_max_is_not_eaten_up_by_the_cache(void **state)
{
    sp_msg *m[4] = {NULL};

    (void)state;
    limit(6 << 20);
    check_ok(sp_msg_new(&m[0], 4 << 20));
    sp_msg_release(m[0]);
    check_ok(sp_msg_new(&m[0], 5 << 20));
    sp_msg_release(m[0]);
    for (int i = 0; i < 4; i++) {
        check_ok(sp_msg_new(&m[i], 1 << 20));
    }
    for (int i = 0; i < 4; i++) {
        sp_msg_release(m[i]);
    }
    check_fini();
}

static void pool_memory_max_of_one_init_does_not_outlive_it(void **state)
{
    sp_msg *m = NULL;

    (void)state;
    limit(1 << 20);
    check_rc(SP_ENOMEM, sp_msg_new(&m, 2 << 20));
    sp_fini();
    check_init(-1);
    check_ok(sp_msg_new(&m, 2 << 20));
    sp_msg_release(m);
    check_fini();
}

static void pool_send_without_memory_is_enomem(void **state)
{
    static char big[3 << 20];
    sp_socket s = {0};

    (void)state;
    limit(1 << 20);
    check_ok(sp_open(&s, "pair"));
    check_rc(SP_ENOMEM, sp_send(s, big, sizeof(big), SP_NONBLOCK));
    check_ok(sp_close(s));
    check_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_passes_memory_between_threads),
        cmocka_unit_test(pool_gets_memory_back_in_batches),
        cmocka_unit_test(pool_serves_many_threads),
        cmocka_unit_test(pool_memory_max_is_enomem_until_something_is_freed),
        cmocka_unit_test(pool_memory_max_is_not_eaten_up_by_the_cache),
        cmocka_unit_test(pool_memory_max_of_one_init_does_not_outlive_it),
        cmocka_unit_test(pool_send_without_memory_is_enomem),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
