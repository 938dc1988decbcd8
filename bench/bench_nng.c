/* SPDX-License-Identifier: MIT */
/// libnng. --flight: so many operations at once, by nng_aio. Its queues get 128 messages, since
/// with its default of none it is slower still.
#include "common.h"

#include <stdlib.h>

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/protocol/survey0/respond.h>
#include <nng/protocol/survey0/survey.h>

#define BUFFER 128

struct end {
    const struct bench_args *a;
    nng_socket s;
    char *buf;
    _Atomic uint64_t *count;
};

/// One operation in flight.
struct op {
    struct end *e;
    nng_aio *aio;
    bool sender;
    nng_ctx ctx;  ///< of "reqrep"
    bool sending; ///< … its step that is under way
};

static void end_ok(int rc, const char *what)
{
    if (rc != 0) {
        bench_die("%s: %s", what, nng_strerror(rc));
    }
}

static void *end_open(const struct bench_args *a, bool server, const char *url)
{
    struct end *e = calloc(1, sizeof(*e));
    unsigned char topic[1];
    size_t len = bench_topic(a, topic);

    if (e == NULL || (e->buf = calloc(1, a->size)) == NULL) {
        bench_die("no memory");
    }
    e->a = a;
    if (bench_is(a->pattern, "reqrep")) {
        end_ok(server ? nng_rep0_open(&e->s) : nng_req0_open(&e->s), "open");
    } else if (bench_is(a->pattern, "pushpull")) {
        end_ok(server ? nng_pull0_open(&e->s) : nng_push0_open(&e->s), "open");
    } else if (bench_is(a->pattern, "pubsub")) {
        end_ok(server ? nng_pub0_open(&e->s) : nng_sub0_open(&e->s), "open");
        if (!server) {
            end_ok(nng_socket_set(e->s, NNG_OPT_SUB_SUBSCRIBE, topic, len), "subscribe");
        }
    } else if (bench_is(a->pattern, "survey")) {
        end_ok(server ? nng_surveyor0_open(&e->s) : nng_respondent0_open(&e->s), "open");
    } else {
        end_ok(nng_pair0_open(&e->s), "open");
    }
    end_ok(nng_socket_set_size(e->s, NNG_OPT_RECVMAXSZ, 0), "recv-size-max");
    (void)nng_socket_set_int(e->s, NNG_OPT_SENDBUF, BUFFER);
    (void)nng_socket_set_int(e->s, NNG_OPT_RECVBUF, BUFFER);
    (void)nng_socket_set_bool(e->s, NNG_OPT_TCP_NODELAY, true);
    end_ok(server ? nng_listen(e->s, url, NULL, 0) : nng_dial(e->s, url, NULL, 0),
           "listen or dial");
    return e;
}

static unsigned end_send(void *end, uint64_t seq)
{
    struct end *e = end;
    nng_msg *m;

    if (!e->a->msg) {
        bench_number(e->buf, seq);
        end_ok(nng_send(e->s, e->buf, e->a->size, 0), "send");
        return 1;
    }
    end_ok(nng_msg_alloc(&m, e->a->size), "message");
    bench_number(nng_msg_body(m), seq);
    end_ok(nng_sendmsg(e->s, m, 0), "send");
    return 1;
}

static unsigned end_recv(void *end, uint64_t seq)
{
    struct end *e = end;
    size_t len = e->a->size;
    nng_msg *m;

    if (!e->a->msg) {
        end_ok(nng_recv(e->s, e->buf, &len, 0), "receive");
        bench_check(e->buf, len, e->a, seq);
        return 1;
    }
    end_ok(nng_recvmsg(e->s, &m, 0), "receive");
    bench_check(nng_msg_body(m), nng_msg_len(m), e->a, seq);
    nng_msg_free(m);
    return 1;
}

static void end_dial(void *end, const char *url)
{
    end_ok(nng_dial(((struct end *)end)->s, url, NULL, 0), "dial");
}

/// The next step of a request or an answer, with the message of the one before.
static void op_step(struct op *op, nng_msg *m)
{
    op->sending = !op->sending;
    if (op->sending) {
        nng_aio_set_msg(op->aio, m);
        nng_ctx_send(op->ctx, op->aio);
    } else {
        nng_ctx_recv(op->ctx, op->aio);
    }
}

static void op_stepped(void *arg)
{
    struct op *op = arg;

    end_ok(nng_aio_result(op->aio), op->sending ? "send" : "receive");
    if (op->sending && !op->sender) {
        atomic_fetch_add_explicit(op->e->count, 1, memory_order_relaxed);
    }
    op_step(op, op->sending ? NULL : nng_aio_get_msg(op->aio));
}

static void op_begin(struct op *op)
{
    nng_msg *m;

    if (bench_is(op->e->a->pattern, "reqrep")) {
        end_ok(nng_ctx_open(&op->ctx, op->e->s), "context");
        op->sending = !op->sender;
        m = NULL;
        if (op->sender) {
            end_ok(nng_msg_alloc(&m, op->e->a->size), "message");
        }
        op_step(op, m);
        return;
    }
    if (!op->sender) {
        nng_recv_aio(op->e->s, op->aio);
        return;
    }
    end_ok(nng_msg_alloc(&m, op->e->a->size), "message");
    nng_aio_set_msg(op->aio, m);
    nng_send_aio(op->e->s, op->aio);
}

static void op_done(void *arg)
{
    struct op *op = arg;

    end_ok(nng_aio_result(op->aio), op->sender ? "send" : "receive");
    if (!op->sender) {
        nng_msg_free(nng_aio_get_msg(op->aio));
        atomic_fetch_add_explicit(op->e->count, 1, memory_order_relaxed);
    }
    op_begin(op);
}

static void end_flood(void *end, bool sender, _Atomic uint64_t *count)
{
    struct end *e = end;
    struct op *ops = calloc(e->a->flight, sizeof(*ops));

    if (ops == NULL) {
        bench_die("no memory");
    }
    e->count = count;
    for (unsigned i = 0; i < e->a->flight; i++) {
        ops[i].e = e;
        ops[i].sender = sender;
        end_ok(nng_aio_alloc(&ops[i].aio, bench_is(e->a->pattern, "reqrep") ? op_stepped : op_done,
                             &ops[i]),
               "operation");
    }
    for (unsigned i = 0; i < e->a->flight; i++) {
        op_begin(&ops[i]);
    }
}

int main(int argc, char **argv)
{
    static const struct bench_lib lib = {.name = "nng",
                                         .open = end_open,
                                         .send = end_send,
                                         .recv = end_recv,
                                         .dial = end_dial,
                                         .flood = end_flood};

    return bench_main(argc, argv, &lib);
}
