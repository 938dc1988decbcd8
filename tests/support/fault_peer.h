/* SPDX-License-Identifier: MIT */
/// Hand-made peers over plain sockets of either stream transport, to send what no implementation
/// would: single bytes, false lengths, half messages. Every wait has a deadline. [any]
#ifndef SP_TEST_FAULT_PEER_H
#define SP_TEST_FAULT_PEER_H

#include "rawsp.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fault_peer {
    int fd;      ///< -1: closed
    bool marked; ///< a byte 1 stands in front of each length (ipc)
};

/// Connects to tcp://ADDRESS:PORT or ipc://PATH, without a hello.
bool fault_peer_connect(struct fault_peer *p, const char *url);

/// Exchanges hellos as protocol `own`. False: the other side closed, or said nothing for long.
bool fault_peer_hello(struct fault_peer *p, uint16_t own);

/// Both.
bool fault_peer_join(struct fault_peer *p, const char *url, uint16_t own);

/// Listens at a URL (the descriptor, or -1), and takes a connection within `ms`.
int fault_peer_listen(const char *url);
bool fault_peer_accept(struct fault_peer *p, int listener, const char *url, int ms);

/// Bytes as they are; a framing that declares `len`; a whole message.
bool fault_peer_put(struct fault_peer *p, const void *bytes, size_t n);
bool fault_peer_frame(struct fault_peer *p, uint64_t len);
bool fault_peer_send(struct fault_peer *p, const void *body, size_t n);
/// A message of words, big-endian, and then a text.
bool fault_peer_words(struct fault_peer *p, const uint32_t *words, size_t n, const char *text);

/// A message. Its length; -1: the end, or nothing within `ms`.
long fault_peer_recv(struct fault_peer *p, void *buf, size_t cap, int ms);

/// Whether the other side closes within `ms`; what it sends until then is thrown away.
bool fault_peer_ended(struct fault_peer *p, int ms);
/// Whether the other side has closed now.
bool fault_peer_is_open(struct fault_peer *p);

/// Closes; resets the connection where the transport can.
void fault_peer_close(struct fault_peer *p);
void fault_peer_reset(struct fault_peer *p);

#endif
