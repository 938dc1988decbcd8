/* SPDX-License-Identifier: MIT */
/// A client that can be interrupted at any moment: it dials and asks inside a scope, which the
/// handler of Ctrl-C cancels (sp_scope_cancel is the one function that a signal handler may call).
/// Every call that waits ends then, and the program leaves by its own way, with nothing left
/// behind.
///
///     signal_client tcp://127.0.0.1:5555 hello 1000
///
/// asks with "hello" for at most 1000 ms and prints the answer. Build it with `cc signal_client.c
/// $(pkg-config --cflags --libs sp)`.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sp/sp.h>

static sp_scope scope;

static void on_signal(int sig)
{
    (void)sig;
    (void)sp_scope_cancel(scope);
}

/// Says what failed, with the chain of its causes. Returns what main returns.
static int client_fail(const char *what)
{
    (void)fprintf(stderr, "signal_client: %s: %s\n", what, sp_error_detail());
    return 1;
}

/// One question and its answer, as far as the scope allows.
static int client_ask(sp_socket s, const char *url, const char *question)
{
    sp_dialer d;
    sp_msg *m;

    if (sp_dialer_new(&d, s, url) < 0 || sp_dial_in(scope, d) < 0) {
        return client_fail("dial");
    }
    if (sp_msg_new(&m, strlen(question)) < 0) {
        return client_fail("message");
    }
    memcpy(sp_msg_data(m), question, strlen(question));
    if (sp_sendmsg_in(scope, s.id, m) < 0) {
        sp_msg_release(m); // It is still ours.
        return client_fail("send");
    }
    if (sp_recvmsg_in(scope, s.id, &m) < 0) {
        return client_fail("receive");
    }
    (void)printf("%.*s\n", (int)sp_msg_len(m), (const char *)sp_msg_view(m));
    sp_msg_release(m);
    return 0;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};
    sp_scope none = {0};
    sp_socket s;
    int code;

    if (argc != 4) {
        (void)fprintf(stderr, "usage: signal_client URL QUESTION MILLISECONDS\n");
        return 2;
    }
    if (sp_scope_open(&scope, none, (int)strtol(argv[3], NULL, 10)) < 0) {
        return client_fail("scope");
    }
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    if (sp_open(&s, "req") < 0) {
        return client_fail("socket");
    }
    code = client_ask(s, argv[1], argv[2]);
    (void)sp_close(s);
    (void)sp_scope_close(scope);
    sp_fini();
    return code;
}
