/* SPDX-License-Identifier: MIT */
/// What both versions of PAIR share. [actor]
#ifndef SP_PLUGIN_PAIR_H
#define SP_PLUGIN_PAIR_H

#include <sp/sdk/ring.h>

#define PAIR0_ID 0x10
#define PAIR1_ID 0x11

struct pair {
    const sp_host *host;
    sp_sock_ref *sock;
    sp_ctx_ref *ctx;
    sp_pipe_ref *peer;    ///< NULL: none
    struct sp_ring peers; ///< version 1 with many peers, the oldest first; then `peer` is not used
    int64_t ttl_max;      ///< hops
    int64_t polyamorous;  ///< option: many peers
};

int pair_init(void *self, const sp_host *host, sp_sock_ref *sock);
int pair_ctx_open(void *self, sp_ctx_ref *ctx);
/// One peer: a second one is refused.
int pair_pipe_add(void *self, sp_pipe_ref *pipe);
void pair_pipe_del(void *self, sp_pipe_ref *pipe);
/// Sends all as it is. What the peer's queue does not take stays with the core.
void pair_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out);

/// What the operations of all versions and modes begin with.
#define PAIR_COMMON                                                                                \
    .size = sizeof(sp_protocol_ops), .id_count = 1, .window = SP_WINDOW_PIPES,                     \
    .sock_size = sizeof(struct pair), .option_size = sizeof(sp_option), .init = pair_init,         \
    .ctx_open = pair_ctx_open

extern const sp_protocol_ops pair1_ops;

#endif
