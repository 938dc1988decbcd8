/* SPDX-License-Identifier: MIT */
/// PUSH: each message goes to one peer, the one that has least before it (sp/sdk/balance.h). What a
/// lost peer had not been written goes to another one. There is no header, so that raw mode is the
/// same. [actor]
#include "pipeline.h"

#include <sp/sdk/balance.h>

struct push {
    const sp_host *host;
    struct sp_balance peers;
};

static int push_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    (void)sock;
    ((struct push *)self)->host = host;
    return SP_OK;
}

static int push_pipe_add(void *self, sp_pipe_ref *pipe)
{
    sp_balance_add(&((struct push *)self)->peers, pipe);
    return SP_OK;
}

static void push_pipe_del(void *self, sp_pipe_ref *pipe)
{
    sp_balance_del(&((struct push *)self)->peers, pipe);
}

/// Apart from the way with one peer, which has as little to do as PAIR.
static __attribute__((noinline)) void push_spread(struct push *push, sp_batch *out)
{
    for (sp_msg *m; (m = sp_batch_pop(out)) != NULL;) {
        sp_pipe_ref *pipe = sp_balance_choose(&push->peers, push->host);

        if (pipe == NULL || push->host->pipe_send(pipe, m) != SP_OK) {
            sp_batch_unpop(out, m);
            return;
        }
    }
}

/// What finds no room stays with the core.
static void push_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    struct push *push = self;
    sp_pipe_ref *only = sp_balance_only(&push->peers);

    (void)ctx;
    if (only == NULL) {
        push_spread(push, out);
        return;
    }
    for (sp_msg *m; (m = sp_batch_pop(out)) != NULL;) {
        if (push->host->pipe_send(only, m) != SP_OK) {
            sp_batch_unpop(out, m);
            return;
        }
    }
}

static void push_on_writable(void *self, sp_pipe_ref *pipe)
{
    sp_balance_ready(&((struct push *)self)->peers, pipe);
}

static const sp_id_pair push_ids[] = {{PUSH_ID, PULL_ID}};

/// Without on_recv: a peer that sends is closed.
#define PUSH_OPS                                                                                   \
    .size = sizeof(sp_protocol_ops), .ids = push_ids, .id_count = 1,                               \
    .flags = SP_PROTO_NO_RECV | SP_PROTO_REQUEUE, .window = SP_WINDOW_PIPES,                       \
    .sock_size = sizeof(struct push), .pipe_size = sizeof(struct sp_balance_peer),                 \
    .init = push_init, .pipe_add = push_pipe_add, .pipe_del = push_pipe_del,                       \
    .on_send = push_on_send, .on_writable = push_on_writable

static const sp_protocol_ops push_raw_ops = {PUSH_OPS};
const sp_protocol_ops push_ops = {PUSH_OPS, .raw = &push_raw_ops};
