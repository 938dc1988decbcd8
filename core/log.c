/* SPDX-License-Identifier: MIT */
/// Log lines. The level is looked at first, without a lock; the function and its argument change
/// under one. [any]
#include "log.h"

#include <sp/sp.h>

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static struct {
    pthread_mutex_t lock;
    _Atomic int level;
    void (*fn)(sp_log_level level, const char *id, const char *msg, void *arg);
    void *arg;
} logger = {.lock = PTHREAD_MUTEX_INITIALIZER, .level = SP_LOG_WARN};

void sp__log(sp_log_level level, const char *id, const char *text)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    void (*fn)(sp_log_level, const char *, const char *, void *);
    void *arg;

    if ((int)level < 0 || (int)level > atomic_load_explicit(&logger.level, memory_order_relaxed)) {
        return;
    }
    (void)pthread_mutex_lock(&logger.lock);
    fn = logger.fn;
    arg = logger.arg;
    (void)pthread_mutex_unlock(&logger.lock);
    if (fn != NULL) {
        fn(level, id, text, arg);
    } else {
        (void)fprintf(stderr, "sp: %s: %s: %s\n", level <= SP_LOG_DEBUG ? names[level] : "debug",
                      id, text);
    }
}

void sp__logf(sp_log_level level, const char *id, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    if ((int)level > atomic_load_explicit(&logger.level, memory_order_relaxed)) {
        return;
    }
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    sp__log(level, id, text);
}

void sp__log_level(sp_log_level level)
{
    atomic_store_explicit(&logger.level, (int)level, memory_order_relaxed);
}

void sp_log_set(sp_log_level level,
                void (*fn)(sp_log_level level, const char *id, const char *msg, void *arg),
                void *arg)
{
    (void)pthread_mutex_lock(&logger.lock);
    logger.fn = fn;
    logger.arg = arg;
    (void)pthread_mutex_unlock(&logger.lock);
    sp__log_level(level);
}
