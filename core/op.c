/* SPDX-License-Identifier: MIT */
/// Asynchronous operations. See op.h for their states and locks. [any]
#include "op.h"

#include "device.h"
#include "error.h"
#include "platform.h"
#include "runtime.h"
#include "scope.h"
#include "socket.h"

#include <sp/sp.h>

static struct {
    pthread_mutex_t lock;
    struct sp_op *head; ///< that sleep, linked by sleep_next and _prev
} sleepers = {.lock = PTHREAD_MUTEX_INITIALIZER};

#define OP_DEFAULT (-2) // deadline: the time-out of what it is started on

/// Keeps the list of those that sleep, under op->lock.
static void op_sleeps(struct sp_op *op, bool sleeps)
{
    if (op->kind != SP__OP_SLEEP || op->sleeping == sleeps) {
        return;
    }
    (void)pthread_mutex_lock(&sleepers.lock);
    op->sleeping = sleeps;
    if (sleeps) {
        op->sleep_prev = NULL;
        op->sleep_next = sleepers.head;
        sleepers.head = op;
    } else {
        *(op->sleep_prev != NULL ? &op->sleep_prev->sleep_next : &sleepers.head) = op->sleep_next;
    }
    if (op->sleep_next != NULL) {
        op->sleep_next->sleep_prev = sleeps ? op : op->sleep_prev;
    }
    (void)pthread_mutex_unlock(&sleepers.lock);
}

/* ------------------------------------------------------------------ The end */

/// One more or one less is under way. Each thread counts its own, so that it costs nothing.
static void op_count(bool begins)
{
    struct sp__thread *t = sp__self();
    _Atomic uint64_t *n = begins ? &t->ops_begun : &t->ops_over;

    // Release: what was done before; pairs with the acquire in sp__ops_under_way.
    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
                          memory_order_release);
}

bool sp__ops_under_way(void)
{
    uint64_t over = 0;
    uint64_t begun = 0;

    // Acquire, the ends first: who sees an end sees its beginning. So the sums are equal only if
    // all that had begun were over.
    for (struct sp__thread *t = sp__threads(); t != NULL; t = t->next) {
        over += atomic_load_explicit(&t->ops_over, memory_order_acquire);
    }
    for (struct sp__thread *t = sp__threads(); t != NULL; t = t->next) {
        begun += atomic_load_explicit(&t->ops_begun, memory_order_acquire);
    }
    return begun != over;
}

/// Wakes who waits in sp_op_wait, as far as it is at rest.
static void op_wake_waiters(struct sp_op *op)
{
    struct sp__wake wake;

    do {
        sp__lock(&op->lock);
        wake = op->state == SP__OP_REST ? sp__waiter_pop(&op->waiters)
                                        : (struct sp__wake){NULL, NULL};
        sp__unlock(&op->lock);
        sp__wake(wake);
    } while (sp__wakes(wake));
}

/// Whether its callback has begun, and has not started it again.
static bool op_runs(struct sp_op *op)
{
    return atomic_load_explicit(&op->runner, memory_order_relaxed) != NULL;
}

/// Whether this is inside its callback, which has not started it again.
static bool op_runs_here(struct sp_op *op)
{
    return atomic_load_explicit(&op->runner, memory_order_relaxed) == sp__self();
}

/// Whether this is inside its callback, even if that has started it again.
static bool op_is_inside(struct sp_op *op)
{
    struct sp__thread *t = sp__thread_current;

    // Relaxed: only the thread itself finds itself there.
    return t != NULL && atomic_load_explicit(&op->inside, memory_order_relaxed) == t;
}

/// It is at rest, and gives up what it held meanwhile.
static void op_rests(struct sp_op *op, struct sp__object *target, bool waited)
{
    op_count(false);
    if (waited) {
        op_wake_waiters(op);
    }
    if (target != NULL) {
        sp__drop(target);
    }
    sp__drop(&op->obj);
}

/// It is through. Whoever has it in hand, with no lock held.
static void op_over(struct sp__waiter *w, int rc, sp_msg *m)
{
    struct sp_op *op = SP__CONTAINER(w, struct sp_op, waiter);
    struct sp__object *target = NULL;
    struct sp__scope *scope;
    bool waited;

    sp__lock(&op->lock);
    op->state = op->done != NULL ? SP__OP_DONE : SP__OP_REST;
    // Release: pairs with the acquire in sp_op_result.
    atomic_store_explicit(&op->result, rc == SP_ECANCELED && op->why != 0 ? op->why : rc,
                          memory_order_release);
    if (op->kind == SP__OP_RECV || rc == SP_OK) {
        op->msg = m; // A send that failed keeps what it was to send.
    }
    if (op->timed) {
        op->timed = false;
        sp__timer_cancel(&op->timer);
    }
    scope = sp__scope_op_leaves(op);
    op_sleeps(op, false);
    waited = op->waiters.head != NULL;
    if (op->done == NULL) {
        target = op->target;
        op->target = NULL;
    }
    sp__unlock(&op->lock);
    sp__scope_drop(scope);
    if (op->done == NULL) {
        op_rests(op, target, waited);
    } else if (op_is_inside(op)) {
        op->again = true;
    } else {
        sp__post_one(&op->user, &op->over_port, (sp_msg *)&op->over);
    }
}

/// Runs the callback. No lock: until it is started again, by the callback, or is at rest, nobody
/// else changes it.
static void op_call(struct sp_op *op)
{
    struct sp__object *target;
    bool waited;

    op->again = false;
    // Relaxed: only the thread itself finds itself there.
    atomic_store_explicit(&op->runner, sp__self(), memory_order_relaxed);
    op->done(op, op->arg);
    if (!op_runs_here(op)) {
        op_count(false);
        return;
    }
    sp__lock(&op->lock);
    atomic_store_explicit(&op->runner, NULL, memory_order_relaxed);
    op->state = SP__OP_REST;
    target = op->target;
    op->target = NULL;
    waited = op->waiters.head != NULL;
    sp__unlock(&op->lock);
    op_rests(op, target, waited);
}

/// On a worker. What the callback starts and is over at once, as the send behind a receive, needs
/// no way through the mailbox; once, then others have their turn.
static void op_on_over(struct sp__port *port, sp_batch *nodes)
{
    struct sp_op *op = SP__CONTAINER(port, struct sp_op, over_port);
    struct sp__thread *t = sp__self(); // Not NULL: it runs an actor.

    (void)nodes; // op->over, alone.
    atomic_store_explicit(&op->inside, t, memory_order_relaxed);
    op_call(op);
    if (op->again) {
        sp__runs(t, &op->user); // Each call has its time.
        op_call(op);
    }
    atomic_store_explicit(&op->inside, NULL, memory_order_relaxed);
    if (op->again) {
        sp__post_one(&op->user, &op->over_port, (sp_msg *)&op->over);
    }
}

/* ------------------------------------------------------------------ Cancelling */

/// Under op->lock, pending. True: it is the caller's to end, after the lock; `next` is to be woken.
static bool op_leave(struct sp_op *op, int why, struct sp__wake *next)
{
    bool mine = false;

    op->why = op->why != 0 ? op->why : why;
    switch (op->kind) {
    case SP__OP_SEND:
        return sp__ctx_send_leave(op->ctx, &op->waiter);
    case SP__OP_RECV:
        return sp__ctx_recv_leave(op->ctx, &op->waiter, next);
    case SP__OP_SLEEP:
        mine = op->asleep;
        op->asleep = false;
        return mine;
    case SP__OP_DIAL:
        sp__ep_abort(op->ep); // Its end comes from there.
        break;
    case SP__OP_DEVICE:
        sp__device_stop(op->device); // Likewise.
        break;
    }
    return false;
}

/// Ends what is pending, of whichever start (0) or of this one only, because of `why`. False: there
/// is nothing.
static bool op_cancel(struct sp_op *op, uint64_t start, int why)
{
    struct sp__wake next = {NULL, NULL};
    bool pending;
    bool mine;

    sp__lock(&op->lock);
    pending = op->state == SP__OP_PENDING && (start == 0 || op->start == start);
    mine = pending && op_leave(op, why, &next);
    sp__unlock(&op->lock);
    sp__wake(next);
    if (mine) {
        op_over(&op->waiter, SP_ECANCELED, NULL);
    }
    return pending;
}

void sp__op_cancel_start(struct sp_op *op, uint64_t start, int why)
{
    (void)op_cancel(op, start, why);
}

/// Out of time. The timer may have been meant for an earlier start.
static void op_on_time(struct sp__timer *t)
{
    struct sp_op *op = SP__CONTAINER(t, struct sp_op, timer);
    uint64_t start = 0;
    bool slept = false;

    sp__lock(&op->lock);
    if (op->state == SP__OP_PENDING && op->timed && sp__now() >= op->due) {
        start = op->start;
        slept = op->asleep;
        op->asleep = false;
    }
    sp__unlock(&op->lock);
    if (slept) {
        op_over(&op->waiter, op->cut ? SP_ETIMEDOUT : SP_OK, NULL);
    } else if (start != 0) {
        (void)op_cancel(op, start, SP_ETIMEDOUT);
    }
}

void sp__ops_close(void)
{
    struct sp_op *op;

    do {
        (void)pthread_mutex_lock(&sleepers.lock);
        op = sleepers.head;
        if (op != NULL) {
            sp__hold(&op->obj);
        }
        (void)pthread_mutex_unlock(&sleepers.lock);
        if (op != NULL) {
            (void)op_cancel(op, 0, SP_ECLOSED);
            sp__drop(&op->obj);
        }
    } while (op != NULL);
}

/* ------------------------------------------------------------------ Starting */

/// Its turn, after it has waited.
static struct sp__wake op_ready(struct sp__waiter *w)
{
    struct sp_op *op = SP__CONTAINER(w, struct sp_op, waiter);
    struct sp__wake nobody = {NULL, NULL};

    switch (op->kind) {
    case SP__OP_SEND:
        sp__ctx_send_op(op->ctx, w, op->msg, true);
        break;
    case SP__OP_RECV:
        return sp__ctx_recv_op(op->ctx, w, true);
    case SP__OP_DIAL:
        op_over(w, sp__ep_dial_result(op->ep), NULL);
        break;
    case SP__OP_DEVICE:
    case SP__OP_SLEEP:
        break; // In no list.
    }
    return nobody;
}

/// What a start is about.
struct op_start {
    enum sp__op_kind kind;
    struct sp__object *target; ///< NULL: a sleep
    struct sp__ctx *ctx;
    struct sp__ep *ep;
    struct sp__device *device;
    sp_msg *msg;
    int64_t timeout; ///< ms, if the user set none
};

/// While its callback runs it is the callback's to start.
static int op_startable(struct sp_op *op)
{
    bool rests = op->state == SP__OP_REST || (op->state == SP__OP_DONE && op_runs_here(op));

    if (op->stopped) {
        return sp__fail(SP_ECANCELED, "operation: it was stopped");
    }
    if (op->scope_lost) {
        return sp__fail(SP_ECLOSED, "operation: its scope was closed when it was given");
    }
    return rests ? SP_OK : sp__fail(SP_ESTATE, "operation: it is under way already");
}

/// Makes it pending; then it is the caller's to be tried. Errors with detail.
static int op_begin(struct sp_op *op, const struct op_start *s)
{
    struct sp__object *before;
    int64_t timeout;
    sp_msg *old;
    int rc;

    sp__lock(&op->lock);
    rc = op_startable(op);
    if (rc == SP_OK) {
        op->start++; // Before it can be found.
        rc = sp__scope_op_joins(op);
    }
    if (rc < 0) {
        sp__unlock(&op->lock);
        return rc;
    }
    timeout = s->kind == SP__OP_SLEEP || op->timeout == OP_DEFAULT ? s->timeout : op->timeout;
    old = op->msg;
    if (op->state == SP__OP_REST) {
        sp__hold(&op->obj);
    }
    op->state = SP__OP_PENDING;
    atomic_store_explicit(&op->runner, NULL, memory_order_relaxed);
    op->kind = s->kind;
    op->asleep = s->kind == SP__OP_SLEEP;
    atomic_store_explicit(&op->result, SP_EAGAIN, memory_order_relaxed);
    op->why = 0;
    op->msg = s->msg;
    op->ctx = s->ctx;
    op->ep = s->ep;
    op->device = s->device;
    before = op->target; // Started by its callback, most often on the same.
    op->target = s->target;
    op->waiter.ctx = s->ctx;
    op->waiter.left = false;
    op_count(true); // Until it is at rest again.
    op_sleeps(op, op->asleep);
    if (before == s->target) {
        before = NULL;
    } else if (op->target != NULL) {
        sp__hold(op->target);
    }
    op->cut = false;
    op->due = timeout >= 0 ? sp__now() + timeout * SP__MS : SP__NEVER;
    if (op->joined != NULL && op->joined->deadline < op->due) {
        op->due = op->joined->deadline;
        op->cut = true;
    }
    if (op->due != SP__NEVER) {
        op->timed = true;
        sp__timer_arm(&op->timer, op->due);
    }
    sp__unlock(&op->lock);
    sp__msg_release(old); // Received and not taken.
    if (before != NULL) {
        sp__drop(before);
    }
    return SP_OK;
}

int sp_op_send(sp_op *op, uint64_t id, sp_msg *m)
{
    struct op_start start = {.kind = SP__OP_SEND, .msg = m};
    int rc;

    if (op == NULL || m == NULL) {
        return sp__fail(SP_EINVAL, "operation: no operation or no message to send");
    }
    rc = sp__ctx_enter(id, &start.ctx);
    if (rc < 0) {
        return rc;
    }
    start.target = start.ctx->owner;
    start.timeout = sp__option(&start.ctx->opt.send_timeout);
    rc = op_begin(op, &start);
    if (rc == SP_OK) {
        sp__ctx_send_op(start.ctx, &op->waiter, m, false);
        sp__run_here(sp__option(&start.ctx->sock->opt.in_place) != 0);
    }
    sp__leave();
    return rc;
}

int sp_op_recv(sp_op *op, uint64_t id)
{
    struct op_start start = {.kind = SP__OP_RECV};
    int rc;

    if (op == NULL) {
        return sp__fail(SP_EINVAL, "operation: none");
    }
    rc = sp__ctx_enter(id, &start.ctx);
    if (rc < 0) {
        return rc;
    }
    start.target = start.ctx->owner;
    start.timeout = sp__option(&start.ctx->opt.recv_timeout);
    rc = op_begin(op, &start);
    if (rc == SP_OK) {
        sp__wake(sp__ctx_recv_op(start.ctx, &op->waiter, false));
        sp__run_here(sp__option(&start.ctx->sock->opt.in_place) != 0);
    }
    sp__leave();
    return rc;
}

int sp_op_dial(sp_op *op, sp_dialer d)
{
    struct op_start start = {.kind = SP__OP_DIAL, .timeout = -1};
    struct sp__object *obj;
    int rc;

    if (op == NULL) {
        return sp__fail(SP_EINVAL, "operation: none");
    }
    rc = sp__enter(d.id, SP__KIND_DIALER, &obj);
    if (rc < 0) {
        return rc;
    }
    start.ep = SP__CONTAINER(obj, struct sp__ep, obj);
    start.target = obj;
    rc = op_begin(op, &start);
    if (rc == SP_OK) {
        rc = sp__ep_dial_op(start.ep, &op->waiter);
        if (rc < 0) {
            op_over(&op->waiter, rc, NULL);
            rc = SP_OK;
        }
        sp__run_here(sp__option(&start.ep->sock->opt.in_place) != 0);
    }
    sp__leave();
    return rc;
}

int sp_op_device(sp_op *op, sp_socket a, sp_socket b)
{
    struct op_start start = {.kind = SP__OP_DEVICE, .timeout = -1};
    int rc;

    if (op == NULL) {
        return sp__fail(SP_EINVAL, "operation: none");
    }
    sp__lock(&op->lock);
    rc = op_startable(op); // Before those who receive from the sockets are told to go.
    sp__unlock(&op->lock);
    if (rc < 0) {
        return rc;
    }
    rc = sp__device_new(&start.device, a, b, &op->waiter);
    if (rc < 0) {
        return rc;
    }
    start.target = sp__device_object(start.device);
    rc = op_begin(op, &start);
    if (rc == SP_OK) {
        sp__device_start(start.device);
    } else {
        sp__device_abandon(start.device);
    }
    sp__drop(start.target);
    sp__reclaim();
    sp__run_here(true);
    return rc;
}

int sp_op_sleep(sp_op *op, int ms)
{
    struct op_start start = {.kind = SP__OP_SLEEP, .timeout = ms};
    int rc;

    if (op == NULL || ms < 0) {
        return sp__fail(SP_EINVAL, "operation: none, or a negative time to sleep");
    }
    rc = sp__runtime_enter();
    if (rc == SP_OK) {
        sp__hold(&op->obj); // It may be over, and freed by its callback, before its lock is let go.
        rc = op_begin(op, &start);
        sp__drop(&op->obj);
        sp__runtime_leave();
    }
    return rc;
}

/* ------------------------------------------------------------------ The rest of the API */

static void op_destroy(struct sp__object *obj)
{
    struct sp_op *op = SP__CONTAINER(obj, struct sp_op, obj);

    sp__msg_release(op->msg);
    sp__scope_drop(op->scope);
    sp__timer_unreserve();
    sp__lock_fini(&op->lock);
    sp__free(op);
}

static struct sp_op *op_alloc(void)
{
    struct sp_op *op = sp__zalloc(sizeof(*op));

    if (op == NULL || sp__lock_init(&op->lock) < 0) {
        sp__free(op);
        return NULL;
    }
    if (sp__timer_reserve() < 0) {
        sp__lock_fini(&op->lock);
        sp__free(op);
        return NULL;
    }
    return op;
}

int sp_op_new(sp_op **out, void (*done)(sp_op *op, void *arg), void *arg)
{
    struct sp_op *op;
    int rc;

    if (out == NULL) {
        return sp__fail(SP_EINVAL, "operation: no place for the result");
    }
    rc = sp__runtime_enter();
    if (rc < 0) {
        return rc;
    }
    op = op_alloc();
    if (op != NULL) {
        sp__object_init(&op->obj, SP__KIND_NONE, op_destroy);
        sp__actor_init(&op->user, &op->obj, true);
        sp__actor_init(&op->ctl, &op->obj, false);
        op->over_port.handle = op_on_over;
        sp__timer_init(&op->timer, &op->ctl, &op->obj, op_on_time);
        op->done = done;
        op->arg = arg;
        op->timeout = OP_DEFAULT;
        op->waiter = (struct sp__waiter){.ready = op_ready, .over = op_over};
        atomic_init(&op->result, SP_EAGAIN);
        *out = op;
    }
    sp__runtime_leave();
    return op != NULL ? SP_OK : sp__fail_code(SP_ENOMEM, "operation");
}

/// Whether a call on it makes sense. Errors with detail.
static int op_usable(const sp_op *op)
{
    (void)sp__self(); // From here on the thread has its record: it may take locks.
    if (op == NULL) {
        return sp__fail(SP_EINVAL, "operation: none");
    }
    return sp__forked() ? sp__fail(SP_ESTATE, "called in a child after fork") : SP_OK;
}

void sp_op_deadline(sp_op *op, int ms)
{
    if (op_usable(op) == SP_OK) {
        sp__lock(&op->lock);
        op->timeout = ms < 0 ? -1 : ms;
        sp__unlock(&op->lock);
    }
}

int sp_op_cancel(sp_op *op)
{
    int rc = op_usable(op);

    if (rc == SP_OK && !op_cancel(op, 0, SP_ECANCELED)) {
        rc = sp__fail(SP_ESTATE, "operation: it is not under way");
    }
    sp__run_here(true);
    return rc;
}

int sp_op_stop(sp_op *op)
{
    int rc = op_usable(op);

    if (rc == SP_OK) {
        sp__lock(&op->lock);
        op->stopped = true;
        sp__unlock(&op->lock);
        (void)op_cancel(op, 0, SP_ECANCELED);
        sp__run_here(true);
    }
    return rc;
}

/// Waits until it is at rest and its callback has returned.
static void op_await(struct sp_op *op)
{
    struct sp__waiter w = {.thread = sp__self()};
    bool rest;

    for (;;) {
        sp__lock(&op->lock);
        rest = op->state == SP__OP_REST;
        if (!rest && !w.queued) {
            sp__waiter_add(&op->waiters, &w, false);
        } else if (rest && w.queued) {
            sp__waiter_remove(&op->waiters, &w);
        }
        sp__unlock(&op->lock);
        if (rest) {
            return;
        }
        (void)sp__wait(SP__NEVER, -1, true);
    }
}

int sp_op_wait(sp_op *op)
{
    int rc = op_usable(op);

    if (rc == SP_OK && !sp__may_block()) {
        rc = SP_ESTATE;
    }
    if (rc < 0) {
        return rc;
    }
    op_await(op);
    rc = sp_op_result(op);
    return rc < 0 ? sp__fail_code(rc, "operation") : rc;
}

void sp_op_free(sp_op *op)
{
    struct sp__thread *t = sp__self();

    if (sp_op_stop(op) < 0) {
        return;
    }
    if (t != NULL && !t->running && !t->in_user) {
        op_await(op);
    }
    sp__drop(&op->obj);
}

int sp_op_result(const sp_op *op)
{
    if (op == NULL) {
        return sp__fail(SP_EINVAL, "operation: none");
    }
    // Acquire: what was done to end it; pairs with the release in op_over.
    return atomic_load_explicit((atomic_int *)(uintptr_t)&op->result, memory_order_acquire);
}

sp_msg *sp_op_msg(sp_op *op)
{
    bool mine = op != NULL && op_runs_here(op);
    sp_msg *m = NULL;

    if (!mine && op_usable(op) < 0) {
        return NULL;
    }
    if (!mine) {
        sp__lock(&op->lock);
    }
    if (mine || op->state == SP__OP_REST || (op->state == SP__OP_DONE && op_runs(op))) {
        m = op->msg;
        op->msg = NULL;
    }
    if (!mine) {
        sp__unlock(&op->lock);
    }
    return m;
}

void sp_op_scope(sp_op *op, sp_scope scope)
{
    struct sp__scope *old;
    struct sp__scope *s;

    if (op_usable(op) < 0) {
        return;
    }
    s = sp__scope_get(scope);
    if (s != NULL) {
        sp__need_worker(); // Who polls cancels what a signal handler cannot.
    }

    sp__lock(&op->lock);
    old = op->scope;
    op->scope = s;
    op->scope_lost = s == NULL && scope.id != 0;
    sp__unlock(&op->lock);
    sp__scope_drop(old);
}

int sp_device(sp_socket a, sp_socket b)
{
    sp_op *op;
    int rc;

    if (!sp__may_block()) {
        return SP_ESTATE;
    }
    rc = sp__runtime_enter(); // sp_fini waits for the call to leave.
    if (rc < 0) {
        return rc;
    }
    rc = sp_op_new(&op, NULL, NULL);
    if (rc == SP_OK) {
        rc = sp_op_device(op, a, b);
        rc = rc == SP_OK ? sp_op_wait(op) : rc;
        sp_op_free(op);
    }
    sp__runtime_leave();
    return rc;
}
