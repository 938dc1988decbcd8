/* SPDX-License-Identifier: MIT */
/// Options: what doc/prd/api/options.md says, what the plugins' own tables say, and what the calls
/// do are the same, with types, defaults and ranges, for every protocol and transport.
#include "check.h"
#include "option_doc.h"

#include <cjson/cJSON.h>

#include <stdio.h>
#include <string.h>

#define ROWS 256

static struct option_row rows[ROWS];
static unsigned n_rows;

static int start(void **state)
{
    n_rows = option_doc(rows, ROWS);
    assert_in_range(n_rows, 30, ROWS);
    return check_start_threads(state);
}

static const struct option_row *find_row(const char *section, const char *owner, const char *name)
{
    for (unsigned i = 0; i < n_rows; i++) {
        if (strcmp(rows[i].section, section) == 0 && strcmp(rows[i].owner, owner) == 0 &&
            strcmp(rows[i].name, name) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

/* ------------------------------------------------------------------ Plugins */

static const char *text_of(const cJSON *o, const char *name)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItem(o, name));

    return s != NULL ? s : "";
}

/// Calls `fn` for each export of each plugin that can be found.
static void each_export(void (*fn)(const cJSON *export))
{
    char *all = NULL;
    const cJSON *plugin;
    cJSON *tree;

    check_ok(sp_plugins(NULL, &all));
    tree = cJSON_Parse(all);
    assert_non_null(tree);
    cJSON_ArrayForEach(plugin, tree)
    {
        char *text = NULL;
        cJSON *one;
        const cJSON *export;

        check_ok(sp_plugins(text_of(plugin, "file"), &text));
        one = cJSON_Parse(text);
        cJSON_ArrayForEach(export, cJSON_GetObjectItem(cJSON_GetArrayItem(one, 0), "exports"))
        {
            fn(export);
        }
        cJSON_Delete(one);
        sp_free(text);
    }
    cJSON_Delete(tree);
    sp_free(all);
}

static bool is_protocol(const cJSON *export)
{
    return strcmp(text_of(export, "kind"), "protocol") == 0;
}

static void compare_number(const struct option_row *row, const cJSON *option)
{
    bool boolean = strcmp(text_of(option, "type"), "bool") == 0;
    const cJSON *def = cJSON_GetObjectItem(option, "default");

    assert_true(row->number);
    if (boolean) {
        assert_string_equal(row->type, "boolean");
        assert_int_equal(row->def_value, cJSON_IsTrue(def));
        return;
    }
    assert_int_equal(row->def_value, (int64_t)def->valuedouble);
    assert_int_equal(row->min, (int64_t)cJSON_GetObjectItem(option, "min")->valuedouble);
    assert_int_equal(row->max, (int64_t)cJSON_GetObjectItem(option, "max")->valuedouble);
}

static void export_is_documented(const cJSON *export)
{
    const char *section = is_protocol(export) ? "Protocols" : "Transports";
    const cJSON *option;

    cJSON_ArrayForEach(option, cJSON_GetObjectItem(export, "options"))
    {
        const char *name = text_of(option, "name");
        const char *type = text_of(option, "type");
        const struct option_row *row = find_row(section, text_of(export, "name"), name);

        print_message("%s: %s\n", text_of(export, "name"), name);
        assert_non_null(row);
        if (strcmp(type, "int") == 0 || strcmp(type, "bool") == 0) {
            compare_number(row, option);
        } else {
            assert_string_equal(row->type, strcmp(type, "str") == 0 ? "text" : type);
        }
    }
}

static void options_of_plugins_are_documented(void **state)
{
    (void)state;
    each_export(export_is_documented);
}

static unsigned found[ROWS];

static void mark_documented(const cJSON *export)
{
    const cJSON *option;

    cJSON_ArrayForEach(option, cJSON_GetObjectItem(export, "options"))
    {
        const struct option_row *row = find_row(is_protocol(export) ? "Protocols" : "Transports",
                                                text_of(export, "name"), text_of(option, "name"));

        if (row != NULL) {
            found[row - rows]++;
        }
    }
}

static void documented_options_are_there(void **state)
{
    (void)state;
    memset(found, 0, sizeof(found));
    each_export(mark_documented);
    for (unsigned i = 0; i < n_rows; i++) {
        bool of_plugin = strcmp(rows[i].section, "Protocols") == 0 ||
                         strcmp(rows[i].section, "Transports") == 0;

        if (of_plugin && found[i] == 0) {
            print_error("documented, and not there: %s of %s\n", rows[i].name, rows[i].owner);
            fail();
        }
    }
}

/* ------------------------------------------------------------------ Calls */

/// The number has its default, takes what is in range, and nothing else.
static void check_number(uint64_t id, const struct option_row *row)
{
    int64_t v = 0;

    print_message("%s %s\n", row->owner, row->name);
    check_ok(sp_get_int(id, row->name, &v));
    assert_int_equal(v, row->def_value);
    check_ok(sp_set_int(id, row->name, row->min));
    check_ok(sp_get_int(id, row->name, &v));
    assert_int_equal(v, row->min);
    check_ok(sp_set_int(id, row->name, row->max));
    check_ok(sp_get_int(id, row->name, &v));
    assert_int_equal(v, row->max);
    check_rc(SP_EINVAL, sp_set_int(id, row->name, row->min - 1));
    if (row->max < INT64_MAX) {
        check_rc(SP_EINVAL, sp_set_int(id, row->name, row->max + 1));
    }
    check_rc(SP_EINVAL, sp_set_str(id, row->name, "1"));
    check_rc(SP_EINVAL, sp_set_bytes(id, row->name, "1", 1));
    check_ok(sp_get_int(id, row->name, &v));
    assert_int_equal(v, row->max); // What was refused changed nothing.
    check_ok(sp_set_int(id, row->name, row->def_value));
}

static void check_section(uint64_t id, const char *section, const char *owner, bool raw)
{
    for (unsigned i = 0; i < n_rows; i++) {
        if (strcmp(rows[i].section, section) == 0 && strcmp(rows[i].owner, owner) == 0 &&
            rows[i].number && (!raw || rows[i].raw || owner[0] == '\0')) {
            check_number(id, &rows[i]);
        }
    }
}

static void check_unknown(uint64_t id)
{
    size_t cap = 0;
    int64_t v;

    check_rc(SP_ENOTSUP, sp_set_int(id, "no-such-option", 1));
    check_rc(SP_ENOTSUP, sp_get_int(id, "no-such-option", &v));
    check_rc(SP_ENOTSUP, sp_set_str(id, "no-such-option", "1"));
    check_rc(SP_ENOTSUP, sp_get_str(id, "no-such-option", NULL, &cap));
    check_rc(SP_ENOTSUP, sp_set_bytes(id, "no-such-option", "1", 1));
}

static void check_socket(const cJSON *export, bool raw)
{
    const char *name = text_of(export, "name");
    sp_socket s = {0};

    check_ok(raw ? sp_open_raw(&s, name) : sp_open(&s, name));
    check_section(s.id, "Sockets", "", raw);
    check_section(s.id, "Endpoints", "", raw);
    check_section(s.id, "Protocols", name, raw);
    check_unknown(s.id);
    check_rc(SP_ESTATE, sp_set_int(s.id, "recv-next-size", 1));
    check_ok(sp_close(s));
}

static void sockets_of(const cJSON *export)
{
    if (is_protocol(export)) {
        check_socket(export, false);
        if (cJSON_IsTrue(cJSON_GetObjectItem(export, "raw"))) {
            check_socket(export, true);
        }
    }
}

static void sockets_do_what_is_documented(void **state)
{
    (void)state;
    each_export(sockets_of);
}

/// What all endpoints have, but for what a transport has in its own manner.
static void check_endpoint(uint64_t id, const char *transport)
{
    for (unsigned i = 0; i < n_rows; i++) {
        if (strcmp(rows[i].section, "Endpoints") == 0 && rows[i].number &&
            find_row("Transports", transport, rows[i].name) == NULL) {
            check_number(id, &rows[i]);
        }
    }
}

static void endpoints_of(const cJSON *export)
{
    sp_socket s = {0};
    sp_dialer d = {0};
    char url[256];

    if (is_protocol(export)) {
        return;
    }
    check_ok(sp_open(&s, "pair"));
    check_url(text_of(export, "name"), url);
    check_ok(sp_dialer_new(&d, s, url));
    check_endpoint(d.id, text_of(export, "name"));
    check_section(d.id, "Transports", text_of(export, "name"), false);
    check_unknown(d.id);
    check_rc(SP_ESTATE, sp_set_str(d.id, "url", "inproc://other"));
    check_ok(sp_dialer_start(d, SP_NONBLOCK));
    check_rc(SP_ESTATE, sp_set_int(d.id, "reconnect-time-min", 1)); // It runs.
    check_ok(sp_close(s));
}

static void endpoints_do_what_is_documented(void **state)
{
    (void)state;
    each_export(endpoints_of);
}

/// Contexts have their own of what is each context's, begun with the socket's, and nothing else.
static void context_of(const cJSON *export)
{
    const char *name = text_of(export, "name");
    const cJSON *option;
    sp_socket s = {0};
    sp_ctx c = {0};

    if (!is_protocol(export)) {
        return;
    }
    check_ok(sp_open(&s, name));
    if (sp_ctx_open(&c, s) == SP_OK) {
        check_section(c.id, "Contexts", "", false);
        cJSON_ArrayForEach(option, cJSON_GetObjectItem(export, "options"))
        {
            const struct option_row *row = find_row("Protocols", name, text_of(option, "name"));
            bool own = cJSON_IsTrue(cJSON_GetObjectItem(option, "context"));

            assert_non_null(row);
            if (own && row->number) {
                check_number(c.id, row);
            } else if (!own) {
                check_rc(SP_ENOTSUP, sp_set_int(c.id, row->name, row->def_value));
            }
        }
        check_rc(SP_ENOTSUP, sp_set_int(c.id, "linger", 0));
        check_unknown(c.id);
    }
    check_ok(sp_close(s));
}

static void contexts_do_what_is_documented(void **state)
{
    (void)state;
    each_export(context_of);
}

/// The policies are those that the protocol's table says, which are in the document.
static void overflow_of(const cJSON *export)
{
    static const char *const all[] = {"block", "drop-new", "drop-old", "disconnect"};
    const cJSON *list = cJSON_GetObjectItem(export, "overflows");
    sp_socket s = {0};
    char text[32];
    size_t cap = sizeof(text);

    if (!is_protocol(export)) {
        return;
    }
    check_ok(sp_open(&s, text_of(export, "name")));
    if (list == NULL) {
        check_rc(SP_ENOTSUP, sp_set_str(s.id, "overflow", "block"));
        check_rc(SP_ENOTSUP, sp_get_str(s.id, "overflow", text, &cap));
        check_ok(sp_close(s));
        return;
    }
    check_ok(sp_get_str(s.id, "overflow", text, &cap));
    assert_string_equal(text, text_of(export, "overflow"));
    for (unsigned i = 0; i < 4; i++) {
        const cJSON *at;
        bool allowed = false;

        cJSON_ArrayForEach(at, list)
        {
            allowed = allowed || strcmp(cJSON_GetStringValue(at), all[i]) == 0;
        }
        check_rc(allowed ? SP_OK : SP_EINVAL, sp_set_str(s.id, "overflow", all[i]));
    }
    check_rc(SP_EINVAL, sp_set_str(s.id, "overflow", "sometimes"));
    check_rc(SP_EINVAL, sp_set_int(s.id, "overflow", 1));
    check_ok(sp_close(s));
}

static void overflow_takes_the_policies_of_the_protocol(void **state)
{
    (void)state;
    each_export(overflow_of);
}

int main(void)
{
#define fact(name) cmocka_unit_test_setup_teardown(name, start, check_stop)
    static const struct CMUnitTest tests[] = {
        fact(options_of_plugins_are_documented), fact(documented_options_are_there),
        fact(sockets_do_what_is_documented),     fact(endpoints_do_what_is_documented),
        fact(contexts_do_what_is_documented),    fact(overflow_takes_the_policies_of_the_protocol),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
