/* SPDX-License-Identifier: MIT */
/// An echo server inside an epoll loop, without any thread of the library: the loop waits for
/// standard input, the server's socket, and the library itself, and drives it when there is
/// something to do. The end of standard input (Ctrl-D) ends it.
///
///     epoll_loop tcp://127.0.0.1:5555
///     sp cat --req --dial tcp://127.0.0.1:5555 --data hello --ascii
///
/// Build it with `cc epoll_loop.c $(pkg-config --cflags --libs sp)`.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <sp/sp.h>

enum { ON_INPUT, ON_REQUEST, ON_LIBRARY, ON_ALL };

/// Says what failed, with the chain of its causes, or the system's reason where the library has
/// none. Returns what main returns.
static int loop_fail(const char *what)
{
    const char *why = strerror(errno);

    if (sp_error_detail()[0] != '\0') {
        why = sp_error_detail();
    }
    (void)fprintf(stderr, "epoll_loop: %s: %s\n", what, why);
    return 1;
}

/// No threads: whatever the library does, it does in calls of this program.
static int loop_init(void)
{
    sp_config *cfg = NULL;
    int rc = sp_config_new(&cfg);

    rc = rc < 0 ? rc : sp_config_set_int(cfg, "threads", 0);
    rc = rc < 0 ? rc : sp_init(cfg);
    sp_config_free(cfg);
    return rc;
}

/// There is a request: the receive does not wait, and neither does the answer.
static int loop_answer(sp_socket s)
{
    sp_msg *m;
    int rc = sp_recvmsg(s, &m, SP_NONBLOCK);

    if (rc == SP_OK) {
        rc = sp_sendmsg(s, m, SP_NONBLOCK);
        if (rc < 0) {
            sp_msg_release(m); // Not sent: still ours.
        }
    }
    return rc == SP_EAGAIN ? SP_OK : rc;
}

static int loop_add(int loop, int fd, int what)
{
    struct epoll_event ev = {.events = EPOLLIN, .data = {.fd = what}};

    return fd < 0 ? fd : epoll_ctl(loop, EPOLL_CTL_ADD, fd, &ev);
}

static int loop_run(int loop, sp_socket s)
{
    for (;;) {
        struct epoll_event ev[ON_ALL];
        int n = epoll_wait(loop, ev, ON_ALL, -1);

        for (int i = 0; i < n; i++) {
            char line[256];

            if (ev[i].data.fd == ON_INPUT && read(STDIN_FILENO, line, sizeof(line)) <= 0) {
                return 0;
            }
            if (ev[i].data.fd == ON_REQUEST && loop_answer(s) < 0) {
                return loop_fail("answer");
            }
            if (ev[i].data.fd == ON_LIBRARY && sp_run_once(0) < 0) {
                return loop_fail("run");
            }
        }
    }
}

int main(int argc, char **argv)
{
    int loop = epoll_create1(EPOLL_CLOEXEC);
    sp_socket s;
    int rc;

    if (argc != 2 || loop < 0) {
        (void)fprintf(stderr, "usage: %s URL\n", argv[0]);
        return 2;
    }
    if (loop_init() < 0 || sp_open(&s, "rep") < 0 || sp_listen(s, argv[1], NULL) < 0) {
        return loop_fail(argv[1]);
    }
    // Input that cannot be waited for, such as /dev/null, is left out.
    if ((loop_add(loop, STDIN_FILENO, ON_INPUT) < 0 && errno != EPERM) ||
        loop_add(loop, sp_fd(s.id, SP_POLLIN), ON_REQUEST) < 0 ||
        loop_add(loop, sp_fd(0, SP_POLLIN), ON_LIBRARY) < 0) {
        return loop_fail("loop");
    }
    rc = loop_run(loop, s);
    (void)close(loop); // Before what is in it goes.
    (void)sp_close(s);
    sp_fini();
    return rc;
}
