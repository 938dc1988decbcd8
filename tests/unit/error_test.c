/* SPDX-License-Identifier: MIT */
/// Codes as text and category, the chain of detail text, the log.
#include "check.h"
#include "core/error.h"
#include "core/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    int code;
    int value;
    sp_errcategory cat;
    const char *text;
} codes[] = {
    {SP_EAGAIN, -EAGAIN, SP_CAT_RESOURCE, "Resource temporarily unavailable"},
    {SP_EINVAL, -EINVAL, SP_CAT_PROTOCOL, "Invalid argument"},
    {SP_ENOMEM, -ENOMEM, SP_CAT_RESOURCE, "Cannot allocate memory"},
    {SP_ETIMEDOUT, -ETIMEDOUT, SP_CAT_TRANSPORT, "Connection timed out"},
    {SP_ECANCELED, -ECANCELED, SP_CAT_SHUTDOWN, "Operation canceled"},
    {SP_EPROTO, -EPROTO, SP_CAT_PROTOCOL, "Protocol error"},
    {SP_EMSGSIZE, -EMSGSIZE, SP_CAT_RESOURCE, "Message too long"},
    {SP_ENOTSUP, -ENOTSUP, SP_CAT_PROTOCOL, "Operation not supported"},
    {SP_ECLOSED, -10000, SP_CAT_SHUTDOWN, "Object closed"},
    {SP_ESTATE, -10001, SP_CAT_PROTOCOL, "Not valid in this state"},
    {SP_ENOPEER, -10002, SP_CAT_PROTOCOL, "No peer connected"},
    {SP_EFULL, -10003, SP_CAT_RESOURCE, "Mailbox full"},
    {SP_EPEERS, -10004, SP_CAT_RESOURCE, "Too many peers"},
    {SP_ENOPLUGIN, -10005, SP_CAT_TRANSPORT, "No plugin provides that name"},
    {SP_EABI, -10006, SP_CAT_TRANSPORT, "Plugin refused"},
    {-EMFILE, -EMFILE, SP_CAT_RESOURCE, "Too many open files"},
    {-ENFILE, -ENFILE, SP_CAT_RESOURCE, "Too many open files in system"},
    {-ENOBUFS, -ENOBUFS, SP_CAT_RESOURCE, "No buffer space available"},
    {-ECONNREFUSED, -ECONNREFUSED, SP_CAT_TRANSPORT, "Connection refused"},
    {-EADDRINUSE, -EADDRINUSE, SP_CAT_TRANSPORT, "Address already in use"},
    {-ECONNRESET, -ECONNRESET, SP_CAT_TRANSPORT, "Connection reset by peer"},
    {-EACCES, -EACCES, SP_CAT_TRANSPORT, "Permission denied"},
};

static void error_codes_have_value_text_and_category(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        assert_int_equal(codes[i].code, codes[i].value);
        assert_string_equal(sp_strerror(codes[i].code), codes[i].text);
        assert_int_equal(sp_errcat(codes[i].code), codes[i].cat);
    }
}

static void error_text_is_never_null(void **state)
{
    (void)state;
    for (int err = -12000; err < 300; err++) {
        assert_non_null(sp_strerror(err));
        assert_true(sp_strerror(err)[0] != '\0');
    }
    assert_string_equal(sp_strerror(0), "Success");
    assert_string_equal(sp_strerror(INT32_MIN), "Unknown error");
    assert_string_equal(sp_strerror(-4095), "Unknown error");
}

static void error_detail_is_empty_at_first(void **state)
{
    (void)state;
    assert_string_equal(sp_error_detail(), "");
}

static long other_thread(void *arg)
{
    (void)arg;
    return sp_error_detail()[0] == '\0' ? sp_close((sp_socket){0}) : 1;
}

static void error_detail_is_the_threads_own(void **state)
{
    struct check_call c;

    (void)state;
    check_detail(SP_EINVAL, "no handle (its id is 0)", sp_close((sp_socket){0}));
    check_rc(SP_EINVAL, sp_set_int(0, "linger", 1));
    assert_string_equal(sp_error_detail(), "option \"linger\": no handle (its id is 0)");
    check_call_start(&c, other_thread, NULL);
    check_rc(SP_EINVAL, check_call_join(&c, CHECK_SOON));
    assert_string_equal(c.detail, "no handle (its id is 0)");
    assert_string_equal(sp_error_detail(), "option \"linger\": no handle (its id is 0)");
}

static void error_chain_grows_outwards_and_is_cut_not_overrun(void **state)
{
    (void)state;
    check_rc(-5, sp__fail(-5, "inner %d", 1));
    check_rc(-6, sp__fail_in(-6, "middle"));
    check_rc(-7, sp__fail_in(-7, "outer %s", "x"));
    assert_string_equal(sp_error_detail(), "outer x: middle: inner 1");
    check_rc(-ENOENT, sp__fail_code(-ENOENT, "open %s", "f"));
    assert_string_equal(sp_error_detail(), "open f: No such file or directory");
    for (int i = 0; i < 1000; i++) {
        (void)sp__fail_in(-1, "a link of the chain");
    }
    assert_int_equal(strlen(sp_error_detail()), SP__DETAIL_MAX - 1);
    (void)sp__fail(-1, "short");
    assert_string_equal(sp_error_detail(), "short");
}

static void error_dial_refused_has_the_whole_chain(void **state)
{
    sp_socket s = check_open("pair");

    (void)state;
    check_detail(-ECONNREFUSED, "dial tcp://127.0.0.1:1: connect: Connection refused",
                 sp_dial(s, "tcp://127.0.0.1:1", NULL, 0));
    check_detail(-ECONNREFUSED, "dial inproc://nobody: connect: Connection refused",
                 sp_dial(s, "inproc://nobody", NULL, 0));
    check_detail(-ENOENT, "dial ipc:///tmp/sp-no-such-socket: connect: No such file or directory",
                 sp_dial(s, "ipc:///tmp/sp-no-such-socket", NULL, 0));
    assert_int_equal(check_stat(s.id, "pipes"), 0);
    check_ok(sp_close(s));
    check_fini();
}

static void error_detail_survives_work_in_place(void **state)
{
    sp_socket a;
    sp_socket b;

    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    check_detail(SP_EINVAL, "no handle (its id is 0)", sp_close((sp_socket){0}));
    check_send(a, "x");
    check_recv(b, "x");
    assert_string_equal(sp_error_detail(), "no handle (its id is 0)");
    check_ok(sp_close(a));
    check_ok(sp_close(b));
}

static void error_bad_urls_and_names(void **state)
{
    static const char *const urls[] = {"", "x", "tcp", "tcp:", "tcp:/", "://", "://x", ":x://"};
    sp_socket s = check_open("pair");
    sp_socket none = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        int rc = sp_dial(s, urls[i], NULL, 0);

        assert_true(rc == SP_EINVAL || rc == SP_ENOPLUGIN);
        rc = sp_listen(s, urls[i], NULL);
        assert_true(rc == SP_EINVAL || rc == SP_ENOPLUGIN);
    }
    check_detail(SP_EINVAL,
                 "dial x: x: not a URL (want SCHEME://ADDRESS, such as tcp://127.0.0.1:5555)",
                 sp_dial(s, "x", NULL, 0));
    check_rc(SP_EINVAL, sp_dial(s, NULL, NULL, 0));
    check_rc(SP_EINVAL, sp_listen(s, NULL, NULL));
    check_rc(SP_ENOPLUGIN, sp_dial(s, "gopher://x", NULL, 0));
    check_rc(SP_EINVAL, sp_listen(s, "inproc://", NULL));
    check_rc(SP_EINVAL, sp_listen(s, "tcp://127.0.0.1:99999", NULL));
    check_rc(SP_EINVAL, sp_dial(s, "tcp://127.0.0.1", NULL, 0));
    check_rc(SP_EINVAL, sp_listener_new(NULL, s, "inproc://x"));
    check_rc(SP_EINVAL, sp_dialer_new(NULL, s, "inproc://x"));
    check_rc(SP_EINVAL, sp_open(NULL, "pair"));
    check_rc(SP_EINVAL, sp_open(&none, NULL));
    check_rc(SP_ENOPLUGIN, sp_open(&none, "no-such-protocol"));
    check_rc(SP_ENOPLUGIN, sp_open(&none, ""));
    check_rc(SP_ENOPLUGIN, sp_open(&none, "../pair"));
    check_rc(SP_ENOPLUGIN, sp_open(&none, "inproc"));
    assert_true(none.id == 0);
    check_ok(sp_close(s));
}

/* ------------------------------------------------------------------ The original design's errors
 */

/// Each by a real cause, with its chain and its category.
static void error_closed_ends_a_waiting_call(void **state)
{
    sp_socket s = check_open("pair");
    sp_op *op;

    (void)state;
    check_ok(sp_op_new(&op, NULL, NULL));
    check_ok(sp_op_recv(op, s.id));
    check_ok(sp_close(s));
    check_rc(SP_ECLOSED, sp_op_wait(op));
    sp_op_free(op);
    assert_int_equal(sp_errcat(SP_ECLOSED), SP_CAT_SHUTDOWN);
    check_rc(SP_ECLOSED, sp_send(s, "x", 1, 0));
    assert_non_null(strstr(sp_error_detail(), "is closed"));
}

static void error_timeout_of_a_send_and_a_connection(void **state)
{
    sp_socket s = check_open("pair");

    (void)state;
    check_ok(sp_set_int(s.id, "send-timeout", 10));
    check_detail(SP_ETIMEDOUT, "send: timed out, no peer connected", sp_send(s, "x", 1, 0));
    check_ok(sp_set_int(s.id, "recv-timeout", 10));
    check_detail(SP_ETIMEDOUT, "receive: timed out", (int)sp_recv(s, NULL, 0, 0));
    assert_int_equal(sp_errcat(SP_ETIMEDOUT), SP_CAT_TRANSPORT);
    check_ok(sp_close(s));
}

static void error_invalid_state_of_a_protocol(void **state)
{
    sp_socket req = check_open("req");
    sp_socket rep = check_open("rep");

    (void)state;
    check_detail(SP_ESTATE, "receive: \"req\" has no question under way (send one first)",
                 (int)sp_recv(req, NULL, 0, 0));
    check_detail(SP_ESTATE, "send: \"rep\" has no request to answer (receive one first)",
                 sp_send(rep, "x", 1, 0));
    assert_int_equal(sp_errcat(SP_ESTATE), SP_CAT_PROTOCOL);
    check_ok(sp_close(req));
    check_ok(sp_close(rep));
}

static void error_no_peer_when_not_waiting(void **state)
{
    sp_socket s = check_open("req");

    (void)state;
    check_detail(SP_ENOPEER, "send: no peer connected", sp_send(s, "x", 1, SP_NONBLOCK));
    assert_int_equal(sp_errcat(SP_ENOPEER), SP_CAT_PROTOCOL);
    check_ok(sp_close(s));
}

static void error_buffer_full_when_not_waiting(void **state)
{
    sp_mailbox box;
    sp_socket a;
    sp_socket b;
    sp_msg *m;
    int rc = SP_OK;

    (void)state;
    check_couple("inproc", "pair", "pair", &a, &b);
    for (int i = 0; i < 100000 && rc == SP_OK; i++) {
        rc = sp_send(a, "x", 1, SP_NONBLOCK);
    }
    check_detail(SP_EAGAIN, "send: no room now", rc);
    assert_int_equal(sp_errcat(SP_EAGAIN), SP_CAT_RESOURCE);
    check_ok(sp_close(a));
    check_ok(sp_close(b));
    check_ok(sp_mailbox_open(&box, 1));
    check_ok(sp_msg_new(&m, 1));
    check_ok(sp_mailbox_post(box, m, 0));
    check_ok(sp_msg_new(&m, 1));
    check_rc(SP_EFULL, sp_mailbox_post(box, m, SP_NONBLOCK));
    assert_non_null(strstr(sp_error_detail(), "full"));
    assert_int_equal(sp_errcat(SP_EFULL), SP_CAT_RESOURCE);
    sp_msg_release(m);
    check_ok(sp_mailbox_close(box));
    check_ok(sp_mailbox_close(box)); // And what is in it.
}

/// Of the categories only this one is left: the system refused.
static void error_of_the_transport(void **state)
{
    sp_socket s = check_open("pair");

    (void)state;
    check_detail(-ECONNREFUSED, "dial tcp://127.0.0.1:1: connect: Connection refused",
                 sp_dial(s, "tcp://127.0.0.1:1", NULL, 0));
    assert_int_equal(sp_errcat(-ECONNREFUSED), SP_CAT_TRANSPORT);
    check_ok(sp_close(s));
}

/* ------------------------------------------------------------------ Log */

struct lines {
    int n;
    sp_log_level level;
    char id[64];
    char text[128];
};

static void take_line(sp_log_level level, const char *id, const char *msg, void *arg)
{
    struct lines *l = arg;

    l->n++;
    l->level = level;
    (void)snprintf(l->id, sizeof(l->id), "%s", id);
    (void)snprintf(l->text, sizeof(l->text), "%s", msg);
}

static void log_lines_up_to_the_level_go_to_the_function(void **state)
{
    struct lines l = {0};

    (void)state;
    sp_log_set(SP_LOG_WARN, take_line, &l);
    sp__log(SP_LOG_ERROR, "a", "one");
    sp__logf(SP_LOG_WARN, "b", "two %d", 2);
    sp__log(SP_LOG_INFO, "c", "three");
    sp__logf(SP_LOG_DEBUG, "c", "four");
    assert_int_equal(l.n, 2);
    assert_int_equal(l.level, SP_LOG_WARN);
    assert_string_equal(l.id, "b");
    assert_string_equal(l.text, "two 2");
    sp_log_set(SP_LOG_DEBUG, take_line, &l);
    sp__log(SP_LOG_DEBUG, "d", "five");
    assert_int_equal(l.n, 3);
    sp_log_set(SP_LOG_ERROR, take_line, &l);
    sp__log(SP_LOG_WARN, "e", "six");
    assert_int_equal(l.n, 3);
    sp_log_set(SP_LOG_WARN, NULL, NULL);
}

static void log_level_of_the_settings_is_used(void **state)
{
    struct lines l = {0};
    sp_config *cfg = NULL;

    (void)state;
    sp_fini();
    sp_log_set(SP_LOG_WARN, take_line, &l);
    check_ok(sp_config_new(&cfg));
    check_ok(sp_config_set_int(cfg, "log-level", SP_LOG_INFO));
    check_ok(sp_init(cfg));
    sp_config_free(cfg);
    sp__log(SP_LOG_INFO, "a", "one");
    assert_int_equal(l.n, 1);
    sp_log_set(SP_LOG_WARN, NULL, NULL);
    sp_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_detail_is_empty_at_first),
        cmocka_unit_test(error_codes_have_value_text_and_category),
        cmocka_unit_test(error_text_is_never_null),
        cmocka_unit_test(error_detail_is_the_threads_own),
        cmocka_unit_test(error_chain_grows_outwards_and_is_cut_not_overrun),
        cmocka_unit_test(error_dial_refused_has_the_whole_chain),
        cmocka_unit_test(error_detail_survives_work_in_place),
        cmocka_unit_test(error_bad_urls_and_names),
        cmocka_unit_test(error_closed_ends_a_waiting_call),
        cmocka_unit_test(error_timeout_of_a_send_and_a_connection),
        cmocka_unit_test(error_invalid_state_of_a_protocol),
        cmocka_unit_test(error_no_peer_when_not_waiting),
        cmocka_unit_test(error_buffer_full_when_not_waiting),
        cmocka_unit_test(error_of_the_transport),
        cmocka_unit_test(log_lines_up_to_the_level_go_to_the_function),
        cmocka_unit_test(log_level_of_the_settings_is_used),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
