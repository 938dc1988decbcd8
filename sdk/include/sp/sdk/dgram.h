/* SPDX-License-Identifier: MIT */
/// The datagram kit: what every transport over datagrams shares. It makes and keeps connections
/// (CREQ, CACK, DATA, DISC as doc/wire-datagram.md lays them out), knows the peers of a listener,
/// packs several messages into a datagram, counts what was lost, restores order, and reads and
/// writes many datagrams a call. A transport gives its addresses and its socket: a struct
/// sp_dgram_kind. It puts a struct sp_dgram_ep at the beginning of its endpoint's state and a
/// struct sp_dgram_pipe at the beginning of its pipe's, calls sp_dgram_init from its ep_init, and
/// the slots of its table are functions below, as they stand.
///
/// A dialer has a socket of its own, connected to the peer. A listener has one socket for all its
/// peers, which the socket's actor reads (on_ready) and hands out to the pipes; or that socket only
/// takes requests, and with each comes a socket for the connection, which the dialer made
/// (sp_dgram_kind.pair).
///
/// Memory: an idle connection holds its struct, and of a listener's 200 bytes. What was received
/// and not taken by the core is bounded for each connection; beyond, it is dropped and counted.
#ifndef SP_SDK_DGRAM_H
#define SP_SDK_DGRAM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <sp/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sp_dgram_ep;
struct sp_dgram_pipe;

/// Where a peer is. Bytes that are not used are 0: addresses are compared and hashed up to `len`.
struct sp_dgram_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } at;
    uint16_t len;    ///< of the system's address
    uint16_t number; ///< of several endpoints at one address, which one; else 0
};

/// Plain peers (nng 2) are served, too: those that say nothing of our extension.
#define SP_DGRAM_PLAIN 1U
/// Nothing under the kit sees to it that bytes arrive as they were sent: each datagram carries a
/// CRC32C.
#define SP_DGRAM_CRC 2U
/// Connections are pairs of sockets (pair, ask, attach): datagrams arrive, in order, and the system
/// reports the end behind them. No sequence numbers are looked at, nobody needs signs of life, and
/// messages that find no room stay with the system instead of being dropped.
#define SP_DGRAM_PAIRS 4U

/// Bytes that a transport may have in front of each datagram (sp_dgram_kind.front).
#define SP_DGRAM_FRONT_MAX 16

#define SP_DGRAM_CONTROL_MAX 128

/// Who sent something, where the system says so; -1: it does not.
struct sp_dgram_who {
    int32_t uid;
    int32_t gid;
    int32_t pid;
};

/// One datagram as it came, for sp_dgram_kind.strip and .received.
struct sp_dgram_in {
    struct sp_dgram_addr *from; ///< where it came from; strip may write its number
    const unsigned char *data;  ///< its first bytes, at least 128 if it has so many
    size_t len;                 ///< of all of it
    struct msghdr *control;     ///< with msg_control, if the kind has control_size
    struct sp_dgram_who who;    ///< `received` may write it: of the greeting that makes the
                                ///< connection, the handshake's credentials
    int file;                   ///< `received` may put a descriptor here: the kit's from then on
};

/// What a transport is. Functions run in the class of the slot that calls them; those that are
/// optional may be NULL.
struct sp_dgram_kind {
    size_t size;
    uint32_t flags;         ///< SP_DGRAM_…
    uint32_t payload_max;   ///< bytes of payload that a datagram has at most
    uint32_t front;         ///< bytes that `prefix` writes in front of each datagram
    uint32_t control_size;  ///< bytes for control messages of each datagram received
    const char *limit_hint; ///< how a message can be larger: for people

    /// [io] A socket, not blocking, closed on exec; connected to ep->remote; or, for a listener,
    /// bound to ep->local. `bound`: a listener's, to be filled in; NULL: a dialer's, not called
    /// with SP_DGRAM_PAIRS. An fd, or negative with a cause.
    int (*open)(struct sp_dgram_ep *ep, sp_bound *bound, sp_cause *cause);
    /// [any] The address as text, for people, cut to `size`.
    void (*text)(const struct sp_dgram_addr *addr, char *out, size_t size);
    /// [io] Optional. The front of a datagram for `to` (NULL: the peer of a connected socket).
    void (*prefix)(const struct sp_dgram_ep *ep, const struct sp_dgram_addr *to,
                   unsigned char *out);
    /// [io] Optional. How many bytes stand in front of what the kit is to see; negative: the
    /// datagram is none of ours.
    ssize_t (*strip)(const struct sp_dgram_ep *ep, struct sp_dgram_in *in);
    /// [io] With SP_DGRAM_PAIRS, all three. pair: a dialer's two sockets, connected to each other,
    /// which keep datagrams apart and in order and end with the other one; it keeps fds[0]. SP_OK,
    /// or negative with a cause. ask: sends `n` bytes and the descriptor `fd` to ep->remote. SP_OK;
    /// SP_EAGAIN: no room just now; negative. attach: a stranger sent `fd` to a listener. SP_OK: it
    /// is one of a pair, and set up; negative: it is not.
    int (*pair)(struct sp_dgram_ep *ep, int fds[2], sp_cause *cause);
    int (*ask)(struct sp_dgram_ep *ep, const void *bytes, size_t n, int fd);
    int (*attach)(struct sp_dgram_ep *ep, int fd, const struct sp_dgram_who *who);
    /// [io] Optional. Bytes of payload and the kit's head (28 bytes at most) that a datagram on the
    /// way to the peer may have so that nothing splits it; packs are that long at most. `fd`: the
    /// pipe's, connected; or the listener's, then `to` says whom. 0: as long as payload_max.
    size_t (*unsplit)(struct sp_dgram_ep *ep, int fd, const struct sp_dgram_addr *to);
    /// [io] Optional. Called with each datagram of a pipe with its own fd, or of a listener's.
    /// Takes what came as control message (credentials, descriptors). Negative: the datagram is
    /// refused, counted as malformed.
    int (*received)(struct sp_dgram_ep *ep, struct sp_dgram_in *in);
    /// [io] Optional. The handshake is over: credentials (hs->uid …) or more. Negative with
    /// hs->cause: refused, which the peer is told.
    int (*admit)(struct sp_dgram_ep *ep, struct sp_dgram_pipe *pipe, sp_handshake *hs);
    /// [any] Optional. The socket of this endpoint or pipe is about to be closed (a path to be
    /// removed …).
    void (*closed)(struct sp_dgram_ep *ep, int fd);
    /// [io] Optional. A socket on which a listener hears the announcements of its group, and `to`:
    /// where those that it sends from its own fd go. SP_EAGAIN: it has no group. Negative with a
    /// cause.
    int (*join)(struct sp_dgram_ep *ep, struct sp_dgram_addr *to, sp_cause *cause);
    const char *scheme; ///< with join: of the URLs, which `text` goes on, unless there is `url`
    /// [io] Optional. Bytes that a datagram of this connected socket may have, without the kit's
    /// head and the transport's front, if that is less than the endpoint's payload_max.
    size_t (*payload)(struct sp_dgram_ep *ep, int fd);
    /// [io] Optional, both. Large messages travel as a descriptor of what they are in, beside a
    /// datagram, with SP_DGRAM_PAIRS. wrap: puts `m`, header and body, into a new file, makes `h`
    /// send it along by means of `control` (SP_DGRAM_CONTROL_MAX bytes), and returns it for the kit
    /// to close. unwrap: the message in a file that a peer sent, of at most `max` bytes, 0: any;
    /// SP_EMSGSIZE, SP_ENOMEM, SP_EPROTO.
    int (*wrap)(struct sp_dgram_ep *ep, const sp_msg *m, struct msghdr *h, void *control);
    int (*unwrap)(struct sp_dgram_ep *ep, int file, uint64_t max, sp_msg **m);
    /// [io] Optional. The URL with which a member of the group is dialled, cut to `size`.
    void (*url)(const struct sp_dgram_ep *ep, const struct sp_dgram_addr *addr, char *out,
                size_t size);
};

/// Counters of an endpoint.
struct sp_dgram_counts {
    uint64_t rx_datagrams;
    uint64_t tx_datagrams;
    uint64_t rx_packed; ///< messages that came with others in a datagram
    uint64_t tx_packed;
    uint64_t malformed;
    uint64_t toobig;
    uint64_t nomatch;
    uint64_t nobuf;
    uint64_t inactive;
    uint64_t gaps;
    uint64_t duplicates;
    uint64_t reordered;
    uint64_t late;
    uint64_t challenged;
    uint64_t turned_away;
    uint64_t evicted;
    uint64_t unsent;
    uint64_t group_members;
    uint64_t group_rx;
    uint64_t group_tx;
    uint64_t group_refused;
};

struct sp_dgram_peer;    // one that a listener knows
struct sp_dgram_meeting; // its group

/// The kit's part of an endpoint's state.
struct sp_dgram_ep {
    const sp_host *host;
    sp_ep_ref *ref;
    const struct sp_dgram_kind *kind;
    int64_t conn_retry; ///< options
    int64_t conn_expire;
    int64_t refresh;
    int64_t max_peers;
    int64_t packing;
    int64_t order_window;
    int64_t file_min; ///< a transport's option: bytes from which a message is wrapped; 0: never
    struct sp_dgram_counts counts;
    struct sp_dgram_addr remote; ///< the transport's: whom a dialer dials
    struct sp_dgram_addr local;  ///< the transport's: where a listener binds, or a dialer
    unsigned char uuid[16];      ///< this instance
    uint64_t secret[2];          ///< of the cookies
    int fd;                      ///< a listener's; -1: none
    uint32_t payload_max;        ///< the kind's; a transport may set another after sp_dgram_init
    bool closed;
    bool released;        ///< its fd leads nowhere any more
    sp_timer_ref *timer;  ///< NULL: none yet
    pthread_mutex_t lock; ///< the peers, and of a dialer `pipe`
    bool locked;          ///< it is there
    struct sp_dgram_peer **table;
    uint32_t table_size;
    uint32_t peers;                ///< known
    uint64_t attached;             ///< pairs that came
    uint32_t plain;                ///< of these, without our extension
    uint32_t pipes;                ///< of a listener, not closed yet
    uint32_t opened;               ///< atomic; … not freed yet
    struct sp_dgram_peer *waiting; ///< to be accepted, the oldest first
    struct sp_dgram_peer *waiting_last;
    struct sp_dgram_pipe *pipe;     ///< a dialer's
    int64_t due;                    ///< ns; when its timer has something to do besides
    int wanted;                     ///< atomic: what other actors want of this one
    uint32_t rx_slots;              ///< how many datagrams the next call asks for
    sp_msg **rx_large;              ///< buffers for large ones
    int64_t group_interval;         ///< option, of transports with groups
    struct sp_dgram_meeting *group; ///< NULL: none
    int tries;                      ///< of a dialer that found no room
};

/// The kit's part of a pipe's state. What one actor writes stands apart from what the other does.
struct sp_dgram_pipe {
    const sp_host *host; ///< NULL: not open
    sp_pipe_ref *ref;
    struct sp_dgram_ep *ep;
    struct sp_dgram_peer *peer; ///< a listener's record of it; NULL: a dialer's
    int fd;                     ///< its own; -1: the listener's
    int far;                    ///< the other one of a pair, until it is sent; -1: none
    bool dialed;
    struct sp_dgram_who who; ///< the other end's
    uint8_t features; ///< that both ends have; set by the handshake, as the rest up to `error`
    uint16_t type;    ///< ours, on the wire
    uint16_t peer_type;
    uint32_t recv_max;
    uint32_t send_max;
    uint32_t pack_max;      ///< bytes of a pack
    uint64_t file_recv_max; ///< of a wrapped message; 0: any
    uint64_t file_send_max; ///< 0: none is taken
    uint64_t token;
    unsigned char uuid[16];      ///< this connection's, of a dialer
    unsigned char peer_uuid[16]; ///< the other end's
    uint64_t cookie;             ///< atomic
    int64_t since;               ///< ns
    int64_t asked;               ///< atomic; ns of the last CREQ
    int64_t heard;               ///< atomic; ns of the last datagram
    uint32_t expire_ms;          ///< atomic; silence after which the peer is gone
    uint32_t refresh_ms;         ///< atomic
    int state;                   ///< atomic; enum in dgram_parts.h
    int error;                   ///< atomic; why it ends; 0: it does not
    int reason;                  ///< atomic; of the DISC that the peer is sent; -1: none
    int holding;                 ///< atomic; bool: messages wait for one that is missing
    int blocked;                 ///< atomic; bool: output waits for the shared fd
    bool touched;                ///< the listener's actor: has something new

    // Received; the listener's actor puts in, the pipe's input takes out.
    pthread_mutex_t lock;
    sp_batch queue;
    size_t queue_bytes;

    // Input.
    sp_batch ready;     ///< in order, to be harvested
    sp_batch held;      ///< behind a gap, by number
    int64_t held_since; ///< ns
    uint32_t rx_next;   ///< number of the next message
    uint64_t seen[4];   ///< a bit for each of the 256 numbers before it: it has come
    uint32_t rx_slots;
    sp_msg **rx_large;

    // Output.
    uint32_t tx_next;
};

/// [control] The first thing in ep_init, before the transport fills in `local` or `remote`.
int sp_dgram_init(struct sp_dgram_ep *ep, const sp_host *host, sp_ep_ref *ref,
                  const struct sp_dgram_kind *kind, sp_cause *cause);

/// Slots as they stand; classes as in sp_transport_ops. sp_dgram_ep_fini may be called from the
/// transport's own.
int sp_dgram_listen(void *ep, sp_bound *bound, sp_cause *cause);
int sp_dgram_accept(void *ep, void *pipe, sp_pipe_ref *ref, sp_cause *cause);
int sp_dgram_dial(void *ep, void *pipe, sp_pipe_ref *ref, sp_cause *cause);
void sp_dgram_ep_close(void *ep);
void sp_dgram_ep_fini(void *ep);
void sp_dgram_on_timer(void *ep, void *cookie);
void sp_dgram_on_ready(void *ep, unsigned ready);
int sp_dgram_handshake(void *pipe, unsigned ready, sp_handshake *hs);
int sp_dgram_harvest(void *pipe, sp_batch *in, size_t max, unsigned ready);
int sp_dgram_submit(void *pipe, sp_batch *out);
void sp_dgram_pipe_close(void *pipe);
void sp_dgram_pipe_fini(void *pipe);

/// All of them but ep_init, for a transport's table.
#define SP_DGRAM_SLOTS                                                                             \
    .listen = sp_dgram_listen, .accept = sp_dgram_accept, .dial = sp_dgram_dial,                   \
    .ep_close = sp_dgram_ep_close, .ep_fini = sp_dgram_ep_fini, .on_timer = sp_dgram_on_timer,     \
    .handshake = sp_dgram_handshake, .harvest = sp_dgram_harvest, .submit = sp_dgram_submit,       \
    .pipe_close = sp_dgram_pipe_close, .pipe_fini = sp_dgram_pipe_fini,                            \
    .on_ready = sp_dgram_on_ready

/// The kit's options, to stand among the transport's own (its state begins with struct
/// sp_dgram_ep).
#define SP_DGRAM_OPTION(name, type, field, def, min, max, unit, doc)                               \
    {                                                                                              \
        name, type, 0, offsetof(struct sp_dgram_ep, field), def, min, max, unit, doc               \
    }
#define SP_DGRAM_OPTIONS                                                                           \
    SP_DGRAM_OPTION("conn-retry", SP_OPTION_INT, conn_retry, 200, 1, INT32_MAX, "ms",              \
                    "time between two requests to connect"),                                       \
        SP_DGRAM_OPTION("conn-expire", SP_OPTION_INT, conn_expire, 5000, 1, INT32_MAX, "ms",       \
                        "after which an attempt to connect is given up"),                          \
        SP_DGRAM_OPTION("refresh", SP_OPTION_INT, refresh, 5000, 1, 65535000, "ms",                \
                        "time between two signs of life; a peer silent for five is gone"),         \
        SP_DGRAM_OPTION("max-peers", SP_OPTION_INT, max_peers, 1024, 1, 65535, "",                 \
                        "peers of a listener; plain ones have a quarter"),                         \
        SP_DGRAM_OPTION("packing", SP_OPTION_BOOL, packing, 1, 0, 1, "",                           \
                        "put several messages into one datagram, to peers that can take it"),      \
        SP_DGRAM_OPTION("order-window", SP_OPTION_INT, order_window, 64, 0, 8192, "messages",      \
                        "messages held to restore order; 0: late ones are dropped")

/// Those of a transport with groups, beside its own "group".
#define SP_DGRAM_GROUP_OPTIONS                                                                     \
    SP_DGRAM_OPTION("group-interval", SP_OPTION_INT, group_interval, 1000, 20, 60000, "ms",        \
                    "time between two announcements to the group")

/// The kit's counters; see struct sp_dgram_counts.
#define SP_DGRAM_COUNTER(field, doc)                                                               \
    {                                                                                              \
#field, offsetof(struct sp_dgram_ep, counts.field), doc                                    \
    }
#define SP_DGRAM_COUNTERS                                                                          \
    SP_DGRAM_COUNTER(rx_datagrams, "datagrams received"),                                          \
        SP_DGRAM_COUNTER(tx_datagrams, "datagrams sent"),                                          \
        SP_DGRAM_COUNTER(rx_packed, "messages received in a datagram with others"),                \
        SP_DGRAM_COUNTER(tx_packed, "messages sent in a datagram with others"),                    \
        SP_DGRAM_COUNTER(malformed, "datagrams that are no valid ones"),                           \
        SP_DGRAM_COUNTER(toobig, "messages larger than a datagram or than the receiver takes"),    \
        SP_DGRAM_COUNTER(nomatch, "datagrams of nobody that is known"),                            \
        SP_DGRAM_COUNTER(nobuf, "messages dropped because the receiver did not keep up"),          \
        SP_DGRAM_COUNTER(inactive, "peers that were silent for too long"),                         \
        SP_DGRAM_COUNTER(gaps, "messages that did not arrive in time"),                            \
        SP_DGRAM_COUNTER(duplicates, "messages that arrived twice"),                               \
        SP_DGRAM_COUNTER(reordered, "messages that came behind later ones and were put in order"), \
        SP_DGRAM_COUNTER(late, "messages that came too late, counted as gaps before"),             \
        SP_DGRAM_COUNTER(challenged, "strangers that were sent a cookie"),                         \
        SP_DGRAM_COUNTER(turned_away, "requests to connect that were refused"),                    \
        SP_DGRAM_COUNTER(evicted, "plain peers that made place for another"),                      \
        SP_DGRAM_COUNTER(unsent, "datagrams that the system did not send")

/// Those of a transport with groups.
#define SP_DGRAM_GROUP_COUNTERS                                                                    \
    SP_DGRAM_COUNTER(group_members, "members of the group that are known now, without this one"),  \
        SP_DGRAM_COUNTER(group_rx, "announcements received"),                                      \
        SP_DGRAM_COUNTER(group_tx, "announcements sent"),                                          \
        SP_DGRAM_COUNTER(group_refused, "announcements that are no valid ones, or one too many")

#ifdef __cplusplus
}
#endif

#endif
