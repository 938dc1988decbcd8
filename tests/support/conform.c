/* SPDX-License-Identifier: MIT */
/// The conformance suite's tables.
#include "conform.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct conform_pattern conform_patterns[] = {
    {"pair", "pair", "pair", CONFORM_SINGLE},
    {"pair1", "pair1", "pair1", CONFORM_SINGLE | CONFORM_HOPS},
    {"reqrep", "req", "rep", CONFORM_ASKS | CONFORM_BALANCE | CONFORM_GATHERS | CONFORM_HOPS},
    {"pipeline", "push", "pull", CONFORM_ONE_WAY | CONFORM_BALANCE | CONFORM_GATHERS},
    {"bus", "bus", "bus", CONFORM_FAN_OUT | CONFORM_DROPS | CONFORM_GATHERS},
    {"pubsub", "pub", "sub",
     CONFORM_ONE_WAY | CONFORM_FAN_OUT | CONFORM_TOPICS | CONFORM_DROPS | CONFORM_GATHERS},
    {"survey", "surveyor", "respondent",
     CONFORM_ASKS | CONFORM_FAN_OUT | CONFORM_DROPS | CONFORM_GATHERS | CONFORM_HOPS},
};
const unsigned conform_pattern_count = sizeof(conform_patterns) / sizeof(conform_patterns[0]);

struct conform_case conform;

static int conform_start(void **state)
{
    conform = *(const struct conform_case *)*state;
    check_init(2);
    return 0;
}

/* ------------------------------------------------------------------ Runs */

#define CONFORM_MAX 1024 // tests of a program

static struct CMUnitTest conform_tests[CONFORM_MAX];
static struct conform_case conform_cases[CONFORM_MAX];
static char conform_names[CONFORM_MAX][112];
static unsigned conform_n;

/// In place of each fact over a transport that this process may not use.
static void conform_not_here(void **state)
{
    (void)state;
    print_message("skipped: %s: raw sockets need CAP_NET_RAW\n", conform.transport);
    skip();
}

static bool conform_may(const struct check_transport *t)
{
    return strncmp(t->url, "rawip:", 6) != 0 || check_net_raw();
}

static void conform_add(const struct conform_fact *fact, unsigned transport,
                        const struct conform_pattern *pattern)
{
    unsigned i = conform_n;

    if (fact->lossless && check_transports[transport].lossy) {
        return;
    }
    conform_n++;
    if (i >= CONFORM_MAX) {
        abort();
    }
    conform_cases[i] = (struct conform_case){check_transports[transport].name, pattern};
    (void)snprintf(conform_names[i], sizeof(conform_names[i]), "%s%s%s: %s",
                   pattern != NULL ? pattern->name : "", pattern != NULL ? " over " : "",
                   check_transports[transport].name, fact->name);
    conform_tests[i] = (struct CMUnitTest){
        conform_names[i], conform_may(&check_transports[transport]) ? fact->fn : conform_not_here,
        conform_start, check_stop, &conform_cases[i]};
}

static bool conform_fits(const struct conform_fact *fact, unsigned flags)
{
    return (flags & fact->all) == fact->all && (flags & fact->none) == 0;
}

int conform_run(const struct conform_fact *facts, unsigned n)
{
    conform_n = 0;
    for (unsigned f = 0; f < n; f++) {
        for (unsigned p = 0; p < conform_pattern_count; p++) {
            unsigned transports = facts[f].first_only ? 1 : check_transport_count;

            for (unsigned t = 0;
                 t < transports && conform_fits(&facts[f], conform_patterns[p].flags); t++) {
                conform_add(&facts[f], t, &conform_patterns[p]);
            }
        }
    }
    return _cmocka_run_group_tests("conformance", conform_tests, conform_n, NULL, NULL);
}

int conform_run_transports(const struct conform_fact *facts, unsigned n)
{
    conform_n = 0;
    for (unsigned t = 0; t < check_transport_count; t++) {
        for (unsigned f = 0; f < n; f++) {
            if (t == 0 || !facts[f].first_only) {
                conform_add(&facts[f], t, NULL);
            }
        }
    }
    return _cmocka_run_group_tests("conformance", conform_tests, conform_n, NULL, NULL);
}

/* ------------------------------------------------------------------ Sockets */

sp_socket conform_sender(void)
{
    return check_open(conform.pattern->sender);
}

sp_socket conform_receiver(void)
{
    sp_socket s = check_open(conform.pattern->receiver);

    if ((conform.pattern->flags & CONFORM_TOPICS) != 0) {
        check_ok(sp_set_bytes(s.id, "subscribe", "", 0));
    }
    return s;
}

static void connect_all(sp_socket *listening, unsigned n, sp_socket *dialing, unsigned m)
{
    for (unsigned i = 0; i < n; i++) {
        char url[256];

        check_listen(listening[i], conform.transport, url, NULL);
        for (unsigned k = 0; k < m; k++) {
            check_ok(sp_dial(dialing[k], url, NULL, 0));
        }
    }
}

int conform_own(void)
{
    char *json = NULL;
    int own = 0;

    if ((conform.pattern->flags & CONFORM_TOPICS) != 0) {
        check_ok(sp_plugins("sub", &json));
        own = strstr(json, "61473") != NULL; // Protocol 0xF021: it tells publishers what it wants.
        sp_free(json);
    }
    return own;
}

void conform_connect(sp_socket *senders, unsigned n, sp_socket *receivers, unsigned m)
{
    if (n == 1) {
        connect_all(senders, n, receivers, m);
    } else {
        connect_all(receivers, m, senders, n);
    }
    for (unsigned i = 0; i < n; i++) {
        check_pipes(senders[i], m);
        check_stat_is(senders[i].id, "rx_drops.own", (int64_t)m * conform_own());
    }
    for (unsigned k = 0; k < m; k++) {
        check_pipes(receivers[k], n);
    }
}

void conform_couple(sp_socket *sender, sp_socket *receiver)
{
    *sender = conform_sender();
    *receiver = conform_receiver();
    conform_connect(sender, 1, receiver, 1);
}

/* ------------------------------------------------------------------ Messages */

void conform_send(sp_socket s, int v)
{
    check_ok(sp_send(s, &v, sizeof(v), 0));
}

int conform_recv(sp_socket s)
{
    sp_msg *m = NULL;
    int v = -1;

    check_ok(sp_recvmsg(s, &m, 0));
    assert_true(sp_msg_len(m) >= sizeof(v));
    memcpy(&v, sp_msg_view(m), sizeof(v));
    sp_msg_release(m);
    return v;
}

void conform_exchange(sp_socket sender, sp_socket receiver, int v)
{
    conform_send(sender, v);
    assert_int_equal(conform_recv(receiver), v);
    if ((conform.pattern->flags & CONFORM_ASKS) != 0) {
        conform_send(receiver, v + 1);
        assert_int_equal(conform_recv(sender), v + 1);
    }
}

int conform_fill(sp_socket s)
{
    static unsigned char body[16384];
    int n = 0;

    for (int quiet = 0; quiet < 50;) {
        int rc;

        memcpy(body, &n, sizeof(n));
        rc = sp_send(s, body, sizeof(body), SP_NONBLOCK);
        if (rc == SP_OK) {
            n++;
            quiet = 0;
            continue;
        }
        check_rc(SP_EAGAIN, rc);
        quiet++;
        check_pause();
    }
    assert_in_range(n, 1, 20000); // However much the system buffers, it ends.
    return n;
}
