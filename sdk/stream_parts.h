/* SPDX-License-Identifier: MIT */
/// What the files of the stream kit share.
#ifndef SP_STREAM_PARTS_H
#define SP_STREAM_PARTS_H

#include <sp/sdk/stream.h>

/// Bytes of host->scratch().
#define STREAM_SCRATCH 65536U

static inline bool stream_is_closed(const struct sp_stream *s)
{
    return __atomic_load_n(&s->closed, __ATOMIC_RELAXED) != 0;
}

static inline size_t stream_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline void stream_store_u64(unsigned char *p, uint64_t v)
{
    sp_store_u32(p, (uint32_t)(v >> 32));
    sp_store_u32(p + 4, (uint32_t)v);
}

static inline uint64_t stream_load_u64(const unsigned char *p)
{
    return (uint64_t)sp_load_u32(p) << 32 | sp_load_u32(p + 4);
}

#endif
