/* SPDX-License-Identifier: MIT */
/// Whom a listener knows: a table by address, keyed so that nobody outside can choose the rows, and
/// the cookies that strangers have to show first. Under the endpoint's lock.
#include "dgram_parts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TABLE_MIN 16

/// The address, its number and what else is to be hashed.
struct peers_key {
    unsigned char bytes[sizeof(struct sp_dgram_addr) + 16 + 8];
    size_t n;
};

static void key_add(struct peers_key *k, const void *p, size_t n)
{
    memcpy(k->bytes + k->n, p, n);
    k->n += n;
}

static void key_addr(struct peers_key *k, const struct sp_dgram_addr *a)
{
    k->n = 0;
    key_add(k, &a->number, sizeof(a->number));
    key_add(k, &a->at, a->len <= sizeof(a->at) ? a->len : sizeof(a->at));
}

uint64_t sp__dgram_cookie(const struct sp_dgram_ep *e, const struct sp_dgram_addr *a,
                          const unsigned char *uuid, int64_t slot)
{
    struct peers_key k;

    key_addr(&k, a);
    key_add(&k, uuid, 16);
    key_add(&k, &slot, sizeof(slot));
    return sp__dgram_hash(e->secret, k.bytes, k.n);
}

static struct sp_dgram_peer **peers_row(const struct sp_dgram_ep *e, const struct sp_dgram_addr *a)
{
    struct peers_key k;

    key_addr(&k, a);
    return &e->table[sp__dgram_hash(e->secret, k.bytes, k.n) & (e->table_size - 1)];
}

static bool peers_same(const struct sp_dgram_addr *a, const struct sp_dgram_addr *b)
{
    return a->len == b->len && a->number == b->number && memcmp(&a->at, &b->at, a->len) == 0;
}

struct sp_dgram_peer *sp__dgram_find(const struct sp_dgram_ep *e, const struct sp_dgram_addr *a)
{
    struct sp_dgram_peer *peer = e->table_size > 0 ? *peers_row(e, a) : NULL;

    while (peer != NULL && !peers_same(&peer->addr, a)) {
        peer = peer->next;
    }
    return peer;
}

/// Twice the rows, when there are as many peers.
static int peers_grow(struct sp_dgram_ep *e)
{
    uint32_t before = e->table_size;
    struct sp_dgram_peer **old = e->table;
    uint32_t size = before > 0 ? 2 * before : TABLE_MIN;
    struct sp_dgram_peer **table = calloc(size, sizeof(struct sp_dgram_peer *));

    if (table == NULL) {
        return before > 0 ? SP_OK : SP_ENOMEM; // Longer rows do too.
    }
    e->table = table;
    e->table_size = size;
    for (uint32_t i = 0; i < before; i++) {
        for (struct sp_dgram_peer *peer = old[i], *next; peer != NULL; peer = next) {
            struct sp_dgram_peer **row = peers_row(e, &peer->addr);

            next = peer->next;
            peer->next = *row;
            *row = peer;
        }
    }
    free(old);
    return SP_OK;
}

int sp__dgram_peer_add(struct sp_dgram_ep *e, struct sp_dgram_peer *peer)
{
    struct sp_dgram_peer **row;

    if (e->peers >= e->table_size && peers_grow(e) < 0) {
        return SP_ENOMEM;
    }
    row = peers_row(e, &peer->addr);
    peer->next = *row;
    *row = peer;
    e->peers++;
    e->plain += (peer->features & DGRAM_EXTENDED) == 0;
    return SP_OK;
}

void sp__dgram_peer_remove(struct sp_dgram_ep *e, struct sp_dgram_peer *peer)
{
    struct sp_dgram_peer **at = e->table_size > 0 ? peers_row(e, &peer->addr) : NULL;

    while (at != NULL && *at != NULL && *at != peer) {
        at = &(*at)->next;
    }
    if (at == NULL || *at == NULL) {
        return; // Another has its place.
    }
    *at = peer->next;
    e->peers--;
    e->plain -= (peer->features & DGRAM_EXTENDED) == 0;
}

void sp__dgram_peer_free(struct sp_dgram_peer *peer)
{
    if (peer != NULL && peer->fd >= 0) {
        (void)close(peer->fd);
    }
    free(peer);
}

struct sp_dgram_peer *sp__dgram_idlest(const struct sp_dgram_ep *e)
{
    struct sp_dgram_peer *idlest = NULL;

    for (uint32_t i = 0; i < e->table_size; i++) {
        for (struct sp_dgram_peer *peer = e->table[i]; peer != NULL; peer = peer->next) {
            int64_t since = peer->pipe != NULL ? peer->pipe->since : INT64_MAX;

            if ((peer->features & DGRAM_EXTENDED) == 0 && peer->pipe != NULL &&
                (idlest == NULL || peer->useful < idlest->useful ||
                 (peer->useful == idlest->useful && since < idlest->pipe->since))) {
                idlest = peer;
            }
        }
    }
    return idlest;
}
