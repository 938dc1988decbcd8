/* SPDX-License-Identifier: MIT */
/// tests/model/pipe.pml: how much stands in a pipe's output and before it, and the end.
#include "replay_models.h"

#include <sp/plugin.h>

#include <string.h>

struct pipe {
    uint64_t posted; ///< messages on their way to output
    uint64_t queued; ///< output has
    unsigned cmd;    ///< bits for output
    bool want;       ///< to be told of readiness
    bool calling;    ///< the transport
    bool again;      ///< it is called again, since it wants to be told
    bool failed;
    bool ended; ///< told to stop
    bool over;  ///< it stopped
    bool taken; ///< the rest was taken back
};

static struct {
    struct replay_map pipes;
} out = {.pipes = {.size = sizeof(struct pipe)}};

static void pipe_begin(void)
{
    replay_clear(&out.pipes);
}

static bool end_step(struct pipe *p, const struct replay_rec *rec)
{
    switch (rec->number) {
    case 2:
        REPLAY_NEED(!p->ended, "it was told to stop already");
        p->ended = true;
        return true;
    case 6:
        REPLAY_NEED(p->ended && !p->over && !p->calling, "it stops without being told to");
        REPLAY_NEED(p->posted == 0, "it stops, and %llu messages come",
                    (unsigned long long)p->posted);
        REPLAY_NEED(rec->value == p->queued, "%llu are queued", (unsigned long long)p->queued);
        p->over = true;
        return true;
    default: // 12
        REPLAY_NEED(p->over && !p->taken, "taken back, and output has not stopped");
        REPLAY_NEED(rec->value == p->queued, "%llu are queued", (unsigned long long)p->queued);
        p->taken = true;
        p->queued = 0;
        return true;
    }
}

/// A call of the transport, H11, and what it left, H15.
static bool submit(struct pipe *p, const struct replay_rec *rec)
{
    REPLAY_NEED(!p->over && !p->failed, "output goes on after it stopped");
    REPLAY_NEED(p->calling == (rec->number == 15), "the transport is%s called",
                p->calling ? "" : " not");
    p->calling = !p->calling;
    if (p->calling) {
        REPLAY_NEED(rec->value == p->queued, "%llu are queued", (unsigned long long)p->queued);
        return true;
    }
    REPLAY_NEED(rec->value <= p->queued, "%llu were queued", (unsigned long long)p->queued);
    p->queued = rec->value;
    if (!p->again) {
        replay_expect(rec->thread, 'H', 9, rec->object);
    }
    p->again = false;
    return true;
}

/// It wants to be told of readiness, and tries again; or does not any more.
static bool want(struct pipe *p, const struct replay_rec *rec)
{
    REPLAY_NEED(!p->over && !p->calling && !p->failed, "output goes on after it stopped");
    p->want = rec->value != 0;
    if (p->want) {
        p->again = true;
        replay_expect(rec->thread, 'H', 11, rec->object);
    }
    return true;
}

/// Messages come; they are written at once, unless it waits for readiness.
static bool joined(struct pipe *p, const struct replay_rec *rec)
{
    REPLAY_NEED(!p->over, "output goes on after it stopped");
    REPLAY_NEED(rec->value > 0 && rec->value <= p->posted, "%llu were posted",
                (unsigned long long)p->posted);
    p->posted -= rec->value;
    p->queued += rec->value;
    if (!p->want && !p->failed) {
        replay_expect(rec->thread, 'H', 11, rec->object);
    }
    return true;
}

static bool pipe_step(const struct replay_rec *rec)
{
    struct pipe *p = replay_get(&out.pipes, rec->object);

    if (rec->letter == 'F') { // Destroyed: its object comes first.
        REPLAY_NEED(p == NULL || (p->posted == 0 && p->over == p->taken), "destroyed too early");
        replay_del(&out.pipes, rec->object);
        return true;
    }
    if (rec->number == 0) {
        REPLAY_NEED(p == NULL, "a pipe is made where one is");
        (void)replay_put(&out.pipes, rec->object);
        return true;
    }
    REPLAY_NEED(p != NULL, "no such pipe");
    REPLAY_NEED(!p->taken || rec->number == 4 || rec->number == 5 || rec->number == 10 ||
                    rec->number == 13,
                "output goes on after the rest was taken back");
    switch (rec->number) {
    case 1:
        REPLAY_NEED(!p->ended && rec->value > 0, "nothing, or behind the end");
        p->posted += rec->value;
        return true;
    case 4:
        REPLAY_NEED((rec->value & SP_READY_OUT) == 0 || replay_was_expected(), "it was not asked");
        p->cmd |= (unsigned)rec->value;
        return true;
    case 5:
        REPLAY_NEED(rec->value == p->cmd, "the bits are %x", p->cmd);
        p->cmd = 0;
        if (p->over || p->failed || p->queued > 0) {
            replay_expect(rec->thread, 'H', p->over || p->failed ? 13 : 11, rec->object);
        }
        return true;
    case 7:
        return joined(p, rec);
    case 9:
        return want(p, rec);
    case 10:
        REPLAY_NEED(p->want == (rec->value != 0), "it wants to be told, or not");
        if (p->want) {
            replay_expect(rec->thread, 'H', 4, rec->object);
        }
        return true;
    case 11:
    case 15:
        return submit(p, rec);
    case 13:
        REPLAY_NEED(p->over || p->failed, "it has not stopped");
        return true;
    case 22: // Some were dropped (drop-old).
        REPLAY_NEED(!p->over && !p->calling && p->want && rec->value <= p->queued,
                    "drops, and %llu are queued", (unsigned long long)p->queued);
        p->queued = rec->value;
        return true;
    case 14:
        REPLAY_NEED(!p->over && !p->failed, "fails after it stopped");
        p->failed = true;
        return true;
    default:
        return end_step(p, rec);
    }
}

static bool pipe_end(void)
{
    size_t at = 0;

    REPLAY_NEED(replay_next(&out.pipes, &at) == NULL, "in the end there is a pipe");
    return true;
}

const struct replay_model replay_pipe = {
    .name = "pipe",
    .letter = 'H',
    .reads = "H F14",
    .only = "H13",
    .core = "H1 H2 H6 H7 H9 H11 H12",
    .begin = pipe_begin,
    .step = pipe_step,
    .end = pipe_end,
};
