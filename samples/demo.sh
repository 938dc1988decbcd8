#!/bin/bash
# SPDX-License-Identifier: MIT
# demo.sh: shows the library at work with the `sp` command that is in PATH ("make demo" builds it and runs this): which
# plugins there are, a request over every transport, every pattern, and nngcat as the peer in both directions. Takes some
# seconds.
set -u

command -v sp >/dev/null || { echo "demo: there is no sp in PATH (make demo builds it)" >&2; exit 1; }
samples=$(dirname "$(command -v sp)")/../samples
dir=$(mktemp -d) || exit 1
passed=0
failed=0
skipped=0
child=""

# Ends what was started, by its process id, and leaves no file behind.
clean() {
    [ -z "$child" ] || kill "$child" 2>/dev/null
    rm -rf "$dir"
}
trap clean EXIT
trap 'exit 130' INT TERM

title() { printf '\n== %s\n' "$1"; }

# A TCP port of this machine at which nobody listens.
free_port() {
    local port

    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

verdict() {
    if [ "$1" = ok ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
    printf '   %s\n' "$1"
}

# URL SERVER CLIENT [REQ REP [OPTION...]]: `SERVER --REP` listens at the URL, `CLIENT --REQ`, with the options, dials it
# until it is there; each prints what the other one sent.
exchange() {
    local url=$1 server=$2 client=$3 asks=${4:-req} answers=${5:-rep} code=0

    shift $(($# < 5 ? $# : 5))
    printf '%s\n' "-- $url"
    if ! sp inspect "${url%%://*}" >/dev/null 2>&1; then
        echo "   skipped: no plugin provides this transport"
        skipped=$((skipped + 1))
        return
    fi
    timeout 8 $server "--$answers" --listen "$url" --data answer --quoted --recv-timeout 5 \
        --send-timeout 5 >"$dir/server" 2>"$dir/errors" &
    child=$!
    timeout 8 $client "--$asks" --async --dial "$url" --data question --quoted --recv-timeout 5 \
        --send-timeout 5 --interval 1 --count 1 "$@" >"$dir/client" 2>>"$dir/errors" || code=$?
    kill "$child" 2>/dev/null
    wait "$child" 2>/dev/null
    child=""
    printf '   %-8s %-7s got %s\n' "$server" "--$answers" "$(cat "$dir/server")"
    printf '   %-8s %-7s got %s\n' "$client" "--$asks" "$(cat "$dir/client")"
    if [ "$code" -eq 0 ] && [ "$(cat "$dir/server")" = '"question"' ] &&
        [ "$(cat "$dir/client")" = '"answer"' ]; then
        verdict ok
    else
        cat "$dir/errors"
        verdict "FAILED ($code)"
    fi
}

# URL SENDER RECEIVER [OPTION...]: the receiver, with the options, listens at the URL and prints what the sender sends.
one_way() {
    local url=$1 sender=$2 receiver=$3 code=0

    shift 3
    printf '%s\n' "-- $url"
    timeout 8 sp cat "--$receiver" "$@" --listen "$url" --quoted --recv-timeout 5 --count 1 >"$dir/server" \
        2>"$dir/errors" &
    child=$!
    timeout 8 sp cat "--$sender" --async --dial "$url" --data "of $sender" --send-timeout 5 --delay 1 --count 1 \
        --recv-timeout 1 2>>"$dir/errors" || code=$?
    wait "$child" || code=$?
    child=""
    printf '   %-8s %-7s got %s\n' "sp cat" "--$receiver" "$(cat "$dir/server")"
    if [ "$code" -eq 0 ] && [ "$(cat "$dir/server")" = "\"of $sender\"" ]; then
        verdict ok
    else
        cat "$dir/errors"
        verdict "FAILED ($code)"
    fi
}

title "Plugins that this library finds"
sp plugins || exit 1

title "A request and its reply over every transport"
echo "-- inproc://demo (two sockets of one process)"
if [ ! -x "$samples/inproc_demo" ]; then
    echo "   skipped: the samples are not built"
    skipped=$((skipped + 1))
elif "$samples/inproc_demo" >"$dir/inproc"; then
    printf '   rep got "%s"\n   req got "%s"\n' "$(sed -n 1p "$dir/inproc")" "$(sed -n 2p "$dir/inproc")"
    verdict ok
else
    verdict "FAILED"
fi
exchange "ipc://$dir/socket" "sp cat" "sp cat"
exchange "abstract://sp-demo-$$" "sp cat" "sp cat"
exchange "tcp://127.0.0.1:$(free_port)" "sp cat" "sp cat"

title "The other patterns"
exchange "ipc://$dir/socket" "sp cat" "sp cat" pair1 pair1
exchange "ipc://$dir/socket" "sp cat" "sp cat" surveyor respondent --delay 1
one_way "ipc://$dir/socket" push pull
one_way "ipc://$dir/socket" bus bus
one_way "tcp://127.0.0.1:$(free_port)" pub sub --subscribe of

title "The same with nngcat, an independent implementation, as the peer"
if command -v nngcat >/dev/null; then
    exchange "tcp://127.0.0.1:$(free_port)" "sp cat" "nngcat"
    exchange "tcp://127.0.0.1:$(free_port)" "nngcat" "sp cat"
    exchange "ipc://$dir/socket" "sp cat" "nngcat"
    exchange "ipc://$dir/other" "nngcat" "sp cat"
    exchange "tcp://127.0.0.1:$(free_port)" "sp cat" "nngcat" pair1 pair1
    exchange "tcp://127.0.0.1:$(free_port)" "nngcat" "sp cat" pair1 pair1
else
    echo "   skipped: there is no nngcat here (Debian: nng-utils)"
    skipped=$((skipped + 1))
fi

title "Result"
if [ "$failed" -gt 0 ]; then
    echo "demo: FAILED: $failed of $((passed + failed)) exchanges"
    exit 1
fi
echo "demo: success: all $passed exchanges went through, $skipped skipped"
