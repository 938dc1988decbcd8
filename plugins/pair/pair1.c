/* SPDX-License-Identifier: MIT */
/// PAIR version 1: a header of one word, the hops that the message made; or, polyamorous, many
/// peers, where each message goes to the one that it names. [actor]
#include "pair.h"

#define HOPS_MAX 0xFF ///< more is no count of hops

/* ------------------------------------------------------------------ Peers */

static bool pair1_many(const struct pair *pair)
{
    return sp_option_load(&pair->polyamorous) != 0; // It does not change once there is a peer.
}

static int pair1_pipe_add(void *self, sp_pipe_ref *pipe)
{
    struct pair *pair = self;

    if (!pair1_many(pair)) {
        return pair_pipe_add(self, pipe);
    }
    sp_ring_add(&pair->peers, pipe);
    return SP_OK;
}

static void pair1_pipe_del(void *self, sp_pipe_ref *pipe)
{
    struct pair *pair = self;

    if (!pair1_many(pair)) {
        pair_pipe_del(self, pipe);
    } else {
        sp_ring_del(&pair->peers, pipe);
    }
}

/* ------------------------------------------------------------------ Sending */

/// The peer that a message names; if it names none, the one that has been there for the longest
/// time. NULL: gone.
static sp_pipe_ref *pair1_choose(const struct pair *pair, const sp_msg *m)
{
    const struct sp_ring_peer *peer = pair->peers.turn;

    if (m->peer != 0) {
        return pair->host->pipe_find(pair->sock, m->peer);
    }
    for (size_t i = 0; i < pair->peers.n; i++, peer = peer->next) {
        if (pair->host->pipe_find(pair->sock, peer->ref->id) != NULL) { // It does not end.
            return peer->ref;
        }
    }
    return NULL;
}

/// To many peers: what finds no room is dropped, so that nobody waits for who does not keep up.
static void pair1_send_to_many(struct pair *pair, sp_batch *out)
{
    for (sp_msg *m; pair->peers.n > 0 && (m = sp_batch_pop(out)) != NULL;) {
        sp_pipe_ref *pipe = pair1_choose(pair, m);

        if (pipe == NULL) {
            pair->host->discard_out(pair->sock, m, SP_DISCARD_PEER_GONE);
        } else {
            pair->host->pipe_offer(pipe, m);
        }
    }
}

/// The first hop is 1.
static void pair1_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    for (sp_msg *m = out->head; m != NULL; m = m->next) {
        m->header_len = 0;
        (void)sp_msg_header_put_u32(m, 1);
    }
    if (pair1_many(self)) {
        pair1_send_to_many(self, out);
    } else {
        pair_on_send(self, ctx, out);
    }
}

/// Raw: the application's header goes out with one hop more; without a valid one the message is
/// dropped.
static void pair1_raw_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct pair *pair = self;

    (void)ctx;
    for (sp_msg *m; pair->peer != NULL && (m = sp_batch_pop(out)) != NULL;) {
        uint32_t hops = m->header_len == 4 ? sp_load_u32(m->header) : UINT32_MAX;

        if (hops >= HOPS_MAX) {
            pair->host->discard_out(pair->sock, m, SP_DISCARD_MALFORMED);
            continue;
        }
        sp_store_u32(m->header, hops + 1);
        if (pair->host->pipe_send(pair->peer, m) != SP_OK) {
            sp_store_u32(m->header, hops);
            sp_batch_unpop(out, m);
            return;
        }
    }
}

/* ------------------------------------------------------------------ Receiving */

/// Moves the hop count from the body's front to the header. False: the message is gone, and maybe
/// the pipe with it.
static bool pair1_take_hops(struct pair *pair, sp_pipe_ref *pipe, sp_msg *m)
{
    uint32_t hops;

    if (m->header_len > 0) {
        return true; // Offered before.
    }
    if (sp_msg_take_u32(m, &hops) != SP_OK || hops > HOPS_MAX) {
        pair->host->discard_in(pair->sock, m, SP_DISCARD_MALFORMED);
        pair->host->pipe_close(pipe, SP_EPROTO);
        return false;
    }
    if ((int64_t)hops > sp_option_load(&pair->ttl_max)) {
        pair->host->discard_in(pair->sock, m, SP_DISCARD_TTL);
        return false;
    }
    (void)sp_msg_header_put_u32(m, hops);
    return true;
}

static void pair1_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    struct pair *pair = self;

    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        if (pair1_take_hops(pair, pipe, m) && pair->host->deliver(pair->ctx, m) != SP_OK) {
            sp_batch_unpop(in, m);
            return;
        }
    }
}

/* ------------------------------------------------------------------ Tables */

static const sp_id_pair pair1_ids[] = {{PAIR1_ID, PAIR1_ID}};

/// Raw mode has the first alone.
static const sp_option pair1_options[] = {
    {"ttl-max", SP_OPTION_INT, 0, offsetof(struct pair, ttl_max), 8, 1, 15, "hops",
     "messages that made more hops are dropped"},
    {"pair1:polyamorous", SP_OPTION_BOOL, SP_OPTION_EARLY, offsetof(struct pair, polyamorous), 0, 0,
     1, "", "many peers, each message to the one that it names; set before the first peer"},
};

/// Not requeued when a peer is lost: its hop is counted already.
static const sp_protocol_ops pair1_raw_ops = {PAIR_COMMON,
                                              .ids = pair1_ids,
                                              .options = pair1_options,
                                              .option_count = 1,
                                              .pipe_add = pair_pipe_add,
                                              .pipe_del = pair_pipe_del,
                                              .on_send = pair1_raw_on_send,
                                              .on_recv = pair1_on_recv};
const sp_protocol_ops pair1_ops = {PAIR_COMMON,
                                   .header_size = 4,
                                   .flags = SP_PROTO_REQUEUE,
                                   .ids = pair1_ids,
                                   .pipe_size = sizeof(struct sp_ring_peer),
                                   .options = pair1_options,
                                   .option_count = 2,
                                   .pipe_add = pair1_pipe_add,
                                   .pipe_del = pair1_pipe_del,
                                   .on_send = pair1_on_send,
                                   .on_recv = pair1_on_recv,
                                   .raw = &pair1_raw_ops};
