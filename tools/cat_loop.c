/* SPDX-License-Identifier: MIT */
/// The loops of `sp cat`: what is sent when, and what ends it. Where the user ends it, every one
/// returns success. [main thread]
#include "cat.h"
#include "tool.h"

struct cat_loop {
    const struct cat_config *cfg;
    sp_socket socket;
    int64_t timeout; ///< the socket's "recv-timeout" now
};

/// What a step of a loop found.
enum cat_step {
    CAT_STEP_OK,
    CAT_STEP_NOTHING, ///< nothing came in time, or nothing can come
    CAT_STEP_UNASKED, ///< the protocol answers, and nobody asked yet
    CAT_STEP_STOPPED, ///< the user ended it
    CAT_STEP_FAILED   ///< said
};

static int cat_exit(enum cat_step step)
{
    return step == CAT_STEP_FAILED ? TOOL_FAILED : TOOL_OK;
}

static enum cat_step cat_send(struct cat_loop *l)
{
    int err = sp_send(l->socket, l->cfg->data, l->cfg->data_len, 0);

    if (err >= 0) {
        return CAT_STEP_OK;
    }
    if (tool_stopped()) {
        return CAT_STEP_STOPPED;
    }
    if (err == SP_ESTATE && l->cfg->pattern.mode == CAT_GUESS) {
        return CAT_STEP_UNASKED;
    }
    (void)tool_fail_sp("send", err);
    return CAT_STEP_FAILED;
}

/// Receives one message and prints it, within `ms` (-1: for ever) and --recv-timeout.
static enum cat_step cat_receive(struct cat_loop *l, int64_t ms)
{
    int64_t limit = l->cfg->recv_timeout;
    sp_msg *m;
    int err = SP_OK;
    int code;

    if (ms >= 0 && (limit < 0 || ms < limit)) {
        limit = ms;
    }
    if (limit > 0 && limit != l->timeout) {
        err = sp_set_int(l->socket.id, "recv-timeout", limit);
        l->timeout = limit;
    }
    if (err >= 0) {
        err = sp_recvmsg(l->socket, &m, limit == 0 ? SP_NONBLOCK : 0);
    }
    if (err >= 0) {
        code = cat_print(l->cfg->format, sp_msg_view(m), sp_msg_len(m));
        sp_msg_release(m);
        return code == TOOL_OK ? CAT_STEP_OK : CAT_STEP_FAILED;
    }
    if (tool_stopped()) {
        return CAT_STEP_STOPPED;
    }
    if (err == SP_ETIMEDOUT || err == SP_EAGAIN) {
        return CAT_STEP_NOTHING;
    }
    // Nothing asked that is not answered yet, or a protocol that never receives: fine after a send.
    if ((err == SP_ESTATE || err == SP_ENOTSUP) && l->cfg->data != NULL) {
        return CAT_STEP_NOTHING;
    }
    (void)tool_fail_sp("receive", err);
    return CAT_STEP_FAILED;
}

/// Receives until `end` (of tool_now; -1: until nothing comes in time or can come). Looks at least
/// once.
static enum cat_step cat_collect(struct cat_loop *l, int64_t end)
{
    enum cat_step step;
    int64_t left;

    do {
        left = end < 0 ? -1 : end - tool_now();
        step = cat_receive(l, end >= 0 && left < 0 ? 0 : left);
    } while (step == CAT_STEP_OK && (end < 0 || left > 0));
    return step;
}

/// Until when to receive after a send that began at `start`, `last` or not.
static int64_t cat_collect_end(const struct cat_config *cfg, int64_t start, bool last)
{
    if (cfg->interval > 0 || (cfg->interval == 0 && cfg->pattern.mode != CAT_ASK)) {
        return start + cfg->interval;
    }
    // Without an interval whoever asks waits for the answer; others send all that they have first.
    return last || cfg->pattern.mode == CAT_ASK ? -1 : start;
}

/// Receives and prints, and answers where there is data.
static int cat_answer(struct cat_loop *l)
{
    int64_t left = l->cfg->count;
    enum cat_step step;

    do {
        step = cat_receive(l, -1);
        if (step == CAT_STEP_OK && l->cfg->data != NULL) {
            step = cat_send(l);
        }
    } while (step == CAT_STEP_OK && (l->cfg->count == 0 || --left > 0));
    return cat_exit(step);
}

/// Sends, once or --count times or, with an interval, for ever; receives in between.
static int cat_converse(struct cat_loop *l)
{
    const struct cat_config *cfg = l->cfg;
    bool endless = cfg->interval >= 0 && cfg->count == 0;
    int64_t left = cfg->count > 0 ? cfg->count : 1;
    enum cat_step step = CAT_STEP_OK;

    if (!tool_sleep(cfg->delay)) {
        return TOOL_OK;
    }
    while (left > 0) {
        int64_t start = tool_now();

        left -= endless ? 0 : 1;
        step = cat_send(l);
        if (step == CAT_STEP_UNASKED) {
            return cat_answer(l);
        }
        if (step == CAT_STEP_OK && cfg->pattern.mode != CAT_SEND) {
            step = cat_collect(l, cat_collect_end(cfg, start, left == 0));
        }
        if (step == CAT_STEP_FAILED || step == CAT_STEP_STOPPED) {
            break;
        }
        if (left > 0 && !tool_sleep(start + cfg->interval - tool_now())) {
            break;
        }
    }
    return cat_exit(step);
}

int cat_run(const struct cat_config *cfg, sp_socket s)
{
    struct cat_loop loop = {.cfg = cfg, .socket = s, .timeout = cfg->recv_timeout};

    if (cfg->data == NULL || cfg->pattern.mode == CAT_ANSWER) {
        return cat_answer(&loop);
    }
    return cat_converse(&loop);
}
