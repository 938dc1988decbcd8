/* SPDX-License-Identifier: MIT */
/// What a SUB wants, told to the PUBs that filter. A pipe has told all topics in front of its mark;
/// beside that it remembers those that it told and that are wanted no more. So however slow a peer
/// is, what waits for it is bounded by the topics, and it is told them in an order that is right:
/// first what is gone, then what is new. [actor]
#ifndef SP_PLUGINS_PUBSUB_ANNOUNCE_H
#define SP_PLUGINS_PUBSUB_ANNOUNCE_H

#include <sp/plugin.h>

#include "topics.h"

struct announce_gone; ///< a topic that is to be taken back

/// Of one pipe. Zeroed: none.
struct announce_pipe {
    sp_pipe_ref *ref; ///< NULL: its peer does not filter
    struct announce_pipe *next;
    struct announce_pipe *prev;
    const struct topic *mark; ///< the first one that it was not told; NULL: it was told all
    struct announce_gone *first;
    struct announce_gone *last;
    bool complete; ///< it was told that it knows all
};

/// All of a socket.
struct announce {
    const sp_host *host;
    struct announce_pipe *pipes;
};

/// A new peer that filters is told everything.
void announce_open(struct announce *announce, struct announce_pipe *pipe, sp_pipe_ref *ref,
                   const struct topics *topics);
void announce_close(struct announce *announce, struct announce_pipe *pipe);

/// A topic is new, the last of all; or it will be gone. They are told by announce_flush.
void announce_added(struct announce *announce, const struct topic *topic);
void announce_removed(struct announce *announce, const struct topic *topic);

/// Tells one peer, or all, as much as its queue has room for.
void announce_flush(struct announce *announce, struct announce_pipe *pipe);
void announce_flush_all(struct announce *announce);

#endif
