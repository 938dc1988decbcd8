/* SPDX-License-Identifier: MIT */
/// The input and the output actor of a pipe: they call the transport, and nothing else of the
/// pipe's state. Input: the handshake, then harvest as far as credit goes. Output: submit what is
/// queued, report what was written.
#include "pipe.h"

#include "platform.h"

#include <string.h>

#define RX_BATCH 64     // messages of one harvest
#define RX_BYTES 262144 // and about as many bytes
#define RX_ROUNDS 16    // harvests of one turn

/* ------------------------------------------------------------------ Input */

static void rx_note(struct sp__pipe *p, unsigned bit)
{
    // Release: pairs with the exchange in pipe_on_rx_note.
    (void)atomic_fetch_or_explicit(&p->rx_bits, bit, memory_order_release);
    sp__post(&p->rx_note);
}

static void rx_fail(struct sp__pipe *p, int err)
{
    p->rx_over = true;
    atomic_store_explicit(&p->rx_err, err, memory_order_relaxed);
    rx_note(p, SP__RX_FAILED);
}

/// Keeps what a handshake that ended has to say: two texts and the credentials, in a row. NULL: no
/// memory.
static struct sp__pipe_names *rx_names(const sp_handshake *hs, const char *first,
                                       const char *second)
{
    struct sp__who who = {(int32_t)hs->uid, (int32_t)hs->gid, (int32_t)hs->pid};
    size_t one = strlen(first) + 1;
    size_t two = strcmp(first, second) != 0 ? strlen(second) + 1 : 0;
    size_t three = who.uid != -1 || who.gid != -1 || who.pid != -1 ? sizeof(who) : 0;
    struct sp__limit limit = {hs->send_max, hs->send_hint};
    size_t four = hs->send_max > 0 ? sizeof(limit) : 0;
    struct sp__pipe_names *names = sp__alloc(sizeof(*names) + one + two + three + four);

    if (names != NULL) {
        names->remote = two > 0 ? (uint16_t)one : 0;
        names->who = three > 0 ? (uint16_t)(one + two) : 0;
        names->limit = four > 0 ? (uint16_t)(one + two + three) : 0;
        memcpy(names->text, first, one);
        memcpy(names->text + one, second, two);
        memcpy(names->text + one + two, &who, three);
        memcpy(names->text + one + two + three, &limit, four);
    }
    return names;
}

/// The handshake failed. Without memory for the cause the code goes on alone.
static void rx_unshaken(struct sp__pipe *p, sp_handshake *hs, int err)
{
    hs->cause.text[sizeof(hs->cause.text) - 1] = '\0';
    p->ref.proto = hs->peer;
    p->names = hs->cause.text[0] != '\0' ? rx_names(hs, hs->cause.text, "") : NULL;
    p->cause = p->names != NULL ? p->names->text : "";
    rx_fail(p, err);
}

/// What may be said: a dialer has one pair each time.
static void rx_pairs(const struct sp__pipe *p, sp_handshake *hs)
{
    const sp_protocol_ops *ops = p->sock->ops;

    hs->pairs = &ops->ids[p->pair];
    hs->pair_count = p->ep->dialer ? 1 : ops->id_count;
    hs->ids = hs->pairs[0];
}

/// One step of connecting and exchanging hellos.
static void rx_shake(struct sp__pipe *p)
{
    sp_handshake hs = {.size = sizeof(hs), .uid = -1, .gid = -1, .pid = -1};
    unsigned ready = p->ready;
    int rc;

    rx_pairs(p, &hs);
    hs.recv_max = (uint64_t)p->ep->opt.recv_size_max;
    p->ready = 0;
    rc = p->ops->handshake(p->ref.tran, ready, &hs);
    if (rc == SP_EAGAIN) {
        return;
    }
    if (rc == SP_OK && !sp_handshake_choose(&hs, hs.peer)) {
        rc = SP_EPROTO;
    }
    if (rc == SP_OK) {
        hs.local[sizeof(hs.local) - 1] = '\0';
        hs.remote[sizeof(hs.remote) - 1] = '\0';
        p->names = rx_names(&hs, hs.local, hs.remote);
        rc = p->names != NULL ? SP_OK : SP_ENOMEM;
    }
    if (rc < 0) {
        rx_unshaken(p, &hs, rc);
        return;
    }
    p->ref.proto = hs.peer;
    p->shaken = true;
    p->readable = true;
    p->ready = ready & SP_READY_HUP;
    rx_note(p, SP__RX_SHAKEN);
}

/// The time of receipt of messages that are passed: the clock is read once in a visit, as all that
/// it passes was posted before.
static inline int64_t rx_wall(void)
{
    struct sp__thread *t = sp__thread_current; // Not NULL: it runs an actor.

    if (t->visit_wall == 0) {
        t->visit_wall = sp__platform->wall();
    }
    return t->visit_wall;
}

/// Says of a message where it came from, and when. Returns its cost.
static int64_t rx_stamp(struct sp__pipe *p, sp_msg *m, int64_t wall)
{
    struct sp__msg *im = sp__msg(m);

    m->peer = p->ref.id;
    im->pipe = p->obj.id;
    im->wall = wall;
    im->cost = sp__sock_cost(p->sock, m->len, RX_BATCH);
    return im->cost;
}

/// Hands what was received to the socket's actor.
static void rx_post(struct sp__pipe *p, sp_batch *in, int64_t cost)
{
    // The credit goes before the post: the grant for these messages must find it taken. seq_cst:
    // see rx_harvest.
    (void)atomic_fetch_sub_explicit(&p->rx_credit, cost, memory_order_seq_cst);
    SP__TRACE(I4, p, cost);
    SP__TRACE(I5, p, in->n);
    sp__post_batch(&p->sock->actor, &p->rx_port, in);
}

static void rx_harvested(struct sp__pipe *p, sp_batch *in)
{
    int64_t wall = sp__platform->wall();
    int64_t cost = 0;
    uint64_t bytes = 0;

    for (sp_msg *m = in->head; m != NULL; m = m->next) {
        cost += rx_stamp(p, m, wall);
        bytes += m->len;
    }
    p->rx_avg = (uint32_t)(bytes / in->n);
    rx_post(p, in, cost);
}

/// One batch, within the credit that there is. False: there is none.
static SP__APART bool rx_pass(struct sp__pipe *p, sp_batch *from)
{
    // seq_cst: see rx_harvest; here the grant leads to a harvest, which tells the other end.
    int64_t credit = atomic_load_explicit(&p->rx_credit, memory_order_seq_cst);
    int64_t wall = rx_wall();
    sp_batch in = {NULL, NULL, 0};
    int64_t cost = 0;

    SP__TRACE(I2, p, credit);
    if (credit <= 0) {
        return false;
    }
    in.head = from->head;
    while ((int64_t)in.n < credit && from->head != NULL) {
        sp_msg *m = from->head;

        sp_msg_header_turn(m);
        cost += rx_stamp(p, m, wall);
        from->head = m->next;
        in.tail = m;
        in.n++;
    }
    in.tail->next = NULL;
    from->n -= in.n;
    from->tail = from->head != NULL ? from->tail : NULL;
    SP__TRACE(I3, p, in.n);
    rx_post(p, &in, cost);
    return true;
}

/// A batch of one. False: there is no credit.
static inline bool rx_pass_one(struct sp__pipe *p, sp_msg *m)
{
    // seq_cst: see rx_pass.
    int64_t credit = atomic_load_explicit(&p->rx_credit, memory_order_seq_cst);
    int64_t cost;

    SP__TRACE(I2, p, credit);
    if (credit <= 0) {
        SP__TRACE(I6, p, 1);
        return false;
    }
    SP__TRACE(I3, p, 1);
    sp_msg_header_turn(m);
    cost = rx_stamp(p, m, rx_wall());
    // seq_cst: see rx_post.
    (void)atomic_fetch_sub_explicit(&p->rx_credit, cost, memory_order_seq_cst);
    SP__TRACE(I4, p, cost);
    SP__TRACE(I5, p, 1);
    SP__TRACE(I6, p, 0);
    sp__post_one(&p->sock->actor, &p->rx_port, m);
    return true;
}

/// Behind every message that was passed: who passed them held the pipe until here.
static void rx_on_last(struct sp__port *port, sp_batch *nodes)
{
    (void)port;
    for (struct sp__node *n = (struct sp__node *)nodes->head, *next; n != NULL; n = next) {
        struct sp__pipe *p = SP__CONTAINER(n, struct sp__pipe, rx_last);

        next = n->next;
        sp__drop(&p->obj);
    }
}

static struct sp__port rx_last_port = {rx_on_last};

static SP__APART void rx_pass_last(struct sp__pipe *p)
{
    sp_batch last = {(sp_msg *)&p->rx_last, (sp_msg *)&p->rx_last, 1};

    sp__post_batch(&p->sock->actor, &rx_last_port, &last);
}

int sp__pipe_pass(struct sp__pipe *p, sp_batch *from)
{
    if (from->head == NULL) {
        rx_pass_last(p);
        return SP_OK;
    }
    if (from->n == 1) {
        sp_msg *m = from->head;

        if (!rx_pass_one(p, m)) {
            return SP_EAGAIN;
        }
        *from = (sp_batch){NULL, NULL, 0};
        return SP_OK;
    }
    // To the end of the credit: a grant that finds some left does not tell.
    while (from->head != NULL && rx_pass(p, from)) {
    }
    SP__TRACE(I6, p, from->n);
    return from->head != NULL ? SP_EAGAIN : SP_OK;
}

static size_t rx_max(const struct sp__pipe *p, int64_t credit)
{
    size_t max = p->rx_avg > RX_BYTES / RX_BATCH ? RX_BYTES / p->rx_avg : RX_BATCH;

    max = max > 0 ? max : 1;
    return (int64_t)max < credit ? max : (size_t)credit;
}

/// Reads as long as there is something, and credit for it.
static void rx_harvest(struct sp__pipe *p)
{
    for (int round = 0; p->readable; round++) {
        // seq_cst: without credit we stop; the grant that follows finds no credit and tells us
        // (sp__pipe_offer).
        int64_t credit = atomic_load_explicit(&p->rx_credit, memory_order_seq_cst);
        sp_batch in = {NULL, NULL, 0};
        unsigned ready = p->ready;
        size_t max;
        int n;

        SP__TRACE(I14, p, credit);
        if (credit <= 0) {
            return;
        }
        if (round == RX_ROUNDS) {
            sp__pipe_cmd_rx(p, SP__RX_CREDIT); // The others have their turn first.
            return;
        }
        max = rx_max(p, credit);
        n = p->ops->harvest(p->ref.tran, &in, max, ready);
        SP__TRACE(I15, p, n);
        if (in.n > 0) {
            rx_harvested(p, &in);
        }
        if (n < 0) {
            rx_fail(p, n);
            return;
        }
        // After a hang-up there is no further readiness: go on until the transport says that it is
        // over.
        p->readable = (size_t)n >= max || (n > 0 && (ready & SP_READY_HUP) != 0);
        if (!p->readable) {
            p->ready &= ~SP_READY_IN;
        }
    }
}

static void rx_on_event(struct sp__event *ev)
{
    struct sp__pipe *p = SP__CONTAINER(ev, struct sp__pipe, rx_ev);
    unsigned bits;

    // Acquire: pairs with the release in sp__pipe_cmd_rx.
    bits = atomic_exchange_explicit(&p->rx_cmd, 0, memory_order_acquire);
    SP__TRACE(I13, p, bits);
    p->ready |= bits & (SP_READY_IN | SP_READY_OUT | SP_READY_HUP);
    if ((bits & SP__RX_START) != 0) {
        p->started = true;
    }
    if ((bits & SP__RX_END) != 0) {
        p->rx_over = true;
        rx_note(p, SP__RX_STOPPED);
        return;
    }
    if (p->rx_over || !p->started) {
        return;
    }
    if (!p->shaken) {
        rx_shake(p);
        return;
    }
    if ((bits & (SP_READY_IN | SP_READY_HUP)) != 0 || (p->passes && (bits & SP__RX_CREDIT) != 0)) {
        p->readable = true;
    }
    rx_harvest(p);
}

void sp__pipe_cmd_rx(struct sp__pipe *p, unsigned bits)
{
    // Release: pairs with the exchange in rx_on_event.
    (void)atomic_fetch_or_explicit(&p->rx_cmd, bits, memory_order_release);
    SP__TRACE(I12, p, bits);
    sp__post(&p->rx_ev);
}

/* ------------------------------------------------------------------ Output */

/// Sums over what is still queued, to know what was written.
static inline void tx_measure(const sp_batch *q, uint64_t *cost, uint64_t *bytes)
{
    *cost = 0;
    *bytes = 0;
    for (const sp_msg *m = q->head; m != NULL; m = m->next) {
        *cost += ((const struct sp__msg *)m)->cost;
        *bytes += m->len;
    }
}

/// Readiness to write is reported only while output waits for it: a peer that reads makes a socket
/// writable all the time.
static void tx_quiet(struct sp__pipe *p, bool quiet)
{
    if (p->tx_quiet != quiet) {
        p->tx_quiet = quiet;
        sp__watch_out(&p->watch, !quiet);
    }
}

/// Reports what was written, when it is worth it: a quarter of the queue, or everything when output
/// stops (`stalled`) or somebody waits for every write.
static inline void tx_report(struct sp__pipe *p, uint64_t cost, bool stalled)
{
    uint64_t done = p->tx_unreported + cost;

    p->tx_unreported = done;
    if (done > 0 && (stalled || p->tx_eager || done >= (p->cap + 3) / 4)) {
        p->tx_unreported = 0;
        // Release: pairs with the exchange in pipe_written.
        (void)atomic_fetch_add_explicit(&p->tx_done, done, memory_order_release);
        sp__pipe_note(p, SP__NOTE_WRITTEN);
    }
}

/// The transport did not take all. Returns what it says now.
static SP__APART int tx_submit_again(struct sp__pipe *p)
{
    int rc;

    // Ask to be told first, then try again: an edge between the two cannot be lost. seq_cst: see
    // sp__pipe_ready.
    atomic_store_explicit(&p->tx_want, true, memory_order_seq_cst);
    SP__TRACE(H9, p, true);
    SP__TRACE(I7, p, p->txq.n);
    tx_quiet(p, false);
    SP__TRACE(H11, p, p->txq.n);
    sp__slot(&p->tx, SP__SLOT_SUBMIT); // That may be in a function of the protocol's.
    rc = p->ops->submit(p->ref.tran, &p->txq);
    sp__slot(&p->tx, SP__SLOT_NONE);
    SP__TRACE(H15, p, p->txq.n);
    return rc;
}

static SP__APART void tx_fail(struct sp__pipe *p, int rc)
{
    p->tx_over = true;
    SP__TRACE(H14, p, rc);
    atomic_store_explicit(&p->tx_err, rc, memory_order_relaxed);
    sp__pipe_note(p, SP__NOTE_TX_FAILED);
}

/// drop-old: what output has beyond its size goes, the oldest first; not the message in front,
/// which the transport may have begun to write, unless it passes messages whole.
static SP__APART void tx_trim(struct sp__pipe *p)
{
    sp_msg *begun = p->passes ? NULL : sp_batch_pop(&p->txq);
    uint64_t keep = p->cap + (begun != NULL ? sp__msg(begun)->cost : 0);

    while (p->txq_cost > keep && p->txq.n > 1) {
        sp_msg *m = sp_batch_pop(&p->txq);

        p->txq_cost -= sp__msg(m)->cost;
        p->txq_bytes -= m->len;
        sp__count(&p->tx_dropped, 1);
        sp__msg_release(m);
    }
    if (begun != NULL) {
        sp_batch_unpop(&p->txq, begun);
    }
    SP__TRACE(H22, p, p->txq.n);
}

/// Whether output, which the transport stopped, has too much.
static inline bool tx_excess(const struct sp__pipe *p)
{
    return p->txq_cost > p->cap && sp__option(&p->sock->opt.overflow) == SP_OVERFLOW_DROP_OLD;
}

/// What comes of a call of the transport that said `rc`, and was given `n` messages.
static void tx_submitted(struct sp__pipe *p, int rc, size_t n, uint64_t cost, uint64_t bytes)
{
    if (rc == SP_EAGAIN) {
        rc = tx_submit_again(p);
    }
    if (rc != SP_EAGAIN) {
        atomic_store_explicit(&p->tx_want, false, memory_order_relaxed);
        SP__TRACE(H9, p, false);
        SP__TRACE(I9, p, p->txq.n);
    }
    p->txq_cost = 0;
    p->txq_bytes = 0;
    if (p->txq.head != NULL) {
        tx_measure(&p->txq, &p->txq_cost, &p->txq_bytes);
    }
    sp__count(&p->tx_msgs, n - p->txq.n);
    sp__count(&p->tx_bytes, bytes - p->txq_bytes);
    if (rc == SP_EAGAIN && tx_excess(p)) {
        tx_trim(p);
    }
    atomic_store_explicit(&p->txq_depth, p->txq.n, memory_order_relaxed);
    tx_report(p, cost - p->txq_cost, rc == SP_EAGAIN);
    if (rc < 0 && rc != SP_EAGAIN) {
        tx_fail(p, rc);
    }
}

static void tx_submit(struct sp__pipe *p)
{
    size_t n = p->txq.n;
    uint64_t cost = p->txq_cost;
    uint64_t bytes = p->txq_bytes;
    int rc;

    if (p->tx_over) {
        return;
    }
    SP__TRACE(H11, p, p->txq.n);
    sp__slot(&p->tx, SP__SLOT_SUBMIT); // That may be in a function of the protocol's.
    rc = p->ops->submit(p->ref.tran, &p->txq);
    sp__slot(&p->tx, SP__SLOT_NONE);
    SP__TRACE(H15, p, p->txq.n);
    tx_submitted(p, rc, n, cost, bytes);
}

/// Behind what the transport did not take.
static SP__APART void tx_wait(struct sp__pipe *p)
{
    uint64_t cost = p->txq_cost;

    if (!p->tx_over && tx_excess(p)) {
        tx_trim(p);
        tx_report(p, cost - p->txq_cost, true);
    }
    atomic_store_explicit(&p->txq_depth, p->txq.n, memory_order_relaxed);
}

/// Messages from the socket's actor.
static void tx_on_msgs(struct sp__port *port, sp_batch *nodes)
{
    struct sp__pipe *p = SP__CONTAINER(port, struct sp__pipe, tx_port);
    bool busy = atomic_load_explicit(&p->tx_want, memory_order_relaxed);
    uint64_t cost;
    uint64_t bytes;

    tx_measure(nodes, &cost, &bytes);
    p->txq_cost += cost;
    p->txq_bytes += bytes;
    SP__TRACE(H7, p, nodes->n);
    sp_batch_join(&p->txq, nodes);
    if (!busy && !p->tx_over) {
        tx_submit(p);
    } else {
        tx_wait(p);
    }
}

static void tx_on_event(struct sp__event *ev)
{
    struct sp__pipe *p = SP__CONTAINER(ev, struct sp__pipe, tx_ev);
    unsigned bits;

    // Acquire: pairs with the release in sp__pipe_cmd_tx.
    bits = atomic_exchange_explicit(&p->tx_cmd, 0, memory_order_acquire);
    SP__TRACE(H5, p, bits);
    if (p->tx_over) {
        SP__TRACE(H13, p, 0);
        return; // What was not written is the socket's actor's by now.
    }
    if ((bits & SP__TX_EAGER) != 0) {
        p->tx_eager = true;
    }
    if ((bits & SP__TX_QUIET) != 0 && !atomic_load_explicit(&p->tx_want, memory_order_relaxed)) {
        tx_quiet(p, true);
    }
    if (p->txq.head != NULL) {
        tx_submit(p);
    } else {
        tx_report(p, 0, false);
    }
}

/// Behind every message that was queued.
static void tx_on_end(struct sp__port *port, sp_batch *nodes)
{
    (void)port;
    for (struct sp__node *n = (struct sp__node *)nodes->head, *next; n != NULL; n = next) {
        struct sp__pipe *p = SP__CONTAINER(n, struct sp__pipe, tx_end);

        next = n->next;
        p->tx_over = true;
        SP__TRACE(H6, p, p->txq.n);
        tx_report(p, 0, true);
        sp__pipe_note(p, SP__NOTE_TX_STOPPED);
        sp__drop(&p->obj);
    }
}

static struct sp__port tx_end_port = {tx_on_end};

void sp__pipe_end_output(struct sp__pipe *p)
{
    sp_batch end = {(sp_msg *)&p->tx_end, (sp_msg *)&p->tx_end, 1};

    sp__hold(&p->obj); // Until it was handled.
    sp__post_batch(p->tx_ev.actor, &tx_end_port, &end);
}

/// The transport did not take a message alone.
static SP__APART void tx_left_one(struct sp__pipe *p, int rc, sp_batch *one)
{
    uint64_t cost;
    uint64_t bytes;

    tx_measure(one, &cost, &bytes);
    p->txq = *one;
    tx_submitted(p, rc, 1, cost, bytes);
}

/// What waits already goes first.
static SP__APART void tx_behind(struct sp__pipe *p, sp_batch *one)
{
    tx_on_msgs(&p->tx_port, one);
}

SP__APART int sp__pipe_output_one(struct sp__pipe *p, sp_msg *m)
{
    uint64_t cost = sp__msg(m)->cost;
    uint64_t bytes = m->len;
    sp_batch one = {m, m, 1};
    int rc;

    SP__TRACE(H1, p, 1);
    if (p->txq.head != NULL || p->tx_over ||
        atomic_load_explicit(&p->tx_want, memory_order_relaxed)) {
        tx_behind(p, &one);
        return SP_OK;
    }
    SP__TRACE(H7, p, 1);
    SP__TRACE(H11, p, 1);
    sp__slot(&p->tx, SP__SLOT_SUBMIT);
    rc = p->ops->submit(p->ref.tran, &one);
    sp__slot(&p->tx, SP__SLOT_NONE);
    SP__TRACE(H15, p, one.n);
    if (rc != SP_OK) {
        tx_left_one(p, rc, &one);
        return SP_OK;
    }
    SP__TRACE(H9, p, false);
    SP__TRACE(I9, p, 0);
    sp__count(&p->tx_msgs, 1);
    sp__count(&p->tx_bytes, bytes);
    tx_report(p, cost, false);
    return SP_OK;
}

void sp__pipe_output(struct sp__pipe *p)
{
    SP__TRACE(H1, p, p->out.n);
    if (p->passes) {
        tx_on_msgs(&p->tx_port, &p->out);
    } else {
        sp__post_batch(&p->tx, &p->tx_port, &p->out);
    }
}

void sp__pipe_cmd_tx(struct sp__pipe *p, unsigned bits)
{
    // Release: pairs with the exchange in tx_on_event.
    (void)atomic_fetch_or_explicit(&p->tx_cmd, bits, memory_order_release);
    SP__TRACE(H4, p, bits);
    sp__post(&p->tx_ev);
}

/* ------------------------------------------------------------------ Readiness */

void sp__pipe_ready(struct sp__pipe *p, unsigned ready)
{
    if ((ready & (SP_READY_IN | SP_READY_HUP)) != 0 ||
        atomic_load_explicit(&p->state, memory_order_relaxed) == SP__PIPE_SHAKING) {
        sp__pipe_cmd_rx(p, ready);
    }
    if ((ready & SP_READY_OUT) != 0) {
        // seq_cst: see tx_submit.
        bool want = atomic_load_explicit(&p->tx_want, memory_order_seq_cst);

        SP__TRACE(H10, p, want);
        if (want) {
            sp__pipe_cmd_tx(p, SP_READY_OUT);
        }
    }
}

static void pipe_watch_ready(struct sp__watch *w, unsigned ready)
{
    struct sp__pipe *p = SP__CONTAINER(w, struct sp__pipe, watch);

    sp__pipe_ready(p, ready);
    if (ready == SP_READY_OUT && !atomic_load_explicit(&p->tx_want, memory_order_relaxed) &&
        atomic_load_explicit(&p->state, memory_order_relaxed) == SP__PIPE_UP) {
        sp__pipe_cmd_tx(p, SP__TX_QUIET);
    }
}

void sp__pipe_io_init(struct sp__pipe *p)
{
    struct sp__actor *tx;

    p->passes = (p->ops->flags & SP_TRANSPORT_PASSES) != 0;
    tx = p->passes ? &p->sock->actor : &p->tx;
    p->watch.ready = pipe_watch_ready;
    p->tx_port.handle = tx_on_msgs;
    SP__TRACE(H0, p, 0);
    sp__actor_init(&p->rx, &p->obj, false);
    sp__actor_init(&p->tx, &p->obj, false);
    sp__event_init(&p->rx_ev, &p->rx, NULL, rx_on_event);
    sp__event_init(&p->tx_ev, tx, p->passes ? &p->obj : NULL, tx_on_event);
}
