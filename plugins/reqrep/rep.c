/* SPDX-License-Identifier: MIT */
/// REP: hands requests to whoever receives, and sends each reply back the way its request came:
/// see sp/sdk/replier.h. [actor]
#include "reqrep.h"

#include <sp/sdk/replier.h>

static const sp_id_pair rep_ids[] = {{REP_ID, REQ_ID}};

static const sp_option rep_options[] = {SP_REPLIER_OPTIONS};

static const sp_protocol_ops rep_raw_ops = {SP_REPLIER_RAW_OPS(rep_ids, rep_options)};

const sp_protocol_ops rep_ops = {SP_REPLIER_OPS(rep_ids, rep_options), .raw = &rep_raw_ops};
