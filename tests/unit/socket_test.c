/* SPDX-License-Identifier: MIT */
/// Sockets: sending and receiving in every form and with every documented error, queues as limits,
/// lingering, closing under blocked calls. Over inproc unless the transport matters.
#include "check.h"
#include "core/socket.h"

#include <netinet/in.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static sp_socket a;
static sp_socket b;

static int couple(void **state)
{
    (void)state;
    check_init(2);
    check_couple("inproc", "pair", "pair", &a, &b);
    return 0;
}

static int uncouple(void **state)
{
    (void)state;
    check_fini();
    return 0;
}

static int start(void **state)
{
    (void)state;
    check_init(2);
    return 0;
}

/// Sends until it is refused; how many were taken.
static int fill(sp_socket s, size_t len, int want)
{
    char *buf = calloc(1, len + 1);
    int n = 0;
    int rc;

    while ((rc = sp_send(s, buf, len, SP_NONBLOCK)) == SP_OK && n < 1000000) {
        n++;
    }
    free(buf);
    check_rc(want, rc);
    return n;
}

/// Sends until nothing moves any more.
static int fill_to_rest(sp_socket s, size_t len)
{
    int total = 0;
    int quiet = 0;

    while (quiet < 50) {
        int n = fill(s, len, SP_EAGAIN);

        total += n;
        quiet = n > 0 ? 0 : quiet + 1;
        check_pause();
    }
    return total;
}

static int drain(sp_socket s, int want)
{
    char buf[16];
    int n = 0;

    while (n < want) {
        ssize_t rc = sp_recv(s, buf, sizeof(buf), 0);

        if (rc < 0) {
            check_rc(0, rc);
        }
        n++;
    }
    check_rc(SP_EAGAIN, sp_recv(s, buf, sizeof(buf), SP_NONBLOCK));
    return n;
}

/* ------------------------------------------------------------------ Results */

static void send_and_receive_without_a_peer(void **state)
{
    sp_socket s = check_open("pair");
    char buf[8];

    (void)state;
    check_detail(SP_ENOPEER, "send: no peer connected", sp_send(s, "x", 1, SP_NONBLOCK));
    check_detail(SP_EAGAIN, "receive: nothing there now", sp_recv(s, buf, 8, SP_NONBLOCK));
    check_ok(sp_set_int(s.id, "send-timeout", 20));
    check_ok(sp_set_int(s.id, "recv-timeout", 20));
    check_detail(SP_ETIMEDOUT, "send: timed out, no peer connected", sp_send(s, "x", 1, 0));
    check_detail(SP_ETIMEDOUT, "receive: timed out", sp_recv(s, buf, 8, 0));
    check_ok(sp_set_int(s.id, "send-timeout", 0));
    check_ok(sp_set_int(s.id, "recv-timeout", 0));
    check_rc(SP_ENOPEER, sp_send(s, "x", 1, 0));
    check_rc(SP_EAGAIN, sp_recv(s, buf, 8, 0));
    check_rest(s);
    assert_int_equal(check_stat(s.id, "tx_accepted"), 0);
}

static void timeouts_are_kept(void **state)
{
    int64_t start_at = check_now();
    char buf[8];

    (void)state;
    check_ok(sp_set_int(b.id, "recv-timeout", 100));
    check_rc(SP_ETIMEDOUT, sp_recv(b, buf, 8, 0));
    assert_in_range(check_now() - start_at, 99, 5000);
    (void)fill_to_rest(a, 1);
    check_ok(sp_set_int(a.id, "send-timeout", 100));
    start_at = check_now();
    check_detail(SP_ETIMEDOUT, "send: timed out, no room", sp_send(a, "x", 1, 0));
    assert_in_range(check_now() - start_at, 99, 5000);
    check_detail(SP_EAGAIN, "send: no room now", sp_send(a, "x", 1, SP_NONBLOCK));
}

static void bad_arguments_are_einval(void **state)
{
    sp_msg *m[2] = {NULL, NULL};
    size_t n = 1;
    sp_peer_info info = {.size = 0};

    (void)state;
    check_rc(SP_EINVAL, sp_send(a, NULL, 1, 0));
    check_rc(SP_EINVAL, sp_recv(b, NULL, 1, 0));
    check_rc(SP_EINVAL, sp_sendmsg(a, NULL, 0));
    check_rc(SP_EINVAL, sp_recvmsg(a, NULL, 0));
    check_rc(SP_EINVAL, sp_sendmsgs(a, NULL, 1, 0));
    check_rc(SP_EINVAL, sp_recvmsgs(a, NULL, 1, 0));
    check_ok(sp_msg_new(&m[0], 1));
    check_detail(SP_EINVAL, "send: message 1 is NULL", sp_sendmsgs(a, m, 2, 0));
    assert_non_null(m[0]);
    sp_msg_release(m[0]);
    check_rc(SP_EINVAL, sp_peers(a, &info, &n));
    check_rc(SP_EINVAL, sp_peers(a, &info, NULL));
    check_rc(SP_EINVAL, sp_stats(a.id, NULL));
    check_rest(a);
}

static int no_work(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    (void)self;
    (void)state;
    (void)port;
    (void)in;
    return 0;
}

/// Beside the known one; nothing was done, and what was to be sent is still the caller's.
static void unknown_flags_are_refused(void **state)
{
    static const char *const of_send = "send: unknown flags 0x16";
    static const char *const of_receive = "receive: unknown flags 0x80000000";
    const sp_actor_ops ops = {.size = sizeof(ops), .on_message = no_work};
    const int more = SP_NONBLOCK | 22;
    const int high = INT32_MIN;
    sp_socket req = check_open("req");
    sp_mailbox mb;
    sp_actor actor;
    sp_ctx c;
    sp_msg *m = NULL;
    char buf[8];

    (void)state;
    check_ok(sp_ctx_open(&c, req));
    check_ok(sp_mailbox_open(&mb, 1));
    check_ok(sp_actor_spawn(&actor, &ops, NULL, NULL));
    check_ok(sp_msg_new(&m, 1));
    check_detail(SP_EINVAL, of_send, sp_send(a, "x", 1, more));
    check_detail(SP_EINVAL, of_send, sp_sendmsg(a, m, more));
    check_detail(SP_EINVAL, of_send, sp_sendmsgs(a, &m, 1, more));
    check_detail(SP_EINVAL, of_send, sp_ctx_sendmsg(c, m, more));
    check_detail(SP_EINVAL, "post: unknown flags 0x2", sp_mailbox_post(mb, m, 2));
    check_detail(SP_EINVAL, "post: unknown flags 0x2", sp_actor_post(actor, m, 2));
    assert_non_null(m);
    sp_msg_release(m);
    check_detail(SP_EINVAL, of_receive, sp_recv(a, buf, 8, high));
    check_detail(SP_EINVAL, of_receive, sp_recvmsg(a, &m, high));
    check_detail(SP_EINVAL, of_receive, sp_recvmsgs(a, &m, 1, high));
    check_detail(SP_EINVAL, of_receive, sp_ctx_recvmsg(c, &m, high));
    check_detail(SP_EINVAL, "take: unknown flags 0x80000000", sp_mailbox_take(mb, &m, high));
    check_detail(SP_EINVAL, "dial: unknown flags 0x2", sp_dial(req, "inproc://flags", NULL, 2));
    check_rest(a);
    assert_int_equal(check_stat(a.id, "tx_accepted"), 0);
    check_ok(sp_actor_stop(actor));
}

static void peers_are_listed(void **state)
{
    sp_socket rep = check_open("rep");
    sp_peer_info infos[3] = {{.size = sizeof(infos[0])}};
    char url[256];
    size_t n = 0;

    (void)state;
    check_listen(rep, "tcp", url, NULL);
    for (int i = 0; i < 3; i++) {
        check_ok(sp_dial(check_open("req"), url, NULL, 0));
    }
    check_pipes(rep, 3);
    check_ok(sp_peers(rep, NULL, &n));
    assert_int_equal(n, 3);
    n = 2;
    check_rc(SP_EMSGSIZE, sp_peers(rep, infos, &n));
    assert_int_equal(n, 3);
    assert_true(infos[0].pipe.id != 0 && infos[1].pipe.id != 0 && infos[2].pipe.id == 0);
    check_ok(sp_peers(rep, infos, &n));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(infos[i].size, sizeof(infos[0]));
        assert_true(infos[i].peer != 0 && infos[i].peer != infos[(i + 1) % 3].peer);
        assert_memory_equal(infos[i].address, "127.0.0.1:", 10);
        assert_int_equal(infos[i].uid, -1);
    }
}

/* ------------------------------------------------------------------ Messages through */

static void lengths_and_order_are_kept(void **state)
{
    static const size_t sizes[] = {0, 1, 96, 97, 1000, 70000, 1 << 20, 0, 5};
    char *buf = malloc(1 << 20);

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < 9; i++) {
            memset(buf, (int)(i + 1), sizes[i]);
            check_ok(sp_send(a, buf, sizes[i], 0));
        }
        for (size_t i = 0; i < 9; i++) {
            check_rc((long)sizes[i], sp_recv(b, buf, 1 << 20, 0));
            for (size_t k = 0; k < sizes[i]; k++) {
                if (buf[k] != (char)(i + 1)) {
                    fail_msg("byte %zu of message %zu", k, i);
                }
            }
        }
    }
    free(buf);
    check_rest(a);
    check_rest(b);
    assert_int_equal(check_stat(a.id, "tx_msgs"), 27);
    assert_int_equal(check_stat(b.id, "rx_delivered"), 27);
    assert_int_equal(check_stat(a.id, "tx_bytes"), check_stat(b.id, "rx_bytes"));
}

static void zero_length_needs_no_buffer(void **state)
{
    sp_msg *m = NULL;

    (void)state;
    check_ok(sp_send(a, NULL, 0, 0));
    check_ok(sp_send(a, NULL, 0, 0));
    check_rc(0, sp_recv(b, NULL, 0, 0));
    check_ok(sp_recvmsg(b, &m, 0));
    assert_int_equal(sp_msg_len(m), 0);
    assert_non_null(sp_msg_data(m));
    sp_msg_release(m);
}

static void too_small_a_buffer_keeps_the_message(void **state)
{
    char buf[16] = "";
    int64_t next = -1;

    (void)state;
    check_rc(SP_EAGAIN, sp_get_int(b.id, "recv-next-size", &next));
    check_send(a, "0123456789");
    check_send(a, "second");
    check_until(sp_get_int(b.id, "recv-next-size", &next) == SP_OK);
    assert_int_equal(next, 10);
    check_detail(SP_EMSGSIZE, "receive: the message has 10 bytes, the buffer 9",
                 (int)sp_recv(b, buf, 9, 0));
    check_rc(SP_EMSGSIZE, sp_recv(b, NULL, 0, SP_NONBLOCK));
    check_ok(sp_get_int(b.id, "recv-next-size", &next));
    assert_int_equal(next, 10);
    check_rc(10, sp_recv(b, buf, 10, 0));
    assert_memory_equal(buf, "0123456789", 10);
    check_recv(b, "second");
    check_rc(SP_EAGAIN, sp_get_int(b.id, "recv-next-size", &next));
    check_rest(b);
}

static void batch_send_takes_a_prefix_and_clears_its_entries(void **state)
{
    sp_msg *m[2000];
    int taken = 0;
    int rc;

    (void)state;
    check_ok(sp_set_int(a.id, "send-buffer", 10));
    for (int i = 0; i < 2000; i++) {
        check_ok(sp_msg_new(&m[i], 4));
        memcpy(sp_msg_data(m[i]), &i, 4);
    }
    while ((rc = sp_sendmsgs(a, m + taken, (size_t)(2000 - taken), SP_NONBLOCK)) > 0) {
        for (int i = taken; i < taken + rc; i++) {
            assert_null(m[i]);
        }
        taken += rc;
        if (taken < 2000) {
            assert_non_null(m[taken]);
        }
    }
    check_rc(SP_EAGAIN, rc);
    assert_in_range(taken, 10, 1000);
    for (int got = 0; got < taken;) {
        sp_msg *in[7] = {NULL};

        rc = sp_recvmsgs(b, in, 7, 0);
        assert_in_range(rc, 1, 7);
        for (int i = 0; i < 7; i++) {
            int v = -1;

            assert_true((in[i] != NULL) == (i < rc));
            if (in[i] != NULL) {
                memcpy(&v, sp_msg_view(in[i]), 4);
                assert_int_equal(v, got++);
                sp_msg_release(in[i]);
            }
        }
    }
    for (int i = taken; i < 2000; i++) {
        sp_msg_release(m[i]);
    }
    check_rc(0, sp_sendmsgs(a, m, 0, 0));
    check_rc(0, sp_recvmsgs(b, m, 0, 0));
    check_rest(a);
    check_rest(b);
}

static long send_many(void *arg)
{
    unsigned who = (unsigned)(uintptr_t)arg;

    for (unsigned i = 0; i < 5000; i++) {
        unsigned v = who << 16 | i;
        int rc = sp_send(a, &v, sizeof(v), 0);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static void several_senders_each_keep_their_order(void **state)
{
    struct check_call c[4];
    unsigned next[4] = {0};

    (void)state;
    for (uintptr_t i = 0; i < 4; i++) {
        check_call_start(&c[i], send_many, (void *)i);
    }
    for (int i = 0; i < 20000; i++) {
        unsigned v = 0;

        check_rc(4, sp_recv(b, &v, sizeof(v), 0));
        assert_true(v >> 16 < 4);
        assert_int_equal(v & 0xFFFF, next[v >> 16]++);
    }
    for (int i = 0; i < 4; i++) {
        check_rc(0, check_call_join(&c[i], CHECK_SOON));
    }
    check_rest(a);
    check_rest(b);
}

static atomic_long received_sum;

static long receive_many(void *arg)
{
    long n = 0;
    unsigned v;

    (void)arg;
    while (sp_recv(b, &v, sizeof(v), 0) == (ssize_t)sizeof(v)) {
        atomic_fetch_add(&received_sum, v);
        n++;
    }
    return n;
}

static void several_receivers_share_the_messages(void **state)
{
    struct check_call c[4];
    long sum = 0;
    long n = 0;

    (void)state;
    atomic_store(&received_sum, 0);
    for (int i = 0; i < 4; i++) {
        check_call_start(&c[i], receive_many, NULL);
    }
    for (unsigned i = 0; i < 20000; i++) {
        check_ok(sp_send(a, &i, sizeof(i), 0));
        sum += i;
    }
    check_stat_is(b.id, "rx_delivered", 20000);
    check_ok(sp_close(b));
    for (int i = 0; i < 4; i++) {
        n += check_call_join(&c[i], 1000);
    }
    assert_int_equal(n, 20000);
    assert_int_equal(received_sum, sum);
}

/* ------------------------------------------------------------------ Queues */

/// What the sender's side holds is its send buffer exactly, what the receiver holds at least its
/// receive buffer (of 0, one message); nothing is between. Then all of it arrives.
static void check_limits(int send, int recv)
{
    int n;
    int64_t queued;

    check_init(2);
    a = check_open("pair");
    b = check_open("pair");
    check_ok(sp_set_int(a.id, "send-buffer", send));
    check_ok(sp_set_int(b.id, "recv-buffer", recv));
    check_ok(sp_get_int(b.id, "recv-buffer", &queued));
    assert_int_equal(queued, recv);
    check_ok(sp_listen(a, "inproc://limits", NULL));
    check_ok(sp_dial(b, "inproc://limits", NULL, 0));
    check_pipes(a, 1);
    n = fill_to_rest(a, 1);
    check_stat_is(a.id, "tx_accepted", n);
    check_rest(a);
    check_rest(b);
    queued = check_stat(a.id, "tx_queued");
    send = send > 0 ? send : 1;
    recv = recv > 0 ? recv : 1;
    assert_int_equal(queued, send);
    assert_in_range(check_stat(b.id, "rx_queued"), recv, recv + SP__RX_WINDOW);
    assert_int_equal(check_stat(a.id, "tx_msgs"), n - queued);
    assert_int_equal(n - queued, check_stat(b.id, "rx_queued"));
    assert_int_equal(drain(b, n), n);
    check_rest(a);
    check_rest(b);
    check_fini();
}

static void queues_hold_what_the_options_say(void **state)
{
    (void)state;
    check_limits(128, 128);
}

static void queues_hold_what_small_options_say(void **state)
{
    (void)state;
    check_limits(0, 0); // The same as 1, and the options say what was set.
    check_limits(1, 1);
    check_limits(4, 2);
    check_limits(3, 500);
}

static void queues_hold_what_odd_options_say(void **state)
{
    (void)state;
    check_limits(17, 33);
    check_limits(8192, 8192);
}

/// Bytes limit a queue as messages do; one message always fits.
static void check_bytes(int64_t max, size_t len)
{
    int64_t queued;
    int n;

    check_init(2);
    a = check_open("pair");
    b = check_open("pair");
    check_ok(sp_set_int(a.id, "queue-bytes-max", max));
    check_ok(sp_set_int(b.id, "queue-bytes-max", max));
    check_ok(sp_listen(a, "inproc://bytes", NULL));
    check_ok(sp_dial(b, "inproc://bytes", NULL, 0));
    check_pipes(a, 1);
    n = fill_to_rest(a, len);
    check_rest(a);
    check_rest(b);
    queued = check_stat(a.id, "tx_queued");
    // The message that fills the rest may go beyond it.
    assert_in_range(queued, 1, max / (int64_t)len + 1);
    assert_true(n > queued);
    for (int i = 0; i < n; i++) {
        sp_msg *m = NULL;

        check_ok(sp_recvmsg(b, &m, 0));
        assert_int_equal(sp_msg_len(m), len);
        sp_msg_release(m);
    }
    check_rest(b);
    check_fini();
}

static void queue_bytes_max_limits_large_messages(void **state)
{
    (void)state;
    check_bytes(4 << 20, 1 << 20);
    check_bytes(1 << 20, 100000);
    check_bytes(65536, 1000);
}

static void queue_bytes_max_below_one_message_takes_one(void **state)
{
    (void)state;
    check_bytes(1000, 100000);
    check_bytes(1000, 2000);
}

static void queue_bytes_max_limits_small_messages_too(void **state)
{
    (void)state;
    check_bytes(1000, 100);
    check_bytes(100, 10);
    check_bytes(10, 10);
}

static void a_large_message_passes_queues_of_any_size(void **state)
{
    char *big = calloc(1, 8 << 20);
    sp_msg *m = NULL;

    (void)state;
    check_ok(sp_set_int(a.id, "queue-bytes-max", 1));
    check_ok(sp_set_int(b.id, "queue-bytes-max", 1));
    for (int i = 0; i < 5; i++) {
        check_ok(sp_send(a, big, 8 << 20, 0));
        check_ok(sp_recvmsg(b, &m, 0));
        assert_int_equal(sp_msg_len(m), 8 << 20);
        sp_msg_release(m);
    }
    free(big);
}

static void blocked_sender_goes_on_when_there_is_room(void **state)
{
    struct check_call c;
    int n = fill_to_rest(a, 4);

    (void)state;
    check_call_start(&c, send_many, NULL);
    for (int i = 0; i < n + 5000; i++) {
        char buf[4];

        check_rc(4, sp_recv(b, buf, sizeof(buf), 0));
    }
    check_rc(0, check_call_join(&c, CHECK_SOON));
    check_rest(a);
    check_rest(b);
}

static void full_in_both_directions_drains_in_both(void **state)
{
    int to_b = fill_to_rest(a, 1);
    int to_a = fill_to_rest(b, 1);

    (void)state;
    assert_int_equal(drain(b, to_b), to_b);
    assert_int_equal(drain(a, to_a), to_a);
    check_rest(a);
    check_rest(b);
}

/* ------------------------------------------------------------------ Lingering */

/// The socket itself, held beyond its close so that its counters can be read.
static struct sp__sock *hold_socket(sp_socket s)
{
    struct sp__object *obj = NULL;

    check_ok(sp__enter(s.id, SP__KIND_SOCKET, &obj));
    sp__hold(obj);
    sp__leave();
    return SP__CONTAINER(obj, struct sp__sock, obj);
}

/// Under the lock: who says so says so again to each of those who wait.
static bool is_done(struct sp__sock *s)
{
    bool done;

    (void)pthread_mutex_lock(&s->lock);
    done = s->done;
    (void)pthread_mutex_unlock(&s->lock);
    return done;
}

/// After the close: everything accepted was written or is counted as dropped.
static uint64_t check_closed_and_drop(struct sp__sock *s, uint64_t accepted)
{
    uint64_t dropped = 0;
    uint64_t in = 0;

    check_until(is_done(s));
    for (int i = 0; i < SP_DISCARD_REASONS; i++) {
        dropped += sp__counted(&s->drops_out[i]);
        in += sp__counted(&s->drops_in[i]);
    }
    assert_int_equal(sp__counted(&s->accepted), accepted);
    assert_int_equal(sp__counted(&s->tx_msgs) + dropped, accepted);
    assert_int_equal(sp__counted(&s->received), sp__counted(&s->ctx.taken) + in);
    sp__drop(&s->obj);
    return dropped;
}

/// What a receiver that does not receive takes at least: its buffer and its window, but for credit
/// that is not worth a grant yet.
#define RECV_TAKES (128 + SP__RX_WINDOW - SP__RX_WINDOW / 4)

static void close_with_the_default_linger_loses_nothing(void **state)
{
    struct sp__sock *s = hold_socket(a);

    (void)state;
    for (int i = 0; i < RECV_TAKES; i++) {
        check_ok(sp_send(a, &i, sizeof(i), 0));
    }
    check_ok(sp_close(a));
    assert_int_equal(check_closed_and_drop(s, RECV_TAKES), 0);
    for (int i = 0; i < RECV_TAKES; i++) {
        int v = -1;

        check_rc(4, sp_recv(b, &v, sizeof(v), 0));
        assert_int_equal(v, i);
    }
    check_pipes(b, 0);
    check_rest(b);
}

static void close_with_linger_0_counts_what_is_lost(void **state)
{
    struct sp__sock *s = hold_socket(a);
    int n = fill_to_rest(a, 1);
    int64_t queued = check_stat(a.id, "tx_queued");
    int64_t start_at = check_now();

    (void)state;
    check_ok(sp_set_int(a.id, "linger", 0));
    check_ok(sp_close(a));
    assert_in_range(check_now() - start_at, 0, 900);
    assert_int_equal(check_closed_and_drop(s, (uint64_t)n), queued);
    assert_int_equal(drain(b, n - (int)queued), n - queued);
}

static void close_ends_with_the_linger_time(void **state)
{
    struct sp__sock *s = hold_socket(a);
    int n = fill_to_rest(a, 1);
    int64_t queued = check_stat(a.id, "tx_queued");
    int64_t start_at = check_now();

    (void)state;
    check_ok(sp_set_int(a.id, "linger", 150));
    check_ok(sp_close(a));
    assert_in_range(check_now() - start_at, 149, 5000);
    assert_int_equal(check_closed_and_drop(s, (uint64_t)n), queued);
}

static long close_it(void *arg)
{
    return sp_close(*(sp_socket *)arg);
}

static void close_with_linger_forever_waits_for_the_receiver(void **state)
{
    struct sp__sock *s = hold_socket(a);
    struct check_call c;
    int n = fill_to_rest(a, 1);

    (void)state;
    check_ok(sp_set_int(a.id, "linger", -1));
    check_call_start(&c, close_it, &a);
    check_until(sp_send(a, "x", 1, SP_NONBLOCK) == SP_ECLOSED);
    assert_int_equal(drain(b, n), n);
    check_rc(0, check_call_join(&c, CHECK_SOON));
    assert_int_equal(check_closed_and_drop(s, (uint64_t)n), 0);
}

static void close_over_tcp_loses_nothing(void **state)
{
    char *big = calloc(1, 100000);
    struct sp__sock *s;

    (void)state;
    check_couple("tcp", "pair", "pair", &a, &b);
    s = hold_socket(a);
    for (int i = 0; i < 20; i++) {
        check_ok(sp_send(a, big, 100000, 0));
    }
    check_ok(sp_close(a));
    assert_int_equal(check_closed_and_drop(s, 20), 0);
    for (int i = 0; i < 20; i++) {
        check_rc(100000, sp_recv(b, big, 100000, 0));
    }
    free(big);
    check_rest(b);
}

static void close_counts_what_was_received_and_not_taken(void **state)
{
    struct sp__sock *s = hold_socket(b);
    int n = fill_to_rest(a, 1);

    (void)state;
    assert_true(n > 128);
    check_ok(sp_close(b));
    check_until(is_done(s));
    assert_true(sp__counted(&s->drops_in[SP_DISCARD_CLOSED]) >= 128);
    assert_int_equal(check_closed_and_drop(s, 0), 0);
}

/* ------------------------------------------------------------------ Closing under blocked calls */

static long block_recv(void *arg)
{
    char buf[8];

    return sp_recv(*(sp_socket *)arg, buf, sizeof(buf), 0);
}

static long block_send(void *arg)
{
    int rc;

    do {
        rc = sp_send(*(sp_socket *)arg, "x", 1, 0);
    } while (rc == SP_OK);
    return rc;
}

static void close_wakes_blocked_calls(void **state)
{
    struct check_call c[6];
    int64_t start_at;

    (void)state;
    check_ok(sp_set_int(a.id, "linger", 0));
    check_ok(sp_set_int(a.id, "send-timeout", -1));
    check_ok(sp_set_int(a.id, "recv-timeout", -1));
    for (int i = 0; i < 6; i++) {
        check_call_start(&c[i], i % 2 == 0 ? block_recv : block_send, &a);
    }
    check_until(sp_send(a, "x", 1, SP_NONBLOCK) == SP_EAGAIN);
    start_at = check_now();
    check_ok(sp_close(a));
    for (int i = 0; i < 6; i++) {
        check_rc(SP_ECLOSED, check_call_join(&c[i], 1000));
        // A sender may be between two calls.
        assert_true(strcmp(c[i].detail, i % 2 == 0 ? "receive: the socket was closed"
                                                   : "send: the socket was closed") == 0 ||
                    strstr(c[i].detail, " is closed") != NULL);
    }
    assert_in_range(check_now() - start_at, 0, 1000);
}

static void close_of_a_lingering_socket_wakes_blocked_calls_at_once(void **state)
{
    struct check_call c[3];
    struct check_call closer;
    int n = fill_to_rest(a, 1);

    (void)state;
    check_ok(sp_set_int(a.id, "linger", -1));
    check_ok(sp_set_int(a.id, "send-timeout", -1));
    check_ok(sp_set_int(a.id, "recv-timeout", -1));
    check_call_start(&c[0], block_recv, &a);
    check_call_start(&c[1], block_send, &a);
    check_call_start(&closer, close_it, &a);
    check_rc(SP_ECLOSED, check_call_join(&c[0], 1000));
    check_rc(SP_ECLOSED, check_call_join(&c[1], 1000));
    // The blocked sender may have got its message in before it blocked: not here, all was full.
    assert_int_equal(drain(b, n), n);
    check_rc(0, check_call_join(&closer, CHECK_SOON));
}

static long block_dial_mute(void *arg)
{
    const char *const *args = arg;

    return sp_dial(*(const sp_socket *)(const void *)args[0], args[1], NULL, 0);
}

/// A peer that accepts and never says hello.
static int mute_listener(char url[64])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    (void)snprintf(url, 64, "tcp://127.0.0.1:%u", ntohs(at.sin_port));
    return fd;
}

static bool has_dialer(sp_socket s)
{
    char *json = NULL;
    bool has;

    check_ok(sp_stats(s.id, &json));
    has = strstr(json, "\"connect\"") != NULL;
    sp_free(json);
    return has;
}

static void close_wakes_a_blocked_dial(void **state)
{
    struct check_call c;
    sp_socket s = check_open("pair");
    char url[64];
    char text[128];
    const char *args[2] = {(const char *)&s, url};
    int fd = mute_listener(url);

    (void)state;
    check_call_start(&c, block_dial_mute, (void *)args);
    check_until(has_dialer(s));
    check_ok(sp_close(s));
    check_rc(SP_ECLOSED, check_call_join(&c, 1000));
    (void)snprintf(text, sizeof(text), "dial %s: the socket was closed: Object closed", url);
    assert_string_equal(c.detail, text);
    (void)close(fd);
}

static void close_wakes_a_blocked_dial_though_it_lingers(void **state)
{
    struct check_call c;
    struct check_call closer;
    char url[64];
    const char *args[2] = {(const char *)&a, url};
    int n = fill_to_rest(a, 1);
    int fd = mute_listener(url);
    bool in_time;

    (void)state;
    check_ok(sp_set_int(a.id, "linger", -1));
    check_call_start(&c, block_dial_mute, (void *)args);
    check_until(has_dialer(a));
    check_call_start(&closer, close_it, &a);
    in_time = check_call_ended(&c, 1000);
    assert_int_equal(drain(b, n), n);
    check_rc(0, check_call_join(&closer, CHECK_SOON));
    check_rc(SP_ECLOSED, check_call_join(&c, CHECK_SOON));
    (void)close(fd);
    assert_true(in_time);
}

struct blocker {
    sem_t go;
    sem_t done;
    sp_socket socket; ///< to block on; 0: the end
    long wrong;
    bool sends;
};

/// Blocks on one socket after the other.
static long block_again_and_again(void *arg)
{
    struct blocker *k = arg;

    for (;;) {
        char buf[8];
        long rc;

        while (sem_wait(&k->go) != 0) {
        }
        if (k->socket.id == 0) {
            return k->wrong;
        }
        rc = k->sends ? sp_send(k->socket, "x", 1, 0) : sp_recv(k->socket, buf, sizeof(buf), 0);
        k->wrong += rc != SP_ECLOSED;
        (void)sem_post(&k->done);
    }
}

static void close_wakes_a_blocked_call_ten_thousand_times(void **state)
{
    struct blocker k[2] = {{.sends = true}, {.sends = false}};
    struct check_call c[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        (void)sem_init(&k[i].go, 0, 0);
        (void)sem_init(&k[i].done, 0, 0);
        check_call_start(&c[i], block_again_and_again, &k[i]);
    }
    for (int round = 0; round < 5000; round++) {
        sp_socket s = {0};
        struct timespec end;

        check_ok(sp_open(&s, "pair")); // No peer: both block.
        for (int i = 0; i < 2; i++) {
            k[i].socket = s;
            (void)sem_post(&k[i].go);
        }
        for (volatile int spin = 0; spin < round % 50 * 200; spin++) {
        }
        check_ok(sp_close(s));
        (void)clock_gettime(CLOCK_REALTIME, &end);
        end.tv_sec += 10; // A busy machine; a call that is not woken stays for ever.
        for (int i = 0; i < 2; i++) {
            if (sem_timedwait(&k[i].done, &end) != 0) {
                print_error("not woken, round %d\n", round);
                abort();
            }
        }
    }
    for (int i = 0; i < 2; i++) {
        k[i].socket.id = 0;
        (void)sem_post(&k[i].go);
        check_rc(0, check_call_join(&c[i], 1000));
    }
}

static void close_by_two_threads_succeeds_once(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        struct check_call c[3];
        sp_socket s = check_open("pair");
        int ok = 0;

        for (int k = 0; k < 3; k++) {
            check_call_start(&c[k], close_it, &s);
        }
        for (int k = 0; k < 3; k++) {
            long rc = check_call_join(&c[k], CHECK_SOON);

            assert_true(rc == SP_OK || rc == SP_ECLOSED);
            ok += rc == SP_OK;
        }
        assert_int_equal(ok, 1);
    }
}

static void close_under_traffic_again_and_again(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        struct check_call c[3];

        if (i > 0) {
            check_couple(i % 10 == 0 ? "tcp" : "inproc", "pair", "pair", &a, &b);
        }
        check_ok(sp_set_int(a.id, "linger", 0));
        check_call_start(&c[0], block_send, &a);
        check_call_start(&c[1], block_send, &b);
        check_call_start(&c[2], block_recv, &a);
        check_until(check_stat(b.id, "rx_received") > 0);
        check_ok(sp_close(a));
        check_ok(sp_set_int(b.id, "linger", 0));
        check_ok(sp_close(b));
        check_rc(SP_ECLOSED, check_call_join(&c[0], 1000));
        check_rc(SP_ECLOSED, check_call_join(&c[1], 1000));
        (void)check_call_join(&c[2], 1000);
    }
}

/* ------------------------------------------------------------------ Accounting */

/// Pipes that are closed under load: each message is received, counted as dropped, or queued.
static void nothing_is_lost_uncounted_when_pipes_die(void **state)
{
    struct check_call c;
    int64_t room = 0;

    (void)state;
    check_ok(sp_set_int(a.id, "send-buffer", 4));
    for (int i = 0; i < 20; i++) {
        sp_peer_info info = {.size = sizeof(info)};
        size_t n = 1;

        int64_t end = check_now() + 6 * CHECK_SOON;

        check_call_start(&c, send_many, NULL);
        for (int k = 0; k < 5000;) {
            unsigned v;
            ssize_t rc = sp_recv(b, &v, sizeof(v), SP_NONBLOCK);

            if (rc == 4) {
                k++;
            } else if (check_stat(a.id, "tx_accepted") == (int64_t)(i + 1) * 5000 &&
                       check_stat(a.id, "tx_queued") == 0 && check_stat(a.id, "pipes") == 1) {
                break;
            } else {
                check_pause();
            }
            if (k % 100 == 50 && sp_peers((i & 1) != 0 ? a : b, &info, &n) == SP_OK && n == 1) {
                (void)sp_pipe_close(info.pipe);
            }
        }
        // What an earlier round left counted in this one: the sender may still wait for room.
        while (!check_call_ended(&c, 1)) {
            unsigned v;

            (void)!sp_recv(b, &v, sizeof(v), SP_NONBLOCK);
            assert_true(check_now() < end);
        }
        check_rc(0, check_call_join(&c, CHECK_SOON));
    }
    check_pipes(a, 1);
    check_rest(a);
    check_rest(b);
    // And no credit was lost: the whole window is there again.
    while (sp_recv(b, &room, sizeof(room), SP_NONBLOCK) >= 0) {
    }
    check_stat_is(a.id, "tx_queued", 0);
    for (int full = 0; full < 50; full = check_stat(a.id, "tx_queued") == 4 ? full + 1 : 0) {
        (void)!sp_send(a, "x", 1, SP_NONBLOCK);
        check_pause();
    }
}

#define coupled(name) cmocka_unit_test_setup_teardown(name, couple, uncouple)
#define started(name) cmocka_unit_test_setup_teardown(name, start, uncouple)

int main(void)
{
    const struct CMUnitTest tests[] = {
        started(send_and_receive_without_a_peer),
        coupled(timeouts_are_kept),
        coupled(bad_arguments_are_einval),
        coupled(unknown_flags_are_refused),
        started(peers_are_listed),
        coupled(lengths_and_order_are_kept),
        coupled(zero_length_needs_no_buffer),
        coupled(too_small_a_buffer_keeps_the_message),
        coupled(batch_send_takes_a_prefix_and_clears_its_entries),
        coupled(several_senders_each_keep_their_order),
        coupled(several_receivers_share_the_messages),
        cmocka_unit_test(queues_hold_what_the_options_say),
        cmocka_unit_test(queues_hold_what_small_options_say),
        cmocka_unit_test(queues_hold_what_odd_options_say),
        cmocka_unit_test(queue_bytes_max_limits_large_messages),
        cmocka_unit_test(queue_bytes_max_below_one_message_takes_one),
        cmocka_unit_test(queue_bytes_max_limits_small_messages_too),
        coupled(a_large_message_passes_queues_of_any_size),
        coupled(blocked_sender_goes_on_when_there_is_room),
        coupled(full_in_both_directions_drains_in_both),
        coupled(close_with_the_default_linger_loses_nothing),
        coupled(close_with_linger_0_counts_what_is_lost),
        coupled(close_ends_with_the_linger_time),
        coupled(close_with_linger_forever_waits_for_the_receiver),
        started(close_over_tcp_loses_nothing),
        coupled(close_counts_what_was_received_and_not_taken),
        coupled(close_wakes_blocked_calls),
        coupled(close_of_a_lingering_socket_wakes_blocked_calls_at_once),
        started(close_wakes_a_blocked_dial),
        coupled(close_wakes_a_blocked_dial_though_it_lingers),
        started(close_wakes_a_blocked_call_ten_thousand_times),
        started(close_by_two_threads_succeeds_once),
        coupled(close_under_traffic_again_and_again),
        coupled(nothing_is_lost_uncounted_when_pipes_die),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
