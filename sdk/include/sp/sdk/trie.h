/* SPDX-License-Identifier: MIT */
/// Routing part for protocols: keys of bytes, and which of them a message begins with. A radix
/// tree: what keys have in common is stored once, and looked at once, so that a match costs what
/// the keys on its way are long, however many others there are. Whoever owns it calls one function
/// at a time; no function recurses.
///
/// Each key has a value, a pointer that is not NULL. The keys are copied.
#ifndef SP_SDK_TRIE_H
#define SP_SDK_TRIE_H

#include <stddef.h>

#include <sp/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sp_trie_node;

/// Zeroed: empty.
struct sp_trie {
    struct sp_trie_node *root; ///< NULL: no keys
    size_t count;              ///< keys
};

/// Gives a key its value, in place of the one that it had. SP_ENOMEM: nothing changed.
SP_NODISCARD int sp_trie_put(struct sp_trie *trie, const void *key, size_t n, void *value);

/// The value of a key; NULL: no such key.
void *sp_trie_get(struct sp_trie *trie, const void *key, size_t n);

/// Takes a key out and returns its value; NULL: no such key. Cannot fail for lack of memory.
void *sp_trie_take(struct sp_trie *trie, const void *key, size_t n);

/// Takes all keys out; `drop` (may be NULL) is called with each value, in no order.
void sp_trie_clear(struct sp_trie *trie, void (*drop)(void *value, void *arg), void *arg);

/// A match under way: the keys that `data` begins with. Valid as long as the trie does not change.
struct sp_trie_walk {
    const struct sp_trie_node *node; ///< looked at next; NULL: over
    const unsigned char *at;         ///< the bytes that are left
    size_t left;
    size_t visited; ///< nodes that were looked at
};

static inline struct sp_trie_walk sp_trie_match(const struct sp_trie *trie, const void *data,
                                                size_t n)
{
    struct sp_trie_walk walk = {trie->root, (const unsigned char *)data, n, 0};

    return walk;
}

/// The value of the next key, the shortest one first. NULL: there is no other.
void *sp_trie_next(struct sp_trie_walk *walk);

#ifdef __cplusplus
}
#endif

#endif
