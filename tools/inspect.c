/* SPDX-License-Identifier: MIT */
/// `sp inspect`: everything about one plugin, found by a name that it provides, its id or its file.
/// Members that this tool does not know are shown too, under their own names. [main thread]
#include "tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sp/sp.h>

#define INSPECT_TEXT 512

static const char inspect_help[] =
    "Usage: sp inspect NAME|FILE [--json]\n"
    "\n"
    "Shows everything about a plugin. NAME is a protocol, a URL scheme, an actor, a plugin's id "
    "or\n"
    "its file's name; FILE is a path (with a slash). Where several plugins fit, all are shown.\n"
    "\n"
    "  --json     as JSON\n"
    "  -h, --help";

/// A number of an option as people read it.
static const char *inspect_number(const cJSON *value, char *buf, size_t cap)
{
    double v = cJSON_GetNumberValue(value);

    if (!cJSON_IsNumber(value)) {
        return tool_value(value, buf, cap);
    }
    if (v >= (double)INT64_MAX) {
        (void)snprintf(buf, cap, "max");
    } else {
        (void)snprintf(buf, cap, "%" PRId64, (int64_t)v);
    }
    return buf;
}

/// The range of an option, "" where it has none.
static void inspect_range(const cJSON *option, char *buf, size_t cap)
{
    const cJSON *min = cJSON_GetObjectItemCaseSensitive(option, "min");
    const cJSON *max = cJSON_GetObjectItemCaseSensitive(option, "max");
    char low[32];
    char high[32];

    buf[0] = '\0';
    if (min != NULL && max != NULL) {
        (void)snprintf(buf, cap, "%s to %s", inspect_number(min, low, sizeof(low)),
                       inspect_number(max, high, sizeof(high)));
    } else if (max != NULL) {
        (void)snprintf(buf, cap, "up to %s bytes", inspect_number(max, high, sizeof(high)));
    }
}

static void inspect_print_option(const cJSON *option, int width)
{
    const cJSON *def = cJSON_GetObjectItemCaseSensitive(option, "default");
    const char *unit = tool_text(option, "unit", "");
    const char *doc = tool_text(option, "doc", "");
    char value[64] = "";
    char range[96];

    inspect_range(option, range, sizeof(range));
    if (def != NULL) {
        (void)inspect_number(def, value, sizeof(value));
    }
    (void)printf("      %-*s  %-5s", width, tool_text(option, "name", "?"),
                 tool_text(option, "type", "?"));
    if (value[0] != '\0') {
        (void)printf("  default %s%s%s", value, unit[0] != '\0' ? " " : "", unit);
    }
    if (range[0] != '\0') {
        (void)printf("%s  %s", value[0] != '\0' ? "," : "", range);
    }
    (void)printf(
        "%s%s\n",
        cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(option, "readonly")) ? "  (read only)" : "",
        cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(option, "context")) ? "  (each context)"
                                                                          : "");
    if (doc[0] != '\0') {
        (void)printf("      %-*s    %s\n", width, "", doc);
    }
}

static void inspect_print_options(const cJSON *options)
{
    const cJSON *option;
    int width = 0;

    if (cJSON_GetArraySize(options) == 0) {
        (void)puts("    options       none of its own");
        return;
    }
    cJSON_ArrayForEach(option, options)
    {
        int n = (int)strlen(tool_text(option, "name", "?"));

        width = n > width ? n : width;
    }
    (void)puts("    options");
    cJSON_ArrayForEach(option, options)
    {
        inspect_print_option(option, width);
    }
}

/// The protocol numbers on the wire.
static void inspect_print_ids(const cJSON *ids)
{
    const cJSON *pair;

    cJSON_ArrayForEach(pair, ids)
    {
        double own = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(pair, "own"));
        double peer = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(pair, "peer"));

        (void)printf("    %-12s  0x%02x, talks to 0x%02x\n", "number", (unsigned)own,
                     (unsigned)peer);
    }
}

/// Words of an array on one line.
static void inspect_print_words(const char *name, const cJSON *words)
{
    const cJSON *word;
    char text[INSPECT_TEXT];

    (void)printf("    %-12s ", name);
    cJSON_ArrayForEach(word, words)
    {
        (void)printf(" %s", tool_value(word, text, sizeof(text)));
    }
    (void)puts(cJSON_GetArraySize(words) == 0 ? " none" : "");
}

static void inspect_print_export(const cJSON *e)
{
    const cJSON *member;
    char text[INSPECT_TEXT];

    (void)printf("  %s %s\n", tool_text(e, "kind", "?"), tool_text(e, "name", "?"));
    cJSON_ArrayForEach(member, e)
    {
        const char *name = member->string;

        if (strcmp(name, "kind") == 0 || strcmp(name, "name") == 0) {
            continue;
        }
        if (strcmp(name, "options") == 0) {
            inspect_print_options(member);
        } else if (strcmp(name, "ids") == 0) {
            inspect_print_ids(member);
        } else if (cJSON_IsArray(member)) {
            inspect_print_words(name, member);
        } else {
            (void)printf("    %-12s  %s\n", strcmp(name, "url_form") == 0 ? "URL" : name,
                         tool_value(member, text, sizeof(text)));
        }
    }
}

static void inspect_print(const cJSON *plugin)
{
    const cJSON *member;
    const cJSON *e;
    char text[INSPECT_TEXT];

    (void)puts(tool_text(plugin, "file", "?"));
    cJSON_ArrayForEach(member, plugin)
    {
        if (strcmp(member->string, "file") == 0 || strcmp(member->string, "exports") == 0) {
            continue;
        }
        (void)tool_value(member, text, sizeof(text));
        if (text[0] != '\0') {
            (void)printf("  %-14s  %s\n", member->string, text);
        }
    }
    cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(plugin, "exports"))
    {
        (void)puts("");
        inspect_print_export(e);
    }
}

static int inspect_show(const char *name)
{
    const cJSON *plugin;
    bool first = true;
    int err;
    cJSON *list = tool_plugin_list(name, &err);

    if (list == NULL) {
        return tool_fail_sp("plugin", err);
    }
    cJSON_ArrayForEach(plugin, list)
    {
        (void)fputs(first ? "" : "\n", stdout);
        first = false;
        inspect_print(plugin);
    }
    cJSON_Delete(list);
    return tool_flush();
}

int tool_inspect(int argc, char **argv)
{
    static const struct tool_option options[] = {{"json", 0, false, 0}, {"help", 'h', false, 1}};
    struct tool_args args = {.options = options, .count = 2, .argc = argc, .argv = argv, .at = 1};
    const char *name = NULL;
    bool json = false;
    int id;

    while ((id = tool_next(&args)) != TOOL_ARG_END) {
        if (id == TOOL_ARG_BAD) {
            return TOOL_USAGE;
        }
        if (id == 1) {
            (void)puts(inspect_help);
            return tool_flush();
        }
        if (id == TOOL_ARG_OPERAND && name != NULL) {
            return tool_misuse("one plugin at a time");
        }
        json = json || id == 0;
        name = id == TOOL_ARG_OPERAND ? args.value : name;
    }
    if (name == NULL) {
        return tool_misuse("which plugin?");
    }
    return json ? tool_print_plugin_list(name) : inspect_show(name);
}
