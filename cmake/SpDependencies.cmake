# SPDX-License-Identifier: MIT
# What libsp stands on. Each becomes a target sp_dep_X; the installed package names the libraries only (-lX).

function(sp_find_dependency target library header package)
    string(TOUPPER "SP_${library}" prefix)
    find_path(${prefix}_INCLUDE_DIR NAMES ${header} PATH_SUFFIXES ${library})
    find_library(${prefix}_LIBRARY NAMES ${library})
    mark_as_advanced(${prefix}_INCLUDE_DIR ${prefix}_LIBRARY)
    if(NOT ${prefix}_LIBRARY OR NOT ${prefix}_INCLUDE_DIR)
        message(FATAL_ERROR "${header} or its library is missing: install ${package} (or run cmake/install-deps.sh)")
    endif()
    add_library(${target} INTERFACE)
    if(NOT ${prefix}_INCLUDE_DIR STREQUAL "/usr/include")
        target_include_directories(${target} SYSTEM INTERFACE "${${prefix}_INCLUDE_DIR}")
    endif()
    target_link_libraries(${target} INTERFACE "${${prefix}_LIBRARY}")
endfunction()

sp_find_dependency(sp_dep_ltdl ltdl ltdl.h libltdl-dev)
sp_find_dependency(sp_dep_cjson cjson cJSON.h libcjson-dev)
sp_find_dependency(sp_dep_uuid uuid uuid/uuid.h uuid-dev)
sp_find_dependency(sp_dep_md md sha2.h libmd-dev)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
