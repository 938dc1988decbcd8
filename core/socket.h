/* SPDX-License-Identifier: MIT */
/// Sockets, contexts, endpoints and pipes, as the core keeps them. One actor a socket owns all of
/// their control state
/// ("the socket's actor"); two more a pipe do its input and output; one a socket calls the user's
/// functions.
///
/// Locks: sock->lock guards what other threads read (lists, results of dialling, names); ctx->lock
/// is the receivers' and blocked senders'. Neither is held while another one, a plugin or the user
/// is called.
#ifndef SP_CORE_SOCKET_H
#define SP_CORE_SOCKET_H

#include "actor.h"
#include "lock.h"
#include "msg.h"
#include "object.h"
#include "observe.h"
#include "registry.h"
#include "sched.h"
#include "scope.h"
#include "timer.h"
#include "waiter.h"
#include "watch.h"

#include <sp/plugin.h>
#include <sp/sp.h>

#include <pthread.h>
#include <stdatomic.h>

/// Single-writer counters that other threads may read: relaxed load and store, no
/// read-modify-write.
typedef _Atomic uint64_t sp__counter;

static inline void sp__count(sp__counter *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline uint64_t sp__counted(const sp__counter *c)
{
    return atomic_load_explicit((sp__counter *)(uintptr_t)c, memory_order_relaxed);
}

/// Where a plugin's state of `size` bytes can begin from `at` on. A type that has to stand at a
/// multiple of 16 has a multiple of 16 as its size.
static inline size_t sp__place(size_t at, size_t size)
{
    size_t align = size % 16 == 0 ? 16 : 8;

    return (at + align - 1) & ~(align - 1);
}

/* ------------------------------------------------------------------ Contexts */

struct sp__ctx_options {
    int64_t recv_timeout;
    int64_t send_timeout;
};

/// A context: where an application sends and receives. Every socket has one of its own; a protocol
/// may allow more (ctx_open.c). Those that answer (SP_PROTO_REPLIES) share the queue of the
/// socket's own, and its lock.
struct sp__ctx {
    sp_ctx_ref ref;
    struct sp__sock *sock;
    struct sp__ctx *rx;         ///< whose queue it receives from
    struct sp__object *owner;   ///< lives as long as it: the socket, or the context's own object
    struct sp__port tx_port;    ///< messages from senders to the socket's actor
    struct sp__ctx_options opt; ///< single fields, relaxed
    struct sp__observers observers; ///< of all contexts that receive from its queue; under the lock

    // Senders: 2 × credit, and 1 when somebody waits for it. Negative: debt, after a pipe went
    // away.
    _Atomic int64_t credit;

    // The socket's actor.
    sp_batch pending;   ///< accepted, not taken by the protocol
    sp_batch delivered; ///< by the protocol, not published yet
    uint32_t round;     ///< the question that is being asked (SP_PROTO_ASKS)
    bool joined;        ///< the protocol knows it
    sp_msg *note;       ///< kept for sp__ctx_fail without memory (SP_PROTO_ASKS)
    bool excess;        ///< more was delivered than it holds: the oldest go (deliver_latest)
    bool waited;        ///< since it was held for last, a receiver waited for a message
    bool early;         ///< it is held for one that is still to be woken
    int64_t hold_until; ///< ns; what finds the queue full is held so long
    bool offering;      ///< in the socket's list of those with something in `pending`
    struct sp__ctx *offer_next;
    struct sp__ctx *publish_next; ///< of those with something in `delivered`
    struct sp__ctx *excess_next;  ///< of those with `excess`
    struct sp__ctx *next;         ///< of the socket; written under sock->lock

    // From the actor to receivers: NULL, the mark RX_WAITING, or a list, newest first (as an
    // actor's inbox).
    _Atomic(struct sp__node *) rxq;
    _Atomic uint64_t rx_in;  ///< cost of all that was delivered; written by the actor
    _Atomic uint64_t rx_out; ///< cost of all that was taken; written under `lock`
    atomic_bool rx_starved;  ///< the actor has more, and found no room
    struct sp__event space;  ///< receivers made room

    struct sp__lock lock;
    sp_batch local; ///< received, oldest first; under the lock, as all below
    sp_batch trash; ///< dropped under the lock, to be released after it
    struct sp__waiters receivers;
    struct sp__waiters senders;
    atomic_bool closed;     ///< written under the lock
    struct sp__waiter *tap; ///< who alone receives (tap.h); NULL: whoever wants to
    bool may_reply;         ///< SP_PROTO_REPLIES: a request was received and not answered
    uint32_t reply_len;
    uint32_t reply_peer;
    unsigned char reply_header[SP_HEADER_MAX];
    bool asking;         ///< SP_PROTO_ASKS: a question is under way
    uint32_t asked;      ///< number of the last question
    sp__counter entered; ///< messages delivered to this context; written by the actor
    sp__counter taken;   ///< messages that receivers took
    sp__counter stale;   ///< answers to an earlier question that receivers found
};

/// `owner` is the object that contains it. From then on the socket's actor sees to it with
/// sp__ctx_join, in which the senders get their first credit.
int sp__ctx_init(struct sp__ctx *c, struct sp__sock *s, struct sp__object *owner, void *state);
int sp__ctx_join(struct sp__ctx *c);
void sp__ctx_fini(struct sp__ctx *c);

/// Send and receive, waiting for at most `timeout` ms (-1: for ever) if need be. Return how many,
/// or an error (with detail).
int sp__ctx_send(struct sp__ctx *c, sp_msg **m, size_t n, int64_t timeout);
int sp__ctx_send_one(struct sp__ctx *c, sp_msg *m, int64_t timeout); ///< 1, or an error
int sp__ctx_recv(struct sp__ctx *c, sp_msg **m, size_t n, int64_t timeout);
/// Receives into a buffer. SP_EMSGSIZE: too small; the message stays the next one.
ssize_t sp__ctx_recv_into(struct sp__ctx *c, void *buf, size_t cap, int64_t timeout);
/// Length of the next message; SP_EAGAIN: there is none.
int sp__ctx_next_size(struct sp__ctx *c, int64_t *size);

/// Send or receive for an operation: end it now (`w->over`), or put it into the list of those who
/// wait, at its head if it was its turn. What was sent is posted only: sp__run_here. [any]
void sp__ctx_send_op(struct sp__ctx *c, struct sp__waiter *w, sp_msg *m, bool first);
struct sp__wake sp__ctx_recv_op(struct sp__ctx *c, struct sp__waiter *w, bool first);
/// Cancel it: it joins no more. True: it was waiting, and is the caller's to end; else who has it
/// ends it. `next` is to be woken.
bool sp__ctx_send_leave(struct sp__ctx *c, struct sp__waiter *w);
bool sp__ctx_recv_leave(struct sp__ctx *c, struct sp__waiter *w, struct sp__wake *next);

/// Makes a waiter the only one who receives, until it leaves, and takes what is there, see tap.h.
int sp__ctx_tap(struct sp__ctx *c, struct sp__waiter *w);
struct sp__tap_turn {
    struct sp__wake next; ///< who else is to be woken
    bool joined;          ///< it is in the list from now on
};
ssize_t sp__ctx_tap_take(struct sp__ctx *c, struct sp__waiter *w, sp_batch *out, size_t max,
                         struct sp__tap_turn *turn);
/// Puts messages that were taken last in front of what is there.
void sp__ctx_tap_back(struct sp__ctx *c, sp_batch *b);
/// Among the receivers, only to be woken when the context is closed. SP_ECLOSED: it is. Unwatch:
/// true: it was among them still.
int sp__ctx_watch(struct sp__ctx *c, struct sp__waiter *w, bool *joined);
bool sp__ctx_unwatch(struct sp__ctx *c, struct sp__waiter *w);
/// How much credit there is now; 0 or less: none.
static inline int64_t sp__ctx_credit(const struct sp__ctx *c)
{
    // Relaxed: only a hint of how much to try with.
    return atomic_load_explicit((_Atomic int64_t *)(uintptr_t)&c->credit, memory_order_relaxed) >>
           1;
}
/// Takes credit for a prefix of `m`, without waiting, and returns its length; SP_ECLOSED. Then
/// these are to be sent: what happens is up to the socket's actor, and only posted. [any]
int sp__ctx_send_take(struct sp__ctx *c, sp_msg **m, size_t n);
void sp__ctx_send_put(struct sp__ctx *c, sp_msg **m, int n);
/// Tells a waiter, once, when there is credit again. True: there is already, and it does not wait.
/// Its `ready` returns sp__ctx_send_pass: others may use the credit.
bool sp__ctx_send_tell(struct sp__ctx *c, struct sp__waiter *w);
struct sp__wake sp__ctx_send_pass(struct sp__ctx *c);

/// No more sending and receiving: everybody who waits returns SP_ECLOSED. [any]
void sp__ctx_shut(struct sp__ctx *c);
/// Drops what is queued in either direction, counted. The socket's actor.
void sp__ctx_purge(struct sp__ctx *c);
/// The same, and the protocol knows it no more. Once, the socket's actor.
void sp__ctx_end(struct sp__ctx *c);
/// Closes all contexts of a socket but its own. The socket's actor.
void sp__ctxs_shut(struct sp__sock *s);
/// A context, or a socket's own. NULL: it is neither. Enter: as sp__enter.
struct sp__ctx *sp__ctx_of(struct sp__object *obj);
int sp__ctx_enter(uint64_t id, struct sp__ctx **c);

/// The time-out of a call, ms.
static inline int64_t sp__timeout(const int64_t *option, int flags)
{
    return (flags & SP_NONBLOCK) != 0 ? 0 : sp_option_load(option);
}

/// As what can be polled (ctx_poll.c).
void sp__ctx_pollable(struct sp__ctx *c, struct sp__pollable *p);
/// Gives senders credit, or takes it away. [any]
void sp__ctx_grant(struct sp__ctx *c, int64_t credit);
/// Delivers to receivers; the message becomes visible with sp__ctx_publish. The socket's actor.
int sp__ctx_deliver(struct sp__ctx *c, sp_msg *m);
/// The same, beyond the size of the queue: with sp__ctx_evict the oldest messages go, counted.
void sp__ctx_deliver_latest(struct sp__ctx *c, sp_msg *m);
void sp__ctx_evict(struct sp__ctx *c);
/// Whether what comes is to wait, since the queue is full and a receiver waited lately
/// (ctx_hold.c).
bool sp__ctx_hold(struct sp__ctx *c);
/// Messages that it would still take. 0: the socket's actor looks again when there is room.
size_t sp__ctx_room(struct sp__ctx *c);
void sp__ctx_fail(struct sp__ctx *c, int err);
void sp__ctx_publish(struct sp__ctx *c);
/// Offers the protocol what it did not take. The socket's actor, as below.
void sp__ctx_offer(struct sp__ctx *c);
/// Puts what was not written in front of what the protocol did not take.
void sp__ctx_requeue(struct sp__ctx *c, sp_batch *unsent);

/* ------------------------------------------------------------------ Pipes */

enum sp__pipe_state {
    SP__PIPE_SHAKING, ///< connecting, exchanging hellos
    SP__PIPE_ASKED,   ///< the user is asked whether it may join
    SP__PIPE_UP,
    SP__PIPE_ENDING, ///< its two actors are told to stop
    SP__PIPE_GONE
};

/// Who the peer is, or why the handshake failed. Made by the input actor when the handshake ends,
/// with room for just what there is to say; then constant.
struct sp__pipe_names {
    uint16_t remote; ///< where in `text` the remote address begins: 0 when it is the local one
    uint16_t who;    ///< where the bytes of a struct sp__who are; 0: the transport does not know
    uint16_t limit;  ///< where the bytes of a struct sp__limit are; 0: it takes any message
    char text[];     ///< the local address, or the cause of the failure
};

/// The peer's credentials; -1: not known.
struct sp__who {
    int32_t uid; ///< as the system's unsigned type has it
    int32_t gid;
    int32_t pid;
};

/// What a connection takes at most.
struct sp__limit {
    uint64_t bytes;   ///< of a message with its header
    const char *hint; ///< what says so; NULL: unknown
};

/// What tells the user about a pipe.
struct sp__pipe_user {
    struct sp__pipe *pipe;
    struct sp__event ev;
    _Atomic unsigned bits;
    bool added; ///< the user's actor's
};

/// What was dropped of one pipe's messages, by reasons; the socket counts it too.
struct sp__pipe_drops {
    sp__counter out[SP_DISCARD_REASONS];
    sp__counter in[SP_DISCARD_REASONS];
};

/// Between the fields of one actor and those of the next stand 48 bytes that are seldom touched.
/// The first of these is at a multiple of 16, as the whole struct is: so actors that run at the
/// same time share no cache line.
struct sp__pipe {
    struct sp__object obj;
    sp_pipe_ref ref;
    struct sp__sock *sock; ///< held
    const sp_transport_ops *ops;

    // The socket's actor.
    struct sp__pipe *out_next; ///< of the socket's list of those with something in `out`
    _Atomic int state;         ///< enum sp__pipe_state; written by the socket's actor only
    int err;                   ///< why it ends
    bool paused;
    bool added; ///< the protocol knows it
    bool rx_gone;
    bool tx_gone;
    bool tx_dead;            ///< output failed: the peer is gone, input is still to be read
    bool opened;             ///< the transport has state to free
    bool passes;             ///< SP_TRANSPORT_PASSES; constant
    uint8_t pair;            ///< a dialer's: which of the protocol's pairs; constant
    struct sp__node rx_last; ///< behind the last message that was passed
    sp_batch held;           ///< received, not taken by the protocol
    atomic_uint held_depth;  ///< of these, in the socket's held_depth
    uint32_t cap;            ///< send credit of its queue
    int64_t inflight;        ///< cost in its queue
    sp_batch out;            ///< sent in this visit, not handed to output yet
    sp_batch late;           ///< output has too much already (drop-old); the last in its queue
    int64_t late_cost;       ///< of these; counted in `inflight` too
    int64_t rx_owed;         ///< input's credit that is to be given back
    struct sp__port rx_port;
    struct sp__event rx_note; ///< from the input actor, behind its messages
    struct sp__event note;    ///< from everybody else
    _Atomic unsigned rx_bits;
    _Atomic unsigned bits;
    _Atomic int rx_err;
    _Atomic int tx_err;
    sp__counter rx_msgs;
    sp__counter rx_bytes;

    // Seldom; the socket's actor's too.
    struct sp__pipe *next; ///< of the socket; written under sock->lock
    struct sp__pipe *prev;
    struct sp__pipe *hash_next;
    struct sp__pipe *paused_next;
    int64_t when;               ///< ns; SHAKING: by when it has to be shaken; UP: since when it is
    const char *cause;          ///< of the end, beside the code; "": the code says it all
    struct sp__pipe_user *user; ///< NULL: the user has no function for pipe events, or had none

    // The input actor.
    struct sp__actor rx;
    struct sp__event rx_ev;
    _Atomic unsigned rx_cmd;
    unsigned ready;
    _Atomic int64_t rx_credit; ///< cost that may be on its way to the socket's actor
    uint32_t rx_avg;           ///< bytes of a message, lately
    bool started;
    bool shaken;
    bool rx_over;
    bool readable;

    // Seldom.
    struct sp__watch watch;
    struct sp__pipe_names *names; ///< there before the handle is; handed over with rx_note
    struct sp__ep *ep;            ///< held
    _Atomic(struct sp__pipe_drops *) drops; ///< NULL: none yet

    // The output actor. Of a transport that passes messages within the process it is a role of the
    // socket's actor.
    struct sp__actor tx;
    struct sp__port tx_port;
    struct sp__event tx_ev;
    struct sp__node tx_end; ///< apart: `tx_ev` may stand in front of messages already
    _Atomic unsigned tx_cmd;
    atomic_bool tx_want; ///< wants to hear of readiness
    bool tx_over;        ///< failed, or stopped
    bool tx_eager;       ///< report every write
    bool tx_quiet;       ///< readiness to write is not reported
    sp_batch txq;
    uint64_t txq_cost;
    uint64_t txq_bytes;
    uint64_t tx_unreported;   ///< cost written and not reported
    _Atomic uint64_t tx_done; ///< cost reported, on its way to the socket's actor
    sp__counter tx_msgs;
    sp__counter tx_bytes;
    sp__counter tx_dropped; ///< by drop-old
    sp__counter txq_depth;  ///< messages in `txq`
};
_Static_assert(offsetof(struct sp__pipe, next) % 16 == 0 &&
                   offsetof(struct sp__pipe, rx) - offsetof(struct sp__pipe, next) >= 48 &&
                   offsetof(struct sp__pipe, watch) % 16 == 0 &&
                   offsetof(struct sp__pipe, tx) - offsetof(struct sp__pipe, watch) >= 48,
               "actors that run at the same time share no cache line");

/// Chooses the first pipe id, when the runtime starts.
void sp__pipe_ids_begin(void);
/// A new pipe of an endpoint, in no list; NULL: no memory.
struct sp__pipe *sp__pipe_new(struct sp__ep *ep);
/// Takes it into the socket and starts its handshake, which has to be over at `due` (ns), or gives
/// an unused one back. The socket's actor, as all below.
void sp__pipe_start(struct sp__pipe *p, int64_t due);
void sp__pipe_cancel(struct sp__pipe *p);
/// Ends it because of `err`. Idempotent; the protocol hears of it later.
void sp__pipe_shut(struct sp__pipe *p, int err);
/// Whether messages may be queued for it: the protocol knows it, and it does not end.
static inline bool sp__pipe_usable(const struct sp__pipe *p)
{
    return p->added && !p->tx_dead &&
           atomic_load_explicit((_Atomic int *)(uintptr_t)&p->state, memory_order_relaxed) ==
               SP__PIPE_UP;
}
/// Of a pipe that has a handle.
struct sp__who sp__pipe_who(const struct sp__pipe *p);
/// What a pipe that has a handle takes at most; UINT64_MAX: any message.
struct sp__limit sp__pipe_limit(const struct sp__pipe *p);
static inline int64_t sp__who_id(int32_t id)
{
    return id == -1 ? -1 : (int64_t)(uint32_t)id;
}
/// The peer's address, for people; of a pipe that has a handle.
static inline const char *sp__pipe_remote(const struct sp__pipe *p)
{
    return p->names->text + p->names->remote;
}
/// Queues for output. SP_EAGAIN: no room.
int sp__pipe_send(struct sp__pipe *p, sp_msg *m);
/// Queues for output; without room by the option "overflow" (overflow.c). Always takes `m`.
void sp__pipe_send_or_drop(struct sp__pipe *p, sp_msg *m);
/// The same with a copy, made only if something becomes of it; `m` stays the caller's.
void sp__pipe_copy_or_drop(struct sp__pipe *p, sp_msg *m);
/// Output gave back credit: what came late follows.
void sp__pipe_late(struct sp__pipe *p);
/// Hands what was sent in this visit to the pipes' output.
void sp__pipes_out(struct sp__sock *s);
/// From now on every write is reported, for lingering.
void sp__pipe_flush(struct sp__pipe *p);
/// Offers the protocol what it left.
void sp__pipe_offer(struct sp__pipe *p);
void sp__pipe_ready(struct sp__pipe *p, unsigned ready); ///< [any]
void sp__pipe_user_close(struct sp__pipe *p);            ///< [any]

/* ------------------------------------------------------------------ Endpoints */

enum sp__ep_counter {
    SP__EP_CONNECT, ///< connected or accepted
    SP__EP_REFUSED,
    SP__EP_DISCONNECT,
    SP__EP_CANCELED,
    SP__EP_TIMEOUT,
    SP__EP_PROTO,
    SP__EP_AUTH,
    SP__EP_OOM,
    SP__EP_REJECT,
    SP__EP_OVERFLOW, ///< it did not keep up ("overflow")
    SP__EP_FALLBACK, ///< refused by a plain peer: dialled again as one
    SP__EP_OTHER,
    SP__EP_COUNTERS
};

struct sp__ep_options {
    int64_t recv_size_max;
    int64_t reconnect_min;
    int64_t reconnect_max;
    int64_t hello_timeout;
    int64_t connect_timeout;
    int64_t max_handshakes;
    int64_t max_peers;
    int64_t send_priority; ///< 1 to 16, as in struct sp_pipe_ref
    int64_t recv_priority;
};

/// What stands behind the struct sp__ep of a listener. A dialer has none of it, since there may be
/// one a connection.
struct sp__listening {
    struct sp__ep *ep;
    sp_bound bound; ///< under sock->lock
    struct sp__watch watch;
    struct sp__timer hello; ///< the next unfinished handshake to run out of time
    sp__counter counters[SP__EP_COUNTERS];
};

struct sp__ep {
    struct sp__object obj;
    sp_ep_ref ref;
    struct sp__sock *sock; ///< held
    const struct sp__transport *transport;
    const char *url;
    struct sp__ep_options opt;
    bool dialer;

    // Under sock->lock.
    bool started;    ///< options are fixed
    bool background; ///< dial again after a failure of the first attempt too
    bool settled;    ///< … which is there
    bool running;    ///< the socket's actor's, as the two below
    bool closed;
    bool inited;
    int result;
    _Atomic unsigned cmd; ///< [any]
    char *cause;          ///< of the result; NULL: the code says it all
    struct sp__ep *next;
    struct sp__waiters waiters;

    // The socket's actor.
    struct sp__pipe *pipe;  ///< a dialer's
    unsigned shaking;       ///< unfinished handshakes
    unsigned pipes;         ///< of this endpoint
    int64_t backoff;        ///< ms
    int64_t due;            ///< ns; by when an attempt is over, with all pairs that it tries
    uint8_t pair;           ///< a dialer's: which of the protocol's pairs it says
    uint8_t proven;         ///< the last one that a peer took; there an attempt begins
    uint8_t tried;          ///< pairs of this attempt
    struct sp__timer timer; ///< a dialer's: to connect, or to try again; a listener's: to try again
    sp_timer_ref *timers;   ///< the plugin's
    struct sp__event ev;
    _Atomic uint32_t attempts[SP__EP_COUNTERS]; ///< a dialer's: one a millisecond at most
};

/// NULL: a dialer's.
static inline struct sp__listening *sp__listening(const struct sp__ep *ep)
{
    return ep->dialer ? NULL : (struct sp__listening *)(uintptr_t)(ep + 1);
}
/// Counts how an attempt or a connection ended. The socket's actor.
void sp__ep_count(struct sp__ep *ep, enum sp__ep_counter what);
uint64_t sp__ep_counted(const struct sp__ep *ep, enum sp__ep_counter what);
const char *sp__ep_counter_name(unsigned what); ///< in statistics

/// The URL at which it can be dialled, else the one that it was made for. Under sock->lock.
static inline const char *sp__ep_url(const struct sp__ep *ep)
{
    return sp__listening(ep) != NULL && sp__listening(ep)->bound.url[0] != '\0'
               ? sp__listening(ep)->bound.url
               : ep->url;
}
/// Makes one for a URL; from then on it is the socket's. Errors with detail.
int sp__ep_new(uint64_t *id, struct sp__sock *s, const char *url, bool dialer);
/// Starts it: binds here and now, or dials. `wait`: until the first connection is there, or fails.
int sp__ep_listen(struct sp__ep *ep);
int sp__ep_dial(struct sp__ep *ep, bool wait);
/// Dials for an operation: its turn comes when the first attempt is over. SP_ESTATE: started.
int sp__ep_dial_op(struct sp__ep *ep, struct sp__waiter *w);
/// … then this is how it ended, and without success it may be started again.
int sp__ep_dial_result(struct sp__ep *ep);
/// Gives the first attempt up, if it is still under way: it ends with SP_ECANCELED. Posts only.
/// [any]
void sp__ep_abort(struct sp__ep *ep);
/// The socket's actor: another dialer, in the background, for what a listener found; see ep_dial of
/// struct sp_host.
int sp__ep_dial_for(struct sp__ep *by, const char *url, uint64_t *id);
void sp__ep_undial(struct sp__ep *by, uint64_t id);
/// Closes it; from a callback soon. [any]
void sp__ep_close(struct sp__ep *ep);
void sp__ep_close_now(struct sp__ep *ep); ///< the socket's actor, as below
void sp__ep_ready(struct sp__ep *ep);     ///< [any]
void sp__ep_linger(
    struct sp__ep *ep); ///< no more callers; a listener frees its address, and keeps its pipes
/// A handshake begins, and has to be over at `due`; it ended.
void sp__ep_shaking(struct sp__ep *ep, int64_t due);
void sp__ep_shaken(struct sp__ep *ep);
void sp__ep_pipe_up(struct sp__ep *ep, struct sp__pipe *p);
void sp__ep_pipe_gone(struct sp__ep *ep, struct sp__pipe *p, bool was_up);

/* ------------------------------------------------------------------ Sockets */

struct sp__sock_options {
    int64_t recv_buffer;
    int64_t send_buffer;
    int64_t queue_bytes;
    int64_t in_place;
    int64_t spin_time;
    int64_t linger;
    int64_t overflow;         ///< sp_overflow
    struct sp__ep_options ep; ///< what its endpoints begin with
};

/// A bit of the core's in the flags of a protocol: a peer must not send (SP_PROTO_NO_RECV, and no
/// on_recv).
#define SP__PROTO_MUTE 0x80000000U

enum sp__sock_state { SP__SOCK_OPEN, SP__SOCK_LINGERING, SP__SOCK_ENDING, SP__SOCK_DONE };

#define SP__HASH_MIN 16
#define SP__RX_WINDOW 128 // cost of messages between a pipe's input and the protocol

struct sp__sock {
    struct sp__object obj;
    sp_sock_ref ref;
    const struct sp__protocol *protocol;
    const sp_protocol_ops *ops;
    struct sp__sock_options opt; ///< single fields, relaxed
    struct sp__actor actor;
    struct sp__actor user;
    _Atomic(const sp_transport_ops *) in_transport; ///< whose function `actor` is in; NULL: none
    atomic_uchar in_slot;                           ///< … and in which: enum sp__slot
    struct sp__ctx ctx; ///< the socket's own; the others are in its list

    // The socket's actor.
    enum sp__sock_state state;
    struct sp__pipe **hash;
    size_t hash_size;
    size_t linked;                ///< pipes in the hash
    struct sp__pipe *paused_head; ///< by "recv-priority"; of the same, the oldest pause first
    struct sp__pipe *paused_tail;
    struct sp__pipe *outs;       ///< pipes to which this visit sent something
    size_t together;             ///< messages of contexts that are offered, before the next settle
    bool alone;                  ///< a message alone is offered: pipes that pass do so at once
    struct sp__ctx *offers;      ///< contexts with something in `pending`, in turn
    struct sp__ctx *offers_last; ///< of these; if there are any
    size_t pending;              ///< messages in `pending` of all contexts
    struct sp__ctx *publishes;   ///< … in `delivered`
    struct sp__ctx *excesses;    ///< … with more than they hold
    int64_t window;              ///< credit that each context was given (SP_WINDOW_OPEN)
    struct sp__event window_ev;  ///< "send-buffer" was set
    bool last_offer;             ///< what a gone pipe left is offered, beyond the queue's size
    bool rx_full;                ///< a deliver found no room since the last look
    bool tx_again;               ///< offer what is pending
    bool rx_again;               ///< offer what is held
    bool settling;
    bool inited;
    unsigned shaking;
    struct sp__timer timer; ///< the end of lingering; until then of holding (ctx_hold.c)
    bool holding;           ///< … for which it is armed
    struct sp__event close_ev;
    struct sp__event end_ev; ///< on the user's actor
    bool told;               ///< there were pipe events for the user
    sp_timer_ref *timers;
    sp_timer_ref *timers_unused; ///< of these: the plugin gave them back
    int64_t linger_ms;
    uint64_t dropped; ///< messages to be sent, when it began to close

    // Read by others.
    _Atomic uint64_t body_max; ///< bytes of the largest body that every pipe takes, with the header
                               ///< that the protocol gives it; UINT64_MAX: any
    atomic_uint peers;         ///< pipes that are up
    atomic_bool watched;       ///< there is a function for pipe events
    atomic_bool polls;         ///< it has, or had, descriptors in the readiness set
    pthread_mutex_t lock;
    struct sp__pipe *pipes; ///< under the lock
    struct sp__ctx *ctxs;   ///< under the lock; without the socket's own
    uint64_t ctxs_entered;  ///< … counters of those that are gone
    uint64_t ctxs_taken;
    uint64_t ctxs_stale;
    struct sp__ep *eps;              ///< under the lock
    char name[64];                   ///< under the lock
    struct sp__object *next_closing; ///< sp_fini's list
    struct sp__waiters closers;
    bool no_eps; ///< under the lock: it closes, no endpoint may be made
    bool met;    ///< it has or had a peer; written by its actor under the lock
    bool done;

    // The user's actor.
    int (*on_pipe)(sp_socket, sp_pipe, sp_pipe_event, void *);
    void *on_pipe_arg;
    _Atomic(struct sp__thread *) calling; ///< the thread that is inside on_pipe

    // Counters of the socket's actor.
    sp__counter accepted;
    sp__counter copies;
    sp__counter received;
    sp__counter rx_copies; ///< of these, copies for further contexts
    sp__counter rejected;
    sp__counter pending_depth; ///< messages in `pending` of its contexts
    sp__counter held_depth;    ///< messages in `held` of its pipes
    sp__counter drops_out[SP_DISCARD_REASONS];
    sp__counter drops_in[SP_DISCARD_REASONS];
    sp__counter tx_msgs; ///< of pipes that are gone, as the three below
    sp__counter tx_bytes;
    sp__counter rx_msgs;
    sp__counter rx_bytes;
};

/// Around a call of a transport's function by the socket's actor, which may be in a function of the
/// protocol meanwhile. Relaxed: as sp__slot.
static inline void sp__transport_begin(struct sp__sock *s, const sp_transport_ops *ops,
                                       enum sp__slot slot)
{
    atomic_store_explicit(&s->in_slot, (unsigned char)slot, memory_order_relaxed);
    atomic_store_explicit(&s->in_transport, ops, memory_order_relaxed);
}
static inline void sp__transport_end(struct sp__sock *s)
{
    atomic_store_explicit(&s->in_transport, NULL, memory_order_relaxed);
}

int sp__sock_open(sp_socket *out, const char *protocol, bool raw);
/// Begins to close: handle invalid, callers woken; lingers `linger_ms` (-1: for ever). False: it
/// was closed already. [any]
bool sp__sock_shut(struct sp__sock *s, int64_t linger_ms);
/// Waits until it is closed, or `deadline` (ns).
void sp__sock_wait(struct sp__sock *s, int64_t deadline);
/// Of a closed one: messages that it had taken and did not write.
uint64_t sp__sock_undelivered(const struct sp__sock *s);

/// Runs `fn` in an actor of the socket and waits for its result. SP_ESTATE from a callback.
int sp__sock_call(struct sp__sock *s, struct sp__actor *a, int (*fn)(struct sp__sock *s, void *arg),
                  void *arg);

/// Ends every visit of the socket's actor: publishes, offers again what was left, looks after the
/// end of lingering.
void sp__sock_settle(struct sp__sock *s);
/// Drops a message and counts why. `m` NULL, of those to be sent: a copy that was not made.
void sp__sock_discard(struct sp__sock *s, sp_msg *m, sp_discard reason, bool out);
void sp__sock_discard_all(struct sp__sock *s, sp_batch *b, sp_discard reason, bool out);
/// The same with one that was to go to `p`, which is there.
void sp__pipe_discard(struct sp__pipe *p, sp_msg *m, sp_discard reason);
/// Gives every context credit, or takes it away.
void sp__sock_grant(struct sp__sock *s, int64_t credit);
/// Writes the defaults of the protocol's options: those of the socket, or with SP_OPTION_CTX those
/// of a context.
void sp__sock_defaults(struct sp__sock *s, void *state, uint32_t ctx);
/// Writes what a new context begins with: the socket's own values of now.
void sp__sock_inherit(struct sp__sock *s, void *state);
struct sp__pipe *sp__sock_find(struct sp__sock *s, uint32_t id);
void sp__sock_link(struct sp__sock *s, struct sp__pipe *p);
void sp__sock_unlink(struct sp__sock *s, struct sp__pipe *p);
void sp__sock_pause(struct sp__sock *s, struct sp__pipe *p);

static inline int64_t sp__option(const int64_t *field)
{
    return sp_option_load(field);
}

/// When a wait ends that begins now.
static inline int64_t sp__sock_deadline(int64_t timeout)
{
    int64_t scope = sp__scope_deadline();
    int64_t own = timeout < 0 ? SP__NEVER : sp__now() + timeout * SP__MS;

    return own < scope ? own : scope;
}

/// Whether who waits for it shall poll: not for what descriptors have no part in.
static inline bool sp__sock_polls(const struct sp__sock *s)
{
    return atomic_load_explicit((atomic_bool *)(uintptr_t)&s->polls, memory_order_relaxed) &&
           sp__option(&s->opt.in_place) != 0;
}

/// Waits for messages or credit, see sp__wait.
static inline bool sp__sock_block(const struct sp__sock *s, int64_t deadline)
{
    return sp__wait(deadline, sp__option(&s->opt.spin_time), sp__sock_polls(s));
}

/// What a message of `len` bytes costs of a queue of `buffer` messages and "queue-bytes-max" bytes.
static inline uint32_t sp__sock_cost(const struct sp__sock *s, size_t len, int64_t buffer)
{
    uint64_t bytes = (uint64_t)sp__option(&s->opt.queue_bytes);
    uint64_t n = buffer > 0 ? (uint64_t)buffer : 1;

    if (len >= bytes) {
        return (uint32_t)n; // One message always fits.
    }
    // Most messages are smaller than their share of the bytes. No overflow: see the options'
    // ranges.
    return len * n <= bytes ? 1 : (uint32_t)((len * n + bytes - 1) / bytes);
}

/// Pipe events (event.c). The socket's actor.
void sp__user_tell(struct sp__pipe *p, unsigned event_bit);

/// Plugin timers (host.c).
void sp__host_timers_cancel(sp_timer_ref *list);
void sp__host_timers_free(sp_timer_ref **list);
extern const sp_host sp__host;

#endif
