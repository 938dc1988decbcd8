/* SPDX-License-Identifier: MIT */
/// libnanomsg, with its default queues.
#include "common.h"

#include <stdlib.h>

#include <nanomsg/nn.h>
#include <nanomsg/pair.h>
#include <nanomsg/pipeline.h>
#include <nanomsg/pubsub.h>
#include <nanomsg/reqrep.h>
#include <nanomsg/survey.h>
#include <nanomsg/tcp.h>

struct end {
    const struct bench_args *a;
    int s;
    char *buf;
};

static int end_ok(int rc, const char *what)
{
    if (rc < 0) {
        bench_die("%s: %s", what, nn_strerror(nn_errno()));
    }
    return rc;
}

static void *end_open(const struct bench_args *a, bool server, const char *url)
{
    struct end *e = calloc(1, sizeof(*e));
    int protocol = NN_PAIR;
    int limit = -1;
    int on = 1;
    unsigned char topic[1];
    size_t len = bench_topic(a, topic);

    if (e == NULL || (e->buf = calloc(1, a->size)) == NULL) {
        bench_die("no memory");
    }
    e->a = a;
    if (bench_is(a->pattern, "reqrep")) {
        protocol = server ? NN_REP : NN_REQ;
    } else if (bench_is(a->pattern, "pushpull")) {
        protocol = server ? NN_PULL : NN_PUSH;
    } else if (bench_is(a->pattern, "pubsub")) {
        protocol = server ? NN_PUB : NN_SUB;
    } else if (bench_is(a->pattern, "survey")) {
        protocol = server ? NN_SURVEYOR : NN_RESPONDENT;
    }
    e->s = end_ok(nn_socket(AF_SP, protocol), "open");
    (void)end_ok(nn_setsockopt(e->s, NN_SOL_SOCKET, NN_RCVMAXSIZE, &limit, sizeof(limit)),
                 "recv-size-max");
    (void)end_ok(nn_setsockopt(e->s, NN_TCP, NN_TCP_NODELAY, &on, sizeof(on)), "nodelay");
    if (protocol == NN_SUB) {
        (void)end_ok(nn_setsockopt(e->s, NN_SUB, NN_SUB_SUBSCRIBE, topic, len), "subscribe");
    }
    (void)end_ok(server ? nn_bind(e->s, url) : nn_connect(e->s, url), "bind or connect");
    return e;
}

static unsigned end_send(void *end, uint64_t seq)
{
    struct end *e = end;
    void *m;

    if (!e->a->msg) {
        bench_number(e->buf, seq);
        (void)end_ok(nn_send(e->s, e->buf, e->a->size, 0), "send");
        return 1;
    }
    m = nn_allocmsg(e->a->size, 0);
    if (m == NULL) {
        bench_die("no memory");
    }
    bench_number(m, seq);
    (void)end_ok(nn_send(e->s, &m, NN_MSG, 0), "send");
    return 1;
}

static unsigned end_recv(void *end, uint64_t seq)
{
    struct end *e = end;
    void *m;
    int len;

    if (!e->a->msg) {
        len = end_ok(nn_recv(e->s, e->buf, e->a->size, 0), "receive");
        bench_check(e->buf, (size_t)len, e->a, seq);
        return 1;
    }
    len = end_ok(nn_recv(e->s, (void *)&m, NN_MSG, 0), "receive");
    bench_check(m, (size_t)len, e->a, seq);
    (void)nn_freemsg(m);
    return 1;
}

static void end_dial(void *end, const char *url)
{
    (void)end_ok(nn_connect(((struct end *)end)->s, url), "connect");
}

int main(int argc, char **argv)
{
    static const struct bench_lib lib = {
        .name = "nanomsg", .open = end_open, .send = end_send, .recv = end_recv, .dial = end_dial};

    return bench_main(argc, argv, &lib);
}
