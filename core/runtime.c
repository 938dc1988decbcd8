/* SPDX-License-Identifier: MIT */
/// The runtime: implicit start, settings, the end, and the fork rule. [any]
#include "runtime.h"

#include "app.h"
#include "config.h"
#include "error.h"
#include "fence.h"
#include "log.h"
#include "mailbox.h"
#include "op.h"
#include "platform.h"
#include "poll.h"
#include "pool.h"
#include "registry_list.h"
#include "sched.h"
#include "socket.h"
#include "thread.h"

#include <sp/sp.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS_AUTO_MAX 4
#define EXIT_GRACE                                                                                 \
    100 // ms beyond the longest linger that a process which ends waits for its sockets

#ifndef SP_VERSION
#define SP_VERSION "0.1.0"
#endif

static struct {
    pthread_mutex_t lock;
    atomic_bool started;
    atomic_uint users; ///< calls between sp__runtime_enter and _leave
    bool atfork;
    struct sp_config config;
} runtime = {.lock = PTHREAD_MUTEX_INITIALIZER};

const struct sp_config *sp__config(void)
{
    return &runtime.config;
}

atomic_bool sp__in_child;

bool sp__may_block(void)
{
    struct sp__thread *t = sp__self();

    if (t != NULL && !t->running && !t->in_user) {
        return true;
    }
    (void)sp__fail(SP_ESTATE, "a call that may wait is not allowed in a callback of the library");
    return false;
}

static void runtime_in_child(void)
{
    atomic_store_explicit(&sp__in_child, true, memory_order_relaxed);
}

/// Shuts every socket: they linger in parallel. Those that were not shut before, held, linked by
/// next_closing; `*linger` becomes the longest of their times, ms (-1: for ever).
static struct sp__object *runtime_shut_all(int64_t *linger)
{
    struct sp__object *list = NULL;
    struct sp__object *obj;

    for (uint32_t at = 0; (obj = sp__handle_next(SP__KIND_SOCKET, &at)) != NULL;) {
        struct sp__sock *s = SP__CONTAINER(obj, struct sp__sock, obj);
        int64_t own = sp__option(&s->opt.linger);

        if (sp__sock_shut(s, own)) {
            *linger = *linger < 0 || own < 0 ? -1 : own > *linger ? own : *linger;
            s->next_closing = list;
            list = obj;
        } else {
            sp__drop(obj);
        }
    }
    return list;
}

static void runtime_wait_all(struct sp__object *list, int64_t deadline)
{
    while (list != NULL) {
        struct sp__sock *s = SP__CONTAINER(list, struct sp__sock, obj);

        list = s->next_closing;
        sp__sock_wait(s, deadline);
        sp__drop(&s->obj);
    }
}

/// What was sent before a process ends has its time to linger. Nothing else is waited for: a
/// callback that does not return must not keep the process.
static void runtime_at_exit(void)
{
    int64_t linger = 0;
    struct sp__object *list;

    // Acquire: as in sp__runtime_start.
    if (sp__forked() || sp__platform->simulated || !sp__may_block() ||
        !atomic_load_explicit(&runtime.started, memory_order_acquire)) {
        return;
    }
    list = runtime_shut_all(&linger);
    runtime_wait_all(list, linger < 0 ? SP__NEVER : sp__now() + (linger + EXIT_GRACE) * SP__MS);
    sp__workers_reap(); // No thread that has ended is left, as tools ask for.
}

/// CPUs that this process may use.
static int runtime_cpus(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

static int runtime_start_with(const sp_config *cfg)
{
    int64_t threads;
    int rc;

    if (sp__self() == NULL) {
        return sp__fail_code(SP_ENOMEM, "start");
    }
    if (cfg != NULL) {
        rc = sp__config_copy(&runtime.config, cfg);
        if (rc < 0) {
            return sp__fail_code(rc, "start");
        }
    } else {
        sp__config_defaults(&runtime.config);
    }
    if (!runtime.atfork) {
        (void)pthread_atfork(NULL, NULL, runtime_in_child);
        (void)atexit(runtime_at_exit);
        runtime.atfork = true;
    }
    threads = runtime.config.threads;
    if (threads < 0) {
        threads = runtime_cpus() < THREADS_AUTO_MAX ? runtime_cpus() : THREADS_AUTO_MAX;
    }
    if (sp__platform->simulated) {
        threads = 0;
    }
    if (sp__platform->seed != NULL) {
        sp__platform->seed((uint64_t)runtime.config.seed);
    }
    if (cfg != NULL) {
        sp__log_level((sp_log_level)runtime.config.log_level);
    }
    sp__fences_begin();
    sp__pipe_ids_begin();
    sp__self()->turn = 0;
    sp__pool_limit((uint64_t)runtime.config.memory_max);
    rc = sp__sched_start((int)threads);
    if (rc < 0) {
        sp__config_clear(&runtime.config);
        return sp__fail_code(rc, "start: poller");
    }
    // Release: pairs with the acquire in sp__runtime_start; the settings are there.
    atomic_store_explicit(&runtime.started, true, memory_order_release);
    return SP_OK;
}

int sp__runtime_start(void)
{
    struct sp__thread *t = sp__self();
    int rc = SP_OK;

    if (sp__forked()) {
        return sp__fail(SP_ESTATE, "called in a child after fork");
    }
    // Acquire: pairs with the release above.
    if (atomic_load_explicit(&runtime.started, memory_order_acquire)) {
        return SP_OK;
    }
    if (t != NULL && t->running) {
        // There are callbacks only while the runtime is up, or goes down.
        return sp__fail(SP_ECLOSED, "the library is being shut down");
    }
    (void)pthread_mutex_lock(&runtime.lock);
    if (!atomic_load_explicit(&runtime.started, memory_order_relaxed)) {
        rc = runtime_start_with(NULL);
    }
    (void)pthread_mutex_unlock(&runtime.lock);
    return rc;
}

int sp__runtime_enter(void)
{
    for (;;) {
        int rc = sp__runtime_start();

        if (rc < 0) {
            return rc;
        }
        // seq_cst, against sp_fini: either it sees this user, or we see that it has begun.
        atomic_fetch_add_explicit(&runtime.users, 1, memory_order_seq_cst);
        if (atomic_load_explicit(&runtime.started, memory_order_seq_cst)) {
            return SP_OK;
        }
        sp__runtime_leave();
    }
}

void sp__runtime_leave(void)
{
    // Release: what the call made is there before sp_fini goes on.
    atomic_fetch_sub_explicit(&runtime.users, 1, memory_order_release);
}

bool sp__runtime_ends(void)
{
    // Relaxed: who waits is woken again and again until it leaves.
    return !atomic_load_explicit(&runtime.started, memory_order_relaxed);
}

int sp_init(const sp_config *cfg)
{
    int rc;

    if (sp__forked()) {
        return sp__fail(SP_ESTATE, "called in a child after fork");
    }
    (void)pthread_mutex_lock(&runtime.lock);
    rc = atomic_load_explicit(&runtime.started, memory_order_relaxed)
             ? sp__fail(SP_ESTATE, "init: the library is running already")
             : runtime_start_with(cfg);
    (void)pthread_mutex_unlock(&runtime.lock);
    return rc;
}

/// … and all else that keeps calls waiting.
static void runtime_close_all(void)
{
    int64_t linger = 0;

    sp__scopes_close();
    sp__ops_close();
    sp__apps_close();
    sp__mailboxes_close();
    runtime_wait_all(runtime_shut_all(&linger), SP__NEVER);
}

void sp_fini(void)
{
    // Acquire: as in sp__runtime_start.
    if (sp__forked() || !atomic_load_explicit(&runtime.started, memory_order_acquire)) {
        return;
    }
    if (!sp__may_block() || sp__app_self() != NULL) {
        sp__log(SP_LOG_ERROR, "sp_fini", "called in a callback: ignored");
        return;
    }
    (void)pthread_mutex_lock(&runtime.lock);
    if (atomic_load_explicit(&runtime.started, memory_order_relaxed)) {
        // From here on a call that opens something waits for the lock, and starts anew. seq_cst,
        // against sp__runtime_enter: it sees this, or we see its user.
        atomic_store_explicit(&runtime.started, false, memory_order_seq_cst);
        runtime_close_all();
        // Calls that other threads have under way hold what they use; wait until they left
        // (acquire, pairs with sp__runtime_leave).
        for (sp__reclaim(); sp__objects() > 0 || sp__ops_under_way() ||
                            atomic_load_explicit(&runtime.users, memory_order_seq_cst) > 0;
             sp__reclaim()) {
            (void)sp__wait(sp__now() + SP__MS, 0, false);
            runtime_close_all();
            sp__sched_rouse(); // Threads in sp_run_once shall leave.
            sp__polls_rouse();
        }
        sp__app_threads_join();
        sp__sched_stop();
        sp__handles_reset();
        sp__pool_flush(sp__self());
        sp__pool_drain();
        sp__registry_lock(); // A look-up that is under way reads the settings.
        sp__config_clear(&runtime.config);
        sp__registry_unlock();
    }
    (void)pthread_mutex_unlock(&runtime.lock);
}

static int runtime_drive(int64_t deadline)
{
    if (sp__config()->threads != 0 && !sp__platform->simulated) {
        return sp__fail(SP_ESTATE, "run_once: the library has threads of its own (set \"threads\" "
                                   "to 0)");
    }
    return sp__may_block() ? sp__drive(deadline) : SP_ESTATE;
}

int sp_run_once(int timeout_ms)
{
    int64_t deadline = timeout_ms < 0    ? SP__NEVER
                       : timeout_ms == 0 ? 0
                                         : sp__now() + timeout_ms * SP__MS;
    int rc = sp__runtime_enter();

    if (rc < 0) {
        return rc;
    }
    rc = runtime_drive(deadline);
    sp__runtime_leave();
    return rc;
}

const char *sp_version(void)
{
    return SP_VERSION;
}
