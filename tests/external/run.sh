#!/bin/bash
# SPDX-License-Identifier: MIT
# external/run.sh BUILD: installs a build (not a sanitized one) to a temporary prefix and there does what a third party
# does: builds a protocol, a transport and an application against the installed package, and runs them by name alone.
set -eu
build=$(cd "${1:?usage: run.sh BUILD}" && pwd)
samples=$(cd "$(dirname "$0")/../../samples/plugins" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
unset SP_PLUGIN_PATH DESTDIR

fail() {
    echo "external: $1" >&2
    exit 1
}

# Runs quietly; shows what was said only when it fails.
quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log"; fail "failed: $*"; }; }

quietly cmake --install "$build" --prefix "$prefix"
for name in tally xunix star app; do
    quietly cmake -S "$samples/$name" -B "$work/$name" -DCMAKE_BUILD_TYPE=Release \
        "-DCMAKE_PREFIX_PATH=$prefix" "-DCMAKE_INSTALL_PREFIX=$work/elsewhere" -DCMAKE_C_FLAGS="-Wall -Wextra -Werror"
    quietly cmake --build "$work/$name"
    echo "external: built $name"
done
for name in tally xunix star; do
    grep -q "\"name\":\"$name\"" "$work/$name/$name.json" || fail "no manifest of $name"
done

# Headers alone are enough, and pkg-config knows them.
pc=$(dirname "$(find "$prefix" -name sp.pc)")
export PKG_CONFIG_PATH=$pc
mkdir "$work/plain"
# shellcheck disable=SC2046 # words
cc -shared -fPIC -fvisibility=hidden $(pkg-config --cflags sp) -Wl,-z,defs -o "$work/plain/tally.so" \
    "$samples/tally/tally.c"
[ "$(pkg-config --variable=abi_major sp)" = 1 ] || fail "pkg-config: abi_major"
plugindir=$(pkg-config --variable=plugindir sp)
[ -e "$plugindir/pair.so" ] && [ -e "$plugindir/tcp.so" ] || fail "pkg-config: plugindir $plugindir has no plugins"

exchange=$work/app/exchange
cd "$work"
export SP_PLUGIN_PATH=$work/tally:$work/xunix:$work/star
for pair in "tally inproc://external" "tally tcp://127.0.0.1:0" "tally ipc://$work/socket" \
    "tally xunix://external-$$" "pair xunix://external-$$"; do
    # shellcheck disable=SC2086 # two words
    timeout 60 "$exchange" $pair || fail "exchange $pair"
done
for url in inproc://external tcp://127.0.0.1:0 "ipc://$work/hub"; do
    timeout 60 "$work/app/meet" "$url" || fail "meet $url"
done
SP_PLUGIN_PATH=$work/plain timeout 60 "$exchange" tally inproc://external || fail "a plugin without a manifest"
if SP_PLUGIN_PATH='' timeout 60 "$exchange" tally inproc://external 2>"$work/log"; then
    fail "tally was found without its directory"
fi

# The installed tool lists them with the installed plugins, and so does its machine-readable form.
sp=$prefix/bin/sp
"$sp" plugins >"$work/list" || fail "sp plugins"
"$sp" plugins --json >"$work/list.json" || fail "sp plugins --json"
for name in tally xunix star pair tcp; do
    grep -q "$name" "$work/list" || { cat "$work/list"; fail "sp plugins lists no $name"; }
    grep -q "/$name\.so" "$work/list.json" || { cat "$work/list.json"; fail "sp plugins --json lists no $name"; }
done

# A plugin that is installed is found without a search path.
quietly cmake --install "$work/tally" --prefix "$prefix"
SP_PLUGIN_PATH='' timeout 60 "$exchange" tally tcp://127.0.0.1:0 || fail "an installed plugin"
echo "external: ok"
