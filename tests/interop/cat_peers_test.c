/* SPDX-License-Identifier: MIT */
/// `sp cat` talks to nngcat and nanocat: each role, each direction of connecting, over tcp and ipc.
#include "peer_cat.h"

#include <stdarg.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum peers_transport { PEERS_TCP, PEERS_TCP6, PEERS_IPC };

struct peers {
    const char *name;
    enum peer_program other;
    const char *own_role;
    const char *its_role;
    enum peers_transport transport;
    bool own_listens;
};

/// Where they meet.
struct peers_place {
    char url[128];
    char path[96];
    char *dir;
    int port;
};

#define PEERS_ROLES(program, tag, transport_tag, transport)                                        \
    {tag "_req_dials_rep_" transport_tag, program, "rep", "req", transport, true},                 \
        {tag "_req_listens_for_rep_" transport_tag, program, "rep", "req", transport, false},      \
        {tag "_rep_dials_req_" transport_tag, program, "req", "rep", transport, true},             \
        {tag "_rep_listens_for_req_" transport_tag, program, "req", "rep", transport, false},      \
        {tag "_surveyor_dials_respondent_" transport_tag,                                          \
         program,                                                                                  \
         "respondent",                                                                             \
         "surveyor",                                                                               \
         transport,                                                                                \
         true},                                                                                    \
        {tag "_surveyor_listens_for_respondent_" transport_tag,                                    \
         program,                                                                                  \
         "respondent",                                                                             \
         "surveyor",                                                                               \
         transport,                                                                                \
         false},                                                                                   \
        {tag "_respondent_dials_surveyor_" transport_tag,                                          \
         program,                                                                                  \
         "surveyor",                                                                               \
         "respondent",                                                                             \
         transport,                                                                                \
         true},                                                                                    \
        {tag "_respondent_listens_for_surveyor_" transport_tag,                                    \
         program,                                                                                  \
         "surveyor",                                                                               \
         "respondent",                                                                             \
         transport,                                                                                \
         false},                                                                                   \
        {tag "_pair_dials_" transport_tag, program, "pair", "pair", transport, true},              \
    {                                                                                              \
        tag "_pair_listens_" transport_tag, program, "pair", "pair", transport, false              \
    }

/// A PUSH says it again and again: nanomsg drops what it has read when the connection ends.
#define PEERS_FLOWS(program, tag, transport_tag, transport)                                        \
    {tag "_push_dials_pull_" transport_tag, program, "pull", "push", transport, true},             \
        {tag "_push_listens_for_pull_" transport_tag, program, "pull", "push", transport, false},  \
        {tag "_pull_dials_push_" transport_tag, program, "push", "pull", transport, true},         \
        {tag "_pull_listens_for_push_" transport_tag, program, "push", "pull", transport, false},  \
        {tag "_bus_dials_" transport_tag, program, "bus", "bus", transport, true},                 \
    {                                                                                              \
        tag "_bus_listens_" transport_tag, program, "bus", "bus", transport, false                 \
    }

static const struct peers peers_cases[] = {
    PEERS_ROLES(PEER_NNGCAT, "nngcat", "tcp", PEERS_TCP),
    PEERS_ROLES(PEER_NNGCAT, "nngcat", "tcp6", PEERS_TCP6),
    PEERS_ROLES(PEER_NNGCAT, "nngcat", "ipc", PEERS_IPC),
    PEERS_ROLES(PEER_NANOCAT, "nanocat", "tcp", PEERS_TCP),
    PEERS_ROLES(PEER_NANOCAT, "nanocat", "ipc", PEERS_IPC),
    PEERS_ROLES(PEER_SP, "sp", "tcp", PEERS_TCP),
    PEERS_FLOWS(PEER_NNGCAT, "nngcat", "tcp", PEERS_TCP),
    PEERS_FLOWS(PEER_NNGCAT, "nngcat", "ipc", PEERS_IPC),
    PEERS_FLOWS(PEER_NANOCAT, "nanocat", "tcp", PEERS_TCP),
    PEERS_FLOWS(PEER_NANOCAT, "nanocat", "ipc", PEERS_IPC),
    {"nngcat_pair1_dials_tcp", PEER_NNGCAT, "pair1", "pair1", PEERS_TCP, true},
    {"nngcat_pair1_listens_tcp", PEER_NNGCAT, "pair1", "pair1", PEERS_TCP, false},
    {"nngcat_pair1_dials_ipc", PEER_NNGCAT, "pair1", "pair1", PEERS_IPC, true},
    {"nngcat_pair1_listens_ipc", PEER_NNGCAT, "pair1", "pair1", PEERS_IPC, false},
};

#define PEERS_CASES (sizeof(peers_cases) / sizeof(peers_cases[0]))

static void peers_meet(struct peers_place *place, enum peers_transport transport)
{
    memset(place, 0, sizeof(*place));
    if (transport == PEERS_IPC) {
        place->dir = proc_mkdir();
        (void)snprintf(place->path, sizeof(place->path), "%s/s", place->dir);
        (void)snprintf(place->url, sizeof(place->url), "ipc://%s", place->path);
        return;
    }
    place->port = proc_free_port();
    (void)snprintf(place->url, sizeof(place->url), "tcp://%s:%d",
                   transport == PEERS_TCP6 ? "[::1]" : "127.0.0.1", place->port);
}

static bool peers_wait_listening(const struct peers_place *place)
{
    return place->dir != NULL ? proc_wait_path(place->path, PROC_SOON)
                              : proc_wait_port(place->port, PROC_SOON);
}

/// "pair" is "pair0" where that has to be said.
static const char *peers_role(enum peer_program which, const char *role)
{
    return which == PEER_NNGCAT && strcmp(role, "pair") == 0 ? "pair0" : role;
}

static void peers_start(struct proc *p, enum peer_program which, const char *role,
                        const struct peers_place *place, bool listens)
{
    // Who is not there yet does not hear a survey or a bus: there is more. A survey not each
    // second, which is how long one takes: libnng 1.5.2 now and then locks itself where both meet.
    const char *again = strcmp(role, "bus") == 0        ? " --interval 1"
                        : strcmp(role, "surveyor") == 0 ? " --interval 2"
                                                        : "";
    char what[64];

    if (strcmp(role, "push") == 0) {
        (void)snprintf(what, sizeof(what), "--data from-push --interval 1");
    } else if (strcmp(role, "pull") == 0) {
        (void)snprintf(what, sizeof(what), "--quoted");
    } else {
        (void)snprintf(what, sizeof(what), "--quoted --data from-%s%s", role, again);
    }
    assert_int_equal(peer_start(p, which, "--%s --%s %s %s", peers_role(which, role),
                                listens ? "bind" : "connect", place->url, what),
                     0);
}

/// The program printed what the other one, which has `role`, sent.
static void peers_expect(struct proc *p, const char *role)
{
    char text[64];

    (void)snprintf(text, sizeof(text), "\"from-%s\"\n", role);
    if (!proc_wait_text(p, text, PROC_SOON)) {
        fail_msg("no %s, but \"%s\" and \"%s\"", text, p->output.len > 0 ? p->output.data : "",
                 p->errors.len > 0 ? p->errors.data : "");
    }
}

static void peers_talk(void **state)
{
    const struct peers *c = *state;
    struct peers_place place;
    struct proc own;
    struct proc other;

    if (!peer_exists(c->other)) {
        skip();
    }
    peers_meet(&place, c->transport);
    if (c->own_listens) {
        peers_start(&own, PEER_SP, c->own_role, &place, true);
        assert_true(peers_wait_listening(&place));
        peers_start(&other, c->other, c->its_role, &place, false);
    } else {
        peers_start(&other, c->other, c->its_role, &place, true);
        assert_true(peers_wait_listening(&place));
        peers_start(&own, PEER_SP, c->own_role, &place, false);
    }
    if (strcmp(c->own_role, "push") != 0) {
        peers_expect(&own, c->its_role);
    }
    if (strcmp(c->own_role, "pull") != 0) {
        peers_expect(&other, c->own_role);
    }
    // A REQ with its reply ends by itself; whoever goes on is ended as by Ctrl-C, and that is no
    // failure.
    if (strcmp(c->own_role, "req") != 0) {
        proc_signal(&own, SIGINT);
    }
    assert_int_equal(proc_wait(&own, PROC_SOON), 0);
    assert_int_equal(own.errors.len, 0);
    proc_stop(&own);
    proc_stop(&other);
    if (place.dir != NULL) {
        proc_rmdir(place.dir);
    }
}

int main(void)
{
    struct CMUnitTest tests[PEERS_CASES];

    for (size_t i = 0; i < PEERS_CASES; i++) {
        // cmocka hands the state on as it is; the test only reads it.
        tests[i] = (struct CMUnitTest){.name = peers_cases[i].name,
                                       .test_func = peers_talk,
                                       .initial_state = (void *)(uintptr_t)&peers_cases[i]};
    }
    peer_environment();
    return cmocka_run_group_tests_name("cat_peers", tests, NULL, NULL);
}
