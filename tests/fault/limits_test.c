/* SPDX-License-Identifier: MIT */
/// Resources that run out or grow: descriptors, queues, threads, memory of many pipes.
#include "fault.h"
#include "fault_peer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FD_LIMIT 256

/* ------------------------------------------------------------------ Without descriptors */

/// In a role, which has no directory of the setup: `arg` is a URL.
static sp_socket role_listen(const char *url, char bound[FAULT_URL])
{
    size_t n = FAULT_URL;
    sp_socket s = {0};
    sp_listener l;

    FAULT_CHECK(sp_open(&s, "rep") == 0);
    FAULT_CHECK(sp_listen(s, url, &l) == 0);
    FAULT_CHECK(sp_get_str(l.id, "url", bound, &n) == 0);
    return s;
}

/// Listens, uses up the descriptors, says so, backs off while peers come, and takes them when there
/// are descriptors again.
static int role_no_fd_in_accept(int argc, char **argv)
{
    char url[FAULT_URL];
    long long start;
    long long cpu;
    sp_socket s;

    FAULT_CHECK(argc == 1);
    s = role_listen(argv[0], url);
    FAULT_CHECK(fault_fds_fill(FD_LIMIT) > 100);
    fault_say(url);
    // The first failed attempt, then about a second of them.
    FAULT_CHECK(FAULT_WAIT(fault_stat(s.id, "listeners.0.oom") >= 1, FAULT_SOON));
    start = proc_now();
    cpu = fault_cpu();
    while (proc_now() - start < 1000) {
        (void)FAULT_WAIT(false, 100); // A look now and then must not be what is measured.
        FAULT_CHECK(fault_stat(s.id, "pipes") == 0);
    }
    cpu = fault_cpu() - cpu;
    if (!FAULT_SANITIZED) {
        FAULT_CHECK(cpu * 20 <= proc_now() - start);
    }
    FAULT_CHECK(fault_stat(s.id, "listeners.0.oom") >= 3);
    FAULT_CHECK(fault_stat(s.id, "listeners.0.oom") <= 100);
    fault_fds_free(1);
    FAULT_CHECK(FAULT_WAIT(fault_stat(s.id, "pipes") == 1, 1000));
    fault_fds_free(100);
    start = proc_now();
    FAULT_CHECK(FAULT_WAIT(fault_stat(s.id, "pipes") == 10, 1000));
    FAULT_CHECK(proc_now() - start <= 1000);
    fault_say("taken");
    fault_await();
    sp_fini();
    return 0;
}

static void accept_without_descriptors_backs_off_and_recovers(void **state)
{
    char place[FAULT_URL];
    char url[FAULT_URL];
    struct fault_peer p[10];
    struct proc other;

    fault_place(*state, place);
    fault_start(&other, "no-fd-in-accept", place, NULL);
    assert_true(proc_wait_text(&other, "\n", FAULT_SOON));
    (void)snprintf(url, sizeof(url), "%.*s", (int)strcspn(other.output.data, "\n"),
                   other.output.data);
    for (int i = 0; i < 10; i++) {
        assert_true(fault_peer_connect(&p[i], url)); // The system takes it.
        assert_true(fault_peer_put(&p[i], "\0SP\0\0\x30\0\0", 8));
    }
    if (proc_wait_text(&other, "taken\n", 3 * FAULT_SOON)) {
        assert_int_equal(proc_write(&other, "\n", 1), 0);
    }
    fault_finish(&other);
    for (int i = 0; i < 10; i++) {
        fault_peer_close(&p[i]);
    }
}

/// Every call that needs a descriptor says that there is none; later it works.
static int role_no_fd_in_calls(int argc, char **argv)
{
    char url[FAULT_URL];
    sp_socket rep = role_listen(argv[0], url);
    sp_socket req = {0};
    sp_socket pair = {0};
    sp_listener l = {1};
    sp_dialer d = {1};
    int rc;

    FAULT_CHECK(argc == 2);
    FAULT_CHECK(sp_open(&req, "req") == 0); // The plugins are loaded.
    FAULT_CHECK(sp_open(&pair, "pair") == 0);
    FAULT_CHECK(sp_set_int(req.id, "reconnect-time-min", 10) == 0);
    FAULT_CHECK(sp_set_int(req.id, "reconnect-time-max", 50) == 0);
    FAULT_CHECK(fault_fds_fill(FD_LIMIT) > 100);
    FAULT_CHECK(sp_dial(req, url, &d, 0) == -EMFILE);
    FAULT_CHECK(d.id == 0);
    FAULT_CHECK(sp_errcat(-EMFILE) == SP_CAT_RESOURCE);
    FAULT_CHECK(sp_listen(rep, argv[1], &l) == -EMFILE);
    FAULT_CHECK(l.id == 0);
    FAULT_CHECK(fault_stat(req.id, "dialers.0.connect") == -1);
    FAULT_CHECK(fault_stat(rep.id, "listeners.1.connect") == -1);
    rc = sp_open(&pair, "pair"); // Needs none.
    FAULT_CHECK(rc == 0 || rc == -EMFILE);
    FAULT_CHECK(sp_dial(req, url, &d, SP_NONBLOCK) == 0);
    FAULT_CHECK(FAULT_WAIT(fault_stat(d.id, "oom") >= 3, FAULT_SOON));
    fault_fds_free(20);
    FAULT_CHECK(FAULT_WAIT(fault_stat(req.id, "pipes") == 1, 1000));
    FAULT_CHECK(sp_listen(rep, argv[1], &l) == 0);
    sp_fini();
    return 0;
}

static void calls_without_descriptors_fail_and_work_later(void **state)
{
    char first[FAULT_URL];
    char second[FAULT_URL];
    struct proc other;

    fault_place(*state, first);
    fault_place(*state, second);
    fault_start(&other, "no-fd-in-calls", first, second);
    fault_finish(&other);
}

/// Not even the library can start; afterwards it can.
static int role_no_fd_at_start(int argc, char **argv)
{
    sp_socket s = {0};

    (void)argc;
    FAULT_CHECK(fault_fds_fill(FD_LIMIT) > 100);
    FAULT_CHECK(sp_open(&s, "pair") == -EMFILE);
    FAULT_CHECK(s.id == 0);
    fault_fds_free(2); // For the library itself, but not for its plugins.
    FAULT_CHECK(sp_open(&s, "pair") < 0);
    fault_fds_free(50);
    FAULT_CHECK(sp_open(&s, "pair") == 0);
    FAULT_CHECK(sp_listen(s, argv[0], NULL) == 0);
    sp_fini();
    return 0;
}

static void library_starts_when_there_are_descriptors_again(void **state)
{
    char url[FAULT_URL];
    struct proc other;

    fault_place(*state, url);
    fault_start(&other, "no-fd-at-start", url, NULL);
    fault_finish(&other);
}

/// A plugin that cannot be opened now is not refused for ever.
static int role_no_fd_for_a_plugin(int argc, char **argv)
{
    sp_socket pair = {0};
    sp_socket req = {0};

    (void)argc;
    FAULT_CHECK(sp_open(&pair, "pair") == 0);
    FAULT_CHECK(fault_fds_fill(FD_LIMIT) > 100);
    FAULT_CHECK(sp_open(&req, "req") < 0);
    FAULT_CHECK(req.id == 0);
    FAULT_CHECK(sp_listen(pair, argv[0], NULL) < 0);
    fault_fds_free(50);
    FAULT_CHECK(sp_open(&req, "req") == 0);
    FAULT_CHECK(sp_listen(pair, argv[0], NULL) == 0);
    sp_fini();
    return 0;
}

static void plugin_loads_when_there_are_descriptors_again(void **state)
{
    char url[FAULT_URL];
    struct proc other;

    fault_place(*state, url);
    fault_start(&other, "no-fd-for-a-plugin", url, NULL);
    fault_finish(&other);
}

/* ------------------------------------------------------------------ Full queues */

#define BODY 10000

static void full_queue_blocks_and_loses_nothing(void **state)
{
    static char body[BODY];
    static char buf[BODY];
    char url[FAULT_URL];
    sp_socket s = fault_listen("pair", *state, url);
    struct fault_peer p;
    long long sent = 0;
    sp_msg *m;

    assert_true(fault_peer_join(&p, url, RAWSP_PAIR));
    FAULT_STAT(s.id, "pipes", 1);
    // Until nothing moves any more: what is queued may still be on its way out.
    while (FAULT_WAIT(sp_send(s, body, BODY, SP_NONBLOCK) == 0, 200)) {
        sent++;
    }
    assert_int_equal(sp_send(s, body, BODY, SP_NONBLOCK), SP_EAGAIN);
    FAULT_STAT(s.id, "tx_accepted", sent);
    // "send-buffer" is 128; what was written is reported by the quarter of it.
    assert_in_range(fault_stat(s.id, "tx_queued"), 128 - 31, 128);
    // A time-out leaves the message with the caller.
    FAULT_OK(sp_set_int(s.id, "send-timeout", 20));
    FAULT_OK(sp_msg_new(&m, 3));
    memcpy(sp_msg_data(m), "abc", 3);
    assert_int_equal(sp_sendmsg(s, m, 0), SP_ETIMEDOUT);
    assert_int_equal(sp_msg_len(m), 3);
    assert_memory_equal(sp_msg_view(m), "abc", 3);
    sp_msg_release(m);
    FAULT_STAT(s.id, "tx_accepted", sent);
    FAULT_STAT(s.id, "tx_drops.full", 0);
    FAULT_AT_REST(s);
    for (long long i = 0; i < sent; i++) {
        assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), FAULT_SOON), BODY);
    }
    FAULT_STAT(s.id, "tx_msgs", sent);
    FAULT_STAT(s.id, "tx_queued", 0);
    FAULT_OK(sp_send(s, body, 1, SP_NONBLOCK)); // There is room again.
    assert_int_equal(fault_peer_recv(&p, buf, sizeof(buf), FAULT_SOON), 1);
    FAULT_AT_REST(s);
    fault_peer_close(&p);
}

/// Writes one message of BODY bytes to a socket that does not block. False: it took longer.
static bool push(struct fault_peer *p, int ms)
{
    static unsigned char wire[9 + BODY] = {1, 0, 0, 0, 0, 0, 0, BODY >> 8, BODY & 255};
    long long end = proc_now() + ms;
    size_t done = !p->marked;

    while (done < sizeof(wire) && proc_now() < end) {
        ssize_t n = send(p->fd, wire + done, sizeof(wire) - done, MSG_NOSIGNAL);

        done += n > 0 ? (size_t)n : 0;
        if (n < 0) {
            fault_pause();
        }
    }
    return done == sizeof(wire);
}

static void full_receive_queue_holds_the_peer_back(void **state)
{
    static char body[BODY];
    char url[FAULT_URL];
    sp_socket s = fault_listen("pair", *state, url);
    struct fault_peer p;
    int sent = 0;
    int flags;

    assert_true(fault_peer_join(&p, url, RAWSP_PAIR));
    flags = fcntl(p.fd, F_GETFL);
    assert_int_equal(fcntl(p.fd, F_SETFL, flags | O_NONBLOCK), 0);
    while (sent < 100000 && push(&p, 200)) {
        sent++;
    }
    assert_true(sent < 5000); // The queues and the system's buffers, not all of it.
    assert_int_equal(sp_recv(s, body, sizeof(body), SP_NONBLOCK), BODY);
    FAULT_STAT(s.id, "rx_drops.full", 0);
    FAULT_AT_REST(s);
    // Receivers get all of it, and the peer can go on.
    for (int i = 1; i < sent; i++) {
        assert_int_equal(sp_recv(s, body, sizeof(body), 0), BODY);
    }
    FAULT_AT_REST(s);
    fault_peer_close(&p);
}

static void raw_rep_drops_answers_to_a_peer_that_does_not_read(void **state)
{
    char url[FAULT_URL];
    const uint32_t id = 0x80000001;
    sp_socket rep = {0};
    struct fault_peer p;
    sp_msg *request;
    long long dropped = 0;
    long long sent = 0;

    FAULT_OK(sp_open_raw(&rep, "rep"));
    FAULT_OK(sp_set_int(rep.id, "linger", 0));
    fault_place(*state, url);
    FAULT_OK(sp_listen(rep, url, NULL));
    assert_true(fault_peer_join(&p, url, RAWSP_REQ));
    assert_true(fault_peer_words(&p, &id, 1, "?"));
    FAULT_OK(sp_recvmsg(rep, &request, 0));
    for (; dropped == 0 && sent < 100000; sent++) {
        sp_msg *m = sp_msg_clone(request);

        assert_non_null(m);
        assert_int_equal(sp_msg_resize(m, BODY), 0);
        FAULT_OK(sp_sendmsg(rep, m, 0)); // Never waits for one slow peer.
        dropped = fault_stat(rep.id, "tx_drops.full");
    }
    assert_true(dropped > 0);
    FAULT_STAT(rep.id, "tx_accepted", sent);
    FAULT_AT_REST(rep);
    sp_msg_release(request);
    fault_peer_close(&p);
}

/* ------------------------------------------------------------------ Many */

#define STAMPEDE 60

static void reconnecting_peers_do_not_come_at_once(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("rep");
    struct fault_peer p[STAMPEDE];
    long long when[STAMPEDE];
    int slots[10] = {0};
    int fullest = 0;
    int listener;
    long long start;

    fault_place(*state, url);
    listener = fault_peer_listen(url);
    FAULT_OK(sp_set_int(s.id, "reconnect-time-min", 500));
    for (int i = 0; i < STAMPEDE; i++) {
        FAULT_OK(sp_dial(s, url, NULL, SP_NONBLOCK));
        assert_true(fault_peer_accept(&p[i], listener, url, FAULT_SOON));
        assert_true(fault_peer_hello(&p[i], RAWSP_REQ));
    }
    FAULT_STAT(s.id, "pipes", STAMPEDE);
    for (int i = 0; i < STAMPEDE; i++) {
        fault_peer_close(&p[i]);
    }
    start = proc_now();
    for (int i = 0; i < STAMPEDE; i++) {
        assert_true(fault_peer_accept(&p[i], listener, url, FAULT_SOON));
        when[i] = proc_now() - start;
        fullest = fullest > ++slots[when[i] < 500 ? when[i] / 50 : 9]
                      ? fullest
                      : slots[when[i] < 500 ? when[i] / 50 : 9];
    }
    // Uniform in [0, 500): six a slot of 50 ms are expected; a third of them in one is no chance.
    assert_true(fullest <= STAMPEDE / 3);
    assert_true(when[STAMPEDE - 1] - when[0] > 250);
    assert_true(when[STAMPEDE - 1] < 1000);
    for (int i = 0; i < STAMPEDE; i++) {
        fault_peer_close(&p[i]);
    }
    (void)close(listener);
}

/// The pause grows while nobody is there, and is short again after a useful connection.
static void pause_between_attempts_grows(void **state)
{
    char url[FAULT_URL];
    sp_socket s = fault_open("pair");
    sp_dialer d;
    long long start = proc_now();
    long long early;
    long long late;

    fault_place(*state, url);
    FAULT_OK(sp_set_int(s.id, "reconnect-time-min", 10));
    FAULT_OK(sp_set_int(s.id, "reconnect-time-max", 400));
    FAULT_OK(sp_dial(s, url, &d, SP_NONBLOCK));
    assert_true(FAULT_WAIT(fault_stat(d.id, "refused") >= 5, FAULT_SOON));
    early = proc_now() - start;
    assert_true(early <= 10 + 20 + 40 + 80 + 160 + 200);
    assert_true(FAULT_WAIT(fault_stat(d.id, "refused") >= 8, FAULT_SOON));
    late = fault_stat(d.id, "refused");
    start = proc_now();
    assert_true(FAULT_WAIT(fault_stat(d.id, "refused") >= late + 5, FAULT_SOON));
    assert_true(proc_now() - start > 100); // Five pauses of 200 ms in the mean.
    FAULT_STAT(s.id, "pipes", 0);
}

#define SOME_PIPES 200

static void pipes_make_no_threads(void **state)
{
    static struct fault_peer p[SOME_PIPES];
    char url[FAULT_URL];
    sp_socket s = fault_listen("rep", *state, url);
    int before = fault_threads();

    for (int i = 0; i < SOME_PIPES; i++) {
        assert_true(fault_peer_join(&p[i], url, RAWSP_REQ));
    }
    FAULT_STAT(s.id, "pipes", SOME_PIPES);
    assert_true(fault_threads() - before <= 4);
    assert_true(fault_stat(0, "runtime.threads") <= 4);
    for (int i = 0; i < SOME_PIPES; i++) {
        fault_peer_close(&p[i]);
    }
    FAULT_STAT(s.id, "pipes", 0);
}

#define MANY_PIPES 2000

static void memory_of_pipes_is_linear_and_comes_back(void **state)
{
    static struct fault_peer p[MANY_PIPES];
    char url[FAULT_URL];
    sp_socket s = fault_listen("rep", *state, url);
    long long at[5];

    for (int i = 0; i < MANY_PIPES; i++) {
        if (i % (MANY_PIPES / 4) == 0) {
            FAULT_STAT(s.id, "pipes", i);
            at[i / (MANY_PIPES / 4)] = fault_memory_bytes();
        }
        assert_true(fault_peer_join(&p[i], url, RAWSP_REQ));
    }
    FAULT_STAT(s.id, "pipes", MANY_PIPES);
    at[4] = fault_memory_bytes();
    for (int i = 0; i < 4; i++) {
        long long each = (at[i + 1] - at[i]) / (MANY_PIPES / 4);

        print_message("%d pipes: %lld bytes each\n", (i + 1) * (MANY_PIPES / 4), each);
        assert_true(each > 0 && each < 8192);
        // Tables double, so a quarter may cost somewhat more or less than another one.
        assert_true(each * 4 < 5 * (at[4] - at[0]) / MANY_PIPES + 256);
    }
    for (int i = 0; i < MANY_PIPES; i++) {
        fault_peer_close(&p[i]);
    }
    FAULT_STAT(s.id, "pipes", 0);
    assert_true(FAULT_WAIT(fault_memory_bytes() - at[0] < (at[4] - at[0]) / 10, FAULT_SOON));
    FAULT_STAT(s.id, "listeners.0.disconnect", MANY_PIPES);
}

static const struct fault_role roles[] = {
    {"no-fd-in-accept", role_no_fd_in_accept},
    {"no-fd-in-calls", role_no_fd_in_calls},
    {"no-fd-at-start", role_no_fd_at_start},
    {"no-fd-for-a-plugin", role_no_fd_for_a_plugin},
};

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FAULT_BOTH(accept_without_descriptors_backs_off_and_recovers),
        FAULT_BOTH(calls_without_descriptors_fail_and_work_later),
        FAULT_BOTH(library_starts_when_there_are_descriptors_again),
        FAULT_BOTH(plugin_loads_when_there_are_descriptors_again),
        FAULT_BOTH(full_queue_blocks_and_loses_nothing),
        FAULT_BOTH(full_receive_queue_holds_the_peer_back),
        FAULT_BOTH(raw_rep_drops_answers_to_a_peer_that_does_not_read),
        FAULT_BOTH(reconnecting_peers_do_not_come_at_once),
        FAULT_BOTH(pause_between_attempts_grows),
        FAULT_BOTH(pipes_make_no_threads),
        FAULT_BOTH(memory_of_pipes_is_linear_and_comes_back),
    };

    fault_memory_install();
    fault_roles(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
