/* SPDX-License-Identifier: MIT */
/// The command line of every sub-command. Its rules are nngcat's, so that what works there works
/// here; operands may stand anywhere.
#include "tool.h"

#include <stdlib.h>
#include <string.h>

#include <sp/sp.h>

/// The option that `text` (its first `n` bytes) names: the whole name, or the beginning of one or
/// of several aliases. NULL, said: none, or several.
static const struct tool_option *args_find(const struct tool_args *args, const char *text, size_t n)
{
    const struct tool_option *found = NULL;

    for (size_t i = 0; i < args->count; i++) {
        const struct tool_option *option = &args->options[i];

        if (strncmp(option->name, text, n) != 0) {
            continue;
        }
        if (option->name[n] == '\0') {
            return option;
        }
        if (found != NULL && found->id != option->id) {
            (void)tool_misuse("option --%.*s is ambiguous: --%s or --%s", (int)n, text, found->name,
                              option->name);
            return NULL;
        }
        found = found == NULL ? option : found;
    }
    if (found == NULL) {
        (void)tool_misuse("there is no option --%.*s", (int)n, text);
    }
    return found;
}

/// The next word is the option's value.
static int args_take_value(struct tool_args *args, const struct tool_option *option,
                           const char *word)
{
    if (args->at >= args->argc) {
        (void)tool_misuse("option %s needs a value", word);
        return TOOL_ARG_BAD;
    }
    args->value = args->argv[args->at++];
    return option->id;
}

static int args_long(struct tool_args *args, const char *word)
{
    size_t n = strcspn(word + 2, "=");
    const char *equals = word[2 + n] == '=' ? word + 2 + n : NULL;
    const struct tool_option *option = args_find(args, word + 2, n);

    if (option == NULL) {
        return TOOL_ARG_BAD;
    }
    if (equals != NULL && !option->takes_value) {
        (void)tool_misuse("option --%s takes no value", option->name);
        return TOOL_ARG_BAD;
    }
    if (equals != NULL) {
        args->value = equals + 1;
        return option->id;
    }
    return option->takes_value ? args_take_value(args, option, word) : option->id;
}

static int args_letter(struct tool_args *args, const char *word)
{
    const struct tool_option *option = NULL;

    for (size_t i = 0; i < args->count && option == NULL; i++) {
        option = args->options[i].letter == word[1] ? &args->options[i] : NULL;
    }
    if (option == NULL || (word[2] != '\0' && !option->takes_value)) {
        (void)tool_misuse("there is no option %s", word);
        return TOOL_ARG_BAD;
    }
    if (word[2] != '\0') {
        args->value = word + 2;
        return option->id;
    }
    return option->takes_value ? args_take_value(args, option, word) : option->id;
}

int tool_next(struct tool_args *args)
{
    const char *word;

    args->value = NULL;
    if (args->at >= args->argc) {
        return TOOL_ARG_END;
    }
    word = args->argv[args->at++];
    if (!args->only_operands && strcmp(word, "--") == 0) {
        args->only_operands = true;
        return tool_next(args);
    }
    if (args->only_operands || word[0] != '-' || word[1] == '\0') {
        args->value = word;
        return TOOL_ARG_OPERAND;
    }
    return word[1] == '-' ? args_long(args, word) : args_letter(args, word);
}

bool tool_number(const char *text, const char *what, int64_t max, int64_t *out)
{
    int64_t value = 0;

    if (text[0] == '\0' || text[strspn(text, "0123456789")] != '\0') {
        (void)tool_misuse("%s: a whole number is wanted, not \"%s\"", what, text);
        return false;
    }
    for (const char *p = text; *p != '\0'; p++) {
        if (value > (max - (*p - '0')) / 10) {
            (void)tool_misuse("%s: %s is more than %lld", what, text, (long long)max);
            return false;
        }
        value = value * 10 + (*p - '0');
    }
    *out = value;
    return true;
}

/// Whether it is an option that is a text.
static bool args_is_text(uint64_t id, const char *name)
{
    size_t none = 0;

    return sp_get_str(id, name, NULL, &none) == SP_EMSGSIZE;
}

int tool_set_option(uint64_t id, const char *name, const char *text)
{
    bool truth = strcmp(text, "true") == 0;
    char *end = NULL;
    long long number = strtoll(text, &end, 0);
    bool is_number = truth || strcmp(text, "false") == 0 || (end != text && *end == '\0');
    int err;

    if (args_is_text(id, name)) {
        return sp_set_str(id, name, text);
    }
    err = is_number ? sp_set_int(id, name, truth ? 1 : number) : SP_EINVAL;
    if (err == SP_EINVAL) {
        err = sp_set_str(id, name, text);
    }
    if (err == SP_EINVAL) {
        err = sp_set_bytes(id, name, text, strlen(text));
    }
    if (err == SP_EINVAL && is_number) {
        err = sp_set_int(id, name, truth ? 1 : number); // it says what is wrong
    }
    return err;
}
