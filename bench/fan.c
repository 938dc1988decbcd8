/* SPDX-License-Identifier: MIT */
/// Many ends at one, each with a thread of its own: a publisher and its subscribers, senders and
/// the one that pulls, a surveyor and its respondents. The one listens (the server), the many are
/// in the other process. What a publisher drops is not received: the figure is what was delivered.
#include "ends.h"

#include <stdio.h>
#include <stdlib.h>

#define FAN_SETTLE 0.3 // s, in which connections and subscriptions arrive

struct fan_end {
    struct bench *b;
    struct bench_args a; ///< with its index
    struct bench_count *count;
    atomic_int *there;
};

static void fan_wait_go(const struct bench *b)
{
    // Acquire: pairs with bench_fan.
    while (atomic_load_explicit(&b->shared->go, memory_order_acquire) == 0) {
        bench_sleep(0.001);
    }
}

/// Sends for ever.
static void fan_pour(struct bench *b, void *end, struct bench_count *count)
{
    uint64_t seq = 0;

    fan_wait_go(b);
    for (;;) {
        seq += b->lib->send(end, seq);
        atomic_store_explicit(&count->n, seq, memory_order_relaxed);
    }
}

/// Receives for ever.
static void fan_drink(struct bench *b, void *end, struct bench_count *count)
{
    uint64_t n = 0;

    for (;;) {
        n += b->lib->recv(end, n);
        atomic_store_explicit(&count->n, n, memory_order_relaxed);
    }
}

/// Asks all, and collects all answers, for ever.
static void fan_survey(struct bench *b, void *end, struct bench_count *count)
{
    fan_wait_go(b);
    for (uint64_t n = 0;;) {
        (void)b->lib->send(end, n);
        for (unsigned i = 0; i < b->a.fan; i++) {
            (void)b->lib->recv(end, n);
        }
        atomic_store_explicit(&count->n, ++n, memory_order_relaxed);
    }
}

/// Answers every survey, for ever.
static void fan_answer(struct bench *b, void *end)
{
    for (;;) {
        (void)b->lib->recv(end, 0);
        (void)b->lib->send(end, 0);
    }
}

static void *fan_one(void *arg)
{
    struct bench *b = arg;
    void *end = bench_open_server(b);

    if (bench_is(b->a.pattern, "pubsub")) {
        fan_pour(b, end, &b->shared->received);
    } else if (bench_is(b->a.pattern, "survey")) {
        fan_survey(b, end, &b->shared->received);
    } else {
        fan_drink(b, end, &b->shared->received);
    }
    return NULL;
}

static void *fan_many(void *arg)
{
    struct fan_end *e = arg;
    struct bench *b = e->b;
    void *end = b->lib->open(&e->a, false, b->url);

    // Release: pairs with the acquire in fan_open.
    (void)atomic_fetch_add_explicit(e->there, 1, memory_order_release);
    if (bench_is(b->a.pattern, "pubsub")) {
        fan_drink(b, end, e->count);
    } else if (bench_is(b->a.pattern, "pushpull")) {
        fan_pour(b, end, e->count);
    }
    fan_answer(b, end);
    return NULL;
}

static void fan_open(struct bench *b)
{
    static atomic_int there;
    struct fan_end *ends = calloc(b->a.fan, sizeof(*ends));

    if (ends == NULL) {
        bench_die("no memory");
    }
    for (unsigned i = 0; i < b->a.fan; i++) {
        ends[i] = (struct fan_end){b, b->a, &b->shared->each[i], &there};
        ends[i].a.index = i;
        bench_thread(fan_many, &ends[i]);
    }
    while (atomic_load_explicit(&there, memory_order_acquire) < (int)b->a.fan) {
        bench_sleep(0.001);
    }
    bench_sleep(FAN_SETTLE);
}

/// What was delivered until now: messages, of a survey all answers together.
static double fan_delivered(const struct bench *b)
{
    uint64_t n = 0;

    if (!bench_is(b->a.pattern, "pubsub")) {
        return (double)atomic_load_explicit(&b->shared->received.n, memory_order_relaxed);
    }
    for (unsigned i = 0; i < b->a.fan; i++) {
        n += atomic_load_explicit(&b->shared->each[i].n, memory_order_relaxed);
    }
    return (double)n;
}

void bench_fan(struct bench *b)
{
    struct bench_usage from;
    struct bench_usage to;
    double first;
    double sent;
    double n;
    double seconds;
    uint64_t begin;

    bench_begin(b, fan_one);
    fan_open(b);
    // Release: everything is there.
    atomic_store_explicit(&b->shared->go, 1, memory_order_release);
    bench_sleep(b->a.warmup);
    bench_usage_all(b, &from);
    first = fan_delivered(b);
    sent = (double)atomic_load_explicit(&b->shared->received.n, memory_order_relaxed);
    begin = bench_now();
    bench_sleep(b->a.seconds);
    bench_usage_all(b, &to);
    n = fan_delivered(b) - first;
    sent = (double)atomic_load_explicit(&b->shared->received.n, memory_order_relaxed) - sent;
    seconds = (double)(bench_now() - begin) / 1e9;
    if (n < 1) {
        bench_die("nothing was delivered in %.2f s", seconds);
    }
    bench_print_head(b);
    (void)printf(",\"fan\":%u,\"topics\":%u,\"n\":%.0f,\"seconds\":%.4f,\"rate\":%.1f"
                 ",\"one_rate\":%.1f",
                 b->a.fan, b->a.topics, n, seconds, n / seconds, sent / seconds);
    bench_print_usage(&from, &to, n);
    (void)puts("}");
}
