/* SPDX-License-Identifier: MIT */
/// Who asks a listener for a connection: cookies, room, and what is kept of whom. The socket's
/// actor, under ep->lock.
#include "dgram_parts.h"

#include <stdlib.h>
#include <string.h>

#define COOKIE_SLOT (16 * INT64_C(1000000000)) // ns; a cookie is good for one to two of them
#define DYING_MAX 64                           // evicted pipes that are not closed yet

/// Whether the cookie is one that this address was sent not long ago.
static bool stranger_knows_cookie(const struct sp_dgram_ep *e, const struct dgram_in *in)
{
    int64_t slot = in->now / COOKIE_SLOT;

    return in->d.cookie != 0 &&
           (in->d.cookie == sp__dgram_cookie(e, in->from, in->d.uuid, slot) ||
            in->d.cookie == sp__dgram_cookie(e, in->from, in->d.uuid, slot - 1));
}

/// Tells a stranger to ask again with a cookie; keeps nothing.
static void stranger_challenge(struct sp_dgram_ep *e, const struct dgram_in *in)
{
    struct sp__dgram d = {
        .op = SP__DGRAM_CACK,
        .extended = true,
        .features = SP__DGRAM_CHALLENGE,
        .token = in->d.token,
        .cookie = sp__dgram_cookie(e, in->from, in->d.uuid, in->now / COOKIE_SLOT)};

    memcpy(d.uuid, e->uuid, sizeof(d.uuid));
    sp_counter_add(&e->counts.challenged, 1);
    (void)sp__dgram_say(e, e->fd, in->from, &d);
}

/// Makes place for one more plain peer, which anybody may claim to be.
static bool stranger_place_plain(struct sp_dgram_ep *e, int64_t max)
{
    struct sp_dgram_peer *idlest;
    int64_t part = max / 4 > 0 ? max / 4 : 1;

    if (e->plain < part && e->peers < max) {
        return true;
    }
    idlest = e->pipes < max + DYING_MAX ? sp__dgram_idlest(e) : NULL;
    if (idlest == NULL) {
        return false;
    }
    sp_counter_add(&e->counts.evicted, 1);
    sp__dgram_fail(idlest->pipe, SP_ECANCELED, SP__DGRAM_NOBUF);
    sp__dgram_peer_remove(e, idlest);
    return true;
}

static bool stranger_has_place(struct sp_dgram_ep *e, const struct dgram_in *in)
{
    int64_t max = sp_option_load(&e->max_peers);

    return in->d.extended ? e->peers < max : stranger_place_plain(e, max);
}

/// Takes a new peer down, to be accepted.
static void stranger_welcome(struct sp_dgram_ep *e, struct dgram_in *in)
{
    struct sp_dgram_peer *peer = calloc(1, sizeof(*peer));

    if (peer == NULL) {
        return; // It asks again.
    }
    peer->fd = -1;
    peer->addr = *in->from;
    peer->who = in->who;
    peer->type = in->d.type;
    peer->refresh = in->d.p1;
    peer->token = in->d.token;
    peer->send_max = in->d.extended ? in->d.payload_max : in->d.p0;
    peer->file_max = in->d.extended ? in->d.file_max : 0;
    peer->features = in->d.extended
                         ? (uint8_t)((in->d.features &
                                      (SP__DGRAM_PACKS | SP__DGRAM_FILES | SP__DGRAM_CRCS)) |
                                     DGRAM_EXTENDED)
                         : 0;
    memcpy(peer->uuid, in->d.uuid, sizeof(peer->uuid));
    if (sp__dgram_peer_add(e, peer) < 0) {
        free(peer);
        return;
    }
    if (e->waiting == NULL) {
        e->waiting = peer;
    } else {
        e->waiting_last->wait = peer;
    }
    e->waiting_last = peer;
    if (dgram_pairs(e)) {
        peer->fd = in->file;
        in->file = -1;
    }
    e->host->ep_ready(e->ref);
}

/// CREQ of somebody who is not known: state only for who showed that the address is its own, and
/// for a part of the plain ones, which cannot.
void sp__dgram_stranger(struct sp_dgram_ep *e, struct dgram_in *in)
{
    uint16_t no = SP__DGRAM_CLOSED;

    if (in->d.p1 == 0 || (!in->d.extended && (e->kind->flags & SP_DGRAM_PLAIN) == 0)) {
        no = SP__DGRAM_NEGOTIATION;
    } else if (e->closed) {
        no = SP__DGRAM_REFUSED;
    } else if (in->d.extended && !dgram_pairs(e) && !stranger_knows_cookie(e, in)) {
        stranger_challenge(e, in);
        return;
    } else if (!stranger_has_place(e, in)) {
        no = SP__DGRAM_NOBUF;
    }
    if (no != SP__DGRAM_CLOSED) {
        sp_counter_add(&e->counts.turned_away, 1);
        sp__dgram_refuse(e, in, no);
        return;
    }
    stranger_welcome(e, in);
}

/// CREQ of a known address: a sign of life, or another one who has that address now.
void sp__dgram_creq(struct sp_dgram_ep *e, struct sp_dgram_peer *peer, struct dgram_in *in)
{
    bool extended = (peer->features & DGRAM_EXTENDED) != 0;

    if (extended == in->d.extended && memcmp(peer->uuid, in->d.uuid, sizeof(peer->uuid)) == 0) {
        if (peer->pipe != NULL && dgram_state(peer->pipe) == DGRAM_UP) {
            dgram_heard(peer->pipe, in->now);
            (void)sp__dgram_greet(peer->pipe, SP__DGRAM_CACK, 0);
        }
        return; // Else the answer follows.
    }
    if (!in->d.extended || peer->pipe == NULL) {
        sp_counter_add(&e->counts.nomatch, 1);
        return;
    }
    if (in->d.p1 == 0 || !stranger_knows_cookie(e, in)) {
        sp__dgram_stranger(e, in);
        return;
    }
    sp__dgram_fail(peer->pipe, -ECONNRESET, -1);
    sp__dgram_peer_remove(e, peer);
    sp__dgram_stranger(e, in);
}

/// A CREQ with a socket of a pair. Its senders have no addresses: each has a number instead.
void sp__dgram_pair(struct sp_dgram_ep *e, struct dgram_in *in)
{
    struct sp_dgram_addr from = {.len = sizeof(e->attached)};

    if (in->fault != SP__DGRAM_FINE || in->d.op != SP__DGRAM_CREQ || in->file < 0 ||
        e->kind->attach(e, in->file, &in->who) < 0) {
        sp_counter_add(&e->counts.malformed, 1);
        return;
    }
    e->attached++;
    memcpy(&from.at, &e->attached, sizeof(e->attached));
    in->from = &from;
    sp__dgram_stranger(e, in);
    in->from = NULL;
}
