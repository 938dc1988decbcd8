/* SPDX-License-Identifier: MIT */
/// Messages: allocation, sharing, growth, and the public functions on them. [any], one thread a
/// message.
#include "msg.h"

#include "error.h"
#include "magazine.h"
#include "runtime.h"

#include <sp/sp.h>

#include <string.h>

static struct sp__chunk *chunk_new(size_t cap)
{
    size_t need = cap + 64 + SP__HEADROOM;
    unsigned cls;
    size_t size;
    struct sp__chunk *c;

    if (cap > SIZE_MAX / 2) {
        return NULL;
    }
    cls = sp__pool_class(need);
    size = cls < SP__CLASSES ? sp__pool_size(cls) : need;
    c = cls < SP__CLASSES ? sp__pool_get(cls) : sp__pool_alloc(size);
    if (c == NULL) {
        return NULL;
    }
    atomic_init(&c->refs, 1);
    c->cls = cls;
    c->base = (unsigned char *)c + 64;
    c->cap = size - 64;
    c->size = size;
    c->free_fn = NULL;
    return c;
}

static void chunk_drop(struct sp__chunk *c)
{
    // The only reference is ours, and nobody but us can make another: no need to count it down.
    // Acquire, and acq_rel below: the readers that dropped theirs are done.
    if (atomic_load_explicit(&c->refs, memory_order_acquire) != 1 &&
        atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (c->free_fn != NULL) {
        c->free_fn(c->wrapped, c->arg);
    }
    if (c->cls < SP__CLASSES) {
        sp__pool_put(c->cls, c);
    } else {
        sp__pool_free(c, c->size);
    }
}

/// Makes a block an empty message. Of 256 bytes it writes what must be: the first line and half of
/// the third, none of the header's.
static inline struct sp__msg *msg_init(struct sp__msg *m)
{
    m->head.next = NULL;
    m->head.owner = NULL;
    m->head.data = m->body;
    m->head.len = 0;
    m->head.header_len = 0;
    m->head.header_in = 0;
    m->head.peer = 0;
    m->head.memory = NULL;
    m->wall = 0;
    m->pipe = 0;
    m->cost = 0;
    m->round = 0;
    return m;
}

/// A block with an empty body inside it.
static struct sp__msg *msg_block(void)
{
    struct sp__msg *m = sp__pool_get(0);

    return m != NULL ? msg_init(m) : NULL;
}

/// A message that is not small, or whose block is not at hand. Not inline: the usual way needs no
/// registers saved.
static SP__APART sp_msg *msg_new_any(size_t len)
{
    struct sp__msg *m = msg_block();

    if (m == NULL) {
        return NULL;
    }
    if (len > SP__INLINE_MAX) {
        struct sp__chunk *c = chunk_new(len);

        if (c == NULL) {
            sp__pool_put(0, m);
            return NULL;
        }
        m->head.memory = c;
        m->head.data = c->base + SP__HEADROOM;
    }
    m->head.len = len;
    return &m->head;
}

sp_msg *sp__msg_new(size_t len)
{
    struct sp__msg *m = len <= SP__INLINE_MAX ? sp__pool_take(0) : NULL;

    if (m == NULL) {
        return msg_new_any(len);
    }
    msg_init(m)->head.len = len;
    return &m->head;
}

static inline void msg_drop(sp_msg *m)
{
    if (m->memory != NULL) {
        chunk_drop(m->memory);
    }
    sp__pool_put(0, m);
}

void sp__msg_release(sp_msg *m)
{
    if (m != NULL) {
        msg_drop(m);
    }
}

void sp__batch_release(sp_batch *b)
{
    for (sp_msg *m = b->head, *next; m != NULL; m = next) {
        next = m->next;
        msg_drop(m);
    }
    memset(b, 0, sizeof(*b));
}

sp_msg *sp__msg_clone(sp_msg *m)
{
    struct sp__msg *from = sp__msg(m);
    struct sp__msg *to = msg_block();

    if (to == NULL) {
        return NULL;
    }
    memcpy(to->head.header, m->header, SP_HEADER_MAX);
    to->head.header_len = m->header_len;
    to->head.header_in = m->header_in;
    to->head.peer = m->peer;
    to->head.len = m->len;
    to->wall = from->wall;
    to->pipe = from->pipe;
    if (m->memory != NULL) {
        // Relaxed: a new reference is made from one that we hold.
        atomic_fetch_add_explicit(&sp__msg_chunk(from)->refs, 1, memory_order_relaxed);
        to->head.memory = m->memory;
        to->head.data = m->data;
    } else {
        memcpy(to->body, m->data, m->len);
    }
    return &to->head;
}

/// Whether the body may be written where it is. Acquire: the readers that dropped their reference
/// are done.
static bool msg_private(const struct sp__msg *m)
{
    const struct sp__chunk *c = sp__msg_chunk(m);

    return c == NULL || atomic_load_explicit(&c->refs, memory_order_acquire) == 1;
}

static unsigned char *msg_base(struct sp__msg *m)
{
    return m->head.memory == NULL ? m->body : sp__msg_chunk(m)->base;
}

static size_t msg_room(struct sp__msg *m)
{
    return m->head.memory == NULL ? SP__INLINE_MAX : sp__msg_chunk(m)->cap;
}

/// Moves the body to memory of its own with room for `cap` bytes behind its start.
static int msg_move(struct sp__msg *m, size_t cap)
{
    struct sp__chunk *c = chunk_new(cap > m->head.len ? cap : m->head.len);

    if (c == NULL) {
        return SP_ENOMEM;
    }
    if (m->head.len > 0) {
        memcpy(c->base + SP__HEADROOM, m->head.data, m->head.len);
    }
    if (m->head.memory != NULL) {
        chunk_drop(m->head.memory);
    }
    m->head.memory = c;
    m->head.data = c->base + SP__HEADROOM;
    return SP_OK;
}

int sp__msg_own(sp_msg *m)
{
    return msg_private(sp__msg(m)) ? SP_OK : msg_move(sp__msg(m), m->len);
}

int sp__msg_reserve(sp_msg *m, size_t cap)
{
    struct sp__msg *im = sp__msg(m);

    if (cap > SIZE_MAX / 2) {
        return SP_ENOMEM;
    }
    if (msg_private(im) && (size_t)(m->data - msg_base(im)) + cap <= msg_room(im)) {
        return SP_OK;
    }
    // The size classes make growth geometric; beyond them it is made so, which keeps many small
    // appends linear.
    return msg_move(im,
                    sp__pool_class(cap + 64 + SP__HEADROOM) < SP__CLASSES ? cap : cap + cap / 2);
}

static SP__APART int msg_new_fail(sp_msg **m, size_t len)
{
    if (m == NULL) {
        return sp__fail(SP_EINVAL, "message: no place for the result");
    }
    if (sp__forked()) {
        return sp__fail(SP_ESTATE, "called in a child after fork");
    }
    *m = NULL;
    return sp__fail_code(SP_ENOMEM, "message of %zu bytes", len);
}

int sp_msg_new(sp_msg **m, size_t len)
{
    sp_msg *new = m != NULL && !sp__forked() ? sp__msg_new(len) : NULL;

    if (new == NULL) {
        return msg_new_fail(m, len);
    }
    *m = new;
    return SP_OK;
}

int sp_msg_wrap(sp_msg **m, void *buf, size_t len, void (*free_fn)(void *buf, void *arg), void *arg)
{
    struct sp__msg *im;
    struct sp__chunk *c;

    if (m == NULL || (buf == NULL && len > 0)) {
        return sp__fail(SP_EINVAL, "wrap: no buffer");
    }
    if (sp__forked()) {
        return sp__fail(SP_ESTATE, "called in a child after fork");
    }
    im = msg_block();
    c = im != NULL ? chunk_new(0) : NULL;
    if (c == NULL) {
        if (im != NULL) {
            sp__pool_put(0, im);
        }
        return sp__fail_code(SP_ENOMEM, "wrap a message");
    }
    c->base = buf;
    c->cap = len;
    c->wrapped = buf;
    c->free_fn = free_fn;
    c->arg = arg;
    im->head.memory = c;
    im->head.data = buf;
    im->head.len = len;
    *m = &im->head;
    return SP_OK;
}

int sp_msg_loan(sp_msg **m, sp_socket s, size_t len)
{
    (void)s; // No transport has memory of its own to lend yet.
    return sp_msg_new(m, len);
}

sp_msg *sp_msg_clone(sp_msg *m)
{
    return m != NULL && !sp__forked() ? sp__msg_clone(m) : NULL;
}

void sp_msg_release(sp_msg *m)
{
    // In a child after fork the pool's lock may be held for ever: the memory goes with the process.
    if (!sp__forked()) {
        sp__msg_release(m);
    }
}

void *sp_msg_data(sp_msg *m)
{
    return m != NULL && sp__msg_own(m) == SP_OK ? m->data : NULL;
}

const void *sp_msg_view(const sp_msg *m)
{
    return m != NULL ? m->data : NULL;
}

size_t sp_msg_len(const sp_msg *m)
{
    return m != NULL ? m->len : 0;
}

int sp_msg_append(sp_msg *m, const void *p, size_t n)
{
    if (m == NULL || (p == NULL && n > 0)) {
        return sp__fail(SP_EINVAL, "append: no message or no data");
    }
    if (n > SIZE_MAX / 4 || sp__msg_reserve(m, m->len + n) != SP_OK) {
        return sp__fail_code(SP_ENOMEM, "append %zu bytes", n);
    }
    if (n > 0) {
        memcpy(m->data + m->len, p, n);
        m->len += n;
    }
    return SP_OK;
}

int sp_msg_prepend(sp_msg *m, const void *p, size_t n)
{
    struct sp__msg *im;
    size_t room;

    if (m == NULL || (p == NULL && n > 0)) {
        return sp__fail(SP_EINVAL, "prepend: no message or no data");
    }
    im = sp__msg(m);
    room = (size_t)(m->data - msg_base(im));
    if (!msg_private(im) || room < n) {
        if (n > SIZE_MAX / 4 || sp__msg_reserve(m, m->len + n) != SP_OK) {
            return sp__fail_code(SP_ENOMEM, "prepend %zu bytes", n);
        }
        if ((size_t)(m->data - msg_base(im)) < n) {
            memmove(m->data + n, m->data, m->len);
            m->data += n;
        }
    }
    if (n > 0) {
        m->data -= n;
        memcpy(m->data, p, n);
        m->len += n;
    }
    return SP_OK;
}

int sp_msg_trim(sp_msg *m, size_t n)
{
    if (m == NULL || n > m->len) {
        return sp__fail(SP_EINVAL, "trim %zu bytes: the body has %zu", n, sp_msg_len(m));
    }
    m->data += n;
    m->len -= n;
    return SP_OK;
}

int sp_msg_chop(sp_msg *m, size_t n)
{
    if (m == NULL || n > m->len) {
        return sp__fail(SP_EINVAL, "chop %zu bytes: the body has %zu", n, sp_msg_len(m));
    }
    m->len -= n;
    return SP_OK;
}

int sp_msg_resize(sp_msg *m, size_t n)
{
    if (m == NULL) {
        return sp__fail(SP_EINVAL, "resize: no message");
    }
    if (n > m->len && sp__msg_reserve(m, n) != SP_OK) {
        return sp__fail_code(SP_ENOMEM, "resize to %zu bytes", n);
    }
    m->len = n;
    return SP_OK;
}

void *sp_msg_header(sp_msg *m)
{
    return m != NULL ? m->header : NULL;
}

size_t sp_msg_header_len(const sp_msg *m)
{
    return m != NULL ? m->header_len : 0;
}

int sp_msg_header_append(sp_msg *m, const void *p, size_t n)
{
    if (m == NULL || (p == NULL && n > 0)) {
        return sp__fail(SP_EINVAL, "header: no message or no data");
    }
    if (n > (size_t)(SP_HEADER_MAX - m->header_len)) {
        return sp__fail(SP_EMSGSIZE, "header of %zu bytes: the limit is %d", m->header_len + n,
                        SP_HEADER_MAX);
    }
    if (n > 0) {
        memcpy(m->header + m->header_len, p, n);
        m->header_len = (uint16_t)(m->header_len + n);
    }
    return SP_OK;
}

int sp_msg_header_trim(sp_msg *m, size_t n)
{
    if (m == NULL || n > m->header_len) {
        return sp__fail(SP_EINVAL, "trim %zu bytes: the header has %zu", n, sp_msg_header_len(m));
    }
    m->header_len = (uint16_t)(m->header_len - n);
    memmove(m->header, m->header + n, m->header_len);
    return SP_OK;
}

uint32_t sp_msg_peer(const sp_msg *m)
{
    return m != NULL ? m->peer : 0;
}

void sp_msg_set_peer(sp_msg *m, uint32_t peer)
{
    if (m != NULL) {
        m->peer = peer;
    }
}

sp_pipe sp_msg_pipe(const sp_msg *m)
{
    sp_pipe p = {m != NULL ? ((const struct sp__msg *)m)->pipe : 0};

    return p;
}

int sp_msg_time(const sp_msg *m, struct timespec *realtime)
{
    const struct sp__msg *im = (const struct sp__msg *)m;

    if (m == NULL || realtime == NULL) {
        return sp__fail(SP_EINVAL, "message time: no message or no place for the result");
    }
    if (im->wall == 0) {
        return sp__fail(SP_ESTATE, "message time: the message was not received");
    }
    realtime->tv_sec = (time_t)(im->wall / 1000000000);
    realtime->tv_nsec = (long)(im->wall % 1000000000);
    return SP_OK;
}
