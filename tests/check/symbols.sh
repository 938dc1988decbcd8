#!/bin/bash
# SPDX-License-Identifier: MIT
# symbols.sh BUILD: what libsp and the plugins of a build (not a sanitized one) show and need.
#   libsp.so defines sp_* and nothing else, nothing of sp__*; a plugin defines its entry alone and needs nothing of sp_*.
set -u
build=${1:?usage: symbols.sh BUILD}
bad=0
plugins=0

complain() {
    echo "symbols: $1"
    bad=$((bad + 1))
}

# The versions of a version script are absolute symbols (A).
defined() { nm -D --defined-only --no-demangle "$1" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }'; }
undefined() { nm -D --undefined-only "$1" | awk '{ sub(/@.*/, "", $2); print $2 }'; }

library=$build/lib/libsp.so
[ -e "$library" ] || { echo "symbols: no $library" >&2; exit 1; }
defined "$library" | grep -q '^sp_' || complain "$library defines no sp_*"
while read -r symbol; do
    complain "$library shows $symbol"
done < <(defined "$library" | grep -Ev '^sp_[a-z0-9]')

for plugin in "$build"/plugins/*.so "$build"/transports/*.so; do
    [ -e "$plugin" ] || continue
    plugins=$((plugins + 1))
    [ "$(defined "$plugin")" = sp_plugin_entry_v1 ] ||
        complain "$plugin shows: $(defined "$plugin" | tr '\n' ' ')"
    while read -r symbol; do
        complain "$plugin needs $symbol"
    done < <(undefined "$plugin" | grep '^sp_')
    ldd "$plugin" | grep -q 'libsp\.so' && complain "$plugin links against libsp"
done
[ "$plugins" -gt 0 ] || complain "no plugins in $build"

echo "symbols: libsp.so with $(defined "$library" | wc -l) symbols, $plugins plugins, $bad complaints"
[ "$bad" -eq 0 ]
