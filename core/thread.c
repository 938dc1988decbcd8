/* SPDX-License-Identifier: MIT */
/// Per-thread records. [any]
#include "thread.h"

#include "cork.h"
#include "spin.h"
#include "trace.h"

#include <sp/types.h>

#include <poll.h>
#include <pthread.h>

#define SCRATCH_SIZE 65536

_Thread_local struct sp__thread *sp__thread_current;
static _Atomic(struct sp__thread *) thread_list;
static pthread_key_t thread_key;
static pthread_once_t thread_once = PTHREAD_ONCE_INIT;

/// At the end of a thread: what it cached goes to everybody, its record to the next thread.
static void thread_gone(void *arg)
{
    struct sp__thread *t = arg;

    (void)sp__uncork();
    sp__pool_flush(t);
    sp__free(t->scratch);
    t->scratch = NULL;
    sp__thread_current = NULL;
    // Pairs with the exchange in thread_claim: the next owner sees a clean record.
    atomic_store_explicit(&t->taken, false, memory_order_release);
}

static void thread_key_make(void)
{
    (void)pthread_key_create(&thread_key, thread_gone);
}

/// Takes over a record that an ended thread left.
static struct sp__thread *thread_claim(void)
{
    for (struct sp__thread *t = sp__threads(); t != NULL; t = t->next) {
        // Acquire: pairs with the release in thread_gone; the record is clean.
        if (!atomic_load_explicit(&t->taken, memory_order_relaxed) &&
            !atomic_exchange_explicit(&t->taken, true, memory_order_acquire)) {
            return t;
        }
    }
    return NULL;
}

static struct sp__thread *thread_new(void)
{
    struct sp__thread *t = sp__zalloc(sizeof(*t));

    if (t == NULL) {
        return NULL;
    }
    atomic_store_explicit(&t->taken, true, memory_order_relaxed);
    t->next = atomic_load_explicit(&thread_list, memory_order_relaxed);
    // Release: who finds the record in the list sees it whole (pairs with the acquire in
    // sp__threads).
    while (!atomic_compare_exchange_weak_explicit(&thread_list, &t->next, t, memory_order_release,
                                                  memory_order_relaxed)) {
    }
    return t;
}

struct sp__thread *sp__threads(void)
{
    return atomic_load_explicit(&thread_list, memory_order_acquire);
}

struct sp__thread *sp__thread_first_call(void)
{
    struct sp__thread *t;

    (void)pthread_once(&thread_once, thread_key_make);
    t = thread_claim();
    if (t == NULL) {
        t = thread_new();
    }
    if (t == NULL) {
        return NULL;
    }
    (void)pthread_setspecific(thread_key, t);
    sp__thread_current = t;
    return t;
}

void sp__thread_wake(struct sp__thread *t)
{
    int polling;

    sp__spin_posted(t);
    sp__platform->unpark(&t->parker);
    SP__TRACE(C13, t, 0);
    // seq_cst: pairs with the store of `polling` before the token is looked at (poller_sleep,
    // sp__thread_sleep): one of the two sees the other.
    polling = atomic_load_explicit(&t->polling, memory_order_seq_cst);
    if (polling == SP__POLLING) {
        SP__TRACE(C14, t, 0);
        SP__TRACE(B4, NULL, 0);
        sp__platform->poller_wake();
    } else if (polling == SP__POLLING_FDS) {
        sp__platform->flag_set(t->wake_flag - 1, true);
    }
}

int sp__thread_flag(struct sp__thread *t)
{
    int fd = t->wake_flag > 0 ? t->wake_flag - 1 : sp__platform->flag_open();

    t->wake_flag = fd < 0 ? 0 : fd + 1;
    return fd < 0 ? fd : SP_OK;
}

bool sp__thread_sleep(struct sp__thread *t, int64_t deadline)
{
    bool woken;

    if (t->fds == NULL) {
        return sp__platform->park(&t->parker, deadline);
    }
    // seq_cst, see sp__thread_wake: whoever wakes this thread sees where it sleeps, or it sees the
    // token here.
    atomic_store_explicit(&t->polling, SP__POLLING_FDS, memory_order_seq_cst);
    woken = sp__platform->park(&t->parker, 0);
    if (!woken) {
        sp__platform->fds_wait(t->fds, t->wake_flag - 1, deadline);
    }
    atomic_store_explicit(&t->polling, SP__POLLING_NOT, memory_order_relaxed);
    if (!woken && t->fds->fd[0].revents != 0) {
        sp__platform->flag_set(t->wake_flag - 1, false);
    }
    return sp__platform->park(&t->parker, 0) || woken;
}

void *sp__scratch(void)
{
    struct sp__thread *t = sp__self();

    if (t == NULL) {
        return NULL;
    }
    if (t->scratch == NULL) {
        t->scratch = sp__platform->alloc(SCRATCH_SIZE, 64);
    }
    return t->scratch;
}
