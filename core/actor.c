/* SPDX-License-Identifier: MIT */
/// Mailboxes and the running of one actor. See actor.h for the invariant. [any]
#include "actor.h"

#include "sched.h"

void sp__actor_init(struct sp__actor *a, struct sp__object *owner, bool user_code)
{
    atomic_init(&a->inbox, SP__IDLE);
    a->link = NULL;
    a->owner = owner;
    a->user_code = user_code;
    a->hand = (sp_batch){NULL, NULL, 0};
    SP__TRACE(A0, a, owner);
}

static void event_dispatch(struct sp__port *port, sp_batch *nodes)
{
    struct sp__event *ev = SP__CONTAINER(port, struct sp__event, port);
    struct sp__object *owner = ev->owner;

    (void)nodes;
    // From now on it can be posted again. acq_rel: pairs with the exchange in sp__post, so that
    // what a poster wrote before a post that did nothing is seen.
    (void)atomic_exchange_explicit(&ev->posted, false, memory_order_acq_rel);
    SP__TRACE(A9, ev, owner);
    SP__TRACE(A10, ev, 0);
    ev->handle(ev);
    if (owner != NULL) {
        SP__TRACE(G10, ev, owner);
        sp__drop(owner);
    }
}

void sp__event_init(struct sp__event *ev, struct sp__actor *a, struct sp__object *owner,
                    void (*handle)(struct sp__event *ev))
{
    ev->node.next = NULL;
    ev->node.port = &ev->port;
    ev->port.handle = event_dispatch;
    ev->actor = a;
    ev->owner = owner;
    ev->handle = handle;
    atomic_init(&ev->posted, false);
}

/// Takes over an idle actor with nodes in hand. False: it is not idle.
static bool actor_take(struct sp__actor *a, struct sp__port *port, const sp_batch *nodes)
{
    struct sp__node *idle = SP__IDLE;

    // Acquire: pairs with the release of the last owner, when it went idle.
    if (atomic_load_explicit(&a->inbox, memory_order_relaxed) != SP__IDLE ||
        !atomic_compare_exchange_strong_explicit(&a->inbox, &idle, NULL, memory_order_acquire,
                                                 memory_order_relaxed)) {
        return false;
    }
    SP__TRACE(A21, a, nodes->head);
    a->hand = *nodes;
    a->hand_port = port;
    sp__hold(a->owner);
    SP__TRACE(A4, a, 0);
    sp__schedule(a);
    return true;
}

/// Pushes a chain, newest first; `oldest` is its last link.
static void actor_push(struct sp__actor *a, struct sp__node *newest, struct sp__node *oldest)
{
    struct sp__node *head = atomic_load_explicit(&a->inbox, memory_order_relaxed);

    SP__TRACE(A1, a, oldest);
    SP__TRACE(A2, a, newest);
    do {
        oldest->next = head == SP__IDLE ? NULL : head;
    } while (!atomic_compare_exchange_weak_explicit(&a->inbox, &head, newest, memory_order_acq_rel,
                                                    memory_order_relaxed));
    SP__TRACE(A3, a, head);
    if (head == SP__IDLE) {
        sp__hold(a->owner);
        SP__TRACE(A4, a, 0);
        sp__schedule(a);
    }
}

void sp__post_batch(struct sp__actor *a, struct sp__port *port, sp_batch *batch)
{
    struct sp__node *newest = NULL;
    struct sp__node *oldest = (struct sp__node *)batch->head;

    if (oldest == NULL) {
        return;
    }
    if (!actor_take(a, port, batch)) {
        for (struct sp__node *n = oldest, *next; n != NULL; n = next) {
            next = n->next;
            n->next = newest;
            n->port = port;
            newest = n;
        }
        actor_push(a, newest, oldest);
    }
    *batch = (sp_batch){NULL, NULL, 0};
}

void sp__post(struct sp__event *ev)
{
    sp_batch only = {(sp_msg *)&ev->node, (sp_msg *)&ev->node, 1};

    // acq_rel: see event_dispatch.
    bool was = atomic_exchange_explicit(&ev->posted, true, memory_order_acq_rel);

    SP__TRACE(A8, ev, was);
    if (!was) {
        if (ev->owner != NULL) {
            SP__TRACE(G9, ev, ev->owner);
            sp__hold(ev->owner);
        }
        if (!actor_take(ev->actor, &ev->port, &only)) {
            actor_push(ev->actor, &ev->node, &ev->node);
        }
    }
}

/// Hands the nodes, oldest first, to their ports, each run of one port in one call.
static void actor_dispatch(struct sp__node *list)
{
    while (list != NULL) {
        struct sp__port *port = list->port;
        sp_batch batch = {(sp_msg *)list, NULL, 0};
        struct sp__node *last = list;

        for (batch.n = 1; last->next != NULL && last->next->port == port; batch.n++) {
            last = last->next;
        }
        batch.tail = (sp_msg *)last;
        list = last->next;
        last->next = NULL;
        port->handle(port, &batch);
    }
}

/// All that is posted, oldest first.
static struct sp__node *actor_drain(struct sp__actor *a)
{
    struct sp__node *list = atomic_exchange_explicit(&a->inbox, NULL, memory_order_acquire);
    struct sp__node *ordered = NULL;

    SP__TRACE(A5, a, list);
    while (list != NULL) {
        struct sp__node *next = list->next;

        SP__TRACE(A6, a, list);
        list->next = ordered;
        ordered = list;
        list = next;
    }
    return ordered;
}

/// What is in hand, and behind it what was posted meanwhile.
static void actor_run_hand(struct sp__actor *a)
{
    sp_batch hand = a->hand;

    SP__TRACE(A22, a, hand.head);
    a->hand.head = NULL;
    if (atomic_load_explicit(&a->inbox, memory_order_relaxed) == NULL) {
        a->hand_port->handle(a->hand_port, &hand);
        return;
    }
    for (struct sp__node *n = (struct sp__node *)hand.head; n != NULL; n = n->next) {
        n->port = a->hand_port;
    }
    ((struct sp__node *)hand.tail)->next = actor_drain(a);
    actor_dispatch((struct sp__node *)hand.head);
}

bool sp__actor_run(struct sp__actor *a)
{
    struct sp__object *owner = a->owner;
    struct sp__node *empty = NULL;

    if (a->hand.head != NULL) {
        actor_run_hand(a);
    } else {
        actor_dispatch(actor_drain(a));
    }
    if (!atomic_compare_exchange_strong_explicit(&a->inbox, &empty, SP__IDLE, memory_order_release,
                                                 memory_order_relaxed)) {
        SP__TRACE(A7, a, empty);
        return true;
    }
    SP__TRACE(A7, a, empty);
    sp__drop(owner);
    return false;
}
