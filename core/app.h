/* SPDX-License-Identifier: MIT */
/// Actors of applications: user code that is run with what was posted to it, serially, on workers
/// (sp__actor, user_code), never in place.
///
/// Life: spawn posts `start`, which calls init; stop makes the handle invalid and posts `stop`,
/// behind all that was posted before; what it finds left then is dropped and counted. A failure
/// (a negative return) is fini, and init again as far as the policy allows; else the same end.
///
/// Room: `depth` counts what is posted and not taken, against the capacity. Who finds none may wait
/// in `posters`: it joins the list, sets `wanted`, and looks again; who takes messages lowers
/// `depth`, then looks at `wanted` (seq_cst, all): one of the two sees the other.
///
/// app.c: life and failures; app_post.c: posting and who waits for room; app_port.c: sockets;
/// app_timer.c; app_thread.c: threads of their own.
#ifndef SP_CORE_APP_H
#define SP_CORE_APP_H

#include "actor.h"
#include "mailbox.h"
#include "object.h"
#include "socket.h"
#include "tap.h"
#include "timer.h"
#include "waiter.h"

#include <sp/sp.h>

#include <pthread.h>

enum sp__app_state { SP__APP_NEW, SP__APP_UP, SP__APP_DOWN };

struct sp__app;

/// A socket that is attached. The actor's list has a reference, and so has each list in which it
/// waits.
struct sp__app_port {
    struct sp__tap tap;  ///< its object is the port's
    struct sp__app *app; ///< held
    struct sp__app_port *next;
    unsigned number;
    bool receives;        ///< the protocol does
    atomic_bool detached; ///< by the user
    bool joined;          ///< in the actor's list; under app->lock
    bool tx_waits;        ///< in the socket's list of senders, or about to be told; the actor's
    sp_batch left;        ///< received, not taken by on_message; the actor's
    struct sp__waiter tx;
    struct sp__event writable;
};

/// Waits, for an actor, for room in a mailbox or another actor.
struct sp__app_want {
    struct sp__post_waiter tx;
    struct sp__app *app;       ///< held while it waits
    struct sp__object *target; ///< held while it waits; NULL: free
    struct sp__app_want *next; ///< of the actor's, under app->lock
};

struct sp__app_timer {
    struct sp__timer timer;
    struct sp__app *app;
    uint64_t cookie;
    bool used; ///< under app->lock
    struct sp__app_timer *next;
};

struct sp__app {
    struct sp__object obj;
    struct sp__actor run;
    struct sp__app_thread *own; ///< its thread; NULL: it has none
    struct sp__port in;         ///< what was posted
    struct sp__event start;
    struct sp__event stop;
    struct sp__event again; ///< offer what is left again
    sp_actor_ops ops;
    void *state;
    size_t capacity;
    unsigned restart_max;
    int64_t restart_time; ///< ns; 0: in its whole life

    // The actor's.
    enum sp__app_state up;
    sp_batch left;      ///< posted, not taken by on_message
    int64_t *restarted; ///< when, ns: a ring of the last `restart_max`
    sp__counter restarts;
    sp__counter received; ///< from sockets
    sp__counter handled;
    sp__counter failed;
    sp__counter closed;    ///< dropped when it was stopped
    sp__counter port_left; ///< in `left` of its ports

    // Everybody's.
    _Atomic uint64_t depth; ///< posted, and not taken by on_message
    _Atomic uint64_t posted;
    _Atomic uint64_t refused; ///< SP_EFULL
    atomic_bool wanted;
    atomic_bool attached;  ///< there were ports
    atomic_bool room_came; ///< what it wanted has room: on_writable
    atomic_bool stopping;  ///< no more posts
    pthread_mutex_t lock;  ///< of all below
    struct sp__waiters posters;
    struct sp__waiters stoppers;
    struct sp__app_want *wants;
    struct sp__app_timer *timers;
    struct sp__app_port *ports;
    bool ended;
};

/// From a handle; as sp__enter.
int sp__app_enter(sp_actor a, struct sp__app **app);
/// The actor whose handler the calling thread is in; NULL.
struct sp__app *sp__app_self(void);

/// Around the user's functions. [the actor]
void sp__app_call_begin(struct sp__app *app, enum sp__slot slot);
void sp__app_call_end(void);
/// Offers a batch, with the failure and the counting that may follow.
void sp__app_offer(struct sp__app *app, unsigned number, sp_batch *batch);
/// At the end of each visit: offers what is left, and takes what sockets have.
void sp__app_visit(struct sp__app *app);

/// app_post.c: messages left the queue; ends the waiting of everybody.
void sp__app_took(struct sp__app *app, size_t n);
void sp__app_posters_end(struct sp__app *app);
void sp__app_on_posted(struct sp__port *port, sp_batch *nodes);

/// app_port.c: looks after its sockets; gives them all back.
void sp__app_ports_visit(struct sp__app *app);
void sp__app_ports_end(struct sp__app *app);

/// app_timer.c: cancels, frees.
void sp__app_timers_cancel(struct sp__app *app);
void sp__app_timers_free(struct sp__app *app);

/// The calling thread was refused credit by a socket, or room by a mailbox or an actor: if it is in
/// an actor of the application, that is told later. True: there is some now.
bool sp__app_wants_credit(struct sp__sock *s);
bool sp__app_wants_room(struct sp__object *target);

/// app_thread.c: gives it a thread of its own, before anything is posted; takes over its actor for
/// that thread; joins threads that have ended.
int sp__app_thread_start(struct sp__app *app);
void sp__app_thread_schedule(struct sp__actor *a);
void sp__app_threads_join(void);

/// sp_fini: stops all.
void sp__apps_close(void);

/// One, or (NULL) the sum of all that are gone.
struct sp__app_stats {
    uint64_t posted;
    uint64_t received;
    uint64_t handled;
    uint64_t failed;
    uint64_t closed;
    uint64_t refused;
    uint64_t restarts;
    uint64_t stopped; ///< by the policy
    uint64_t queued;
    uint64_t capacity;
};
void sp__app_stats(struct sp__app *app, struct sp__app_stats *out);

#endif
