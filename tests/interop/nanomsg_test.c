/* SPDX-License-Identifier: MIT */
/// This library and Debian's libnanomsg in one process, connected by real sockets. libnng has
/// functions of the same names (its compatibility layer) and is linked too: so nanomsg's are looked
/// up in its own file, and nn_send and nn_recv, which would find others of libnng's through the
/// linker, are done without.
#include "interop.h"
#include "interop_flow.h"
#include "peer_cat.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#ifdef SP_TEST_NANOMSG

#include <dlfcn.h>
#include <errno.h>

#include <nanomsg/bus.h>
#include <nanomsg/nn.h>
#include <nanomsg/pair.h>
#include <nanomsg/pipeline.h>
#include <nanomsg/reqrep.h>
#include <nanomsg/survey.h>

/// nanomsg's functions.
static struct {
    __typeof__(&nn_socket) socket;
    __typeof__(&nn_setsockopt) setsockopt;
    __typeof__(&nn_bind) bind;
    __typeof__(&nn_connect) connect;
    __typeof__(&nn_sendmsg) sendmsg;
    __typeof__(&nn_recvmsg) recvmsg;
    __typeof__(&nn_close) close;
} nn;

static bool nn_side_find(void *handle, const char *name, void *place)
{
    void *symbol = dlsym(handle, name);

    memcpy(place, &symbol,
           sizeof(symbol)); // ISO C has no cast from an object's to a function's address
    return symbol != NULL;
}

static bool nn_side_load(void)
{
    void *handle = dlopen("libnanomsg.so.5", RTLD_NOW);

    if (handle == NULL) {
        handle = dlopen("libnanomsg.so", RTLD_NOW);
    }
    return handle != NULL && nn_side_find(handle, "nn_socket", &nn.socket) &&
           nn_side_find(handle, "nn_setsockopt", &nn.setsockopt) &&
           nn_side_find(handle, "nn_bind", &nn.bind) &&
           nn_side_find(handle, "nn_connect", &nn.connect) &&
           nn_side_find(handle, "nn_sendmsg", &nn.sendmsg) &&
           nn_side_find(handle, "nn_recvmsg", &nn.recvmsg) &&
           nn_side_find(handle, "nn_close", &nn.close);
}

/// Prints what nanomsg says, if it says anything.
static int nn_side_result(int result, const char *what)
{
    if (result >= 0) {
        return result;
    }
    (void)printf("nanomsg: %s: error %d\n", what, errno);
    return -1;
}

static int nn_side_set(int s, int level, int option, int value)
{
    return nn_side_result(nn.setsockopt(s, level, option, &value, sizeof(value)), "option");
}

static int nn_side_open(const char *protocol)
{
    static const struct {
        const char *name;
        int number;
    } protocols[] = {
        {"req", NN_REQ},           {"rep", NN_REP},
        {"surveyor", NN_SURVEYOR}, {"respondent", NN_RESPONDENT},
        {"push", NN_PUSH},         {"pull", NN_PULL},
        {"bus", NN_BUS},
    };
    int number = NN_PAIR;
    int s;

    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
        if (strcmp(protocols[i].name, protocol) == 0) {
            number = protocols[i].number;
        }
    }
    s = nn_side_result(nn.socket(AF_SP, number), "socket");
    if (s >= 0 && nn_side_set(s, NN_SOL_SOCKET, NN_RCVTIMEO, INTEROP_SOON) == 0 &&
        nn_side_set(s, NN_SOL_SOCKET, NN_SNDTIMEO, INTEROP_SOON) == 0 &&
        nn_side_set(s, NN_SOL_SOCKET, NN_RCVMAXSIZE, -1) == 0) {
        return s;
    }
    return -1;
}

/// IPv6 has to be allowed, but then nanomsg 1.1.5 aborts when it dials an IPv4 address.
static bool nn_side_allow(int s, const char *url)
{
    return strchr(url, '[') == NULL || nn_side_set(s, NN_SOL_SOCKET, NN_IPV4ONLY, 0) == 0;
}

static int nn_side_listen(int s, const char *url)
{
    return nn_side_allow(s, url) && nn_side_result(nn.bind(s, url), url) >= 0 ? 0 : -1;
}

static int nn_side_dial(int s, const char *url)
{
    return nn_side_allow(s, url) && nn_side_result(nn.connect(s, url), url) >= 0 ? 0 : -1;
}

static int nn_side_send(int s, const void *data, size_t len)
{
    struct nn_iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    struct nn_msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    return nn_side_result(nn.sendmsg(s, &message, 0), "send") == (int)len ? 0 : -1;
}

static long nn_side_recv(int s, void *buf, size_t cap)
{
    struct nn_iovec part = {.iov_base = buf, .iov_len = cap};
    struct nn_msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    return nn_side_result(nn.recvmsg(s, &message, 0), "receive");
}

static int nn_side_resend_time(int s, int ms)
{
    return nn_side_set(s, NN_REQ, NN_REQ_RESEND_IVL, ms);
}

static int nn_side_survey_time(int s, int ms)
{
    return nn_side_set(s, NN_SURVEYOR, NN_SURVEYOR_DEADLINE, ms);
}

static void nn_side_close(int s)
{
    (void)nn.close(s);
}

static const struct interop_ops nn_side = {.open = nn_side_open,
                                           .listen = nn_side_listen,
                                           .dial = nn_side_dial,
                                           .send = nn_side_send,
                                           .recv = nn_side_recv,
                                           .resend_time = nn_side_resend_time,
                                           .survey_time = nn_side_survey_time,
                                           .close = nn_side_close};

/// One test a line: its name, the scenario, our protocol, nanomsg's, the transport, whether we
/// listen.
#define NN_CASES(X)                                                                                \
    X(rep_listens_tcp, interop_sizes, "rep", "req", INTEROP_TCP, true)                             \
    X(rep_dials_tcp, interop_sizes, "rep", "req", INTEROP_TCP, false)                              \
    X(req_listens_tcp, interop_sizes, "req", "rep", INTEROP_TCP, true)                             \
    X(req_dials_tcp, interop_sizes, "req", "rep", INTEROP_TCP, false)                              \
    X(rep_listens_tcp6, interop_sizes, "rep", "req", INTEROP_TCP6, true)                           \
    X(req_dials_tcp6, interop_sizes, "req", "rep", INTEROP_TCP6, false)                            \
    X(rep_listens_ipc, interop_sizes, "rep", "req", INTEROP_IPC, true)                             \
    X(rep_dials_ipc, interop_sizes, "rep", "req", INTEROP_IPC, false)                              \
    X(req_listens_ipc, interop_sizes, "req", "rep", INTEROP_IPC, true)                             \
    X(req_dials_ipc, interop_sizes, "req", "rep", INTEROP_IPC, false)                              \
    X(pair_listens_tcp, interop_sizes, "pair", "pair", INTEROP_TCP, true)                          \
    X(pair_dials_tcp, interop_sizes, "pair", "pair", INTEROP_TCP, false)                           \
    X(pair_listens_ipc, interop_sizes, "pair", "pair", INTEROP_IPC, true)                          \
    X(pair_dials_ipc, interop_sizes, "pair", "pair", INTEROP_IPC, false)                           \
    X(pair_keeps_order_tcp, interop_order, "pair", "pair", INTEROP_TCP, true)                      \
    X(pair_keeps_order_ipc, interop_order, "pair", "pair", INTEROP_IPC, false)                     \
    X(req_dials_again_after_peer_restart, interop_peer_restarts, "req", "rep", INTEROP_TCP, false) \
    X(rep_serves_peer_that_comes_back, interop_peer_restarts, "rep", "req", INTEROP_TCP, true)     \
    X(peer_finds_rep_that_comes_back, interop_own_restarts, "rep", "req", INTEROP_TCP, true)       \
    X(req_resends, interop_resend, "req", "rep", INTEROP_TCP, false)                               \
    X(rep_gets_resent_request, interop_resend, "rep", "req", INTEROP_IPC, true)                    \
    X(surveyor_listens_tcp, interop_survey, "surveyor", "respondent", INTEROP_TCP, true)           \
    X(surveyor_dials_tcp, interop_survey, "surveyor", "respondent", INTEROP_TCP, false)            \
    X(surveyor_listens_ipc, interop_survey, "surveyor", "respondent", INTEROP_IPC, true)           \
    X(surveyor_dials_ipc, interop_survey, "surveyor", "respondent", INTEROP_IPC, false)            \
    X(respondent_listens_tcp, interop_survey, "respondent", "surveyor", INTEROP_TCP, true)         \
    X(respondent_dials_tcp, interop_survey, "respondent", "surveyor", INTEROP_TCP, false)          \
    X(respondent_listens_ipc, interop_survey, "respondent", "surveyor", INTEROP_IPC, true)         \
    X(respondent_dials_ipc, interop_survey, "respondent", "surveyor", INTEROP_IPC, false)          \
    X(surveyor_keeps_its_deadline, interop_survey_deadline, "surveyor", "respondent", INTEROP_TCP, \
      true)                                                                                        \
    X(respondent_is_late, interop_survey_deadline, "respondent", "surveyor", INTEROP_IPC, false)   \
    X(req_resends_ipc, interop_resend, "req", "rep", INTEROP_IPC, true)                            \
    X(rep_gets_resent_request_tcp, interop_resend, "rep", "req", INTEROP_TCP, false)               \
    X(surveyor_keeps_its_deadline_ipc, interop_survey_deadline, "surveyor", "respondent",          \
      INTEROP_IPC, false)                                                                          \
    X(respondent_is_late_tcp, interop_survey_deadline, "respondent", "surveyor", INTEROP_TCP,      \
      true)                                                                                        \
    X(req_refuses_pair, interop_wrong_peer, "req", "pair", INTEROP_TCP, false)

/// The same of patterns without answers.
#define NN_FLOW_CASES(X)                                                                           \
    X(push_listens_tcp, interop_one_way, "push", "pull", INTEROP_TCP, true)                        \
    X(pull_listens_tcp, interop_one_way, "pull", "push", INTEROP_TCP, true)                        \
    X(push_shares_work_listens_tcp, interop_work, "push", "pull", INTEROP_TCP, true)               \
    X(pull_takes_work_listens_tcp, interop_work, "pull", "push", INTEROP_TCP, true)                \
    X(bus_listens_tcp, interop_bus, "bus", "bus", INTEROP_TCP, true)                               \
    X(raw_bus_listens_tcp, interop_bus_raw, "bus", "bus", INTEROP_TCP, true)                       \
    X(push_dials_tcp, interop_one_way, "push", "pull", INTEROP_TCP, false)                         \
    X(pull_dials_tcp, interop_one_way, "pull", "push", INTEROP_TCP, false)                         \
    X(push_shares_work_dials_tcp, interop_work, "push", "pull", INTEROP_TCP, false)                \
    X(pull_takes_work_dials_tcp, interop_work, "pull", "push", INTEROP_TCP, false)                 \
    X(bus_dials_tcp, interop_bus, "bus", "bus", INTEROP_TCP, false)                                \
    X(raw_bus_dials_tcp, interop_bus_raw, "bus", "bus", INTEROP_TCP, false)                        \
    X(push_listens_ipc, interop_one_way, "push", "pull", INTEROP_IPC, true)                        \
    X(pull_listens_ipc, interop_one_way, "pull", "push", INTEROP_IPC, true)                        \
    X(push_shares_work_listens_ipc, interop_work, "push", "pull", INTEROP_IPC, true)               \
    X(pull_takes_work_listens_ipc, interop_work, "pull", "push", INTEROP_IPC, true)                \
    X(bus_listens_ipc, interop_bus, "bus", "bus", INTEROP_IPC, true)                               \
    X(raw_bus_listens_ipc, interop_bus_raw, "bus", "bus", INTEROP_IPC, true)                       \
    X(push_dials_ipc, interop_one_way, "push", "pull", INTEROP_IPC, false)                         \
    X(pull_dials_ipc, interop_one_way, "pull", "push", INTEROP_IPC, false)                         \
    X(push_shares_work_dials_ipc, interop_work, "push", "pull", INTEROP_IPC, false)                \
    X(pull_takes_work_dials_ipc, interop_work, "pull", "push", INTEROP_IPC, false)                 \
    X(bus_dials_ipc, interop_bus, "bus", "bus", INTEROP_IPC, false)                                \
    X(raw_bus_dials_ipc, interop_bus_raw, "bus", "bus", INTEROP_IPC, false)                        \
    X(bus_sizes, interop_sizes, "bus", "bus", INTEROP_TCP, false)                                  \
    X(push_refuses_push, interop_wrong_peer, "push", "push", INTEROP_TCP, false)                   \
    X(bus_refuses_pair, interop_wrong_peer, "bus", "pair", INTEROP_IPC, false)

#define NN_TEST(test, scenario, own, its, transport, own_listens)                                  \
    static void test(void **state)                                                                 \
    {                                                                                              \
        static const struct interop_case c = {&nn_side, own, its, transport, own_listens};         \
                                                                                                   \
        (void)state;                                                                               \
        scenario(&c);                                                                              \
    }
NN_CASES(NN_TEST)
NN_FLOW_CASES(NN_TEST)

int main(void)
{
#define NN_ENTRY(test, scenario, own, its, transport, own_listens) cmocka_unit_test(test),
    const struct CMUnitTest tests[] = {NN_CASES(NN_ENTRY) NN_FLOW_CASES(NN_ENTRY)};

    peer_environment();
    if (!nn_side_load()) {
        (void)printf("skipped: %s\n", dlerror());
        return 77;
    }
    return cmocka_run_group_tests_name("nanomsg", tests, NULL, NULL);
}

#else

int main(void)
{
    (void)puts("skipped: built without libnanomsg (libnanomsg-dev)");
    return 77;
}

#endif
