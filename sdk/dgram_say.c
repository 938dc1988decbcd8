/* SPDX-License-Identifier: MIT */
/// What the ends of a connection say to each other, and what the reasons of an end mean. Any actor
/// of the connection.
#include "dgram_parts.h"

#include <sp/sdk/crc32c.h>

#include <errno.h>
#include <string.h>

size_t sp__dgram_lay(const struct sp_dgram_ep *e, const struct sp_dgram_addr *to,
                     const struct sp__dgram *d, unsigned char out[DGRAM_SAID_MAX])
{
    size_t front = e->kind->front;
    uint32_t crc;

    if (front > 0) {
        e->kind->prefix(e, to, out);
    }
    if (d->extended) {
        crc = sp_crc32c(0, out, front);
        sp__dgram_greeting(out + front, d, dgram_crc(e) ? &crc : NULL);
        return front + SP__DGRAM_GREETING;
    }
    sp__dgram_head(out + front, d->op, d->type, d->p0, d->p1);
    return front + SP__DGRAM_HEAD;
}

int sp__dgram_say(struct sp_dgram_ep *e, int fd, const struct sp_dgram_addr *to,
                  const struct sp__dgram *d)
{
    unsigned char bytes[DGRAM_SAID_MAX];
    size_t len = sp__dgram_lay(e, to, d, bytes);

    // What does not go is as good as lost: it is said again.
    if (sendto(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL, to != NULL ? &to->at.sa : NULL,
               to != NULL ? to->len : 0) >= 0) {
        sp_counter_add(&e->counts.tx_datagrams, 1);
        return SP_OK;
    }
    sp_counter_add(&e->counts.unsent, 1);
    return -errno;
}

void sp__dgram_refuse(struct sp_dgram_ep *e, const struct dgram_in *in, uint16_t reason)
{
    struct sp__dgram d = {
        .op = SP__DGRAM_DISC, .p0 = reason, .extended = in->d.extended, .token = in->d.token};

    memcpy(d.uuid, e->uuid, sizeof(d.uuid));
    if (dgram_pairs(e)) {
        (void)sp__dgram_say(e, in->file, NULL, &d);
    } else {
        (void)sp__dgram_say(e, e->fd, in->from, &d);
    }
}

/// In KiB, as the other end is told.
static uint32_t say_file_max(const struct sp_dgram_pipe *p)
{
    uint64_t max = p->file_recv_max / 1024;

    if (!dgram_files(p)) {
        return 0;
    }
    return p->file_recv_max == 0 || max > UINT32_MAX ? UINT32_MAX : (uint32_t)max;
}

struct sp__dgram sp__dgram_greeting_of(struct sp_dgram_pipe *p, enum sp__dgram_op op,
                                       uint16_t reason)
{
    bool asks = p->dialed && dgram_state(p) != DGRAM_UP;
    struct sp__dgram d = {
        .op = (uint8_t)op,
        .type = p->type,
        .extended = asks || (p->features & DGRAM_EXTENDED) != 0,
        .features = SP__DGRAM_PACKS | (dgram_files(p) ? SP__DGRAM_FILES : 0) |
                    (dgram_crc(p->ep) ? SP__DGRAM_CRCS : 0),
        .payload_max = p->recv_max,
        .file_max = say_file_max(p),
        .token = p->token,
        .cookie = __atomic_load_n(&p->cookie, __ATOMIC_RELAXED),
        .p0 = reason,
    };

    if (op != SP__DGRAM_DISC) {
        d.p0 = (uint16_t)(p->recv_max < SP__DGRAM_LONG ? p->recv_max : SP__DGRAM_LONG);
        d.p1 = dgram_seconds(sp_option_load(&p->ep->refresh));
    } else if (asks && d.cookie == 0) {
        d.extended = false; // Nobody knows yet who listens there.
    }
    memcpy(d.uuid, p->dialed ? p->uuid : p->ep->uuid, sizeof(d.uuid));
    return d;
}

int sp__dgram_greet(struct sp_dgram_pipe *p, enum sp__dgram_op op, uint16_t reason)
{
    struct sp__dgram d = sp__dgram_greeting_of(p, op, reason);

    return sp__dgram_say(p->ep, dgram_fd(p), dgram_to(p), &d);
}

const char *sp__dgram_disc_text(const struct sp__dgram *d)
{
    static const char *const texts[] = {
        [SP__DGRAM_CLOSED] = "the peer closed",
        [SP__DGRAM_TYPE] = "the peer is of the wrong type",
        [2] = "the peer does not say why",
        [SP__DGRAM_REFUSED] = "the peer refuses",
        [SP__DGRAM_SIZE] = "the peer was sent too large a message",
        [SP__DGRAM_NEGOTIATION] = "the peer does not agree to what was asked",
        [SP__DGRAM_INACTIVE] = "the peer heard nothing for too long",
        [SP__DGRAM_PROTOCOL] = "the peer does not understand",
        [SP__DGRAM_NOBUF] = "the peer has no room",
    };

    return d->p0 < sizeof(texts) / sizeof(texts[0]) ? texts[d->p0] : texts[2];
}

int sp__dgram_disc_error(const struct sp__dgram *d)
{
    switch (d->p0) {
    case SP__DGRAM_CLOSED:
        return SP_ECLOSED;
    case SP__DGRAM_TYPE:
    case SP__DGRAM_NEGOTIATION:
    case SP__DGRAM_PROTOCOL:
        return SP_EPROTO;
    case SP__DGRAM_REFUSED:
        return -ECONNREFUSED;
    case SP__DGRAM_SIZE:
        return SP_EMSGSIZE;
    case SP__DGRAM_INACTIVE:
        return SP_ETIMEDOUT;
    case SP__DGRAM_NOBUF:
        return SP_EPEERS;
    default:
        return -ECONNRESET;
    }
}
