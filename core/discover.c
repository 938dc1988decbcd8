/* SPDX-License-Identifier: MIT */
/// Dialers of a socket's own, for what the transport of one of its listeners found. In the socket's
/// actor.
#include "registry.h"
#include "socket.h"

#include <pthread.h>
#include <string.h>

/// The numbers among the options, from one endpoint to another; the transport's own, too, where it
/// is the same.
static void ep_copy_options(struct sp__ep *to, const struct sp__ep *from)
{
    const sp_transport_ops *ops = &to->transport->ops;
    const int64_t *opt = &from->opt.recv_size_max;

    for (size_t i = 0; i < sizeof(to->opt) / sizeof(int64_t); i++) {
        (&to->opt.recv_size_max)[i] = sp__option(&opt[i]);
    }
    for (size_t i = 0; to->transport == from->transport && i < ops->option_count; i++) {
        const sp_option *o = (const sp_option *)(const void *)((const char *)ops->options +
                                                               i * ops->option_size);
        const void *at = (const char *)from->ref.state + o->offset;

        if (o->type == SP_OPTION_INT || o->type == SP_OPTION_BOOL) {
            int64_t v = sp_option_load(at);

            memcpy((char *)to->ref.state + o->offset, &v, sizeof(v));
        }
    }
}

/// Only this actor takes endpoints out of the list: what is found stays.
static struct sp__ep *ep_find(struct sp__sock *s, uint64_t id)
{
    struct sp__ep *ep;

    (void)pthread_mutex_lock(&s->lock);
    ep = s->eps;
    while (ep != NULL && ep->obj.id != id) {
        ep = ep->next;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return ep;
}

int sp__ep_dial_for(struct sp__ep *by, const char *url, uint64_t *id)
{
    int rc = by->sock->state == SP__SOCK_OPEN ? sp__ep_new(id, by->sock, url, true) : SP_ECLOSED;
    struct sp__ep *ep = rc == SP_OK ? ep_find(by->sock, *id) : NULL;

    if (ep == NULL) {
        return rc != SP_OK ? rc : SP_ECLOSED;
    }
    ep_copy_options(ep, by);
    return sp__ep_dial(ep, false);
}

void sp__ep_undial(struct sp__ep *by, uint64_t id)
{
    struct sp__ep *ep = by->sock->state == SP__SOCK_OPEN ? ep_find(by->sock, id) : NULL;

    if (ep != NULL) {
        sp__ep_close(ep);
    }
}
