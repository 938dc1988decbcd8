/* SPDX-License-Identifier: MIT */
/// Full-size copies of a plugin's tables. A slot that the plugin leaves out gets a stub, so that
/// nobody tests for it later. The copies live as long as the process. [any]
#include "plugin_check.h"

#include "platform.h"
#include "socket.h"

#include <string.h>

/* ------------------------------------------------------------------ Stubs */

static int stub_init(void *self, const sp_host *host, sp_sock_ref *sock)
{
    (void)self;
    (void)host;
    (void)sock;
    return SP_OK;
}

static int stub_ctx_open(void *self, sp_ctx_ref *ctx)
{
    (void)self;
    (void)ctx;
    return SP_OK;
}

static void stub_ctx_close(void *self, sp_ctx_ref *ctx)
{
    (void)self;
    (void)ctx;
}

static int stub_pipe_add(void *self, sp_pipe_ref *pipe)
{
    (void)self;
    (void)pipe;
    return SP_OK;
}

static void stub_pipe(void *self, sp_pipe_ref *pipe)
{
    (void)self;
    (void)pipe;
}

/// Takes nothing: the core refuses the calls that would come here (SP_PROTO_NO_SEND,
/// SP_PROTO_NO_RECV).
static void stub_on_send(void *self, sp_ctx_ref *ctx, sp_batch *out)
{
    (void)self;
    (void)ctx;
    (void)out;
}

static void stub_on_recv(void *self, sp_pipe_ref *pipe, sp_batch *in)
{
    (void)self;
    (void)pipe;
    (void)in;
}

static void stub_on_timer(void *self, void *cookie)
{
    (void)self;
    (void)cookie;
}

static int stub_on_option(void *self, sp_ctx_ref *ctx, const char *name, const void *p, size_t n)
{
    (void)self;
    (void)ctx;
    (void)name;
    (void)p;
    (void)n;
    return SP_ENOTSUP;
}

static void stub_self(void *self)
{
    (void)self;
}

/* ------------------------------------------------------------------ Copies */

static int copy_options(const sp_option **options, size_t count, size_t *size)
{
    const sp_option *from = *options;
    sp_option *to;

    if (count == 0) {
        *options = NULL;
        *size = sizeof(sp_option);
        return SP_OK;
    }
    to = sp__zalloc(count * sizeof(*to));
    if (to == NULL) {
        *options = NULL; // the plugin's own, which are not to be freed
        return SP_ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(&to[i], sp__option_at(from, *size, i), *size < sizeof(*to) ? *size : sizeof(*to));
        if (to[i].type == SP_OPTION_BOOL) {
            to[i].min = 0;
            to[i].max = 1;
        }
    }
    *options = to;
    *size = sizeof(*to);
    return SP_OK;
}

int sp__copy_protocol(sp_protocol_ops *to, const sp_protocol_ops *from)
{
    memset(to, 0, sizeof(*to));
    memcpy(to, from, from->size < sizeof(*to) ? from->size : sizeof(*to));
    to->size = sizeof(*to);
    to->flags &= ~SP__PROTO_MUTE;
    if ((to->flags & SP_PROTO_NO_RECV) != 0 && to->on_recv == NULL) {
        to->flags |= SP__PROTO_MUTE;
    }
    to->init = to->init != NULL ? to->init : stub_init;
    to->ctx_open = to->ctx_open != NULL ? to->ctx_open : stub_ctx_open;
    to->ctx_close = to->ctx_close != NULL ? to->ctx_close : stub_ctx_close;
    to->pipe_add = to->pipe_add != NULL ? to->pipe_add : stub_pipe_add;
    to->pipe_del = to->pipe_del != NULL ? to->pipe_del : stub_pipe;
    to->on_send = to->on_send != NULL ? to->on_send : stub_on_send;
    to->on_recv = to->on_recv != NULL ? to->on_recv : stub_on_recv;
    to->on_writable = to->on_writable != NULL ? to->on_writable : stub_pipe;
    to->on_timer = to->on_timer != NULL ? to->on_timer : stub_on_timer;
    to->on_option = to->on_option != NULL ? to->on_option : stub_on_option;
    to->stop = to->stop != NULL ? to->stop : stub_self;
    to->fini = to->fini != NULL ? to->fini : stub_self;
    return copy_options(&to->options, to->option_count, &to->option_size);
}

int sp__copy_transport(sp_transport_ops *to, const sp_transport_ops *from)
{
    memset(to, 0, sizeof(*to));
    memcpy(to, from, from->size < sizeof(*to) ? from->size : sizeof(*to));
    to->size = sizeof(*to);
    to->ep_fini = to->ep_fini != NULL ? to->ep_fini : stub_self;
    to->on_timer = to->on_timer != NULL ? to->on_timer : stub_on_timer;
    to->counter_count = SP__HAS(from, sp_transport_ops, counter_size) ? to->counter_count : 0;
    return copy_options(&to->options, to->option_count, &to->option_size);
}

void sp__copy_free(const sp_option *options)
{
    sp__free((void *)(uintptr_t)options);
}
