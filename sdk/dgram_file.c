/* SPDX-License-Identifier: MIT */
/// Messages that travel as descriptors of files, beside a datagram without payload. Output and
/// input of a pipe.
#include "dgram_parts.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdalign.h>
#include <sys/ioctl.h>
#include <unistd.h>

/// Bytes of unread datagrams, as the system counts them, beyond which no file is sent: about ten.
/// What they hold does not count there, so that is all that bounds it.
#define FILE_UNREAD (8 * 1024)

int sp__dgram_send_file(struct sp_dgram_pipe *p, const sp_msg *m)
{
    alignas(struct cmsghdr) unsigned char control[SP_DGRAM_CONTROL_MAX];
    unsigned char head[SP__DGRAM_XHEAD];
    struct iovec iov = {head, sizeof(head)};
    struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
    int unread = 0;
    int rc = SP_OK;
    int fd;

    // When the peer reads one, the system reports room.
    if (ioctl(p->fd, SIOCOUTQ, &unread) == 0 && unread > FILE_UNREAD) {
        return SP_EAGAIN;
    }
    fd = p->ep->kind->wrap(p->ep, m, &h, control);
    if (fd < 0) {
        return fd == -EMFILE || fd == -ENFILE || fd == -ENOSPC ? -ENOBUFS : fd;
    }
    sp__dgram_xhead(head, p->type, p->tx_next, 0, 0);
    if (sendmsg(p->fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        rc = -errno;
    } else {
        sp_counter_add(&p->ep->counts.tx_datagrams, 1);
    }
    (void)close(fd);
    return rc;
}

sp_msg *sp__dgram_take_file(struct sp_dgram_pipe *p, const struct dgram_in *in)
{
    sp_msg *m = NULL;
    int rc = in->file >= 0 ? p->ep->kind->unwrap(p->ep, in->file, p->file_recv_max, &m) : SP_EPROTO;

    if (rc == SP_OK) {
        return m;
    }
    if (rc == SP_EMSGSIZE) {
        sp_counter_add(&p->ep->counts.toobig, 1);
        sp__dgram_fail(p, rc, SP__DGRAM_SIZE);
    } else {
        sp_counter_add(rc == SP_ENOMEM ? &p->ep->counts.nobuf : &p->ep->counts.malformed, 1);
        sp__dgram_fail(p, rc, rc == SP_ENOMEM ? SP__DGRAM_NOBUF : SP__DGRAM_PROTOCOL);
    }
    return NULL;
}
