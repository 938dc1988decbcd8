/* SPDX-License-Identifier: MIT */
/// A bare UDP socket as the peer of a transport: bytes out and in, with a deadline. Failures fail
/// the test.
#ifndef SP_TESTS_RAWDGRAM_H
#define SP_TESTS_RAWDGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// A socket on the loopback; its port is left in `port`.
int raw_open(uint16_t *port);
/// Sends to that port of the loopback, and takes only what comes from there.
void raw_connect(int fd, uint16_t port);
void raw_send(int fd, const void *bytes, size_t n);
/// The next datagram; its length.
size_t raw_recv(int fd, unsigned char *bytes, size_t cap);
/// Whether nothing waits to be read.
bool raw_silent(int fd);

#endif
