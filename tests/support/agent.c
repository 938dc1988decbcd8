/* SPDX-License-Identifier: MIT */
/// A host's process that does what the test tells it. Each line is a verb and its words; the answer
/// is a number, or "failed" and why.
#include "agent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGENT_OPTIONS 8
#define AGENT_WAIT (CHECK_SOON * 2) // ms

/// In the host's process.
struct agent {
    sp_socket s;
    size_t options;
    struct {
        char name[128];
        char value[128];
    } option[AGENT_OPTIONS]; ///< of endpoints
};

/* ------------------------------------------------------------------ On the host */

static int agent_option(uint64_t id, const char *name, const char *value)
{
    char *end = NULL;
    long long number = strtoll(value, &end, 10);

    if (strcmp(name, "subscribe") == 0) {
        return sp_set_bytes(id, name, value, strlen(value));
    }
    return *end == '\0' ? sp_set_int(id, name, number) : sp_set_str(id, name, value);
}

static long long agent_do_set(struct agent *a, const char *name, const char *value)
{
    if (strncmp(name, "ep:", 3) != 0) {
        return agent_option(a->s.id, name, value);
    }
    assert_in_range(a->options, 0, AGENT_OPTIONS - 1);
    (void)snprintf(a->option[a->options].name, sizeof(a->option[0].name), "%s", name + 3);
    (void)snprintf(a->option[a->options].value, sizeof(a->option[0].value), "%s", value);
    a->options++;
    return 0;
}

static long long agent_do_endpoint(const struct agent *a, bool listen, const char *url)
{
    sp_listener l = {0};
    sp_dialer d = {0};
    int rc = listen ? sp_listener_new(&l, a->s, url) : sp_dialer_new(&d, a->s, url);

    for (size_t i = 0; rc == SP_OK && i < a->options; i++) {
        rc = agent_option(listen ? l.id : d.id, a->option[i].name, a->option[i].value);
    }
    if (rc == SP_OK) {
        rc = listen ? sp_listener_start(l) : sp_dialer_start(d, SP_NONBLOCK);
    }
    return rc;
}

static void agent_fill(unsigned char *body, size_t len, unsigned number)
{
    for (size_t i = 0; i < len; i++) {
        body[i] = (unsigned char)(number * 31 + i + (i >> 8));
    }
    (void)snprintf((char *)body, 8, "%07u", number);
}

static long long agent_do_send(const struct agent *a, size_t len, unsigned number)
{
    unsigned char *body = malloc(len);
    int rc;

    assert_non_null(body);
    agent_fill(body, len, number);
    rc = sp_send(a->s, body, len, 0);
    free(body);
    return rc;
}

/// Its number, or an error; a body that is not as it was sent is SP_EPROTO, as is another length
/// than `want` (0: any).
static long long agent_do_recv(const struct agent *a, size_t want, int ms)
{
    sp_msg *m = NULL;
    unsigned char *body;
    unsigned number;
    size_t len;
    int rc;

    check_ok(sp_set_int(a->s.id, "recv-timeout", ms));
    rc = sp_recvmsg(a->s, &m, 0);
    if (rc < 0) {
        return rc;
    }
    len = sp_msg_len(m);
    body = malloc(len);
    assert_non_null(body);
    number = (unsigned)strtoul(sp_msg_view(m), NULL, 10);
    agent_fill(body, len, number);
    rc = memcmp(body, sp_msg_view(m), len) == 0 && (want == 0 || len == want) ? SP_OK : SP_EPROTO;
    free(body);
    sp_msg_release(m);
    return rc < 0 ? rc : (long long)number;
}

static long long agent_do(struct agent *a, const char *text)
{
    char verb[16] = "";
    char word[128] = "";
    char value[128] = "";

    (void)sscanf(text, "%15s %127s %127s", verb, word, value);
    if (strcmp(verb, "set") == 0) {
        return agent_do_set(a, word, value);
    }
    if (strcmp(verb, "listen") == 0 || strcmp(verb, "dial") == 0) {
        return agent_do_endpoint(a, verb[0] == 'l', word);
    }
    if (strcmp(verb, "send") == 0) {
        return agent_do_send(a, strtoul(word, NULL, 10), (unsigned)strtoul(value, NULL, 10));
    }
    if (strcmp(verb, "recv") == 0) {
        return agent_do_recv(a, strtoul(word, NULL, 10), (int)strtol(value, NULL, 10));
    }
    assert_string_equal(verb, "stat");
    return check_stat(a->s.id, word);
}

static void agent_run(struct netns_proc *test, const void *arg)
{
    struct agent a = {.options = 0};
    char text[NETNS_TEXT];

    check_init(2);
    a.s = check_open(arg);
    netns_say(test, "0");
    for (;;) {
        long long rc;

        netns_hear(test, text, CHECK_SOON * 12);
        if (strcmp(text, "end") == 0) {
            break;
        }
        rc = agent_do(&a, text);
        if (rc < 0 && rc != SP_ETIMEDOUT) {
            netns_say(test, "%lld %s: %s", rc, sp_strerror((int)rc), sp_error_detail());
        } else {
            netns_say(test, "%lld", rc);
        }
    }
    check_ok(sp_close(a.s));
    check_fini();
}

/* ------------------------------------------------------------------ In the test */

/// What the host answers; the test fails with what it says if that is below `least`.
__attribute__((format(printf, 3, 4))) static long long
agent_tell(struct netns_proc *p, long long least, const char *fmt, ...)
{
    char text[NETNS_TEXT];
    char answer[NETNS_TEXT];
    long long rc;
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    netns_say(p, "%s", text);
    netns_hear(p, answer, AGENT_WAIT);
    rc = strtoll(answer, NULL, 10);
    if (rc < least) {
        fail_msg("\"%s\": %s", text, answer);
    }
    return rc;
}

void agent_open(const struct netns *n, size_t host, struct netns_proc *p, const char *protocol)
{
    netns_fork(n, host, p, agent_run, protocol);
    netns_expect(p, "0");
}

void agent_set(struct netns_proc *p, const char *name, const char *value)
{
    (void)agent_tell(p, 0, "set %s %s", name, value);
}

void agent_listen(struct netns_proc *p, const char *url)
{
    (void)agent_tell(p, 0, "listen %s", url);
}

void agent_dial(struct netns_proc *p, const char *url)
{
    (void)agent_tell(p, 0, "dial %s", url);
}

void agent_send(struct netns_proc *p, size_t len, unsigned number)
{
    (void)agent_tell(p, 0, "send %zu %u", len, number);
}

void agent_recv(struct netns_proc *p, size_t len, unsigned number)
{
    assert_int_equal(agent_tell(p, 0, "recv %zu %d", len, CHECK_SOON), number);
}

int agent_recv_any(struct netns_proc *p, int ms)
{
    long long rc = agent_tell(p, SP_ETIMEDOUT, "recv 0 %d", ms);

    return rc == SP_ETIMEDOUT ? -1 : (int)rc;
}

void agent_send_until(struct netns_proc *p, size_t len, unsigned number, struct netns_proc *by)
{
    int64_t end = check_now() + CHECK_SOON;
    int got;

    do {
        if (check_now() >= end) {
            fail_msg("message %u does not arrive", number);
        }
        agent_send(p, len, number);
        while ((got = agent_recv_any(by, 100)) >= 0 && got != (int)number) {
        }
    } while (got < 0);
}

void agent_exchange(struct netns_proc *p, struct netns_proc *q, size_t len, unsigned number)
{
    agent_send(p, len, number);
    agent_recv(q, len, number);
    agent_send(q, len, number);
    agent_recv(p, len, number);
}

long long agent_stat(struct netns_proc *p, const char *path)
{
    return agent_tell(p, 0, "stat %s", path);
}

static void agent_stat_wait(struct netns_proc *p, const char *path, long long least, long long most)
{
    int64_t end = check_now() + CHECK_SOON * 2;
    long long now;

    while ((now = agent_stat(p, path)) < least || now > most) {
        if (check_now() >= end) {
            fail_msg("%s is %lld, not %lld", path, now, least);
        }
        check_pause();
    }
}

void agent_stat_is(struct netns_proc *p, const char *path, long long want)
{
    agent_stat_wait(p, path, want, want);
}

void agent_stat_least(struct netns_proc *p, const char *path, long long least)
{
    agent_stat_wait(p, path, least, INT64_MAX);
}

void agent_end(struct netns_proc *p)
{
    netns_say(p, "end");
    netns_join(p);
}

void agent_end_all(struct netns_proc *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i].pid != 0) {
            agent_end(&p[i]);
        }
    }
}

void agent_kill_all(struct netns_proc *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i].pid != 0) {
            netns_kill(&p[i]);
        }
    }
}
