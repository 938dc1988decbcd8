/* SPDX-License-Identifier: MIT */
/// A thread that looks, now and then, for callbacks that do not return: it names each in the log,
/// once, and sees to it that other workers go on. It is there only while workers run something: who
/// runs something wakes it (`stirred`), and after a look that found nothing it ends.
///
/// A thread that runs an actor has its address in `runs`, and stores it anew for each callback of
/// the user. The watchdog puts marks into the low bits of what it finds there; the owner's next
/// store takes them away. So a mark that lasts is a callback that does, and whoever runs pays
/// nothing but that store. An actor that is found is held while it is named. [own]
#include "app.h"
#include "config.h"
#include "log.h"
#include "op.h"
#include "platform.h"
#include "registry.h"
#include "sched.h"
#include "sched_state.h"
#include "socket.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#define MARKED ((uintptr_t)1) // seen at an earlier look, since `runs_since`
#define TOLD ((uintptr_t)2)   // reported
#define MARKS (MARKED | TOLD)
#define LOOKS 4                 // in the time that a callback has
#define LOOK_MIN SP__MS         // between two of them
#define LOOK_MAX (250 * SP__MS) // so that it ends soon
#define NAME 200

static struct {
    struct sp__parker parker;
    void *thread; ///< under the scheduler's lock, as the two below; NULL: none
    bool there;
    bool gone;    ///< it only returns any more
    bool stays;   ///< the process ends: it does not leave on its own
    int64_t time; ///< ns that a callback has; 0: for ever
} dog;

/* ------------------------------------------------------------------ Names */

static const char *const slot_names[SP__SLOTS] = {
    [SP__SLOT_NONE] = "nothing",
    [SP__SLOT_PIPE_ADD] = "pipe_add",
    [SP__SLOT_PIPE_DEL] = "pipe_del",
    [SP__SLOT_CTX_CLOSE] = "ctx_close",
    [SP__SLOT_ON_SEND] = "on_send",
    [SP__SLOT_ON_RECV] = "on_recv",
    [SP__SLOT_ON_WRITABLE] = "on_writable",
    [SP__SLOT_ON_OPTION] = "on_option",
    [SP__SLOT_STOP] = "stop",
    [SP__SLOT_LISTEN] = "listen",
    [SP__SLOT_ACCEPT] = "accept",
    [SP__SLOT_DIAL] = "dial",
    [SP__SLOT_EP_CLOSE] = "ep_close",
    [SP__SLOT_ON_READY] = "on_ready",
    [SP__SLOT_PIPE_CLOSE] = "pipe_close",
    [SP__SLOT_ON_TIMER] = "on_timer",
    [SP__SLOT_INIT] = "init",
    [SP__SLOT_ON_MESSAGE] = "on_message",
    [SP__SLOT_FINI] = "fini",
};

static const char *slot_name(const atomic_uchar *slot)
{
    return slot_names[atomic_load_explicit(slot, memory_order_relaxed)];
}

static void name_transport(const sp_transport_ops *ops, const struct sp__sock *s, const char *slot,
                           char *name)
{
    const struct sp__transport *t =
        (const struct sp__transport *)(const void *)((const char *)ops -
                                                     offsetof(struct sp__transport, ops));

    (void)snprintf(name, NAME, "transport %s (plugin %s, socket 0x%" PRIx64 "): %s", t->scheme,
                   t->plugin->desc->id, s->obj.id, slot);
}

/// The transport that is called where the protocol sends, if the socket's actor is in its submit.
static const sp_transport_ops *passing(struct sp__sock *s)
{
    const sp_transport_ops *ops = NULL;

    if (pthread_mutex_trylock(&s->lock) != 0) {
        return NULL;
    }
    for (const struct sp__pipe *p = s->pipes; p != NULL && ops == NULL; p = p->next) {
        if (p->passes && atomic_load_explicit(&p->tx.slot, memory_order_relaxed) != SP__SLOT_NONE) {
            ops = p->ops;
        }
    }
    (void)pthread_mutex_unlock(&s->lock);
    return ops;
}

static void name_socket(struct sp__sock *s, const struct sp__actor *a, char *name)
{
    const sp_transport_ops *ops = atomic_load_explicit(&s->in_transport, memory_order_relaxed);
    const sp_transport_ops *passes = passing(s);

    if (a == &s->user) {
        (void)snprintf(name, NAME, "socket 0x%" PRIx64 " (%s): the function of sp_on_pipe",
                       s->obj.id, s->protocol->name);
    } else if (ops != NULL) {
        name_transport(ops, s, slot_name(&s->in_slot), name);
    } else if (passes != NULL) {
        name_transport(passes, s, "submit", name);
    } else {
        (void)snprintf(name, NAME, "protocol %s (plugin %s, socket 0x%" PRIx64 "): %s",
                       s->protocol->name, s->protocol->plugin->desc->id, s->obj.id,
                       slot_name(&a->slot));
    }
}

/// Its input and output actors call little else.
static void name_pipe(const struct sp__pipe *p, const struct sp__actor *a, char *name)
{
    bool shakes = atomic_load_explicit(&p->state, memory_order_relaxed) == SP__PIPE_SHAKING;

    name_transport(p->ops, p->sock,
                   a == &p->tx ? "submit"
                   : shakes    ? "handshake"
                               : "harvest",
                   name);
}

static void name_operation(const struct sp_op *op, char *name)
{
    Dl_info info = {0};
    const char *address = (const char *)(uintptr_t)op->done;

    if (dladdr(address, &info) == 0) {
        (void)snprintf(name, NAME, "operation: its callback at %p", (const void *)address);
    } else if (info.dli_sname != NULL && info.dli_saddr == address) {
        (void)snprintf(name, NAME, "operation: its callback %s", info.dli_sname);
    } else {
        (void)snprintf(name, NAME, "operation: its callback at %s+0x%tx", info.dli_fname,
                       address - (const char *)info.dli_fbase);
    }
}

/// What an actor is, and in what callback.
static void name_actor(const struct sp__actor *a, char *name)
{
    struct sp__object *obj = a->owner;

    if (obj->kind == SP__KIND_SOCKET) {
        name_socket(SP__CONTAINER(obj, struct sp__sock, obj), a, name);
    } else if (obj->kind == SP__KIND_PIPE) {
        name_pipe(SP__CONTAINER(obj, struct sp__pipe, obj), a, name);
    } else if (obj->kind == SP__KIND_ACTOR) {
        (void)snprintf(name, NAME, "actor 0x%" PRIx64 ": %s", obj->id, slot_name(&a->slot));
    } else if (obj->kind == SP__KIND_NONE && a->user_code) {
        name_operation(SP__CONTAINER(obj, struct sp_op, obj), name);
    } else {
        (void)snprintf(name, NAME, "the library itself");
    }
}

/* ------------------------------------------------------------------ Looking */

/// Names what a thread runs since `runs_since`; then somebody takes over from it.
static void dog_bark(struct sp__thread *t, uintptr_t seen, int64_t now)
{
    const struct sp__actor *a = (const struct sp__actor *)(seen & ~MARKS);
    struct sp__object *owner = NULL;
    enum sp__hold hold;
    char name[NAME];

    sp__retire_pause();
    // Acquire: pairs with the release in sp__runs. It runs, so that its owner is held.
    if (atomic_compare_exchange_strong_explicit(&t->runs, &seen, seen | TOLD, memory_order_acquire,
                                                memory_order_relaxed)) {
        owner = a->owner;
        sp__hold(owner);
    }
    sp__retire_resume();
    if (owner == NULL) {
        return;
    }
    name_actor(a, name);
    hold = sp__worker_hold(t, seen | TOLD, a->user_code);
    sp__worker_rob(t);
    sp__drop(owner);
    sp__logf(SP_LOG_WARN, "watchdog", "%s has not returned for %" PRId64 " ms%s", name,
             (now - t->runs_since) / SP__MS,
             hold == SP__HOLD_NOBODY ? "; no other worker may be started" : "");
}

/// True: some thread runs something.
static bool dog_look(int64_t now)
{
    bool any = false;

    for (struct sp__thread *t = sp__threads(); t != NULL; t = t->next) {
        uintptr_t seen = atomic_load_explicit(&t->runs, memory_order_relaxed);

        any = any || seen != 0;
        if (seen != 0 && (seen & MARKED) == 0) {
            if (atomic_compare_exchange_strong_explicit(
                    &t->runs, &seen, seen | MARKED, memory_order_relaxed, memory_order_relaxed)) {
                t->runs_since = now;
            }
        } else if ((seen & MARKS) == MARKED && now - t->runs_since >= dog.time) {
            dog_bark(t, seen, now);
        } else if ((seen & TOLD) != 0) {
            sp__worker_rob(t); // It may have posted since.
        }
    }
    return any;
}

/// Under the lock: whether it shall end.
static bool dog_through(bool busy)
{
    bool stirred = atomic_load_explicit(&sp__sched.stirred, memory_order_relaxed);

    sp__workers_unhold();
    if (!sp__sched.stop && (busy || stirred || dog.stays || !sp__workers_asleep())) {
        atomic_store_explicit(&sp__sched.stirred, false, memory_order_relaxed);
        return false;
    }
    dog.there = false;
    dog.gone = true;
    return true;
}

static void dog_main(void *arg)
{
    int64_t nap = dog.time / LOOKS;
    bool through = false;

    (void)arg;
    nap = nap < LOOK_MIN ? LOOK_MIN : nap > LOOK_MAX ? LOOK_MAX : nap;
    while (!through) {
        bool busy;

        (void)sp__platform->park(&dog.parker, sp__now() + nap);
        busy = dog_look(sp__now());
        (void)pthread_mutex_lock(&sp__sched.lock);
        through = dog_through(busy);
        (void)pthread_mutex_unlock(&sp__sched.lock);
    }
}

/* ------------------------------------------------------------------ Coming and going */

void sp__watchdog_begin(int64_t time_ms)
{
    dog.time = time_ms * SP__MS;
    dog.parker = (struct sp__parker){0};
    sp__sched.stuck = 0;
    atomic_store_explicit(&sp__sched.stirred, time_ms == 0, memory_order_relaxed);
}

void sp__watchdog_reap(void)
{
    if (dog.gone) {
        sp__platform->thread_join(dog.thread);
        dog.thread = NULL;
        dog.gone = false;
    }
}

void sp__watchdog_stay(void)
{
    dog.stays = true;
    sp__watchdog_reap();
}

int sp__watchdog_wake_locked(void)
{
    struct sp__thread_attr attr = {"sp-watchdog", (size_t)sp__config()->thread_stack,
                                   sp__config()->affinity};
    int rc = SP_OK;

    if (sp__sched.stop || atomic_load_explicit(&sp__sched.stirred, memory_order_relaxed)) {
        return SP_OK;
    }
    atomic_store_explicit(&sp__sched.stirred, true, memory_order_relaxed);
    if (!dog.there) {
        sp__watchdog_reap();
        rc = sp__platform->thread_start(&dog.thread, &attr, dog_main, NULL);
        dog.there = rc == SP_OK;
    }
    if (rc < 0) {
        dog.thread = NULL; // Nobody is told any more: `stirred` stays.
    }
    return rc;
}

void sp__watchdog_wake(void)
{
    int rc;

    (void)pthread_mutex_lock(&sp__sched.lock);
    rc = sp__watchdog_wake_locked();
    (void)pthread_mutex_unlock(&sp__sched.lock);
    if (rc < 0) {
        sp__logf(SP_LOG_WARN, "watchdog", "cannot start its thread: %s", sp_strerror(rc));
    }
}

void sp__watchdog_end(void)
{
    void *thread;

    (void)pthread_mutex_lock(&sp__sched.lock);
    thread = dog.thread;
    (void)pthread_mutex_unlock(&sp__sched.lock);
    if (thread == NULL) {
        return;
    }
    sp__platform->unpark(&dog.parker);
    sp__platform->thread_join(thread);
    dog.thread = NULL;
    dog.there = false;
    dog.gone = false;
}
