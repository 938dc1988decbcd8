/* SPDX-License-Identifier: MIT */
/// Which function that is not the core's an actor called last: what the watchdog (watchdog.c) names
/// when it does not return. A store of a byte a call; nobody takes it back.
#ifndef SP_CORE_SLOT_H
#define SP_CORE_SLOT_H

enum sp__slot {
    SP__SLOT_NONE,
    // Of a protocol.
    SP__SLOT_PIPE_ADD,
    SP__SLOT_PIPE_DEL,
    SP__SLOT_CTX_CLOSE,
    SP__SLOT_ON_SEND,
    SP__SLOT_ON_RECV,
    SP__SLOT_ON_WRITABLE,
    SP__SLOT_ON_OPTION,
    SP__SLOT_STOP,
    // Of a transport.
    SP__SLOT_LISTEN,
    SP__SLOT_ACCEPT,
    SP__SLOT_DIAL,
    SP__SLOT_EP_CLOSE,
    SP__SLOT_ON_READY,
    SP__SLOT_SUBMIT,
    SP__SLOT_PIPE_CLOSE,
    // Of either, or of an actor of the application, as the rest.
    SP__SLOT_ON_TIMER,
    SP__SLOT_INIT,
    SP__SLOT_ON_MESSAGE,
    SP__SLOT_FINI,
    SP__SLOTS
};

#endif
