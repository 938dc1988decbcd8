/* SPDX-License-Identifier: MIT */
/// What the files of the datagram kit share: dgram_ep.c (the endpoint), dgram_peers.c (whom a
/// listener knows), dgram_stranger.c (who asks it), dgram_conn.c (a connection's life), dgram_say.c
/// (what its ends say), dgram_rx.c, dgram_order.c, dgram_tx.c and dgram_file.c (its messages),
/// dgram_meet.c (discovery).
#ifndef SP_SDK_DGRAM_PARTS_H
#define SP_SDK_DGRAM_PARTS_H

#include "dgram_wire.h"

#include <sp/sdk/dgram.h>

#define DGRAM_SLOTS 32      // datagrams of one call
#define DGRAM_SMALL 1920    // bytes of a datagram that are read into scratch memory
#define DGRAM_CONTROL 128   // and of its control messages
#define DGRAM_FILE_MIN 4096 // bytes below which no message is worth a file
#define DGRAM_HOLD_MS 20    // messages wait for one that is missing
#define DGRAM_RETRY_MS 1    // output waits for room that the system does not report
#define DGRAM_MS INT64_C(1000000)

/// In sp_dgram_pipe.features, beside those on the wire: the peer has our extension.
#define DGRAM_EXTENDED 0x80U

enum dgram_state {
    DGRAM_NEW,
    DGRAM_ASKING, ///< a dialer's, until CACK
    DGRAM_UP,
    DGRAM_CLOSED
};

/// In sp_dgram_ep.wanted.
#define DGRAM_WANT_HOLD 1  // a pipe holds messages
#define DGRAM_WANT_RETRY 2 // a pipe's output found no room
#define DGRAM_WANT_READ 4  // there is more to read
#define DGRAM_WANT_ASK 8   // a dialer's request found no room

/// One whom a listener knows. The table's until its pipe is closed, then the pipe's.
struct sp_dgram_peer {
    struct sp_dgram_peer *next; ///< of its row in the table
    struct sp_dgram_peer *wait; ///< of those to be accepted
    struct sp_dgram_pipe *pipe; ///< NULL: not accepted yet
    int64_t useful;             ///< ns; the last DATA; 0: none
    uint64_t token;
    unsigned char uuid[16];
    int fd; ///< a pair's, until it is accepted; -1: none
    uint32_t send_max;
    uint32_t file_max; ///< KiB
    uint16_t type;
    uint16_t refresh; ///< s
    uint8_t features;
    struct sp_dgram_who who;
    struct sp_dgram_addr addr;
};

/// A datagram with a pipe's messages or news, as dgram_rx.c has read it.
struct dgram_in {
    const struct sp_dgram_addr *from;
    struct sp__dgram d;
    enum sp__dgram_fault fault;
    sp_msg **large; ///< it lies in this buffer; NULL: in scratch memory
    struct sp_dgram_who who;
    int file; ///< what came with it; -1: nothing, or taken; closed by who has read it
    int64_t now;
};

/// Who wants the datagrams of a burst.
struct dgram_taker {
    void (*take)(void *arg, struct dgram_in *in);
    void *arg;
};

/// Reads at most one burst from `fd`, and hands each datagram to `to`. How many there were;
/// SP_EAGAIN: none; or negative: SP_ECLOSED: a pair ended behind them. `full`: there may be more.
int sp__dgram_burst(struct sp_dgram_ep *e, int fd, uint32_t *slots, sp_msg ***large, bool *full,
                    const struct dgram_taker *to);
/// Gives the buffers for large datagrams back.
void sp__dgram_trim(const struct sp_dgram_ep *e, sp_msg ***large);
/// Reads one datagram into scratch memory. SP_OK, SP_EAGAIN or negative; SP_ECLOSED: a pair ended.
int sp__dgram_read_one(struct sp_dgram_ep *e, int fd, struct sp_dgram_addr *from,
                       struct dgram_in *in);
/// Appends the messages of a DATA or XDATA; what finds no memory is counted, and then the result is
/// false.
bool sp__dgram_messages(struct sp_dgram_ep *e, struct dgram_in *in, sp_batch *to);

/// A number that the message carries from the wire to its place.
static inline void dgram_set_number(sp_msg *m, uint32_t n)
{
    sp_store_u32(m->frame, n);
}
static inline uint32_t dgram_number(const sp_msg *m)
{
    return sp_load_u32(m->frame);
}

/// Input: puts messages in order, from `in` to p->ready. `now`: ns.
void sp__dgram_order(struct sp_dgram_pipe *p, sp_batch *in, int64_t now);
/// Gives up what is missing for too long.
void sp__dgram_order_due(struct sp_dgram_pipe *p, int64_t now);

/* Peers; under ep->lock. */
struct sp_dgram_peer *sp__dgram_find(const struct sp_dgram_ep *e, const struct sp_dgram_addr *a);
int sp__dgram_peer_add(struct sp_dgram_ep *e, struct sp_dgram_peer *peer);
void sp__dgram_peer_remove(struct sp_dgram_ep *e, struct sp_dgram_peer *peer);
/// Frees one that is in no table, with the socket that it came with.
void sp__dgram_peer_free(struct sp_dgram_peer *peer);
/// The plain one that was of use longest ago, or NULL.
struct sp_dgram_peer *sp__dgram_idlest(const struct sp_dgram_ep *e);
uint64_t sp__dgram_cookie(const struct sp_dgram_ep *e, const struct sp_dgram_addr *a,
                          const unsigned char *uuid, int64_t slot);

/// Lays out 8 bytes, or a greeting, for `to`, with the transport's front. How many.
#define DGRAM_SAID_MAX (SP_DGRAM_FRONT_MAX + SP__DGRAM_GREETING)
size_t sp__dgram_lay(const struct sp_dgram_ep *e, const struct sp_dgram_addr *to,
                     const struct sp__dgram *d, unsigned char out[DGRAM_SAID_MAX]);
/// Sends that to `to` (NULL: the peer of a connected fd). Lost, if the system does not take it:
/// then negative.
int sp__dgram_say(struct sp_dgram_ep *e, int fd, const struct sp_dgram_addr *to,
                  const struct sp__dgram *d);
/// CREQ, CACK or DISC of a connection: what it says; and says it.
struct sp__dgram sp__dgram_greeting_of(struct sp_dgram_pipe *p, enum sp__dgram_op op,
                                       uint16_t reason);
int sp__dgram_greet(struct sp_dgram_pipe *p, enum sp__dgram_op op, uint16_t reason);
/// Refuses one who has no pipe, in the manner that he asked.
void sp__dgram_refuse(struct sp_dgram_ep *e, const struct dgram_in *in, uint16_t reason);
/// Ends a pipe: `reason` for the peer, -1: it is not told. Under ep->lock, or from the pipe's own
/// actors.
void sp__dgram_fail(struct sp_dgram_pipe *p, int err, int reason);
/// A datagram other than DATA that belongs to a pipe.
void sp__dgram_news(struct sp_dgram_pipe *p, const struct dgram_in *in);
/// Whether DATA may be taken; else ends the pipe.
bool sp__dgram_data_fits(struct sp_dgram_pipe *p, const struct dgram_in *in);
int sp__dgram_disc_error(const struct sp__dgram *d);
const char *sp__dgram_disc_text(const struct sp__dgram *d);
/// A listener's pipe is closed: under ep->lock. Gives the address free with the last one.
void sp__dgram_ep_left(struct sp_dgram_ep *e);
/// A dialer begins an attempt: its timer goes.
int sp__dgram_ep_begin(struct sp_dgram_ep *e);
/// CREQ of one who is not known, of a known address, with a socket of a pair. dgram_stranger.c, the
/// socket's actor, under ep->lock.
void sp__dgram_stranger(struct sp_dgram_ep *e, struct dgram_in *in);
void sp__dgram_creq(struct sp_dgram_ep *e, struct sp_dgram_peer *peer, struct dgram_in *in);
void sp__dgram_pair(struct sp_dgram_ep *e, struct dgram_in *in);
/// A listener joins its group, if it has one; its timer is due; it leaves. dgram_meet.c, the
/// socket's actor.
int sp__dgram_meet(struct sp_dgram_ep *e, sp_cause *cause);
void sp__dgram_meet_due(struct sp_dgram_ep *e);
void sp__dgram_part(struct sp_dgram_ep *e);
/// Something for the endpoint's actor. [any]
void sp__dgram_want(struct sp_dgram_ep *e, int what);

static inline uint16_t dgram_seconds(int64_t ms)
{
    int64_t s = (ms + 999) / 1000;

    return (uint16_t)(s < 1 ? 1 : s > UINT16_MAX ? UINT16_MAX : s);
}

static inline int dgram_state(const struct sp_dgram_pipe *p)
{
    // Acquire: pairs with the release of who set it up (sp_dgram_handshake): what was agreed upon.
    return __atomic_load_n(&p->state, __ATOMIC_ACQUIRE);
}

static inline int dgram_error(const struct sp_dgram_pipe *p)
{
    // Acquire: pairs with sp__dgram_fail: what was received before it is in the queue.
    return __atomic_load_n(&p->error, __ATOMIC_ACQUIRE);
}

static inline void dgram_heard(struct sp_dgram_pipe *p, int64_t now)
{
    __atomic_store_n(&p->heard, now, __ATOMIC_RELAXED);
}

/// Whether its datagrams carry a CRC32C.
static inline bool dgram_crc(const struct sp_dgram_ep *e)
{
    return (e->kind->flags & SP_DGRAM_CRC) != 0;
}

/// Whether a message goes in a file.
static inline bool dgram_in_file(const struct sp_dgram_pipe *p, size_t len)
{
    int64_t min = sp_option_load(&p->ep->file_min);

    return p->file_send_max > 0 && min > 0 &&
           (len > p->send_max || (len >= DGRAM_FILE_MIN && len >= (uint64_t)min));
}
/// Sends it so. SP_OK, or -errno of what the system says; SP_EAGAIN: it will tell when it can.
int sp__dgram_send_file(struct sp_dgram_pipe *p, const sp_msg *m);
/// A datagram whose message is in a file: NULL: there is none, which may have ended the pipe.
sp_msg *sp__dgram_take_file(struct sp_dgram_pipe *p, const struct dgram_in *in);

static inline bool dgram_pairs(const struct sp_dgram_ep *e)
{
    return (e->kind->flags & SP_DGRAM_PAIRS) != 0;
}

/// Whom a pipe's datagrams name. NULL: its fd is connected.
static inline const struct sp_dgram_addr *dgram_to(const struct sp_dgram_pipe *p)
{
    return p->fd < 0 ? &p->peer->addr : NULL;
}

/// Whether it may carry messages in files.
static inline bool dgram_files(const struct sp_dgram_pipe *p)
{
    return p->ep->kind->wrap != NULL && p->ep->kind->unwrap != NULL;
}

static inline int dgram_fd(const struct sp_dgram_pipe *p)
{
    return p->fd >= 0 ? p->fd : p->ep->fd;
}

#endif
