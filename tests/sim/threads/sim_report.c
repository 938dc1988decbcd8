/* SPDX-License-Identifier: MIT */
/// What is said of a run that failed: what each thread does, and the last steps.
#include "sim_turns.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static const char *const way_names[SIM_WAYS] = {"walk", "rank", "stall"};

static void report_thread(const struct sim_thread *t)
{
    (void)fprintf(stderr, "  %-12s ", t->name);
    if (t->state == SIM_OVER) {
        (void)fprintf(stderr, "is over\n");
        return;
    }
    if (t->state == SIM_BLOCKED) {
        (void)fprintf(stderr, "waits (%s", t->why);
        if (t->deadline != SP__NEVER) {
            (void)fprintf(stderr, ", until %+" PRId64 " us", (t->deadline - sim.now) / 1000);
        }
        (void)fprintf(stderr, ") after %s:%d", t->file, t->line);
    } else {
        (void)fprintf(stderr, "%s at %s:%d", t == sim.current ? "runs" : "can run", t->file,
                      t->line);
    }
    for (unsigned i = 0; i < t->holds; i++) {
        (void)fprintf(stderr, ", holds a lock of %s:%d", t->held[i].file, t->held[i].line);
    }
    (void)fprintf(stderr, "\n");
}

static void report(void)
{
    (void)fprintf(stderr, "step %" PRIu64 ", %" PRId64 " us, way: %s. Threads:\n", sim.step,
                  sim.now / 1000, way_names[sim.way]);
    for (unsigned i = 0; i < sim.n; i++) {
        report_thread(&sim.thread[i]);
    }
    (void)fprintf(stderr, "The last steps:\n");
    for (uint64_t i = sim.step > SIM_TRAIL ? sim.step - SIM_TRAIL + 1 : 1; i <= sim.step; i++) {
        (void)fprintf(stderr, "  %-12s %s:%d\n", sim.trail[i % SIM_TRAIL].thread->name,
                      sim.trail[i % SIM_TRAIL].file, sim.trail[i % SIM_TRAIL].line);
    }
}

void sim_fail(const char *fmt, ...)
{
    va_list ap;

    (void)fprintf(stderr, "simulation: ");
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fprintf(stderr, "\n");
    if (sim.active) {
        report();
    }
    if (sim.on_fail != NULL) {
        sim.on_fail();
    }
    _exit(SIM_FAILED);
}

void sim_on_fail(void (*fn)(void))
{
    sim.on_fail = fn;
}
