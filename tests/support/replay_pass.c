/* SPDX-License-Identifier: MIT */
/// tests/model/pass.pml: the credit of each pipe's input, what is passed or read within it, and who
/// is told that there is some again.
#include "pipe.h"
#include "replay_models.h"

#include <string.h>

struct pipe {
    const void *peer; ///< the other end of a link within the process, once known
    bool passes;
    bool joined;
    bool over;   ///< input stopped
    bool closed; ///< the link
    int64_t credit;
    int64_t owed;    ///< not given back yet
    int64_t grants;  ///< being given back
    bool tells;      ///< input, of credit
    unsigned cmd;    ///< bits for input
    unsigned caller; ///< of the transport, for output
    uint64_t left;   ///< … by that call
    bool again;      ///< … once more, behind I7
    bool want;       ///< output wants to be told
    // Whether it stopped for want of credit.
    enum { STOPPED_MAYBE, STOPPED_NOT, STOPPED } stopped;
};

struct thread {
    const void *calls; ///< the transport, for the output of this pipe
    uint64_t left;     ///< to be passed by it
    int64_t credit;    ///< that it saw
    bool passed;       ///< it came so far as to look
    const void *reads; ///< input of this pipe
    bool told;         ///< … told the other end
    uint64_t batch;    ///< messages for the socket's actor; 0: none
};

static struct {
    struct replay_map pipes;
    struct thread threads[REPLAY_THREADS];
} pass = {.pipes = {.size = sizeof(struct pipe)}};

static void pass_begin(void)
{
    replay_clear(&pass.pipes);
    memset(pass.threads, 0, sizeof(pass.threads));
}

/// Two pipes are the ends of one link.
static bool linked(const void *one, const void *two)
{
    struct pipe *a = replay_get(&pass.pipes, one);
    struct pipe *b = replay_get(&pass.pipes, two);

    REPLAY_NEED(a != NULL && b != NULL && (a->peer == NULL || a->peer == two) &&
                    (b->peer == NULL || b->peer == one),
                "not the two ends of a link");
    a->peer = two;
    b->peer = one;
    return true;
}

/// Over this pipe's link nothing passes any more.
static void cut(struct pipe *p)
{
    struct pipe *peer = replay_get(&pass.pipes, p->peer);

    p->closed = true;
    if (peer != NULL) {
        peer->closed = true;
    }
}

/* ------------------------------------------------------------------ Output */

/// H11, H15: the transport is called, and has left so many.
static bool called(struct pipe *p, const struct replay_rec *rec)
{
    struct thread *t = &pass.threads[rec->thread];

    REPLAY_NEED(t->reads == NULL, "it reads");
    if (rec->number == 11) {
        t->calls = rec->object;
        t->left = rec->value;
        t->passed = false;
        return true;
    }
    REPLAY_NEED(t->calls == rec->object, "the transport is not called");
    REPLAY_NEED(!t->passed || rec->value == t->left, "%llu are left", (unsigned long long)t->left);
    t->calls = NULL;
    p->left = rec->value;
    p->stopped = t->passed ? (t->left > 0 ? STOPPED : STOPPED_NOT) : STOPPED_MAYBE;
    if (p->peer != NULL && !t->passed) {
        cut(p);
    }
    if (p->stopped == STOPPED_NOT || (p->stopped == STOPPED && !p->again)) {
        replay_expect(rec->thread, 'I', p->stopped == STOPPED ? 7 : 9, rec->object);
    }
    p->again = false;
    p->caller = rec->thread;
    return true;
}

/// I7: output wants to be told, and tries once more; I9: it does not want to.
static bool want(struct pipe *p, const struct replay_rec *rec)
{
    REPLAY_NEED(p->stopped != (rec->number == 7 ? STOPPED_NOT : STOPPED) && rec->value == p->left,
                "%llu are left", (unsigned long long)p->left);
    REPLAY_NEED(p->caller == rec->thread, "thread %u called the transport", p->caller);
    p->again = rec->number == 7;
    p->want = rec->number == 7;
    p->stopped = STOPPED_MAYBE;
    if (p->want) {
        replay_expect(rec->thread, 'H', 11, rec->object);
    }
    return true;
}

/// H10: readiness to write; who asked for it is told. To the other end it means credit.
static bool ready(const struct pipe *p, const struct replay_rec *rec)
{
    struct thread *t = &pass.threads[rec->thread];
    const struct pipe *from = replay_get(&pass.pipes, t->reads);

    REPLAY_NEED((rec->value != 0) == p->want, "it wants to be told, or not");
    if (from != NULL && from->passes) {
        t->told = true;
        return linked(t->reads, rec->object);
    }
    return true;
}

/// I2: as much credit has the other end; I3: so many go there; I6: and no more.
static bool passed(const struct pipe *p, const struct replay_rec *rec)
{
    struct thread *t = &pass.threads[rec->thread];

    REPLAY_NEED(t->calls != NULL && !p->closed, "nothing can be passed here");
    switch (rec->number) {
    case 2:
        REPLAY_NEED((int64_t)rec->value == p->credit, "there is credit for %lld",
                    (long long)p->credit);
        REPLAY_NEED(t->left > 0, "nothing is to be passed");
        t->passed = true;
        t->credit = p->credit;
        replay_expect(rec->thread, 'I', t->credit > 0 ? 3 : 6, rec->object);
        return linked(t->calls, rec->object);
    case 3:
        REPLAY_NEED(rec->value == (t->left < (uint64_t)t->credit ? t->left : (uint64_t)t->credit),
                    "%llu are to be passed, and there is credit for %lld",
                    (unsigned long long)t->left, (long long)t->credit);
        t->left -= rec->value;
        t->batch = rec->value;
        replay_expect(rec->thread, 'I', 4, rec->object);
        replay_expect(rec->thread, 'I', 5, rec->object);
        // To the end of the credit: a grant that finds some left does not tell.
        replay_expect(rec->thread, 'I', t->left > 0 ? 2 : 6, rec->object);
        return true;
    default: // 6
        REPLAY_NEED(rec->value == t->left, "%llu are left", (unsigned long long)t->left);
        return true;
    }
}

/* ------------------------------------------------------------------ Input */

/// I12, I13: bits for input.
static bool command(struct pipe *p, const struct replay_rec *rec)
{
    struct thread *t = &pass.threads[rec->thread];

    if (rec->number == 12) {
        REPLAY_NEED(!p->tells || !replay_was_expected() || (rec->value & SP__RX_CREDIT) != 0,
                    "it is to be told of credit");
        p->tells = p->tells && !replay_was_expected();
        p->cmd |= (unsigned)rec->value;
        t->reads = t->reads == rec->object ? NULL : t->reads; // Later.
        return true;
    }
    REPLAY_NEED(rec->value == p->cmd && t->reads == NULL, "the bits are %x", p->cmd);
    p->over = p->over || (p->cmd & SP__RX_END) != 0;
    if (p->joined && p->passes && !p->over &&
        (p->cmd & (SP_READY_IN | SP_READY_HUP | SP__RX_CREDIT)) != 0) {
        replay_expect(rec->thread, 'I', 14, rec->object);
    }
    p->cmd = 0;
    return true;
}

/// I14: reads as far as there is credit, or tells the other end; I15: what came of it.
static bool harvest(struct pipe *p, const struct replay_rec *rec)
{
    struct thread *t = &pass.threads[rec->thread];
    int n = (int)rec->value;

    REPLAY_NEED(!p->over, "input goes on after it stopped");
    if (rec->number == 14) {
        REPLAY_NEED((int64_t)rec->value == p->credit && t->reads == NULL,
                    "there is credit for %lld", (long long)p->credit);
        t->reads = p->credit > 0 ? rec->object : NULL;
        t->told = false;
        return true;
    }
    REPLAY_NEED(t->reads == rec->object, "nothing is read here");
    t->reads = NULL;
    p->over = n < 0;
    if (p->passes && n == 0 && !t->told) {
        cut(p);
    }
    if (!p->passes && n > 0) {
        t->batch = (uint64_t)n;
        replay_expect(rec->thread, 'I', 4, rec->object);
        replay_expect(rec->thread, 'I', 5, rec->object);
    }
    return true;
}

/// I4, I5: what was passed or read goes to the socket's actor, and costs credit.
static bool posted(struct pipe *p, const struct replay_rec *rec)
{
    struct thread *t = &pass.threads[rec->thread];

    REPLAY_NEED(rec->value >= t->batch && t->batch > 0, "%llu messages",
                (unsigned long long)t->batch);
    if (rec->number == 4) {
        p->credit -= (int64_t)rec->value;
        return true;
    }
    REPLAY_NEED(rec->value == t->batch, "%llu messages", (unsigned long long)t->batch);
    t->batch = 0;
    return true;
}

/* ------------------------------------------------------------------ Credit */

/// I20: the first; I10: how much is owed; I11: it is given back.
static bool grant(struct pipe *p, const struct replay_rec *rec)
{
    switch (rec->number) {
    case 20:
        REPLAY_NEED(!p->joined && p->credit == 0, "it was used before");
        p->joined = true;
        p->passes = rec->value != 0;
        p->credit = SP__RX_WINDOW;
        p->tells = true;
        replay_expect(rec->thread, 'I', 12, rec->object);
        return true;
    case 10:
        REPLAY_NEED((int64_t)(rec->value >> 1) >= p->owed &&
                        (int64_t)(rec->value >> 1) + p->credit <= SP__RX_WINDOW,
                    "owed were %lld, with credit for %lld", (long long)p->owed,
                    (long long)p->credit);
        p->owed = (int64_t)(rec->value >> 1);
        if (p->owed > 0 && (p->owed >= SP__RX_WINDOW / 4 || (rec->value & 1) != 0)) {
            p->grants = p->owed;
            p->owed = 0;
            replay_expect(rec->thread, 'I', 11, rec->object);
        }
        return true;
    default: // 11
        REPLAY_NEED((int64_t)rec->value == p->credit, "there is credit for %lld",
                    (long long)p->credit);
        if (p->credit <= 0) {
            p->tells = true;
            replay_expect(rec->thread, 'I', 12, rec->object);
        }
        p->credit += p->grants;
        p->grants = 0;
        return true;
    }
}

static bool pass_step(const struct replay_rec *rec)
{
    struct pipe *p = replay_get(&pass.pipes, rec->object);

    if (rec->letter == 'F') { // Destroyed: its object comes first.
        replay_del(&pass.pipes, rec->object);
        return true;
    }
    if (rec->letter == 'H' && rec->number == 0) {
        REPLAY_NEED(p == NULL, "a pipe is made where one is");
        (void)replay_put(&pass.pipes, rec->object);
        return true;
    }
    REPLAY_NEED(p != NULL, "no such pipe");
    if (rec->letter == 'H') {
        return rec->number == 10 ? ready(p, rec) : called(p, rec);
    }
    switch (rec->number) {
    case 2:
    case 3:
    case 6:
        return passed(p, rec);
    case 4:
    case 5:
        return posted(p, rec);
    case 7:
    case 9:
        return want(p, rec);
    case 12:
    case 13:
        return command(p, rec);
    case 14:
    case 15:
        return harvest(p, rec);
    default:
        return grant(p, rec);
    }
}

static bool pass_end(void)
{
    size_t at = 0;

    REPLAY_NEED(replay_next(&pass.pipes, &at) == NULL, "in the end there is a pipe");
    return true;
}

const struct replay_model replay_pass = {
    .name = "pass",
    .letter = 'I',
    .reads = "F14 H0 H10 H11 H15 I",
    .only = "I3 I4 I5 I6 I11",
    .core = "I2 I3 I4 I5 I6 I7 I9 I10 I11 I12 I13 I14 I15 I20 H10",
    .begin = pass_begin,
    .step = pass_step,
    .end = pass_end,
};
