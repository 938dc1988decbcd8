/* SPDX-License-Identifier: MIT */
/// Who listens to the trace; built with SP_TRACE only. [any]
#include "trace.h"

sp__trace_fn *sp__trace_hook = NULL;
