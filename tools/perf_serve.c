/* SPDX-License-Identifier: MIT */
/// The end of `sp perf` that listens: echoes, or counts and reports.
#include "perf.h"

#include "tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

uint64_t perf_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void perf_usage(struct perf_result *r, int sign)
{
    struct rusage u;

    (void)getrusage(RUSAGE_SELF, &u);
    r->cpu += sign * ((double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                      (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
    r->switches += sign * (u.ru_nvcsw + u.ru_nivcsw);
}

/// A message of the measurement's own, which begins with `magic`: into `h`. False: another one.
static bool perf_is(const sp_msg *m, const char *magic, struct perf_hello *h)
{
    if (sp_msg_len(m) != sizeof(*h)) {
        return false;
    }
    memcpy(h, sp_msg_view(m), sizeof(*h));
    if (strncmp(h->magic, magic, sizeof(h->magic)) != 0) {
        return false;
    }
    h->what[sizeof(h->what) - 1] = h->count[sizeof(h->count) - 1] = '\0';
    h->batch[sizeof(h->batch) - 1] = '\0';
    return true;
}

/// Takes what a measurement that begins asks for.
static void perf_take_hello(struct perf_server *v, const struct perf_hello *h)
{
    v->one_way = strcmp(h->what, "thr") == 0;
    v->short_reply = strcmp(h->what, "ask") == 0;
    v->cfg.count = strtoll(h->count, NULL, 10);
    v->cfg.batch = strtoll(h->batch, NULL, 10);
    if (v->cfg.batch < 1 || v->cfg.batch > PERF_BATCH_MAX) {
        v->cfg.batch = 1;
    }
    v->begin = v->last = 0;
    v->result = (struct perf_result){0};
}

/// A mute server's measurement is over: prints it, or ends for who waits for it in this process.
static int perf_counted(struct perf_server *v)
{
    if (!v->one_way) {
        return SP_OK;
    }
    v->one_way = false;
    v->result.seconds = (double)(v->last - v->begin) / 1e9;
    if (v->begin != 0) {
        perf_usage(&v->result, 1);
    }
    if (v->cfg.listen == NULL) {
        return SP_ECLOSED;
    }
    return perf_print(&v->cfg, v->url, &v->result) == TOOL_OK ? SP_OK : SP_ECLOSED;
}

/// Says what was counted, to who asks.
static int perf_report(struct perf_server *v)
{
    struct perf_report r = {.magic = PERF_REPORT};

    (void)snprintf(r.received, sizeof(r.received), "%lld", (long long)v->result.received);
    (void)snprintf(r.ns, sizeof(r.ns), "%llu", (unsigned long long)(v->last - v->begin));
    return sp_send(v->socket, &r, sizeof(r), 0);
}

/// Counts a message, of `size` bytes, of a one-way measurement.
static void perf_count(struct perf_server *v, size_t size)
{
    if (v->begin == 0) { // The first one starts the clock, and does not count.
        v->cfg.size = (int64_t)size;
        perf_usage(&v->result, -1);
        v->begin = v->last = v->arrived;
        return;
    }
    v->result.received++;
    v->last = v->result.received == v->cfg.count ? perf_now() : v->arrived;
}

/// Gives the message back.
static int perf_echo(struct perf_server *v, sp_msg *m, bool begins)
{
    int err = !begins && v->short_reply ? sp_msg_resize(m, 0) : SP_OK;

    if (err == SP_OK) {
        err = sp_sendmsg(v->socket, m, 0);
    }
    if (err < 0) {
        sp_msg_release(m);
    }
    return err;
}

/// Takes one message over.
static int perf_answer(struct perf_server *v, sp_msg *m)
{
    struct perf_hello h;
    bool begins = perf_is(m, PERF_BEGIN, &h);
    bool ends = !begins && perf_is(m, PERF_END, &h);
    int err = SP_OK;

    if (begins) {
        err = v->mute ? perf_counted(v) : SP_OK; // One whose end was lost.
        perf_take_hello(v, &h);
    }
    if (!ends && !v->mute && (begins || !v->one_way)) {
        return perf_echo(v, m, begins);
    }
    if (!begins && !ends && v->one_way) {
        perf_count(v, sp_msg_len(m));
    }
    sp_msg_release(m);
    if (ends) {
        err = v->mute ? perf_counted(v) : perf_report(v);
    }
    return err;
}

void *perf_serve(void *arg)
{
    struct perf_server *v = arg;
    sp_msg *m[PERF_BATCH_MAX];
    int n = 0;

    v->cfg.batch = 1;
    while (n >= 0) {
        int err = SP_OK;

        n = v->one_way && v->cfg.batch > 1 ? sp_recvmsgs(v->socket, m, (size_t)v->cfg.batch, 0)
                                           : sp_recvmsg(v->socket, &m[0], 0);
        v->arrived = v->one_way ? perf_now() : 0;
        if (n == SP_ETIMEDOUT) { // Only a mute one: its measurement ends here.
            n = 0;
            err = perf_counted(v);
        } else if (n == SP_OK) {
            n = 1;
        }
        for (int i = 0; i < n; i++) {
            int rc = perf_answer(v, m[i]);

            err = rc < 0 ? rc : err;
        }
        // A REP whose peer went away, and the like: the next request makes it good.
        n = err == SP_ECLOSED ? err : n;
    }
    return NULL;
}
