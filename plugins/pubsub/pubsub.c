/* SPDX-License-Identifier: MIT */
/// The PUB/SUB plugin's descriptor.
#include "pubsub.h"

static const sp_export pubsub_exports[] = {
    {SP_KIND_PROTOCOL, "pub", {.protocol = &pub_ops}},
    {SP_KIND_PROTOCOL, "sub", {.protocol = &sub_ops}},
};

static const sp_plugin pubsub_plugin = {
    .size = sizeof(sp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.scalability-protocols.sp.pubsub",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "PUB/SUB: messages for all who subscribed to what they begin with",
    .exports = pubsub_exports,
    .export_count = sizeof(pubsub_exports) / sizeof(pubsub_exports[0]),
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &pubsub_plugin;
}
