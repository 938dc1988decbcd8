/* SPDX-License-Identifier: MIT */
/// This library and Debian's libnng in one process, connected by real sockets.
#include "interop.h"
#include "interop_flow.h"
#include "peer_cat.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#ifdef SP_TEST_NNG

#include <nng/nng.h>
#include <nng/protocol/bus0/bus.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pair1/pair.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/protocol/survey0/respond.h>
#include <nng/protocol/survey0/survey.h>

static nng_socket nng_of(int s)
{
    nng_socket socket = {.id = (uint32_t)s};

    return socket;
}

static int nng_side_open(const char *protocol)
{
    static const struct {
        const char *name;
        int (*open)(nng_socket *s);
    } opens[] = {
        {"req", nng_req0_open},           {"rep", nng_rep0_open},
        {"pair", nng_pair0_open},         {"pair1", nng_pair1_open},
        {"surveyor", nng_surveyor0_open}, {"respondent", nng_respondent0_open},
        {"push", nng_push0_open},         {"pull", nng_pull0_open},
        {"bus", nng_bus0_open},           {"pair1 poly", nng_pair1_open_poly},
    };

    for (size_t i = 0; i < sizeof(opens) / sizeof(opens[0]); i++) {
        nng_socket s;

        if (strcmp(opens[i].name, protocol) == 0 && opens[i].open(&s) == 0 &&
            nng_socket_set_ms(s, NNG_OPT_RECVTIMEO, INTEROP_SOON) == 0 &&
            nng_socket_set_ms(s, NNG_OPT_SENDTIMEO, INTEROP_SOON) == 0) {
            return (int)s.id;
        }
    }
    return -1;
}

/// Prints what nng says, if it says anything.
static int nng_side_result(int err, const char *what)
{
    if (err == 0) {
        return 0;
    }
    (void)printf("nng: %s: %s\n", what, nng_strerror(err));
    return -1;
}

static int nng_side_listen(int s, const char *url)
{
    return nng_side_result(nng_listen(nng_of(s), url, NULL, 0), url);
}

static int nng_side_dial(int s, const char *url)
{
    return nng_side_result(nng_dial(nng_of(s), url, NULL, NNG_FLAG_NONBLOCK), url);
}

static int nng_side_send(int s, const void *data, size_t len)
{
    return nng_side_result(nng_send(nng_of(s), (void *)(uintptr_t)data, len, 0), "send");
}

static long nng_side_recv(int s, void *buf, size_t cap)
{
    size_t n = cap;

    return nng_side_result(nng_recv(nng_of(s), buf, &n, 0), "receive") == 0 ? (long)n : -1;
}

static int nng_side_resend_time(int s, int ms)
{
    return nng_side_result(nng_socket_set_ms(nng_of(s), NNG_OPT_REQ_RESENDTIME, ms), "resend time");
}

static int nng_side_survey_time(int s, int ms)
{
    return nng_side_result(nng_socket_set_ms(nng_of(s), NNG_OPT_SURVEYOR_SURVEYTIME, ms),
                           "survey time");
}

static void nng_side_close(int s)
{
    (void)nng_close(nng_of(s));
}

static const struct interop_ops nng_side = {.open = nng_side_open,
                                            .listen = nng_side_listen,
                                            .dial = nng_side_dial,
                                            .send = nng_side_send,
                                            .recv = nng_side_recv,
                                            .resend_time = nng_side_resend_time,
                                            .survey_time = nng_side_survey_time,
                                            .close = nng_side_close};

/// One test a line: its name, the scenario, our protocol, nng's, the transport, whether we listen.
#define NNG_CASES(X)                                                                               \
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
    X(rep_listens_abstract, interop_sizes, "rep", "req", INTEROP_ABSTRACT, true)                   \
    X(req_dials_abstract, interop_sizes, "req", "rep", INTEROP_ABSTRACT, false)                    \
    X(pair_listens_tcp, interop_sizes, "pair", "pair", INTEROP_TCP, true)                          \
    X(pair_dials_tcp, interop_sizes, "pair", "pair", INTEROP_TCP, false)                           \
    X(pair_listens_ipc, interop_sizes, "pair", "pair", INTEROP_IPC, true)                          \
    X(pair_dials_ipc, interop_sizes, "pair", "pair", INTEROP_IPC, false)                           \
    X(pair1_listens_tcp, interop_sizes, "pair1", "pair1", INTEROP_TCP, true)                       \
    X(pair1_dials_tcp, interop_sizes, "pair1", "pair1", INTEROP_TCP, false)                        \
    X(pair1_listens_ipc, interop_sizes, "pair1", "pair1", INTEROP_IPC, true)                       \
    X(pair1_dials_ipc, interop_sizes, "pair1", "pair1", INTEROP_IPC, false)                        \
    X(pair_keeps_order_tcp, interop_order, "pair", "pair", INTEROP_TCP, true)                      \
    X(pair_keeps_order_ipc, interop_order, "pair", "pair", INTEROP_IPC, false)                     \
    X(pair1_keeps_order_tcp, interop_order, "pair1", "pair1", INTEROP_TCP, false)                  \
    X(req_dials_again_after_peer_restart, interop_peer_restarts, "req", "rep", INTEROP_TCP, false) \
    X(rep_dials_again_after_peer_restart, interop_peer_restarts, "rep", "req", INTEROP_IPC, false) \
    X(rep_serves_peer_that_comes_back, interop_peer_restarts, "rep", "req", INTEROP_TCP, true)     \
    X(peer_finds_rep_that_comes_back, interop_own_restarts, "rep", "req", INTEROP_TCP, true)       \
    X(peer_finds_req_that_comes_back, interop_own_restarts, "req", "rep", INTEROP_IPC, true)       \
    X(rep_dials_peer_anew, interop_own_restarts, "rep", "req", INTEROP_TCP, false)                 \
    X(req_resends, interop_resend, "req", "rep", INTEROP_TCP, false)                               \
    X(rep_gets_resent_request, interop_resend, "rep", "req", INTEROP_TCP, true)                    \
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
    X(rep_gets_resent_request_ipc, interop_resend, "rep", "req", INTEROP_IPC, false)               \
    X(surveyor_keeps_its_deadline_ipc, interop_survey_deadline, "surveyor", "respondent",          \
      INTEROP_IPC, false)                                                                          \
    X(respondent_is_late_tcp, interop_survey_deadline, "respondent", "surveyor", INTEROP_TCP,      \
      true)                                                                                        \
    X(req_refuses_pair, interop_wrong_peer, "req", "pair", INTEROP_TCP, false)                     \
    X(pair_refuses_pair1, interop_wrong_peer, "pair", "pair1", INTEROP_IPC, false)

/// The same of patterns without answers.
#define NNG_FLOW_CASES(X)                                                                          \
    X(push_listens_tcp, interop_one_way, "push", "pull", INTEROP_TCP, true)                        \
    X(pull_listens_tcp, interop_one_way, "pull", "push", INTEROP_TCP, true)                        \
    X(push_shares_work_listens_tcp, interop_work, "push", "pull", INTEROP_TCP, true)               \
    X(pull_takes_work_listens_tcp, interop_work, "pull", "push", INTEROP_TCP, true)                \
    X(bus_listens_tcp, interop_bus, "bus", "bus", INTEROP_TCP, true)                               \
    X(raw_bus_listens_tcp, interop_bus_raw, "bus", "bus", INTEROP_TCP, true)                       \
    X(polyamorous_pair1_listens_tcp, interop_many, "pair1", "pair1", INTEROP_TCP, true)            \
    X(pair1_of_many_listens_tcp, interop_one_of_many, "pair1", "pair1 poly", INTEROP_TCP, true)    \
    X(push_dials_tcp, interop_one_way, "push", "pull", INTEROP_TCP, false)                         \
    X(pull_dials_tcp, interop_one_way, "pull", "push", INTEROP_TCP, false)                         \
    X(push_shares_work_dials_tcp, interop_work, "push", "pull", INTEROP_TCP, false)                \
    X(pull_takes_work_dials_tcp, interop_work, "pull", "push", INTEROP_TCP, false)                 \
    X(bus_dials_tcp, interop_bus, "bus", "bus", INTEROP_TCP, false)                                \
    X(raw_bus_dials_tcp, interop_bus_raw, "bus", "bus", INTEROP_TCP, false)                        \
    X(polyamorous_pair1_dials_tcp, interop_many, "pair1", "pair1", INTEROP_TCP, false)             \
    X(pair1_of_many_dials_tcp, interop_one_of_many, "pair1", "pair1 poly", INTEROP_TCP, false)     \
    X(push_listens_ipc, interop_one_way, "push", "pull", INTEROP_IPC, true)                        \
    X(pull_listens_ipc, interop_one_way, "pull", "push", INTEROP_IPC, true)                        \
    X(push_shares_work_listens_ipc, interop_work, "push", "pull", INTEROP_IPC, true)               \
    X(pull_takes_work_listens_ipc, interop_work, "pull", "push", INTEROP_IPC, true)                \
    X(bus_listens_ipc, interop_bus, "bus", "bus", INTEROP_IPC, true)                               \
    X(raw_bus_listens_ipc, interop_bus_raw, "bus", "bus", INTEROP_IPC, true)                       \
    X(polyamorous_pair1_listens_ipc, interop_many, "pair1", "pair1", INTEROP_IPC, true)            \
    X(pair1_of_many_listens_ipc, interop_one_of_many, "pair1", "pair1 poly", INTEROP_IPC, true)    \
    X(push_dials_ipc, interop_one_way, "push", "pull", INTEROP_IPC, false)                         \
    X(pull_dials_ipc, interop_one_way, "pull", "push", INTEROP_IPC, false)                         \
    X(push_shares_work_dials_ipc, interop_work, "push", "pull", INTEROP_IPC, false)                \
    X(pull_takes_work_dials_ipc, interop_work, "pull", "push", INTEROP_IPC, false)                 \
    X(bus_dials_ipc, interop_bus, "bus", "bus", INTEROP_IPC, false)                                \
    X(raw_bus_dials_ipc, interop_bus_raw, "bus", "bus", INTEROP_IPC, false)                        \
    X(polyamorous_pair1_dials_ipc, interop_many, "pair1", "pair1", INTEROP_IPC, false)             \
    X(pair1_of_many_dials_ipc, interop_one_of_many, "pair1", "pair1 poly", INTEROP_IPC, false)     \
    X(bus_sizes, interop_sizes, "bus", "bus", INTEROP_TCP, false)                                  \
    X(push_refuses_push, interop_wrong_peer, "push", "push", INTEROP_TCP, false)                   \
    X(bus_refuses_pair, interop_wrong_peer, "bus", "pair", INTEROP_IPC, false)

#define NNG_TEST(test, scenario, own, its, transport, own_listens)                                 \
    static void test(void **state)                                                                 \
    {                                                                                              \
        static const struct interop_case c = {&nng_side, own, its, transport, own_listens};        \
                                                                                                   \
        (void)state;                                                                               \
        scenario(&c);                                                                              \
    }
NNG_CASES(NNG_TEST)
NNG_FLOW_CASES(NNG_TEST)

int main(void)
{
#define NNG_ENTRY(test, scenario, own, its, transport, own_listens) cmocka_unit_test(test),
    const struct CMUnitTest tests[] = {NNG_CASES(NNG_ENTRY) NNG_FLOW_CASES(NNG_ENTRY)};

    peer_environment();
    return cmocka_run_group_tests_name("nng", tests, NULL, NULL);
}

#else

int main(void)
{
    (void)puts("skipped: built without libnng (libnng-dev)");
    return 77;
}

#endif
