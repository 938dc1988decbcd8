#!/bin/bash
# SPDX-License-Identifier: MIT
# check.sh [BUILD] [--update]: instructions (callgrind) and system calls (strace) a message of each scenario of count.c,
# beside expected.json. A rise over 5 % fails; --update writes the figures of now. Both are differences of a run with N
# and one with 2 N messages, so that start and end do not count. 77: cannot run here.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=build/release
update=false
for word in "$@"; do
    case $word in
    --update) update=true ;;
    *) build=$word ;;
    esac
done
count=$build/tests/count/count
expected=$here/expected.json
n=1920 # a multiple of the burst

skip() {
    echo "count: skipped: $*"
    exit 77
}

[ -x "$count" ] || skip "$count is not built"
for tool in valgrind strace awk; do
    command -v "$tool" >/dev/null || skip "$tool is missing (cmake/install-deps.sh count)"
done
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
export SP_PLUGIN_PATH=$(cd "$build" && pwd)/plugins:$(cd "$build" && pwd)/transports
strace -o "$tmp/out" -c true 2>/dev/null || skip "strace may not trace here"

# SCENARIO MESSAGES
instructions() {
    valgrind --tool=callgrind --callgrind-out-file="$tmp/callgrind" "$count" "$1" "$2" >"$tmp/log" 2>&1 ||
        { cat "$tmp/log" >&2; return 1; }
    awk '/^(summary|totals):/ { print $2; exit }' "$tmp/callgrind"
}

# SCENARIO MESSAGES
syscalls() {
    strace -f -c -U calls,name -o "$tmp/strace" "$count" "$1" "$2" >"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; return 1; }
    awk '$NF == "total" { print $1 }' "$tmp/strace"
}

# FIGURE SCENARIO: per message
measure() {
    local one two

    one=$("$1" "$2" "$n") && two=$("$1" "$2" $((2 * n))) || return 1
    awk -v a="$one" -v b="$two" -v n="$n" -v f="$3" 'BEGIN { printf f, (b - a) / n }'
}

# SCENARIO FIGURE: what stands in the file, which has a line for each scenario
wanted() { sed -n "s/.*\"$1\": {.*\"$2\": \([0-9.]*\).*/\1/p" "$expected" 2>/dev/null; }

failed=0
lines=()
printf '%-20s %14s %10s %14s %10s\n' scenario instructions expected "system calls" expected
for scenario in $("$count" --list); do
    ins=$(measure instructions "$scenario" %.1f) && sys=$(measure syscalls "$scenario" %.4f) || {
        echo "count: $scenario failed"
        exit 1
    }
    want_ins=$(wanted "$scenario" instructions)
    want_sys=$(wanted "$scenario" syscalls)
    verdict=
    if [ -z "$want_ins" ] || [ -z "$want_sys" ]; then
        verdict="NOT IN expected.json"
    elif awk -v i="$ins" -v s="$sys" -v wi="$want_ins" -v ws="$want_sys" \
        'BEGIN { exit !(i > wi * 1.05 || s > ws * 1.05 + 0.01) }'; then
        verdict="MORE THAN 5 % ABOVE"
    elif awk -v i="$ins" -v s="$sys" -v wi="$want_ins" -v ws="$want_sys" \
        'BEGIN { exit !(i < wi * 0.95 || s < ws * 0.95 - 0.01) }'; then
        echo "$scenario: better than expected: check.sh --update keeps it" >&2
    fi
    [ -z "$verdict" ] || failed=1
    printf '%-20s %14s %10s %14s %10s  %s\n' "$scenario" "$ins" "${want_ins:--}" "$sys" "${want_sys:--}" "$verdict"
    lines+=("  \"$scenario\": {\"instructions\": $ins, \"syscalls\": $sys}")
done

if $update; then
    {
        echo "{"
        (IFS=$'\n'; echo "${lines[*]}") | sed '$!s/$/,/'
        echo "}"
    } >"$expected"
    echo "count: $expected written"
    exit 0
fi
[ "$failed" -eq 0 ] || echo "count: more than before: find out why, or state it with check.sh --update"
exit "$failed"
