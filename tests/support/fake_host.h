/* SPDX-License-Identifier: MIT */
/// A host without a core, to test transports alone: messages by malloc, watches recorded,
/// everything counted. One thread. Waiting is by poll with a deadline of FAKE_DEADLINE_MS, never by
/// sleeping.
#ifndef SP_TESTS_FAKE_HOST_H
#define SP_TESTS_FAKE_HOST_H

#include <sp/plugin.h>

#define FAKE_DEADLINE_MS 5000

/// What the transport under test did.
struct fake_counts {
    size_t msgs_live;
    size_t msgs_made;
    size_t cap_max;      ///< largest body that was asked room for
    size_t pipe_ready;   ///< calls
    unsigned ready_bits; ///< of the last
    size_t pipe_watches;
    size_t ep_watches;
    size_t ep_unwatches;
    size_t ep_ready; ///< calls
    // to be set by the test
    bool no_scratch; ///< scratch() gives NULL
    long alloc_left; ///< so many allocations succeed, then none; -1: all
    int watch_fails; ///< what pipe_watch and ep_watch return
    int64_t later;   ///< ns that the clock is ahead
    uint64_t random; ///< where random() is: the same again after fake_reset
};

extern struct fake_counts fake;

const sp_host *fake_host(void);

/// Forgets all counts.
void fake_reset(void);

/// A message with a header and a body.
sp_msg *fake_msg(const void *header, size_t header_len, const void *body, size_t len);

/// Gives back all messages of a batch.
void fake_drop(sp_batch *batch);

/// An endpoint of a transport, options at their defaults.
struct fake_ep {
    sp_ep_ref ref; // first
    const sp_transport_ops *ops;
    int fd; ///< watched; -1: none
};

/// A pipe of a transport.
struct fake_pipe {
    sp_pipe_ref ref; // first
    const sp_transport_ops *ops;
    int fd; ///< watched; -1: none
};

/// ep_init's code is left in `rc`; the endpoint is there even if it failed. `url` must outlive it.
struct fake_ep *fake_ep_new(const sp_transport_ops *ops, const char *url, int *rc, sp_cause *cause);
void fake_ep_set_int(struct fake_ep *ep, const char *name, int64_t value);
void fake_ep_set_str(struct fake_ep *ep, const char *name, const char *value);
/// Closes and frees it. NULL is allowed.
void fake_ep_free(struct fake_ep *ep);

struct fake_pipe *fake_pipe_new(const sp_transport_ops *ops);
/// Closes and frees it. NULL is allowed.
void fake_pipe_free(struct fake_pipe *p);

/// Waits for events (POLLIN …) on an fd; what came, 0 after the deadline.
short fake_wait(int fd, short events);

/// Waits for a connection, then accepts. SP_EAGAIN: none came before the deadline.
int fake_accept(struct fake_ep *ep, struct fake_pipe *p, sp_cause *cause);

/// A handshake with own and peer protocol numbers filled in.
sp_handshake fake_hs(uint16_t own, uint16_t peer);

/// Carries the handshakes of both ends on until both have a result. Either may be NULL.
void fake_handshakes(struct fake_pipe *a, sp_handshake *hs_a, int *rc_a, struct fake_pipe *b,
                     sp_handshake *hs_b, int *rc_b);

/// Open file descriptors of this process.
size_t fake_fds(void);

/// Setup and teardown of a group: the tests in between left as many fds open as they found.
int fake_fds_before(void **state);
int fake_fds_after(void **state);

/// Harvests until there are `n` messages; n, or a negative code, or fewer after the deadline.
int fake_harvest(struct fake_pipe *p, sp_batch *in, size_t n);

#endif
