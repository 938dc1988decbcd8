/* SPDX-License-Identifier: MIT */
/// `sp doctor` inside: findings, gathered first and shown at the end. [main thread]
#ifndef SP_TOOL_DOCTOR_H
#define SP_TOOL_DOCTOR_H

#include <stdbool.h>

#include <cjson/cJSON.h>

#include <sp/sp.h>

enum doctor_status {
    DOCTOR_OK,
    DOCTOR_WARN, ///< it works, but something will not
    DOCTOR_FAIL
};

struct doctor {
    cJSON *findings;      ///< array of {section, name, status, text, hint}
    const cJSON *plugins; ///< the library's list; an empty array when there is none
    const char *section;  ///< of the findings to come
    int failures;
    bool spoilt; ///< memory ran out
};

/// Adds a finding; `hint` is what to do about it, NULL: nothing.
__attribute__((format(printf, 5, 6))) void doctor_add(struct doctor *d, enum doctor_status status,
                                                      const char *name, const char *hint,
                                                      const char *fmt, ...);

/// Where plugins are looked for, what is there, and whether it can be loaded.
void doctor_plugins(struct doctor *d);

/// Capabilities and limits of this process and system.
void doctor_system(struct doctor *d);

/// Why does this plugin file, name or URL not load or connect.
void doctor_target(struct doctor *d, const char *target);

/// Ends what doctor_target waits for. [any thread]
void doctor_stop(void *unused);

/// True when this process has CAP_NET_RAW.
bool doctor_has_net_raw(void);

/// What to do about an error, NULL: unknown. `listens`: it happened while listening.
const char *doctor_hint(int err, bool listens);

#endif
