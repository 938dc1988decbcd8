/* SPDX-License-Identifier: MIT */
/// The `sp` command: finds the sub-command and runs it.
#include "tool.h"

#include <stdio.h>
#include <string.h>

#include <sp/sp.h>

struct main_command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
};

static const struct main_command main_commands[] = {
    {"cat", "send and receive messages; options as nngcat", tool_cat},
    {"plugins", "list the plugins that are loaded and loadable", tool_plugins},
    {"inspect", "show everything about one plugin", tool_inspect},
    {"doctor", "find out why something does not load or connect", tool_doctor},
    {"perf", "measure latency and throughput", tool_perf},
    {"device", "forward between two sides, or reflect", tool_device},
};

#define MAIN_COMMANDS (sizeof(main_commands) / sizeof(main_commands[0]))

static int main_help(void)
{
    (void)puts("Usage: sp COMMAND [ARGUMENT...]\n"
               "       sp COMMAND --help\n"
               "       sp --version\n"
               "\n"
               "Commands:");
    for (size_t i = 0; i < MAIN_COMMANDS; i++) {
        (void)printf("  %-9s %s\n", main_commands[i].name, main_commands[i].summary);
    }
    (void)puts("\n"
               "Exit status: 0 success, 1 failure, 2 wrong usage.\n"
               "SP_PLUGIN_PATH: directories to search for plugins first, separated by colons.");
    return tool_flush();
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    tool_set_name("");
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        return main_help();
    }
    if (strcmp(name, "--version") == 0) {
        (void)printf("sp %s\n", sp_version());
        return tool_flush();
    }
    for (size_t i = 0; i < MAIN_COMMANDS; i++) {
        if (strcmp(name, main_commands[i].name) == 0) {
            int code;

            tool_set_name(name);
            code = main_commands[i].run(argc - 1, argv + 1);
            sp_fini();
            return code;
        }
    }
    if (name[0] == '\0') {
        return tool_misuse("which command?");
    }
    return tool_misuse("there is no command \"%s\"", name);
}
