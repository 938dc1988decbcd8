/* SPDX-License-Identifier: MIT */
/// The REQ/REP plugin's descriptor.
#include "reqrep.h"

static const sp_export reqrep_exports[] = {
    {SP_KIND_PROTOCOL, "req", {.protocol = &req_ops}},
    {SP_KIND_PROTOCOL, "rep", {.protocol = &rep_ops}},
};

static const sp_plugin reqrep_plugin = {
    .size = sizeof(sp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.scalability-protocols.sp.reqrep",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "REQ/REP: questions that are asked until they are answered",
    .exports = reqrep_exports,
    .export_count = sizeof(reqrep_exports) / sizeof(reqrep_exports[0]),
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &reqrep_plugin;
}
