#!/bin/bash
# SPDX-License-Identifier: MIT
# format.sh [--fix]: does every C file look as clang-format (this machine's version) writes it?
set -u
cd "$(dirname "$0")/../.." || exit 1

command -v clang-format >/dev/null || { echo "format: clang-format is missing" >&2; exit 1; }
mapfile -t files < <(find include core sdk plugins transports tools samples tests bench \
    -name '*.[ch]' -print 2>/dev/null | sort)

if [ "${1:-}" = --fix ]; then
    clang-format -i "${files[@]}"
    exit
fi

bad=0
for file in "${files[@]}"; do
    if ! clang-format "$file" | diff -u --label "$file" --label "$file (formatted)" "$file" - >/tmp/sp-format.$$; then
        bad=$((bad + 1))
        head -20 /tmp/sp-format.$$
    fi
done
rm -f /tmp/sp-format.$$
echo "format: ${#files[@]} files, $bad to format ($(clang-format --version | sed 's/.*version //'))"
[ "$bad" -eq 0 ] || { echo "format: run 'make format'"; exit 1; }
