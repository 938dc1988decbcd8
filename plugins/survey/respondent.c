/* SPDX-License-Identifier: MIT */
/// RESPONDENT: hands surveys to whoever receives, and sends each answer back the way its survey
/// came: see sp/sdk/replier.h. [actor]
#include "survey.h"

#include <sp/sdk/replier.h>

static const sp_id_pair respondent_ids[] = {{RESPONDENT_ID, SURVEYOR_ID}};

static const sp_option respondent_options[] = {SP_REPLIER_OPTIONS};

static const sp_protocol_ops respondent_raw_ops = {
    SP_REPLIER_RAW_OPS(respondent_ids, respondent_options)};

const sp_protocol_ops respondent_ops = {SP_REPLIER_OPS(respondent_ids, respondent_options),
                                        .raw = &respondent_raw_ops};
