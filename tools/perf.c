/* SPDX-License-Identifier: MIT */
/// `sp perf`: latency and throughput over any URL. The end that dials measures; the end that
/// listens serves: it answers a request to begin (struct perf_hello) and then echoes, or counts and
/// reports. Where there is no way back it counts and prints. In one process the server has a thread
/// of its own.
#include "perf.h"

#include "tool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PERF_SIZE_MAX (INT64_C(1) << 30)
#define PERF_COUNT_MAX (INT64_C(1) << 31)
#define PERF_SAMPLES_MAX ((size_t)1 << 22)
#define PERF_WARM_MAX 1000
#define PERF_AGAIN 250 // ms after which what may be lost is said again
#define PERF_ENDS 10   // how often the end is said to who cannot answer,
#define PERF_PAUSE 30  // and the ms between

/// What the end that dials opens, and the one that listens.
static const struct perf_pattern {
    const char *name;
    const char *client;
    const char *server;
    bool asks;  ///< an answer each
    bool drops; ///< unless told to wait
    bool mute;  ///< the one that listens cannot send
} perf_patterns[] = {{"pair", "pair", "pair", false, false, false},
                     {"pair1", "pair1", "pair1", false, false, false},
                     {"bus", "bus", "bus", false, true, false},
                     {"reqrep", "req", "rep", true, false, false},
                     {"survey", "surveyor", "respondent", true, false, false},
                     {"pushpull", "push", "pull", false, false, true},
                     {"pubsub", "pub", "sub", false, true, true}};

static const char perf_help[] =
    "Usage: sp perf lat|thr [OPTION...]\n"
    "\n"
    "Measures round trips (lat) or the rate of messages (thr). Without --listen and --dial both\n"
    "ends are in this process. In two processes start the one that listens first; it serves any\n"
    "measurement until Ctrl-C, and the one that dials measures; with pushpull and pubsub, which\n"
    "have no way back, the one that listens prints the rate.\n"
    "\n"
    "  --url URL          both ends here, over URL (inproc://sp-perf); of tcp, port 0 is any\n"
    "  --listen URL       serve\n"
    "  --dial URL         measure\n"
    "  --protocol NAME    pair, pair1, bus, reqrep, survey (lat: reqrep, thr: pair); thr also:\n"
    "                     pushpull, pubsub\n"
    "  --size BYTES       of a message (64)\n"
    "  --count N          messages or round trips (lat: 10000, thr: 100000)\n"
    "  --batch N          thr: messages a call (1)\n"
    "  --json             as JSON\n"
    "  -h, --help";

/// The sockets that are open, for Ctrl-C. Release by perf_open, acquire by perf_on_stop.
static _Atomic uint64_t perf_sockets[2];

static void perf_on_stop(void *unused)
{
    (void)unused;
    for (int i = 0; i < 2; i++) {
        sp_socket s = {atomic_load_explicit(&perf_sockets[i], memory_order_acquire)};

        if (s.id != 0) {
            (void)sp_close(s);
        }
    }
}

/// NULL: no such pattern.
static const struct perf_pattern *perf_pattern(const struct perf_config *cfg)
{
    for (size_t i = 0; i < sizeof(perf_patterns) / sizeof(perf_patterns[0]); i++) {
        if (strcmp(cfg->protocol, perf_patterns[i].name) == 0) {
            return &perf_patterns[i];
        }
    }
    return NULL;
}

static int perf_failed(const char *what, int err)
{
    return tool_stopped() ? TOOL_FAILED : tool_fail_sp(what, err);
}

/// A server and its thread in this process.
struct perf_local {
    struct perf_server server;
    pthread_t thread;
    bool joined;
};

/* ------------------------------------------------------------------ Measuring */

/// Receives until a message of `size` bytes comes that begins as `want` says, `n` bytes; into
/// `want`. Others may be of a measurement that was broken off.
static int perf_await(sp_socket s, void *want, size_t n, size_t size)
{
    bool found = false;
    int err = SP_OK;

    while (err == SP_OK && !found) {
        sp_msg *m;

        err = sp_recvmsg(s, &m, 0);
        if (err == SP_OK) {
            found = sp_msg_len(m) == size && memcmp(sp_msg_view(m), want, n) == 0;
            if (found) {
                memcpy(want, sp_msg_view(m), size);
            }
            sp_msg_release(m);
        }
    }
    return err;
}

/// Sends `h` and waits for what perf_await finds; says it again, for it may be lost, but to who is
/// asked: the protocol does that.
static int perf_ask(const struct perf_config *cfg, sp_socket s, const struct perf_hello *h,
                    void *want, size_t n, size_t size)
{
    bool asks = perf_pattern(cfg)->asks;
    int tries = asks ? 1 : PERF_TIMEOUT / PERF_AGAIN;
    int err = SP_ETIMEDOUT;

    for (int i = 0; i < tries && err == SP_ETIMEDOUT; i++) {
        err = sp_set_int(s.id, "recv-timeout", asks ? PERF_TIMEOUT : PERF_AGAIN);
        if (err == SP_OK) {
            err = sp_send(s, h, sizeof(*h), 0);
        }
        if (err == SP_OK) {
            err = perf_await(s, want, n, size);
        }
    }
    if (err == SP_ETIMEDOUT) {
        return tool_fail("no answer: does sp perf --listen --protocol %s run there?",
                         cfg->protocol);
    }
    if (err == SP_OK) {
        err = sp_set_int(s.id, "recv-timeout", PERF_TIMEOUT);
    }
    return err < 0 ? perf_failed("receive", err) : TOOL_OK;
}

static struct perf_hello perf_hello_of(const struct perf_config *cfg, const char *magic)
{
    struct perf_hello h = {0};
    bool ask = perf_pattern(cfg)->asks;

    (void)snprintf(h.magic, sizeof(h.magic), "%s", magic);
    (void)snprintf(h.what, sizeof(h.what), "%s", !cfg->thr ? "lat" : ask ? "ask" : "thr");
    (void)snprintf(h.count, sizeof(h.count), "%lld", (long long)cfg->count);
    (void)snprintf(h.batch, sizeof(h.batch), "%lld", (long long)cfg->batch);
    return h;
}

/// Sends the request to begin and waits until the server has it.
static int perf_begin(const struct perf_config *cfg, sp_socket s)
{
    struct perf_hello h = perf_hello_of(cfg, PERF_BEGIN);
    struct perf_hello answer = h;

    if (perf_pattern(cfg)->mute) {
        int err = sp_send(s, &h, sizeof(h), 0);

        return err < 0 ? perf_failed("send", err) : TOOL_OK;
    }
    return perf_ask(cfg, s, &h, &answer, sizeof(h), sizeof(h));
}

/// Ends a one-way measurement: what the server counted, where it can answer.
static int perf_end(const struct perf_config *cfg, sp_socket s, struct perf_result *r)
{
    struct perf_hello h = perf_hello_of(cfg, PERF_END);
    struct perf_report report = {.magic = PERF_REPORT};
    int err = SP_OK;
    int code;

    if (!perf_pattern(cfg)->mute) {
        code = perf_ask(cfg, s, &h, &report, sizeof(report.magic), sizeof(report));
        report.received[sizeof(report.received) - 1] = report.ns[sizeof(report.ns) - 1] = '\0';
        r->received = strtoll(report.received, NULL, 10);
        r->seconds = (double)strtoull(report.ns, NULL, 10) / 1e9;
        return code;
    }
    for (int i = 0; i < PERF_ENDS && err == SP_OK; i++) {
        (void)tool_sleep(i == 0 ? 0 : PERF_PAUSE);
        err = sp_send(s, &h, sizeof(h), 0);
    }
    if (err == SP_OK) {
        err = sp_drain(s, PERF_TIMEOUT, NULL);
    }
    return err < 0 ? perf_failed("send", err) : TOOL_OK;
}

static int perf_send(sp_socket s, size_t size)
{
    sp_msg *m;
    int err = sp_msg_new(&m, size);

    if (err < 0) {
        return err;
    }
    memset(sp_msg_data(m), 0, size);
    err = sp_sendmsg(s, m, 0);
    if (err < 0) {
        sp_msg_release(m);
    }
    return err;
}

static int perf_round_trip(sp_socket s, size_t size)
{
    sp_msg *m;
    int err = perf_send(s, size);

    if (err == SP_OK) {
        err = sp_recvmsg(s, &m, 0);
    }
    if (err == SP_OK) {
        sp_msg_release(m);
    }
    return err;
}

static int perf_round_trips(const struct perf_config *cfg, sp_socket s, struct perf_result *r)
{
    int64_t warm = cfg->count / 10 < PERF_WARM_MAX ? cfg->count / 10 : PERF_WARM_MAX;
    uint64_t begin = 0;
    uint64_t then = 0;
    int err = SP_OK;

    for (int64_t i = -warm; i < cfg->count && err == SP_OK; i++) {
        uint64_t now;

        if (i == 0) {
            begin = then = perf_now();
        }
        err = perf_round_trip(s, (size_t)cfg->size);
        if (i < 0) {
            continue;
        }
        now = perf_now();
        if (r->us != NULL && r->samples < PERF_SAMPLES_MAX) {
            r->us[r->samples++] = (float)(now - then) / 1000;
        }
        then = now;
    }
    r->seconds = (double)(then - begin) / 1e9;
    return err < 0 ? perf_failed("round trip", err) : TOOL_OK;
}

/// Sends `n` messages by calls with many.
static int perf_send_batch(sp_socket s, size_t size, size_t n)
{
    sp_msg *m[PERF_BATCH_MAX];
    size_t have = 0;
    size_t sent = 0;
    int rc = SP_OK;

    for (; have < n && rc == SP_OK; have += rc == SP_OK) {
        rc = sp_msg_new(&m[have], size);
        if (rc == SP_OK) {
            memset(sp_msg_data(m[have]), 0, size);
        }
    }
    while (rc >= 0 && sent < have) {
        rc = sp_sendmsgs(s, m + sent, have - sent, 0);
        sent += rc > 0 ? (size_t)rc : 0;
    }
    for (; sent < have; sent++) {
        sp_msg_release(m[sent]);
    }
    return rc < 0 ? rc : SP_OK;
}

/// One message that starts the server's clock, then all that count; the server says how many it
/// got, and how long that took.
static int perf_one_way(const struct perf_config *cfg, sp_socket s, struct perf_result *r)
{
    int err = perf_send(s, (size_t)cfg->size);

    for (int64_t left = cfg->count; left > 0 && err == SP_OK;) {
        int64_t part = left < cfg->batch ? left : cfg->batch;

        err = part > 1 ? perf_send_batch(s, (size_t)cfg->size, (size_t)part)
                       : perf_send(s, (size_t)cfg->size);
        left -= part;
    }
    if (err < 0) {
        return perf_failed("send", err);
    }
    return perf_end(cfg, s, r);
}

/* ------------------------------------------------------------------ Both ends */

/// The times of the end that measures: whoever does not answer is waited for no longer.
static int perf_patience(sp_socket s, const struct perf_pattern *pattern)
{
    int err = sp_set_int(s.id, "recv-timeout", PERF_TIMEOUT);

    if (err == SP_OK) {
        err = sp_set_int(s.id, "send-timeout", PERF_TIMEOUT);
    }
    if (err == SP_OK && strcmp(pattern->client, "surveyor") == 0) {
        err = sp_set_int(s.id, "surveyor:survey-time", PERF_TIMEOUT);
    }
    return err;
}

static int perf_open(const struct perf_config *cfg, bool server, sp_socket *s)
{
    const struct perf_pattern *pattern = perf_pattern(cfg);
    int err = sp_open(s, server ? pattern->server : pattern->client);

    if (err < 0) {
        return tool_fail_sp("open", err);
    }
    atomic_store_explicit(&perf_sockets[server], s->id, memory_order_release);
    err = sp_set_int(s->id, "recv-size-max", 0);
    if (err == SP_OK && pattern->drops && !(server && pattern->mute)) {
        err = sp_set_str(s->id, "overflow", "block");
    }
    if (err == SP_OK && server && strcmp(pattern->server, "sub") == 0) {
        err = sp_set_bytes(s->id, "subscribe", "", 0);
    }
    if (err == SP_OK && server && pattern->mute) {
        err = sp_set_int(s->id, "recv-timeout", PERF_IDLE);
    }
    if (err == SP_OK && !server) {
        err = perf_patience(*s, pattern);
    }
    return err < 0 ? tool_fail_sp("option", err) : TOOL_OK;
}

/// All was sent to who cannot answer: in this process (its thread ends with the last message) what
/// it counted is printed.
static int perf_mute_end(const struct perf_config *cfg, struct perf_local *local, const char *url)
{
    if (local == NULL) {
        (void)fprintf(stderr, "sent; the end that listens prints the rate\n");
        return TOOL_OK;
    }
    (void)pthread_join(local->thread, NULL);
    local->joined = true;
    return tool_stopped() ? TOOL_FAILED : perf_print(cfg, url, &local->server.result);
}

/// The end that dials: connects, measures and prints. `server`: the other end, in this process.
static int perf_measure(const struct perf_config *cfg, const char *url, struct perf_local *server)
{
    struct perf_result r = {0};
    bool one_way = cfg->thr && !perf_pattern(cfg)->asks;
    sp_socket s = {0};
    int code = perf_open(cfg, false, &s);

    if (code == TOOL_OK) {
        int err = sp_dial(s, url, NULL, 0);

        code = err < 0 ? perf_failed("dial", err) : perf_begin(cfg, s);
    }
    if (code == TOOL_OK && !one_way) {
        size_t n = (size_t)cfg->count < PERF_SAMPLES_MAX ? (size_t)cfg->count : PERF_SAMPLES_MAX;

        r.us = calloc(n, sizeof(*r.us));
        code = r.us == NULL ? tool_fail("no memory") : TOOL_OK;
    }
    if (code == TOOL_OK) {
        perf_usage(&r, -1);
        code = one_way ? perf_one_way(cfg, s, &r) : perf_round_trips(cfg, s, &r);
        perf_usage(&r, 1);
    }
    if (code == TOOL_OK && perf_pattern(cfg)->mute) {
        code = perf_mute_end(cfg, server, url);
    } else if (code == TOOL_OK) {
        code = perf_print(cfg, url, &r);
    }
    free(r.us);
    (void)sp_close(s);
    return tool_stopped() ? TOOL_OK : code;
}

/// Listens; `url` becomes the address that can be dialled.
static int perf_listen(const struct perf_config *cfg, struct perf_server *v, char *url, size_t cap)
{
    sp_listener l;
    int code = perf_open(cfg, true, &v->socket);
    int err;

    if (code != TOOL_OK) {
        return code;
    }
    err = sp_listen(v->socket, cfg->listen != NULL ? cfg->listen : cfg->url, &l);
    if (err == SP_OK) {
        err = sp_get_str(l.id, "url", url, &cap);
    }
    return err < 0 ? perf_failed("listen", err) : TOOL_OK;
}

static int perf_run(const struct perf_config *cfg)
{
    struct perf_local local = {.server = {.mute = perf_pattern(cfg)->mute, .cfg = *cfg}};
    struct perf_server *server = &local.server;
    int code;

    if (tool_stop_watch(perf_on_stop, NULL) != TOOL_OK) {
        return TOOL_FAILED;
    }
    if (cfg->dial != NULL) {
        return perf_measure(cfg, cfg->dial, NULL);
    }
    code = perf_listen(cfg, server, server->url, sizeof(server->url));
    if (code == TOOL_OK && cfg->listen != NULL) {
        (void)fprintf(stderr, "serving at %s\n", server->url);
        (void)perf_serve(server);
    } else if (code == TOOL_OK && pthread_create(&local.thread, NULL, perf_serve, server) != 0) {
        code = tool_fail("cannot start a thread");
    } else if (code == TOOL_OK) {
        code = perf_measure(cfg, server->url, &local);
        (void)sp_close(server->socket);
        if (!local.joined) {
            (void)pthread_join(local.thread, NULL);
        }
        return code;
    }
    if (server->socket.id != 0) {
        (void)sp_close(server->socket);
    }
    return tool_stopped() ? TOOL_OK : code;
}

/* ------------------------------------------------------------------ The command line */

enum perf_option {
    PERF_URL,
    PERF_LISTEN,
    PERF_DIAL,
    PERF_PROTOCOL,
    PERF_SIZE,
    PERF_COUNT,
    PERF_BATCH,
    PERF_JSON,
    PERF_HELP
};

static const struct tool_option perf_options[] = {
    {"url", 0, true, PERF_URL},      {"listen", 0, true, PERF_LISTEN},
    {"dial", 0, true, PERF_DIAL},    {"protocol", 0, true, PERF_PROTOCOL},
    {"size", 0, true, PERF_SIZE},    {"count", 0, true, PERF_COUNT},
    {"batch", 0, true, PERF_BATCH},  {"json", 0, false, PERF_JSON},
    {"help", 'h', false, PERF_HELP},
};

/// Takes an option. False: it is wrong, and that was said.
static bool perf_take(struct perf_config *cfg, int id, const char *value)
{
    switch (id) {
    case PERF_URL:
        cfg->url = value;
        return true;
    case PERF_LISTEN:
        cfg->listen = value;
        return true;
    case PERF_DIAL:
        cfg->dial = value;
        return true;
    case PERF_PROTOCOL:
        cfg->protocol = value;
        return true;
    case PERF_SIZE:
        return tool_number(value, "--size", PERF_SIZE_MAX, &cfg->size);
    case PERF_COUNT:
        return tool_number(value, "--count", PERF_COUNT_MAX, &cfg->count);
    case PERF_BATCH:
        return tool_number(value, "--batch", PERF_BATCH_MAX, &cfg->batch);
    case PERF_JSON:
        cfg->json = true;
        return true;
    default:
        return false;
    }
}

/// Fills in the defaults. TOOL_OK, or said what is wrong.
static int perf_check(struct perf_config *cfg, const char *what)
{
    int ends = (cfg->url != NULL) + (cfg->listen != NULL) + (cfg->dial != NULL);

    if (what == NULL || (strcmp(what, "lat") != 0 && strcmp(what, "thr") != 0)) {
        return tool_misuse("lat or thr?");
    }
    cfg->thr = strcmp(what, "thr") == 0;
    if (ends > 1) {
        return tool_misuse("only one of --url, --listen and --dial");
    }
    if (cfg->url == NULL) {
        cfg->url = "inproc://sp-perf";
    }
    if (cfg->protocol[0] == '\0') {
        cfg->protocol = cfg->thr ? "pair" : "reqrep";
    }
    if (perf_pattern(cfg) == NULL) {
        return tool_misuse(
            "--protocol: pair, pair1, bus, reqrep, survey, pushpull or pubsub, not \"%s\"",
            cfg->protocol);
    }
    if (!cfg->thr && perf_pattern(cfg)->mute) {
        return tool_misuse("lat needs answers, and \"%s\" has none", cfg->protocol);
    }
    if (cfg->count < 0) {
        cfg->count = cfg->thr ? 100000 : 10000;
    }
    if (cfg->count == 0 || cfg->batch == 0) {
        return tool_misuse("--count and --batch are 1 and more");
    }
    if (cfg->batch > 1 && (!cfg->thr || perf_pattern(cfg)->asks)) {
        return tool_misuse("--batch is for thr with pair, pair1, bus, pushpull or pubsub");
    }
    return TOOL_OK;
}

int tool_perf(int argc, char **argv)
{
    struct perf_config cfg = {.protocol = "", .size = 64, .count = -1, .batch = 1};
    struct tool_args args = {.options = perf_options,
                             .count = sizeof(perf_options) / sizeof(perf_options[0]),
                             .argc = argc,
                             .argv = argv,
                             .at = 1};
    const char *what = NULL;
    int code;
    int id;

    while ((id = tool_next(&args)) != TOOL_ARG_END) {
        if (id == PERF_HELP) {
            (void)puts(perf_help);
            return tool_flush();
        }
        if (id == TOOL_ARG_OPERAND && what != NULL) {
            return tool_misuse("one of lat and thr, and then \"%s\"?", args.value);
        }
        if (id == TOOL_ARG_OPERAND) {
            what = args.value;
        } else if (id == TOOL_ARG_BAD || !perf_take(&cfg, id, args.value)) {
            return TOOL_USAGE;
        }
    }
    code = perf_check(&cfg, what);
    return code == TOOL_OK ? perf_run(&cfg) : code;
}
