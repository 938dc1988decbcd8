/* SPDX-License-Identifier: MIT */
/// Mailboxes and actors at work: after a first thousand messages a million more ask the platform
/// for no memory, and none that need not wait makes a system call. The kernel itself says so: this
/// program starts itself again, and that one forbids itself whatever it does not need.
#include "check.h"
#include "platform.h"
#include "proc.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#define MANY 50000 // a sanitizer's time
#else
#define SANITIZED 0
#define MANY 1000000
#endif
#define FIRST 1000
#define ROUND 16 // messages that go round
#define EXIT_SKIP 77

/* ------------------------------------------------------------------ Counting */

/// The platform, but for counting what it is asked for.
static struct sp_platform counting;
static atomic_ulong allocations;
static atomic_ulong wakes; ///< and sleeps
static atomic_ulong looks; ///< at the readiness set

static void *counting_alloc(size_t size, size_t align)
{
    atomic_fetch_add(&allocations, 1);
    return sp__platform_linux.alloc(size, align);
}

static bool counting_park(struct sp__parker *p, int64_t deadline)
{
    atomic_fetch_add(&wakes, 1);
    return sp__platform_linux.park(p, deadline);
}

static void counting_unpark(struct sp__parker *p)
{
    atomic_fetch_add(&wakes, 1);
    sp__platform_linux.unpark(p);
}

static void counting_wake(void)
{
    atomic_fetch_add(&wakes, 1);
    sp__platform_linux.poller_wake();
}

static int counting_wait(struct sp__ready *out, int max, int64_t deadline)
{
    atomic_fetch_add(&looks, 1);
    return sp__platform_linux.poller_wait(out, max, deadline);
}

static void count_begin(int threads)
{
    sp_fini();
    counting = sp__platform_linux;
    counting.alloc = counting_alloc;
    counting.park = counting_park;
    counting.unpark = counting_unpark;
    counting.poller_wake = counting_wake;
    counting.poller_wait = counting_wait;
    sp__platform = &counting;
    check_init(threads);
}

static void count_end(void)
{
    sp_fini();
    sp__platform = &sp__platform_linux;
}

/* ------------------------------------------------------------------ Mailboxes */

/// A message of its own for each post.
static void post_and_take(sp_mailbox mb)
{
    sp_msg *m = NULL;

    check_ok(sp_msg_new(&m, 100));
    check_ok(sp_mailbox_post(mb, m, 0));
    check_ok(sp_mailbox_take(mb, &m, 0));
    sp_msg_release(m);
}

static void posts_that_need_not_wait(int threads)
{
    unsigned long had[2] = {0, 0};
    sp_mailbox mb;

    count_begin(threads);
    check_ok(sp_mailbox_open(&mb, 8));
    for (int i = 0; i < MANY; i++) {
        post_and_take(mb);
        if (i == FIRST) {
            had[0] = atomic_load(&allocations);
            had[1] = atomic_load(&wakes);
        }
    }
    assert_int_equal(atomic_load(&allocations), had[0]);
    assert_int_equal(atomic_load(&wakes), had[1]);
    check_ok(sp_mailbox_close(mb));
    count_end();
}

static void a_million_posts_ask_for_no_memory(void **state)
{
    (void)state;
    posts_that_need_not_wait(1);
    posts_that_need_not_wait(0);
}

/// Takes from one mailbox and posts to the other, so often.
struct relay {
    struct check_call call;
    sp_mailbox from;
    sp_mailbox to;
    int n;
    atomic_int done;
};

static long relay_run(void *arg)
{
    struct relay *r = arg;
    int rc = SP_OK;

    for (int i = 0; rc == SP_OK && i < r->n; i++) {
        sp_msg *m = NULL;

        rc = sp_mailbox_take(r->from, &m, 0);
        rc = rc == SP_OK ? sp_mailbox_post(r->to, m, 0) : rc;
        atomic_store_explicit(&r->done, i, memory_order_relaxed);
    }
    return rc;
}

/// Two threads that wait for each other: more messages than there is room for in either.
static void posts_that_wait_ask_for_no_memory_either(void **state)
{
    struct relay r[2];
    unsigned long had;

    (void)state;
    count_begin(1);
    memset(r, 0, sizeof(r));
    check_ok(sp_mailbox_open(&r[0].from, 4));
    check_ok(sp_mailbox_open(&r[0].to, 4));
    r[1].from = r[0].to;
    r[1].to = r[0].from;
    r[0].n = MANY / 20;
    r[1].n = r[0].n;
    for (int i = 0; i < 6; i++) {
        sp_msg *m = NULL;

        check_ok(sp_msg_new(&m, 100));
        check_ok(sp_mailbox_post(i < 3 ? r[0].from : r[0].to, m, 0));
    }
    check_call_start(&r[0].call, relay_run, &r[0]);
    check_call_start(&r[1].call, relay_run, &r[1]);
    check_until(atomic_load(&r[0].done) > FIRST && atomic_load(&r[1].done) > FIRST);
    had = atomic_load(&allocations);
    check_ok((int)check_call_join(&r[0].call, 100000));
    check_ok((int)check_call_join(&r[1].call, 100000));
    assert_int_equal(atomic_load(&allocations), had);
    check_ok(sp_mailbox_close(r[0].from));
    check_ok(sp_mailbox_close(r[0].to));
    count_end();
}

/* ------------------------------------------------------------------ Actors */

/// Two actors that pass messages to each other.
static struct {
    sp_actor a[2];
    atomic_int passed;
    atomic_int refused;
    int many;
} ring;

static int ring_on_message(sp_actor self, void *state, unsigned port, sp_batch *in)
{
    sp_actor *to = state;

    (void)self;
    (void)port;
    for (sp_msg *m; (m = sp_batch_pop(in)) != NULL;) {
        bool last = atomic_fetch_add_explicit(&ring.passed, 1, memory_order_relaxed) >= ring.many;

        if (last || sp_actor_post(*to, m, 0) < 0) {
            atomic_fetch_add_explicit(&ring.refused, !last, memory_order_relaxed);
            sp_msg_release(m);
        }
    }
    return 0;
}

static void ring_start(int many)
{
    static const sp_actor_ops ops = {.size = sizeof(ops), .on_message = ring_on_message};

    atomic_store(&ring.passed, 0);
    atomic_store(&ring.refused, 0);
    ring.many = many;
    check_ok(sp_actor_spawn(&ring.a[0], &ops, &ring.a[1], NULL));
    check_ok(sp_actor_spawn(&ring.a[1], &ops, &ring.a[0], NULL));
    for (int i = 0; i < ROUND; i++) {
        sp_msg *m = NULL;

        check_ok(sp_msg_new(&m, 100));
        check_ok(sp_actor_post(ring.a[0], m, 0));
    }
}

static void ring_stop(void)
{
    check_until(atomic_load(&ring.passed) >= ring.many + ROUND);
    assert_int_equal(atomic_load(&ring.refused), 0);
    check_ok(sp_actor_stop(ring.a[0]));
    check_ok(sp_actor_stop(ring.a[1]));
}

static void actors_that_pass_messages(int threads)
{
    unsigned long had[3];

    count_begin(threads);
    ring_start(MANY);
    check_until(atomic_load(&ring.passed) > FIRST);
    had[0] = atomic_load(&allocations);
    had[1] = atomic_load(&wakes);
    had[2] = atomic_load(&looks);
    check_until(atomic_load(&ring.passed) >= MANY);
    assert_int_equal(atomic_load(&allocations), had[0]);
    had[1] = atomic_load(&wakes) - had[1]; // With a thread of the library also our own waiting.
    had[2] = atomic_load(&looks) - had[2];
    assert_true(threads > 0 || had[1] + had[2] <= MANY / FIRST);
    ring_stop();
    count_end();
}

static void a_million_messages_of_actors_ask_for_no_memory(void **state)
{
    (void)state;
    actors_that_pass_messages(1); // One thread: another that starts later would want its own.
    actors_that_pass_messages(0);
}

/* ------------------------------------------------------------------ System calls */

#define LOAD(field)                                                                                \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
#define ALLOW(nr)                                                                                  \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/// From here on this process ends by SIGSYS at any system call but those that end it, say why, or
/// tell the time (where that is one). With `polls` looks at the readiness set are allowed. False:
/// the kernel will not do that.
static bool forbid_calls(bool polls)
{
    struct sock_filter filter[] = {
        LOAD(nr),
        ALLOW(SYS_exit_group),
        ALLOW(SYS_write),
        ALLOW(SYS_clock_gettime),
        ALLOW(polls ? SYS_epoll_pwait : SYS_exit_group),
#ifdef SYS_epoll_wait
        ALLOW(polls ? SYS_epoll_wait : SYS_exit_group),
#endif
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/// The program that was started again: it has no use for cmocka any more.
static _Noreturn void alone_failed(const char *what, int rc)
{
    char text[128];
    int len = snprintf(text, sizeof(text), "%s: %d\n", what, rc);

    (void)!write(STDERR_FILENO, text, len > 0 ? (size_t)len : 0);
    _exit(1);
}

#define ALONE(call)                                                                                \
    do {                                                                                           \
        int alone_rc_ = (call);                                                                    \
        if (alone_rc_ < 0) {                                                                       \
            alone_failed(#call, alone_rc_);                                                        \
        }                                                                                          \
    } while (0)

static void alone_forbid(bool polls)
{
    if (!forbid_calls(polls)) {
        _exit(EXIT_SKIP);
    }
}

static _Noreturn void alone_mailbox(void)
{
    sp_mailbox mb;

    ALONE(sp_mailbox_open(&mb, 8));
    for (int i = 0; i < MANY; i++) {
        sp_msg *m = NULL;

        if (i == FIRST) {
            alone_forbid(false);
        }
        ALONE(sp_msg_new(&m, 100));
        ALONE(sp_mailbox_post(mb, m, 0));
        ALONE(sp_mailbox_take(mb, &m, 0));
        sp_msg_release(m);
    }
    _exit(0);
}

/// Posts to an actor make no call; running it, a few looks at the readiness set.
static _Noreturn void alone_actors(void)
{
    unsigned long before;
    int drives = 0;

    sp__platform = &counting;
    counting = sp__platform_linux;
    counting.poller_wait = counting_wait;
    ring_start(MANY);
    while (atomic_load(&ring.passed) < FIRST) {
        ALONE(sp_run_once(0));
    }
    alone_forbid(true);
    before = atomic_load(&looks);
    for (; atomic_load(&ring.passed) < MANY; drives++) {
        ALONE(sp_run_once(0));
    }
    if (atomic_load(&looks) - before > MANY / FIRST + (unsigned long)drives) {
        alone_failed("looks", (int)(atomic_load(&looks) - before));
    }
    _exit(0);
}

static void alone(const char *what)
{
    const char *const argv[] = {"/proc/self/exe", what, NULL};
    struct proc p = {0};
    int code;

    sp_fini();
    if (SANITIZED || getenv("SP_TEST_EMULATOR") != NULL) {
        print_message("skipped: %s: sanitizers and emulators make system calls of their own\n",
                      what);
        skip();
    }
    assert_int_equal(proc_start(&p, argv), 0);
    code = proc_wait(&p, 60000);
    if (code == EXIT_SKIP) {
        print_message("skipped: %s: system calls cannot be forbidden here\n", what);
        proc_stop(&p);
        skip();
    } else if (code != 0) {
        print_error("%s ends with %d: %s\n", what, code, p.errors.len > 0 ? p.errors.data : "");
        fail();
    }
    proc_stop(&p);
}

static void a_post_that_need_not_wait_makes_no_system_call(void **state)
{
    (void)state;
    alone("mailbox");
}

static void messages_between_actors_make_no_system_call(void **state)
{
    (void)state;
    alone("actors");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_posts_ask_for_no_memory),
        cmocka_unit_test(posts_that_wait_ask_for_no_memory_either),
        cmocka_unit_test(a_million_messages_of_actors_ask_for_no_memory),
        cmocka_unit_test(a_post_that_need_not_wait_makes_no_system_call),
        cmocka_unit_test(messages_between_actors_make_no_system_call),
    };

    if (argc > 1) {
        check_init(0);
        if (strcmp(argv[1], "mailbox") == 0) {
            alone_mailbox();
        }
        alone_actors();
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
