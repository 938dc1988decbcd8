/* SPDX-License-Identifier: MIT */
/// sp/sdk/balance.h by itself: whose turn it is, what a choice costs, and how long a crew with a
/// slow worker takes, in virtual time; and the choice of sp/sdk/ring.h.
#include <sp/sdk/balance.h>
#include <sp/sdk/ring.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define QUEUE 128

/// A peer whose queue is a number.
struct peer {
    struct sp_balance_peer state; // first
    sp_pipe_ref ref;
    size_t queued;
    unsigned sent;
};

static size_t looks; // calls of pipe_room

static size_t room_of(const sp_pipe_ref *ref)
{
    const struct peer *p = (const struct peer *)(const void *)ref->state;

    looks++;
    return QUEUE - p->queued;
}

static const sp_host host = {.size = sizeof(host), .pipe_room = room_of};

static struct peer *crew_new(struct sp_balance *b, unsigned n)
{
    struct peer *crew = calloc(n, sizeof(*crew));

    assert_non_null(crew);
    memset(b, 0, sizeof(*b));
    for (unsigned i = 0; i < n; i++) {
        crew[i].ref = (sp_pipe_ref){.state = &crew[i].state, .id = i + 1, .send_priority = 8};
        sp_balance_add(b, &crew[i].ref);
    }
    looks = 0;
    return crew;
}

/// Sends one. False: nobody has room.
static bool give(struct sp_balance *b)
{
    sp_pipe_ref *ref = sp_balance_choose(b, &host);
    struct peer *p;

    if (ref == NULL) {
        return false;
    }
    p = (struct peer *)ref->state;
    assert_true(p->queued < QUEUE);
    p->queued++;
    p->sent++;
    return true;
}

/// It wrote up to `n`.
static void take(struct sp_balance *b, struct peer *p, size_t n)
{
    p->queued -= n < p->queued ? n : p->queued;
    sp_balance_ready(b, &p->ref);
}

static void idle_peers_have_their_turn(void **state)
{
    struct sp_balance b;
    struct peer *crew = crew_new(&b, 5);

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        assert_true(give(&b));
        assert_int_equal(crew[i % 5].sent, i / 5 + 1);
    }
    assert_int_equal(looks, 100);
    free(crew);
}

static void the_one_with_most_room_is_chosen_among_busy_ones(void **state)
{
    struct sp_balance b;
    struct peer *crew = crew_new(&b, 4);

    (void)state;
    while (give(&b)) {
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(crew[i].sent, QUEUE);
    }
    take(&b, &crew[0], 10);
    take(&b, &crew[1], 30);
    take(&b, &crew[2], 20);
    for (unsigned i = 0; i < 10; i++) {
        assert_true(give(&b));
    }
    assert_int_equal(crew[1].sent, QUEUE + 10);
    for (unsigned i = 0; i < 50; i++) {
        assert_true(give(&b));
    }
    assert_false(give(&b));
    assert_int_equal(crew[3].sent, QUEUE);
    free(crew);
}

static void lower_priorities_come_first_until_they_are_full(void **state)
{
    struct sp_balance b;
    struct peer *crew = crew_new(&b, 3);

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        sp_balance_del(&b, &crew[i].ref);
        crew[i].ref.send_priority = (uint8_t)(16 - i);
        sp_balance_add(&b, &crew[i].ref);
    }
    for (unsigned i = 0; i < QUEUE; i++) {
        assert_true(give(&b));
    }
    assert_int_equal(crew[2].sent, QUEUE);
    assert_true(give(&b));
    assert_int_equal(crew[1].sent, 1);
    take(&b, &crew[2], 1);
    assert_true(give(&b));
    assert_int_equal(crew[2].sent, QUEUE + 1);
    free(crew);
}

static void peers_come_and_go(void **state)
{
    struct sp_balance b;
    struct peer *crew = crew_new(&b, 3);

    (void)state;
    assert_null(sp_balance_only(&b));
    while (give(&b)) {
    }
    sp_balance_del(&b, &crew[1].ref); // set aside
    assert_null(sp_balance_only(&b));
    take(&b, &crew[2], QUEUE);
    sp_balance_del(&b, &crew[0].ref);
    assert_ptr_equal(sp_balance_only(&b), &crew[2].ref);
    assert_true(give(&b));
    sp_balance_del(&b, &crew[2].ref);
    assert_null(sp_balance_only(&b));
    assert_false(give(&b));
    sp_balance_add(&b, &crew[0].ref);
    assert_ptr_equal(sp_balance_only(&b), &crew[0].ref);
    crew[0].queued = 0; // Not told: it is looked at all the same.
    assert_true(give(&b));
    free(crew);
}

/// What a message costs does not grow with the peers: all idle, all busy, and all full but one.
static void choice_among_a_thousand_costs_what_one_among_few_does(void **state)
{
    struct sp_balance b;
    struct peer *crew = crew_new(&b, 1000);
    size_t sent = 0;

    (void)state;
    for (unsigned i = 0; i < 10000; i++) {
        assert_true(give(&b));
    }
    assert_int_equal(looks, 10000);
    while (give(&b)) {
        sent++;
    }
    assert_int_equal(sent, 1000 * QUEUE - 10000);
    assert_true(looks < 10000 + (SP_BALANCE_LOOKS + 1) * sent + 2000);
    looks = 0;
    for (unsigned i = 0; i < 10000; i++) {
        take(&b, &crew[(i * 7) % 1000], 1);
        assert_true(give(&b));
    }
    assert_true(looks <= 30000); // it, then that it is full
    free(crew);
}

/// Four workers, one of them ten times slower, and queues of 128.
static void crew_with_a_slow_worker_takes_at_most_a_fifth_longer(void **state)
{
    static const unsigned speed[4] = {10, 10, 10, 1};
    const unsigned work = 31000;
    struct sp_balance b;
    struct peer *crew = crew_new(&b, 4);
    unsigned given = 0;
    unsigned ticks = 0;
    unsigned left = work;

    (void)state;
    for (; left > 0; ticks++) {
        while (given < work && give(&b)) {
            given++;
        }
        for (unsigned i = 0; i < 4; i++) {
            size_t before = crew[i].queued;

            take(&b, &crew[i], speed[i]);
            left -= (unsigned)(before - crew[i].queued);
        }
    }
    assert_true(ticks <= work / 31 * 12 / 10);
    assert_true(crew[3].sent <= work / 31 * 12 / 10);
    free(crew);
}

/* ------------------------------------------------------------------ sp/sdk/ring.h */

#define RING 1000

struct ring_peer {
    struct sp_ring_peer state; // first
    sp_pipe_ref ref;
    size_t room;
};

static size_t ring_room(const sp_pipe_ref *ref)
{
    looks++;
    return ((const struct ring_peer *)(const void *)ref->state)->room;
}

static const sp_host ring_host = {.size = sizeof(ring_host), .pipe_room = ring_room};

static void ring_finds_the_first_priority_without_a_look_at_all(void **state)
{
    struct sp_ring ring = {0};
    struct ring_peer *peer = calloc(RING, sizeof(*peer));

    (void)state;
    assert_non_null(peer);
    for (unsigned i = 0; i < RING; i++) {
        peer[i].ref = (sp_pipe_ref){.state = &peer[i].state, .id = i + 1, .send_priority = 8};
        peer[i].room = 1;
        sp_ring_add(&ring, &peer[i].ref);
    }
    looks = 0;
    for (unsigned i = 0; i < 2 * RING; i++) {
        assert_ptr_equal(sp_ring_choose(&ring, &ring_host), &peer[i % RING].ref);
    }
    assert_int_equal(looks, 2 * RING);
    // One of a better priority, as long as it has room.
    sp_ring_del(&ring, &peer[500].ref);
    peer[500].ref.send_priority = 2;
    sp_ring_add(&ring, &peer[500].ref);
    assert_ptr_equal(sp_ring_choose(&ring, &ring_host), &peer[500].ref);
    assert_ptr_equal(sp_ring_choose(&ring, &ring_host), &peer[500].ref);
    peer[500].room = 0;
    assert_ptr_equal(sp_ring_choose(&ring, &ring_host), &peer[0].ref);
    // When it is gone, the next one finds that out.
    sp_ring_del(&ring, &peer[500].ref);
    assert_ptr_equal(sp_ring_choose(&ring, &ring_host), &peer[1].ref);
    looks = 0;
    assert_ptr_equal(sp_ring_choose(&ring, &ring_host), &peer[2].ref);
    assert_int_equal(looks, 1);
    free(peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_peers_have_their_turn),
        cmocka_unit_test(the_one_with_most_room_is_chosen_among_busy_ones),
        cmocka_unit_test(lower_priorities_come_first_until_they_are_full),
        cmocka_unit_test(peers_come_and_go),
        cmocka_unit_test(choice_among_a_thousand_costs_what_one_among_few_does),
        cmocka_unit_test(crew_with_a_slow_worker_takes_at_most_a_fifth_longer),
        cmocka_unit_test(ring_finds_the_first_priority_without_a_look_at_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
