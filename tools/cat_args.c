/* SPDX-License-Identifier: MIT */
/// The command line of `sp cat`: every option of nngcat but --zt-home, under its rules, and --bus,
/// --protocol and --option. [main thread]
#include "cat.h"
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAT_SECONDS_MAX 86400
#define CAT_PORT_MAX 65535

/// Option ids; a pattern's is its place in cat_patterns.
enum cat_option {
    CAT_OPT_PROTOCOL = 100,
    CAT_OPT_DIAL,
    CAT_OPT_LISTEN,
    CAT_OPT_DIAL_PORT,
    CAT_OPT_LISTEN_PORT,
    CAT_OPT_DIAL_IPC,
    CAT_OPT_LISTEN_IPC,
    CAT_OPT_FORMAT,
    CAT_OPT_FORMAT_IS, ///< plus the format
    CAT_OPT_SUBSCRIBE = CAT_OPT_FORMAT_IS + CAT_FORMATS,
    CAT_OPT_SILENT,
    CAT_OPT_VERBOSE,
    CAT_OPT_COUNT,
    CAT_OPT_DELAY,
    CAT_OPT_INTERVAL,
    CAT_OPT_RECV_TIMEOUT,
    CAT_OPT_SEND_TIMEOUT,
    CAT_OPT_RECV_MAX,
    CAT_OPT_COMPAT,
    CAT_OPT_ASYNC,
    CAT_OPT_INSECURE,
    CAT_OPT_CACERT,
    CAT_OPT_CERT,
    CAT_OPT_KEY,
    CAT_OPT_SOCKET_NAME,
    CAT_OPT_OPTION,
    CAT_OPT_FILE,
    CAT_OPT_DATA,
    CAT_OPT_HELP,
    CAT_OPT_VERSION
};

static const struct cat_pattern cat_patterns[] = {
    {"req", CAT_ASK, true},         {"rep", CAT_ANSWER, true},        {"pub", CAT_SEND, true},
    {"sub", CAT_RECEIVE, true},     {"push", CAT_SEND, true},         {"pull", CAT_RECEIVE, true},
    {"surveyor", CAT_ASK, true},    {"respondent", CAT_ANSWER, true}, {"pair", CAT_CONVERSE, true},
    {"pair1", CAT_CONVERSE, false}, {"bus", CAT_CONVERSE, true},
};

#define CAT_PATTERNS (sizeof(cat_patterns) / sizeof(cat_patterns[0]))

static const struct tool_option cat_options[] = {
    {"req", 0, false, 0},
    {"req0", 0, false, 0},
    {"rep", 0, false, 1},
    {"rep0", 0, false, 1},
    {"pub", 0, false, 2},
    {"pub0", 0, false, 2},
    {"sub", 0, false, 3},
    {"sub0", 0, false, 3},
    {"push", 0, false, 4},
    {"push0", 0, false, 4},
    {"pull", 0, false, 5},
    {"pull0", 0, false, 5},
    {"surveyor", 0, false, 6},
    {"surveyor0", 0, false, 6},
    {"respondent", 0, false, 7},
    {"respondent0", 0, false, 7},
    {"pair", 0, false, 8},
    {"pair0", 0, false, 8},
    {"pair1", 0, false, 9},
    {"bus", 0, false, 10},
    {"bus0", 0, false, 10},
    {"protocol", 0, true, CAT_OPT_PROTOCOL},
    {"dial", 0, true, CAT_OPT_DIAL},
    {"connect", 0, true, CAT_OPT_DIAL},
    {"listen", 0, true, CAT_OPT_LISTEN},
    {"bind", 0, true, CAT_OPT_LISTEN},
    {"connect-local", 'l', true, CAT_OPT_DIAL_PORT},
    {"bind-local", 'L', true, CAT_OPT_LISTEN_PORT},
    {"connect-ipc", 'x', true, CAT_OPT_DIAL_IPC},
    {"bind-ipc", 'X', true, CAT_OPT_LISTEN_IPC},
    {"format", 0, true, CAT_OPT_FORMAT},
    {"raw", 0, false, CAT_OPT_FORMAT_IS + CAT_FORMAT_RAW},
    {"ascii", 'A', false, CAT_OPT_FORMAT_IS + CAT_FORMAT_ASCII},
    {"quoted", 'Q', false, CAT_OPT_FORMAT_IS + CAT_FORMAT_QUOTED},
    {"hex", 0, false, CAT_OPT_FORMAT_IS + CAT_FORMAT_HEX},
    {"msgpack", 0, false, CAT_OPT_FORMAT_IS + CAT_FORMAT_MSGPACK},
    {"subscribe", 0, true, CAT_OPT_SUBSCRIBE},
    {"silent", 'q', false, CAT_OPT_SILENT},
    {"verbose", 'v', false, CAT_OPT_VERBOSE},
    {"count", 'C', true, CAT_OPT_COUNT},
    {"delay", 'd', true, CAT_OPT_DELAY},
    {"interval", 'i', true, CAT_OPT_INTERVAL},
    {"recv-timeout", 0, true, CAT_OPT_RECV_TIMEOUT},
    {"send-timeout", 0, true, CAT_OPT_SEND_TIMEOUT},
    {"recv-maxsz", 'Z', true, CAT_OPT_RECV_MAX},
    {"compat", 0, false, CAT_OPT_COMPAT},
    {"async", 0, false, CAT_OPT_ASYNC},
    {"insecure", 'k', false, CAT_OPT_INSECURE},
    {"cacert", 0, true, CAT_OPT_CACERT},
    {"cert", 'E', true, CAT_OPT_CERT},
    {"key", 0, true, CAT_OPT_KEY},
    {"socket-name", 0, true, CAT_OPT_SOCKET_NAME},
    {"option", 0, true, CAT_OPT_OPTION},
    {"file", 'F', true, CAT_OPT_FILE},
    {"data", 'D', true, CAT_OPT_DATA},
    {"help", 'h', false, CAT_OPT_HELP},
    {"version", 0, false, CAT_OPT_VERSION},
};

static const char cat_help[] =
    "Usage: sp cat PROTOCOL ADDRESS... [OPTION...]\n"
    "\n"
    "Sends and receives messages. Options are those of nngcat and mean the same.\n"
    "\n"
    "Protocol, one:\n"
    "  --req --rep --pub --sub --push --pull --surveyor --respondent --bus\n"
    "  --pair --pair1            (--pair is pair 0; all also with a 0, as --req0)\n"
    "  --protocol NAME           any that a plugin provides\n"
    "\n"
    "Addresses, one or more:\n"
    "  --dial URL                or --connect URL\n"
    "  --listen URL              or --bind URL\n"
    "  -l, --connect-local PORT  tcp://127.0.0.1:PORT\n"
    "  -L, --bind-local PORT\n"
    "  -x, --connect-ipc PATH    ipc://PATH\n"
    "  -X, --bind-ipc PATH\n"
    "\n"
    "How received messages are printed:\n"
    "  --format no|ascii|hex|msgpack|quoted|raw   (no: not at all, the default)\n"
    "  -A, --ascii   -Q, --quoted   --hex   --msgpack   --raw\n"
    "\n"
    "What is sent:\n"
    "  -D, --data DATA\n"
    "  -F, --file FILE           the whole file as one message; - is standard input\n"
    "\n"
    "Options:\n"
    "  -i, --interval SECONDS    send again and again\n"
    "  -d, --delay SECONDS       wait before the first send\n"
    "  -C, --count NUMBER        end after so many sends, or receipts where nothing is sent\n"
    "  --subscribe TOPIC         with --sub; may be repeated; default: everything\n"
    "  --recv-timeout SECONDS    end, with success, when nothing came for so long\n"
    "  --send-timeout SECONDS\n"
    "  -Z, --recv-maxsz BYTES    refuse larger messages\n"
    "  --option NAME=VALUE       set any option of the socket or of the addresses\n"
    "  --async                   dial in the background, again and again\n"
    "  --compat                  as nanocat: --async, no --pair1, no --count\n"
    "  -k, --insecure  --cacert FILE  -E, --cert FILE  --key FILE   for TLS\n"
    "  -v, --verbose   -q, --silent   -h, --help   --version\n"
    "\n"
    "Long options may be shortened. Ctrl-C ends it with success.";

static bool cat_add_endpoint(struct cat_config *cfg, bool listens, const char *prefix,
                             const char *rest)
{
    struct cat_endpoint *grown = realloc(cfg->endpoints,
                                         (cfg->endpoint_count + 1) * sizeof(*grown));
    char *url = NULL;

    if (grown != NULL) {
        cfg->endpoints = grown;
    }
    if (grown == NULL || asprintf(&url, "%s%s", prefix, rest) < 0) {
        (void)tool_fail("no memory");
        return false;
    }
    cfg->endpoints[cfg->endpoint_count].listens = listens;
    cfg->endpoints[cfg->endpoint_count].url = url;
    cfg->endpoint_count++;
    return true;
}

static bool cat_add_port(struct cat_config *cfg, bool listens, const char *text)
{
    int64_t port;

    return tool_number(text, "port", CAT_PORT_MAX, &port) &&
           cat_add_endpoint(cfg, listens, "tcp://127.0.0.1:", text);
}

static bool cat_add_setting(struct cat_config *cfg, const char *text)
{
    const char *equals = strchr(text, '=');
    struct cat_setting *grown;
    char *name;

    if (equals == NULL || equals == text) {
        (void)tool_misuse("--option wants NAME=VALUE, not \"%s\"", text);
        return false;
    }
    grown = realloc(cfg->settings, (cfg->setting_count + 1) * sizeof(*grown));
    if (grown != NULL) {
        cfg->settings = grown;
    }
    name = strndup(text, (size_t)(equals - text));
    if (grown == NULL || name == NULL) {
        free(name);
        (void)tool_fail("no memory");
        return false;
    }
    grown[cfg->setting_count++] = (struct cat_setting){.name = name, .text = equals + 1};
    return true;
}

static bool cat_add_topic(struct cat_config *cfg, const char *topic)
{
    const char **grown = realloc(cfg->topics, (cfg->topic_count + 1) * sizeof(*grown));

    if (grown == NULL) {
        (void)tool_fail("no memory");
        return false;
    }
    cfg->topics = grown;
    grown[cfg->topic_count++] = topic;
    return true;
}

/// One protocol, given by its option or its name.
static bool cat_set_pattern(struct cat_config *cfg, const struct cat_pattern *pattern)
{
    if (cfg->pattern.protocol != NULL) {
        (void)tool_misuse("only one protocol may be given");
        return false;
    }
    cfg->pattern = *pattern;
    return true;
}

static bool cat_set_protocol(struct cat_config *cfg, const char *name)
{
    struct cat_pattern other = {.protocol = name, .mode = CAT_GUESS};

    for (size_t i = 0; i < CAT_PATTERNS; i++) {
        if (strcmp(cat_patterns[i].protocol, name) == 0) {
            return cat_set_pattern(cfg, &cat_patterns[i]);
        }
    }
    return cat_set_pattern(cfg, &other);
}

static bool cat_set_format(struct cat_config *cfg, enum cat_format format)
{
    if (format >= CAT_FORMATS) {
        (void)tool_misuse("formats are no, ascii, hex, msgpack, quoted and raw");
        return false;
    }
    if (cfg->format_given) {
        (void)tool_misuse("only one format may be given");
        return false;
    }
    cfg->format = format;
    cfg->format_given = true;
    return true;
}

static bool cat_set_source(struct cat_config *cfg, const char *data, const char *file)
{
    if (cfg->data != NULL || cfg->file != NULL) {
        (void)tool_misuse("only one of --data and --file may be given");
        return false;
    }
    cfg->file = file;
    if (data == NULL) {
        return true;
    }
    cfg->data = strdup(data);
    cfg->data_len = strlen(data);
    if (cfg->data == NULL) {
        (void)tool_fail("no memory");
        return false;
    }
    return true;
}

/// A time in whole seconds, kept in ms.
static bool cat_set_seconds(const char *text, const char *what, int64_t *ms)
{
    int64_t seconds;

    if (!tool_number(text, what, CAT_SECONDS_MAX, &seconds)) {
        return false;
    }
    *ms = seconds * 1000;
    return true;
}

/// A time-out; 0 is none.
static bool cat_set_timeout(const char *text, const char *what, int64_t *ms)
{
    if (!cat_set_seconds(text, what, ms)) {
        return false;
    }
    *ms = *ms == 0 ? -1 : *ms;
    return true;
}

static bool cat_set_tls_file(struct cat_config *cfg, int which, const char *path)
{
    if (cfg->tls_files[which] != NULL) {
        (void)tool_misuse("--cacert, --cert and --key may be given once each");
        return false;
    }
    cfg->tls_files[which] = path;
    return true;
}

static bool cat_set_flag(struct cat_config *cfg, int id)
{
    switch (id) {
    case CAT_OPT_COMPAT:
        cfg->compat = true;
        return true;
    case CAT_OPT_ASYNC:
        cfg->async = true;
        return true;
    case CAT_OPT_INSECURE:
        cfg->insecure = true;
        return true;
    case CAT_OPT_VERBOSE:
        cfg->verbose = true;
        return true;
    default: // CAT_OPT_SILENT
        cfg->verbose = false;
        return true;
    }
}

/// Options that say what to send, how often and how long.
static bool cat_set_value(struct cat_config *cfg, int id, const char *value)
{
    switch (id) {
    case CAT_OPT_COUNT:
        return tool_number(value, "--count", INT32_MAX, &cfg->count);
    case CAT_OPT_DELAY:
        return cat_set_seconds(value, "--delay", &cfg->delay);
    case CAT_OPT_INTERVAL:
        return cat_set_seconds(value, "--interval", &cfg->interval);
    case CAT_OPT_RECV_TIMEOUT:
        return cat_set_timeout(value, "--recv-timeout", &cfg->recv_timeout);
    case CAT_OPT_SEND_TIMEOUT:
        return cat_set_timeout(value, "--send-timeout", &cfg->send_timeout);
    case CAT_OPT_RECV_MAX:
        return tool_number(value, "--recv-maxsz", INT64_MAX, &cfg->recv_max);
    case CAT_OPT_SOCKET_NAME:
        cfg->socket_name = value;
        return true;
    case CAT_OPT_FILE:
        return cat_set_source(cfg, NULL, value);
    case CAT_OPT_DATA:
        return cat_set_source(cfg, value, NULL);
    default: // CAT_OPT_CACERT, CAT_OPT_CERT, CAT_OPT_KEY
        return cat_set_tls_file(cfg, id - CAT_OPT_CACERT, value);
    }
}

/// Takes one option over. False: wrong, and that was said.
static bool cat_take(struct cat_config *cfg, int id, const char *value)
{
    if (id < (int)CAT_PATTERNS) {
        return cat_set_pattern(cfg, &cat_patterns[id]);
    }
    if (id >= CAT_OPT_FORMAT_IS && id < CAT_OPT_SUBSCRIBE) {
        return cat_set_format(cfg, (enum cat_format)(id - CAT_OPT_FORMAT_IS));
    }
    switch (id) {
    case CAT_OPT_PROTOCOL:
        return cat_set_protocol(cfg, value);
    case CAT_OPT_DIAL:
    case CAT_OPT_LISTEN:
        return cat_add_endpoint(cfg, id == CAT_OPT_LISTEN, "", value);
    case CAT_OPT_DIAL_PORT:
    case CAT_OPT_LISTEN_PORT:
        return cat_add_port(cfg, id == CAT_OPT_LISTEN_PORT, value);
    case CAT_OPT_DIAL_IPC:
    case CAT_OPT_LISTEN_IPC:
        return cat_add_endpoint(cfg, id == CAT_OPT_LISTEN_IPC, "ipc://", value);
    case CAT_OPT_FORMAT:
        return cat_set_format(cfg, cat_format_find(value));
    case CAT_OPT_SUBSCRIBE:
        return cat_add_topic(cfg, value);
    case CAT_OPT_OPTION:
        return cat_add_setting(cfg, value);
    default:
        return value != NULL ? cat_set_value(cfg, id, value) : cat_set_flag(cfg, id);
    }
}

/// What may not go together. NULL: all is well; else what to say.
static const char *cat_conflict(const struct cat_config *cfg)
{
    enum cat_mode mode = cfg->pattern.mode;
    bool data = cfg->data != NULL || cfg->file != NULL;

    if (cfg->pattern.protocol == NULL) {
        return "no protocol given";
    }
    if (cfg->endpoint_count == 0) {
        return "no address given";
    }
    if (cfg->compat && cfg->async) {
        return "--async and --compat exclude each other";
    }
    if (cfg->compat && cfg->count > 0) {
        return "--count and --compat exclude each other";
    }
    if (cfg->compat && !cfg->pattern.compat) {
        return "this protocol cannot go with --compat";
    }
    if (cfg->topic_count > 0 && strcmp(cfg->pattern.protocol, "sub") != 0) {
        return "--subscribe is for --sub";
    }
    if (mode == CAT_RECEIVE && data) {
        return "this protocol does not send: no --data, no --file";
    }
    if ((mode == CAT_SEND || mode == CAT_ASK) && !data) {
        return "this protocol needs --data or --file";
    }
    if (mode == CAT_SEND && cfg->format_given) {
        return "this protocol does not receive: no format";
    }
    if (cfg->interval >= 0 && (mode == CAT_RECEIVE || mode == CAT_ANSWER)) {
        return "this protocol cannot go with --interval";
    }
    return cfg->interval >= 0 && !data ? "--interval needs --data or --file" : NULL;
}

int cat_config_read(struct cat_config *cfg, int argc, char **argv)
{
    struct tool_args args = {.options = cat_options,
                             .count = sizeof(cat_options) / sizeof(cat_options[0]),
                             .argc = argc,
                             .argv = argv,
                             .at = 1};
    const char *conflict;
    int id;

    cfg->interval = -1;
    cfg->recv_timeout = -1;
    cfg->send_timeout = -1;
    cfg->recv_max = -1;
    while ((id = tool_next(&args)) != TOOL_ARG_END) {
        if (id == TOOL_ARG_OPERAND) {
            return 1 + tool_misuse("\"%s\" is not an option", args.value);
        }
        if (id == CAT_OPT_HELP || id == CAT_OPT_VERSION) {
            (void)(id == CAT_OPT_HELP ? puts(cat_help) : printf("sp %s\n", sp_version()));
            return 1 + tool_flush();
        }
        if (id == TOOL_ARG_BAD || !cat_take(cfg, id, args.value)) {
            return 1 + TOOL_USAGE;
        }
    }
    conflict = cat_conflict(cfg);
    return conflict != NULL ? 1 + tool_misuse("%s", conflict) : 0;
}

void cat_config_clear(struct cat_config *cfg)
{
    for (size_t i = 0; i < cfg->endpoint_count; i++) {
        free(cfg->endpoints[i].url);
    }
    for (size_t i = 0; i < cfg->setting_count; i++) {
        free(cfg->settings[i].name);
    }
    free(cfg->endpoints);
    free(cfg->settings);
    free((void *)cfg->topics);
    free(cfg->data);
}
