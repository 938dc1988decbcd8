/* SPDX-License-Identifier: MIT */
/// The SURVEY plugin's descriptor.
#include "survey.h"

static const sp_export survey_exports[] = {
    {SP_KIND_PROTOCOL, "surveyor", {.protocol = &surveyor_ops}},
    {SP_KIND_PROTOCOL, "respondent", {.protocol = &respondent_ops}},
};

static const sp_plugin survey_plugin = {
    .size = sizeof(sp_plugin),
    .abi_major = SP_ABI_MAJOR,
    .abi_minor_built = SP_ABI_MINOR,
    .abi_minor_needed = 0,
    .id = "org.scalability-protocols.sp.survey",
    .version = "0.1.0",
    .vendor = "SP",
    .licence = "MIT",
    .description = "SURVEYOR/RESPONDENT: everybody is asked, who answers in time counts",
    .exports = survey_exports,
    .export_count = sizeof(survey_exports) / sizeof(survey_exports[0]),
    .export_size = sizeof(sp_export),
};

const sp_plugin *sp_plugin_entry_v1(void)
{
    return &survey_plugin;
}
