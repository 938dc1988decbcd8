/* SPDX-License-Identifier: MIT */
/// What a transport may have besides the slots that every one has: readiness of its listener's fd
/// (on_ready), counters of its own, a largest message of a connection. A transport of the test: tcp
/// with these around it.
#include "check.h"
#include "registry.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define MOST 100 // bytes that a connection takes

static struct {
    sp_transport_ops ops;
    const sp_transport_ops *real;
    const sp_host *host;
    _Atomic(sp_ep_ref *) listener;
    atomic_bool lets; ///< on_ready asks for accept at once
    atomic_int ready; ///< calls of on_ready with SP_READY_IN
    atomic_int asked; ///< … with 0
    atomic_int accepts;
    atomic_bool early; ///< accept came before ep_ready
    atomic_bool told;  ///< ep_ready was called
    size_t counter_at; ///< in an endpoint's state
} lim;

/// The endpoint's state stands in its reference, of which there is one listener here.
static int lim_accept(void *ep, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    uint64_t *counter = (uint64_t *)(void *)((char *)ep + lim.counter_at);
    int rc = lim.real->accept(ep, pipe, ref, cause);

    atomic_fetch_add(&lim.accepts, 1);
    if (!atomic_load(&lim.told)) {
        atomic_store(&lim.early, true);
    }
    sp_counter_add(counter, rc == SP_OK ? 3 : 0);
    return rc;
}

static void lim_on_ready(void *ep, unsigned ready)
{
    (void)ep;
    atomic_fetch_add(ready != 0 ? &lim.ready : &lim.asked, 1);
    if (ready != 0 && atomic_load(&lim.lets)) {
        atomic_store(&lim.told, true);
        lim.host->ep_ready(atomic_load(&lim.listener));
    }
}

static int lim_listen_init(void *ep, const sp_host *host, sp_ep_ref *ref, const char *url,
                           sp_cause *cause)
{
    if (atomic_load(&lim.listener) == NULL) {
        lim.host = host;
        atomic_store(&lim.listener, ref); // The tests open the listener first.
    }
    return lim.real->ep_init(ep, host, ref, url, cause);
}

static int lim_handshake(void *pipe, unsigned ready, sp_handshake *hs)
{
    int rc = lim.real->handshake(pipe, ready, hs);

    if (rc == SP_OK) {
        hs->send_max = MOST;
        hs->send_hint = "nothing raises it";
    }
    return rc;
}

static sp_counter counters[] = {{"admitted", 0, "three for each that was accepted"}};

static const sp_plugin *lim_entry(void)
{
    static const sp_export exports[] = {{SP_KIND_TRANSPORT, "lim", {.transport = &lim.ops}}};
    static const sp_plugin plugin = {
        sizeof(plugin),    1,    0,   0, "org.example.lim", "1", "v", "l", "d", exports, 1,
        sizeof(sp_export), NULL, NULL};

    return &plugin;
}

static int start(void **state)
{
    const struct sp__transport *t;

    (void)state;
    check_init(2);
    check_ok(sp__registry_transport("tcp", &t));
    lim.real = &t->ops;
    lim.ops = t->ops;
    lim.counter_at = (t->ops.ep_size + 7) / 8 * 8;
    lim.ops.ep_size = lim.counter_at + sizeof(uint64_t);
    lim.ops.ep_init = lim_listen_init;
    lim.ops.accept = lim_accept;
    lim.ops.handshake = lim_handshake;
    lim.ops.on_ready = lim_on_ready;
    counters[0].offset = lim.counter_at;
    lim.ops.counters = counters;
    lim.ops.counter_count = 1;
    lim.ops.counter_size = sizeof(sp_counter);
    check_ok(sp__registry_add(lim_entry));
    atomic_store(&lim.listener, NULL);
    atomic_store(&lim.lets, true);
    atomic_store(&lim.told, false);
    atomic_store(&lim.early, false);
    atomic_store(&lim.ready, 0);
    atomic_store(&lim.asked, 0);
    atomic_store(&lim.accepts, 0);
    return 0;
}

/// `b` listens, `a` dials; they need not be connected yet.
static void couple(const char *pa, const char *pb, sp_socket *a, sp_socket *b, sp_listener *l)
{
    char bound[256];
    char url[300];
    size_t cap = sizeof(bound);

    *a = check_open(pa);
    *b = check_open(pb);
    check_ok(sp_listen(*b, "lim://127.0.0.1:0", l));
    check_ok(sp_get_str(l->id, "url", bound, &cap));
    (void)snprintf(url, sizeof(url), "lim%s", strchr(bound, ':')); // It says tcp.
    check_ok(sp_dial(*a, url, NULL, SP_NONBLOCK));
}

static void *ask_to_accept(void *arg)
{
    (void)arg;
    atomic_store(&lim.told, true);
    lim.host->ep_ready(atomic_load(&lim.listener));
    return NULL;
}

/// Accept waits until it is asked for, by a thread that runs nothing of the library's: one of its
/// own, as a plugin may have, or the application's between two calls.
static void asked_from_outside(bool own)
{
    pthread_t thread;
    sp_socket a;
    sp_socket b;
    sp_listener l;

    atomic_store(&lim.lets, false);
    couple("pair", "pair", &a, &b, &l);
    check_until(atomic_load(&lim.ready) > 0);
    assert_int_equal(check_stat(b.id, "pipes"), 0);
    assert_int_equal(atomic_load(&lim.accepts), 0);
    if (own) {
        assert_int_equal(pthread_create(&thread, NULL, ask_to_accept, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    } else {
        (void)ask_to_accept(NULL);
    }
    check_until(atomic_load(&lim.accepts) > 0);
    check_pipes(b, 1);
    check_send(a, "x");
    check_recv(b, "x");
    assert_false(atomic_load(&lim.early));
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

static void accept_is_asked_for_by_a_thread_of_the_plugins_own(void **state)
{
    (void)state;
    asked_from_outside(true);
}

static void accept_is_asked_for_between_two_calls(void **state)
{
    (void)state;
    asked_from_outside(false);
}

static void its_counters_are_in_the_statistics(void **state)
{
    sp_socket a;
    sp_socket b;
    sp_listener l;

    (void)state;
    couple("pair", "pair", &a, &b, &l);
    check_pipes(b, 1);
    check_pipes(a, 1);
    assert_true(atomic_load(&lim.ready) > 0);
    assert_true(atomic_load(&lim.asked) > 0);
    assert_false(atomic_load(&lim.early)); // Nothing was taken before it was asked for.
    check_stat_is(l.id, "admitted", 3);
    assert_int_equal(check_stat(b.id, "listeners[0].admitted"), 3);
    assert_int_equal(check_stat(a.id, "dialers[0].admitted"), 0);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

/// Also as a message and in a batch: what fits before it is sent, and it stays the caller's.
static void larger_than_a_connection_takes_is_refused_and_stays_the_callers(void **state)
{
    static char text[MOST + 1];
    sp_socket a;
    sp_socket b;
    sp_listener l;
    sp_msg *m[2];

    (void)state;
    couple("pair", "pair", &a, &b, &l);
    check_pipes(a, 1);
    check_rc(SP_EMSGSIZE, sp_send(a, text, MOST + 1, 0));
    assert_non_null(strstr(sp_error_detail(), "send: message of 101 bytes: "));
    assert_non_null(strstr(sp_error_detail(), "takes at most 100; nothing raises it"));
    check_ok(sp_send(a, text, MOST, 0));
    check_ok(sp_msg_new(&m[0], MOST));
    check_ok(sp_msg_new(&m[1], MOST + 1));
    check_rc(1, sp_sendmsgs(a, m, 2, 0));
    check_rc(SP_EMSGSIZE, sp_sendmsg(a, m[1], 0));
    assert_int_equal(sp_msg_len(m[1]), MOST + 1);
    sp_msg_release(m[1]);
    for (int i = 0; i < 2; i++) {
        check_rc(MOST, sp_recv(b, text, sizeof(text), 0));
    }
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

/// REQ writes 4 bytes in front of what it sends.
static void header_that_a_protocol_adds_counts(void **state)
{
    static char text[MOST];
    sp_socket a;
    sp_socket b;
    sp_listener l;

    (void)state;
    couple("req", "rep", &a, &b, &l);
    check_pipes(a, 1);
    check_rc(SP_EMSGSIZE, sp_send(a, text, MOST - 3, 0));
    assert_non_null(strstr(sp_error_detail(), "message of 97 bytes: "));
    assert_non_null(strstr(sp_error_detail(), "takes at most 96; nothing raises it"));
    check_ok(sp_send(a, text, MOST - 4, 0));
    check_rc(MOST - 4, sp_recv(b, text, sizeof(text), 0));
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(accept_is_asked_for_by_a_thread_of_the_plugins_own, start,
                                        check_stop),
        cmocka_unit_test_setup_teardown(accept_is_asked_for_between_two_calls, start, check_stop),
        cmocka_unit_test_setup_teardown(its_counters_are_in_the_statistics, start, check_stop),
        cmocka_unit_test_setup_teardown(
            larger_than_a_connection_takes_is_refused_and_stays_the_callers, start, check_stop),
        cmocka_unit_test_setup_teardown(header_that_a_protocol_adds_counts, start, check_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
