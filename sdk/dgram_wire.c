/* SPDX-License-Identifier: MIT */
/// The bytes of a datagram (doc/wire-datagram.md), written and read. Little-endian, as nng 2 has
/// them. Pure. [any]
#include "dgram_wire.h"

#include <sp/sdk/crc32c.h>

#include <string.h>

#define VERSION 1
#define CRC_AT 20  // in a greeting
#define XCRC_AT 16 // in an XDATA

static const unsigned char magic[4] = {'S', 'P', 'D', '1'};

static void put16(unsigned char *p, uint16_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
}

static void put32(unsigned char *p, uint32_t v)
{
    put16(p, (uint16_t)v);
    put16(p + 2, (uint16_t)(v >> 16));
}

static void put64(unsigned char *p, uint64_t v)
{
    put32(p, (uint32_t)v);
    put32(p + 4, (uint32_t)(v >> 32));
}

static uint16_t get16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const unsigned char *p)
{
    return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static uint64_t get64(const unsigned char *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* ------------------------------------------------------------------ Sums */

uint32_t sp__dgram_xcrc(uint32_t front, const unsigned char *head)
{
    return sp_crc32c(front, head, XCRC_AT);
}

void sp__dgram_put_crc(unsigned char *head, uint32_t crc)
{
    put32(head + XCRC_AT, crc);
}

static uint64_t rotl(uint64_t v, int n)
{
    return v << n | v >> (64 - n);
}

static void sip_round(uint64_t *v)
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] = rotl(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] = rotl(v[2], 32);
}

uint64_t sp__dgram_hash(const uint64_t key[2], const unsigned char *p, size_t n)
{
    uint64_t v[4] = {key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
                     key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573)};
    unsigned char last[8] = {0};

    for (size_t left = n;; left -= 8, p += 8) {
        uint64_t word;

        if (left < 8) {
            memcpy(last, p, left);
            last[7] = (unsigned char)n;
        }
        word = get64(left < 8 ? last : p);
        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
        if (left < 8) {
            break;
        }
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++) {
        sip_round(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* ------------------------------------------------------------------ Writing */

void sp__dgram_head(unsigned char *out, uint8_t op, uint16_t type, uint16_t p0, uint16_t p1)
{
    out[0] = VERSION;
    out[1] = op;
    put16(out + 2, type);
    put16(out + 4, p0);
    put16(out + 6, p1);
}

void sp__dgram_greeting(unsigned char *out, const struct sp__dgram *d, const uint32_t *crc)
{
    memset(out, 0, SP__DGRAM_GREETING);
    sp__dgram_head(out, d->op, d->type, d->p0, d->p1);
    memcpy(out + 8, magic, sizeof(magic));
    put16(out + 12, SP__DGRAM_GREETING - SP__DGRAM_HEAD);
    put16(out + 14, d->features);
    put32(out + 16, d->payload_max);
    put32(out + 20, d->file_max);
    memcpy(out + 24, d->uuid, sizeof(d->uuid));
    put64(out + 40, d->token);
    put64(out + 48, d->cookie);
    if (crc != NULL) {
        put32(out + CRC_AT, sp_crc32c(*crc, out, SP__DGRAM_GREETING));
    }
}

void sp__dgram_xhead(unsigned char *out, uint16_t type, uint32_t number, uint32_t count,
                     uint32_t len)
{
    sp__dgram_head(out, SP__DGRAM_XDATA, type,
                   (uint16_t)(len < SP__DGRAM_LONG ? len : SP__DGRAM_LONG), (uint16_t)count);
    put32(out + 8, number);
    put32(out + 12, len);
    put32(out + XCRC_AT, 0);
}

size_t sp__dgram_pack(unsigned char *out, size_t len)
{
    if (len < SP__DGRAM_LONG) {
        put16(out, (uint16_t)len);
        return 2;
    }
    put16(out, SP__DGRAM_LONG);
    put32(out + 2, (uint32_t)len);
    return 6;
}

/* ------------------------------------------------------------------ Reading */

bool sp__dgram_unpack(const unsigned char **at, const unsigned char *end, const unsigned char **msg,
                      size_t *len)
{
    const unsigned char *p = *at;
    size_t left = (size_t)(end - p);

    if (left == 0) {
        return false;
    }
    *at = NULL;
    if (left < 2) {
        return false;
    }
    *len = get16(p);
    p += 2;
    left -= 2;
    if (*len == SP__DGRAM_LONG) {
        if (left < 4 || get32(p) < SP__DGRAM_LONG) {
            return false;
        }
        *len = get32(p);
        p += 4;
        left -= 4;
    }
    if (*len > left) {
        return false;
    }
    *msg = p;
    *at = p + *len;
    return true;
}

/// A pack holds as many messages as it says, and nothing else.
static bool pack_valid(const struct sp__dgram *d)
{
    const unsigned char *at = d->payload;
    const unsigned char *msg;
    uint32_t n = 0;
    size_t len;

    while (sp__dgram_unpack(&at, d->payload + d->payload_len, &msg, &len)) {
        n++;
    }
    return at != NULL && n == d->count;
}

static enum sp__dgram_fault read_xdata(const unsigned char *d, size_t len, const uint32_t *crc,
                                       struct sp__dgram *out)
{
    if (len < SP__DGRAM_XHEAD) {
        return SP__DGRAM_MALFORMED;
    }
    out->number = get32(d + 8);
    out->file = out->p1 == 0;
    out->count = out->file ? 1 : out->p1;
    out->payload = d + SP__DGRAM_XHEAD;
    out->payload_len = get32(d + 12);
    if (out->p0 != (out->payload_len < SP__DGRAM_LONG ? out->payload_len : SP__DGRAM_LONG) ||
        out->payload_len != len - SP__DGRAM_XHEAD || (out->file && out->payload_len > 0)) {
        return SP__DGRAM_MALFORMED;
    }
    if (crc != NULL &&
        get32(d + XCRC_AT) != sp_crc32c(sp__dgram_xcrc(*crc, d), out->payload, out->payload_len)) {
        return SP__DGRAM_MALFORMED;
    }
    return out->count == 1 || pack_valid(out) ? SP__DGRAM_FINE : SP__DGRAM_MALFORMED;
}

static bool greeting_crc(const unsigned char *d, uint32_t crc)
{
    static const unsigned char none[4];

    crc = sp_crc32c(crc, d, CRC_AT);
    crc = sp_crc32c(crc, none, sizeof(none));
    crc = sp_crc32c(crc, d + CRC_AT + 4, SP__DGRAM_GREETING - CRC_AT - 4);
    return crc == get32(d + CRC_AT);
}

/// Bytes behind the 8 that are not our extension are nobody's.
static enum sp__dgram_fault read_greeting(const unsigned char *d, size_t len, const uint32_t *crc,
                                          struct sp__dgram *out)
{
    if (len < SP__DGRAM_GREETING || memcmp(d + 8, magic, sizeof(magic)) != 0 ||
        get16(d + 12) < SP__DGRAM_GREETING - SP__DGRAM_HEAD) {
        return crc != NULL ? SP__DGRAM_MALFORMED : SP__DGRAM_FINE;
    }
    if (crc != NULL && !greeting_crc(d, *crc)) {
        return SP__DGRAM_MALFORMED;
    }
    out->extended = true;
    out->features = get16(d + 14);
    out->payload_max = get32(d + 16);
    out->file_max = get32(d + 20);
    memcpy(out->uuid, d + 24, sizeof(out->uuid));
    out->token = get64(d + 40);
    out->cookie = get64(d + 48);
    return SP__DGRAM_FINE;
}

enum sp__dgram_fault sp__dgram_read(const unsigned char *d, size_t len, const uint32_t *crc,
                                    struct sp__dgram *out)
{
    memset(out, 0, sizeof(*out));
    if (len < SP__DGRAM_HEAD || d[0] != VERSION) {
        return SP__DGRAM_MALFORMED;
    }
    out->op = d[1];
    out->type = get16(d + 2);
    out->p0 = get16(d + 4);
    out->p1 = get16(d + 6);
    switch (out->op) {
    case SP__DGRAM_DATA:
        out->count = 1;
        out->payload = d + SP__DGRAM_HEAD;
        out->payload_len = out->p0; // What follows is nobody's.
        return out->p0 <= len - SP__DGRAM_HEAD ? SP__DGRAM_FINE : SP__DGRAM_CUT;
    case SP__DGRAM_CREQ:
    case SP__DGRAM_CACK:
    case SP__DGRAM_DISC:
        return read_greeting(d, len, crc, out);
    case SP__DGRAM_MESH:
        return SP__DGRAM_FINE;
    case SP__DGRAM_XDATA:
        return read_xdata(d, len, crc, out);
    default:
        return SP__DGRAM_MALFORMED;
    }
}
