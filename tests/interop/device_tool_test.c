/* SPDX-License-Identifier: MIT */
/// `sp device`: its command line, what goes through it between other programs, and its end by
/// Ctrl-C.
#include "peer_cat.h"

#include <stdarg.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *text(const struct proc_bytes *bytes)
{
    return bytes->data != NULL ? bytes->data : "";
}

/// Runs `sp device`, which ends with `code`; what it says is one line that begins so, or with 0
/// text.
static void expect(const char *args, int code, const char *beginning)
{
    struct proc p = {0};
    const char *said;

    assert_int_equal(peer_run_sp(&p, "device%s%s", args[0] != '\0' ? " " : "", args), code);
    said = text(code == 0 ? &p.output : &p.errors);
    if (strncmp(said, beginning, strlen(beginning)) != 0) {
        fail_msg("sp device %s: \"%s\"", args, said);
    }
    if (code != 0) {
        assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
        assert_string_equal(text(&p.output), "");
    }
    proc_stop(&p);
}

static void wrong_usage_exits_with_2(void **state)
{
    (void)state;
    expect("--help", 0, "Usage: sp device PATTERN");
    expect("reqrep --listen tcp://127.0.0.1:0 -- -h", 0, "Usage: sp device PATTERN");
    expect("", 2, "sp device: which pattern?");
    expect("reqrep", 2, "sp device: a side has no address");
    expect("reqrep --listen tcp://127.0.0.1:0 --", 2, "sp device: a side has no address");
    expect("reqrep -- --listen tcp://127.0.0.1:0", 2, "sp device: a side has no address");
    expect("reqrep --listen tcp://127.0.0.1:0", 2,
           "sp device: this pattern needs a second side, behind \"--\"");
    expect("bus --listen a -- --listen b -- --listen c", 2,
           "sp device: there are more than two sides");
    expect("bus --listen a -- bus --listen b", 2, "sp device: \"bus\" is one word too many");
    expect("bus bus --listen a", 2, "sp device: \"bus\" is one word too many");
    expect("bus --listen a --option b", 2, "sp device: --option wants NAME=VALUE");
    expect("bus --listen a --option =b", 2, "sp device: --option wants NAME=VALUE");
    expect("bus --listen", 2, "sp device: ");
    expect("bus --nosuch", 2, "sp device: there is no option --nosuch");
}

static void failures_exit_with_1(void **state)
{
    (void)state;
    expect("nosuch --listen tcp://127.0.0.1:0", 1, "sp device: open");
    expect("pair,pair1 --listen tcp://127.0.0.1:0 -- --listen tcp://127.0.0.1:0", 1,
           "sp device: device: \"pair\" and \"pair1\" do not talk to each other");
    expect("req,req --listen tcp://127.0.0.1:0", 1,
           "sp device: device: \"req\" does not talk to its own kind");
    expect("bus --listen nosuch://place", 1, "sp device: ");
    expect("bus --dial tcp", 1, "sp device: ");
    expect("bus --listen ipc:///nonexistent/socket", 1,
           "sp device: listen ipc:///nonexistent/socket");
    expect("bus --listen ipc:///tmp --option nosuch=1", 1, "sp device: listen ipc:///tmp");
    expect("bus --dial tcp://127.0.0.1:1 --option nosuch=1", 1,
           "sp device: neither the socket nor an address has the option nosuch");
    expect("bus --dial tcp://127.0.0.1:1 --option recv-buffer=-7", 1, "sp device: option");
}

/// Starts a device between two ports that it listens at.
static void start(struct proc *p, const char *pattern, int front, int back)
{
    char fa[48];
    char ba[48];
    const char *argv[] = {SP_TEST_BUILD_DIR "/bin/sp",
                          "device",
                          pattern,
                          "--listen",
                          fa,
                          "--option",
                          "recv-buffer=7",
                          "--",
                          "--listen",
                          ba,
                          "--option",
                          "tcp-nodelay=true",
                          NULL};

    (void)snprintf(fa, sizeof(fa), "tcp://127.0.0.1:%d", front);
    (void)snprintf(ba, sizeof(ba), "tcp://127.0.0.1:%d", back);
    assert_int_equal(proc_start(p, argv), 0);
    assert_true(proc_wait_port(back, PROC_SOON));
}

static void stop(struct proc *p, int signal_number)
{
    proc_signal(p, signal_number);
    assert_int_equal(proc_wait(p, PROC_SOON), 0);
    assert_string_equal(text(&p->errors), "");
    proc_stop(p);
}

static void it_says_where_it_listens_and_ends_by_a_signal(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *const argv[] = {SP_TEST_BUILD_DIR "/bin/sp",
                                    "device",
                                    "reqrep",
                                    "--listen",
                                    "tcp://127.0.0.1:0",
                                    "--",
                                    "--dial",
                                    "tcp://127.0.0.1:1",
                                    NULL};
        struct proc p = {0};

        assert_int_equal(proc_start(&p, argv), 0);
        assert_true(proc_wait_text(&p, "Listening at: tcp://127.0.0.1:", PROC_SOON));
        assert_null(strstr(text(&p.output), ":0\n"));
        stop(&p, i == 0 ? SIGINT : SIGTERM);
    }
}

/// Questions and answers between programs of the three libraries.
static void questions_go_through(void **state)
{
    static const enum peer_program programs[] = {PEER_SP, PEER_NNGCAT, PEER_NANOCAT};

    (void)state;
    for (int i = 0; i < 9; i++) {
        enum peer_program asks = programs[i / 3];
        enum peer_program answers = programs[i % 3];
        struct proc device = {0};
        struct proc rep = {0};
        struct proc req = {0};
        int front = proc_free_port();
        int back = proc_free_port();

        if (!peer_exists(asks) || !peer_exists(answers)) {
            continue;
        }
        start(&device, "reqrep", front, back);
        assert_int_equal(
            peer_start(&rep, answers, "--rep --connect tcp://127.0.0.1:%d -D answer", back), 0);
        assert_int_equal(
            peer_start(&req, asks, "--req --connect tcp://127.0.0.1:%d -Q -D question", front), 0);
        if (!proc_wait_text(&req, "\"answer\"\n", PROC_SOON)) {
            fail_msg("%s asks, %s answers: \"%s\"", peer_name(asks), peer_name(answers),
                     text(&req.errors));
        }
        proc_stop(&req);
        proc_stop(&rep);
        stop(&device, SIGINT);
    }
}

static void one_side_reflects(void **state)
{
    const char *argv[] = {SP_TEST_BUILD_DIR "/bin/sp", "device", "pair", "--listen", NULL, NULL};
    struct proc device = {0};
    struct proc pair = {0};
    char url[48];
    int port = proc_free_port();

    (void)state;
    (void)snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", port);
    argv[4] = url;
    assert_int_equal(proc_start(&device, argv), 0);
    assert_true(proc_wait_port(port, PROC_SOON));
    assert_int_equal(peer_start(&pair, PEER_SP, "--pair -l %d -D shout -Q", port), 0);
    assert_true(proc_wait_text(&pair, "\"shout\"\n", PROC_SOON));
    proc_stop(&pair);
    stop(&device, SIGTERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_usage_exits_with_2),
        cmocka_unit_test(failures_exit_with_1),
        cmocka_unit_test(it_says_where_it_listens_and_ends_by_a_signal),
        cmocka_unit_test(questions_go_through),
        cmocka_unit_test(one_side_reflects),
    };

    peer_environment();
    return cmocka_run_group_tests_name("device_tool", tests, NULL, NULL);
}
