/* SPDX-License-Identifier: MIT */
/// libzmq, with its default queues and one I/O thread a process. Requests in flight (--flight) go
/// from a DEALER to a ROUTER.
#include "common.h"

#include <stdlib.h>
#include <pthread.h>

#include <zmq.h>

struct end {
    const struct bench_args *a;
    void *s;
    char *buf;
};

static void *context;

static int end_ok(int rc, const char *what)
{
    if (rc < 0) {
        bench_die("%s: %s", what, zmq_strerror(zmq_errno()));
    }
    return rc;
}

static void context_new(void)
{
    context = zmq_ctx_new();
    if (context != NULL) {
        (void)zmq_ctx_set(context, ZMQ_MAX_SOCKETS, 4096);
    }
}

static int end_type(const struct bench_args *a, bool server)
{
    // A REQ ignores another connect to an address that it has.
    if (bench_is(a->what, "conns")) {
        return server ? ZMQ_PULL : ZMQ_PUSH;
    }
    if (bench_is(a->pattern, "reqrep") && a->flight > 0) {
        return server ? ZMQ_ROUTER : ZMQ_DEALER;
    }
    if (bench_is(a->pattern, "reqrep")) {
        return server ? ZMQ_REP : ZMQ_REQ;
    }
    if (bench_is(a->pattern, "pushpull")) {
        return server ? ZMQ_PULL : ZMQ_PUSH;
    }
    if (bench_is(a->pattern, "pubsub")) {
        return server ? ZMQ_PUB : ZMQ_SUB;
    }
    if (!bench_is(a->pattern, "pair")) {
        bench_die("no pattern %s", a->pattern);
    }
    return ZMQ_PAIR;
}

static void *end_open(const struct bench_args *a, bool server, const char *url)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct end *e = calloc(1, sizeof(*e));
    unsigned char topic[1];
    size_t len = bench_topic(a, topic);

    (void)pthread_once(&once, context_new);
    if (e == NULL || context == NULL || (e->buf = calloc(1, a->size)) == NULL) {
        bench_die("no memory");
    }
    e->a = a;
    e->s = zmq_socket(context, end_type(a, server));
    if (e->s == NULL) {
        bench_die("open: %s", zmq_strerror(zmq_errno()));
    }
    if (end_type(a, server) == ZMQ_SUB) {
        (void)end_ok(zmq_setsockopt(e->s, ZMQ_SUBSCRIBE, topic, len), "subscribe");
    }
    (void)end_ok(server ? zmq_bind(e->s, url) : zmq_connect(e->s, url), "bind or connect");
    return e;
}

static unsigned end_send(void *end, uint64_t seq)
{
    struct end *e = end;
    zmq_msg_t m;

    if (!e->a->msg) {
        bench_number(e->buf, seq);
        (void)end_ok(zmq_send(e->s, e->buf, e->a->size, 0), "send");
        return 1;
    }
    (void)end_ok(zmq_msg_init_size(&m, e->a->size), "message");
    bench_number(zmq_msg_data(&m), seq);
    (void)end_ok(zmq_msg_send(&m, e->s, 0), "send");
    return 1;
}

static unsigned end_recv(void *end, uint64_t seq)
{
    struct end *e = end;
    zmq_msg_t m;

    if (!e->a->msg) {
        int len = end_ok(zmq_recv(e->s, e->buf, e->a->size, 0), "receive");

        bench_check(e->buf, (size_t)len, e->a, seq);
        return 1;
    }
    (void)zmq_msg_init(&m);
    (void)end_ok(zmq_msg_recv(&m, e->s, 0), "receive");
    bench_check(zmq_msg_data(&m), zmq_msg_size(&m), e->a, seq);
    (void)zmq_msg_close(&m);
    return 1;
}

static void end_dial(void *end, const char *url)
{
    (void)end_ok(zmq_connect(((struct end *)end)->s, url), "connect");
}

/// Sends back what comes in: the frame of the sender, then the body.
static void end_answer(struct end *e, _Atomic uint64_t *count)
{
    zmq_msg_t who;
    zmq_msg_t m;

    for (;;) {
        (void)zmq_msg_init(&who);
        (void)zmq_msg_init(&m);
        (void)end_ok(zmq_msg_recv(&who, e->s, 0), "receive");
        (void)end_ok(zmq_msg_recv(&m, e->s, 0), "receive");
        (void)end_ok(zmq_msg_send(&who, e->s, ZMQ_SNDMORE), "send");
        (void)end_ok(zmq_msg_send(&m, e->s, 0), "send");
        atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
    }
}

static void end_flood(void *end, bool sender, _Atomic uint64_t *count)
{
    struct end *e = end;
    zmq_msg_t m;

    if (!bench_is(e->a->pattern, "reqrep")) {
        bench_die("--flight is for reqrep here");
    }
    if (!sender) {
        end_answer(e, count);
    }
    for (unsigned i = 0; i < e->a->flight; i++) {
        (void)end_send(e, i);
    }
    for (;;) {
        (void)zmq_msg_init(&m);
        (void)end_ok(zmq_msg_recv(&m, e->s, 0), "receive");
        (void)end_ok(zmq_msg_send(&m, e->s, 0), "send");
    }
}

int main(int argc, char **argv)
{
    static const struct bench_lib lib = {.name = "zmq",
                                         .open = end_open,
                                         .send = end_send,
                                         .recv = end_recv,
                                         .dial = end_dial,
                                         .flood = end_flood};

    return bench_main(argc, argv, &lib);
}
