/* SPDX-License-Identifier: MIT */
/// The stream kit: what every transport over a byte stream shares. It exchanges the hellos, takes
/// many messages out of one read, gathers many into one write, and keeps what is there in part. A
/// transport puts a struct sp_stream at the beginning of its pipe state and calls sp_stream_open
/// from its accept and dial; four slots of its table are then functions below, as they stand, and
/// its handshake calls a fifth.
///
/// On the wire (RFC drafts sp-tcp-mapping-01 and sp-ipc-mapping-01): from each side 8 bytes,
/// `00 53 50 00 | type u16 | 00 00`; then each message as `u64 length | bytes`, for
/// SP_STREAM_MARKED with a byte 1 in front of the length.
///
/// Memory: an idle stream holds its struct and nothing else. A message that is on its way holds
/// what has arrived of it, at most twice that much, or 64 KiB (for a peer that just sent a larger
/// one whole: as much as that one, up to 1 MiB). Messages of 4 to 16 KiB that came in one read
/// share the 64 KiB of it.
#ifndef SP_SDK_STREAM_H
#define SP_SDK_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <sp/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sp_stream;

/// How a stream reads and writes, for streams that are not a plain socket (TLS). Both return bytes
/// or a negative code; SP_EAGAIN: not now; recv returns 0 at the end of the stream. They do not
/// block.
struct sp_stream_io {
    ssize_t (*recv)(struct sp_stream *s, struct iovec *iov, int n);
    ssize_t (*send)(struct sp_stream *s, struct iovec *iov, int n);
    bool exact; ///< a read of less than was asked for has emptied the source, as it is with sockets
};

/// The framing: what stands in front of each message. The value is how many bytes that is.
enum sp_stream_framing {
    SP_STREAM_PLAIN = 8, ///< u64 length (tcp, tls)
    SP_STREAM_MARKED = 9 ///< 01, u64 length (ipc)
};

/// Flags of sp_stream_open.
#define SP_STREAM_DIALED 1U ///< connect may still be under way

/// One stream. Its memory is the pipe state's: zeroed by the core before sp_stream_open.
///
/// Reading and writing go on at the same time on different threads. What either writes stands at
/// its end, what neither writes in between.
struct sp_stream {
    // receive side
    sp_msg *body; ///< the message that is on its way, with the bytes that are here
    sp_msg *rest; ///< bytes read but not taken apart yet, since harvest's limit was reached
    unsigned char head[9];
    uint8_t head_len;  ///< bytes of the framing (or the peer's hello) that are here
    uint8_t direct;    ///< bool: large messages come, read them into place
    uint8_t share;     ///< bool: or messages that are long enough to stay where they are read
    uint8_t hup;       ///< bool: the end of the stream is near, so read until it is there
    uint8_t failed;    ///< bool: the pipe ended with an error
    uint64_t body_len; ///< what `body` shall have
    size_t body_cap;   ///< what there is room for
    uint32_t trust;    ///< bytes to reserve at once for a large message
    int rx_limit; ///< bytes of the receive buffer that large messages get; 0: the system decides
    // both sides
    sp_pipe_ref *ref;
    uint64_t recv_max;   ///< 0: any
    const sp_host *host; ///< set last by open (release), then constant; NULL: not open
    const struct sp_stream_io *io;
    int fd;          ///< stays open until fini
    uint8_t framing; ///< bytes in front of a message
    uint8_t dialed;  ///< bool
    int closed; ///< atomic: set by close on any thread, read by the others; orders nothing else
    // send side
    int tx_limit;  ///< bytes of the send buffer that large messages get; 0: the system decides
    size_t tx_off; ///< bytes of the front message that are written; before: of the hello
};

/// [io] Takes over `fd`, a non-blocking stream socket, connected or (SP_STREAM_DIALED) about to be,
/// and watches it. `io`: NULL for a plain socket. On failure the fd is closed.
int sp_stream_open(struct sp_stream *s, const sp_host *host, sp_pipe_ref *ref, int fd,
                   enum sp_stream_framing framing, unsigned flags, const struct sp_stream_io *io);

/// [io] The first part of the handshake slot; the transport adds the addresses. Checks that the
/// connection is made (cause "connect" if it is not), sends the hello, receives and verifies the
/// peer's; a listener with several pairs of numbers receives first. Keeps hs->recv_max; sets
/// hs->peer, also when the peer is of the wrong type; credentials become -1.
int sp_stream_handshake(struct sp_stream *s, sp_handshake *hs);

/// [io, in the handshake] As soon as large messages go over this connection, the system's buffers
/// for it have `bytes` (it takes that twice) instead of what it lets them grow to: for a connection
/// within one machine, where they hide no latency, and megabytes are out of the cache when they are
/// read.
void sp_stream_limit(struct sp_stream *s, int bytes);

/// These four are slots as they stand, classes as in sp_transport_ops: `pipe` begins with its
/// struct sp_stream.
int sp_stream_harvest(void *pipe, sp_batch *in, size_t max, unsigned ready);
int sp_stream_submit(void *pipe, sp_batch *out);
void sp_stream_close(void *pipe);
void sp_stream_fini(void *pipe); ///< idempotent

/// [io] Takes a waiting connection off a listening socket: a non-blocking fd, SP_EAGAIN if none
/// waits, another negative code if the system has no room for one (-EMFILE …). Connections that
/// died while they waited are passed over.
int sp_stream_accept(int listener);

/// [control] For "listen-fd": a duplicate of `fd`, non-blocking, if it is a listening stream socket
/// of the family `domain` (AF_INET stands for AF_INET6 too). The caller's own fd stays the
/// caller's.
int sp_stream_adopt(int64_t fd, int domain, sp_cause *cause);

#ifdef __cplusplus
}
#endif

#endif
