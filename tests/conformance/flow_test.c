/* SPDX-License-Identifier: MIT */
/// Full queues, order, and who gets how much: a sender is held or drops by the policy, what is sent
/// arrives in order, and nobody gets less than half of his share.
#include "conform.h"

#include <string.h>

#define PEERS 4
#define ROUNDS 200 // messages for each peer
#define LONG                                                                                       \
    4000 // … where a queue full of one sender's, or a thread that the system stops for some
         // ms, must be a small part of it

/// A receiver that does not receive: the sender is held, nothing is lost, all comes in order.
static void slow_receiver_holds_the_sender(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    int n;

    (void)state;
    conform_couple(&sender, &receiver);
    n = conform_fill(sender);
    check_rest(sender);
    check_rest(receiver);
    assert_in_range(check_stat(0, "runtime.message_bytes"), 0, 64 << 20);
    for (int i = 0; i < n; i++) {
        assert_int_equal(conform_recv(receiver), i);
    }
    conform_exchange(sender, receiver, n);
    check_rest(sender);
    check_rest(receiver);
    check_stat_is(sender.id, "tx_msgs", n + 1);
    check_stat_is(receiver.id, "rx_delivered", n + 1);
}

static void order_is_kept(void **state)
{
    sp_socket sender;
    sp_socket receiver;

    (void)state;
    conform_couple(&sender, &receiver);
    for (int from = 0; from < 2000; from += 50) { // Never more than its queue takes.
        for (int i = from; i < from + 50; i++) {
            conform_send(sender, i);
        }
        for (int i = from; i < from + 50; i++) {
            assert_int_equal(conform_recv(receiver), i);
        }
    }
    check_rest(sender);
}

/* ------------------------------------------------------------------ Overflow */

/// Sends large messages to a receiver that takes none until the policy has had to act; answers how
/// many. A sender that is held ends it too.
static int overflow(sp_socket sender, const char *policy, bool (*acted)(sp_socket sender))
{
    static unsigned char body[16384];
    int n = 0;

    check_ok(sp_set_str(sender.id, "overflow", policy));
    for (; n < 20000 && (n % 16 != 0 || !acted(sender)); n++) {
        int rc;

        memcpy(body, &n, sizeof(n));
        rc = sp_send(sender, body, sizeof(body), SP_NONBLOCK);
        if (rc == SP_EAGAIN) {
            check_pause();
            n--;
            continue;
        }
        check_ok(rc);
    }
    assert_true(acted(sender));
    return n;
}

static bool dropped(sp_socket sender)
{
    return check_stat(sender.id, "tx_drops.full") >= 20;
}

static bool disconnected(sp_socket sender)
{
    return check_stat(sender.id, "listeners[0].overflow") > 0;
}

/// Receives until nothing comes any more: all in order, and the last one.
static int take_in_order(sp_socket sender, sp_socket receiver, int *last)
{
    int n = 0;

    *last = -1;
    check_ok(sp_set_int(receiver.id, "recv-timeout", 0));
    for (int64_t end = check_now() + CHECK_SOON; check_now() < end;) {
        sp_msg *m = NULL;
        int v;

        if (sp_recvmsg(receiver, &m, SP_NONBLOCK) != SP_OK) {
            check_rest(sender); // Nothing is on its way to its queues.
            if (check_stat(sender.id, "tx_queued") == 0 &&
                check_stat(receiver.id, "rx_received") == check_stat(sender.id, "tx_msgs") &&
                check_stat(receiver.id, "rx_queued") == 0) {
                break;
            }
            check_pause();
            continue;
        }
        memcpy(&v, sp_msg_view(m), sizeof(v));
        sp_msg_release(m);
        assert_true(v > *last);
        *last = v;
        n++;
    }
    return n;
}

static void drop_new_keeps_the_oldest(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    int sent;
    int last;
    int got;

    (void)state;
    conform_couple(&sender, &receiver);
    sent = overflow(sender, "drop-new", dropped);
    got = take_in_order(sender, receiver, &last);
    check_rest(sender);
    assert_int_equal(got + check_stat(sender.id, "tx_drops.full") +
                         check_stat(receiver.id, "rx_drops.full"),
                     sent);
    check_stat_is(sender.id, "pipes", 1); // Nobody was sent away.
}

static void drop_old_keeps_the_newest(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    int sent;
    int last;
    int got;

    (void)state;
    conform_couple(&sender, &receiver);
    sent = overflow(sender, "drop-old", dropped);
    got = take_in_order(sender, receiver, &last);
    check_rest(sender);
    assert_int_equal(last, sent - 1);
    assert_int_equal(got + check_stat(sender.id, "tx_drops.full") +
                         check_stat(receiver.id, "rx_drops.full"),
                     sent);
}

static void disconnect_ends_who_does_not_keep_up(void **state)
{
    sp_socket sender;
    sp_socket receiver;

    (void)state;
    conform_couple(&sender, &receiver);
    (void)overflow(sender, "disconnect", disconnected);
    // The end stands behind what it was sent before.
    for (int64_t end = check_now() + CHECK_SOON;
         check_stat(receiver.id, "dialers[0].disconnect") == 0 && check_now() < end;) {
        sp_msg *m = NULL;

        if (sp_recvmsg(receiver, &m, SP_NONBLOCK) == SP_OK) {
            sp_msg_release(m);
        } else {
            check_pause();
        }
    }
    assert_true(check_stat(receiver.id, "dialers[0].disconnect") > 0);
    check_rest(sender);
    check_pipes(sender, 1); // It may come back.
}

static void block_drops_nothing(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    int n;

    (void)state;
    conform_couple(&sender, &receiver);
    check_ok(sp_set_str(sender.id, "overflow", "block"));
    n = conform_fill(sender);
    for (int i = 0; i < n; i++) {
        assert_int_equal(conform_recv(receiver), i);
    }
    check_stat_is(sender.id, "tx_drops.full", 0);
    check_stat_is(sender.id, "tx_msgs", n);
}

/// A subscriber is never a burden: its own queue drops, by default what is oldest.
static void subscribers_queue_drops(void **state)
{
    enum { QUEUE = 8, SENT = 100 };

    (void)state;
    for (int newest = 0; newest < 2; newest++) {
        sp_socket sender = conform_sender();
        sp_socket receiver = conform_receiver();

        check_ok(sp_set_int(receiver.id, "recv-buffer", QUEUE));
        check_ok(sp_set_int(receiver.id, "sub:prefnew", newest));
        conform_connect(&sender, 1, &receiver, 1);
        for (int i = 0; i < SENT; i++) {
            conform_send(sender, i);
        }
        check_stat_is(receiver.id, "rx_received", SENT);
        check_stat_is(receiver.id, "rx_drops.full", SENT - QUEUE);
        check_stat_is(receiver.id, "rx_queued", QUEUE);
        for (int i = 0; i < QUEUE; i++) {
            assert_int_equal(conform_recv(receiver), newest != 0 ? SENT - QUEUE + i : i);
        }
        check_rest(receiver);
        check_ok(sp_close(sender));
        check_ok(sp_close(receiver));
    }
}

/* ------------------------------------------------------------------ Shares */

static sp_socket many[PEERS];

/// Receivers that take what comes, one message at a time, in turn.
static void open_receivers(sp_socket *sender)
{
    *sender = conform_sender();
    for (int i = 0; i < PEERS; i++) {
        many[i] = conform_receiver();
    }
    conform_connect(sender, 1, many, PEERS);
}

static void receivers_get_their_share(void **state)
{
    sp_socket sender;
    int got[PEERS] = {0};
    int all = 0;

    (void)state;
    open_receivers(&sender);
    for (int n = 0; n < PEERS * ROUNDS; n++) {
        conform_send(sender, n);
        for (int64_t end = check_now() + CHECK_SOON; all <= n && check_now() < end;) {
            for (int i = 0; i < PEERS; i++) {
                int v;

                if (sp_recv(many[i], &v, sizeof(v), SP_NONBLOCK) != sizeof(v)) {
                    continue;
                }
                assert_int_equal(v, n);
                got[i]++;
                all++;
                if ((conform.pattern->flags & CONFORM_ASKS) != 0) {
                    conform_send(many[i], v);
                    assert_int_equal(conform_recv(sender), v);
                }
            }
            if (all <= n) {
                check_pause();
            }
        }
    }
    for (int i = 0; i < PEERS; i++) {
        assert_in_range(got[i], ROUNDS / 2, 2 * ROUNDS);
    }
}

/// Senders whose queues never run empty, and one receiver, who does not drop.
static void senders_get_their_share(void **state)
{
    sp_socket receiver = conform_receiver();
    int got[PEERS] = {0};
    int all = 0;

    (void)state;
    for (int i = 0; i < PEERS; i++) {
        many[i] = conform_sender();
    }
    conform_connect(many, PEERS, &receiver, 1);
    while (all < PEERS * LONG) {
        int who;

        for (int i = 0; i < PEERS; i++) {
            for (int k = 0; k < 100 && sp_send(many[i], &i, sizeof(i), SP_NONBLOCK) == SP_OK; k++) {
            }
        }
        for (int k = 0; k < 20 && sp_recv(receiver, &who, sizeof(who), SP_NONBLOCK) > 0; k++) {
            got[who]++;
            all++;
        }
    }
    for (int i = 0; i < PEERS; i++) {
        assert_true(got[i] * PEERS * 2 >= all);
    }
}

/// Each asks again as soon as it is answered.
static void askers_get_their_share(void **state)
{
    sp_socket receiver = conform_receiver();
    int got[PEERS] = {0};

    (void)state;
    for (int i = 0; i < PEERS; i++) {
        many[i] = conform_sender();
    }
    conform_connect(many, PEERS, &receiver, 1);
    for (int i = 0; i < PEERS; i++) {
        conform_send(many[i], i);
    }
    for (int n = 0; n < PEERS * LONG; n++) {
        int who = conform_recv(receiver);

        got[who]++;
        conform_send(receiver, who);
        assert_int_equal(conform_recv(many[who]), who);
        conform_send(many[who], who);
    }
    for (int i = 0; i < PEERS; i++) {
        assert_in_range(got[i], LONG / 2, 2 * LONG);
    }
}

int main(void)
{
    static const struct conform_fact facts[] = {
        conform_fact_lossless(slow_receiver_holds_the_sender, 0, CONFORM_ASKS | CONFORM_DROPS),
        conform_fact_lossless(order_is_kept, 0, CONFORM_ASKS),
        conform_fact_lossless(drop_new_keeps_the_oldest, CONFORM_FAN_OUT,
                              CONFORM_ASKS | CONFORM_TOPICS),
        conform_fact_lossless(drop_old_keeps_the_newest, CONFORM_FAN_OUT,
                              CONFORM_ASKS | CONFORM_TOPICS),
        conform_fact_lossless(disconnect_ends_who_does_not_keep_up, CONFORM_FAN_OUT,
                              CONFORM_ASKS | CONFORM_TOPICS),
        conform_fact_lossless(block_drops_nothing, CONFORM_FAN_OUT, CONFORM_ASKS | CONFORM_TOPICS),
        conform_fact_lossless(subscribers_queue_drops, CONFORM_TOPICS, 0),
        conform_fact_lossless(receivers_get_their_share, CONFORM_BALANCE, 0),
        conform_fact_lossless(senders_get_their_share, CONFORM_GATHERS,
                              CONFORM_ASKS | CONFORM_TOPICS),
        conform_fact_lossless(askers_get_their_share, CONFORM_ASKS, 0),
    };

    return conform_run(facts, sizeof(facts) / sizeof(facts[0]));
}
