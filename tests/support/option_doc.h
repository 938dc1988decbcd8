/* SPDX-License-Identifier: MIT */
/// The tables of doc/prd/api/options.md, to compare with what the library does.
#ifndef SP_TEST_OPTION_DOC_H
#define SP_TEST_OPTION_DOC_H

#include <stdbool.h>
#include <stdint.h>

/// One option of one owner.
struct option_row {
    char section[32]; ///< "Sockets", "Endpoints", "Transports", "Protocols"
    char owner[32];   ///< a protocol or scheme; "" where the section says it
    bool raw;         ///< a protocol's raw mode has it too
    char name[48];
    char type[16]; ///< the column "type" or "unit": "boolean", "text", "ms", …
    char def[64];
    char range[64];
    bool number; ///< `def` and `range` are numbers, as below
    int64_t def_value;
    int64_t min;
    int64_t max;
};

/// All rows; how many.
unsigned option_doc(struct option_row *rows, unsigned max);

#endif
