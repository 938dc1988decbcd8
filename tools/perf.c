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
#include <sys/resource.h>
#include <time.h>

#include <sp/sp.h>

#define PERF_MAGIC "sp perf begin 1"
#define PERF_SIZE_MAX (INT64_C(1) << 30)
#define PERF_COUNT_MAX (INT64_C(1) << 31)
#define PERF_BATCH_MAX 1024
#define PERF_SAMPLES_MAX ((size_t)1 << 22)
#define PERF_WARM_MAX 1000
#define PERF_TIMEOUT 10000 // ms that the measuring end waits for the other one

/// The first message of a measurement, and the answer to it. Both ends are this program, but
/// perhaps on different machines: numbers are text.
struct perf_hello {
    char magic[16];
    char what[16]; ///< "lat", "thr" (counts, one-way) or "ask" (short replies)
    char count[16];
    char batch[16];
};

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
                     {"pushpull", "push", "pull", false, false, true}};

static const char perf_help[] =
    "Usage: sp perf lat|thr [OPTION...]\n"
    "\n"
    "Measures round trips (lat) or the rate of messages (thr). Without --listen and --dial both\n"
    "ends are in this process. In two processes start the one that listens first; it serves any\n"
    "measurement until Ctrl-C, and the one that dials measures; with pushpull, which has no way\n"
    "back, the one that listens prints the rate.\n"
    "\n"
    "  --url URL          both ends here, over URL (inproc://sp-perf); of tcp, port 0 is any\n"
    "  --listen URL       serve\n"
    "  --dial URL         measure\n"
    "  --protocol NAME    pair, pair1, bus, reqrep, survey (lat: reqrep, thr: pair); thr: "
    "pushpull\n"
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

static uint64_t perf_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ------------------------------------------------------------------ The server */

struct perf_server {
    sp_socket socket;
    bool mute;              ///< it prints what it measured, or leaves it in `result`
    struct perf_config cfg; ///< of a mute one: of what it measures
    char url[256];
    struct perf_result result;
    bool one_way;
    bool short_reply;
    int64_t batch;
    int64_t left; ///< one-way: messages to come
    uint64_t begin;
};

/// A server and its thread in this process.
struct perf_local {
    struct perf_server server;
    pthread_t thread;
    bool joined;
};

/// A message that begins a measurement: takes what it asks for. False: it is another one.
static bool perf_begins(struct perf_server *v, const sp_msg *m)
{
    struct perf_hello h;

    if (sp_msg_len(m) != sizeof(h)) {
        return false;
    }
    memcpy(&h, sp_msg_view(m), sizeof(h));
    if (memcmp(h.magic, PERF_MAGIC, sizeof(h.magic)) != 0) {
        return false;
    }
    h.what[sizeof(h.what) - 1] = h.count[sizeof(h.count) - 1] = h.batch[sizeof(h.batch) - 1] = '\0';
    v->one_way = strcmp(h.what, "thr") == 0;
    v->short_reply = strcmp(h.what, "ask") == 0;
    v->left = strtoll(h.count, NULL, 10);
    v->batch = strtoll(h.batch, NULL, 10);
    if (v->batch < 1 || v->batch > PERF_BATCH_MAX) {
        v->batch = 1;
    }
    v->begin = 0;
    v->cfg.count = v->left;
    v->cfg.batch = v->batch;
    return true;
}

static void perf_usage(struct perf_result *r, int sign)
{
    struct rusage u;

    (void)getrusage(RUSAGE_SELF, &u);
    r->cpu += sign * ((double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                      (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6);
    r->switches += sign * (u.ru_nvcsw + u.ru_nivcsw);
}

/// A mute server has counted all: prints it, or ends for who waits for it in this process.
static int perf_counted(struct perf_server *v)
{
    v->result.seconds = (double)(perf_now() - v->begin) / 1e9;
    perf_usage(&v->result, 1);
    v->one_way = false;
    if (v->cfg.listen == NULL) {
        return SP_ECLOSED;
    }
    return perf_print(&v->cfg, v->url, &v->result) == TOOL_OK ? SP_OK : SP_ECLOSED;
}

/// Counts a message, of `size` bytes, of a one-way measurement; with the last one it reports how
/// long it took.
static int perf_count(struct perf_server *v, size_t size)
{
    char text[32];

    if (v->begin == 0) { // The first one starts the clock, and does not count.
        v->cfg.size = (int64_t)size;
        v->result = (struct perf_result){0};
        perf_usage(&v->result, -1);
        v->begin = perf_now();
        return SP_OK;
    }
    if (--v->left != 0) {
        return SP_OK;
    }
    if (v->mute) {
        return perf_counted(v);
    }
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)(perf_now() - v->begin));
    return sp_send(v->socket, text, strlen(text), 0);
}

/// Takes one message over.
static int perf_answer(struct perf_server *v, sp_msg *m)
{
    size_t size = sp_msg_len(m);
    bool begins = perf_begins(v, m);
    int err = SP_OK;

    if (v->mute || (!begins && v->one_way)) {
        sp_msg_release(m);
        return begins || !v->one_way ? SP_OK : perf_count(v, size);
    }
    if (!begins) {
        if (v->short_reply) {
            err = sp_msg_resize(m, 0);
        }
    }
    if (err == SP_OK) {
        err = sp_sendmsg(v->socket, m, 0);
    }
    if (err < 0) {
        sp_msg_release(m);
    }
    return err;
}

/// Serves until the socket is closed.
static void *perf_serve(void *arg)
{
    struct perf_server *v = arg;
    sp_msg *m[PERF_BATCH_MAX];
    int n = 0;

    v->batch = 1;
    while (n >= 0) {
        int err = SP_OK;

        n = v->one_way && v->batch > 1 ? sp_recvmsgs(v->socket, m, (size_t)v->batch, 0)
                                       : sp_recvmsg(v->socket, &m[0], 0);
        if (n == SP_OK) {
            n = 1;
        }
        for (int i = 0; i < n; i++) {
            int rc = perf_answer(v, m[i]);

            err = rc < 0 ? rc : err;
        }
        // A REP whose peer went away, and the like: the next request makes it good.
        n = err == SP_ECLOSED ? err : n;
    }
    return NULL;
}

/* ------------------------------------------------------------------ Measuring */

/// Sends the request to begin and waits until the server has it.
static int perf_begin(const struct perf_config *cfg, sp_socket s)
{
    struct perf_hello h = {.magic = PERF_MAGIC};
    struct perf_hello answer;
    bool ask = perf_pattern(cfg)->asks;
    ssize_t n;
    int err;

    (void)snprintf(h.what, sizeof(h.what), "%s", !cfg->thr ? "lat" : ask ? "ask" : "thr");
    (void)snprintf(h.count, sizeof(h.count), "%lld", (long long)cfg->count);
    (void)snprintf(h.batch, sizeof(h.batch), "%lld", (long long)cfg->batch);
    err = sp_send(s, &h, sizeof(h), 0);
    if (err < 0) {
        return perf_failed("send", err);
    }
    if (perf_pattern(cfg)->mute) {
        return TOOL_OK; // Nobody answers; the first message counted comes behind it.
    }
    do {
        // What comes first may be of a measurement that was broken off.
        n = sp_recv(s, &answer, sizeof(answer), 0);
        if (n == SP_EMSGSIZE) {
            sp_msg *m;

            n = sp_recvmsg(s, &m, 0);
            if (n == SP_OK) {
                sp_msg_release(m);
            }
        }
        if (n == SP_ETIMEDOUT) {
            return tool_fail("no answer: does sp perf --listen --protocol %s run there?",
                             cfg->protocol);
        }
        if (n < 0) {
            return perf_failed("receive", (int)n);
        }
    } while (n != (ssize_t)sizeof(answer) || memcmp(&answer, &h, sizeof(h)) != 0);
    return TOOL_OK;
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

/// One message that starts the server's clock, then all that count; the server says how long it
/// took.
static int perf_one_way(const struct perf_config *cfg, sp_socket s, struct perf_result *r)
{
    int err = perf_send(s, (size_t)cfg->size);
    char text[32] = "";
    ssize_t n;

    for (int64_t left = cfg->count; left > 0 && err == SP_OK;) {
        int64_t part = left < cfg->batch ? left : cfg->batch;

        err = part > 1 ? perf_send_batch(s, (size_t)cfg->size, (size_t)part)
                       : perf_send(s, (size_t)cfg->size);
        left -= part;
    }
    if (err < 0) {
        return perf_failed("send", err);
    }
    if (perf_pattern(cfg)->mute) {
        err = sp_drain(s, PERF_TIMEOUT, NULL);
        return err < 0 ? perf_failed("send", err) : TOOL_OK;
    }
    n = sp_recv(s, text, sizeof(text) - 1, 0);
    if (n < 0) {
        return perf_failed("receive", (int)n);
    }
    r->seconds = (double)strtoull(text, NULL, 10) / 1e9;
    return TOOL_OK;
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
    if (err == SP_OK && pattern->drops) {
        err = sp_set_str(s->id, "overflow", "block");
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
        return tool_misuse("--protocol: pair, pair1, bus, reqrep, survey or pushpull, not \"%s\"",
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
        return tool_misuse("--batch is for thr with pair, pair1, bus or pushpull");
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
