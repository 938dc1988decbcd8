/* SPDX-License-Identifier: MIT */
/// Scopes. See scope.h for how a cancel gets to those who wait. [any]
#include "scope.h"

#include "error.h"
#include "op.h"
#include "platform.h"
#include "runtime.h"
#include "sched.h"
#include "socket.h"

#include <sp/sp.h>

#define SCOPE_CANCELED (UINT64_C(1) << 63) // no kind of handle has it

static struct {
    pthread_mutex_t lock;
    struct sp__scope *all;
    struct sp__scope *free;
    atomic_bool canceled; ///< since sp__scopes_tend looked
} scopes = {.lock = PTHREAD_MUTEX_INITIALIZER};

/// SP_OK, SP_ECANCELED or SP_ETIMEDOUT.
static int scope_over(struct sp__scope *s)
{
    for (struct sp__scope *at = s; at != NULL; at = at->parent) {
        // seq_cst: see scope.h.
        uint64_t state = atomic_load_explicit(&at->state, memory_order_seq_cst);

        if (state == 0 || (state & SCOPE_CANCELED) != 0) {
            return SP_ECANCELED;
        }
    }
    return s->deadline != SP__NEVER && sp__now() >= s->deadline ? SP_ETIMEDOUT : SP_OK;
}

/// The same with detail.
static int scope_check(struct sp__scope *s)
{
    int rc = scope_over(s);

    return rc == SP_OK ? SP_OK
                       : sp__fail(rc, "scope: %s",
                                  rc == SP_ECANCELED ? "it was cancelled" : "its deadline passed");
}

/* ------------------------------------------------------------------ Calls in a scope */

int sp__scope_begin(sp_scope scope)
{
    struct sp__object *obj;
    struct sp__scope *s;
    int rc;

    if (scope.id == 0) {
        return SP_OK;
    }
    rc = sp__enter(scope.id, SP__KIND_SCOPE, &obj);
    if (rc < 0) {
        return rc;
    }
    s = SP__CONTAINER(obj, struct sp__scope, obj);
    // seq_cst: see scope.h.
    atomic_store_explicit(&sp__self()->scope, s, memory_order_seq_cst);
    rc = scope_check(s);
    if (rc < 0) {
        sp__scope_end();
    }
    return rc;
}

void sp__scope_end(void)
{
    struct sp__thread *t = sp__self();

    if (atomic_load_explicit(&t->scope, memory_order_relaxed) != NULL) {
        atomic_store_explicit(&t->scope, NULL, memory_order_relaxed);
        sp__leave();
    }
}

int sp__scope_over(void)
{
    struct sp__scope *s = atomic_load_explicit(&sp__self()->scope, memory_order_relaxed);

    return s != NULL ? scope_over(s) : SP_OK;
}

int64_t sp__scope_deadline(void)
{
    struct sp__scope *s = atomic_load_explicit(&sp__self()->scope, memory_order_relaxed);

    return s != NULL ? s->deadline : SP__NEVER;
}

static enum sp__kind scope_kind(uint64_t id)
{
    return (enum sp__kind)(id >> 56);
}

int sp_sendmsg_in(sp_scope scope, uint64_t id, sp_msg *m)
{
    int rc = m != NULL ? sp__scope_begin(scope) : sp__fail(SP_EINVAL, "send: the message is NULL");
    struct sp__ctx *c;

    if (rc < 0) {
        return rc;
    }
    switch (scope_kind(id)) {
    case SP__KIND_MAILBOX:
        rc = sp_mailbox_post((sp_mailbox){id}, m, 0);
        break;
    case SP__KIND_ACTOR:
        rc = sp_actor_post((sp_actor){id}, m, 0);
        break;
    default:
        rc = sp__ctx_enter(id, &c);
        if (rc == SP_OK) {
            rc = sp__ctx_send(c, &m, 1, sp__option(&c->opt.send_timeout));
            sp__leave();
        }
    }
    sp__scope_end();
    return rc < 0 ? rc : SP_OK;
}

int sp_recvmsg_in(sp_scope scope, uint64_t id, sp_msg **m)
{
    int rc = m != NULL ? sp__scope_begin(scope)
                       : sp__fail(SP_EINVAL, "receive: no place for the message");
    struct sp__ctx *c;

    if (rc < 0) {
        return rc;
    }
    if (scope_kind(id) == SP__KIND_MAILBOX) {
        rc = sp_mailbox_take((sp_mailbox){id}, m, 0);
    } else {
        rc = sp__ctx_enter(id, &c);
        if (rc == SP_OK) {
            rc = sp__ctx_recv(c, m, 1, sp__option(&c->opt.recv_timeout));
            sp__leave();
        }
    }
    sp__scope_end();
    return rc < 0 ? rc : SP_OK;
}

int sp_dial_in(sp_scope scope, sp_dialer d)
{
    int rc = sp__scope_begin(scope);

    if (rc == SP_OK) {
        rc = sp_dialer_start(d, 0);
        sp__scope_end();
    }
    return rc;
}

/* ------------------------------------------------------------------ Operations in a scope */

struct sp__scope *sp__scope_get(sp_scope scope)
{
    struct sp__object *obj;

    if (sp__enter(scope.id, SP__KIND_SCOPE, &obj) < 0) {
        return NULL;
    }
    sp__hold(obj);
    sp__leave();
    return SP__CONTAINER(obj, struct sp__scope, obj);
}

void sp__scope_drop(struct sp__scope *s)
{
    if (s != NULL) {
        sp__drop(&s->obj);
    }
}

/// Out of the list, if it is there.
static void scope_op_out(struct sp__scope *s, struct sp_op *op)
{
    (void)pthread_mutex_lock(&s->lock);
    if (op->in_scope) {
        *(op->scope_prev != NULL ? &op->scope_prev->scope_next : &s->ops) = op->scope_next;
        if (op->scope_next != NULL) {
            op->scope_next->scope_prev = op->scope_prev;
        }
        op->in_scope = false;
    }
    (void)pthread_mutex_unlock(&s->lock);
}

int sp__scope_op_joins(struct sp_op *op)
{
    struct sp__scope *s = op->scope;
    int rc;

    if (s == NULL) {
        return SP_OK;
    }
    (void)pthread_mutex_lock(&s->lock);
    op->scope_prev = NULL;
    op->scope_next = s->ops;
    if (s->ops != NULL) {
        s->ops->scope_prev = op;
    }
    s->ops = op;
    op->in_scope = true;
    (void)pthread_mutex_unlock(&s->lock);
    rc = scope_check(s); // Behind the lock: a cancel that we do not see finds the operation.
    if (rc < 0) {
        scope_op_out(s, op);
        return rc;
    }
    sp__hold(&s->obj);
    op->joined = s;
    return SP_OK;
}

struct sp__scope *sp__scope_op_leaves(struct sp_op *op)
{
    struct sp__scope *s = op->joined;

    op->joined = NULL;
    if (s != NULL) {
        scope_op_out(s, op);
    }
    return s;
}

/// Takes one out of the list, held. NULL: it is empty.
static struct sp_op *scope_take_op(struct sp__scope *s, uint64_t *start)
{
    struct sp_op *op;

    (void)pthread_mutex_lock(&s->lock);
    op = s->ops;
    if (op != NULL) {
        s->ops = op->scope_next;
        if (s->ops != NULL) {
            s->ops->scope_prev = NULL;
        }
        op->in_scope = false;
        sp__hold(&op->obj);
        *start = op->start;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return op;
}

/// Cancels what is pending in a scope that is over.
static void scope_cancel_ops(struct sp__scope *s)
{
    struct sp_op *op;
    uint64_t start = 0;

    do {
        op = scope_take_op(s, &start);
        if (op != NULL) {
            sp__op_cancel_start(op, start, SP_ECANCELED);
            sp__drop(&op->obj);
        }
    } while (op != NULL);
}

/// One that is over and still has operations, held. NULL: none.
static struct sp__scope *scopes_next_over(void)
{
    struct sp__scope *s;
    bool found = false;

    (void)pthread_mutex_lock(&scopes.lock);
    for (s = scopes.all; s != NULL && !found; s = found ? s : s->next) {
        bool any;

        (void)pthread_mutex_lock(&s->lock);
        any = s->ops != NULL;
        (void)pthread_mutex_unlock(&s->lock);
        found = any && scope_over(s) == SP_ECANCELED && sp__hold_live(&s->obj);
    }
    (void)pthread_mutex_unlock(&scopes.lock);
    return s;
}

/// Cancels what is pending in all scopes that are over.
static void scopes_cancel_all(void)
{
    struct sp__scope *s;

    while ((s = scopes_next_over()) != NULL) {
        scope_cancel_ops(s);
        sp__drop(&s->obj);
    }
}

void sp__scopes_tend(void)
{
    // Acquire: the state that was changed before; pairs with the store in sp_scope_cancel.
    if (atomic_load_explicit(&scopes.canceled, memory_order_relaxed) &&
        atomic_exchange_explicit(&scopes.canceled, false, memory_order_acquire)) {
        scopes_cancel_all();
    }
}

/* ------------------------------------------------------------------ Their life */

static void scope_destroy(struct sp__object *obj)
{
    struct sp__scope *s = SP__CONTAINER(obj, struct sp__scope, obj);
    struct sp__scope *parent = s->parent;

    (void)pthread_mutex_lock(&scopes.lock);
    *(s->prev != NULL ? &s->prev->next : &scopes.all) = s->next;
    if (s->next != NULL) {
        s->next->prev = s->prev;
    }
    (void)pthread_mutex_destroy(&s->lock);
    s->next = scopes.free;
    scopes.free = s;
    if (parent != NULL) {
        parent->children--;
    }
    (void)pthread_mutex_unlock(&scopes.lock);
    sp__scope_drop(parent);
}

/// One that was used before, or a new one; its `state` is 0.
static struct sp__scope *scope_alloc(void)
{
    struct sp__scope *s;

    (void)pthread_mutex_lock(&scopes.lock);
    s = scopes.free;
    if (s != NULL) {
        scopes.free = s->next;
    }
    (void)pthread_mutex_unlock(&scopes.lock);
    s = s != NULL ? s : sp__zalloc(sizeof(*s));
    if (s != NULL && pthread_mutex_init(&s->lock, NULL) != 0) {
        sp__free(s);
        return NULL;
    }
    return s;
}

static int scope_make(struct sp__scope *parent, int timeout_ms, uint64_t *id)
{
    struct sp__scope *s = scope_alloc();
    int64_t deadline = timeout_ms < 0 ? SP__NEVER : sp__now() + timeout_ms * SP__MS;
    int rc;

    if (s == NULL) {
        return SP_ENOMEM;
    }
    sp__object_init(&s->obj, SP__KIND_SCOPE, scope_destroy);
    s->parent = parent;
    s->deadline = parent != NULL && parent->deadline < deadline ? parent->deadline : deadline;
    s->ops = NULL;
    s->children = 0;
    s->prev = NULL;
    if (parent != NULL) {
        sp__hold(&parent->obj);
    }
    (void)pthread_mutex_lock(&scopes.lock);
    s->next = scopes.all;
    if (s->next != NULL) {
        s->next->prev = s;
    }
    scopes.all = s;
    if (parent != NULL) {
        parent->children++;
    }
    (void)pthread_mutex_unlock(&scopes.lock);
    rc = sp__handle_open(&s->obj, id);
    if (rc == SP_OK) {
        // Release: who finds it open finds it made; nobody cancels it before we return its handle.
        atomic_store_explicit(&s->state, *id, memory_order_release);
    }
    sp__drop(&s->obj);
    return rc;
}

int sp_scope_open(sp_scope *scope, sp_scope parent, int timeout_ms)
{
    struct sp__scope *p = NULL;
    int rc;

    if (scope == NULL) {
        return sp__fail(SP_EINVAL, "scope: no place for the result");
    }
    rc = sp__runtime_enter();
    if (rc < 0) {
        return rc;
    }
    if (parent.id != 0) {
        p = sp__scope_get(parent);
    }
    if (parent.id != 0 && p == NULL) {
        rc = sp__fail_in(SP_EINVAL, "scope: its parent");
    } else {
        rc = scope_make(p, timeout_ms, &scope->id);
        rc = rc < 0 ? sp__fail_code(rc, "scope") : rc;
    }
    sp__scope_drop(p);
    sp__runtime_leave();
    return rc;
}

/// Wakes threads that wait in any scope, to look whether it is theirs. Async-signal-safe.
static void scopes_wake(void)
{
    for (struct sp__thread *t = sp__threads(); t != NULL; t = t->next) {
        // seq_cst: see scope.h.
        if (atomic_load_explicit(&t->scope, memory_order_seq_cst) != NULL) {
            sp__thread_wake(t);
        }
    }
}

int sp_scope_cancel(sp_scope scope)
{
    int saved = errno;
    struct sp__object *obj = (scope.id >> 56) == SP__KIND_SCOPE ? sp__handle_peek(scope.id) : NULL;
    uint64_t state = scope.id;

    if (obj == NULL) {
        return scope.id == 0 ? SP_EINVAL : SP_ECLOSED;
    }
    // Its memory is a scope's for ever, so this is safe even if it was closed meanwhile; then the
    // word is another one. seq_cst: see scope.h.
    if (atomic_compare_exchange_strong_explicit(&SP__CONTAINER(obj, struct sp__scope, obj)->state,
                                                &state, scope.id | SCOPE_CANCELED,
                                                memory_order_seq_cst, memory_order_relaxed)) {
        scopes_wake();
        // Release: pairs with the exchange in sp__scopes_tend.
        atomic_store_explicit(&scopes.canceled, true, memory_order_release);
        sp__platform->poller_wake();
    }
    errno = saved;
    return SP_OK;
}

/// Ends what is pending in a scope that was closed, and in those below it. No more joins.
static void scope_end_ops(struct sp__scope *s)
{
    bool parent;

    (void)pthread_mutex_lock(&scopes.lock);
    parent = s->children > 0;
    (void)pthread_mutex_unlock(&scopes.lock);
    if (parent) {
        scopes_cancel_all();
    } else {
        scope_cancel_ops(s);
    }
}

int sp_scope_close(sp_scope scope)
{
    struct sp__object *obj;
    struct sp__scope *s;
    int rc = sp__enter(scope.id, SP__KIND_SCOPE, &obj);

    if (rc < 0) {
        return rc;
    }
    if (sp__handle_close(obj)) {
        s = SP__CONTAINER(obj, struct sp__scope, obj);
        // seq_cst: see scope.h.
        atomic_store_explicit(&s->state, 0, memory_order_seq_cst);
        scopes_wake();
        scope_end_ops(s);
        sp__drop(obj);
    }
    sp__leave();
    sp__reclaim();
    sp__run_here(true);
    return SP_OK;
}

void sp__scopes_close(void)
{
    struct sp__object *obj;

    for (uint32_t at = 0; (obj = sp__handle_next(SP__KIND_SCOPE, &at)) != NULL;) {
        sp_scope scope = {obj->id};

        sp__drop(obj);
        (void)sp_scope_close(scope);
    }
}

unsigned sp__scopes_kept(void)
{
    unsigned n = 0;

    (void)pthread_mutex_lock(&scopes.lock);
    for (struct sp__scope *s = scopes.free; s != NULL; s = s->next) {
        n++;
    }
    (void)pthread_mutex_unlock(&scopes.lock);
    return n;
}
