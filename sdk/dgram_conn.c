/* SPDX-License-Identifier: MIT */
/// A connection's life: from CREQ over CACK to DISC. A dialer's is begun by the socket's actor and
/// shaken by the pipe's input; a listener's was asked for before it is accepted.
#include "dgram_parts.h"

#include <sp/sdk/cause.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONN_READS 16 // datagrams of one step of a handshake

static void conn_reason(struct sp_dgram_pipe *p, int reason)
{
    // Release: pairs with conn_disc; our type was written before.
    __atomic_store_n(&p->reason, reason, __ATOMIC_RELEASE);
}

void sp__dgram_fail(struct sp_dgram_pipe *p, int err, int reason)
{
    int none = 0;

    if (dgram_error(p) != 0) {
        return;
    }
    conn_reason(p, reason);
    // Release: pairs with dgram_error.
    (void)__atomic_compare_exchange_n(&p->error, &none, err, false, __ATOMIC_RELEASE,
                                      __ATOMIC_RELAXED);
    p->host->pipe_ready(p->ref, SP_READY_IN | SP_READY_HUP);
}

/* ------------------------------------------------------------------ Hearing */

bool sp__dgram_data_fits(struct sp_dgram_pipe *p, const struct dgram_in *in)
{
    bool extended = (p->features & DGRAM_EXTENDED) != 0;

    if ((in->d.op == SP__DGRAM_XDATA) != extended) {
        sp_counter_add(&p->ep->counts.malformed, 1);
        return false;
    }
    if (in->d.file && (p->fd < 0 || !dgram_files(p))) {
        sp_counter_add(&p->ep->counts.malformed, 1);
        return false;
    }
    // A pack may be longer than the largest message; it is no longer than a datagram.
    if (in->fault == SP__DGRAM_CUT || (in->d.count == 1 && in->d.payload_len > p->recv_max)) {
        sp_counter_add(&p->ep->counts.toobig, 1);
        sp__dgram_fail(p, SP_EMSGSIZE, SP__DGRAM_SIZE);
        return false;
    }
    return true;
}

/// Whether a greeting is of the connection that it seems to be of. Plain peers have nothing to show
/// for it.
static bool conn_is_of(const struct sp_dgram_pipe *p, const struct sp__dgram *d)
{
    return (p->features & DGRAM_EXTENDED) == 0 || (d->extended && d->token == p->token);
}

/// A listener that does not know us any more, or is another one by now.
static bool conn_forgotten(const struct sp_dgram_pipe *p, const struct sp__dgram *d)
{
    return d->extended && ((d->features & SP__DGRAM_CHALLENGE) != 0 ||
                           memcmp(d->uuid, p->peer_uuid, sizeof(d->uuid)) != 0);
}

void sp__dgram_news(struct sp_dgram_pipe *p, const struct dgram_in *in)
{
    const struct sp__dgram *d = &in->d;

    if (d->op == SP__DGRAM_MESH || (d->op == SP__DGRAM_CREQ && p->dialed)) {
        struct sp__dgram no = {.op = SP__DGRAM_DISC,
                               .type = p->type,
                               .extended = d->extended, // Else rawip's peers take it for damaged.
                               .token = d->token,
                               .p0 = d->op == SP__DGRAM_MESH ? SP__DGRAM_PROTOCOL
                                                             : SP__DGRAM_REFUSED};

        memcpy(no.uuid, p->uuid, sizeof(no.uuid));
        (void)sp__dgram_say(p->ep, dgram_fd(p), dgram_to(p), &no);
    } else if (conn_is_of(p, d) && d->op == SP__DGRAM_DISC) {
        sp__dgram_fail(p, sp__dgram_disc_error(d), -1);
    } else if (conn_is_of(p, d) && d->op == SP__DGRAM_CACK && p->dialed) {
        if (conn_forgotten(p, d)) {
            sp__dgram_fail(p, -ECONNRESET, -1);
        } else {
            dgram_heard(p, in->now);
        }
    } else if (conn_is_of(p, d) && d->op == SP__DGRAM_CREQ) {
        dgram_heard(p, in->now);
        (void)sp__dgram_greet(p, SP__DGRAM_CACK, 0);
    } else {
        sp_counter_add(&p->ep->counts.nomatch, 1);
    }
}

/* ------------------------------------------------------------------ Beginning */

static int conn_open(struct sp_dgram_pipe *p, struct sp_dgram_ep *e, sp_pipe_ref *ref)
{
    p->fd = -1;
    p->far = -1;
    p->ep = e;
    p->ref = ref;
    if (pthread_mutex_init(&p->lock, NULL) != 0) {
        return SP_ENOMEM;
    }
    p->host = e->host;
    p->since = e->host->now();
    dgram_heard(p, p->since);
    return SP_OK;
}

static void conn_close_fds(int fd, int far)
{
    if (fd >= 0) {
        (void)close(fd);
    }
    if (far >= 0) {
        (void)close(far);
    }
}

/// A dialer's socket, and the other one of a pair.
static int conn_sockets(struct sp_dgram_ep *e, int fds[2], sp_cause *cause)
{
    if (dgram_pairs(e)) {
        return e->kind->pair(e, fds, cause);
    }
    fds[0] = e->kind->open(e, NULL, cause);
    return fds[0] < 0 ? fds[0] : SP_OK;
}

int sp_dgram_dial(void *ep, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    struct sp_dgram_ep *e = ep;
    struct sp_dgram_pipe *p = pipe;
    uint64_t r[3] = {e->host->random(), e->host->random(), e->host->random()};
    int fds[2] = {-1, -1};
    int rc;

    if (e->closed) {
        return sp_fail(cause, SP_ECLOSED, "dial");
    }
    rc = conn_sockets(e, fds, cause);
    if (rc < 0) {
        return rc;
    }
    rc = conn_open(p, e, ref);
    if (rc == SP_OK) {
        p->dialed = true;
        p->fd = fds[0];
        p->far = fds[1];
        p->token = r[0] ^ r[1] << 32;
        memcpy(p->uuid, &r[1], 8);
        memcpy(p->uuid + 8, &r[2], 8);
        (void)pthread_mutex_lock(&e->lock);
        e->pipe = p;
        (void)pthread_mutex_unlock(&e->lock);
        rc = sp__dgram_ep_begin(e);
    }
    if (rc == SP_OK) {
        rc = e->host->pipe_watch(ref, fds[0]);
    }
    if (rc < 0) {
        if (p->host == NULL) {
            conn_close_fds(fds[0], fds[1]);
        }
        sp_dgram_pipe_close(p);
        sp_dgram_pipe_fini(p);
        return sp_fail(cause, rc, "watch");
    }
    return SP_OK;
}

/// The next one who asked, with the fd of its own that it sent along, if so.
static int conn_take(struct sp_dgram_ep *e, struct sp_dgram_pipe *p, sp_pipe_ref *ref,
                     struct sp_dgram_peer *peer, sp_cause *cause)
{
    int rc = conn_open(p, e, ref);

    if (rc == SP_OK && peer->fd >= 0) {
        rc = e->host->pipe_watch(ref, peer->fd);
    }
    if (rc < 0) {
        if (p->host != NULL) {
            (void)pthread_mutex_destroy(&p->lock);
            p->host = NULL;
        }
        return sp_fail(cause, rc, "watch");
    }
    p->fd = peer->fd;
    peer->fd = -1;
    p->peer = peer;
    peer->pipe = p;
    e->pipes++;
    return SP_OK;
}

int sp_dgram_accept(void *ep, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    struct sp_dgram_ep *e = ep;
    struct sp_dgram_peer *peer;
    int rc = SP_EAGAIN;

    (void)pthread_mutex_lock(&e->lock);
    peer = e->closed ? NULL : e->waiting;
    if (peer != NULL) {
        e->waiting = peer->wait;
        rc = conn_take(e, pipe, ref, peer, cause);
        if (rc < 0) {
            sp__dgram_peer_remove(e, peer); // It asks again.
            sp__dgram_peer_free(peer);
        }
    }
    (void)pthread_mutex_unlock(&e->lock);
    return rc;
}

/* ------------------------------------------------------------------ Shaking */

/// What both ends said. 0 of a plain peer would be nothing at all: it means any.
static void conn_agree(struct sp_dgram_pipe *p, uint8_t features, uint32_t send_max,
                       uint16_t refresh_s)
{
    const struct sp_dgram_kind *kind = p->ep->kind;
    int64_t refresh = sp_option_load(&p->ep->refresh);
    size_t max = kind->payload != NULL && p->fd >= 0 ? kind->payload(p->ep, p->fd) : 0;
    size_t unsplit = kind->unsplit != NULL
                         ? kind->unsplit(p->ep, dgram_fd(p), p->fd < 0 ? &p->peer->addr : NULL)
                         : 0;

    p->features = features;
    max = max > 0 && max < p->ep->payload_max ? max : p->ep->payload_max;
    p->send_max = send_max > 0 && send_max < max ? send_max : (uint32_t)max;
    p->pack_max = unsplit > 0 && unsplit < max ? (uint32_t)unsplit : (uint32_t)max;
    refresh = refresh_s * INT64_C(1000) < refresh ? refresh_s * INT64_C(1000) : refresh;
    p->refresh_ms = (uint32_t)refresh;
    p->expire_ms = (uint32_t)(refresh * 5 < UINT32_MAX ? refresh * 5 : UINT32_MAX);
}

static void conn_agree_files(struct sp_dgram_pipe *p, uint32_t kib)
{
    bool files = dgram_files(p) && (p->features & SP__DGRAM_FILES) != 0;

    p->file_send_max = !files ? 0 : kib == UINT32_MAX ? UINT64_MAX : (uint64_t)kib * 1024;
}

static int conn_up(struct sp_dgram_pipe *p, sp_handshake *hs)
{
    const struct sp_dgram_kind *kind = p->ep->kind;
    int was = p->dialed ? DGRAM_ASKING : DGRAM_NEW;
    struct sp_dgram_addr local = p->ep->local;
    socklen_t len = sizeof(local.at);

    hs->uid = p->who.uid;
    hs->gid = p->who.gid;
    hs->pid = p->who.pid;
    if (!dgram_pairs(p->ep) && getsockname(dgram_fd(p), &local.at.sa, &len) == 0) {
        local.len = (uint16_t)len;
    }
    kind->text(&local, hs->local, sizeof(hs->local));
    // The sockets of a pair have no names.
    kind->text(dgram_pairs(p->ep) || p->peer == NULL ? &p->ep->remote : &p->peer->addr, hs->remote,
               sizeof(hs->remote));
    hs->send_max = p->file_send_max > 0 && sp_option_load(&p->ep->file_min) > 0 ? p->file_send_max
                                                                                : p->send_max;
    hs->send_hint = kind->limit_hint;
    if (kind->admit != NULL) {
        int rc = kind->admit(p->ep, p, hs);

        if (rc < 0) {
            conn_reason(p, SP__DGRAM_REFUSED);
            return rc;
        }
    }
    dgram_heard(p, p->host->now());
    // Release: pairs with dgram_state.
    return __atomic_compare_exchange_n(&p->state, &was, DGRAM_UP, false, __ATOMIC_RELEASE,
                                       __ATOMIC_RELAXED)
               ? SP_OK
               : SP_ECLOSED;
}

static void conn_limits(struct sp_dgram_pipe *p, const sp_handshake *hs)
{
    uint64_t max = p->ep->payload_max;

    p->type = hs->ids.own;
    p->file_recv_max = hs->recv_max;
    p->recv_max = (uint32_t)(hs->recv_max > 0 && hs->recv_max < max ? hs->recv_max : max);
}

/// A listener's: the peer asked already, and showed its cookie.
static int conn_answer(struct sp_dgram_pipe *p, sp_handshake *hs)
{
    const struct sp_dgram_peer *peer = p->peer;
    bool fits = sp_handshake_choose(hs, peer->type);
    int rc;

    conn_limits(p, hs);
    p->peer_type = peer->type;
    p->who = peer->who;
    p->token = peer->token;
    memcpy(p->peer_uuid, peer->uuid, sizeof(p->peer_uuid));
    conn_agree(p, peer->features, peer->send_max, peer->refresh);
    conn_agree_files(p, peer->file_max);
    if (!fits) {
        conn_reason(p, SP__DGRAM_TYPE);
        return sp_fail(&hs->cause, SP_EPROTO, "the peer is of type 0x%02x", peer->type);
    }
    rc = conn_up(p, hs);
    if (rc == SP_OK && sp__dgram_greet(p, SP__DGRAM_CACK, 0) < 0 && dgram_pairs(p->ep)) {
        return sp_fail(&hs->cause, -ECONNRESET, "the peer closed"); // It has waited long enough.
    }
    return rc;
}

/// Sends the other one of the pair to the listener, which holds the only one from then on: if it
/// goes, the system says so.
static int conn_hand_over(struct sp_dgram_pipe *p, sp_handshake *hs)
{
    unsigned char bytes[DGRAM_SAID_MAX];
    struct sp__dgram d = sp__dgram_greeting_of(p, SP__DGRAM_CREQ, 0);
    size_t n = sp__dgram_lay(p->ep, NULL, &d, bytes);
    int rc = p->ep->kind->ask(p->ep, bytes, n, p->far);

    if (rc == SP_EAGAIN) {
        sp__dgram_want(p->ep, DGRAM_WANT_ASK);
        return SP_EAGAIN;
    }
    if (rc < 0) {
        conn_reason(p, -1);
        return sp_fail(&hs->cause, rc, "connect");
    }
    sp_counter_add(&p->ep->counts.tx_datagrams, 1);
    (void)close(p->far);
    p->far = -1;
    return SP_EAGAIN;
}

/// SP_EAGAIN: the answer follows. Not any more once it is closed: the listener would take what
/// comes behind DISC for a new one.
static int conn_ask(struct sp_dgram_pipe *p, sp_handshake *hs)
{
    if (p->far >= 0) {
        return conn_hand_over(p, hs);
    }
    (void)pthread_mutex_lock(&p->ep->lock);
    if (dgram_state(p) != DGRAM_CLOSED) {
        (void)sp__dgram_greet(p, SP__DGRAM_CREQ, 0);
    }
    (void)pthread_mutex_unlock(&p->ep->lock);
    return SP_EAGAIN;
}

/// A listener's CACK for a dialer.
static int conn_accepted(struct sp_dgram_pipe *p, const struct dgram_in *in, sp_handshake *hs)
{
    const struct sp__dgram *d = &in->d;
    uint8_t features = d->extended ? (uint8_t)((d->features & (SP__DGRAM_PACKS | SP__DGRAM_FILES |
                                                               SP__DGRAM_CRCS)) |
                                               DGRAM_EXTENDED)
                                   : 0;

    if ((!d->extended && (p->ep->kind->flags & SP_DGRAM_PLAIN) == 0) || d->p1 == 0) {
        conn_reason(p, SP__DGRAM_NEGOTIATION);
        hs->peer = 0;
        return sp_fail(&hs->cause, SP_EPROTO, "the peer does not agree to what was asked");
    }
    p->peer_type = d->type;
    p->who = in->who;
    memcpy(p->peer_uuid, d->uuid, sizeof(p->peer_uuid));
    if (!sp_handshake_choose(hs, d->type)) {
        conn_reason(p, SP__DGRAM_TYPE);
        return sp_fail(&hs->cause, SP_EPROTO, "the peer is of type 0x%02x", d->type);
    }
    conn_agree(p, features, d->extended ? d->payload_max : d->p0, d->p1);
    conn_agree_files(p, d->extended ? d->file_max : 0);
    return conn_up(p, hs);
}

/// One datagram for a dialer that asks. SP_EAGAIN: it goes on.
static int conn_heard(struct sp_dgram_pipe *p, const struct dgram_in *in, sp_handshake *hs)
{
    const struct sp__dgram *d = &in->d;
    bool ours = !d->extended || d->token == p->token;

    if (in->fault != SP__DGRAM_FINE) {
        sp_counter_add(&p->ep->counts.malformed, 1);
    } else if (d->op == SP__DGRAM_CREQ || d->op == SP__DGRAM_MESH) {
        sp__dgram_news(p, in);
    } else if (!ours || (d->op != SP__DGRAM_CACK && d->op != SP__DGRAM_DISC)) {
        sp_counter_add(&p->ep->counts.nomatch, 1);
    } else if (d->op == SP__DGRAM_DISC) {
        conn_reason(p, -1);
        hs->peer = d->p0 == SP__DGRAM_TYPE ? d->type : 0;
        return sp_fail(&hs->cause, sp__dgram_disc_error(d), "%s", sp__dgram_disc_text(d));
    } else if (d->extended && (d->features & SP__DGRAM_CHALLENGE) != 0) {
        __atomic_store_n(&p->cookie, d->cookie, __ATOMIC_RELAXED);
        return conn_ask(p, hs);
    } else {
        return conn_accepted(p, in, hs);
    }
    return SP_EAGAIN;
}

int sp_dgram_handshake(void *pipe, unsigned ready, sp_handshake *hs)
{
    struct sp_dgram_pipe *p = pipe;
    struct sp_dgram_addr from;
    struct dgram_in in;
    int rc = SP_OK;

    (void)ready;
    if (p->peer != NULL) {
        return dgram_error(p) == 0 ? conn_answer(p, hs)
                                   : sp_fail(&hs->cause, dgram_error(p), "the peer closed");
    }
    if (dgram_state(p) == DGRAM_NEW) {
        int was = DGRAM_NEW;

        conn_limits(p, hs);
        // Release: pairs with dgram_state in the timer's turn.
        (void)__atomic_compare_exchange_n(&p->state, &was, DGRAM_ASKING, false, __ATOMIC_RELEASE,
                                          __ATOMIC_RELAXED);
        rc = conn_ask(p, hs);
    } else if (p->far >= 0) {
        rc = conn_hand_over(p, hs);
    }
    if (rc != SP_OK && rc != SP_EAGAIN) {
        return rc;
    }
    rc = SP_OK;
    for (int i = 0; i < CONN_READS && rc == SP_OK; i++) {
        rc = sp__dgram_read_one(p->ep, p->fd, &from, &in);
        if (rc == SP_OK) {
            rc = conn_heard(p, &in, hs);
            if (rc != SP_EAGAIN) {
                return rc;
            }
            rc = SP_OK;
        }
    }
    if (rc == SP_OK) {
        p->host->pipe_ready(p->ref, SP_READY_IN);
        return SP_EAGAIN;
    }
    if (rc == SP_EAGAIN && dgram_error(p) != 0) {
        return sp_fail(&hs->cause, dgram_error(p), "no answer");
    }
    if (rc == SP_ECLOSED) {
        conn_reason(p, -1);
        return sp_fail(&hs->cause, -ECONNREFUSED, "the peer does not take the connection");
    }
    return rc == SP_EAGAIN ? rc : sp_fail(&hs->cause, rc, "connect");
}

/* ------------------------------------------------------------------ The end */

/// A listener's that is not up: its input may be agreeing with the peer just now.
static void conn_refuse(struct sp_dgram_pipe *p, uint16_t reason)
{
    struct sp__dgram d = {.op = SP__DGRAM_DISC,
                          .p0 = reason,
                          .token = p->peer->token,
                          .type = reason == SP__DGRAM_TYPE ? p->type : 0,
                          .extended = (p->peer->features & DGRAM_EXTENDED) != 0};

    memcpy(d.uuid, p->ep->uuid, sizeof(d.uuid));
    (void)sp__dgram_say(p->ep, dgram_fd(p), dgram_to(p), &d);
}

static void conn_disc(struct sp_dgram_pipe *p, int state)
{
    // Acquire: pairs with conn_reason.
    int reason = __atomic_load_n(&p->reason, __ATOMIC_ACQUIRE);

    if (reason >= 0 && state != DGRAM_UP && p->peer != NULL) {
        conn_refuse(p, (uint16_t)reason);
    } else if (reason >= 0 && state != DGRAM_NEW) {
        (void)sp__dgram_greet(p, SP__DGRAM_DISC, (uint16_t)reason);
    }
    if (dgram_pairs(p->ep)) {
        (void)shutdown(p->fd, SHUT_RDWR); // The end comes behind all that was sent.
    }
}

void sp_dgram_pipe_close(void *pipe)
{
    struct sp_dgram_pipe *p = pipe;
    struct sp_dgram_ep *e = p->ep;
    int was;

    if (p->host == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&e->lock);
    was = dgram_state(p);
    if (was != DGRAM_CLOSED) {
        conn_disc(p, was);
        // Release: pairs with dgram_state.
        __atomic_store_n(&p->state, DGRAM_CLOSED, __ATOMIC_RELEASE);
        if (p->peer != NULL) {
            sp__dgram_peer_remove(e, p->peer);
            sp__dgram_ep_left(e);
        } else if (e->pipe == p) {
            e->pipe = NULL;
        }
    }
    (void)pthread_mutex_unlock(&e->lock);
}

void sp_dgram_pipe_fini(void *pipe)
{
    struct sp_dgram_pipe *p = pipe;
    sp_batch *all[] = {&p->queue, &p->ready, &p->held};

    if (p->host == NULL) {
        return;
    }
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        for (sp_msg *m; (m = sp_batch_pop(all[i])) != NULL;) {
            p->host->msg_release(m);
        }
    }
    sp__dgram_trim(p->ep, &p->rx_large);
    if (p->fd >= 0 && p->ep->kind->closed != NULL) {
        p->ep->kind->closed(p->ep, p->fd);
    }
    conn_close_fds(p->fd, p->far);
    sp__dgram_peer_free(p->peer);
    (void)pthread_mutex_destroy(&p->lock);
    p->host = NULL;
}
