/* SPDX-License-Identifier: MIT */
/// Routing part for protocols that ask: the ids of the questions under way, and whose they are.
/// [actor]
///
/// An id has bit 31 set; the first one is random, each next one counts up (sp-request-reply-01,
/// sp-surveyor-01). A protocol's state of a context begins with a struct sp_idmap_entry, its
/// instance holds a struct sp_idmap. Nothing is allocated.
#ifndef SP_SDK_IDMAP_H
#define SP_SDK_IDMAP_H

#include <sp/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Marks the id of a question: the last word of a header.
#define SP_ID_BIT 0x80000000U

#define SP_IDMAP_BUCKETS 256 // a power of 2; ids are given one after the other

/// Who asks. Zeroed: asks nothing.
struct sp_idmap_entry {
    struct sp_idmap_entry *chain; ///< of the same bucket
    uint32_t id;                  ///< 0: asks nothing
};

struct sp_idmap {
    struct sp_idmap_entry *bucket[SP_IDMAP_BUCKETS];
    uint32_t last; ///< id that was given
};

static inline void sp_idmap_init(struct sp_idmap *map, const sp_host *host)
{
    map->last = (uint32_t)host->random();
}

/// Who asks the question with this id. NULL: nobody.
static inline struct sp_idmap_entry *sp_idmap_find(const struct sp_idmap *map, uint32_t id)
{
    struct sp_idmap_entry *at = map->bucket[id % SP_IDMAP_BUCKETS];

    while (at != NULL && at->id != id) {
        at = at->chain;
    }
    return at;
}

/// The question is over; harmless when there is none.
static inline void sp_idmap_del(struct sp_idmap *map, struct sp_idmap_entry *entry)
{
    struct sp_idmap_entry **at = &map->bucket[entry->id % SP_IDMAP_BUCKETS];

    if (entry->id == 0) {
        return;
    }
    while (*at != entry) {
        at = &(*at)->chain;
    }
    *at = entry->chain;
    entry->chain = NULL;
    entry->id = 0;
}

/// A new question, in place of the one before: returns its id, which no other one has.
static inline uint32_t sp_idmap_add(struct sp_idmap *map, struct sp_idmap_entry *entry)
{
    struct sp_idmap_entry **bucket;

    sp_idmap_del(map, entry);
    do {
        map->last = (map->last + 1) | SP_ID_BIT;
    } while (sp_idmap_find(map, map->last) != NULL);
    bucket = &map->bucket[map->last % SP_IDMAP_BUCKETS];
    entry->id = map->last;
    entry->chain = *bucket;
    *bucket = entry;
    return entry->id;
}

#ifdef __cplusplus
}
#endif

#endif
