/* SPDX-License-Identifier: MIT */
/// Transport tcp over the loopback, with a fake host. The plugin is compiled into the test.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_host.h"
#include "transports/tcp/tcp.c"

/// A listener, a dialer at its URL, and a connection between them.
struct link {
    struct fake_ep *listener;
    struct fake_ep *dialer;
    struct fake_pipe *accepted;
    struct fake_pipe *dialed;
    sp_bound bound;
    sp_cause cause;
    sp_handshake hs_accepted;
    sp_handshake hs_dialed;
    int rc_accepted;
    int rc_dialed;
};

static struct fake_ep *listen_at(const char *url, sp_bound *bound, int *rc, sp_cause *cause)
{
    struct fake_ep *ep;

    memset(bound, 0, sizeof(*bound));
    bound->size = sizeof(*bound);
    ep = fake_ep_new(&tcp_ops, url, rc, cause);
    if (*rc == SP_OK) {
        *rc = tcp_listen(ep->ref.state, bound, cause);
    }
    return ep;
}

/// Dials and accepts; the handshakes are the test's.
static void link_connect(struct link *l)
{
    l->dialed = fake_pipe_new(&tcp_ops);
    l->accepted = fake_pipe_new(&tcp_ops);
    assert_int_equal(
        tcp_dial(l->dialer->ref.state, l->dialed->ref.tran, &l->dialed->ref, &l->cause), SP_OK);
    assert_int_equal(fake_accept(l->listener, l->accepted, &l->cause), SP_OK);
    l->hs_accepted = fake_hs(0x10, 0x10);
    l->hs_dialed = fake_hs(0x10, 0x10);
}

static void link_listen(struct link *l, const char *url)
{
    int rc;

    fake_reset();
    memset(l, 0, sizeof(*l));
    l->listener = listen_at(url, &l->bound, &rc, &l->cause);
    assert_int_equal(rc, SP_OK);
    l->dialer = fake_ep_new(&tcp_ops, l->bound.url, &rc, &l->cause);
    assert_int_equal(rc, SP_OK);
}

static void link_open(struct link *l, const char *url)
{
    link_listen(l, url);
    link_connect(l);
    fake_handshakes(l->accepted, &l->hs_accepted, &l->rc_accepted, l->dialed, &l->hs_dialed,
                    &l->rc_dialed);
    assert_int_equal(l->rc_accepted, SP_OK);
    assert_int_equal(l->rc_dialed, SP_OK);
}

static void link_close(struct link *l)
{
    fake_pipe_free(l->dialed);
    fake_pipe_free(l->accepted);
    fake_ep_free(l->dialer);
    fake_ep_free(l->listener);
    assert_int_equal(fake.msgs_live, 0);
}

/// One message from a to b.
static void assert_carries(struct fake_pipe *a, struct fake_pipe *b, const char *text)
{
    sp_batch out = {0};
    sp_batch in = {0};

    sp_batch_push(&out, fake_msg("\x80\0\0\1", 4, text, strlen(text)));
    assert_int_equal(a->ops->submit(a->ref.tran, &out), SP_OK);
    assert_int_equal(fake_harvest(b, &in, 1), 1);
    assert_int_equal(in.head->len, 4 + strlen(text));
    assert_memory_equal(in.head->data + 4, text, strlen(text));
    fake_drop(&in);
}

static void assert_starts_with(const char *text, const char *start)
{
    if (strncmp(text, start, strlen(start)) != 0) {
        fail_msg("\"%s\" does not start with \"%s\"", text, start);
    }
}

static bool ipv6_is_there(void)
{
    sp_inet a = {.in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool there = fd >= 0 && bind(fd, &a.sa, sizeof(a.in6)) == 0;

    if (fd >= 0) {
        (void)close(fd);
    }
    return there;
}

/// A port that nobody listens on: bound, and kept by `fd`.
static int port_unused(int *fd)
{
    sp_inet a = {.in4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};

    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(*fd >= 0);
    assert_int_equal(bind(*fd, &a.sa, sizeof(a.in4)), 0);
    assert_int_equal(sp_inet_local(*fd, &a), SP_OK);
    return sp_inet_port(&a);
}

/* ------------------------------------------------------------------ URLs */

static void tcp_takes_these_urls(void **state)
{
    static const char *const urls[] = {
        "tcp://127.0.0.1:5555", "tcp://0.0.0.0:65535",
        "tcp://[::1]:5555",     "tcp://[::]:0",
        "tcp://*:5555",         "tcp://:5555",
        "tcp://127.0.0.1:0",    "tcp://localhost:5555",
        "tcp://[fe80::1%1]:1",  "tcp://[::ffff:1.2.3.4]:1",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        sp_cause cause = {""};
        int rc;
        struct fake_ep *ep = fake_ep_new(&tcp_ops, urls[i], &rc, &cause);

        if (rc != SP_OK) {
            fail_msg("%s: %s", urls[i], cause.text);
        }
        fake_ep_free(ep);
    }
}

static void tcp_refuses_these_urls_and_says_why(void **state)
{
    static const struct {
        const char *url;
        const char *cause;
    } table[] = {
        {"tcp://", "address \"\": the port is missing"},
        {"tcp://127.0.0.1", "address \"127.0.0.1\": the port is missing"},
        {"tcp://127.0.0.1:", "port \"\": not in 0…65535"},
        {"tcp://127.0.0.1:70000", "port \"70000\": not in 0…65535"},
        {"tcp://127.0.0.1:65536", "port \"65536\": not in 0…65535"},
        {"tcp://127.0.0.1:-1", "port \"-1\": not in 0…65535"},
        {"tcp://127.0.0.1:+1", "port \"+1\": not in 0…65535"},
        {"tcp://127.0.0.1: 1", "port \" 1\": not in 0…65535"},
        {"tcp://127.0.0.1:1x", "port \"1x\": not in 0…65535"},
        {"tcp://127.0.0.1:http", "port \"http\": not in 0…65535"},
        {"tcp://127.0.0.1:80/", "port \"80/\": not in 0…65535"},
        {"tcp://127.0.0.1:18446744073709551617", "port \"18446744073709551617\": not in"},
        {"tcp://::1:5555", "address \"::1:5555\": IPv6 addresses stand in brackets"},
        {"tcp://[::1]", "address \"[::1]\": the port is missing"},
        {"tcp://[::1]5555", "address \"[::1]5555\": the port is missing"},
        {"tcp://[::1:5555", "address \"[::1:5555\": no IPv6 address in brackets"},
        {"tcp://[]:5555", "address \"[]:5555\": no IPv6 address in brackets"},
        {"tcp://[1.2.3.4]:5555", "host \"1.2.3.4\": not an IPv6 address"},
        {"tcp://[fe80::1%nosuch]:1", "host \"fe80::1%nosuch\": no such interface"},
        {"tcp://256.0.0.1:5555", "host \"256.0.0.1\": neither a name nor an address"},
        {"tcp://a b:5555", "host \"a b\": neither a name nor an address"},
        {"tcp://user@host:5555", "host \"user@host\": neither a name nor an address"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        sp_cause cause = {""};
        int rc;
        struct fake_ep *ep = fake_ep_new(&tcp_ops, table[i].url, &rc, &cause);

        assert_int_equal(rc, SP_EINVAL);
        assert_starts_with(cause.text, table[i].cause);
        fake_ep_free(ep);
    }
}

static void tcp_refuses_a_host_that_is_too_long(void **state)
{
    char url[400];
    sp_cause cause = {""};
    int rc;
    struct fake_ep *ep;

    (void)state;
    (void)snprintf(url, sizeof(url), "tcp://%0300d:1", 0);
    ep = fake_ep_new(&tcp_ops, url, &rc, &cause);
    assert_int_equal(rc, SP_EINVAL);
    assert_starts_with(cause.text, "host of 300 bytes");
    fake_ep_free(ep);
}

static void tcp_does_not_dial_what_only_a_listener_can_be_at(void **state)
{
    static const struct {
        const char *url;
        const char *cause;
    } table[] = {{"tcp://127.0.0.1:0", "port \"0\""},
                 {"tcp://*:5555", "host \"*\""},
                 {"tcp://:5555", "host \"*\""}};

    (void)state;
    fake_reset();
    for (size_t i = 0; i < 3; i++) {
        sp_cause cause = {""};
        int rc;
        struct fake_ep *ep = fake_ep_new(&tcp_ops, table[i].url, &rc, &cause);
        struct fake_pipe *p = fake_pipe_new(&tcp_ops);

        assert_int_equal(rc, SP_OK);
        assert_int_equal(tcp_dial(ep->ref.state, p->ref.tran, &p->ref, &cause), SP_EINVAL);
        assert_starts_with(cause.text, table[i].cause);
        fake_pipe_free(p);
        fake_ep_free(ep);
    }
}

/* ------------------------------------------------------------------ Listening and dialling */

static void tcp_carries_messages_both_ways(void **state)
{
    struct link l;
    char port[16];

    (void)state;
    link_open(&l, "tcp://127.0.0.1:0");
    assert_carries(l.dialed, l.accepted, "there");
    assert_carries(l.accepted, l.dialed, "and back");
    (void)snprintf(port, sizeof(port), ":%d", (int)l.bound.port);
    assert_string_equal(l.hs_dialed.remote, l.bound.local);
    assert_string_equal(l.hs_accepted.local, l.bound.local);
    assert_string_equal(l.hs_accepted.remote, l.hs_dialed.local);
    assert_starts_with(l.hs_accepted.remote, "127.0.0.1:");
    assert_non_null(strstr(l.bound.url, port));
    assert_int_equal(l.hs_dialed.uid, -1);
    link_close(&l);
}

static void tcp_reports_the_real_port(void **state)
{
    struct link l;
    char text[64];

    (void)state;
    link_listen(&l, "tcp://127.0.0.1:0");
    assert_true(l.bound.port > 0 && l.bound.port < 65536);
    (void)snprintf(text, sizeof(text), "127.0.0.1:%d", (int)l.bound.port);
    assert_string_equal(l.bound.local, text);
    (void)snprintf(text, sizeof(text), "tcp://127.0.0.1:%d", (int)l.bound.port);
    assert_string_equal(l.bound.url, text);
    link_close(&l);
}

static void tcp_speaks_ipv6(void **state)
{
    struct link l;

    (void)state;
    if (!ipv6_is_there()) {
        print_message("skipped: no IPv6 on the loopback\n");
        skip();
    }
    link_open(&l, "tcp://[::1]:0");
    assert_starts_with(l.bound.url, "tcp://[::1]:");
    assert_starts_with(l.hs_accepted.remote, "[::1]:");
    assert_carries(l.dialed, l.accepted, "six");
    link_close(&l);
}

static void tcp_at_any_address_takes_ipv4_and_ipv6(void **state)
{
    struct link l;
    char url[64];
    struct fake_pipe *p;
    struct fake_pipe *q;
    struct fake_ep *ep;
    int rc;

    (void)state;
    link_open(&l, "tcp://*:0");
    assert_starts_with(l.bound.url, "tcp://127.0.0.1:");
    assert_starts_with(l.hs_accepted.remote, "127.0.0.1:");
    assert_carries(l.dialed, l.accepted, "four");
    if (ipv6_is_there()) {
        (void)snprintf(url, sizeof(url), "tcp://[::1]:%d", (int)l.bound.port);
        ep = fake_ep_new(&tcp_ops, url, &rc, NULL);
        p = fake_pipe_new(&tcp_ops);
        q = fake_pipe_new(&tcp_ops);
        assert_int_equal(tcp_dial(ep->ref.state, p->ref.tran, &p->ref, &l.cause), SP_OK);
        assert_int_equal(fake_accept(l.listener, q, &l.cause), SP_OK);
        fake_pipe_free(q);
        fake_pipe_free(p);
        fake_ep_free(ep);
    }
    link_close(&l);
}

static void tcp_tries_the_addresses_of_a_name_in_turn(void **state)
{
    struct link l;
    char url[64];
    int rc;

    (void)state;
    link_listen(&l, "tcp://127.0.0.1:0");
    fake_ep_free(l.dialer);
    (void)snprintf(url, sizeof(url), "tcp://localhost:%d", (int)l.bound.port);
    l.dialer = fake_ep_new(&tcp_ops, url, &rc, &l.cause);
    assert_int_equal(rc, SP_OK);
    for (int i = 0; i < 3; i++) {
        link_connect(&l);
        fake_handshakes(l.accepted, &l.hs_accepted, &l.rc_accepted, l.dialed, &l.hs_dialed,
                        &l.rc_dialed);
        assert_int_equal(l.rc_dialed, SP_OK);
        fake_pipe_free(l.accepted);
        fake_pipe_free(l.dialed);
    }
    l.accepted = NULL;
    l.dialed = NULL;
    link_close(&l);
}

static void tcp_address_in_use_is_an_error(void **state)
{
    struct link l;
    struct fake_ep *second;
    sp_bound bound;
    int rc;

    (void)state;
    link_listen(&l, "tcp://127.0.0.1:0");
    second = listen_at(l.bound.url, &bound, &rc, &l.cause);
    assert_int_equal(rc, -EADDRINUSE);
    assert_string_equal(l.cause.text, "bind");
    fake_ep_free(second);
    link_close(&l);
}

static void tcp_foreign_address_is_an_error(void **state)
{
    struct fake_ep *ep;
    sp_bound bound;
    sp_cause cause;
    int rc;

    (void)state;
    ep = listen_at("tcp://192.0.2.1:0", &bound, &rc, &cause);
    assert_int_equal(rc, -EADDRNOTAVAIL);
    assert_string_equal(cause.text, "bind");
    fake_ep_free(ep);
}

static void tcp_binds_again_at_once_after_close(void **state)
{
    struct link l;
    struct fake_ep *again;
    sp_bound bound;
    int rc;

    (void)state;
    link_open(&l, "tcp://127.0.0.1:0");
    // The listener's side closes first, so the connection waits in its port for a while.
    fake_pipe_free(l.accepted);
    l.accepted = NULL;
    tcp_ep_close(l.listener->ref.state);
    again = listen_at(l.bound.url, &bound, &rc, &l.cause);
    assert_int_equal(rc, SP_OK);
    assert_int_equal(bound.port, l.bound.port);
    fake_ep_free(again);
    link_close(&l);
}

static void tcp_refused_connect_is_reported(void **state)
{
    struct fake_pipe *p = fake_pipe_new(&tcp_ops);
    sp_handshake hs = fake_hs(0x10, 0x10);
    sp_cause cause;
    char url[64];
    int keep;
    int none;
    int rc;
    struct fake_ep *ep;

    (void)state;
    fake_reset();
    (void)snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port_unused(&keep));
    ep = fake_ep_new(&tcp_ops, url, &rc, &cause);
    assert_int_equal(tcp_dial(ep->ref.state, p->ref.tran, &p->ref, &cause), SP_OK);
    fake_handshakes(p, &hs, &rc, NULL, NULL, &none);
    assert_int_equal(rc, -ECONNREFUSED);
    assert_string_equal(hs.cause.text, "connect");
    fake_pipe_free(p);
    fake_ep_free(ep);
    assert_int_equal(close(keep), 0);
}

static void tcp_does_not_take_itself_for_a_peer(void **state)
{
    struct fake_pipe *p = fake_pipe_new(&tcp_ops);
    sp_handshake hs = fake_hs(0x10, 0x10);
    sp_cause cause;
    char url[64];
    int keep;
    int none;
    int rc;
    struct fake_ep *ep;

    (void)state;
    fake_reset();
    (void)snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port_unused(&keep));
    assert_int_equal(close(keep), 0);
    ep = fake_ep_new(&tcp_ops, url, &rc, &cause);
    fake_ep_set_str(ep, "local-address", url + strlen("tcp://"));
    assert_int_equal(tcp_dial(ep->ref.state, p->ref.tran, &p->ref, &cause), SP_OK);
    fake_handshakes(p, &hs, &rc, NULL, NULL, &none);
    assert_int_equal(rc, -ECONNREFUSED);
    assert_string_equal(hs.cause.text, "connect");
    fake_pipe_free(p);
    fake_ep_free(ep);
}

static void tcp_connect_under_way_can_be_closed(void **state)
{
    struct link l;
    sp_handshake hs = fake_hs(0x10, 0x10);
    struct fake_pipe *p[8];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = SP_OK;
    size_t n = 0;

    (void)state;
    link_listen(&l, "tcp://127.0.0.1:0");
    // A listener whose queue is full does not answer.
    assert_int_equal(listen(l.listener->fd, 0), 0);
    while (n < 8) {
        p[n] = fake_pipe_new(&tcp_ops);
        assert_int_equal(tcp_dial(l.dialer->ref.state, p[n]->ref.tran, &p[n]->ref, &l.cause),
                         SP_OK);
        n++;
    }
    rc = tcp_ops.handshake(p[7]->ref.tran, 0, &hs);
    assert_int_equal(rc, SP_EAGAIN);
    assert_int_equal(((struct tcp_pipe *)p[7]->ref.tran)->stream.tx_off, 0);
    tcp_ops.pipe_close(p[7]->ref.tran);
    assert_int_equal(tcp_ops.handshake(p[7]->ref.tran, 0, &hs), SP_ECLOSED);
    while (n > 0) {
        fake_pipe_free(p[--n]);
    }
    assert_int_equal(close(fd), 0);
    link_close(&l);
}

static void tcp_refuses_a_peer_of_the_wrong_type_on_both_ends(void **state)
{
    struct link l;

    (void)state;
    link_listen(&l, "tcp://127.0.0.1:0");
    link_connect(&l);
    l.hs_accepted = fake_hs(0x31, 0x30);
    l.hs_dialed = fake_hs(0x50, 0x51);
    fake_handshakes(l.accepted, &l.hs_accepted, &l.rc_accepted, l.dialed, &l.hs_dialed,
                    &l.rc_dialed);
    assert_int_equal(l.rc_accepted, SP_EPROTO);
    assert_int_equal(l.rc_dialed, SP_EPROTO);
    assert_int_equal(l.hs_accepted.peer, 0x50);
    assert_int_equal(l.hs_dialed.peer, 0x31);
    assert_starts_with(l.hs_accepted.remote, "127.0.0.1:");
    link_close(&l);
}

static void tcp_close_of_an_endpoint_is_idempotent_and_final(void **state)
{
    struct link l;
    struct fake_pipe *p = fake_pipe_new(&tcp_ops);

    (void)state;
    link_listen(&l, "tcp://127.0.0.1:0");
    assert_int_equal(fake.ep_watches, 1);
    for (int i = 0; i < 2; i++) {
        tcp_ep_close(l.listener->ref.state);
        tcp_ep_close(l.dialer->ref.state);
    }
    assert_int_equal(fake.ep_unwatches, 1);
    assert_int_equal(tcp_accept(l.listener->ref.state, p->ref.tran, &p->ref, &l.cause), SP_ECLOSED);
    assert_int_equal(tcp_dial(l.dialer->ref.state, p->ref.tran, &p->ref, &l.cause), SP_ECLOSED);
    fake_pipe_free(p);
    link_close(&l);
}

static void tcp_listener_that_cannot_be_watched_gives_its_port_back(void **state)
{
    struct link l;
    struct fake_ep *ep;
    sp_bound bound;
    int rc;

    (void)state;
    link_listen(&l, "tcp://127.0.0.1:0");
    tcp_ep_close(l.listener->ref.state);
    fake.watch_fails = -ENOSPC;
    ep = listen_at(l.bound.url, &bound, &rc, &l.cause);
    assert_int_equal(rc, -ENOSPC);
    fake.watch_fails = 0;
    fake_ep_free(ep);
    ep = listen_at(l.bound.url, &bound, &rc, &l.cause);
    assert_int_equal(rc, SP_OK);
    fake_ep_free(ep);
    link_close(&l);
}

static void tcp_accept_with_nobody_waiting_says_so(void **state)
{
    struct link l;
    struct fake_pipe *p = fake_pipe_new(&tcp_ops);

    (void)state;
    link_listen(&l, "tcp://127.0.0.1:0");
    assert_int_equal(tcp_accept(l.listener->ref.state, p->ref.tran, &p->ref, &l.cause), SP_EAGAIN);
    fake_pipe_free(p);
    link_close(&l);
}

static void tcp_accept_without_a_free_fd_fails_and_recovers(void **state)
{
    struct link l;
    struct rlimit limit;
    struct rlimit none;

    (void)state;
    link_listen(&l, "tcp://127.0.0.1:0");
    l.dialed = fake_pipe_new(&tcp_ops);
    l.accepted = fake_pipe_new(&tcp_ops);
    assert_int_equal(tcp_dial(l.dialer->ref.state, l.dialed->ref.tran, &l.dialed->ref, &l.cause),
                     SP_OK);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_true(fake_wait(l.listener->fd, POLLIN) != 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(
        tcp_accept(l.listener->ref.state, l.accepted->ref.tran, &l.accepted->ref, &l.cause),
        -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(fake_accept(l.listener, l.accepted, &l.cause), SP_OK);
    link_close(&l);
}

/* ------------------------------------------------------------------ Options */

static int socket_option(const struct fake_pipe *p, int level, int name)
{
    socklen_t len = sizeof(int);
    int value = -1;

    assert_int_equal(getsockopt(p->fd, level, name, &value, &len), 0);
    return value;
}

static void tcp_sets_nodelay_unless_told_otherwise(void **state)
{
    (void)state;
    for (int on = 0; on < 2; on++) {
        struct link l;

        link_listen(&l, "tcp://127.0.0.1:0");
        if (on == 0) {
            fake_ep_set_int(l.listener, "tcp-nodelay", 0);
            fake_ep_set_int(l.dialer, "tcp-nodelay", 0);
        } else {
            fake_ep_set_int(l.listener, "tcp-keepalive", 1);
            fake_ep_set_int(l.dialer, "tcp-keepalive", 1);
        }
        link_connect(&l);
        assert_int_equal(socket_option(l.dialed, IPPROTO_TCP, TCP_NODELAY), on);
        assert_int_equal(socket_option(l.accepted, IPPROTO_TCP, TCP_NODELAY), on);
        assert_int_equal(socket_option(l.dialed, SOL_SOCKET, SO_KEEPALIVE), on);
        assert_int_equal(socket_option(l.accepted, SOL_SOCKET, SO_KEEPALIVE), on);
        link_close(&l);
    }
}

static void tcp_fds_are_closed_on_exec_and_do_not_block(void **state)
{
    struct link l;
    int fds[3];

    (void)state;
    link_open(&l, "tcp://127.0.0.1:0");
    fds[0] = l.listener->fd;
    fds[1] = l.accepted->fd;
    fds[2] = l.dialed->fd;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fcntl(fds[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        assert_int_equal(fcntl(fds[i], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    }
    link_close(&l);
}

static void tcp_dials_from_the_local_address(void **state)
{
    static const char *const texts[] = {"127.0.0.2", "127.0.0.2:0"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct link l;

        link_listen(&l, "tcp://127.0.0.1:0");
        fake_ep_set_str(l.dialer, "local-address", texts[i]);
        link_connect(&l);
        fake_handshakes(l.accepted, &l.hs_accepted, &l.rc_accepted, l.dialed, &l.hs_dialed,
                        &l.rc_dialed);
        assert_int_equal(l.rc_accepted, SP_OK);
        assert_starts_with(l.hs_accepted.remote, "127.0.0.2:");
        link_close(&l);
    }
}

static void tcp_refuses_these_local_addresses(void **state)
{
    static const struct {
        const char *text;
        int rc;
        const char *cause;
    } table[] = {
        {"[::1]", SP_EINVAL, "local-address \"[::1]\": of another address family"},
        {"[::1]:5", SP_EINVAL, "local-address \"[::1]:5\": of another address family"},
        {"eth0", SP_EINVAL, "host \"eth0\": not an IPv4 address"},
        {"127.0.0.1:x", SP_EINVAL, "port \"x\": not in"},
        {"192.0.2.1", -EADDRNOTAVAIL, "bind local-address \"192.0.2.1\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct fake_pipe *p = fake_pipe_new(&tcp_ops);
        struct link l;

        link_listen(&l, "tcp://127.0.0.1:0");
        fake_ep_set_str(l.dialer, "local-address", table[i].text);
        assert_int_equal(tcp_dial(l.dialer->ref.state, p->ref.tran, &p->ref, &l.cause),
                         table[i].rc);
        assert_starts_with(l.cause.text, table[i].cause);
        fake_pipe_free(p);
        link_close(&l);
    }
}

static void tcp_listens_on_a_socket_that_it_is_given(void **state)
{
    struct fake_ep *ep;
    sp_bound bound = {.size = sizeof(bound)};
    sp_cause cause;
    int port;
    int fd;
    int rc;

    (void)state;
    fake_reset();
    port = port_unused(&fd);
    ep = fake_ep_new(&tcp_ops, "tcp://127.0.0.1:0", &rc, &cause);
    fake_ep_set_int(ep, "listen-fd", fd);
    assert_int_equal(tcp_listen(ep->ref.state, &bound, &cause),
                     SP_EINVAL); // it does not listen yet
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(tcp_listen(ep->ref.state, &bound, &cause), SP_OK);
    assert_int_equal(bound.port, port);
    fake_ep_free(ep);
    assert_int_not_equal(fcntl(fd, F_GETFD), -1); // still its owner's
    assert_int_equal(close(fd), 0);
}

static void tcp_refuses_a_listen_fd_that_is_something_else(void **state)
{
    int pair[2];
    struct fake_ep *ep;
    sp_bound bound = {.size = sizeof(bound)};
    sp_cause cause;
    int rc;

    (void)state;
    fake_reset();
    assert_int_equal(pipe(pair), 0);
    ep = fake_ep_new(&tcp_ops, "tcp://127.0.0.1:0", &rc, &cause);
    fake_ep_set_int(ep, "listen-fd", pair[0]);
    assert_int_equal(tcp_listen(ep->ref.state, &bound, &cause), SP_EINVAL);
    assert_starts_with(cause.text, "listen-fd ");
    fake_ep_free(ep);
    assert_int_equal(close(pair[0]), 0);
    assert_int_equal(close(pair[1]), 0);
}

/* ------------------------------------------------------------------ Ends of connections */

static void tcp_close_does_not_lose_what_was_written(void **state)
{
    static unsigned char body[1000];
    struct link l;
    sp_batch out = {0};
    sp_batch in = {0};
    size_t sent = 0;

    (void)state;
    link_open(&l, "tcp://127.0.0.1:0");
    // Unread input, and more written than the peer has room for.
    sp_batch_push(&out, fake_msg(NULL, 0, body, sizeof(body)));
    assert_int_equal(tcp_ops.submit(l.accepted->ref.tran, &out), SP_OK);
    assert_true(fake_wait(l.dialed->fd, POLLIN) != 0);
    while (tcp_ops.submit(l.dialed->ref.tran, &out) == SP_OK) {
        sp_batch_push(&out, fake_msg(NULL, 0, body, sizeof(body)));
        sent++;
    }
    fake_drop(&out);
    sent -= 1; // the last one was written in part at most
    fake_pipe_free(l.dialed);
    l.dialed = NULL;
    assert_int_equal(fake_harvest(l.accepted, &in, sent), sent);
    fake_drop(&in);
    link_close(&l);
}

static void tcp_reset_in_mid_message_delivers_nothing_of_it(void **state)
{
    struct linger at_once = {1, 0};
    struct link l;
    sp_batch in = {0};

    (void)state;
    link_open(&l, "tcp://127.0.0.1:0");
    assert_int_equal(send(l.dialed->fd, "\0\0\0\0\0\0\0\x64half", 12, MSG_NOSIGNAL), 12);
    assert_true(fake_wait(l.accepted->fd, POLLIN) != 0);
    assert_int_equal(tcp_ops.harvest(l.accepted->ref.tran, &in, 10, SP_READY_IN), 0);
    assert_int_equal(setsockopt(l.dialed->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
    ((struct tcp_pipe *)l.dialed->ref.tran)->stream.failed = true; // close without ceremony
    fake_pipe_free(l.dialed);
    l.dialed = NULL;
    assert_int_equal(fake_harvest(l.accepted, &in, 1), -ECONNRESET);
    assert_int_equal(in.n, 0);
    link_close(&l);
}

static void tcp_half_closed_peer_ends_the_pipe_after_its_last_message(void **state)
{
    struct link l;
    sp_batch out = {0};
    sp_batch in = {0};

    (void)state;
    link_open(&l, "tcp://127.0.0.1:0");
    sp_batch_push(&out, fake_msg(NULL, 0, "last", 4));
    assert_int_equal(tcp_ops.submit(l.dialed->ref.tran, &out), SP_OK);
    assert_int_equal(shutdown(l.dialed->fd, SHUT_WR), 0);
    assert_int_equal(fake_harvest(l.accepted, &in, 2), SP_ECLOSED);
    assert_int_equal(in.n, 1);
    fake_drop(&in);
    link_close(&l);
}

static void tcp_descriptor_is_complete_and_constant(void **state)
{
    const sp_plugin *plugin = sp_plugin_entry_v1();

    (void)state;
    assert_ptr_equal(plugin, sp_plugin_entry_v1());
    assert_int_equal(plugin->size, sizeof(sp_plugin));
    assert_int_equal(plugin->abi_major, SP_ABI_MAJOR);
    assert_string_equal(plugin->id, "org.scalability-protocols.sp.tcp");
    assert_int_equal(plugin->export_count, 1);
    assert_string_equal(plugin->exports[0].name, "tcp");
    assert_ptr_equal(plugin->exports[0].ops.transport, &tcp_ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_takes_these_urls),
        cmocka_unit_test(tcp_refuses_these_urls_and_says_why),
        cmocka_unit_test(tcp_refuses_a_host_that_is_too_long),
        cmocka_unit_test(tcp_does_not_dial_what_only_a_listener_can_be_at),
        cmocka_unit_test(tcp_carries_messages_both_ways),
        cmocka_unit_test(tcp_reports_the_real_port),
        cmocka_unit_test(tcp_speaks_ipv6),
        cmocka_unit_test(tcp_at_any_address_takes_ipv4_and_ipv6),
        cmocka_unit_test(tcp_tries_the_addresses_of_a_name_in_turn),
        cmocka_unit_test(tcp_address_in_use_is_an_error),
        cmocka_unit_test(tcp_foreign_address_is_an_error),
        cmocka_unit_test(tcp_binds_again_at_once_after_close),
        cmocka_unit_test(tcp_refused_connect_is_reported),
        cmocka_unit_test(tcp_does_not_take_itself_for_a_peer),
        cmocka_unit_test(tcp_connect_under_way_can_be_closed),
        cmocka_unit_test(tcp_refuses_a_peer_of_the_wrong_type_on_both_ends),
        cmocka_unit_test(tcp_close_of_an_endpoint_is_idempotent_and_final),
        cmocka_unit_test(tcp_listener_that_cannot_be_watched_gives_its_port_back),
        cmocka_unit_test(tcp_accept_with_nobody_waiting_says_so),
        cmocka_unit_test(tcp_accept_without_a_free_fd_fails_and_recovers),
        cmocka_unit_test(tcp_sets_nodelay_unless_told_otherwise),
        cmocka_unit_test(tcp_fds_are_closed_on_exec_and_do_not_block),
        cmocka_unit_test(tcp_dials_from_the_local_address),
        cmocka_unit_test(tcp_refuses_these_local_addresses),
        cmocka_unit_test(tcp_listens_on_a_socket_that_it_is_given),
        cmocka_unit_test(tcp_refuses_a_listen_fd_that_is_something_else),
        cmocka_unit_test(tcp_close_does_not_lose_what_was_written),
        cmocka_unit_test(tcp_reset_in_mid_message_delivers_nothing_of_it),
        cmocka_unit_test(tcp_half_closed_peer_ends_the_pipe_after_its_last_message),
        cmocka_unit_test(tcp_descriptor_is_complete_and_constant),
    };

    return cmocka_run_group_tests(tests, fake_fds_before, fake_fds_after);
}
