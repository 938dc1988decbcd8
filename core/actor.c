/* SPDX-License-Identifier: MIT */
/// Mailboxes and the running of one actor. See actor.h for the invariant. [any]
#include "actor.h"

#include "sched.h"

static atomic_uint_least64_t posts_of_others;

void sp__actor_init(struct sp__actor *a, struct sp__object *owner, bool user_code)
{
    atomic_init(&a->inbox, SP__IDLE);
    a->link = NULL;
    a->owner = owner;
    a->user_code = user_code;
    a->dedicated = false;
    a->more = false;
    a->hand = NULL;
    atomic_init(&a->slot, SP__SLOT_NONE);
    SP__TRACE(A0, a, owner);
}

static void event_dispatch(struct sp__port *port, sp_batch *nodes)
{
    (void)port;
    for (struct sp__node *n = (struct sp__node *)nodes->head, *next; n != NULL; n = next) {
        struct sp__event *ev = SP__CONTAINER(n, struct sp__event, node);
        struct sp__object *owner = ev->owner;

        next = n->next;
        n->next = NULL;
        // From now on it can be posted again. acq_rel: pairs with the exchange in sp__post, so that
        // what a poster wrote before a post that did nothing is seen.
        (void)atomic_exchange_explicit(&n->port, NULL, memory_order_acq_rel);
        SP__TRACE(A9, ev, owner);
        SP__TRACE(A10, ev, 0);
        ev->handle(ev);
        if (owner != NULL) {
            SP__TRACE(G10, ev, owner);
            sp__drop(owner);
        }
    }
}

/// That of every event, so that it also says whether one is posted.
static struct sp__port event_port = {event_dispatch};

void sp__event_init(struct sp__event *ev, struct sp__actor *a, struct sp__object *owner,
                    void (*handle)(struct sp__event *ev))
{
    ev->node.next = NULL;
    atomic_init(&ev->node.port, NULL);
    ev->actor = a;
    ev->owner = owner;
    ev->handle = handle;
}

/// One more post. Each thread counts its own; those of a thread without a record (it had no memory
/// for one) are in `posts_of_others`.
static inline void actor_count(struct sp__thread *t)
{
    if (t != NULL) {
        atomic_store_explicit(&t->posts, atomic_load_explicit(&t->posts, memory_order_relaxed) + 1,
                              memory_order_relaxed);
    } else {
        atomic_fetch_add_explicit(&posts_of_others, 1, memory_order_relaxed);
    }
}

uint64_t sp__posts(void)
{
    uint64_t sum = atomic_load_explicit(&posts_of_others, memory_order_relaxed);

    for (struct sp__thread *t = sp__threads(); t != NULL; t = t->next) {
        sum += atomic_load_explicit(&t->posts, memory_order_relaxed);
    }
    return sum;
}

/// sp__schedule, where this thread has nothing else to run next.
static inline void actor_schedule(struct sp__actor *a)
{
    struct sp__thread *t = sp__thread_current;

    actor_count(t);
    if (t != NULL && sp__run_next(t) == NULL && !a->user_code && !t->in_user) {
        sp__run_next_set(t, a);
    } else {
        sp__schedule(a);
    }
}

/// Takes over an idle actor with nodes in hand, of which the first one has its port. False: it is
/// not idle.
static inline bool actor_take(struct sp__actor *a, struct sp__node *nodes)
{
    struct sp__node *idle = SP__IDLE;

    // Acquire: pairs with the release of the last owner, when it went idle.
    if (atomic_load_explicit(&a->inbox, memory_order_relaxed) != SP__IDLE ||
        !atomic_compare_exchange_strong_explicit(&a->inbox, &idle, NULL, memory_order_acquire,
                                                 memory_order_relaxed)) {
        return false;
    }
    SP__TRACE(A21, a, nodes);
    a->hand = nodes;
    sp__hold(a->owner);
    SP__TRACE(A4, a, 0);
    actor_schedule(a);
    return true;
}

/// Pushes a chain, newest first; `oldest` is its last link. Not inline, as what follows a push that
/// could not take: the usual way is a message alone, to an actor that is idle.
static SP__APART void actor_push(struct sp__actor *a, struct sp__node *newest,
                                 struct sp__node *oldest)
{
    struct sp__node *head = atomic_load_explicit(&a->inbox, memory_order_relaxed);

    SP__TRACE(A1, a, oldest);
    SP__TRACE(A2, a, newest);
    // Release: the nodes; pairs with the acquire of the drain. Acquire, when it finds IDLE: what
    // the last owner did.
    do {
        oldest->next = head == SP__IDLE ? NULL : head;
    } while (!atomic_compare_exchange_weak_explicit(&a->inbox, &head, newest, memory_order_acq_rel,
                                                    memory_order_relaxed));
    SP__TRACE(A3, a, head);
    actor_count(sp__thread_current);
    if (head == SP__IDLE) {
        sp__hold(a->owner);
        SP__TRACE(A4, a, 0);
        sp__schedule(a);
    }
}

/// Relaxed: a message's port is handed on with it, by the mailbox.
static void actor_port_set(struct sp__node *n, struct sp__port *port)
{
    atomic_store_explicit(&n->port, port, memory_order_relaxed);
}

/// Pushes a chain, oldest first.
static SP__APART void actor_push_chain(struct sp__actor *a, struct sp__port *port,
                                       struct sp__node *oldest)
{
    struct sp__node *newest = NULL;

    for (struct sp__node *n = oldest, *next; n != NULL; n = next) {
        next = n->next;
        n->next = newest;
        actor_port_set(n, port);
        newest = n;
    }
    actor_push(a, newest, oldest);
}

void sp__post_batch(struct sp__actor *a, struct sp__port *port, sp_batch *batch)
{
    struct sp__node *oldest = (struct sp__node *)batch->head;

    if (oldest == NULL) {
        return;
    }
    *batch = (sp_batch){NULL, NULL, 0};
    actor_port_set(oldest, port);
    if (!actor_take(a, oldest)) {
        actor_push_chain(a, port, oldest);
    }
}

void sp__post_one(struct sp__actor *a, struct sp__port *port, sp_msg *m)
{
    struct sp__node *n = (struct sp__node *)m;

    actor_port_set(n, port);
    if (!actor_take(a, n)) {
        actor_push(a, n, n);
    }
}

void sp__post(struct sp__event *ev)
{
    // acq_rel: see event_dispatch.
    bool was = atomic_exchange_explicit(&ev->node.port, &event_port, memory_order_acq_rel) != NULL;

    SP__TRACE(A8, ev, was);
    if (!was) {
        if (ev->owner != NULL) {
            SP__TRACE(G9, ev, ev->owner);
            sp__hold(ev->owner);
        }
        if (!actor_take(ev->actor, &ev->node)) {
            actor_push(ev->actor, &ev->node, &ev->node);
        }
    }
}

/// Hands the nodes, oldest first, to their ports, each run of one port in one call.
static void actor_dispatch(struct sp__actor *a, struct sp__node *list)
{
    while (list != NULL) {
        struct sp__port *port = sp__node_port(list);
        sp_batch batch = {(sp_msg *)list, NULL, 0};
        struct sp__node *last = list;

        for (batch.n = 1; last->next != NULL && sp__node_port(last->next) == port; batch.n++) {
            last = last->next;
        }
        batch.tail = (sp_msg *)last;
        list = last->next;
        last->next = NULL;
        a->more = list != NULL && sp__node_port(list)->handle == port->handle;
        port->handle(port, &batch);
    }
}

/// All that is posted, oldest first.
static struct sp__node *actor_drain(struct sp__actor *a)
{
    // Acquire: pairs with the release of every push below it, which are one release sequence.
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

/// What is in hand, all of it for the first one's port, and behind it what was posted meanwhile.
static void actor_run_hand(struct sp__actor *a)
{
    struct sp__node *first = a->hand;
    struct sp__node *last = first;
    struct sp__port *port = sp__node_port(first);
    sp_batch batch = {(sp_msg *)first, NULL, 1};
    bool more = atomic_load_explicit(&a->inbox, memory_order_relaxed) != NULL;

    SP__TRACE(A22, a, first);
    a->hand = NULL;
    if (more) {
        while (last->next != NULL) {
            last = last->next;
            actor_port_set(last, port);
        }
        last->next = actor_drain(a);
        actor_dispatch(a, first);
        return;
    }
    for (; last->next != NULL; batch.n++) {
        last = last->next;
    }
    batch.tail = (sp_msg *)last;
    port->handle(port, &batch);
}

void sp__actor_visit(struct sp__actor *a)
{
    if (a->hand != NULL) {
        actor_run_hand(a);
    } else {
        actor_dispatch(a, actor_drain(a));
    }
}
