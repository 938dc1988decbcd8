/* SPDX-License-Identifier: MIT */
/// Pipe events for the user, on the socket's user actor: the one place where the application's
/// function is called, never in place, never under a lock.
#include "error.h"
#include "pipe.h"
#include "platform.h"

#include <string.h>

static void user_call(struct sp__sock *s, struct sp__pipe *p, sp_pipe_event ev, int *answer)
{
    sp_socket sock = {s->obj.id};
    sp_pipe pipe = {p->obj.id};
    struct sp__thread *t = sp__self();
    int rc = 0;

    if (s->on_pipe != NULL) {
        sp__runs(t, &s->user); // Each call has its time.
        atomic_store_explicit(&s->calling, t, memory_order_relaxed);
        rc = s->on_pipe(sock, pipe, ev, s->on_pipe_arg);
        atomic_store_explicit(&s->calling, NULL, memory_order_relaxed);
    }
    if (answer != NULL) {
        *answer = rc;
    }
}

static void user_on_event(struct sp__event *ev)
{
    struct sp__pipe_user *u = SP__CONTAINER(ev, struct sp__pipe_user, ev);
    struct sp__pipe *p = u->pipe;
    struct sp__sock *s = p->sock;
    // Acquire: pairs with the release of who set a bit.
    unsigned bits = atomic_exchange_explicit(&u->bits, 0, memory_order_acquire);
    int answer = 0;

    if ((bits & SP__USER_ADDING) != 0) {
        user_call(s, p, SP_PIPE_ADDING, &answer);
        sp__pipe_note(p, answer != 0 ? SP__NOTE_REFUSED : SP__NOTE_ADMITTED);
    }
    if ((bits & SP__USER_ADDED) != 0) {
        u->added = true;
        user_call(s, p, SP_PIPE_ADDED, NULL);
    }
    if ((bits & SP__USER_REMOVED) != 0 && u->added) {
        user_call(s, p, SP_PIPE_REMOVED, NULL);
    }
}

int sp__pipe_user_init(struct sp__pipe *p)
{
    struct sp__pipe_user *u = sp__alloc(sizeof(*u));

    if (u == NULL) {
        return SP_ENOMEM;
    }
    memset(u, 0, sizeof(*u));
    u->pipe = p;
    sp__event_init(&u->ev, &p->sock->user, &p->obj, user_on_event);
    p->user = u;
    return SP_OK;
}

void sp__user_tell(struct sp__pipe *p, unsigned event_bit)
{
    p->sock->told = true;
    // Release: pairs with the exchange in user_on_event.
    (void)atomic_fetch_or_explicit(&p->user->bits, event_bit, memory_order_release);
    sp__post(&p->user->ev);
}

struct on_pipe_args {
    int (*fn)(sp_socket, sp_pipe, sp_pipe_event, void *);
    void *arg;
};

/// On the user's actor: afterwards the old function is not running.
static int on_pipe_set(struct sp__sock *s, void *arg)
{
    struct on_pipe_args *args = arg;

    s->on_pipe = args->fn;
    s->on_pipe_arg = args->arg;
    // Release: pairs with the load in pipe_admit; who sees it posts to the actor that knows the
    // function.
    atomic_store_explicit(&s->watched, args->fn != NULL, memory_order_release);
    return SP_OK;
}

int sp_on_pipe(sp_socket s, int (*fn)(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg),
               void *arg)
{
    struct on_pipe_args args = {fn, arg};
    struct sp__object *obj;
    struct sp__sock *sock;
    int rc = sp__enter(s.id, SP__KIND_SOCKET, &obj);

    if (rc < 0) {
        return rc;
    }
    sock = SP__CONTAINER(obj, struct sp__sock, obj);
    if (atomic_load_explicit(&sock->calling, memory_order_relaxed) == sp__self()) {
        rc = on_pipe_set(sock, &args); // From inside the function itself: we are the actor.
    } else {
        rc = sp__sock_call(sock, &sock->user, on_pipe_set, &args);
    }
    sp__leave();
    return rc;
}
