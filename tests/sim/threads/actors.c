/* SPDX-License-Identifier: MIT */
/// The scheduler alone.
#include "scenario.h"

const struct scenario scenarios_core[] = {
    {NULL, NULL},
};
