/* SPDX-License-Identifier: MIT */
/// What `sp perf` prints: text or JSON.
#include "perf.h"

#include "tool.h"

#include <stdio.h>
#include <stdlib.h>

static int perf_compare(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return (x > y) - (x < y);
}

static double perf_quantile(const struct perf_result *r, size_t percent)
{
    return (double)r->us[(r->samples - 1) * percent / 100];
}

/// A figure without digits that mean nothing.
static void perf_add(cJSON *o, const char *name, double value)
{
    (void)cJSON_AddNumberToObject(o, name, (double)(int64_t)(value * 1000 + 0.5) / 1000);
}

/// Whether the other end is another process.
static bool perf_apart(const struct perf_config *cfg)
{
    return cfg->dial != NULL || cfg->listen != NULL;
}

/// How many messages or round trips a figure is about: of a one-way measurement what came.
static double perf_done(const struct perf_config *cfg, const struct perf_result *r)
{
    return cfg->thr && r->us == NULL ? (double)r->received : (double)cfg->count;
}

static int perf_print_json(const struct perf_config *cfg, const char *url, struct perf_result *r)
{
    cJSON *o = cJSON_CreateObject();
    double n = perf_done(cfg, r);
    double each = n > 0 ? n : 1;
    int code;

    (void)cJSON_AddStringToObject(o, "what", cfg->thr ? "thr" : "lat");
    (void)cJSON_AddStringToObject(o, "protocol", cfg->protocol);
    (void)cJSON_AddStringToObject(o, "url", url);
    (void)cJSON_AddBoolToObject(o, "two_processes", perf_apart(cfg));
    (void)cJSON_AddNumberToObject(o, "size", (double)cfg->size);
    (void)cJSON_AddNumberToObject(o, "count", (double)cfg->count);
    (void)cJSON_AddNumberToObject(o, "batch", (double)cfg->batch);
    if (cfg->thr && r->us == NULL) {
        (void)cJSON_AddNumberToObject(o, "sent", (double)cfg->count);
        (void)cJSON_AddNumberToObject(o, "received", n);
        (void)cJSON_AddNumberToObject(o, "lost", (double)cfg->count - n);
    }
    (void)cJSON_AddNumberToObject(o, "seconds", r->seconds);
    perf_add(o, "rate", n / r->seconds);
    perf_add(o, "bytes_rate", n / r->seconds * (double)cfg->size);
    if (r->samples > 0) {
        perf_add(o, "min_us", perf_quantile(r, 0));
        perf_add(o, "median_us", perf_quantile(r, 50));
        perf_add(o, "p99_us", perf_quantile(r, 99));
        perf_add(o, "max_us", perf_quantile(r, 100));
    }
    perf_add(o, "cpu_us", r->cpu * 1e6 / each);
    perf_add(o, "switches", (double)r->switches / each);
    code = tool_print_json(o);
    cJSON_Delete(o);
    return code;
}

int perf_print(const struct perf_config *cfg, const char *url, struct perf_result *r)
{
    double n = perf_done(cfg, r);
    double each = n > 0 ? n : 1;

    if (r->seconds <= 0) {
        r->seconds = 1e-9;
    }
    if (r->samples > 0) {
        qsort(r->us, r->samples, sizeof(*r->us), perf_compare);
    }
    if (cfg->json) {
        return perf_print_json(cfg, url, r);
    }
    (void)printf("%s %s, %lld bytes, %lld %s in %.3f s\n", cfg->protocol, url, (long long)cfg->size,
                 (long long)n, r->samples > 0 ? "round trips" : "messages", r->seconds);
    if (r->samples > 0) {
        (void)printf("  median    %.2f us\n  p99       %.2f us\n  least     %.2f us\n"
                     "  most      %.2f us\n",
                     perf_quantile(r, 50), perf_quantile(r, 99), perf_quantile(r, 0),
                     perf_quantile(r, 100));
    }
    if (cfg->thr && r->us == NULL) {
        (void)printf("  sent      %lld\n  lost      %lld (%.2f %%)\n", (long long)cfg->count,
                     (long long)cfg->count - r->received,
                     100.0 * (double)(cfg->count - r->received) / (double)cfg->count);
    }
    (void)printf("  rate      %.0f a second\n  bytes     %.2f MB/s\n", n / r->seconds,
                 n / r->seconds * (double)cfg->size / 1e6);
    (void)printf("  CPU       %.2f us each%s\n  switches  %.3f each\n", r->cpu * 1e6 / each,
                 perf_apart(cfg) ? " in this process" : "", (double)r->switches / each);
    return tool_flush();
}
