/* SPDX-License-Identifier: MIT */
/// PUSH and PULL: one way, to whoever has least to do; nothing is lost with a peer or at close.
#include "check.h"
#include "rawsp.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const transports[] = {"inproc", "ipc", "tcp"};

#define TRANSPORTS 3
#define WORKERS 4
#define FULL (3 * 128) // messages that one inproc worker holds when it takes none

/// A PUSH that listens, and workers that dialled it.
struct crew {
    sp_socket push;
    sp_socket pull[WORKERS];
    char url[256];
};

static void crew_up(struct crew *c, const char *transport, int workers)
{
    memset(c, 0, sizeof(*c));
    c->push = check_open("push");
    check_listen(c->push, transport, c->url, NULL);
    for (int i = 0; i < workers; i++) {
        c->pull[i] = check_open("pull");
        check_ok(sp_dial(c->pull[i], c->url, NULL, 0));
        check_pipes(c->push, i + 1);
    }
}

static void crew_down(struct crew *c)
{
    check_ok(sp_close(c->push));
    for (int i = 0; i < WORKERS; i++) {
        if (c->pull[i].id != 0) {
            check_ok(sp_close(c->pull[i]));
        }
    }
}

static void send_number(sp_socket s, int n)
{
    check_ok(sp_send(s, &n, sizeof(n), 0));
}

/// -1: nothing is there now.
static int take_number(sp_socket s)
{
    int n = -1;
    long rc = sp_recv(s, &n, sizeof(n), SP_NONBLOCK);

    if (rc != (long)sizeof(n)) {
        check_rc(SP_EAGAIN, rc);
    }
    return n;
}

static int recv_number(sp_socket s)
{
    int n = -1;

    check_rc(sizeof(n), sp_recv(s, &n, sizeof(n), 0));
    return n;
}

/// Takes what the workers have now; how many that is.
static int take_all(const struct crew *c)
{
    int n = 0;

    for (int w = 0; w < WORKERS; w++) {
        while (take_number(c->pull[w]) >= 0) {
            n++;
        }
    }
    return n;
}

/* ------------------------------------------------------------------ One way */

static void messages_arrive_in_order(void **state)
{
    (void)state;
    for (int t = 0; t < TRANSPORTS; t++) {
        struct crew c;

        crew_up(&c, transports[t], 1);
        for (int base = 0; base < 2000; base += 100) {
            for (int i = 0; i < 100; i++) {
                send_number(c.push, base + i);
            }
            for (int i = 0; i < 100; i++) {
                assert_int_equal(recv_number(c.pull[0]), base + i);
            }
        }
        check_rest(c.push);
        check_rest(c.pull[0]);
        crew_down(&c);
    }
}

static void push_does_not_receive_and_pull_does_not_send(void **state)
{
    static const bool raw[] = {false, true};
    char buf[8];

    (void)state;
    for (int i = 0; i < 2; i++) {
        sp_socket push = {0};
        sp_socket pull = {0};

        check_ok(raw[i] ? sp_open_raw(&push, "push") : sp_open(&push, "push"));
        check_ok(raw[i] ? sp_open_raw(&pull, "pull") : sp_open(&pull, "pull"));
        check_rc(SP_ENOTSUP, sp_recv(push, buf, sizeof(buf), 0));
        check_detail(SP_ENOTSUP, "send: the protocol \"pull\" only receives",
                     sp_send(pull, "x", 1, 0));
        check_ok(sp_close(push));
        check_ok(sp_close(pull));
    }
}

static void peer_that_sends_to_push_is_closed_and_counted(void **state)
{
    char url[256];
    sp_socket push = check_open("push");
    int fd;

    (void)state;
    check_listen(push, "tcp", url, NULL);
    fd = check_raw_dial(url, RAWSP_PULL, RAWSP_PUSH);
    check_pipes(push, 1);
    assert_int_equal(rawsp_send(fd, NULL, 0, "work", 4), 0);
    assert_true(check_raw_closed(fd));
    check_stat_is(push.id, "rx_drops.state", 1);
    check_stat_is(push.id, "listeners[0].proto", 1);
    check_pipes(push, 0);
    check_rest(push);
    (void)close(fd);
}

static void raw_sockets_are_the_same(void **state)
{
    sp_socket push = {0};
    sp_socket pull = {0};
    sp_msg *m = NULL;

    (void)state;
    check_ok(sp_open_raw(&push, "push"));
    check_ok(sp_open_raw(&pull, "pull"));
    check_ok(sp_set_int(pull.id, "recv-timeout", CHECK_SOON));
    check_ok(sp_listen(push, "inproc://raw", NULL));
    check_ok(sp_dial(pull, "inproc://raw", NULL, 0));
    check_send(push, "raw");
    check_ok(sp_recvmsg(pull, &m, 0));
    assert_int_equal(sp_msg_header_len(m), 0);
    assert_int_equal(sp_msg_len(m), 3);
    sp_msg_release(m);
    check_rest(push);
    check_rest(pull);
}

/* ------------------------------------------------------------------ Whose turn it is */

static void idle_workers_get_the_same(void **state)
{
    (void)state;
    for (int t = 0; t < TRANSPORTS; t++) {
        struct crew c;

        crew_up(&c, transports[t], WORKERS);
        for (int i = 0; i < WORKERS * 16; i++) {
            send_number(c.push, i);
        }
        for (int w = 0; w < WORKERS; w++) {
            int last = -1;

            for (int i = 0; i < 16; i++) {
                int n = recv_number(c.pull[w]);

                assert_true(n > last);
                last = n;
            }
            assert_int_equal(take_number(c.pull[w]), -1);
            check_rest(c.pull[w]);
        }
        check_rest(c.push);
        crew_down(&c);
    }
}

static void sender_waits_without_a_peer_and_when_all_are_full(void **state)
{
    sp_socket push = check_open("push");
    sp_socket pull;
    char url[256];

    (void)state;
    check_rc(SP_ENOPEER, sp_send(push, "x", 1, SP_NONBLOCK));
    check_ok(sp_set_int(push.id, "send-timeout", 20));
    check_rc(SP_ETIMEDOUT, sp_send(push, "x", 1, 0));
    check_listen(push, "inproc", url, NULL);
    pull = check_open("pull");
    check_ok(sp_dial(pull, url, NULL, 0));
    check_pipes(push, 1);
    check_ok(sp_set_int(push.id, "send-timeout", CHECK_SOON));
    for (int i = 0; i < FULL; i++) {
        send_number(push, i);
    }
    check_rc(SP_EAGAIN, sp_send(push, "x", 1, SP_NONBLOCK));
    for (int i = 0; i < FULL; i++) {
        assert_int_equal(recv_number(pull), i);
    }
    check_rest(push);
    check_rest(pull);
}

/// Three take ten while the fourth takes one. What it holds when the others are done it does alone.
static void slow_worker_costs_at_most_a_fifth(void **state)
{
    enum { WORK = 62000, IDEAL = WORK / 31 };
    struct crew c;
    int got[WORKERS] = {0};
    int sent = 0;
    int quiet = 0;

    (void)state;
    crew_up(&c, "inproc", WORKERS);
    while (got[0] + got[1] + got[2] + got[3] < WORK) {
        int before = got[0] + got[1] + got[2];

        while (sent < WORK && sp_send(c.push, &sent, sizeof(sent), SP_NONBLOCK) == SP_OK) {
            sent++;
        }
        for (int w = 0; w < WORKERS - 1; w++) {
            for (int i = 0; i < 10 && take_number(c.pull[w]) >= 0; i++) {
                got[w]++;
            }
        }
        quiet = got[0] + got[1] + got[2] == before ? quiet + 1 : 0;
        if (quiet > 0) {
            check_pause(); // On its way, or done.
        }
        // It keeps the others' time, and when nothing came for them for a while its own.
        if (got[WORKERS - 1] * 30 < got[0] + got[1] + got[2] || (sent == WORK && quiet > 20)) {
            got[WORKERS - 1] += take_number(c.pull[WORKERS - 1]) >= 0;
        }
    }
    // A tenth of the others' speed: its messages are the time that all of it takes.
    assert_true(got[WORKERS - 1] <= IDEAL * 12 / 10);
    for (int w = 0; w < WORKERS - 1; w++) {
        assert_true(got[w] >= WORK / 31 * 10 / 2); // half of its share
    }
    check_rest(c.push);
    crew_down(&c);
}

#define UNSENT_MAX 65536
#define SEGMENT_MAX 65536 // what Linux makes of one write: it looks at the bound before each
#define WORK_LEN 1024
#define WORK_WIRE (WORK_LEN + 8) // with its length

static long start_dialer(void *dialer)
{
    return sp_dialer_start(*(const sp_dialer *)dialer, 0);
}

/// A PUSH, connected to a peer that reads nothing. Returns its descriptor.
static int dial_idle(sp_socket push, int unsent_max, int listener, int port)
{
    struct check_call call;
    char url[64];
    sp_dialer d;
    int fd;

    (void)snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    check_ok(sp_dialer_new(&d, push, url));
    check_ok(sp_set_int(d.id, "tcp-unsent-max", unsent_max));
    check_call_start(&call, start_dialer, &d);
    fd = rawsp_accept(listener, RAWSP_PULL, NULL, CHECK_SOON);
    assert_true(fd >= 0);
    check_ok((int)check_call_join(&call, CHECK_SOON));
    return fd;
}

/// Sends until it takes no more for a while, or took `enough`. How many that is.
static int64_t send_work(sp_socket push, int64_t enough)
{
    static const char work[WORK_LEN];
    int64_t sent = 0;

    for (int quiet = 0; quiet < 50 && sent < enough;) {
        if (sp_send(push, work, sizeof(work), SP_NONBLOCK) == SP_OK) {
            sent++;
            quiet = 0;
        } else {
            check_pause();
            quiet++;
        }
    }
    return sent;
}

/// Over tcp the system's buffers are part of what a worker holds, unless they are bounded. Then it
/// holds what its system keeps unread, what ours did not send, with the segment that went beyond,
/// and the send queue, in which is what is half written.
static void unsent_bytes_of_a_worker_are_bounded(void **state)
{
    int unread = 32768;
    int port = 0;
    int listener = rawsp_listen_narrow(&port, &unread);
    int64_t bound = 0;
    int64_t held = 0;

    (void)state;
    assert_true(listener >= 0);
    for (int bounded = 1; bounded >= 0; bounded--) {
        sp_socket push = check_open("push");
        int fd = dial_idle(push, bounded ? UNSENT_MAX : 0, listener, port);

        check_ok(sp_get_int(push.id, "send-buffer", &bound));
        bound += (unread + UNSENT_MAX + SEGMENT_MAX) / WORK_WIRE;
        if (bounded) {
            assert_true(send_work(push, INT64_MAX) <= bound);
        } else { // It is the option's doing: without it there is room for more.
            check_until((held += send_work(push, bound + 1 - held)) > bound);
        }
        check_ok(sp_set_int(push.id, "linger", 0));
        check_ok(sp_close(push));
        (void)close(fd);
    }
    (void)close(listener);
}

static void dial_first(sp_socket push, const char *url, int priority)
{
    sp_dialer d;

    check_ok(sp_dialer_new(&d, push, url));
    check_ok(sp_set_int(d.id, "send-priority", priority));
    check_ok(sp_dialer_start(d, 0));
}

/// Work goes to the others only while it has no room.
static void worker_of_first_priority_gets_all_it_has_room_for(void **state)
{
    sp_socket push = check_open("push");
    sp_socket pull[2];
    char url[2][256];
    int got[2] = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        pull[i] = check_open("pull");
        check_listen(pull[i], "inproc", url[i], NULL);
        dial_first(push, url[i], 2 - i);
    }
    check_pipes(push, 2);
    for (int i = 0; i < FULL + 10; i++) {
        send_number(push, i);
    }
    while (got[0] + got[1] < FULL + 10) {
        int before = got[0] + got[1];

        for (int i = 0; i < 2; i++) {
            got[i] += take_number(pull[i]) >= 0;
        }
        if (got[0] + got[1] == before) {
            check_pause();
        }
    }
    assert_true(got[1] >= 256 && got[0] >= 10); // 384 and 10, if no thread is late
    send_number(push, 1);
    (void)recv_number(pull[1]);
    check_rest(push);
}

/// All have sent more than the receiver holds: it takes from each in turn.
static void pull_takes_from_all_peers_fairly(void **state)
{
    sp_socket pull = check_open("pull");
    sp_socket push[WORKERS];
    char url[256];
    int got[WORKERS] = {0};

    (void)state;
    check_listen(pull, "inproc", url, NULL);
    for (int w = 0; w < WORKERS; w++) {
        push[w] = check_open("push");
        check_ok(sp_dial(push[w], url, NULL, 0));
    }
    check_pipes(pull, WORKERS);
    for (int i = 0; i < 256; i++) {
        for (int w = 0; w < WORKERS; w++) {
            send_number(push[w], i * WORKERS + w);
        }
    }
    for (int i = 0; i < WORKERS * 256; i++) {
        int n = recv_number(pull);

        assert_int_equal(n / WORKERS, got[n % WORKERS]++);
        for (int w = 0; i == WORKERS * 128 && w < WORKERS; w++) {
            assert_true(got[w] >= 64);
        }
    }
    check_rest(pull);
}

/* ------------------------------------------------------------------ Lost peers, close */

static void work_that_a_lost_peer_was_not_written_goes_to_another(void **state)
{
    struct crew c;
    sp_socket other;

    (void)state;
    crew_up(&c, "inproc", 1);
    for (int i = 0; i < FULL; i++) {
        send_number(c.push, i);
    }
    check_stat_is(c.push.id, "tx_msgs", FULL - 128);
    other = check_open("pull");
    check_ok(sp_dial(other, c.url, NULL, 0));
    check_pipes(c.push, 2);
    check_ok(sp_close(c.pull[0]));
    c.pull[0] = other;
    for (int i = FULL - 128; i < FULL; i++) {
        assert_int_equal(recv_number(other), i);
    }
    assert_int_equal(take_number(other), -1);
    check_rest(c.push);
    check_rest(other);
    crew_down(&c);
}

static void close_delivers_what_was_sent(void **state)
{
    (void)state;
    for (int t = 0; t < TRANSPORTS; t++) {
        struct crew c;
        int got = 0;

        crew_up(&c, transports[t], WORKERS);
        check_ok(sp_set_int(c.push.id, "linger", CHECK_SOON));
        for (int i = 0; i < 1000; i++) {
            send_number(c.push, i);
        }
        check_ok(sp_close(c.push));
        check_until((got += take_all(&c)) == 1000);
        for (int w = 0; w < WORKERS; w++) {
            check_pipes(c.pull[w], 0);
            check_rest(c.pull[w]);
            check_ok(sp_close(c.pull[w]));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(messages_arrive_in_order),
        check_both(push_does_not_receive_and_pull_does_not_send),
        check_both(peer_that_sends_to_push_is_closed_and_counted),
        check_both(raw_sockets_are_the_same),
        check_both(idle_workers_get_the_same),
        check_both(sender_waits_without_a_peer_and_when_all_are_full),
        check_both(slow_worker_costs_at_most_a_fifth),
        check_both(unsent_bytes_of_a_worker_are_bounded),
        check_both(worker_of_first_priority_gets_all_it_has_room_for),
        check_both(pull_takes_from_all_peers_fairly),
        check_both(work_that_a_lost_peer_was_not_written_goes_to_another),
        check_both(close_delivers_what_was_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
