/* SPDX-License-Identifier: MIT */
/// See announce.h. What is told is a message of records (pubsub.h).
#include "announce.h"

#include "pubsub.h"

#include <stdlib.h>

#define ANNOUNCE_SIZE 4096 // bytes of a message, if its first record is not longer

struct announce_gone {
    struct announce_gone *next;
    size_t len;
    unsigned char bytes[];
};

void announce_open(struct announce *announce, struct announce_pipe *pipe, sp_pipe_ref *ref,
                   const struct topics *topics)
{
    pipe->ref = ref;
    pipe->mark = topics->first;
    pipe->next = announce->pipes;
    if (pipe->next != NULL) {
        pipe->next->prev = pipe;
    }
    announce->pipes = pipe;
    announce_flush(announce, pipe);
}

void announce_close(struct announce *announce, struct announce_pipe *pipe)
{
    if (pipe->ref == NULL) {
        return;
    }
    *(pipe->prev != NULL ? &pipe->prev->next : &announce->pipes) = pipe->next;
    if (pipe->next != NULL) {
        pipe->next->prev = pipe->prev;
    }
    while (pipe->first != NULL) {
        struct announce_gone *gone = pipe->first;

        pipe->first = gone->next;
        free(gone);
    }
    pipe->ref = NULL;
}

void announce_added(struct announce *announce, const struct topic *topic)
{
    for (struct announce_pipe *pipe = announce->pipes; pipe != NULL; pipe = pipe->next) {
        if (pipe->mark == NULL) {
            pipe->mark = topic;
        }
    }
}

/// It was told, so it is to be taken back. Without memory for that the connection ends: the next
/// one begins anew.
static void announce_take_back(struct announce *announce, struct announce_pipe *pipe,
                               const struct topic *topic)
{
    struct announce_gone *gone = malloc(sizeof(*gone) + topic->len);

    if (gone == NULL) {
        announce->host->pipe_close(pipe->ref, SP_ENOMEM);
        return;
    }
    gone->next = NULL;
    gone->len = topic->len;
    memcpy(gone->bytes, topic->bytes, topic->len);
    *(pipe->first != NULL ? &pipe->last->next : &pipe->first) = gone;
    pipe->last = gone;
}

void announce_removed(struct announce *announce, const struct topic *topic)
{
    for (struct announce_pipe *pipe = announce->pipes; pipe != NULL; pipe = pipe->next) {
        if (pipe->mark == topic) {
            pipe->mark = topic->next;
        } else if (pipe->mark == NULL || topic->number < pipe->mark->number) {
            announce_take_back(announce, pipe, topic);
        }
    }
}

static void record_put(sp_msg *m, unsigned char kind, const unsigned char *bytes, size_t n)
{
    unsigned char *at = m->data + m->len;

    at[0] = kind;
    at[1] = (unsigned char)(n >> 8);
    at[2] = (unsigned char)n;
    if (n > 0) {
        memcpy(at + RECORD_HEAD, bytes, n);
    }
    m->len += RECORD_HEAD + n;
}

static bool announce_pending(const struct announce_pipe *pipe)
{
    return pipe->first != NULL || pipe->mark != NULL || !pipe->complete;
}

/// As many records as fit into a message; at least one. NULL: no memory.
static sp_msg *announce_batch(const struct announce *announce, struct announce_pipe *pipe)
{
    size_t first = RECORD_HEAD + (pipe->first != NULL  ? pipe->first->len
                                  : pipe->mark != NULL ? pipe->mark->len
                                                       : 0);
    size_t cap = first > ANNOUNCE_SIZE ? first : ANNOUNCE_SIZE;
    sp_msg *m = announce->host->msg_new(cap);

    if (m == NULL) {
        return NULL;
    }
    m->len = 0;
    while (pipe->first != NULL && m->len + RECORD_HEAD + pipe->first->len <= cap) {
        struct announce_gone *gone = pipe->first;

        record_put(m, RECORD_REMOVE, gone->bytes, gone->len);
        pipe->first = gone->next;
        free(gone);
    }
    while (pipe->first == NULL && pipe->mark != NULL &&
           m->len + RECORD_HEAD + pipe->mark->len <= cap) {
        record_put(m, RECORD_ADD, pipe->mark->bytes, pipe->mark->len);
        pipe->mark = pipe->mark->next;
    }
    if (pipe->first == NULL && pipe->mark == NULL && !pipe->complete &&
        m->len + RECORD_HEAD <= cap) {
        record_put(m, RECORD_COMPLETE, NULL, 0);
        pipe->complete = true;
    }
    return m;
}

void announce_flush(struct announce *announce, struct announce_pipe *pipe)
{
    const sp_host *host = announce->host;

    while (announce_pending(pipe) && host->pipe_room(pipe->ref) > 0) {
        sp_msg *m = announce_batch(announce, pipe);

        if (m == NULL || host->pipe_send_copy(pipe->ref, m) != SP_OK) {
            if (m != NULL) {
                host->msg_release(m);
            }
            host->pipe_close(pipe->ref, SP_ENOMEM); // The next connection begins anew.
            return;
        }
    }
}

void announce_flush_all(struct announce *announce)
{
    for (struct announce_pipe *pipe = announce->pipes; pipe != NULL; pipe = pipe->next) {
        announce_flush(announce, pipe);
    }
}
