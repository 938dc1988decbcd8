/* SPDX-License-Identifier: MIT */
/// Routing part for protocols: load balancing. A message goes to the peer that has least before it.
/// [actor]
///
/// What a peer has before it is what it was sent and did not write: the credit of its queue that is
/// taken. Of the peers with the best "send-priority" that have room it is one with three quarters
/// of its queue free, in turn; if a look at a few finds none, the one with most room among them. (A
/// pipe tells what it wrote by the quarter: a finer measure would be noise.) Peers without room are
/// set aside until they wrote something. So a choice costs the same for 2 and for 1,000 peers, busy
/// or not.
///
/// A protocol's pipe state begins with a struct sp_balance_peer, its instance holds a struct
/// sp_balance. It calls add in pipe_add, del in pipe_del, ready in on_writable. Nothing is
/// allocated.
#ifndef SP_SDK_BALANCE_H
#define SP_SDK_BALANCE_H

#include <sp/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SP_BALANCE_LEVELS 16 ///< values of "send-priority"
#define SP_BALANCE_LOOKS 8   ///< busy peers that one choice compares

/// One peer: first in the protocol's state of a pipe.
struct sp_balance_peer {
    sp_pipe_ref *ref;
    struct sp_balance_peer *next; ///< of its level, or of those set aside
    struct sp_balance_peer *prev;
    size_t most; ///< the most room that it was seen to have: its queue
    unsigned level;
    bool aside; ///< it had no room
};

/// All of a socket. Zeroed: empty.
struct sp_balance {
    struct sp_balance_peer *turn[SP_BALANCE_LEVELS]; ///< who is next of each level
    struct sp_balance_peer *aside;
    struct sp_balance_peer *only; ///< NULL: there is none, or more than one
    size_t n;
    unsigned levels; ///< a bit for each that is not empty
};

static inline void sp_balance_link(struct sp_balance_peer **list, struct sp_balance_peer *peer)
{
    struct sp_balance_peer *head = *list;

    if (head == NULL) {
        peer->next = peer;
        peer->prev = peer;
        *list = peer;
        return;
    }
    peer->next = head;
    peer->prev = head->prev;
    peer->prev->next = peer;
    head->prev = peer;
}

static inline void sp_balance_unlink(struct sp_balance_peer **list, struct sp_balance_peer *peer)
{
    peer->prev->next = peer->next;
    peer->next->prev = peer->prev;
    if (*list == peer) {
        *list = peer->next != peer ? peer->next : NULL;
    }
}

static inline void sp_balance_enter(struct sp_balance *b, struct sp_balance_peer *peer)
{
    sp_balance_link(&b->turn[peer->level], peer);
    b->levels |= 1U << peer->level;
}

static inline void sp_balance_leave(struct sp_balance *b, struct sp_balance_peer *peer)
{
    sp_balance_unlink(&b->turn[peer->level], peer);
    if (b->turn[peer->level] == NULL) {
        b->levels &= ~(1U << peer->level);
    }
}

/// For pipe_add: a new peer, behind all others of its priority.
static inline void sp_balance_add(struct sp_balance *b, sp_pipe_ref *ref)
{
    struct sp_balance_peer *peer = (struct sp_balance_peer *)ref->state;
    unsigned priority = ref->send_priority;

    peer->ref = ref;
    peer->most = 1;
    peer->level = priority < 1                   ? 0
                  : priority > SP_BALANCE_LEVELS ? SP_BALANCE_LEVELS - 1
                                                 : priority - 1;
    peer->aside = false;
    sp_balance_enter(b, peer);
    b->only = b->n++ == 0 ? peer : NULL;
}

/// For pipe_del.
static inline void sp_balance_del(struct sp_balance *b, sp_pipe_ref *ref)
{
    struct sp_balance_peer *peer = (struct sp_balance_peer *)ref->state;

    if (peer->aside) {
        sp_balance_unlink(&b->aside, peer);
    } else {
        sp_balance_leave(b, peer);
    }
    b->only = NULL;
    if (--b->n == 1) {
        b->only = b->levels != 0 ? b->turn[__builtin_ctz(b->levels)] : b->aside;
    }
}

/// For on_writable: it may have room again.
static inline void sp_balance_ready(struct sp_balance *b, sp_pipe_ref *ref)
{
    struct sp_balance_peer *peer = (struct sp_balance_peer *)ref->state;

    if (peer->aside) {
        peer->aside = false;
        sp_balance_unlink(&b->aside, peer);
        sp_balance_enter(b, peer);
    }
}

/// Looks whether who was set aside has room by now. False: nobody.
static inline bool sp_balance_look_aside(struct sp_balance *b, const sp_host *host)
{
    struct sp_balance_peer *last = b->aside != NULL ? b->aside->prev : NULL;

    for (struct sp_balance_peer *peer = b->aside, *next; peer != NULL; peer = next) {
        next = peer != last ? peer->next : NULL;
        if (host->pipe_room(peer->ref) > 0) {
            sp_balance_ready(b, peer->ref);
        }
    }
    return b->levels != 0;
}

/// The best of one level; those without room are set aside. NULL: all were.
static inline struct sp_balance_peer *sp_balance_best(struct sp_balance *b, const sp_host *host,
                                                      unsigned level)
{
    struct sp_balance_peer *peer = b->turn[level];
    struct sp_balance_peer *first = NULL;
    struct sp_balance_peer *best = NULL;
    size_t most = 0;

    for (unsigned looks = 0; peer != first && looks < SP_BALANCE_LOOKS;) {
        struct sp_balance_peer *next = peer->next;
        size_t room = host->pipe_room(peer->ref);

        if (room == 0) {
            sp_balance_leave(b, peer);
            sp_balance_link(&b->aside, peer);
            peer->aside = true;
            if (b->turn[level] == NULL) {
                return NULL;
            }
            peer = next;
            continue;
        }
        peer->most = room > peer->most ? room : peer->most;
        if (4 * room > 3 * peer->most) {
            return peer;
        }
        if (room > most) {
            most = room;
            best = peer;
        }
        first = first == NULL ? peer : first;
        peer = next;
        looks++;
    }
    return best;
}

/// The peer that is to have the next message. NULL: none has room.
static inline sp_pipe_ref *sp_balance_choose(struct sp_balance *b, const sp_host *host)
{
    struct sp_balance_peer *best = NULL;

    while (best == NULL) {
        unsigned level;

        if (b->levels == 0 && !sp_balance_look_aside(b, host)) {
            return NULL;
        }
        level = (unsigned)__builtin_ctz(b->levels);
        best = sp_balance_best(b, host, level);
        if (best != NULL) {
            b->turn[level] = best->next;
        }
    }
    return best->ref;
}

/// The peer, if there is just one: it needs no choice, pipe_send says whether it has room. Else
/// NULL.
static inline sp_pipe_ref *sp_balance_only(const struct sp_balance *b)
{
    return b->only != NULL ? b->only->ref : NULL;
}

#ifdef __cplusplus
}
#endif

#endif
