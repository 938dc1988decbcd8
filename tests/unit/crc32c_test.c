/* SPDX-License-Identifier: MIT */
/// CRC32C: the published vectors, and one sum by both ways.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sp/sdk/crc32c.h>

static uint32_t both(const void *p, size_t n)
{
    uint32_t crc = sp_crc32c(0, p, n);

    assert_int_equal(sp_crc32c_plain(0, p, n), crc);
    return crc;
}

// RFC 3720, appendix B.4.
static void published_vectors(void **state)
{
    unsigned char bytes[32];

    (void)state;
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(both(bytes, sizeof(bytes)), 0x8a9136aaU);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(both(bytes, sizeof(bytes)), 0x62a8ab43U);
    for (unsigned i = 0; i < 32; i++) {
        bytes[i] = (unsigned char)i;
    }
    assert_int_equal(both(bytes, sizeof(bytes)), 0x46dd794eU);
    for (unsigned i = 0; i < 32; i++) {
        bytes[i] = (unsigned char)(31 - i);
    }
    assert_int_equal(both(bytes, sizeof(bytes)), 0x113fdb5cU);
    assert_int_equal(both("123456789", 9), 0xe3069283U);
    assert_int_equal(both("", 0), 0);
}

/// Every length and alignment around the sizes where the ways of summing change, whole and in two
/// pieces.
static void every_length_sums_the_same(void **state)
{
    enum { MOST = 3 * 6144 + 64 };
    unsigned char *bytes = malloc(MOST + 8);
    uint32_t seed = 1;

    (void)state;
    assert_non_null(bytes);
    for (size_t i = 0; i < MOST + 8; i++) {
        seed = seed * 1103515245U + 12345U;
        bytes[i] = (unsigned char)(seed >> 16);
    }
    for (size_t n = 0; n <= MOST; n += n < 100 || n % 6144 < 10 || n % 6144 > 6130 ? 1 : 61) {
        const unsigned char *p = bytes + n % 8;
        uint32_t whole = both(p, n);

        assert_int_equal(sp_crc32c(sp_crc32c(0, p, n / 3), p + n / 3, n - n / 3), whole);
    }
    free(bytes);
}

static void one_flipped_bit_is_seen(void **state)
{
    unsigned char bytes[64] = {1, 2, 3};
    uint32_t crc = sp_crc32c(0, bytes, sizeof(bytes));

    (void)state;
    for (size_t i = 0; i < sizeof(bytes) * 8; i++) {
        bytes[i / 8] ^= (unsigned char)(1U << i % 8);
        assert_int_not_equal(both(bytes, sizeof(bytes)), crc);
        bytes[i / 8] ^= (unsigned char)(1U << i % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors),
        cmocka_unit_test(every_length_sums_the_same),
        cmocka_unit_test(one_flipped_bit_is_seen),
    };

    return cmocka_run_group_tests_name("crc32c", tests, NULL, NULL);
}
