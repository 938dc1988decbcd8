/* SPDX-License-Identifier: MIT */
/// The floor of datagrams: two sockets connected to each other, AF_UNIX, UDP or raw IP with
/// protocol 253 on loopback. --batch 1: a system call for each datagram; more: sendmmsg and
/// recvmmsg of so many.
#ifndef SP_BENCH_RAW_DGRAM_H
#define SP_BENCH_RAW_DGRAM_H

#include "common.h"

struct raw_dgram;

/// As in struct bench_lib. The server connects back to the first one that sends.
struct raw_dgram *raw_dgram_open(const struct bench_args *a, bool server, const char *url);
unsigned raw_dgram_send(struct raw_dgram *d, uint64_t seq);
unsigned raw_dgram_recv(struct raw_dgram *d, uint64_t seq);

#endif
