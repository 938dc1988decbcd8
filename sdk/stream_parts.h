/* SPDX-License-Identifier: MIT */
/// What the files of the stream kit share.
#ifndef SP_STREAM_PARTS_H
#define SP_STREAM_PARTS_H

#include <endian.h>
#include <string.h>
#include <sys/socket.h>

#include <sp/sdk/stream.h>

/// Bytes of host->scratch().
#define STREAM_SCRATCH 65536U

static inline bool stream_is_closed(const struct sp_stream *s)
{
    return __atomic_load_n(&s->closed, __ATOMIC_RELAXED) != 0;
}

/// Bodies of at least this much are large: read into place, and worth limits of their own.
#define STREAM_LARGE (16U * 1024)

/// Sets one of the limits of sp_stream_limit, once.
static inline void stream_limit(const struct sp_stream *s, int name, int *limit)
{
    if (*limit > 0) {
        (void)setsockopt(s->fd, SOL_SOCKET, name, limit, sizeof(*limit));
        *limit = 0;
    }
}

static inline size_t stream_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline void stream_store_u64(unsigned char *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof(v));
}

static inline uint64_t stream_load_u64(const unsigned char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return be64toh(v);
}

#endif
