/* SPDX-License-Identifier: MIT */
/// See sp/sdk/trie.h. A node stands for the bytes of its label, behind the byte by which its parent
/// chose it. The choice costs the same with 2 and with 256 kids: a bit a byte, and as many set bits
/// as there are in front of it are the kid's place.
#include <sp/sdk/trie.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TRIE_WORDS 4 // of 64 bits: one bit for each value of a byte
#define TRIE_KIDS 2  // room in front

struct trie_kids {
    uint64_t bits[TRIE_WORDS];
    uint8_t before[TRIE_WORDS]; ///< kids of the words in front
    uint16_t n;
    uint16_t cap;
    struct sp_trie_node *at[]; ///< in the order of their bytes
};

struct sp_trie_node {
    void *value;            ///< NULL: no key ends here
    struct trie_kids *kids; ///< NULL: none
    size_t len;
    unsigned char label[];
};

/* ------------------------------------------------------------------ Nodes */

static struct sp_trie_node *node_new(const unsigned char *label, size_t len)
{
    struct sp_trie_node *node = calloc(1, sizeof(*node) + len);

    if (node != NULL) {
        node->len = len;
        memcpy(node->label, label, len);
    }
    return node;
}

static size_t kids_place(const struct trie_kids *kids, unsigned char byte)
{
    uint64_t below = kids->bits[byte >> 6] & ((UINT64_C(1) << (byte & 63)) - 1);

    return kids->before[byte >> 6] + (size_t)__builtin_popcountll(below);
}

static bool kids_has(const struct trie_kids *kids, unsigned char byte)
{
    return (kids->bits[byte >> 6] >> (byte & 63) & 1) != 0;
}

/// Where the kid of a byte is; NULL: there is none.
static struct sp_trie_node **node_kid(const struct sp_trie_node *node, unsigned char byte)
{
    struct trie_kids *kids = node->kids;

    return kids != NULL && kids_has(kids, byte) ? &kids->at[kids_place(kids, byte)] : NULL;
}

/// Notes that there is a kid of a byte, or that there is none any more.
static void kids_note(struct trie_kids *kids, unsigned char byte, bool there)
{
    kids->bits[byte >> 6] ^= UINT64_C(1) << (byte & 63);
    for (unsigned word = (byte >> 6) + 1U; word < TRIE_WORDS; word++) {
        kids->before[word] = (uint8_t)(kids->before[word] + (there ? 1 : -1));
    }
    kids->n = (uint16_t)(kids->n + (there ? 1 : -1));
}

/// Room for one more kid. False: no memory.
static bool node_widen(struct sp_trie_node *node)
{
    struct trie_kids *kids = node->kids;
    size_t cap = kids == NULL ? TRIE_KIDS : (size_t)kids->cap * 2;

    if (kids != NULL && kids->n < kids->cap) {
        return true;
    }
    kids = realloc(kids, sizeof(*kids) + cap * sizeof(struct sp_trie_node *));
    if (kids == NULL) {
        return false;
    }
    if (node->kids == NULL) {
        memset(kids, 0, sizeof(*kids));
    }
    kids->cap = (uint16_t)cap;
    node->kids = kids;
    return true;
}

/// A kid of a byte that has none yet; there is room for it.
static void node_add(struct sp_trie_node *node, unsigned char byte, struct sp_trie_node *kid)
{
    struct trie_kids *kids = node->kids;
    size_t place = kids_place(kids, byte);

    memmove(&kids->at[place + 1], &kids->at[place],
            (kids->n - place) * sizeof(struct sp_trie_node *));
    kids->at[place] = kid;
    kids_note(kids, byte, true);
}

static void node_remove(struct sp_trie_node *node, unsigned char byte)
{
    struct trie_kids *kids = node->kids;
    size_t place = kids_place(kids, byte);

    kids_note(kids, byte, false);
    memmove(&kids->at[place], &kids->at[place + 1],
            (kids->n - place) * sizeof(struct sp_trie_node *));
    if (kids->n == 0) {
        free(kids);
        node->kids = NULL;
    }
}

/// Puts a node in front of `*at` that takes over the first `len` bytes of its label. NULL: no
/// memory, nothing changed.
static struct sp_trie_node *node_split(struct sp_trie_node **at, size_t len)
{
    struct sp_trie_node *lower = *at;
    struct sp_trie_node *upper = node_new(lower->label, len);

    if (upper == NULL || !node_widen(upper)) {
        free(upper);
        return NULL;
    }
    node_add(upper, lower->label[len], lower);
    lower->len -= len + 1;
    memmove(lower->label, lower->label + len + 1, lower->len);
    *at = upper;
    return upper;
}

/// Where no key ends and there is but one kid: that takes its place. Without memory all stays as it
/// is, which is right too.
static void node_merge(struct sp_trie_node **at)
{
    struct sp_trie_node *node = *at;
    struct sp_trie_node *kid;
    unsigned byte = 0;

    if (node->value != NULL || node->kids == NULL || node->kids->n != 1) {
        return;
    }
    kid = node->kids->at[0];
    kid = realloc(kid, sizeof(*kid) + node->len + 1 + kid->len);
    if (kid == NULL) {
        return;
    }
    while (!kids_has(node->kids, (unsigned char)byte)) {
        byte++;
    }
    memmove(kid->label + node->len + 1, kid->label, kid->len);
    memcpy(kid->label, node->label, node->len);
    kid->label[node->len] = (unsigned char)byte;
    kid->len += node->len + 1;
    *at = kid;
    free(node->kids);
    free(node);
}

/* ------------------------------------------------------------------ Keys */

/// How many bytes of a label a key has in common with it.
static size_t node_common(const struct sp_trie_node *node, const unsigned char *key, size_t n)
{
    size_t i = 0;

    while (i < node->len && i < n && node->label[i] == key[i]) {
        i++;
    }
    return i;
}

/// The node in which the key ends, made if need be. NULL: no memory.
static struct sp_trie_node *trie_grow(struct sp_trie *trie, const unsigned char *key, size_t n)
{
    struct sp_trie_node **at = &trie->root;

    while (*at != NULL) {
        struct sp_trie_node *node = *at;
        size_t common = node_common(node, key, n);
        struct sp_trie_node *kid;

        if (common < node->len) {
            node = node_split(at, common);
        }
        if (node == NULL || common == n) {
            return node;
        }
        key += common;
        n -= common;
        at = node_kid(node, *key);
        if (at == NULL) {
            kid = node_widen(node) ? node_new(key + 1, n - 1) : NULL;
            if (kid != NULL) {
                node_add(node, *key, kid);
            }
            return kid;
        }
        key++;
        n--;
    }
    *at = node_new(key, n);
    return *at;
}

/// The node in which the key ends, with the places of it and of its parent. NULL: none.
static struct sp_trie_node *trie_find(struct sp_trie *trie, const unsigned char *key, size_t n,
                                      struct sp_trie_node ***at, struct sp_trie_node ***above)
{
    *at = &trie->root;
    *above = NULL;
    while (*at != NULL && **at != NULL) {
        struct sp_trie_node *node = **at;

        if (node->len > n || memcmp(node->label, key, node->len) != 0) {
            return NULL;
        }
        key += node->len;
        n -= node->len;
        if (n == 0) {
            return node->value != NULL ? node : NULL;
        }
        *above = *at;
        *at = node_kid(node, *key);
        key++;
        n--;
    }
    return NULL;
}

int sp_trie_put(struct sp_trie *trie, const void *key, size_t n, void *value)
{
    struct sp_trie_node *node = trie_grow(trie, n > 0 ? key : "", n);

    if (node == NULL) {
        return SP_ENOMEM;
    }
    trie->count += node->value == NULL;
    node->value = value;
    return SP_OK;
}

void *sp_trie_get(struct sp_trie *trie, const void *key, size_t n)
{
    struct sp_trie_node **at;
    struct sp_trie_node **above;
    const struct sp_trie_node *node = trie_find(trie, n > 0 ? key : "", n, &at, &above);

    return node != NULL ? node->value : NULL;
}

void *sp_trie_take(struct sp_trie *trie, const void *key, size_t n)
{
    struct sp_trie_node **at;
    struct sp_trie_node **above;
    struct sp_trie_node *node = trie_find(trie, n > 0 ? key : "", n, &at, &above);
    void *value;

    if (node == NULL) {
        return NULL;
    }
    value = node->value;
    node->value = NULL;
    trie->count--;
    if (node->kids != NULL) {
        node_merge(at);
        return value;
    }
    if (above == NULL) {
        trie->root = NULL;
    } else {
        // The byte by which it was chosen is the last one in front of its label.
        node_remove(*above, ((const unsigned char *)key)[n - node->len - 1]);
        node_merge(above);
    }
    free(node);
    return value;
}

/// Hands a node's value out, and puts the node on a list, linked by that field.
static void clear_push(struct sp_trie_node **list, struct sp_trie_node *node,
                       void (*drop)(void *value, void *arg), void *arg)
{
    if (node->value != NULL && drop != NULL) {
        drop(node->value, arg);
    }
    node->value = *list;
    *list = node;
}

void sp_trie_clear(struct sp_trie *trie, void (*drop)(void *value, void *arg), void *arg)
{
    struct sp_trie_node *list = NULL;

    if (trie->root != NULL) {
        clear_push(&list, trie->root, drop, arg);
    }
    while (list != NULL) {
        struct sp_trie_node *node = list;

        list = node->value;
        for (size_t i = 0; node->kids != NULL && i < node->kids->n; i++) {
            clear_push(&list, node->kids->at[i], drop, arg);
        }
        free(node->kids);
        free(node);
    }
    trie->root = NULL;
    trie->count = 0;
}

/* ------------------------------------------------------------------ Matching */

void *sp_trie_next(struct sp_trie_walk *walk)
{
    while (walk->node != NULL) {
        const struct sp_trie_node *node = walk->node;
        struct sp_trie_node **kid;

        walk->visited++;
        walk->node = NULL;
        if (node->len > walk->left ||
            (node->len > 0 && memcmp(node->label, walk->at, node->len) != 0)) {
            return NULL;
        }
        walk->at += node->len;
        walk->left -= node->len;
        if (walk->left > 0) {
            kid = node_kid(node, *walk->at);
            walk->node = kid != NULL ? *kid : NULL;
            walk->at++;
            walk->left--;
        }
        if (node->value != NULL) {
            return node->value;
        }
    }
    return NULL;
}
