/* SPDX-License-Identifier: MIT */
/// Devices between the three libraries: libnng and libnanomsg talk through ours in every pattern
/// and either direction, ours talks through libnng's, alone and in a row of both kinds. nanomsg's
/// functions are looked up in its own file, see nanomsg_test.c.
#include "peer_cat.h"
#include "relay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(SP_TEST_NNG) && defined(SP_TEST_NANOMSG)

#include <dlfcn.h>

#include <nanomsg/bus.h>
#include <nanomsg/nn.h>
#include <nanomsg/pair.h>
#include <nanomsg/pipeline.h>
#include <nanomsg/pubsub.h>
#include <nanomsg/reqrep.h>
#include <nanomsg/survey.h>

#include <nng/nng.h>
#include <nng/protocol/bus0/bus.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pair1/pair.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/protocol/survey0/respond.h>
#include <nng/protocol/survey0/survey.h>

#define STEP 250 // ms that a receive waits; what was sent too early for some peer is sent again
#define TRIES 60

/// A library, as far as it is needed here. Sockets are numbers; negative: failed.
struct library {
    const char *name;
    int64_t (*open)(const char *protocol);
    int (*dial)(int64_t s, const char *url);
    int (*send)(int64_t s, const char *text);
    int (*recv)(int64_t s, char *buf, int cap); ///< the length; negative within STEP: nothing
    void (*close)(int64_t s);
};

/* ------------------------------------------------------------------ Ours */

static int64_t own_open(const char *protocol)
{
    sp_socket s = check_open(protocol);

    check_ok(sp_set_int(s.id, "recv-timeout", STEP));
    if (strcmp(protocol, "sub") == 0) {
        check_ok(sp_set_bytes(s.id, "subscribe", "", 0));
    }
    return (int64_t)s.id;
}

static int own_dial(int64_t s, const char *url)
{
    return sp_dial((sp_socket){(uint64_t)s}, url, NULL, 0);
}

static int own_send(int64_t s, const char *text)
{
    return sp_send((sp_socket){(uint64_t)s}, text, strlen(text), 0);
}

static int own_recv(int64_t s, char *buf, int cap)
{
    return (int)sp_recv((sp_socket){(uint64_t)s}, buf, (size_t)cap, 0);
}

static void own_close(int64_t s)
{
    check_ok(sp_close((sp_socket){(uint64_t)s}));
}

/* ------------------------------------------------------------------ nng */

static const struct nng_protocol {
    const char *name;
    int (*open)(nng_socket *s);
    int (*open_raw)(nng_socket *s);
} nng_protocols[] = {
    {"req", nng_req0_open, nng_req0_open_raw},
    {"rep", nng_rep0_open, nng_rep0_open_raw},
    {"pair", nng_pair0_open, nng_pair0_open_raw},
    {"pair1", nng_pair1_open, nng_pair1_open_raw},
    {"push", nng_push0_open, nng_push0_open_raw},
    {"pull", nng_pull0_open, nng_pull0_open_raw},
    {"pub", nng_pub0_open, nng_pub0_open_raw},
    {"sub", nng_sub0_open, nng_sub0_open_raw},
    {"bus", nng_bus0_open, nng_bus0_open_raw},
    {"surveyor", nng_surveyor0_open, nng_surveyor0_open_raw},
    {"respondent", nng_respondent0_open, nng_respondent0_open_raw},
};

static nng_socket nng_make(const char *protocol, bool raw)
{
    nng_socket s = {0};

    for (size_t i = 0; i < sizeof(nng_protocols) / sizeof(nng_protocols[0]); i++) {
        if (strcmp(nng_protocols[i].name, protocol) == 0) {
            assert_int_equal((raw ? nng_protocols[i].open_raw : nng_protocols[i].open)(&s), 0);
        }
    }
    return s;
}

static nng_socket nng_of(int64_t s)
{
    return (nng_socket){.id = (uint32_t)s};
}

static int64_t nng_side_open(const char *protocol)
{
    nng_socket s = nng_make(protocol, false);

    assert_int_equal(nng_socket_set_ms(s, NNG_OPT_RECVTIMEO, STEP), 0);
    assert_int_equal(nng_socket_set_ms(s, NNG_OPT_SENDTIMEO, CHECK_SOON), 0);
    if (strcmp(protocol, "sub") == 0) {
        assert_int_equal(nng_socket_set(s, NNG_OPT_SUB_SUBSCRIBE, "", 0), 0);
    }
    return (int64_t)s.id;
}

static int nng_side_dial(int64_t s, const char *url)
{
    return -nng_dial(nng_of(s), url, NULL, 0);
}

static int nng_side_send(int64_t s, const char *text)
{
    return -nng_send(nng_of(s), (void *)(uintptr_t)text, strlen(text), 0);
}

static int nng_side_recv(int64_t s, char *buf, int cap)
{
    size_t n = (size_t)cap;
    int err = nng_recv(nng_of(s), buf, &n, 0);

    return err == 0 ? (int)n : -err;
}

static void nng_side_close(int64_t s)
{
    (void)nng_close(nng_of(s));
}

/* ------------------------------------------------------------------ nanomsg */

static struct {
    __typeof__(&nn_socket) socket;
    __typeof__(&nn_setsockopt) setsockopt;
    __typeof__(&nn_connect) connect;
    __typeof__(&nn_sendmsg) sendmsg;
    __typeof__(&nn_recvmsg) recvmsg;
    __typeof__(&nn_close) close;
} nn;

static void nn_find(void *handle, const char *name, void *place)
{
    void *symbol = dlsym(handle, name);

    assert_non_null(symbol);
    memcpy(place, &symbol, sizeof(symbol)); // ISO C has no cast from one to the other
}

static int nn_load(void **state)
{
    void *handle = dlopen("libnanomsg.so.5", RTLD_NOW);

    (void)state;
    handle = handle != NULL ? handle : dlopen("libnanomsg.so", RTLD_NOW);
    assert_non_null(handle);
    nn_find(handle, "nn_socket", &nn.socket);
    nn_find(handle, "nn_setsockopt", &nn.setsockopt);
    nn_find(handle, "nn_connect", &nn.connect);
    nn_find(handle, "nn_sendmsg", &nn.sendmsg);
    nn_find(handle, "nn_recvmsg", &nn.recvmsg);
    nn_find(handle, "nn_close", &nn.close);
    return 0;
}

static int64_t nn_side_open(const char *protocol)
{
    static const struct {
        const char *name;
        int number;
    } protocols[] = {
        {"req", NN_REQ},           {"rep", NN_REP},
        {"surveyor", NN_SURVEYOR}, {"respondent", NN_RESPONDENT},
        {"push", NN_PUSH},         {"pull", NN_PULL},
        {"pub", NN_PUB},           {"sub", NN_SUB},
        {"bus", NN_BUS},           {"pair", NN_PAIR},
    };
    int number = -1;
    int step = STEP;
    int soon = CHECK_SOON;
    int s;

    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
        number = strcmp(protocols[i].name, protocol) == 0 ? protocols[i].number : number;
    }
    if (number < 0) {
        return -1; // It has no PAIR version 1.
    }
    s = nn.socket(AF_SP, number);
    assert_true(s >= 0);
    assert_int_equal(nn.setsockopt(s, NN_SOL_SOCKET, NN_RCVTIMEO, &step, sizeof(step)), 0);
    assert_int_equal(nn.setsockopt(s, NN_SOL_SOCKET, NN_SNDTIMEO, &soon, sizeof(soon)), 0);
    if (number == NN_SUB) {
        assert_int_equal(nn.setsockopt(s, NN_SUB, NN_SUB_SUBSCRIBE, "", 0), 0);
    }
    return s;
}

static int nn_side_dial(int64_t s, const char *url)
{
    return nn.connect((int)s, url) >= 0 ? 0 : -1;
}

static int nn_side_send(int64_t s, const char *text)
{
    struct nn_iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    struct nn_msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    return nn.sendmsg((int)s, &message, 0) >= 0 ? 0 : -1;
}

static int nn_side_recv(int64_t s, char *buf, int cap)
{
    struct nn_iovec part = {.iov_base = buf, .iov_len = (size_t)cap};
    struct nn_msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    return nn.recvmsg((int)s, &message, 0);
}

static void nn_side_close(int64_t s)
{
    (void)nn.close((int)s);
}

/* ------------------------------------------------------------------ What goes through */

static const struct library libraries[] = {
    {"sp", own_open, own_dial, own_send, own_recv, own_close},
    {"nng", nng_side_open, nng_side_dial, nng_side_send, nng_side_recv, nng_side_close},
    {"nanomsg", nn_side_open, nn_side_dial, nn_side_send, nn_side_recv, nn_side_close},
};

static const struct pattern {
    const char *client;
    const char *front;
    const char *back;
    const char *server;
    bool answers;
} patterns[] = {
    {"req", "rep", "req", "rep", true},
    {"surveyor", "respondent", "surveyor", "respondent", true},
    {"bus", "bus", "bus", "bus", true},
    {"pair", "pair", "pair", "pair", true},
    {"pair1", "pair1", "pair1", "pair1", true},
    {"push", "pull", "push", "pull", false},
    {"pub", "sub", "pub", "sub", false},
};

#define PATTERNS (sizeof(patterns) / sizeof(patterns[0]))

static bool came(const struct library *lib, int64_t s, const char *text)
{
    char buf[64];
    int n = lib->recv(s, buf, sizeof(buf));

    return n == (int)strlen(text) && memcmp(buf, text, (size_t)n) == 0;
}

/// One message there, and back where there are answers.
static bool exchange(const struct pattern *p, const struct library *asks, int64_t client,
                     const struct library *answers, int64_t server)
{
    return asks->send(client, "there") >= 0 && came(answers, server, "there") &&
           (!p->answers || (answers->send(server, "back") >= 0 && came(asks, client, "back")));
}

/// Two ends at these addresses talk, ten times in a row once they are connected.
static void talk(const struct pattern *p, const struct library *asks, const char *front,
                 const struct library *answers, const char *back)
{
    int64_t client = asks->open(p->client);
    int64_t server = answers->open(p->server);
    int good = 0;

    if (client >= 0 && server >= 0) {
        assert_int_equal(answers->dial(server, back), 0);
        assert_int_equal(asks->dial(client, front), 0);
        for (int i = 0; i < TRIES && good < 10; i++) {
            good = exchange(p, asks, client, answers, server) ? good + 1 : 0;
        }
        if (good < 10) {
            fail_msg("%s of %s to %s of %s: nothing comes", p->client, asks->name, p->server,
                     answers->name);
        }
    }
    if (client >= 0) {
        asks->close(client);
    }
    if (server >= 0) {
        answers->close(server);
    }
}

static void all_libraries_talk_through_ours(const char *transport)
{
    for (size_t i = 0; i < PATTERNS * 9; i++) {
        const struct pattern *p = &patterns[i / 9];
        struct relay r;

        relay_open(&r, p->front, p->back, transport, NULL);
        talk(p, &libraries[i / 3 % 3], r.front, &libraries[i % 3], r.back);
        relay_close(&r);
    }
}

static void all_libraries_talk_through_ours_over_tcp(void **state)
{
    (void)state;
    all_libraries_talk_through_ours("tcp");
}

static void all_libraries_talk_through_ours_over_ipc(void **state)
{
    (void)state;
    all_libraries_talk_through_ours("ipc");
}

/* ------------------------------------------------------------------ nng's devices */

struct foreign {
    struct check_call call;
    struct check_call closing;
    nng_socket a;
    nng_socket b;
    char front[64];
    char back[64];
};

static long run_foreign(void *arg)
{
    struct foreign *f = arg;

    return nng_device(f->a, f->b);
}

/// A device of nng's that listens on both sides, or whose back dials `to`.
static struct foreign *foreign_open(const struct pattern *p, const char *to)
{
    struct foreign *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->a = nng_make(p->front, true);
    f->b = nng_make(p->back, true);
    (void)snprintf(f->front, sizeof(f->front), "tcp://127.0.0.1:%d", proc_free_port());
    assert_int_equal(nng_listen(f->a, f->front, NULL, 0), 0);
    (void)snprintf(f->back, sizeof(f->back), "tcp://127.0.0.1:%d", proc_free_port());
    assert_int_equal(to != NULL ? nng_dial(f->b, to, NULL, 0) : nng_listen(f->b, f->back, NULL, 0),
                     0);
    check_call_start(&f->call, run_foreign, f);
    return f;
}

static long close_foreign(void *arg)
{
    struct foreign *f = arg;

    (void)nng_close(f->a);
    (void)nng_close(f->b);
    return 0;
}

/// Seldom libnng 1.5's nng_close waits for its device, and that for nothing: all is said by then.
static void foreign_close(struct foreign *f)
{
    check_call_start(&f->closing, close_foreign, f);
    if (!check_call_ended(&f->closing, CHECK_SOON) || !check_call_ended(&f->call, CHECK_SOON)) {
        print_message("a device of libnng's does not end when its sockets are closed\n");
        return; // Its threads have `f`.
    }
    (void)check_call_join(&f->closing, CHECK_SOON);
    (void)check_call_join(&f->call, CHECK_SOON);
    free(f);
}

static void ours_talks_through_nngs(void **state)
{
    (void)state;
    for (size_t i = 0; i < PATTERNS; i++) {
        struct foreign *f = foreign_open(&patterns[i], NULL);

        talk(&patterns[i], &libraries[0], f->front, &libraries[0], f->back);
        foreign_close(f);
    }
}

/// Ours, nng's, ours, nng's, in a row.
static void devices_of_both_in_a_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < PATTERNS; i++) {
        const struct pattern *p = &patterns[i];
        struct foreign *f[2];
        struct relay r[2];

        f[1] = foreign_open(p, NULL);
        relay_open(&r[1], p->front, p->back, "tcp", f[1]->front);
        f[0] = foreign_open(p, r[1].front);
        relay_open(&r[0], p->front, p->back, "tcp", f[0]->front);
        talk(p, &libraries[0], r[0].front, &libraries[0], f[1]->back);
        relay_chain_close(r, 2);
        foreign_close(f[0]);
        foreign_close(f[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_libraries_talk_through_ours_over_tcp),
        cmocka_unit_test(all_libraries_talk_through_ours_over_ipc),
        cmocka_unit_test(ours_talks_through_nngs),
        cmocka_unit_test(devices_of_both_in_a_row),
    };

    peer_environment();
    return cmocka_run_group_tests_name("device_interop", tests, nn_load, NULL);
}

#else

int main(void)
{
    (void)puts("skipped: built without libnng or libnanomsg");
    return 77;
}

#endif
