/* SPDX-License-Identifier: MIT */
/// Scenarios between two implementations. Everything runs on one thread: one side sends, then the
/// other receives.
#include "interop.h"

#include "proc.h"

#include <sp/sp.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define INTEROP_MAX (1 << 20)
#define INTEROP_COUNT 1000
#define INTEROP_BATCH 50
#define INTEROP_RESEND_MS 200

/// A pair of sockets that are to talk.
struct interop_link {
    const struct interop_case *c;
    sp_socket own;
    int its;
    char url[256];
    char *dir; ///< of a socket file
};

/* ------------------------------------------------------------------ Links */

static void interop_check(int err, const char *what)
{
    if (err < 0) {
        fail_msg("%s: %s (%s)", what, sp_strerror(err), sp_error_detail());
    }
}

static void interop_open_own(struct interop_link *l)
{
    interop_check(sp_open(&l->own, l->c->own), "open");
    interop_check(sp_set_int(l->own.id, "recv-timeout", INTEROP_SOON), "recv-timeout");
    interop_check(sp_set_int(l->own.id, "send-timeout", INTEROP_SOON), "send-timeout");
}

static void interop_open_its(struct interop_link *l)
{
    l->its = l->c->ops->open(l->c->its);
    assert_true(l->its >= 0);
}

static void interop_make_url(struct interop_link *l)
{
    switch (l->c->transport) {
    case INTEROP_TCP:
        (void)snprintf(l->url, sizeof(l->url), "tcp://127.0.0.1:%d", proc_free_port());
        break;
    case INTEROP_TCP6:
        (void)snprintf(l->url, sizeof(l->url), "tcp://[::1]:%d", proc_free_port());
        break;
    case INTEROP_IPC:
        l->dir = proc_mkdir();
        (void)snprintf(l->url, sizeof(l->url), "ipc://%s/socket", l->dir);
        break;
    case INTEROP_ABSTRACT:
        (void)snprintf(l->url, sizeof(l->url), "abstract://sp-test-%d", (int)getpid());
        break;
    }
}

/// Connects for the first time; whoever listens is first.
static void interop_connect(struct interop_link *l)
{
    if (l->c->own_listens) {
        interop_check(sp_listen(l->own, l->url, NULL), "listen");
        assert_int_equal(l->c->ops->dial(l->its, l->url), 0);
    } else {
        assert_int_equal(l->c->ops->listen(l->its, l->url), 0);
        interop_check(sp_dial(l->own, l->url, NULL, 0), "dial");
    }
}

static void interop_up(struct interop_link *l, const struct interop_case *c)
{
    memset(l, 0, sizeof(*l));
    l->c = c;
    interop_make_url(l);
    interop_open_own(l);
    interop_open_its(l);
    interop_connect(l);
}

static void interop_down(struct interop_link *l)
{
    interop_check(sp_close(l->own), "close");
    l->c->ops->close(l->its);
    if (l->dir != NULL) {
        proc_rmdir(l->dir);
    }
}

/* ------------------------------------------------------------------ Messages */

/// Content that shows a message that was cut, shifted or mixed up.
static void interop_fill(unsigned char *buf, size_t len, unsigned seed)
{
    uint32_t x = seed * 2654435761U + 1U;

    for (size_t i = 0; i < len; i++) {
        x = x * 1664525U + 1013904223U;
        buf[i] = (unsigned char)(x >> 24);
    }
}

static void interop_send_own(struct interop_link *l, const void *data, size_t len)
{
    interop_check(sp_send(l->own, data, len, 0), "send");
}

/// Receives on our side and compares.
static void interop_expect_own(struct interop_link *l, const void *data, size_t len)
{
    sp_msg *m = NULL;

    interop_check(sp_recvmsg(l->own, &m, 0), "receive");
    assert_int_equal(sp_msg_len(m), len);
    assert_memory_equal(sp_msg_view(m), data, len);
    sp_msg_release(m);
}

static void interop_send_its(struct interop_link *l, const void *data, size_t len)
{
    assert_int_equal(l->c->ops->send(l->its, data, len), 0);
}

static void interop_expect_its(struct interop_link *l, const void *data, size_t len)
{
    unsigned char *buf = malloc(INTEROP_MAX + 1);
    long n;

    assert_non_null(buf);
    n = l->c->ops->recv(l->its, buf, INTEROP_MAX + 1);
    assert_int_equal(n, len);
    assert_memory_equal(buf, data, len);
    free(buf);
}

/// One message there and one back; a REP waits to be asked.
static void interop_exchange(struct interop_link *l, size_t len, unsigned seed)
{
    unsigned char *there = malloc(len + 1);
    unsigned char *back = malloc(len + 1);

    assert_non_null(there);
    assert_non_null(back);
    interop_fill(there, len, seed);
    interop_fill(back, len, ~seed);
    if (strcmp(l->c->own, "rep") != 0) {
        interop_send_own(l, there, len);
        interop_expect_its(l, there, len);
        interop_send_its(l, back, len);
        interop_expect_own(l, back, len);
    } else {
        interop_send_its(l, there, len);
        interop_expect_own(l, there, len);
        interop_send_own(l, back, len);
        interop_expect_its(l, back, len);
    }
    free(there);
    free(back);
}

/* ------------------------------------------------------------------ Scenarios */

void interop_sizes(const struct interop_case *c)
{
    static const size_t sizes[] = {0,     1,     2,     3,     4,      5,          8,    121,
                                   122,   123,   124,   125,   126,    127,        128,  255,
                                   256,   1023,  1024,  1025,  4096,   8191,       8192, 16384,
                                   65531, 65535, 65536, 65537, 100000, INTEROP_MAX};
    struct interop_link l;

    interop_up(&l, c);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        interop_exchange(&l, sizes[i], i);
    }
    interop_down(&l);
}

void interop_order(const struct interop_case *c)
{
    struct interop_link l;
    unsigned char body[64];

    interop_up(&l, c);
    interop_exchange(&l, 1, 0); // connected for certain
    for (unsigned base = 0; base < INTEROP_COUNT; base += INTEROP_BATCH) {
        for (unsigned i = base; i < base + INTEROP_BATCH; i++) {
            interop_fill(body, i % sizeof(body), i);
            interop_send_own(&l, body, i % sizeof(body));
        }
        for (unsigned i = base; i < base + INTEROP_BATCH; i++) {
            interop_fill(body, i % sizeof(body), i);
            interop_expect_its(&l, body, i % sizeof(body));
            interop_send_its(&l, body, i % sizeof(body));
        }
        for (unsigned i = base; i < base + INTEROP_BATCH; i++) {
            interop_fill(body, i % sizeof(body), i);
            interop_expect_own(&l, body, i % sizeof(body));
        }
    }
    interop_down(&l);
}

void interop_peer_restarts(const struct interop_case *c)
{
    struct interop_link l;

    interop_up(&l, c);
    interop_exchange(&l, 100, 1);
    c->ops->close(l.its);
    interop_open_its(&l);
    if (c->own_listens) {
        assert_int_equal(c->ops->dial(l.its, l.url), 0);
    } else {
        assert_int_equal(c->ops->listen(l.its, l.url), 0);
    }
    interop_exchange(&l, 100, 2);
    interop_down(&l);
}

void interop_own_restarts(const struct interop_case *c)
{
    struct interop_link l;

    interop_up(&l, c);
    interop_exchange(&l, 100, 1);
    interop_check(sp_close(l.own), "close");
    interop_open_own(&l);
    if (c->own_listens) {
        interop_check(sp_listen(l.own, l.url, NULL), "listen");
    } else {
        interop_check(sp_dial(l.own, l.url, NULL, 0), "dial");
    }
    interop_exchange(&l, 100, 2);
    interop_down(&l);
}

void interop_resend(const struct interop_case *c)
{
    struct interop_link l;
    bool own_asks = strcmp(c->own, "req") == 0;

    interop_up(&l, c);
    if (own_asks) {
        interop_check(sp_set_int(l.own.id, "req:resend-time", INTEROP_RESEND_MS), "resend");
        interop_send_own(&l, "please", 6);
        interop_expect_its(&l, "please", 6);
        interop_expect_its(&l, "please", 6);
        interop_send_its(&l, "done", 4);
        interop_expect_own(&l, "done", 4);
    } else {
        assert_int_equal(c->ops->resend_time(l.its, INTEROP_RESEND_MS), 0);
        interop_send_its(&l, "please", 6);
        interop_expect_own(&l, "please", 6);
        interop_expect_own(&l, "please", 6);
        interop_send_own(&l, "done", 4);
        interop_expect_its(&l, "done", 4);
    }
    interop_down(&l);
}

void interop_wrong_peer(const struct interop_case *c)
{
    struct interop_link l = {.c = c};
    long long start = proc_now();

    interop_make_url(&l);
    interop_open_own(&l);
    interop_open_its(&l);
    assert_int_equal(c->ops->listen(l.its, l.url), 0);
    assert_int_equal(sp_dial(l.own, l.url, NULL, 0), SP_EPROTO);
    assert_true(proc_now() - start < INTEROP_SOON);
    interop_down(&l);
}
