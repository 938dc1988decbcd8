/* SPDX-License-Identifier: MIT */
/// Socket files. [control]

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sp/sdk/cause.h>
#include <sp/sdk/sockfile.h>

/// How long to wait for other listeners that are taking over a file of the same directory.
#define LOCK_TRIES 100
#define LOCK_PAUSE_MS 2

static int path_bind(int fd, const struct sockaddr_un *addr)
{
    return bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 ? SP_OK : -errno;
}

/// Opens the directory of the path: readable if possible, since only then can it be locked.
static int path_open_dir(const struct sockaddr_un *addr, struct sp_sockfile *path, sp_cause *cause)
{
    char dir[sizeof(addr->sun_path) + 1] = ".";
    const char *slash = strrchr(addr->sun_path, '/');

    path->name = addr->sun_path;
    if (slash != NULL) {
        memcpy(dir, addr->sun_path, (size_t)(slash - addr->sun_path) + 1);
        dir[slash - addr->sun_path + 1] = '\0';
        path->name = slash + 1;
    }
    path->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (path->dir < 0 && errno == EACCES) {
        path->dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    return path->dir >= 0 ? SP_OK : sp_fail(cause, -errno, "bind: directory \"%s\"", dir);
}

/// Is a process bound to the socket at the path? Asked with a datagram socket: the system then says
/// "wrong type" for any stream socket that is bound, before it listens too, and the listener is not
/// bothered with a connection; a bound datagram socket says "connected", or, if it has a peer, "not
/// permitted", and notices neither. SP_OK: nobody is. -EADDRINUSE: somebody is, or it cannot be
/// known.
static int path_is_stale(const struct sockaddr_un *addr, sp_cause *cause)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int err = 0;

    if (fd < 0) {
        return sp_fail(cause, -errno, "socket");
    }
    if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0) {
        err = errno;
    }
    (void)close(fd);
    return err == ECONNREFUSED || err == ENOENT ? SP_OK : sp_fail(cause, -EADDRINUSE, "bind");
}

static int path_lock(int dir)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(dir, LOCK_EX | LOCK_NB) == 0) {
            return SP_OK;
        }
        if (errno != EWOULDBLOCK && errno != EINTR) {
            break;
        }
        (void)poll(NULL, 0, LOCK_PAUSE_MS);
    }
    return -EADDRINUSE;
}

/// May what stands at the path be taken away? SP_OK: it is a socket that nobody is bound to, or it
/// is gone already.
static int path_inspect(const struct sockaddr_un *addr, const struct sp_sockfile *path,
                        sp_cause *cause)
{
    struct stat st;

    if (fstatat(path->dir, path->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ? SP_OK : sp_fail(cause, -errno, "bind");
    }
    if (!S_ISSOCK(st.st_mode)) {
        return sp_fail(cause, -EADDRINUSE, "bind: \"%s\" is not a socket", addr->sun_path);
    }
    return path_is_stale(addr, cause);
}

/// Takes away what is stale, and binds. The caller holds the lock.
static int path_take_over(int fd, const struct sockaddr_un *addr, const struct sp_sockfile *path,
                          sp_cause *cause)
{
    int rc = path_inspect(addr, path, cause);

    if (rc < 0) {
        return rc;
    }
    if (unlinkat(path->dir, path->name, 0) < 0 && errno != ENOENT) {
        return sp_fail(cause, -errno, "bind: cannot remove the unused \"%s\"", addr->sun_path);
    }
    rc = path_bind(fd, addr);
    return rc < 0 ? sp_fail(cause, rc, "bind") : SP_OK;
}

/// Binds. See sp_sockfile_bind.
static int path_claim(int fd, const struct sockaddr_un *addr, const struct sp_sockfile *path,
                      sp_cause *cause)
{
    int rc = path_bind(fd, addr);

    if (rc != -EADDRINUSE) {
        return rc < 0 ? sp_fail(cause, rc, "bind") : SP_OK;
    }
    // Looked at first without the lock, so that the lock matters to those only who have something
    // to take over.
    rc = path_inspect(addr, path, cause);
    if (rc < 0) {
        return rc;
    }
    if (path_lock(path->dir) < 0) {
        return sp_fail(cause, -EADDRINUSE, "bind: cannot lock the directory of \"%s\"",
                       addr->sun_path);
    }
    rc = path_take_over(fd, addr, path, cause);
    (void)flock(path->dir, LOCK_UN);
    return rc;
}

/// The file is there: remembers which one it is and gives it exactly the bits that are asked for.
static int path_settle(struct sp_sockfile *path, mode_t mode, sp_cause *cause)
{
    struct stat st;

    if (fstatat(path->dir, path->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return sp_fail(cause, -errno, "bind");
    }
    path->dev = st.st_dev;
    path->ino = st.st_ino;
    // The bits came from the socket, less the process's umask: so until here there were at most too
    // few.
    if ((st.st_mode & 07777) != mode &&
        fchmodat(path->dir, path->name, mode, AT_SYMLINK_NOFOLLOW) < 0) {
        return sp_fail(cause, -errno, "permissions");
    }
    return SP_OK;
}

int sp_sockfile_bind(int fd, const struct sockaddr_un *addr, mode_t mode, struct sp_sockfile *path,
                     sp_cause *cause)
{
    int rc;

    path->dir = -1;
    rc = path_open_dir(addr, path, cause);
    // Linux creates the file with the bits of the socket: they are in force from the first moment
    // on.
    if (rc == SP_OK && fchmod(fd, mode) < 0) {
        rc = sp_fail(cause, -errno, "permissions");
    }
    if (rc == SP_OK) {
        rc = path_claim(fd, addr, path, cause);
    }
    if (rc == SP_OK) {
        rc = path_settle(path, mode, cause);
    }
    if (rc < 0) {
        sp_sockfile_remove(path);
    }
    return rc;
}

void sp_sockfile_remove(struct sp_sockfile *path)
{
    struct stat st;

    if (path->dir < 0) {
        return;
    }
    if (path->ino != 0 && fstatat(path->dir, path->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_dev == path->dev && st.st_ino == path->ino && S_ISSOCK(st.st_mode)) {
        (void)unlinkat(path->dir, path->name, 0);
    }
    (void)close(path->dir);
    path->dir = -1;
    path->ino = 0;
}
