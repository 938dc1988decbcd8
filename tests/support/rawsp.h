/* SPDX-License-Identifier: MIT */
/// A peer made of a plain TCP socket that speaks the SP framing byte by byte, so that tests do not
/// measure an implementation against itself. Every call ends with its deadline. Main thread of a
/// test.
#ifndef SP_TEST_RAWSP_H
#define SP_TEST_RAWSP_H

#include <stddef.h>
#include <stdint.h>

#define RAWSP_PAIR 0x10
#define RAWSP_PAIR1 0x11
#define RAWSP_REQ 0x30
#define RAWSP_REP 0x31
#define RAWSP_PUSH 0x50
#define RAWSP_PULL 0x51
#define RAWSP_SURVEYOR 0x62
#define RAWSP_RESPONDENT 0x63
#define RAWSP_BUS 0x70

/// Listens at a free port of 127.0.0.1. The descriptor, or -1.
int rawsp_listen(int *port);

/// The same, where the system keeps at most so many bytes that nobody read for a connection:
/// `*bytes` are asked for, and on return what it gave.
int rawsp_listen_narrow(int *port, int *bytes);

/// Accepts a connection and exchanges hellos as protocol `own`; `*peer` (may be NULL) is what the
/// other side is. The descriptor, or -1: nobody came within `ms`, or it was no SP peer.
int rawsp_accept(int listener, uint16_t own, uint16_t *peer, int ms);

/// Sends one message: header and body together. 0 or -1.
int rawsp_send(int fd, const void *header, size_t header_len, const void *body, size_t len);

/// Receives one message into `buf`. Its length; -1: end of the connection, or nothing within `ms`.
long rawsp_recv(int fd, void *buf, size_t cap, int ms);

#endif
