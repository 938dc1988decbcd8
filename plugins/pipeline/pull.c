/* SPDX-License-Identifier: MIT */
/// PULL: receives what any peer sends. A peer whose messages find no room is not read from until
/// there is some, so that work which was not begun stays with who distributes it. There is no
/// header, so that raw mode is the same. [actor]
#include "pipeline.h"

struct pull {
    const sp_host *host;
    sp_ctx_ref *ctx;
};

static int pull_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    (void)sock;
    ((struct pull *)self)->host = host;
    return SP_OK;
}

static int pull_ctx_open(void *self, sp_ctx_ref *ctx)
{
    ((struct pull *)self)->ctx = ctx;
    return SP_OK;
}

static void pull_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    struct pull *pull = self;

    (void)pipe;
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        if (pull->host->deliver(pull->ctx, m) != SP_OK) {
            sp_batch_unpop(in, m);
            return;
        }
    }
}

static const sp_id_pair pull_ids[] = {{PULL_ID, PUSH_ID}};

#define PULL_OPS                                                                                   \
    .size = sizeof(sp_protocol_ops), .ids = pull_ids, .id_count = 1, .flags = SP_PROTO_NO_SEND,    \
    .window = SP_WINDOW_PIPES, .sock_size = sizeof(struct pull), .init = pull_init,                \
    .ctx_open = pull_ctx_open, .on_recv = pull_on_recv

static const sp_protocol_ops pull_raw_ops = {PULL_OPS};
const sp_protocol_ops pull_ops = {PULL_OPS, .raw = &pull_raw_ops};
