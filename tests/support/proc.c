/* SPDX-License-Identifier: MIT */
/// Other programs in tests. One poll loop reads both outputs and notices the end.
#include "proc.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROC_RUNNING 64
#define PROC_WORDS 80     // of a program and its emulator
#define PROC_LOOK_AGAIN 5 // ms between two looks at what cannot be polled

extern char **environ;

/// Programs that run: a test that fails leaves some behind, which must not outlive the test
/// program.
static pid_t proc_running[PROC_RUNNING];

long long proc_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ------------------------------------------------------------------ Start and end */

static void proc_close(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

static void proc_kill_running(void)
{
    for (size_t i = 0; i < PROC_RUNNING; i++) {
        if (proc_running[i] > 0) {
            (void)kill(proc_running[i], SIGKILL);
        }
    }
}

/// Replaces one process id (0: none) by another.
static void proc_note(pid_t old, pid_t new)
{
    static bool ready;
    size_t i = 0;

    if (!ready) {
        ready = atexit(proc_kill_running) == 0;
    }
    while (i < PROC_RUNNING && proc_running[i] != old) {
        i++;
    }
    if (i < PROC_RUNNING) {
        proc_running[i] = new;
    }
}

/// `argv` as it is, or of a cross build: with the emulator before the first word that is a program
/// of this build.
static const char *const *proc_emulate(const char *const argv[], const char *words[PROC_WORDS])
{
    static const char own[] = SP_TEST_BUILD_DIR "/";
    const char *emulator = getenv("SP_TEST_EMULATOR");
    size_t n = 0;

    if (emulator == NULL) {
        return argv;
    }
    for (; *argv != NULL && n < PROC_WORDS - 2; argv++) {
        if (emulator != NULL && strncmp(*argv, own, sizeof(own) - 1) == 0) {
            words[n++] = emulator;
            emulator = NULL;
        }
        words[n++] = *argv;
    }
    words[n] = NULL;
    return words;
}

/// The child's end of a pipe becomes its descriptor `as`.
static int proc_spawn(struct proc *p, const char *const argv[], const int ends[3])
{
    const char *words[PROC_WORDS];
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none;
    sigset_t defaults;
    int err;

    (void)sigemptyset(&none);
    (void)sigemptyset(&defaults);
    (void)sigaddset(&defaults, SIGPIPE);
    (void)sigaddset(&defaults, SIGINT);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setsigdefault(&attr, &defaults);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    for (int as = 0; as < 3; as++) {
        (void)posix_spawn_file_actions_adddup2(&actions, ends[as], as);
    }
    argv = proc_emulate(argv, words);
    err = posix_spawnp(&p->pid, argv[0], &actions, &attr, (char **)(size_t)argv, environ);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    return -err;
}

int proc_start(struct proc *p, const char *const argv[])
{
    int pipes[3][2];
    int ends[3];
    int err;

    memset(p, 0, sizeof(*p));
    p->started = true;
    p->in = p->out = p->err = p->code = -1;
    (void)signal(SIGPIPE, SIG_IGN); // a peer that is gone is an error of write
    for (int i = 0; i < 3; i++) {
        if (pipe2(pipes[i], O_CLOEXEC) < 0) {
            return -errno; // the test ends: what was opened goes with it
        }
        ends[i] = pipes[i][i == 0 ? 0 : 1];
    }
    err = proc_spawn(p, argv, ends);
    for (int i = 0; i < 3; i++) {
        (void)close(ends[i]);
    }
    p->in = pipes[0][1];
    p->out = pipes[1][0];
    p->err = pipes[2][0];
    if (err < 0) {
        p->pid = 0;
        proc_stop(p);
    } else {
        proc_note(0, p->pid);
    }
    return err;
}

void proc_signal(const struct proc *p, int signal_number)
{
    if (p->pid > 0) {
        (void)kill(p->pid, signal_number);
    }
}

static bool proc_reap(struct proc *p, int flags)
{
    int status;

    if (p->pid > 0 && waitpid(p->pid, &status, flags) == p->pid) {
        p->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        proc_note(p->pid, 0);
        p->pid = 0;
    }
    return p->pid == 0;
}

void proc_stop(struct proc *p)
{
    if (!p->started) {
        return;
    }
    if (p->pid > 0) {
        (void)kill(p->pid, SIGKILL);
        (void)proc_reap(p, 0);
    }
    proc_close(&p->in);
    proc_close(&p->out);
    proc_close(&p->err);
    free(p->output.data);
    free(p->errors.data);
    memset(p, 0, sizeof(*p));
}

bool proc_exists(const char *program)
{
    const char *path = getenv("PATH");

    while (path != NULL && *path != '\0') {
        size_t n = strcspn(path, ":");
        char file[4096];

        (void)snprintf(file, sizeof(file), "%.*s/%s", (int)n, path, program);
        if (access(file, X_OK) == 0) {
            return true;
        }
        path += n;
        path += *path == ':' ? 1 : 0;
    }
    return false;
}

/* ------------------------------------------------------------------ Input and output */

int proc_write(struct proc *p, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t n = write(p->in, at, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

void proc_close_input(struct proc *p)
{
    proc_close(&p->in);
}

static void proc_read(int *fd, struct proc_bytes *bytes)
{
    char buf[65536];
    ssize_t n = read(*fd, buf, sizeof(buf));
    char *grown;

    if (n < 0 && errno == EINTR) {
        return;
    }
    if (n <= 0) {
        proc_close(fd);
        return;
    }
    grown = realloc(bytes->data, bytes->len + (size_t)n + 1);
    if (grown == NULL) {
        abort();
    }
    memcpy(grown + bytes->len, buf, (size_t)n);
    bytes->data = grown;
    bytes->len += (size_t)n;
    grown[bytes->len] = '\0';
}

/// Reads what comes within `ms`.
static void proc_pump(struct proc *p, int ms)
{
    struct pollfd items[2] = {{.fd = p->out, .events = POLLIN}, {.fd = p->err, .events = POLLIN}};

    (void)poll(items, 2, ms);
    if (items[0].revents != 0) {
        proc_read(&p->out, &p->output);
    }
    if (items[1].revents != 0) {
        proc_read(&p->err, &p->errors);
    }
}

static int proc_left(long long end)
{
    long long left = end - proc_now();

    return left > 0 ? (int)left : 0;
}

int proc_wait(struct proc *p, int ms)
{
    long long end = proc_now() + ms;

    while ((p->out >= 0 || p->err >= 0) && proc_left(end) > 0) {
        proc_pump(p, proc_left(end));
    }
    while (!proc_reap(p, WNOHANG) && proc_left(end) > 0) {
        (void)poll(NULL, 0, PROC_LOOK_AGAIN);
    }
    return p->code;
}

bool proc_wait_output(struct proc *p, size_t len, int ms)
{
    long long end = proc_now() + ms;

    while (p->output.len < len && p->out >= 0 && proc_left(end) > 0) {
        proc_pump(p, proc_left(end));
    }
    return p->output.len >= len;
}

static bool proc_wait_in(struct proc *p, const struct proc_bytes *bytes, const int *fd,
                         const char *text, int ms)
{
    long long end = proc_now() + ms;

    for (;;) {
        if (bytes->data != NULL && memmem(bytes->data, bytes->len, text, strlen(text)) != NULL) {
            return true;
        }
        if (*fd < 0 || proc_left(end) == 0) {
            return false;
        }
        proc_pump(p, proc_left(end));
    }
}

bool proc_wait_text(struct proc *p, const char *text, int ms)
{
    return proc_wait_in(p, &p->output, &p->out, text, ms);
}

bool proc_wait_error(struct proc *p, const char *text, int ms)
{
    return proc_wait_in(p, &p->errors, &p->err, text, ms);
}

/* ------------------------------------------------------------------ Places */

int proc_free_port(void)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6};
    struct sockaddr_in a4 = {.sin_family = AF_INET};
    socklen_t n = sizeof(a);
    int port = -1;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    // One that is free for both families; without IPv6, for IPv4.
    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 &&
        getsockname(fd, (struct sockaddr *)&a, &n) == 0) {
        port = ntohs(a.sin6_port);
    }
    proc_close(&fd);
    if (port >= 0) {
        return port;
    }
    n = sizeof(a4);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&a4, sizeof(a4)) == 0 &&
        getsockname(fd, (struct sockaddr *)&a4, &n) == 0) {
        port = ntohs(a4.sin_port);
    }
    proc_close(&fd);
    return port;
}

/// Looks for a listening socket in a table of the kernel; `fits` says whether a line is it.
static bool proc_table_has(const char *table, bool (*fits)(const char *line, const void *what),
                           const void *what)
{
    FILE *f = fopen(table, "re");
    char line[1024];
    bool found = false;

    while (!found && f != NULL && fgets(line, sizeof(line), f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        found = fits(line, what);
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return found;
}

/// "sl: LOCAL:PORT REMOTE:PORT STATE …", the state 0A for listening.
static bool proc_is_port(const char *line, const void *what)
{
    unsigned port = 0;
    unsigned state = 0;

    return sscanf(line, " %*[^:]: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x", &port, &state) == 2 &&
           port == *(const unsigned *)what && state == 0x0A;
}

/// "NUM: REFCOUNT PROTOCOL FLAGS TYPE STATE INODE PATH", the flag 0x10000 for listening.
static bool proc_is_path(const char *line, const void *what)
{
    unsigned flags = 0;
    int at = 0;

    return sscanf(line, "%*x: %*x %*x %x %*x %*x %*u %n", &flags, &at) == 1 && at > 0 &&
           (flags & 0x10000) != 0 && strcmp(line + at, what) == 0;
}

bool proc_wait_port(int port, int ms)
{
    long long end = proc_now() + ms;
    unsigned wanted = (unsigned)port;

    while (!proc_table_has("/proc/net/tcp", proc_is_port, &wanted) &&
           !proc_table_has("/proc/net/tcp6", proc_is_port, &wanted)) {
        if (proc_left(end) == 0) {
            return false;
        }
        (void)poll(NULL, 0, PROC_LOOK_AGAIN);
    }
    return true;
}

bool proc_wait_path(const char *path, int ms)
{
    long long end = proc_now() + ms;

    while (!proc_table_has("/proc/net/unix", proc_is_path, path)) {
        if (proc_left(end) == 0) {
            return false;
        }
        (void)poll(NULL, 0, PROC_LOOK_AGAIN);
    }
    return true;
}

char *proc_mkdir(void)
{
    char *path = strdup("/tmp/sp-test-XXXXXX");

    if (path == NULL || mkdtemp(path) == NULL) {
        abort();
    }
    return path;
}

void proc_rmdir(char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    (void)rmdir(path);
    free(path);
}
