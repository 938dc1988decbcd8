/* SPDX-License-Identifier: MIT */
/// A host's process that does with one socket what the test tells it, a line at a time; so that
/// what several hosts do stands in one place and in its order. A failed call ends the test with
/// what the host said. Main thread of a test.
#ifndef SP_TEST_AGENT_H
#define SP_TEST_AGENT_H

#include "netns.h"

/// Starts the library and opens a socket of the protocol on a host.
void agent_open(const struct netns *n, size_t host, struct netns_proc *p, const char *protocol);

/// An option of the socket; or, with "ep:" in front of its name, of the endpoints that are made
/// from now on. Numbers and texts.
void agent_set(struct netns_proc *p, const char *name, const char *value);
void agent_listen(struct netns_proc *p, const char *url);
/// In the background: it comes about when it can.
void agent_dial(struct netns_proc *p, const char *url);

/// Sends a message of `len` bytes (8 and more) that has the number, and bytes that follow from it.
void agent_send(struct netns_proc *p, size_t len, unsigned number);
/// The same until the socket has taken it and `by` has received it: what goes out before the
/// network is ready again may be lost.
void agent_send_until(struct netns_proc *p, size_t len, unsigned number, struct netns_proc *by);
/// Receives one, which must be so.
void agent_recv(struct netns_proc *p, size_t len, unsigned number);
/// Receives one of any number, which is returned; -1: none within `ms`.
int agent_recv_any(struct netns_proc *p, int ms);
/// A REQ asks, a REP (`q`) receives it and answers.
void agent_exchange(struct netns_proc *p, struct netns_proc *q, size_t len, unsigned number);

/// A number of the socket's statistics; waits until it has a value, or until it is at least so.
long long agent_stat(struct netns_proc *p, const char *path);
void agent_stat_is(struct netns_proc *p, const char *path, long long want);
void agent_stat_least(struct netns_proc *p, const char *path, long long least);
#define agent_pipes(p, n) agent_stat_is((p), "pipes", (n))

/// Closes the socket, ends the library and the process; nothing may be left.
void agent_end(struct netns_proc *p);
/// The same for those of `n` that are there; or ends these as a crash would.
void agent_end_all(struct netns_proc *p, size_t n);
void agent_kill_all(struct netns_proc *p, size_t n);

#endif
