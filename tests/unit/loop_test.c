/* SPDX-License-Identifier: MIT */
/// Foreign loops: questions and answers over TCP with nobody blocked but in epoll, or in libuv
/// where that is installed; with threads of the library, and driven by the loop alone.
#include "check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#ifdef SP_TEST_UV
#include <uv.h>
#endif

#define QUESTIONS 200

static struct {
    sp_socket req;
    sp_socket rep;
    bool driven;
    unsigned asked;
    unsigned answered;
    unsigned vain; ///< times that the library was driven and had nothing to do
} talk;

enum { ASK, HEAR, ANSWER, DRIVE, WATCHES }; // What the loop waits for.

/// It may be asked: the next question, until there are enough.
static void on_ask(void)
{
    if (talk.asked == talk.answered && talk.asked < QUESTIONS) {
        check_ok(sp_send(talk.req, &talk.asked, sizeof(talk.asked), SP_NONBLOCK));
        talk.asked++;
    }
}

static void on_hear(void)
{
    unsigned n;

    check_rc(sizeof(n), sp_recv(talk.req, &n, sizeof(n), SP_NONBLOCK));
    assert_int_equal(n, talk.answered);
    talk.answered++;
    on_ask();
}

static void on_answer(void)
{
    unsigned n;

    check_rc(sizeof(n), sp_recv(talk.rep, &n, sizeof(n), SP_NONBLOCK));
    check_ok(sp_send(talk.rep, &n, sizeof(n), SP_NONBLOCK));
}

static void on_drive(void)
{
    int n = sp_run_once(0);

    assert_true(n >= 0);
    talk.vain += n == 0;
}

static void (*const on[WATCHES])(void) = {on_ask, on_hear, on_answer, on_drive};

/// The descriptor of each thing that the loop waits for. -1: not this time.
static int watch_fd(int what)
{
    int fd = what == ASK      ? sp_fd(talk.req.id, SP_POLLOUT)
             : what == HEAR   ? sp_fd(talk.req.id, SP_POLLIN)
             : what == ANSWER ? sp_fd(talk.rep.id, SP_POLLIN)
             : talk.driven    ? sp_fd(0, SP_POLLIN)
                              : -1;

    assert_true(fd >= 0 || (what == DRIVE && !talk.driven));
    return fd;
}

static void talk_begin(int threads)
{
    char url[256];

    check_init(threads);
    memset(&talk, 0, sizeof(talk));
    talk.driven = sp_fd(0, SP_POLLIN) >= 0;
    talk.req = check_open("req");
    talk.rep = check_open("rep");
    check_listen(talk.rep, "tcp", url, NULL);
    check_ok(sp_dial(talk.req, url, NULL, SP_NONBLOCK)); // The loop will connect it.
}

static void talk_end(void)
{
    assert_int_equal(talk.answered, QUESTIONS);
    print_message("driven %u times in vain\n", talk.vain);
    assert_true(talk.vain <= 2); // When the connection came up, at most.
    check_fini();
}

static bool talk_over(void)
{
    return talk.answered == QUESTIONS;
}

/* ------------------------------------------------------------------ epoll */

static void talk_in_epoll(int threads)
{
    int loop = epoll_create1(EPOLL_CLOEXEC);
    bool asks = true;

    assert_true(loop >= 0);
    talk_begin(threads);
    for (int i = 0; i < WATCHES; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data = {.u32 = (uint32_t)i}};
        int fd = watch_fd(i);

        if (fd >= 0) {
            assert_int_equal(epoll_ctl(loop, EPOLL_CTL_ADD, fd, &ev), 0);
        }
    }
    while (!talk_over()) {
        struct epoll_event ev[WATCHES];
        int n = epoll_wait(loop, ev, WATCHES, CHECK_SOON);

        assert_true(n > 0);
        for (int i = 0; i < n; i++) {
            on[ev[i].data.u32]();
            if (ev[i].data.u32 == ASK && asks) { // It begins; from then on answers lead on.
                asks = false;
                assert_int_equal(epoll_ctl(loop, EPOLL_CTL_DEL, watch_fd(ASK), NULL), 0);
            }
        }
    }
    (void)close(loop);
    talk_end();
}

static void epoll_waits_for_sockets(void **state)
{
    (void)state;
    talk_in_epoll(2);
}

static void epoll_drives_the_library(void **state)
{
    (void)state;
    talk_in_epoll(0);
}

/* ------------------------------------------------------------------ libuv */

#ifdef SP_TEST_UV
static void uv_ready(uv_poll_t *handle, int status, int events)
{
    int what = *(int *)handle->data;

    assert_int_equal(status, 0);
    assert_int_equal(events, UV_READABLE);
    on[what]();
    if (what == ASK) {
        (void)uv_poll_stop(handle);
    }
    if (talk_over()) {
        uv_stop(handle->loop);
    }
}

static void uv_late(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

static void talk_in_uv(int threads)
{
    uv_poll_t handles[WATCHES];
    int what[WATCHES];
    uv_timer_t late;
    uv_loop_t loop;

    assert_int_equal(uv_loop_init(&loop), 0);
    talk_begin(threads);
    for (int i = 0; i < WATCHES; i++) {
        int fd = watch_fd(i);

        what[i] = i;
        handles[i].data = &what[i];
        if (fd >= 0) {
            assert_int_equal(uv_poll_init(&loop, &handles[i], fd), 0);
            assert_int_equal(uv_poll_start(&handles[i], UV_READABLE, uv_ready), 0);
        }
    }
    assert_int_equal(uv_timer_init(&loop, &late), 0);
    assert_int_equal(uv_timer_start(&late, uv_late, CHECK_SOON, 0), 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    for (int i = 0; i < WATCHES; i++) {
        if (i != DRIVE || talk.driven) {
            uv_close((uv_handle_t *)&handles[i], NULL);
        }
    }
    uv_close((uv_handle_t *)&late, NULL);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    talk_end();
}
#endif

static void uv_waits_for_sockets(void **state)
{
    (void)state;
#ifdef SP_TEST_UV
    talk_in_uv(2);
#else
    print_message("skipped: libuv is not installed (cmake/install-deps.sh test)\n");
    skip();
#endif
}

static void uv_drives_the_library(void **state)
{
    (void)state;
#ifdef SP_TEST_UV
    talk_in_uv(0);
#else
    print_message("skipped: libuv is not installed (cmake/install-deps.sh test)\n");
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(epoll_waits_for_sockets),
        cmocka_unit_test(epoll_drives_the_library),
        cmocka_unit_test(uv_waits_for_sockets),
        cmocka_unit_test(uv_drives_the_library),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
