/* SPDX-License-Identifier: MIT */
/// `sp cat`: sends and receives on any protocol and transport. Sets up the socket and its
/// endpoints; the command line is in cat_args.c, what follows in cat_loop.c. [main thread]
#include "cat.h"
#include "tool.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAT_READ_STEP 65536

/// The socket that Ctrl-C closes. Written before the first call that can block, read by the signal
/// thread.
static _Atomic(uint64_t) cat_socket_id;

static void cat_on_stop(void *unused)
{
    sp_socket s = {.id = atomic_load_explicit(&cat_socket_id, memory_order_acquire)};

    (void)unused;
    (void)sp_close(s);
}

/* ------------------------------------------------------------------ Data */

/// All of `f`, as the data to send.
static int cat_read_all(struct cat_config *cfg, FILE *f)
{
    size_t cap = 0;

    for (;;) {
        char *grown;

        if (cfg->data_len == cap) {
            cap = cap == 0 ? CAT_READ_STEP : cap * 2;
            grown = realloc(cfg->data, cap);
            if (grown == NULL) {
                return tool_fail("no memory");
            }
            cfg->data = grown;
        }
        cfg->data_len += fread(cfg->data + cfg->data_len, 1, cap - cfg->data_len, f);
        if (ferror(f) != 0) {
            return tool_fail("%s: %s", cfg->file, strerrordesc_np(errno));
        }
        if (feof(f) != 0) {
            return TOOL_OK;
        }
    }
}

static int cat_read_file(struct cat_config *cfg)
{
    bool standard_input = strcmp(cfg->file, "-") == 0;
    FILE *f = standard_input ? stdin : fopen(cfg->file, "re");
    int code;

    if (f == NULL) {
        return tool_fail("%s: %s", cfg->file, strerrordesc_np(errno));
    }
    code = cat_read_all(cfg, f);
    if (!standard_input) {
        (void)fclose(f);
    }
    return code;
}

/// TLS files are not used before there is a TLS transport, but one that cannot be read is said, as
/// nngcat does.
static int cat_check_tls_files(const struct cat_config *cfg)
{
    for (size_t i = 0; i < sizeof(cfg->tls_files) / sizeof(cfg->tls_files[0]); i++) {
        FILE *f = cfg->tls_files[i] != NULL ? fopen(cfg->tls_files[i], "re") : NULL;

        if (f == NULL && cfg->tls_files[i] != NULL) {
            return tool_fail("%s: %s", cfg->tls_files[i], strerrordesc_np(errno));
        }
        if (f != NULL) {
            (void)fclose(f);
        }
    }
    return TOOL_OK;
}

/* ------------------------------------------------------------------ Options */

/// Applies the settings to the socket, or to an endpoint those that the socket does not know. What
/// is known nowhere is found by cat_start.
static int cat_apply(struct cat_config *cfg, uint64_t id, bool is_socket)
{
    for (size_t i = 0; i < cfg->setting_count; i++) {
        struct cat_setting *setting = &cfg->settings[i];
        int err = setting->on_socket ? SP_ENOTSUP
                                     : tool_set_option(id, setting->name, setting->text);

        if (err == SP_OK) {
            setting->on_socket = is_socket;
            setting->applied = true;
        } else if (err != SP_ENOTSUP) {
            return tool_fail_sp("option", err);
        }
    }
    return TOOL_OK;
}

static int cat_set_int(sp_socket s, const char *name, int64_t value)
{
    int err = sp_set_int(s.id, name, value);

    return err < 0 ? tool_fail_sp("option", err) : TOOL_OK;
}

static int cat_subscribe(const struct cat_config *cfg, sp_socket s)
{
    static const char *const everything[] = {""};
    size_t n = cfg->topic_count > 0 ? cfg->topic_count : 1;
    const char *const *topics = cfg->topic_count > 0 ? (const char *const *)cfg->topics
                                                     : everything;

    for (size_t i = 0; i < n; i++) {
        int err = sp_set_bytes(s.id, "subscribe", topics[i], strlen(topics[i]));

        if (err < 0) {
            return tool_fail_sp("option", err);
        }
    }
    return TOOL_OK;
}

static int cat_set_up(struct cat_config *cfg, sp_socket s)
{
    int code = TOOL_OK;

    if (cfg->recv_timeout >= 0) {
        code = cat_set_int(s, "recv-timeout", cfg->recv_timeout);
    }
    if (code == TOOL_OK && cfg->send_timeout >= 0) {
        code = cat_set_int(s, "send-timeout", cfg->send_timeout);
    }
    if (code == TOOL_OK && cfg->recv_max >= 0) {
        code = cat_set_int(s, "recv-size-max", cfg->recv_max);
    }
    if (code == TOOL_OK && strcmp(cfg->pattern.protocol, "sub") == 0) {
        code = cat_subscribe(cfg, s);
    }
    if (cfg->socket_name != NULL) {
        (void)!sp_set_str(s.id, "name", cfg->socket_name); // only for people
    }
    return code;
}

/* ------------------------------------------------------------------ Endpoints */

static bool cat_wants_tls(const struct cat_config *cfg, const char *url)
{
    bool given = cfg->insecure;

    for (size_t i = 0; i < sizeof(cfg->tls_files) / sizeof(cfg->tls_files[0]); i++) {
        given = given || cfg->tls_files[i] != NULL;
    }
    return given && (strncmp(url, "tls", 3) == 0 || strncmp(url, "wss", 3) == 0);
}

/// Says where a listener is: as it was asked for, or, where a port was left open, as it became.
static void cat_say_listening(sp_listener l, const char *url)
{
    char bound[256];
    size_t cap = sizeof(bound);
    size_t n = strlen(url);

    if (n > 2 && strcmp(url + n - 2, ":0") == 0 && sp_get_str(l.id, "url", bound, &cap) >= 0) {
        url = bound;
    }
    (void)printf("Listening at: %s\n", url);
}

static int cat_listen(struct cat_config *cfg, sp_socket s, const char *url)
{
    sp_listener l;
    int err = sp_listener_new(&l, s, url);
    int code;

    if (err < 0) {
        return tool_fail_sp("listen", err);
    }
    code = cat_apply(cfg, l.id, false);
    if (code != TOOL_OK) {
        return code;
    }
    err = sp_listener_start(l);
    if (err < 0) {
        return tool_stopped() ? TOOL_OK : tool_fail_sp("listen", err);
    }
    if (cfg->verbose) {
        cat_say_listening(l, url);
    }
    return TOOL_OK;
}

static int cat_dial(struct cat_config *cfg, sp_socket s, const char *url)
{
    sp_dialer d;
    int err = sp_dialer_new(&d, s, url);
    int code;

    if (err < 0) {
        return tool_fail_sp("dial", err);
    }
    code = cat_apply(cfg, d.id, false);
    if (code != TOOL_OK) {
        return code;
    }
    err = sp_dialer_start(d, cfg->async || cfg->compat ? SP_NONBLOCK : 0);
    if (err < 0) {
        return tool_stopped() ? TOOL_OK : tool_fail_sp("dial", err);
    }
    if (cfg->verbose) {
        (void)printf("Connected to: %s\n", url);
    }
    return TOOL_OK;
}

static int cat_start(struct cat_config *cfg, sp_socket s)
{
    int code = TOOL_OK;

    for (size_t i = 0; code == TOOL_OK && i < cfg->endpoint_count && !tool_stopped(); i++) {
        const char *url = cfg->endpoints[i].url;

        if (cat_wants_tls(cfg, url)) {
            return tool_fail("%s: the TLS options are not supported yet", url);
        }
        code = cfg->endpoints[i].listens ? cat_listen(cfg, s, url) : cat_dial(cfg, s, url);
    }
    for (size_t i = 0; code == TOOL_OK && i < cfg->setting_count && !tool_stopped(); i++) {
        if (!cfg->settings[i].applied) {
            return tool_fail("neither the socket nor an address has the option %s",
                             cfg->settings[i].name);
        }
    }
    return code == TOOL_OK ? tool_flush() : code;
}

/* ------------------------------------------------------------------ The command */

static int cat_open_and_run(struct cat_config *cfg)
{
    sp_socket s;
    int err;
    int code;

    if (tool_stop_watch(cat_on_stop, NULL) != TOOL_OK) {
        return TOOL_FAILED;
    }
    err = sp_open(&s, cfg->pattern.protocol);
    if (err < 0) {
        return tool_fail_sp("open", err);
    }
    atomic_store_explicit(&cat_socket_id, s.id, memory_order_release);
    code = cat_set_up(cfg, s);
    if (code == TOOL_OK) {
        code = cat_apply(cfg, s.id, true);
    }
    if (code == TOOL_OK) {
        code = cat_start(cfg, s);
    }
    if (code == TOOL_OK && !tool_stopped()) {
        code = cat_run(cfg, s);
    }
    (void)sp_close(s);
    return code;
}

int tool_cat(int argc, char **argv)
{
    struct cat_config cfg = {0};
    int code = cat_config_read(&cfg, argc, argv);

    if (code == 0) {
        code = cfg.file != NULL ? cat_read_file(&cfg) : TOOL_OK;
        if (code == TOOL_OK) {
            code = cat_check_tls_files(&cfg);
        }
        if (code == TOOL_OK) {
            code = cat_open_and_run(&cfg);
        }
    } else {
        code -= 1;
    }
    cat_config_clear(&cfg);
    return code;
}
