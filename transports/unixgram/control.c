/* SPDX-License-Identifier: MIT */
/// What comes beside a datagram over AF_UNIX. [io]
#include "control.h"

#include <string.h>
#include <unistd.h>

/// Keeps the first descriptor of all, closes every other one.
static void control_fds(const struct cmsghdr *h, struct ugram_control *c)
{
    const unsigned char *at = CMSG_DATA(h);
    size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

    for (size_t i = 0; i < n; i++) {
        int fd;

        memcpy(&fd, at + i * sizeof(int), sizeof(int));
        if (c->fds == 0) {
            c->fd = fd;
        } else {
            (void)close(fd);
        }
        c->fds++;
    }
}

void ugram_control_take(struct msghdr *h, struct ugram_control *c)
{
    memset(c, 0, sizeof(*c));
    c->fd = -1;
    for (struct cmsghdr *m = CMSG_FIRSTHDR(h); m != NULL; m = CMSG_NXTHDR(h, m)) {
        if (m->cmsg_level != SOL_SOCKET) {
            continue;
        }
        if (m->cmsg_type == SCM_RIGHTS) {
            control_fds(m, c);
        } else if (m->cmsg_type == SCM_CREDENTIALS && m->cmsg_len >= CMSG_LEN(sizeof(c->who))) {
            memcpy(&c->who, CMSG_DATA(m), sizeof(c->who));
            c->known = c->who.pid > 0; // 0: it was sent before anybody asked for credentials.
        }
    }
    if (c->fds > 1 || (c->fd >= 0 && (h->msg_flags & MSG_CTRUNC) != 0)) {
        (void)close(c->fd);
        c->fd = -1;
    }
    h->msg_controllen = 0;
}

void ugram_control_put(struct msghdr *h, void *buf, int fd)
{
    struct cmsghdr *m;

    h->msg_control = buf;
    h->msg_controllen = CMSG_SPACE(sizeof(fd));
    memset(buf, 0, h->msg_controllen);
    m = CMSG_FIRSTHDR(h);
    m->cmsg_level = SOL_SOCKET;
    m->cmsg_type = SCM_RIGHTS;
    m->cmsg_len = CMSG_LEN(sizeof(fd));
    memcpy(CMSG_DATA(m), &fd, sizeof(fd));
}
