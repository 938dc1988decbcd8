#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh [-a] [MUTANT...]: plants each bug of this folder (*.patch; or those named) into a copy of the tree and shows
# which detector finds it. Fails when a detector fails without a bug, when a patch does not apply, or when more
# than one bug in ten is missed. -a: all detectors, not only until the first that finds it.
#
# Detectors, in this order: threads (the simulation with threads), races (the same under ThreadSanitizer), stress
# (stress.c under ThreadSanitizer), unit (tests of the parts concerned, under ThreadSanitizer), asan (stress.c under
# AddressSanitizer), sim (all seeds of the simulation with one thread, under AddressSanitizer).
# BUILD is where the copy is; SEEDS (1000) of each scenario of the simulation with threads; ROUNDS (25) how long stress
# runs.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
build=${BUILD:-$root/build/mutants}
rounds=${ROUNDS:-25}
seeds=${SEEDS:-1000}
detectors="threads races stress unit asan sim"
jobs=${JOBS:-1}
tree=$build/tree
units="actor object timer socket pair reqrep inproc ipc"
sims="reqrep pair actors trace"
died=0
what=""
all=0
failures=0
found=0
total=0

if [ "${1:-}" = -a ]; then
    all=1
    shift
fi

# NAME SANITIZER: configures a build of the copy, once.
configure() {
    [ -e "$build/$1/build.ninja" ] ||
        cmake -S "$tree" -B "$build/$1" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG="-O1 -g" \
            -DSP_SANITIZE="$2" -DSP_TESTS=ON -DSP_TRACE=ON >"$build/$1.configure.log" 2>&1
}

# NAME SANITIZER: builds the simulation with threads, which has all that it needs linked in.
compile_threads() {
    configure "$1" "$2" && cmake --build "$build/$1" -j "$jobs" --target sim_threads_test >"$build/$1.log" 2>&1
}

# NAME SANITIZER TARGET...: builds what is wanted, and stress.
compile() {
    local name=$1 sanitizer=$2

    shift 2
    configure "$name" "$sanitizer" &&
        cmake --build "$build/$name" -j "$jobs" --target "$@" sp_shared $plugins >"$build/$name.log" 2>&1 &&
        gcc -std=c11 -D_GNU_SOURCE -O1 -g -fsanitize="$sanitizer" -I"$tree/include" \
            "$tree/tests/sim/mutants/stress.c" -o "$build/$name/stress" -L"$build/$name/lib" -lsp -lpthread \
            -Wl,-rpath,"$build/$name/lib" >>"$build/$name.log" 2>&1
}

# NAME LIMIT PROGRAM [ARG...]: in the surroundings that tests have.
detect() {
    local name=$1 limit=$2

    shift 2
    what=$(basename "$1")
    { # The shell says when a program was killed.
        SP_PLUGIN_PATH=$build/$name/plugins:$build/$name/transports TSAN_OPTIONS=halt_on_error=1 \
            ASAN_OPTIONS=detect_leaks=0 timeout -s KILL "$limit" $launcher "$@" >"$build/detect.log" 2>&1
        died=$?
    } 2>/dev/null
    return $died
}

# DETECTOR: runs it; true when all is well. What it says is in detect.log; 2: does not build.
run_detector() {
    local unit

    case $1 in
    threads)
        compile_threads plain "" || return 2
        detect plain 600 "$build/plain/tests/sim/threads_test" 1 "$seeds" || return 1 # not how many tests failed
        ;;
    races)
        compile_threads tsan thread || return 2
        detect tsan 300 "$build/tsan/tests/sim/threads_test" 1 $((seeds / 40)) || return 1
        ;;
    stress)
        compile tsan thread || return 2
        detect tsan 150 "$build/tsan/stress" all "$rounds"
        ;;
    unit)
        # shellcheck disable=SC2086 # a list of words
        compile tsan thread $(printf 'unit_%s_test ' $units) || return 2
        for unit in $units; do
            detect tsan 40 "$build/tsan/tests/unit/${unit}_test" || return 1
        done
        ;;
    asan)
        compile asan address,undefined || return 2
        detect asan 150 "$build/asan/stress" all "$rounds"
        ;;
    sim)
        # shellcheck disable=SC2086 # a list of words
        compile asan address,undefined $(printf 'sim_%s_test ' $sims) || return 2
        for unit in $sims; do
            detect asan 150 "$build/asan/tests/sim/${unit}_test" || return 1
        done
        ;;
    esac
}

# What the detector said, in a few words.
reason() {
    case $died in
    124 | 137 | 142) # KILL by timeout, ALRM
        echo "$what hangs"
        return
        ;;
    esac
    grep -oE 'WARNING: ThreadSanitizer: [^(]*|^simulation: .*|ERROR: AddressSanitizer: [a-z-]*|runtime error: .*|^stress .*|^hangs in .*|\[  FAILED  \] [a-z_0-9]+|core/[a-z_]+\.c:[0-9]+: .*|^(Segmentation fault|Aborted|Bus error)' \
        "$build/detect.log" | head -1 | grep . || echo "$what ends with $died"
}

for tool in cmake ninja gcc patch; do
    command -v $tool >/dev/null || {
        echo "run.sh: $tool is missing" >&2
        exit 2
    }
done
launcher=""
setarch -R true 2>/dev/null && launcher="setarch -R"
rm -rf "$tree"
mkdir -p "$tree"
(cd "$root" && git ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T - 2>/dev/null) |
    tar -x -m -C "$tree" # -m: what an interrupted run built is older
plugins=$(cd "$tree" && ls -d plugins/*/ transports/*/ | xargs -n 1 basename | tr '\n' ' ')
started=$(date +%s)
printf '%-30s' "(no bug)"
for detector in $detectors; do
    begin=$(date +%s)
    if run_detector $detector; then
        printf ' %s: well (%d s)' $detector $(($(date +%s) - begin))
    else
        printf '\nFAILED: %s without a bug: %s (%s)\n' $detector "$(reason)" "$build"
        exit 1
    fi
done
printf '\n'

[ $# -gt 0 ] || set -- $(cd "$here" && ls ./*.patch | sed 's|^\./||; s|\.patch$||')
for mutant in "$@"; do
    total=$((total + 1))
    printf '%-30s' "$mutant"
    if ! patch -F1 -d "$tree" -p1 --no-backup-if-mismatch <"$here/$mutant.patch" >"$build/patch.log" 2>&1; then
        printf ' FAILED: the patch does not apply any more\n'
        failures=$((failures + 1))
        patch -d "$tree" -p1 -R -f <"$here/$mutant.patch" >/dev/null 2>&1
        continue
    fi
    seen=0
    for detector in $detectors; do
        begin=$(date +%s)
        run_detector $detector
        case $? in
        0) printf ' %s: -' $detector ;;
        2)
            printf ' FAILED: does not build'
            failures=$((failures + 1))
            break
            ;;
        *)
            printf ' %s: %s (%d s)' $detector "$(reason)" $(($(date +%s) - begin))
            seen=1
            [ $all -eq 1 ] || break
            ;;
        esac
    done
    found=$((found + seen))
    [ $seen -eq 1 ] || printf ' NOT FOUND'
    printf '\n'
    patch -d "$tree" -p1 -R --no-backup-if-mismatch <"$here/$mutant.patch" >/dev/null
done
rm -f /tmp/sp-stress-*
echo "mutants: $found of $total found, $failures failures, $(($(date +%s) - started)) s"
[ "$failures" -eq 0 ] && [ $((10 * found)) -ge $((9 * total)) ]
