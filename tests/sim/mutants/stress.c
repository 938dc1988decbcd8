/* SPDX-License-Identifier: MIT */
/// Many threads on few sockets, for a sanitizer to watch: what the tests of single facts seldom
/// hit. Only the public API. Usage: stress [SCENARIO [ROUNDS]]; exits 1 when a fact does not hold,
/// and is killed by SIGALRM when it hangs. [main]
#include <sp/sp.h>

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STUCK 20 // s that one round may take at most
#define SENDERS 3
#define RECEIVERS 3

static const char *stress_name;
static int stress_in_place = 1;

/// Says what hangs; only what a handler may call.
static void stuck(int sig)
{
    (void)sig;
    (void)!write(STDERR_FILENO, "hangs in ", 9);
    (void)!write(STDERR_FILENO, stress_name, strlen(stress_name));
    (void)!write(STDERR_FILENO, "\n", 1);
    abort();
}

static void stop(int line, const char *what)
{
    (void)fprintf(stderr, "stress %s: line %d: %s: %s\n", stress_name, line, what,
                  sp_error_detail());
    _exit(1);
}

#define CHECK(cond) ((cond) ? (void)0 : stop(__LINE__, #cond))

static sp_socket stress_open(const char *protocol, int buffer)
{
    sp_socket s;

    CHECK(sp_open(&s, protocol) == SP_OK);
    CHECK(sp_set_int(s.id, "send-buffer", buffer) == SP_OK);
    CHECK(sp_set_int(s.id, "recv-buffer", buffer) == SP_OK);
    CHECK(sp_set_int(s.id, "linger", 0) == SP_OK);
    CHECK(sp_set_int(s.id, "in-place", stress_in_place) == SP_OK);
    CHECK(sp_set_int(s.id, "reconnect-time-min", 1) == SP_OK);
    CHECK(sp_set_int(s.id, "reconnect-time-max", 3) == SP_OK);
    return s;
}

static void stress_url(char url[64], const char *scheme, unsigned n)
{
    (void)snprintf(url, 64, "%s:///tmp/sp-stress-%d-%u", scheme, (int)getpid(), n);
}

/* ------------------------------------------------------------------ Order and completeness */

struct flow {
    sp_socket from;
    sp_socket to;
    uint32_t count; ///< each sender's
    size_t len;
    atomic_uint received;
    atomic_uint sent;
    _Atomic uint32_t next; ///< sender
    int timeout;           ///< ms of the calls, -1: none
    bool slow;
};

static void *flow_send(void *arg)
{
    struct flow *f = arg;
    uint32_t who = atomic_fetch_add(&f->next, 1);
    uint32_t *body = calloc(1, f->len);

    CHECK(body != NULL);
    for (uint32_t i = 0; i < f->count;) {
        int rc;

        body[0] = who;
        body[1] = i;
        rc = sp_send(f->from, body, f->len, 0);
        CHECK(rc == SP_OK || rc == SP_ETIMEDOUT);
        if (rc == SP_OK) {
            i++;
            atomic_fetch_add(&f->sent, 1);
        }
    }
    free(body);
    return NULL;
}

static void *flow_recv(void *arg)
{
    struct flow *f = arg;
    uint32_t last[SENDERS + 1] = {0};
    char *buf = malloc(f->len);

    CHECK(buf != NULL);
    for (;;) {
        ssize_t n = sp_recv(f->to, buf, f->len, 0);
        uint32_t head[2];

        if (n == SP_ETIMEDOUT) {
            continue;
        }
        if (n == SP_ECLOSED || n == SP_EINVAL) {
            break;
        }
        CHECK(n == (ssize_t)f->len);
        memcpy(head, buf, sizeof(head));
        CHECK(head[0] < SENDERS && (head[1] == 0 || head[1] + 1 > last[head[0]]));
        last[head[0]] = head[1] + 1;
        atomic_fetch_add(&f->received, 1);
        if (f->slow && head[1] % 16 == 0) {
            (void)usleep(500);
        }
    }
    free(buf);
    return NULL;
}

/// Several senders and receivers on a pair of sockets; all arrives, each sender's in order.
static void flow_run(const char *url, int buffer, struct flow *f)
{
    pthread_t threads[SENDERS + RECEIVERS];

    f->from = stress_open("pair", buffer);
    f->to = stress_open("pair", buffer);
    CHECK(sp_set_int(f->from.id, "send-timeout", f->timeout) == SP_OK);
    CHECK(sp_set_int(f->to.id, "recv-timeout", f->timeout) == SP_OK);
    CHECK(sp_listen(f->to, url, NULL) == SP_OK);
    CHECK(sp_dial(f->from, url, NULL, 0) == SP_OK);
    for (unsigned i = 0; i < SENDERS + RECEIVERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, i < SENDERS ? flow_send : flow_recv, f) == 0);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    while (atomic_load(&f->received) < SENDERS * f->count) {
        (void)usleep(200); // The alarm ends it.
    }
    CHECK(sp_close(f->from) == SP_OK);
    CHECK(sp_close(f->to) == SP_OK);
    for (unsigned i = SENDERS; i < SENDERS + RECEIVERS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}

static void flow_inproc(unsigned round)
{
    struct flow f = {.count = 1500, .len = 16, .timeout = round % 3 == 0 ? 1 : -1};
    char url[64];

    stress_url(url, "inproc", round);
    flow_run(url, 1 + (int)(round % 4) * 3, &f);
}

static void flow_ipc(unsigned round)
{
    struct flow f = {.count = round % 2 == 0 ? 150 : 1500,
                     .len = round % 2 == 0 ? 65536 : 64,
                     .timeout = round % 3 == 0 ? 1 : -1,
                     .slow = round % 2 == 0};
    char url[64];

    stress_url(url, "ipc", round);
    flow_run(url, 1 + (int)(round % 4) * 5, &f);
}

/* ------------------------------------------------------------------ One call a thread */

static void *one_send(void *arg)
{
    CHECK(sp_send(*(sp_socket *)arg, "x", 1, 0) == SP_OK);
    return NULL;
}

static void *one_recv(void *arg)
{
    char c;

    CHECK(sp_recv(*(sp_socket *)arg, &c, 1, 0) == 1);
    return NULL;
}

/// Threads that make one call and never come back: whoever is served serves the next.
static void one_run(unsigned round)
{
    sp_socket s[2] = {stress_open("pair", 1), stress_open("pair", 1)};
    char url[64];

    stress_url(url, round % 2 == 0 ? "inproc" : "ipc", round);
    CHECK(sp_listen(s[0], url, NULL) == SP_OK);
    CHECK(sp_dial(s[1], url, NULL, 0) == SP_OK);
    for (unsigned i = 0; i < 60; i++) {
        pthread_t threads[SENDERS + RECEIVERS];
        unsigned first = i % 2; // Who is there first.

        for (unsigned k = 0; k < SENDERS + RECEIVERS; k++) {
            if (k == 3) {
                (void)usleep(i * 53 % 700);
            }
            CHECK(pthread_create(&threads[k], NULL, (k < 3) == (first == 0) ? one_recv : one_send,
                                 (k < 3) == (first == 0) ? &s[0] : &s[1]) == 0);
            if (i % 4 < 2 && k >= 3) {
                (void)usleep(i * 31 % 300);
            }
        }
        for (unsigned k = 0; k < SENDERS + RECEIVERS; k++) {
            (void)pthread_join(threads[k], NULL);
        }
    }
    CHECK(sp_close(s[0]) == SP_OK);
    CHECK(sp_close(s[1]) == SP_OK);
}

/* ------------------------------------------------------------------ Request and reply */

struct asking {
    const char *url;
    unsigned count;
};

static void *asking_run(void *arg)
{
    struct asking *a = arg;
    sp_socket s = stress_open("req", 2);

    CHECK(sp_set_int(s.id, "req:resend-time", 20) == SP_OK);
    CHECK(sp_set_int(s.id, "req:resend-tick", 5) == SP_OK);
    CHECK(sp_dial(s, a->url, NULL, SP_NONBLOCK) == SP_OK);
    for (uint32_t i = 0; i < a->count; i++) {
        uint32_t got;

        CHECK(sp_send(s, &i, sizeof(i), 0) == SP_OK);
        CHECK(sp_recv(s, &got, sizeof(got), 0) == sizeof(got));
        CHECK(got == i);
    }
    CHECK(sp_close(s) == SP_OK);
    return NULL;
}

static void *answering_run(void *arg)
{
    sp_socket *s = arg;
    uint32_t got;

    for (;;) {
        ssize_t n = sp_recv(*s, &got, sizeof(got), 0);

        if (n == SP_ECLOSED || n == SP_EINVAL) {
            return NULL;
        }
        CHECK(n == sizeof(got));
        n = sp_send(*s, &got, sizeof(got), 0);
        CHECK(n == SP_OK || n == SP_ECLOSED || n == SP_EINVAL);
    }
}

/// Questions are answered, while connections are cut.
static void reqrep_run(unsigned round)
{
    static const char *const schemes[] = {"inproc", "ipc"};
    char url[64];
    struct asking a = {url, 150};
    pthread_t threads[4];
    sp_listener l;
    sp_socket rep = stress_open("rep", 2);

    stress_url(url, schemes[round % 2], round);
    CHECK(sp_listen(rep, url, &l) == SP_OK);
    CHECK(pthread_create(&threads[3], NULL, answering_run, &rep) == 0);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(pthread_create(&threads[i], NULL, asking_run, &a) == 0);
    }
    for (unsigned i = 0; i < 5; i++) {
        (void)usleep(1000 + 700 * i);
        CHECK(sp_listener_close(l) == SP_OK);
        CHECK(sp_listen(rep, url, &l) == SP_OK);
    }
    for (unsigned i = 0; i < 3; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    CHECK(sp_close(rep) == SP_OK);
    (void)pthread_join(threads[3], NULL);
}

/* ------------------------------------------------------------------ Close */

static void *close_use(void *arg)
{
    const sp_socket s = *(sp_socket *)arg;
    char buf[16];

    for (unsigned i = 0;; i++) {
        int64_t peers;
        int rc = sp_send(s, "x", 1, i % 4 == 0 ? 0 : SP_NONBLOCK);

        if (rc == SP_ECLOSED || rc == SP_EINVAL) {
            return NULL;
        }
        if (i % 3 == 0) {
            (void)!sp_recv(s, buf, sizeof(buf), SP_NONBLOCK);
        }
        if (i % 5 == 0) {
            (void)!sp_get_int(s.id, "send-buffer", &peers);
        }
    }
}

static void *close_do(void *arg)
{
    const sp_socket s = *(sp_socket *)arg;
    int rc = sp_close(s);

    CHECK(rc == SP_OK || rc == SP_ECLOSED);
    return rc == SP_OK ? arg : NULL;
}

/// Sockets closed by two threads while three use them: exactly one closes each.
static void close_run(unsigned round)
{
    static const char *const schemes[] = {"inproc", "ipc"};

    for (unsigned i = 0; i < 40; i++) {
        sp_socket s[2] = {stress_open("pair", 4), stress_open("pair", 4)};
        pthread_t threads[5];
        unsigned closed = 0;
        char url[64];

        stress_url(url, schemes[i % 2], round * 100 + i);
        CHECK(sp_listen(s[0], url, NULL) == SP_OK);
        CHECK(sp_dial(s[1], url, NULL, i % 3 == 0 ? 0 : SP_NONBLOCK) == SP_OK);
        for (unsigned k = 0; k < 3; k++) {
            CHECK(pthread_create(&threads[k], NULL, close_use, &s[0]) == 0);
        }
        (void)usleep(i * 37 % 1500);
        for (unsigned k = 3; k < 5; k++) {
            CHECK(pthread_create(&threads[k], NULL, close_do, &s[0]) == 0);
        }
        for (unsigned k = 0; k < 5; k++) {
            void *did;

            (void)pthread_join(threads[k], &did);
            closed += did != NULL;
        }
        CHECK(closed == 1);
        CHECK(sp_close(s[1]) == SP_OK);
    }
}

/* ------------------------------------------------------------------ Timers */

/// Pipes whose hello never comes: the handshake's timer fires while they are closed.
static void timer_run(unsigned round)
{
    for (unsigned i = 0; i < 30; i++) {
        sp_socket a = stress_open("pair", 1);
        sp_socket b = stress_open("req", 1); // Not a peer of the other: refused after the hello.
        char url[64];
        sp_listener l;

        stress_url(url, i % 2 == 0 ? "ipc" : "inproc", round * 100 + i);
        CHECK(sp_listener_new(&l, a, url) == SP_OK);
        CHECK(sp_set_int(l.id, "hello-timeout", 1) == SP_OK);
        CHECK(sp_listener_start(l) == SP_OK);
        CHECK(sp_dial(b, url, NULL, SP_NONBLOCK) == SP_OK);
        (void)usleep(i * 131 % 4000);
        CHECK(sp_close(i % 3 == 0 ? b : a) == SP_OK);
        CHECK(sp_close(i % 3 == 0 ? a : b) == SP_OK);
    }
}

/* ------------------------------------------------------------------ Driving */

/// Starts the library anew without threads of its own, or with them.
static void stress_threads(int threads)
{
    sp_config *cfg;

    sp_fini();
    CHECK(sp_config_new(&cfg) == SP_OK);
    CHECK(sp_config_set_int(cfg, "threads", threads) == SP_OK);
    CHECK(sp_init(cfg) == SP_OK);
    sp_config_free(cfg);
}

static void drive_run(unsigned round)
{
    stress_threads(0);
    if (round % 2 == 0) {
        flow_inproc(round + 1);
    } else {
        flow_ipc(round);
    }
    one_run(round);
    reqrep_run(round);
    stress_threads(3);
}

/// All the work on one worker, which sleeps in the poller in between.
static void worker_run(unsigned round)
{
    stress_threads(1);
    stress_in_place = 0;
    one_run(round);
    reqrep_run(round);
    stress_in_place = 1;
    stress_threads(3);
}

static const struct {
    const char *name;
    void (*run)(unsigned round);
} scenarios[] = {
    {"flow-inproc", flow_inproc}, {"flow-ipc", flow_ipc}, {"one", one_run},
    {"reqrep", reqrep_run},       {"close", close_run},   {"timer", timer_run},
    {"drive", drive_run},         {"worker", worker_run},
};

int main(int argc, char **argv)
{
    unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 4;

    (void)signal(SIGALRM, stuck);
    stress_threads(3);
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
            if (argc < 2 || strcmp(argv[1], "all") == 0 ||
                strcmp(argv[1], scenarios[i].name) == 0) {
                stress_name = scenarios[i].name;
                (void)alarm(STUCK);
                scenarios[i].run(round);
            }
        }
    }
    (void)alarm(STUCK);
    sp_fini();
    return 0;
}
