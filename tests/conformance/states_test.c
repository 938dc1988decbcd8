/* SPDX-License-Identifier: MIT */
/// What sending, receiving, polling and opening a context give in each state of each protocol; and
/// on a closed socket, on a wrong handle, and inside a callback.
#include "conform.h"

#include <stdio.h>
#include <string.h>

enum state {
    ALONE,     ///< no peer
    CONNECTED, ///< nothing sent
    ASKED,     ///< it sent a question
    HOLDING,   ///< it received a question
    ANSWERED   ///< the answer to its question is there
};
static const char *const state_names[] = {"alone", "connected", "asked", "holding", "answered"};

struct row {
    const char *protocol;
    const char *peer;
    enum state state;
    int recv; ///< without waiting; SP_OK: a message
    int send;
    short poll;
    int ctx; ///< of sp_ctx_open
    bool raw;
};

#define NOTSUP SP_ENOTSUP
#define IN SP_POLLIN
#define OUT SP_POLLOUT

static const struct row rows[] = {
    {"pair", "pair", ALONE, SP_EAGAIN, SP_ENOPEER, 0, NOTSUP, false},
    {"pair", "pair", CONNECTED, SP_EAGAIN, SP_OK, OUT, NOTSUP, false},
    {"pair1", "pair1", ALONE, SP_EAGAIN, SP_ENOPEER, 0, NOTSUP, false},
    {"pair1", "pair1", CONNECTED, SP_EAGAIN, SP_OK, OUT, NOTSUP, false},
    {"req", "rep", ALONE, SP_ESTATE, SP_ENOPEER, 0, SP_OK, false},
    {"req", "rep", CONNECTED, SP_ESTATE, SP_OK, OUT, SP_OK, false},
    {"req", "rep", ASKED, SP_EAGAIN, SP_OK, OUT, SP_OK, false},
    {"req", "rep", ANSWERED, SP_OK, SP_OK, IN | OUT, SP_OK, false},
    {"rep", "req", ALONE, SP_EAGAIN, SP_ESTATE, 0, SP_OK, false},
    {"rep", "req", CONNECTED, SP_EAGAIN, SP_ESTATE, 0, SP_OK, false},
    {"rep", "req", HOLDING, SP_EAGAIN, SP_OK, OUT, SP_OK, false},
    {"push", "pull", ALONE, NOTSUP, SP_ENOPEER, 0, NOTSUP, false},
    {"push", "pull", CONNECTED, NOTSUP, SP_OK, OUT, NOTSUP, false},
    {"pull", "push", ALONE, SP_EAGAIN, NOTSUP, 0, NOTSUP, false},
    {"pull", "push", CONNECTED, SP_EAGAIN, NOTSUP, 0, NOTSUP, false},
    {"pub", "sub", ALONE, NOTSUP, SP_OK, OUT, NOTSUP, false},
    {"pub", "sub", CONNECTED, NOTSUP, SP_OK, OUT, NOTSUP, false},
    {"sub", "pub", ALONE, SP_EAGAIN, NOTSUP, 0, SP_OK, false},
    {"sub", "pub", CONNECTED, SP_EAGAIN, NOTSUP, 0, SP_OK, false},
    {"bus", "bus", ALONE, SP_EAGAIN, SP_OK, OUT, NOTSUP, false},
    {"bus", "bus", CONNECTED, SP_EAGAIN, SP_OK, OUT, NOTSUP, false},
    {"surveyor", "respondent", ALONE, SP_ESTATE, SP_OK, OUT, SP_OK, false},
    {"surveyor", "respondent", CONNECTED, SP_ESTATE, SP_OK, OUT, SP_OK, false},
    {"surveyor", "respondent", ASKED, SP_EAGAIN, SP_OK, OUT, SP_OK, false},
    {"surveyor", "respondent", ANSWERED, SP_OK, SP_OK, IN | OUT, SP_OK, false},
    {"respondent", "surveyor", ALONE, SP_EAGAIN, SP_ESTATE, 0, SP_OK, false},
    {"respondent", "surveyor", CONNECTED, SP_EAGAIN, SP_ESTATE, 0, SP_OK, false},
    {"respondent", "surveyor", HOLDING, SP_EAGAIN, SP_OK, OUT, SP_OK, false},
    // Raw: no state is kept.
    {"pair", "pair", ALONE, SP_EAGAIN, SP_ENOPEER, 0, NOTSUP, true},
    {"pair1", "pair1", ALONE, SP_EAGAIN, SP_ENOPEER, 0, NOTSUP, true},
    {"req", "rep", ALONE, SP_EAGAIN, SP_ENOPEER, 0, NOTSUP, true},
    {"req", "rep", CONNECTED, SP_EAGAIN, SP_OK, OUT, NOTSUP, true},
    {"rep", "req", ALONE, SP_EAGAIN, SP_OK, OUT, NOTSUP, true},
    {"rep", "req", CONNECTED, SP_EAGAIN, SP_OK, OUT, NOTSUP, true},
    {"push", "pull", ALONE, NOTSUP, SP_ENOPEER, 0, NOTSUP, true},
    {"pull", "push", ALONE, SP_EAGAIN, NOTSUP, 0, NOTSUP, true},
    {"pub", "sub", CONNECTED, NOTSUP, SP_OK, OUT, NOTSUP, true},
    {"sub", "pub", CONNECTED, SP_EAGAIN, NOTSUP, 0, NOTSUP, true},
    {"bus", "bus", ALONE, SP_EAGAIN, SP_OK, OUT, NOTSUP, true},
    {"surveyor", "respondent", CONNECTED, SP_EAGAIN, SP_OK, OUT, NOTSUP, true},
    {"respondent", "surveyor", CONNECTED, SP_EAGAIN, SP_OK, OUT, NOTSUP, true},
};

static void bring_to_state(const struct row *r, sp_socket s, sp_socket peer)
{
    char url[256];

    if (r->state == ALONE) {
        return;
    }
    check_listen(s, conform.transport, url, NULL);
    check_ok(sp_dial(peer, url, NULL, 0));
    check_pipes(s, 1);
    check_pipes(peer, 1);
    if (r->state == HOLDING) {
        check_send(peer, "question");
        check_recv(s, "question");
    } else if (r->state != CONNECTED) {
        check_send(s, "question");
    }
    if (r->state == ANSWERED) {
        check_recv(peer, "question");
        check_send(peer, "answer");
        check_rc(1, sp_poll(&(sp_pollitem){.id = s.id, .events = SP_POLLIN}, 1, CHECK_SOON));
    }
}

static void check_row(const struct row *r)
{
    sp_pollitem item = {.events = IN | OUT};
    sp_socket s = {0};
    sp_socket peer = check_open(r->peer);
    sp_ctx ctx = {0};
    char buf[64];
    ssize_t n;

    print_message("%s%s, %s\n", r->protocol, r->raw ? " (raw)" : "", state_names[r->state]);
    if (r->raw) {
        check_ok(sp_open_raw(&s, r->protocol));
    } else {
        s = check_open(r->protocol);
    }
    bring_to_state(r, s, peer);
    item.id = s.id;
    check_rc(r->poll != 0, sp_poll(&item, 1, 0));
    assert_int_equal(item.revents, r->poll);
    n = sp_recv(s, buf, sizeof(buf), SP_NONBLOCK);
    check_rc(r->recv, n > 0 ? SP_OK : n);
    check_rc(r->send, sp_send(s, "x", 1, SP_NONBLOCK));
    check_rc(r->ctx, sp_ctx_open(&ctx, s));
    check_ok(sp_close(s));
    check_ok(sp_close(peer));
}

static void calls_give_what_the_state_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        check_row(&rows[i]);
    }
}

static int no_pipe(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    (void)s;
    (void)p;
    (void)ev;
    (void)arg;
    return 0;
}

static void every_call_on_a_closed_socket_says_so(void **state)
{
    sp_socket both[2];
    sp_peer_info info = {.size = sizeof(info)};
    size_t one = 1;
    int64_t v;
    char *json;
    sp_ctx ctx;
    sp_msg *m = NULL;

    (void)state;
    conform_couple(&both[0], &both[1]);
    check_ok(sp_msg_new(&m, 1));
    for (unsigned i = 0; i < 2; i++) {
        sp_socket s = both[i];
        sp_pollitem item = {.id = s.id, .events = IN | OUT};

        check_ok(sp_close(s));
        check_rc(SP_ECLOSED, sp_close(s));
        check_rc(SP_ECLOSED, sp_send(s, "x", 1, 0));
        check_rc(SP_ECLOSED, sp_sendmsg(s, m, 0));
        check_rc(SP_ECLOSED, sp_recv(s, &v, sizeof(v), 0));
        check_rc(SP_ECLOSED, sp_ctx_open(&ctx, s));
        check_rc(SP_ECLOSED, sp_listen(s, "inproc://closed", NULL));
        check_rc(SP_ECLOSED, sp_dial(s, "inproc://closed", NULL, SP_NONBLOCK));
        check_rc(SP_ECLOSED, sp_set_int(s.id, "linger", 0));
        check_rc(SP_ECLOSED, sp_get_int(s.id, "linger", &v));
        check_rc(SP_ECLOSED, sp_peers(s, &info, &one));
        check_rc(SP_ECLOSED, sp_stats(s.id, &json));
        check_rc(SP_ECLOSED, sp_on_pipe(s, no_pipe, NULL));
        check_rc(1, sp_poll(&item, 1, 0));
        assert_int_equal(item.revents, SP_POLLHUP);
    }
    sp_msg_release(m);
}

static void other_handles_are_no_socket(void **state)
{
    sp_socket s = conform_sender();
    sp_listener l = {0};
    char url[256];
    char c;

    (void)state;
    check_listen(s, conform.transport, url, &l);
    check_rc(SP_EINVAL, sp_send((sp_socket){l.id}, "x", 1, 0));
    check_rc(SP_EINVAL, sp_recv((sp_socket){l.id}, &c, 1, 0));
    check_rc(SP_EINVAL, sp_close((sp_socket){l.id}));
    check_rc(SP_EINVAL, sp_send((sp_socket){0}, "x", 1, 0));
    check_rc(SP_EINVAL, sp_recv((sp_socket){0}, &c, 1, 0));
}

/// Results of calls inside the function for pipe events.
struct inside {
    sp_socket s;
    long recv;
    long close;
    long dial;
    int done;
};

static int call_inside(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    struct inside *in = arg;
    char c;

    (void)p;
    if (ev == SP_PIPE_ADDED) {
        in->recv = sp_recv(s, &c, 1, 0);
        in->dial = sp_dial(s, "inproc://nobody", NULL, 0);
        __atomic_store_n(&in->done, 1, __ATOMIC_RELEASE);
    }
    return 0;
}

static void calls_that_would_wait_are_refused_in_a_callback(void **state)
{
    sp_socket sender = conform_sender();
    sp_socket receiver = conform_receiver();
    struct inside in = {.s = receiver};

    (void)state;
    check_ok(sp_on_pipe(receiver, call_inside, &in));
    conform_connect(&sender, 1, &receiver, 1);
    check_until(__atomic_load_n(&in.done, __ATOMIC_ACQUIRE) != 0);
    check_rc(SP_ESTATE, in.recv);
    check_rc(SP_ESTATE, in.dial);
    conform_exchange(sender, receiver, 1);
}

int main(int argc, char **argv)
{
    static const struct conform_fact each_transport[] = {
        conform_fact(calls_give_what_the_state_says, 0, 0),
    };
    static const struct conform_fact each_pattern[] = {
        conform_fact(every_call_on_a_closed_socket_says_so, 0, 0),
        conform_fact_once(other_handles_are_no_socket, 0, 0),
        conform_fact(calls_that_would_wait_are_refused_in_a_callback, 0, 0),
    };
    int failed = conform_run_transports(each_transport, 1);

    (void)argc;
    (void)argv;
    return failed + conform_run(each_pattern, 3);
}
