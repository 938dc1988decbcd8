/* SPDX-License-Identifier: MIT */
/// The machines, one a model.
#ifndef SP_TEST_REPLAY_MODELS_H
#define SP_TEST_REPLAY_MODELS_H

#include "replay.h"

extern const struct replay_model replay_mailbox;
extern const struct replay_model replay_poller;
extern const struct replay_model replay_drive;
extern const struct replay_model replay_rxq;
extern const struct replay_model replay_credit;
extern const struct replay_model replay_close;
extern const struct replay_model replay_late;
extern const struct replay_model replay_pipe;
extern const struct replay_model replay_pass;
extern const struct replay_model replay_help;
extern const struct replay_model replay_cork;
extern const struct replay_model replay_spin;
extern const struct replay_model replay_observe;
extern const struct replay_model replay_lock;
extern const struct replay_model replay_room;

#endif
