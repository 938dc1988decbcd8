/* SPDX-License-Identifier: MIT */
/// PUB: a copy of each message for every peer that wants it. [actor]
///
/// A plain peer gets everything and chooses itself: such are in the ring. A peer that sends its
/// subscriptions is a member of their topics; nothing else is sent to it. One that subscribes to
/// more than "pub:filter-max" is moved to the ring. What a peer's queue has no room for goes by the
/// option "overflow".
#include "pubsub.h"
#include "topics.h"

#include <sp/sdk/ring.h>

#define TOPIC_COST 200 // bytes: about what a topic takes beside its own

struct pub_peer {
    struct sp_ring_peer ring;
    struct topic_member member;
    bool filters;    ///< it may send subscriptions
    bool everything; ///< it is in the ring
    int64_t bytes;   ///< of its topics
};

struct pub {
    const sp_host *host;
    sp_sock_ref *sock;
    struct sp_ring ring;  ///< who gets everything
    struct topics topics; ///< of the others
    size_t peers;
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
    peer->everything = !peer->filters;
    if (peer->everything) {
        sp_ring_add(&pub->ring, ref);
    } else {
        peer->ring.ref = ref;
    }
    pub->peers++;
    return SP_OK;
}

static void pub_pipe_del(void *self, sp_pipe_ref *ref)
{
    struct pub *pub = self;
    struct pub_peer *peer = ref->state;

    if (peer->everything) {
        sp_ring_del(&pub->ring, ref);
    }
    topics_leave(&pub->topics, &peer->member);
    pub->peers--;
    pub->host->sock_resume(pub->sock); // It may be the one that was waited for.
}

/* ------------------------------------------------------------------ Sending */

static sp_pipe_ref *pub_pipe(const struct topic_member *member)
{
    const struct pub_peer *peer = (const struct pub_peer *)(const void *)((const char *)member -
                                                                          offsetof(struct pub_peer,
                                                                                   member));

    return peer->ring.ref;
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

/// Without memory for a copy that peer misses the message.
static void pub_copy(const struct pub *pub, const struct topic_member *to, sp_msg *m)
{
    sp_msg *copy = pub->host->msg_clone(m);

    if (copy != NULL) {
        pub->host->pipe_offer(pub_pipe(to), copy, true);
    }
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
            pub->host->pipe_offer(pub_pipe(hits), m, false);
            return;
        }
        pub_copy(pub, hits, m);
    }
    sp_ring_fan_out(&pub->ring, pub->host, pub->sock, m, NULL);
}

static void pub_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct pub *pub = self;

    (void)ctx;
    for (sp_msg *m; (m = sp_batch_pop(out)) != NULL;) {
        struct topic_member *hits = topics_match(&pub->topics, m->data, m->len);

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
    peer->everything = true;
    sp_ring_add(&pub->ring, peer->ring.ref);
    pub->host->log(SP_LOG_INFO, "pub.filter",
                   "a peer subscribed to more than pub:filter-max, it gets every message");
}

static int pub_subscribe(struct pub *pub, struct pub_peer *peer, const unsigned char *key, size_t n)
{
    int rc;

    if (peer->everything) {
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
    if (peer->everything) {
        return SP_OK;
    }
    peer->bytes -= (int64_t)n + TOPIC_COST;
    return topics_remove(&pub->topics, &peer->member, key, n) == SP_OK ? SP_OK : SP_EPROTO;
}

/// One message of subscriptions. SP_EPROTO: it is no such, or says what cannot be.
static int pub_take(struct pub *pub, struct pub_peer *peer, const unsigned char *data, size_t len)
{
    int rc = peer->filters && len > 0 ? SP_OK : SP_EPROTO;

    while (rc == SP_OK && len > 0) {
        size_t n = len >= RECORD_HEAD ? (size_t)data[1] << 8 | data[2] : len;

        if (len < RECORD_HEAD + n || data[0] > RECORD_ADD) {
            return SP_EPROTO;
        }
        rc = data[0] == RECORD_ADD ? pub_subscribe(pub, peer, data + RECORD_HEAD, n)
                                   : pub_unsubscribe(pub, peer, data + RECORD_HEAD, n);
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
        peer->filters = false;
    }
}

static const sp_id_pair pub_ids[] = {{PUB_ID, SUB_ID}};

static const sp_option pub_options[] = {
    {"pub:filter-max", SP_OPTION_INT, 0, offsetof(struct pub, filter_max), 16 << 20, 0,
     (int64_t)1 << 40, "bytes", "a peer's subscriptions; one with more gets every message"},
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
