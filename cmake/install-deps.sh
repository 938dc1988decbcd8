#!/bin/sh
# SPDX-License-Identifier: MIT
# install-deps.sh [build] [demo] [test] [ci] [bench] [count] [model] [aarch64]: installs the Debian packages that are
# missing. Nothing to do: does nothing.
set -eu

build="gcc libc6-dev make cmake ninja-build pkg-config libltdl-dev libcjson-dev uuid-dev libmd-dev libcmocka-dev"
test="libnng-dev libnanomsg-dev nng-utils nanomsg-utils libuv1-dev iproute2"
demo="nng-utils"
count="valgrind strace"
bench="libnng-dev libnanomsg-dev libzmq3-dev $count"
ci="g++ clang clang-format clang-tidy git binutils"
model="spin gcc libc6-dev"
aarch64="gcc-aarch64-linux-gnu qemu-user" # what to link against: aarch64-sysroot.sh

[ $# -gt 0 ] || set -- build
wanted=""
for group in "$@"; do
    case $group in
    build) wanted="$wanted $build" ;;
    demo) wanted="$wanted $demo" ;;
    test) wanted="$wanted $test" ;;
    ci) wanted="$wanted $ci" ;;
    bench) wanted="$wanted $bench" ;;
    count) wanted="$wanted $count" ;;
    model) wanted="$wanted $model" ;;
    aarch64) wanted="$wanted $aarch64" ;;
    *)
        echo "usage: $0 [build] [demo] [test] [ci] [bench] [count] [model] [aarch64]" >&2
        exit 2
        ;;
    esac
done

if ! command -v dpkg >/dev/null || ! command -v apt-get >/dev/null; then
    echo "install-deps.sh: no Debian here; needed are (by their Debian names):$wanted" >&2
    exit 0
fi

missing=""
for package in $wanted; do
    case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true) in
    *" installed") ;;
    *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

sudo=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "install-deps.sh: missing:$missing; run as root: apt-get install$missing" >&2
        exit 1
    fi
    sudo=sudo
fi

echo "install-deps.sh: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # lists of words
install() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 --no-install-recommends $missing </dev/null; }
# The package lists may be absent (a fresh container) or too old.
$sudo apt-get update -q </dev/null || true
install
