#!/bin/bash
# SPDX-License-Identifier: MIT
# aarch64-sysroot.sh: unpacks what an aarch64 build links against into build/sysroot-aarch64; does nothing where it is
# complete. Needs no root: apt looks for arm64 packages at the machine's own sources, but with a state of its own, and
# nothing is installed, so the machine's architectures stay as they are.
set -euo pipefail
cd "$(dirname "$0")/.."
sysroot=build/sysroot-aarch64

# Named one by one: by their dependencies libltdl-dev would bring perl, and libc6-dev Kerberos.
packages="libc6 libc6-dev linux-libc-dev libgcc-s1 libltdl7 libltdl-dev libcjson1 libcjson-dev libuuid1 uuid-dev libmd0 libmd-dev libcmocka0 libcmocka-dev"

[ "$(cat $sysroot/complete 2>/dev/null)" != "$packages" ] || exit 0
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || {
    echo "aarch64-sysroot.sh: no Debian here; put these packages for arm64 into $sysroot yourself: $packages" >&2
    exit 1
}

echo "aarch64-sysroot.sh: making $sysroot"
rm -rf $sysroot
mkdir -p $sysroot $sysroot.apt/{state/lists/partial,cache/archives/partial,debs}
apt=$PWD/$sysroot.apt
trap 'rm -rf "$apt"' EXIT
: >"$apt/status"
private=(-q -o "Dir::State=$apt/state" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache"
    -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Acquire::Retries=3 -o Acquire::Languages=none
    -o APT::Sandbox::User=root) # apt's own user may not reach this folder
# A source that has nothing for arm64 is no failure; a package that is not found is one.
apt-get "${private[@]}" update </dev/null || true
# shellcheck disable=SC2086 # a list of words
(cd "$apt/debs" && apt-get "${private[@]}" download $packages </dev/null)
for deb in "$apt"/debs/*.deb; do
    dpkg-deb -x "$deb" $sysroot
done

# What points to an absolute path means one in here.
find $sysroot -type l -lname '/*' -printf '%p %l\n' | while read -r link target; do
    ln -sfn "$(realpath -ms --relative-to="$(dirname "$link")" "$sysroot$target")" "$link"
done
echo "$packages" >$sysroot/complete
