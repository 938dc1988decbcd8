/* SPDX-License-Identifier: MIT */
/// The option "overflow": its texts [any], and what becomes of a message that finds a pipe's queue
/// full. The socket's actor.
///
/// drop-old: the oldest messages are output's, which drops them (tx_trim in pipe_io.c) when it
/// takes more than its queue may hold. It is handed as much again as that; what is more waits in
/// `late`, of which the oldest goes: so the newest ones always stay, and there are at most three
/// times as many.
#include "overflow.h"

#include "error.h"
#include "pipe.h"

#include <stdio.h>
#include <string.h>

static const char *const overflow_names[SP__OVERFLOWS] = {
    [SP_OVERFLOW_BLOCK] = "block",
    [SP_OVERFLOW_DROP_NEW] = "drop-new",
    [SP_OVERFLOW_DROP_OLD] = "drop-old",
    [SP_OVERFLOW_DISCONNECT] = "disconnect",
};

const char *sp__overflow_name(unsigned policy)
{
    return overflow_names[policy];
}

/// "block, drop-new", of the policies in `allowed`.
static void overflow_list(uint32_t allowed, char *out, size_t cap)
{
    const char *comma = "";
    size_t n = 0;

    out[0] = '\0';
    for (unsigned i = 0; i < SP__OVERFLOWS; i++) {
        if ((allowed & SP_OVERFLOW_BIT(i)) != 0 && n < cap) {
            n += (size_t)snprintf(out + n, cap - n, "%s%s", comma, overflow_names[i]);
            comma = ", ";
        }
    }
}

int sp__overflow_parse(const char *text, uint32_t allowed, int64_t *policy)
{
    char list[64];

    for (unsigned i = 0; i < SP__OVERFLOWS; i++) {
        if (strcmp(overflow_names[i], text) == 0 && (allowed & SP_OVERFLOW_BIT(i)) != 0) {
            *policy = i;
            return SP_OK;
        }
    }
    overflow_list(allowed, list, sizeof(list));
    return sp__fail(SP_EINVAL, "option \"overflow\": \"%.40s\" is not one of: %s", text, list);
}

/* ------------------------------------------------------------------ A full queue */

/// A newer message waits for output to take what it has.
static void late_push(struct sp__pipe *p, sp_msg *m)
{
    int64_t cost = sp__msg(m)->cost;

    sp_batch_push(&p->late, m);
    p->late_cost += cost;
    p->inflight += cost;
    while (p->late_cost > p->cap && p->late.n > 1) {
        sp_msg *old = sp_batch_pop(&p->late);

        p->late_cost -= sp__msg(old)->cost;
        p->inflight -= sp__msg(old)->cost;
        sp__pipe_discard(p, old, SP_DISCARD_FULL);
    }
}

/// How much more output may be handed.
static int64_t late_room(const struct sp__pipe *p)
{
    return 2 * (int64_t)p->cap - (p->inflight - p->late_cost);
}

void sp__pipe_late(struct sp__pipe *p)
{
    if (!sp__pipe_usable(p)) {
        return;
    }
    while (p->late.head != NULL && late_room(p) > 0) {
        sp_msg *m = sp_batch_pop(&p->late);

        p->late_cost -= sp__msg(m)->cost;
        sp__pipe_out_link(p);
        sp_batch_push(&p->out, m);
    }
}

static SP__APART void drop_old(struct sp__pipe *p, sp_msg *m)
{
    if (sp__msg(m)->cost == 0) {
        sp__msg(m)->cost = sp__sock_cost(p->sock, m->len, p->cap);
    }
    late_push(p, m);
    sp__pipe_late(p);
}

/// Nothing is queued. `m` NULL: a copy that was not made.
static SP__APART void drop_new(struct sp__pipe *p, sp_msg *m)
{
    if (!sp__pipe_usable(p)) {
        sp__sock_discard(p->sock, m, SP_DISCARD_PEER_GONE, true);
        return;
    }
    sp__pipe_discard(p, m, SP_DISCARD_FULL);
    if (sp__option(&p->sock->opt.overflow) == SP_OVERFLOW_DISCONNECT) {
        p->cause = "it did not keep up";
        sp__pipe_shut(p, SP_EFULL);
    }
}

static inline bool drops_old(const struct sp__pipe *p)
{
    return sp__pipe_usable(p) && sp__option(&p->sock->opt.overflow) == SP_OVERFLOW_DROP_OLD;
}

void sp__pipe_send_or_drop(struct sp__pipe *p, sp_msg *m)
{
    if (sp__pipe_send(p, m) == SP_OK) {
        return;
    }
    if (drops_old(p)) {
        drop_old(p, m);
    } else {
        drop_new(p, m);
    }
}

void sp__pipe_copy_or_drop(struct sp__pipe *p, sp_msg *m)
{
    sp_msg *copy = NULL;

    if (sp__pipe_room(p) || drops_old(p)) {
        copy = sp__msg_clone(m);
        if (copy == NULL) {
            return;
        }
    }
    sp__count(&p->sock->copies, 1);
    if (copy != NULL) {
        sp__pipe_send_or_drop(p, copy);
    } else {
        drop_new(p, NULL);
    }
}
