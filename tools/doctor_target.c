/* SPDX-License-Identifier: MIT */
/// What `sp doctor` finds about one URL, name or file. It opens sockets, dials and listens, each
/// for a short time. [main thread]
#include "doctor.h"
#include "tool.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOCTOR_DIAL_MS 2000
#define DOCTOR_SCHEME 64
#define DOCTOR_DETAIL 512

/// The socket that may be blocked now. Written by the main thread, read by the signal thread.
static _Atomic(uint64_t) doctor_socket_id;

void doctor_stop(void *unused)
{
    sp_socket s = {.id = atomic_load_explicit(&doctor_socket_id, memory_order_acquire)};

    (void)unused;
    (void)sp_close(s);
}

const char *doctor_hint(int err, bool listens)
{
    switch (err) {
    case -ECONNREFUSED:
        return "nobody listens there: start the other side, or look at the address again";
    case -ENOENT:
        return listens ? "the directory of the socket file does not exist"
                       : "there is no such socket file: nobody listens there, or the path differs";
    case SP_ETIMEDOUT:
        return "no answer: wrong address, a firewall, or a peer that does not speak SP";
    case SP_EPROTO:
        return "somebody answers, but not as an SP peer of this protocol";
    case -EADDRINUSE:
        return "somebody else listens there";
    case -EADDRNOTAVAIL:
        return "that is not an address of this machine";
    case -EACCES:
        return listens ? "this user may not: a port below 1024, or a directory without permission"
                       : "this user may not: see the socket file's owner and mode";
    case -EPERM:
        return "this user may not: a capability is missing";
    case -ENETUNREACH:
    case -EHOSTUNREACH:
        return "no route to that address";
    case SP_ENOPLUGIN:
        return "see the search path above";
    default:
        return NULL;
    }
}

/* ------------------------------------------------------------------ Sockets for trying */

/// The n-th protocol that can be opened; NULL: there are not so many.
static const char *doctor_protocol(const struct doctor *d, int n)
{
    const cJSON *plugin;
    const cJSON *e;

    cJSON_ArrayForEach(plugin, d->plugins)
    {
        const char *state = tool_text(plugin, "state", "");

        if (strcmp(state, "available") != 0 && strcmp(state, "loaded") != 0) {
            continue;
        }
        cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(plugin, "exports"))
        {
            if (strcmp(tool_text(e, "kind", ""), "protocol") == 0 && n-- == 0) {
                return tool_text(e, "name", "");
            }
        }
    }
    return NULL;
}

/// A socket with short waits, which Ctrl-C closes.
static int doctor_open(sp_socket *s, const char *protocol)
{
    int err = sp_open(s, protocol);

    if (err < 0) {
        return err;
    }
    atomic_store_explicit(&doctor_socket_id, s->id, memory_order_release);
    err = sp_set_int(s->id, "connect-timeout", DOCTOR_DIAL_MS);
    if (err >= 0) {
        err = sp_set_int(s->id, "linger", 0);
    }
    if (err < 0) {
        (void)sp_close(*s);
    }
    return err;
}

/// Dials once and hangs up; on failure `detail` says why.
static int doctor_dial(const char *url, const char *protocol, char *detail, size_t cap)
{
    sp_socket s = {0};
    int err = doctor_open(&s, protocol);

    if (err >= 0) {
        err = sp_dial(s, url, NULL, 0);
    }
    if (err < 0) {
        (void)snprintf(detail, cap, "%s", sp_error_detail());
    }
    (void)sp_close(s);
    return err;
}

/// Dials with one protocol after the other until the peer takes one: NULL, with `*err` and
/// `detail`, if it takes none.
static const char *doctor_dial_any(const struct doctor *d, const char *url, int *err, char *detail,
                                   size_t cap)
{
    const char *protocol;

    *err = SP_EPROTO;
    for (int n = 0; (protocol = doctor_protocol(d, n)) != NULL && !tool_stopped(); n++) {
        *err = doctor_dial(url, protocol, detail, cap);
        if (*err >= 0) {
            return protocol;
        }
        if (*err != SP_EPROTO) {
            return NULL;
        }
    }
    return NULL;
}

/* ------------------------------------------------------------------ URLs */

/// Says what the URL of a scheme looks like.
static void doctor_url_form(const char *scheme, char *buf, size_t cap)
{
    int err;
    cJSON *list = tool_plugin_list(scheme, &err);
    const cJSON *plugin;
    const cJSON *e;

    buf[0] = '\0';
    cJSON_ArrayForEach(plugin, list)
    {
        cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(plugin, "exports"))
        {
            const char *form = tool_text(e, "url_form", "");

            if (strcmp(tool_text(e, "name", ""), scheme) == 0 && form[0] != '\0') {
                (void)snprintf(buf, cap, "the form is %s", form);
            }
        }
    }
    cJSON_Delete(list);
}

/// What is wrong, without the action and the URL, which the finding names already.
static const char *doctor_cause(const char *detail, const char *url)
{
    const char *at = strstr(detail, url);

    return at != NULL && strncmp(at + strlen(url), ": ", 2) == 0 ? at + strlen(url) + 2 : detail;
}

/// Makes an endpoint without starting it: that loads the transport and reads the URL.
static bool doctor_parse(struct doctor *d, const char *url, const char *scheme,
                         const char *protocol)
{
    char detail[DOCTOR_DETAIL];
    char form[256];
    sp_socket s;
    sp_dialer dialer;
    int err = doctor_open(&s, protocol);

    if (err < 0) {
        doctor_add(d, DOCTOR_FAIL, protocol, NULL, "%s", sp_error_detail());
        return false;
    }
    err = sp_dialer_new(&dialer, s, url);
    if (err == SP_ENOPLUGIN || err == SP_EABI) {
        doctor_add(d, DOCTOR_FAIL, "transport", doctor_hint(err, false), "%s",
                   doctor_cause(sp_error_detail(), url));
    } else if (err < 0) {
        doctor_add(d, DOCTOR_OK, "transport", NULL, "%s is loaded", scheme);
        (void)snprintf(detail, sizeof(detail), "%s", doctor_cause(sp_error_detail(), url));
        doctor_url_form(scheme, form, sizeof(form));
        doctor_add(d, DOCTOR_FAIL, "URL", form, "%s", detail);
    } else {
        doctor_add(d, DOCTOR_OK, "transport", NULL, "%s is loaded", scheme);
        doctor_add(d, DOCTOR_OK, "URL", NULL, "well formed");
    }
    (void)sp_close(s);
    return err >= 0;
}

/// Does somebody answer there?
static bool doctor_try_dial(struct doctor *d, const char *url)
{
    char detail[DOCTOR_DETAIL];
    int err;
    const char *protocol = doctor_dial_any(d, url, &err, detail, sizeof(detail));

    if (protocol != NULL) {
        doctor_add(d, DOCTOR_OK, "dial", NULL, "connected as %s", protocol);
        return true;
    }
    doctor_add(d, DOCTOR_FAIL, "dial", doctor_hint(err, false), "%s", doctor_cause(detail, url));
    return false;
}

/// Could one listen there, and connect to that from here?
static void doctor_try_listen(struct doctor *d, const char *url, const char *protocol)
{
    char detail[DOCTOR_DETAIL];
    char bound[256];
    size_t cap = sizeof(bound);
    sp_listener l;
    sp_socket s = {0};
    int err = doctor_open(&s, protocol);

    if (err >= 0) {
        err = sp_listen(s, url, &l);
    }
    if (err == -EADDRNOTAVAIL) {
        doctor_add(d, DOCTOR_OK, "listen", NULL, "not tried: %s", doctor_hint(err, true));
    } else if (err < 0) {
        doctor_add(d, DOCTOR_FAIL, "listen", doctor_hint(err, true), "%s",
                   doctor_cause(sp_error_detail(), url));
    } else {
        if (sp_get_str(l.id, "url", bound, &cap) < 0) {
            (void)snprintf(bound, sizeof(bound), "%s", url);
        }
        if (doctor_dial_any(d, bound, &err, detail, sizeof(detail)) != NULL) {
            doctor_add(d, DOCTOR_OK, "listen", NULL, "works here, and so does connecting to it");
        } else {
            doctor_add(d, DOCTOR_FAIL, "listen", NULL, "works here, but then: %s", detail);
        }
    }
    (void)sp_close(s);
}

static void doctor_url(struct doctor *d, const char *url, const char *scheme)
{
    const char *protocol = doctor_protocol(d, 0);

    if (protocol == NULL) {
        doctor_add(d, DOCTOR_FAIL, "dial", "see the search path above",
                   "not tried: there is no protocol to dial with");
        return;
    }
    if (strcmp(scheme, "rawip") == 0 && !doctor_has_net_raw()) {
        doctor_add(d, DOCTOR_FAIL, "CAP_NET_RAW",
                   "run as root, give the capability (setcap cap_net_raw+ep), or use udp://",
                   "not there");
        return;
    }
    if (!doctor_parse(d, url, scheme, protocol)) {
        return;
    }
    if (strcmp(scheme, "inproc") == 0) {
        doctor_add(d, DOCTOR_OK, "dial", NULL, "not tried: inproc reaches only its own process");
        doctor_try_listen(d, url, protocol);
    } else if (strstr(url, "://*:") != NULL) {
        doctor_add(d, DOCTOR_OK, "dial", NULL, "not tried: only a listener can be at any address");
        doctor_try_listen(d, url, protocol);
    } else if (!doctor_try_dial(d, url) && !tool_stopped()) {
        doctor_try_listen(d, url, protocol);
    }
}

/* ------------------------------------------------------------------ Names and files */

static void doctor_name(struct doctor *d, const char *name)
{
    int err;
    cJSON *list = tool_plugin_list(name, &err);
    const cJSON *plugin;

    if (list == NULL) {
        doctor_add(d, DOCTOR_FAIL, "plugin", doctor_hint(err, false), "%s", sp_error_detail());
        return;
    }
    cJSON_ArrayForEach(plugin, list)
    {
        const char *state = tool_text(plugin, "state", "?");
        const char *reason = tool_text(plugin, "reason", "");
        bool refused = strcmp(state, "refused") == 0;

        doctor_add(d, refused ? DOCTOR_FAIL : DOCTOR_OK, tool_text(plugin, "file", "?"), NULL,
                   "%s%s%s", state, reason[0] != '\0' ? ": " : "", reason);
    }
    cJSON_Delete(list);
}

static void doctor_file(struct doctor *d, const char *path)
{
    int err = sp_plugin_load(path);

    if (err < 0) {
        doctor_add(d, DOCTOR_FAIL, "load", NULL, "%s", sp_error_detail());
    } else {
        doctor_add(d, DOCTOR_OK, "load", NULL, "works");
    }
}

void doctor_target(struct doctor *d, const char *target)
{
    const char *colon = strstr(target, "://");
    char scheme[DOCTOR_SCHEME];

    if (colon != NULL) {
        (void)snprintf(scheme, sizeof(scheme), "%.*s", (int)(colon - target), target);
        doctor_url(d, target, scheme);
    } else if (strchr(target, '/') != NULL) {
        doctor_file(d, target);
    } else {
        doctor_name(d, target);
    }
}
