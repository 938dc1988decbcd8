/* SPDX-License-Identifier: MIT */
/// PUB: a copy of each message for every peer that wants it. [actor]
///
/// A plain peer gets everything and chooses itself: such are in the ring. A peer that sends its
/// subscriptions is in it until it has said them all, so that it misses nothing; then it is sent
/// what it wants, and nothing else. One that subscribes to more than "pub:filter-max" stays in the
/// ring, or comes back. What a peer's queue has no room for goes by the option "overflow".
#include "pubsub.h"
#include "topics.h"

#include <sp/sdk/ring.h>

#define TOPIC_COST 200 // bytes: about what a topic takes beside its own

struct pub_peer {
    struct sp_ring_peer ring;
    struct topic_member member;
    bool filters;    ///< it may send subscriptions
    bool everything; ///< it is in the ring
    bool complete;   ///< it has said all that it wanted at first
    bool over;       ///< it wants too much to be remembered
    int64_t bytes;   ///< of its topics
};

struct pub {
    const sp_host *host;
    sp_sock_ref *sock;
    struct sp_ring ring;  ///< who gets everything
    struct topics topics; ///< of peers that filter
    size_t peers;
    size_t joining;     ///< of these, who has topics too
    int64_t filter_max; ///< option, bytes
};

static int pub_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    struct pub *pub = self;

    pub->host = host;
    pub->sock = sock;
    return SP_OK;
}

static int pub_pipe_add(void *self, sp_pipe_ref *ref)
{
    struct pub *pub = self;
    struct pub_peer *peer = ref->state;

    peer->filters = ref->proto == SUB_FILTER_ID;
    peer->everything = true;
    peer->over = sp_option_load(&pub->filter_max) == 0;
    sp_ring_add(&pub->ring, ref);
    pub->peers++;
    pub->joining += peer->filters && !peer->over;
    return SP_OK;
}

/// It is not among those that have topics and are in the ring any more.
static void pub_joined(struct pub *pub, struct pub_peer *peer)
{
    if (peer->filters && !peer->complete && !peer->over) {
        pub->joining--;
    }
}

static void pub_pipe_del(void *self, sp_pipe_ref *ref)
{
    struct pub *pub = self;
    struct pub_peer *peer = ref->state;

    if (peer->everything) {
        sp_ring_del(&pub->ring, ref);
    }
    topics_leave(&pub->topics, &peer->member);
    pub_joined(pub, peer);
    pub->peers--;
    pub->host->sock_resume(pub->sock); // It may be the one that was waited for.
}

/* ------------------------------------------------------------------ Sending */

static const struct pub_peer *pub_peer(const struct topic_member *member)
{
    return (const struct pub_peer *)(const void *)((const char *)member -
                                                   offsetof(struct pub_peer, member));
}

static sp_pipe_ref *pub_pipe(const struct topic_member *member)
{
    return pub_peer(member)->ring.ref;
}

/// Who wants the message, but for those in the ring.
static struct topic_member *pub_match(struct pub *pub, const sp_msg *m)
{
    struct topic_member *hits = topics_match(&pub->topics, m->data, m->len);

    for (struct topic_member **at = &hits; pub->joining > 0 && *at != NULL;) {
        if (pub_peer(*at)->everything) {
            *at = (*at)->hit;
        } else {
            at = &(*at)->hit;
        }
    }
    return hits;
}

/// Whether the message may go to all of them now: with SP_OVERFLOW_BLOCK each has to have room.
static bool pub_open(const struct pub *pub, const struct topic_member *hits)
{
    if (pub->host->overflow(pub->sock) != SP_OVERFLOW_BLOCK) {
        return true;
    }
    for (; hits != NULL; hits = hits->hit) {
        if (pub->host->pipe_room(pub_pipe(hits)) == 0) {
            return false;
        }
    }
    return sp_ring_open(&pub->ring, pub->host, pub->sock);
}

/// The last one gets the message itself.
static void pub_send(struct pub *pub, const struct topic_member *hits, sp_msg *m)
{
    if (hits == NULL && pub->ring.n == 0) {
        pub->host->discard_out(pub->sock, m,
                               pub->peers > 0 ? SP_DISCARD_UNWANTED : SP_DISCARD_NO_PEER);
        return;
    }
    for (; hits != NULL; hits = hits->hit) {
        if (hits->hit == NULL && pub->ring.n == 0) {
            pub->host->pipe_offer(pub_pipe(hits), m);
            return;
        }
        pub->host->pipe_offer_copy(pub_pipe(hits), m);
    }
    sp_ring_fan_out(&pub->ring, pub->host, pub->sock, m, NULL);
}

static void pub_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct pub *pub = self;

    (void)ctx;
    for (sp_msg *m; (m = sp_batch_pop(out)) != NULL;) {
        const struct topic_member *hits = pub_match(pub, m);

        if (!pub_open(pub, hits)) {
            sp_batch_unpop(out, m);
            return;
        }
        m->header_len = 0; // There is none, in raw mode neither.
        pub_send(pub, hits, m);
    }
}

/* ------------------------------------------------------------------ Subscriptions of peers */

/// It will get everything, and choose itself.
static void pub_give_up(struct pub *pub, struct pub_peer *peer)
{
    topics_leave(&pub->topics, &peer->member);
    pub_joined(pub, peer);
    if (!peer->everything) {
        peer->everything = true;
        sp_ring_add(&pub->ring, peer->ring.ref);
    }
    peer->over = true;
    pub->host->log(SP_LOG_INFO, "pub.filter",
                   "a peer subscribed to more than pub:filter-max, it gets every message");
}

static int pub_subscribe(struct pub *pub, struct pub_peer *peer, const unsigned char *key, size_t n)
{
    int rc;

    if (peer->over) {
        return SP_OK;
    }
    if (peer->bytes + (int64_t)n + TOPIC_COST > sp_option_load(&pub->filter_max)) {
        pub_give_up(pub, peer);
        return SP_OK;
    }
    rc = topics_add(&pub->topics, &peer->member, key, n);
    if (rc == SP_ENOMEM) {
        pub_give_up(pub, peer);
        return SP_OK;
    }
    peer->bytes += (int64_t)n + TOPIC_COST;
    return rc < 0 ? SP_EPROTO : SP_OK;
}

static int pub_unsubscribe(struct pub *pub, struct pub_peer *peer, const unsigned char *key,
                           size_t n)
{
    if (peer->over) {
        return SP_OK;
    }
    peer->bytes -= (int64_t)n + TOPIC_COST;
    return topics_remove(&pub->topics, &peer->member, key, n) == SP_OK ? SP_OK : SP_EPROTO;
}

/// It has said all: from now on it is sent what it wants. This is said once.
static int pub_complete(struct pub *pub, struct pub_peer *peer, size_t n)
{
    if (n > 0 || peer->complete) {
        return SP_EPROTO;
    }
    pub_joined(pub, peer);
    peer->complete = true;
    if (!peer->over) {
        peer->everything = false;
        sp_ring_del(&pub->ring, peer->ring.ref);
        pub->host->sock_resume(pub->sock); // It may be the one that was waited for.
    }
    return SP_OK;
}

static int pub_record(struct pub *pub, struct pub_peer *peer, unsigned char kind,
                      const unsigned char *key, size_t n)
{
    switch (kind) {
    case RECORD_ADD:
        return pub_subscribe(pub, peer, key, n);
    case RECORD_REMOVE:
        return pub_unsubscribe(pub, peer, key, n);
    case RECORD_COMPLETE:
        return pub_complete(pub, peer, n);
    default:
        return SP_EPROTO;
    }
}

/// One message of subscriptions. SP_EPROTO: it is no such, or says what cannot be.
static int pub_take(struct pub *pub, struct pub_peer *peer, const unsigned char *data, size_t len)
{
    int rc = peer->filters && len > 0 ? SP_OK : SP_EPROTO;

    while (rc == SP_OK && len > 0) {
        size_t n = len >= RECORD_HEAD ? (size_t)data[1] << 8 | data[2] : len;

        if (len < RECORD_HEAD + n) {
            return SP_EPROTO;
        }
        rc = pub_record(pub, peer, data[0], data + RECORD_HEAD, n);
        data += RECORD_HEAD + n;
        len -= RECORD_HEAD + n;
    }
    return rc;
}

/// Nothing that comes is for the application. A peer that must not send, or sends nonsense, is
/// closed.
static void pub_on_recv(void *self, sp_pipe_ref *ref, sp_batch *in)
{
    struct pub *pub = self;
    struct pub_peer *peer = ref->state;

    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        if (pub_take(pub, peer, m->data, m->len) == SP_OK) {
            pub->host->discard_in(pub->sock, m, SP_DISCARD_OWN);
            continue;
        }
        pub->host->discard_in(pub->sock, m,
                              peer->filters ? SP_DISCARD_MALFORMED : SP_DISCARD_STATE);
        pub->host->pipe_close(ref, SP_EPROTO);
        pub_joined(pub, peer);
        peer->filters = false;
    }
}

static const sp_id_pair pub_ids[] = {{PUB_FILTER_ID, SUB_FILTER_ID}, {PUB_ID, SUB_ID}};

static const sp_option pub_options[] = {
    {"pub:filter-max", SP_OPTION_INT, 0, offsetof(struct pub, filter_max), 16 << 20, 0,
     (int64_t)1 << 40, "bytes",
     "a peer's subscriptions; one with more gets every message; 0: everybody does"},
};

#define PUB_COMMON                                                                                 \
    .size = sizeof(sp_protocol_ops), .ids = pub_ids,                                               \
    .id_count = sizeof(pub_ids) / sizeof(pub_ids[0]), .flags = SP_PROTO_NO_RECV,                   \
    .window = SP_WINDOW_OPEN, .sock_size = sizeof(struct pub),                                     \
    .pipe_size = sizeof(struct pub_peer), .options = pub_options,                                  \
    .option_count = sizeof(pub_options) / sizeof(pub_options[0]),                                  \
    .option_size = sizeof(sp_option), .init = pub_init, .pipe_add = pub_pipe_add,                  \
    .pipe_del = pub_pipe_del, .on_send = pub_on_send, .on_recv = pub_on_recv,                      \
    .overflow = SP_OVERFLOW_DROP_NEW,                                                              \
    .overflows = SP_OVERFLOW_BIT(SP_OVERFLOW_BLOCK) | SP_OVERFLOW_BIT(SP_OVERFLOW_DROP_NEW) |      \
                 SP_OVERFLOW_BIT(SP_OVERFLOW_DROP_OLD) | SP_OVERFLOW_BIT(SP_OVERFLOW_DISCONNECT)

static const sp_protocol_ops pub_raw_ops = {PUB_COMMON};

const sp_protocol_ops pub_ops = {PUB_COMMON, .raw = &pub_raw_ops};
