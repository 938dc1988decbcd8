/* SPDX-License-Identifier: MIT */
/// Several threads do whatever the API allows to one set of sockets, over every transport. Nothing
/// may crash, hang, or give a code that is not documented; afterwards nothing is left.
/// SP_CHECK_SEED in the environment repeats a sequence (as far as threads do).
#include "check.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOCKETS 12
#define THREADS 4
#define CHAOS_MS 4000

static _Atomic uint64_t sockets[SOCKETS];
static _Atomic uint64_t endpoints[SOCKETS];
static char urls[SOCKETS][128];
static atomic_long strange; ///< results that are not documented
static atomic_int strange_op;
static atomic_int strange_rc;
static int64_t end_at;

struct thrower {
    uint64_t seed;
};

static unsigned dice(struct thrower *t, unsigned n)
{
    t->seed = t->seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(t->seed >> 33) % n;
}

static void expect(int op, long rc, const int *allowed)
{
    if (rc >= 0) {
        return;
    }
    for (; *allowed != 0; allowed++) {
        if (*allowed == rc) {
            return;
        }
    }
    strange++;
    strange_op = op;
    strange_rc = (int)rc;
}

static const int closed[] = {SP_ECLOSED, SP_EINVAL, 0};
static const int sending[] = {SP_ECLOSED, SP_EINVAL,    SP_ENOPEER, SP_EAGAIN,
                              SP_ESTATE,  SP_ETIMEDOUT, 0};
static const int receiving[] = {SP_ECLOSED,   SP_EINVAL,   SP_EAGAIN,   SP_ESTATE,
                                SP_ETIMEDOUT, SP_EMSGSIZE, -ECONNRESET, 0};
static const int listening[] = {SP_ECLOSED, SP_EINVAL, -EADDRINUSE, 0};
static const int dialling[] = {SP_ECLOSED, SP_EINVAL,   -ECONNREFUSED, -ENOENT,      SP_EPROTO,
                               SP_EPEERS,  -ECONNRESET, SP_ETIMEDOUT,  SP_ECANCELED, -EPIPE,
                               0};

static void chaos_open(struct thrower *t, unsigned i)
{
    static const char *const protocols[] = {"pair", "pair", "req", "rep", "pair1", "rep"};
    sp_socket s = {0};
    uint64_t old;
    int rc = sp_open(&s, protocols[dice(t, 6)]);

    expect(1, rc, closed);
    if (rc < 0) {
        return;
    }
    (void)!sp_set_int(s.id, "linger", dice(t, 3) * 10);
    (void)!sp_set_int(s.id, "send-timeout", 5);
    (void)!sp_set_int(s.id, "recv-timeout", 5);
    (void)!sp_set_int(s.id, "connect-timeout", 50);
    (void)!sp_set_int(s.id, "reconnect-time-min", 1);
    (void)!sp_set_int(s.id, "reconnect-time-max", 10);
    (void)!sp_set_int(s.id, "in-place", dice(t, 4) != 0);
    (void)!sp_set_int(s.id, "send-buffer", 1 + dice(t, 20));
    (void)!sp_set_int(s.id, "recv-buffer", dice(t, 20));
    old = atomic_exchange(&sockets[i], s.id);
    if (old != 0) {
        expect(2, sp_close((sp_socket){old}), closed);
    }
}

static int on_pipe(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg)
{
    unsigned what = (unsigned)(p.id >> 3) % 16;

    (void)arg;
    if (what == 1 && ev == SP_PIPE_ADDED) {
        (void)!sp_pipe_close(p);
    }
    if (what == 2) {
        (void)!sp_send(s, "from a callback", 15, 0);
    }
    return ev == SP_PIPE_ADDING && what == 3;
}

static void chaos_message(struct thrower *t, sp_socket s)
{
    static char body[70000];
    size_t len = dice(t, 20) == 0 ? dice(t, sizeof(body)) : dice(t, 200);
    int flags = dice(t, 2) == 0 ? SP_NONBLOCK : 0;
    sp_msg *m[4] = {NULL};
    int rc;

    switch (dice(t, 5)) {
    case 0:
        expect(10, sp_send(s, body, len, flags), sending);
        break;
    case 1: {
        char buf[100];

        expect(11, sp_recv(s, buf, sizeof(buf), flags), receiving);
        break;
    }
    case 2:
        rc = sp_recvmsgs(s, m, 4, flags);
        expect(12, rc, receiving);
        for (int k = 0; k < 4; k++) {
            if (m[k] != NULL && dice(t, 2) == 0 && sp_sendmsg(s, m[k], SP_NONBLOCK) == SP_OK) {
                continue;
            }
            sp_msg_release(m[k]);
        }
        break;
    case 3:
        for (int k = 0; k < 4; k++) {
            if (sp_msg_new(&m[k], dice(t, 300)) < 0) {
                m[k] = NULL;
            }
        }
        expect(13, sp_sendmsgs(s, m, 4, flags), sending);
        for (int k = 0; k < 4; k++) {
            sp_msg_release(m[k]);
        }
        break;
    default:
        for (int k = 0; k < 20; k++) {
            rc = (int)sp_recvmsg(s, &m[0], SP_NONBLOCK);
            if (rc < 0) {
                break;
            }
            sp_msg_release(m[0]);
        }
        break;
    }
}

static void chaos_endpoint(struct thrower *t, sp_socket s)
{
    unsigned at = dice(t, SOCKETS);
    const char *url = urls[dice(t, SOCKETS)];
    sp_listener l = {0};
    sp_dialer d = {0};

    switch (dice(t, 6)) {
    case 0:
    case 1:
        expect(20, sp_listen(s, url, &l), listening);
        atomic_store(&endpoints[at], l.id);
        break;
    case 2:
    case 3:
        expect(21, sp_dial(s, url, &d, SP_NONBLOCK), dialling);
        atomic_store(&endpoints[at], d.id);
        break;
    case 4:
        expect(22, sp_dial(s, url, &d, 0), dialling);
        break;
    default:
        expect(23, sp_dialer_close((sp_dialer){atomic_load(&endpoints[at])}), closed);
        expect(24, sp_listener_close((sp_listener){atomic_load(&endpoints[at])}), closed);
        break;
    }
}

static void chaos_look(struct thrower *t, sp_socket s)
{
    sp_peer_info info[4] = {{.size = sizeof(info[0])}};
    size_t n = 4;
    char *json = NULL;
    int64_t v;
    int rc;

    switch (dice(t, 6)) {
    case 0:
        rc = sp_stats(dice(t, 2) == 0 ? 0 : s.id, &json);
        expect(30, rc, closed);
        sp_free(rc == SP_OK ? json : NULL);
        break;
    case 1:
        expect(31, sp_on_pipe(s, dice(t, 3) == 0 ? NULL : on_pipe, NULL), closed);
        break;
    case 2:
        rc = sp_peers(s, info, &n);
        if (rc == SP_OK && n > 0) {
            expect(32, sp_pipe_close(info[dice(t, (unsigned)n)].pipe), closed);
        }
        break;
    case 3:
        expect(33, sp_get_int(s.id, "recv-next-size", &v), receiving);
        break;
    case 4:
        expect(34, sp_set_int(s.id, "recv-buffer", dice(t, 30)), closed);
        expect(35, sp_set_int(s.id, "send-buffer", dice(t, 30)), closed);
        break;
    default:
        expect(36, sp_set_str(s.id, "name", "chaos"), closed);
        break;
    }
}

static long chaos(void *arg)
{
    struct thrower *t = arg;
    long n = 0;

    while (check_now() < end_at) {
        unsigned i = dice(t, SOCKETS);
        sp_socket s = {atomic_load(&sockets[i])};
        unsigned what = dice(t, 100);

        if (what < 4) {
            chaos_open(t, i);
        } else if (what < 15) {
            chaos_endpoint(t, s);
        } else if (what < 25) {
            chaos_look(t, s);
        } else {
            chaos_message(t, s);
        }
        n++;
    }
    return n;
}

static void run(int threads)
{
    const char *forced = getenv("SP_CHECK_SEED");
    uint64_t seed = forced != NULL ? strtoull(forced, NULL, 0) : (uint64_t)check_now();
    struct thrower t[THREADS];
    struct check_call c[THREADS];
    int fds;

    check_init(threads);
    check_ok(sp_close(check_open("pair")));
    fds = check_fds();
    print_message("threads %d, seed %llu\n", threads, (unsigned long long)seed);
    for (int i = 0; i < SOCKETS; i++) {
        static const char *const forms[] = {"inproc://chaos-%d-%d", "ipc:///tmp/sp-chaos-%d-%d",
                                            "abstract://chaos-%d-%d"};

        (void)snprintf(urls[i], sizeof(urls[i]), forms[i % 3], (int)(seed & 0xFFFF), i);
        atomic_store(&sockets[i], 0);
        atomic_store(&endpoints[i], 0);
    }
    end_at = check_now() + CHAOS_MS;
    for (int i = 0; i < THREADS; i++) {
        t[i].seed = seed + (uint64_t)i * 7919;
        check_call_start(&c[i], chaos, &t[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        print_message("%ld calls\n", check_call_join(&c[i], CHAOS_MS + 20000));
    }
    print_message("strange: %ld, last: call %d gave %d\n", (long)strange, (int)strange_op,
                  (int)strange_rc);
    assert_int_equal(strange, 0);
    for (int i = 0; i < SOCKETS; i++) {
        uint64_t s = atomic_load(&sockets[i]);

        if (s != 0) {
            (void)!sp_close((sp_socket){s});
        }
    }
    check_until(check_stat(0, "runtime.objects") == 0);
    assert_int_equal(check_fds(), fds);
    check_fini();
}

static void chaos_with_threads(void **state)
{
    (void)state;
    run(2);
}

static void chaos_with_one_thread(void **state)
{
    (void)state;
    run(1);
}

static void chaos_driven(void **state)
{
    (void)state;
    run(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chaos_with_threads),
        cmocka_unit_test(chaos_with_one_thread),
        cmocka_unit_test(chaos_driven),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
