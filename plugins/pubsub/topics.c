/* SPDX-License-Identifier: MIT */
/// See topics.h. A link is in two lists: that of its topic and that of its member.
#include "topics.h"

#include <stdlib.h>
#include <string.h>

struct topic_link {
    struct topic *topic;
    struct topic_member *member;
    struct topic_link *next; ///< of the topic
    struct topic_link *prev;
    struct topic_link *more; ///< of the member
    struct topic_link *less;
};

/* ------------------------------------------------------------------ Topics and links */

/// A topic that nobody wants yet. NULL: no memory.
static struct topic *topic_new(struct topics *topics, const void *key, size_t n)
{
    struct topic *topic = malloc(sizeof(*topic) + n);

    if (topic == NULL || sp_trie_put(&topics->trie, key, n, topic) != SP_OK) {
        free(topic);
        return NULL;
    }
    topic->next = NULL;
    topic->prev = topics->last;
    topic->links = NULL;
    topic->number = ++topics->number;
    topic->len = n;
    if (n > 0) {
        memcpy(topic->bytes, key, n);
    }
    *(topics->last != NULL ? &topics->last->next : &topics->first) = topic;
    topics->last = topic;
    return topic;
}

static void topic_free(struct topics *topics, struct topic *topic)
{
    *(topic->prev != NULL ? &topic->prev->next : &topics->first) = topic->next;
    *(topic->next != NULL ? &topic->next->prev : &topics->last) = topic->prev;
    (void)sp_trie_take(&topics->trie, topic->bytes, topic->len);
    free(topic);
}

static struct topic_link *topic_find(const struct topic *topic, const struct topic_member *member)
{
    struct topic_link *link = topic->links;

    while (link != NULL && link->member != member) {
        link = link->next;
    }
    return link;
}

static void link_add(struct topic_link *link, struct topic *topic, struct topic_member *member)
{
    *link = (struct topic_link){
        .topic = topic, .member = member, .next = topic->links, .more = member->links};
    if (link->next != NULL) {
        link->next->prev = link;
    }
    if (link->more != NULL) {
        link->more->less = link;
    }
    topic->links = link;
    member->links = link;
}

/// With the topic, if it was the last one of it.
static void link_remove(struct topics *topics, struct topic_link *link)
{
    struct topic *topic = link->topic;

    *(link->prev != NULL ? &link->prev->next : &topic->links) = link->next;
    if (link->next != NULL) {
        link->next->prev = link->prev;
    }
    *(link->less != NULL ? &link->less->more : &link->member->links) = link->more;
    if (link->more != NULL) {
        link->more->less = link->less;
    }
    free(link);
    if (topic->links == NULL) {
        if (topics->gone != NULL) {
            topics->gone(topics, topic);
        }
        topic_free(topics, topic);
    }
}

/* ------------------------------------------------------------------ Members */

int topics_add(struct topics *topics, struct topic_member *member, const void *key, size_t n)
{
    struct topic *topic = sp_trie_get(&topics->trie, key, n);
    bool fresh = topic == NULL;
    struct topic_link *link;

    if (!fresh && topic_find(topic, member) != NULL) {
        return -EEXIST;
    }
    link = malloc(sizeof(*link));
    if (link != NULL && fresh) {
        topic = topic_new(topics, key, n);
    }
    if (link == NULL || topic == NULL) {
        free(link);
        return SP_ENOMEM;
    }
    link_add(link, topic, member);
    return fresh ? 1 : 0;
}

int topics_remove(struct topics *topics, struct topic_member *member, const void *key, size_t n)
{
    struct topic *topic = sp_trie_get(&topics->trie, key, n);
    struct topic_link *link = topic != NULL ? topic_find(topic, member) : NULL;

    if (link == NULL) {
        return -ENOENT;
    }
    link_remove(topics, link);
    return SP_OK;
}

void topics_leave(struct topics *topics, struct topic_member *member)
{
    for (struct topic_link *link = member->links, *more; link != NULL; link = more) {
        more = link->more;
        link_remove(topics, link);
    }
}

struct topic_member *topics_match(struct topics *topics, const void *data, size_t len)
{
    struct sp_trie_walk walk = sp_trie_match(&topics->trie, data, len);
    struct topic_member *hits = NULL;
    const struct topic *topic;

    topics->round++;
    while ((topic = sp_trie_next(&walk)) != NULL) {
        for (const struct topic_link *link = topic->links; link != NULL; link = link->next) {
            struct topic_member *member = link->member;

            if (member->round != topics->round) {
                member->round = topics->round;
                member->hit = hits;
                hits = member;
            }
        }
    }
    return hits;
}
