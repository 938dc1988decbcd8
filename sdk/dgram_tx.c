/* SPDX-License-Identifier: MIT */
/// Writing datagrams: small messages are packed in scratch memory, large ones go as they lie, many
/// datagrams a call. A pipe's output.
#include "dgram_parts.h"

#include <sp/sdk/crc32c.h>

#include <errno.h>
#include <string.h>

#define TX_COPIED 2048 // a message up to this size may be packed
#define TX_IOVS 4      // front and head, header, body

struct tx_one {
    unsigned char head[SP_DGRAM_FRONT_MAX + SP__DGRAM_XHEAD];
    uint32_t count; ///< messages
    uint32_t number;
    struct iovec iov[TX_IOVS];
};

/// Datagrams that are to be written by one call.
struct tx_burst {
    struct sp_dgram_pipe *p;
    struct mmsghdr h[DGRAM_SLOTS];
    struct tx_one one[DGRAM_SLOTS];
    unsigned char *scratch;
    size_t left; ///< bytes of it
    int n;
};

static size_t tx_len(const sp_msg *m)
{
    return m->len + m->header_len;
}

static bool tx_fits(const struct sp_dgram_pipe *p, const sp_msg *m)
{
    return tx_len(m) <= p->send_max && !dgram_in_file(p, tx_len(m));
}

/// How many messages from `m` on go into one datagram, and their bytes there.
static uint32_t tx_run(const struct tx_burst *b, const sp_msg *m, size_t *len)
{
    const struct sp_dgram_pipe *p = b->p;
    size_t room = p->pack_max < b->left ? p->pack_max : b->left;
    uint32_t n = 0;

    *len = 0;
    for (; m != NULL && n < UINT16_MAX; m = m->next, n++) {
        size_t one = tx_len(m) + sp__dgram_prefix(tx_len(m));

        if (tx_len(m) > TX_COPIED || !tx_fits(p, m) ||
            *len + one + SP__DGRAM_XHEAD + p->ep->kind->front > room) {
            break;
        }
        *len += one;
    }
    return n;
}

static struct tx_one *tx_begin(struct tx_burst *b, size_t len, uint32_t number, uint32_t count)
{
    struct sp_dgram_pipe *p = b->p;
    struct tx_one *one = &b->one[b->n];
    const struct sp_dgram_addr *to = p->fd < 0 ? &p->peer->addr : NULL;
    size_t front = p->ep->kind->front;
    size_t head = SP__DGRAM_HEAD;

    if (front > 0) {
        p->ep->kind->prefix(p->ep, to, one->head);
    }
    if ((p->features & DGRAM_EXTENDED) != 0) {
        sp__dgram_xhead(one->head + front, p->type, number, count, (uint32_t)len);
        head = SP__DGRAM_XHEAD;
    } else {
        sp__dgram_head(one->head + front, SP__DGRAM_DATA, p->type, (uint16_t)len, 0);
    }
    one->count = count;
    one->number = number;
    one->iov[0] = (struct iovec){one->head, front + head};
    b->h[b->n].msg_hdr = (struct msghdr){.msg_name = to != NULL ? (void *)(uintptr_t)&to->at : NULL,
                                         .msg_namelen = to != NULL ? to->len : 0,
                                         .msg_iov = one->iov,
                                         .msg_iovlen = 1};
    return one;
}

static void tx_add(struct tx_burst *b, const void *p, size_t n)
{
    struct msghdr *h = &b->h[b->n].msg_hdr;

    if (n > 0) {
        h->msg_iov[h->msg_iovlen++] = (struct iovec){(void *)(uintptr_t)p, n};
    }
}

static void tx_end(struct tx_burst *b, struct tx_one *one)
{
    const struct sp_dgram_ep *e = b->p->ep;
    const struct msghdr *h = &b->h[b->n].msg_hdr;

    if (dgram_crc(e)) {
        uint32_t crc = sp__dgram_xcrc(sp_crc32c(0, one->head, e->kind->front),
                                      one->head + e->kind->front);

        for (size_t i = 1; i < h->msg_iovlen; i++) {
            crc = sp_crc32c(crc, h->msg_iov[i].iov_base, h->msg_iov[i].iov_len);
        }
        sp__dgram_put_crc(one->head + e->kind->front, crc);
    }
    b->n++;
}

/// Several messages, copied.
static void tx_pack(struct tx_burst *b, const sp_msg *m, uint32_t n, size_t len, uint32_t number)
{
    struct tx_one *one = tx_begin(b, len, number, n);
    unsigned char *at = b->scratch;

    for (uint32_t i = 0; i < n; i++, m = m->next) {
        at += sp__dgram_pack(at, tx_len(m));
        memcpy(at, m->header, m->header_len);
        memcpy(at + m->header_len, m->data, m->len);
        at += tx_len(m);
    }
    tx_add(b, b->scratch, len);
    b->scratch += len;
    b->left -= len;
    tx_end(b, one);
}

/// One message, as it lies.
static void tx_alone(struct tx_burst *b, const sp_msg *m, uint32_t number)
{
    struct tx_one *one = tx_begin(b, tx_len(m), number, 1);

    tx_add(b, m->header, m->header_len);
    tx_add(b, m->data, m->len);
    tx_end(b, one);
}

/// Lays out as much of the queue as one call writes.
static void tx_lay_out(struct tx_burst *b, const sp_batch *out)
{
    const struct sp_dgram_pipe *p = b->p;
    bool packs = (p->features & SP__DGRAM_PACKS) != 0 && (p->features & DGRAM_EXTENDED) != 0 &&
                 sp_option_load(&p->ep->packing) != 0;
    uint32_t number = p->tx_next;
    const sp_msg *m = out->head;

    b->n = 0;
    while (m != NULL && b->n < DGRAM_SLOTS && tx_fits(p, m)) {
        size_t len;
        uint32_t n = packs && m->next != NULL ? tx_run(b, m, &len) : 0;

        if (n < 2) {
            tx_alone(b, m, number);
            n = 1;
        } else {
            tx_pack(b, m, n, len, number);
        }
        number += n;
        while (n-- > 0) {
            m = m->next;
        }
    }
}

static void tx_drop(struct sp_dgram_pipe *p, sp_batch *out, uint32_t n)
{
    for (; n > 0 && out->head != NULL; n--) {
        p->host->msg_release(sp_batch_pop(out));
    }
}

static void tx_written(struct tx_burst *b, sp_batch *out, int n)
{
    struct sp_dgram_pipe *p = b->p;

    for (int i = 0; i < n; i++) {
        if (b->one[i].count > 1) {
            sp_counter_add(&p->ep->counts.tx_packed, b->one[i].count);
        }
        p->tx_next = b->one[i].number + b->one[i].count;
        tx_drop(p, out, b->one[i].count);
    }
    sp_counter_add(&p->ep->counts.tx_datagrams, (uint64_t)n);
}

/// The system takes no more. It tells when it does; not of a listener's fd, nor when it is its
/// devices that have no room.
static int tx_full(struct sp_dgram_pipe *p, bool untold)
{
    if (p->fd < 0 || untold) {
        // Release: pairs with ep_tick_often.
        __atomic_store_n(&p->blocked, 1, __ATOMIC_RELEASE);
        sp__dgram_want(p->ep, DGRAM_WANT_RETRY);
    }
    return SP_EAGAIN;
}

/// The first datagram was not taken. SP_OK: it goes on with the next.
static int tx_refused(struct sp_dgram_pipe *p, sp_batch *out, uint32_t count, int err)
{
    switch (err) {
    case EINTR:
        return SP_OK;
    case EAGAIN:
        return tx_full(p, false);
    case ENOBUFS:
    case ENOMEM:
        return tx_full(p, true);
    case EMSGSIZE:
        sp_counter_add(&p->ep->counts.toobig, count);
        break;
    case ETOOMANYREFS: // Descriptors on their way.
        return tx_full(p, true);
    case EPERM:
    case EACCES:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
        sp_counter_add(&p->ep->counts.unsent, 1); // As good as lost on the way.
        break;
    default:
        return -err;
    }
    p->tx_next += count;
    tx_drop(p, out, count);
    return SP_OK;
}

/// The message in front, in a file or not at all: it came between this connection and the others.
static int tx_apart(struct sp_dgram_pipe *p, sp_batch *out)
{
    size_t len = tx_len(out->head);
    int rc;

    if (!dgram_in_file(p, len) || len > p->file_send_max) {
        sp_counter_add(&p->ep->counts.toobig, 1);
        tx_drop(p, out, 1);
        return SP_OK;
    }
    rc = sp__dgram_send_file(p, out->head);
    if (rc < 0) {
        return tx_refused(p, out, 1, -rc);
    }
    p->tx_next++;
    tx_drop(p, out, 1);
    return SP_OK;
}

int sp_dgram_submit(void *pipe, sp_batch *out)
{
    struct sp_dgram_pipe *p = pipe;
    struct tx_burst b;
    int rc = SP_OK;

    b.p = p;
    while (rc == SP_OK && out->head != NULL) {
        int n;

        if (dgram_state(p) != DGRAM_UP || dgram_error(p) != 0) {
            return dgram_error(p) != 0 ? dgram_error(p) : SP_ECLOSED;
        }
        b.scratch = p->host->scratch();
        b.left = b.scratch != NULL ? 65536 : 0;
        tx_lay_out(&b, out);
        if (b.n == 0) {
            rc = tx_apart(p, out);
            continue;
        }
        n = sendmmsg(dgram_fd(p), b.h, (unsigned)b.n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            tx_written(&b, out, n);
        } else {
            rc = tx_refused(p, out, b.one[0].count, errno);
        }
    }
    return rc;
}
