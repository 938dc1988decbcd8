/* SPDX-License-Identifier: MIT */
/// Datagrams through a network that loses, doubles and reorders them (tests/support/dgram_relay.h):
/// what asks again gets its answer, and gets it once; of what does not, exactly what is missing is
/// counted.
#include "check.h"
#include "dgram_relay.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REQUESTS 100000
#define REQUESTS_SANITIZED 10000 // there everything takes many times longer
#define IN_FLIGHT 64
#define MESSAGES 10000
#define UNDER_WAY 120 // datagrams of a burst: what the system keeps for any socket
#define PACKED 32     // messages of a burst, so that there are many packs
#define SUBSCRIBERS 3
#define LASTS 20000 // of what is sent when all was sent, at most
#define NOBODY UINT32_MAX

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

static const struct dgram_rules bad = {
    .loss = 5, .duplicate = 2, .reorder = 2, .delay = 1, .delay_ms = 5};

static struct dgram_relay *relay;

static int stop(void **state)
{
    dgram_relay_close(relay);
    relay = NULL;
    return check_stop(state);
}

static struct dgram_counts counts(enum dgram_way way)
{
    struct dgram_counts c;

    dgram_relay_counts(relay, way, &c);
    return c;
}

static void rules(const struct dgram_rules *to_listener, const struct dgram_rules *to_dialer)
{
    dgram_relay_rules(relay, DGRAM_TO_LISTENER, to_listener);
    dgram_relay_rules(relay, DGRAM_TO_DIALER, to_dialer);
}

/// Opens a listener on loopback, and the relay before it.
static sp_listener listen_behind_relay(sp_socket s, bool packing)
{
    sp_listener l = {0};
    int64_t port;

    check_ok(sp_listener_new(&l, s, "udp://127.0.0.1:0"));
    check_ok(sp_set_int(l.id, "packing", packing));
    check_ok(sp_listener_start(l));
    check_ok(sp_get_int(l.id, "bound-port", &port));
    relay = dgram_relay_local((unsigned)port, 7);
    return l;
}

static sp_dialer dial_relay(sp_socket s, bool packing)
{
    sp_dialer d = {0};
    char url[64];

    (void)snprintf(url, sizeof(url), "udp://127.0.0.1:%u", dgram_relay_port(relay));
    check_ok(sp_dialer_new(&d, s, url));
    check_ok(sp_set_int(d.id, "packing", packing));
    check_ok(sp_set_int(d.id, "conn-retry", 20));
    check_ok(sp_dialer_start(d, SP_NONBLOCK));
    return d;
}

/* ------------------------------------------------------------------ Requests */

static struct {
    unsigned wanted;
    atomic_uint asked;
    atomic_uint answered;
    atomic_uint wrong;     ///< answers to another question, failures
    atomic_uchar *answers; ///< of each request
} work;

struct asker {
    sp_op *op;
    sp_ctx ctx;
    uint32_t number;
    bool sending;
};

static void asker_ask(struct asker *a)
{
    sp_msg *m = NULL;

    a->number = atomic_fetch_add(&work.asked, 1);
    if (a->number >= work.wanted) {
        return;
    }
    a->sending = true;
    if (sp_msg_new(&m, sizeof(a->number)) != SP_OK) {
        atomic_fetch_add(&work.wrong, 1);
        return;
    }
    memcpy(sp_msg_data(m), &a->number, sizeof(a->number));
    if (sp_op_send(a->op, a->ctx.id, m) != SP_OK) {
        atomic_fetch_add(&work.wrong, 1);
    }
}

static void asker_answered(struct asker *a, sp_msg *m)
{
    uint32_t number = NOBODY;

    if (m != NULL && sp_msg_len(m) == sizeof(number)) {
        memcpy(&number, sp_msg_view(m), sizeof(number));
    }
    sp_msg_release(m);
    if (number != a->number) {
        atomic_fetch_add(&work.wrong, 1);
        return;
    }
    atomic_fetch_add(&work.answers[number], 1);
    atomic_fetch_add(&work.answered, 1);
    asker_ask(a);
}

static void asker_done(sp_op *op, void *arg)
{
    struct asker *a = arg;

    if (sp_op_result(op) != SP_OK) {
        atomic_fetch_add(&work.wrong, 1);
        return;
    }
    if (!a->sending) {
        asker_answered(a, sp_op_msg(op));
        return;
    }
    a->sending = false;
    if (sp_op_recv(op, a->ctx.id) != SP_OK) {
        atomic_fetch_add(&work.wrong, 1);
    }
}

/// Sends back what comes, until the socket is closed.
static long answer(void *arg)
{
    const sp_socket *s = arg;
    sp_msg *m = NULL;
    long n = 0;

    for (; sp_recvmsg(*s, &m, 0) == SP_OK; n++) {
        if (sp_sendmsg(*s, m, 0) != SP_OK) {
            sp_msg_release(m);
        }
    }
    return n;
}

static void askers_run(sp_socket req)
{
    static struct asker askers[IN_FLIGHT];
    int64_t end = check_now() + 60000;

    for (int i = 0; i < IN_FLIGHT; i++) {
        askers[i] = (struct asker){.sending = false};
        check_ok(sp_op_new(&askers[i].op, asker_done, &askers[i]));
        sp_op_deadline(askers[i].op, 60000);
        check_ok(sp_ctx_open(&askers[i].ctx, req));
        asker_ask(&askers[i]);
    }
    while (atomic_load(&work.answered) < work.wanted && atomic_load(&work.wrong) == 0 &&
           check_now() < end) {
        check_pause();
    }
    for (int i = 0; i < IN_FLIGHT; i++) {
        (void)sp_op_wait(askers[i].op);
        sp_op_free(askers[i].op);
    }
}

/// The message that a request is may reach the REP twice; the one who asked hears one answer.
static void every_request_is_answered_once(void **state)
{
    sp_socket rep = check_open("rep");
    sp_socket req = check_open("req");
    struct check_call server;
    unsigned missing = 0;
    unsigned more = 0;

    (void)state;
    memset(&work, 0, sizeof(work));
    work.wanted = SANITIZED ? REQUESTS_SANITIZED : REQUESTS;
    work.answers = calloc(work.wanted, 1);
    check_ok(sp_set_int(req.id, "req:resend-time", 20));
    check_ok(sp_set_int(req.id, "req:resend-tick", 5));
    (void)listen_behind_relay(rep, true);
    rules(&bad, &bad);
    (void)dial_relay(req, true);
    check_pipes(req, 1);
    check_call_start(&server, answer, &rep);

    askers_run(req);
    assert_int_equal(atomic_load(&work.wrong), 0);
    for (unsigned i = 0; i < work.wanted; i++) {
        missing += work.answers[i] == 0;
        more += work.answers[i] > 1;
    }
    assert_int_equal(missing, 0);
    assert_int_equal(more, 0);
    for (int way = 0; way < DGRAM_WAYS; way++) {
        struct dgram_counts c = counts((enum dgram_way)way);

        assert_true(c.lost > 0 && c.duplicated > 0 && c.reordered > 0);
        assert_int_equal(c.refused, 0);
    }
    check_ok(sp_close(req));
    check_ok(sp_close(rep));
    assert_in_range(check_call_join(&server, CHECK_SOON), work.wanted, work.wanted * 2);
    free(work.answers);
}

/* ------------------------------------------------------------------ One way */

/// What one receiver got.
struct got {
    unsigned char times[MESSAGES + LASTS];
    unsigned last;
    unsigned early; ///< that came after a higher one
    uint32_t highest;
};

static void got_take(struct got *g, sp_socket s)
{
    uint32_t n;

    while (sp_recv(s, &n, sizeof(n), SP_NONBLOCK) == sizeof(n)) {
        assert_in_range(n, 0, MESSAGES + LASTS - 1);
        g->times[n]++;
        g->last += n >= MESSAGES;
        g->early += n < g->highest;
        g->highest = n > g->highest ? n : g->highest;
    }
}

static unsigned got_missing(const struct got *g)
{
    unsigned missing = 0;

    for (uint32_t i = 0; i < g->highest; i++) {
        assert_in_range(g->times[i], 0, 1); // never twice
        missing += g->times[i] == 0;
    }
    return missing;
}

/// Who sends, through the relay, and who receives; paths of their endpoints in the statistics.
struct flow {
    enum dgram_way way;
    sp_socket from;
    const char *from_at;
    const sp_socket *to;
    const char *to_at;
    unsigned receivers;
    struct got *got;
    uint32_t burst; ///< messages; 0: at full rate
};

/// How many datagrams an endpoint has sent ("tx") or received ("rx").
static uint64_t datagrams(sp_socket s, const char *endpoint, const char *way)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "%s.%s_datagrams", endpoint, way);
    return (uint64_t)check_stat(s.id, path);
}

/// Whether all that was sent has gone through the relay, and from there to the receivers.
static bool flow_is_through(const struct flow *f)
{
    struct dgram_counts c = counts(f->way);
    uint64_t received = 0;

    for (unsigned i = 0; i < f->receivers; i++) {
        received += datagrams(f->to[i], f->to_at, "rx");
    }
    return c.held == 0 && c.sent == received && c.received == datagrams(f->from, f->from_at, "tx");
}

static void flow_take(const struct flow *f)
{
    for (unsigned i = 0; i < f->receivers; i++) {
        got_take(&f->got[i], f->to[i]);
    }
}

/// Waits until the first `n` messages have come wherever they come, so that nobody but the relay
/// loses any.
static void flow_settle(const struct flow *f, uint32_t n)
{
    check_stat_is(f->from.id, "tx_msgs", (int64_t)n * f->receivers);
    check_until(flow_is_through(f));
}

/// Sends all messages, a burst at a time: the next one when the last one is through. Then one after
/// another until each receiver has got one.
static void pour(const struct flow *f)
{
    static const struct dgram_rules good;
    uint32_t burst = f->burst > 0 ? f->burst : UNDER_WAY;
    bool all = false;

    for (uint32_t i = 0; i < MESSAGES; i++) {
        check_ok(sp_send(f->from, &i, sizeof(i), 0));
        if (i % burst == burst - 1 || i == MESSAGES - 1) {
            if (f->burst > 0) {
                flow_settle(f, i + 1);
            }
            flow_take(f);
        }
    }
    rules(&good, &good);
    for (int64_t end = check_now() + CHECK_SOON, k = MESSAGES; !all; k++) {
        uint32_t last = (uint32_t)k;

        assert_in_range(last, 0, MESSAGES + LASTS - 1);
        check_ok(sp_send(f->from, &last, sizeof(last), 0));
        check_wait_at(end, "the last message", __FILE__, __LINE__);
        flow_take(f);
        all = true;
        for (unsigned i = 0; i < f->receivers; i++) {
            all = all && f->got[i].last > 0;
        }
    }
}

/// What is missing is what was counted, wherever it was lost; if paced, nobody dropped anything but
/// the relay.
static unsigned settle(struct got *g, sp_socket s, const char *endpoint, bool paced)
{
    static const char *const none[] = {"malformed", "toobig", "nobuf"};
    int64_t end = check_now() + CHECK_SOON;
    char path[64];
    unsigned missing;

    for (size_t i = 0; i < (paced ? 3 : 2); i++) {
        (void)snprintf(path, sizeof(path), "%s.%s", endpoint, none[i]);
        assert_int_equal(check_stat(s.id, path), 0);
    }
    (void)snprintf(path, sizeof(path), "%s.gaps", endpoint);
    do { // Perhaps there is one on its way still.
        check_pause();
        got_take(g, s);
        missing = got_missing(g);
    } while (check_stat(s.id, path) != missing && check_now() < end);
    assert_int_equal(check_stat(s.id, path), missing);
    assert_int_equal(g->early, 0); // the order was restored
    check_rest(s);
    return missing;
}

static void pipeline_losses_are_counted(bool packing, uint32_t burst)
{
    static struct got got;
    sp_socket push = check_open("push");
    sp_socket pull = check_open("pull");
    struct dgram_rules r = bad;
    unsigned missing;

    memset(&got, 0, sizeof(got));
    (void)listen_behind_relay(pull, packing);
    (void)dial_relay(push, packing);
    check_pipes(push, 1);
    r.data_only = true;
    rules(&r, &r);
    pour(&(struct flow){DGRAM_TO_LISTENER, push, "dialers[0]", &pull, "listeners[0]", 1, &got,
                        burst});
    missing = settle(&got, pull, "listeners[0]", burst > 0);
    assert_true(missing > 0);
    assert_true(check_stat(pull.id, "listeners[0].duplicates") > 0);
    if (!packing && burst > 0) {
        assert_int_equal(missing - check_stat(pull.id, "listeners[0].late"),
                         counts(DGRAM_TO_LISTENER).lost);
    }
    check_ok(sp_close(push));
    check_ok(sp_close(pull));
}

static void pipeline_loses_what_is_counted(void **state)
{
    (void)state;
    pipeline_losses_are_counted(false, UNDER_WAY);
}

/// Then the system loses some, too.
static void pipeline_at_full_rate_loses_what_is_counted(void **state)
{
    (void)state;
    pipeline_losses_are_counted(false, 0);
}

static void pipeline_loses_what_is_counted_when_packed(void **state)
{
    (void)state;
    pipeline_losses_are_counted(true, PACKED);
}

static void pub_losses_are_counted(bool packing)
{
    static struct got got[SUBSCRIBERS];
    sp_socket pub = check_open("pub");
    sp_socket sub[SUBSCRIBERS];
    unsigned missing = 0;
    int64_t late = 0;
    struct dgram_rules r = bad;

    memset(got, 0, sizeof(got));
    (void)listen_behind_relay(pub, packing);
    for (int i = 0; i < SUBSCRIBERS; i++) {
        sub[i] = check_open("sub");
        check_ok(sp_set_bytes(sub[i].id, "subscribe", "", 0));
        check_ok(sp_set_int(sub[i].id, "recv-buffer", 8192));
        (void)dial_relay(sub[i], packing);
        check_pipes(sub[i], 1);
    }
    check_pipes(pub, SUBSCRIBERS);
    r.data_only = true;
    rules(&r, &r);
    pour(&(struct flow){DGRAM_TO_DIALER, pub, "listeners[0]", sub, "dialers[0]", SUBSCRIBERS, got,
                        packing ? PACKED : UNDER_WAY / SUBSCRIBERS});
    for (int i = 0; i < SUBSCRIBERS; i++) {
        missing += settle(&got[i], sub[i], "dialers[0]", true);
        late += check_stat(sub[i].id, "dialers[0].late");
    }
    assert_true(missing > 0);
    if (!packing) {
        assert_int_equal(missing - late, counts(DGRAM_TO_DIALER).lost);
    }
    check_ok(sp_close(pub));
    for (int i = 0; i < SUBSCRIBERS; i++) {
        check_ok(sp_close(sub[i]));
    }
}

static void pub_loses_what_is_counted(void **state)
{
    (void)state;
    pub_losses_are_counted(false);
}

static void pub_loses_what_is_counted_when_packed(void **state)
{
    (void)state;
    pub_losses_are_counted(true);
}

#define fact(fn) cmocka_unit_test_setup_teardown(fn, check_start_threads, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        fact(every_request_is_answered_once),
        fact(pipeline_loses_what_is_counted),
        fact(pipeline_at_full_rate_loses_what_is_counted),
        fact(pipeline_loses_what_is_counted_when_packed),
        fact(pub_loses_what_is_counted),
        fact(pub_loses_what_is_counted_when_packed),
    };

    if (access(SP_TEST_BUILD_DIR "/transports/udp.so", R_OK) != 0) {
        print_message("skipped: transport udp is not built\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
