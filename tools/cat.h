/* SPDX-License-Identifier: MIT */
/// `sp cat` inside: the command line as a struct, the output formats, the loops. [main thread]
#ifndef SP_TOOL_CAT_H
#define SP_TOOL_CAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sp/sp.h>

/// What is done with a protocol.
enum cat_mode {
    CAT_SEND,     ///< send only
    CAT_RECEIVE,  ///< receive only
    CAT_ASK,      ///< send, then receive what answers that
    CAT_ANSWER,   ///< receive, then send if there is data
    CAT_CONVERSE, ///< send and receive, or receive only without data
    CAT_GUESS ///< a plugin's protocol: as CAT_CONVERSE, and as CAT_ANSWER if it must be asked first
};

struct cat_pattern {
    const char *protocol; ///< for sp_open
    enum cat_mode mode;
    bool compat; ///< nngcat has it with --compat
};

enum cat_format {
    CAT_FORMAT_NO,
    CAT_FORMAT_RAW,
    CAT_FORMAT_ASCII,
    CAT_FORMAT_QUOTED,
    CAT_FORMAT_HEX,
    CAT_FORMAT_MSGPACK,
    CAT_FORMATS
};

struct cat_endpoint {
    bool listens;
    char *url;
};

/// --option NAME=VALUE. `text` points into the command line.
struct cat_setting {
    char *name;
    const char *text;
    bool on_socket; ///< the socket has it
    bool applied;   ///< the socket or an endpoint has it
};

/// The command line. Freed by cat_config_clear.
struct cat_config {
    struct cat_pattern pattern;
    struct cat_endpoint *endpoints;
    size_t endpoint_count;
    struct cat_setting *settings;
    size_t setting_count;
    const char **topics;
    size_t topic_count;
    enum cat_format format;
    bool format_given;
    bool async;
    bool compat;
    bool insecure;
    bool verbose;
    const char *socket_name;
    const char *tls_files[3]; ///< of --cacert, --cert, --key; NULL: not given
    const char *file;         ///< NULL: none
    char *data;               ///< NULL: none
    size_t data_len;
    int64_t count;        ///< 0: not given
    int64_t delay;        ///< ms
    int64_t interval;     ///< ms; -1: not given
    int64_t recv_timeout; ///< ms; -1: none
    int64_t send_timeout; ///< ms; -1: none
    int64_t recv_max;     ///< bytes; -1: not given
};

/// Reads the command line into `cfg` (zeroed). A positive return is an exit code plus 1: help was
/// shown or something is wrong.
int cat_config_read(struct cat_config *cfg, int argc, char **argv);
void cat_config_clear(struct cat_config *cfg);

/// The format of that name; CAT_FORMATS: there is none.
enum cat_format cat_format_find(const char *name);

/// Writes a message to standard output and flushes. TOOL_OK or TOOL_FAILED.
int cat_print(enum cat_format format, const void *body, size_t len);

/// Sends and receives as `cfg` says until it is done. An exit code.
int cat_run(const struct cat_config *cfg, sp_socket s);

#endif
