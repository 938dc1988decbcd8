/* SPDX-License-Identifier: MIT */
/// Routing part for protocols whose answers go back the way the questions came: the backtrace.
/// [actor]
///
/// A question has words of 32 bits, big-endian, in front of its body: ids of the pipes that it
/// passed at devices (bit 31 clear), then its own id (bit 31 set). An answer carries them back
/// unchanged (sp-request-reply-01, sp-surveyor-01).
#ifndef SP_SDK_BACKTRACE_H
#define SP_SDK_BACKTRACE_H

#include <sp/sdk/idmap.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The largest value of "ttl-max": with a pipe's id in front the words fill a header.
#define SP_BACKTRACE_MAX 15

/// Moves the backtrace of a received message from in front of its body to the end of its header,
/// of at most `ttl` words, the id counted. False: the message is dropped, counted
/// (SP_DISCARD_TTL), or, when it ends before its id does, (SP_DISCARD_MALFORMED) and the pipe is
/// closed.
static inline bool sp_backtrace_take(const sp_host *host, sp_sock_ref *sock, sp_pipe_ref *pipe,
                                     sp_msg *m, int64_t ttl)
{
    uint32_t word = 0;

    for (int64_t hops = 1; (word & SP_ID_BIT) == 0; hops++) {
        if (hops > ttl) {
            host->discard_in(sock, m, SP_DISCARD_TTL);
            return false;
        }
        if (sp_msg_take_u32(m, &word) != SP_OK) {
            host->discard_in(sock, m, SP_DISCARD_MALFORMED);
            host->pipe_close(pipe, SP_EPROTO);
            return false;
        }
        (void)sp_msg_header_put_u32(m, word); // Fits: see SP_BACKTRACE_MAX.
    }
    return true;
}

/// The on_recv of a raw asker: hands on answers with their backtrace, of which devices take words
/// off. What does not fit stays in `in`.
static inline void sp_backtrace_deliver(const sp_host *host, sp_sock_ref *sock, sp_ctx_ref *ctx,
                                        sp_pipe_ref *pipe, sp_batch *in)
{
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        // With a header it was offered before.
        if (m->header_len == 0 && !sp_backtrace_take(host, sock, pipe, m, SP_BACKTRACE_MAX + 1)) {
            continue;
        }
        if (host->deliver(ctx, m) != SP_OK) {
            sp_batch_unpop(in, m);
            return;
        }
    }
}

#ifdef __cplusplus
}
#endif

#endif
