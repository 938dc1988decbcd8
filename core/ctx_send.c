/* SPDX-License-Identifier: MIT */
/// Sending: credit, who waits for it, and the way to the socket's actor.
///
/// `credit` is 2 × credit, and 1 when somebody waits. Senders take by compare-and-swap; a grant
/// that finds the mark wakes. A sender sets the mark, then looks at the credit again: either it
/// sees the grant, or the grant sees the mark.
#include "app.h"
#include "cork.h"
#include "ctx.h"
#include "error.h"
#include "pipe.h"
#include "runtime.h"
#include "scope.h"

#include <stdio.h>
#include <string.h>

#define TOGETHER_MAX 64 // messages of several contexts that leave as one batch

/// Takes credit for one message. True: it did, and `left` is what there is now.
static inline bool credit_take(struct sp__ctx *c, uint32_t cost, int64_t *left)
{
    int64_t now = atomic_load_explicit(&c->credit, memory_order_relaxed);

    do {
        if (now >> 1 <= 0) {
            SP__TRACE(E1, c, now);
            return false;
        }
        // Acquire: what the grant was given for (a queue that shrank) is seen. seq_cst: against who
        // begins to observe, see observe.h.
    } while (!atomic_compare_exchange_weak_explicit(&c->credit, &now, now - 2 * (int64_t)cost,
                                                    memory_order_seq_cst, memory_order_relaxed));
    SP__TRACE(E2, c, now);
    SP__TRACE(E16, c, now - 2 * (int64_t)cost);
    *left = (now >> 1) - (int64_t)cost;
    return true;
}

/// The last credit went, or the first came: who observes it is told.
static SP__APART void credit_tell(struct sp__ctx *c)
{
    sp__lock(&c->lock);
    sp__observers_look(&c->observers);
    sp__ctx_unlock(c);
}

/// Wakes as many senders as there is credit for; takes the mark away with the last one.
static void credit_wake(struct sp__ctx *c)
{
    int64_t n = atomic_load_explicit(&c->credit, memory_order_relaxed) >> 1;
    struct sp__wake wake = {NULL, NULL};

    SP__TRACE(E5, c, n);
    do {
        sp__lock(&c->lock);
        wake = n > 0 ? sp__waiter_pop(&c->senders) : (struct sp__wake){NULL, NULL};
        SP__TRACE(E6, c, sp__wake_id(wake));
        if (c->senders.head == NULL) {
            (void)atomic_fetch_and_explicit(&c->credit, ~(int64_t)1, memory_order_relaxed);
            SP__TRACE(E7, c, 0);
        }
        sp__unlock(&c->lock);
        sp__wake(wake);
        n--;
    } while (sp__wakes(wake));
}

/// Gives credit. Returns what there was before.
static inline int64_t credit_give(struct sp__ctx *c, int64_t credit)
{
    // Release: what the credit is given for; pairs with credit_take. seq_cst against the mark in
    // credit_wait, on the same word: one of the two comes first and is seen by the other; and
    // against who begins to observe, see observe.h.
    int64_t before = atomic_fetch_add_explicit(&c->credit, 2 * credit, memory_order_seq_cst);

    SP__TRACE(E3, c, before);
    SP__TRACE(E4, c, before + 2 * credit);
    return before;
}

/// See credit_take_observed. Senders that wait come first.
static SP__APART void credit_give_observed(struct sp__ctx *c, int64_t credit)
{
    int64_t before;

    sp__lock(&c->lock);
    before = credit_give(c, credit);
    if ((before & 1) != 0 && (before >> 1) + credit > 0) {
        sp__unlock(&c->lock);
        credit_wake(c);
        sp__lock(&c->lock);
    }
    sp__observers_look(&c->observers);
    sp__ctx_unlock(c);
}

void sp__ctx_grant(struct sp__ctx *c, int64_t credit)
{
    int64_t before;

    if (sp__observed(&c->observers, SP_POLLOUT)) {
        credit_give_observed(c, credit);
        return;
    }
    before = credit_give(c, credit);
    if ((before & 1) != 0 && (before >> 1) + credit > 0) {
        credit_wake(c);
    }
    // Credit that was not there is, or the other way round.
    if (((before >> 1) > 0) != ((before >> 1) + credit > 0) &&
        sp__observed_after(&c->observers, SP_POLLOUT)) {
        credit_tell(c);
    }
}

enum credit_join {
    JOIN_WAITS,  ///< it is in the list
    JOIN_CREDIT, ///< … but there is credit now
    JOIN_CLOSED, ///< it is not in the list, because the context is closed
    JOIN_LEFT    ///< … because it shall not wait any more
};

/// Joins those who wait for credit.
static enum credit_join credit_join(struct sp__ctx *c, struct sp__waiter *w, bool first)
{
    enum credit_join how;
    int64_t now;

    sp__lock(&c->lock);
    if (atomic_load_explicit(&c->closed, memory_order_relaxed) || w->left) {
        how = w->left ? JOIN_LEFT : JOIN_CLOSED;
        SP__TRACE(E9, c, 0);
    } else {
        sp__waiter_add(&c->senders, w, first);
        SP__TRACE(E10, c, w->thread != NULL ? (void *)w->thread : (void *)w);
        // seq_cst: see sp__ctx_grant.
        now = atomic_fetch_or_explicit(&c->credit, 1, memory_order_seq_cst);
        SP__TRACE(E11, c, now);
        how = now >> 1 > 0 ? JOIN_CREDIT : JOIN_WAITS;
    }
    sp__unlock(&c->lock);
    return how;
}

/// Waits no more. False: it was taken out by who granted credit, or closed the context.
static bool credit_leave(struct sp__ctx *c, struct sp__waiter *w)
{
    bool queued;

    sp__lock(&c->lock);
    SP__TRACE(E13, c, w->queued);
    queued = w->queued;
    if (queued) {
        sp__waiter_remove(&c->senders, w);
    }
    if (c->senders.head == NULL) {
        (void)atomic_fetch_and_explicit(&c->credit, ~(int64_t)1, memory_order_relaxed);
        SP__TRACE(E14, c, 0);
    }
    sp__unlock(&c->lock);
    return queued;
}

/// Sleeps until there may be credit, or the deadline. SP_ETIMEDOUT, SP_ESTATE; SP_OK too when the
/// context is closed.
static int credit_wait(struct sp__ctx *c, int64_t deadline)
{
    struct sp__waiter w = {.thread = sp__self(), .ctx = c};
    bool in_time = true;

    if (!sp__may_block()) {
        return SP_ESTATE;
    }
    switch (credit_join(c, &w, false)) {
    case JOIN_WAITS:
        in_time = sp__sock_block(c->sock, deadline) || sp__now() < deadline;
        break;
    case JOIN_CREDIT:
        break;
    default:
        return SP_OK; // The caller looks and finds it closed.
    }
    SP__TRACE(E12, c, in_time);
    return credit_leave(c, &w) && !in_time ? SP_ETIMEDOUT : SP_OK;
}

static int send_fail(struct sp__ctx *c, int err)
{
    switch (err) {
    case SP_ECLOSED:
        return sp__fail(err, "send: the socket was closed");
    case SP_ENOPEER:
        return sp__fail(err, "send: no peer connected");
    case SP_EAGAIN:
        return sp__fail(err, "send: no room now");
    case SP_ETIMEDOUT:
        return sp__fail(err, "send: %s",
                        atomic_load_explicit(&c->sock->peers, memory_order_relaxed) == 0
                            ? "timed out, no peer connected"
                            : "timed out, no room");
    case SP_ENOTSUP:
        return sp__fail(err, "send: the protocol \"%s\" only receives", c->sock->protocol->name);
    case SP_ECANCELED:
        return sp__fail(err, "send: the scope was cancelled");
    case SP_ESTATE:
        if ((c->sock->ops->flags & SP_PROTO_REPLIES) != 0) {
            return sp__fail(err, "send: \"%s\" has no request to answer (receive one first)",
                            c->sock->protocol->name);
        }
        return err; // sp__may_block has said why.
    default:
        return err;
    }
}

/// Bytes of body and header that a connection has to take, as far as they are known; see
/// struct sp__sock.
static inline uint64_t send_size(const struct sp__ctx *c, const sp_msg *m)
{
    return c->sock->ref.raw ? (uint64_t)m->len + m->header_len : m->len;
}

/// Relaxed: what was sent before a connection was there has to be dropped by its transport anyway.
static inline uint64_t send_max(const struct sp__ctx *c)
{
    return atomic_load_explicit(&c->sock->body_max, memory_order_relaxed);
}

/// A message is larger than what one of the connections takes: says which.
static SP__APART int send_too_large(struct sp__ctx *c, uint64_t size)
{
    struct sp__sock *s = c->sock;
    struct sp__limit least = {UINT64_MAX, NULL};
    char url[256] = "its peer";

    (void)pthread_mutex_lock(&s->lock);
    for (const struct sp__pipe *p = s->pipes; p != NULL; p = p->next) {
        // Acquire: a pipe that is up has its names.
        if (atomic_load_explicit(&p->state, memory_order_acquire) == SP__PIPE_UP &&
            sp__pipe_limit(p).bytes < least.bytes) {
            least = sp__pipe_limit(p);
            (void)snprintf(url, sizeof(url), "%s", sp__ep_url(p->ep));
        }
    }
    (void)pthread_mutex_unlock(&s->lock);
    return sp__fail(SP_EMSGSIZE, "send: message of %llu bytes: %s takes at most %llu%s%s",
                    (unsigned long long)size, url, (unsigned long long)send_max(c),
                    least.hint != NULL ? "; " : "", least.hint != NULL ? least.hint : "");
}

/// How many messages from the first on every connection takes.
static size_t send_fitting(const struct sp__ctx *c, sp_msg *const *m, size_t n)
{
    uint64_t max = send_max(c);
    size_t fit = max == UINT64_MAX ? n : 0;

    while (fit < n && send_size(c, m[fit]) <= max) {
        fit++;
    }
    return fit;
}

/// Unlocks what a send changed for those who observe it.
static void send_unlock(struct sp__ctx *q, unsigned events)
{
    if (sp__observed(&q->observers, events)) {
        sp__observers_look(&q->observers);
        sp__ctx_unlock(q);
    } else {
        sp__unlock(&q->lock);
    }
}

/// Takes the address of the last request. SP_ESTATE: there is none; SP_EMSGSIZE.
static int reply_take(struct sp__ctx *c, sp_msg *m)
{
    bool may;

    sp__lock(&c->rx->lock);
    may = c->may_reply;
    if (may && (uint64_t)m->len + c->reply_len > send_max(c)) {
        sp__unlock(&c->rx->lock);
        return SP_EMSGSIZE;
    }
    c->may_reply = false;
    if (may) {
        memcpy(m->header, c->reply_header, c->reply_len);
        m->header_len = c->reply_len;
        m->peer = c->reply_peer;
    }
    send_unlock(c->rx, SP_POLLOUT);
    return may ? 1 : SP_ESTATE;
}

/// Begins a new question: the answers to earlier ones mean nothing any more.
static void question_begin(struct sp__ctx *c, sp_msg *m)
{
    sp__lock(&c->lock);
    c->asking = true;
    sp__msg(m)->round = ++c->asked;
    send_unlock(c, SP_POLLIN);
}

/// Costs a prefix of `m` that `credit` allows, of which the last may lead into debt. Returns its
/// length.
static size_t credit_prefix(const struct sp__ctx *c, sp_msg **m, size_t n, int64_t credit,
                            int64_t *cost)
{
    int64_t buffer = sp__option(&c->sock->opt.send_buffer);
    size_t got = 0;

    *cost = 0;
    for (; got < n && credit > *cost; got++) {
        uint32_t one = sp__sock_cost(c->sock, m[got]->len, buffer);

        sp__msg(m[got])->cost = one;
        *cost += one;
    }
    return got;
}

/// Takes credit for a prefix of `m`, in one step. Returns its length.
static inline size_t credit_take_prefix(struct sp__ctx *c, sp_msg **m, size_t n)
{
    int64_t now = atomic_load_explicit(&c->credit, memory_order_relaxed);
    int64_t cost;
    size_t got;

    do {
        if (now >> 1 <= 0) {
            SP__TRACE(E1, c, now);
            return 0;
        }
        got = credit_prefix(c, m, n, now >> 1, &cost);
        // Acquire, and seq_cst: see credit_take.
    } while (!atomic_compare_exchange_weak_explicit(&c->credit, &now, now - 2 * cost,
                                                    memory_order_seq_cst, memory_order_relaxed));
    SP__TRACE(E2, c, now);
    SP__TRACE(E16, c, now - 2 * cost);
    return got;
}

/// While somebody observes it, credit is taken and given under the lock: nobody has it, or misses
/// it, before they know.
static SP__APART size_t credit_take_observed(struct sp__ctx *c, sp_msg **m, size_t n)
{
    size_t got;

    sp__lock(&c->lock);
    got = credit_take_prefix(c, m, n);
    sp__observers_look(&c->observers);
    sp__ctx_unlock(c);
    return got;
}

static size_t credit_take_many(struct sp__ctx *c, sp_msg **m, size_t n)
{
    int64_t left;
    size_t got;

    if (sp__observed(&c->observers, SP_POLLOUT)) {
        return credit_take_observed(c, m, n);
    }
    got = credit_take_prefix(c, m, n);
    // Relaxed: this thread's own step, or one after it, which then sees to it itself.
    left = atomic_load_explicit(&c->credit, memory_order_relaxed) >> 1;
    SP__TRACE(M17, c, left > 0);
    if (left <= 0 && sp__observed_after(&c->observers, SP_POLLOUT)) {
        credit_tell(c);
    }
    return got;
}

/// Takes credit for a prefix of `m`, waiting for the first if need be.
static int send_credit(struct sp__ctx *c, sp_msg **m, size_t n, int64_t timeout)
{
    int64_t deadline = 0;

    for (;;) {
        size_t got;
        int rc;

        if (atomic_load_explicit(&c->closed, memory_order_relaxed)) {
            return SP_ECLOSED;
        }
        got = credit_take_many(c, m, n);
        if (got > 0) {
            return (int)got;
        }
        if (sp__uncork()) {
            continue; // What was corked may give its credit back here and now.
        }
        if (timeout == 0 && sp__app_wants_credit(c->sock)) {
            continue; // It came meanwhile.
        }
        if (timeout == 0) {
            return c->sock->ops->window != SP_WINDOW_OPEN &&
                           atomic_load_explicit(&c->sock->peers, memory_order_relaxed) == 0
                       ? SP_ENOPEER
                       : SP_EAGAIN;
        }
        deadline = deadline == 0 ? sp__sock_deadline(timeout) : deadline;
        rc = sp__scope_over();
        rc = rc == SP_OK ? credit_wait(c, deadline) : rc;
        if (rc < 0) {
            return rc;
        }
    }
}

/// One reply a request, and requests are bounded: no credit is needed.
static int send_reply(struct sp__ctx *c, sp_msg *m)
{
    sp__msg(m)->cost = 0;
    return atomic_load_explicit(&c->closed, memory_order_relaxed) ? SP_ECLOSED : reply_take(c, m);
}

/// Posts messages that have their credit to the socket's actor. Returns their bytes.
static size_t send_post(struct sp__ctx *c, sp_msg **m, int n)
{
    uint32_t flags = c->sock->ops->flags;
    bool keep_header = c->sock->ref.raw || (flags & SP_PROTO_REPLIES) != 0;
    sp_batch batch = {NULL, NULL, 0};
    size_t bytes = 0;

    for (int i = 0; i < n; i++) {
        if (!keep_header) {
            m[i]->header_len = 0;
        }
        if ((flags & SP_PROTO_ASKS) != 0) {
            question_begin(c, m[i]);
        }
        bytes += m[i]->len;
        sp_batch_push(&batch, m[i]);
        m[i] = NULL;
    }
    sp__post_batch(&c->sock->actor, &c->tx_port, &batch);
    return bytes;
}

/// Runs what was posted, or corks it.
static inline void send_run(struct sp__ctx *c, size_t n, size_t bytes)
{
    struct sp__sock *s = c->sock;
    bool in_place = sp__option(&s->opt.in_place) != 0;

    if (sp__observed(&c->observers, SP_POLLOUT)) {
        (void)sp__uncork(); // What is corked holds credit that an observer does not know of.
        sp__run_here(in_place);
    } else {
        sp__cork_sent(&s->actor, n, bytes, in_place);
    }
}

/// Any number of messages, of any protocol, waiting if need be.
static SP__APART int send_any(struct sp__ctx *c, sp_msg **m, size_t n, int64_t timeout)
{
    uint32_t flags = c->sock->ops->flags;
    uint64_t size;
    size_t bytes;
    int got;

    if (n == 0) {
        return 0;
    }
    if ((flags & SP_PROTO_NO_SEND) != 0) {
        return send_fail(c, SP_ENOTSUP);
    }
    size = send_size(c, m[0]);
    n = send_fitting(c, m, n);
    if (n == 0) {
        return send_too_large(c, size);
    }
    got = (flags & SP_PROTO_REPLIES) != 0
              ? send_reply(c, m[0])
              : send_credit(c, m, n < INT32_MAX ? n : INT32_MAX, timeout);
    if (got < 0) {
        return got == SP_EMSGSIZE ? send_too_large(c, size) : send_fail(c, got);
    }
    bytes = send_post(c, m, got);
    send_run(c, (size_t)got, bytes);
    return got;
}

int sp__ctx_send_one(struct sp__ctx *c, sp_msg *m, int64_t timeout)
{
    struct sp__sock *s = c->sock;
    uint32_t flags = s->ops->flags;
    size_t bytes = m->len;
    uint32_t cost = sp__sock_cost(s, bytes, sp__option(&s->opt.send_buffer));
    int64_t left;

    // Most often there is credit for it, and nobody observes it.
    if ((flags & (SP_PROTO_NO_SEND | SP_PROTO_REPLIES)) != 0 ||
        atomic_load_explicit(&c->closed, memory_order_relaxed) || send_size(c, m) > send_max(c) ||
        sp__observed(&c->observers, SP_POLLOUT) || !credit_take(c, cost, &left)) {
        return send_any(c, &m, 1, timeout);
    }
    if (left <= 0 && sp__observed_after(&c->observers, SP_POLLOUT)) {
        credit_tell(c);
    }
    sp__msg(m)->cost = cost;
    if (!s->ref.raw) {
        m->header_len = 0;
    }
    if ((flags & SP_PROTO_ASKS) != 0) {
        question_begin(c, m);
    }
    m->next = NULL;
    sp__post_one(&s->actor, &c->tx_port, m);
    send_run(c, 1, bytes);
    return 1;
}

int sp__ctx_send(struct sp__ctx *c, sp_msg **m, size_t n, int64_t timeout)
{
    int rc;

    if (n != 1) {
        return send_any(c, m, n, timeout);
    }
    rc = sp__ctx_send_one(c, m[0], timeout);
    if (rc == 1) {
        m[0] = NULL;
    }
    return rc;
}

/* ------------------------------------------------------------------ Operations */

/// Credit for an operation's message. SP_EAGAIN: it waits, and is no longer ours. Others who wait
/// come before it, unless it was its turn.
static int op_credit(struct sp__ctx *c, struct sp__waiter *w, sp_msg *m, bool first)
{
    bool mine = first || (atomic_load_explicit(&c->credit, memory_order_relaxed) & 1) == 0;

    for (;; mine = true) {
        if (atomic_load_explicit(&c->closed, memory_order_relaxed)) {
            return SP_ECLOSED;
        }
        if (mine && credit_take_many(c, &m, 1) == 1) {
            return SP_OK;
        }
        switch (credit_join(c, w, first)) {
        case JOIN_WAITS:
            return SP_EAGAIN;
        case JOIN_CREDIT:
            if (!credit_leave(c, w)) {
                return SP_EAGAIN; // It is its turn already, on another thread.
            }
            break;
        case JOIN_LEFT:
            return SP_ECANCELED;
        case JOIN_CLOSED:
            return SP_ECLOSED;
        }
    }
}

void sp__ctx_send_op(struct sp__ctx *c, struct sp__waiter *w, sp_msg *m, bool first)
{
    uint32_t flags = c->sock->ops->flags;
    int rc = (flags & SP_PROTO_NO_SEND) != 0   ? SP_ENOTSUP
             : send_size(c, m) > send_max(c)   ? send_too_large(c, send_size(c, m))
             : (flags & SP_PROTO_REPLIES) != 0 ? send_reply(c, m)
                                               : op_credit(c, w, m, first);

    if (rc == SP_EAGAIN) {
        return;
    }
    if (rc >= 0) {
        (void)send_post(c, &m, 1);
        rc = SP_OK;
    }
    w->over(w, rc, m);
}

bool sp__ctx_send_leave(struct sp__ctx *c, struct sp__waiter *w)
{
    bool queued;

    sp__lock(&c->lock);
    w->left = true;
    queued = w->queued;
    sp__unlock(&c->lock);
    return queued && credit_leave(c, w);
}

/* ------------------------------------------------------------------ Actors and devices */

int sp__ctx_send_take(struct sp__ctx *c, sp_msg **m, size_t n)
{
    return atomic_load_explicit(&c->closed, memory_order_relaxed) ? SP_ECLOSED
                                                                  : (int)credit_take_many(c, m, n);
}

void sp__ctx_send_put(struct sp__ctx *c, sp_msg **m, int n)
{
    (void)send_post(c, m, n);
}

bool sp__ctx_send_tell(struct sp__ctx *c, struct sp__waiter *w)
{
    switch (credit_join(c, w, false)) {
    case JOIN_CREDIT:
        return credit_leave(c, w);
    case JOIN_CLOSED:
        return true; // The caller looks, and finds it closed.
    default:
        return false;
    }
}

struct sp__wake sp__ctx_send_pass(struct sp__ctx *c)
{
    struct sp__wake wake = {NULL, NULL};

    sp__lock(&c->lock);
    if (atomic_load_explicit(&c->credit, memory_order_relaxed) >> 1 > 0) {
        wake = sp__waiter_pop(&c->senders);
        SP__TRACE(E6, c, sp__wake_id(wake));
    }
    if (c->senders.head == NULL) {
        (void)atomic_fetch_and_explicit(&c->credit, ~(int64_t)1, memory_order_relaxed);
        SP__TRACE(E7, c, 0);
    }
    sp__unlock(&c->lock);
    return wake;
}

/* ------------------------------------------------------------------ The socket's actor */

/// Offers messages from senders behind what is there.
static void tx_offer(struct sp__ctx *c, sp_batch *nodes)
{
    sp_batch_join(&c->pending, nodes);
    sp__ctx_offer(c);
}

/// From senders on this context: they are to be offered.
static inline void tx_begin(struct sp__ctx *c, const sp_batch *nodes)
{
    if ((c->sock->ops->flags & SP_PROTO_ASKS) != 0) {
        c->round = sp__msg(nodes->tail)->round;
    }
    c->sock->pending += nodes->n;
}

/// Where a visit finds messages of several contexts, of which all leave with the last one's; or of
/// a context that takes none any more, though others before it did.
static SP__APART void tx_together(struct sp__ctx *c, sp_batch *nodes)
{
    struct sp__sock *s = c->sock;

    s->together += nodes->n;
    if (s->state >= SP__SOCK_ENDING || !c->joined) {
        sp__sock_discard_all(s, nodes, SP_DISCARD_CLOSED, true);
    } else {
        tx_begin(c, nodes);
        tx_offer(c, nodes);
    }
    if (!s->actor.more || s->together >= TOGETHER_MAX) {
        s->together = 0;
        sp__sock_settle(s);
    }
}

/// Messages from senders, on the socket's actor.
void sp__ctx_on_tx(struct sp__port *port, sp_batch *nodes)
{
    struct sp__ctx *c = SP__CONTAINER(port, struct sp__ctx, tx_port);
    struct sp__sock *s = c->sock;

    sp__count(&s->accepted, nodes->n);
    if (s->actor.more || s->together > 0 || s->state >= SP__SOCK_ENDING || !c->joined) {
        tx_together(c, nodes);
        return;
    }
    tx_begin(c, nodes);
    if (c->pending.head == NULL && nodes->n == 1) {
        c->pending = *nodes;
        s->alone = true;
        sp__ctx_offer(c);
        s->alone = false;
    } else {
        tx_offer(c, nodes);
    }
    sp__sock_settle(s);
}

/// What the protocol left is offered again, in its turn.
static SP__APART void offer_again(struct sp__ctx *c)
{
    struct sp__sock *s = c->sock;

    if (c->pending.head == NULL || c->offering) {
        return;
    }
    *(s->offers != NULL ? &s->offers_last->offer_next : &s->offers) = c;
    s->offers_last = c;
    c->offer_next = NULL;
    c->offering = true;
}

void sp__ctx_requeue(struct sp__ctx *c, sp_batch *unsent)
{
    c->sock->pending += unsent->n;
    sp_batch_join(unsent, &c->pending);
    sp_batch_join(&c->pending, unsent);
    offer_again(c);
}

/// Offers to a protocol that takes the credit with the message. Returns what that gives back.
static SP__APART int64_t offer_for_credit(struct sp__ctx *c)
{
    int64_t before = 0;

    for (sp_msg *m = c->pending.head; m != NULL; m = m->next) {
        before += sp__msg(m)->cost;
    }
    sp__slot(&c->sock->actor, SP__SLOT_ON_SEND);
    c->sock->ops->on_send(c->sock->ref.state, &c->ref, &c->pending);
    for (sp_msg *m = c->pending.head; m != NULL; m = m->next) {
        before -= sp__msg(m)->cost;
    }
    return before;
}

void sp__ctx_offer(struct sp__ctx *c)
{
    struct sp__sock *s = c->sock;
    size_t n = c->pending.n;
    int64_t credit = 0;

    if (n == 0) {
        return;
    }
    if (s->ops->window == SP_WINDOW_PIPES) {
        // The credit comes back when they are written or discarded.
        sp__slot(&s->actor, SP__SLOT_ON_SEND);
        s->ops->on_send(s->ref.state, &c->ref, &c->pending);
    } else {
        credit = offer_for_credit(c);
    }
    s->pending -= n - c->pending.n;
    if (c->pending.head != NULL) {
        offer_again(c);
    }
    if (credit > 0) {
        sp__ctx_grant(c, credit);
    }
}
