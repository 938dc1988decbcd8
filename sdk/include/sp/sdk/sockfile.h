/* SPDX-License-Identifier: MIT */
/// The kit of socket files: binds a socket to a path and takes the file away again, by the rules of
/// sp_sockfile_bind.
#ifndef SP_SDK_SOCKFILE_H
#define SP_SDK_SOCKFILE_H

#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>

#include <sp/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

/// A socket file that we made. Zeroed and with dir = -1 before its first use.
struct sp_sockfile {
    int dir; ///< its directory, so that a later chdir or rename of a parent does not matter
    const char *name; ///< in that directory
    dev_t dev;
    ino_t ino;
};

/// [control] Binds `fd`, a new socket (stream or datagram), to the path in `addr`, with the
/// permission bits `mode` in force before anybody can reach it. What is guaranteed:
///   - What stands at the path and is not a socket (a file, a symbolic link, …) is refused and left
///     alone: -EADDRINUSE.
///   - A socket to which any process is bound, listening or not yet, is never removed: -EADDRINUSE.
///   - A socket file that nobody is bound to is removed and replaced. Of several listeners of this
///     library that find it at once, one gets the path and the others -EADDRINUSE: they take turns
///     by a lock on the directory, and whoever held it last is bound when the next one looks. No
///     lock is needed to bind where there is no file: bind itself is atomic.
///   - If the directory cannot be locked (no right to read it, a file system without locks, a lock
///     held by something else), a stale file is not removed: -EADDRINUSE says so.
///   - Programs that do not take the lock and remove files unseen can still get in the way.
int sp_sockfile_bind(int fd, const struct sockaddr_un *addr, mode_t mode, struct sp_sockfile *path,
                     sp_cause *cause);

/// [io] Removes the file, if it is still the one that was made. To be called while the socket is
/// open: as long as it is, nobody takes the file for stale and puts another one there.
void sp_sockfile_remove(struct sp_sockfile *path);

#ifdef __cplusplus
}
#endif

#endif
