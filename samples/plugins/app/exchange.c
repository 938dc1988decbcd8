/* SPDX-License-Identifier: MIT */
/// exchange PROTOCOL URL: two sockets of any two-way protocol exchange messages over any transport,
/// each named on the command line alone; whichever plugin provides the name is found and loaded.
#include <sp/sp.h>

#include <stdio.h>
#include <string.h>

#define ROUNDS 1000

static int failed(const char *what, int err)
{
    (void)fprintf(stderr, "exchange: %s: %s (%s)\n", what, sp_strerror(err), sp_error_detail());
    return err;
}

/// Opens both ends and connects them. A URL with port 0 is dialled where the listener really is.
static int connect_pair(sp_socket s[2], const char *protocol, const char *url)
{
    char bound[256] = "";
    size_t cap = sizeof(bound);
    sp_listener listener;
    int rc;

    for (int i = 0; i < 2; i++) {
        rc = sp_open(&s[i], protocol);
        if (rc == SP_OK) {
            rc = sp_set_int(s[i].id, "recv-timeout", 10000);
        }
        if (rc != SP_OK) {
            return failed(protocol, rc);
        }
    }
    rc = sp_listen(s[0], url, &listener);
    if (rc != SP_OK) {
        return failed("listen", rc);
    }
    rc = sp_get_str(listener.id, "url", bound, &cap);
    if (rc != SP_OK) {
        return failed("url", rc);
    }
    rc = sp_dial(s[1], bound, NULL, 0);
    return rc == SP_OK ? SP_OK : failed("dial", rc);
}

/// Sends one text from `from` to `to` and compares what arrives.
static int carry(sp_socket from, sp_socket to, const char *text)
{
    char got[64];
    ssize_t len;
    int rc = sp_send(from, text, strlen(text), 0);

    if (rc != SP_OK) {
        return failed("send", rc);
    }
    len = sp_recv(to, got, sizeof(got), 0);
    if (len < 0) {
        return failed("recv", (int)len);
    }
    if ((size_t)len != strlen(text) || memcmp(got, text, (size_t)len) != 0) {
        (void)fprintf(stderr, "exchange: sent \"%s\", got \"%.*s\"\n", text, (int)len, got);
        return SP_EPROTO;
    }
    return SP_OK;
}

int main(int argc, char **argv)
{
    sp_socket s[2];
    char text[32];

    if (argc != 3) {
        (void)fputs("usage: exchange PROTOCOL URL\n", stderr);
        return 2;
    }
    if (connect_pair(s, argv[1], argv[2]) != SP_OK) {
        return 1;
    }
    for (int i = 0; i < ROUNDS; i++) {
        (void)snprintf(text, sizeof(text), "message %d", i);
        if (carry(s[0], s[1], text) != SP_OK || carry(s[1], s[0], text) != SP_OK) {
            return 1;
        }
    }
    (void)printf("%s over %s: %d messages each way\n", argv[1], argv[2], ROUNDS);
    sp_fini();
    return 0;
}
