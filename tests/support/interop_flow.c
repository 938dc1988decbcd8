/* SPDX-License-Identifier: MIT */
/// Scenarios of patterns without answers.
#include "interop_flow.h"

#include "proc.h"

#include <sp/sp.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FLOW_PEERS 3
#define FLOW_MAX 200000
#define FLOW_ORDER 1000
#define FLOW_WORK (24 * FLOW_PEERS) // all idle, whatever was not written yet: each has its turn

/// One socket of ours, up to three of the other side.
struct flow {
    const struct interop_case *c;
    sp_socket own;
    int its[FLOW_PEERS];
    int n;
    char url[FLOW_PEERS][256];
    char *dir; ///< of socket files
};

static void flow_check(int err, const char *what)
{
    if (err < 0) {
        fail_msg("%s: %s (%s)", what, sp_strerror(err), sp_error_detail());
    }
}

static void flow_url(struct flow *f, int i)
{
    if (f->c->transport == INTEROP_IPC) {
        f->dir = f->dir != NULL ? f->dir : proc_mkdir();
        (void)snprintf(f->url[i], sizeof(f->url[i]), "ipc://%s/socket%d", f->dir, i);
    } else {
        (void)snprintf(f->url[i], sizeof(f->url[i]), "tcp://127.0.0.1:%d", proc_free_port());
    }
}

static void flow_connect(struct flow *f, int i)
{
    f->its[i] = f->c->ops->open(f->c->its);
    assert_true(f->its[i] >= 0);
    if (f->c->own_listens && i == 0) {
        flow_url(f, 0);
        flow_check(sp_listen(f->own, f->url[0], NULL), "listen");
    }
    if (f->c->own_listens) {
        assert_int_equal(f->c->ops->dial(f->its[i], f->url[0]), 0);
    } else {
        flow_url(f, i);
        assert_int_equal(f->c->ops->listen(f->its[i], f->url[i]), 0);
        flow_check(sp_dial(f->own, f->url[i], NULL, 0), "dial");
    }
}

/// Waits until ours has so many peers.
static void flow_peers(struct flow *f, size_t n)
{
    long long end = proc_now() + INTEROP_SOON;
    size_t there = 0;

    for (;;) {
        flow_check(sp_peers(f->own, NULL, &there), "peers");
        if (there == n) {
            return;
        }
        assert_true(proc_now() < end);
        (void)!sp_poll(NULL, 0, 1);
    }
}

static void flow_up(struct flow *f, const struct interop_case *c, bool raw, int n)
{
    memset(f, 0, sizeof(*f));
    f->c = c;
    f->n = n;
    flow_check(raw ? sp_open_raw(&f->own, c->own) : sp_open(&f->own, c->own), "open");
    if (strcmp(c->own, "pull") != 0) {
        flow_check(sp_set_int(f->own.id, "send-timeout", INTEROP_SOON), "send-timeout");
    }
    flow_check(sp_set_int(f->own.id, "recv-timeout", INTEROP_SOON), "recv-timeout");
    if (n > 1 && strcmp(c->own, "pair1") == 0) {
        flow_check(sp_set_int(f->own.id, "pair1:polyamorous", 1), "polyamorous");
    }
    for (int i = 0; i < n; i++) {
        flow_connect(f, i);
        flow_peers(f, (size_t)i + 1);
    }
}

static void flow_down(struct flow *f)
{
    flow_check(sp_close(f->own), "close");
    for (int i = 0; i < f->n; i++) {
        f->c->ops->close(f->its[i]);
    }
    if (f->dir != NULL) {
        proc_rmdir(f->dir);
    }
}

static void flow_fill(unsigned char *buf, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        buf[i] = (unsigned char)(seed + i * 7 + (i >> 8));
    }
}

static bool flow_own_sends(const struct flow *f)
{
    return strcmp(f->c->own, "pull") != 0;
}

/// One message between ours and the first of the other side.
static void flow_pass(struct flow *f, size_t len, unsigned seed)
{
    unsigned char *sent = malloc(len + 1);
    unsigned char *got = malloc(FLOW_MAX + 1);
    long n;

    assert_non_null(sent);
    assert_non_null(got);
    flow_fill(sent, len, seed);
    if (flow_own_sends(f)) {
        flow_check(sp_send(f->own, sent, len, 0), "send");
        n = f->c->ops->recv(f->its[0], got, FLOW_MAX + 1);
    } else {
        assert_int_equal(f->c->ops->send(f->its[0], sent, len), 0);
        n = (long)sp_recv(f->own, got, FLOW_MAX + 1, 0);
    }
    assert_int_equal(n, len);
    assert_memory_equal(got, sent, len);
    free(sent);
    free(got);
}

void interop_one_way(const struct interop_case *c)
{
    static const size_t sizes[] = {0, 1, 4, 127, 128, 1024, 8192, 65535, 65536, 65537, FLOW_MAX};
    struct flow f;

    flow_up(&f, c, false, 1);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        flow_pass(&f, sizes[i], i);
    }
    for (unsigned base = 0; base < FLOW_ORDER; base += 50) {
        for (unsigned i = base; i < base + 50 && flow_own_sends(&f); i++) {
            flow_check(sp_send(f.own, &i, sizeof(i), 0), "send");
        }
        for (unsigned i = base; i < base + 50; i++) {
            unsigned got = ~0U;

            if (flow_own_sends(&f)) {
                assert_int_equal(c->ops->recv(f.its[0], &got, sizeof(got)), sizeof(got));
            } else {
                assert_int_equal(c->ops->send(f.its[0], &i, sizeof(i)), 0);
                assert_int_equal(sp_recv(f.own, &got, sizeof(got), 0), sizeof(got));
            }
            assert_int_equal(got, i);
        }
    }
    flow_down(&f);
}

void interop_work(const struct interop_case *c)
{
    struct flow f;
    bool seen[FLOW_WORK] = {false};

    flow_up(&f, c, false, FLOW_PEERS);
    for (unsigned i = 0; i < FLOW_WORK; i++) {
        unsigned got = FLOW_WORK;

        if (flow_own_sends(&f)) {
            flow_check(sp_send(f.own, &i, sizeof(i), 0), "send");
            continue;
        }
        assert_int_equal(c->ops->send(f.its[i % FLOW_PEERS], &i, sizeof(i)), 0);
        assert_int_equal(sp_recv(f.own, &got, sizeof(got), 0), sizeof(got));
        assert_int_equal(got, i);
    }
    for (unsigned i = 0; i < FLOW_WORK && flow_own_sends(&f); i++) {
        unsigned got = FLOW_WORK;
        // Each takes the same number: that many are there for it.
        long n = c->ops->recv(f.its[i % FLOW_PEERS], &got, sizeof(got));

        assert_int_equal(n, sizeof(got));
        assert_true(got < FLOW_WORK && !seen[got]);
        seen[got] = true;
    }
    flow_down(&f);
}

/* ------------------------------------------------------------------ Everybody */

static void flow_expect_its(struct flow *f, int i, const char *text)
{
    char got[64];
    long n = f->c->ops->recv(f->its[i], got, sizeof(got));

    assert_int_equal(n, strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

static void flow_expect_own(struct flow *f, const char *text)
{
    char got[64];

    assert_int_equal(sp_recv(f->own, got, sizeof(got), 0), strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

void interop_bus(const struct interop_case *c)
{
    struct flow f;

    flow_up(&f, c, false, FLOW_PEERS);
    for (int round = 0; round < 20; round++) {
        flow_check(sp_send(f.own, "to all", 6, 0), "send");
        for (int i = 0; i < FLOW_PEERS; i++) {
            flow_expect_its(&f, i, "to all");
        }
        for (int i = 0; i < FLOW_PEERS; i++) {
            assert_int_equal(c->ops->send(f.its[i], "to one", 6), 0);
            flow_expect_own(&f, "to one");
        }
    }
    flow_down(&f);
}

void interop_bus_raw(const struct interop_case *c)
{
    struct flow f;

    flow_up(&f, c, true, FLOW_PEERS);
    flow_check(sp_send(f.own, "up", 2, 0), "send");
    for (int i = 0; i < FLOW_PEERS; i++) {
        flow_expect_its(&f, i, "up");
    }
    for (int i = 0; i < FLOW_PEERS; i++) {
        sp_msg *m = NULL;

        assert_int_equal(c->ops->send(f.its[i], "pass on", 7), 0);
        flow_check(sp_recvmsg(f.own, &m, 0), "receive");
        assert_int_equal(sp_msg_header_len(m), 4);
        flow_check(sp_sendmsg(f.own, m, 0), "send");
        for (int k = 0; k < FLOW_PEERS; k++) {
            if (k != i) {
                flow_expect_its(&f, k, "pass on");
            }
        }
    }
    // What comes next is this: none of them got back what it had sent.
    flow_check(sp_send(f.own, "end", 3, 0), "send");
    for (int i = 0; i < FLOW_PEERS; i++) {
        flow_expect_its(&f, i, "end");
    }
    flow_down(&f);
}

/* ------------------------------------------------------------------ Many peers of a PAIR */

void interop_many(const struct interop_case *c)
{
    struct flow f;

    flow_up(&f, c, false, FLOW_PEERS);
    for (int i = 0; i < 10 * FLOW_PEERS; i++) {
        char text[16];
        sp_msg *m = NULL;

        (void)snprintf(text, sizeof(text), "I am %d", i % FLOW_PEERS);
        assert_int_equal(c->ops->send(f.its[i % FLOW_PEERS], text, strlen(text)), 0);
        flow_check(sp_recvmsg(f.own, &m, 0), "receive");
        flow_check(sp_sendmsg(f.own, m, 0), "send");
        flow_expect_its(&f, i % FLOW_PEERS, text);
    }
    flow_down(&f);
}

void interop_one_of_many(const struct interop_case *c)
{
    struct flow f;

    flow_up(&f, c, false, 1);
    for (int i = 0; i < 10; i++) {
        flow_check(sp_send(f.own, "hello", 5, 0), "send");
        flow_expect_its(&f, 0, "hello");
        assert_int_equal(c->ops->send(f.its[0], "you too", 7), 0);
        flow_expect_own(&f, "you too");
    }
    flow_down(&f);
}
