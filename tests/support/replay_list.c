/* SPDX-License-Identifier: MIT */
/// All machines.
#include "replay_models.h"

const struct replay_model *const replay_models[] = {
    &replay_mailbox, &replay_poller, &replay_drive,   &replay_rxq,  &replay_credit,
    &replay_close,   &replay_late,   &replay_pipe,    &replay_pass, &replay_help,
    &replay_cork,    &replay_spin,   &replay_observe, &replay_lock, &replay_room,
};

const size_t replay_model_count = sizeof(replay_models) / sizeof(replay_models[0]);
