#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh [-m] [-v] [MODEL...]: lets Spin verify the models of this folder (all, or those named without .pml).
#
# What to do stands in each model's head comment:
#   map: ID FILE FUNCTION `CODE`    the transition ID stands for this code; it must still be there. -m prints only these
#   run: proven [-D...]             must hold in every state
#   run: broken [-D...]             a planted bug: Spin must find it
# SPIN_MEMORY (MB, 3500) and SPIN_TIME (s for one run, 240) are the limits, SPIN_JOBS (2) runs go on at once; BUILD is
# where pan is compiled.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${BUILD:-$root/build/model}
memory=${SPIN_MEMORY:-3500}
limit=${SPIN_TIME:-240}
jobs=${SPIN_JOBS:-2}
only_map=0
verbose=0
failures=0
maps=0

while getopts mv option; do
    case $option in
    m) only_map=1 ;;
    v) verbose=1 ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# FILE FUNCTION CODE: the line of CODE (a part of a line) in FUNCTION of FILE, or nothing.
find_code() {
    WANT=$3 awk -v fn="$2" '
        /^[a-zA-Z].*\(/ && !/;$/ { inside = index($0, fn "(") > 0 }
        inside && index($0, ENVIRON["WANT"]) { print NR; exit }
        /^}/ { inside = 0 }' "$root/$1"
}

check_map() {
    local model=$1 id file function code line

    while IFS=$'\t' read -r id file function code; do
        line=$(find_code "$file" "$function" "$code")
        maps=$((maps + 1))
        if [ -z "$line" ]; then
            fail "$model: $id: $file, $function: no \`$code\` there any more: does the model still hold?"
        elif [ "$only_map" -eq 1 ]; then
            printf '%-9s %-5s %s:%s %s: %s\n' "$model" "$id" "$file" "$line" "$function" "$code"
        fi
    done < <(sed -nE 's/^ \* map: ([^ ]+) ([^ ]+) ([^ ]+) `(.*)`$/\1\t\2\t\3\t\4/p' "$here/$model.pml")
}

# MODEL KIND DEFINES: one verification, in a folder of its own.
verify() {
    local model=$1 kind=$2 defines=$3
    local dir="$build/$model${defines// /}" cc=(-w -DVECTORSZ=2048) pan=(-m200000 -n -E) # -E: what holds at rest is asserted by each init
    local begin end errors states mbytes verdict

    mkdir -p "$dir"
    case $kind in
    broken) cc+=(-O0 -DSAFETY) pan+=(-w18) ;; # Soon found: compiling takes longer.
    *) cc+=(-O2 -DSAFETY) ;;
    esac
    # shellcheck disable=SC2086 # a list of words
    if ! (cd "$dir" && rm -f ./*.trail && spin -a $defines "$here/$model.pml" >spin.out &&
        gcc "${cc[@]}" -DMEMLIM="$memory" -o pan pan.c); then
        sed 's/^/    /' "$dir/spin.out"
        fail "$model $defines: does not compile"
        return
    fi
    begin=$(date +%s.%N)
    (cd "$dir" && timeout "$limit" ./pan "${pan[@]}" >pan.out 2>&1)
    end=$(date +%s.%N)
    errors=$(sed -nE 's/.*errors: ([0-9]+).*/\1/p' "$dir/pan.out")
    states=$(sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p' "$dir/pan.out")
    mbytes=$(sed -nE 's/^ *([0-9.]+).*total actual memory usage.*/\1/p' "$dir/pan.out")
    verdict=ok
    if [ -z "$errors" ] || grep -qE 'max search depth too small|reached -DMEMLIM|out of memory' "$dir/pan.out"; then
        verdict="not finished"
    elif [ "$kind" = broken ]; then
        [ "$errors" -gt 0 ] || verdict="the planted bug was not seen"
    elif [ "$errors" -gt 0 ]; then
        verdict=error
    fi
    printf '%-9s %-7s %-28s %12s states %7.1f s %8s MB  %s\n' "$model" "$kind" "$defines" "$states" \
        "$(awk "BEGIN { print $end - $begin }")" "${mbytes:-?}" "$verdict"
    if [ "$verdict" = ok ] && [ "$kind" = broken ] && [ "$verbose" -eq 1 ]; then
        sed -n 's/^pan:[0-9]*: /    found: /p' "$dir/pan.out" | head -1
    elif [ "$verdict" != ok ]; then
        grep -E '^pan|error|limit|memory' "$dir/pan.out" | head -5 | sed 's/^/    /'
        [ "$kind" = broken ] || (cd "$dir" && [ -e "$model.pml.trail" ] &&
            spin -t -p -k "$model.pml.trail" $defines "$here/$model.pml" | tail -60 >trail.out && echo "    the way there: $dir/trail.out")
        fail "$model $defines: $verdict"
    fi
}

# Prints what is through, in the order of the models.
report() {
    while [ "$reported" -lt "${#running[@]}" ] && ! kill -0 "${running[$reported]}" 2>/dev/null; do
        wait "${running[$reported]}" || failures=$((failures + 1))
        cat "$build/out.$reported"
        reported=$((reported + 1))
    done
}

if [ "$only_map" -eq 0 ]; then
    for tool in spin gcc; do
        command -v $tool >/dev/null || {
            echo "run.sh: $tool is missing: run cmake/install-deps.sh model" >&2
            exit 2
        }
    done
fi
[ $# -gt 0 ] || set -- $(cd "$here" && ls ./*.pml | sed 's|^./||; s|\.pml$||')
started=$(date +%s)
running=()
reported=0
mkdir -p "$build"
for model in "$@"; do
    check_map "$model"
    [ "$only_map" -eq 1 ] && continue
    while read -r kind defines; do
        [ "$jobs" -gt "$(jobs -rp | wc -l)" ] || wait -n
        out="$build/out.${#running[@]}"
        (failures=0 && verify "$model" "$kind" "$defines" >"$out" 2>&1 && [ "$failures" -eq 0 ]) &
        running+=($!)
        report
    done < <(sed -nE 's/^ \* run: (proven|broken) ?(.*)$/\1 \2/p' "$here/$model.pml")
done
while [ "$reported" -lt "${#running[@]}" ]; do
    wait "${running[$reported]}"
    report
done
echo "models: $# models, $maps mapped transitions, $failures failures, $(($(date +%s) - started)) s"
[ "$failures" -eq 0 ]
