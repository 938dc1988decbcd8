/* SPDX-License-Identifier: MIT */
/// The transport with edges. It is inproc, which is handed a host whose "ready" raises an edge.
/// There is no point in the middle of anything here, so nothing needs a lock.
#include "edge_net.h"

#include "sim_threads.h"

#define EDGES_MAX 256

const sp_plugin *sp_test_entry_inproc(void);

/// The file descriptor of a pipe, from its dial or accept until its pipe_fini.
struct edge {
    sp_pipe_ref *pipe;
    const void *state; ///< inproc's
    int fd;
};

static struct edge edges[EDGES_MAX];
static const sp_host *edge_core;
static const sp_transport_ops *edge_inproc;
static sp_host edge_host;

static struct edge *edge_of(const sp_pipe_ref *pipe)
{
    for (unsigned i = 0; i < EDGES_MAX; i++) {
        if (edges[i].pipe == pipe && pipe != NULL) {
            return &edges[i];
        }
    }
    return NULL;
}

static void edge_ready(sp_pipe_ref *pipe, unsigned ready)
{
    struct edge *e = edge_of(pipe);

    SIM_CHECK(e != NULL);
    sim_fd_raise(e->fd, ready);
}

static int edge_ep_init(void *self, const sp_host *host, sp_ep_ref *ref, const char *url,
                        sp_cause *cause)
{
    edge_core = host;
    edge_host = *host;
    edge_host.pipe_ready = edge_ready;
    // inproc skips its own prefix, which is as long.
    return edge_inproc->ep_init(self, &edge_host, ref, url, cause);
}

static struct edge *edge_new(sp_pipe_ref *pipe, const void *state)
{
    for (unsigned i = 0; i < EDGES_MAX; i++) {
        if (edges[i].pipe == NULL) {
            edges[i] = (struct edge){pipe, state, sim_fd_new()};
            return &edges[i];
        }
    }
    return NULL;
}

static void edge_free(struct edge *e)
{
    sim_fd_free(e->fd);
    e->pipe = NULL;
}

static int edge_open(sp_pipe_ref *pipe, int rc)
{
    if (rc != SP_OK) {
        edge_free(edge_of(pipe));
        return rc;
    }
    return edge_core->pipe_watch(pipe, edge_of(pipe)->fd);
}

static int edge_dial(void *self, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    SIM_CHECK(edge_new(ref, pipe) != NULL);
    return edge_open(ref, edge_inproc->dial(self, pipe, ref, cause));
}

static int edge_accept(void *self, void *pipe, sp_pipe_ref *ref, sp_cause *cause)
{
    SIM_CHECK(edge_new(ref, pipe) != NULL);
    return edge_open(ref, edge_inproc->accept(self, pipe, ref, cause));
}

static void edge_pipe_fini(void *self)
{
    edge_inproc->pipe_fini(self);
    for (unsigned i = 0; i < EDGES_MAX; i++) {
        if (edges[i].pipe != NULL && edges[i].state == self) {
            edge_free(&edges[i]);
        }
    }
}

static sp_transport_ops edge_ops;
static const sp_export edge_exports[] = {{SP_KIND_TRANSPORT, "edgefd", {.transport = &edge_ops}}};

static const sp_plugin edge_plugin = {
    .size = sizeof(sp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .id = "org.scalability-protocols.test.edge",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "inproc with file descriptors, simulated",
    .exports = edge_exports,
    .export_count = 1,
    .export_size = sizeof(sp_export),
};

const sp_plugin *edge_net_entry(void)
{
    edge_inproc = sp_test_entry_inproc()->exports[0].ops.transport;
    edge_ops = *edge_inproc;
    edge_ops.url_form = "edgefd://NAME";
    edge_ops.ep_init = edge_ep_init;
    edge_ops.dial = edge_dial;
    edge_ops.accept = edge_accept;
    edge_ops.pipe_fini = edge_pipe_fini;
    return &edge_plugin;
}
