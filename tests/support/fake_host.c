/* SPDX-License-Identifier: MIT */
/// See fake_host.h.
#include "fake_host.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct fake_counts fake = {.alloc_left = -1};

/// A body, shared by clones.
struct fake_body {
    size_t refs;
    size_t cap;
    unsigned char bytes[];
};

static bool fake_may_allocate(void)
{
    if (fake.alloc_left == 0) {
        return false;
    }
    fake.alloc_left -= fake.alloc_left > 0;
    return true;
}

static struct fake_body *fake_body_new(size_t cap)
{
    struct fake_body *b = fake_may_allocate() ? malloc(sizeof(*b) + cap) : NULL;

    if (b != NULL) {
        b->refs = 1;
        b->cap = cap;
        fake.cap_max = cap > fake.cap_max ? cap : fake.cap_max;
    }
    return b;
}

static void fake_body_drop(struct fake_body *b)
{
    if (--b->refs == 0) {
        free(b);
    }
}

static sp_msg *fake_msg_with(struct fake_body *b)
{
    sp_msg *m = b != NULL ? calloc(1, sizeof(*m)) : NULL;

    if (m == NULL) {
        return NULL;
    }
    m->owner = b;
    m->data = b->bytes;
    fake.msgs_live++;
    fake.msgs_made++;
    return m;
}

static sp_msg *fake_msg_new(size_t len)
{
    sp_msg *m = fake_msg_with(fake_body_new(len));

    if (m != NULL) {
        m->len = len;
    }
    return m;
}

static sp_msg *fake_msg_clone(sp_msg *m)
{
    struct fake_body *b = m->owner;
    sp_msg *clone = fake_msg_with(b);

    if (clone != NULL) {
        b->refs++;
        clone->data = m->data;
        clone->len = m->len;
        clone->header_len = m->header_len;
        memcpy(clone->header, m->header, sizeof(m->header));
    }
    return clone;
}

static void fake_msg_release(sp_msg *m)
{
    fake_body_drop(m->owner);
    free(m);
    fake.msgs_live--;
}

/// Always moves: whoever kept a pointer into the old body is found out by the sanitizer.
static int fake_msg_move(sp_msg *m, size_t cap)
{
    struct fake_body *b = fake_body_new(cap > m->len ? cap : m->len);

    if (b == NULL) {
        return SP_ENOMEM;
    }
    memcpy(b->bytes, m->data, m->len);
    fake_body_drop(m->owner);
    m->owner = b;
    m->data = b->bytes;
    return SP_OK;
}

static int fake_msg_reserve(sp_msg *m, size_t cap)
{
    const struct fake_body *b = m->owner;

    return b->refs == 1 && cap <= b->cap - (size_t)(m->data - b->bytes) ? SP_OK
                                                                        : fake_msg_move(m, cap);
}

static int fake_msg_own(sp_msg *m)
{
    return ((const struct fake_body *)m->owner)->refs == 1 ? SP_OK : fake_msg_move(m, m->len);
}

static void *fake_scratch(void)
{
    static unsigned char scratch[65536];

    return fake.no_scratch ? NULL : scratch;
}

/// The references are the first members of ours.
static struct fake_pipe *fake_pipe_of(sp_pipe_ref *ref)
{
    return (struct fake_pipe *)(void *)ref;
}

static struct fake_ep *fake_ep_of(sp_ep_ref *ref)
{
    return (struct fake_ep *)(void *)ref;
}

static int fake_pipe_watch(sp_pipe_ref *ref, int fd)
{
    fake.pipe_watches++;
    if (fake.watch_fails == 0) {
        fake_pipe_of(ref)->fd = fd;
    }
    return fake.watch_fails;
}

static void fake_pipe_ready(sp_pipe_ref *ref, unsigned ready)
{
    (void)ref;
    fake.pipe_ready++;
    fake.ready_bits = ready;
}

static int fake_ep_watch(sp_ep_ref *ref, int fd)
{
    fake.ep_watches++;
    if (fake.watch_fails == 0) {
        fake_ep_of(ref)->fd = fd;
    }
    return fake.watch_fails;
}

static void fake_ep_unwatch(sp_ep_ref *ref, int fd)
{
    (void)fd;
    fake.ep_unwatches++;
    fake_ep_of(ref)->fd = -1;
}

static void fake_ep_ready(sp_ep_ref *ref)
{
    (void)ref;
    fake.ep_ready++;
}

static int fake_ep_timer_new(sp_ep_ref *ref, void *cookie, sp_timer_ref **timer)
{
    (void)cookie;
    *timer = (sp_timer_ref *)(void *)ref; // Never looked into.
    return SP_OK;
}

static void fake_timer_arm(sp_timer_ref *timer, int64_t ms)
{
    (void)timer;
    (void)ms;
}

static void fake_timer_cancel(sp_timer_ref *timer)
{
    (void)timer;
}

static int64_t fake_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec + fake.later;
}

static uint64_t fake_random(void)
{
    fake.random = fake.random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return fake.random >> 11;
}

static void fake_log(sp_log_level level, const char *id, const char *text)
{
    (void)level;
    (void)id;
    (void)text;
}

static const void *fake_extension(const char *id)
{
    (void)id;
    return NULL;
}

const sp_host *fake_host(void)
{
    static const sp_host host = {
        .size = sizeof(host),
        .abi_major = SP_ABI_MAJOR,
        .abi_minor = SP_ABI_MINOR,
        .msg_new = fake_msg_new,
        .msg_clone = fake_msg_clone,
        .msg_release = fake_msg_release,
        .msg_reserve = fake_msg_reserve,
        .msg_own = fake_msg_own,
        .scratch = fake_scratch,
        .pipe_watch = fake_pipe_watch,
        .pipe_ready = fake_pipe_ready,
        .ep_watch = fake_ep_watch,
        .ep_unwatch = fake_ep_unwatch,
        .ep_ready = fake_ep_ready,
        .ep_timer_new = fake_ep_timer_new,
        .timer_arm = fake_timer_arm,
        .timer_cancel = fake_timer_cancel,
        .now = fake_now,
        .random = fake_random,
        .log = fake_log,
        .extension = fake_extension,
    };

    return &host;
}

void fake_reset(void)
{
    memset(&fake, 0, sizeof(fake));
    fake.alloc_left = -1;
}

sp_msg *fake_msg(const void *header, size_t header_len, const void *body, size_t len)
{
    sp_msg *m = fake_msg_new(len);

    if (m == NULL) {
        abort();
    }
    if (header_len > 0) {
        memcpy(m->header, header, header_len);
    }
    if (len > 0) {
        memcpy(m->data, body, len);
    }
    m->header_len = (uint32_t)header_len;
    return m;
}

void fake_drop(sp_batch *batch)
{
    for (sp_msg *m; (m = sp_batch_pop(batch)) != NULL;) {
        fake_msg_release(m);
    }
}

static const sp_option *fake_option(const struct fake_ep *ep, const char *name)
{
    for (size_t i = 0; i < ep->ops->option_count; i++) {
        if (strcmp(ep->ops->options[i].name, name) == 0) {
            return &ep->ops->options[i];
        }
    }
    abort();
}

static void fake_store(const struct fake_ep *ep, const sp_option *o, int64_t value)
{
    memcpy((unsigned char *)ep->ref.state + o->offset, &value, sizeof(value));
}

struct fake_ep *fake_ep_new(const sp_transport_ops *ops, const char *url, int *rc, sp_cause *cause)
{
    struct fake_ep *ep = calloc(1, sizeof(*ep));

    if (ep == NULL || (ep->ref.state = calloc(1, ops->ep_size)) == NULL) {
        abort();
    }
    ep->ops = ops;
    ep->fd = -1;
    for (size_t i = 0; i < ops->option_count; i++) {
        if (ops->options[i].type == SP_OPTION_INT || ops->options[i].type == SP_OPTION_BOOL) {
            fake_store(ep, &ops->options[i], ops->options[i].def);
        }
    }
    *rc = ops->ep_init(ep->ref.state, fake_host(), &ep->ref, url, cause);
    return ep;
}

void fake_ep_set_int(struct fake_ep *ep, const char *name, int64_t value)
{
    fake_store(ep, fake_option(ep, name), value);
}

void fake_ep_set_str(struct fake_ep *ep, const char *name, const char *value)
{
    const sp_option *o = fake_option(ep, name);

    if (strlen(value) >= (size_t)o->max) {
        abort();
    }
    memcpy((unsigned char *)ep->ref.state + o->offset, value, strlen(value) + 1);
}

void fake_ep_free(struct fake_ep *ep)
{
    if (ep == NULL) {
        return;
    }
    ep->ops->ep_close(ep->ref.state);
    if (ep->ops->ep_fini != NULL) {
        ep->ops->ep_fini(ep->ref.state);
    }
    free(ep->ref.state);
    free(ep);
}

struct fake_pipe *fake_pipe_new(const sp_transport_ops *ops)
{
    struct fake_pipe *p = calloc(1, sizeof(*p));

    if (p == NULL || (p->ref.tran = calloc(1, ops->pipe_size)) == NULL) {
        abort();
    }
    p->ops = ops;
    p->fd = -1;
    p->ref.id = 1;
    return p;
}

void fake_pipe_free(struct fake_pipe *p)
{
    if (p == NULL) {
        return;
    }
    p->ops->pipe_close(p->ref.tran);
    p->ops->pipe_fini(p->ref.tran);
    free(p->ref.tran);
    free(p);
}

short fake_wait(int fd, short events)
{
    struct pollfd ready = {.fd = fd, .events = events};

    return poll(&ready, 1, FAKE_DEADLINE_MS) == 1 ? ready.revents : 0;
}

int fake_accept(struct fake_ep *ep, struct fake_pipe *p, sp_cause *cause)
{
    if (fake_wait(ep->fd, POLLIN) == 0) {
        return SP_EAGAIN;
    }
    return ep->ops->accept(ep->ref.state, p->ref.tran, &p->ref, cause);
}

sp_handshake fake_hs(uint16_t own, uint16_t peer)
{
    sp_handshake hs = {.size = sizeof(hs), .ids = {own, peer}};

    return hs;
}

/// poll's events as the core's.
static unsigned fake_ready(short revents)
{
    return ((revents & POLLIN) != 0 ? SP_READY_IN : 0) |
           ((revents & POLLOUT) != 0 ? SP_READY_OUT : 0) |
           ((revents & (POLLHUP | POLLERR)) != 0 ? SP_READY_HUP : 0);
}

/// A core closes a pipe whose handshake failed, so that the other end learns of it.
static void fake_handshake_failed(struct fake_pipe *p, int rc)
{
    if (rc < 0 && rc != SP_EAGAIN) {
        p->ops->pipe_close(p->ref.tran);
    }
}

/// One step; true: it has a result.
static bool fake_handshake_step(struct fake_pipe *p, sp_handshake *hs, int *rc, bool first)
{
    struct pollfd ready = {.fd = p->fd, .events = POLLIN | POLLOUT};

    if (*rc == SP_EAGAIN) {
        if (!first) {
            (void)poll(&ready, 1, 0);
        }
        *rc = p->ops->handshake(p->ref.tran, fake_ready(ready.revents), hs);
        fake_handshake_failed(p, *rc);
    }
    return *rc != SP_EAGAIN;
}

void fake_handshakes(struct fake_pipe *a, sp_handshake *hs_a, int *rc_a, struct fake_pipe *b,
                     sp_handshake *hs_b, int *rc_b)
{
    int64_t deadline = fake_now() + FAKE_DEADLINE_MS * INT64_C(1000000);
    bool done = false;
    bool first = true;

    *rc_a = SP_EAGAIN;
    *rc_b = SP_EAGAIN;
    while (!done && fake_now() < deadline) {
        done = a == NULL || fake_handshake_step(a, hs_a, rc_a, first);
        done = (b == NULL || fake_handshake_step(b, hs_b, rc_b, first)) && done;
        first = false;
    }
}

size_t fake_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    size_t n = 0;

    if (dir == NULL) {
        return 0;
    }
    while (readdir(dir) != NULL) {
        n++;
    }
    (void)closedir(dir);
    return n;
}

static size_t fds_before;

int fake_fds_before(void **state)
{
    (void)state;
    fds_before = fake_fds();
    return 0;
}

int fake_fds_after(void **state)
{
    size_t now = fake_fds();

    (void)state;
    if (now != fds_before) {
        (void)fprintf(stderr, "%zu fds open before the tests, %zu after them\n", fds_before, now);
    }
    return now == fds_before ? 0 : -1;
}

int fake_harvest(struct fake_pipe *p, sp_batch *in, size_t n)
{
    size_t before = in->n;
    int rc = p->ops->harvest(p->ref.tran, in, n, 0);

    while (rc >= 0 && in->n - before < n) {
        short revents = fake_wait(p->fd, POLLIN | POLLRDHUP);

        if (revents == 0) {
            break;
        }
        rc = p->ops->harvest(p->ref.tran, in, n - (in->n - before),
                             SP_READY_IN |
                                 ((revents & (POLLRDHUP | POLLHUP)) != 0 ? SP_READY_HUP : 0));
    }
    return rc < 0 ? rc : (int)(in->n - before);
}
