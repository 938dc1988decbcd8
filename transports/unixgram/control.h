/* SPDX-License-Identifier: MIT */
/// What comes beside a datagram over AF_UNIX: who sent it, and descriptors. [io]
#ifndef SP_UNIXGRAM_CONTROL_H
#define SP_UNIXGRAM_CONTROL_H

#include <stdbool.h>
#include <sys/socket.h>

/// Bytes of a buffer for control messages: credentials, and 20 descriptors. What does not fit the
/// system does not hand over.
#define UGRAM_CONTROL 128U

struct ugram_control {
    bool known; ///< `who` is the sender; only from a socket with SO_PASSCRED
    struct ucred who;
    int fd;       ///< the one descriptor that came, the caller's from now on; -1: none, or several
    unsigned fds; ///< how many came
};

/// Takes all of it out of `h`, as recvmsg left it. Of several descriptors none is kept: whatever a
/// stranger sends, nothing stays open that is not in `c->fd`.
void ugram_control_take(struct msghdr *h, struct ugram_control *c);

/// Makes `h` send `fd` along. `buf`: UGRAM_CONTROL bytes, aligned as struct cmsghdr is, that stay
/// until it is sent.
void ugram_control_put(struct msghdr *h, void *buf, int fd);

#endif
