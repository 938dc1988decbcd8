/* SPDX-License-Identifier: MIT */
/// SP: the Scalability Protocols as a library. This is the header for applications; plugins include
/// <sp/plugin.h>.
///
/// Conventions that hold for every function here, unless its own text says otherwise:
/// - A function that can fail returns 0 or a count on success and a negative code (enum sp_error)
/// on failure; after a
///   failure sp_error_detail() of the same thread tells the whole chain of causes.
/// - Any thread may call it at any time, also for one and the same object. A handle that was closed
/// gives SP_ECLOSED, a
///   handle of the wrong kind (or 0) SP_EINVAL; neither is ever undefined behaviour.
/// - Functions marked "blocks" may not be called from a callback of the library (SP_ESTATE); in a
/// child after fork
///   without exec every function gives SP_ESTATE.
/// - C++ exceptions, longjmp and thread cancellation must not cross the library's frames.
#ifndef SP_SP_H
#define SP_SP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include <sp/batch.h>
#include <sp/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ Runtime */

/// Settings of the runtime, made by sp_config_new or sp_config_load, used by sp_init.
typedef struct sp_config sp_config;

/// Starts the runtime with the settings of `cfg` (NULL: the defaults). Only needed to change a
/// default: the first call of any other function starts it too. Copies `cfg`; it stays the
/// caller's. SP_ESTATE: already started. Does not block.
SP_NODISCARD SP_API int sp_init(const sp_config *cfg);

/// Makes a set of defaults. The caller frees it with sp_config_free. SP_ENOMEM.
SP_NODISCARD SP_API int sp_config_new(sp_config **cfg);

/// Reads settings from a JSON file: one object whose members have the names of sp_config_set_int
/// and _str. Errors name the file and the member: -ENOENT and other errno codes, SP_EINVAL,
/// SP_ENOMEM.
SP_NODISCARD SP_API int sp_config_load(sp_config **cfg, const char *json_path);

/// Whole-number settings: "threads" (0: the application drives, -1: automatic), "thread-stack"
/// (bytes), "spin-time" (µs that a waiting call, or a worker, looks before it sleeps; 0: never, -1:
/// adaptive), "watchdog-time" (ms after which a callback that has not returned is named in the log,
/// and a spare worker may take over; 0: never), "memory-max" (bytes, 0: no limit), "log-level"
/// (enum sp_log_level), "seed" (0: from the system), "plugins-off" (0 or 1), "plugin-sha256" (1:
/// load only files whose digest stands in FILE.sha256). SP_EINVAL: unknown name or value out of
/// range.
SP_NODISCARD SP_API int sp_config_set_int(sp_config *cfg, const char *name, int64_t value);

/// Text settings: "plugin-dirs" and "plugin-allow" (colon separated), "plugin-owners" (numeric user
/// ids, comma separated), "affinity" (CPU list such as "0-3,5"). Copies `value`. SP_EINVAL,
/// SP_ENOMEM.
SP_NODISCARD SP_API int sp_config_set_str(sp_config *cfg, const char *name, const char *value);

/// Frees settings. NULL is allowed.
SP_API void sp_config_free(sp_config *cfg);

/// Closes everything: all sockets linger in parallel, blocked calls return SP_ECLOSED, threads end.
/// Blocks for at most the longest linger. Afterwards the library can be used again. Not from a
/// callback (it then does nothing but log an error). When a process ends by exit or by the return
/// of main without it, its sockets linger all the same, so that what it sent has its time;
/// callbacks that do not return are not waited for then.
SP_API void sp_fini(void);

/// With "threads" = 0: runs what is due and waits at most `timeout_ms` (-1: for ever, 0: not at
/// all) for something to do. Returns the number of actors that ran. SP_ESTATE: the library has
/// threads of its own, or called from a callback. Blocks.
SP_NODISCARD SP_API int sp_run_once(int timeout_ms);

/// Loads one plugin file, given by a path. Afterwards its names can be used. SP_EABI with the
/// reason when it is refused.
SP_NODISCARD SP_API int sp_plugin_load(const char *path);

/// Lists plugins as JSON: `name` NULL: every candidate on the search path (which opens them); else
/// those that provide `name` or whose file is `name`, with all details. The caller frees `*json`
/// with sp_free. SP_ENOPLUGIN: nothing of that name.
SP_NODISCARD SP_API int sp_plugins(const char *name, char **json);

/// The version of the library, "MAJOR.MINOR.PATCH". A constant.
SP_API const char *sp_version(void);

/// Frees what the library handed out as text. NULL is allowed.
SP_API void sp_free(void *p);

/* ------------------------------------------------------------------ Sockets */

/// Flag of send, receive, post, take and dial: do not wait. It is the only one: with another bit
/// set they do nothing but give SP_EINVAL, and the detail names the bits.
#define SP_NONBLOCK 1

/// Opens a socket of a protocol: "req" "rep" "pub" "sub" "push" "pull" "surveyor" "respondent"
/// "bus" "pair" "pair1", or any that a plugin provides. SP_ENOPLUGIN with all paths tried; SP_EABI;
/// SP_ENOMEM; -EMFILE. Blocks only while it loads the plugin.
SP_NODISCARD SP_API int sp_open(sp_socket *s, const char *protocol);

/// The same in raw mode: headers pass through unchanged, no state is kept (for devices).
/// SP_ENOTSUP: the protocol has none.
SP_NODISCARD SP_API int sp_open_raw(sp_socket *s, const char *protocol);

/// Closes a socket with its endpoints and pipes: waits at most "linger" ms until what was accepted
/// is written; what is left is dropped and counted. Calls blocked on it return SP_ECLOSED. When it
/// returns, the socket's pipe function is not called any more: so do not hold a lock that this
/// function takes. From a callback it lingers in the background instead. Blocks.
SP_API int sp_close(sp_socket s);

/// Closes a socket as sp_close does, with a time of its own (ms; -1: for ever) in place of
/// "linger", and tells how it went: new sends are refused at once (SP_ECLOSED), what was accepted
/// is written. SP_ETIMEDOUT: not all of it was; `*undelivered` (may be NULL) is exactly how many
/// messages that is, 0 on success. The socket is closed in either case. SP_ESTATE: in a callback;
/// nothing was done. Blocks.
SP_NODISCARD SP_API int sp_drain(sp_socket s, int timeout_ms, uint64_t *undelivered);

/// Listens at a URL; `l` may be NULL. Port 0 chooses a free one ("bound-port", "url"). Errors:
/// SP_EINVAL (URL), SP_ENOPLUGIN, -EADDRINUSE, -EACCES and whatever else the system says. Nothing
/// is left after a failure. Not from a callback (SP_ESTATE).
SP_NODISCARD SP_API int sp_listen(sp_socket s, const char *url, sp_listener *l);

/// Dials a URL; `d` may be NULL. Without SP_NONBLOCK it blocks until connected, at most
/// "connect-timeout" ms; a refusal is returned at once, and after a failure nothing is left. With
/// SP_NONBLOCK it returns at once and connects in the background, again and again, until closed. A
/// connection that is lost later is dialled again in either case.
SP_NODISCARD SP_API int sp_dial(sp_socket s, const char *url, sp_dialer *d, int flags);

/// Make an endpoint without starting it, so that options can be set first; then start it. A
/// listener that failed to start and a dialer that failed to connect stay and may be started again.
/// SP_ESTATE: already started.
SP_NODISCARD SP_API int sp_listener_new(sp_listener *l, sp_socket s, const char *url);
SP_NODISCARD SP_API int sp_listener_start(sp_listener l);
SP_NODISCARD SP_API int sp_dialer_new(sp_dialer *d, sp_socket s, const char *url);
SP_NODISCARD SP_API int sp_dialer_start(sp_dialer d, int flags);

/// Close an endpoint and every pipe that it made. On return a listener's address is free again
/// (from a callback: soon after); the pipes are gone soon after.
SP_API int sp_listener_close(sp_listener l);
SP_API int sp_dialer_close(sp_dialer d);

/// Closes one connection; its dialer will make a new one. Does not block.
SP_API int sp_pipe_close(sp_pipe p);

/// The socket, dialer and listener of a pipe; an id of 0 where there is none (or the pipe is
/// closed).
SP_API sp_socket sp_pipe_socket(sp_pipe p);
SP_API sp_dialer sp_pipe_dialer(sp_pipe p);
SP_API sp_listener sp_pipe_listener(sp_pipe p);

/// Sends `len` bytes, copied. Blocks until there is room or "send-timeout" ms passed
/// (SP_ETIMEDOUT). With SP_NONBLOCK: no peer gives SP_ENOPEER, no room SP_EAGAIN. SP_ESTATE: the
/// protocol may not send now (a REP without a request). A message that follows the last one at once
/// may leave a moment after the return, together with others: when the thread waits for anything,
/// at the latest after about 0.2 ms.
SP_NODISCARD SP_API int sp_send(sp_socket s, const void *data, size_t len, int flags);

/// Receives a message into `buf` and returns its length. Blocks until there is one or
/// "recv-timeout" ms passed. A message longer than `cap` stays the next one: SP_EMSGSIZE, and its
/// size is in the option "recv-next-size".
SP_NODISCARD SP_API ssize_t sp_recv(sp_socket s, void *buf, size_t cap, int flags);

/// The same with messages. Send takes `m` over only when it returns 0; on an error it is still the
/// caller's, unchanged. Receive hands over `*m`, to be freed with sp_msg_release.
SP_NODISCARD SP_API int sp_sendmsg(sp_socket s, sp_msg *m, int flags);
SP_NODISCARD SP_API int sp_recvmsg(sp_socket s, sp_msg **m, int flags);

/// The same with many at once. Send takes a prefix and sets the taken entries NULL; both return how
/// many, at least 1, as soon as there is one, or an error.
SP_NODISCARD SP_API int sp_sendmsgs(sp_socket s, sp_msg **m, size_t n, int flags);
SP_NODISCARD SP_API int sp_recvmsgs(sp_socket s, sp_msg **m, size_t n, int flags);

/* ------------------------------------------------------------------ Contexts */

/// Opens a further context on a socket: with its own state of the protocol (a REQ's question, a
/// REP's request), so that any number of them can be under way at once on one socket. Contexts of
/// one REP share what comes in. A context begins with the socket's "recv-timeout" and
/// "send-timeout", and has its own from then on; the same holds for options that options.md lists
/// under contexts. It is closed with its socket. SP_ENOTSUP: the protocol has none (nor any raw
/// mode). Does not block.
SP_NODISCARD SP_API int sp_ctx_open(sp_ctx *c, sp_socket s);

/// Closes a context: calls and operations that wait in it end with SP_ECLOSED, its question is
/// forgotten, others are left alone. What it sent before is sent. Does not block.
SP_API int sp_ctx_close(sp_ctx c);

/// Send and receive as sp_sendmsg and sp_recvmsg. Block.
SP_NODISCARD SP_API int sp_ctx_sendmsg(sp_ctx c, sp_msg *m, int flags);
SP_NODISCARD SP_API int sp_ctx_recvmsg(sp_ctx c, sp_msg **m, int flags);

/* ------------------------------------------------------------------ Devices */

/// Forwards what each of two raw sockets receives to the other one, headers and all, until one of
/// them is closed (by sp_fini, too): then it returns 0. `a` and `b` talk to each other's kind:
/// "req" and "rep", "pub" and "sub", "push" and "pull", "surveyor" and "respondent", "bus" and
/// "bus", "pair" and "pair"; what a protocol does not send or receive is forwarded one way only.
/// With `a` == `b` it sends back on the socket what it receives there, if that talks to its own
/// kind.
///
/// It takes from a socket only what the other one has room for, so a slow receiver stops its
/// senders; each message is in the queues and statistics of one of the two at any time. Both
/// sockets stay open, and theirs who opened them. Meanwhile receiving from them by any other way
/// gives SP_ESTATE, also to those who wait; sending does not. A socket can be sent to by several
/// devices, and received from by one. The protocols' "ttl-max" ends what goes round in circles.
///
/// SP_EINVAL: a socket is not raw, or the two do not talk to each other. SP_ESTATE: one of them is
/// received from by a device, a mailbox or an actor already; in a callback. SP_ECLOSED: one is
/// closed already. SP_ENOMEM. Any thread. Blocks.
SP_NODISCARD SP_API int sp_device(sp_socket a, sp_socket b);

/* ------------------------------------------------------------------ Asynchronous operations */

/// One thing under way at a time: a send, receive, dial, device or sleep. It belongs to whoever
/// made it; any thread may call the functions below on it at any time, but for sp_op_free, which is
/// the last one.
typedef struct sp_op sp_op;

/// Makes an operation. `done` (NULL: none, it is only waited for) is called exactly once for every
/// start that returned 0: on a thread of the library (with "threads" = 0: in sp_run_once and in
/// blocking calls), with no lock held, never inside the call that started it. Inside it the
/// operation may be started again, stopped and freed; calls that block give SP_ESTATE. SP_ENOMEM.
SP_NODISCARD SP_API int sp_op_new(sp_op **op, void (*done)(sp_op *op, void *arg), void *arg);

/// Ends and frees it: what is under way is cancelled and waited for, its `done` too. Inside a
/// callback of the library it does not wait: what is under way ends later, and the memory goes with
/// it. A message that was not taken is released. NULL is allowed. Blocks.
SP_API void sp_op_free(sp_op *op);

/// Start it on a socket or a context (`id`: the handle's). 0: started; `done` will come, and the
/// message belongs to the operation. Otherwise nothing was started and the message is still the
/// caller's: SP_ESTATE: it is under way already; SP_ECANCELED: it was stopped, or its scope was
/// cancelled; SP_ETIMEDOUT: the scope's deadline passed; SP_EINVAL, SP_ECLOSED: the handle. Sends
/// of operations on one socket leave in the order in which they were started. Do not block.
SP_NODISCARD SP_API int sp_op_send(sp_op *op, uint64_t id, sp_msg *m);
SP_NODISCARD SP_API int sp_op_recv(sp_op *op, uint64_t id);

/// Starts a dialer, and is done when it is connected or its first attempt failed. As with
/// sp_dialer_start it may then be started again.
SP_NODISCARD SP_API int sp_op_dial(sp_op *op, sp_dialer d);

/// Runs a device as sp_device does, in the background: it is done, with the result 0, when a socket
/// is closed. Until then it takes no time, unless sp_op_deadline says so; ended by that, a cancel,
/// a stop, a free or its scope, it leaves both sockets as they are: what they received and was not
/// forwarded can be received. Fails as sp_device does, then nothing was started. Memory is taken
/// for each start, not for messages. Does not block.
SP_NODISCARD SP_API int sp_op_device(sp_op *op, sp_socket a, sp_socket b);

/// Is done, with the result 0, after `ms` milliseconds.
SP_NODISCARD SP_API int sp_op_sleep(sp_op *op, int ms);

/// How long each start from now on may take, ms (-1: for ever); after that it ends with
/// SP_ETIMEDOUT. When this was never called a send or receive takes the time-out of its socket or
/// context. Does not block, as the next two.
SP_API void sp_op_deadline(sp_op *op, int ms);

/// Starts from now on belong to a scope (id 0: to none). If it is closed already, they give
/// SP_ECLOSED.
SP_API void sp_op_scope(sp_op *op, sp_scope scope);

/// Ends what is under way with SP_ECANCELED, if it is not about to be done. SP_ESTATE: nothing is.
/// Does not wait.
SP_API int sp_op_cancel(sp_op *op);

/// The same, and it cannot be started any more.
SP_API int sp_op_stop(sp_op *op);

/// Waits until it is at rest: nothing under way, and `done` has returned, without having started it
/// again. Returns the result. Not in a callback (SP_ESTATE). Blocks.
SP_API int sp_op_wait(sp_op *op);

/// How the last start ended; SP_EAGAIN: it is under way, or was never started.
SP_API int sp_op_result(const sp_op *op);

/// Moves the message out that was received, or that a failed send gives back. NULL: there is none
/// (any more), or it is under way.
SP_API sp_msg *sp_op_msg(sp_op *op);

/* ------------------------------------------------------------------ Scopes */

/// Opens a scope: a deadline (`timeout_ms` from now, -1: none) and a way to cancel that are shared
/// by all calls and operations in it, and in the scopes below it. `parent` may be 0. SP_EINVAL: the
/// parent is no scope, or closed. Does not block.
SP_NODISCARD SP_API int sp_scope_open(sp_scope *scope, sp_scope parent, int timeout_ms);

/// Ends every call and operation in the scope, and in those below it, with SP_ECANCELED, now and
/// later. May be called in a signal handler (it is async-signal-safe, as no other function here).
/// SP_EINVAL, SP_ECLOSED; without error detail. Does not block.
SP_API int sp_scope_cancel(sp_scope scope);

/// Cancels and frees it. Scopes below it end with it, but are to be closed too. Does not block.
SP_API int sp_scope_close(sp_scope scope);

/// As sp_sendmsg, sp_recvmsg (on a socket or a context) and sp_dialer_start, at most until the
/// scope is over: SP_ECANCELED, SP_ETIMEDOUT. The object's own time-outs hold too. With a mailbox
/// they are sp_mailbox_post and sp_mailbox_take, with an actor sending is sp_actor_post. Block.
SP_NODISCARD SP_API int sp_sendmsg_in(sp_scope scope, uint64_t id, sp_msg *m);
SP_NODISCARD SP_API int sp_recvmsg_in(sp_scope scope, uint64_t id, sp_msg **m);
SP_NODISCARD SP_API int sp_dial_in(sp_scope scope, sp_dialer d);

/// As sp_poll, until something is ready or the scope is over: SP_ECANCELED, SP_ETIMEDOUT, never 0.
/// Blocks.
SP_NODISCARD SP_API int sp_poll_in(sp_scope scope, sp_pollitem *items, size_t n);

/* ------------------------------------------------------------------ Polling and foreign loops */

/// Waits until one of `n` items is ready, at most `timeout_ms` (-1: for ever, 0: not at all), and
/// says in each one's `revents` what holds. As poll(2): an item tells of its object as it is now,
/// whether or not anybody was told before, and any number of calls may wait for one object.
///
/// - `id` of a socket, context or mailbox. SP_POLLIN: a receive would not wait (of a REQ: the
///   answer is there; without a question it is not readable). SP_POLLOUT: a send would not wait (of
///   a REP: there is a request to answer). SP_POLLHUP: the handle is closed, before or while it
///   waits; calls on it give SP_ECLOSED. SP_POLLERR: no such handle, or of a kind that cannot be
///   polled. The last two come without being asked for, and alone, but for SP_POLLIN of a closed
///   mailbox in which messages are left.
/// - `id` 0: the descriptor `fd`, as poll(2) says: SP_POLLERR also when it is not open; a negative
///   one is passed over. It stays the caller's, and must stay open as long as the call waits.
///
/// What is ready for one may be gone when he takes it, if others take from there too: so take with
/// SP_NONBLOCK where there is more than one. Returns how many items are ready, 0: the time is over,
/// or SP_EINVAL: `items` is NULL, or more descriptors than the process may have; SP_ENOMEM;
/// -EMFILE: with descriptors, no eventfd for this thread (it is kept for the threads that follow
/// it); SP_ECLOSED: sp_fini was called meanwhile. With "threads" = 0 the call drives the library,
/// also with a time of 0. In a callback only with a time of 0, else SP_ESTATE. `items` is the
/// caller's, for one call at a time. Any thread. Blocks.
SP_NODISCARD SP_API int sp_poll(sp_pollitem *items, size_t n, int timeout_ms);

/// A descriptor for foreign loops (epoll, libuv, GLib, …) that polls readable exactly as long as
/// `event` holds: SP_POLLIN or SP_POLLOUT of a socket, context or mailbox as in sp_poll (for
/// SP_POLLOUT too, wait for it to be *readable*), or it is closed. Level-triggered: it says so from
/// before a message can be received until the last one was. It costs a system call each time that
/// changes. The same call gives the same descriptor again.
///
/// It belongs to the object and is closed with it: poll it, but never read, write or close it, and
/// take it out of the loop before closing the object. SP_EINVAL: another event, or what cannot be
/// polled; SP_ENOTSUP: the protocol never receives or never sends; SP_ECLOSED; SP_ENOMEM; -EMFILE.
///
/// With "threads" = 0, `id` 0 and SP_POLLIN: the library's own. It is readable as long as
/// sp_run_once has something to do, timers that are due included: a loop that waits for it, and
/// calls sp_run_once(0) when it is readable, drives the library, and never has to wake up for
/// anything else. It is closed by sp_fini. SP_ESTATE: the library has threads of its own. Any
/// thread. Does not block.
SP_NODISCARD SP_API int sp_fd(uint64_t id, int event);

/* ------------------------------------------------------------------ Mailboxes */

/// Opens a mailbox: a queue of at most `capacity` messages (at least 1) for any number of threads
/// and actors on both sides, first in, first out. SP_EINVAL, SP_ENOMEM. Does not block.
SP_NODISCARD SP_API int sp_mailbox_open(sp_mailbox *mb, size_t capacity);

/// Posts a message, waiting while the mailbox is full; who waits longest is served first. The
/// mailbox takes `m` over only when this returns 0; on an error it is still the caller's: SP_EFULL
/// (SP_NONBLOCK, or the option "send-timeout" is 0), SP_ETIMEDOUT ("send-timeout"), SP_ECLOSED.
/// Where it would have to wait in a callback: SP_ESTATE. In an actor that SP_EFULL is told of,
/// on_writable follows (SP_PORT_NONE). Blocks.
SP_NODISCARD SP_API int sp_mailbox_post(sp_mailbox mb, sp_msg *m, int flags);

/// Takes the oldest message, waiting while there is none; `*m` is the caller's. SP_EAGAIN
/// (SP_NONBLOCK, or "recv-timeout" is 0), SP_ETIMEDOUT ("recv-timeout"), SP_ECLOSED: closed, and
/// nothing is left; SP_ESTATE as above. Blocks.
SP_NODISCARD SP_API int sp_mailbox_take(sp_mailbox mb, sp_msg **m, int flags);

/// Closes a mailbox for posting: whoever waits returns SP_ECLOSED, posts give SP_ECLOSED from now
/// on, and sockets that are forwarded to it can be received from again. What is in it can still be
/// taken; with the last message the handle ends. Closing it again drops what is left (counted as
/// drops.closed), as sp_fini does. Does not block.
SP_API int sp_mailbox_close(sp_mailbox mb);

/// From now on what `from` receives goes to the mailbox, until either is closed. A full mailbox
/// stops the receiving, as if nobody received; nothing is lost. Several sockets may go to one
/// mailbox. Receiving from the socket by any other way then gives SP_ESTATE, also to those who
/// wait; contexts opened with sp_ctx_open are not concerned. Where an answer goes to the last
/// message received ("rep", "respondent"), forward a raw socket instead. SP_ESTATE: it is forwarded
/// or attached already; SP_ENOTSUP: its protocol only sends. Does not block.
SP_NODISCARD SP_API int sp_forward(sp_socket from, sp_mailbox to);

/* ------------------------------------------------------------------ Actors */

/// What an actor does: functions that are called one at a time, on changing threads of the library
/// (with "threads" = 0: in sp_run_once and in blocking calls), never inside another call of the
/// library, never under a lock. In them calls that would have to wait give SP_ESTATE, unless the
/// actor has a thread of its own (SP_ACTOR_DEDICATED). All but on_message may be NULL.
typedef struct sp_actor_ops {
    size_t size; ///< sizeof(sp_actor_ops), set by the caller
    /// First, and again after a failure. Negative: a failure; then fini is not called.
    int (*init)(sp_actor self, void *state);
    /// Messages came: those posted have port 0, those of a socket the port at which it is
    /// attached. Take them with sp_batch_pop, oldest first; what is taken is the actor's. What is
    /// left stays in the actor's queue, against its capacity, and is offered again with whatever
    /// happens next: messages, on_writable, a timer. Negative: a failure; the message that was
    /// taken last (it is still the actor's) counts as actor_failed; when none was taken, the first
    /// one is released and counts as that.
    int (*on_message)(sp_actor self, void *state, unsigned port, sp_batch *in);
    /// The socket attached at `port` may take messages again, after SP_EAGAIN or SP_ENOPEER; with
    /// SP_PORT_NONE: a mailbox or an actor may, after SP_EFULL. What is left is offered after it.
    void (*on_writable)(sp_actor self, void *state, unsigned port);
    /// A timer is due.
    void (*on_timer)(sp_actor self, void *state, uint64_t cookie);
    /// Last; after it `state` is not used any more. Also after a failure, before init.
    void (*fini)(sp_actor self, void *state);
} sp_actor_ops;

/// The port of on_writable when it is about a mailbox or an actor.
#define SP_PORT_NONE (~0U)

/// Flag of an actor: a thread of its own, on which it may call what blocks.
#define SP_ACTOR_DEDICATED 1U

typedef struct sp_actor_opts {
    size_t size;          ///< sizeof(sp_actor_opts), set by the caller
    size_t capacity;      ///< messages posted and not taken; 0: 256
    unsigned restart_max; ///< restarts within restart_ms, at most 10000; 0: a failure stops it
    unsigned restart_ms;  ///< 0: in its whole life
    unsigned flags;       ///< SP_ACTOR_…
} sp_actor_opts;

/// Starts an actor; `ops` is copied, `opts` may be NULL (all 0). init is called soon, not inside
/// this call. One that failed more often than its policy allows is stopped: that is logged and
/// counted, and its handle gives SP_ECLOSED. SP_EINVAL, SP_ENOMEM, SP_ENOTSUP: no thread for it
/// can be started; -EAGAIN. Does not block.
SP_NODISCARD SP_API int sp_actor_spawn(sp_actor *a, const sp_actor_ops *ops, void *state,
                                       const sp_actor_opts *opts);

/// Posts a message to an actor, in the order of the calls. It takes `m` over only when this returns
/// 0. While it is full a thread of the application waits, unless SP_NONBLOCK; in a callback, as in
/// another actor, it never waits: SP_EFULL, and on_writable follows (SP_PORT_NONE). SP_ECLOSED.
/// Blocks.
SP_NODISCARD SP_API int sp_actor_post(sp_actor a, sp_msg *m, int flags);

/// What a socket receives goes to on_message with this port number (any but SP_PORT_NONE), 64 at a
/// time, and only while nothing of it is left in the actor: so the socket's "recv-buffer" bounds
/// it. With "rep" and "respondent" one message at a time, to be answered inside on_message. The
/// actor sends on the socket with SP_NONBLOCK. A question of a "req" that ends without an answer is
/// not reported. Ends when either is closed. SP_ESTATE: it is attached or forwarded already, as
/// receiving from it otherwise is from now on. Does not block.
SP_NODISCARD SP_API int sp_actor_attach(sp_actor a, sp_socket s, unsigned port);

/// The opposite: from now on it can be received from otherwise. What the actor was given is still
/// offered to it. SP_ESTATE: it is not attached to this actor. Does not block.
SP_API int sp_actor_detach(sp_actor a, sp_socket s);

/// The actor whose function the calling thread is in; id 0: none.
SP_API sp_actor sp_actor_self(void);

/// Calls on_timer, once, after `ms` milliseconds. A timer of the same cookie that is not due yet is
/// replaced; `ms` -1 only cancels it. A failure cancels all. SP_ENOMEM, SP_ECLOSED. Does not block.
SP_NODISCARD SP_API int sp_actor_timer(sp_actor a, int ms, uint64_t cookie);

/// Stops an actor. What was posted before is offered to it once more; what is left then is dropped
/// and counted (drops.closed); then fini is called. When this returns outside callbacks, fini has
/// returned. In a callback it does not wait, so an actor may stop itself. SP_ECLOSED: it is stopped
/// already. Blocks.
SP_API int sp_actor_stop(sp_actor a);

/* ------------------------------------------------------------------ Options */

/// One family for every object (doc/prd/api/options.md lists them). Times are in ms (-1: for ever),
/// sizes in bytes; counts and booleans are integers too. SP_ENOTSUP: no such option here;
/// SP_EINVAL: wrong type or out of range; SP_ESTATE: too late (an endpoint that runs) or read only.
SP_NODISCARD SP_API int sp_set_int(uint64_t id, const char *name, int64_t value);
SP_NODISCARD SP_API int sp_get_int(uint64_t id, const char *name, int64_t *value);
SP_NODISCARD SP_API int sp_set_str(uint64_t id, const char *name, const char *value);
/// `*cap`: in, bytes of `buf`; out, bytes needed with the final NUL (SP_EMSGSIZE when it was too
/// small). `buf` may be NULL with `*cap` 0.
SP_NODISCARD SP_API int sp_get_str(uint64_t id, const char *name, char *buf, size_t *cap);
SP_NODISCARD SP_API int sp_set_bytes(uint64_t id, const char *name, const void *p, size_t n);
SP_NODISCARD SP_API int sp_get_bytes(uint64_t id, const char *name, void *buf, size_t *cap);

/* ------------------------------------------------------------------ Messages */

/// A message belongs to one thread at a time. `*m` gets a body of `len` bytes, not initialised.
/// SP_ENOMEM.
SP_NODISCARD SP_API int sp_msg_new(sp_msg **m, size_t len);

/// A message whose body is the caller's memory, not copied. `free_fn` (may be NULL) is called once
/// when the last reference goes, on any thread, also inside any call of this library: it must not
/// call this library, nor take a lock that is held around such calls. On failure (SP_ENOMEM) it is
/// not called.
SP_NODISCARD SP_API int sp_msg_wrap(sp_msg **m, void *buf, size_t len,
                                    void (*free_fn)(void *buf, void *arg), void *arg);

/// A message to be sent on `s`, in memory that its transport can share where it has such; else as
/// sp_msg_new.
SP_NODISCARD SP_API int sp_msg_loan(sp_msg **m, sp_socket s, size_t len);

/// A second message with its own header and the same body; a write to a shared body copies it
/// first. NULL: no memory.
SP_NODISCARD SP_API sp_msg *sp_msg_clone(sp_msg *m);

/// Gives a message back. NULL is allowed.
SP_API void sp_msg_release(sp_msg *m);

/// The body: to write (a shared one is copied first; NULL: no memory), to read (never copies), and
/// its length.
SP_API void *sp_msg_data(sp_msg *m);
SP_API const void *sp_msg_view(const sp_msg *m);
SP_API size_t sp_msg_len(const sp_msg *m);

/// Change the body at its end (append, chop), at its front (prepend, trim), or its length (resize:
/// new bytes are not initialised). SP_ENOMEM; SP_EINVAL: longer than the body. On failure the
/// message is unchanged.
SP_NODISCARD SP_API int sp_msg_append(sp_msg *m, const void *p, size_t n);
SP_NODISCARD SP_API int sp_msg_prepend(sp_msg *m, const void *p, size_t n);
SP_NODISCARD SP_API int sp_msg_trim(sp_msg *m, size_t n);
SP_NODISCARD SP_API int sp_msg_chop(sp_msg *m, size_t n);
SP_NODISCARD SP_API int sp_msg_resize(sp_msg *m, size_t n);

/// The protocol header, for raw sockets: at most SP_HEADER_MAX bytes. append: SP_EMSGSIZE; trim
/// (from its front): SP_EINVAL.
SP_API void *sp_msg_header(sp_msg *m);
SP_API size_t sp_msg_header_len(const sp_msg *m);
SP_NODISCARD SP_API int sp_msg_header_append(sp_msg *m, const void *p, size_t n);
SP_NODISCARD SP_API int sp_msg_header_trim(sp_msg *m, size_t n);

/// Where a message came from: the 31-bit id of the pipe (0: nowhere), which also chooses the peer
/// where a protocol lets the sender choose; the pipe's handle; and when it was received (SP_ESTATE:
/// it was not).
SP_API uint32_t sp_msg_peer(const sp_msg *m);
SP_API void sp_msg_set_peer(sp_msg *m, uint32_t peer);
SP_API sp_pipe sp_msg_pipe(const sp_msg *m);
SP_NODISCARD SP_API int sp_msg_time(const sp_msg *m, struct timespec *realtime);

/* ------------------------------------------------------------------ Events and statistics */

/// Calls `fn` on a library thread (with "threads" = 0: in sp_run_once and blocking calls) for each
/// pipe of `s`: adding (a non-zero return refuses the peer), added, removed. One function a socket;
/// NULL takes it away, and when this returns outside `fn` itself, `fn` is not running any more.
SP_NODISCARD SP_API int
sp_on_pipe(sp_socket s, int (*fn)(sp_socket s, sp_pipe p, sp_pipe_event ev, void *arg), void *arg);

/// The connected peers. `*n`: in, entries of `info` (set `size` of the first to sizeof); out, how
/// many peers there are. SP_EMSGSIZE: there were more than fit; the first ones are filled in.
SP_NODISCARD SP_API int sp_peers(sp_socket s, sp_peer_info *info, size_t *n);

/// Statistics of one object, or of everything (id 0), as a JSON tree; exact at rest. The caller
/// frees `*json` with sp_free.
SP_NODISCARD SP_API int sp_stats(uint64_t id, char **json);

/* ------------------------------------------------------------------ Errors and log */

/// A short text for a code; never NULL, a constant.
SP_API const char *sp_strerror(int err);
/// Which kind of failure a code is.
SP_API sp_errcategory sp_errcat(int err);
/// The calling thread's last failure as a chain, such as "dial tcp://127.0.0.1:1: connect:
/// Connection refused". Valid until the thread's next call; "" when there was none.
SP_API const char *sp_error_detail(void);

/// Sends log lines up to `level` to `fn` (NULL: standard error, the default, at SP_LOG_WARN). `fn`
/// runs on any thread and must not call this library.
SP_API void sp_log_set(sp_log_level level,
                       void (*fn)(sp_log_level level, const char *id, const char *msg, void *arg),
                       void *arg);

#ifdef __cplusplus
}
#endif

#endif
