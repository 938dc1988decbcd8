/* SPDX-License-Identifier: MIT */
/// The stream kit, part 3: sending [io, the pipe's send side]. What is small is copied together in
/// the thread's scratch, what is large is pointed at: one system call for up to 64 KiB of messages.
/// Nothing is remembered between calls but how much of the front message is written, so a batch may
/// grow at its end meanwhile.
#include "stream_parts.h"

#include <errno.h>
#include <string.h>

/// Pieces in one write.
#define TX_IOV 64

/// A write is full with this many bytes.
#define TX_BYTES 65536U

/// Pieces of up to this much are copied: cheaper than an entry of the vector.
#define TX_COPY 4096U

/// One write.
struct tx {
    struct iovec iov[TX_IOV];
    int n;
    size_t bytes;
    unsigned char *scratch; ///< NULL: none, point at everything
    size_t used;            ///< bytes of scratch
};

/// Adds bytes that follow in scratch, which have been written there.
static void tx_copied(struct tx *t, size_t len)
{
    unsigned char *p = t->scratch + t->used;
    struct iovec *last = t->n > 0 ? &t->iov[t->n - 1] : NULL;

    if (last != NULL && (unsigned char *)last->iov_base + last->iov_len == p) {
        last->iov_len += len;
    } else {
        t->iov[t->n++] = (struct iovec){p, len};
    }
    t->used += len;
    t->bytes += len;
}

static void tx_add(struct tx *t, unsigned char *p, size_t len)
{
    if (len == 0) {
        return;
    }
    if (t->scratch != NULL && len <= TX_COPY && len <= STREAM_SCRATCH - t->used) {
        memcpy(t->scratch + t->used, p, len);
        tx_copied(t, len);
        return;
    }
    t->iov[t->n++] = (struct iovec){p, len};
    t->bytes += len;
}

/// Writes the framing of a message to `p`.
static void tx_frame(const struct sp_stream *s, const sp_msg *m, unsigned char *p)
{
    stream_store_u64(p + s->framing - 8, (uint64_t)m->header_len + m->len);
    if (s->framing == SP_STREAM_MARKED) {
        p[0] = 1;
    }
}

/// Small messages from `m` on, copied whole: the common case. Gives the first one that is not small
/// or has no room.
static sp_msg *tx_add_small(struct tx *t, const struct sp_stream *s, sp_msg *m)
{
    unsigned char *p = t->scratch + t->used;
    size_t room = STREAM_SCRATCH - t->used;
    size_t left = room;

    for (; m != NULL; m = m->next) {
        size_t front_len = s->framing + m->header_len;

        if (m->len > TX_COPY || front_len + m->len > left) {
            break;
        }
        tx_frame(s, m, p);
        if (m->header_len > 0) {
            memcpy(p + s->framing, m->header, m->header_len);
        }
        memcpy(p + front_len, m->data, m->len);
        p += front_len + m->len;
        left -= front_len + m->len;
    }
    if (left < room) {
        tx_copied(t, room - left);
    }
    return m;
}

/// Any message, less the `skip` bytes of it that are written already. With the framing in its
/// frame, framing and header are one piece.
static void tx_add_rest(struct tx *t, struct sp_stream *s, sp_msg *m, size_t skip)
{
    unsigned char *front = (unsigned char *)m + offsetof(struct sp_msg, header) - s->framing;
    size_t front_len = s->framing + m->header_len;
    size_t skip_front = stream_min(skip, front_len);
    size_t skip_body = skip - skip_front;

    if (m->len >= STREAM_LARGE) {
        stream_limit(s, SO_SNDBUF, &s->tx_limit);
    }
    tx_frame(s, m, front);
    tx_add(t, front + skip_front, front_len - skip_front);
    tx_add(t, m->data + skip_body, m->len - skip_body);
}

/// Fills a write from the front of the batch.
static void tx_gather(struct tx *t, struct sp_stream *s, const sp_batch *out)
{
    size_t skip = s->tx_off;
    sp_msg *m = out->head;

    while (m != NULL && t->bytes < TX_BYTES && t->n <= TX_IOV - 2) {
        sp_msg *after = skip == 0 && t->scratch != NULL ? tx_add_small(t, s, m) : m;

        if (after == m) {
            tx_add_rest(t, s, m, skip);
            after = m->next;
            skip = 0;
        }
        m = after;
    }
}

/// `put` bytes are written: give back the messages that are through.
static void tx_written(struct sp_stream *s, sp_batch *out, size_t put)
{
    size_t left = s->tx_off + put;

    for (sp_msg *m = out->head; m != NULL; m = out->head) {
        size_t whole = s->framing + m->header_len + m->len;

        if (left < whole) {
            break;
        }
        left -= whole;
        s->host->msg_release(sp_batch_pop(out));
    }
    s->tx_off = left;
}

int sp_stream_submit(void *pipe, sp_batch *out)
{
    struct sp_stream *s = pipe;

    while (out->head != NULL) {
        struct tx t;
        ssize_t put;

        if (stream_is_closed(s)) {
            return SP_ECLOSED;
        }
        t.n = 0;
        t.bytes = 0;
        t.used = 0;
        t.scratch = s->host->scratch();
        tx_gather(&t, s, out);
        put = s->io->send(s, t.iov, t.n);
        if (put < 0) {
            return (int)put;
        }
        tx_written(s, out, (size_t)put);
    }
    return SP_OK;
}
