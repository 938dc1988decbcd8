/* SPDX-License-Identifier: MIT */
/// The members of a discovery group.
#include "dgram_group.h"

#include <stdlib.h>
#include <string.h>

#include <sp/sdk/crc32c.h>

#define GROUP_MS INT64_C(1000000)
#define GROUP_INTERVAL_MIN 20 // ms
#define GROUP_INTERVAL_MAX 60000
#define GROUP_SUM 28 // where the checksum stands

static const unsigned char group_magic[4] = {'S', 'P', 'G', '1'};

/* ------------------------------------------------------------------ Bytes */

static void group_put32(unsigned char *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++) {
        p[i] = (unsigned char)(v >> (8 * i));
    }
}

static uint32_t group_get32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

void sp__group_write(unsigned char out[SP__GROUP_BYTES], const struct sp__announcement *a)
{
    memset(out, 0, SP__GROUP_BYTES);
    memcpy(out, group_magic, sizeof(group_magic));
    out[4] = a->op;
    memcpy(out + 8, a->uuid, sizeof(a->uuid));
    group_put32(out + 24, a->interval);
}

bool sp__group_read(const unsigned char *bytes, size_t len, struct sp__announcement *a)
{
    if (len < SP__GROUP_BYTES || len > SP__GROUP_BYTES_MAX ||
        memcmp(bytes, group_magic, sizeof(group_magic)) != 0) {
        return false;
    }
    a->op = bytes[4];
    memcpy(a->uuid, bytes + 8, sizeof(a->uuid));
    a->interval = group_get32(bytes + 24);
    return (a->op == SP__GROUP_HERE || a->op == SP__GROUP_LEAVES) &&
           a->interval >= GROUP_INTERVAL_MIN && a->interval <= GROUP_INTERVAL_MAX;
}

/// The checksum is of all bytes, with 0 in its own place.
static uint32_t group_sum(const unsigned char *bytes, size_t len, uint32_t crc)
{
    static const unsigned char none[4] = {0};

    crc = sp_crc32c(crc, bytes, GROUP_SUM);
    crc = sp_crc32c(crc, none, sizeof(none));
    return sp_crc32c(crc, bytes + GROUP_SUM + sizeof(none), len - GROUP_SUM - sizeof(none));
}

void sp__group_seal(unsigned char *bytes, size_t len, uint32_t crc)
{
    group_put32(bytes + GROUP_SUM, group_sum(bytes, len, crc));
}

bool sp__group_sealed(const unsigned char *bytes, size_t len, uint32_t crc)
{
    return len >= SP__GROUP_BYTES && group_sum(bytes, len, crc) == group_get32(bytes + GROUP_SUM);
}

/* ------------------------------------------------------------------ Members */

static bool group_same(const struct sp_dgram_addr *a, const struct sp_dgram_addr *b)
{
    return a->len == b->len && a->number == b->number && memcmp(&a->at, &b->at, a->len) == 0;
}

static struct sp__group_member *group_at(const struct sp__group *g,
                                         const struct sp_dgram_addr *addr)
{
    for (uint32_t i = 0; i < g->n; i++) {
        if (group_same(&g->members[i].addr, addr)) {
            return &g->members[i];
        }
    }
    return NULL;
}

static bool group_knows(const struct sp__group *g, const unsigned char *uuid)
{
    for (uint32_t i = 0; i < g->n; i++) {
        if (memcmp(g->members[i].uuid, uuid, sizeof(g->members[i].uuid)) == 0) {
            return true;
        }
    }
    return false;
}

static void group_undial(struct sp__group *g, struct sp__group_member *m)
{
    if (m->dialer != 0) {
        g->undial(g->arg, m->dialer);
        m->dialer = 0;
    }
}

/// Dials, or stops to, as the two instances say. What fails is tried again with the next
/// announcement.
static void group_decide(struct sp__group *g, struct sp__group_member *m)
{
    if (memcmp(g->uuid, m->uuid, sizeof(g->uuid)) < 0) {
        group_undial(g, m);
    } else if (m->dialer == 0 && g->dial(g->arg, &m->addr, &m->dialer) < 0) {
        m->dialer = 0;
    }
}

static struct sp__group_member *group_new(struct sp__group *g)
{
    if (g->n == g->cap) {
        uint32_t cap = g->cap > 0 ? 2 * g->cap : 8;
        struct sp__group_member *more = realloc(g->members, cap * sizeof(*more));

        if (more == NULL) {
            return NULL;
        }
        g->members = more;
        g->cap = cap;
    }
    memset(&g->members[g->n], 0, sizeof(g->members[g->n]));
    return &g->members[g->n++];
}

/// Somebody at an address that was not known. One instance has one address.
static struct sp__group_member *group_welcome(struct sp__group *g, const struct sp_dgram_addr *from,
                                              const struct sp__announcement *a)
{
    struct sp__group_member *m = NULL;

    if (g->n < g->max && g->fresh > 0 && !group_knows(g, a->uuid)) {
        m = group_new(g);
    }
    if (m != NULL) {
        g->fresh--;
        m->addr = *from;
    }
    return m;
}

bool sp__group_hear(struct sp__group *g, const struct sp_dgram_addr *from,
                    const struct sp__announcement *a, int64_t now)
{
    struct sp__group_member *m;
    int64_t interval = a->interval * GROUP_MS;
    bool same;

    if (memcmp(g->uuid, a->uuid, sizeof(g->uuid)) == 0) {
        return true;
    }
    m = group_at(g, from);
    same = m != NULL && memcmp(m->uuid, a->uuid, sizeof(m->uuid)) == 0;
    if (a->op == SP__GROUP_LEAVES) {
        if (same && !m->leaving) {
            m->leaving = true; // What it still has to say comes within that time.
            m->until = now + interval;
        }
        return same || m == NULL;
    }
    if (!same && m != NULL && now - m->changed < interval) {
        return false;
    }
    m = m != NULL ? m : group_welcome(g, from, a);
    if (m == NULL) {
        return false;
    }
    if (!same) {
        memcpy(m->uuid, a->uuid, sizeof(m->uuid));
        m->changed = now;
        m->leaving = false;
    }
    if (!m->leaving) {
        m->until = now + SP__GROUP_LIVES * interval;
        group_decide(g, m);
    }
    return true;
}

void sp__group_turn(struct sp__group *g, int64_t now, bool flooded)
{
    g->fresh = SP__GROUP_FRESH;
    for (uint32_t i = 0; i < g->n;) {
        struct sp__group_member *m = &g->members[i];

        if (now < m->until || (flooded && !m->leaving)) {
            i++;
            continue;
        }
        group_undial(g, m);
        *m = g->members[--g->n];
    }
}

void sp__group_clear(struct sp__group *g)
{
    for (uint32_t i = 0; i < g->n; i++) {
        group_undial(g, &g->members[i]);
    }
    free(g->members);
    g->members = NULL;
    g->n = 0;
    g->cap = 0;
}
