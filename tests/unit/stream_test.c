/* SPDX-License-Identifier: MIT */
/// The stream kit alone, over socket pairs and over a scripted source.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <sp/sdk/stream.h>

#include "fake_host.h"

#define GIB (UINT64_C(1) << 30)

/// What the stream reads at once.
#define STREAM_READ 65536

/// The shortest body that shares what was read.
static const unsigned char zeros_4k[STREAM_READ / 16];

/// A stream and the raw other end of its connection.
struct wire {
    struct sp_stream s;
    struct fake_pipe pipe;
    enum sp_stream_framing framing;
    int peer;
};

static void wire_open_with(struct wire *w, enum sp_stream_framing framing, int type,
                           const struct sp_stream_io *io)
{
    int fd[2];

    fake_reset();
    memset(w, 0, sizeof(*w));
    assert_int_equal(socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    w->framing = framing;
    w->peer = fd[1];
    assert_int_equal(sp_stream_open(&w->s, fake_host(), &w->pipe.ref, fd[0], framing, 0, io),
                     SP_OK);
}

/// A stream whose hellos are exchanged.
static void wire_open(struct wire *w, enum sp_stream_framing framing)
{
    sp_handshake hs = fake_hs(0x10, 0x10);
    unsigned char hello[8];

    wire_open_with(w, framing, SOCK_STREAM, NULL);
    hs.recv_max = GIB;
    assert_int_equal(write(w->peer, "\0SP\0\0\x10\0\0", 8), 8);
    assert_int_equal(sp_stream_handshake(&w->s, &hs), SP_OK);
    assert_int_equal(read(w->peer, hello, 8), 8);
}

static void wire_close(struct wire *w)
{
    if (w->peer >= 0) {
        assert_int_equal(close(w->peer), 0);
    }
    sp_stream_fini(&w->s);
    sp_stream_fini(&w->s);
    assert_int_equal(fake.msgs_live, 0);
}

static void wire_write(struct wire *w, const void *p, size_t n)
{
    assert_int_equal(write(w->peer, p, n), n);
}

/// The framing of a message of `len` bytes, as a peer writes it.
static size_t wire_frame(const struct wire *w, unsigned char *p, uint64_t len)
{
    size_t n = (size_t)w->framing;

    p[0] = 1;
    for (size_t i = 0; i < 8; i++) {
        p[n - 1 - i] = (unsigned char)(len >> 8 * i);
    }
    return n;
}

static void wire_write_frame(struct wire *w, uint64_t len)
{
    unsigned char frame[9];

    wire_write(w, frame, wire_frame(w, frame, len));
}

static void wire_write_message(struct wire *w, const void *p, size_t n)
{
    wire_write_frame(w, n);
    wire_write(w, p, n);
}

/// A reproducible byte at a place of a stream.
static unsigned char pattern(size_t i)
{
    return (unsigned char)(i * 131 + (i >> 8) * 7);
}

static unsigned char *pattern_new(size_t n)
{
    unsigned char *p = malloc(n + 1);

    assert_non_null(p);
    for (size_t i = 0; i < n; i++) {
        p[i] = pattern(i);
    }
    return p;
}

static void assert_starts_with(const char *text, const char *start)
{
    if (strncmp(text, start, strlen(start)) != 0) {
        fail_msg("\"%s\" does not start with \"%s\"", text, start);
    }
}

static const enum sp_stream_framing framings[] = {SP_STREAM_PLAIN, SP_STREAM_MARKED};

#define FRAMINGS (sizeof(framings) / sizeof(framings[0]))

/* ------------------------------------------------------------------ Hello */

static void stream_says_hello_at_once_and_takes_the_peers(void **state)
{
    struct wire w;
    sp_handshake hs = fake_hs(0x0130, 0x0231);
    unsigned char hello[9];

    (void)state;
    wire_open_with(&w, SP_STREAM_PLAIN, SOCK_STREAM, NULL);
    assert_int_equal(sp_stream_handshake(&w.s, &hs), SP_EAGAIN);
    assert_int_equal(read(w.peer, hello, sizeof(hello)), 8);
    assert_memory_equal(hello, "\0SP\0\x01\x30\0\0", 8);
    wire_write(&w, "\0SP\0\x02\x31\0\0", 8);
    assert_int_equal(sp_stream_handshake(&w.s, &hs), SP_OK);
    assert_int_equal(hs.peer, 0x0231);
    assert_int_equal(hs.uid, -1);
    assert_int_equal(hs.gid, -1);
    assert_int_equal(hs.pid, -1);
    wire_close(&w);
}

static void stream_takes_a_hello_byte_by_byte(void **state)
{
    static const char hello[] = "\0SP\0\0\x10\0\0";
    struct wire w;
    sp_handshake hs = fake_hs(0x10, 0x10);

    (void)state;
    wire_open_with(&w, SP_STREAM_PLAIN, SOCK_STREAM, NULL);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(sp_stream_handshake(&w.s, &hs), SP_EAGAIN);
        wire_write(&w, hello + i, 1);
    }
    assert_int_equal(sp_stream_handshake(&w.s, &hs), SP_OK);
    wire_close(&w);
}

static void stream_refuses_a_hello_with_any_wrong_byte(void **state)
{
    static const int places[] = {0, 1, 2, 3, 6, 7};

    (void)state;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        unsigned char hello[] = {0, 'S', 'P', 0, 0, 0x10, 0, 0};
        sp_handshake hs = fake_hs(0x10, 0x10);
        struct wire w;

        wire_open_with(&w, SP_STREAM_PLAIN, SOCK_STREAM, NULL);
        hello[places[i]] ^= 1;
        wire_write(&w, hello, 8);
        assert_int_equal(sp_stream_handshake(&w.s, &hs), SP_EPROTO);
        assert_starts_with(hs.cause.text, "hello: not an SP peer");
        wire_close(&w);
    }
}

static void stream_names_the_protocol_of_a_wrong_peer(void **state)
{
    struct wire w;
    sp_handshake hs = fake_hs(0x30, 0x31);

    (void)state;
    wire_open_with(&w, SP_STREAM_PLAIN, SOCK_STREAM, NULL);
    wire_write(&w, "\0SP\0\0\x50\0\0", 8);
    assert_int_equal(sp_stream_handshake(&w.s, &hs), SP_EPROTO);
    assert_string_equal(hs.cause.text, "hello: peer speaks protocol 0x50, not 0x31");
    assert_int_equal(hs.peer, 0x50);
    wire_close(&w);
}

static void stream_tells_the_wrong_protocol_of_a_peer_that_is_gone(void **state)
{
    struct wire w;
    sp_handshake hs = fake_hs(0x30, 0x31);

    (void)state;
    wire_open_with(&w, SP_STREAM_PLAIN, SOCK_STREAM, NULL);
    wire_write(&w, "\0SP\0\0\x50\0\0", 8);
    assert_int_equal(close(w.peer), 0);
    w.peer = -1;
    w.s.tx_off = 1; // the first byte got through, then the peer closed
    assert_int_equal(sp_stream_handshake(&w.s, &hs), SP_EPROTO);
    assert_int_equal(hs.peer, 0x50);
    wire_close(&w);
}

static void stream_fails_when_the_peer_closes_in_mid_hello(void **state)
{
    (void)state;
    for (int n = 0; n < 8; n++) {
        struct wire w;
        sp_handshake hs = fake_hs(0x10, 0x10);

        wire_open_with(&w, SP_STREAM_PLAIN, SOCK_STREAM, NULL);
        assert_int_equal(sp_stream_handshake(&w.s, &hs), SP_EAGAIN);
        if (n > 0) {
            wire_write(&w, "\0SP\0\0\x10\0\0", (size_t)n);
        }
        assert_int_equal(shutdown(w.peer, SHUT_WR), 0);
        assert_int_equal(sp_stream_handshake(&w.s, &hs), -ECONNRESET);
        assert_string_equal(hs.cause.text, "hello: the peer closed");
        wire_close(&w);
    }
}

static void stream_keeps_a_message_that_came_with_the_hello(void **state)
{
    struct wire w;
    sp_handshake hs = fake_hs(0x10, 0x10);
    sp_batch in = {0};

    (void)state;
    wire_open_with(&w, SP_STREAM_PLAIN, SOCK_STREAM, NULL);
    wire_write(&w, "\0SP\0\0\x10\0\0\0\0\0\0\0\0\0\2hi", 18);
    assert_int_equal(sp_stream_handshake(&w.s, &hs), SP_OK);
    assert_int_equal(sp_stream_harvest(&w.s, &in, 9, 0), 1);
    assert_memory_equal(in.head->data, "hi", 2);
    fake_drop(&in);
    wire_close(&w);
}

static void stream_that_is_closed_ends_its_handshake(void **state)
{
    struct wire w;
    sp_handshake hs = fake_hs(0x10, 0x10);

    (void)state;
    wire_open_with(&w, SP_STREAM_PLAIN, SOCK_STREAM, NULL);
    sp_stream_close(&w.s);
    assert_int_equal(sp_stream_handshake(&w.s, &hs), SP_ECLOSED);
    wire_close(&w);
}

static void stream_that_cannot_be_watched_closes_its_fd(void **state)
{
    struct sp_stream s = {0};
    struct fake_pipe pipe = {0};
    int fd[2];

    (void)state;
    fake_reset();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    fake.watch_fails = -ENOSPC;
    assert_int_equal(sp_stream_open(&s, fake_host(), &pipe.ref, fd[0], SP_STREAM_PLAIN, 0, NULL),
                     -ENOSPC);
    assert_int_equal(fcntl(fd[0], F_GETFD), -1);
    sp_stream_close(&s);
    sp_stream_fini(&s);
    assert_int_equal(close(fd[1]), 0);
}

/* ------------------------------------------------------------------ Receiving */

static void stream_receives_a_message_byte_by_byte(void **state)
{
    (void)state;
    for (size_t f = 0; f < FRAMINGS; f++) {
        struct wire w;
        sp_batch in = {0};
        unsigned char bytes[9 + 5];
        size_t n;

        wire_open(&w, framings[f]);
        n = wire_frame(&w, bytes, 5);
        memcpy(bytes + n, "hello", 5);
        for (size_t i = 0; i < n + 5; i++) {
            assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), 0);
            wire_write(&w, bytes + i, 1);
        }
        assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), 1);
        assert_int_equal(in.head->len, 5);
        assert_int_equal(in.head->header_len, 0);
        assert_memory_equal(in.head->data, "hello", 5);
        fake_drop(&in);
        wire_close(&w);
    }
}

static void stream_delivers_empty_messages(void **state)
{
    (void)state;
    for (size_t f = 0; f < FRAMINGS; f++) {
        struct wire w;
        sp_batch in = {0};

        wire_open(&w, framings[f]);
        for (int i = 0; i < 3; i++) {
            wire_write_frame(&w, 0);
        }
        assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), 3);
        assert_int_equal(in.head->len, 0);
        fake_drop(&in);
        wire_close(&w);
    }
}

static void stream_refuses_huge_lengths_before_it_allocates(void **state)
{
    static const uint64_t lengths[] = {
        GIB + 1,           UINT64_C(1) << 40, (UINT64_C(1) << 63) - 1,
        UINT64_C(1) << 63, UINT64_MAX - 8,    UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]) * FRAMINGS; i++) {
        struct wire w;
        sp_batch in = {0};

        wire_open(&w, framings[i % FRAMINGS]);
        wire_write_frame(&w, lengths[i / FRAMINGS]);
        assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), SP_EMSGSIZE);
        assert_int_equal(fake.msgs_made, 0);
        assert_int_equal(in.n, 0);
        wire_close(&w);
    }
}

static void stream_without_a_limit_still_refuses_what_no_memory_can_hold(void **state)
{
    static const uint64_t lengths[] = {UINT64_C(1) << 63, UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct wire w;
        sp_batch in = {0};

        wire_open(&w, SP_STREAM_PLAIN);
        w.s.recv_max = 0;
        wire_write_frame(&w, lengths[i]);
        assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), SP_EMSGSIZE);
        assert_int_equal(fake.msgs_made, 0);
        wire_close(&w);
    }
}

static void stream_reserves_little_for_a_large_length(void **state)
{
    struct wire w;
    sp_batch in = {0};

    (void)state;
    wire_open(&w, SP_STREAM_PLAIN);
    w.s.recv_max = 0;
    wire_write_frame(&w, UINT64_C(1) << 40);
    wire_write(&w, "x", 1);
    assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), 0);
    assert_true(fake.cap_max <= 65536);
    wire_close(&w);
}

static void stream_holds_at_most_twice_what_has_arrived(void **state)
{
    unsigned char *bytes = pattern_new(50000);
    struct wire w;
    sp_batch in = {0};

    (void)state;
    wire_open(&w, SP_STREAM_MARKED);
    wire_write_frame(&w, GIB);
    for (size_t arrived = 50000; arrived < 3000000; arrived += 50000) {
        wire_write(&w, bytes, 50000);
        assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), 0);
        assert_true(fake.cap_max <= 65536 || fake.cap_max <= 2 * arrived);
    }
    wire_close(&w);
    free(bytes);
}

static void stream_reserves_at_most_a_mebibyte_for_a_peer_that_sent_more(void **state)
{
    unsigned char *bytes = pattern_new(50000);
    struct wire w;
    sp_batch in = {0};

    (void)state;
    wire_open(&w, SP_STREAM_PLAIN);
    wire_write_frame(&w, 2000000);
    for (int i = 0; i < 40; i++) {
        wire_write(&w, bytes, 50000);
        assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), i == 39 ? 1 : 0);
    }
    fake_drop(&in);
    fake.cap_max = 0;
    wire_write_frame(&w, GIB);
    wire_write(&w, "x", 1);
    assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), 0);
    assert_true(fake.cap_max <= 1024 * 1024);
    wire_close(&w);
    free(bytes);
}

static void stream_takes_the_largest_message_and_not_a_byte_more(void **state)
{
    (void)state;
    for (uint64_t extra = 0; extra < 2; extra++) {
        struct wire w;
        sp_batch in = {0};

        wire_open(&w, SP_STREAM_PLAIN);
        w.s.recv_max = 5;
        wire_write_frame(&w, 5 + extra);
        wire_write(&w, "123456", 5 + extra);
        assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN),
                         extra == 0 ? 1 : SP_EMSGSIZE);
        fake_drop(&in);
        wire_close(&w);
    }
}

static void stream_refuses_a_wrong_mark(void **state)
{
    static const unsigned char marks[] = {0, 2, 0xff};

    (void)state;
    for (size_t i = 0; i < sizeof(marks); i++) {
        unsigned char frame[9] = {marks[i]};
        struct wire w;
        sp_batch in = {0};

        wire_open(&w, SP_STREAM_MARKED);
        wire_write_message(&w, "good", 4);
        wire_write(&w, frame, 9);
        assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), SP_EPROTO);
        assert_int_equal(in.n, 1);
        fake_drop(&in);
        wire_close(&w);
    }
}

static void stream_delivers_nothing_of_a_message_that_breaks_off(void **state)
{
    unsigned char *bytes = pattern_new(100000);

    (void)state;
    // In the framing, right after it, in a small body, in a large one.
    for (int i = 0; i < 4; i++) {
        static const size_t cut[] = {4, 8, 8 + 3, 8 + 90000};
        struct wire w;
        sp_batch in = {0};

        wire_open(&w, SP_STREAM_PLAIN);
        wire_write_message(&w, "whole", 5);
        memmove(bytes + 8, bytes, 99992);
        (void)wire_frame(&w, bytes, i < 3 ? 100 : 100000);
        wire_write(&w, bytes, cut[i]);
        assert_int_equal(shutdown(w.peer, SHUT_WR), 0);
        assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN | SP_READY_HUP), -ECONNRESET);
        assert_int_equal(in.n, 1);
        assert_memory_equal(in.head->data, "whole", 5);
        fake_drop(&in);
        wire_close(&w);
    }
    free(bytes);
}

static void stream_ends_in_order_at_a_message_border(void **state)
{
    struct wire w;
    sp_batch in = {0};

    (void)state;
    wire_open(&w, SP_STREAM_MARKED);
    wire_write_message(&w, "last", 4);
    assert_int_equal(shutdown(w.peer, SHUT_WR), 0);
    assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN | SP_READY_HUP), SP_ECLOSED);
    assert_int_equal(in.n, 1);
    fake_drop(&in);
    wire_close(&w);
}

static void stream_hands_out_no_more_than_asked_and_forgets_nothing(void **state)
{
    (void)state;
    for (size_t f = 0; f < FRAMINGS; f++) {
        static unsigned char bytes[1000 * 13];
        struct wire w;
        uint32_t seen = 0;
        size_t n = 0;

        wire_open(&w, framings[f]);
        for (uint32_t i = 0; i < 1000; i++) {
            n += wire_frame(&w, bytes + n, i % 5 == 4 ? 0 : 4);
            sp_store_u32(bytes + n, i);
            n += i % 5 == 4 ? 0 : 4;
        }
        wire_write(&w, bytes, n);
        while (seen < 1000) {
            sp_batch in = {0};
            int got = sp_stream_harvest(&w.s, &in, 7, seen == 0 ? SP_READY_IN : 0);

            assert_int_equal(got, seen + 7 <= 1000 ? 7 : 1000 - seen);
            assert_int_equal(in.n, got);
            for (sp_msg *m = in.head; m != NULL; m = m->next, seen++) {
                assert_int_equal(m->len, seen % 5 == 4 ? 0 : 4);
                assert_true(m->len == 0 || sp_load_u32(m->data) == seen);
            }
            fake_drop(&in);
        }
        // One read's worth at most was kept meanwhile.
        assert_true(fake.cap_max <= 65536);
        wire_close(&w);
    }
}

static void stream_remembers_that_the_end_was_reported(void **state)
{
    struct wire w;
    sp_batch in = {0};

    (void)state;
    wire_open(&w, SP_STREAM_PLAIN);
    for (int i = 0; i < 3; i++) {
        wire_write_message(&w, "m", 1);
    }
    assert_int_equal(shutdown(w.peer, SHUT_WR), 0);
    assert_int_equal(sp_stream_harvest(&w.s, &in, 2, SP_READY_IN | SP_READY_HUP), 2);
    // No readiness follows any more.
    assert_int_equal(sp_stream_harvest(&w.s, &in, 2, 0), SP_ECLOSED);
    assert_int_equal(in.n, 3);
    fake_drop(&in);
    wire_close(&w);
}

/// Lengths around every border that the kit knows of.
static const size_t sizes[] = {0,      1,     8,     100,   4095,  4096,  4097,  16383,
                               16384,  16385, 65519, 65527, 65528, 65529, 65536, 131072,
                               131080, 3,     70000, 0,     0,     16384, 5,     40000,
                               40000,  40000, 1,     17000, 0,     200000};

#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/// All messages of `sizes` as a peer writes them.
static unsigned char *sizes_on_the_wire(const struct wire *w, size_t *total)
{
    unsigned char *bytes;
    size_t n = 0;

    for (size_t i = 0; i < SIZES; i++) {
        n += 9 + sizes[i];
    }
    bytes = malloc(n);
    assert_non_null(bytes);
    n = 0;
    for (size_t i = 0; i < SIZES; i++) {
        n += wire_frame(w, bytes + n, sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++) {
            bytes[n++] = pattern(i + k);
        }
    }
    *total = n;
    return bytes;
}

static void assert_is_size(const sp_msg *m, size_t i)
{
    assert_int_equal(m->len, sizes[i]);
    for (size_t k = 0; k < m->len; k++) {
        if (m->data[k] != pattern(i + k)) {
            fail_msg("message %zu differs at byte %zu", i, k);
        }
    }
}

static void stream_receives_all_sizes_in_any_pieces(void **state)
{
    static const size_t pieces[] = {13, 1000, 4096, 65535, 65536, 65537, 150000};

    (void)state;
    for (size_t i = 0; i < FRAMINGS * sizeof(pieces) / sizeof(pieces[0]); i++) {
        size_t piece = pieces[i / FRAMINGS];
        struct wire w;
        unsigned char *bytes;
        size_t total;
        size_t seen = 0;
        size_t off = 0;

        wire_open(&w, framings[i % FRAMINGS]);
        bytes = sizes_on_the_wire(&w, &total);
        while (seen < SIZES) {
            sp_batch in = {0};
            ssize_t put = write(w.peer, bytes + off, total - off < piece ? total - off : piece);
            int n;

            off += put > 0 ? (size_t)put : 0;
            do {
                n = sp_stream_harvest(&w.s, &in, 3, SP_READY_IN);
                assert_true(n >= 0);
            } while (n == 3);
            for (const sp_msg *m = in.head; m != NULL; m = m->next) {
                assert_is_size(m, seen++);
            }
            fake_drop(&in);
        }
        assert_int_equal(off, total);
        free(bytes);
        wire_close(&w);
    }
}

/// Writes `count` messages of `len` bytes and a short one behind each, in one piece.
static void write_pairs(struct wire *w, size_t count, size_t len)
{
    static unsigned char bytes[STREAM_READ];
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        n += wire_frame(w, bytes + n, len);
        memset(bytes + n, (int)('a' + i), len);
        n += len;
        n += wire_frame(w, bytes + n, 3);
        memcpy(bytes + n, "abc", 3);
        n += 3;
    }
    wire_write(w, bytes, n);
}

/// Whether a body begins where it was on the wire: behind the one before, a short message and two
/// framings.
static bool lies_behind(const struct wire *w, const sp_msg *m, const sp_msg *before)
{
    return m->data == before->data + before->len + 3 + 2 * (size_t)w->framing;
}

static void stream_does_not_copy_what_can_share_a_read(void **state)
{
    (void)state;
    for (size_t f = 0; f < 2 * FRAMINGS; f++) {
        size_t max = f < FRAMINGS ? 7 : 30; // With 7, what is left of the read is kept.
        struct wire w;
        sp_batch in = {0};
        size_t i = 0;

        wire_open(&w, framings[f % FRAMINGS]);
        wire_write_message(&w, zeros_4k, sizeof(zeros_4k));
        assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), 1);
        fake_drop(&in);
        write_pairs(&w, 10, sizeof(zeros_4k));
        wire_write_message(&w, zeros_4k, sizeof(zeros_4k));
        while (in.n < 21) {
            assert_in_range(sp_stream_harvest(&w.s, &in, max, SP_READY_IN), 1, max);
        }
        for (sp_msg *m = in.head; i < 10; m = m->next->next, i++) {
            assert_int_equal(m->len, sizeof(zeros_4k));
            assert_int_equal(m->data[0], 'a' + i);
            assert_int_equal(m->data[m->len - 1], 'a' + i);
            assert_memory_equal(m->next->data, "abc", 3);
            assert_true(i == 9 || i > max / 2 - 2 || lies_behind(&w, m->next->next, m));
        }
        fake_drop(&in);
        wire_close(&w);
    }
}

/// A few that come alone would each keep 64 KiB.
static void stream_copies_what_has_a_read_for_itself(void **state)
{
    struct wire w;
    sp_batch in = {0};

    (void)state;
    wire_open(&w, SP_STREAM_PLAIN);
    for (int i = 0; i < 3; i++) {
        fake.cap_max = 0;
        write_pairs(&w, 2, sizeof(zeros_4k));
        assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), 4);
        assert_false(lies_behind(&w, in.head->next->next, in.head));
        fake_drop(&in);
    }
    wire_close(&w);
}

static void stream_without_memory_says_so_and_leaks_nothing(void **state)
{
    (void)state;
    for (long left = 0; left <= 6; left++) {
        struct wire w;
        sp_batch in = {0};

        wire_open(&w, SP_STREAM_PLAIN);
        for (int i = 0; i < 5; i++) {
            wire_write_message(&w, "abc", 3);
        }
        wire_write_frame(&w, 200000);
        wire_write(&w, "x", 1);
        fake.alloc_left = left;
        assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), left < 6 ? SP_ENOMEM : 5);
        assert_int_equal(in.n, left < 6 ? left : 5);
        fake_drop(&in);
        wire_close(&w);
    }
}

static void stream_without_scratch_cannot_receive(void **state)
{
    struct wire w;
    sp_batch in = {0};

    (void)state;
    wire_open(&w, SP_STREAM_PLAIN);
    fake.no_scratch = true;
    assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), SP_ENOMEM);
    wire_close(&w);
}

/* ------------------------------------------------------------------ Scripted sources and sinks */

static struct {
    size_t recv_calls;
    size_t send_calls;
    size_t send_max;    ///< bytes that a send takes
    const void *wanted; ///< a body that shall be pointed at
    bool pointed;
    size_t n; ///< bytes sent
    unsigned char bytes[300000];
} script;

/// One endless message: never short, never dry.
static ssize_t script_recv(struct sp_stream *s, struct iovec *iov, int n)
{
    size_t total = 0;

    (void)s;
    script.recv_calls++;
    for (int i = 0; i < n; i++) {
        memset(iov[i].iov_base, 0, iov[i].iov_len);
        total += iov[i].iov_len;
    }
    return (ssize_t)total;
}

static ssize_t script_send(struct sp_stream *s, struct iovec *iov, int n)
{
    size_t left = script.send_max;
    size_t total = 0;

    (void)s;
    script.send_calls++;
    for (int i = 0; i < n; i++) {
        size_t take = iov[i].iov_len < left ? iov[i].iov_len : left;

        script.pointed = script.pointed || iov[i].iov_base == script.wanted;
        assert_true(script.n + take <= sizeof(script.bytes));
        memcpy(script.bytes + script.n, iov[i].iov_base, take);
        script.n += take;
        left -= take;
        total += take;
    }
    return (ssize_t)total;
}

static const struct sp_stream_io script_io = {script_recv, script_send, true};

static void stream_makes_room_for_others_while_much_comes(void **state)
{
    struct wire w;
    sp_batch in = {0};

    (void)state;
    memset(&script, 0, sizeof(script));
    wire_open_with(&w, SP_STREAM_PLAIN, SOCK_STREAM, &script_io);
    // The source is zeros: empty messages without an end.
    assert_int_equal(sp_stream_harvest(&w.s, &in, SIZE_MAX, SP_READY_IN), 1024 * 1024 / 8);
    assert_int_equal(fake.pipe_ready, 1);
    assert_int_equal(fake.ready_bits, SP_READY_IN);
    fake_drop(&in);
    wire_close(&w);
}

static void stream_points_at_large_bodies_and_copies_small_ones(void **state)
{
    unsigned char *bytes = pattern_new(100000);
    struct wire w;
    sp_batch out = {0};

    (void)state;
    memset(&script, 0, sizeof(script));
    script.send_max = SIZE_MAX;
    wire_open_with(&w, SP_STREAM_PLAIN, SOCK_STREAM, &script_io);
    sp_batch_push(&out, fake_msg("HEAD", 4, "small", 5));
    sp_batch_push(&out, fake_msg(NULL, 0, bytes, 100000));
    script.wanted = out.tail->data;
    assert_int_equal(sp_stream_submit(&w.s, &out), SP_OK);
    assert_int_equal(script.send_calls, 1);
    assert_true(script.pointed);
    assert_int_equal(script.n, 8 + 9 + 8 + 100000);
    assert_memory_equal(script.bytes, "\0\0\0\0\0\0\0\x09HEADsmall\0\0\0\0\0\x01\x86\xa0", 25);
    assert_memory_equal(script.bytes + 25, bytes, 100000);
    wire_close(&w);
    free(bytes);
}

/// Messages of every kind through a sink that takes `step` bytes a time.
static void send_in_steps(enum sp_stream_framing framing, size_t step, bool no_scratch)
{
    unsigned char *bytes = pattern_new(70000);
    static const size_t bodies[] = {0, 1, 50, 4096, 5000, 70000, 3};
    static const size_t headers[] = {0, 4, 64, 8, 4, 0, 64};
    struct wire w;
    sp_batch out = {0};
    unsigned char frame[9];
    size_t off = 0;

    memset(&script, 0, sizeof(script));
    script.send_max = step;
    wire_open_with(&w, framing, SOCK_STREAM, &script_io);
    fake.no_scratch = no_scratch;
    for (size_t i = 0; i < 7; i++) {
        sp_batch_push(&out, fake_msg(bytes + i, headers[i], bytes, bodies[i]));
    }
    assert_int_equal(sp_stream_submit(&w.s, &out), SP_OK);
    assert_null(out.head);
    assert_int_equal(out.n, 0);
    for (size_t i = 0; i < 7; i++) {
        size_t n = wire_frame(&w, frame, headers[i] + bodies[i]);

        assert_memory_equal(script.bytes + off, frame, n);
        assert_memory_equal(script.bytes + off + n, bytes + i, headers[i]);
        assert_memory_equal(script.bytes + off + n + headers[i], bytes, bodies[i]);
        off += n + headers[i] + bodies[i];
    }
    assert_int_equal(script.n, off);
    wire_close(&w);
    free(bytes);
}

static void stream_goes_on_where_a_partial_write_ended(void **state)
{
    static const size_t steps[] = {1, 2, 7, 13, 100, 4095, 4097, 65536, 70001, SIZE_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        send_in_steps(SP_STREAM_PLAIN, steps[i], false);
        send_in_steps(SP_STREAM_MARKED, steps[i], false);
    }
}

static void stream_sends_without_scratch(void **state)
{
    (void)state;
    send_in_steps(SP_STREAM_PLAIN, 1, true);
    send_in_steps(SP_STREAM_MARKED, 100, true);
    send_in_steps(SP_STREAM_MARKED, SIZE_MAX, true);
}

static void stream_without_scratch_sends_more_messages_than_a_vector_holds(void **state)
{
    struct wire w;
    sp_batch out = {0};

    (void)state;
    memset(&script, 0, sizeof(script));
    script.send_max = SIZE_MAX;
    wire_open_with(&w, SP_STREAM_PLAIN, SOCK_STREAM, &script_io);
    fake.no_scratch = true;
    for (int i = 0; i < 1000; i++) {
        sp_batch_push(&out, fake_msg(NULL, 0, "abc", 3));
    }
    assert_int_equal(sp_stream_submit(&w.s, &out), SP_OK);
    assert_int_equal(script.n, 11000);
    wire_close(&w);
}

/* ------------------------------------------------------------------ Sending */

static void stream_sends_a_thousand_small_messages_in_two_writes(void **state)
{
    static unsigned char record[131072];
    unsigned char *bytes = pattern_new(64);
    struct wire w;
    sp_batch out = {0};
    size_t total = 0;
    int records = 0;
    ssize_t n;

    (void)state;
    // On a socket that keeps records, each write is one.
    wire_open_with(&w, SP_STREAM_PLAIN, SOCK_SEQPACKET, NULL);
    for (int i = 0; i < 1000; i++) {
        sp_batch_push(&out, fake_msg(NULL, 0, bytes, 64));
    }
    assert_int_equal(sp_stream_submit(&w.s, &out), SP_OK);
    while ((n = recv(w.peer, record, sizeof(record), 0)) > 0) {
        assert_true(n <= 65536 + 4096 + 80);
        total += (size_t)n;
        records++;
    }
    assert_int_equal(total, 72000);
    assert_int_equal(records, 2);
    wire_close(&w);
    free(bytes);
}

static void stream_keeps_what_a_full_socket_does_not_take(void **state)
{
    static unsigned char got[4000 * 108];
    unsigned char *bytes = pattern_new(100);
    struct wire w;
    sp_batch out = {0};
    int size = 4096;
    size_t n = 0;
    int rc;

    (void)state;
    wire_open(&w, SP_STREAM_PLAIN);
    assert_int_equal(setsockopt(w.s.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
    for (int i = 0; i < 4000; i++) {
        sp_batch_push(&out, fake_msg(NULL, 0, bytes, 100));
    }
    assert_int_equal(sp_stream_submit(&w.s, &out), SP_EAGAIN);
    assert_true(out.n > 0);
    do {
        ssize_t r = read(w.peer, got + n, sizeof(got) - n < 777 ? sizeof(got) - n : 777);

        n += r > 0 ? (size_t)r : 0;
        rc = sp_stream_submit(&w.s, &out);
        assert_true(rc == SP_OK || rc == SP_EAGAIN);
        assert_int_equal(fake.msgs_live, out.n);
    } while (n < sizeof(got) && (rc == SP_EAGAIN || fake_wait(w.peer, POLLIN) != 0));
    assert_int_equal(n, sizeof(got));
    assert_int_equal(rc, SP_OK);
    for (size_t i = 0; i < 4000; i++) {
        assert_memory_equal(got + i * 108, "\0\0\0\0\0\0\0\x64", 8);
        assert_memory_equal(got + i * 108 + 8, bytes, 100);
    }
    wire_close(&w);
    free(bytes);
}

static void stream_carries_a_mebibyte(void **state)
{
    const size_t len = 1024 * 1024;
    unsigned char *bytes = pattern_new(len);

    (void)state;
    for (size_t f = 0; f < FRAMINGS; f++) {
        struct wire a;
        struct wire b;
        sp_batch out = {0};
        sp_batch in = {0};
        int rc;

        wire_open(&b, framings[f]);
        wire_open(&a, framings[f]);
        // Stream `a` writes into the connection that stream `b` reads.
        assert_int_equal(dup3(b.peer, a.s.fd, O_CLOEXEC), a.s.fd);
        for (int i = 0; i < 3; i++) {
            sp_batch_push(&out, fake_msg(NULL, 0, bytes, len));
        }
        do {
            rc = sp_stream_submit(&a.s, &out);
            assert_true(rc == SP_OK || rc == SP_EAGAIN);
            assert_true(sp_stream_harvest(&b.s, &in, 10, SP_READY_IN) >= 0);
        } while (in.n < 3);
        for (sp_msg *m = in.head; m != NULL; m = m->next) {
            assert_int_equal(m->len, len);
            assert_memory_equal(m->data, bytes, len);
        }
        fake_drop(&in);
        wire_close(&a);
        wire_close(&b);
    }
    free(bytes);
}

static void stream_leaves_shared_bodies_alone(void **state)
{
    struct wire w;
    sp_batch out = {0};
    sp_msg *m;

    (void)state;
    wire_open(&w, SP_STREAM_MARKED);
    m = fake_msg("head", 4, "body", 4);
    sp_batch_push(&out, fake_host()->msg_clone(m));
    assert_int_equal(sp_stream_submit(&w.s, &out), SP_OK);
    assert_memory_equal(m->data, "body", 4);
    assert_memory_equal(m->header, "head", 4);
    fake_host()->msg_release(m);
    wire_close(&w);
}

static int buffer_of(const struct wire *w, int name)
{
    socklen_t len = sizeof(int);
    int bytes = 0;

    assert_int_equal(getsockopt(w->s.fd, SOL_SOCKET, name, &bytes, &len), 0);
    return bytes;
}

static void stream_limits_its_buffers_for_large_messages_only(void **state)
{
    static const unsigned char large[20000];
    struct wire w;
    sp_batch out = {0};
    sp_batch in = {0};

    (void)state;
    wire_open(&w, SP_STREAM_PLAIN);
    sp_stream_limit(&w.s, 40000);
    sp_batch_push(&out, fake_msg(NULL, 0, large, 15000));
    assert_int_equal(sp_stream_submit(&w.s, &out), SP_OK);
    wire_write_message(&w, large, 15000);
    assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), 1);
    assert_int_not_equal(buffer_of(&w, SO_SNDBUF), 80000);
    assert_int_not_equal(buffer_of(&w, SO_RCVBUF), 80000);
    sp_batch_push(&out, fake_msg(NULL, 0, large, sizeof(large)));
    assert_int_equal(sp_stream_submit(&w.s, &out), SP_OK);
    assert_int_equal(buffer_of(&w, SO_SNDBUF), 80000);
    wire_write_message(&w, large, sizeof(large));
    assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), 1);
    assert_int_equal(buffer_of(&w, SO_RCVBUF), 80000);
    fake_drop(&in);
    wire_close(&w);
}

static void stream_to_a_peer_that_is_gone_fails_and_keeps_the_messages(void **state)
{
    struct wire w;
    sp_batch out = {0};

    (void)state;
    wire_open(&w, SP_STREAM_PLAIN);
    assert_int_equal(close(w.peer), 0);
    w.peer = -1;
    sp_batch_push(&out, fake_msg(NULL, 0, "abc", 3));
    assert_int_equal(sp_stream_submit(&w.s, &out), -EPIPE);
    assert_int_equal(out.n, 1);
    fake_drop(&out);
    wire_close(&w);
}

/* ------------------------------------------------------------------ Closing */

static void stream_that_is_closed_neither_sends_nor_receives(void **state)
{
    struct wire w;
    sp_batch in = {0};
    sp_batch out = {0};
    char c;

    (void)state;
    wire_open(&w, SP_STREAM_PLAIN);
    wire_write_message(&w, "abc", 3);
    sp_stream_close(&w.s);
    sp_stream_close(&w.s);
    sp_batch_push(&out, fake_msg(NULL, 0, "abc", 3));
    assert_int_equal(sp_stream_submit(&w.s, &out), SP_ECLOSED);
    assert_int_equal(out.n, 1);
    assert_int_equal(sp_stream_harvest(&w.s, &in, 10, SP_READY_IN), SP_ECLOSED);
    assert_int_equal(in.n, 0);
    assert_int_equal(read(w.peer, &c, 1), 0);
    fake_drop(&out);
    wire_close(&w);
}

static void stream_that_was_never_opened_can_be_closed(void **state)
{
    struct sp_stream s = {0};

    (void)state;
    sp_stream_close(&s);
    sp_stream_fini(&s);
}

static void stream_frees_what_is_there_in_part(void **state)
{
    struct wire w;
    sp_batch in = {0};

    (void)state;
    wire_open(&w, SP_STREAM_PLAIN);
    for (int i = 0; i < 3; i++) {
        wire_write_message(&w, "abc", 3);
    }
    assert_int_equal(sp_stream_harvest(&w.s, &in, 1, SP_READY_IN), 1);
    fake_drop(&in);
    wire_close(&w); // the rest of a read

    wire_open(&w, SP_STREAM_PLAIN);
    wire_write_frame(&w, 100);
    wire_write(&w, "x", 1);
    assert_int_equal(sp_stream_harvest(&w.s, &in, 1, SP_READY_IN), 0);
    assert_int_equal(fake.msgs_live, 1);
    wire_close(&w); // a body
}

static void stream_that_is_idle_is_small(void **state)
{
    struct wire w;

    (void)state;
    assert_true(sizeof(struct sp_stream) <= 256);
    wire_open(&w, SP_STREAM_PLAIN);
    assert_int_equal(fake.msgs_made, 0);
    wire_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_says_hello_at_once_and_takes_the_peers),
        cmocka_unit_test(stream_takes_a_hello_byte_by_byte),
        cmocka_unit_test(stream_refuses_a_hello_with_any_wrong_byte),
        cmocka_unit_test(stream_names_the_protocol_of_a_wrong_peer),
        cmocka_unit_test(stream_tells_the_wrong_protocol_of_a_peer_that_is_gone),
        cmocka_unit_test(stream_fails_when_the_peer_closes_in_mid_hello),
        cmocka_unit_test(stream_keeps_a_message_that_came_with_the_hello),
        cmocka_unit_test(stream_that_is_closed_ends_its_handshake),
        cmocka_unit_test(stream_that_cannot_be_watched_closes_its_fd),
        cmocka_unit_test(stream_receives_a_message_byte_by_byte),
        cmocka_unit_test(stream_delivers_empty_messages),
        cmocka_unit_test(stream_refuses_huge_lengths_before_it_allocates),
        cmocka_unit_test(stream_without_a_limit_still_refuses_what_no_memory_can_hold),
        cmocka_unit_test(stream_reserves_little_for_a_large_length),
        cmocka_unit_test(stream_holds_at_most_twice_what_has_arrived),
        cmocka_unit_test(stream_reserves_at_most_a_mebibyte_for_a_peer_that_sent_more),
        cmocka_unit_test(stream_takes_the_largest_message_and_not_a_byte_more),
        cmocka_unit_test(stream_refuses_a_wrong_mark),
        cmocka_unit_test(stream_delivers_nothing_of_a_message_that_breaks_off),
        cmocka_unit_test(stream_ends_in_order_at_a_message_border),
        cmocka_unit_test(stream_hands_out_no_more_than_asked_and_forgets_nothing),
        cmocka_unit_test(stream_remembers_that_the_end_was_reported),
        cmocka_unit_test(stream_receives_all_sizes_in_any_pieces),
        cmocka_unit_test(stream_does_not_copy_what_can_share_a_read),
        cmocka_unit_test(stream_copies_what_has_a_read_for_itself),
        cmocka_unit_test(stream_without_memory_says_so_and_leaks_nothing),
        cmocka_unit_test(stream_without_scratch_cannot_receive),
        cmocka_unit_test(stream_makes_room_for_others_while_much_comes),
        cmocka_unit_test(stream_points_at_large_bodies_and_copies_small_ones),
        cmocka_unit_test(stream_goes_on_where_a_partial_write_ended),
        cmocka_unit_test(stream_sends_without_scratch),
        cmocka_unit_test(stream_without_scratch_sends_more_messages_than_a_vector_holds),
        cmocka_unit_test(stream_sends_a_thousand_small_messages_in_two_writes),
        cmocka_unit_test(stream_keeps_what_a_full_socket_does_not_take),
        cmocka_unit_test(stream_carries_a_mebibyte),
        cmocka_unit_test(stream_leaves_shared_bodies_alone),
        cmocka_unit_test(stream_limits_its_buffers_for_large_messages_only),
        cmocka_unit_test(stream_to_a_peer_that_is_gone_fails_and_keeps_the_messages),
        cmocka_unit_test(stream_that_is_closed_neither_sends_nor_receives),
        cmocka_unit_test(stream_that_was_never_opened_can_be_closed),
        cmocka_unit_test(stream_frees_what_is_there_in_part),
        cmocka_unit_test(stream_that_is_idle_is_small),
    };

    return cmocka_run_group_tests(tests, fake_fds_before, fake_fds_after);
}
