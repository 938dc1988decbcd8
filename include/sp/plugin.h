/* SPDX-License-Identifier: MIT */
/// The plugin ABI, major 1 (experimental: it may change until it is frozen; rebuild plugins with
/// the library).
///
/// A plugin is a shared object that exports one function, `sp_plugin_entry_v1`, and links against
/// no part of the library: all that it may call is in the host table (struct sp_host) that it is
/// handed. Every struct that crosses the border starts with its size and grows only at its end.
///
/// Thread classes, written at each slot and each host function:
/// - [any]: any thread, at any time.
/// - [actor]: serial for one socket, on changing threads; no locks needed, no blocking, no calls
///   into the system.
/// - [io]: serial for one pipe direction, or with the socket's actor for an endpoint; on changing
///   threads; calls into the system that do not block.
/// - [control]: load, unload, init, fini: while nothing else runs on the object.
#ifndef SP_PLUGIN_H
#define SP_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <sp/batch.h>
#include <sp/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SP_ABI_MAJOR 1
#define SP_ABI_MINOR 0

typedef struct sp_host sp_host;

/* ------------------------------------------------------------------ Messages and batches */

/// The frozen head of a message. It holds no atomic: references are only taken and given back
/// through the host. Two cache lines: the second is the header's alone, so that a message without
/// one leaves it untouched.
struct sp_msg {
    sp_msg *next;        ///< link of the batch or queue that owns the message
    void *owner;         ///< the core's
    unsigned char *data; ///< first byte of the body; to be written only after host->msg_own
    size_t len;          ///< bytes of the body
    uint16_t header_len; ///< bytes of the header in use
    uint16_t header_in;  ///< bytes at the end of `header` that came in front of the body and were
                         ///< not taken yet
    uint32_t peer;       ///< id of the pipe it came from, or shall go to; 0: none
    void *memory;        ///< the core's
    unsigned char frame[16]; ///< for the transport that writes it: framing bytes, directly in front
                             ///< of the header
    unsigned char header[SP_HEADER_MAX];
};

static inline uint32_t sp_load_u32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static inline void sp_store_u32(unsigned char *p, uint32_t v)
{
    p[0] = (unsigned char)(v >> 24);
    p[1] = (unsigned char)(v >> 16);
    p[2] = (unsigned char)(v >> 8);
    p[3] = (unsigned char)v;
}

/// Takes one big-endian word off the front of what was received. SP_EPROTO: fewer than 4 bytes are
/// left. The words taken may be appended to the header meanwhile.
static inline int sp_msg_take_u32(sp_msg *m, uint32_t *v)
{
    if (m->header_in >= 4) {
        *v = sp_load_u32(m->header + SP_HEADER_MAX - m->header_in);
        m->header_in = (uint16_t)(m->header_in - 4);
        return SP_OK;
    }
    if (m->len < 4) {
        return SP_EPROTO;
    }
    *v = sp_load_u32(m->data);
    m->data += 4;
    m->len -= 4;
    return SP_OK;
}

/// Appends a word to the header. SP_EMSGSIZE: it is full.
static inline int sp_msg_header_put_u32(sp_msg *m, uint32_t v)
{
    if (m->header_len + 4 > SP_HEADER_MAX) {
        return SP_EMSGSIZE;
    }
    sp_store_u32(m->header + m->header_len, v);
    m->header_len = (uint16_t)(m->header_len + 4);
    return SP_OK;
}

/// For a transport that hands the message itself over: its header now stands in front of the body,
/// for the receiver.
static inline void sp_msg_header_turn(sp_msg *m)
{
    if (m->header_len > 0) {
        memmove(m->header + SP_HEADER_MAX - m->header_len, m->header, m->header_len);
    }
    m->header_in = m->header_len;
    m->header_len = 0;
}

/// Takes a word off the front of the header. SP_EPROTO: it has none.
static inline int sp_msg_header_take_u32(sp_msg *m, uint32_t *v)
{
    if (m->header_len < 4) {
        return SP_EPROTO;
    }
    *v = sp_load_u32(m->header);
    m->header_len = (uint16_t)(m->header_len - 4);
    memmove(m->header, m->header + 4, m->header_len);
    return SP_OK;
}

/* ------------------------------------------------------------------ What a plugin is handed */

/// Heads of the core's objects. The rest belongs to the core.
typedef struct sp_sock_ref {
    void *state; ///< the protocol's instance
    bool raw;
} sp_sock_ref;

typedef struct sp_ctx_ref {
    void *state; ///< the protocol's state of this context
} sp_ctx_ref;

typedef struct sp_pipe_ref {
    void *state;           ///< the protocol's state of this pipe, zeroed when it is added
    void *tran;            ///< the transport's state of this pipe
    uint32_t id;           ///< 31 bits, never 0
    uint16_t proto;        ///< what the peer said it is: of several pairs, which one it is
    uint8_t send_priority; ///< 1, the first to be served, to 16: its endpoint's option
    uint8_t recv_priority;
} sp_pipe_ref;

typedef struct sp_ep_ref {
    void *state; ///< the transport's state of this endpoint
} sp_ep_ref;

typedef struct sp_timer_ref sp_timer_ref;

/// Why a message was dropped: each has its counter in the statistics.
typedef enum sp_discard {
    SP_DISCARD_NO_PEER,   ///< nobody to send it to
    SP_DISCARD_PEER_GONE, ///< its peer went away before it was written
    SP_DISCARD_FULL,      ///< a queue was full and the policy is to drop
    SP_DISCARD_STALE,     ///< answers nothing that is being asked
    SP_DISCARD_MALFORMED, ///< its header is not what the protocol says
    SP_DISCARD_TTL,       ///< more hops than "ttl-max"
    SP_DISCARD_CLOSED,    ///< the socket was closed before it was written or received
    SP_DISCARD_STATE,     ///< nothing that this protocol receives or sends
    SP_DISCARD_CANCELED,  ///< replaced by a newer one (a request by the next)
    SP_DISCARD_OWN,       ///< not for the application: what protocols say to each other
    SP_DISCARD_UNWANTED,  ///< nobody subscribed to it
    SP_DISCARD_REASONS    ///< how many there are
} sp_discard;

/// Where a failure happened, for the error chain: "connect", "bind", "hello: …". Plugins write it;
/// the core prints it.
typedef struct sp_cause {
    char text[160];
} sp_cause;

/// Readiness bits.
#define SP_READY_IN 1U
#define SP_READY_OUT 2U
#define SP_READY_HUP                                                                               \
    4U ///< the peer closed or the connection failed: read until there is nothing more

/* ------------------------------------------------------------------ Options */

typedef enum sp_option_type {
    SP_OPTION_INT,  ///< a whole number, `int64_t` at `offset`
    SP_OPTION_BOOL, ///< 0 or 1, `int64_t` at `offset`
    SP_OPTION_STR,  ///< text, `char[max]` with its NUL at `offset`; endpoints only
    SP_OPTION_BYTES ///< handled by the protocol's on_option; at most `max` bytes, 0: any number
} sp_option_type;

#define SP_OPTION_READONLY 1U
#define SP_OPTION_CTX 2U ///< each context has its own, in the context's state
#define SP_OPTION_EARLY                                                                            \
    4U ///< of a protocol: to be set before the socket's first peer, then SP_ESTATE

/// One option. The core checks type and range, stores and loads the value; `int64_t` fields are
/// loaded with sp_option_load.
typedef struct sp_option {
    const char *name;
    sp_option_type type;
    uint32_t flags;
    size_t offset; ///< in the instance (protocol) or endpoint (transport), with SP_OPTION_CTX in
                   ///< the context
    int64_t def;
    int64_t min;
    int64_t max;
    const char *unit; ///< "ms", "bytes", "µs", "hops", "" …
    const char *doc;  ///< one line
} sp_option;

/// An option's value; another thread may be setting it. Relaxed: an option orders nothing else.
static inline int64_t sp_option_load(const int64_t *field)
{
    return __atomic_load_n(field, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------------ Protocols */

/// Own and peer protocol number.
typedef struct sp_id_pair {
    uint16_t own;
    uint16_t peer;
} sp_id_pair;

/// When the core lets an application send.
typedef enum sp_window {
    SP_WINDOW_PIPES, ///< as much as the queues of all pipes take together; an unwritten message
                     ///< counts until it is written
    SP_WINDOW_PEER,  ///< one message a context, as soon as there is a peer; counts until on_send
                     ///< took it
    SP_WINDOW_OPEN   ///< "send-buffer" messages on their way to on_send, peer or not
} sp_window;

/// Receiving a message makes its header and peer the address of the context's next send, which
/// takes it; a send without one is SP_ESTATE (REP, RESPONDENT).
#define SP_PROTO_REPLIES 1U
/// A send asks; only then may the context receive, and what answers an earlier question is
/// discarded as stale (REQ).
#define SP_PROTO_ASKS 2U
/// What a removed pipe did not write goes back to the head of the context's queue instead of being
/// discarded.
#define SP_PROTO_REQUEUE 4U
/// Not made for sending, or for receiving: the call is SP_ENOTSUP. With NO_RECV and without the
/// slot on_recv a peer that sends is closed.
#define SP_PROTO_NO_SEND 8U
#define SP_PROTO_NO_RECV 16U
/// The application may open contexts beside the socket's own (sp_ctx_open), each with a state of
/// its own. With SP_PROTO_REPLIES they share what is delivered to the socket's own, the first one.
#define SP_PROTO_CONTEXTS 32U
/// With SP_PROTO_ASKS: a question has any number of answers, until the protocol ends it by
/// host->fail (SURVEYOR).
#define SP_PROTO_MANY 64U

/// What happens when a queue is full: the socket's option "overflow".
typedef enum sp_overflow {
    SP_OVERFLOW_BLOCK,     ///< the sender waits
    SP_OVERFLOW_DROP_NEW,  ///< the message that finds no room is dropped
    SP_OVERFLOW_DROP_OLD,  ///< the oldest one that is not being written is
    SP_OVERFLOW_DISCONNECT ///< the message, and the peer that does not keep up
} sp_overflow;
#define SP_OVERFLOW_BIT(policy) (1U << (policy))

typedef struct sp_protocol_ops sp_protocol_ops;
struct sp_protocol_ops {
    size_t size;
    const sp_id_pair *ids; ///< in order of preference; see struct sp_handshake
    size_t id_count;
    uint32_t flags; ///< SP_PROTO_…
    sp_window window;
    size_t sock_size; ///< bytes of state; the core allocates them, zeroed
    size_t ctx_size;
    size_t pipe_size;
    const sp_option *options;
    size_t option_count;
    size_t option_size; ///< sizeof(sp_option)

    /// [control] The socket is new: keep `host` and `sock`. Optional, as every slot that does not
    /// say "mandatory".
    int (*init)(void *self, const sp_host *host, sp_sock_ref *sock);
    /// [actor] Contexts. The socket's own context comes first.
    int (*ctx_open)(void *self, sp_ctx_ref *ctx);
    void (*ctx_close)(void *self, sp_ctx_ref *ctx);
    /// [actor] A peer of a matching type is there. Negative: refused.
    int (*pipe_add)(void *self, sp_pipe_ref *pipe);
    /// [actor] The peer is gone; after the return the core discards or requeues what it did not
    /// write.
    void (*pipe_del)(void *self, sp_pipe_ref *pipe);
    /// [actor] Mandatory unless NO_SEND. The application sends: take from the front of `out` what
    /// can be placed (pipe_send, discard, or keep); the core keeps the rest and offers it again
    /// after pipe_add, on_writable and sock_resume.
    void (*on_send)(void *self, sp_ctx_ref *ctx, sp_batch *out);
    /// [actor] Mandatory unless NO_RECV. Messages came: take from the front of `in`. What is left
    /// pauses the pipe until pipe_resume, or until the receiver of the context whose deliver said
    /// SP_EAGAIN has taken something.
    void (*on_recv)(void *self, sp_pipe_ref *pipe, sp_batch *in);
    /// [actor] The pipe wrote something: pipe_send may take messages again.
    void (*on_writable)(void *self, sp_pipe_ref *pipe);
    /// [actor] The timer with this cookie is due.
    void (*on_timer)(void *self, void *cookie);
    /// [actor] An option of type SP_OPTION_BYTES is set. `p` is valid during the call.
    int (*on_option)(void *self, sp_ctx_ref *ctx, const char *name, const void *p, size_t n);
    /// [actor] The socket closes: give back (discard) every message still held. No slot but
    /// pipe_del, ctx_close and fini follows.
    void (*stop)(void *self);
    /// [control]
    void (*fini)(void *self);
    /// The same protocol in raw mode; NULL: it has none.
    const sp_protocol_ops *raw;
    sp_overflow overflow; ///< the option's default
    uint32_t overflows; ///< the policies that may be set, SP_OVERFLOW_BIT of each; 0: none, it has
                        ///< no such option
    size_t header_size; ///< bytes of header that on_send gives a message of the application: what a
                        ///< connection takes (sp_handshake.send_max) is counted with them
};

/* ------------------------------------------------------------------ Transports */

/// What the core and the transport tell each other while a connection is made.
///
/// A dialer has one pair a connection: it says `ids.own`. So does a listener with one pair. A
/// listener with several waits for what the peer says, and answers with the pair that
/// sp_handshake_choose finds (with the first one, if it finds none). When a dialer fails with
/// SP_EPROTO and `peer` is set, or the peer closed instead of saying anything, the core dials again
/// with another pair of the protocol, if there is one that fits.
typedef struct sp_handshake {
    size_t size;
    sp_id_pair ids;    ///< in: what to say, what to expect; out: the pair that was chosen
    uint64_t recv_max; ///< in: bytes of the largest message to accept; 0: any
    uint16_t peer;     ///< out: what the peer said
    int64_t uid;       ///< out: the peer's credentials, -1: not known
    int64_t gid;
    int64_t pid;
    char local[128]; ///< out: addresses, for people
    char remote[128];
    sp_cause cause;          ///< out: on failure
    const sp_id_pair *pairs; ///< in: what may be chosen, in order of preference; the first is `ids`
    size_t pair_count;
    uint64_t send_max;     ///< out: bytes of the largest message, header included, that this
                           ///< connection takes; 0: any. The core does not send larger ones:
                           ///< SP_EMSGSIZE. What was sent before the connection was there may
                           ///< reach submit all the same
    const char *send_hint; ///< out: with send_max, what says so and how to raise it; constant
} sp_handshake;

/// The peer said that it is `said`: takes that down, and the pair that fits. False: none does.
static inline bool sp_handshake_choose(sp_handshake *hs, uint16_t said)
{
    hs->peer = said;
    for (size_t i = 0; i < hs->pair_count; i++) {
        if (hs->pairs[i].peer == said) {
            hs->ids = hs->pairs[i];
            return true;
        }
    }
    return hs->ids.peer == said;
}

/// What a started listener is bound to.
typedef struct sp_bound {
    size_t size;
    int64_t port;    ///< -1: the transport has no ports
    char local[128]; ///< the address
    char url[256];   ///< the URL at which it can be dialled
} sp_bound;

/// `submit` hands messages to the other end within the process, by pipe_pass: it never waits, and
/// takes no longer than a few instructions a message. The core then calls it where the messages are
/// sent, without an actor in between, and harvest when pipe_pass had found no credit and there is
/// some again. submit and pipe_close of a pipe never run at the same time.
#define SP_TRANSPORT_PASSES 1U

/// A number in an endpoint's statistics: `uint64_t` in its state. Whoever counts does so by
/// sp_counter_add, in any thread; what is no count (a size) is stored by an atomic store, and its
/// `doc` says what it is.
typedef struct sp_counter {
    const char *name; ///< lower case letters, digits and "_"; none of those that the core counts
    size_t offset;    ///< in the endpoint's state
    const char *doc;  ///< one line
} sp_counter;

/// Relaxed: a counter orders nothing else.
static inline void sp_counter_add(uint64_t *counter, uint64_t n)
{
    (void)__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

typedef struct sp_transport_ops sp_transport_ops;
struct sp_transport_ops {
    size_t size;
    size_t ep_size; ///< bytes of state of an endpoint; the core allocates them, zeroed, options at
                    ///< their defaults
    size_t pipe_size;         ///< bytes of state of a pipe, zeroed
    const sp_option *options; ///< of endpoints
    size_t option_count;
    size_t option_size;   ///< sizeof(sp_option)
    const char *url_form; ///< for people: "tcp://HOST:PORT"

    /// [control] A new endpoint for `url` (whole, valid as long as the endpoint). Mandatory.
    /// SP_EINVAL with a cause.
    int (*ep_init)(void *ep, const sp_host *host, sp_ep_ref *ref, const char *url, sp_cause *cause);
    /// [control] Bind and listen, then host->ep_watch. Mandatory, SP_ENOTSUP if it can only dial.
    int (*listen)(void *ep, sp_bound *bound, sp_cause *cause);
    /// [io] Take one waiting connection into `pipe`, and host->pipe_watch it. SP_EAGAIN: none
    /// waits. When this or dial fails, nothing may be left: no other slot is called for that pipe.
    /// Mandatory.
    int (*accept)(void *ep, void *pipe, sp_pipe_ref *ref, sp_cause *cause);
    /// [io] Begin to connect `pipe`. SP_OK: under way, the handshake goes on. Mandatory.
    int (*dial)(void *ep, void *pipe, sp_pipe_ref *ref, sp_cause *cause);
    /// [io] Accept and dial no more; a bound address is free on return. Idempotent, does not block.
    /// Mandatory.
    void (*ep_close)(void *ep);
    /// [control] Every pipe is gone.
    void (*ep_fini)(void *ep);
    /// [io] An endpoint's timer is due.
    void (*on_timer)(void *ep, void *cookie);

    /// [io] Go on with connecting and the exchange of hellos; called at first without, then with
    /// readiness. SP_OK: done, `hs` is filled in. SP_EAGAIN: not yet. Else it failed:
    /// -ECONNREFUSED, SP_EPROTO … with a cause. Mandatory.
    int (*handshake)(void *pipe, unsigned ready, sp_handshake *hs);
    /// [io] Append up to `max` received messages to `in` and return how many; fewer than `max`:
    /// nothing more until the next readiness. Called once after the handshake without any.
    /// Negative: the pipe is finished (SP_ECLOSED: orderly); what was appended before still counts.
    /// Mandatory.
    int (*harvest)(void *pipe, sp_batch *in, size_t max, unsigned ready);
    /// [io] Write messages from the front of `out`: one that is written wholly is popped and
    /// released, one written in part stays in front (between two calls others may be taken out
    /// behind it, and more come). SP_OK: all written. SP_EAGAIN: call again when
    /// ready. Else the pipe is broken. Mandatory.
    int (*submit)(void *pipe, sp_batch *out);
    /// [any] Shut the connection down, so that harvest and submit fail. Idempotent, does not block.
    /// Always called before pipe_fini; after it the transport must not call pipe_ready for this
    /// pipe any more (unless it holds it). Mandatory.
    void (*pipe_close)(void *pipe);
    /// [control] Free what the pipe holds. Mandatory.
    void (*pipe_fini)(void *pipe);
    uint32_t flags; ///< SP_TRANSPORT_…
    /// [io] For a transport whose listener has one fd for all its peers. With it: the fd of
    /// ep_watch is reported here (SP_READY_IN, SP_READY_HUP), not by accept, which is called only
    /// after host->ep_ready; that calls this first, with 0, of a dialer too. ep_close takes no
    /// new peers and comes after pipe_close of those that are to end with the endpoint; of a socket
    /// that lingers it comes before: the watch stays, and this is called, until the transport has
    /// closed the fd, at the latest in the pipe_close of its last pipe. Only then is the address
    /// free.
    void (*on_ready)(void *ep, unsigned ready);
    const sp_counter *counters; ///< of endpoints
    size_t counter_count;
    size_t counter_size; ///< sizeof(sp_counter)
};

/* ------------------------------------------------------------------ The host table */

/// All that a plugin may call. Present slots never change; new ones come at the end.
struct sp_host {
    size_t size;
    uint16_t abi_major;
    uint16_t abi_minor;

    /// [any] Messages. msg_new: a body of `len` bytes, not initialised; msg_clone shares the body;
    /// msg_reserve makes room for a body of `cap` bytes without changing its length; msg_own makes
    /// the body writable. NULL or SP_ENOMEM: no memory.
    sp_msg *(*msg_new)(size_t len);
    sp_msg *(*msg_clone)(sp_msg *m);
    void (*msg_release)(sp_msg *m);
    int (*msg_reserve)(sp_msg *m, size_t cap);
    int (*msg_own)(sp_msg *m);
    /// [any] 64 KiB that belong to the calling thread until the slot that calls this returns. NULL:
    /// no memory.
    void *(*scratch)(void);

    /// [actor] Hands a received message to the receivers of a context. SP_EAGAIN: their queue is
    /// full; `m` stays the plugin's and the core calls on_recv again with what was left when there
    /// is room.
    int (*deliver)(sp_ctx_ref *ctx, sp_msg *m);
    /// [actor] Ends what a context waits for: its next receive returns `err`. With SP_PROTO_ASKS
    /// the question is over.
    void (*fail)(sp_ctx_ref *ctx, int err);
    /// [actor] Queues a message for a pipe. SP_EAGAIN: its queue is full, on_writable follows; not
    /// for a protocol with SP_PROTO_REPLIES, whose replies are bounded by the requests that it
    /// takes.
    int (*pipe_send)(sp_pipe_ref *pipe, sp_msg *m);
    /// [actor] The same for a copy beyond the first of a message that was sent: a resend, or one
    /// more peer of a fan-out.
    int (*pipe_send_copy)(sp_pipe_ref *pipe, sp_msg *m);
    /// [actor] Messages that the pipe's queue would still take.
    size_t (*pipe_room)(const sp_pipe_ref *pipe);
    /// [actor] Offers again what on_recv left.
    void (*pipe_resume)(sp_pipe_ref *pipe);
    /// [actor] Closes a pipe because of `err`, which is counted; pipe_del follows later, not from
    /// inside this call.
    void (*pipe_close)(sp_pipe_ref *pipe, int err);
    /// [actor] The pipe with an id, or NULL.
    sp_pipe_ref *(*pipe_find)(sp_sock_ref *sock, uint32_t id);
    /// [actor] Offers again what on_send left, on every context.
    void (*sock_resume)(sp_sock_ref *sock);
    /// [actor] Drops a message and counts why: one that came in, or one that was to go out.
    void (*discard_in)(sp_sock_ref *sock, sp_msg *m, sp_discard reason);
    void (*discard_out)(sp_sock_ref *sock, sp_msg *m, sp_discard reason);
    /// [actor] or [control] A timer of a socket; on_timer gets `cookie`. Freed with the socket at
    /// the latest.
    int (*timer_new)(sp_sock_ref *sock, void *cookie, sp_timer_ref **timer);
    /// [io] or [control] A timer of an endpoint.
    int (*ep_timer_new)(sp_ep_ref *ep, void *cookie, sp_timer_ref **timer);
    /// [actor] or [io] of the owner. (Re)arms to fire once in `ms`. After timer_cancel returns it
    /// does not fire.
    void (*timer_arm)(sp_timer_ref *timer, int64_t ms);
    void (*timer_cancel)(sp_timer_ref *timer);
    void (*timer_free)(sp_timer_ref *timer);

    /// [io] Reports readiness of `fd` (edge-triggered) to the pipe until it is closed. Once a pipe;
    /// the plugin closes the fd in pipe_fini.
    int (*pipe_watch)(sp_pipe_ref *pipe, int fd);
    /// [any] The pipe is ready (SP_READY_…), for transports without an fd, and for a harvest that
    /// stops before it read everything. Harmless after it was closed, as long as held.
    void (*pipe_ready)(sp_pipe_ref *pipe, unsigned ready);
    /// [any] Keep the pipe's memory (not the connection) until the drop.
    void (*pipe_hold)(sp_pipe_ref *pipe);
    void (*pipe_drop)(sp_pipe_ref *pipe);
    /// [io] or [control] The same for a listener's fd. Unwatch before the fd is closed.
    int (*ep_watch)(sp_ep_ref *ep, int fd);
    void (*ep_unwatch)(sp_ep_ref *ep, int fd);
    /// [any] A connection waits at this listener. See on_ready.
    void (*ep_ready)(sp_ep_ref *ep);
    void (*ep_hold)(sp_ep_ref *ep);
    void (*ep_drop)(sp_ep_ref *ep);

    /// [any] Monotonic clock in ns; random bits; a log line.
    int64_t (*now)(void);
    uint64_t (*random)(void);
    void (*log)(sp_log_level level, const char *id, const char *text);
    /// [any] An extension by name and revision, such as "sp.ext.name/1". NULL: not here.
    const void *(*extension)(const char *id);

    /// [io] of any pipe, or in pipe_close. Messages from the front of `batch` arrive
    /// at `to`, a pipe of this process whose handshake is done, and which does not harvest them;
    /// their headers are turned. It is not closed, or held: then its socket discards what comes too
    /// late. One caller a pipe at a time; one who held it gives it up with an empty batch, behind
    /// what was passed, and passes no more. SP_EAGAIN: not all, the pipe has no more credit; when
    /// it has, its harvest is called.
    int (*pipe_pass)(sp_pipe_ref *to, sp_batch *batch);

    /// [actor] As deliver, but when the queue is full its oldest message is dropped (counted as
    /// SP_DISCARD_FULL) to make room: always takes `m`.
    void (*deliver_latest)(sp_ctx_ref *ctx, sp_msg *m);
    /// [actor] Messages that deliver would still take. 0: on_recv is called again when there is
    /// room, as after a deliver that said SP_EAGAIN.
    size_t (*ctx_room)(sp_ctx_ref *ctx);
    /// [actor] The socket's option "overflow".
    sp_overflow (*overflow)(const sp_sock_ref *sock);
    /// [actor] Queues a message for a pipe; when the queue is full the option "overflow" says what
    /// is dropped and counted (SP_OVERFLOW_BLOCK: the message; ask for pipe_room first). With
    /// SP_OVERFLOW_DROP_OLD that may be any message of its queue, also one of pipe_send. A pipe
    /// that ends: SP_DISCARD_PEER_GONE. Always takes `m`.
    void (*pipe_offer)(sp_pipe_ref *pipe, sp_msg *m);
    /// [actor] The same with a copy of `m`, one more as of pipe_send_copy, which is only made if
    /// something becomes of it; `m` stays the plugin's. Without memory that peer misses the
    /// message.
    void (*pipe_offer_copy)(sp_pipe_ref *pipe, sp_msg *m);
    /// [actor] A copy of a received message, for one more context: it counts as received, too, and
    /// is to be delivered or discarded as that. NULL: no memory.
    sp_msg *(*receive_copy)(sp_sock_ref *sock, sp_msg *m);
    /// [actor] For one that drops what a full queue does not take: whether it is too early for
    /// that, since a receiver waited when messages came, and had no time yet to take them. Then
    /// leave what is there in on_recv's `in`: it is called again when there is room, and after
    /// 50 ms at the latest, when this says false until a receiver has waited again.
    bool (*ctx_hold)(sp_ctx_ref *ctx);

    /// [io] of a listener whose transport found somebody: its socket dials `url` in the background,
    /// as if the application had, with this endpoint's numbers as options, until ep_undial with
    /// what is written to `id`, or until the socket is closed. `url` needs no look-up that blocks.
    /// SP_ECLOSED: the socket closes; SP_EINVAL: the URL; SP_ENOMEM; what the transport says of it.
    int (*ep_dial)(sp_ep_ref *ep, const char *url, uint64_t *id);
    /// [io] Ends that, and the connection. Of a socket that lingers it ends by itself.
    void (*ep_undial)(sp_ep_ref *ep, uint64_t id);
};

/* ------------------------------------------------------------------ The plugin */

typedef enum sp_kind { SP_KIND_PROTOCOL = 1, SP_KIND_TRANSPORT = 2, SP_KIND_ACTOR = 3 } sp_kind;

typedef struct sp_actor_plugin_ops sp_actor_plugin_ops; ///< comes with the host process

typedef struct sp_export {
    sp_kind kind;
    const char
        *name; ///< of the protocol, or the URL scheme; lower case letters, digits, "-" and "+"
    union {
        const sp_protocol_ops *protocol;
        const sp_transport_ops *transport;
        const sp_actor_plugin_ops *actor;
    } ops;
} sp_export;

typedef struct sp_plugin {
    size_t size;
    uint16_t abi_major;        ///< SP_ABI_MAJOR
    uint16_t abi_minor_built;  ///< SP_ABI_MINOR
    uint16_t abi_minor_needed; ///< the oldest that is enough
    const char *id;            ///< reverse DNS, "org.example.name"
    const char *version;
    const char *vendor;
    const char *licence;
    const char *description;
    const sp_export *exports;
    size_t export_count;
    size_t export_size; ///< sizeof(sp_export)
    /// [control] Optional. Negative: the plugin is refused.
    int (*load)(const sp_host *host);
    void (*unload)(void);
} sp_plugin;

/// The one exported symbol. Pure: no I/O, no thread, no environment; always the same descriptor.
#define SP_PLUGIN_ENTRY sp_plugin_entry_v1
#define SP_PLUGIN_ENTRY_NAME "sp_plugin_entry_v1"
SP_API const sp_plugin *sp_plugin_entry_v1(void);

#ifdef __cplusplus
}
#endif

#endif
