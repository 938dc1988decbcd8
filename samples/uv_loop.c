/* SPDX-License-Identifier: MIT */
/// A client inside a libuv loop: every 100 ms it asks a question, and prints the answer when it
/// comes; after five it ends. The library has threads of its own here; the loop waits only for the
/// socket (epoll_loop.c shows how to do without them).
///
///     epoll_loop tcp://127.0.0.1:5555
///     uv_loop tcp://127.0.0.1:5555
///
/// Build it with `cc uv_loop.c $(pkg-config --cflags --libs sp libuv)`.
#include <stdio.h>

#include <uv.h>

#include <sp/sp.h>

#define QUESTIONS 5

struct client {
    sp_socket s;
    uv_poll_t readable;
    uv_timer_t timer;
    int asked;
    int answered;
    int rc; ///< what main returns
};

/// Ends the loop; says why, if something failed.
static void client_end(struct client *c, const char *failed)
{
    if (failed != NULL) {
        (void)fprintf(stderr, "uv_loop: %s: %s\n", failed, sp_error_detail());
        c->rc = 1;
    }
    uv_close((uv_handle_t *)&c->readable, NULL);
    uv_close((uv_handle_t *)&c->timer, NULL);
}

/// The next question, if the last one was answered. Without a peer it waits for the next time.
static void client_ask(uv_timer_t *timer)
{
    struct client *c = timer->data;
    char text[32];
    int n = snprintf(text, sizeof(text), "question %d", c->asked + 1);
    int rc;

    if (c->asked > c->answered) {
        return;
    }
    rc = sp_send(c->s, text, (size_t)n, SP_NONBLOCK);
    c->asked += rc == SP_OK;
    if (rc < 0 && rc != SP_ENOPEER && rc != SP_EAGAIN) {
        client_end(c, "ask");
    }
}

/// The socket is readable: a receive does not wait.
static void client_hear(uv_poll_t *readable, int status, int events)
{
    struct client *c = readable->data;
    char text[64];
    ssize_t n = sp_recv(c->s, text, sizeof(text), SP_NONBLOCK);

    (void)status;
    (void)events;
    if (n >= 0) {
        (void)printf("%.*s\n", (int)n, text);
        c->answered++;
    }
    if ((n < 0 && n != SP_EAGAIN) || c->answered == QUESTIONS) {
        client_end(c, n < 0 ? "answer" : NULL);
    }
}

int main(int argc, char **argv)
{
    struct client c = {.rc = 0};
    uv_loop_t *loop = uv_default_loop();
    int fd;

    if (argc != 2) {
        (void)fprintf(stderr, "usage: %s URL\n", argv[0]);
        return 2;
    }
    if (sp_open(&c.s, "req") < 0 || sp_dial(c.s, argv[1], NULL, SP_NONBLOCK) < 0 ||
        (fd = sp_fd(c.s.id, SP_POLLIN)) < 0) {
        (void)fprintf(stderr, "uv_loop: %s: %s\n", argv[1], sp_error_detail());
        return 1;
    }
    c.readable.data = &c;
    c.timer.data = &c;
    if (uv_poll_init(loop, &c.readable, fd) < 0 || uv_timer_init(loop, &c.timer) < 0 ||
        uv_poll_start(&c.readable, UV_READABLE, client_hear) < 0 ||
        uv_timer_start(&c.timer, client_ask, 0, 100) < 0) {
        (void)fprintf(stderr, "uv_loop: no loop\n");
        return 1;
    }
    (void)uv_run(loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(loop); // Nothing waits for the socket's descriptor any more.
    (void)sp_close(c.s);
    sp_fini();
    return c.rc;
}
