#!/bin/bash
# SPDX-License-Identifier: MIT
# atomics.sh [ROOT]: every atomic operation of the library that orders anything (is not relaxed) has a comment within the
# ten lines before it that says what it pairs with. Prints those that have none; fails if there is one.
set -u
cd "${1:-$(dirname "$0")/../..}" || exit 1

find core sdk transports plugins -name '*.c' | sort | xargs awk '
function look(    i, j, statement, comment) {
    for (i = 1; i <= n; i++) {
        if (line[i] !~ /(atomic_(exchange|fetch|compare|load|store)[a-z_]*_explicit|__atomic_(load|store|exchange|compare|fetch)[a-z_]*)\(/)
            continue
        seen++
        statement = ""
        for (j = i; j < i + 4 && j <= n && statement !~ /;/; j++) statement = statement line[j]
        if (tolower(statement) !~ /order_(acq|release|seq)|atomic_(acq|release|seq)/) continue
        comment = ""
        for (j = i - 10; j <= i; j++) if (j in line && line[j] ~ /\/\//) comment = comment line[j]
        if (tolower(comment) !~ /acq|release|seq_cst|pairs|see /) {
            printf "%s:%d: orders what? %s\n", file, i, line[i]
            bad++
        }
    }
    delete line
    n = 0
}
FNR == 1 { if (NR > 1) look(); file = FILENAME }
{ line[++n] = $0 }
END { look(); printf "atomics: %d operations, %d without an argument\n", seen, bad; exit bad > 0 }'
