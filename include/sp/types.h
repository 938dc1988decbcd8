/* SPDX-License-Identifier: MIT */
/// Types, codes and macros that applications and plugins share. No functions.
#ifndef SP_TYPES_H
#define SP_TYPES_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#ifndef SP_API
#define SP_API __attribute__((visibility("default")))
#endif
#define SP_NODISCARD __attribute__((warn_unused_result))

#ifdef __cplusplus
extern "C" {
#endif

/// A message: header, body, the peer it came from, the time of its receipt.
typedef struct sp_msg sp_msg;

/// Largest SP header, bytes: 15 hops and an id, a word each.
#define SP_HEADER_MAX 64

/// Handles. The id holds kind, generation and index; 0 is none.
typedef struct sp_socket {
    uint64_t id;
} sp_socket;
typedef struct sp_ctx {
    uint64_t id;
} sp_ctx;
typedef struct sp_dialer {
    uint64_t id;
} sp_dialer;
typedef struct sp_listener {
    uint64_t id;
} sp_listener;
typedef struct sp_pipe {
    uint64_t id;
} sp_pipe;
typedef struct sp_scope {
    uint64_t id;
} sp_scope;
typedef struct sp_mailbox {
    uint64_t id;
} sp_mailbox;
typedef struct sp_actor {
    uint64_t id;
} sp_actor;

/// Result codes. One that errno has equals its negative errno; ours are -10000 and below. Values
/// are frozen.
enum sp_error {
    SP_OK = 0,
    SP_EAGAIN = -EAGAIN,       ///< no room or nothing there now, and asked not to wait
    SP_EINVAL = -EINVAL,       ///< bad argument, or wrong kind of handle
    SP_ENOMEM = -ENOMEM,       ///< no memory
    SP_ETIMEDOUT = -ETIMEDOUT, ///< deadline passed
    SP_ECANCELED = -ECANCELED, ///< the operation or scope was cancelled
    SP_EPROTO = -EPROTO,       ///< the peer broke the protocol, or is of the wrong type
    SP_EMSGSIZE = -EMSGSIZE,   ///< larger than this transport, peer or buffer takes
    SP_ENOTSUP = -ENOTSUP,     ///< not supported here
    SP_ECLOSED = -10000,       ///< the object is closed, or was closed while waiting
    SP_ESTATE = -10001,        ///< not valid in the protocol's or thread's state
    SP_ENOPEER = -10002,       ///< no peer connected, and asked not to wait
    SP_EFULL = -10003,         ///< a mailbox or actor is full
    SP_EPEERS = -10004,        ///< too many peers
    SP_ENOPLUGIN = -10005,     ///< no plugin provides that name
    SP_EABI = -10006           ///< a plugin was found and refused
};

typedef enum sp_errcategory {
    SP_CAT_TRANSPORT,
    SP_CAT_PROTOCOL,
    SP_CAT_RESOURCE,
    SP_CAT_SHUTDOWN
} sp_errcategory;

typedef enum sp_log_level { SP_LOG_ERROR, SP_LOG_WARN, SP_LOG_INFO, SP_LOG_DEBUG } sp_log_level;

typedef enum sp_pipe_event { SP_PIPE_ADDING, SP_PIPE_ADDED, SP_PIPE_REMOVED } sp_pipe_event;

/// What can be polled for; the values are those of <poll.h>.
#define SP_POLLIN 1   ///< a receive would not wait
#define SP_POLLOUT 4  ///< a send would not wait
#define SP_POLLERR 8  ///< cannot be polled: no such handle or descriptor, or an error of that one
#define SP_POLLHUP 16 ///< it is closed; of a descriptor: the other end is

typedef struct sp_pollitem {
    uint64_t id;   ///< of a socket, context or mailbox; 0: `fd` is meant
    int fd;        ///< any descriptor that poll(2) takes; negative: nothing
    short events;  ///< what is asked for: SP_POLLIN, SP_POLLOUT
    short revents; ///< out: what of that holds; SP_POLLERR and SP_POLLHUP without being asked for
} sp_pollitem;

typedef struct sp_peer_info {
    size_t size; ///< sizeof(sp_peer_info), set by the caller
    sp_pipe pipe;
    uint32_t peer; ///< the pipe's 31-bit id, as in sp_msg_peer
    int64_t uid;   ///< -1: not known, as the two below
    int64_t gid;
    int64_t pid;
    char address[128]; ///< the remote address
} sp_peer_info;

#ifdef __cplusplus
}
#endif

#endif
