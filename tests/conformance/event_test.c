/* SPDX-License-Identifier: MIT */
/// Pipe events of every pattern: a peer is announced, and may be refused, at either end; a refused
/// one is counted and has no effect; the rest go on.
#include "conform.h"

#include <stdatomic.h>
#include <string.h>

/// What a function for pipe events saw; it refuses the first `refuse` peers.
struct seen {
    atomic_int refuse;
    atomic_int adding;
    atomic_int added;
    atomic_int removed;
    atomic_int wrong; ///< events that must not be
};

static struct seen at[2]; // of the fact that runs; its sockets outlive the function

static int on_pipe(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    struct seen *seen = arg;

    // Later events may find it closed already.
    if (ev == SP_PIPE_ADDING && sp_pipe_socket(p).id != s.id) {
        atomic_fetch_add(&seen->wrong, 1);
    }
    switch (ev) {
    case SP_PIPE_ADDING:
        atomic_fetch_add(&seen->adding, 1);
        return atomic_fetch_sub(&seen->refuse, 1) > 0;
    case SP_PIPE_ADDED:
        atomic_fetch_add(&seen->added, 1);
        break;
    case SP_PIPE_REMOVED:
        atomic_fetch_add(&seen->removed, 1);
        break;
    }
    return 0;
}

static void see(int refuse)
{
    memset(at, 0, sizeof(at));
    atomic_store(&at[0].refuse, refuse);
}

static void peer_is_announced_and_its_end_too(void **state)
{
    sp_socket both[2] = {conform_sender(), conform_receiver()};

    (void)state;
    see(0);
    for (int i = 0; i < 2; i++) {
        check_ok(sp_on_pipe(both[i], on_pipe, &at[i]));
    }
    conform_connect(&both[0], 1, &both[1], 1);
    conform_exchange(both[0], both[1], 1);
    check_ok(sp_close(both[1]));
    check_pipes(both[0], 0);
    check_until(atomic_load(&at[0].removed) == 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(atomic_load(&at[i].adding), 1);
        assert_int_equal(atomic_load(&at[i].added), 1);
        assert_int_equal(atomic_load(&at[i].removed), 1);
        assert_int_equal(atomic_load(&at[i].wrong), 0);
    }
}

/// The listening side refuses twice; the dialer comes again.
static void refused_peer_is_counted_and_comes_again(void **state)
{
    sp_socket sender = conform_sender();
    sp_socket receiver = conform_receiver();
    char url[256];

    (void)state;
    see(2);
    check_ok(sp_on_pipe(sender, on_pipe, &at[0]));
    check_listen(sender, conform.transport, url, NULL);
    check_ok(sp_dial(receiver, url, NULL, SP_NONBLOCK));
    check_until(atomic_load(&at[0].added) == 1);
    assert_int_equal(atomic_load(&at[0].adding), 3);
    check_pipes(sender, 1);
    check_pipes(receiver, 1);
    check_stat_is(sender.id, "reject", 2);
    check_stat_is(sender.id, "listeners[0].reject", 2);
    assert_int_equal(check_stat(sender.id, "listeners[0].connect"), 1);
    assert_int_equal(atomic_load(&at[0].removed), 0); // Only of those that were added.
    check_stat_is(sender.id, "rx_drops.own", conform_own());
    conform_exchange(sender, receiver, 1);
    check_rest(sender);
    check_rest(receiver);
}

/// The dialling side refuses.
static void dialer_may_refuse_too(void **state)
{
    sp_socket sender = conform_sender();
    sp_socket receiver = conform_receiver();
    char url[256];

    (void)state;
    see(1);
    check_ok(sp_on_pipe(receiver, on_pipe, &at[0]));
    check_listen(sender, conform.transport, url, NULL);
    check_ok(sp_dial(receiver, url, NULL, SP_NONBLOCK));
    check_until(atomic_load(&at[0].added) == 1);
    check_pipes(sender, 1);
    check_stat_is(receiver.id, "reject", 1);
    check_stat_is(receiver.id, "dialers[0].reject", 1);
    check_stat_is(sender.id, "rx_drops.own", conform_own());
    conform_exchange(sender, receiver, 1);
}

/// One is refused for ever, the other one is served.
static void refused_peer_does_not_disturb_others(void **state)
{
    sp_socket sender = conform_sender();
    sp_socket receiver = conform_receiver();
    sp_socket unwelcome = conform_receiver();
    char url[256];

    (void)state;
    see(1000000);
    conform_connect(&sender, 1, &receiver, 1);
    check_ok(sp_on_pipe(sender, on_pipe, &at[0]));
    check_listen(sender, conform.transport, url, NULL);
    check_ok(sp_dial(unwelcome, url, NULL, SP_NONBLOCK));
    check_until(atomic_load(&at[0].adding) >= 3);
    for (int i = 0; i < 20; i++) {
        conform_exchange(sender, receiver, i);
    }
    assert_int_equal(atomic_load(&at[0].added), 0);
    check_pipes(sender, 1);
    assert_int_equal(check_stat(unwelcome.id, "rx_received"), 0);
    check_rest(sender);
}

/// More than one peer: the protocol refuses the second one.
static void second_peer_is_refused_by_the_protocol(void **state)
{
    sp_socket sender;
    sp_socket receiver;
    sp_socket second = conform_receiver();
    char url[256];

    (void)state;
    conform_couple(&sender, &receiver);
    check_listen(sender, conform.transport, url, NULL);
    check_ok(sp_dial(second, url, NULL, SP_NONBLOCK));
    check_until(check_stat(sender.id, "reject") >= 2);
    check_pipes(sender, 1);
    conform_exchange(sender, receiver, 1);
    check_ok(sp_close(receiver));
    // It gets in when the first one has left. The sender's count, of its newest listener: the other
    // end counts a peer that is about to be refused.
    check_stat_is(sender.id, "listeners[0].connect", 1);
    conform_exchange(sender, second, 2);
}

/// Pipes can be told apart and asked, inside the function and later.
static void peers_are_listed(void **state)
{
    enum { N = 3 };
    sp_socket sender = conform_sender();
    sp_socket receivers[N];
    sp_peer_info info[N + 1] = {{.size = sizeof(info[0])}};
    size_t n = N + 1;

    (void)state;
    for (int i = 0; i < N; i++) {
        receivers[i] = conform_receiver();
    }
    conform_connect(&sender, 1, receivers, N);
    check_ok(sp_peers(sender, info, &n));
    assert_int_equal(n, N);
    for (size_t i = 0; i < n; i++) {
        assert_true(info[i].peer != 0);
        assert_true(sp_pipe_socket(info[i].pipe).id == sender.id);
        for (size_t k = 0; k < i; k++) {
            assert_true(info[k].peer != info[i].peer);
        }
    }
    check_ok(sp_close(receivers[0]));
    check_pipes(sender, N - 1);
    n = 1;
    check_rc(SP_EMSGSIZE, sp_peers(sender, info, &n));
    assert_int_equal(n, N - 1);
}

int main(void)
{
    static const struct conform_fact facts[] = {
        conform_fact(peer_is_announced_and_its_end_too, 0, 0),
        conform_fact(refused_peer_is_counted_and_comes_again, 0, 0),
        conform_fact(dialer_may_refuse_too, 0, 0),
        conform_fact(refused_peer_does_not_disturb_others, 0, CONFORM_SINGLE),
        conform_fact(second_peer_is_refused_by_the_protocol, CONFORM_SINGLE, 0),
        conform_fact(peers_are_listed, 0, CONFORM_SINGLE),
    };

    return conform_run(facts, sizeof(facts) / sizeof(facts[0]));
}
