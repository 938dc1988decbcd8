/* SPDX-License-Identifier: MIT */
/// The project's own library. --batch: by sp_sendmsgs and sp_recvmsgs. --flight: so many operations
/// at once; of "reqrep" each with a context of its own.
#include "common.h"

#include <stdlib.h>
#include <string.h>

#include <sp/sp.h>

#define BATCH_MAX 1024

struct end {
    const struct bench_args *a;
    sp_socket s;
    char *buf;
    size_t have; ///< of `m`, to be sent
    sp_msg *m[BATCH_MAX];
};

static int end_ok(int rc, const char *what)
{
    if (rc < 0) {
        const char *detail = sp_error_detail();

        bench_die("%s: %s", what, detail[0] != '\0' ? detail : sp_strerror(rc));
    }
    return rc;
}

static void end_configure(const struct bench_args *a)
{
    static bool done;
    sp_config *cfg = NULL;

    // The other end of inproc is opened later.
    if (done || (a->spin < 0 && a->threads < 0)) {
        return;
    }
    done = true;
    (void)end_ok(sp_config_new(&cfg), "config");
    if (a->spin >= 0) {
        (void)end_ok(sp_config_set_int(cfg, "spin-time", a->spin), "spin-time");
    }
    if (a->threads >= 0) {
        (void)end_ok(sp_config_set_int(cfg, "threads", a->threads), "threads");
    }
    (void)end_ok(sp_init(cfg), "init");
    sp_config_free(cfg);
}

/// Of the server and of the client of each pattern.
static const char *end_protocol(const struct bench_args *a, bool server)
{
    static const char *const names[][3] = {{"pair", "pair", "pair"},
                                           {"reqrep", "rep", "req"},
                                           {"pushpull", "pull", "push"},
                                           {"pubsub", "pub", "sub"},
                                           {"survey", "surveyor", "respondent"}};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (bench_is(a->pattern, names[i][0])) {
            return names[i][server ? 1 : 2];
        }
    }
    bench_die("no pattern %s", a->pattern);
}

/// "packing" is an option of endpoints, to be set before they start.
static void end_join(const struct end *e, bool server, const char *url)
{
    sp_listener l = {0};
    sp_dialer d = {0};

    (void)end_ok(server ? sp_listener_new(&l, e->s, url) : sp_dialer_new(&d, e->s, url),
                 "endpoint");
    if (e->a->packing >= 0) {
        (void)end_ok(sp_set_int(server ? l.id : d.id, "packing", e->a->packing), "packing");
    }
    (void)end_ok(server ? sp_listener_start(l) : sp_dialer_start(d, 0), server ? "listen" : "dial");
}

static void *end_open(const struct bench_args *a, bool server, const char *url)
{
    struct end *e = calloc(1, sizeof(*e));
    const char *protocol = end_protocol(a, server);
    unsigned char topic[1];
    size_t len = bench_topic(a, topic);

    if (e == NULL || (e->buf = calloc(1, a->size)) == NULL || a->batch > BATCH_MAX) {
        bench_die("no memory");
    }
    e->a = a;
    end_configure(a);
    (void)end_ok(sp_open(&e->s, protocol), "open");
    (void)end_ok(sp_set_int(e->s.id, "recv-size-max", 0), "recv-size-max");
    if (bench_is(protocol, "sub")) {
        (void)end_ok(sp_set_bytes(e->s.id, "subscribe", topic, len), "subscribe");
    }
    end_join(e, server, url);
    return e;
}

static unsigned end_send(void *end, uint64_t seq)
{
    struct end *e = end;
    unsigned n;

    if (!e->a->msg) {
        bench_number(e->buf, seq);
        (void)end_ok(sp_send(e->s, e->buf, e->a->size, 0), "send");
        return 1;
    }
    for (; e->have < e->a->batch; e->have++) {
        (void)end_ok(sp_msg_new(&e->m[e->have], e->a->size), "message");
        bench_number(sp_msg_data(e->m[e->have]), seq + e->have);
    }
    if (e->a->batch == 1) {
        (void)end_ok(sp_sendmsg(e->s, e->m[0], 0), "send");
        e->have = 0;
        return 1;
    }
    n = (unsigned)end_ok(sp_sendmsgs(e->s, e->m, e->have, 0), "send");
    e->have -= n;
    memmove(e->m, e->m + n, e->have * sizeof(sp_msg *));
    return n;
}

static unsigned end_recv(void *end, uint64_t seq)
{
    struct end *e = end;
    sp_msg *m[BATCH_MAX];
    unsigned n = 1;

    if (!e->a->msg) {
        ssize_t len = sp_recv(e->s, e->buf, e->a->size, 0);

        (void)end_ok(len < 0 ? (int)len : 0, "receive");
        bench_check(e->buf, (size_t)len, e->a, seq);
        return 1;
    }
    if (e->a->batch > 1) {
        n = (unsigned)end_ok(sp_recvmsgs(e->s, m, e->a->batch, 0), "receive");
    } else {
        (void)end_ok(sp_recvmsg(e->s, &m[0], 0), "receive");
    }
    for (unsigned i = 0; i < n; i++) {
        bench_check(sp_msg_view(m[i]), sp_msg_len(m[i]), e->a, seq + i);
        sp_msg_release(m[i]);
    }
    return n;
}

/* ------------------------------------------------------------------ Operations in flight */

struct op {
    struct end *e;
    sp_op *op;
    sp_ctx ctx; ///< of "reqrep"
    bool sender;
    bool sending;            ///< the step that is under way
    _Atomic uint64_t *count; ///< a server's, or receiver's
};

static sp_msg *op_new_message(const struct op *o)
{
    sp_msg *m = NULL;

    (void)end_ok(sp_msg_new(&m, o->e->a->size), "message");
    return m;
}

/// The next step of a request or an answer, or the same of a one-way stream.
static void op_step(struct op *o, sp_msg *m)
{
    if (o->ctx.id == 0) {
        (void)end_ok(o->sender ? sp_op_send(o->op, o->e->s.id, op_new_message(o))
                               : sp_op_recv(o->op, o->e->s.id),
                     "start");
        return;
    }
    o->sending = !o->sending;
    (void)end_ok(o->sending ? sp_op_send(o->op, o->ctx.id, m) : sp_op_recv(o->op, o->ctx.id),
                 "start");
}

static void op_done(sp_op *op, void *arg)
{
    struct op *o = arg;
    sp_msg *m = sp_op_msg(op);

    (void)end_ok(sp_op_result(op), o->sending ? "send" : "receive");
    if (!o->sender && (o->ctx.id == 0 || o->sending)) {
        atomic_fetch_add_explicit(o->count, 1, memory_order_relaxed);
    }
    if (o->ctx.id == 0) {
        sp_msg_release(m);
    }
    op_step(o, m);
}

static void end_flood(void *end, bool sender, _Atomic uint64_t *count)
{
    struct end *e = end;
    struct op *ops = calloc(e->a->flight, sizeof(*ops));

    if (ops == NULL) {
        bench_die("no memory");
    }
    for (unsigned i = 0; i < e->a->flight; i++) {
        struct op *o = &ops[i];

        *o = (struct op){.e = e, .sender = sender, .sending = !sender, .count = count};
        (void)end_ok(sp_op_new(&o->op, op_done, o), "operation");
        if (bench_is(e->a->pattern, "reqrep")) {
            (void)end_ok(sp_ctx_open(&o->ctx, e->s), "context");
        }
        op_step(o, sender && o->ctx.id != 0 ? op_new_message(o) : NULL);
    }
}

static void end_dial(void *end, const char *url)
{
    (void)end_ok(sp_dial(((struct end *)end)->s, url, NULL, 0), "dial");
}

int main(int argc, char **argv)
{
    static const struct bench_lib lib = {.name = "sp",
                                         .open = end_open,
                                         .send = end_send,
                                         .recv = end_recv,
                                         .dial = end_dial,
                                         .flood = end_flood};

    return bench_main(argc, argv, &lib);
}
