/* SPDX-License-Identifier: MIT */
/// The bytes of a datagram: the vectors of doc/wire-datagram.md, and what is not taken.
#include "check.h"

#include "dgram_wire.h"

#include <sp/sdk/crc32c.h>

#include <string.h>

static const unsigned char creq[64] = {
    1,    1,    0x30, 0,    0xE8, 0xFD, 5,    0,    'S',  'P',  'D',  '1',  56,   0,    1,    0,
    0xE8, 0xFD, 0,    0,    0,    0,    0,    0,    0,    1,    2,    3,    4,    5,    6,    7,
    8,    9,    10,   11,   12,   13,   14,   15,   0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
    0x10, 0xEF, 0xCD, 0xAB, 0x89, 0x67, 0x45, 0x23, 0,    0,    0,    0,    0,    0,    0,    0};

static struct sp__dgram asked(void)
{
    struct sp__dgram d = {.op = SP__DGRAM_CREQ,
                          .type = 0x30,
                          .p0 = 65000,
                          .p1 = 5,
                          .extended = true,
                          .features = SP__DGRAM_PACKS,
                          .payload_max = 65000,
                          .token = UINT64_C(0x1122334455667788),
                          .cookie = UINT64_C(0x23456789ABCDEF10)};

    for (unsigned char i = 0; i < 16; i++) {
        d.uuid[i] = i;
    }
    return d;
}

static void greeting_is_as_documented(void **state)
{
    struct sp__dgram d = asked();
    unsigned char out[64];

    (void)state;
    sp__dgram_greeting(out, &d, NULL);
    assert_memory_equal(out, creq, sizeof(creq));
    memset(&d, 0, sizeof(d));
    assert_int_equal(sp__dgram_read(creq, sizeof(creq), NULL, &d), SP__DGRAM_FINE);
    assert_true(d.extended);
    assert_int_equal(d.type, 0x30);
    assert_int_equal(d.payload_max, 65000);
    assert_int_equal(d.token, UINT64_C(0x1122334455667788));
    assert_int_equal(d.cookie, UINT64_C(0x23456789ABCDEF10));
}

static void greeting_of_eight_bytes_is_a_plain_one(void **state)
{
    struct sp__dgram d;

    (void)state;
    assert_int_equal(sp__dgram_read(creq, 8, NULL, &d), SP__DGRAM_FINE);
    assert_false(d.extended);
    assert_int_equal(d.p0, 65000);
    assert_int_equal(d.p1, 5);
    assert_int_equal(sp__dgram_read(creq, 63, NULL, &d), SP__DGRAM_FINE);
    assert_false(d.extended);
    assert_int_equal(sp__dgram_read(creq, 8, &(uint32_t){0}, &d), SP__DGRAM_MALFORMED);
}

static void short_and_foreign_ones_are_malformed(void **state)
{
    unsigned char bad[8] = {2, 0, 0, 0, 0, 0, 0, 0};
    struct sp__dgram d;

    (void)state;
    for (size_t n = 0; n < 8; n++) {
        assert_int_equal(sp__dgram_read(creq, n, NULL, &d), SP__DGRAM_MALFORMED);
    }
    assert_int_equal(sp__dgram_read(bad, 8, NULL, &d), SP__DGRAM_MALFORMED);
    bad[0] = 1;
    bad[1] = 9;
    assert_int_equal(sp__dgram_read(bad, 8, NULL, &d), SP__DGRAM_MALFORMED);
}

static void data_that_says_too_much_is_cut_and_surplus_is_not_seen(void **state)
{
    unsigned char data[12] = {1, 0, 0x10, 0, 5, 0, 0, 0, 'a', 'b', 'c', 'd'};
    struct sp__dgram d;

    (void)state;
    assert_int_equal(sp__dgram_read(data, sizeof(data), NULL, &d), SP__DGRAM_CUT);
    data[4] = 3;
    assert_int_equal(sp__dgram_read(data, sizeof(data), NULL, &d), SP__DGRAM_FINE);
    assert_int_equal(d.payload_len, 3);
    assert_memory_equal(d.payload, "abc", 3);
}

static void pack_holds_what_it_says_and_nothing_else(void **state)
{
    static const unsigned char pack[] = {1, 16, 0x10, 0, 7, 0, 2, 0, 0x2A, 0,   0, 0, 7,  0,
                                         0, 0,  0,    0, 0, 0, 2, 0, 'h',  'i', 1, 0, '!'};
    unsigned char out[sizeof(pack)];
    unsigned char bad[sizeof(pack)];
    const unsigned char *at;
    const unsigned char *msg;
    struct sp__dgram d;
    size_t len;

    (void)state;
    sp__dgram_xhead(out, 0x10, 42, 2, 7);
    assert_memory_equal(out, pack, SP__DGRAM_XHEAD);
    assert_int_equal(sp__dgram_read(pack, sizeof(pack), NULL, &d), SP__DGRAM_FINE);
    assert_int_equal(d.number, 42);
    assert_int_equal(d.count, 2);
    at = d.payload;
    assert_true(sp__dgram_unpack(&at, d.payload + d.payload_len, &msg, &len));
    assert_int_equal(len, 2);
    assert_true(sp__dgram_unpack(&at, d.payload + d.payload_len, &msg, &len));
    assert_int_equal(len, 1);
    assert_false(sp__dgram_unpack(&at, d.payload + d.payload_len, &msg, &len));
    assert_non_null(at);
    memcpy(bad, pack, sizeof(pack));
    bad[6] = 3; // one more than there are
    assert_int_equal(sp__dgram_read(bad, sizeof(bad), NULL, &d), SP__DGRAM_MALFORMED);
    bad[6] = 0;
    assert_int_equal(sp__dgram_read(bad, sizeof(bad), NULL, &d), SP__DGRAM_MALFORMED);
    bad[6] = 2;
    bad[20] = 9; // the first one reaches beyond the end
    assert_int_equal(sp__dgram_read(bad, sizeof(bad), NULL, &d), SP__DGRAM_MALFORMED);
    assert_int_equal(sp__dgram_read(pack, sizeof(pack) - 1, NULL, &d), SP__DGRAM_MALFORMED);
    for (size_t n = 0; n < SP__DGRAM_XHEAD; n++) {
        assert_int_not_equal(sp__dgram_read(pack, n, NULL, &d), SP__DGRAM_FINE);
    }
}

#define FRONT 4 // rawip's

/// As rawip reads what it got.
static enum sp__dgram_fault read_summed(const unsigned char *bytes, size_t n, struct sp__dgram *d)
{
    uint32_t crc = sp_crc32c(0, bytes, FRONT);

    return sp__dgram_read(bytes + FRONT, n - FRONT, &crc, d);
}

static void every_bit_is_covered_by_the_checksum(void **state)
{
    struct sp__dgram d = asked();
    unsigned char out[FRONT + 64] = {0x40, 0x9C, 5, 0};
    uint32_t crc = sp_crc32c(0, out, FRONT);

    (void)state;
    sp__dgram_greeting(out + FRONT, &d, &crc);
    assert_int_equal(read_summed(out, sizeof(out), &d), SP__DGRAM_FINE);
    for (size_t i = 0; i < 8 * sizeof(out); i++) {
        out[i / 8] ^= (unsigned char)(1U << i % 8);
        assert_true(read_summed(out, sizeof(out), &d) != SP__DGRAM_FINE || !d.extended);
        out[i / 8] ^= (unsigned char)(1U << i % 8);
    }
}

/// From endpoint 40000 to endpoint 5.
static void checksum_is_as_documented(void **state)
{
    static const unsigned char xdata[FRONT + 22] = {0x40, 0x9C, 5,    0,    1,    16,   0x10, 0,  2,
                                                    0,    1,    0,    0x2A, 0,    0,    0,    2,  0,
                                                    0,    0,    0x43, 0x59, 0xC2, 0xF7, 'h',  'i'};
    unsigned char bad[sizeof(xdata)];
    unsigned char out[SP__DGRAM_XHEAD];
    uint32_t crc;
    struct sp__dgram d;

    (void)state;
    sp__dgram_xhead(out, 0x10, 42, 1, 2);
    crc = sp__dgram_xcrc(sp_crc32c(0, xdata, FRONT), out);
    sp__dgram_put_crc(out, sp_crc32c(crc, "hi", 2));
    assert_memory_equal(out, xdata + FRONT, sizeof(out));
    assert_int_equal(read_summed(xdata, sizeof(xdata), &d), SP__DGRAM_FINE);
    for (size_t i = 0; i < 8 * sizeof(xdata); i++) {
        memcpy(bad, xdata, sizeof(bad));
        bad[i / 8] ^= (unsigned char)(1U << i % 8);
        // As plain DATA, which has no sum, it is not taken from a peer with the extension.
        assert_true(read_summed(bad, sizeof(bad), &d) != SP__DGRAM_FINE || d.op == SP__DGRAM_DATA);
    }
}

static void hash_is_siphash(void **state)
{
    // The first vectors of the reference: key 00…0f, input 00…(n-1).
    const uint64_t key[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    unsigned char in[15];

    (void)state;
    for (size_t i = 0; i < sizeof(in); i++) {
        in[i] = (unsigned char)i;
    }
    assert_int_equal(sp__dgram_hash(key, in, 0), UINT64_C(0x726fdb47dd0e0e31));
    assert_int_equal(sp__dgram_hash(key, in, 15), UINT64_C(0xa129ca6149be45e5));
}

static uint64_t seed = 1;

static unsigned char any(void)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned char)(seed >> 33);
}

static void random_bytes_are_read_without_harm(void **state)
{
    unsigned char d[96];
    struct sp__dgram out;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        size_t n = any() % sizeof(d);

        for (size_t k = 0; k < n; k++) {
            d[k] = any();
        }
        d[0] = 1;
        d[1] = any() % 2 == 0 ? 16 : any() % 5;
        if (i % 2 == 0 && n >= SP__DGRAM_XHEAD) {
            sp__dgram_xhead(d, 0x10, 1, any() % 4U, (uint32_t)(n - SP__DGRAM_XHEAD));
        }
        if (sp__dgram_read(d, n, any() % 2 == 0 ? &(uint32_t){0} : NULL, &out) == SP__DGRAM_FINE &&
            out.payload != NULL) {
            assert_true(out.payload + out.payload_len <= d + n);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greeting_is_as_documented),
        cmocka_unit_test(greeting_of_eight_bytes_is_a_plain_one),
        cmocka_unit_test(short_and_foreign_ones_are_malformed),
        cmocka_unit_test(data_that_says_too_much_is_cut_and_surplus_is_not_seen),
        cmocka_unit_test(pack_holds_what_it_says_and_nothing_else),
        cmocka_unit_test(every_bit_is_covered_by_the_checksum),
        cmocka_unit_test(checksum_is_as_documented),
        cmocka_unit_test(hash_is_siphash),
        cmocka_unit_test(random_bytes_are_read_without_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
