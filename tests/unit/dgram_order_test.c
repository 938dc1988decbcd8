/* SPDX-License-Identifier: MIT */
/// Messages in order (sdk/dgram_order.c): what is handed on, and that each message that is missing,
/// late or double is counted as that and nothing else.
#include "check.h"
#include "fake_host.h"

#include "dgram_parts.h"

#include <stdlib.h>
#include <string.h>

#define MESSAGES 5000
#define ARRIVALS (2 * MESSAGES)
#define TAIL 64 // the last ones arrive as they were sent, so that nothing is held in the end

static const struct sp_dgram_kind kind = {.size = sizeof(kind)};
static const struct sp_dgram_kind reliable = {.size = sizeof(kind), .flags = SP_DGRAM_PAIRS};

static struct sp_dgram_ep ep;
static struct sp_dgram_pipe pipe_;

static void order_begin(uint32_t first, int64_t window)
{
    fake_reset();
    ep = (struct sp_dgram_ep){.host = fake_host(), .kind = &kind, .order_window = window};
    pipe_ = (struct sp_dgram_pipe){
        .host = fake_host(), .ep = &ep, .features = DGRAM_EXTENDED, .rx_next = first};
}

static void order_put(uint32_t number, int64_t now)
{
    sp_batch in = {NULL, NULL, 0};
    sp_msg *m = fake_msg(NULL, 0, &number, sizeof(number));

    dgram_set_number(m, number);
    sp_batch_push(&in, m);
    sp__dgram_order(&pipe_, &in, now);
    assert_int_equal(in.n, 0);
}

/// The number of the next message handed on; false: there is none.
static bool order_take(uint32_t *number)
{
    sp_msg *m = sp_batch_pop(&pipe_.ready);

    if (m == NULL) {
        return false;
    }
    memcpy(number, m->data, sizeof(*number));
    fake_host()->msg_release(m);
    return true;
}

static void order_gives(uint32_t from, uint32_t n)
{
    uint32_t got;

    for (uint32_t i = 0; i < n; i++) {
        assert_true(order_take(&got));
        assert_int_equal(got, (uint32_t)(from + i));
    }
    assert_false(order_take(&got));
}

static void order_counted(uint64_t gaps, uint64_t late, uint64_t duplicates, uint64_t reordered)
{
    assert_int_equal(ep.counts.gaps, gaps);
    assert_int_equal(ep.counts.late, late);
    assert_int_equal(ep.counts.duplicates, duplicates);
    assert_int_equal(ep.counts.reordered, reordered);
}

static void order_end(void)
{
    fake_drop(&pipe_.ready);
    fake_drop(&pipe_.held);
    assert_int_equal(fake.msgs_live, 0);
}

/* ------------------------------------------------------------------ One by one */

static void what_comes_in_order_goes_on_at_once(void **state)
{
    (void)state;
    order_begin(0, 64);
    for (uint32_t i = 0; i < 1000; i++) {
        order_put(i, 0);
        order_gives(i, 1);
    }
    order_counted(0, 0, 0, 0);
    order_end();
}

static void late_one_within_the_window_is_put_in_its_place(void **state)
{
    (void)state;
    order_begin(0, 64);
    for (uint32_t i = 64; i > 0; i--) {
        order_put(i, 0);
        order_gives(0, 0);
    }
    assert_int_equal(pipe_.holding, 1);
    order_put(0, 0);
    order_gives(0, 65);
    assert_int_equal(pipe_.holding, 0);
    order_counted(0, 0, 0, 1);
    order_end();
}

static void gap_is_given_up_when_the_window_is_full(void **state)
{
    (void)state;
    order_begin(0, 64);
    for (uint32_t i = 2; i < 2 + 64; i++) {
        order_put(i, 0);
    }
    order_gives(0, 0);
    order_put(2 + 64, 0);
    order_gives(2, 65);
    order_counted(2, 0, 0, 0);
    order_put(1, 0);
    order_put(1, 0); // Its second copy is one.
    order_put(0, 0);
    order_put(5, 0);
    order_gives(0, 0);
    order_counted(2, 2, 2, 0);
    order_end();
}

static void gap_is_given_up_when_its_time_is_over(void **state)
{
    int64_t hold = DGRAM_HOLD_MS * DGRAM_MS;

    (void)state;
    order_begin(0, 64);
    order_put(1, 100);
    order_put(3, 200);
    sp__dgram_order_due(&pipe_, 100 + hold - 1);
    order_gives(0, 0);
    sp__dgram_order_due(&pipe_, 100 + hold);
    order_gives(1, 1);
    sp__dgram_order_due(&pipe_, 100 + hold + 1); // The next gap has a time of its own.
    order_gives(0, 0);
    sp__dgram_order_due(&pipe_, 100 + 2 * hold);
    order_gives(3, 1);
    assert_int_equal(pipe_.holding, 0);
    order_counted(2, 0, 0, 0);
    order_end();
}

static void without_a_window_nothing_is_held(void **state)
{
    (void)state;
    order_begin(0, 0);
    order_put(3, 0);
    order_gives(3, 1);
    for (uint32_t i = 0; i < 3; i++) {
        order_put(i, 0);
        order_put(i, 0);
    }
    order_gives(0, 0);
    order_counted(3, 3, 3, 0);
    order_end();
}

static void held_one_that_comes_again_is_a_duplicate(void **state)
{
    (void)state;
    order_begin(0, 64);
    order_put(2, 0);
    order_put(2, 0);
    order_put(1, 0);
    order_put(1, 0);
    order_put(0, 0);
    order_gives(0, 3);
    order_counted(0, 0, 2, 1);
    order_end();
}

/// Many gaps, each of one message, are told apart as far as the last 256 numbers go.
static void late_and_double_are_told_apart_behind_many_gaps(void **state)
{
    (void)state;
    order_begin(0, 0);
    for (uint32_t i = 1; i < 256; i += 2) {
        order_put(i, 0);
        order_gives(i, 1);
    }
    for (uint32_t i = 0; i < 256; i++) {
        order_put(i, 0);
    }
    order_gives(0, 0);
    order_counted(128, 128, 128, 0);
    order_put(256, 0); // 0 is out of sight now.
    order_gives(256, 1);
    order_put(0, 0);
    order_counted(128, 129, 128, 0);
    order_end();
}

/// A gap longer than what is remembered leaves no bit of those before it.
static void long_gap_forgets_what_was_before_it(void **state)
{
    (void)state;
    for (uint32_t skip = 255; skip <= 1024; skip++) {
        order_begin(0, 0);
        for (uint32_t i = 0; i < 256; i++) {
            order_put(i, 0);
        }
        order_gives(0, 256);
        order_put(256 + skip, 0);
        order_gives(256 + skip, 1);
        for (uint32_t i = 256 + skip - 255; i < 256 + skip; i++) {
            order_put(i, 0);
        }
        order_counted(skip, 255, 0, 0);
        order_end();
    }
}

static void numbers_wrap(void **state)
{
    uint32_t first = UINT32_MAX - 2;

    (void)state;
    order_begin(first, 64);
    order_put(first + 5, 0);
    for (uint32_t i = 0; i < 5; i++) {
        order_put(first + i, 0);
    }
    order_gives(first, 6);
    order_put(first, 0);
    order_put(first + 5, 0);
    order_counted(0, 0, 2, 5);
    order_end();
}

static void of_plain_and_reliable_ones_nothing_is_looked_at(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        order_begin(0, 64);
        pipe_.features = i == 0 ? 0 : DGRAM_EXTENDED;
        ep.kind = i == 0 ? &kind : &reliable;
        order_put(7, 0);
        order_gives(7, 1);
        order_put(7, 0);
        order_gives(7, 1);
        order_counted(0, 0, 0, 0);
        order_end();
    }
}

/* ------------------------------------------------------------------ By chance */

/// What a network does to messages: each arrives up to `far` places behind its own.
struct chance {
    uint64_t seed;
    uint32_t first;
    int64_t window;
    uint32_t far;
    uint32_t lost;
    uint32_t n;
    uint32_t arrivals[ARRIVALS]; ///< positions, 0 the first message
};

static uint32_t chance_of(struct chance *c, uint32_t n)
{
    c->seed = c->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(c->seed >> 33) % n;
}

struct arrival {
    uint32_t at;
    uint32_t number;
};

static int arrival_compare(const void *a, const void *b)
{
    const struct arrival *x = a;
    const struct arrival *y = b;

    if (x->at != y->at) {
        return x->at < y->at ? -1 : 1;
    }
    return x->number < y->number ? -1 : x->number > y->number;
}

static void chance_deal(struct chance *c)
{
    static struct arrival a[ARRIVALS];

    c->n = 0;
    c->lost = 0;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        bool calm = i >= MESSAGES - TAIL;
        uint32_t copies = calm ? 1 : chance_of(c, 100) < 5 ? 0 : chance_of(c, 100) < 5 ? 2 : 1;

        c->lost += copies == 0;
        for (uint32_t k = 0; k < copies; k++) {
            bool moved = c->far > 0 && !calm && i < MESSAGES - TAIL - c->far;
            uint32_t by = moved && chance_of(c, 10) == 0 ? chance_of(c, c->far) : 0;

            a[c->n++] = (struct arrival){i + by, i};
        }
    }
    qsort(a, c->n, sizeof(a[0]), arrival_compare);
    for (uint32_t i = 0; i < c->n; i++) {
        c->arrivals[i] = a[i].number;
    }
}

/// Everything that was sent went somewhere, once, and what is lost is what is counted.
static void chance_run(struct chance *c)
{
    uint32_t handed = 0;
    uint32_t next = 0;
    uint32_t got;

    chance_deal(c);
    order_begin(c->first, c->window);
    for (uint32_t i = 0; i < c->n; i++) {
        order_put(c->first + c->arrivals[i], 0);
        assert_true((int64_t)pipe_.held.n <= c->window);
        while (order_take(&got)) {
            assert_true(got - c->first >= next); // ascending, none twice
            next = got - c->first + 1;
            handed++;
        }
    }
    while (pipe_.held.n > 0) { // The last gap, in sight of the end.
        sp__dgram_order_due(&pipe_, DGRAM_HOLD_MS * DGRAM_MS);
        pipe_.held_since = 0;
        while (order_take(&got)) {
            assert_true(got - c->first >= next);
            next = got - c->first + 1;
            handed++;
        }
    }
    assert_int_equal(next, MESSAGES);
    assert_int_equal(ep.counts.gaps, MESSAGES - handed);
    assert_int_equal(ep.counts.gaps - ep.counts.late, c->lost);
    assert_int_equal(handed + ep.counts.late + ep.counts.duplicates, c->n);
    order_end();
}

static void what_is_lost_is_what_is_counted(void **state)
{
    static const uint32_t firsts[] = {0, UINT32_MAX - 1000, (1U << 31) - 2000};
    static const int64_t windows[] = {0, 1, 64};
    static const uint32_t fars[] = {1, 10, 190}; // behind all that is held, within 256

    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        for (int i = 0; i < 27; i++) {
            struct chance c = {.seed = seed,
                               .first = firsts[i % 3],
                               .window = windows[i / 3 % 3],
                               .far = fars[i / 9]};

            chance_run(&c);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_in_order_goes_on_at_once),
        cmocka_unit_test(late_one_within_the_window_is_put_in_its_place),
        cmocka_unit_test(gap_is_given_up_when_the_window_is_full),
        cmocka_unit_test(gap_is_given_up_when_its_time_is_over),
        cmocka_unit_test(without_a_window_nothing_is_held),
        cmocka_unit_test(held_one_that_comes_again_is_a_duplicate),
        cmocka_unit_test(late_and_double_are_told_apart_behind_many_gaps),
        cmocka_unit_test(long_gap_forgets_what_was_before_it),
        cmocka_unit_test(numbers_wrap),
        cmocka_unit_test(of_plain_and_reliable_ones_nothing_is_looked_at),
        cmocka_unit_test(what_is_lost_is_what_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
