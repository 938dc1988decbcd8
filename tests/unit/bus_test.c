/* SPDX-License-Identifier: MIT */
/// BUS: to every peer but the sender; peers are known; nobody waits for who does not keep up.
#include "check.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static const char *const transports[] = {"inproc", "ipc", "tcp"};

#define TRANSPORTS 3
#define MEMBERS 4
#define FULL (3 * 128) // messages that one inproc peer holds when it takes none

/// A hub, and members that dialled it.
struct star {
    sp_socket hub;
    sp_socket member[MEMBERS];
    char url[256];
};

static void star_up(struct star *s, const char *transport)
{
    memset(s, 0, sizeof(*s));
    s->hub = check_open("bus");
    check_listen(s->hub, transport, s->url, NULL);
    for (int i = 0; i < MEMBERS; i++) {
        s->member[i] = check_open("bus");
        check_ok(sp_dial(s->member[i], s->url, NULL, 0));
        check_pipes(s->hub, i + 1);
    }
}

static void star_down(struct star *s)
{
    check_rest(s->hub);
    for (int i = 0; i < MEMBERS; i++) {
        check_rest(s->member[i]);
        check_ok(sp_close(s->member[i]));
    }
    check_ok(sp_close(s->hub));
}

static void send_number(sp_socket s, int n)
{
    check_ok(sp_send(s, &n, sizeof(n), 0));
}

static int recv_number(sp_socket s)
{
    int n = -1;

    check_rc(sizeof(n), sp_recv(s, &n, sizeof(n), 0));
    return n;
}

static void nothing_there(sp_socket s)
{
    char buf[64];

    check_rc(SP_EAGAIN, sp_recv(s, buf, sizeof(buf), SP_NONBLOCK));
}

static void open_raw(sp_socket *s)
{
    check_ok(sp_open_raw(s, "bus"));
    check_ok(sp_set_int(s->id, "recv-timeout", CHECK_SOON));
}

/* ------------------------------------------------------------------ Who gets it */

static void hub_reaches_every_member(void **state)
{
    (void)state;
    for (int t = 0; t < TRANSPORTS; t++) {
        struct star s;

        star_up(&s, transports[t]);
        for (int i = 0; i < 100; i++) {
            send_number(s.hub, i);
        }
        for (int m = 0; m < MEMBERS; m++) {
            for (int i = 0; i < 100; i++) {
                assert_int_equal(recv_number(s.member[m]), i);
            }
        }
        assert_int_equal(check_stat(s.hub.id, "tx_copies"), 100 * (MEMBERS - 1));
        star_down(&s);
    }
}

/// Who is not connected directly does not get it, and the sender itself does not.
static void member_reaches_the_hub_alone(void **state)
{
    (void)state;
    for (int t = 0; t < TRANSPORTS; t++) {
        struct star s;

        star_up(&s, transports[t]);
        send_number(s.member[1], 7);
        assert_int_equal(recv_number(s.hub), 7);
        send_number(s.hub, 8); // Behind it nothing else came.
        for (int m = 0; m < MEMBERS; m++) {
            assert_int_equal(recv_number(s.member[m]), 8);
            nothing_there(s.member[m]);
        }
        star_down(&s);
    }
}

static void in_a_mesh_everybody_hears_everybody(void **state)
{
    sp_socket s[MEMBERS];
    char url[MEMBERS][256];

    (void)state;
    for (int i = 0; i < MEMBERS; i++) {
        s[i] = check_open("bus");
        check_listen(s[i], transports[i % TRANSPORTS], url[i], NULL);
        for (int j = 0; j < i; j++) {
            check_ok(sp_dial(s[i], url[j], NULL, 0));
        }
    }
    for (int i = 0; i < MEMBERS; i++) {
        check_pipes(s[i], MEMBERS - 1);
    }
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < MEMBERS; i++) {
            send_number(s[i], round * MEMBERS + i);
        }
    }
    for (int i = 0; i < MEMBERS; i++) {
        int rounds[MEMBERS] = {0};

        for (int k = 0; k < 20 * (MEMBERS - 1); k++) {
            int n = recv_number(s[i]);

            assert_int_not_equal(n % MEMBERS, i);
            assert_int_equal(n / MEMBERS, rounds[n % MEMBERS]++);
        }
        nothing_there(s[i]);
        check_rest(s[i]);
    }
}

static void message_to_nobody_is_counted(void **state)
{
    sp_socket s = check_open("bus");

    (void)state;
    check_ok(sp_send(s, "x", 1, SP_NONBLOCK));
    check_stat_is(s.id, "tx_drops.no_peer", 1);
    check_rest(s);
}

/* ------------------------------------------------------------------ Raw */

static sp_msg *raw_msg(const uint32_t *words, size_t n)
{
    sp_msg *m = NULL;

    check_ok(sp_msg_new(&m, 4));
    memcpy(sp_msg_data(m), "body", 4);
    for (size_t i = 0; i < n; i++) {
        unsigned char w[4] = {(unsigned char)(words[i] >> 24), (unsigned char)(words[i] >> 16),
                              (unsigned char)(words[i] >> 8), (unsigned char)words[i]};

        check_ok(sp_msg_header_append(m, w, 4));
    }
    return m;
}

/// Sends what came on, with the header that it came with: the pipe's id.
static void raw_pass_on(sp_socket hub)
{
    sp_msg *m = NULL;
    const unsigned char *h;

    check_ok(sp_recvmsg(hub, &m, 0));
    assert_int_equal(sp_msg_header_len(m), 4);
    h = sp_msg_header(m);
    assert_int_equal((uint32_t)h[0] << 24 | (uint32_t)h[1] << 16 | (uint32_t)h[2] << 8 | h[3],
                     sp_msg_peer(m));
    check_ok(sp_sendmsg(hub, m, 0));
}

/// The header of what came is the pipe's id; sent with it, a message goes to all others.
static void raw_message_goes_to_all_but_where_it_came_from(void **state)
{
    (void)state;
    for (int t = 0; t < TRANSPORTS; t++) {
        sp_socket hub = {0};
        sp_socket member[3];
        char url[256];

        open_raw(&hub);
        check_listen(hub, transports[t], url, NULL);
        for (int i = 0; i < 3; i++) {
            member[i] = check_open("bus");
            check_ok(sp_dial(member[i], url, NULL, 0));
        }
        check_pipes(hub, 3);
        for (int i = 0; i < 3; i++) {
            check_send(member[i], "hear me");
            raw_pass_on(hub);
            for (int j = 0; j < 3; j++) {
                if (j != i) {
                    check_recv(member[j], "hear me");
                }
            }
        }
        // Without a header, and with one that names nobody, it goes to all.
        check_ok(sp_sendmsg(hub, raw_msg(NULL, 0), 0));
        check_ok(sp_sendmsg(hub, raw_msg((const uint32_t[]){0x7FFFFFFF}, 1), 0));
        for (int i = 0; i < 3; i++) {
            check_recv(member[i], "body");
            check_recv(member[i], "body");
            nothing_there(member[i]);
            check_rest(member[i]);
            check_ok(sp_close(member[i]));
        }
        check_ok(sp_sendmsg(hub, raw_msg((const uint32_t[]){1, 2}, 2), 0));
        check_stat_is(hub.id, "tx_drops.malformed", 1);
        check_rest(hub);
        check_ok(sp_close(hub));
    }
}

static void header_of_the_application_is_not_sent_by_a_cooked_socket(void **state)
{
    sp_socket a;
    sp_socket b;

    (void)state;
    check_couple("tcp", "bus", "bus", &a, &b);
    check_ok(sp_sendmsg(a, raw_msg((const uint32_t[]){1}, 1), 0));
    check_recv(b, "body");
}

/* ------------------------------------------------------------------ Peers */

static atomic_int events[3];
static atomic_int refuse;

static int on_pipe(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    (void)s;
    (void)p;
    (void)arg;
    atomic_fetch_add(&events[ev == SP_PIPE_ADDING ? 0 : ev == SP_PIPE_ADDED ? 1 : 2], 1);
    return ev == SP_PIPE_ADDING && atomic_load(&refuse) > 0 ? -1 : 0;
}

static void peers_are_known_and_reported(void **state)
{
    sp_socket hub = check_open("bus");
    sp_socket member[2];
    sp_peer_info info[MEMBERS] = {{.size = sizeof(info[0])}};
    size_t n = MEMBERS;
    char url[256];

    (void)state;
    memset(events, 0, sizeof(events));
    atomic_store(&refuse, 0);
    check_ok(sp_on_pipe(hub, on_pipe, NULL));
    check_listen(hub, "tcp", url, NULL);
    for (int i = 0; i < 2; i++) {
        sp_msg *m = NULL;

        member[i] = check_open("bus");
        check_ok(sp_dial(member[i], url, NULL, 0));
        check_until(atomic_load(&events[1]) == i + 1);
        n = MEMBERS;
        check_ok(sp_peers(hub, info, &n));
        assert_int_equal(n, i + 1);
        check_send(member[i], "here");
        check_ok(sp_recvmsg(hub, &m, 0));
        assert_int_equal(sp_msg_peer(m), info[0].peer); // the newest is the first
        sp_msg_release(m);
    }
    check_ok(sp_close(member[0]));
    check_until(atomic_load(&events[2]) == 1);
    n = MEMBERS;
    check_ok(sp_peers(hub, info, &n));
    assert_int_equal(n, 1);
    check_send(hub, "two");
    check_recv(member[1], "two");
    // One that the application refuses is no peer.
    atomic_store(&refuse, 1);
    member[0] = check_open("bus");
    check_ok(sp_dial(member[0], url, NULL, SP_NONBLOCK));
    check_until(check_stat(hub.id, "reject") > 0);
    check_send(hub, "one");
    check_recv(member[1], "one");
    nothing_there(member[0]);
    check_ok(sp_on_pipe(hub, NULL, NULL));
}

/* ------------------------------------------------------------------ Full queues */

static void who_does_not_keep_up_misses_messages_and_others_do_not(void **state)
{
    struct star s;

    (void)state;
    star_up(&s, "inproc");
    for (int i = 0; i < 1000; i++) {
        send_number(s.hub, i);
        for (int m = 1; m < MEMBERS; m++) {
            assert_int_equal(recv_number(s.member[m]), i);
        }
    }
    check_stat_is(s.hub.id, "tx_drops.full", 1000 - FULL);
    assert_int_equal(check_stat(s.hub.id, "peers[3].tx_drops.full"), 1000 - FULL); // the oldest
    for (int i = 0, last = -1; i < FULL; i++) {
        int n = recv_number(s.member[0]);

        assert_true(n > last);
        last = n;
    }
    nothing_there(s.member[0]);
    // It is heard again.
    send_number(s.hub, 1000);
    for (int m = 0; m < MEMBERS; m++) {
        assert_int_equal(recv_number(s.member[m]), 1000);
    }
    star_down(&s);
}

static void with_block_the_sender_waits_for_the_slowest(void **state)
{
    struct star s;
    int sent = 0;

    (void)state;
    star_up(&s, "inproc");
    check_ok(sp_set_str(s.hub.id, "overflow", "block"));
    check_ok(sp_set_int(s.hub.id, "send-timeout", CHECK_SOON));
    for (; sent < FULL + 128; sent++) { // and "send-buffer" on their way
        send_number(s.hub, sent);
        for (int m = 1; m < MEMBERS && sent < FULL; m++) {
            assert_int_equal(recv_number(s.member[m]), sent);
        }
    }
    check_rc(SP_EAGAIN, sp_send(s.hub, &sent, sizeof(sent), SP_NONBLOCK));
    for (int i = 0; i < sent; i++) {
        assert_int_equal(recv_number(s.member[0]), i);
    }
    for (int m = 1; m < MEMBERS; m++) {
        for (int i = FULL; i < sent; i++) {
            assert_int_equal(recv_number(s.member[m]), i);
        }
    }
    assert_int_equal(check_stat(s.hub.id, "tx_drops.full"), 0);
    star_down(&s);
}

static void with_drop_old_the_newest_arrive(void **state)
{
    struct star s;
    int got = 0;
    int last = -1;

    (void)state;
    star_up(&s, "inproc");
    check_ok(sp_set_str(s.hub.id, "overflow", "drop-old"));
    for (int i = 0; i < 1000; i++) {
        send_number(s.hub, i);
        for (int m = 1; m < MEMBERS; m++) {
            assert_int_equal(recv_number(s.member[m]), i);
        }
    }
    for (; last != 999; got++) {
        int n = recv_number(s.member[0]);

        assert_true(n > last);
        last = n;
    }
    nothing_there(s.member[0]);
    check_stat_is(s.hub.id, "tx_drops.full", 1000 - got);
    assert_true(got >= 256 && got < 1000);
    star_down(&s);
}

static void with_disconnect_who_does_not_keep_up_is_closed(void **state)
{
    struct star s;

    (void)state;
    star_up(&s, "inproc");
    check_ok(sp_set_str(s.hub.id, "overflow", "disconnect"));
    // It does not come back: at random within three weeks.
    check_ok(sp_close(s.member[0]));
    check_pipes(s.hub, MEMBERS - 1);
    s.member[0] = check_open("bus");
    check_ok(sp_set_int(s.member[0].id, "reconnect-time-max", INT32_MAX));
    check_ok(sp_set_int(s.member[0].id, "reconnect-time-min", INT32_MAX));
    check_ok(sp_dial(s.member[0], s.url, NULL, 0));
    check_pipes(s.hub, MEMBERS);
    for (int i = 0; i < 1000; i++) {
        send_number(s.hub, i);
        for (int m = 1; m < MEMBERS; m++) {
            assert_int_equal(recv_number(s.member[m]), i);
        }
    }
    check_pipes(s.hub, MEMBERS - 1);
    assert_true(check_stat(s.hub.id, "tx_drops.full") >= 1);
    star_down(&s);
}

/// All have sent more than the receiver holds: it takes from each in turn.
static void receiver_takes_from_all_peers_fairly(void **state)
{
    struct star s;
    int got[MEMBERS] = {0};

    (void)state;
    star_up(&s, "inproc");
    for (int i = 0; i < 256; i++) {
        for (int m = 0; m < MEMBERS; m++) {
            send_number(s.member[m], i * MEMBERS + m);
        }
    }
    for (int i = 0; i < MEMBERS * 128; i++) {
        int n = recv_number(s.hub);

        assert_int_equal(n / MEMBERS, got[n % MEMBERS]++);
    }
    for (int m = 0; m < MEMBERS; m++) {
        assert_true(got[m] >= 64);
    }
    for (int i = 0; i < MEMBERS * 128; i++) {
        (void)recv_number(s.hub);
    }
    star_down(&s);
}

/* ------------------------------------------------------------------ Coming and going */

static void close_delivers_what_was_sent(void **state)
{
    (void)state;
    for (int t = 0; t < TRANSPORTS; t++) {
        struct star s;

        star_up(&s, transports[t]);
        check_ok(sp_set_int(s.hub.id, "linger", CHECK_SOON));
        for (int i = 0; i < 100; i++) {
            send_number(s.hub, i);
        }
        check_ok(sp_close(s.hub));
        for (int m = 0; m < MEMBERS; m++) {
            for (int i = 0; i < 100; i++) {
                assert_int_equal(recv_number(s.member[m]), i);
            }
            check_pipes(s.member[m], 0);
            check_rest(s.member[m]);
            check_ok(sp_close(s.member[m]));
        }
    }
}

static void members_come_and_go(void **state)
{
    struct star s;

    (void)state;
    star_up(&s, "ipc");
    for (int i = 0; i < 20; i++) {
        int who = i % MEMBERS;

        send_number(s.hub, i);
        check_ok(sp_close(s.member[who]));
        check_pipes(s.hub, MEMBERS - 1);
        for (int m = 0; m < MEMBERS; m++) {
            if (m != who) {
                assert_int_equal(recv_number(s.member[m]), i);
            }
        }
        s.member[who] = check_open("bus");
        check_ok(sp_dial(s.member[who], s.url, NULL, 0));
        check_pipes(s.hub, MEMBERS);
    }
    star_down(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        check_both(hub_reaches_every_member),
        check_both(member_reaches_the_hub_alone),
        check_both(in_a_mesh_everybody_hears_everybody),
        check_both(message_to_nobody_is_counted),
        check_both(raw_message_goes_to_all_but_where_it_came_from),
        check_both(header_of_the_application_is_not_sent_by_a_cooked_socket),
        check_both(peers_are_known_and_reported),
        check_both(who_does_not_keep_up_misses_messages_and_others_do_not),
        check_both(with_block_the_sender_waits_for_the_slowest),
        check_both(with_drop_old_the_newest_arrive),
        check_both(with_disconnect_who_does_not_keep_up_is_closed),
        check_both(receiver_takes_from_all_peers_fairly),
        check_both(close_delivers_what_was_sent),
        check_both(members_come_and_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
