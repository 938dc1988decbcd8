/* SPDX-License-Identifier: MIT */
/// `sp plugins`: what is loaded and loadable, a line a plugin, or the library's JSON as it is.
/// [main thread]
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sp/sp.h>

enum plugins_column {
    PLUGINS_KIND,
    PLUGINS_NAMES,
    PLUGINS_STATE,
    PLUGINS_VERSION,
    PLUGINS_ABI,
    PLUGINS_ID,
    PLUGINS_FILE, ///< last: not padded
    PLUGINS_COLUMNS
};

#define PLUGINS_CELL 256

struct plugins_row {
    char cells[PLUGINS_COLUMNS][PLUGINS_CELL];
    const char *reason; ///< "" where there is none
};

static const char plugins_help[] =
    "Usage: sp plugins [--json]\n"
    "\n"
    "Opens every plugin on the search path that may be opened and lists it with its state:\n"
    "  loaded     in use by this process\n"
    "  available  would be loaded when one of its names is wanted\n"
    "  shadowed   an earlier directory provides the same names\n"
    "  refused    cannot be loaded; the reason follows\n"
    "\n"
    "  --json     the list as the library gives it\n"
    "  -h, --help";

/// Appends `word` to a list of words, once.
static void plugins_add_word(char *cell, const char *word)
{
    size_t used = strlen(cell);
    size_t n = strlen(word);

    for (const char *p = strstr(cell, word); p != NULL; p = strstr(p + 1, word)) {
        if ((p == cell || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0')) {
            return;
        }
    }
    (void)snprintf(cell + used, PLUGINS_CELL - used, "%s%s", used > 0 ? " " : "", word);
}

static void plugins_fill(struct plugins_row *row, const cJSON *plugin)
{
    static const char *const members[PLUGINS_COLUMNS] = {
        [PLUGINS_STATE] = "state", [PLUGINS_VERSION] = "version", [PLUGINS_ABI] = "abi",
        [PLUGINS_ID] = "id",       [PLUGINS_FILE] = "file",
    };
    const cJSON *e;

    cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(plugin, "exports"))
    {
        plugins_add_word(row->cells[PLUGINS_KIND], tool_text(e, "kind", "?"));
        plugins_add_word(row->cells[PLUGINS_NAMES], tool_text(e, "name", "?"));
    }
    for (int c = 0; c < PLUGINS_COLUMNS; c++) {
        if (members[c] != NULL) {
            (void)snprintf(row->cells[c], PLUGINS_CELL, "%s", tool_text(plugin, members[c], ""));
        }
        if (row->cells[c][0] == '\0') {
            (void)snprintf(row->cells[c], PLUGINS_CELL, "-");
        }
    }
    row->reason = tool_text(plugin, "reason", "");
}

static void plugins_print_rows(const struct plugins_row *rows, size_t count)
{
    int width[PLUGINS_COLUMNS] = {0};

    for (size_t i = 0; i < count; i++) {
        for (int c = 0; c < PLUGINS_COLUMNS; c++) {
            int n = (int)strlen(rows[i].cells[c]);

            width[c] = n > width[c] ? n : width[c];
        }
    }
    for (size_t i = 0; i < count; i++) {
        for (int c = 0; c < PLUGINS_FILE; c++) {
            (void)printf("%-*s  ", width[c], rows[i].cells[c]);
        }
        (void)printf("%s\n", rows[i].cells[PLUGINS_FILE]);
        if (rows[i].reason[0] != '\0') {
            (void)printf("  %s\n", rows[i].reason);
        }
    }
}

static int plugins_print_table(const cJSON *list)
{
    static const char *const heads[PLUGINS_COLUMNS] = {"KIND", "NAMES", "STATE", "VERSION",
                                                       "ABI",  "ID",    "FILE"};
    size_t count = 1 + (size_t)cJSON_GetArraySize(list);
    struct plugins_row *rows = calloc(count, sizeof(*rows));
    const cJSON *plugin;
    size_t i = 1;

    if (rows == NULL) {
        return tool_fail("no memory");
    }
    for (int c = 0; c < PLUGINS_COLUMNS; c++) {
        (void)snprintf(rows[0].cells[c], PLUGINS_CELL, "%s", heads[c]);
    }
    rows[0].reason = "";
    cJSON_ArrayForEach(plugin, list)
    {
        plugins_fill(&rows[i++], plugin);
    }
    plugins_print_rows(rows, count);
    if (count == 1) {
        (void)puts("none found: sp doctor says where they were looked for");
    }
    free(rows);
    return tool_flush();
}

int tool_plugins(int argc, char **argv)
{
    static const struct tool_option options[] = {{"json", 0, false, 0}, {"help", 'h', false, 1}};
    struct tool_args args = {.options = options, .count = 2, .argc = argc, .argv = argv, .at = 1};
    bool json = false;
    cJSON *list;
    int code;
    int id;
    int err;

    while ((id = tool_next(&args)) != TOOL_ARG_END) {
        if (id == TOOL_ARG_BAD) {
            return TOOL_USAGE;
        }
        if (id == TOOL_ARG_OPERAND) {
            return tool_misuse("\"%s\" is not an option; sp inspect shows one plugin", args.value);
        }
        if (id == 1) {
            (void)puts(plugins_help);
            return tool_flush();
        }
        json = true;
    }
    if (json) {
        return tool_print_plugin_list(NULL);
    }
    list = tool_plugin_list(NULL, &err);
    if (list == NULL) {
        return tool_fail_sp("plugin", err);
    }
    code = plugins_print_table(list);
    cJSON_Delete(list);
    return code;
}
