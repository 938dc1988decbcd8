/* SPDX-License-Identifier: MIT */
/// meet URL: a hub listens there, three sockets of the protocol "star" dial it; each says
/// something, and each of the four hears it from the others exactly once. Then a line of sockets,
/// in which a message comes as far as "ttl-max" lets it.
#include <sp/sp.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOCKS 4 // the hub is the first
#define ROUNDS 100

static void need(int rc, const char *what)
{
    if (rc < 0) {
        (void)fprintf(stderr, "meet: %s: %s (%s)\n", what, sp_strerror(rc), sp_error_detail());
        exit(1);
    }
}

static void expect(int ok, const char *what)
{
    if (!ok) {
        (void)fprintf(stderr, "meet: %s\n", what);
        exit(1);
    }
}

static sp_socket open_star(void)
{
    sp_socket s;

    need(sp_open(&s, "star"), "open");
    need(sp_set_int(s.id, "recv-timeout", 10000), "recv-timeout");
    return s;
}

/// Listens; `bound` is where it can be dialled.
static void listen_at(sp_socket s, const char *url, char bound[256])
{
    sp_listener l;
    size_t cap = 256;

    need(sp_listen(s, url, &l), "listen");
    need(sp_get_str(l.id, "url", bound, &cap), "url");
}

static int next_of(sp_socket s)
{
    int who = -1;

    need((int)sp_recv(s, &who, sizeof(who), 0), "receive");
    return who;
}

/// One after the other dials the hub, and is its peer when it is heard.
static void assemble(sp_socket s[SOCKS], const char *hub)
{
    for (int i = 1; i < SOCKS; i++) {
        int hello = i;

        need(sp_dial(s[i], hub, NULL, 0), "dial");
        need(sp_send(s[i], &hello, sizeof(hello), 0), "send");
        expect(next_of(s[0]) == i, "the hub hears another one first");
        for (int k = 1; k < i; k++) { // Who came before hears it too.
            expect(next_of(s[k]) == i, "somebody else was heard");
        }
    }
}

/// Each speaks; all but him hear it, once.
static void speak(sp_socket s[SOCKS], int round)
{
    int heard[SOCKS][SOCKS] = {{0}};

    for (int i = 0; i < SOCKS; i++) {
        int who = i + round * SOCKS;

        need(sp_send(s[i], &who, sizeof(who), 0), "send");
    }
    for (int i = 0; i < SOCKS; i++) {
        for (int n = 0; n < SOCKS - 1; n++) {
            int who = next_of(s[i]);

            expect(who / SOCKS == round, "a message of another round");
            heard[i][who % SOCKS]++;
        }
        for (int k = 0; k < SOCKS; k++) {
            expect(heard[i][k] == (i != k), "not heard exactly once");
        }
    }
}

/// Nothing more comes.
static void silence(sp_socket s)
{
    int who;

    need(sp_set_int(s.id, "recv-timeout", 50), "recv-timeout");
    expect(sp_recv(s, &who, sizeof(who), 0) == SP_ETIMEDOUT, "somebody was heard in vain");
    need(sp_set_int(s.id, "recv-timeout", 10000), "recv-timeout");
}

static sp_msg *raw_msg(const unsigned char word[4], int who)
{
    sp_msg *m = NULL;

    need(sp_msg_new(&m, 0), "message");
    need(sp_msg_append(m, &who, sizeof(who)), "message");
    need(sp_msg_header_append(m, word, 4), "header");
    return m;
}

/// A raw socket at the hub sees the count of hops, its own is the last; and makes it.
static void raw(sp_socket s[SOCKS], const char *hub)
{
    static const unsigned char fresh[4] = {0, 0, 0, 0};
    static const unsigned char two[4] = {0, 0, 0, 2};
    static const unsigned char too_many[4] = {0, 0, 0, 8};
    static const unsigned char malformed[4] = {0, 0, 1, 0};
    sp_socket r;
    sp_msg *m;

    need(sp_open_raw(&r, "star"), "open");
    need(sp_set_int(r.id, "recv-timeout", 10000), "recv-timeout");
    need(sp_dial(r, hub, NULL, 0), "dial");
    need(sp_sendmsg(r, raw_msg(too_many, 1), 0), "send");
    need(sp_sendmsg(r, raw_msg(malformed, 2), 0), "send");
    need(sp_sendmsg(r, raw_msg(fresh, 3), 0), "send");
    for (int i = 0; i < SOCKS; i++) {
        expect(next_of(s[i]) == 3, "a message that was to be dropped is heard");
    }
    need(sp_send(s[1], "hi", 2, 0), "send");
    need(sp_recvmsg(r, &m, 0), "receive");
    expect(sp_msg_len(m) == 2 && memcmp(sp_msg_view(m), "hi", 2) == 0, "another body");
    expect(sp_msg_header_len(m) == 4 && memcmp(sp_msg_header(m), two, 4) == 0, "another header");
    sp_msg_release(m);
    need(sp_close(r), "close");
}

/// s[0] - s[1] - s[2] - s[3], of which the last takes two hops: what comes from the first has made
/// two when it comes to the last.
static void line(void)
{
    sp_socket s[SOCKS];
    char bound[256];
    int word = 0;

    for (int i = 0; i < SOCKS; i++) {
        s[i] = open_star();
        if (i > 0) {
            need(sp_dial(s[i], bound, NULL, 0), "dial");
            need(sp_send(s[i], &word, sizeof(word), 0), "send");
            for (int k = 0; k < i; k++) {
                expect(next_of(s[k]) == word, "something else was heard");
            }
        }
        listen_at(s[i],
                  i == 0   ? "inproc://star-0"
                  : i == 1 ? "inproc://star-1"
                  : i == 2 ? "inproc://star-2"
                           : "inproc://star-3",
                  bound);
    }
    for (int ttl = 2; ttl <= 3; ttl++) {
        need(sp_set_int(s[3].id, "ttl-max", ttl), "ttl-max");
        need(sp_send(s[0], &ttl, sizeof(ttl), 0), "send");
        for (int i = 1; i < 3; i++) {
            expect(next_of(s[i]) == ttl, "something else was heard");
        }
        if (ttl == 2) {
            silence(s[3]);
        } else {
            expect(next_of(s[3]) == ttl, "something else was heard");
        }
    }
}

int main(int argc, char **argv)
{
    sp_socket s[SOCKS];
    char bound[256];

    if (argc != 2) {
        (void)fputs("usage: meet URL\n", stderr);
        return 2;
    }
    for (int i = 0; i < SOCKS; i++) {
        s[i] = open_star();
    }
    listen_at(s[0], argv[1], bound);
    assemble(s, bound);
    silence(s[0]);
    for (int round = 1; round <= ROUNDS; round++) {
        speak(s, round);
    }
    for (int i = 0; i < SOCKS; i++) {
        silence(s[i]);
    }
    raw(s, bound);
    line();
    (void)printf("star over %s: %d sockets heard each other in %d rounds\n", argv[1], SOCKS,
                 ROUNDS);
    sp_fini();
    return 0;
}
