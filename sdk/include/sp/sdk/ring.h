/* SPDX-License-Identifier: MIT */
/// Routing parts for protocols: the peers of a socket in a ring, whose turn it is (load balancing),
/// and a copy for each (fan-out). [actor]
///
/// A protocol's pipe state begins with a struct sp_ring_peer, its instance holds a struct sp_ring.
/// Nothing is allocated.
#ifndef SP_SDK_RING_H
#define SP_SDK_RING_H

#include <sp/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/// One peer: first in the protocol's state of a pipe.
struct sp_ring_peer {
    sp_pipe_ref *ref;
    struct sp_ring_peer *next;
    struct sp_ring_peer *prev;
};

/// All of a socket. Zeroed: empty.
struct sp_ring {
    struct sp_ring_peer *turn; ///< who is next; NULL: no peers
    size_t n;
    uint8_t first; ///< no peer has a lower "send-priority"
};

/// For pipe_add: a new peer, behind all others.
static inline void sp_ring_add(struct sp_ring *ring, sp_pipe_ref *ref)
{
    struct sp_ring_peer *peer = (struct sp_ring_peer *)ref->state;

    peer->ref = ref;
    peer->next = peer;
    peer->prev = peer;
    if (ring->turn != NULL) {
        peer->next = ring->turn;
        peer->prev = ring->turn->prev;
        peer->prev->next = peer;
        peer->next->prev = peer;
    } else {
        ring->turn = peer;
    }
    if (ring->n++ == 0 || ref->send_priority < ring->first) {
        ring->first = ref->send_priority;
    }
}

/// For pipe_del.
static inline void sp_ring_del(struct sp_ring *ring, sp_pipe_ref *ref)
{
    struct sp_ring_peer *peer = (struct sp_ring_peer *)ref->state;

    peer->prev->next = peer->next;
    peer->next->prev = peer->prev;
    if (ring->turn == peer) {
        ring->turn = peer->next != peer ? peer->next : NULL;
    }
    ring->n--;
}

/// The peer with room whose turn it is; of several "send-priority" values the first one that has
/// any. NULL: none has room. For few messages a peer; sp/sdk/balance.h is for work.
static inline sp_pipe_ref *sp_ring_choose(struct sp_ring *ring, const sp_host *host)
{
    struct sp_ring_peer *best = NULL;
    struct sp_ring_peer *peer = ring->turn;
    uint8_t first = UINT8_MAX;

    for (size_t i = 0; i < ring->n; i++, peer = peer->next) {
        uint8_t priority = peer->ref->send_priority;

        first = priority < first ? priority : first;
        if ((best == NULL || priority < best->ref->send_priority) &&
            host->pipe_room(peer->ref) > 0) {
            best = peer;
            if (priority == ring->first) {
                ring->turn = best->next;
                return best->ref;
            }
        }
    }
    ring->first = first; // All were looked at.
    if (best == NULL) {
        return NULL;
    }
    ring->turn = best->next;
    return best->ref;
}

/// Whether a message may be fanned out now: with the policy SP_OVERFLOW_BLOCK every peer has to
/// have room.
static inline bool sp_ring_open(const struct sp_ring *ring, const sp_host *host,
                                const sp_sock_ref *sock)
{
    const struct sp_ring_peer *peer = ring->turn;

    if (host->overflow(sock) != SP_OVERFLOW_BLOCK) {
        return true;
    }
    for (size_t i = 0; i < ring->n; i++, peer = peer->next) {
        if (host->pipe_room(peer->ref) == 0) {
            return false;
        }
    }
    return true;
}

/// Sends to every peer but `except` (NULL: to all): copies that share the body, the last one gets
/// `m` itself. What finds no room is dropped by the policy; nobody there: SP_DISCARD_NO_PEER.
/// Without memory for a copy that peer misses the message. Always takes `m`.
static inline void sp_ring_fan_out(struct sp_ring *ring, const sp_host *host, sp_sock_ref *sock,
                                   sp_msg *m, const sp_pipe_ref *except)
{
    struct sp_ring_peer *peer = ring->turn;
    sp_pipe_ref *last = NULL;

    for (size_t i = 0; i < ring->n; i++, peer = peer->next) {
        if (peer->ref == except) {
            continue;
        }
        if (last != NULL) {
            host->pipe_offer_copy(last, m);
        }
        last = peer->ref;
    }
    if (last != NULL) {
        host->pipe_offer(last, m);
    } else {
        host->discard_out(sock, m, SP_DISCARD_NO_PEER);
    }
}

#ifdef __cplusplus
}
#endif

#endif
