/* SPDX-License-Identifier: MIT */
/// The plugin's descriptor: PUSH and PULL.
#include "pipeline.h"

static const sp_export pipeline_exports[] = {
    {SP_KIND_PROTOCOL, "push", {.protocol = &push_ops}},
    {SP_KIND_PROTOCOL, "pull", {.protocol = &pull_ops}},
};

static const sp_plugin pipeline_plugin = {
    .size = sizeof(sp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.scalability-protocols.sp.pipeline",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "PUSH/PULL: work distribution to whoever has least to do",
    .exports = pipeline_exports,
    .export_count = sizeof(pipeline_exports) / sizeof(pipeline_exports[0]),
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &pipeline_plugin;
}
