#!/bin/bash
# SPDX-License-Identifier: MIT
# headers.sh: every header compiles alone; the public ones as C11 and as C++17, without a warning.
set -u
cd "$(dirname "$0")/../.." || exit 1

cc=${CC:-cc}
cxx=${CXX:-c++}
command -v "$cxx" >/dev/null || { echo "headers: $cxx is missing" >&2; exit 1; }
warnings=(-Wall -Wextra -Wpedantic -Wshadow -Wundef -Werror)
seen=0
bad=0

# HEADER-AS-INCLUDED COMPILER OPTIONS...
compiles() {
    local include=$1

    shift
    seen=$((seen + 1))
    # Twice: the include guard is part of it.
    if ! printf '#include %s\n#include %s\nint sp_alone;\n' "$include" "$include" |
        "$@" "${warnings[@]}" -fsyntax-only -Iinclude -Isdk/include -; then
        echo "headers: $include does not compile alone with: $*"
        bad=$((bad + 1))
    fi
}

while read -r header; do
    compiles "<${header#*include/}>" "$cc" -std=c11 -x c
    compiles "<${header#*include/}>" "$cxx" -std=c++17 -x c++
done < <(find include sdk/include -name '*.h' 2>/dev/null | sort)
while read -r header; do
    compiles "\"$header\"" "$cc" -std=c11 -D_GNU_SOURCE -iquote . -iquote "$(dirname "$header")" -x c
done < <(find core sdk plugins transports tools -name '*.h' -not -path 'sdk/include/*' 2>/dev/null | sort)

echo "headers: $seen compilations, $bad failed"
[ "$bad" -eq 0 ]
