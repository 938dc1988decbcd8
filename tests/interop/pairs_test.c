/* SPDX-License-Identifier: MIT */
/// Protocols with several pairs of numbers, and the plain PUB and SUB of Debian's libnng and
/// libnanomsg: whoever dials, they meet as PUB and SUB.
#include "check.h"
#include "fan.h"
#include "rawsp.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(SP_TEST_NNG) && defined(SP_TEST_NANOMSG)

#include <dlfcn.h>

#include <nanomsg/nn.h>
#include <nanomsg/pubsub.h>
#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/pubsub0/sub.h>

static nng_socket nng_make(bool sub)
{
    nng_socket s;

    assert_int_equal(sub ? nng_sub0_open(&s) : nng_pub0_open(&s), 0);
    if (sub) {
        assert_int_equal(nng_socket_set(s, NNG_OPT_SUB_SUBSCRIBE, "", 0), 0);
        assert_int_equal(nng_socket_set_ms(s, NNG_OPT_RECVTIMEO, CHECK_SOON), 0);
    }
    return s;
}

static void nng_receives(nng_socket s, const char *want)
{
    char buf[32];
    size_t n = sizeof(buf);

    assert_int_equal(nng_recv(s, buf, &n, 0), 0);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(buf, want, n);
}

/// It may have the pipe later than we do: until then it sends to nobody.
static void nng_sends(nng_socket s, sp_socket own)
{
    for (int64_t got = 0; got == 0; got = check_stat(own.id, "rx_received")) {
        assert_int_equal(nng_send(s, "news", 4, 0), 0);
        check_pause();
    }
    check_recv(own, "news");
}

/// What a foreign library can listen at.
static void free_url(const char *transport, char url[256])
{
    int port = 0;
    int fd;

    check_url(transport, url);
    if (strcmp(transport, "tcp") == 0) {
        fd = rawsp_listen(&port);
        assert_true(fd >= 0);
        (void)close(fd);
        (void)snprintf(url, 256, "tcp://127.0.0.1:%d", port);
    }
}

/// We dial: refused as what we would rather be, at once again as what it knows.
static void dial_nng(const char *transport, bool sub)
{
    nng_socket s = nng_make(sub);
    sp_socket own = check_open(sub ? "fan" : "sink");
    char url[256];

    free_url(transport, url);
    assert_int_equal(nng_listen(s, url, NULL, 0), 0);
    check_ok(sp_dial(own, url, NULL, 0));
    check_pipes(own, 1);
    assert_int_equal(check_stat(own.id, "peers[0].protocol"), sub ? 0x21 : 0x20);
    assert_int_equal(check_stat(own.id, "dialers[0].fallback"), 1);
    if (sub) {
        check_send(own, "news");
        nng_receives(s, "news");
    } else {
        nng_sends(s, own);
    }
    (void)nng_close(s);
    check_ok(sp_close(own));
}

/// It dials: we hear what it is before we say anything.
static void dialled_by_nng(const char *transport, bool sub)
{
    nng_socket s = nng_make(sub);
    sp_socket own = check_open(sub ? "fan" : "sink");
    char url[256];

    check_listen(own, transport, url, NULL);
    assert_int_equal(nng_dial(s, url, NULL, 0), 0);
    check_pipes(own, 1);
    assert_int_equal(check_stat(own.id, "peers[0].protocol"), sub ? 0x21 : 0x20);
    assert_int_equal(check_stat(own.id, "listeners[0].connect"), 1);
    assert_int_equal(check_stat(own.id, "listeners[0].proto"), 0);
    if (sub) {
        check_send(own, "news");
        nng_receives(s, "news");
    } else {
        nng_sends(s, own);
    }
    (void)nng_close(s);
    check_ok(sp_close(own));
}

static void nng_and_we_meet_as_pub_and_sub(void **state)
{
    static const char *const transports[] = {"tcp", "ipc"};

    (void)state;
    for (int t = 0; t < 2; t++) {
        for (int sub = 0; sub < 2; sub++) {
            dial_nng(transports[t], sub != 0);
            dialled_by_nng(transports[t], sub != 0);
        }
    }
}

/// nanomsg's own functions: libnng, which is linked too, has some of the same names.
static struct {
    __typeof__(&nn_socket) socket;
    __typeof__(&nn_setsockopt) setsockopt;
    __typeof__(&nn_bind) bind;
    __typeof__(&nn_connect) connect;
    __typeof__(&nn_sendmsg) sendmsg;
    __typeof__(&nn_recvmsg) recvmsg;
    __typeof__(&nn_close) close;
} nn;

static void nn_find(void *handle, const char *name, void *place)
{
    void *symbol = dlsym(handle, name);

    assert_non_null(symbol);
    memcpy(place, &symbol, sizeof(symbol));
}

static void nn_load(void)
{
    void *handle = dlopen("libnanomsg.so.5", RTLD_NOW);

    handle = handle != NULL ? handle : dlopen("libnanomsg.so", RTLD_NOW);
    assert_non_null(handle);
    nn_find(handle, "nn_socket", &nn.socket);
    nn_find(handle, "nn_setsockopt", &nn.setsockopt);
    nn_find(handle, "nn_bind", &nn.bind);
    nn_find(handle, "nn_connect", &nn.connect);
    nn_find(handle, "nn_sendmsg", &nn.sendmsg);
    nn_find(handle, "nn_recvmsg", &nn.recvmsg);
    nn_find(handle, "nn_close", &nn.close);
}

static int nn_make(bool sub)
{
    int soon = CHECK_SOON;
    int s = nn.socket(AF_SP, sub ? NN_SUB : NN_PUB);

    assert_true(s >= 0);
    if (sub) {
        assert_int_equal(nn.setsockopt(s, NN_SUB, NN_SUB_SUBSCRIBE, "", 0), 0);
        assert_int_equal(nn.setsockopt(s, NN_SOL_SOCKET, NN_RCVTIMEO, &soon, sizeof(soon)), 0);
    }
    return s;
}

static void nn_news(int s, bool receives)
{
    char buf[8] = "news";
    struct nn_iovec iov = {buf, receives ? sizeof(buf) : 4};
    struct nn_msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

    assert_int_equal(receives ? nn.recvmsg(s, &h, 0) : nn.sendmsg(s, &h, 0), 4);
    assert_memory_equal(buf, "news", 4);
}

static void meet_nanomsg(const char *transport, bool sub, bool we_dial)
{
    int s = nn_make(sub);
    sp_socket own = check_open(sub ? "fan" : "sink");
    char url[256];

    if (we_dial) {
        free_url(transport, url);
        assert_true(nn.bind(s, url) >= 0);
        check_ok(sp_dial(own, url, NULL, 0));
        assert_int_equal(check_stat(own.id, "dialers[0].fallback"), 1);
    } else {
        check_listen(own, transport, url, NULL);
        assert_true(nn.connect(s, url) >= 0);
    }
    check_pipes(own, 1);
    assert_int_equal(check_stat(own.id, "peers[0].protocol"), sub ? 0x21 : 0x20);
    if (sub) {
        check_send(own, "news");
        nn_news(s, true);
    } else {
        for (int64_t got = 0; got == 0; got = check_stat(own.id, "rx_received")) {
            nn_news(s, false);
            check_pause();
        }
        check_recv(own, "news");
    }
    (void)nn.close(s);
    check_ok(sp_close(own));
}

static void nanomsg_and_we_meet_as_pub_and_sub(void **state)
{
    static const char *const transports[] = {"tcp", "ipc"};

    (void)state;
    nn_load();
    for (int t = 0; t < 2; t++) {
        for (int i = 0; i < 4; i++) {
            meet_nanomsg(transports[t], i % 2 != 0, i < 2);
        }
    }
}

static int start(void **state)
{
    int rc = check_start_threads(state);

    fan_register();
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nng_and_we_meet_as_pub_and_sub, start, check_stop),
        cmocka_unit_test_setup_teardown(nanomsg_and_we_meet_as_pub_and_sub, start, check_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
    (void)puts("libnng or libnanomsg is missing");
    return 77;
}

#endif
