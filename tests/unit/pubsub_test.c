/* SPDX-License-Identifier: MIT */
/// PUB/SUB: what is handed to whom, contexts, full queues, raw mode; with and without threads of
/// the library. The publishers send everything to everybody, so that a subscription holds at once;
/// their filter is in pubsub_filter_test.c.
#include "check.h"
#include "rawsp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PUB 0x20
#define SUB 0x21

static const char *const transports[] = {"inproc", "ipc", "tcp"};

static void subscribe(uint64_t id, const char *topic)
{
    check_ok(sp_set_bytes(id, "subscribe", topic, strlen(topic)));
}

static void unsubscribe(uint64_t id, const char *topic)
{
    check_ok(sp_set_bytes(id, "unsubscribe", topic, strlen(topic)));
}

/// A SUB that is connected to a PUB which listens.
static sp_socket join(sp_socket pub, const char *url, int pipes)
{
    sp_socket sub = check_open("sub");

    check_ok(sp_dial(sub, url, NULL, 0));
    check_pipes(pub, pipes);
    return sub;
}

static sp_socket publisher(const char *transport, char url[256])
{
    sp_socket pub = check_open("pub");

    check_ok(sp_set_int(pub.id, "pub:filter-max", 0));
    check_listen(pub, transport, url, NULL);
    return pub;
}

static void ctx_recv(sp_ctx c, const char *text)
{
    sp_msg *m = NULL;

    check_ok(sp_ctx_recvmsg(c, &m, 0));
    assert_int_equal(sp_msg_len(m), strlen(text));
    assert_memory_equal(sp_msg_view(m), text, strlen(text));
    sp_msg_release(m);
}

static void close_all(sp_socket a, sp_socket b)
{
    check_rest(a);
    check_rest(b);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

/* ------------------------------------------------------------------ Subscriptions */

static void receives_what_begins_as_subscribed(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        char url[256];
        sp_socket pub = publisher(transports[i], url);
        sp_socket sub = join(pub, url, 1);

        subscribe(sub.id, "tea");
        subscribe(sub.id, "coffee/");
        check_send(pub, "te");
        check_send(pub, "tea");
        check_send(pub, "coffee");
        check_send(pub, "teapot");
        check_send(pub, "");
        check_send(pub, "Tea");
        check_send(pub, "coffee/black");
        check_recv(sub, "tea");
        check_recv(sub, "teapot");
        check_recv(sub, "coffee/black");
        check_stat_is(sub.id, "rx_drops.unwanted", 4);
        check_stat_is(sub.id, "rx_delivered", 3);
        close_all(pub, sub);
    }
}

static void nothing_is_received_without_subscription(void **state)
{
    char url[256];
    char byte;
    sp_socket pub = publisher("tcp", url);
    sp_socket sub = join(pub, url, 1);

    (void)state;
    check_ok(sp_set_int(sub.id, "recv-timeout", 20));
    check_rc(SP_ETIMEDOUT, sp_recv(sub, &byte, 1, 0));
    check_send(pub, "unheard");
    check_stat_is(sub.id, "rx_drops.unwanted", 1);
    check_rc(SP_EAGAIN, sp_recv(sub, &byte, 1, SP_NONBLOCK));
    // It begins to wait before it is subscribed to anything.
    check_ok(sp_set_int(sub.id, "recv-timeout", CHECK_SOON));
    subscribe(sub.id, "");
    check_send(pub, "heard");
    check_recv(sub, "heard");
    check_send(pub, "");
    check_recv(sub, "");
    close_all(pub, sub);
}

static long recv_first(void *arg)
{
    char byte;

    return sp_recv(*(sp_socket *)arg, &byte, 1, 0);
}

static void receive_may_begin_before_the_subscription(void **state)
{
    char url[256];
    sp_socket pub = publisher("inproc", url);
    sp_socket sub = join(pub, url, 1);
    struct check_call call;

    (void)state;
    check_call_start(&call, recv_first, &sub);
    assert_false(check_call_ended(&call, 20));
    subscribe(sub.id, "");
    check_send(pub, "1");
    assert_int_equal(check_call_join(&call, CHECK_SOON), 1);
    close_all(pub, sub);
}

static void unsubscribing_ends_it(void **state)
{
    char url[256];
    sp_socket pub = publisher("inproc", url);
    sp_socket sub = join(pub, url, 1);

    (void)state;
    subscribe(sub.id, "a");
    subscribe(sub.id, "a"); // Once more is as good as once.
    subscribe(sub.id, "ab");
    check_send(pub, "abc");
    check_recv(sub, "abc");
    check_stat_is(sub.id, "rx_delivered", 1); // Though two topics match.
    unsubscribe(sub.id, "a");
    check_detail(-ENOENT, "option \"unsubscribe\": No such file or directory",
                 sp_set_bytes(sub.id, "unsubscribe", "a", 1));
    check_rc(-ENOENT, sp_set_bytes(sub.id, "unsubscribe", "never", 5));
    check_rc(-ENOENT, sp_set_bytes(sub.id, "unsubscribe", NULL, 0));
    check_send(pub, "ax");
    check_send(pub, "abd");
    check_recv(sub, "abd");
    check_stat_is(sub.id, "rx_drops.unwanted", 1);
    close_all(pub, sub);
}

/// As in nanomsg and libzmq; nng looks through the queue.
static void what_was_received_before_unsubscribing_stays(void **state)
{
    char url[256];
    sp_socket pub = publisher("inproc", url);
    sp_socket sub = join(pub, url, 1);

    (void)state;
    subscribe(sub.id, "a");
    check_send(pub, "a1");
    check_stat_is(sub.id, "rx_queued", 1);
    unsubscribe(sub.id, "a");
    check_recv(sub, "a1");
    close_all(pub, sub);
}

static void topics_are_bytes_of_any_length(void **state)
{
    char url[256];
    sp_socket pub = publisher("tcp", url);
    sp_socket sub = join(pub, url, 1);
    char *bytes = calloc(1, 70000);
    char *got = malloc(70000);

    (void)state;
    assert_non_null(bytes);
    assert_non_null(got);
    check_detail(SP_EINVAL, "option \"subscribe\": longer than 65535 bytes",
                 sp_set_bytes(sub.id, "subscribe", bytes, 65536));
    check_rc(SP_EINVAL, sp_set_bytes(sub.id, "unsubscribe", bytes, 65536));
    check_ok(sp_set_bytes(sub.id, "subscribe", bytes, 65535));
    check_ok(sp_set_bytes(sub.id, "subscribe", "\0\xFF", 2));
    check_ok(sp_send(pub, bytes, 65534, 0));
    check_ok(sp_send(pub, bytes, 65535, 0));
    check_ok(sp_send(pub, bytes, 70000, 0));
    check_ok(sp_send(pub, "\0\xFF\0", 3, 0));
    check_rc(65535, sp_recv(sub, got, 70000, 0));
    check_rc(70000, sp_recv(sub, got, 70000, 0));
    check_rc(3, sp_recv(sub, got, 70000, 0));
    check_stat_is(sub.id, "rx_drops.unwanted", 1);
    free(bytes);
    free(got);
    close_all(pub, sub);
}

static void subscribing_needs_a_sub(void **state)
{
    sp_socket pub = check_open("pub");
    sp_socket sub = check_open("sub");
    int64_t v = 0;

    (void)state;
    check_rc(SP_ENOTSUP, sp_set_bytes(pub.id, "subscribe", "x", 1));
    check_rc(SP_EINVAL, sp_set_int(sub.id, "subscribe", 1));
    check_rc(SP_EINVAL, sp_get_int(sub.id, "subscribe", &v));
    check_rc(SP_EINVAL, sp_set_bytes(sub.id, "subscribe", NULL, 1));
    check_rc(SP_ENOTSUP, sp_set_bytes(sub.id, "topics", "x", 1));
    check_ok(sp_get_int(sub.id, "sub:prefnew", &v));
    assert_int_equal(v, 1);
}

static void neither_end_does_the_other_ends_work(void **state)
{
    char url[256];
    char byte;
    sp_socket pub = publisher("inproc", url);
    sp_socket sub = join(pub, url, 1);

    (void)state;
    check_rc(SP_ENOTSUP, sp_recv(pub, &byte, 1, 0));
    check_rc(SP_ENOTSUP, sp_send(sub, "x", 1, 0));
    close_all(pub, sub);
}

/* ------------------------------------------------------------------ Peers */

static void publishing_to_nobody_is_counted(void **state)
{
    char url[256];
    sp_socket pub = publisher("tcp", url);
    sp_socket sub;

    (void)state;
    for (int i = 0; i < 300; i++) {
        check_send(pub, "early");
    }
    check_stat_is(pub.id, "tx_drops.no_peer", 300);
    sub = check_open("sub");
    subscribe(sub.id, "");
    check_ok(sp_dial(sub, url, NULL, 0));
    check_pipes(pub, 1);
    check_send(pub, "late");
    check_recv(sub, "late");
    close_all(pub, sub);
}

#define SUBS 5

static void every_subscriber_gets_its_copy(void **state)
{
    (void)state;
    for (int t = 0; t < 3; t++) {
        char url[256];
        sp_socket pub = publisher(transports[t], url);
        sp_socket subs[SUBS];

        for (int i = 0; i < SUBS; i++) {
            char topic[2] = {(char)('a' + i), 0};

            subs[i] = join(pub, url, i + 1);
            subscribe(subs[i].id, topic);
            subscribe(subs[i].id, "all");
        }
        for (int n = 0; n < 50; n++) {
            check_send(pub, "all of you");
            check_send(pub, "b only");
            for (int i = 0; i < SUBS; i++) {
                check_recv(subs[i], "all of you");
            }
            check_recv(subs[1], "b only");
        }
        check_stat_is(pub.id, "tx_accepted", 100);
        check_stat_is(subs[1].id, "rx_delivered", 100);
        for (int i = 0; i < SUBS; i++) {
            check_rest(subs[i]);
            check_ok(sp_close(subs[i]));
        }
        check_rest(pub);
        check_ok(sp_close(pub));
    }
}

/// Many publishers, one subscriber that listens.
static void subscriber_hears_several_publishers(void **state)
{
    char url[256];
    sp_socket sub = check_open("sub");
    sp_socket pubs[3];

    (void)state;
    subscribe(sub.id, "");
    check_listen(sub, "tcp", url, NULL);
    for (int i = 0; i < 3; i++) {
        pubs[i] = check_open("pub");
        check_ok(sp_dial(pubs[i], url, NULL, 0));
    }
    check_pipes(sub, 3);
    for (int i = 0; i < 3; i++) {
        check_send(pubs[i], i == 0 ? "0" : i == 1 ? "1" : "2");
        check_recv(sub, i == 0 ? "0" : i == 1 ? "1" : "2");
    }
    for (int i = 0; i < 3; i++) {
        check_rest(pubs[i]);
    }
    check_rest(sub);
}

/// It does not read; the others get everything.
static void slow_subscriber_misses_messages_alone(void **state)
{
    char url[256];
    sp_socket pub = publisher("tcp", url);
    sp_socket sub = join(pub, url, 1);
    int fd = check_raw_dial(url, SUB, PUB);
    static char body[100000];
    int64_t dropped = 0;
    int n = 0;

    (void)state;
    subscribe(sub.id, "");
    check_pipes(pub, 2);
    while (dropped < 10) {
        check_ok(sp_send(pub, body, sizeof(body), 0));
        n++;
        check_rc(sizeof(body), sp_recv(sub, body, sizeof(body), 0));
        dropped = check_stat(pub.id, "tx_drops.full");
    }
    assert_int_equal(check_stat(pub.id, "tx_copies"), n);
    check_stat_is(sub.id, "rx_delivered", n);
    (void)close(fd);
    check_pipes(pub, 1);
    close_all(pub, sub);
}

/// A PUB listens to nobody, a SUB says nothing.
static void peer_that_sends_to_a_pub_is_closed(void **state)
{
    char url[256];
    sp_socket pub = publisher("tcp", url);
    int fd = check_raw_dial(url, SUB, PUB);

    (void)state;
    check_pipes(pub, 1);
    assert_int_equal(rawsp_send(fd, NULL, 0, "\1\0\0", 3), 0);
    assert_true(check_raw_closed(fd));
    check_stat_is(pub.id, "rx_drops.state", 1);
    check_stat_is(pub.id, "listeners[0].proto", 1);
    check_pipes(pub, 0);
    check_rest(pub);
    (void)close(fd);
}

static void other_protocols_are_refused(void **state)
{
    char url[256];
    sp_socket pub = publisher("tcp", url);
    sp_socket other = check_open("pub");

    (void)state;
    check_rc(SP_EPROTO, sp_dial(other, url, NULL, 0));
    check_until(check_stat(pub.id, "listeners[0].proto") > 0);
}

/* ------------------------------------------------------------------ Contexts */

static void each_context_has_subscriptions_of_its_own(void **state)
{
    char url[256];
    sp_socket pub = publisher("inproc", url);
    sp_socket sub = join(pub, url, 1);
    sp_ctx c[2];
    sp_msg *m = NULL;

    (void)state;
    check_ok(sp_ctx_open(&c[0], sub));
    check_ok(sp_ctx_open(&c[1], sub));
    subscribe(c[0].id, "a");
    subscribe(c[1].id, "ab");
    check_send(pub, "abc");
    ctx_recv(c[0], "abc");
    ctx_recv(c[1], "abc");
    check_send(pub, "ax");
    ctx_recv(c[0], "ax");
    check_rc(SP_EAGAIN, sp_ctx_recvmsg(c[1], &m, SP_NONBLOCK));
    check_rc(SP_EAGAIN, sp_recvmsg(sub, &m, SP_NONBLOCK));
    check_rc(-ENOENT, sp_set_bytes(c[1].id, "unsubscribe", "a", 1));
    check_rc(-ENOENT, sp_set_bytes(sub.id, "unsubscribe", "a", 1));
    subscribe(sub.id, "a");
    check_send(pub, "a all");
    ctx_recv(c[0], "a all");
    check_recv(sub, "a all");
    check_stat_is(sub.id, "rx_msgs", 3);
    check_stat_is(sub.id, "rx_received", 5);
    check_stat_is(sub.id, "rx_delivered", 5);
    check_rest(sub);
    // With the context go its subscriptions, and what waits in it.
    check_send(pub, "ab");
    check_stat_is(sub.id, "rx_queued", 3);
    check_ok(sp_ctx_close(c[1]));
    check_stat_is(sub.id, "rx_drops.closed", 1);
    check_ok(sp_ctx_close(c[0]));
    check_recv(sub, "ab");
    unsubscribe(sub.id, "a");
    check_send(pub, "ab");
    check_stat_is(sub.id, "rx_drops.unwanted", 1);
    close_all(pub, sub);
}

static void context_begins_without_subscriptions(void **state)
{
    char url[256];
    sp_socket pub = publisher("inproc", url);
    sp_socket sub = join(pub, url, 1);
    sp_ctx c;
    sp_msg *m = NULL;
    int64_t v = 1;

    (void)state;
    subscribe(sub.id, "");
    check_ok(sp_set_int(sub.id, "sub:prefnew", 0));
    check_ok(sp_ctx_open(&c, sub));
    check_ok(sp_get_int(c.id, "sub:prefnew", &v));
    assert_int_equal(v, 0);
    check_send(pub, "x");
    check_recv(sub, "x");
    check_rc(SP_EAGAIN, sp_ctx_recvmsg(c, &m, SP_NONBLOCK));
    close_all(pub, sub);
}

/* ------------------------------------------------------------------ Full queues */

#define FLOOD 100
#define QUEUE 8

/// Publishes numbers, waiting until each was received, so that none is lost on the way.
static void flood(sp_socket pub, sp_socket sub)
{
    for (int i = 0; i < FLOOD; i++) {
        check_ok(sp_send(pub, &i, sizeof(i), 0));
        check_stat_is(sub.id, "rx_msgs", i + 1);
    }
}

/// What is in the queue: QUEUE numbers in a row, from `first` on.
static void queue_begins_with(sp_socket sub, int first)
{
    int v;

    for (int i = 0; i < QUEUE; i++) {
        check_rc(sizeof(v), sp_recv(sub, &v, sizeof(v), 0));
        assert_int_equal(v, first + i);
    }
    check_rc(SP_EAGAIN, sp_recv(sub, &v, sizeof(v), SP_NONBLOCK));
}

static sp_socket small_queue(sp_socket pub, const char *url, int prefnew)
{
    sp_socket sub = check_open("sub");

    subscribe(sub.id, "");
    check_ok(sp_set_int(sub.id, "recv-buffer", QUEUE));
    check_ok(sp_set_int(sub.id, "sub:prefnew", prefnew));
    check_ok(sp_dial(sub, url, NULL, 0));
    check_pipes(pub, 1);
    return sub;
}

static void prefnew_decides_what_a_full_queue_drops(void **state)
{
    (void)state;
    for (int prefnew = 0; prefnew < 2; prefnew++) {
        char url[256];
        sp_socket pub = publisher("inproc", url);
        sp_socket sub = small_queue(pub, url, prefnew);

        flood(pub, sub);
        check_stat_is(sub.id, "rx_drops.full", FLOOD - QUEUE);
        queue_begins_with(sub, prefnew != 0 ? FLOOD - QUEUE : 0);
        close_all(pub, sub);
    }
}

/// One context that does not receive takes nothing from the others.
static void full_context_harms_no_other(void **state)
{
    char url[256];
    sp_socket pub = publisher("inproc", url);
    sp_socket sub = small_queue(pub, url, 1);
    sp_ctx c;

    (void)state;
    check_ok(sp_ctx_open(&c, sub));
    subscribe(c.id, "");
    for (int i = 0; i < FLOOD; i++) {
        check_send(pub, "x");
        ctx_recv(c, "x");
    }
    check_stat_is(sub.id, "rx_drops.full", FLOOD - QUEUE);
    check_stat_is(sub.id, "rx_copies", FLOOD);
    check_stat_is(sub.id, "rx_queued", QUEUE);
    close_all(pub, sub);
}

/// Publishes until a condition holds, at a PUB with a small queue and a peer that does not read.
struct stuck {
    sp_socket pub;
    sp_socket sub; ///< reads everything
    int fd;        ///< does not
    uint32_t sent;
};

static unsigned char numbered[100000];

static void stuck_open(struct stuck *s, const char *policy)
{
    char url[256];

    s->pub = check_open("pub");
    s->sent = 0;
    check_ok(sp_set_str(s->pub.id, "overflow", policy));
    check_ok(sp_set_int(s->pub.id, "pub:filter-max", 0));
    check_ok(sp_set_int(s->pub.id, "send-buffer", QUEUE));
    check_ok(sp_set_int(s->pub.id, "send-timeout", 50));
    check_listen(s->pub, "tcp", url, NULL);
    s->sub = join(s->pub, url, 1);
    subscribe(s->sub.id, "");
    s->fd = check_raw_dial(url, SUB, PUB);
    check_pipes(s->pub, 2);
    check_send(s->pub, "hello"); // Its subscription is known, if it is told at all.
    check_recv(s->sub, "hello");
}

static int stuck_send(struct stuck *s)
{
    uint32_t got = 0;
    sp_msg *m = NULL;
    int rc;

    memcpy(numbered, &s->sent, sizeof(s->sent));
    rc = sp_send(s->pub, numbered, sizeof(numbered), 0);
    if (rc == SP_OK) {
        check_ok(sp_recvmsg(s->sub, &m, 0));
        memcpy(&got, sp_msg_view(m), sizeof(got));
        assert_int_equal(got, s->sent);
        sp_msg_release(m);
        s->sent++;
    }
    return rc;
}

static void stuck_close(struct stuck *s)
{
    (void)close(s->fd);
    check_pipes(s->pub, 1);
    close_all(s->pub, s->sub);
}

static void overflow_disconnect_ends_who_does_not_read(void **state)
{
    struct stuck s;

    (void)state;
    stuck_open(&s, "disconnect");
    while (check_stat(s.pub.id, "listeners[0].overflow") == 0) {
        check_ok(stuck_send(&s));
    }
    check_pipes(s.pub, 1);
    check_stat_is(s.pub.id, "tx_drops.full", 1);
    stuck_close(&s);
}

static void overflow_block_waits_for_all(void **state)
{
    struct stuck s;
    sp_msg *m = NULL;
    int rc = SP_OK;

    (void)state;
    stuck_open(&s, "block");
    // The last ones wait in front of the PUB, and reach nobody.
    for (int i = 0; i < 100000 && rc == SP_OK; i++) {
        rc = sp_send(s.pub, numbered, sizeof(numbered), 0);
        while (sp_recvmsg(s.sub, &m, SP_NONBLOCK) == SP_OK) {
            sp_msg_release(m);
        }
    }
    check_rc(SP_ETIMEDOUT, rc);
    check_stat_is(s.pub.id, "tx_drops.full", 0);
    assert_true(check_stat(s.pub.id, "tx_queued") >= QUEUE);
    (void)close(s.fd);
    s.fd = -1;
    check_pipes(s.pub, 1);
    check_ok(sp_send(s.pub, "end", 3, 0));
    for (size_t len = 0; len != 3; sp_msg_release(m)) {
        check_ok(sp_recvmsg(s.sub, &m, 0));
        len = sp_msg_len(m);
    }
    check_rest(s.pub);
    check_rest(s.sub);
}

/// What the slow peer reads in the end are the newest messages, the last one included.
static void overflow_drop_old_keeps_the_newest(void **state)
{
    struct stuck s;
    uint32_t last = 0;
    int got = 0;

    (void)state;
    stuck_open(&s, "drop-old");
    while (check_stat(s.pub.id, "tx_drops.full") < 3 * QUEUE) {
        check_ok(stuck_send(&s));
    }
    check_rest(s.pub);
    got = (int)s.sent + 1 - (int)check_stat(s.pub.id, "tx_drops.full");
    for (size_t have = 0; got > 0;) {
        static unsigned char frame[8 + sizeof(numbered)];
        size_t want = have < 8 ? 8
                               : 8 + ((size_t)frame[5] << 16 | (size_t)frame[6] << 8 | frame[7]);
        ssize_t n = recv(s.fd, frame + have, want - have, MSG_DONTWAIT);

        have += n > 0 ? (size_t)n : 0;
        if (n < 0) {
            check_pause();
        } else if (have >= 8 && have == want && want > 8) {
            memcpy(&last, frame + 8, sizeof(last));
            have = 0;
            got--;
        }
    }
    assert_int_equal(last, s.sent - 1);
    stuck_close(&s);
}

/* ------------------------------------------------------------------ Raw */

static void raw_sub_receives_everything(void **state)
{
    char url[256];
    sp_socket pub = {0};
    sp_socket sub = {0};
    sp_ctx c;

    (void)state;
    check_ok(sp_open_raw(&pub, "pub"));
    check_ok(sp_open_raw(&sub, "sub"));
    check_ok(sp_set_int(sub.id, "recv-timeout", CHECK_SOON));
    check_listen(pub, "tcp", url, NULL);
    check_ok(sp_dial(sub, url, NULL, 0));
    check_pipes(pub, 1);
    check_send(pub, "anything");
    check_send(pub, "");
    check_recv(sub, "anything");
    check_recv(sub, "");
    check_rc(SP_ENOTSUP, sp_set_bytes(sub.id, "subscribe", "x", 1));
    check_rc(SP_ENOTSUP, sp_ctx_open(&c, sub));
    check_rc(SP_ENOTSUP, sp_send(sub, "x", 1, 0));
    close_all(pub, sub);
}

static void raw_pub_sends_no_header(void **state)
{
    static const char *const both[] = {"inproc", "tcp"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        char url[256];
        sp_socket pub = {0};
        sp_socket sub;
        sp_msg *m = NULL;

        check_ok(sp_open_raw(&pub, "pub"));
        check_ok(sp_set_int(pub.id, "pub:filter-max", 0));
        check_listen(pub, both[i], url, NULL);
        sub = join(pub, url, 1);
        subscribe(sub.id, "bo");
        check_ok(sp_msg_new(&m, 4));
        memcpy(sp_msg_data(m), "body", 4);
        check_ok(sp_msg_header_append(m, "head", 4));
        check_ok(sp_sendmsg(pub, m, 0));
        check_recv(sub, "body");
        close_all(pub, sub);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(receives_what_begins_as_subscribed),
        check_both(nothing_is_received_without_subscription),
        check_both(receive_may_begin_before_the_subscription),
        check_both(unsubscribing_ends_it),
        check_both(what_was_received_before_unsubscribing_stays),
        check_both(topics_are_bytes_of_any_length),
        check_both(subscribing_needs_a_sub),
        check_both(neither_end_does_the_other_ends_work),
        check_both(publishing_to_nobody_is_counted),
        check_both(every_subscriber_gets_its_copy),
        check_both(subscriber_hears_several_publishers),
        check_both(slow_subscriber_misses_messages_alone),
        check_both(peer_that_sends_to_a_pub_is_closed),
        check_both(other_protocols_are_refused),
        check_both(each_context_has_subscriptions_of_its_own),
        check_both(context_begins_without_subscriptions),
        check_both(prefnew_decides_what_a_full_queue_drops),
        check_both(full_context_harms_no_other),
        check_both(overflow_disconnect_ends_who_does_not_read),
        check_both(overflow_block_waits_for_all),
        check_both(overflow_drop_old_keeps_the_newest),
        check_both(raw_sub_receives_everything),
        check_both(raw_pub_sends_no_header),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
