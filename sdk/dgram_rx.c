/* SPDX-License-Identifier: MIT */
/// Reading datagrams: many a call, each with its beginning in scratch memory and, if it is large,
/// the rest in a buffer that becomes the message. Input of a pipe, or the listener's actor.
#include "dgram_parts.h"

#include <sp/sdk/crc32c.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RX_COPIED 16384 // a payload up to this size gets a message of its own
#define RX_SLOTS_MIN 2  // one more than came: to see that there is nothing more in the same call
#define RX_ROUNDS 4     // bursts of one harvest

void sp__dgram_trim(const struct sp_dgram_ep *e, sp_msg ***large)
{
    if (*large == NULL) {
        return;
    }
    for (int i = 0; i < DGRAM_SLOTS; i++) {
        if ((*large)[i] != NULL) {
            e->host->msg_release((*large)[i]);
        }
    }
    free(*large);
    *large = NULL;
}

/* ------------------------------------------------------------------ Bursts */

struct rx_burst {
    struct mmsghdr h[DGRAM_SLOTS];
    struct iovec iov[2 * DGRAM_SLOTS];
    struct sp_dgram_addr from[DGRAM_SLOTS];
    unsigned char *scratch;
    sp_msg **large;
};

/// All of a datagram: what the largest payload, our head and the transport's front need.
static size_t rx_size(const struct sp_dgram_ep *e)
{
    size_t size = (size_t)e->payload_max + 256;

    // What comes over IP is no longer than that: a little more would take a buffer of four times
    // the size.
    return e->payload_max <= UINT16_MAX && size > UINT16_MAX + 1 ? UINT16_MAX + 1 : size;
}

static void rx_slot(const struct sp_dgram_ep *e, struct rx_burst *b, int i)
{
    unsigned char *at = b->scratch + (size_t)i * (DGRAM_SMALL + DGRAM_CONTROL);
    struct msghdr *h = &b->h[i].msg_hdr;

    if (b->large != NULL && b->large[i] == NULL) {
        b->large[i] = e->host->msg_new(rx_size(e));
    }
    memset(&b->from[i], 0, sizeof(b->from[i]));
    b->iov[2 * i] = (struct iovec){at, DGRAM_SMALL};
    *h = (struct msghdr){.msg_name = &b->from[i].at,
                         .msg_namelen = sizeof(b->from[i].at),
                         .msg_iov = &b->iov[2 * i],
                         .msg_iovlen = 1};
    if (b->large != NULL && b->large[i] != NULL) {
        b->iov[2 * i + 1] = (struct iovec){b->large[i]->data + DGRAM_SMALL,
                                           rx_size(e) - DGRAM_SMALL};
        h->msg_iovlen = 2;
    }
    if (e->kind->control_size > 0) {
        h->msg_control = at + DGRAM_SMALL;
        h->msg_controllen = e->kind->control_size;
    }
}

/// Of the sender's front, the last of what is stripped.
static uint32_t rx_front_crc(const struct sp_dgram_ep *e, const unsigned char *data,
                             size_t stripped)
{
    size_t front = e->kind->front < stripped ? e->kind->front : stripped;

    return dgram_crc(e) ? sp_crc32c(0, data + stripped - front, front) : 0;
}

/// Strips what is the transport's, and reads the rest. False: it is not for us.
static bool rx_parse(struct sp_dgram_ep *e, struct dgram_in *out, struct sp_dgram_addr *from,
                     struct msghdr *h, const unsigned char *data, size_t len)
{
    struct sp_dgram_in in = {
        .from = from, .data = data, .len = len, .control = h, .who = {-1, -1, -1}, .file = -1};
    ssize_t front = e->kind->strip != NULL ? e->kind->strip(e, &in) : 0;
    uint32_t crc;

    sp_counter_add(&e->counts.rx_datagrams, 1);
    out->from = from;
    if (front < 0 || (size_t)front > len) {
        sp_counter_add(&e->counts.nomatch, 1);
        return false;
    }
    crc = rx_front_crc(e, data, (size_t)front);
    out->fault = e->kind->received != NULL && e->kind->received(e, &in) < 0
                     ? SP__DGRAM_MALFORMED
                     : sp__dgram_read(data + front, len - (size_t)front, dgram_crc(e) ? &crc : NULL,
                                      &out->d);
    out->who = in.who;
    out->file = in.file;
    return true;
}

static void rx_close_file(struct dgram_in *in)
{
    if (in->file >= 0) {
        (void)close(in->file);
        in->file = -1;
    }
}

/// One that is not here whole. Where nothing may be lost it is the end of the connection.
static void rx_cut(struct sp_dgram_ep *e, struct rx_burst *b, int i, struct dgram_in *in,
                   const struct dgram_taker *to)
{
    struct msghdr *h = &b->h[i].msg_hdr;

    sp_counter_add(h->msg_iovlen == 1 ? &e->counts.nobuf : &e->counts.malformed, 1);
    if (rx_parse(e, in, &b->from[i], h, b->iov[2 * i].iov_base, DGRAM_SMALL) && dgram_pairs(e) &&
        in->d.op == SP__DGRAM_XDATA) {
        in->fault = SP__DGRAM_CUT;
        to->take(to->arg, in);
    }
    rx_close_file(in);
}

/// One of a burst: in one piece, then to who wants it.
static void rx_take(struct sp_dgram_ep *e, struct rx_burst *b, int i, struct dgram_in *in,
                    const struct dgram_taker *to)
{
    struct msghdr *h = &b->h[i].msg_hdr;
    const unsigned char *data = b->iov[2 * i].iov_base;
    size_t len = b->h[i].msg_len;

    in->large = NULL;
    in->file = -1;
    b->from[i].len = (uint16_t)h->msg_namelen;
    if ((h->msg_flags & MSG_TRUNC) != 0) {
        rx_cut(e, b, i, in, to);
        return;
    }
    if (len > DGRAM_SMALL) {
        memcpy(b->large[i]->data, data, DGRAM_SMALL);
        data = b->large[i]->data;
        in->large = &b->large[i];
    }
    if (rx_parse(e, in, &b->from[i], h, data, len)) {
        to->take(to->arg, in);
    }
    rx_close_file(in);
}

static int rx_slots(uint32_t *slots)
{
    *slots = *slots < RX_SLOTS_MIN ? RX_SLOTS_MIN : *slots;
    return (int)*slots;
}

/// As many as came lately, twice that if there were more.
static void rx_learn(uint32_t *slots, int got)
{
    uint32_t n = (uint32_t)got;

    if (n == *slots) {
        *slots = 2 * n < DGRAM_SLOTS ? 2 * n : DGRAM_SLOTS;
    } else if (n < *slots / 4) {
        *slots /= 2;
    }
}

/// What a connected socket was told of a datagram on its way: that one is lost, and no more. Or the
/// other one of a pair left some unread (ECONNRESET): what it sent is still to be read.
static bool rx_passes(int err)
{
    switch (err) {
    case EINTR:
    case ECONNRESET:
    case EMSGSIZE: // The path takes smaller packets than it did.
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
        return true;
    default:
        return false;
    }
}

static int rx_error(int err)
{
    switch (err) {
    case EAGAIN:
        return SP_EAGAIN;
    case ENOPROTOOPT: // IPv4, and EPROTO IPv6: nobody there has that protocol number.
    case EPROTO:
        return -ECONNREFUSED;
    default:
        return -err;
    }
}

static int rx_call(int fd, struct rx_burst *b, int n)
{
    int got;

    do {
        got = recvmmsg(fd, b->h, (unsigned)n, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, NULL);
    } while (got < 0 && rx_passes(errno));
    return got;
}

/// Where a datagram without a byte is the end: the kit sends none.
static bool rx_is_pair(const struct sp_dgram_ep *e, int fd)
{
    return dgram_pairs(e) && fd != e->fd;
}

int sp__dgram_burst(struct sp_dgram_ep *e, int fd, uint32_t *slots, sp_msg ***large, bool *full,
                    const struct dgram_taker *to)
{
    struct rx_burst b;
    struct dgram_in in;
    int n = rx_slots(slots);
    int got;

    *full = false;
    b.scratch = e->host->scratch();
    if (b.scratch == NULL) {
        return SP_ENOMEM;
    }
    if (*large == NULL) {
        *large = calloc(DGRAM_SLOTS, sizeof(sp_msg *));
    }
    b.large = *large;
    for (int i = 0; i < n; i++) {
        rx_slot(e, &b, i);
    }
    got = rx_call(fd, &b, n);
    if (got < 0) {
        return rx_error(errno);
    }
    in.now = e->host->now();
    for (int i = 0; i < got; i++) {
        if (b.h[i].msg_len == 0 && rx_is_pair(e, fd)) {
            return SP_ECLOSED;
        }
        rx_take(e, &b, i, &in, to);
    }
    *full = got == n;
    rx_learn(slots, got);
    return got;
}

int sp__dgram_read_one(struct sp_dgram_ep *e, int fd, struct sp_dgram_addr *from,
                       struct dgram_in *in)
{
    _Alignas(struct cmsghdr) unsigned char control[DGRAM_CONTROL];
    unsigned char *scratch = e->host->scratch();
    struct iovec iov = {scratch, 65536};
    struct msghdr h = {.msg_name = &from->at,
                       .msg_namelen = sizeof(from->at),
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = e->kind->control_size > 0 ? control : NULL,
                       .msg_controllen = e->kind->control_size};
    ssize_t n;

    if (scratch == NULL) {
        return SP_ENOMEM;
    }
    memset(from, 0, sizeof(*from));
    do {
        n = recvmsg(fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && rx_passes(errno));
    if (n < 0) {
        return rx_error(errno);
    }
    if (n == 0 && rx_is_pair(e, fd)) {
        return SP_ECLOSED;
    }
    from->len = (uint16_t)h.msg_namelen;
    in->large = NULL;
    in->file = -1;
    in->now = e->host->now();
    if (!rx_parse(e, in, from, &h, scratch, (size_t)n)) {
        in->fault = SP__DGRAM_MALFORMED; // Counted once more: none of these should be here.
    }
    rx_close_file(in); // Nobody sends one so early.
    return SP_OK;
}

/* ------------------------------------------------------------------ Messages */

/// A message of its own, or the buffer that the datagram lies in.
static sp_msg *rx_message(const struct sp_dgram_ep *e, struct dgram_in *in,
                          const unsigned char *data, size_t len)
{
    sp_msg *m;

    // A message that takes the buffer keeps all of it.
    if (len > RX_COPIED && len >= rx_size(e) / 4 && in->large != NULL) {
        m = *in->large;
        *in->large = NULL;
        m->data += data - m->data;
        m->len = len;
        return m;
    }
    m = e->host->msg_new(len);
    if (m != NULL && len > 0) {
        memcpy(m->data, data, len);
    }
    return m;
}

bool sp__dgram_messages(struct sp_dgram_ep *e, struct dgram_in *in, sp_batch *to)
{
    const unsigned char *at = in->d.payload;
    const unsigned char *end = at + in->d.payload_len;
    const unsigned char *msg = at;
    size_t len = in->d.payload_len;
    bool all = true;

    if (in->d.count > 1) {
        sp_counter_add(&e->counts.rx_packed, in->d.count);
    }
    for (uint32_t i = 0; i < in->d.count; i++) {
        sp_msg *m;

        if (in->d.count > 1 && !sp__dgram_unpack(&at, end, &msg, &len)) {
            return false; // Not after sp__dgram_read.
        }
        m = in->d.count > 1 ? e->host->msg_new(len) : rx_message(e, in, msg, len);
        if (m == NULL) {
            sp_counter_add(&e->counts.nobuf, 1);
            all = false;
            continue;
        }
        if (in->d.count > 1 && len > 0) {
            memcpy(m->data, msg, len);
        }
        dgram_set_number(m, in->d.number + i);
        sp_batch_push(to, m);
    }
    return all;
}

/* ------------------------------------------------------------------ Harvest */

struct rx_own {
    struct sp_dgram_pipe *p;
    sp_batch msgs;
};

/// A datagram on a pipe's own fd.
static void rx_own_take(void *arg, struct dgram_in *in)
{
    struct rx_own *own = arg;
    struct sp_dgram_pipe *p = own->p;

    if (in->fault == SP__DGRAM_MALFORMED) {
        sp_counter_add(&p->ep->counts.malformed, 1);
    } else if (in->d.op != SP__DGRAM_DATA && in->d.op != SP__DGRAM_XDATA) {
        sp__dgram_news(p, in);
    } else if (sp__dgram_data_fits(p, in)) {
        dgram_heard(p, in->now);
        if (in->d.file) {
            sp_msg *m = sp__dgram_take_file(p, in);

            if (m != NULL) {
                dgram_set_number(m, in->d.number);
                sp_batch_push(&own->msgs, m);
            }
        } else if (!sp__dgram_messages(p->ep, in, &own->msgs) && dgram_pairs(p->ep)) {
            sp__dgram_fail(p, SP_ENOMEM, SP__DGRAM_NOBUF);
        }
    }
}

/// Reads from the pipe's own fd. True: there may be more.
static bool rx_own(struct sp_dgram_pipe *p, int *err)
{
    struct rx_own own = {.p = p, .msgs = {NULL, NULL, 0}};
    struct dgram_taker taker = {rx_own_take, &own};
    bool full = false;
    int rc = sp__dgram_burst(p->ep, p->fd, &p->rx_slots, &p->rx_large, &full, &taker);

    if (rc < 0 && rc != SP_EAGAIN && dgram_error(p) == 0) {
        *err = rc; // Else the peer said why.
    }
    if (own.msgs.n > 0) {
        sp__dgram_order(p, &own.msgs, p->host->now());
    } else {
        sp__dgram_trim(p->ep, &p->rx_large);
    }
    return full && dgram_error(p) == 0;
}

/// Takes what the listener's actor put there.
static void rx_shared(struct sp_dgram_pipe *p)
{
    sp_batch msgs;

    (void)pthread_mutex_lock(&p->lock);
    msgs = p->queue;
    p->queue = (sp_batch){NULL, NULL, 0};
    p->queue_bytes = 0;
    (void)pthread_mutex_unlock(&p->lock);
    if (msgs.n > 0) {
        sp__dgram_order(p, &msgs, p->host->now());
    }
}

static size_t rx_hand_over(struct sp_dgram_pipe *p, sp_batch *in, size_t max)
{
    size_t n = 0;

    for (sp_msg *m; n < max && (m = sp_batch_pop(&p->ready)) != NULL; n++) {
        sp_batch_push(in, m);
    }
    return n;
}

int sp_dgram_harvest(void *pipe, sp_batch *in, size_t max, unsigned ready)
{
    struct sp_dgram_pipe *p = pipe;
    // Before what it sent is looked for: an error that comes meanwhile has its turn next time.
    int err = dgram_state(p) == DGRAM_CLOSED ? SP_ECLOSED : dgram_error(p);
    size_t n = rx_hand_over(p, in, max);
    bool more = true;

    (void)ready;
    for (int i = 0; n < max && more && i < RX_ROUNDS; i++) {
        if (p->fd >= 0) {
            more = rx_own(p, &err);
        } else {
            rx_shared(p);
            more = false;
        }
        n += rx_hand_over(p, in, max - n);
    }
    if (__atomic_load_n(&p->holding, __ATOMIC_RELAXED) != 0) {
        sp__dgram_order_due(p, p->host->now());
        n += rx_hand_over(p, in, max - n);
    }
    err = err == 0 && p->fd >= 0 ? dgram_error(p) : err;
    if (err != 0 && n < max && p->ready.n == 0) {
        return err;
    }
    if (more && n < max) {
        p->host->pipe_ready(p->ref, SP_READY_IN); // The others have their turn first.
    }
    return (int)n;
}
