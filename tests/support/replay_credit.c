/* SPDX-License-Identifier: MIT */
/// tests/model/credit.pml: each context's credit word with its mark, and the senders that wait.
#include "replay_models.h"

#include <string.h>

struct ctx {
    int64_t word; ///< 2 * credit, and the mark
    bool closed;
    struct replay_list waiters;
};

static struct {
    struct replay_map ctxs;
    struct {
        int64_t found; ///< by the step under way
        int64_t wakes; ///< that it may do yet
        const void *waiting;
        bool sleeps;
        const void *refused; ///< there was no credit for it
        const void *shut;    ///< which it closes
    } threads[REPLAY_THREADS];
} credit = {.ctxs = {.size = sizeof(struct ctx)}};

static void credit_begin(void)
{
    replay_clear(&credit.ctxs);
    memset(credit.threads, 0, sizeof(credit.threads));
}

/// A step that read the word; the next one (`number`) says what it wrote.
static bool found(struct ctx *c, const struct replay_rec *rec, unsigned number)
{
    REPLAY_NEED((int64_t)rec->value == c->word, "the word is %lld", (long long)c->word);
    credit.threads[rec->thread].found = c->word;
    replay_expect(rec->thread, 'E', number, rec->object);
    return true;
}

/// E16: what a sender took; E4: what was granted, or taken away.
static bool written(struct ctx *c, const struct replay_rec *rec)
{
    int64_t was = credit.threads[rec->thread].found;
    int64_t now = (int64_t)rec->value;

    REPLAY_NEED(((was ^ now) & 1) == 0, "the mark changes with the credit");
    c->word = now;
    if (rec->number == 16) {
        REPLAY_NEED(now < was && was >> 1 > 0, "takes from %lld", (long long)(was >> 1));
    } else if ((was & 1) != 0 && now >> 1 > 0) {
        replay_expect(rec->thread, 'E', 5, rec->object);
    }
    return true;
}

/// The mark goes with the last sender.
static void unmark_expected(const struct ctx *c, const struct replay_rec *rec, unsigned number)
{
    if (c->waiters.n == 0) {
        replay_expect(rec->thread, 'E', number, rec->object);
    }
}

/// E6: as many as there is credit for.
static bool wake(struct ctx *c, const struct replay_rec *rec)
{
    const void *thread = (const void *)(uintptr_t)rec->value;

    if (credit.threads[rec->thread].wakes-- > 0) {
        REPLAY_NEED(replay_list_pop(&c->waiters, thread), "not the first waiter");
    }
    REPLAY_NEED(thread == NULL || credit.threads[rec->thread].wakes >= 0, "no credit for it");
    unmark_expected(c, rec, 7);
    if (thread != NULL) {
        replay_expect(rec->thread, 'C', 13, thread);
        replay_expect(rec->thread, 'E', 6, rec->object);
    }
    return true;
}

static bool wait_begin(struct ctx *c, const struct replay_rec *rec)
{
    REPLAY_NEED(!c->closed, "waits, and it is closed");
    REPLAY_NEED(credit.threads[rec->thread].refused == rec->object, "waits, and was not refused");
    credit.threads[rec->thread].refused = NULL;
    REPLAY_NEED((const void *)(uintptr_t)rec->value == replay_thread(rec->thread) &&
                    replay_list_add(&c->waiters, replay_thread(rec->thread)),
                "it waits already, or for another one");
    credit.threads[rec->thread].waiting = rec->object;
    replay_expect(rec->thread, 'E', 11, rec->object);
    return true;
}

static bool wait_end(struct ctx *c, const struct replay_rec *rec)
{
    const void *self = replay_thread(rec->thread);
    bool queued = replay_list_has(&c->waiters, self);

    REPLAY_NEED(queued == (rec->value != 0), "it is%s among the waiters", queued ? "" : " not");
    replay_list_remove(&c->waiters, self);
    credit.threads[rec->thread].waiting = NULL;
    unmark_expected(c, rec, 14);
    return true;
}

/// Those who wait, and the end.
static bool credit_wait(struct ctx *c, const struct replay_rec *rec)
{
    switch (rec->number) {
    case 9:
        REPLAY_NEED(c->closed, "it is not closed");
        return true;
    case 10:
        return wait_begin(c, rec);
    case 11:
        REPLAY_NEED((int64_t)rec->value == c->word, "the word is %lld", (long long)c->word);
        credit.threads[rec->thread].sleeps = c->word >> 1 <= 0;
        c->word |= 1;
        return true;
    case 12:
        REPLAY_NEED(credit.threads[rec->thread].waiting == rec->object, "it did not wait");
        REPLAY_NEED(rec->value == 1 || (rec->value == 0 && credit.threads[rec->thread].sleeps),
                    "it did not sleep");
        replay_expect(rec->thread, 'E', 13, rec->object);
        return true;
    case 13:
        return wait_end(c, rec);
    case 15:
        REPLAY_NEED(credit.threads[rec->thread].shut == rec->object, "it is not closed");
        credit.threads[rec->thread].shut = rec->value != 0 ? rec->object : NULL;
        REPLAY_NEED(replay_list_pop(&c->waiters, (const void *)(uintptr_t)rec->value),
                    "not the first waiter");
        if (rec->value != 0) {
            replay_expect(rec->thread, 'C', 13, (const void *)(uintptr_t)rec->value);
        }
        return true;
    default: // 18
        REPLAY_NEED(c->waiters.n == 0, "a context ends with senders");
        replay_del(&credit.ctxs, rec->object);
        return true;
    }
}

static bool credit_step(const struct replay_rec *rec)
{
    struct ctx *c = replay_get(&credit.ctxs, rec->object);

    if (rec->letter == 'C') {
        return true;
    }
    if (rec->letter == 'E' && rec->number == 0) {
        REPLAY_NEED((c != NULL) == (rec->value != 0), "a context is made where one is");
        c = replay_have(&credit.ctxs, rec->object);
        REPLAY_NEED(c->word == 0, "a context is made where one is");
        c->word = (int64_t)rec->value;
        return true;
    }
    REPLAY_NEED(c != NULL, "no such context");
    if (rec->letter == 'D') { // Shut: receivers are woken first.
        c->closed = true;
        credit.threads[rec->thread].shut = rec->value == 0 ? rec->object : NULL;
        return true;
    }
    REPLAY_NEED(credit.threads[rec->thread].shut == NULL || rec->number == 15,
                "senders must be woken here");
    switch (rec->number) {
    case 1:
        REPLAY_NEED((int64_t)rec->value == c->word && c->word >> 1 <= 0, "the word is %lld",
                    (long long)c->word);
        credit.threads[rec->thread].refused = rec->object;
        return true;
    case 2:
        return found(c, rec, 16);
    case 3:
        return found(c, rec, 4);
    case 4:
    case 16:
        return written(c, rec);
    case 5:
        REPLAY_NEED((int64_t)rec->value == c->word >> 1, "the word is %lld", (long long)c->word);
        credit.threads[rec->thread].wakes = c->word >> 1;
        replay_expect(rec->thread, 'E', 6, rec->object);
        return true;
    case 6:
        return wake(c, rec);
    case 7:
    case 14:
        REPLAY_NEED(c->waiters.n == 0, "the mark is taken away, and senders wait");
        c->word &= ~(int64_t)1;
        return true;
    default:
        return credit_wait(c, rec);
    }
}

static bool credit_end(void)
{
    size_t at = 0;

    REPLAY_NEED(replay_next(&credit.ctxs, &at) == NULL, "in the end there is a context");
    return true;
}

const struct replay_model replay_credit = {
    .name = "credit",
    .letter = 'E',
    .reads = "E D17 C13",
    .only = "E4 E5 E6 E7 E11 E13 E14 E16",
    .core = "E2 E3 E6 E10 E11 E13",
    .begin = credit_begin,
    .step = credit_step,
    .end = credit_end,
};
