#!/bin/bash
# SPDX-License-Identifier: MIT
# includes.sh [ROOT]: who may include what (doc/ARCHITECTURE.md, "The house"). Prints each breach; fails if there is one.
set -u
cd "${1:-$(dirname "$0")/../..}" || exit 1

breaches=0
seen=0

# FILE LINE HEADER WHY
breach() {
    echo "$1:$2: may not include $3: $4"
    breaches=$((breaches + 1))
}

# Headers of the system: the C library's and the kernel's.
is_system() {
    case $1 in
    sys/* | net/* | netinet/* | arpa/* | linux/* | bits/*) return 0 ;;
    */*) return 1 ;;
    cJSON.h | cmocka.h | ltdl.h | uuid.h | sha2.h | sp.h | nn.h) return 1 ;;
    *) return 0 ;;
    esac
}

# AREA FILE HEADER: is <HEADER> allowed to a file of this area? Else says why not.
allowed() {
    local area=$1 file=$2 header=$3

    is_system "$header" && return 0
    case $area:$header in
    include:sp/sdk/* | core:sp/sdk/*)
        echo "the SDK stands on the core's headers, not the other way"
        return 1
        ;;
    include:sp/* | core:sp/* | core:uuid/uuid.h) return 0 ;;
    core:cJSON.h | core:cjson/cJSON.h)
        [ "$file" = core/json.c ] && return 0
        echo "JSON is confined to core/json.c"
        return 1
        ;;
    core:sha2.h)
        [ "$file" = core/policy.c ] && return 0
        echo "digests are confined to core/policy.c"
        return 1
        ;;
    core:ltdl.h)
        [ "$file" = core/loader.c ] && return 0
        echo "libltdl is confined to core/loader.c"
        return 1
        ;;
    plugin:sp/plugin.h | plugin:sp/types.h | plugin:sp/sdk/*) return 0 ;;
    plugin:*)
        echo "a plugin sees sp/plugin.h, sp/types.h, sp/sdk, its own folder and the system"
        return 1
        ;;
    tools:sp/sp.h | tools:sp/plugin.h | tools:sp/types.h | tools:sp/sdk/*) return 0 ;;
    tools:cJSON.h | tools:cjson/cJSON.h) return 0 ;;
    application:sp/sp.h) return 0 ;;
    application:*)
        echo "an application sees sp/sp.h and the system"
        return 1
        ;;
    esac
    echo "not among what $area may see"
    return 1
}

# AREA FILE
check_file() {
    local area=$1 file=$2 line form header why

    seen=$((seen + 1))
    while IFS=$'\t' read -r line form header; do
        if [ "$form" = '"' ]; then
            case $header in
            */*) breach "$file" "$line" "\"$header\"" "local headers come from the own folder" ;;
            *) [ -e "$(dirname "$file")/$header" ] ||
                breach "$file" "$line" "\"$header\"" "not in the own folder" ;;
            esac
        elif ! why=$(allowed "$area" "$file" "$header"); then
            breach "$file" "$line" "<$header>" "$why"
        fi
    done < <(sed -nE 's/^[ \t]*#[ \t]*include[ \t]*([<"])([^">]+)[">].*/\1\t\2/;T;=;p' "$file" |
        paste - - | sed 's/\t\t*/\t/g')
}

# AREA FOLDER [find's conditions...]
check_area() {
    local area=$1 folder=$2 file

    shift 2
    [ -d "$folder" ] || return 0
    while read -r file; do
        check_file "$area" "$file"
    done < <(find "$folder" -name '*.[ch]' "$@" | sort)
}

check_area include include
check_area core core
check_area plugin plugins
check_area plugin transports
check_area plugin sdk
check_area tools tools
check_area application samples -not -path 'samples/plugins/*'
check_area application samples/plugins/app
check_area plugin samples/plugins -not -path 'samples/plugins/app/*'

echo "includes: $seen files, $breaches breaches"
[ "$breaches" -eq 0 ]
