/* SPDX-License-Identifier: MIT */
/// Fuzz target: datagrams, as bytes (sdk/dgram_wire.c) and as what a listener or a dialer makes of
/// any sequence of them from several peers, with time that passes, messages sent, pipes closed. The
/// network is a pair of sockets; in front of each datagram one byte names the peer.
///
/// Input: a byte of settings, then steps: a byte of what to do and which peer, u16 length, the
/// bytes. It aborts when a stranger is answered with more than it sent, a message is longer than
/// its datagram, there are more peers than allowed, or something is left in the end.
#include "dgram_parts.h"
#include "fake_host.h"

#include <sp/sdk/cause.h>
#include <sp/sdk/crc32c.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAYLOAD 65000
#define MAX_PEERS 8
#define PIPES 32
#define STEPS 256
#define TYPE 0x10

/* Settings. */
#define SET_PLAIN 1U
#define SET_CRC 2U
#define SET_DIALER 8U
#define SET_NO_WINDOW 16U

/* What a step does, beside the peer's number in its low three bits. */
#define DO_KNOW 8U    // the datagram has the cookie and token that this peer was told
#define DO_SUM 16U    // and the right CRC
#define DO_WAIT 32U   // no datagram: time passes
#define DO_SEND 64U   // no datagram: a message to every peer
#define DO_CLOSE 128U // no datagram: the peer's pipe is closed

#define fuzz_holds(cond)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* ------------------------------------------------------------------ The network */

static int net = -1; // the peers' end

static int fuzz_open(struct sp_dgram_ep *e, sp_bound *bound, sp_cause *cause)
{
    int fds[2];

    (void)e;
    (void)bound;
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) {
        return sp_fail(cause, SP_ENOMEM, "socketpair");
    }
    if (net >= 0) {
        (void)close(net);
    }
    net = fds[1];
    return fds[0];
}

static void fuzz_text(const struct sp_dgram_addr *addr, char *out, size_t size)
{
    (void)addr;
    out[0] = '\0';
    (void)size;
}

static void fuzz_prefix(const struct sp_dgram_ep *e, const struct sp_dgram_addr *to,
                        unsigned char *out)
{
    (void)e;
    out[0] = (unsigned char)(to != NULL ? to->number : 0);
}

static ssize_t fuzz_strip(const struct sp_dgram_ep *e, struct sp_dgram_in *in)
{
    (void)e;
    if (in->len == 0) {
        return -1;
    }
    in->from->number = in->data[0];
    in->from->len = 0;
    return 1;
}

static struct sp_dgram_kind kind = {
    .size = sizeof(kind),
    .payload_max = PAYLOAD,
    .front = 1,
    .limit_hint = "",
    .open = fuzz_open,
    .text = fuzz_text,
    .prefix = fuzz_prefix,
    .strip = fuzz_strip,
};

static int fuzz_init(void *ep, const sp_host *host, sp_ep_ref *ref, const char *url,
                     sp_cause *cause)
{
    (void)url;
    return sp_dgram_init(ep, host, ref, &kind, cause);
}

static const sp_option options[] = {SP_DGRAM_OPTIONS};

static const sp_transport_ops ops = {
    .size = sizeof(ops),
    .ep_size = sizeof(struct sp_dgram_ep),
    .pipe_size = sizeof(struct sp_dgram_pipe),
    .options = options,
    .option_count = sizeof(options) / sizeof(options[0]),
    .option_size = sizeof(sp_option),
    .ep_init = fuzz_init,
    SP_DGRAM_SLOTS,
};

/* ------------------------------------------------------------------ One run */

struct fuzz_told {
    uint64_t token;
    uint64_t cookie;
};

struct fuzz {
    unsigned settings;
    struct fake_ep *ep;
    struct fake_pipe *pipes[PIPES];
    bool up[PIPES];
    struct fuzz_told told[MAX_PEERS];
    const uint8_t *data;
    size_t left;
    size_t answered; ///< bytes that the step's peer was sent
};

static struct sp_dgram_ep *fuzz_ep(const struct fuzz *f)
{
    return f->ep->ref.state;
}

static struct sp_dgram_pipe *fuzz_pipe(const struct fuzz *f, int i)
{
    return f->pipes[i]->ref.tran;
}

static void fuzz_drop(struct fuzz *f, int i)
{
    fake_pipe_free(f->pipes[i]);
    f->pipes[i] = NULL;
    f->up[i] = false;
}

/// All of a message can be read; it is no longer than what came.
static void fuzz_message(sp_msg *m)
{
    unsigned sum = 0;

    fuzz_holds(m->len <= PAYLOAD + 512);
    for (size_t at = 0; at < m->len; at++) {
        sum += m->data[at];
    }
    fuzz_holds(sum <= 255 * m->len);
    fake_host()->msg_release(m);
}

static void fuzz_harvest(struct fuzz *f, int i)
{
    sp_batch in = {NULL, NULL, 0};
    int rc = f->pipes[i]->ops->harvest(f->pipes[i]->ref.tran, &in, 64, SP_READY_IN);

    for (sp_msg *m; (m = sp_batch_pop(&in)) != NULL;) {
        fuzz_message(m);
    }
    if (rc < 0) {
        fuzz_drop(f, i);
    }
}

static void fuzz_shake(struct fuzz *f, int i)
{
    sp_handshake hs = fake_hs(TYPE, TYPE);
    int rc = f->pipes[i]->ops->handshake(f->pipes[i]->ref.tran, SP_READY_IN, &hs);

    if (rc == SP_OK) {
        f->up[i] = true;
    } else if (rc != SP_EAGAIN) {
        fuzz_drop(f, i);
    }
}

static void fuzz_accept(struct fuzz *f)
{
    for (int i = 0; i < PIPES && (f->settings & SET_DIALER) == 0; i++) {
        sp_cause cause = {0};

        if (f->pipes[i] != NULL) {
            continue;
        }
        f->pipes[i] = fake_pipe_new(&ops);
        if (ops.accept(f->ep->ref.state, f->pipes[i]->ref.tran, &f->pipes[i]->ref, &cause) < 0) {
            fuzz_drop(f, i);
            return;
        }
    }
}

/// What the peers were sent: cookies and tokens are remembered.
static void fuzz_answers(struct fuzz *f, unsigned peer)
{
    static unsigned char in[PAYLOAD + 256];
    ssize_t n;

    while (net >= 0 && (n = recv(net, in, sizeof(in), MSG_DONTWAIT)) > 0) {
        struct sp__dgram d;

        fuzz_holds(in[0] < MAX_PEERS);
        f->answered += in[0] == peer ? (size_t)n - 1 : 0;
        if (sp__dgram_read(in + 1, (size_t)n - 1, NULL, &d) == SP__DGRAM_FINE && d.extended) {
            f->told[in[0]] = (struct fuzz_told){d.token, d.cookie};
        }
    }
}

/// Everybody has a turn.
static void fuzz_turns(struct fuzz *f, unsigned peer)
{
    int64_t plain = MAX_PEERS / 4;

    if ((f->settings & SET_DIALER) == 0) {
        ops.on_ready(f->ep->ref.state, SP_READY_IN);
    }
    fuzz_accept(f);
    for (int i = 0; i < PIPES; i++) {
        if (f->pipes[i] != NULL && !f->up[i]) {
            fuzz_shake(f, i);
        }
        if (f->pipes[i] != NULL && f->up[i]) {
            fuzz_harvest(f, i);
        }
    }
    fuzz_answers(f, peer);
    fuzz_holds(fuzz_ep(f)->peers <= MAX_PEERS);
    fuzz_holds(fuzz_ep(f)->plain <= plain);
}

/* ------------------------------------------------------------------ Steps */

static unsigned fuzz_byte(struct fuzz *f)
{
    if (f->left == 0) {
        return 0;
    }
    f->left--;
    return *f->data++;
}

static void fuzz_sum(unsigned char *out, size_t n)
{
    uint32_t crc = sp_crc32c(0, out, 1);
    struct sp__dgram d;

    if (sp__dgram_read(out + 1, n - 1, NULL, &d) != SP__DGRAM_FINE) {
        return;
    }
    if (d.op == SP__DGRAM_XDATA) {
        crc = sp_crc32c(sp__dgram_xcrc(crc, out + 1), d.payload, d.payload_len);
        sp__dgram_put_crc(out + 1, crc);
    } else if (d.extended) {
        sp__dgram_greeting(out + 1, &d, &crc);
    }
}

static void fuzz_datagram(struct fuzz *f, unsigned what)
{
    static unsigned char out[65536];
    unsigned peer = what % MAX_PEERS;
    struct sp_dgram_addr from = {.number = (uint16_t)peer};
    size_t n = fuzz_byte(f);
    size_t have;
    bool stranger;

    n = 1 + (n | (size_t)fuzz_byte(f) << 8) % (sizeof(out) - 1);
    have = n - 1 < f->left ? n - 1 : f->left; // The rest is 0.
    memset(out, 0, n);
    out[0] = (unsigned char)peer;
    memcpy(out + 1, f->data, have);
    f->data += have;
    f->left -= have;
    if ((what & DO_KNOW) != 0 && n > SP__DGRAM_GREETING) {
        memcpy(out + 1 + 40, &f->told[peer].token, 8);
        memcpy(out + 1 + 48, &f->told[peer].cookie, 8);
    }
    if ((what & DO_SUM) != 0) {
        fuzz_sum(out, n);
    }
    stranger = (f->settings & SET_DIALER) == 0 && sp__dgram_find(fuzz_ep(f), &from) == NULL;
    f->answered = 0;
    if (net >= 0) {
        (void)send(net, out, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    fuzz_turns(f, peer);
    fuzz_holds(!stranger || f->answered <= n - 1);
}

static void fuzz_send(struct fuzz *f)
{
    static const unsigned char zeros[4096];
    size_t n = fuzz_byte(f) * 16;
    unsigned count = 1 + fuzz_byte(f) % 8;

    for (int i = 0; i < PIPES; i++) {
        sp_batch out = {NULL, NULL, 0};

        for (unsigned j = 0; f->up[i] && j < count; j++) {
            sp_batch_push(&out, fake_msg(NULL, 0, zeros, n));
        }
        if (f->up[i]) {
            (void)ops.submit(f->pipes[i]->ref.tran, &out);
        }
        fake_drop(&out);
    }
}

static void fuzz_close(struct fuzz *f, unsigned peer)
{
    for (int i = 0; i < PIPES; i++) {
        if (f->pipes[i] != NULL &&
            ((f->settings & SET_DIALER) != 0 ||
             (fuzz_pipe(f, i)->peer != NULL && fuzz_pipe(f, i)->peer->addr.number == peer))) {
            fuzz_drop(f, i);
        }
    }
}

static void fuzz_step(struct fuzz *f)
{
    unsigned what = fuzz_byte(f);

    if ((what & DO_WAIT) != 0) {
        fake.later += (int64_t)(1 + fuzz_byte(f)) * 50 * DGRAM_MS;
        ops.on_timer(f->ep->ref.state, NULL);
    } else if ((what & DO_SEND) != 0) {
        fuzz_send(f);
    } else if ((what & DO_CLOSE) != 0) {
        fuzz_close(f, what % MAX_PEERS);
    } else {
        fuzz_datagram(f, what);
        return;
    }
    fuzz_turns(f, what % MAX_PEERS);
}

static void fuzz_begin(struct fuzz *f)
{
    sp_bound bound = {0};
    sp_cause cause = {0};
    int rc;

    fake_reset();
    f->settings = fuzz_byte(f);
    kind.flags = ((f->settings & SET_PLAIN) != 0 ? SP_DGRAM_PLAIN : 0) |
                 ((f->settings & SET_CRC) != 0 ? SP_DGRAM_CRC : 0);
    f->ep = fake_ep_new(&ops, "fuzz://", &rc, &cause);
    fuzz_holds(rc == SP_OK);
    fake_ep_set_int(f->ep, "max-peers", MAX_PEERS);
    fake_ep_set_int(f->ep, "order-window", (f->settings & SET_NO_WINDOW) != 0 ? 0 : 8);
    if ((f->settings & SET_DIALER) != 0) {
        f->pipes[0] = fake_pipe_new(&ops);
        rc = ops.dial(f->ep->ref.state, f->pipes[0]->ref.tran, &f->pipes[0]->ref, &cause);
    } else {
        rc = ops.listen(f->ep->ref.state, &bound, &cause);
    }
    fuzz_holds(rc == SP_OK);
    fuzz_turns(f, 0);
}

static void fuzz_end(struct fuzz *f)
{
    if (f->settings % 3 == 0) { // Lingers: its pipes go later.
        ops.ep_close(f->ep->ref.state);
    }
    for (int i = 0; i < PIPES; i++) {
        if (f->pipes[i] != NULL) {
            fuzz_drop(f, i);
        }
    }
    fuzz_holds((f->settings % 3 != 0) || fuzz_ep(f)->peers == 0);
    fake_ep_free(f->ep);
    fuzz_holds(fake.msgs_live == 0);
    (void)close(net);
    net = -1;
}

/// The decoder alone: what it takes for a datagram lies in it.
static void fuzz_decode(const uint8_t *data, size_t size)
{
    static const uint32_t front = 7;
    struct sp__dgram d;
    const unsigned char *at;
    const unsigned char *msg;
    size_t len;
    uint32_t n = 0;

    (void)sp__dgram_read(data, size, &front, &d);
    if (sp__dgram_read(data, size, NULL, &d) != SP__DGRAM_FINE || d.payload == NULL) {
        return;
    }
    fuzz_holds(d.payload >= data && d.payload_len <= size - (size_t)(d.payload - data));
    at = d.payload;
    while (d.count > 1 && sp__dgram_unpack(&at, d.payload + d.payload_len, &msg, &len)) {
        fuzz_holds(msg >= d.payload && msg + len <= d.payload + d.payload_len);
        n++;
    }
    fuzz_holds(d.count == 1 || n == d.count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz f = {.data = data, .left = size};

    fuzz_decode(data, size);
    if (size > 3) {
        fuzz_decode(data + 4, size - 4); // The first datagram of a sequence.
    }
    fuzz_begin(&f);
    for (int i = 0; i < STEPS && f.left > 0; i++) {
        fuzz_step(&f);
    }
    fuzz_end(&f);
    return 0;
}
