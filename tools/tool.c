/* SPDX-License-Identifier: MIT */
/// Messages, standard output, time, Ctrl-C and JSON for the sub-commands. The thread that waits for
/// signals owns nothing but the flag and the event descriptor that it sets.
#include "tool.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <sp/sp.h>

#define TOOL_LINE_MAX 4096
#define TOOL_SLEEP_MAX 3600000 // ms that one poll waits

/// The end by a signal. Set up once, before any other thread runs.
static struct {
    sigset_t signals;
    void (*fn)(void *arg);
    void *arg;
    int event;           ///< readable once the user asked to end
    atomic_bool stopped; ///< release by the signal thread, acquire by tool_stopped
} tool_stop = {.event = -1};

static const char *tool_name = "";

/* ------------------------------------------------------------------ Messages */

void tool_set_name(const char *name)
{
    tool_name = name;
}

/// Writes one line: whatever would break it or reach the terminal as a control character becomes a
/// space.
static void tool_line(const char *fmt, va_list ap, const char *end)
{
    char text[TOOL_LINE_MAX];
    int n = vsnprintf(text, sizeof(text), fmt, ap);

    for (char *p = text; n > 0 && *p != '\0'; p++) {
        if ((unsigned char)*p < ' ' || *p == '\x7f') {
            *p = ' ';
        }
    }
    (void)fflush(stdout);
    (void)fprintf(stderr, "sp%s%s: %s%s\n", tool_name[0] != '\0' ? " " : "", tool_name,
                  n >= 0 ? text : "?", end);
}

int tool_fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    tool_line(fmt, ap, "");
    va_end(ap);
    return TOOL_FAILED;
}

int tool_misuse(const char *fmt, ...)
{
    char end[64];
    va_list ap;

    (void)snprintf(end, sizeof(end), " (see sp %s%s--help)", tool_name,
                   tool_name[0] != '\0' ? " " : "");
    va_start(ap, fmt);
    tool_line(fmt, ap, end);
    va_end(ap);
    return TOOL_USAGE;
}

int tool_fail_sp(const char *what, int err)
{
    const char *detail = sp_error_detail();

    if (detail[0] == '\0') {
        return tool_fail("%s: %s", what, sp_strerror(err));
    }
    if (strncmp(detail, what, strlen(what)) == 0) {
        return tool_fail("%s", detail);
    }
    return tool_fail("%s: %s", what, detail);
}

int tool_flush(void)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0) {
        return TOOL_OK;
    }
    return tool_fail("standard output: %s", errno != 0 ? strerrordesc_np(errno) : "write failed");
}

/* ------------------------------------------------------------------ Time and Ctrl-C */

int64_t tool_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/// The signal thread.
static void *tool_wait_signal(void *unused)
{
    uint64_t one = 1;
    int signal_number = 0;

    (void)unused;
    (void)sigwait(&tool_stop.signals, &signal_number);
    atomic_store_explicit(&tool_stop.stopped, true, memory_order_release);
    if (write(tool_stop.event, &one, sizeof(one)) < 0) {
        _exit(128 + signal_number); // cannot happen: the counter is not full
    }
    tool_stop.fn(tool_stop.arg);
    (void)sigwait(&tool_stop.signals, &signal_number);
    _exit(128 + signal_number);
}

int tool_stop_watch(void (*fn)(void *arg), void *arg)
{
    static const int numbers[] = {SIGINT, SIGTERM};
    pthread_t thread;
    int err;

    (void)sigemptyset(&tool_stop.signals);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct sigaction old;

        // A shell starts what runs in the background with SIGINT ignored; that is to stay so.
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
            (void)sigaddset(&tool_stop.signals, numbers[i]);
        }
    }
    tool_stop.fn = fn;
    tool_stop.arg = arg;
    tool_stop.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (tool_stop.event < 0) {
        return tool_fail("eventfd: %s", strerrordesc_np(errno));
    }
    (void)pthread_sigmask(SIG_BLOCK, &tool_stop.signals, NULL);
    err = pthread_create(&thread, NULL, tool_wait_signal, NULL);
    if (err != 0) {
        return tool_fail("thread: %s", strerrordesc_np(err));
    }
    (void)pthread_detach(thread);
    return TOOL_OK;
}

bool tool_stopped(void)
{
    return atomic_load_explicit(&tool_stop.stopped, memory_order_acquire);
}

bool tool_sleep(int64_t ms)
{
    int64_t end = tool_now() + ms;
    struct pollfd item = {.fd = tool_stop.event, .events = POLLIN};

    for (int64_t left = ms; left > 0 && !tool_stopped(); left = end - tool_now()) {
        (void)poll(&item, 1, (int)(left < TOOL_SLEEP_MAX ? left : TOOL_SLEEP_MAX));
    }
    return !tool_stopped();
}

/* ------------------------------------------------------------------ JSON */

cJSON *tool_plugin_list(const char *name, int *err)
{
    char *text = NULL;
    cJSON *list;

    *err = sp_plugins(name, &text);
    if (*err < 0) {
        return NULL;
    }
    list = cJSON_Parse(text);
    sp_free(text);
    if (list == NULL) {
        *err = SP_ENOMEM;
    }
    return list;
}

int tool_print_plugin_list(const char *name)
{
    char *text = NULL;
    int err = sp_plugins(name, &text);

    if (err < 0) {
        return tool_fail_sp("plugin", err);
    }
    (void)puts(text);
    sp_free(text);
    return tool_flush();
}

const char *tool_text(const cJSON *object, const char *member, const char *other)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, member));

    return text != NULL ? text : other;
}

const char *tool_value(const cJSON *value, char *buf, size_t cap)
{
    const char *text = cJSON_GetStringValue(value);

    if (text != NULL) {
        (void)snprintf(buf, cap, "%s", text);
    } else if (value == NULL ||
               cJSON_PrintPreallocated((cJSON *)(uintptr_t)value, buf, (int)cap, 0) == 0) {
        (void)snprintf(buf, cap, "?");
    }
    return buf;
}

int tool_print_json(const cJSON *root)
{
    char *text = cJSON_Print(root);

    if (text == NULL) {
        return tool_fail("no memory");
    }
    (void)puts(text);
    cJSON_free(text);
    return tool_flush();
}
