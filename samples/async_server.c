/* SPDX-License-Identifier: MIT */
/// A server that answers many requests at once with one socket and no thread of its own: each slot
/// is a context and an operation, which receives, waits a moment (where a real one would look
/// something up), and answers. Ctrl-C ends it.
///
///     async_server tcp://127.0.0.1:5555
///     sp cat --req --dial tcp://127.0.0.1:5555 --data hello --ascii
///
/// Build it with `cc async_server.c $(pkg-config --cflags --libs sp)`.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sp/sp.h>

#define SLOTS 64
#define WORK_MS 20

enum slot_step { SLOT_RECEIVES, SLOT_WORKS, SLOT_SENDS };

struct slot {
    sp_ctx ctx;
    sp_op *op;
    sp_msg *request;
    enum slot_step step;
};

/// Says what failed, with the chain of its causes. Returns what main returns.
static int server_fail(const char *what)
{
    (void)fprintf(stderr, "async_server: %s: %s\n", what, sp_error_detail());
    return 1;
}

/// Starts the next step; on a thread of the library.
static void slot_go_on(sp_op *op, void *arg)
{
    struct slot *slot = arg;
    int rc = sp_op_result(op);

    switch (slot->step) {
    case SLOT_RECEIVES:
        slot->request = sp_op_msg(op);
        slot->step = SLOT_WORKS;
        rc = rc < 0 ? rc : sp_op_sleep(op, WORK_MS);
        break;
    case SLOT_WORKS:
        slot->step = SLOT_SENDS;
        rc = rc < 0 ? rc : sp_op_send(op, slot->ctx.id, slot->request);
        if (rc == SP_OK) {
            slot->request = NULL;
        }
        break;
    case SLOT_SENDS:
        slot->step = SLOT_RECEIVES;
        rc = sp_op_recv(op, slot->ctx.id); // Also after a peer went away before its answer.
        break;
    }
    if (rc < 0 && rc != SP_ECLOSED) {
        (void)fprintf(stderr, "async_server: %s\n", sp_strerror(rc));
    }
}

static int slot_open(struct slot *slot, sp_socket s)
{
    slot->step = SLOT_RECEIVES;
    if (sp_ctx_open(&slot->ctx, s) < 0 || sp_op_new(&slot->op, slot_go_on, slot) < 0) {
        return -1;
    }
    return sp_op_recv(slot->op, slot->ctx.id);
}

int main(int argc, char **argv)
{
    static struct slot slots[SLOTS];
    sigset_t set;
    sp_socket s;
    int sig;

    if (argc != 2) {
        (void)fprintf(stderr, "usage: async_server URL\n");
        return 2;
    }
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    if (sp_open(&s, "rep") < 0) {
        return server_fail("socket");
    }
    for (int i = 0; i < SLOTS; i++) {
        if (slot_open(&slots[i], s) < 0) {
            return server_fail("slot");
        }
    }
    if (sp_listen(s, argv[1], NULL) < 0) {
        return server_fail("listen");
    }
    (void)printf("answers at %s, %d requests at once; Ctrl-C ends it\n", argv[1], SLOTS);
    (void)fflush(stdout);
    (void)sigwait(&set, &sig);
    (void)sp_close(s); // What waits in a slot ends with SP_ECLOSED.
    for (int i = 0; i < SLOTS; i++) {
        sp_op_free(slots[i].op);
        sp_msg_release(slots[i].request);
    }
    sp_fini();
    return 0;
}
