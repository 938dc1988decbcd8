/* SPDX-License-Identifier: MIT */
/// What ends while it is used: sockets, endpoints, pipes, the library.
#include "scenario.h"

const struct scenario scenarios_race[] = {
    {NULL, NULL},
};
