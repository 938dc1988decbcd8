/* SPDX-License-Identifier: MIT */
/// Two sockets of one process talk over inproc: a question and its answer, on one thread. Build it
/// with `cc inproc_demo.c $(pkg-config --cflags --libs sp)`.
#include <stdio.h>
#include <string.h>

#include <sp/sp.h>

#define DEMO_URL "inproc://demo"

/// Says what failed, with the chain of its causes. Returns what main returns.
static int demo_fail(const char *what)
{
    (void)fprintf(stderr, "inproc_demo: %s: %s\n", what, sp_error_detail());
    return 1;
}

/// Sends `text` from one socket and receives it on the other.
static int demo_pass(sp_socket from, sp_socket to, const char *text)
{
    char buf[64];
    ssize_t n;

    if (sp_send(from, text, strlen(text), 0) < 0) {
        return demo_fail("send");
    }
    n = sp_recv(to, buf, sizeof(buf), 0);
    if (n < 0) {
        return demo_fail("receive");
    }
    (void)printf("%.*s\n", (int)n, buf);
    return 0;
}

int main(void)
{
    sp_socket req;
    sp_socket rep;
    int code;

    if (sp_open(&rep, "rep") < 0 || sp_listen(rep, DEMO_URL, NULL) < 0) {
        return demo_fail("rep");
    }
    if (sp_open(&req, "req") < 0 || sp_dial(req, DEMO_URL, NULL, 0) < 0) {
        return demo_fail("req");
    }
    code = demo_pass(req, rep, "question");
    if (code == 0) {
        code = demo_pass(rep, req, "answer");
    }
    (void)sp_close(req);
    (void)sp_close(rep);
    sp_fini();
    return code;
}
