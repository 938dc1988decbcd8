/* SPDX-License-Identifier: MIT */
/// Large messages in memory files: a message travels as the descriptor of a file that holds it,
/// sealed, so that neither end can change it any more. [io]
#ifndef SP_UNIXGRAM_MEMFD_H
#define SP_UNIXGRAM_MEMFD_H

#include <sp/plugin.h>

/// A sealed memory file with the header and the body of `m`: an fd, or negative.
int ugram_memfd_make(const sp_msg *m);

/// The message in a file that a peer sent. It is read once, and never mapped: a page of a mapping
/// may be one that the peer lets us wait for. What it must be:
///   - sealed against shrinking, growing and writing (SP_EPROTO): only memory files can be, so a
///     read does not wait, and the size that was looked at stays;
///   - of at most `max` bytes, 0: any (SP_EMSGSIZE), looked at before anything is allocated;
///   - without holes (SP_EPROTO): the peer has paid with as much memory as it makes us take.
/// The fd stays the caller's.
int ugram_memfd_read(const sp_host *host, int fd, uint64_t max, sp_msg **m);

#endif
