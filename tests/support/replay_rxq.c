/* SPDX-License-Identifier: MIT */
/// tests/model/rxq.pml: the word of each receivers' queue, how much is in it and taken out of it,
/// and who waits.
#include "replay_models.h"

#include <string.h>

#define WAITING ((const void *)1)

struct ctx {
    const void *word; ///< NULL, WAITING, the newest
    uint64_t listed;  ///< messages in it
    uint64_t local;   ///< messages that were pulled and not taken
    struct replay_list waiters;
    bool closed;
};

static struct {
    struct replay_map ctxs;
    struct {
        uint64_t n;          ///< messages that are published now
        const void *waiting; ///< where it waits
        bool late;           ///< its time was up
        bool must_pass;      ///< it leaves the others behind
        const void *took;    ///< it took messages from there
        bool marked;         ///< and set the mark for them
        const void *popped;  ///< or took this one out, to be woken
    } threads[REPLAY_THREADS];
} rxq = {.ctxs = {.size = sizeof(struct ctx)}};

static void rxq_begin(void)
{
    replay_clear(&rxq.ctxs);
    memset(rxq.threads, 0, sizeof(rxq.threads));
}

/// D2: the push, and what it found.
static bool publish(struct ctx *c, const struct replay_rec *rec)
{
    REPLAY_NEED(c->word == (const void *)(uintptr_t)rec->value,
                "the push finds another word than %p", c->word);
    REPLAY_NEED(rxq.threads[rec->thread].n > 0, "nothing is pushed");
    c->listed += rxq.threads[rec->thread].n;
    rxq.threads[rec->thread].n = 0;
    replay_expect(rec->thread, 'D', 3, rec->object);
    if (c->word == WAITING) {
        replay_expect(rec->thread, 'D', 4, rec->object);
    }
    return true;
}

static bool popped(struct ctx *c, const struct replay_rec *rec)
{
    const void *thread = (const void *)(uintptr_t)rec->value;

    REPLAY_NEED(replay_list_pop(&c->waiters, thread), "not the first waiter");
    if (thread != NULL) {
        replay_expect(rec->thread, 'C', 13, thread);
    }
    return true;
}

static bool pull(struct ctx *c, const struct replay_rec *rec)
{
    REPLAY_NEED(c->word != NULL && c->word != WAITING, "there is no list to take");
    REPLAY_NEED(c->word == (const void *)(uintptr_t)rec->value, "takes another word than %p",
                c->word);
    c->word = NULL;
    c->local += c->listed;
    c->listed = 0;
    replay_expect(rec->thread, 'D', 19, rec->object);
    return true;
}

/// D9, D13: NULL becomes the mark; a list stays.
static bool mark(struct ctx *c, const struct replay_rec *rec)
{
    REPLAY_NEED(c->word == (const void *)(uintptr_t)rec->value, "finds another word than %p",
                c->word);
    if (c->word == NULL) {
        c->word = WAITING;
    }
    return true;
}

static bool begin_wait(struct ctx *c, const struct replay_rec *rec)
{
    const void *self = replay_thread(rec->thread);

    if (!mark(c, rec)) {
        return false;
    }
    if (c->word != WAITING) {
        replay_list_remove(&c->waiters, self);
    } else {
        rxq.threads[rec->thread].waiting = rec->object;
    }
    return true;
}

static bool end_wait(struct ctx *c, const struct replay_rec *rec)
{
    const void *self = replay_thread(rec->thread);
    bool queued = replay_list_has(&c->waiters, self);

    REPLAY_NEED(queued == (rec->value != 0), "it is%s among the waiters", queued ? "" : " not");
    replay_list_remove(&c->waiters, self);
    rxq.threads[rec->thread].waiting = NULL;
    rxq.threads[rec->thread].must_pass = queued && rxq.threads[rec->thread].late;
    return true;
}

/// D12, D15: `rec` has who is woken next.
static bool pass_on(struct ctx *c, const struct replay_rec *rec)
{
    const void *next = (const void *)(uintptr_t)rec->value;
    const void *was = rxq.threads[rec->thread].popped;
    bool marked = rxq.threads[rec->thread].marked;

    REPLAY_NEED(next == was, "not the one that was taken out");
    REPLAY_NEED(next != NULL || marked || c->waiters.n == 0,
                "the others are left without a mark, and nobody is woken");
    REPLAY_NEED(rec->number == 15 ? rxq.threads[rec->thread].took == rec->object || c->closed
                                  : rxq.threads[rec->thread].must_pass,
                "it took nothing, or its time was not up");
    rxq.threads[rec->thread].took = NULL;
    rxq.threads[rec->thread].popped = NULL;
    rxq.threads[rec->thread].marked = false;
    rxq.threads[rec->thread].must_pass = false;
    if (next != NULL) {
        replay_expect(rec->thread, 'C', 13, next);
    }
    return true;
}

/// D13, D14: for those who go on waiting.
static bool pass_begin(struct ctx *c, const struct replay_rec *rec)
{
    REPLAY_NEED(c->waiters.n > 0, "nobody waits");
    if (rec->number == 13) {
        REPLAY_NEED(c->local == 0 && (c->word == NULL || c->word == WAITING),
                    "the mark is set, and there are messages");
        rxq.threads[rec->thread].marked = true;
        return mark(c, rec);
    }
    REPLAY_NEED(c->local > 0 || (c->word != NULL && c->word != WAITING),
                "a receiver is taken out, and there is no message");
    rxq.threads[rec->thread].popped = (const void *)(uintptr_t)rec->value;
    REPLAY_NEED(replay_list_pop(&c->waiters, rxq.threads[rec->thread].popped),
                "not the first waiter");
    return true;
}

static bool taken(struct ctx *c, const struct replay_rec *rec)
{
    REPLAY_NEED(c->local >= rec->value, "there are %llu messages", (unsigned long long)c->local);
    c->local -= rec->value;
    if (rec->number == 16) {
        rxq.threads[rec->thread].took = rec->object;
    }
    return true;
}

/// A receiver that waits, and the end.
static bool rxq_wait(struct ctx *c, const struct replay_rec *rec)
{
    switch (rec->number) {
    case 7:
        REPLAY_NEED(rec->value == 0 && c->local == 0 && !c->closed,
                    "it waits, and there are messages, or it is closed");
        replay_expect(rec->thread, 'D', 8, rec->object);
        return true;
    case 8:
        REPLAY_NEED((const void *)(uintptr_t)rec->value == replay_thread(rec->thread) &&
                        replay_list_add(&c->waiters, replay_thread(rec->thread)),
                    "it waits already, or for another one");
        replay_expect(rec->thread, 'D', 9, rec->object);
        return true;
    case 9:
        return begin_wait(c, rec);
    case 10:
        REPLAY_NEED(rxq.threads[rec->thread].waiting == rec->object, "it did not wait");
        rxq.threads[rec->thread].late = rec->value == 0;
        replay_expect(rec->thread, 'D', 11, rec->object);
        return true;
    case 11:
        return end_wait(c, rec);
    default: // 18
        REPLAY_NEED((c->word == NULL || c->word == WAITING) && c->listed == 0 && c->local == 0 &&
                        c->waiters.n == 0,
                    "a context ends with messages or receivers");
        replay_del(&rxq.ctxs, rec->object);
        return true;
    }
}

static bool rxq_step(const struct replay_rec *rec)
{
    struct ctx *c = replay_get(&rxq.ctxs, rec->object);

    if (rec->letter != 'D') {
        return true;
    }
    if (rec->number == 0) {
        REPLAY_NEED(c == NULL, "a context is made where one is");
        (void)replay_put(&rxq.ctxs, rec->object);
        return true;
    }
    REPLAY_NEED(c != NULL, "no such context");
    if (rxq.threads[rec->thread].popped != NULL || rxq.threads[rec->thread].marked) {
        REPLAY_NEED(rec->number == 12 || rec->number == 15, "who is woken must be said here");
    } else if (rxq.threads[rec->thread].must_pass) {
        REPLAY_NEED(rec->number >= 12 && rec->number <= 14, "it must pass on");
    } else if (rxq.threads[rec->thread].took != NULL) {
        REPLAY_NEED(rec->number == 6 || (rec->number >= 13 && rec->number <= 20),
                    "it took messages, and must pass on");
    }
    switch (rec->number) {
    case 1:
        REPLAY_NEED(rec->value > 0, "nothing is pushed");
        rxq.threads[rec->thread].n = rec->value;
        replay_expect(rec->thread, 'D', 2, rec->object);
        return true;
    case 2:
        return publish(c, rec);
    case 3:
        c->word = (const void *)(uintptr_t)rec->value;
        REPLAY_NEED(c->word != NULL && c->word != WAITING, "no list was pushed");
        return true;
    case 17:
        c->closed = true;
        return popped(c, rec);
    case 4:
        return popped(c, rec);
    case 6:
        return pull(c, rec);
    case 12:
    case 15:
        return pass_on(c, rec);
    case 13:
    case 14:
        return pass_begin(c, rec);
    case 16:
    case 20:
        return taken(c, rec);
    case 19:
        REPLAY_NEED(c->local == rec->value, "there are %llu messages",
                    (unsigned long long)c->local);
        return true;
    default:
        return rxq_wait(c, rec);
    }
}

static bool rxq_end(void)
{
    size_t at = 0;

    REPLAY_NEED(replay_next(&rxq.ctxs, &at) == NULL, "in the end there is a context");
    return true;
}

const struct replay_model replay_rxq = {
    .name = "rxq",
    .letter = 'D',
    .reads = "D C13",
    .only = "D2 D3 D4 D8 D9 D11 D19",
    .core = "D2 D4 D6 D9 D11",
    .begin = rxq_begin,
    .step = rxq_step,
    .end = rxq_end,
};
