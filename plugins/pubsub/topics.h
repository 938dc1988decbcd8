/* SPDX-License-Identifier: MIT */
/// Who wants what: topics (prefixes of messages), each with the members that want it. The members
/// of a SUB are its contexts, those of a PUB its peers. [actor]
#ifndef SP_PLUGINS_PUBSUB_TOPICS_H
#define SP_PLUGINS_PUBSUB_TOPICS_H

#include <stdbool.h>
#include <stdint.h>

#include <sp/sdk/trie.h>

struct topic_link; ///< that one member wants one topic

struct topic {
    struct topic *next; ///< in the order in which they began to be wanted
    struct topic *prev;
    struct topic_link *links; ///< who wants it
    uint64_t number;          ///< grows in that order
    size_t len;
    unsigned char bytes[];
};

/// One who wants topics. Zeroed: nothing.
struct topic_member {
    struct topic_link *links;
    struct topic_member *hit; ///< the next one in what topics_match found
    uint64_t round;           ///< of the match that found it last
};

/// Zeroed: empty.
struct topics {
    struct sp_trie trie; ///< of struct topic
    struct topic *first;
    struct topic *last;
    uint64_t number; ///< of the last one
    uint64_t round;  ///< of the last match
    /// A topic is wanted no more; it is freed after the call. NULL: nobody needs to know.
    void (*gone)(struct topics *topics, struct topic *topic);
};

/// A member wants a topic. 1: it is a new topic, the last one; 0: others want it too; -EEXIST: this
/// one did already; SP_ENOMEM.
int topics_add(struct topics *topics, struct topic_member *member, const void *key, size_t n);

/// A member wants a topic no more. SP_OK; -ENOENT: it did not.
int topics_remove(struct topics *topics, struct topic_member *member, const void *key, size_t n);

/// A member wants nothing any more.
void topics_leave(struct topics *topics, struct topic_member *member);

/// The members that want a message of this body, each once, linked by `hit`.
struct topic_member *topics_match(struct topics *topics, const void *data, size_t len);

#endif
