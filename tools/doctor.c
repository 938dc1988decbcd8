/* SPDX-License-Identifier: MIT */
/// `sp doctor`: why does something not load or connect? Gathers findings, then prints them as text
/// or JSON. [main thread]
#include "doctor.h"
#include "tool.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOCTOR_TEXT 1024

static const char *const doctor_marks[] = {"ok", "warn", "FAIL"};

static const char doctor_help[] =
    "Usage: sp doctor [--json] [URL|NAME|FILE...]\n"
    "\n"
    "Looks for what keeps plugins from loading and sockets from connecting: the search path and\n"
    "each plugin on it, capabilities, limits of the system. For a URL also: does its transport\n"
    "load, is the URL well formed, does somebody answer there (it dials, for at most 2 s), could\n"
    "one listen there. For a NAME (protocol, URL scheme, plugin id) or plugin FILE: does it load.\n"
    "\n"
    "Each finding is ok, warn (something special will not work) or FAIL. Exit status: 0 without a\n"
    "FAIL, 1 with one.\n"
    "\n"
    "  --json     as JSON: {\"ok\": BOOL, \"checks\": [{section, name, status, text, hint}]}\n"
    "  -h, --help";

void doctor_add(struct doctor *d, enum doctor_status status, const char *name, const char *hint,
                const char *fmt, ...)
{
    cJSON *finding = cJSON_CreateObject();
    char text[DOCTOR_TEXT];
    va_list ap;

    va_start(ap, fmt);
    if (vsnprintf(text, sizeof(text), fmt, ap) < 0) {
        text[0] = '\0';
    }
    va_end(ap);
    d->failures += status == DOCTOR_FAIL ? 1 : 0;
    if (cJSON_AddStringToObject(finding, "section", d->section) == NULL ||
        cJSON_AddStringToObject(finding, "name", name) == NULL ||
        cJSON_AddStringToObject(finding, "status", doctor_marks[status]) == NULL ||
        cJSON_AddStringToObject(finding, "text", text) == NULL ||
        cJSON_AddStringToObject(finding, "hint", hint != NULL ? hint : "") == NULL) {
        d->spoilt = true;
        cJSON_Delete(finding);
        return;
    }
    (void)cJSON_AddItemToArray(d->findings, finding);
}

/* ------------------------------------------------------------------ Output */

static int doctor_print(const struct doctor *d)
{
    const char *section = "";
    const cJSON *finding;

    cJSON_ArrayForEach(finding, d->findings)
    {
        const char *its_section = tool_text(finding, "section", "");
        const char *hint = tool_text(finding, "hint", "");

        if (strcmp(section, its_section) != 0) {
            (void)printf("%s%s\n", section[0] != '\0' ? "\n" : "", its_section);
            section = its_section;
        }
        (void)printf("  %-4s  %s: %s\n", tool_text(finding, "status", ""),
                     tool_text(finding, "name", ""), tool_text(finding, "text", ""));
        if (hint[0] != '\0') {
            (void)printf("        %s\n", hint);
        }
    }
    if (d->failures == 0) {
        (void)puts("\nAll is well.");
    } else {
        (void)printf("\n%d %s.\n", d->failures, d->failures == 1 ? "failure" : "failures");
    }
    return tool_flush();
}

/// Hands `d->findings` over to the tree that is printed.
static int doctor_print_json(struct doctor *d)
{
    cJSON *root = cJSON_CreateObject();
    int code = TOOL_FAILED;

    if (cJSON_AddBoolToObject(root, "ok", d->failures == 0) != NULL &&
        cJSON_AddItemToObject(root, "checks", d->findings) != 0) {
        d->findings = NULL;
        code = tool_print_json(root);
    }
    cJSON_Delete(root);
    return code;
}

/* ------------------------------------------------------------------ The command */

static int doctor_examine(struct doctor *d, const char *const *targets, size_t count)
{
    if (tool_stop_watch(doctor_stop, NULL) != TOOL_OK) {
        return TOOL_FAILED;
    }
    doctor_plugins(d);
    doctor_system(d);
    for (size_t i = 0; i < count && !tool_stopped(); i++) {
        d->section = targets[i];
        doctor_target(d, targets[i]);
    }
    if (d->spoilt) {
        return tool_fail("no memory");
    }
    return tool_stopped() ? tool_fail("interrupted") : TOOL_OK;
}

static int doctor_run(const char *const *targets, size_t count, bool json)
{
    struct doctor d = {.section = "library"};
    int err;
    int code;
    cJSON *plugins = tool_plugin_list(NULL, &err);

    d.findings = cJSON_CreateArray();
    doctor_add(&d, DOCTOR_OK, "libsp", NULL, "version %s", sp_version());
    if (plugins == NULL) {
        doctor_add(&d, DOCTOR_FAIL, "plugins", NULL, "%s", sp_error_detail());
        plugins = cJSON_CreateArray();
    }
    d.plugins = plugins;
    code = doctor_examine(&d, targets, count);
    if (code == TOOL_OK) {
        code = json ? doctor_print_json(&d) : doctor_print(&d);
    }
    cJSON_Delete(d.findings);
    cJSON_Delete(plugins);
    return code == TOOL_OK && d.failures > 0 ? TOOL_FAILED : code;
}

int tool_doctor(int argc, char **argv)
{
    static const struct tool_option options[] = {{"json", 0, false, 0}, {"help", 'h', false, 1}};
    struct tool_args args = {.options = options, .count = 2, .argc = argc, .argv = argv, .at = 1};
    const char **targets = calloc((size_t)argc, sizeof(*targets));
    size_t count = 0;
    bool json = false;
    int code = -1;
    int id;

    if (targets == NULL) {
        return tool_fail("no memory");
    }
    while (code < 0 && (id = tool_next(&args)) != TOOL_ARG_END) {
        if (id == TOOL_ARG_BAD) {
            code = TOOL_USAGE;
        } else if (id == 1) {
            (void)puts(doctor_help);
            code = tool_flush();
        } else if (id == TOOL_ARG_OPERAND) {
            targets[count++] = args.value;
        } else {
            json = true;
        }
    }
    if (code < 0) {
        code = doctor_run(targets, count, json);
    }
    free((void *)targets);
    return code;
}
