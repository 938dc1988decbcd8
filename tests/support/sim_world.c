/* SPDX-License-Identifier: MIT */
/// A simulated world.
#include "sim_world.h"

#include <stdio.h>
#include <string.h>

static bool world_calm; ///< no peer is refused any more

struct sim_node *sim_node_add(struct sim_world *w, const char *protocol, int listens,
                              uint32_t dials)
{
    struct sim_node *n = &w->node[w->n];

    SIM_CHECK(w->n < SIM_NODES);
    *n = (struct sim_node){.protocol = protocol, .listens = listens, .dials = dials, .index = w->n};
    w->n++;
    return n;
}

int sim_send(sp_socket s, uint32_t from, uint32_t seq)
{
    struct sim_body body = {from, seq};

    return sp_send(s, &body, sizeof(body), SP_NONBLOCK);
}

int sim_recv_own(sp_socket s, sp_ctx own, void *buf, size_t len, uint32_t *pipe)
{
    sp_msg *m = NULL;
    int rc = own.id == 0 ? sp_recvmsg(s, &m, SP_NONBLOCK) : sp_ctx_recvmsg(own, &m, SP_NONBLOCK);

    if (rc != SP_OK) {
        return rc;
    }
    SIM_CHECK(sp_msg_len(m) == len);
    memcpy(buf, sp_msg_view(m), len);
    if (pipe != NULL) {
        *pipe = sp_msg_peer(m);
    }
    sp_msg_release(m);
    return SP_OK;
}

int sim_recv(sp_socket s, void *buf, size_t len, uint32_t *pipe)
{
    return sim_recv_own(s, (sp_ctx){0}, buf, len, pipe);
}

/* ------------------------------------------------------------------ What was heard */

#define EARS 1024 // pipes of a run

static struct {
    bool once[SIM_NODES][SIM_NODES][SIM_STEPS + 1];
    struct {
        unsigned node;
        uint32_t pipe;
        uint32_t last;
    } ear[EARS];
    unsigned ears;
} heard;

void sim_heard_none(void)
{
    memset(&heard, 0, sizeof(heard));
}

void sim_heard(unsigned node, uint32_t pipe, uint32_t from, uint32_t seq)
{
    unsigned i = 0;

    SIM_CHECK(from < SIM_NODES && from != node && seq >= 1 && seq <= SIM_STEPS);
    SIM_CHECK(!heard.once[node][from][seq]);
    heard.once[node][from][seq] = true;
    while (i < heard.ears && (heard.ear[i].node != node || heard.ear[i].pipe != pipe)) {
        i++;
    }
    SIM_CHECK(i < EARS);
    if (i == heard.ears) {
        heard.ears++;
        heard.ear[i].node = node;
        heard.ear[i].pipe = pipe;
        heard.ear[i].last = 0;
    }
    SIM_CHECK(seq > heard.ear[i].last);
    heard.ear[i].last = seq;
}

/* ------------------------------------------------------------------ Nodes */

static int refuse_some(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    (void)s;
    (void)p;
    (void)arg;
    return ev == SP_PIPE_ADDING && !world_calm && sim_pick(10) == 0;
}

static void node_url(int address, char url[16])
{
    (void)snprintf(url, 16, "sim://%d", address);
}

static void node_listen(struct sim_node *n)
{
    char url[16];

    node_url(n->listens, url);
    SIM_CHECK(sp_listen(n->s, url, &n->listener) == SP_OK);
}

static void node_open(struct sim_world *w, struct sim_node *n)
{
    char url[16];

    n->s = n->raw ? sim_open_raw(n->protocol) : sim_open(n->protocol);
    n->lives++;
    if (!w->steady && sim_pick(2) == 0) {
        SIM_CHECK(sp_on_pipe(n->s, refuse_some, NULL) == SP_OK);
    }
    if (w->acts->opened != NULL) {
        w->acts->opened(n);
    }
    if (n->listens >= 0) {
        node_listen(n);
    }
    for (int i = 0; i < SIM_NODES; i++) {
        if ((n->dials & 1U << i) != 0) {
            node_url(i, url);
            SIM_CHECK(sp_dial(n->s, url, NULL, SP_NONBLOCK) == SP_OK);
        }
    }
}

static void node_close(struct sim_world *w, struct sim_node *n)
{
    if (w->acts->closing != NULL) {
        w->acts->closing(n);
    }
    SIM_CHECK(sp_close(n->s) == SP_OK);
}

static void close_a_pipe(struct sim_node *n)
{
    sp_peer_info info[SIM_NODES] = {{.size = sizeof(info[0])}};
    size_t count = SIM_NODES;

    SIM_CHECK(sp_peers(n->s, info, &count) == SP_OK);
    if (count > 0) {
        // It may be closing already.
        (void)sp_pipe_close(info[sim_pick((unsigned)count)].pipe);
    }
}

/// Something happens to a node, now and then.
static void node_event(struct sim_world *w, struct sim_node *n)
{
    switch (sim_pick(60)) {
    case 0:
        if (!w->steady) {
            w->events++;
            node_close(w, n);
            node_open(w, n);
        }
        break;
    case 1:
        if (!w->steady && n->listens >= 0) {
            w->events++;
            SIM_CHECK(sp_listener_close(n->listener) == SP_OK);
            sim_settle(1);
            node_listen(n);
        }
        break;
    case 2:
        if (!w->steady) {
            w->events++;
            close_a_pipe(n);
        }
        break;
    case 3:
        SIM_CHECK(sp_set_int(n->s.id, "recv-buffer", 1 + (int)sim_pick(8)) == SP_OK);
        break;
    default:
        break;
    }
}

/// One receive at each node, if there is anything. False: there was nothing.
static bool take_all(struct sim_world *w)
{
    bool any = false;

    for (unsigned i = 0; i < w->n; i++) {
        any = (w->acts->take != NULL && w->acts->take(&w->node[i])) || any;
    }
    SIM_CHECK(sp_run_once(1) >= 0);
    return any;
}

static bool any_busy(struct sim_world *w)
{
    for (unsigned i = 0; w->acts->busy != NULL && i < w->n; i++) {
        if (w->acts->busy(&w->node[i])) {
            return true;
        }
    }
    return false;
}

/// Fine weather until nobody waits any more and nothing is left to be received.
static void come_to_rest(struct sim_world *w)
{
    sim_calm();
    world_calm = true;
    for (unsigned i = 0; any_busy(w); i++) {
        SIM_CHECK(i < 20000); // What must come, comes.
        (void)take_all(w);
    }
    for (unsigned quiet = 0; quiet < 2;) {
        sim_settle(100);
        quiet = take_all(w) ? 0 : quiet + 1;
        while (take_all(w)) {
        }
    }
}

void sim_world_run(struct sim_world *w)
{
    world_calm = false;
    for (unsigned i = 0; i < w->n; i++) {
        node_open(w, &w->node[i]);
    }
    for (unsigned step = 0; step < SIM_STEPS; step++) {
        struct sim_node *n = &w->node[sim_pick(w->n)];

        switch (sim_pick(8)) {
        case 0:
            node_event(w, n);
            break;
        case 1:
        case 2:
            SIM_CHECK(sp_run_once((int)sim_pick(4)) >= 0);
            break;
        default:
            w->acts->act(n);
            break;
        }
    }
    come_to_rest(w);
    sim_rest();
}
