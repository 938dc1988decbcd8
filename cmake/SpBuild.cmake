# SPDX-License-Identifier: MIT
# The house's compiler flags. They hold for this build only: nothing here reaches who uses the installed package.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Kind of build" FORCE)
endif()

find_program(SP_CCACHE ccache)
mark_as_advanced(SP_CCACHE)
if(SP_CCACHE AND NOT CMAKE_C_COMPILER_LAUNCHER)
    set(CMAKE_C_COMPILER_LAUNCHER "${SP_CCACHE}")
endif()

add_compile_definitions(_GNU_SOURCE)
add_compile_options(-Wall -Wextra -Wpedantic -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes
                    -Wcast-qual -Wundef -fno-common)
if(SP_WERROR)
    add_compile_options(-Werror)
endif()

# Loading a sanitized plugin takes a sanitized program; address layouts that TSan cannot map are avoided where the
# system allows it (gcc 12 fails with vm.mmap_rnd_bits above 28).
set(SP_LAUNCHER "")
if(SP_SANITIZE)
    add_compile_options(-fsanitize=${SP_SANITIZE} -fno-omit-frame-pointer)
    add_link_options(-fsanitize=${SP_SANITIZE})
    if(SP_SANITIZE MATCHES "undefined")
        add_compile_options(-fno-sanitize-recover=undefined)
    endif()
    if(SP_SANITIZE MATCHES "thread")
        find_program(SP_SETARCH setarch)
        mark_as_advanced(SP_SETARCH)
        if(SP_SETARCH)
            execute_process(COMMAND "${SP_SETARCH}" -R true RESULT_VARIABLE sp_setarch_failed
                            OUTPUT_QUIET ERROR_QUIET)
            if(NOT sp_setarch_failed)
                set(SP_LAUNCHER "${SP_SETARCH}" -R)
            endif()
        endif()
    endif()
endif()

if(SP_FUZZ)
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()

if(SP_COVERAGE)
    add_compile_options(--coverage)
    add_link_options(--coverage)
endif()

# The shared library as one unit (core/CMakeLists.txt), where that is of use and the compiler can.
set(sp_lto OFF)
if(CMAKE_BUILD_TYPE MATCHES "^(Release|RelWithDebInfo|MinSizeRel)$" AND NOT SP_SANITIZE AND NOT SP_COVERAGE AND NOT SP_FUZZ)
    include(CheckIPOSupported)
    check_ipo_supported(RESULT sp_lto LANGUAGES C)
endif()
option(SP_LTO "Optimise the shared library as one unit" ${sp_lto})
