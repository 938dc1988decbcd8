/* SPDX-License-Identifier: MIT */
/// `sp cat` does what nngcat does: both run with the same options against the same scripted peer;
/// what they print, what the peer gets, and how they end must be the same.
#include "peer_cat.h"
#include "rawsp.h"

#include <poll.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/// What the peer does: sends `first` messages when it is connected, and `replies` to each that it
/// gets.
struct behaviour {
    const char *name;
    const char *args;
    uint16_t peer; ///< the protocol that the peer is
    int first;
    int replies;
    int min_ms; ///< what the options make it take at least
};

/// One program and what was seen of it.
struct behaviour_trace {
    struct proc proc;
    int listener;
    int fd;        ///< its connection; -1: it hung up
    char got[512]; ///< bodies that the peer got, each in angle brackets
    int code;
    long long ms;
};

static const struct behaviour behaviours[] = {
    {"pair_receives_count", "--pair0 -Q -C 2", RAWSP_PAIR, 3, 0, 0},
    {"pair_receives_until_timeout", "--pair0 -Q --recv-timeout 1", RAWSP_PAIR, 3, 0, 1000},
    {"pair_receives_less_than_count", "--pair0 -Q --recv-timeout 1 -C 5", RAWSP_PAIR, 3, 0, 1000},
    {"pair_sends_and_receives", "--pair0 -Q -D x --recv-timeout 1", RAWSP_PAIR, 2, 1, 1000},
    {"pair_sends_at_intervals", "--pair0 -Q -D x -i 1 -C 2", RAWSP_PAIR, 2, 1, 2000},
    {"pair_waits_an_interval_at_the_end", "--pair0 -D x -i 1 -C 1", RAWSP_PAIR, 0, 0, 1000},
    {"pair_delays", "--pair0 -D x -d 1 -i 1 -C 1", RAWSP_PAIR, 0, 0, 2000},
    {"pair1_sends_and_receives", "--pair1 -Q -D x --recv-timeout 1", RAWSP_PAIR1, 2, 1, 1000},
    {"pair1_sends_at_intervals", "--pair1 -Q -D x -i 1 -C 2", RAWSP_PAIR1, 1, 1, 2000},
    {"req_prints_the_reply", "--req -Q -D x", RAWSP_REP, 0, 1, 0},
    {"req_takes_one_reply", "--req0 -Q -D x", RAWSP_REP, 0, 3, 0},
    {"req_asks_without_printing", "--req -D x", RAWSP_REP, 0, 1, 0},
    {"req_asks_at_intervals", "--req -A -D x -i 1 -C 2", RAWSP_REP, 0, 1, 1000},
    {"req_asks_again_without_reply", "--req -A -D x -i 1 -C 2", RAWSP_REP, 0, 0, 2000},
    {"req_gives_up", "--req -Q -D x --recv-timeout 1", RAWSP_REP, 0, 0, 1000},
    {"req_timeout_is_shorter", "--req -Q -D x --recv-timeout 1 -i 2 -C 1", RAWSP_REP, 0, 0, 1000},
    {"req_delays", "--req -Q -D x --delay 1", RAWSP_REP, 0, 1, 1000},
    {"rep_answers_count", "--rep -Q -D x -C 2", RAWSP_REQ, 2, 0, 0},
    {"rep_without_data_receives", "--rep -Q -C 2", RAWSP_REQ, 2, 0, 0},
    {"rep_without_data_times_out", "--rep -Q --recv-timeout 1", RAWSP_REQ, 2, 0, 1000},
    {"surveyor_prints_all_answers", "--surveyor -Q -D x", RAWSP_RESPONDENT, 0, 3, 1000},
    {"surveyor_without_answers", "--surveyor0 -Q -D x", RAWSP_RESPONDENT, 0, 0, 1000},
    {"surveyor_surveys_at_intervals", "--surveyor -Q -D x -i 2 -C 2", RAWSP_RESPONDENT, 0, 2, 2000},
    // No interval of 1 s: where a survey begins as the one before runs out, libnng 1.5.2 now and
    // then locks itself.
    {"respondent_answers_count", "--respondent -Q -D x -C 2", RAWSP_SURVEYOR, 2, 0, 0},
    {"respondent_without_data_receives", "--respondent0 -Q -C 2", RAWSP_SURVEYOR, 2, 0, 0},
    {"push_sends_once", "--push -D x", RAWSP_PULL, 0, 0, 0},
    {"push_sends_at_intervals", "--push0 -D x -i 1 -C 2", RAWSP_PULL, 0, 0, 1000},
    {"push_delays", "--push -D x -d 1 -C 1", RAWSP_PULL, 0, 0, 1000},
    {"pull_receives_count", "--pull -Q -C 2", RAWSP_PUSH, 3, 0, 0},
    {"pull_receives_until_timeout", "--pull0 -A --recv-timeout 1", RAWSP_PUSH, 3, 0, 1000},
    {"bus_receives_count", "--bus -Q -C 2", RAWSP_BUS, 3, 0, 0},
    {"bus_sends_and_receives", "--bus -Q -D x --recv-timeout 1", RAWSP_BUS, 2, 1, 1000},
    {"bus_sends_at_intervals", "--bus0 -Q -D x -i 1 -C 2", RAWSP_BUS, 2, 1, 2000},
};

#define BEHAVIOURS (sizeof(behaviours) / sizeof(behaviours[0]))

static bool behaviour_has_header(const struct behaviour *b)
{
    return b->peer != RAWSP_PAIR && b->peer != RAWSP_PUSH && b->peer != RAWSP_PULL &&
           b->peer != RAWSP_BUS;
}

/// The header of message `i` that the peer sends on its own.
static size_t behaviour_header(const struct behaviour *b, int i, unsigned char *header)
{
    static const unsigned char one_hop[4] = {0, 0, 0, 1};
    unsigned char request[4] = {0x80, 0, 0, (unsigned char)i};

    if (b->peer == RAWSP_PAIR1 || b->peer == RAWSP_REQ || b->peer == RAWSP_SURVEYOR) {
        memcpy(header, b->peer == RAWSP_PAIR1 ? one_hop : request, 4);
        return 4;
    }
    return 0;
}

/// Starts the program and sends what the peer says first.
static void behaviour_start(const struct behaviour *b, enum peer_program which,
                            struct behaviour_trace *t)
{
    unsigned char header[4];
    int port = 0;

    memset(t, 0, sizeof(*t));
    t->listener = rawsp_listen(&port);
    t->ms = proc_now();
    assert_true(t->listener >= 0);
    assert_int_equal(peer_start(&t->proc, which, "%s --connect tcp://127.0.0.1:%d", b->args, port),
                     0);
    t->fd = rawsp_accept(t->listener, b->peer, NULL, PROC_SOON);
    assert_true(t->fd >= 0);
    for (int i = 0; i < b->first; i++) {
        char body[16];

        (void)snprintf(body, sizeof(body), "m%d", i);
        assert_int_equal(rawsp_send(t->fd, header, behaviour_header(b, i, header), body, 2), 0);
    }
}

/// Takes one message from the program and answers it, or notices that it hung up.
static void behaviour_step(const struct behaviour *b, struct behaviour_trace *t)
{
    size_t skipped = behaviour_has_header(b) ? 4 : 0; // the header of what it gets
    size_t used = strlen(t->got);
    unsigned char header[4];
    size_t header_len = behaviour_header(b, 0, header);
    char buf[64];
    long n = rawsp_recv(t->fd, buf, sizeof(buf) - 1, PROC_SOON);

    if (n < 0) {
        t->ms = proc_now() - t->ms;
        (void)close(t->fd);
        (void)close(t->listener);
        t->fd = -1;
        return;
    }
    buf[n] = '\0';
    assert_true((size_t)n >= skipped);
    (void)snprintf(t->got + used, sizeof(t->got) - used, "<%s>", buf + skipped);
    if (b->peer == RAWSP_REP || b->peer == RAWSP_RESPONDENT) {
        memcpy(header, buf, 4);
        header_len = 4;
    }
    for (int i = 0; i < b->replies; i++) {
        (void)rawsp_send(t->fd, header, header_len, "reply", 5); // it may be gone by then
    }
}

/// Plays the peer of both until they have hung up and ended.
static void behaviour_play(const struct behaviour *b, struct behaviour_trace traces[2])
{
    while (traces[0].fd >= 0 || traces[1].fd >= 0) {
        struct pollfd items[2] = {{.fd = traces[0].fd, .events = POLLIN},
                                  {.fd = traces[1].fd, .events = POLLIN}};

        if (poll(items, 2, PROC_SOON) <= 0) {
            fail_msg("neither program does anything");
        }
        for (int i = 0; i < 2; i++) {
            if (items[i].revents != 0) {
                behaviour_step(b, &traces[i]);
            }
        }
    }
    for (int i = 0; i < 2; i++) {
        traces[i].code = proc_wait(&traces[i].proc, PROC_SOON);
    }
}

static const char *behaviour_text(const struct proc_bytes *bytes)
{
    return bytes->data != NULL ? bytes->data : "";
}

static void behaviour_is_nngcats(void **state)
{
    const struct behaviour *b = *state;
    struct behaviour_trace traces[2];
    const struct behaviour_trace *ours = &traces[0];
    const struct behaviour_trace *theirs = &traces[1];

    if (!peer_exists(PEER_NNGCAT)) {
        skip();
    }
    behaviour_start(b, PEER_SP, &traces[0]);
    behaviour_start(b, PEER_NNGCAT, &traces[1]);
    behaviour_play(b, traces);
    assert_string_equal(behaviour_text(&ours->proc.errors), "");
    assert_int_equal(theirs->code, 0);
    assert_int_equal(ours->code, 0);
    assert_string_equal(ours->got, theirs->got);
    assert_string_equal(behaviour_text(&ours->proc.output), behaviour_text(&theirs->proc.output));
    assert_true(ours->ms >= b->min_ms);
    assert_true(ours->ms < b->min_ms + PROC_SOON / 2);
    proc_stop(&traces[0].proc);
    proc_stop(&traces[1].proc);
}

int main(void)
{
    struct CMUnitTest tests[BEHAVIOURS];

    for (size_t i = 0; i < BEHAVIOURS; i++) {
        // cmocka hands the state on as it is; the test only reads it.
        tests[i] = (struct CMUnitTest){.name = behaviours[i].name,
                                       .test_func = behaviour_is_nngcats,
                                       .initial_state = (void *)(uintptr_t)&behaviours[i]};
    }
    peer_environment();
    return cmocka_run_group_tests_name("cat_behaviour", tests, NULL, NULL);
}
