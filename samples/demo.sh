#!/bin/bash
# SPDX-License-Identifier: MIT
# demo.sh: shows the library at work with the `sp` command that is in PATH ("make demo" builds it and runs this): which
# plugins there are, every pattern between processes over every transport, and nngcat as the peer in both directions.
# Takes some seconds. Fails when an exchange fails.
set -u

command -v sp >/dev/null || { echo "demo: there is no sp in PATH (make demo builds it)" >&2; exit 1; }
samples=$(dirname "$(command -v sp)")/../samples
dir=$(mktemp -d) || exit 1
patience=20 # seconds that an exchange may take; only one that fails takes so long
passed=0
failed=0
skipped=0
server=""
client=""

# The patterns: the protocol that listens, the one that dials and begins, whether it gets an answer, options of the one that
# listens. What may be lost before the other end is ready is sent again, each second.
patterns="
rep req answered
pair0 pair0 answered
pair1 pair1 answered
respondent surveyor answered
pull push one-way
sub pub one-way --subscribe que
bus bus one-way
"

# Ends what was started, by its process id.
stop() {
    local pid

    for pid in $client $server; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    client=""
    server=""
}

clean() {
    stop
    rm -rf "$dir"
}
trap clean EXIT
trap 'exit 130' INT TERM

title() { printf '\n== %s\n' "$1"; }

skip() {
    printf '   skipped: %s\n' "$1"
    skipped=$((skipped + 1))
}

# A TCP port of this machine at which nobody listens.
free_port() {
    local port

    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# What was received, of the end named; NAME EXPECTED GOT.
verdict() {
    if [ "$2" = "$3" ]; then
        printf '   %-20s got %s\n' "$1" "$3"
        return 0
    fi
    printf '   %-20s got %s, not %s\n' "$1" "${3:-nothing}" "$2"
    sed 's/^/   /' "$dir/errors"
    return 1
}

# URL SERVER CLIENT LISTENS DIALS HOW [OPTION...]: `SERVER --LISTENS`, with the options, listens at the URL, `CLIENT --DIALS`
# dials it; the first line that each prints has to be what the other one sent.
exchange() {
    local url=$1 program=$2 asker=$3 listens=$4 dials=$5 how=$6 line question="" answer="" ok=1 data=() options=()

    shift 6
    [ "$how" = one-way ] || data=(--data answer) options=(--quoted)
    # shellcheck disable=SC2086 # the program is a word or two
    exec 3< <(exec timeout "$patience" $program -v "--$listens" --listen "$url" --quoted "${data[@]}" "$@" 2>"$dir/errors")
    server=$!
    # The sp command says where it listens as soon as it does; of another program that is not known.
    if [ "$program" = "sp cat" ]; then
        IFS= read -r -t "$patience" line <&3 && url=${line#Listening at: }
    else
        options+=(--async)
    fi
    # shellcheck disable=SC2086
    exec 4< <(exec timeout "$patience" $asker "--$dials" --dial "$url" --data question --interval 1 "${options[@]}" \
        2>>"$dir/errors")
    client=$!
    while IFS= read -r -t "$patience" question <&3 && [ "${question:0:1}" != '"' ]; do :; done
    [ "$how" = one-way ] || IFS= read -r -t "$patience" answer <&4
    stop
    exec 3<&- 4<&-
    printf '%s\n' "-- $listens and $dials: $url"
    verdict "$program --$listens" '"question"' "$question" || ok=0
    [ "$how" = one-way ] || verdict "$asker --$dials" '"answer"' "$answer" || ok=0
    [ "$ok" -eq 1 ] && passed=$((passed + 1)) || failed=$((failed + 1))
}

# URL: every pattern over it, between two processes.
every_pattern() {
    local url=$1 pattern

    while read -r pattern; do
        # shellcheck disable=SC2086 # a pattern is several words
        [ -z "$pattern" ] || exchange "$url" "sp cat" "sp cat" $pattern
    done <<<"$patterns"
}

# SCHEME: whether it can be used here; says why not.
available() {
    if ! sp inspect "$1" >/dev/null 2>&1; then
        skip "no plugin provides this transport"
        return 1
    fi
    # Bit 13 of the capabilities: CAP_NET_RAW.
    if [ "$1" = rawip ] && ! ((0x$(awk '/^CapEff/ { print $2 }' /proc/self/status) >> 13 & 1)); then
        skip "raw sockets need the capability CAP_NET_RAW, which root has"
        return 1
    fi
}

title "Plugins that this library finds"
sp plugins || exit 1

title "A request and its reply between two sockets of one process: inproc://demo"
if [ ! -x "$samples/inproc_demo" ]; then
    skip "the samples are not built"
else
    "$samples/inproc_demo" >"$dir/inproc" 2>"$dir/errors"
    if verdict rep question "$(sed -n 1p "$dir/inproc")" && verdict req answer "$(sed -n 2p "$dir/inproc")"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
fi

for url in "ipc://$dir/socket" "abstract://sp-demo-$$" "unixgram://$dir/datagrams" \
    "unixgram+abstract://sp-demo-$$" "tcp://127.0.0.1:0" "udp://127.0.0.1:0" \
    "rawip://127.0.0.1:$((RANDOM + 1))"; do
    title "Every pattern between processes over ${url%%:*}"
    available "${url%%:*}" && every_pattern "$url"
done

title "With nngcat, an independent implementation, as the peer"
if command -v nngcat >/dev/null; then
    for pattern in "rep req" "pair1 pair1"; do
        # shellcheck disable=SC2086
        for url in "tcp://127.0.0.1:$(free_port)" "ipc://$dir/other"; do
            exchange "${url/:[0-9]*/:0}" "sp cat" nngcat $pattern answered
            exchange "$url" nngcat "sp cat" $pattern answered
        done
    done
else
    skip "there is no nngcat here (Debian: nng-utils)"
fi

title "Result"
if [ "$failed" -gt 0 ]; then
    echo "demo: FAILED: $failed of $((passed + failed)) exchanges"
    exit 1
fi
echo "demo: success: all $passed exchanges went through, $skipped skipped"
