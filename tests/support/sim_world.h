/* SPDX-License-Identifier: MIT */
/// A simulated world: sockets that listen and dial each other, do what their protocol's scenario
/// says in a seeded order, lose connections, refuse peers, close, and come back.
#ifndef SP_TEST_SIM_WORLD_H
#define SP_TEST_SIM_WORLD_H

#include "sim_run.h"

#define SIM_NODES 8

/// A socket, and what opens it again.
struct sim_node {
    const char *protocol;
    bool raw;
    int listens;    ///< number of its address; -1: it does not listen
    uint32_t dials; ///< a bit for the address of each that it dials
    unsigned index; ///< in the world
    unsigned lives; ///< how often it was opened
    sp_socket s;
    sp_listener listener;
};

/// What a scenario's sockets do. Any may be NULL, but for `act`.
struct sim_acts {
    void (*opened)(struct sim_node *n);  ///< a new socket, before it listens and dials
    void (*closing)(struct sim_node *n); ///< it is about to be closed
    void (*act)(struct sim_node *n);     ///< one call at random
    bool (*take)(struct sim_node *n);    ///< in the end: receive and answer; false: nothing there
    bool (*busy)(struct sim_node *n); ///< in the end: it still waits for something that must come
};

struct sim_world {
    const struct sim_acts *acts;
    struct sim_node node[SIM_NODES];
    unsigned n;
    bool steady;     ///< no socket is closed and no pipe is, other than by the network
    unsigned events; ///< closes of either kind
};

/// A new node; the world is empty at first.
struct sim_node *sim_node_add(struct sim_world *w, const char *protocol, int listens,
                              uint32_t dials);

/// Opens all, lets them act SIM_STEPS times, brings everything to rest and looks at the accounts
/// (sim_rest). Between sim_begin and sim_end.
void sim_world_run(struct sim_world *w);

/// What messages of scenarios are: who sent it, and the how manieth of his it is, from 1 on.
struct sim_body {
    uint32_t from;
    uint32_t seq;
};
/// Without waiting; the result. What is received has `len` bytes; `pipe` (may be NULL) is where it
/// came from.
int sim_send(sp_socket s, uint32_t from, uint32_t seq);
int sim_recv(sp_socket s, void *buf, size_t len, uint32_t *pipe);
/// The same from a context of the socket; of id 0: the socket's own.
int sim_recv_own(sp_socket s, sp_ctx own, void *buf, size_t len, uint32_t *pipe);

/// A node heard number `seq` of node `from`: it was sent, comes once, and over one pipe in order.
/// For protocols that send each message to each peer; sim_heard_none begins a run.
void sim_heard_none(void);
void sim_heard(unsigned node, uint32_t pipe, uint32_t from, uint32_t seq);

#endif
