/* SPDX-License-Identifier: MIT */
/// PUB/SUB with the filter at the publisher: what is sent to whom, what subscriptions look like on
/// the wire, what a slow or a hostile peer can do. Peers made by hand speak the bytes that the
/// documents give.
#include "check.h"
#include "rawsp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PUB_FILTER 0xF020
#define SUB_FILTER 0xF021
#define PUB_PLAIN 0x20
#define SUB_PLAIN 0x21

static void subscribe(uint64_t id, const char *topic)
{
    check_ok(sp_set_bytes(id, "subscribe", topic, strlen(topic)));
}

static void unsubscribe(uint64_t id, const char *topic)
{
    check_ok(sp_set_bytes(id, "unsubscribe", topic, strlen(topic)));
}

static sp_socket publisher(const char *transport, char url[256])
{
    sp_socket pub = check_open("pub");

    check_listen(pub, transport, url, NULL);
    return pub;
}

/// A SUB with a topic, which the PUB knows of; `told`: messages of subscriptions that it got.
static sp_socket join(sp_socket pub, const char *url, const char *topic, int told)
{
    sp_socket sub = check_open("sub");

    subscribe(sub.id, topic);
    check_ok(sp_dial(sub, url, NULL, 0));
    check_stat_is(pub.id, "rx_drops.own", told);
    return sub;
}

static void close_all(sp_socket a, sp_socket b)
{
    check_rest(a);
    check_rest(b);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

/* ------------------------------------------------------------------ What is sent */

static void unwanted_messages_are_never_sent(void **state)
{
    static const char *const transports[] = {"inproc", "ipc", "tcp"};

    (void)state;
    for (int t = 0; t < 3; t++) {
        char url[256];
        sp_socket pub = publisher(transports[t], url);
        sp_socket a = join(pub, url, "a", 1);
        sp_socket b = join(pub, url, "b", 2);

        subscribe(b.id, "both");
        subscribe(a.id, "both");
        check_stat_is(pub.id, "rx_drops.own", 4);
        for (int i = 0; i < 100; i++) {
            check_send(pub, "c");
        }
        check_send(pub, "b");
        check_send(pub, "both");
        check_recv(b, "b");
        check_recv(b, "both");
        check_recv(a, "both");
        check_stat_is(pub.id, "tx_drops.unwanted", 100);
        check_stat_is(pub.id, "tx_msgs", 3);
        check_stat_is(pub.id, "tx_copies", 1);
        check_stat_is(a.id, "rx_msgs", 1);
        check_stat_is(b.id, "rx_msgs", 2);
        check_stat_is(a.id, "tx_msgs", 2);
        check_rest(b);
        close_all(pub, a);
        check_ok(sp_close(b));
    }
}

/// "b" and "bo" of the same peer match: it gets one copy.
static void a_message_is_sent_once_to_whoever_wants_it_twice(void **state)
{
    char url[256];
    sp_socket pub = publisher("inproc", url);
    sp_socket sub = join(pub, url, "b", 1);

    (void)state;
    subscribe(sub.id, "bo");
    subscribe(sub.id, "");
    check_stat_is(pub.id, "rx_drops.own", 3);
    check_send(pub, "both");
    check_recv(sub, "both");
    check_stat_is(sub.id, "rx_msgs", 1);
    close_all(pub, sub);
}

static void what_is_unsubscribed_is_sent_no_more(void **state)
{
    char url[256];
    sp_socket pub = publisher("tcp", url);
    sp_socket sub = join(pub, url, "a", 1);

    (void)state;
    subscribe(sub.id, "b");
    unsubscribe(sub.id, "a");
    check_stat_is(pub.id, "rx_drops.own", 3);
    check_send(pub, "a");
    check_send(pub, "b");
    check_recv(sub, "b");
    check_stat_is(pub.id, "tx_drops.unwanted", 1);
    check_stat_is(sub.id, "rx_drops.unwanted", 0);
    close_all(pub, sub);
}

/// What any context wants is told once, and taken back with the last one.
static void topics_are_counted_over_contexts(void **state)
{
    char url[256];
    sp_socket pub = publisher("inproc", url);
    sp_socket sub = join(pub, url, "a", 1);
    sp_ctx c;

    (void)state;
    check_ok(sp_ctx_open(&c, sub));
    subscribe(c.id, "a");
    subscribe(c.id, "c");
    check_stat_is(pub.id, "rx_drops.own", 2);
    unsubscribe(sub.id, "a");
    check_send(pub, "a");
    check_stat_is(sub.id, "rx_received", 1);
    assert_int_equal(check_stat(pub.id, "rx_drops.own"), 2);
    check_ok(sp_ctx_close(c));
    check_stat_is(pub.id, "rx_drops.own", 3); // Both in one message.
    check_send(pub, "a");
    check_send(pub, "c");
    check_stat_is(pub.id, "tx_drops.unwanted", 2);
    close_all(pub, sub);
}

static void new_connections_are_told_everything(void **state)
{
    sp_socket sub = check_open("sub");
    char url[256];
    sp_socket pub;

    (void)state;
    check_listen(sub, "tcp", url, NULL);
    for (int i = 0; i < 2000; i++) {
        char topic[32];

        (void)snprintf(topic, sizeof(topic), "topic %d", i);
        subscribe(sub.id, topic);
    }
    for (int life = 0; life < 2; life++) {
        pub = check_open("pub");
        check_ok(sp_dial(pub, url, NULL, 0));
        // 2000 records of up to 13 bytes, by 4 KiB.
        check_stat_is(pub.id, "rx_drops.own", 7);
        check_send(pub, "topi");
        check_send(pub, "topic 1999");
        check_recv(sub, "topic 1999");
        check_stat_is(pub.id, "tx_drops.unwanted", 1);
        check_rest(pub);
        check_ok(sp_close(pub));
        check_pipes(sub, 0);
    }
    check_rest(sub);
}

static void a_peer_that_goes_is_forgotten(void **state)
{
    char url[256];
    sp_socket pub = publisher("tcp", url);
    sp_socket sub = join(pub, url, "a", 1);
    sp_socket other = join(pub, url, "a", 2);

    (void)state;
    check_ok(sp_close(sub));
    check_pipes(pub, 1);
    check_send(pub, "a");
    check_recv(other, "a");
    check_stat_is(pub.id, "tx_copies", 0);
    check_ok(sp_close(other));
    check_pipes(pub, 0);
    check_send(pub, "a");
    check_stat_is(pub.id, "tx_drops.no_peer", 1);
    check_rest(pub);
}

/// A peer over the limit gets everything from then on, and chooses itself.
static void too_many_topics_mean_everything(void **state)
{
    char url[256];
    sp_socket pub = check_open("pub");
    sp_socket sub;

    (void)state;
    check_ok(sp_set_int(pub.id, "pub:filter-max", 2 * (200 + 1)));
    check_listen(pub, "tcp", url, NULL);
    sub = join(pub, url, "a", 1);
    subscribe(sub.id, "b");
    check_stat_is(pub.id, "rx_drops.own", 2);
    check_send(pub, "x");
    check_stat_is(pub.id, "tx_drops.unwanted", 1);
    subscribe(sub.id, "c");
    unsubscribe(sub.id, "a");
    check_stat_is(pub.id, "rx_drops.own", 4);
    check_send(pub, "x");
    check_send(pub, "a");
    check_send(pub, "b");
    check_send(pub, "c");
    check_recv(sub, "b");
    check_recv(sub, "c");
    check_stat_is(sub.id, "rx_drops.unwanted", 2);
    close_all(pub, sub);
}

/// Only who wants a message can hold it up.
static void block_waits_for_those_who_want_it(void **state)
{
    char url[256];
    sp_socket pub = check_open("pub");
    sp_socket sub;
    static char body[100000] = "slow";
    int fd;
    int rc = SP_OK;

    (void)state;
    check_ok(sp_set_str(pub.id, "overflow", "block"));
    check_ok(sp_set_int(pub.id, "send-timeout", 20));
    check_ok(sp_set_int(pub.id, "send-buffer", 4));
    check_listen(pub, "tcp", url, NULL);
    fd = check_raw_dial(url, SUB_FILTER, PUB_FILTER);
    assert_int_equal(rawsp_send(fd, NULL, 0, "\1\0\4slow\2\0\0", 10), 0);
    check_stat_is(pub.id, "rx_drops.own", 1);
    sub = join(pub, url, "fast", 2);
    for (int i = 0; i < 200; i++) {
        check_send(pub, "fast");
        check_recv(sub, "fast");
    }
    while (rc == SP_OK) {
        rc = sp_send(pub, body, sizeof(body), 0);
    }
    check_rc(SP_ETIMEDOUT, rc);
    check_stat_is(pub.id, "tx_drops.full", 0);
    // Without it nobody waits any more.
    (void)close(fd);
    check_pipes(pub, 1);
    check_ok(sp_set_int(pub.id, "send-timeout", CHECK_SOON));
    check_send(pub, "fast");
    check_recv(sub, "fast");
    close_all(pub, sub);
}

/* ------------------------------------------------------------------ On the wire */

static void subscriptions_are_the_documented_bytes(void **state)
{
    sp_socket sub = check_open("sub");
    unsigned char got[64];
    char url[256];
    int fd;

    (void)state;
    subscribe(sub.id, "tea");
    subscribe(sub.id, "");
    check_listen(sub, "tcp", url, NULL);
    fd = check_raw_dial(url, PUB_FILTER, SUB_FILTER);
    assert_int_equal(rawsp_recv(fd, got, sizeof(got), CHECK_SOON), 12);
    assert_memory_equal(got, "\1\0\3tea\1\0\0\2\0\0", 12);
    unsubscribe(sub.id, "tea");
    assert_int_equal(rawsp_recv(fd, got, sizeof(got), CHECK_SOON), 6);
    assert_memory_equal(got, "\0\0\3tea", 6);
    check_pipes(sub, 1);
    check_stat_is(sub.id, "tx_copies", 2);
    check_rest(sub);
    (void)close(fd);
}

/// Who wants nothing says so.
static void no_subscriptions_are_told_too(void **state)
{
    char url[256];
    sp_socket pub = publisher("tcp", url);
    sp_socket sub = check_open("sub");

    (void)state;
    check_ok(sp_dial(sub, url, NULL, 0));
    check_stat_is(pub.id, "rx_drops.own", 1);
    check_send(pub, "x");
    check_stat_is(pub.id, "tx_drops.unwanted", 1);
    close_all(pub, sub);
}

/// Until it has said what it wants a peer is sent everything: so nothing is missed that is sent
/// after it is connected.
static void nothing_is_missed_behind_the_connection(void **state)
{
    unsigned char got[64];
    char url[256];
    sp_socket pub = publisher("tcp", url);
    int fd = check_raw_dial(url, SUB_FILTER, PUB_FILTER);

    (void)state;
    check_pipes(pub, 1);
    check_send(pub, "early");
    assert_int_equal(rawsp_recv(fd, got, sizeof(got), CHECK_SOON), 5);
    assert_int_equal(rawsp_send(fd, NULL, 0, "\1\0\1a\1\0\2ab", 9), 0);
    check_stat_is(pub.id, "rx_drops.own", 1);
    check_send(pub, "x");
    check_send(pub, "ab"); // Wanted twice, sent once.
    assert_int_equal(rawsp_recv(fd, got, sizeof(got), CHECK_SOON), 1);
    assert_int_equal(rawsp_recv(fd, got, sizeof(got), CHECK_SOON), 2);
    assert_int_equal(rawsp_send(fd, NULL, 0, "\2\0\0", 3), 0);
    check_stat_is(pub.id, "rx_drops.own", 2);
    check_send(pub, "x");
    check_send(pub, "abc");
    assert_int_equal(rawsp_recv(fd, got, sizeof(got), CHECK_SOON), 3);
    check_stat_is(pub.id, "tx_msgs", 4);
    (void)close(fd);
    check_pipes(pub, 0);
    check_rest(pub);
}

/// The set of topics of a PUB made by hand: numbers, each with the one body that make_topic gives.
#define TOPICS 40
#define TOPIC_LONG 30000

static size_t make_topic(unsigned char *topic, int number)
{
    size_t len = number % 3 == 0 ? TOPIC_LONG + (size_t)number : 2 + (size_t)number * 7;

    memset(topic, 'x', len);
    topic[0] = (unsigned char)number;
    topic[1] = (unsigned char)(number >> 8);
    return len;
}

/// Applies a message of records to the set; each has to say something new.
static void apply(bool *set, const unsigned char *at, size_t n)
{
    unsigned char topic[TOPIC_LONG + TOPICS];

    while (n > 0) {
        size_t len = (size_t)at[1] << 8 | at[2];

        assert_true(n >= 3 + len && at[0] <= 2);
        if (at[0] == 2) {
            assert_int_equal(len, 0);
            at += 3;
            n -= 3;
            continue;
        }
        assert_true(at[3] < TOPICS);
        assert_int_equal(make_topic(topic, at[3]), len);
        assert_memory_equal(topic, at + 3, len);
        assert_int_equal(set[at[3]], at[0] == 0);
        set[at[3]] = at[0] != 0;
        at += 3 + len;
        n -= 3 + len;
    }
}

static uint64_t random_state;

static unsigned any(unsigned below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(random_state >> 33) % below;
}

/// A topic is subscribed to, or no more.
static void toggle(sp_socket sub, bool *wanted)
{
    unsigned char topic[TOPIC_LONG + TOPICS];
    int number = (int)any(TOPICS);
    size_t len = make_topic(topic, number);

    check_ok(sp_set_bytes(sub.id, wanted[number] ? "unsubscribe" : "subscribe", topic, len));
    wanted[number] = !wanted[number];
}

/// What came over a connection, in whole messages and the begin of the next one.
struct stream {
    int fd;
    size_t have;
    bool told[TOPICS];
    unsigned char bytes[1 << 18];
};

/// Applies what can be read now. False: the connection is at its end.
static bool stream_read(struct stream *s)
{
    ssize_t n = recv(s->fd, s->bytes + s->have, sizeof(s->bytes) - s->have, MSG_DONTWAIT);
    size_t at = 0;

    s->have += n > 0 ? (size_t)n : 0;
    while (s->have - at >= 8) {
        const unsigned char *head = s->bytes + at;
        size_t len = (size_t)head[5] << 16 | (size_t)head[6] << 8 | head[7];

        if (s->have - at < 8 + len) {
            break;
        }
        apply(s->told, head + 8, len);
        at += 8 + len;
    }
    memmove(s->bytes, s->bytes + at, s->have - at);
    s->have -= at;
    return n != 0;
}

/// The peer does not read for long, then reads all: nothing is lost, nothing is told twice, however
/// small the queue. What waits is bounded by the topics.
static void slow_publisher_is_told_all_in_order(void **state)
{
    static struct stream stream;

    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        bool wanted[TOPICS] = {false};
        sp_socket sub = check_open("sub");
        char url[256];

        memset(&stream, 0, sizeof(stream));
        random_state = seed;
        check_ok(sp_set_int(sub.id, "send-buffer", 1));
        check_listen(sub, "tcp", url, NULL);
        for (unsigned i = any(10); i > 0; i--) {
            toggle(sub, wanted);
        }
        stream.fd = check_raw_dial(url, PUB_FILTER, SUB_FILTER);
        for (int step = 0; step < 3000; step++) {
            toggle(sub, wanted);
            if (step > 1500 && any(5) == 0) {
                assert_true(stream_read(&stream));
            }
        }
        check_until(stream_read(&stream) && memcmp(wanted, stream.told, sizeof(wanted)) == 0);
        check_rest(sub);
        check_ok(sp_close(sub));
        check_until(!stream_read(&stream)); // Behind the last one nothing comes any more.
        assert_memory_equal(wanted, stream.told, sizeof(wanted));
        (void)close(stream.fd);
    }
}

/* ------------------------------------------------------------------ Plain peers */

/// A SUB of another implementation beside one of ours.
static void plain_subscriber_gets_everything(void **state)
{
    char url[256];
    unsigned char got[64];
    sp_socket pub = publisher("tcp", url);
    sp_socket sub = join(pub, url, "a", 1);
    int fd = check_raw_dial(url, SUB_PLAIN, PUB_PLAIN);

    (void)state;
    check_pipes(pub, 2);
    check_send(pub, "b");
    check_send(pub, "a");
    check_recv(sub, "a");
    check_stat_is(pub.id, "tx_msgs", 3);
    assert_int_equal(rawsp_recv(fd, got, sizeof(got), CHECK_SOON), 1);
    assert_int_equal(rawsp_recv(fd, got, sizeof(got), CHECK_SOON), 1);
    check_stat_is(sub.id, "rx_msgs", 1);
    // It must not say what it wants.
    assert_int_equal(rawsp_send(fd, NULL, 0, "\1\0\1a", 4), 0);
    assert_true(check_raw_closed(fd));
    check_stat_is(pub.id, "rx_drops.state", 1);
    (void)close(fd);
    close_all(pub, sub);
}

/// A PUB of another implementation is told nothing.
static void plain_publisher_is_told_nothing(void **state)
{
    char url[256];
    sp_socket sub = check_open("sub");
    int fd;

    (void)state;
    subscribe(sub.id, "a");
    check_listen(sub, "tcp", url, NULL);
    fd = check_raw_dial(url, PUB_PLAIN, SUB_PLAIN);
    check_pipes(sub, 1);
    subscribe(sub.id, "b");
    assert_int_equal(rawsp_send(fd, NULL, 0, "x", 1), 0);
    assert_int_equal(rawsp_send(fd, NULL, 0, "b", 1), 0);
    check_recv(sub, "b");
    check_stat_is(sub.id, "rx_drops.unwanted", 1);
    check_stat_is(sub.id, "tx_copies", 0);
    (void)close(fd);
    check_pipes(sub, 0);
    check_rest(sub);
}

/// A raw SUB wants everything, whoever dials.
static void raw_subscriber_gets_everything(void **state)
{
    static const char *const transports[] = {"inproc", "ipc", "tcp"};

    (void)state;
    for (int t = 0; t < 6; t++) {
        char url[256];
        sp_socket pub = check_open("pub");
        sp_socket raw = {0};
        sp_socket sub = check_open("sub");

        check_ok(sp_open_raw(&raw, "sub"));
        check_ok(sp_set_int(raw.id, "recv-timeout", CHECK_SOON));
        if (t % 2 == 0) {
            check_listen(pub, transports[t / 2], url, NULL);
            check_ok(sp_dial(raw, url, NULL, 0));
            check_ok(sp_dial(sub, url, NULL, 0));
        } else {
            check_listen(raw, transports[t / 2], url, NULL);
            check_ok(sp_dial(pub, url, NULL, 0));
            check_listen(sub, transports[t / 2], url, NULL);
            check_ok(sp_dial(pub, url, NULL, 0));
        }
        check_pipes(pub, 2);
        subscribe(sub.id, "some");
        check_stat_is(pub.id, "rx_drops.own", 2);
        check_send(pub, "anything");
        check_send(pub, "something");
        check_recv(raw, "anything");
        check_recv(raw, "something");
        check_recv(sub, "something");
        check_stat_is(sub.id, "rx_msgs", 1);
        check_rest(raw);
        close_all(pub, sub);
        check_ok(sp_close(raw));
    }
}

/* ------------------------------------------------------------------ Hostile peers */

static void malformed_subscriptions_end_the_connection(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {
        {"", 0},                 // says nothing
        {"\1", 1},               // no length
        {"\1\0", 2},             // half a length
        {"\1\0\1", 3},           // no topic
        {"\1\0\2x", 4},          // half a topic
        {"\1\xFF\xFFx", 4},      // next to nothing of a long one
        {"\3\0\1x", 4},          // of no kind
        {"\2\0\1x", 4},          // all of what
        {"\2\0\0\2\0\0", 6},     // all, and all again
        {"\0\0\1x", 4},          // takes back what was never said
        {"\1\0\1x\1\0\1x", 8},   // says it twice
        {"\1\0\1x\0\0\1x\0", 9}, // right at first
        {"\1\0\1xy", 5},         // something left
    };
    char url[256];
    sp_socket pub = publisher("tcp", url);

    (void)state;
    for (int i = 0; i < (int)(sizeof(bad) / sizeof(bad[0])); i++) {
        int fd = check_raw_dial(url, SUB_FILTER, PUB_FILTER);

        assert_int_equal(rawsp_send(fd, NULL, 0, bad[i].bytes, bad[i].n), 0);
        assert_true(check_raw_closed(fd));
        check_stat_is(pub.id, "rx_drops.malformed", i + 1);
        check_stat_is(pub.id, "listeners[0].proto", i + 1);
        check_pipes(pub, 0);
        (void)close(fd);
    }
    check_rest(pub);
}

/// Bytes at random, most of them nearly right. Whatever they are, the connection is there or closed
/// with a count, and others are served.
static void nonsense_harms_nobody(void **state)
{
    char url[256];
    sp_socket pub = publisher("tcp", url);
    sp_socket sub = join(pub, url, "good", 1);

    (void)state;
    check_ok(sp_set_int(pub.id, "pub:filter-max", 6000));
    for (random_state = 1; random_state <= 40;) {
        uint64_t seed = random_state;
        int fd = check_raw_dial(url, SUB_FILTER, PUB_FILTER);

        for (int i = 0; i < 60; i++) {
            unsigned char body[600];
            size_t n = 0;

            while (any(4) != 0 && n < 500) {
                size_t len = any(6) == 0 ? any(60) : any(3);

                body[n++] = any(40) == 0 ? (unsigned char)any(256) : (unsigned char)any(3);
                body[n++] = any(60) == 0 ? (unsigned char)any(256) : 0;
                body[n++] = (unsigned char)(any(30) == 0 ? any(256) : (unsigned)len);
                for (size_t j = 0; j < len; j++) {
                    body[n++] = (unsigned char)('a' + any(26));
                }
            }
            if (n > 0 && rawsp_send(fd, NULL, 0, body, n) != 0) {
                break; // It is closed.
            }
        }
        check_send(pub, "good");
        check_recv(sub, "good");
        (void)close(fd);
        check_pipes(pub, 1);
        random_state = seed + 1;
    }
    assert_true(check_stat(pub.id, "rx_drops.malformed") > 0);
    close_all(pub, sub);
}

/* ------------------------------------------------------------------ Many */

#define CROWD 200

/// Each wants a topic of its own, and one that all want.
static void many_subscribers_are_told_apart(void **state)
{
    static sp_socket subs[CROWD];
    char url[256];
    sp_socket pub = publisher("inproc", url);
    char text[32];

    (void)state;
    for (int i = 0; i < CROWD; i++) {
        (void)snprintf(text, sizeof(text), "one %d.", i);
        subs[i] = join(pub, url, text, 2 * i + 1);
        subscribe(subs[i].id, "all");
        check_stat_is(pub.id, "rx_drops.own", 2 * (i + 1));
    }
    for (int i = 0; i < CROWD; i++) {
        (void)snprintf(text, sizeof(text), "one %d.", i);
        check_send(pub, text);
        check_recv(subs[i], text);
    }
    check_stat_is(pub.id, "tx_msgs", CROWD);
    check_send(pub, "all");
    for (int i = 0; i < CROWD; i++) {
        check_recv(subs[i], "all");
        check_rest(subs[i]);
        check_ok(sp_close(subs[i]));
    }
    check_rest(pub);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(unwanted_messages_are_never_sent),
        check_both(a_message_is_sent_once_to_whoever_wants_it_twice),
        check_both(what_is_unsubscribed_is_sent_no_more),
        check_both(topics_are_counted_over_contexts),
        check_both(new_connections_are_told_everything),
        check_both(a_peer_that_goes_is_forgotten),
        check_both(too_many_topics_mean_everything),
        check_both(block_waits_for_those_who_want_it),
        check_both(subscriptions_are_the_documented_bytes),
        check_both(no_subscriptions_are_told_too),
        check_both(nothing_is_missed_behind_the_connection),
        check_both(slow_publisher_is_told_all_in_order),
        check_both(plain_subscriber_gets_everything),
        check_both(plain_publisher_is_told_nothing),
        check_both(raw_subscriber_gets_everything),
        check_both(malformed_subscriptions_end_the_connection),
        check_both(nonsense_harms_nobody),
        check_both(many_subscribers_are_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
