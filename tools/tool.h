/* SPDX-License-Identifier: MIT */
/// What the sub-commands of `sp` share: exit codes and messages, the command line, the end by
/// Ctrl-C, reading and showing JSON. Everything is for the main thread unless it says otherwise.
#ifndef SP_TOOL_TOOL_H
#define SP_TOOL_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

/// Exit codes.
enum tool_exit { TOOL_OK = 0, TOOL_FAILED = 1, TOOL_USAGE = 2 };

/// The sub-commands: `argv[0]` is the command's name. They return an exit code.
int tool_cat(int argc, char **argv);
int tool_plugins(int argc, char **argv);
int tool_inspect(int argc, char **argv);
int tool_doctor(int argc, char **argv);
int tool_perf(int argc, char **argv);
int tool_device(int argc, char **argv);

/* ------------------------------------------------------------------ Messages */

/// Says which sub-command speaks: "cat" makes the messages begin with "sp cat: ".
void tool_set_name(const char *name);

/// One line on standard error. Returns TOOL_FAILED.
__attribute__((format(printf, 1, 2))) int tool_fail(const char *fmt, ...);

/// One line on standard error that also names --help. Returns TOOL_USAGE.
__attribute__((format(printf, 1, 2))) int tool_misuse(const char *fmt, ...);

/// The chain of causes of this thread's last failed call of the library, or the text of `err` when
/// there is none, on standard error, after `what` and ": " where the chain does not begin with it.
/// Returns TOOL_FAILED.
int tool_fail_sp(const char *what, int err);

/// Flushes standard output. TOOL_FAILED, with a message, if anything of it was lost.
int tool_flush(void);

/* ------------------------------------------------------------------ The command line */

/// One option: `name` without its dashes, `letter` 0 when it has none. Options with one `id` are
/// aliases.
struct tool_option {
    const char *name;
    char letter;
    bool takes_value;
    int id;
};

/// What tool_next returns beside the ids, which are 0 and above.
enum tool_arg {
    TOOL_ARG_END = -1,     ///< there is nothing more
    TOOL_ARG_OPERAND = -2, ///< not an option: it is in `value`
    TOOL_ARG_BAD = -3      ///< wrong, and that was said
};

/// A walk over a command line. Long options may be shortened as long as they stay unambiguous, and
/// take their value after
/// "=" or as the next word; letters stand alone, with the value behind them or as the next word.
struct tool_args {
    const struct tool_option *options;
    size_t count;
    int argc;
    char **argv;
    int at;             ///< the word to look at next: 1 at the beginning
    bool only_operands; ///< "--" was seen
    const char *value;  ///< of the option, or the operand
};

/// The next option's id, or enum tool_arg.
int tool_next(struct tool_args *args);

/// A whole number of decimal digits, at most `max`. False, with a message naming `what`: it is not.
bool tool_number(const char *text, const char *what, int64_t max, int64_t *out);

/// Sets an option of a socket or an endpoint to a text: as a number ("true", "false": 1, 0) if it
/// is one and a number is wanted, else as text, else as bytes. As sp_set_int.
int tool_set_option(uint64_t id, const char *name, const char *text);

/* ------------------------------------------------------------------ Time and Ctrl-C */

/// Milliseconds of the monotonic clock.
int64_t tool_now(void);

/// From now on SIGINT and SIGTERM (where they are not ignored) call `fn(arg)` once, on a thread of
/// their own; a second one ends the process at once. To be called before the library starts
/// threads. TOOL_OK or TOOL_FAILED.
int tool_stop_watch(void (*fn)(void *arg), void *arg);

/// True once the user asked to end. [any thread]
bool tool_stopped(void);

/// Sleeps; false: the user asked to end.
bool tool_sleep(int64_t ms);

/* ------------------------------------------------------------------ JSON */

/// The library's list of plugins, by sp_plugins; `name` NULL: all. NULL: it failed, with `*err`.
/// Freed by cJSON_Delete.
cJSON *tool_plugin_list(const char *name, int *err);

/// Prints that list as the library gives it. TOOL_OK or TOOL_FAILED.
int tool_print_plugin_list(const char *name);

/// The text of a member; `other` when there is none or it is not text.
const char *tool_text(const cJSON *object, const char *member, const char *other);

/// A value on one line, without quotes around text: into `buf`, which is returned.
const char *tool_value(const cJSON *value, char *buf, size_t cap);

/// Prints a tree and ends the line. TOOL_OK or TOOL_FAILED.
int tool_print_json(const cJSON *root);

#endif
