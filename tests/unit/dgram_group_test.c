/* SPDX-License-Identifier: MIT */
/// Discovery groups without a network and without a clock: tables that hear each other through a
/// simulated one, with losses, restarts and partitions; the seed is printed by check.
#include "check.h"

#include "dgram_group.h"

#include <sp/sdk/crc32c.h>

#include <stdio.h>
#include <string.h>

#define MS INT64_C(1000000)
#define INTERVAL 1000 // ms
#define TURN 250      // ms
#define NODES 7
#define SEEDS 20

struct node {
    struct sp__group table;
    struct sp_dgram_addr addr;
    uint16_t dials[NODES]; ///< open dialers, by whom
    int64_t due;
    int side; ///< of a partition
    bool up;
};

static struct node nodes[NODES];
static uint64_t dice;
static int64_t now;

static uint64_t roll(uint64_t n)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % n;
}

static int world_dial(void *arg, const struct sp_dgram_addr *addr, uint64_t *dialer)
{
    struct node *n = arg;

    assert_in_range(addr->number, 1, NODES);
    assert_ptr_not_equal(n, &nodes[addr->number - 1]); // never itself
    n->dials[addr->number - 1]++;
    *dialer = addr->number;
    return SP_OK;
}

static void world_undial(void *arg, uint64_t dialer)
{
    struct node *n = arg;

    assert_int_equal(n->dials[dialer - 1], 1);
    n->dials[dialer - 1]--;
}

static void world_start(unsigned i)
{
    struct node *n = &nodes[i];

    memset(n, 0, sizeof(*n));
    n->up = true;
    n->due = now;
    n->addr.len = sizeof(n->addr.at.in4);
    n->addr.number = (uint16_t)(i + 1);
    for (size_t j = 0; j < sizeof(n->table.uuid); j++) {
        n->table.uuid[j] = (unsigned char)roll(256);
    }
    n->table.max = 1024;
    n->table.fresh = SP__GROUP_FRESH;
    n->table.dial = world_dial;
    n->table.undial = world_undial;
    n->table.arg = n;
}

static void world_say(const struct node *from, enum sp__group_op op, unsigned loss)
{
    struct sp__announcement a = {.op = (uint8_t)op, .interval = INTERVAL};
    unsigned char bytes[SP__GROUP_BYTES];

    memcpy(a.uuid, from->table.uuid, sizeof(a.uuid));
    sp__group_write(bytes, &a);
    for (struct node *n = nodes; n < nodes + NODES; n++) {
        struct sp__announcement got;

        if (n->up && n->side == from->side && (n == from || roll(100) >= loss)) {
            assert_true(sp__group_read(bytes, sizeof(bytes), &got));
            (void)sp__group_hear(&n->table, &from->addr, &got, now);
        }
    }
}

static void world_stop(unsigned i, bool says)
{
    if (says) {
        world_say(&nodes[i], SP__GROUP_LEAVES, 0);
    }
    nodes[i].up = false;
    sp__group_clear(&nodes[i].table);
    for (unsigned j = 0; j < NODES; j++) {
        assert_int_equal(nodes[i].dials[j], 0);
    }
}

static void world_run(int64_t ms, unsigned loss)
{
    for (int64_t end = now + ms * MS; now < end; now += TURN * MS) {
        for (struct node *n = nodes; n < nodes + NODES; n++) {
            if (!n->up) {
                continue;
            }
            sp__group_turn(&n->table, now, false);
            if (now >= n->due) {
                world_say(n, SP__GROUP_HERE, loss);
                n->due = now + (INTERVAL * 3 / 4 + (int64_t)roll(INTERVAL / 2)) * MS;
            }
        }
    }
}

/// Between any two that are up and on one side there is one dialer, and no other anywhere.
static void world_is_whole(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        for (unsigned j = 0; j < NODES; j++) {
            bool reach = i != j && nodes[i].up && nodes[j].up && nodes[i].side == nodes[j].side;

            assert_int_equal(nodes[i].dials[j] + nodes[j].dials[i], reach ? 1 : 0);
        }
    }
}

static void world_open(uint64_t seed)
{
    dice = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    now = MS;
    for (unsigned i = 0; i < NODES; i++) {
        world_start(i);
    }
}

static void world_close(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        if (nodes[i].up) {
            world_stop(i, false);
        }
    }
}

static void members_find_each_other(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        world_open(seed);
        world_run(2 * INTERVAL, 0);
        world_is_whole();
        world_close();
    }
}

static void lost_announcements_delay_and_end_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        world_open(seed);
        world_run(20 * INTERVAL, 10);
        world_run(SP__GROUP_LIVES * 2 * INTERVAL, 0);
        world_is_whole();
        world_close();
    }
}

static void members_come_and_go(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        world_open(seed);
        for (unsigned round = 0; round < 20; round++) {
            unsigned i = (unsigned)roll(NODES);

            if (nodes[i].up) {
                world_stop(i, roll(2) != 0);
            } else {
                world_start(i);
            }
            world_run(roll(8) * INTERVAL, 0);
        }
        world_run((SP__GROUP_LIVES + 3) * INTERVAL, 0);
        world_is_whole();
        world_close();
    }
}

/// At the same address, at once: nobody was missed in between.
static void restarted_member_is_another_one(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        world_open(seed);
        world_run(3 * INTERVAL, 0);
        world_stop(2, false);
        world_start(2);
        world_run(3 * INTERVAL, 0);
        world_is_whole();
        world_close();
    }
}

static void parted_groups_are_one_again(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        world_open(seed);
        world_run(2 * INTERVAL, 0);
        for (unsigned i = 0; i < NODES; i++) {
            nodes[i].side = (int)roll(2);
        }
        world_run((SP__GROUP_LIVES + 2) * INTERVAL, 0);
        world_is_whole();
        for (unsigned i = 0; i < NODES; i++) {
            nodes[i].side = 0;
        }
        world_run(2 * INTERVAL, 0);
        world_is_whole();
        world_close();
    }
}

/* ------------------------------------------------------------------ Limits */

static int count_dial(void *arg, const struct sp_dgram_addr *addr, uint64_t *dialer)
{
    (void)addr;
    *dialer = ++*(unsigned *)arg;
    return SP_OK;
}

static void count_undial(void *arg, uint64_t dialer)
{
    (void)arg;
    (void)dialer;
}

static void flood_of_strangers_is_capped(void **state)
{
    unsigned dialled = 0;
    struct sp__group g = {.max = 20,
                          .fresh = SP__GROUP_FRESH,
                          .dial = count_dial,
                          .undial = count_undial,
                          .arg = &dialled};
    struct sp__announcement a = {.op = SP__GROUP_HERE, .interval = INTERVAL};
    struct sp_dgram_addr from = {.len = sizeof(struct sockaddr_in)};

    (void)state;
    memset(g.uuid, 0xFF, sizeof(g.uuid));
    for (unsigned turn = 1; turn <= 5; turn++) {
        for (unsigned i = 0; i < 100; i++) {
            from.number++;
            sp_store_u32(a.uuid, from.number);
            (void)sp__group_hear(&g, &from, &a, turn * MS);
        }
        assert_int_equal(g.n, turn * SP__GROUP_FRESH < 20 ? turn * SP__GROUP_FRESH : 20);
        assert_int_equal(dialled, g.n);
        sp__group_turn(&g, turn * MS, true);
    }
    // Nobody is thought to be gone because of what a flood may have hidden.
    sp__group_turn(&g, 1000 * INTERVAL * MS, true);
    assert_int_equal(g.n, 20);
    sp__group_turn(&g, 1000 * INTERVAL * MS, false);
    assert_int_equal(g.n, 0);
    sp__group_clear(&g);
}

static void address_changes_its_instance_once_an_interval(void **state)
{
    unsigned dialled = 0;
    struct sp__group g = {.max = 20,
                          .fresh = SP__GROUP_FRESH,
                          .dial = count_dial,
                          .undial = count_undial,
                          .arg = &dialled};
    struct sp__announcement a = {.op = SP__GROUP_HERE, .interval = INTERVAL};
    struct sp_dgram_addr from = {.len = sizeof(struct sockaddr_in), .number = 1};
    unsigned taken = 0;

    (void)state;
    for (unsigned i = 1; i <= 100; i++) {
        sp_store_u32(a.uuid, i);
        taken += sp__group_hear(&g, &from, &a, (INT64_C(1) + i * 10) * MS);
    }
    assert_int_equal(taken, 1);
    assert_int_equal(g.n, 1);
    sp__group_clear(&g);
}

/// The vector of doc/wire-datagram.md.
static void announcement_is_as_documented(void **state)
{
    static const unsigned char want[SP__GROUP_BYTES] = {'S', 'P', 'G', '1', 1,  0,  0,    0, 0,
                                                        1,   2,   3,   4,   5,  6,  7,    8, 9,
                                                        10,  11,  12,  13,  14, 15, 0xE8, 3};
    struct sp__announcement a = {.op = SP__GROUP_HERE, .interval = 1000};
    unsigned char out[SP__GROUP_BYTES_MAX + 1] = {0};

    (void)state;
    for (unsigned char i = 0; i < 16; i++) {
        a.uuid[i] = i;
    }
    sp__group_write(out, &a);
    assert_memory_equal(out, want, sizeof(want));
    assert_true(sp__group_read(out, SP__GROUP_BYTES, &a));
    assert_int_equal(a.interval, 1000);
    assert_false(sp__group_read(out, SP__GROUP_BYTES - 1, &a));
    assert_true(sp__group_read(out, SP__GROUP_BYTES_MAX, &a));
    assert_false(sp__group_read(out, SP__GROUP_BYTES_MAX + 1, &a));
    out[4] = 3;
    assert_false(sp__group_read(out, SP__GROUP_BYTES, &a));
    out[4] = 2;
    memset(out + 24, 0, 4);
    assert_false(sp__group_read(out, SP__GROUP_BYTES, &a));
    memset(out + 24, 0xFF, 4);
    assert_false(sp__group_read(out, SP__GROUP_BYTES, &a));
}

/// The vector's checksum on rawip, from endpoint 40000 to 5; no flipped bit goes unnoticed.
static void checksum_is_as_documented(void **state)
{
    static const unsigned char front[4] = {0x40, 0x9C, 5, 0};
    static const unsigned char want[4] = {0xD3, 0x71, 0xE4, 0xB2};
    struct sp__announcement a = {.op = SP__GROUP_HERE, .interval = 1000};
    uint32_t crc = sp_crc32c(0, front, sizeof(front));
    unsigned char out[SP__GROUP_BYTES];

    (void)state;
    for (unsigned char i = 0; i < 16; i++) {
        a.uuid[i] = i;
    }
    sp__group_write(out, &a);
    sp__group_seal(out, sizeof(out), crc);
    assert_memory_equal(out + 28, want, sizeof(want));
    assert_true(sp__group_sealed(out, sizeof(out), crc));
    assert_false(sp__group_sealed(out, sizeof(out), crc + 1));
    assert_false(sp__group_sealed(out, sizeof(out) - 1, crc));
    for (unsigned bit = 0; bit < 8 * sizeof(out); bit++) {
        out[bit / 8] ^= (unsigned char)(1U << bit % 8);
        assert_false(sp__group_sealed(out, sizeof(out), crc));
        out[bit / 8] ^= (unsigned char)(1U << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_find_each_other),
        cmocka_unit_test(lost_announcements_delay_and_end_nothing),
        cmocka_unit_test(members_come_and_go),
        cmocka_unit_test(restarted_member_is_another_one),
        cmocka_unit_test(parted_groups_are_one_again),
        cmocka_unit_test(flood_of_strangers_is_capped),
        cmocka_unit_test(address_changes_its_instance_once_an_interval),
        cmocka_unit_test(announcement_is_as_documented),
        cmocka_unit_test(checksum_is_as_documented),
    };

    return cmocka_run_group_tests_name("dgram_group", tests, NULL, NULL);
}
