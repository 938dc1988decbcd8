/* SPDX-License-Identifier: MIT */
/// Starting the command line peers.
#include "peer_cat.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PEER_SP_PATH SP_TEST_BUILD_DIR "/bin/sp"
#define PEER_WORDS 64
#define PEER_LINE 4096

const char *peer_name(enum peer_program which)
{
    static const char *const names[] = {"sp cat", "nngcat", "nanocat"};

    return names[which];
}

bool peer_exists(enum peer_program which)
{
    bool exists = which == PEER_SP ? access(PEER_SP_PATH, X_OK) == 0
                                   : proc_exists(peer_name(which));

    if (!exists) {
        (void)printf("skipped: there is no %s on this machine\n", peer_name(which));
    }
    return exists;
}

static int peer_start_words(struct proc *p, const char *const *first, const char *fmt, va_list ap)
{
    char line[PEER_LINE];
    const char *argv[PEER_WORDS + 1];
    size_t count = 0;
    char *rest = NULL;

    (void)vsnprintf(line, sizeof(line), fmt, ap);
    for (; *first != NULL; first++) {
        argv[count++] = *first;
    }
    for (char *word = strtok_r(line, " ", &rest); word != NULL && count < PEER_WORDS;
         word = strtok_r(NULL, " ", &rest)) {
        argv[count++] = word;
    }
    argv[count] = NULL;
    return proc_start(p, argv);
}

int peer_start(struct proc *p, enum peer_program which, const char *fmt, ...)
{
    const char *const own[] = {PEER_SP_PATH, "cat", NULL};
    const char *const other[] = {peer_name(which), NULL};
    va_list ap;
    int err;

    va_start(ap, fmt);
    err = peer_start_words(p, which == PEER_SP ? own : other, fmt, ap);
    va_end(ap);
    return err;
}

int peer_run_sp(struct proc *p, const char *fmt, ...)
{
    const char *const own[] = {PEER_SP_PATH, NULL};
    va_list ap;
    int err;

    va_start(ap, fmt);
    err = peer_start_words(p, own, fmt, ap);
    va_end(ap);
    if (err < 0) {
        return -1;
    }
    proc_close_input(p);
    return proc_wait(p, PROC_SOON);
}

void peer_environment(void)
{
    const char *options = getenv("TSAN_OPTIONS");
    char text[512];

    (void)setenv("SP_PLUGIN_PATH", SP_TEST_BUILD_DIR "/plugins:" SP_TEST_BUILD_DIR "/transports",
                 0);
    (void)snprintf(text, sizeof(text), "%s%satexit_sleep_ms=0", options != NULL ? options : "",
                   options != NULL ? ":" : "");
    (void)setenv("TSAN_OPTIONS", text, 1);
}
