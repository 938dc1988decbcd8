/* SPDX-License-Identifier: MIT */
/// The datagram kit's endpoint: a listener's socket and what comes through it, and one timer for
/// everything. All in the socket's actor; the lock is for what pipes ask of it.
#include "dgram_parts.h"

#include <sp/sdk/cause.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EP_ROUNDS 8                      // bursts of one turn
#define EP_QUEUE_MAX 4096                // messages that a pipe of a shared fd has waiting
#define EP_QUEUE_BYTES ((size_t)4 << 20) // … and bytes

/* ------------------------------------------------------------------ Life */

static uint64_t ep_random(const struct sp_host *host)
{
    return host->random() ^ host->random() << 32;
}

int sp_dgram_init(struct sp_dgram_ep *e, const sp_host *host, sp_ep_ref *ref,
                  const struct sp_dgram_kind *kind, sp_cause *cause)
{
    e->host = host;
    e->ref = ref;
    e->kind = kind;
    e->payload_max = kind->payload_max;
    e->fd = -1;
    for (size_t i = 0; i < 2; i++) {
        uint64_t r = ep_random(host);

        e->secret[i] = ep_random(host);
        memcpy(e->uuid + 8 * i, &r, 8);
    }
    if (pthread_mutex_init(&e->lock, NULL) != 0) {
        return sp_fail(cause, SP_ENOMEM, "lock");
    }
    e->locked = true;
    return SP_OK;
}

static void ep_arm(struct sp_dgram_ep *e, int64_t ms)
{
    if (e->timer != NULL && !e->released) {
        e->host->timer_arm(e->timer, ms);
    }
}

/// The timer, with its first turn in `ms`.
static int ep_timer(struct sp_dgram_ep *e, int64_t ms)
{
    int rc = e->timer == NULL ? e->host->ep_timer_new(e->ref, e, &e->timer) : SP_OK;

    if (rc == SP_OK) {
        e->due = e->host->now() + ms * DGRAM_MS;
        ep_arm(e, ms);
    }
    return rc;
}

int sp_dgram_listen(void *ep, sp_bound *bound, sp_cause *cause)
{
    struct sp_dgram_ep *e = ep;
    int rc = e->kind->open(e, bound, cause);

    if (rc < 0) {
        return rc;
    }
    e->fd = rc;
    rc = ep_timer(e, sp_option_load(&e->refresh));
    if (rc == SP_OK) {
        rc = e->host->ep_watch(e->ref, e->fd);
        if (rc < 0) {
            (void)sp_fail(cause, rc, "watch");
        }
    }
    if (rc == SP_OK) {
        rc = sp__dgram_meet(e, cause);
        if (rc < 0) {
            e->host->ep_unwatch(e->ref, e->fd);
        }
    }
    if (rc < 0) {
        if (e->kind->closed != NULL) {
            e->kind->closed(e, e->fd);
        }
        (void)close(e->fd);
        e->fd = -1;
    }
    return rc;
}

/// The address is free from now on. Output of pipes that are closed may still be using the fd: then
/// it leads nowhere until they are freed.
static void ep_release(struct sp_dgram_ep *e)
{
    int nowhere;

    if (e->fd < 0 || e->released) {
        return;
    }
    e->released = true;
    e->host->timer_cancel(e->timer);
    e->host->ep_unwatch(e->ref, e->fd);
    if (e->kind->closed != NULL) {
        e->kind->closed(e, e->fd);
    }
    nowhere = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nowhere >= 0) {
        (void)dup3(nowhere, e->fd, O_CLOEXEC);
        (void)close(nowhere);
    } // Without an fd for that the address is free when the last pipe is.
}

static void ep_forget_waiting(struct sp_dgram_ep *e)
{
    for (struct sp_dgram_peer *peer = e->waiting, *next; peer != NULL; peer = next) {
        struct sp__dgram d = {.op = SP__DGRAM_DISC,
                              .p0 = SP__DGRAM_REFUSED,
                              .token = peer->token,
                              .extended = (peer->features & DGRAM_EXTENDED) != 0};

        next = peer->wait;
        (void)sp__dgram_say(e, peer->fd >= 0 ? peer->fd : e->fd, peer->fd >= 0 ? NULL : &peer->addr,
                            &d);
        sp__dgram_peer_remove(e, peer);
        sp__dgram_peer_free(peer);
    }
    e->waiting = NULL;
}

void sp_dgram_ep_close(void *ep)
{
    struct sp_dgram_ep *e = ep;

    sp__dgram_part(e);
    (void)pthread_mutex_lock(&e->lock);
    e->closed = true;
    ep_forget_waiting(e);
    if (e->pipes == 0 || dgram_pairs(e)) {
        ep_release(e);
    }
    (void)pthread_mutex_unlock(&e->lock);
}

void sp__dgram_ep_left(struct sp_dgram_ep *e)
{
    e->pipes--;
    if (e->pipes == 0 && e->closed) {
        ep_release(e);
    }
}

void sp_dgram_ep_fini(void *ep)
{
    struct sp_dgram_ep *e = ep;

    sp__dgram_trim(e, &e->rx_large);
    free(e->table);
    if (e->fd >= 0) {
        (void)close(e->fd);
    }
    if (e->locked) {
        (void)pthread_mutex_destroy(&e->lock);
    }
}

void sp__dgram_want(struct sp_dgram_ep *e, int what)
{
    // Release: pairs with the exchange in sp_dgram_on_ready; what is wanted stands in the pipe.
    int before = __atomic_fetch_or(&e->wanted, what, __ATOMIC_RELEASE);

    if ((before & what) == 0) {
        e->host->ep_ready(e->ref);
    }
}

/* ------------------------------------------------------------------ A listener's datagrams */

/// One burst: pipes that have something new are told once.
struct ep_burst {
    struct sp_dgram_ep *e;
    struct sp_dgram_pipe *told[DGRAM_SLOTS];
    int n;
    bool data;
};

static void ep_tell(struct ep_burst *b, struct sp_dgram_pipe *p)
{
    if (!p->touched) {
        p->touched = true;
        b->told[b->n++] = p;
    }
}

/// Messages for a pipe of the shared fd.
static void ep_data(struct ep_burst *b, struct sp_dgram_pipe *p, struct dgram_in *in)
{
    sp_batch msgs = {NULL, NULL, 0};
    size_t bytes = in->d.payload_len;
    bool full;

    b->data = true;
    p->peer->useful = in->now;
    (void)pthread_mutex_lock(&p->lock);
    full = p->queue.n + in->d.count > EP_QUEUE_MAX ||
           (p->queue.n > 0 && p->queue_bytes + bytes > EP_QUEUE_BYTES);
    (void)pthread_mutex_unlock(&p->lock);
    if (full) {
        sp_counter_add(&b->e->counts.nobuf, in->d.count);
        ep_tell(b, p);
        return;
    }
    (void)sp__dgram_messages(b->e, in, &msgs);
    (void)pthread_mutex_lock(&p->lock);
    p->queue_bytes += bytes;
    sp_batch_join(&p->queue, &msgs);
    (void)pthread_mutex_unlock(&p->lock);
    ep_tell(b, p);
}

static bool ep_is_data(const struct dgram_in *in)
{
    return in->d.op == SP__DGRAM_DATA || in->d.op == SP__DGRAM_XDATA;
}

/// One who asked, and whose connection is not up yet, says that it ends. False: it is not that.
static bool ep_withdrawn(struct sp_dgram_ep *e, struct sp_dgram_peer *peer,
                         const struct dgram_in *in)
{
    struct sp_dgram_peer **at = &e->waiting;

    if (in->d.op != SP__DGRAM_DISC || peer == NULL ||
        ((peer->features & DGRAM_EXTENDED) != 0 &&
         (!in->d.extended || in->d.token != peer->token)) ||
        (peer->pipe != NULL && dgram_state(peer->pipe) != DGRAM_NEW)) {
        return false;
    }
    if (peer->pipe != NULL) {
        sp__dgram_fail(peer->pipe, sp__dgram_disc_error(&in->d), -1);
        return true;
    }
    e->waiting_last = NULL;
    while (*at != NULL) {
        if (*at == peer) {
            *at = peer->wait;
        } else {
            e->waiting_last = *at;
            at = &(*at)->wait;
        }
    }
    sp__dgram_peer_remove(e, peer);
    free(peer);
    return true;
}

static void ep_take(void *arg, struct dgram_in *in)
{
    struct ep_burst *b = arg;
    struct sp_dgram_ep *e = b->e;
    struct sp_dgram_peer *peer = sp__dgram_find(e, in->from);
    struct sp_dgram_pipe *p = peer != NULL ? peer->pipe : NULL;

    if (dgram_pairs(e)) {
        sp__dgram_pair(e, in);
    } else if (in->fault == SP__DGRAM_MALFORMED) {
        sp_counter_add(&e->counts.malformed, 1);
    } else if (in->d.op == SP__DGRAM_CREQ) {
        if (peer != NULL) {
            sp__dgram_creq(e, peer, in);
        } else {
            sp__dgram_stranger(e, in);
        }
    } else if (in->d.op == SP__DGRAM_MESH) {
        sp__dgram_refuse(e, in, SP__DGRAM_PROTOCOL);
    } else if (ep_withdrawn(e, peer, in)) {
        return;
    } else if (p == NULL || dgram_state(p) != DGRAM_UP) {
        sp_counter_add(&e->counts.nomatch, 1);
    } else if (!ep_is_data(in)) {
        sp__dgram_news(p, in);
    } else if (sp__dgram_data_fits(p, in)) {
        dgram_heard(p, in->now);
        ep_data(b, p, in);
    }
}

static void ep_read(struct sp_dgram_ep *e)
{
    struct ep_burst b = {.e = e};
    struct dgram_taker taker = {ep_take, &b};
    bool full = true;
    int rounds = 0;

    (void)pthread_mutex_lock(&e->lock);
    for (; full && rounds < EP_ROUNDS && !e->released; rounds++) {
        if (sp__dgram_burst(e, e->fd, &e->rx_slots, &e->rx_large, &full, &taker) < 0) {
            full = false;
        }
        for (int i = 0; i < b.n; i++) {
            b.told[i]->touched = false;
            e->host->pipe_ready(b.told[i]->ref, SP_READY_IN);
        }
        b.n = 0;
    }
    if (!b.data) {
        sp__dgram_trim(e, &e->rx_large);
    }
    (void)pthread_mutex_unlock(&e->lock);
    if (full) {
        sp__dgram_want(e, DGRAM_WANT_READ); // The others have their turn first.
    }
}

/* ------------------------------------------------------------------ Readiness and time */

/// How long a dialer waits that found no room at a listener: up to 1, 2, 4 … ms, so that many do
/// not come at once.
static int64_t ep_soon(struct sp_dgram_ep *e, int64_t most)
{
    int64_t ms = INT64_C(2) << e->tries;

    e->tries += e->tries < 16;
    ms = ms < most ? ms : most;
    return 1 + (int64_t)(e->host->random() % (uint64_t)ms);
}

void sp_dgram_on_ready(void *ep, unsigned ready)
{
    struct sp_dgram_ep *e = ep;
    // Acquire: pairs with sp__dgram_want.
    int wanted = __atomic_exchange_n(&e->wanted, 0, __ATOMIC_ACQUIRE);

    if ((wanted & DGRAM_WANT_ASK) != 0) {
        int64_t ms = ep_soon(e, sp_option_load(&e->conn_retry));

        e->due = e->host->now() + ms * DGRAM_MS;
        ep_arm(e, ms);
    } else if ((wanted & DGRAM_WANT_RETRY) != 0) {
        ep_arm(e, DGRAM_RETRY_MS);
    } else if ((wanted & DGRAM_WANT_HOLD) != 0) {
        ep_arm(e, DGRAM_HOLD_MS);
    }
    if (((ready & (SP_READY_IN | SP_READY_HUP)) != 0 || (wanted & DGRAM_WANT_READ) != 0) &&
        e->fd >= 0 && !e->released) {
        ep_read(e);
    }
}

/// What a pipe waits for besides datagrams. Whether it still does.
static bool ep_tick_often(struct sp_dgram_pipe *p)
{
    unsigned ready = 0;

    // Acquire: pairs with the release of who set it, the pipe's output.
    if (__atomic_exchange_n(&p->blocked, 0, __ATOMIC_ACQUIRE) != 0) {
        ready |= SP_READY_OUT;
    }
    if (__atomic_load_n(&p->holding, __ATOMIC_RELAXED) != 0) {
        ready |= SP_READY_IN;
    }
    if (ready != 0) {
        p->host->pipe_ready(p->ref, ready);
    }
    return (ready & SP_READY_IN) != 0;
}

static void ep_tick_silence(struct sp_dgram_pipe *p, int64_t now)
{
    int64_t heard = __atomic_load_n(&p->heard, __ATOMIC_RELAXED);

    if (dgram_state(p) == DGRAM_UP && !dgram_pairs(p->ep) &&
        now - heard > (int64_t)p->expire_ms * DGRAM_MS) {
        sp_counter_add(&p->ep->counts.inactive, 1);
        sp__dgram_fail(p, SP_ETIMEDOUT, SP__DGRAM_INACTIVE);
    }
}

/// A dialer's connection. In how many ms it is to be looked at again.
static int64_t ep_tick_dialer(struct sp_dgram_ep *e, struct sp_dgram_pipe *p, int64_t now)
{
    int64_t retry = sp_option_load(&e->conn_retry);

    if (dgram_state(p) == DGRAM_UP) {
        ep_tick_silence(p, now);
        if (!dgram_pairs(e)) {
            (void)sp__dgram_greet(p, SP__DGRAM_CREQ, 0);
        }
        return p->refresh_ms;
    }
    if (now - p->since > sp_option_load(&e->conn_expire) * DGRAM_MS) {
        sp__dgram_fail(p, SP_ETIMEDOUT, -1);
    } else if (dgram_state(p) == DGRAM_ASKING && dgram_pairs(e)) {
        p->host->pipe_ready(p->ref, SP_READY_IN); // It asks, if it has not yet.
    } else if (dgram_state(p) == DGRAM_ASKING) {
        (void)sp__dgram_greet(p, SP__DGRAM_CREQ, 0);
    }
    return retry;
}

void sp_dgram_on_timer(void *ep, void *cookie)
{
    struct sp_dgram_ep *e = ep;
    int64_t now = e->host->now();
    bool due = now >= e->due;
    int64_t next = sp_option_load(&e->refresh);
    bool often = false;

    if (cookie != ep) {
        sp__dgram_meet_due(e);
        return;
    }
    (void)pthread_mutex_lock(&e->lock);
    if (e->pipe != NULL) {
        often = ep_tick_often(e->pipe);
        next = due ? ep_tick_dialer(e, e->pipe, now) : next;
    }
    for (uint32_t i = 0; i < e->table_size; i++) {
        for (struct sp_dgram_peer *peer = e->table[i]; peer != NULL; peer = peer->next) {
            if (peer->pipe == NULL) {
                continue;
            }
            often = ep_tick_often(peer->pipe) || often;
            if (due) {
                ep_tick_silence(peer->pipe, now);
            }
        }
    }
    if (due) {
        e->due = now + next * DGRAM_MS;
    }
    next = (e->due - now + DGRAM_MS - 1) / DGRAM_MS;
    if (e->pipe != NULL || e->fd >= 0) {
        ep_arm(e, often && next > DGRAM_HOLD_MS ? DGRAM_HOLD_MS : next);
    }
    (void)pthread_mutex_unlock(&e->lock);
}

/// A dialer begins an attempt.
int sp__dgram_ep_begin(struct sp_dgram_ep *e)
{
    e->tries = 0;
    return ep_timer(e, sp_option_load(&e->conn_retry));
}
