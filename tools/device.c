/* SPDX-License-Identifier: MIT */
/// `sp device`: two raw sockets and what forwards between them, or one that reflects, until Ctrl-C.
/// [main thread, and that of the signals ends it]
#include "tool.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sp/sp.h>

enum device_option { DEVICE_OPT_LISTEN, DEVICE_OPT_DIAL, DEVICE_OPT_OPTION, DEVICE_OPT_HELP };

static const struct tool_option device_options[] = {
    {"listen", 0, true, DEVICE_OPT_LISTEN}, {"bind", 0, true, DEVICE_OPT_LISTEN},
    {"dial", 0, true, DEVICE_OPT_DIAL},     {"connect", 0, true, DEVICE_OPT_DIAL},
    {"option", 0, true, DEVICE_OPT_OPTION}, {"help", 'h', false, DEVICE_OPT_HELP},
};

/// A pattern and the protocols of its two sides.
static const struct device_pattern {
    const char *name;
    const char *protocols[2];
} device_patterns[] = {
    {"reqrep", {"rep", "req"}},
    {"pubsub", {"sub", "pub"}},
    {"pipeline", {"pull", "push"}},
    {"survey", {"respondent", "surveyor"}},
};

/// An address, or a setting.
struct device_word {
    int id;           ///< enum device_option
    const char *text; ///< a setting's NAME
    const char *value;
    bool applied;
};

struct device_side {
    const char *protocol;
    struct device_word *words;
    size_t n;
    size_t addresses;
    sp_socket s;
};

struct device_config {
    struct device_side side[2];
    bool reflects; ///< there is one side only
    char first[64];
};

/// What ends it. Under the lock, as the signals have a thread of their own.
static struct {
    pthread_mutex_t lock;
    sp_op *op; ///< NULL: not yet, or no more
    bool stopped;
} device_run = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ------------------------------------------------------------------ The command line */

static int device_help(void)
{
    (void)puts("Usage: sp device PATTERN ADDRESS... -- ADDRESS...\n"
               "       sp device PATTERN ADDRESS...\n"
               "\n"
               "Forwards messages between those who connect to the addresses in front of \"--\" "
               "and those\n"
               "behind it, until Ctrl-C. With one side only it sends back to that side.\n"
               "\n"
               "Patterns, who belongs in front of \"--\", and who behind it:\n"
               "  reqrep      req          rep\n"
               "  pubsub      pub          sub\n"
               "  pipeline    push         pull\n"
               "  survey      surveyor     respondent\n"
               "  bus, pair, pair1         the same on both sides, or one side alone\n"
               "  NAME or NAME,NAME        raw sockets of any protocol, for one or for each side\n"
               "\n"
               "Addresses, any number on each side:\n"
               "  --listen URL         listen there; each is printed as \"Listening at: URL\"\n"
               "  --dial URL           connect there, in the background, again and again\n"
               "  --option NAME=VALUE  an option of this side's socket or addresses\n"
               "\n"
               "Exit status: 0 ended by Ctrl-C, 1 failure, 2 wrong usage.");
    return tool_flush();
}

/// The protocols of both sides by the pattern's name.
static int device_protocols(struct device_config *cfg, const char *pattern)
{
    char *comma;

    for (size_t i = 0; i < sizeof(device_patterns) / sizeof(device_patterns[0]); i++) {
        if (strcmp(device_patterns[i].name, pattern) == 0) {
            cfg->side[0].protocol = device_patterns[i].protocols[0];
            cfg->side[1].protocol = device_patterns[i].protocols[1];
            return TOOL_OK;
        }
    }
    if (strlen(pattern) >= sizeof(cfg->first)) {
        return tool_misuse("there is no pattern \"%s\"", pattern);
    }
    (void)snprintf(cfg->first, sizeof(cfg->first), "%s", pattern);
    comma = strchr(cfg->first, ',');
    cfg->side[0].protocol = cfg->first;
    cfg->side[1].protocol = comma != NULL ? comma + 1 : cfg->first;
    if (comma != NULL) {
        *comma = '\0';
    }
    return TOOL_OK;
}

/// Takes an option of a side.
static int device_word(struct device_side *side, int id, char *text)
{
    struct device_word *w = &side->words[side->n++];
    char *equals = id == DEVICE_OPT_OPTION ? strchr(text, '=') : NULL;

    *w = (struct device_word){.id = id, .text = text};
    if (id != DEVICE_OPT_OPTION) {
        side->addresses++;
    } else if (equals == NULL || equals == text) {
        return tool_misuse("--option wants NAME=VALUE, not \"%s\"", text);
    } else {
        *equals = '\0';
        w->value = equals + 1;
    }
    return TOOL_OK;
}

/// Reads the words of one side; the first operand of the first one is the pattern. A positive
/// return is an exit code plus 1.
static int device_read_side(struct device_config *cfg, int which, int argc, char **argv)
{
    struct tool_args args = {.options = device_options,
                             .count = sizeof(device_options) / sizeof(device_options[0]),
                             .argc = argc,
                             .argv = argv,
                             .at = 1};
    int code = TOOL_OK;

    while (code == TOOL_OK) {
        int id = tool_next(&args);

        switch (id) {
        case TOOL_ARG_END:
            return 0;
        case TOOL_ARG_BAD:
            return TOOL_USAGE + 1;
        case DEVICE_OPT_HELP:
            return device_help() + 1;
        case TOOL_ARG_OPERAND:
            code = cfg->side[0].protocol == NULL && which == 0
                       ? device_protocols(cfg, args.value)
                       : tool_misuse("\"%s\" is one word too many", args.value);
            break;
        default:
            code = device_word(&cfg->side[which], id, (char *)(uintptr_t)args.value);
        }
    }
    return code + 1;
}

/// What makes no sense.
static int device_check(const struct device_config *cfg)
{
    if (cfg->side[0].protocol == NULL) {
        return tool_misuse("which pattern?");
    }
    if (cfg->side[0].addresses == 0 || (!cfg->reflects && cfg->side[1].addresses == 0)) {
        return tool_misuse("a side has no address (--listen or --dial)");
    }
    if (cfg->reflects && strcmp(cfg->side[0].protocol, cfg->side[1].protocol) != 0) {
        return tool_misuse("this pattern needs a second side, behind \"--\"");
    }
    return TOOL_OK;
}

static int device_read(struct device_config *cfg, int argc, char **argv)
{
    int split = 1;
    int code;

    while (split < argc && strcmp(argv[split], "--") != 0) {
        split++;
    }
    cfg->reflects = split == argc;
    for (int i = 0; i < 2; i++) {
        cfg->side[i].words = calloc((size_t)argc, sizeof(struct device_word));
        if (cfg->side[i].words == NULL) {
            return tool_fail("no memory") + 1;
        }
    }
    code = device_read_side(cfg, 0, split, argv);
    for (int i = split + 1; i < argc && code == 0; i++) {
        code = strcmp(argv[i], "--") == 0 ? tool_misuse("there are more than two sides") + 1 : 0;
    }
    if (code == 0 && !cfg->reflects) {
        code = device_read_side(cfg, 1, argc - split, argv + split);
    }
    if (code == 0) {
        code = device_check(cfg);
        code = code != TOOL_OK ? code + 1 : 0;
    }
    return code;
}

/* ------------------------------------------------------------------ Sockets */

/// Applies the settings that the object knows; with `again` those too that another one knew.
static int device_apply(struct device_side *side, uint64_t id, bool again)
{
    for (struct device_word *w = side->words; w < side->words + side->n; w++) {
        int err;

        if (w->id != DEVICE_OPT_OPTION || (w->applied && !again)) {
            continue;
        }
        err = tool_set_option(id, w->text, w->value);
        w->applied = w->applied || err == SP_OK;
        if (err < 0 && err != SP_ENOTSUP) {
            return tool_fail_sp("option", err);
        }
    }
    return TOOL_OK;
}

static int device_listen(struct device_side *side, const char *url)
{
    char bound[256];
    size_t cap = sizeof(bound);
    sp_listener l;
    int err = sp_listener_new(&l, side->s, url);

    if (err == SP_OK) {
        int code = device_apply(side, l.id, true);

        if (code != TOOL_OK) {
            return code;
        }
        err = sp_listener_start(l);
    }
    if (err < 0) {
        return tool_fail_sp("listen", err);
    }
    (void)printf("Listening at: %s\n", sp_get_str(l.id, "url", bound, &cap) >= 0 ? bound : url);
    return TOOL_OK;
}

static int device_dial(struct device_side *side, const char *url)
{
    sp_dialer d;
    int err = sp_dialer_new(&d, side->s, url);

    if (err == SP_OK) {
        int code = device_apply(side, d.id, true);

        if (code != TOOL_OK) {
            return code;
        }
        err = sp_dialer_start(d, SP_NONBLOCK);
    }
    return err < 0 ? tool_fail_sp("dial", err) : TOOL_OK;
}

static int device_open(struct device_side *side)
{
    int err = sp_open_raw(&side->s, side->protocol);

    return err < 0 ? tool_fail_sp("open", err) : device_apply(side, side->s.id, false);
}

/// Its addresses, once the device runs.
static int device_start(struct device_side *side)
{
    int code = TOOL_OK;

    for (struct device_word *w = side->words; w < side->words + side->n && code == TOOL_OK; w++) {
        if (w->id != DEVICE_OPT_OPTION) {
            code = w->id == DEVICE_OPT_LISTEN ? device_listen(side, w->text)
                                              : device_dial(side, w->text);
        }
    }
    for (struct device_word *w = side->words; w < side->words + side->n && code == TOOL_OK; w++) {
        if (w->id == DEVICE_OPT_OPTION && !w->applied) {
            code = tool_fail("neither the socket nor an address has the option %s", w->text);
        }
    }
    return code;
}

/* ------------------------------------------------------------------ The command */

/// Ctrl-C. [the signals' thread]
static void device_on_stop(void *arg)
{
    (void)arg;
    (void)pthread_mutex_lock(&device_run.lock);
    device_run.stopped = true;
    if (device_run.op != NULL) {
        (void)sp_op_stop(device_run.op);
    }
    (void)pthread_mutex_unlock(&device_run.lock);
}

/// Says which operation Ctrl-C stops. False: it was asked for already.
static bool device_stops(sp_op *op)
{
    bool stopped;

    (void)pthread_mutex_lock(&device_run.lock);
    stopped = device_run.stopped;
    device_run.op = op;
    (void)pthread_mutex_unlock(&device_run.lock);
    return !stopped;
}

/// Runs the device until Ctrl-C.
static int device_forward(struct device_config *cfg, sp_op *op)
{
    struct device_side *last = &cfg->side[cfg->reflects ? 0 : 1];
    int code = TOOL_OK;
    int err = sp_op_device(op, cfg->side[0].s, last->s);

    if (err < 0) {
        return tool_stopped() ? TOOL_OK : tool_fail_sp("device", err);
    }
    for (struct device_side *side = cfg->side; side <= last && code == TOOL_OK; side++) {
        code = device_start(side);
    }
    code = code == TOOL_OK ? tool_flush() : code;
    if (code == TOOL_OK) {
        err = sp_op_wait(op);
        code = err < 0 && !tool_stopped() ? tool_fail_sp("device", err) : TOOL_OK;
    }
    return code;
}

static int device_open_and_run(struct device_config *cfg)
{
    sp_op *op = NULL;
    int code;
    int err;

    if (tool_stop_watch(device_on_stop, NULL) != TOOL_OK) {
        return TOOL_FAILED;
    }
    code = device_open(&cfg->side[0]);
    if (code == TOOL_OK && !cfg->reflects) {
        code = device_open(&cfg->side[1]);
    }
    if (code != TOOL_OK) {
        return code;
    }
    err = sp_op_new(&op, NULL, NULL);
    if (err < 0) {
        return tool_fail_sp("device", err);
    }
    code = device_stops(op) ? device_forward(cfg, op) : TOOL_OK;
    (void)device_stops(NULL);
    sp_op_free(op);
    return code; // sp_fini closes the sockets, which write what they have.
}

int tool_device(int argc, char **argv)
{
    struct device_config cfg = {0};
    int code = device_read(&cfg, argc, argv);

    code = code == 0 ? device_open_and_run(&cfg) : code - 1;
    free(cfg.side[0].words);
    free(cfg.side[1].words);
    return code;
}
