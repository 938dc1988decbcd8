/* SPDX-License-Identifier: MIT */
/// What the files of the PUB/SUB plugin share.
#ifndef SP_PLUGINS_PUBSUB_H
#define SP_PLUGINS_PUBSUB_H

#include <sp/plugin.h>

/// Protocol numbers: the plain ones that everybody has, and those of a PUB that takes subscriptions
/// and a SUB that sends them (doc/adr/0017-filtering-at-the-publisher.md).
#define PUB_ID 0x20
#define SUB_ID 0x21
#define PUB_FILTER_ID 0xF020
#define SUB_FILTER_ID 0xF021

/// Longest prefix that can be subscribed to, bytes.
#define TOPIC_MAX 65535

/// What a SUB tells a PUB: records one behind the other, of a kind, a length and a prefix.
#define RECORD_REMOVE 0
#define RECORD_ADD 1
#define RECORD_COMPLETE 2 // no prefix: all that was wanted at first has been told
#define RECORD_HEAD 3     // bytes: kind, length (big-endian, two)

extern const sp_protocol_ops pub_ops;
extern const sp_protocol_ops sub_ops;

#endif
