/* SPDX-License-Identifier: MIT */
/// What tests of the library share: asserting with the error detail, waiting for a fact with a
/// deadline, statistics by path, threads that make one blocking call. Failures fail the test, so
/// all of it is for the test's own thread, unless a function says otherwise.
#ifndef SP_TEST_CHECK_H
#define SP_TEST_CHECK_H

#include <sp/sp.h>

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

/// The deadline of whatever should take no time, ms: only a failing test waits so long.
#define CHECK_SOON 10000

/// The call's result is what is wanted; else the test fails with both and the error detail.
#define check_rc(want, call) check_rc_at((want), (call), #call, __FILE__, __LINE__)
#define check_ok(call) check_rc(SP_OK, call)
/// The call fails so, and its detail is this text.
#define check_detail(want, text, call)                                                             \
    do {                                                                                           \
        check_rc(want, call);                                                                      \
        assert_string_equal(sp_error_detail(), text);                                              \
    } while (0)
void check_rc_at(long want, long got, const char *what, const char *file, int line);

/// Waits until the condition holds; fails after CHECK_SOON.
#define check_until(cond)                                                                          \
    do {                                                                                           \
        int64_t check_end_ = check_now() + CHECK_SOON;                                             \
        while (!(cond)) {                                                                          \
            check_wait_at(check_end_, #cond, __FILE__, __LINE__);                                  \
        }                                                                                          \
    } while (0)
/// Lets the library go on for a moment (with "threads" = 0 by driving it); fails after `end`.
void check_wait_at(int64_t end, const char *what, const char *file, int line);
/// The same without an end.
void check_pause(void);

/// ms, monotonic. [any]
int64_t check_now(void);

/// Starts the library anew with so many threads (-1: automatic). SP_CHECK_THREADS in the
/// environment overrides it, SP_CHECK_IN_PLACE=0 turns in-place off on sockets of check_open: the
/// same facts hold.
void check_init(int threads);
/// Ends it; afterwards no object and no message memory may be left.
void check_fini(void);

/// The same as set-up and tear-down of a test: with two threads of the library, or driven. The
/// facts of check_both hold with both.
int check_start_threads(void **state);
int check_start_driven(void **state);
int check_stop(void **state);
#define check_both(fn)                                                                             \
    {#fn, fn, check_start_threads, check_stop, NULL},                                              \
    {                                                                                              \
#fn "_driven", fn, check_start_driven, check_stop, NULL                                    \
    }

/// A number in the statistics of an object (0: everything), such as "tx_drops.closed",
/// "listeners[0].connect". Fails when there is none.
int64_t check_stat(uint64_t id, const char *path);
/// Waits until a number has a value, and fails with the whole tree.
#define check_stat_is(id, path, want) check_stat_is_at((id), (path), (want), __FILE__, __LINE__)
void check_stat_is_at(uint64_t id, const char *path, int64_t want, const char *file, int line);
/// Waits until both accounting equations hold (architecture, rule 9); fails with the whole tree.
#define check_rest(s) check_rest_at((s), __FILE__, __LINE__)
void check_rest_at(sp_socket s, const char *file, int line);

/// All transports that are there, a line each: tests that are for all of them go through this
/// table.
struct check_transport {
    const char *name;
    const char *url; ///< to listen at; a "*" stands for what nobody else uses
    bool lossy;      ///< what the receiver does not keep up with is lost
    size_t max;      ///< bytes of the largest message; 0: any
};
extern const struct check_transport check_transports[];
extern const size_t check_transport_count;
/// The line with this name.
const struct check_transport *check_transport(const char *name);

/// Whether this process may open raw sockets, for "rawip".
bool check_net_raw(void);

/// Sockets: open, with short reconnect times; a connected couple of protocols over a URL of a
/// transport of the table; what can be dialled to reach a listener.
sp_socket check_open(const char *protocol);
void check_url(const char *transport, char url[256]);
void check_listen(sp_socket s, const char *transport, char url[256], sp_listener *l);
void check_couple(const char *transport, const char *pa, const char *pb, sp_socket *a,
                  sp_socket *b);
/// Waits until a socket has so many pipes that are up.
#define check_pipes(s, n) check_stat_is((s).id, "pipes", (n))
/// Sends a text, receives exactly that text.
void check_send(sp_socket s, const char *text);
void check_recv(sp_socket s, const char *text);
/// The only pipe of a socket.
sp_pipe check_pipe(sp_socket s);

/// A thread that makes one call; its result and the time it took when it is joined, which fails
/// after `ms`.
struct check_call {
    long (*fn)(void *arg);
    void *arg;
    pthread_t thread;
    int ended; ///< atomic
    long rc;
    int64_t took; ///< ms
    char detail[256];
};
void check_call_start(struct check_call *c, long (*fn)(void *arg), void *arg);
long check_call_join(struct check_call *c, int ms);
/// Whether it returned within `ms`; it is still to be joined.
bool check_call_ended(struct check_call *c, int ms);

/// Open descriptors, threads of this process.
int check_fds(void);
int check_threads(void);

/// A plain TCP connection to a URL tcp://127.0.0.1:PORT, that said it is protocol `own` and was
/// told who the peer is (`peer` 0: no hellos at all).
int check_raw_dial(const char *url, uint16_t own, uint16_t peer);
/// Waits for the peer's close. False: it sent something, or CHECK_SOON passed.
bool check_raw_closed(int fd);

#endif
