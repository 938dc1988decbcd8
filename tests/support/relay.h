/* SPDX-License-Identifier: MIT */
/// Devices in tests: two raw sockets and the operation that forwards between them. Main thread of a
/// test; failures are cmocka's.
#ifndef SP_TEST_RELAY_H
#define SP_TEST_RELAY_H

#include "check.h"

#include <stddef.h>

struct relay {
    sp_socket a;
    sp_socket b;
    sp_op *op;
    char front[256]; ///< where `a` listens
    char back[256];  ///< where `b` listens
};

/// A raw socket, with the options of check_open.
sp_socket relay_raw(const char *protocol);

/// A device whose front listens; its back dials `to`, or listens when that is NULL.
void relay_open(struct relay *r, const char *front, const char *back, const char *transport,
                const char *to);
/// Ends the device, which is still running, and closes its sockets; all that it forwarded is
/// accounted for.
void relay_close(struct relay *r);

/// `n` devices in a row: each back dials the next front, the last one `to`. A client dials
/// `r[0].front`.
void relay_chain(struct relay *r, size_t n, const char *front, const char *back,
                 const char *transport, const char *to);
void relay_chain_close(struct relay *r, size_t n);

#endif
