/* SPDX-License-Identifier: MIT */
/// The stream kit, part 2: receiving [io, the pipe's receive side]. Three ways to read, chosen by
/// the last length seen:
///   - small messages: one read of 64 KiB into the thread's scratch, copied into messages;
///   - longer ones (`share`): one read of 64 KiB into memory that these messages then share;
///   - large ones (`direct`): straight into the message, together with the framing of the next, so
///   no byte is copied. Below 16 KiB the copy is cheaper than a system call a message.
#include "stream_parts.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/// Bodies of at least this much stay where they were read. Shorter ones are copied, which costs
/// little, and no message keeps more than 16 times its length in memory; …
#define RX_SHARE (STREAM_SCRATCH / 16)

/// … and of a read of less than this all are copied, so that a queue of messages that came one by
/// one keeps no more than twice their length.
#define RX_SHARE_READ (STREAM_SCRATCH / 2)

/// A declared length reserves at most this before a byte of the body has arrived, …
#define RX_RESERVE 65536U

/// … or what the same peer has lately sent in one message, at most this: growing by doubling costs
/// a stream of large messages a fifth of its rate, and a peer could hold that much here anyway.
#define RX_TRUST (1024U * 1024)

/// A harvest that has read this much makes room for other pipes.
#define RX_BUDGET (1024U * 1024)

/// One harvest.
struct rx {
    struct sp_stream *s;
    sp_batch *in;
    sp_msg *source; ///< holds the bytes that are being taken apart; NULL: the scratch does
    bool share;     ///< long messages become a part of `source`
    size_t n;       ///< messages appended
    size_t max;
    size_t bytes; ///< read
    bool dry;     ///< the source was emptied
};

/// Chooses how to read on after a message of this length.
static void rx_choose(struct sp_stream *s, uint64_t len)
{
    s->direct = len >= STREAM_LARGE;
    s->share = len >= RX_SHARE;
    if (s->direct) {
        stream_limit(s, SO_RCVBUF, &s->rx_limit);
    }
}

/// The length in a complete framing. SP_EPROTO, SP_EMSGSIZE.
static int rx_length(struct sp_stream *s, const unsigned char *head, size_t *len)
{
    uint64_t v = stream_load_u64(head + s->framing - 8);

    if (s->framing == SP_STREAM_MARKED && head[0] != 1) {
        return SP_EPROTO;
    }
    if (v > (uint64_t)PTRDIFF_MAX || (s->recv_max != 0 && v > s->recv_max)) {
        return SP_EMSGSIZE;
    }
    rx_choose(s, v);
    *len = (size_t)v;
    return SP_OK;
}

static void rx_push(struct rx *r, sp_msg *m)
{
    sp_batch_push(r->in, m);
    r->n++;
}

/// Hands over the body that is on its way, if it is complete.
static void rx_complete(struct rx *r)
{
    struct sp_stream *s = r->s;

    if (s->body == NULL || s->body->len < s->body_len) {
        return;
    }
    if (s->body_len > RX_RESERVE) {
        s->trust = (uint32_t)stream_min(s->body_len, RX_TRUST);
    }
    rx_push(r, s->body);
    s->body = NULL;
}

/// A message of `len` bytes begins.
static int rx_begin(struct rx *r, size_t len)
{
    struct sp_stream *s = r->s;
    size_t cap = stream_min(len, s->trust > RX_RESERVE ? s->trust : RX_RESERVE);
    sp_msg *m = s->host->msg_new(cap);

    if (m == NULL) {
        return SP_ENOMEM;
    }
    m->len = 0;
    s->body = m;
    s->body_len = len;
    s->body_cap = cap;
    rx_complete(r);
    return SP_OK;
}

/// Makes room in the body: twice what has arrived.
static int rx_grow(struct sp_stream *s)
{
    size_t cap = stream_min(s->body_len, 2 * s->body->len);
    int rc;

    if (s->body->len < s->body_cap) {
        return SP_OK;
    }
    rc = s->host->msg_reserve(s->body, cap);
    if (rc == SP_OK) {
        s->body_cap = cap;
    }
    return rc;
}

/// Bytes for the body that is on its way; how many it took.
static ssize_t rx_append(struct rx *r, const unsigned char *p, size_t left)
{
    struct sp_stream *s = r->s;
    size_t take;
    int rc = rx_grow(s);

    if (rc < 0) {
        return rc;
    }
    take = stream_min(left, s->body_cap - s->body->len);
    memcpy(s->body->data + s->body->len, p, take);
    s->body->len += take;
    rx_complete(r);
    return (ssize_t)take;
}

/// The framing is complete in s->head.
static int rx_head_done(struct rx *r)
{
    size_t len;
    int rc = rx_length(r->s, r->s->head, &len);

    r->s->head_len = 0;
    return rc < 0 ? rc : rx_begin(r, len);
}

/// Bytes of a framing that is there in part.
static ssize_t rx_head(struct rx *r, const unsigned char *p, size_t left)
{
    struct sp_stream *s = r->s;
    size_t take = stream_min(left, (size_t)(s->framing - s->head_len));
    int rc = SP_OK;

    memcpy(s->head + s->head_len, p, take);
    s->head_len += (uint8_t)take;
    if (s->head_len == s->framing) {
        rc = rx_head_done(r);
    }
    return rc < 0 ? rc : (ssize_t)take;
}

/// A message whose body is `len` bytes at `p`: a copy, or a part of what was read.
static sp_msg *rx_body(struct rx *r, const unsigned char *p, size_t len)
{
    const sp_host *host = r->s->host;
    sp_msg *m;

    if (!r->share || len < RX_SHARE) {
        m = host->msg_new(len);
        if (m != NULL) {
            memcpy(m->data, p, len);
        }
        return m;
    }
    m = host->msg_clone(r->source);
    if (m != NULL) {
        m->data += p - r->source->data;
        m->len = len;
    }
    return m;
}

/// Messages that are here whole, the common case; how many bytes they took. It stops in front of
/// anything else, which rx_message judges.
static ssize_t rx_whole(struct rx *r, const unsigned char *p, size_t size)
{
    struct sp_stream *s = r->s;
    size_t framing = s->framing;
    size_t most = s->recv_max - 1 < size ? s->recv_max : size; // recv_max 0: any
    uint64_t len = 0;
    size_t at = 0;

    while (r->n < r->max && size - at >= framing) {
        const unsigned char *head = p + at;
        uint64_t next = stream_load_u64(head + framing - 8);
        sp_msg *m;

        if (next > most || next > size - at - framing ||
            (framing == SP_STREAM_MARKED && head[0] != 1)) {
            break;
        }
        len = next;
        m = rx_body(r, head + framing, len);
        if (m == NULL) {
            return SP_ENOMEM;
        }
        rx_push(r, m);
        at += framing + len;
    }
    rx_choose(s, len);
    return (ssize_t)at;
}

/// A message with its whole framing that is not here whole, or not as it must be.
static ssize_t rx_message(struct rx *r, const unsigned char *p)
{
    size_t len;
    int rc = rx_length(r->s, p, &len);

    if (rc == SP_OK) {
        rc = rx_begin(r, len);
    }
    return rc < 0 ? rc : r->s->framing;
}

/// Takes bytes apart until they or the limit of messages are used up; how many it took.
static ssize_t rx_parse(struct rx *r, const unsigned char *p, size_t size)
{
    struct sp_stream *s = r->s;
    size_t left = size;

    r->share = r->source != NULL && size >= RX_SHARE_READ;
    while (left > 0 && r->n < r->max) {
        ssize_t took;

        if (s->body != NULL) {
            took = rx_append(r, p, left);
        } else if (s->head_len > 0 || left < s->framing) {
            took = rx_head(r, p, left);
        } else {
            took = rx_whole(r, p, left);
            took = took != 0 ? took : rx_message(r, p);
        }
        if (took < 0) {
            return took;
        }
        p += took;
        left -= (size_t)took;
    }
    return (ssize_t)(size - left);
}

/// What an earlier harvest had no room for. It is kept as bytes, not as messages: 64 KiB at most
/// whatever the peer sends.
static int rx_rest(struct rx *r)
{
    struct sp_stream *s = r->s;
    ssize_t took;

    if (s->rest == NULL) {
        return SP_OK;
    }
    r->source = s->rest;
    took = rx_parse(r, s->rest->data, s->rest->len);
    r->source = NULL;
    if (took < 0) {
        return (int)took;
    }
    s->rest->data += took;
    s->rest->len -= (size_t)took;
    if (s->rest->len == 0) {
        s->host->msg_release(s->rest);
        s->rest = NULL;
    }
    return SP_OK;
}

/// The result of a read for `asked` bytes: bytes, or the code with which the harvest ends.
static ssize_t rx_result(struct rx *r, ssize_t got, size_t asked)
{
    const struct sp_stream *s = r->s;

    if (got == 0) {
        return s->body != NULL || s->head_len > 0 ? -ECONNRESET : SP_ECLOSED;
    }
    if (got > 0) {
        // A short read has emptied the socket, and what comes later is reported later. Only the end
        // of the stream may be part of a report that we have already had.
        r->dry = s->io->exact && (size_t)got < asked && !s->hup;
        r->bytes += (size_t)got;
    }
    return got;
}

/// What is left of a read when harvest's limit is reached.
static int rx_keep(struct rx *r, unsigned char *p, size_t left)
{
    struct sp_stream *s = r->s;

    if (left == 0) {
        return SP_OK;
    }
    if (r->source != NULL) {
        s->rest = r->source;
        s->rest->data = p;
        s->rest->len = left;
        r->source = NULL;
        return SP_OK;
    }
    s->rest = s->host->msg_new(left);
    if (s->rest == NULL) {
        return SP_ENOMEM;
    }
    memcpy(s->rest->data, p, left);
    return SP_OK;
}

/// Reads much into `buf` and takes it apart.
static int rx_read_into(struct rx *r, unsigned char *buf)
{
    struct sp_stream *s = r->s;
    struct iovec iov = {buf, STREAM_SCRATCH};
    ssize_t got;
    ssize_t took;

    if (buf == NULL) {
        return SP_ENOMEM;
    }
    got = rx_result(r, s->io->recv(s, &iov, 1), STREAM_SCRATCH);
    if (got < 0) {
        return (int)got;
    }
    took = rx_parse(r, buf, (size_t)got);
    return took < 0 ? (int)took : rx_keep(r, buf + took, (size_t)(got - took));
}

static int rx_read_many(struct rx *r)
{
    const sp_host *host = r->s->host;
    int rc;

    if (!r->s->share) {
        return rx_read_into(r, host->scratch());
    }
    r->source = host->msg_new(STREAM_SCRATCH);
    rc = rx_read_into(r, r->source != NULL ? r->source->data : NULL);
    if (r->source != NULL) {
        host->msg_release(r->source);
        r->source = NULL;
    }
    return rc;
}

/// Reads into the body and, if that can complete it, on into the next framing; without a body into
/// the framing.
static int rx_read_direct(struct rx *r)
{
    struct sp_stream *s = r->s;
    struct iovec iov[2];
    size_t room = 0;
    size_t head = 0;
    ssize_t got;
    int n = 0;

    if (s->body != NULL) {
        int rc = rx_grow(s);

        if (rc < 0) {
            return rc;
        }
        room = s->body_cap - s->body->len;
        iov[n++] = (struct iovec){s->body->data + s->body->len, room};
    }
    if (s->body == NULL || s->body_cap == s->body_len) {
        head = (size_t)(s->framing - s->head_len);
        iov[n++] = (struct iovec){s->head + s->head_len, head};
    }
    got = rx_result(r, s->io->recv(s, iov, n), room + head);
    if (got < 0) {
        return (int)got;
    }
    if (s->body != NULL) {
        s->body->len += stream_min((size_t)got, room);
    }
    if ((size_t)got > room) {
        s->head_len += (uint8_t)((size_t)got - room);
    }
    rx_complete(r);
    return SP_OK;
}

/// One step of a harvest.
static int rx_step(struct rx *r)
{
    const struct sp_stream *s = r->s;

    if (stream_is_closed(s)) {
        return SP_ECLOSED;
    }
    if (s->head_len == s->framing) {
        return rx_head_done(r);
    }
    return s->direct ? rx_read_direct(r) : rx_read_many(r);
}

int sp_stream_harvest(void *pipe, sp_batch *in, size_t max, unsigned ready)
{
    struct sp_stream *s = pipe;
    struct rx r = {.s = s, .in = in, .max = stream_min(max, INT_MAX)};
    int rc;

    s->hup |= (ready & SP_READY_HUP) != 0;
    rc = stream_is_closed(s) ? SP_ECLOSED : rx_rest(&r);
    while (rc == SP_OK && r.n < r.max && !r.dry) {
        if (r.bytes >= RX_BUDGET) {
            // Fewer than `max` means that there is nothing more; that is not so: ask for another
            // turn.
            s->host->pipe_ready(s->ref, SP_READY_IN);
            break;
        }
        rc = rx_step(&r);
    }
    if (rc < 0 && rc != SP_EAGAIN) {
        s->failed = rc != SP_ECLOSED;
        return rc;
    }
    return (int)r.n;
}
