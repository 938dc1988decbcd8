/* SPDX-License-Identifier: MIT */
/// A listener in its discovery group: says that it is there, from the address at which it can be
/// dialled, and looks from time to time at what the others said; so that no flood wakes it. All in
/// the socket's actor.
#include "dgram_group.h"
#include "dgram_parts.h"

#include <sp/sdk/cause.h>
#include <sp/sdk/crc32c.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MEET_BURST 256 // announcements of one turn; more of them are a flood
#define MEET_TURN_MS 250
#define MEET_HEAD_MAX 128 // bytes in front of an announcement that a transport strips

struct sp_dgram_meeting {
    struct sp__group table;
    int fd;
    sp_timer_ref *timer;
    int64_t due; ///< ns; of the next announcement
    struct sp_dgram_addr to;
};

static int meet_dial(void *arg, const struct sp_dgram_addr *addr, uint64_t *dialer)
{
    struct sp_dgram_ep *e = arg;
    char text[128];
    char url[160];

    if (e->kind->url != NULL) {
        e->kind->url(e, addr, url, sizeof(url));
    } else {
        e->kind->text(addr, text, sizeof(text));
        (void)snprintf(url, sizeof(url), "%s://%s", e->kind->scheme, text);
    }
    return e->host->ep_dial(e->ref, url, dialer);
}

static void meet_undial(void *arg, uint64_t dialer)
{
    struct sp_dgram_ep *e = arg;

    e->host->ep_undial(e->ref, dialer);
}

static void meet_say(struct sp_dgram_ep *e, enum sp__group_op op)
{
    struct sp_dgram_meeting *g = e->group;
    struct sp__announcement a = {.op = (uint8_t)op,
                                 .interval = (uint32_t)sp_option_load(&e->group_interval)};
    unsigned char bytes[SP_DGRAM_FRONT_MAX + SP__GROUP_BYTES];
    size_t front = e->kind->front;

    memcpy(a.uuid, e->uuid, sizeof(a.uuid));
    if (front > 0) {
        e->kind->prefix(e, &g->to, bytes);
    }
    sp__group_write(bytes + front, &a);
    if (dgram_crc(e)) {
        sp__group_seal(bytes + front, SP__GROUP_BYTES, sp_crc32c(0, bytes, front));
    }
    if (sendto(e->fd, bytes, front + SP__GROUP_BYTES, MSG_DONTWAIT | MSG_NOSIGNAL, &g->to.at.sa,
               g->to.len) >= 0) {
        sp_counter_add(&e->counts.group_tx, 1);
    } else {
        sp_counter_add(&e->counts.unsent, 1); // It is said again.
    }
}

/// The next announcement in three to five quarters of the interval: members do not keep step.
static void meet_later(struct sp_dgram_ep *e, int64_t now)
{
    uint64_t half = (uint64_t)(sp_option_load(&e->group_interval) * DGRAM_MS) / 2;

    e->group->due = now + (int64_t)(half + half / 2 + (e->host->random() % half));
}

static int64_t meet_turn_ms(const struct sp_dgram_ep *e)
{
    int64_t ms = sp_option_load(&e->group_interval) / 4;

    return ms < MEET_TURN_MS ? ms : MEET_TURN_MS;
}

/// Whether `len` bytes from `from` are an announcement, which `a` then is. The transport's part of
/// the address is written.
static bool meet_read(const struct sp_dgram_ep *e, struct sp_dgram_addr *from,
                      const unsigned char *bytes, size_t len, struct sp__announcement *a)
{
    struct sp_dgram_in in = {
        .from = from, .data = bytes, .len = len, .who = {-1, -1, -1}, .file = -1};
    ssize_t skip = e->kind->strip != NULL ? e->kind->strip(e, &in) : 0;
    size_t front = e->kind->front;

    if (skip < (ssize_t)front || (size_t)skip > len ||
        !sp__group_read(bytes + skip, len - (size_t)skip, a)) {
        return false;
    }
    return !dgram_crc(e) || sp__group_sealed(bytes + skip, SP__GROUP_BYTES,
                                             sp_crc32c(0, bytes + skip - front, front));
}

/// What the others said; how many announcements there were.
static int meet_listen(struct sp_dgram_ep *e, int64_t now)
{
    unsigned char bytes[MEET_HEAD_MAX + SP__GROUP_BYTES_MAX + 1];
    int n = 0;

    for (; n < MEET_BURST; n++) {
        struct sp_dgram_addr from;
        struct sp__announcement a;
        socklen_t len = sizeof(from.at);
        ssize_t got;

        memset(&from, 0, sizeof(from));
        got = recvfrom(e->group->fd, bytes, sizeof(bytes), MSG_DONTWAIT, &from.at.sa, &len);
        if (got < 0) {
            break;
        }
        from.len = (uint16_t)len;
        sp_counter_add(&e->counts.group_rx, 1);
        if (!meet_read(e, &from, bytes, (size_t)got, &a) ||
            !sp__group_hear(&e->group->table, &from, &a, now)) {
            sp_counter_add(&e->counts.group_refused, 1);
        }
    }
    return n;
}

void sp__dgram_meet_due(struct sp_dgram_ep *e)
{
    struct sp_dgram_meeting *g = e->group;
    int64_t now = e->host->now();
    bool flooded;

    if (g == NULL) {
        return;
    }
    flooded = meet_listen(e, now) == MEET_BURST;
    sp__group_turn(&g->table, now, flooded);
    __atomic_store_n(&e->counts.group_members, g->table.n, __ATOMIC_RELAXED);
    if (now >= g->due) {
        meet_say(e, SP__GROUP_HERE);
        meet_later(e, now);
    }
    e->host->timer_arm(g->timer, meet_turn_ms(e));
}

/// What the group needs beside its socket.
static int meet_begin(struct sp_dgram_ep *e, struct sp_dgram_meeting *g)
{
    int rc = e->host->ep_timer_new(e->ref, g, &g->timer);

    if (rc < 0) {
        return rc;
    }
    memcpy(g->table.uuid, e->uuid, sizeof(g->table.uuid));
    g->table.max = (uint32_t)sp_option_load(&e->max_peers);
    g->table.fresh = SP__GROUP_FRESH;
    g->table.dial = meet_dial;
    g->table.undial = meet_undial;
    g->table.arg = e;
    e->group = g;
    meet_say(e, SP__GROUP_HERE);
    meet_later(e, e->host->now());
    e->host->timer_arm(g->timer, meet_turn_ms(e));
    return SP_OK;
}

int sp__dgram_meet(struct sp_dgram_ep *e, sp_cause *cause)
{
    struct sp_dgram_addr to;
    struct sp_dgram_meeting *g;
    int fd = e->kind->join != NULL ? e->kind->join(e, &to, cause) : SP_EAGAIN;
    int rc;

    if (fd < 0) {
        return fd == SP_EAGAIN ? SP_OK : fd;
    }
    g = calloc(1, sizeof(*g));
    rc = g == NULL ? SP_ENOMEM : SP_OK;
    if (rc == SP_OK && e->host->size < offsetof(sp_host, ep_undial) + sizeof(e->host->ep_undial)) {
        rc = SP_ENOTSUP;
    }
    if (rc == SP_OK) {
        g->fd = fd;
        g->to = to;
        rc = meet_begin(e, g);
    }
    if (rc < 0) {
        free(g);
        (void)close(fd);
        return sp_fail(cause, rc, "group");
    }
    return SP_OK;
}

void sp__dgram_part(struct sp_dgram_ep *e)
{
    struct sp_dgram_meeting *g = e->group;

    if (g == NULL) {
        return;
    }
    meet_say(e, SP__GROUP_LEAVES);
    e->host->timer_cancel(g->timer);
    sp__group_clear(&g->table);
    e->group = NULL;
    (void)close(g->fd);
    free(g);
}
