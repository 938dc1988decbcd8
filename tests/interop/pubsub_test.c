/* SPDX-License-Identifier: MIT */
/// PUB/SUB between this library and Debian's libnng and libnanomsg, in one process, connected by
/// real sockets; and `sp cat` with nngcat and nanocat. For nanomsg's functions see nanomsg_test.c.
#include "check.h"
#include "peer_cat.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(SP_TEST_NNG) && defined(SP_TEST_NANOMSG)

#include <dlfcn.h>

#include <nanomsg/nn.h>
#include <nanomsg/pubsub.h>
#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>

#define SOON 15000
#define BODY_MAX (1 << 20)

/// The other implementation; sockets are numbers, -1: failed.
struct other {
    int (*open)(bool pub, bool raw);
    int (*subscribe)(int s, const char *topic);
    int (*unsubscribe)(int s, const char *topic);
    int (*listen)(int s, const char *url);
    int (*dial)(int s, const char *url);
    int (*send)(int s, const void *data, size_t len);
    long (*recv)(int s, void *buf, size_t cap, int ms); ///< -1: nothing came
    void (*close)(int s);
};

/* ------------------------------------------------------------------ nng */

static nng_socket nng_of(int s)
{
    nng_socket socket = {.id = (uint32_t)s};

    return socket;
}

static int nng_other_open(bool pub, bool raw)
{
    nng_socket s;
    int err = pub ? (raw ? nng_pub0_open_raw(&s) : nng_pub0_open(&s))
                  : (raw ? nng_sub0_open_raw(&s) : nng_sub0_open(&s));

    // What a full queue of nng has no room for is dropped: raw, its default is one message.
    return err == 0 && (pub || (nng_socket_set_size(s, NNG_OPT_RECVMAXSZ, 0) == 0 &&
                                nng_socket_set_int(s, NNG_OPT_RECVBUF, 64) == 0))
               ? (int)s.id
               : -1;
}

static int nng_other_subscribe(int s, const char *topic)
{
    return -nng_socket_set(nng_of(s), NNG_OPT_SUB_SUBSCRIBE, topic, strlen(topic));
}

static int nng_other_unsubscribe(int s, const char *topic)
{
    return -nng_socket_set(nng_of(s), NNG_OPT_SUB_UNSUBSCRIBE, topic, strlen(topic));
}

static int nng_other_listen(int s, const char *url)
{
    return -nng_listen(nng_of(s), url, NULL, 0);
}

static int nng_other_dial(int s, const char *url)
{
    return -nng_dial(nng_of(s), url, NULL, NNG_FLAG_NONBLOCK);
}

static int nng_other_send(int s, const void *data, size_t len)
{
    return -nng_send(nng_of(s), (void *)(uintptr_t)data, len, 0);
}

static long nng_other_recv(int s, void *buf, size_t cap, int ms)
{
    size_t n = cap;

    return nng_socket_set_ms(nng_of(s), NNG_OPT_RECVTIMEO, ms) == 0 &&
                   nng_recv(nng_of(s), buf, &n, 0) == 0
               ? (long)n
               : -1;
}

static void nng_other_close(int s)
{
    (void)nng_close(nng_of(s));
}

static const struct other nng_other = {nng_other_open,   nng_other_subscribe, nng_other_unsubscribe,
                                       nng_other_listen, nng_other_dial,      nng_other_send,
                                       nng_other_recv,   nng_other_close};

/* ------------------------------------------------------------------ nanomsg */

static struct {
    __typeof__(&nn_socket) socket;
    __typeof__(&nn_setsockopt) setsockopt;
    __typeof__(&nn_bind) bind;
    __typeof__(&nn_connect) connect;
    __typeof__(&nn_sendmsg) sendmsg;
    __typeof__(&nn_recvmsg) recvmsg;
    __typeof__(&nn_close) close;
} nn;

static bool nn_find(void *handle, const char *name, void *place)
{
    void *symbol = dlsym(handle, name);

    memcpy(place, &symbol, sizeof(symbol)); // ISO C has no cast from an object's address to this.
    return symbol != NULL;
}

static bool nn_load(void)
{
    void *handle = dlopen("libnanomsg.so.5", RTLD_NOW);

    handle = handle != NULL ? handle : dlopen("libnanomsg.so", RTLD_NOW);
    return handle != NULL && nn_find(handle, "nn_socket", &nn.socket) &&
           nn_find(handle, "nn_setsockopt", &nn.setsockopt) &&
           nn_find(handle, "nn_bind", &nn.bind) && nn_find(handle, "nn_connect", &nn.connect) &&
           nn_find(handle, "nn_sendmsg", &nn.sendmsg) &&
           nn_find(handle, "nn_recvmsg", &nn.recvmsg) && nn_find(handle, "nn_close", &nn.close);
}

static int nn_set(int s, int option, int value)
{
    return nn.setsockopt(s, NN_SOL_SOCKET, option, &value, sizeof(value));
}

static int nn_other_open(bool pub, bool raw)
{
    int s = nn.socket(raw ? AF_SP_RAW : AF_SP, pub ? NN_PUB : NN_SUB);

    return s >= 0 && nn_set(s, NN_RCVMAXSIZE, -1) == 0 ? s : -1;
}

static int nn_other_subscribe(int s, const char *topic)
{
    return nn.setsockopt(s, NN_SUB, NN_SUB_SUBSCRIBE, topic, strlen(topic));
}

static int nn_other_unsubscribe(int s, const char *topic)
{
    return nn.setsockopt(s, NN_SUB, NN_SUB_UNSUBSCRIBE, topic, strlen(topic));
}

static int nn_other_listen(int s, const char *url)
{
    return nn.bind(s, url) >= 0 ? 0 : -1;
}

static int nn_other_dial(int s, const char *url)
{
    return nn.connect(s, url) >= 0 ? 0 : -1;
}

static int nn_other_send(int s, const void *data, size_t len)
{
    struct nn_iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    struct nn_msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    return nn.sendmsg(s, &message, 0) == (int)len ? 0 : -1;
}

static long nn_other_recv(int s, void *buf, size_t cap, int ms)
{
    struct nn_iovec part = {.iov_base = buf, .iov_len = cap};
    struct nn_msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    return nn_set(s, NN_RCVTIMEO, ms) == 0 ? nn.recvmsg(s, &message, 0) : -1;
}

static void nn_other_close(int s)
{
    (void)nn.close(s);
}

static const struct other nn_other = {nn_other_open,   nn_other_subscribe, nn_other_unsubscribe,
                                      nn_other_listen, nn_other_dial,      nn_other_send,
                                      nn_other_recv,   nn_other_close};

/* ------------------------------------------------------------------ Links */

struct constellation {
    const char *name;
    const struct other *other;
    bool ipc;
    bool own_listens;
    bool own_raw;
    bool its_raw;
};

struct link {
    const struct constellation *c;
    sp_socket own;
    int its;
    char *dir;
    char *buf;
};

static void link_up(struct link *l, const struct constellation *c, bool own_pub)
{
    char url[128];

    memset(l, 0, sizeof(*l));
    l->c = c;
    l->buf = malloc(BODY_MAX);
    assert_non_null(l->buf);
    l->dir = c->ipc ? proc_mkdir() : NULL;
    (void)snprintf(url, sizeof(url), c->ipc ? "ipc://%s/s" : "tcp://127.0.0.1:%s",
                   c->ipc ? l->dir : "");
    if (!c->ipc) {
        (void)snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", proc_free_port());
    }
    check_ok(c->own_raw ? sp_open_raw(&l->own, own_pub ? "pub" : "sub")
                        : sp_open(&l->own, own_pub ? "pub" : "sub"));
    check_ok(sp_set_int(l->own.id, "reconnect-time-max", 50));
    l->its = c->other->open(!own_pub, c->its_raw);
    assert_true(l->its >= 0);
    if (c->own_listens) {
        check_ok(sp_listen(l->own, url, NULL));
        assert_int_equal(c->other->dial(l->its, url), 0);
    } else {
        assert_int_equal(c->other->listen(l->its, url), 0);
        check_ok(sp_dial(l->own, url, NULL, 0));
    }
    check_pipes(l->own, 1);
}

static void link_down(struct link *l)
{
    check_rest(l->own);
    check_ok(sp_close(l->own));
    l->c->other->close(l->its);
    if (l->dir != NULL) {
        proc_rmdir(l->dir);
    }
    free(l->buf);
}

/// The other one receives exactly this.
static void its_recv(struct link *l, const char *text)
{
    long n = l->c->other->recv(l->its, l->buf, BODY_MAX, SOON);

    assert_int_equal(n, strlen(text));
    assert_memory_equal(l->buf, text, strlen(text));
}

/// Is heard for certain: publishes until it is received, then takes what else came of that.
static void synchronise(struct link *l, bool own_pub)
{
    int64_t end = check_now() + SOON;
    long n = -1;

    while (n < 0 && check_now() < end) {
        if (own_pub) {
            check_ok(sp_send(l->own, "sync", 4, 0));
            n = l->c->other->recv(l->its, l->buf, BODY_MAX, 20);
        } else {
            assert_int_equal(l->c->other->send(l->its, "sync", 4), 0);
            check_ok(sp_set_int(l->own.id, "recv-timeout", 20));
            n = sp_recv(l->own, l->buf, BODY_MAX, 0);
        }
    }
    assert_int_equal(n, 4);
    if (own_pub) {
        check_ok(sp_send(l->own, "sync end", 8, 0));
    } else {
        assert_int_equal(l->c->other->send(l->its, "sync end", 8), 0);
        check_ok(sp_set_int(l->own.id, "recv-timeout", SOON));
    }
    while (n != 8) {
        n = own_pub ? l->c->other->recv(l->its, l->buf, BODY_MAX, SOON)
                    : sp_recv(l->own, l->buf, BODY_MAX, 0);
        assert_true(n == 4 || n == 8);
    }
}

/// A body that ends with what shows whether it was cut or mixed up.
static void fill(char *body, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        body[i] = (char)('a' + (i * 7 + len) % 26);
    }
    body[0] = 'a';
}

static const size_t sizes[] = {1, 2, 63, 128, 1000, 65535, 65536, 65537, BODY_MAX};

/* ------------------------------------------------------------------ Scenarios */

static void its_sub_hears_our_pub(void **state)
{
    const struct constellation *c = *state;
    struct link l;
    char *body = malloc(BODY_MAX);

    assert_non_null(body);
    link_up(&l, c, true);
    if (!c->its_raw) {
        assert_int_equal(c->other->subscribe(l.its, "sync"), 0);
        assert_int_equal(c->other->subscribe(l.its, "a"), 0);
    } else {
        (void)c->other->subscribe(l.its, ""); // Raw, nanomsg filters too; nng has no such option.
    }
    synchronise(&l, true);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        fill(body, sizes[i]);
        check_ok(sp_send(l.own, c->its_raw ? "all" : "not", 3, 0));
        check_ok(sp_send(l.own, body, sizes[i], 0));
        if (c->its_raw) {
            its_recv(&l, "all");
        }
        assert_int_equal(c->other->recv(l.its, l.buf, BODY_MAX, SOON), sizes[i]);
        assert_memory_equal(l.buf, body, sizes[i]);
    }
    if (!c->its_raw) {
        assert_int_equal(c->other->unsubscribe(l.its, "a"), 0);
        check_ok(sp_send(l.own, "a", 1, 0));
        check_ok(sp_send(l.own, "sync", 4, 0));
        its_recv(&l, "sync");
    }
    free(body);
    link_down(&l);
}

static void our_sub_hears_its_pub(void **state)
{
    const struct constellation *c = *state;
    struct link l;
    char *body = malloc(BODY_MAX);

    assert_non_null(body);
    link_up(&l, c, false);
    if (!c->own_raw) {
        check_ok(sp_set_bytes(l.own.id, "subscribe", "sync", 4));
        check_ok(sp_set_bytes(l.own.id, "subscribe", "a", 1));
    }
    synchronise(&l, false);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        fill(body, sizes[i]);
        assert_int_equal(c->other->send(l.its, "not", 3), 0);
        if (c->own_raw) {
            check_recv(l.own, "not");
        }
        assert_int_equal(c->other->send(l.its, body, sizes[i]), 0);
        check_rc((long)sizes[i], sp_recv(l.own, l.buf, BODY_MAX, 0));
        assert_memory_equal(l.buf, body, sizes[i]);
    }
    if (!c->own_raw) {
        check_ok(sp_set_bytes(l.own.id, "unsubscribe", "a", 1));
        assert_int_equal(c->other->send(l.its, "a", 1), 0);
        assert_int_equal(c->other->send(l.its, "sync", 4), 0);
        check_recv(l.own, "sync");
        check_stat_is(l.own.id, "rx_drops.unwanted", sizeof(sizes) / sizeof(sizes[0]) + 1);
    }
    free(body);
    link_down(&l);
}

/// Length of what the context receives; -1: nothing came.
static long nng_ctx_recv_len(nng_ctx ctx)
{
    nng_aio *aio = NULL;
    long n = -1;

    assert_int_equal(nng_aio_alloc(&aio, NULL, NULL), 0);
    nng_aio_set_timeout(aio, SOON);
    nng_ctx_recv(ctx, aio);
    nng_aio_wait(aio);
    if (nng_aio_result(aio) == 0) {
        n = (long)nng_msg_len(nng_aio_get_msg(aio));
        nng_msg_free(nng_aio_get_msg(aio));
    }
    nng_aio_free(aio);
    return n;
}

/// Contexts of nng's SUB, on one connection.
static void its_contexts_hear_our_pub(void **state)
{
    const struct constellation *c = *state;
    static const char *const topics[] = {"a", "ab"};
    nng_ctx ctx[2];
    struct link l;

    link_up(&l, c, true);
    assert_int_equal(c->other->subscribe(l.its, "sync"), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(nng_ctx_open(&ctx[i], nng_of(l.its)), 0);
        assert_int_equal(nng_ctx_set(ctx[i], NNG_OPT_SUB_SUBSCRIBE, topics[i], strlen(topics[i])),
                         0);
    }
    synchronise(&l, true);
    check_send(l.own, "ax");
    check_send(l.own, "abx");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(nng_ctx_recv_len(ctx[i / 2]), i == 0 ? 2 : 3);
    }
    link_down(&l);
}

/// Contexts of ours hear nng's PUB.
static void our_contexts_hear_its_pub(void **state)
{
    const struct constellation *c = *state;
    static const char *const topics[] = {"a", "ab"};
    sp_ctx ctx[2];
    struct link l;

    link_up(&l, c, false);
    check_ok(sp_set_bytes(l.own.id, "subscribe", "sync", 4));
    for (int i = 0; i < 2; i++) {
        check_ok(sp_ctx_open(&ctx[i], l.own));
        check_ok(sp_set_int(ctx[i].id, "recv-timeout", SOON));
        check_ok(sp_set_bytes(ctx[i].id, "subscribe", topics[i], strlen(topics[i])));
    }
    synchronise(&l, false);
    assert_int_equal(c->other->send(l.its, "ax", 2), 0);
    assert_int_equal(c->other->send(l.its, "abx", 3), 0);
    for (int i = 0; i < 3; i++) {
        sp_msg *m = NULL;

        check_ok(sp_ctx_recvmsg(ctx[i / 2], &m, 0));
        assert_int_equal(sp_msg_len(m), i == 0 ? 2 : 3);
        sp_msg_release(m);
    }
    link_down(&l);
}

/* ------------------------------------------------------------------ Programs */

/// `sp cat` hears the other program, or is heard by it.
static void cat_and(enum peer_program other, bool own_pub)
{
    char url[64];
    int port = proc_free_port();
    struct proc pub;
    struct proc sub;

    if (!peer_exists(other)) {
        skip();
    }
    (void)snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    assert_int_equal(peer_start(&sub, own_pub ? other : PEER_SP,
                                "--sub --bind %s --quoted --subscribe no --subscribe he", url),
                     0);
    assert_true(proc_wait_port(port, PROC_SOON));
    assert_int_equal(peer_start(&pub, own_pub ? PEER_SP : other,
                                "--pub --connect %s --data hello --interval 1", url),
                     0);
    if (!proc_wait_text(&sub, "\"hello\"\n", PROC_SOON)) {
        fail_msg("not heard: %s %s", sub.errors.len > 0 ? sub.errors.data : "",
                 pub.errors.len > 0 ? pub.errors.data : "");
    }
    proc_signal(own_pub ? &pub : &sub, SIGINT);
    assert_int_equal(proc_wait(own_pub ? &pub : &sub, PROC_SOON), 0);
    proc_stop(&pub);
    proc_stop(&sub);
}

static void cat_pub_is_heard_by_nngcat(void **state)
{
    (void)state;
    cat_and(PEER_NNGCAT, true);
}

static void cat_sub_hears_nngcat(void **state)
{
    (void)state;
    cat_and(PEER_NNGCAT, false);
}

static void cat_pub_is_heard_by_nanocat(void **state)
{
    (void)state;
    cat_and(PEER_NANOCAT, true);
}

static void cat_sub_hears_nanocat(void **state)
{
    (void)state;
    cat_and(PEER_NANOCAT, false);
}

static void cat_hears_cat(void **state)
{
    (void)state;
    cat_and(PEER_SP, true);
}

/* ------------------------------------------------------------------ All */

static const struct constellation all[] = {
    {"nng, tcp, listening", &nng_other, false, true, false, false},
    {"nng, tcp, dialling", &nng_other, false, false, false, false},
    {"nng, ipc, listening", &nng_other, true, true, false, false},
    {"nng, ipc, dialling", &nng_other, true, false, false, false},
    {"nanomsg, tcp, listening", &nn_other, false, true, false, false},
    {"nanomsg, tcp, dialling", &nn_other, false, false, false, false},
    {"nanomsg, ipc, listening", &nn_other, true, true, false, false},
    {"nanomsg, ipc, dialling", &nn_other, true, false, false, false},
    {"nng, tcp, it raw", &nng_other, false, true, false, true},
    {"nng, tcp, we raw", &nng_other, false, false, true, false},
    {"nanomsg, ipc, it raw", &nn_other, true, false, false, true},
    {"nanomsg, ipc, we raw", &nn_other, true, true, true, false},
};
#define ALL (sizeof(all) / sizeof(all[0]))

static int start_threads(void **state)
{
    check_init(2);
    (void)state;
    return 0;
}

static int stop_threads(void **state)
{
    check_fini();
    (void)state;
    return 0;
}

/// cmocka hands the state on as it is; the tests only read it.
static struct CMUnitTest test_of(const char *name, CMUnitTestFunction fn,
                                 const struct constellation *c)
{
    return (struct CMUnitTest){name, fn, start_threads, stop_threads, (void *)(uintptr_t)c};
}

int main(void)
{
    static char names[2 * ALL][64];
    struct CMUnitTest tests[2 * ALL + 8];
    size_t n = 0;

    peer_environment();
    if (!nn_load()) {
        (void)printf("skipped: %s\n", dlerror());
        return 77;
    }
    for (size_t i = 0; i < ALL; i++) {
        (void)snprintf(names[n], sizeof(names[n]), "its_sub_hears_our_pub: %s", all[i].name);
        tests[n] = test_of(names[n], its_sub_hears_our_pub, &all[i]);
        n++;
        (void)snprintf(names[n], sizeof(names[n]), "our_sub_hears_its_pub: %s", all[i].name);
        tests[n] = test_of(names[n], our_sub_hears_its_pub, &all[i]);
        n++;
    }
    tests[n++] = test_of("its_contexts_hear_our_pub", its_contexts_hear_our_pub, &all[0]);
    tests[n++] = test_of("our_contexts_hear_its_pub", our_contexts_hear_its_pub, &all[1]);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(cat_pub_is_heard_by_nngcat);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(cat_sub_hears_nngcat);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(cat_pub_is_heard_by_nanocat);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(cat_sub_hears_nanocat);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(cat_hears_cat);
    return _cmocka_run_group_tests("pubsub", tests, n, NULL, NULL);
}

#else

int main(void)
{
    (void)puts("skipped: built without libnng and libnanomsg (libnng-dev, libnanomsg-dev)");
    return 77;
}

#endif
