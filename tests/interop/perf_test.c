/* SPDX-License-Identifier: MIT */
/// `sp perf`: every pattern, in one process and between two, and where messages are lost.
#include "dgram_relay.h"
#include "peer_cat.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <cjson/cJSON.h>

#define WAY_BACK "pair", "pair1", "bus"
#define NO_WAY_BACK "pushpull", "pubsub"

static double member(const cJSON *o, const char *name)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(o, name);

    if (!cJSON_IsNumber(value)) {
        fail_msg("no number \"%s\"", name);
    }
    return value->valuedouble;
}

/// Runs `sp perf` with `args`, and gives what it printed.
static cJSON *measure(const char *args)
{
    struct proc p = {0};
    cJSON *o;

    if (peer_run_sp(&p, "perf %s", args) != 0) {
        fail_msg("sp perf %s: %s", args, p.errors.data != NULL ? p.errors.data : "");
    }
    o = cJSON_Parse(p.output.data != NULL ? p.output.data : "");
    assert_non_null(o);
    proc_stop(&p);
    return o;
}

/// Whether it measured so many, and none was lost.
static void measures(const char *args, int count)
{
    cJSON *o = measure(args);

    assert_int_equal(member(o, "count"), count);
    assert_true(member(o, "rate") > 0);
    if (cJSON_HasObjectItem(o, "sent")) {
        assert_int_equal(member(o, "sent"), count);
        assert_int_equal(member(o, "received"), count);
        assert_int_equal(member(o, "lost"), 0);
    }
    cJSON_Delete(o);
}

/// The end that listens, at a free port of 127.0.0.1: which one it is.
static int serve(struct proc *p, const char *scheme, const char *protocol)
{
    const char *at;
    char url[64];
    const char *argv[] = {
        SP_TEST_BUILD_DIR "/bin/sp", "perf", "thr", "--protocol", protocol, "--listen", url, NULL};

    (void)snprintf(url, sizeof(url), "%s://127.0.0.1:0", scheme);
    assert_int_equal(proc_start(p, argv), 0);
    assert_true(proc_wait_error(p, "\n", PROC_SOON));
    at = strrchr(p->errors.data, ':');
    assert_non_null(at);
    return (int)strtol(at + 1, NULL, 10);
}

static void patterns_in_which_both_ends_send(void **state)
{
    static const char *const patterns[] = {WAY_BACK, "reqrep", "survey"};

    (void)state;
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        char args[128];

        (void)snprintf(args, sizeof(args), "lat --json --count 200 --protocol %s", patterns[i]);
        measures(args, 200);
        (void)snprintf(args, sizeof(args),
                       "thr --json --count 2000 --url tcp://127.0.0.1:0 --protocol %s",
                       patterns[i]);
        measures(args, 2000);
    }
}

static void patterns_without_a_way_back(void **state)
{
    static const char *const patterns[] = {NO_WAY_BACK};

    (void)state;
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        char args[128];

        // So few that a SUB's queue takes them, however slow its receiver is.
        (void)snprintf(args, sizeof(args), "thr --json --count 100 --protocol %s", patterns[i]);
        measures(args, 100);
        (void)snprintf(args, sizeof(args), "thr --json --count 1 --protocol %s", patterns[i]);
        measures(args, 1);
        (void)snprintf(args, sizeof(args),
                       "thr --json --count 100 --batch 7 --url tcp://127.0.0.1:0 --protocol %s",
                       patterns[i]);
        measures(args, 100);
    }
}

static void two_processes(void **state)
{
    struct proc server = {0};
    char args[128];
    int port = serve(&server, "tcp", "bus");

    (void)state;
    (void)snprintf(args, sizeof(args),
                   "thr --json --count 5000 --batch 64 --protocol bus --dial tcp://127.0.0.1:%d",
                   port);
    measures(args, 5000);
    proc_stop(&server);
}

static void it_prints_where_it_counts_if_there_is_no_way_back(void **state)
{
    static const char *const patterns[] = {NO_WAY_BACK};

    (void)state;
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        struct proc server = {0};
        int port = serve(&server, "tcp", patterns[i]);

        for (int n = 100; n <= 101; n++) {
            struct proc client = {0};
            char text[64];

            assert_int_equal(peer_run_sp(&client,
                                         "perf thr --protocol %s --count %d --dial "
                                         "tcp://127.0.0.1:%d",
                                         patterns[i], n, port),
                             0);
            (void)snprintf(text, sizeof(text), "64 bytes, %d messages in", n);
            assert_true(proc_wait_text(&server, text, PROC_SOON));
            proc_stop(&client);
        }
        proc_stop(&server);
    }
}

/// The sender does not wait for the receiver there: how many are lost depends on the machine.
static void what_is_lost_is_counted(void **state)
{
    static const char *const patterns[] = {WAY_BACK, NO_WAY_BACK};

    (void)state;
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        char args[128];
        cJSON *o;

        (void)snprintf(args, sizeof(args),
                       "thr --json --count 5000 --url udp://127.0.0.1:0 --protocol %s",
                       patterns[i]);
        o = measure(args);
        assert_int_equal(member(o, "sent"), 5000);
        assert_true(member(o, "received") > 0);
        assert_int_equal(member(o, "sent"), member(o, "received") + member(o, "lost"));
        cJSON_Delete(o);
    }
}

/// A quarter of all datagrams is lost, those that begin and end the measurement, too.
static void it_ends_though_beginning_and_end_may_be_lost(void **state)
{
    const struct dgram_rules rules = {.loss = 25, .data_only = true};
    struct proc server = {0};
    struct dgram_relay *relay = dgram_relay_local((unsigned)serve(&server, "udp", "pair"), 11);
    char args[128];

    (void)state;
    dgram_relay_rules(relay, DGRAM_TO_LISTENER, &rules);
    dgram_relay_rules(relay, DGRAM_TO_DIALER, &rules);
    (void)snprintf(args, sizeof(args),
                   "thr --json --size 20000 --count 500 --protocol pair --dial udp://127.0.0.1:%u",
                   dgram_relay_port(relay));
    for (int i = 0; i < 3; i++) {
        cJSON *o = measure(args);

        assert_true(member(o, "lost") > 0);
        assert_int_equal(member(o, "sent"), member(o, "received") + member(o, "lost"));
        cJSON_Delete(o);
    }
    dgram_relay_close(relay);
    proc_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_in_which_both_ends_send),
        cmocka_unit_test(patterns_without_a_way_back),
        cmocka_unit_test(two_processes),
        cmocka_unit_test(it_prints_where_it_counts_if_there_is_no_way_back),
        cmocka_unit_test(what_is_lost_is_counted),
        cmocka_unit_test(it_ends_though_beginning_and_end_may_be_lost),
    };

    peer_environment();
    return cmocka_run_group_tests_name("perf", tests, NULL, NULL);
}
