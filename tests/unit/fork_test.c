/* SPDX-License-Identifier: MIT */
/// fork without exec: the child's calls give SP_ESTATE, the parent goes on as if nothing were.
#include "check.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static sp_socket a;
static sp_socket b;

/// In the child: which call did not give SP_ESTATE; 0: all did. No cmocka here.
static int child_calls(void)
{
    char buf[8];
    int64_t v;
    size_t n = 0;
    size_t cap = sizeof(buf);
    sp_socket s = {0};
    sp_listener l = {0};
    sp_dialer d = {0};
    sp_msg *m = NULL;
    char *json = NULL;

    sp_fini(); // Nothing.
    if (sp_open(&s, "pair") != SP_ESTATE) {
        return 1;
    }
    if (sp_init(NULL) != SP_ESTATE) {
        return 2;
    }
    if (sp_send(a, "x", 1, 0) != SP_ESTATE || sp_send(a, "x", 1, SP_NONBLOCK) != SP_ESTATE) {
        return 3;
    }
    if (sp_recv(a, buf, sizeof(buf), 0) != SP_ESTATE) {
        return 4;
    }
    if (sp_recvmsg(a, &m, 0) != SP_ESTATE) {
        return 5;
    }
    if (sp_close(a) != SP_ESTATE) {
        return 6;
    }
    if (sp_listen(a, "inproc://child", NULL) != SP_ESTATE ||
        sp_dial(a, "inproc://child", NULL, 0) != SP_ESTATE) {
        return 7;
    }
    if (sp_listener_new(&l, a, "inproc://child") != SP_ESTATE ||
        sp_dialer_new(&d, a, "inproc://child") != SP_ESTATE) {
        return 8;
    }
    if (sp_set_int(a.id, "linger", 0) != SP_ESTATE || sp_get_int(a.id, "linger", &v) != SP_ESTATE ||
        sp_get_str(a.id, "name", buf, &cap) != SP_ESTATE) {
        return 9;
    }
    if (sp_on_pipe(a, NULL, NULL) != SP_ESTATE || sp_peers(a, NULL, &n) != SP_ESTATE) {
        return 10;
    }
    if (sp_stats(0, &json) != SP_ESTATE || sp_stats(a.id, &json) != SP_ESTATE) {
        return 11;
    }
    if (sp_run_once(0) != SP_ESTATE) {
        return 12;
    }
    if (strcmp(sp_error_detail(), "called in a child after fork") != 0) {
        return 13;
    }
    if (sp_plugins("pair", &json) != SP_ESTATE) {
        return 14;
    }
    if (sp_plugin_load("/no/such/plugin.so") != SP_ESTATE) {
        return 15;
    }
    if (sp_strerror(SP_EAGAIN) == NULL || sp_version() == NULL) {
        return 16;
    }
    return 0;
}

static int run_child(int (*fn)(void))
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        (void)alarm(10);
        _exit(fn());
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void traffic(void)
{
    for (int i = 0; i < 100; i++) {
        check_send(a, "there");
        check_recv(b, "there");
        check_send(b, "back");
        check_recv(a, "back");
    }
}

static void child_after_fork_gets_estate_and_the_parent_goes_on(void **state)
{
    static const char *const transports[] = {"inproc", "tcp", "ipc"};

    (void)state;
    for (int threads = 0; threads < 3; threads += 2) {
        for (int i = 0; i < 3; i++) {
            check_init(threads);
            check_couple(transports[i], "pair", "pair", &a, &b);
            traffic();
            for (int k = 0; k < 5; k++) {
                assert_int_equal(run_child(child_calls), 0);
                traffic();
            }
            check_rest(a);
            check_rest(b);
            check_ok(sp_close(a));
            check_ok(sp_close(b));
            check_fini();
        }
    }
}

static long chatter(void *arg)
{
    long n = 0;

    (void)arg;
    for (;;) {
        char buf[8];

        if (sp_send(a, "x", 1, 0) < 0 || sp_recv(b, buf, sizeof(buf), 0) < 0) {
            return n;
        }
        n++;
    }
}

static void fork_under_traffic_disturbs_nobody(void **state)
{
    struct check_call c;

    (void)state;
    check_init(2);
    check_couple("tcp", "pair", "pair", &a, &b);
    check_call_start(&c, chatter, NULL);
    check_until(check_stat(a.id, "tx_msgs") > 10);
    for (int i = 0; i < 30; i++) {
        int64_t before = check_stat(a.id, "tx_msgs");

        assert_int_equal(run_child(child_calls), 0);
        check_until(check_stat(a.id, "tx_msgs") > before + 10);
    }
    check_ok(sp_close(a));
    check_ok(sp_close(b));
    assert_true(check_call_join(&c, CHECK_SOON) > 300);
    check_fini();
}

static int child_messages(void)
{
    sp_msg *m = NULL;

    return sp_msg_new(&m, 10) == SP_ESTATE ? 0 : 1;
}

/// sp.h: "in a child after fork without exec every function gives SP_ESTATE".
static void child_makes_no_messages(void **state)
{
    (void)state;
    check_init(2);
    check_ok(sp_close(check_open("pair")));
    assert_int_equal(run_child(child_messages), 0);
    check_fini();
}

static int child_of_fresh(void)
{
    sp_socket s = {0};

    if (sp_open(&s, "pair") != SP_OK || sp_close(s) != SP_OK) {
        return 1;
    }
    sp_fini();
    return 0;
}

/// A process that forks before it ever used the library may use it in the child.
static void child_of_a_process_that_never_used_it_may(void **state)
{
    (void)state;
    assert_int_equal(run_child(child_of_fresh), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(child_of_a_process_that_never_used_it_may), // First.
        cmocka_unit_test(child_after_fork_gets_estate_and_the_parent_goes_on),
        cmocka_unit_test(fork_under_traffic_disturbs_nobody),
        cmocka_unit_test(child_makes_no_messages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
