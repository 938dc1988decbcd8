/* SPDX-License-Identifier: MIT */
/// Scenarios of SURVEY between two implementations: one surveyor on one side, several respondents
/// on the other. Everything runs on one thread.
#include "interop.h"

#include "check.h"
#include "proc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VOTERS 3
#define SURVEY_MS 200
#define SURVEY_MAX 100000

/// A surveyor and its respondents; `own` and `its` have one of them each.
struct poll {
    const struct interop_case *c;
    bool own_asks;
    sp_socket own[VOTERS];
    int its[VOTERS];
    char url[VOTERS][256];
    char *dir;
};

static void poll_url(struct poll *p, int i)
{
    if (p->c->transport == INTEROP_IPC) {
        p->dir = p->dir == NULL ? proc_mkdir() : p->dir;
        (void)snprintf(p->url[i], sizeof(p->url[i]), "ipc://%s/%d", p->dir, i);
    } else {
        (void)snprintf(p->url[i], sizeof(p->url[i]), "tcp://127.0.0.1:%d", proc_free_port());
    }
}

/// Whoever listens is first; a socket that is alone listens once for all.
static void poll_connect(struct poll *p)
{
    bool once = p->own_asks == p->c->own_listens;

    for (int i = 0; i < VOTERS; i++) {
        const char *url = p->url[once ? 0 : i];
        sp_socket own = p->own[p->own_asks ? 0 : i];
        int its = p->its[p->own_asks ? i : 0];

        if (!once || i == 0) {
            poll_url(p, i);
        }
        if (p->c->own_listens) {
            if (!once || i == 0) {
                check_ok(sp_listen(own, url, NULL));
            }
            assert_int_equal(p->c->ops->dial(its, url), 0);
        } else {
            if (!once || i == 0) {
                assert_int_equal(p->c->ops->listen(its, url), 0);
            }
            check_ok(sp_dial(own, url, NULL, 0));
        }
    }
}

static void poll_survey_time(struct poll *p, int ms)
{
    if (p->own_asks) {
        check_ok(sp_set_int(p->own[0].id, "surveyor:survey-time", ms));
    } else {
        assert_int_equal(p->c->ops->survey_time(p->its[0], ms), 0);
    }
}

static void poll_ask(struct poll *p, const void *data, size_t len)
{
    if (p->own_asks) {
        check_ok(sp_send(p->own[0], data, len, 0));
    } else {
        assert_int_equal(p->c->ops->send(p->its[0], data, len), 0);
    }
}

/// The next answer's length, or negative.
static long poll_collect(struct poll *p, void *buf)
{
    return p->own_asks ? (long)sp_recv(p->own[0], buf, SURVEY_MAX, 0)
                       : p->c->ops->recv(p->its[0], buf, SURVEY_MAX);
}

static long poll_hear(struct poll *p, int i, void *buf)
{
    return p->own_asks ? p->c->ops->recv(p->its[i], buf, SURVEY_MAX)
                       : (long)sp_recv(p->own[i], buf, SURVEY_MAX, 0);
}

static void poll_answer(struct poll *p, int i, const void *data, size_t len)
{
    if (p->own_asks) {
        assert_int_equal(p->c->ops->send(p->its[i], data, len), 0);
    } else {
        check_ok(sp_send(p->own[i], data, len, 0));
    }
}

/// Surveys until everybody hears one, and all of them were taken.
static void poll_wait_for_all(struct poll *p)
{
    bool heard[VOTERS] = {false};
    char buf[16];
    int n = 0;

    if (p->own_asks) {
        check_pipes(p->own[0], VOTERS);
        return;
    }
    for (int64_t end = check_now() + INTEROP_SOON; n < VOTERS;) {
        assert_true(check_now() < end);
        poll_ask(p, "there?", 6);
        for (int i = 0; i < VOTERS; i++) {
            check_ok(sp_set_int(p->own[i].id, "recv-timeout", heard[i] ? 20 : 100));
            if (sp_recv(p->own[i], buf, sizeof(buf), 0) > 0 && !heard[i]) {
                heard[i] = true;
                n++;
            }
        }
    }
    for (int i = 0; i < VOTERS; i++) { // Nothing more is sent; what is on its way comes at once.
        while (sp_recv(p->own[i], buf, sizeof(buf), 0) > 0) {
        }
        check_ok(sp_set_int(p->own[i].id, "recv-timeout", INTEROP_SOON));
    }
}

static void poll_up(struct poll *p, const struct interop_case *c)
{
    memset(p, 0, sizeof(*p));
    p->c = c;
    p->own_asks = strcmp(c->own, "surveyor") == 0;
    for (int i = 0; i < (p->own_asks ? 1 : VOTERS); i++) {
        p->own[i] = check_open(c->own);
        check_ok(sp_set_int(p->own[i].id, "recv-timeout", INTEROP_SOON));
    }
    for (int i = 0; i < (p->own_asks ? VOTERS : 1); i++) {
        p->its[i] = c->ops->open(c->its);
        assert_true(p->its[i] >= 0);
    }
    poll_survey_time(p, INTEROP_SOON);
    poll_connect(p);
    poll_wait_for_all(p);
}

static void poll_down(struct poll *p)
{
    for (int i = 0; i < (p->own_asks ? 1 : VOTERS); i++) {
        check_rest(p->own[i]);
        check_ok(sp_close(p->own[i]));
    }
    for (int i = 0; i < (p->own_asks ? VOTERS : 1); i++) {
        p->c->ops->close(p->its[i]);
    }
    if (p->dir != NULL) {
        proc_rmdir(p->dir);
    }
}

/// A body of that length that shows who made it.
static void poll_fill(unsigned char *buf, size_t len, unsigned who)
{
    for (size_t i = 0; i < len; i++) {
        buf[i] = (unsigned char)(i * 31 + who * 7 + (i >> 8));
    }
}

/// One survey of `len` bytes, that everybody answers with one byte more, and his number.
static void poll_round(struct poll *p, size_t len)
{
    unsigned char *want = malloc(SURVEY_MAX);
    unsigned char *got = malloc(SURVEY_MAX);
    bool heard[VOTERS] = {false};

    assert_non_null(want);
    assert_non_null(got);
    poll_fill(want, len, 100);
    poll_ask(p, want, len);
    for (int i = 0; i < VOTERS; i++) {
        assert_int_equal(poll_hear(p, i, got), len);
        assert_memory_equal(got, want, len);
    }
    for (int i = 0; i < VOTERS; i++) {
        poll_fill(want, len, (unsigned)i);
        want[len] = (unsigned char)i;
        poll_answer(p, i, want, len + 1);
    }
    for (int i = 0; i < VOTERS; i++) {
        assert_int_equal(poll_collect(p, got), len + 1);
        assert_in_range(got[len], 0, VOTERS - 1);
        assert_false(heard[got[len]]);
        heard[got[len]] = true;
        poll_fill(want, len, got[len]);
        assert_memory_equal(got, want, len);
    }
    free(want);
    free(got);
}

void interop_survey(const struct interop_case *c)
{
    static const size_t sizes[] = {0, 1, 4, 100, 127, 128, 1024, 65535, SURVEY_MAX - 1};
    struct poll p;

    poll_up(&p, c);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        poll_round(&p, sizes[i]);
    }
    poll_down(&p);
}

void interop_survey_deadline(const struct interop_case *c)
{
    char *buf = malloc(SURVEY_MAX);
    struct poll p;
    int64_t start;

    assert_non_null(buf);
    poll_up(&p, c);
    poll_survey_time(&p, SURVEY_MS);
    start = check_now();
    poll_ask(&p, "late", 4);
    for (int i = 0; i < VOTERS; i++) {
        assert_int_equal(poll_hear(&p, i, buf), 4);
    }
    assert_true(poll_collect(&p, buf) < 0);
    assert_in_range(check_now() - start, SURVEY_MS - 1, INTEROP_SOON);
    for (int i = 0; i < VOTERS; i++) {
        poll_answer(&p, i, "too late", 8);
    }
    if (p.own_asks) {
        check_stat_is(p.own[0].id, "rx_drops.stale", VOTERS);
    }
    poll_survey_time(&p, INTEROP_SOON);
    poll_round(&p, 10); // None of the late ones is among the answers.
    poll_down(&p);
    free(buf);
}
