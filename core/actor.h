/* SPDX-License-Identifier: MIT */
/// Actors: a mailbox and what handles its nodes, serially, on changing threads.
///
/// The mailbox is one word that holds the mailbox and the scheduling state together:
/// - SP__IDLE: nobody runs the actor and nothing is posted.
/// - NULL: the actor is scheduled or runs, and nothing is posted since the last drain.
/// - a list: the actor is scheduled or runs, and these nodes are posted, newest first.
///
/// Invariant: exactly one thread (or queue) owns an actor that is not SP__IDLE. The push that finds
/// SP__IDLE takes over the ownership and must schedule it; the owner gives it up with a
/// compare-and-swap of NULL to SP__IDLE, which fails when something was posted meanwhile. There is
/// no half-linked state, so no consumer ever waits for a producer. What is posted to an idle actor
/// needs no list: who takes the ownership leaves it in `hand`, which comes before all that is
/// posted later. Pairing: push is release (the node's content) and acquire (what the last owner
/// did); drain is acquire; going idle is release. Pushes are read-modify-writes, so each continues
/// the release sequence of those below it.
#ifndef SP_CORE_ACTOR_H
#define SP_CORE_ACTOR_H

#include "object.h"
#include "slot.h"
#include "thread.h"

#include <sp/plugin.h>

#include <stdatomic.h>
#include <stdbool.h>

/// What is posted: the first two words of a message, or an event. Accessed under both types.
struct sp__node {
    struct sp__node *next;
    _Atomic(struct sp__port *) port; ///< of an event: NULL as long as it is not posted
} __attribute__((may_alias));

/// Where a node is for: consecutive nodes of one port are handled in one call. Messages come as a
/// batch.
struct sp__port {
    void (*handle)(struct sp__port *port, sp_batch *nodes);
};

struct sp__actor {
    _Atomic(struct sp__node *) inbox;
    struct sp__actor *link;   ///< in the run queue that owns it
    struct sp__object *owner; ///< held while not idle
    struct sp__node *hand;    ///< the owner's: what it was taken over with, oldest first
    bool user_code;           ///< calls the user: runs on workers only, never in place
    bool dedicated;           ///< … on a thread of its own (app_thread.c); the owner's
    bool more;         ///< what follows in this visit is for a port of the same kind; likewise
    atomic_uchar slot; ///< enum sp__slot: what it called last
};

/// The actor is about to call a function that is not the core's. The owner's. Relaxed: who finds it
/// there much later sees it.
static inline void sp__slot(struct sp__actor *a, enum sp__slot slot)
{
    atomic_store_explicit(&a->slot, (unsigned char)slot, memory_order_relaxed);
}

#define SP__IDLE ((struct sp__node *)1)

/// Something that happens to an object, posted to an actor: embedded, so that a post needs no
/// memory and cannot fail. Posting it again before it was handled does nothing; its handler sees
/// all that was written before any of the posts.
struct sp__event {
    struct sp__node node;
    struct sp__actor *actor;
    struct sp__object
        *owner; ///< held while posted; NULL: the actor's own object, which the actor holds
    void (*handle)(struct sp__event *ev);
};

void sp__actor_init(struct sp__actor *a, struct sp__object *owner, bool user_code);
void sp__event_init(struct sp__event *ev, struct sp__actor *a, struct sp__object *owner,
                    void (*handle)(struct sp__event *ev));

/// Posts a chain of messages, all with the same port, first to last in the order of the batch,
/// which is left empty.
void sp__post_batch(struct sp__actor *a, struct sp__port *port, sp_batch *batch);
/// The same for one message, whose `next` is NULL.
void sp__post_one(struct sp__actor *a, struct sp__port *port, sp_msg *m);
void sp__post(struct sp__event *ev);
/// How often that was done: a batch is one, an event that is posted already none. Exact at rest.
uint64_t sp__posts(void);

/// The struct that contains a member.
#define SP__CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/// Relaxed: of an event it is what it was when that was pushed; others who post it write the same.
static inline struct sp__port *sp__node_port(const struct sp__node *n)
{
    return atomic_load_explicit((_Atomic(struct sp__port *) *)(uintptr_t)&n->port,
                                memory_order_relaxed);
}

/// Behind sp__actor_run: handles any number of nodes.
void sp__actor_visit(struct sp__actor *a);

/// Runs an actor that the caller owns: one drain. True: it is not idle, and still the caller's. The
/// watchdog sees what `t` runs (NULL: it shall not).
static inline bool sp__actor_run(struct sp__thread *t, struct sp__actor *a)
{
    struct sp__node *empty = NULL;
    struct sp__node *one = a->hand;
    struct sp__object *owner;

    if (t != NULL) {
        sp__runs(t, a);
    }
    if (one != NULL && one->next == NULL &&
        atomic_load_explicit(&a->inbox, memory_order_relaxed) == NULL) {
        // Most often it was taken over with one node, and there is nothing else.
        struct sp__port *port = sp__node_port(one);
        sp_batch batch = {(sp_msg *)one, (sp_msg *)one, 1};

        SP__TRACE(A22, a, one);
        a->hand = NULL;
        port->handle(port, &batch);
    } else {
        sp__actor_visit(a);
    }
    if (t != NULL) {
        sp__runs(t, NULL); // While its object is still held.
    }
    owner = a->owner;
    // Release: what this owner did; pairs with the acquire of the push or the take that finds IDLE.
    // Relaxed when it fails: still ours, and the next drain acquires.
    if (!atomic_compare_exchange_strong_explicit(&a->inbox, &empty, SP__IDLE, memory_order_release,
                                                 memory_order_relaxed)) {
        SP__TRACE(A7, a, empty);
        return true;
    }
    SP__TRACE(A7, a, empty);
    sp__drop(owner);
    return false;
}

#endif
