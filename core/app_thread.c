/* SPDX-License-Identifier: MIT */
/// Threads of actors of applications that have one of their own (SP_ACTOR_DEDICATED). To the rest
/// of the library such a thread is one of the application's, so that it may block.
///
/// Who takes the actor over sets `due`, then looks for the thread's record; the thread publishes
/// its record, then looks at `due` (seq_cst): one of the two sees the other. When the actor has
/// ended its thread does too, and what may still be posted is dropped on workers.
#include "app.h"
#include "config.h"
#include "cork.h"
#include "platform.h"
#include "sched.h"
#include "thread.h"

struct sp__app_thread {
    void *thread;
    struct sp__app *app; ///< held by the thread
    _Atomic(struct sp__thread *) record;
    atomic_bool due;
    struct sp__app_thread *next; ///< of those that end by themselves
};

static struct {
    pthread_mutex_t lock;
    struct sp__app_thread *head; ///< they only return any more
} ended = {.lock = PTHREAD_MUTEX_INITIALIZER};

void sp__app_thread_schedule(struct sp__actor *a)
{
    struct sp__app_thread *own = SP__CONTAINER(a, struct sp__app, run)->own;
    struct sp__thread *record;

    // seq_cst, both: see above. Release: what the thread is to run; pairs with the exchange there.
    atomic_store_explicit(&own->due, true, memory_order_seq_cst);
    record = atomic_load_explicit(&own->record, memory_order_seq_cst);
    if (record != NULL) {
        sp__thread_wake(record);
    }
}

static void app_thread_main(void *arg)
{
    struct sp__app_thread *own = arg;
    struct sp__app *app = own->app;
    struct sp__thread *t = sp__self();

    // seq_cst: see above.
    atomic_store_explicit(&own->record, t, memory_order_seq_cst);
    while (app->run.dedicated) {
        (void)sp__uncork();
        // Acquire: pairs with the store in sp__app_thread_schedule.
        while (!atomic_exchange_explicit(&own->due, false, memory_order_seq_cst)) {
            (void)sp__platform->park(&t->parker, SP__NEVER);
        }
        while (sp__actor_run(NULL, &app->run)) {
            sp__run_here(true);
        }
        sp__run_here(true);
    }
    (void)pthread_mutex_lock(&ended.lock);
    own->next = ended.head;
    ended.head = own;
    (void)pthread_mutex_unlock(&ended.lock);
    sp__drop(&app->obj);
}

void sp__app_threads_join(void)
{
    struct sp__app_thread *list;

    (void)pthread_mutex_lock(&ended.lock);
    list = ended.head;
    ended.head = NULL;
    (void)pthread_mutex_unlock(&ended.lock);
    while (list != NULL) {
        struct sp__app_thread *own = list;

        list = own->next;
        sp__platform->thread_join(own->thread);
        sp__free(own);
    }
}

int sp__app_thread_start(struct sp__app *app)
{
    struct sp__thread_attr attr = {"sp-actor", (size_t)sp__config()->thread_stack,
                                   sp__config()->affinity};
    struct sp__app_thread *own = sp__zalloc(sizeof(*own));
    int rc;

    sp__app_threads_join();
    if (own == NULL) {
        return SP_ENOMEM;
    }
    own->app = app;
    app->own = own;
    app->run.dedicated = true;
    sp__hold(&app->obj);
    rc = sp__platform->thread_start(&own->thread, &attr, app_thread_main, own);
    if (rc < 0) {
        sp__drop(&app->obj);
        sp__free(own);
    }
    return rc;
}
