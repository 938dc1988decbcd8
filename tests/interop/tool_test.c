/* SPDX-License-Identifier: MIT */
/// The `sp` command: exit codes, messages, and what its sub-commands show.
#include "peer_cat.h"
#include "rawsp.h"

#include <stdarg.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <cjson/cJSON.h>

static const char *tool_out(const struct proc *p)
{
    return p->output.data != NULL ? p->output.data : "";
}

static const char *tool_err(const struct proc *p)
{
    return p->errors.data != NULL ? p->errors.data : "";
}

/// Exactly one line on standard error that begins so.
static void tool_expect_line(const struct proc *p, const char *beginning)
{
    const char *end = strchr(tool_err(p), '\n');

    if (strncmp(tool_err(p), beginning, strlen(beginning)) != 0 || end == NULL || end[1] != '\0') {
        fail_msg("not one line that begins with \"%s\": \"%s\"", beginning, tool_err(p));
    }
}

/// Runs `sp` with arguments, which must end with `code`; what it says begins with `beginning`.
static void tool_expect(const char *args, int code, const char *beginning)
{
    struct proc p = {0};

    assert_int_equal(peer_run_sp(&p, "%s", args), code);
    if (code == 0) {
        assert_string_equal(tool_err(&p), "");
        assert_true(strncmp(tool_out(&p), beginning, strlen(beginning)) == 0);
    } else {
        tool_expect_line(&p, beginning);
        assert_string_equal(tool_out(&p), "");
    }
    proc_stop(&p);
}

/* ------------------------------------------------------------------ Usage */

static void help_and_version_succeed(void **state)
{
    (void)state;
    tool_expect("--help", 0, "Usage: sp COMMAND");
    tool_expect("-h", 0, "Usage: sp COMMAND");
    tool_expect("--version", 0, "sp ");
    tool_expect("cat --help", 0, "Usage: sp cat");
    tool_expect("cat --version", 0, "sp ");
    tool_expect("plugins --help", 0, "Usage: sp plugins");
    tool_expect("inspect -h", 0, "Usage: sp inspect");
    tool_expect("doctor --help", 0, "Usage: sp doctor");
}

static void wrong_usage_exits_with_2(void **state)
{
    static const char *const wrong[] = {
        "cat",
        "cat --rep",
        "cat --listen tcp://127.0.0.1:1",
        "cat --nosuch",
        "cat --rep -L 1 --listen",
        "cat --rep -L port",
        "cat --rep -L 65536",
        "cat --rep --req -L 1 -D x",
        "cat --req -L 1",
        "cat --push -L 1",
        "cat --pull -L 1 -D x",
        "cat --push -L 1 -D x -A",
        "cat --pair -L 1 -i 1",
        "cat --rep -L 1 -D x -i 1",
        "cat --pair -L 1 -A -Q",
        "cat --pair -L 1 -A -A",
        "cat --pair -L 1 --format Raw",
        "cat --pair -L 1 -D x -F y",
        "cat --pair -L 1 -C many",
        "cat --pair -L 1 -C -1",
        "cat --pair -L 1 -C 2147483648",
        "cat --pair -L 1 -d 86401",
        "cat --pair -L 1 --subscribe x",
        "cat --pair -L 1 --async --compat",
        "cat --pair -L 1 --compat -C 1",
        "cat --pair1 -L 1 --compat",
        "cat --pair -L 1 --option name",
        "cat --pair -L 1 --silent=1",
        "cat --pair -L 1 -qv",
        "cat --pair -L 1 word",
        "plugins word",
        "plugins --nosuch",
        "inspect",
        "inspect req rep",
        "doctor --nosuch",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char beginning[16];

        (void)snprintf(beginning, sizeof(beginning), "sp %.*s: ", (int)strcspn(wrong[i], " "),
                       wrong[i]);
        tool_expect(wrong[i], 2, beginning);
    }
    tool_expect("cat --pa -L 1", 2, "sp cat: option --pa is ambiguous: --pair or --pair1");
    tool_expect("nosuch", 2, "sp: there is no command \"nosuch\"");
    tool_expect("", 2, "sp: which command?");
}

/* ------------------------------------------------------------------ cat */

static void failures_exit_with_1(void **state)
{
    (void)state;
    tool_expect("cat --req -l 1 -D x", 1, "sp cat: dial tcp://127.0.0.1:1");
    tool_expect("cat --req --dial=tcp://127.0.0.1:1 --data=x", 1, "sp cat: dial tcp://127.0.0.1:1");
    tool_expect("cat --pair --dial ipc:///nonexistent/socket", 1,
                "sp cat: dial ipc:///nonexistent");
    tool_expect("cat --pair --dial nosuch://place", 1, "sp cat: ");
    tool_expect("cat --pair --listen tcp", 1, "sp cat: ");
    tool_expect("cat --protocol nosuch -L 1", 1, "sp cat: ");
    tool_expect("cat --pair -L 1 -F /nonexistent", 1, "sp cat: /nonexistent: No such file");
    tool_expect("cat --pair -L 1 -F /tmp", 1, "sp cat: /tmp: Is a directory");
    tool_expect("cat --pair -L 1 --cacert /nonexistent", 1, "sp cat: /nonexistent: No such file");
    tool_expect("cat --pair --listen tcp://127.0.0.1:0 --option nosuch=1", 1, "sp cat: ");
    tool_expect("cat --pair --listen tcp://127.0.0.1:0 --option recv-buffer=-7", 1, "sp cat: ");
    tool_expect("cat --pair --listen tcp://127.0.0.1:0 -D x --send-timeout 1", 1, "sp cat: send");
    tool_expect("cat --pair --listen tls+tcp://127.0.0.1:0 -k", 1, "sp cat: ");
}

static void listening_twice_is_refused(void **state)
{
    struct proc first = {0};
    struct proc second = {0};
    int port = proc_free_port();

    (void)state;
    assert_int_equal(peer_start(&first, PEER_SP, "--rep -L %d", port), 0);
    assert_true(proc_wait_port(port, PROC_SOON));
    assert_int_equal(peer_start(&second, PEER_SP, "--rep -L%d", port), 0);
    assert_int_equal(proc_wait(&second, PROC_SOON), 1);
    tool_expect_line(&second, "sp cat: listen tcp://127.0.0.1:");
    proc_stop(&first);
    proc_stop(&second);
}

static void ctrl_c_ends_waiting_with_success(void **state)
{
    static const char *const args[] = {
        "--rep --listen tcp://127.0.0.1:0 -v",
        "--pair --listen tcp://127.0.0.1:0 -v -D x",
        "--pair --listen tcp://127.0.0.1:0 -v -D x -d 100",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++) {
        struct proc p = {0};

        assert_int_equal(peer_start(&p, PEER_SP, "%s", args[i]), 0);
        assert_true(proc_wait_text(&p, "Listening at: tcp://127.0.0.1:", PROC_SOON));
        proc_signal(&p, i == 1 ? SIGTERM : SIGINT);
        assert_int_equal(proc_wait(&p, PROC_SOON), 0);
        assert_string_equal(tool_err(&p), "");
        proc_stop(&p);
    }
}

static void async_dials_until_somebody_listens(void **state)
{
    struct proc req = {0};
    struct proc rep = {0};
    int port = proc_free_port();

    (void)state;
    assert_int_equal(peer_start(&req, PEER_SP, "--req --async -v -l %d -D question -Q", port), 0);
    assert_true(proc_wait_text(&req, "Connected to: ", PROC_SOON));
    assert_int_equal(peer_start(&rep, PEER_SP, "--rep -L %d -D answer -Q -C 1", port), 0);
    assert_int_equal(proc_wait(&req, PROC_SOON), 0);
    assert_int_equal(proc_wait(&rep, PROC_SOON), 0);
    assert_string_equal(tool_out(&rep), "\"question\"\n");
    assert_non_null(strstr(tool_out(&req), "\"answer\"\n"));
    proc_stop(&req);
    proc_stop(&rep);
}

/// What a pair peer gets when `input` is sent with these options.
static void tool_expect_sent(const char *args, const char *input, const char *body, size_t len)
{
    struct proc p = {0};
    int port = 0;
    int listener = rawsp_listen(&port);
    char buf[64];
    int fd;

    assert_int_equal(peer_start(&p, PEER_SP, "--pair -l %d -i 0 -C 1 %s", port, args), 0);
    assert_int_equal(proc_write(&p, input, strlen(input)), 0);
    proc_close_input(&p);
    fd = rawsp_accept(listener, RAWSP_PAIR, NULL, PROC_SOON);
    assert_int_equal(rawsp_recv(fd, buf, sizeof(buf), PROC_SOON), len);
    assert_memory_equal(buf, body, len);
    assert_int_equal(proc_wait(&p, PROC_SOON), 0);
    (void)close(fd);
    (void)close(listener);
    proc_stop(&p);
}

static void data_comes_from_words_files_and_input(void **state)
{
    char *dir = proc_mkdir();
    char path[256];
    char args[300];
    FILE *f;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/data", dir);
    f = fopen(path, "we");
    assert_non_null(f);
    assert_int_equal(fwrite("a\0b\n", 1, 4, f), 4);
    assert_int_equal(fclose(f), 0);
    (void)snprintf(args, sizeof(args), "--file %s", path);
    tool_expect_sent("-D word", "", "word", 4);
    tool_expect_sent("--data=", "", "", 0);
    tool_expect_sent("--da=word", "", "word", 4);
    tool_expect_sent(args, "", "a\0b\n", 4);
    tool_expect_sent("-F -", "from\ninput\n", "from\ninput\n", 11);
    tool_expect_sent("-F-", "", "", 0);
    proc_rmdir(dir);
}

static void options_are_set_by_name(void **state)
{
    struct proc p = {0};

    (void)state;
    // Both an int, a truth value and a text; tcp-nodelay is the endpoint's.
    assert_int_equal(peer_run_sp(&p,
                                 "cat --protocol pair --listen tcp://127.0.0.1:0 --recv-timeout "
                                 "1 --option recv-buffer=7 --option tcp-nodelay=false"),
                     0);
    assert_string_equal(tool_err(&p), "");
    proc_stop(&p);
}

static void large_messages_are_refused(void **state)
{
    struct proc p = {0};
    int port = 0;
    int listener = rawsp_listen(&port);
    char buf[8];
    int fd;

    (void)state;
    assert_int_equal(peer_start(&p, PEER_SP, "--pair -l %d -Z 4 -A --recv-timeout 3 -C 2", port),
                     0);
    fd = rawsp_accept(listener, RAWSP_PAIR, NULL, PROC_SOON);
    assert_int_equal(rawsp_send(fd, NULL, 0, "four", 4), 0);
    assert_int_equal(rawsp_send(fd, NULL, 0, "fiver", 5), 0);
    assert_int_equal(rawsp_recv(fd, buf, sizeof(buf), PROC_SOON), -1); // it hangs up
    assert_int_equal(proc_wait(&p, PROC_SOON), 0);
    assert_string_equal(tool_out(&p), "four");
    (void)close(fd);
    (void)close(listener);
    proc_stop(&p);
}

static void lost_output_is_a_failure(void **state)
{
    const char *const argv[] = {
        "sh", "-c", "exec \"$@\" >/dev/full", "sh", SP_TEST_BUILD_DIR "/bin/sp", "--help", NULL};
    struct proc p = {0};

    (void)state;
    assert_int_equal(proc_start(&p, argv), 0);
    assert_int_equal(proc_wait(&p, PROC_SOON), 1);
    tool_expect_line(&p, "sp: standard output: No space left");
    proc_stop(&p);
}

/* ------------------------------------------------------------------ plugins, inspect, doctor */

static cJSON *tool_json(const char *args, int code)
{
    struct proc p = {0};
    cJSON *root;

    assert_int_equal(peer_run_sp(&p, "%s", args), code);
    root = cJSON_Parse(tool_out(&p));
    assert_non_null(root);
    proc_stop(&p);
    return root;
}

static const char *tool_member(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));

    return text != NULL ? text : "";
}

/// The export of that name in a list of plugins.
static const cJSON *tool_export(const cJSON *list, const char *name)
{
    const cJSON *plugin;
    const cJSON *e;

    cJSON_ArrayForEach(plugin, list)
    {
        cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(plugin, "exports"))
        {
            if (strcmp(tool_member(e, "name"), name) == 0) {
                return e;
            }
        }
    }
    return NULL;
}

static void plugins_lists_all(void **state)
{
    static const char *const names[] = {"req", "rep", "pair", "pair1", "tcp", "ipc", "inproc"};
    cJSON *list = tool_json("plugins --json", 0);
    struct proc p = {0};

    (void)state;
    assert_true(cJSON_IsArray(list));
    assert_int_equal(peer_run_sp(&p, "plugins"), 0);
    assert_true(strncmp(tool_out(&p), "KIND", 4) == 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_non_null(tool_export(list, names[i]));
        assert_non_null(strstr(tool_out(&p), names[i]));
    }
    cJSON_Delete(list);
    proc_stop(&p);
}

static void inspect_shows_options(void **state)
{
    cJSON *list = tool_json("inspect req --json", 0);
    const cJSON *req = tool_export(list, "req");
    struct proc p = {0};

    (void)state;
    assert_non_null(req);
    assert_true(cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(req, "options")));
    cJSON_Delete(list);
    assert_int_equal(peer_run_sp(&p, "inspect req"), 0);
    assert_non_null(strstr(tool_out(&p), "protocol req\n"));
    assert_non_null(strstr(tool_out(&p), "req:resend-time"));
    assert_non_null(strstr(tool_out(&p), "default 60000 ms"));
    assert_non_null(strstr(tool_out(&p), "0x30, talks to 0x31"));
    proc_stop(&p);
    assert_int_equal(peer_run_sp(&p, "inspect tcp"), 0);
    assert_non_null(strstr(tool_out(&p), "tcp://"));
    proc_stop(&p);
    tool_expect("inspect nosuch", 1, "sp inspect: ");
    tool_expect("inspect ./nosuch.so", 1, "sp inspect: ");
}

/// The status of the finding of that name, in a section.
static const char *tool_finding(const cJSON *root, const char *section, const char *name)
{
    const cJSON *finding;

    cJSON_ArrayForEach(finding, cJSON_GetObjectItemCaseSensitive(root, "checks"))
    {
        if (strcmp(tool_member(finding, "section"), section) == 0 &&
            strcmp(tool_member(finding, "name"), name) == 0) {
            return tool_member(finding, "status");
        }
    }
    return "none";
}

static void doctor_finds_nothing_wrong(void **state)
{
    cJSON *root = tool_json("doctor --json req tcp inproc://a", 0);

    (void)state;
    assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "ok")));
    assert_string_equal(tool_finding(root, "library", "libsp"), "ok");
    assert_string_equal(tool_finding(root, "inproc://a", "listen"), "ok");
    cJSON_Delete(root);
}

static void doctor_finds_that_nobody_listens(void **state)
{
    char args[128];
    char url[48];
    cJSON *root;

    (void)state;
    (void)snprintf(url, sizeof(url), "tcp://127.0.0.1:%d", proc_free_port());
    (void)snprintf(args, sizeof(args), "doctor --json %s nosuch", url);
    root = tool_json(args, 1);
    assert_true(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(root, "ok")));
    assert_string_equal(tool_finding(root, url, "URL"), "ok");
    assert_string_equal(tool_finding(root, url, "dial"), "FAIL");
    assert_string_equal(tool_finding(root, url, "listen"), "ok");
    assert_string_equal(tool_finding(root, "nosuch", "plugin"), "FAIL");
    cJSON_Delete(root);
}

static void doctor_finds_who_listens(void **state)
{
    struct proc rep = {0};
    struct proc p = {0};
    int port = proc_free_port();

    (void)state;
    assert_int_equal(peer_start(&rep, PEER_SP, "--rep -L %d -D x", port), 0);
    assert_true(proc_wait_port(port, PROC_SOON));
    assert_int_equal(peer_run_sp(&p, "doctor tcp://127.0.0.1:%d", port), 0);
    assert_non_null(strstr(tool_out(&p), "connected as req"));
    proc_stop(&p);
    proc_stop(&rep);
}

static void doctor_finds_bad_plugins_and_directories(void **state)
{
    char *dir = proc_mkdir();
    char path[256];
    char list[512];
    const char *argv[] = {"env", list, SP_TEST_BUILD_DIR "/bin/sp", "doctor", NULL};
    struct proc p = {0};
    FILE *f;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/bad.so", dir);
    f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs("not a shared object\n", f) >= 0);
    assert_int_equal(fclose(f), 0);
    (void)snprintf(list, sizeof(list), "SP_PLUGIN_PATH=%s:/nonexistent", dir);
    assert_int_equal(proc_start(&p, argv), 0);
    assert_int_equal(proc_wait(&p, PROC_SOON), 1);
    assert_non_null(strstr(tool_out(&p), "FAIL  /nonexistent: No such file"));
    (void)snprintf(list, sizeof(list), "FAIL  %s: refused: ", path);
    assert_non_null(strstr(tool_out(&p), list));
    proc_stop(&p);
    proc_rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_and_version_succeed),
        cmocka_unit_test(wrong_usage_exits_with_2),
        cmocka_unit_test(failures_exit_with_1),
        cmocka_unit_test(listening_twice_is_refused),
        cmocka_unit_test(ctrl_c_ends_waiting_with_success),
        cmocka_unit_test(async_dials_until_somebody_listens),
        cmocka_unit_test(data_comes_from_words_files_and_input),
        cmocka_unit_test(options_are_set_by_name),
        cmocka_unit_test(large_messages_are_refused),
        cmocka_unit_test(lost_output_is_a_failure),
        cmocka_unit_test(plugins_lists_all),
        cmocka_unit_test(inspect_shows_options),
        cmocka_unit_test(doctor_finds_nothing_wrong),
        cmocka_unit_test(doctor_finds_that_nobody_listens),
        cmocka_unit_test(doctor_finds_who_listens),
        cmocka_unit_test(doctor_finds_bad_plugins_and_directories),
    };

    peer_environment();
    return cmocka_run_group_tests_name("tool", tests, NULL, NULL);
}
