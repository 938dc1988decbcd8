/* SPDX-License-Identifier: MIT */
/// The trie of the SDK: against a plain list, at every size, and what a match costs.
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sp/sdk/trie.h>

static uint64_t random_state;

static unsigned any(unsigned below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(random_state >> 33) % below;
}

/* ------------------------------------------------------------------ Against a list */

#define KEYS 64
#define KEY_MAX 24

struct key {
    size_t len;
    bool there;
    unsigned char bytes[KEY_MAX];
};

static struct key keys[KEYS];

/// Keys of few letters, so that most have something in common, some the same; all bytes occur.
static void make_keys(void)
{
    static const unsigned char letters[] = {'a', 'b', 0, 0xFF};

    for (int i = 0; i < KEYS; i++) {
        keys[i].len = any(3) == 0 ? any(KEY_MAX) : any(5);
        keys[i].there = false;
        for (size_t j = 0; j < keys[i].len; j++) {
            keys[i].bytes[j] = any(8) == 0 ? (unsigned char)any(256)
                                           : letters[any(sizeof(letters))];
        }
    }
}

static bool same(const struct key *a, const struct key *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

/// The place of the key that stands for all that are equal to it.
static int first_of(int k)
{
    int i = 0;

    while (!same(&keys[i], &keys[k])) {
        i++;
    }
    return i;
}

/// What matches `data`: exactly the keys that it begins with, from the shortest on.
static void match_is_right(const struct sp_trie *trie, const unsigned char *data, size_t n)
{
    struct sp_trie_walk walk = sp_trie_match(trie, data, n);
    const struct key *hit;
    size_t hits = 0;
    size_t want = 0;
    size_t len = 0;

    while ((hit = sp_trie_next(&walk)) != NULL) {
        assert_true(hit->there && hit->len <= n && memcmp(hit->bytes, data, hit->len) == 0);
        assert_true(hits == 0 || hit->len > len);
        len = hit->len;
        hits++;
    }
    assert_null(sp_trie_next(&walk));
    for (int i = 0; i < KEYS; i++) {
        want += keys[i].there && keys[i].len <= n && memcmp(keys[i].bytes, data, keys[i].len) == 0;
    }
    assert_int_equal(hits, want);
}

static void step(struct sp_trie *trie)
{
    struct key *key = &keys[first_of((int)any(KEYS))];
    bool there = key->there;

    if (any(2) == 0) {
        assert_int_equal(sp_trie_put(trie, key->bytes, key->len, key), SP_OK);
        key->there = true;
    } else {
        assert_ptr_equal(sp_trie_take(trie, key->bytes, key->len), there ? key : NULL);
        key->there = false;
    }
    assert_ptr_equal(sp_trie_get(trie, key->bytes, key->len), key->there ? key : NULL);
}

static void holds_what_a_list_holds(void **state)
{
    (void)state;
    for (random_state = 1; random_state < 60; random_state++) {
        uint64_t seed = random_state;
        struct sp_trie trie = {NULL, 0};

        make_keys();
        for (int i = 0; i < 1500; i++) {
            const struct key *key = &keys[any(KEYS)];
            unsigned char data[KEY_MAX + 4] = {0};
            size_t count = 0;

            step(&trie);
            memcpy(data, key->bytes, key->len);
            match_is_right(&trie, data, key->len + any(4));
            for (int k = 0; k < KEYS; k++) {
                count += keys[k].there;
            }
            assert_int_equal(trie.count, count);
        }
        for (int k = 0; k < KEYS; k++) {
            assert_ptr_equal(sp_trie_take(&trie, keys[k].bytes, keys[k].len),
                             keys[k].there ? &keys[k] : NULL);
        }
        assert_null(trie.root);
        random_state = seed;
    }
}

static void count_drop(void *value, void *arg)
{
    assert_non_null(value);
    ++*(size_t *)arg;
}

static void clear_hands_out_every_value(void **state)
{
    struct sp_trie trie = {NULL, 0};
    size_t dropped = 0;

    (void)state;
    sp_trie_clear(&trie, count_drop, &dropped);
    assert_int_equal(dropped, 0);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(sp_trie_put(&trie, &i, i % 5, &trie), SP_OK);
    }
    sp_trie_clear(&trie, count_drop, &dropped);
    assert_true(dropped > 250);
    assert_null(trie.root);
    assert_int_equal(trie.count, 0);
}

static void all_bytes_branch(void **state)
{
    struct sp_trie trie = {NULL, 0};
    unsigned char value[256];

    (void)state;
    for (unsigned i = 0; i < 256; i++) {
        unsigned char key[2] = {'x', (unsigned char)(i * 37)};

        assert_int_equal(sp_trie_put(&trie, key, 2, &value[key[1]]), SP_OK);
    }
    for (unsigned i = 0; i < 256; i++) {
        unsigned char key[2] = {'x', (unsigned char)i};

        assert_ptr_equal(sp_trie_get(&trie, key, 2), &value[i]);
        if (i % 3 != 0) {
            assert_ptr_equal(sp_trie_take(&trie, key, 2), &value[i]);
        }
    }
    for (unsigned i = 0; i < 256; i++) {
        unsigned char key[2] = {'x', (unsigned char)i};

        assert_ptr_equal(sp_trie_get(&trie, key, 2), i % 3 == 0 ? &value[i] : NULL);
    }
    sp_trie_clear(&trie, NULL, NULL);
}

/* ------------------------------------------------------------------ Long keys */

#define LONG 100000

/// A key at every length: a node each, one below the other. Nothing recurses, so that the stack is
/// the same at any depth.
static void depth_costs_no_stack(void **state)
{
    struct sp_trie trie = {NULL, 0};
    unsigned char *key = calloc(1, LONG);
    struct sp_trie_walk walk;
    size_t hits = 0;

    (void)state;
    assert_non_null(key);
    for (size_t n = 1000; n-- > 0;) {
        assert_int_equal(sp_trie_put(&trie, key, n * (LONG / 1000), key), SP_OK);
    }
    walk = sp_trie_match(&trie, key, LONG);
    while (sp_trie_next(&walk) != NULL) {
        hits++;
    }
    assert_int_equal(hits, 1000);
    key[LONG / 2] = 1;
    walk = sp_trie_match(&trie, key, LONG);
    for (hits = 0; sp_trie_next(&walk) != NULL; hits++) {
    }
    assert_int_equal(hits, 501);
    sp_trie_clear(&trie, NULL, NULL);
    free(key);
}

/* ------------------------------------------------------------------ Cost */

typedef size_t (*name_fn)(char *name, unsigned i, unsigned of);

/// Numbers as they are given out.
static size_t name_number(char *name, unsigned i, unsigned of)
{
    (void)of;
    return (size_t)snprintf(name, 64, "sensor/%06u/temperature", i);
}

static size_t name_word(char *name, unsigned i, unsigned of)
{
    (void)of;
    for (int j = 0; j < 12; j++) {
        i = i * 2654435761U + 12345;
        name[j] = (char)('a' + (i >> 24) % 26);
    }
    return 12;
}

/// A hierarchy of three levels of about the same width.
static size_t name_level(char *name, unsigned i, unsigned of)
{
    unsigned wide = of > 100 ? 50 : 5;

    return (size_t)snprintf(name, 64, "plant%u/line%u/machine%u", i % wide, i / wide % wide,
                            i / (wide * wide));
}

/// Nodes that are looked at in a match of a message of each topic, at most.
static size_t nodes_of(name_fn fn, unsigned n)
{
    struct sp_trie trie = {NULL, 0};
    size_t most = 0;
    char name[80];

    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(sp_trie_put(&trie, name, fn(name, i, n), &trie), SP_OK);
    }
    for (unsigned i = 0; i < n; i++) {
        size_t len = fn(name, i, n);
        struct sp_trie_walk walk;

        memcpy(name + len, "= 17", 4);
        walk = sp_trie_match(&trie, name, len + 4);
        assert_non_null(sp_trie_next(&walk));
        while (sp_trie_next(&walk) != NULL) {
        }
        most = walk.visited > most ? walk.visited : most;
    }
    sp_trie_clear(&trie, NULL, NULL);
    return most;
}

/// A thousand times as many topics: the nodes on the way grow with their logarithm. In instructions
/// it is less, since a match has other costs: doc/prd/protocols/pub-sub.md.
static void a_match_looks_at_few_nodes(void **state)
{
    static const name_fn names[] = {name_number, name_word, name_level};

    (void)state;
    for (int i = 0; i < 3; i++) {
        size_t few = nodes_of(names[i], 100);
        size_t many = nodes_of(names[i], 100000);

        print_message("nodes of a match at 100 topics: %zu, at 100,000: %zu\n", few, many);
        assert_true(many <= 2 * few);
        assert_true(many <= 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_what_a_list_holds),    cmocka_unit_test(clear_hands_out_every_value),
        cmocka_unit_test(all_bytes_branch),           cmocka_unit_test(depth_costs_no_stack),
        cmocka_unit_test(a_match_looks_at_few_nodes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
