/* SPDX-License-Identifier: MIT */
/// count SCENARIO N: N messages of 64 bytes on one thread ("threads" = 0), for check.sh, which
/// counts instructions and system calls of N and of 2 N and takes the difference. [main thread]
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sp/sp.h>

#define COUNT_SIZE 64
#define COUNT_BURST 64

struct count {
    sp_socket a; ///< dials; of REQ/REP it asks
    sp_socket b; ///< listens
};

struct count_scenario {
    const char *name;
    const char *dials;
    const char *listens;
    const char *transport;
    /// Passes as many messages as one step does; returns how many.
    unsigned long (*step)(struct count *c);
};

static int count_ok(int rc, const char *what)
{
    if (rc < 0) {
        const char *detail = sp_error_detail();

        (void)fprintf(stderr, "count: %s: %s\n", what,
                      detail[0] != '\0' ? detail : sp_strerror(rc));
        exit(1);
    }
    return rc;
}

static void count_pass(sp_socket from, sp_socket to)
{
    char out[COUNT_SIZE] = {0};
    char in[COUNT_SIZE];

    (void)count_ok(sp_send(from, out, sizeof(out), 0), "send");
    (void)count_ok((int)sp_recv(to, in, sizeof(in), 0), "receive");
}

static unsigned long count_one(struct count *c)
{
    count_pass(c->a, c->b);
    return 1;
}

static unsigned long count_round_trip(struct count *c)
{
    count_pass(c->a, c->b);
    count_pass(c->b, c->a);
    return 1;
}

static unsigned long count_burst(struct count *c)
{
    char buf[COUNT_SIZE] = {0};

    for (int i = 0; i < COUNT_BURST; i++) {
        (void)count_ok(sp_send(c->a, buf, sizeof(buf), 0), "send");
    }
    for (int i = 0; i < COUNT_BURST; i++) {
        (void)count_ok((int)sp_recv(c->b, buf, sizeof(buf), 0), "receive");
    }
    return COUNT_BURST;
}

static unsigned long count_batch(struct count *c)
{
    sp_msg *m[COUNT_BURST];
    size_t sent = 0;

    for (int i = 0; i < COUNT_BURST; i++) {
        (void)count_ok(sp_msg_new(&m[i], COUNT_SIZE), "message");
        memset(sp_msg_data(m[i]), 0, COUNT_SIZE);
    }
    while (sent < COUNT_BURST) {
        sent += (size_t)count_ok(sp_sendmsgs(c->a, m + sent, COUNT_BURST - sent, 0), "send");
    }
    for (int left = COUNT_BURST; left > 0;) {
        int n = count_ok(sp_recvmsgs(c->b, m, (size_t)left, 0), "receive");

        for (int i = 0; i < n; i++) {
            sp_msg_release(m[i]);
        }
        left -= n;
    }
    return COUNT_BURST;
}

static const struct count_scenario count_scenarios[] = {
    {"pair-inproc", "pair", "pair", "inproc", count_one},
    {"pushpull-inproc", "push", "pull", "inproc", count_one},
    {"pair-inproc-batch", "pair", "pair", "inproc", count_batch},
    {"reqrep-inproc", "req", "rep", "inproc", count_round_trip},
    {"pair-ipc", "pair", "pair", "ipc", count_one},
    {"pair-ipc-burst", "pair", "pair", "ipc", count_burst},
    {"pushpull-ipc-burst", "push", "pull", "ipc", count_burst},
    {"pair-ipc-batch", "pair", "pair", "ipc", count_batch},
    {"pair-tcp-burst", "pair", "pair", "tcp", count_burst},
    {"reqrep-tcp", "req", "rep", "tcp", count_round_trip},
};

#define COUNT_SCENARIOS (sizeof(count_scenarios) / sizeof(count_scenarios[0]))

static void count_connect(struct count *c, const struct count_scenario *s)
{
    char url[128];
    size_t cap = sizeof(url);
    sp_listener l;
    sp_config *cfg;

    (void)count_ok(sp_config_new(&cfg), "config");
    (void)count_ok(sp_config_set_int(cfg, "threads", 0), "threads");
    (void)count_ok(sp_config_set_int(cfg, "seed", 1), "seed");
    (void)count_ok(sp_init(cfg), "init");
    sp_config_free(cfg);
    if (strcmp(s->transport, "tcp") == 0) {
        (void)snprintf(url, sizeof(url), "tcp://127.0.0.1:0");
    } else {
        (void)snprintf(url, sizeof(url), "%s:///tmp/sp-count-%d", s->transport, (int)getpid());
    }
    (void)count_ok(sp_open(&c->b, s->listens), "open");
    (void)count_ok(sp_listen(c->b, url, &l), "listen");
    (void)count_ok(sp_get_str(l.id, "url", url, &cap), "url");
    (void)count_ok(sp_open(&c->a, s->dials), "open");
    (void)count_ok(sp_dial(c->a, url, NULL, 0), "dial");
}

int main(int argc, char **argv)
{
    unsigned long n = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;

    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < COUNT_SCENARIOS; i++) {
            (void)puts(count_scenarios[i].name);
        }
        return 0;
    }
    for (size_t i = 0; n > 0 && i < COUNT_SCENARIOS; i++) {
        if (strcmp(argv[1], count_scenarios[i].name) == 0) {
            struct count c;

            count_connect(&c, &count_scenarios[i]);
            for (unsigned long done = 0; done < n;) {
                done += count_scenarios[i].step(&c);
            }
            (void)sp_close(c.a);
            (void)sp_close(c.b);
            sp_fini();
            return 0;
        }
    }
    (void)fprintf(stderr, "Usage: %s --list | SCENARIO MESSAGES\n", argv[0]);
    return 2;
}
