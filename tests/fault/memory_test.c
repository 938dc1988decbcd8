/* SPDX-License-Identifier: MIT */
/// Memory that runs out: each allocation of a life of two sockets fails once, or it and all after
/// it. What fails says SP_ENOMEM; nothing crashes, hangs or leaks, and all works again afterwards.
#include "fault.h"

#include <stdio.h>
#include <string.h>

#define LAST 300

/// Time-outs, ms: of what is only late when memory comes back, and of what waits in vain for a peer
/// that has none.
#define PATIENT 1500
#define HASTY 20

/// How a life went: the first error, and where.
struct life {
    int rc;
    const char *where;
};

/// A step that may fail for lack of memory: afterwards the next ones are skipped.
#define STEP(life, call)                                                                           \
    do {                                                                                           \
        if ((life)->rc >= 0) {                                                                     \
            (life)->rc = (int)(call);                                                              \
            (life)->where = #call;                                                                 \
        }                                                                                          \
    } while (0)

static sp_socket life_open(struct life *l, const char *protocol, int ms)
{
    sp_socket s = {0};

    STEP(l, sp_open(&s, protocol));
    STEP(l, sp_set_int(s.id, "recv-timeout", ms));
    STEP(l, sp_set_int(s.id, "send-timeout", ms));
    STEP(l, sp_set_int(s.id, "connect-timeout", ms));
    STEP(l, sp_set_int(s.id, "linger", 0));
    return s;
}

static void life_talk(struct life *l, sp_socket from, sp_socket to, size_t len)
{
    static char body[100000];
    sp_msg *m = NULL;

    STEP(l, sp_send(from, body, len, 0));
    STEP(l, sp_recvmsg(to, &m, 0));
    if (m != NULL) {
        assert_int_equal(sp_msg_len(m), len);
        sp_msg_release(m);
    }
}

/// Many at once, so that nothing comes out of what is kept for use again.
static void life_burst(struct life *l, sp_socket from, sp_socket to, const char *protocol)
{
    static char body[8000];
    sp_msg *m[60] = {NULL};

    if (strcmp(protocol, "pair") != 0) {
        return;
    }
    for (size_t i = 0; i < 60; i++) {
        STEP(l, sp_send(from, body, i % 2 != 0 ? sizeof(body) : 2000, 0));
    }
    for (size_t i = 0; i < 60; i++) {
        STEP(l, sp_recvmsg(to, &m[i], 0));
    }
    for (size_t i = 0; i < 60; i++) {
        sp_msg_release(m[i]);
    }
}

/// Opens, listens, dials, talks both ways with small and large bodies, asks for everything there is
/// to ask for, and closes.
static struct life live(const char *const names[3], int ms)
{
    struct life l = {0, NULL};
    sp_socket a = life_open(&l, names[0], ms);
    sp_socket b = life_open(&l, names[1], ms);
    sp_peer_info info = {.size = sizeof(info)};
    char *json = NULL;
    size_t n = 1;

    STEP(&l, sp_listen(b, names[2], NULL));
    STEP(&l, sp_dial(a, names[2], NULL, 0));
    life_talk(&l, a, b, 10);
    life_talk(&l, b, a, 1000);
    life_talk(&l, a, b, 100000);
    life_talk(&l, b, a, 0);
    life_burst(&l, a, b, names[0]);
    STEP(&l, sp_peers(a, &info, &n));
    STEP(&l, sp_stats(0, &json));
    sp_free(json);
    STEP(&l, sp_pipe_close(info.pipe));
    if (a.id != 0) {
        assert_int_equal(sp_close(a), 0);
    }
    if (b.id != 0) {
        assert_int_equal(sp_close(b), 0);
    }
    return l;
}

static sp_config *config(int threads)
{
    sp_config *cfg;

    FAULT_OK(sp_config_new(&cfg));
    FAULT_OK(sp_config_set_int(cfg, "threads", threads));
    FAULT_OK(sp_config_set_int(cfg, "log-level", SP_LOG_ERROR));
    return cfg;
}

/// Without failing: works, and warms up what is kept for ever.
static void warm_up(int threads, const char *const names[3])
{
    for (int i = 0; i < 3; i++) {
        sp_config *cfg = config(threads);
        struct life l;

        FAULT_OK(sp_init(cfg));
        sp_config_free(cfg);
        l = live(names, PATIENT);
        if (l.rc < 0) {
            print_error("%s: %d (%s)\n", l.where, l.rc, sp_error_detail());
        }
        assert_true(l.rc >= 0);
        sp_fini();
    }
}

/// What may come of it: no memory here; and between processes (or when there will never be any
/// again) what is seen of a peer that has none.
static bool expected(int rc, bool all, const char *url)
{
    bool wire = strncmp(url, "inproc", 6) != 0;

    return rc >= 0 || rc == SP_ENOMEM || (all && rc == SP_ETIMEDOUT) ||
           (wire && (rc == -ECONNRESET || rc == SP_ECLOSED));
}

/// One life with the n-th allocation failing; whether it came to that.
static bool starve(int threads, const char *const names[3], long n, bool all)
{
    struct life l = {0, NULL};
    sp_config *cfg = config(threads);
    long long start = proc_now();
    bool failed;

    fault_memory_fail(n, all);
    STEP(&l, sp_init(cfg));
    if (l.rc >= 0) {
        l = live(names, all ? HASTY : PATIENT);
    }
    failed = fault_memory_failed();
    fault_memory_fail(0, false);
    sp_config_free(cfg);
    if (!expected(l.rc, all, names[2])) {
        print_error("allocation %ld fails (%s): %s: %d (%s) after %lld ms\n", n,
                    all ? "and all after it" : "once", l.where, l.rc, sp_error_detail(),
                    proc_now() - start);
        fail();
    }
    // On a busy machine a hasty life may time out by itself: that tells nothing, go on.
    assert_true(l.rc >= 0 || failed || (all && l.rc == SP_ETIMEDOUT));
    sp_fini();
    return failed || l.rc < 0;
}

/// Every allocation, until none is left to fail.
static void starve_each(int threads, const char *const names[3], bool all)
{
    long long bytes;
    long long blocks;
    long n = 1;

    warm_up(threads, names);
    bytes = fault_memory_bytes();
    blocks = fault_memory_blocks();
    while (n <= LAST && starve(threads, names, n, all)) {
        n++;
    }
    print_message("%ld allocations\n", n - 1);
    assert_true(n > 10);
    if (threads == 0) {
        // With threads, each one's record stays for the next.
        assert_int_equal(fault_memory_blocks(), blocks);
        assert_int_equal(fault_memory_bytes(), bytes);
    }
    warm_up(threads, names);
}

static const char *const pair_names[3] = {"pair", "pair", "inproc://memory"};
static const char *const reqrep_names[3] = {"req", "rep", "inproc://memory"};

static void pair_survives_every_allocation_that_fails_once(void **state)
{
    (void)state;
    starve_each(0, pair_names, false);
}

static void pair_survives_memory_that_ends(void **state)
{
    (void)state;
    starve_each(0, pair_names, true);
}

static void reqrep_survives_every_allocation_that_fails_once(void **state)
{
    (void)state;
    starve_each(0, reqrep_names, false);
}

static void reqrep_survives_memory_that_ends(void **state)
{
    (void)state;
    starve_each(0, reqrep_names, true);
}

static void threads_survive_every_allocation_that_fails_once(void **state)
{
    (void)state;
    starve_each(2, reqrep_names, false);
}

static void threads_survive_memory_that_ends(void **state)
{
    (void)state;
    starve_each(2, reqrep_names, true);
}

/// The same over a wire.
static void wires_survive_every_allocation_that_fails_once(void **state)
{
    char url[FAULT_URL];
    const char *const names[3] = {"req", "rep", url};

    fault_place(*state, url);
    starve_each(0, names, false);
    starve_each(2, names, false);
}

static void wires_survive_memory_that_ends(void **state)
{
    char url[FAULT_URL];
    const char *const names[3] = {"pair", "pair", url};

    fault_place(*state, url);
    starve_each(0, names, true);
}

/// A failed send leaves the message with the caller, whole.
static void failed_send_leaves_the_message(void **state)
{
    sp_socket s = fault_open("pair");
    sp_msg *m;

    (void)state;
    FAULT_OK(sp_msg_new(&m, 5));
    memcpy(sp_msg_data(m), "hello", 5);
    fault_memory_fail(1, true);
    assert_int_equal(sp_sendmsg(s, m, SP_NONBLOCK), SP_ENOPEER);
    fault_memory_fail(0, false);
    assert_memory_equal(sp_msg_view(m), "hello", 5);
    sp_msg_release(m);
}

/// The setting "memory-max" bounds message memory: a peer cannot make the process grow beyond it.
static void message_memory_is_bounded(void **state)
{
    sp_config *cfg;
    sp_msg *m;

    (void)state;
    FAULT_OK(sp_config_new(&cfg));
    FAULT_OK(sp_config_set_int(cfg, "memory-max", 1 << 20));
    FAULT_OK(sp_init(cfg));
    sp_config_free(cfg);
    assert_int_equal(sp_msg_new(&m, 2 << 20), SP_ENOMEM);
    FAULT_OK(sp_msg_new(&m, 100000));
    sp_msg_release(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAULT_ONE(pair_survives_every_allocation_that_fails_once),
        FAULT_ONE(pair_survives_memory_that_ends),
        FAULT_ONE(reqrep_survives_every_allocation_that_fails_once),
        FAULT_ONE(reqrep_survives_memory_that_ends),
        FAULT_ONE(threads_survive_every_allocation_that_fails_once),
        FAULT_ONE(threads_survive_memory_that_ends),
        FAULT_BOTH(wires_survive_every_allocation_that_fails_once),
        FAULT_BOTH(wires_survive_memory_that_ends),
        FAULT_ONE(failed_send_leaves_the_message),
        FAULT_ONE(message_memory_is_bounded),
    };

    fault_memory_install();
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
